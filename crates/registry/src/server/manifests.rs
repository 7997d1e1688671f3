//! Manifests, and lists of them: tags, the catalog, referrers.

use std::sync::Arc;

use crossdock_oci::Digest;
use crossdock_oci::manifest::{Index, MANIFEST_SIZE_MAX};
use crossdock_oci::media_type::OCI_INDEX;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use serde_json::json;

use super::auth::Caller;
use super::blobs::another_content;
use super::handler::Handler;
use super::range::{Condition, check_conditions};
use super::reply::{Problem, Reply, reply};
use super::request::{Handled, Head, blocking, not_modified, text_header};
use super::route::{Identifier, identifier, parameter, parameters};
use crate::percent;

/// Most tags that one push may set; the specification asks for at least ten.
const TAGS_MAX: usize = 100;

/// Most headers of an answer that name tags; if there are more tags, a header names several. Clients refuse
/// answers with many headers (Python's http.client those with more than 100).
const TAG_LINES_MAX: usize = 20;

/// Content types that programs send by default; they say nothing about a manifest.
const TYPES_WITHOUT_MEANING: &[&str] =
    &["", "application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"];

impl Handler {
    pub(super) async fn manifest(
        self: &Arc<Handler>,
        head: &Head<'_>,
        name: String,
        identifier: Identifier,
    ) -> Handled {
        let stored = match &self.cache {
            Some(cache) => self.cached_manifest(cache, &name, identifier).await?,
            None => {
                let storage = self.storage.clone();
                blocking(move || Ok(storage.manifest(&name, &identifier)?)).await?
            }
        };
        let stored = stored.ok_or_else(manifest_unknown)?;
        match check_conditions(head.headers, stored.digest.as_str()) {
            Condition::Holds => {}
            Condition::NotModified => return Ok(not_modified(&stored.digest)),
            Condition::Failed => return Err(another_content().into()),
        }
        Ok(reply(200)
            .with("content-type", &stored.media_type)
            .with("docker-content-digest", stored.digest.as_str())
            .with("etag", &format!("\"{}\"", stored.digest))
            .body(stored.bytes))
    }

    pub(super) async fn put_manifest(
        &self,
        head: &Head<'_>,
        name: String,
        identifier: Identifier,
        body: &mut Incoming,
    ) -> Handled {
        let mut tags = wanted_tags(head.query)?;
        if let Identifier::Tag(tag) = &identifier
            && !tags.contains(tag)
        {
            tags.insert(0, tag.clone());
        }
        let bytes = self.small_body(body, MANIFEST_SIZE_MAX as usize).await?;
        let content_type = text_header(head.headers, CONTENT_TYPE.as_str()).unwrap_or_default();
        let announced = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let lock = self.storage.writing().await?;
        let storage = self.storage.clone();
        let location = format!("/v2/{name}/manifests/");
        let given = tags.clone();
        let (digest, subject) = blocking(move || {
            let announced =
                (!TYPES_WITHOUT_MEANING.contains(&announced.as_str())).then_some(announced.as_str());
            let digest = match &identifier {
                Identifier::Digest(digest) => Some(digest),
                Identifier::Tag(_) => None,
            };
            storage.put_manifest(&lock, &name, digest, &given, announced, &bytes)
        })
        .await?;
        let mut answer = reply(201)
            .with("location", &format!("{location}{digest}"))
            .with("docker-content-digest", digest.as_str());
        for line in tags.chunks(tags.len().div_ceil(TAG_LINES_MAX).max(1)) {
            answer = answer.and("oci-tag", &line.join(", "));
        }
        if let Some(subject) = subject {
            answer = answer.with("oci-subject", subject.as_str());
        }
        Ok(answer.empty())
    }

    pub(super) async fn delete_manifest(&self, name: String, identifier: Identifier) -> Handled {
        let lock = self.storage.writing().await?;
        let storage = self.storage.clone();
        match blocking(move || storage.delete_manifest(&lock, &name, &identifier)).await? {
            true => Ok(reply(202).empty()),
            false => Err(manifest_unknown().into()),
        }
    }

    /// The repositories that the caller may pull from.
    pub(super) async fn catalog(&self, caller: &Caller, query: &str) -> Handled {
        let storage = self.storage.clone();
        let mut all = blocking(move || Ok(storage.repositories()?)).await?;
        all.retain(|name| self.auth.may_see(caller, name));
        Ok(page(&all, query, "/v2/_catalog", |names| json!({"repositories": names})))
    }

    pub(super) async fn tags(&self, name: String, query: &str) -> Handled {
        let storage = self.storage.clone();
        let wanted = name.clone();
        let remote = match &self.cache {
            Some(cache) => self.remote_tags(cache, &name).await?,
            None => None,
        };
        let tags = match remote {
            None => blocking(move || Ok(storage.tags(&wanted)?)).await?,
            remote => remote,
        };
        match tags {
            Some(tags) => Ok(page(
                &tags,
                query,
                &format!("/v2/{name}/tags/list"),
                |tags| json!({"name": name, "tags": tags}),
            )),
            None => Err(Problem::new(404, "NAME_UNKNOWN", "no such repository").into()),
        }
    }

