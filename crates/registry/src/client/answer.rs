//! Reads whole answers into memory.

use ureq::Body;
use ureq::http::{Method, Response};

use super::failure::Subject;
use super::url::Url;
use crate::error::{Error, Result};

/// Longest answer that is read into memory, in bytes.
const ANSWER_SIZE_MAX: u64 = 32 * 1024 * 1024;

/// Reads the body of an answer of at most [`ANSWER_SIZE_MAX`] bytes.
pub(crate) fn read_limited(
    response: &mut Response<Body>,
    subject: &Subject,
    method: &Method,
    url: &Url,
) -> Result<Vec<u8>> {
    let announced = response.body().content_length();
    response.body_mut().with_config().limit(ANSWER_SIZE_MAX).read_to_vec().map_err(|e| match e {
        ureq::Error::BodyExceedsLimit(_) => subject.unexpected(
            method,
            url,
            response.status().as_u16(),
            format!("more than {} MiB", ANSWER_SIZE_MAX >> 20),
        ),
        e => Error::Transport {
            target: subject.target.clone(),
            request: format!("{method} {url}"),
            reason: match announced {
                Some(length) => format!("the answer of {length} bytes was cut short ({e})"),
                None => format!("the answer was cut short ({e})"),
            },
            retryable: true,
        },
    })
}
