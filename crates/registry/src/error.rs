//! Errors of a registry, in the user's words.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crossdock_oci::Digest;
use crossdock_oci::error::StoreError;
use crossdock_oci::manifest::ParseDocumentError;
use crossdock_oci::reference::ParseReferenceError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An unsuccessful answer of a registry.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The subject of the request: registry, repository, tag or digest.
    pub target: String,
    /// The registry, as `crossdock login` takes it.
    pub registry: String,
    /// Method and URL without its query.
    pub request: String,
    /// HTTP status.
    pub status: u16,
    /// Code and message of the registry, or the start of what it sent instead.
    pub detail: String,
    /// Code of the first error in the answer, such as `MANIFEST_UNKNOWN`; empty if there is none.
    pub code: String,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// What the registry did with the request: it gave a reason of its own for not doing it, or no answer
    /// that the protocol knows.
    fn verdict(&self) -> &'static str {
        match (400..500).contains(&self.status) && !self.code.is_empty() {
            true => "refuses",
            false => "gave no useful answer to",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {}", self.request, self.status)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        f.write_str(")")
    }
}

/// Why something with a registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// 401 in spite of the credentials at hand, or without any.
    #[error("{}: not allowed without credentials that the registry accepts, or not there; run \"crossdock login {}\": {answer}", .0.target, .0.registry, answer = .0)]
    Unauthorized(Box<Answer>),
    /// 401 or 403 to the credentials of a login.
    #[error("{}: wrong user name or password; nothing was stored: {answer}", .0.registry, answer = .0)]
    WrongCredentials(Box<Answer>),
    /// 403.
    #[error("{}: access denied; check the name and your rights to it, or run \"crossdock login {}\": {answer}", .0.target, .0.registry, answer = .0)]
    Denied(Box<Answer>),
    /// 404.
    #[error("{}: not found{hint}: {answer}", .answer.target)]
    NotFound {
        /// The registry's answer.
        answer: Box<Answer>,
        /// What exists instead, with a leading `: `; or empty.
        hint: String,
    },
    /// 429 after all retries.
    #[error("{}: the registry limits the rate of requests; try later, or run \"crossdock login {}\" for a higher limit: {answer}", .0.target, .0.registry, answer = .0)]
    RateLimited(Box<Answer>),
    /// 413: the registry, or a proxy before it, takes no request of this size.
    #[error("{}: too large for the registry: {answer}", .0.target, answer = .0)]
    TooLarge(Box<Answer>),
    /// 507 (RFC 4918 section 11.5): the registry's disk is full.
    #[error("{}: no space left in the registry; make room there and try again: {answer}", .0.target, answer = .0)]
    Full(Box<Answer>),
    /// Any other status, or an answer that breaks the protocol.
    #[error("{}: the registry {} {answer}", .0.target, .0.verdict(), answer = .0)]
    Unexpected(Box<Answer>),
    /// No answer: the connection, name resolution, TLS or a time limit failed.
    #[error("{target}: {request}: {reason}")]
    Transport {
        /// The subject of the request.
        target: String,
        /// Method and URL without its query.
        request: String,
        /// What happened and what to do.
        reason: String,
        /// Whether another try may succeed.
        retryable: bool,
    },
    /// A body ended before its announced length.
    #[error("{target}: the registry sent {received} of {expected} bytes")]
    Cut {
        /// What was read.
        target: String,
        /// Bytes received.
        received: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// The content does not match its digest.
    #[error(
        "{target}: the content has digest {found} instead of {expected}; it was damaged on the way or in the registry"
    )]
    DigestMismatch {
        /// What was read.
        target: String,
        /// Digest asked for.
        expected: Digest,
        /// Digest of the content received.
        found: Digest,
    },
    /// A manifest or index that cannot be used.
    #[error("{target}: {source}")]
    Manifest {
        /// The manifest's name.
        target: String,
        /// Why.
        source: ParseDocumentError,
    },
    /// A media type that cannot be written in a header.
    #[error("{target}: {media_type:?} is not a media type")]
    NotAMediaType {
        /// The manifest with this type.
        target: String,
        /// The type.
        media_type: String,
    },
    /// An error of the local store.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// The index has nothing for the platform.
    #[error("no image for {wanted} in {target}; it offers: {offered}")]
    NoPlatform {
        /// The index.
        target: String,
        /// Platform asked for.
        wanted: String,
        /// Platforms in the index, separated by commas.
        offered: String,
    },
    /// The target is not an image but a chart, a signature or a file.
    #[error(
        "{target} is not an image but an artifact of type {kind}, which has nothing to run or to build on; \
         crossdock copy takes it to another registry, and a tool for its type reads it"
    )]
    Artifact {
        /// The artifact.
        target: String,
        /// Its artifact type, else the media type of its configuration.
        kind: String,
    },
    /// A single image for another platform than requested.
    #[error("{target} is a single image for {found}, not for {wanted}")]
    OtherPlatform {
        /// The image.
        target: String,
        /// Platform asked for.
        wanted: String,
        /// Platform of its configuration.
        found: String,
    },
    /// An index cannot be pushed since the store lacks some of what it lists.
    #[error(
        "{target}: the index lists content that is not here, missing: {missing}; pull it for all platforms, or make an index of those that are here"
    )]
    Incomplete {
        /// The reference to push to.
        target: String,
        /// Platforms or digests, separated by commas.
        missing: String,
    },
    /// Another part of the same transfer failed.
    #[error("given up because another part failed")]
    Stopped,
    /// Not a name of an image.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// `registries.conf` blocks the name.
    #[error("{registry} is blocked by {path}")]
    Blocked {
        /// Registry or prefix.
        registry: String,
        /// The file with the rule.
        path: PathBuf,
    },
    /// The cache service of a job of GitHub Actions, or of its relatives, does not do what it was asked for.
    #[error("{service}: {reason}")]
    CacheService {
        /// The service.
        service: String,
        /// What happened and what to do.
        reason: String,
        /// Whether another try may succeed.
        retryable: bool,
    },
    /// A configuration or credentials file that cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential helper is named in a file but is not installed.
    #[error(
        "the credential helper {helper} is not installed (named in {path}): install it, or remove its name there"
    )]
    HelperMissing {
        /// Program name.
        helper: String,
        /// The file that names it.
        path: PathBuf,
    },
    /// A credential helper failed.
    #[error("the credential helper {helper} failed to {action}: {reason}")]
    HelperFailed {
        /// Program name.
        helper: String,
        /// `get`, `store`, `erase` or `list`.
        action: &'static str,
        /// How the helper ended; never what it printed.
        reason: String,
    },
    /// There are no credentials for the registry.
    #[error("not logged in to {0}")]
    NotLoggedIn(String),
    /// Whoever was asked for credentials cannot say.
    #[error("{0}")]
    Credentials(String),
    /// No place to keep credentials is known.
    #[error("no place to keep credentials: set HOME, DOCKER_CONFIG or REGISTRY_AUTH_FILE")]
    NoCredentialsFile,
    /// An error of a local file.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content to upload cannot be read.
    #[error("cannot read {target} to upload it: {source}")]
    Source {
        /// The content.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The embedded server cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Store(Box::new(error))
    }
}

impl Error {
    /// Whether the same request may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::RateLimited(_) | Error::Cut { .. } => true,
            Error::Unexpected(answer) => matches!(answer.status, 500 | 502 | 503 | 504),
            Error::Transport { retryable, .. } | Error::CacheService { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// The registry's answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Error::Unauthorized(answer)
            | Error::Denied(answer)
            | Error::NotFound { answer, .. }
            | Error::RateLimited(answer)
            | Error::TooLarge(answer)
            | Error::Full(answer)
            | Error::Unexpected(answer) => Some(answer),
            _ => None,
        }
    }

    /// A failure of a service that keeps files, which another try does not mend.
    pub(crate) fn of_service(service: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::CacheService { service: service.into(), reason: reason.into(), retryable: false }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }
}

/// The start of an answer, for messages: at most 200 characters in one line, without control characters.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_harmless() {
        assert_eq!(excerpt(b"<html>\n\t\x1b[31mred\x07</html>\0"), "<html> [31mred</html>");
        assert_eq!(excerpt("é".repeat(300).as_bytes()).chars().count(), 203);
        assert_eq!(excerpt(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }
}
