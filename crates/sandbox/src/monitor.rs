//! The process between crossdock and the container: builds the root, starts pid 1, passes signals on, cleans
//! up.
//!
//! Single-threaded, in the namespaces of its parent. See `docs/dev/sandbox.md`.

#![expect(
    clippy::disallowed_methods,
    reason = "paths of the store, of the caller and of the host's /etc; what is inside a root goes through Dir"
)]

use std::fs;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::container::{self, Prepared, What};
use crate::dir::{Dir, clone_mount};
use crate::error::{Doing, Failure};
use crate::host;
use crate::idmap::IdMapping;
use crate::images::{self, Reports};
use crate::mountpoints::{self, Created, Plan, Wanted};
use crate::mounts::{clone_tree, restrict, set_no_devices, set_read_only};
use crate::network::{self, Connection};
use crate::overlay::{self, Upper, forget_volatile};
use crate::spec::{MountKind, Network, Root, Source, Spec};
use crate::stack::mount_overlay;
use crate::sys::{self, Cloned};
use crate::wire::{self, Order, Report};

/// First argument that makes the executable the monitor.
pub const ARGUMENT: &str = "crossdock-sandbox-init";

/// Runs the monitor on the socket at descriptor 0 and ends the process.
pub fn main() -> ! {
    let code = match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) {
        Ok(control) => i32::from(serve(&control).is_none()),
        Err(_) => 1,
    };
    sys::exit_now(code)
}

/// Runs the container and reports how it ended; `Some` if the parent could be told.
fn serve(control: &OwnedFd) -> Option<()> {
    // Its own session: signals to the parent's group reach only the parent, which forwards them.
    let _ = rustix::process::setsid();
    let (order, descriptors) = wire::receive::<Order>(control).ok()??;
    let Order::Run { stdin, terminal } = order else { return None };
    let mut cleanup = Cleanup::default();
    let status = run(control, stdin, terminal, descriptors, &mut cleanup).unwrap_or_else(|failure| {
        let _ = wire::send(control.as_fd(), &Report::Failed(failure.shortened()), &[]);
        125 << 8
    });
    cleanup.run();
    let report = if libc::WIFSIGNALED(status) {
        Report::Exited { code: None, signal: Some(libc::WTERMSIG(status)) }
    } else {
        Report::Exited { code: Some(libc::WEXITSTATUS(status)), signal: None }
    };
    wire::send(control.as_fd(), &report, &[]).ok()
}

/// What is removed after the run.
#[derive(Default)]
struct Cleanup {
    skeleton: Option<PathBuf>,
    created: Created,
    volatile_work: Option<PathBuf>,
}

impl Cleanup {
    fn run(&self) {
        self.created.remove();
        if let Some(skeleton) = &self.skeleton {
            let _ = fs::remove_dir_all(skeleton);
        }
        if let Some(work) = &self.volatile_work {
            forget_volatile(work);
        }
    }
}

