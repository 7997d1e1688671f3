//! Blobs: content named by its digest, verified when written and when read, and downloads that can be
//! resumed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::Advice;

use crate::digest::{Digest, Hasher};
use crate::error::{Context, Result, StoreError};
use crate::manifest::{Descriptor, Document};
use crate::store::Store;
use crate::store::files::{file_name, open_described, read_up_to, sync_parent};
use crate::store::growing::Growing;
use crate::store::lease::{Guard, Use};
use crate::store::lock::{self, Mode};
use crate::store::unsynced;

/// Documents (manifests, indexes, configurations) larger than this, in bytes, are not read into memory.
pub const DOCUMENT_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// Mode of new files, before the mask of the process.
const MODE: u32 = 0o666;

/// Files that are open at once while several blobs are written.
const OPEN_MAX: usize = 64;

impl Store {
    /// Where a blob is, or would be. Opening this path does not verify the bytes.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// Whether the blob is here; if so it is held.
    pub fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// Size of a blob in bytes, `None` if it is not here. A blob that is here is held.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        let mut guard = self.lease.guard()?;
        match path.metadata() {
            // Damage, set aside when the blob comes.
            Ok(meta) if !meta.is_file() => Ok(None),
            Ok(meta) if unsynced::is_doubtful(&meta) && !self.survived(digest)? => Ok(None),
            Ok(meta) => {
                guard.hold(&[Use::Blob(digest.clone())])?;
                Ok(Some(meta.len()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("look up", path, e)),
        }
    }

    fn open_file(&self, digest: &Digest) -> Result<(File, u64)> {
        self.hold(digest)?;
        self.open_unheld(digest)
    }

    fn open_unheld(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.blob_path(digest);
        match open_described(&path) {
            Ok((_, meta)) if unsynced::is_doubtful(&meta) && !self.survived(digest)? => {
                Err(StoreError::MissingBlob(digest.clone()))
            }
            Ok((file, meta)) => Ok((file, meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::MissingBlob(digest.clone())),
            Err(e) => Err(StoreError::io("open", path, e)),
        }
    }

    /// Whether the file of a blob is here, and has not lost anything with the power. Holds nothing.
    pub(crate) fn is_here(&self, digest: &Digest) -> bool {
        match self.blob_path(digest).metadata() {
            Ok(meta) if unsynced::is_doubtful(&meta) => self.survived(digest).unwrap_or(false),
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// Compares a blob that was not waited for with its digest. One that lost bytes is set aside, as if it
    /// had never been here.
    fn survived(&self, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        let read = open_described(&path).and_then(|(file, meta)| unsynced::settle(&file, &meta, digest));
        match read {
            Ok(true) => Ok(true),
            Ok(false) => {
                // If it cannot be moved, the next one of this name takes its place.
                let _ = self.set_aside(&path);
                Ok(false)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::io("read", path, e)),
        }
    }

    /// All bytes of a small blob, verified.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] above [`DOCUMENT_SIZE_MAX`]; [`StoreError::CorruptBlob`], after which the
    /// blob is no longer here; [`StoreError::MissingBlob`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let opened = match self.open_file(digest) {
            // A full disk takes no lease. Lists and removals, which make room again, need only this document,
            // and an open file can be read even after a collector removes its name. Callers that need more
            // hold that themselves, and fail.
            Err(e) if e.is_no_space() => self.open_unheld(digest),
            other => other,
        };
        let (file, size) = opened?;
        if size > DOCUMENT_SIZE_MAX {
            return Err(StoreError::TooLarge { digest: digest.clone(), size, limit: DOCUMENT_SIZE_MAX });
        }
        let bytes = read_up_to(&file, size, u64::MAX).context("read", self.blob_path(digest))?;
        let mut hasher = digest.hasher();
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != *digest {
            return Err(self.quarantine(digest, &found, bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// Reads the whole blob of a descriptor and checks its size.
    pub fn read_descriptor(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.read_blob(&descriptor.digest)?;
        check_size(descriptor, bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Reads the manifest or index of a descriptor.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<(Document, Vec<u8>)> {
        let bytes = self.read_descriptor(descriptor)?;
        let announced = Some(descriptor.media_type.as_str()).filter(|t| !t.is_empty());
        let document = Document::parse(&bytes, announced)
            .map_err(|source| StoreError::Document { digest: descriptor.digest.clone(), source })?;
        Ok((document, bytes))
    }

    /// A reader of a blob that fails at the end with [`StoreError::CorruptBlob`] (inside an [`io::Error`]) if
    /// the bytes do not match the digest; the blob is then no longer here.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader> {
        let (file, size) = self.open_file(digest)?;
        Ok(BlobReader {
            store: self.clone(),
            digest: digest.clone(),
            file,
            size,
            read: 0,
            hasher: Some(digest.hasher()),
        })
    }

    /// The file of a blob positioned at `offset` bytes, and the number of bytes after it; for serving, where
    /// the receiver verifies.
    pub fn open_blob_at(&self, digest: &Digest, offset: u64) -> Result<(File, u64)> {
        let (mut file, size) = self.open_file(digest)?;
        file.seek(SeekFrom::Start(offset)).context("read", self.blob_path(digest))?;
        Ok((file, size.saturating_sub(offset)))
    }

    /// Moves a blob that failed verification out of the way and returns the error to report.
    pub(crate) fn quarantine(&self, digest: &Digest, found: &Digest, length: u64) -> StoreError {
        let moved_to = self.dir("corrupt").join(file_name(digest));
        let path = self.blob_path(digest);
        match fs::rename(&path, &moved_to) {
            // Another reader may have moved it already.
            Err(e) if e.kind() != io::ErrorKind::NotFound => StoreError::io("set aside corrupt", path, e),
            _ => StoreError::CorruptBlob {
                digest: digest.clone(),
                found: format!("{length} bytes with digest {found}"),
                moved_to,
            },
        }
    }

    /// Stores bytes and returns their SHA-256 digest.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).context("write", &writer.path)?;
        Ok(writer.commit(Some(&digest))?.0)
    }

    /// Stores several small blobs, whose digests are given, and waits for the disk once for all. Each is
    /// held.
    ///
    /// # Errors
    ///
    /// [`StoreError::DigestMismatch`] for a blob that has another digest; those before it may be stored.
    pub fn write_blobs<'b>(&self, blobs: impl IntoIterator<Item = (&'b Digest, &'b [u8])>) -> Result<()> {
        let mut blobs = blobs.into_iter();
        loop {
            let some: Vec<_> = blobs.by_ref().take(OPEN_MAX).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.write_some_blobs(&some)?;
        }
    }

    fn write_some_blobs(&self, blobs: &[(&Digest, &[u8])]) -> Result<()> {
        let mut guard = self.lease.guard()?;
        let new = self.write_absent(&mut guard, blobs, MODE, |file| {
            // The disk begins with all of them before one is waited for. The advice says that nobody reads
            // the file soon, and what is not written yet is written at once (posix_fadvise(2)).
            let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
            Ok(())
        })?;
        let Some(last) = new.0.last() else { return Ok(()) };
        let directory = self.blob_path(last.digest);
        for Written { file, path, .. } in &new.0 {
            file.sync_data().context("write", path)?;
        }
        self.name(new)?;
        drop(guard);
        sync_parent(&directory)
    }

    /// Stores several small blobs that can be had again, whose digests are given, without waiting for the
    /// disk. Each is held. A power loss may take them; what it leaves of them is found by their digests.
    ///
    /// # Errors
    ///
    /// As [`Store::write_blobs`].
    pub fn write_blobs_unsynced<'b>(
        &self,
        blobs: impl IntoIterator<Item = (&'b Digest, &'b [u8])>,
    ) -> Result<()> {
        let mut guard = self.lease.guard()?;
        let blobs: Vec<_> = blobs.into_iter().collect();
        for some in blobs.chunks(OPEN_MAX) {
            let new = self.write_absent(&mut guard, some, unsynced::MODE, unsynced::mark)?;
            self.name(new)?;
        }
        Ok(())
    }

    /// Writes those of some blobs that are not here to temporary files, which get their names by
    /// [`Store::name`], and does something with each file. All blobs are compared with their digests, and
    /// held.
    fn write_absent<'b>(
        &self,
        guard: &mut Guard<'_>,
        blobs: &[(&'b Digest, &'b [u8])],
        mode: u32,
        then: impl Fn(&File) -> io::Result<()>,
    ) -> Result<New<'b>> {
        guard.hold(&blobs.iter().map(|(digest, _)| Use::Blob((*digest).clone())).collect::<Vec<_>>())?;
        let mut new = New(Vec::new());
        for (digest, bytes) in blobs.iter().copied() {
            let mut hasher = digest.hasher();
            hasher.update(bytes);
            let found = hasher.finish();
            if found != *digest {
                return Err(StoreError::DigestMismatch { expected: digest.clone(), found });
            }
            let path = self.blob_path(digest);
            match path.metadata() {
                Ok(meta) if !meta.is_file() => self.set_aside(&path)?,
                Ok(meta) if meta.len() == bytes.len() as u64 && self.is_here(digest) => continue,
                _ => {}
            }
            let path = guard.temporary()?;
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(mode).open(&path);
            new.0.push(Written { digest, file: file.context("create", &path)?, path });
            let Written { file, path, .. } = new.0.last_mut().expect("just added");
            file.write_all(bytes).and_then(|()| then(file)).context("write", path)?;
        }
        Ok(new)
    }

    /// Gives new files their names as blobs.
    fn name(&self, mut new: New<'_>) -> Result<()> {
        for Written { digest, path, .. } in std::mem::take(&mut new.0) {
            let name = self.blob_path(digest);
            fs::rename(&path, &name).context("create", name)?;
        }
        Ok(())
    }

    /// A writer of a new blob, which is removed on drop unless committed.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        self.blob_writer_with(Hasher::sha256())
    }

    /// Like [`Store::blob_writer`], for a digest of another algorithm, see [`Digest::hasher`].
    pub fn blob_writer_with(&self, hasher: Hasher) -> Result<BlobWriter> {
        let path = self.lease.temporary()?;
        let file =
            File::options().read(true).write(true).create_new(true).open(&path).context("create", &path)?;
        Ok(BlobWriter {
            store: self.clone(),
            path,
            file,
            behind: WriteBehind::default(),
            hasher,
            length: 0,
            growing: None,
            committed: false,
        })
    }

    /// Begins or resumes the download of a blob. Waits while another process or thread downloads the same.
    pub fn partial(&self, digest: &Digest) -> Result<Ingest> {
        if let Some(size) = self.blob_size(digest)? {
            return Ok(Ingest::Present(size));
        }
        let path = self.dir("ingest").join(file_name(digest));
        let mut file = lock::lock(&path, Mode::Exclusive).context("lock", &path)?;
        if let Some(size) = self.blob_size(digest)? {
            // Another download finished during the wait; locking has created the file again.
            let _ = fs::remove_file(&path);
            return Ok(Ingest::Present(size));
        }
        let mut hasher = digest.hasher();
        let mut length = 0;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer).context("read", &path)? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    length += n as u64;
                }
            }
        }
        Ok(Ingest::Partial(Partial {
            store: self.clone(),
            digest: digest.clone(),
            path,
            file,
            behind: WriteBehind::default(),
            hasher,
            length,
        }))
    }

    /// Gives a complete, synced file its name as a blob.
    fn publish(&self, temporary: &Path, digest: &Digest, length: u64) -> Result<()> {
        match self.publish_unsynced(temporary, digest, length)? {
            true => sync_parent(&self.blob_path(digest)),
            false => Ok(()),
        }
    }

    /// The same without the sync of the directory; whether the name is new.
    fn publish_unsynced(&self, temporary: &Path, digest: &Digest, length: u64) -> Result<bool> {
        let path = self.blob_path(digest);
        let mut guard = self.lease.guard()?;
        guard.hold(&[Use::Blob(digest.clone())])?;
        match path.metadata() {
            Ok(meta) if meta.is_file() && meta.len() == length && self.is_here(digest) => {
                fs::remove_file(temporary).context("remove", temporary)?;
                return Ok(false);
            }
            Ok(meta) if !meta.is_file() => self.set_aside(&path)?,
            _ => {}
        }
        fs::rename(temporary, &path).context("create", &path)?;
        Ok(true)
    }
}

