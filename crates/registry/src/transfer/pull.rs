//! Pulls images from a registry into the store.

use std::collections::HashSet;
use std::io::{Read, Write};

use crossdock_oci::error::StoreError;
use crossdock_oci::manifest::{Descriptor, Document, Index, Manifest, ParseDocumentError};
use crossdock_oci::store::{DOCUMENT_SIZE_MAX, Ingest};
use crossdock_oci::{Digest, ImageConfig, Reference, Store, media_type};
use crossdock_platform::Platform;

use super::parallel::{Stop, for_each};
use crate::client::{BlobReader, Client};
use crate::error::{Error, Result};
use crate::progress::{Direction, Outcome};

/// Bytes moved from the network to the disk at once.
const BUFFER_SIZE: usize = 256 * 1024;
/// Indexes nested deeper than this are refused.
pub(super) const DEPTH_MAX: u32 = 4;

/// The images of an index to take.
#[derive(Clone, Debug, PartialEq)]
pub enum Platforms {
    /// The best image for each of these platforms.
    Only(Vec<Platform>),
    /// No platform was named: the best image for this machine, or the only image.
    Machine,
    /// All images and attestations, so that the index can be pushed again unchanged.
    All,
}

/// Reports that a layer's blob is in the store.
#[derive(Clone, Debug)]
pub struct LayerReady<'a> {
    /// The layer.
    pub layer: &'a Descriptor,
    /// Digest of the uncompressed archive, as the configuration states it.
    pub diff_id: Option<&'a Digest>,
    /// Position of the layer in the image; 0 is the lowest layer.
    pub index: usize,
    /// Platform of the image.
    pub platform: &'a Platform,
}

/// Settings of a pull.
pub struct PullOptions<'a> {
    /// The images to take from an index.
    pub platforms: Platforms,
    /// Accepts a single image for another platform than requested.
    pub any_platform: bool,
    /// Called once per digest, as soon as the layer is complete, on the thread that moved it. Other downloads
    /// wait only if all threads are in such calls.
    pub on_layer_ready: Option<&'a (dyn Fn(LayerReady) + Sync)>,
}

impl PullOptions<'_> {
    /// The image for one platform.
    pub fn platform(platform: Platform) -> PullOptions<'static> {
        PullOptions { platforms: Platforms::Only(vec![platform]), any_platform: false, on_layer_ready: None }
    }

    /// The best image for this machine, or the only one.
    pub fn machine() -> PullOptions<'static> {
        PullOptions { platforms: Platforms::Machine, any_platform: false, on_layer_ready: None }
    }

    /// Everything that the index lists.
    pub fn all() -> PullOptions<'static> {
        PullOptions { platforms: Platforms::All, any_platform: true, on_layer_ready: None }
    }
}

/// The images that a pull fetched or found complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    /// The index, if the reference names one.
    pub index: Option<Descriptor>,
    /// The images with their manifests.
    pub images: Vec<(Platform, Descriptor)>,
    /// Bytes of blobs that were moved.
    pub bytes_moved: u64,
}

/// An image whose layers are to be fetched.
struct Image {
    descriptor: Descriptor,
    manifest: Manifest,
    platform: Platform,
    diff_ids: Vec<Digest>,
    /// Whether the image is recorded under the reference; attestations are not.
    named: bool,
}

/// A pull under way.
struct Pull<'a> {
    client: &'a Client,
    store: &'a Store,
    reference: &'a Reference,
}

/// Whether a manifest belongs to an image. Old registries give the configuration the type of a byte stream;
/// Docker still accepts that.
fn is_image(manifest: &Manifest) -> bool {
    const OLD_CONFIG: &str = "application/octet-stream";
    let kind = manifest.config.media_type.as_str();
    matches!(kind, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG | OLD_CONFIG | "")
}

