//! Files below a root that cannot be left: the build context, the root of a stage, a directory of an image.
//!
//! Every look-up goes through `openat2(2)` with `RESOLVE_IN_ROOT`, so symbolic links, `..` and absolute names
//! always stay inside the root. Names are bytes, as in the kernel.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::Utf8Chunk;

use crossdock_dockerfile::ignore::{Ignore, clean_bytes};
use crossdock_dockerfile::pattern::{Pattern, PatternError, STEPS_MAX, Steps};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A root directory and the rules that hide parts of it.
pub struct Tree {
    root: OwnedFd,
    ignore: Ignore,
    /// Steps left for patterns of sources.
    steps: Steps,
}

/// Files that one source of COPY or ADD may name, including directories that `**` passes.
const SELECTED_MAX: usize = 1_000_000;

/// What is left out besides the tree's own rules, and whether files may be included again below a directory
/// that is left out.
pub type AlsoExcluded<'a> = (&'a dyn Fn(&[u8]) -> bool, bool);

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

    /// Path for messages.
    pub fn shown(&self) -> String {
        shown(&self.path)
    }
}

impl Tree {
    /// The tree below an open directory, with nothing hidden.
    pub fn new(root: OwnedFd) -> Tree {
        Tree { root, ignore: Ignore::default(), steps: Steps::default() }
    }

    /// The tree below a directory of the host, without what `ignore` leaves out.
    pub fn open(directory: &Path, ignore: Ignore) -> io::Result<Tree> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = rustix::fs::open(directory, flags, Mode::empty())?;
        Ok(Tree { root, ignore, steps: Steps::default() })
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

    /// Whether the ignore rules may include files again below an excluded directory.
    pub fn may_include_again(&self) -> bool {
        self.ignore.may_include_again()
    }

