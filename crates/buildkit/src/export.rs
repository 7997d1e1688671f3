//! Results on their way: exporters and caches of `Control.Solve` (BuildKit, docs/reference/buildctl.md and
//! exporter/).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine as _;
use bollard_buildkit_proto::moby::buildkit::v1::Exporter;
use crossdock_builder::Built;
use crossdock_delivery::ahead::Ahead;
use crossdock_delivery::annotations::Annotations;
use crossdock_delivery::attest::Attestations;
use crossdock_delivery::caches;
use crossdock_delivery::outputs::{self, Output, Stream, Surroundings};
use crossdock_delivery::source::Source;
use crossdock_oci::store::LayerOptions;
use crossdock_oci::{Descriptor, Document, Manifest, Reference, Store};

use crate::failure::Failure;
use crate::imports::CacheEntry;
use crate::job::{Answer, Job, Needs};
use crate::session::{ClientStore, Session};
use crate::status::Work;
use crate::surroundings;

/// One exporter of a request.
pub struct Export {
    /// Its number in the request: clients tell their targets apart by it.
    number: usize,
    kind: Kind,
    /// What its vertex is called: BuildKit's words.
    title: &'static str,
    /// Whether it is an archive of files, and no image.
    is_files: bool,
    output: Output,
    /// Names of the image in an archive.
    names: Vec<Reference>,
}

/// What needs the client's help.
enum Kind {
    /// Nothing: registries and the store.
    Here,
    /// An archive that the client takes.
    Stream,
    /// Blobs for a store of the client.
    Layout,
    /// Files for a directory of the client.
    Directory(crossdock_oci::store::TemporaryDirectory),
}

/// Reads the exporters of a request.
///
/// # Errors
///
/// The attribute that is wrong.
pub fn exports(job: &Job, exporters: &[Exporter]) -> Result<Vec<Export>> {
    let mut all = Vec::new();
    for (number, exporter) in exporters.iter().enumerate() {
        let mut attributes: BTreeMap<&str, &str> =
            exporter.attrs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let is_layout = exporter.r#type == "oci" && attributes.get("tar").is_some_and(|tar| *tar == "false");
        let mut kind = match exporter.r#type.as_str() {
            "oci" if is_layout => Kind::Layout,
            "oci" | "docker" | "tar" => Kind::Stream,
            "local" => Kind::Directory(job.store.temporary_directory()?),
            _ => Kind::Here,
        };
        let title = match exporter.r#type.as_str() {
            "oci" => "exporting to oci image format",
            "docker" => "exporting to docker image format",
            "tar" => "exporting to client tarball",
            "local" => "exporting to client directory",
            _ => "exporting to image",
        };
        let is_files = exporter.r#type == "tar";
        // The directory is the client's.
        attributes.remove("dest");
        attributes.remove("tar");
        // Names of archives are names of images in them.
        let files = match &mut kind {
            Kind::Directory(directory) => Some(directory.path().join("files").display().to_string()),
            _ => None,
        };
        if let Some(files) = &files {
            attributes.insert("dest", files);
        }
        if attributes.get("name").is_some_and(|name| name.is_empty()) {
            attributes.remove("name");
        }
        let names = match attributes.get("name") {
            Some(list) if !matches!(kind, Kind::Here) => {
                list.split(',').map(|name| Ok(name.parse::<Reference>()?)).collect::<Result<_>>()?
            }
            _ => Vec::new(),
        };
        let mut ignore = |_: &str| {};
        let output = Output::of_attributes(&exporter.r#type, attributes, &mut ignore)
            .with_context(|| format!("the exporter {}", exporter.r#type))?;
        all.extend(output.map(|output| Export { number, kind, title, is_files, output, names }));
    }
    Ok(all)
}

/// How the exporters want layers packed.
///
/// # Errors
///
/// Two want different ones.
pub fn layer_options(exports: &[Export]) -> Result<LayerOptions> {
    let (compression, level) = outputs::compression(exports.iter().map(|export| &export.output))?;
    Ok(LayerOptions { compression, level, ..LayerOptions::default() })
}

/// What the exporters and caches read of the result. Whoever keeps an image here only does not read its
/// files.
pub fn needs(exports: &[Export], caches: &[CacheEntry]) -> Needs {
    let not_here = exports.iter().filter(|one| !matches!(one.kind, Kind::Here)).map(|one| &one.output);
    let has_all = |entry: &CacheEntry| entry.attributes.get("mode").is_some_and(|mode| mode == "max");
    Needs {
        trees: outputs::need_trees(not_here),
        images: !exports.is_empty() || !caches.is_empty(),
        steps: caches.iter().any(has_all),
    }
}

/// A target for archives: the client.
struct ToClient<'a> {
    session: &'a Session,
    number: usize,
    about: BTreeMap<String, String>,
}

