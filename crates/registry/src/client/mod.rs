//! The client: every endpoint of the OCI distribution specification 1.1, blocking.
//!
//! `docs/dev/registry.md` explains how names become connections, how authentication works and what is
//! retried.

mod actions_cache;
mod answer;
mod blob;
mod block_blob;
mod bucket;
mod challenge;
mod download;
mod failure;
mod http;
mod list;
mod login;
mod manifest;
mod proxy;
mod resolve;
mod retry;
mod service;
mod session;
mod stream;
mod upload;
mod url;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crossdock_oci::{Digest, Reference};
use ureq::Body;
use ureq::http::{HeaderValue, Method, Response, header::AUTHORIZATION, header::HeaderName};

use self::failure::{Subject, check};
use self::http::{Http, header_text};
use self::session::{Scopes, Session};
use self::url::Url;
use crate::credentials::Credentials;
use crate::environment::Environment;
use crate::error::Result;
use crate::hosts::{Endpoint, HostPaths, Hosts};
use crate::progress::{NoProgress, Progress};

pub use self::actions_cache::{ActionsCache, ActionsEntry, ActionsProtocol};
pub use self::blob::BlobReader;
pub use self::block_blob::BlobContainer;
pub use self::bucket::Bucket;
pub use self::http::Timeouts;
pub use self::manifest::FetchedManifest;
pub use self::proxy::Proxies;
pub use self::resolve::ResolverFiles;
pub use self::retry::{Clock, SystemClock};
pub(crate) use self::upload::Begun;
pub use self::upload::{BlobSource, FileSource};

/// Settings of a [`Client`]. The default uses only the system's trusted certificates and name resolution.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where user names and passwords come from.
    pub credentials: Credentials,
    /// Mirrors, certificates, insecure and blocked registries.
    pub hosts: Hosts,
    /// Registries (`HOST[:PORT]`) whose certificates are not verified and that may be reached by http.
    pub insecure: Vec<String>,
    /// Treats all registries as insecure.
    pub insecure_all: bool,
    /// Registries (`HOST[:PORT]`) that are not insecure, whatever the configuration says.
    pub secure: Vec<String>,
    /// Treats no registry as insecure, whatever the configuration says.
    pub secure_all: bool,
    /// `User-Agent`.
    pub user_agent: String,
    /// How many times a request without progress is tried again.
    pub retries: u32,
    /// Blobs that are moved at the same time.
    pub max_parallel: usize,
    /// Size in bytes of upload chunks; `None` sends a blob in one request if the registry accepts that.
    pub chunk_size: Option<u64>,
    /// Receives the progress of transfers.
    pub progress: Arc<dyn Progress>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Files for name resolution.
    pub resolver: ResolverFiles,
    /// The clock that waits between tries.
    pub clock: Arc<dyn Clock>,
    /// Proxies, and the hosts reached without them.
    pub proxies: Proxies,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            credentials: Credentials::none(),
            hosts: Hosts::default(),
            insecure: Vec::new(),
            insecure_all: false,
            secure: Vec::new(),
            secure_all: false,
            user_agent: concat!("crossdock/", env!("CARGO_PKG_VERSION")).to_string(),
            retries: 5,
            max_parallel: 4,
            chunk_size: None,
            progress: Arc::new(NoProgress),
            timeouts: Timeouts::default(),
            resolver: ResolverFiles::default(),
            clock: Arc::new(SystemClock),
            proxies: Proxies::default(),
        }
    }
}

impl ClientOptions {
    /// Options with the credentials, proxies and configuration files that the environment names.
    pub fn from_environment(environment: &Environment) -> Result<ClientOptions> {
        Ok(ClientOptions {
            credentials: Credentials::from_environment(environment),
            hosts: Hosts::read(&HostPaths::from_environment(environment))?,
            proxies: Proxies::from_environment(environment),
            ..ClientOptions::default()
        })
    }
}

/// A client for all registries; clones share connections, tokens and knowledge about hosts.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: ClientOptions,
    http: Http,
    sessions: Mutex<HashMap<(String, bool), Arc<Session>>>,
    /// Whether a blob is known to be in a repository; locked while the blob is brought there.
    known: Mutex<HashMap<PlacedBlob, Arc<Mutex<bool>>>>,
}

