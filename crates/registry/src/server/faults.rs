//! Deliberate faults, for tests of clients: what networks, proxies and broken registries do.

use std::sync::Arc;

/// The facts about a request that a hook gets.
#[derive(Clone, Debug)]
pub struct Seen {
    /// HTTP method.
    pub method: String,
    /// Path of the URL.
    pub path: String,
    /// Query of the URL, without the question mark.
    pub query: String,
    /// `Authorization` as received. Tests check that secrets appear nowhere else.
    pub authorization: Option<String>,
    /// `Range` as received.
    pub range: Option<String>,
    /// `Content-Range` as received.
    pub content_range: Option<String>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is closed without an answer.
    Close,
    /// No answer ever comes, and the connection stays open.
    Silence,
    /// The answer's body breaks off after this many bytes.
    CutResponse(u64),
    /// The answer's body stalls after this many bytes, and the connection stays open.
    StallResponse(u64),
    /// The connection is closed after this many bytes of the request's body.
    CutRequest(u64),
    /// A different answer is sent.
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
    /// `Range` is ignored.
    IgnoreRange,
    /// A mount is refused, and an upload begun instead.
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

/// Chooses a fault for each request.
pub type Hook = Arc<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;
