//! Where the guest's memory may be executed.
//!
//! A page has on the host the rights that the guest gave it, but the host executes nothing there: the rights
//! are looked up when code is decoded. Known ranges are kept, and unknown ones are looked up in the host's
//! list of mappings. So a call that makes memory executable need not be recorded; one that takes the right
//! back must be. Code is decoded only where it may be executed, so changes of other memory are no changes of
//! code.

use crate::lock::{self, Held, Lock};
use crate::maps;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

/// Executable ranges, ascending and disjoint.
#[derive(Debug)]
pub(crate) struct Known(Vec<Range<u64>>);

static KNOWN: Lock<Known> = lock::new(Known(Vec::new()));
/// Whether code was ever looked for outside [`KNOWN`]. Set before the host's list is read: a thread that
/// takes a right back and then finds this clear did so before the list was read.
static ELSEWHERE: AtomicBool = AtomicBool::new(false);

impl Known {
    fn find(&self, address: u64) -> Option<Range<u64>> {
        let at = self.0.partition_point(|range| range.end <= address);
        self.0.get(at).filter(|range| range.start <= address).cloned()
    }

    /// Returns whether any of it was known.
    fn remove(&mut self, gone: &Range<u64>) -> bool {
        let first = self.0.partition_point(|range| range.end <= gone.start);
        let last = self.0.partition_point(|range| range.start < gone.end);
        if first >= last {
            return false;
        }
        let left = self.0[first].start..gone.start;
        let right = gone.end..self.0[last - 1].end;
        self.0.splice(first..last, [left, right].into_iter().filter(|range| !range.is_empty()));
        true
    }

    /// Returns whether any of it was known.
    fn add(&mut self, new: Range<u64>) -> bool {
        if new.is_empty() {
            return false;
        }
        let was_known = self.remove(&new);
        let at = self.0.partition_point(|range| range.end <= new.start);
        self.0.insert(at, new);
        was_known
    }
}

/// Keeps the ranges consistent, for a fork.
pub(crate) fn hold() -> Held<'static, Known> {
    KNOWN.lock()
}

/// Records the rights of a range. Returns whether any of it was known to be executable.
pub(crate) fn set(range: Range<u64>, is_executable: bool) -> bool {
    let mut known = KNOWN.lock();
    if is_executable { known.add(range) } else { known.remove(&range) }
}

/// Whether code may have been decoded in memory that was never known to be executable. Call this after rights
/// have been taken back.
pub(crate) fn is_elsewhere() -> bool {
    ELSEWHERE.load(Ordering::SeqCst)
}

/// Whether an address is known to be executable.
pub(crate) fn find_known(address: u64) -> bool {
    KNOWN.lock().find(address).is_some()
}

/// The executable range around an address, or a part of that range; `None` if the address is not executable.
pub(crate) fn find(address: u64) -> Option<Range<u64>> {
    if let Some(range) = KNOWN.lock().find(address) {
        return Some(range);
    }
    ELSEWHERE.store(true, Ordering::SeqCst);
    let range = maps::mapping(address).filter(|mapping| mapping.is_executable)?.range;
    // Another thread may have taken the right back since: the range is used once and not kept.
    Some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_and_found() {
        let mut known = Known(Vec::new());
        known.add(10..20);
        known.add(30..40);
        known.add(20..30);
        assert_eq!((known.find(9), known.find(10), known.find(19)), (None, Some(10..20), Some(10..20)));
        assert_eq!((known.find(25), known.find(40)), (Some(20..30), None));
        assert!(known.remove(&(15..35)));
        assert_eq!(known.0, [10..15, 35..40]);
        assert!(known.remove(&(11..12)));
        assert_eq!(known.0, [10..11, 12..15, 35..40]);
        assert!(!known.add(20..30) && !known.remove(&(15..20)));
        assert!(known.add(0..100));
        assert_eq!((known.0.len(), known.find(50)), (1, Some(0..100)));
        known.remove(&(0..0));
        known.remove(&(100..200));
        assert_eq!((known.0.len(), known.find(50)), (1, Some(0..100)));
        known.remove(&(0..100));
        assert!(known.0.is_empty());
    }
}
