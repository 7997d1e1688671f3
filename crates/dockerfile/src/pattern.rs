//! File name patterns: Go's `filepath.Match`, and the same with the `**` of `.dockerignore`.
//!
//! File names are bytes. UTF-8 in them is read as characters; any other byte is a character of its own, which
//! equals only that byte.

use std::sync::atomic::{AtomicU64, Ordering};

/// A compiled pattern over `/`-separated paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

/// A Unicode scalar value, or [`BYTE`] plus a byte that is part of none.
type Character = u32;

/// Above all of Unicode.
const BYTE: Character = 0x11_0000;

const SLASH: Character = '/' as Character;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Character),
    /// `?`: one character other than `/`.
    One,
    /// `*`: any characters other than `/`.
    Star,
    /// `**`: any characters.
    DoubleStar,
    /// `**/`: nothing, or anything up to and with a `/`.
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(Character, Character)>,
    },
}

/// Longest pattern, in bytes: the kernel's `PATH_MAX`, since no longer path can be asked for.
pub const PATTERN_SIZE_MAX: usize = 4096;
/// Steps that all matching with one [`Steps`] may take, about ten seconds. A step checks one character of a
/// path at one place of a pattern.
pub const STEPS_MAX: u64 = 1_000_000_000;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An open `[` or a `\` at the end.
    #[error("syntax error in pattern \"{0}\"")]
    Syntax(String),
    /// Longer than [`PATTERN_SIZE_MAX`].
    #[error("a pattern of {0} bytes, the limit is {PATTERN_SIZE_MAX}")]
    TooLong(usize),
}

/// The steps that matching may still take.
#[derive(Debug)]
pub struct Steps(AtomicU64);

impl Default for Steps {
    fn default() -> Steps {
        Steps(AtomicU64::new(STEPS_MAX))
    }
}

impl Steps {
    /// `count` steps instead of [`STEPS_MAX`].
    pub fn new(count: u64) -> Steps {
        Steps(AtomicU64::new(count))
    }

    /// Whether no steps are left; results since then may be wrong.
    pub fn are_used_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Takes `count` steps; `false` if there were not enough.
    pub(crate) fn take(&self, count: u64) -> bool {
        let take = |left: u64| Some(left.saturating_sub(count));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        before > count
    }
}

impl Pattern {
    /// Compiles a pattern of Go's `filepath.Match`; `**` means the same as `*`.
    pub fn new(text: impl AsRef<[u8]>) -> Result<Pattern, PatternError> {
        Pattern::compile(text.as_ref(), false)
    }

    /// Compiles a pattern in which `**` matches any number of directories.
    pub fn with_double_star(text: impl AsRef<[u8]>) -> Result<Pattern, PatternError> {
        Pattern::compile(text.as_ref(), true)
    }

    /// Whether the text has characters that are special in patterns.
    pub fn is_pattern(text: impl AsRef<[u8]>) -> bool {
        text.as_ref().iter().any(|byte| b"*?[\\".contains(byte))
    }

    fn compile(text: &[u8], double_star: bool) -> Result<Pattern, PatternError> {
        if text.len() > PATTERN_SIZE_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        let error = || PatternError::Syntax(String::from_utf8_lossy(text).into_owned());
        let mut tokens = Vec::new();
        let is = |special: char| move |c: &Character| *c == special as Character;
        let mut chars = characters(text).peekable();
        while let Some(c) = chars.next() {
            tokens.push(match char::from_u32(c) {
                Some('*') if double_star && chars.next_if(is('*')).is_some() => {
                    while chars.next_if(is('*')).is_some() {}
                    match chars.next_if(is('/')) {
                        Some(_) => Token::Directories,
                        None => Token::DoubleStar,
                    }
                }
                Some('*') => Token::Star,
                Some('?') => Token::One,
                Some('\\') => Token::Literal(chars.next().ok_or_else(error)?),
                Some('[') => {
                    let negated = chars.next_if(is('^')).is_some();
                    let mut ranges = Vec::new();
                    loop {
                        if !ranges.is_empty() && chars.next_if(is(']')).is_some() {
                            break;
                        }
                        let low = bound(&mut chars).ok_or_else(error)?;
                        let high = match chars.next_if(is('-')) {
                            Some(_) => bound(&mut chars).ok_or_else(error)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    Token::Class { negated, ranges: merged(ranges) }
                }
                _ => Token::Literal(c),
            });
        }
        Ok(Pattern { tokens })
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.matches_within(path, &Steps::default())
    }

    /// Like [`Pattern::matches`], within `steps`; once none are left, the answer is `false` and means
    /// nothing.
    pub fn matches_within(&self, path: impl AsRef<[u8]>, steps: &Steps) -> bool {
        self.run(path.as_ref(), false, steps)
    }

    /// Whether `path` or a directory above it matches, with `steps` as in [`Pattern::matches_within`].
    pub fn matches_or_parent(&self, path: impl AsRef<[u8]>, steps: &Steps) -> bool {
        self.run(path.as_ref(), true, steps)
    }

    /// The text that every matching path begins with: the characters before the first special one.
    pub(crate) fn beginning(text: &[u8]) -> &[u8] {
        let special = text.iter().position(|byte| b"*?[\\".contains(byte));
        &text[..special.unwrap_or(text.len())]
    }

    /// The text that every matching path ends with: the characters after the last special one and the last
    /// `/`, since `**/` may match nothing.
    pub(crate) fn ending(text: &[u8]) -> &[u8] {
        let special = text.iter().rposition(|byte| b"*?[]\\/".contains(byte));
        &text[special.map_or(0, |at| at + 1)..]
    }

    fn run(&self, path: &[u8], or_parent: bool, steps: &Steps) -> bool {
        // The places in the pattern that the path so far can have reached. The cost is linear in pattern
        // times path for every pattern.
        let (mut reached, mut next) = (self.nowhere(), self.nowhere());
        reached.add(0);
        self.skip_optional(&mut reached, None);
        // Starting costs as much as some steps.
        let mut taken = 32;
        let mut matched = false;
        for c in characters(path) {
            let Some((low, high)) = reached.range() else { break };
            if or_parent && c == SLASH && reached.has(self.tokens.len()) {
                matched = true;
                break;
            }
            taken += (high - low + 1) as u64;
            next.clear();
            for i in low..(high + 1).min(self.tokens.len()) {
                if reached.has(i) {
                    self.tokens[i].step(i, c, &mut next);
                }
            }
            self.skip_optional(&mut next, Some(c));
            std::mem::swap(&mut reached, &mut next);
        }
        let matched = matched || reached.has(self.tokens.len());
        steps.take(taken) && matched
    }

    fn nowhere(&self) -> Places {
        Places { is: vec![false; self.tokens.len() + 1], low: usize::MAX, high: 0 }
    }

    /// Steps over tokens that may match nothing, after `c` or at the start of a path. A `**/` that has begun
    /// to take characters must take a `/`. A `**/` that was just reached may take none; it was just reached
    /// exactly if it did not take `c`.
    fn skip_optional(&self, reached: &mut Places, c: Option<Character>) {
        let Some((low, _)) = reached.range() else { return };
        let mut i = low;
        // The upper end moves while tokens are skipped.
        while i <= reached.high && i < self.tokens.len() {
            let may_skip = match &self.tokens[i] {
                Token::Star | Token::DoubleStar => true,
                Token::Directories => {
                    c.is_none_or(|c| c == SLASH)
                        || (i > 0
                            && reached.has(i)
                            && matches!(self.tokens[i - 1], Token::Star | Token::DoubleStar))
                }
                _ => false,
            };
            if may_skip && reached.has(i) {
                reached.add(i + 1);
            }
            i += 1;
        }
    }
}

/// A set of places in a pattern; all are in `low..=high`.
struct Places {
    is: Vec<bool>,
    low: usize,
    high: usize,
}

impl Places {
    fn add(&mut self, place: usize) {
        self.is[place] = true;
        self.low = self.low.min(place);
        self.high = self.high.max(place);
    }

    fn has(&self, place: usize) -> bool {
        self.is[place]
    }

    /// The ends of the set, `None` if it is empty.
    fn range(&self) -> Option<(usize, usize)> {
        (self.low <= self.high).then_some((self.low, self.high))
    }

    fn clear(&mut self) {
        if let Some((low, high)) = self.range() {
            self.is[low..=high].fill(false);
        }
        (self.low, self.high) = (usize::MAX, 0);
    }
}

impl Token {
    /// Adds the places that follow from place `i` of this token and the character `c`.
    fn step(&self, i: usize, c: Character, next: &mut Places) {
        match self {
            Token::Literal(expected) if c == *expected => next.add(i + 1),
            Token::One if c != SLASH => next.add(i + 1),
            Token::Star if c != SLASH => next.add(i),
            Token::DoubleStar => next.add(i),
            // Takes any character; the pattern may go on only after a `/`.
            Token::Directories => {
                next.add(i);
                if c == SLASH {
                    next.add(i + 1);
                }
            }
            Token::Class { negated, ranges } if c != SLASH => {
                let at = ranges.partition_point(|(low, _)| *low <= c);
                let inside = at > 0 && c <= ranges[at - 1].1;
                if inside != *negated {
                    next.add(i + 1);
                }
            }
            _ => {}
        }
    }
}

/// The ranges sorted, without overlaps and empty ranges, so that one look-up finds a character's range.
fn merged(mut ranges: Vec<(Character, Character)>) -> Vec<(Character, Character)> {
    ranges.retain(|(low, high)| low <= high);
    ranges.sort_unstable();
    let mut all: Vec<(Character, Character)> = Vec::new();
    for (low, high) in ranges {
        match all.last_mut() {
            Some(last) if low <= last.1 => last.1 = last.1.max(high),
            _ => all.push((low, high)),
        }
    }
    all
}

/// One end of a range in a class.
fn bound(characters: &mut impl Iterator<Item = Character>) -> Option<Character> {
    let c = characters.next()?;
    match char::from_u32(c) {
        Some('-' | ']') => None,
        Some('\\') => characters.next(),
        _ => Some(c),
    }
}

/// The characters of a file name.
fn characters(name: &[u8]) -> impl Iterator<Item = Character> {
    name.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|c| c as Character);
        valid.chain(chunk.invalid().iter().map(|byte| BYTE + Character::from(*byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, double_star: bool, path: &str, expect: bool) {
        let compiled = Pattern::compile(pattern.as_bytes(), double_star).expect(pattern);
        assert_eq!(compiled.matches(path), expect, "{pattern} on {path}");
    }

    #[test]
    fn go_patterns() {
        for (pattern, path, expect) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a/b", false),
            ("a???b", "a☺b", false),
            ("a[^a]b", "a☺b", true),
            ("[\\]a]", "]", true),
            ("**", "a/b", false),
        ] {
            check(pattern, false, path, expect);
        }
        for bad in ["[", "[^", "[a", "[]a]", "[-]", "[x-]", "a\\"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn double_stars() {
        for (pattern, path, expect) in [
            ("**", "a/b", true),
            ("**/b", "b", true),
            ("**/b", "a/b", true),
            ("**/b", "ab", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("a/**", "a/b/c", true),
            ("a/**", "b", false),
            ("**/*.go", "x/y.go", true),
            ("**/*.go", "y.go", true),
            ("**/*.go", "x/y.goo", false),
            ("**/", "a/", true),
        ] {
            check(pattern, true, path, expect);
        }
    }

    #[test]
    fn bytes_that_are_no_characters_are_themselves() {
        let matches =
            |pattern: &[u8], path: &[u8]| Pattern::with_double_star(pattern).expect("valid").matches(path);
        assert!(matches(b"caf\xe9", b"caf\xe9") && !matches(b"caf\xe9", b"caf\xe8"));
        assert!(!matches(b"caf\xe9", "caf\u{e9}".as_bytes()) && !matches("\u{fffd}".as_bytes(), b"\xe9"));
        assert!(matches(b"caf?", b"caf\xe9") && matches(b"**/*.\xff", b"a/\xfe/b.\xff"));
        assert!(matches(b"[\xe0-\xef]", b"\xe9") && !matches(b"[^\xe9]", b"\xe9"));
        // A character that was cut off.
        assert!(matches(b"??", b"\xe2\x98") && !matches(b"?", b"\xe2\x98"));
    }

    #[test]
    fn long_patterns_stay_quick() {
        check(&"*a".repeat(200), false, &"a".repeat(5000), true);
        check(&format!("{}b", "*a".repeat(200)), false, &"a".repeat(5000), false);
    }

    #[test]
    fn patterns_have_limits() {
        let error = Pattern::new("a".repeat(5000)).expect_err("too long").to_string();
        assert_eq!(error, "a pattern of 5000 bytes, the limit is 4096");
        let steps = Steps::new(100_000);
        let pattern = Pattern::new("*a".repeat(1000)).expect("valid");
        assert!(pattern.matches("a".repeat(1000)));
        assert!(!pattern.matches_within("a".repeat(1000), &steps) && steps.are_used_up());
        assert!(!Pattern::new("a").expect("valid").matches_within("a", &steps));
    }

    #[test]
    fn parents_match_in_one_go() {
        for (pattern, path, expect) in [
            ("a/b", "a/b/c/d", true),
            ("a/b", "a/bc/d", false),
            ("**/b", "x/b/y", true),
            ("*", "x/b/y", true),
            ("x/*", "x/b/y", true),
            ("x/*/z", "x/b/y", false),
        ] {
            let compiled = Pattern::with_double_star(pattern).expect("valid");
            assert_eq!(compiled.matches_or_parent(path, &Steps::default()), expect, "{pattern} on {path}");
        }
    }
}
