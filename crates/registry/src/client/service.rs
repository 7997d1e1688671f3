//! Requests to services that keep files and are no registries.

use std::io::Read;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ureq::Body;
use ureq::http::{HeaderName, HeaderValue, Method, Response};

use super::Client;
use super::failure::{Subject, check};
use super::http::header_text;
use super::upload::BlobSource;
use super::url::Url;
use crate::error::{Error, Result};

/// How many times a request to a service is tried again.
const RETRIES: u32 = 3;

/// A request whose content can be read again.
pub(super) struct Request<'a> {
    pub method: Method,
    pub url: &'a Url,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The content and its range: offset and length in bytes.
    pub body: (&'a dyn BlobSource, u64, u64),
    /// Statuses of answers that are no errors.
    pub expected: &'a [u16],
}

impl Client {
    /// Sends a request, and again after a failure that may pass. `advice` says what a refusal means.
    ///
    /// # Errors
    ///
    /// Errors of the connection and of reading the content; [`Error::CacheService`] for any other answer.
    pub(super) fn send_to_service(
        &self,
        subject: &Subject,
        request: &Request<'_>,
        advice: &str,
    ) -> Result<Response<Body>> {
        // A cache that does not answer must not hold a build up for long.
        let mut retries = self.retries_at_most(RETRIES);
        loop {
            match self.send_once(subject, request).map_err(|error| as_service(error, advice)) {
                Ok(response) => return Ok(response),
                Err(error) => retries.wait(error)?,
            }
        }
    }

    /// Size in bytes of what is at an address that is signed for HEAD; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// As for [`Client::send_to_service`]; any answer except 200 and 404.
    pub(super) fn size_at(&self, subject: &Subject, url: &Url, advice: &str) -> Result<Option<u64>> {
        let nothing: Vec<u8> = Vec::new();
        let (headers, body) = (Vec::new(), (&nothing as &dyn BlobSource, 0, 0));
        let request = Request { method: Method::HEAD, url, headers, body, expected: &[200, 404] };
        let response = self.send_to_service(subject, &request, advice)?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        let length = header_text(response.headers(), "content-length");
        Ok(Some(length.and_then(|length| length.parse().ok()).unwrap_or(0)))
    }

    fn send_once(&self, subject: &Subject, request: &Request<'_>) -> Result<Response<Body>> {
        let (content, offset, length) = request.body;
        let opened = content
            .open(offset)
            .map_err(|source| Error::Source { target: subject.target.clone(), source })?;
        let mut reader = opened.take(length);
        let has_body = !matches!(request.method, Method::GET | Method::HEAD);
        let body = has_body.then_some((&mut reader as &mut (dyn Read + Send), Some(length)));
        let unverified = self.options().insecure_all;
        let sent = self.http().send(&request.method, request.url, &request.headers, body, unverified)?;
        let response = sent.map_err(|failure| subject.transport(&request.method, request.url, failure))?;
        check(response, request.expected, subject, &request.method, request.url)
    }
}

/// HMAC-SHA256 (RFC 2104).
pub(super) fn code(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut code = Hmac::<Sha256>::new_from_slice(key).expect("keys of any length are keys");
    code.update(text);
    code.finalize().into_bytes().to_vec()
}

/// An error of a registry in the words of another service.
fn as_service(error: Error, advice: &str) -> Error {
    let retryable = error.is_retryable();
    let advice = match &error {
        Error::Unauthorized(_) | Error::Denied(_) => advice,
        Error::RateLimited(_) => "it limits the rate of requests",
        Error::Full(_) => "it has no room",
        _ => "",
    };
    let separator = if advice.is_empty() { "" } else { ": " };
    match error.answer() {
        Some(answer) => Error::CacheService {
            service: answer.target.clone(),
            reason: format!("{advice}{separator}{answer}"),
            retryable,
        },
        None => error,
    }
}
