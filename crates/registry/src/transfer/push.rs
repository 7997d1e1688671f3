//! Pushes images from the store to a registry.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crossdock_oci::manifest::{Descriptor, Document};
use crossdock_oci::{Digest, Reference, Store};
use crossdock_platform::Platform;

use super::parallel::for_each;
use super::stream::Streams;
use crate::client::{Client, FileSource};
use crate::error::{Error, Result};
use crate::progress::{Direction, Outcome};

/// Settings of a push.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Names whose repositories may have the same blobs, such as the name of the base image. Names on other
    /// registries are ignored.
    pub mount_from: Vec<Reference>,
    /// Uploads of layers that began during the build.
    pub streams: Option<Streams>,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// Digest of the manifest or index that the reference names now.
    pub digest: Digest,
    /// Blobs that were moved.
    pub moved: u64,
    /// Bytes of the blobs that were moved.
    pub bytes_moved: u64,
    /// Blobs that the registry linked from another repository.
    pub mounted: u64,
    /// Blobs that the registry had already.
    pub existed: u64,
    /// Copied manifests that refer to the copied images.
    pub referrers: u64,
}

/// The content to push.
#[derive(Default)]
struct Content {
    /// Blobs with their labels.
    blobs: Vec<(Descriptor, String)>,
    /// Manifests below the top, children before parents.
    manifests: Vec<Descriptor>,
    seen: HashSet<Digest>,
    missing: Vec<String>,
}

/// Pushes a manifest or index of the store with all its content. Blobs go first, several at once; then
/// manifests; the name comes last, so that it never names incomplete content.
///
/// # Errors
///
/// [`Error::Incomplete`] if the store lacks something that an index lists; errors of the registry and the
/// store.
pub fn push(
    client: &Client,
    store: &Store,
    reference: &Reference,
    source: &Descriptor,
    options: &PushOptions,
) -> Result<Pushed> {
    let mut content = Content::default();
    let (document, bytes) = store.read_document(source)?;
    content.gather(store, &document, source.platform.as_ref())?;
    if !content.missing.is_empty() {
        let missing = content.missing.join(", ");
        return Err(Error::Incomplete { target: reference.to_string(), missing });
    }
    let counts: [AtomicU64; 4] = Default::default();
    for_each(client.options().max_parallel, content.blobs, |(blob, label), stop| {
        stop.check()?;
        let outcome = push_blob(client, store, reference, &blob, &label, options)?;
        let [moved, bytes_moved, mounted, existed] = &counts;
        match outcome {
            Outcome::Mounted => mounted.fetch_add(1, Ordering::Relaxed),
            Outcome::Existed => existed.fetch_add(1, Ordering::Relaxed),
            Outcome::Moved | Outcome::Failed => {
                bytes_moved.fetch_add(blob.size, Ordering::Relaxed);
                moved.fetch_add(1, Ordering::Relaxed)
            }
        };
        Ok(())
    })?;
    for manifest in &content.manifests {
        let bytes = store.read_descriptor(manifest)?;
        client.put_manifest(&reference.with_digest(manifest.digest.clone()), &manifest.media_type, &bytes)?;
    }
    let media_type = if source.media_type.is_empty() { document.media_type() } else { &source.media_type };
    let digest = client.put_manifest(reference, media_type, &bytes)?;
    if digest.algorithm() == source.digest.algorithm() && digest != source.digest {
        return Err(Error::DigestMismatch {
            target: reference.to_string(),
            expected: source.digest.clone(),
            found: digest,
        });
    }
    let [moved, bytes_moved, mounted, existed] = counts.map(AtomicU64::into_inner);
    Ok(Pushed { digest: source.digest.clone(), moved, bytes_moved, mounted, existed, referrers: 0 })
}

/// Pushes one blob of the store, for example a layer that is ready while others are still being built. A
/// later [`push`] by the same client knows the blob without asking. Reports progress.
pub fn push_blob(
    client: &Client,
    store: &Store,
    reference: &Reference,
    blob: &Descriptor,
    label: &str,
    options: &PushOptions,
) -> Result<Outcome> {
    let progress = &client.options().progress;
    let id = blob.digest.as_str();
    progress.start(id, label, blob.size);
    store.hold(&blob.digest)?;
    let same_registry = options.mount_from.iter().filter(|r| r.registry() == reference.registry());
    let mount_from: Vec<String> = same_registry.map(|r| r.repository().to_string()).collect();
    let source = FileSource(store.blob_path(&blob.digest));
    let begun = options.streams.as_ref().and_then(|streams| streams.take(reference, &blob.digest));
    if let Some(begun) = &begun {
        progress.advance(id, begun.offset());
    }
    let result = client.put_begun(reference, blob, &source, &mount_from, begun);
    let result = result.map_err(|e| blame(store, blob, e));
    progress.done(id, result.as_ref().copied().unwrap_or(Outcome::Failed));
    result
}

/// If the registry finds a blob damaged, the store's copy may be damaged: reading all of it finds out, and
/// sets a damaged copy aside.
fn blame(store: &Store, blob: &Descriptor, error: Error) -> Error {
    let refused = error.answer().is_some_and(|answer| answer.code == "DIGEST_INVALID");
    if !refused && !matches!(error, Error::Source { .. }) {
        return error;
    }
    let mut reader = match store.open_blob(&blob.digest) {
        Ok(reader) => reader,
        Err(e) => return e.into(),
    };
    match io::copy(&mut reader, &mut io::sink()) {
        Err(e) => match e.into_inner().and_then(|inner| inner.downcast::<crossdock_oci::StoreError>().ok()) {
            Some(corrupt) => (*corrupt).into(),
            None => error,
        },
        Ok(_) => error,
    }
}

impl Content {
    fn gather(&mut self, store: &Store, document: &Document, platform: Option<&Platform>) -> Result<()> {
        let label = |part: &str| Direction::Push.label(platform, part);
        match document {
            Document::Manifest(manifest) => {
                let count = manifest.layers.len();
                self.blob(store, &manifest.config, label("config"))?;
                for (index, layer) in manifest.layers.iter().enumerate() {
                    self.blob(store, layer, label(&format!("layer {}/{count}", index + 1)))?;
                }
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    if !self.seen.insert(entry.digest.clone()) {
                        continue;
                    }
                    if !store.contains(&entry.digest)? {
                        let platform = entry.platform.as_ref().map(|p| p.to_string());
                        self.missing.push(platform.unwrap_or_else(|| entry.digest.to_string()));
                        continue;
                    }
                    let (document, _) = store.read_document(entry)?;
                    self.gather(store, &document, entry.platform.as_ref())?;
                    let mut manifest = entry.clone();
                    if manifest.media_type.is_empty() {
                        manifest.media_type = document.media_type().to_string();
                    }
                    self.manifests.push(manifest);
                }
            }
        }
        Ok(())
    }

    fn blob(&mut self, store: &Store, blob: &Descriptor, label: String) -> Result<()> {
        if !self.seen.insert(blob.digest.clone()) {
            return Ok(());
        }
        if store.contains(&blob.digest)? {
            self.blobs.push((blob.clone(), label));
        } else if blob.urls.is_empty() {
            self.missing.push(blob.digest.to_string());
        }
        Ok(())
    }
}
