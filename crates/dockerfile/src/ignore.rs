//! `.dockerignore` files, as moby's `patternmatcher` reads them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Lines};
use crate::pattern::{Pattern, Steps};

/// Ignore files larger than this, in bytes, are refused.
pub const SIZE_MAX: usize = 16 * 1024 * 1024;

/// The rules of one ignore file.
///
/// Looking up a path tries few rules: plain paths are found by hash; of many patterns, only those that begin
/// and end like the path are tried. The search goes backwards, since the last match decides.
#[derive(Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    /// The last rule of each plain path.
    plain: HashMap<Vec<u8>, usize>,
    /// The rules with special characters.
    patterns: Vec<usize>,
    /// `patterns` by the plain directory they begin with and the plain bytes they end with, see [`group`].
    groups: HashMap<Vec<u8>, Vec<usize>>,
    steps: Arc<Steps>,
}

/// Up to this many patterns are tried one by one, which is quicker than looking up their groups.
const FEW: usize = 32;
/// Longest ending that groups patterns, in bytes.
const ENDING_SIZE_MAX: usize = 4;

/// The key of a group: a directory and an ending, each possibly empty, separated by a byte that no path
/// contains.
fn group(key: &mut Vec<u8>, directory: &[u8], ending: &[u8]) {
    key.clear();
    key.extend_from_slice(directory);
    key.push(0);
    key.extend_from_slice(ending);
}

/// Prints only the rules: cache keys are made from this.
impl fmt::Debug for Ignore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ignore").field("rules", &self.rules).finish()
    }
}

impl PartialEq for Ignore {
    fn eq(&self, other: &Ignore) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Ignore {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    text: Vec<u8>,
    /// `None` for a plain path.
    pattern: Option<Pattern>,
    /// `!pattern`: a match includes the file again.
    include: bool,
}

impl Ignore {
    /// Reads an ignore file; errors name the line.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Ignore, Error> {
        let text = text.as_ref();
        if text.len() > SIZE_MAX {
            let message = format!("the ignore file is {} bytes long, the limit is {SIZE_MAX}", text.len());
            return Err(Error::new(message, Lines::default()));
        }
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut ignore = Ignore::default();
        for (i, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let at = Lines { start: i + 1, end: i + 1 };
            let trimmed = trim(line);
            if line.starts_with(b"#") || trimmed.is_empty() {
                continue;
            }
            ignore.add(rule(trimmed).map_err(|message| Error::new(message, at))?);
        }
        Ok(ignore)
    }

    /// Rules from single patterns, as `--exclude` of COPY gives them.
    pub fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Ignore, String> {
        let mut ignore = Ignore::default();
        for pattern in patterns {
            ignore.add(rule(pattern.as_bytes())?);
        }
        Ok(ignore)
    }

    fn add(&mut self, rule: Rule) {
        let number = self.rules.len();
        if rule.pattern.is_none() {
            self.plain.insert(rule.text.clone(), number);
        } else {
            let beginning = Pattern::beginning(&rule.text);
            let directory =
                beginning.iter().position(|byte| *byte == b'/').map_or(&[][..], |at| &beginning[..at]);
            let ending = Pattern::ending(&rule.text);
            let ending = &ending[ending.len().saturating_sub(ENDING_SIZE_MAX)..];
            let mut key = Vec::new();
            group(&mut key, directory, ending);
            self.groups.entry(key).or_default().push(number);
            self.patterns.push(number);
        }
        self.rules.push(rule);
    }

