//! copy: images from any place to any place. Between registries nothing is stored here; everything else goes
//! through a store that is removed afterwards.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_oci::manifest::MANIFEST_SIZE_MAX;
use crossdock_oci::media_type::Compression;
use crossdock_oci::size::size;
use crossdock_oci::{Descriptor, Digest, Document, Reference, Store, media_type};
use crossdock_registry::Client;
use crossdock_registry::transfer::{Assembly, Platforms, WithReferrers};

use super::convert::{self, Form, Types};
use super::places::{self, Ways};
use super::transports::Place;
use crate::access::{Access, DestinationArgs, Identity, SourceArgs};
use crate::output::{print, write_whole};
use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::single_platform::SinglePlatformArgs;
use crate::values;
use crossdock_delivery::annotations::{Annotations, Level};
use crossdock_delivery::input::{Kinds, read_whole};

#[derive(clap::Args)]
pub struct CopyArgs {
    /// What to copy, and the name of the copy: a name in a registry, or docker://NAME, oci:DIR[:NAME],
    /// oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR, docker-daemon:NAME,
    /// containers-storage:NAME. With --tag, all are sources; several make one index, in which the last image
    /// for a platform counts
    #[arg(required_unless_present = "files", value_names = ["SOURCE", "DESTINATION"])]
    pub names: Vec<String>,
    /// Name of the copy, as with "docker buildx imagetools create"; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Add the sources to what --tag already names in the registry
    #[arg(long, requires = "tags")]
    pub append: bool,
    /// Only the images of these platforms; several get an index of their own
    #[arg(short, long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Vec<String>,
    /// Copy what refers to the images: signatures, SBOMs. By default what the registry lists; given without a
    /// value, also cosign's tags, and a registry without a list is an error; with "=false" nothing
    #[arg(short, long, visible_alias = "recursive", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub referrers: Option<bool>,
    /// Do not copy signatures, and nothing else that refers to the images
    #[arg(long)]
    pub remove_signatures: bool,
    /// Print only the digest
    #[arg(short, long)]
    pub quiet: bool,
    /// The images of all platforms, which is the default where the destination can hold them
    #[arg(short, long)]
    pub all: bool,
    /// The images of an index: all, system (only this machine's) or index-only
    #[arg(long, value_name = "WHICH", value_parser = ["all", "system", "index-only"], conflicts_with = "all")]
    pub multi_arch: Option<String>,
    /// Media types of the copy: oci or v2s2 (Docker's) [default: those of the source]
    #[arg(short, long, value_name = "TYPE", value_parser = convert::types)]
    pub format: Option<Types>,
    /// End with an error if the copy would have another digest than the source
    #[arg(long)]
    pub preserve_digests: bool,
    /// Write the digest of the copy to a file
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// Annotation of an index: NAME=VALUE, or manifest-descriptor[PLATFORM]:NAME=VALUE for its entries
    #[arg(long = "annotation", value_name = "[LEVEL:]NAME=VALUE")]
    pub annotations: Vec<String>,
    /// A source in the repository of --tag, by its descriptor in a file
    #[arg(long = "file", value_name = "FILE", requires = "tags")]
    pub files: Vec<PathBuf>,
    /// Print the manifest or index of the copy, and copy nothing; needs no destination
    #[arg(long)]
    pub dry_run: bool,
    /// Of "docker buildx imagetools create": no name is a destination
    #[arg(long, hide = true)]
    pub only_sources: bool,
    /// More names of the image in a docker archive
    #[arg(long, value_name = "NAME[:TAG]")]
    pub additional_tag: Vec<String>,
    /// Pack layers anew: gzip, zstd or none
    #[arg(long, value_name = "FORMAT", value_parser = convert::compression)]
    pub dest_compress_format: Option<Compression>,
    /// Level of the compression: gzip 0 to 9, zstd 1 to 22
    #[arg(long, value_name = "LEVEL")]
    pub dest_compress_level: Option<u32>,
    /// Pack layers that are not compressed, with gzip unless --dest-compress-format says otherwise
    #[arg(long)]
    pub dest_compress: bool,
    /// Accepted for skopeo: layers in another format than --dest-compress-format are always packed anew
    #[arg(long, hide = true)]
    pub dest_force_compress_format: bool,
    /// Unpack layers
    #[arg(long, conflicts_with_all = ["dest_compress", "dest_compress_format"])]
    pub dest_decompress: bool,
    /// Socket of the docker of a source docker-daemon:, unix://PATH
    #[arg(long, value_name = "HOST")]
    pub src_daemon_host: Option<String>,
    /// Socket of the docker of a destination docker-daemon:, unix://PATH
    #[arg(long, value_name = "HOST")]
    pub dest_daemon_host: Option<String>,
    /// Layers that are moved at the same time [default: 4]
    #[arg(long, value_name = "N")]
    pub image_parallel_copies: Option<usize>,
    /// The only file with credentials [default: those of docker and podman]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// How often a failed request is tried again [default: 5]
    #[arg(long, value_name = "N")]
    pub retry_times: Option<u32>,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub destination: DestinationArgs,
    #[command(flatten)]
    pub single: SinglePlatformArgs,
}

