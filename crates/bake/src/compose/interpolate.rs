//! Variables in the texts of a Compose file: `$NAME`, `${NAME:-default}` and the like (Compose file
//! reference, "Interpolation").

use serde_json::Value;

/// Most expressions within each other.
const DEPTH_MAX: usize = 50;

/// Where values of variables come from.
pub trait Variables {
    /// The value of a variable.
    fn value(&self, name: &str) -> Option<String>;
    /// A variable without a value and without a default is empty; this tells that to somebody.
    fn is_missing(&self, name: &str);
}

/// Replaces the variables in all texts of a value; `path` names it in errors.
///
/// # Errors
///
/// An expression that is none, or a variable that must have a value.
pub fn interpolate(value: &mut Value, path: &str, of: &dyn Variables) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains('$') => {
            *text = substitute(text, of, 0).map_err(|error| format!("{path}: {error}"))?;
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(at, item)| interpolate(item, &format!("{path}[{at}]"), of)),
        Value::Object(map) => map.iter_mut().try_for_each(|(key, item)| {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            interpolate(item, &inner, of)
        }),
        _ => Ok(()),
    }
}

/// Replaces the variables in a text.
///
/// # Errors
///
/// As [`interpolate`].
pub fn substitute(text: &str, of: &dyn Variables, depth: usize) -> Result<String, String> {
    if depth > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} variables are within each other"));
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after)
                .ok_or_else(|| format!("\"${{{after}\" has no end: write $$ for a single $"))?;
            result.push_str(&expression(&after[..end], of, depth)?);
            rest = &after[end + 1..];
        } else {
            let name = &rest[..name_length(rest)];
            match name {
                "" => result.push('$'),
                name => result.push_str(&value_or_nothing(name, of)),
            }
            rest = &rest[name.len()..];
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// Length of the name at the begin of a text.
fn name_length(text: &str) -> usize {
    let is_part =
        |(at, b): (usize, u8)| b.is_ascii_alphabetic() || b == b'_' || (at > 0 && b.is_ascii_digit());
    text.bytes().enumerate().take_while(|part| is_part(*part)).count()
}

/// Where the brace is that closes the one before the text.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut before) = (0, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' || depth > 0 => depth += 1,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

fn value_or_nothing(name: &str, of: &dyn Variables) -> String {
    of.value(name).unwrap_or_else(|| {
        of.is_missing(name);
        String::new()
    })
}

/// What stands between the braces.
fn expression(text: &str, of: &dyn Variables, depth: usize) -> Result<String, String> {
    let (name, rest) = text.split_at(name_length(text));
    let wrong = || format!("\"${{{text}}}\" is no variable: write $$ for a single $");
    if name.is_empty() {
        return Err(wrong());
    }
    // With a colon, an empty value counts as none.
    let (may_be_empty, operator) = match rest.strip_prefix(':') {
        Some(operator) => (false, operator),
        None => (true, rest),
    };
    let value = of.value(name);
    let is_set = value.as_ref().is_some_and(|value| may_be_empty || !value.is_empty());
    let mut operator = operator.chars();
    match (operator.next(), operator.as_str()) {
        (None, _) if may_be_empty => Ok(value_or_nothing(name, of)),
        (Some('-'), _) if is_set => Ok(value.unwrap_or_default()),
        (Some('-'), default) => substitute(default, of, depth + 1),
        (Some('+'), other) if is_set => substitute(other, of, depth + 1),
        (Some('+'), _) => Ok(String::new()),
        (Some('?'), _) if is_set => Ok(value.unwrap_or_default()),
        (Some('?'), "") => Err(format!("the variable {name} must have a value")),
        (Some('?'), why) => {
            Err(format!("the variable {name} must have a value: {}", substitute(why, of, depth + 1)?))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    /// Variables of a test.
    #[derive(Default)]
    pub struct Given {
        pub values: BTreeMap<String, String>,
        pub missing: RefCell<Vec<String>>,
    }

    impl Given {
        pub fn of(pairs: &[(&str, &str)]) -> Given {
            let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
            Given { values: pairs.iter().map(pair).collect(), ..Given::default() }
        }
    }

    impl Variables for Given {
        fn value(&self, name: &str) -> Option<String> {
            self.values.get(name).cloned()
        }

        fn is_missing(&self, name: &str) {
            self.missing.borrow_mut().push(name.to_string());
        }
    }

    /// As docker-buildx 0.29.1 does.
    #[test]
    fn expressions() {
        let given = Given::of(&[("B", "b"), ("EMPTY", ""), ("VER", "7")]);
        let of = |text: &str| substitute(text, &given, 0);
        for (text, result) in [
            ("a$", "a$"),
            ("$1", "$1"),
            ("$ {A}", "$ {A}"),
            ("${A-x$B}", "xb"),
            ("${A:-${B:-c}}d", "bd"),
            ("$A$$B", "$B"),
            ("${A:+x}y", "y"),
            ("$_x", ""),
            ("${A-a}b}", "ab}"),
            ("${A:-{\"k\":1}}", "{\"k\":1}"),
            ("${A-$$x}", "$x"),
            ("${EMPTY-keep}${EMPTY:-colon}", "colon"),
            ("${VER:+plus}${VER+p}", "plusp"),
            ("$VER$$x-${N:-${VER:-deep}}", "7$x-7"),
            ("ü$VER.", "ü7."),
        ] {
            assert_eq!(of(text).as_deref(), Ok(result), "{text}");
        }
        assert_eq!(*given.missing.borrow(), ["A", "_x"]);
        for bad in ["${A", "${1}", "${A:=x}", "${A?}", "${EMPTY:?no}", "${}", "${A:}", "${ä}"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(of("${A:?set $B}"), Err("the variable A must have a value: set b".to_string()));
        let deep = format!("{}x{}", "${A-".repeat(1000), "}".repeat(1000));
        assert!(of(&deep).expect_err("deep").contains("within each other"));
    }

    #[test]
    fn errors_name_the_place() {
        let mut value = serde_json::json!({"services": {"a": {"build": {"tags": ["x", "${"]}}}});
        let error = interpolate(&mut value, "", &Given::default()).expect_err("no end");
        assert!(error.starts_with("services.a.build.tags[1]: \"${\" has no end"), "{error}");
    }
}
