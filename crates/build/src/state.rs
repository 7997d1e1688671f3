//! The state of a stage run between two instructions, and results of steps.

use std::path::PathBuf;
use std::sync::Arc;

use crossdock_oci::config::History;
use crossdock_oci::{Descriptor, Digest, ImageConfig};
use crossdock_platform::Platform;
use serde::{Deserialize, Serialize};

use crate::scope::Scope;
use crate::sync::Promise;

/// What the instructions so far have made.
#[derive(Clone)]
pub struct State {
    /// Names everything that the file system depends on: the parent of the next step's key.
    pub digest: Digest,
    /// Layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The image's configuration; `rootfs` stays empty until the end.
    pub config: ImageConfig,
    /// ARGs.
    pub scope: Scope,
    /// Platform of the stage.
    pub platform: Platform,
}

/// One layer of a state.
#[derive(Clone)]
pub struct Layer {
    /// The unpacked tree, for overlay.
    pub fs: PathBuf,
    /// Its archive, made in the background.
    pub packed: Arc<Promise<Result<Packed, String>>>,
}

/// The archive of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The compressed archive.
    pub descriptor: Descriptor,
}

/// What the cache keeps of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The layer; `None` if the step changed nothing.
    pub layer: Option<Packed>,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// Result of a step.
#[derive(Clone)]
pub struct StepResult {
    /// The layer; `None` if the step changed nothing.
    pub layer: Option<Layer>,
    /// When it was made, RFC 3339.
    pub created: String,
}

impl State {
    /// Directories for overlay, the lowest first.
    pub fn lower(&self) -> Vec<PathBuf> {
        self.layers.iter().map(|layer| layer.fs.clone()).collect()
    }

    /// Adds a step's result and its line of history.
    pub fn push(&mut self, key: Digest, result: &StepResult, created_by: String) {
        self.digest = key;
        self.note(created_by, Some(&result.created), result.layer.is_none());
        self.layers.extend(result.layer.clone());
    }

    /// Adds a line of history for a change of the configuration.
    pub fn note_metadata(&mut self, created_by: String) {
        let created = self.config.created.clone();
        self.note(created_by, created.as_deref(), true);
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
