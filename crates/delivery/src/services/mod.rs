//! Caches in services that keep files under keys: a list of steps, and their layers.

mod actions;
mod bucket;
mod container;
mod objects;
mod service;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use crossdock_builder::solver::cache::StepCache;
use crossdock_oci::manifest::MANIFEST_SIZE_MAX;
use crossdock_oci::{Descriptor, Store};
use crossdock_registry::Client;
use crossdock_registry::client::{BlobContainer, Bucket, FileSource};

use actions::ActionsPlace;
use objects::ObjectsPlace;
use service::Service;
pub use service::Variables;

/// Layers that are sent at the same time.
const AT_ONCE: usize = 4;

/// The largest list of steps that is read, in bytes.
const LIST_SIZE_MAX: u64 = 4 * MANIFEST_SIZE_MAX;

/// A cache in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePlace {
    /// `type=gha`.
    Actions(ActionsPlace),
    /// `type=s3`.
    Bucket(ObjectsPlace<Bucket>),
    /// `type=azblob`.
    Container(ObjectsPlace<BlobContainer>),
}

impl ServicePlace {
    /// Reads the fields of `type=gha`, `type=s3` or `type=azblob`; what is not given is in the environment.
    /// `None` for the first outside of a job.
    ///
    /// # Errors
    ///
    /// A field that is missing or wrong.
    pub fn of_fields(
        kind: &str,
        fields: &HashMap<&str, &str>,
        variables: Variables<'_>,
    ) -> Result<Option<ServicePlace>> {
        match kind {
            "gha" => Ok(ActionsPlace::of_fields(fields, variables)?.map(ServicePlace::Actions)),
            "azblob" => Ok(Some(ServicePlace::Container(container::of_fields(fields, variables)?))),
            _ => Ok(Some(ServicePlace::Bucket(bucket::of_fields(fields, variables)?))),
        }
    }

    fn service(&self) -> &dyn Service {
        match self {
            ServicePlace::Actions(place) => place,
            ServicePlace::Bucket(place) => place,
            ServicePlace::Container(place) => place,
        }
    }

    /// How messages call the cache.
    pub fn shown(&self) -> String {
        self.service().shown()
    }

    /// Reads the newest list of steps.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn read(&self, client: &Client, store: &Store) -> Result<StepCache> {
        let directory = store.temporary_directory()?;
        let path = directory.path().join("list");
        self.service().take_list(client, &path, LIST_SIZE_MAX)?;
        let reading = || format!("read {}", path.display());
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).with_context(reading)?;
        file.take(LIST_SIZE_MAX).read_to_end(&mut bytes).with_context(reading)?;
        serde_json::from_slice(&bytes).context("the list of steps is damaged")
    }

    /// Writes a list of steps, after their layers.
    ///
    /// # Errors
    ///
    /// A layer that is not in the store, or the service's refusal.
    pub fn write(&self, client: &Client, store: &Store, steps: &StepCache) -> Result<()> {
        self.service().begin(client)?;
        let layers = Mutex::new(steps.layers().into_iter());
        let next = || layers.lock().unwrap_or_else(PoisonError::into_inner).next();
        let send_all = || -> Result<()> {
            while let Some(layer) = next() {
                self.send(client, store, &layer).with_context(|| format!("layer {}", layer.digest))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE)
                .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, send_all).ok())
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            let ended: Vec<Result<()>> = threads.into_iter().map(join).collect();
            ended.into_iter().collect::<Result<()>>()
        })?;
        // What no thread could be started for.
        send_all()?;
        self.service().put_list(client, serde_json::to_vec(steps)?)
    }

    fn send(&self, client: &Client, store: &Store, layer: &Descriptor) -> Result<()> {
        // The blob is held, and cannot be collected while it is sent.
        let size = store.blob_size(&layer.digest)?.context("it is not in the store")?;
        if self.service().has_layer(client, &layer.digest, size)? {
            return Ok(());
        }
        self.service().put_layer(client, &layer.digest, size, &FileSource(store.blob_path(&layer.digest)))
    }

    /// Downloads a layer to a new file. Only its size is verified.
    ///
    /// # Errors
    ///
    /// The service has it no longer, or errors of the connection.
    pub fn download(&self, client: &Client, layer: &Descriptor, to: &Path) -> Result<()> {
        self.service().take_layer(client, layer, to)
    }
}
