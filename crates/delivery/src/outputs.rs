//! `--output` of build: where the result goes, and in which form (buildx's reference, "buildx build";
//! BuildKit, README.md, "Output").

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use crossdock_builder::{Built, BuiltImage};
use crossdock_dockerfile::values::{boolean, csv};
use crossdock_oci::archive::SaveItem;
use crossdock_oci::layer::{Timestamps, copy_trees, export_tars};
use crossdock_oci::media_type::{self, Compression};
use crossdock_oci::store::{ImageEntry, LayerOptions, Owners};
use crossdock_oci::{Descriptor, Reference, Store};
use crossdock_platform::Platform;

use crate::ahead::Ahead;
use crate::annotations::{Annotations, Level};
use crate::files::to_file;

/// One `--output`.
pub struct Output {
    target: Target,
    annotations: Annotations,
    /// `oci-mediatypes=false`: media types of Docker.
    is_docker: bool,
    /// `force-compression=true`: layers of base images are packed again, too.
    repack: bool,
    compression: Option<Compression>,
    level: Option<u32>,
    /// `oci-artifact=true`: manifests of attestations are artifacts.
    as_artifact: bool,
    /// `attestation-prefix`: what the names of files with attestations begin with.
    attestation_prefix: String,
}

/// The place that an output has for attestations.
pub enum AttestationPlace<'a> {
    /// The index; `as_artifact` is the output's `oci-artifact`.
    Index {
        /// Whether their manifests are artifacts, with the image as subject.
        as_artifact: bool,
    },
    /// Files beside the result, whose names begin with this text; `split` is the output's `platform-split`.
    Files {
        /// Begin of the names.
        prefix: &'a str,
        /// Whether platforms have directories of their own; `None` if they do where there are several.
        split: Option<bool>,
    },
    /// None, because of this; the text says what to do.
    Nowhere(&'static str),
}

/// The error for an attribute that nobody knows.
const UNKNOWN: &str = "crossdock does not know this attribute";

/// Where a result goes.
enum Target {
    /// The store, under the tags and these names.
    Store { names: Vec<Reference> },
    /// Registries, under these names, or under the tags if there are none; or under no tag at all.
    Push { names: Vec<Reference>, by_digest: bool },
    /// An archive; without a path, on standard output.
    Archive { is_oci: bool, path: Option<PathBuf> },
    /// An OCI layout directory.
    Layout(PathBuf),
    /// The root file system as a tar archive; `split` puts platforms into directories of their own.
    Tar { path: Option<PathBuf>, split: Option<bool> },
    /// The root file system as files.
    Local { path: PathBuf, split: Option<bool> },
}

/// The attributes of one `--output`, as they are read.
#[derive(Default)]
struct Attributes {
    kind: Option<String>,
    path: Option<PathBuf>,
    has_path: bool,
    names: Vec<Reference>,
    /// Whether a name has a tag: names without one mean `latest`.
    has_tag: bool,
    push: bool,
    by_digest: bool,
    is_directory: bool,
    split: Option<bool>,
}

/// Reads `--output`, `--push` and `--load`.
///
/// # Errors
///
/// Says which output is wrong, and what is right.
pub fn outputs(given: &[String], push: bool, load: bool) -> Result<Vec<Output>> {
    let mut all = Vec::new();
    for text in given {
        all.extend(output(text).with_context(|| format!("--output {text}"))?);
    }
    if push {
        all.push(Output::plain(Target::Push { names: Vec::new(), by_digest: false }));
    }
    if load || given.is_empty() {
        all.push(Output::plain(Target::Store { names: Vec::new() }));
    }
    let to_stdout = |output: &&Output| {
        matches!(output.target, Target::Archive { path: None, .. } | Target::Tar { path: None, .. })
    };
    if all.iter().any(|output| to_stdout(&output)) && std::io::stdout().is_terminal() {
        bail!("--output would write an archive to the terminal: give dest=PATH");
    }
    Ok(all)
}

