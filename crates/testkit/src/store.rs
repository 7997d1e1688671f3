//! A store in a temporary directory.

use std::ops::Deref;
use std::path::Path;

use crossdock_oci::Store;
use tempfile::TempDir;

/// A store that is removed when it is dropped.
pub struct TempStore {
    store: Store,
    directory: TempDir,
}

impl TempStore {
    /// A new, empty store.
    #[allow(clippy::new_without_default)] // touches the disk
    pub fn new() -> TempStore {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&directory.path().join("store")).expect("a new store");
        TempStore { store, directory }
    }

    /// A directory beside the store that is removed with it.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }
}

impl Deref for TempStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
