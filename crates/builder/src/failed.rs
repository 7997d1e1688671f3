//! What is left of a command that failed, for whoever wants to look into it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossdock_oci::store::Frozen;
use crossdock_platform::Platform;
use crossdock_sandbox::Network;

use crate::command::mount::Mount;

/// A command that failed, with its files.
pub struct Failed {
    /// The command line.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// `USER[:GROUP]`.
    pub user: String,
    /// Its network.
    pub network: Network,
    /// Whether it had all rights that the builder has.
    pub insecure: bool,
    /// The platform of its programs.
    pub platform: Platform,
    /// The layers of its root before it ran, the lowest first.
    pub before: Vec<PathBuf>,
    /// The directory that its changes went to.
    pub(crate) upper: PathBuf,
    /// What it changed.
    pub(crate) changes: Option<Frozen>,
    /// Its mounts. Trees are layers, the lowest first.
    pub mounts: Vec<Mount<Vec<PathBuf>>>,
}

impl Failed {
    /// The layers of its root as it left it, the lowest first.
    pub fn after(&self) -> Vec<PathBuf> {
        let changes = self.changes.as_ref().and_then(Frozen::path);
        self.before.iter().cloned().chain(changes).collect()
    }
}

/// The first command of a build that failed. Its files stay as long as this.
#[derive(Default)]
pub struct FirstFailed(Mutex<Option<Failed>>);

impl FirstFailed {
    fn lock(&self) -> MutexGuard<'_, Option<Failed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The command, if one failed.
    pub fn take(&self) -> Option<Failed> {
        self.lock().take()
    }

    /// Notes a command, unless another one failed before.
    pub(crate) fn note(&self, failed: Failed) {
        self.lock().get_or_insert(failed);
    }

    /// Whether the command that was noted wrote to this directory.
    pub(crate) fn wrote_to(&self, upper: &Path) -> bool {
        self.lock().as_ref().is_some_and(|failed| failed.upper == upper)
    }

    /// Adds what the command that was noted has changed.
    pub(crate) fn add_changes(&self, changes: Frozen) {
        if let Some(failed) = self.lock().as_mut() {
            failed.changes.get_or_insert(changes);
        }
    }
}
