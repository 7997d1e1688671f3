//! Lists: distribution specification, "Listing Tags", "Listing Referrers", the catalog of the Docker
//! registry, `GET /v2/`.

use crossdock_oci::manifest::{Descriptor, Document, Index};
use crossdock_oci::{Digest, Reference};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Method};

use super::answer::read_limited;
use super::failure::Subject;
use super::http::header_text;
use super::session::Scopes;
use super::url::Url;
use super::{Answered, Call, Client, Target, repository_subject};
use crate::error::{Error, Result, excerpt};
use crate::hosts::Endpoint;
use crate::percent::encode;

/// Entries requested per page.
const PAGE_SIZE: usize = 1000;
/// Most pages of one list; a registry that sends more is in a loop.
const PAGES_MAX: usize = 10_000;

#[derive(Deserialize)]
struct TagsJson {
    /// `null` in repositories without tags.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CatalogJson {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// All tags of a repository, in the registry's order.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        self.read(reference, |endpoint| {
            let path = format!("/v2/{}/tags/list?n={PAGE_SIZE}", endpoint.repository);
            let subject = repository_subject(reference);
            let scopes = Scopes::pull(&endpoint.repository);
            self.pages(endpoint, path, &subject, &scopes, |page: TagsJson| page.tags.unwrap_or_default())
        })
    }

    /// At most `n` tags, one request without retries.
    pub(super) fn tags_page(&self, reference: &Reference, n: usize) -> Result<Vec<String>> {
        let endpoint = self.writable(reference)?;
        let path = Target::Path(format!("/v2/{}/tags/list?n={n}", endpoint.repository));
        let scopes = Scopes::pull(&endpoint.repository);
        let (page, _) =
            self.json_page::<TagsJson>(&endpoint, path, &repository_subject(reference), &scopes)?;
        Ok(page.tags.unwrap_or_default())
    }

    /// All repositories of a registry that the user may see; many registries do not offer this list.
    pub fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        let endpoint = self.registry_endpoint(registry)?;
        let subject = Subject::new(registry, registry.to_string());
        self.retrying(|| {
            self.pages(
                &endpoint,
                format!("/v2/_catalog?n={PAGE_SIZE}"),
                &subject,
                &Scopes::catalog(),
                |page: CatalogJson| page.repositories.unwrap_or_default(),
            )
        })
    }

    /// Manifests in the repository that refer to `subject`, of one artifact type or all. Uses the referrers
    /// endpoint, or the tag `ALGORITHM-HEX` if the registry has no such endpoint.
    pub fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let mut found = match self.read(reference, |endpoint| {
            let mut path = format!("/v2/{}/referrers/{subject}", endpoint.repository);
            if let Some(wanted) = artifact_type {
                path.push_str(&format!("?artifactType={}", encode(wanted)));
            }
            let about = repository_subject(reference);
            let scopes = Scopes::pull(&endpoint.repository);
            self.pages(endpoint, path, &about, &scopes, |page: Index| page.manifests)
        }) {
            Err(Error::NotFound { .. }) => self.tagged_referrers(reference, subject)?,
            other => other?,
        };
        // A registry may leave the filter to the client.
        found.retain(|d| artifact_type.is_none() || d.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    fn tagged_referrers(&self, reference: &Reference, subject: &Digest) -> Result<Vec<Descriptor>> {
        let tag = format!("{}-{}", subject.algorithm(), subject.hex());
        let tagged = reference.with_tag(&tag)?;
        let fetched = match self.manifest(&tagged) {
            Err(Error::NotFound { .. }) => return Ok(Vec::new()),
            other => other?,
        };
        match fetched.document(&tagged)? {
            Document::Index(index) => Ok(index.manifests),
            Document::Manifest(_) => Ok(Vec::new()),
        }
    }

    /// Checks that the registry answers and accepts the credentials.
    pub fn ping(&self, registry: &str) -> Result<()> {
        let endpoint = self.registry_endpoint(registry)?;
        let subject = Subject::new(registry, registry.to_string());
        self.retrying(|| {
            self.call(
                &endpoint,
                &Call {
                    method: Method::GET,
                    target: Target::Path("/v2/".to_string()),
                    headers: Vec::new(),
                    body: None,
                    scopes: &Scopes::none(),
                    expected: &[200],
                    subject: &subject,
                },
            )
        })?;
        Ok(())
    }

    /// The endpoint of the registry itself, for requests without a repository.
    pub(super) fn registry_endpoint(&self, registry: &str) -> Result<Endpoint> {
        // A repository is needed only to look up the configuration.
        let any = Reference::new(registry, "any", None, None)?;
        let mut endpoint = self.writable(&any)?;
        endpoint.repository = String::new();
        Ok(endpoint)
    }

    /// Follows `Link: <...>; rel="next"` to the last page.
    fn pages<J: DeserializeOwned, T>(
        &self,
        endpoint: &Endpoint,
        first: String,
        subject: &Subject,
        scopes: &Scopes,
        items: impl Fn(J) -> Vec<T>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let (page, mut next) = self.json_page(endpoint, Target::Path(first), subject, scopes)?;
        all.extend(items(page));
        for _ in 0..PAGES_MAX {
            let Some(url) = next else { break };
            let (page, following) = self.json_page(endpoint, Target::Url(&url), subject, scopes)?;
            all.extend(items(page));
            next = following.filter(|following| *following != url);
        }
        Ok(all)
    }

    /// One page and the URL of the next one.
    fn json_page<J: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        target: Target,
        subject: &Subject,
        scopes: &Scopes,
    ) -> Result<(J, Option<Url>)> {
        let method = Method::GET;
        let call = Call {
            method: method.clone(),
            target,
            headers: Vec::new(),
            body: None,
            scopes,
            expected: &[200],
            subject,
        };
        let Answered { mut response, url } = self.call(endpoint, &call)?;
        let bytes = read_limited(&mut response, subject, &method, &url)?;
        let page = serde_json::from_slice(&bytes)
            .map_err(|_| subject.unexpected(&method, &url, 200, excerpt(&bytes)))?;
        Ok((page, next_link(response.headers()).and_then(|link| url.join(link))))
    }
}

/// The target of the `next` relation, RFC 8288.
fn next_link(headers: &HeaderMap) -> Option<&str> {
    let header = header_text(headers, "link")?;
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let next = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("link", ureq::http::HeaderValue::from_static(value));
            next_link(&headers).map(str::to_string)
        };
        assert_eq!(
            next(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#).as_deref(),
            Some("/v2/a/tags/list?n=2&last=b")
        );
        assert_eq!(next(r#"</p>; rel="prev", </n>; rel=next"#).as_deref(), Some("/n"));
        assert_eq!(next("</n>"), None);
        assert_eq!(next("garbage"), None);
    }
}
