//! Turns unsuccessful answers into errors that say what to do.

use serde::Deserialize;
use ureq::Body;
use ureq::http::{Method, Response};

use super::http::{Failure, header_text};
use super::retry::parse_retry_after;
use super::url::Url;
use crate::error::{Answer, Error, Result, excerpt};
use crate::secret::Secret;

/// What a request is about, for messages.
#[derive(Clone)]
pub(crate) struct Subject {
    /// Registry, repository, tag or digest.
    pub(crate) target: String,
    /// The registry as `crossdock login` takes it.
    pub(crate) registry: String,
    /// Whether errors quote only the protocol's messages, not the bodies of failed requests.
    quiet: bool,
    /// What the other side knows and errors do not quote.
    hidden: Vec<Secret>,
}

impl Subject {
    /// A repository or something in it.
    pub(crate) fn new(registry: &str, target: String) -> Subject {
        Subject { target, registry: registry.to_string(), quiet: false, hidden: Vec::new() }
    }

    /// A registry whose answers may hold secrets.
    pub(crate) fn quiet(registry: &str) -> Subject {
        Subject {
            target: registry.to_string(),
            registry: registry.to_string(),
            quiet: true,
            hidden: Vec::new(),
        }
    }

    /// The same, whose errors do not quote these secrets.
    pub(crate) fn hiding<'a>(self, secrets: impl IntoIterator<Item = &'a Secret>) -> Subject {
        Subject { hidden: secrets.into_iter().cloned().collect(), ..self }
    }

    /// The same, whose errors quote no body.
    pub(crate) fn quoting_nothing(self) -> Subject {
        Subject { quiet: true, ..self }
    }

    /// An error for a request that got no answer.
    pub(crate) fn transport(&self, method: &Method, url: &Url, failure: Failure) -> Error {
        if let Some(source) = failure.source {
            return Error::Source { target: self.target.clone(), source };
        }
        Error::Transport {
            target: self.target.clone(),
            request: format!("{method} {url}"),
            reason: failure.reason,
            retryable: failure.retryable,
        }
    }

    /// An error for an answer of status `status` that breaks the protocol.
    pub(crate) fn unexpected(&self, method: &Method, url: &Url, status: u16, detail: String) -> Error {
        Error::Unexpected(Box::new(Answer {
            target: self.target.clone(),
            registry: self.registry.clone(),
            request: format!("{method} {url}"),
            status,
            detail,
            code: String::new(),
            retry_after: None,
        }))
    }
}

/// The errors that a registry sends, distribution specification "Error Codes"; `details` is what some token
/// servers send.
#[derive(Default, Deserialize)]
struct ErrorsJson {
    #[serde(default)]
    errors: Vec<ErrorJson>,
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorJson {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Most bytes that are read of an error's body.
const ERROR_SIZE_MAX: u64 = 64 * 1024;

/// Returns an answer of an expected status; any other answer becomes an error.
pub(crate) fn check(
    response: Response<Body>,
    expected: &[u16],
    subject: &Subject,
    method: &Method,
    url: &Url,
) -> Result<Response<Body>> {
    if expected.contains(&response.status().as_u16()) {
        return Ok(response);
    }
    Err(error_of(response, subject, method, url))
}

/// The error for an unsuccessful answer.
fn error_of(mut response: Response<Body>, subject: &Subject, method: &Method, url: &Url) -> Error {
    let status = response.status().as_u16();
    let retry_after = header_text(response.headers(), "retry-after").and_then(parse_retry_after);
    let location = header_text(response.headers(), "location").and_then(|l| url.join(l));
    let body = response.body_mut().with_config().limit(ERROR_SIZE_MAX).read_to_vec().unwrap_or_default();
    let body =
        subject.hidden.iter().filter(|secret| !secret.expose().is_empty()).fold(body, |body, secret| {
            // Before the text is cut, or the beginning of a long token would stay.
            String::from_utf8_lossy(&body).replace(secret.expose(), "***").into_bytes()
        });
    let parsed: Option<ErrorsJson> = serde_json::from_slice(&body).ok();
    let code = parsed.as_ref().and_then(|p| p.errors.first()).map(|e| e.code.clone()).unwrap_or_default();
    let mut detail = match parsed {
        Some(parsed) if !parsed.errors.is_empty() => {
            let all = parsed.errors.iter().map(|e| format!("{}: {}", e.code, e.message));
            excerpt(all.collect::<Vec<_>>().join("; ").as_bytes())
        }
        Some(ErrorsJson { details: Some(details), .. }) => excerpt(details.as_bytes()),
        _ if subject.quiet => String::new(),
        _ => excerpt(&body),
    };
    if let (300..=399, Some(location)) = (status, location) {
        detail = format!("redirects to {location}");
    }
    let answer = Box::new(Answer {
        target: subject.target.clone(),
        registry: subject.registry.clone(),
        request: format!("{method} {url}"),
        status,
        detail,
        code: excerpt(code.as_bytes()),
        retry_after,
    });
    match status {
        401 => Error::Unauthorized(answer),
        403 => Error::Denied(answer),
        404 => Error::NotFound { answer, hint: String::new() },
        413 => Error::TooLarge(answer),
        429 => Error::RateLimited(answer),
        507 => Error::Full(answer),
        _ => Error::Unexpected(answer),
    }
}
