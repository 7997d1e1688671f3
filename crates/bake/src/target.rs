//! Targets: their attributes, how they are read, and how one is laid over another.
//!
//! Source: buildx's "Bake file reference" (docs/bake-reference.md).

use crossdock_dockerfile::values::csv;
use serde_json::{Map, Value};

use crate::value::{kind, text, truth};

/// What an attribute of a target holds, and how a later definition of it meets an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A text; the later one counts.
    Text,
    /// A boolean; the later one counts.
    Truth,
    /// A list of texts; the later one counts.
    Texts,
    /// A list of texts; the later ones come behind.
    MoreTexts,
    /// Texts by name; a later one replaces that of its name.
    Map,
    /// Lists of fields as `type=...,ref=...` or as objects; the later list counts.
    Fields(Fields),
    /// The same; the later ones come behind.
    MoreFields(Fields),
}

/// What a list of fields is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
    Cache,
    Output,
    Attest,
    Secret,
    Ssh,
}

/// The attributes, in the order in which they are printed.
const ATTRIBUTES: &[(&str, Kind)] = &[
    ("description", Kind::Text),
    ("annotations", Kind::MoreTexts),
    ("attest", Kind::MoreFields(Fields::Attest)),
    ("context", Kind::Text),
    ("contexts", Kind::Map),
    ("dockerfile", Kind::Text),
    ("dockerfile-inline", Kind::Text),
    ("args", Kind::Map),
    ("labels", Kind::Map),
    ("tags", Kind::Texts),
    ("cache-from", Kind::MoreFields(Fields::Cache)),
    ("cache-to", Kind::Fields(Fields::Cache)),
    ("target", Kind::Text),
    ("secret", Kind::Fields(Fields::Secret)),
    ("ssh", Kind::Fields(Fields::Ssh)),
    ("platforms", Kind::Texts),
    ("output", Kind::Fields(Fields::Output)),
    ("pull", Kind::Truth),
    ("no-cache", Kind::Truth),
    ("network", Kind::Text),
    ("no-cache-filter", Kind::Texts),
    ("shm-size", Kind::Text),
    ("ulimits", Kind::Texts),
    ("call", Kind::Text),
    ("entitlements", Kind::MoreTexts),
    ("extra-hosts", Kind::Map),
];

/// Attributes that say how targets are made, and are no part of one.
pub const STRUCTURE: &[&str] = &["inherits", "matrix", "name"];

/// The attributes of a target, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target(Map<String, Value>);

