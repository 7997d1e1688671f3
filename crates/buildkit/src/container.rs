//! Containers in which a client looks into a result: `NewContainer` and `ExecProcess` of the service
//! `LLBBridge`, as `buildx debug` and `--invoke` use them (BuildKit, frontend/gateway/pb/gateway.proto).
//!
//! A thread owns each container with everything that it needs, and starts the processes that are asked for.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    DoneMessage, ExecMessage, ExitMessage, FdMessage, InitMessage, NewContainerRequest, StartedMessage,
    exec_message,
};
use bollard_buildkit_proto::pb;
use crossdock_builder::container::{Container, ContainerRequest, Process};
use crossdock_builder::mount::MountKind;
use crossdock_builder::solver::cache::Imported;
use crossdock_builder::{Environment, Settings};
use crossdock_platform::Platform;
use crossdock_sandbox::{Io, Killer, Network, Running, Stream, Window};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tonic::{Code, Status};

use crate::containers::{Input, Outgoing, Start};
use crate::failure::Failure;
use crate::job::Job;
use crate::mounts;
use crate::results::platform_of;
use crate::sources::Later;
use crate::status::Reporter;
use crate::surroundings::{self, Surroundings};

/// Exit code of a process that has none (BuildKit, frontend/gateway/pb/exit.go).
const UNKNOWN_EXIT: u32 = 255;

/// The signal that no process survives (signal(7)).
const KILL: i32 = 9;

/// The largest piece of output in one message, in bytes.
const PIECE: usize = 32 * 1024;

/// Opens a container; returns once it can start processes.
///
/// # Errors
///
/// The request is wrong, there is such a container already, or the container cannot be opened.
pub async fn open(job: &Arc<Job>, request: NewContainerRequest) -> Result<(), Failure> {
    let id = request.container_id.clone();
    if job.containers.sender(&id).is_some() {
        return Err(Failure::new(Code::AlreadyExists, format!("container {id} already exists")));
    }
    let wanted = container(job, &request).map_err(|error| Failure::of(&error))?;
    let (send, starts) = mpsc::channel();
    let (ready, is_ready) = oneshot::channel();
    let owner = job.clone();
    let runtime = Handle::current();
    let thread = move || {
        // Whoever asks the client's session waits in the runtime.
        let _inside = runtime.enter();
        serve(&owner, &wanted, &starts, ready)
    };
    let spawned = std::thread::Builder::new().name("container".to_string()).spawn(thread);
    spawned.map_err(|error| Failure::new(Code::Unavailable, format!("start a thread: {error}")))?;
    match is_ready.await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(Failure::new(Code::Internal, "the container ended unexpectedly")),
    }
    job.containers.add(id, send);
    Ok(())
}

/// The container that a client asks for.
fn container(job: &Job, request: &NewContainerRequest) -> Result<ContainerRequest> {
    let (mut root, mut is_read_only, mut all) = (None, false, Vec::new());
    for mount in &request.mounts {
        let made = mounts::mount(mount, |mount| layers(job, mount))?;
        match made.kind {
            MountKind::Bind { input, selector, .. } if mount.dest == "/" => {
                if !selector.is_empty() {
                    bail!("the root of a container cannot be a directory of a tree (selector)");
                }
                (root, is_read_only) = (Some(input), mount.readonly);
            }
            _ => all.push(made),
        }
    }
    let network = match pb::NetMode::try_from(request.network) {
        Ok(pb::NetMode::None) => Network::None,
        _ => Network::Host,
    };
    let host = |host: &pb::HostIp| {
        let address = host.ip.parse().with_context(|| format!("{}: not an address", host.ip))?;
        Ok((host.host.clone(), address))
    };
    Ok(ContainerRequest {
        root: root.context("a container needs a mount at /")?,
        read_only: is_read_only,
        platform: request.platform.as_ref().and_then(platform_of).unwrap_or_else(Platform::host),
        network,
        hosts: request.extra_hosts.iter().map(host).collect::<Result<_>>()?,
        hostname: request.hostname.clone(),
        mounts: all,
    })
}