    /// Whether the ignore rules have taken more steps than they may.
    pub fn is_exhausted(&self) -> bool {
        self.ignore.is_exhausted()
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

    /// Entries that a source of COPY names: the path itself, or all matches of its pattern, if any, in the
    /// order of names, links followed. With `deep`, `**` in the pattern means any number of directories, as
    /// with `COPY --parents`; without, it means `*`.
    ///
    /// # Errors
    ///
    /// The path, or a link that the pattern matches, leads nowhere; those of the pattern and the system.
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
        let entry = |path: Vec<u8>| match self.entry(&path) {
            Ok(entry) => Ok(entry),
            // BuildKit does not leave it out, either.
            Err(e)
                if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) =>
            {
                Err(SelectError::LeadsNowhere(source.to_string(), shown(&path)))
            }
            Err(e) => Err(SelectError::Io(source.to_string(), e)),
        };
        let found = self.matches(source, deep)?;
        found.into_iter().filter(|path| path.is_empty() || !self.hides_path(path)).map(entry).collect()
    }

    /// Paths that match a pattern, in the order of names; a link is the link itself. `deep` as in
    /// [`Tree::select`]. What the ignore rules leave out is among them.
    ///
    /// # Errors
    ///
    /// Those of the pattern and the system.
    pub fn matches(&self, source: &str, deep: bool) -> Result<Vec<Vec<u8>>, SelectError> {
        let path = clean_relative(source.as_bytes());
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        let failed = |e| SelectError::Io(source.to_string(), e);
        for segment in path.split(|byte| *byte == b'/') {
            let pattern = Pattern::new(segment)?;
            let mut next = Vec::new();
            if deep && segment == b"**" {
                // A directory below several others is named once.
                let mut known = HashSet::new();
                for base in &found {
                    self.directories(base, &mut known, &mut next).map_err(failed)?;
                }
                found = next;
                continue;
            }
            for base in &found {
                if !Pattern::is_pattern(segment) {
                    let path = join(base, segment);
                    if self.open_at(&path, OFlags::PATH | OFlags::NOFOLLOW).is_ok() {
                        next.push(path);
                    }
                    continue;
                }
                let Ok(names) = self.names(base) else { continue };
                let matches = |name: &&Vec<u8>| pattern.matches_within(name, &self.steps);
                next.extend(names.iter().filter(matches).map(|n| join(base, n)));
                if self.steps.are_used_up() {
                    return Err(SelectError::TooSlow(source.to_string()));
                }
                if next.len() > SELECTED_MAX {
                    return Err(failed(too_many()));
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// [`Tree::hides`] for a path that may be a link that leads nowhere.
    fn hides_path(&self, path: &[u8]) -> bool {
        self.entry(path).map_or_else(|_| self.ignore.excludes(path), |entry| self.hides(&entry))
    }

    /// Whether the ignore rules leave out the entry and everything in it. The root is never hidden.
    fn hides(&self, entry: &Entry) -> bool {
        if entry.path.is_empty() || !self.ignore.excludes(&entry.path) {
            return false;
        }
        !entry.is_dir() || !self.has_included(entry, (&|_| false, false)).unwrap_or(true)
    }

    /// Whether something below a directory is included again.
    ///
    /// # Errors
    ///
    /// As [`Tree::walk`].
    pub fn has_included(&self, directory: &Entry, excluded: AlsoExcluded<'_>) -> io::Result<bool> {
        let mut any = false;
        let result = self.walk_with(directory, excluded, &mut |_| {
            any = true;
            // Ends the walk: one is enough.
            Err(io::ErrorKind::Interrupted.into())
        });
        match result {
            Err(_) if any => Ok(true),
            other => other.map(|()| false),
        }
    }

    /// Adds `base` and all directories below it that are not `known` to `all`, parents first. Follows no
    /// links.
    fn directories(
        &self,
        base: &[u8],
        known: &mut HashSet<Vec<u8>>,
        all: &mut Vec<Vec<u8>>,
    ) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let mut open = vec![base.to_vec()];
        while let Some(path) = open.pop() {
            match self.open_at(&path, flags) {
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()) => {
                    return Err(too_deep(&path));
                }
                Err(_) => continue,
            }
            if !known.insert(path.clone()) {
                continue;
            }
            if known.len() > SELECTED_MAX {
                return Err(too_many());
            }
            let names = self.names(&path).unwrap_or_default();
            open.extend(names.iter().rev().map(|name| join(&path, name)));
            all.push(path);
        }
        Ok(())
    }

    /// Names in a directory, sorted by bytes.
    pub fn names(&self, directory: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let fd = self.open_at(directory, OFlags::DIRECTORY | OFlags::RDONLY)?;
        names_in(&fd)
    }

    /// Visits `start` and everything below it in a fixed order: a directory before its content, names sorted.
    /// `visit` gets each entry that is not left out, and each directory that contains one.
    ///
    /// # Errors
    ///
    /// Those of the system and of `visit`; ignore rules that take too long.
    pub fn walk(
        &self,
        start: &Entry,
        also_excluded: &dyn Fn(&[u8]) -> bool,
        visit: &mut dyn FnMut(&Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        self.walk_with(start, (also_excluded, false), visit)
    }

    /// [`Tree::walk`] with rules that may include files again below a directory that they leave out.
    ///
    /// # Errors
    ///
    /// As [`Tree::walk`].
    pub fn walk_with(
        &self,
        start: &Entry,
        (also_excluded, may_include_again): AlsoExcluded<'_>,
        visit: &mut dyn FnMut(&Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        let may_include_again = may_include_again || self.ignore.may_include_again();
        // Entries to visit wait in a list, so neither the stack nor open files limit the depth.
        let mut open = vec![start.clone()];
        // Directories above this entry that are left out themselves.
        let mut above: Vec<Entry> = Vec::new();
        while let Some(entry) = open.pop() {
            let path = &entry.path;
            above.retain(|directory| {
                path.starts_with(&directory.path) && path.get(directory.path.len()) == Some(&b'/')
            });
            let excluded = !path.is_empty() && (self.ignore.excludes(path) || also_excluded(path));
            if self.ignore.is_exhausted() {
                return Err(rules_are_slow());
            }
            if !excluded {
                for directory in above.drain(..) {
                    visit(&directory)?;
                }
                visit(&entry)?;
            } else if !entry.is_dir() || !may_include_again {
                continue;
            } else {
                above.push(entry.clone());
            }
            if entry.is_dir() {
                let entries = self.entries_in(path).map_err(|error| Unreadable::error(path, error))?;
                open.extend(entries.into_iter().rev());
            }
        }
        Ok(())
    }

    /// The entries of a directory, sorted by the bytes of their names; links are not followed.
    pub fn entries_in(&self, directory: &[u8]) -> io::Result<Vec<Entry>> {
        let fd = match self.open_at(directory, OFlags::DIRECTORY | OFlags::RDONLY) {
            Err(e) if e.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()) => {
                return Err(too_deep(directory));
            }
            other => other?,
        };
        let entry = |name: Vec<u8>| {
            let stat = rustix::fs::statat(&fd, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(Entry { path: join(directory, &name), stat })
        };
        names_in(&fd)?.into_iter().map(entry).collect()
    }

    /// The target of the symbolic link at `path`.
    pub fn read_link(&self, path: &[u8]) -> io::Result<CString> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::readlinkat(&fd, c"", Vec::new())?)
    }
}

/// An error with the path of a tree that it happened to. An `io::Error` holds it, so that it comes through
/// a walk.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct Unreadable {
    /// The path, for messages.
    pub path: String,
    /// What the system said.
    pub error: io::Error,
}

