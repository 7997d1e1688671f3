//! Variable expansion and word splitting of Dockerfile words, as BuildKit's shell lexer does them: a small
//! part of the POSIX shell language (chapter 2.6), with bash's `${v/p/r}`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest word that variables may make, in bytes. Linux takes no argument and no environment entry of more
/// than 128 KiB (`MAX_ARG_STRLEN`, execve(2)); labels may be longer, and an image's configuration has room
/// for several words of this length.
pub const WORD_SIZE_MAX: usize = 1024 * 1024;
/// Bytes of values that all expansions of one build, or of one check, may look up and produce in total.
pub const EXPANDED_SIZE_MAX: usize = 128 * 1024 * 1024;
/// Steps that patterns such as `${v//p/r}` may take in one whole build, about two seconds. A step checks one
/// character of a value at one place of a pattern.
pub const PATTERN_STEPS_MAX: usize = 1_000_000_000;

/// What all expansions of one build may still cost.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    steps: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { bytes: AtomicUsize::new(EXPANDED_SIZE_MAX), steps: AtomicUsize::new(PATTERN_STEPS_MAX) }
    }
}

impl Budget {
    /// Takes steps of patterns; `None` if too few are left.
    fn steps(&self, count: usize) -> Option<()> {
        take(&self.steps, count)
    }

    fn bytes(&self, count: usize) -> Option<()> {
        take(&self.bytes, count)
    }
}

fn take(left: &AtomicUsize, count: usize) -> Option<()> {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count)).ok().map(drop)
}

/// Values of variables by name.
pub trait Variables {
    /// The value, `None` if unset.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    /// The escape character: `\` or a backtick.
    pub escape: char,
    /// Keep quotes in the result and do not let them protect anything but words.
    pub raw_quotes: bool,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Leave references to unset variables as they are written.
    pub skip_unset: bool,
    /// Longest result, in bytes.
    pub size_max: usize,
}

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShellError {
    /// No closing quote.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    UnclosedQuote(&'static str),
    /// `${` without `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${}`, `${{x}` or `${:x}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// A modifier that the language does not have, such as `:=`.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${v:?message}` of an unset or empty variable.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message given, or a default.
        message: String,
    },
    /// The word would become too long.
    #[error("${{{name}}} makes this word {size} bytes long or longer, the limit is {limit}")]
    TooLarge {
        /// The variable that made it so long.
        name: String,
        /// Bytes that it would have at least.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// All words of the build together became too long.
    #[error(
        "${{{name}}} takes the text that variables make in this build over the limit of {EXPANDED_SIZE_MAX} bytes"
    )]
    TooMuch {
        /// The variable that was expanded last.
        name: String,
    },
    /// A `\` in a pattern that protects nothing.
    #[error(
        "invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}' (only *, ?, \\, /, }} can be escaped)"
    )]
    InvalidEscape {
        /// The pattern.
        pattern: String,
        /// What follows the backslash; nothing at the end.
        escaped: String,
    },
    /// The patterns of the build cost too much.
    #[error(
        "the pattern of ${{{name}}}, {pattern} bytes on a value of {value}, takes the patterns of this build over the limit of {PATTERN_STEPS_MAX} steps"
    )]
    PatternSteps {
        /// The variable.
        name: String,
        /// Length of the pattern, in bytes.
        pattern: usize,
        /// Length of the value, in bytes.
        value: usize,
    },
}

/// What a word became, and which variables it named that were not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole text.
    pub text: String,
    /// The text split at unquoted white space.
    pub words: Vec<String>,
    /// Names that were used unset and without a default.
    pub unset: BTreeSet<String>,
    /// All names that were used unset, including those with a default (`${v:-default}`).
    pub unknown: BTreeSet<String>,
}

impl Lexer {
    /// The lexer of ordinary instructions with the given escape character.
    pub fn new(escape: char) -> Lexer {
        Lexer { escape, raw_quotes: false, raw_escapes: false, skip_unset: false, size_max: WORD_SIZE_MAX }
    }

