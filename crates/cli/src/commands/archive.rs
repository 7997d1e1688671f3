//! save and load.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use crossdock_oci::Descriptor;
use crossdock_oci::archive::SaveItem;
use crossdock_oci::store::{ImageEntry, LayerOptions};
use crossdock_platform::Platform;

use super::source;
use crate::output::{print, to_file};
use crate::session::Session;
use crate::values;

#[derive(clap::Args)]
pub struct SaveArgs {
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
    /// The archive [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// docker (one platform) or oci (all)
    #[arg(long, value_name = "FORMAT", value_parser = ["docker", "oci", "docker-archive", "oci-archive"])]
    pub format: Option<String>,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
}

#[derive(clap::Args)]
pub struct LoadArgs {
    /// The archive [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
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
    let is_oci = args.format.as_deref().is_some_and(|f| f.starts_with("oci"));
    let mut items = Vec::new();
    for text in &args.images {
        let found = source::find(&store, text, platform.as_ref())?;
        let target = match (is_oci, platform.is_none()) {
            (true, true) => super::images::push_target(&store, text, None)?,
            _ => source::choose(&found, text)?.manifest.clone(),
        };
        items.push(SaveItem { references: found.reference.into_iter().collect(), target });
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
    let (stream, name): (Box<dyn Read + Send>, String) = match &args.input {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
            (Box::new(file), path.display().to_string())
        }
        None if std::io::stdin().is_terminal() => {
            bail!("standard input is a terminal: give --input FILE or pipe an archive")
        }
        None => (Box::new(std::io::stdin()), "standard input".to_string()),
    };
    let own = args.tag.as_deref().map(values::reference).transpose()?;
    let loaded = store.load(stream, &LayerOptions::default(), &name)?;
    if loaded.is_empty() {
        bail!("{name} has no images");
    }
    for image in &loaded {
        let names = match (&own, image.references.is_empty()) {
            (Some(own), true) => std::slice::from_ref(own),
            _ => &image.references[..],
        };
        for reference in names {
            store.name_loaded(image, reference)?;
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
