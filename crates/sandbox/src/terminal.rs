//! `run -it`: a command with the streams, signals and terminal of this process.
//!
//! The command gets its own pseudo-terminal. Meanwhile the user's terminal is in raw mode, so that every key
//! goes through; it is restored on return, error and panic.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Doing, SandboxError};
use crate::relay::Relays;
use crate::run::{ExitStatus, Io, Running, Stream, spawn};
use crate::spec::Spec;
use crate::sys::SignalPipe;
use crate::wire::Window;

/// Which streams of this process the command gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attach {
    /// Standard input (`-i`); otherwise the command's input is empty.
    pub stdin: bool,
    /// A terminal (`-t`) instead of the plain streams.
    pub terminal: bool,
}

/// Signals that are not passed on to the command: those that nobody can catch, those that docker keeps, too
/// (docker-run(1), --sig-proxy), and those that tell of a fault of this process itself.
const KEPT: [i32; 12] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
];

/// Signals that are passed on to the command, signal(7).
fn passed_on() -> Vec<i32> {
    let standard = (1..=31).filter(|signal| !KEPT.contains(signal));
    standard.chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).collect()
}

/// How many requests to end, by SIGINT or SIGTERM, a command may ignore: the next one kills it, as with
/// docker's client.
const IGNORED_MAX: u32 = 2;

/// How long a command has after SIGTERM before it is killed, as with `docker stop`.
const GRACE: Duration = Duration::from_secs(10);

/// How long the kernel may take to end a killed command before we stop waiting.
const KILL_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a reader may take for the last output of a command that was asked to end.
const OUTPUT_TIME_MAX: Duration = Duration::from_secs(2);

/// Ctrl-D, which a terminal in its usual mode reads as the end of input.
const END_OF_INPUT: u8 = 4;

/// Runs a command to its end with the streams of this process. Signals sent to this process go to the
/// command; the third SIGINT or SIGTERM kills it, and so does the end of [`GRACE`] after the first SIGTERM.
///
/// Only one at a time in a process: signals and the terminal belong to the process.
pub fn run_attached(spec: &Spec, attach: Attach) -> Result<ExitStatus, SandboxError> {
    let signals = SignalPipe::install(&passed_on(), attach.terminal).doing(|| "catch signals".into())?;
    if !attach.terminal {
        let stdin = if attach.stdin { Stream::Inherit } else { Stream::Null };
        let running = spawn(spec, Io { stdin, ..Io::inherit() })?;
        return Session::new(running, &signals, None, false).serve().0;
    }
    let window = window().unwrap_or(Window { rows: 0, columns: 0 });
    let mut running = spawn(spec, Io { terminal: Some(window), ..Io::default() })?;
    let terminal = running.terminal.take();
    if let Some(terminal) = &terminal {
        rustix::fs::fcntl_setfl(terminal, OFlags::RDWR | OFlags::NONBLOCK)
            .doing(|| "set up the terminal".into())?;
    }
    let mut relays = Relays::default();
    let output = relays.output_of_ours(rustix::stdio::stdout()).doing(|| "set up the terminal".into())?;
    relays.seal();
    let outer = terminal.map(|terminal| Outer {
        terminal: Some(terminal),
        output: Some(output),
        relays,
        seen: Vec::new(),
    });
    let mut raw = if attach.stdin { RawMode::enter(rustix::stdio::stdin()) } else { None };
    let (status, asked) = Session::new(running, &signals, outer, attach.stdin).serve();
    if let Some(raw) = &mut raw {
        raw.at_once = asked;
    }
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
    /// Restore the mode without waiting for pending output: nobody may be reading it.
    at_once: bool,
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
        Some(RawMode { terminal, before, at_once: false })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let when = if self.at_once { OptionalActions::Now } else { OptionalActions::Drain };
        let _ = tcsetattr(self.terminal, when, &self.before);
    }
}

