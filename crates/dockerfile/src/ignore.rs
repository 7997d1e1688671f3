//! `.dockerignore` files, as moby's `patternmatcher` reads them.

use crate::error::{Error, Lines};
use crate::pattern::Pattern;

/// The rules of one ignore file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    /// `!pattern`: a match includes the file again.
    include: bool,
}

impl Ignore {
    /// Reads an ignore file; errors name the line.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Ignore, Error> {
        let text = text.as_ref();
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut rules = Vec::new();
        for (i, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let at = Lines { start: i + 1, end: i + 1 };
            let trimmed = trim(line);
            if line.starts_with(b"#") || trimmed.is_empty() {
                continue;
            }
            rules.push(rule(trimmed).map_err(|message| Error::new(message, at))?);
        }
        Ok(Ignore { rules })
    }

    /// Rules from single patterns, as `--exclude` of COPY gives them.
    pub fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Ignore, String> {
        Ok(Ignore { rules: patterns.into_iter().map(|p| rule(p.as_bytes())).collect::<Result<_, _>>()? })
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path` (relative, `/`-separated, without `.` and `..`) is left out: the last rule that matches it or
    /// one of its parents decides.
    pub fn excludes(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let mut excluded = false;
        for rule in &self.rules {
            if rule.include == excluded && matches_or_parent(&rule.pattern, path) {
                excluded = !rule.include;
            }
        }
        excluded
    }

    /// Whether directories that are left out must still be entered, because a rule may include something in them.
    pub fn may_include_again(&self) -> bool {
        self.rules.iter().any(|rule| rule.include)
    }
}

fn rule(text: &[u8]) -> Result<Rule, String> {
    let (include, pattern) = match text.strip_prefix(b"!") {
        Some(rest) => (true, trim(rest)),
        None => (false, text),
    };
    if pattern.is_empty() {
        return Err(format!("illegal exclusion pattern: \"{}\"", String::from_utf8_lossy(text)));
    }
    let mut clean = &clean_bytes(pattern)[..];
    if clean.len() > 1 {
        clean = clean.strip_prefix(b"/").unwrap_or(clean);
    }
    let pattern = Pattern::with_double_star(clean).map_err(|e| e.to_string())?;
    Ok(Rule { pattern, include })
}

/// Without blanks at both ends, those of Unicode where the line is text.
fn trim(line: &[u8]) -> &[u8] {
    std::str::from_utf8(line).map_or(line.trim_ascii(), |text| text.trim().as_bytes())
}

fn matches_or_parent(pattern: &Pattern, path: &[u8]) -> bool {
    let parents = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(i, _)| &path[..i]);
    pattern.matches(path) || parents.into_iter().any(|parent| pattern.matches(parent))
}

/// The path with `.`, `..` and repeated slashes resolved, as Go's `path.Clean` does.
pub fn clean(path: &str) -> String {
    String::from_utf8(clean_bytes(path.as_bytes())).expect("only whole parts between slashes were taken out")
}

/// The same of a path that need not be UTF-8.
pub fn clean_bytes(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|p| *p != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, path: &str, expect: bool) {
        assert_eq!(Ignore::parse(rules).expect(rules).excludes(path), expect, "{rules:?} on {path}");
    }

    #[test]
    fn the_last_match_wins() {
        check("*.md\n!README.md", "README.md", false);
        check("*.md\n!README.md", "x.md", true);
        check("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true);
        check("*.md", "a/x.md", false);
        check("**/*.md", "a/x.md", true);
        check("/a/", "a/b/c", true);
        check("a\n!a/keep", "a/keep", false);
        check("a\n!a/keep", "a/other", true);
        check("#a\n  b  \n", "b", true);
        check("#a", "#a", false);
        check(" #a", "#a", true);
        check("*\n!src", "src/main.c", false);
        check("a/../b", "b", true);
        check("node_modules", "x/node_modules", false);
        check(".", "x", false);
    }

    #[test]
    fn names_need_not_be_text() {
        let rules = Ignore::parse(b"caf\xe9\r\n*.\xff\n!keep.\xff \n").expect("valid");
        assert!(rules.excludes(b"caf\xe9/x") && !rules.excludes(b"caf\xe8/x"));
        assert!(rules.excludes(b"\xfe.\xff") && !rules.excludes(b"keep.\xff"));
    }

    #[test]
    fn mistakes_name_the_line() {
        assert_eq!(Ignore::parse("a\n!\n").expect_err("a lone !").lines.start, 2);
        assert_eq!(Ignore::parse("[\n").expect_err("an open class").lines.start, 1);
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expect) in
            [("", "."), ("/", "/"), ("a//b/./c/..", "a/b"), ("../a", "../a"), ("/../a", "/a"), ("a/..", ".")]
        {
            assert_eq!(clean(path), expect, "{path}");
        }
    }
}
