//! Manifests in the registry's directory, with their tags and referrers.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use crossdock_oci::digest::Hasher;
use crossdock_oci::manifest::{Descriptor, Document, MANIFEST_SIZE_MAX, ParseDocumentError};
use crossdock_oci::{Digest, Manifest};

use super::{Storage, Writing, found, names_in};
use crate::server::reply::Problem;
use crate::server::route::Identifier;

/// A manifest as it is stored.
#[derive(Clone)]
pub(in crate::server) struct StoredManifest {
    pub(in crate::server) digest: Digest,
    pub(in crate::server) media_type: String,
    pub(in crate::server) bytes: Vec<u8>,
}

impl Storage {
    /// Stores a manifest whose parts are stored already, and points the tags at it. Returns the digests of
    /// the manifest and of its subject. Without `expected` the digest is a SHA-256.
    pub(in crate::server) fn put_manifest(
        &self,
        _: &Writing,
        name: &str,
        expected: Option<&Digest>,
        tags: &[String],
        announced: Option<&str>,
        bytes: &[u8],
    ) -> Result<(Digest, Option<Digest>), Problem> {
        let invalid = |message: String| Problem::new(400, "MANIFEST_INVALID", message);
        let document = Document::parse(bytes, announced).map_err(|e| invalid(e.to_string()))?;
        let media_type = document.media_type();
        // Readers will get the announced type, so it must be the document's type.
        if let Some(announced) = announced.filter(|announced| *announced != media_type) {
            let found = ParseDocumentError::TypeMismatch {
                announced: announced.to_string(),
                found: media_type.to_string(),
            };
            return Err(invalid(found.to_string()));
        }
        let mut hasher = expected.map_or_else(Hasher::sha256, Digest::hasher);
        hasher.update(bytes);
        let digest = hasher.finish();
        if expected.is_some_and(|expected| *expected != digest) {
            let message = format!("the manifest has digest {digest}");
            return Err(Problem::new(400, "DIGEST_INVALID", message));
        }
        self.check_children(name, &document)?;
        for tag in tags {
            self.check_tag(name, tag, &digest)?;
        }
        let blob = self.blob_path(&digest);
        if !blob.exists() {
            self.write_file(&blob, bytes)?;
        }
        self.write_file(&self.in_repository(name, "_manifests", &digest), media_type.as_bytes())?;
        let subject = subject_of(&document).map(|subject| subject.digest.clone());
        if let Some(subject) = &subject {
            self.write_file(&self.referrer_path(name, subject, &digest), b"")?;
        }
        for tag in tags {
            self.write_tag(name, tag, &digest)?;
        }
        Ok((digest, subject))
    }

    /// Stores a manifest of another registry; its parts need not be stored here.
    pub(in crate::server) fn keep_manifest(
        &self,
        _: &Writing,
        name: &str,
        tag: Option<&str>,
        manifest: &StoredManifest,
    ) -> io::Result<()> {
        let digest = &manifest.digest;
        self.write_file(&self.blob_path(digest), &manifest.bytes)?;
        self.write_file(&self.in_repository(name, "_manifests", digest), manifest.media_type.as_bytes())?;
        if let Ok(document) = Document::parse(&manifest.bytes, None)
            && let Some(subject) = subject_of(&document)
        {
            self.write_file(&self.referrer_path(name, &subject.digest, digest), b"")?;
        }
        if let Some(tag) = tag {
            self.write_file(&self.tag_path(name, tag), digest.as_str().as_bytes())?;
        }
        Ok(())
    }

    /// Fails if the tag names another manifest and must not be moved.
    fn check_tag(&self, name: &str, tag: &str, digest: &Digest) -> Result<(), Problem> {
        match self.tag(name, tag)? {
            Some(there) if self.immutable_tags && there != *digest => Err(immutable(tag)),
            _ => Ok(()),
        }
    }

    fn write_tag(&self, name: &str, tag: &str, digest: &Digest) -> Result<(), Problem> {
        let path = self.tag_path(name, tag);
        if !self.immutable_tags {
            return Ok(self.write_file(&path, digest.as_str().as_bytes())?);
        }
        // Another push may have set the tag meanwhile.
        match self.write_new_file(&path, digest.as_str().as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.check_tag(name, tag, digest),
            other => Ok(other?),
        }
    }

