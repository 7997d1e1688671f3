//! The read-only root of several layers; works even if user namespaces are forbidden.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crossdock_oci::store::{Store, TemporaryDirectory};
use crossdock_sandbox::{can_stack, link_layers, overlay_fd};

use crate::error::ErrorKind;

/// A read-only root.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// Directory of a view made of hard links; removed with the view.
    _directory: Option<TemporaryDirectory>,
}

impl View {
    /// The root of `layers`: directories of `store`, the lowest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overlay`] if they cannot be stacked.
    pub fn new(store: &Store, layers: &[PathBuf]) -> Result<View, ErrorKind> {
        if layers.len() < 2 || can_stack() {
            let root = overlay_fd(layers, None).map_err(ErrorKind::Overlay)?;
            return Ok(View { root, _directory: None });
        }
        let directory = store.temporary_directory()?;
        link_layers(layers, directory.path()).map_err(ErrorKind::Overlay)?;
        let root = overlay_fd(&[directory.path().to_path_buf()], None).map_err(ErrorKind::Overlay)?;
        Ok(View { root, _directory: Some(directory) })
    }

    /// The open root.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }
}
