//! File name patterns: Go's `filepath.Match`, and the same with `**` as `.dockerignore` has it.
//!
//! File names are bytes. What is UTF-8 in them is taken as characters, any other byte as one character of its own, which
//! equals that byte only.

/// A compiled pattern over `/`-separated paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

/// A Unicode scalar value, or [`BYTE`] and a byte that belongs to none.
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

/// A pattern with an open `[` or a `\` at the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern \"{0}\"")]
pub struct PatternError(pub String);

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
        let error = || PatternError(String::from_utf8_lossy(text).into_owned());
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
                    Token::Class { negated, ranges }
                }
                _ => Token::Literal(c),
            });
        }
        Ok(Pattern { tokens })
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        // The set of places in the pattern that the path so far can have reached: linear in pattern times path,
        // whatever the pattern.
        let mut reached = vec![false; self.tokens.len() + 1];
        reached[0] = true;
        self.skip_optional(&mut reached);
        for c in characters(path.as_ref()) {
            let mut next = vec![false; self.tokens.len() + 1];
            for (i, token) in self.tokens.iter().enumerate() {
                if !reached[i] {
                    continue;
                }
                match token {
                    Token::Literal(expected) => next[i + 1] |= c == *expected,
                    Token::One => next[i + 1] |= c != SLASH,
                    Token::Star => next[i] |= c != SLASH,
                    Token::DoubleStar => next[i] = true,
                    // Stays inside until a `/` was taken; only behind one may the pattern go on.
                    Token::Directories => {
                        next[i] = true;
                        next[i + 1] |= c == SLASH;
                    }
                    Token::Class { negated, ranges } => {
                        let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                        next[i + 1] |= inside != *negated && c != SLASH;
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
    fn skip_optional_after(&self, reached: &mut [bool], c: Character) {
        for (i, token) in self.tokens.iter().enumerate() {
            let may_skip = match token {
                Token::Star | Token::DoubleStar => true,
                Token::Directories => {
                    c == SLASH
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
}
