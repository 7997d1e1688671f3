//! Who may do what: nothing, Basic, or Bearer tokens of the distribution project's token authentication.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_oci::Digest;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use serde_json::json;

use super::reply::{Problem, Reply, reply};
use super::route::{Route, parameter, parameters};
use super::storage::random_hex;
use crate::secret::Secret;

/// Who may use a server, and how they prove it.
#[derive(Clone, Debug, Default)]
pub enum AuthOptions {
    /// Everybody may do everything.
    #[default]
    None,
    /// Passwords by user name; each user may do everything.
    Basic(BTreeMap<String, Secret>),
    /// The same with tokens that `/token` gives out.
    Bearer(BearerOptions),
}

/// Settings of token authentication.
#[derive(Clone, Debug)]
pub struct BearerOptions {
    /// Passwords by user name.
    pub users: BTreeMap<String, Secret>,
    /// An OAuth2 refresh token that stands for a user.
    pub identity_token: Option<Secret>,
    /// Without credentials one may pull.
    pub anonymous_pull: bool,
    /// Life of a token.
    pub lifetime: Duration,
}

const SERVICE: &str = "crossdock-registry";

pub(super) struct Auth {
    options: AuthOptions,
    tokens: Mutex<Vec<Issued>>,
}

struct Issued {
    /// Only the digest is kept.
    token: Digest,
    rights: BTreeSet<String>,
    expires: Instant,
}

impl Auth {
    pub(super) fn new(options: AuthOptions) -> Auth {
        Auth { options, tokens: Mutex::default() }
    }

    pub(super) fn expire_all(&self) {
        self.tokens().clear();
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, Vec<Issued>> {
        self.tokens.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Lets a request pass or says how to get in.
    pub(super) fn check(&self, method: &Method, route: &Route, headers: &HeaderMap) -> Result<(), Problem> {
        match &self.options {
            AuthOptions::None => Ok(()),
            AuthOptions::Basic(users) => match basic_user(headers, users) {
                Some(_) => Ok(()),
                None => Err(Problem::new(401, "UNAUTHORIZED", "authentication required")
                    .header("www-authenticate", "Basic realm=\"crossdock registry\"")),
            },
            AuthOptions::Bearer(_) => {
                let needed = needed_right(method, route);
                if self.has_right(headers, needed.as_deref()) {
                    return Ok(());
                }
                let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
                let mut challenge = format!("Bearer realm=\"http://{host}/token\",service=\"{SERVICE}\"");
                if let Some(right) = needed {
                    challenge.push_str(&format!(",scope=\"{}\"", right.replace(":push", ":pull,push")));
                }
                if headers.contains_key(AUTHORIZATION) {
                    challenge.push_str(",error=\"invalid_token\"");
                }
                Err(Problem::new(401, "UNAUTHORIZED", "authentication required")
                    .header("www-authenticate", challenge))
            }
        }
    }

    /// Whether a request may also pull from another repository, for mounts.
    pub(super) fn may_pull(&self, headers: &HeaderMap, name: &str) -> bool {
        match &self.options {
            AuthOptions::Bearer(_) => self.has_right(headers, Some(&format!("repository:{name}:pull"))),
            _ => true,
        }
    }

    fn has_right(&self, headers: &HeaderMap, needed: Option<&str>) -> bool {
        let header = headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
        let Some(token) = header.and_then(|h| h.strip_prefix("Bearer ")) else { return false };
        let token = Digest::of(token.as_bytes());
        let mut tokens = self.tokens();
        let now = Instant::now();
        tokens.retain(|issued| issued.expires > now);
        tokens
            .iter()
            .any(|issued| issued.token == token && needed.is_none_or(|right| issued.rights.contains(right)))
    }

    /// The token endpoint; `form` is the body of a POST.
    pub(super) fn token(
        &self,
        headers: &HeaderMap,
        query: &str,
        form: Option<&str>,
    ) -> Result<Reply, Problem> {
        let AuthOptions::Bearer(options) = &self.options else {
            return Err(Problem::not_found("no tokens here"));
        };
        let refused = || Problem::new(401, "UNAUTHORIZED", "incorrect user name, password or token");
        let (known, scopes) = match form {
            Some(form) => {
                let given = parameter(form, "refresh_token").ok_or_else(refused)?;
                let good = options.identity_token.as_ref().is_some_and(|t| same(t.expose(), &given));
                if !good {
                    return Err(refused());
                }
                (true, parameters(form, "scope"))
            }
            None => {
                let known = basic_user(headers, &options.users).is_some();
                if !known && headers.contains_key(AUTHORIZATION) {
                    return Err(refused());
                }
                (known, parameters(query, "scope"))
            }
        };
        let mut rights = BTreeSet::new();
        for scope in scopes.iter().flat_map(|s| s.split_whitespace()) {
            let Some((resource, actions)) = scope.rsplit_once(':') else { continue };
            for action in actions.split(',') {
                if known || (options.anonymous_pull && action == "pull") {
                    rights.insert(format!("{resource}:{action}"));
                }
            }
        }
        if !known && !options.anonymous_pull {
            return Err(refused());
        }
        let token = format!("{}{}", random_hex()?, random_hex()?);
        let expires = Instant::now() + options.lifetime;
        self.tokens().push(Issued { token: Digest::of(token.as_bytes()), rights, expires });
        Ok(reply(200).json(&json!({"token": token, "expires_in": options.lifetime.as_secs()})))
    }
}

/// The right that a request needs.
fn needed_right(method: &Method, route: &Route) -> Option<String> {
    if matches!(route, Route::Catalog) {
        return Some("registry:catalog:*".to_string());
    }
    let name = route.name()?;
    let is_upload = matches!(route, Route::Upload { .. } | Route::Uploads { .. });
    let action = match *method {
        _ if is_upload => "push",
        Method::GET | Method::HEAD => "pull",
        Method::DELETE => "delete",
        _ => "push",
    };
    Some(format!("repository:{name}:{action}"))
}

/// The user of a Basic header with the right password.
fn basic_user(headers: &HeaderMap, users: &BTreeMap<String, Secret>) -> Option<String> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let bytes = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = Secret::new(String::from_utf8(bytes).ok()?);
    let (user, password) = text.expose().split_once(':')?;
    let expected = users.get(user)?;
    same(expected.expose(), password).then(|| user.to_string())
}

/// Compares by digests, so that the time taken tells nothing about the secret.
fn same(expected: &str, given: &str) -> bool {
    Digest::of(expected.as_bytes()) == Digest::of(given.as_bytes())
}
