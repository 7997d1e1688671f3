//! Images by reference and platform.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crossdock_platform::Platform;
use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Context, Result, StoreError};
use crate::manifest::{Descriptor, Document, Manifest};
use crate::reference::Reference;
use crate::store::files::{read_regular, replace_file, sync_parent};
use crate::store::lease::Use;
use crate::store::lock::{self, Mode};
use crate::store::{DOCUMENT_SIZE_MAX, Store};

/// What a reference means in this store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The name.
    pub reference: Reference,
    /// The index that the images came from or were pushed as; absent after one image was replaced alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Descriptor>,
    /// The images that are here, one per platform, sorted by platform.
    pub images: Vec<ImageEntry>,
    /// Time of the last change in seconds since 1970.
    pub updated: u64,
}

/// The image of one platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// The platform, normalised.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
}

impl ImageRecord {
    /// The image that serves `platform` best, see [`Platform::rank`].
    pub fn select(&self, platform: &Platform) -> Option<&ImageEntry> {
        platform.best(self.images.iter().map(|i| &i.platform)).map(|i| &self.images[i])
    }
}

/// An image whose manifest and configuration have been read.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// The manifest.
    pub manifest: Manifest,
    /// Its bytes as stored.
    pub manifest_bytes: Vec<u8>,
    /// Its digest.
    pub manifest_digest: Digest,
    /// The configuration.
    pub config: ImageConfig,
    /// Its bytes as stored.
    pub config_bytes: Vec<u8>,
}

/// What an id refers to, with one of its names.
#[derive(Clone, Debug, PartialEq)]
pub struct IdMatch {
    /// The whole id.
    pub id: Digest,
    /// A name; absent for an image without one.
    pub reference: Option<Reference>,
    /// The index, if the id is that of an index.
    pub index: Option<Descriptor>,
    /// The image, or the images of the index that are here.
    pub images: Vec<ImageEntry>,
}

impl Store {
    /// Names an image: adds it to the reference, in place of the image of the same platform. Images of other
    /// platforms stay; the index stays if it lists this manifest.
    pub fn put_image(&self, reference: &Reference, platform: &Platform, manifest: &Descriptor) -> Result<()> {
        self.hold(&manifest.digest)?;
        self.change(reference, Lost::Keep, |record| {
            let mut record = record.unwrap_or_else(|| empty(reference));
            insert(&mut record.images, platform, manifest);
            if let Some(index) = &record.index
                && !self.lists(index, &manifest.digest)
            {
                record.index = None;
            }
            Ok(Some(record))
        })
    }

    /// Makes the reference mean these images and no other, without an index.
    pub fn replace_images(&self, reference: &Reference, images: &[(Platform, Descriptor)]) -> Result<()> {
        for (_, manifest) in images {
            self.hold(&manifest.digest)?;
        }
        self.change(reference, Lost::Keep, |_| {
            let mut record = empty(reference);
            for (platform, manifest) in images {
                insert(&mut record.images, platform, manifest);
            }
            Ok(Some(record))
        })
    }

    /// Makes the reference mean an index of which `present` are the images that are here.
    ///
    /// Images that an earlier call recorded for the same index stay, images of another index are dropped.
    pub fn put_index(
        &self,
        reference: &Reference,
        index: &Descriptor,
        present: &[(Platform, Descriptor)],
    ) -> Result<()> {
        self.hold(&index.digest)?;
        for (_, manifest) in present {
            self.hold(&manifest.digest)?;
        }
        self.change(reference, Lost::Keep, |record| {
            let mut record = record
                .filter(|r| r.index.as_ref().is_some_and(|i| i.digest == index.digest))
                .unwrap_or_else(|| empty(reference));
            for (platform, manifest) in present {
                insert(&mut record.images, platform, manifest);
            }
            record.index = Some(index.clone());
            Ok(Some(record))
        })
    }

    /// The record of a reference. Its manifests are held, unless the disk is full.
    pub fn image(&self, reference: &Reference) -> Result<Option<ImageRecord>> {
        match self.held_image(reference) {
            // A full disk takes no lease. Callers that make room need only the record; callers that need
            // content fail when they hold it.
            Err(e) if e.is_no_space() => read_record(&self.record_path(reference)),
            other => other,
        }
    }

    fn held_image(&self, reference: &Reference) -> Result<Option<ImageRecord>> {
        let mut guard = self.lease.guard()?;
        let record = read_record(&self.record_path(reference))?;
        if let Some(record) = &record {
            let index = record.index.iter().map(|i| &i.digest);
            let digests = index.chain(record.images.iter().map(|i| &i.manifest.digest));
            guard.hold(&digests.map(|d| Use::Blob(d.clone())).collect::<Vec<_>>())?;
        }
        Ok(record)
    }

