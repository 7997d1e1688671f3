//! The part of RFC 3986 that redirects and upload locations need.

use std::fmt;

use ureq::http::Uri;
use ureq::http::uri::{Authority, PathAndQuery};

/// An absolute http or https URL. `Display` and `Debug` leave out the query, which may carry a signature.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    https: bool,
    /// Host and port as written, without user information.
    authority: Authority,
    /// The path, which begins with a slash, and the query.
    path_and_query: PathAndQuery,
}

impl Url {
    /// The root URL of a host; `None` if `authority` is not `HOST[:PORT]`.
    pub(crate) fn of_host(https: bool, authority: &str) -> Option<Url> {
        let authority = authority_of(authority)?;
        Some(Url { https, authority, path_and_query: PathAndQuery::from_static("/") })
    }

    /// Reads an absolute URL; user information and fragment are dropped.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        let uri = text.parse::<Uri>().ok()?;
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        let authority = authority_of(authority.rsplit('@').next().unwrap_or(authority))?;
        let path_and_query = uri.path_and_query()?.clone();
        Some(Url { https, authority, path_and_query })
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

    /// This URL with one more `name=value` (already encoded) in its query.
    pub(crate) fn with_query(&self, pair: &str) -> Url {
        let separator = if self.path_and_query.query().is_some() { '&' } else { '?' };
        let longer = format!("{}{separator}{pair}", self.path_and_query);
        let path_and_query = longer.parse().expect("an encoded pair at the end of a query leaves it valid");
        Url { path_and_query, ..self.clone() }
    }

    /// The whole URL, for the request itself.
    pub(crate) fn full(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority, self.path_and_query)
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether there is a query, even an empty one.
    pub(crate) fn has_query(&self) -> bool {
        self.path_and_query.query().is_some()
    }

    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.path_and_query.path()
    }

    /// Whether scheme, host and port are the same, so that credentials may follow.
    pub(crate) fn same_origin(&self, other: &Url) -> bool {
        let port = |url: &Url| url.authority.port_u16().unwrap_or(if url.https { 443 } else { 80 });
        let is_same_host = self.authority.host().eq_ignore_ascii_case(other.authority.host());
        self.https == other.https && is_same_host && port(self) == port(other)
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

/// Reads `HOST[:PORT]`; `None` if the port is not a number of 16 bits.
fn authority_of(text: &str) -> Option<Authority> {
    let authority = text.parse::<Authority>().ok()?;
    let after_host = authority.as_str().strip_prefix(authority.host())?;
    let has_port = after_host.is_empty() || after_host == ":" || authority.port_u16().is_some();
    (has_port && !authority.host().is_empty()).then_some(authority)
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
        assert_eq!(base.join("https://h:99999/y"), None);
        assert_eq!(base.join("https://h:443:80/y"), None);
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
}
