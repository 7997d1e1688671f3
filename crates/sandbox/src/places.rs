//! File systems that changes can be written to: where a store can be, and where one works instead.
//!
//! Sources: proc(5) on `mountinfo`, Documentation/filesystems/overlayfs.rst on upper file systems.

#![expect(clippy::disallowed_methods, reason = "directories of the host")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Failure, SandboxError};
use crate::mounts::unescape;
use crate::overlay::try_upper;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where the mount is.
    pub(crate) place: PathBuf,
    /// Name of the file system.
    pub(crate) kind: String,
}

/// The mounts of `mountinfo`.
fn mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let place = unescape(before.split(' ').nth(4)?);
        Some(Mount { place, kind: after.split(' ').next()?.to_string() })
    };
    text.lines().filter_map(mount).collect()
}

/// The mount that a path is on: the one with the longest path above it, and the last of equal ones.
pub(crate) fn of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let above = mounts(mountinfo).into_iter().filter(|mount| path.starts_with(&mount.place));
    above.max_by_key(|mount| mount.place.as_os_str().len())
}

/// Whether overlayfs is known to be unable to write changes to this kind of file system.
fn cannot_take_changes(kind: &str) -> bool {
    matches!(
        kind,
        "overlay" | "aufs" | "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "vfat" | "exfat" | "ntfs3" | "ramfs"
    ) || kind.starts_with("fuse")
}

/// Where a store works: a directory that was tried, or what to mount.
fn advice() -> String {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match working(&text) {
        Some(place) => format!("for example {}", place.join("crossdock").display()),
        None => {
            "a volume or a bind mount of the host (docker run -v crossdock:/store ... --root /store)".into()
        }
    }
}

/// Tries whether changes can be written to a directory, which must exist.
///
/// # Errors
///
/// [`Failure::Upper`] says where the store would work.
pub(crate) fn try_place(directory: &Path) -> Result<(), SandboxError> {
    try_upper(directory).map_err(|error| match error {
        SandboxError::Failure(failure) => explained(failure, directory).into(),
        other => other,
    })
}

/// Explains a failure on a file system that overlayfs cannot write to, and says where the store would work.
/// Inside a container that file system is overlayfs itself.
pub(crate) fn explained(failure: Failure, directory: &Path) -> Failure {
    let Failure::Step { errno: libc::EINVAL, .. } = failure else { return failure };
    let Some(mount) = fs::read_to_string("/proc/self/mountinfo")
        .ok()
        .and_then(|text| of(&text, directory))
        .filter(|mount| cannot_take_changes(&mount.kind))
    else {
        return failure;
    };
    Failure::Upper { upper: directory.display().to_string(), kind: mount.kind, place: advice() }
}

/// A directory to which changes can be written, disks before memory.
fn working(mountinfo: &str) -> Option<PathBuf> {
    const DISKS: [&str; 4] = ["ext4", "xfs", "btrfs", "zfs"];
    /// Directories for the machine and not for files of users.
    const SYSTEM: [&str; 6] = ["/proc", "/sys", "/dev", "/etc", "/boot", "/run"];
    let is_open = |mount: &&Mount| !SYSTEM.iter().any(|system| mount.place.starts_with(system));
    let all = mounts(mountinfo);
    let disks = all.iter().filter(|mount| DISKS.contains(&mount.kind.as_str())).filter(is_open);
    let memory = all.iter().filter(|mount| mount.kind == "tmpfs").filter(is_open);
    let shared = all.iter().filter(|mount| mount.place == Path::new("/dev/shm"));
    // Each trial is a mount, and a machine can have thousands of candidates.
    const TRIALS_MAX: usize = 16;
    let mut candidates = disks.chain(memory).chain(shared).take(TRIALS_MAX).map(|mount| mount.place.clone());
    candidates.find(|place| place.is_dir() && try_upper(place).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_path_is_the_nearest_and_latest() {
        let text = "1 0 0:1 / / rw - overlay overlay rw\n2 1 8:1 / /data rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            3 1 0:9 / /data/with\\040space rw - tmpfs t rw\n4 1 0:9 / /data rw - xfs x rw\nrubbish\n";
        let kind = |path: &str| of(text, Path::new(path)).expect("a mount").kind;
        assert_eq!(kind("/store"), "overlay");
        assert_eq!(kind("/data/store"), "xfs");
        assert_eq!(kind("/database"), "overlay");
        assert_eq!(kind("/data/with space/x"), "tmpfs");
        assert!(
            cannot_take_changes("overlay")
                && cannot_take_changes("fuse.sshfs")
                && !cannot_take_changes("ext4")
        );
    }
}
