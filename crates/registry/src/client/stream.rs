//! Uploads of blobs that are still being written: distribution specification, "Pushing a blob in chunks".
//!
//! One PATCH follows the blob: its body has no announced length and ends with the blob. Docker pushes this
//! way, so every registry accepts it. The session is not closed here: only a PUT turns the bytes into a blob,
//! and until then the blob does not appear in the repository.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossdock_oci::Reference;
use crossdock_oci::store::{Growing, Growth};
use ureq::http::header::{CONTENT_TYPE, EXPECT, HeaderName};
use ureq::http::{HeaderValue, Method};

use super::failure::Subject;
use super::retry::Retries;
use super::session::Scopes;
use super::upload::{Begun, go_on, is_lost, location, received};
use super::url::Url;
use super::{Answered, Call, CallBody, Client, OpenedBody, Target, repository_subject};
use crate::error::{Error, Result};
use crate::hosts::Endpoint;

/// A PATCH ends when no bytes have come for this long, since servers and proxies drop silent connections.
const PATIENCE: Duration = Duration::from_secs(10);
/// Retries of a request that makes no progress. The push after the build is more patient.
const RETRIES: u32 = 2;
/// Once the digest is known and at least this many bytes are left, the registry is asked whether it has the
/// blob.
const WORTH_ASKING: u64 = 1024 * 1024;

struct Stream<'a> {
    client: &'a Client,
    reference: &'a Reference,
    endpoint: Endpoint,
    subject: Subject,
    scopes: Scopes,
    blob: &'a Growing,
    url: Option<Url>,
    offset: u64,
    /// Whether the registry already has the blob.
    exists: AtomicBool,
}

impl Client {
    /// Sends a blob while it is being written, until it is complete. `None` if the registry already has the
    /// blob.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the blob was given up, and the registry's errors. Either cancels the session.
    pub(crate) fn stream_blob(&self, reference: &Reference, blob: &Growing) -> Result<Option<Begun>> {
        let endpoint = self.writable(reference)?;
        let mut stream = Stream {
            client: self,
            reference,
            subject: repository_subject(reference),
            scopes: Scopes::push(&endpoint.repository),
            endpoint,
            blob,
            url: None,
            offset: 0,
            exists: AtomicBool::new(false),
        };
        let result = stream.run();
        let begun = stream.url.map(|url| Begun { endpoint: stream.endpoint, url, offset: stream.offset });
        match (result, begun) {
            (Ok(()), Some(begun)) if !stream.exists.into_inner() => Ok(Some(begun)),
            (result, begun) => {
                if let Some(begun) = begun {
                    self.cancel_upload(reference, &begun);
                }
                result.map(|()| None)
            }
        }
    }

    /// Cancels an upload. A registry that does not support this lets the session expire.
    pub(crate) fn cancel_upload(&self, reference: &Reference, begun: &Begun) {
        let _ = self.call(
            &begun.endpoint,
            &Call {
                method: Method::DELETE,
                target: Target::Url(&begun.url),
                headers: Vec::new(),
                body: None,
                scopes: &Scopes::push(&begun.endpoint.repository),
                expected: &[204, 200, 202],
                subject: &repository_subject(reference),
            },
        );
    }
}

