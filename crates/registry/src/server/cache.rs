//! A pull-through cache: what is not here is fetched from another registry, kept, and passed on while it
//! comes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use crossdock_oci::digest::Hasher;
use crossdock_oci::manifest::Descriptor;
use crossdock_oci::{Digest, Reference};
use tokio::sync::{Semaphore, watch};

use super::bound::Bound;
use super::handler::{Handler, blocking};
use super::metrics::add;
use super::reply::Problem;
use super::reply_body::Filled;
use super::route::Identifier;
use super::storage::{Storage, StoredManifest};
use crate::client::Client;
use crate::error::Error;

/// Requests to the other registry at the same time; each holds a thread. The others wait without one.
const AT_ONCE: usize = 16;

/// Bytes that are read at once.
const READ_SIZE: usize = 256 * 1024;

/// The registry that is cached.
#[derive(Clone)]
pub struct ProxyOptions {
    /// Asks it, with the credentials and certificates for it.
    pub client: Client,
    /// Its name, `HOST[:PORT]`.
    pub registry: String,
    /// Bytes that may be kept; what was used least recently goes first. A larger blob is passed on only.
    pub max: Option<u64>,
}

pub(super) struct Cache {
    options: ProxyOptions,
    bound: Option<Bound>,
    fetches: Mutex<HashMap<(String, Digest), Fetch>>,
    permits: Arc<Semaphore>,
}

/// A blob that is on its way.
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

    /// Notes that something was kept.
    fn kept(&self, size: u64) {
        if let Some(bound) = &self.bound {
            bound.kept(size);
        }
    }

    fn fetches(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Digest), Fetch>> {
        self.fetches.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn reference(&self, name: &str, identifier: &Identifier) -> Result<Reference, Problem> {
        let (tag, digest) = match identifier {
            Identifier::Tag(tag) => (Some(tag.as_str()), None),
            Identifier::Digest(digest) => (None, Some(digest.clone())),
        };
        Reference::new(&self.options.registry, name, tag, digest)
            .map_err(|e| Problem::new(404, "NAME_INVALID", e.to_string()))
    }

    /// Asks the other registry something, on a thread.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, Error> + Send + 'static,
    ) -> Result<Result<T, Error>, Problem> {
        let _permit = self.permits.acquire().await.map_err(io::Error::other)?;
        let client = self.options.client.clone();
        blocking(move || Ok(ask(&client))).await
    }
}

impl Handler {
    /// A manifest that is here, or of the registry that is cached. A tag is asked for each time; what it
    /// named before is given only while that registry cannot be reached.
    pub(super) async fn cached_manifest(
        self: &Arc<Handler>,
        cache: &Cache,
        name: &str,
        identifier: Identifier,
    ) -> Result<Option<StoredManifest>, Problem> {
        let (storage, repository, wanted) = (self.storage.clone(), name.to_string(), identifier.clone());
        let here = blocking(move || Ok(storage.manifest(&repository, &wanted)?)).await?;
        if let (Some(here), Identifier::Digest(_)) = (&here, &identifier) {
            add(&self.metrics.cache_hits, 1);
            self.renew(&here.digest).await;
            return Ok(Some(here.clone()));
        }
        let reference = cache.reference(name, &identifier)?;
        let known = here.as_ref().map(|here| here.digest.clone());
        let fetched = cache.ask(move |client| {
            // To ask what a tag names costs less than the manifest.
            if let (Some(known), Some(found)) = (known, client.head_manifest(&reference)?)
                && found.digest == known
            {
                return Ok(None);
            }
            client.manifest(&reference).map(Some)
        });
        match (fetched.await?, here) {
            (Ok(None), here) => {
                add(&self.metrics.cache_hits, 1);
                if let Some(here) = &here {
                    self.renew(&here.digest).await;
                }
                Ok(here)
            }
            (Ok(Some(fetched)), _) => {
                add(&self.metrics.cache_misses, 1);
                let stored = StoredManifest {
                    digest: fetched.digest,
                    media_type: fetched.media_type,
                    bytes: fetched.bytes,
                };
                let tag = match identifier {
                    Identifier::Tag(tag) => Some(tag),
                    Identifier::Digest(_) => None,
                };
                let size = stored.bytes.len() as u64;
                let _room = self.make_room(size).await;
                let lock = self.storage.writing().await?;
                let (storage, name) = (self.storage.clone(), name.to_string());
                let kept = blocking(move || {
                    storage.keep_manifest(&lock, &name, tag.as_deref(), &stored)?;
                    Ok(stored)
                });
                let kept = kept.await?;
                cache.kept(size);
                Ok(Some(kept))
            }
            (Err(e), Some(here)) if is_unreachable(&e) => {
                add(&self.metrics.cache_hits, 1);
                (self.options().notice)(&format!("{e}; what was fetched before is served"));
                Ok(Some(here))
            }
            (Err(Error::NotFound { .. }), _) => Ok(None),
            (Err(e), _) => Err(problem(&e)),
        }
    }

