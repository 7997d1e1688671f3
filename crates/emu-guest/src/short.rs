//! Short texts without a pointer: a table of them needs no relocation when the executable starts.

/// A text of at most `N` bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Short<const N: usize>([u8; N]);

impl<const N: usize> Short<N> {
    /// Stores a text, which must not contain NUL.
    pub const fn new(text: &str) -> Self {
        let (text, mut bytes, mut at) = (text.as_bytes(), [0; N], 0);
        while at < text.len() {
            bytes[at] = text[at];
            at += 1;
        }
        Short(bytes)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(N);
        core::str::from_utf8(&self.0[..length]).unwrap_or_default()
    }

    /// Whether this is `text`.
    pub const fn is(&self, text: &str) -> bool {
        let (text, mut at) = (text.as_bytes(), 0);
        while at < N && self.0[at] != 0 {
            if at >= text.len() || self.0[at] != text[at] {
                return false;
            }
            at += 1;
        }
        at == text.len()
    }
}

impl<const N: usize> core::fmt::Debug for Short<N> {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_what_they_are_made_of() {
        for text in ["", "a", "abc", "abcd"] {
            let short = Short::<4>::new(text);
            assert_eq!(short.as_str(), text);
            assert!(short.is(text) && !short.is("ab") && !short.is("abcde") && !short.is("x"));
        }
    }
}
