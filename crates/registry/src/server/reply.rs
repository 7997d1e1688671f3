//! Answers, and the errors of the distribution specification, "Error Codes".

use std::io;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::reply_body::ReplyBody;

/// An answer.
pub(super) type Reply = Response<ReplyBody>;

/// Why a request fails.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Problem {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn not_found(message: &str) -> Problem {
        Problem::new(404, "UNSUPPORTED", message)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Problem {
        self.headers.push((name, value.into()));
        self
    }

    /// Turns an impossible name into "not found" if `reads` says that the request creates nothing.
    pub(super) fn when_reading(mut self, reads: bool) -> Problem {
        if reads && matches!(self.code, "NAME_INVALID" | "TAG_INVALID") {
            self.status = 404;
        }
        self
    }

    pub(super) fn reply(self) -> Reply {
        let body =
            json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]}).to_string();
        let mut reply = reply(self.status).with("content-type", "application/json");
        for (name, value) in self.headers {
            reply = reply.with(name, &value);
        }
        reply.body(body.into_bytes())
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Problem {
        Problem::new(
            if is_full(&error) { 507 } else { 500 },
            "UNKNOWN",
            format!("the registry's disk: {error}"),
        )
    }
}

/// Builds an answer.
pub(super) struct Builder(Response<ReplyBody>);

/// Begins an answer with a status.
pub(super) fn reply(status: u16) -> Builder {
    let mut response = Response::new(ReplyBody::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    Builder(response)
}

impl Builder {
    /// Sets a header; an invalid value is left out.
    pub(super) fn with(mut self, name: &str, value: &str) -> Builder {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    /// Adds a header that may occur several times.
    pub(super) fn and(mut self, name: &'static str, value: &str) -> Builder {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().append(name, value);
        }
        self
    }

    pub(super) fn body(mut self, bytes: Vec<u8>) -> Reply {
        *self.0.body_mut() = ReplyBody::of(bytes);
        self.0
    }

    pub(super) fn stream(mut self, body: ReplyBody) -> Reply {
        *self.0.body_mut() = body;
        self.0
    }

    pub(super) fn json(self, value: &impl serde::Serialize) -> Reply {
        let bytes = serde_json::to_vec(value).expect("lists and maps with string keys always serialise");
        let builder = if self.0.headers().contains_key(CONTENT_TYPE) {
            self
        } else {
            self.with("content-type", "application/json")
        };
        builder.body(bytes)
    }

    pub(super) fn empty(self) -> Reply {
        self.0
    }
}

/// Whether a write failed because the disk or a quota is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
