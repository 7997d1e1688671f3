//! Images and an index in the store, from the layers of a solver.

use std::path::PathBuf;

use crossdock_oci::error::StoreError;
use crossdock_oci::{Descriptor, Digest, Image, ImageConfig, Index, Store, media_type};
use crossdock_platform::Platform;

use crate::error::{BuildError, ErrorKind};
use crate::solver::cache::StepCache;
use crate::solver::layer::{Base, Layer, trees_of};
use crate::solver::settings::Settings;

/// The result of a build.
#[derive(Clone)]
pub struct Built {
    /// One image per platform, in the order asked for.
    pub images: Vec<BuiltImage>,
    /// The index, if there are several images.
    pub index: Option<Descriptor>,
    /// Every step with its result.
    pub steps: StepCache,
    /// What lists of packages are about besides each image, in the order of the images; empty if no
    /// Dockerfile was built.
    pub scans: Vec<Scans>,
}

impl Built {
    /// The index, or the manifest of the only image.
    pub fn target(&self) -> &Descriptor {
        self.index.as_ref().unwrap_or(&self.images[0].manifest)
    }
}

impl Built {
    /// Makes an index of the images, also if there is only one.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn make_index(&mut self, store: &Store) -> Result<(), StoreError> {
        self.put_index(store, &Index::new(self.images.iter().map(|image| image.manifest.clone()).collect()))
    }

    /// Makes an index of the images in place of the present one, if there is one; `edit` may change it before
    /// it is written.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn renew_index(&mut self, store: &Store, edit: impl FnOnce(&mut Index)) -> Result<(), StoreError> {
        if self.index.is_none() {
            return Ok(());
        }
        let mut index = Index::new(self.images.iter().map(|image| image.manifest.clone()).collect());
        edit(&mut index);
        self.put_index(store, &index)
    }

    /// Makes this the result's index.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn put_index(&mut self, store: &Store, index: &Index) -> Result<(), StoreError> {
        self.index = Some(store.write_index(index)?);
        Ok(())
    }

    /// Changes every image. The index still has the old ones, until [`Built::renew_index`].
    ///
    /// # Errors
    ///
    /// Those of `change` and of the store.
    pub fn change_images<E: From<StoreError>>(
        &mut self,
        store: &Store,
        mut change: impl FnMut(&BuiltImage, &mut Image) -> Result<(), E>,
    ) -> Result<(), E> {
        for built in &mut self.images {
            let mut image = store.image_of(&built.manifest)?;
            change(built, &mut image)?;
            built.put(store, &image)?;
        }
        Ok(())
    }
}

impl BuiltImage {
    /// Its layers, unpacked, the lowest first.
    ///
    /// # Errors
    ///
    /// A layer cannot be unpacked.
    pub fn trees(&self, store: &Store) -> Result<Vec<PathBuf>, ErrorKind> {
        trees_of(store, &self.layers)
    }

    /// Writes an image, which takes the place of this one.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn put(&mut self, store: &Store, image: &Image) -> Result<(), StoreError> {
        let put = store.put(image)?;
        self.manifest = put.manifest.with_platform(self.platform.clone());
        self.id = put.id;
        Ok(())
    }
}

/// The image of one platform.
#[derive(Clone)]
pub struct BuiltImage {
    /// Its platform.
    pub platform: Platform,
    /// Its manifest in the store, with the platform set.
    pub manifest: Descriptor,
    /// Digest of its configuration: the image's id in Docker's sense.
    pub id: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// How much of it is the base image's.
    pub base: Base,
}

/// The result of a build, before it is written as images.
pub struct Made {
    /// One image per platform, in the order asked for.
    pub images: Vec<MadeImage>,
    /// Every step with its result.
    pub steps: StepCache,
    /// What lists of packages are about besides each image, as in [`Built::scans`].
    pub scans: Vec<Scans>,
}

/// What a Dockerfile wants lists of packages of, besides the image: `ARG BUILDKIT_SBOM_SCAN_STAGE` and
/// `ARG BUILDKIT_SBOM_SCAN_CONTEXT` (Docker's documentation, "SBOM attestations").
#[derive(Clone, Default)]
pub struct Scans {
    /// Stages by name, in the order of the Dockerfile. Those without a name are called `stage-NUMBER`.
    pub stages: Vec<(String, MadeImage)>,
    /// Whether the build context is one of them.
    pub has_context: bool,
}

/// The image of one platform, before it is written: its layers need no archive yet.
#[derive(Clone)]
pub struct MadeImage {
    /// Its platform.
    pub platform: Platform,
    /// Its configuration without the `rootfs`.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// How much of it is the base image's.
    pub base: Base,
}

impl MadeImage {
    pub(crate) fn new(
        settings: &Settings,
        config: ImageConfig,
        (layers, base): (Vec<Layer>, Base),
        platform: &Platform,
    ) -> MadeImage {
        // The base decides the platform; an image FROM scratch has the requested platform.
        let own = config.platform();
        // If there are several platforms, each image must be found under its requested platform.
        let is_named_by_base =
            settings.platforms.len() == 1 || own.rank(platform).is_some() || platform.rank(&own).is_some();
        let platform = if is_named_by_base { own } else { platform.clone() };
        MadeImage { platform, config, layers, base }
    }

    /// Its layers, unpacked, the lowest first.
    ///
    /// # Errors
    ///
    /// A layer cannot be made or unpacked.
    pub fn trees(&self, store: &Store) -> Result<Vec<PathBuf>, ErrorKind> {
        trees_of(store, &self.layers)
    }

    /// Writes configuration and manifest, once all layers are packed.
    ///
    /// # Errors
    ///
    /// A layer cannot be packed; the store cannot be written; the configuration is too large.
    pub fn write(&self, store: &Store) -> Result<BuiltImage, BuildError> {
        let (mut config, mut layers) = (self.config.clone(), Vec::new());
        for layer in &self.layers {
            let packed = packed(layer)?;
            config.rootfs.diff_ids.push(packed.0);
            layers.push(packed.1);
        }
        let put = store.put(&Image::new(config, layers)).map_err(|error| match error {
            StoreError::WouldBeTooLarge { .. } => ErrorKind::Dockerfile(error.to_string()),
            other => other.into(),
        })?;
        Ok(BuiltImage {
            platform: self.platform.clone(),
            manifest: put.manifest.with_platform(self.platform.clone()),
            id: put.id,
            layers: self.layers.clone(),
            base: self.base,
        })
    }
}

/// Lowers later times in the history to `epoch` and sets the image's own time to it, as BuildKit does.
pub(crate) fn clamp(config: &mut ImageConfig, epoch: &str) {
    for entry in config.history.iter_mut().filter(|entry| entry.created.as_deref() > Some(epoch)) {
        entry.created = Some(epoch.to_string());
    }
    config.created = Some(epoch.to_string());
}

/// `diff_id` and descriptor of a layer, with OCI media types even if the base image has Docker's.
fn packed(layer: &Layer) -> Result<(Digest, Descriptor), BuildError> {
    let packed = layer.packed.wait().map_err(|reason| ErrorKind::Io {
        doing: "pack a layer".to_string(),
        source: std::io::Error::other(reason),
    })?;
    let mut descriptor = packed.descriptor;
    descriptor.media_type = match descriptor.media_type.as_str() {
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP.to_string(),
        media_type::DOCKER_LAYER_TAR => media_type::OCI_LAYER_TAR.to_string(),
        _ => descriptor.media_type,
    };
    Ok((packed.diff_id, descriptor))
}
