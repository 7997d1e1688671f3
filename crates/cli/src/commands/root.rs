//! The files of an image, opened for reading: from the store, else fetched.

use std::path::PathBuf;

use anyhow::{Result, bail};
use crossdock_builder::files::tree::Tree;
use crossdock_builder::solver::view::View;
use crossdock_oci::Store;
use crossdock_oci::store::LoadedImage;
use crossdock_platform::Platform;

use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::values;
use crossdock_delivery::source::{self};

/// The root of an image.
pub struct ImageRoot {
    pub tree: Tree,
    pub loaded: LoadedImage,
    /// Keeps the root.
    _view: View,
}

impl ImageRoot {
    /// Opens the image of a name or id for a platform; without one, the image that `run` takes.
    ///
    /// # Errors
    ///
    /// There is no such image, neither here nor in its registry; it has no files.
    pub fn open(
        session: &Session,
        store: &Store,
        image: &str,
        platform: Option<Platform>,
    ) -> Result<ImageRoot> {
        let manifest = match (source::find(store, image, platform.as_ref()), platform) {
            (Ok(found), _) => source::choose(&found, image)?.manifest.clone(),
            (Err(error), _) if !source::is_absence(&error) || source::is_id(image) => return Err(error),
            (Err(_), platform) => {
                let display = Display::new(ProgressMode::Auto);
                let source = crate::desk::source_of(session, store, display.clone());
                let reference = values::reference(image)?;
                let manifest = match platform {
                    Some(platform) => source.resolve(&reference, &platform, false),
                    None => source.fetch_for_machine(&reference),
                };
                display.clear();
                manifest?
            }
        };
        let loaded = store.load_image(&manifest)?;
        let lower: Vec<PathBuf> = store.unpack_image(&loaded, 0)?.into_iter().map(|u| u.path).collect();
        if lower.is_empty() {
            bail!("{image} has no files");
        }
        let view = View::new(store, &lower)?;
        Ok(ImageRoot { tree: Tree::new(view.root().try_clone()?), loaded, _view: view })
    }
}
