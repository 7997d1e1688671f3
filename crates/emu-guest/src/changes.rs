//! The log of changes of code.

use crate::code_lines::CodeLines;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Entries that the log keeps. A thread that is further behind drops all its code.
pub const LOG: usize = 64;

/// The log of changed code that the threads of a guest process share.
///
/// Each [`crate::Interpreter`] reads it before each block. Lock-free, so that a fork at any moment leaves a
/// usable copy in the child.
#[derive(Debug)]
pub struct Invalidations {
    /// Number of entries claimed so far.
    head: AtomicU64,
    entries: [Entry; LOG],
    lines: CodeLines,
}

#[derive(Debug)]
struct Entry {
    /// One more than the number of the entry that the range belongs to; 0 while it is being written.
    sequence: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

impl Invalidations {
    /// An empty log.
    pub const fn new() -> Self {
        Invalidations {
            head: AtomicU64::new(0),
            entries: [const {
                Entry { sequence: AtomicU64::new(0), start: AtomicU64::new(0), end: AtomicU64::new(0) }
            }; LOG],
            lines: CodeLines::new(),
        }
    }

    /// The lines of memory from which code was ever read.
    pub fn lines(&self) -> &CodeLines {
        &self.lines
    }

    /// Makes all threads forget code decoded from `range` before they run their next block. Call it after IC
    /// IVAU, munmap, mmap over existing pages, mprotect, mremap, and any other write to code: always after
    /// the change.
    pub fn invalidate(&self, range: Range<u64>) {
        let number = self.head.fetch_add(1, Ordering::SeqCst);
        let entry = &self.entries[number as usize % LOG];
        entry.sequence.store(0, Ordering::SeqCst);
        entry.start.store(range.start, Ordering::SeqCst);
        entry.end.store(range.end, Ordering::SeqCst);
        entry.sequence.store(number + 1, Ordering::SeqCst);
    }

    /// The number of entries claimed.
    #[inline(always)]
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Entry `number`; `None` if it is not yet written or already overwritten.
    pub fn entry(&self, number: u64) -> Option<Range<u64>> {
        let entry = &self.entries[number as usize % LOG];
        let before = entry.sequence.load(Ordering::SeqCst);
        let range = entry.start.load(Ordering::SeqCst)..entry.end.load(Ordering::SeqCst);
        let after = entry.sequence.load(Ordering::SeqCst);
        (before == number + 1 && after == before).then_some(range)
    }
}

impl Default for Invalidations {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_log_are_read_until_they_are_overwritten() {
        let log = Invalidations::new();
        log.invalidate(1..2);
        assert_eq!(log.entry(0), Some(1..2));
        assert_eq!(log.entry(1), None);
        for _ in 0..LOG {
            log.invalidate(3..4);
        }
        assert_eq!(log.entry(0), None);
        assert_eq!(log.entry(LOG as u64), Some(3..4));
    }
}