    /// Expands the variables in `word` and removes quotes and escapes.
    ///
    /// A word without variables may have any length. The text that variables produce is taken from `budget`.
    pub fn expand(
        &self,
        word: &str,
        variables: &dyn Variables,
        budget: &Budget,
    ) -> Result<Expanded, ShellError> {
        let mut walk = Walk {
            chars: word.chars().collect(),
            at: 0,
            lexer: *self,
            variables,
            budget,
            unset: BTreeSet::new(),
            unknown: BTreeSet::new(),
            depth: 0,
        };
        let (text, words) = walk.until(None, self.raw_escapes)?;
        Ok(Expanded { text, words, unset: walk.unset, unknown: walk.unknown })
    }
}

/// Nesting of `${a:-${b:-...}}` beyond this is refused rather than risking the stack.
const DEPTH_MAX: usize = 64;

struct Walk<'a> {
    chars: Vec<char>,
    at: usize,
    lexer: Lexer,
    variables: &'a dyn Variables,
    budget: &'a Budget,
    unset: BTreeSet<String>,
    unknown: BTreeSet<String>,
    depth: usize,
}

/// Collects words. A word begins with any text, quoted or not, even empty quotes, and ends at unquoted white
/// space.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    current: String,
    in_word: bool,
}

impl Words {
    fn split_char(&mut self, c: char) {
        if c.is_whitespace() {
            if self.in_word {
                self.words.push(std::mem::take(&mut self.current));
                self.in_word = false;
            }
        } else {
            self.keep_char(c);
        }
    }

    fn keep_char(&mut self, c: char) {
        self.current.push(c);
        self.in_word = true;
    }

    fn keep(&mut self, text: &str) {
        self.current.push_str(text);
        self.in_word = true;
    }

    fn split(&mut self, text: &str) {
        text.chars().for_each(|c| self.split_char(c));
    }

    fn finish(mut self) -> Vec<String> {
        if self.in_word {
            self.words.push(self.current);
        }
        self.words
    }
}

