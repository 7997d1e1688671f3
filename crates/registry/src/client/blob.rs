//! Downloads blobs: distribution specification, "Pulling blobs". A reader resumes by itself after a cut.

use std::io::{self, Read};

use crossdock_oci::manifest::Descriptor;
use crossdock_oci::{Digest, Reference};
use ureq::BodyReader;
use ureq::http::header::RANGE;
use ureq::http::{HeaderValue, Method};

use super::failure::Subject;
use super::http::header_text;
use super::retry::Retries;
use super::session::Scopes;
use super::{Answered, Call, Client, Target};
use crate::error::{Error, Result, excerpt};
use crate::hosts::Endpoint;

impl Client {
    /// Whether the repository has a blob, and its size in bytes.
    pub fn head_blob(&self, reference: &Reference, digest: &Digest) -> Result<Option<u64>> {
        let subject = blob_subject(reference, digest);
        let endpoint = self.writable(reference)?;
        let result = self.retrying(|| {
            self.call(
                &endpoint,
                &Call {
                    method: Method::HEAD,
                    target: blob_path(&endpoint, digest),
                    headers: Vec::new(),
                    body: None,
                    scopes: &Scopes::pull(&endpoint.repository),
                    expected: &[200],
                    subject: &subject,
                },
            )
        });
        match result {
            Ok(answered) => {
                let length = header_text(answered.response.headers(), "content-length");
                Ok(Some(length.and_then(|text| text.parse().ok()).unwrap_or(0)))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A reader of a blob from `offset` bytes on. The reader yields exactly the rest of the descriptor's size
    /// and resumes after cuts; the receiver verifies the digest. Read errors hold an [`Error`], see
    /// [`BlobReader::error`].
    ///
    /// # Errors
    ///
    /// Errors of the first request.
    pub fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<BlobReader> {
        let endpoints = self.endpoints(reference.registry(), reference.repository(), true)?;
        let mut reader = BlobReader {
            client: self.clone(),
            endpoints,
            subject: blob_subject(reference, &blob.digest),
            digest: blob.digest.clone(),
            size: blob.size,
            position: offset,
            body: None,
            retries: self.retries(),
        };
        reader.open()?;
        Ok(reader)
    }

    /// Removes a blob from a repository.
    pub fn delete_blob(&self, reference: &Reference, digest: &Digest) -> Result<()> {
        let subject = blob_subject(reference, digest);
        let endpoint = self.writable(reference)?;
        *self.known_blob(&endpoint, digest).lock().unwrap_or_else(|e| e.into_inner()) = false;
        self.delete(&endpoint, || blob_path(&endpoint, digest), &subject)
    }
}

/// A blob that is being downloaded, see [`Client::blob`].
pub struct BlobReader {
    client: Client,
    /// Endpoints that have not failed.
    endpoints: Vec<Endpoint>,
    subject: Subject,
    digest: Digest,
    size: u64,
    position: u64,
    body: Option<BodyReader<'static>>,
    retries: Retries,
}

impl BlobReader {
    /// Bytes from the start of the blob to the next one that will be read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// This crate's error inside a read error.
    pub fn error(error: io::Error) -> Error {
        let text = error.to_string();
        match error.into_inner().and_then(|inner| inner.downcast::<Error>().ok()) {
            Some(inner) => *inner,
            None => Error::Transport {
                target: "blob".to_string(),
                request: "GET".to_string(),
                reason: text,
                retryable: true,
            },
        }
    }

    /// Opens a body at the current position, with retries.
    fn open(&mut self) -> Result<()> {
        if self.position >= self.size {
            return Ok(());
        }
        loop {
            match self.open_once() {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(_) if self.endpoints[0].mirror => {
                    self.endpoints.remove(0);
                }
                Err(e) => self.retries.wait(e)?,
            }
        }
    }

    fn open_once(&self) -> Result<BodyReader<'static>> {
        let endpoint = &self.endpoints[0];
        let mut headers = Vec::new();
        if self.position > 0 {
            let range = format!("bytes={}-", self.position);
            headers.push((RANGE, HeaderValue::from_str(&range).expect("digits are a header value")));
        }
        let answered = self.client.call(
            endpoint,
            &Call {
                method: Method::GET,
                target: blob_path(endpoint, &self.digest),
                headers,
                body: None,
                scopes: &Scopes::pull(&endpoint.repository),
                expected: &[200, 206],
                subject: &self.subject,
            },
        )?;
        self.accept(answered)
    }

    /// Checks that an answer is the rest of the blob, and brings its body to the current position.
    fn accept(&self, answered: Answered) -> Result<BodyReader<'static>> {
        let Answered { mut response, url } = answered;
        let status = response.status().as_u16();
        let start = match status {
            206 => range_start(header_text(response.headers(), "content-range")).unwrap_or(self.position),
            // The server does not support ranges: the bytes already received are read again and skipped.
            _ => 0,
        };
        let length = response.body().content_length();
        let fits = length.is_none_or(|length| start + length == self.size);
        if start > self.position || !fits {
            let html = header_text(response.headers(), "content-type").is_some_and(|t| t.contains("html"));
            let detail = match (html, length) {
                (true, _) => {
                    let limited = response.body_mut().with_config().limit(4096).read_to_vec();
                    excerpt(&limited.unwrap_or_default())
                }
                (false, Some(length)) => {
                    format!("it sends {length} bytes from {start} on of a blob of {} bytes", self.size)
                }
                (false, None) => format!("it sends bytes from {start} on instead of {}", self.position),
            };
            return Err(self.subject.unexpected(&Method::GET, &url, status, detail));
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let superfluous = self.position - start;
        let skipped = io::copy(&mut body.by_ref().take(superfluous), &mut io::sink()).unwrap_or(0);
        if skipped < superfluous {
            return Err(self.cut(start + skipped));
        }
        Ok(body)
    }

    fn cut(&self, received: u64) -> Error {
        Error::Cut { target: self.subject.target.clone(), received, expected: self.size }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size - self.position.min(self.size);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            // Drops the connection unless it was read to its end.
            self.body = None;
            return Ok(0);
        }
        loop {
            if self.body.is_none() {
                self.open().map_err(io::Error::other)?;
            }
            let body = self.body.as_mut().expect("opened above, since bytes are left");
            match body.read(&mut buffer[..wanted]) {
                Ok(n) if n > 0 => {
                    self.position += n as u64;
                    self.retries.reset();
                    if self.position == self.size {
                        // Reads the end of the body, which frees the connection for the next request.
                        let _ = body.read(&mut [0]);
                    }
                    return Ok(n);
                }
                _ => {
                    self.body = None;
                    let error = self.cut(self.position);
                    self.retries.wait(error).map_err(io::Error::other)?;
                }
            }
        }
    }
}

/// The first position of `Content-Range: bytes START-END/SIZE`.
fn range_start(header: Option<&str>) -> Option<u64> {
    header?.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

pub(super) fn blob_path(endpoint: &Endpoint, digest: &Digest) -> Target<'static> {
    Target::Path(format!("/v2/{}/blobs/{digest}", endpoint.repository))
}

pub(super) fn blob_subject(reference: &Reference, digest: &Digest) -> Subject {
    Subject::new(reference.registry(), format!("{}@{digest}", reference.name()))
}

#[cfg(test)]
mod tests {
    use super::range_start;

    #[test]
    fn content_ranges() {
        assert_eq!(range_start(Some("bytes 5-9/10")), Some(5));
        assert_eq!(range_start(Some("bytes */10")), None);
        assert_eq!(range_start(Some("items 5-9/10")), None);
        assert_eq!(range_start(None), None);
    }
}
