//! The content store: blobs, images, unpacked layers and the build cache in a directory of plain files.
//!
//! Layout, invariants, locking, leases, garbage collection and crash safety are explained in
//! `docs/dev/store.md`.

pub(crate) mod blob;
pub(crate) mod cache;
pub(crate) mod files;
pub(crate) mod gc;
pub(crate) mod growing;
pub(crate) mod image;
mod keep;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod snapshot;
pub(crate) mod tree_id;
pub(crate) mod unsynced;
mod untagged;
pub(crate) mod volume;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use blob::{BlobReader, BlobWriter, DOCUMENT_SIZE_MAX, Ingest, Partial, WriteBehind};
pub use cache::{CacheMount, NewRecord, Sharing};
pub use gc::{CacheUsage, DiskUsage, GcOptions, GcReport, Usage};
pub use growing::{FOLLOWED_FROM, Follow, Growing, Growth};
pub use image::{IdMatch, ImageEntry, ImageRecord, LoadedImage};
pub use keep::Keep;
pub use snapshot::{CommittedLayer, Frozen, LayerOptions, LayerWriter, Scratch, Unpacked};
pub use untagged::UntaggedRecord;
pub use volume::{Volume, VolumeRemoval, VolumeUse, is_volume_name};

pub use crate::layer::Owners;

use crate::digest::Digest;
use crate::error::{Context, Result, StoreError};
use crate::layer::limit::UnpackLimit;
use crate::name::random_name;
use files::{make_dir, read_regular, replace_file};
use lease::{Lease, Use};

/// A store on disk, and a lease on all that was touched through it.
///
/// Cheap to clone; clones share the lease. Everything that is read, written or looked up through a handle is
/// safe from garbage collection, in every process, until the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    root: Arc<Path>,
    owners: Owners,
    lease: Arc<Lease>,
    /// What was repaired and should be reported.
    warnings: Warnings,
    pub(crate) unpack_limit: UnpackLimit,
}

/// Sentences for the user, collected by all clones of a [`Store`].
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Takes the sentences out.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

/// See [`Store::temporary_directory`].
#[derive(Debug)]
pub struct TemporaryDirectory {
    path: PathBuf,
    /// The store whose lease keeps the directory.
    store: Store,
}

impl TemporaryDirectory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // If this fails, a later collection tries again.
        let _ = crate::layer::tree::remove(&self.path, &self.store.dir("tmp"));
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.root)
            .field("owners", &self.owners)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store at `root`, creating it if missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Version`] for a store of another version, [`StoreError::NotAStore`] for a directory with
    /// something else in it, or the system's reason.
    pub fn open(root: &Path) -> Result<Store> {
        let version = root.join("version");
        match read_regular(&version, 1024) {
            Ok(text) if text == VERSION.as_bytes() => {}
            // Empty: another process is creating the store, or died doing so.
            Ok(text) if text.is_empty() => create(root)?,
            Ok(text) => {
                let found = String::from_utf8_lossy(&text).trim_end().to_string();
                return Err(StoreError::Version { path: version, found });
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(StoreError::Version { path: version, found: e.to_string() });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(root)?,
            Err(e) => return Err(StoreError::io("read", &version, e)),
        }
        // Overlay and children in other directories need absolute paths.
        let root = std::path::absolute(root).context("resolve", root)?;
        Ok(Store {
            lease: Arc::new(Lease::new(&root)),
            root: root.into(),
            owners: Owners::Keep,
            warnings: Warnings::default(),
            unpack_limit: UnpackLimit::default(),
        })
    }

    /// The same store with a lease of its own, for one piece of work of a long-lived process.
    pub fn session(&self) -> Store {
        Store { lease: Arc::new(Lease::new(&self.root)), ..self.clone() }
    }

    /// Whether files get the owners that their archive names.
    pub fn owners(&self) -> Owners {
        self.owners
    }

    /// The same handle, unpacking files with or without their owners.
    pub fn with_owners(&self, owners: Owners) -> Store {
        Store { owners, ..self.clone() }
    }

    /// What streams may unpack to through this handle and its clones, and in calls of `extract_tar` that are
    /// given this limit.
    pub fn unpack_limit(&self) -> &UnpackLimit {
        &self.unpack_limit
    }

    /// The same handle with another limit.
    pub fn with_unpack_limit(&self, unpack_limit: UnpackLimit) -> Store {
        Store { unpack_limit, ..self.clone() }
    }

    /// The directory of the store, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps a blob, and what it points to if it is a manifest, index or config, from garbage collection as
    /// long as this handle lives.
    pub fn hold(&self, digest: &Digest) -> Result<()> {
        self.lease.hold(&[Use::Blob(digest.clone())])
    }

    /// An empty directory that no collection removes; it is removed with its content when dropped.
    pub fn temporary_directory(&self) -> Result<TemporaryDirectory> {
        let path = self.lease.temporary()?;
        fs::create_dir(&path).context("create", &path)?;
        Ok(TemporaryDirectory { path, store: self.clone() })
    }

    /// What was repaired in the store through this handle and its clones, for the user.
    pub fn warnings(&self) -> Warnings {
        self.warnings.clone()
    }

    /// Moves damaged files out of the way, to `corrupt/`, where the next collection removes them.
    pub(crate) fn set_aside(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name: String = name.chars().rev().take(80).collect::<Vec<_>>().into_iter().rev().collect();
        let target = self.dir("corrupt").join(format!("{name}.{}", random_name()));
        match fs::rename(path, &target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("set aside", path, e)),
            _ => Ok(()),
        }
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

const VERSION: &str = "1\n";

/// All directories of a store.
const DIRECTORIES: [&str; 12] = [
    "blobs",
    "blobs/sha256",
    "blobs/sha512",
    "ingest",
    "images",
    "snapshots",
    "trees",
    "cache",
    "cachemounts",
    "leases",
    "corrupt",
    "tmp",
];

fn create(root: &Path) -> Result<()> {
    if !root.exists() {
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent).context("create", parent)?;
        }
    } else if !root.join("version").exists() && !root.join("blobs").exists() {
        let mut entries = fs::read_dir(root).context("read", root)?;
        if entries.next().is_some() {
            return Err(StoreError::NotAStore(root.to_path_buf()));
        }
    }
    make_dir(root)?;
    for name in DIRECTORIES {
        make_dir(&root.join(name))?;
    }
    // Last, so that a store with a version is complete.
    let temporary = root.join(format!("version.{}", random_name()));
    replace_file(&root.join("version"), &temporary, VERSION.as_bytes())
}
