//! From request to answer: the endpoint, the caller's rights, the answer, and the rest of the request's body.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, EXPECT, HeaderValue, RANGE, USER_AGENT,
};
use hyper::{Method, Request};
use serde_json::json;

use super::access_log::{AccessLog, Entry};
use super::auth::Auth;
use super::faults::{Fault, Seen};
use super::gate::{Client, Gate};
use super::metrics::{Metrics, add};
use super::options::ServerOptions;
use super::proxy::Cache;
use super::receive::{CollectError, Places, collect, skip_rest};
use super::reply::{Problem, Reply, reply};
use super::reply_body::ReplyBody;
use super::request::{Aborted, Failure, Handled, Head, blocking, malformed_body, text_header};
use super::route::Route;
use super::storage::Storage;
use super::upload_states::Uploads;
use crate::error::Result;

/// Everything that requests share.
pub(super) struct Handler {
    pub(super) storage: Storage,
    options: ServerOptions,
    pub(super) auth: Auth,
    pub(super) uploads: Uploads,
    pub(super) gate: Arc<Gate>,
    pub(super) metrics: Arc<Metrics>,
    access_log: Option<AccessLog>,
    pub(super) cache: Option<Cache>,
    /// Places for pieces of uploads that are hashed and written at the same time; more would only cost
    /// memory.
    pub(super) places: Arc<Places>,
    /// Limits the large bodies in memory at the same time; further ones wait.
    pub(super) large: tokio::sync::Semaphore,
}

/// Pieces of uploads written at the same time per CPU core: one is hashed while another waits for the disk.
const WRITES_PER_CORE: usize = 2;

/// Manifests of more than 64 KiB that are received at once.
const LARGE_MAX: usize = 16;

/// The facts about a request for the metrics and the log.
#[derive(Default)]
pub(super) struct Noted {
    endpoint: Option<&'static str>,
    user: Option<String>,
}

