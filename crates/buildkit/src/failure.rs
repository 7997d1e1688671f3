//! Errors as BuildKit's clients understand them: a status of gRPC whose details say where in the Dockerfile
//! the error is (BuildKit, solver/errdefs; containerd's typeurl).

use base64::Engine as _;
use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::pb;
use crossdock_builder::files::tree::SelectError;
use crossdock_builder::{BuildError, ErrorKind};
use crossdock_dockerfile::Lines;
use prost::Message;
use tonic::{Code, Status};

/// The type of the detail that says where an error is. The value is JSON, not a message: BuildKit's clients
/// read it by `encoding/json` (util/grpcerrors, `withDetails`).
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// The most lines that an error points at.
const RANGES_MAX: usize = 1000;

/// A detail of a type of BuildKit, in JSON.
pub fn detail(kind: &str, value: &serde_json::Value) -> Any {
    let type_url = format!("github.com/moby/buildkit/{kind}+json");
    Any { type_url, value: value.to_string().into_bytes() }
}

/// A detail of BuildKit's `errdefs` that consists of a name.
fn named(kind: &str, name: &str) -> Any {
    detail(&format!("errdefs.{kind}"), &serde_json::json!({ "name": name }))
}

/// `errdefs.Source` of BuildKit.
fn source(info: &pb::SourceInfo, lines: Lines) -> Vec<u8> {
    // One range for each line, as BuildKit has it.
    let range = |line: usize| serde_json::json!({ "start": { "line": line }, "end": { "line": line } });
    let ranges: Vec<serde_json::Value> = (lines.start..=lines.end).take(RANGES_MAX).map(range).collect();
    let value = serde_json::json!({
        "info": {
            "filename": info.filename,
            "data": base64::engine::general_purpose::STANDARD.encode(&info.data),
            "language": info.language,
            "definition": {},
        },
        "ranges": ranges,
    });
    value.to_string().into_bytes()
}

/// Why a build failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// gRPC's code.
    pub code: Code,
    /// For a person.
    pub message: String,
    /// The lines of the Dockerfile that it is about.
    pub source: Option<(pb::SourceInfo, Lines)>,
    /// The vertex that failed.
    pub vertex: Option<String>,
    /// Details that a client gave with its own error.
    pub details: Vec<Any>,
}

impl Failure {
    /// A failure with a code of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), source: None, vertex: None, details: Vec::new() }
    }

    /// A question about a Dockerfile that this builder does not know.
    pub fn unknown_question(name: &str) -> Failure {
        let message = format!("unsupported request {name}");
        Failure { details: vec![named("Subrequest", name)], ..Failure::new(Code::Unimplemented, message) }
    }

    /// A capability that a client wants of the frontend, and that it has not.
    pub fn unknown_capability(name: &str) -> Failure {
        let message = format!("unsupported frontend capability {name}");
        Failure { details: vec![named("FrontendCap", name)], ..Failure::new(Code::Unimplemented, message) }
    }

    /// The failure of something else than a step.
    pub fn of(error: &anyhow::Error) -> Failure {
        match error.downcast_ref::<Failure>() {
            Some(failure) => failure.clone(),
            None => Failure::new(Code::Unknown, crossdock_delivery::files::chain(error)),
        }
    }

    /// The failure of a build.
    pub fn of_build(error: &BuildError, dockerfile: &pb::SourceInfo) -> Failure {
        let code = match &error.kind {
            ErrorKind::Cancelled | ErrorKind::Interrupted => Code::Cancelled,
            // Clients put the names of other codes before the message.
            _ => Code::Unknown,
        };
        Failure {
            code,
            message: message(&error.kind),
            source: error.lines.map(|lines| (dockerfile.clone(), lines)),
            vertex: None,
            details: Vec::new(),
        }
    }

    /// The failure as a message, with its details.
    pub fn to_proto(&self) -> rpc::Status {
        let mut details = self.details.clone();
        if let Some((info, lines)) = &self.source {
            details.push(Any { type_url: SOURCE.to_string(), value: source(info, *lines) });
        }
        if let Some(vertex) = &self.vertex {
            details.push(detail("errdefs.Vertex", &serde_json::json!({ "digest": vertex })));
        }
        if !details.is_empty() {
            // Clients show with --debug which program an error is of; BuildKit adds its frames.
            let version = env!("CARGO_PKG_VERSION");
            details.push(detail(
                "stack.Stack",
                &serde_json::json!({ "cmdline": ["crossdock"], "version": version }),
            ));
        }
        rpc::Status { code: self.code as i32, message: self.message.clone(), details }
    }

    /// The failure as the answer of a call.
    pub fn status(&self) -> Status {
        let status = self.to_proto();
        match status.details.is_empty() {
            true => Status::new(self.code, &self.message),
            false => Status::with_details(self.code, &self.message, status.encode_to_vec().into()),
        }
    }
}

/// The sentence of an error. Where clients and their users know BuildKit's sentence, it is that one.
fn message(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Source { origin, source: SelectError::NotFound(path) | SelectError::Ignored(path) } => {
            let (origin, path) = (origin.replace(char::is_whitespace, "-"), path.trim_start_matches('/'));
            format!(
                "failed to compute cache key: failed to calculate checksum of ref {origin}: \"/{path}\": not found"
            )
        }
        ErrorKind::MissingSecret(id) => format!("secret {id}: not found, but a mount requires it"),
        other => other.to_string(),
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_read_the_sentences_that_they_know() {
        let missing = ErrorKind::Source {
            origin: "the build context".to_string(),
            source: SelectError::NotFound("a/b".to_string()),
        };
        let failure = Failure::of_build(&missing.at(Lines { start: 2, end: 4 }), &pb::SourceInfo::default());
        assert_eq!(
            failure.message,
            "failed to compute cache key: failed to calculate checksum of ref the-build-context: \"/a/b\": not found"
        );
        let detail: serde_json::Value =
            serde_json::from_slice(&source(&pb::SourceInfo::default(), Lines { start: 2, end: 4 }))
                .expect("JSON");
        let lines: Vec<_> =
            detail["ranges"].as_array().expect("a list").iter().map(|r| &r["start"]["line"]).collect();
        assert_eq!(lines, [2, 3, 4]);
    }
}
