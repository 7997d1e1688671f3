//! A lock that spins: translations are short, and this crate makes no system calls.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Mutual exclusion.
pub struct Lock<T> {
    held: AtomicBool,
    /// What to do between attempts once spinning has not helped.
    pub(crate) wait: fn(),
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only by the holder of the lock.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A free lock; `wait` lets other threads run.
    pub const fn new(value: T, wait: fn()) -> Self {
        Lock { held: AtomicBool::new(false), wait, value: UnsafeCell::new(value) }
    }

    /// The lock, if it becomes free soon: for a signal handler, which must not wait for long.
    pub fn lock_soon(&self) -> Option<Held<'_, T>> {
        for _ in 0..2000 {
            if !self.held.swap(true, Ordering::Acquire) {
                return Some(Held { lock: self });
            }
            core::hint::spin_loop();
        }
        None
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Held<'_, T> {
        loop {
            for _ in 0..200 {
                if !self.held.swap(true, Ordering::Acquire) {
                    return Held { lock: self };
                }
                core::hint::spin_loop();
            }
            (self.wait)();
        }
    }
}

/// The right to use the value; ends when it is dropped.
pub struct Held<'l, T> {
    lock: &'l Lock<T>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: we hold the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}
