//! An image of a store as the directory of a registry, to be served for a moment.

use std::fs;
use std::io;
use std::path::Path;

use crossdock_oci::manifest::Document;
use crossdock_oci::{Descriptor, Store, StoreError};

use super::storage::{Storage, StoredManifest};
use crate::error::{Error, Result};

/// Lays out an image, or an index with all its images, in the directory of a registry under
/// `repository:tag`. The blobs are links to the store's, so nothing is copied.
///
/// # Errors
///
/// [`Error::Store`] if the store lacks a part of it; [`Error::File`] if the directory cannot be written or
/// holds something else.
pub fn offer(directory: &Path, store: &Store, repository: &str, tag: &str, image: &Descriptor) -> Result<()> {
    let storage = Storage::open(directory, false)?;
    offer_manifest(&storage, store, repository, Some(tag), image)
}

fn offer_manifest(
    storage: &Storage,
    store: &Store,
    repository: &str,
    tag: Option<&str>,
    descriptor: &Descriptor,
) -> Result<()> {
    let (document, bytes) = store.read_document(descriptor)?;
    for child in document.children() {
        if matches!(document, Document::Index(_)) {
            offer_manifest(storage, store, repository, None, child)?;
            continue;
        }
        if !store.contains(&child.digest)? {
            return Err(StoreError::MissingBlob(child.digest.clone()).into());
        }
        let (from, to) = (store.blob_path(&child.digest), storage.blob_path(&child.digest));
        let directory = to.parent().expect("blobs lie in a directory");
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        match std::os::unix::fs::symlink(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io(&to)(error)),
            _ => {}
        }
        storage.offer_blob(repository, &child.digest).map_err(Error::io(&to))?;
    }
    let manifest = StoredManifest {
        digest: descriptor.digest.clone(),
        media_type: document.media_type().to_string(),
        bytes,
    };
    let writing = storage.writing_blocking().map_err(Error::io(storage.root()))?;
    storage.keep_manifest(&writing, repository, tag, &manifest).map_err(Error::io(storage.root()))
}
