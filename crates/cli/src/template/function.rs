//! Functions of templates: Go's (package text/template, section "Functions") and docker's ("Format command
//! and log output" in docker's manual).

use std::cmp::Ordering;
use std::fmt::Write;

use anyhow::{Result, bail};

use super::format::sprintf;
use super::value::{Nil, Value};

const FUNCTIONS: [&str; 27] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery",
    "call", "eq", "ne", "lt", "le", "gt", "ge", "json", "split", "join", "title", "lower", "upper", "pad",
    "truncate",
];

/// The most spaces that `pad` adds on one side.
const PAD_MAX: i64 = 64 * 1024;

pub fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// Calls a function. In the head of a table (`is_head`) docker's functions leave texts as they are.
pub fn function(name: &str, arguments: &[Value], is_head: bool) -> Result<Value> {
    if is_head
        && matches!(name, "json" | "title" | "lower" | "upper" | "truncate")
        && let Some(text @ Value::Text(_)) = arguments.first()
    {
        return Ok(text.clone());
    }
    let text = |value: &Value| value.printed();
    Ok(match (name, arguments) {
        ("json", [value]) => Value::Text(value.json().to_string()),
        ("len", [value]) => Value::Int(match value {
            Value::List(items) => items.len(),
            Value::Map(map) => map.len(),
            Value::Structure(members) => members.iter().filter(|member| !member.is_implied).count(),
            Value::Text(text) => text.len(),
            Value::Nil(Nil::List | Nil::Map) => 0,
            _ => bail!("wrong arguments of len: {} has no length", value.printed()),
        } as i64),
        ("index", [value, keys @ ..]) => {
            let mut value = value.clone();
            for key in keys {
                value = indexed(&value, key)?;
            }
            value
        }
        ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
        ("join", [Value::List(items), Value::Text(separator)]) => {
            Value::Text(items.iter().map(text).collect::<Vec<_>>().join(separator))
        }
        ("join", [Value::Nil(_), Value::Text(_)]) => Value::text(""),
        ("split", [Value::Text(text), Value::Text(separator)]) => Value::List(match separator.as_str() {
            "" => text.chars().map(Value::text).collect(),
            separator => text.split(separator).map(Value::text).collect(),
        }),
        ("title", [value]) => Value::Text(title(&text(value))),
        ("lower", [value]) => Value::Text(text(value).to_lowercase()),
        ("upper", [value]) => Value::Text(text(value).to_uppercase()),
        ("pad", [Value::Text(text), before, after]) => {
            let spaces = |count: &Value| match count.int() {
                Some(count @ 0..=PAD_MAX) => Ok(" ".repeat(count as usize)),
                _ => bail!("pad: {} is not between 0 and {PAD_MAX}", count.printed()),
            };
            let (before, after) = (spaces(before)?, spaces(after)?);
            Value::Text(if text.is_empty() { String::new() } else { before + text + &after })
        }
        ("truncate", [Value::Text(text), length]) => {
            let Some(length) = length.int().and_then(|length| usize::try_from(length).ok()) else {
                bail!("truncate: {} is no length", length.printed())
            };
            let bytes = text.as_bytes();
            Value::Text(String::from_utf8_lossy(&bytes[..length.min(bytes.len())]).into_owned())
        }
        ("print", values) => Value::Text(print(values)),
        ("println", values) => Value::Text(values.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [Value::Text(format), values @ ..]) => Value::Text(sprintf(format, values)?),
        ("html", values) if !values.is_empty() => Value::Text(html(&print(values))),
        ("js", values) if !values.is_empty() => Value::Text(js(&print(values))),
        ("urlquery", values) if !values.is_empty() => Value::Text(url_query(&print(values))),
        ("not", [value]) => Value::Bool(!value.is_true()),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            for other in others {
                if equals(first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Value::Bool(false)
        }
        ("ne", [first, second]) => Value::Bool(!equals(first, second)?),
        ("lt", [first, second]) => Value::Bool(compared(name, first, second)?.is_lt()),
        ("le", [first, second]) => Value::Bool(compared(name, first, second)?.is_le()),
        ("gt", [first, second]) => Value::Bool(compared(name, first, second)?.is_gt()),
        ("ge", [first, second]) => Value::Bool(compared(name, first, second)?.is_ge()),
        ("call", [value, ..]) => bail!("call: {} is no function", value.printed()),
        _ => bail!("wrong arguments of {name}"),
    })
}

fn indexed(value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::List(items), key) if key.int().is_some() => {
            let n = key.int().unwrap_or_default();
            let item = usize::try_from(n).ok().and_then(|n| items.get(n));
            item.cloned().ok_or_else(|| anyhow::anyhow!("index {n} is not in a list of {}", items.len()))
        }
        (Value::Text(text), key) if key.int().is_some() => {
            let n = key.int().unwrap_or_default();
            let byte = usize::try_from(n).ok().and_then(|n| text.as_bytes().get(n));
            match byte {
                Some(byte) => Ok(Value::Int(i64::from(*byte))),
                None => bail!("index {n} is not in a text of {} bytes", text.len()),
            }
        }
        (Value::Nil(Nil::List), key) if key.int().is_some() => {
            bail!("index {} is not in a list of 0", key.printed())
        }
        // As in Go: a map gives the zero value of its type for a missing key.
        (Value::Map(_) | Value::Structure(_), Value::Text(key)) => {
            Ok(value.member(key).cloned().unwrap_or_else(|| match value {
                Value::Map(map) if map.values().any(|item| !matches!(item, Value::Text(_))) => Value::NOTHING,
                _ => Value::text(""),
            }))
        }
        (Value::Nil(Nil::Nothing | Nil::Map), _) => Ok(Value::text("")),
        _ => bail!("{} has no index {}", value.printed(), key.printed()),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value> {
    let length = match value {
        Value::List(items) => items.len(),
        Value::Nil(Nil::List) => 0,
        Value::Text(_) if bounds.len() > 2 => bail!("slice: a text has no third bound"),
        Value::Text(text) => text.len(),
        other => bail!("slice needs a text or a list, not {}", other.printed()),
    };
    if bounds.len() > 3 {
        bail!("wrong arguments of slice");
    }
    let mut ends = [0, length, length];
    for (end, bound) in ends.iter_mut().zip(bounds) {
        let bound_of = bound.int().and_then(|bound| usize::try_from(bound).ok());
        match bound_of.filter(|bound| *bound <= length) {
            Some(bound) => *end = bound,
            None => bail!("slice: {} is not between 0 and {length}", bound.printed()),
        }
    }
    let [start, end, max] = ends;
    if start > end || end > max {
        bail!("slice: {start} to {end} is not in order");
    }
    Ok(match value {
        Value::List(items) => Value::List(items[start..end].to_vec()),
        Value::Text(text) => Value::Text(String::from_utf8_lossy(&text.as_bytes()[start..end]).into_owned()),
        other => other.clone(),
    })
}

/// Go's `fmt.Sprint`: a space stands between two operands when neither is a text.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (n, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if n > 0 && !is_text(value) && !is_text(&values[n - 1]) {
            out.push(' ');
        }
        out += &value.printed();
    }
    out
}