impl Stream for ToClient<'_> {
    fn take(&self, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
        self.session.send_file(self.number, &self.about, |writer| write(writer))
    }
}

/// Writes everything that was asked for; returns what clients are told of the result. Waits for the end.
///
/// # Errors
///
/// What cannot be written, or whom the client does not let take it.
pub fn export(
    job: &Job,
    answer: &Answer,
    exports: &[Export],
    cache_exports: &[CacheEntry],
    layers: LayerOptions,
) -> Result<HashMap<String, String>, Failure> {
    let mut response = HashMap::new();
    for (name, value) in &answer.metadata {
        if name.starts_with("frontend.") || name.starts_with("result.") {
            response.insert(name.clone(), String::from_utf8_lossy(value).into_owned());
        }
    }
    if exports.is_empty() && cache_exports.is_empty() {
        return Ok(response);
    }
    let built = answer.built(&job.store)?;
    let attestations = answer.attestations();
    write_all(job, built, &attestations, exports, cache_exports, layers, &mut response)
        .map_err(|error| Failure::of(&error))?;
    Ok(response)
}

fn write_all(
    job: &Job,
    built: Built,
    attestations: &Attestations,
    exports: &[Export],
    cache_exports: &[CacheEntry],
    layers: LayerOptions,
    response: &mut HashMap<String, String>,
) -> Result<()> {
    let session = job.own_session()?;
    let source = surroundings::source(job, session.clone(), &job.reporter);
    let say = |text: &str| job.reporter.warn(text.trim_start_matches("warning: "), "", "", None);
    let inline = job.attributes.get("build-arg:BUILDKIT_INLINE_CACHE").is_some_and(|value| value == "1");
    let (own, others): (Vec<&CacheEntry>, Vec<&CacheEntry>) =
        cache_exports.iter().partition(|entry| entry.kind == "local");
    let texts: Vec<String> = others.into_iter().map(CacheEntry::text).collect();
    let others = caches::exports(&texts, inline, &|_| None, &say)?;
    let built = caches::inline(&job.store, built, &others)?;
    for export in exports {
        let title = export.title;
        let name = format!(
            "{title}{}",
            if exports.len() > 1 { format!(" ({})", export.number) } else { String::new() }
        );
        job.reporter.vertex(&name, |work| {
            one(job, session.as_ref(), &source, export, (&built, attestations), layers, work, response)
        })?;
    }
    for entry in own {
        let all = entry.attributes.get("mode").is_some_and(|mode| mode == "max");
        job.reporter.vertex("exporting cache to client directory", |_| {
            let session = session.as_ref().context("the client has no session")?;
            let place = entry.attributes.get("dest").context("a cache of type local needs dest=")?;
            let store = ClientStore::new(session.clone(), &format!("local:{place}"));
            let (manifest, _) = caches::write_manifest(&job.store, &built, all)?;
            write_blobs(&job.store, &store, &manifest)?;
            response.insert("cache.manifest".to_string(), serde_json::to_string(&manifest)?);
            Ok::<_, anyhow::Error>(())
        })?;
    }
    if others.iter().any(|export| !export.is_inline()) {
        job.reporter.vertex("exporting cache", |work| {
            let tell = |text: &str| work.say(text);
            caches::export(&source, &job.store, &built, &others, &tell)
        })?;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one call site")]
fn one(
    job: &Job,
    session: Option<&Arc<Session>>,
    source: &Source<'_>,
    export: &Export,
    (built, attestations): (&Built, &Attestations),
    layers: LayerOptions,
    work: &Work<'_>,
    response: &mut HashMap<String, String>,
) -> Result<()> {
    let output = &export.output;
    let none = Annotations::default();
    let is_image = !matches!(export.kind, Kind::Directory(_)) && !export.is_files;
    let form = || attestations.form(output, &job.store, built, &none, &layers, &export.names);
    let result = match is_image {
        true => tell(work, "exporting layers", form)?,
        false => form()?,
    };
    let formed = &result.built;
    let pushed: Vec<Reference> = outputs::pushed_names(std::slice::from_ref(output), &[]).cloned().collect();
    let ahead = Ahead::new(|| source.client(), pushed.iter())?;
    let names: Vec<Reference> = output.names().iter().chain(&export.names).cloned().collect();
    if is_image {
        for image in &formed.images {
            tell(work, &format!("exporting manifest {}", image.manifest.digest), || Ok(()))?;
            tell(work, &format!("exporting config {}", image.id), || Ok(()))?;
        }
        if let Some(index) = &formed.index {
            tell(work, &format!("exporting manifest list {}", index.digest), || Ok(()))?;
        }
    }
    let about = describe(formed, &names)?;
    let target = match (&export.kind, session) {
        (Kind::Here, _) => None,
        (_, None) => anyhow::bail!("the client has no session that could take the result"),
        (_, Some(session)) => {
            let about = about.clone().into_iter().collect();
            Some(ToClient { session, number: export.number, about })
        }
    };
    let stream = target.as_ref().map(|target| target as &dyn Stream);
    let say = |text: &str| work.say(text);
    let with =
        Surroundings { ahead: &ahead, store: &job.store, tags: &export.names, layers, stream, say: &say };
    match (&export.kind, session) {
        (Kind::Layout, Some(session)) => {
            let store = ClientStore::new(session.clone(), "export");
            tell(work, "copying layers", || write_blobs(&job.store, &store, formed.target()))?;
        }
        (Kind::Directory(directory), Some(session)) => {
            output.write(&with, formed)?;
            let files = directory.path().join("files");
            work.part("copying files", |sent| *sent, || session.send_directory(export.number, &files))?;
            clear(&files);
        }
        (Kind::Stream, _) => tell(work, "sending tarball", || output.write(&with, formed))?,
        _ => {
            let part = match pushed.is_empty() {
                true => names.iter().map(|name| format!("naming to {name}")).next(),
                false => Some("pushing layers".to_string()),
            };
            tell(work, part.as_deref().unwrap_or("keeping the image"), || output.write(&with, formed))?;
            for name in names.iter().skip(1).filter(|_| pushed.is_empty()) {
                tell(work, &format!("naming to {name}"), || Ok(()))?;
            }
            for name in &pushed {
                let shown = format!("pushing manifest for {name}@{}", formed.target().digest);
                tell(work, &shown, || Ok(()))?;
            }
        }
    }
    if !matches!(export.kind, Kind::Directory(_)) {
        response.extend(about);
    }
    Ok(())
}

/// Does a part of the work and tells its beginning and its end.
fn tell<T>(work: &Work<'_>, name: &str, part: impl FnOnce() -> Result<T>) -> Result<T> {
    work.part(name, |_| 0, part)
}

/// Removes a directory whose permissions may forbid that.
fn clear(directory: &Path) {
    // What stays goes with the store's temporary directory.
    let _ = std::fs::remove_dir_all(directory);
}

/// What clients are told of an image (BuildKit, exporter/containerimage/exptypes).
fn describe(built: &Built, names: &[Reference]) -> Result<HashMap<String, String>> {
    let target = built.target();
    let mut all = HashMap::from([("containerimage.digest".to_string(), target.digest.to_string())]);
    let descriptor = base64::engine::general_purpose::STANDARD.encode(serde_json::to_vec(target)?);
    all.insert("containerimage.descriptor".to_string(), descriptor);
    if built.index.is_none() {
        all.insert("containerimage.config.digest".to_string(), built.images[0].id.to_string());
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        all.insert("image.name".to_string(), names.join(","));
    }
    Ok(all)
}

/// Writes an image, an index with its images, or a cache to a store of the client: first the blobs, then what
/// names them.
fn write_blobs(store: &Store, client: &ClientStore, target: &Descriptor) -> Result<()> {
    let (document, _) = store.read_document(target)?;
    match document {
        Document::Index(index) => {
            for entry in &index.manifests {
                write_blobs(store, client, entry)?;
            }
        }
        Document::Manifest(Manifest { config, layers, .. }) => {
            for blob in layers.iter().chain([&config]) {
                client.write(store, blob)?;
            }
        }
    }
    client.write(store, target)
}
