//! Requests to answers.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::sync::{Arc, Mutex};

use crossdock_oci::Digest;
use crossdock_oci::digest::Hasher;
use crossdock_oci::manifest::{Index, MANIFEST_SIZE_MAX};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use hyper::{Method, Request};
use serde_json::json;

use super::ServerOptions;
use super::auth::Auth;
use super::body::{Received, ReplyBody, receive};
use super::faults::{Fault, Seen};
use super::reply::{Problem, Reply, reply};
use super::route::{Identifier, Route, parameter, parse_digest, repository};
use super::storage::Storage;

/// Everything that requests share.
pub(super) struct Handler {
    storage: Storage,
    options: ServerOptions,
    auth: Auth,
    /// Uploads that were touched since the start; one request at a time works on each.
    uploads: Mutex<HashMap<String, Arc<tokio::sync::Mutex<UploadState>>>>,
}

/// The hash of an upload's first `length` bytes, so that they need not be read again at its end.
struct UploadState {
    hasher: Hasher,
    length: u64,
}

/// A request without its body.
struct Head<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    query: &'a str,
    fault: Option<&'a Fault>,
}

/// The connection is closed without (the rest of) an answer.
#[derive(Debug)]
pub(super) struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was given up")
    }
}

impl std::error::Error for Aborted {}

/// How a request fails.
enum Failure {
    Problem(Problem),
    Aborted,
}

impl<P: Into<Problem>> From<P> for Failure {
    fn from(problem: P) -> Failure {
        Failure::Problem(problem.into())
    }
}

type Handled = Result<Reply, Failure>;

impl Handler {
    pub(super) fn new(storage: Storage, options: ServerOptions) -> Handler {
        let auth = Auth::new(options.auth.clone());
        Handler { storage, options, auth, uploads: Mutex::default() }
    }

