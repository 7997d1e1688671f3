//! Reading archives and layouts of any tool.
//!
//! An archive is a stream of files in any order, and says only at its end what they are. So everything is
//! stored as it comes: blobs of layouts under the digest in their name, other files under their own digest.
//! The next collection removes what turns out to be useless.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use crossdock_platform::Platform;

use crate::archive::{DockerItem, IMAGE_NAME, Loaded, REF_NAME};
use crate::config::ImageConfig;
use crate::digest::{Digest, Hashing};
use crate::error::{Context, Result, StoreError};
use crate::layer::apply::printable;
use crate::layer::compress::decoder;
use crate::layer::read::{Entry, Kind, Reader, TarError, is_tar_header};
use crate::manifest::{Annotations, Descriptor, Document, Index, Manifest};
use crate::media_type;
use crate::reference::Reference;
use crate::store::{DOCUMENT_SIZE_MAX, LayerOptions, Store};

/// Archives with more files than this are refused.
const FILES_MAX: usize = 100_000;

/// Bytes that are read after the end of an archive. GNU tar pads to blocks of 10 KiB, or as `-b` says.
const PADDING_MAX: u64 = 16 << 20;

impl Store {
    /// Reads a docker archive or an OCI layout from a stream, compressed or not. `layers` says how to store
    /// uncompressed layers of docker archives, `name` is for messages. The images get no names, see
    /// [`Store::name_loaded`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Archive`] for anything that is not such an archive or lacks a part,
    /// [`StoreError::DigestMismatch`] for blobs that are not what their name says.
    pub fn load(&self, stream: impl Read + Send, layers: &LayerOptions, name: &str) -> Result<Vec<Loaded>> {
        let mut loader = Loader::new(self, name);
        let (stream, _) = decoder(stream, &self.unpack_limit).map_err(|e| loader.io(e))?;
        let mut reader = Reader::new(BufReader::with_capacity(256 * 1024, stream));
        loop {
            match reader.next() {
                Ok(Some(entry)) => loader.entry(&entry, &mut reader, layers)?,
                Ok(None) => break,
                Err(e) => return Err(loader.tar(e)),
            }
        }
        // Reads on, so that a pipe's writer does not die of a closed pipe; but the input may be endless, as
        // `/dev/zero`.
        let mut rest = reader.into_inner().take(PADDING_MAX);
        io::copy(&mut rest, &mut io::sink()).map_err(|e| loader.io(e))?;
        loader.finish()
    }

    /// Reads an OCI image layout from a directory, only those entries of `index.json` that `wanted` accepts.
    pub fn read_layout(&self, dir: &Path, wanted: impl Fn(&Descriptor) -> bool) -> Result<Vec<Loaded>> {
        let name = dir.display().to_string();
        let mut loader = Loader::new(self, &name);
        let index_path = dir.join("index.json");
        let file = fs::File::open(&index_path).context("open", &index_path)?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_SIZE_MAX).read_to_end(&mut bytes).context("read", &index_path)?;
        let index = loader.parse_index(&bytes)?;
        let chosen: Vec<Descriptor> = index.manifests.into_iter().filter(wanted).collect();
        let mut pending = chosen.clone();
        while let Some(descriptor) = pending.pop() {
            if !self.import_blob(dir, &descriptor)? {
                continue;
            }
            let kind = descriptor.media_type.as_str();
            if media_type::is_index(kind) || media_type::is_manifest(kind) || kind.is_empty() {
                pending.extend(self.read_document(&descriptor)?.0.children().into_iter().cloned());
            }
        }
        loader.index = Some(Index::new(chosen).to_bytes());
        loader.finish()
    }

    /// Copies a blob of a layout into the store; `false` if the layout does not have it.
    fn import_blob(&self, dir: &Path, descriptor: &Descriptor) -> Result<bool> {
        let digest = &descriptor.digest;
        if self.contains(digest)? {
            return Ok(true);
        }
        let path = dir.join("blobs").join(digest.algorithm()).join(digest.hex());
        let mut file = match fs::File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.context("open", &path)?,
        };
        let mut writer = self.blob_writer_with(digest.hasher())?;
        io::copy(&mut file, &mut writer).context("copy", &path)?;
        writer.commit(Some(digest))?;
        Ok(true)
    }
}

