//! YAML as values of JSON (YAML 1.2, chapter 10.3, with the numbers and merge keys of 1.1 that Go's yaml
//! package reads, since files of Compose are written for that).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Number, Value, json};

/// Lists and maps may be nested this deep.
const DEPTH_MAX: usize = 100;
/// Most values of a file, those that aliases stand for included.
const VALUES_MAX: usize = 200_000;

/// The key of an object that stands for a value with Compose's tag `!override`.
const OVERRIDE: &str = "\0override";
/// The same for `!reset`.
const RESET: &str = "\0reset";

/// What a value with a tag of Compose does to the one that it is laid over.
#[derive(Debug, PartialEq)]
pub enum Laid<'v> {
    /// It is merged with it.
    Merged,
    /// It replaces it.
    Instead(&'v Value),
    /// It removes it.
    Removed,
}

/// What a value does to the one that it is laid over.
pub fn laid(value: &Value) -> Laid<'_> {
    match value.as_object() {
        Some(map) if map.contains_key(RESET) => Laid::Removed,
        Some(map) => map.get(OVERRIDE).map_or(Laid::Merged, Laid::Instead),
        None => Laid::Merged,
    }
}

/// Reads the first document of a text; null if there is none.
///
/// # Errors
///
/// What is wrong, and the line.
pub fn read(text: &str) -> Result<Value, (usize, String)> {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), values: 0 };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(Value::Null),
            (first, line) => return reader.node(first, line, 0),
        }
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    /// Values by the number of their anchor, and how many values each holds.
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, usize), (usize, String)> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err((error.marker().line(), error.info().to_string())),
            None => Err((0, "it ends too early".to_string())),
        }
    }

    /// The value that begins with an event.
    fn node(&mut self, first: Event<'t>, line: usize, depth: usize) -> Result<Value, (usize, String)> {
        self.count(1, line)?;
        if depth > DEPTH_MAX {
            return Err((line, format!("more than {DEPTH_MAX} lists and maps are within each other")));
        }
        let before = self.values;
        let (anchor, tag, value) = match first {
            Event::Alias(anchor) => {
                let Some((value, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err((line, "an alias of a value that is not known yet".to_string()));
                };
                self.count(size, line)?;
                return Ok(value);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag_is(tag.as_deref(), "str");
                (anchor, tag, if is_text { Value::from(text.into_owned()) } else { plain(&text) })
            }
            Event::SequenceStart(anchor, tag) => (anchor, tag, self.list(depth)?),
            Event::MappingStart(anchor, tag) => (anchor, tag, self.map(depth)?),
            _ => return Err((line, "a value is missing".to_string())),
        };
        let value = match tag.as_deref().filter(|tag| tag.handle == "!").map(|tag| tag.suffix.as_str()) {
            Some("reset") => json!({ RESET: true }),
            Some("override") => json!({ OVERRIDE: value }),
            _ => value,
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), self.values - before + 1));
        }
        Ok(value)
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), (usize, String)> {
        self.values = self.values.saturating_add(more);
        match self.values > VALUES_MAX {
            true => Err((line, format!("it has more than {VALUES_MAX} values, aliases counted in full"))),
            false => Ok(()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, (usize, String)> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(list)),
                (event, line) => list.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, (usize, String)> {
        let (mut map, mut merged) = (Map::new(), Vec::new());
        loop {
            let (event, line) = match self.next()? {
                (Event::MappingEnd, _) => break,
                next => next,
            };
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if *text == "<<");
            let key = self.node(event, line, depth + 1)?;
            let key = scalar_text(&key).ok_or((line, "a key that is no text".to_string()))?;
            let (event, line) = self.next()?;
            let value = self.node(event, line, depth + 1)?;
            match (is_merge, value) {
                (true, Value::Array(all)) => merged.extend(all),
                (true, one) => merged.push(one),
                (false, value) => {
                    if map.contains_key(&key) {
                        return Err((line, format!("the key \"{key}\" is set twice")));
                    }
                    map.insert(key, value);
                }
            }
        }
        // Keys of the map itself count most, and then those of the first map that is merged.
        for other in merged {
            let Value::Object(other) = other else {
                return Err((0, "\"<<\" merges maps, and this is none".to_string()));
            };
            for (key, value) in other {
                map.entry(key).or_insert(value);
            }
        }
        Ok(Value::Object(map))
    }
}

