//! Uploads: whole, in chunks, mounted, cancelled, abandoned.

use std::fs::OpenOptions;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossdock_oci::Digest;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_RANGE;

use super::auth::Caller;
use super::faults::Fault;
use super::handler::Handler;
use super::metrics::add;
use super::receive::{Received, Sink, receive};
use super::reply::{Builder, Problem, Reply, is_full, reply};
use super::request::{Failure, Handled, Head, blocking, malformed_body, text_header};
use super::route::{parameter, parse_digest, repository};
use super::upload_states::UploadState;

/// Interval between searches for abandoned uploads.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

impl Handler {
    pub(super) async fn begin_upload(
        &self,
        head: &Head<'_>,
        caller: &Caller,
        name: String,
        body: &mut Incoming,
    ) -> Handled {
        // A mount that cannot be done, for whatever reason, becomes an upload (distribution specification,
        // "Mounting a blob from another repository").
        let mount = parameter(head.query, "mount").and_then(|digest| parse_digest(&digest).ok());
        if let Some(digest) = mount
            && !matches!(head.fault, Some(Fault::RefuseMount))
            && self.mount(caller, &name, &digest, parameter(head.query, "from")).await?
        {
            return Ok(created(&name, &digest));
        }
        if let Some(algorithm) = parameter(head.query, "digest-algorithm")
            && !matches!(algorithm.as_str(), "sha256" | "sha512")
        {
            let message = format!("digests of {algorithm} are not supported: use sha256 or sha512");
            return Err(Problem::new(400, "DIGEST_INVALID", message).into());
        }
        let (storage, to) = (self.storage.clone(), name.clone());
        let id = blocking(move || Ok(storage.create_upload(&to)?)).await?;
        if parameter(head.query, "digest").is_some() {
            return self.finish_upload(head, &name, &id, body).await;
        }
        Ok(place(reply(202), &name, &id, 0).empty())
    }

    /// Adds a blob to the repository `to` from `from`, or from any repository, if there is one that has the
    /// blob and that the caller may pull from; false if there is none.
    async fn mount(
        &self,
        caller: &Caller,
        to: &str,
        digest: &Digest,
        from: Option<String>,
    ) -> Result<bool, Problem> {
        let sources = match from {
            Some(from) => repository(&from.split('/').collect::<Vec<_>>()).into_iter().collect(),
            None => {
                let (storage, wanted) = (self.storage.clone(), digest.clone());
                blocking(move || Ok(storage.repositories_with(&wanted)?)).await?
            }
        };
        let Some(from) = sources.into_iter().find(|name| self.auth.may_pull(caller, name)) else {
            return Ok(false);
        };
        let lock = self.storage.writing().await?;
        let (storage, to, wanted) = (self.storage.clone(), to.to_string(), digest.clone());
        blocking(move || Ok(storage.mount(&lock, &from, &to, &wanted)?)).await
    }

    async fn upload_length(&self, name: &str, id: &str) -> Result<u64, Problem> {
        let path = self.storage.upload_path(name, id);
        match blocking(move || Ok(std::fs::metadata(path)?.len())).await {
            Ok(length) => Ok(length),
            Err(_) => {
                self.uploads.forget(id);
                Err(Problem::new(404, "BLOB_UPLOAD_UNKNOWN", "no such upload"))
            }
        }
    }

    pub(super) async fn upload_status(&self, name: &str, id: &str) -> Handled {
        let state = self.uploads.state(id);
        // A request that was cut may still be writing; its connection will soon be found dead.
        let _state = state.lock().await;
        let length = self.upload_length(name, id).await?;
        Ok(place(reply(204), name, id, length).empty())
    }

    pub(super) async fn patch_upload(
        &self,
        head: &Head<'_>,
        name: &str,
        id: &str,
        body: &mut Incoming,
    ) -> Handled {
        let state = self.uploads.state(id);
        let mut state = state.lock().await;
        let length = self.append(head, name, id, body, &mut state).await?;
        Ok(place(reply(202), name, id, length).empty())
    }

    pub(super) async fn finish_upload(
        &self,
        head: &Head<'_>,
        name: &str,
        id: &str,
        body: &mut Incoming,
    ) -> Handled {
        let digest = parameter(head.query, "digest");
        let digest =
            parse_digest(&digest.ok_or_else(|| Problem::new(400, "DIGEST_INVALID", "no digest given"))?)?;
        let shared = self.uploads.state(id);
        let mut state = shared.lock().await;
        let length = self.append(head, name, id, body, &mut state).await?;
        let hasher = (state.length == length).then(|| state.hasher.clone());
        let lock = self.storage.writing().await?;
        let (storage, to, upload, wanted) =
            (self.storage.clone(), name.to_string(), id.to_string(), digest.clone());
        let result = blocking(move || storage.commit_upload(&lock, &to, &upload, &wanted, hasher)).await;
        match result {
            Ok(()) => {
                self.uploads.forget(id);
                Ok(created(name, &digest))
            }
            Err(problem) if problem.status == 507 => {
                self.drop_upload(name, id).await;
                Err(problem.into())
            }
            Err(problem) => {
                self.uploads.forget(id);
                Err(problem.into())
            }
        }
    }