impl Unreadable {
    /// The error of a path, unless it names one already.
    pub fn error(path: &[u8], error: io::Error) -> io::Error {
        if error.get_ref().is_some_and(|inner| inner.is::<Unreadable>()) {
            return error;
        }
        let path = if path.is_empty() { ".".to_string() } else { shown(path) };
        io::Error::new(error.kind(), Unreadable { path, error })
    }
}

/// The error of a path that is too long for the kernel.
fn too_deep(path: &[u8]) -> io::Error {
    io::Error::other(format!(
        "directories are nested too deeply: a path of {} bytes, the limit is 4095",
        path.len()
    ))
}

fn too_many() -> io::Error {
    io::Error::other(format!("the pattern leads to more than {SELECTED_MAX} files"))
}

/// The error of ignore rules that cost more than they may.
pub fn rules_are_slow() -> io::Error {
    io::Error::other(format!(
        "the rules of .dockerignore or --exclude take more than {STEPS_MAX} steps on these files: use fewer \"*\" and \"**\""
    ))
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

/// Symbolic links followed in one path, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Resolves `path` below `root` to a path without `.`, `..` and symbolic links. Targets of links need not
/// exist.
///
/// # Errors
///
/// Too many links, and those of the system.
pub fn resolve(root: impl AsFd, path: &[u8]) -> io::Result<Vec<u8>> {
    let mut pending: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
    let (mut found, mut links) = (Vec::new(), 0);
    while let Some(name) = pending.pop() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                found = split_name(&found).0.to_vec();
                continue;
            }
            _ => {}
        }
        let next = join(&found, &name);
        let link = open_in_root(&root, &next, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|fd| Ok(rustix::fs::readlinkat(&fd, c"", Vec::new())?));
        match link {
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                let target = target.as_bytes();
                if target.starts_with(b"/") {
                    found.clear();
                }
                pending.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
            }
            // Not a link (readlinkat(2): ENOENT or EINVAL), missing, or below a file. Later calls report
            // the last two.
            Err(e)
                if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::INVAL | Errno::NOTDIR)) =>
            {
                found = next;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(found)
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

/// Splits a path into its directory and its name.
pub fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A path relative to the root: clean, without leading `/`; `..` stops at the root, which is the empty path.
pub fn clean_relative(path: &[u8]) -> Vec<u8> {
    clean_bytes(&[b"/", path].concat()).split_off(1)
}

/// A path for messages; bytes that are not UTF-8 are shown as `\xNN`.
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
    /// A pattern matches a link to a file that is not there.
    #[error("\"{0}\": the symbolic link \"{1}\" leads nowhere")]
    LeadsNowhere(String, String),
    /// Left out by the ignore file.
    #[error("\"{0}\": excluded by .dockerignore or the ignore file in its place")]
    Ignored(String),
    /// The pattern takes too long.
    #[error("\"{0}\": the pattern takes more than {STEPS_MAX} steps on these files")]
    TooSlow(String),
    /// The pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The file cannot be examined.
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
        let (directory, tree) = tree(&["a/x.c", "a/y.c", "b/x.c", "b/z.h", "skip.c"], "skip.c");
        let select =
            |s: &str| tree.select(s, false).map(|e| e.into_iter().map(|e| e.shown()).collect::<Vec<_>>());
        assert_eq!(select("*/x.c").expect("found"), ["a/x.c", "b/x.c"]);
        assert_eq!(select("/a/../b/./z.h").expect("found"), ["b/z.h"]);
        assert_eq!(select("../../a").expect("stays inside"), ["a"]);
        assert!(matches!(select("nothing"), Err(SelectError::NotFound(_))));
        assert!(select("n*").expect("no error").is_empty());
        assert!(matches!(select("skip.c"), Err(SelectError::Ignored(_))));
        assert!(matches!(select("["), Err(SelectError::Pattern(_))));
        let root = directory.path();
        std::os::unix::fs::symlink("/nope", root.join("b/broken")).expect("a link");
        for pattern in ["b/*", "*/broken", "b/br?ken"] {
            let error = select(pattern).expect_err(pattern).to_string();
            assert!(error.contains(pattern) && error.contains("\"b/broken\" leads nowhere"), "{error}");
        }
        assert_eq!(tree.matches("b/br*", false).expect("found"), [b"b/broken"]);
        assert_eq!(select("b/?.?").expect("found"), ["b/x.c", "b/z.h"]);
        let hidden = Tree::open(root, Ignore::parse("b/broken\n").expect("valid")).expect("readable");
        assert_eq!(hidden.select("b/*", false).expect("hidden").len(), 2);
        let deep = tree.select("**/x.c", true).expect("found");
        assert_eq!(deep.into_iter().map(|e| e.shown()).collect::<Vec<_>>(), ["a/x.c", "b/x.c"]);
    }

    #[test]
    fn walks_leave_out_what_is_ignored() {
        let (_keep, tree) = tree(&["a/1", "a/2", "b/c/1", "b/c/2"], "b\n!b/c/2\na/1");
        assert_eq!(walked(&tree, ""), ["", "a", "a/2", "b", "b/c", "b/c/2"]);
    }

    #[test]
    fn several_double_stars_name_each_file_once() {
        let (_keep, tree) = tree(&["a/b/c/d/x", "a/y"], "");
        let select = |s: &str| -> Vec<String> {
            tree.select(s, true).expect("found").into_iter().map(|e| e.shown()).collect()
        };
        assert_eq!(select("**/**/**/**/**/**/**/**/x"), ["a/b/c/d/x"]);
        assert_eq!(select("**/b/**/?"), ["a/b/c", "a/b/c/d", "a/b/c/d/x"]);
    }

    #[test]
    fn depth_is_no_danger() {
        let (keep, tree) = tree(&["x"], "");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut directory = rustix::fs::open(keep.path(), flags, Mode::empty()).expect("opened");
        for depth in 0..2500 {
            if depth == 1500 {
                assert_eq!(walked(&tree, "").len(), 1502, "more than files may be open");
            }
            rustix::fs::mkdirat(&directory, "d", Mode::RWXU).expect("created");
            directory = rustix::fs::openat(&directory, "d", flags, Mode::empty()).expect("opened");
        }
        let start = tree.entry("").expect("there");
        let error = tree.walk(&start, &|_| false, &mut |_| Ok(())).expect_err("too deep").to_string();
        assert!(error.contains("nested too deeply"), "{error}");
        let error = tree.select("**/x", true).expect_err("too deep").to_string();
        assert!(error.contains("nested too deeply"), "{error}");
        // std removes by path, and the path is too long for that, too.
        let remove = std::process::Command::new("rm").arg("-rf").arg(keep.path()).status().expect("rm runs");
        assert!(remove.success());
    }

    #[test]
    fn slow_rules_end_the_walk() {
        let (keep, tree) = tree(&["aaaaaaaa/aaaaaaaaaaaa"], "*a*a*a*a*a*b");
        assert_eq!(walked(&tree, "").len(), 3);
        let ignore = Ignore::parse("*a*a*a*a*a*b").expect("valid").with_steps(50);
        let slow = Tree::open(keep.path(), ignore).expect("readable");
        let start = slow.entry("").expect("there");
        let error = slow.walk(&start, &|_| false, &mut |_| Ok(())).expect_err("too slow").to_string();
        assert!(error.contains(".dockerignore"), "{error}");
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
