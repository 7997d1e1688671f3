//! Brings images from any place into a store, and from a store to any place.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_oci::archive::{Loaded, SaveItem};
use crossdock_oci::layer::extract_tar;
use crossdock_oci::store::{LayerOptions, Owners};
use crossdock_oci::{Descriptor, Document, Index, Reference, Store};
use crossdock_registry::Client;
use crossdock_registry::transfer::{Platforms, PullOptions, PushOptions, pull, push};

use super::docker_daemon::Daemon;
use super::transports::Place;
use super::{directory, podman_storage};
use crate::output::to_file;

/// What reading and writing need besides the place.
pub struct Ways<'a> {
    pub client: &'a Client,
    /// `--src-daemon-host` or `--dest-daemon-host`.
    pub daemon: Option<&'a str>,
    /// More names in a docker archive.
    pub additional: &'a [Reference],
}

/// Annotation of the entries in `index.json`: the name (OCI image specification, `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Brings what is at a place into a store; returns the manifest or index. Of an index, only the wanted images
/// are in the store, and in the returned index.
///
/// # Errors
///
/// Nothing there of that name, or several images without a name; no image for a wanted platform; errors of
/// reading.
pub fn read(place: &Place, store: &Store, platforms: &Platforms, with: &Ways<'_>) -> Result<Descriptor> {
    let target = match place {
        Place::Registry(reference) => {
            let options = PullOptions {
                platforms: platforms.clone(),
                any_platform: *platforms == Platforms::All,
                on_layer_ready: None,
            };
            let pulled = pull(with.client, store, reference, &options)?;
            match (pulled.index, &pulled.images[..]) {
                (Some(index), _) => index,
                (None, [(_, image)]) => image.clone(),
                _ => bail!("{place} has no image"),
            }
        }
        Place::Layout { path, name } => layout(path, name.as_deref(), store)?,
        Place::LayoutArchive { path, name } => {
            let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
            let directory = store.temporary_directory()?;
            let shown = path.display().to_string();
            extract_tar(file, directory.path(), Owners::Ignore, &shown, store.unpack_limit())?;
            layout(directory.path(), name.as_deref(), store).with_context(|| shown)?
        }
        Place::DockerArchive { path, name, number } => {
            let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
            let shown = path.display().to_string();
            match number {
                Some(number) => numbered(file, *number, &shown, store)?,
                None => archive(file, name.as_ref(), &shown, store)?,
            }
        }
        Place::Directory(path) => directory::read(path, store)?,
        Place::Daemon(name) => {
            archive(Daemon::at(with.daemon)?.export(name)?, None, &place.to_string(), store)?
        }
        Place::Podman(name) => {
            let directory = store.temporary_directory()?;
            let path = directory.path().join("archive");
            podman_storage::save(name, &path)?;
            let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
            archive(file, None, &place.to_string(), store)?
        }
    };
    reduced(place, store, target, platforms)
}

/// An image of a layout: that of a name, or the only one.
fn layout(path: &Path, name: Option<&str>, store: &Store) -> Result<Descriptor> {
    let shown = path.display();
    let wanted = |entry: &Descriptor| match name {
        Some(name) => {
            entry.annotations.get(REF_NAME).is_some_and(|found| found == name)
                || entry.digest.as_str() == name
        }
        None => true,
    };
    let loaded = store.read_layout(path, wanted)?;
    match (&loaded[..], name) {
        ([only], _) => Ok(only.target.clone()),
        ([], Some(name)) => {
            bail!("the layout {shown} has no image {name}: its index.json names what there is")
        }
        ([], None) => bail!("the layout {shown} has no images"),
        (_, _) => bail!("the layout {shown} has {} images: name one, as in oci:{shown}:NAME", loaded.len()),
    }
}

/// The image of a docker archive with a number, from 0.
fn numbered(stream: impl Read + Send, number: usize, shown: &str, store: &Store) -> Result<Descriptor> {
    let loaded = store.load(stream, &LayerOptions::default(), shown)?;
    match loaded.get(number) {
        Some(image) => Ok(image.target.clone()),
        None => bail!("{shown} has {} images, counted from 0: none is @{number}", loaded.len()),
    }
}

