//! How attestations are stored: in-toto statements as layers of a manifest, which the index lists beside the
//! image (BuildKit, docs/attestations/attestation-storage.md; in-toto, Statement v1).

use anyhow::{Context, Result, bail};
use crossdock_builder::Built;
use crossdock_oci::manifest::{ATTESTATION, ATTESTATION_TYPE, ATTESTED_DIGEST, Annotations};
use crossdock_oci::{Descriptor, Digest, Document, Index, Manifest, Reference, Store, media_type};
use crossdock_platform::Platform;
use serde_json::{Value, json};

use super::purl;

/// Media type of a statement.
pub const STATEMENT: &str = "application/vnd.in-toto+json";
/// Type of a manifest of attestations that is an artifact.
pub const ARTIFACT: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// Annotation of a layer: what its statement says.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// Predicate type of a list of packages in SPDX (in-toto, "SPDX predicate").
pub const SPDX: &str = "https://spdx.dev/Document";
/// What the predicate types of all versions of SLSA's provenance begin with.
pub const SLSA: &str = "https://slsa.dev/provenance/";

/// What one attestation says, about whatever it is attached to.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// Address of the predicate's definition.
    pub predicate_type: String,
    /// What is said.
    pub predicate: Value,
    /// Its file's name in outputs of files.
    pub file_name: String,
    /// Whether outputs of files leave it out.
    pub inline_only: bool,
}

/// What a statement is about.
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Digest of its content.
    pub digest: Digest,
}

impl Attestation {
    /// The statement about these subjects.
    pub fn statement(&self, subjects: &[Subject]) -> Value {
        let subject = |subject: &Subject| json!({"name": subject.name, "digest": {subject.digest.algorithm(): subject.digest.hex()}});
        json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": self.predicate_type,
            "subject": subjects.iter().map(subject).collect::<Vec<_>>(),
            "predicate": self.predicate,
        })
    }
}

/// The subjects of an image's statements: its manifest under each of its names, or under `_` without one.
pub fn image_subjects(names: &[Reference], platform: &Platform, manifest: &Digest) -> Vec<Subject> {
    let mut all: Vec<String> = Vec::new();
    for name in names.iter().map(|name| purl::image("docker", name, Some(platform))) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if all.is_empty() {
        all.push("_".to_string());
    }
    all.into_iter().map(|name| Subject { name, digest: manifest.clone() }).collect()
}

/// Makes an index of a result that has none, so that attestations have a place.
///
/// # Errors
///
/// The store cannot be written.
pub fn give_index(store: &Store, built: &mut Built) -> Result<()> {
    if built.index.is_none() {
        let index = Index::new(built.images.iter().map(|image| image.manifest.clone()).collect());
        built.put_index(store, &index)?;
    }
    Ok(())
}

/// Adds the attestations of each image to the index; `all` has them in the order of the images. With
/// `as_artifact` their manifests are artifacts that have the image as subject (OCI image specification,
/// `manifest.md`), else they have a configuration as images do.
///
/// # Errors
///
/// The result has no OCI index, or the store cannot be read or written.
pub fn attach(
    store: &Store,
    built: &mut Built,
    all: &[Vec<Attestation>],
    names: &[Reference],
    as_artifact: bool,
) -> Result<()> {
    let descriptor = built.index.clone().context("attestations need an index")?;
    let Document::Index(mut index) = store.read_document(&descriptor)?.0 else {
        bail!("{}: attestations need an index, and this is the manifest of an image", descriptor.digest);
    };
    for (image, attestations) in built.images.iter().zip(all).filter(|(_, all)| !all.is_empty()) {
        let subjects = image_subjects(names, &image.platform, &image.manifest.digest);
        let about =
            Descriptor::new(&image.manifest.media_type, image.manifest.digest.clone(), image.manifest.size);
        let mut entry = put_manifest(store, attestations, &subjects, as_artifact.then_some(about))?;
        entry.annotations = Annotations::from([
            (ATTESTED_DIGEST.to_string(), image.manifest.digest.to_string()),
            (ATTESTATION_TYPE.to_string(), ATTESTATION.to_string()),
        ]);
        index.manifests.push(entry);
    }
    built.put_index(store, &index)?;
    // Annotations of the index's entry in an OCI layout.
    built.index.as_mut().expect("set above").annotations = descriptor.annotations;
    Ok(())
}

/// Writes the manifest of an image's attestations, and returns its entry for the index. With `about` it is an
/// artifact about that image.
fn put_manifest(
    store: &Store,
    attestations: &[Attestation],
    subjects: &[Subject],
    about: Option<Descriptor>,
) -> Result<Descriptor> {
    let mut layers = Vec::new();
    for attestation in attestations {
        let bytes =
            serde_json::to_vec(&attestation.statement(subjects)).expect("string keys always serialise");
        store.write_blob(&bytes)?;
        let mut layer = Descriptor::of(STATEMENT, &bytes);
        layer.annotations.insert(PREDICATE_TYPE.to_string(), attestation.predicate_type.clone());
        layers.push(layer);
    }
    let config = match &about {
        Some(_) => json!({}),
        None => {
            let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
            json!({
                "architecture": "unknown", "os": "unknown", "config": {},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            })
        }
    };
    let config = serde_json::to_vec(&config).expect("string keys always serialise");
    store.write_blob(&config)?;
    let kind = if about.is_some() { media_type::OCI_EMPTY } else { media_type::OCI_CONFIG };
    let manifest = Manifest {
        artifact_type: about.as_ref().map(|_| ARTIFACT.to_string()),
        subject: about,
        ..Manifest::of_image(Descriptor::of(kind, &config), layers)
    };
    let unknown = Platform::new("unknown", "unknown", None);
    Ok(store.write_manifest(&manifest)?.with_platform(unknown))
}
