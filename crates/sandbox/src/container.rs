//! Pid 1 of the container, from the first instruction in the new namespaces to `execve` of the command.

use std::ffi::{CString, OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, major, minor};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use rustix::process::{Signal, fchdir, set_parent_process_death_signal, setsid, umask};

use crate::capabilities::Capabilities;
use crate::dir::{Dir, FileId, attach, clone_mount};
use crate::error::{Doing, Failure};
use crate::idmap::IdMapping;
use crate::mounts::{clone_tree, mount_id, set_read_only, unescape};
use crate::seccomp::{self, Filter};
use crate::spec::{Network, PATH_DEFAULT, Programs, Root, Security, Spec};
use crate::sys::{self, Cloned};
use crate::sysctl;
use crate::user::{self, User};
use crate::wire::{self, Report, Window};
use crate::{host, mountpoints};

/// Files of `/proc` that reveal the host, hidden as Docker hides them.
const PROC_MASKED: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// Files of `/sys` that are hidden for the same reason.
const SYS_MASKED: &[&str] = &["devices/virtual/powercap", "firmware"];

/// Files of `/proc` that could change the host, read-only as with Docker.
const PROC_READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Files of `/proc` that a mount may cover, as runc allows for lxcfs, which shows a container's share. Any
/// other mount there would replace what programs, and crossdock, trust the kernel to say.
const PROC_REPLACEABLE: &[&str] =
    &["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"];

/// The devices of every container: name, major and minor number (devices.txt of the kernel's documentation).
const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A mount that the monitor has prepared.
pub struct Prepared {
    /// Path inside: first as given, then the real path, without a leading slash.
    pub target: PathBuf,
    /// Whether the target is a directory.
    pub directory: bool,
    /// What is mounted.
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

/// What our emulator finds in `/dev/.crossdock`: detached mounts.
pub struct Images {
    /// An empty file system, in which the folders of layers are mounted.
    pub top: OwnedFd,
    /// The folders with images of the container's layers, read-only, the highest layer first.
    pub layers: Vec<OwnedFd>,
    /// The folder for reports.
    pub reports: OwnedFd,
}

/// Everything that pid 1 gets from the monitor.
pub struct Inside<'a> {
    /// What to run.
    pub spec: &'a Spec,
    /// Detached mount of the root.
    pub root: OwnedFd,
    /// Detached mounts for the emulator, below `/dev/.crossdock`.
    pub images: Option<Images>,
    /// Mounts in order.
    pub mounts: Vec<Prepared>,
    /// Standard input; `None` is `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Create a terminal of this size.
    pub terminal: Option<Window>,
    /// Socket to the parent.
    pub control: &'a OwnedFd,
    /// Hangs up when the monitor is gone.
    pub alive: OwnedFd,
    /// Closed when the command is executed: the monitor then knows that signals reach the command. With an
    /// init, the command's pidfd is sent over this socket before.
    pub started: OwnedFd,
    /// Gets a byte when the network is connected; `None` if there is nothing to wait for.
    pub connected: Option<OwnedFd>,
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
    let Inside { spec, root, images, mounts, stdin, terminal, control, alive, started, connected } = inside;
    die_with_monitor(&alive)?;
    setsid().failing(|| "start a session".into())?;
    let _ = sys::new_session_keyring();
    host::make_mounts_private().failing(|| "make mounts private".into())?;
    let mapping = IdMapping::current().failing(|| "read /proc/self/uid_map".into())?;

    let mut tree = Tree::new(root, images, spec, &mapping)?;
    for mount in mounts {
        tree.mount(mount)?;
    }
    for (name, value) in &spec.sysctls {
        tree.set(name, value)?;
    }
    if spec.security.masks {
        tree.mask()?;
    }
    let pty = match terminal {
        Some(window) => Some(tree.terminal(window)?),
        None => None,
    };
    let null = tree.null()?;
    if spec.read_only_root || matches!(spec.root, Root::OverlayReadOnly { .. }) {
        set_read_only(tree.root.as_fd(), false)?;
    }
    let root = tree.pivot()?;

