//! flock on files that may be deleted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::is_read_only;

/// How to lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// Opens or creates `path` and locks it; waits for others. The lock ends when the file is closed.
///
/// A holder may unlink the file before it lets go: the lock counts only while the path still names the locked
/// inode.
pub(crate) fn lock(path: &Path, mode: Mode) -> io::Result<File> {
    loop {
        let file = match open(path) {
            // A reader can lock without the right to write.
            Err(e) if mode == Mode::Shared && is_read_only(&e) => File::open(path)?,
            other => other?,
        };
        match mode {
            Mode::Shared => file.lock_shared()?,
            Mode::Exclusive => file.lock()?,
        }
        if still_named(&file, path)? {
            return Ok(file);
        }
    }
}

/// Like [`lock`], without waiting: `None` if another holds the lock.
pub(crate) fn try_lock(path: &Path, mode: Mode) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        let result = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        match result {
            Ok(()) if still_named(&file, path)? => return Ok(Some(file)),
            Ok(()) => continue,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn still_named(file: &File, path: &Path) -> io::Result<bool> {
    let mine = file.metadata()?;
    match path.symlink_metadata() {
        Ok(now) => Ok((now.dev(), now.ino()) == (mine.dev(), mine.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
