//! Copying files between trees, and the digest of what would be copied.
//!
//! Dockerfile reference, "COPY": a directory's content is copied, not the directory; a destination that ends
//! in `/`, exists as a directory, or takes several sources is a directory; missing parents are made. The
//! destination itself keeps its owner and mode; directories in it get those of the copied ones, as with
//! BuildKit. Existing files are replaced.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crossdock_oci::layer::{Borrowed, Lent};
use crossdock_sandbox::idmap::IdMapping;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use crate::files::beside::{Beside, LARGE};
use crate::files::chmod::ModeChange;
use crate::files::stat_cache::StatCache;
use crate::files::tree::{Entry, Tree, Unreadable, join, open_in_root, resolve, shown, split_name};
use crate::solver::key::Key;

/// How copied files differ from their sources.
#[derive(Default)]
pub struct CopyOptions {
    /// Owner and group of everything copied or made; `None` keeps those of the source.
    pub owner: Option<(u32, u32)>,
    /// Whether `--chown` names the owner; files unpacked from an archive then get it, too.
    pub owner_is_given: bool,
    /// Change of permission bits.
    pub mode: Option<ModeChange>,
    /// `--chmod`, without a default, for parent directories that the destination needs.
    pub mode_of_made: Option<ModeChange>,
    /// `--exclude`: paths below the source that are left out.
    pub exclude: crossdock_dockerfile::ignore::Ignore,
    /// Whether extended attributes are copied: from images, not from the context.
    pub xattrs: bool,
    /// Latest modification time, seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub mtime_max: Option<i64>,
    /// Modification time of everything copied, nanoseconds since 1970; `None` keeps those of the source.
    pub mtime: Option<i64>,
    /// Where regular files go instead of being copied. Only for a tree that nobody reads.
    pub borrowed: Option<Arc<Borrowed>>,
}

impl CopyOptions {
    /// Type, mode and owner that an entry has in the image, for a key.
    pub fn described(&self, entry: &Entry) -> String {
        let (uid, gid) = self.owner_of(entry);
        format!("{:?} {:o} {uid} {gid}", entry.file_type(), self.mode_of(entry))
    }

    fn mode_of(&self, entry: &Entry) -> u32 {
        let mode = entry.stat.st_mode & 0o7777;
        match &self.mode {
            Some(change) => change.apply(mode, entry.is_dir()),
            None => mode,
        }
    }

    fn owner_of(&self, entry: &Entry) -> (u32, u32) {
        self.owner.unwrap_or((entry.stat.st_uid, entry.stat.st_gid))
    }

    /// Whether `path` is left out when everything below `start` is copied.
    pub(crate) fn excludes(&self, start: &[u8], path: &[u8]) -> bool {
        let relative = path.strip_prefix(start).unwrap_or(path);
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        let relative = if relative.is_empty() { split_name(path).1 } else { relative };
        !self.exclude.is_empty() && self.exclude.excludes(relative)
    }
}

/// An input/output error with the path in the image or context that it happened to.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// Path below the source or destination root.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The user may not read the source.
    #[error(
        "cannot read \"{path}\": {error}: leave it out with .dockerignore, or let the user of this build read it"
    )]
    Forbidden {
        /// Path below the source's root.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The source is a file, the destination a directory.
    #[error("cannot copy a file over the directory \"/{0}\"")]
    OverDirectory(String),
    /// The source is a directory, the destination is not.
    #[error("cannot copy a directory over \"/{0}\", which is not a directory")]
    OverFile(String),
    /// A device, which the sandbox may not make.
    #[error("cannot copy the device \"{0}\"")]
    Device(String),
}

fn at<T>(path: &[u8], result: io::Result<T>) -> Result<T, CopyError> {
    let path = if path.is_empty() { b"." } else { path };
    result.map_err(|error| match error.downcast::<Unreadable>() {
        Ok(Unreadable { path, error }) if error.kind() == io::ErrorKind::PermissionDenied => {
            CopyError::Forbidden { path, error }
        }
        Ok(Unreadable { path, error }) => CopyError::Io { path, error },
        Err(error) => CopyError::Io { path: shown(path), error },
    })
}