fn run(
    control: &OwnedFd,
    has_stdin: bool,
    terminal: Option<wire::Window>,
    descriptors: Vec<OwnedFd>,
    cleanup: &mut Cleanup,
) -> Result<i32, Failure> {
    let mut descriptors = descriptors.into_iter();
    let lost = || Failure::Specification("a descriptor of the sandbox was lost on its way".into());
    let mut json = Vec::new();
    let mut memory = fs::File::from(descriptors.next().ok_or_else(lost)?);
    memory
        .rewind()
        .and_then(|()| memory.read_to_end(&mut json))
        .failing(|| "read the specification of the sandbox".into())?;
    let spec: Spec = serde_json::from_slice(&json).map_err(|error| {
        Failure::Specification(format!("cannot read the specification of the sandbox: {error}"))
    })?;
    if spec.args.is_empty() {
        return Err(Failure::Specification("there is no command to run".into()));
    }
    let stdin = if has_stdin { Some(descriptors.next().ok_or_else(lost)?) } else { None };

    let mut order: Vec<_> = spec.mounts.iter().collect();
    let mut prepared = prepare_generated(&spec);
    let mut sources = Vec::new();
    for mount in &spec.mounts {
        sources.push(match &mount.kind {
            MountKind::Bind { source: Source::Descriptor(_), recursive } => {
                Some(open_descriptor(descriptors.next().ok_or_else(lost)?, *recursive)?)
            }
            MountKind::Bind { source: Source::Path(path), recursive } => Some(clone_tree(path, *recursive)?),
            MountKind::Overlay { lower, upper, work } => {
                let upper = Upper { upper: upper.clone(), work: work.clone(), volatile: false };
                Some(mount_overlay(lower, Some(&upper))?)
            }
            MountKind::Tmpfs { size, mode, owner, executable } => {
                Some(container::tmpfs(*size, *mode, *owner, *executable)?)
            }
            MountKind::File { .. } => None,
        });
    }
    let mut by_depth: Vec<_> = order.drain(..).zip(sources).collect();
    by_depth.sort_by_key(|(mount, _)| mount.target.components().count());
    for (mount, tree) in by_depth {
        let recursive = matches!(mount.kind, MountKind::Bind { recursive: true, .. });
        let (what, directory) = match (tree, &mount.kind) {
            (Some(tree), _) => {
                let directory = is_directory(&tree)?;
                if mount.read_only {
                    set_read_only(tree.as_fd(), recursive)?;
                }
                for attributes in spec.mount_attributes.iter().filter(|of| of.target == mount.target) {
                    restrict(tree.as_fd(), attributes.bits(), recursive)?;
                }
                (What::Tree(tree), directory)
            }
            (None, MountKind::File { content, mode, uid, gid }) => {
                let (content, owner) = (content.0.clone(), (*uid, *gid));
                (What::File { content, mode: *mode, owner, read_only: mount.read_only }, false)
            }
            (None, _) => return Err(lost()),
        };
        prepared.push(Prepared { target: mount.target.clone(), directory, what });
    }

    let (root, view) = prepare_root(&spec, &mut prepared, cleanup)?;
    let (images, reports) = match &spec.images {
        Some(wanted) => {
            let (images, reports) = images::prepare(wanted, &spec.root)?;
            (Some(images), reports)
        }
        None => (None, None),
    };
    start(control, &spec, (root, view), (images, reports), prepared, stdin, terminal)
}

/// A detached mount of a file or directory that the parent has open.
fn open_descriptor(descriptor: OwnedFd, recursive: bool) -> Result<OwnedFd, Failure> {
    match clone_mount(descriptor.as_fd(), recursive) {
        // Before Linux 6.15 a detached mount cannot be cloned, so it is used itself.
        Err(Errno::INVAL) => Ok(descriptor),
        other => other.failing(|| "bind an open file or directory".into()),
    }
}

fn is_directory(tree: &OwnedFd) -> Result<bool, Failure> {
    let stat = statx(tree, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)
        .failing(|| "look at a mount's source".into())?;
    Ok(FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory)
}

/// The file systems of the kernel and the generated files, in the order in which they are mounted.
fn prepare_generated(spec: &Spec) -> Vec<Prepared> {
    let directory = |target: &str, what| Prepared { target: target.into(), directory: true, what };
    let file = |target: &str, content: String| Prepared {
        target: target.into(),
        directory: false,
        what: What::File {
            content: content.into_bytes(),
            mode: 0o644,
            owner: (0, 0),
            read_only: !spec.own_files || spec.read_only_root,
        },
    };
    let resolv_conf = spec.resolv_conf.clone().unwrap_or_else(|| {
        let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        if let Network::Private(_) = spec.network { network::resolv_conf(&host) } else { host }
    });
    let mut all = vec![
        directory("/proc", What::Proc),
        directory("/dev", What::Dev),
        directory("/sys", What::Sys),
        file("/etc/resolv.conf", resolv_conf),
        file("/etc/hosts", hosts(spec)),
    ];
    if spec.own_files {
        all.push(file("/etc/hostname", format!("{}\n", spec.hostname)));
    }
    // With a single id, changes of user are only pretended, but apt checks that its downloaders became
    // another user.
    if IdMapping::current().is_ok_and(|mapping| mapping.is_single()) && has_apt(spec) {
        let content = "APT::Sandbox::User \"root\";\n".to_string();
        all.push(file("/etc/apt/apt.conf.d/zz-crossdock-single-id", content));
    }
    all
}

/// Whether a layer of the root has apt's directory of settings.
fn has_apt(spec: &Spec) -> bool {
    let layers: Vec<&PathBuf> = match &spec.root {
        Root::Directory(directory) => vec![directory],
        Root::Overlay { lower, upper, .. } => lower.iter().chain([upper]).collect(),
        Root::OverlayReadOnly { lower } => lower.iter().collect(),
    };
    // Links are not followed: a layer is only a part of the root.
    layers.iter().any(|layer| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let layer = rustix::fs::open(layer.as_path(), flags, Mode::empty()).map(Dir::from);
        layer.is_ok_and(|layer| layer.dir("etc/apt/apt.conf.d").is_ok())
    })
}

