//! Finds images by name in the store, or else fetches them from their registry.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_builder::git::GitSource;
use crossdock_builder::{Images, Secrets};
use crossdock_oci::error::StoreError;
use crossdock_oci::store::{IdMatch, ImageEntry};
use crossdock_oci::{Descriptor, Digest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::Client;
use crossdock_registry::transfer::{PullOptions, Pulled, pull};

use crate::Host;
use crate::attest::material::{Material, Materials, digest_of};
use crate::files::chain;
use crate::git::Checkout;
use crate::services::ServicePlace;
use crate::unpacking::Unpacking;

/// Where a build cache is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A tag in a registry.
    Registry(Reference),
    /// An OCI layout.
    Layout {
        /// The directory.
        path: PathBuf,
        /// The entry's tag.
        tag: Option<String>,
    },
    /// The image being built.
    Inline,
    /// A service that keeps files.
    Service(ServicePlace),
}

/// Fetches images into the store.
pub struct Source<'a> {
    host: Box<dyn Host + 'a>,
    store: &'a Store,
    client: std::sync::OnceLock<Client>,
    /// Where layers of imported caches are.
    layers: std::sync::OnceLock<HashMap<Digest, Place>>,
    /// Whether no registry may be asked for images.
    only_here: bool,
    /// What was taken from elsewhere, if that is noted.
    materials: Option<Materials>,
}