    let own_terminal = pty.is_some();
    standard_streams(stdin, &null, pty, control)?;
    drop(null);
    // No descriptor of the monitor may be in reach when paths of the image are looked up.
    let mut kept =
        vec![control.as_raw_fd(), alive.as_raw_fd(), started.as_raw_fd(), root.as_fd().as_raw_fd()];
    kept.extend(connected.as_ref().map(AsRawFd::as_raw_fd));
    sys::close_all_but(&kept).failing(|| "close descriptors".into())?;

    rustix::system::sethostname(spec.hostname.as_bytes())
        .failing(|| format!("set the host name {}", spec.hostname))?;
    if spec.network != Network::Host {
        sys::loopback_up().failing(|| "start the loopback interface".into())?;
    }
    let user = user::resolve_with(root.as_fd(), &spec.user, &spec.groups)
        .map_err(|error| Failure::User(error.to_string()))?;
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
    enter_directory(&root, &spec.cwd)?;
    let command = Command::new(spec, &user)?;
    spec.programs.choose_cpu().failing(|| "choose the CPU that programs see".into())?;
    sys::reset_signals();
    if let Some(connected) = connected {
        let mut byte = [0];
        std::fs::File::from(connected).read_exact(&mut byte).failing(|| "wait for the network".into())?;
    }
    sys::close_on_exec_from(3).failing(|| "close descriptors".into())?;
    if spec.security.masks {
        sys::limit_scope().failing(|| "keep to the sandbox's own sockets and signals (Landlock)".into())?;
    }
    if spec.init {
        return run_init(spec, &mapping, &user, &command, &alive, started);
    }
    drop_privileges(spec, &mapping, &user)?;
    die_with_monitor(&alive)?;
    Err(command.execute())
}

/// Asks for SIGKILL at the death of the monitor, the parent. A change of user ids resets this, so it is asked
/// for twice.
pub fn die_with_monitor(alive: &OwnedFd) -> Result<(), Failure> {
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

/// A detached tmpfs, tmpfs(5).
pub fn tmpfs(
    size: Option<u64>,
    mode: u32,
    (uid, gid): (u32, u32),
    executable: bool,
) -> Result<OwnedFd, Failure> {
    let (mode, size) = (format!("{mode:o}"), size.map(|size| size.to_string()));
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let mut options = vec![("mode", mode.as_str()), ("uid", &uid), ("gid", &gid)];
    options.extend(size.as_deref().map(|size| ("size", size)));
    detached("tmpfs", &options, NOSUID | NODEV | if executable { 0 } else { NOEXEC })
}

const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Room for the files of a container that it may change itself, and for the others in memory, in bytes: as
/// much as in its `/dev`.
const OWN_FILES_SIZE_MAX: u64 = 64 << 20;

/// The mount tree while it is being built.
struct Tree<'a> {
    root: Dir,
    images: Option<Images>,
    /// The new `/proc` until it is mounted.
    new_proc: Option<OwnedFd>,
    /// The file systems of the kernel, once mounted: work on them does not depend on where the image has put
    /// them.
    proc: Option<Dir>,
    /// Number of the mount of `proc`.
    proc_id: u64,
    dev: Option<Dir>,
    sys: Option<Dir>,
    /// A tmpfs over the old `/proc`, gone with the old root. Holds the files and the empty directory for
    /// binds.
    scratch: Dir,
    /// An empty directory on the scratch, to cover others with.
    empty: Dir,
    files: usize,
    spec: &'a Spec,
    mapping: &'a IdMapping,
}

