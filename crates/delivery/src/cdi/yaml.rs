//! YAML as values of JSON, as far as descriptions of devices use it: no anchors, aliases or tags. JSON is
//! YAML.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Lists and maps may be nested this deep; a right description has seven levels.
const DEPTH_MAX: usize = 16;

/// Reads the first document of a text; null if there is none.
///
/// # Errors
///
/// What is wrong, with the line.
pub fn read(text: &str) -> Result<Value, String> {
    let mut events = Parser::new_from_str(text);
    loop {
        match next(&mut events)? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(Value::Null),
            (first, line) => return node(&mut events, first, line, 0),
        }
    }
}

type Events<'t> = Parser<'t, StrInput<'t>>;

fn next<'t>(events: &mut Events<'t>) -> Result<(Event<'t>, usize), String> {
    match events.next() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(error)) => Err(format!("line {}: {}", error.marker().line(), error.info())),
        None => Err("it ends too early".to_string()),
    }
}

/// The value that begins with an event.
fn node(events: &mut Events<'_>, first: Event<'_>, line: usize, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("line {line}: nested too deep"));
    }
    match first {
        Event::Scalar(text, ScalarStyle::Plain, ..) => Ok(plain(&text)),
        Event::Scalar(text, ..) => Ok(Value::from(text.into_owned())),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match next(events)? {
                    (Event::SequenceEnd, _) => return Ok(Value::Array(list)),
                    (event, line) => list.push(node(events, event, line, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                let name = match next(events)? {
                    (Event::MappingEnd, _) => return Ok(Value::Object(map)),
                    (Event::Scalar(name, ..), _) => name.into_owned(),
                    (_, line) => return Err(format!("line {line}: a name is missing")),
                };
                let (event, line) = next(events)?;
                let value = node(events, event, line, depth + 1)?;
                if map.insert(name.clone(), value).is_some() {
                    return Err(format!("line {line}: \"{name}\" is there twice"));
                }
            }
        }
        Event::Alias(_) => Err(format!("line {line}: an alias: write the value itself")),
        _ => Err(format!("line {line}: a value is missing")),
    }
}

/// The value of a scalar without quotes (YAML 1.2, chapter 10.3), with octal numbers as Go's package reads
/// them: they are modes of files.
fn plain(text: &str) -> Value {
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        "0" => Value::from(0),
        _ => match octal.map_or_else(|| text.parse().ok(), |digits| i64::from_str_radix(digits, 8).ok()) {
            Some(number) => Value::from(number),
            None => Value::from(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_and_json_are_read() {
        let text = "a: 1\nb: [x, \"2\", true, ~]\nc:\n  - d: 0660\n    e: A=B\nf: {}\n";
        let value = json!({"a": 1, "b": ["x", "2", true, null], "c": [{"d": 432, "e": "A=B"}], "f": {}});
        assert_eq!(read(text), Ok(value.clone()));
        assert_eq!(read(&value.to_string()), Ok(value));
        assert_eq!(read(""), Ok(Value::Null));
    }

    #[test]
    fn wrong_texts_are_errors() {
        for wrong in ["a: [1", "a: 1\na: 2", "a: &x 1\nb: *x", "? [a]\n: b", "a: 'x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&"[".repeat(10_000)).is_err());
    }
}
