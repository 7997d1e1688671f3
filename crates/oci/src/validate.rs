//! Whether an image or index in a store holds together: digests, sizes, media types, `diff_id`s, history,
//! platforms.
//!
//! Everything that this program writes must pass (OCI image specification; Docker image manifest version 2,
//! schema 2).

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};

use crate::config::ImageConfig;
use crate::digest::{Digest, Hashing};
use crate::error::{Result, StoreError};
use crate::layer::compress::decoder;
use crate::layer::read::{Reader, TarError};
use crate::manifest::{Descriptor, Document, Index, Manifest};
use crate::media_type::{self, Compression};
use crate::store::Store;

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validated {
    /// Images.
    pub images: usize,
    /// Different layers.
    pub layers: usize,
    /// Index entries that are not in the store, see [`Missing`].
    pub missing: usize,
}

/// How to judge images of an index that are not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The index is not valid.
    Refuse,
    /// Other platforms were not pulled.
    Allow,
}

impl Store {
    /// Reads everything that an image or index consists of and checks it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] with what is wrong; the usual errors for missing and corrupt blobs.
    pub fn validate(&self, target: &Descriptor, missing: Missing) -> Result<Validated> {
        let mut checker =
            Checker { store: self, missing, layers: HashSet::new(), result: Validated::default() };
        checker.target(target, None)?;
        checker.result.layers = checker.layers.len();
        Ok(checker.result)
    }
}

struct Checker<'a> {
    store: &'a Store,
    missing: Missing,
    /// Checked pairs of blob and `diff_id`.
    layers: HashSet<(Digest, Digest)>,
    result: Validated,
}

fn invalid<T>(what: &Digest, problem: impl Into<String>) -> Result<T> {
    Err(StoreError::Invalid { what: what.to_string(), problem: problem.into() })
}

impl Checker<'_> {
    fn target(&mut self, target: &Descriptor, parent: Option<&Descriptor>) -> Result<()> {
        let (document, _) = self.store.read_document(target)?;
        if !target.media_type.is_empty() && document.media_type() != target.media_type {
            let (own, announced) = (document.media_type(), &target.media_type);
            return invalid(&target.digest, format!("it is {own}, its descriptor says {announced}"));
        }
        match document {
            Document::Index(index) if parent.is_none() => self.index(target, &index),
            Document::Index(_) => invalid(&target.digest, "an index inside of an index"),
            Document::Manifest(manifest) => self.image(target, &manifest),
        }
    }

    fn index(&mut self, target: &Descriptor, index: &Index) -> Result<()> {
        if index.schema_version != 2 {
            return invalid(&target.digest, format!("schema version {}", index.schema_version));
        }
        for entry in &index.manifests {
            if !self.store.contains(&entry.digest)? && self.missing == Missing::Allow {
                self.result.missing += 1;
                continue;
            }
            self.target(entry, Some(target))?;
        }
        Ok(())
    }

    fn image(&mut self, target: &Descriptor, manifest: &Manifest) -> Result<()> {
        let digest = &target.digest;
        if manifest.schema_version != 2 {
            return invalid(digest, format!("schema version {}", manifest.schema_version));
        }
        let is_config = |t: &str| matches!(t, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
        if !is_config(&manifest.config.media_type) || target.is_attestation() {
            // An artifact or attestation: its parts must be there; their meaning is not known.
            for part in manifest.layers.iter().chain([&manifest.config]) {
                self.blob(part)?;
            }
            self.result.images += 1;
            return Ok(());
        }
        let bytes = self.store.read_descriptor(&manifest.config)?;
        let config = ImageConfig::parse(&bytes)
            .map_err(|source| StoreError::Config { digest: manifest.config.digest.clone(), source })?;
        check_config(digest, manifest, &config)?;
        if let Some(platform) = &target.platform
            && !platform.matches(&config.platform())
        {
            let own = config.platform();
            return invalid(digest, format!("its index says {platform}, its configuration {own}"));
        }
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.layer(layer, diff_id)?;
        }
        self.result.images += 1;
        Ok(())
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<()> {
        let found = self.store.verify_blob(&descriptor.digest)?;
        crate::store::blob::check_size(descriptor, found)
    }

    fn layer(&mut self, layer: &Descriptor, diff_id: &Digest) -> Result<()> {
        if !self.layers.insert((layer.digest.clone(), diff_id.clone())) {
            return Ok(());
        }
        self.blob(layer)?;
        let problem = |e: io::Error| StoreError::Invalid {
            what: format!("layer {}", layer.digest),
            problem: format!("it cannot be decompressed: {e}"),
        };
        let (stream, compression) =
            decoder(self.store.open_blob(&layer.digest)?, &self.store.unpack_limit).map_err(problem)?;
        let stated = Compression::of_media_type(&layer.media_type);
        if compression != stated {
            return invalid(&layer.digest, format!("its bytes are {compression}, its type says {stated}"));
        }
        let mut stream = BufReader::with_capacity(256 * 1024, Hashing::with(stream, diff_id.hasher()));
        let mut reader = Reader::new(&mut stream);
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(TarError::Io(e)) => return Err(problem(e)),
                Err(TarError::Bad(reason)) => return invalid(&layer.digest, reason),
            }
        }
        drain(&mut stream).map_err(problem)?;
        let (_, found, _) = stream.into_inner().finish();
        if found != *diff_id {
            return invalid(
                &layer.digest,
                format!("its diff_id is {found}, the configuration says {diff_id}"),
            );
        }
        Ok(())
    }
}

fn drain(stream: &mut BufReader<impl Read>) -> io::Result<()> {
    loop {
        match stream.fill_buf()?.len() {
            0 => return Ok(()),
            n => stream.consume(n),
        }
    }
}

fn check_config(digest: &Digest, manifest: &Manifest, config: &ImageConfig) -> Result<()> {
    if config.os.is_empty() || config.architecture.is_empty() {
        return invalid(digest, "its configuration names no operating system or no architecture");
    }
    if config.rootfs.kind != "layers" {
        return invalid(digest, format!("its rootfs is of type \"{}\"", config.rootfs.kind));
    }
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return invalid(digest, format!("{layers} layers but {diff_ids} diff_ids"));
    }
    let with_layer = config.history.iter().filter(|h| h.empty_layer != Some(true)).count();
    if !config.history.is_empty() && with_layer != layers {
        return invalid(digest, format!("{layers} layers but {with_layer} entries of history with a layer"));
    }
    let is_docker = document_is_docker(manifest);
    for part in manifest.layers.iter().chain([&manifest.config]) {
        if part.media_type.starts_with("application/vnd.docker.") != is_docker {
            return invalid(digest, format!("{} in a manifest of the other kind", part.media_type));
        }
    }
    for layer in &manifest.layers {
        let known = [
            media_type::OCI_LAYER_TAR,
            media_type::OCI_LAYER_GZIP,
            media_type::OCI_LAYER_ZSTD,
            media_type::DOCKER_LAYER_TAR,
            media_type::DOCKER_LAYER_GZIP,
        ];
        if !known.contains(&layer.media_type.as_str()) {
            return invalid(digest, format!("a layer of unknown type \"{}\"", layer.media_type));
        }
    }
    Ok(())
}

fn document_is_docker(manifest: &Manifest) -> bool {
    manifest.media_type.as_deref() == Some(media_type::DOCKER_MANIFEST)
}