/// How one copy is made.
pub struct Plan {
    pub platforms: Platforms,
    pub referrers: WithReferrers,
    pub form: Form,
    pub preserve_digests: bool,
    /// Of the index, and of its entries.
    pub annotations: Annotations,
    pub dry_run: bool,
    pub additional: Vec<Reference>,
    pub source_daemon: Option<String>,
    pub destination_daemon: Option<String>,
}

impl Plan {
    /// A copy of everything, as it is.
    pub fn whole() -> Plan {
        Plan {
            platforms: Platforms::All,
            referrers: WithReferrers::Listed,
            form: Form::default(),
            preserve_digests: false,
            annotations: Annotations::default(),
            dry_run: false,
            additional: Vec::new(),
            source_daemon: None,
            destination_daemon: None,
        }
    }
}

/// How the registries of a copy are reached.
///
/// # Errors
///
/// Credentials without a password.
pub fn accesses(
    from: &[&Place],
    to: &[&Place],
    source: &SourceArgs,
    destination: &DestinationArgs,
    authfile: Option<&PathBuf>,
) -> Result<Vec<Access>> {
    let everywhere = Access {
        registry: None,
        tls_verify: None,
        authfile: authfile.cloned(),
        cert_dir: None,
        identity: Identity::Stored,
    };
    let mut all = vec![everywhere];
    for reference in from.iter().filter_map(|place| place.reference()) {
        all.push(source.access(reference.registry())?);
    }
    for reference in to.iter().filter_map(|place| place.reference()) {
        all.push(destination.access(reference.registry())?);
    }
    Ok(all)
}

pub fn copy(session: &Session, args: CopyArgs) -> Result<u8> {
    let mut sources = args.names.iter().map(|text| Place::parse(text)).collect::<Result<Vec<_>>>()?;
    let mut targets = args.tags.iter().map(|text| Place::parse(text)).collect::<Result<Vec<_>>>()?;
    if targets.is_empty() && args.only_sources && !args.dry_run {
        bail!("the index needs a name: give --tag NAME, or only print it with --dry-run");
    }
    let is_for_nothing = args.only_sources || (args.dry_run && sources.len() == 1);
    if targets.is_empty() && !is_for_nothing {
        if sources.len() != 2 {
            bail!(
                "copy needs a source and a destination; to make an index of several sources give --tag NAME"
            );
        }
        targets.extend(sources.pop());
    }
    if let (false, Some(name)) = (args.files.is_empty(), targets.first().and_then(Place::reference)) {
        for file in &args.files {
            sources.push(Place::Registry(name.with_digest(described(file)?)));
        }
    }
    let display = Display::new(if args.quiet { ProgressMode::Quiet } else { ProgressMode::Auto });
    let (from, to): (Vec<&Place>, Vec<&Place>) = (sources.iter().collect(), targets.iter().collect());
    let accesses = accesses(&from, &to, &args.source, &args.destination, args.authfile.as_ref())?;
    session.reach(accesses, args.retry_times);
    let client = session.client_at_once(std::sync::Arc::new(display.clone()), args.image_parallel_copies)?;
    let plan = plan(session, &args)?;
    if args.multi_arch.as_deref() == Some("index-only") {
        return index_only(session, &client, &sources, &targets, &args);
    }
    if targets.is_empty() {
        let references: Option<Vec<&Reference>> = sources.iter().map(Place::reference).collect();
        let (Some(from), false) = (references, plan.form.changes_something()) else {
            bail!("{DRY_RUN_OF_REGISTRIES}")
        };
        print(&String::from_utf8_lossy(&assembled(&client, &from, &plan)?.top().bytes));
        return Ok(0);
    }
    let mut digest = None;
    for to in &targets {
        digest = Some(one(session, &client, &sources, to, &plan, args.append, &display)?);
    }
    display.clear();
    if let Some(digest) = digest.filter(|_| !args.dry_run) {
        if let Some(path) = &args.digestfile {
            write_whole(path, digest.as_str().as_bytes())?;
        }
        print(digest.as_str());
    }
    Ok(0)
}

