//! manifest: indexes. The only state is the store's record of an index; everything else is read from the
//! registry.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use clap::Subcommand;
use crossdock_oci::manifest::ParseDocumentError;
use crossdock_oci::store::{DOCUMENT_SIZE_MAX, GcOptions};
use crossdock_oci::{Descriptor, Digest, Document, Index, Reference, Store, media_type};
use crossdock_platform::Platform;
use crossdock_registry::transfer::{Platforms, PullOptions, PushOptions, pull, push};
use crossdock_registry::{Client, NoProgress};
use serde_json::{Value, json};

use crate::access::{ConnectionArgs, CredentialArgs};
use crate::output::{print, say, write_whole};
use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::values;
use crossdock_delivery::source;

#[derive(Subcommand)]
pub enum ManifestCommand {
    /// Show an index or manifest, of the store or of a registry
    Inspect {
        /// The name
        image: String,
        /// Show each manifest with its name and descriptor, as docker does
        #[arg(short, long)]
        verbose: bool,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Make an index from images, which may be in the store or in registries
    Create {
        /// Name of the index
        index: String,
        /// The images; without any the index is empty until "manifest add"
        images: Vec<String>,
        /// Add to an index of that name instead of replacing it
        #[arg(short, long)]
        amend: bool,
        /// Annotation of the index
        #[arg(long = "annotation", value_name = "NAME=VALUE")]
        annotations: Vec<String>,
        /// Accepted for podman: all images of an index are always added
        #[arg(long, hide = true)]
        all: bool,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Add images to an index
    Add(AnnotateArgs),
    /// Change the platform or annotations of an entry
    Annotate(AnnotateArgs),
    /// Take an entry out of an index
    Remove {
        /// Name of the index
        index: String,
        /// The entry: a digest, an image name or a platform
        image: String,
    },
    /// Send an index and its images to its registry
    Push {
        /// Name of the index
        index: String,
        /// Where to, if not to the registry of its name
        destination: Option<String>,
        /// Remove the index from the store afterwards
        #[arg(short, long, visible_alias = "rm")]
        purge: bool,
        /// Accepted for buildah; all images are always sent
        #[arg(long, hide = true)]
        all: bool,
        /// Write the digest to a file
        #[arg(long, value_name = "FILE")]
        digestfile: Option<PathBuf>,
        #[command(flatten)]
        connection: ConnectionArgs,
        #[command(flatten)]
        credentials: CredentialArgs,
    },
    /// Remove indexes from the store
    Rm {
        /// Names
        #[arg(required = true)]
        indexes: Vec<String>,
    },
}

#[derive(clap::Args)]
pub struct AnnotateArgs {
    /// Name of the index
    pub index: String,
    /// The entry: an image name, a digest, an id, or a platform
    pub image: String,
    /// Operating system
    #[arg(long)]
    pub os: Option<String>,
    /// Architecture
    #[arg(long)]
    pub arch: Option<String>,
    /// Variant
    #[arg(long)]
    pub variant: Option<String>,
    /// Operating system version
    #[arg(long)]
    pub os_version: Option<String>,
    /// Operating system features
    #[arg(long, value_delimiter = ',')]
    pub os_features: Vec<String>,
    /// Annotation of the entry
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub annotations: Vec<String>,
    /// Accepted for podman: all images of an index are always added
    #[arg(long, hide = true)]
    pub all: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

impl AnnotateArgs {
    /// Whether any option changes the entry.
    pub fn changes_something(&self) -> bool {
        let texts = [&self.os, &self.arch, &self.variant, &self.os_version];
        texts.iter().any(|text| text.is_some())
            || !self.os_features.is_empty()
            || !self.annotations.is_empty()
    }
}

pub fn manifest(session: &Session, command: ManifestCommand) -> Result<u8> {
    match command {
        ManifestCommand::Inspect { image, verbose, connection } => {
            session.reach(vec![connection.access()], connection.retry);
            inspect(session, &image, verbose)
        }
        ManifestCommand::Create { index, images, amend, annotations, all: _, connection } => {
            session.reach(vec![connection.access()], connection.retry);
            create(session, &index, &images, amend, &annotations)
        }
        ManifestCommand::Annotate(args) => annotate(session, args),
        ManifestCommand::Push { index, destination, purge, all: _, digestfile, connection, credentials } => {
            let text = destination.as_deref().unwrap_or(&index);
            let target = values::reference(text.strip_prefix("docker://").unwrap_or(text))?;
            let access = credentials.access(&connection, target.registry())?;
            session.reach(vec![access, connection.access()], connection.retry);
            push_index(session, &index, &target, purge, digestfile.as_deref())
        }
        ManifestCommand::Add(args) => add(session, args),
        ManifestCommand::Remove { index, image } => remove_entry(session, &index, &image),
        ManifestCommand::Rm { indexes } => remove(session, &indexes),
    }
}

/// The document of a name, digest or id, and its media type: from the store if it is there, else from the
/// registry.
pub fn document(session: &Session, store: &Store, text: &str) -> Result<(Vec<u8>, String)> {
    let found = match source::find(store, text, None) {
        Ok(found) => found,
        Err(error) if !source::is_absence(&error) || source::is_id(text) => return Err(error),
        Err(_) => {
            let fetched = session.client(Arc::new(NoProgress))?.manifest(&values::reference(text)?)?;
            return Ok((fetched.bytes, fetched.media_type));
        }
    };
    let whole = match (&found.index, &found.images[..]) {
        (Some(index), _) => index,
        (None, [only]) => &only.manifest,
        (None, several) => {
            let entries = several.iter().map(|i| i.manifest.clone().with_platform(i.platform.clone()));
            let index = Index::new(entries.collect());
            return Ok((serde_json::to_vec(&index)?, media_type::OCI_INDEX.to_string()));
        }
    };
    Ok((store.read_descriptor(whole)?, whole.media_type.clone()))
}

fn inspect(session: &Session, image: &str, verbose: bool) -> Result<u8> {
    let store = session.store()?;
    let (bytes, media_type) = document(session, &store, image)?;
    if !verbose {
        let value: serde_json::Value = serde_json::from_slice(&bytes).context("read the manifest")?;
        print(&serde_json::to_string_pretty(&value)?);
        return Ok(0);
    }
    let name = values::reference(image).ok().filter(|_| !source::is_id(image));
    let source = Verbose { session, store: &store, name };
    let shown = match Document::parse(&bytes, Some(&media_type))? {
        Document::Index(index) => {
            json!(index.manifests.iter().map(|entry| source.entry(entry)).collect::<Result<Vec<_>>>()?)
        }
        Document::Manifest(_) => source.described(&Descriptor::of(&media_type, &bytes), &bytes)?,
    };
    print(&serde_json::to_string_pretty(&shown)?);
    Ok(0)
}

/// Shows each manifest as `docker manifest inspect --verbose` does.
struct Verbose<'a> {
    session: &'a Session,
    store: &'a Store,
    /// The name in the registry that has the manifests which are not in the store.
    name: Option<Reference>,
}

impl Verbose<'_> {
    /// An entry of an index, with the manifest that it names.
    fn entry(&self, entry: &Descriptor) -> Result<Value> {
        if self.store.contains(&entry.digest)? {
            return self.described(entry, &self.store.read_descriptor(entry)?);
        }
        let Some(name) = &self.name else { bail!("manifest {} is not in the store", entry.digest) };
        let client = self.session.client(Arc::new(NoProgress))?;
        self.described(entry, &client.manifest(&name.with_digest(entry.digest.clone()))?.bytes)
    }

    fn described(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Value> {
        let mut descriptor = descriptor.clone();
        let manifest: Value = serde_json::from_slice(bytes).context("read the manifest")?;
        if let (None, Ok(Document::Manifest(document))) = (&descriptor.platform, Document::parse(bytes, None))
        {
            // A single image names its platform only in its configuration.
            let config = match (self.store.contains(&document.config.digest)?, &self.name) {
                (true, _) => Some(self.store.read_descriptor(&document.config)?),
                (false, Some(name)) => {
                    let client = self.session.client(Arc::new(NoProgress))?;
                    Some(read_config(&client, name, &document.config)?)
                }
                (false, None) => None,
            };
            let config = config.and_then(|bytes| crossdock_oci::ImageConfig::parse(&bytes).ok());
            descriptor.platform = config.map(|config| config.platform());
        }
        let member = match descriptor.media_type.as_str() {
            media_type::DOCKER_MANIFEST => "SchemaV2Manifest",
            other if media_type::is_index(other) => "OCIIndex",
            _ => "OCIManifest",
        };
        let name = self.name.as_ref().map(|name| match name.tag() {
            Some(tag) => format!("{}:{tag}@{}", name.name(), descriptor.digest),
            None => format!("{}@{}", name.name(), descriptor.digest),
        });
        let raw = base64::engine::general_purpose::STANDARD.encode(bytes);
        Ok(json!({"Ref": name, "Descriptor": descriptor, "Raw": raw, member: manifest}))
    }
}

/// Reads the configuration of an image in a registry.
pub fn read_config(client: &Client, reference: &Reference, config: &Descriptor) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = client.blob(reference, config, 0)?.take(DOCUMENT_SIZE_MAX);
    reader.read_to_end(&mut bytes).with_context(|| format!("read the configuration {}", config.digest))?;
    Ok(bytes)
}

/// An index, and which of its images are in the store.
type LocalIndex = (Index, Vec<(Platform, Descriptor)>);

/// The index that a name means in the store.
fn local_index(store: &Store, reference: &Reference) -> Result<Option<LocalIndex>> {
    let Some(record) = store.image(reference)? else { return Ok(None) };
    let present: Vec<(Platform, Descriptor)> =
        record.images.iter().map(|i| (i.platform.clone(), i.manifest.clone())).collect();
    let index = match &record.index {
        Some(descriptor) => match store.read_document(descriptor)? {
            (Document::Index(index), _) => index,
            (Document::Manifest(_), _) => bail!("{} is one image, not an index", reference.familiar()),
        },
        None => Index::new(present.iter().map(|(p, d)| d.clone().with_platform(p.clone())).collect()),
    };
    Ok(Some((index, present)))
}

fn put(
    store: &Store,
    reference: &Reference,
    index: &Index,
    present: &[(Platform, Descriptor)],
) -> Result<Digest> {
    let descriptor = store.write_index(index)?;
    let listed: Vec<(Platform, Descriptor)> = present
        .iter()
        .filter(|(_, d)| index.manifests.iter().any(|m| m.digest == d.digest))
        .cloned()
        .collect();
    store.put_index(reference, &descriptor, &listed)?;
    Ok(descriptor.digest)
}

/// Puts an image into an index. Another image for the platform leaves it: making an index twice gives the
/// same index.
fn insert((index, present): &mut LocalIndex, platform: Platform, image: Descriptor, is_here: bool) {
    index
        .manifests
        .retain(|m| m.digest != image.digest && !m.platform.as_ref().is_some_and(|p| p.matches(&platform)));
    present.retain(|(p, _)| !p.matches(&platform));
    let entry = image.with_platform(platform.clone());
    if is_here {
        present.push((platform, entry.clone()));
    }
    index.manifests.push(entry);
}

/// Adds images of the store to an index of the store, which is made if there is none: `--manifest` of build.
///
/// # Errors
///
/// The name is that of a single image; errors of the store.
pub fn add_images(
    store: &Store,
    reference: &Reference,
    images: Vec<(Platform, Descriptor)>,
) -> Result<Digest> {
    let mut local = match local_index(store, reference)? {
        Some(local) => local,
        None => (Index::new(Vec::new()), Vec::new()),
    };
    for (platform, image) in images {
        insert(&mut local, platform, image, true);
    }
    put(store, reference, &local.0, &local.1)
}

fn create(
    session: &Session,
    name: &str,
    images: &[String],
    amend: bool,
    annotations: &[String],
) -> Result<u8> {
    let store = session.store()?;
    let reference = values::reference(name)?;
    let display = Display::new(ProgressMode::Auto);
    let client = session.client(Arc::new(display.clone()))?;
    let mut local = match amend.then(|| local_index(&store, &reference)).transpose()?.flatten() {
        Some(existing) => existing,
        None => (Index::new(Vec::new()), Vec::new()),
    };
    for text in images {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let entries = entries_of(&store, &client, text, &reference)?;
        if entries.is_empty() {
            bail!("{text} has no images");
        }
        for (platform, descriptor, is_here) in entries {
            insert(&mut local, platform, descriptor, is_here);
        }
    }
    let (mut index, present) = local;
    for text in annotations {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!("--annotation {text}: not NAME=VALUE");
        };
        index.annotations.insert(name.to_string(), value.to_string());
    }
    let digest = put(&store, &reference, &index, &present)?;
    display.clear();
    say(&format!("created {} with {} images", reference.familiar(), index.manifests.len()));
    print(digest.as_str());
    Ok(0)
}

