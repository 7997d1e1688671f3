//! Files below a root that cannot be left: the build context, the root of a stage, a directory of an image.
//!
//! Every look-up goes through `openat2(2)` with `RESOLVE_IN_ROOT`, so symbolic links, `..` and absolute names stay
//! inside the root, whatever they say. Names are bytes, as the kernel has them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::Utf8Chunk;

use crossdock_dockerfile::ignore::{Ignore, clean_bytes};
use crossdock_dockerfile::pattern::{Pattern, PatternError};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

/// A root directory and the rules for what in it is seen.
pub struct Tree {
    root: OwnedFd,
    ignore: Ignore,
}

/// One file, directory or link below a [`Tree`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// Path below the root, `/`-separated, no leading slash; empty for the root itself.
    pub path: Vec<u8>,
    /// Type, mode, owner, size, times.
    pub stat: Stat,
}

impl Entry {
    /// Type of the file.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// The last part of the path; empty for the root.
    pub fn name(&self) -> &[u8] {
        split_name(&self.path).1
    }

    /// The path for messages.
    pub fn shown(&self) -> String {
        shown(&self.path)
    }
}

impl Tree {
    /// The tree below an open directory, everything in it seen.
    pub fn new(root: OwnedFd) -> Tree {
        Tree { root, ignore: Ignore::default() }
    }

    /// The tree below a directory of the host, without what `ignore` leaves out.
    pub fn open(directory: &Path, ignore: Ignore) -> io::Result<Tree> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        Ok(Tree { root: rustix::fs::open(directory, flags, Mode::empty())?, ignore })
    }

    /// The root directory.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Whether some files may be left out.
    pub fn is_filtered(&self) -> bool {
        !self.ignore.is_empty()
    }

    /// Whether the ignore rules leave out `path`.
    pub fn excludes(&self, path: &[u8]) -> bool {
        self.ignore.excludes(path)
    }

    /// Opens `path` inside the root. With `NOFOLLOW` in `flags` a link at the end is not followed.
    pub fn open_at(&self, path: impl AsRef<[u8]>, flags: OFlags) -> io::Result<OwnedFd> {
        open_in_root(&self.root, path, flags)
    }

    /// The entry at `path`, links followed inside the root.
    pub fn entry(&self, path: impl AsRef<[u8]>) -> io::Result<Entry> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::PATH)?;
        Ok(Entry { path: clean_relative(path), stat: rustix::fs::fstat(&fd)? })
    }

    /// Entries that a source of COPY names: the path itself, or what its pattern matches, in the order of names. With
    /// `deep`, `**` in the pattern is any number of directories, as with `COPY --parents`; else it means `*`.
    pub fn select(&self, source: &str, deep: bool) -> Result<Vec<Entry>, SelectError> {
        let path = clean_relative(source.as_bytes());
        if !Pattern::is_pattern(&path) {
            return match self.entry(&path) {
                Ok(entry) if self.hides(&entry) => Err(SelectError::Ignored(source.to_string())),
                Ok(entry) => Ok(vec![entry]),
                Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(20) => {
                    Err(SelectError::NotFound(source.to_string()))
                }
                Err(e) => Err(SelectError::Io(source.to_string(), e)),
            };
        }
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        for segment in path.split(|byte| *byte == b'/') {
            let pattern = Pattern::new(segment)?;
            let mut next = Vec::new();
            if deep && segment == b"**" {
                found.iter().for_each(|base| self.directories(base, &mut next));
                found = next;
                continue;
            }
            for base in &found {
                if !Pattern::is_pattern(segment) {
                    let path = join(base, segment);
                    if self.open_at(&path, OFlags::PATH).is_ok() {
                        next.push(path);
                    }
                    continue;
                }
                let Ok(names) = self.names(base) else { continue };
                next.extend(names.iter().filter(|n| pattern.matches(n)).map(|n| join(base, n)));
            }
            found = next;
        }
        let entries: Vec<Entry> = found
            .into_iter()
            .filter_map(|path| self.entry(&path).ok())
            .filter(|entry| !self.hides(entry))
            .collect();
        if entries.is_empty() {
            return Err(SelectError::NoMatch(source.to_string()));
        }
        Ok(entries)
    }

    /// Whether the ignore rules leave out the entry and all that may be in it.
    fn hides(&self, entry: &Entry) -> bool {
        let below = entry.is_dir() && self.ignore.may_include_again();
        self.ignore.excludes(&entry.path) && !below
    }

    /// `base` and all directories below it, links not followed.
    fn directories(&self, base: &[u8], all: &mut Vec<Vec<u8>>) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        if self.open_at(base, flags).is_err() {
            return;
        }
        all.push(base.to_vec());
        for name in self.names(base).unwrap_or_default() {
            self.directories(&join(base, &name), all);
        }
    }

    /// Names in a directory, sorted by bytes.
    pub fn names(&self, directory: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let fd = self.open_at(directory, OFlags::DIRECTORY | OFlags::RDONLY)?;
        names_in(&fd)
    }

    /// `start` and everything below it in a fixed order: a directory before its content, names sorted. `visit` gets
    /// each entry that is not left out; a directory that is left out is not visited but entered where something
    /// below may be included again.
    pub fn walk(
        &self,
        start: &Entry,
        also_excluded: &dyn Fn(&[u8]) -> bool,
        visit: &mut dyn FnMut(&Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        let excluded =
            !start.path.is_empty() && (self.ignore.excludes(&start.path) || also_excluded(&start.path));
        if !excluded {
            visit(start)?;
        } else if !start.is_dir() || !self.ignore.may_include_again() {
            return Ok(());
        }
        if start.is_dir() {
            let fd = self.open_at(&start.path, OFlags::DIRECTORY | OFlags::RDONLY)?;
            for name in names_in(&fd)? {
                let stat = rustix::fs::statat(&fd, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
                self.walk(&Entry { path: join(&start.path, &name), stat }, also_excluded, visit)?;
            }
        }
        Ok(())
    }

    /// The target of the symbolic link at `path`.
    pub fn read_link(&self, path: &[u8]) -> io::Result<CString> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::readlinkat(&fd, c"", Vec::new())?)
    }
}

