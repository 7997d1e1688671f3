//! Copies images between registries, or between names of one registry, without a store in between.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Mutex;

use crossdock_oci::manifest::{Descriptor, Document, Index, MANIFEST_SIZE_MAX, Manifest, ParseDocumentError};
use crossdock_oci::{ImageConfig, Reference, media_type};
use crossdock_platform::Platform;

use super::parallel::for_each;
use super::pull::{DEPTH_MAX, Platforms, select};
use super::push::Pushed;
use super::referrers::{Referrers, WithReferrers};
use crate::client::{BlobReader, BlobSource, Client, FetchedManifest};
use crate::error::{Error, Result};
use crate::progress::{Direction, Outcome};

/// The content to copy: manifests and indexes below the top, children before parents, and their blobs.
#[derive(Default)]
struct Content {
    manifests: Vec<FetchedManifest>,
    /// Each blob with the name to read it by and its label.
    blobs: Vec<(Reference, Descriptor, String)>,
    seen: HashSet<String>,
}

/// Copies what `from` names to `to`: an index with everything that it lists, including attestations, or only
/// the images for some platforms. Several images get a new index, and so do several sources; if several have
/// an image for the same platform, the last counts. Blobs go first, the name comes last. Content that the
/// target has is not moved; within one registry, blobs are mounted. `referrers` says whether signatures and
/// SBOMs that refer to the copied images are copied, too.
///
/// # Errors
///
/// [`Error::NoPlatform`], and the errors of all registries.
pub fn copy(
    client: &Client,
    from: &[&Reference],
    to: &Reference,
    platforms: &Platforms,
    referrers: WithReferrers,
) -> Result<Pushed> {
    Assembly::of(client, from, platforms)?.push(client, to, referrers)
}

/// What a copy puts under its name, and everything below it.
pub struct Assembly {
    from: Vec<Reference>,
    content: Content,
    top: FetchedManifest,
}

impl Assembly {
    /// Reads the manifests of the sources, as [`copy`] does. Nothing is moved yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoPlatform`], and the errors of the sources' registries.
    pub fn of(client: &Client, from: &[&Reference], platforms: &Platforms) -> Result<Assembly> {
        let mut content = Content::default();
        let top = match from {
            [one] => {
                let top = chosen(client, one, platforms)?;
                content.gather(client, one, (&top, None), 0)?;
                top
            }
            several => content.joined(client, several, platforms)?,
        };
        Ok(Assembly { from: from.iter().map(|from| (*from).clone()).collect(), content, top })
    }

    /// The manifest or index that gets the name.
    pub fn top(&self) -> &FetchedManifest {
        &self.top
    }

    /// Puts an index with the same entries in place of the top, for example one with other annotations.
    pub fn with_index(self, index: Index) -> Assembly {
        Assembly { top: new_index(index), ..self }
    }

    /// Moves everything to a registry.
    ///
    /// # Errors
    ///
    /// The errors of all registries. Then the name is as it was.
    pub fn push(self, client: &Client, to: &Reference, referrers: WithReferrers) -> Result<Pushed> {
        let Assembly { from, mut content, top } = self;
        let from: Vec<&Reference> = from.iter().collect();
        let mut attached = Referrers::default();
        if referrers != WithReferrers::No {
            let subjects = content.manifests.iter().chain([&top]).map(|m| m.digest.clone()).collect();
            attached = Referrers::find(client, &from, subjects, referrers, |from, manifest| {
                content.gather(client, from, (manifest, None), 0)
            })?;
        }
        let mut pushed = content.move_all(client, to, top)?;
        pushed.referrers = attached.count();
        attached.push(client, to)?;
        Ok(pushed)
    }
}

/// The manifest or index that a source names, or its part for the wanted platforms.
fn chosen(client: &Client, from: &Reference, platforms: &Platforms) -> Result<FetchedManifest> {
    let top = client.manifest(from)?;
    let Document::Index(index) = top.document(from)? else { return Ok(top) };
    if *platforms == Platforms::All {
        return Ok(top);
    }
    let judged = |entry: &Descriptor| {
        let child = from.with_digest(entry.digest.clone());
        match client.manifest(&child)?.document(&child)? {
            Document::Manifest(manifest) => platform_of(client, from, &manifest).map(Some),
            Document::Index(_) => Ok(None),
        }
    };
    let entries = select(index.clone(), platforms, from, &judged)?;
    match &entries[..] {
        [one] => client.manifest(&from.with_digest(one.digest.clone())),
        _ => Ok(new_index(Index { manifests: entries, ..index })),
    }
}

/// A new index of the same type as the index that its entries come from.
fn new_index(index: Index) -> FetchedManifest {
    let media_type = index.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_string());
    let bytes = index.to_bytes();
    let digest = crossdock_oci::Digest::of(&bytes);
    FetchedManifest { bytes, media_type, digest }
}