    pub(super) async fn cancel_upload(&self, name: &str, id: &str) -> Handled {
        let state = self.uploads.state(id);
        let _state = state.lock().await;
        self.upload_length(name, id).await?;
        let path = self.storage.upload_path(name, id);
        blocking(move || Ok(std::fs::remove_file(path)?)).await?;
        self.uploads.forget(id);
        Ok(reply(204).empty())
    }

    /// Appends a body to an upload; returns the upload's length in bytes. On a full disk the upload is
    /// dropped, since no other upload can be written before it is gone.
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
        let range = announced.map(upload_range);
        if let Some(range) = range
            && range.is_none_or(|(start, _)| start != length)
        {
            let mut problem = Problem::new(416, "BLOB_UPLOAD_INVALID", format!("the next byte is {length}"));
            problem.headers = upload_headers(name, id, length);
            return Err(problem.into());
        }
        if let (Some(Some(range)), Some(size)) = (range, body.size_hint().exact())
            && size.checked_sub(1) != Some(range.1 - range.0)
        {
            return Err(other_length(range, size).into());
        }
        if body.is_end_stream() {
            return Ok(length);
        }
        let (storage, coming) = (self.storage.clone(), body.size_hint().lower());
        if blocking(move || Ok(storage.room()? < coming)).await? {
            self.drop_upload(name, id).await;
            return Err(Problem::from(io::Error::from(io::ErrorKind::StorageFull)).into());
        }
        let path = self.storage.upload_path(name, id);
        let file = blocking(move || Ok(OpenOptions::new().append(true).open(path)?)).await?;
        let hasher = (state.length == length).then(|| state.hasher.clone());
        let limit = match head.fault {
            Some(Fault::CutRequest(after)) => Some(*after),
            _ => None,
        };
        let options = self.options();
        let sink = Sink::new(file, hasher, options.sync);
        let (end, hasher, written) =
            receive(body, sink, head.socket, options.stall, limit, &self.places).await;
        add(&self.metrics.bytes_received, written);
        // Without a hash the state's length differs from the file's, so the final request hashes the file.
        if let Some(hasher) = hasher {
            *state = UploadState { hasher, length: length + written };
        }
        match end {
            // A body whose length was not announced can be compared with its range only now.
            Ok(Received::Whole) if range.flatten().is_some_and(|(start, end)| end - start + 1 != written) => {
                *state = UploadState::default();
                let path = self.storage.upload_path(name, id);
                blocking(move || Ok(OpenOptions::new().write(true).open(path)?.set_len(length)?)).await?;
                Err(other_length(range.flatten().unwrap_or_default(), written).into())
            }
            Ok(Received::Whole) => Ok(length + written),
            Ok(Received::Cut) => Err(Failure::Aborted),
            Ok(Received::Malformed) => Err(malformed_body().into()),
            Err(e) => {
                if is_full(&e) {
                    self.drop_upload(name, id).await;
                }
                Err(e.into())
            }
        }
    }

    async fn drop_upload(&self, name: &str, id: &str) {
        add(&self.metrics.uploads_dropped, 1);
        let path = self.storage.upload_path(name, id);
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
        self.uploads.forget(id);
    }

    /// Removes abandoned uploads for as long as the server runs.
    pub(super) async fn sweep_uploads(self: Arc<Handler>) {
        loop {
            let handler = self.clone();
            let expiry = self.options().upload_expiry;
            let swept = tokio::task::spawn_blocking(move || {
                handler.storage.remove_old_uploads(expiry, |id| handler.uploads.is_busy(id))
            });
            if let Ok(Ok(gone)) = swept.await {
                add(&self.metrics.uploads_dropped, gone.len() as u64);
                gone.iter().for_each(|id| self.uploads.forget(id));
            }
            tokio::time::sleep(SWEEP_EVERY.min(expiry)).await;
        }
    }
}

/// The answer to a chunk whose range and body differ in length.
fn other_length((start, end): (u64, u64), size: u64) -> Problem {
    let message = format!("the range {start}-{end} does not have the {size} bytes of the body");
    Problem::new(400, "SIZE_INVALID", message)
}

/// The first and the last byte of a chunk's `Content-Range: START-END`.
fn upload_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let (start, end) = text.split('/').next()?.split_once('-')?;
    let (start, end) = (start.parse::<u64>().ok()?, end.parse::<u64>().ok()?);
    (start <= end).then_some((start, end))
}

/// Headers that say where an upload goes on. An empty upload has the range `0-0`, as with Docker's registry.
fn upload_headers(name: &str, id: &str, length: u64) -> Vec<(&'static str, String)> {
    vec![
        ("location", format!("/v2/{name}/blobs/uploads/{id}")),
        ("docker-upload-uuid", id.to_string()),
        ("range", format!("0-{}", length.saturating_sub(1))),
    ]
}

fn place(answer: Builder, name: &str, id: &str, length: u64) -> Builder {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_chunks() {
        assert_eq!(upload_range("5-9"), Some((5, 9)));
        assert_eq!(upload_range("bytes 5-9/*"), Some((5, 9)));
        assert_eq!(upload_range("9-5"), None);
        assert_eq!(upload_range("x"), None);
    }
}
