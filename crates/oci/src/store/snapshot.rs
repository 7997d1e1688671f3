//! Unpacked layers: unpacking, scratch directories, and committing them as layers.
//!
//! `docs/dev/store.md` says how trees are named, when two layers may share one, and what a power loss does to
//! them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher, Hashing};
use crate::error::{Context, LayerProblem, Result, StoreError};
use crate::layer::Borrowed;
use crate::layer::apply::{Applied, ApplyError, ApplyOptions, apply, check};
use crate::layer::compress::{Encoder, ReadAhead, decoder};
use crate::layer::tree;
use crate::layer::write::{Timestamps, write_borrowing};
use crate::manifest::Descriptor;
use crate::media_type::Compression;
use crate::name::random_name;
use crate::store::blob::{BlobWriter, check_size};
use crate::store::files::{file_name, walk_size};
use crate::store::growing::{FOLLOWED_FROM, Follow, Following};
use crate::store::image::LoadedImage;
use crate::store::lease::Use;
use crate::store::lock::{self, Mode};
use crate::store::tree_id::{TreeId, TreeMeta, boot_id};
use crate::store::{Owners, Store};

/// A layer that is unpacked.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// The directory, in overlay form; stays valid as long as a handle that looked it up lives.
    pub path: PathBuf,
    /// Parts of the archive that could not be created, such as device files without root; empty for a layer
    /// that was here already.
    pub warnings: Vec<String>,
}

/// How to write a layer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LayerOptions {
    /// Compression of the blob.
    pub compression: Compression,
    /// Compression level, `None` for the default: gzip 0 to 9, zstd 1 to 22.
    pub level: Option<u32>,
    /// Threads for gzip, 0 for one per CPU; the bytes do not depend on their number.
    #[serde(skip)]
    pub threads: usize,
    /// Times of all files.
    pub timestamps: Timestamps,
}

impl Default for LayerOptions {
    fn default() -> LayerOptions {
        LayerOptions { compression: Compression::Gzip, level: None, threads: 0, timestamps: Timestamps::Keep }
    }
}

/// A layer that was written.
#[derive(Clone, Debug)]
pub struct CommittedLayer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Descriptor of the blob.
    pub descriptor: Descriptor,
    /// Length of the uncompressed archive in bytes.
    pub size: u64,
    /// The unpacked layer; `None` if the tree had borrowed files.
    pub path: Option<PathBuf>,
    /// Borrowed files that were changed since they were lent.
    pub changed: Vec<String>,
}

/// A blob that tells of itself when it has become large.
struct Followed<'a> {
    blob: BlobWriter,
    follow: Option<Follow<'a>>,
}

impl Write for Followed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.blob.write(buffer)?;
        if self.blob.length() >= FOLLOWED_FROM
            && let Some(follow) = self.follow.take()
        {
            // Without a descriptor to spare nobody follows, and nothing is lost.
            let _ = self.blob.follow().map(follow);
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blob.flush()
    }
}

/// The blob of a layer being written and checked, see [`Store::layer_writer`].
pub struct LayerWriter {
    blob: BlobWriter,
    store: Store,
    layer: Descriptor,
    diff_id: Digest,
    /// Ends by itself when the writer is dropped.
    checking: Option<JoinHandle<Result<()>>>,
}

impl LayerWriter {
    /// Verifies and names the blob, then says what is wrong with its archive; a blob whose archive is bad
    /// stays, as other blobs do.
    ///
    /// # Errors
    ///
    /// Those of [`BlobWriter::commit`] and [`Store::check_layer`].
    pub fn finish(self) -> Result<()> {
        let LayerWriter { blob, store, layer, diff_id, checking } = self;
        let (_, size) = blob.commit(Some(&layer.digest))?;
        check_size(&layer, size)?;
        match checking {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => store.check_layer(&layer, &diff_id),
        }
    }
}

impl Write for LayerWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.blob.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blob.flush()
    }
}

/// An upper directory for overlay, and its work directory. Removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    store: Store,
    id: TreeId,
    frozen: bool,
    borrowed: OnceLock<Arc<Borrowed>>,
}

