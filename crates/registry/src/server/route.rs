//! The meaning of a path: distribution specification, "Endpoints".

use crossdock_oci::{Digest, Reference};

use super::reply::Problem;
use crate::percent;

/// A tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identifier {
    Tag(String),
    Digest(Digest),
}

/// The object of a request. Names and digests are checked, so they can be used as paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Whether the server works; asking needs no password.
    Health,
    /// Figures for Prometheus.
    Metrics,
    Ping,
    Token,
    Catalog,
    Tags {
        name: String,
    },
    Manifest {
        name: String,
        identifier: Identifier,
    },
    Blob {
        name: String,
        digest: Digest,
    },
    Uploads {
        name: String,
    },
    Upload {
        name: String,
        id: String,
    },
    Referrers {
        name: String,
        digest: Digest,
    },
}

impl Route {
    /// Reads a path. Looks for the endpoint's name from the right, since a repository may have a component
    /// `blobs`, too.
    pub(super) fn parse(path: &str) -> Result<Route, Problem> {
        let path = percent::decode(path).ok_or_else(|| Problem::not_found("bad escape in the path"))?;
        match path.as_str() {
            "/token" => return Ok(Route::Token),
            "/healthz" => return Ok(Route::Health),
            "/metrics" => return Ok(Route::Metrics),
            "/v2" => return Ok(Route::Ping),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/").ok_or_else(|| Problem::not_found("only /v2/ is served"))?;
        let segments: Vec<&str> = rest.split('/').collect();
        match segments.as_slice() {
            [""] => Ok(Route::Ping),
            ["_catalog"] => Ok(Route::Catalog),
            [name @ .., "tags", "list"] => Ok(Route::Tags { name: repository(name)? }),
            [name @ .., "manifests", reference] => {
                Ok(Route::Manifest { name: repository(name)?, identifier: identifier(reference)? })
            }
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Route::Uploads { name: repository(name)? })
            }
            [name @ .., "blobs", "uploads", id] => {
                Ok(Route::Upload { name: repository(name)?, id: upload_id(id)? })
            }
            [name @ .., "blobs", digest] => {
                Ok(Route::Blob { name: repository(name)?, digest: parse_digest(digest)? })
            }
            [name @ .., "referrers", digest] => {
                Ok(Route::Referrers { name: repository(name)?, digest: parse_digest(digest)? })
            }
            _ => Err(Problem::not_found("no such endpoint")),
        }
    }

    /// Methods of the endpoint; only those that change nothing if `read_only` is set.
    pub(super) fn methods(&self, read_only: bool) -> Vec<&'static str> {
        let all: &[&str] = match self {
            Route::Health
            | Route::Metrics
            | Route::Ping
            | Route::Catalog
            | Route::Tags { .. }
            | Route::Referrers { .. } => &["GET", "HEAD"],
            Route::Token => &["GET", "POST"],
            Route::Manifest { .. } => &["GET", "HEAD", "PUT", "DELETE"],
            Route::Blob { .. } => &["GET", "HEAD", "DELETE"],
            Route::Uploads { .. } => &["POST"],
            Route::Upload { .. } => &["GET", "HEAD", "PATCH", "PUT", "DELETE"],
        };
        let changes = |method: &str| !matches!(method, "GET" | "HEAD") && *self != Route::Token;
        all.iter().copied().filter(|method| !read_only || !changes(method)).collect()
    }

    /// The endpoint's name in the metrics.
    pub(super) fn endpoint(&self) -> &'static str {
        match self {
            Route::Health => "health",
            Route::Metrics => "metrics",
            Route::Ping => "ping",
            Route::Token => "token",
            Route::Catalog => "catalog",
            Route::Tags { .. } => "tags",
            Route::Manifest { .. } => "manifest",
            Route::Blob { .. } => "blob",
            Route::Uploads { .. } | Route::Upload { .. } => "upload",
            Route::Referrers { .. } => "referrers",
        }
    }

    /// The repository that the request is about.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Route::Health | Route::Metrics | Route::Ping | Route::Token | Route::Catalog => None,
            Route::Tags { name }
            | Route::Manifest { name, .. }
            | Route::Blob { name, .. }
            | Route::Uploads { name }
            | Route::Upload { name, .. }
            | Route::Referrers { name, .. } => Some(name),
        }
    }
}

