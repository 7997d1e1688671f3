//! What can go wrong with the store, layers and archives, in the words of the person who has to act.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::manifest::ParseDocumentError;
use crate::size::size;

/// Result of the store's operations.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Any failure of the store, of layers or of archives.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot ... PATH".
        action: &'static str,
        /// The file concerned.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file system is full, or a quota is used up.
    #[error(
        "no space left to {action} {} ({} free on that file system): make room, for example with \"crossdock system prune\"",
        path.display(),
        size(*free)
    )]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// The file concerned.
        path: PathBuf,
        /// Bytes that an ordinary user may still write.
        free: u64,
    },
    /// This user cannot write to the store, but had to.
    #[error("the store {} is read-only ({reason}): make it writable for this user, or use another --root", root.display())]
    ReadOnly {
        /// The store.
        root: PathBuf,
        /// What could not be done, and the system's reason.
        reason: String,
    },
    /// The directory holds something else.
    #[error("{} is no store, and not empty: give an empty directory or a new one with --root", .0.display())]
    NotAStore(PathBuf),
    /// The directory belongs to another version of the program.
    #[error("{} is a store of version {found:?}, this program knows version 1: use another --root", path.display())]
    Version {
        /// The version file.
        path: PathBuf,
        /// What the file contains.
        found: String,
    },
    /// A blob is not there.
    #[error("blob {0} is not in the store: pull or build the image again")]
    MissingBlob(Digest),
    /// A blob's bytes do not match its name.
    #[error("blob {digest} is corrupt ({found}); it was moved to {}: pull or build the image again", moved_to.display())]
    CorruptBlob {
        /// The name.
        digest: Digest,
        /// The actual content, in words.
        found: String,
        /// Where the bytes are now.
        moved_to: PathBuf,
    },
    /// Bytes that were to become a blob do not match the digest they should have.
    #[error("content does not match its digest: expected {expected}, got {found}")]
    DigestMismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A blob does not have the size that a descriptor states.
    #[error("{digest} should have {expected} bytes and has {found}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Size in the descriptor, in bytes.
        expected: u64,
        /// Actual size, in bytes.
        found: u64,
    },
    /// A document is larger than this program reads into memory.
    #[error("{digest} has {size} bytes, more than the limit of {limit} for a manifest or configuration")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A document that was to be written is larger than any program would read again.
    #[error("{what} would have {size} bytes, the limit is {limit}")]
    WouldBeTooLarge {
        /// The document, in words.
        what: &'static str,
        /// The size that it would have, in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A blob is not the manifest or index it should be.
    #[error("{digest} is not usable: {source}")]
    Document {
        /// The blob.
        digest: Digest,
        /// Why.
        source: ParseDocumentError,
    },
    /// A blob is not an image configuration.
    #[error("{digest} is not an image configuration: {source}")]
    Config {
        /// The blob.
        digest: Digest,
        /// Why.
        source: serde_json::Error,
    },
    /// An index where one image was needed.
    #[error("{0} is an index of several images, not one image: choose a platform")]
    IsIndex(Digest),
    /// There is no record of this name.
    #[error("no image {0} in the store")]
    UnknownImage(String),
    /// The reference is known, but not for that platform.
    #[error("image {image} is not in the store for {platform}; it is there for {offered}")]
    NoPlatform {
        /// The image's name.
        image: String,
        /// The platform asked for.
        platform: String,
        /// The platforms that the store has, separated by commas.
        offered: String,
    },
    /// A name that no volume can have.
    #[error(
        "\"{0}\" is not a name of a volume: a letter or digit, then letters, digits, \"_\", \".\" and \"-\""
    )]
    VolumeName(String),
    /// An id that is not hexadecimal or has fewer than four digits.
    #[error("\"{0}\" is not an image id (expected at least 4 hexadecimal digits)")]
    BadId(String),
    /// Several images begin with the same digits.
    #[error("id {prefix} is ambiguous: {}", candidates.join(", "))]
    AmbiguousId {
        /// What was asked for.
        prefix: String,
        /// The ids that match.
        candidates: Vec<String>,
    },
    /// An image record cannot be read.
    #[error("image record {} is damaged ({reason}): pull or build the image again, or remove its name with \"crossdock rmi\"", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A layer's archive is damaged or hostile.
    #[error("layer {layer}: {problem}")]
    Layer {
        /// Digest of the layer's blob, or a name for an archive that is no layer.
        layer: String,
        /// What is wrong, with the entry's name.
        problem: LayerProblem,
    },
    /// A layer depends on the content of lower layers that are not unpacked.
    #[error("layer {layer} needs the layers below it unpacked first ({lower} is not)")]
    NeedsLower {
        /// The layer's `diff_id`.
        layer: Digest,
        /// `diff_id` of the missing lower layer.
        lower: Digest,
    },
    /// An archive is not what this program can load.
    #[error("cannot load {archive}: {reason}")]
    Archive {
        /// File name or "the archive".
        archive: String,
        /// Why.
        reason: String,
    },
    /// An image does not hold together.
    #[error("{what} is not valid: {problem}")]
    Invalid {
        /// The image, index or blob.
        what: String,
        /// What is wrong.
        problem: String,
    },
}

/// What is wrong with a layer's archive.
#[derive(Debug, thiserror::Error)]
pub enum LayerProblem {
    /// Decompression or the blob itself failed.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// The tar stream breaks its own rules.
    #[error("bad archive after {entries} entries: {reason}")]
    Tar {
        /// Entries read before.
        entries: u64,
        /// Why.
        reason: String,
    },
    /// An entry cannot be accepted.
    #[error("entry \"{entry}\": {reason}")]
    Entry {
        /// Name in the archive.
        entry: String,
        /// Why.
        reason: String,
    },
    /// The system refused an entry.
    #[error("entry \"{entry}\": cannot {action}: {source}")]
    Io {
        /// Name in the archive.
        entry: String,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The uncompressed bytes do not match the `diff_id` that the image promises.
    #[error("its content has diff_id {found}, the image says {expected}")]
    DiffId {
        /// The `diff_id` in the configuration.
        expected: Digest,
        /// The actual `diff_id`.
        found: Digest,
    },
    /// No room for the unpacked files.
    #[error("entry \"{entry}\": no space left in {} ({} free): make room, for example with \"crossdock system prune\"", path.display(), size(*free))]
    NoSpace {
        /// Name in the archive.
        entry: String,
        /// Directory being filled.
        path: PathBuf,
        /// Bytes free.
        free: u64,
    },
}

impl StoreError {
    /// An I/O failure with its path; a full file system gets its own variant.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> StoreError {
        let path = path.as_ref().to_path_buf();
        let source = source.into();
        if is_full(&source) {
            return StoreError::NoSpace { action, free: free_space(&path), path };
        }
        StoreError::Io { action, path, source }
    }

    /// Whether the file system was full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self,
            StoreError::NoSpace { .. } | StoreError::Layer { problem: LayerProblem::NoSpace { .. }, .. }
        )
    }
}

/// Adds "cannot ACTION PATH" to the result of a system call.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| StoreError::io(action, path, e))
    }
}

/// Whether the system forbids writing, rather than failed to write.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes that an ordinary user may still write where `path`, or its nearest existing parent, is.
pub(crate) fn free_space(path: &Path) -> u64 {
    path.ancestors()
        .find_map(|p| rustix::fs::statvfs(p).ok())
        .map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize))
}