impl<'a> Tree<'a> {
    fn new(
        root: OwnedFd,
        images: Option<Images>,
        spec: &'a Spec,
        mapping: &'a IdMapping,
    ) -> Result<Tree<'a>, Failure> {
        let doing = || "prepare the root".to_string();
        // First of all: the scratch covers the old `/proc`, which the kernel takes as permission for a new
        // one.
        let new_proc = Some(proc()?);
        let size = spec.own_files.then_some(OWN_FILES_SIZE_MAX);
        let scratch = Dir::from(tmpfs(size, 0o755, (0, 0), true)?);
        // Mounted over `/proc`, which exists everywhere. (Over "/" the scratch would need a second unmount,
        // and each unmount waits for all CPUs.)
        let place = host::proc().failing(doing)?;
        attach(scratch.as_fd(), place.as_fd()).failing(doing)?;
        for name in ["root", "empty"] {
            scratch.make_dir(OsStr::new(name)).failing(doing)?;
        }
        attach(root.as_fd(), scratch.dir("root").failing(doing)?.as_fd()).failing(doing)?;
        let empty = scratch.dir("empty").failing(doing)?;
        let (proc, dev, sys) = (None, None, None);
        Ok(Tree {
            root: root.into(),
            images,
            new_proc,
            proc,
            proc_id: 0,
            dev,
            sys,
            scratch,
            empty,
            files: 0,
            spec,
            mapping,
        })
    }

    fn mount(&mut self, mount: Prepared) -> Result<(), Failure> {
        let Prepared { target, directory, what } = mount;
        let place = self.place(&target, directory)?;
        self.check_place(&place, &target)?;
        let here = |tree: &OwnedFd| {
            attach(tree.as_fd(), place.as_fd()).map_err(|error| Failure::Target {
                target: format!("/{}", target.display()),
                reason: error.to_string(),
            })
        };
        match what {
            What::Tree(tree) => here(&tree),
            What::Proc => match self.new_proc.take() {
                Some(proc) => {
                    here(&proc)?;
                    self.proc_id = mount_id(proc.as_fd()).failing(|| "look at /proc".into())?;
                    self.proc = Some(proc.into());
                    Ok(())
                }
                None => Ok(()),
            },
            What::Sys => {
                let own = self.spec.network != Network::Host;
                let tree = sys_tree(own)?;
                here(&tree)?;
                let sys = Dir::from(tree);
                self.cover_below(&sys)?;
                if own {
                    // Works only where the host has the unified hierarchy; nobody needs it.
                    if let (Ok(tree), Ok(place)) = (
                        detached("cgroup2", &[], NOSUID | NODEV | NOEXEC | libc::MOUNT_ATTR_RDONLY),
                        sys.open_real("fs/cgroup", OFlags::PATH),
                    ) {
                        let _ = attach(tree.as_fd(), place.as_fd());
                    }
                }
                self.sys = Some(sys);
                Ok(())
            }
            What::Dev => {
                let dev = detached("tmpfs", &[("mode", "755"), ("size", "65536k")], NOSUID)?;
                here(&dev)?;
                let dev = Dir::from(dev);
                self.fill_dev(&dev)?;
                self.dev = Some(dev);
                Ok(())
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

    /// Opens the place of a mount. It exists in the root, or is created on the mount that covers it.
    fn place(&self, target: &Path, directory: bool) -> Result<OwnedFd, Failure> {
        let refuse = |error: Errno| Failure::Target {
            target: format!("/{}", target.display()),
            reason: format!("{error}"),
        };
        match self.root.open(target, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(refuse),
        }
        let names: Vec<_> = target.iter().collect();
        let mut path = PathBuf::new();
        for (n, name) in names.iter().enumerate() {
            let parent = self.root.open(&path, OFlags::PATH | OFlags::DIRECTORY).map_err(refuse)?;
            match Dir::from(parent).make_place(name, directory || n + 1 < names.len()) {
                Ok(()) | Err(Errno::EXIST) => path.push(name),
                Err(error) => return Err(refuse(error)),
            }
        }
        self.root.open(target, OFlags::PATH).map_err(refuse)
    }

    /// Refuses a mount over `/proc` or in it, whichever links of the image lead there. (A command with all
    /// powers could mount there itself.)
    fn check_place(&self, place: &OwnedFd, target: &Path) -> Result<(), Failure> {
        let doing = || format!("look at /{}", target.display());
        let Some(proc) = self.proc.as_ref().filter(|_| self.spec.security.masks) else {
            return Ok(());
        };
        if mount_id(place.as_fd()).failing(doing)? != self.proc_id {
            return Ok(());
        }
        let id = FileId::of(&fstat(place).failing(doing)?);
        let replaceable = PROC_REPLACEABLE.iter().any(|name| {
            let file = proc.stat(OsStr::new(name));
            file.is_ok_and(|stat| FileId::of(&stat) == id)
        });
        if replaceable {
            return Ok(());
        }
        Err(Failure::Target {
            target: format!("/{}", target.display()),
            reason: "it is in /proc, where nothing but the kernel's own files may be".into(),
        })
    }

    /// Sets one of the kernel's settings for the new namespaces; the settings are not yet read-only.
    fn set(&self, name: &str, value: &str) -> Result<(), Failure> {
        let doing = || format!("set {name} to {value}");
        let Some(proc) = &self.proc else {
            return Err(Failure::Specification("/proc is not mounted".into()));
        };
        let file = proc.open_real(sysctl::path(name), OFlags::WRONLY).failing(doing)?;
        std::fs::File::from(file).write_all(value.as_bytes()).failing(doing)
    }

    /// A detached bind of a new file in memory.
    fn file(&mut self, content: &[u8], mode: u32, (uid, gid): (u32, u32)) -> Result<OwnedFd, Failure> {
        let doing = || "make a file for the sandbox".to_string();
        self.files += 1;
        let name = format!("file{}", self.files);
        let mut file = std::fs::File::from(self.scratch.make_file(OsStr::new(&name), 0o600).failing(doing)?);
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
        clone_mount(file.as_fd(), false).failing(doing)
    }

    fn fill_dev(&self, dev: &Dir) -> Result<(), Failure> {
        let doing = || "fill /dev".to_string();
        for (name, major, minor) in DEVICES {
            let Some(source) = device(name, *major, *minor)? else { continue };
            let place = dev.make_file(OsStr::new(name), 0o666).failing(doing)?;
            attach(source.as_fd(), place.as_fd()).failing(doing)?;
        }
        for (name, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("core", "/proc/kcore"),
            ("ptmx", "pts/ptmx"),
        ] {
            dev.make_link(name, to).failing(doing)?;
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
            dev.make_dir(OsStr::new(name)).failing(doing)?;
            attach(tree.as_fd(), dev.dir(name).failing(doing)?.as_fd()).failing(doing)?;
        }
        if let Some(images) = &self.images {
            dev.make_dir(OsStr::new(".crossdock")).failing(doing)?;
            let place = dev.dir(".crossdock").failing(doing)?;
            for (name, tree) in [("images", &images.top), ("reports", &images.reports)] {
                place.make_dir(OsStr::new(name)).failing(doing)?;
                attach(tree.as_fd(), place.dir(name).failing(doing)?.as_fd()).failing(doing)?;
            }
            let top = Dir::from(images.top.try_clone().failing(doing)?);
            for (number, tree) in images.layers.iter().enumerate() {
                let name = number.to_string();
                top.make_dir(OsStr::new(&name)).failing(doing)?;
                attach(tree.as_fd(), top.dir(&name).failing(doing)?.as_fd()).failing(doing)?;
            }
            set_read_only(images.top.as_fd(), false)?;
        }
        Ok(())
    }

    /// Hides and protects what Docker hides and protects. A file that the kernel lacks needs no mask; any
    /// other failure is an error.
    fn mask(&self) -> Result<(), Failure> {
        let (Some(proc), Some(sys)) = (&self.proc, &self.sys) else {
            return Err(Failure::Specification("/proc and /sys are not mounted".into()));
        };
        for name in PROC_READ_ONLY {
            let doing = || format!("make /proc/{name} read-only");
            let place = match proc.open_real(name, OFlags::PATH) {
                Err(Errno::NOENT) => continue,
                other => other.failing(doing)?,
            };
            let tree = clone_mount(place.as_fd(), true).failing(doing)?;
            set_read_only(tree.as_fd(), true)?;
            attach(tree.as_fd(), place.as_fd()).failing(doing)?;
        }
        let null = device("null", 1, 3)?;
        for (of, directory, names) in [("proc", proc, PROC_MASKED), ("sys", sys, SYS_MASKED)] {
            for name in names {
                let doing = || format!("hide /{of}/{name}");
                let place = match directory.open_real(name, OFlags::PATH) {
                    Err(Errno::NOENT) => continue,
                    other => other.failing(doing)?,
                };
                self.cover(&place, null.as_ref()).failing(doing)?;
            }
        }
        Ok(())
    }

    /// Covers a directory with an empty directory and a file with the null device, both read-only.
    fn cover(&self, place: &OwnedFd, null: Option<&OwnedFd>) -> Result<(), Errno> {
        let stat = fstat(place)?;
        let cover = match (FileType::from_raw_mode(stat.st_mode), null) {
            (FileType::Directory, _) => clone_mount(self.empty.as_fd(), false)?,
            (_, Some(null)) => clone_mount(null.as_fd(), false)?,
            (_, None) => return Err(Errno::NXIO),
        };
        sys::mount_set_attributes(cover.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        attach(cover.as_fd(), place.as_fd())
    }

    /// Covers what the host has mounted on its `/sys`: debugfs, tracefs, other containers' cgroups. The
    /// kernel gives user namespaces no `/sys` without these mounts.
    fn cover_below(&self, sys: &Dir) -> Result<(), Failure> {
        let doing = || "hide what is mounted below /sys".to_string();
        let Some(proc) = &self.proc else { return Ok(()) };
        let own = mount_id(sys.as_fd()).failing(doing)?;
        let mut text = String::new();
        let file = proc.open_real("1/mountinfo", OFlags::RDONLY).failing(doing)?;
        std::fs::File::from(file).read_to_string(&mut text).failing(doing)?;
        let null = device("null", 1, 3)?;
        for path in below(&text, own) {
            let place = sys.open_real(&path, OFlags::PATH).failing(doing)?;
            self.cover(&place, null.as_ref()).failing(doing)?;
        }
        Ok(())
    }

    /// Creates a pseudo-terminal of the container and returns both ends; the inner one is also at
    /// `/dev/console`.
    fn terminal(&self, window: Window) -> Result<(OwnedFd, OwnedFd), Failure> {
        let doing = || "make a terminal".to_string();
        let dev = self.dev.as_ref().ok_or_else(|| Failure::Specification("/dev is not mounted".into()))?;
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let outer = dev.open_real("pts/ptmx", flags).failing(doing)?;
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
        // Opened through the outer end: a name could be replaced.
        let flags = rustix::pty::OpenptFlags::RDWR
            | rustix::pty::OpenptFlags::NOCTTY
            | rustix::pty::OpenptFlags::CLOEXEC;
        let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags).failing(doing)?;
        let console = clone_mount(inner.as_fd(), false).failing(doing)?;
        let place = dev.make_file(OsStr::new("console"), 0o600).failing(doing)?;
        attach(console.as_fd(), place.as_fd()).failing(doing)?;
        Ok((outer, inner))
    }

    /// Opens the null device for standard streams, on a mount that allows no change of the device.
    fn null(&self) -> Result<OwnedFd, Failure> {
        let doing = || "open /dev/null".to_string();
        let dev = self.dev.as_ref().ok_or_else(|| Failure::Specification("/dev is not mounted".into()))?;
        dev.open_real("null", OFlags::RDWR).failing(doing)
    }

    /// Makes the tree the root of this mount namespace and forgets everything else. Returns the root
    /// directory.
    fn pivot(self) -> Result<Dir, Failure> {
        let doing = || "change the root directory".to_string();
        fchdir(&self.root).failing(doing)?;
        host::pivot_here().failing(doing)?;
        let root = mount_id(self.root.as_fd()).failing(doing)?;
        // ".." would lead to a mount stacked on "/", so these mounts must go, one by one.
        for _ in 0..8 {
            if host::mount_above().failing(doing)? == root {
                fchdir(&self.root).failing(doing)?;
                return Ok(self.root);
            }
            host::detach_above().failing(doing)?;
        }
        Err(Failure::Step { doing: doing(), errno: libc::EBUSY })
    }
}

/// A detached, read-only bind of a device of the host, which can be used but not changed. `None` if the host
/// lacks it.
///
/// A read-only mount allows writing to a device. It forbids changes of its mode, owner, times and attributes,
/// which would change the host's device where root runs crossdock.
fn device(name: &str, device_major: u32, device_minor: u32) -> Result<Option<OwnedFd>, Failure> {
    let doing = || format!("use the device /dev/{name}");
    let found = match host::device(name) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.failing(doing)?,
    };
    let stat = fstat(&found).failing(doing)?;
    let is_it = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (device_major, device_minor);
    if !is_it {
        return Err(Failure::Specification(format!(
            "/dev/{name} of this machine is not the device {device_major}:{device_minor}; restore it: rm /dev/{name}; mknod -m 666 /dev/{name} c {device_major} {device_minor}"
        )));
    }
    let bind = clone_mount(found.as_fd(), false).failing(doing)?;
    set_read_only(bind.as_fd(), false)?;
    Ok(Some(bind))
}

/// Paths of the mounts directly on the mount with this number, relative to its root, from the text of
/// `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
fn below(text: &str, id: u64) -> Vec<PathBuf> {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let id = id.to_string();
    let field = |line: &[&str], n: usize| line.get(n).map(|text| unescape(text));
    let Some(own) = lines.iter().find(|line| line.first() == Some(&id.as_str())) else { return Vec::new() };
    let Some(own) = field(own, 4) else { return Vec::new() };
    lines
        .iter()
        .filter(|line| line.get(1) == Some(&id.as_str()))
        .filter_map(|line| Some(field(line, 4)?.strip_prefix(&own).ok()?.to_path_buf()))
        .collect()
}

fn proc() -> Result<OwnedFd, Failure> {
    match detached("proc", &[], NOSUID | NODEV | NOEXEC) {
        // Inside another container, parts of the visible /proc are covered, so the kernel refuses an
        // uncovered one.
        Err(Failure::Step { errno: libc::EPERM, .. }) => {
            let tree = clone_tree(Path::new("/proc"), true)?;
            let of = fstatfs(&tree).failing(|| "look at /proc".into())?;
            if of.f_type != libc::PROC_SUPER_MAGIC {
                return Err(Failure::Specification("what is mounted at /proc here is not procfs".into()));
            }
            Ok(tree)
        }
        other => other,
    }
}

fn sys_tree(own_network: bool) -> Result<OwnedFd, Failure> {
    let attributes = NOSUID | NODEV | NOEXEC | libc::MOUNT_ATTR_RDONLY;
    if own_network && let Ok(tree) = detached("sysfs", &[], attributes) {
        return Ok(tree);
    }
    let tree = clone_tree(Path::new("/sys"), true)?;
    sys::mount_set_attributes(tree.as_fd(), attributes, true).failing(|| "make /sys read-only".into())?;
    Ok(tree)
}

/// Sets the standard streams. A stream that is neither a terminal nor the caller's is the container's null
/// device.
fn standard_streams(
    stdin: Option<OwnedFd>,
    null: &OwnedFd,
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
    match &stdin {
        Some(stdin) => rustix::stdio::dup2_stdin(stdin).failing(doing)?,
        None => rustix::stdio::dup2_stdin(null).failing(doing)?,
    }
    if !is_pipe(rustix::stdio::stdout()) {
        rustix::stdio::dup2_stdout(null).failing(doing)?;
    }
    if !is_pipe(rustix::stdio::stderr()) {
        rustix::stdio::dup2_stderr(null).failing(doing)?;
    }
    Ok(())
}

fn is_pipe(stream: BorrowedFd<'_>) -> bool {
    fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Gives pipes and the terminal to the user, so that `/dev/stdout` can be opened.
fn give_streams(user: &User, own_terminal: bool) {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        if is_pipe(stream) || own_terminal {
            // Crossdock has created these streams for this command.
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(user.uid)), None);
        }
    }
}