    /// All records, sorted by reference.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] if one cannot be read.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let (records, damaged) = self.readable_images()?;
        damaged.into_iter().next().map_or(Ok(records), Err)
    }

    /// All records that can be read, sorted by reference, and what is wrong with the others.
    pub fn readable_images(&self) -> Result<(Vec<ImageRecord>, Vec<StoreError>)> {
        read_all(&self.dir("images"))
    }

    /// The manifest that serves `platform` best under that name; none if the name's index has a better one
    /// that is not here.
    pub fn find(&self, reference: &Reference, platform: &Platform) -> Result<Option<Descriptor>> {
        let Some(record) = self.image(reference)? else { return Ok(None) };
        let entry = record.select(platform);
        let best = entry.filter(|entry| self.is_best(record.index.as_ref(), entry, platform));
        Ok(best.map(|entry| entry.manifest.clone()))
    }

    /// Whether no image of the index serves `platform` better than `entry`, see [`Platform::rank`]. What is
    /// here depends on what was asked for before, and must not decide which variant is taken. Without an
    /// index, or if it cannot be read, there is nothing better.
    pub fn is_best(&self, index: Option<&Descriptor>, entry: &ImageEntry, platform: &Platform) -> bool {
        let rank = platform.rank(&entry.platform);
        if rank == Some(0) {
            return true;
        }
        match index.map(|index| self.read_document(index)) {
            Some(Ok((Document::Index(index), _))) => {
                let best = index.select(platform).and_then(|best| platform.rank(best.platform.as_ref()?));
                best.is_none_or(|best| rank.is_some_and(|rank| rank <= best))
            }
            _ => true,
        }
    }

    /// Like [`Store::find`], with an error that says what is there instead.
    pub fn require(&self, reference: &Reference, platform: &Platform) -> Result<ImageEntry> {
        let record = self.image(reference)?.ok_or_else(|| StoreError::UnknownImage(reference.familiar()))?;
        record.select(platform).cloned().ok_or_else(|| StoreError::NoPlatform {
            image: reference.familiar(),
            platform: platform.to_string(),
            offered: record.images.iter().map(|i| i.platform.to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Gives all images of `source` a second name, replacing what that name meant.
    pub fn tag(&self, source: &Reference, name: &Reference) -> Result<()> {
        let record = self.held_image(source)?.ok_or_else(|| StoreError::UnknownImage(source.familiar()))?;
        self.change(name, Lost::Keep, |_| Ok(Some(ImageRecord { reference: name.clone(), ..record })))
    }

    /// Takes the name from the image of one platform, or from all. The content goes with the next collection.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownImage`] or [`StoreError::NoPlatform`] when there is nothing to remove.
    pub fn remove(&self, reference: &Reference, platform: Option<&Platform>) -> Result<()> {
        let Some(platform) = platform else { return self.remove_record(reference) };
        self.change(reference, Lost::Forget, |record| {
            // A damaged record cannot lose one image alone; an error is better than removing all of it.
            let record = match record {
                None => read_record(&self.record_path(reference))?,
                record => record,
            };
            let mut record = record.ok_or_else(|| StoreError::UnknownImage(reference.familiar()))?;
            let before = record.images.len();
            record.images.retain(|i| !i.platform.matches(platform));
            if record.images.len() == before {
                return Err(StoreError::NoPlatform {
                    image: reference.familiar(),
                    platform: platform.to_string(),
                    offered: record
                        .images
                        .iter()
                        .map(|i| i.platform.to_string())
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            }
            Ok(if record.images.is_empty() { None } else { Some(record) })
        })
    }

    /// Removes a whole record, even one that cannot be read.
    fn remove_record(&self, reference: &Reference) -> Result<()> {
        self.lease.require_writable()?;
        let lock_path = self.dir("images.lock");
        let _lock = lock::lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)?;
        let path = self.record_path(reference);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::UnknownImage(reference.familiar()))
            }
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => self.set_aside(&path),
            Err(e) => Err(StoreError::io("remove", &path, e)),
        }
    }

    /// Takes the name from the images with one of these manifests. The content goes with the next collection.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownImage`] if the name has none of them.
    pub fn remove_manifests(&self, reference: &Reference, manifests: &[Digest]) -> Result<()> {
        self.change(reference, Lost::Forget, |record| {
            let unknown = || StoreError::UnknownImage(reference.familiar());
            let mut record = record.ok_or_else(unknown)?;
            let before = record.images.len();
            record.images.retain(|image| !manifests.contains(&image.manifest.digest));
            if record.images.len() == before {
                return Err(unknown());
            }
            Ok(if record.images.is_empty() { None } else { Some(record) })
        })
    }

    /// Images and indexes whose id begins with `prefix`, at least four hexadecimal digits with or without
    /// `sha256:`. The id of an image is the digest of its manifest or configuration, the id of an index its
    /// digest. All results have the same id, one for each name; no result means that there is no such image.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadId`], or [`StoreError::AmbiguousId`] if several ids begin with `prefix`.
    pub fn find_by_id(&self, prefix: &str) -> Result<Vec<IdMatch>> {
        let digits = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if digits.len() < 4 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(StoreError::BadId(prefix.to_string()));
        }
        // A damaged record has no images to find.
        let named = self.readable_images()?.0.into_iter().map(|r| (Some(r.reference), r.index, r.images));
        let untagged = self.untagged()?.into_iter().map(|r| (None, r.index().cloned(), r.images));
        let mut matches: BTreeMap<Digest, Vec<IdMatch>> = BTreeMap::new();
        let mut add = |found: IdMatch| {
            let same = matches.entry(found.id.clone()).or_default();
            if !same.contains(&found) {
                same.push(found);
            }
        };
        for (reference, index, images) in named.chain(untagged) {
            if let Some(index) = index.filter(|index| index.digest.hex().starts_with(digits)) {
                let (id, reference, images) = (index.digest.clone(), reference.clone(), images.clone());
                add(IdMatch { id, reference, index: Some(index), images });
            }
            for image in &images {
                let found = |id| IdMatch {
                    id,
                    reference: reference.clone(),
                    index: None,
                    images: vec![image.clone()],
                };
                if image.manifest.digest.hex().starts_with(digits) {
                    add(found(image.manifest.digest.clone()));
                } else if let Ok((Document::Manifest(manifest), _)) = self.read_document(&image.manifest)
                    && manifest.config.digest.hex().starts_with(digits)
                {
                    add(found(manifest.config.digest));
                }
            }
        }
        if matches.len() > 1 {
            let candidates = matches.keys().map(|d| d.short().to_string()).collect();
            return Err(StoreError::AmbiguousId { prefix: prefix.to_string(), candidates });
        }
        let found: Vec<IdMatch> = matches.into_values().next().unwrap_or_default();
        for one in &found {
            let index = one.index.iter().map(|index| &index.digest);
            for digest in index.chain(one.images.iter().map(|image| &image.manifest.digest)) {
                self.hold(digest)?;
            }
        }
        Ok(found)
    }

    /// Reads manifest and configuration of one image.
    ///
    /// # Errors
    ///
    /// [`StoreError::IsIndex`] for an index; missing, corrupt or unusable blobs.
    pub fn load_image(&self, manifest: &Descriptor) -> Result<LoadedImage> {
        let (document, manifest_bytes) = self.read_document(manifest)?;
        let manifest_digest = manifest.digest.clone();
        let Document::Manifest(manifest) = document else {
            return Err(StoreError::IsIndex(manifest_digest));
        };
        let config_bytes = self.read_descriptor(&manifest.config)?;
        let config = ImageConfig::parse(&config_bytes)
            .map_err(|source| StoreError::Config { digest: manifest.config.digest.clone(), source })?;
        Ok(LoadedImage { manifest, manifest_bytes, manifest_digest, config, config_bytes })
    }

    /// Whether the index, if it can be read, has an entry of that digest.
    fn lists(&self, index: &Descriptor, manifest: &Digest) -> bool {
        match self.read_document(index) {
            Ok((Document::Index(index), _)) => index.manifests.iter().any(|d| d.digest == *manifest),
            _ => false,
        }
    }

    /// Changes one record while no other process changes any; `None` removes it. `lost` is about images that
    /// the name meant until then. A record that cannot be read counts as absent and is set aside once there
    /// is a new one: giving the name repairs it. An edit that changes nothing writes nothing.
    fn change(
        &self,
        reference: &Reference,
        lost: Lost,
        edit: impl FnOnce(Option<ImageRecord>) -> Result<Option<ImageRecord>>,
    ) -> Result<()> {
        self.lease.require_writable()?;
        let lock_path = self.dir("images.lock");
        let _lock = lock::lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)?;
        let path = self.record_path(reference);
        let (record, damage) = match read_record(&path) {
            Ok(record) => (record, None),
            Err(StoreError::Record { reason, .. }) => (None, Some(reason)),
            Err(e) => return Err(e),
        };
        let before = record.clone();
        match edit(record)? {
            Some(mut record) => {
                record.updated = before.as_ref().map_or(0, |before| before.updated);
                // A rebuild without a change gives a name to what has it. A write would wait for the disk.
                if before.as_ref() != Some(&record) {
                    record.updated = now();
                    if let (Lost::Keep, Some(before)) = (&lost, &before) {
                        self.keep_lost(before, &record)?;
                    }
                    let bytes = serde_json::to_vec_pretty(&record).expect("string keys always serialise");
                    if let Some(reason) = damage {
                        self.set_aside(&path)?;
                        let name = reference.familiar();
                        self.warnings.add(format!("the damaged record of {name} was replaced ({reason})"));
                    }
                    replace_file(&path, &self.lease.temporary()?, &bytes)?;
                }
                // From now on the name keeps these images.
                let manifests = record.images.iter().map(|image| &image.manifest.digest);
                for named in record.index.iter().map(|index| &index.digest).chain(manifests) {
                    self.forget_untagged(named)?;
                }
                Ok(())
            }
            None => {
                fs::remove_file(&path).context("remove", &path)?;
                sync_parent(&path)
            }
        }
    }

    /// Keeps the images that a name meant `before` and does not mean any more, without a name, as docker and
    /// podman do; the whole index if none of its images is left. The lock of the records is held.
    fn keep_lost(&self, before: &ImageRecord, after: &ImageRecord) -> Result<()> {
        let is_lost =
            |old: &&ImageEntry| after.images.iter().all(|image| image.manifest.digest != old.manifest.digest);
        let lost: Vec<&ImageEntry> = before.images.iter().filter(is_lost).collect();
        if let Some(index) = &before.index
            && !lost.is_empty()
            && lost.len() == before.images.len()
        {
            return self.keep_unnamed(index, &before.images, &after.reference);
        }
        for image in lost {
            self.keep_unnamed(&image.manifest, std::slice::from_ref(image), &after.reference)?;
        }
        Ok(())
    }

    fn record_path(&self, reference: &Reference) -> PathBuf {
        self.dir("images").join(record_name(reference))
    }
}

