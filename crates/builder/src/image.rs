//! From final states to images and an index in the store.

use std::sync::Arc;

use crossdock_oci::error::StoreError;
use crossdock_oci::manifest::{Annotations, MANIFEST_SIZE_MAX};
use crossdock_oci::store::{DOCUMENT_SIZE_MAX, Store};
use crossdock_oci::{Descriptor, Digest, ImageConfig, Index, Manifest, media_type};
use crossdock_platform::Platform;

use crate::cache::StepCache;
use crate::engine::{Environment, rfc3339};
use crate::error::{BuildError, ErrorKind};
use crate::request::BuildRequest;
use crate::stage::add_labels;
use crate::stages;
use crate::state::{Base, Layer, State};

/// The result of a build.
#[derive(Clone)]
pub struct Built {
    /// One image per platform, in the order asked for.
    pub images: Vec<BuiltImage>,
    /// The index, if there are several images.
    pub index: Option<Descriptor>,
    /// Every step with its result.
    pub steps: StepCache,
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
        let index = Index::new(self.images.iter().map(|image| image.manifest.clone()).collect());
        let bytes = serde_json::to_vec(&index).expect("string keys always serialise");
        store.write_blob(&bytes)?;
        self.index = Some(Descriptor::of(media_type::OCI_INDEX, &bytes));
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
    /// Its layers, unpacked, the lowest first.
    pub trees: Vec<std::path::PathBuf>,
    /// How much of it is the base image's.
    pub base: Base,
}

/// Builds the images and leaves them in the store, without names.
pub fn build(env: &Environment<'_>, request: &BuildRequest) -> Result<Built, BuildError> {
    let (states, steps) = stages::run(env, request)?;
    let mut images = Vec::new();
    for (state, platform) in states.iter().zip(&request.platforms) {
        images.push(assemble(env, request, state, platform)?);
    }
    let mut built = Built { images, index: None, steps };
    if built.images.len() != 1 {
        built.make_index(env.store).map_err(ErrorKind::from)?;
    }
    Ok(built)
}

fn assemble(
    env: &Environment<'_>,
    request: &BuildRequest,
    state: &Arc<State>,
    platform: &Platform,
) -> Result<BuiltImage, BuildError> {
    let mut config = state.config.clone();
    config.config.env = state.env.entries().to_vec();
    add_labels(&mut config, &request.labels);
    if let Some(seconds) = request.source_date_epoch {
        clamp(&mut config, &rfc3339(seconds));
    }
    write(env, request, config, (&state.layers, state.base), platform)
}

/// Writes configuration and manifest of an image; waits until its layers are packed. `config` lacks the
/// `rootfs`.
pub(crate) fn write(
    env: &Environment<'_>,
    request: &BuildRequest,
    mut config: ImageConfig,
    (made, base): (&[Layer], Base),
    platform: &Platform,
) -> Result<BuiltImage, BuildError> {
    // The base decides the platform; an image FROM scratch has the requested platform.
    let own = config.platform();
    let mut layers = Vec::new();
    for layer in made {
        let packed = packed(layer)?;
        config.rootfs.diff_ids.push(packed.0);
        layers.push(packed.1);
    }
    let bytes = config.to_bytes();
    if bytes.len() as u64 > DOCUMENT_SIZE_MAX {
        let message = format!(
            "the configuration of the image would have {} bytes, the limit is {DOCUMENT_SIZE_MAX}",
            bytes.len()
        );
        return Err(ErrorKind::Dockerfile(message).into());
    }
    let id = env.store.write_blob(&bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_string()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, &bytes),
        layers,
        subject: None,
        annotations: Annotations::new(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("string keys always serialise");
    if bytes.len() as u64 > MANIFEST_SIZE_MAX {
        let message =
            format!("the manifest of the image would have {} bytes, the limit is 4 MiB", bytes.len());
        return Err(ErrorKind::Dockerfile(message).into());
    }
    env.store.write_blob(&bytes)?;
    // If there are several platforms, each image must be found under its requested platform.
    let is_named_by_base =
        request.platforms.len() == 1 || own.rank(platform).is_some() || platform.rank(&own).is_some();
    let named = if is_named_by_base { own } else { platform.clone() };
    Ok(BuiltImage {
        platform: named.clone(),
        manifest: Descriptor::of(media_type::OCI_MANIFEST, &bytes).with_platform(named),
        id,
        trees: made.iter().map(|layer| layer.fs.clone()).collect(),
        base,
    })
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
