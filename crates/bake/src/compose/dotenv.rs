//! Files `.env`: variables for a Compose file (Compose file reference, "Syntax of .env files").

use std::collections::BTreeMap;

use super::interpolate::{Variables, substitute};

/// The variables of a file, over which those of `outer` count.
struct Known<'a> {
    read: &'a BTreeMap<String, String>,
    outer: &'a dyn Fn(&str) -> Option<String>,
}

impl Variables for Known<'_> {
    fn value(&self, name: &str) -> Option<String> {
        (self.outer)(name).or_else(|| self.read.get(name).cloned())
    }

    fn is_missing(&self, _: &str) {}
}

/// Reads a file. Values may refer to variables of `outer` and to earlier ones. A name without a value is
/// none.
///
/// # Errors
///
/// What is wrong, and the line.
pub fn read(
    text: &str,
    outer: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut all = BTreeMap::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = |rest: &str| text.matches('\n').count() - rest.matches('\n').count() + 1;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(all);
        }
        if rest.starts_with('#') {
            rest = after_line(rest);
            continue;
        }
        let wrong = |message: String| (line(rest), message);
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_.-[]".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(wrong(format!("\"{name}\" is no name of a variable")));
        }
        if !rest[end..].starts_with(['=', ':']) {
            rest = &rest[end..];
            continue;
        }
        let known = Known { read: &all, outer };
        let (value, next) = value(&rest[end + 1..], &known).map_err(wrong)?;
        all.insert(name.to_string(), value);
        rest = next;
    }
}

/// The text behind the first line.
fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// The value at the begin of a text, and the text behind it.
fn value<'t>(text: &'t str, of: &dyn Variables) -> Result<(String, &'t str), String> {
    let text = text.trim_start_matches([' ', '\t']);
    let no_end = "a quote has no end".to_string();
    match text.as_bytes().first() {
        Some(b'\'') => {
            let (inner, rest) = text[1..].split_once('\'').ok_or(no_end)?;
            Ok((inner.to_string(), rest))
        }
        Some(b'"') => {
            let end = quote_end(&text[1..]).ok_or(no_end)? + 1;
            let value = substitute(&unescaped(&text[1..end]), of, 0)?;
            Ok((value, &text[end + 1..]))
        }
        _ => {
            let line = text.lines().next().unwrap_or_default();
            let line = line.find(" #").map_or(line, |at| &line[..at]);
            let line = if line.starts_with('#') { "" } else { line.trim() };
            Ok((substitute(line, of, 0)?, after_line(text)))
        }
    }
}

/// Where the double quote is that ends a value.
fn quote_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|b| {
        let is_end = b == b'"' && !is_escaped;
        is_escaped = b == b'\\' && !is_escaped;
        is_end
    })
}

/// Resolves backslashes between double quotes; a dollar sign behind one stays one.
fn unescaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => result.push('\n'),
            ('\\', Some('r')) => result.push('\r'),
            ('\\', Some('t')) => result.push('\t'),
            ('\\', Some('$')) => result.push_str("$$"),
            ('\\', Some(other @ ('"' | '\\'))) => result.push(other),
            ('\\', Some(other)) => result.extend(['\\', other]),
            (c, _) => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As docker-buildx 0.29.1 reads them.
    #[test]
    fn lines_of_all_kinds() {
        let text = "A=1\nB = 2\nC=\"x\\ny $A ${A} \\$A\"\nD='x\\n$A'\nE=un quoted # comment\nF=un#quoted\n\
            export G=g\nH: colon\nI=\nJ\nK=${Z:-def}$A\nL=\"multi\nline\"\nM=a\"b\"c\nP=$$A\n# comment\n\tQ=a b  \n\
            R=\"a\\tb\\$\\\"q\"\nS=a\\nb\nT=J$\nU=\"a\" b\n";
        let of = |outer: &dyn Fn(&str) -> Option<String>| {
            let all = read(text, outer).expect("variables");
            all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|")
        };
        let expected = "A=1|B=2|C=x\ny 1 1 $A|D=x\\n$A|E=un quoted|F=un#quoted|G=g|H=colon|I=|K=def1|\
            L=multi\nline|M=a\"b\"c|P=$A|Q=a b|R=a\tb$\"q|S=a\\nb|T=J$|U=a";
        assert_eq!(of(&|_| None), expected);
        let outer = |name: &str| (name == "A").then(|| "os".to_string());
        assert!(of(&outer).contains("C=x\ny os os $A") && of(&outer).contains("K=defos"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line) in
            [("A=1\nN='it''s\n", 2), ("a b=1\n", 1), ("A=\"x\n\n", 1), ("A=${\n", 1), ("=1\n", 1)]
        {
            let error = read(text, &|_| None);
            assert!(error.as_ref().is_err_and(|error| error.0 >= line), "{text}: {error:?}");
        }
    }
}
