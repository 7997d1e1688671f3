//! Variable expansion and word splitting of Dockerfile words, as BuildKit's shell lexer does them: a small part of
//! the POSIX shell language (chapter 2.6), with bash's `${v/p/r}`.

use std::collections::BTreeSet;

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
}

/// What a word became, and which variables it named that were not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole text.
    pub text: String,
    /// The text split at unquoted white space.
    pub words: Vec<String>,
    /// Names that were used unset, without default.
    pub unset: BTreeSet<String>,
}

impl Lexer {
    /// The lexer of ordinary instructions with the given escape character.
    pub fn new(escape: char) -> Lexer {
        Lexer { escape, raw_quotes: false, raw_escapes: false, skip_unset: false }
    }

    /// Expands the variables in `word` and removes quotes and escapes.
    pub fn expand(&self, word: &str, variables: &dyn Variables) -> Result<Expanded, ShellError> {
        let mut walk = Walk {
            chars: word.chars().collect(),
            at: 0,
            lexer: *self,
            variables,
            unset: BTreeSet::new(),
            depth: 0,
        };
        let (text, words) = walk.until(None, self.raw_escapes)?;
        Ok(Expanded { text, words, unset: walk.unset })
    }
}

/// Nesting of `${a:-${b:-...}}` beyond this is refused rather than risking the stack.
const DEPTH_MAX: usize = 64;

struct Walk<'a> {
    chars: Vec<char>,
    at: usize,
    lexer: Lexer,
    variables: &'a dyn Variables,
    unset: BTreeSet<String>,
    depth: usize,
}

/// Collects words: a word ends at unquoted white space, and exists once something quoted or not was added.
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
                    let quoted = if c == '\'' { self.single_quoted()? } else { self.double_quoted()? };
                    text.push_str(&quoted);
                    words.keep(&quoted);
                }
                '$' => {
                    let value = self.dollar()?;
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

    fn double_quoted(&mut self) -> Result<String, ShellError> {
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
                Some('$') => text.push_str(&self.dollar()?),
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

    fn dollar(&mut self) -> Result<String, ShellError> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_string());
            }
            return Ok(match self.value(&name, true) {
                Some(value) => value,
                None if self.lexer.skip_unset => format!("${name}"),
                None => String::new(),
            });
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
        let value = self.braced();
        self.depth -= 1;
        value
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
            '}' if !null_is_unset => Ok(match self.value(&name, true) {
                Some(value) => value,
                None if self.lexer.skip_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            '-' | '+' | '?' => {
                let (word, _) = self.until(Some('}'), false)?;
                let value = self.value(&name, false);
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
                let Some(value) = self.value(&name, true) else {
                    return Ok(if self.lexer.skip_unset { self.written(start) } else { String::new() });
                };
                let (pattern, longest) = match word.strip_prefix(modifier) {
                    Some(rest) => (rest, true),
                    None => (word.as_str(), false),
                };
                Ok(trim(&value, pattern, modifier == '#', longest))
            }
            '/' if !null_is_unset => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let (pattern, _) = self.until(Some('/'), true)?;
                let (replacement, _) = self.until(Some('}'), false)?;
                let Some(value) = self.value(&name, true) else {
                    return Ok(if self.lexer.skip_unset { self.written(start) } else { String::new() });
                };
                Ok(replace(&value, &pattern, &replacement, all))
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
                while self.peek().is_some_and(|c| c == '_' || c.is_alphanumeric()) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {}
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str, note_unset: bool) -> Option<String> {
        let value = self.variables.get(name);
        if value.is_none() && note_unset {
            self.unset.insert(name.to_string());
        }
        value
    }
}

/// Whether `text` matches a shell pattern of `*`, `?` and escaped characters; `*` also matches `/`.
fn glob(pattern: &[char], text: &[char]) -> bool {
    // The classic two-pointer walk: on a mismatch go back to the last star and let it take one more character.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('\\') if pattern.get(p + 1) == Some(&text[t]) => Some(2),
            Some('\\') if p + 1 < pattern.len() => None,
            Some(c) if *c == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(n), _) => {
                p += n;
                t += 1;
            }
            (None, Some((after, taken))) => {
                star = Some((after, taken + 1));
                p = after;
                t = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// `${v#p}` and its relatives.
fn trim(value: &str, pattern: &str, prefix: bool, longest: bool) -> String {
    let value: Vec<char> = value.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let lengths = 0..=value.len();
    let fits = |n: &usize| {
        let part = if prefix { &value[..*n] } else { &value[value.len() - n..] };
        glob(&pattern, part)
    };
    let length = if longest { lengths.rev().find(fits) } else { { lengths }.find(fits) }.unwrap_or(0);
    let rest = if prefix { &value[length..] } else { &value[..value.len() - length] };
    rest.iter().collect()
}

/// `${v/p/r}` and `${v//p/r}`: the longest match at the earliest place.
fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> String {
    let value: Vec<char> = value.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < value.len() {
        let found = (at + 1..=value.len()).rev().find(|end| glob(&pattern, &value[at..*end]));
        match found {
            Some(end) => {
                out.push_str(replacement);
                at = end;
                if !all {
                    break;
                }
            }
            None => {
                out.push(value[at]);
                at += 1;
            }
        }
    }
    out.extend(&value[at..]);
    out
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
        let got = Lexer::new('\\').expand(input, &variables).map(|e| e.text);
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
        let got = Lexer::new('\\').expand("${X:?give X}", &variables);
        assert_eq!(got.expect_err("X is unset").to_string(), "X: give X");
        for bad in ["${", "${}", "${X", "'a", "\"a", "${X:=y}", "${X^}"] {
            assert!(Lexer::new('\\').expand(bad, &variables).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_split_outside_quotes_only() {
        let words = |s: &str| Lexer::new('\\').expand(s, &variables).expect("valid").words;
        assert_eq!(words("a$SPACE\"$SPACE\" 'b c'"), ["ax", "yx  y", "b c"]);
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(words("''"), [""]);
    }

    #[test]
    fn unset_variables_are_reported_and_deep_nesting_refused() {
        let expanded = Lexer::new('\\').expand("$A ${B} ${C:-x}", &variables).expect("valid");
        assert_eq!(expanded.unset.into_iter().collect::<Vec<_>>(), ["A", "B"]);
        let deep = "${A:-".repeat(5000);
        assert!(Lexer::new('\\').expand(&deep, &variables).is_err());
    }
}
