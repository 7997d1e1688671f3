//! Faults on purpose, for tests of clients: what networks, proxies and broken registries do.

use std::sync::Arc;

/// What a hook sees of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// HTTP method.
    pub method: String,
    /// Path of the URL.
    pub path: String,
    /// Query of the URL, without the question mark.
    pub query: String,
    /// `Authorization` as it came. Tests look for secrets in places where they do not belong.
    pub authorization: Option<String>,
    /// `Range` as it came.
    pub range: Option<String>,
    /// `Content-Range` as it came.
    pub content_range: Option<String>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is closed without an answer.
    Close,
    /// No answer ever comes, and the connection stays open.
    Silence,
    /// The answer's body breaks off after that many bytes.
    CutResponse(u64),
    /// Nothing more comes after that many bytes of the answer's body, and the connection stays open.
    StallResponse(u64),
    /// Of the request's body that many bytes are taken, then the connection is closed.
    CutRequest(u64),
    /// Something else is answered.
    Answer {
        /// HTTP status.
        status: u16,
        /// Headers.
        headers: Vec<(String, String)>,
        /// Body.
        body: String,
    },
    /// The first byte of the answer's body is changed.
    Corrupt,
    /// `Range` is not looked at.
    IgnoreRange,
    /// A mount is answered with a place to upload to.
    RefuseMount,
    /// All tokens are forgotten first.
    ExpireTokens,
}

impl Fault {
    /// An answer with a status and a body of plain text.
    pub fn status(status: u16, body: &str) -> Fault {
        Fault::Answer { status, headers: Vec::new(), body: body.to_string() }
    }
}

/// Decides about each request.
pub type Hook = Arc<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;