/// A checked name of a repository.
pub(super) fn repository(segments: &[&str]) -> Result<String, Problem> {
    let name = segments.join("/");
    match Reference::new("localhost", &name, None, None) {
        Ok(_) => Ok(name),
        Err(_) => Err(Problem::new(400, "NAME_INVALID", "not the name of a repository")),
    }
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::new(400, "DIGEST_INVALID", "not a sha256 or sha512 digest"))
}

pub(super) fn identifier(text: &str) -> Result<Identifier, Problem> {
    if text.contains(':') {
        return parse_digest(text).map(Identifier::Digest);
    }
    match Reference::new("localhost", "x", Some(text), None) {
        Ok(reference) if reference.tag() == Some(text) => Ok(Identifier::Tag(text.to_string())),
        _ => Err(Problem::new(400, "TAG_INVALID", "not a tag")),
    }
}

fn upload_id(text: &str) -> Result<String, Problem> {
    if text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(text.to_string())
    } else {
        Err(Problem::new(404, "BLOB_UPLOAD_UNKNOWN", "no such upload"))
    }
}

/// A parameter of a query.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent::decode(&value.replace('+', " "))).flatten()
    })
}

/// All values of a parameter.
pub(super) fn parameters(query: &str, name: &str) -> Vec<String> {
    query
        .split('&')
        .filter(|pair| pair.split('=').next() == Some(name))
        .filter_map(|p| parameter(p, name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn endpoints() {
        let parse = |path: &str| Route::parse(path).expect(path);
        assert_eq!(parse("/v2/"), Route::Ping);
        assert_eq!(parse("/v2/_catalog"), Route::Catalog);
        assert_eq!(parse("/v2/a/b/c/tags/list"), Route::Tags { name: "a/b/c".into() });
        assert_eq!(
            parse("/v2/blobs/uploads/manifests/v1"),
            Route::Manifest { name: "blobs/uploads".into(), identifier: Identifier::Tag("v1".into()) }
        );
        assert_eq!(parse("/v2/manifests/blobs/uploads/"), Route::Uploads { name: "manifests".into() });
        let digest: Digest = format!("sha256:{HEX}").parse().expect("a digest");
        assert_eq!(
            parse(&format!("/v2/a/blobs/sha256%3A{HEX}")),
            Route::Blob { name: "a".into(), digest: digest.clone() }
        );
        assert_eq!(
            parse(&format!("/v2/a/referrers/sha256:{HEX}")),
            Route::Referrers { name: "a".into(), digest }
        );
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        for bad in [
            "/v2/../../etc/manifests/x",
            "/v2/a/%2e%2e/b/manifests/x",
            "/v2/a%2f..%2fb/manifests/x",
            "/v2/_blobs/manifests/x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/.hidden",
            "/v2/a/manifests/%2e%2e%2fx",
            "/v2/a/blobs/sha256:../../../../etc/passwd",
            "/v2/a/blobs/uploads/../../x",
            "/v2//manifests/x",
            "/v2/A/manifests/x",
            "/v2/a/blobs/uploads/%00",
            "/v2/a/manifests/%zz",
            "/etc/passwd",
            "/v3/",
        ] {
            assert!(Route::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(parameter("mount=sha256%3Aab&from=a%2Fb", "from").as_deref(), Some("a/b"));
        assert_eq!(parameter("n=5", "last"), None);
        assert_eq!(parameters("scope=a+b&x=1&scope=c", "scope"), ["a b", "c"]);
    }
}
