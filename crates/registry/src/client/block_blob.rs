//! Block blobs of Azure Storage, at addresses that are signed (REST API "Put Blob", "Put Block", "Put Block
//! List"), and containers of them that an account's key opens.
//!
//! The key signs the address of each request (REST API "Create an account SAS"), so that whatever reads and
//! writes at addresses reads and writes here, too.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use ureq::http::{HeaderName, HeaderValue, Method};

use super::Client;
use super::failure::Subject;
use super::service::{Request, code};
use super::upload::BlobSource;
use super::url::Url;
use crate::error::{Error, Result};
use crate::percent::encode;
use crate::secret::Secret;

/// Blobs larger than this, in bytes, are sent in blocks of this size.
const PART: u64 = 32 * 1024 * 1024;

/// The version of the REST API.
const VERSION: &str = "2020-10-02";

/// How long a signed address works.
const VALID: SignedDuration = SignedDuration::from_hours(12);

/// What an answer of 401 or 403 means.
const KEY_ADVICE: &str = "the key has no right to it, or is not the account's";

/// A container of blobs, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobContainer {
    /// The address of the account's blobs, such as `https://NAME.blob.core.windows.net`.
    pub account_url: String,
    /// The account's name.
    pub account: String,
    /// The container's name.
    pub name: String,
    /// One of the account's keys, in base64.
    pub key: Secret,
}

impl Client {
    /// Writes a block blob at a signed address: whole, or in blocks and then their list. `service` is who
    /// keeps it, and what a refusal means.
    ///
    /// # Errors
    ///
    /// Errors of the connection and of reading the content, and any answer except 200 and 201.
    pub(super) fn put_block_blob(
        &self,
        service: (&Subject, &str),
        url: &Url,
        size: u64,
        content: &dyn BlobSource,
    ) -> Result<()> {
        let kind = (HeaderName::from_static("x-ms-blob-type"), HeaderValue::from_static("BlockBlob"));
        let put = |url: &Url, headers, body| {
            let request = Request { method: Method::PUT, url, headers, body, expected: &[200, 201] };
            self.send_to_service(service.0, &request, service.1).map(drop)
        };
        if size <= PART {
            return put(url, vec![version(), kind], (content, 0, size));
        }
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for offset in (0..size).step_by(PART as usize) {
            // All ids of a blob must have the same length.
            let id = STANDARD.encode(format!("{offset:020}"));
            list.push_str(&format!("<Latest>{id}</Latest>"));
            let block = url.with_query(&format!("comp=block&blockid={}", encode(&id)));
            put(&block, vec![version()], (content, offset, PART.min(size - offset)))?;
        }
        list.push_str("</BlockList>");
        let list = list.into_bytes();
        let length = list.len() as u64;
        put(&url.with_query("comp=blocklist"), vec![version()], (&list, 0, length))
    }

    /// Makes the container if it is not there.
    ///
    /// # Errors
    ///
    /// Errors of the connection, and the service's refusal.
    pub fn make_container(&self, container: &BlobContainer) -> Result<()> {
        let subject = container.subject()?;
        let send = |method: Method, right, expected: &[u16]| {
            let url = container.signed("", right, Timestamp::now())?.with_query("restype=container");
            let nothing: Vec<u8> = Vec::new();
            let body = (&nothing as &dyn BlobSource, 0, 0);
            let request = Request { method, url: &url, headers: vec![version()], body, expected };
            self.send_to_service(&subject, &request, KEY_ADVICE)
        };
        if send(Method::HEAD, Right::Read, &[200, 404])?.status().as_u16() == 404 {
            // Another machine may have made it meanwhile.
            send(Method::PUT, Right::Write, &[201, 409])?;
        }
        Ok(())
    }

    /// Size of a blob in bytes; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Errors of the connection, and any answer except 200 and 404.
    pub fn container_blob_size(&self, container: &BlobContainer, key: &str) -> Result<Option<u64>> {
        let url = container.signed(key, Right::Read, Timestamp::now())?;
        self.size_at(&container.subject()?, &url, KEY_ADVICE)
    }

    /// Writes a blob of `size` bytes, in place of an older one.
    ///
    /// # Errors
    ///
    /// Errors of the connection and of reading the content, and the service's refusal.
    pub fn put_container_blob(
        &self,
        container: &BlobContainer,
        key: &str,
        size: u64,
        content: &dyn BlobSource,
    ) -> Result<()> {
        let url = container.signed(key, Right::Write, Timestamp::now())?;
        self.put_block_blob((&container.subject()?, KEY_ADVICE), &url, size, content)
    }

