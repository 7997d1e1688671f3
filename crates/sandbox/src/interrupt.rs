//! A last message before a signal ends this process.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};

use crate::sys::SignalPipe;

/// How long the last message may take; standard error may be a pipe that nobody reads.
const PATIENCE: Duration = Duration::from_millis(500);

/// Calls `tell` on SIGINT, SIGTERM or SIGHUP; the signal then ends this process as usual. A second signal
/// ends it at once. Call this once, from a process that starts no command with [`crate::run_attached`], which
/// handles these signals itself.
///
/// # Errors
///
/// The kernel cannot create a pipe or a thread; signals then have their default action.
pub fn before_end_by_signal(tell: impl FnOnce(&'static str) + Send + 'static) -> io::Result<()> {
    let pipe = SignalPipe::install(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP], false)?;
    let wait = move || {
        let mut byte = [0];
        while rustix::io::read(&pipe.read, &mut byte) != Ok(1) {
            let _ = poll(&mut [PollFd::new(&pipe.read, PollFlags::IN)], None);
        }
        // From here on the signals have their default action again.
        drop(pipe);
        let (signal, name) = match i32::from(byte[0]) {
            libc::SIGTERM => (Signal::TERM, "SIGTERM"),
            libc::SIGHUP => (Signal::HUP, "SIGHUP"),
            _ => (Signal::INT, "SIGINT"),
        };
        let (done, told) = mpsc::channel();
        let teller = std::thread::Builder::new().spawn(move || {
            tell(name);
            let _ = done.send(());
        });
        if teller.is_ok() {
            let _ = told.recv_timeout(PATIENCE);
        }
        let _ = kill_process(getpid(), signal);
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}