/// Reads one `--output`; nothing for `type=cacheonly`.
fn output(text: &str) -> Result<Option<Output>> {
    let mut form = Output::plain(Target::Store { names: Vec::new() });
    let mut read = Attributes::default();
    for field in csv(text).map_err(anyhow::Error::msg)? {
        match field.split_once('=') {
            Some((name, value)) => {
                attribute(&mut read, &mut form, name, value).with_context(|| field.clone())?;
            }
            // `-o DIR` and `-o -`, as docker takes them.
            None if read.kind.is_none() && field == "-" => read.kind = Some("tar".to_string()),
            None if read.kind.is_none() => {
                read.kind = Some("local".to_string());
                read.path = Some(PathBuf::from(&field));
            }
            None => bail!("unexpected \"{field}\": attributes are NAME=VALUE"),
        }
    }
    finish(read, form)
}

/// Makes an output of attributes.
fn finish(read: Attributes, mut form: Output) -> Result<Option<Output>> {
    let Attributes { kind, path, has_path, names, has_tag, push, by_digest, is_directory, split } = read;
    let kind = kind.context("no type: give type=image, registry, oci, docker, tar, local or cacheonly")?;
    let is_push = kind == "registry" || kind == "image" && push;
    if by_digest && is_push && has_tag {
        bail!("push-by-digest gives the image no tag: leave the tag out of the name");
    }
    if by_digest && is_push && names.is_empty() {
        bail!("push-by-digest needs the repository: give name=REGISTRY/REPOSITORY");
    }
    let needs_path = |path: Option<PathBuf>| path.context("give dest=PATH");
    form.target = match kind.as_str() {
        _ if is_push => Target::Push { names, by_digest },
        "image" => Target::Store { names },
        "oci" if is_directory => Target::Layout(needs_path(path)?),
        "oci" => Target::Archive { is_oci: true, path },
        // Without a path docker loads the result into its local images; ours are the store.
        "docker" if !has_path => Target::Store { names },
        "docker" => Target::Archive { is_oci: false, path },
        "tar" => Target::Tar { path, split },
        "local" => Target::Local { path: needs_path(path)?, split },
        "cacheonly" => return Ok(None),
        other => bail!("unknown type {other} (image, registry, oci, docker, tar, local, cacheonly)"),
    };
    if form.is_docker && !form.annotations.is_empty() {
        bail!("Docker's media types have no annotations: leave out oci-mediatypes=false");
    }
    Ok(Some(form))
}

/// Reads one attribute.
fn attribute(read: &mut Attributes, form: &mut Output, name: &str, value: &str) -> Result<()> {
    let truth = || boolean(value).with_context(|| format!("{name} is true or false"));
    match name {
        "type" => read.kind = Some(value.to_string()),
        "dest" => {
            read.has_path = true;
            read.path = Some(PathBuf::from(value)).filter(|path| path.as_os_str() != "-");
        }
        "name" => {
            let last = |name: &str| name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
            read.has_tag = value.split(',').any(last);
            read.names =
                value.split(',').map(|name| Ok(name.parse::<Reference>()?)).collect::<Result<_>>()?;
        }
        "push" => read.push = truth()?,
        "push-by-digest" => read.by_digest = truth()?,
        "tar" => read.is_directory = !truth()?,
        "platform-split" => read.split = Some(truth()?),
        "oci-mediatypes" => form.is_docker = !truth()?,
        "force-compression" => form.repack = truth()?,
        "compression" => {
            form.compression = Some(match value {
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                "uncompressed" => Compression::None,
                "estargz" => bail!("crossdock writes gzip, zstd and uncompressed layers"),
                _ => bail!("it must be gzip, zstd or uncompressed"),
            });
        }
        "compression-level" => form.level = Some(value.parse().context("not a number")?),
        // The images of docker's contexts are not reached; there is only one place of its own.
        "context" if !matches!(value, "" | "default") => {
            bail!("crossdock has no daemon: bring the image to it with crossdock copy and docker-daemon:")
        }
        "oci-artifact" => form.as_artifact = truth()?,
        "mode" if !matches!(value, "" | "copy") => bail!("files in the directory stay: empty it first"),
        "attestation-prefix" if value.contains('/') => {
            bail!("it begins the name of a file, without a directory")
        }
        "attestation-prefix" => form.attestation_prefix = value.to_string(),
        // Layers never have a time after SOURCE_DATE_EPOCH; results are in the store; names have digests; a
        // registry on this machine needs no TLS; what BuildKit no longer does.
        "context"
        | "mode"
        | "rewrite-timestamp"
        | "store"
        | "unpack"
        | "name-canonical"
        | "dangling-name-prefix"
        | "prefer-nondist-layers"
        | "buildinfo"
        | "buildinfo-attrs"
        | "registry.insecure" => {}
        _ if form.annotations.add_attribute(name, value)? => {}
        _ => bail!(UNKNOWN),
    }
    Ok(())
}