/// The layers of the result that a mount shows; none for an empty tree.
fn layers(job: &Job, mount: &pb::Mount) -> Result<Vec<PathBuf>> {
    match mount.result_id.as_str() {
        "" => Ok(Vec::new()),
        id => Ok(job.result(id)?.image.trees(&job.store)?),
    }
}

/// Owns a container until nobody can start a process in it any more.
fn serve(
    job: &Arc<Job>,
    wanted: &ContainerRequest,
    starts: &mpsc::Receiver<Start>,
    ready: oneshot::Sender<Result<(), Failure>>,
) {
    let reporter = Arc::new(Reporter::new(job.log.clone(), &job.next_solve(), job.hidden.clone()));
    let session = match job.own_session() {
        Ok(session) => session,
        // A client that has gone needs no answer.
        Err(error) => return drop(ready.send(Err(Failure::of(&error)))),
    };
    let source = surroundings::source(job, session.clone(), &reporter);
    let surroundings = Surroundings {
        job,
        session,
        source: &source,
        later: &Later::default(),
        events: &*reporter,
        imported: &Imported::default(),
        client_layers: HashMap::new(),
        layers: job.layers().0,
        stop: job.stop.clone(),
        failed: None,
    };
    let settings = surroundings::settings(job, wanted.platform.clone());
    surroundings.with(|environment| run(environment, &settings, wanted, starts, ready));
}

