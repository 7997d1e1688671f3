//! Walking directories in the order of archives: one layer's tree in overlay form, or several merged as
//! overlay does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::layer::borrowed::{Borrowed, Lent};
use crate::layer::tree::DEPTH_MAX;
use crate::layer::whiteout::{WHITEOUT, is_image_xattr, is_opaque, is_whiteout};

/// Something found by a walk.
pub(crate) enum Item<'a> {
    /// A directory; what is in it follows.
    Directory { fd: BorrowedFd<'a>, stat: &'a Stat },
    /// A mark that hides the named directory's content in lower layers.
    Opaque,
    /// A mark that the name is deleted.
    Whiteout,
    /// Anything else, by its directory and name.
    Other { dir: BorrowedFd<'a>, name: &'a OsStr, stat: &'a Stat },
    /// A file that the tree borrows.
    Lent(&'a Lent),
}

/// Called with the path from the top.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], Item<'_>) -> io::Result<()>;

/// Walks one tree in overlay form with the files that it borrows, which it no longer does then: whiteouts and
/// opaque directories are reported.
///
/// # Errors
///
/// Besides those of reading: a borrowed file's directory is not in the tree.
pub(crate) fn layer(tree: BorrowedFd<'_>, borrowed: &Borrowed, visit: Visit<'_>) -> io::Result<()> {
    level(&[tree.try_clone_to_owned()?], (Marks::All, Some(borrowed)), &mut Vec::new(), 0, visit)?;
    match borrowed.first() {
        Some(directory) => {
            let directory = String::from_utf8_lossy(&directory).into_owned();
            Err(io::Error::other(format!("/{directory} should be in the layer, and is not")))
        }
        None => Ok(()),
    }
}

/// Walks several trees in overlay form, the lowest first, as one tree in overlay form: what hides or deletes
/// something in the trees below, which also come the lowest first, is reported.
pub(crate) fn squashed(trees: &[OwnedFd], below: &[OwnedFd], visit: Visit<'_>) -> io::Result<()> {
    let marks = Marks::Of(top_first(below)?);
    level(&top_first(trees)?, (marks, None), &mut Vec::new(), 0, visit)
}

fn top_first(trees: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    trees.iter().rev().map(OwnedFd::try_clone).collect()
}

/// Walks several trees, the lowest first, as overlay would merge them.
pub(crate) fn merged(trees: &[OwnedFd], visit: Visit<'_>) -> io::Result<()> {
    level(&top_first(trees)?, (Marks::None, None), &mut Vec::new(), 0, visit)
}

/// Which marks of deletion a walk reports.
enum Marks {
    None,
    All,
    /// Those that delete something in these directories below, the topmost first.
    Of(Vec<OwnedFd>),
}

impl Marks {
    /// Whether the deletion of `name` is reported.
    fn whiteout(&self, name: &OsStr) -> io::Result<bool> {
        let below = match self {
            Marks::None => return Ok(false),
            Marks::All => return Ok(true),
            Marks::Of(below) => below,
        };
        for tree in below {
            match rustix::fs::statat(tree, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => return Ok(!is_whiteout(&stat)),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }

    /// Those of a directory in this one.
    fn within(&self, name: &OsStr) -> io::Result<Marks> {
        let below = match self {
            Marks::None => return Ok(Marks::None),
            Marks::All => return Ok(Marks::All),
            Marks::Of(below) => below,
        };
        let mut inner = Vec::new();
        for tree in below {
            match rustix::fs::statat(tree, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is_directory(&stat) => {}
                Ok(_) => break,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            }
            let directory = open_directory(tree.as_fd(), name)?;
            let is_last = is_opaque(directory.as_fd());
            inner.push(directory);
            if is_last {
                break;
            }
        }
        Ok(Marks::Of(inner))
    }

    /// Whether an opaque directory of this place is reported.
    fn is_something_below(&self) -> bool {
        match self {
            Marks::None => false,
            Marks::All => true,
            Marks::Of(below) => !below.is_empty(),
        }
    }

    /// An opaque directory hides what is below.
    fn hide(&mut self) {
        if let Marks::Of(below) = self {
            below.clear();
        }
    }
}

/// What a name is in the merged directory.
struct Found {
    stat: Stat,
    /// Numbers of the trees that have the name; more than one only for directories.
    trees: Vec<usize>,
    /// Whether lower trees no longer count.
    closed: bool,
    opaque: bool,
    /// A borrowed file of this name.
    lent: Option<Box<Lent>>,
}

fn level(
    trees: &[OwnedFd],
    (marks, borrowed): (Marks, Option<&Borrowed>),
    path: &mut Vec<u8>,
    depth: usize,
    visit: Visit<'_>,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("directories are nested deeper than {DEPTH_MAX}")));
    }
    let mut names = list(trees)?;
    for (name, lent) in borrowed.map(|borrowed| borrowed.take(path)).unwrap_or_default() {
        let (stat, trees) = (lent.stat, Vec::new());
        let found = Found { stat, trees, closed: true, opaque: false, lent: Some(Box::new(lent)) };
        // It may have taken the place of a file of the layers below, which left a whiteout.
        if names.insert(name, found).is_some_and(|found| is_directory(&found.stat)) {
            return Err(io::Error::other("a borrowed file has the name of a directory"));
        }
    }
    for (name, found) in &names {
        let name = OsStr::from_bytes(name);
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        if name.as_bytes().starts_with(WHITEOUT) && !matches!(marks, Marks::None) {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(io::Error::other(format!(
                "/{path}: in a layer, a name that begins with \".wh.\" marks a deletion (OCI image specification, \
                 \"Whiteouts\"), so no file can have it: rename or remove it"
            )));
        }
        if let Some(lent) = &found.lent {
            visit(path, Item::Lent(lent))?;
        } else if is_whiteout(&found.stat) {
            if marks.whiteout(name)? {
                visit(path, Item::Whiteout)?;
            }
        } else if is_directory(&found.stat) {
            let open = |i: &usize| open_directory(trees[*i].as_fd(), name);
            let below: Vec<OwnedFd> = found.trees.iter().map(open).collect::<rustix::io::Result<_>>()?;
            visit(path, Item::Directory { fd: below[0].as_fd(), stat: &found.stat })?;
            let mut inner = marks.within(name)?;
            if found.opaque && inner.is_something_below() {
                visit(path, Item::Opaque)?;
                inner.hide();
            }
            level(&below, (inner, borrowed), path, depth + 1, visit)?;
        } else {
            visit(path, Item::Other { dir: trees[found.trees[0]].as_fd(), name, stat: &found.stat })?;
        }
        path.truncate(length);
    }
    Ok(())
}

/// Names of one directory over all trees, the topmost tree first.
fn list(trees: &[OwnedFd]) -> io::Result<BTreeMap<Vec<u8>, Found>> {
    let mut names: BTreeMap<Vec<u8>, Found> = BTreeMap::new();
    for (i, tree) in trees.iter().enumerate() {
        for entry in Dir::read_from(tree)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || names.get(name).is_some_and(|found| found.closed) {
                continue;
            }
            let stat = rustix::fs::statat(tree, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)?;
            let is_directory = is_directory(&stat);
            let opaque =
                is_directory && is_opaque(open_directory(tree.as_fd(), OsStr::from_bytes(name))?.as_fd());
            match names.get_mut(name) {
                // Only directories merge with those below.
                Some(found) => {
                    if is_directory {
                        found.trees.push(i);
                    }
                    // A file or a whiteout in a lower tree hides what is below it, as an opaque directory.
                    found.opaque |= !is_directory || opaque;
                    found.closed = !is_directory || opaque;
                }
                None => {
                    let closed = !is_directory || opaque;
                    names.insert(name.to_vec(), Found { stat, trees: vec![i], closed, opaque, lent: None });
                }
            }
        }
    }
    Ok(names)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The attributes of an open file that belong in archives, sorted by name.
pub(crate) fn xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let mut large = Vec::new();
    let names: &[u8] = match rustix::fs::flistxattr(fd, &mut buffer[..]) {
        Ok((names, _)) => names,
        Err(Errno::RANGE) => {
            large.resize(64 * 1024, 0);
            let length = rustix::fs::flistxattr(fd, &mut large[..])?;
            &large[..length]
        }
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut all = Vec::new();
    for name in names.split(|b| *b == 0) {
        let Some(text) = std::str::from_utf8(name).ok().filter(|n| is_image_xattr(n)) else { continue };
        let mut value = vec![0; 64 * 1024];
        match rustix::fs::fgetxattr(fd, text, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                all.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    all.sort();
    Ok(all)
}
