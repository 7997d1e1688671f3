//! Writing directories as tar archives: POSIX.1-2017 `pax`, the same bytes for the same tree.
//!
//! Names are sorted, times are whole seconds, users and groups are numbers only. Extended headers are written
//! where the ustar fields are too small, and for attributes (`SCHILY.xattr.`, as every other builder does).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result, StoreError};
use crate::layer::borrowed::{Borrowed, Lent, is_unchanged};
use crate::layer::walk::{self, Item};
use crate::layer::whiteout::{WHITEOUT, WHITEOUT_OPAQUE};

/// What to do with modification times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timestamps {
    /// As they are, in whole seconds.
    #[default]
    Keep,
    /// Nothing is later than this, in seconds since 1970: `SOURCE_DATE_EPOCH`.
    Clamp(i64),
    /// All times are this one, in seconds since 1970.
    Set(i64),
}

impl Timestamps {
    fn of(self, mtime: i64) -> i64 {
        match self {
            Timestamps::Keep => mtime,
            Timestamps::Clamp(latest) => mtime.min(latest),
            Timestamps::Set(time) => time,
        }
    }
}

/// Writes a tree in overlay form as a layer's archive, whiteouts translated.
pub fn write_layer(tree: &Path, timestamps: Timestamps, writer: impl Write) -> Result<()> {
    write_borrowing(tree, &Borrowed::default(), timestamps, writer).map(drop)
}

/// The same for a tree that borrows files. Returns the files that were changed since they were lent.
///
/// # Errors
///
/// Besides those of reading and writing: a borrowed file is gone, or has become shorter meanwhile.
pub(crate) fn write_borrowing(
    tree: &Path,
    borrowed: &Borrowed,
    timestamps: Timestamps,
    writer: impl Write,
) -> Result<Vec<String>> {
    let fd = open(tree)?;
    let mut archive = Archive::new(writer, timestamps);
    walk::layer(fd.as_fd(), borrowed, &mut |path, item| archive.item(path, item))
        .and_then(|()| archive.finish())
        .context("archive", tree)?;
    Ok(archive.changed)
}

/// Writes the trees of several layers in overlay form, the lowest first, as the archive of one layer: on top
/// of the layers `below`, it gives the same files as all of them.
pub fn write_squashed(
    trees: &[PathBuf],
    below: &[PathBuf],
    timestamps: Timestamps,
    writer: impl Write,
) -> Result<()> {
    let at = trees.last().map_or(Path::new("/"), PathBuf::as_path);
    let open_all = |trees: &[PathBuf]| trees.iter().map(|tree| open(tree)).collect::<Result<Vec<_>>>();
    let mut archive = Archive::new(writer, timestamps);
    walk::squashed(&open_all(trees)?, &open_all(below)?, &mut |path, item| archive.item(path, item))
        .and_then(|()| archive.finish())
        .context("archive", at)
}

/// Writes the merged root of several layers' trees, the lowest first, as one archive.
///
/// A single path to a mounted root works, too.
pub fn export_tar(trees: &[PathBuf], timestamps: Timestamps, writer: impl Write) -> Result<()> {
    export_tars(&[(String::new(), trees)], timestamps, writer)
}