    /// Answers a request, spoiled if a hook wants that.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Result<Reply, Aborted> {
        let fault = self.options.faults.as_ref().and_then(|hook| hook(&seen(&request)));
        match &fault {
            Some(Fault::Close) => return Err(Aborted),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Answer { status, headers, body }) => {
                let mut builder = reply(*status);
                for (name, value) in headers {
                    builder = builder.with(name, value);
                }
                return Ok(builder.body(body.clone().into_bytes()));
            }
            Some(Fault::ExpireTokens) => self.auth.expire_all(),
            _ => {}
        }
        let is_head = request.method() == Method::HEAD;
        let mut answer = match self.answer(request, fault.as_ref()).await {
            Ok(answer) => answer,
            Err(Failure::Problem(problem)) => problem.reply(),
            Err(Failure::Aborted) => return Err(Aborted),
        };
        match fault {
            Some(Fault::CutResponse(after)) => answer.body_mut().cut(after, false),
            Some(Fault::StallResponse(after)) => answer.body_mut().cut(after, true),
            Some(Fault::Corrupt) => answer.body_mut().corrupt(),
            _ => {}
        }
        if is_head && !answer.headers().contains_key("content-length") {
            let length = hyper::body::Body::size_hint(answer.body()).exact().unwrap_or(0);
            answer.headers_mut().insert("content-length", length.into());
            *answer.body_mut() = ReplyBody::empty();
        }
        Ok(answer)
    }

    async fn answer(&self, request: Request<Incoming>, fault: Option<&Fault>) -> Handled {
        let (parts, mut body) = request.into_parts();
        let route = Route::parse(parts.uri.path())?;
        let query = parts.uri.query().unwrap_or("");
        let head = Head { method: &parts.method, headers: &parts.headers, query, fault };
        if route == Route::Token {
            return self.token(&head, body).await;
        }
        self.auth.check(&parts.method, &route, &parts.headers)?;
        let changes = !matches!(parts.method, Method::GET | Method::HEAD);
        if changes && self.options.read_only {
            return Err(Problem::new(405, "UNSUPPORTED", "this registry is read-only").into());
        }
        match (&parts.method, route) {
            (&Method::GET | &Method::HEAD, Route::Ping) => Ok(reply(200).json(&json!({}))),
            (&Method::GET, Route::Catalog) => {
                let storage = self.storage.clone();
                let all = blocking(move || Ok(storage.repositories()?)).await?;
                Ok(page(&all, query, "/v2/_catalog", |names| json!({"repositories": names})))
            }
            (&Method::GET, Route::Tags { name }) => self.tags(name, query).await,
            (&Method::GET, Route::Referrers { name, digest }) => self.referrers(name, digest, query).await,
            (&Method::GET | &Method::HEAD, Route::Manifest { name, identifier }) => {
                self.manifest(name, identifier).await
            }
            (&Method::PUT, Route::Manifest { name, identifier }) => {
                self.put_manifest(&head, name, identifier, body).await
            }
            (&Method::DELETE, Route::Manifest { name, identifier }) => {
                let storage = self.storage.clone();
                match blocking(move || Ok(storage.delete_manifest(&name, &identifier)?)).await? {
                    true => Ok(reply(202).empty()),
                    false => Err(manifest_unknown().into()),
                }
            }
            (&Method::GET | &Method::HEAD, Route::Blob { name, digest }) => {
                self.blob(&head, name, digest).await
            }
            (&Method::DELETE, Route::Blob { name, digest }) => {
                let storage = self.storage.clone();
                match blocking(move || Ok(storage.unlink_blob(&name, &digest)?)).await? {
                    true => Ok(reply(202).empty()),
                    false => Err(blob_unknown().into()),
                }
            }
            (&Method::POST, Route::Uploads { name }) => self.begin_upload(&head, name, &mut body).await,
            (method, Route::Upload { name, id }) => match *method {
                Method::GET => self.upload_status(&name, &id).await,
                Method::PATCH => self.patch_upload(&head, &name, &id, &mut body).await,
                Method::PUT => self.finish_upload(&head, &name, &id, &mut body).await,
                Method::DELETE => self.cancel_upload(&name, &id).await,
                _ => Err(unsupported().into()),
            },
            _ => Err(unsupported().into()),
        }
    }

    async fn token(&self, head: &Head<'_>, body: Incoming) -> Handled {
        let form = match *head.method {
            Method::POST => {
                let bytes = collect(body, 64 * 1024).await?;
                Some(String::from_utf8(bytes).map_err(|_| Problem::new(400, "UNSUPPORTED", "not a form"))?)
            }
            _ => None,
        };
        Ok(self.auth.token(head.headers, head.query, form.as_deref())?)
    }

    // Lists.

    async fn tags(&self, name: String, query: &str) -> Handled {
        let storage = self.storage.clone();
        let wanted = name.clone();
        match blocking(move || Ok(storage.tags(&wanted)?)).await? {
            Some(tags) => Ok(page(
                &tags,
                query,
                &format!("/v2/{name}/tags/list"),
                |tags| json!({"name": name, "tags": tags}),
            )),
            None => Err(Problem::new(404, "NAME_UNKNOWN", "no such repository").into()),
        }
    }

    async fn referrers(&self, name: String, digest: Digest, query: &str) -> Handled {
        let storage = self.storage.clone();
        let mut found = blocking(move || Ok(storage.referrers(&name, &digest)?)).await?;
        let mut answer = reply(200).with("content-type", crossdock_oci::media_type::OCI_INDEX);
        if let Some(wanted) = parameter(query, "artifactType") {
            found.retain(|d| d.artifact_type.as_deref() == Some(wanted.as_str()));
            answer = answer.with("oci-filters-applied", "artifactType");
        }
        Ok(answer.json(&Index::new(found)))
    }

    // Manifests.

    async fn manifest(&self, name: String, identifier: Identifier) -> Handled {
        let storage = self.storage.clone();
        let stored = blocking(move || Ok(storage.manifest(&name, &identifier)?)).await?;
        let stored = stored.ok_or_else(manifest_unknown)?;
        Ok(reply(200)
            .with("content-type", &stored.media_type)
            .with("docker-content-digest", stored.digest.as_str())
            .with("etag", &format!("\"{}\"", stored.digest))
            .body(stored.bytes))
    }

    async fn put_manifest(
        &self,
        head: &Head<'_>,
        name: String,
        identifier: Identifier,
        body: Incoming,
    ) -> Handled {
        let bytes = collect(body, MANIFEST_SIZE_MAX as usize).await?;
        let content_type = text_header(head.headers, CONTENT_TYPE.as_str());
        let announced = content_type.map(|t| t.split(';').next().unwrap_or(t).trim().to_string());
        let storage = self.storage.clone();
        let location = format!("/v2/{name}/manifests/");
        let (digest, subject) = blocking(move || {
            storage.put_manifest(&name, &identifier, announced.as_deref().filter(|t| !t.is_empty()), &bytes)
        })
        .await?;
        let mut answer = reply(201)
            .with("location", &format!("{location}{digest}"))
            .with("docker-content-digest", digest.as_str());
        if let Some(subject) = subject {
            answer = answer.with("oci-subject", subject.as_str());
        }
        Ok(answer.empty())
    }

    // Blobs.

    async fn blob(&self, head: &Head<'_>, name: String, digest: Digest) -> Handled {
        let storage = self.storage.clone();
        let wanted = digest.clone();
        let found = blocking(move || Ok(storage.open_blob(&name, &wanted)?)).await?;
        let (mut file, size) = found.ok_or_else(blob_unknown)?;
        let range = match head.fault {
            Some(Fault::IgnoreRange) => None,
            _ => text_header(head.headers, RANGE.as_str()).and_then(|text| parse_range(text, size)),
        };
        let mut answer = reply(200)
            .with("content-type", "application/octet-stream")
            .with("docker-content-digest", digest.as_str())
            .with("etag", &format!("\"{digest}\""))
            .with("accept-ranges", "bytes");
        let (start, length) = match range {
            None => (0, size),
            Some(None) => {
                return Err(Problem::new(416, "RANGE_INVALID", "no such bytes")
                    .header("content-range", format!("bytes */{size}"))
                    .into());
            }
            Some(Some((start, length))) => {
                answer = reply(206)
                    .with("content-type", "application/octet-stream")
                    .with("docker-content-digest", digest.as_str())
                    .with("content-range", &format!("bytes {start}-{}/{size}", start + length - 1));
                (start, length)
            }
        };
        if head.method == Method::HEAD {
            return Ok(answer.with("content-length", &length.to_string()).empty());
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
        Ok(answer.stream(ReplyBody::file(file, length)))
    }

    // Uploads.

    async fn begin_upload(&self, head: &Head<'_>, name: String, body: &mut Incoming) -> Handled {
        if let (Some(digest), Some(from)) = (parameter(head.query, "mount"), parameter(head.query, "from")) {
            let digest = parse_digest(&digest)?;
            let from = repository(&from.split('/').collect::<Vec<_>>())?;
            let allowed =
                !matches!(head.fault, Some(Fault::RefuseMount)) && self.auth.may_pull(head.headers, &from);
            let (storage, to, wanted) = (self.storage.clone(), name.clone(), digest.clone());
            if allowed && blocking(move || Ok(storage.mount(&from, &to, &wanted)?)).await? {
                return Ok(created(&name, &digest));
            }
        }
        let (storage, to) = (self.storage.clone(), name.clone());
        let id = blocking(move || Ok(storage.create_upload(&to)?)).await?;
        if parameter(head.query, "digest").is_some() {
            return self.finish_upload(head, &name, &id, body).await;
        }
        Ok(place(reply(202), &name, &id, 0).empty())
    }

    /// The state of an upload; empty after a restart of the server.
    fn upload_state(&self, id: &str) -> Arc<tokio::sync::Mutex<UploadState>> {
        let mut uploads = self.uploads.lock().unwrap_or_else(|e| e.into_inner());
        let fresh = || Arc::new(tokio::sync::Mutex::new(UploadState { hasher: Hasher::sha256(), length: 0 }));
        uploads.entry(id.to_string()).or_insert_with(fresh).clone()
    }

    fn forget_upload(&self, id: &str) {
        self.uploads.lock().unwrap_or_else(|e| e.into_inner()).remove(id);
    }

    async fn upload_length(&self, name: &str, id: &str) -> Result<u64, Problem> {
        let path = self.storage.upload_path(name, id);
        match blocking(move || Ok(std::fs::metadata(path)?.len())).await {
            Ok(length) => Ok(length),
            Err(_) => {
                self.forget_upload(id);
                Err(Problem::new(404, "BLOB_UPLOAD_UNKNOWN", "no such upload"))
            }
        }
    }

    async fn upload_status(&self, name: &str, id: &str) -> Handled {
        let state = self.upload_state(id);
        // A request that was cut may still be writing; its connection is found dead soon.
        let _state = state.lock().await;
        let length = self.upload_length(name, id).await?;
        Ok(place(reply(204), name, id, length).empty())
    }

    async fn patch_upload(&self, head: &Head<'_>, name: &str, id: &str, body: &mut Incoming) -> Handled {
        let state = self.upload_state(id);
        let mut state = state.lock().await;
        let length = self.append(head, name, id, body, &mut state).await?;
        Ok(place(reply(202), name, id, length).empty())
    }

    async fn finish_upload(&self, head: &Head<'_>, name: &str, id: &str, body: &mut Incoming) -> Handled {
        let digest = parameter(head.query, "digest");
        let digest =
            parse_digest(&digest.ok_or_else(|| Problem::new(400, "DIGEST_INVALID", "no digest given"))?)?;
        let shared = self.upload_state(id);
        let mut state = shared.lock().await;
        let length = self.append(head, name, id, body, &mut state).await?;
        let hasher = (state.length == length).then(|| state.hasher.clone());
        let (storage, to, upload, wanted) =
            (self.storage.clone(), name.to_string(), id.to_string(), digest.clone());
        let result = blocking(move || storage.commit_upload(&to, &upload, &wanted, hasher)).await;
        self.forget_upload(id);
        result?;
        Ok(created(name, &digest))
    }

    async fn cancel_upload(&self, name: &str, id: &str) -> Handled {
        let state = self.upload_state(id);
        let _state = state.lock().await;
        self.upload_length(name, id).await?;
        let path = self.storage.upload_path(name, id);
        blocking(move || Ok(std::fs::remove_file(path)?)).await?;
        self.forget_upload(id);
        Ok(reply(204).empty())
    }

    /// Appends a body to an upload; returns the upload's length in bytes.
    async fn append(
        &self,
        head: &Head<'_>,
        name: &str,
        id: &str,
        body: &mut Incoming,
        state: &mut UploadState,
    ) -> Result<u64, Failure> {
        let length = self.upload_length(name, id).await?;
        let announced = text_header(head.headers, CONTENT_RANGE.as_str());
        if let Some(range) = announced
            && upload_range(range) != Some(length)
        {
            let mut problem = Problem::new(416, "BLOB_UPLOAD_INVALID", format!("the next byte is {length}"));
            problem.headers = upload_headers(name, id, length);
            return Err(problem.into());
        }
        let path = self.storage.upload_path(name, id);
        let file = blocking(move || Ok(OpenOptions::new().append(true).open(path)?)).await?;
        let hasher = (state.length == length).then(|| state.hasher.clone());
        let limit = match head.fault {
            Some(Fault::CutRequest(after)) => Some(*after),
            _ => None,
        };
        let (end, hasher, written) =
            receive(body, file, hasher, self.options.stall, limit, self.options.sync).await;
        // Without a hash the state stays behind the file, which makes the end hash the file.
        if let Some(hasher) = hasher {
            *state = UploadState { hasher, length: length + written };
        }
        match end? {
            Received::Whole => Ok(length + written),
            Received::Cut => Err(Failure::Aborted),
        }
    }
}

