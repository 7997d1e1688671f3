//! A lock that works in every task that shares memory, however created, and across fork.

use crate::sys::process::{wait, wake};
use core::sync::atomic::{AtomicU32, Ordering};
use crossdock_emu_jit::lock::{self, Exclusion};

/// A value that one task at a time may use. Not for signal handlers, which would wait for their own task.
pub type Lock<T> = lock::Lock<T, Futex>;
/// The right to use the value; dropping it frees the lock.
pub type Held<'lock, T> = lock::Held<'lock, T, Futex>;

/// A free lock.
pub const fn new<T>(value: T) -> Lock<T> {
    Lock::new(value, Futex(AtomicU32::new(0)))
}

/// Mutual exclusion by futex(2): 0 free, 1 held, 2 held and waited for.
pub struct Futex(AtomicU32);

// SAFETY: one exchange of 0 for 1 or 2 has one winner; the swap that frees releases what the holder wrote.
unsafe impl Exclusion for Futex {
    fn try_lock(&self) -> bool {
        self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn lock(&self) {
        for _ in 0..100 {
            if self.try_lock() {
                return;
            }
            core::hint::spin_loop();
        }
        while self.0.swap(2, Ordering::Acquire) != 0 {
            wait(&self.0, 2);
        }
    }

    fn unlock(&self) {
        if self.0.swap(0, Ordering::Release) == 2 {
            wake(&self.0);
        }
    }
}
