//! Writing archives and layouts.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::archive::{DockerItem, IMAGE_NAME, LAYOUT, REF_NAME, SaveItem};
use crate::digest::Digest;
use crate::error::{Context, LayerProblem, Result, StoreError};
use crate::layer::compress::decoder;
use crate::layer::write::{begin_file, directory, end_archive, pad};
use crate::manifest::{Descriptor, Document, Index, MANIFEST_SIZE_MAX};
use crate::media_type;
use crate::name::random_name;
use crate::reference::Reference;
use crate::store::Store;
use crate::store::files::replace_file;

impl Store {
    /// Writes images as `docker save` does: `manifest.json`, configurations and uncompressed layers.
    ///
    /// # Errors
    ///
    /// [`StoreError::IsIndex`] for an index: the format has one platform per name.
    pub fn save_docker(&self, items: &[SaveItem], writer: impl Write) -> Result<()> {
        let mut tar = Tar { writer, written: HashSet::new() };
        let mut manifest = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for item in items {
            let image = self.load_image(&item.target)?;
            let config = format!("{}.json", image.manifest.config.digest.hex());
            tar.bytes(&config, &image.config_bytes)?;
            let mut layers = Vec::new();
            for (layer, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
                let name = format!("{}.tar", diff_id.hex());
                if tar.is_new(&name) {
                    self.save_uncompressed(layer, diff_id, &name, &mut tar)?;
                }
                layers.push(name);
            }
            let tagged = item.references.iter().filter(|r| r.digest().is_none());
            // Whole names: podman takes short names for its own, docker shortens them itself.
            let tags: Vec<String> = tagged.clone().map(Reference::to_string).collect();
            let top = image.config.rootfs.diff_ids.last().map_or("", Digest::hex);
            for reference in tagged {
                let tag = reference.tag().expect("a reference without a digest has a tag");
                repositories.entry(reference.name()).or_default().insert(tag.into(), top.into());
            }
            manifest.push(DockerItem { config, repo_tags: Some(tags).filter(|t| !t.is_empty()), layers });
        }
        tar.bytes("manifest.json", &serde_json::to_vec(&manifest).expect("strings always serialise"))?;
        tar.bytes("repositories", &serde_json::to_vec(&repositories).expect("strings always serialise"))?;
        tar.finish()
    }

