//! Garbage collection and disk usage.
//!
//! `docs/dev/store.md` explains what is marked and why nothing in use is removed.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Context, Result, StoreError};
use crate::layer::tree;
use crate::manifest::MANIFEST_SIZE_MAX;
use crate::name::random_name;
use crate::store::files::{digest_of_file_name, file_name, open_regular, read_regular, walk_size};
use crate::store::lease::{self, Use, owner_of_temporary};
use crate::store::lock::{self, Mode};
use crate::store::snapshot::{dependent_key, read_link};
use crate::store::tree_id::{TreeId, TreeMeta};
use crate::store::{Store, cache, image};

/// What a collection may remove besides content that nothing refers to.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcOptions {
    /// Build cache records not used for this long; zero for all, `None` for none.
    pub cache_unused_for: Option<Duration>,
    /// Build cache records beyond this many bytes, the least recently used first. Content that images keep
    /// anyway does not count.
    pub cache_bytes_max: Option<u64>,
    /// Cache mounts not used for this long.
    pub cache_mounts_unused_for: Option<Duration>,
    /// Unfinished downloads not continued for this long.
    pub partials_unused_for: Option<Duration>,
    /// Only count, remove nothing.
    pub dry_run: bool,
}

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default)]
pub struct GcReport {
    /// Blobs, corrupt ones included.
    pub blobs: u64,
    /// Unpacked layers, abandoned ones included.
    pub snapshots: u64,
    /// Build cache records.
    pub cache_records: u64,
    /// Cache mounts.
    pub cache_mounts: u64,
    /// Unfinished downloads.
    pub partials: u64,
    /// Bytes of all these.
    pub bytes: u64,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
    /// Images that are damaged, by name, and what to do. While a record cannot be read, no blob and no
    /// unpacked layer is removed, since it may belong to that image.
    pub damaged: Vec<String>,
}

/// Number and size of one kind of thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that a collection could free.
    pub reclaimable: u64,
}

impl Usage {
    fn add(&mut self, bytes: u64, is_garbage: bool) {
        self.count += 1;
        self.bytes += bytes;
        self.reclaimable += if is_garbage { bytes } else { 0 };
    }
}

/// One record of the build cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheUsage {
    /// The key of its step, as the name of its file has it.
    pub key: String,
    /// Bytes of the record, and of the blobs that it refers to and no image has; without blobs those of its
    /// unpacked layer. Records may share blobs.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// How the disk space of a store is used.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Images by platform: manifests, configs and layers as stored. Shared blobs count once. Blobs of no
    /// image are reclaimable here.
    pub images: Usage,
    /// Unpacked layers.
    pub snapshots: Usage,
    /// Build cache records with the blobs and unpacked layers that only they keep; all reclaimable.
    pub build_cache: Usage,
    /// Cache mounts; all reclaimable.
    pub cache_mounts: Usage,
    /// Unfinished downloads; all reclaimable.
    pub partials: Usage,
    /// Volumes; those that no command uses now are reclaimable.
    pub volumes: Usage,
    /// The build cache's records, the least recently used first.
    pub records: Vec<CacheUsage>,
    /// Images that are damaged, by name, and what to do.
    pub damaged: Vec<String>,
}

