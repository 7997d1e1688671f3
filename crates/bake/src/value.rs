//! Values of the definitions' language, which are those of JSON, and how they become one another.
//!
//! Source: the HCL specification (hclsyntax/spec.md), "Type conversion", of HashiCorp's hcl.

use serde_json::Value;

/// What a value is, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The text of a string, number or boolean.
pub fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{}", float as i64)
            }
            _ => number.to_string(),
        }),
        other => Err(format!("a string is needed, this is {}", kind(other))),
    }
}

/// The number that a number or a string of digits is.
pub fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => number.as_f64().ok_or_else(|| "the number is too large".to_string()),
        Value::String(text) => text.trim().parse().map_err(|_| format!("\"{text}\" is not a number")),
        other => Err(format!("a number is needed, this is {}", kind(other))),
    }
}

/// The truth of a boolean, or of a string "true" or "false".
pub fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if matches!(text.as_str(), "true" | "1") => Ok(true),
        Value::String(text) if matches!(text.as_str(), "false" | "0") => Ok(false),
        other => Err(format!("a boolean is needed, this is {}", kind(other))),
    }
}

/// The items of a list.
pub fn list(value: &Value) -> Result<&Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(format!("a list is needed, this is {}", kind(other))),
    }
}

/// A number, as an integer where it is one.
pub fn from_number(number: f64) -> Result<Value, String> {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Ok(Value::from(number as i64));
    }
    match serde_json::Number::from_f64(number) {
        Some(number) => Ok(Value::Number(number)),
        None => Err("the result is no finite number".to_string()),
    }
}

/// Whether two values are equal; 1 and 1.0 are.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// Converts to the type of `like`, as the branches of a condition and the default of a variable ask for.
pub fn convert_to_type_of(value: &str, like: &Value) -> Result<Value, String> {
    match like {
        Value::Bool(_) => match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(format!("\"{value}\" is not a boolean")),
        },
        Value::Number(_) => number(&Value::from(value)).and_then(from_number),
        Value::Array(_) | Value::Object(_) => {
            Err("a variable of the environment cannot replace a list or an object".to_string())
        }
        _ => Ok(Value::from(value)),
    }
}
