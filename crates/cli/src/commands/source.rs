//! Images by name: from the store, else from their registry.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use crossdock_build::Images;
use crossdock_build::git::GitSource;
use crossdock_oci::error::StoreError;
use crossdock_oci::store::{IdMatch, ImageEntry};
use crossdock_oci::{Descriptor, Digest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::Client;
use crossdock_registry::transfer::{PullOptions, Pulled, pull};

use super::cache::{self, Place};
use super::git::Checkout;
use crate::progress::Display;
use crate::session::Session;

/// Fetches images into the store.
pub struct Source<'a> {
    session: &'a Session,
    store: &'a Store,
    display: Display,
    client: std::sync::OnceLock<Client>,
    /// Where layers of imported caches are.
    layers: std::sync::OnceLock<HashMap<Digest, Place>>,
}

impl<'a> Source<'a> {
    pub fn new(session: &'a Session, store: &'a Store, display: Display) -> Source<'a> {
        Source { session, store, display, client: Default::default(), layers: Default::default() }
    }

    /// Notes where the layers of imported caches are; once.
    pub fn take_layers_from(&self, places: HashMap<Digest, Place>) {
        let _ = self.layers.set(places);
    }

    pub fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.session.client(Arc::new(self.display.clone()))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Pulls; with `unpack`, layers are unpacked while others are still on their way.
    pub fn pull(&self, reference: &Reference, options: PullOptions<'_>, unpack: bool) -> Result<Pulled> {
        let ready = |layer: crossdock_registry::transfer::LayerReady<'_>| {
            if let Some(diff_id) = layer.diff_id {
                // A failure shows again, with its message, when the whole image is unpacked.
                let _ = self.store.unpack(layer.layer, diff_id, &[]);
            }
        };
        let options = PullOptions { on_layer_ready: if unpack { Some(&ready) } else { None }, ..options };
        let pulled = pull(self.client()?, self.store, reference, &options)?;
        if unpack {
            for (platform, manifest) in &pulled.images {
                let image = self.store.load_image(manifest)?;
                let unpacked = self.store.unpack_image(&image, 0);
                let unpacked =
                    unpacked.with_context(|| format!("unpack {} for {platform}", reference.familiar()))?;
                for warning in unpacked.iter().flat_map(|u| &u.warnings) {
                    self.display.say(&format!("warning: {warning}"));
                }
            }
        }
        Ok(pulled)
    }

    /// The manifest for a platform: from the store, else from the registry, or always from there.
    pub fn resolve(&self, reference: &Reference, platform: &Platform, always: bool) -> Result<Descriptor> {
        if !always && let Some(manifest) = self.store.find(reference, platform)? {
            return Ok(manifest);
        }
        let pulled = self.pull(reference, PullOptions::platform(platform.clone()), false);
        let pulled = pulled.with_context(|| match self.store.image(reference) {
            Ok(Some(record)) => {
                let here: Vec<String> = record.images.iter().map(|i| i.platform.to_string()).collect();
                format!("{} for {platform}: the store has it for {}", reference.familiar(), here.join(", "))
            }
            _ => format!("{} for {platform}", reference.familiar()),
        })?;
        let (_, manifest) = pulled.images.into_iter().next().context("the registry sent no image")?;
        Ok(manifest)
    }
}

impl Images for Source<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, pull: bool) -> Result<Descriptor, String> {
        Source::resolve(self, reference, platform, pull).map_err(|e| crate::session::chain(&e))
    }

    fn download(&self, url: &str, to: &Path) -> Result<Option<i64>, String> {
        let client = self.client().map_err(|e| crate::session::chain(&e))?;
        client.download(url, to).map_err(|e| e.to_string())
    }

    fn layer(&self, layer: &Descriptor) -> Result<(), String> {
        let place = self.layers.get().and_then(|places| places.get(&layer.digest));
        let place = place.ok_or_else(|| format!("nothing says where layer {} is", layer.digest))?;
        cache::fetch(self, self.store, place, layer).map_err(|e| crate::session::chain(&e))
    }

    fn checkout(&self, source: &GitSource, keep_git: bool, to: &Path) -> Result<String, String> {
        let checkout = Checkout { source, keep_git, allow_file: false };
        checkout.run(to).map_err(|e| crate::session::chain(&e))
    }
}

/// An image of the store that a user named: by reference, or by the first digits of its id.
pub struct Found {
    /// Its name, if it was found by one.
    pub reference: Option<Reference>,
    /// The images.
    pub images: Vec<ImageEntry>,
    /// The index of a name.
    pub index: Option<Descriptor>,
}

/// Finds what `text` names in the store: a reference, else an id.
pub fn find(store: &Store, text: &str, platform: Option<&Platform>) -> Result<Found> {
    if let Ok(reference) = text.parse::<Reference>()
        && let Some(record) = store.image(&reference)?
    {
        let images = match platform {
            None => record.images,
            Some(platform) => vec![store.require(&reference, platform)?],
        };
        return Ok(Found { reference: Some(reference), images, index: record.index });
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() >= 4 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let matches: Vec<IdMatch> = store.find_by_id(hex)?;
        let mut manifests: Vec<Digest> = matches.iter().map(|m| m.manifest.digest.clone()).collect();
        manifests.dedup();
        if let Some(first) = matches.first() {
            if manifests.iter().any(|digest| *digest != first.manifest.digest) {
                anyhow::bail!("the id {text} is ambiguous: give more digits");
            }
            let entry = ImageEntry { platform: first.platform.clone(), manifest: first.manifest.clone() };
            return Ok(Found { reference: None, images: vec![entry], index: None });
        }
    }
    // Says what is wrong with a name that is none.
    let reference = crate::session::reference(text)?;
    Err(NotThere(reference.familiar()).into())
}

/// The store knows no image of that name.
#[derive(Debug)]
struct NotThere(String);

impl std::fmt::Display for NotThere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no image {} in the store: pull or build it, or see \"crossdock images\"", self.0)
    }
}

impl std::error::Error for NotThere {}

/// Whether an error of [`find`] says that the image is not in the store, so that a registry may have it. Any
/// other failure is one of this store, and no registry's to mend.
pub fn is_absence(error: &anyhow::Error) -> bool {
    let no_platform =
        |e: &StoreError| matches!(e, StoreError::NoPlatform { .. } | StoreError::UnknownImage(_));
    error.is::<NotThere>() || error.downcast_ref::<StoreError>().is_some_and(no_platform)
}

/// The one image to use where no platform was given: this machine's, else the only one.
pub fn choose<'f>(found: &'f Found, text: &str) -> Result<&'f ImageEntry> {
    let platforms = found.images.iter().map(|image| &image.platform);
    if let Some(best) = Platform::host().best(platforms) {
        return Ok(&found.images[best]);
    }
    match &found.images[..] {
        [only] => Ok(only),
        several => {
            let names: Vec<String> = several.iter().map(|image| image.platform.to_string()).collect();
            anyhow::bail!("{text} is there for {}: choose one with --platform", names.join(", "))
        }
    }
}
