//! Takes a directory from a client: the receiving side of fsutil's protocol, which is described at the head
//! of its receive.go.
//!
//! The client walks its directory in order and describes every file (`STAT`). For a file that is not here yet
//! we ask (`REQ`) by its number in that order, and get its bytes (`DATA`, an empty one at the end). What the
//! client did not describe is removed, so that the directory is then as the client's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
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

/// A file whose bytes are on their way.
struct Incoming {
    stat: Stat,
    /// The file under its temporary name.
    file: Option<(File, OsString)>,
}

/// The directory that is made the same as the client's.
pub(super) struct Receiver {
    root: OwnedFd,
    /// Number of the next file in the client's order.
    next: u32,
    /// The path of the last file, to check the order.
    last: Option<String>,
    incoming: HashMap<u32, Incoming>,
    /// Hard links to files that are on their way: made at the end.
    links: Vec<Stat>,
    /// Names that the client described, by directory. The client's order visits a directory's names together
    /// with all that is below, so this holds names only.
    described: BTreeMap<String, BTreeSet<String>>,
    /// Directories whose times are set at the end, as files in them change the times.
    directories: Vec<Stat>,
    is_complete: bool,
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
        Ok(Receiver {
            root,
            next: 0,
            last: None,
            incoming: HashMap::new(),
            links: Vec::new(),
            described: BTreeMap::from([(String::new(), BTreeSet::new())]),
            directories: Vec::new(),
            is_complete: false,
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
                Some(stat) if !stat.path.is_empty() => self.stat(stat)?,
                _ => {
                    self.is_complete = true;
                    None
                }
            },
            PacketType::PacketData => {
                self.data(packet.id, &packet.data)?;
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
        match self.described.get_mut(parent) {
            Some(names) => drop(names.insert(name.to_string())),
            None => bail!("the client sent {} before its directory", stat.path),
        }
        let kind = kind_of(stat.mode);
        if kind == FileType::Directory {
            self.described.insert(stat.path.clone(), BTreeSet::new());
        }
        let doing = || format!("make {} of the context", stat.path);
        match kind {
            FileType::RegularFile if !stat.linkname.is_empty() => {
                self.links.push(stat);
                return Ok(None);
            }
            FileType::RegularFile => {
                if self.is_here(&stat).with_context(doing)? {
                    return Ok(None);
                }
                let id = number;
                self.incoming.insert(id, Incoming { stat, file: None });
                return Ok(Some(Packet { r#type: PacketType::PacketReq.into(), id, ..Packet::default() }));
            }
            FileType::Directory => {
                self.directory(&stat).with_context(doing)?;
                self.directories.push(stat);
            }
            FileType::Symlink => self.symlink(&stat).with_context(doing)?,
            // Sockets are never sent.
            FileType::Socket => {}
            other => self.special(&stat, other).with_context(doing)?,
        }
        Ok(None)
    }

    /// Checks that a path stays inside, and comes after the last one in the order of a walk.
    fn check(&mut self, path: &str) -> Result<()> {
        let is_inside = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
        if !is_inside {
            bail!("the client sent the path {path:?}, which does not stay inside its directory");
        }
        let is_after = |last: &String| path.split('/').cmp(last.split('/')).is_gt();
        if !self.last.as_ref().is_none_or(is_after) {
            bail!("the client sent {path} out of order");
        }
        self.last = Some(path.to_string());
        Ok(())
    }

    /// The directory that holds a file, and the file's name in it.
    fn parent(&self, path: &str) -> Result<(OwnedFd, String)> {
        let (parent, name) = split(path);
        let parent = if parent.is_empty() { "." } else { parent };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        Ok((openat2(&self.root, parent, flags, Mode::empty(), BENEATH)?, name.to_string()))
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
        let time = found.st_mtime * 1_000_000_000 + found.st_mtime_nsec as i64;
        Ok(FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_size == stat.size
            && time == stat.mod_time
            && Mode::from_raw_mode(found.st_mode & 0o7777) == permissions(stat.mode)
            // A hard link of before would change with its other names.
            && found.st_nlink == 1
            && stat.xattrs.is_empty())
    }

    /// Makes room at a path for another kind of file.
    fn make_room(&self, path: &str) -> Result<()> {
        if let Some(found) = self.found(path)? {
            let (parent, name) = self.parent(path)?;
            remove(&parent, &name, FileType::from_raw_mode(found.st_mode))?;
        }
        Ok(())
    }

    fn directory(&self, stat: &Stat) -> Result<()> {
        match self.found(&stat.path)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {}
            _ => {
                self.make_room(&stat.path)?;
                let (parent, name) = self.parent(&stat.path)?;
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
            }
        }
        Ok(())
    }

    fn symlink(&self, stat: &Stat) -> Result<()> {
        let (parent, name) = self.parent(&stat.path)?;
        if rustix::fs::readlinkat(&parent, &name, Vec::new())
            .is_ok_and(|target| target.as_bytes() == stat.linkname.as_bytes())
        {
            return Ok(());
        }
        self.make_room(&stat.path)?;
        rustix::fs::symlinkat(stat.linkname.as_str(), &parent, &name)?;
        set_time(&parent, &name, stat.mod_time)
    }

    fn special(&self, stat: &Stat, kind: FileType) -> Result<()> {
        self.make_room(&stat.path)?;
        let (parent, name) = self.parent(&stat.path)?;
        let device = rustix::fs::makedev(stat.devmajor as u32, stat.devminor as u32);
        rustix::fs::mknodat(&parent, &name, kind, permissions(stat.mode), device)?;
        set_time(&parent, &name, stat.mod_time)
    }

    /// Bytes of a file.
    fn data(&mut self, id: u32, bytes: &[u8]) -> Result<()> {
        let Some(mut incoming) = self.incoming.remove(&id) else {
            bail!("the client sent a file that nobody asked for (number {id})");
        };
        let path = incoming.stat.path.clone();
        let doing = || format!("write {path} of the context");
        if bytes.is_empty() {
            return self.finish(incoming).with_context(doing);
        }
        let (mut file, name) = match incoming.file.take() {
            Some(file) => file,
            None => self.temporary(&path).with_context(doing)?,
        };
        file.write_all(bytes).with_context(doing)?;
        self.bytes += bytes.len() as u64;
        self.incoming.insert(id, Incoming { file: Some((file, name)), ..incoming });
        Ok(())
    }

    /// A new file beside the one at `path`.
    fn temporary(&self, path: &str) -> Result<(File, OsString)> {
        let (parent, _) = self.parent(path)?;
        // The name holds a byte that no path of the protocol has, since that is UTF-8.
        let name = OsString::from_vec([b"\xff.", self.next.to_string().as_bytes()].concat());
        for try_ in 0..1000u32 {
            let mut name = name.clone();
            name.push(format!(".{try_}"));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            match rustix::fs::openat(&parent, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((file.into(), name)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("no free temporary name")
    }

    /// A file is complete: gives it its mode, time and name.
    fn finish(&mut self, incoming: Incoming) -> Result<()> {
        let stat = incoming.stat;
        let (file, temporary) = match incoming.file {
            Some(file) => file,
            None => self.temporary(&stat.path)?,
        };
        for (name, value) in &stat.xattrs {
            // As BuildKit: what this file system does not take is left out.
            let _ = rustix::fs::fsetxattr(&file, name.as_str(), value, rustix::fs::XattrFlags::empty());
        }
        rustix::fs::fchmod(&file, permissions(stat.mode))?;
        rustix::fs::futimens(&file, &times(stat.mod_time))?;
        let found = self.found(&stat.path)?;
        let (parent, name) = self.parent(&stat.path)?;
        if found.is_some_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory) {
            remove(&parent, &name, FileType::Directory)?;
        }
        rustix::fs::renameat(&parent, &temporary, &parent, &name)?;
        Ok(())
    }

    /// Makes the hard links, removes what was not described, and sets modes and times of directories.
    pub fn complete(mut self) -> Result<(u64, u64)> {
        for stat in std::mem::take(&mut self.links) {
            self.link(&stat).with_context(|| format!("link {} of the context", stat.path))?;
        }
        let described = std::mem::take(&mut self.described);
        for (directory, names) in &described {
            self.remove_others(directory, names)
                .with_context(|| format!("clear {directory:?} of the context"))?;
        }
        for stat in self.directories.iter().rev() {
            let (parent, name) = self.parent(&stat.path)?;
            rustix::fs::chmodat(&parent, &name, permissions(stat.mode), AtFlags::empty())?;
            set_time(&parent, &name, stat.mod_time)?;
        }
        Ok((self.files, self.bytes))
    }

    fn link(&self, stat: &Stat) -> Result<()> {
        let target = stat.linkname.trim_matches('/');
        let (from, name) = self.parent(target)?;
        self.make_room(&stat.path)?;
        let (to, new) = self.parent(&stat.path)?;
        rustix::fs::linkat(&from, &name, &to, &new, AtFlags::empty())?;
        Ok(())
    }

    fn remove_others(&self, directory: &str, names: &BTreeSet<String>) -> Result<()> {
        let path = if directory.is_empty() { "." } else { directory };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let open = openat2(&self.root, path, flags, Mode::empty(), BENEATH)?;
        let mut others = Vec::new();
        for entry in rustix::fs::Dir::read_from(&open)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..")
                && !std::str::from_utf8(name).is_ok_and(|name| names.contains(name))
            {
                others.push((OsString::from_vec(name.to_vec()), entry.file_type()));
            }
        }
        others.into_iter().try_for_each(|(name, kind)| remove(&open, &name, kind))
    }
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
    let mut inner = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            inner.push((OsString::from_vec(name.to_vec()), entry.file_type()));
        }
    }
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

    #[test]
    fn modes_of_go_come_back() {
        for mode in [0o100644, 0o104755, 0o040755, 0o120777, 0o010644, 0o041777, 0o020666, 0o060660] {
            let go = mode_for_go(mode);
            assert_eq!(kind_of(go), FileType::from_raw_mode(mode), "{mode:o}");
            assert_eq!(permissions(go), Mode::from_raw_mode(mode & 0o7777), "{mode:o}");
        }
    }
}
