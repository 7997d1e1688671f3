//! What the store holds, and what goes: `buildx du` and `buildx prune` (BuildKit, docs/build-cache-gc.md).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{DiskUsageRequest, PruneRequest, UsageRecord};
use crossdock_oci::Store;
use crossdock_oci::store::{GcOptions, Keep};

use crate::filters::Filters;
use crate::session::kept_directory;

/// The record of all cache mounts.
const CACHE_MOUNTS: &str = "cache-mounts";
/// The kind of directories with files of clients.
const LOCAL: &str = "source.local";

/// The id of a directory with files of a client.
fn id_of(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(Timestamp { seconds: i64::try_from(seconds).ok()?, nanos: 0 })
}

fn record(id: &str, kind: &str, description: &str, bytes: u64, used: SystemTime) -> UsageRecord {
    UsageRecord {
        id: id.to_string(),
        mutable: kind != "regular",
        size: i64::try_from(bytes).unwrap_or(i64::MAX),
        created_at: timestamp(used),
        last_used_at: timestamp(used),
        usage_count: 1,
        description: description.to_string(),
        record_type: kind.to_string(),
        ..UsageRecord::default()
    }
}

/// What the store holds and the client's filters take.
///
/// # Errors
///
/// A filter cannot be read, or the store.
pub fn listed(store: &Store, request: &DiskUsageRequest) -> Result<Vec<UsageRecord>> {
    let filters = Filters::parse(&request.filter)?;
    let mut all = records(store)?;
    all.retain(|record| filters.take(record));
    Ok(all)
}

/// A duration of a request, in whole seconds.
fn duration(nanoseconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0))
}

/// Everything that the store holds, in BuildKit's kinds.
///
/// # Errors
///
/// The store cannot be read.
fn records(store: &Store) -> Result<Vec<UsageRecord>> {
    let usage = store.disk_usage()?;
    let mut all = Vec::new();
    for one in &usage.records {
        all.push(record(&one.key, "regular", "result of a step", one.bytes, one.used));
    }
    let now = SystemTime::now();
    for (id, kind, description, bytes) in [
        (CACHE_MOUNTS, "exec.cachemount", "cache mounts of RUN", usage.cache_mounts.bytes),
        // Layers of images are not of the cache.
        ("layers", "regular", "unpacked layers that no image has", usage.snapshots.reclaimable),
    ] {
        if bytes > 0 {
            all.push(record(id, kind, description, bytes, now));
        }
    }
    for (path, bytes, used) in contexts(store)? {
        all.push(record(&id_of(&path), LOCAL, "local source of a client", bytes, used));
    }
    Ok(all)
}

/// Directories with files of clients: their sizes, and when they were used.
fn contexts(store: &Store) -> Result<Vec<(std::path::PathBuf, u64, SystemTime)>> {
    let directory = kept_directory(store);
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(error).with_context(|| format!("read {}", directory.display())),
    };
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", directory.display()))?.path();
        // It may go meanwhile.
        let used = path.join("lock").metadata().and_then(|lock| lock.modified()).unwrap_or(UNIX_EPOCH);
        all.push((path.clone(), size(&path), used));
    }
    Ok(all)
}

fn size(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}

/// Removes what a client wants to be removed; returns what has gone.
///
/// # Errors
///
/// A filter cannot be read; the store cannot be read or written.
pub fn prune(store: &Store, request: &PruneRequest) -> Result<Vec<UsageRecord>> {
    let filters = Filters::parse(&request.filter)?;
    let age = duration(request.keep_duration);
    let given = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    let keep = Keep {
        reserved_space: given(request.reserved_space),
        max_used_space: given(request.max_used_space),
        min_free_space: given(request.min_free_space),
    };
    let keep = keep.bytes(store)?;
    let before: Vec<UsageRecord> = records(store)?.into_iter().filter(|one| filters.take(one)).collect();
    let ids: BTreeSet<&str> = before.iter().map(|one| one.id.as_str()).collect();
    let may_go = |id: &str| filters.take_all() || ids.contains(id);
    // Who asks for cache mounts by a filter need not say that everything may go.
    let has_mounts = request.all && may_go(CACHE_MOUNTS) || !filters.take_all() && ids.contains(CACHE_MOUNTS);
    let options = GcOptions {
        // With a size to keep, age alone removes nothing.
        cache_unused_for: Some(age).filter(|_| !age.is_zero() || keep.is_none()),
        cache_bytes_max: keep,
        cache_mounts_unused_for: Some(age).filter(|_| has_mounts),
        ..GcOptions::default()
    };
    // Content that nothing refers to goes with whatever else goes.
    if filters.take_all() || before.iter().any(|one| one.record_type != LOCAL) {
        store.gc_among(&options, &may_go)?;
    }
    if keep.is_none() {
        for (path, _, used) in contexts(store)? {
            let is_old = used.elapsed().is_ok_and(|unused| unused >= age);
            if is_old && may_go(&id_of(&path)) && is_free(&path) {
                // A build may have taken it just now; then the rest goes next time.
                let _ = std::fs::remove_dir_all(&path);
            }
        }
    }
    let after = records(store)?;
    let mut gone = Vec::new();
    for mut one in before {
        match after.iter().find(|other| other.id == one.id) {
            Some(other) if other.size < one.size => {
                one.size -= other.size;
                gone.push(one);
            }
            Some(_) => {}
            None => gone.push(one),
        }
    }
    Ok(gone)
}

/// Whether no build uses a directory with files of a client.
fn is_free(directory: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(directory.join("lock")) else { return false };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}
