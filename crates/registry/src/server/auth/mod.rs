//! Decides who may do what. Everybody may do everything, or users prove their name by Basic or by Bearer
//! tokens (the distribution project's token authentication) and have rights by repository.

mod htpasswd;
mod passwords;
mod rights;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossdock_oci::Digest;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use serde_json::json;

use self::htpasswd::Htpasswd;
use self::passwords::{Passwords, Users, same};
use self::rights::{Action, Rights};
use super::reply::{Problem, Reply, reply};
use super::route::{Route, parameter, parameters};
use super::storage::random_hex;
use super::watched::{Notice, Watched};
use crate::error::{Error, Result};
use crate::secret::Secret;

pub use self::htpasswd::htpasswd_line;

/// Who may use a server, and how they prove it.
#[derive(Clone, Debug, Default)]
pub enum AuthOptions {
    /// Everybody may do everything.
    #[default]
    None,
    /// Passwords by user name; each user may do everything.
    Basic(BTreeMap<String, Secret>),
    /// Like `Basic`, with tokens that `/token` issues.
    Bearer(BearerOptions),
    /// Users and rights from files.
    Files(AuthFiles),
}

/// Settings of token authentication, for tests of clients: nothing is allowed without a token.
#[derive(Clone, Debug)]
pub struct BearerOptions {
    /// Passwords by user name.
    pub users: BTreeMap<String, Secret>,
    /// An OAuth2 refresh token that stands for a user.
    pub identity_token: Option<Secret>,
    /// Anybody may pull without credentials.
    pub anonymous_pull: bool,
    /// Life of a token.
    pub lifetime: Duration,
}

/// Files that say who may do what; they are read again when they change.
#[derive(Clone, Debug)]
pub struct AuthFiles {
    /// Lines of `USER:HASH` as `htpasswd -B` writes them.
    pub htpasswd: PathBuf,
    /// Lines of `WHO ACTIONS REPOSITORY...`; without this file each user may do everything.
    pub rights: Option<PathBuf>,
    /// Anybody may pull everything without credentials.
    pub anonymous_pull: bool,
}

const SERVICE: &str = "crossdock-registry";

/// Tokens that may be valid at once.
const TOKENS_MAX: usize = 100_000;

/// Life of the tokens for users from files.
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

pub(super) struct Auth(Option<Guard>);

/// The checks of a registry that does not let everybody in.
struct Guard {
    passwords: Passwords,
    rights: RightsSource,
    identity_token: Option<Secret>,
    lifetime: Duration,
    /// Actions that everybody may do need no token.
    open_door: bool,
    /// Tokens are offered even if nobody may do anything without a name.
    prefers_tokens: bool,
    tokens: Mutex<HashMap<Digest, Issued>>,
}

enum RightsSource {
    Fixed(Arc<Rights>),
    File(Watched<Rights>),
}

/// The meaning of a token; only the token's digest is kept.
struct Issued {
    user: Option<String>,
    rights: BTreeSet<String>,
    expires: Instant,
}

/// The sender of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// The user's name, if a password or token proved it.
    pub(super) user: Option<String>,
    /// Rights of the token in the request.
    token: Option<BTreeSet<String>>,
}

/// The right that a request needs.
enum Need {
    Nothing,
    /// Any user.
    User,
    Catalog,
    Right(Action, String),
}

impl Auth {
    /// Reads the files that the options name.
    pub(super) fn new(options: &AuthOptions, notice: &Notice) -> Result<Auth> {
        let users = || Rights::of_users();
        let guard = match options {
            AuthOptions::None => return Ok(Auth(None)),
            AuthOptions::Basic(passwords) => Guard::new(Users::Plain(passwords.clone()), users(), false),
            AuthOptions::Bearer(bearer) => {
                let rights = if bearer.anonymous_pull { users().with_anonymous_pull() } else { users() };
                Guard::new(Users::Plain(bearer.users.clone()), rights, true).map(|guard| Guard {
                    identity_token: bearer.identity_token.clone(),
                    lifetime: bearer.lifetime,
                    open_door: false,
                    ..guard
                })
            }
            AuthOptions::Files(files) => {
                let path = files.htpasswd.clone();
                let htpasswd = Watched::open(&[&files.htpasswd], notice.clone(), move |contents| {
                    Htpasswd::parse(&path, &contents[0])
                })?;
                let rights = match &files.rights {
                    None if files.anonymous_pull => {
                        RightsSource::Fixed(Arc::new(users().with_anonymous_pull()))
                    }
                    None => RightsSource::Fixed(Arc::new(users())),
                    Some(path) => {
                        let (path, anonymous_pull) = (path.clone(), files.anonymous_pull);
                        let named = path.clone();
                        RightsSource::File(Watched::open(&[&path], notice.clone(), move |contents| {
                            let rights = Rights::parse(&named, &contents[0])?;
                            Ok(if anonymous_pull { rights.with_anonymous_pull() } else { rights })
                        })?)
                    }
                };
                Guard::new(Users::File(htpasswd), users(), false).map(|guard| Guard { rights, ..guard })
            }
        };
        Ok(Auth(Some(guard.map_err(Error::io("/dev/urandom"))?)))
    }

