//! The files of a built image, opened to read them.

use anyhow::{Context, Result};
use crossdock_builder::BuiltImage;
use crossdock_builder::solver::view::View;
use crossdock_oci::Store;
use crossdock_oci::store::TemporaryDirectory;

use super::sbom::root::Root;

/// The open root file system of an image.
pub struct Opened {
    /// The root.
    pub root: Root,
    _view: View,
    _directory: Option<TemporaryDirectory>,
}

/// Opens the root file system of an image.
///
/// # Errors
///
/// Its layers cannot be unpacked or stacked.
pub fn open_root(store: &Store, image: &BuiltImage) -> Result<Opened> {
    let (mut trees, mut directory) = (image.trees(store)?, None);
    if trees.is_empty() {
        let empty = store.temporary_directory()?;
        trees.push(empty.path().to_path_buf());
        directory = Some(empty);
    }
    let view = View::new(store, &trees)?;
    let root = Root::new(view.root().try_clone().context("open the files of the image")?);
    Ok(Opened { root, _view: view, _directory: directory })
}