/// New files on their way to their names. Those that do not get there are removed.
struct New<'b>(Vec<Written<'b>>);

/// One of them.
struct Written<'b> {
    digest: &'b Digest,
    file: File,
    path: PathBuf,
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        for Written { path, .. } in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Fails if the descriptor does not state `found` bytes.
pub(crate) fn check_size(descriptor: &Descriptor, found: u64) -> Result<()> {
    if found == descriptor.size {
        return Ok(());
    }
    Err(StoreError::SizeMismatch { digest: descriptor.digest.clone(), expected: descriptor.size, found })
}

/// A verifying reader, see [`Store::open_blob`].
pub struct BlobReader {
    store: Store,
    digest: Digest,
    file: File,
    size: u64,
    read: u64,
    /// `None` once the end was reached and verified.
    hasher: Option<Hasher>,
}

impl BlobReader {
    /// Size of the blob in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.read += n as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        if n == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != self.digest {
                let error = self.store.quarantine(&self.digest, &found, self.read);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(n)
    }
}

/// Writes a long file to disk while it is still growing, so that little is left for the sync at its end.
#[derive(Default)]
pub struct WriteBehind {
    unsynced: usize,
    syncing: Option<JoinHandle<io::Result<()>>>,
    failed: Option<io::Error>,
}