    /// Forgets all tokens.
    pub(super) fn expire_all(&self) {
        if let Some(guard) = &self.0 {
            guard.tokens().clear();
        }
    }

    /// Lets a request pass, or says how to get in. `secure` is whether the client uses TLS.
    pub(super) async fn check(
        &self,
        method: &Method,
        route: &Route,
        headers: &HeaderMap,
        secure: bool,
    ) -> Result<Caller, Problem> {
        match &self.0 {
            None => Ok(Caller::default()),
            Some(guard) => guard.check(&need(method, route), headers, secure).await,
        }
    }

    /// Whether the caller may also pull from another repository.
    pub(super) fn may_pull(&self, caller: &Caller, name: &str) -> bool {
        self.0.as_ref().is_none_or(|guard| guard.has_right(caller, Action::Pull, name))
    }

    /// Whether the caller may see a repository in the catalog.
    pub(super) fn may_see(&self, caller: &Caller, name: &str) -> bool {
        let Some(guard) = &self.0 else { return true };
        guard.rights.get().allow(caller.user.as_deref(), Action::Pull, name)
    }

    /// The token endpoint; `form` is the body of a POST.
    pub(super) async fn token(
        &self,
        headers: &HeaderMap,
        query: &str,
        form: Option<&str>,
    ) -> Result<Reply, Problem> {
        match &self.0 {
            None => Err(Problem::not_found("no tokens here")),
            Some(guard) => guard.token(headers, query, form).await,
        }
    }
}

