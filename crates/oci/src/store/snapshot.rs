//! Unpacked layers.

use std::fmt;
use std::path::{Path, PathBuf};

/// Name of a directory in `trees/`: boot id, `-`, random digits, and `~` if owners were ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TreeId(String);

impl TreeId {
    /// Reads an id; anything that could lead out of `trees/` is none.
    pub(crate) fn parse(text: &str) -> Option<TreeId> {
        let ok = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b'~');
        (!text.is_empty() && text.bytes().all(ok)).then(|| TreeId(text.to_string()))
    }

    /// The directory that holds `fs`.
    pub(crate) fn dir(&self, root: &Path) -> PathBuf {
        root.join("trees").join(&self.0)
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
