//! The few paths of the host that crossdock, the monitor and pid 1 use, while the host's root is still their
//! root. They are constants that no image can influence, but for the folder of translations, which the caller
//! names.

#![expect(
    clippy::disallowed_methods,
    reason = "paths of the host, and \".\" of a root that was entered by descriptor"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::pivot_root;

use crate::dir::FileId;
use crate::mounts::mount_id;

/// Separates the mounts of this namespace from those of all others.
pub fn make_mounts_private() -> Result<(), Errno> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// `/proc`, as a place to mount over: a directory that exists everywhere.
pub fn proc() -> Result<OwnedFd, Errno> {
    openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A device in `/dev`, not opened for use.
pub fn device(name: &str) -> Result<OwnedFd, Errno> {
    openat(CWD, format!("/dev/{name}"), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the working directory, which must be the root of a mount, the root directory. The old root is then
/// on top of it.
pub fn pivot_here() -> Result<(), Errno> {
    // With both arguments the same, the old root ends on top of the new one, from where it is detached.
    // pivot_root(2)
    pivot_root(".", ".")
}

/// Number of the topmost mount on the root directory, where ".." of the root leads.
pub fn mount_above() -> Result<u64, Errno> {
    mount_id(openat(CWD, "..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.as_fd())
}

/// Detaches the topmost mount on the root directory.
pub fn detach_above() -> Result<(), Errno> {
    unmount(".", UnmountFlags::DETACH)
}

/// Whether a signal has its default action in a process, which then neither catches, ignores nor blocks it.
/// `pid` is of this namespace; `false` if the process is gone.
pub fn takes_default_action(pid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    match (mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:")) {
        (Some(blocked), Some(ignored), Some(caught)) => {
            (blocked | ignored | caught) & (1 << (signal - 1)) == 0
        }
        _ => false,
    }
}

/// The path of this executable, if the file there is still the one that is running. (A link in `/proc` cannot
/// be bound: its file is on a mount of the namespace in which the program was started.)
pub fn own_executable() -> Option<PathBuf> {
    let path = std::fs::read_link(OWN).ok()?;
    let is = |path: &Path| rustix::fs::stat(path).ok().map(|stat| FileId::of(&stat));
    (is(&path)? == is(Path::new(OWN))?).then_some(path)
}

/// A copy of this executable in memory that nobody can write to.
pub fn copy_of_executable() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = std::fs::File::from(memfd_create("crossdock", flags)?);
    io::copy(&mut std::fs::File::open(OWN)?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // A file that is open for writing cannot be executed.
    Ok(std::fs::File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}

const OWN: &str = "/proc/self/exe";

/// Whether a folder is there.
pub fn is_folder(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Makes a folder that everybody may read, unless it is there.
pub fn make_folder(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}