impl<'a> Source<'a> {
    /// Images come from `store`, or from the registries that `host` reaches.
    pub fn new(host: Box<dyn Host + 'a>, store: &'a Store) -> Source<'a> {
        let (client, layers) = Default::default();
        Source { host, store, client, layers, only_here: false, materials: None }
    }

    /// The same, but no registry is asked for images if `only_here` is true.
    pub fn only_here(self, only_here: bool) -> Source<'a> {
        Source { only_here, ..self }
    }

    /// The same, but it notes what a build takes from elsewhere, for a provenance, if `notes` is true.
    pub fn noting_materials(self, notes: bool) -> Source<'a> {
        Source { materials: notes.then(Materials::default), ..self }
    }

    /// What was taken from elsewhere since the call of [`Source::noting_materials`]; nothing without it.
    pub fn materials(&self) -> Vec<Material> {
        self.materials.as_ref().map(Materials::all).unwrap_or_default()
    }

    /// Notes an image that the build uses.
    fn note_image(&self, reference: &Reference, platform: &Platform, manifest: &Descriptor) -> Result<()> {
        let Some(materials) = &self.materials else { return Ok(()) };
        let record = self.store.image(reference)?;
        let index = record.and_then(|record| record.index).map(|index| index.digest);
        let digest = reference.digest().cloned().or(index).unwrap_or_else(|| manifest.digest.clone());
        let (reference, platform) = (reference.clone(), platform.clone());
        materials.note(Material::Image { reference, platform, digest });
        Ok(())
    }

    /// Notes an image of a layout that the build uses under a name.
    pub fn note_layout(&self, name: &str, platform: &Platform, digest: &Digest) {
        if let Some(materials) = &self.materials {
            let (name, platform) = (name.to_string(), platform.clone());
            materials.note(Material::Layout { name, platform, digest: digest.clone() });
        }
    }

    /// Notes a repository that the build uses.
    pub(crate) fn note_repository(&self, address: &str, commit: &str) {
        if let Some(materials) = &self.materials {
            let address = crossdock_builder::without_password(address);
            materials.note(Material::Repository { address, commit: commit.to_string() });
        }
    }

    /// Notes a download that the build uses.
    pub(crate) fn note_download(&self, address: &str, file: &Path) -> Result<()> {
        let Some(materials) = &self.materials else { return Ok(()) };
        let digest = digest_of(file).with_context(|| format!("read {}", file.display()))?;
        materials.note(Material::Download { address: crossdock_builder::without_password(address), digest });
        Ok(())
    }

    /// The store that images come to.
    pub(crate) fn store(&self) -> &Store {
        self.store
    }

    /// Records where the layers of imported caches are. Only the first call counts.
    pub fn take_layers_from(&self, places: HashMap<Digest, Place>) {
        let _ = self.layers.set(places);
    }

    /// The client of registries, made by the first call.
    pub fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.host.client()?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Pulls an image; with `unpack`, unpacks each layer while others are still being fetched.
    pub fn pull(&self, reference: &Reference, options: PullOptions<'_>, unpack: bool) -> Result<Pulled> {
        let unpacking = Unpacking::new(self.store, self.host.events());
        let ready = |layer: crossdock_registry::transfer::LayerReady<'_>| unpacking.layer(&layer);
        let options = PullOptions { on_layer_ready: if unpack { Some(&ready) } else { None }, ..options };
        let pulled = pull(self.client()?, self.store, reference, &options)?;
        if unpack {
            for (platform, manifest) in &pulled.images {
                let image = self.store.load_image(manifest)?;
                let unpacked = self.store.unpack_image(&image, 0);
                let unpacked =
                    unpacked.with_context(|| format!("unpack {} for {platform}", reference.familiar()))?;
                for warning in unpacked.iter().flat_map(|u| &u.warnings) {
                    self.host.say(&format!("warning: {warning}"));
                }
            }
        }
        Ok(pulled)
    }

    /// The manifest for a platform: from the store, else from the registry; with `always`, from the registry.
    /// An id is looked up only in the store.
    pub fn resolve(&self, reference: &Reference, platform: &Platform, always: bool) -> Result<Descriptor> {
        self.resolve_with(reference, platform, always, false)
    }

    /// The same; with `any_platform`, an image without an index may be for another platform.
    fn resolve_with(
        &self,
        reference: &Reference,
        platform: &Platform,
        always: bool,
        any_platform: bool,
    ) -> Result<Descriptor> {
        let name = reference.familiar();
        if !always && let Some(manifest) = self.store.find(reference, platform)? {
            return Ok(manifest);
        }
        let id = id_of(reference);
        let only_here = is_id(&name);
        if !always || only_here {
            let found = match find_by_digest(self.store, reference)? {
                None => id.as_deref().map_or(Ok(None), |id| find_by_id(self.store, id))?,
                found => found,
            };
            match found.map(|found| for_platform(self.store, &found, &name, platform).cloned()) {
                Some(Ok(entry)) => return Ok(entry.manifest),
                // The registry may have more images of a name and digest than the store.
                Some(Err(error)) if only_here => return Err(error),
                _ => {}
            }
        }
        if only_here {
            return Err(NotThere(name).into());
        }
        if self.only_here {
            bail!("{name} for {platform} is not in the store, and --pull=never asks no registry");
        }
        let options = PullOptions { any_platform, ..PullOptions::platform(platform.clone()) };
        let pulled = self.pull(reference, options, false);
        let pulled = pulled.with_context(|| self.for_whom(reference, &platform.to_string()))?;
        let (_, manifest) = pulled.images.into_iter().next().context("the registry sent no image")?;
        Ok(manifest)
    }

    /// Fetches the manifest for this machine from the registry, if no platform was asked for.
    pub fn fetch_for_machine(&self, reference: &Reference) -> Result<Descriptor> {
        let pulled = self.pull(reference, PullOptions::machine(), false);
        let pulled = pulled.with_context(|| self.for_whom(reference, "this machine"))?;
        let (_, manifest) = pulled.images.into_iter().next().context("the registry sent no image")?;
        Ok(manifest)
    }

    /// Text for errors: what was looked for, and what the store has instead.
    fn for_whom(&self, reference: &Reference, platform: &str) -> String {
        match self.store.image(reference) {
            Ok(Some(record)) => {
                let here: Vec<String> = record.images.iter().map(|i| i.platform.to_string()).collect();
                format!("{} for {platform}: the store has it for {}", reference.familiar(), here.join(", "))
            }
            _ => format!("{} for {platform}", reference.familiar()),
        }
    }
}

impl Images for Source<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, pull: bool) -> Result<Descriptor, String> {
        // As docker does: the build warns of a base image that is only there for another platform.
        let found = self.resolve_with(reference, platform, pull, true).map_err(|e| chain(&e))?;
        self.note_image(reference, platform, &found).map_err(|e| chain(&e))?;
        Ok(found)
    }

    fn download(&self, url: &str, to: &Path) -> Result<Option<i64>, String> {
        let client = self.client().map_err(|e| chain(&e))?;
        let modified = client.download(url, to).map_err(|e| e.to_string())?;
        self.note_download(url, to).map_err(|e| chain(&e))?;
        Ok(modified)
    }

    fn layer(&self, layer: &Descriptor) -> Result<(), String> {
        let place = self.layers.get().and_then(|places| places.get(&layer.digest));
        let place = place.ok_or_else(|| format!("nothing says where layer {} is", layer.digest))?;
        fetch(self, self.store, place, layer).map_err(|e| chain(&e))
    }

    fn checkout(
        &self,
        source: &GitSource,
        keep_git: bool,
        to: &Path,
        secrets: &dyn Secrets,
    ) -> Result<String, String> {
        let checkout = Checkout { source, keep_git, allow_file: false, secrets };
        let commit = checkout.run(to).map_err(|e| chain(&e))?;
        self.note_repository(&address_of(source), &commit);
        Ok(commit)
    }
}

