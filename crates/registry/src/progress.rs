//! How a transfer reports its progress.

use std::time::Duration;

use crossdock_platform::Platform;

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All bytes were moved.
    Moved,
    /// The content was there already.
    Existed,
    /// The registry linked the content from another repository.
    Mounted,
    /// The work failed; the call returns the error.
    Failed,
}

/// Where content moves. Its name is the first word of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a registry into the store.
    Pull,
    /// From the store to a registry.
    Push,
    /// From registry to registry.
    Copy,
}

impl Direction {
    /// The name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Pull => "pull",
            Direction::Push => "push",
            Direction::Copy => "copy",
        }
    }

    /// The label of a part of an image.
    pub(crate) fn label(self, platform: Option<&Platform>, part: &str) -> String {
        match platform {
            Some(platform) => format!("{} {platform} {part}", self.name()),
            None => format!("{} {part}", self.name()),
        }
    }
}

/// Receives progress reports, from several threads at once. `id` is the digest of the content that moves.
pub trait Progress: Send + Sync {
    /// Work begins: `label` describes it to the user as [`Direction`], platform (if known) and part, such as
    /// `push linux/arm64 layer 2/3`; `total` is its size in bytes.
    fn start(&self, id: &str, label: &str, total: u64);
    /// `position` bytes of the total are done; the position goes back when a transfer starts over.
    fn advance(&self, id: &str, position: u64);
    /// Work ended.
    fn done(&self, id: &str, outcome: Outcome);
    /// A request failed for a temporary reason and is tried again after `delay`. `tried` counts the tries
    /// before.
    fn waiting(&self, reason: &str, delay: Duration, tried: u32) {
        let _ = (reason, delay, tried);
    }
}

/// Ignores all reports.
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: &str, _: u64) {}
    fn done(&self, _: &str, _: Outcome) {}
}