/// Text of `/etc/hosts`: this container's names, the names asked for, and in the host's network the host's
/// names.
fn hosts(spec: &Spec) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if spec.hostname != "localhost" {
        text.push_str(&format!("127.0.1.1\t{}\n", spec.hostname));
    }
    for (name, address) in &spec.extra_hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    if spec.network == Network::Host {
        let host = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for line in host.lines().filter(|line| {
            let line = line.trim_start();
            !line.is_empty()
                && !line.starts_with('#')
                && !line.starts_with("127.")
                && !line.starts_with("::1")
        }) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Mounts the root and creates every missing target; the targets become real paths.
///
/// Also returns a mount that is no longer needed: closing it takes milliseconds, which can pass while the
/// command runs.
fn prepare_root(
    spec: &Spec,
    prepared: &mut [Prepared],
    cleanup: &mut Cleanup,
) -> Result<(OwnedFd, Option<Dir>), Failure> {
    let wanted: Vec<Wanted> =
        prepared.iter().map(|p| Wanted { target: p.target.clone(), directory: p.directory }).collect();
    let place = |prepared: &mut [Prepared], paths: Vec<PathBuf>| {
        prepared.iter_mut().zip(paths).for_each(|(p, path)| p.target = path);
    };
    let (lower, upper, base): (&[PathBuf], Option<Upper>, Option<&Path>) = match &spec.root {
        Root::Directory(directory) => (&[], None, Some(directory)),
        // Without lower layers there is nothing to stack.
        Root::Overlay { lower, upper, .. } if lower.is_empty() => (&[], None, Some(upper)),
        Root::Overlay { lower, upper, work, volatile } => {
            let upper = Upper { upper: upper.clone(), work: work.clone(), volatile: *volatile };
            cleanup.volatile_work = volatile.then(|| work.clone());
            (lower, Some(upper), None)
        }
        Root::OverlayReadOnly { lower } => (lower, None, None),
    };
    if let Some(base_path) = base {
        let root = clone_tree(base_path, false)?;
        set_no_devices(root.as_fd())?;
        let base = Dir::from(root.try_clone().failing(|| "prepare the root".into())?);
        let Plan { paths, absent } = mountpoints::plan(&base, &wanted)?;
        cleanup.created = Created::make(&base, &opened(base_path)?, &absent)?;
        place(prepared, paths);
        return Ok((root, None));
    }

    // One layer is reserved for the skeleton. The view shows upper as one more lower layer: two overlays must
    // not use the same upper at once, and the end of the first would sync the whole file system.
    if lower.len() >= overlay::LOWER_MAX {
        return Err(Failure::Specification(format!(
            "{} layers are more than the {} that overlayfs stacks in a sandbox",
            lower.len(),
            overlay::LOWER_MAX - 1
        )));
    }
    let with = |top: Option<&Path>| {
        lower.iter().map(PathBuf::as_path).chain(top).map(Path::to_path_buf).collect::<Vec<_>>()
    };
    let changed = upper.as_ref().map(|upper| upper.upper.as_path()).filter(|upper| !is_empty(upper));
    let view = Dir::from(mount_overlay(&with(changed), None)?);
    let Plan { mut paths, mut absent } = mountpoints::plan(&view, &wanted)?;
    let root = if absent.is_empty() {
        mount_overlay(lower, upper.as_ref())?
    } else {
        let skeleton = skeleton_path(upper.as_ref())?;
        rustix::fs::mkdir(&skeleton, Mode::from_raw_mode(0o700))
            .failing(|| format!("create {}", skeleton.display()))?;
        cleanup.skeleton = Some(skeleton.clone());
        mountpoints::make_skeleton(&opened(&skeleton)?, &view, &absent)?;
        mount_overlay(&with(Some(&skeleton)), upper.as_ref())?
    };
    let mounted = Dir::from(root.try_clone().failing(|| "prepare the root".into())?);
    if cleanup.skeleton.is_some() {
        Plan { paths, absent } = mountpoints::plan(&mounted, &wanted)?;
    }
    if let (false, Some(upper)) = (absent.is_empty(), &upper) {
        cleanup.created = Created::make(&mounted, &opened(&upper.upper)?, &absent)?;
    }
    place(prepared, paths);
    Ok((root, Some(view)))
}

/// Opens a directory of the store or of the caller.
fn opened(path: &Path) -> Result<Dir, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(Dir::from).failing(|| format!("open {}", path.display()))
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Path of the skeleton: beside `work`, on the same file system; without upper, a temporary path with a
/// unique name.
fn skeleton_path(upper: Option<&Upper>) -> Result<PathBuf, Failure> {
    match upper {
        Some(upper) => {
            let mut name = upper.work.file_name().unwrap_or_default().to_os_string();
            name.push(".mounts");
            let path = upper.work.with_file_name(name);
            // A monitor that was killed may have left one.
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).failing(|| format!("remove {}", path.display()))
                }
                _ => Ok(path),
            }
        }
        None => {
            let random = sys::random().failing(|| "name a temporary directory".into())?;
            Ok(std::env::temp_dir().join(format!("crossdock-mounts-{random:016x}")))
        }
    }
}