impl Store {
    /// Removes what no image, build cache record or live process uses. Safe at any time; blocks others while
    /// it marks, not while it deletes. Damaged images are reported and stop nothing else.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        self.gc_among(options, &|_| true)
    }

    /// The same; whatever the options say, build cache records stay whose keys ([`CacheUsage::key`]) `may_go`
    /// does not take.
    pub fn gc_among(&self, options: &GcOptions, may_go: &dyn Fn(&str) -> bool) -> Result<GcReport> {
        self.lease.require_writable()?;
        let mut report = GcReport::default();
        let lock_path = self.dir("gc.lock");
        let lock = lock::lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)?;
        let live = Live::find(&self.root)?;
        let mut marks = Marks::new(self);
        let is_complete = marks.images()?;
        marks.leases(&live.uses)?;
        let mut trash =
            Trash { store: self, report: &mut report, dry_run: options.dry_run, trees: Vec::new() };
        let garbage = marks.cache(&self.cache_records()?, options, may_go)?;
        for path in garbage {
            trash.file(&path, |r| &mut r.cache_records)?;
        }
        if is_complete {
            trash.blobs(&marks.blobs)?;
            trash.snapshots(&marks)?;
        }
        if let Some(age) = options.partials_unused_for {
            trash.partials(age)?;
        }
        if let Some(age) = options.cache_mounts_unused_for {
            trash.cache_mounts(age)?;
        }
        if !options.dry_run {
            trash.temporaries(&live)?;
        }
        let trees = trash.trees;
        report.damaged = marks.damaged;
        drop(lock);
        for path in trees {
            if let Err(e) = tree::remove(&path, &self.dir("tmp")) {
                report.failed.push(format!("cannot remove {}: {e}", path.display()));
            }
        }
        Ok(report)
    }

    /// Counts and sizes of what is in the store.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let lock_path = self.dir("gc.lock");
        let _lock = lock::lock(&lock_path, Mode::Shared).context("lock", &lock_path)?;
        let mut usage = DiskUsage::default();
        let mut marks = Marks::new(self);
        marks.images()?;
        usage.damaged = std::mem::take(&mut marks.damaged);
        usage.images.count = marks.image_count;
        let mut with_cache = marks.clone();
        let records = self.cache_records()?;
        for record in &records {
            with_cache.record(record)?;
            usage.build_cache.add(record.size, true);
            let own = record.refs.iter().filter(|digest| !marks.blobs.contains(digest));
            let mut bytes = record.size + own.map(|digest| size_of(&self.blob_path(digest))).sum::<u64>();
            // A layer without an archive is its tree.
            if record.refs.is_empty() {
                for key in &record.snapshots {
                    let id = read_link(&self.dir("snapshots").join(file_name(key)))?;
                    bytes += id.map_or(0, |id| tree_size(&id.dir(&self.root)));
                }
            }
            usage.records.push(CacheUsage { key: name_of(&record.path), bytes, used: record.used });
        }
        for (digest, path) in self.all_blobs()? {
            let size = size_of(&path);
            if !marks.blobs.contains(&digest) && with_cache.blobs.contains(&digest) {
                usage.build_cache.bytes += size;
                usage.build_cache.reclaimable += size;
            } else {
                usage.images.bytes += size;
                usage.images.reclaimable += if marks.blobs.contains(&digest) { 0 } else { size };
            }
        }
        // A tree that was kept and then packed has two keys.
        let mut trees: BTreeMap<String, (TreeId, bool, bool)> = BTreeMap::new();
        for (key, id) in self.all_snapshots()? {
            let (_, is_images, is_caches) = trees.entry(id.to_string()).or_insert((id, false, false));
            *is_images |= marks.snapshots.contains(&key);
            *is_caches |= with_cache.snapshots.contains(&key);
        }
        for (id, is_images, is_caches) in trees.into_values() {
            let size = tree_size(&id.dir(&self.root));
            if !is_images && is_caches {
                usage.build_cache.bytes += size;
                usage.build_cache.reclaimable += size;
            } else {
                usage.snapshots.add(size, !is_images);
            }
        }
        for path in entries(&self.dir("ingest"))? {
            usage.partials.add(size_of(&path), true);
        }
        for path in entries(&self.dir("cachemounts"))? {
            usage.cache_mounts.add(walk_size(&path), true);
        }
        for volume in self.volumes()? {
            usage.volumes.add(self.volume_size(&volume), !volume.is_used);
        }
        Ok(usage)
    }

    /// All build cache records, the least recently used first. Damaged records count as empty and never used.
    fn cache_records(&self) -> Result<Vec<CacheRecord>> {
        let mut records = Vec::new();
        for path in entries(&self.dir("cache"))? {
            let (refs, snapshots, used) = match (cache::read_record(&path)?, path.metadata()) {
                (Some((head, _)), Ok(meta)) => (head.refs, head.snapshots, meta.modified().ok()),
                _ => (Vec::new(), Vec::new(), None),
            };
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            records.push(CacheRecord { size: size_of(&path), path, refs, snapshots, used });
        }
        records.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        Ok(records)
    }

    fn all_blobs(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let mut blobs = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            for path in entries(&self.dir("blobs").join(algorithm))? {
                if let Ok(digest) = format!("{algorithm}:{}", name_of(&path)).parse() {
                    blobs.push((digest, path));
                }
            }
        }
        Ok(blobs)
    }

    fn all_snapshots(&self) -> Result<Vec<(Digest, TreeId)>> {
        let mut snapshots = Vec::new();
        for path in entries(&self.dir("snapshots"))? {
            if let (Some(key), Some(id)) = (digest_of_file_name(&name_of(&path)), read_link(&path)?) {
                snapshots.push((key, id));
            }
        }
        Ok(snapshots)
    }
}

