//! The receiver of a build's layers while they are packed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossdock_oci::store::Growing;
use crossdock_sandbox::Killer;

use crate::event::StepId;

/// Receives large layers of the images while they are packed.
pub trait LayerSink: Sync {
    /// Takes a layer whose digest is not known yet. Returns at once; `stop` ends the build if it has become
    /// pointless.
    fn follow(&self, layer: Arc<Growing>, stop: &Arc<Stop>);
}

/// Ends a build early.
#[derive(Default)]
pub struct Stop {
    is_set: AtomicBool,
    running: Mutex<Vec<(StepId, Killer)>>,
}

impl Stop {
    fn running(&self) -> MutexGuard<'_, Vec<(StepId, Killer)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the running commands and lets nothing more begin.
    pub fn stop(&self) {
        self.is_set.store(true, Ordering::SeqCst);
        for (_, killer) in self.running().iter() {
            killer.kill(9);
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Lets [`Stop::stop`] kill this command while `work` waits for it.
    pub(crate) fn while_running<T>(&self, step: StepId, killer: Killer, work: impl FnOnce() -> T) -> T {
        self.running().push((step, killer.clone()));
        if self.is_set() {
            killer.kill(9);
        }
        let result = work();
        self.running().retain(|(id, _)| *id != step);
        result
    }
}
