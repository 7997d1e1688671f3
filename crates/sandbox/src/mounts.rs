//! Detached mounts of the host's directories, and the kernel's facts about mounts.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;

use crate::dir::clone_mount;
use crate::error::{Doing, Failure};
use crate::sys;

/// A detached copy of the mount at a path of the host, with the mounts below it when `recursive`. A path that
/// an image or a command can change is opened through [`crate::dir::Dir`] instead.
#[expect(clippy::disallowed_methods, reason = "a path of the host")]
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let doing = || format!("bind {}", path.display());
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).failing(doing)?;
    clone_mount(file.as_fd(), recursive).failing(doing)
}

/// Makes a detached mount read-only, with those below it when `recursive`.
pub(crate) fn set_read_only(mount: BorrowedFd<'_>, recursive: bool) -> Result<(), Failure> {
    sys::mount_set_attributes(mount, libc::MOUNT_ATTR_RDONLY, recursive)
        .failing(|| "make a mount read-only (needs Linux 5.12)".into())
}

/// Makes device files on a detached mount useless.
pub(crate) fn set_no_devices(mount: BorrowedFd<'_>) -> Result<(), Failure> {
    sys::mount_set_attributes(mount, libc::MOUNT_ATTR_NODEV, false)
        .failing(|| "make device files useless (needs Linux 5.12)".into())
}

/// Makes a detached mount refuse what attributes (`MOUNT_ATTR_...`) say, with those below it when
/// `recursive`.
pub(crate) fn restrict(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> Result<(), Failure> {
    sys::mount_set_attributes(mount, attributes, recursive)
        .failing(|| "restrict a mount (needs Linux 5.12)".into())
}

/// Number of the mount that a path is on (Linux 5.8).
pub(crate) fn mount_id(mount: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(statx(mount, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// Decodes a path of mountinfo, where blanks and the like are `\ooo`.
pub(crate) fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}
