//! Names of unpacked layers, and what is kept beside them. See `docs/dev/store.md`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::layer::Owners;
use crate::name::random_name;

/// Name of a directory in `trees/`: boot id, `-`, random digits, and `~` if owners were ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TreeId(String);

impl TreeId {
    pub(crate) fn new(owners: Owners) -> TreeId {
        let mark = if owners == Owners::Ignore { "~" } else { "" };
        TreeId(format!("{}-{}{mark}", boot_id().unwrap_or("0"), &random_name()[..10]))
    }

    /// Reads an id; `None` for anything that could lead out of `trees/`.
    pub(crate) fn parse(text: &str) -> Option<TreeId> {
        let ok = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b'~');
        (!text.is_empty() && text.bytes().all(ok)).then(|| TreeId(text.to_string()))
    }

    /// The directory that holds `fs`.
    pub(crate) fn dir(&self, root: &Path) -> PathBuf {
        root.join("trees").join(&self.0)
    }

    pub(crate) fn fs(&self, root: &Path) -> PathBuf {
        self.dir(root).join("fs")
    }

    pub(crate) fn ignores_owners(&self) -> bool {
        self.0.ends_with('~')
    }

    /// Whether the tree cannot have lost parts in a power loss.
    pub(crate) fn is_whole(&self, root: &Path) -> bool {
        let dir = self.dir(root);
        if self.is_of_this_boot() { dir.join("fs").is_dir() } else { dir.join("synced").exists() }
    }

    pub(crate) fn is_of_this_boot(&self) -> bool {
        boot_id().is_some_and(|boot| self.0.split_once('-').is_some_and(|(b, _)| b == boot))
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Eight digits of the kernel's boot id (random(4)); `None` without /proc.
pub(crate) fn boot_id() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().get(..8)?.to_string())
    })
    .as_deref()
}

/// What is known about a tree, in the file `meta` beside it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct TreeMeta {
    /// `diff_id` of the layer.
    pub diff_id: Option<Digest>,
    /// Approximate bytes of regular files.
    pub bytes: u64,
}
