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

use crate::layer::tree::DEPTH_MAX;
use crate::layer::whiteout::{is_image_xattr, is_opaque, is_whiteout};

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
}

/// Called with the path from the top.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], Item<'_>) -> io::Result<()>;

/// Walks one tree in overlay form: whiteouts and opaque directories are reported.
pub(crate) fn layer(tree: BorrowedFd<'_>, visit: Visit<'_>) -> io::Result<()> {
    level(&[tree.try_clone_to_owned()?], true, &mut Vec::new(), 0, visit)
}

/// Walks several trees in overlay form, the lowest first, as one tree in overlay form: what hides or deletes
/// something below all of them is reported.
pub(crate) fn squashed(trees: &[OwnedFd], visit: Visit<'_>) -> io::Result<()> {
    let top_first: Vec<OwnedFd> = trees.iter().rev().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
    level(&top_first, true, &mut Vec::new(), 0, visit)
}

/// Walks several trees, the lowest first, as overlay would merge them.
pub(crate) fn merged(trees: &[OwnedFd], visit: Visit<'_>) -> io::Result<()> {
    let top_first: Vec<OwnedFd> = trees.iter().rev().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
    level(&top_first, false, &mut Vec::new(), 0, visit)
}

/// What a name is in the merged directory.
struct Found {
    stat: Stat,
    /// Numbers of the trees that have the name; more than one only for directories.
    trees: Vec<usize>,
    /// Whether lower trees no longer count.
    closed: bool,
    opaque: bool,
}

fn level(
    trees: &[OwnedFd],
    marks: bool,
    path: &mut Vec<u8>,
    depth: usize,
    visit: Visit<'_>,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("directories are nested deeper than {DEPTH_MAX}")));
    }
    for (name, found) in &list(trees)? {
        let name = OsStr::from_bytes(name);
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        if is_whiteout(&found.stat) {
            if marks {
                visit(path, Item::Whiteout)?;
            }
        } else if FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory {
            let open = |i: &usize| open_directory(trees[*i].as_fd(), name);
            let below: Vec<OwnedFd> = found.trees.iter().map(open).collect::<rustix::io::Result<_>>()?;
            visit(path, Item::Directory { fd: below[0].as_fd(), stat: &found.stat })?;
            if marks && found.opaque {
                visit(path, Item::Opaque)?;
            }
            level(&below, marks, path, depth + 1, visit)?;
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
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
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
                    names.insert(name.to_vec(), Found { stat, trees: vec![i], closed, opaque });
                }
            }
        }
    }
    Ok(names)
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