/// Opens a container and runs processes in it until nobody can start one any more.
fn run(
    environment: &Environment<'_>,
    settings: &Settings,
    wanted: &ContainerRequest,
    starts: &mpsc::Receiver<Start>,
    ready: oneshot::Sender<Result<(), Failure>>,
) {
    let container = match Container::new(environment, settings, wanted) {
        Ok(container) => container,
        Err(error) => return drop(ready.send(Err(Failure::of(&anyhow::Error::new(error))))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let killers: Mutex<Vec<Killer>> = Mutex::default();
    let runtime = Handle::current();
    std::thread::scope(|threads| {
        for start in starts {
            let (container, killers, runtime) = (&container, &killers, &runtime);
            let run = move || {
                let _inside = runtime.enter();
                process(container, start, killers);
            };
            // Without a thread the client's stream ends, which tells it enough.
            let _ = std::thread::Builder::new().spawn_scoped(threads, run);
        }
        for killer in killers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            killer.kill(KILL);
        }
    });
}

fn message(id: &str, input: exec_message::Input) -> Result<ExecMessage, Status> {
    Ok(ExecMessage { process_id: id.to_string(), input: Some(input) })
}

/// Runs a process to its end.
fn process(container: &Container<'_>, start: Start, killers: &Mutex<Vec<Killer>>) {
    let Start { id, init, input, outgoing } = start;
    // A client that has gone hears nothing more; its processes end with its stream.
    let tell = |what| drop(outgoing.blocking_send(message(&id, what)));
    let meta = init.meta.unwrap_or_default();
    let process = Process {
        args: meta.args,
        env: meta.env,
        secrets: init.secretenv.iter().map(|s| (s.name.clone(), s.id.clone(), s.optional)).collect(),
        cwd: meta.cwd,
        user: meta.user,
        insecure: init.security == i32::from(pb::SecurityMode::Insecure),
    };
    let has = |fd: u32| init.fds.contains(&fd);
    let piped = |fd| if has(fd) { Stream::Pipe } else { Stream::Null };
    let io = match init.tty {
        true => Io { terminal: Some(Window { rows: 24, columns: 80 }), ..Io::default() },
        false => Io { stdin: piped(0), stdout: piped(1), stderr: piped(2), terminal: None },
    };
    let exit = |code: u32, text: String| {
        let error = rpc::Status { code: Code::Unknown as i32, message: text, details: Vec::new() };
        exec_message::Input::Exit(ExitMessage { code, error: (code != 0).then_some(error) })
    };
    let mut running = match container.start(&process, io) {
        Ok(running) => running,
        Err(error) => {
            tell(exec_message::Input::Started(StartedMessage {}));
            tell(exit(UNKNOWN_EXIT, error.to_string()));
            return tell(exec_message::Input::Done(DoneMessage {}));
        }
    };
    killers.lock().unwrap_or_else(PoisonError::into_inner).push(running.killer());
    tell(exec_message::Input::Started(StartedMessage {}));
    let killer = running.killer();
    let (outputs, stdin, terminal) = match streams(&mut running) {
        Ok(streams) => streams,
        Err(error) => {
            killer.kill(KILL);
            tell(exit(UNKNOWN_EXIT, format!("open the streams of the process: {error}")));
            return tell(exec_message::Input::Done(DoneMessage {}));
        }
    };
    std::thread::scope(|threads| {
        let (id, outgoing) = (id.as_str(), &outgoing);
        for (fd, output) in outputs {
            let pass = move || pass_on(id, fd, output, outgoing);
            if std::thread::Builder::new().spawn_scoped(threads, pass).is_err() {
                killer.kill(KILL);
            }
        }
        // Ends with the client's stream, or with the process: the handler then drops the sender.
        let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let over = is_over.clone();
        let feeder = killer.clone();
        let feed = move || feed(&input, stdin, terminal.as_ref(), &feeder, &over);
        if std::thread::Builder::new().spawn_scoped(threads, feed).is_err() {
            killer.kill(KILL);
        }
        let ended = running.wait();
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        tell(match ended {
            Ok(status) => {
                let code = u32::try_from(status.code()).unwrap_or(UNKNOWN_EXIT);
                let text = format!(
                    "process \"{}\" did not complete successfully: exit code: {code}",
                    process.args.join(" ")
                );
                exit(code, text)
            }
            Err(error) => exit(u32::try_from(error.exit_code()).unwrap_or(UNKNOWN_EXIT), error.to_string()),
        });
    });
    tell(exec_message::Input::Done(DoneMessage {}));
}

type Output = Box<dyn Read + Send>;
/// Outputs with their numbers, where input goes, and the terminal, if there is one.
type Streams = (Vec<(u32, Output)>, Option<std::fs::File>, Option<OwnedFd>);

fn streams(running: &mut Running) -> std::io::Result<Streams> {
    if let Some(terminal) = running.terminal.take() {
        let (output, input) = (terminal.try_clone()?, terminal.try_clone()?);
        let output: Output = Box::new(std::fs::File::from(output));
        return Ok((vec![(1, output)], Some(input.into()), Some(terminal)));
    }
    let mut outputs: Vec<(u32, Output)> = Vec::new();
    if let Some(stdout) = running.stdout.take() {
        outputs.push((1, Box::new(stdout)));
    }
    if let Some(stderr) = running.stderr.take() {
        outputs.push((2, Box::new(stderr)));
    }
    Ok((outputs, running.stdin.take().map(std::fs::File::from), None))
}

/// Passes an output on, and says when it ends.
fn pass_on(id: &str, fd: u32, mut output: Output, outgoing: &Outgoing) {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = match output.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // A terminal without processes gives an error: it is the end, too.
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let data = FdMessage { fd, eof: false, data: buffer[..length].to_vec() };
        // Without a client the output is read all the same, so that the process does not stop.
        let _ = outgoing.blocking_send(message(id, exec_message::Input::File(data)));
    }
    let end = FdMessage { fd, eof: true, data: Vec::new() };
    let _ = outgoing.blocking_send(message(id, exec_message::Input::File(end)));
}