/// Registry, repository and digest.
type PlacedBlob = (String, String, Digest);

/// Most redirects followed for one request.
const REDIRECTS_MAX: u32 = 5;

/// Where a request goes.
enum Target<'a> {
    /// Below the registry's root; begins with a slash.
    Path(String),
    /// A URL that the registry gave.
    Url(&'a Url),
}

/// A request; the body is reopened for each try.
struct Call<'a> {
    method: Method,
    target: Target<'a>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<CallBody<'a>>,
    scopes: &'a Scopes,
    expected: &'a [u16],
    subject: &'a Subject,
}

/// A function that opens a body, and the body's length in bytes; `None` if it is not known yet.
type CallBody<'a> = (&'a dyn Fn() -> Result<OpenedBody<'a>>, Option<u64>);

/// A body that is read while it is sent.
type OpenedBody<'a> = Box<dyn std::io::Read + Send + 'a>;

/// An answer and the URL that it came from after redirects.
struct Answered {
    response: Response<Body>,
    url: Url,
}

impl Client {
    /// A client; makes no connection yet.
    pub fn new(options: ClientOptions) -> Client {
        let http = Http {
            hosts: options.hosts.clone(),
            proxies: options.proxies.clone(),
            resolver: options.resolver.clone(),
            timeouts: options.timeouts.clone(),
            user_agent: options.user_agent.clone(),
            agents: Mutex::default(),
        };
        Client {
            inner: Arc::new(Inner { options, http, sessions: Mutex::default(), known: Mutex::default() }),
        }
    }

