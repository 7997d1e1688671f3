//! One request without its body, and how it ends.

use std::io;

use crossdock_oci::Digest;
use hyper::Method;
use hyper::header::HeaderMap;

use super::faults::Fault;
use super::reply::{Problem, Reply, reply};
use super::socket::Socket;

/// A request without its body.
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a str,
    pub(super) socket: &'a Socket,
    pub(super) fault: Option<&'a Fault>,
}

/// The connection is closed without an answer, or without the rest of one.
#[derive(Debug)]
pub(super) struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was given up")
    }
}

impl std::error::Error for Aborted {}

/// How a request fails.
pub(super) enum Failure {
    Problem(Problem),
    Aborted,
}

impl<P: Into<Problem>> From<P> for Failure {
    fn from(problem: P) -> Failure {
        Failure::Problem(problem.into())
    }
}

pub(super) type Handled = std::result::Result<Reply, Failure>;

/// The answer to a body with broken chunks.
pub(super) fn malformed_body() -> Problem {
    Problem::new(400, "SIZE_INVALID", "the body is not chunked as RFC 9112 asks")
}

pub(super) fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Runs work that touches the disk on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, Problem> + Send + 'static,
) -> std::result::Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Problem::from(io::Error::other(e))),
    }
}

/// The answer to a client that has the content already.
pub(super) fn not_modified(digest: &Digest) -> Reply {
    reply(304).with("docker-content-digest", digest.as_str()).with("etag", &format!("\"{digest}\"")).empty()
}
