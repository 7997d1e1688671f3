//! The build cache: records under the digests of build steps, and the directories of
//! `RUN --mount=type=cache`.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Context, Result, StoreError};
use crate::store::Store;
use crate::store::files::{file_name, make_dir, read_regular};
use crate::store::lease::Use;
use crate::store::lock::{self, Mode};

/// First line of a record's file; the caller's bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordHead {
    /// Blobs that are kept as long as the record.
    pub refs: Vec<Digest>,
    /// Unpacked layers that are kept as long as the record.
    pub snapshots: Vec<Digest>,
    /// Digest of the caller's bytes: records are not synced, so a power loss may leave half of one.
    pub sum: Digest,
}

/// The outcome of a build step, see [`Store::cache_put`].
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Digest of the step's dependencies.
    pub key: Digest,
    /// The outcome.
    pub bytes: Vec<u8>,
    /// Blobs that are kept as long as the record.
    pub refs: Vec<Digest>,
    /// Unpacked layers that are kept as long as the record.
    pub snapshots: Vec<Digest>,
}

/// A record larger than this, in bytes, is damaged.
const RECORD_SIZE_MAX: u64 = 8 * 1024 * 1024;

impl Store {
    /// The bytes recorded for a build step, if they and all blobs they refer to are here. The blobs and the
    /// unpacked layers are then held, and the record counts as used now.
    ///
    /// Unpacked layers may be missing (after a power loss, or taken by a collection) and have to be unpacked
    /// again.
    pub fn cache_get(&self, key: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.dir("cache").join(file_name(key));
        let mut guard = self.lease.guard()?;
        let Some((head, bytes)) = read_record(&path)? else { return Ok(None) };
        if !head.refs.iter().all(|digest| self.is_here(digest)) {
            return Ok(None);
        }
        let blobs = head.refs.into_iter().map(Use::Blob);
        let uses: Vec<Use> = blobs.chain(head.snapshots.into_iter().map(Use::Snapshot)).collect();
        guard.hold(&uses)?;
        let touched = File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_times(FileTimes::new().set_modified(SystemTime::now())));
        match touched {
            // The record is as good on a full disk or without the right to write.
            Ok(()) | Err(_) => Ok(Some(bytes)),
        }
    }

    /// Whether there is a record for a build step, usable or not.
    pub fn cache_has(&self, key: &Digest) -> bool {
        self.dir("cache").join(file_name(key)).exists()
    }

    /// Records the outcome of a build step. `refs` are blobs and `snapshots` unpacked layers that garbage
    /// collection keeps as long as it keeps the record.
    pub fn cache_put(&self, key: &Digest, bytes: &[u8], refs: &[Digest], snapshots: &[Digest]) -> Result<()> {
        let (refs, snapshots) = (refs.to_vec(), snapshots.to_vec());
        self.cache_put_all(&[NewRecord { key: key.clone(), bytes: bytes.to_vec(), refs, snapshots }])
    }

    /// Records the outcomes of several build steps.
    pub fn cache_put_all(&self, records: &[NewRecord]) -> Result<()> {
        let mut guard = self.lease.guard()?;
        let blobs = records.iter().flat_map(|record| record.refs.iter().cloned().map(Use::Blob));
        let snapshots = records.iter().flat_map(|record| record.snapshots.iter().cloned().map(Use::Snapshot));
        guard.hold(&blobs.chain(snapshots).collect::<Vec<_>>())?;
        for NewRecord { key, bytes, refs, snapshots } in records {
            let head =
                RecordHead { refs: refs.clone(), snapshots: snapshots.clone(), sum: Digest::of(bytes) };
            let mut content = serde_json::to_vec(&head).expect("digests always serialise");
            content.push(b'\n');
            content.extend_from_slice(bytes);
            self.write_record(key, &content, &guard.temporary()?)?;
        }
        Ok(())
    }

    fn write_record(&self, key: &Digest, content: &[u8], temporary: &Path) -> Result<()> {
        let path = self.dir("cache").join(file_name(key));
        let write = || -> Result<()> {
            File::create_new(temporary)
                .and_then(|mut file| file.write_all(content))
                .context("write", &path)?;
            match fs::rename(temporary, &path) {
                // A directory is no record.
                Err(e) if e.kind() == io::ErrorKind::IsADirectory => {
                    self.set_aside(&path)?;
                    fs::rename(temporary, &path).context("write", &path)
                }
                other => other.context("write", &path),
            }
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(temporary);
        })
    }

    /// The directory of a cache mount, locked as `sharing` says until the result is dropped. Waits for
    /// others.
    ///
    /// `fill` gives a new directory its owner, mode and first content. It runs in a directory that no command
    /// has mounted, since a command could put links in its way; the complete directory is then moved to its
    /// place.
    pub fn cache_mount<E: From<StoreError>>(
        &self,
        id: &str,
        sharing: Sharing,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<CacheMount, E> {
        self.lease.require_writable()?;
        let base = self.dir("cachemounts").join(mount_name(id));
        for n in 0u32.. {
            let dir = if n == 0 { base.clone() } else { base.with_added_extension(n.to_string()) };
            let lock_path = dir.join("lock");
            let lock = loop {
                make_dir(&dir)?;
                let locked = match sharing {
                    Sharing::Shared => lock::lock(&lock_path, Mode::Shared).map(Some),
                    Sharing::Locked => lock::lock(&lock_path, Mode::Exclusive).map(Some),
                    Sharing::Private => lock::try_lock(&lock_path, Mode::Exclusive),
                };
                match locked {
                    // A collection removed the directory meanwhile.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    other => break other.context("lock", &lock_path)?,
                }
            };
            let Some(lock) = lock else { continue };
            let path = dir.join("data");
            if !path.exists() {
                self.fill_cache_mount(&dir, &path, fill)?;
            }
            // Records the last use, for collections.
            let _ = lock.set_times(FileTimes::new().set_modified(SystemTime::now()));
            return Ok(CacheMount { path, _lock: lock });
        }
        unreachable!("each number was locked by another process")
    }

    fn fill_cache_mount<E: From<StoreError>>(
        &self,
        dir: &Path,
        path: &Path,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let lock_path = dir.join("fill.lock");
        let _lock = lock::lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)?;
        // Another process may have done it meanwhile.
        if path.exists() {
            return Ok(());
        }
        let new = dir.join("new");
        // Left by a process that was killed.
        match fs::remove_dir_all(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &new, e).into());
            }
            _ => {}
        }
        make_dir(&new)?;
        fill(&new)?;
        Ok(fs::rename(&new, path).context("create", path)?)
    }
}