    /// Notes that a manifest is in use, which matters where the oldest content goes.
    async fn renew(&self, digest: &Digest) {
        let (storage, digest) = (self.storage.clone(), digest.clone());
        let _ = blocking(move || Ok(storage.renew(&digest)?)).await;
    }

    /// Size of a blob of the registry that is cached.
    pub(super) async fn remote_size(
        &self,
        cache: &Cache,
        name: &str,
        digest: &Digest,
    ) -> Result<Option<u64>, Problem> {
        let reference = cache.reference(name, &Identifier::Digest(digest.clone()))?;
        let digest = digest.clone();
        cache.ask(move |client| client.head_blob(&reference, &digest)).await?.map_err(|e| problem(&e))
    }

    /// Begins to fetch a blob, or joins those who wait for it already; `None` if there is no such blob.
    pub(super) async fn fetch_blob(
        self: &Arc<Handler>,
        name: &str,
        digest: &Digest,
    ) -> Result<Option<Fetch>, Problem> {
        let Some(cache) = &self.cache else { return Ok(None) };
        let key = (name.to_string(), digest.clone());
        let known = cache.fetches().get(&key).cloned();
        if known.is_some() {
            return Ok(known);
        }
        add(&self.metrics.cache_misses, 1);
        let Some(size) = self.remote_size(cache, name, digest).await? else { return Ok(None) };
        let reference = cache.reference(name, &Identifier::Digest(digest.clone()))?;
        let permit = cache.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        // What would fill the cache alone is passed on only.
        let stays = cache.bound().is_none_or(|bound| size <= bound.max);
        let room = if stays { self.make_room(size).await } else { None };
        let (storage, repository) = (self.storage.clone(), name.to_string());
        let (id, file) = blocking(move || {
            if storage.room()? < size {
                return Err(io::Error::from(io::ErrorKind::StorageFull).into());
            }
            let id = storage.create_upload(&repository)?;
            let file = File::options().read(true).append(true).open(storage.upload_path(&repository, &id))?;
            // Tells those who start later that somebody fetches. File systems without locks have one server.
            let _ = file.try_lock();
            Ok((id, file))
        })
        .await?;
        let file = Arc::new(file);
        let (sender, filled) = watch::channel(Filled::default());
        let fetch = Fetch { file: file.clone(), size, filled };
        let other = {
            let mut fetches = cache.fetches();
            let other = fetches.get(&key).cloned();
            if other.is_none() {
                fetches.insert(key.clone(), fetch.clone());
            }
            other
        };
        if let Some(other) = other {
            // Somebody else was faster.
            let path = self.storage.upload_path(name, &id);
            blocking(move || Ok(std::fs::remove_file(path)?)).await?;
            return Ok(Some(other));
        }
        let handler = self.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let Some(cache) = &handler.cache else { return };
            let blob = Descriptor::new("application/octet-stream", key.1.clone(), size);
            let told = |available| sender.send_replace(Filled { available, failed: false });
            let result = fill(&cache.options.client, &reference, &blob, &file, |written| {
                // The last byte is for those only who get the right content.
                told(written.min(size.saturating_sub(1)));
            })
            .and_then(|hasher| match stays {
                true => keep(&handler.storage, &key.0, &id, &key.1, hasher).map(|()| cache.kept(size)),
                false if hasher.finish() != key.1 => Err(io::Error::other("the content has another digest")),
                false => std::fs::remove_file(handler.storage.upload_path(&key.0, &id)),
            });
            // Before anybody has the last byte: he may ask for the next blob, for which this would count
            // twice.
            drop(room);
            match result {
                Ok(()) => {
                    told(size);
                }
                Err(e) => {
                    let _ = std::fs::remove_file(handler.storage.upload_path(&key.0, &id));
                    (handler.options().notice)(&format!(
                        "fetch {}/{}@{}: {e}",
                        cache.options.registry, key.0, key.1
                    ));
                    sender.send_modify(|filled| filled.failed = true);
                }
            }
            cache.fetches().remove(&key);
        });
        Ok(Some(fetch))
    }
}

