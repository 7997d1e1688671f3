//! The cache service of GitHub Actions, also of its relatives (Gitea, Forgejo, act): files under keys, for
//! the jobs of a repository. An entry never changes; who has the right to see it is in the job's token.
//!
//! Two protocols are spoken. The first is the REST API below `_apis/artifactcache`, which the relatives have;
//! the second is Twirp (`github.actions.results.api.v1.CacheService`) with the content in a block blob of
//! Azure (REST API "Put Blob", "Put Block" and "Put Block List"), which is all that GitHub has had since
//! April 2025. The package `@actions/cache` of actions/toolkit is their only description.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::Body;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName};
use ureq::http::{HeaderValue, Method, Response};

use super::Client;
use super::failure::Subject;
use super::service::Request;
use super::upload::BlobSource;
use super::url::Url;
use crate::error::{Error, Result};
use crate::percent::encode;
use crate::secret::Secret;

/// Entries larger than this, in bytes, are sent in parts of this size; also the size that the servers of the
/// first protocol are used to.
const PART: u64 = 32 * 1024 * 1024;

/// Most bytes that are read of an answer.
const ANSWER_SIZE_MAX: u64 = 64 * 1024;

/// What an answer of 401 or 403 means.
const TOKEN_ADVICE: &str = "the job's token (ACTIONS_RUNTIME_TOKEN) has no right to it, or has expired";

/// Media type that names the version of the first protocol.
const V1: &str = "application/json;api-version=6.0-preview.1";

/// How a cache service is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionsProtocol {
    /// REST, at `ACTIONS_CACHE_URL`.
    V1,
    /// Twirp, at `ACTIONS_RESULTS_URL`.
    V2,
}

/// The cache service of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionsCache {
    /// The address of the service.
    pub url: String,
    /// The job's token, `ACTIONS_RUNTIME_TOKEN`.
    pub token: Secret,
    /// The protocol that is spoken there.
    pub protocol: ActionsProtocol,
    /// Text of hexadecimal digits that tells formats of entries apart: keys of different versions never meet.
    pub version: String,
}

/// An entry that was found.
#[derive(Clone, Debug)]
pub struct ActionsEntry {
    /// Its key.
    pub key: String,
    /// The address of its content, for [`Client::download`]. It is signed, so whoever has it can read the
    /// entry.
    pub url: Secret,
}

#[derive(Serialize)]
struct LookUp<'a> {
    key: &'a str,
    restore_keys: Vec<&'a str>,
    version: &'a str,
}

#[derive(Deserialize)]
struct FoundV2 {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    signed_download_url: String,
    #[serde(default)]
    matched_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundV1 {
    archive_location: String,
    cache_key: String,
}

#[derive(Serialize)]
struct Create<'a> {
    key: &'a str,
    version: &'a str,
    #[serde(rename = "cacheSize", skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(Deserialize)]
struct CreatedV2 {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    signed_upload_url: String,
}

#[derive(Deserialize)]
struct CreatedV1 {
    #[serde(alias = "cacheID", rename = "cacheId")]
    id: u64,
}

#[derive(Serialize)]
struct Finalize<'a> {
    key: &'a str,
    version: &'a str,
    /// A 64-bit number, which ProtoJSON writes as a string.
    size_bytes: String,
}

#[derive(Deserialize)]
struct Finalized {
    #[serde(default)]
    ok: bool,
}

#[derive(Serialize)]
struct Commit {
    size: u64,
}

/// Where the content of a new entry goes.
enum Begun {
    /// A blob of Azure.
    Blob(Url),
    /// A resource of the service.
    Resource(Url),
    /// Another job has the entry, or is writing it.
    Taken,
}