/// Adds to `key` everything below `start` that reaches the image: names below it, types, modes, owners,
/// content.
///
/// `cache` is the cache of the context directory; `None` for other trees.
pub fn add_to_key(
    key: &mut Key,
    tree: &Tree,
    start: &Entry,
    options: &CopyOptions,
    cache: Option<&StatCache>,
) -> Result<(), CopyError> {
    let excluded = |path: &[u8]| options.excludes(&start.path, path);
    let links = Links::default();
    let result = std::thread::scope(|threads| {
        let beside = Beside::new(threads);
        let mut fields = Fields { key, cache, waiting: VecDeque::new(), beside };
        tree.walk_with(start, (&excluded, options.exclude.may_include_again()), &mut |entry| {
            // The name of a single file matters only through the destination, which the caller adds.
            let relative = entry.path.strip_prefix(&start.path[..]).unwrap_or(&entry.path);
            fields.add(relative)?;
            fields.add(options.described(entry))?;
            if let Some(first) = links.first(entry, relative) {
                fields.add(b"hard link")?;
                return fields.add(first);
            }
            let named = |error| Unreadable::error(&entry.path, error);
            match entry.file_type() {
                FileType::RegularFile => fields.content(tree, entry).map_err(named),
                FileType::Symlink => fields.add(tree.read_link(&entry.path).map_err(named)?.as_bytes()),
                _ => fields.add(b""),
            }
        })?;
        fields.finish()
    });
    at(&start.path, result)?;
    match options.exclude.is_exhausted() {
        true => at(&start.path, Err(crate::files::tree::rules_are_slow())),
        false => Ok(()),
    }
}

/// The first name of each file with several names.
#[derive(Default)]
struct Links(RefCell<HashMap<(u64, u64), Vec<u8>>>);

impl Links {
    /// The earlier name of the same file; if there is none, remembers `name`.
    fn first(&self, entry: &Entry, name: &[u8]) -> Option<Vec<u8>> {
        if entry.stat.st_nlink < 2 || entry.file_type() != FileType::RegularFile {
            return None;
        }
        let mut names = self.0.borrow_mut();
        let inode = (entry.stat.st_dev, entry.stat.st_ino);
        let known = names.get(&inode).cloned();
        if known.is_none() {
            names.insert(inode, name.to_vec());
        }
        known
    }
}

/// The fields of a key, in order, while large files are still being hashed.
struct Fields<'a, 'scope, 'env> {
    key: &'a mut Key,
    cache: Option<&'a StatCache>,
    waiting: VecDeque<Field>,
    beside: Beside<'scope, 'env>,
}

enum Field {
    Known(Vec<u8>),
    Content(Entry, Receiver<io::Result<[u8; 32]>>),
}

/// The most fields that wait behind a large file.
const WAITING_MAX: usize = 1024;

impl Fields<'_, '_, '_> {
    fn add(&mut self, field: impl AsRef<[u8]>) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.key.field(field);
            return Ok(());
        }
        self.waiting.push_back(Field::Known(field.as_ref().to_vec()));
        while self.waiting.len() > WAITING_MAX {
            self.take_first()?;
        }
        Ok(())
    }

    /// Adds the digest of a file's content.
    fn content(&mut self, tree: &Tree, entry: &Entry) -> io::Result<()> {
        if let Some(digest) = self.cache.and_then(|cache| cache.get(&entry.path, &entry.stat)) {
            return self.add(digest);
        }
        // A link that was named as a source is followed; nothing leaves the root.
        let file = File::from(tree.open_at(&entry.path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if (entry.stat.st_size as u64) < LARGE {
            let digest = content_digest(file, entry.stat.st_size)?;
            self.remember(entry, digest);
            return self.add(digest);
        }
        let size = entry.stat.st_size;
        let coming = self.beside.run(move || content_digest(file, size));
        self.waiting.push_back(Field::Content(entry.clone(), coming));
        Ok(())
    }

    fn remember(&self, entry: &Entry, digest: [u8; 32]) {
        if let Some(cache) = self.cache {
            cache.put(&entry.path, &entry.stat, digest);
        }
    }

    fn take_first(&mut self) -> io::Result<()> {
        match self.waiting.pop_front() {
            Some(Field::Known(field)) => self.key.field(field),
            Some(Field::Content(entry, coming)) => {
                let digest = coming.recv().map_err(|_| io::Error::other("a hashing thread died"))?;
                let digest = digest.map_err(|error| Unreadable::error(&entry.path, error))?;
                self.remember(&entry, digest);
                self.key.field(digest)
            }
            None => return Ok(()),
        };
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.take_first()?;
        }
        Ok(())
    }
}

/// The BLAKE3 hash of a file's content. Only keys hold it, and it takes a third of SHA-256's time.
fn content_digest(mut file: File, size: i64) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = buffer_for(size);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        };
    }
    Ok(*hasher.finalize().as_bytes())
}

/// A buffer for a file of a size: of many small files, each needs only a small one.
fn buffer_for(size: i64) -> Vec<u8> {
    const MAX: usize = 256 * 1024;
    vec![0; usize::try_from(size).unwrap_or(0).saturating_add(1).min(MAX)]
}

/// Where one source goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To exactly this path.
    Exact,
    /// Into this directory, under its own name; a directory's content directly into it.
    Into,
}