/// The images of a name, from the store if it has them. From a registry only manifests and configs are
/// fetched, unless the images must be copied because the index is for another registry or repository.
fn entries_of(
    store: &Store,
    client: &Client,
    text: &str,
    target: &Reference,
) -> Result<Vec<(Platform, Descriptor, bool)>> {
    match source::find(store, text, None) {
        Ok(found) if !found.images.is_empty() => {
            return Ok(found.images.into_iter().map(|i| (i.platform, i.manifest, true)).collect());
        }
        Err(error) if !source::is_absence(&error) || source::is_id(text) => return Err(error),
        _ => {}
    }
    let source = &values::reference(text)?;
    if source.name() != target.name() {
        // Pushing the index must bring the images along.
        let options = PullOptions { platforms: Platforms::All, any_platform: true, on_layer_ready: None };
        let pulled = pull(client, store, source, &options)?;
        return Ok(pulled
            .images
            .into_iter()
            .map(|(platform, manifest)| (platform, manifest, true))
            .collect());
    }
    let fetched = client.manifest(source)?;
    match fetched.document(source)? {
        Document::Index(index) => {
            let mut entries = Vec::new();
            for entry in index.images() {
                let platform = match &entry.platform {
                    Some(platform) => platform.clone(),
                    None => platform_of(client, &source.with_digest(entry.digest.clone()))?,
                };
                entries.push((platform, entry.clone(), false));
            }
            Ok(entries)
        }
        Document::Manifest(_) => Ok(vec![(platform_of(client, source)?, fetched.descriptor(), false)]),
    }
}

