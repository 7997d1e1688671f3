//! From names that were asked for to the targets that are built: inheritance, overrides, links.
//!
//! Sources: buildx's "Inheritance in Bake", "Overriding configurations", `docker buildx bake` (--set).

use std::collections::{BTreeMap, BTreeSet};

use crossdock_dockerfile::pattern::Pattern;
use serde_json::{Map, Value, json};

use crate::definitions::Defined;
use crate::error::{BakeError, Result};
use crate::target::Target;
use crate::value::truth;

/// What is built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Groups that lead to targets, by name; `default` has the names that were asked for.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Targets by name, those first that others need.
    pub targets: Vec<(String, Target)>,
    /// Targets that nobody asked for, but others need.
    pub linked: BTreeSet<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Plan {
    /// As `docker buildx bake --print` shows it.
    pub fn printed(&self) -> Value {
        let groups: Map<String, Value> =
            self.groups.iter().map(|(name, targets)| (name.clone(), json!({"targets": targets}))).collect();
        let mut targets: Vec<&(String, Target)> = self.targets.iter().collect();
        targets.sort_by(|a, b| a.0.cmp(&b.0));
        let targets: Map<String, Value> =
            targets.into_iter().map(|(name, target)| (name.clone(), target.printed())).collect();
        json!({"group": groups, "target": targets})
    }
}

/// One `--set PATTERN.KEY[.NAME][+]=VALUE`.
#[derive(Clone, Debug)]
pub struct Override {
    /// The targets: a name, or a pattern of Go's `path.Match`.
    pattern: String,
    targets: Pattern,
    key: String,
    name: String,
    value: String,
    adds: bool,
}

impl Override {
    /// Reads an override; `environment` gives values of `args.NAME` without a value.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Override> {
        let wrong = |why: &str| BakeError::Request(format!("--set {text}: {why}"));
        let (path, value) = match text.split_once('=') {
            Some((path, value)) => (path, Some(value.to_string())),
            None => (text, None),
        };
        let adds = path.ends_with('+');
        let mut parts = path.trim_end_matches('+').splitn(3, '.');
        let (Some(pattern), Some(key)) = (parts.next(), parts.next()) else {
            return Err(wrong("the form is TARGET.KEY=VALUE"));
        };
        let name = parts.next().unwrap_or_default().to_string();
        let value = match value {
            Some(value) => value,
            None if key == "args" && !name.is_empty() => environment(&name)
                .ok_or_else(|| wrong(&format!("it has no value, and there is no variable {name}")))?,
            None => return Err(wrong("the form is TARGET.KEY=VALUE")),
        };
        let targets = Pattern::new(pattern).map_err(|error| wrong(&error.to_string()))?;
        Ok(Override { pattern: pattern.to_string(), targets, key: key.to_string(), name, value, adds })
    }

    fn said(&self) -> String {
        let name = if self.name.is_empty() { String::new() } else { format!(".{}", self.name) };
        format!("--set {}.{}{name}", self.pattern, self.key)
    }
}

/// Makes the plan for the names of targets and groups that were asked for.
///
/// # Errors
///
/// A name that is not defined, a circle of links, an override that fits nothing.
pub fn plan(
    defined: &BTreeMap<String, Defined>,
    groups: &BTreeMap<String, Vec<String>>,
    wanted: &[String],
    overrides: &[Override],
) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut asked = Vec::new();
    for name in wanted {
        follow(defined, groups, name, &mut Vec::new(), &mut asked, &mut plan.groups)?;
    }
    let is_default = wanted.len() == 1 && wanted[0] == "default" && groups.contains_key("default");
    if !is_default {
        let mut names = wanted.to_vec();
        // If a group leads to the group "default", both have one entry.
        names.extend(plan.groups.remove("default").unwrap_or_default());
        plan.groups.insert("default".to_string(), names);
    }
    for names in plan.groups.values_mut() {
        names.sort();
        names.dedup();
    }
    // Every target that matches is checked, so that a wrong key is told.
    for given in overrides {
        if !defined.keys().any(|name| given.targets.matches(name)) {
            return Err(BakeError::Request(format!("{}: no target is called so", given.said())));
        }
    }
    let mut links = Links { defined, overrides, done: BTreeMap::new(), order: Vec::new(), path: Vec::new() };
    for name in &asked {
        links.add(name)?;
    }
    for name in links.order {
        let mut target = links.done.remove(&name).expect("each name of the order is done");
        if !asked.contains(&name) {
            // Its result stays in the store, for those that need it.
            target.put("output", json!([{"type": "cacheonly"}]));
            plan.linked.insert(name.clone());
        }
        plan.targets.push((name, target));
    }
    Ok(plan)
}