fn seen(request: &Request<Incoming>) -> Seen {
    let text = |name: &str| text_header(request.headers(), name).map(str::to_string);
    Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_string(),
        query: request.uri().query().unwrap_or("").to_string(),
        authorization: text(AUTHORIZATION.as_str()),
        range: text(RANGE.as_str()),
        content_range: text(CONTENT_RANGE.as_str()),
    }
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Runs what touches the disk on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Problem::from(io::Error::other(e))),
    }
}

/// A body that fits in memory.
async fn collect(body: Incoming, limit: usize) -> Result<Vec<u8>, Failure> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().to_vec()),
        Err(e) if e.is::<LengthLimitError>() => {
            Err(Problem::new(413, "SIZE_INVALID", format!("more than {limit} bytes")).into())
        }
        Err(_) => Err(Failure::Aborted),
    }
}

/// One page of a sorted list: `n` entries after `last`, with a link to the next page.
fn page(all: &[String], query: &str, path: &str, json: impl Fn(&[String]) -> serde_json::Value) -> Reply {
    let start = match parameter(query, "last") {
        Some(last) => all.partition_point(|name| *name <= last),
        None => 0,
    };
    let rest = &all[start..];
    let Some(n) = parameter(query, "n").and_then(|n| n.parse::<usize>().ok()) else {
        return reply(200).json(&json(rest));
    };
    let shown = &rest[..n.min(rest.len())];
    let answer = reply(200);
    match shown.last() {
        Some(last) if shown.len() < rest.len() => {
            let last = last.replace('/', "%2F");
            answer.with("link", &format!("<{path}?last={last}&n={n}>; rel=\"next\"")).json(&json(shown))
        }
        _ => answer.json(&json(shown)),
    }
}

