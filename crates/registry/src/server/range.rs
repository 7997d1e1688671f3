//! `Range` and the conditions of a request: RFC 9110, sections 13 and 14.

use hyper::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE};

/// A request with more ranges gets the whole content. podman asks for about a thousand.
const RANGES_MAX: usize = 2048;

/// The parts of a representation that a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These parts in this order, as start and length in bytes. There is at least one part, and none is
    /// empty.
    Parts(Vec<(u64, u64)>),
    /// No byte of the content.
    Nothing,
}

/// Reads a `Range` for a body of `size` bytes. A `Range` is ignored if it cannot be understood or would make
/// the answer larger than the whole body. A range that ends before it begins holds no byte; RFC 9110 leaves
/// open whether it is ignored, and other registries refuse it.
pub(super) fn parse_ranges(text: &str, size: u64) -> Wanted {
    let Some((unit, list)) = text.trim().split_once('=') else { return Wanted::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let elements: Vec<&str> = list.split(',').map(str::trim).filter(|e| !e.is_empty()).collect();
    if elements.is_empty() || elements.len() > RANGES_MAX {
        return Wanted::Whole;
    }
    let mut parts = Vec::new();
    for element in elements {
        match parse_range(element, size) {
            None => return Wanted::Whole,
            Some(None) => {}
            Some(Some(part)) => parts.push(part),
        }
    }
    let all: u64 = parts.iter().fold(0, |all, (_, length)| all.saturating_add(*length));
    match parts.len() {
        0 => Wanted::Nothing,
        _ if all > size => Wanted::Whole,
        _ => Wanted::Parts(parts),
    }
}

/// `A-B`, `A-` or `-N` as start and length; `None` for any other text, `Some(None)` if there are no such
/// bytes.
fn parse_range(text: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A number too large for a size counts as the largest.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some((length > 0).then(|| (size - length, length)));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    Some((first < size && first <= last).then(|| (first, last.min(size - 1) - first + 1)))
}

/// The result of a request's conditions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Send the content.
    Holds,
    /// The client has the content: 304.
    NotModified,
    /// The client wants other content: 412.
    Failed,
}

/// Compares `If-Match` and `If-None-Match` with the digest, which is the entity tag.
pub(super) fn check_conditions(headers: &HeaderMap, digest: &str) -> Condition {
    if let Some(list) = joined(headers, &IF_MATCH)
        && !tags(&list).any(|(tag, weak)| tag == "*" || (tag == digest && !weak))
    {
        return Condition::Failed;
    }
    match joined(headers, &IF_NONE_MATCH) {
        Some(list) if tags(&list).any(|(tag, _)| tag == "*" || tag == digest) => Condition::NotModified,
        _ => Condition::Holds,
    }
}

/// Whether `Range` counts: there is no `If-Range`, or `If-Range` names this content. The registry keeps no
/// dates.
pub(super) fn range_counts(headers: &HeaderMap, digest: &str) -> bool {
    match joined(headers, &IF_RANGE) {
        None => true,
        Some(text) => tags(&text).any(|(tag, weak)| tag == digest && !weak),
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    headers.contains_key(name).then(|| values.join(","))
}

/// Entity tags of a list without their quotes, and whether each is weak. Digests have no commas.
fn tags(list: &str) -> impl Iterator<Item = (&str, bool)> {
    list.split(',').map(|tag| {
        let tag = tag.trim();
        let (tag, weak) = match tag.strip_prefix("W/") {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        (tag.trim_matches('"'), weak)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let one = |start, length| Wanted::Parts(vec![(start, length)]);
        assert_eq!(parse_ranges("bytes=0-", 10), one(0, 10));
        assert_eq!(parse_ranges("Bytes=3-5", 10), one(3, 3));
        assert_eq!(parse_ranges("bytes=3-99999999999999999999999", 10), one(3, 7));
        assert_eq!(parse_ranges("bytes=-4", 10), one(6, 4));
        assert_eq!(parse_ranges("bytes=-40", 10), one(0, 10));
        assert_eq!(parse_ranges("bytes= 7-8, ,1-2 ,-1,", 10), Wanted::Parts(vec![(7, 2), (1, 2), (9, 1)]));
        // Bytes beyond the content are left out of a list.
        assert_eq!(parse_ranges("bytes=20-30,4-4", 10), one(4, 1));
        for nothing in ["bytes=10-", "bytes=-0", "bytes=10-11,20-", "bytes=5-3", "bytes=500-0"] {
            assert_eq!(parse_ranges(nothing, 10), Wanted::Nothing, "{nothing}");
        }
        assert_eq!(parse_ranges("bytes=0-", 0), Wanted::Nothing);
        for ignored in ["lines=1-2", "bytes=x-", "bytes=-", "bytes=+1-2", "bytes=", "", "1-2", "bytes=1-2,x"]
        {
            assert_eq!(parse_ranges(ignored, 10), Wanted::Whole, "{ignored}");
        }
        // More bytes than the whole, and more ranges than anybody needs.
        assert_eq!(parse_ranges("bytes=0-6,0-6", 10), Wanted::Whole);
        assert_eq!(parse_ranges(&format!("bytes={}", "0-0,".repeat(3000)), 10_000), Wanted::Whole);
    }

    #[test]
    fn conditions() {
        let check = |name: HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, value.parse().expect("a value"))]);
            check_conditions(&headers, "sha256:ab")
        };
        for same in ["\"sha256:ab\"", "W/\"sha256:ab\"", "\"x\", \"sha256:ab\"", "*", "sha256:ab"] {
            assert_eq!(check(IF_NONE_MATCH, same), Condition::NotModified, "{same}");
        }
        assert_eq!(check(IF_NONE_MATCH, "\"sha256:abc\""), Condition::Holds);
        assert_eq!(check(IF_MATCH, "\"sha256:ab\""), Condition::Holds);
        for other in ["\"sha256:abc\"", "W/\"sha256:ab\"", ""] {
            assert_eq!(check(IF_MATCH, other), Condition::Failed, "{other}");
        }
        let counts = |value: &str| {
            range_counts(&HeaderMap::from_iter([(IF_RANGE, value.parse().expect("a value"))]), "sha256:ab")
        };
        assert!(counts("\"sha256:ab\"") && range_counts(&HeaderMap::new(), "sha256:ab"));
        for other in ["\"other\"", "W/\"sha256:ab\"", "Sun, 29 Nov 2026 00:00:00 GMT"] {
            assert!(!counts(other), "{other}");
        }
    }
}