/// Gives a process what the client sends it, until the process has ended. A client that goes away ends it.
fn feed(
    input: &mpsc::Receiver<Input>,
    mut stdin: Option<std::fs::File>,
    terminal: Option<&OwnedFd>,
    killer: &Killer,
    is_over: &std::sync::atomic::AtomicBool,
) {
    /// How often a thread without input looks whether the process has ended.
    const PATIENCE: std::time::Duration = std::time::Duration::from_millis(50);
    loop {
        let next = input.recv_timeout(PATIENCE);
        if is_over.load(std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        match next {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return killer.kill(KILL),
            // A process that reads no more does not want the rest.
            Ok(Input::Data(data)) => {
                if stdin.as_mut().is_some_and(|stdin| stdin.write_all(&data).is_err()) {
                    stdin = None;
                }
            }
            Ok(Input::End) => match terminal {
                // Ctrl-D, which a terminal in its usual mode reads as the end of input.
                Some(_) => {
                    if let Some(stdin) = &mut stdin {
                        let _ = stdin.write_all(&[4]);
                    }
                }
                None => stdin = None,
            },
            Ok(Input::Resize(size)) => {
                if let Some(terminal) = terminal {
                    // A terminal that is gone has no size.
                    let _ = rustix::termios::tcsetwinsize(
                        terminal,
                        rustix::termios::Winsize {
                            ws_row: size.rows,
                            ws_col: size.columns,
                            ws_xpixel: 0,
                            ws_ypixel: 0,
                        },
                    );
                }
            }
            Ok(Input::Signal(signal)) => killer.kill(signal),
        }
    }
}

/// The processes that a client drives by one stream.
pub struct Processes {
    job: Arc<Job>,
    outgoing: Outgoing,
    inputs: HashMap<String, mpsc::Sender<Input>>,
}

impl Processes {
    /// No processes yet.
    pub fn new(job: Arc<Job>, outgoing: Outgoing) -> Processes {
        Processes { job, outgoing, inputs: HashMap::new() }
    }

    /// Takes a message of the client.
    ///
    /// # Errors
    ///
    /// It is about a process or container that is not there, or makes no sense.
    pub fn take(&mut self, message: ExecMessage) -> Result<(), Status> {
        let id = message.process_id;
        if id.is_empty() {
            return Err(Status::invalid_argument("a message names no process"));
        }
        let input = match message.input {
            Some(exec_message::Input::Init(init)) => return self.start(id, init),
            Some(exec_message::Input::File(file)) if file.fd != 0 => {
                return Err(Status::invalid_argument(format!("descriptor {} takes no input", file.fd)));
            }
            Some(exec_message::Input::File(file)) if file.eof => Input::End,
            Some(exec_message::Input::File(file)) => Input::Data(file.data),
            Some(exec_message::Input::Resize(size)) => {
                let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
                Input::Resize(Window { rows: number(size.rows), columns: number(size.cols) })
            }
            Some(exec_message::Input::Signal(signal)) => {
                let number = crossdock_builder::dockerfile::signal_number(&signal.name);
                let unknown = || Status::invalid_argument(format!("unknown signal {}", signal.name));
                Input::Signal(number.ok_or_else(unknown)?)
            }
            _ => return Err(Status::invalid_argument("a client cannot say that")),
        };
        let sender = self.inputs.get(&id).ok_or_else(|| Status::not_found(format!("no process {id}")))?;
        // A process that has ended takes nothing.
        let _ = sender.send(input);
        Ok(())
    }

    fn start(&mut self, id: String, init: InitMessage) -> Result<(), Status> {
        if self.inputs.contains_key(&id) {
            return Err(Status::already_exists(format!("process {id} already exists")));
        }
        let container = self.job.containers.sender(&init.container_id);
        let gone =
            || Status::not_found(format!("container {:?} was released or never made", init.container_id));
        let container = container.ok_or_else(gone)?;
        let (send, input) = mpsc::channel();
        let start = Start { id: id.clone(), init: init.clone(), input, outgoing: self.outgoing.clone() };
        container.send(start).map_err(|_| gone())?;
        self.inputs.insert(id, send);
        Ok(())
    }
}
