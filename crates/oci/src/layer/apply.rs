//! Applying a tar archive to a directory, in overlay form where wanted.
//!
//! The archive is hostile until proven otherwise. No path is ever handed to the kernel for resolution: every
//! component is opened with `O_NOFOLLOW` below a directory that is already open, `..` never leaves the top,
//! and symbolic links among the parents are resolved here, inside the tree. Nobody else works in the tree
//! meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{LayerProblem, Result as StoreResult, free_space, is_full};
use crate::layer::limit::UnpackLimit;
use crate::layer::owners::Owners;
use crate::layer::read::{Entry, Kind, Reader, TarError};
use crate::layer::tree::{self, DEPTH_MAX};
use crate::layer::whiteout::{OPAQUE, WHITEOUT, WHITEOUT_OPAQUE, is_image_xattr, is_opaque, is_whiteout};

/// Longest name of an entry, in bytes; the kernel's `PATH_MAX`.
const PATH_SIZE_MAX: usize = 4096;
/// Longest component of a name, in bytes; the kernel's `NAME_MAX`.
const NAME_SIZE_MAX: usize = 255;

/// Symbolic links followed for one name, as in the kernel.
const LINKS_MAX: usize = 40;

/// How to apply an archive.
pub(crate) struct ApplyOptions<'a> {
    /// Translate `.wh.` names to overlay's whiteouts.
    pub whiteouts: bool,
    pub owners: Owners,
    /// The trees below, the lowest first; called only for an archive that cannot be applied without them.
    pub lower: &'a dyn Fn() -> StoreResult<Vec<PathBuf>>,
    /// A directory on the same file system for [`tree::remove`].
    pub trash: &'a Path,
    /// Counts the holes of sparse files, which cost nothing here but their whole length when copied.
    pub limit: &'a UnpackLimit,
}

/// Archives with more entries than this are refused: each entry may take an inode.
const ENTRIES_MAX: u64 = 10_000_000;
/// Total length, in bytes, of the directory names remembered to the end of an archive: all names of one
/// archive may not fit into memory.
const DIRECTORY_NAMES_MAX: usize = 256 * 1024 * 1024;

/// What applying an archive did.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Bytes of regular files.
    pub bytes: u64,
    pub entries: u64,
    /// Entries and attributes that could not be created, in words.
    pub warnings: Vec<String>,
    /// Whether the result depends on the trees below.
    pub dependent: bool,
}

/// Failure of one archive.
#[derive(Debug)]
pub(crate) enum ApplyError {
    Problem(LayerProblem),
    /// From [`ApplyOptions::lower`].
    Lower(crate::error::StoreError),
}

/// Reads the archive to its end and creates its entries below `target`, an existing directory.
pub(crate) fn apply(
    archive: impl BufRead,
    target: &Path,
    options: &ApplyOptions<'_>,
) -> Result<Applied, ApplyError> {
    let mut reader = Reader::new(archive);
    let mut applier = Applier::new(target, options).map_err(|fault| problem(fault, b"/", target))?;
    loop {
        let entry = match reader.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(e) => return Err(problem(Fault::Tar(e), &applier.last, target).at(reader.entries)),
        };
        applier.last.clone_from(&entry.path);
        if reader.entries > ENTRIES_MAX {
            let fault = Fault::Refused(format!("more than {ENTRIES_MAX} entries"));
            return Err(problem(fault, &entry.path, target));
        }
        applier
            .entry(&entry, &mut reader)
            .map_err(|fault| problem(fault, &entry.path, target).at(reader.entries))?;
    }
    applier.result.entries = reader.entries;
    // Bytes after the end belong to the digest, too.
    drain(reader.into_inner()).map_err(|e| ApplyError::Problem(LayerProblem::Read(e)))?;
    applier.finish().map_err(|fault| problem(fault, b"/", target))
}

/// Reads the archive to its end and creates nothing: refuses what [`apply`] refuses for the archive's form
/// and the names in it.
pub(crate) fn check(archive: impl BufRead) -> Result<(), ApplyError> {
    let mut reader = Reader::new(archive);
    let mut last = Vec::new();
    let nowhere = Path::new("");
    loop {
        let entry = match reader.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(e) => return Err(problem(Fault::Tar(e), &last, nowhere).at(reader.entries)),
        };
        last.clone_from(&entry.path);
        let checked = match reader.entries > ENTRIES_MAX {
            true => refused(format!("more than {ENTRIES_MAX} entries")),
            false => check_names(&entry),
        };
        checked.map_err(|fault| problem(fault, &last, nowhere))?;
    }
    drain(reader.into_inner()).map_err(|e| ApplyError::Problem(LayerProblem::Read(e)))
}