impl Guard {
    fn new(users: Users, rights: Rights, prefers_tokens: bool) -> std::io::Result<Guard> {
        Ok(Guard {
            passwords: Passwords::new(users)?,
            rights: RightsSource::Fixed(Arc::new(rights)),
            identity_token: None,
            lifetime: TOKEN_LIFETIME,
            open_door: true,
            prefers_tokens,
            tokens: Mutex::default(),
        })
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Issued>> {
        self.tokens.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn check(&self, need: &Need, headers: &HeaderMap, secure: bool) -> Result<Caller, Problem> {
        if let Need::Nothing = need {
            return Ok(Caller::default());
        }
        let caller = self.caller(headers).await?;
        let rights = self.rights.get();
        let allowed = match need {
            Need::Nothing => true,
            Need::User => caller.user.is_some() || caller.token.is_some(),
            Need::Catalog => match &caller.token {
                Some(token) => token.contains("registry:catalog:*"),
                None => caller.user.is_some() || (self.open_door && rights.know_anonymous()),
            },
            Need::Right(action, name) => self.has_right(&caller, *action, name),
        };
        if allowed {
            return Ok(caller);
        }
        let could = match need {
            Need::Right(action, name) => rights.allow(caller.user.as_deref(), *action, name),
            _ => true,
        };
        match (&caller, need) {
            (Caller { user: Some(user), .. }, Need::Right(action, name)) if !could => {
                let message = format!("{user} has no right to {} in {name}", action.name());
                Err(Problem::new(403, "DENIED", message))
            }
            _ => Err(self.challenge(need, headers, secure, &caller)),
        }
    }

    /// The name or token in a request. Neither is no error, and a wrong one is found later.
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if let Some(token) = bearer_token(headers) {
            let tokens = self.tokens();
            let issued = tokens.get(&Digest::of(token.as_bytes())).filter(|i| i.expires > Instant::now());
            return Ok(issued.map_or_else(Caller::default, |issued| Caller {
                user: issued.user.clone(),
                token: Some(issued.rights.clone()),
            }));
        }
        Ok(Caller { user: self.passwords.user(headers).await?, token: None })
    }

    /// A token holds certain rights of its user. It takes no right away that everybody has: a client that
    /// pushes with one also mounts from a repository that is open to all.
    fn has_right(&self, caller: &Caller, action: Action, name: &str) -> bool {
        match &caller.token {
            Some(rights) => {
                rights.contains(&format!("repository:{name}:{}", action.name()))
                    || (self.open_door && self.rights.get().allow(None, action, name))
            }
            None if caller.user.is_none() && !self.open_door => false,
            None => self.rights.get().allow(caller.user.as_deref(), action, name),
        }
    }

    fn challenge(&self, need: &Need, headers: &HeaderMap, secure: bool, caller: &Caller) -> Problem {
        let refused = Problem::new(401, "UNAUTHORIZED", "authentication required");
        // Docker asks for a password only if it is told that one is needed, and never pulls without one if
        // Basic is offered; so tokens are offered if some pulls need no name.
        if !self.prefers_tokens && !self.rights.get().know_anonymous() {
            return refused.header("www-authenticate", "Basic realm=\"crossdock registry\"");
        }
        let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
        let host: String = host.chars().filter(|c| !matches!(c, '"' | '\\')).collect();
        let forwarded = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
        let scheme = if secure || forwarded { "https" } else { "http" };
        let mut challenge = format!("Bearer realm=\"{scheme}://{host}/token\",service=\"{SERVICE}\"");
        match need {
            Need::Catalog => challenge.push_str(",scope=\"registry:catalog:*\""),
            Need::Right(Action::Push, name) => {
                challenge.push_str(&format!(",scope=\"repository:{name}:pull,push\""));
            }
            Need::Right(action, name) => {
                challenge.push_str(&format!(",scope=\"repository:{name}:{}\"", action.name()));
            }
            Need::Nothing | Need::User => {}
        }
        if caller.token.is_some() {
            challenge.push_str(",error=\"insufficient_scope\"");
        } else if headers.contains_key(AUTHORIZATION) {
            challenge.push_str(",error=\"invalid_token\"");
        }
        refused.header("www-authenticate", challenge)
    }

    async fn token(&self, headers: &HeaderMap, query: &str, form: Option<&str>) -> Result<Reply, Problem> {
        let refused = || Problem::new(401, "UNAUTHORIZED", "incorrect user name, password or token");
        let (user, scopes) = match form {
            Some(form) => {
                let given = Secret::new(parameter(form, "refresh_token").ok_or_else(refused)?);
                let good = self.identity_token.as_ref().is_some_and(|t| same(t.expose(), given.expose()));
                if !good {
                    return Err(refused());
                }
                (Some("identity token".to_string()), parameters(form, "scope"))
            }
            None => {
                let user = self.passwords.user(headers).await?;
                if user.is_none() && headers.contains_key(AUTHORIZATION) {
                    return Err(refused());
                }
                (user, parameters(query, "scope"))
            }
        };
        let rights = self.rights.get();
        if user.is_none() && !rights.know_anonymous() {
            return Err(refused());
        }
        let granted = grant(&rights, user.as_deref(), &scopes);
        let token = format!("{}{}", random_hex()?, random_hex()?);
        let expires = Instant::now() + self.lifetime;
        let mut tokens = self.tokens();
        if tokens.len() >= TOKENS_MAX {
            let now = Instant::now();
            tokens.retain(|_, issued| issued.expires > now);
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(Problem::new(503, "TOOMANYREQUESTS", "too many tokens").header("retry-after", "10"));
        }
        tokens.insert(Digest::of(token.as_bytes()), Issued { user, rights: granted, expires });
        Ok(reply(200).json(&json!({"token": token, "expires_in": self.lifetime.as_secs()})))
    }
}

impl RightsSource {
    fn get(&self) -> Arc<Rights> {
        match self {
            RightsSource::Fixed(rights) => rights.clone(),
            RightsSource::File(file) => file.get(),
        }
    }
}

/// The wanted scopes (`repository:NAME:ACTION,...`) that the user may have; `None` is somebody without a
/// name.
fn grant(rights: &Rights, user: Option<&str>, scopes: &[String]) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for scope in scopes.iter().flat_map(|s| s.split_whitespace()) {
        let Some((resource, actions)) = scope.rsplit_once(':') else { continue };
        if resource == "registry:catalog" {
            granted.insert(format!("{resource}:*"));
        }
        let Some(name) = resource.strip_prefix("repository:") else { continue };
        let actions = if actions == "*" { "pull,push,delete" } else { actions };
        for action in actions.split(',').filter_map(Action::parse) {
            if rights.allow(user, action, name) {
                granted.insert(format!("{resource}:{}", action.name()));
            }
        }
    }
    granted
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The right that a request needs.
fn need(method: &Method, route: &Route) -> Need {
    let Some(name) = route.name() else {
        return match route {
            Route::Catalog => Need::Catalog,
            Route::Health | Route::Token => Need::Nothing,
            _ => Need::User,
        };
    };
    let is_upload = matches!(route, Route::Upload { .. } | Route::Uploads { .. });
    let action = match *method {
        _ if is_upload => Action::Push,
        Method::GET | Method::HEAD => Action::Pull,
        Method::DELETE => Action::Delete,
        _ => Action::Push,
    };
    Need::Right(action, name.to_string())
}
