//! Where the threads of a process are, for each other.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Bit of an engine's interrupt flag by which other threads make the engine check what has changed. The
/// engine clears the bit; it means nothing to anyone else.
pub const POKE: u32 = 2;
/// [`Presence::running`] of a thread that is not in generated code.
pub(crate) const OUTSIDE: u64 = u64::MAX;

/// Where a thread is, for the other threads.
pub(crate) struct Presence {
    /// The epoch of the generated code that the thread may be in, or [`OUTSIDE`]. It is stored before the
    /// thread reads the process's epoch for the last time, so a thread that changes the epoch and then reads
    /// this sees every runner.
    pub(crate) running: AtomicU64,
    /// The interrupt flag of the run, or null.
    pub(crate) interrupt: AtomicPtr<AtomicU32>,
}

impl Presence {
    /// Makes the thread leave generated code, if it is there.
    pub(crate) fn poke(&self) {
        if self.running.load(Ordering::SeqCst) == OUTSIDE {
            return;
        }
        // SAFETY: the flag is in the memory of a thread, which stays mapped. If the flag is another thread's
        // by now, the poke has no effect.
        if let Some(interrupt) = unsafe { self.interrupt.load(Ordering::SeqCst).as_ref() } {
            interrupt.fetch_or(POKE, Ordering::SeqCst);
        }
    }
}