/// The compression of layers that all outputs share.
///
/// # Errors
///
/// If two outputs want different ones: a build packs its layers once.
pub fn compression<'a>(
    outputs: impl IntoIterator<Item = &'a Output> + Clone,
) -> Result<(Compression, Option<u32>)> {
    let one = |name: &str, wanted: Vec<String>| match wanted.iter().find(|other| **other != wanted[0]) {
        Some(other) => bail!("one build packs its layers once: {name}={} or {name}={other}", wanted[0]),
        None => Ok(()),
    };
    let compressions: Vec<Compression> =
        outputs.clone().into_iter().filter_map(|output| output.compression).collect();
    let levels: Vec<u32> = outputs.into_iter().filter_map(|output| output.level).collect();
    one("compression", compressions.iter().map(ToString::to_string).collect())?;
    one("compression-level", levels.iter().map(ToString::to_string).collect())?;
    Ok((compressions.first().copied().unwrap_or(Compression::Gzip), levels.first().copied()))
}

/// Whether an output pushes to the build's tags.
pub fn needs_tag(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(&output.target, Target::Push { names, .. } if names.is_empty()))
}

/// Gives results that go to the store or a registry Docker's media types.
pub fn use_docker_types(outputs: &mut [Output]) -> Result<()> {
    for output in outputs {
        if matches!(output.target, Target::Store { .. } | Target::Push { .. }) {
            if !output.annotations.is_empty() {
                bail!("--format docker: Docker's media types have no annotations: leave it out");
            }
            output.is_docker = true;
        }
    }
    Ok(())
}

/// Whether somebody is likely to read the files of the result, rather than its archives: outputs of files,
/// and whoever runs an image that goes nowhere but into the store.
pub fn need_trees<'a>(outputs: impl IntoIterator<Item = &'a Output>) -> bool {
    let (mut is_stored, mut is_sent) = (false, false);
    for output in outputs {
        match &output.target {
            Target::Tar { .. } | Target::Local { .. } => return true,
            Target::Store { .. } => is_stored = true,
            Target::Push { .. } | Target::Archive { .. } | Target::Layout(_) => is_sent = true,
        }
    }
    is_stored && !is_sent
}

/// Names in registries that the outputs push to.
pub fn pushed_names<'a>(outputs: &'a [Output], tags: &'a [Reference]) -> impl Iterator<Item = &'a Reference> {
    outputs.iter().flat_map(move |output| match &output.target {
        Target::Push { names, .. } if names.is_empty() => tags,
        Target::Push { names, .. } => names,
        _ => &[],
    })
}

/// Takes an archive.
pub trait Stream {
    /// Takes what `write` writes.
    ///
    /// # Errors
    ///
    /// Those of `write`, and of whoever takes it.
    fn take(&self, write: &mut dyn FnMut(&mut dyn std::io::Write) -> Result<()>) -> Result<()>;
}

/// What writing needs besides the result.
pub struct Surroundings<'a> {
    /// Pushes.
    pub ahead: &'a Ahead,
    /// Holds the result.
    pub store: &'a Store,
    /// Names of the result.
    pub tags: &'a [Reference],
    /// How layers are packed.
    pub layers: LayerOptions,
    /// Takes archives that have no path; standard output if absent.
    pub stream: Option<&'a dyn Stream>,
    /// Tells a person something.
    pub say: &'a dyn Fn(&str),
}

impl Surroundings<'_> {
    fn to_file(
        &self,
        path: Option<&std::path::Path>,
        write: &mut dyn FnMut(&mut dyn std::io::Write) -> Result<()>,
    ) -> Result<()> {
        match self.stream.filter(|_| path.is_none()) {
            Some(stream) => stream.take(write),
            None => to_file(path, write),
        }
    }
}

