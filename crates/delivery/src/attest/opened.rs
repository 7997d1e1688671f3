//! The files of an image or a stage, opened to read them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use crossdock_builder::solver::view::View;
use crossdock_oci::Store;
use crossdock_oci::store::TemporaryDirectory;

use super::sbom::root::Root;

/// An open root file system.
pub struct Opened {
    /// The root.
    pub root: Root,
    _view: View,
    _directory: Option<TemporaryDirectory>,
}

/// Opens the root file system that these trees of layers make, the lowest first.
///
/// # Errors
///
/// They cannot be stacked.
pub fn open_root(store: &Store, mut trees: Vec<PathBuf>) -> Result<Opened> {
    let mut directory = None;
    if trees.is_empty() {
        let empty = store.temporary_directory()?;
        trees.push(empty.path().to_path_buf());
        directory = Some(empty);
    }
    let view = View::new(store, &trees)?;
    let root = Root::new(view.root().try_clone().context("open the files of the image")?);
    Ok(Opened { root, _view: view, _directory: directory })
}