    /// The settings.
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// The parts of this client that sessions use.
    fn outside(&self) -> session::Outside<'_> {
        session::Outside { http: self.http(), credentials: self.credentials(), clock: self.clock() }
    }

    fn http(&self) -> &Http {
        &self.inner.http
    }

    fn credentials(&self) -> &Credentials {
        &self.inner.options.credentials
    }

    fn clock(&self) -> &dyn Clock {
        &*self.inner.options.clock
    }

    fn retries(&self) -> retry::Retries {
        let options = &self.inner.options;
        retry::Retries::new(options.clock.clone(), options.progress.clone(), options.retries)
    }

    /// The same, but not more often than `limit` times.
    fn retries_at_most(&self, limit: u32) -> retry::Retries {
        let options = &self.inner.options;
        retry::Retries::new(options.clock.clone(), options.progress.clone(), options.retries.min(limit))
    }

    fn session(&self, endpoint: &Endpoint) -> Arc<Session> {
        let key = (endpoint.registry.clone(), endpoint.insecure);
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(|e| e.into_inner());
        sessions.entry(key).or_insert_with_key(|(r, insecure)| Arc::new(Session::new(r, *insecure))).clone()
    }

    /// Endpoints to read a repository from, mirrors first.
    fn endpoints(&self, registry: &str, repository: &str, by_digest: bool) -> Result<Vec<Endpoint>> {
        let options = &self.inner.options;
        let mut endpoints = options.hosts.endpoints(registry, repository, by_digest)?;
        for endpoint in &mut endpoints {
            endpoint.insecure |= options.insecure_all || options.insecure.contains(&endpoint.registry);
            endpoint.insecure &= !(options.secure_all || options.secure.contains(&endpoint.registry));
        }
        Ok(endpoints)
    }

    /// The endpoint to write a repository to: never a mirror.
    fn writable(&self, reference: &Reference) -> Result<Endpoint> {
        let mut endpoints = self.endpoints(reference.registry(), reference.repository(), true)?;
        Ok(endpoints.pop().expect("the registry itself is always the last endpoint"))
    }

    fn known_blob(&self, endpoint: &Endpoint, digest: &Digest) -> Arc<Mutex<bool>> {
        let key = (endpoint.registry.clone(), endpoint.repository.clone(), digest.clone());
        self.inner.known.lock().unwrap_or_else(|e| e.into_inner()).entry(key).or_default().clone()
    }

    /// Asks the endpoints of a reference in order; returns the error of the last.
    fn read<T>(&self, reference: &Reference, ask: impl Fn(&Endpoint) -> Result<T>) -> Result<T> {
        let endpoints =
            self.endpoints(reference.registry(), reference.repository(), reference.digest().is_some())?;
        for endpoint in &endpoints {
            if !endpoint.mirror {
                break;
            }
            // A mirror gets one try: the registry itself has whatever the mirror lacks.
            if let Ok(value) = ask(endpoint) {
                return Ok(value);
            }
        }
        let endpoint = endpoints.last().expect("the registry itself is always the last endpoint");
        self.retrying(|| ask(endpoint))
    }

    /// Repeats attempts that fail for temporary reasons.
    fn retrying<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut retries = self.retries();
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(e) => retries.wait(e)?,
            }
        }
    }

    /// Deletes what is at a path.
    fn delete<'p>(
        &self,
        endpoint: &Endpoint,
        path: impl Fn() -> Target<'p>,
        subject: &Subject,
    ) -> Result<()> {
        let scopes = Scopes::delete(&endpoint.repository);
        let call = || Call {
            method: Method::DELETE,
            target: path(),
            headers: Vec::new(),
            body: None,
            scopes: &scopes,
            expected: &[202, 200, 204],
            subject,
        };
        self.retrying(|| self.call(endpoint, &call())).map(drop)
    }

    /// Sends a request once, with authentication and redirects.
    fn call(&self, endpoint: &Endpoint, call: &Call) -> Result<Answered> {
        let session = self.session(endpoint);
        let base = session.base(self.outside())?;
        let mut url = match &call.target {
            Target::Path(path) => base.join(path).ok_or_else(|| {
                call.subject.unexpected(&call.method, &base, 0, "its name makes no URL".to_string())
            })?,
            Target::Url(url) => (*url).clone(),
        };
        let mut scopes = call.scopes.clone();
        let mut refreshed = false;
        let mut redirects = 0;
        loop {
            let ours = url.same_origin(&base);
            let authorization = match ours {
                true => session.authorization(self.outside(), &base, endpoint, &scopes)?,
                false => None,
            };
            let mut headers = call.headers.clone();
            headers.extend(authorization.clone().map(|value| (AUTHORIZATION, value)));
            let mut reader = match &call.body {
                Some((open, _)) => Some(open()?),
                None => None,
            };
            let body = reader.as_mut().zip(call.body.as_ref()).map(|(r, (_, n))| (&mut **r as _, *n));
            let response = self
                .http()
                .send(&call.method, &url, &headers, body, session.insecure)?
                .map_err(|failure| call.subject.transport(&call.method, &url, failure))?;
            if response.status() == 401 && ours && !refreshed {
                refreshed = true;
                if let Some(wanted) = session.refused(&response, authorization.as_ref(), &scopes) {
                    scopes = wanted;
                    continue;
                }
            }
            if let Some(next) = redirect(&response, &call.method, &url, session.insecure) {
                redirects += 1;
                if redirects <= REDIRECTS_MAX {
                    url = next;
                    continue;
                }
            }
            let response = check(response, call.expected, call.subject, &call.method, &url)?;
            return Ok(Answered { response, url });
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("user_agent", &self.inner.options.user_agent).finish_non_exhaustive()
    }
}

/// The URL to which an answer redirects a request that may be repeated; never from https to http, unless the
/// user allows it.
fn redirect(response: &Response<Body>, method: &Method, url: &Url, insecure: bool) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
        || !matches!(*method, Method::GET | Method::HEAD)
    {
        return None;
    }
    let next = url.join(header_text(response.headers(), "location")?)?;
    (next.is_https() || !url.is_https() || insecure).then_some(next)
}

/// The subject of messages about a reference.
fn subject_of(reference: &Reference) -> Subject {
    Subject::new(reference.registry(), reference.to_string())
}

/// The subject of messages about a repository.
fn repository_subject(reference: &Reference) -> Subject {
    Subject::new(reference.registry(), reference.name())
}