/// The address of a repository as a Dockerfile writes it: `REMOTE#REFERENCE:DIRECTORY`.
fn address_of(source: &GitSource) -> String {
    let reference = source.reference.as_deref().or(source.commit.as_deref()).unwrap_or_default();
    match (reference, source.directory.as_str()) {
        ("", "") => source.remote.clone(),
        (reference, "") => format!("{}#{reference}", source.remote),
        (reference, directory) => format!("{}#{reference}:{directory}", source.remote),
    }
}

/// What was found in the store by a name, by a name and digest, or by an id.
pub struct Found {
    /// The name, if it was found by name.
    pub reference: Option<Reference>,
    /// All its names, if it was found by a digest or id.
    pub names: Vec<Reference>,
    /// The images.
    pub images: Vec<ImageEntry>,
    /// The index, if the name, digest or id means one.
    pub index: Option<Descriptor>,
}

/// The prefix of an id that cannot be mistaken for a name.
const ID_PREFIX: &str = "sha256:";

/// The fewest digits of an id that a Dockerfile may give without [`ID_PREFIX`]; fewer could be a name.
const ID_DIGITS_MIN: usize = 12;

/// Finds what `text` names in the store: a name, a name and a digest, or the first digits of an id (the
/// digest of a configuration, manifest or index), with or without `sha256:`.
pub fn find(store: &Store, text: &str, platform: Option<&Platform>) -> Result<Found> {
    let mut found = None;
    if let Ok(reference) = text.parse::<Reference>() {
        if let Some(record) = store.image(&reference)? {
            let (images, index) = (record.images, record.index);
            found = Some(Found { reference: Some(reference), names: Vec::new(), images, index });
        } else {
            found = find_by_digest(store, &reference)?;
        }
    }
    if found.is_none() {
        found = find_by_id(store, text)?;
    }
    let Some(mut found) = found else {
        if text.starts_with(ID_PREFIX) {
            return Err(NotThere(text.to_string()).into());
        }
        // For an invalid name, this is the error that says what is wrong.
        return Err(NotThere(text.parse::<Reference>()?.familiar()).into());
    };
    if let Some(platform) = platform {
        found.images = vec![for_platform(store, &found, text, platform)?.clone()];
    }
    Ok(found)
}

/// Whether a text can only be an id, so that no registry need be asked.
pub fn is_id(text: &str) -> bool {
    text.strip_prefix(ID_PREFIX).is_some_and(is_hex)
}

