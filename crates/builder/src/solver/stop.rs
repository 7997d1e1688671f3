//! The receiver of a build's layers while they are packed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    /// What ends with this.
    parts: Mutex<Vec<Weak<Stop>>>,
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
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for part in parts.iter().filter_map(Weak::upgrade) {
            part.stop();
        }
    }

    /// A stop for a part of what this one ends: it ends with the whole, and the whole goes on without it.
    pub fn part(&self) -> Arc<Stop> {
        let part = Arc::new(Stop::default());
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| part.strong_count() > 0);
        parts.push(Arc::downgrade(&part));
        drop(parts);
        if self.is_set() {
            part.stop();
        }
        part
    }

    /// Whether the build is to end.
    pub fn is_set(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_with_the_whole_and_alone() {
        let whole = Stop::default();
        let (one, two) = (whole.part(), whole.part());
        one.stop();
        assert!(one.is_set() && !two.is_set() && !whole.is_set());
        whole.stop();
        assert!(two.is_set() && whole.part().is_set());
    }
}