fn check_names(entry: &Entry) -> Outcome {
    let components = clean(&entry.path)?;
    if let Some((_, parents)) = components.split_last()
        && parents.iter().any(|c| c.starts_with(WHITEOUT))
    {
        return refused("a directory's name begins with .wh., which is kept for deletions");
    }
    if entry.kind == Kind::HardLink && clean(&entry.link)?.is_empty() {
        return refused("a hard link to the top directory");
    }
    Ok(())
}

fn drain(mut stream: impl BufRead) -> io::Result<()> {
    loop {
        match stream.fill_buf()?.len() {
            0 => return Ok(()),
            n => stream.consume(n),
        }
    }
}

/// Why an entry could not be made.
enum Fault {
    Refused(String),
    Io(&'static str, io::Error),
    Tar(TarError),
    Lower(crate::error::StoreError),
}

type Outcome<T = ()> = Result<T, Fault>;

fn refused<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Fault::Refused(reason.into()))
}

trait To<T> {
    fn to(self, action: &'static str) -> Outcome<T>;
}

impl<T, E: Into<io::Error>> To<T> for Result<T, E> {
    fn to(self, action: &'static str) -> Outcome<T> {
        self.map_err(|e| Fault::Io(action, e.into()))
    }
}

impl From<TarError> for Fault {
    fn from(e: TarError) -> Fault {
        Fault::Tar(e)
    }
}

fn problem(fault: Fault, entry: &[u8], target: &Path) -> ApplyError {
    let entry = printable(entry);
    ApplyError::Problem(match fault {
        Fault::Refused(reason) => LayerProblem::Entry { entry, reason },
        Fault::Io(_, e) if is_full(&e) => {
            LayerProblem::NoSpace { entry, path: target.to_path_buf(), free: free_space(target) }
        }
        Fault::Io(action, source) => LayerProblem::Io { entry, action, source },
        Fault::Tar(TarError::Io(e)) => LayerProblem::Read(e),
        Fault::Tar(TarError::Bad(reason)) => LayerProblem::Tar { entries: 0, reason },
        Fault::Lower(e) => return ApplyError::Lower(e),
    })
}

impl ApplyError {
    fn at(mut self, count: u64) -> ApplyError {
        if let ApplyError::Problem(LayerProblem::Tar { entries, .. }) = &mut self {
            *entries = count;
        }
        self
    }
}

/// A name as messages show it: no control characters, not too long.
pub(crate) fn printable(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).escape_debug().take(300).collect();
    text
}

/// Mode and time that a directory gets once its content is complete.
#[derive(Clone, Copy)]
struct DirectoryEnd {
    mode: u32,
    mtime: (i64, u32),
}