/// Copies `start` and everything below it to `destination` below `root`. Links in the destination's path are
/// followed: their targets are written to, the links are not replaced.
pub fn copy(
    tree: &Tree,
    start: &Entry,
    root: &OwnedFd,
    destination: &[u8],
    placement: Placement,
    options: &CopyOptions,
) -> Result<(), CopyError> {
    let destination = at(destination, resolve(root, destination))?;
    let target = match placement {
        _ if start.is_dir() => destination,
        Placement::Exact => destination,
        Placement::Into => join(&destination, start.name()),
    };
    make_directories(root, split_name(&target).0, options)?;
    let excluded = |path: &[u8]| options.excludes(&start.path, path);
    std::thread::scope(|threads| {
        let contents = RefCell::new(Contents { beside: Beside::new(threads), waiting: Vec::new() });
        let (links, used, lender) = Default::default();
        let walk = Walk { tree, root, options, excluded: &excluded, links, used, lender, contents };
        if start.is_dir() {
            make_directories(root, &target, options)?;
            copy_directory(&walk, &start.path, &target)?;
        } else if !excluded(&start.path) {
            copy_one(&walk, start, &target, false)?;
        }
        walk.contents.into_inner().finish()
    })
}

/// Contents of large files that other threads copy.
struct Contents<'scope, 'env> {
    beside: Beside<'scope, 'env>,
    waiting: Vec<Receiver<Result<(), CopyError>>>,
}

impl Contents<'_, '_> {
    fn finish(self) -> Result<(), CopyError> {
        self.waiting.into_iter().try_for_each(|copied| {
            copied.recv().unwrap_or_else(|_| {
                Err(CopyError::Io { path: ".".to_string(), error: io::Error::other("a copying thread died") })
            })
        })
    }
}

/// A directory made for its content (`--parents`). It gets its source's owner, mode and time once its content
/// is complete.
pub struct MadeParent {
    entry: Entry,
    target: Vec<u8>,
}

/// Makes the parent directories of `kept`, the end of a source's path, below `destination`, as `--parents`
/// requires. Returns the new ones.
pub fn make_parents(
    tree: &Tree,
    source: &Entry,
    kept: &[u8],
    root: &OwnedFd,
    destination: &[u8],
    options: &CopyOptions,
) -> Result<Vec<MadeParent>, CopyError> {
    make_directories(root, destination, options)?;
    let destination = at(destination, resolve(root, destination))?;
    let mut made = Vec::new();
    for (entry, kept) in parents(tree, source, kept)? {
        let target = join(&destination, &kept);
        if make_directory(root, &target)? {
            made.push(MadeParent { entry, target });
        }
    }
    Ok(made)
}

/// The parent directories of `kept`, the end of a source's path, each with the part of `kept` that leads to
/// it.
pub fn parents(tree: &Tree, source: &Entry, kept: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, CopyError> {
    let dropped = source.path.len() - kept.len();
    let ends = kept.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    ends.map(|end| {
        let path = &source.path[..dropped + end];
        Ok((at(path, tree.entry(path))?, kept[..end].to_vec()))
    })
    .collect()
}

/// Copies `start` to exactly `target`. A directory that was not there gets the owner, mode and time of its
/// source, unlike with [`copy`], which copies a directory's content.
pub fn copy_whole(
    tree: &Tree,
    start: &Entry,
    root: &OwnedFd,
    target: &[u8],
    options: &CopyOptions,
) -> Result<(), CopyError> {
    let is_new = start.is_dir() && open_in_root(root, target, OFlags::PATH | OFlags::DIRECTORY).is_err();
    copy(tree, start, root, target, Placement::Exact, options)?;
    match is_new {
        true => finish_directory(tree, start, root, target, options),
        false => Ok(()),
    }
}

/// Gives the directory `target` the owner, mode, attributes and time of the directory `entry`.
pub fn finish_directory(
    tree: &Tree,
    entry: &Entry,
    root: &OwnedFd,
    target: &[u8],
    options: &CopyOptions,
) -> Result<(), CopyError> {
    let fd = at(target, open_in_root(root, target, OFlags::DIRECTORY | OFlags::RDONLY))?;
    set_metadata(options, tree, entry, &fd, target)
}

/// Sets the metadata of directories made by [`make_parents`] to that of their sources.
pub fn finish_parents(made: &[(&Tree, &CopyOptions, MadeParent)], root: &OwnedFd) -> Result<(), CopyError> {
    // Inner directories first: changing them changes the time of the outer ones.
    for (tree, options, MadeParent { entry, target }) in made.iter().rev() {
        finish_directory(tree, entry, root, target, options)?;
    }
    Ok(())
}

struct Walk<'a, 'scope, 'env> {
    tree: &'a Tree,
    root: &'a OwnedFd,
    options: &'env CopyOptions,
    excluded: &'a dyn Fn(&[u8]) -> bool,
    /// The first destination of each file with several names.
    links: Links,
    /// The directory that was written to last: files of a directory come together.
    used: RefCell<Option<Rc<Parent>>>,
    /// The root of the tree for those who borrow files of it.
    lender: OnceCell<Arc<OwnedFd>>,
    contents: RefCell<Contents<'scope, 'env>>,
}

