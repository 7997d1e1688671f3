//! Percent-encoding, RFC 3986 section 2.1.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All characters except the unreserved ones, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Like [`RESERVED`], but without the colon, which a query may contain; so digests stay legible.
const RESERVED_IN_QUERY: &AsciiSet = &RESERVED.remove(b':');

/// Escapes all characters except the unreserved ones.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Escapes a text for use as the value of a query parameter.
pub(crate) fn encode_value(text: &str) -> String {
    utf8_percent_encode(text, RESERVED_IN_QUERY).to_string()
}

/// Undoes the escapes; `None` if one is broken, or if the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    // The crate leaves broken escapes unchanged.
    let is_whole =
        |escape: &str| escape.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let all_whole = text.split('%').skip(1).all(is_whole);
    if !all_whole {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(encode("repository:a/b:pull,push"), "repository%3Aa%2Fb%3Apull%2Cpush");
        assert_eq!(encode_value("sha256:ab/ä"), "sha256:ab%2F%C3%A4");
        assert_eq!(decode("a%2Fb%c3%A4").as_deref(), Some("a/bä"));
        for broken in ["%", "a%2", "%2g", "%%41", "%ff", "%+1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