/// Adds the targets that a name stands for.
fn follow(
    defined: &BTreeMap<String, Defined>,
    groups: &BTreeMap<String, Vec<String>>,
    name: &str,
    path: &mut Vec<String>,
    asked: &mut Vec<String>,
    met: &mut BTreeMap<String, Vec<String>>,
) -> Result<()> {
    if path.iter().any(|above| above == name) {
        return Ok(());
    }
    match (groups.get(name), defined.contains_key(name)) {
        (Some(names), _) => {
            met.insert(name.to_string(), names.clone());
            path.push(name.to_string());
            for inner in names {
                follow(defined, groups, inner, path, asked, met)?;
            }
            path.pop();
            Ok(())
        }
        (None, true) => {
            if !asked.iter().any(|known| known == name) {
                asked.push(name.to_string());
            }
            Ok(())
        }
        (None, false) => {
            let known: Vec<&str> = groups.keys().chain(defined.keys()).map(String::as_str).collect();
            Err(BakeError::Request(format!(
                "no target or group \"{name}\" is defined; there are {}",
                if known.is_empty() { "none".to_string() } else { known.join(", ") }
            )))
        }
    }
}

/// Targets with what they inherit and what they need.
struct Links<'a> {
    defined: &'a BTreeMap<String, Defined>,
    overrides: &'a [Override],
    done: BTreeMap<String, Target>,
    order: Vec<String>,
    path: Vec<String>,
}

impl Links<'_> {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.done.contains_key(name) {
            return Ok(());
        }
        if self.path.iter().any(|above| above == name) {
            return Err(BakeError::Request(format!(
                "the target {name} needs itself: {}",
                self.path.join(", ")
            )));
        }
        let mut target = inherited(self.defined, self.overrides, name, &mut Vec::new())?;
        if target.text("network") == Some("host") {
            target.add_text("entitlements", "network.host");
        }
        self.path.push(name.to_string());
        let contexts: Vec<String> =
            target.map("contexts").into_iter().map(|(_, to)| to.to_string()).collect();
        for linked in contexts.iter().filter_map(|to| to.strip_prefix("target:")) {
            if !self.defined.contains_key(linked) {
                return Err(BakeError::Request(format!(
                    "the target {name} needs target:{linked}, which is not defined"
                )));
            }
            self.add(linked)?;
        }
        self.path.pop();
        self.done.insert(name.to_string(), target);
        self.order.push(name.to_string());
        Ok(())
    }
}

/// A target laid over those that it inherits from, each with its overrides.
fn inherited(
    defined: &BTreeMap<String, Defined>,
    overrides: &[Override],
    name: &str,
    path: &mut Vec<String>,
) -> Result<Target> {
    let Some(own) = defined.get(name) else {
        return Err(BakeError::Request(format!(
            "the target {} inherits from {name}, which is not defined",
            path.last().map_or("", String::as_str)
        )));
    };
    let mut target = Target::default();
    if path.iter().any(|above| above == name) {
        return Ok(target);
    }
    path.push(name.to_string());
    for parent in &own.inherits {
        target.merge(&inherited(defined, overrides, parent, path)?);
    }
    path.pop();
    target.merge(&own.target);
    apply(&mut target, name, overrides)?;
    Ok(target)
}