fn is_hex(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The id that a reference in a Dockerfile may mean: `sha256:HEX` is parsed as a repository with a tag.
fn id_of(reference: &Reference) -> Option<String> {
    let repository = reference.repository().strip_prefix("library/")?;
    match (repository, reference.tag(), reference.digest()) {
        _ if reference.registry() != crossdock_oci::reference::DEFAULT_REGISTRY => None,
        ("sha256", Some(hex), None) if is_hex(hex) => Some(format!("{ID_PREFIX}{hex}")),
        (hex, Some("latest"), None) if hex.len() >= ID_DIGITS_MIN && is_hex(hex) => Some(hex.to_string()),
        _ => None,
    }
}

/// Finds images and indexes of a repository by the digest in the reference.
fn find_by_digest(store: &Store, reference: &Reference) -> Result<Option<Found>> {
    let Some(digest) = reference.digest() else { return Ok(None) };
    let mut matches = store.find_by_id(digest.hex())?;
    matches.retain(|found| {
        found.id == *digest && found.reference.as_ref().is_some_and(|r| r.name() == reference.name())
    });
    Ok(joined(matches))
}

fn find_by_id(store: &Store, text: &str) -> Result<Option<Found>> {
    let hex = text.strip_prefix(ID_PREFIX).unwrap_or(text);
    if !is_hex(hex) {
        return Ok(None);
    }
    Ok(joined(store.find_by_id(hex)?))
}

/// Joins the matches of an id: they differ in their names, and in their manifests if several manifests have
/// the same configuration.
fn joined(matches: Vec<IdMatch>) -> Option<Found> {
    let mut matches = matches.into_iter();
    let first = matches.next()?;
    let mut found = Found {
        reference: None,
        names: first.reference.into_iter().collect(),
        images: first.images,
        index: first.index,
    };
    for one in matches {
        let named = one.reference.filter(|name| !found.names.contains(name));
        found.names.extend(named);
        if found.index.is_some() {
            // Another name may have more images of the index.
            let more = one.images.into_iter().filter(|image| !found.images.contains(image));
            found.images.extend(more.collect::<Vec<_>>());
        }
    }
    Some(found)
}

/// The image to use for a platform.
fn for_platform<'i>(
    store: &Store,
    found: &'i Found,
    text: &str,
    platform: &Platform,
) -> Result<&'i ImageEntry> {
    let images = &found.images;
    let best = platform.best(images.iter().map(|image| &image.platform)).map(|best| &images[best]);
    match best.filter(|best| store.is_best(found.index.as_ref(), best, platform)) {
        Some(best) => Ok(best),
        None => Err(StoreError::NoPlatform {
            image: text.to_string(),
            platform: platform.to_string(),
            offered: images.iter().map(|i| i.platform.to_string()).collect::<Vec<_>>().join(", "),
        }
        .into()),
    }
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

/// The store has an index but none of its images.
#[derive(Debug)]
struct NoImages(String);

impl std::fmt::Display for NoImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{0} is an index of which no image is in the store: \"crossdock pull {0}\" fetches it",
            self.0
        )
    }
}

impl std::error::Error for NoImages {}

/// Whether an error of [`find`] says that the image is not in the store, so that a registry may have it. Any
/// other error is a failure of the store, which no registry can mend.
pub fn is_absence(error: &anyhow::Error) -> bool {
    let no_platform =
        |e: &StoreError| matches!(e, StoreError::NoPlatform { .. } | StoreError::UnknownImage(_));
    error.is::<NotThere>()
        || error.is::<NoImages>()
        || error.downcast_ref::<StoreError>().is_some_and(no_platform)
}

/// The image to use if no platform was given: the best for this machine, else the only one.
pub fn choose<'f>(found: &'f Found, text: &str) -> Result<&'f ImageEntry> {
    let platforms = found.images.iter().map(|image| &image.platform);
    if let Some(best) = Platform::machine().best_to_run(platforms) {
        return Ok(&found.images[best]);
    }
    match &found.images[..] {
        [only] => Ok(only),
        [] => Err(NoImages(text.to_string()).into()),
        several => {
            let names: Vec<String> = several.iter().map(|image| image.platform.to_string()).collect();
            anyhow::bail!("{text} is there for {}: choose one with --platform", names.join(", "))
        }
    }
}

/// The path of a blob in a layout (OCI image layout).
pub fn blob_path(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.as_str().replacen(':', "/", 1))
}

/// Fetches a layer into the store, and verifies its digest.
fn fetch(source: &Source<'_>, store: &Store, place: &Place, layer: &Descriptor) -> Result<()> {
    let mut reader: Box<dyn Read> = match place {
        Place::Registry(reference) => Box::new(source.client()?.blob(reference, layer, 0)?),
        Place::Layout { path, .. } => {
            let path = blob_path(path, &layer.digest);
            Box::new(fs::File::open(&path).with_context(|| path.display().to_string())?)
        }
        Place::Service(place) => {
            let directory = store.temporary_directory()?;
            let path = directory.path().join("layer");
            place.download(source.client()?, layer, &path)?;
            // The open file outlives its name.
            Box::new(fs::File::open(&path).with_context(|| path.display().to_string())?)
        }
        Place::Inline => bail!("an image that is being built has no layers to fetch"),
    };
    let mut writer = store.blob_writer_with(layer.digest.hasher())?;
    // One byte more than the size is enough to notice a layer that is too long.
    std::io::copy(&mut reader.by_ref().take(layer.size + 1), &mut writer)
        .with_context(|| format!("fetch layer {}", layer.digest))?;
    writer.commit(Some(&layer.digest))?;
    Ok(())
}