/// Changes to the working directory and creates it if it is missing, as Docker does. Links of the image lead
/// to directories of the image; links of `/proc` lead nowhere.
fn enter_directory(root: &Dir, path: &Path) -> Result<(), Failure> {
    let doing = || format!("enter the working directory {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = match root.open(path, flags) {
        Err(Errno::NOENT) => {
            let place = mountpoints::locate(root, path)?;
            let names: Vec<_> = place.path.iter().collect();
            let mut made: PathBuf = names[..names.len() - place.missing].iter().collect();
            for name in &names[names.len() - place.missing..] {
                root.dir(&made).and_then(|parent| parent.make_dir(name)).failing(doing)?;
                made.push(name);
            }
            root.open_real(&made, flags).failing(doing)?
        }
        other => other.failing(doing)?,
    };
    fchdir(&directory).failing(doing)
}

/// Sets the seccomp filter while CAP_SYS_ADMIN is there, then capabilities and user. The order follows from
/// what each step needs.
fn drop_privileges(spec: &Spec, mapping: &IdMapping, user: &User) -> Result<(), Failure> {
    let single = mapping.is_single();
    let Security { capabilities, seccomp, no_new_privileges, .. } = spec.security;
    let is_limited = capabilities != Capabilities::ALL;
    if is_limited {
        capabilities.limit_bounding().failing(|| "limit the capabilities".into())?;
    }
    let x86 = spec.programs == Programs::X86;
    if let Some(filter) = seccomp::filter(Filter { sandbox: seccomp, single, x86, capabilities }) {
        sys::install_seccomp(&filter).failing(|| "install the seccomp filter".into())?;
    }
    // With one id only, the filter makes these calls succeed without effect.
    let setting_groups_denied = single;
    let groups = (!setting_groups_denied).then_some(user.groups.as_slice());
    sys::become_user(user.uid, user.gid, groups).failing(|| {
        format!("become user {}:{} (is the id in the range of /etc/subuid?)", user.uid, user.gid)
    })?;
    if is_limited && (user.uid == 0 || single) {
        capabilities.limit().failing(|| "limit the capabilities".into())?;
    }
    if no_new_privileges {
        sys::set_no_new_privileges().failing(|| "forbid new privileges".into())?;
    }
    Ok(())
}

