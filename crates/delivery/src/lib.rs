//! What lies between a builder and the world: contexts, sources of images, outputs, and caches.
//!
//! Every front door of the builder uses it: the command line and the API for other programs. Errors of this
//! crate are told to people and never matched, so they are `anyhow`'s.

pub mod ahead;
pub mod annotations;
pub mod attest;
pub mod build;
pub mod caches;
pub mod calls;
pub mod cdi;
pub mod contexts;
pub mod files;
pub mod git;
pub mod input;
pub mod limits;
pub mod outputs;
pub mod remote_execution;
pub mod services;
pub mod source;
pub mod unpacking;

use anyhow::Result;
use crossdock_builder::Events;
use crossdock_registry::Client;

/// The front door that a delivery works for.
pub trait Host: Sync {
    /// A client of registries, with the user's credentials, that reports its progress.
    ///
    /// # Errors
    ///
    /// The configuration cannot be read.
    fn client(&self) -> Result<Client>;

    /// Who hears of layers that are unpacked.
    fn events(&self) -> Option<&dyn Events> {
        None
    }

    /// Tells a person something.
    fn say(&self, text: &str);
}