impl Stream<'_> {
    fn run(&mut self) -> Result<()> {
        let options = self.client.options();
        let limit = options.retries.min(RETRIES);
        let mut retries = Retries::new(options.clock.clone(), options.progress.clone(), limit);
        loop {
            let before = self.offset;
            let error = match self.step() {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    if self.offset > before {
                        retries.reset();
                    }
                    continue;
                }
                Err(_) if self.exists.load(Ordering::Relaxed) => return Ok(()),
                Err(_) if self.blob.wait(self.offset, Duration::ZERO) == Growth::GivenUp => {
                    return Err(Error::Stopped);
                }
                // A registry that limits requests gets no retry.
                Err(e @ Error::RateLimited(_)) => return Err(e),
                Err(e) => e,
            };
            match self.url.is_some() && (error.is_retryable() || is_lost(&error)) {
                true => {
                    retries.wait_anyway(error)?;
                    if !self.recover() {
                        return Err(Error::Stopped);
                    }
                }
                false => retries.wait(error)?,
            }
        }
    }

    /// Makes one request at most; true when the registry has all of the blob.
    fn step(&mut self) -> Result<bool> {
        let Some(url) = self.url.clone() else {
            let path = Target::Path(format!("/v2/{}/blobs/uploads/", self.endpoint.repository));
            let empty = || -> Result<OpenedBody<'_>> { Ok(Box::new(io::empty())) };
            let answered = self.send(Method::POST, path, Vec::new(), Some((&empty, Some(0))), &[202])?;
            self.url = Some(location(&self.subject, &answered, Method::POST)?);
            return Ok(false);
        };
        match self.blob.wait(self.offset, PATIENCE) {
            Growth::GivenUp => Err(Error::Stopped),
            Growth::End => Ok(true),
            Growth::Nothing => Ok(false),
            Growth::Bytes(_) => self.patch(&url).map(|()| false),
        }
    }

    fn patch(&mut self, url: &Url) -> Result<()> {
        let (sent, start) = (AtomicU64::new(0), self.offset);
        let open = || -> Result<OpenedBody<'_>> {
            sent.store(start, Ordering::Relaxed);
            Ok(Box::new(Following { stream: self, position: &sent, asked: false }))
        };
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            // As with other large bodies: a refusal arrives before the body is sent.
            (EXPECT, HeaderValue::from_static("100-continue")),
        ];
        let body: CallBody<'_> = (&open, None);
        let answered = self.send(Method::PATCH, Target::Url(url), headers, Some(body), &[202, 201, 204])?;
        let sent = sent.into_inner();
        self.url = Some(location(&self.subject, &answered, Method::PATCH)?);
        match received(answered.response.headers()) {
            Some(has) if has != sent => {
                Err(Error::Cut { target: self.subject.target.clone(), received: has, expected: sent })
            }
            _ => {
                self.offset = sent;
                Ok(())
            }
        }
    }

    /// Asks how far an interrupted upload has come; false if it cannot be resumed.
    fn recover(&mut self) -> bool {
        let Some(url) = self.url.clone() else { return false };
        let Ok(answered) = self.send(Method::GET, Target::Url(&url), Vec::new(), None, &[204, 200, 202])
        else {
            return false;
        };
        go_on(&self.subject, &answered, self.blob.length(), &mut self.url, &mut self.offset)
    }

    fn send<'s>(
        &'s self,
        method: Method,
        target: Target<'s>,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Option<CallBody<'s>>,
        expected: &'s [u16],
    ) -> Result<Answered> {
        let (scopes, subject) = (&self.scopes, &self.subject);
        self.client.call(&self.endpoint, &Call { method, target, headers, body, scopes, expected, subject })
    }
}

/// Reads the bytes of a blob as they are written. Ends with the blob, or after [`PATIENCE`] without bytes.
struct Following<'a, 'b> {
    stream: &'a Stream<'b>,
    position: &'a AtomicU64,
    asked: bool,
}

impl Read for Following<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Stream { client, blob, .. } = self.stream;
        let position = self.position.load(Ordering::Relaxed);
        let left = match blob.wait(position, PATIENCE) {
            Growth::Bytes(left) => left,
            Growth::End | Growth::Nothing => return Ok(0),
            Growth::GivenUp => return Err(io::Error::other("it was given up")),
        };
        let digest = blob.digest();
        if let Some(digest) = &digest
            && !self.asked
            && left >= WORTH_ASKING
        {
            self.asked = true;
            if let Ok(Some(_)) = client.head_blob(self.stream.reference, digest) {
                self.stream.exists.store(true, Ordering::Relaxed);
                return Err(io::Error::other("the registry has it"));
            }
        }
        let n = blob.read_at(buffer, position)?;
        let position = position + n as u64;
        self.position.store(position, Ordering::Relaxed);
        if let Some(digest) = digest {
            client.options().progress.advance(digest.as_str(), position);
        }
        Ok(n)
    }
}