/// The command with all arguments of `execve`, prepared before the limits apply.
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

    /// Executes the first candidate that can be executed, as execvp(3) does.
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

#[expect(clippy::disallowed_methods, reason = "as the command, with its root and its rights")]
fn exists(path: &CString) -> bool {
    rustix::fs::stat(path.as_c_str()).is_ok()
}

/// Why the kernel may not know the format of a file.
#[expect(clippy::disallowed_methods, reason = "as the command, with its root and its rights")]
fn describe(path: &CString) -> String {
    let mut header = [0; 20];
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let read = rustix::fs::open(path.as_c_str(), flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|file| std::fs::File::from(file).read_exact(&mut header));
    let name = path.to_string_lossy();
    match crate::architecture::architecture_of(&header) {
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

/// Pid 1 that starts the command as its child, forwards signals and reaps orphans. It has no capabilities and
/// the command's filter, and cannot be inspected; so the monitor, which has the rights, signals the command
/// directly.
fn run_init(
    spec: &Spec,
    mapping: &IdMapping,
    user: &User,
    command: &Command,
    alive: &OwnedFd,
    started: OwnedFd,
) -> Result<Never, Failure> {
    sys::block_all_signals();
    // No process inside may reach our executable and descriptors through /proc/1. The command's process is
    // protected in the same way until the command is executed.
    let closed = || {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .failing(|| "close /proc/1".into())
    };
    closed()?;
    // The command is executed only after its init has given up everything.
    let (harmless, giving_up) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .failing(|| "make a pipe for the init".into())?;
    let pid = match sys::fork_from_pid_1().failing(|| "start the command".into())? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            // Its own group in the foreground of the terminal, as a shell starts a job, so that keys reach
            // the command and not us. The terminal would stop a background process for this call, but the
            // signal is blocked.
            let stdin = rustix::stdio::stdin();
            if rustix::termios::isatty(stdin) && rustix::process::setpgid(None, None).is_ok() {
                let _ = rustix::termios::tcsetpgrp(stdin, rustix::process::getpid());
            }
            sys::reset_signals();
            set_parent_process_death_signal(Some(Signal::KILL))
                .failing(|| "ask for a death signal".into())?;
            drop_privileges(spec, mapping, user)?;
            die_with_monitor(alive)?;
            drop(giving_up);
            // No byte ever comes, only the end of the pipe; if the init fails, it ends everything.
            let _ = std::fs::File::from(harmless).read(&mut [0]);
            return Err(command.execute());
        }
    };
    // The child reports why the command cannot be executed; a failure here ends everything.
    become_harmless(spec, mapping, user, started, pid)?;
    // A change of user ids undoes this where fs.suid_dumpable is set, and always undoes the death signal.
    closed()?;
    die_with_monitor(alive)?;
    drop((harmless, giving_up));
    loop {
        let signal = sys::wait_signal().failing(|| "wait for signals".into())?;
        if signal != libc::SIGCHLD {
            let _ = sys::kill(pid, signal);
            continue;
        }
        while let Some((ended, status)) = sys::reap() {
            if ended == pid {
                // Pid 1 cannot die of the same signal: it is immune to its own. Docker's init does the same.
                sys::exit_now(if libc::WIFSIGNALED(status) {
                    128 + libc::WTERMSIG(status)
                } else {
                    libc::WEXITSTATUS(status)
                });
            }
        }
    }
}

