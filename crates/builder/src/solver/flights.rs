//! Waiting for results of other threads.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossdock_oci::Digest;

/// Locks a mutex. A panic of another thread does no harm, since every value is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that another thread sets once, or that the first who waits for it makes.
pub struct Promise<T> {
    value: OnceLock<T>,
    /// Makes the value; `None` if another thread sets it.
    make: Option<Box<dyn Fn() -> T + Send + Sync>>,
}

impl<T: Clone> Promise<T> {
    /// A promise that is not kept yet.
    pub fn new() -> Promise<T> {
        Promise { value: OnceLock::new(), make: None }
    }

    /// A promise that is kept already.
    pub fn kept(value: T) -> Promise<T> {
        Promise { value: value.into(), make: None }
    }

    /// A promise that is kept when somebody waits for it. `make` is called once, unless it panics.
    pub fn later(make: impl Fn() -> T + Send + Sync + 'static) -> Promise<T> {
        Promise { value: OnceLock::new(), make: Some(Box::new(make)) }
    }

    /// Sets the value; only the first call counts.
    pub fn keep(&self, value: T) {
        let _ = self.value.set(value);
    }

    /// Whether the value is there.
    pub fn is_kept(&self) -> bool {
        self.value.get().is_some()
    }

    /// Whether the value is made by the first who waits for it, and nobody has yet.
    pub fn is_put_off(&self) -> bool {
        self.make.is_some() && !self.is_kept()
    }

    /// Waits for the value.
    pub fn wait(&self) -> T {
        match &self.make {
            Some(make) => self.value.get_or_init(make).clone(),
            None => self.value.wait().clone(),
        }
    }
}

impl<T: Clone> Default for Promise<T> {
    fn default() -> Promise<T> {
        Promise::new()
    }
}

/// A number of places, taken while work is done.
pub struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place that was taken; free again when dropped.
pub struct Slot<'a>(&'a Slots);

impl Slots {
    /// `count` places, at least one.
    pub fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count.max(1)), freed: Condvar::new() }
    }

    /// Takes a place if one is free.
    pub fn try_take(&self) -> Option<Slot<'_>> {
        let mut free = lock(&self.free);
        *free = free.checked_sub(1)?;
        Some(Slot(self))
    }

    /// Waits for a place and takes it.
    pub fn take(&self) -> Slot<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

/// Work by key: the first thread does the work; the others wait until it is done and then look again.
pub struct Flights<K>(Mutex<HashMap<K, Arc<Promise<()>>>>);

/// The right to do the work of a key; gives it back when dropped.
pub struct Flight<'a, K: Eq + Hash + Clone>(&'a Flights<K>, K);

impl<K: Eq + Hash + Clone> Flights<K> {
    /// No work under way.
    pub fn new() -> Flights<K> {
        Flights(Mutex::new(HashMap::new()))
    }

    /// Whether a thread does the work of this key now.
    pub fn is_flying(&self, key: &K) -> bool {
        lock(&self.0).contains_key(key)
    }

    /// The right to do the work, or `None` after another thread did it, successfully or not.
    pub fn board(&self, key: &K) -> Option<Flight<'_, K>> {
        let promise = {
            let mut flights = lock(&self.0);
            match flights.get(key) {
                Some(promise) => promise.clone(),
                None => {
                    flights.insert(key.clone(), Arc::new(Promise::new()));
                    return Some(Flight(self, key.clone()));
                }
            }
        };
        promise.wait();
        None
    }
}

impl<K: Eq + Hash + Clone> Drop for Flight<'_, K> {
    fn drop(&mut self) {
        if let Some(promise) = lock(&self.0.0).remove(&self.1) {
            promise.keep(());
        }
    }
}

/// What builds of one process have in common: a step that several of them need is executed once.
#[derive(Clone, Default)]
pub struct Shared(Arc<SharedFlights>);

#[derive(Default)]
struct SharedFlights {
    keys: Mutex<HashSet<Digest>>,
    landed: Condvar,
}

/// The right to execute a step; gives it back when dropped.
pub(crate) struct SharedFlight(Shared, Digest);

impl Shared {
    /// The right to execute the step of a key, or `None` after another build executed it, successfully or
    /// not, or after `goes_on`, which is asked from time to time, returned false.
    pub(crate) fn board(&self, key: &Digest, mut goes_on: impl FnMut() -> bool) -> Option<SharedFlight> {
        /// How often a build that waits looks whether it was stopped.
        const PATIENCE: Duration = Duration::from_millis(50);
        let mut keys = lock(&self.0.keys);
        if keys.insert(key.clone()) {
            return Some(SharedFlight(self.clone(), key.clone()));
        }
        while keys.contains(key) && goes_on() {
            keys = self.0.landed.wait_timeout(keys, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

impl Drop for SharedFlight {
    fn drop(&mut self) {
        lock(&self.0.0.keys).remove(&self.1);
        self.0.0.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_is_made_later_is_made_once_and_only_if_wanted() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let promise = Promise::later(move || count.fetch_add(1, Ordering::SeqCst));
        assert!(!promise.is_kept());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(promise.wait(), 0));
            }
        });
        assert!(promise.is_kept() && made.load(Ordering::SeqCst) == 1);
    }

    #[test]
    fn one_flies_and_the_others_wait() {
        let flights = Flights::new();
        let (executed, result) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        if result.lock().expect("no panic").is_some() {
                            return;
                        }
                        if let Some(_flight) = flights.board(&"key") {
                            if result.lock().expect("no panic").is_some() {
                                return;
                            }
                            executed.fetch_add(1, Ordering::SeqCst);
                            *result.lock().expect("no panic") = Some(1);
                            return;
                        }
                    }
                });
            }
        });
        assert_eq!(executed.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn builds_of_a_process_wait_for_each_other_unless_they_are_stopped() {
        let (shared, key) = (Shared::default(), Digest::of(b"step"));
        let flight = shared.board(&key, || unreachable!("nobody executes the step")).expect("the first");
        assert!(shared.board(&key, || false).is_none(), "a build that was stopped waits no longer");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| shared.board(&key, || true).is_none());
            drop(flight);
            // The other thread either waited for the first flight, or came after it and flies itself.
            let _ = waiting.join().expect("no panic");
        });
        assert!(shared.board(&key, || true).is_some(), "nobody executes the step any more");
    }

    #[test]
    fn a_place_is_taken_only_if_it_is_free() {
        let slots = Slots::new(1);
        let taken = slots.try_take();
        assert!(taken.is_some() && slots.try_take().is_none());
        drop(taken);
        assert!(slots.try_take().is_some());
    }

    #[test]
    fn slots_limit() {
        let slots = Slots::new(2);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let _slot = slots.take();
                    let count = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(count, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }
}
