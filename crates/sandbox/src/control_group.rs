//! Limits of a command and everything that it starts: memory, CPU time, number of processes.
//!
//! A group is a directory of the kernel's cgroup file system: of the unified hierarchy (v2), or one in each
//! controller's own hierarchy (v1). It can be made where the hierarchy is delegated: to root, or by systemd
//! to the user. Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1 of the kernel, cgroups(7).

#![expect(clippy::disallowed_methods, reason = "paths of the host's cgroup file systems")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a group limits; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlLimits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes; `u64::MAX` is no limit.
    pub memory_and_swap: Option<u64>,
    /// Memory in bytes to which the kernel shrinks the group when memory is short.
    pub memory_reservation: Option<u64>,
    /// CPU time per time, in thousandths of a CPU.
    pub milli_cpus: Option<u64>,
    /// Share of CPU time beside other groups, 2 to 262144; 1024 is the usual one.
    pub cpu_shares: Option<u64>,
    /// CPUs that may be used, as a list such as `0-2,4`.
    pub cpus: Option<String>,
    /// Nodes of memory that may be used, in the same form.
    pub memory_nodes: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl ControlLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == ControlLimits::default()
    }
}

/// Why there is no group.
#[derive(Debug, thiserror::Error)]
pub enum ControlGroupError {
    /// No directory may be made, or the hierarchy lacks a controller.
    #[error("{0}")]
    NotDelegated(String),
    /// The kernel refuses a value.
    #[error("{file}: the kernel refuses \"{value}\": {error}")]
    Value {
        /// The file of the limit.
        file: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        error: io::Error,
    },
}

/// A group; removed when it is dropped.
#[derive(Debug)]
pub struct ControlGroup {
    directories: Vec<PathBuf>,
}

/// The length of a period of CPU time, in microseconds; Docker's.
const PERIOD: u64 = 100_000;

/// Names of groups, followed by the process id of the crossdock that made them.
const NAME: &str = "crossdock-";

impl ControlGroup {
    /// Makes a group with these limits below the group of this process, or below the nearest one that is
    /// delegated.
    ///
    /// # Errors
    ///
    /// [`ControlGroupError::NotDelegated`] if this user may make none here, with what to do about it.
    pub fn new(limits: &ControlLimits) -> Result<ControlGroup, ControlGroupError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = Hierarchies::read(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        own.make(limits, &format!("{NAME}{}", std::process::id()))
    }

    /// Moves a process into the group. What it starts from then on is in the group, too.
    pub(crate) fn add(&self, process: u32) -> io::Result<()> {
        self.directories
            .iter()
            .try_for_each(|directory| fs::write(directory.join("cgroup.procs"), process.to_string()))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            // A process that was killed leaves its group a moment after it was waited for.
            for wait in [0, 1, 4, 20, 100] {
                std::thread::sleep(Duration::from_millis(wait));
                if !matches!(fs::remove_dir(directory), Err(e) if e.raw_os_error() == Some(libc::EBUSY)) {
                    break;
                }
            }
        }
    }
}

/// Where the groups of this process are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hierarchies {
    /// The unified hierarchy: its root, and the group of this process.
    unified: Option<(PathBuf, PathBuf)>,
    /// The group of this process in the hierarchy of each controller of v1, by the controller's name.
    by_controller: BTreeMap<String, PathBuf>,
}