impl Output {
    /// The output of a type and attributes, as clients of BuildKit name them; nothing for `cacheonly`.
    /// Without `dest` an archive is a stream. Attributes that only BuildKit knows are passed to `ignored`.
    ///
    /// # Errors
    ///
    /// An attribute has a wrong value.
    pub fn of_attributes<'a>(
        kind: &str,
        attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
        ignored: &mut dyn FnMut(&str),
    ) -> Result<Option<Output>> {
        let mut form = Output::plain(Target::Store { names: Vec::new() });
        let mut read = Attributes { kind: Some(kind.to_string()), has_path: true, ..Attributes::default() };
        for (name, value) in attributes {
            // An empty value is the same as none.
            let is_known = attribute(&mut read, &mut form, name, value);
            match is_known.with_context(|| format!("{name}={value}")) {
                Err(error) if error.root_cause().to_string() == UNKNOWN => ignored(name),
                other => other?,
            }
        }
        finish(read, form)
    }

    fn plain(target: Target) -> Output {
        Output {
            target,
            annotations: Annotations::default(),
            is_docker: false,
            repack: false,
            compression: None,
            level: None,
            as_artifact: false,
            attestation_prefix: String::new(),
        }
    }

    /// Where attestations of the result go.
    pub fn attestation_place(&self) -> AttestationPlace<'_> {
        match self.target {
            Target::Archive { is_oci: false, .. } => {
                AttestationPlace::Nowhere("a docker archive has no place for attestations: use type=oci")
            }
            Target::Tar { split, .. } | Target::Local { split, .. } => {
                AttestationPlace::Files { prefix: &self.attestation_prefix, split }
            }
            _ if self.is_docker => AttestationPlace::Nowhere(
                "attestations need OCI's media types: leave out oci-mediatypes=false and --format docker",
            ),
            _ => AttestationPlace::Index { as_artifact: self.as_artifact },
        }
    }

    /// Names that the result gets besides the tags.
    pub fn names(&self) -> &[Reference] {
        match &self.target {
            Target::Store { names } | Target::Push { names, .. } => names,
            _ => &[],
        }
    }

    /// All names of the result, if it also has these tags.
    pub fn all_names(&self, tags: &[Reference]) -> Vec<Reference> {
        match &self.target {
            Target::Push { names, .. } if !names.is_empty() => names.clone(),
            _ => self.names().iter().chain(tags).cloned().collect(),
        }
    }

    /// The result in the form of this output, with annotations for all outputs.
    pub fn form(
        &self,
        store: &Store,
        built: &Built,
        all: &Annotations,
        layers: &LayerOptions,
    ) -> Result<Built> {
        let annotations = all.clone().and(&self.annotations);
        let mut built = built.clone();
        if self.repack {
            repack(store, &mut built, layers)?;
        }
        if self.is_docker {
            with_docker_types(store, &mut built)?;
        }
        annotate(store, &mut built, &annotations)?;
        Ok(built)
    }

    /// Writes a result.
    pub fn write(&self, with: &Surroundings<'_>, built: &Built) -> Result<()> {
        let Surroundings { ahead, store, tags, say, .. } = with;
        let result = built.target();
        match &self.target {
            Target::Store { names } => {
                for reference in names.iter().chain(*tags) {
                    name(store, built, reference)?;
                }
                if names.is_empty() && tags.is_empty() {
                    // The result can then be named by its id, as in "run $(build -q .)".
                    let entry = |image: &BuiltImage| ImageEntry {
                        platform: image.platform.normalised(),
                        manifest: image.manifest.clone(),
                    };
                    store.put_untagged(result, &built.images.iter().map(entry).collect::<Vec<_>>())?;
                }
            }
            Target::Push { names, by_digest } => {
                for reference in if names.is_empty() { *tags } else { names } {
                    let reference =
                        if *by_digest { &reference.with_digest(result.digest.clone()) } else { reference };
                    ahead.push(store, reference, result)?;
                    let shown = if *by_digest { reference.name() } else { reference.familiar() };
                    say(&format!("pushed {shown} {}", result.digest));
                }
            }
            Target::Archive { is_oci, path } => {
                let items = [self.item(built, tags)];
                if !is_oci && built.images.len() > 1 {
                    bail!("a docker archive holds one platform: use type=oci, or build one platform");
                }
                with.to_file(path.as_deref(), &mut |writer| match is_oci {
                    true => Ok(store.save_oci(&items, writer)?),
                    false => Ok(store.save_docker(&items, writer)?),
                })?;
            }
            Target::Layout(path) => store.write_layout(&[self.item(built, tags)], path)?,
            Target::Tar { path, split } => {
                let roots = directories(store, built, *split)?;
                let roots = borrowed(&roots);
                with.to_file(path.as_deref(), &mut |writer| {
                    Ok(export_tars(&roots, Timestamps::Keep, writer)?)
                })?;
            }
            Target::Local { path, split } => {
                let roots = directories(store, built, *split)?;
                std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
                // The directory that the user names may be a link; what is in it is not followed.
                let path = std::fs::canonicalize(path).with_context(|| path.display().to_string())?;
                for warning in copy_trees(&borrowed(&roots), Timestamps::Keep, &path, Owners::Ignore)? {
                    say(&format!("warning: {warning}"));
                }
            }
        }
        Ok(())
    }

    fn item(&self, built: &Built, tags: &[Reference]) -> SaveItem {
        SaveItem { references: tags.to_vec(), plain_names: Vec::new(), target: built.target().clone() }
    }
}

