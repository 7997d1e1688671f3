//! How files of Compose are laid over each other (Compose file reference, "Merge", and Compose specification,
//! chapter "extends").

use serde_json::{Map, Value};

use super::yaml::{Laid, laid, scalar_text};

/// Lays a value over another: maps are merged, lists put behind each other, everything else is replaced.
/// `path` names the place in errors.
///
/// # Errors
///
/// A map or a list over something else.
pub fn merge(base: &mut Value, over: Value, path: &str) -> Result<(), String> {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (laid(&value), base.get_mut(&key)) {
                    (Laid::Removed, _) => drop(base.remove(&key)),
                    (Laid::Instead(instead), _) => drop(base.insert(key, instead.clone())),
                    (Laid::Merged, Some(known)) => merge(known, value, &inner)?,
                    (Laid::Merged, None) => drop(base.insert(key, value)),
                }
            }
            Ok(())
        }
        (Value::Array(base), Value::Array(over)) => {
            for item in over {
                if !base.contains(&item) {
                    base.push(item);
                }
            }
            Ok(())
        }
        (Value::Object(_), other) if !other.is_null() => Err(format!("{path}: a map is needed over a map")),
        (Value::Array(_), other) if !other.is_null() => Err(format!("{path}: a list is needed over a list")),
        (base, over) => {
            *base = over;
            Ok(())
        }
    }
}

/// Removes what Compose's tags say of a value that is laid over nothing.
pub fn settle(value: &mut Value) {
    if let Laid::Instead(instead) = laid(value) {
        *value = instead.clone();
    }
    match value {
        Value::Object(map) => {
            map.retain(|_, value| laid(value) != Laid::Removed);
            map.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

/// Brings a service to one form, in which services can be merged: `build` is a map, and what is written as a
/// list of `NAME=VALUE` is a map, too.
///
/// # Errors
///
/// What cannot be brought to that form.
pub fn bring_to_form(service: &mut Map<String, Value>) -> Result<(), String> {
    if let Some(environment) = service.get_mut("environment") {
        named(environment, '=').map_err(|error| format!("environment: {error}"))?;
    }
    let Some(build) = service.get_mut("build") else { return Ok(()) };
    let build = match build {
        Value::Object(map) => match map.iter_mut().next() {
            // `!override`: what it holds.
            Some((key, inner)) if key.starts_with('\0') => inner,
            _ => build,
        },
        other => other,
    };
    match build {
        Value::String(context) => {
            let mut map = Map::new();
            map.insert("context".to_string(), Value::from(std::mem::take(context)));
            *build = Value::Object(map);
        }
        Value::Object(map) => {
            for key in ["args", "labels", "additional_contexts", "extra_hosts", "ssh"] {
                let Some(value) = map.get_mut(key) else { continue };
                let separator = if key == "extra_hosts" { ':' } else { '=' };
                named(value, separator).map_err(|error| format!("build.{key}: {error}"))?;
            }
        }
        Value::Null | Value::Bool(true) => {}
        _ => return Err("build: a path or a map is needed".to_string()),
    }
    Ok(())
}

/// Makes a map of a list of `NAME=VALUE`; a name without a value is null.
fn named(value: &mut Value, separator: char) -> Result<(), String> {
    match value {
        Value::Array(items) => {
            let mut map = Map::new();
            for item in items {
                let text = scalar_text(item).ok_or("a list of texts is needed")?;
                let pair = text.split_once('=').or_else(|| text.split_once(separator));
                match pair {
                    Some((name, value)) => {
                        // A host may have several addresses.
                        let known = map.get(name).and_then(Value::as_str).filter(|_| separator == ':');
                        let value = known.map_or(value.to_string(), |known| format!("{known},{value}"));
                        map.insert(name.to_string(), Value::from(value));
                    }
                    None => drop(map.insert(text, Value::Null)),
                }
            }
            *value = Value::Object(map);
            Ok(())
        }
        Value::Object(map) => match map.iter_mut().next() {
            Some((key, inner)) if key.starts_with('\0') => named(inner, separator),
            _ => Ok(()),
        },
        // `!reset`, and nothing.
        Value::Bool(true) | Value::Null => Ok(()),
        _ => Err("a list or a map is needed".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::yaml::read;
    use super::*;

    fn service(text: &str) -> Value {
        let mut value = read(text).expect("YAML");
        bring_to_form(value.as_object_mut().expect("a map")).expect("a service");
        value
    }

    #[test]
    fn services_are_merged() {
        let mut base = service("build: .\nenvironment: [A=1, B]\n");
        let over = "build: {args: [X=1, Y], tags: [a]}\nenvironment: {B: 2}\n";
        merge(&mut base, service(over), "").expect("merged");
        let expected = json!({
            "build": {"context": ".", "args": {"X": "1", "Y": null}, "tags": ["a"]}, "environment": {"A": "1", "B": 2},
        });
        assert_eq!(base, expected);
        let over = "build: {context: !reset null, args: !override [Z=3], tags: [a, b]}\n";
        merge(&mut base, service(over), "").expect("merged");
        assert_eq!(base["build"], json!({"args": {"Z": "3"}, "tags": ["a", "b"]}));
        merge(&mut base, service("build: !reset null\n"), "").expect("merged");
        assert_eq!(base.get("build"), None);
        let error = merge(&mut json!({"a": {"b": {}}}), json!({"a": {"b": 1}}), "").expect_err("no map");
        assert_eq!(error, "a.b: a map is needed over a map");
    }

    #[test]
    fn tags_over_nothing_go() {
        let mut value = service("build: !override {args: [A=1], labels: !reset null}\n");
        settle(&mut value);
        assert_eq!(value, json!({"build": {"args": {"A": "1"}}}));
        let wrong = |text: &str| bring_to_form(read(text).expect("YAML").as_object_mut().expect("a map"));
        assert!(wrong("build: 3\n").is_err() && wrong("build: {args: 3}\n").is_err());
    }
}