/// Brings images into the store and names them there. Resumes partial downloads of earlier attempts; content
/// that the store has is not moved.
///
/// # Errors
///
/// [`Error::NoPlatform`] with the offered platforms, [`Error::OtherPlatform`], [`Error::Artifact`], and
/// errors of the registry and the store. After an error nothing is named.
pub fn pull(client: &Client, store: &Store, reference: &Reference, options: &PullOptions) -> Result<Pulled> {
    let pull = Pull { client, store, reference };
    let (top, document) = pull.top()?;
    let is_index = matches!(document, Document::Index(_));
    let mut chosen = Vec::new();
    pull.choose(&top, document, options, true, 0, &mut chosen)?;
    let mut images = Vec::new();
    for (descriptor, manifest, named) in chosen {
        images.push(pull.configured(descriptor, manifest, named, options)?);
    }
    pull.check_platforms(is_index, &images, options)?;
    let bytes_moved = pull.layers(&images, options)?;
    let named: Vec<(Platform, Descriptor)> = images
        .into_iter()
        .filter(|image| image.named)
        .map(|image| (image.platform.clone(), image.descriptor.with_platform(image.platform)))
        .collect();
    if is_index {
        store.put_index(reference, &top, &named)?;
    } else {
        store.replace_images(reference, &named)?;
    }
    Ok(Pulled { index: is_index.then_some(top), images: named, bytes_moved })
}