/// Like [`export_tar`], for several roots: each goes below a directory with the name beside it, or to the top
/// if that name is empty.
///
/// # Errors
///
/// Besides those of reading and writing: [`Clash`], if roots in one directory have a file of the same name.
pub fn export_tars(roots: &[(String, &[PathBuf])], timestamps: Timestamps, writer: impl Write) -> Result<()> {
    let mut archive = Archive::new(writer, timestamps);
    let at = |trees: &[PathBuf]| trees.last().map_or(Path::new("/"), PathBuf::as_path).to_path_buf();
    for (i, (directory, trees)) in roots.iter().enumerate() {
        let fds: Vec<OwnedFd> = trees.iter().map(|t| open(t)).collect::<Result<_>>()?;
        // Hard links point to names in their own root.
        archive.links.clear();
        let is_shared = roots.iter().enumerate().any(|(j, (other, _))| j != i && other == directory);
        let mut known = if is_shared { std::mem::take(&mut archive.known) } else { HashMap::new() };
        let prefix = if directory.is_empty() { Vec::new() } else { format!("{directory}/").into_bytes() };
        let mut result = Ok(());
        if !directory.is_empty() {
            result = archive.directory(&prefix);
        }
        let result = result.and_then(|()| {
            walk::merged(&fds, &mut |path, item| {
                let path = [&prefix, path].concat();
                let is_directory = matches!(item, Item::Directory { .. });
                if is_shared {
                    match known.entry(path.clone()) {
                        Entry::Vacant(new) => drop(new.insert(is_directory)),
                        // The first root's directory is the one.
                        Entry::Occupied(old) if is_directory && *old.get() => return Ok(()),
                        Entry::Occupied(_) => return Err(io::Error::other(Clash::of(&path))),
                    }
                }
                archive.item(&path, item)
            })
        });
        archive.known = known;
        result.context("archive", at(trees))?;
    }
    archive.finish().context("archive", roots.last().map_or_else(|| at(&[]), |(_, trees)| at(trees)))
}

/// Two roots have a file of the same name, and are written to one place.
#[derive(Debug, thiserror::Error)]
#[error("/{path} is in the results of two platforms, which are written to one directory")]
pub struct Clash {
    path: String,
}

impl Clash {
    fn of(path: &[u8]) -> Clash {
        Clash { path: String::from_utf8_lossy(path).into_owned() }
    }
}

/// Begins a plain file in an archive; `size` bytes and [`pad`] follow.
pub(crate) fn begin_file(writer: &mut impl Write, path: &str, size: u64) -> io::Result<()> {
    let path = path.as_bytes();
    let header = Header {
        flag: b'0',
        path,
        link: b"",
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: 0,
        device: (0, 0),
        xattrs: Vec::new(),
    };
    write_header(writer, &header)
}

/// Writes a directory of the archive; `path` ends with a slash.
pub(crate) fn directory(writer: &mut impl Write, path: &str) -> io::Result<()> {
    let header = Header {
        flag: b'5',
        path: path.as_bytes(),
        link: b"",
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 0,
        device: (0, 0),
        xattrs: Vec::new(),
    };
    write_header(writer, &header)
}

/// Fills the last block of a file of `size` bytes.
pub(crate) fn pad(writer: &mut impl Write, size: u64) -> io::Result<()> {
    writer.write_all(&[0; 512][..(size.wrapping_neg() % 512) as usize])
}

/// Two zero blocks.
pub(crate) fn end_archive(writer: &mut impl Write) -> io::Result<()> {
    writer.write_all(&[0; 1024])?;
    writer.flush()
}

fn open(tree: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, tree, flags, Mode::empty()).map_err(|e| StoreError::io("open", tree, e))
}

struct Archive<W> {
    writer: W,
    timestamps: Timestamps,
    /// First names of files with several names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Names in directories that several roots share, and whether they are directories.
    known: HashMap<Vec<u8>, bool>,
    /// Borrowed files that were changed since they were lent.
    changed: Vec<String>,
    buffer: Vec<u8>,
}