impl Hierarchies {
    /// Reads the texts of `/proc/PID/cgroup` (cgroups(7)) and `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
    fn read(cgroup: &str, mountinfo: &str) -> Hierarchies {
        let mut found = Hierarchies::default();
        // The mounts: controllers (empty for v2), what of the hierarchy is mounted, and where.
        let mounts: Vec<(Vec<&str>, PathBuf, PathBuf)> = mountinfo
            .lines()
            .filter_map(|line| {
                let (fields, rest) = line.split_once(" - ")?;
                let fields: Vec<&str> = fields.split(' ').collect();
                let rest: Vec<&str> = rest.split(' ').collect();
                let controllers = match *rest.first()? {
                    "cgroup2" => Vec::new(),
                    "cgroup" => rest.get(2)?.split(',').filter(|option| *option != "rw").collect(),
                    _ => return None,
                };
                let unescaped = |text: &str| crate::mounts::unescape(text);
                Some((controllers, unescaped(fields.get(3)?), unescaped(fields.get(4)?)))
            })
            .collect();
        let place = |root: &Path, at: &Path, group: &str| {
            let below = Path::new(group).strip_prefix(root).ok()?;
            Some(at.join(below))
        };
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                let mount = mounts.iter().find(|(controllers, ..)| controllers.is_empty());
                found.unified = mount.and_then(|(_, root, at)| Some((at.clone(), place(root, at, group)?)));
                continue;
            }
            for controller in controllers.split(',') {
                let mount = mounts.iter().find(|(list, ..)| list.contains(&controller));
                if let Some(path) = mount.and_then(|(_, root, at)| place(root, at, group)) {
                    found.by_controller.insert(controller.to_string(), path);
                }
            }
        }
        found
    }

    fn make(&self, limits: &ControlLimits, name: &str) -> Result<ControlGroup, ControlGroupError> {
        let mut group = ControlGroup { directories: Vec::new() };
        let wanted = controllers(limits);
        let all_in_v1 = |wanted: &[&str]| wanted.iter().all(|c| self.by_controller.contains_key(*c));
        match &self.unified {
            // Controllers that v1 has are missing in v2.
            _ if all_in_v1(&wanted) && !wanted.is_empty() => {
                for controller in &wanted {
                    let parent = &self.by_controller[*controller];
                    remove_old(parent);
                    let directory = parent.join(name);
                    fs::create_dir(&directory).map_err(|error| refused(&directory, &error))?;
                    group.directories.push(directory.clone());
                    for (file, value) in v1(controller, limits) {
                        write(&directory.join(file), &value)?;
                    }
                }
            }
            Some((root, own)) => {
                let directory = make_unified(root, own, &wanted, name)?;
                group.directories.push(directory.clone());
                for (file, value) in v2(limits) {
                    write(&directory.join(file), &value)?;
                }
            }
            None => {
                return Err(ControlGroupError::NotDelegated("no cgroup file system is mounted".to_string()));
            }
        }
        Ok(group)
    }
}

/// Makes a directory in the nearest group, from that of this process upwards, whose children have the
/// controllers, or can be given them.
fn make_unified(root: &Path, own: &Path, wanted: &[&str], name: &str) -> Result<PathBuf, ControlGroupError> {
    let mut first = None;
    for parent in own.ancestors().take_while(|parent| parent.starts_with(root)) {
        let control = parent.join("cgroup.subtree_control");
        let is_given = || {
            let given = fs::read_to_string(&control).unwrap_or_default();
            wanted.iter().all(|controller| given.split_whitespace().any(|word| word == *controller))
        };
        if !is_given() {
            let all: Vec<String> = wanted.iter().map(|controller| format!("+{controller}")).collect();
            // Fails in a group that is not delegated, and in one that has processes.
            if let Err(error) = fs::write(&control, all.join(" ")) {
                first.get_or_insert_with(|| refused(&control, &error));
                continue;
            }
            if !is_given() {
                continue;
            }
        }
        remove_old(parent);
        let directory = parent.join(name);
        if let Err(error) = fs::create_dir(&directory) {
            first.get_or_insert_with(|| refused(&directory, &error));
            continue;
        }
        // To move a process, the nearest group above both groups must be writable, too.
        match fs::write(directory.join("cgroup.procs"), std::process::id().to_string()) {
            Ok(()) => {
                let _ = fs::write(own.join("cgroup.procs"), std::process::id().to_string());
                return Ok(directory);
            }
            Err(error) => {
                first.get_or_insert_with(|| refused(&directory.join("cgroup.procs"), &error));
                let _ = fs::remove_dir(&directory);
            }
        }
    }
    Err(first.unwrap_or_else(|| {
        ControlGroupError::NotDelegated(format!(
            "the cgroup file system at {} lacks the controllers {}",
            root.display(),
            wanted.join(", ")
        ))
    }))
}