impl Content {
    /// Builds an index of several sources, and gathers their content.
    fn joined(
        &mut self,
        client: &Client,
        sources: &[&Reference],
        platforms: &Platforms,
    ) -> Result<FetchedManifest> {
        let mut entries: Vec<(&Reference, Descriptor)> = Vec::new();
        for from in sources {
            let top = chosen(client, from, platforms)?;
            let own = match top.document(from)? {
                Document::Index(index) => index.manifests,
                Document::Manifest(manifest) => {
                    let platform = platform_of(client, from, &manifest)?;
                    vec![top.descriptor().with_platform(platform)]
                }
            };
            for entry in own {
                let same = |known: &Descriptor| {
                    known.digest == entry.digest
                        || (!entry.is_attestation()
                            && !known.is_attestation()
                            && known.platform == entry.platform)
                };
                entries.retain(|(_, known)| !same(known));
                entries.push((from, entry));
            }
        }
        let mut index = Index::new(entries.iter().map(|(_, entry)| entry.clone()).collect());
        index.forget_orphans();
        entries.retain(|(_, entry)| index.manifests.contains(entry));
        for (from, entry) in &entries {
            if self.seen.insert(entry.digest.to_string()) {
                let child = client.manifest(&from.with_digest(entry.digest.clone()))?;
                self.gather(client, from, (&child, entry.platform.as_ref()), 1)?;
                self.manifests.push(child);
            }
        }
        Ok(new_index(index))
    }

    /// Moves all content, then pushes the top under its name.
    fn move_all(mut self, client: &Client, to: &Reference, top: FetchedManifest) -> Result<Pushed> {
        let pushed = Mutex::new(Pushed {
            digest: top.digest.clone(),
            moved: 0,
            bytes_moved: 0,
            mounted: 0,
            existed: 0,
            referrers: 0,
        });
        let blobs = std::mem::take(&mut self.blobs);
        for_each(client.options().max_parallel, blobs, |(from, blob, label), stop| {
            stop.check()?;
            let outcome = copy_blob(client, &from, to, &blob, &label)?;
            let mut pushed = pushed.lock().unwrap_or_else(|e| e.into_inner());
            match outcome {
                Outcome::Mounted => pushed.mounted += 1,
                Outcome::Existed => pushed.existed += 1,
                Outcome::Moved | Outcome::Failed => {
                    pushed.moved += 1;
                    pushed.bytes_moved += blob.size;
                }
            }
            Ok(())
        })?;
        for manifest in &self.manifests {
            let name = to.with_digest(manifest.digest.clone());
            client.put_manifest(&name, &manifest.media_type, &manifest.bytes)?;
        }
        let found = client.put_manifest(to, &top.media_type, &top.bytes)?;
        if found.algorithm() == top.digest.algorithm() && found != top.digest {
            return Err(Error::DigestMismatch { target: to.to_string(), expected: top.digest, found });
        }
        Ok(pushed.into_inner().unwrap_or_else(|e| e.into_inner()))
    }

    fn gather(
        &mut self,
        client: &Client,
        from: &Reference,
        (top, platform): (&FetchedManifest, Option<&Platform>),
        depth: u32,
    ) -> Result<()> {
        let label = |part: &str| Direction::Copy.label(platform, part);
        match top.document(from)? {
            Document::Manifest(manifest) => {
                let count = manifest.layers.len();
                self.blob(from, &manifest.config, label("config"));
                for (index, layer) in manifest.layers.iter().enumerate() {
                    self.blob(from, layer, label(&format!("layer {}/{count}", index + 1)));
                }
            }
            Document::Index(_) if depth == DEPTH_MAX => {
                return Err(Error::Manifest {
                    target: from.to_string(),
                    source: ParseDocumentError::Neither(Some(
                        "indexes within indexes without end".to_string(),
                    )),
                });
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    if self.seen.insert(entry.digest.to_string()) {
                        let child = client.manifest(&from.with_digest(entry.digest.clone()))?;
                        self.gather(client, from, (&child, entry.platform.as_ref()), depth + 1)?;
                        self.manifests.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    fn blob(&mut self, from: &Reference, blob: &Descriptor, label: String) {
        if self.seen.insert(blob.digest.to_string()) {
            self.blobs.push((from.clone(), blob.clone(), label));
        }
    }
}

/// The platform that an image's configuration names.
fn platform_of(client: &Client, from: &Reference, manifest: &Manifest) -> Result<Platform> {
    let mut bytes = Vec::new();
    let mut reader = client.blob(from, &manifest.config, 0)?.take(MANIFEST_SIZE_MAX);
    reader.read_to_end(&mut bytes).map_err(BlobReader::error)?;
    let config = ImageConfig::parse(&bytes).map_err(|source| Error::Manifest {
        target: from.to_string(),
        source: ParseDocumentError::Json(source),
    })?;
    Ok(config.platform())
}

/// A blob of a registry that is read while it is uploaded.
struct RemoteSource<'a> {
    client: &'a Client,
    reference: &'a Reference,
    blob: &'a Descriptor,
}

impl BlobSource for RemoteSource<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let reader = self.client.blob(self.reference, self.blob, offset).map_err(io::Error::other)?;
        Ok(Box::new(reader))
    }
}

fn copy_blob(
    client: &Client,
    from: &Reference,
    to: &Reference,
    blob: &Descriptor,
    label: &str,
) -> Result<Outcome> {
    let progress = &client.options().progress;
    let id = blob.digest.as_str();
    progress.start(id, label, blob.size);
    let source = RemoteSource { client, reference: from, blob };
    let same = from.registry() == to.registry();
    let mount_from: Vec<String> = same.then(|| from.repository().to_string()).into_iter().collect();
    let mut result = client.put_blob(to, blob, &source, &mount_from);
    // Foreign layers need not be in the registry.
    if !blob.urls.is_empty() && result.is_err() && client.head_blob(from, &blob.digest)?.is_none() {
        result = Ok(Outcome::Existed);
    }
    progress.done(id, result.as_ref().copied().unwrap_or(Outcome::Failed));
    result
}
