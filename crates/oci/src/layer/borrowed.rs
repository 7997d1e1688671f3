//! Files that a tree borrows: they are not in it, but are archived as if they were, with their content taken
//! from files elsewhere.
//!
//! Copying files into a tree that only becomes an archive would make files and write their bytes for nobody.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, openat2};

/// The most files that one tree borrows: each takes some memory until it is archived.
const FILES_MAX: usize = 100_000;

/// The files that a tree borrows, by directory and name. Directories are those of the tree; a path leads
/// through no symbolic link.
#[derive(Debug, Default)]
pub struct Borrowed(Mutex<Directories>);

#[derive(Debug, Default)]
struct Directories {
    names: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Lent>>,
    count: usize,
}

/// A file as it is archived.
#[derive(Clone, Debug)]
pub struct Lent {
    /// The root of the tree that has the content.
    pub root: Arc<OwnedFd>,
    /// The path there; links are followed inside of the root.
    pub source: Vec<u8>,
    /// What the source was like when it was lent.
    pub stat: Stat,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Time of the last change, in seconds since 1970.
    pub mtime: i64,
    /// Attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Lent {
    /// Opens the source.
    pub(crate) fn open(&self) -> io::Result<(OwnedFd, Stat)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = loop {
            match openat2(&self.root, &self.source[..], flags, Mode::empty(), resolve) {
                // A rename elsewhere during the look-up: the kernel asks to try again (openat2(2)).
                Err(rustix::io::Errno::AGAIN) => {}
                other => break other?,
            }
        };
        let stat = rustix::fs::fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((file, stat)),
            _ => Err(io::Error::other("something else took the file's place while it was archived")),
        }
    }
}

/// Whether both are of the same file with the same content: a change sets the time that programs cannot set.
pub(crate) fn is_unchanged(a: &Stat, b: &Stat) -> bool {
    let facts =
        |s: &Stat| (s.st_dev, s.st_ino, s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    facts(a) == facts(b)
}

impl Borrowed {
    /// Borrows a file with a name in a directory; false if there are too many already.
    pub fn lend(&self, directory: &[u8], name: &[u8], lent: Lent) -> bool {
        let mut all = self.all();
        if all.count >= FILES_MAX {
            return false;
        }
        let known = all.names.entry(directory.to_vec()).or_default().insert(name.to_vec(), lent);
        all.count += usize::from(known.is_none());
        true
    }

    /// A file of the tree took the place of this one, or will.
    pub fn forget(&self, directory: &[u8], name: &[u8]) {
        let mut all = self.all();
        let known = all.names.get_mut(directory).and_then(|names| names.remove(name));
        all.count -= usize::from(known.is_some());
    }

    /// Whether there is a borrowed file with a name in a directory.
    pub fn has(&self, directory: &[u8], name: &[u8]) -> bool {
        self.all().names.get(directory).is_some_and(|names| names.contains_key(name))
    }

    /// Whether nothing is borrowed.
    pub fn is_empty(&self) -> bool {
        self.all().count == 0
    }

    /// The files of a directory, which are then no longer here.
    pub(crate) fn take(&self, directory: &[u8]) -> BTreeMap<Vec<u8>, Lent> {
        let mut all = self.all();
        let names = all.names.remove(directory).unwrap_or_default();
        all.count -= names.len();
        names
    }

    /// The directory of a file that was not archived.
    pub(crate) fn first(&self) -> Option<Vec<u8>> {
        self.all().names.iter().find(|(_, names)| !names.is_empty()).map(|(directory, _)| directory.clone())
    }

    fn all(&self) -> MutexGuard<'_, Directories> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
