//! Objects in a bucket of S3 and its relatives (MinIO, Garage, Ceph), by presigned addresses (Amazon S3 API
//! reference, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)").

use std::path::Path;

use crossdock_oci::Digest;
use jiff::Timestamp;
use ureq::http::Method;

use super::Client;
use super::failure::Subject;
use super::service::{Request, code};
use super::upload::BlobSource;
use super::url::Url;
use crate::error::{Error, Result};
use crate::percent::encode;
use crate::secret::Secret;

/// How long a presigned address works, in seconds.
const VALID: u32 = 12 * 60 * 60;

/// What an answer of 401 or 403 means.
const KEY_ADVICE: &str = "the access key has no right to it, or is not the bucket's";

/// A bucket, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Scheme and host of the service, such as `https://s3.eu-west-1.amazonaws.com`.
    pub endpoint: String,
    /// The bucket's name.
    pub name: String,
    /// Whether the name is the first part of the path; else it is the first part of the host's name.
    pub path_style: bool,
    /// The region that signatures are for.
    pub region: String,
    /// The id of the access key.
    pub access_key: String,
    /// The secret of the access key.
    pub secret_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
}

impl Client {
    /// Size of an object in bytes; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Errors of the connection, and any answer except 200 and 404.
    pub fn object_size(&self, bucket: &Bucket, key: &str) -> Result<Option<u64>> {
        let url = bucket.signed("HEAD", key, Timestamp::now())?;
        self.size_at(&bucket.subject()?, &url, KEY_ADVICE)
    }

    /// Writes an object of `size` bytes, in place of an older one.
    ///
    /// # Errors
    ///
    /// Errors of the connection and of reading the content, and any answer except 200.
    pub fn put_object(&self, bucket: &Bucket, key: &str, size: u64, content: &dyn BlobSource) -> Result<()> {
        let url = bucket.signed("PUT", key, Timestamp::now())?;
        let (headers, body) = (Vec::new(), (content, 0, size));
        let request = Request { method: Method::PUT, url: &url, headers, body, expected: &[200, 201, 204] };
        self.send_to_service(&bucket.subject()?, &request, KEY_ADVICE).map(drop)
    }

    /// Downloads an object of at most `limit` bytes to the new file `to`; false if there is none.
    ///
    /// # Errors
    ///
    /// As [`Client::object_size`] and [`Client::download`].
    pub fn download_object(&self, bucket: &Bucket, key: &str, to: &Path, limit: u64) -> Result<bool> {
        if self.object_size(bucket, key)?.is_none() {
            return Ok(false);
        }
        self.download_at_most(&bucket.signed("GET", key, Timestamp::now())?.full(), to, limit)?;
        Ok(true)
    }
}

impl Bucket {
    fn subject(&self) -> Result<Subject> {
        let url = self.url("")?;
        let subject =
            Subject::new(url.authority(), format!("the bucket {} at {}", self.name, url.authority()));
        Ok(subject.hiding(self.session_token.iter().chain([&self.secret_key])))
    }

    /// The address of an object, without a signature.
    fn url(&self, key: &str) -> Result<Url> {
        let endpoint = self.endpoint.trim_end_matches('/');
        let path = key.split('/').map(encode).collect::<Vec<_>>().join("/");
        let text = match (self.path_style, endpoint.split_once("://")) {
            (false, Some((scheme, host))) => format!("{scheme}://{}.{host}/{path}", self.name),
            _ => format!("{endpoint}/{}/{path}", encode(&self.name)),
        };
        Url::parse(&text).ok_or_else(|| {
            Error::of_service(format!("the bucket {}", self.name), "its endpoint is not an http address")
        })
    }

    /// The address of an object that allows `method` for [`VALID`] seconds.
    fn signed(&self, method: &str, key: &str, now: Timestamp) -> Result<Url> {
        self.signed_for(method, key, now, VALID)
    }

    fn signed_for(&self, method: &str, key: &str, now: Timestamp, seconds: u32) -> Result<Url> {
        let url = self.url(key)?;
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let mut parameters = vec![
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_string()),
            ("X-Amz-Credential", format!("{}/{scope}", self.access_key)),
            ("X-Amz-Date", time.clone()),
            ("X-Amz-Expires", seconds.to_string()),
            ("X-Amz-SignedHeaders", "host".to_string()),
        ];
        // The list is sorted by name.
        if let Some(token) = &self.session_token {
            parameters.insert(4, ("X-Amz-Security-Token", token.expose().to_string()));
        }
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let query = query.join("&");
        // The scheme's own port is left out of the header, so out of the signature, too.
        let own_port = if url.is_https() { ":443" } else { ":80" };
        let (path, host) = (url.path(), url.authority());
        let host = host.strip_suffix(own_port).unwrap_or(host);
        let request = format!("{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", Digest::of(request.as_bytes()).hex());
        let mut key = format!("AWS4{}", self.secret_key.expose()).into_bytes();
        for part in [date, &self.region, "s3", "aws4_request", &text] {
            key = code(&key, part.as_bytes());
        }
        let signature: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(url.with_query(&query).with_query(&format!("X-Amz-Signature={signature}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Amazon S3 API reference, "Authenticating Requests: Using Query Parameters".
    #[test]
    fn signatures_are_amazons() {
        let bucket = Bucket {
            endpoint: "https://s3.amazonaws.com".to_string(),
            name: "examplebucket".to_string(),
            path_style: false,
            region: "us-east-1".to_string(),
            access_key: "AKIAIOSFODNN7EXAMPLE".to_string(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        };
        let now: Timestamp = "2013-05-24T00:00:00Z".parse().expect("a time");
        let url = bucket.signed_for("GET", "test.txt", now, 86400).expect("signed").full();
        assert!(url.starts_with("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm="), "{url}");
        let signature = "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(url.ends_with(signature), "{url}");
        let in_path = Bucket { path_style: true, ..bucket };
        let url = in_path.signed("GET", "a b/ä", now).expect("signed").full();
        assert!(url.starts_with("https://s3.amazonaws.com/examplebucket/a%20b/%C3%A4?"), "{url}");
        assert!(!format!("{in_path:?}").contains("wJalr"));
        // The port of the scheme is in no header, so it changes no signature.
        let signature = |endpoint: &str| {
            let bucket = Bucket { endpoint: endpoint.to_string(), ..in_path.clone() };
            let url = bucket.signed("GET", "k", now).expect("signed").full();
            url.rsplit('=').next().expect("a signature").to_string()
        };
        assert_eq!(signature("https://h:443/"), signature("https://h"));
        assert_eq!(signature("http://h:80"), signature("http://h"));
        assert_ne!(signature("http://h:443"), signature("http://h"));
    }
}
