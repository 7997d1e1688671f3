//! `type=s3`: caches in a bucket of Amazon S3 or one of its relatives (MinIO, Garage, Ceph).
//!
//! Attributes and places are BuildKit's, so that rules for a bucket fit both. Layers have the same names and
//! content there; the list of steps has a name of its own:
//!
//! ```text
//! PREFIX manifests/ NAME.crossdock      the list of steps, JSON
//! PREFIX blobs/ sha256:HEX              a layer
//! ```

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use crossdock_dockerfile::values::boolean;
use crossdock_oci::{Descriptor, Digest};
use crossdock_registry::client::{Bucket, FileSource};
use crossdock_registry::{Client, Secret};

use super::service::{Service, Variables};

/// A cache of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPlace {
    bucket: Bucket,
    /// Key of the list of steps.
    list: String,
    /// How the keys of layers begin.
    layers: String,
}

impl BucketPlace {
    /// Reads the fields of `type=s3` (BuildKit's attributes), else the variables of AWS's programs.
    ///
    /// # Errors
    ///
    /// A field that is missing or wrong.
    pub fn of_fields(fields: &HashMap<&str, &str>, variables: Variables<'_>) -> Result<BucketPlace> {
        let given = |field: &str, names: &[&str]| {
            let field = fields.get(field).map(ToString::to_string).filter(|value| !value.is_empty());
            field.or_else(|| names.iter().find_map(|name| variables(name).filter(|value| !value.is_empty())))
        };
        let needs = |field: &str, names: &[&str]| {
            given(field, names).with_context(|| format!("{field}= is missing, and {} is not set", names[0]))
        };
        let name = needs("bucket", &["AWS_BUCKET"])?;
        let region = needs("region", &["AWS_REGION", "AWS_DEFAULT_REGION"])?;
        let endpoint = given("endpoint_url", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
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
            access_key: needs("access_key_id", &["AWS_ACCESS_KEY_ID"])?,
            secret_key: Secret::new(needs("secret_access_key", &["AWS_SECRET_ACCESS_KEY"])?),
            session_token: given("session_token", &["AWS_SESSION_TOKEN"]).map(Secret::new),
            name,
        };
        let field = |name: &str, default: &str| fields.get(name).map_or(default, |value| *value).to_string();
        let (prefix, cache) = (field("prefix", ""), field("name", "crossdock"));
        if cache.is_empty() || cache.contains(';') {
            bail!("name={cache}: give one name");
        }
        let list = format!("{prefix}{}{cache}.crossdock", field("manifests_prefix", "manifests/"));
        Ok(BucketPlace { bucket, list, layers: format!("{prefix}{}", field("blobs_prefix", "blobs/")) })
    }

    fn layer(&self, digest: &Digest) -> String {
        format!("{}{digest}", self.layers)
    }
}

impl Service for BucketPlace {
    fn shown(&self) -> String {
        format!("{} of the bucket {}", self.list, self.bucket.name)
    }

    fn take_list(&self, client: &Client, to: &Path, limit: u64) -> Result<()> {
        if !client.download_object(&self.bucket, &self.list, to, limit)? {
            bail!("there is no {} in the bucket {} yet", self.list, self.bucket.name);
        }
        Ok(())
    }

    fn put_list(&self, client: &Client, list: Vec<u8>) -> Result<()> {
        Ok(client.put_object(&self.bucket, &self.list, list.len() as u64, &list)?)
    }

    fn has_layer(&self, client: &Client, layer: &Digest, size: u64) -> Result<bool> {
        // One that was cut off is written again.
        Ok(client.object_size(&self.bucket, &self.layer(layer))? == Some(size))
    }

    fn put_layer(&self, client: &Client, layer: &Digest, size: u64, content: &FileSource) -> Result<()> {
        Ok(client.put_object(&self.bucket, &self.layer(layer), size, content)?)
    }

    fn take_layer(&self, client: &Client, layer: &Descriptor, to: &Path) -> Result<()> {
        if !client.download_object(&self.bucket, &self.layer(&layer.digest), to, layer.size)? {
            bail!("the bucket {} has layer {} no longer", self.bucket.name, layer.digest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_before_variables() {
        let place = |fields: &[(&str, &str)], variables: &[(&str, &str)]| {
            let value = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
            };
            BucketPlace::of_fields(&fields.iter().copied().collect(), &value)
        };
        let job = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("AWS_SESSION_TOKEN", "token"),
        ];
        let read = place(&[("bucket", "b"), ("prefix", "p/"), ("name", "n")], &job).expect("whole");
        assert_eq!(read.bucket.endpoint, "https://s3.eu-west-1.amazonaws.com");
        assert_eq!((read.list.as_str(), read.layers.as_str()), ("p/manifests/n.crossdock", "p/blobs/"));
        assert!(!read.bucket.path_style && read.bucket.session_token.is_some());
        assert!(!format!("{read:?}").contains("hidden"));
        let fields = [("bucket", "b"), ("region", "r"), ("endpoint_url", "http://h:9000")];
        let read = place(&fields, &job).expect("whole");
        assert!(
            read.bucket.path_style
                && read.bucket.region == "r"
                && read.list == "manifests/crossdock.crossdock"
        );
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