/// The platform in the configuration of an image in a registry.
fn platform_of(client: &Client, reference: &Reference) -> Result<Platform> {
    let Document::Manifest(manifest) = client.manifest(reference)?.document(reference)? else {
        bail!("{} is an index in an index, and nothing says for which platform", reference.familiar());
    };
    let bytes = read_config(client, reference, &manifest.config)?;
    let config = crossdock_oci::ImageConfig::parse(&bytes).map_err(ParseDocumentError::Json)?;
    Ok(config.platform())
}

/// How the registry of an image is reached that is added or annotated.
fn reach(session: &Session, args: &AnnotateArgs) -> Result<()> {
    let image = args.image.strip_prefix("docker://").unwrap_or(&args.image);
    let mut accesses = vec![args.connection.access()];
    // An id or a platform names no registry.
    if let Ok(reference) = image.parse::<Reference>() {
        accesses.insert(0, args.credentials.access(&args.connection, reference.registry())?);
    }
    session.reach(accesses, args.connection.retry);
    Ok(())
}

fn annotate(session: &Session, args: AnnotateArgs) -> Result<u8> {
    reach(session, &args)?;
    let store = session.store()?;
    let reference = values::reference(&args.index)?;
    let Some((mut index, present)) = local_index(&store, &reference)? else {
        bail!("no index {} in the store: make it with \"crossdock manifest create\"", reference.familiar());
    };
    let wanted = wanted_digest(session, &store, &index, &args.image)?;
    let entry = index.manifests.iter_mut().find(|m| m.digest == wanted).expect("found above");
    let mut platform = entry.platform.clone().unwrap_or_else(|| Platform::new("linux", "", None));
    if let Some(os) = args.os {
        platform.os = os;
    }
    if let Some(architecture) = args.arch {
        platform.architecture = architecture;
        platform.variant = None;
    }
    if args.variant.is_some() {
        platform.variant = args.variant;
    }
    if args.os_version.is_some() {
        platform.os_version = args.os_version;
    }
    if !args.os_features.is_empty() {
        platform.os_features = args.os_features;
    }
    // Written as given: docker keeps the variant v8 of arm64, too.
    entry.platform = Some(platform.clone());
    for text in &args.annotations {
        let Some((name, value)) = text.split_once('=') else { bail!("--annotation {text}: not NAME=VALUE") };
        entry.annotations.insert(name.to_string(), value.to_string());
    }
    let changed = entry.clone();
    let present: Vec<(Platform, Descriptor)> = present
        .into_iter()
        .map(|(p, d)| if d.digest == wanted { (platform.normalised(), changed.clone()) } else { (p, d) })
        .collect();
    print(put(&store, &reference, &index, &present)?.as_str());
    Ok(0)
}