impl Pull<'_> {
    /// The document that the reference names. It comes from the store if the reference has a digest and the
    /// store has it.
    fn top(&self) -> Result<(Descriptor, Document)> {
        if let Some(digest) = self.reference.digest()
            && let Some(size) = self.store.blob_size(digest)?
        {
            let bytes = self.store.read_blob(digest)?;
            let document = self.parse(&bytes, None)?;
            let descriptor = Descriptor::new(document.media_type(), digest.clone(), size);
            return Ok((descriptor, document));
        }
        let fetched = self.client.manifest(self.reference)?;
        let document = fetched.document(self.reference)?;
        self.keep(&fetched.digest, &fetched.bytes)?;
        Ok((fetched.descriptor(), document))
    }

    /// The document of an entry of an index.
    fn entry(&self, descriptor: &Descriptor) -> Result<Document> {
        let announced = Some(descriptor.media_type.as_str()).filter(|t| !t.is_empty());
        if self.store.contains(&descriptor.digest)? {
            return self.parse(&self.store.read_descriptor(descriptor)?, announced);
        }
        let reference = self.reference.with_digest(descriptor.digest.clone());
        let fetched = self.client.manifest(&reference)?;
        if fetched.bytes.len() as u64 != descriptor.size {
            return Err(StoreError::SizeMismatch {
                digest: descriptor.digest.clone(),
                expected: descriptor.size,
                found: fetched.bytes.len() as u64,
            }
            .into());
        }
        let document = self.parse(&fetched.bytes, announced)?;
        self.keep(&descriptor.digest, &fetched.bytes)?;
        Ok(document)
    }

    fn parse(&self, bytes: &[u8], announced: Option<&str>) -> Result<Document> {
        Document::parse(bytes, announced)
            .map_err(|source| Error::Manifest { target: self.reference.to_string(), source })
    }

    /// Stores verified bytes under their digest.
    fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if self.store.contains(digest)? {
            return Ok(());
        }
        let mut writer = self.store.blob_writer_with(digest.hasher())?;
        writer.write_all(bytes).map_err(Error::io(self.store.blob_path(digest)))?;
        writer.commit(Some(digest))?;
        Ok(())
    }

    /// Descends to the wanted manifests and adds them to `chosen`.
    fn choose(
        &self,
        descriptor: &Descriptor,
        document: Document,
        options: &PullOptions,
        named: bool,
        depth: u32,
        chosen: &mut Vec<(Descriptor, Manifest, bool)>,
    ) -> Result<()> {
        let index = match document {
            Document::Manifest(manifest) => {
                if !chosen.iter().any(|(known, _, _)| known.digest == descriptor.digest) {
                    chosen.push((descriptor.clone(), manifest, named));
                }
                return Ok(());
            }
            Document::Index(index) => index,
        };
        if depth == DEPTH_MAX {
            return Err(Error::Manifest {
                target: self.reference.to_string(),
                source: ParseDocumentError::Neither(Some("indexes within indexes without end".to_string())),
            });
        }
        for entry in select(index, &options.platforms, self.reference, &|entry| self.platform_of(entry))? {
            let document = self.entry(&entry)?;
            self.choose(&entry, document, options, named && !entry.is_attestation(), depth + 1, chosen)?;
        }
        Ok(())
    }

    /// The platform in the configuration of an index's entry; `None` if the entry is not an image.
    fn platform_of(&self, entry: &Descriptor) -> Result<Option<Platform>> {
        let Document::Manifest(manifest) = self.entry(entry)? else { return Ok(None) };
        if !is_image(&manifest) || manifest.config.size > DOCUMENT_SIZE_MAX {
            return Ok(None);
        }
        let label = Direction::Pull.label(entry.platform.as_ref(), "config");
        self.download(&manifest.config, &label, &Stop::never())?;
        let config = ImageConfig::parse(&self.store.read_descriptor(&manifest.config)?);
        Ok(config.ok().map(|config| config.platform()))
    }

    /// Fetches the configuration, which holds the platform and the layers' uncompressed digests.
    fn configured(
        &self,
        descriptor: Descriptor,
        manifest: Manifest,
        named: bool,
        options: &PullOptions,
    ) -> Result<Image> {
        let Descriptor { digest, size, .. } = &manifest.config;
        if *size > DOCUMENT_SIZE_MAX {
            // Such a configuration could not be read, so it is not fetched.
            let (digest, size) = (digest.clone(), *size);
            return Err(StoreError::TooLarge { digest, size, limit: DOCUMENT_SIZE_MAX }.into());
        }
        if named && !options.any_platform && !is_image(&manifest) {
            let kind = manifest.artifact_type.clone().unwrap_or_else(|| manifest.config.media_type.clone());
            return Err(Error::Artifact {
                target: self.reference.to_string(),
                kind: kind.escape_debug().to_string(),
            });
        }
        let label = Direction::Pull.label(descriptor.platform.as_ref(), "config");
        self.download(&manifest.config, &label, &Stop::never())?;
        let bytes = self.store.read_descriptor(&manifest.config)?;
        // Artifacts have configurations of other types, which do not matter here.
        let config = match ImageConfig::parse(&bytes) {
            Ok(config) => config,
            Err(_) if !named => ImageConfig::default(),
            Err(source) => {
                return Err(StoreError::Config { digest: manifest.config.digest.clone(), source }.into());
            }
        };
        let platform = match &descriptor.platform {
            Some(platform) => platform.clone().normalised(),
            None => config.platform(),
        };
        Ok(Image { descriptor, manifest, platform, diff_ids: config.rootfs.diff_ids, named })
    }

    /// Checks that a single image, which no index selected, is for the requested platform.
    fn check_platforms(&self, is_index: bool, images: &[Image], options: &PullOptions) -> Result<()> {
        let (false, false, Platforms::Only(wanted), [image]) =
            (is_index, options.any_platform, &options.platforms, images)
        else {
            return Ok(());
        };
        match wanted.iter().find(|platform| platform.rank(&image.platform).is_none()) {
            Some(unserved) => Err(Error::OtherPlatform {
                target: self.reference.to_string(),
                wanted: unserved.to_string(),
                found: image.platform.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Fetches all layers, several at once, each digest once; returns the bytes moved.
    fn layers(&self, images: &[Image], options: &PullOptions) -> Result<u64> {
        let mut seen = HashSet::new();
        let mut work = Vec::new();
        for image in images {
            for (index, layer) in image.manifest.layers.iter().enumerate() {
                if seen.insert(&layer.digest) {
                    work.push((image, index, layer));
                }
            }
        }
        let moved = std::sync::atomic::AtomicU64::new(0);
        for_each(self.client.options().max_parallel, work, |(image, index, layer), stop| {
            let count = image.manifest.layers.len();
            let part = format!("layer {}/{count}", index + 1);
            let label = Direction::Pull.label(Some(&image.platform), &part);
            if self.download(layer, &label, stop)? == Outcome::Moved {
                moved.fetch_add(layer.size, std::sync::atomic::Ordering::Relaxed);
            }
            if let (true, Some(ready)) = (image.named, options.on_layer_ready) {
                let diff_id = image.diff_ids.get(index);
                ready(LayerReady { layer, diff_id, index, platform: &image.platform });
            }
            Ok(())
        })?;
        Ok(moved.into_inner())
    }

    /// Brings one blob into the store and reports progress.
    fn download(&self, blob: &Descriptor, label: &str, stop: &Stop) -> Result<Outcome> {
        let progress = &self.client.options().progress;
        let id = blob.digest.as_str();
        progress.start(id, label, blob.size);
        let mut result = self.download_once(blob, stop);
        if matches!(result, Err(Error::DigestMismatch { .. })) {
            // The partial file is damaged, or the transfer was: starts from zero, once.
            result = self.download_once(blob, stop);
        }
        progress.done(id, result.as_ref().copied().unwrap_or(Outcome::Failed));
        result
    }

    fn download_once(&self, blob: &Descriptor, stop: &Stop) -> Result<Outcome> {
        let mut partial = match self.store.partial(&blob.digest)? {
            Ingest::Present(size) if size == blob.size => return Ok(Outcome::Existed),
            Ingest::Present(found) => {
                let digest = blob.digest.clone();
                return Err(StoreError::SizeMismatch { digest, expected: blob.size, found }.into());
            }
            Ingest::Partial(partial) => partial,
        };
        if partial.length() > blob.size {
            partial.restart()?;
        }
        let progress = &self.client.options().progress;
        let mut reader = self.client.blob(self.reference, blob, partial.length())?;
        let mut buffer = vec![0; BUFFER_SIZE.min(usize::try_from(blob.size).unwrap_or(BUFFER_SIZE).max(1))];
        loop {
            stop.check()?;
            match reader.read(&mut buffer).map_err(BlobReader::error)? {
                0 => break,
                n => partial.append(&buffer[..n])?,
            }
            progress.advance(blob.digest.as_str(), partial.length());
        }
        match partial.commit() {
            Ok(_) => Ok(Outcome::Moved),
            Err(StoreError::DigestMismatch { expected, found }) => Err(Error::DigestMismatch {
                target: format!("{}@{}", self.reference.name(), blob.digest),
                expected,
                found,
            }),
            Err(e) => Err(e.into()),
        }
    }
}

/// The entries of an index for the wanted platforms. For an entry without a platform, `platform_of` finds the
/// platform, and may have to fetch the configuration.
///
/// # Errors
///
/// [`Error::NoPlatform`], and the errors of `platform_of`.
pub(super) fn select(
    mut index: Index,
    wanted: &Platforms,
    target: &Reference,
    platform_of: &dyn Fn(&Descriptor) -> Result<Option<Platform>>,
) -> Result<Vec<Descriptor>> {
    /// Most entries without a platform that are examined; nobody builds larger indexes of this kind.
    const UNKNOWN_MAX: usize = 64;
    if *wanted == Platforms::All {
        return Ok(index.manifests);
    }
    let unknown = |entry: &&mut Descriptor| entry.platform.is_none() && !entry.is_attestation();
    for entry in index.manifests.iter_mut().filter(unknown).take(UNKNOWN_MAX) {
        entry.platform = platform_of(entry)?;
    }
    let lacks = |wanted: String| Error::NoPlatform {
        target: target.to_string(),
        wanted,
        offered: offered(index.images()),
    };
    match wanted {
        Platforms::All => Ok(index.manifests),
        Platforms::Only(wanted) => {
            let select =
                |platform| index.select(platform).cloned().ok_or_else(|| lacks(format!("{platform}")));
            wanted.iter().map(select).collect()
        }
        Platforms::Machine => match index.select_for_machine() {
            Some(entry) => Ok(vec![entry.clone()]),
            None => Err(lacks(format!("{} (this machine)", Platform::host()))),
        },
    }
}

/// Platforms of index entries, for messages.
pub(super) fn offered<'a>(entries: impl Iterator<Item = &'a Descriptor>) -> String {
    let mut all: Vec<String> = Vec::new();
    for entry in entries {
        let text = entry.platform.as_ref().map_or_else(|| "unknown".to_string(), Platform::to_string);
        if !all.contains(&text) {
            all.push(text);
        }
    }
    if all.is_empty() { "nothing".to_string() } else { all.join(", ") }
}
