//! Manifests, indexes and the descriptors in them: OCI image specification `descriptor.md`, `manifest.md` and
//! `image-index.md`; Docker image manifest version 2, schema 2, has the same shape under other media types.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_platform::Platform;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::null_is_default;
use crate::digest::Digest;
use crate::media_type;

/// Manifests larger than this, in bytes, are refused, as registries do.
pub const MANIFEST_SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Annotation of an index entry that is an attestation: the digest of the image that it is about (BuildKit,
/// docs/attestations/attestation-storage.md; also the next two).
pub const ATTESTED_DIGEST: &str = "vnd.docker.reference.digest";
/// Annotation of an index entry: what it is besides an image.
pub const ATTESTATION_TYPE: &str = "vnd.docker.reference.type";
/// The value of [`ATTESTATION_TYPE`] of attestations.
pub const ATTESTATION: &str = "attestation-manifest";

/// Annotations: sorted, so that equal content has equal bytes.
pub type Annotations = BTreeMap<String, String>;

/// A pointer to content: type, digest and size, with all other members kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content's bytes.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// Other places to fetch the content from.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Annotations of the pointer, not of the content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: Annotations,
    /// Platform of the image, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Type of the artifact that a referrers list points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Members that this program does not know, kept when an index is edited.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor of `bytes` under `media_type`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// A descriptor with only the three required members; `size` in bytes.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_string(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            extra: Map::new(),
        }
    }

    /// This descriptor with a platform.
    pub fn with_platform(mut self, platform: Platform) -> Descriptor {
        self.platform = Some(platform);
        self
    }

    /// The digest of the image that this index entry is an attestation of.
    pub fn attests(&self) -> Option<&str> {
        self.annotations.get(ATTESTED_DIGEST).map(String::as_str)
    }

    /// Whether BuildKit marked this index entry as an attestation, which is not an image to run.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get(ATTESTATION_TYPE).is_some_and(|kind| kind == ATTESTATION)
            || self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }
}

/// A manifest of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// OCI or Docker manifest type; may be absent in OCI manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, where the manifest is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one belongs to (referrers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: Annotations,
}

/// An index (or Docker manifest list): one manifest per platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// OCI index or Docker list type; may be absent in OCI indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, where the index is not of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries in order.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one belongs to (referrers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: Annotations,
}

impl Manifest {
    /// An OCI manifest of a configuration and layers.
    pub fn of_image(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_string()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Bytes of all layers as the manifest states them; a hostile one may state anything.
    pub fn layers_size(&self) -> u64 {
        self.layers.iter().fold(0, |all, layer| all.saturating_add(layer.size))
    }

    /// Bytes of all layers and the configuration, as the manifest states them.
    pub fn size(&self) -> u64 {
        self.layers_size().saturating_add(self.config.size)
    }

    /// The bytes to store: compact JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("string keys always serialise")
    }
}

impl Index {
    /// The bytes to store: compact JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("string keys always serialise")
    }

    /// An OCI index of the given entries.
    pub fn new(manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_string()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Removes attestations of images that the index does not list.
    pub fn forget_orphans(&mut self) {
        let images: BTreeSet<String> = self.images().map(|image| image.digest.to_string()).collect();
        self.manifests.retain(|entry| entry.attests().is_none_or(|image| images.contains(image)));
    }

    /// Entries that are images, attestations left out.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|d| !d.is_attestation())
    }

    /// The entry for this machine if no platform was asked for: the best that it runs, see
    /// [`Platform::best_to_run`], else the only image of the index.
    pub fn select_for_machine(&self) -> Option<&Descriptor> {
        let images: Vec<&Descriptor> = self.images().collect();
        let known: Vec<&Descriptor> = images.iter().filter(|d| d.platform.is_some()).copied().collect();
        let best = Platform::machine().best_to_run(known.iter().filter_map(|d| d.platform.as_ref()));
        match (best, &images[..]) {
            (Some(best), _) => Some(known[best]),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// The entry that serves `platform` best, see [`Platform::rank`]. An entry without a platform serves only
    /// when it is the sole image of the index.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let images: Vec<&Descriptor> = self.images().collect();
        if let [only] = images[..]
            && only.platform.is_none()
        {
            return Some(only);
        }
        images
            .into_iter()
            .enumerate()
            .filter_map(|(i, d)| Some((platform.rank(d.platform.as_ref()?)?, i, d)))
            .min_by_key(|(rank, i, _)| (*rank, *i))
            .map(|(_, _, d)| d)
    }
}

/// Either kind of document that a reference can name.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // few exist at a time, and matching without a box reads better
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several images.
    Index(Index),
}

/// Why bytes are not a manifest or index that this program can use.
#[derive(Debug, thiserror::Error)]
pub enum ParseDocumentError {
    /// Not JSON, or members of the wrong kind.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Schema 1 of 2014, which no registry should send any more.
    #[error(
        "a Docker schema 1 manifest, which is not supported: convert the image to Docker schema 2 or OCI"
    )]
    Schema1,
    /// Neither `config` nor `manifests`, or both.
    #[error("neither an image manifest nor an index ({})", .0.as_deref().unwrap_or("no media type"))]
    Neither(Option<String>),
    /// The media type of the transport or descriptor contradicts that in the document.
    #[error("announced as {announced} but the document says {found}")]
    TypeMismatch {
        /// Type by `Content-Type` or descriptor.
        announced: String,
        /// Type in the document.
        found: String,
    },
    /// Larger than [`MANIFEST_SIZE_MAX`].
    #[error("a manifest of {0} bytes is larger than the limit of 4 MiB")]
    TooLarge(u64),
}

