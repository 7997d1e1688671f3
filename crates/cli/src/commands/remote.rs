//! skopeo's commands about images where they are: inspect with a transport, list-tags, delete, and
//! manifest-digest (skopeo-inspect(1), skopeo-list-tags(1), skopeo-delete(1), skopeo-manifest-digest(1)).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crossdock_oci::manifest::MANIFEST_SIZE_MAX;
use crossdock_oci::store::DOCUMENT_SIZE_MAX;
use crossdock_oci::{Descriptor, Digest, Document, ImageConfig, Manifest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::transfer::Platforms;
use crossdock_registry::{Client, NoProgress};
use serde_json::{Value, json};

use super::listing::filled_json;
use super::manifest::read_config;
use super::places::{self, Ways};
use super::transports::{self, Place};
use crate::access::{ConnectionArgs, CredentialArgs};
use crate::output::{print, print_bytes};
use crate::session::Session;
use crossdock_delivery::input::{Kinds, read_whole};

#[derive(clap::Args)]
pub struct ListTagsArgs {
    /// The name in a registry, docker://NAME, or docker-archive:FILE
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

#[derive(clap::Args)]
pub struct DeleteArgs {
    /// The image in a registry, docker://NAME:TAG or docker://NAME@DIGEST
    #[arg(value_name = "IMAGE")]
    pub image: String,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

#[derive(clap::Args)]
pub struct ManifestDigestArgs {
    /// File with a manifest or index, or "-" for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// What `inspect` shows of an image with a transport.
pub struct InspectOptions<'a> {
    pub platform: Option<Platform>,
    pub raw: bool,
    pub config: bool,
    pub no_tags: bool,
    pub format: Option<&'a str>,
    pub daemon: Option<&'a str>,
}

/// The parts of one image: the bytes that its place has under the name, and those of the image itself.
struct Parts {
    top: Vec<u8>,
    manifest: Manifest,
    config: Vec<u8>,
}

pub fn inspect(
    session: &Session,
    text: &str,
    options: &InspectOptions<'_>,
    connection: &ConnectionArgs,
    credentials: &CredentialArgs,
) -> Result<u8> {
    let place = Place::parse(text)?;
    if let Some(reference) = place.reference() {
        let access = credentials.access(connection, reference.registry())?;
        session.reach(vec![access, connection.access()], connection.retry);
    }
    let client = session.client(Arc::new(NoProgress))?;
    let wanted = options.platform.clone().or_else(|| session.platform().cloned());
    let wanted = wanted.map_or(Platforms::Machine, |platform| Platforms::Only(vec![platform]));
    let only_top = options.raw && !options.config;
    if let (Some(reference), true) = (place.reference(), only_top) {
        return write_out(&client.manifest(reference)?.bytes);
    }
    let parts = match place.reference() {
        Some(reference) => registry_parts(&client, reference, &wanted)?,
        None => local_parts(session, &client, &place, &wanted, options.daemon)?,
    };
    if only_top {
        return write_out(&parts.top);
    }
    if options.config {
        return match options.raw {
            true => write_out(&parts.config),
            false => {
                let value: Value = serde_json::from_slice(&parts.config).context("read the configuration")?;
                show(&value, options.format)
            }
        };
    }
    let tags = match place.reference() {
        Some(reference) if !options.no_tags => client.tags(reference)?,
        _ => Vec::new(),
    };
    show(&summary(&place, &parts, tags)?, options.format)
}

fn show(value: &Value, format: Option<&str>) -> Result<u8> {
    match format {
        None | Some("json") => print(&serde_json::to_string_pretty(value)?),
        Some(template) => print(&filled_json(template, value)?),
    }
    Ok(0)
}

/// What skopeo prints about an image.
fn summary(place: &Place, parts: &Parts, tags: Vec<String>) -> Result<Value> {
    let config = ImageConfig::parse(&parts.config).context("read the configuration")?;
    let layers: Vec<&Descriptor> = parts.manifest.layers.iter().collect();
    let described = |layer: &&Descriptor| {
        json!({
            "MIMEType": layer.media_type,
            "Digest": layer.digest,
            "Size": layer.size,
            "Annotations": Some(&layer.annotations).filter(|annotations| !annotations.is_empty()),
        })
    };
    let mut value = json!({
        "Name": place.reference().map(Reference::name),
        "Digest": Digest::of(&parts.top),
        "RepoTags": tags,
        "Created": config.created.as_deref().map(brief),
        "DockerVersion": config.extra.get("docker_version").cloned().unwrap_or(json!("")),
        "Labels": config.config.labels,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Layers": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>(),
        "LayersData": layers.iter().map(described).collect::<Vec<_>>(),
        "Env": config.config.env,
    });
    for optional in ["Name", "Variant"] {
        if value[optional].is_null() {
            value.as_object_mut().expect("an object").shift_remove(optional);
        }
    }
    Ok(value)
}

/// A time as Go writes it: without zeros at the end of the fraction.
fn brief(time: &str) -> String {
    time.parse::<jiff::Timestamp>().map_or_else(|_| time.to_string(), |time| time.to_string())
}

/// The parts of an image in a registry. No layer is fetched.
fn registry_parts(client: &Client, reference: &Reference, wanted: &Platforms) -> Result<Parts> {
    let fetched = client.manifest(reference)?;
    let manifest = match fetched.document(reference)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => {
            let images: Vec<&Descriptor> = index.images().filter(|entry| entry.platform.is_some()).collect();
            let offered = images.iter().filter_map(|entry| entry.platform.as_ref());
            let names = offered.clone().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let best = match wanted {
                Platforms::Only(platforms) => platforms.first().and_then(|platform| platform.best(offered)),
                _ => Platform::machine().best_to_run(offered),
            };
            let Some(best) = best else {
                let shown = reference.familiar();
                bail!("{shown} has no image for the wanted platform; it has {names}: choose with --platform");
            };
            let child = reference.with_digest(images[best].digest.clone());
            match client.manifest(&child)?.document(&child)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => bail!("{child} is an index in an index"),
            }
        }
    };
    let config = read_config(client, reference, &manifest.config)?;
    Ok(Parts { top: fetched.bytes, manifest, config })
}

/// The parts of an image in files or in another program's store.
fn local_parts(
    session: &Session,
    client: &Client,
    place: &Place,
    wanted: &Platforms,
    daemon: Option<&str>,
) -> Result<Parts> {
    let directory = session.store()?.temporary_directory()?;
    let store = Store::open(&directory.path().join("store"))?;
    let with = Ways { client, daemon, additional: &[] };
    let top = places::read(place, &store, &Platforms::All, &with)?;
    let image = places::reduced(place, &store, top.clone(), wanted)?;
    let top = store.read_descriptor(&top)?;
    let loaded = store.load_image(&image)?;
    Ok(Parts { top, manifest: loaded.manifest, config: loaded.config_bytes })
}

fn write_out(bytes: &[u8]) -> Result<u8> {
    print_bytes(bytes).map(|()| 0)
}

pub fn list_tags(session: &Session, args: &ListTagsArgs) -> Result<u8> {
    if let Ok(Place::DockerArchive { path, .. }) = Place::parse(&args.name) {
        let directory = session.store()?.temporary_directory()?;
        let store = Store::open(&directory.path().join("store"))?;
        let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let loaded = store.load(file, &Default::default(), &path.display().to_string())?;
        let tags: Vec<String> =
            loaded.iter().flat_map(|image| &image.references).map(Reference::familiar).collect();
        print(&serde_json::to_string_pretty(&json!({ "Tags": tags }))?);
        return Ok(0);
    }
    let reference = transports::repository(&args.name)?;
    let access = args.credentials.access(&args.connection, reference.registry())?;
    session.reach(vec![access, args.connection.access()], args.connection.retry);
    let tags = session.client(Arc::new(NoProgress))?.tags(&reference)?;
    print(&serde_json::to_string_pretty(&json!({ "Repository": reference.name(), "Tags": tags }))?);
    Ok(0)
}

pub fn delete(session: &Session, args: &DeleteArgs) -> Result<u8> {
    let Place::Registry(reference) = Place::parse(&args.image)? else {
        bail!("{}: only images of registries are deleted: remove the file or directory with rm", args.image);
    };
    let access = args.credentials.access(&args.connection, reference.registry())?;
    session.reach(vec![access, args.connection.access()], args.connection.retry);
    let client = session.client(Arc::new(NoProgress))?;
    let Some(found) = client.head_manifest(&reference)? else {
        bail!("{} is not in the registry", reference.familiar());
    };
    // A registry deletes by digest: all tags of the image go (OCI distribution specification, "Deleting
    // manifests").
    client.delete_manifest(&reference.with_digest(found.digest))?;
    Ok(0)
}

pub fn manifest_digest(args: &ManifestDigestArgs) -> Result<u8> {
    let path = match args.file.to_str() {
        Some("-") => std::path::Path::new("/dev/stdin"),
        _ => &args.file,
    };
    let bytes = read_whole(path, MANIFEST_SIZE_MAX.max(DOCUMENT_SIZE_MAX), Kinds::Any)?;
    if let Err(error) = Document::parse(&bytes, None) {
        bail!("{} is no manifest: {error}", args.file.display());
    }
    print(Digest::of(&bytes).as_str());
    Ok(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_no_zeros_at_their_end() {
        for (time, brief) in [
            ("2026-11-29T18:08:32.794564880Z", "2026-11-29T18:08:32.79456488Z"),
            ("1970-01-01T00:16:40.000000000Z", "1970-01-01T00:16:40Z"),
            ("2026-11-29T18:08:32.1Z", "2026-11-29T18:08:32.1Z"),
            ("no time", "no time"),
        ] {
            assert_eq!(super::brief(time), brief);
        }
    }
}
