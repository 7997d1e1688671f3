//! The state of a stage run between two instructions.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossdock_oci::config::History;
use crossdock_oci::store::DOCUMENT_SIZE_MAX;
use crossdock_oci::{Digest, ImageConfig, Store};
use crossdock_platform::Platform;

use super::scope::{Env, Scope};
use crate::error::ErrorKind;
use crate::event::StepId;
use crate::solver::layer::{Base, Layer, StepResult, trees_of};

/// The result of the instructions so far.
#[derive(Clone)]
pub struct State {
    /// Names everything that the file system depends on; parent of the next step's key.
    pub digest: Digest,
    /// Layers, the lowest first.
    pub layers: Vec<Layer>,
    /// How much of this is the base image's.
    pub base: Base,
    /// The image's configuration; `rootfs` and the environment stay empty until the end.
    pub config: ImageConfig,
    /// The environment of the configuration.
    pub env: Env,
    /// ARGs.
    pub scope: Scope,
    /// Size of the configuration.
    pub weight: Weight,
    /// Platform of the stage.
    pub platform: Platform,
    /// The step that made the last change; `None` for an empty image.
    pub made_by: Option<StepId>,
}

/// Memory that the configurations and ARGs of all stages of a build may take, in bytes.
pub const STAGES_SIZE_MAX: usize = 1024 * 1024 * 1024;

/// Approximate bytes in JSON of a line of history without its text, and of a layer.
const ENTRY_SIZE: usize = 100;
/// Approximate memory per byte of JSON: strings, and the index of the environment.
const MEMORY_PER_BYTE: usize = 4;

/// The bytes that a state's configuration takes in JSON, and the memory that all states of the build take.
pub struct Weight {
    all: Arc<AtomicUsize>,
    json: usize,
    memory: usize,
}

impl Weight {
    /// A weight of nothing, counted in `all`.
    pub fn new(all: &Arc<AtomicUsize>) -> Weight {
        Weight { all: all.clone(), json: 0, memory: 0 }
    }

    /// Adds `bytes` of the configuration.
    ///
    /// # Errors
    ///
    /// A configuration too large to be read ([`DOCUMENT_SIZE_MAX`]); more than [`STAGES_SIZE_MAX`] in all
    /// stages.
    pub fn add(&mut self, bytes: usize) -> Result<(), ErrorKind> {
        self.json += bytes;
        if self.json as u64 > DOCUMENT_SIZE_MAX {
            let message = format!(
                "the configuration of the image (environment, labels, history) takes more than {DOCUMENT_SIZE_MAX} bytes, the limit"
            );
            return Err(ErrorKind::Dockerfile(message));
        }
        self.add_memory(bytes * MEMORY_PER_BYTE)
    }

    /// Adds memory that is not part of the configuration.
    pub fn add_memory(&mut self, bytes: usize) -> Result<(), ErrorKind> {
        self.memory += bytes;
        let all = self.all.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > STAGES_SIZE_MAX {
            let message = format!(
                "ENV, ARG, labels and history of all stages take more than {STAGES_SIZE_MAX} bytes together, the limit"
            );
            return Err(ErrorKind::Dockerfile(message));
        }
        Ok(())
    }
}

impl Clone for Weight {
    fn clone(&self) -> Weight {
        self.all.fetch_add(self.memory, Ordering::Relaxed);
        Weight { all: self.all.clone(), json: self.json, memory: self.memory }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.memory, Ordering::Relaxed);
    }
}

impl State {
    /// Directories for overlay, the lowest first.
    ///
    /// # Errors
    ///
    /// As [`Layer::tree`].
    pub fn lower(&self, store: &Store) -> Result<Vec<PathBuf>, ErrorKind> {
        trees_of(store, &self.layers)
    }

    /// Adds a step's result and its line of history.
    pub fn push(&mut self, key: Digest, result: &StepResult, created_by: String) -> Result<(), ErrorKind> {
        self.weight.add(created_by.len() + 2 * ENTRY_SIZE)?;
        self.digest = result.digest(key);
        self.note(created_by, Some(&result.created), result.layer.is_none());
        self.layers.extend(result.layer.clone());
        Ok(())
    }

    /// Adds a line of history for a change of the configuration, which holds about the same text again.
    pub fn note_metadata(&mut self, created_by: String) -> Result<(), ErrorKind> {
        self.weight.add(2 * created_by.len() + ENTRY_SIZE)?;
        let created = self.config.created.clone();
        self.note(created_by, created.as_deref(), true);
        Ok(())
    }

    fn note(&mut self, created_by: String, created: Option<&str>, empty: bool) {
        let created = created.map(str::to_string);
        // RFC 3339 in UTC with equal precision sorts as text.
        if created > self.config.created {
            self.config.created = created.clone();
        }
        self.config.history.push(History {
            created,
            created_by: Some(created_by),
            author: None,
            comment: Some("crossdock".to_string()),
            empty_layer: empty.then_some(true),
        });
    }
}