/// A directory that is written to.
struct Parent {
    path: Vec<u8>,
    open: OwnedFd,
    /// The path without symbolic links; empty unless files are borrowed.
    resolved: Vec<u8>,
    /// Whether a borrowed file has changed the directory's time.
    is_touched: Cell<bool>,
}

impl Parent {
    /// Changes the time of the directory, as a new file would.
    fn touch(&self, root: &OwnedFd) -> io::Result<()> {
        if self.is_touched.replace(true) {
            return Ok(());
        }
        let directory = open_in_root(root, &self.resolved, OFlags::DIRECTORY | OFlags::RDONLY)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ },
        };
        Ok(rustix::fs::futimens(directory, &times)?)
    }
}

impl Walk<'_, '_, '_> {
    /// The directory of `target`, and the name in it.
    fn parent<'t>(&self, target: &'t [u8]) -> Result<(Rc<Parent>, &'t [u8]), CopyError> {
        let (parent, name) = split_name(target);
        let mut used = self.used.borrow_mut();
        if let Some(last) = &*used
            && last.path == parent
        {
            return Ok((last.clone(), name));
        }
        let open = at(target, open_in_root(self.root, parent, OFlags::PATH | OFlags::DIRECTORY))?;
        let resolved = match &self.options.borrowed {
            Some(_) => at(target, resolve(self.root, parent))?,
            None => Vec::new(),
        };
        let is_touched = Cell::new(false);
        let parent = Rc::new(Parent { path: parent.to_vec(), open, resolved, is_touched });
        *used = Some(parent.clone());
        Ok((parent, name))
    }
}

/// Work that remains for a directory.
enum Todo {
    /// With whether the directory of the target was made by this copy, so that no file is in the way.
    Copy(Entry, Vec<u8>, bool),
    /// Sets owner, mode and time of a directory once its content is complete; also of a directory that
    /// existed before, as other builders do.
    Finish(Entry, Vec<u8>),
}

/// Copies the content of `source` into the existing directory `target`.
fn copy_directory(walk: &Walk<'_, '_, '_>, source: &[u8], target: &[u8]) -> Result<(), CopyError> {
    // The rest of the work waits in a list, so neither the stack nor open files limit the depth.
    let content = |source: &[u8], target: &[u8], is_new: bool| -> Result<Vec<Todo>, CopyError> {
        let entries = at(source, walk.tree.entries_in(source))?.into_iter().rev();
        let todo = |entry: Entry| {
            let target = join(target, entry.name());
            Todo::Copy(entry, target, is_new)
        };
        Ok(entries.map(todo).collect())
    };
    let mut open = content(source, target, false)?;
    while let Some(todo) = open.pop() {
        let (entry, target, is_in_new) = match todo {
            Todo::Copy(entry, target, is_in_new) => (entry, target, is_in_new),
            Todo::Finish(entry, target) => {
                let fd = open_in_root(walk.root, &target, OFlags::DIRECTORY | OFlags::RDONLY);
                set_metadata(walk.options, walk.tree, &entry, &at(&target, fd)?, &target)?;
                continue;
            }
        };
        let excluded = walk.tree.excludes(&entry.path) || (walk.excluded)(&entry.path);
        if walk.tree.is_exhausted() || walk.options.exclude.is_exhausted() {
            return at(&entry.path, Err(crate::files::tree::rules_are_slow()));
        }
        if !entry.is_dir() {
            if !excluded {
                copy_one(walk, &entry, &target, is_in_new)?;
            }
        } else if !excluded || has_included(walk, &entry)? {
            if let Some(borrowed) = walk.options.borrowed.as_ref().filter(|_| !is_in_new) {
                let (parent, name) = walk.parent(&target)?;
                if borrowed.has(&parent.resolved, name) {
                    return Err(CopyError::OverFile(shown(&target)));
                }
            }
            let is_new = make_directory(walk.root, &target)?;
            let inside = content(&entry.path, &target, is_new)?;
            open.push(Todo::Finish(entry, target));
            open.extend(inside);
        }
    }
    Ok(())
}

fn has_included(walk: &Walk<'_, '_, '_>, directory: &Entry) -> Result<bool, CopyError> {
    let again = walk.options.exclude.may_include_again();
    if !walk.tree.may_include_again() && !again {
        return Ok(false);
    }
    at(&directory.path, walk.tree.has_included(directory, (walk.excluded, again)))
}

