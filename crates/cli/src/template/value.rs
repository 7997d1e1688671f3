//! Values of templates: JSON, and what Go's types add to it.
//!
//! docker fills templates with typed structures. That shows: a member that is not set has the zero value of
//! its type, a key that a map lacks has no value, and a length of time prints as `5s` though JSON has a
//! number.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail};
use serde_json::Value as Json;

/// A value in a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil(Nil),
    Bool(bool),
    /// A number of the template itself, or a length: Go's `int`.
    Int(i64),
    /// A number of the data: Go's `int64`.
    Int64(i64),
    /// Nanoseconds: Go's `time.Duration`.
    Duration(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// What a key that it lacks stands for is [`Nil::Nothing`].
    Map(BTreeMap<String, Value>),
    /// A member that it lacks is an error.
    Structure(Vec<Member>),
}

/// Nothing, of the type that something would have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nil {
    /// No type: null in JSON, or a key that a map lacks.
    Nothing,
    Pointer,
    List,
    Map,
}

/// A member of a structure.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub name: String,
    pub value: Value,
    /// Templates may name it, but it is not in JSON: another name of a member, or a zero value.
    pub is_implied: bool,
}

/// Members whose objects are maps in docker's structures, at any depth.
const MAPS: [&str; 6] = ["Labels", "Annotations", "annotations", "ExposedPorts", "Volumes", "Data"];

/// Members that hold documents of others, in which every object is a map.
const DOCUMENTS: [&str; 3] = ["SLSA", "SPDX", "AdditionalSPDXs"];

/// Members that are lengths of time in nanoseconds.
const DURATIONS: [&str; 4] = ["Interval", "Timeout", "StartPeriod", "StartInterval"];

impl Value {
    pub const NOTHING: Value = Value::Nil(Nil::Nothing);

    /// A value of JSON; objects are structures, except under names that mean maps.
    pub fn of(json: &Json) -> Value {
        Value::named("", json, false)
    }

    fn named(name: &str, json: &Json, in_document: bool) -> Value {
        let in_document = in_document || DOCUMENTS.contains(&name);
        match json {
            Json::Null if MAPS.contains(&name) => Value::Nil(Nil::Map),
            Json::Null => Value::NOTHING,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) if DURATIONS.contains(&name) => Value::Duration(value),
                Some(value) => Value::Int64(value),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => {
                Value::List(items.iter().map(|item| Value::named("", item, in_document)).collect())
            }
            Json::Object(map) if in_document || MAPS.contains(&name) => Value::Map(
                map.iter().map(|(key, item)| (key.clone(), Value::named("", item, in_document))).collect(),
            ),
            Json::Object(map) => Value::Structure(
                map.iter()
                    .map(|(key, item)| Member {
                        name: key.clone(),
                        value: Value::named(key, item, false),
                        is_implied: false,
                    })
                    .collect(),
            ),
        }
    }

    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    pub fn json(&self) -> Json {
        match self {
            Value::Nil(_) => Json::Null,
            Value::Bool(value) => Json::from(*value),
            Value::Int(number) | Value::Int64(number) | Value::Duration(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(items) => Json::Array(items.iter().map(Value::json).collect()),
            Value::Map(map) => {
                Json::Object(map.iter().map(|(key, value)| (key.clone(), value.json())).collect())
            }
            Value::Structure(members) => Json::Object(
                members
                    .iter()
                    .filter(|member| !member.is_implied)
                    .map(|member| (member.name.clone(), member.value.json()))
                    .collect(),
            ),
        }
    }

    /// Adds a member to a structure that lacks it or has nothing there, for templates only.
    pub fn imply(&mut self, name: &str, value: Value) {
        let Value::Structure(members) = self else { return };
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) if member.value == Value::NOTHING => member.value = value,
            Some(_) => {}
            None => members.push(Member { name: name.to_string(), value, is_implied: true }),
        }
    }

    pub fn member(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Structure(members) => {
                members.iter().find(|member| member.name == name).map(|member| &member.value)
            }
            Value::Map(map) => map.get(name),
            _ => None,
        }
    }

    pub fn member_mut(&mut self, name: &str) -> Option<&mut Value> {
        match self {
            Value::Structure(members) => {
                members.iter_mut().find(|member| member.name == name).map(|member| &mut member.value)
            }
            _ => None,
        }
    }

    /// `.A.B`, as in Go.
    pub fn field(&self, path: &[String]) -> Result<Value> {
        let mut value = self;
        for (n, name) in path.iter().enumerate() {
            value = match (value, value.member(name)) {
                (_, Some(member)) => member,
                (Value::Map(_) | Value::Nil(Nil::Nothing | Nil::Map), None) => return Ok(Value::NOTHING),
                (Value::Structure(members), None) => {
                    let known: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
                    bail!("there is no \"{name}\"; there is: {}", known.join(", "))
                }
                (Value::Nil(_), None) => {
                    bail!("there is no \"{name}\", since .{} is not set", path[..n].join("."))
                }
                (other, None) => bail!("there is no \"{name}\" in {}", other.printed()),
            };
        }
        Ok(value.clone())
    }

    /// Whether `if` takes it for true.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil(_) => false,
            Value::Bool(value) => *value,
            Value::Int(number) | Value::Int64(number) | Value::Duration(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(map) => !map.is_empty(),
            // Structures are always true in Go; an object of JSON is a map there when docker has no type for
            // it.
            Value::Structure(members) => !members.is_empty(),
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) | Value::Int64(number) | Value::Duration(number) => Some(*number),
            _ => None,
        }
    }

    /// As an action prints it.
    pub fn shown(&self) -> String {
        match self {
            Value::Nil(Nil::Nothing) => "<no value>".to_string(),
            other => other.printed(),
        }
    }

    /// As Go's `fmt` prints it with `%v`.
    pub fn printed(&self) -> String {
        let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
        match self {
            Value::Nil(Nil::Nothing | Nil::Pointer) => "<nil>".to_string(),
            Value::Nil(Nil::List) => "[]".to_string(),
            Value::Nil(Nil::Map) => "map[]".to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Int(number) | Value::Int64(number) => number.to_string(),
            Value::Duration(nanoseconds) => duration(*nanoseconds),
            Value::Float(number) => float(*number, 'g', None),
            Value::Text(text) => text.clone(),
            Value::List(items) => format!("[{}]", list(&mut items.iter().map(Value::printed))),
            Value::Map(map) => {
                let pairs = &mut map.iter().map(|(key, value)| format!("{key}:{}", value.printed()));
                format!("map[{}]", list(pairs))
            }
            Value::Structure(members) => {
                let shown = members.iter().filter(|member| !member.is_implied);
                format!("{{{}}}", list(&mut shown.map(|member| member.value.printed())))
            }
        }
    }

    /// The name of its type, of `%T`.
    pub fn type_name(&self) -> String {
        let common = |mut values: &mut dyn Iterator<Item = &Value>| {
            let is_text = Iterator::all(&mut values, |value| matches!(value, Value::Text(_)));
            if is_text { "string" } else { "interface {}" }
        };
        match self {
            Value::Nil(Nil::Nothing | Nil::Pointer) => "<nil>".to_string(),
            Value::Nil(Nil::List) => "[]string".to_string(),
            Value::Nil(Nil::Map) => "map[string]string".to_string(),
            Value::Bool(_) => "bool".to_string(),
            Value::Int(_) => "int".to_string(),
            Value::Int64(_) => "int64".to_string(),
            Value::Duration(_) => "time.Duration".to_string(),
            Value::Float(_) => "float64".to_string(),
            Value::Text(_) => "string".to_string(),
            Value::List(items) => format!("[]{}", common(&mut items.iter())),
            Value::Map(map) => format!("map[string]{}", common(&mut map.values())),
            Value::Structure(_) => "struct {}".to_string(),
        }
    }
}

