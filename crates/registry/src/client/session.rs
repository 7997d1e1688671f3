//! Knowledge about a registry: how to reach it and how to authenticate.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderValue, Method, Response, header};

use super::answer::read_limited;
use super::challenge::{Challenge, best_challenge};
use super::failure::{Subject, check};
use super::http::{Http, SendableBody};
use super::retry::Clock;
use super::url::Url;
use crate::credentials::{Credential, Credentials};
use crate::error::{Error, Result};
use crate::hosts::{Endpoint, is_loopback};
use crate::percent::encode;
use crate::secret::Secret;

/// Rights to request from a token server: `repository:NAME:ACTION`, one action each, so that sets can be
/// compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes(BTreeSet<String>);

impl Scopes {
    pub(crate) fn none() -> Scopes {
        Scopes::default()
    }

    pub(crate) fn catalog() -> Scopes {
        Scopes::default().with("registry:catalog", "*")
    }

    pub(crate) fn pull(repository: &str) -> Scopes {
        Scopes::default().with(&format!("repository:{repository}"), "pull")
    }

    pub(crate) fn push(repository: &str) -> Scopes {
        Scopes::pull(repository).with(&format!("repository:{repository}"), "push")
    }

    pub(crate) fn delete(repository: &str) -> Scopes {
        Scopes::pull(repository).with(&format!("repository:{repository}"), "delete")
    }

    /// Adds the right to pull from another repository.
    pub(crate) fn and_pull(self, repository: &str) -> Scopes {
        self.with(&format!("repository:{repository}"), "pull")
    }

    fn with(mut self, resource: &str, action: &str) -> Scopes {
        self.0.insert(format!("{resource}:{action}"));
        self
    }

    /// Adds the scopes of a challenge: `resource:action,action` separated by spaces.
    fn united(mut self, text: &str) -> Scopes {
        for scope in text.split_whitespace() {
            if let Some((resource, actions)) = scope.rsplit_once(':') {
                self.0.extend(actions.split(',').map(|action| format!("{resource}:{action}")));
            }
        }
        self
    }

    /// The scopes as parameters for the token server: one `resource:action,action` per resource.
    fn parameters(&self) -> Vec<String> {
        let mut parameters: Vec<(&str, Vec<&str>)> = Vec::new();
        for (resource, action) in self.0.iter().filter_map(|s| s.rsplit_once(':')) {
            match parameters.last_mut() {
                Some((last, actions)) if *last == resource => actions.push(action),
                _ => parameters.push((resource, vec![action])),
            }
        }
        parameters
            .into_iter()
            .map(|(resource, actions)| format!("{resource}:{}", actions.join(",")))
            .collect()
    }
}

/// The parts of its client that a session uses.
#[derive(Clone, Copy)]
pub(crate) struct Outside<'a> {
    pub http: &'a Http,
    pub credentials: &'a Credentials,
    pub clock: &'a dyn Clock,
}

/// A registry as one endpoint names it.
pub(crate) struct Session {
    pub(crate) registry: String,
    pub(crate) insecure: bool,
    base: Mutex<Option<Url>>,
    auth: Mutex<Auth>,
}

#[derive(Default)]
struct Auth {
    challenge: Option<Challenge>,
    tokens: Vec<Token>,
}

struct Token {
    scopes: Scopes,
    value: Secret,
    /// From this time on a new token is fetched.
    stale_at: Instant,
}

/// The answer of a token server.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Life in seconds of a token that states none (token authentication specification).
const TOKEN_LIFE_DEFAULT: u64 = 60;

impl Session {
    pub(crate) fn new(registry: &str, insecure: bool) -> Session {
        Session { registry: registry.to_string(), insecure, base: Mutex::default(), auth: Mutex::default() }
    }

