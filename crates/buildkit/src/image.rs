//! The image of a result. If nobody is known to want it as an image, it is written when somebody does: until
//! then its layers need no archives.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;
use crossdock_builder::{BuiltImage, MadeImage};
use crossdock_oci::Store;
use crossdock_oci::name::random_name;
use crossdock_platform::Platform;

/// The image of one platform.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one for each platform of a build")]
pub enum Image {
    /// In the store.
    Written(BuiltImage),
    /// Not yet.
    Made(Arc<Unwritten>),
}

/// An image that is written when somebody needs it.
pub struct Unwritten {
    name: String,
    made: MadeImage,
    written: Mutex<Option<BuiltImage>>,
}

impl Image {
    /// An image that is not written.
    pub fn unwritten(made: MadeImage) -> Image {
        let name = format!("unwritten-{}", random_name());
        Image::Made(Arc::new(Unwritten { name, made, written: Mutex::default() }))
    }

    /// What a definition calls it.
    pub fn name(&self) -> String {
        match self {
            Image::Written(built) => built.manifest.digest.to_string(),
            Image::Made(unwritten) => unwritten.name.clone(),
        }
    }

    /// Its platform.
    pub fn platform(&self) -> &Platform {
        match self {
            Image::Written(built) => &built.platform,
            Image::Made(unwritten) => &unwritten.made.platform,
        }
    }

    /// The same image under what its client calls its platform.
    pub fn with_platform(&self, platform: &Platform) -> Image {
        match self {
            _ if self.platform() == platform => self.clone(),
            Image::Written(built) => {
                let mut own = built.clone();
                own.platform = platform.clone();
                own.manifest = own.manifest.with_platform(platform.clone());
                Image::Written(own)
            }
            Image::Made(unwritten) => {
                Image::unwritten(MadeImage { platform: platform.clone(), ..unwritten.made.clone() })
            }
        }
    }

    /// Its configuration; that of an image that is not written says nothing of layers.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn config(&self, store: &Store) -> Result<Vec<u8>> {
        match self {
            Image::Written(built) => Ok(store.load_image(&built.manifest)?.config_bytes),
            Image::Made(unwritten) => Ok(serde_json::to_vec(&unwritten.made.config)?),
        }
    }

    /// Its layers, unpacked, the lowest first.
    ///
    /// # Errors
    ///
    /// A layer cannot be made or unpacked.
    pub fn trees(&self, store: &Store) -> Result<Vec<PathBuf>> {
        Ok(match self {
            Image::Written(built) => built.trees(store)?,
            Image::Made(unwritten) => unwritten.made.trees(store)?,
        })
    }

    /// The image in the store, where it is written now if it was not. Waits for that.
    ///
    /// # Errors
    ///
    /// A layer cannot be packed; the store cannot be written.
    pub fn written(&self, store: &Store) -> Result<BuiltImage> {
        let unwritten = match self {
            Image::Written(built) => return Ok(built.clone()),
            Image::Made(unwritten) => unwritten,
        };
        let mut written = unwritten.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_none() {
            *written = Some(unwritten.made.write(store)?);
        }
        Ok(written.clone().expect("set above"))
    }
}

/// The images of running builds that are not written, by name: clients give them to other builds.
#[derive(Default)]
pub struct Unwrittens(Mutex<HashMap<String, Weak<Unwritten>>>);

impl Unwrittens {
    /// Lets other builds find an image as long as its build runs.
    pub fn add(&self, image: &Image) {
        if let Image::Made(unwritten) = image {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, other| other.strong_count() > 0);
            all.insert(unwritten.name.clone(), Arc::downgrade(unwritten));
        }
    }

    /// The image of this name.
    pub fn find(&self, name: &str) -> Option<Image> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).and_then(Weak::upgrade).map(Image::Made)
    }
}