impl Document {
    /// Reads a manifest or index; `announced` is the type its descriptor or `Content-Type` gave, if any.
    ///
    /// The kind is decided by the document's own `mediaType`, else by its members, and must not contradict a
    /// known announced type (OCI image specification, `manifest.md`, on content-type confusion).
    pub fn parse(bytes: &[u8], announced: Option<&str>) -> Result<Document, ParseDocumentError> {
        if bytes.len() as u64 > MANIFEST_SIZE_MAX {
            return Err(ParseDocumentError::TooLarge(bytes.len() as u64));
        }
        let value: Value = serde_json::from_slice(bytes)?;
        if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
            return Err(ParseDocumentError::Schema1);
        }
        let found = value.get("mediaType").and_then(Value::as_str).map(str::to_string);
        // Programs in Go write an empty list as null; a null config counts as missing.
        let has_config = value.get("config").is_some_and(|config| !config.is_null());
        let has_list = value.get("manifests").is_some_and(|list| !has_config || !list.is_null());
        let is_index = match (has_config, has_list) {
            (true, false) => false,
            (false, true) => true,
            _ => return Err(ParseDocumentError::Neither(found)),
        };
        for stated in [announced, found.as_deref()].into_iter().flatten() {
            let contradicts =
                if is_index { media_type::is_manifest(stated) } else { media_type::is_index(stated) };
            if contradicts {
                return Err(ParseDocumentError::TypeMismatch {
                    announced: stated.to_string(),
                    found: if is_index { "an index".into() } else { "a manifest of one image".into() },
                });
            }
        }
        Ok(if is_index {
            Document::Index(serde_json::from_value(value)?)
        } else {
            Document::Manifest(serde_json::from_value(value)?)
        })
    }

    /// The media type of the document; the OCI type of its kind where it names none.
    pub fn media_type(&self) -> &str {
        match self {
            Document::Manifest(m) => m.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST),
            Document::Index(i) => i.media_type.as_deref().unwrap_or(media_type::OCI_INDEX),
        }
    }

    /// Descriptors that the document points to: config and layers, or the entries of an index.
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Document::Manifest(m) => std::iter::once(&m.config).chain(&m.layers).collect(),
            Document::Index(i) => i.manifests.iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str) -> Descriptor {
        Descriptor::of(media_type::OCI_MANIFEST, platform.as_bytes())
            .with_platform(platform.parse().expect("a valid platform"))
    }

    #[test]
    fn selects_the_best_platform_and_no_attestation() {
        let mut attestation = entry("linux/amd64");
        attestation.annotations.insert(ATTESTATION_TYPE.into(), ATTESTATION.into());
        let index = Index::new(vec![
            attestation,
            entry("linux/arm/v6"),
            entry("linux/arm/v7"),
            entry("linux/arm64/v8"),
        ]);
        let pick = |p: &str| {
            index.select(&p.parse().expect("valid")).map(|d| d.platform.clone().expect("set").to_string())
        };
        assert_eq!(pick("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(pick("linux/arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(pick("linux/amd64"), None);
    }

    #[test]
    fn attestations_go_with_their_images() {
        let image = entry("linux/amd64");
        let about = |digest: &str| {
            let mut attestation = Descriptor::of(media_type::OCI_MANIFEST, digest.as_bytes());
            attestation.annotations.insert(ATTESTED_DIGEST.into(), digest.into());
            attestation.annotations.insert(ATTESTATION_TYPE.into(), ATTESTATION.into());
            attestation
        };
        let kept = about(image.digest.as_str());
        let mut index = Index::new(vec![image.clone(), kept.clone(), about("sha256:gone")]);
        index.forget_orphans();
        assert_eq!(index.manifests, [image, kept]);
    }

    #[test]
    fn unknown_members_of_a_descriptor_survive() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{}","size":1,"x":{{"y":1}}}}]}}"#,
            media_type::OCI_INDEX,
            media_type::OCI_MANIFEST,
            Digest::of(b"a")
        );
        let Document::Index(index) = Document::parse(text.as_bytes(), None).expect("an index") else {
            panic!("an index was written");
        };
        assert_eq!(serde_json::to_string(&index).expect("serialises"), text);
    }

    #[test]
    fn lists_may_be_null() {
        let config = r#"{"mediaType":"x","digest":"DIGEST","size":2,"urls":null,"annotations":null}"#
            .replace("DIGEST", Digest::of(b"{}").as_str());
        for members in ["\"layers\":null,\"annotations\":null", "\"manifests\":null", "\"subject\":null"] {
            let text = format!("{{\"schemaVersion\":2,\"config\":{config},{members}}}");
            let Document::Manifest(manifest) = Document::parse(text.as_bytes(), None).expect(members) else {
                panic!("{members}: taken for an index");
            };
            assert_eq!((manifest.layers.len(), manifest.subject.is_none()), (0, true));
        }
        let text = br#"{"schemaVersion":2,"config":null,"manifests":null,"annotations":null}"#;
        let Document::Index(index) = Document::parse(text, None).expect("an index") else {
            panic!("taken for a manifest");
        };
        assert!(index.manifests.is_empty());
        let error = Document::parse(br#"{"schemaVersion":2,"config":null}"#, None).expect_err("neither");
        assert_eq!(error.to_string(), "neither an image manifest nor an index (no media type)");
    }

    #[test]
    fn kinds_are_not_confused() {
        let index = serde_json::to_vec(&Index::new(vec![])).expect("serialises");
        assert!(Document::parse(&index, Some(media_type::OCI_INDEX)).is_ok());
        assert!(Document::parse(&index, Some(media_type::OCI_MANIFEST)).is_err());
        assert!(Document::parse(b"{}", None).is_err());
        assert!(Document::parse(b"<html>", None).is_err());
        assert!(matches!(Document::parse(br#"{"schemaVersion":1}"#, None), Err(ParseDocumentError::Schema1)));
    }
}
