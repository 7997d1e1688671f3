//! The registry's directory; `docs/dev/registry.md` explains its layout. All calls block except
//! [`Storage::writing`].

mod manifests;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crossdock_oci::Digest;
use crossdock_oci::digest::Hasher;
use tempfile::NamedTempFile;

pub(super) use self::manifests::{StoredManifest, subject_of};
use super::reply::Problem;
use crate::error::{Error, Result};

const VERSION: &str = "crossdock-registry 1\n";

/// A requested blob counts as new again, unless its age was renewed within this time.
const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// How often a task that waits for a garbage collection checks the lock.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// Prefix of the names of files that are being written.
pub(super) const TEMPORARY: &str = ".tmp-";

/// Proof that nobody else collects garbage.
pub(super) struct Writing {
    _file: File,
}

/// The directory.
#[derive(Clone)]
pub(super) struct Storage {
    root: PathBuf,
    sync: bool,
    /// An existing tag is neither moved nor removed.
    immutable_tags: bool,
    /// Manifests may name what is not in their repository.
    sparse: bool,
}

impl Storage {
    /// Opens a directory; sets it up if it is missing or empty.
    pub(super) fn open(root: &Path, sync: bool) -> Result<Storage> {
        let version = root.join("version");
        let storage = Storage { root: root.to_path_buf(), sync, immutable_tags: false, sparse: false };
        match fs::read_to_string(&version) {
            Ok(text) if text == VERSION => Ok(storage),
            Ok(_) => {
                Err(Error::File { path: version, reason: "another program's, or of another version".into() })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let create = || -> io::Result<bool> {
                    fs::create_dir_all(root)?;
                    // Files of an interrupted first start do not count.
                    let foreign = fs::read_dir(root)?.flatten().any(|entry| {
                        let name = entry.file_name();
                        name != "lock" && !name.to_string_lossy().starts_with(TEMPORARY)
                    });
                    if !foreign {
                        storage.write_file(&version, VERSION.as_bytes())?;
                    }
                    Ok(foreign)
                };
                match create().map_err(Error::io(root))? {
                    false => Ok(storage),
                    true => Err(Error::File {
                        path: root.to_path_buf(),
                        reason: "not empty, and not the directory of a registry".to_string(),
                    }),
                }
            }
            Err(e) => Err(Error::io(version)(e)),
        }
    }