/// A length of time as Go's `time.Duration` prints it: `1h0m0s`, `1.5s`, `3ms`.
fn duration(nanoseconds: i64) -> String {
    let size = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    let text = match size {
        0 => return "0s".to_string(),
        1..1_000 => format!("{size}ns"),
        1_000..1_000_000 => fraction(size, 1_000) + "µs",
        1_000_000..1_000_000_000 => fraction(size, 1_000_000) + "ms",
        _ => {
            let minutes = size / 60_000_000_000;
            let seconds = fraction(size % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    if nanoseconds < 0 { format!("-{text}") } else { text }
}

/// A number with a fraction by Go's verb `e`, `f` or `g`. Without a precision it has as many digits as tell
/// it from all others.
pub fn float(number: f64, verb: char, precision: Option<usize>) -> String {
    let scientific = |text: String| {
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let mut text = digits.to_string();
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "e{sign}{:02}", exponent.abs());
        text
    };
    if !number.is_finite() {
        return match number.is_nan() {
            true => "NaN".to_string(),
            false => if number > 0.0 { "+Inf" } else { "-Inf" }.to_string(),
        };
    }
    match (verb, precision) {
        ('e', None) => scientific(format!("{number:e}")),
        ('e', Some(precision)) => scientific(format!("{number:.precision$e}")),
        ('f', None) => format!("{number}"),
        ('f', Some(precision)) => format!("{number:.precision$}"),
        (_, precision) => {
            let digits = precision.map(|precision| precision.max(1));
            let text = match digits {
                None => format!("{number:e}"),
                Some(digits) => format!("{number:.*e}", digits - 1),
            };
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let mantissa = match mantissa.contains('.') {
                true => mantissa.trim_end_matches('0').trim_end_matches('.'),
                false => mantissa,
            };
            // strconv.FormatFloat: the shortest text is scientific from a million on.
            let max = digits.map_or(6, |digits| i32::try_from(digits).unwrap_or(i32::MAX));
            if exponent < -4 || exponent >= max {
                return scientific(format!("{mantissa}e{exponent}"));
            }
            let significant = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
            let fraction = usize::try_from((significant - 1 - exponent).max(0)).unwrap_or(0);
            format!("{number:.fraction$}")
        }
    }
}
