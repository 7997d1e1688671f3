//! Blobs that were written without waiting for the disk, since they can be had again. A power loss may take
//! bytes of such a file and leave its name, so each carries a mark, and in a later boot it is compared with
//! its digest before anything else is done with it.
//!
//! The mark is in the file's inode, beside its length: the sticky bit, which means nothing else for a file
//! (inode(7)), and the boot in the nanoseconds of the time of its last change. A file system that does not
//! keep these has another boot there, and the blob is compared sooner.

use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::store::files::read_up_to;
use crate::store::tree_id::boot_id;

/// Mode of a new file that is marked, before the mask of the process: S_ISVTX, and what files have.
pub(crate) const MODE: u32 = STICKY | 0o666;
const STICKY: u32 = 0o1000;

/// The boot as nanoseconds.
fn boot() -> Option<u32> {
    Some(u32::from_str_radix(boot_id()?, 16).ok()? % 1_000_000_000)
}

/// Marks a whole file, which was made with [`MODE`], as one of this boot.
pub(crate) fn mark(file: &File) -> io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Zero is what a file system without nanoseconds has.
    let Some(boot) = boot().filter(|boot| *boot != 0) else { return Ok(()) };
    let time = SystemTime::UNIX_EPOCH + Duration::new(now.as_secs(), boot);
    file.set_times(FileTimes::new().set_modified(time))
}

/// Whether a file may have lost bytes: it was not waited for, in another boot.
pub(crate) fn is_doubtful(meta: &Metadata) -> bool {
    meta.mode() & STICKY != 0 && boot().is_none_or(|boot| boot == 0 || i64::from(boot) != meta.mtime_nsec())
}

/// Compares a file with its digest, and takes its mark away if it is whole. Gives whether it is.
pub(crate) fn settle(file: &File, meta: &Metadata, digest: &Digest) -> io::Result<bool> {
    let mut hasher = digest.hasher();
    hasher.update(&read_up_to(file, meta.len(), u64::MAX)?);
    if hasher.finish() != *digest {
        return Ok(false);
    }
    // What is read in a later boot than that of its writing is on the disk, and this costs nothing; the boot
    // may not be known, however. Without the right to change the file, it is compared each time.
    let permissions = Permissions::from_mode(meta.mode() & 0o777);
    let _ = file.sync_data().and_then(|()| file.set_permissions(permissions));
    Ok(true)
}
