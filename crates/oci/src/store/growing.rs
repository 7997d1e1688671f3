//! A blob that others read while it is still being written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::digest::Digest;

/// Followers hear of a blob only when this many bytes are written: following a small blob gains nothing.
pub const FOLLOWED_FROM: u64 = 4 * 1024 * 1024;

/// Called with a layer's blob that is being written and has become large.
pub type Follow<'a> = &'a (dyn Fn(Arc<Growing>) + Sync);

/// The bytes of a blob written so far. The open file stays readable even if its name changes or goes.
pub struct Growing {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Default)]
struct State {
    length: u64,
    end: Option<End>,
    /// No reader wants more.
    is_left: bool,
}

#[derive(Clone)]
enum End {
    Whole(Digest),
    GivenUp,
}

/// What [`Growing::wait`] found behind a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Growth {
    /// This many bytes can be read.
    Bytes(u64),
    /// Nothing, and the blob is whole.
    End,
    /// Nothing came in time.
    Nothing,
    /// Nothing will come: the writer has failed, or [`Growing::leave`] was called.
    GivenUp,
}

impl Growing {
    pub(crate) fn new(file: File, length: u64) -> Growing {
        let state = State { length, ..State::default() };
        Growing { file, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    pub(crate) fn grew(&self, length: u64) {
        self.change(|state| state.length = length);
    }

    pub(crate) fn is_whole(&self, digest: Digest) {
        self.change(|state| state.end = Some(End::Whole(digest)));
    }

    pub(crate) fn give_up(&self) {
        self.change(|state| state.end = Some(End::GivenUp));
    }

    /// Ends all reading.
    pub fn leave(&self) {
        self.change(|state| state.is_left = true);
    }

    /// The digest, once all is written.
    pub fn digest(&self) -> Option<Digest> {
        match &self.state().end {
            Some(End::Whole(digest)) => Some(digest.clone()),
            _ => None,
        }
    }

    /// Number of bytes written.
    pub fn length(&self) -> u64 {
        self.state().length
    }

    /// Waits at most `patience` until there are bytes behind `position`, or none will come.
    pub fn wait(&self, position: u64, patience: Duration) -> Growth {
        let until = Instant::now() + patience;
        let mut state = self.state();
        loop {
            match &*state {
                State { is_left: true, .. } | State { end: Some(End::GivenUp), .. } => {
                    return Growth::GivenUp;
                }
                State { length, .. } if *length > position => return Growth::Bytes(*length - position),
                State { end: Some(End::Whole(_)), .. } => return Growth::End,
                _ => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Growth::Nothing;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads bytes already written.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let there = self.length().saturating_sub(position);
        let wanted = buffer.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        self.file.read_at(&mut buffer[..wanted], position)
    }
}

/// How long a reader waits before it asks again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads a blob from its beginning while it is written, and ends with it.
pub(crate) struct Following {
    blob: Arc<Growing>,
    position: u64,
}

impl Following {
    pub(crate) fn new(blob: Arc<Growing>) -> Following {
        Following { blob, position: 0 }
    }
}

impl Read for Following {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.blob.wait(self.position, PATIENCE) {
                Growth::Bytes(_) => break,
                Growth::End => return Ok(0),
                Growth::Nothing => {}
                Growth::GivenUp => return Err(io::Error::other("it was given up")),
            }
        }
        let n = self.blob.read_at(buffer, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn readers_wait_for_bytes_and_for_the_end() {
        let file = tempfile::tempfile().expect("a file");
        let growing = Growing::new(file.try_clone().expect("a descriptor"), 0);
        assert_eq!(growing.wait(0, Duration::ZERO), Growth::Nothing);
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                let (mut bytes, mut buffer) = (Vec::new(), [0; 3]);
                while let Growth::Bytes(_) = growing.wait(bytes.len() as u64, LONG) {
                    let n = growing.read_at(&mut buffer, bytes.len() as u64).expect("readable");
                    bytes.extend_from_slice(&buffer[..n]);
                }
                bytes
            });
            for n in 1..=10u8 {
                file.write_all_at(&[n], u64::from(n) - 1).expect("written");
                growing.grew(n.into());
            }
            growing.is_whole(Digest::of(b""));
            assert_eq!(reader.join().expect("no panic"), (1..=10).collect::<Vec<u8>>());
        });
        assert_eq!((growing.wait(10, LONG), growing.length()), (Growth::End, 10));
        // Bytes not yet reported as written are not read, even if the file has them.
        file.write_all_at(&[11], 10).expect("written");
        assert_eq!(growing.read_at(&mut [0; 3], 9).expect("readable"), 1);
        growing.leave();
        assert_eq!(growing.wait(0, LONG), Growth::GivenUp);
    }
}