/// Opens `path` below `root`, never outside, close-on-exec.
pub fn open_in_root(root: impl AsFd, path: impl AsRef<[u8]>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere during the look-up: the kernel asks to try again (openat2(2)).
            Err(rustix::io::Errno::AGAIN) => continue,
            other => return Ok(other?),
        }
    }
}

/// Names in an open directory, sorted by bytes.
pub fn names_in(directory: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `base/name`, or `name` at the root.
pub fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    if base.is_empty() { name.to_vec() } else { [base, b"/", name].concat() }
}

/// A path as that of its directory and its name.
pub fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A path as a path below a root: cleaned, without leading `/`, `..` stopping at the root, empty for the root.
pub fn clean_relative(path: &[u8]) -> Vec<u8> {
    clean_bytes(&[b"/", path].concat()).split_off(1)
}

/// A path for messages: bytes that are not UTF-8 as `\xNN`.
pub fn shown(path: &[u8]) -> String {
    let part = |chunk: Utf8Chunk<'_>| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii());
    path.utf8_chunks().map(part).collect()
}

/// Why a source of COPY or ADD names nothing.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// No such file.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// Left out by the ignore file.
    #[error("\"{0}\": excluded by .dockerignore")]
    Ignored(String),
    /// The pattern matches nothing.
    #[error("no file matches \"{0}\"")]
    NoMatch(String),
    /// The pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The file cannot be looked at.
    #[error("cannot read \"{0}\": {1}")]
    Io(String, io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str], ignore: &str) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for file in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            std::fs::write(path, file).expect("writable");
        }
        let tree = Tree::open(directory.path(), Ignore::parse(ignore).expect("valid")).expect("readable");
        (directory, tree)
    }

    fn walked(tree: &Tree, start: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let start = tree.entry(start).expect("there");
        tree.walk(&start, &|_| false, &mut |entry| {
            seen.push(entry.shown());
            Ok(())
        })
        .expect("readable");
        seen
    }

    #[test]
    fn patterns_select_in_order() {
        let (_keep, tree) = tree(&["a/x.c", "a/y.c", "b/x.c", "b/z.h", "skip.c"], "skip.c");
        let select =
            |s: &str| tree.select(s, false).map(|e| e.into_iter().map(|e| e.shown()).collect::<Vec<_>>());
        assert_eq!(select("*/x.c").expect("found"), ["a/x.c", "b/x.c"]);
        assert_eq!(select("/a/../b/./z.h").expect("found"), ["b/z.h"]);
        assert_eq!(select("../../a").expect("stays inside"), ["a"]);
        assert!(matches!(select("nothing"), Err(SelectError::NotFound(_))));
        assert!(matches!(select("n*"), Err(SelectError::NoMatch(_))));
        assert!(matches!(select("skip.c"), Err(SelectError::Ignored(_))));
        assert!(matches!(select("["), Err(SelectError::Pattern(_))));
        let deep = tree.select("**/x.c", true).expect("found");
        assert_eq!(deep.into_iter().map(|e| e.shown()).collect::<Vec<_>>(), ["a/x.c", "b/x.c"]);
    }

    #[test]
    fn walks_leave_out_what_is_ignored() {
        let (_keep, tree) = tree(&["a/1", "a/2", "b/c/1", "b/c/2"], "b\n!b/c/2\na/1");
        assert_eq!(walked(&tree, ""), ["", "a", "a/2", "b/c/2"]);
    }

    #[test]
    fn names_are_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let (keep, tree) = tree(&["a/x"], "");
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
        std::fs::write(keep.path().join("a").join(name), "x").expect("writable");
        let found = tree.select("a/caf?", false).expect("found");
        assert_eq!((&found[0].path[..], found[0].name()), (&b"a/caf\xe9"[..], &b"caf\xe9"[..]));
        assert_eq!(walked(&tree, ""), ["", "a", "a/caf\\xe9", "a/x"]);
    }

    #[test]
    fn links_cannot_leave_the_root() {
        let (keep, tree) = tree(&["etc/passwd"], "");
        std::os::unix::fs::symlink("/etc", keep.path().join("link")).expect("writable");
        std::os::unix::fs::symlink("../../../../etc/shadow", keep.path().join("up")).expect("writable");
        let inside = tree.entry("link/passwd").expect("inside the root");
        assert_eq!(inside.stat.st_size, "etc/passwd".len() as i64);
        assert_eq!(tree.entry("up").expect_err("not there").kind(), io::ErrorKind::NotFound);
    }
}
