//! What can go wrong with a farm.

use std::io;
use std::path::PathBuf;

use bazel_remote_apis::google::rpc;
use prost::Message;
use tonic::{Code, Status};

use crate::digest::Digest;

/// An error of a farm.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// A file of the settings cannot be read.
    #[error("read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(String),
    /// The server cannot be reached, or stopped answering.
    #[error("{farm} does not answer: {reason}")]
    Unreachable {
        /// Its address.
        farm: String,
        /// Why.
        reason: String,
    },
    /// The server does not let this client in.
    #[error(
        "{farm} refuses this client: {reason}; check the token (--farm-header) and certificate (--farm-cert), which may have expired"
    )]
    Unauthorised {
        /// Its address.
        farm: String,
        /// What it said.
        reason: String,
    },
    /// The server cannot do what is needed.
    #[error("{farm} cannot be used: {reason}")]
    Unfit {
        /// Its address.
        farm: String,
        /// What it lacks.
        reason: String,
    },
    /// No worker has the properties.
    #[error("no worker takes the step: {0}")]
    NoWorker(String),
    /// Blobs are not, or no longer, on the server.
    #[error("the farm does not have {}", names(.0))]
    Missing(Vec<Digest>),
    /// A blob is not what its digest says.
    #[error("the farm sent something else than the blob {digest}: {problem}")]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
    /// An answer that the API does not allow.
    #[error("the farm answered what it must not: {0}")]
    Answer(String),
    /// Any other error that the server reports.
    #[error("the farm reports an error: {message} ({code:?})")]
    Reported {
        /// Its kind.
        code: Code,
        /// Its text.
        message: String,
    },
    /// Local content cannot be read or written.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The build ended.
    #[error("the build ended")]
    Stopped,
}

fn names(digests: &[Digest]) -> String {
    match digests {
        [] => "a blob that the step needs".to_string(),
        [one] => format!("the blob {one}"),
        [one, more @ ..] => format!("the blob {one} and {} more", more.len()),
    }
}

impl FarmError {
    /// An error of the system.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> FarmError {
        FarmError::Io { doing: doing.into(), source }
    }

    /// The error of an answer.
    pub(crate) fn of_status(farm: &str, status: &Status) -> FarmError {
        let message = text_of(status);
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                FarmError::Unauthorised { farm: farm.to_string(), reason: message }
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                FarmError::Unreachable { farm: farm.to_string(), reason: message }
            }
            code => {
                let details = rpc::Status::decode(status.details()).map(|status| status.details);
                let details = details.unwrap_or_default();
                FarmError::of_parts(code, message, &details)
            }
        }
    }

    /// The error of an execution.
    pub(crate) fn of_message(farm: &str, status: &rpc::Status) -> FarmError {
        let code = Code::from(status.code);
        match code {
            Code::Unauthenticated | Code::PermissionDenied => {
                FarmError::Unauthorised { farm: farm.to_string(), reason: clean(&status.message) }
            }
            code => FarmError::of_parts(code, clean(&status.message), &status.details),
        }
    }

    fn of_parts(
        code: Code,
        message: String,
        details: &[bazel_remote_apis::google::protobuf::Any],
    ) -> FarmError {
        match code {
            Code::FailedPrecondition => match missing(details) {
                Some(digests) => FarmError::Missing(digests),
                None => FarmError::NoWorker(message),
            },
            code => FarmError::Reported { code, message },
        }
    }
}

/// The text of a status, and what caused it, since tonic hides that ("transport error").
fn text_of(status: &Status) -> String {
    let mut text = clean(status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = clean(&error.to_string());
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

/// At most so many characters of a server's text are shown.
const TEXT_MAX: usize = 500;

/// A server's text on one line, without what a terminal could take for a command.
pub(crate) fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect();
    text.trim().to_string()
}

/// `google.rpc.PreconditionFailure` (googleapis, `google/rpc/error_details.proto`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreconditionFailure {
    #[prost(message, repeated, tag = "1")]
    pub violations: Vec<Violation>,
}

/// `google.rpc.PreconditionFailure.Violation`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Violation {
    /// `MISSING` for a blob.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// `blobs/HASH/SIZE`.
    #[prost(string, tag = "2")]
    pub subject: String,
    #[prost(string, tag = "3")]
    pub description: String,
}

/// The blobs that a failed execution lacked (REAPI, "Execute", on FAILED_PRECONDITION); `None` if it failed
/// for another reason.
fn missing(details: &[bazel_remote_apis::google::protobuf::Any]) -> Option<Vec<Digest>> {
    let failures = details
        .iter()
        .filter(|any| any.type_url.ends_with("/google.rpc.PreconditionFailure"))
        .filter_map(|any| PreconditionFailure::decode(any.value.as_slice()).ok());
    let violations: Vec<Violation> = failures.flat_map(|failure| failure.violations).collect();
    if !violations.iter().any(|violation| violation.r#type == "MISSING") {
        return None;
    }
    let digest = |violation: &Violation| {
        // Perhaps with an instance before it, and a digest function.
        let mut parts = violation.subject.rsplit('/');
        let (size, hash) = (parts.next()?.parse().ok()?, parts.next()?);
        Digest::new(format!("sha256:{hash}").parse().ok()?, size)
    };
    Some(violations.iter().filter_map(digest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bazel_remote_apis::google::protobuf::Any;

    #[test]
    fn a_missing_blob_is_told_from_a_missing_worker() {
        let digest = Digest::of(b"x");
        let violation = |r#type: &str, subject: String| {
            let violation = Violation { r#type: r#type.to_string(), subject, description: String::new() };
            let failure = PreconditionFailure { violations: vec![violation] };
            let type_url = "type.googleapis.com/google.rpc.PreconditionFailure".to_string();
            rpc::Status {
                code: 9,
                message: "no".into(),
                details: vec![Any { type_url, value: failure.encode_to_vec() }],
            }
        };
        let error = FarmError::of_message("farm", &violation("MISSING", format!("blobs/{digest}")));
        assert!(matches!(error, FarmError::Missing(list) if list == [digest.clone()]));
        let error = FarmError::of_message("farm", &violation("MISSING", "nonsense".into()));
        assert!(matches!(error, FarmError::Missing(list) if list.is_empty()));
        let error = FarmError::of_message("farm", &violation("WORKER", "x".into()));
        assert!(matches!(error, FarmError::NoWorker(_)));
    }

    #[test]
    fn texts_of_servers_are_tamed() {
        assert_eq!(clean("a\x1b[31m\nb"), "a [31m b");
        assert_eq!(clean(&"x".repeat(10_000)).len(), TEXT_MAX);
    }
}