impl Target {
    /// Sets an attribute to a value of the definitions. A null sets nothing.
    ///
    /// # Errors
    ///
    /// There is no such attribute, or the value does not fit.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let Some((name, kind)) = ATTRIBUTES.iter().find(|(known, _)| *known == name) else {
            return Err(format!("targets have no attribute \"{name}\""));
        };
        if value.is_null() {
            return Ok(());
        }
        let value = read(*kind, value).map_err(|error| format!("{name}: {error}"))?;
        self.0.insert((*name).to_string(), value);
        Ok(())
    }

    /// An attribute.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// An attribute that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// The texts of an attribute that is a list of them.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let items = self.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The texts of an attribute that has them by name.
    pub fn map(&self, name: &str) -> Vec<(&str, &str)> {
        let map = self.get(name).and_then(Value::as_object);
        map.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
    }

    /// Whether a boolean attribute is true.
    pub fn is(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }

    /// The entries of an attribute that is a list of fields, as `type=...,ref=...`.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let items = self.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_object).map(csv_of).collect()
    }

    /// Replaces an attribute by a value that fits.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_string(), value);
    }

    /// Adds a text to an attribute that is a list of them, unless it is there.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        match self.0.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(items) if !items.iter().any(|item| item == text) => items.push(Value::from(text)),
            _ => {}
        }
    }

    /// Lays another definition over this one.
    pub fn merge(&mut self, over: &Target) {
        for (name, kind) in ATTRIBUTES {
            let Some(new) = over.0.get(*name) else { continue };
            match (kind, self.0.get_mut(*name), new) {
                (Kind::Map, Some(Value::Object(old)), Value::Object(new)) => {
                    old.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                (Kind::MoreFields(Fields::Attest), Some(Value::Array(old)), Value::Array(new)) => {
                    // One attestation of a type.
                    for entry in new {
                        old.retain(|known| known["type"] != entry["type"]);
                        old.push(entry.clone());
                    }
                }
                (Kind::MoreTexts | Kind::MoreFields(_), Some(Value::Array(old)), Value::Array(new)) => {
                    for entry in new {
                        if !old.contains(entry) {
                            old.push(entry.clone());
                        }
                    }
                }
                _ => {
                    self.0.insert((*name).to_string(), new.clone());
                }
            }
        }
    }

    /// The target as buildx prints it: in its order of attributes, with its defaults.
    pub fn printed(&self) -> Value {
        let mut printed = Map::new();
        for (name, kind) in ATTRIBUTES {
            let value = match (*name, self.0.get(*name)) {
                ("context", given) => {
                    let given = given.and_then(Value::as_str).filter(|path| !path.is_empty());
                    Some(Value::from(clean(given.unwrap_or("."))))
                }
                ("dockerfile", None) => Some(Value::from("Dockerfile")),
                (_, value) => value.cloned(),
            };
            let value = match (kind, value.map(|value| escaped(name, value))) {
                (_, None) => continue,
                // What is named is in the order of its names.
                (Kind::Map, Some(Value::Object(map))) => {
                    let mut pairs: Vec<_> = map.into_iter().collect();
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                    Value::Object(pairs.into_iter().collect())
                }
                (_, Some(value)) => value,
            };
            let is_empty = match &value {
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !is_empty {
                printed.insert((*name).to_string(), value);
            }
        }
        Value::Object(printed)
    }
}

/// Texts in which no template may be read again, if what is printed is read as a file: as buildx has them.
fn escaped(name: &str, value: Value) -> Value {
    let text = |text: &str| text.replace("${", "$${").replace("%{", "%%{");
    match (name, value) {
        ("dockerfile-inline" | "annotations" | "args" | "labels", Value::String(given)) => {
            Value::from(text(&given))
        }
        ("annotations", Value::Array(items)) => items.into_iter().map(|item| escaped(name, item)).collect(),
        ("args" | "labels", Value::Object(map)) => {
            Value::Object(map.into_iter().map(|(key, item)| (key, escaped(name, item))).collect())
        }
        ("attest", Value::Array(items)) => items.into_iter().map(|item| escaped(name, item)).collect(),
        // The one field that is no text there.
        ("attest", Value::Object(mut map)) => {
            if let Some(disabled) = map.get_mut("disabled") {
                *disabled = truth(disabled).map_or(disabled.clone(), Value::Bool);
            }
            Value::Object(map)
        }
        (_, other) => other,
    }
}

/// A path without needless parts; an address stays as it is.
fn clean(path: &str) -> String {
    let is_address = path.contains("://") || path == "-" || path.starts_with("git@") || path.contains('#');
    if is_address { path.to_string() } else { crossdock_dockerfile::ignore::clean(path) }
}

fn read(of: Kind, value: &Value) -> Result<Value, String> {
    match of {
        Kind::Text => text(value).map(Value::from),
        Kind::Truth => truth(value).map(Value::Bool),
        Kind::Texts | Kind::MoreTexts => {
            let items = match value {
                Value::Array(items) => items,
                other => return Err(format!("a list is needed, this is {}", kind(other))),
            };
            let mut texts: Vec<Value> = Vec::new();
            for item in items.iter().filter(|item| !item.is_null()) {
                let item = Value::from(text(item)?);
                // Empty texts come of conditions, and a text counts once.
                if item != "" && !texts.contains(&item) {
                    texts.push(item);
                }
            }
            Ok(Value::Array(texts))
        }
        Kind::Map => match value {
            Value::Object(map) => {
                let given = map.iter().filter(|(_, value)| !value.is_null());
                let pairs = given.map(|(key, value)| Ok((key.clone(), Value::from(text(value)?))));
                Ok(Value::Object(pairs.collect::<Result<_, String>>()?))
            }
            other => Err(format!("an object is needed, this is {}", kind(other))),
        },
        Kind::Fields(of) | Kind::MoreFields(of) => match value {
            Value::Array(items) => {
                let given = items.iter().filter(|item| !item.is_null() && *item != "");
                given.map(|item| fields(of, item)).collect()
            }
            other => Err(format!("a list is needed, this is {}", kind(other))),
        },
    }
}

/// Reads `type=registry,ref=...` or an object of texts.
fn fields(of: Fields, value: &Value) -> Result<Value, String> {
    let mut entry = match value {
        Value::Object(map) => {
            let mut entry = Map::new();
            for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                let value = match value {
                    Value::Array(_) if of == Fields::Ssh => value.clone(),
                    other => Value::from(text(other)?),
                };
                entry.insert(key.clone(), value);
            }
            entry
        }
        other => of_text(of, &text(other)?)?,
    };
    match of {
        Fields::Cache | Fields::Output | Fields::Attest if !entry.contains_key("type") => {
            Err("a type is needed, as in type=registry".to_string())
        }
        Fields::Secret => {
            // What kind it is follows from the other fields.
            if entry.remove("type").is_some_and(|kind| kind == "env")
                && !entry.contains_key("env")
                && let Some(name) = entry.remove("src").or_else(|| entry.get("id").cloned())
            {
                entry.insert("env".to_string(), name);
            }
            Ok(Value::Object(entry))
        }
        _ => Ok(Value::Object(entry)),
    }
}

