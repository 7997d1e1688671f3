//! Layers: tar archives applied to directories, and directories written as archives.
//!
//! On disk a layer is a directory in overlay form (`userxattr`): a deletion is a character device 0/0, a
//! directory that hides the one below has `user.overlay.opaque=y`. In an archive these are `.wh.` names (OCI
//! image specification, `layer.md`).

pub(crate) mod apply;
mod borrowed;
pub(crate) mod compress;
mod deflate;
mod deflate_blocks;
pub(crate) mod gzip;
pub(crate) mod limit;
pub(crate) mod owners;
pub(crate) mod read;
pub(crate) mod tree;
pub(crate) mod walk;
pub(crate) mod whiteout;
pub(crate) mod write;

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

pub use borrowed::{Borrowed, Lent};
pub use compress::{GZIP_LEVEL, ZSTD_LEVEL, is_archive, may_be_archive};
pub use limit::{UNPACKED_FREE, UNPACKED_MAX, UNPACKED_RATIO, UnpackLimit, UnpackedTooMuch};
pub use owners::Owners;
pub use write::{Clash, Timestamps, export_tar, export_tars, write_layer, write_squashed};

use crate::error::{LayerProblem, Result, StoreError};
use apply::{ApplyError, ApplyOptions};

/// Extracts a plain tar archive (not a layer: `.wh.` names are just names) into a directory, replacing what
/// is there. `name` is for messages. The output counts towards `limit`. Returns warnings.
///
/// The first bytes of the stream show whether it is compressed. No entry can reach outside the directory.
pub fn extract_tar(
    stream: impl Read + Send,
    target: &Path,
    owners: Owners,
    name: &str,
    limit: &UnpackLimit,
) -> Result<Vec<String>> {
    let fail = |problem| StoreError::Layer { layer: name.to_string(), problem };
    let (stream, _) = compress::decoder(stream, limit).map_err(|e| fail(LayerProblem::Read(e)))?;
    let options = ApplyOptions { whiteouts: false, owners, lower: &|| Ok(Vec::new()), trash: target, limit };
    match apply::apply(BufReader::with_capacity(256 * 1024, stream), target, &options) {
        Ok(applied) => Ok(applied.warnings),
        Err(ApplyError::Lower(e)) => Err(e),
        Err(ApplyError::Problem(problem)) => Err(fail(problem)),
    }
}

/// Copies the merged root of several layers' trees, the lowest first, into a directory, replacing what is
/// there. A single path to a mounted root works, too. Returns warnings.
pub fn copy_tree(
    trees: &[PathBuf],
    timestamps: Timestamps,
    target: &Path,
    owners: Owners,
) -> Result<Vec<String>> {
    copy_trees(&[(String::new(), trees)], timestamps, target, owners)
}

/// Like [`copy_tree`], for several roots, with the directories and errors of [`export_tars`].
pub fn copy_trees(
    roots: &[(String, &[PathBuf])],
    timestamps: Timestamps,
    target: &Path,
    owners: Owners,
) -> Result<Vec<String>> {
    let (reader, writer) = std::io::pipe().map_err(|e| StoreError::io("open a pipe to", target, e))?;
    std::thread::scope(|scope| {
        let write = move || {
            let writer = std::io::BufWriter::with_capacity(64 * 1024, writer);
            export_tars(roots, timestamps, writer)
        };
        let writing = std::thread::Builder::new().spawn_scoped(scope, write);
        let writing = writing.map_err(|e| StoreError::io("start a thread to copy to", target, e))?;
        let read = extract_tar(reader, target, owners, "copy", &UnpackLimit::bytes(u64::MAX));
        // A panic of the thread goes on here.
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The reader's failure is the cause of a writer's broken pipe, not the other way round.
        let warnings = read?;
        written.map(|()| warnings)
    })
}