    /// Host and port to connect to.
    fn authority(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        }
    }

    /// Whether nobody can eavesdrop on `url`, or the user allows it.
    fn may_send_secrets(&self, url: &Url) -> bool {
        url.is_https() || self.insecure || is_loopback(url.authority())
    }

    fn auth(&self) -> MutexGuard<'_, Auth> {
        self.auth.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Scheme, host and port of the registry. If http is possible, `GET /v2/` decides at the first call.
    pub(crate) fn base(&self, outside: Outside<'_>) -> Result<Url> {
        let mut base = self.base.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(url) = &*base {
            return Ok(url.clone());
        }
        let candidate = |https| {
            Url::of_host(https, self.authority()).ok_or_else(|| Error::Transport {
                target: self.registry.clone(),
                request: "connect".to_string(),
                reason: format!(
                    "{} is not HOST or HOST:PORT, with a port of at most 65535",
                    self.authority()
                ),
                retryable: false,
            })
        };
        let (https, http) = (candidate(true)?, candidate(false)?);
        let candidates = if is_loopback(self.authority()) {
            vec![http, https]
        } else if self.insecure {
            vec![https, http]
        } else {
            // The scheme is certain: no request is spent on finding it out.
            return Ok(base.insert(https).clone());
        };
        let mut failure = None;
        for candidate in candidates {
            let url = candidate.join("/v2/").expect("a path joins every URL");
            match outside.http.send(&Method::GET, &url, &[], None, self.insecure)? {
                // TLS servers answer a request in plain http like this.
                Ok(response) if response.status() == 400 && !candidate.is_https() => {
                    failure = failure.or(Some((url, "the server wants https".to_string(), false)));
                }
                Ok(response) => {
                    self.learn(&response);
                    return Ok(base.insert(candidate).clone());
                }
                // On this machine a refusal is final: waiting does not start a registry. A registry that
                // answered before may be restarting, and is waited for.
                Err(e) => {
                    let is_final = e.refused && is_loopback(self.authority());
                    failure = failure.or(Some((url, e.reason, e.retryable && !is_final)));
                }
            }
        }
        let (url, reason, retryable) = failure.expect("there was at least one candidate");
        Err(Error::Transport {
            target: self.registry.clone(),
            request: format!("GET {url}"),
            reason,
            retryable,
        })
    }

    /// Keeps the challenge of a 401; returns the scopes in it.
    fn learn(&self, response: &Response<Body>) -> Option<String> {
        if response.status() != 401 {
            return None;
        }
        let values = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = best_challenge(values.iter().filter_map(|v| v.to_str().ok()))?;
        let scope = match &challenge {
            Challenge::Bearer { scope, .. } => scope.clone(),
            Challenge::Basic => None,
        };
        self.auth().challenge = Some(challenge);
        scope
    }

    /// Handles a 401 to a request that carried `sent`. Returns the scopes to request, or `None` if another
    /// try is useless.
    pub(crate) fn refused(
        &self,
        response: &Response<Body>,
        sent: Option<&HeaderValue>,
        scopes: &Scopes,
    ) -> Option<Scopes> {
        let wanted = self.learn(response);
        let mut auth = self.auth();
        if let Some(sent) = sent.and_then(|v| v.to_str().ok()) {
            if sent.starts_with("Basic ") {
                return None;
            }
            auth.tokens.retain(|token| sent.strip_prefix("Bearer ") != Some(token.value.expose()));
        }
        auth.challenge.as_ref()?;
        Some(scopes.clone().united(wanted.as_deref().unwrap_or("")))
    }

    /// The `Authorization` header for a request to `base`, if the registry is known to want one.
    pub(crate) fn authorization(
        &self,
        outside: Outside<'_>,
        base: &Url,
        endpoint: &Endpoint,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>> {
        // Held while a token is fetched, so that parallel requests share one token.
        let auth = &mut *self.auth();
        let value = match &auth.challenge {
            None => return Ok(None),
            Some(Challenge::Basic) => {
                match outside.credentials.find(&self.registry, &endpoint.repository)? {
                    Some(Credential::Password { username, password }) => {
                        self.require_privacy(base)?;
                        basic(&username, &password)
                    }
                    _ => return Ok(None),
                }
            }
            Some(Challenge::Bearer { realm, service, .. }) => {
                let now = outside.clock.now();
                auth.tokens.retain(|token| token.stale_at > now);
                let known = auth.tokens.iter().find(|token| token.scopes.0.is_superset(&scopes.0));
                let value = match known {
                    Some(token) => token.value.clone(),
                    None => {
                        let token = self.fetch_token(outside, realm, service.as_deref(), endpoint, scopes)?;
                        let value = token.value.clone();
                        auth.tokens.push(token);
                        value
                    }
                };
                self.require_privacy(base)?;
                Secret::new(format!("Bearer {}", value.expose()))
            }
        };
        let mut header = HeaderValue::from_str(value.expose()).map_err(|_| self.unusable("token", base))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn require_privacy(&self, url: &Url) -> Result<()> {
        if self.may_send_secrets(url) {
            return Ok(());
        }
        Err(Error::Transport {
            target: self.registry.clone(),
            request: url.to_string(),
            reason: format!(
                "credentials are not sent by plain http; if that is intended, allow it with --insecure {} or --tls-verify=false",
                self.registry
            ),
            retryable: false,
        })
    }

    fn unusable(&self, what: &str, url: &Url) -> Error {
        Error::Transport {
            target: self.registry.clone(),
            request: url.to_string(),
            reason: format!("the registry's {what} cannot be used"),
            retryable: false,
        }
    }

    /// Asks the token server for a token, anonymously if there are no credentials or they cannot be read.
    fn fetch_token(
        &self,
        outside: Outside<'_>,
        realm: &str,
        service: Option<&str>,
        endpoint: &Endpoint,
        scopes: &Scopes,
    ) -> Result<Token> {
        let url = Url::parse(realm).ok_or_else(|| Error::Transport {
            target: self.registry.clone(),
            request: "authentication".to_string(),
            reason: "the address of its token server is not a URL".to_string(),
            retryable: false,
        })?;
        self.require_privacy(&url)?;
        // A missing helper must not block public images; it matters only if anonymous access fails.
        let (credential, unreadable) = match outside.credentials.find(&self.registry, &endpoint.repository) {
            Ok(credential) => (credential, None),
            Err(e) => (None, Some(e)),
        };
        let result = self.ask_token_server(outside, &url, service, scopes, credential.as_ref());
        match (result, unreadable) {
            (Err(Error::Unauthorized(_) | Error::Denied(_)), Some(e)) => Err(e),
            (result, _) => result,
        }
    }

    fn ask_token_server(
        &self,
        outside: Outside<'_>,
        realm: &Url,
        service: Option<&str>,
        scopes: &Scopes,
        credential: Option<&Credential>,
    ) -> Result<Token> {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        pairs.extend(service.map(|service| ("service", service.to_string())));
        pairs.push(("client_id", "crossdock".to_string()));
        let mut headers = Vec::new();
        let (method, url, form) = if let Some(Credential::IdentityToken(token)) = credential {
            pairs.push(("grant_type", "refresh_token".to_string()));
            pairs.push(("refresh_token", token.expose().to_string()));
            // OAuth 2 joins scopes with spaces in one parameter.
            pairs.push(("scope", scopes.parameters().join(" ")));
            headers
                .push((header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")));
            (Method::POST, realm.clone(), Some(form_of(&pairs)))
        } else {
            pairs.extend(scopes.parameters().into_iter().map(|scope| ("scope", scope)));
            if let Some(Credential::Password { username, password }) = credential {
                pairs.push(("account", username.clone()));
                let mut value = HeaderValue::from_str(basic(username, password).expose())
                    .expect("Base64 is a header value");
                value.set_sensitive(true);
                headers.push((header::AUTHORIZATION, value));
            }
            (Method::GET, realm.with_query(form_of(&pairs).expose()), None)
        };
        // The server's answer may quote the secret that it was sent.
        let subject = Subject::quiet(&self.registry);
        let issued = outside.clock.now();
        let mut reader = form.as_ref().map_or(&[][..], |form| form.expose().as_bytes());
        let length = reader.len() as u64;
        let body: Option<SendableBody> = form.is_some().then_some((&mut reader, Some(length)));
        let response = outside
            .http
            .send(&method, &url, &headers, body, self.insecure)?
            .map_err(|failure| subject.transport(&method, &url, failure))?;
        let mut response = check(response, &[200], &subject, &method, &url)?;
        let bytes = Secret::new(
            String::from_utf8(read_limited(&mut response, &subject, &method, &url)?)
                .map_err(|_| self.unusable("token", realm))?,
        );
        // The answer holds a secret, so errors do not quote it.
        let answer: TokenAnswer =
            serde_json::from_str(bytes.expose()).map_err(|_| self.unusable("token", realm))?;
        let text = answer.token.or(answer.access_token).filter(|t| !t.is_empty());
        let value = Secret::new(text.ok_or_else(|| self.unusable("token", realm))?);
        let life = Duration::from_secs(answer.expires_in.filter(|s| *s > 0).unwrap_or(TOKEN_LIFE_DEFAULT));
        Ok(Token { scopes: scopes.clone(), value, stale_at: issued + life * 9 / 10 })
    }
}

/// The value of a Basic `Authorization` header, RFC 7617.
fn basic(username: &str, password: &Secret) -> Secret {
    let pair = Secret::new(format!("{username}:{}", password.expose()));
    Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

/// `application/x-www-form-urlencoded`.
fn form_of(pairs: &[(&str, String)]) -> Secret {
    let encoded: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    Secret::new(encoded.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_unite_and_are_written_by_resource() {
        let scopes =
            Scopes::push("a/b").and_pull("c").united("repository:a/b:pull,delete registry:catalog:*");
        assert_eq!(
            scopes.parameters(),
            ["registry:catalog:*", "repository:a/b:delete,pull,push", "repository:c:pull"]
        );
        assert!(scopes.0.is_superset(&Scopes::pull("c").0));
        assert!(!Scopes::pull("a/b").0.is_superset(&Scopes::push("a/b").0));
    }
}