struct Applier<'a> {
    options: &'a ApplyOptions<'a>,
    root: OwnedFd,
    /// Real directories from the top to the one entered last, each open.
    stack: Vec<(Vec<u8>, OwnedFd)>,
    directories: BTreeMap<Vec<u8>, DirectoryEnd>,
    /// Bytes of all names put into `directories`.
    directory_names: usize,
    /// Directories that no entry has named yet.
    implicit: BTreeSet<Vec<u8>>,
    lower: Option<Vec<PathBuf>>,
    /// Whether new files have owner 0:0 without a chown.
    is_root: bool,
    last: Vec<u8>,
    result: Applied,
}

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl<'a> Applier<'a> {
    fn new(target: &'a Path, options: &'a ApplyOptions<'a>) -> Outcome<Applier<'a>> {
        Ok(Applier {
            options,
            root: rustix::fs::openat(CWD, target, OPEN_DIRECTORY, Mode::empty()).to("open")?,
            stack: Vec::new(),
            directories: BTreeMap::new(),
            directory_names: 0,
            implicit: BTreeSet::new(),
            lower: None,
            is_root: rustix::process::geteuid().is_root() && rustix::process::getegid().is_root(),
            last: Vec::new(),
            result: Applied::default(),
        })
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Outcome {
        let components = clean(&entry.path)?;
        let Some((name, parents)) = components.split_last() else {
            return if entry.kind == Kind::Directory { self.top(entry) } else { Ok(()) };
        };
        if self.options.whiteouts {
            if parents.iter().any(|c| c.starts_with(WHITEOUT)) {
                return refused("a directory's name begins with .wh., which is kept for deletions");
            }
            if name.starts_with(WHITEOUT) {
                return self.whiteout(name, parents);
            }
        }
        match entry.kind {
            Kind::HardLink => return self.hard_link(entry, name, parents),
            Kind::Other => return Ok(()),
            _ => {}
        }
        self.enter(parents, true)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, name),
            Kind::File => self.file(entry, name, reader),
            Kind::Symlink => self.symlink(entry, name),
            _ => self.node(entry, name),
        }
    }

    /// The directory entered last.
    fn current(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// Path of the directory entered last, with `name`.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.stack.iter().map(|(n, _)| n.as_slice()).chain([name]).collect();
        parts.join(&b'/')
    }

    /// Enters the directory of these components from the top, creating missing ones if `create`.
    fn enter(&mut self, components: &[&[u8]], create: bool) -> Outcome {
        let common = self.stack.iter().zip(components).take_while(|((a, _), b)| a == *b).count();
        self.stack.truncate(common);
        let mut pending: VecDeque<Vec<u8>> = components[common..].iter().map(|c| c.to_vec()).collect();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                self.stack.pop();
                continue;
            }
            if self.stack.len() >= DEPTH_MAX {
                return refused(format!("deeper than {DEPTH_MAX} directories"));
            }
            let text = OsStr::from_bytes(&name);
            match rustix::fs::openat(self.current(), text, OPEN_DIRECTORY, Mode::empty()) {
                Ok(fd) => self.stack.push((name, fd)),
                Err(Errno::NOENT) if create => self.make_implicit(name, false)?,
                // O_DIRECTORY with O_NOFOLLOW gives ENOTDIR for a symbolic link, too.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let stat = self.stat(&name)?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                        links += 1;
                        if links > LINKS_MAX {
                            return refused("too many symbolic links in its path");
                        }
                        self.follow(&name, &mut pending)?;
                    } else if create {
                        rustix::fs::unlinkat(self.current(), text, AtFlags::empty())
                            .to("replace a parent")?;
                        self.make_implicit(name, self.options.whiteouts && is_whiteout(&stat))?;
                    } else {
                        return Err(Fault::Io("enter a parent", Errno::NOTDIR.into()));
                    }
                }
                Err(e) => return Err(Fault::Io("enter a parent", e.into())),
            }
        }
        Ok(())
    }

    /// Puts the target of a symbolic link in front of the components still to be entered.
    fn follow(&mut self, name: &[u8], pending: &mut VecDeque<Vec<u8>>) -> Outcome {
        let target =
            rustix::fs::readlinkat(self.current(), OsStr::from_bytes(name), Vec::new()).to("read a link")?;
        let target = target.as_bytes();
        if target.starts_with(b"/") {
            self.stack.clear();
        }
        for part in target.split(|b| *b == b'/').rev().filter(|p| !p.is_empty() && *p != b".") {
            pending.push_front(part.to_vec());
        }
        Ok(())
    }

    /// Creates and enters a directory that the archive has not named so far.
    fn make_implicit(&mut self, name: Vec<u8>, opaque: bool) -> Outcome {
        let text = OsStr::from_bytes(&name);
        rustix::fs::mkdirat(self.current(), text, Mode::RWXU).to("create a parent")?;
        let fd =
            rustix::fs::openat(self.current(), text, OPEN_DIRECTORY, Mode::empty()).to("enter a parent")?;
        if opaque {
            set_opaque(fd.as_fd())?;
        }
        let path = self.path_of(&name);
        self.count_name(&path)?;
        self.directories.insert(path.clone(), DirectoryEnd { mode: 0o755, mtime: (0, 0) });
        self.implicit.insert(path);
        self.stack.push((name, fd));
        Ok(())
    }

    /// Counts a name that is about to be remembered.
    fn count_name(&mut self, path: &[u8]) -> Outcome {
        self.directory_names += path.len();
        match self.directory_names > DIRECTORY_NAMES_MAX {
            true => refused(format!("names of directories take more than {DIRECTORY_NAMES_MAX} bytes")),
            false => Ok(()),
        }
    }

    fn stat(&self, name: &[u8]) -> Outcome<Stat> {
        rustix::fs::statat(self.current(), OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW).to("look up")
    }

    /// Removes what the current directory has under `name`; returns whether it was a whiteout.
    fn clear(&mut self, name: &[u8]) -> Outcome<bool> {
        let stat = self.stat(name)?;
        let text = OsStr::from_bytes(name);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            rustix::fs::unlinkat(self.current(), text, AtFlags::empty()).to("replace")?;
            return Ok(self.options.whiteouts && is_whiteout(&stat));
        }
        tree::remove_at(self.current(), name, self.options.trash).to("replace")?;
        let path = self.path_of(name);
        let below = [&path[..], b"/"].concat();
        let gone = |p: &Vec<u8>| *p == path || p.starts_with(&below);
        self.directories.retain(|p, _| !gone(p));
        self.implicit.retain(|p| !gone(p));
        Ok(false)
    }

    /// Runs `make`; if the name exists, removes it and runs `make` again. Also returns whether a whiteout was
    /// removed.
    fn replace<T>(
        &mut self,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Outcome<(T, bool)> {
        match make(self.current()) {
            Err(Errno::EXIST) => {
                let was_whiteout = self.clear(name)?;
                Ok((make(self.current()).to("create")?, was_whiteout))
            }
            other => Ok((other.to("create")?, false)),
        }
    }

    fn top(&mut self, entry: &Entry) -> Outcome {
        self.stack.clear();
        let fd = self.root.try_clone().to("open")?;
        self.chown_fd(fd.as_fd(), entry)?;
        self.set_xattrs(entry, |name, value| rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()));
        self.directories.insert(Vec::new(), DirectoryEnd { mode: entry.mode, mtime: entry.mtime });
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, name: &[u8]) -> Outcome {
        let text = OsStr::from_bytes(name);
        let path = self.path_of(name);
        self.count_name(&path)?;
        if self.stack.len() >= DEPTH_MAX {
            return refused(format!("deeper than {DEPTH_MAX} directories"));
        }
        let mut was_whiteout = false;
        match rustix::fs::mkdirat(self.current(), text, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let stat = self.stat(name)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    was_whiteout = self.clear(name)?;
                    rustix::fs::mkdirat(self.current(), text, Mode::RWXU).to("create")?;
                }
            }
            other => other.to("create")?,
        }
        let fd = rustix::fs::openat(self.current(), text, OPEN_DIRECTORY, Mode::empty()).to("open")?;
        if was_whiteout {
            set_opaque(fd.as_fd())?;
        }
        self.chown_fd(fd.as_fd(), entry)?;
        self.set_xattrs(entry, |name, value| rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()));
        self.implicit.remove(&path);
        self.directories.insert(path, DirectoryEnd { mode: entry.mode, mtime: entry.mtime });
        // The next entry is usually in this directory.
        self.stack.push((name.to_vec(), fd));
        Ok(())
    }

    fn file<R: BufRead>(&mut self, entry: &Entry, name: &[u8], reader: &mut Reader<R>) -> Outcome {
        if let Some(map) = &entry.sparse {
            let stored: u64 = map.iter().map(|(_, length)| length).sum();
            self.options.limit.made(entry.size.saturating_sub(stored)).map_err(TarError::Io)?;
        }
        let (fd, _) = self.replace(name, |dir| create_file(dir, name))?;
        let mut file = File::from(fd);
        write_content(&mut file, entry, reader)?;
        self.chown_fd(file.as_fd(), entry)?;
        self.set_xattrs(entry, |name, value| rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()));
        // After the chown, which clears the set-id bits.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).to("set the mode")?;
        rustix::fs::futimens(&file, &times(entry.mtime)).to("set the time")?;
        self.result.bytes += entry.size;
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, name: &[u8]) -> Outcome {
        if entry.link.is_empty() || entry.link.len() >= PATH_SIZE_MAX || entry.link.contains(&0) {
            return refused("a symbolic link with a bad target");
        }
        let text = OsStr::from_bytes(name);
        self.replace(name, |dir| rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), dir, text))?;
        self.finish_by_name(entry, name, None)
    }

    fn node(&mut self, entry: &Entry, name: &[u8]) -> Outcome {
        let kind = match entry.kind {
            Kind::Fifo => FileType::Fifo,
            Kind::CharDevice => FileType::CharacterDevice,
            _ => FileType::BlockDevice,
        };
        let (major, minor) = if kind == FileType::Fifo { (0, 0) } else { entry.device };
        if self.options.whiteouts && kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
            self.warn(&entry.path, "a device 0/0 is overlay's whiteout; left out");
            return Ok(());
        }
        let device = rustix::fs::makedev(major, minor);
        let text = OsStr::from_bytes(name);
        let make = |dir: BorrowedFd<'_>| rustix::fs::mknodat(dir, text, kind, Mode::RUSR, device);
        match self.replace(name, make) {
            Err(Fault::Io(_, e)) if e.kind() == io::ErrorKind::PermissionDenied => {
                self.warn(&entry.path, "device files cannot be made without root; left out");
                Ok(())
            }
            Err(other) => Err(other),
            Ok(_) => self.finish_by_name(entry, name, Some(entry.mode)),
        }
    }

    /// Sets owner, attributes, mode and time of a file that cannot be opened.
    fn finish_by_name(&mut self, entry: &Entry, name: &[u8], mode: Option<u32>) -> Outcome {
        let text = OsStr::from_bytes(name);
        if let Some((uid, gid)) = self.owner(entry)? {
            rustix::fs::chownat(self.current(), text, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .to("set the owner")?;
        }
        if !entry.xattrs.is_empty() {
            let path = proc_path(self.current(), name);
            self.set_xattrs(entry, |name, value| {
                rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty())
            });
        }
        if let Some(mode) = mode {
            rustix::fs::chmodat(self.current(), text, Mode::from_raw_mode(mode), AtFlags::empty())
                .to("set the mode")?;
        }
        rustix::fs::utimensat(self.current(), text, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .to("set the time")
    }

    fn hard_link(&mut self, entry: &Entry, name: &[u8], parents: &[&[u8]]) -> Outcome {
        let target = clean(&entry.link)?;
        let Some((target_name, target_parents)) = target.split_last() else {
            return refused("a hard link to the top directory");
        };
        if self.options.whiteouts && target.iter().any(|c| c.starts_with(WHITEOUT)) {
            return refused("a hard link to a deletion mark");
        }
        let found = match self.enter(target_parents, false) {
            Ok(()) => self.stat(target_name),
            Err(e) => Err(e),
        };
        match found {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                refused("a hard link to a directory")
            }
            Ok(stat) if self.options.whiteouts && is_whiteout(&stat) => {
                refused(format!("a hard link to \"{}\", which the layer deletes", printable(&entry.link)))
            }
            Ok(stat) => {
                let from = self.current().try_clone_to_owned().to("open")?;
                self.enter(parents, true)?;
                if self.stat(name).is_ok_and(|s| (s.st_dev, s.st_ino) == (stat.st_dev, stat.st_ino)) {
                    return Ok(());
                }
                let (old, new) = (OsStr::from_bytes(target_name), OsStr::from_bytes(name));
                self.replace(name, |dir| rustix::fs::linkat(&from, old, dir, new, AtFlags::empty()))?;
                Ok(())
            }
            Err(Fault::Io(_, e))
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                self.copy_up(entry, &target, name, parents)
            }
            Err(other) => Err(other),
        }
    }

    /// A hard link to a file of a lower layer: the file is copied, as overlay would before linking it.
    fn copy_up(&mut self, entry: &Entry, target: &[&[u8]], name: &[u8], parents: &[&[u8]]) -> Outcome {
        self.result.dependent = true;
        let Some((dir, stat)) = self.look_below(target)? else {
            return refused(format!("a hard link to \"{}\", which is not there", printable(&entry.link)));
        };
        self.enter(parents, true)?;
        let old = OsStr::from_bytes(target.last().expect("a target has a name"));
        let made = Entry {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ..entry.clone()
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from =
                    File::from(rustix::fs::openat(&dir, old, flags, Mode::empty()).to("open the target")?);
                let (fd, _) = self.replace(name, |dir| create_file(dir, name))?;
                let mut file = File::from(fd);
                self.result.bytes += io::copy(&mut &from, &mut file).to("copy the target")?;
                self.chown_fd(file.as_fd(), &made)?;
                let xattrs = crate::layer::walk::xattrs(from.as_fd()).to("read attributes")?;
                self.set_xattrs(&Entry { xattrs, ..made.clone() }, |name, value| {
                    rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
                });
                rustix::fs::fchmod(&file, Mode::from_raw_mode(made.mode)).to("set the mode")?;
                rustix::fs::futimens(&file, &times(made.mtime)).to("set the time")
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&dir, old, Vec::new()).to("read a link")?;
                self.symlink(&Entry { link: link.into_bytes(), xattrs: Vec::new(), ..made }, name)
            }
            _ => refused("a hard link to something in a lower layer that is neither file nor symbolic link"),
        }
    }

    /// Finds a path in the trees below as overlay would, without following links; returns its directory and
    /// its `Stat`.
    fn look_below(&mut self, path: &[&[u8]]) -> Outcome<Option<(OwnedFd, Stat)>> {
        if self.lower.is_none() {
            self.lower = Some((self.options.lower)().map_err(Fault::Lower)?);
        }
        let trees = self.lower.as_ref().expect("set above");
        for tree in trees.iter().rev() {
            let mut dir =
                rustix::fs::openat(CWD, tree, OPEN_DIRECTORY, Mode::empty()).to("open a lower layer")?;
            let mut opaque = false;
            for (i, name) in path.iter().enumerate() {
                let text = OsStr::from_bytes(name);
                let stat = match rustix::fs::statat(&dir, text, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => break,
                    Err(e) => return Err(Fault::Io("look into a lower layer", e.into())),
                };
                if is_whiteout(&stat) {
                    return Ok(None);
                }
                if i + 1 == path.len() {
                    return Ok(Some((dir, stat)));
                }
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return Ok(None);
                }
                dir =
                    rustix::fs::openat(&dir, text, OPEN_DIRECTORY, Mode::empty()).to("open a lower layer")?;
                opaque |= is_opaque(dir.as_fd());
            }
            if opaque {
                break;
            }
        }
        Ok(None)
    }

    fn whiteout(&mut self, name: &[u8], parents: &[&[u8]]) -> Outcome {
        if name == WHITEOUT_OPAQUE {
            self.enter(parents, true)?;
            return set_opaque(self.current());
        }
        if name.starts_with(b".wh..wh.") {
            // AUFS' own files.
            return Ok(());
        }
        let name = &name[WHITEOUT.len()..];
        if matches!(name, b"" | b"." | b"..") {
            return refused("a deletion mark without a name");
        }
        self.enter(parents, true)?;
        let text = OsStr::from_bytes(name);
        match rustix::fs::mknodat(self.current(), text, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // A whiteout deletes only from lower layers: an entry of this layer stays, and hides theirs.
            Err(Errno::EXIST) => {
                match rustix::fs::openat(self.current(), text, OPEN_DIRECTORY, Mode::empty()) {
                    Ok(dir) => set_opaque(dir.as_fd()),
                    Err(_) => Ok(()),
                }
            }
            Err(e) => Err(Fault::Io("create a whiteout", e.into())),
        }
    }

    /// The owner to set, if one must be.
    fn owner(&self, entry: &Entry) -> Outcome<Option<(Uid, Gid)>> {
        if let Owners::Given(uid, gid) = self.options.owners {
            return Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid))));
        }
        if self.options.owners == Owners::Ignore || (self.is_root && entry.uid == 0 && entry.gid == 0) {
            return Ok(None);
        }
        if entry.uid == u32::MAX || entry.gid == u32::MAX {
            return refused("its owner is not a number that an owner can have");
        }
        Ok(Some((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))))
    }

    fn chown_fd(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Outcome {
        match self.owner(entry)? {
            Some((uid, gid)) => match rustix::fs::fchown(fd, Some(uid), Some(gid)) {
                Err(Errno::INVAL) => refused(format!(
                    "owner {}:{} is outside the ids of this user: extend its ranges in /etc/subuid and /etc/subgid",
                    entry.uid, entry.gid
                )),
                other => other.to("set the owner"),
            },
            None => Ok(()),
        }
    }

    /// Sets the attributes that images may have; others, and those that the file system has no room for, are
    /// reported.
    fn set_xattrs(&mut self, entry: &Entry, set: impl Fn(&str, &[u8]) -> rustix::io::Result<()>) {
        for (name, value) in &entry.xattrs {
            let name = String::from_utf8_lossy(name);
            if is_image_xattr(&name) {
                if let Err(e) = set(&name, value) {
                    self.warn(&entry.path, &format!("attribute {}: {e}", printable(name.as_bytes())));
                }
            } else if !name.starts_with("security.") && !name.starts_with("system.") {
                let reason = format!("attribute {} is not allowed in images", printable(name.as_bytes()));
                self.warn(&entry.path, &reason);
            }
        }
    }

    fn warn(&mut self, entry: &[u8], reason: &str) {
        // Nobody reads more.
        if self.result.warnings.len() < 100 {
            self.result.warnings.push(format!("{}: {reason}", printable(entry)));
        }
    }

    /// Gives directories their modes and times, which entries in them would have changed.
    fn finish(mut self) -> Outcome<Applied> {
        self.stack.clear();
        for path in std::mem::take(&mut self.implicit) {
            self.like_below(&path)?;
        }
        // Backwards: a directory comes after its content, in case its mode bars access.
        for (path, end) in std::mem::take(&mut self.directories).into_iter().rev() {
            let components: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
            self.enter(&components, false)?;
            let dir = self.current();
            rustix::fs::fchmod(dir, Mode::from_raw_mode(end.mode)).to("set the mode of a directory")?;
            rustix::fs::futimens(dir, &times(end.mtime)).to("set the time of a directory")?;
        }
        Ok(self.result)
    }

    /// Gives a directory that no entry named the mode, owner and time of the same one in the layers below.
    fn like_below(&mut self, path: &[u8]) -> Outcome {
        if !self.options.whiteouts {
            return Ok(());
        }
        self.result.dependent = true;
        let components: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        let Some((parent, stat)) = self.look_below(&components)? else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let name = OsStr::from_bytes(components.last().expect("a path has a name"));
        let below =
            rustix::fs::openat(&parent, name, OPEN_DIRECTORY, Mode::empty()).to("open a lower layer")?;
        let entry = Entry {
            kind: Kind::Directory,
            path: path.to_vec(),
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            device: (0, 0),
            size: 0,
            xattrs: crate::layer::walk::xattrs(below.as_fd()).to("read attributes")?,
            sparse: None,
        };
        self.enter(&components, false)?;
        let fd = self.current().try_clone_to_owned().to("open")?;
        self.chown_fd(fd.as_fd(), &entry)?;
        self.set_xattrs(&entry, |name, value| rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()));
        self.directories.insert(path.to_vec(), DirectoryEnd { mode: entry.mode, mtime: entry.mtime });
        Ok(())
    }
}