    /// Downloads a blob of at most `limit` bytes to the new file `to`; false if there is none.
    ///
    /// # Errors
    ///
    /// As [`Client::container_blob_size`] and [`Client::download`].
    pub fn download_container_blob(
        &self,
        container: &BlobContainer,
        key: &str,
        to: &Path,
        limit: u64,
    ) -> Result<bool> {
        if self.container_blob_size(container, key)?.is_none() {
            return Ok(false);
        }
        let url = container.signed(key, Right::Read, Timestamp::now())?;
        self.download_at_most(&url.full(), to, limit)?;
        Ok(true)
    }
}

/// What an address allows.
#[derive(Clone, Copy)]
enum Right {
    Read,
    Write,
}

impl BlobContainer {
    fn shown(&self) -> String {
        format!("the container {}", self.name)
    }

    fn subject(&self) -> Result<Subject> {
        let url = self.url("")?;
        let subject = Subject::new(url.authority(), format!("{} at {}", self.shown(), url.authority()));
        Ok(subject.hiding([&self.key]))
    }

    /// The address of a blob, or of the container without a key; without a signature.
    fn url(&self, key: &str) -> Result<Url> {
        let path = key.split('/').map(encode).collect::<Vec<_>>().join("/");
        let separator = if key.is_empty() { "" } else { "/" };
        let account = self.account_url.trim_end_matches('/');
        let text = format!("{account}/{}{separator}{path}", encode(&self.name));
        let url = Url::parse(&text).filter(|url| !url.has_query());
        url.ok_or_else(|| Error::of_service(self.shown(), "its account's address is not an http address"))
    }

    /// The address of a blob, or of the container without a key, that allows so much for [`VALID`].
    ///
    /// # Errors
    ///
    /// The address or the key is wrong.
    fn signed(&self, key: &str, right: Right, now: Timestamp) -> Result<Url> {
        let url = self.url(key)?;
        let secret = STANDARD.decode(self.key.expose().trim());
        let secret = secret.map_err(|_| Error::of_service(self.shown(), "its key is not base64"))?;
        let right = match right {
            Right::Read => "r",
            Right::Write => "w",
        };
        // Services, and types of resources: an object or a container.
        let (service, kind) = ("b", if key.is_empty() { "c" } else { "o" });
        let end = now.saturating_add(VALID).unwrap_or(now).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let protocol = if url.is_https() { "https" } else { "https,http" };
        // Without a beginning and without addresses of clients.
        let text =
            format!("{}\n{right}\n{service}\n{kind}\n\n{end}\n\n{protocol}\n{VERSION}\n", self.account);
        let signature = STANDARD.encode(code(&secret, text.as_bytes()));
        let query = [
            ("sv", VERSION),
            ("ss", service),
            ("srt", kind),
            ("sp", right),
            ("se", &end),
            ("spr", protocol),
            ("sig", &signature),
        ];
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        Ok(url.with_query(&query.join("&")))
    }
}

fn version() -> (HeaderName, HeaderValue) {
    (HeaderName::from_static("x-ms-version"), HeaderValue::from_static(VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(account_url: &str, key: &str) -> BlobContainer {
        BlobContainer {
            account_url: account_url.to_string(),
            account: "account".to_string(),
            name: "cache".to_string(),
            key: Secret::new(key),
        }
    }

    #[test]
    fn addresses_are_signed_with_the_key() {
        let now: Timestamp = "2024-05-06T07:08:09Z".parse().expect("a time");
        let place = container("https://account.blob.core.windows.net/", "aHVudGVyMg==");
        let url = place.signed("a b/blobs/sha256:1", Right::Write, now).expect("signed").full();
        // The signature is OpenSSL's for the text that the REST API describes.
        let expected = "https://account.blob.core.windows.net/cache/a%20b/blobs/sha256%3A1?sv=2020-10-02&ss=b&srt=o\
                        &sp=w&se=2024-05-06T19%3A08%3A09Z&spr=https&sig=";
        assert_eq!(url.split_at(url.find("&sig=").expect("signed") + 5).0, expected);
        assert!(url.ends_with("&sig=rOQ497GqZusSvZnhTgWqvBBjU9glP7jO1lkaWuI9A0g%3D"), "{url}");
        assert!(!format!("{place:?}").contains("aHVudGVyMg"));
        let url = place.signed("", Right::Read, now).expect("signed").full();
        assert!(
            url.starts_with("https://account.blob.core.windows.net/cache?sv=")
                && url.contains("&srt=c&sp=r&")
        );
    }

    #[test]
    fn what_cannot_be_signed_is_said_without_the_key() {
        let now = Timestamp::UNIX_EPOCH;
        for (url, key, reason) in [
            ("https://h", "no base64!", "its key is not base64"),
            ("h", "aHVudGVyMg==", "not an http address"),
        ] {
            let error = container(url, key).signed("x", Right::Read, now).expect_err(reason).to_string();
            assert!(error.contains(reason) && !error.contains(key), "{error}");
        }
    }
}