impl Scratch {
    /// Overlay's `upperdir`: empty, mode 0755.
    pub fn upper(&self) -> PathBuf {
        self.id.fs(&self.store.root)
    }

    /// Overlay's `workdir`.
    pub fn work(&self) -> PathBuf {
        self.id.dir(&self.store.root).join("work")
    }

    /// Says which files the directory borrows. The first call counts.
    pub fn borrow(&self, borrowed: Arc<Borrowed>) {
        let _ = self.borrowed.set(borrowed);
    }

    /// Whether nothing was created, changed or deleted.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.borrowed.get().is_none_or(|borrowed| borrowed.is_empty()) && is_empty(&self.upper())?)
    }

    /// Clamps the times of all files to `latest`, in seconds since 1970.
    pub fn clamp_times(&self, latest: i64) -> Result<()> {
        let upper = self.upper();
        tree::clamp_times(&upper, latest).context("set times in", &upper)
    }

    /// Ends writing: the directory may be read as a layer from now on, also while it is committed elsewhere.
    pub fn freeze(mut self) -> Result<Frozen> {
        let work = self.work();
        tree::remove(&work, &self.store.dir("tmp")).context("remove", &work)?;
        self.frozen = true;
        let borrowed = self.borrowed.get().cloned().unwrap_or_default();
        let is_whole = borrowed.is_empty();
        Ok(Frozen { store: self.store.clone(), id: self.id.clone(), borrowed, is_whole })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.frozen {
            self.store.remove_tree(&self.id);
        }
    }
}

/// A directory that is no longer written to. Unless committed, it is removed with the handle.
#[derive(Clone, Debug)]
pub struct Frozen {
    store: Store,
    id: TreeId,
    /// Emptied when the directory is committed.
    borrowed: Arc<Borrowed>,
    is_whole: bool,
}

impl Frozen {
    /// The directory; stays valid as long as the handle lives, whatever is committed. `None` if it borrows
    /// files: it can be committed, but not be used as a layer.
    pub fn path(&self) -> Option<PathBuf> {
        self.is_whole.then(|| self.fs())
    }

    fn fs(&self) -> PathBuf {
        self.id.fs(&self.store.root)
    }

    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.borrowed.is_empty() && is_empty(&self.fs())?)
    }
}

fn is_empty(dir: &Path) -> Result<bool> {
    Ok(fs::read_dir(dir).context("read", dir)?.next().is_none())
}

