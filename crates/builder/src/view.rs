//! The root that layers make together, for reading; also where user namespaces are forbidden.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crossdock_oci::store::{Store, TemporaryDirectory};
use crossdock_sandbox::{can_stack, link_layers, overlay_fd};

use crate::error::ErrorKind;

/// A root for reading.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// Of a view that is made of hard links, and goes with them.
    _directory: Option<TemporaryDirectory>,
}

impl View {
    /// The root of `layers`, the lowest first, which are directories of `store`.
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
