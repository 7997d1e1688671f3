//! Caches in places that keep objects under keys. Layers have the names and the content that BuildKit gives
//! them; the list of steps has a name of its own:
//!
//! ```text
//! MANIFESTS NAME.crossdock      the list of steps, JSON
//! BLOBS sha256:HEX              a layer
//! ```

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context, Result, bail};
use crossdock_oci::{Descriptor, Digest};
use crossdock_registry::Client;
use crossdock_registry::client::{BlobSource, FileSource};

use super::service::{Service, Variables};

/// A place that keeps objects under keys, and what opens it.
pub(super) trait Objects: Sync + Debug {
    /// How messages call it.
    fn shown(&self) -> String;
    /// Prepares it for writing.
    fn begin(&self, client: &Client) -> Result<()>;
    /// Size of an object in bytes; `None` if there is none.
    fn size(&self, client: &Client, key: &str) -> Result<Option<u64>>;
    /// Writes an object of `size` bytes, in place of an older one.
    fn put(&self, client: &Client, key: &str, size: u64, content: &dyn BlobSource) -> Result<()>;
    /// Downloads an object of at most `limit` bytes to the new file `to`; false if there is none.
    fn download(&self, client: &Client, key: &str, to: &Path, limit: u64) -> Result<bool>;
}

/// A cache of one name in such a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectsPlace<T> {
    pub(super) objects: T,
    /// Key of the list of steps.
    pub(super) list: String,
    /// How the keys of layers begin.
    pub(super) layers: String,
}

impl<T> ObjectsPlace<T> {
    /// The cache that the field `name` names. `manifests` and `blobs` are what keys begin with.
    ///
    /// # Errors
    ///
    /// There is no name, or there are several.
    pub fn new(
        objects: T,
        fields: &HashMap<&str, &str>,
        (manifests, blobs): (String, String),
    ) -> Result<ObjectsPlace<T>> {
        let name = fields.get("name").copied().unwrap_or("crossdock");
        if name.is_empty() || name.contains(';') {
            bail!("name={name}: give one name");
        }
        Ok(ObjectsPlace { objects, list: format!("{manifests}{name}.crossdock"), layers: blobs })
    }

    fn layer(&self, digest: &Digest) -> String {
        format!("{}{digest}", self.layers)
    }
}

impl<T: Objects> Service for ObjectsPlace<T> {
    fn shown(&self) -> String {
        format!("{} of {}", self.list, self.objects.shown())
    }

    fn begin(&self, client: &Client) -> Result<()> {
        self.objects.begin(client)
    }

    fn take_list(&self, client: &Client, to: &Path, limit: u64) -> Result<()> {
        if !self.objects.download(client, &self.list, to, limit)? {
            bail!("there is no {} in {} yet", self.list, self.objects.shown());
        }
        Ok(())
    }

    fn put_list(&self, client: &Client, list: Vec<u8>) -> Result<()> {
        self.objects.put(client, &self.list, list.len() as u64, &list)
    }

    fn has_layer(&self, client: &Client, layer: &Digest, size: u64) -> Result<bool> {
        // One that was cut off is written again.
        Ok(self.objects.size(client, &self.layer(layer))? == Some(size))
    }

    fn put_layer(&self, client: &Client, layer: &Digest, size: u64, content: &FileSource) -> Result<()> {
        self.objects.put(client, &self.layer(layer), size, content)
    }

    fn take_layer(&self, client: &Client, layer: &Descriptor, to: &Path) -> Result<()> {
        if !self.objects.download(client, &self.layer(&layer.digest), to, layer.size)? {
            bail!("{} has layer {} no longer", self.objects.shown(), layer.digest);
        }
        Ok(())
    }
}

/// Values of fields, else of variables; those without text count as absent.
pub(super) struct Given<'a> {
    pub fields: &'a HashMap<&'a str, &'a str>,
    pub variables: Variables<'a>,
}

impl Given<'_> {
    /// The value of a field, else of the first variable that has one.
    pub fn get(&self, field: &str, names: &[&str]) -> Option<String> {
        let field = self.fields.get(field).map(ToString::to_string).filter(|value| !value.is_empty());
        let variable = |name: &&str| (self.variables)(name).filter(|value| !value.is_empty());
        field.or_else(|| names.iter().find_map(variable))
    }

    /// The same, for a value that must be there.
    ///
    /// # Errors
    ///
    /// It is not; the error names the field and the first variable.
    pub fn needs(&self, field: &str, names: &[&str]) -> Result<String> {
        let value = self.get(field, names);
        value.with_context(|| format!("{field}= is missing, and {} is not set", names[0]))
    }
}

/// What a reader of fields makes of fields and variables.
#[cfg(test)]
pub(super) fn read<T>(
    of_fields: fn(&HashMap<&str, &str>, Variables<'_>) -> Result<ObjectsPlace<T>>,
    fields: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Result<ObjectsPlace<T>> {
    let value =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    of_fields(&fields.iter().copied().collect(), &value)
}
