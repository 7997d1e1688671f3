//! Uploads blobs: distribution specification, "Pushing blobs" and "Mounting a blob from another repository".
//!
//! An upload goes through these states, and back to the first when it cannot continue:
//!
//! ```text
//! none --POST--> open(URL, 0) --PUT whole--> done
//!                    |  '------PATCH-------> open(URL, n) --PATCH...--> open(URL, size) --PUT empty--> done
//!                    '--cut, then GET URL--> open(URL, n)
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crossdock_oci::digest::Hashing;
use crossdock_oci::manifest::Descriptor;
use crossdock_oci::{Digest, Reference};
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, EXPECT};
use ureq::http::{HeaderMap, HeaderValue, Method};

use super::blob::blob_subject;
use super::failure::Subject;
use super::http::{LARGE, header_text};
use super::session::Scopes;
use super::url::Url;
use super::{Answered, Call, Client, Target};
use crate::error::{Error, Result};
use crate::hosts::Endpoint;
use crate::percent::encode;
use crate::progress::{Outcome, Progress};

/// Chunk size in bytes after a registry refused the whole blob as too large; below the limits of common
/// reverse proxies. Each further refusal divides the size by four.
const CHUNK_SIZE_AFTER_413: u64 = 32 * 1024 * 1024;
/// Smallest chunk size after refusals, in bytes.
const CHUNK_SIZE_MIN: u64 = 1024 * 1024;

/// Content that can be read repeatedly from any position.
pub trait BlobSource: Sync {
    /// A reader from `offset` bytes on.
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;

    /// Whether the content still matches `blob`.
    fn is_whole(&self, blob: &Descriptor) -> io::Result<bool> {
        let mut hashing = Hashing::with(io::sink(), blob.digest.hasher());
        let length = io::copy(&mut self.open(0)?, &mut hashing)?;
        let (_, digest, _) = hashing.finish();
        Ok(digest == blob.digest && length == blob.size)
    }
}

impl BlobSource for [u8] {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(Box::new(&self[offset..]))
    }
}

impl BlobSource for Vec<u8> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        self.as_slice().open(offset)
    }
}

/// The content of a file.
pub struct FileSource(pub PathBuf);

impl BlobSource for FileSource {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// A session of an upload that holds all bytes of a blob or the first of them. [`Client::put_begun`] must
/// close it, or [`Client::cancel_upload`] cancel it.
pub(crate) struct Begun {
    pub(super) endpoint: Endpoint,
    pub(super) url: Url,
    pub(super) offset: u64,
}

impl Begun {
    /// Bytes that the registry has.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

/// One upload under way.
struct Upload<'a> {
    client: &'a Client,
    endpoint: Endpoint,
    subject: Subject,
    scopes: Scopes,
    blob: &'a Descriptor,
    source: &'a dyn BlobSource,
    /// Repositories of the same registry that may have the blob and were not tried yet.
    mounts: Vec<String>,
    /// Where the upload continues; `None` until the registry has named a place.
    url: Option<Url>,
    /// Bytes that the registry has.
    offset: u64,
    chunk_size: Option<u64>,
}

impl Client {
    /// Brings a blob into the repository of `reference`. Nothing moves if the blob is there, or if the
    /// registry can mount it from one of `mount_from`, repositories on the same registry. Progress reports
    /// only bytes that move; see [`crate::transfer::push_blob`].
    pub fn put_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[String],
    ) -> Result<Outcome> {
        self.put_begun(reference, blob, source, mount_from, None)
    }

    /// Like [`Client::put_blob`]; continues an upload that has begun, or cancels it.
    pub(crate) fn put_begun(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[String],
        begun: Option<Begun>,
    ) -> Result<Outcome> {
        let endpoint = self.writable(reference)?;
        // One upload of a blob at a time; no further request for a blob that the registry is known to have.
        let known = self.known_blob(&endpoint, &blob.digest);
        let mut known = known.lock().unwrap_or_else(|e| e.into_inner());
        if *known || self.head_blob(reference, &blob.digest)?.is_some() {
            *known = true;
            if let Some(begun) = &begun {
                self.cancel_upload(reference, begun);
            }
            return Ok(Outcome::Existed);
        }
        let begun = begun.filter(|begun| begun.offset <= blob.size);
        // At most three sources: each one costs a request, and one scope of the token.
        let mounts: Vec<String> =
            mount_from.iter().filter(|from| **from != endpoint.repository).take(3).cloned().collect();
        let mut scopes = Scopes::push(&endpoint.repository);
        for from in &mounts {
            scopes = scopes.and_pull(from);
        }
        let upload = Upload {
            client: self,
            subject: blob_subject(reference, &blob.digest),
            endpoint,
            scopes,
            blob,
            source,
            mounts,
            offset: begun.as_ref().map_or(0, |begun| begun.offset),
            url: begun.map(|begun| begun.url),
            chunk_size: self.options().chunk_size,
        };
        let outcome = upload.run()?;
        *known = true;
        Ok(outcome)
    }
}

