//! Manifests and indexes: distribution specification, "Pulling manifests", "Pushing Manifests", "Deleting
//! Manifests".

use crossdock_oci::digest::Digest;
use crossdock_oci::manifest::{Descriptor, Document, MANIFEST_SIZE_MAX};
use crossdock_oci::{Reference, media_type};
use ureq::http::header::{ACCEPT, CONTENT_TYPE};
use ureq::http::{HeaderMap, HeaderValue, Method};

use super::answer::read_limited;
use super::http::header_text;
use super::session::Scopes;
use super::{Call, Client, OpenedBody, Target, subject_of};
use crate::error::{Answer, Error, Result, excerpt};
use crate::hosts::Endpoint;

/// The four types that this program reads.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Tags that the message about a missing tag names.
const HINT_TAGS: usize = 10;

/// A manifest or index as the registry keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedManifest {
    /// The verified bytes.
    pub bytes: Vec<u8>,
    /// The media type that the document states, else that of `Content-Type`.
    pub media_type: String,
    /// The digest of the reference, else the registry's if it could be verified, else SHA-256.
    pub digest: Digest,
}

impl FetchedManifest {
    /// A descriptor of the manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
    }

    /// Parses the manifest; `target` names it in errors.
    pub fn document(&self, target: &Reference) -> Result<Document> {
        Document::parse(&self.bytes, Some(&self.media_type))
            .map_err(|source| Error::Manifest { target: target.to_string(), source })
    }
}

impl Client {
    /// Fetches a manifest or index.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] with the existing tags, if the registry lists them; [`Error::DigestMismatch`].
    pub fn manifest(&self, reference: &Reference) -> Result<FetchedManifest> {
        self.read(reference, |endpoint| self.fetch_manifest(reference, endpoint))
            .map_err(|e| self.with_tags(reference, e))
    }

    fn fetch_manifest(&self, reference: &Reference, endpoint: &Endpoint) -> Result<FetchedManifest> {
        let subject = subject_of(reference);
        let method = Method::GET;
        let mut answered = self.call(
            endpoint,
            &Call {
                method: method.clone(),
                target: manifest_path(endpoint, reference.identifier()),
                headers: vec![(ACCEPT, HeaderValue::from_static(ACCEPTED))],
                body: None,
                scopes: &Scopes::pull(&endpoint.repository),
                expected: &[200],
                subject: &subject,
            },
        )?;
        let bytes = read_limited(&mut answered.response, &subject, &method, &answered.url)?;
        let headers = answered.response.headers();
        let stated = header_text(headers, "content-type").map(bare_type).unwrap_or_default();
        if Document::parse(&bytes, None).is_err()
            && serde_json::from_slice::<serde_json::Value>(&bytes).is_err()
        {
            // A web page of a proxy or a login form.
            return Err(subject.unexpected(&method, &answered.url, 200, excerpt(&bytes)));
        }
        let media_type = media_type_of(&bytes, &stated);
        let digest = verified_digest(reference, headers, &bytes)?;
        Ok(FetchedManifest { bytes, media_type, digest })
    }

