//! The other registry of a pull-through cache.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use crossdock_oci::{Digest, Reference};
use tokio::sync::{Semaphore, watch};

use super::bound::Bound;
use super::reply::Problem;
use super::reply_body::Filled;
use super::request::blocking;
use super::route::Identifier;
use crate::client::Client;
use crate::error::Error;

/// Most requests to the other registry at the same time; each holds a thread. Further requests wait without
/// one.
const AT_ONCE: usize = 16;

/// The registry that is cached.
#[derive(Clone)]
pub struct ProxyOptions {
    /// The client that asks the registry, with its credentials and certificates.
    pub client: Client,
    /// Name of the registry, `HOST[:PORT]`.
    pub registry: String,
    /// Most bytes to keep; the least recently used content goes first. A larger blob is passed on but not
    /// kept.
    pub max: Option<u64>,
}

/// The other registry, and the blobs that are being fetched from it.
pub(super) struct Cache {
    pub(super) options: ProxyOptions,
    pub(super) bound: Option<Bound>,
    pub(super) fetches: Mutex<HashMap<(String, Digest), Fetch>>,
    pub(super) permits: Arc<Semaphore>,
}

/// A blob that is being fetched.
#[derive(Clone)]
pub(super) struct Fetch {
    pub(super) file: Arc<File>,
    /// Size of the whole blob in bytes.
    pub(super) size: u64,
    pub(super) filled: watch::Receiver<Filled>,
}

impl Cache {
    pub(super) fn new(options: ProxyOptions) -> Cache {
        let bound = options.max.map(Bound::new);
        Cache { options, bound, fetches: Mutex::default(), permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    pub(super) fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    /// Adds a stored file to the size of the cache.
    pub(super) fn kept(&self, size: u64) {
        if let Some(bound) = &self.bound {
            bound.kept(size);
        }
    }

    pub(super) fn fetches(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Digest), Fetch>> {
        self.fetches.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn reference(&self, name: &str, identifier: &Identifier) -> Result<Reference, Problem> {
        let (tag, digest) = match identifier {
            Identifier::Tag(tag) => (Some(tag.as_str()), None),
            Identifier::Digest(digest) => (None, Some(digest.clone())),
        };
        Reference::new(&self.options.registry, name, tag, digest)
            .map_err(|e| Problem::new(404, "NAME_INVALID", e.to_string()))
    }

    /// Asks the other registry, on a thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, Error> + Send + 'static,
    ) -> Result<Result<T, Error>, Problem> {
        let _permit = self.permits.acquire().await.map_err(io::Error::other)?;
        let client = self.options.client.clone();
        blocking(move || Ok(ask(&client))).await
    }
}
