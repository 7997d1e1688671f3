//! The root of a build step that writes files itself, even where user namespaces are forbidden.
//!
//! With user namespaces the root is an overlay. Without them nothing can be mounted: the directories and
//! symbolic links of the layers below, which decide where a path leads, are created in the directory for
//! changes, and the unchanged ones are removed at the end. The result is what overlayfs would have left: a
//! written file hides the one below, and a directory that got an entry was copied up.

#![expect(clippy::disallowed_methods, reason = "names in open directories of the store")]

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat,
    fgetxattr, linkat, mkdirat, open, openat, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{Doing, Failure, SandboxError};
use crate::overlay::{self, Upper, mount_layers};
use crate::{places, userns};

/// Deepest nesting of directories that is followed: each directory is open meanwhile. Paths have at most 4096
/// bytes, so no program reaches deeper directories.
const DEPTH_MAX: usize = 2048;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Layers as one tree, with changes going to the upper directory.
#[derive(Debug)]
pub struct Stack {
    root: OwnedFd,
    /// The entries created for the layers below, each directory before its content; empty for an overlay.
    made: Vec<(PathBuf, Stat)>,
}

impl Stack {
    /// Stacks `lower`, the lowest first, below `upper`.
    ///
    /// # Errors
    ///
    /// As [`overlay_fd`].
    pub fn new(lower: &[PathBuf], upper: &Upper) -> Result<Stack, SandboxError> {
        if userns::forbidden().is_none() {
            return Ok(Stack { root: overlay_fd(lower, Some(upper))?, made: Vec::new() });
        }
        let doing = || format!("make the directories of the layers below in {}", upper.upper.display());
        let open_path = |path: &Path| open(path, OFlags::RDONLY | DIRECTORY, Mode::empty());
        let root = open_path(&upper.upper).doing(doing)?;
        for layer in lower {
            let layer = open_path(layer).doing(|| format!("open {}", layer.display()))?;
            add(layer.as_fd(), root.as_fd(), Files::Hide, 0).doing(doing)?;
        }
        let mut made = Vec::new();
        list(root.as_fd(), Path::new(""), &mut made).doing(doing)?;
        Ok(Stack { root, made })
    }

    /// The root.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Call this when all changes are made: it removes everything that is not a change.
    pub fn finish(self) -> Result<(), SandboxError> {
        let doing = || "take away directories that did not change".to_string();
        // Check whether directories got or lost an entry before unchanged entries are removed.
        let mut left = Vec::new();
        for (path, before) in &self.made {
            match stat(&self.root, path) {
                Ok(now) if is_same(&now, before) => {
                    left.push((path, before, is_unchanged(&now, before), now))
                }
                // The entry was replaced or removed.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error).doing(doing),
            }
        }
        for (path, before, unchanged, now) in left.into_iter().rev() {
            let is_directory = FileType::from_raw_mode(now.st_mode) == FileType::Directory;
            let (parent, name) = within(&self.root, path).doing(doing)?;
            if unchanged {
                let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                match unlinkat(&parent, name, flags) {
                    Ok(()) => continue,
                    Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                    Err(error) => return Err(error).doing(doing),
                }
            }
            if is_directory {
                let time = if unchanged { before } else { &now };
                set_modified(&parent, name, time).doing(doing)?;
            }
        }
        Ok(())
    }
}

/// Whether both are the same file.
fn is_same(now: &Stat, before: &Stat) -> bool {
    (now.st_dev, now.st_ino, now.st_mode & 0o170_000)
        == (before.st_dev, before.st_ino, before.st_mode & 0o170_000)
}

/// Whether the file is unchanged.
fn is_unchanged(now: &Stat, before: &Stat) -> bool {
    let facts = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    facts(now) == facts(before)
}

/// Whether [`overlay_fd`] can stack several layers: not where user namespaces are forbidden.
pub fn can_stack() -> bool {
    userns::forbidden().is_none()
}

/// Fills an empty directory with what an overlay of `lower`, the lowest first, would show: new directories
/// and symbolic links, and hard links to files. For reading only: a write to a file changes the layer.
///
/// # Errors
///
/// The directory is on a different file system from a layer, or cannot be written to.
pub fn link_layers(lower: &[PathBuf], directory: &Path) -> Result<(), SandboxError> {
    let doing = || format!("link the files of {} layers in {}", lower.len(), directory.display());
    let root = open(directory, OFlags::RDONLY | DIRECTORY, Mode::empty()).doing(doing)?;
    for layer in lower {
        let layer = open(layer, OFlags::RDONLY | DIRECTORY, Mode::empty())
            .doing(|| format!("open {}", layer.display()))?;
        add(layer.as_fd(), root.as_fd(), Files::Link, 0).doing(doing)?;
    }
    Ok(())
}

/// What becomes of the files of a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    /// They are left out, but still hide what is below them.
    Hide,
    /// They become hard links.
    Link,
}