    /// The same directory, with other rules for what is written.
    pub(super) fn with_rules(self, immutable_tags: bool, sparse: bool) -> Storage {
        Storage { immutable_tags, sparse, ..self }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn repositories_directory(&self) -> PathBuf {
        self.root.join("repositories")
    }

    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).write(true).open(self.root.join("lock"))
    }

    /// Keeps all writers out, for garbage collection and eviction, until the value is dropped.
    pub(super) fn lock_alone(&self) -> io::Result<Writing> {
        let file = self.lock_file()?;
        file.lock()?;
        Ok(Writing { _file: file })
    }

    /// Keeps garbage collection out until the value is dropped. Waiting for a collection holds no thread.
    pub(super) async fn writing(&self) -> io::Result<Writing> {
        let file = self.lock_file()?;
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Writing { _file: file }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_EVERY).await,
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }

    /// Like [`Storage::writing`], for a thread that may wait.
    pub(super) fn writing_blocking(&self) -> io::Result<Writing> {
        let file = self.lock_file()?;
        file.lock_shared()?;
        Ok(Writing { _file: file })
    }

    /// Fails unless the directory exists and, without `read_only`, a file can be created in it.
    pub(super) fn check(&self, read_only: bool) -> io::Result<()> {
        let version = fs::read_to_string(self.root.join("version"))?;
        if version != VERSION {
            return Err(io::Error::other("the directory is not that of this registry any more"));
        }
        if !read_only {
            tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.root)?.write_all(b"x")?;
        }
        Ok(())
    }

    /// Bytes that can still be written.
    pub(super) fn room(&self) -> io::Result<u64> {
        let room = rustix::fs::statvfs(&self.root)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.algorithm()).join(digest.hex())
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.repositories_directory().join(name)
    }

    pub(super) fn in_repository(&self, name: &str, kind: &str, digest: &Digest) -> PathBuf {
        self.repository(name).join(kind).join(digest.algorithm()).join(digest.hex())
    }

    // Blobs.

    /// Size in bytes of a blob that the repository has. Renews the blob's age.
    pub(super) fn blob_size(&self, name: &str, digest: &Digest) -> io::Result<Option<u64>> {
        Ok(self.open_blob(name, digest)?.map(|(_, size)| size))
    }

    /// A blob that the repository has, and its size in bytes. Renews the blob's age.
    pub(super) fn open_blob(&self, name: &str, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        if !self.in_repository(name, "_blobs", digest).exists() {
            return Ok(None);
        }
        let Some(file) = found(File::open(self.blob_path(digest)))? else { return Ok(None) };
        let size = renew(&file)?;
        Ok(Some((file, size)))
    }

    /// Renews the age of content.
    pub(super) fn renew(&self, digest: &Digest) -> io::Result<()> {
        if let Some(file) = found(File::open(self.blob_path(digest)))? {
            renew(&file)?;
        }
        Ok(())
    }

    /// Adds a blob of the repository `from` to the repository `to`; false if `from` does not have it.
    pub(super) fn mount(&self, _: &Writing, from: &str, to: &str, digest: &Digest) -> io::Result<bool> {
        let known = self.blob_size(from, digest)?.is_some();
        if known {
            let link = self.link(to, digest)?;
            self.sync_directory(&link)?;
        }
        Ok(known)
    }

    /// Names of the repositories that have a blob.
    pub(super) fn repositories_with(&self, digest: &Digest) -> io::Result<Vec<String>> {
        if !self.blob_path(digest).try_exists()? {
            return Ok(Vec::new());
        }
        let mut all = self.all_directories()?;
        all.retain(|name| self.in_repository(name, "_blobs", digest).exists());
        Ok(all)
    }

    /// Removes a blob from a repository; false if the repository did not have it.
    pub(super) fn unlink_blob(&self, name: &str, digest: &Digest) -> io::Result<bool> {
        Ok(found(fs::remove_file(self.in_repository(name, "_blobs", digest)))?.is_some())
    }

    // Uploads.

    pub(super) fn upload_path(&self, name: &str, id: &str) -> PathBuf {
        self.repository(name).join("_uploads").join(id)
    }

    pub(super) fn create_upload(&self, name: &str) -> io::Result<String> {
        let id = random_hex()?;
        let path = self.upload_path(name, &id);
        fs::create_dir_all(path.parent().expect("an upload lies in a directory"))?;
        File::create_new(path)?;
        Ok(id)
    }

    /// Turns an upload into a blob of the repository. `hasher` has seen all bytes of the upload, or is
    /// `None`.
    pub(super) fn commit_upload(
        &self,
        _: &Writing,
        name: &str,
        id: &str,
        digest: &Digest,
        hasher: Option<Hasher>,
    ) -> Result<(), Problem> {
        let path = self.upload_path(name, id);
        let file = File::open(&path)?;
        let found = match hasher {
            Some(hasher) if digest.algorithm() == "sha256" => hasher.finish(),
            _ => hash_file(&file, digest.hasher())?,
        };
        if found != *digest {
            fs::remove_file(&path)?;
            let message = format!("the content has digest {found}");
            return Err(Problem::new(400, "DIGEST_INVALID", message));
        }
        if self.sync {
            file.sync_data()?;
        }
        // Both names reach the file system's journal together. A link without its blob does not count.
        let blob = self.blob_path(digest);
        let directory = blob.parent().expect("blobs lie in a directory");
        self.make_directory(directory)?;
        fs::rename(&path, &blob)?;
        let link = self.link(name, digest)?;
        self.sync_directory(directory)?;
        self.sync_directory(&link)?;
        Ok(())
    }

    // Lists.

    /// Tags, sorted; `None` if there is no such repository.
    pub(super) fn tags(&self, name: &str) -> io::Result<Option<Vec<String>>> {
        let repository = self.repository(name);
        if !repository.join("_manifests").exists() {
            return Ok(None);
        }
        names_in(&repository.join("_tags")).map(Some)
    }

    /// Repositories that ever had a manifest, sorted.
    pub(super) fn repositories(&self) -> io::Result<Vec<String>> {
        let mut all = Vec::new();
        let mut pending = vec![String::new()];
        while let Some(name) = pending.pop() {
            for child in names_in(&self.repository(&name))? {
                if child == "_manifests" {
                    all.push(name.clone());
                } else if !child.starts_with('_') {
                    let separator = if name.is_empty() { "" } else { "/" };
                    pending.push(format!("{name}{separator}{child}"));
                }
            }
        }
        all.sort();
        Ok(all)
    }

    /// Digests of one kind (`_blobs`, `_manifests`) that a repository has.
    pub(super) fn digests(&self, name: &str, kind: &str) -> io::Result<Vec<Digest>> {
        let mut all = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let names = names_in(&self.repository(name).join(kind).join(algorithm))?;
            all.extend(names.iter().filter_map(|hex| format!("{algorithm}:{hex}").parse().ok()));
        }
        Ok(all)
    }

    /// Names of all repositories, including those with only uploads or blobs.
    pub(super) fn all_directories(&self) -> io::Result<Vec<String>> {
        let mut all = vec![];
        let mut pending = vec![String::new()];
        while let Some(name) = pending.pop() {
            let children = names_in(&self.repository(&name))?;
            if children.iter().any(|child| child.starts_with('_')) {
                all.push(name.clone());
            }
            let separator = if name.is_empty() { "" } else { "/" };
            pending.extend(
                children
                    .iter()
                    .filter(|c| !c.starts_with('_'))
                    .map(|child| format!("{name}{separator}{child}")),
            );
        }
        Ok(all)
    }

    pub(super) fn uploads(&self, name: &str) -> io::Result<Vec<PathBuf>> {
        let directory = self.repository(name).join("_uploads");
        Ok(names_in(&directory)?.into_iter().map(|id| directory.join(id)).collect())
    }

    /// Removes uploads that were not touched for `age` and are not `busy`; returns their identifiers.
    pub(super) fn remove_old_uploads(
        &self,
        age: Duration,
        busy: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let mut gone = Vec::new();
        for name in self.all_directories()? {
            for path in self.uploads(&name)? {
                let id = path.file_name().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
                let Some(metadata) = found(fs::metadata(&path))? else { continue };
                let old = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
                if old >= age && !busy(&id) {
                    found(fs::remove_file(&path))?;
                    gone.push(id);
                }
            }
        }
        Ok(gone)
    }

    /// Removes unfinished fetches of killed servers: a running fetch has its file locked.
    pub(super) fn remove_abandoned_fetches(&self) -> io::Result<()> {
        for name in self.all_directories()? {
            for path in self.uploads(&name)? {
                let Some(file) = found(File::open(&path))? else { continue };
                if file.try_lock().is_ok() {
                    found(fs::remove_file(&path))?;
                }
            }
        }
        Ok(())
    }

    // Writing.

    /// Writes a file atomically.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_temporary(path, bytes)?.persist(path)?;
        self.sync_directory(path.parent().expect("files lie in a directory"))
    }

    /// Like [`Storage::write_file`], but fails if the file exists.
    fn write_new_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_temporary(path, bytes)?.persist_noclobber(path)?;
        self.sync_directory(path.parent().expect("files lie in a directory"))
    }

    fn write_temporary(&self, path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
        let directory = path.parent().expect("files lie in a directory");
        self.make_directory(directory)?;
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
        file.write_all(bytes)?;
        if self.sync {
            file.as_file().sync_data()?;
        }
        Ok(file)
    }

    /// Adds a blob that is stored already to a repository.
    pub(super) fn offer_blob(&self, name: &str, digest: &Digest) -> io::Result<()> {
        self.link(name, digest).map(drop)
    }

    /// Adds a blob to a repository by an empty file; returns the directory to sync.
    fn link(&self, name: &str, digest: &Digest) -> io::Result<PathBuf> {
        let mut path = self.in_repository(name, "_blobs", digest);
        self.make_directory(path.parent().expect("links lie in a directory"))?;
        File::create(&path)?;
        path.pop();
        Ok(path)
    }

    /// Creates a directory and its parents, and syncs their names.
    fn make_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.make_directory(parent)?;
            match fs::create_dir(directory) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => self.sync_directory(parent)?,
            }
        }
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        if self.sync { File::open(directory)?.sync_all() } else { Ok(()) }
    }
}

/// Renews a file's age; returns its size in bytes.
fn renew(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
    if age > TOUCH_AFTER {
        // This fails on a read-only file system, but no garbage is collected there either.
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(metadata.len())
}

/// Turns the error for a missing file into `None`.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Names in a directory, sorted, without temporary files; none if it does not exist.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in found(fs::read_dir(directory))?.into_iter().flatten() {
        if let Ok(name) = entry?.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn hash_file(mut file: &File, mut hasher: Hasher) -> io::Result<Digest> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// 128 random bits in hexadecimal digits.
pub(super) fn random_hex() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
