//! save and load.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_oci::archive::{Loaded, SaveItem};
use crossdock_oci::media_type::Compression;
use crossdock_oci::store::{ImageEntry, LayerOptions};
use crossdock_oci::{Descriptor, Document, Reference, Store};
use crossdock_platform::Platform;

use super::convert::{Form, Types};
use super::directory;
use crate::output::{print, to_file};
use crate::session::Session;
use crate::values;
use crossdock_delivery::source;

#[derive(clap::Args)]
pub struct SaveArgs {
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
    /// The archive or directory [default: an archive on standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// docker (one platform) or oci (all); directories: oci-layout (all), and as podman writes them oci-dir
    /// and docker-dir (one image)
    #[arg(long, value_name = "FORMAT", value_parser = ["docker", "oci", "docker-archive", "oci-archive", "oci-layout", "oci-dir", "docker-dir"])]
    pub format: Option<String>,
    /// Pack layers of a directory that are not packed
    #[arg(long)]
    pub compress: bool,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
}

#[derive(clap::Args)]
pub struct LoadArgs {
    /// The archive, an OCI layout, or a directory as of docker-dir [default: an archive on standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Name for images that have none in the archive
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Option<String>,
    /// Print only names
    #[arg(short, long)]
    pub quiet: bool,
}

pub fn save(session: &Session, args: SaveArgs) -> Result<u8> {
    let store = session.store()?;
    let platform = values::platform(args.platform.as_ref())?;
    let format = args.format.as_deref().unwrap_or("docker");
    let is_oci = matches!(format, "oci" | "oci-archive" | "oci-layout");
    let mut items = Vec::new();
    for text in &args.images {
        let found = source::find(&store, text, platform.as_ref())?;
        let target = match (is_oci, platform.is_none()) {
            (true, true) => super::images::push_target(&store, text, None)?,
            _ => source::choose(&found, text)?.manifest.clone(),
        };
        let names = found.reference.into_iter();
        // Names of one image stand at one entry, each once, as docker writes them.
        match items.iter_mut().find(|item: &&mut SaveItem| item.target == target) {
            Some(item) => {
                let new = names.filter(|name| !item.references.contains(name)).collect::<Vec<_>>();
                item.references.extend(new);
            }
            None => items.push(SaveItem { references: names.collect(), plain_names: Vec::new(), target }),
        }
    }
    match (format, &args.output) {
        ("oci-layout" | "oci-dir" | "docker-dir", None) => {
            bail!("--format {format}: a directory is written: give --output DIR");
        }
        ("oci-layout", Some(path)) => {
            store.write_layout(&items, path)?;
            return Ok(0);
        }
        ("oci-dir" | "docker-dir", Some(path)) => {
            let [item] = &items[..] else { bail!("--format {format}: a directory has one image: name one") };
            let form = Form {
                types: Some(if format == "oci-dir" { Types::Oci } else { Types::Docker }),
                compression: args.compress.then_some(Compression::Gzip),
                level: None,
            };
            directory::write(&store, &form.of(&store, &item.target)?, path)?;
            return Ok(0);
        }
        _ => {}
    }
    if args.output.is_none() && std::io::stdout().is_terminal() {
        bail!("refusing to write an archive to the terminal: give --output FILE");
    }
    to_file(args.output.as_deref(), |writer| match is_oci {
        true => Ok(store.save_oci(&items, writer)?),
        false => Ok(store.save_docker(&items, writer)?),
    })?;
    Ok(0)
}

pub fn load(session: &Session, args: LoadArgs) -> Result<u8> {
    session.warn_of_single_id();
    let store = session.store()?;
    let own = args.tag.as_deref().map(values::reference).transpose()?;
    let platform = values::platform(args.platform.as_ref())?;
    let (mut loaded, name) = match &args.input {
        Some(path) if path.is_dir() => (load_directory(&store, path)?, path.display().to_string()),
        _ => load_archive(&store, args.input.as_deref())?,
    };
    if let Some(platform) = &platform {
        loaded = loaded.into_iter().map(|image| only(image, platform, &name)).collect::<Result<_>>()?;
    }
    if loaded.is_empty() {
        bail!("{name} has no images");
    }
    // An archive may have images of several platforms under one name.
    let mut given: BTreeMap<&Reference, Vec<(Platform, Descriptor)>> = BTreeMap::new();
    for image in &loaded {
        let names = match (&own, image.references.is_empty()) {
            (Some(own), true) => std::slice::from_ref(own),
            _ => &image.references[..],
        };
        for reference in names {
            let mut named = image.clone();
            if !image.is_index {
                let images = given.entry(reference).or_default();
                images.extend(image.images.iter().cloned());
                named.images.clone_from(images);
            }
            store.name_loaded(&named, reference)?;
            let platforms: Vec<String> =
                image.images.iter().map(|(platform, _)| platform.to_string()).collect();
            match args.quiet {
                true => print(&reference.familiar()),
                false => print(&format!("Loaded image: {} ({})", reference.familiar(), platforms.join(", "))),
            }
        }
        if names.is_empty() {
            let entry = |(platform, manifest): &(Platform, Descriptor)| ImageEntry {
                platform: platform.normalised(),
                manifest: manifest.clone(),
            };
            store.put_untagged(&image.target, &image.images.iter().map(entry).collect::<Vec<_>>())?;
            print(&format!("Loaded image ID: {}", image.target.digest));
        }
    }
    Ok(0)
}

fn load_archive(store: &Store, input: Option<&Path>) -> Result<(Vec<Loaded>, String)> {
    let (stream, name): (Box<dyn Read + Send>, String) = match input {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
            (Box::new(file), path.display().to_string())
        }
        None if std::io::stdin().is_terminal() => {
            bail!("standard input is a terminal: give --input FILE or pipe an archive")
        }
        None => (Box::new(std::io::stdin()), "standard input".to_string()),
    };
    Ok((store.load(stream, &LayerOptions::default(), &name)?, name))
}

/// Reads an OCI layout, or a directory with one image.
fn load_directory(store: &Store, path: &Path) -> Result<Vec<Loaded>> {
    if !directory::is_one(path) {
        return Ok(store.read_layout(path, |_| true)?);
    }
    let target = directory::read(path, store)?;
    let (document, _) = store.read_document(&target)?;
    let mut images = Vec::new();
    let entries: Vec<Descriptor> = match &document {
        Document::Manifest(_) => vec![target.clone()],
        Document::Index(index) => index.images().cloned().collect(),
    };
    for entry in entries {
        if store.contains(&entry.digest)? {
            images.push((store.load_image(&entry)?.config.platform(), entry));
        }
    }
    let is_index = matches!(document, Document::Index(_));
    Ok(vec![Loaded { references: Vec::new(), target, is_index, images }])
}

/// The image for one platform.
fn only(loaded: Loaded, platform: &Platform, name: &str) -> Result<Loaded> {
    let Some(best) = platform.best(loaded.images.iter().map(|(platform, _)| platform)) else {
        let offered: Vec<String> = loaded.images.iter().map(|(platform, _)| platform.to_string()).collect();
        bail!("{name} has no image for {platform}; it has {}", offered.join(", "));
    };
    let (platform, target) = loaded.images[best].clone();
    let images = vec![(platform, target.clone())];
    Ok(Loaded { references: loaded.references, target, is_index: false, images })
}