/// A command and the data on its way to and from it.
struct Session<'a> {
    running: Running,
    signals: &'a SignalPipe,
    /// The command's terminal.
    outer: Option<Outer>,
    /// Whether our standard input is still open.
    stdin: bool,
    /// Read from standard input, but not yet taken by the terminal.
    to_terminal: Vec<u8>,
    /// How often SIGINT or SIGTERM came.
    asked: u32,
    /// When the command is killed, or, once it was, when we stop waiting for it.
    deadline: Option<Instant>,
    killed: bool,
}

/// A terminal of the command, and its output on the way to our standard output. A thread writes it: nobody
/// may be reading there, and signals must still be handled.
struct Outer {
    /// Outer end, until every inner one is closed.
    terminal: Option<OwnedFd>,
    /// Pipe to the copying thread; closed when everything was written.
    output: Option<OwnedFd>,
    relays: Relays,
    /// Read from the terminal, but not yet taken by the thread.
    seen: Vec<u8>,
}

impl Outer {
    /// Passes on one piece of output; `false` if there is no output now, or no room for it.
    fn copy(&mut self) -> bool {
        if self.seen.is_empty()
            && let Some(terminal) = &self.terminal
        {
            let mut buffer = [0; 16 << 10];
            match rustix::io::read(terminal, &mut buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // EIO: every inner end is closed.
                Ok(0) | Err(_) => self.terminal = None,
                Ok(count) => self.seen.extend_from_slice(&buffer[..count]),
            }
        }
        match &self.output {
            _ if self.seen.is_empty() => false,
            // Our output is closed, and there is nobody to tell; the command goes on, as with a closed
            // terminal window.
            None => {
                self.seen.clear();
                true
            }
            Some(output) => match rustix::io::write(output, &self.seen) {
                Ok(count) => {
                    self.seen.drain(..count);
                    true
                }
                Err(Errno::AGAIN | Errno::INTR) => false,
                Err(_) => {
                    self.output = None;
                    true
                }
            },
        }
    }
}

/// What of a [`Session`] is ready.
#[derive(Default)]
struct Ready {
    control: bool,
    signal: bool,
    terminal: bool,
    output: bool,
    stdin: bool,
    output_ended: bool,
}

