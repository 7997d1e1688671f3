//! Images without a name, from a build without `--tag`, from an archive, or whose name was given to another
//! image. They are found by their ids and stay until they get a name, are removed, or are pruned.
//!
//! `untagged/ALGORITHM-HEX.json` is named by the digest of the image's manifest or index, so that a
//! collection keeps the image without reading the file.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Context, Result, StoreError};
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::store::files::{
    digest_of_file_name, file_name, make_dir, read_regular, replace_file, replace_file_later, sync_parent,
};
use crate::store::image::{ImageEntry, now, read_all};
use crate::store::lock::{self, Mode};
use crate::store::{DOCUMENT_SIZE_MAX, Store};

/// An image, or an index of images, that has no name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UntaggedRecord {
    /// The manifest or index.
    pub target: Descriptor,
    /// The image of each platform; one if the target is a manifest.
    pub images: Vec<ImageEntry>,
    /// When it was put here, in seconds since 1970.
    pub updated: u64,
}

impl UntaggedRecord {
    /// The target if it is an index.
    pub fn index(&self) -> Option<&Descriptor> {
        let is_manifest = self.images.iter().any(|image| image.manifest.digest == self.target.digest);
        (!is_manifest).then_some(&self.target)
    }
}

impl Store {
    /// Keeps an image without a name. An image that has a name is kept by the name.
    pub fn put_untagged(&self, target: &Descriptor, images: &[ImageEntry]) -> Result<()> {
        self.hold(&target.digest)?;
        self.lease.require_writable()?;
        let lock_path = self.dir("images.lock");
        let _lock = lock::lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)?;
        self.keep(target, images, None)
    }

    /// Like [`Store::put_untagged`] for an image that loses the name `loses`, while the lock of the records
    /// is held.
    pub(crate) fn keep_unnamed(
        &self,
        target: &Descriptor,
        images: &[ImageEntry],
        loses: &Reference,
    ) -> Result<()> {
        self.keep(target, images, Some(loses))
    }

    /// Writes the record, unless a name other than `loses` keeps the image.
    fn keep(&self, target: &Descriptor, images: &[ImageEntry], loses: Option<&Reference>) -> Result<()> {
        let (named, _) = read_all(&self.dir("images"))?;
        let has_name = named.iter().filter(|record| Some(&record.reference) != loses).any(|record| {
            record.index.as_ref().is_some_and(|index| index.digest == target.digest)
                || record.images.iter().any(|image| image.manifest.digest == target.digest)
        });
        if has_name {
            return Ok(());
        }
        make_dir(&self.dir("untagged"))?;
        let record = UntaggedRecord { target: target.clone(), images: images.to_vec(), updated: now() };
        let bytes = serde_json::to_vec_pretty(&record).expect("string keys always serialise");
        let path = self.untagged_path(&target.digest);
        match loses {
            None => replace_file(&path, &self.lease.temporary()?, &bytes),
            // Every rebuild of a name comes here, and should not wait for an image that nobody asked for.
            Some(_) => replace_file_later(&path, &self.lease.temporary()?, &bytes),
        }
    }

    /// All images without a name, the oldest first; one whose file is damaged is left out.
    pub fn untagged(&self) -> Result<Vec<UntaggedRecord>> {
        let mut records: Vec<UntaggedRecord> = Vec::new();
        for digest in self.untagged_digests()? {
            let bytes = read_regular(&self.untagged_path(&digest), DOCUMENT_SIZE_MAX);
            let record = bytes.ok().and_then(|bytes| serde_json::from_slice::<UntaggedRecord>(&bytes).ok());
            records.extend(record.filter(|record| record.target.digest == digest));
        }
        records.sort_by(|a, b| (a.updated, &a.target.digest).cmp(&(b.updated, &b.target.digest)));
        Ok(records)
    }

    /// Forgets an image without a name; the content goes with the next collection. False if no such image has
    /// that manifest or index.
    pub fn remove_untagged(&self, target: &Digest) -> Result<bool> {
        self.lease.require_writable()?;
        let lock_path = self.dir("images.lock");
        let _lock = lock::lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)?;
        self.forget_untagged(target)
    }

    /// Like [`Store::remove_untagged`], while the lock of the records is held.
    pub(crate) fn forget_untagged(&self, target: &Digest) -> Result<bool> {
        let path = self.untagged_path(target);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            // Damage: a directory where a file should be.
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => self.set_aside(&path).map(|()| true),
            Err(e) => Err(StoreError::io("remove", &path, e)),
        }
    }

    /// The digests of all manifests and indexes that are kept without a name, damaged records included.
    pub fn untagged_digests(&self) -> Result<Vec<Digest>> {
        let dir = self.dir("untagged");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // The directory is created when it is first needed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StoreError::io("read", &dir, e)),
        };
        let mut digests = Vec::new();
        for entry in entries {
            let name = entry.context("read", &dir)?.file_name().to_string_lossy().into_owned();
            digests.extend(name.strip_suffix(".json").and_then(digest_of_file_name));
        }
        Ok(digests)
    }

    fn untagged_path(&self, target: &Digest) -> PathBuf {
        self.dir("untagged").join(file_name(target) + ".json")
    }
}
