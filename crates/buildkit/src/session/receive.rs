//! Takes a directory from a client: the receiving side of fsutil's protocol, which is described at the head
//! of its receive.go.
//!
//! The client walks its directory in order and describes every file (`STAT`). For a file that is not here yet
//! we ask (`REQ`) by its number in that order, and get its bytes (`DATA`, an empty one at the end). What the
//! client did not describe is removed, so that the directory is then as the client's.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, openat2};

/// Bits of a mode as Go has them (io/fs, "FileMode").
mod go_mode {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const FIFO: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHARACTER: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
}

/// The kind of file that a mode of Go says.
fn kind_of(mode: u32) -> FileType {
    match mode {
        m if m & go_mode::DIRECTORY != 0 => FileType::Directory,
        m if m & go_mode::SYMLINK != 0 => FileType::Symlink,
        m if m & go_mode::FIFO != 0 => FileType::Fifo,
        m if m & go_mode::SOCKET != 0 => FileType::Socket,
        m if m & go_mode::DEVICE != 0 && m & go_mode::CHARACTER != 0 => FileType::CharacterDevice,
        m if m & go_mode::DEVICE != 0 => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// The permissions in a mode of Go.
fn permissions(mode: u32) -> Mode {
    let mut bits = mode & 0o777;
    for (go, unix) in [(go_mode::SETUID, 0o4000), (go_mode::SETGID, 0o2000), (go_mode::STICKY, 0o1000)] {
        if mode & go != 0 {
            bits |= unix;
        }
    }
    Mode::from_raw_mode(bits)
}

/// The mode of Go for a kind of file and permissions.
pub(crate) fn mode_for_go(mode: u32) -> u32 {
    let mut bits = mode & 0o777;
    for (go, unix) in [(go_mode::SETUID, 0o4000), (go_mode::SETGID, 0o2000), (go_mode::STICKY, 0o1000)] {
        if mode & unix != 0 {
            bits |= go;
        }
    }
    bits | match FileType::from_raw_mode(mode) {
        FileType::Directory => go_mode::DIRECTORY,
        FileType::Symlink => go_mode::SYMLINK,
        FileType::Fifo => go_mode::FIFO,
        FileType::Socket => go_mode::SOCKET,
        FileType::CharacterDevice => go_mode::DEVICE | go_mode::CHARACTER,
        FileType::BlockDevice => go_mode::DEVICE,
        _ => 0,
    }
}

/// Bytes of small files that wait in memory until they are complete: such a file is written in one go.
const SMALL_MAX: usize = 64 * 1024;

/// Bytes of all small files that wait in memory.
const WAITING_MAX: usize = 8 * 1024 * 1024;

/// Files that a client may send at the same time. BuildKit's clients send four.
const OPEN_MAX: usize = 256;

/// Memory for what a client describes, in bytes: room for some millions of files.
const DESCRIBED_MAX: usize = 512 * 1024 * 1024;

/// Memory for a file that was described besides its texts, in bytes, roughly.
const DESCRIPTION: usize = 64;

/// A file whose bytes are on their way.
struct Incoming {
    stat: Stat,
    content: Content,
}

/// What has come of a file.
enum Content {
    /// All of it, while it is small.
    Waiting(Vec<u8>),
    /// The file, with the name that it has until it is complete.
    Open(File, OsString),
}

/// A directory that the client described.
struct Described {
    /// Names in it. The client's order visits a directory's names together with all that is below, so this
    /// holds names only.
    names: BTreeSet<String>,
    /// Whether it was made for this client: nothing is in it but what the client described.
    is_new: bool,
}

/// The directory that is made the same as the client's.
pub(super) struct Receiver {
    root: OwnedFd,
    /// Bits of permissions that a new file does not get by itself.
    umask: Mode,
    /// Number of the next file in the client's order.
    next: u32,
    /// The path of the last file, to check the order.
    last: Option<String>,
    incoming: HashMap<u32, Incoming>,
    /// Hard links to files that are on their way: made at the end.
    links: Vec<Stat>,
    /// Directories by their paths.
    described: BTreeMap<String, Described>,
    /// Directories whose times are set at the end, as files in them change the times.
    directories: Vec<Stat>,
    is_complete: bool,
    /// Bytes of [`Content::Waiting`], and files of [`Content::Open`].
    waiting: (usize, usize),
    /// Memory that descriptions hold, and how much they may.
    weight: usize,
    weight_max: usize,
    /// The directory that was used last, open: files of a directory come together.
    used: RefCell<Option<(String, Rc<OwnedFd>)>>,
    /// Bytes received.
    pub bytes: u64,
    /// Files described.
    pub files: u64,
}

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

impl Receiver {
    /// Receives into a directory that exists.
    pub fn new(directory: &Path) -> Result<Receiver> {
        let root = rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {}", directory.display()))?;
        let is_new = names_in(&root)?.is_empty();
        Ok(Receiver {
            root,
            umask: umask(),
            next: 0,
            last: None,
            incoming: HashMap::new(),
            links: Vec::new(),
            described: BTreeMap::from([(String::new(), Described { names: BTreeSet::new(), is_new })]),
            directories: Vec::new(),
            is_complete: false,
            waiting: (0, 0),
            weight: 0,
            weight_max: DESCRIBED_MAX,
            used: RefCell::default(),
            bytes: 0,
            files: 0,
        })
    }

    /// Takes one packet; returns what to send, and whether everything is there.
    ///
    /// # Errors
    ///
    /// The client reports one, breaks the protocol, or a file cannot be written.
    pub fn packet(&mut self, packet: Packet) -> Result<(Option<Packet>, bool)> {
        let answer = match packet.r#type() {
            PacketType::PacketStat => match packet.stat {
                Some(_) if self.is_complete => bail!("the client describes files after its last one"),
                Some(stat) if !stat.path.is_empty() => self.stat(stat)?,
                _ => {
                    self.is_complete = true;
                    None
                }
            },
            PacketType::PacketData => {
                self.data(packet.id, packet.data)?;
                None
            }
            PacketType::PacketErr => {
                bail!("the client cannot send its files: {}", String::from_utf8_lossy(&packet.data))
            }
            PacketType::PacketReq | PacketType::PacketFin => None,
        };
        Ok((answer, self.is_complete && self.incoming.is_empty()))
    }

    /// A file is described.
    fn stat(&mut self, mut stat: Stat) -> Result<Option<Packet>> {
        let number = self.next;
        self.next = self.next.checked_add(1).context("the client has too many files")?;
        self.files += 1;
        stat.path = stat.path.trim_matches('/').to_string();
        self.check(&stat.path)?;
        let (parent, name) = split(&stat.path);
        let kind = kind_of(stat.mode);
        self.weight += DESCRIPTION + name.len();
        let is_new = match self.described.get_mut(parent) {
            Some(directory) => {
                directory.names.insert(name.to_string());
                directory.is_new
            }
            None => bail!("the client sent {} before its directory", stat.path),
        };
        let doing = || format!("make {} of the context", stat.path);
        let mut answer = None;
        match kind {
            FileType::RegularFile if !stat.linkname.is_empty() => {
                self.weight += weight_of(&stat);
                self.links.push(stat);
            }
            FileType::RegularFile => {
                if is_new || !self.is_here(&stat).with_context(doing)? {
                    self.weight += weight_of(&stat);
                    self.incoming.insert(number, Incoming { stat, content: Content::Waiting(Vec::new()) });
                    let request = PacketType::PacketReq.into();
                    answer = Some(Packet { r#type: request, id: number, ..Packet::default() });
                }
            }
            FileType::Directory => {
                let is_new = self.directory(&stat, is_new).with_context(doing)?;
                self.described.insert(stat.path.clone(), Described { names: BTreeSet::new(), is_new });
                let Stat { path, mode, mod_time, .. } = stat;
                self.weight += 2 * path.len() + 2 * DESCRIPTION;
                self.directories.push(Stat { path, mode, mod_time, ..Stat::default() });
            }
            FileType::Symlink => self.symlink(&stat).with_context(doing)?,
            // Sockets are never sent.
            FileType::Socket => {}
            other => self.special(&stat, other).with_context(doing)?,
        }
        ensure!(self.weight <= self.weight_max, "the client describes more files than there is memory for");
        Ok(answer)
    }

    /// Checks that a path stays inside, and comes after the last one in the order of a walk.
    fn check(&mut self, path: &str) -> Result<()> {
        let is_inside = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
        if !is_inside {
            bail!("the client sent the path {}, which does not stay inside its directory", shown(path));
        }
        // The kernel takes no longer ones (path_resolution(7)).
        ensure!(path.len() < 4096, "the client sent the path {}, which is too long", shown(path));
        let is_after = |last: &String| path.split('/').cmp(last.split('/')).is_gt();
        if !self.last.as_ref().is_none_or(is_after) {
            bail!("the client sent {path} out of order");
        }
        self.last = Some(path.to_string());
        Ok(())
    }

    /// The directory that holds a file, and the file's name in it.
    fn parent<'p>(&self, path: &'p str) -> Result<(Rc<OwnedFd>, &'p str)> {
        let (parent, name) = split(path);
        if let Some((used, open)) = &*self.used.borrow()
            && used == parent
        {
            return Ok((open.clone(), name));
        }
        let directory = if parent.is_empty() { "." } else { parent };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        let open = Rc::new(openat2(&self.root, directory, flags, Mode::empty(), BENEATH)?);
        *self.used.borrow_mut() = Some((parent.to_string(), open.clone()));
        Ok((open, name))
    }

    /// Whether the directory of a path has nothing but what the client described.
    fn is_in_new(&self, path: &str) -> bool {
        self.described.get(split(path).0).is_some_and(|directory| directory.is_new)
    }

    /// What is at a path now.
    fn found(&self, path: &str) -> Result<Option<rustix::fs::Stat>> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a file is here as it was described. Size and time tell, as for every receiver of this
    /// protocol.
    fn is_here(&self, stat: &Stat) -> Result<bool> {
        let Some(found) = self.found(&stat.path)? else { return Ok(false) };
        let time = found.st_mtime.checked_mul(1_000_000_000);
        let time = time.and_then(|time| time.checked_add(found.st_mtime_nsec as i64));
        Ok(FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_size == stat.size
            && time == Some(stat.mod_time)
            && Mode::from_raw_mode(found.st_mode & 0o7777) == permissions(stat.mode)
            // A hard link of before would change with its other names.
            && found.st_nlink == 1
            && stat.xattrs.is_empty())
    }

    /// Makes room at a path for another kind of file.
    fn make_room(&self, path: &str) -> Result<()> {
        if let Some(found) = self.found(path)? {
            let (parent, name) = self.parent(path)?;
            remove(&parent, name, FileType::from_raw_mode(found.st_mode))?;
        }
        Ok(())
    }

    /// Makes a directory; returns whether it is new.
    fn directory(&self, stat: &Stat, is_in_new: bool) -> Result<bool> {
        if !is_in_new {
            match self.found(&stat.path)? {
                Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                    return Ok(false);
                }
                _ => self.make_room(&stat.path)?,
            }
        }
        let (parent, name) = self.parent(&stat.path)?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
        Ok(true)
    }

    fn symlink(&self, stat: &Stat) -> Result<()> {
        let (parent, name) = self.parent(&stat.path)?;
        if rustix::fs::readlinkat(&parent, name, Vec::new())
            .is_ok_and(|target| target.as_bytes() == stat.linkname.as_bytes())
        {
            return Ok(());
        }
        self.make_room(&stat.path)?;
        rustix::fs::symlinkat(stat.linkname.as_str(), &parent, name)?;
        set_time(&parent, name, stat.mod_time)
    }

    fn special(&self, stat: &Stat, kind: FileType) -> Result<()> {
        self.make_room(&stat.path)?;
        let (parent, name) = self.parent(&stat.path)?;
        let device = rustix::fs::makedev(stat.devmajor as u32, stat.devminor as u32);
        rustix::fs::mknodat(&parent, name, kind, permissions(stat.mode), device)?;
        set_time(&parent, name, stat.mod_time)
    }

    /// Bytes of a file.
    fn data(&mut self, id: u32, bytes: Vec<u8>) -> Result<()> {
        let Some(Incoming { stat, content }) = self.incoming.remove(&id) else {
            bail!("the client sent a file that nobody asked for (number {id})");
        };
        let doing = || format!("write {} of the context", stat.path);
        if bytes.is_empty() {
            self.weight -= weight_of(&stat);
            return self.finish(&stat, content).with_context(doing);
        }
        self.bytes += bytes.len() as u64;
        let content = match content {
            Content::Waiting(mut waiting)
                if waiting.len() + bytes.len() <= SMALL_MAX
                    && self.waiting.0 + bytes.len() <= WAITING_MAX =>
            {
                self.waiting.0 += bytes.len();
                match waiting.is_empty() {
                    true => waiting = bytes,
                    false => waiting.extend(bytes),
                }
                Content::Waiting(waiting)
            }
            Content::Waiting(waiting) => {
                self.waiting.0 -= waiting.len();
                self.waiting.1 += 1;
                ensure!(self.waiting.1 <= OPEN_MAX, "the client sends too many files at the same time");
                let (mut file, name) = self.open(&stat).with_context(doing)?;
                file.write_all(&waiting).with_context(doing)?;
                file.write_all(&bytes).with_context(doing)?;
                Content::Open(file, name)
            }
            Content::Open(mut file, name) => {
                file.write_all(&bytes).with_context(doing)?;
                Content::Open(file, name)
            }
        };
        self.incoming.insert(id, Incoming { stat, content });
        Ok(())
    }

    /// A new file with the name that it has until it is complete: its own in a directory that is new, where
    /// it is in nobody's way. If the client is gone before the end, then the file's time differs from the
    /// one that the client described, so the next client sends it again.
    fn open(&self, stat: &Stat) -> Result<(File, OsString)> {
        let (parent, name) = self.parent(&stat.path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = permissions(stat.mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
        if self.is_in_new(&stat.path) {
            return Ok((rustix::fs::openat(&parent, name, flags, mode)?.into(), name.into()));
        }
        // The name holds a byte that no path of the protocol has, since that is UTF-8.
        let begin = OsString::from_vec([b"\xff.", self.next.to_string().as_bytes()].concat());
        for try_ in 0..1000u32 {
            let mut name = begin.clone();
            name.push(format!(".{try_}"));
            match rustix::fs::openat(&parent, &name, flags, mode) {
                Ok(file) => return Ok((file.into(), name)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("no free temporary name")
    }

    /// A file is complete: gives it its mode, time and name.
    fn finish(&mut self, stat: &Stat, content: Content) -> Result<()> {
        let (file, temporary) = match content {
            Content::Open(file, name) => {
                self.waiting.1 -= 1;
                (file, name)
            }
            Content::Waiting(bytes) => {
                self.waiting.0 -= bytes.len();
                let (mut file, name) = self.open(stat)?;
                file.write_all(&bytes)?;
                (file, name)
            }
        };
        for (name, value) in &stat.xattrs {
            // As BuildKit: what this file system does not take is left out.
            let _ = rustix::fs::fsetxattr(&file, name.as_str(), value, rustix::fs::XattrFlags::empty());
        }
        let mode = permissions(stat.mode);
        if mode.intersects(self.umask | Mode::SUID | Mode::SGID | Mode::SVTX) {
            rustix::fs::fchmod(&file, mode)?;
        }
        rustix::fs::futimens(&file, &times(stat.mod_time))?;
        let (parent, name) = self.parent(&stat.path)?;
        if temporary == name {
            return Ok(());
        }
        let is_directory =
            |found: rustix::fs::Stat| FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if self.found(&stat.path)?.is_some_and(is_directory) {
            remove(&parent, name, FileType::Directory)?;
        }
        rustix::fs::renameat(&parent, &temporary, &parent, name)?;
        Ok(())
    }

    /// Makes the hard links, removes what was not described, and sets modes and times of directories.
    pub fn complete(mut self) -> Result<(u64, u64)> {
        for stat in std::mem::take(&mut self.links) {
            self.link(&stat).with_context(|| format!("link {} of the context", stat.path))?;
        }
        let described = std::mem::take(&mut self.described);
        for (directory, Described { names, is_new }) in &described {
            if !is_new {
                self.remove_others(directory, names)
                    .with_context(|| format!("clear {directory:?} of the context"))?;
            }
        }
        for stat in self.directories.iter().rev() {
            let (parent, name) = self.parent(&stat.path)?;
            rustix::fs::chmodat(&parent, name, permissions(stat.mode), AtFlags::empty())?;
            set_time(&parent, name, stat.mod_time)?;
        }
        Ok((self.files, self.bytes))
    }

    fn link(&self, stat: &Stat) -> Result<()> {
        let target = stat.linkname.trim_matches('/');
        let (from, name) = self.parent(target)?;
        self.make_room(&stat.path)?;
        let (to, new) = self.parent(&stat.path)?;
        rustix::fs::linkat(&from, name, &to, new, AtFlags::empty())?;
        Ok(())
    }

    fn remove_others(&self, directory: &str, names: &BTreeSet<String>) -> Result<()> {
        let path = if directory.is_empty() { "." } else { directory };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let open = openat2(&self.root, path, flags, Mode::empty(), BENEATH)?;
        let is_other = |name: &OsString| !name.to_str().is_some_and(|name| names.contains(name));
        let others = names_in(&open)?.into_iter().filter(|(name, _)| is_other(name));
        others.into_iter().try_for_each(|(name, kind)| remove(&open, &name, kind))
    }
}

/// Memory that the texts of a description take.
fn weight_of(stat: &Stat) -> usize {
    let attributes = stat.xattrs.iter().map(|(name, value)| name.len() + value.len() + DESCRIPTION);
    4 * DESCRIPTION + stat.path.len() + stat.linkname.len() + attributes.sum::<usize>()
}

/// The beginning of a path that a client sent, for a message.
fn shown(path: &str) -> String {
    match path.char_indices().nth(200) {
        Some((end, _)) => format!("{:?}...", &path[..end]),
        None => format!("{path:?}"),
    }
}

/// Bits that the kernel takes from the mode of each new file of this process (proc_pid_status(5)).
fn umask() -> Mode {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
    mask.map_or(Mode::RWXU | Mode::RWXG | Mode::RWXO, Mode::from_raw_mode)
}

/// The names in a directory, with the kinds of the files as far as the file system tells them.
fn names_in(directory: &OwnedFd) -> Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push((OsString::from_vec(name.to_vec()), entry.file_type()));
        }
    }
    Ok(names)
}

/// Parent and name; the parent of a file at the top is empty.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn times(nanoseconds: i64) -> Timestamps {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let rest = nanoseconds.rem_euclid(1_000_000_000);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: rest as _ },
    }
}

fn set_time(parent: &OwnedFd, name: &str, nanoseconds: i64) -> Result<()> {
    Ok(rustix::fs::utimensat(parent, name, &times(nanoseconds), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes a file, or a directory with all that it holds.
fn remove(parent: &OwnedFd, name: impl AsRef<Path>, kind: FileType) -> Result<()> {
    let name = name.as_ref();
    if kind != FileType::Directory && kind != FileType::Unknown {
        return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let _ = rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty());
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let inner = names_in(&directory)?;
    for (name, kind) in inner {
        remove(&directory, name, kind)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn stat(path: &str, mode: u32) -> Packet {
        let stat = Stat { path: path.to_string(), mode, mod_time: 1_500_000_000, ..Stat::default() };
        Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() }
    }

    fn data(id: u32, data: &[u8]) -> Packet {
        Packet { r#type: PacketType::PacketData.into(), id, data: data.to_vec(), ..Packet::default() }
    }

    fn last() -> Packet {
        Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() }
    }

    #[test]
    fn a_directory_becomes_the_clients() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(directory.path().join("old/deep")).expect("made");
        std::fs::write(directory.path().join("old/deep/file"), "x").expect("written");
        let mut receiver = Receiver::new(directory.path()).expect("open");
        assert_eq!(receiver.packet(stat("d", go_mode::DIRECTORY | 0o750)).expect("made"), (None, false));
        let (asked, _) = receiver.packet(stat("d/f", 0o640)).expect("described");
        assert_eq!(asked.expect("a request").id, 1);
        let mut link = stat("l", go_mode::SYMLINK | 0o777);
        link.stat.as_mut().expect("there").linkname = "/d/f".to_string();
        receiver.packet(link).expect("made");
        let mut hard = stat("m", 0o640);
        hard.stat.as_mut().expect("there").linkname = "d/f".to_string();
        assert_eq!(receiver.packet(hard).expect("noted").0, None, "a hard link has no bytes of its own");
        assert!(!receiver.packet(last()).expect("complete").1, "bytes are missing");
        receiver.packet(data(1, b"hel")).expect("written");
        receiver.packet(data(1, b"lo")).expect("written");
        assert!(receiver.packet(data(1, b"")).expect("finished").1);
        assert_eq!(receiver.complete().expect("complete"), (4, 5));
        let file = directory.path().join("d/f");
        assert_eq!(std::fs::read(&file).expect("there"), b"hello");
        let found = std::fs::metadata(&file).expect("there");
        assert_eq!(
            (found.permissions().mode() & 0o7777, found.mtime(), found.mtime_nsec()),
            (0o640, 1, 500_000_000)
        );
        assert_eq!(found.nlink(), 2);
        assert_eq!(std::fs::read_link(directory.path().join("l")).expect("a link"), Path::new("/d/f"));
        assert!(!directory.path().join("old").exists(), "what the client does not have is removed");
    }

    #[test]
    fn only_what_changed_is_asked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let sync = |mtime: i64, content: &[u8]| {
            let mut receiver = Receiver::new(directory.path()).expect("open");
            let mut file = stat("f", 0o644);
            let described = file.stat.as_mut().expect("there");
            (described.mod_time, described.size) = (mtime, content.len() as i64);
            let asked = receiver.packet(file).expect("described").0.is_some();
            if asked {
                receiver.packet(data(0, content)).expect("written");
                receiver.packet(data(0, b"")).expect("finished");
            }
            receiver.packet(last()).expect("complete");
            receiver.complete().expect("complete");
            asked
        };
        assert!(sync(1_000_000_001, b"one"));
        assert!(!sync(1_000_000_001, b"one"));
        assert!(sync(2_000_000_000, b"two"));
        assert_eq!(std::fs::read(directory.path().join("f")).expect("there"), b"two");
    }

    #[test]
    fn nothing_gets_outside() {
        let outside = tempfile::tempdir().expect("a directory");
        for bad in ["../x", "a/../../x", "a//b", "./x", "a/./b"] {
            let directory = tempfile::tempdir().expect("a directory");
            let mut receiver = Receiver::new(directory.path()).expect("open");
            assert!(receiver.packet(stat(bad, 0o644)).is_err(), "{bad}");
        }
        // A link, then a file below it.
        let directory = tempfile::tempdir().expect("a directory");
        let mut receiver = Receiver::new(directory.path()).expect("open");
        let mut link = stat("a", go_mode::SYMLINK | 0o777);
        link.stat.as_mut().expect("there").linkname = outside.path().display().to_string();
        receiver.packet(link).expect("made");
        assert!(receiver.packet(stat("a/x", 0o644)).is_err());
        // Out of order, and data for nothing.
        let mut receiver = Receiver::new(directory.path()).expect("open");
        receiver.packet(stat("b", 0o644)).expect("described");
        assert!(receiver.packet(stat("a", 0o644)).is_err());
        assert!(receiver.packet(data(7, b"x")).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).expect("readable").count(), 0);
    }

    /// A file as it is described: time 1, mode 0644.
    fn file(path: &str, size: i64) -> Packet {
        let mut packet = stat(path, 0o644);
        let described = packet.stat.as_mut().expect("there");
        (described.size, described.mod_time) = (size, 1_000_000_000);
        packet
    }

    #[test]
    fn large_files_and_files_between_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut receiver = Receiver::new(directory.path()).expect("open");
        let large = vec![7; 3 * SMALL_MAX];
        for path in ["a", "b", "c"] {
            receiver.packet(file(path, 1)).expect("described");
        }
        receiver.packet(last()).expect("complete");
        for piece in large.chunks(SMALL_MAX / 2 + 1) {
            for id in [0, 1] {
                receiver.packet(data(id, piece)).expect("written");
            }
        }
        for id in [2, 1, 0] {
            let (_, is_complete) = receiver.packet(data(id, b"")).expect("finished");
            assert_eq!(is_complete, id == 0);
        }
        assert_eq!(receiver.complete().expect("complete"), (3, 2 * large.len() as u64));
        for path in ["a", "b"] {
            assert!(std::fs::read(directory.path().join(path)).expect("there") == large, "{path}");
        }
        assert_eq!(std::fs::metadata(directory.path().join("c")).expect("there").len(), 0);
    }

    #[test]
    fn a_client_that_goes_away_leaves_nothing_that_counts() {
        // Whether the file is small, or large, or replaces another one.
        for (size, is_new) in [(3, true), (2 * SMALL_MAX, true), (3, false), (2 * SMALL_MAX, false)] {
            let directory = tempfile::tempdir().expect("a directory");
            if !is_new {
                std::fs::write(directory.path().join("f"), "before").expect("written");
            }
            let mut receiver = Receiver::new(directory.path()).expect("open");
            receiver.packet(file("f", size as i64)).expect("described");
            receiver.packet(data(0, &vec![1; size])).expect("written");
            drop(receiver);
            let mut receiver = Receiver::new(directory.path()).expect("open");
            let asked = receiver.packet(file("f", size as i64)).expect("described").0;
            assert!(asked.is_some(), "{size} bytes, new: {is_new}");
            receiver.packet(last()).expect("complete");
            receiver.packet(data(0, &vec![2; size])).expect("written");
            assert!(receiver.packet(data(0, b"")).expect("finished").1);
            receiver.complete().expect("complete");
            assert!(std::fs::read(directory.path().join("f")).expect("there") == vec![2; size]);
            assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 1);
        }
    }

    #[test]
    fn a_file_of_another_size_is_asked_for_again() {
        let directory = tempfile::tempdir().expect("a directory");
        for _ in 0..2 {
            for size in [-1, 0, 2, i64::MAX] {
                let mut receiver = Receiver::new(directory.path()).expect("open");
                assert!(receiver.packet(file("f", size)).expect("described").0.is_some(), "{size}");
                receiver.packet(last()).expect("complete");
                receiver.packet(data(0, b"abc")).expect("written");
                receiver.packet(data(0, b"")).expect("finished");
                receiver.complete().expect("complete");
                assert_eq!(std::fs::read(directory.path().join("f")).expect("there"), b"abc");
            }
        }
    }

    #[test]
    fn links_lead_to_nothing_outside() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("x"), "private").expect("written");
        let out = outside.path().display().to_string();
        let far = format!("../..{out}/x");
        for target in [&far, &format!("{out}/x"), "l/x", "..", ".", "d/../../x", "no", "a\0b", "d"] {
            let directory = tempfile::tempdir().expect("a directory");
            let mut receiver = Receiver::new(directory.path()).expect("open");
            receiver.packet(stat("d", go_mode::DIRECTORY | 0o755)).expect("made");
            let mut symbolic = stat("l", go_mode::SYMLINK | 0o777);
            symbolic.stat.as_mut().expect("there").linkname = out.clone();
            receiver.packet(symbolic).expect("made");
            let mut hard = stat("z", 0o644);
            hard.stat.as_mut().expect("there").linkname = target.to_string();
            receiver.packet(hard).expect("noted");
            receiver.packet(last()).expect("complete");
            assert!(receiver.complete().is_err(), "{target}");
            assert!(!directory.path().join("z").exists(), "{target}");
        }
        assert_eq!(std::fs::metadata(outside.path().join("x")).expect("there").nlink(), 1);
    }

    #[test]
    fn a_client_may_not_fill_the_memory() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut receiver = Receiver::new(directory.path()).expect("open");
        receiver.weight_max = 1 << 20;
        let names = (0..100_000).map(|i| format!("{i:0200}"));
        let refused = names.map(|name| receiver.packet(file(&name, 1))).find_map(Result::err);
        assert!(refused.expect("refused").to_string().contains("more files than there is memory for"));
        // What is complete counts no more, nor does what is here.
        let mut receiver = Receiver::new(directory.path()).expect("open");
        receiver.weight_max = 1 << 20;
        for i in 0..5_000 {
            receiver.packet(file(&format!("{i:09}"), 1)).expect("described");
            receiver.packet(data(i, b"x")).expect("written");
            receiver.packet(data(i, b"")).expect("finished");
        }
        assert!(receiver.packet(file(&"x".repeat(5000), 1)).is_err(), "no path is that long");
        // Large files at the same time.
        let directory = tempfile::tempdir().expect("a directory");
        let mut receiver = Receiver::new(directory.path()).expect("open");
        let mut refused = None;
        for id in 0..300 {
            receiver.packet(file(&format!("{id:03}"), 1)).expect("described");
            refused = refused.or(receiver.packet(data(id, &vec![0; SMALL_MAX + 1])).err());
        }
        assert!(refused.expect("refused").to_string().contains("too many files at the same time"));
    }

    #[test]
    fn senseless_descriptions_end_in_an_error_or_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        for (mode, time) in [(u32::MAX, i64::MIN), (0, i64::MAX), (go_mode::SOCKET, -1), (1 << 30, 0)] {
            let mut receiver = Receiver::new(directory.path()).expect("open");
            let mut packet = stat("f", mode);
            let described = packet.stat.as_mut().expect("there");
            (described.mod_time, described.size, described.devmajor) = (time, i64::MIN, i64::MIN);
            described.xattrs.insert("no.such space".to_string(), vec![0; 100]);
            let Ok((asked, _)) = receiver.packet(packet) else { continue };
            if let Some(asked) = asked {
                receiver.packet(data(asked.id, b"")).expect("finished");
            }
            receiver.packet(last()).expect("complete");
            assert!(receiver.packet(stat("g", 0o644)).is_err(), "nothing comes after the last one");
            receiver.complete().expect("complete");
        }
    }

    #[test]
    fn modes_of_go_come_back() {
        for mode in [0o100644, 0o104755, 0o040755, 0o120777, 0o010644, 0o041777, 0o020666, 0o060660] {
            let go = mode_for_go(mode);
            assert_eq!(kind_of(go), FileType::from_raw_mode(mode), "{mode:o}");
            assert_eq!(permissions(go), Mode::from_raw_mode(mode & 0o7777), "{mode:o}");
        }
    }
}
