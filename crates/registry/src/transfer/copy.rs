//! From one registry to another, or from name to name, without a store in between.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Mutex;

use crossdock_oci::manifest::{Descriptor, Document, Index, ParseDocumentError};
use crossdock_oci::{Reference, media_type};

use super::parallel::for_each;
use super::pull::{DEPTH_MAX, Platforms, offered};
use super::push::Pushed;
use crate::client::{BlobSource, Client, FetchedManifest};
use crate::error::{Error, Result};
use crate::progress::Outcome;

/// What is copied: manifests and indexes below the top, children before parents, and their blobs.
#[derive(Default)]
struct Content {
    manifests: Vec<FetchedManifest>,
    blobs: Vec<(Descriptor, String)>,
    seen: HashSet<String>,
}

/// Copies what `from` names to `to`: an index with all that it lists, attestations too, or the images of some platforms.
/// Several of them get an index of their own. Blobs go first, the name comes last. What the target has is not moved, and on
/// one registry blobs are mounted.
///
/// # Errors
///
/// [`Error::NoPlatform`]; those of both registries.
pub fn copy(client: &Client, from: &Reference, to: &Reference, platforms: &Platforms) -> Result<Pushed> {
    let top = client.manifest(from)?;
    let mut content = Content::default();
    let top = match (top.document(from)?, platforms) {
        (Document::Index(index), Platforms::Only(wanted)) => {
            let select = |platform| {
                index.select(platform).ok_or_else(|| Error::NoPlatform {
                    target: from.to_string(),
                    wanted: format!("{platform}"),
                    offered: offered(index.images()),
                })
            };
            let entries: Vec<Descriptor> =
                wanted.iter().map(|p| select(p).cloned()).collect::<Result<_>>()?;
            match &entries[..] {
                [one] => client.manifest(&from.with_digest(one.digest.clone()))?,
                _ => new_index(Index { manifests: entries, ..index }),
            }
        }
        _ => top,
    };
    content.gather(client, from, &top, 0)?;
    let pushed =
        Mutex::new(Pushed { digest: top.digest.clone(), moved: 0, bytes_moved: 0, mounted: 0, existed: 0 });
    let blobs = std::mem::take(&mut content.blobs);
    for_each(client.options().max_parallel, blobs, |(blob, label), stop| {
        stop.check()?;
        let outcome = copy_blob(client, from, to, &blob, &label)?;
        let mut pushed = pushed.lock().unwrap_or_else(|e| e.into_inner());
        match outcome {
            Outcome::Mounted => pushed.mounted += 1,
            Outcome::Existed => pushed.existed += 1,
            Outcome::Moved | Outcome::Failed => {
                pushed.moved += 1;
                pushed.bytes_moved += blob.size;
            }
        }
        Ok(())
    })?;
    for manifest in &content.manifests {
        let name = to.with_digest(manifest.digest.clone());
        client.put_manifest(&name, &manifest.media_type, &manifest.bytes)?;
    }
    let found = client.put_manifest(to, &top.media_type, &top.bytes)?;
    if found.algorithm() == top.digest.algorithm() && found != top.digest {
        return Err(Error::DigestMismatch { target: to.to_string(), expected: top.digest, found });
    }
    Ok(pushed.into_inner().unwrap_or_else(|e| e.into_inner()))
}

/// An index that was not there before, of the type that it was taken from.
fn new_index(index: Index) -> FetchedManifest {
    let media_type = index.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_string());
    let bytes = index.to_bytes();
    let digest = crossdock_oci::Digest::of(&bytes);
    FetchedManifest { bytes, media_type, digest }
}

impl Content {
    fn gather(&mut self, client: &Client, from: &Reference, top: &FetchedManifest, depth: u32) -> Result<()> {
        match top.document(from)? {
            Document::Manifest(manifest) => {
                let count = manifest.layers.len();
                self.blob(&manifest.config, "config".to_string());
                for (index, layer) in manifest.layers.iter().enumerate() {
                    self.blob(layer, format!("layer {}/{count}", index + 1));
                }
            }
            Document::Index(_) if depth == DEPTH_MAX => {
                return Err(Error::Manifest {
                    target: from.to_string(),
                    source: ParseDocumentError::Neither(Some(
                        "indexes within indexes without end".to_string(),
                    )),
                });
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    if self.seen.insert(entry.digest.to_string()) {
                        let child = client.manifest(&from.with_digest(entry.digest.clone()))?;
                        self.gather(client, from, &child, depth + 1)?;
                        self.manifests.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    fn blob(&mut self, blob: &Descriptor, label: String) {
        if self.seen.insert(blob.digest.to_string()) {
            self.blobs.push((blob.clone(), label));
        }
    }
}

/// A blob of a registry, read as it is uploaded.
struct RemoteSource<'a> {
    client: &'a Client,
    reference: &'a Reference,
    blob: &'a Descriptor,
}

impl BlobSource for RemoteSource<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let reader = self.client.blob(self.reference, self.blob, offset).map_err(io::Error::other)?;
        Ok(Box::new(reader))
    }
}

fn copy_blob(
    client: &Client,
    from: &Reference,
    to: &Reference,
    blob: &Descriptor,
    label: &str,
) -> Result<Outcome> {
    let progress = &client.options().progress;
    let id = blob.digest.as_str();
    progress.start(id, label, blob.size);
    let source = RemoteSource { client, reference: from, blob };
    let same = from.registry() == to.registry();
    let mount_from: Vec<String> = same.then(|| from.repository().to_string()).into_iter().collect();
    let mut result = client.put_blob(to, blob, &source, &mount_from);
    // Layers that lie elsewhere on purpose need not be there.
    if !blob.urls.is_empty() && result.is_err() && client.head_blob(from, &blob.digest)?.is_none() {
        result = Ok(Outcome::Existed);
    }
    progress.done(id, result.as_ref().copied().unwrap_or(Outcome::Failed));
    result
}