/// What a header is made from.
struct Header<'a> {
    flag: u8,
    path: &'a [u8],
    link: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    device: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<W: Write> Archive<W> {
    fn new(writer: W, timestamps: Timestamps) -> Archive<W> {
        Archive {
            writer,
            timestamps,
            links: HashMap::new(),
            known: HashMap::new(),
            changed: Vec::new(),
            buffer: vec![0; 256 * 1024],
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        end_archive(&mut self.writer)
    }

    fn item(&mut self, path: &[u8], item: Item<'_>) -> io::Result<()> {
        match item {
            Item::Directory { fd, stat } => {
                let path = [path, b"/"].concat();
                let xattrs = walk::xattrs(fd)?;
                let header = self.header(b'5', &path, stat);
                self.write_header(Header { xattrs, ..header })
            }
            Item::Opaque => self.mark(&[path, b"/", WHITEOUT_OPAQUE].concat()),
            Item::Whiteout => {
                let start = path.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
                self.mark(&[&path[..start], WHITEOUT, &path[start..]].concat())
            }
            Item::Other { dir, name, stat } => self.other(path, dir, name, stat),
            Item::Lent(lent) => self.lent(path, lent),
        }
    }

    /// A directory that exists only in the archive.
    fn directory(&mut self, path: &[u8]) -> io::Result<()> {
        self.bare(b'5', path, 0o755)
    }

    /// An empty file whose name is the message. Its owner and time mean nothing and are always the same.
    fn mark(&mut self, path: &[u8]) -> io::Result<()> {
        self.bare(b'0', path, 0o644)
    }

    /// An entry without content, owned by root.
    fn bare(&mut self, flag: u8, path: &[u8], mode: u32) -> io::Result<()> {
        let mtime = self.timestamps.of(0);
        self.write_header(Header {
            flag,
            path,
            link: b"",
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime,
            device: (0, 0),
            xattrs: Vec::new(),
        })
    }

    fn header<'a>(&self, flag: u8, path: &'a [u8], stat: &Stat) -> Header<'a> {
        Header {
            flag,
            path,
            link: b"",
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: 0,
            mtime: self.timestamps.of(stat.st_mtime),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    fn other(
        &mut self,
        path: &[u8],
        dir: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        stat: &Stat,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            // A socket means nothing without the process that listens.
            return Ok(());
        }
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let first = first.clone();
                let header = self.header(b'1', path, stat);
                return self.write_header(Header { link: &first, ..header });
            }
            self.links.insert(inode, path.to_vec());
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let xattrs = walk::xattrs(file.as_fd())?;
                let header = self.header(b'0', path, stat);
                self.write_header(Header { size, xattrs, ..header })?;
                self.content(&file, size)
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", String::from_utf8_lossy(path))))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                let header = self.header(b'2', path, stat);
                self.write_header(Header { link: target.as_bytes(), mode: 0o777, ..header })
            }
            FileType::Fifo => {
                let header = self.header(b'6', path, stat);
                self.write_header(header)
            }
            _ => {
                let flag = if kind == FileType::BlockDevice { b'4' } else { b'3' };
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let header = self.header(flag, path, stat);
                self.write_header(Header { device, ..header })
            }
        }
    }

    /// A borrowed file, as it is now.
    fn lent(&mut self, path: &[u8], lent: &Lent) -> io::Result<()> {
        let doing =
            |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", String::from_utf8_lossy(path)));
        let opened = lent.open().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                io::Error::new(e.kind(), "it was removed before it was archived; build again when it stays")
            }
            _ => e,
        });
        let (file, before) = opened.map_err(doing)?;
        let file = File::from(file);
        let size = u64::try_from(before.st_size).unwrap_or(0);
        self.write_header(Header {
            flag: b'0',
            path,
            link: b"",
            mode: lent.mode & 0o7777,
            uid: lent.owner.0,
            gid: lent.owner.1,
            size,
            mtime: self.timestamps.of(lent.mtime),
            device: (0, 0),
            xattrs: lent.xattrs.clone(),
        })?;
        self.content(&file, size).map_err(doing)?;
        let after = rustix::fs::fstat(&file)?;
        if !is_unchanged(&lent.stat, &before) || !is_unchanged(&before, &after) {
            self.changed.push(String::from_utf8_lossy(path).into_owned());
        }
        Ok(())
    }

    /// Copies exactly `size` bytes, which the header has promised, and pads them.
    fn content(&mut self, mut file: &File, size: u64) -> io::Result<()> {
        let mut rest = size;
        while rest > 0 {
            let limit = self.buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let n = file.read(&mut self.buffer[..limit])?;
            if n == 0 {
                return Err(io::Error::other("the file became shorter while it was archived"));
            }
            self.writer.write_all(&self.buffer[..n])?;
            rest -= n as u64;
        }
        pad(&mut self.writer, size)
    }

    fn write_header(&mut self, header: Header<'_>) -> io::Result<()> {
        write_header(&mut self.writer, &header)
    }
}

