//! Reads files of a root file system that somebody else made.
//!
//! Names are looked up inside the root only, links included (`openat2(2)`, `RESOLVE_IN_ROOT`); only regular
//! files are read, up to a limit, and the walk through all files has limits, too. What is left out because of
//! a limit is noted.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use crossdock_builder::files::tree::open_in_root;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, statat};
use rustix::io::Errno;

/// Files and directories of one root that are looked at.
const ENTRIES_MAX: usize = 4_000_000;
/// The longest path that the walk goes down, in bytes. The kernel's limit is 4095.
const PATH_SIZE_MAX: usize = 3500;
/// Bytes of one root that are read in all. Hard links can make a small image look large.
const BYTES_MAX: u64 = 2 << 30;
/// Notes that are kept; more nobody reads.
const NOTES_MAX: usize = 50;

/// A root file system.
pub struct Root {
    root: OwnedFd,
    notes: RefCell<Vec<String>>,
    bytes_left: Cell<u64>,
}

/// A regular file that the walk has met.
pub struct Met<'a> {
    root: &'a Root,
    /// Its path in the root, without a leading slash; bytes that are not UTF-8 are replaced.
    pub path: String,
    raw: &'a [u8],
    /// Whether somebody may execute it.
    pub is_executable: bool,
}

impl Met<'_> {
    /// Opens the file.
    pub fn open(&self) -> Option<File> {
        self.root.open_raw(self.raw, OFlags::NOFOLLOW)
    }

    /// The first bytes of the file, up to `limit`.
    pub fn head(&self, limit: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(limit).read_to_end(&mut bytes).ok()?;
        self.spend(bytes.len() as u64).then_some(bytes)
    }

    /// Counts bytes that were read of the file; false if the root has no more to give.
    pub fn spend(&self, bytes: u64) -> bool {
        self.root.spend(bytes)
    }
}

impl Root {
    /// The root below an open directory.
    pub fn new(root: OwnedFd) -> Root {
        Root { root, notes: RefCell::default(), bytes_left: Cell::new(BYTES_MAX) }
    }

    /// Notes something that the list of packages lacks.
    pub fn note(&self, text: String) {
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_MAX && !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// Everything that was noted.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    fn spend(&self, bytes: u64) -> bool {
        let left = self.bytes_left.get().checked_sub(bytes);
        self.bytes_left.set(left.unwrap_or(0));
        if left.is_none() {
            self.note(format!(
                "the lists of packages have more than {BYTES_MAX} bytes: the rest was not read"
            ));
        }
        left.is_some()
    }

    /// Opens a regular file.
    pub fn open(&self, path: &str) -> Option<File> {
        self.open_raw(path.as_bytes(), OFlags::empty())
    }

    fn open_raw(&self, path: &[u8], more: OFlags) -> Option<File> {
        // Without NONBLOCK a named pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | more;
        let file = File::from(open_in_root(&self.root, path, flags).ok()?);
        file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
    }

    /// The content of a regular file; nothing if there is none. A file larger than `limit` bytes is not read,
    /// which is noted.
    pub fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Err(error) = self.open(path)?.take(limit + 1).read_to_end(&mut bytes) {
            self.note(format!("/{path} cannot be read: {error}"));
            return None;
        }
        if bytes.len() as u64 > limit {
            self.note(format!("/{path} is larger than {limit} bytes and was not read"));
            return None;
        }
        self.spend(bytes.len() as u64).then_some(bytes)
    }

    /// The content of a text file; bytes that are not UTF-8 are replaced.
    pub fn text(&self, path: &str, limit: u64) -> Option<String> {
        self.read(path, limit).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a directory, in order; nothing if there is none.
    pub fn list(&self, path: &str) -> Vec<String> {
        let names = self.names(path.as_bytes()).unwrap_or_default();
        names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect()
    }

    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Ok(names_in(&self.directory(path)?)?)
    }

    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        open_in_root(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    /// Calls `visit` for each regular file, in the order of names. Links are not followed, and the kernel's
    /// own directories are left out.
    pub fn walk(&self, visit: &mut dyn FnMut(&Met<'_>)) {
        let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
        let mut seen = 0;
        while let Some(path) = pending.pop() {
            let Ok(directory) = self.directory(&path) else { continue };
            let mut below = Vec::new();
            for name in names_in(&directory).unwrap_or_default() {
                seen += 1;
                if seen > ENTRIES_MAX {
                    return self
                        .note(format!("there are more than {ENTRIES_MAX} files: the rest was not read"));
                }
                let Ok(stat) = statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW) else { continue };
                let whole =
                    if path.is_empty() { name.clone() } else { [&path[..], b"/", &name[..]].concat() };
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory if path.is_empty() && is_kernels(&name) => {}
                    FileType::Directory if whole.len() > PATH_SIZE_MAX => {
                        self.note("directories are nested too deeply: their files were not read".to_string());
                    }
                    FileType::Directory => below.push(whole),
                    FileType::RegularFile => visit(&self.met(&whole, &stat)),
                    _ => {}
                }
            }
            pending.extend(below.into_iter().rev());
        }
    }

    fn met<'a>(&'a self, path: &'a [u8], stat: &Stat) -> Met<'a> {
        let is_executable = stat.st_mode & 0o111 != 0;
        Met { root: self, path: String::from_utf8_lossy(path).into_owned(), raw: path, is_executable }
    }
}

/// Whether a directory of the root is the kernel's.
fn is_kernels(name: &[u8]) -> bool {
    matches!(name, b"proc" | b"sys" | b"dev")
}

/// The names in an open directory, in order.
fn names_in(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)?.take(ENTRIES_MAX) {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn nothing_outside_is_read_and_nothing_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let inside = directory.path().join("root");
        fs::create_dir_all(inside.join("a/b")).expect("a directory");
        fs::create_dir(inside.join("proc")).expect("a directory");
        fs::write(directory.path().join("secret"), "outside").expect("a file");
        for (name, content) in [("a/b/f", "12345"), ("a/x", "x"), ("proc/p", "p"), ("secret", "inside")] {
            fs::write(inside.join(name), content).expect("a file");
        }
        fs::set_permissions(inside.join("a/x"), fs::Permissions::from_mode(0o755)).expect("mode");
        symlink("../../secret", inside.join("link")).expect("a link");
        symlink("/a", inside.join("absolute")).expect("a link");
        symlink("loop", inside.join("loop")).expect("a link");
        let pipe = inside.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("a pipe");
        let root = Root::new(OwnedFd::from(File::open(&inside).expect("a directory")));
        assert_eq!(root.text("link", 100).as_deref(), Some("inside"));
        assert_eq!(root.text("absolute/b/f", 100).as_deref(), Some("12345"));
        for nothing in ["pipe", "loop", "a", "missing", "../../secret/x"] {
            assert_eq!(root.read(nothing, 100), None, "{nothing}");
        }
        assert_eq!(root.read("a/b/f", 4), None);
        assert!(root.notes()[0].contains("/a/b/f is larger than 4 bytes"), "{:?}", root.notes());
        let mut met = Vec::new();
        root.walk(&mut |file| met.push((file.path.clone(), file.is_executable)));
        let expected = [("secret", false), ("a/x", true), ("a/b/f", false)];
        assert_eq!(met, expected.map(|(path, is_executable)| (path.to_string(), is_executable)));
        assert_eq!(root.list("a"), ["b", "x"]);
        assert!(root.spend(BYTES_MAX / 2) && !root.spend(BYTES_MAX));
        assert_eq!(root.read("a/x", 100), None);
    }
}
