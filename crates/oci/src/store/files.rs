//! Files of the store: read with a limit, replaced as a whole, named by digests.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::digest::Digest;
use crate::error::{Context, Result};

/// Creates a directory of the store, for its owner alone; an existing one is left as it is.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.context("create", path),
    }
}

/// Opens a regular file of the store and tells its length in bytes; anything else is damage, which is refused
/// without waiting.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let (file, meta) = open_described(path)?;
    Ok((file, meta.len()))
}

/// The same with all metadata.
pub(crate) fn open_described(path: &Path) -> io::Result<(File, Metadata)> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    match meta.is_file() {
        true => Ok((file, meta)),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")),
    }
}

/// All bytes of a regular file of at most `limit` bytes.
pub(crate) fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    let bytes = read_up_to(&file, length, limit + 1)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// The bytes of an open file, at most `limit`. The buffer has room for `length` bytes from the beginning, so
/// that a file of that length takes two calls.
pub(crate) fn read_up_to(file: &File, length: u64, limit: u64) -> io::Result<Vec<u8>> {
    /// The standard library reads into as many bytes on the stack before it lets a full buffer grow.
    const PROBE: u64 = 32;
    let mut bytes = Vec::with_capacity((length.min(limit) + PROBE) as usize);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes `bytes` to `path` through `temporary`: synced, then renamed, then the directory synced.
pub(crate) fn replace_file(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let mut file = File::create_new(temporary).context("create", temporary)?;
        file.write_all(bytes).context("write", temporary)?;
        file.sync_data().context("write", temporary)?;
        fs::rename(temporary, path).context("create", path)?;
        sync_parent(path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(temporary);
    })
}

/// Like [`replace_file`], without waiting for the disk: after a power loss the file may be missing or torn.
pub(crate) fn replace_file_later(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(temporary, bytes).context("write", temporary)?;
    fs::rename(temporary, path).context("create", path).inspect_err(|_| {
        let _ = fs::remove_file(temporary);
    })
}

/// Makes the names in the directory of `path` survive a power loss.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().expect("files of the store lie in its directories");
    File::open(parent).and_then(|dir| dir.sync_all()).context("sync", parent)
}

/// `algorithm-hex`, the file name of a digest where all algorithms share a directory.
pub(crate) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// The digest of a [`file_name`].
pub(crate) fn digest_of_file_name(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Bytes of all files below a directory; what cannot be read does not count.
pub(crate) fn walk_size(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => pending.push(entry.path()),
                Ok(meta) => bytes += meta.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}
