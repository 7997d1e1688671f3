//! What the attestations in an index say, as `docker buildx imagetools inspect` shows it (buildx's reference,
//! "buildx imagetools inspect", --format).

use std::io::Read;

use anyhow::{Context, Result, bail};
use crossdock_delivery::attest::statement::{PREDICATE_TYPE, SLSA, SPDX, STATEMENT};
use crossdock_oci::{Descriptor, Document, Index, Manifest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::Client;
use serde_json::{Map, Value, json};

/// The largest statement that is read, in bytes.
const STATEMENT_SIZE_MAX: u64 = 64 << 20;

/// Where the parts of an index are: the store, or else the registry.
pub struct Places<'a> {
    /// The store.
    pub store: &'a Store,
    /// The registry.
    pub client: &'a Client,
    /// The index's name.
    pub reference: &'a Reference,
}

/// What attestations say of one image.
struct Said {
    platform: String,
    provenance: Value,
    sbom: Value,
}

/// `.Provenance` and `.SBOM`: of the only image, else by platform.
///
/// # Errors
///
/// An attestation cannot be read.
pub fn provenance_and_sbom(places: &Places<'_>, index: &Index) -> Result<(Value, Value)> {
    let mut all = Vec::new();
    for image in index.images() {
        all.push(said(places, index, image)?);
    }
    if let [only] = &all[..] {
        return Ok((only.provenance.clone(), only.sbom.clone()));
    }
    let by_platform = |of: fn(&Said) -> &Value| -> Value {
        let there = all.iter().filter(|said| of(said).as_object().is_some_and(|value| !value.is_empty()));
        let map: Map<String, Value> = there.map(|said| (said.platform.clone(), of(said).clone())).collect();
        Value::Object(map)
    };
    Ok((by_platform(|said| &said.provenance), by_platform(|said| &said.sbom)))
}

/// The only image of an index of the store, if the store has it and lacks attestations of it, as after a pull
/// of one platform.
///
/// # Errors
///
/// The store cannot be read.
pub fn image_without_attestations(store: &Store, target: &Descriptor) -> Result<Option<Descriptor>> {
    let Document::Index(index) = store.read_document(target)?.0 else { return Ok(None) };
    let images: Vec<&Descriptor> = index.images().collect();
    let [image] = images[..] else { return Ok(None) };
    let mut is_missing = false;
    for entry in index.manifests.iter().filter(|entry| entry.is_attestation()) {
        is_missing |= !store.contains(&entry.digest)?;
    }
    Ok((is_missing && store.contains(&image.digest)?).then(|| image.clone()))
}

fn said(places: &Places<'_>, index: &Index, image: &Descriptor) -> Result<Said> {
    let (mut provenance, mut documents) = (json!({}), Vec::new());
    let about_it = index.manifests.iter().filter(|entry| entry.attests() == Some(image.digest.as_str()));
    for entry in about_it {
        for layer in places.manifest(entry)?.layers.iter().filter(|layer| layer.media_type == STATEMENT) {
            let Some(kind) = layer.annotations.get(PREDICATE_TYPE) else { continue };
            if kind.starts_with(SLSA) {
                provenance = json!({"SLSA": places.predicate(layer)?});
            } else if kind == SPDX {
                documents.push(places.predicate(layer)?);
            }
        }
    }
    let mut documents = documents.into_iter();
    let mut sbom = documents.next().map_or_else(|| json!({}), |first| json!({"SPDX": first}));
    if documents.len() > 0 {
        sbom["AdditionalSPDXs"] = documents.collect();
    }
    let platform = image.platform.as_ref().map(Platform::normalised);
    let platform = platform.map_or("unknown".to_string(), |platform| platform.to_string());
    Ok(Said { platform, provenance, sbom })
}

impl Places<'_> {
    fn manifest(&self, entry: &Descriptor) -> Result<Manifest> {
        let child = self.reference.with_digest(entry.digest.clone());
        let bytes = match self.store.contains(&entry.digest)? {
            true => self.store.read_descriptor(entry)?,
            false => self.client.manifest(&child)?.bytes,
        };
        match Document::parse(&bytes, Some(&entry.media_type))? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => bail!("{child}: an attestation is a manifest, and this is an index"),
        }
    }

    /// What the statement in a layer says of its subject.
    fn predicate(&self, layer: &Descriptor) -> Result<Value> {
        let reading = || format!("read the attestation {}", layer.digest);
        if layer.size > STATEMENT_SIZE_MAX {
            bail!("{}: {} bytes, the limit is {STATEMENT_SIZE_MAX}", reading(), layer.size);
        }
        let mut bytes = Vec::new();
        let read = match self.store.contains(&layer.digest)? {
            true => self.store.open_blob(&layer.digest)?.take(STATEMENT_SIZE_MAX).read_to_end(&mut bytes),
            false => {
                let blob = self.client.blob(self.reference, layer, 0)?;
                blob.take(STATEMENT_SIZE_MAX).read_to_end(&mut bytes)
            }
        };
        read.with_context(reading)?;
        let mut statement: Value = serde_json::from_slice(&bytes).with_context(reading)?;
        Ok(statement["predicate"].take())
    }
}