/// `bytes=A-B`, `bytes=A-` or `bytes=-N` of a body of `size` bytes as start and length, RFC 9110 section 14.1.2. `None` for
/// what is to be ignored, such as several ranges; `Some(None)` for what cannot be satisfied.
fn parse_range(text: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    if last.contains(',') {
        return None;
    }
    if first.is_empty() {
        let length = last.parse::<u64>().ok()?.min(size);
        return Some((length > 0).then(|| (size - length, length)));
    }
    let first = first.parse::<u64>().ok()?;
    let last = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
    if last < first {
        return None;
    }
    Some((first < size).then(|| (first, last.min(size - 1) - first + 1)))
}

/// The start of a chunk's `Content-Range: START-END`.
fn upload_range(text: &str) -> Option<u64> {
    let text = text.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let (start, end) = text.split('/').next()?.split_once('-')?;
    let (start, end) = (start.parse::<u64>().ok()?, end.parse::<u64>().ok()?);
    (start <= end).then_some(start)
}

/// Where an upload goes on. An empty upload has the range `0-0`, as with Docker's registry.
fn upload_headers(name: &str, id: &str, length: u64) -> Vec<(&'static str, String)> {
    vec![
        ("location", format!("/v2/{name}/blobs/uploads/{id}")),
        ("docker-upload-uuid", id.to_string()),
        ("range", format!("0-{}", length.saturating_sub(1))),
    ]
}