/// Writes a blob to a file; the hash of what was written.
fn fill(
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    mut file: &File,
    told: impl Fn(u64),
) -> io::Result<Hasher> {
    let mut reader = client.blob(reference, blob, 0).map_err(io::Error::other)?;
    let mut hasher = blob.digest.hasher();
    let mut buffer = vec![0; READ_SIZE];
    let mut written = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher),
            n => {
                hasher.update(&buffer[..n]);
                file.write_all(&buffer[..n])?;
                written += n as u64;
                told(written);
            }
        }
    }
}

/// Makes what was written a blob, if it has the digest.
fn keep(storage: &Storage, name: &str, id: &str, digest: &Digest, hasher: Hasher) -> io::Result<()> {
    let lock = storage.writing_blocking()?;
    storage.commit_upload(&lock, name, id, digest, Some(hasher)).map_err(|p| io::Error::other(p.message))
}

/// Whether the other registry may answer later.
fn is_unreachable(error: &Error) -> bool {
    error.is_retryable() || matches!(error, Error::Transport { .. })
}

/// What the client of this registry is told; the errors hold no secrets.
pub(super) fn problem(error: &Error) -> Problem {
    let message = format!("the registry that is cached: {error}");
    match error {
        Error::NotFound { .. } => Problem::new(404, "NAME_UNKNOWN", message),
        Error::RateLimited(_) => Problem::new(429, "TOOMANYREQUESTS", message),
        Error::Unauthorized(_) | Error::Denied(_) => Problem::new(403, "DENIED", message),
        _ => Problem::new(502, "UNKNOWN", message),
    }
}

impl Handler {
    /// Tags of the registry that is cached; `None` while it cannot be reached.
    pub(super) async fn remote_tags(
        &self,
        cache: &Cache,
        name: &str,
    ) -> Result<Option<Vec<String>>, Problem> {
        let reference = cache.reference(name, &Identifier::Tag("latest".to_string()))?;
        match cache.ask(move |client| client.tags(&reference)).await? {
            Ok(mut tags) => {
                tags.sort();
                Ok(Some(tags))
            }
            Err(e) if is_unreachable(&e) => Ok(None),
            Err(e) => Err(problem(&e)),
        }
    }

    /// Fetches what refers to a manifest, so that it is listed here; a registry that cannot be reached is no
    /// failure.
    pub(super) async fn cache_referrers(
        self: &Arc<Handler>,
        cache: &Cache,
        name: &str,
        subject: &Digest,
    ) -> Result<(), Problem> {
        let reference = cache.reference(name, &Identifier::Digest(subject.clone()))?;
        let wanted = subject.clone();
        match cache.ask(move |client| client.referrers(&reference, &wanted, None)).await? {
            Ok(found) => {
                for descriptor in found {
                    self.cached_manifest(cache, name, Identifier::Digest(descriptor.digest)).await?;
                }
                Ok(())
            }
            Err(e) if is_unreachable(&e) || matches!(e, Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(problem(&e)),
        }
    }
}
