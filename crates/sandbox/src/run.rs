//! The parent's side: starts the monitor, talks to it, and returns how the command ended.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

use crate::error::{Doing, Failure, SandboxError};
use crate::mounts::{clone_tree, set_read_only};
use crate::relay::{self, Relays};
use crate::spec::{MountKind, Source, Spec};
use crate::wire::{self, Order, Report, Window};
use crate::{binfmt, host, monitor, sys, watcher};

/// Where a stream of the command leads.
#[derive(Debug, Default)]
pub enum Stream {
    /// `/dev/null`.
    #[default]
    Null,
    /// The stream of this process, through a pipe: see [`crate::relay`].
    Inherit,
    /// A pipe whose other end is in [`Running`].
    Pipe,
}

/// The streams of a command.
#[derive(Debug, Default)]
pub struct Io {
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
    /// A terminal of this size instead of the three streams; its other end is [`Running::terminal`].
    pub terminal: Option<Window>,
}

impl Io {
    /// The streams of this process.
    pub fn inherit() -> Io {
        Io { stdin: Stream::Inherit, stdout: Stream::Inherit, stderr: Stream::Inherit, terminal: None }
    }

    /// No input, both outputs through pipes.
    pub fn pipes() -> Io {
        Io { stdin: Stream::Null, stdout: Stream::Pipe, stderr: Stream::Pipe, terminal: None }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// The command exited with this code.
    Code(i32),
    /// This signal killed the command.
    Signal(i32),
}

impl ExitStatus {
    /// As a shell and `docker run` report it: 128 and the number for a signal.
    pub fn code(&self) -> i32 {
        match self {
            ExitStatus::Code(code) => *code,
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }

    /// Whether the code is 0.
    pub fn success(&self) -> bool {
        *self == ExitStatus::Code(0)
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A command that was started. Dropping it kills the command and waits for its end.
#[derive(Debug)]
pub struct Running {
    monitor: Child,
    control: Arc<OwnedFd>,
    /// Writing end of the standard input, for [`Stream::Pipe`].
    pub stdin: Option<OwnedFd>,
    /// Reading end of the standard output, for [`Stream::Pipe`].
    pub stdout: Option<ChildStdout>,
    /// Reading end of the standard error, for [`Stream::Pipe`].
    pub stderr: Option<ChildStderr>,
    /// Outer end of the terminal.
    pub terminal: Option<OwnedFd>,
    /// Pid 1 of the sandbox.
    container: Option<OwnedFd>,
    /// Whether the container was handed to the watcher, or ended before that was worthwhile.
    is_settled: AtomicBool,
    relays: Relays,
    failure: Option<Failure>,
    ended: Option<ExitStatus>,
}

/// Sends signals to a [`Running`] command, from any thread.
#[derive(Debug, Clone)]
pub struct Killer(Arc<OwnedFd>);

impl Killer {
    /// Sends a signal to pid 1. As on every Linux, pid 1 ignores signals without a handler, except SIGKILL
    /// and SIGSTOP. An ended command is no error.
    pub fn kill(&self, signal: i32) {
        let _ = wire::send(self.0.as_fd(), &Order::Signal(signal), &[]);
    }
}

/// Runs a command to its end.
pub fn run(spec: &Spec, io: Io) -> Result<ExitStatus, SandboxError> {
    spawn(spec, io)?.wait()
}

/// Starts a command. If it cannot be executed, [`Running::wait`] returns the error.
///
/// The process must have called [`crate::userns::enter`], and its `main` [`crate::init_main_if_requested`].
pub fn spawn(spec: &Spec, io: Io) -> Result<Running, SandboxError> {
    if let Some(error) = crate::userns::forbidden() {
        return Err(error);
    }
    binfmt::register_private(&spec.emulators)?;
    let doing = || "start the sandbox".to_string();
    let (control, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).doing(doing)?;
    let memory = memfd_create("crossdock-sandbox", MemfdFlags::CLOEXEC).doing(doing)?;
    let mut file = std::fs::File::from(memory);
    serde_json::to_writer(io::BufWriter::new(&mut file), spec).map_err(io::Error::from).doing(doing)?;

    let Io { stdin, stdout, stderr, terminal } = io;
    // With a terminal the monitor needs no streams, and must not keep ours open.
    let (stdout, stderr) = if terminal.is_some() { (Stream::Null, Stream::Null) } else { (stdout, stderr) };
    let mut relays = Relays::default();
    let [stdout, stderr] = outputs(&mut relays, stdout, stderr).doing(doing)?;
    relays.seal();
    let mut monitor = Command::new(own_executable()?)
        .arg0("crossdock")
        .arg(monitor::ARGUMENT)
        .stdin(theirs)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .doing(doing)?;
    // Before the monitor gets its order, and so before it starts anything.
    if let Some(group) = &spec.control_group
        && let Err(error) = group.add(monitor.id())
    {
        let _ = monitor.kill();
        let _ = monitor.wait();
        return Err(error).doing(|| "limit the sandbox".into());
    }
    let mut running = Running {
        stdin: None,
        stdout: monitor.stdout.take(),
        stderr: monitor.stderr.take(),
        monitor,
        control: Arc::new(control),
        terminal: None,
        container: None,
        is_settled: AtomicBool::new(false),
        relays,
        failure: None,
        ended: None,
    };

    let inherited = rustix::stdio::stdin();
    let relayed = match &stdin {
        Stream::Inherit if terminal.is_none() => Some(relay::input(inherited).doing(doing)?),
        Stream::Pipe if terminal.is_none() => {
            let (inner, outer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(doing)?;
            running.stdin = Some(outer);
            Some(inner)
        }
        _ => None,
    };
    let stdin = relayed.as_ref().map(OwnedFd::as_fd);
    let mut descriptors = vec![file.as_fd()];
    descriptors.extend(stdin);
    descriptors.extend(spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source: Source::Descriptor(descriptor), .. } => {
            Some(descriptor.open.as_ref()?.as_fd())
        }
        _ => None,
    }));
    let order = Order::Run { stdin: stdin.is_some(), terminal };
    wire::send(running.control.as_fd(), &order, &descriptors).doing(doing)?;
    if terminal.is_some() {
        running.receive_terminal()?;
    }
    Ok(running)
}

/// The two output streams for the monitor.
fn outputs(relays: &mut Relays, stdout: Stream, stderr: Stream) -> io::Result<[Stdio; 2]> {
    let inherited = [rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut first: Option<OwnedFd> = None;
    let mut made = Vec::new();
    for (stream, own) in [stdout, stderr].into_iter().zip(inherited) {
        made.push(match stream {
            Stream::Null => Stdio::null(),
            Stream::Pipe => Stdio::piped(),
            Stream::Inherit => {
                let pipe = match &first {
                    Some(first) if relay::is_same(inherited[0], inherited[1]) => first.try_clone()?,
                    _ => relays.output(own)?,
                };
                first = Some(pipe.try_clone()?);
                pipe.into()
            }
        });
    }
    let [stdout, stderr] = made.try_into().expect("one for each of two streams");
    Ok([stdout, stderr])
}

/// A path of this executable for the monitor that allows no changes: pid 1 of a sandbox runs this executable,
/// and has a link to it in `/proc`.
fn own_executable() -> Result<&'static Path, SandboxError> {
    static FILE: OnceLock<(OwnedFd, PathBuf)> = OnceLock::new();
    if let Some((_, path)) = FILE.get() {
        return Ok(path);
    }
    let file = match host::own_executable() {
        Some(path) => {
            let mount = clone_tree(&path, false)?;
            set_read_only(mount.as_fd(), false)?;
            mount
        }
        // The executable was replaced or removed since it was started.
        None => host::copy_of_executable().doing(|| "read this program".into())?,
    };
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok(&FILE.get_or_init(|| (file, path)).1)
}

impl Running {
    /// A handle for signals.
    pub fn killer(&self) -> Killer {
        Killer(self.control.clone())
    }

