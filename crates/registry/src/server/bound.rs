//! The size limit of a cache: the least recently used files go first, along with the manifests that need
//! them.
//!
//! The modification time of a file says when it was last used, as for garbage collection, so the order
//! survives a restart. A transfer holds its file open and completes even if the file is removed meanwhile.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::SystemTime;
use std::{fs, io};

use crossdock_oci::Digest;
use crossdock_oci::manifest::Document;

use super::route::Identifier;
use super::storage::{Storage, found};

/// A cache that is too large shrinks to this many tenths of its limit, so that not every new blob triggers a
/// scan.
const SHRINKS_TO: u64 = 9;

/// The maximum size of a cache, and its current size.
pub(super) struct Bound {
    /// Bytes.
    pub(super) max: u64,
    pub(super) used: Mutex<Used>,
    /// One eviction at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// Sizes in bytes.
pub(super) struct Used {
    /// Size of the stored files, rather too large than too small. Before the first scan it exceeds every
    /// limit.
    pub(super) kept: u64,
    /// Size of the blobs that are being fetched.
    pub(super) coming: u64,
}

impl Bound {
    pub(super) fn new(max: u64) -> Bound {
        let used = Mutex::new(Used { kept: u64::MAX, coming: 0 });
        Bound { max, used, turn: tokio::sync::Mutex::default() }
    }

    pub(super) fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a stored file to the size.
    pub(super) fn kept(&self, size: u64) {
        let mut used = self.used();
        used.kept = used.kept.saturating_add(size);
    }

    pub(super) fn is_exceeded(&self) -> bool {
        let used = self.used();
        used.kept.saturating_add(used.coming) > self.max
    }

    /// The size to shrink to, in bytes.
    pub(super) fn goal(&self) -> u64 {
        let coming = self.used().coming;
        (self.max / 10 * SHRINKS_TO).saturating_sub(coming)
    }
}

/// A file of a cache.
struct Kept {
    used: SystemTime,
    size: u64,
    digest: Digest,
}

/// Measures the cache and removes the oldest files if it exceeds its limit; returns how many files went.
pub(super) fn evict(storage: &Storage, bound: &Bound) -> io::Result<u64> {
    let lock = storage.lock_alone()?;
    let mut all = kept(storage)?;
    let mut size: u64 = all.iter().map(|kept| kept.size).sum();
    let mut doomed: HashSet<Digest> = HashSet::new();
    if size.saturating_add(bound.used().coming) > bound.max {
        let goal = bound.goal();
        all.sort_by_key(|kept| kept.used);
        for kept in &all {
            if size <= goal {
                break;
            }
            size -= kept.size;
            doomed.insert(kept.digest.clone());
        }
    }
    // Links go first: if this process is killed before it removes a blob, the blob without a link is evicted
    // later.
    let repositories = if doomed.is_empty() { Vec::new() } else { storage.all_directories()? };
    let mut manifests = HashSet::new();
    for name in &repositories {
        for digest in storage.digests(name, "_manifests")? {
            let identifier = Identifier::Digest(digest.clone());
            let needs = doomed.contains(&digest)
                || storage.manifest(name, &identifier)?.is_some_and(|m| needs_one_of(&m.bytes, &doomed));
            if needs {
                storage.delete_manifest(&lock, name, &identifier).map_err(|p| io::Error::other(p.message))?;
                manifests.insert(digest);
            }
        }
        for digest in storage.digests(name, "_blobs")? {
            if doomed.contains(&digest) {
                storage.unlink_blob(name, &digest)?;
            }
        }
    }
    doomed.extend(manifests);
    for digest in &doomed {
        found(fs::remove_file(storage.blob_path(digest)))?;
    }
    bound.used().kept = size;
    drop(lock);
    Ok(doomed.len() as u64)
}

/// Whether an image is unusable without a removed blob. An index stays usable: its images are fetched on
/// request.
fn needs_one_of(bytes: &[u8], doomed: &HashSet<Digest>) -> bool {
    match Document::parse(bytes, None) {
        Ok(Document::Manifest(manifest)) => {
            let mut parts = std::iter::once(&manifest.config).chain(&manifest.layers);
            parts.any(|part| doomed.contains(&part.digest))
        }
        _ => false,
    }
}

fn kept(storage: &Storage) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        for entry in found(fs::read_dir(storage.blobs().join(algorithm)))?.into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Temporary files are no content.
            let Ok(digest) = format!("{algorithm}:{name}").parse() else { continue };
            let Some(metadata) = found(entry.metadata())? else { continue };
            all.push(Kept { used: metadata.modified()?, size: metadata.len(), digest });
        }
    }
    Ok(all)
}