/// Removes the empty groups of crossdock processes that were killed.
fn remove_old(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(NAME)).and_then(|id| id.parse().ok());
        if process.is_some_and(|process: u32| !Path::new(&format!("/proc/{process}")).exists()) {
            // The kernel refuses to remove a group with processes.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn refused(path: &Path, error: &io::Error) -> ControlGroupError {
    ControlGroupError::NotDelegated(format!("{}: {error}", path.display()))
}

fn write(file: &Path, value: &str) -> Result<(), ControlGroupError> {
    fs::write(file, value).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => refused(file, &error),
        _ => ControlGroupError::Value { file: file.to_path_buf(), value: value.to_string(), error },
    })
}

/// The controllers that the limits need; v1 and v2 name them alike.
fn controllers(limits: &ControlLimits) -> Vec<&'static str> {
    let memory = limits.memory.or(limits.memory_and_swap).or(limits.memory_reservation).is_some();
    [
        ("memory", memory),
        ("cpu", limits.milli_cpus.or(limits.cpu_shares).is_some()),
        ("cpuset", limits.cpus.as_ref().or(limits.memory_nodes.as_ref()).is_some()),
        ("pids", limits.pids.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_needed)| is_needed.then_some(name))
    .collect()
}

/// Microseconds of CPU time per period.
fn quota(milli_cpus: u64) -> u64 {
    (milli_cpus.saturating_mul(PERIOD / 1000)).max(1000)
}

/// The group holds the sandbox's monitor besides the command.
fn with_monitor(pids: u64) -> String {
    pids.saturating_add(1).to_string()
}

/// Files and values of the unified hierarchy.
fn v2(limits: &ControlLimits) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    let mut add = |file: &'static str, value: Option<String>| files.extend(value.map(|value| (file, value)));
    add("memory.max", limits.memory.map(|bytes| bytes.to_string()));
    // Here the limit of swap is one of swap alone.
    let swap = limits.memory_and_swap.map(|both| match both {
        u64::MAX => "max".to_string(),
        both => both.saturating_sub(limits.memory.unwrap_or(0)).to_string(),
    });
    add("memory.swap.max", swap);
    add("memory.low", limits.memory_reservation.map(|bytes| bytes.to_string()));
    add("cpu.max", limits.milli_cpus.map(|cpus| format!("{} {PERIOD}", quota(cpus))));
    // The scales of shares, 2 to 262144, and of weights, 1 to 10000, as runc maps one to the other.
    let weight = limits.cpu_shares.map(|shares| 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142);
    add("cpu.weight", weight.map(|weight| weight.to_string()));
    add("cpuset.cpus", limits.cpus.clone());
    add("cpuset.mems", limits.memory_nodes.clone());
    add("pids.max", limits.pids.map(with_monitor));
    files
}