    /// Waits for the end of the command and of everything it started.
    ///
    /// Errors: the sandbox could not be created, or the command could not be executed;
    /// [`SandboxError::exit_code`] has Docker's code.
    pub fn wait(mut self) -> Result<ExitStatus, SandboxError> {
        while self.ended.is_none() {
            self.watch();
            self.receive()?;
        }
        self.relays.wait();
        self.finish()
    }

    /// Waits until the container exists, or has failed to start.
    ///
    /// Errors: as [`Running::wait`], if the monitor is lost.
    pub fn wait_for_start(&mut self) -> Result<(), SandboxError> {
        while self.container.is_none() && self.failure.is_none() && self.ended.is_none() {
            self.receive()?;
        }
        Ok(())
    }

    /// Hands the container to the watcher, once.
    pub(crate) fn watch(&self) {
        if let Some(container) = &self.container
            && !self.is_settled.swap(true, Ordering::Relaxed)
            && let Ok(executable) = own_executable()
        {
            watcher::watch(container.as_fd(), executable);
        }
    }

    /// Calls [`Running::watch`], unless the container ends within a moment, as most build steps do. A message
    /// to the watcher would cost more than such a step is worth.
    ///
    /// `output` is one of the command's streams. This returns as soon as `output` is readable, so that the
    /// caller can read it.
    pub fn watch_if_it_lasts(&self, output: BorrowedFd<'_>) {
        /// The time after which a command counts as one that lasts.
        const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let Some(container) = &self.container else { return };
        let of = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut both = [of(container.as_fd()), of(output)];
        let mut has_ended = poll(&mut both, Some(&MOMENT)).is_ok() && !both[0].revents().is_empty();
        // A command's output mostly ends just before the command.
        if !has_ended && both[1].revents() == PollFlags::HUP {
            has_ended = poll(&mut [of(container.as_fd())], Some(&MOMENT)).is_ok_and(|ready| ready > 0);
        }
        if has_ended {
            self.is_settled.store(true, Ordering::Relaxed);
            return;
        }
        self.watch();
    }