/// What becomes of images that a name does not mean any more.
enum Lost {
    /// They stay without a name.
    Keep,
    /// The name was removed on purpose.
    Forget,
}

fn empty(reference: &Reference) -> ImageRecord {
    ImageRecord { reference: reference.clone(), index: None, images: Vec::new(), updated: 0 }
}

fn insert(images: &mut Vec<ImageEntry>, platform: &Platform, manifest: &Descriptor) {
    let platform = platform.normalised();
    images.retain(|i| i.platform != platform);
    images.push(ImageEntry { platform, manifest: manifest.clone() });
    images.sort_by_key(|i| i.platform.to_string());
}

/// The file name of a reference: readable where it fits, else its digest, which begins with a character that
/// the readable form cannot have.
fn record_name(reference: &Reference) -> String {
    let mut name = String::new();
    for c in reference.to_string().chars() {
        match c {
            '/' | ':' | '@' | '%' | '[' | ']' => name.push_str(&format!("%{:02x}", u32::from(c))),
            other => name.push(other),
        }
    }
    if name.len() > 200 {
        name = format!("~{}", Digest::of(name.as_bytes()).hex());
    }
    name + ".json"
}

fn read_record(path: &Path) -> Result<Option<ImageRecord>> {
    let damaged = |reason: String| StoreError::Record { path: path.to_path_buf(), reason };
    match read_regular(path, DOCUMENT_SIZE_MAX) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(e.to_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(damaged(e.to_string())),
        // A link to itself, or a socket.
        Err(e) if matches!(e.raw_os_error(), Some(6 | 40)) => Err(damaged(e.to_string())),
        Err(e) => Err(StoreError::io("read", path, e)),
    }
}

/// All records of the directory that can be read, and what is wrong with the others; holds nothing.
pub(crate) fn read_all(dir: &Path) -> Result<(Vec<ImageRecord>, Vec<StoreError>)> {
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).context("read", dir)? {
        match read_record(&entry.context("read", dir)?.path()) {
            Ok(record) => records.extend(record),
            Err(e @ StoreError::Record { .. }) => damaged.push(e),
            Err(e) => return Err(e),
        }
    }
    records.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok((records, damaged))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records_are_safe_and_distinct() {
        let long = format!("{}/x:{}", "a".repeat(200), "t".repeat(100));
        let names: Vec<String> = ["alpine", "a/b", "a_b", "[::1]:5000/x", long.as_str()]
            .iter()
            .map(|n| record_name(&n.parse().expect(n)))
            .collect();
        assert_eq!(names[0], "docker.io%2flibrary%2falpine%3alatest.json");
        assert!(names.iter().all(|n| n.len() < 255 && !n.contains('/')));
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