/// Makes the directory `target`, whose parent exists; returns whether it was not there before.
fn make_directory(root: &OwnedFd, target: &[u8]) -> Result<bool, CopyError> {
    let (parent, name) = split_name(target);
    let parent = at(target, open_in_root(root, parent, OFlags::PATH | OFlags::DIRECTORY))?;
    match rustix::fs::mkdirat(&parent, name, Mode::from(0o700)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => match open_in_root(root, target, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => Ok(false),
            Err(_) => Err(CopyError::OverFile(shown(target))),
        },
        Err(error) => at(target, Err(error.into())),
    }
}

/// Makes `path` and its missing parents with the owner and mode of the options; by default they belong to
/// root and have mode 0755. Links are followed inside the root, even to missing targets.
pub fn make_directories(root: &OwnedFd, path: &[u8], options: &CopyOptions) -> Result<(), CopyError> {
    let path = at(path, resolve(root, path))?;
    let mode = options.mode_of_made.as_ref().map_or(0o755, |change| change.apply(0o755, true));
    let mut done = Vec::new();
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let next = join(&done, part);
        if options.borrowed.as_ref().is_some_and(|borrowed| borrowed.has(&done, part)) {
            return Err(CopyError::OverFile(shown(&next)));
        }
        match open_in_root(root, &next, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let parent = at(&done, open_in_root(root, &done, OFlags::PATH | OFlags::DIRECTORY))?;
                match rustix::fs::mkdirat(&parent, part, Mode::from(0o755)) {
                    // Another process has put a link there since.
                    Err(rustix::io::Errno::EXIST) => return Err(CopyError::OverFile(shown(&next))),
                    result => at(&next, result.map_err(io::Error::from))?,
                }
                let fd = at(&next, open_in_root(root, &next, OFlags::DIRECTORY | OFlags::RDONLY))?;
                at(&next, set_owner(&fd, options.owner.unwrap_or((0, 0))))?;
                at(&next, rustix::fs::fchmod(&fd, Mode::from(mode)).map_err(io::Error::from))?;
            }
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) => {
                return Err(CopyError::OverFile(shown(&next)));
            }
            Err(e) => return at(&next, Err(e)),
        }
        done = next;
    }
    Ok(())
}

/// Copies anything but a directory to exactly `target`, whose parent exists; `is_in_new` if no file can be in
/// the way.
fn copy_one(walk: &Walk<'_, '_, '_>, entry: &Entry, target: &[u8], is_in_new: bool) -> Result<(), CopyError> {
    let (directory, name) = walk.parent(target)?;
    let parent = &directory.open;
    if !is_in_new {
        if let Some(borrowed) = &walk.options.borrowed {
            borrowed.forget(&directory.resolved, name);
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(rustix::io::Errno::ISDIR) => return Err(CopyError::OverDirectory(shown(target))),
            Err(error) => return at(target, Err(error.into())),
        }
    }
    if let Some(first) = walk.links.first(entry, target) {
        let (first_parent, first_name) = split_name(&first);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let first_parent = at(&first, open_in_root(walk.root, first_parent, flags))?;
        let linked = rustix::fs::linkat(&first_parent, first_name, parent, name, AtFlags::empty());
        return at(target, linked.map_err(io::Error::from));
    }
    match entry.file_type() {
        FileType::RegularFile if lend(walk, entry, &directory, target, is_in_new)? => Ok(()),
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            let source = File::from(at(&entry.path, walk.tree.open_at(&entry.path, flags))?);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(parent, name, flags, Mode::from(0o600)).map_err(io::Error::from);
            let destination = File::from(at(target, made)?);
            if (entry.stat.st_size as u64) < LARGE {
                return copy_content(walk.options, entry, source, destination, target);
            }
            let (options, entry, target) = (walk.options, entry.clone(), target.to_vec());
            let mut contents = walk.contents.borrow_mut();
            let copy = move || copy_content(options, &entry, source, destination, &target);
            let copied = contents.beside.run(copy);
            contents.waiting.push(copied);
            Ok(())
        }
        FileType::Symlink => {
            let link = at(&entry.path, walk.tree.read_link(&entry.path))?;
            at(target, rustix::fs::symlinkat(&link, parent, name).map_err(io::Error::from))?;
            let (uid, gid) = walk.options.owner_of(entry);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            let result = rustix::fs::chownat(parent, name, owner.0, owner.1, flags);
            at(target, owned(result, (uid, gid)))?;
            let times = times(walk.options, entry);
            at(target, rustix::fs::utimensat(parent, name, &times, flags).map_err(io::Error::from))
        }
        FileType::Fifo => {
            let made = rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from(0o600), 0);
            at(target, made.map_err(io::Error::from))?;
            // Not by name, which would follow a link that another process has put there since.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fifo =
                at(target, rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(io::Error::from))?;
            let stat = at(target, rustix::fs::fstat(&fifo).map_err(io::Error::from))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
                return at(
                    target,
                    Err(io::Error::other("somebody has replaced the FIFO that was made here")),
                );
            }
            let (uid, gid) = walk.options.owner_of(entry);
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            let result = rustix::fs::chownat(&fifo, "", owner.0, owner.1, AtFlags::EMPTY_PATH);
            at(target, owned(result, (uid, gid)))?;
            let mode = Mode::from_raw_mode(walk.options.mode_of(entry));
            let itself = format!("/proc/self/fd/{}", fifo.as_raw_fd());
            at(target, rustix::fs::chmod(itself, mode).map_err(io::Error::from))
        }
        // A socket is an address of a running process and useless without it.
        FileType::Socket => Ok(()),
        _ => Err(CopyError::Device(entry.shown())),
    }
}

