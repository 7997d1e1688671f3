//! Runs the work of a list on a few threads.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A flag that tells work to stop.
pub(super) struct Stop(AtomicBool);

impl Stop {
    /// A flag that is never set, for work that runs alone.
    pub(super) fn never() -> Stop {
        Stop(AtomicBool::new(false))
    }

    /// Fails once another part has failed.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Does `work` with each item on at most `threads` threads, starting the items in order. The first error
/// stops all work.
pub(super) fn for_each<T: Send>(
    threads: usize,
    items: Vec<T>,
    work: impl Fn(T, &Stop) -> Result<()> + Sync,
) -> Result<()> {
    let stop = Stop::never();
    let threads = threads.clamp(1, items.len().max(1));
    let queue = Mutex::new(VecDeque::from(items));
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let next = || queue.lock().unwrap_or_else(|e| e.into_inner()).pop_front();
    let run = || {
        while let Some(item) = next() {
            if let Err(e) = stop.check().and_then(|()| work(item, &stop)) {
                stop.0.store(true, Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(|e| e.into_inner());
                // Stopped items fail, too, but never first.
                failure.get_or_insert(e);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn all_is_done_once_and_errors_end_it() {
        let sum = AtomicUsize::new(0);
        for_each(3, (1..=100).collect(), |n, _| {
            sum.fetch_add(n, Ordering::Relaxed);
            Ok(())
        })
        .expect("nothing fails");
        assert_eq!(sum.into_inner(), 5050);

        let done = AtomicUsize::new(0);
        let error = for_each(1, vec![1, 2, 3], |n, _| {
            done.fetch_add(1, Ordering::Relaxed);
            if n == 2 { Err(Error::NoCredentialsFile) } else { Ok(()) }
        });
        assert!(matches!(error, Err(Error::NoCredentialsFile)));
        assert_eq!(done.into_inner(), 2);
        for_each(4, Vec::<u8>::new(), |_, _| Ok(())).expect("nothing to do");
    }
}
