//! Mutual exclusion: what guards a value, whatever way threads wait; and a lock that spins, since
//! translations are short and this crate makes no system calls.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// How threads wait for a lock.
///
/// # Safety
///
/// Between a return of [`Exclusion::lock`], or a true one of [`Exclusion::try_lock`], and the next
/// [`Exclusion::unlock`], no other thread's call of either returns so; and what the holder wrote is seen by
/// the next one.
pub unsafe trait Exclusion {
    /// Takes the lock, if it is free.
    fn try_lock(&self) -> bool;
    /// Waits for the lock.
    fn lock(&self);
    /// Frees the lock, which the caller holds.
    fn unlock(&self);
}

/// A value that one thread at a time may use.
#[derive(Debug)]
pub struct Lock<T, E = Spin> {
    exclusion: E,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only by the holder of the lock.
unsafe impl<T: Send, E: Exclusion + Sync> Sync for Lock<T, E> {}

impl<T, E: Exclusion> Lock<T, E> {
    /// A lock that is as free as `exclusion`.
    pub const fn new(value: T, exclusion: E) -> Self {
        Lock { exclusion, value: UnsafeCell::new(value) }
    }

    /// The lock, if it becomes free soon: for a signal handler, which must not wait for long.
    pub fn lock_soon(&self) -> Option<Held<'_, T, E>> {
        for _ in 0..2000 {
            if self.exclusion.try_lock() {
                return Some(Held { lock: self });
            }
            core::hint::spin_loop();
        }
        None
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Held<'_, T, E> {
        self.exclusion.lock();
        Held { lock: self }
    }
}

/// The right to use the value; dropping it frees the lock.
pub struct Held<'lock, T, E: Exclusion = Spin> {
    lock: &'lock Lock<T, E>,
}

impl<T, E: Exclusion> Deref for Held<'_, T, E> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: we hold the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, E: Exclusion> DerefMut for Held<'_, T, E> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, E: Exclusion> Drop for Held<'_, T, E> {
    fn drop(&mut self) {
        self.lock.exclusion.unlock();
    }
}

/// Threads that wait spin.
pub struct Spin {
    held: AtomicBool,
    /// What to do between attempts once spinning has not helped.
    wait: fn(),
}

impl Spin {
    /// A free lock; `wait` lets other threads run.
    pub const fn new(wait: fn()) -> Self {
        Spin { held: AtomicBool::new(false), wait }
    }
}

// SAFETY: one swap of false for true has one winner; the store that frees releases what the holder wrote.
unsafe impl Exclusion for Spin {
    fn try_lock(&self) -> bool {
        !self.held.swap(true, Ordering::Acquire)
    }

    fn lock(&self) {
        loop {
            for _ in 0..200 {
                if self.try_lock() {
                    return;
                }
                core::hint::spin_loop();
            }
            (self.wait)();
        }
    }

    fn unlock(&self) {
        self.held.store(false, Ordering::Release);
    }
}
