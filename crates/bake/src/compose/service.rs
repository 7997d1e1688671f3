//! A service of Compose as a target.

use crossdock_dockerfile::values::bytes;
use serde_json::{Map, Value, json};

use super::yaml::scalar_text;
use crate::target::Target;

/// What `build` may have. What begins with `x-` may stand there, too.
const KEYS: &[&str] = &[
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "args",
    "ssh",
    "labels",
    "cache_from",
    "cache_to",
    "no_cache",
    "no_cache_filter",
    "additional_contexts",
    "network",
    "provenance",
    "sbom",
    "pull",
    "target",
    "shm_size",
    "extra_hosts",
    "isolation",
    "privileged",
    "secrets",
    "tags",
    "ulimits",
    "platforms",
];

/// What `x-bake` may have; the rest is not looked at, as in buildx.
const MORE: &[&str] = &[
    "tags",
    "cache-from",
    "cache-to",
    "secret",
    "ssh",
    "platforms",
    "output",
    "pull",
    "no-cache",
    "no-cache-filter",
    "contexts",
    "attest",
];

/// The name of a service as that of a target, in which no dot may be.
pub fn target_name(service: &str) -> String {
    service.replace('.', "_")
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The target; `None` if the service is not built.
///
/// # Errors
///
/// What is wrong, with the name of the attribute.
pub fn target(service: &Value, secrets: &Value, variable: Variable<'_>) -> Result<Option<Target>, String> {
    let image = service.get("image").filter(|image| !image.is_null());
    let build = match (service.get("build"), image) {
        (Some(Value::Object(build)), _) => build,
        (None | Some(Value::Null), Some(_)) => return Ok(None),
        _ => return Err("it has neither an image nor a build".to_string()),
    };
    if let Some(unknown) = build.keys().find(|key| !KEYS.contains(&key.as_str()) && !key.starts_with("x-")) {
        return Err(format!("build: there is no attribute \"{unknown}\""));
    }
    let mut target = Target::default();
    let mut set = |name: &str, value: Value| {
        let key = name.replace('-', "_");
        target.set(name, &value).map_err(|error| format!("build.{key}: {error}"))
    };
    let of = |name: &str| build.get(name).filter(|value| !value.is_null());
    if of("dockerfile").is_some() && of("dockerfile_inline").is_some() {
        return Err("build: dockerfile and dockerfile_inline exclude each other".to_string());
    }
    set("context", context(of("context"), variable)?)?;
    for (key, name) in [
        ("dockerfile", "dockerfile"),
        ("dockerfile_inline", "dockerfile-inline"),
        ("target", "target"),
        ("network", "network"),
        ("cache_from", "cache-from"),
        ("cache_to", "cache-to"),
        ("platforms", "platforms"),
        ("no_cache_filter", "no-cache-filter"),
        ("pull", "pull"),
        ("no_cache", "no-cache"),
    ] {
        if let Some(value) = of(key) {
            set(name, texts(value))?;
        }
    }
    set("args", args(of("args"), service.get("environment"), variable)?)?;
    set("labels", labels(of("labels"))?)?;
    set("contexts", contexts(of("additional_contexts"))?)?;
    set("extra-hosts", hosts(of("extra_hosts"))?)?;
    set("ulimits", ulimits(of("ulimits"))?)?;
    set("secret", secret(of("secrets"), secrets)?)?;
    set("ssh", agents(of("ssh"))?)?;
    set("attest", attests([("sbom", of("sbom")), ("provenance", of("provenance"))])?)?;
    if let Some(value) = of("shm_size") {
        let text = scalar_text(value).unwrap_or_default();
        let size = bytes(&text).ok_or_else(|| format!("build.shm_size: \"{text}\" is no size"))?;
        set("shm-size", Value::from(size_text(size)))?;
    }
    if let Some(tags) = of("tags") {
        set("tags", texts(tags))?;
    }
    more(&mut target, build.get("x-bake"))?;
    if target.texts("tags").is_empty()
        && let Some(image) = image.and_then(scalar_text)
    {
        target.set("tags", &json!([image]))?;
    }
    Ok(Some(target))
}

/// Scalars as the texts that Go prints.
fn texts(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(texts).collect(),
        Value::Bool(_) => value.clone(),
        other => scalar_text(other).map_or_else(|| other.clone(), Value::from),
    }
}