/// Go's `strings.Title`: the first letter of each word as a capital.
fn title(text: &str) -> String {
    let mut is_first = true;
    let mut out = String::new();
    for c in text.chars() {
        match is_first {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        is_first = if c.is_ascii() { !(c.is_ascii_alphanumeric() || c == '_') } else { c.is_whitespace() };
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '\'' => out += "&#39;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&#34;",
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' | '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn equals(first: &Value, second: &Value) -> Result<bool> {
    Ok(match (first, second) {
        (Value::Nil(_), Value::Nil(_)) => true,
        (Value::Nil(_), _) | (_, Value::Nil(_)) => false,
        (Value::Bool(first), Value::Bool(second)) => first == second,
        (Value::Text(first), Value::Text(second)) => first == second,
        (Value::Float(first), Value::Float(second)) => first == second,
        (Value::List(_) | Value::Map(_), _) | (_, Value::List(_) | Value::Map(_)) => {
            bail!("eq: lists and maps cannot be compared: {} and {}", first.printed(), second.printed())
        }
        (first, second) => match (first.int(), second.int()) {
            (Some(first), Some(second)) => first == second,
            _ => bail!(
                "eq: {} and {} are of different types: {} and {}",
                first.printed(),
                second.printed(),
                first.type_name(),
                second.type_name()
            ),
        },
    })
}

fn compared(name: &str, first: &Value, second: &Value) -> Result<Ordering> {
    let wrong = || {
        anyhow::anyhow!(
            "{name}: {} and {} have no order: {} and {}",
            first.printed(),
            second.printed(),
            first.type_name(),
            second.type_name()
        )
    };
    Ok(match (first, second) {
        (Value::Text(first), Value::Text(second)) => first.cmp(second),
        (Value::Float(first), Value::Float(second)) => first.partial_cmp(second).ok_or_else(wrong)?,
        (first, second) => match (first.int(), second.int()) {
            (Some(first), Some(second)) => first.cmp(&second),
            _ => return Err(wrong()),
        },
    })
}