    /// Writes a layer's archive. The archive's length comes before it, so the layer is decompressed twice:
    /// once to count.
    fn save_uncompressed<W: Write>(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        name: &str,
        tar: &mut Tar<W>,
    ) -> Result<()> {
        let fail = |problem| StoreError::Layer { layer: layer.digest.to_string(), problem };
        let read = |e: io::Error| match e.downcast::<StoreError>() {
            Ok(e) => e,
            Err(e) => fail(LayerProblem::Read(e)),
        };
        let open = || -> Result<_> {
            Ok(decoder(self.open_blob(&layer.digest)?, &self.unpack_limit).map_err(read)?.0)
        };
        let size = io::copy(&mut open()?, &mut io::sink()).map_err(read)?;
        let mut stream = open()?;
        begin_file(&mut tar.writer, name, size).map_err(write_error)?;
        let mut hasher = diff_id.hasher();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let n = stream.read(&mut buffer).map_err(read)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            tar.writer.write_all(&buffer[..n]).map_err(write_error)?;
        }
        let found = hasher.finish();
        if found != *diff_id {
            return Err(fail(LayerProblem::DiffId { expected: diff_id.clone(), found }));
        }
        pad(&mut tar.writer, size).map_err(write_error)
    }

    /// Writes images and indexes as a tar archive of an OCI image layout. Of an index, only the images in the
    /// store are written. Directories come before their files: skopeo 1.9.3 gives those that it has to make
    /// itself to root, and fails for everybody else.
    pub fn save_oci(&self, items: &[SaveItem], writer: impl Write) -> Result<()> {
        let mut tar = Tar { writer, written: HashSet::new() };
        tar.bytes("oci-layout", LAYOUT)?;
        tar.bytes("index.json", &layout_index(items, Vec::new()).to_bytes())?;
        for digest in self.closure(items)? {
            let name = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
            tar.directory("blobs/")?;
            tar.directory(&format!("blobs/{}/", digest.algorithm()))?;
            let mut blob = self.open_blob(&digest)?;
            begin_file(&mut tar.writer, &name, blob.size()).map_err(write_error)?;
            let size = blob.size();
            io::copy(&mut blob, &mut tar.writer).map_err(|e| match e.downcast::<StoreError>() {
                Ok(e) => e,
                Err(e) => write_error(e),
            })?;
            pad(&mut tar.writer, size).map_err(write_error)?;
        }
        tar.finish()
    }

    /// Adds images and indexes to an OCI image layout in a directory, which is created if missing. Entries of
    /// the same name are replaced.
    pub fn write_layout(&self, items: &[SaveItem], dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).context("create", dir)?;
        let index_path = dir.join("index.json");
        let existing = match fs::read(&index_path) {
            Ok(bytes) => match Document::parse(&bytes, None) {
                Ok(Document::Index(index)) => index.manifests,
                Ok(Document::Manifest(_)) => Vec::new(),
                Err(e) => {
                    let archive = index_path.display().to_string();
                    return Err(StoreError::Archive { archive, reason: e.to_string() });
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(StoreError::io("read", index_path, e)),
        };
        for digest in self.closure(items)? {
            let path = dir.join("blobs").join(digest.algorithm()).join(digest.hex());
            let mut blob = self.open_blob(&digest)?;
            if path.metadata().is_ok_and(|m| m.len() == blob.size()) {
                continue;
            }
            let parent = path.parent().expect("a blob lies in a directory");
            fs::create_dir_all(parent).context("create", parent)?;
            let temporary = parent.join(format!(".{}", digest.hex()));
            let mut copy = || -> io::Result<()> {
                let mut file = File::create(&temporary)?;
                io::copy(&mut blob, &mut file)?;
                file.sync_data()?;
                fs::rename(&temporary, &path)
            };
            if let Err(e) = copy() {
                let _ = fs::remove_file(&temporary);
                return Err(match e.downcast::<StoreError>() {
                    Ok(e) => e,
                    Err(e) => StoreError::io("write", path, e),
                });
            }
        }
        let write = |name: &str, bytes: &[u8]| {
            let temporary = dir.join(format!(".{name}.{}", random_name()));
            replace_file(&dir.join(name), &temporary, bytes)
        };
        write("oci-layout", LAYOUT)?;
        write("index.json", &layout_index(items, existing).to_bytes())
    }

    /// All blobs of the items that are here: images of an index may be missing, parts of an image may not.
    fn closure(&self, items: &[SaveItem]) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut pending: Vec<Descriptor> = items.iter().rev().map(|i| i.target.clone()).collect();
        while let Some(descriptor) = pending.pop() {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            let size = self.blob_size(&descriptor.digest)?;
            let size = size.ok_or_else(|| StoreError::MissingBlob(descriptor.digest.clone()))?;
            found.push(descriptor.digest.clone());
            let is_document = media_type::is_index(&descriptor.media_type)
                || media_type::is_manifest(&descriptor.media_type);
            if !is_document || size > MANIFEST_SIZE_MAX {
                continue;
            }
            match self.read_document(&descriptor)?.0 {
                Document::Manifest(manifest) => {
                    pending.extend(manifest.layers.into_iter().rev());
                    pending.push(manifest.config);
                }
                Document::Index(index) => {
                    for entry in index.manifests.into_iter().rev() {
                        if self.contains(&entry.digest)? {
                            pending.push(entry);
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

/// `index.json`: one entry per name; entries of other names are kept.
fn layout_index(items: &[SaveItem], existing: Vec<Descriptor>) -> Index {
    let mut entries = Vec::new();
    for item in items {
        // The names of the entry are those of the item.
        let mut bare = item.target.clone();
        bare.annotations.retain(|name, _| name != IMAGE_NAME && name != REF_NAME);
        if item.references.is_empty() && item.plain_names.is_empty() {
            entries.push(bare.clone());
        }
        for name in &item.plain_names {
            let mut entry = bare.clone();
            entry.annotations.insert(REF_NAME.into(), name.clone());
            entries.push(entry);
        }
        for reference in &item.references {
            let mut entry = bare.clone();
            entry.annotations.insert(IMAGE_NAME.into(), reference.to_string());
            if let Some(tag) = reference.tag() {
                entry.annotations.insert(REF_NAME.into(), tag.into());
            }
            entries.push(entry);
        }
    }
    let name =
        |d: &Descriptor| (d.annotations.get(IMAGE_NAME).cloned(), d.annotations.get(REF_NAME).cloned());
    let is_replaced = |old: &Descriptor| {
        entries.iter().any(|new| match (name(old), name(new)) {
            ((None, None), _) => old.digest == new.digest,
            // Without a full name, the tag is the name.
            ((None, tag), (_, new_tag)) | ((Some(_), tag), (None, new_tag)) => tag == new_tag,
            ((full, _), (new_full, _)) => full == new_full,
        })
    };
    let mut all: Vec<Descriptor> = existing.into_iter().filter(|old| !is_replaced(old)).collect();
    all.extend(entries);
    Index::new(all)
}

/// The archive being written.
struct Tar<W> {
    writer: W,
    written: HashSet<String>,
}

impl<W: Write> Tar<W> {
    /// Whether no file of this name was written before; remembers the name.
    fn is_new(&mut self, name: &str) -> bool {
        self.written.insert(name.to_string())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if !self.is_new(name) {
            return Ok(());
        }
        let size = bytes.len() as u64;
        begin_file(&mut self.writer, name, size)
            .and_then(|()| self.writer.write_all(bytes))
            .and_then(|()| pad(&mut self.writer, size))
            .map_err(write_error)
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        if !self.is_new(name) {
            return Ok(());
        }
        directory(&mut self.writer, name).map_err(write_error)
    }

    fn finish(mut self) -> Result<()> {
        end_archive(&mut self.writer).map_err(write_error)
    }
}

fn write_error(e: io::Error) -> StoreError {
    StoreError::Io { action: "write", path: "the archive".into(), source: e }
}