/// The components of a name: relative to the top, `..` never above it.
fn clean(path: &[u8]) -> Outcome<Vec<&[u8]>> {
    if path.len() > PATH_SIZE_MAX {
        return refused(format!("a name of {} bytes, the limit is {PATH_SIZE_MAX}", path.len()));
    }
    if path.contains(&0) {
        return refused("a name with a zero byte");
    }
    let mut components = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            part if part.len() > NAME_SIZE_MAX => {
                return refused(format!(
                    "a name with a part of {} bytes, the limit is {NAME_SIZE_MAX}",
                    part.len()
                ));
            }
            part => components.push(part),
        }
    }
    Ok(components)
}

fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR)
}

fn write_content<R: BufRead>(file: &mut File, entry: &Entry, reader: &mut Reader<R>) -> Outcome {
    let Some(map) = &entry.sparse else {
        loop {
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                return Ok(());
            }
            file.write_all(chunk).to("write")?;
            let length = chunk.len();
            reader.consume(length);
        }
    };
    file.set_len(entry.size).to("write")?;
    for (offset, length) in map {
        file.seek(SeekFrom::Start(*offset)).to("write")?;
        let mut rest = *length;
        while rest > 0 {
            let chunk = reader.chunk()?;
            let length = chunk.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            if length == 0 {
                return refused("its sparse data is cut short");
            }
            file.write_all(&chunk[..length]).to("write")?;
            reader.consume(length);
            rest -= length as u64;
        }
    }
    Ok(())
}

fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn set_opaque(dir: BorrowedFd<'_>) -> Outcome {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty()).to("mark as opaque")
}

/// A path to a name in an open directory, for calls that take only paths.
pub(crate) fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(OsStr::from_bytes(name))
}