/// Creates the directories and links of `layer` in `upper`, over those that are there.
fn add(layer: BorrowedFd<'_>, upper: BorrowedFd<'_>, files: Files, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for name in names(layer)? {
        let name = OsStr::from_bytes(&name);
        let stat = statat(layer, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = openat(layer, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?;
                let there = statat(upper, name, AtFlags::SYMLINK_NOFOLLOW).ok();
                let merges = there.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
                    && !is_opaque(&below);
                if !merges {
                    remove(upper, name)?;
                    mkdirat(upper, name, Mode::from_raw_mode(0o700))?;
                }
                let above = openat(upper, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?;
                add(below.as_fd(), above.as_fd(), files, depth + 1)?;
                own(upper, name, &stat)?;
                chmodat(upper, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
                set_modified(&upper, name, &stat)?;
            }
            FileType::Symlink => {
                remove(upper, name)?;
                symlinkat(readlinkat(layer, name, Vec::new())?.as_c_str(), upper, name)?;
                own(upper, name, &stat)?;
                set_modified(&upper, name, &stat)?;
            }
            // The entry hides whatever is below it.
            kind => {
                remove(upper, name)?;
                let is_whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
                if files == Files::Link && !is_whiteout {
                    linkat(layer, name, upper, name, AtFlags::empty())?;
                }
            }
        }
    }
    Ok(())
}

/// Gives an entry the owner that it has in the layer, unless it has that owner already.
fn own(directory: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<(), Errno> {
    let here = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (here.st_uid, here.st_gid) == (stat.st_uid, stat.st_gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn set_modified(directory: &impl AsFd, name: &OsStr, stat: &Stat) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    };
    utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether a directory hides what is below it (overlayfs with `userxattr`).
fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 8];
    // By descriptor: the kernel might follow the name.
    fgetxattr(directory, "user.overlay.opaque", &mut value).is_ok_and(|n| &value[..n] == b"y")
}

/// Removes an entry that this module created, with its content.
fn remove(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return unlinkat(directory, name, AtFlags::empty());
    }
    chmodat(directory, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
    let inner = openat(directory, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?;
    for name in names(inner.as_fd())? {
        remove(inner.as_fd(), OsStr::from_bytes(&name))?;
    }
    unlinkat(directory, name, AtFlags::REMOVEDIR)
}

/// Lists everything below a directory, each directory before its content.
fn list(directory: BorrowedFd<'_>, path: &Path, all: &mut Vec<(PathBuf, Stat)>) -> Result<(), Errno> {
    for name in names(directory)? {
        let name = OsStr::from_bytes(&name);
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        all.push((path.join(name), stat));
        if is_directory {
            let inner = openat(directory, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?;
            list(inner.as_fd(), &path.join(name), all)?;
        }
    }
    Ok(())
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// The parent directory of a path of [`list`], opened name by name, and the last name of the path.
fn within<'p>(root: &OwnedFd, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Errno> {
    let mut directory = openat(root, ".", OFlags::RDONLY | DIRECTORY, Mode::empty())?;
    for part in path.parent().into_iter().flat_map(Path::iter) {
        directory = openat(&directory, part, OFlags::RDONLY | DIRECTORY, Mode::empty())?;
    }
    Ok((directory, path.file_name().expect("paths of a list have names")))
}

fn stat(root: &OwnedFd, path: &Path) -> Result<Stat, Errno> {
    let (directory, name) = within(root, path)?;
    statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Mounts `lower` (lowest first) and `upper` as one tree and returns the root of that detached mount.
///
/// Usable with `openat2` from any thread; gone when the descriptor is closed or the process ends. One lower
/// directory without `upper` gives a read-only bind of that directory, no lower directory a bind of `upper`.
/// Needs CAP_SYS_ADMIN in the user namespace ([`crate::userns::enter`]) and Linux 5.11.
pub fn overlay_fd(lower: &[PathBuf], upper: Option<&Upper>) -> Result<OwnedFd, SandboxError> {
    Ok(mount_overlay(lower, upper)?)
}

/// [`overlay_fd`] as on kernels before 6.5, for tests on later ones.
#[doc(hidden)]
pub fn overlay_fd_legacy(lower: &[PathBuf], upper: Option<&Upper>) -> Result<OwnedFd, SandboxError> {
    Ok(overlay::legacy(lower, upper)?)
}

pub(crate) fn mount_overlay(lower: &[PathBuf], upper: Option<&Upper>) -> Result<OwnedFd, Failure> {
    let lower = &different(lower)[..];
    if let Some(error) = userns::forbidden() {
        return single(lower, upper).unwrap_or_else(|| Err(Failure::Specification(error.to_string())));
    }
    mount_layers(lower, upper).map_err(|failure| match upper {
        Some(upper) => places::explained(failure, &upper.upper),
        None => failure,
    })
}

/// The layers without those that come again above: an image may have a layer twice, but the kernel refuses a
/// directory that is given twice (ELOOP). The upper copy hides everything in the lower one.
fn different(lower: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut kept: Vec<PathBuf> = lower.iter().rev().filter(|path| seen.insert(*path)).cloned().collect();
    kept.reverse();
    kept
}

/// [`overlay_fd`] without namespaces: one directory as it is.
fn single(lower: &[PathBuf], upper: Option<&Upper>) -> Option<Result<OwnedFd, Failure>> {
    let path = match (lower, upper) {
        ([only], None) => only,
        ([], Some(upper)) => &upper.upper,
        _ => return None,
    };
    let opened = open(path, OFlags::RDONLY | DIRECTORY, Mode::empty());
    Some(opened.failing(|| format!("open {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_comes_again_is_used_once_at_the_top() {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(different(&paths(&["/a", "/b", "/a", "/c", "/c"])), paths(&["/b", "/a", "/c"]));
        assert_eq!(different(&[]), [] as [PathBuf; 0]);
    }
}
