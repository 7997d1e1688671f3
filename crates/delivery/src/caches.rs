//! build --cache-to and --cache-from: results of steps in a registry, a directory, or an image's own
//! configuration.
//!
//! A cache is stored as an OCI manifest whose configuration lists the steps and whose layers are the steps'
//! layers. So every registry accepts it, and `crossdock copy` can copy it.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use crossdock_builder::Built;
use crossdock_builder::solver::cache::{Imported, StepCache};
use crossdock_dockerfile::values::{boolean, csv};
use crossdock_oci::manifest::MANIFEST_SIZE_MAX;
use crossdock_oci::store::DOCUMENT_SIZE_MAX;
use crossdock_oci::{Descriptor, Digest, Document, Index, Manifest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::transfer::{PushOptions, push};
use serde_json::Value;

use crate::files::chain;
use crate::input::{Kinds, read_whole};
use crate::services::{ServicePlace, Variables};
use crate::source::{Place, Source, blob_path};

/// Media type of the list of steps.
const CONFIG: &str = "application/vnd.crossdock.cache.config.v1+json";

/// Member of an image's configuration that holds the list of steps, for `type=inline`.
const INLINE: &str = "crossdock.cache.v1";

/// Annotation that holds the tag of an entry in a layout (OCI image layout).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One `--cache-to`.
#[derive(Debug)]
pub struct Export {
    place: Place,
    /// `mode=max`: every step, not only those whose layers are in the image.
    all: bool,
    ignore_error: bool,
}

impl Export {
    /// Whether the cache has the layers of all steps, not only those of the image.
    pub fn has_all_steps(&self) -> bool {
        self.all
    }

    /// Whether the cache is in the image itself.
    pub fn is_inline(&self) -> bool {
        self.place == Place::Inline
    }
}

/// How a cache is called in messages: as it was given, without its token.
fn shown(text: &str) -> String {
    const HIDDEN: [&str; 4] = ["token=", "ghtoken=", "secret_access_key=", "session_token="];
    let Ok(fields) = fields_of(text) else { return "(not readable)".to_string() };
    let fields = fields.iter().filter(|field| !HIDDEN.iter().any(|hidden| field.starts_with(hidden)));
    fields.map(AsRef::as_ref).collect::<Vec<&str>>().join(",")
}

/// The fields of a cache, with the names of attributes as buildx reads them, in small letters and without
/// spaces. The error does not quote the text, which may hold a token.
fn fields_of(text: &str) -> Result<Vec<String>> {
    let wrong = |_| anyhow::anyhow!("its fields cannot be read: check the quotes");
    let fields = csv(text).map_err(wrong)?.into_iter().map(|field| match field.split_once('=') {
        Some((name, value)) => format!("{}={value}", name.trim().to_ascii_lowercase()),
        None => field,
    });
    Ok(fields.collect())
}

/// Reads one `--cache-from` or `--cache-to`; `None` outside of the jobs that a type is for.
fn parse(text: &str, flag: &str, variables: Variables<'_>, say: &dyn Fn(&str)) -> Result<Option<Export>> {
    let fields = fields_of(text).context(flag.to_string())?;
    let text = &shown(text);
    // The name of an image alone, as docker accepts it.
    if let [only] = &fields[..]
        && !only.contains('=')
    {
        let place = Place::Registry(only.parse()?);
        return Ok(Some(Export { place, all: false, ignore_error: false }));
    }
    let fields: HashMap<&str, &str> =
        fields.iter().map(|field| field.split_once('=').unwrap_or((field, ""))).collect();
    let ignore_error = match fields.get("ignore-error") {
        Some(value) => boolean(value)
            .with_context(|| format!("{flag} {text}: ignore-error={value} is neither true nor false"))?,
        None => false,
    };
    let needs =
        |name: &str| fields.get(name).copied().with_context(|| format!("{flag} {text}: {name}= is missing"));
    let tag = fields.get("tag").map(ToString::to_string);
    let place = match fields.get("type").copied().unwrap_or_default() {
        "registry" => Place::Registry(needs("ref")?.parse()?),
        "local" => {
            let path = needs(if flag == "--cache-to" { "dest" } else { "src" })?;
            Place::Layout { path: path.into(), tag }
        }
        "inline" if flag == "--cache-to" => Place::Inline,
        "inline" => bail!("{flag} {text}: give the image as type=registry,ref=NAME"),
        kind @ ("gha" | "s3" | "azblob") => {
            let place = ServicePlace::of_fields(kind, &fields, variables);
            let no_effect = |reason: &str| say(&format!("warning: {flag} {text} has no effect: {reason}"));
            let may_fail = flag == "--cache-from" || ignore_error;
            match place.with_context(|| format!("{flag} {text}")) {
                Ok(Some(place)) => Place::Service(place),
                Ok(None) => {
                    no_effect(
                        "this is no job of GitHub Actions, or the step does not have its token (ACTIONS_RUNTIME_TOKEN)",
                    );
                    return Ok(None);
                }
                // A job for a stranger's change has no keys.
                Err(error) if may_fail => {
                    no_effect(&error.root_cause().to_string());
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        other => bail!("{flag} {text}: unknown type \"{other}\" (registry, local, inline, gha, s3, azblob)"),
    };
    let all = match fields.get("mode").copied().unwrap_or("min") {
        "min" => false,
        "max" if place == Place::Inline => {
            bail!("{flag} {text}: an image holds only its own layers, mode=min")
        }
        "max" => true,
        other => bail!("{flag} {text}: mode={other} is neither min nor max"),
    };
    Ok(Some(Export { place, all, ignore_error }))
}

/// Reads the `--cache-to`s; the build argument `BUILDKIT_INLINE_CACHE=1` (`inline`) means `type=inline`.
///
/// # Errors
///
/// A value that cannot be read.
pub fn exports(
    given: &[String],
    inline: bool,
    variables: Variables<'_>,
    say: &dyn Fn(&str),
) -> Result<Vec<Export>> {
    let mut all = Vec::new();
    for text in given {
        all.extend(parse(text, "--cache-to", variables, say)?);
    }
    if inline && !all.iter().any(|export| export.place == Place::Inline) {
        all.push(Export { place: Place::Inline, all: false, ignore_error: false });
    }
    Ok(all)
}

/// Reads the caches of `--cache-from`. A cache that cannot be read (as before the first export) is skipped
/// with a warning.
pub fn import(
    source: &Source<'_>,
    given: &[String],
    platforms: &[Platform],
    variables: Variables<'_>,
    say: &dyn Fn(&str),
) -> Result<Imported> {
    let mut imported = Imported::default();
    let mut places = HashMap::new();
    for text in given {
        let Some(Export { place, .. }) = parse(text, "--cache-from", variables, say)? else { continue };
        let read = match &place {
            Place::Registry(reference) => from_registry(source, reference, platforms),
            Place::Layout { path, tag } => from_layout(path, tag.as_deref()),
            Place::Service(place) => {
                source.client().and_then(|client| place.read(client, source.store())).map(|cache| vec![cache])
            }
            Place::Inline => continue,
        };
        match read {
            Ok(caches) => {
                for cache in caches {
                    for layer in cache.layers() {
                        places.entry(layer.digest).or_insert_with(|| place.clone());
                    }
                    imported.add(cache);
                }
            }
            Err(error) => {
                let (text, reason) = (shown(text), chain(&error));
                say(&format!("warning: --cache-from {text} has no effect: {reason}"));
            }
        }
    }
    source.take_layers_from(places);
    Ok(imported)
}

fn from_registry(
    source: &Source<'_>,
    reference: &Reference,
    platforms: &[Platform],
) -> Result<Vec<StepCache>> {
    let client = source.client()?;
    let document =
        |reference: &Reference| -> Result<Document> { Ok(client.manifest(reference)?.document(reference)?) };
    let manifests = match document(reference)? {
        Document::Manifest(manifest) => vec![manifest],
        Document::Index(index) => {
            let mut all = Vec::new();
            let chosen: BTreeSet<&Digest> = platforms
                .iter()
                .filter_map(|platform| index.select(platform))
                .map(|entry| &entry.digest)
                .collect();
            for digest in chosen {
                if let Document::Manifest(manifest) = document(&reference.with_digest(digest.clone()))? {
                    all.push(manifest);
                }
            }
            all
        }
    };
    let mut caches = Vec::new();
    for manifest in manifests {
        check_size(&manifest.config)?;
        let mut bytes = Vec::new();
        client.blob(reference, &manifest.config, 0)?.read_to_end(&mut bytes)?;
        caches.extend(list(&manifest, &bytes)?);
    }
    if caches.is_empty() {
        bail!("it holds no cache of this builder");
    }
    Ok(caches)
}

fn from_layout(path: &Path, tag: Option<&str>) -> Result<Vec<StepCache>> {
    let shown = || path.display().to_string();
    let index =
        read_whole(&path.join("index.json"), DOCUMENT_SIZE_MAX, Kinds::Regular).with_context(shown)?;
    let index: Index =
        serde_json::from_slice(&index).with_context(|| format!("{}/index.json", path.display()))?;
    let is_it =
        |entry: &&Descriptor| tag.is_none_or(|tag| entry.annotations.get(REF_NAME).is_some_and(|n| n == tag));
    let mut caches = Vec::new();
    for entry in index.manifests.iter().filter(is_it) {
        let manifest: Manifest = serde_json::from_slice(&layout_blob(path, entry)?)
            .with_context(|| format!("{}: manifest {}", path.display(), entry.digest))?;
        let bytes = layout_blob(path, &manifest.config)?;
        caches.extend(list(&manifest, &bytes)?);
    }
    if caches.is_empty() {
        bail!("{}: it holds no cache of this builder", path.display());
    }
    Ok(caches)
}

/// The list of steps in a configuration; its bytes must have the digest that the manifest gives.
///
/// # Errors
///
/// The bytes have another digest, or are no list of steps.
pub fn list(manifest: &Manifest, bytes: &[u8]) -> Result<Option<StepCache>> {
    if !is_of(&manifest.config.digest, bytes) {
        bail!("the configuration {} is damaged", manifest.config.digest);
    }
    let failed = || format!("the list of steps in {}", manifest.config.digest);
    if manifest.config.media_type == CONFIG {
        return serde_json::from_slice(bytes).with_context(failed);
    }
    let mut config: Value = serde_json::from_slice(bytes).with_context(failed)?;
    match config.get_mut(INLINE) {
        Some(list) => serde_json::from_value(list.take()).with_context(failed),
        None => Ok(None),
    }
}

fn is_of(digest: &Digest, bytes: &[u8]) -> bool {
    let mut hasher = digest.hasher();
    hasher.update(bytes);
    hasher.finish() == *digest
}

fn check_size(descriptor: &Descriptor) -> Result<()> {
    if descriptor.size > 4 * MANIFEST_SIZE_MAX {
        bail!("the configuration {} has {} bytes, which is too large", descriptor.digest, descriptor.size);
    }
    Ok(())
}

/// A small blob of a layout, verified.
fn layout_blob(layout: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
    check_size(descriptor)?;
    let path = blob_path(layout, &descriptor.digest);
    let bytes = read_whole(&path, descriptor.size, Kinds::Regular)?;
    if !is_of(&descriptor.digest, &bytes) {
        bail!("{} is not what its name says", path.display());
    }
    Ok(bytes)
}

/// Writes the list of steps into the configurations of the images that were built.
pub fn inline(store: &Store, mut built: Built, exports: &[Export]) -> Result<Built> {
    if !exports.iter().any(|export| export.place == Place::Inline) {
        return Ok(built);
    }
    let steps = built.steps.clone();
    built.change_images(store, |_, image| -> Result<()> {
        let own = steps.only(&image.config().rootfs.diff_ids.iter().cloned().collect());
        image.config_mut().extra.insert(INLINE.to_string(), serde_json::to_value(own)?);
        Ok(())
    })?;
    built.renew_index(store, |_| {})?;
    Ok(built)
}

/// Writes the caches that were asked for. A failure is only a warning for a cache with `ignore-error=true`.
pub fn export(
    source: &Source<'_>,
    store: &Store,
    built: &Built,
    exports: &[Export],
    say: &dyn Fn(&str),
) -> Result<()> {
    for export in exports.iter().filter(|export| export.place != Place::Inline) {
        if let Place::Service(place) = &export.place {
            let steps = steps_of(store, built, export.all)?;
            let result = source.client().and_then(|client| place.write(client, store, &steps));
            tell(result, steps.steps.len(), &place.shown(), export, say)?;
            continue;
        }
        let (manifest, steps) = write_manifest(store, built, export.all)?;
        let (result, shown) = match &export.place {
            Place::Registry(reference) => (
                source
                    .client()
                    .and_then(|c| Ok(push(c, store, reference, &manifest, &PushOptions::default())?))
                    .map(drop),
                reference.familiar(),
            ),
            Place::Layout { path, tag } => {
                (write_layout(store, &manifest, path, tag.as_deref()), path.display().to_string())
            }
            Place::Inline | Place::Service(_) => continue,
        };
        tell(result, steps, &shown, export, say)?;
    }
    Ok(())
}

/// Says how the export of a cache of so many steps ended.
fn tell(result: Result<()>, steps: usize, shown: &str, export: &Export, say: &dyn Fn(&str)) -> Result<()> {
    match result.with_context(|| format!("export the cache to {shown}")) {
        Ok(()) => say(&format!("exported the cache of {steps} steps to {shown}")),
        Err(error) if export.ignore_error => say(&format!("warning: {}", chain(&error))),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Writes the manifest of a cache to the store; also returns the number of its steps. `all` is `mode=max`.
///
/// # Errors
///
/// Those of the store.
pub fn write_manifest(store: &Store, built: &Built, all: bool) -> Result<(Descriptor, usize)> {
    let steps = steps_of(store, built, all)?;
    let config = serde_json::to_vec(&steps)?;
    store.write_blob(&config)?;
    let manifest = Manifest::of_image(Descriptor::of(CONFIG, &config), steps.layers());
    Ok((store.write_manifest(&manifest)?, steps.steps.len()))
}

/// The steps that a cache has; `all` is `mode=max`.
fn steps_of(store: &Store, built: &Built, all: bool) -> Result<StepCache> {
    if all {
        return Ok(built.steps.clone());
    }
    let mut diff_ids = BTreeSet::new();
    for image in &built.images {
        diff_ids.extend(store.load_image(&image.manifest)?.config.rootfs.diff_ids);
    }
    Ok(built.steps.only(&diff_ids))
}

/// Writes a layout: first the blobs, then the index that names them. Entries with other tags stay.
fn write_layout(store: &Store, manifest: &Descriptor, path: &Path, tag: Option<&str>) -> Result<()> {
    let tag = tag.unwrap_or("latest");
    let document: Manifest = serde_json::from_slice(&store.read_descriptor(manifest)?)?;
    for blob in document.layers.iter().chain([&document.config, manifest]) {
        let target = blob_path(path, &blob.digest);
        if !target.exists() {
            write_new(&target, &mut store.open_blob(&blob.digest)?)?;
        }
    }
    let old = read_whole(&path.join("index.json"), DOCUMENT_SIZE_MAX, Kinds::Regular);
    let old = old.ok().and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
    let mut index = old.unwrap_or_else(|| Index::new(Vec::new()));
    index.manifests.retain(|entry| entry.annotations.get(REF_NAME).is_none_or(|name| name != tag));
    let mut entry = manifest.clone();
    entry.annotations.insert(REF_NAME.to_string(), tag.to_string());
    index.manifests.push(entry);
    write_new(&path.join("oci-layout"), &mut &br#"{"imageLayoutVersion":"1.0.0"}"#[..])?;
    write_new(&path.join("index.json"), &mut &index.to_bytes()[..])
}

/// Writes a file whole, or not at all.
fn write_new(path: &Path, content: &mut dyn Read) -> Result<()> {
    let directory = path.parent().expect("a file of a layout is in a directory");
    let mut write = || -> Result<()> {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        std::io::copy(content, &mut file)?;
        file.flush()?;
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}
