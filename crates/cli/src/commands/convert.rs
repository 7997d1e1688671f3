//! Images with other media types or another compression of layers: `--format` and `--dest-compress-format` of
//! skopeo copy, and the same of podman push. Configurations stay as they are, and so do image ids.

use std::collections::HashMap;

use anyhow::{Result, bail};
use crossdock_oci::media_type::{self, Compression};
use crossdock_oci::store::LayerOptions;
use crossdock_oci::{Descriptor, Digest, Document, Manifest, Store};

/// Whose media types manifests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    Oci,
    Docker,
}

/// What an image is converted to; what is not given stays.
#[derive(Clone, Debug, Default)]
pub struct Form {
    pub types: Option<Types>,
    pub compression: Option<Compression>,
    /// Of the compression: gzip 0 to 9, zstd 1 to 22.
    pub level: Option<u32>,
}

/// Reads the name of a compression.
///
/// # Errors
///
/// Anything but gzip, zstd and none.
pub fn compression(text: &str) -> Result<Compression, String> {
    Ok(match text {
        "gzip" => Compression::Gzip,
        "zstd" | "zstd:chunked" => Compression::Zstd,
        "none" | "uncompressed" => Compression::None,
        _ => return Err("it is gzip, zstd or none".to_string()),
    })
}

/// Reads the name of a manifest's type as skopeo and podman have them.
///
/// # Errors
///
/// Anything but oci and v2s2; images of v2s1 are no longer read by anybody.
pub fn types(text: &str) -> Result<Types, String> {
    Ok(match text {
        "oci" => Types::Oci,
        "v2s2" | "docker" => Types::Docker,
        "v2s1" => return Err("manifests of Docker's first schema are not written: use v2s2".to_string()),
        _ => return Err("it is oci or v2s2".to_string()),
    })
}

impl Form {
    /// Whether anything is asked for.
    pub fn changes_something(&self) -> bool {
        self.types.is_some() || self.compression.is_some()
    }

    /// The image or index in this form; what it consists of must be in the store, images of an index may be
    /// missing.
    ///
    /// # Errors
    ///
    /// Docker's types with layers in zstd; errors of the store.
    pub fn of(&self, store: &Store, target: &Descriptor) -> Result<Descriptor> {
        if !self.changes_something() {
            return Ok(target.clone());
        }
        self.converted(store, target, &mut HashMap::new())
    }

    fn converted(
        &self,
        store: &Store,
        target: &Descriptor,
        packed: &mut HashMap<Digest, Descriptor>,
    ) -> Result<Descriptor> {
        let (document, before) = store.read_document(target)?;
        let (bytes, kind) = match document {
            Document::Manifest(manifest) => {
                let manifest = self.manifest(store, manifest, packed)?;
                let kind =
                    manifest.media_type.clone().unwrap_or_else(|| media_type::OCI_MANIFEST.to_string());
                (manifest.to_bytes(), kind)
            }
            Document::Index(mut index) => {
                for entry in &mut index.manifests {
                    if store.contains(&entry.digest)? {
                        *entry = self.converted(store, entry, packed)?;
                    }
                }
                if let Some(types) = self.types {
                    let kind =
                        if types == Types::Oci { media_type::OCI_INDEX } else { media_type::DOCKER_LIST };
                    index.media_type = Some(kind.to_string());
                }
                let kind = index.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_string());
                (index.to_bytes(), kind)
            }
        };
        if kind == target.media_type
            && serde_json::from_slice::<serde_json::Value>(&bytes).ok()
                == serde_json::from_slice(&before).ok()
        {
            // The same content keeps its digest, however its text was written.
            return Ok(target.clone());
        }
        store.write_blob(&bytes)?;
        let made = Descriptor::of(&kind, &bytes);
        Ok(Descriptor { platform: target.platform.clone(), annotations: target.annotations.clone(), ..made })
    }

    fn manifest(
        &self,
        store: &Store,
        mut manifest: Manifest,
        packed: &mut HashMap<Digest, Descriptor>,
    ) -> Result<Manifest> {
        let is_image =
            matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
        if !is_image {
            return Ok(manifest);
        }
        if let Some(compression) = self.compression {
            let options = LayerOptions { compression, level: self.level, ..LayerOptions::default() };
            for layer in &mut manifest.layers {
                if !packed.contains_key(&layer.digest) {
                    let made = store.repack_layer(layer, &options)?;
                    packed.insert(layer.digest.clone(), made);
                }
                let made = packed[&layer.digest].clone();
                *layer = Descriptor { annotations: layer.annotations.clone(), ..made };
            }
        }
        let is_docker = manifest.media_type.as_deref() == Some(media_type::DOCKER_MANIFEST);
        match self.types.unwrap_or(if is_docker { Types::Docker } else { Types::Oci }) {
            Types::Oci => {
                manifest.media_type = Some(media_type::OCI_MANIFEST.to_string());
                manifest.config.media_type = media_type::OCI_CONFIG.to_string();
                for layer in &mut manifest.layers {
                    layer.media_type = Compression::of_media_type(&layer.media_type).oci_layer().to_string();
                }
            }
            Types::Docker => {
                manifest.media_type = Some(media_type::DOCKER_MANIFEST.to_string());
                manifest.config.media_type = media_type::DOCKER_CONFIG.to_string();
                manifest.annotations.clear();
                for layer in &mut manifest.layers {
                    layer.media_type = match Compression::of_media_type(&layer.media_type) {
                        Compression::Gzip => media_type::DOCKER_LAYER_GZIP.to_string(),
                        Compression::None => media_type::DOCKER_LAYER_TAR.to_string(),
                        Compression::Zstd => {
                            bail!("Docker has no media type for zstd: ask for gzip, too, or for --format oci")
                        }
                    };
                }
            }
        }
        Ok(manifest)
    }
}