impl Upload<'_> {
    fn run(mut self) -> Result<Outcome> {
        let mut retries = self.client.retries();
        loop {
            let before = self.offset;
            match self.step() {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {
                    if self.offset > before {
                        retries.reset();
                    }
                }
                Err(Error::TooLarge(_)) if self.chunk_size.is_none_or(|size| size > CHUNK_SIZE_MIN) => {
                    let smaller = self.chunk_size.map(|size| (size / 4).max(CHUNK_SIZE_MIN));
                    self.chunk_size = Some(smaller.unwrap_or(CHUNK_SIZE_AFTER_413));
                    self.restart();
                }
                Err(e) if self.url.is_some() && (e.is_retryable() || is_lost(&e)) => {
                    let damaged = e.answer().is_some_and(|answer| answer.code == "DIGEST_INVALID");
                    // If the source itself is damaged, another try is useless.
                    if damaged && !self.source.is_whole(self.blob).map_err(|e| self.unreadable(e))? {
                        return Err(e);
                    }
                    retries.wait_anyway(e)?;
                    let had = self.offset;
                    if damaged || !self.recover() {
                        self.restart();
                    } else if self.offset > had {
                        retries.reset();
                    }
                }
                Err(e) => retries.wait(e)?,
            }
        }
    }

    fn restart(&mut self) {
        self.url = None;
        self.offset = 0;
    }

    /// Sends the next request.
    fn step(&mut self) -> Result<Option<Outcome>> {
        let Some(url) = self.url.clone() else { return self.begin() };
        if self.offset == self.blob.size {
            return self.finish(&url, 0).map(Some);
        }
        match self.chunk_size {
            None if self.offset == 0 => self.finish(&url, self.blob.size).map(Some),
            chunk_size => self.send_chunk(&url, chunk_size.unwrap_or(u64::MAX).max(1)).map(|()| None),
        }
    }

    /// Asks for a mount, or for a place to upload to.
    fn begin(&mut self) -> Result<Option<Outcome>> {
        let path = format!("/v2/{}/blobs/uploads/", self.endpoint.repository);
        let digest = encode(self.blob.digest.as_str());
        let from = self.mounts.pop();
        let target = match &from {
            Some(from) => format!("{path}?mount={digest}&from={}", encode(from)),
            None => path,
        };
        let answered =
            match (self.send(Method::POST, Target::Path(target), Vec::new(), None, &[201, 202]), from) {
                (Ok(answered), _) => answered,
                // A mount is optional: some registries refuse it with an error instead of beginning an
                // upload.
                (Err(e), Some(_)) if !e.is_retryable() => return Ok(None),
                (Err(e), from) => {
                    self.mounts.extend(from);
                    return Err(e);
                }
            };
        if answered.response.status() == 201 {
            return Ok(Some(Outcome::Mounted));
        }
        self.url = Some(location(&self.subject, &answered, Method::POST)?);
        let headers = answered.response.headers();
        if let (Some(size), Some(least)) = (self.chunk_size, number(headers, "oci-chunk-min-length")) {
            self.chunk_size = Some(size.max(least));
        }
        Ok(None)
    }

    /// The last request of an upload, with the last `length` bytes.
    fn finish(&mut self, url: &Url, length: u64) -> Result<Outcome> {
        let url = url.with_query(&format!("digest={}", encode(self.blob.digest.as_str())));
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
        let body = Some((self.offset, length));
        let answered = self.send(Method::PUT, Target::Url(&url), headers, body, &[201, 204])?;
        let named =
            header_text(answered.response.headers(), "docker-content-digest").map(str::parse::<Digest>);
        match named {
            Some(Ok(found))
                if found != self.blob.digest && found.algorithm() == self.blob.digest.algorithm() =>
            {
                Err(Error::DigestMismatch {
                    target: self.subject.target.clone(),
                    expected: self.blob.digest.clone(),
                    found,
                })
            }
            _ => Ok(Outcome::Moved),
        }
    }

    fn send_chunk(&mut self, url: &Url, chunk_size: u64) -> Result<()> {
        let length = chunk_size.min(self.blob.size - self.offset);
        let range = format!("{}-{}", self.offset, (self.offset + length).saturating_sub(1));
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits are a header value")),
        ];
        let body = Some((self.offset, length));
        let answered = self.send(Method::PATCH, Target::Url(url), headers, body, &[202, 201, 204])?;
        self.url = Some(location(&self.subject, &answered, Method::PATCH)?);
        self.offset += length;
        match received(answered.response.headers()) {
            Some(has) if has != self.offset => {
                Err(Error::Cut { target: self.subject.target.clone(), received: has, expected: self.offset })
            }
            _ => Ok(()),
        }
    }

    /// Asks how far an interrupted upload has come; false if the answer does not help.
    fn recover(&mut self) -> bool {
        let Some(url) = self.url.clone() else { return false };
        let Ok(answered) = self.send(Method::GET, Target::Url(&url), Vec::new(), None, &[204, 200, 202])
        else {
            return false;
        };
        go_on(&self.subject, &answered, self.blob.size, &mut self.url, &mut self.offset)
    }

    /// Sends one request; `body` is the offset and length in bytes of the part of the blob to send.
    fn send(
        &self,
        method: Method,
        target: Target,
        headers: Vec<(ureq::http::header::HeaderName, HeaderValue)>,
        body: Option<(u64, u64)>,
        expected: &[u16],
    ) -> Result<Answered> {
        let (offset, length) = body.unwrap_or((0, 0));
        let open = || -> Result<Box<dyn Read + Send + '_>> {
            let reader = match length {
                0 => Box::new(io::empty()),
                _ => self.source.open(offset).map_err(|source| self.unreadable(source))?,
            };
            Ok(Box::new(Counted {
                inner: reader,
                progress: &*self.client.options().progress,
                id: self.blob.digest.as_str(),
                position: offset,
            }))
        };
        let has_body = body.is_some() || method == Method::POST;
        let mut headers = headers;
        if length >= LARGE {
            // Asks before it sends (RFC 9110 section 10.1.1): a client that is busy sending would miss a 413
            // from a server that then closes the connection.
            headers.push((EXPECT, HeaderValue::from_static("100-continue")));
        }
        self.client.call(
            &self.endpoint,
            &Call {
                method,
                target,
                headers,
                body: has_body.then_some((&open, Some(length))),
                scopes: &self.scopes,
                expected,
                subject: &self.subject,
            },
        )
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::Source { target: self.subject.target.clone(), source }
    }
}