    /// Digest, size and type of a manifest or index as the registry states them, without fetching it; `None`
    /// if there is none.
    pub fn head_manifest(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let ask = |endpoint: &Endpoint| {
            let answered = self.call(
                endpoint,
                &Call {
                    method: Method::HEAD,
                    target: manifest_path(endpoint, reference.identifier()),
                    headers: vec![(ACCEPT, HeaderValue::from_static(ACCEPTED))],
                    body: None,
                    scopes: &Scopes::pull(&endpoint.repository),
                    expected: &[200],
                    subject: &subject_of(reference),
                },
            )?;
            let headers = answered.response.headers();
            let digest = header_text(headers, "docker-content-digest").and_then(|text| text.parse().ok());
            let size = header_text(headers, "content-length").and_then(|text| text.parse().ok());
            let stated = header_text(headers, "content-type").map(bare_type);
            Ok(match (digest.or_else(|| reference.digest().cloned()), size, stated) {
                (Some(digest), Some(size), Some(media_type)) => {
                    Some(Descriptor::new(&media_type, digest, size))
                }
                // A few registries leave these headers out; then the whole manifest is fetched.
                _ => None,
            })
        };
        match self.read(reference, ask) {
            Ok(Some(descriptor)) => Ok(Some(descriptor)),
            Ok(None) => Ok(Some(self.manifest(reference)?.descriptor())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Stores a manifest or index under the reference's tag, or its digest if it has no tag. Returns the
    /// digest.
    ///
    /// # Errors
    ///
    /// [`Error::DigestMismatch`] if the registry, or the reference, names another digest for these bytes.
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let subject = subject_of(reference);
        let endpoint = self.writable(reference)?;
        let mut hasher =
            reference.digest().map_or_else(crossdock_oci::digest::Hasher::sha256, Digest::hasher);
        hasher.update(bytes);
        let digest = hasher.finish();
        let mismatch = |expected: Digest, found: Digest| Error::DigestMismatch {
            target: subject.target.clone(),
            expected,
            found,
        };
        if let Some(expected) = reference.digest().filter(|expected| **expected != digest) {
            return Err(mismatch(expected.clone(), digest));
        }
        let content_type = HeaderValue::from_str(media_type).map_err(|_| Error::NotAMediaType {
            target: subject.target.clone(),
            media_type: media_type.into(),
        })?;
        let open = || -> Result<OpenedBody> { Ok(Box::new(bytes)) };
        let identifier = reference.tag().unwrap_or(digest.as_str());
        let scopes = Scopes::push(&endpoint.repository);
        let answered = self.retrying(|| {
            self.call(
                &endpoint,
                &Call {
                    method: Method::PUT,
                    target: manifest_path(&endpoint, identifier),
                    headers: vec![(CONTENT_TYPE, content_type.clone())],
                    body: Some((&open, Some(bytes.len() as u64))),
                    scopes: &scopes,
                    expected: &[201, 200, 202],
                    subject: &subject,
                },
            )
        })?;
        match header_text(answered.response.headers(), "docker-content-digest").map(str::parse::<Digest>) {
            Some(Ok(found)) if found.algorithm() == digest.algorithm() && found != digest => {
                Err(mismatch(digest, found))
            }
            _ => Ok(digest),
        }
    }

    /// Deletes a manifest by its digest, or a tag. Registries that keep tags and manifests apart need the
    /// digest.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<()> {
        let endpoint = self.writable(reference)?;
        let subject = subject_of(reference);
        self.delete(&endpoint, || manifest_path(&endpoint, reference.identifier()), &subject)
    }

    /// Adds to "not found" what exists instead, if one cheap request can find out.
    fn with_tags(&self, reference: &Reference, error: Error) -> Error {
        let Error::NotFound { answer, .. } = error else { return error };
        Error::NotFound { hint: self.tags_hint(reference, &answer), answer }
    }

    fn tags_hint(&self, reference: &Reference, answer: &Answer) -> String {
        if reference.digest().is_some() {
            return ": no such digest there".to_string();
        }
        if answer.code == "NAME_UNKNOWN" {
            return ": no such repository".to_string();
        }
        let Ok(tags) = self.tags_page(reference, 1000) else { return String::new() };
        let plural = if tags.len() == 1 { "tag" } else { "tags" };
        let shown: Vec<&str> = tags.iter().rev().take(HINT_TAGS).map(String::as_str).collect();
        match tags.len() {
            0 => ": no such tag; there are none".to_string(),
            n => format!(
                ": no such tag; {n} {plural} there: {}{}",
                shown.join(", "),
                if n > HINT_TAGS { ", ..." } else { "" }
            ),
        }
    }
}

fn manifest_path(endpoint: &Endpoint, identifier: &str) -> Target<'static> {
    Target::Path(format!("/v2/{}/manifests/{identifier}", endpoint.repository))
}

/// A media type without parameters.
fn bare_type(text: &str) -> String {
    text.split(';').next().unwrap_or(text).trim().to_string()
}

/// The document's own media type, else `stated` if it is an image type, else the type of the document's kind.
fn media_type_of(bytes: &[u8], stated: &str) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
    }
    let own = serde_json::from_slice::<Own>(bytes).ok().and_then(|own| own.media_type);
    if let Some(own) = own.filter(|own| !own.is_empty()) {
        return own;
    }
    if media_type::is_index(stated) || media_type::is_manifest(stated) {
        return stated.to_string();
    }
    match Document::parse(bytes, None) {
        Ok(document) => document.media_type().to_string(),
        Err(_) => stated.to_string(),
    }
}

/// The digest of bytes received for a reference. The bytes must match the reference's digest and the digest
/// that the registry names.
fn verified_digest(reference: &Reference, headers: &HeaderMap, bytes: &[u8]) -> Result<Digest> {
    let named: Option<Digest> =
        header_text(headers, "docker-content-digest").and_then(|text| text.parse().ok());
    for expected in reference.digest().into_iter().chain(&named) {
        let mut hasher = expected.hasher();
        hasher.update(bytes);
        let found = hasher.finish();
        if found != *expected {
            return Err(Error::DigestMismatch {
                target: reference.to_string(),
                expected: expected.clone(),
                found,
            });
        }
    }
    if bytes.len() as u64 > MANIFEST_SIZE_MAX {
        return Err(Error::Manifest {
            target: reference.to_string(),
            source: crossdock_oci::manifest::ParseDocumentError::TooLarge(bytes.len() as u64),
        });
    }
    Ok(reference.digest().cloned().or(named).unwrap_or_else(|| Digest::of(bytes)))
}