    /// A page of referrers. A page is a manifest and must not be larger than one.
    pub(super) async fn referrers(self: &Arc<Handler>, name: String, digest: Digest, query: &str) -> Handled {
        if let Some(cache) = &self.cache {
            self.cache_referrers(cache, &name, &digest).await?;
        }
        let artifact_type = artifact_type(query);
        let number = parameter(query, "n").and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0);
        let last = parameter(query, "last").and_then(|last| last.parse::<Digest>().ok());
        let storage = self.storage.clone();
        let (repository, subject, wanted) = (name.clone(), digest.clone(), artifact_type.clone());
        let (found, more) = blocking(move || {
            let number = number.unwrap_or(usize::MAX);
            Ok(storage.referrers(&repository, &subject, wanted.as_deref(), last.as_ref(), number)?)
        })
        .await?;
        let mut answer = reply(200).with("content-type", OCI_INDEX);
        let mut next = format!("/v2/{name}/referrers/{digest}?");
        if let Some(artifact_type) = &artifact_type {
            answer = answer.with("oci-filters-applied", "artifactType");
            next.push_str(&format!("artifactType={}&", percent::encode_value(artifact_type)));
        }
        if let Some(number) = number {
            next.push_str(&format!("n={number}&"));
        }
        if let (true, Some(last)) = (more, found.last()) {
            answer = answer.with("link", &format!("<{next}last={}>; rel=\"next\"", last.digest));
        }
        Ok(answer.json(&Index::new(found)))
    }
}

/// The type of artifact that a list of referrers is limited to. Media types have no spaces, so a space was a
/// plus that the client left as it is.
fn artifact_type(query: &str) -> Option<String> {
    parameter(query, "artifactType")
        .map(|wanted| wanted.replace(' ', "+"))
        .filter(|wanted| !wanted.is_empty())
}

/// Tags that a push sets with `?tag=`.
fn wanted_tags(query: &str) -> Result<Vec<String>, Problem> {
    let mut tags: Vec<String> = Vec::new();
    for text in parameters(query, "tag") {
        match identifier(&text)? {
            Identifier::Tag(tag) if !tags.contains(&tag) => tags.push(tag),
            Identifier::Tag(_) => {}
            Identifier::Digest(_) => return Err(Problem::new(400, "TAG_INVALID", "a digest is no tag")),
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(Problem::new(400, "TAG_INVALID", format!("more than {TAGS_MAX} tags in one push")));
    }
    Ok(tags)
}

/// One page of a sorted list: `n` entries after `last`, with a link to the next page.
fn page(all: &[String], query: &str, path: &str, json: impl Fn(&[String]) -> serde_json::Value) -> Reply {
    let start = match parameter(query, "last") {
        Some(last) => all.partition_point(|name| *name <= last),
        None => 0,
    };
    let rest = &all[start..];
    let Some(n) = parameter(query, "n").and_then(|n| n.parse::<usize>().ok()) else {
        return reply(200).json(&json(rest));
    };
    let shown = &rest[..n.min(rest.len())];
    let answer = reply(200);
    match shown.last() {
        Some(last) if shown.len() < rest.len() => {
            let last = percent::encode_value(last);
            answer.with("link", &format!("<{path}?last={last}&n={n}>; rel=\"next\"")).json(&json(shown))
        }
        _ => answer.json(&json(shown)),
    }
}

fn manifest_unknown() -> Problem {
    Problem::new(404, "MANIFEST_UNKNOWN", "no such manifest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_to_the_end() {
        let all: Vec<String> = ["a", "b/x", "c"].map(String::from).into();
        let answer = page(&all, "n=2", "/v2/_catalog", |names| json!(names));
        assert_eq!(answer.headers()["link"], "</v2/_catalog?last=b%2Fx&n=2>; rel=\"next\"");
        let answer = page(&all, "n=2&last=b%2Fx", "/v2/_catalog", |names| json!(names));
        assert!(answer.headers().get("link").is_none());
        let answer = page(&all, "n=0", "/p", |names| json!(names));
        assert!(answer.headers().get("link").is_none());
    }

    #[test]
    fn types_of_artifacts() {
        let wanted = Some("application/vnd.x+json".to_string());
        assert_eq!(artifact_type("n=2&artifactType=application%2Fvnd.x%2Bjson"), wanted);
        assert_eq!(artifact_type("artifactType=application/vnd.x+json"), wanted);
        assert_eq!((artifact_type("artifactType="), artifact_type("n=2")), (None, None));
    }

    #[test]
    fn tags_of_a_push() {
        assert_eq!(wanted_tags("tag=b&x=1&tag=a&tag=b").ok(), Some(vec!["b".to_string(), "a".to_string()]));
        for bad in ["tag=a%2Fb", "tag=", "tag=.x", &format!("tag=sha256:{}", "a".repeat(64))] {
            assert!(wanted_tags(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..101).map(|n| format!("tag=t{n}")).collect();
        assert!(wanted_tags(&many.join("&")).is_err());
    }
}
