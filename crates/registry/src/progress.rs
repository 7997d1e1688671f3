//! What a transfer tells about its course.

use std::time::Duration;

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All bytes were moved.
    Moved,
    /// It was there already.
    Existed,
    /// The registry linked it from another repository.
    Mounted,
    /// It failed; the error is returned by the call.
    Failed,
}

/// Receives the course of transfers, from several threads at once. `id` is the digest of what moves.
pub trait Progress: Send + Sync {
    /// Work begins: `label` says what for a person, `total` is its size in bytes.
    fn start(&self, id: &str, label: &str, total: u64);
    /// `position` bytes of the total are done; goes back when a transfer starts over.
    fn advance(&self, id: &str, position: u64);
    /// Work ended.
    fn done(&self, id: &str, outcome: Outcome);
    /// A request failed for a reason that may pass: it is tried again after `delay`. `tried` counts the tries
    /// before.
    fn waiting(&self, reason: &str, delay: Duration, tried: u32) {
        let _ = (reason, delay, tried);
    }
}

/// Listens to nothing.
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: &str, _: u64) {}
    fn done(&self, _: &str, _: Outcome) {}
}