/// An image of a docker archive: that of a name, or the only one.
fn archive(
    stream: impl Read + Send,
    name: Option<&Reference>,
    shown: &str,
    store: &Store,
) -> Result<Descriptor> {
    let loaded = store.load(stream, &LayerOptions::default(), shown)?;
    let is_wanted = |image: &&Loaded| name.is_none_or(|name| image.references.contains(name));
    let found: Vec<&Loaded> = loaded.iter().filter(is_wanted).collect();
    match (&found[..], name) {
        ([only], _) => Ok(only.target.clone()),
        ([], Some(name)) => {
            let names: Vec<String> =
                loaded.iter().flat_map(|image| &image.references).map(Reference::familiar).collect();
            bail!("{shown} has no image {}; it has {}", name.familiar(), names.join(", "))
        }
        ([], None) => bail!("{shown} has no images"),
        _ => bail!("{shown} has {} images: name one behind a colon", found.len()),
    }
}

/// Only the wanted images of an index; one image alone if one is wanted.
pub fn reduced(
    place: &Place,
    store: &Store,
    target: Descriptor,
    platforms: &Platforms,
) -> Result<Descriptor> {
    let Document::Index(index) = store.read_document(&target)?.0 else { return Ok(target) };
    let images: Vec<&Descriptor> = index.images().collect();
    let offered = || images.iter().filter_map(|entry| entry.platform.as_ref());
    let best = |found: Option<usize>, wanted: &str| match found {
        Some(found) => {
            Ok(images.iter().filter(|e| e.platform.is_some()).nth(found).copied().expect("counted").clone())
        }
        None => {
            let names: Vec<String> = offered().map(ToString::to_string).collect();
            bail!("{place} has no image for {wanted}; it has {}", names.join(", "))
        }
    };
    match platforms {
        Platforms::All => Ok(target),
        Platforms::Machine => match &images[..] {
            [only] => Ok((*only).clone()),
            _ => best(crossdock_platform::Platform::machine().best_to_run(offered()), "this machine"),
        },
        Platforms::Only(wanted) => {
            let mut chosen: Vec<Descriptor> = Vec::new();
            for platform in wanted {
                let entry = best(platform.best(offered()), &platform.to_string())?;
                if chosen.iter().all(|known| known.digest != entry.digest) {
                    chosen.push(entry);
                }
            }
            if let ([only], [_]) = (&chosen[..], &wanted[..]) {
                return Ok(only.clone());
            }
            let smaller = Index { manifests: chosen, ..index };
            let bytes = smaller.to_bytes();
            store.write_blob(&bytes)?;
            Ok(Descriptor::of(&target.media_type, &bytes))
        }
    }
}

/// Brings an image or index of a store to a place.
///
/// # Errors
///
/// An index where only one image fits; errors of writing.
pub fn write(place: &Place, store: &Store, target: &Descriptor, with: &Ways<'_>) -> Result<()> {
    let item = |references: Vec<Reference>, plain_names: Vec<String>| SaveItem {
        references,
        plain_names,
        target: Descriptor { annotations: Default::default(), ..target.clone() },
    };
    let plain = |name: &Option<String>| item(Vec::new(), name.iter().cloned().collect());
    match place {
        Place::Registry(reference) => {
            push(with.client, store, reference, target, &PushOptions::default())?;
        }
        Place::Layout { path, name } => store.write_layout(&[plain(name)], path)?,
        Place::LayoutArchive { path, name } => {
            to_file(Some(path), |writer| Ok(store.save_oci(&[plain(name)], writer)?))?;
        }
        Place::DockerArchive { number: Some(number), .. } => {
            bail!("{place}: an archive that is written has one image: leave out @{number}, or give it a name")
        }
        Place::DockerArchive { path, name, .. } => {
            // As skopeo does: other images in it would be gone.
            if std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
                bail!(
                    "{} is there already, and images are not added to an archive of docker: remove it, or name another file",
                    path.display()
                );
            }
            let names = name.iter().chain(with.additional).cloned().collect();
            to_file(Some(path), |writer| Ok(store.save_docker(&[item(names, Vec::new())], writer)?))?;
        }
        Place::Directory(path) => directory::write(store, target, path)?,
        Place::Daemon(name) | Place::Podman(name) => {
            let directory = store.temporary_directory()?;
            let path: PathBuf = directory.path().join("archive");
            let named = item(vec![crate::values::reference(name)?], Vec::new());
            to_file(Some(&path), |writer| Ok(store.save_docker(&[named], writer)?))?;
            match place {
                Place::Daemon(_) => Daemon::at(with.daemon)?.import(&path)?,
                _ => podman_storage::load(name, &path)?,
            }
        }
    }
    Ok(())
}