/// The place where an upload goes on.
pub(super) fn location(subject: &Subject, answered: &Answered, method: Method) -> Result<Url> {
    let location = header_text(answered.response.headers(), "location");
    location.and_then(|text| answered.url.join(text)).ok_or_else(|| {
        let status = answered.response.status().as_u16();
        subject.unexpected(&method, &answered.url, status, "no place to upload to (Location)".to_string())
    })
}

/// Takes place and offset of an interrupted upload from the registry's answer about it; false if the answer
/// has no offset, or one above `length`, the bytes that there are.
pub(super) fn go_on(
    subject: &Subject,
    answered: &Answered,
    length: u64,
    url: &mut Option<Url>,
    offset: &mut u64,
) -> bool {
    let Some(has) = received(answered.response.headers()).filter(|has| *has <= length) else { return false };
    // Not every registry repeats the place.
    if let Ok(place) = location(subject, answered, Method::GET) {
        *url = Some(place);
    }
    *offset = has;
    true
}

/// Whether the registry does not know the upload's state that the request builds on, or no longer knows it,
/// so that asking for the state helps.
pub(super) fn is_lost(error: &Error) -> bool {
    match error {
        Error::NotFound { .. } => true,
        Error::Unexpected(answer) => {
            answer.status == 416
                || matches!(
                    answer.code.as_str(),
                    "DIGEST_INVALID" | "SIZE_INVALID" | "BLOB_UPLOAD_INVALID" | "BLOB_UPLOAD_UNKNOWN"
                )
        }
        _ => false,
    }
}

/// Bytes of an upload that the registry has, from `Range: 0-LAST`. `0-0` means one byte or, with some
/// registries, none; it counts as unknown.
pub(super) fn received(headers: &HeaderMap) -> Option<u64> {
    let range = header_text(headers, "range")?;
    let last: u64 = range.trim().trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    (last > 0).then(|| last.saturating_add(1))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header_text(headers, name)?.trim().parse().ok()
}

/// A reader that reports how far it has come.
struct Counted<'a> {
    inner: Box<dyn Read + Send + 'a>,
    progress: &'a dyn Progress,
    id: &'a str,
    position: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.position += n as u64;
        if n > 0 {
            self.progress.advance(self.id, self.position);
        }
        Ok(n)
    }
}