/// Applies the overrides for a target. Of a list, the first override of a key replaces what is defined.
fn apply(target: &mut Target, name: &str, overrides: &[Override]) -> Result<()> {
    let mut replaced: BTreeSet<&str> = BTreeSet::new();
    for given in overrides.iter().filter(|given| given.targets.matches(name)) {
        let wrong = |why: String| BakeError::Request(format!("{}: {why}", given.said()));
        let one = |target: &mut Target, key: &str, value: Value| {
            let mut new = Target::default();
            new.set(key, &value).map_err(wrong)?;
            target.merge(&new);
            Ok(())
        };
        let key = match given.key.as_str() {
            "platform" => "platforms",
            "secrets" => "secret",
            other => other,
        };
        match key {
            "args" | "labels" | "contexts" | "extra-hosts" => {
                if given.name.is_empty() {
                    return Err(wrong(format!("the form is TARGET.{key}.NAME=VALUE")));
                }
                one(target, key, json!({ given.name.clone(): given.value }))?;
            }
            "no-cache" | "pull" => {
                let value = truth(&Value::from(given.value.as_str())).map_err(wrong)?;
                one(target, key, Value::Bool(value))?;
            }
            "push" | "load" => {
                let value = truth(&Value::from(given.value.as_str())).map_err(wrong)?;
                match (value, key) {
                    (true, "push") => push(target),
                    (true, _) => load(target),
                    (false, _) => {}
                }
            }
            "tags" | "platforms" | "cache-from" | "cache-to" | "secret" | "ssh" | "output" | "attest"
            | "entitlements" | "no-cache-filter" | "ulimits" | "annotations" => {
                let mut new = Target::default();
                new.set(key, &json!([given.value])).map_err(wrong)?;
                let mut items = match target.get(key).cloned() {
                    Some(Value::Array(items)) if given.adds || replaced.contains(key) => items,
                    _ => Vec::new(),
                };
                replaced.insert(key);
                if let Some(Value::Array(added)) = new.get(key) {
                    items.extend(added.iter().cloned());
                }
                target.put(key, Value::Array(items));
            }
            _ => one(target, key, Value::from(given.value.as_str()))?,
        }
    }
    Ok(())
}

/// `--no-cache` and `--pull`: the attribute is true.
pub fn switch_on(target: &mut Target, attribute: &str) {
    target.put(attribute, Value::Bool(true));
}

/// `--call`: what is done instead of building, as buildx prints it.
pub fn call(target: &mut Target, method: &str) {
    match method.split(',').next().unwrap_or_default() {
        "build" => {}
        "check" => target.put("call", Value::from("lint")),
        other => target.put("call", Value::from(other)),
    }
}

/// `--provenance` and `--sbom`: an attestation takes the place of the target's own of that type. `value` is a
/// truth value or parameters of the attestation.
///
/// # Errors
///
/// The value is no list of fields.
pub fn attest(target: &mut Target, kind: &str, value: &str) -> Result<()> {
    let fields = match truth(&Value::from(value)) {
        Ok(true) => format!("type={kind}"),
        Ok(false) => format!("type={kind},disabled=true"),
        Err(_) => format!("type={kind},{value}"),
    };
    let mut new = Target::default();
    new.set("attest", &json!([fields]))
        .map_err(|why| BakeError::Request(format!("--{kind} {value}: {why}")))?;
    let mut all = target.get("attest").and_then(Value::as_array).cloned().unwrap_or_default();
    for entry in new.get("attest").and_then(Value::as_array).into_iter().flatten() {
        match all.iter_mut().find(|known| known["type"] == entry["type"]) {
            Some(known) => *known = entry.clone(),
            None => all.push(entry.clone()),
        }
    }
    target.put("attest", Value::Array(all));
    Ok(())
}

/// `--push`: an image is pushed, unless the target has only other outputs.
pub fn push(target: &mut Target) {
    let mut items = outputs(target);
    if items.is_empty() {
        items.push(json!({"type": "image"}));
    }
    for entry in items.iter_mut().filter(|entry| entry["type"] == "image" || entry["type"] == "registry") {
        entry["push"] = Value::from("true");
    }
    target.put("output", Value::Array(items));
}

/// `--load`: docker gets the image, too, unless the target's result is no image.
pub fn load(target: &mut Target) {
    let mut items = outputs(target);
    let is_image =
        |entry: &Value| matches!(entry["type"].as_str(), Some("docker" | "image" | "registry" | "oci"));
    if items.iter().all(is_image) && !items.iter().any(|entry| entry["type"] == "docker") {
        items.push(json!({"type": "docker"}));
        target.put("output", Value::Array(items));
    }
}

fn outputs(target: &Target) -> Vec<Value> {
    target.get("output").and_then(Value::as_array).cloned().unwrap_or_default()
}