/// Hands the command's pidfd to the monitor and gives up everything that an init does not need.
fn become_harmless(
    spec: &Spec,
    mapping: &IdMapping,
    user: &User,
    started: OwnedFd,
    command: i32,
) -> Result<(), Failure> {
    let doing = || "hand over the command".to_string();
    let process = rustix::process::Pid::from_raw(command).expect("clone returned a process id above 0");
    let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).failing(doing)?;
    wire::send(started.as_fd(), &(), &[pidfd.as_fd()]).failing(doing)?;
    drop((started, pidfd));
    drop_privileges(spec, mapping, user)?;
    sys::set_capabilities(0).failing(|| "give up the capabilities".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_directly_below_are_found() {
        let text = "20 1 0:5 / / rw - ext4 /dev/root rw\n30 20 0:6 / /proc/root/sys ro - sysfs sysfs rw\n\
            31 30 0:7 / /proc/root/sys/kernel/debug rw - debugfs debugfs rw\n32 31 0:8 / /proc/root/sys/kernel/debug/tracing rw - t t rw\n\
            33 30 0:9 / /proc/root/sys/a\\040b rw - tmpfs t rw\n34 20 0:9 / /proc/root/sysx rw - tmpfs t rw\n";
        assert_eq!(below(text, 30), [Path::new("kernel/debug"), Path::new("a b")]);
        assert_eq!(below(text, 34), [] as [&Path; 0]);
        assert_eq!(below("", 30), [] as [&Path; 0]);
        assert_eq!(unescape("a\\040\\"), Path::new("a \\"));
    }
}