/// The digest of a descriptor in a file, as `docker buildx build --metadata-file` and others write it.
fn described(file: &Path) -> Result<Digest> {
    let shown = || format!("--file {}", file.display());
    let bytes = read_whole(file, MANIFEST_SIZE_MAX, Kinds::Any).with_context(shown)?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).with_context(shown)?;
    // buildx keeps the descriptor beside the rest of a build's metadata.
    let own = value.get("containerimage.descriptor").unwrap_or(&value);
    let digest = own["digest"].as_str().with_context(|| format!("{}: it has no digest", shown()))?;
    digest.parse().with_context(shown)
}

const DRY_RUN_OF_REGISTRIES: &str =
    "--dry-run and --annotation are for copies between registries, without another format";

/// The copy of an image, or an index of several.
fn assembled(client: &Client, from: &[&Reference], plan: &Plan) -> Result<Assembly> {
    annotated(Assembly::of(client, from, &plan.platforms)?, &plan.annotations)
}

/// Sets annotations of an index and of its entries.
fn annotated(assembly: Assembly, annotations: &Annotations) -> Result<Assembly> {
    if annotations.is_empty() {
        return Ok(assembly);
    }
    let top = assembly.top();
    let Document::Index(mut index) = Document::parse(&top.bytes, Some(&top.media_type))? else {
        bail!("--annotation: one image is copied as it is; annotations are for an index, of several sources");
    };
    if !annotations.at(Level::IndexDescriptor, None).is_empty() {
        bail!("--annotation: nothing lists the index in a registry, so there is no index-descriptor");
    }
    if index.media_type.as_deref() == Some(media_type::DOCKER_LIST) {
        bail!("--annotation: Docker's lists have no annotations: copy it with --format oci first");
    }
    // Without a level it is the index's.
    index.annotations.extend(annotations.at(Level::Manifest, None));
    index.annotations.extend(annotations.at(Level::Index, None));
    for entry in &mut index.manifests {
        let own = annotations.at(Level::ManifestDescriptor, entry.platform.as_ref());
        entry.annotations.extend(own);
    }
    Ok(assembly.with_index(index))
}

fn plan(session: &Session, args: &CopyArgs) -> Result<Plan> {
    let single = args.single.platform(session, &args.platform)?;
    let platforms = match (single, args.multi_arch.as_deref()) {
        _ if args.all => Platforms::All,
        (Some(platform), _) => Platforms::Only(vec![platform]),
        (None, Some("system")) => Platforms::Machine,
        (None, _) if args.platform.is_empty() => Platforms::All,
        (None, _) => Platforms::Only(values::platforms(&args.platform)?),
    };
    let referrers = match args.referrers {
        _ if args.remove_signatures => WithReferrers::No,
        None => WithReferrers::Listed,
        Some(true) => WithReferrers::All,
        Some(false) => WithReferrers::No,
    };
    let compression = match args.dest_compress_format {
        Some(compression) => Some(compression),
        None if args.dest_decompress => Some(Compression::None),
        None if args.dest_compress || args.dest_compress_level.is_some() => Some(Compression::Gzip),
        None => None,
    };
    Ok(Plan {
        platforms,
        referrers,
        form: Form { types: args.format, compression, level: args.dest_compress_level },
        preserve_digests: args.preserve_digests,
        annotations: Annotations::of_options(&args.annotations)?,
        dry_run: args.dry_run,
        additional: args.additional_tag.iter().map(|name| values::reference(name)).collect::<Result<_>>()?,
        source_daemon: args.src_daemon_host.clone(),
        destination_daemon: args.dest_daemon_host.clone(),
    })
}

