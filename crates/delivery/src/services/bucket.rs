//! `type=s3`: caches in a bucket of Amazon S3 or one of its relatives (MinIO, Garage, Ceph). Attributes and
//! places are BuildKit's, so that rules for a bucket fit both.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use crossdock_dockerfile::values::boolean;
use crossdock_registry::client::{BlobSource, Bucket};
use crossdock_registry::{Client, Secret};

use super::objects::{Given, Objects, ObjectsPlace};
use super::service::Variables;

/// Reads the fields of `type=s3` (BuildKit's attributes), else the variables of AWS's programs.
///
/// # Errors
///
/// A field that is missing or wrong.
pub fn of_fields(fields: &HashMap<&str, &str>, variables: Variables<'_>) -> Result<ObjectsPlace<Bucket>> {
    let given = Given { fields, variables };
    let name = given.needs("bucket", &["AWS_BUCKET"])?;
    let region = given.needs("region", &["AWS_REGION", "AWS_DEFAULT_REGION"])?;
    let endpoint = given.get("endpoint_url", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let path_style = match fields.get("use_path_style") {
        Some(text) => {
            boolean(text).with_context(|| format!("use_path_style={text} is neither true nor false"))?
        }
        // Names with dots have no certificates below Amazon's host.
        None => endpoint.is_some() || name.contains('.'),
    };
    let bucket = Bucket {
        endpoint: endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
        path_style,
        region,
        access_key: given.needs("access_key_id", &["AWS_ACCESS_KEY_ID"])?,
        secret_key: Secret::new(given.needs("secret_access_key", &["AWS_SECRET_ACCESS_KEY"])?),
        session_token: given.get("session_token", &["AWS_SESSION_TOKEN"]).map(Secret::new),
        name,
    };
    let field = |name: &str, default: &str| fields.get(name).map_or(default, |value| *value).to_string();
    let prefix = field("prefix", "");
    let below = |name: &str, default: &str| format!("{prefix}{}", field(name, default));
    let keys = (below("manifests_prefix", "manifests/"), below("blobs_prefix", "blobs/"));
    ObjectsPlace::new(bucket, fields, keys)
}

impl Objects for Bucket {
    fn shown(&self) -> String {
        format!("the bucket {}", self.name)
    }

    fn begin(&self, _: &Client) -> Result<()> {
        Ok(())
    }

    fn size(&self, client: &Client, key: &str) -> Result<Option<u64>> {
        Ok(client.object_size(self, key)?)
    }

    fn put(&self, client: &Client, key: &str, size: u64, content: &dyn BlobSource) -> Result<()> {
        Ok(client.put_object(self, key, size, content)?)
    }

    fn download(&self, client: &Client, key: &str, to: &Path, limit: u64) -> Result<bool> {
        Ok(client.download_object(self, key, to, limit)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::read as read_fields;
    use super::*;

    #[test]
    fn fields_come_before_variables() {
        let place = |fields: &[_], variables: &[_]| read_fields(of_fields, fields, variables);
        let job = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("AWS_SESSION_TOKEN", "token"),
        ];
        let read = place(&[("bucket", "b"), ("prefix", "p/"), ("name", "n")], &job).expect("whole");
        assert_eq!(read.objects.endpoint, "https://s3.eu-west-1.amazonaws.com");
        assert_eq!((read.list.as_str(), read.layers.as_str()), ("p/manifests/n.crossdock", "p/blobs/"));
        assert!(!read.objects.path_style && read.objects.session_token.is_some());
        assert!(!format!("{read:?}").contains("hidden"));
        let fields = [("bucket", "b"), ("region", "r"), ("endpoint_url", "http://h:9000")];
        let read = place(&fields, &job).expect("whole");
        assert!(read.objects.path_style && read.objects.region == "r");
        assert_eq!(read.list, "manifests/crossdock.crossdock");
        for (fields, text) in [
            (&[][..], "bucket= is missing"),
            (&[("bucket", "b"), ("name", "a;b")], "name=a;b"),
            (&[("bucket", "b"), ("use_path_style", "maybe")], "use_path_style=maybe"),
        ] {
            let error = place(fields, &job).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
        let error = place(&[("bucket", "b")], &job[..1]).expect_err("no key").to_string();
        assert!(error.contains("access_key_id= is missing, and AWS_ACCESS_KEY_ID is not set"), "{error}");
    }
}