/// Starts pid 1 and waits for its end.
fn start(
    control: &OwnedFd,
    spec: &Spec,
    (root, view): (OwnedFd, Option<Dir>),
    (images, reports): (Option<container::Images>, Option<Reports>),
    prepared: Vec<Prepared>,
    stdin: Option<OwnedFd>,
    terminal: Option<wire::Window>,
) -> Result<i32, Failure> {
    let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    namespaces |= libc::CLONE_NEWCGROUP;
    if spec.network != Network::Host {
        namespaces |= libc::CLONE_NEWNET;
    }
    // Closed when the monitor is gone, so that pid 1 notices a death that came before it asked for the death
    // signal.
    let (alive, _alive) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .failing(|| "make a pipe for the sandbox".into())?;
    let (watched, started) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .failing(|| "make a socket for the sandbox".into())?;
    let (connected, connect) = match spec.network {
        Network::Private(_) => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .failing(|| "make a pipe for the sandbox".into())
            .map(|(read, write)| (Some(read), Some(write)))?,
        Network::Host | Network::None => (None, None),
    };
    let clone = sys::clone_process(namespaces).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => sys::clone_process(namespaces & !libc::CLONE_NEWCGROUP),
        _ => Err(error),
    });
    let pid = match clone.failing(|| "create the namespaces of the sandbox".into())? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            // Early, so that the monitor is the last to close the view and the one that waits for the kernel.
            drop((view, _alive, watched, connect));
            let inside = container::Inside {
                spec,
                root,
                images,
                mounts: prepared,
                stdin,
                terminal,
                control,
                alive,
                started,
                connected,
            };
            let failure = container::run(inside);
            let _ = wire::send(control.as_fd(), &Report::Failed(failure.shortened()), &[]);
            sys::exit_now(125)
        }
    };
    // With these closed, the mounts and pipes live exactly as long as the container.
    drop((root, images, prepared, stdin, started, connected));
    close_standard_streams();
    // A command can cancel its death signal; the parent then kills it if the monitor ends without a report.
    if let Some(process) = Pid::from_raw(pid)
        && let Ok(pidfd) = pidfd_open(process, PidfdFlags::empty())
    {
        let _ = wire::send(control.as_fd(), &Report::Container, &[pidfd.as_fd()]);
    }
    // While pid 1 mounts, and before the view is closed: another process with a copy would be the one to
    // close it.
    let mut watch = Watch {
        pid,
        started: Some(watched),
        command: None,
        killed_for: None,
        connection: None,
        connect,
        reports,
    };
    if let Network::Private(uplink) = spec.network {
        match Connection::start(uplink, pid, alive) {
            Ok(connection) => watch.connection = Some(connection),
            Err(failure) => return Err(watch.give_up(failure)),
        }
    }
    drop(view);
    watch.serve(control)
}

