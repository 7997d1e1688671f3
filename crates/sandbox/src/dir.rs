//! Directories whose content belongs to an image or to a command, reached through descriptors only.
//!
//! Never give the kernel a path into such a tree as a path of this process: links of the tree could lead to
//! the host. [`Dir`] is the only way in; the lint in this crate's `clippy.toml` refuses all others. Sources:
//! openat2(2), open_tree(2), move_mount(2).

#![expect(clippy::disallowed_methods, reason = "here they are given single names or openat2's rules")]

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, mkdirat, mknodat, openat, openat2, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// A directory, and what is below it. No name leads outside.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Dir {
        Dir(fd)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Identity of a file: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity in a file's metadata.
    pub fn of(stat: &Stat) -> FileId {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// Why a file of a tree is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The kernel refuses it.
    #[error("{}", std::io::Error::from(*.0))]
    Errno(Errno),
    /// A directory, device, FIFO or socket.
    #[error("it is {0}, not a regular file")]
    Kind(&'static str),
    /// It is larger than the limit.
    #[error("it is larger than {0} bytes")]
    Size(u64),
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> ReadError {
        ReadError::Errno(errno)
    }
}

impl Dir {
    /// Opens a path. Links are followed as the command sees them: their root is this directory
    /// (`RESOLVE_IN_ROOT`).
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.as_ref().as_os_str().as_bytes();
        // An absolute path begins at this directory, too, even one of slashes only.
        resolve(&self.0, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Opens a relative path that has no links: ELOOP if it has one, EXDEV if it leads outside.
    pub fn open_real(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.as_ref().as_os_str().as_bytes();
        resolve(&self.0, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    /// The directory at a relative path that has no links.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Dir, Errno> {
        self.open_real(path, OFlags::PATH | OFlags::DIRECTORY).map(Dir)
    }

    /// Creates a directory, mode 0755.
    pub fn make_dir(&self, name: &OsStr) -> Result<(), Errno> {
        mkdirat(&self.0, single(name)?, Mode::from_raw_mode(0o755))
    }

    /// Creates an empty file, which must not exist, and opens it for writing.
    pub fn make_file(&self, name: &OsStr, mode: u32) -> Result<OwnedFd, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.0, single(name)?, flags, Mode::from_raw_mode(mode))
    }

    /// Creates a symbolic link.
    pub fn make_link(&self, name: &str, to: &str) -> Result<(), Errno> {
        symlinkat(to, &self.0, single(OsStr::new(name))?)
    }

    /// Creates a directory or an empty file, for a mount.
    pub fn make_place(&self, name: &OsStr, directory: bool) -> Result<(), Errno> {
        if directory { self.make_dir(name) } else { self.make_file(name, 0o644).map(drop) }
    }

    /// Creates a whiteout of an overlay: a character device 0/0.
    pub fn make_whiteout(&self, name: &OsStr) -> Result<(), Errno> {
        mknodat(&self.0, single(name)?, FileType::CharacterDevice, Mode::empty(), 0)
    }

    /// Metadata of an entry; links are not followed.
    pub fn stat(&self, name: &OsStr) -> Result<Stat, Errno> {
        statat(&self.0, single(name)?, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Removes an entry.
    pub fn remove(&self, name: &OsStr, directory: bool) -> Result<(), Errno> {
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&self.0, single(name)?, flags)
    }

    /// The text of a regular file of at most `size_max` bytes; `None` if there is no such file. The image may
    /// be hostile, so devices, FIFOs and larger files are refused.
    pub fn read_text(&self, path: &str, size_max: u64) -> Result<Option<String>, ReadError> {
        // First without opening it for reading: that alone has an effect on a device or a FIFO.
        let found = match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            other => other?,
        };
        regular(&found)?;
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        // A process that shares the tree may have replaced the file meanwhile.
        regular(&file)?;
        let mut bytes = Vec::new();
        let read = std::fs::File::from(file).take(size_max + 1).read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if bytes.len() as u64 > size_max {
            return Err(ReadError::Size(size_max));
        }
        // Names of people in the text may have any encoding; names that programs use are ASCII.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A detached copy of a mount, from an open file or directory of it downwards.
pub fn clone_mount(file: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(file, "", flags)
}

/// Attaches a detached mount to the file or directory that `place` is open on.
pub fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// The metadata of a regular file; for any other file, its kind as an error.
fn regular(file: &OwnedFd) -> Result<Stat, ReadError> {
    let stat = fstat(file)?;
    Err(ReadError::Kind(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(stat),
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }))
}

fn resolve(root: &OwnedFd, path: &[u8], flags: OFlags, rules: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    // A process that renames without end must not hold us forever.
    for _ in 0..1000 {
        // EAGAIN: something was renamed during the walk, see openat2(2).
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), rules) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Refuses everything but a single name, which cannot lead elsewhere.
fn single(name: &OsStr) -> Result<&OsStr, Errno> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        _ => Ok(name),
    }
}
