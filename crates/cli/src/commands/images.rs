//! pull, push, tag, rmi, inspect, history.

use std::path::PathBuf;

use anyhow::{Result, bail};
use crossdock_oci::media_type::Compression;
use crossdock_oci::size::size;
use crossdock_oci::store::{GcOptions, ImageEntry, ImageRecord};
use crossdock_oci::{Descriptor, Digest, Reference, Store, StoreError};
use crossdock_platform::Platform;
use crossdock_registry::transfer::{Platforms, PullOptions, PushOptions, push as push_image};

use super::attested::image_without_attestations;
use super::convert::{self, Form, Types};
use super::listing::{self, filled, formatted};
use super::places::{self, Ways};
use super::remote;
use super::transports::{self, Place};
use super::tree::tree;
use crate::access::{ConnectionArgs, CredentialArgs};
use crate::device::{self, Address, SCHEME, Shipment};
use crate::output::{self, print};
use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::single_platform::SinglePlatformArgs;
use crate::template::{Nil, Value};
use crate::values;
use crossdock_delivery::source::{self};

#[derive(clap::Args)]
pub struct PullArgs {
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Platforms to fetch [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT],...")]
    pub platform: Vec<String>,
    /// Fetch the images of all platforms
    #[arg(long, visible_alias = "all")]
    pub all_platforms: bool,
    /// Print only the digest
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not unpack the layers yet
    #[arg(long)]
    pub no_unpack: bool,
    #[command(flatten)]
    pub single: SinglePlatformArgs,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

#[derive(clap::Args)]
pub struct PushArgs {
    /// The image
    pub image: String,
    /// Where to, if not to the registry of its name: another name, or devices as
    /// ssh://[USER@]HOST[:PORT][/docker|podman|containerd|crossdock]
    #[arg(value_name = "DESTINATION")]
    pub destinations: Vec<String>,
    /// Send only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print only the digest
    #[arg(short, long)]
    pub quiet: bool,
    /// Send all images of this name, whatever their tags
    #[arg(short, long, conflicts_with = "destinations")]
    pub all_tags: bool,
    /// Accepted for podman: all images of an index are always sent
    #[arg(long, hide = true)]
    pub all: bool,
    /// Write the digest to a file
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// Media types: oci or v2s2 (Docker's) [default: those of the image]
    #[arg(short, long, value_name = "TYPE", value_parser = convert::types)]
    pub format: Option<Types>,
    /// Pack layers anew: gzip, zstd or none
    #[arg(long, value_name = "FORMAT", value_parser = convert::compression)]
    pub compression_format: Option<Compression>,
    /// Level of the compression: gzip 0 to 9, zstd 1 to 22
    #[arg(long, value_name = "LEVEL")]
    pub compression_level: Option<u32>,
    /// Accepted for podman: layers in another format than --compression-format are always packed anew
    #[arg(long, hide = true)]
    pub force_compression: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

#[derive(clap::Args)]
pub struct TagArgs {
    /// The image
    pub source: String,
    /// The new names
    #[arg(required = true)]
    pub targets: Vec<String>,
}

#[derive(clap::Args)]
pub struct UntagArgs {
    /// The image
    pub image: String,
    /// Its names that go [default: all]
    pub names: Vec<String>,
}

#[derive(clap::Args)]
pub struct ExistsArgs {
    /// Name or id
    pub image: String,
    /// It must be a multi-platform index
    #[arg(long, hide = true)]
    pub index: bool,
}

#[derive(clap::Args)]
pub struct RmiArgs {
    /// Names or ids
    #[arg(required_unless_present = "all")]
    pub images: Vec<String>,
    /// All images, also those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// No error for an image that is not there; with an id, remove all its names
    #[arg(short, long)]
    pub force: bool,
    /// Accepted for docker
    #[arg(long, hide = true)]
    pub no_prune: bool,
}

#[derive(clap::Args)]
pub struct InspectArgs {
    /// Names or ids
    #[arg(required = true)]
    pub images: Vec<String>,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// With --format, the images of all platforms, one line each [default: the one that "run" takes]
    #[arg(short, long, conflicts_with = "platform")]
    pub all_platforms: bool,
    /// Accepted for docker and podman: there are only images
    #[arg(short = 't', long = "type", value_name = "TYPE", value_parser = ["image", "all"], hide = true)]
    pub kind: Option<String>,
    /// json, or a template such as '{{.Config.Cmd}}' or '{{json .}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// A tree of index, platforms and layers with sizes, also of an image in a registry
    #[arg(long, conflicts_with_all = ["format", "all_platforms"])]
    pub tree: bool,
    /// With a transport such as docker://: the manifest or index, byte for byte; with --config the
    /// configuration
    #[arg(long)]
    pub raw: bool,
    /// With a transport: the configuration of the image
    #[arg(long)]
    pub config: bool,
    /// With docker://: do not list the tags of the name
    #[arg(short, long)]
    pub no_tags: bool,
    /// Socket of docker for docker-daemon:, unix://PATH
    #[arg(long, value_name = "HOST")]
    pub daemon_host: Option<String>,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

#[derive(clap::Args)]
pub struct HistoryArgs {
    /// The image
    pub image: String,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Show whole lines
    #[arg(long)]
    pub no_trunc: bool,
    /// Only ids: that of the image, and docker's word for those that nothing records
    #[arg(short, long)]
    pub quiet: bool,
    /// table, json (an object a line), or a template such as '{{.ID}}' or 'table {{.Repository}}\t{{.ID}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: String,
}

fn display(quiet: bool) -> Display {
    Display::new(if quiet { ProgressMode::Quiet } else { ProgressMode::Auto })
}

pub fn pull(session: &Session, args: PullArgs) -> Result<u8> {
    session.warn_of_single_id();
    let mut references = Vec::new();
    for text in &args.images {
        let image = text.strip_prefix("docker://").unwrap_or(text);
        if transports::has_transport(image) {
            bail!(
                "{image}: pull reads registries: see \"crossdock load\" for archives, and \"crossdock copy\""
            );
        }
        references.push(values::reference(image)?);
    }
    let accesses = references.iter().map(|one| args.credentials.access(&args.connection, one.registry()));
    let accesses = accesses.chain([Ok(args.connection.access())]).collect::<Result<Vec<_>>>()?;
    session.reach(accesses, args.connection.retry);
    // One that fails does not keep the others away; the last error is the command's, as with podman.
    let mut failed: Option<anyhow::Error> = None;
    for reference in &references {
        if let Err(error) = pull_one(session, &args, reference)
            && let Some(earlier) = failed.replace(error)
        {
            output::print_error(&earlier);
        }
    }
    failed.map_or(Ok(0), Err)
}

fn pull_one(session: &Session, args: &PullArgs, reference: &Reference) -> Result<()> {
    let store = session.store()?;
    let display = display(args.quiet);
    let source = crate::desk::source_of(session, &store, display.clone());
    let platforms = match args.single.platform(session, &args.platform)? {
        Some(platform) => vec![platform.to_string()],
        None => args.platform.clone(),
    };
    let options = match (args.all_platforms, platforms.is_empty()) {
        (true, _) => PullOptions::all(),
        (false, true) => PullOptions::machine(),
        (false, false) => PullOptions {
            platforms: Platforms::Only(values::platforms(&platforms)?),
            any_platform: false,
            on_layer_ready: None,
        },
    };
    let pulled = source.pull(reference, options, !args.no_unpack)?;
    display.clear();
    if let ([(platform, _)], true, false) = (&pulled.images[..], platforms.is_empty(), args.all_platforms) {
        crate::desk::warn_of_foreign(&reference.familiar(), platform);
    }
    let digest = match (&pulled.index, pulled.images.first()) {
        (Some(index), _) => &index.digest,
        (None, Some((_, manifest))) => &manifest.digest,
        (None, None) => bail!("{} has no images", reference.familiar()),
    };
    if !args.quiet {
        let names: Vec<String> = pulled.images.iter().map(|(platform, _)| platform.to_string()).collect();
        eprintln!(
            "pulled {} for {} ({} moved)",
            reference.familiar(),
            names.join(", "),
            size(pulled.bytes_moved)
        );
    }
    print(digest.as_str());
    Ok(())
}

/// What a push of this name sends: its index, its only image, or a new index of its images.
pub fn push_target(store: &Store, text: &str, platform: Option<&Platform>) -> Result<Descriptor> {
    let found = source::find(store, text, platform)?;
    match (platform, &found.index, &found.images[..]) {
        (None, Some(index), _) => Ok(index.clone()),
        (_, _, [only]) => Ok(only.manifest.clone()),
        (None, None, several) => {
            // The name has images of several platforms that were built or pulled one by one.
            let entries =
                several.iter().map(|i| i.manifest.clone().with_platform(i.platform.clone())).collect();
            Ok(store.write_index(&crossdock_oci::Index::new(entries))?)
        }
        (Some(_), _, _) => Ok(source::choose(&found, text)?.manifest.clone()),
    }
}

/// Sends an image to devices.
fn push_to_devices(session: &Session, args: &PushArgs, words: &[&String]) -> Result<u8> {
    let is_device = |word: &&String| word.starts_with(SCHEME);
    let (devices, names): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| is_device(word));
    let devices = devices.into_iter().map(|text| text.parse()).collect::<Result<Vec<Address>>>()?;
    let [image] = names[..] else {
        bail!("push to devices: name one image, as in: crossdock push IMAGE ssh://USER@HOST");
    };
    let platform = values::platform(args.platform.as_ref())?;
    let store = session.store()?;
    let found = source::find(&store, image, platform.as_ref())?;
    let Some(name) = &found.reference else {
        bail!(
            "push {image}: an id is no name for the device: give the image one with \"crossdock tag {image} NAME\""
        );
    };
    let images: Vec<_> =
        found.images.iter().map(|entry| (entry.platform.clone(), entry.manifest.clone())).collect();
    let shipment =
        Shipment { store: &store, name, images: &images, platform: platform.as_ref(), quiet: args.quiet };
    device::push(&shipment, &devices)
}

pub fn push(session: &Session, args: PushArgs) -> Result<u8> {
    let words: Vec<&String> = std::iter::once(&args.image).chain(&args.destinations).collect();
    if words.iter().any(|word| word.starts_with(SCHEME)) {
        return push_to_devices(session, &args, &words);
    }
    if let Some(more) = args.destinations.get(1) {
        bail!("push {more}: an image is pushed to one registry: push it again for the next");
    }
    let store = session.store()?;
    if args.all_tags {
        return push_tags(session, &store, &args);
    }
    // An id that names an image here would be the name of a repository there.
    let by_id = source::find(&store, &args.image, None)
        .is_ok_and(|found| found.reference.is_none() && !args.image.contains('@'));
    if args.destinations.is_empty() && by_id {
        bail!("push {0}: an id does not say where to: crossdock push {0} REGISTRY/NAME:TAG", args.image);
    }
    let destination = args.destinations.first().unwrap_or(&args.image);
    let to = Place::parse(destination)?;
    if let Some(reference) = to.reference() {
        let access = args.credentials.access(&args.connection, reference.registry())?;
        session.reach(vec![access, args.connection.access()], args.connection.retry);
    }
    send(session, &store, &args, &args.image, &to)
}

/// Pushes every tag of a name, as `docker push --all-tags` does.
fn push_tags(session: &Session, store: &Store, args: &PushArgs) -> Result<u8> {
    let name = values::reference(&args.image)?;
    let access = args.credentials.access(&args.connection, name.registry())?;
    session.reach(vec![access, args.connection.access()], args.connection.retry);
    let records = store.images()?;
    let mut tags: Vec<&Reference> = records
        .iter()
        .map(|record| &record.reference)
        .filter(|reference| reference.name() == name.name() && reference.tag().is_some())
        .collect();
    tags.sort_by_key(|reference| reference.to_string());
    if tags.is_empty() {
        bail!("the store has no image {}: see \"crossdock images\"", name.name());
    }
    for reference in tags {
        send(session, store, args, &reference.to_string(), &Place::Registry(reference.clone()))?;
    }
    Ok(0)
}

/// Sends an image of the store to a place.
fn send(session: &Session, store: &Store, args: &PushArgs, image: &str, to: &Place) -> Result<u8> {
    let platform = values::platform(args.platform.as_ref())?;
    let mut target = push_target(store, image, platform.as_ref())?;
    if !to.holds_index() {
        let found = source::find(store, image, platform.as_ref())?;
        target = source::choose(&found, image)?.manifest.clone();
    }
    let level = args.compression_level;
    // A level alone is gzip's.
    let compression = args.compression_format.or(level.map(|_| Compression::Gzip));
    let form = Form { types: args.format, compression, level };
    let mut target = form.of(store, &target)?;
    let display = display(args.quiet);
    let source = crate::desk::source_of(session, store, display.clone());
    if to.reference().is_some()
        && let Some(only) = image_without_attestations(store, &target)?
    {
        display.say(&format!(
            "warning: the attestations of {image} are not here, so only the image is pushed (crossdock pull --all-platforms {image} brings them)"
        ));
        target = only;
    }
    match to {
        Place::Registry(reference) => {
            let pushed = push_image(source.client()?, store, reference, &target, &PushOptions::default());
            let pushed = pushed.map_err(|e| explain_missing(e.into(), image))?;
            display.clear();
            if !args.quiet {
                eprintln!(
                    "pushed {}: {} blobs and {} moved, {} mounted, {} already there",
                    reference.familiar(),
                    pushed.moved,
                    size(pushed.bytes_moved),
                    pushed.mounted,
                    pushed.existed
                );
            }
        }
        other => {
            let with = Ways { client: source.client()?, daemon: None, additional: &[] };
            places::write(other, store, &target, &with)?;
        }
    }
    if let Some(path) = &args.digestfile {
        output::write_whole(path, target.digest.as_str().as_bytes())?;
    }
    print(target.digest.as_str());
    Ok(0)
}

/// Adds what to do if an index cannot be pushed because only some of its images were pulled.
fn explain_missing(error: anyhow::Error, image: &str) -> anyhow::Error {
    match error.downcast_ref::<crossdock_registry::Error>() {
        Some(crossdock_registry::Error::Incomplete { .. }) => error.context(format!(
            "pull the rest first (crossdock pull --all-platforms {image}), or push one image with --platform"
        )),
        _ => error,
    }
}

pub fn tag(session: &Session, args: TagArgs) -> Result<u8> {
    let store = session.store()?;
    // All names are read before the first one is given.
    let targets = args.targets.iter().map(|target| values::new_name(target)).collect::<Result<Vec<_>>>()?;
    let found = source::find(&store, &args.source, None)?;
    for target in &targets {
        match &found.reference {
            Some(reference) => store.tag(reference, target)?,
            None => {
                let images: Vec<(Platform, Descriptor)> =
                    found.images.iter().map(|i| (i.platform.clone(), i.manifest.clone())).collect();
                match &found.index {
                    Some(index) => store.put_index(target, index, &images)?,
                    None => store.replace_images(target, &images)?,
                }
            }
        }
    }
    Ok(0)
}

/// Takes names from an image (podman-untag(1)); one without a name is kept under its id.
pub fn untag(session: &Session, args: &UntagArgs) -> Result<u8> {
    let store = session.store()?;
    let found = source::find(&store, &args.image, None)?;
    let own: Vec<Reference> = found.reference.clone().map_or_else(|| found.names.clone(), |name| vec![name]);
    let targets: Vec<&Descriptor> = match &found.index {
        Some(index) => vec![index],
        None => found.images.iter().map(|image| &image.manifest).collect(),
    };
    let mut names = args.names.iter().map(|name| values::reference(name)).collect::<Result<Vec<_>>>()?;
    for (name, text) in names.iter().zip(&args.names) {
        let record = store.image(name)?;
        let is_same = record.is_some_and(|record| targets.iter().all(|target| means(&record, target)));
        if !is_same {
            bail!("{text} is no name of {}: nothing was changed", args.image);
        }
    }
    if names.is_empty() {
        names = own;
    }
    for name in &names {
        store.remove(name, None)?;
    }
    for target in targets {
        let images: Vec<ImageEntry> = match found.index {
            Some(_) => found.images.clone(),
            None => found.images.iter().filter(|image| image.manifest == *target).cloned().collect(),
        };
        store.put_untagged(target, &images)?;
    }
    Ok(0)
}

/// Whether a name has that image or index.
fn means(record: &ImageRecord, target: &Descriptor) -> bool {
    record.index.as_ref().is_some_and(|index| index.digest == target.digest)
        || record.images.iter().any(|image| image.manifest.digest == target.digest)
}

/// Says by its exit code alone whether an image is in the store (podman-image-exists(1)).
pub fn exists(session: &Session, args: &ExistsArgs) -> Result<u8> {
    let store = session.store()?;
    match source::find(&store, &args.image, None) {
        Ok(found) => Ok(u8::from(args.index && found.index.is_none())),
        Err(error) if source::is_absence(&error) => Ok(1),
        Err(error) => Err(error),
    }
}

pub fn rmi(session: &Session, args: RmiArgs) -> Result<u8> {
    let store = session.store()?;
    let platform = values::platform(args.platform.as_ref())?;
    let mut failed = false;
    let mut images = args.images.clone();
    if args.all {
        if !images.is_empty() {
            bail!("rmi --all removes all images: leave out {}", images.join(", "));
        }
        let (records, damaged) = store.readable_images()?;
        damaged.iter().for_each(|problem| eprintln!("warning: {problem}"));
        images.extend(records.iter().map(|record| record.reference.familiar()));
        for target in store.untagged_digests()? {
            if store.remove_untagged(&target)? {
                print(&format!("Deleted: {target}"));
            }
        }
    }
    for text in &images {
        if let Err(error) = remove(&store, text, platform.as_ref(), args.force) {
            if args.force && source::is_absence(&error) {
                continue;
            }
            output::print_error(&error);
            failed = true;
        }
    }
    // The handle's lease keeps everything it looked up, so a new handle collects.
    drop(store);
    let report = session.store()?.gc(&GcOptions::default())?;
    report.damaged.iter().for_each(|problem| eprintln!("warning: {problem}"));
    Ok(u8::from(failed))
}

fn remove(store: &Store, text: &str, platform: Option<&Platform>, force: bool) -> Result<()> {
    let found = match source::find(store, text, platform) {
        Ok(found) => found,
        // A name whose record is damaged can still go.
        Err(e) if is_damaged_record(&e) && platform.is_none() => {
            let reference = values::reference(text)?;
            store.remove(&reference, None)?;
            print(&format!("Untagged: {}", reference.familiar()));
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    if let Some(reference) = &found.reference {
        store.remove(reference, platform)?;
        print(&format!("Untagged: {}", reference.familiar()));
        return Ok(());
    }
    // By id: removes only that image from each name, and nothing if it is not clear which name is meant.
    if found.names.len() > 1 && !force {
        let names: Vec<String> = found.names.iter().map(Reference::familiar).collect();
        bail!(
            "{text} has {} names: remove one of {}, or all of them with --force",
            names.len(),
            names.join(", ")
        );
    }
    let manifests: Vec<Digest> = found.images.iter().map(|image| image.manifest.digest.clone()).collect();
    for reference in &found.names {
        let has_others = store.image(reference)?.is_some_and(|record| record.images.len() > manifests.len());
        store.remove_manifests(reference, &manifests)?;
        let platforms: Vec<String> = found.images.iter().map(|image| image.platform.to_string()).collect();
        match has_others {
            true => print(&format!("Untagged: {} for {}", reference.familiar(), platforms.join(", "))),
            false => print(&format!("Untagged: {}", reference.familiar())),
        }
    }
    for record in store.untagged()? {
        let target = &record.target.digest;
        let is_meant = found.index.as_ref().is_some_and(|index| index.digest == *target)
            || record.images.iter().any(|image| manifests.contains(&image.manifest.digest));
        if is_meant && store.remove_untagged(target)? {
            print(&format!("Deleted: {target}"));
        }
    }
    Ok(())
}

fn is_damaged_record(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<StoreError>(), Some(StoreError::Record { .. }))
}

pub fn inspect(session: &Session, args: InspectArgs) -> Result<u8> {
    let platform = values::platform(args.platform.as_ref())?;
    if args.tree {
        return tree(session, &args.images, platform.as_ref()).map(|()| 0);
    }
    if let Some(text) = args.images.iter().find(|text| transports::has_transport(text)) {
        if args.images.len() > 1 {
            bail!("{text}: with a transport one image is inspected at a time");
        }
        let options = remote::InspectOptions {
            platform,
            raw: args.raw,
            config: args.config,
            no_tags: args.no_tags,
            format: args.format.as_deref(),
            daemon: args.daemon_host.as_deref(),
        };
        return remote::inspect(session, text, &options, &args.connection, &args.credentials);
    }
    if args.raw || args.config {
        bail!(
            "--raw and --config need a transport, such as docker://NAME; see also \"crossdock manifest inspect\""
        );
    }
    let template = args.format.as_deref().filter(|format| *format != "json");
    template.map_or(Ok(()), listing::check)?;
    let store = session.store()?;
    let (mut shown, mut errors) = (Vec::new(), Vec::new());
    for text in &args.images {
        match inspected(&store, text, platform.as_ref(), template.is_some() && !args.all_platforms) {
            Ok(images) => shown.extend(images),
            Err(error) => errors.push(error),
        }
    }
    match template {
        None => print(&serde_json::to_string_pretty(&shown)?),
        Some(template) => {
            for image in &shown {
                match filled(template, &for_templates(image)) {
                    Ok(line) => print(&line),
                    Err(error) => errors.push(error),
                }
            }
        }
    }
    // What is there is shown, as by docker and podman.
    errors.iter().for_each(output::print_error);
    Ok(u8::from(!errors.is_empty()))
}

/// The time of docker's for an image that has never been tagged.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What `inspect` says of the images of a name, this machine's first; with `alone`, only of that one, since
/// who gives a template expects one line. Members are docker's, then podman's, then our own.
fn inspected(
    store: &Store,
    text: &str,
    platform: Option<&Platform>,
    alone: bool,
) -> Result<Vec<serde_json::Value>> {
    let found = source::find(store, text, platform)?;
    let first = match (source::choose(&found, text), found.images.first()) {
        (Ok(first), _) | (Err(_), Some(first)) => first,
        (Err(error), None) => return Err(error),
    };
    let others = found.images.iter().filter(|image| *image != first && !alone);
    let names: Vec<&Reference> = found.reference.iter().chain(&found.names).collect();
    let familiar: Vec<String> = names.iter().map(|name| name.familiar()).collect();
    let tagged = match names.first() {
        Some(name) => store.image(name)?.and_then(|record| i64::try_from(record.updated).ok()),
        None => None,
    };
    let mut all = Vec::new();
    for image in std::iter::once(first).chain(others) {
        let loaded = store.load_image(&image.manifest)?;
        let config: serde_json::Value = serde_json::from_slice(&loaded.config_bytes)?;
        let bytes = loaded.manifest.layers_size();
        let platform = &image.platform;
        // As in docker: that of the newest step, unless the image has one.
        let comment = match config.get("comment").and_then(serde_json::Value::as_str) {
            Some(comment) if !comment.is_empty() => Some(comment),
            _ => loaded.config.history.last().and_then(|entry| entry.comment.as_deref()),
        };
        let digest = &image.manifest.digest;
        let mut value = serde_json::json!({
            "Id": loaded.manifest.config.digest,
            "RepoTags": familiar,
            "RepoDigests": names.iter().map(|r| r.with_digest(digest.clone()).familiar()).collect::<Vec<_>>(),
            "Parent": "",
            "Comment": comment.unwrap_or_default(),
            "Created": loaded.config.created,
            "DockerVersion": config.get("docker_version").and_then(|v| v.as_str()).unwrap_or_default(),
            "Author": loaded.config.author.as_deref().unwrap_or_default(),
            "Config": config.get("config"),
            "Architecture": platform.architecture,
            "Variant": platform.variant,
            "Os": platform.os,
            "OsVersion": loaded.config.os_version,
            "Size": bytes,
            "VirtualSize": bytes,
            "GraphDriver": {"Data": null, "Name": "overlay"},
            "RootFS": {"Type": "layers", "Layers": loaded.config.rootfs.diff_ids},
            "Metadata": {"LastTagTime": tagged.map_or(NEVER.to_string(), output::rfc_3339)},
            "Descriptor": image.manifest,
            "Digest": digest,
            "Labels": loaded.config.config.labels,
            "Annotations": loaded.manifest.annotations,
            "ManifestType": image.manifest.media_type,
            "User": loaded.config.config.user,
            "HealthCheck": config.pointer("/config/Healthcheck"),
            "NamesHistory": familiar,
            "Platform": platform.to_string(),
            "Index": found.index,
            "Manifest": loaded.manifest,
            "History": loaded.config.history,
        });
        if let Some(members) = value.as_object_mut() {
            // docker and podman leave these out if they are not set.
            for name in ["Variant", "OsVersion", "HealthCheck"] {
                if members.get(name).is_some_and(serde_json::Value::is_null) {
                    members.remove(name);
                }
            }
        }
        all.push(value);
    }
    Ok(all)
}

/// An image of `inspect` with what templates may name besides: the names of docker's structures, and members
/// that are not set, with the zero values of docker's types.
fn for_templates(image: &serde_json::Value) -> Value {
    let mut value = Value::of(image);
    for name in ["Variant", "OsVersion", "Created"] {
        value.imply(name, Value::text(""));
    }
    let nil = Value::Nil;
    value.imply("HealthCheck", nil(Nil::Pointer));
    let copies = [("ID", "Id"), ("Version", "DockerVersion")];
    for (name, of) in copies {
        let copy = value.member(of).cloned().unwrap_or(Value::NOTHING);
        value.imply(name, copy);
    }
    if let Some(config) = value.member_mut("Config") {
        if !matches!(config, Value::Structure(_)) {
            *config = Value::Structure(Vec::new());
        }
        for name in ["User", "WorkingDir", "StopSignal", "Hostname", "Domainname", "Image"] {
            config.imply(name, Value::text(""));
        }
        for name in ["Env", "Cmd", "Entrypoint", "OnBuild", "Shell"] {
            config.imply(name, nil(Nil::List));
        }
        for name in ["Labels", "Volumes", "ExposedPorts"] {
            config.imply(name, nil(Nil::Map));
        }
        config.imply("Healthcheck", nil(Nil::Pointer));
        for name in
            ["ArgsEscaped", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"]
        {
            config.imply(name, Value::Bool(false));
        }
        complete_healthcheck(config.member_mut("Healthcheck"));
    }
    complete_healthcheck(value.member_mut("HealthCheck"));
    value
}

fn complete_healthcheck(check: Option<&mut Value>) {
    let Some(check) = check else { return };
    check.imply("Test", Value::Nil(Nil::List));
    for name in ["Interval", "Timeout", "StartPeriod", "StartInterval"] {
        check.imply(name, Value::Duration(0));
    }
    check.imply("Retries", Value::Int64(0));
}

pub fn history(session: &Session, args: HistoryArgs) -> Result<u8> {
    let store = session.store()?;
    let platform = values::platform(args.platform.as_ref())?;
    let found = source::find(&store, &args.image, platform.as_ref())?;
    let image = source::choose(&found, &args.image)?;
    let loaded = store.load_image(&image.manifest)?;
    let mut sizes = loaded.manifest.layers.iter().map(|l| l.size);
    let mut rows = Vec::new();
    let entries = &loaded.config.history;
    for (n, entry) in entries.iter().enumerate() {
        let bytes = if entry.empty_layer == Some(true) { 0 } else { sizes.next().unwrap_or(0) };
        let by = entry.created_by.clone().unwrap_or_default();
        let is_table = args.format.starts_with("table");
        let shown = match args.no_trunc || !is_table || by.chars().count() <= 60 {
            true => by,
            false => by.chars().take(59).chain(['…']).collect(),
        };
        let id = &loaded.manifest.config.digest;
        // docker's word for what no image is recorded of.
        let id = match (n + 1 == entries.len(), args.no_trunc) {
            (false, _) => "<missing>".to_string(),
            (true, true) => id.to_string(),
            (true, false) => id.short().to_string(),
        };
        let names: Vec<String> = match n + 1 == entries.len() {
            true => found.reference.iter().chain(&found.names).map(Reference::familiar).collect(),
            false => Vec::new(),
        };
        let created = entry.created.as_deref();
        rows.push(Value::of(&serde_json::json!({
            "ID": id, "Created": created, "CreatedSince": listing::since(created),
            "CreatedAt": created.and_then(output::seconds).map_or("N/A".to_string(), output::rfc_3339),
            "CreatedBy": shown, "Size": size(bytes),
            "Comment": entry.comment.clone().unwrap_or_default(), "Tags": names,
        })));
    }
    // The newest entry first, as docker shows them.
    rows.reverse();
    if args.quiet {
        rows.iter().filter_map(|row| row.member("ID")).for_each(|id| print(&id.shown()));
        return Ok(0);
    }
    let table = "{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
    formatted(&args.format, table, &rows)?;
    Ok(0)
}
