//! A pull-through cache: missing content is fetched from another registry, stored, and passed on while it
//! arrives.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crossdock_oci::digest::Hasher;
use crossdock_oci::manifest::Descriptor;
use crossdock_oci::{Digest, Reference};
use tokio::sync::watch;

use super::bound::{Bound, evict};
use super::handler::Handler;
use super::metrics::add;
use super::proxy::{Cache, Fetch};
use super::reply::Problem;
use super::reply_body::Filled;
use super::request::blocking;
use super::route::Identifier;
use super::storage::{Storage, StoredManifest};
use crate::client::Client;
use crate::error::Error;

/// Bytes read at once.
const READ_SIZE: usize = 256 * 1024;

impl Handler {
    /// A manifest from here, or from the cached registry. That registry is asked for a tag each time; the
    /// tag's previous manifest is served only while the registry cannot be reached.
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
            // Asking what a tag names costs less than fetching the manifest.
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

    /// Notes that a manifest is in use, so that it is not evicted as the oldest.
    async fn renew(&self, digest: &Digest) {
        let (storage, digest) = (self.storage.clone(), digest.clone());
        let _ = blocking(move || Ok(storage.renew(&digest)?)).await;
    }

    /// Size of a blob in the cached registry.
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

    /// Begins to fetch a blob, or joins a fetch under way; `None` if there is no such blob.
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
        // A blob larger than the whole cache is passed on but not stored.
        let stays = cache.bound().is_none_or(|bound| size <= bound.max);
        let room = if stays { self.make_room(size).await } else { None };
        let (storage, repository) = (self.storage.clone(), name.to_string());
        let (id, file) = blocking(move || {
            if storage.room()? < size {
                return Err(io::Error::from(io::ErrorKind::StorageFull).into());
            }
            let id = storage.create_upload(&repository)?;
            let file = File::options().read(true).append(true).open(storage.upload_path(&repository, &id))?;
            // The lock tells servers started later that a fetch is under way. File systems without locks have
            // one server.
            let _ = file.try_lock();
            Ok((id, file))
        })
        .await?;
        let file = Arc::new(file);
        let (sender, filled) = watch::channel(Filled::default());
        let fetch = Fetch { file: file.clone(), size, filled };
        let (handler, mine) = (self.clone(), (key.clone(), fetch.clone()));
        let other = blocking(move || {
            let Some(cache) = &handler.cache else { return Ok(None) };
            let (key, fetch) = mine;
            let mut fetches = cache.fetches();
            if let Some(other) = fetches.get(&key) {
                return Ok(Some(other.clone()));
            }
            // A fetch stores the blob before it leaves the list.
            if let Some((file, size)) = handler.storage.open_blob(&key.0, &key.1)? {
                let (_, filled) = watch::channel(Filled { available: size, failed: false });
                return Ok(Some(Fetch { file: Arc::new(file), size, filled }));
            }
            fetches.insert(key, fetch);
            Ok(None)
        })
        .await?;
        if let Some(other) = other {
            // Another request was faster.
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
                // The last byte is sent only after the content proved right.
                told(written.min(size.saturating_sub(1)));
            })
            .and_then(|hasher| match stays {
                true => keep(&handler.storage, &key.0, &id, &key.1, hasher).map(|()| cache.kept(size)),
                false if hasher.finish() != key.1 => Err(io::Error::other("the content has another digest")),
                false => std::fs::remove_file(handler.storage.upload_path(&key.0, &id)),
            });
            // Before any client has the last byte: a client may then ask for its next blob, and this room
            // would count twice.
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

/// Writes a blob to a file; returns the hash of the content written.
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

/// Makes the written content a blob, if it has the digest.
fn keep(storage: &Storage, name: &str, id: &str, digest: &Digest, hasher: Hasher) -> io::Result<()> {
    let lock = storage.writing_blocking()?;
    storage.commit_upload(&lock, name, id, digest, Some(hasher)).map_err(|p| io::Error::other(p.message))
}

/// Whether the cached registry may answer later.
fn is_unreachable(error: &Error) -> bool {
    error.is_retryable() || matches!(error, Error::Transport { .. })
}

/// The answer to the client of this registry; the errors hold no secrets.
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
    /// Tags of the cached registry; `None` while it cannot be reached.
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

    /// Fetches the manifests that refer to a manifest, so that they are listed here. An unreachable registry
    /// is not an error.
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

/// Room reserved for a blob that is being fetched, until dropped.
pub(super) struct Coming {
    handler: Arc<Handler>,
    size: u64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        let Some(bound) = self.handler.bound() else { return };
        bound.used().coming -= self.size;
        // Several fetches together needed more room than there was.
        if bound.used().kept > bound.max
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(self.handler.clone().bound_cache());
        }
    }
}

impl Handler {
    fn bound(&self) -> Option<&Bound> {
        self.cache.as_ref()?.bound()
    }

    /// Makes room for a blob to fetch; `None` if the cache has no limit.
    pub(super) async fn make_room(self: &Arc<Handler>, size: u64) -> Option<Coming> {
        let bound = self.bound()?;
        bound.used().coming += size;
        let coming = Coming { handler: self.clone(), size };
        self.shrink(bound).await;
        Some(coming)
    }

    /// Removes the least recently used content if there is too much.
    async fn shrink(self: &Arc<Handler>, bound: &Bound) {
        if !bound.is_exceeded() {
            return;
        }
        let _turn = bound.turn.lock().await;
        if bound.is_exceeded() {
            self.evict().await;
        }
    }

    async fn evict(self: &Arc<Handler>) {
        let handler = self.clone();
        let evicted = tokio::task::spawn_blocking(move || {
            let bound = handler.bound()?;
            Some(evict(&handler.storage, bound))
        });
        match evicted.await {
            Ok(Some(Ok(count))) => add(&self.metrics.cache_evictions, count),
            Ok(Some(Err(e))) => (self.options().notice)(&format!("the cache could not be made smaller: {e}")),
            _ => {}
        }
    }

    /// Shrinks the cache if it exceeds its limit; the first call measures the cache.
    pub(super) async fn bound_cache(self: Arc<Handler>) {
        if let Some(bound) = self.bound() {
            self.shrink(bound).await;
        }
    }
}