    /// [`Running::wait`] for a command that has ended, without waiting for output that is still to be
    /// written.
    pub(crate) fn finish(mut self) -> Result<ExitStatus, SandboxError> {
        let _ = self.monitor.wait();
        match (self.failure.take(), self.ended) {
            (Some(failure), _) => Err(failure.into()),
            (None, Some(status)) => Ok(status),
            (None, None) => Err(SandboxError::Lost("no word of its end".into())),
        }
    }

    /// The control socket, readable when [`Running::wait`] would not block for long.
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Receives one message of the monitor, and the terminal if it comes.
    pub(crate) fn receive(&mut self) -> Result<(), SandboxError> {
        match wire::receive::<Report>(&*self.control).doing(|| "talk to the sandbox".into())? {
            Some((Report::Failed(failure), _)) => self.failure = self.failure.take().or(Some(failure)),
            Some((Report::Container, descriptors)) => {
                self.container = descriptors.into_iter().next();
            }
            Some((Report::Terminal, descriptors)) => self.terminal = descriptors.into_iter().next(),
            Some((Report::Exited { code, signal }, _)) => {
                self.ended = Some(match signal {
                    Some(signal) => ExitStatus::Signal(signal),
                    None => ExitStatus::Code(code.unwrap_or(125)),
                });
            }
            None => {
                self.kill_container();
                let status = self.monitor.wait().doing(|| "wait for the sandbox".into())?;
                return Err(self.failure.take().map_or(SandboxError::Lost(status.to_string()), Into::into));
            }
        }
        Ok(())
    }

    /// Hangs up when all output is written; `None` if no output is copied.
    pub(crate) fn output_ended(&self) -> Option<BorrowedFd<'_>> {
        self.relays.ended()
    }

    /// Kills pid 1 of a sandbox whose monitor can no longer do so.
    fn kill_container(&self) {
        if let Some(container) = &self.container {
            let _ = sys::signal_process(container.as_fd(), libc::SIGKILL);
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    fn receive_terminal(&mut self) -> Result<(), SandboxError> {
        while self.terminal.is_none() && self.ended.is_none() && self.failure.is_none() {
            self.receive()?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.killer().kill(libc::SIGKILL);
        }
        // The monitor takes a closed socket for our death, and a Killer's clone would keep the socket open.
        let _ = shutdown(&*self.control, Shutdown::Write);
        let _ = self.monitor.wait();
    }
}