fn tag_is(tag: Option<&Tag>, suffix: &str) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == suffix)
}

/// The value of a scalar without quotes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::from("+Inf"),
        "-.inf" | "-.Inf" | "-.INF" => return Value::from("-Inf"),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::from(text))
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    let digits = text.replace('_', "");
    let (is_negative, rest) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    let (radix, body) = radix
        .iter()
        .find_map(|(prefix, radix)| Some((*radix, rest.strip_prefix(prefix)?)))
        .unwrap_or(if rest.len() > 1 && rest.starts_with('0') { (8, rest) } else { (10, rest) });
    if body.starts_with(|c: char| c.is_ascii_alphanumeric())
        && let Ok(number) = u64::from_str_radix(body, radix)
    {
        return match is_negative {
            false => Some(Value::from(number)),
            true => i64::try_from(number).ok().map(|number| Value::from(-number)),
        };
    }
    // [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
    let is_float = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && rest.contains(|c: char| c.is_ascii_digit())
        && rest.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let number: f64 = digits.parse().ok().filter(|_| is_float)?;
    Some(Value::Number(Number::from_f64(number)?))
}

/// The text of a scalar, as Go prints it; `None` for null, lists and maps.
pub fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(float),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A number as Go's `%v` prints it: with an exponent below 1e-4 and from 1e21 on, of two digits at least.
fn float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude == 0.0 {
        return "0".to_string();
    }
    if (1e-4..1e21).contains(&magnitude) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').expect("it has an exponent");
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_those_of_go() {
        for (yaml, text) in [
            ("0x1F", "31"),
            ("1e3", "1000"),
            ("0o17", "15"),
            ("017", "15"),
            ("yes", "yes"),
            ("1_000", "1000"),
            (".5", "0.5"),
            ("-0", "0"),
            (".inf", "+Inf"),
            ("12345678901234567890", "12345678901234567890"),
            ("1.50", "1.5"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-07"),
            ("\"01\"", "01"),
            ("+5", "5"),
            ("-7", "-7"),
            ("1.2.3", "1.2.3"),
            ("2024-01-01", "2024-01-01"),
            ("True", "true"),
            ("!!str 1", "1"),
            ("0x", "0x"),
            ("1_", "1"),
            ("-", ""),
        ] {
            let value = match read(&format!("a: {yaml}\n")) {
                Ok(value) => value,
                Err(_) => continue,
            };
            assert_eq!(scalar_text(&value["a"]).unwrap_or_default(), text, "{yaml}");
        }
        for null in ["", "~", "null"] {
            assert_eq!(read(&format!("a: {null}\n")), Ok(json!({"a": null})), "{null}");
        }
    }

    #[test]
    fn aliases_and_merges() {
        let text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\nd: {<<: *b}\ne: *a\n\"<<\": 1\n";
        let value = read(text).expect("YAML");
        assert_eq!(value["c"], json!({"x": 9, "y": 2, "z": 4}));
        assert_eq!((&value["d"], &value["e"]), (&json!({"y": 3, "z": 4}), &json!({"x": 1, "y": 2})));
        let value = read("a: !reset null\nb: !override [1]\nc: [1]\n").expect("YAML");
        assert_eq!(laid(&value["a"]), Laid::Removed);
        assert_eq!(laid(&value["b"]), Laid::Instead(&json!([1])));
        assert_eq!(laid(&value["c"]), Laid::Merged);
    }

    #[test]
    fn wrong_texts_are_errors() {
        for (text, line) in
            [("a: [1\n", 2), ("a: 1\na: 2\n", 2), ("a: *x\n", 1), ("[a]: {}\n? [b]\n: c\n", 1)]
        {
            let error = read(text).expect_err(text);
            assert!(error.0 <= line + 1 && !error.1.is_empty(), "{text}: {error:?}");
        }
        assert_eq!(read(""), Ok(Value::Null));
        let mut bomb = "a0: &a0 [x, x]\n".to_string();
        for n in 1..40 {
            bomb.push_str(&format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
        }
        assert!(read(&bomb).expect_err("a bomb").1.contains("aliases counted in full"));
        let deep = format!("a: {}", "[".repeat(5000));
        assert!(read(&deep).is_err());
    }
}