impl Walk<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// Expands up to `stop`, which is consumed, or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), ShellError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                return Ok((text, words.finish()));
            }
            match c {
                '\'' | '"' => {
                    let quoted =
                        if c == '\'' { self.single_quoted()? } else { self.double_quoted(text.len())? };
                    text.push_str(&quoted);
                    words.keep(&quoted);
                }
                '$' => {
                    let value = self.dollar(text.len())?;
                    text.push_str(&value);
                    words.split(&value);
                }
                _ if c == self.lexer.escape => {
                    self.at += 1;
                    if raw_escapes {
                        text.push(c);
                        words.keep_char(c);
                    }
                    let Some(escaped) = self.next() else { break };
                    text.push(escaped);
                    words.keep_char(escaped);
                }
                _ => {
                    self.at += 1;
                    text.push(c);
                    words.split_char(c);
                }
            }
        }
        match stop {
            Some(_) => Err(ShellError::MissingBrace),
            None => Ok((text, words.finish())),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ShellError> {
        let mut text = String::new();
        let quote = self.next().expect("called at a quote");
        if self.lexer.raw_quotes {
            text.push(quote);
        }
        loop {
            match self.next() {
                None => return Err(ShellError::UnclosedQuote("single")),
                Some('\'') => break,
                Some(c) => text.push(c),
            }
        }
        if self.lexer.raw_quotes {
            text.push(quote);
        }
        Ok(text)
    }

    /// `before` is the length of the text before the quote, in bytes.
    fn double_quoted(&mut self, before: usize) -> Result<String, ShellError> {
        let mut text = String::new();
        let quote = self.next().expect("called at a quote");
        if self.lexer.raw_quotes {
            text.push(quote);
        }
        loop {
            match self.peek() {
                None => return Err(ShellError::UnclosedQuote("double")),
                Some('"') => {
                    self.at += 1;
                    break;
                }
                Some('$') => {
                    let value = self.dollar(before + text.len())?;
                    text.push_str(&value);
                }
                Some(c) if c == self.lexer.escape => {
                    self.at += 1;
                    let Some(escaped) = self.next() else { return Err(ShellError::UnclosedQuote("double")) };
                    let special = escaped == '"' || escaped == '$' || escaped == self.lexer.escape;
                    if !special || self.lexer.raw_escapes {
                        text.push(c);
                    }
                    text.push(escaped);
                }
                Some(c) => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
        if self.lexer.raw_quotes {
            text.push(quote);
        }
        Ok(text)
    }

    /// The value of a reference; `before` is the length of the text that it is added to, in bytes.
    fn dollar(&mut self, before: usize) -> Result<String, ShellError> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_string());
            }
            let value = match self.value(&name, true)? {
                Some(value) => value,
                None if self.lexer.skip_unset => format!("${name}"),
                None => String::new(),
            };
            return self.counted(&name, value, before);
        }
        self.at += 1;
        match self.peek() {
            None => return Err(ShellError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ShellError::BadSubstitution),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ShellError::BadSubstitution);
        }
        let start = self.at;
        let value = self.braced();
        self.depth -= 1;
        let name: String = self.chars[start..].iter().take_while(|c| is_name(**c)).take(100).collect();
        self.counted(&name, value?, before)
    }

    /// The value, if there is room for it in the word and in the budget.
    fn counted(&self, name: &str, value: String, before: usize) -> Result<String, ShellError> {
        let (size, limit) = (before + value.len(), self.lexer.size_max);
        if size > limit {
            return Err(ShellError::TooLarge { name: shortened(name), size, limit });
        }
        match self.budget.bytes(value.len()) {
            Some(()) => Ok(value),
            None => Err(ShellError::TooMuch { name: shortened(name) }),
        }
    }

    /// The inside of `${...}`, from the name to the closing brace.
    fn braced(&mut self) -> Result<String, ShellError> {
        let start = self.at;
        let name = self.name();
        let Some(mut modifier) = self.next() else { return Err(ShellError::MissingBrace) };
        if name.is_empty() {
            return Err(ShellError::BadSubstitution);
        }
        let null_is_unset = modifier == ':';
        if null_is_unset {
            modifier = self.next().ok_or(ShellError::MissingBrace)?;
        }
        match modifier {
            '}' if !null_is_unset => Ok(match self.value(&name, true)? {
                Some(value) => value,
                None if self.lexer.skip_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            '-' | '+' | '?' => {
                let (word, _) = self.until(Some('}'), false)?;
                let value = self.value(&name, false)?;
                if value.is_none() && self.lexer.skip_unset {
                    return Ok(self.written(start));
                }
                let value_or_unset = value.clone().filter(|v| !(null_is_unset && v.is_empty()));
                match modifier {
                    '-' => Ok(value_or_unset.unwrap_or(word)),
                    '+' => Ok(if value_or_unset.is_some() { word } else { String::new() }),
                    _ => value_or_unset.ok_or_else(|| {
                        let default = if value.is_some() {
                            "is not allowed to be empty"
                        } else {
                            "is not allowed to be unset"
                        };
                        let message = if word.is_empty() { default.to_string() } else { word };
                        ShellError::Required { name, message }
                    }),
                }
            }
            '#' | '%' if !null_is_unset => {
                let (word, _) = self.until(Some('}'), true)?;
                let value = self.value(&name, true)?;
                if value.is_none() && self.lexer.skip_unset {
                    return Ok(self.written(start));
                }
                let value = value.unwrap_or_default();
                let (pattern, longest) = match word.strip_prefix(modifier) {
                    Some(rest) => (rest, true),
                    None => (word.as_str(), false),
                };
                trim(&value, Glob::new(pattern)?, modifier == '#', longest, self.budget)
                    .ok_or_else(|| pattern_steps(&name, pattern, &value))
            }
            '/' if !null_is_unset => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let (pattern, _) = self.until(Some('/'), true)?;
                // Unlike a shell, BuildKit keeps the escape characters of the replacement.
                let (replacement, _) = self.until(Some('}'), true)?;
                let value = self.value(&name, true)?;
                if value.is_none() && self.lexer.skip_unset {
                    return Ok(self.written(start));
                }
                let value = value.unwrap_or_default();
                let limit = self.lexer.size_max;
                let glob = Glob::new(&pattern)?;
                replace(&value, &glob, &replacement, all, limit, self.budget).map_err(|excess| match excess {
                    Excess::Steps => pattern_steps(&name, &pattern, &value),
                    Excess::Size(size) => ShellError::TooLarge { name: shortened(&name), size, limit },
                })
            }
            _ => {
                let shown = if null_is_unset { format!(":{modifier}") } else { modifier.to_string() };
                Err(ShellError::UnsupportedModifier(shown))
            }
        }
    }

    /// A substitution as it stood in the source, from the name at `start`.
    fn written(&self, start: usize) -> String {
        let inside: String = self.chars[start..self.at].iter().collect();
        format!("${{{inside}")
    }

    /// A variable's name: letters, digits and `_`; or only digits; or one special parameter; or nothing.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_ascii_digit() => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                }
            }
            Some(c) if c == '_' || c.is_alphabetic() => {
                while self.peek().is_some_and(is_name) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {}
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str, note_unset: bool) -> Result<Option<String>, ShellError> {
        let value = self.variables.get(name);
        match &value {
            // Even an unused value was copied.
            Some(value) => match self.budget.bytes(value.len()) {
                Some(()) => {}
                None => return Err(ShellError::TooMuch { name: shortened(name) }),
            },
            None => {
                self.unknown.insert(name.to_string());
                if note_unset {
                    self.unset.insert(name.to_string());
                }
            }
        }
        Ok(value)
    }
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// A name for messages.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}

