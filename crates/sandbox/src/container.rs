//! Pid 1 of the container, from the first instruction in the new namespaces to `execve` of the command.

use std::ffi::{CString, OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, mkdirat, openat, statx, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
    unmount,
};
use rustix::process::{Signal, chdir, fchdir, pivot_root, set_parent_process_death_signal, setsid, umask};

use crate::capabilities;
use crate::error::{Doing, Failure};
use crate::idmap::IdMapping;
use crate::mountpoints::open_in;
use crate::overlay::{clone_tree, set_read_only};
use crate::seccomp;
use crate::spec::{Network, Root, Security, Spec};
use crate::sys::{self, Cloned};
use crate::user::{self, User};
use crate::wire::{self, Report, Window};

/// Search path where the environment has none, as Docker's.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths that tell of the host, hidden as Docker hides them.
const MASKED: &[&str] = &[
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

/// Paths through which the host could be changed, read-only as Docker has them.
const READ_ONLY: &[&str] = &["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Something to be mounted, prepared by the monitor.
pub struct Prepared {
    /// Path inside: first as it was given, then real, without a leading slash.
    pub target: PathBuf,
    /// Whether the target is a directory.
    pub directory: bool,
    /// What.
    pub what: What,
}

/// What a [`Prepared`] mounts.
pub enum What {
    /// A new instance of procfs.
    Proc,
    /// A tmpfs with the usual devices.
    Dev,
    /// sysfs, read-only.
    Sys,
    /// A detached mount.
    Tree(OwnedFd),
    /// A file in memory.
    File {
        /// Bytes.
        content: Vec<u8>,
        /// Permissions.
        mode: u32,
        /// User and group.
        owner: (u32, u32),
        /// Refuse writes.
        read_only: bool,
    },
}

/// All that pid 1 gets from the monitor.
pub struct Inside<'a> {
    /// What to run.
    pub spec: &'a Spec,
    /// Detached mount of the root.
    pub root: OwnedFd,
    /// Mounts in order.
    pub mounts: Vec<Prepared>,
    /// Standard input; none is `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Make a terminal of this size.
    pub terminal: Option<Window>,
    /// To the parent.
    pub control: &'a OwnedFd,
    /// Hangs up when the monitor is gone.
    pub alive: OwnedFd,
}

/// Becomes the command. Returns only if that fails.
pub fn run(inside: Inside<'_>) -> Failure {
    match enter(inside) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

enum Never {}

fn enter(inside: Inside<'_>) -> Result<Never, Failure> {
    let Inside { spec, root, mounts, stdin, terminal, control, alive } = inside;
    die_with_monitor(&alive)?;
    setsid().failing(|| "start a session".into())?;
    let _ = sys::new_session_keyring();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .failing(|| "make mounts private".into())?;
    let mapping = IdMapping::current().failing(|| "read /proc/self/uid_map".into())?;

    let mut tree = Tree::new(root, spec, &mapping)?;
    for mount in mounts {
        tree.mount(mount)?;
    }
    if spec.security == Security::Sandbox {
        tree.mask()?;
    }
    let pty = match terminal {
        Some(window) => Some(tree.terminal(window)?),
        None => None,
    };
    if spec.read_only_root || matches!(spec.root, Root::OverlayReadOnly { .. }) {
        set_read_only(tree.root.as_fd(), false)?;
    }
    tree.pivot()?;

    rustix::system::sethostname(spec.hostname.as_bytes())
        .failing(|| format!("set the host name {}", spec.hostname))?;
    if spec.network == Network::None {
        sys::loopback_up().failing(|| "start the loopback interface".into())?;
    }
    let user = {
        let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .failing(|| "open the root".into())?;
        user::resolve(root.as_fd(), &spec.user).map_err(|error| Failure::User(error.to_string()))?
    };
    let own_terminal = pty.is_some();
    standard_streams(stdin, pty, control)?;
    give_streams(&user, own_terminal);
    for limit in &spec.limits {
        sys::set_limit(limit.resource, limit.soft, limit.hard).failing(|| {
            format!(
                "set resource limit {} to {}:{} (raising one needs root)",
                limit.resource, limit.soft, limit.hard
            )
        })?;
    }
    umask(Mode::from_raw_mode(0o022));
    enter_directory(&spec.cwd)?;
    let command = Command::new(spec, &user)?;
    sys::reset_signals();
    sys::close_on_exec_from(3).failing(|| "close descriptors".into())?;
    if spec.init {
        return run_init(spec, &mapping, &user, &command, &alive);
    }
    drop_privileges(spec, &mapping, &user)?;
    die_with_monitor(&alive)?;
    Err(command.execute())
}

/// SIGKILL at the monitor's death. A change of user ids resets it, so it is asked for twice.
fn die_with_monitor(alive: &OwnedFd) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .failing(|| "ask for the parent's death signal".into())?;
    let mut watched = [PollFd::new(alive, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let hung_up = poll(&mut watched, Some(&now)).failing(|| "watch the monitor".into())? > 0;
    if hung_up { Err(Failure::Specification("the monitor is gone".into())) } else { Ok(()) }
}

/// A new file system that is not yet mounted anywhere.
fn detached(name: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Failure> {
    let doing = || format!("mount {name}");
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).failing(doing)?;
    fsconfig_set_string(&context, "source", name).failing(doing)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key).failing(doing)?;
        } else {
            fsconfig_set_string(&context, *key, *value).failing(doing)?;
        }
    }
    fsconfig_create(&context).failing(doing)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
        .failing(doing)
}

