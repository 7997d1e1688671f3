//! Layers that steps make, and results of steps.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crossdock_oci::store::{Frozen, LayerOptions, LoadedImage, Scratch};
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
    /// The unpacked tree; `None` if it was not needed when the layer was made or found.
    tree: Option<PathBuf>,
    /// Its archive, made or fetched in the background.
    pub packed: Arc<Promise<Result<Packed, String>>>,
    /// What another machine says of the archive, which is verified when it is fetched.
    announced: Option<Packed>,
    /// The image that a layer without a tree is of, and its number there.
    of_image: Option<(Arc<Image>, usize)>,
    /// The tree of a layer that is made when somebody needs it.
    later: Option<Arc<Promise<Result<Frozen, String>>>>,
}

/// Writes the files of a step's layer, whenever somebody needs them.
pub(crate) type MakeLater = Arc<dyn Fn(&Scratch) -> Result<(), ErrorKind> + Send + Sync>;

/// An image that is unpacked when somebody reads its files.
struct Image {
    loaded: LoadedImage,
    trees: Mutex<Option<Vec<PathBuf>>>,
}

impl Image {
    /// The tree of a layer. Who comes first unpacks all.
    fn tree(&self, store: &Store, number: usize) -> Result<PathBuf, ErrorKind> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if trees.is_none() {
            let unpacked = store.unpack_image(&self.loaded, 0)?;
            *trees = Some(unpacked.into_iter().map(|unpacked| unpacked.path).collect());
        }
        Ok(trees.as_ref().expect("set above")[number].clone())
    }
}

impl Layer {
    /// A layer with a tree, unless that is not there yet, and the promise of its archive.
    pub(crate) fn new(tree: Option<PathBuf>, packed: Arc<Promise<Result<Packed, String>>>) -> Layer {
        Layer { tree, packed, announced: None, of_image: None, later: None }
    }

    /// A layer that is made by `make` when somebody needs its files or its archive.
    pub(crate) fn later(
        store: &Store,
        options: LayerOptions,
        make: impl Fn() -> Result<Frozen, ErrorKind> + Send + Sync + 'static,
    ) -> Layer {
        let made = Arc::new(Promise::later(move || make().map_err(|error| error.to_string())));
        let (store, frozen) = (store.clone(), made.clone());
        let pack = move || {
            let layer = store.commit_frozen(&frozen.wait()?, &options).map_err(|error| error.to_string())?;
            Ok(Packed { diff_id: layer.diff_id, descriptor: layer.descriptor })
        };
        Layer { later: Some(made), ..Layer::new(None, Arc::new(Promise::later(pack))) }
    }

    /// Whether another machine has the layer.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.announced.is_some()
    }

    /// A layer that another machine has: what that one says of it, and the promise of its archive.
    pub(crate) fn elsewhere(announced: Packed, packed: Arc<Promise<Result<Packed, String>>>) -> Layer {
        Layer { announced: Some(announced), ..Layer::new(None, packed) }
    }

    /// The archive's names for a machine that has it, or verifies what it gets.
    ///
    /// # Errors
    ///
    /// The layer could not be packed.
    pub(crate) fn announced(&self) -> Result<Packed, String> {
        match &self.announced {
            Some(announced) => Ok(announced.clone()),
            None => self.packed.wait(),
        }
    }

    /// A directory as a layer of an image whose files are read. It has no archive.
    pub fn of_directory(tree: PathBuf) -> Layer {
        let none = Err("a directory has no archive".to_string());
        Layer::new(Some(tree), Arc::new(Promise::kept(none)))
    }

    /// The unpacked tree, for overlay. A layer without one is unpacked, once its archive is complete.
    ///
    /// # Errors
    ///
    /// The layer could not be packed or unpacked.
    pub fn tree(&self, store: &Store) -> Result<PathBuf, ErrorKind> {
        if let Some(tree) = &self.tree {
            return Ok(tree.clone());
        }
        if let Some((image, number)) = &self.of_image {
            return image.tree(store, *number);
        }
        if let Some(later) = &self.later {
            let made = later.wait().map(|frozen| frozen.path());
            let made = made.and_then(|tree| tree.ok_or("it has no files of its own".to_string()));
            return made.map_err(|reason| {
                ErrorKind::io("make a layer that was put off".to_string(), std::io::Error::other(reason))
            });
        }
        let packed = self
            .packed
            .wait()
            .map_err(|reason| ErrorKind::io("pack a layer".to_string(), std::io::Error::other(reason)))?;
        // Layers of steps come from an upper directory, so they never depend on lower ones.
        Ok(store.unpack(&packed.descriptor, &packed.diff_id, &[])?.path)
    }

    /// Whether both are one layer of a build.
    pub(crate) fn is_same(&self, other: &Layer) -> bool {
        match (&self.tree, &other.tree) {
            (Some(own), Some(other)) => own == other,
            _ => Arc::ptr_eq(&self.packed, &other.packed),
        }
    }
}

/// The unpacked trees of layers, in their order.
///
/// # Errors
///
/// As [`Layer::tree`].
pub fn trees_of<'a>(
    store: &Store,
    layers: impl IntoIterator<Item = &'a Layer>,
) -> Result<Vec<PathBuf>, ErrorKind> {
    layers.into_iter().map(|layer| layer.tree(store)).collect()
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

/// Configuration and layers of an image in the store. The layers are unpacked, now or, if that `may_wait`,
/// when somebody reads their files.
pub(crate) fn image_layers(
    store: &Store,
    manifest: &Descriptor,
    may_wait: bool,
) -> Result<(ImageConfig, Vec<Layer>), ErrorKind> {
    let loaded = store.load_image(manifest)?;
    let (descriptors, diff_ids) = (&loaded.manifest.layers, &loaded.config.rootfs.diff_ids);
    let is_sound = descriptors.len() == diff_ids.len();
    let packed: Vec<Packed> = descriptors
        .iter()
        .zip(diff_ids)
        .map(|(descriptor, diff_id)| Packed { diff_id: diff_id.clone(), descriptor: descriptor.clone() })
        .collect();
    let promise = |packed: Packed| Arc::new(Promise::kept(Ok(packed)));
    let config = loaded.config.clone();
    // An image with another number of layers fails when it is unpacked.
    let trees = match may_wait && is_sound {
        true => store.snapshots(diff_ids)?,
        false => Some(store.unpack_image(&loaded, 0)?.into_iter().map(|unpacked| unpacked.path).collect()),
    };
    let layers = match trees {
        Some(trees) => {
            packed.into_iter().zip(trees).map(|(p, tree)| Layer::new(Some(tree), promise(p))).collect()
        }
        None => {
            let image = Arc::new(Image { loaded, trees: Mutex::default() });
            let of_image = |number| Some((image.clone(), number));
            let layer = |(number, p)| Layer { of_image: of_image(number), ..Layer::new(None, promise(p)) };
            packed.into_iter().enumerate().map(layer).collect()
        }
    };
    Ok((config, layers))
}