/// Lends a regular file to the tree instead of copying it, if the tree borrows; returns whether it did.
fn lend(
    walk: &Walk<'_, '_, '_>,
    entry: &Entry,
    directory: &Parent,
    target: &[u8],
    is_in_new: bool,
) -> Result<bool, CopyError> {
    // The names of a file with several ones are archived in another order.
    let Some(borrowed) = walk.options.borrowed.as_ref().filter(|_| entry.stat.st_nlink == 1) else {
        return Ok(false);
    };
    let root = match walk.lender.get() {
        Some(root) => root,
        None => {
            let root = Arc::new(at(&entry.path, walk.tree.root().try_clone())?);
            walk.lender.get_or_init(|| root)
        }
    };
    let xattrs = match walk.options.xattrs {
        true => {
            let source = walk.tree.open_at(&entry.path, OFlags::RDONLY | OFlags::NONBLOCK);
            let mut xattrs = at(&entry.path, source.and_then(read_xattrs))?;
            xattrs.sort();
            xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect()
        }
        false => Vec::new(),
    };
    let lent = Lent {
        root: root.clone(),
        source: entry.path.clone(),
        stat: entry.stat,
        mode: walk.options.mode_of(entry),
        owner: walk.options.owner_of(entry),
        mtime: times(walk.options, entry).last_modification.tv_sec,
        xattrs,
    };
    let is_lent = borrowed.lend(&directory.resolved, split_name(target).1, lent);
    if is_lent && !is_in_new {
        at(target, directory.touch(walk.root))?;
    }
    Ok(is_lent)
}

fn copy_content(
    options: &CopyOptions,
    entry: &Entry,
    mut source: File,
    mut destination: File,
    target: &[u8],
) -> Result<(), CopyError> {
    at(&entry.path, copy_bytes(&mut source, &mut destination, entry.stat.st_size))?;
    set_owner_and_mode(options, entry, &destination, target)?;
    if options.xattrs {
        at(&entry.path, copy_xattrs(&source, &destination))?;
    }
    set_times(options, entry, &destination, target)
}

/// Copies the bytes of a file that had a size a moment ago: a small one with one read and one write.
fn copy_bytes(source: &mut File, destination: &mut File, size: i64) -> io::Result<()> {
    if size < SMALL {
        let mut buffer = buffer_for(size);
        let mut filled = 0;
        while filled < buffer.len() {
            match source.read(&mut buffer[filled..]) {
                Ok(0) => return destination.write_all(&buffer[..filled]),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            // A read of a regular file gives less only at its end.
            if filled as i64 == size {
                return destination.write_all(&buffer[..filled]);
            }
        }
        // It has grown.
        destination.write_all(&buffer)?;
    }
    io::copy(source, destination).map(drop)
}

/// Files below this size are copied through memory, in bytes: the kernel would take more calls.
const SMALL: i64 = 64 * 1024;

/// Sets owner, mode, attributes and times of a directory.
fn set_metadata(
    options: &CopyOptions,
    tree: &Tree,
    entry: &Entry,
    fd: &OwnedFd,
    target: &[u8],
) -> Result<(), CopyError> {
    set_owner_and_mode(options, entry, fd, target)?;
    if options.xattrs {
        let source = tree.open_at(&entry.path, OFlags::RDONLY | OFlags::DIRECTORY);
        at(&entry.path, source.and_then(|source| copy_xattrs(source, fd)))?;
    }
    set_times(options, entry, fd, target)
}

/// Sets the owner, then the mode. A change of owner clears set-user-ID and file capabilities (chown(2),
/// capabilities(7)), so mode and attributes come after it. A write clears them, too, so content comes first.
fn set_owner_and_mode(
    options: &CopyOptions,
    entry: &Entry,
    fd: impl AsFd + Copy,
    target: &[u8],
) -> Result<(), CopyError> {
    at(target, set_owner(fd, options.owner_of(entry)))?;
    let mode = Mode::from_raw_mode(options.mode_of(entry));
    at(target, rustix::fs::fchmod(fd, mode).map_err(io::Error::from))
}

fn set_times(options: &CopyOptions, entry: &Entry, fd: impl AsFd, target: &[u8]) -> Result<(), CopyError> {
    at(target, rustix::fs::futimens(fd, &times(options, entry)).map_err(io::Error::from))
}

/// Gives a file to an owner, see [`owned`].
pub(crate) fn set_owner(file: impl AsFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    owned(rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))), (uid, gid))
}