/// A detached tmpfs.
pub fn tmpfs(size: Option<u64>, mode: u32) -> Result<OwnedFd, Failure> {
    let (mode, size) = (format!("{mode:o}"), size.map(|size| size.to_string()));
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    detached("tmpfs", &options, NOSUID | NODEV)
}

const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

fn attach(mount: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Failure> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if name.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(mount, "", directory, name, flags).failing(|| format!("attach a mount at {}", name.display()))
}

/// The mount tree while it is being built.
struct Tree<'a> {
    root: OwnedFd,
    /// The new `/proc` until it is mounted.
    proc: Option<OwnedFd>,
    /// A tmpfs over the old `/proc`, which goes away with the old root. Holds the files and the empty directory for binds.
    scratch: OwnedFd,
    files: usize,
    spec: &'a Spec,
    mapping: &'a IdMapping,
}

impl<'a> Tree<'a> {
    fn new(root: OwnedFd, spec: &'a Spec, mapping: &'a IdMapping) -> Result<Tree<'a>, Failure> {
        // First of all, since the scratch covers what the kernel takes for a permission.
        let proc = proc()?;
        let scratch = tmpfs(None, 0o755)?;
        // A directory that is everywhere. (Over "/", it would take a second unmount to go, and each waits for all CPUs.)
        attach(scratch.as_fd(), CWD, OsStr::new("/proc"))?;
        for name in ["root", "empty"] {
            mkdirat(&scratch, name, Mode::from_raw_mode(0o755)).failing(|| "prepare the root".into())?;
        }
        attach(root.as_fd(), scratch.as_fd(), OsStr::new("root"))?;
        Ok(Tree { root, proc: Some(proc), scratch, files: 0, spec, mapping })
    }

    fn mount(&mut self, mount: Prepared) -> Result<(), Failure> {
        let Prepared { target, directory, what } = mount;
        let place = self.place(&target, directory)?;
        let here = |tree: &OwnedFd| {
            attach(tree.as_fd(), place.as_fd(), OsStr::new("")).map_err(|failure| Failure::Target {
                target: format!("/{}", target.display()),
                reason: failure.to_string(),
            })
        };
        match what {
            What::Tree(tree) => here(&tree),
            What::Proc => match self.proc.take() {
                Some(proc) => here(&proc),
                None => Ok(()),
            },
            What::Sys => {
                let own = self.spec.network == Network::None;
                here(&sys_tree(own)?)?;
                if own {
                    // Only where the host has the unified hierarchy; nobody needs it.
                    let _ = detached("cgroup2", &[], NOSUID | NODEV | NOEXEC | libc::MOUNT_ATTR_RDONLY)
                        .and_then(|tree| {
                            attach(tree.as_fd(), self.root.as_fd(), OsStr::new("sys/fs/cgroup"))
                        });
                }
                Ok(())
            }
            What::Dev => {
                let dev = detached("tmpfs", &[("mode", "755"), ("size", "65536k")], NOSUID)?;
                here(&dev)?;
                self.fill_dev(&dev)
            }
            What::File { content, mode, owner, read_only } => {
                let file = self.file(&content, mode, owner)?;
                if read_only {
                    set_read_only(file.as_fd(), false)?;
                }
                here(&file)
            }
        }
    }

    /// Opens the place of a mount, which exists in the root or is made on the mount that covers it.
    fn place(&self, target: &Path, directory: bool) -> Result<OwnedFd, Failure> {
        let refuse = |error: Errno| Failure::Target {
            target: format!("/{}", target.display()),
            reason: format!("{error}"),
        };
        match open_in(self.root.as_fd(), target, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(refuse),
        }
        let names: Vec<_> = target.iter().collect();
        let mut path = PathBuf::new();
        for (n, name) in names.iter().enumerate() {
            let parent =
                open_in(self.root.as_fd(), &path, OFlags::PATH | OFlags::DIRECTORY).map_err(refuse)?;
            let made = if n + 1 < names.len() || directory {
                mkdirat(&parent, *name, Mode::from_raw_mode(0o755))
            } else {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
            };
            match made {
                Ok(()) | Err(Errno::EXIST) => path.push(name),
                Err(error) => return Err(refuse(error)),
            }
        }
        open_in(self.root.as_fd(), target, OFlags::PATH).map_err(refuse)
    }

    /// A detached bind of a new file in memory.
    fn file(&mut self, content: &[u8], mode: u32, (uid, gid): (u32, u32)) -> Result<OwnedFd, Failure> {
        let doing = || "make a file for the sandbox".to_string();
        self.files += 1;
        let name = format!("file{}", self.files);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(
            openat(&self.scratch, &name, flags, Mode::from_raw_mode(0o600)).failing(doing)?,
        );
        file.write_all(content).failing(doing)?;
        if (uid, gid) != (0, 0) {
            let changed = rustix::fs::fchown(
                &file,
                Some(rustix::fs::Uid::from_raw(uid)),
                Some(rustix::fs::Gid::from_raw(gid)),
            );
            if !self.mapping.is_single() {
                changed.failing(|| format!("give a file to {uid}:{gid}"))?;
            }
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).failing(doing)?;
        clone_tree(self.scratch.as_fd(), OsStr::new(&name), false)
    }

    fn fill_dev(&self, dev: &OwnedFd) -> Result<(), Failure> {
        let doing = || "fill /dev".to_string();
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            let source = match clone_tree(CWD, OsStr::new(&format!("/dev/{name}")), false) {
                Ok(source) => source,
                Err(Failure::Step { errno: libc::ENOENT, .. }) => continue,
                Err(failure) => return Err(failure),
            };
            openat(dev, name, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))
                .failing(doing)?;
            attach(source.as_fd(), dev.as_fd(), OsStr::new(name))?;
        }
        for (name, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("core", "/proc/kcore"),
            ("ptmx", "pts/ptmx"),
        ] {
            symlinkat(to, dev, name).failing(doing)?;
        }
        let mut pts = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
        if self.mapping.has_gid(5) {
            pts.push(("gid", "5"));
        }
        let shm = [("mode", "1777"), ("size", &self.spec.shm_size.to_string())];
        for (name, tree) in [
            ("pts", detached("devpts", &pts, NOSUID | NOEXEC)?),
            ("shm", detached("tmpfs", &shm, NOSUID | NODEV | NOEXEC)?),
            ("mqueue", detached("mqueue", &[], NOSUID | NODEV | NOEXEC)?),
        ] {
            mkdirat(dev, name, Mode::from_raw_mode(0o755)).failing(doing)?;
            attach(tree.as_fd(), dev.as_fd(), OsStr::new(name))?;
        }
        Ok(())
    }

    /// Hides and protects what Docker hides and protects.
    fn mask(&self) -> Result<(), Failure> {
        for path in READ_ONLY {
            let tree = match clone_tree(self.root.as_fd(), OsStr::new(path), true) {
                Ok(tree) => tree,
                Err(Failure::Step { errno: libc::ENOENT, .. }) => continue,
                Err(failure) => return Err(failure),
            };
            set_read_only(tree.as_fd(), true)?;
            attach(tree.as_fd(), self.root.as_fd(), OsStr::new(path))?;
        }
        for path in MASKED {
            let Ok(place) = open_in(self.root.as_fd(), Path::new(path), OFlags::PATH) else { continue };
            let stat = fstat(&place).failing(|| format!("look at /{path}"))?;
            let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                clone_tree(self.scratch.as_fd(), OsStr::new("empty"), false)?
            } else {
                clone_tree(CWD, OsStr::new("/dev/null"), false)?
            };
            set_read_only(cover.as_fd(), false)?;
            attach(cover.as_fd(), place.as_fd(), OsStr::new(""))?;
        }
        Ok(())
    }

    /// A pseudo-terminal of the container: both ends, the inner one also at `/dev/console`.
    fn terminal(&self, window: Window) -> Result<(OwnedFd, OwnedFd), Failure> {
        let doing = || "make a terminal".to_string();
        let outer = open_in(self.root.as_fd(), Path::new("dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY)
            .failing(doing)?;
        rustix::pty::unlockpt(&outer).failing(doing)?;
        let size = rustix::termios::Winsize {
            ws_row: window.rows,
            ws_col: window.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if window.rows > 0 && window.columns > 0 {
            rustix::termios::tcsetwinsize(&outer, size).failing(doing)?;
        }
        let inner = open_in(self.root.as_fd(), Path::new("dev/pts/0"), OFlags::RDWR | OFlags::NOCTTY)
            .failing(doing)?;
        openat(
            &self.root,
            "dev/console",
            OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .failing(doing)?;
        let console = clone_tree(self.root.as_fd(), OsStr::new("dev/pts/0"), false)?;
        attach(console.as_fd(), self.root.as_fd(), OsStr::new("dev/console"))?;
        Ok((outer, inner))
    }

    /// Makes the tree the root of this mount namespace and forgets everything else.
    fn pivot(self) -> Result<(), Failure> {
        let doing = || "change the root directory".to_string();
        fchdir(&self.root).failing(doing)?;
        // With both arguments the same, the old root ends on top of the new one, from where it is detached. pivot_root(2)
        pivot_root(".", ".").failing(doing)?;
        let root = mount_id(self.root.as_fd()).failing(doing)?;
        // What is stacked on "/" is where ".." would lead to, so one by one it must go.
        for _ in 0..8 {
            let above = openat(CWD, "..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).failing(doing)?;
            if mount_id(above.as_fd()).failing(doing)? == root {
                return chdir("/").failing(doing);
            }
            unmount(".", UnmountFlags::DETACH).failing(doing)?;
        }
        Err(Failure::Step { doing: doing(), errno: libc::EBUSY })
    }
}

/// Number of the mount that a path is on (Linux 5.8).
fn mount_id(mount: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(statx(mount, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn proc() -> Result<OwnedFd, Failure> {
    match detached("proc", &[], NOSUID | NODEV | NOEXEC) {
        // Parts of the /proc that we can see are covered, so the kernel refuses one that is not: inside other containers.
        Err(Failure::Step { errno: libc::EPERM, .. }) => clone_tree(CWD, OsStr::new("/proc"), true),
        other => other,
    }
}

fn sys_tree(own_network: bool) -> Result<OwnedFd, Failure> {
    let attributes = NOSUID | NODEV | NOEXEC | libc::MOUNT_ATTR_RDONLY;
    if own_network && let Ok(tree) = detached("sysfs", &[], attributes) {
        return Ok(tree);
    }
    let tree = clone_tree(CWD, OsStr::new("/sys"), true)?;
    sys::mount_set_attributes(tree.as_fd(), attributes, true).failing(|| "make /sys read-only".into())?;
    Ok(tree)
}

fn standard_streams(
    stdin: Option<OwnedFd>,
    pty: Option<(OwnedFd, OwnedFd)>,
    control: &OwnedFd,
) -> Result<(), Failure> {
    let doing = || "set the standard streams".to_string();
    if let Some((outer, inner)) = pty {
        wire::send(control.as_fd(), &Report::Terminal, &[outer.as_fd()]).failing(doing)?;
        sys::set_controlling_terminal(inner.as_fd()).failing(doing)?;
        rustix::stdio::dup2_stdin(&inner).failing(doing)?;
        rustix::stdio::dup2_stdout(&inner).failing(doing)?;
        return rustix::stdio::dup2_stderr(&inner).failing(doing);
    }
    let stdin = match stdin {
        Some(stdin) => stdin,
        None => openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).failing(doing)?,
    };
    rustix::stdio::dup2_stdin(&stdin).failing(doing)
}

/// Makes pipes and the terminal belong to the user, so that `/dev/stdout` can be opened. Files and terminals of the host stay
/// whose they are.
fn give_streams(user: &User, own_terminal: bool) {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let pipe = fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if pipe || own_terminal {
            // Refused for pipes of somebody else, who then knows what he does.
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(user.uid)), None);
        }
    }
}

/// Changes to the working directory and makes it, as Docker does.
fn enter_directory(path: &Path) -> Result<(), Failure> {
    let doing = || format!("enter the working directory {}", path.display());
    match chdir(path) {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(path).failing(doing).and_then(|()| chdir(path).failing(doing))
        }
        other => other.failing(doing),
    }
}

/// Seccomp while CAP_SYS_ADMIN is there, then capabilities and user. The order is that of what each step needs.
fn drop_privileges(spec: &Spec, mapping: &IdMapping, user: &User) -> Result<(), Failure> {
    let single = mapping.is_single();
    let sandbox = spec.security == Security::Sandbox;
    if sandbox {
        capabilities::limit_bounding().failing(|| "limit the capabilities".into())?;
    }
    if let Some(filter) = seccomp::filter(sandbox, single) {
        sys::install_seccomp(&filter).failing(|| "install the seccomp filter".into())?;
    }
    // With one id only, the filter makes these calls succeed without effect.
    let setting_groups_denied = single;
    let groups = (!setting_groups_denied).then_some(user.groups.as_slice());
    sys::become_user(user.uid, user.gid, groups).failing(|| {
        format!("become user {}:{} (is the id in the range of /etc/subuid?)", user.uid, user.gid)
    })?;
    if sandbox && (user.uid == 0 || single) {
        capabilities::limit().failing(|| "limit the capabilities".into())?;
    }
    Ok(())
}

/// The command with everything that `execve` wants, made before there are limits.
struct Command {
    name: OsString,
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    fn new(spec: &Spec, user: &User) -> Result<Command, Failure> {
        let c_string = |text: &OsStr| {
            CString::new(text.as_bytes())
                .map_err(|_| Failure::Specification("an argument or variable contains a zero byte".into()))
        };
        let variable = |name: &str| {
            spec.env.iter().rev().find_map(|v| v.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        let name = spec.args[0].clone();
        let candidates = if name.as_bytes().contains(&b'/') {
            vec![c_string(&name)?]
        } else {
            let path = variable("PATH").unwrap_or(PATH_DEFAULT.as_bytes());
            path.split(|&b| b == b':')
                .map(|directory| {
                    let directory = if directory.is_empty() { b"." } else { directory };
                    c_string(&OsString::from_vec([directory, b"/", name.as_bytes()].concat()))
                })
                .collect::<Result<_, _>>()?
        };
        let mut env = spec.env.iter().map(|v| c_string(v)).collect::<Result<Vec<_>, _>>()?;
        if variable("HOME").is_none() {
            env.push(c_string(OsStr::new(&format!("HOME={}", user.home)))?);
        }
        let args = spec.args.iter().map(|a| c_string(a)).collect::<Result<_, _>>()?;
        Ok(Command { name, candidates, args, env })
    }

    /// Executes the first candidate that can be, as execvp(3).
    fn execute(&self) -> Failure {
        let command = self.name.display().to_string();
        let mut denied: Option<(&CString, i32)> = None;
        for candidate in &self.candidates {
            let errno = sys::execute(candidate, &self.args, &self.env).raw_os_error().unwrap_or(0);
            match errno {
                libc::ENOENT | libc::ENOTDIR if !exists(candidate) => {}
                libc::EACCES => denied = denied.or(Some((candidate, errno))),
                _ => {
                    denied = Some((candidate, errno));
                    break;
                }
            }
        }
        match denied {
            None if self.name.as_bytes().contains(&b'/') => {
                Failure::CommandNotFound { command, reason: "no such file or directory".into() }
            }
            None => Failure::CommandNotFound { command, reason: "executable file not found in $PATH".into() },
            Some((path, libc::ENOENT)) => Failure::CommandNotFound {
                command,
                reason: format!(
                    "{} exists, but the interpreter that it names does not (a dynamic loader, or the program after #!)",
                    path.to_string_lossy()
                ),
            },
            Some((path, libc::ENOEXEC)) => Failure::CommandNotExecutable {
                command,
                reason: format!("exec format error: {}", describe(path)),
            },
            Some((_, errno)) => Failure::CommandNotExecutable {
                command,
                reason: std::io::Error::from_raw_os_error(errno).to_string(),
            },
        }
    }
}

fn exists(path: &CString) -> bool {
    rustix::fs::stat(path.as_c_str()).is_ok()
}

/// Why the kernel may not know the format of a file.
fn describe(path: &CString) -> String {
    let mut header = [0; 20];
    let read = std::fs::File::open(OsStr::from_bytes(path.as_bytes()))
        .and_then(|mut file| file.read_exact(&mut header));
    let name = path.to_string_lossy();
    match crate::binfmt::architecture_of(&header) {
        _ if read.is_err() => format!("{name} is neither an ELF file nor a script with #!"),
        Some(architecture) => {
            format!("{name} is a program for {architecture}, and no emulator for it is registered")
        }
        None if header.starts_with(b"\x7fELF") => {
            format!("{name} is an ELF file for another kind of machine")
        }
        None => format!("{name} is neither an ELF file nor a script with #!"),
    }
}

/// Pid 1 that starts the command as its child, passes signals to it and reaps what is orphaned.
fn run_init(
    spec: &Spec,
    mapping: &IdMapping,
    user: &User,
    command: &Command,
    alive: &OwnedFd,
) -> Result<Never, Failure> {
    sys::block_all_signals();
    let pid = match sys::clone_process(0).failing(|| "start the command".into())? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            // A group of its own in the foreground of the terminal, as a shell starts a job, so that keys reach it and not us.
            // The terminal would stop a background process for this, but the signal is blocked.
            let stdin = rustix::stdio::stdin();
            if rustix::termios::isatty(stdin) && rustix::process::setpgid(None, None).is_ok() {
                let _ = rustix::termios::tcsetpgrp(stdin, rustix::process::getpid());
            }
            sys::reset_signals();
            set_parent_process_death_signal(Some(Signal::KILL))
                .failing(|| "ask for a death signal".into())?;
            drop_privileges(spec, mapping, user)?;
            die_with_monitor(alive)?;
            return Err(command.execute());
        }
    };
    // Nobody inside shall reach our executable through /proc/1/exe.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    loop {
        let signal = sys::wait_signal().failing(|| "wait for signals".into())?;
        if signal != libc::SIGCHLD {
            let _ = sys::kill(pid, signal);
            continue;
        }
        while let Some((ended, status)) = sys::reap() {
            if ended == pid {
                // A signal cannot be passed on by dying of it: pid 1 is immune to its own. Docker's init does the same.
                sys::exit_now(if libc::WIFSIGNALED(status) {
                    128 + libc::WTERMSIG(status)
                } else {
                    libc::WEXITSTATUS(status)
                });
            }
        }
    }
}