/// One request that is counted as in flight until dropped.
struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Handler {
    pub(super) fn new(storage: Storage, mut options: ServerOptions, gate: Arc<Gate>) -> Result<Handler> {
        let auth = Auth::new(&options.auth, &options.notice)?;
        let large = tokio::sync::Semaphore::new(LARGE_MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let places = Arc::new(Places::new(WRITES_PER_CORE * cores));
        let access_log = options.access_log.take().map(|log| AccessLog::new(log.open()));
        let (uploads, metrics) = (Uploads::default(), Arc::default());
        let cache = options.proxy.take().map(Cache::new);
        // Clients cannot change a cache.
        options.read_only |= cache.is_some();
        Ok(Handler { storage, options, auth, uploads, gate, metrics, access_log, cache, places, large })
    }

    pub(super) fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// Answers a request, counts it and logs it.
    pub(super) async fn handle(
        self: &Arc<Handler>,
        request: Request<Incoming>,
        client: Client,
    ) -> std::result::Result<Reply, Aborted> {
        let began = Instant::now();
        add(&self.metrics.in_flight, 1);
        let _in_flight = InFlight(&self.metrics);
        let method = request.method().to_string();
        let path = request.uri().path().to_string();
        let agent = text_header(request.headers(), USER_AGENT.as_str()).unwrap_or_default().to_string();
        let address = client.address.ip();
        let mut noted = Noted::default();
        let answer = self.spoil(request, client, &mut noted).await;
        // Web servers log this status for a client that went away.
        let status = answer.as_ref().map_or(499, |answer| answer.status().as_u16());
        self.metrics.answered(&method, noted.endpoint.unwrap_or("other"), status, began.elapsed());
        let (metrics, log) = (self.metrics.clone(), self.access_log.clone());
        let finish = move |bytes| {
            add(&metrics.bytes_sent, bytes);
            if let Some(log) = log {
                let duration = began.elapsed();
                let user = noted.user;
                let entry = Entry { address, user, method, path, agent, status, bytes, duration };
                if !log.write(&entry) {
                    add(&metrics.log_lines_lost, 1);
                }
            }
        };
        match answer {
            Ok(mut answer) => {
                answer.body_mut().at_end(finish);
                Ok(answer)
            }
            Err(aborted) => {
                finish(0);
                Err(aborted)
            }
        }
    }

    /// Answers a request, with a fault if a hook wants one.
    async fn spoil(
        self: &Arc<Handler>,
        request: Request<Incoming>,
        client: Client,
        noted: &mut Noted,
    ) -> std::result::Result<Reply, Aborted> {
        let fault = self.options.faults.as_ref().and_then(|hook| hook(&seen(&request)));
        let mut instead = None;
        match &fault {
            Some(Fault::Close) => return Err(Aborted),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Answer { status, headers, body }) => {
                let builder = headers.iter().fold(reply(*status), |b, (name, value)| b.with(name, value));
                instead = Some(builder.body(body.clone().into_bytes()));
            }
            Some(Fault::ExpireTokens) => self.auth.expire_all(),
            _ => {}
        }
        let is_head = request.method() == Method::HEAD;
        let waits_to_send = request.headers().contains_key(EXPECT);
        let (parts, mut body) = request.into_parts();
        let head = Head {
            method: &parts.method,
            headers: &parts.headers,
            query: parts.uri.query().unwrap_or(""),
            socket: &client.socket,
            fault: fault.as_ref(),
        };
        let secure = client.secure;
        let answered = match instead {
            Some(answer) => Ok(answer),
            None => self.answer(&head, parts.uri.path(), &mut body, secure, noted).await,
        };
        let mut answer = match answered {
            Ok(answer) => answer,
            Err(Failure::Problem(problem)) => self.explain(problem).reply(),
            Err(Failure::Aborted) => return Err(Aborted),
        };
        match fault {
            Some(Fault::CutResponse(after)) => answer.body_mut().cut(after, false),
            Some(Fault::StallResponse(after)) => answer.body_mut().cut(after, true),
            Some(Fault::Corrupt) => answer.body_mut().corrupt(),
            _ => {}
        }
        // A client that waits for "100 Continue" has sent nothing; reading would invite the body.
        if !body.is_end_stream() && (waits_to_send || !skip_rest(&mut body).await) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            client.socket.linger();
        }
        if is_head && !answer.headers().contains_key(CONTENT_LENGTH) {
            let length = answer.body().length();
            answer.headers_mut().insert(CONTENT_LENGTH, length.into());
            *answer.body_mut() = ReplyBody::empty();
        }
        answer.body_mut().send_to(client.socket);
        Ok(answer)
    }

    /// Adds the free space to the message about a full disk.
    fn explain(&self, mut problem: Problem) -> Problem {
        if problem.status == 507 {
            let room = self.storage.room().map_or("unknown".to_string(), |bytes| bytes.to_string());
            problem.message =
                format!("the registry's disk is full ({room} bytes free); what was uploaded is dropped");
        }
        problem
    }

    async fn answer(
        self: &Arc<Handler>,
        head: &Head<'_>,
        path: &str,
        body: &mut Incoming,
        secure: bool,
        noted: &mut Noted,
    ) -> Handled {
        let reads = matches!(*head.method, Method::GET | Method::HEAD);
        let route = Route::parse(path)
            .map_err(|problem| problem.when_reading(reads || *head.method == Method::DELETE))?;
        noted.endpoint = Some(route.endpoint());
        let caller = self.auth.check(head.method, &route, head.headers, secure).await?;
        noted.user = caller.user.clone();
        let allowed = route.methods(self.options.read_only);
        let changes = !reads && route != Route::Token;
        if !allowed.contains(&head.method.as_str()) {
            let message = match self.options.read_only && changes {
                true if self.cache.is_some() => {
                    "this registry is a cache of another one and takes no changes"
                }
                true => "this registry is read-only",
                false => "the endpoint does not do that",
            };
            return Err(Problem::new(405, "UNSUPPORTED", message)
                .header(ALLOW.as_str(), allowed.join(", "))
                .into());
        }
        match route {
            Route::Ping => Ok(reply(200).json(&json!({}))),
            Route::Token => self.token(head, body).await,
            Route::Health | Route::Metrics | Route::Catalog if self.options.unlisted => {
                Err(Problem::new(404, "UNSUPPORTED", "this registry lists nothing").into())
            }
            Route::Health => self.health().await,
            Route::Metrics => {
                let text = self.metrics.text(self.gate.open(), self.storage.room().ok());
                let version = "text/plain; version=0.0.4; charset=utf-8";
                Ok(reply(200).with("content-type", version).body(text.into_bytes()))
            }
            Route::Catalog => self.catalog(&caller, head.query).await,
            Route::Tags { name } => self.tags(name, head.query).await,
            Route::Referrers { name, digest } => self.referrers(name, digest, head.query).await,
            Route::Manifest { name, identifier } => match *head.method {
                Method::PUT => self.put_manifest(head, name, identifier, body).await,
                Method::DELETE => self.delete_manifest(name, identifier).await,
                _ => self.manifest(head, name, identifier).await,
            },
            Route::Blob { name, digest } => match *head.method {
                Method::DELETE => self.delete_blob(name, digest).await,
                _ => self.blob(head, name, digest).await,
            },
            Route::Uploads { name } => self.begin_upload(head, &caller, name, body).await,
            Route::Upload { name, id } => match *head.method {
                Method::PATCH => self.patch_upload(head, &name, &id, body).await,
                Method::PUT => self.finish_upload(head, &name, &id, body).await,
                Method::DELETE => self.cancel_upload(&name, &id).await,
                _ => self.upload_status(&name, &id).await,
            },
        }
    }

    /// Whether the directory exists and can be written to.
    async fn health(&self) -> Handled {
        let (storage, read_only) = (self.storage.clone(), self.options.read_only && self.cache.is_none());
        match blocking(move || Ok(storage.check(read_only)?)).await {
            Ok(()) => Ok(reply(200).json(&json!({"status": "ok"}))),
            Err(problem) => {
                let problem = self.explain(problem);
                Ok(reply(503).json(&json!({"status": "failing", "reason": problem.message})))
            }
        }
    }

    async fn token(&self, head: &Head<'_>, body: &mut Incoming) -> Handled {
        let form = match *head.method {
            Method::POST => {
                let bytes = self.small_body(body, 64 * 1024).await?;
                Some(String::from_utf8(bytes).map_err(|_| Problem::new(400, "UNSUPPORTED", "not a form"))?)
            }
            _ => None,
        };
        Ok(self.auth.token(head.headers, head.query, form.as_deref()).await?)
    }

    /// Reads a body into memory.
    pub(super) async fn small_body(
        &self,
        body: &mut Incoming,
        limit: usize,
    ) -> std::result::Result<Vec<u8>, Failure> {
        match collect(body, limit, self.options.stall, &self.large).await {
            Ok(bytes) => Ok(bytes),
            Err(CollectError::TooLarge) => {
                Err(Problem::new(413, "SIZE_INVALID", format!("more than {limit} bytes")).into())
            }
            Err(CollectError::Malformed) => Err(malformed_body().into()),
            Err(CollectError::Cut) => Err(Failure::Aborted),
        }
    }
}

fn seen(request: &Request<Incoming>) -> Seen {
    let text = |name: &str| text_header(request.headers(), name).map(str::to_string);
    Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_string(),
        query: request.uri().query().unwrap_or("").to_string(),
        authorization: text(AUTHORIZATION.as_str()),
        range: text(RANGE.as_str()),
        content_range: text(CONTENT_RANGE.as_str()),
    }
}
