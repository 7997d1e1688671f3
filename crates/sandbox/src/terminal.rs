//! `run -it`: a command with the streams, signals and terminal of this process.
//!
//! The command gets a pseudo-terminal of its own; the user's terminal is in raw mode meanwhile, so that every key goes through,
//! and is put back on return, error and panic.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Doing, SandboxError};
use crate::run::{ExitStatus, Io, Running, Stream, spawn};
use crate::spec::Spec;
use crate::sys::SignalPipe;
use crate::wire::Window;

/// What of this process the command gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attach {
    /// Standard input (`-i`); else it is empty.
    pub stdin: bool,
    /// A terminal (`-t`) instead of the plain streams.
    pub terminal: bool,
}

/// Signals that are passed on to the command.
const PASSED_ON: &[i32] =
    &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Ctrl-D, which a terminal in its usual mode takes for the end of input.
const END_OF_INPUT: u8 = 4;

/// Runs a command to its end with the streams of this process. Signals sent to this process go to the command.
///
/// Only one at a time in a process: signals and the terminal are the process'.
pub fn run_attached(spec: &Spec, attach: Attach) -> Result<ExitStatus, SandboxError> {
    let mut signals = PASSED_ON.to_vec();
    if attach.terminal {
        signals.push(libc::SIGWINCH);
    }
    let signals = SignalPipe::install(&signals).doing(|| "catch signals".into())?;
    if !attach.terminal {
        let stdin = if attach.stdin { Stream::Inherit } else { Stream::Null };
        let running = spawn(spec, Io { stdin, ..Io::inherit() })?;
        return Session { running, signals: &signals, terminal: None, stdin: false, to_terminal: Vec::new() }
            .serve();
    }
    let window = window().unwrap_or(Window { rows: 0, columns: 0 });
    let mut running = spawn(spec, Io { terminal: Some(window), ..Io::default() })?;
    let terminal = running.terminal.take();
    if let Some(terminal) = &terminal {
        rustix::fs::fcntl_setfl(terminal, OFlags::RDWR | OFlags::NONBLOCK)
            .doing(|| "set up the terminal".into())?;
    }
    let raw = if attach.stdin { RawMode::enter(rustix::stdio::stdin()) } else { None };
    let session =
        Session { running, signals: &signals, terminal, stdin: attach.stdin, to_terminal: Vec::new() };
    let status = session.serve();
    drop(raw);
    status
}

/// Size of the user's terminal.
fn window() -> Option<Window> {
    [rustix::stdio::stdout(), rustix::stdio::stdin(), rustix::stdio::stderr()]
        .into_iter()
        .find_map(|fd| tcgetwinsize(fd).ok())
        .map(|size| Window { rows: size.ws_row, columns: size.ws_col })
}

/// The user's terminal in raw mode for as long as this lives.
struct RawMode {
    terminal: BorrowedFd<'static>,
    before: Termios,
}

impl RawMode {
    fn enter(terminal: BorrowedFd<'static>) -> Option<RawMode> {
        if !isatty(terminal) {
            return None;
        }
        let before = tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw).ok()?;
        Some(RawMode { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// A command and what goes to and fro.
struct Session<'a> {
    running: Running,
    signals: &'a SignalPipe,
    /// Outer end of the command's terminal, until it is closed inside.
    terminal: Option<OwnedFd>,
    /// Whether our standard input still gives something.
    stdin: bool,
    /// Read from standard input, but not yet taken by the terminal.
    to_terminal: Vec<u8>,
}

impl Session<'_> {
    fn serve(mut self) -> Result<ExitStatus, SandboxError> {
        while !self.running.has_ended() {
            let [control, signal, terminal, stdin] = self.wait()?;
            if signal {
                self.pass_signals();
            }
            if terminal {
                self.serve_terminal();
            }
            if stdin {
                self.read_stdin();
            }
            if control {
                self.running.receive()?;
            }
        }
        // What the command wrote last may still be in the terminal.
        while self.copy_output() {}
        self.running.wait()
    }

    /// Waits until something is ready.
    fn wait(&self) -> Result<[bool; 4], SandboxError> {
        let mut watched = vec![
            PollFd::new(&self.signals.read, PollFlags::IN),
            PollFd::from_borrowed_fd(self.running.control(), PollFlags::IN),
        ];
        if let Some(terminal) = &self.terminal {
            let out = if self.to_terminal.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            watched.push(PollFd::new(terminal, PollFlags::IN | out));
            if self.stdin && self.to_terminal.is_empty() {
                watched.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
            }
        }
        match poll(&mut watched, None) {
            Err(Errno::INTR) => return Ok([false; 4]),
            other => other.doing(|| "wait for the command".into())?,
        };
        let ready = |n: usize| watched.get(n).is_some_and(|fd| !fd.revents().is_empty());
        Ok([ready(1), ready(0), ready(2), ready(3)])
    }

    fn pass_signals(&self) {
        let mut buffer = [0; 64];
        let Ok(count) = rustix::io::read(&self.signals.read, &mut buffer) else { return };
        for &signal in &buffer[..count] {
            if i32::from(signal) != libc::SIGWINCH {
                self.running.killer().kill(signal.into());
            } else if let (Some(terminal), Ok(size)) = (&self.terminal, tcgetwinsize(rustix::stdio::stdin()))
            {
                // The kernel tells the programs on the terminal.
                let _ = tcsetwinsize(terminal, size);
            }
        }
    }

    fn serve_terminal(&mut self) {
        if let (Some(terminal), false) = (&self.terminal, self.to_terminal.is_empty())
            && let Ok(count) = rustix::io::write(terminal, &self.to_terminal)
        {
            self.to_terminal.drain(..count);
        }
        self.copy_output();
    }

    /// Copies one piece of output; `false` if there is none now.
    fn copy_output(&mut self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(terminal, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => false,
            // EIO: every inner end is closed.
            Ok(0) | Err(_) => {
                self.terminal = None;
                false
            }
            Ok(count) => {
                // Nobody to tell that our output is closed; the command goes on, as with a closed terminal window.
                let _ = io::Write::write_all(&mut io::stdout(), &buffer[..count]);
                let _ = io::Write::flush(&mut io::stdout());
                true
            }
        }
    }

    fn read_stdin(&mut self) {
        let mut buffer = [0; 4 << 10];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::IO) => {
                self.stdin = false;
                self.to_terminal.push(END_OF_INPUT);
            }
            Ok(count) => self.to_terminal.extend_from_slice(&buffer[..count]),
            Err(_) => {}
        }
    }
}