fn of_text(of: Fields, given: &str) -> Result<Map<String, Value>, String> {
    let parts = csv(given)?;
    let mut entry = Map::new();
    match of {
        Fields::Ssh => {
            let (id, paths) = given.split_once('=').unwrap_or((given, ""));
            entry.insert("id".to_string(), Value::from(id));
            if !paths.is_empty() {
                entry.insert("paths".to_string(), paths.split(',').map(Value::from).collect());
            }
            return Ok(entry);
        }
        Fields::Cache if parts.iter().all(|part| !part.contains('=')) => {
            entry.insert("ref".to_string(), Value::from(given));
            entry.insert("type".to_string(), Value::from("registry"));
            return Ok(entry);
        }
        Fields::Output if parts.len() == 1 && !given.contains('=') => {
            let kind = if given == "-" { "tar" } else { "local" };
            // A name of an exporter is its type.
            let is_type =
                matches!(given, "local" | "tar" | "oci" | "docker" | "image" | "registry" | "cacheonly");
            if is_type {
                entry.insert("type".to_string(), Value::from(given));
            } else {
                entry.insert("dest".to_string(), Value::from(given));
                entry.insert("type".to_string(), Value::from(kind));
            }
            return Ok(entry);
        }
        _ => {}
    }
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("\"{part}\" is not NAME=VALUE"))?;
        let key = match (of, key) {
            (Fields::Secret, "source") => "src",
            (_, key) => key,
        };
        entry.insert(key.trim().to_lowercase(), Value::from(value));
    }
    Ok(entry)
}

/// An entry as `type=...,ref=...`, the type first.
fn csv_of(entry: &Map<String, Value>) -> String {
    let quoted = |field: String| match field.contains([',', '"', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    };
    let mut pairs: Vec<(&String, String)> = entry
        .iter()
        .map(|(key, value)| match value {
            Value::Array(items) => {
                (key, items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
            }
            other => (key, other.as_str().unwrap_or_default().to_string()),
        })
        .collect();
    pairs.sort_by_key(|(key, _)| *key != "type");
    pairs.into_iter().map(|(key, value)| quoted(format!("{key}={value}"))).collect::<Vec<_>>().join(",")
}
