//! Layers that other machines have are fetched in the background, by a few threads.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread::Scope as Threads;

/// Layers that are fetched at once. Most of the time is the other end's.
const THREADS_MAX: usize = 8;

/// Fetches a layer. Who needs the layer learns of a failure.
type Fetch = Box<dyn FnOnce() + Send>;

/// Layers that wait to be fetched, and the number of threads that fetch.
#[derive(Default)]
pub(crate) struct Fetchers(Mutex<Backlog>);

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Fetch>,
    threads: usize,
}

impl Fetchers {
    fn backlog(&self) -> std::sync::MutexGuard<'_, Backlog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a layer to a thread. If none can start, this one fetches.
    pub fn fetch_later<'scope>(&'scope self, threads: &'scope Threads<'scope, '_>, fetch: Fetch) {
        let is_needed = {
            let mut backlog = self.backlog();
            backlog.waiting.push_back(fetch);
            let is_needed = backlog.threads < THREADS_MAX;
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
