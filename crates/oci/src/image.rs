//! An image that one may hold and change before it is written.

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Result, StoreError};
use crate::manifest::{Annotations, Descriptor, Index, MANIFEST_SIZE_MAX, Manifest};
use crate::media_type::{self, Compression};
use crate::store::{DOCUMENT_SIZE_MAX, LoadedImage, Store};

/// Manifest and configuration of one image.
///
/// Changes touch this value only; [`Store::put`] writes it under its new digests. A configuration that nobody
/// changes keeps its bytes, and so its digest.
#[derive(Clone, Debug)]
pub struct Image {
    manifest: Manifest,
    config: ImageConfig,
    /// The bytes of the configuration, if they are not those that `config` would be written as.
    config_bytes: Option<Vec<u8>>,
}

/// Where an image is after [`Store::put`].
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// Its manifest, without a platform.
    pub manifest: Descriptor,
    /// Digest of its configuration: the image's id in Docker's sense.
    pub id: Digest,
}

impl From<LoadedImage> for Image {
    fn from(loaded: LoadedImage) -> Image {
        let LoadedImage { manifest, config, config_bytes, .. } = loaded;
        Image { manifest, config, config_bytes: Some(config_bytes) }
    }
}

impl Image {
    /// An image of a configuration and layers, with OCI's media types. The configuration names the layers'
    /// `diff_ids` already.
    pub fn new(config: ImageConfig, layers: Vec<Descriptor>) -> Image {
        let bytes = config.to_bytes();
        let manifest = Manifest::of_image(Descriptor::of(media_type::OCI_CONFIG, &bytes), layers);
        Image { manifest, config, config_bytes: Some(bytes) }
    }

    /// The manifest as it will be written, but for the digest of a changed configuration.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The configuration.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The configuration, to be changed.
    pub fn config_mut(&mut self) -> &mut ImageConfig {
        self.config_bytes = None;
        &mut self.config
    }

    /// Makes these bytes the configuration.
    ///
    /// # Errors
    ///
    /// They are no configuration of an image.
    pub fn set_config(&mut self, bytes: Vec<u8>) -> Result<(), serde_json::Error> {
        self.config = ImageConfig::parse(&bytes)?;
        self.config_bytes = Some(bytes);
        Ok(())
    }

    /// Adds annotations to the manifest; an annotation of the same name gets the new value.
    pub fn annotate(&mut self, annotations: Annotations) {
        self.manifest.annotations.extend(annotations);
    }

    /// Descriptors of the layers, to be changed into others of the same files.
    pub fn layers_mut(&mut self) -> &mut [Descriptor] {
        &mut self.manifest.layers
    }

    /// Puts one layer in place of all above the first `kept`.
    pub fn squash(&mut self, kept: usize, layer: Descriptor, diff_id: Digest) {
        self.manifest.layers.truncate(kept);
        self.manifest.layers.push(layer);
        let diff_ids = &mut self.config_mut().rootfs.diff_ids;
        diff_ids.truncate(kept);
        diff_ids.push(diff_id);
    }

    /// Gives manifest, configuration and layers Docker's media types.
    ///
    /// # Errors
    ///
    /// The digest of a layer in zstd, for which Docker has no type; the image is unchanged.
    pub fn use_docker_types(&mut self) -> Result<(), Digest> {
        let mut types = Vec::new();
        for layer in &self.manifest.layers {
            types.push(match Compression::of_media_type(&layer.media_type) {
                Compression::Gzip => media_type::DOCKER_LAYER_GZIP,
                Compression::None => media_type::DOCKER_LAYER_TAR,
                Compression::Zstd => return Err(layer.digest.clone()),
            });
        }
        for (layer, kind) in self.manifest.layers.iter_mut().zip(types) {
            layer.media_type = kind.to_string();
        }
        self.manifest.media_type = Some(media_type::DOCKER_MANIFEST.to_string());
        self.manifest.config.media_type = media_type::DOCKER_CONFIG.to_string();
        Ok(())
    }
}

impl Store {
    /// The image of a manifest, to be changed.
    ///
    /// # Errors
    ///
    /// Those of [`Store::load_image`].
    pub fn image_of(&self, manifest: &Descriptor) -> Result<Image> {
        self.load_image(manifest).map(Image::from)
    }

    /// Writes configuration and manifest of an image; its layers are in the store already, or are foreign.
    ///
    /// # Errors
    ///
    /// [`StoreError::WouldBeTooLarge`] for documents that nobody could read again; those of writing.
    pub fn put(&self, image: &Image) -> Result<Put> {
        let bytes = image.config_bytes.clone().unwrap_or_else(|| image.config.to_bytes());
        check_size(
            "the configuration of the image (environment, labels, history)",
            &bytes,
            DOCUMENT_SIZE_MAX,
        )?;
        let id = Digest::of(&bytes);
        let mut manifest = image.manifest.clone();
        if manifest.config.digest != id {
            manifest.config = Descriptor::of(&manifest.config.media_type, &bytes);
        }
        let manifest_bytes = manifest.to_bytes();
        let manifest = described(&manifest, &manifest_bytes)?;
        // Both are waited for once.
        self.write_blobs([(&id, &bytes[..]), (&manifest.digest, &manifest_bytes[..])])?;
        Ok(Put { manifest, id })
    }

    /// Writes a manifest.
    ///
    /// # Errors
    ///
    /// [`StoreError::WouldBeTooLarge`]; those of writing.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<Descriptor> {
        let bytes = manifest.to_bytes();
        let descriptor = described(manifest, &bytes)?;
        self.write_blob(&bytes)?;
        Ok(descriptor)
    }

    /// Writes an index.
    ///
    /// # Errors
    ///
    /// [`StoreError::WouldBeTooLarge`]; those of writing.
    pub fn write_index(&self, index: &Index) -> Result<Descriptor> {
        let bytes = index.to_bytes();
        check_size("the index", &bytes, MANIFEST_SIZE_MAX)?;
        self.write_blob(&bytes)?;
        Ok(Descriptor::of(index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX), &bytes))
    }
}

/// The descriptor of a manifest with these bytes.
fn described(manifest: &Manifest, bytes: &[u8]) -> Result<Descriptor> {
    check_size("the manifest of the image", bytes, MANIFEST_SIZE_MAX)?;
    Ok(Descriptor::of(manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST), bytes))
}

fn check_size(what: &'static str, bytes: &[u8], limit: u64) -> Result<()> {
    match bytes.len() as u64 {
        size if size > limit => Err(StoreError::WouldBeTooLarge { what, size, limit }),
        _ => Ok(()),
    }
}