/// How several users share a cache mount at the same time (Dockerfile reference, `RUN --mount=type=cache`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each gets a directory of its own while another is in use.
    Private,
    /// One after the other.
    Locked,
}

/// A cache mount in use.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    _lock: File,
}

impl CacheMount {
    /// The directory to mount.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A file name for an id: readable where possible, else its digest after a character that the other form
/// lacks.
fn mount_name(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !id.is_empty() && id.len() <= 100 && id.bytes().all(plain) {
        id.to_string()
    } else {
        format!("~{}", Digest::of(id.as_bytes()).hex())
    }
}

/// Reads a record; `None` if there is none or it is damaged.
pub(crate) fn read_record(path: &Path) -> Result<Option<(RecordHead, Vec<u8>)>> {
    let mut content = match read_regular(path, RECORD_SIZE_MAX) {
        Ok(content) => content,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Ok(None);
        }
        // A socket, or a link to itself.
        Err(e) if matches!(e.raw_os_error(), Some(6 | 40)) => return Ok(None),
        Err(e) => return Err(StoreError::io("read", path, e)),
    };
    let Some(end) = content.iter().position(|b| *b == b'\n') else { return Ok(None) };
    let Ok(head) = serde_json::from_slice::<RecordHead>(&content[..end]) else { return Ok(None) };
    content.drain(..=end);
    Ok((Digest::of(&content) == head.sum).then_some((head, content)))
}