struct CacheRecord {
    path: PathBuf,
    size: u64,
    refs: Vec<Digest>,
    snapshots: Vec<Digest>,
    used: SystemTime,
}

/// What live processes use.
struct Live {
    leases: HashSet<String>,
    uses: Vec<Use>,
}

impl Live {
    fn find(root: &Path) -> Result<Live> {
        let (leases, uses) = lease::live(root)?;
        Ok(Live { leases, uses })
    }
}

/// What is kept.
#[derive(Clone)]
struct Marks<'a> {
    store: &'a Store,
    blobs: HashSet<Digest>,
    snapshots: HashSet<Digest>,
    trees: HashSet<String>,
    image_count: u64,
    damaged: Vec<String>,
    /// Bytes of everything marked.
    bytes: u64,
}

impl<'a> Marks<'a> {
    fn new(store: &'a Store) -> Marks<'a> {
        Marks {
            store,
            blobs: HashSet::new(),
            snapshots: HashSet::new(),
            trees: HashSet::new(),
            image_count: 0,
            damaged: Vec::new(),
            bytes: 0,
        }
    }

    /// Marks the content of images; false if a record could not be read, so that some content may not be
    /// marked.
    fn images(&mut self) -> Result<bool> {
        let (records, unreadable) = image::read_all(&self.store.dir("images"))?;
        for record in records {
            if let Some(index) = &record.index {
                self.blob(&index.digest)?;
            }
            for image in &record.images {
                self.image_count += 1;
                self.blob(&image.manifest.digest)?;
                if read_object(&self.store.blob_path(&image.manifest.digest))?.is_none() {
                    let (name, platform) = (record.reference.familiar(), &image.platform);
                    self.damaged.push(format!(
                        "image {name} for {platform} is damaged (no manifest {}): pull or build it again, or remove its name with \"crossdock rmi {name}\"",
                        image.manifest.digest
                    ));
                }
            }
        }
        for target in self.store.untagged_digests()? {
            self.image_count += 1;
            self.blob(&target)?;
        }
        self.damaged.extend(unreadable.iter().map(ToString::to_string));
        Ok(unreadable.is_empty())
    }

    fn leases(&mut self, uses: &[Use]) -> Result<()> {
        for one in uses {
            match one {
                Use::Blob(digest) => self.blob(digest)?,
                Use::Snapshot(key) => self.snapshot(key)?,
                Use::Tree(id) => {
                    self.trees.insert(id.to_string());
                }
            }
        }
        Ok(())
    }

    /// Marks what kept records refer to; returns the files of the records to remove.
    fn cache(
        &mut self,
        records: &[CacheRecord],
        options: &GcOptions,
        may_go: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<PathBuf>> {
        let mut garbage = Vec::new();
        let before = self.bytes;
        // The most recently used first: they have the first claim on the space.
        for record in records.iter().rev() {
            if !may_go(&name_of(&record.path)) {
                self.record(record)?;
                continue;
            }
            let age = record.used.elapsed().unwrap_or_default();
            if options.cache_unused_for.is_some_and(|limit| age >= limit) {
                garbage.push(record.path.clone());
                continue;
            }
            let Some(limit) = options.cache_bytes_max else {
                self.record(record)?;
                continue;
            };
            let mut with = self.clone();
            with.record(record)?;
            if with.bytes - before > limit {
                garbage.push(record.path.clone());
            } else {
                *self = with;
            }
        }
        Ok(garbage)
    }

    fn record(&mut self, record: &CacheRecord) -> Result<()> {
        self.bytes += record.size;
        for digest in &record.refs {
            self.blob(digest)?;
        }
        for key in &record.snapshots {
            self.snapshot(key)?;
        }
        Ok(())
    }

    /// Marks a blob and, if it is a manifest, index or configuration, what it points to.
    fn blob(&mut self, digest: &Digest) -> Result<()> {
        let mut pending = vec![digest.clone()];
        while let Some(digest) = pending.pop() {
            if !self.blobs.insert(digest.clone()) {
                continue;
            }
            let path = self.store.blob_path(&digest);
            let size = size_of(&path);
            self.bytes += size;
            if size <= MANIFEST_SIZE_MAX
                && let Some(document) = read_object(&path)?
            {
                let pointers = [document.get("config"), document.get("subject")].into_iter().flatten();
                let lists = [document.get("layers"), document.get("manifests")].into_iter().flatten();
                let descriptors = pointers.chain(lists.filter_map(Value::as_array).flatten());
                pending.extend(descriptors.filter_map(|d| digest_in(d.get("digest"))));
                let diff_ids =
                    document.get("rootfs").and_then(|r| r.get("diff_ids")).and_then(Value::as_array);
                let diff_ids: Vec<Digest> =
                    diff_ids.into_iter().flatten().filter_map(|d| digest_in(Some(d))).collect();
                for (i, diff_id) in diff_ids.iter().enumerate() {
                    self.snapshot(diff_id)?;
                    self.snapshot(&dependent_key(diff_id, &diff_ids[..i]))?;
                }
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, key: &Digest) -> Result<()> {
        if self.snapshots.insert(key.clone()) {
            let link = self.store.dir("snapshots").join(file_name(key));
            if let Some(id) = read_link(&link)?
                && id.is_whole(&self.store.root)
            {
                self.bytes += tree_size(&id.dir(&self.store.root));
                self.trees.insert(id.to_string());
            }
        }
        Ok(())
    }
}

fn digest_in(value: Option<&Value>) -> Option<Digest> {
    value?.as_str()?.parse().ok()
}

/// The JSON object in a blob; `None` if the blob is missing or something else.
fn read_object(path: &Path) -> Result<Option<Value>> {
    let mut file = match open_regular(path) {
        Ok((file, _)) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Ok(None);
        }
        Err(e) => return Err(StoreError::io("read", path, e)),
    };
    // Most small blobs are layers, as their first bytes show.
    let mut bytes = vec![0; 64];
    let length = file.read(&mut bytes).context("read", path)?;
    bytes.truncate(length);
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    file.read_to_end(&mut bytes).context("read", path)?;
    Ok(serde_json::from_slice(&bytes).ok())
}

/// Removes things, or only counts them.
struct Trash<'a> {
    store: &'a Store,
    report: &'a mut GcReport,
    dry_run: bool,
    /// Trees that were renamed, to be deleted without the lock.
    trees: Vec<PathBuf>,
}

impl Trash<'_> {
    fn file(&mut self, path: &Path, count: impl Fn(&mut GcReport) -> &mut u64) -> Result<()> {
        self.report.bytes += size_of(path);
        *count(self.report) += 1;
        if self.dry_run {
            return Ok(());
        }
        match fs::remove_file(path) {
            // Damage: a directory where a file should be.
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => self.tree(path),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
            _ => Ok(()),
        }
    }

    fn tree(&mut self, path: &Path) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let target = self.store.dir("tmp").join(format!("trash-{}", random_name()));
        match fs::rename(path, &target) {
            Ok(()) => self.trees.push(target),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("remove", path, e)),
        }
        Ok(())
    }

    fn blobs(&mut self, keep: &HashSet<Digest>) -> Result<()> {
        for (digest, path) in self.store.all_blobs()? {
            if !keep.contains(&digest) {
                self.file(&path, |r| &mut r.blobs)?;
            }
        }
        for path in entries(&self.store.dir("corrupt"))? {
            self.file(&path, |r| &mut r.blobs)?;
        }
        Ok(())
    }

    fn snapshots(&mut self, marks: &Marks<'_>) -> Result<()> {
        for (key, id) in self.store.all_snapshots()? {
            let keep = marks.snapshots.contains(&key) && id.is_whole(&self.store.root);
            if !keep && !self.dry_run {
                let link = self.store.dir("snapshots").join(file_name(&key));
                fs::remove_file(&link).context("remove", &link)?;
            }
        }
        // Marked trees are those under marked keys and those that a live process writes or reads.
        for path in entries(&self.store.dir("trees"))? {
            if !marks.trees.contains(&name_of(&path)) {
                self.report.snapshots += 1;
                self.report.bytes += tree_size(&path);
                self.tree(&path)?;
            }
        }
        Ok(())
    }

    fn partials(&mut self, age: Duration) -> Result<()> {
        for path in entries(&self.store.dir("ingest"))? {
            if age_of(&path) < age {
                continue;
            }
            if let Some(_lock) = lock::try_lock(&path, Mode::Exclusive).context("lock", &path)? {
                self.file(&path, |r| &mut r.partials)?;
            }
        }
        Ok(())
    }

    fn cache_mounts(&mut self, age: Duration) -> Result<()> {
        for path in entries(&self.store.dir("cachemounts"))? {
            let lock_path = path.join("lock");
            if age_of(&lock_path) < age {
                continue;
            }
            if let Some(_lock) = lock::try_lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)? {
                self.report.cache_mounts += 1;
                self.report.bytes += walk_size(&path);
                self.tree(&path)?;
            }
        }
        Ok(())
    }

    /// Collects files of dead processes, and trash that was never deleted.
    fn temporaries(&mut self, live: &Live) -> Result<()> {
        for path in entries(&self.store.dir("tmp"))? {
            let name = name_of(&path);
            if !live.leases.contains(owner_of_temporary(&name)) && !self.trees.contains(&path) {
                // What a command that was cut off has left may be large.
                let is_tree = path.is_dir() && !path.is_symlink();
                self.report.bytes += if is_tree { walk_size(&path) } else { size_of(&path) };
                self.trees.push(path);
            }
        }
        // Lock files of unpacking; those in use are locked.
        for path in entries(&self.store.dir("snapshots"))? {
            if path.extension().is_some_and(|e| e == "lock")
                && let Some(_lock) = lock::try_lock(&path, Mode::Exclusive).context("lock", &path)?
            {
                fs::remove_file(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).context("read", dir)?;
    read.map(|entry| Ok(entry.context("read", dir)?.path())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn size_of(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |m| m.len())
}

/// Time since the last change; the longest possible if that is not known.
fn age_of(path: &Path) -> Duration {
    let modified = path.metadata().and_then(|m| m.modified());
    modified.map_or(Duration::MAX, |time| time.elapsed().unwrap_or_default())
}

/// Bytes of a tree as recorded when it was made; counted if the record is missing.
fn tree_size(dir: &Path) -> u64 {
    read_regular(&dir.join("meta"), 64 * 1024)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<TreeMeta>(&bytes).ok())
        .map_or_else(|| walk_size(dir), |meta| meta.bytes)
}