/// `x-bake`: lists come behind those of `build`, and of what is named the later one counts.
fn more(target: &mut Target, given: Option<&Value>) -> Result<(), String> {
    let given = match given {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err("build.x-bake: it is a map".to_string()),
    };
    for (name, value) in given.iter().filter(|(name, _)| MORE.contains(&name.as_str())) {
        let wrong = |error: String| format!("build.x-bake.{name}: {error}");
        // A single text stands for a list of it.
        let is_list = !matches!(name.as_str(), "pull" | "no-cache" | "contexts");
        let value = match texts(value) {
            Value::String(text) if is_list => json!([text]),
            Value::String(text) => Value::from(text),
            Value::Object(map) if name == "contexts" => Value::Object(map),
            other => other,
        };
        let mut new = Target::default();
        new.set(name, &value).map_err(wrong)?;
        let known = target.get(name).and_then(Value::as_array).cloned();
        match (known, new.get(name)) {
            (Some(mut items), Some(Value::Array(added))) => {
                for item in added {
                    let same = |known: &Value| known == item || (name == "ssh" && known["id"] == item["id"]);
                    if !items.iter().any(same) {
                        items.push(item.clone());
                    }
                }
                target.put(name, Value::Array(items));
            }
            _ => target.merge(&new),
        }
    }
    Ok(())
}

fn context(given: Option<&Value>, variable: Variable<'_>) -> Result<Value, String> {
    let Some(given) = given else { return Ok(Value::Null) };
    let text = scalar_text(given).ok_or("build.context: a path or an address is needed")?;
    // As a shell does.
    match text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        Some(rest) => Ok(Value::from(format!("{}{rest}", variable("HOME").unwrap_or_default()))),
        None => Ok(Value::from(text)),
    }
}

/// The pairs of a map, whose values are scalars or null.
fn pairs(given: Option<&Value>, name: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let map = match given {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(format!("build.{name}: a map is needed")),
    };
    let pair = |(key, value): (&String, &Value)| match value {
        Value::Null => Ok((key.clone(), None)),
        value => match scalar_text(value) {
            Some(text) => Ok((key.clone(), Some(text))),
            None => Err(format!("build.{name}.{key}: a boolean, number, text or null is needed")),
        },
    };
    map.iter().map(pair).collect()
}

fn object(pairs: impl IntoIterator<Item = (String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(name, value)| (name, Value::from(value))).collect())
}

/// Build arguments. One without a value has that of the service's environment, else of the user's, else none.
fn args(given: Option<&Value>, environment: Option<&Value>, variable: Variable<'_>) -> Result<Value, String> {
    let own = |name: &str| environment.and_then(|all| all.get(name)).and_then(scalar_text);
    let all = pairs(given, "args")?.into_iter();
    let known = all.filter_map(|(name, value)| {
        let value = value.or_else(|| own(&name)).or_else(|| variable(&name))?;
        Some((name, value))
    });
    Ok(object(known))
}

fn labels(given: Option<&Value>) -> Result<Value, String> {
    let all = pairs(given, "labels")?.into_iter();
    Ok(object(all.map(|(name, value)| (name, value.unwrap_or_default()))))
}

fn contexts(given: Option<&Value>) -> Result<Value, String> {
    let all = pairs(given, "additional_contexts")?.into_iter();
    let context = |(name, value): (String, Option<String>)| {
        let value = value.unwrap_or_default();
        let value = match value.strip_prefix("service:") {
            Some(service) => format!("target:{}", target_name(service)),
            None => value,
        };
        (name, value)
    };
    Ok(object(all.map(context)))
}