/// The result of giving a file to an owner. With a single id in the user namespace, files cannot have another
/// owner and keep the only one.
///
/// # Errors
///
/// Besides those of chown(2): an id that the user namespace does not have (EINVAL there).
pub(crate) fn owned(result: rustix::io::Result<()>, (uid, gid): (u32, u32)) -> io::Result<()> {
    match result {
        Err(rustix::io::Errno::INVAL) if IdMapping::current()?.is_single() => Ok(()),
        Err(rustix::io::Errno::INVAL) => Err(io::Error::other(format!(
            "owner {uid}:{gid} is outside the ids of this user: extend its ranges in /etc/subuid and /etc/subgid"
        ))),
        result => Ok(result?),
    }
}

fn times(options: &CopyOptions, entry: &Entry) -> Timestamps {
    let mut mtime = Timespec { tv_sec: entry.stat.st_mtime, tv_nsec: entry.stat.st_mtime_nsec as _ };
    if let Some(nanoseconds) = options.mtime {
        const SECOND: i64 = 1_000_000_000;
        mtime =
            Timespec { tv_sec: nanoseconds.div_euclid(SECOND), tv_nsec: nanoseconds.rem_euclid(SECOND) as _ };
    }
    if let Some(max) = options.mtime_max
        && mtime.tv_sec >= max
    {
        mtime = Timespec { tv_sec: max, tv_nsec: 0 };
    }
    Timestamps { last_access: mtime, last_modification: mtime }
}

