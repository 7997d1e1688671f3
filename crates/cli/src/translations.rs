//! The folder of the store in which our emulator keeps translations: `docs/dev/code-cache.md`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossdock_oci::store::Usage;
use crossdock_sandbox::Images;

/// The file that a process holds while it makes images.
const LOCK: &str = "lock";

/// The files of all versions.
fn files(store: &Path) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
    let mut files = Vec::new();
    let mut folders = vec![Images::folder(store)];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            // Another process may have removed it.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() != LOCK {
                files.push((entry.path(), metadata));
            }
        }
    }
    Ok(files)
}

/// How much room the translations of a store take; all of it can be freed.
pub fn usage(store: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for (path, metadata) in files(store)? {
        usage.count += u64::from(path.extension().is_some_and(|kind| kind == "image"));
        usage.bytes += metadata.len();
    }
    usage.reclaimable = usage.bytes;
    Ok(usage)
}

/// Removes the translations that were made so long ago. A program that runs keeps its own.
pub fn prune(store: &Path, older_than: Duration) -> io::Result<()> {
    for (path, metadata) in files(store)? {
        if metadata.modified()?.elapsed().unwrap_or_default() >= older_than {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translations_are_counted_and_removed() {
        let store = tempfile::tempdir().expect("a folder");
        assert_eq!(usage(store.path()).expect("none").bytes, 0);
        let version = Images::folder(store.path()).join("0123");
        fs::create_dir_all(&version).expect("a folder");
        fs::write(version.join("a.image"), [0; 100]).expect("a file");
        fs::write(version.join("1-2-3"), [0; 10]).expect("a file");
        fs::write(Images::folder(store.path()).join(LOCK), "").expect("a file");
        let found = usage(store.path()).expect("counted");
        assert_eq!((found.count, found.bytes, found.reclaimable), (1, 110, 110));
        prune(store.path(), Duration::from_secs(3600)).expect("removed");
        assert_eq!(usage(store.path()).expect("counted").bytes, 110);
        prune(store.path(), Duration::ZERO).expect("removed");
        assert_eq!(usage(store.path()).expect("counted").bytes, 0);
        assert!(Images::folder(store.path()).join(LOCK).exists());
    }
}