/// A file of a docker archive.
#[derive(Clone)]
enum Stored {
    Blob(Descriptor),
    /// A tar archive, stored as a layer, with its `diff_id`.
    Layer(Descriptor, Digest),
    /// Another file's path.
    Link(String),
}

struct Loader<'a> {
    store: &'a Store,
    name: &'a str,
    index: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
    files: HashMap<String, Stored>,
}

impl<'a> Loader<'a> {
    fn new(store: &'a Store, name: &'a str) -> Loader<'a> {
        Loader { store, name, index: None, manifest: None, files: HashMap::new() }
    }

    fn bad<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(StoreError::Archive { archive: self.name.to_string(), reason: reason.into() })
    }

    fn io(&self, e: io::Error) -> StoreError {
        match e.downcast::<StoreError>() {
            Ok(e) => e,
            Err(e) => StoreError::io("read", self.name, e),
        }
    }

    fn tar(&self, e: TarError) -> StoreError {
        match e {
            TarError::Io(e) => self.io(e),
            TarError::Bad(reason) => StoreError::Archive { archive: self.name.to_string(), reason },
        }
    }

    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<R>,
        layers: &LayerOptions,
    ) -> Result<()> {
        let path = clean(&entry.path);
        if self.files.len() >= FILES_MAX {
            return self.bad(format!("more than {FILES_MAX} files"));
        }
        match entry.kind {
            Kind::HardLink => {
                self.files.insert(path, Stored::Link(clean(&entry.link)));
                return Ok(());
            }
            Kind::Symlink => {
                let directory = path.rsplit_once('/').map_or("", |(d, _)| d).as_bytes();
                let target = clean(&[directory, b"/", &entry.link].concat());
                self.files.insert(path, Stored::Link(target));
                return Ok(());
            }
            Kind::File if entry.sparse.is_none() => {}
            _ => return Ok(()),
        }
        match path.as_str() {
            "oci-layout" | "repositories" => Ok(()),
            "index.json" => {
                self.index = Some(self.document(entry, reader)?);
                Ok(())
            }
            "manifest.json" => {
                self.manifest = Some(self.document(entry, reader)?);
                Ok(())
            }
            // Files of the first version of the format; the names of its layers say the same.
            other if other.ends_with("/VERSION") || other.ends_with("/json") => Ok(()),
            other => {
                let expected = blob_digest(other);
                let head = self.head(reader)?;
                let stored = if expected.is_none() && is_tar_header(&head) {
                    self.layer(&head, reader, layers)?
                } else {
                    self.blob(&head, entry.size, reader, expected.as_ref())?
                };
                self.files.insert(path, stored);
                Ok(())
            }
        }
    }

    fn document<R: BufRead>(&self, entry: &Entry, reader: &mut Reader<R>) -> Result<Vec<u8>> {
        if entry.size > DOCUMENT_SIZE_MAX {
            return self.bad(format!("\"{}\" has {} bytes", printable(&entry.path), entry.size));
        }
        let mut bytes = Vec::new();
        self.copy(reader, &mut bytes)?;
        Ok(bytes)
    }

    fn copy<R: BufRead>(&self, reader: &mut Reader<R>, writer: &mut dyn Write) -> Result<()> {
        loop {
            let chunk = reader.chunk().map_err(|e| self.tar(e))?;
            if chunk.is_empty() {
                return Ok(());
            }
            let length = chunk.len();
            writer.write_all(chunk).map_err(|e| StoreError::io("write to", self.store.dir("tmp"), e))?;
            reader.consume(length);
        }
    }

    /// The first bytes of an entry's data, at most a block.
    fn head<R: BufRead>(&self, reader: &mut Reader<R>) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        while head.len() < 512 {
            let chunk = reader.chunk().map_err(|e| self.tar(e))?;
            let length = chunk.len().min(512 - head.len());
            if length == 0 {
                break;
            }
            head.extend_from_slice(&chunk[..length]);
            reader.consume(length);
        }
        Ok(head)
    }

    fn blob<R: BufRead>(
        &self,
        head: &[u8],
        size: u64,
        reader: &mut Reader<R>,
        expected: Option<&Digest>,
    ) -> Result<Stored> {
        if let Some(digest) = expected
            && self.store.blob_size(digest)? == Some(size)
        {
            return Ok(Stored::Blob(Descriptor::new("", digest.clone(), size)));
        }
        let mut writer = match expected {
            Some(digest) => self.store.blob_writer_with(digest.hasher())?,
            None => self.store.blob_writer()?,
        };
        writer.write_all(head).map_err(|e| StoreError::io("write to", self.store.dir("tmp"), e))?;
        self.copy(reader, &mut writer)?;
        let (digest, size) = writer.commit(expected)?;
        Ok(Stored::Blob(Descriptor::new("", digest, size)))
    }

    fn layer<R: BufRead>(
        &self,
        head: &[u8],
        reader: &mut Reader<R>,
        layers: &LayerOptions,
    ) -> Result<Stored> {
        let (diff_id, descriptor, _) = self.store.write_layer_blob(layers, |writer| {
            writer.write_all(head).map_err(|e| StoreError::io("write to", self.store.dir("tmp"), e))?;
            self.copy(reader, writer)
        })?;
        Ok(Stored::Layer(descriptor, diff_id))
    }

    fn finish(&self) -> Result<Vec<Loaded>> {
        match (&self.index, &self.manifest) {
            (Some(index), _) => self.oci(index),
            (None, Some(manifest)) => self.docker(manifest),
            (None, None) => self.bad(
                "it has neither index.json nor manifest.json, so it is neither an OCI layout nor a docker archive",
            ),
        }
    }

    fn parse_index(&self, bytes: &[u8]) -> Result<Index> {
        match Document::parse(bytes, None) {
            Ok(Document::Index(index)) => Ok(index),
            Ok(Document::Manifest(_)) => self.bad("its index.json is no index"),
            Err(e) => self.bad(format!("its index.json is {e}")),
        }
    }

    fn oci(&self, index: &[u8]) -> Result<Vec<Loaded>> {
        let index = self.parse_index(index)?;
        let mut all: Vec<Loaded> = Vec::new();
        for entry in &index.manifests {
            let references: Vec<Reference> = name_of(entry).into_iter().collect();
            let target = Descriptor { annotations: Annotations::new(), ..entry.clone() };
            // The same content under several names has several entries.
            if let Some(known) = all.iter_mut().find(|l| l.target.digest == target.digest) {
                known.references.extend(references);
                continue;
            }
            if !self.store.contains(&target.digest)? {
                return self.bad(format!("its index.json names {}, which is not in it", target.digest));
            }
            let (document, _) = self.store.read_document(&target)?;
            let target = Descriptor { media_type: document.media_type().to_string(), ..target };
            let images = match &document {
                Document::Manifest(_) => self.image(&target)?.into_iter().collect(),
                Document::Index(index) => self.images_of(index)?,
            };
            let is_index = matches!(document, Document::Index(_));
            all.push(Loaded { references, target, is_index, images });
        }
        Ok(all)
    }

    fn images_of(&self, index: &Index) -> Result<Vec<(Platform, Descriptor)>> {
        let mut images = Vec::new();
        for entry in index.images() {
            if self.store.contains(&entry.digest)? {
                images.extend(self.image(entry)?);
            }
        }
        Ok(images)
    }

    /// Checks that all parts of an image are here; `None` for an artifact.
    fn image(&self, descriptor: &Descriptor) -> Result<Option<(Platform, Descriptor)>> {
        let manifest = match self.store.read_document(descriptor)?.0 {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) => return self.bad("an index inside of an index"),
        };
        for part in manifest.layers.iter().chain([&manifest.config]) {
            match self.store.blob_size(&part.digest)? {
                Some(size) => crate::store::blob::check_size(part, size)?,
                None if !part.urls.is_empty() => {}
                None => {
                    return self.bad(format!("{} of image {} is not in it", part.digest, descriptor.digest));
                }
            }
        }
        let kind = manifest.config.media_type.as_str();
        if !matches!(kind, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
            return Ok(None);
        }
        let loaded = self.store.load_image(descriptor)?;
        let manifest = Descriptor { annotations: Annotations::new(), platform: None, ..descriptor.clone() };
        Ok(Some((loaded.config.platform(), manifest)))
    }

    fn docker(&self, bytes: &[u8]) -> Result<Vec<Loaded>> {
        let items: Vec<DockerItem> = match serde_json::from_slice(bytes) {
            Ok(items) => items,
            Err(e) => return self.bad(format!("its manifest.json is damaged: {e}")),
        };
        items.iter().map(|item| self.docker_image(item)).collect()
    }

    fn docker_image(&self, item: &DockerItem) -> Result<Loaded> {
        let config = match self.find(&item.config)? {
            Stored::Blob(blob) => Descriptor { media_type: media_type::OCI_CONFIG.into(), ..blob },
            _ => return self.bad(format!("\"{}\" is not a configuration", item.config)),
        };
        let bytes = self.store.read_descriptor(&config)?;
        let parsed = ImageConfig::parse(&bytes)
            .map_err(|source| StoreError::Config { digest: config.digest.clone(), source })?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != item.layers.len() {
            return self.bad(format!("{} layers but {} diff_ids", item.layers.len(), diff_ids.len()));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in item.layers.iter().zip(diff_ids) {
            let (layer, found) = match self.find(path)? {
                Stored::Layer(layer, found) => (layer, found),
                Stored::Blob(blob) => self.inspect_layer(blob, diff_id)?,
                Stored::Link(_) => return self.bad(format!("\"{path}\" is a link to nothing")),
            };
            if found != *diff_id {
                return Err(StoreError::DigestMismatch { expected: diff_id.clone(), found });
            }
            layers.push(layer);
        }
        let target = self.store.write_manifest(&Manifest::of_image(config, layers))?;
        let tags = item.repo_tags.iter().flatten();
        // Names that no registry would take are left out; the image is loaded anyway.
        let references = tags.filter_map(|t| t.parse().ok()).collect();
        let images = vec![(parsed.platform(), target.clone())];
        Ok(Loaded { references, target, is_index: false, images })
    }

    /// Finds compression and `diff_id` of a blob that is used as a layer.
    fn inspect_layer(&self, blob: Descriptor, diff_id: &Digest) -> Result<(Descriptor, Digest)> {
        let (stream, compression) =
            decoder(self.store.open_blob(&blob.digest)?, &self.store.unpack_limit).map_err(|e| self.io(e))?;
        let mut stream = Hashing::with(stream, diff_id.hasher());
        io::copy(&mut stream, &mut io::sink()).map_err(|e| self.io(e))?;
        Ok((Descriptor { media_type: compression.oci_layer().into(), ..blob }, stream.finish().1))
    }

    /// The file at this path, with links followed.
    fn find(&self, path: &str) -> Result<Stored> {
        let mut path = clean(path.as_bytes());
        for _ in 0..10 {
            match self.files.get(&path) {
                Some(Stored::Link(target)) => path.clone_from(target),
                Some(stored) => return Ok(stored.clone()),
                None => break,
            }
        }
        self.bad(format!("\"{path}\" is not in it"))
    }
}

/// The name of an entry of `index.json`: containerd's annotation, or the tag if that is a whole name.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(IMAGE_NAME).and_then(|n| n.parse().ok());
    let tag = || entry.annotations.get(REF_NAME).filter(|n| n.contains(['/', ':']))?.parse().ok();
    full.or_else(tag)
}

/// `blobs/ALGORITHM/HEX`.
fn blob_digest(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// A path without `.`, `..` and surplus slashes.
fn clean(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