fn pattern_steps(name: &str, pattern: &str, value: &str) -> ShellError {
    ShellError::PatternSteps { name: shortened(name), pattern: pattern.len(), value: value.len() }
}

/// `${v#p}` and its relatives; `None` if the pattern took too many steps.
fn trim(value: &str, mut glob: Glob, prefix: bool, longest: bool, budget: &Budget) -> Option<String> {
    let mut characters: Vec<char> = value.chars().collect();
    if !prefix {
        characters.reverse();
        glob.tokens.reverse();
    }
    let length = glob.prefix(&characters, longest, budget)?.unwrap_or(0);
    let mut rest = characters.split_off(length);
    if !prefix {
        rest.reverse();
    }
    Some(rest.into_iter().collect())
}

/// `${v/p/r}` and `${v//p/r}`: the longest match at the earliest place. Fails if the pattern took too many
/// steps or the result would be longer than `size_max` bytes.
fn replace(
    value: &str,
    glob: &Glob,
    replacement: &str,
    all: bool,
    size_max: usize,
    budget: &Budget,
) -> Result<String, Excess> {
    let characters: Vec<char> = value.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < characters.len() {
        let Some((start, end)) = glob.find(&characters[at..], budget).ok_or(Excess::Steps)? else { break };
        out.extend(&characters[at..at + start]);
        out.push_str(replacement);
        if out.len() > size_max {
            return Err(Excess::Size(out.len()));
        }
        at += end;
        if !all {
            break;
        }
    }
    out.extend(&characters[at..]);
    Ok(out)
}

/// What exceeded its limit.
enum Excess {
    Steps,
    /// Least size of the result in bytes.
    Size(usize),
}

/// A shell pattern of `*`, `?` and escaped characters; `*` also matches `/`.
struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Copy)]
enum Token {
    Star,
    Any,
    Literal(char),
}