impl WriteBehind {
    /// Bytes after which a sync is started.
    const STEP: usize = 32 << 20;

    /// Notes that `length` bytes were written to `file`.
    pub fn wrote(&mut self, file: &File, length: usize) {
        self.unsynced += length;
        if self.unsynced < WriteBehind::STEP || self.syncing.as_ref().is_some_and(|t| !t.is_finished()) {
            return;
        }
        self.unsynced = 0;
        self.join();
        if let Ok(file) = file.try_clone() {
            // Without a thread, the sync at the end does all the work.
            self.syncing = std::thread::Builder::new().spawn(move || file.sync_data()).ok();
        }
    }

    /// Waits for the running sync and keeps its failure: the kernel reports a failed write only once for all
    /// descriptors cloned from each other.
    fn join(&mut self) {
        if let Some(thread) = self.syncing.take()
            && let Err(error) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        {
            self.failed.get_or_insert(error);
        }
    }

    /// Waits for the sync that was begun and returns its failure. Bytes written since are not synced.
    pub fn settle(mut self) -> io::Result<()> {
        self.join();
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Syncs all of the file.
    pub fn finish(self, file: &File) -> io::Result<()> {
        self.settle()?;
        file.sync_data()
    }
}

/// A new blob being written, see [`Store::blob_writer`].
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    behind: WriteBehind,
    hasher: Hasher,
    length: u64,
    /// Told of all that is written.
    growing: Option<Arc<Growing>>,
    committed: bool,
}