/// Files and values of the hierarchy of one controller of v1, in the order in which they must be written.
fn v1(controller: &str, limits: &ControlLimits) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    let mut add = |file: &'static str, value: Option<String>| files.extend(value.map(|value| (file, value)));
    match controller {
        "memory" => {
            add("memory.limit_in_bytes", limits.memory.map(|bytes| bytes.to_string()));
            let both = limits.memory_and_swap.map(|both| match both {
                u64::MAX => "-1".to_string(),
                both => both.to_string(),
            });
            add("memory.memsw.limit_in_bytes", both);
            add("memory.soft_limit_in_bytes", limits.memory_reservation.map(|bytes| bytes.to_string()));
        }
        "cpu" => {
            add("cpu.cfs_period_us", limits.milli_cpus.map(|_| PERIOD.to_string()));
            add("cpu.cfs_quota_us", limits.milli_cpus.map(|cpus| quota(cpus).to_string()));
            add("cpu.shares", limits.cpu_shares.map(|shares| shares.to_string()));
        }
        "cpuset" => {
            // A group without both lists takes no process.
            let given = |list: &Option<String>, all: &str| {
                Some(list.clone().unwrap_or_else(|| fs::read_to_string(all).unwrap_or_default()))
            };
            add("cpuset.cpus", given(&limits.cpus, "/sys/devices/system/cpu/online"));
            add("cpuset.mems", given(&limits.memory_nodes, "/sys/devices/system/node/online"));
        }
        _ => add("pids.max", limits.pids.map(with_monitor)),
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "25 1 0:22 / /sys/fs/cgroup rw,relatime - tmpfs none rw\n\
        30 25 0:26 /lxc/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_groups_of_this_process_are_found() {
        let groups = "4:memory:/lxc/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/init\n0::/user.slice/s\n";
        let found = Hierarchies::read(groups, MOUNTS);
        assert_eq!(
            found.unified,
            Some(("/sys/fs/cgroup/unified".into(), "/sys/fs/cgroup/unified/user.slice/s".into()))
        );
        let path = |name: &str| found.by_controller.get(name).map(|path| path.display().to_string());
        assert_eq!(path("memory").as_deref(), Some("/sys/fs/cgroup/memory/b"));
        assert_eq!(path("cpu").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/"));
        assert_eq!(path("pids"), None);
        // A group outside of what is mounted.
        assert_eq!(Hierarchies::read("4:memory:/other\n", MOUNTS), Hierarchies::default());
        assert_eq!(Hierarchies::read("", ""), Hierarchies::default());
    }

    #[test]
    fn limits_become_the_kernels_words() {
        let limits = ControlLimits {
            memory: Some(512 << 20),
            memory_and_swap: Some(768 << 20),
            memory_reservation: Some(1 << 20),
            milli_cpus: Some(1500),
            cpu_shares: Some(1024),
            cpus: Some("0-1".into()),
            memory_nodes: Some("0".into()),
            pids: Some(100),
        };
        let text = |files: Vec<(&str, String)>| {
            files.iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(v2(&limits)),
            "memory.max=536870912 memory.swap.max=268435456 memory.low=1048576 cpu.max=150000 100000 \
             cpu.weight=39 cpuset.cpus=0-1 cpuset.mems=0 pids.max=101"
        );
        assert_eq!(
            text(controllers(&limits).into_iter().flat_map(|c| v1(c, &limits)).collect()),
            "memory.limit_in_bytes=536870912 memory.memsw.limit_in_bytes=805306368 \
             memory.soft_limit_in_bytes=1048576 cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000 \
             cpu.shares=1024 cpuset.cpus=0-1 cpuset.mems=0 pids.max=101"
        );
        let unlimited = ControlLimits { memory_and_swap: Some(u64::MAX), ..ControlLimits::default() };
        assert_eq!(text(v2(&unlimited)), "memory.swap.max=max");
        assert_eq!(controllers(&ControlLimits::default()), [] as [&str; 0]);
    }

    /// A directory with the files of the unified hierarchy stands for it: the kernel's own needs rights.
    #[test]
    fn a_group_is_made_in_the_nearest_group_that_is_delegated() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let own = root.path().join("user.slice/app.scope");
        fs::create_dir_all(&own).expect("groups");
        fs::write(root.path().join("user.slice/cgroup.subtree_control"), "cpu memory pids\n")
            .expect("written");
        let limits = ControlLimits { pids: Some(7), ..ControlLimits::default() };
        // The file of the process's own group is missing, so nothing can be asked of that group.
        fs::create_dir(own.join("cgroup.subtree_control")).expect("no file");
        let hierarchies =
            Hierarchies { unified: Some((root.path().to_path_buf(), own)), by_controller: BTreeMap::new() };
        let group = hierarchies.make(&limits, "crossdock-1").expect("made");
        let directory = root.path().join("user.slice/crossdock-1");
        assert_eq!(group.directories, std::slice::from_ref(&directory));
        assert_eq!(fs::read_to_string(directory.join("pids.max")).expect("written"), "8");
        group.add(4321).expect("moved");
        assert_eq!(fs::read_to_string(directory.join("cgroup.procs")).expect("written"), "4321");
        let none = Hierarchies::default().make(&limits, "crossdock-1").expect_err("no hierarchy");
        assert_eq!(none.to_string(), "no cgroup file system is mounted");
    }
}
