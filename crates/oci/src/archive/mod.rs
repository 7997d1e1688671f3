//! Images in files: the archives of `docker save` and OCI image layouts, as tar or directory.
//!
//! [`save`](Store::save_docker) and [`Store::save_oci`] write, [`Store::load`] reads any of them from a
//! stream, [`Store::write_layout`] and [`Store::read_layout`] do the same with directories (OCI image
//! specification, `image-layout.md`; Docker image specification v1.2).

mod load;
mod save;

use crossdock_platform::Platform;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::store::Store;

/// An image or index to be saved.
#[derive(Clone, Debug)]
pub struct SaveItem {
    /// Its names; may be none.
    pub references: Vec<Reference>,
    /// Names in a layout that are no image names, `org.opencontainers.image.ref.name` alone.
    pub plain_names: Vec<String>,
    /// What is saved: a manifest, or for OCI also an index.
    pub target: Descriptor,
}

/// An image or index that was loaded: its blobs are in the store, it has no name there yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Its names in the archive.
    pub references: Vec<Reference>,
    /// Manifest or index.
    pub target: Descriptor,
    /// Whether the target is an index.
    pub is_index: bool,
    /// The images that were in the archive, by platform.
    pub images: Vec<(Platform, Descriptor)>,
}

impl Store {
    /// Gives a loaded image or index a name, which means nothing else from then on.
    pub fn name_loaded(&self, loaded: &Loaded, reference: &Reference) -> Result<()> {
        if loaded.is_index {
            return self.put_index(reference, &loaded.target, &loaded.images);
        }
        self.replace_images(reference, &loaded.images)
    }
}

/// One image in `manifest.json` of a docker archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// Annotation of an entry in `index.json`: the tag (`annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the full name, by containerd and BuildKit.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Content of the file `oci-layout`.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