/// The entry that a digest, an id, a name of the store, a platform, or a name of a registry means.
fn wanted_digest(session: &Session, store: &Store, index: &Index, text: &str) -> Result<Digest> {
    let listed = |digest: &Digest| index.manifests.iter().any(|m| m.digest == *digest);
    let text = text.strip_prefix("docker://").unwrap_or(text);
    if let Ok(digest) = text.parse::<Digest>()
        && listed(&digest)
    {
        return Ok(digest);
    }
    let reference = text.parse::<Reference>().ok().filter(|_| !source::is_id(text));
    if let Some(digest) = reference.as_ref().and_then(|r| r.digest()).filter(|d| listed(d)) {
        return Ok(digest.clone());
    }
    match source::find(store, text, None) {
        Ok(found) => {
            let images = found.images.iter().map(|i| i.manifest.digest.clone());
            if let Some(digest) = the_one(text, images.filter(|d| listed(d)).collect())? {
                return Ok(digest);
            }
        }
        Err(error) if !source::is_absence(&error) => return Err(error),
        Err(_) => {}
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let found =
            index.manifests.iter().find(|m| m.platform.as_ref().is_some_and(|p| p.matches(&platform)));
        if let Some(found) = found {
            return Ok(found.digest.clone());
        }
    }
    let known: Vec<String> = index.manifests.iter().map(|m| m.digest.to_string()).collect();
    let absent = || format!("{text} is not in the index; it has {}", known.join(", "));
    let Some(reference) = reference else { bail!(absent()) };
    // If only an image's manifest was read when the index was made, the image is in its registry.
    let fetched = session.client(Arc::new(NoProgress))?.manifest(&reference).with_context(absent)?;
    let digests = match fetched.document(&reference)? {
        Document::Manifest(_) => vec![fetched.digest],
        Document::Index(index) => index.images().map(|entry| entry.digest.clone()).collect(),
    };
    the_one(text, digests.into_iter().filter(|d| listed(d)).collect())?.with_context(absent)
}