impl BlobWriter {
    /// For reading the blob while it is written.
    pub fn follow(&mut self) -> Result<Arc<Growing>> {
        let file = self.file.try_clone().context("read", &self.path)?;
        let (length, growing) = (self.length, &mut self.growing);
        Ok(growing.get_or_insert_with(|| Arc::new(Growing::new(file, length))).clone())
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Syncs, verifies and names the blob; returns digest and size in bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::DigestMismatch`] when `expected` is given and differs; nothing is stored then.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = self.hasher.clone().finish();
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(StoreError::DigestMismatch { expected: expected.clone(), found: digest });
        }
        // Before the disk has it: who follows need not wait for that.
        if let Some(growing) = &self.growing {
            growing.is_whole(digest.clone());
        }
        std::mem::take(&mut self.behind).finish(&self.file).context("write", &self.path)?;
        self.store.publish(&self.path, &digest, self.length)?;
        self.committed = true;
        Ok((digest, self.length))
    }

    /// The temporary file, for messages.
    pub(crate) fn path(&self) -> Arc<Path> {
        self.path.as_path().into()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buffer)?;
        self.behind.wrote(&self.file, n);
        self.hasher.update(&buffer[..n]);
        self.length += n as u64;
        if let Some(growing) = &self.growing {
            growing.grew(self.length);
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.committed {
            if let Some(growing) = &self.growing {
                growing.give_up();
            }
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What [`Store::partial`] found.
#[allow(clippy::large_enum_variant)] // short-lived, one per download
pub enum Ingest {
    /// The blob is here already; its size in bytes.
    Present(u64),
    /// The blob must be downloaded from [`Partial::length`] on.
    Partial(Partial),
}

/// A download in progress. Dropped without a commit, its bytes stay for the next attempt.
pub struct Partial {
    store: Store,
    digest: Digest,
    path: PathBuf,
    file: File,
    behind: WriteBehind,
    hasher: Hasher,
    length: u64,
}

impl Partial {
    /// Bytes downloaded so far; the next byte has this offset.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The blob being downloaded.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(e) = self.file.write_all(bytes) {
            // Some of the bytes may be written, none are hashed.
            self.file
                .set_len(self.length)
                .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
                .context("truncate", &self.path)?;
            return Err(StoreError::io("write", &self.path, e));
        }
        self.behind.wrote(&self.file, bytes.len());
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Throws away the bytes so far, for a server that cannot resume.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).context("truncate", &self.path)?;
        self.hasher = self.digest.hasher();
        self.length = 0;
        Ok(())
    }

    /// Verifies, syncs and names the blob; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::DigestMismatch`]; the bytes are then thrown away, since a resumed download would fail
    /// again.
    pub fn commit(self) -> Result<u64> {
        let found = self.hasher.clone().finish();
        if found != self.digest {
            fs::remove_file(&self.path).context("remove", &self.path)?;
            return Err(StoreError::DigestMismatch { expected: self.digest.clone(), found });
        }
        self.behind.finish(&self.file).context("write", &self.path)?;
        self.store.publish(&self.path, &self.digest, self.length)?;
        Ok(self.length)
    }
}
