//! Garbage collection of a registry's directory; may run while servers do.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crossdock_oci::Digest;
use crossdock_oci::manifest::Document;

use super::route::Identifier;
use super::storage::Storage;
use crate::error::{Error, Result};

/// What is spared.
#[derive(Clone, Debug)]
pub struct GarbageOptions {
    /// Blobs and uploads that were touched within this time are kept: a push may be under way.
    pub grace: Duration,
}

impl Default for GarbageOptions {
    fn default() -> GarbageOptions {
        GarbageOptions { grace: Duration::from_secs(24 * 3600) }
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Abandoned uploads.
    pub uploads: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Removes blobs that no manifest of any repository reaches, and abandoned uploads. Untagged manifests stay, since they can be
/// pulled by digest; delete them first.
pub fn collect_garbage(directory: &Path, options: &GarbageOptions) -> Result<Collected> {
    let storage = Storage::open(directory, true)?;
    collect(&storage, options).map_err(Error::io(directory))
}

fn collect(storage: &Storage, options: &GarbageOptions) -> io::Result<Collected> {
    let _lock = storage.lock_alone()?;
    let mut collected = Collected::default();
    let repositories = storage.all_directories()?;
    let mut live = HashSet::new();
    for name in &repositories {
        for digest in storage.digests(name, "_manifests")? {
            if let Some(stored) = storage.manifest(name, &Identifier::Digest(digest.clone()))?
                && let Ok(document) = Document::parse(&stored.bytes, None)
            {
                live.extend(document.children().into_iter().map(|child| child.digest.clone()));
            }
            live.insert(digest);
        }
        for path in storage.uploads(name)? {
            if let Some(bytes) = remove_if_old(&path, options.grace)? {
                collected.uploads += 1;
                collected.bytes += bytes;
            }
        }
    }
    let mut gone: HashSet<Digest> = HashSet::new();
    for algorithm in ["sha256", "sha512"] {
        let entries = match fs::read_dir(storage.blobs().join(algorithm)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = format!("{algorithm}:{name}").parse::<Digest>().ok();
            if digest.as_ref().is_some_and(|digest| live.contains(digest)) {
                continue;
            }
            if let Some(bytes) = remove_if_old(&entry.path(), options.grace)? {
                collected.blobs += 1;
                collected.bytes += bytes;
                gone.extend(digest);
            }
        }
    }
    for name in &repositories {
        for digest in storage.digests(name, "_blobs")? {
            if gone.contains(&digest) {
                storage.unlink_blob(name, &digest)?;
            }
        }
    }
    Ok(collected)
}

/// Removes a file that was not touched for some time; its size in bytes if so.
fn remove_if_old(path: &Path, grace: Duration) -> io::Result<Option<u64>> {
    let metadata = fs::metadata(path)?;
    let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
    if age < grace {
        return Ok(None);
    }
    fs::remove_file(path)?;
    Ok(Some(metadata.len()))
}
