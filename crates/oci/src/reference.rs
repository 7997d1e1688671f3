//! Image references: `[registry/]repository[:tag][@digest]`, the grammar of the distribution project's
//! `reference` package, with the defaults that Docker gives (`docker.io`, `library/`, `latest`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The registry of names without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names without tag or digest.
pub const DEFAULT_TAG: &str = "latest";

/// Characters of a repository's name, without its registry.
const REPOSITORY_LENGTH_MAX: usize = 255;

/// A name of an image: registry, repository, and a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// Nothing was given.
    #[error("an image name is empty")]
    Empty,
    /// Upper-case letters in the repository.
    #[error("invalid image name \"{0}\": the repository must be lower case")]
    UpperCase(String),
    /// A part breaks the grammar.
    #[error("invalid image name \"{name}\": bad {part} \"{text}\"")]
    Invalid {
        /// The whole name.
        name: String,
        /// `registry`, `repository`, `tag` or `digest`.
        part: &'static str,
        /// The offending text.
        text: String,
    },
    /// The repository is longer than 255 characters; the host does not count.
    #[error("invalid image name \"{0}\": the repository is longer than 255 characters")]
    TooLong(String),
}

impl Reference {
    /// A reference from checked parts.
    pub fn new(
        registry: &str,
        repository: &str,
        tag: Option<&str>,
        digest: Option<Digest>,
    ) -> Result<Reference, ParseReferenceError> {
        let mut text = format!("{registry}/{repository}");
        if let Some(tag) = tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = digest {
            text = format!("{text}@{digest}");
        }
        text.parse()
    }

    /// Host and port, `docker.io` where none was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository in the registry, with `library/` where Docker adds it.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What follows `/manifests/` in a registry's URL: the digest if there is one, else the tag.
    pub fn identifier(&self) -> &str {
        self.digest
            .as_ref()
            .map(Digest::as_str)
            .or(self.tag.as_deref())
            .expect("a reference has a tag or a digest")
    }

    /// The same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ParseReferenceError> {
        Reference::new(&self.registry, &self.repository, Some(tag), None)
    }

    /// The same repository with a digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The shortest form that reads back as this reference, as Docker shows it: `alpine:3` for
    /// `docker.io/library/alpine:3`.
    pub fn familiar(&self) -> String {
        let mut text = if self.registry == DEFAULT_REGISTRY {
            self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_string()
        } else {
            self.name()
        };
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

/// Hides the part before `@` of a text that is no name, for messages: that part may be a password. Digests
/// have a colon.
fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) if before.contains("://") || !host.contains(':') => format!("***@{host}"),
        _ => text.to_string(),
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(name: &str) -> Result<Reference, ParseReferenceError> {
        let invalid = |part: &'static str, text: &str| ParseReferenceError::Invalid {
            name: without_user(name),
            part,
            text: text.to_string(),
        };
        if name.is_empty() {
            return Err(ParseReferenceError::Empty);
        }
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| invalid("digest", digest))?)),
            None => (name, None),
        };
        // The registry is the part before the first slash if it looks like a host: a dot, a colon,
        // `localhost`, or an upper-case letter, which a repository cannot have.
        let (registry, path) = match rest.split_once('/') {
            Some((host, path)) if looks_like_host(host) => (host, path),
            _ => (DEFAULT_REGISTRY, rest),
        };
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (path, None),
        };
        if !is_host(registry) {
            return Err(invalid("registry", registry));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseReferenceError::UpperCase(name.to_string()));
        }
        if repository.is_empty() || !repository.split('/').all(is_path_component) {
            return Err(invalid("repository", repository));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(invalid("tag", tag));
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_string()
        };
        if repository.len() > REPOSITORY_LENGTH_MAX {
            return Err(ParseReferenceError::TooLong(name.to_string()));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_string()),
            (tag, _) => tag.map(str::to_string),
        };
        Ok(Reference { registry: registry.to_string(), repository, tag, digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseReferenceError;

    fn try_from(text: String) -> Result<Reference, ParseReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    /// The full form, registry included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the text before the first slash is meant as a registry.
fn looks_like_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|b| b.is_ascii_uppercase())
}

/// `host[:port]`, a DNS name, an IPv4 address or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, port.strip_prefix(':').or(Some("x"))),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_is_good = if text.starts_with('[') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
    };
    host_is_good && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes.split(alphanumeric).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// A word character, then up to 127 of word characters, `.` and `-`.
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|b| word(*b))
        && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_255_characters_without_its_host() {
        let longest = format!("{}abcde", "abcd/".repeat(50));
        let read = |name: &str| name.parse::<Reference>();
        assert_eq!(longest.len(), 255);
        assert!(read(&format!("registry.example.com:5000/{longest}:tag")).is_ok());
        let error = read(&format!("registry.example.com:5000/{longest}f")).expect_err("too long").to_string();
        assert!(error.contains("longer than 255 characters"), "{error}");
    }

    #[test]
    fn names_get_dockers_defaults() {
        for (input, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("arm32v7/python:3.12", "docker.io/arm32v7/python:3.12", "arm32v7/python:3.12"),
            ("index.docker.io/library/a", "docker.io/library/a:latest", "a:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("ghcr.io/o/a__b-c.d:V1", "ghcr.io/o/a__b-c.d:V1", "ghcr.io/o/a__b-c.d:V1"),
        ] {
            let reference: Reference = input.parse().expect(input);
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().expect(full), reference);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"x");
        let both: Reference = format!("a:1@{digest}").parse().expect("tag and digest");
        assert_eq!((both.tag(), both.digest()), (Some("1"), Some(&digest)));
        let only: Reference = format!("a@{digest}").parse().expect("digest");
        assert_eq!((only.tag(), only.identifier()), (None, digest.as_str()));
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "a/B/c",
            "Alpine",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@sha256:12",
            "a:b c",
            "host.x:99999/a",
            "[::1/a",
            "[zz]:1/a",
            "a/../b",
            "é",
            "a:.x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!(matches!("Alpine".parse::<Reference>(), Err(ParseReferenceError::UpperCase(_))));
    }

    #[test]
    fn passwords_in_what_is_no_name_are_not_repeated() {
        for text in ["https://u:s3cret@h/x", "u:s3cret@h/x", "https://u:s3cret@h:5000/x:1"] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        let error = "app:1@sha256:short".parse::<Reference>().expect_err("a short digest").to_string();
        assert!(error.contains("app:1@sha256:short"), "{error}");
    }
}