fn place(answer: super::reply::Builder, name: &str, id: &str, length: u64) -> super::reply::Builder {
    upload_headers(name, id, length)
        .into_iter()
        .fold(answer, |answer, (name, value)| answer.with(name, &value))
}

fn created(name: &str, digest: &Digest) -> Reply {
    reply(201)
        .with("location", &format!("/v2/{name}/blobs/{digest}"))
        .with("docker-content-digest", digest.as_str())
        .empty()
}

fn manifest_unknown() -> Problem {
    Problem::new(404, "MANIFEST_UNKNOWN", "no such manifest")
}

fn blob_unknown() -> Problem {
    Problem::new(404, "BLOB_UNKNOWN", "no such blob in this repository")
}

fn unsupported() -> Problem {
    Problem::new(405, "UNSUPPORTED", "the endpoint does not do that")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-", 10), Some(Some((0, 10))));
        assert_eq!(parse_range("bytes=3-5", 10), Some(Some((3, 3))));
        assert_eq!(parse_range("bytes=3-99", 10), Some(Some((3, 7))));
        assert_eq!(parse_range("bytes=-4", 10), Some(Some((6, 4))));
        assert_eq!(parse_range("bytes=-40", 10), Some(Some((0, 10))));
        assert_eq!(parse_range("bytes=10-", 10), Some(None));
        assert_eq!(parse_range("bytes=0-", 0), Some(None));
        for ignored in ["bytes=1-2,4-5", "bytes=5-3", "lines=1-2", "bytes=x-", "bytes=-", ""] {
            assert_eq!(parse_range(ignored, 10), None, "{ignored}");
        }
        assert_eq!(upload_range("5-9"), Some(5));
        assert_eq!(upload_range("bytes 5-9/*"), Some(5));
        assert_eq!(upload_range("9-5"), None);
        assert_eq!(upload_range("x"), None);
    }

    #[test]
    fn pages_go_to_the_end() {
        let all: Vec<String> = ["a", "b/x", "c"].map(String::from).into();
        let answer = page(&all, "n=2", "/v2/_catalog", |names| json!(names));
        assert_eq!(answer.headers()["link"], "</v2/_catalog?last=b%2Fx&n=2>; rel=\"next\"");
        let answer = page(&all, "n=2&last=b%2Fx", "/v2/_catalog", |names| json!(names));
        assert!(answer.headers().get("link").is_none());
        let answer = page(&all, "n=0", "/p", |names| json!(names));
        assert!(answer.headers().get("link").is_none());
    }
}
