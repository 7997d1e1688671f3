//! Removal of directory trees that others filled.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::name::random_name;

/// Deepest directory. Each level of the current path is an open file here and in the walk that writes
/// archives.
pub(crate) const DEPTH_MAX: usize = 400;

/// Directories nested deeper than this are moved up before they are removed, so that neither stack nor
/// descriptors run out.
const MOVE_DEPTH: usize = 64;

/// Removes `path` and its content, including read-only directories. Directories nested too deeply are first
/// moved to `trash`, a directory on the same file system. A missing path is no error.
pub(crate) fn remove(path: &Path, trash: &Path) -> io::Result<()> {
    let mut queue = vec![path.to_path_buf()];
    while let Some(path) = queue.pop() {
        let dir = match open_dir(rustix::fs::CWD, path_name(&path)?.as_c_str()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => continue,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                fs::remove_file(&path)?;
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        empty(dir.as_fd(), 0, &mut |parent, name| {
            let target = trash.join(random_name());
            rustix::fs::renameat(parent, name, rustix::fs::CWD, &target)?;
            queue.push(target);
            Ok(())
        })?;
        match fs::remove_dir(&path) {
            // Another collection may have removed it.
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Removes the directory `name` of an open directory and its content.
pub(crate) fn remove_at(parent: BorrowedFd<'_>, name: &[u8], trash: &Path) -> io::Result<()> {
    let name = CString::new(name)?;
    let target = trash.join(random_name());
    match rustix::fs::renameat(parent, &name, rustix::fs::CWD, &target) {
        // A directory of a lower layer cannot be renamed in an overlay without redirect_dir (Linux,
        // Documentation/filesystems/overlayfs.rst).
        Err(rustix::io::Errno::XDEV) => remove_in_place(parent, &name, 0),
        other => {
            other?;
            remove(&target, trash)
        }
    }
}

/// Like [`remove_at`], without moving the directory first: a failure leaves part of it.
fn remove_in_place(parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("directories are nested deeper than {DEPTH_MAX}")));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // Reads all names first: removing while reading may skip some.
    let entries: Vec<_> = Dir::read_from(&dir)?.collect::<Result<_, _>>()?;
    for entry in entries {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(rustix::io::Errno::ISDIR) => remove_in_place(dir.as_fd(), name, depth + 1)?,
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn path_name(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Clamps the times of all files of a tree to `latest`, in seconds since 1970; for links, their own, not
/// their targets'.
pub(crate) fn clamp_times(root: &Path, latest: i64) -> io::Result<()> {
    let dir = open_dir(rustix::fs::CWD, path_name(root)?.as_c_str())?;
    clamp_below(dir.as_fd(), latest, 0)?;
    clamp(dir.as_fd(), c"", &rustix::fs::fstat(&dir)?, latest)
}

fn clamp_below(dir: BorrowedFd<'_>, latest: i64, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("directories are nested deeper than {DEPTH_MAX}")));
    }
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = rustix::fs::openat(dir, name, flags, Mode::empty())?;
            clamp_below(child.as_fd(), latest, depth + 1)?;
        }
        clamp(dir, name, &stat, latest)?;
    }
    Ok(())
}

fn clamp(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat, latest: i64) -> io::Result<()> {
    if stat.st_mtime < latest || (stat.st_mtime == latest && stat.st_mtime_nsec == 0) {
        return Ok(());
    }
    let time = Timespec { tv_sec: latest, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    if name.is_empty() {
        return Ok(rustix::fs::futimens(dir, &times)?);
    }
    match rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        // A whiteout: only the machine's root may touch devices, and the time of a whiteout means nothing.
        Err(Errno::PERM) if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice => Ok(()),
        other => Ok(other?),
    }
}

/// Opens a directory for reading and makes it writable for its owner if it is not readable.
fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        }
        other => other,
    }
}

type MoveUp<'a> = &'a mut dyn FnMut(BorrowedFd<'_>, &CStr) -> io::Result<()>;

fn empty(dir: BorrowedFd<'_>, depth: usize, move_up: MoveUp<'_>) -> io::Result<()> {
    let mut writable = false;
    let mut make_writable = || {
        let first = !std::mem::replace(&mut writable, true);
        first && rustix::fs::fchmod(dir, Mode::RWXU).is_ok()
    };
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_dir = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            other => other == FileType::Directory,
        };
        let mut act = || -> io::Result<()> {
            if !is_dir {
                return Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?);
            }
            if depth >= MOVE_DEPTH {
                return move_up(dir, name);
            }
            let child = open_dir(dir, name)?;
            empty(child.as_fd(), depth + 1, move_up)?;
            Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
        };
        match act() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && make_writable() => act()?,
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn removes_deep_and_read_only_trees() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let root = temp.path().join("tree");
        fs::create_dir(&root).expect("created");
        // Deeper than PATH_MAX allows in one name, as a RUN step can make it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut dir = rustix::fs::open(&root, flags, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&dir, "directory", Mode::RWXU).expect("created");
            dir = rustix::fs::openat(&dir, "directory", flags, Mode::empty()).expect("opened");
        }
        let locked = root.join("locked");
        fs::create_dir(&locked).expect("created");
        fs::write(locked.join("file"), "x").expect("written");
        std::os::unix::fs::symlink("/", locked.join("link")).expect("linked");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("changed");
        let trash = temp.path().join("trash");
        fs::create_dir(&trash).expect("created");
        remove(&root, &trash).expect("removed");
        assert!(!root.exists());
        assert_eq!(fs::read_dir(&trash).expect("read").count(), 0);
    }
}
