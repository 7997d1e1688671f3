//! Layers that other machines have are fetched in the background, by a few threads, which also bring layers
//! there.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread::Scope as Threads;

/// Layers that are fetched or brought at once. Most of the time is the other end's.
const THREADS_MAX: usize = 8;
/// Threads that small layers are worth: they come together.
const THREADS_OF_SMALL_MAX: usize = 2;
/// Longest layer that counts as small, in bytes.
const SMALL_MAX: u64 = 64 << 10;

/// Fetches a layer, or brings one. Who needs the layer learns of a failure.
type Fetch<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Layers that wait to be fetched, and the number of threads that fetch.
#[derive(Default)]
pub(crate) struct Fetchers<'a>(Mutex<Backlog<'a>>);

#[derive(Default)]
struct Backlog<'a> {
    waiting: VecDeque<Fetch<'a>>,
    threads: usize,
}

impl<'a> Fetchers<'a> {
    fn backlog(&self) -> std::sync::MutexGuard<'_, Backlog<'a>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a layer of so many bytes to a thread. If none can start, this one fetches.
    pub fn fetch_later<'scope>(
        &'scope self,
        threads: &'scope Threads<'scope, '_>,
        size: u64,
        fetch: Fetch<'a>,
    ) {
        let threads_max = if size <= SMALL_MAX { THREADS_OF_SMALL_MAX } else { THREADS_MAX };
        let is_needed = {
            let mut backlog = self.backlog();
            backlog.waiting.push_back(fetch);
            let is_needed = backlog.threads < threads_max;
            backlog.threads += usize::from(is_needed);
            is_needed
        };
        if is_needed && std::thread::Builder::new().spawn_scoped(threads, || self.fetch_all()).is_err() {
            self.fetch_all();
        }
    }

    /// Fetches until nothing waits.
    fn fetch_all(&self) {
        loop {
            let fetch = {
                let mut backlog = self.backlog();
                match backlog.waiting.pop_front() {
                    Some(fetch) => fetch,
                    None => {
                        backlog.threads -= 1;
                        return;
                    }
                }
            };
            fetch();
        }
    }
}