/// Copies file capabilities and user attributes, without those of overlayfs itself.
fn copy_xattrs(source: impl AsFd, destination: impl AsFd) -> io::Result<()> {
    for (name, value) in read_xattrs(source)? {
        rustix::fs::fsetxattr(&destination, name.as_str(), &value, rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

/// File capabilities and user attributes, without those of overlayfs itself.
fn read_xattrs(source: impl AsFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let source = source.as_fd();
    let mut names = vec![0u8; 65536];
    let length = match rustix::fs::flistxattr(source, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let wanted = name == "security.capability" || name.starts_with("user.");
        if !wanted || name.starts_with("user.overlay.") {
            continue;
        }
        let mut value = vec![0u8; 65536];
        let length = rustix::fs::fgetxattr(source, name.as_str(), &mut value[..])?;
        value.truncate(length);
        all.push((name, value));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_dockerfile::ignore::Ignore;
    use crossdock_oci::Digest;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
        std::fs::write(path, content).expect("writable");
    }

    fn own() -> CopyOptions {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        CopyOptions { owner: Some((uid, gid)), ..CopyOptions::default() }
    }

    fn run(
        source: &Path,
        what: &str,
        target: &Path,
        to: &str,
        placement: Placement,
        options: &CopyOptions,
    ) -> Result<(), CopyError> {
        let tree = Tree::open(source, Ignore::default()).expect("readable");
        let root = Tree::open(target, Ignore::default()).expect("readable");
        copy(&tree, &tree.entry(what).expect("there"), root.root(), to.as_bytes(), placement, options)
    }

    fn key(source: &Path, what: &str, options: &CopyOptions) -> Digest {
        let tree = Tree::open(source, Ignore::default()).expect("readable");
        let mut key = Key::new("copy", &Digest::of(b""));
        add_to_key(&mut key, &tree, &tree.entry(what).expect("there"), options, None).expect("readable");
        key.finish()
    }

    #[test]
    fn files_and_directories_arrive() {
        let (from, to) = (tempfile::tempdir().expect("tmp"), tempfile::tempdir().expect("tmp"));
        write(from.path(), "d/sub/a", "A");
        write(from.path(), "d/run.sh", "x");
        std::fs::set_permissions(from.path().join("d/run.sh"), PermissionsExt::from_mode(0o750))
            .expect("own file");
        symlink("sub/a", from.path().join("d/link")).expect("writable");
        run(from.path(), "d", to.path(), "/new/place", Placement::Exact, &own()).expect("copies");
        run(from.path(), "d/run.sh", to.path(), "/bin", Placement::Into, &own()).expect("copies");
        run(from.path(), "d/sub/a", to.path(), "/b", Placement::Exact, &own()).expect("copies");
        assert_eq!(std::fs::read(to.path().join("new/place/link")).expect("there"), b"A");
        assert_eq!(std::fs::read(to.path().join("b")).expect("there"), b"A");
        let (a, b) = (from.path().join("d/run.sh"), to.path().join("bin/run.sh"));
        let (a, b) = (a.metadata().expect("there"), b.metadata().expect("there"));
        assert_eq!((a.mode(), a.mtime(), a.mtime_nsec()), (b.mode(), b.mtime(), b.mtime_nsec()));
    }

    #[test]
    fn hard_links_stay_hard_links() {
        let (from, to) = (tempfile::tempdir().expect("tmp"), tempfile::tempdir().expect("tmp"));
        write(from.path(), "d/a", "A");
        let copied = key(from.path(), "d", &own());
        write(from.path(), "d/sub/b", "A");
        let apart = key(from.path(), "d", &own());
        std::fs::remove_file(from.path().join("d/sub/b")).expect("writable");
        std::fs::hard_link(from.path().join("d/a"), from.path().join("d/sub/b")).expect("writable");
        // A link outside of the copied directory does not count.
        std::fs::hard_link(from.path().join("d/a"), from.path().join("outside")).expect("writable");
        let linked = key(from.path(), "d", &own());
        assert!(linked != apart && linked != copied);
        run(from.path(), "d", to.path(), "x", Placement::Exact, &own()).expect("copies");
        let metadata = |path: &str| to.path().join(path).metadata().expect("there");
        assert_eq!(metadata("x/a").ino(), metadata("x/sub/b").ino());
        assert_eq!(metadata("x/a").nlink(), 2);
    }

    #[test]
    fn modes_times_and_exclusions() {
        let (from, to) = (tempfile::tempdir().expect("tmp"), tempfile::tempdir().expect("tmp"));
        write(from.path(), "d/a.c", "A");
        write(from.path(), "d/a.o", "O");
        let options = CopyOptions {
            mode: Some(ModeChange::parse("u=rwX,go=").expect("valid")),
            exclude: Ignore::of_patterns(["*.o"]).expect("valid"),
            mtime_max: Some(1000),
            ..own()
        };
        run(from.path(), "d", to.path(), "x", Placement::Exact, &options).expect("copies");
        assert!(!to.path().join("x/a.o").exists());
        let made = to.path().join("x/a.c").metadata().expect("there");
        assert_eq!((made.mode() & 0o7777, made.mtime()), (0o600, 1000));
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let (from, to) = (tempfile::tempdir().expect("tmp"), tempfile::tempdir().expect("tmp"));
        let outside = tempfile::tempdir().expect("tmp");
        write(from.path(), "f", "new");
        write(outside.path(), "f", "old");
        symlink(outside.path(), to.path().join("out")).expect("writable");
        symlink(outside.path().join("f"), to.path().join("final")).expect("writable");
        let _ = run(from.path(), "f", to.path(), "out/", Placement::Into, &own());
        run(from.path(), "f", to.path(), "final", Placement::Exact, &own()).expect("writes inside the root");
        let _ = run(from.path(), "f", to.path(), "../../f", Placement::Exact, &own());
        assert_eq!(std::fs::read(outside.path().join("f")).expect("there"), b"old");
        assert_eq!(std::fs::read(to.path().join("f")).expect("stays inside"), b"new");
    }

    #[test]
    fn types_are_not_mixed_up() {
        let (from, to) = (tempfile::tempdir().expect("tmp"), tempfile::tempdir().expect("tmp"));
        write(from.path(), "d/x", "1");
        write(from.path(), "x", "1");
        std::fs::create_dir(to.path().join("x")).expect("writable");
        write(to.path(), "file", "1");
        let error = run(from.path(), "x", to.path(), "x", Placement::Exact, &own()).expect_err("a directory");
        assert!(matches!(error, CopyError::OverDirectory(_)), "{error}");
        let error = run(from.path(), "d", to.path(), "file", Placement::Exact, &own()).expect_err("a file");
        assert!(matches!(error, CopyError::OverFile(_)), "{error}");
    }

    #[test]
    fn keys_follow_content_mode_and_owner_but_not_time() {
        let from = tempfile::tempdir().expect("tmp");
        write(from.path(), "d/a", "A");
        let before = key(from.path(), "d", &own());
        let file = File::options().write(true).open(from.path().join("d/a")).expect("writable");
        file.set_modified(std::time::UNIX_EPOCH).expect("own file");
        assert_eq!(key(from.path(), "d", &own()), before);
        assert_ne!(key(from.path(), "d", &CopyOptions { owner: Some((7, 7)), ..own() }), before);
        std::fs::set_permissions(from.path().join("d/a"), PermissionsExt::from_mode(0o755))
            .expect("own file");
        let with_mode = key(from.path(), "d", &own());
        assert_ne!(with_mode, before);
        write(from.path(), "d/a", "B");
        assert_ne!(key(from.path(), "d", &own()), with_mode);
    }
}