impl Store {
    /// The unpacked layer `diff_id` over the layers `lower` (their `diff_id`s, the lowest first), if it is
    /// here; it is then held.
    pub fn snapshot(&self, diff_id: &Digest, lower: &[Digest]) -> Result<Option<PathBuf>> {
        let mut guard = self.lease.guard()?;
        for key in [diff_id.clone(), dependent_key(diff_id, lower)] {
            if let Some(id) = self.usable(&key)? {
                let path = id.fs(&self.root);
                guard.hold(&[Use::Snapshot(key), Use::Tree(id)])?;
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The unpacked layers of a whole image, the lowest first; `None` unless all are here.
    pub fn snapshots(&self, diff_ids: &[Digest]) -> Result<Option<Vec<PathBuf>>> {
        let paths = diff_ids.iter().enumerate().map(|(i, id)| self.snapshot(id, &diff_ids[..i]));
        paths.collect()
    }

    /// Keeps an unpacked layer, if it is here, from garbage collection as long as this handle lives.
    pub fn hold_snapshot(&self, diff_id: &Digest) -> Result<()> {
        self.lease.hold(&[Use::Snapshot(diff_id.clone())])
    }

    /// Unpacks a layer over the layers `lower` (their `diff_id`s, the lowest first); does nothing if it is
    /// here. Layers of an image may be unpacked side by side, in any order.
    ///
    /// # Errors
    ///
    /// [`StoreError::NeedsLower`] for the rare layer that cannot be understood without lower layers which are
    /// not unpacked yet: unpack those and call again. [`StoreError::Layer`] for a bad archive,
    /// [`StoreError::CorruptBlob`] and [`StoreError::MissingBlob`]; nothing is left behind.
    pub fn unpack(&self, layer: &Descriptor, diff_id: &Digest, lower: &[Digest]) -> Result<Unpacked> {
        let known = |path| Unpacked { path, warnings: Vec::new() };
        if let Some(path) = self.snapshot(diff_id, lower)? {
            return Ok(known(path));
        }
        self.lease.require_writable()?;
        let lock_path = self.dir("snapshots").join(format!("{}.lock", file_name(diff_id)));
        let _lock = lock::lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)?;
        let result = match self.snapshot(diff_id, lower)? {
            Some(path) => Ok(known(path)),
            None => self.unpack_locked(layer, diff_id, lower),
        };
        let _ = fs::remove_file(&lock_path);
        result
    }

    /// Compares the archive of a layer with its `diff_id`, without unpacking it. The limits of unpacking
    /// count, and an archive whose form or names unpacking refuses is refused.
    ///
    /// # Errors
    ///
    /// [`StoreError::Layer`] for a bad archive, [`StoreError::CorruptBlob`] and [`StoreError::MissingBlob`].
    pub fn check_layer(&self, layer: &Descriptor, diff_id: &Digest) -> Result<()> {
        let blob = self.open_blob(&layer.digest)?;
        check_size(layer, blob.size())?;
        self.check_archive(blob, layer, diff_id)
    }

    /// The same for a layer in memory, whose digest was compared already.
    ///
    /// # Errors
    ///
    /// [`StoreError::Layer`] for a bad archive, [`StoreError::SizeMismatch`].
    pub fn check_layer_bytes(&self, bytes: &[u8], layer: &Descriptor, diff_id: &Digest) -> Result<()> {
        check_size(layer, bytes.len() as u64)?;
        self.check_archive(bytes, layer, diff_id)
    }

    /// A writer for the blob of a layer, whose archive is checked as [`Store::check_layer`] does; that of a
    /// large one while it is written, by a thread of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Store::blob_writer`].
    pub fn layer_writer(&self, layer: &Descriptor, diff_id: &Digest) -> Result<LayerWriter> {
        let mut blob = self.blob_writer()?;
        let (store, layer, diff_id) = (self.clone(), layer.clone(), diff_id.clone());
        // Without a descriptor or a thread to spare it is checked when it is whole.
        let growing = (layer.size >= FOLLOWED_FROM).then(|| blob.follow().ok()).flatten();
        let checking = growing.and_then(|growing| {
            let (store, layer, diff_id) = (store.clone(), layer.clone(), diff_id.clone());
            let check = move || store.check_archive(Following::new(growing), &layer, &diff_id);
            std::thread::Builder::new().spawn(check).ok()
        });
        Ok(LayerWriter { blob, store, layer, diff_id, checking })
    }

    fn check_archive(&self, blob: impl io::Read + Send, layer: &Descriptor, diff_id: &Digest) -> Result<()> {
        let fail = |problem| StoreError::Layer { layer: layer.digest.to_string(), problem };
        let (stream, _) = decoder(blob, &self.unpack_limit).map_err(|e| fail(LayerProblem::Read(e)))?;
        let mut hashed = Hashed { stream, hasher: diff_id.hasher() };
        check(io::BufReader::with_capacity(128 * 1024, &mut hashed)).map_err(|e| problem_of(e, &fail))?;
        match hashed.hasher.finish() {
            found if found == *diff_id => Ok(()),
            found => Err(fail(LayerProblem::DiffId { expected: diff_id.clone(), found })),
        }
    }

    fn unpack_locked(&self, layer: &Descriptor, diff_id: &Digest, lower: &[Digest]) -> Result<Unpacked> {
        let scratch = self.new_tree()?;
        let applied = match self.apply_blob(layer, diff_id, lower, &scratch.upper()) {
            // A damaged blob first shows as a damaged archive; its digest reveals it, and it must not stay.
            Err(StoreError::Layer { problem: LayerProblem::Read(_) | LayerProblem::Tar { .. }, .. })
                if let Err(corrupt) = self.verify_blob(&layer.digest) =>
            {
                return Err(corrupt);
            }
            other => other?,
        };
        let key = if applied.dependent { dependent_key(diff_id, lower) } else { diff_id.clone() };
        let frozen = scratch.freeze()?;
        let path = self.publish_tree(&key, &frozen.id, Some(diff_id), applied.bytes)?;
        Ok(Unpacked { path, warnings: applied.warnings })
    }

    fn apply_blob(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        lower: &[Digest],
        target: &Path,
    ) -> Result<Applied> {
        let blob = self.open_blob(&layer.digest)?;
        check_size(layer, blob.size())?;
        let fail = |problem| StoreError::Layer { layer: layer.digest.to_string(), problem };
        let lower_trees = || -> Result<Vec<PathBuf>> {
            let tree = |i: usize| match self.snapshot(&lower[i], &lower[..i])? {
                Some(path) => Ok(path),
                None => Err(StoreError::NeedsLower { layer: diff_id.clone(), lower: lower[i].clone() }),
            };
            (0..lower.len()).map(tree).collect()
        };
        let options = ApplyOptions {
            whiteouts: true,
            owners: self.owners,
            lower: &lower_trees,
            trash: &self.dir("tmp"),
            limit: &self.unpack_limit,
        };
        let (applied, found) = std::thread::scope(|scope| {
            let (stream, _) = decoder(blob, &self.unpack_limit).map_err(|e| fail(LayerProblem::Read(e)))?;
            let stream = ReadAhead::start(scope, stream, diff_id.hasher());
            let mut stream = stream.map_err(|e| fail(LayerProblem::Read(e)))?;
            let applied = apply(&mut stream, target, &options).map_err(|e| problem_of(e, &fail))?;
            Ok::<_, StoreError>((applied, stream.digest()))
        })?;
        if found != *diff_id {
            return Err(fail(LayerProblem::DiffId { expected: diff_id.clone(), found }));
        }
        Ok(applied)
    }

    /// Unpacks all layers of an image on up to `threads` threads (0 for one per CPU); the result is the list
    /// of overlay's lower directories, the lowest first.
    pub fn unpack_image(&self, image: &LoadedImage, threads: usize) -> Result<Vec<Unpacked>> {
        let (layers, diff_ids) = (&image.manifest.layers, &image.config.rootfs.diff_ids);
        if layers.len() != diff_ids.len() {
            return Err(StoreError::Invalid {
                what: format!("image {}", image.manifest_digest),
                problem: format!("{} layers but {} diff_ids", layers.len(), diff_ids.len()),
            });
        }
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<Unpacked>>>> = layers.iter().map(|_| Mutex::default()).collect();
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(slot) = results.get(i) else { return };
                let result = self.unpack(&layers[i], &diff_ids[i], &diff_ids[..i]);
                *slot.lock().unwrap_or_else(|e| e.into_inner()) = Some(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads_or_all(threads).min(layers.len()) {
                // The threads that were started do all the work.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        let mut unpacked = Vec::new();
        for (i, slot) in results.into_iter().enumerate() {
            let result = slot.into_inner().unwrap_or_else(|e| e.into_inner());
            unpacked.push(match result.expect("every layer was taken by a thread") {
                // All lower layers are unpacked by now.
                Err(StoreError::NeedsLower { .. }) => {
                    self.unpack(&layers[i], &diff_ids[i], &diff_ids[..i])?
                }
                other => other?,
            });
        }
        Ok(unpacked)
    }

    /// Removes a tree of this handle. If this fails, dropping the handle or a collection tries again.
    fn remove_tree(&self, id: &TreeId) {
        if tree::remove(&id.dir(&self.root), &self.dir("tmp")).is_ok() {
            self.lease.spare(id);
        }
    }

    /// An empty directory to write a layer into.
    pub fn new_scratch(&self) -> Result<Scratch> {
        let scratch = self.new_tree()?;
        let work = scratch.work();
        fs::create_dir(&work).context("create", &work)?;
        Ok(scratch)
    }

    fn new_tree(&self) -> Result<Scratch> {
        let id = TreeId::new(self.owners);
        self.lease.hold(&[Use::Tree(id.clone())])?;
        self.lease.require_writable()?;
        self.lease.doom(&id);
        let scratch = Scratch { store: self.clone(), id, frozen: false, borrowed: OnceLock::new() };
        let upper = scratch.upper();
        fs::create_dir_all(&upper).context("create", &upper)?;
        // The umask or a set-group-id parent may have changed the mode.
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).context("create", &upper)?;
        Ok(scratch)
    }

    /// Freezes and commits a scratch directory.
    pub fn commit_layer(&self, scratch: Scratch, options: &LayerOptions) -> Result<CommittedLayer> {
        self.commit_frozen(&scratch.freeze()?, options)
    }

    /// Writes a frozen directory as a layer: archive, digest and compression in one pass; the directory then
    /// becomes the layer's snapshot. If it borrows files, it is removed, and can be had by unpacking.
    pub fn commit_frozen(&self, frozen: &Frozen, options: &LayerOptions) -> Result<CommittedLayer> {
        self.commit_followed(frozen, options, None)
    }

    /// The same; `follow` hears of the blob when it has become large.
    pub fn commit_followed(
        &self,
        frozen: &Frozen,
        options: &LayerOptions,
        follow: Option<Follow<'_>>,
    ) -> Result<CommittedLayer> {
        let tree = frozen.fs();
        let blob = Followed { blob: self.blob_writer()?, follow };
        let mut changed = Vec::new();
        let (diff_id, descriptor, size) = self.write_layer_to(blob, options, |writer| {
            changed = write_borrowing(&tree, &frozen.borrowed, options.timestamps, writer)?;
            Ok(())
        })?;
        let path = match frozen.is_whole {
            true => Some(self.publish_tree(&diff_id, &frozen.id, Some(&diff_id), size)?),
            false => {
                self.remove_tree(&frozen.id);
                None
            }
        };
        Ok(CommittedLayer { diff_id, descriptor, size, path, changed })
    }

    /// Keeps a frozen directory as an unpacked layer without an archive; returns the key under which
    /// [`Store::kept`] finds it. The layer stays as long as a cache record or a live process refers to the
    /// key. A directory that borrows files cannot be kept.
    pub fn keep_frozen(&self, frozen: &Frozen) -> Result<Digest> {
        let tree = frozen.path().ok_or_else(|| StoreError::Invalid {
            what: format!("directory {}", frozen.fs().display()),
            problem: "it borrows files, so it is no layer before it is packed".to_string(),
        })?;
        // Nothing else is ever called so, also not another execution of the same step.
        let key = Digest::of(format!("unpacked layer {}", random_name()).as_bytes());
        self.publish_tree(&key, &frozen.id, None, walk_size(&tree))?;
        Ok(key)
    }

    /// The unpacked layer that was kept under a key, if it is here; it is then held.
    pub fn kept(&self, key: &Digest) -> Result<Option<PathBuf>> {
        let mut guard = self.lease.guard()?;
        let Some(id) = self.usable(key)? else { return Ok(None) };
        let path = id.fs(&self.root);
        guard.hold(&[Use::Snapshot(key.clone()), Use::Tree(id)])?;
        Ok(Some(path))
    }

    /// Writes an unpacked layer that was kept under a key as an archive. The bytes are those that
    /// [`Store::commit_frozen`] would have written in place of [`Store::keep_frozen`]. The tree is then also
    /// the snapshot of its `diff_id`.
    ///
    /// # Errors
    ///
    /// The layer is not here, or cannot be read; the store cannot be written.
    pub fn commit_kept(&self, key: &Digest, options: &LayerOptions) -> Result<CommittedLayer> {
        let id = match self.kept(key)? {
            Some(_) => self.usable(key)?,
            None => None,
        };
        let id = id.ok_or_else(|| StoreError::Invalid {
            what: format!("unpacked layer {key}"),
            problem: "it is gone".to_string(),
        })?;
        let tree = id.fs(&self.root);
        let blob = Followed { blob: self.blob_writer()?, follow: None };
        let (diff_id, descriptor, size) = self.write_layer_to(blob, options, |writer| {
            write_borrowing(&tree, &Borrowed::default(), options.timestamps, writer).map(drop)
        })?;
        let path = Some(self.publish_tree(&diff_id, &id, Some(&diff_id), size)?);
        Ok(CommittedLayer { diff_id, descriptor, size, path, changed: Vec::new() })
    }

    /// Lets one thread or process at a time pack what is kept under a key.
    pub fn lock_kept(&self, key: &Digest) -> Result<impl Drop + use<>> {
        self.lease.require_writable()?;
        let path = self.dir("snapshots").join(format!("{}.lock", file_name(key)));
        let lock = lock::lock(&path, Mode::Exclusive).context("lock", &path)?;
        Ok(KeptLock { path, _lock: lock })
    }

    /// Compresses and stores the archive that `write` writes; returns its `diff_id`, the blob's descriptor
    /// and the length of the archive in bytes.
    pub fn write_layer_blob(
        &self,
        options: &LayerOptions,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(Digest, Descriptor, u64)> {
        let blob = Followed { blob: self.blob_writer()?, follow: None };
        self.write_layer_to(blob, options, write)
    }

    /// A layer in the compression of `options`; the layer itself if it has that already. Its archive stays
    /// the same, and so does its `diff_id`.
    pub fn repack_layer(&self, layer: &Descriptor, options: &LayerOptions) -> Result<Descriptor> {
        if Compression::of_media_type(&layer.media_type) == options.compression {
            return Ok(layer.clone());
        }
        let path = self.blob_path(&layer.digest);
        let mut blob = self.open_blob(&layer.digest)?;
        let unpacked = |error: io::Error| match error.downcast::<StoreError>() {
            Ok(error) => error,
            Err(error) => StoreError::io("unpack", &*path, error),
        };
        let (_, packed, _) = self.write_layer_blob(options, |writer| {
            let (mut archive, _) = decoder(&mut blob, self.unpack_limit()).map_err(unpacked)?;
            io::copy(&mut archive, writer).map_err(unpacked)?;
            drop(archive);
            // The rest of the blob counts for its digest.
            io::copy(&mut blob, &mut io::sink()).map_err(unpacked)?;
            Ok(())
        })?;
        Ok(packed)
    }

    fn write_layer_to(
        &self,
        blob: Followed<'_>,
        options: &LayerOptions,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(Digest, Descriptor, u64)> {
        let path = blob.blob.path();
        let threads = threads_or_all(options.threads);
        let encoder =
            Encoder::new(blob, options.compression, options.level, threads).context("write", &path)?;
        let mut archive = io::BufWriter::with_capacity(128 * 1024, Hashing::new(encoder));
        write(&mut archive)?;
        let archive = archive.into_inner().map_err(|e| StoreError::io("write", &path, e.into_error()))?;
        let (encoder, diff_id, size) = archive.finish();
        let (digest, length) = encoder.finish().context("write", &path)?.blob.commit(None)?;
        Ok((diff_id, Descriptor::new(options.compression.oci_layer(), digest, length), size))
    }

    /// Reads a blob to its end to verify it.
    pub fn verify_blob(&self, digest: &Digest) -> Result<u64> {
        let mut reader = self.open_blob(digest)?;
        io::copy(&mut reader, &mut io::sink()).map_err(|e| match e.downcast::<StoreError>() {
            Ok(e) => e,
            Err(e) => StoreError::io("read", self.blob_path(digest), e),
        })
    }

    /// Makes unpacked layers survive a power loss: one `syncfs`, then a mark in each. May take long; without
    /// it, layers are unpacked again after the next boot, and those without an archive are lost.
    pub fn settle(&self) -> Result<()> {
        self.settle_older(Duration::ZERO)
    }

    /// The same, for layers that are at least so old: the kernel has written most of them by itself.
    pub fn settle_older(&self, age: Duration) -> Result<()> {
        let is_old = |dir: &Path| {
            let modified = dir.join("meta").metadata().and_then(|meta| meta.modified());
            age.is_zero() || modified.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed >= age))
        };
        let mut unsettled = Vec::new();
        let dir = self.dir("snapshots");
        for entry in fs::read_dir(&dir).context("read", &dir)? {
            let path = entry.context("read", &dir)?.path();
            if let Some(id) = read_link(&path)?
                && id.is_of_this_boot()
                && !id.dir(&self.root).join("synced").exists()
                && is_old(&id.dir(&self.root))
            {
                unsettled.push(id);
            }
        }
        if unsettled.is_empty() {
            return Ok(());
        }
        File::open(&dir).and_then(|f| Ok(rustix::fs::syncfs(f)?)).context("sync", &self.root)?;
        for id in unsettled {
            let mark = id.dir(&self.root).join("synced");
            match File::create(&mark) {
                // A collection removed the tree meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => drop(other.context("create", &mark)?),
            }
        }
        Ok(())
    }

    /// The tree under a key, if it is whole. For holders of a guard.
    fn usable(&self, key: &Digest) -> Result<Option<TreeId>> {
        let link = self.dir("snapshots").join(file_name(key));
        let Some(id) = read_link(&link)? else { return Ok(None) };
        let fits = self.owners == Owners::Ignore || !id.ignores_owners();
        Ok((fits && id.is_whole(&self.root)).then_some(id))
    }

    /// Makes a tree the snapshot of a key, unless there is one already; returns the directory to use.
    fn publish_tree(
        &self,
        key: &Digest,
        id: &TreeId,
        diff_id: Option<&Digest>,
        bytes: u64,
    ) -> Result<PathBuf> {
        let dir = id.dir(&self.root);
        let meta = TreeMeta { diff_id: diff_id.cloned(), bytes };
        let meta = serde_json::to_vec(&meta).expect("string keys always serialise");
        fs::write(dir.join("meta"), meta).context("write", &dir)?;
        if boot_id().is_none() {
            // Without a boot id, a past power loss cannot be detected.
            File::open(&dir).and_then(|f| Ok(rustix::fs::syncfs(f)?)).context("sync", &dir)?;
            File::create(dir.join("synced")).context("create", &dir)?;
        }
        let temporary = self.lease.temporary()?;
        let mut guard = self.lease.guard()?;
        if let Some(existing) = self.usable(key)? {
            guard.hold(&[Use::Snapshot(key.clone()), Use::Tree(existing.clone())])?;
            return Ok(existing.fs(&self.root));
        }
        guard.hold(&[Use::Snapshot(key.clone())])?;
        let link = self.dir("snapshots").join(file_name(key));
        let target = Path::new("../trees").join(id.to_string());
        std::os::unix::fs::symlink(&target, &temporary).context("create", &temporary)?;
        match fs::rename(&temporary, &link) {
            // A directory is no link to a tree.
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => {
                self.set_aside(&link)?;
                fs::rename(&temporary, &link).context("create", &link)?;
            }
            other => other.context("create", &link)?,
        }
        drop(guard);
        self.lease.spare(id);
        Ok(id.fs(&self.root))
    }
}

/// A lock on a kept layer; its file goes with it.
struct KeptLock {
    path: PathBuf,
    _lock: File,
}

impl Drop for KeptLock {
    fn drop(&mut self) {
        // Who waits for the lock opens the file again.
        let _ = fs::remove_file(&self.path);
    }
}

/// A stream, hashed as it is read.
struct Hashed<R> {
    stream: R,
    hasher: Hasher,
}

impl<R: io::Read> io::Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// What an archive's failure is to the caller: the store's own errors come through readers.
fn problem_of(error: ApplyError, fail: &dyn Fn(LayerProblem) -> StoreError) -> StoreError {
    match error {
        ApplyError::Lower(e) => e,
        ApplyError::Problem(LayerProblem::Read(e)) => match e.downcast::<StoreError>() {
            Ok(e) => e,
            Err(e) => fail(LayerProblem::Read(e)),
        },
        ApplyError::Problem(problem) => fail(problem),
    }
}

/// The tree that a link in `snapshots/` leads to; `None` if there is no link of that name.
pub(crate) fn read_link(link: &Path) -> Result<Option<TreeId>> {
    match fs::read_link(link) {
        Ok(target) => Ok(target.file_name().and_then(|n| n.to_str()).and_then(TreeId::parse)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(None),
        Err(e) => Err(StoreError::io("read", link, e)),
    }
}

/// The key of a tree that depends on the layers below it.
pub(crate) fn dependent_key(diff_id: &Digest, lower: &[Digest]) -> Digest {
    let text: String = lower.iter().chain([diff_id]).map(|d| format!("{d}\n")).collect();
    Digest::of(text.as_bytes())
}

fn threads_or_all(threads: usize) -> usize {
    match threads {
        0 => crate::cpus(),
        n => n,
    }
}