/// Makes one copy; returns its digest.
///
/// # Errors
///
/// Those of both places; with `preserve_digests` a copy that would be another image.
pub fn one(
    session: &Session,
    client: &Client,
    sources: &[Place],
    to: &Place,
    plan: &Plan,
    append: bool,
    display: &Display,
) -> Result<Digest> {
    let references: Option<Vec<&Reference>> = sources.iter().map(Place::reference).collect();
    let shown = sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let (Some(from), Some(to), false) = (references, to.reference(), plan.form.changes_something()) {
        let existing = append.then(|| client.head_manifest(to)).transpose()?.flatten();
        let from: Vec<&Reference> = existing.map(|_| to).into_iter().chain(from).collect();
        let assembly = assembled(client, &from, plan)?;
        if plan.dry_run {
            print(&String::from_utf8_lossy(&assembly.top().bytes));
            return Ok(assembly.top().digest.clone());
        }
        let copied = assembly.push(client, to, plan.referrers)?;
        display.say(&format!(
            "copied {shown} to {}: {} blobs and {} moved, {} mounted, {} already there",
            to.familiar(),
            copied.moved,
            size(copied.bytes_moved),
            copied.mounted,
            copied.existed
        ));
        if copied.referrers > 0 || plan.referrers == WithReferrers::All {
            display.say(&format!("with {} manifests that refer to it", copied.referrers));
        }
        return Ok(copied.digest);
    }
    if plan.dry_run || !plan.annotations.is_empty() {
        bail!("{DRY_RUN_OF_REGISTRIES}");
    }
    let ([from], false) = (sources, append) else {
        bail!(
            "an index of several sources is made of names in registries, as they are: make it first, and copy it then with --format, another compression or to another place"
        );
    };
    let digest =
        through_store(session, client, from, to, plan).with_context(|| format!("copy {from} to {to}"))?;
    display.say(&format!("copied {shown} to {to}"));
    Ok(digest)
}

/// Copies by way of a store that is removed afterwards.
fn through_store(
    session: &Session,
    client: &Client,
    from: &Place,
    to: &Place,
    plan: &Plan,
) -> Result<Digest> {
    let whole = session.store()?;
    let directory = whole.temporary_directory()?;
    let store = Store::open(&directory.path().join("store"))?.with_unpack_limit(whole.unpack_limit().clone());
    let ways = |daemon| Ways { client, daemon, additional: &plan.additional };
    let platforms = match (&plan.platforms, to.holds_index()) {
        // Other programs keep only images.
        (Platforms::All, false) => Platforms::Machine,
        (platforms, _) => platforms.clone(),
    };
    let found = places::read(from, &store, &platforms, &ways(plan.source_daemon.as_deref()))?;
    let mut form = plan.form.clone();
    if matches!(to, Place::Layout { .. } | Place::LayoutArchive { .. }) && !plan.preserve_digests {
        // A layout has manifests of the OCI's own types (OCI image specification, "image-layout.md").
        form.types = form.types.or(Some(Types::Oci));
    }
    let made = form.of(&store, &found)?;
    if plan.preserve_digests && made.digest != found.digest {
        bail!(
            "the copy would have another digest: leave out --preserve-digests, or --format and the compression"
        );
    }
    places::write(to, &store, &made, &ways(plan.destination_daemon.as_deref()))?;
    Ok(made.digest)
}

/// Copies an index without its images, which the destination must have: `--multi-arch index-only`.
fn index_only(
    session: &Session,
    client: &Client,
    sources: &[Place],
    targets: &[Place],
    args: &CopyArgs,
) -> Result<u8> {
    let [from] = sources else { bail!("--multi-arch index-only copies one index: give one source") };
    let Some(from) = from.reference() else {
        bail!("--multi-arch index-only: {from} is not in a registry");
    };
    let fetched = client.manifest(from)?;
    if !crossdock_oci::media_type::is_index(&fetched.media_type) {
        bail!("--multi-arch index-only: {} is one image", from.familiar());
    }
    for to in targets {
        match to {
            Place::Registry(to) => client.put_manifest(to, &fetched.media_type, &fetched.bytes).map(drop)?,
            Place::Directory(path) => {
                // Of an index, a directory gets the images that the store has: here none.
                let directory = session.store()?.temporary_directory()?;
                let store = Store::open(&directory.path().join("store"))?;
                store.write_blob(&fetched.bytes)?;
                super::directory::write(&store, &Descriptor::of(&fetched.media_type, &fetched.bytes), path)?;
            }
            _ => bail!(
                "--multi-arch index-only: {to} cannot hold an index without its images: a registry or dir: can"
            ),
        }
    }
    if let Some(path) = &args.digestfile {
        write_whole(path, fetched.digest.as_str().as_bytes())?;
    }
    print(fetched.digest.as_str());
    Ok(0)
}
