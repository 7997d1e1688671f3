//! Streams of this process for a command inside: never the file, device or terminal itself.
//!
//! Through `/proc/self/fd` a command can reopen its streams in any mode: truncate a log that it should append
//! to, change a file that it should read, read the keyboard of a terminal that it should write to, read from
//! a pipe that others write to. So it gets its own pipes, and threads here copy.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fstat};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::dir::FileId;

/// Bytes copied at a time: the usual capacity of a pipe.
const PIECE: usize = 64 << 10;

/// Whether two streams are the same file: output to both then keeps its order only in one pipe.
pub fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => FileId::of(&one) == FileId::of(&other),
        _ => false,
    }
}

/// The copying threads of one command's output.
#[derive(Debug, Default)]
pub struct Relays {
    /// Hangs up when all threads have ended.
    ended: Option<OwnedFd>,
    /// The other end, which each thread keeps open.
    running: Option<OwnedFd>,
}

impl Relays {
    /// A pipe for the command, whose content goes to `stream` until every writing end is closed.
    pub fn output(&mut self, stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        if self.running.is_none() {
            let (ended, running) = pipe_with(PipeFlags::CLOEXEC)?;
            (self.ended, self.running) = (Some(ended), Some(running));
        }
        let running = self.running.as_ref().map(OwnedFd::try_clone).transpose()?;
        let (from, to_us) = pipe_with(PipeFlags::CLOEXEC)?;
        let to = stream.try_clone_to_owned()?;
        std::thread::Builder::new().name("output".into()).spawn(move || {
            copy(from.into(), to.into());
            drop(running);
        })?;
        Ok(to_us)
    }

    /// [`Relays::output`] for our own output: the writing end never blocks.
    pub fn output_of_ours(&mut self, stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let end = self.output(stream)?;
        rustix::fs::fcntl_setfl(&end, OFlags::WRONLY | OFlags::NONBLOCK)?;
        Ok(end)
    }

    /// Declares that no further output will be added.
    pub fn seal(&mut self) {
        self.running = None;
    }

    /// Hangs up when all output is written; `None` if nothing is copied.
    pub fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.ended.as_ref().map(OwnedFd::as_fd)
    }

    /// Waits until all output is written.
    pub fn wait(&mut self) {
        self.seal();
        if let Some(ended) = self.ended.take() {
            // No byte ever comes; an error ends the wait as the end of the pipe does.
            let _ = File::from(ended).read(&mut [0]);
        }
    }
}

/// A pipe for the command, into which the content of `stream` goes.
///
/// Nobody waits for the copying thread: it may be in a read that never returns, and ends with this process.
pub fn input(stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (theirs, to) = pipe_with(PipeFlags::CLOEXEC)?;
    let from = stream.try_clone_to_owned()?;
    std::thread::Builder::new().name("input".into()).spawn(move || copy(from.into(), to.into()))?;
    Ok(theirs)
}

/// Copies until either side ends. The return closes both sides, so a writer learns as usual that nobody reads
/// its pipe.
fn copy(mut from: File, mut to: File) {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                if write_all(&mut to, &piece[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has made the terminal or socket non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&from, false),
            Err(_) => return,
        }
    }
}

fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(to, true),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for(file: &File, writable: bool) {
    use rustix::event::{PollFd, PollFlags, poll};
    let flags = if writable { PollFlags::OUT } else { PollFlags::IN };
    let _ = poll(&mut [PollFd::new(file, flags)], None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn the_same_file_is_known_by_its_inode() {
        let (file, other) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        assert!(is_same(file.as_fd(), file.try_clone().expect("a copy").as_fd()));
        assert!(!is_same(file.as_fd(), other.as_fd()));
    }

    #[test]
    fn all_output_arrives_before_the_wait_ends() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut relays = Relays::default();
        let mut out = File::from(relays.output(file.as_fd()).expect("a pipe"));
        let mut err = File::from(relays.output(file.as_fd()).expect("a pipe"));
        out.write_all(&[b'o'; 300_000]).expect("written");
        err.write_all(b"e").expect("written");
        drop((out, err));
        relays.wait();
        let mut text = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut text)).expect("readable");
        assert_eq!(text.len(), 300_001);
    }

    #[test]
    fn input_is_copied_to_its_end() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"text").and_then(|()| file.rewind()).expect("written");
        let mut text = String::new();
        File::from(input(file.as_fd()).expect("a pipe")).read_to_string(&mut text).expect("readable");
        assert_eq!(text, "text");
    }
}