/// The container's output must end when the container does, not when the monitor does.
fn close_standard_streams() {
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// The container as the monitor sees it.
struct Watch {
    /// Process id of pid 1 in this namespace.
    pid: i32,
    /// Hangs up when the command is executed.
    started: Option<OwnedFd>,
    /// Pidfd of the command below an init.
    command: Option<OwnedFd>,
    /// The signal for which pid 1 was killed.
    killed_for: Option<i32>,
    /// The connection of the network, which ends with the container.
    connection: Option<Connection>,
    /// Pipe that tells pid 1 that the network is connected.
    connect: Option<OwnedFd>,
    /// Where the container's programs report what translations are to be made of.
    reports: Option<Reports>,
}

impl Watch {
    /// Passes signals on until pid 1 ends; kills it when the parent is gone. Returns its raw wait status.
    fn serve(mut self, control: &OwnedFd) -> Result<i32, Failure> {
        let doing = || "watch the sandbox".to_string();
        let process = Pid::from_raw(self.pid).expect("clone returned a process id above 0 to its parent");
        let pidfd = pidfd_open(process, PidfdFlags::empty()).failing(doing)?;
        let mut parent = Some(control);
        loop {
            let mut watched = vec![PollFd::new(&pidfd, PollFlags::IN)];
            let connection = self.connection.as_ref().and_then(Connection::watched);
            let sockets = [self.started.as_ref().map(OwnedFd::as_fd), connection, parent.map(OwnedFd::as_fd)];
            for socket in sockets.into_iter().flatten() {
                watched.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
            }
            let deadline = self.connection.as_ref().and_then(Connection::deadline);
            match poll(&mut watched, deadline.map(until).as_ref()) {
                Err(Errno::INTR) => continue,
                other => other.failing(doing)?,
            };
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(watched);
            if ready[0] {
                if let Some(reports) = self.reports.take() {
                    reports.keep();
                }
                let (_, status) = sys::wait(self.pid).failing(doing)?;
                return Ok(match self.killed_for {
                    // As if pid 1 were not immune: the raw status of a process that a signal killed is the
                    // signal's number.
                    Some(signal) if libc::WIFSIGNALED(status) => signal,
                    _ => status,
                });
            }
            // First note whether the command has started: that decides what a signal does.
            if self.started.is_some() && ready[1] {
                self.note_start();
                continue;
            }
            // `advance` checks itself whether there is work, so that a stream of signals does not delay it.
            if let Some(connection) = &mut self.connection {
                match connection.advance() {
                    Ok(true) => self.let_go(),
                    Ok(false) => {}
                    Err(failure) => return Err(self.give_up(failure)),
                }
            }
            if let Some(socket) = parent.filter(|_| ready.last() == Some(&true)) {
                match wire::receive::<Order>(socket) {
                    Ok(Some((Order::Signal(signal), _))) => self.signal(signal),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        parent = None;
                        let _ = sys::kill(self.pid, libc::SIGKILL);
                    }
                }
            }
        }
    }

    /// Lets pid 1 execute the command.
    fn let_go(&mut self) {
        if let Some(connect) = self.connect.take() {
            // Pid 1 may have ended.
            let _ = rustix::io::write(&connect, b"1");
        }
    }

    /// Ends a container that cannot be what was asked for.
    fn give_up(&mut self, failure: Failure) -> Failure {
        let _ = sys::kill(self.pid, libc::SIGKILL);
        let _ = sys::wait(self.pid);
        failure
    }

    fn note_start(&mut self) {
        let Some(socket) = &self.started else { return };
        match wire::receive::<()>(socket) {
            Ok(Some(((), descriptors))) => self.command = descriptors.into_iter().next(),
            Ok(None) | Err(_) => self.started = None,
        }
    }

    /// Sends a signal to the command. A signal that would end any other process also ends pid 1, although the
    /// kernel makes pid 1 immune to signals without a handler. If the command is not executed yet, such a
    /// signal ends pid 1 at once.
    fn signal(&mut self, signal: i32) {
        let ends = ends_by_default(signal);
        if ends && self.started.is_some() {
            self.killed_for = Some(signal);
            let _ = sys::kill(self.pid, libc::SIGKILL);
        } else if signal == libc::SIGKILL {
            let _ = sys::kill(self.pid, signal);
        } else if let Some(command) = &self.command {
            let _ = sys::signal_process(command.as_fd(), signal);
        } else if ends && host::takes_default_action(self.pid, signal) {
            self.killed_for = Some(signal);
            let _ = sys::kill(self.pid, libc::SIGKILL);
        } else {
            let _ = sys::kill(self.pid, signal);
        }
    }
}

/// The time left until a deadline, in the form of poll(2).
fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    // A deadline is only seconds away.
    Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
}

/// Whether the default action of a signal is the end of the process, signal(7).
fn ends_by_default(signal: i32) -> bool {
    const OTHERS: [i32; 9] = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    (1..=64).contains(&signal) && !OTHERS.contains(&signal)
}