fn write_header(writer: &mut impl Write, header: &Header<'_>) -> io::Result<()> {
    let records = extended_records(header);
    if !records.is_empty() {
        let base = header.path.strip_suffix(b"/").unwrap_or(header.path);
        let base = base.rsplit(|b| *b == b'/').next().unwrap_or(base);
        let name = [b"PaxHeaders.0/", &base[..base.len().min(80)]].concat();
        let block = ustar(&Header {
            flag: b'x',
            path: &name,
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        });
        writer.write_all(&block)?;
        writer.write_all(&records)?;
        pad(writer, records.len() as u64)?;
    }
    writer.write_all(&ustar(header))
}

/// Largest values of the octal fields.
const ID_MAX: u32 = 0o7_777_777;
const SIZE_MAX: u64 = 0o77_777_777_777;

/// Records for all that the ustar header cannot hold, sorted by key.
fn extended_records(header: &Header<'_>) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: &[u8]| records.push((key.as_bytes().to_vec(), value.to_vec()));
    if header.path.len() > 100 {
        add("path", header.path);
    }
    if header.link.len() > 100 {
        add("linkpath", header.link);
    }
    if header.uid > ID_MAX {
        add("uid", header.uid.to_string().as_bytes());
    }
    if header.gid > ID_MAX {
        add("gid", header.gid.to_string().as_bytes());
    }
    if header.size > SIZE_MAX {
        add("size", header.size.to_string().as_bytes());
    }
    if u64::try_from(header.mtime).map_or(true, |t| t > SIZE_MAX) {
        add("mtime", header.mtime.to_string().as_bytes());
    }
    for (name, value) in &header.xattrs {
        records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
    }
    records.sort();
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        bytes.extend_from_slice(format!("{length} ").as_bytes());
        bytes.extend_from_slice(&key);
        bytes.push(b'=');
        bytes.extend_from_slice(&value);
        bytes.push(b'\n');
    }
    bytes
}

/// A ustar header block; values that do not fit are cut, their extended records have them whole.
fn ustar(header: &Header<'_>) -> [u8; 512] {
    let mut block = [0u8; 512];
    let cut = |bytes: &[u8]| bytes.len().min(100);
    let mut name = &header.path[..cut(header.path)];
    if header.flag != b'5' {
        // Some readers take a cut name that ends with a slash for a directory.
        name = name.strip_suffix(b"/").unwrap_or(name);
    }
    block[..name.len()].copy_from_slice(name);
    block[157..157 + cut(header.link)].copy_from_slice(&header.link[..cut(header.link)]);
    let mut octal = |at: usize, digits: usize, value: u64| {
        block[at..at + digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    };
    octal(100, 7, header.mode.into());
    octal(108, 7, if header.uid > ID_MAX { 0 } else { header.uid.into() });
    octal(116, 7, if header.gid > ID_MAX { 0 } else { header.gid.into() });
    octal(124, 11, if header.size > SIZE_MAX { 0 } else { header.size });
    octal(136, 11, u64::try_from(header.mtime).ok().filter(|t| *t <= SIZE_MAX).unwrap_or(0));
    octal(329, 7, (header.device.0 & ID_MAX).into());
    octal(337, 7, (header.device.1 & ID_MAX).into());
    block[156] = header.flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    block[154] = 0;
    block
}