type Root = (String, Vec<PathBuf>);

/// The files of each platform, and the directory that they go to: one for each platform, unless there is one
/// platform only or the user wants it otherwise.
fn directories(store: &Store, built: &Built, split: Option<bool>) -> Result<Vec<Root>> {
    let split = split.unwrap_or(built.images.len() > 1);
    let directory = |image: &BuiltImage| match split {
        true => image.platform.to_string().replace('/', "_"),
        false => String::new(),
    };
    built.images.iter().map(|image| Ok((directory(image), image.trees(store)?))).collect()
}

fn borrowed(roots: &[Root]) -> Vec<(String, &[PathBuf])> {
    roots.iter().map(|(name, trees)| (name.clone(), trees.as_slice())).collect()
}

/// Names the result in the store. The name then means only this result: images of an earlier build for other
/// platforms lose it, or a push would publish them, too.
fn name(store: &Store, built: &Built, reference: &Reference) -> Result<()> {
    let images: Vec<(Platform, Descriptor)> =
        built.images.iter().map(|image| (image.platform.clone(), image.manifest.clone())).collect();
    match &built.index {
        Some(index) => store.put_index(reference, index, &images)?,
        None => store.replace_images(reference, &images)?,
    }
    Ok(())
}

/// Packs the layers of base images as the build's own.
fn repack(store: &Store, built: &mut Built, layers: &LayerOptions) -> Result<()> {
    let mut known: BTreeMap<String, Descriptor> = BTreeMap::new();
    built.change_images(store, |_, image| -> Result<()> {
        for layer in image.layers_mut() {
            let key = layer.digest.to_string();
            if !known.contains_key(&key) {
                known.insert(key.clone(), store.repack_layer(layer, layers)?);
            }
            *layer = known[&key].clone();
        }
        Ok(())
    })?;
    Ok(built.renew_index(store, |_| {})?)
}

/// Gives manifests, configurations, layers and the index Docker's media types.
fn with_docker_types(store: &Store, built: &mut Built) -> Result<()> {
    built.change_images(store, |_, image| {
        image.use_docker_types().map_err(|layer| {
            anyhow!(
                "Docker has no media type for zstd (layer {layer}): use compression=gzip,force-compression=true, or leave out oci-mediatypes=false"
            )
        })
    })?;
    let list = media_type::DOCKER_LIST;
    Ok(built.renew_index(store, |index| index.media_type = Some(list.to_string()))?)
}

/// Sets the annotations.
fn annotate(store: &Store, built: &mut Built, annotations: &Annotations) -> Result<()> {
    if annotations.is_empty() {
        return Ok(());
    }
    if built.index.is_none() && annotations.need_index() {
        bail!("annotations of an index need a build for several platforms");
    }
    built.change_images(store, |built, image| -> Result<()> {
        image.annotate(annotations.at(Level::Manifest, Some(&built.platform)));
        Ok(())
    })?;
    for image in &mut built.images {
        image.manifest.annotations = annotations.at(Level::ManifestDescriptor, Some(&image.platform));
    }
    built.renew_index(store, |index| index.annotations = annotations.at(Level::Index, None))?;
    if let Some(index) = &mut built.index {
        index.annotations = annotations.at(Level::IndexDescriptor, None);
    }
    Ok(())
}
