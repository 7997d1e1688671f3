//! Errors as BuildKit's clients understand them: a status of gRPC whose details say where in the Dockerfile
//! the error is (BuildKit, solver/errdefs; containerd's typeurl).

use base64::Engine as _;
use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::pb;
use crossdock_builder::{BuildError, ErrorKind};
use crossdock_dockerfile::Lines;
use prost::Message;
use tonic::{Code, Status};

/// The type of the detail that says where an error is. The value is JSON, not a message: BuildKit's clients
/// read it by `encoding/json` (util/grpcerrors, `withDetails`).
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// `errdefs.Source` of BuildKit.
fn source(info: &pb::SourceInfo, lines: Lines) -> Vec<u8> {
    let value = serde_json::json!({
        "info": {
            "filename": info.filename,
            "data": base64::engine::general_purpose::STANDARD.encode(&info.data),
            "language": info.language,
        },
        "ranges": [{ "start": { "line": lines.start }, "end": { "line": lines.end } }],
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
    /// Details that a client gave with its own error.
    pub details: Vec<Any>,
}

impl Failure {
    /// A failure with a code of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), source: None, details: Vec::new() }
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
            message: error.to_string(),
            source: error.lines.map(|lines| (dockerfile.clone(), lines)),
            details: Vec::new(),
        }
    }

    /// The status with its details.
    pub fn status(&self) -> Status {
        let mut details = self.details.clone();
        if let Some((info, lines)) = &self.source {
            details.push(Any { type_url: SOURCE.to_string(), value: source(info, *lines) });
        }
        if details.is_empty() {
            return Status::new(self.code, &self.message);
        }
        let status = rpc::Status { code: self.code as i32, message: self.message.clone(), details };
        Status::with_details(self.code, &self.message, status.encode_to_vec().into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
