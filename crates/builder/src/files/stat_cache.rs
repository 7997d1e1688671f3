//! Remembered digests of context files, so that a rebuild reads only changed files.
//!
//! One file per context directory: a header, records sorted by path, and a SHA-256 of both. A damaged file
//! counts as empty. A digest is valid while device, inode, size, mtime and ctime stay the same. Programs
//! cannot set the ctime, so a changed file always differs, except for changes within one tick of the file
//! system's clock after the hashing. To exclude those, files younger than [`TICK`] are not remembered.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossdock_oci::Digest;
use rustix::fs::Stat;

const HEADER: &[u8] = b"crossdock stat cache 2\n";

/// Clock granularity of file systems with coarse times (a kernel tick is at most 10 ms), with a margin.
const TICK: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

impl Identity {
    fn of(stat: &Stat) -> Identity {
        let ns =
            |seconds: i64, nanoseconds: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// How the names of unfinished caches begin.
const UNFINISHED: &str = ".tmp-";

/// Digests by path.
type Digests = HashMap<Vec<u8>, (Identity, [u8; 32])>;

/// The remembered digests of one context.
pub struct StatCache {
    path: PathBuf,
    known: Digests,
    fresh: Mutex<Digests>,
}

impl StatCache {
    /// The cache for the context at `context`, in `directory`; empty if there is none yet.
    pub fn open(directory: &Path, context: &Path) -> StatCache {
        let name = Digest::of(context.as_os_str().as_encoded_bytes());
        let path = directory.join(name.hex());
        let known = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        StatCache { path, known, fresh: Mutex::default() }
    }

    /// The digest of the file at `path`, if known and if `stat` shows that the file has not changed.
    pub fn get(&self, path: &[u8], stat: &Stat) -> Option<[u8; 32]> {
        let identity = Identity::of(stat);
        if let Some((known, digest)) = self.known.get(path)
            && *known == identity
        {
            return Some(*digest);
        }
        let fresh = self.fresh.lock().expect("no thread panics while holding it");
        fresh.get(path).filter(|(known, _)| *known == identity).map(|(_, digest)| *digest)
    }

    /// Remembers the digest of content that was read after `stat`, unless the file is too young.
    pub fn put(&self, path: &[u8], stat: &Stat, digest: [u8; 32]) {
        let identity = Identity::of(stat);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if identity.ctime_ns + TICK.as_nanos() as i128 > now.as_nanos() as i128 {
            return;
        }
        let mut fresh = self.fresh.lock().expect("no thread panics while holding it");
        fresh.insert(path.to_vec(), (identity, digest));
    }

    /// Writes the cache if there are new digests.
    pub fn save(&self) -> io::Result<()> {
        let fresh = self.fresh.lock().expect("no thread panics while holding it");
        if fresh.is_empty() {
            return Ok(());
        }
        let mut all = self.known.clone();
        all.extend(fresh.iter().map(|(path, value)| (path.clone(), *value)));
        let directory = self.path.parent().expect("has a directory");
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
        file.write_all(&encode(&all))?;
        // No sync: a torn file fails its checksum and counts as empty.
        file.persist(&self.path).map_err(|e| e.error)?;
        Ok(())
    }
}

/// A cache that is still unfinished after this time belongs to a process that was killed.
const UNFINISHED_MAX: Duration = Duration::from_secs(86_400);

/// Removes the caches in `directory` that were not written for `unused_for` (without it, none), and
/// unfinished caches of killed processes. A build that loses its cache reads its files again.
pub fn prune(directory: &Path, unused_for: Option<Duration>) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let is_unfinished = entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        let limit = unused_for.or(is_unfinished.then_some(UNFINISHED_MAX));
        // Another process may have removed the file, or renamed it when finished.
        let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        if limit.is_some_and(|limit| written.elapsed().unwrap_or_default() >= limit) {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn encode(all: &Digests) -> Vec<u8> {
    let mut paths: Vec<&Vec<u8>> = all.keys().collect();
    paths.sort_unstable();
    let mut bytes = HEADER.to_vec();
    for path in paths {
        let (identity, digest) = &all[path];
        bytes.extend((path.len() as u32).to_le_bytes());
        bytes.extend(path);
        bytes.extend(identity.device.to_le_bytes());
        bytes.extend(identity.inode.to_le_bytes());
        bytes.extend(identity.size.to_le_bytes());
        bytes.extend(identity.mtime_ns.to_le_bytes());
        bytes.extend(identity.ctime_ns.to_le_bytes());
        bytes.extend(digest);
    }
    let sum = Digest::of(&bytes);
    bytes.extend(sum.hex().as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Digests> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(64)?)?;
    if Digest::of(body).hex().as_bytes() != sum {
        return None;
    }
    let mut rest = body.strip_prefix(HEADER)?;
    let mut all = HashMap::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        let path = rest.split_off(..length)?;
        let identity = Identity {
            device: u64::from_le_bytes(take(&mut rest)?),
            inode: u64::from_le_bytes(take(&mut rest)?),
            size: u64::from_le_bytes(take(&mut rest)?),
            mtime_ns: i128::from_le_bytes(take(&mut rest)?),
            ctime_ns: i128::from_le_bytes(take(&mut rest)?),
        };
        all.insert(path.to_vec(), (identity, take(&mut rest)?));
    }
    Some(all)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    rest.split_off(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_unfinished_caches_go() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, age: Duration| {
            let file = std::fs::File::create(directory.path().join(name)).expect("created");
            file.set_modified(SystemTime::now() - age).expect("an open file");
        };
        let names = || {
            let entries = std::fs::read_dir(directory.path()).expect("readable").flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        let hour = Duration::from_secs(3600);
        write(".tmp-killed", 48 * hour);
        write(".tmp-running", Duration::ZERO);
        write("0123", 48 * hour);
        write("4567", 2 * hour);
        prune(directory.path(), None).expect("pruned");
        assert_eq!(names(), [".tmp-running", "0123", "4567"]);
        prune(directory.path(), Some(24 * hour)).expect("pruned");
        assert_eq!(names(), [".tmp-running", "4567"]);
        prune(directory.path(), Some(Duration::ZERO)).expect("pruned");
        assert_eq!(names(), [""; 0]);
        prune(&directory.path().join("none"), None).expect("nothing to do");
    }

    #[test]
    fn remembers_until_the_file_changes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("f");
        std::fs::write(&file, "1").expect("writable");
        let mut stat = rustix::fs::stat(&file).expect("there");
        let cache = StatCache::open(&directory.path().join("cache"), directory.path());
        cache.put(b"f", &stat, [1; 32]);
        assert_eq!(cache.get(b"f", &stat), None, "the file is too young");
        stat.st_ctime -= 60;
        cache.put(b"f", &stat, [1; 32]);
        cache.save().expect("writable");
        let cache = StatCache::open(&directory.path().join("cache"), directory.path());
        assert_eq!(cache.get(b"f", &stat), Some([1; 32]));
        stat.st_ctime_nsec += 1;
        assert_eq!(cache.get(b"f", &stat), None);
    }

    #[test]
    fn a_damaged_file_is_empty() {
        let identity = Identity { device: 1, inode: 2, size: 3, mtime_ns: 4, ctime_ns: 5 };
        let bytes = encode(&HashMap::from([(b"a".to_vec(), (identity, [7; 32]))]));
        assert_eq!(decode(&bytes).expect("whole").len(), 1);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none(), "cut at {end}");
        }
        let mut flipped = bytes.clone();
        flipped[HEADER.len() + 2] ^= 1;
        assert!(decode(&flipped).is_none());
    }
}