/// Names and addresses; a name may have several.
fn hosts(given: Option<&Value>) -> Result<Value, String> {
    let mut all = Map::new();
    for (name, value) in given.and_then(Value::as_object).into_iter().flatten() {
        let addresses: Vec<String> = match value {
            Value::Array(items) => items.iter().filter_map(scalar_text).collect(),
            single => scalar_text(single).into_iter().collect(),
        };
        if addresses.is_empty() {
            return Err(format!("build.extra_hosts.{name}: an address is needed"));
        }
        let bare = |address: &String| address.trim_matches(['[', ']']).to_string();
        all.insert(name.clone(), Value::from(addresses.iter().map(bare).collect::<Vec<_>>().join(",")));
    }
    Ok(Value::Object(all))
}

fn ulimits(given: Option<&Value>) -> Result<Value, String> {
    let map = match given {
        None => return Ok(Value::Null),
        Some(Value::Object(map)) => map,
        Some(_) => return Err("build.ulimits: a map is needed".to_string()),
    };
    let limit = |(name, value): (&String, &Value)| {
        let number = |value: &Value| {
            let text = scalar_text(value)?;
            text.parse::<i64>().ok()
        };
        let both = match value {
            Value::Object(both) => both.get("soft").and_then(number).zip(both.get("hard").and_then(number)),
            single => number(single).map(|single| (single, single)),
        };
        let (soft, hard) =
            both.ok_or_else(|| format!("build.ulimits.{name}: a number, or soft and hard, is needed"))?;
        Ok(Value::from(format!("{name}={soft}:{hard}")))
    };
    map.iter().map(limit).collect()
}

/// Secrets of the build, which the file defines at its top.
fn secret(given: Option<&Value>, defined: &Value) -> Result<Value, String> {
    let Some(given) = given else { return Ok(Value::Null) };
    let all = given.as_array().ok_or("build.secrets: a list is needed")?;
    let entry = |entry: &Value| {
        let name = scalar_text(entry).or_else(|| entry.get("source").and_then(scalar_text));
        let name = name.ok_or("build.secrets: the name of a secret is needed")?;
        let definition = defined.get(&name).filter(|definition| !definition.is_null());
        let definition =
            definition.ok_or_else(|| format!("build.secrets: the secret {name} is not defined"))?;
        let of = |key: &str| definition.get(key).and_then(scalar_text);
        match (of("file"), of("environment")) {
            (Some(file), _) => Ok(json!({"id": name, "src": file})),
            (None, Some(variable)) => Ok(json!({"id": name, "env": variable})),
            (None, None) => {
                Err(format!("build.secrets: the secret {name} comes from neither a file nor the environment"))
            }
        }
    };
    all.iter().map(entry).collect()
}

fn agents(given: Option<&Value>) -> Result<Value, String> {
    let mut all = pairs(given, "ssh")?;
    all.sort();
    let entry = |(id, path): (String, Option<String>)| match path {
        Some(path) if !path.is_empty() => json!({"id": id, "paths": [path]}),
        _ => json!({"id": id}),
    };
    Ok(all.into_iter().map(entry).collect())
}

/// `sbom` and `provenance`: a truth value, or settings.
fn attests(given: [(&str, Option<&Value>); 2]) -> Result<Value, String> {
    let mut all = Vec::new();
    for (kind, value) in given {
        let Some(value) = value else { continue };
        let text = scalar_text(value).ok_or_else(|| format!("build.{kind}: true, false or settings"))?;
        all.push(Value::from(match text.as_str() {
            "true" => format!("type={kind}"),
            "false" => format!("type={kind},disabled=true"),
            settings => format!("type={kind},{settings}"),
        }));
    }
    Ok(Value::Array(all))
}

/// A size in four digits, as docker shows it: `2GiB`, `1.5MiB`.
fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = match size {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        let sizes = [0, 1023, 1024, 1 << 31, 3 << 29, 1_048_577, (1 << 30) - 1].map(size_text);
        assert_eq!(sizes, ["0B", "1023B", "1KiB", "2GiB", "1.5GiB", "1MiB", "1024MiB"]);
    }
}
