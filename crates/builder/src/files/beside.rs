//! Threads beside a walk through files: they read and write the content of large files while the walk goes
//! on. For small files this does not pay.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

/// Size from which a file is worth a thread, in bytes.
pub(crate) const LARGE: u64 = 1024 * 1024;

/// More threads would keep too many files open: each piece of work that runs or waits has two.
const THREADS_MAX: usize = 16;

type Work<'scope> = Box<dyn FnOnce() + Send + 'scope>;

/// As many threads as there are CPUs, at most 16, started by the first work. They end when this is dropped.
pub(crate) struct Beside<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// Bounded, so that few files are open.
    queue: Option<SyncSender<Work<'scope>>>,
}

impl<'scope, 'env> Beside<'scope, 'env> {
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>) -> Beside<'scope, 'env> {
        Beside { scope, queue: None }
    }

    /// Runs work on another thread, or on this one if there is no other. The channel receives the result.
    pub(crate) fn run<T: Send + 'scope>(&mut self, work: impl FnOnce() -> T + Send + 'scope) -> Receiver<T> {
        let (send, receive) = sync_channel(1);
        let work: Work<'scope> = Box::new(move || {
            // Nobody waits any more after an error elsewhere.
            let _ = send.send(work());
        });
        if self.queue.is_none() {
            self.queue = self.start();
        }
        match &self.queue {
            Some(queue) => {
                if let Err(unsent) = queue.send(work) {
                    (unsent.0)();
                }
            }
            None => work(),
        }
        receive
    }

    fn start(&self) -> Option<SyncSender<Work<'scope>>> {
        let threads = crossdock_oci::cpus().min(THREADS_MAX);
        let (send, receive) = sync_channel::<Work<'scope>>(threads);
        let receive = Arc::new(Mutex::new(receive));
        let mut started = 0;
        for _ in 0..threads {
            let receive = receive.clone();
            let work = move || {
                loop {
                    let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(work) = next else { return };
                    work();
                }
            };
            started += usize::from(std::thread::Builder::new().spawn_scoped(self.scope, work).is_ok());
        }
        (started > 0).then_some(send)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_in_the_order_of_their_channels() {
        let words: Vec<String> = (0..100).map(|n: u32| n.to_string()).collect();
        let lengths: Vec<usize> = std::thread::scope(|scope| {
            let mut beside = Beside::new(scope);
            let waiting: Vec<_> = words.iter().map(|word| beside.run(move || word.len())).collect();
            waiting.into_iter().map(|length| length.recv().expect("no thread panics")).collect()
        });
        assert_eq!(lengths, words.iter().map(String::len).collect::<Vec<_>>());
    }
}
