//! What a cache needs of a service.

use std::path::Path;

use anyhow::Result;
use crossdock_oci::{Descriptor, Digest};
use crossdock_registry::Client;
use crossdock_registry::client::FileSource;

/// The value of a variable of the environment that a cache may be named by.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a service does for a cache.
pub(super) trait Service: Sync {
    /// How messages call the cache.
    fn shown(&self) -> String;
    /// Prepares the service before a cache is written.
    fn begin(&self, _client: &Client) -> Result<()> {
        Ok(())
    }
    /// Downloads the newest list of steps, at most so many bytes, to a new file.
    fn take_list(&self, client: &Client, to: &Path, limit: u64) -> Result<()>;
    /// Writes a list of steps.
    fn put_list(&self, client: &Client, list: Vec<u8>) -> Result<()>;
    /// Whether a layer of that size is there.
    fn has_layer(&self, client: &Client, layer: &Digest, size: u64) -> Result<bool>;
    /// Writes a layer of that size.
    fn put_layer(&self, client: &Client, layer: &Digest, size: u64, content: &FileSource) -> Result<()>;
    /// Downloads a layer to a new file. Only its size is verified.
    fn take_layer(&self, client: &Client, layer: &Descriptor, to: &Path) -> Result<()>;
}
