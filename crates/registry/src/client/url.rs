//! The little of RFC 3986 that redirects and upload locations need.

use std::fmt;

/// An absolute http or https URL. `Display` and `Debug` leave out the query, which may carry a signature.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    https: bool,
    /// Host and port as written, without user information.
    authority: String,
    /// Begins with a slash; with the query.
    path_and_query: String,
}

impl Url {
    /// A URL from its parts; `path_and_query` begins with a slash.
    pub(crate) fn new(https: bool, authority: &str, path_and_query: &str) -> Url {
        Url { https, authority: authority.to_string(), path_and_query: path_and_query.to_string() }
    }

    /// Reads an absolute URL; user information and fragment are dropped.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path_and_query) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let slash = if path_and_query.starts_with('/') { "" } else { "/" };
        let url = Url::new(https, authority, &format!("{slash}{path_and_query}"));
        (!authority.is_empty() && url.full().parse::<ureq::http::Uri>().is_ok()).then_some(url)
    }

    /// Resolves a reference such as a `Location` header against this URL, section 5.2; dot segments are left
    /// to servers.
    pub(crate) fn join(&self, reference: &str) -> Option<Url> {
        if reference.contains("://") && !reference.starts_with(['/', '?']) {
            return Url::parse(reference);
        }
        let scheme = if self.https { "https" } else { "http" };
        let path = self.path();
        let text = if reference.starts_with("//") {
            format!("{scheme}:{reference}")
        } else if reference.starts_with('/') {
            format!("{scheme}://{}{reference}", self.authority)
        } else if reference.starts_with('?') {
            format!("{scheme}://{}{path}{reference}", self.authority)
        } else {
            let directory = &path[..=path.rfind('/').unwrap_or(0)];
            format!("{scheme}://{}{directory}{reference}", self.authority)
        };
        Url::parse(&text)
    }

    /// The same with one more `name=value` (already encoded) in its query.
    pub(crate) fn with_query(&self, pair: &str) -> Url {
        let separator = if self.path_and_query.contains('?') { '&' } else { '?' };
        Url { path_and_query: format!("{}{separator}{pair}", self.path_and_query), ..self.clone() }
    }

    /// The whole URL, for the request itself.
    pub(crate) fn full(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority, self.path_and_query)
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or(&self.path_and_query)
    }

    /// Whether scheme, host and port are the same, so that credentials may follow.
    pub(crate) fn same_origin(&self, other: &Url) -> bool {
        let port = |url: &Url| {
            let after_host = url.authority.rsplit(']').next().unwrap_or(&url.authority).to_string();
            let given = after_host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            given.unwrap_or(if url.https { 443 } else { 80 })
        };
        let host = |url: &Url| crate::hosts::bare_host(&url.authority).to_ascii_lowercase();
        self.https == other.https && host(self) == host(other) && port(self) == port(other)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.authority, self.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Percent-encodes everything but unreserved characters, section 2.3.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://r.example:5000/v2/a/blobs/uploads/?x=1").expect("absolute");
        for (reference, expected) in [
            ("/v2/b?_state=s%3D", "https://r.example:5000/v2/b?_state=s%3D"),
            ("http://other/x", "http://other/x"),
            ("https://u:p@other#frag", "https://other/"),
            ("//cdn.example/y", "https://cdn.example/y"),
            ("?z", "https://r.example:5000/v2/a/blobs/uploads/?z"),
            ("id", "https://r.example:5000/v2/a/blobs/uploads/id"),
            ("/v2/a?next=http://b", "https://r.example:5000/v2/a?next=http://b"),
        ] {
            assert_eq!(base.join(reference).expect(reference).full(), expected);
        }
        assert_eq!(base.join("ftp://x/y"), None);
        assert_eq!(base.join("https:///y"), None);
        assert_eq!(
            base.with_query("digest=d").full(),
            "https://r.example:5000/v2/a/blobs/uploads/?x=1&digest=d"
        );
    }

    #[test]
    fn origins_and_redaction() {
        let url = |text| Url::parse(text).expect("absolute");
        assert!(url("https://A.b/x").same_origin(&url("https://a.B:443/y")));
        assert!(url("http://[::1]/x").same_origin(&url("http://[::1]:80/")));
        assert!(!url("https://a.b/").same_origin(&url("http://a.b/")));
        assert!(!url("https://a.b/").same_origin(&url("https://a.b:8443/")));
        assert!(!url("https://a.b/").same_origin(&url("https://a.b.c/")));
        let secret = url("https://s3/x?signature=abc");
        assert!(!format!("{secret} {secret:?}").contains("abc"));
    }

    #[test]
    fn encoding() {
        assert_eq!(encode("repository:a/b:pull,push"), "repository%3Aa%2Fb%3Apull%2Cpush");
    }
}