/// The digest that a text means, if there is one.
fn the_one(text: &str, mut digests: Vec<Digest>) -> Result<Option<Digest>> {
    digests.dedup();
    match digests.len() {
        0 | 1 => Ok(digests.pop()),
        _ => bail!("{text} is several images of the index: give a digest"),
    }
}

/// Takes an entry out of an index.
fn remove_entry(session: &Session, name: &str, image: &str) -> Result<u8> {
    let store = session.store()?;
    let reference = values::reference(name)?;
    let Some((mut index, present)) = local_index(&store, &reference)? else {
        bail!("no index {} in the store: make it with \"crossdock manifest create\"", reference.familiar());
    };
    let wanted = wanted_digest(session, &store, &index, image)?;
    index.manifests.retain(|entry| entry.digest != wanted);
    let present: Vec<_> = present.into_iter().filter(|(_, manifest)| manifest.digest != wanted).collect();
    // The old record would keep the image.
    store.remove(&reference, None)?;
    print(put(&store, &reference, &index, &present)?.as_str());
    Ok(0)
}

/// Adds images to an index, and sets the given platform and annotations on them.
fn add(session: &Session, args: AnnotateArgs) -> Result<u8> {
    reach(session, &args)?;
    let store = session.store()?;
    let reference = values::reference(&args.index)?;
    if store.image(&reference)?.is_none() {
        bail!("no index {} in the store: make it with \"crossdock manifest create\"", reference.familiar());
    }
    drop(store);
    create(session, &args.index, std::slice::from_ref(&args.image), true, &[])?;
    match args.changes_something() {
        true => annotate(session, args),
        false => Ok(0),
    }
}

fn push_index(
    session: &Session,
    name: &str,
    target: &Reference,
    purge: bool,
    digestfile: Option<&Path>,
) -> Result<u8> {
    let store = session.store()?;
    let reference = values::reference(name)?;
    let Some((index, present)) = local_index(&store, &reference)? else {
        bail!("no index {} in the store: make it with \"crossdock manifest create\"", reference.familiar());
    };
    if index.manifests.is_empty() {
        bail!("{} has no images: add some with \"crossdock manifest add\"", reference.familiar());
    }
    let display = Display::new(ProgressMode::Auto);
    let client = session.client(Arc::new(display.clone()))?;
    // Images that are only in the registry stay there; the others are sent.
    for (_, manifest) in &present {
        push(
            &client,
            &store,
            &target.with_digest(manifest.digest.clone()),
            manifest,
            &PushOptions::default(),
        )?;
    }
    let bytes = serde_json::to_vec(&index)?;
    let media_type = index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX);
    let digest = client.put_manifest(target, media_type, &bytes)?;
    display.clear();
    if let Some(path) = digestfile {
        write_whole(path, digest.as_str().as_bytes())?;
    }
    if purge {
        store.remove(&reference, None)?;
        drop(store);
        session.store()?.gc(&GcOptions::default())?;
    }
    print(digest.as_str());
    Ok(0)
}

fn remove(session: &Session, names: &[String]) -> Result<u8> {
    let store = session.store()?;
    for name in names {
        let reference = values::reference(name)?;
        store.remove(&reference, None)?;
        print(&format!("Untagged: {}", reference.familiar()));
    }
    drop(store);
    session.store()?.gc(&GcOptions::default())?;
    Ok(0)
}