/// No match has reached the place.
const DEAD: usize = usize::MAX;

/// The state of matching: for each place in the pattern, the earliest start of a match that has reached it,
/// or [`DEAD`]. Only places in `low..=high` can be alive, so a pattern without stars costs only the places it
/// checks.
struct Places {
    start: Vec<usize>,
    low: usize,
    high: usize,
}

impl Places {
    fn alive(&self) -> &[usize] {
        &self.start[self.low..=self.high]
    }
}

impl Glob {
    /// Reads a pattern. A backslash protects `*`, `?` and itself; `/` and `}` have one for the substitution's
    /// sake; before anything else it is an error, as in BuildKit.
    fn new(pattern: &str) -> Result<Glob, ShellError> {
        let mut tokens = Vec::new();
        let mut characters = pattern.chars();
        while let Some(c) = characters.next() {
            tokens.push(match c {
                // Several stars are one.
                '*' if matches!(tokens.last(), Some(Token::Star)) => continue,
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    Some(c @ ('*' | '?' | '\\' | '/' | '}')) => Token::Literal(c),
                    other => {
                        let escaped = other.map(String::from).unwrap_or_default();
                        return Err(ShellError::InvalidEscape { pattern: shortened(pattern), escaped });
                    }
                },
                c => Token::Literal(c),
            });
        }
        Ok(Glob { tokens })
    }

    fn nowhere(&self) -> Places {
        Places { start: vec![DEAD; self.tokens.len() + 1], low: DEAD, high: 0 }
    }

    /// Records that a match begun at `start` has reached place `at`, and the place after a star there, which
    /// may match nothing.
    fn reach(&self, places: &mut Places, mut at: usize, start: usize) {
        loop {
            places.start[at] = places.start[at].min(start);
            places.low = places.low.min(at);
            places.high = places.high.max(at);
            match self.tokens.get(at) {
                Some(Token::Star) => at += 1,
                _ => return,
            }
        }
    }

    /// Moves all live places of `from` over the character `c` to `to`, which is emptied first.
    fn step(&self, from: &Places, to: &mut Places, c: char) {
        if to.low <= to.high {
            to.start[to.low..=to.high].fill(DEAD);
        }
        (to.low, to.high) = (DEAD, 0);
        for at in from.low..(from.high + 1).min(self.tokens.len()) {
            let start = from.start[at];
            if start == DEAD {
                continue;
            }
            match self.tokens[at] {
                Token::Star => self.reach(to, at, start),
                Token::Any => self.reach(to, at + 1, start),
                Token::Literal(expected) if expected == c => self.reach(to, at + 1, start),
                Token::Literal(_) => {}
            }
        }
    }

    /// Length of the shortest or longest beginning of `text` that matches as a whole.
    fn prefix(&self, text: &[char], longest: bool, budget: &Budget) -> Option<Option<usize>> {
        let end = self.tokens.len();
        let (mut now, mut next) = (self.nowhere(), self.nowhere());
        self.reach(&mut now, 0, 0);
        let mut found = (now.start[end] != DEAD).then_some(0);
        for (i, c) in text.iter().enumerate() {
            if now.low == DEAD || (found.is_some() && !longest) {
                break;
            }
            budget.steps(now.alive().len())?;
            self.step(&now, &mut next, *c);
            std::mem::swap(&mut now, &mut next);
            if now.start[end] != DEAD {
                found = Some(i + 1);
            }
        }
        Some(found)
    }

    /// Start and end of the longest match, of at least one character, at the earliest place of `text`.
    fn find(&self, text: &[char], budget: &Budget) -> Option<Option<(usize, usize)>> {
        let end = self.tokens.len();
        let (mut now, mut next) = (self.nowhere(), self.nowhere());
        let mut found: Option<(usize, usize)> = None;
        for (i, c) in text.iter().enumerate() {
            match found {
                // No match that began as early is still under way.
                Some((start, _)) if now.low == DEAD || now.alive().iter().all(|s| *s > start) => break,
                Some(_) => {}
                None => self.reach(&mut now, 0, i),
            }
            budget.steps(now.alive().len())?;
            self.step(&now, &mut next, *c);
            std::mem::swap(&mut now, &mut next);
            let start = now.start[end];
            if start != DEAD && found.is_none_or(|(earliest, _)| start <= earliest) {
                found = Some((start, i + 1));
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "PWD" => Some("/home".into()),
            "EMPTY" => Some(String::new()),
            "FILE" => Some("a/b/c.tar.gz".into()),
            "SPACE" => Some("x  y".into()),
            _ => None,
        }
    }

    fn check(input: &str, expect: &str) {
        let got = Lexer::new('\\').expand(input, &variables, &Budget::default()).map(|e| e.text);
        assert_eq!(got.as_deref(), Ok(expect), "{input}");
    }

    #[test]
    fn substitutions() {
        check("a${PWD}b", "a/homeb");
        check("${X:-d} ${X-d} ${EMPTY:-d} ${EMPTY-d}", "d d d ");
        check("${PWD:+s} ${X:+s} ${EMPTY:+s} ${EMPTY+s}", "s   s");
        check("${FILE#*/} ${FILE##*/} ${FILE%.*} ${FILE%%.*}", "b/c.tar.gz c.tar.gz a/b/c.tar a/b/c");
        check("${FILE/\\//_} ${FILE//\\//_} ${FILE/*c/X}", "a_b/c.tar.gz a_b_c.tar.gz X.tar.gz");
        check("'$PWD' \"$PWD\" \\$PWD", "$PWD /home $PWD");
    }

    #[test]
    fn errors_name_the_variable() {
        let got = Lexer::new('\\').expand("${X:?give X}", &variables, &Budget::default());
        assert_eq!(got.expect_err("X is unset").to_string(), "X: give X");
        for bad in ["${", "${}", "${X", "'a", "\"a", "${X:=y}", "${X^}"] {
            assert!(Lexer::new('\\').expand(bad, &variables, &Budget::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_split_outside_quotes_only() {
        let words =
            |s: &str| Lexer::new('\\').expand(s, &variables, &Budget::default()).expect("valid").words;
        assert_eq!(words("a$SPACE\"$SPACE\" 'b c'"), ["ax", "yx  y", "b c"]);
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(words("''"), [""]);
    }

    #[test]
    fn unset_variables_are_reported_and_deep_nesting_refused() {
        let expanded =
            Lexer::new('\\').expand("$A ${B} ${C:-x}", &variables, &Budget::default()).expect("valid");
        assert_eq!(expanded.unset.into_iter().collect::<Vec<_>>(), ["A", "B"]);
        let deep = "${A:-".repeat(5000);
        assert!(Lexer::new('\\').expand(&deep, &variables, &Budget::default()).is_err());
    }

    #[test]
    fn patterns_match_as_the_shell_does() {
        let value = |_: &str| Some("abcabc\\x*".to_string());
        for (input, expect) in [
            ("${V#a*b}", "cabc\\x*"),
            ("${V##a*b}", "c\\x*"),
            ("${V##*}", ""),
            ("${V#*}", "abcabc\\x*"),
            ("${V%b*}", "abca"),
            ("${V%%b*}", "a"),
            ("${V%\\*}", "abcabc\\x"),
            ("${V%x}", "abcabc\\x*"),
            ("${V/b*/-}", "a-"),
            ("${V/b?a/-}", "a-bc\\x*"),
            ("${V//b/-}", "a-ca-c\\x*"),
            ("${V//[/-}", "abcabc\\x*"),
            ("${V//?/-}", "---------"),
            ("${V//*/-}", "-"),
            ("${V/*c/-}", "-\\x*"),
            ("${V//c*a/-}", "ab-bc\\x*"),
            ("${V///-}", "abcabc\\x*"),
            ("${V#}", "abcabc\\x*"),
            ("${V//z/-}", "abcabc\\x*"),
        ] {
            let got = Lexer::new('\\').expand(input, &value, &Budget::default()).map(|e| e.text);
            assert_eq!(got.as_deref(), Ok(expect), "{input}");
        }
    }

    #[test]
    fn replacements_keep_their_escapes_and_patterns_escape_only_what_is_special() {
        let value = |name: &str| match name {
            "V" => Some("1.2.3".to_string()),
            "P" => Some("/usr/lib".to_string()),
            "S" => Some("a*b?c\\d}e".to_string()),
            _ => None,
        };
        let expand = |input: &str| Lexer::new('\\').expand(input, &value, &Budget::default()).map(|e| e.text);
        for (input, expect) in [
            ("${V//./\\.}", "1\\.2\\.3"),
            ("${V/2/a\\}b}", "1.a\\}b.3"),
            ("${P//\\/l/\\/L}", "/usr\\/Lib"),
            ("\"${V//./\\.}\"", "1\\.2\\.3"),
            ("${V//./\\\\}", "1\\\\2\\\\3"),
            ("${S/\\*/-} ${S/\\?/-} ${S/\\\\/-} ${S/\\}/-}", "a-b?c\\d}e a*b-c\\d}e a*b?c-d}e a*b?c\\d-e"),
            ("${UNSET/a/b}", ""),
        ] {
            assert_eq!(expand(input).as_deref(), Ok(expect), "{input}");
        }
        for input in ["${V/\\q/x}", "${V#\\1}", "${V%%\\.*}", "${UNSET//\\q/x}"] {
            let error = expand(input).expect_err(input).to_string();
            assert!(error.contains("invalid pattern") && error.contains("invalid escape '\\"), "{error}");
        }
    }

    #[test]
    fn patterns_take_linear_time() {
        let value = |_: &str| Some("a".repeat(20_000));
        for input in ["${A/*a*ab/x}", "${A//a*a*b/x}", "${A%%b*a*a}", "${A##*a*a*b}", "${A#*a*a*b}"] {
            let got = Lexer::new('\\').expand(input, &value, &Budget::default()).expect("within the budget");
            assert_eq!(got.text.len(), 20_000, "{input}");
        }
        let pattern = "*a".repeat(500);
        let budget = Budget { steps: AtomicUsize::new(1_000_000), ..Budget::default() };
        let error = Lexer::new('\\').expand(&format!("${{A//{pattern}b/x}}"), &value, &budget);
        let error = error.expect_err("more steps than there are").to_string();
        assert!(error.contains("${A}") && error.contains("1001 bytes on a value of 20000"), "{error}");
    }

    #[test]
    fn words_do_not_grow_without_end() {
        let value = |_: &str| Some("a".repeat(400_000));
        let budget = Budget::default();
        let expand = |input: &str| Lexer::new('\\').expand(input, &value, &budget);
        assert_eq!(expand("$A$A").expect("fits").text.len(), 800_000);
        for input in
            ["$A$B$C", "\"$A$B$C\"", "${X+$A$B$C}", "x\"$A${X+\"$B$C\"}\"", "${C//a/xyz}", "${X+$A$B}$C"]
        {
            let error = expand(input).expect_err(input).to_string();
            assert!(error.contains("the limit is 1048576"), "{error}");
        }
        assert!(expand("$A$B$C").expect_err("too long").to_string().contains("${C}"));
        let long = "x".repeat(2 * WORD_SIZE_MAX);
        assert_eq!(expand(&long).expect("as it is written").text.len(), long.len());
        let error = (0..2000).find_map(|_| expand("$A$A").err()).expect("the budget ends");
        assert!(matches!(error, ShellError::TooMuch { .. }), "{error}");
    }
}