impl Client {
    /// The entry of that key; with `prefix`, the newest one whose key begins with `key`.
    ///
    /// # Errors
    ///
    /// Errors of the connection, and answers other than those of the protocol.
    pub fn actions_entry(
        &self,
        cache: &ActionsCache,
        key: &str,
        prefix: bool,
    ) -> Result<Option<ActionsEntry>> {
        let (found_key, url) = match cache.protocol {
            ActionsProtocol::V2 => {
                let restore_keys = if prefix { vec![key] } else { Vec::new() };
                let asked = LookUp { key, restore_keys, version: &cache.version };
                let found: Option<FoundV2> = self.twirp(cache, "GetCacheEntryDownloadURL", &asked, &[404])?;
                let Some(found) = found.filter(|found| found.ok) else { return Ok(None) };
                (found.matched_key, found.signed_download_url)
            }
            ActionsProtocol::V1 => {
                let version = encode(&cache.version);
                let path = format!("cache?keys={}&version={version}", encode(key));
                let url = cache.resource(&path)?;
                let response = self.ask_service(cache, Method::GET, &url, &[], &[200, 204])?;
                if response.status().as_u16() == 204 {
                    return Ok(None);
                }
                let found: FoundV1 = parsed(response, cache, &Method::GET, &url)?;
                (found.cache_key, found.archive_location)
            }
        };
        // The servers of act and Gitea keep keys in small letters.
        let beginning = if prefix { found_key.get(..key.len()) } else { Some(found_key.as_str()) };
        let is_meant = beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(key));
        Ok(is_meant.then(|| ActionsEntry { key: found_key, url: Secret::new(url) }))
    }

    /// Makes an entry of `size` bytes. False if there is one of that key already, or another job makes it.
    ///
    /// # Errors
    ///
    /// Errors of the connection and of reading the content, and answers other than those of the protocol.
    pub fn save_actions_entry(
        &self,
        cache: &ActionsCache,
        key: &str,
        size: u64,
        content: &dyn BlobSource,
    ) -> Result<bool> {
        match self.begin_entry(cache, key, size)? {
            Begun::Taken => Ok(false),
            Begun::Blob(url) => {
                // The signature in the address is all that the storage needs; the job's token must not get
                // there.
                self.put_block_blob((&cache.subject()?, TOKEN_ADVICE), &url, size, content)?;
                let asked = Finalize { key, version: &cache.version, size_bytes: size.to_string() };
                let done: Option<Finalized> = self.twirp(cache, "FinalizeCacheEntryUpload", &asked, &[])?;
                match done {
                    Some(Finalized { ok: true }) => Ok(true),
                    _ => Err(cache.refused("FinalizeCacheEntryUpload", "it was not accepted")),
                }
            }
            Begun::Resource(url) => {
                for offset in (0..size).step_by(PART as usize) {
                    let length = PART.min(size - offset);
                    let mut headers = cache.headers(V1)?;
                    headers.push((CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")));
                    let range = format!("bytes {offset}-{}/*", offset + length - 1);
                    headers.push((CONTENT_RANGE, text_value(&range)));
                    let body = (content, offset, length);
                    let expected = &[200, 201, 204][..];
                    let request = Request { method: Method::PATCH, url: &url, headers, body, expected };
                    self.send_to_service(&cache.subject()?, &request, TOKEN_ADVICE)?;
                }
                let body = serde_json::to_vec(&Commit { size }).expect("plain values always serialise");
                self.ask_service(cache, Method::POST, &url, &body, &[200, 201, 204])?;
                Ok(true)
            }
        }
    }

    fn begin_entry(&self, cache: &ActionsCache, key: &str, size: u64) -> Result<Begun> {
        match cache.protocol {
            ActionsProtocol::V2 => {
                let asked = Create { key, version: &cache.version, size: None };
                let created: Option<CreatedV2> = self.twirp(cache, "CreateCacheEntry", &asked, &[409])?;
                let Some(created) = created else { return Ok(Begun::Taken) };
                if !created.ok {
                    let reason = "it takes no entry: the job has no right to write, or there is no room";
                    return Err(cache.refused("CreateCacheEntry", reason));
                }
                let url = Url::parse(&created.signed_upload_url).ok_or_else(|| {
                    cache.refused("CreateCacheEntry", "it names no address for the content")
                })?;
                Ok(Begun::Blob(url))
            }
            ActionsProtocol::V1 => {
                let asked = Create { key, version: &cache.version, size: Some(size) };
                let body = serde_json::to_vec(&asked).expect("plain values always serialise");
                let url = cache.resource("caches")?;
                let expected = [200, 201, 400, 409];
                let response = self.ask_service(cache, Method::POST, &url, &body, &expected)?;
                match response.status().as_u16() {
                    409 => Ok(Begun::Taken),
                    // Older servers answer 400 and say in the body what they mean.
                    400 => match body_of(response, cache, &Method::POST, &url)? {
                        text if contains(&text, b"AlreadyExists") => Ok(Begun::Taken),
                        text => Err(cache.subject()?.unexpected(
                            &Method::POST,
                            &url,
                            400,
                            crate::error::excerpt(&text),
                        )),
                    },
                    _ => {
                        let created: CreatedV1 = parsed(response, cache, &Method::POST, &url)?;
                        Ok(Begun::Resource(cache.resource(&format!("caches/{}", created.id))?))
                    }
                }
            }
        }
    }

    /// Calls a method of the second protocol. `None` for an answer of one of the statuses in `none`.
    fn twirp<Answer: DeserializeOwned>(
        &self,
        cache: &ActionsCache,
        method: &str,
        asked: &impl Serialize,
        none: &[u16],
    ) -> Result<Option<Answer>> {
        let service = "twirp/github.actions.results.api.v1.CacheService";
        let url = cache.below(&format!("{service}/{method}"))?;
        let body = serde_json::to_vec(asked).expect("plain values always serialise");
        let expected: Vec<u16> = none.iter().copied().chain([200]).collect();
        let response = self.ask_service(cache, Method::POST, &url, &body, &expected)?;
        if none.contains(&response.status().as_u16()) {
            return Ok(None);
        }
        parsed(response, cache, &Method::POST, &url).map(Some)
    }

    /// Sends a request of JSON to the service.
    fn ask_service(
        &self,
        cache: &ActionsCache,
        method: Method,
        url: &Url,
        body: &[u8],
        expected: &[u16],
    ) -> Result<Response<Body>> {
        let accepted = if cache.protocol == ActionsProtocol::V1 { V1 } else { "application/json" };
        let mut headers = cache.headers(accepted)?;
        if !body.is_empty() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        let body = body.to_vec();
        let length = body.len() as u64;
        let request = Request { method, url, headers, body: (&body, 0, length), expected };
        self.send_to_service(&cache.subject()?, &request, TOKEN_ADVICE)
    }
}

impl ActionsCache {
    /// An address below the service's.
    fn below(&self, path: &str) -> Result<Url> {
        let text = format!("{}/{path}", self.url.trim_end_matches('/'));
        Url::parse(&text).ok_or_else(|| {
            let reason = "its address is not an http address: see ACTIONS_RESULTS_URL and ACTIONS_CACHE_URL";
            Error::of_service("the cache service of the job", reason)
        })
    }

    /// An address of the first protocol.
    fn resource(&self, path: &str) -> Result<Url> {
        self.below(&format!("_apis/artifactcache/{path}"))
    }

    fn subject(&self) -> Result<Subject> {
        let url = self.below("")?;
        let subject = Subject::new(url.authority(), format!("the cache service at {}", url.authority()));
        Ok(subject.hiding([&self.token]))
    }

    fn headers(&self, accept: &'static str) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let mut token = HeaderValue::from_str(&format!("Bearer {}", self.token.expose())).map_err(|_| {
            let reason = "its token has characters that no header can have";
            Error::of_service("the cache service of the job", reason)
        })?;
        token.set_sensitive(true);
        Ok(vec![(AUTHORIZATION, token), (ACCEPT, HeaderValue::from_static(accept))])
    }

    fn refused(&self, method: &str, reason: &str) -> Error {
        let service = self.subject().map(|subject| subject.target).unwrap_or_default();
        Error::of_service(service, format!("{method}: {reason}"))
    }
}

fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and signs")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn body_of(
    mut response: Response<Body>,
    cache: &ActionsCache,
    method: &Method,
    url: &Url,
) -> Result<Vec<u8>> {
    let read = response.body_mut().with_config().limit(ANSWER_SIZE_MAX).read_to_vec();
    read.map_err(|error| Error::Transport {
        target: cache.subject().map(|subject| subject.target).unwrap_or_default(),
        request: format!("{method} {url}"),
        reason: format!("the answer was cut short ({error})"),
        retryable: true,
    })
}

fn parsed<Answer: DeserializeOwned>(
    response: Response<Body>,
    cache: &ActionsCache,
    method: &Method,
    url: &Url,
) -> Result<Answer> {
    let status = response.status().as_u16();
    let body = body_of(response, cache, method, url)?;
    serde_json::from_slice(&body).map_err(|error| {
        // The body may hold a signed address, so the error does not quote it.
        let reason = format!("{method} {url}: status {status} with an unusable answer ({error})");
        let service = cache.subject().map(|subject| subject.target).unwrap_or_default();
        Error::of_service(service, reason)
    })
}