    /// The rules as text, in their order; `!` begins one that includes files again. Bytes that are not UTF-8
    /// are replaced.
    pub fn patterns(&self) -> Vec<String> {
        let text = |rule: &Rule| {
            let text = String::from_utf8_lossy(&rule.text);
            if rule.include { format!("!{text}") } else { text.into_owned() }
        };
        self.rules.iter().map(text).collect()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path` (relative, `/`-separated, without `.` and `..`) is left out: the last rule that matches
    /// it or one of its parents decides. The answer means nothing once [`Ignore::is_exhausted`] is true.
    pub fn excludes(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let parents = || path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(i, _)| &path[..i]);
        let mut last = None;
        if !self.plain.is_empty() {
            last = parents().chain([path]).filter_map(|path| self.plain.get(path).copied()).max();
        }
        if self.patterns.len() <= FEW {
            last = self.last_match(&self.patterns, last, path);
        } else {
            let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
            let mut key = Vec::new();
            for directory in [first, b""] {
                for path_or_parent in parents().chain([path]) {
                    for length in 1..=ENDING_SIZE_MAX.min(path_or_parent.len()) {
                        group(&mut key, directory, &path_or_parent[path_or_parent.len() - length..]);
                        last = self.last_match_of(&key, last, path);
                    }
                }
                group(&mut key, directory, b"");
                last = self.last_match_of(&key, last, path);
            }
        }
        last.is_some_and(|rule| !self.rules[rule].include)
    }

    fn last_match_of(&self, key: &[u8], last: Option<usize>, path: &[u8]) -> Option<usize> {
        self.groups.get(key).map_or(last, |rules| self.last_match(rules, last, path))
    }

    /// The last of these rules that matches the path or a parent and comes after `last`; if none does,
    /// `last`.
    fn last_match(&self, rules: &[usize], last: Option<usize>, path: &[u8]) -> Option<usize> {
        let mut later = rules.iter().rev().copied().take_while(|rule| last.is_none_or(|last| *rule > last));
        later.find(|rule| self.matches(*rule, path)).or(last)
    }

    fn matches(&self, rule: usize, path: &[u8]) -> bool {
        let pattern = self.rules[rule].pattern.as_ref();
        pattern.is_some_and(|pattern| pattern.matches_or_parent(path, &self.steps))
    }

    /// Whether the rules have taken more steps than they may, [`crate::pattern::STEPS_MAX`] for all paths
    /// together.
    pub fn is_exhausted(&self) -> bool {
        self.steps.are_used_up()
    }

    /// The same rules with a budget of `steps` steps.
    pub fn with_steps(self, steps: u64) -> Ignore {
        Ignore { steps: Arc::new(Steps::new(steps)), ..self }
    }

    /// Whether directories that are left out must still be entered, because a rule may include something in
    /// them.
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
    let pattern = Some(pattern).filter(|_| Pattern::is_pattern(clean));
    Ok(Rule { text: clean.to_vec(), pattern, include })
}

/// The line without blanks at both ends; Unicode's blanks if the line is UTF-8.
fn trim(line: &[u8]) -> &[u8] {
    std::str::from_utf8(line).map_or(line.trim_ascii(), |text| text.trim().as_bytes())
}

/// The path with `.`, `..` and repeated slashes resolved, as Go's `path.Clean` does.
pub fn clean(path: &str) -> String {
    String::from_utf8(clean_bytes(path.as_bytes())).expect("only whole parts between slashes were taken out")
}

/// Like [`clean`], for a path that need not be UTF-8.
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

    #[test]
    fn plain_rules_and_patterns_keep_their_order() {
        check("a/b\n!a/*\na/b/c", "a/b", false);
        check("a/b\n!a/*\na/b/c", "a/b/c", true);
        check("a/b\n!a/*\na/b/c", "a/b/d", false);
        check("!a/*\na", "a/b", true);
        check("a/*\n!*/b\na/b*", "a/bx", true);
        check("a/*\n!*/b\na/c*", "a/b", false);
    }

    #[test]
    fn many_rules_on_many_paths() {
        let rule = |i: u32| format!("dir{i}/file\ndir{i}/*.o\n*z{i}\n**/y{i}\n");
        let rules: String = (0..5000).map(rule).collect();
        let ignore = Ignore::parse(rules).expect("valid");
        for (path, expect) in [
            ("az7", true),
            ("az7/b", true),
            ("a/z7", false),
            ("a/y4999", true),
            ("y7", true),
            ("y", false),
            ("a/y7/b", true),
            ("ay7", false),
            ("z5000", false),
            ("dir7/x/y.o", false),
            ("dir7/x.o", true),
        ] {
            assert_eq!(ignore.excludes(path), expect, "{path}");
        }
        let excluded =
            (0..5000).filter(|i| ignore.excludes(format!("dir{i}/x.{}", if i % 2 == 0 { "o" } else { "c" })));
        assert_eq!(excluded.count(), 2500);
        assert!(!ignore.is_exhausted());
    }

    #[test]
    fn rules_that_cost_too_much_are_noticed() {
        let ignore = Ignore::parse("*a*a*a*a*b*\n".repeat(1000)).expect("valid").with_steps(1_000_000);
        assert!(!ignore.is_exhausted());
        assert!((0..100).all(|_| !ignore.excludes("a".repeat(100))));
        assert!(ignore.is_exhausted());
        let long = Ignore::parse(format!("a\n{}*\n", "b".repeat(5000))).expect_err("too long");
        assert!(long.lines.start == 2 && long.message.contains("the limit is 4096"), "{long}");
    }
}
