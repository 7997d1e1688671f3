//! File name patterns: Go's `filepath.Match`, and the same with `**` as `.dockerignore` has it.

/// A compiled pattern over `/`-separated paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
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
        ranges: Vec<(char, char)>,
    },
}

/// A pattern with an open `[` or a `\` at the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern \"{0}\"")]
pub struct PatternError(pub String);

impl Pattern {
    /// Compiles a pattern of Go's `filepath.Match`; `**` means the same as `*`.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        Pattern::compile(text, false)
    }

    /// Compiles a pattern in which `**` matches any number of directories.
    pub fn with_double_star(text: &str) -> Result<Pattern, PatternError> {
        Pattern::compile(text, true)
    }

    /// Whether the text has characters that are special in patterns.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// The pattern as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn compile(text: &str, double_star: bool) -> Result<Pattern, PatternError> {
        let error = || PatternError(text.to_string());
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if double_star && chars.peek() == Some(&'*') => {
                    while chars.peek() == Some(&'*') {
                        chars.next();
                    }
                    if chars.peek() == Some(&'/') {
                        chars.next();
                        Token::Directories
                    } else {
                        Token::DoubleStar
                    }
                }
                '*' => Token::Star,
                '?' => Token::One,
                '\\' => Token::Literal(chars.next().ok_or_else(error)?),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let mut bound = |first: bool| match chars.next() {
                            Some(']') if first => Ok(None),
                            Some('-' | ']') | None => Err(error()),
                            Some('\\') => chars.next().map(Some).ok_or_else(error),
                            Some(c) => Ok(Some(c)),
                        };
                        let Some(low) = bound(!ranges.is_empty())? else { break };
                        let high = match chars.next_if_eq(&'-') {
                            Some(_) => match chars.next().ok_or_else(error)? {
                                '\\' => chars.next().ok_or_else(error)?,
                                '-' | ']' => return Err(error()),
                                c => c,
                            },
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    Token::Class { negated, ranges }
                }
                c => Token::Literal(c),
            });
        }
        Ok(Pattern { tokens, text: text.to_string() })
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        // The set of places in the pattern that the path so far can have reached: linear in pattern times path,
        // whatever the pattern.
        let mut reached = vec![false; self.tokens.len() + 1];
        reached[0] = true;
        self.skip_optional(&mut reached);
        for c in path.chars() {
            let mut next = vec![false; self.tokens.len() + 1];
            for (i, token) in self.tokens.iter().enumerate() {
                if !reached[i] {
                    continue;
                }
                match token {
                    Token::Literal(expected) => next[i + 1] |= c == *expected,
                    Token::One => next[i + 1] |= c != '/',
                    Token::Star => next[i] |= c != '/',
                    Token::DoubleStar => next[i] = true,
                    // Stays inside until a `/` was taken; only behind one may the pattern go on.
                    Token::Directories => {
                        next[i] = true;
                        next[i + 1] |= c == '/';
                    }
                    Token::Class { negated, ranges } => {
                        let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                        next[i + 1] |= inside != *negated && c != '/';
                    }
                }
            }
            self.skip_optional_after(&mut next, c);
            reached = next;
        }
        reached[self.tokens.len()]
    }

    /// Steps over tokens that match nothing, at the start of a path.
    fn skip_optional(&self, reached: &mut [bool]) {
        for (i, token) in self.tokens.iter().enumerate() {
            if reached[i] && matches!(token, Token::Star | Token::DoubleStar | Token::Directories) {
                reached[i + 1] = true;
            }
        }
    }

    /// Steps over tokens that match nothing, behind `c`. A `**/` that has begun to take characters must take a `/`;
    /// one that was just reached may take none, which is so exactly if `c` is not its own.
    fn skip_optional_after(&self, reached: &mut [bool], c: char) {
        for (i, token) in self.tokens.iter().enumerate() {
            let may_skip = match token {
                Token::Star | Token::DoubleStar => true,
                Token::Directories => {
                    c == '/'
                        || (i > 0
                            && reached[i]
                            && matches!(self.tokens[i - 1], Token::Star | Token::DoubleStar))
                }
                _ => false,
            };
            if reached[i] && may_skip {
                reached[i + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, double_star: bool, path: &str, expect: bool) {
        let compiled = Pattern::compile(pattern, double_star).expect(pattern);
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
    fn long_patterns_stay_quick() {
        check(&"*a".repeat(200), false, &"a".repeat(5000), true);
        check(&format!("{}b", "*a".repeat(200)), false, &"a".repeat(5000), false);
    }
}
