//! Uploads of layers that are still being packed. The rules are in `docs/dev/registry.md`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossdock_oci::store::Growing;
use crossdock_oci::{Digest, Reference};

use crate::client::{Begun, Client};
use crate::error::Error;

/// How long [`Streams::end`] waits for requests under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Uploads to one repository that began before their digests were known. A later [`push`](super::push())
/// completes the uploads that it needs; the rest are cancelled when the last clone is dropped.
#[derive(Clone)]
pub struct Streams(Arc<Ended>);

/// Ends all uploads when dropped.
struct Ended(Arc<Shared>);

struct Shared {
    client: Client,
    reference: Reference,
    state: Mutex<State>,
    changed: Condvar,
}

/// Called when the registry does not let this user write.
type Refused = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    waiting: VecDeque<(Arc<Growing>, Refused)>,
    threads: usize,
    streams: Vec<Stream>,
    refusal: Option<Error>,
    is_ended: bool,
}

struct Stream {
    blob: Arc<Growing>,
    /// `None` while the upload is under way.
    done: Option<Option<Begun>>,
}

impl Streams {
    /// Sends nothing yet.
    pub fn new(client: &Client, reference: &Reference) -> Streams {
        let (client, reference) = (client.clone(), reference.clone());
        let shared = Shared { client, reference, state: Mutex::default(), changed: Condvar::new() };
        Streams(Arc::new(Ended(Arc::new(shared))))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// Begins to send a blob, or queues it behind another one. Calls `refused` if the registry does not let
    /// this user write; [`Streams::refusal`] then says why.
    pub fn follow(&self, blob: Arc<Growing>, refused: impl FnOnce() + Send + 'static) {
        let shared = self.shared();
        let mut state = shared.state();
        if state.is_ended || state.refusal.is_some() {
            return;
        }
        state.waiting.push_back((blob, Box::new(refused)));
        if state.threads < shared.client.options().max_parallel.max(1) {
            let own = shared.clone();
            // If no thread can start, the push after the build sends the blob.
            state.threads += usize::from(std::thread::Builder::new().spawn(move || own.work()).is_ok());
        }
    }

    /// Why this user may not write.
    pub fn refusal(&self) -> Option<Error> {
        self.shared().state().refusal.take()
    }

    /// Cancels all uploads that no push has completed.
    pub fn end(&self) {
        self.shared().end();
    }

    /// Whether `reference` is in the repository of these uploads.
    fn fits(&self, reference: &Reference) -> bool {
        let own = &self.shared().reference;
        own.registry() == reference.registry() && own.repository() == reference.repository()
    }

    /// Waits until all of a blob is sent and returns its upload; `None` if the upload was not begun or
    /// failed.
    pub(super) fn take(&self, reference: &Reference, digest: &Digest) -> Option<Begun> {
        if !self.fits(reference) {
            return None;
        }
        let shared = self.shared();
        let is_it = |blob: &Growing| blob.digest().as_ref() == Some(digest);
        let mut state = shared.state();
        state.waiting.retain(|(blob, _)| !is_it(blob));
        loop {
            let at = state.streams.iter().position(|stream| is_it(&stream.blob))?;
            if state.streams[at].done.is_some() {
                return state.streams.swap_remove(at).done.flatten();
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state consistent, so a poisoned lock may be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends blobs until none waits.
    fn work(&self) {
        loop {
            let (blob, refused) = {
                let mut state = self.state();
                match state.waiting.pop_front() {
                    Some(next) => {
                        state.streams.push(Stream { blob: next.0.clone(), done: None });
                        next
                    }
                    None => {
                        state.threads -= 1;
                        self.changed.notify_all();
                        return;
                    }
                }
            };
            let sent = self.client.stream_blob(&self.reference, &blob);
            let mut state = self.state();
            let (begun, error) = match sent {
                Ok(begun) => (begun, None),
                Err(error) => (None, Some(error)),
            };
            if let Some(stream) = state.streams.iter_mut().find(|stream| Arc::ptr_eq(&stream.blob, &blob)) {
                stream.done = Some(begun);
            }
            self.changed.notify_all();
            // The push reports other errors if they occur again.
            if let Some(error @ (Error::Unauthorized(_) | Error::Denied(_))) = error {
                state.refusal.get_or_insert(error);
                drop(state);
                refused();
            }
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.is_ended = true;
        state.waiting.clear();
        state.streams.iter().for_each(|stream| stream.blob.leave());
        let until = Instant::now() + PATIENCE;
        while state.threads > 0 && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let begun: Vec<Begun> = state.streams.drain(..).filter_map(|stream| stream.done.flatten()).collect();
        drop(state);
        begun.iter().for_each(|begun| self.client.cancel_upload(&self.reference, begun));
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("reference", &self.shared().reference).finish_non_exhaustive()
    }
}