    fn check_children(&self, name: &str, document: &Document) -> Result<(), Problem> {
        let is_index = matches!(document, Document::Index(_));
        for child in document.children() {
            let size = match is_index {
                true => {
                    let known = self.in_repository(name, "_manifests", &child.digest).exists();
                    if known {
                        found(fs::metadata(self.blob_path(&child.digest)))?.map(|m| m.len())
                    } else {
                        None
                    }
                }
                false => self.blob_size(name, &child.digest)?,
            };
            match size {
                Some(size) if size != child.size => {
                    let message = format!("{} has {size} bytes and not {}", child.digest, child.size);
                    return Err(Problem::new(400, "MANIFEST_INVALID", message));
                }
                Some(_) => {}
                // Foreign layers are stored elsewhere.
                None if self.sparse || !child.urls.is_empty() => {}
                None => {
                    let code = if is_index { "MANIFEST_UNKNOWN" } else { "MANIFEST_BLOB_UNKNOWN" };
                    return Err(Problem::new(
                        404,
                        code,
                        format!("{} is not in this repository", child.digest),
                    ));
                }
            }
        }
        Ok(())
    }

    pub(in crate::server) fn manifest(
        &self,
        name: &str,
        identifier: &Identifier,
    ) -> io::Result<Option<StoredManifest>> {
        let digest = match identifier {
            Identifier::Digest(digest) => digest.clone(),
            Identifier::Tag(tag) => match self.tag(name, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let link = self.in_repository(name, "_manifests", &digest);
        let Some(media_type) = found(fs::read_to_string(link))? else { return Ok(None) };
        let bytes = found(fs::read(self.blob_path(&digest)))?;
        Ok(bytes.map(|bytes| StoredManifest { digest, media_type, bytes }))
    }

    fn tag_path(&self, name: &str, tag: &str) -> PathBuf {
        self.repository(name).join("_tags").join(tag)
    }

    pub(in crate::server) fn tag(&self, name: &str, tag: &str) -> io::Result<Option<Digest>> {
        let text = found(fs::read_to_string(self.tag_path(name, tag)))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// Deletes a tag, or a manifest with all its tags; false if there was none.
    pub(in crate::server) fn delete_manifest(
        &self,
        _: &Writing,
        name: &str,
        identifier: &Identifier,
    ) -> Result<bool, Problem> {
        let digest = match identifier {
            Identifier::Tag(tag) if self.immutable_tags && self.tag(name, tag)?.is_some() => {
                return Err(immutable_for_deletion(tag));
            }
            Identifier::Tag(tag) => {
                return Ok(found(fs::remove_file(self.tag_path(name, tag)))?.is_some());
            }
            Identifier::Digest(digest) => digest,
        };
        let Some(stored) = self.manifest(name, identifier)? else { return Ok(false) };
        self.may_be_deleted(name, digest)?;
        for tag in self.tags(name)?.unwrap_or_default() {
            if self.tag(name, &tag)?.as_ref() == Some(digest) {
                found(fs::remove_file(self.tag_path(name, &tag)))?;
            }
        }
        if let Ok(document) = Document::parse(&stored.bytes, None)
            && let Some(subject) = subject_of(&document)
        {
            found(fs::remove_file(self.referrer_path(name, &subject.digest, digest)))?;
        }
        found(fs::remove_file(self.in_repository(name, "_manifests", digest)))?;
        Ok(true)
    }

    /// Refuses the deletion of what an immutable tag has: its manifest, and whatever that refers to.
    pub(in crate::server) fn may_be_deleted(&self, name: &str, digest: &Digest) -> Result<(), Problem> {
        if !self.immutable_tags {
            return Ok(());
        }
        let mut met = HashSet::new();
        for tag in self.tags(name)?.unwrap_or_default() {
            let mut open: Vec<Digest> = self.tag(name, &tag)?.into_iter().collect();
            while let Some(one) = open.pop() {
                if one == *digest {
                    return Err(immutable_for_deletion(&tag));
                }
                if !met.insert(one.clone()) {
                    continue;
                }
                // What is no manifest is a blob; a sparse index lacks some.
                let stored = self.manifest(name, &Identifier::Digest(one))?;
                match stored.and_then(|stored| Document::parse(&stored.bytes, None).ok()) {
                    Some(Document::Index(index)) => {
                        open.extend(index.manifests.into_iter().map(|entry| entry.digest));
                    }
                    Some(Document::Manifest(manifest)) => {
                        let parts = manifest.layers.into_iter().chain([manifest.config]);
                        open.extend(parts.map(|part| part.digest));
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    pub(in crate::server) fn referrer_path(
        &self,
        name: &str,
        subject: &Digest,
        referrer: &Digest,
    ) -> PathBuf {
        let file = format!("{}-{}", referrer.algorithm(), referrer.hex());
        self.in_repository(name, "_referrers", subject).join(file)
    }

    /// A repository's links to manifests that refer to another one: each link, and the digest of the
    /// referring manifest.
    pub(in crate::server) fn referrer_links(&self, name: &str) -> io::Result<Vec<(PathBuf, Digest)>> {
        let mut links = Vec::new();
        for subject in self.digests(name, "_referrers")? {
            let directory = self.in_repository(name, "_referrers", &subject);
            for file in names_in(&directory)? {
                if let Ok(digest) = file.replacen('-', ":", 1).parse() {
                    links.push((directory.join(file), digest));
                }
            }
        }
        Ok(links)
    }

    /// Descriptors for the referrers endpoint: manifests after `last` that refer to `subject`, of one type or
    /// of all types. Returns at most `number`, and no more than fit in an index of [`MANIFEST_SIZE_MAX`];
    /// true if there are more.
    pub(in crate::server) fn referrers(
        &self,
        name: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
        number: usize,
    ) -> io::Result<(Vec<Descriptor>, bool)> {
        let mut descriptors = Vec::new();
        let mut size = INDEX_FRAME;
        for file in names_in(&self.in_repository(name, "_referrers", subject))? {
            let Ok(digest) = file.replacen('-', ":", 1).parse::<Digest>() else { continue };
            if last.is_some_and(|last| digest <= *last) {
                continue;
            }
            let Some(mut descriptor) = self.referrer(name, &digest)? else { continue };
            if artifact_type.is_some_and(|wanted| descriptor.artifact_type.as_deref() != Some(wanted)) {
                continue;
            }
            let mut own = json_size(&descriptor);
            if own + INDEX_FRAME > MANIFEST_SIZE_MAX {
                // These annotations fit in no page; clients can read them in the manifest.
                descriptor.annotations.clear();
                own = json_size(&descriptor);
            }
            if descriptors.len() == number || size + own > MANIFEST_SIZE_MAX {
                return Ok((descriptors, true));
            }
            size += own;
            descriptors.push(descriptor);
        }
        Ok((descriptors, false))
    }

    fn referrer(&self, name: &str, digest: &Digest) -> io::Result<Option<Descriptor>> {
        let Some(stored) = self.manifest(name, &Identifier::Digest(digest.clone()))? else { return Ok(None) };
        let Ok(document) = Document::parse(&stored.bytes, None) else { return Ok(None) };
        let mut descriptor = Descriptor::new(&stored.media_type, stored.digest, stored.bytes.len() as u64);
        (descriptor.artifact_type, descriptor.annotations) = match document {
            Document::Manifest(m) => (Some(artifact_type(&m)), m.annotations),
            Document::Index(i) => (i.artifact_type, i.annotations),
        };
        Ok(Some(descriptor))
    }
}

/// The answer to a change of an immutable tag.
fn immutable(tag: &str) -> Problem {
    Problem::new(
        409,
        "DENIED",
        format!("the tag {tag} is there already, and tags are immutable in this registry"),
    )
}

/// The answer to the deletion of an immutable tag or of its manifest; the status is that of a registry that
/// deletes none (distribution specification, "Deleting tags").
fn immutable_for_deletion(tag: &str) -> Problem {
    let message = format!("the tag {tag} stays, since tags are immutable in this registry");
    Problem::new(405, "UNSUPPORTED", message).header("allow", "GET, HEAD, PUT")
}

/// Bytes of an index without entries, rounded up generously.
const INDEX_FRAME: u64 = 1024;

/// Bytes of a descriptor in a list.
fn json_size(descriptor: &Descriptor) -> u64 {
    serde_json::to_vec(descriptor).map_or(u64::MAX / 4, |bytes| bytes.len() as u64 + 1)
}

pub(in crate::server) fn subject_of(document: &Document) -> Option<&Descriptor> {
    match document {
        Document::Manifest(m) => m.subject.as_ref(),
        Document::Index(i) => i.subject.as_ref(),
    }
}

/// The artifact's own type, else the type of its config (distribution specification, "Listing Referrers").
fn artifact_type(manifest: &Manifest) -> String {
    manifest.artifact_type.clone().unwrap_or_else(|| manifest.config.media_type.clone())
}
