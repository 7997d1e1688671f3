//! Archives that are unpacked into a tree.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use crossdock_oci::layer::extract_tar;
use crossdock_oci::store::{Owners, Scratch};
use crossdock_oci::{Store, StoreError};
use rustix::fs::OFlags;

use crate::error::ErrorKind;
use crate::files::archive;
use crate::files::copy::{self, CopyError, CopyOptions};
use crate::files::tree::{Entry, Tree, open_in_root};

/// Turns "disk full" into an error of the store: the message names the store and its room, not only the file
/// that did not fit.
pub(crate) fn on_disk(error: CopyError, scratch: &Scratch) -> ErrorKind {
    match error {
        CopyError::Io { path, error } if error.kind() == std::io::ErrorKind::StorageFull => {
            StoreError::io("copy to", scratch.upper().join(path), error).into()
        }
        other => other.into(),
    }
}

/// Whether the file is an archive that ADD would unpack.
pub(crate) fn is_archive(tree: &Tree, entry: &Entry) -> Result<bool, ErrorKind> {
    let failed = |e: std::io::Error| ErrorKind::io(format!("read {}", entry.shown()), e);
    let file = tree.open_at(&entry.path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(failed)?;
    archive::detect(&mut File::from(file)).map_err(failed)
}

/// Unpacks an archive into a directory, which is made if it is missing.
pub(crate) fn unpack(
    tree: &Tree,
    entry: &Entry,
    root: &OwnedFd,
    destination: &[u8],
    options: &CopyOptions,
    store: &Store,
) -> Result<(), ErrorKind> {
    let failed = |e: std::io::Error| ErrorKind::io(format!("read {}", entry.shown()), e);
    copy::make_directories(root, destination, options)?;
    let target = open_in_root(root, destination, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let file = tree.open_at(&entry.path, OFlags::RDONLY).map_err(failed)?;
    let limit = store.unpack_limit();
    let owners = match (store.owners(), options.owner) {
        (Owners::Keep, Some((uid, gid))) if options.owner_is_given => Owners::Given(uid, gid),
        (owners, _) => owners,
    };
    // The directory has no path of its own, since its mount is attached nowhere.
    let path = format!("/proc/self/fd/{}/.", target.as_raw_fd());
    extract_tar(File::from(file), Path::new(&path), owners, &entry.shown(), limit)?;
    Ok(())
}