impl Session<'_> {
    fn new(running: Running, signals: &SignalPipe, outer: Option<Outer>, stdin: bool) -> Session<'_> {
        Session {
            running,
            signals,
            outer,
            stdin,
            to_terminal: Vec::new(),
            asked: 0,
            deadline: None,
            killed: false,
        }
    }

    /// Serves the command to its end; returns how it ended, and whether it was asked to end.
    fn serve(mut self) -> (Result<ExitStatus, SandboxError>, bool) {
        let served = self.serve_command().and_then(|()| self.finish_output());
        let asked = self.asked > 0;
        (served.and_then(|()| self.running.finish()), asked)
    }

    fn serve_command(&mut self) -> Result<(), SandboxError> {
        while !self.running.has_ended() {
            let ready = self.wait()?;
            if ready.signal {
                self.pass_signals();
            }
            if ready.terminal || ready.output {
                self.serve_terminal();
            }
            if ready.stdin {
                self.read_stdin();
            }
            if ready.control {
                self.running.receive()?;
                self.running.watch();
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                if self.killed {
                    return Err(SandboxError::Lost("the kernel does not end it".into()));
                }
                self.kill();
            }
        }
        Ok(())
    }

    /// Writes the command's last output, which may still be in the terminal, or on its way to a stream that
    /// nobody reads. A request to end is now for us.
    fn finish_output(&mut self) -> Result<(), SandboxError> {
        let asked = self.asked;
        self.deadline = (asked > 0).then(|| Instant::now() + OUTPUT_TIME_MAX);
        loop {
            if let Some(outer) = &mut self.outer {
                while outer.copy() {}
                if outer.seen.is_empty() {
                    outer.output = None;
                }
            }
            let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            if self.output_ended().is_none() || self.asked > asked || self.killed || is_late {
                return Ok(());
            }
            let ready = self.wait()?;
            if ready.signal {
                self.pass_signals();
            }
            if ready.output_ended {
                return Ok(());
            }
        }
    }

    /// Hangs up when all output is written; `None` if no output is copied.
    fn output_ended(&self) -> Option<BorrowedFd<'_>> {
        self.outer.as_ref().map_or_else(|| self.running.output_ended(), |outer| outer.relays.ended())
    }

    /// Waits until something is ready.
    fn wait(&self) -> Result<Ready, SandboxError> {
        let mut watched = vec![PollFd::new(&self.signals.read, PollFlags::IN)];
        let mut watch = |fd| {
            watched.push(fd);
            Some(watched.len() - 1)
        };
        let (mut control, mut terminal, mut output, mut stdin, mut output_ended) =
            (None, None, None, None, None);
        if let Some(outer) = &self.outer
            && let (Some(pipe), false) = (&outer.output, outer.seen.is_empty())
        {
            output = watch(PollFd::new(pipe, PollFlags::OUT));
        }
        if self.running.has_ended() {
            output_ended =
                self.output_ended().and_then(|ended| watch(PollFd::from_borrowed_fd(ended, PollFlags::IN)));
        } else {
            control = watch(PollFd::from_borrowed_fd(self.running.control(), PollFlags::IN));
            if let Some(outer) = &self.outer
                && let Some(outer_end) = &outer.terminal
            {
                // Data that cannot be passed on is not read either.
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, outer.seen.is_empty());
                flags.set(PollFlags::OUT, !self.to_terminal.is_empty());
                if !flags.is_empty() {
                    terminal = watch(PollFd::new(outer_end, flags));
                }
                if self.stdin && self.to_terminal.is_empty() {
                    stdin = watch(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
                }
            }
        }
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left
            .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        match poll(&mut watched, left.as_ref()) {
            Err(Errno::INTR) => return Ok(Ready::default()),
            other => other.doing(|| "wait for the command".into())?,
        };
        let ready = |place: Option<usize>| place.is_some_and(|n| !watched[n].revents().is_empty());
        Ok(Ready {
            control: ready(control),
            signal: ready(Some(0)),
            terminal: ready(terminal),
            output: ready(output),
            stdin: ready(stdin),
            output_ended: ready(output_ended),
        })
    }

    fn pass_signals(&mut self) {
        let mut buffer = [0; 64];
        let Ok(count) = rustix::io::read(&self.signals.read, &mut buffer) else { return };
        for signal in buffer[..count].iter().map(|signal| i32::from(*signal)) {
            match signal {
                libc::SIGWINCH if self.outer.is_some() => {
                    let terminal = self.outer.as_ref().and_then(|outer| outer.terminal.as_ref());
                    if let (Some(terminal), Ok(size)) = (terminal, tcgetwinsize(rustix::stdio::stdin())) {
                        // The kernel notifies the programs on the terminal.
                        let _ = tcsetwinsize(terminal, size);
                    }
                }
                libc::SIGINT | libc::SIGTERM => {
                    self.asked += 1;
                    if self.asked > IGNORED_MAX {
                        self.kill();
                        continue;
                    }
                    if signal == libc::SIGTERM && self.deadline.is_none() {
                        self.deadline = Some(Instant::now() + GRACE);
                    }
                    self.running.killer().kill(signal);
                }
                other => self.running.killer().kill(other),
            }
        }
    }

    fn kill(&mut self) {
        if !self.killed {
            self.running.killer().kill(libc::SIGKILL);
            self.killed = true;
            self.deadline = Some(Instant::now() + KILL_TIME_MAX);
        }
    }

    fn serve_terminal(&mut self) {
        let Some(outer) = &mut self.outer else { return };
        if let (Some(terminal), false) = (&outer.terminal, self.to_terminal.is_empty())
            && let Ok(count) = rustix::io::write(terminal, &self.to_terminal)
        {
            self.to_terminal.drain(..count);
        }
        outer.copy();
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
