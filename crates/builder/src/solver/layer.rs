//! Layers that steps make, and results of steps.

use std::path::PathBuf;
use std::sync::Arc;

use crossdock_oci::store::Scratch;
use crossdock_oci::{Descriptor, Digest, ImageConfig, Store};
use crossdock_sandbox::{Stack, Upper};
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::solver::flights::Promise;
use crate::solver::key::Key;

/// How much of an image comes from its base image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Number of layers.
    pub layers: usize,
    /// Number of entries of the history.
    pub history: usize,
}

/// One layer of a state.
#[derive(Clone)]
pub struct Layer {
    /// The unpacked tree, for overlay.
    pub fs: PathBuf,
    /// Its archive, made in the background.
    pub packed: Arc<Promise<Result<Packed, String>>>,
}

/// The archive of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The compressed archive.
    pub descriptor: Descriptor,
}

/// What the cache keeps of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The layer; `None` if the step changed nothing.
    pub layer: Option<Packed>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Distinguishes a renewed result from the earlier one under the same key, see [`StepResult::digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<String>,
}

/// Result of a step.
#[derive(Clone)]
pub struct StepResult {
    /// The layer; `None` if the step changed nothing.
    pub layer: Option<Layer>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// See [`Record::renewal`].
    pub renewal: Option<String>,
}

impl StepResult {
    /// The digest that names the content for later steps: the step's key. A command that ran again although
    /// its result was known (`--no-cache`) has made something else under the same key. It then gets another
    /// digest, so that results built on the earlier one are not found.
    pub fn digest(&self, key: Digest) -> Digest {
        match &self.renewal {
            None => key,
            Some(renewal) => {
                let mut renewed = Key::new("renewed", &key);
                renewed.field(renewal);
                renewed.finish()
            }
        }
    }
}

/// The root of a step that writes files itself: the lower layers, with changes going to the scratch
/// directory.
pub(crate) fn open_root(scratch: &Scratch, lower: &[PathBuf]) -> Result<Stack, ErrorKind> {
    let upper = Upper { upper: scratch.upper(), work: scratch.work(), volatile: true };
    Ok(Stack::new(lower, &upper)?)
}

/// Configuration and unpacked layers of an image in the store.
pub(crate) fn image_layers(
    store: &Store,
    manifest: &Descriptor,
) -> Result<(ImageConfig, Vec<Layer>), ErrorKind> {
    let image = store.load_image(manifest)?;
    let unpacked = store.unpack_image(&image, 0)?;
    let layers = unpacked.into_iter().zip(&image.manifest.layers).zip(&image.config.rootfs.diff_ids);
    let layers = layers.map(|((unpacked, descriptor), diff_id)| {
        let packed = Packed { diff_id: diff_id.clone(), descriptor: descriptor.clone() };
        Layer { fs: unpacked.path, packed: Arc::new(Promise::kept(Ok(packed))) }
    });
    let layers = layers.collect();
    Ok((image.config, layers))
}
