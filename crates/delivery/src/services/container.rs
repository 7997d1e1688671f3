//! `type=azblob`: caches in a container of Azure Blob Storage. Attributes, variables and places are
//! BuildKit's. Only an account's key opens the container: identities of Azure's directory are not known here.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use crossdock_registry::client::{BlobContainer, BlobSource};
use crossdock_registry::{Client, Secret};

use super::objects::{Given, Objects, ObjectsPlace};
use super::service::Variables;

/// Reads the fields of `type=azblob`, else variables.
///
/// # Errors
///
/// A field that is missing or wrong.
pub fn of_fields(
    fields: &HashMap<&str, &str>,
    variables: Variables<'_>,
) -> Result<ObjectsPlace<BlobContainer>> {
    let given = Given { fields, variables };
    let account_url = given.needs("account_url", &["BUILDKIT_AZURE_STORAGE_ACCOUNT_URL"])?;
    let account = match given.get("account_name", &["BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME"]) {
        Some(name) => name,
        None => account_of(&account_url)
            .context("account_name= is missing, and account_url= does not say the account's name")?,
    };
    let name = given.get("container", &["BUILDKIT_AZURE_STORAGE_CONTAINER"]);
    // The variable is that of Azure's own program.
    let key = given.needs("secret_access_key", &["AZURE_STORAGE_KEY"])?;
    let container = BlobContainer {
        account_url,
        account,
        name: name.unwrap_or_else(|| "buildkit-cache".to_string()),
        key: Secret::new(key),
    };
    let prefix = given.get("prefix", &["BUILDKIT_AZURE_STORAGE_PREFIX"]).unwrap_or_default();
    let below = |field: &str, default: &str| {
        let parts = [prefix.as_str(), fields.get(field).copied().unwrap_or(default)];
        let names = parts.iter().flat_map(|part| part.split('/')).filter(|name| !name.is_empty());
        names.map(|name| format!("{name}/")).collect::<String>()
    };
    let keys = (below("manifests_prefix", "manifests"), below("blobs_prefix", "blobs"));
    ObjectsPlace::new(container, fields, keys)
}

/// The account that an address names: first part of the host `NAME.blob.core.windows.net`, or the path of an
/// emulator of the service, `http://127.0.0.1:10000/NAME`.
fn account_of(account_url: &str) -> Option<String> {
    let (_, rest) = account_url.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let in_path = path.split('/').find(|name| !name.is_empty());
    let in_host = authority.split_once('.').map(|(name, _)| name);
    in_path.or(in_host).filter(|name| !name.is_empty()).map(str::to_string)
}

impl Objects for BlobContainer {
    fn shown(&self) -> String {
        format!("the container {}", self.name)
    }

    fn begin(&self, client: &Client) -> Result<()> {
        Ok(client.make_container(self)?)
    }

    fn size(&self, client: &Client, key: &str) -> Result<Option<u64>> {
        Ok(client.container_blob_size(self, key)?)
    }

    fn put(&self, client: &Client, key: &str, size: u64, content: &dyn BlobSource) -> Result<()> {
        Ok(client.put_container_blob(self, key, size, content)?)
    }

    fn download(&self, client: &Client, key: &str, to: &Path, limit: u64) -> Result<bool> {
        Ok(client.download_container_blob(self, key, to, limit)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::read as read_fields;
    use super::*;

    #[test]
    fn fields_come_before_variables() {
        let place = |fields: &[_], variables: &[_]| read_fields(of_fields, fields, variables);
        let url = ("account_url", "https://mine.blob.core.windows.net");
        let key = ("secret_access_key", "aGlkZGVu");
        let read = place(&[url, key], &[]).expect("whole");
        assert_eq!((&read.objects.account[..], &read.objects.name[..]), ("mine", "buildkit-cache"));
        assert_eq!((&read.list[..], &read.layers[..]), ("manifests/crossdock.crossdock", "blobs/"));
        assert!(!format!("{read:?}").contains("aGlkZGVu"));
        let fields = [url, ("container", "c"), ("prefix", "p"), ("blobs_prefix", "b/"), ("name", "n")];
        let variables = [
            ("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "https://other.example"),
            ("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME", "named"),
            ("BUILDKIT_AZURE_STORAGE_PREFIX", "q"),
            ("AZURE_STORAGE_KEY", "aGlkZGVu"),
        ];
        let read = place(&fields, &variables).expect("whole");
        assert_eq!((&read.objects.account[..], &read.objects.name[..]), ("named", "c"));
        assert_eq!((&read.list[..], &read.layers[..]), ("p/manifests/n.crossdock", "p/b/"));
        assert_eq!(place(&[key], &variables).expect("whole").objects.account_url, "https://other.example");
        let emulator = [("account_url", "http://127.0.0.1:10000/devstoreaccount1"), key];
        assert_eq!(place(&emulator, &[]).expect("whole").objects.account, "devstoreaccount1");
        for (fields, text) in [
            (&[key][..], "account_url= is missing, and BUILDKIT_AZURE_STORAGE_ACCOUNT_URL is not set"),
            (&[url], "secret_access_key= is missing, and AZURE_STORAGE_KEY is not set"),
            (&[key, ("account_url", "http://localhost:1")], "account_name= is missing"),
            (&[url, key, ("name", "a;b")], "name=a;b"),
        ] {
            let error = place(fields, &[]).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
