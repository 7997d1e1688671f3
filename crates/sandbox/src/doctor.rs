//! What this machine can do and what it lacks, with the one command that fixes each lack. Changes nothing on
//! the host.

#![expect(clippy::disallowed_methods, reason = "files of the host")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::architecture::ARCHITECTURES;
use crate::binfmt::Host;
use crate::emulator::{self, Choice, Emulator};
use crate::error::{Failure, SandboxError};
use crate::{network, places, sys, userns};

/// First argument that makes the executable try out namespaces.
pub(crate) const ARGUMENT: &str = "crossdock-sandbox-probe";

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Everything is there.
    Ok,
    /// It works, with limits.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Short name.
    pub name: String,
    /// How the check ended.
    pub status: Health,
    /// What was found, one sentence.
    pub what: String,
    /// The command that fixes it.
    pub fix: Option<String>,
    /// Known problems with it, one sentence each.
    pub notes: Vec<String>,
}

impl Check {
    fn new(name: &str, status: Health, what: impl Into<String>, fix: Option<&str>) -> Check {
        Check {
            name: name.into(),
            status,
            what: what.into(),
            fix: fix.map(str::to_string),
            notes: Vec::new(),
        }
    }
}

/// Checks everything that the sandbox uses.
///
/// A child tries out namespaces (this executable again, so `main` must call
/// [`crate::init_main_if_requested`]). May be called before and after [`userns::enter`].
///
/// `root` is the directory of the store, which need not exist.
pub fn probe(root: &Path) -> Vec<Check> {
    let mut checks = vec![kernel(), identifiers()];
    checks.extend(tried_out(root));
    checks.push(host_binfmt());
    checks.extend(emulators());
    checks.extend(translations(root));
    checks.push(if sys::seccomp_available() {
        Check::new("seccomp", Health::Ok, "system call filters are available", None)
    } else {
        let fix = "use a kernel with CONFIG_SECCOMP_FILTER";
        Check::new("seccomp", Health::Fail, "the kernel has no system call filters", Some(fix))
    });
    checks.push(private_network());
    checks.push(abstract_sockets(sys::scope_available()));
    checks.push(cgroups());
    checks
}

/// Whether the kernel can keep commands from abstract sockets and from processes outside of their container
/// (Landlock, Linux 6.12).
pub fn scope_available() -> bool {
    sys::scope_available()
}

/// The oldest kernel that works: mount_setattr(2), which makes mounts read-only, came with Linux 5.12,
/// overlayfs in a user namespace with 5.11. The README says the same.
const OLDEST: (u32, u32) = (5, 12);

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = version(&release);
    let upgrade = Some("apt-get install linux-image-amd64 (or a newer release of the distribution)");
    let what = format!("Linux {release}");
    match version {
        v if v >= (6, 7) => Check::new("kernel", Health::Ok, what, None),
        v if v >= OLDEST => {
            let what = format!("{what}: emulators need a registration on the host (none from Linux 6.7 on)");
            Check::new("kernel", Health::Warn, what, upgrade)
        }
        _ => {
            let what = format!("{what}: {}.{} is the oldest that works", OLDEST.0, OLDEST.1);
            Check::new("kernel", Health::Fail, what, upgrade)
        }
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn identifiers() -> Check {
    let name = "user ids";
    let (uid, gid) = match userns::entered() {
        Some(entered) => (entered.outer_uid, entered.outer_uid),
        None => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    if uid == 0 {
        return Check::new(name, Health::Ok, "root: all ids are available", None);
    }
    match userns::subordinate(uid, gid) {
        Ok(mapping) => {
            let count: u64 = mapping.uids.iter().map(|range| u64::from(range.count)).sum();
            Check::new(name, Health::Ok, format!("newuidmap gives {count} ids"), None)
        }
        Err(why) => {
            let (what, fix) = why.split_once(": ").unwrap_or((&why, ""));
            let what = format!("only your own id, so changes of owner are pretended: {what}");
            Check::new(name, Health::Warn, what, Some(fix))
        }
    }
}

/// Runs this executable again, which enters namespaces and reports.
fn tried_out(root: &Path) -> Vec<Check> {
    let output = Command::new("/proc/self/exe").arg(ARGUMENT).arg(root).output();
    let failed = |what: String| vec![Check::new("user namespaces", Health::Fail, what, None)];
    match output {
        Ok(output) => serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| failed(format!("trying them out ended with {}", output.status))),
        Err(error) => failed(format!("cannot start this program again: {error}")),
    }
}

/// The child of [`tried_out`].
pub(crate) fn main() -> ! {
    let root = std::env::args_os().nth(2).map(PathBuf::from).unwrap_or_default();
    let checks = try_out(&root);
    // Flushed now: `exit_now` writes out no buffer.
    let written = serde_json::to_string(&checks).is_ok_and(|json| {
        let mut out = io::stdout();
        out.write_all(json.as_bytes()).and_then(|()| out.flush()).is_ok()
    });
    sys::exit_now(i32::from(!written))
}

fn try_out(root: &Path) -> Vec<Check> {
    let entered = match userns::enter(&userns::EnterOptions::default()) {
        Ok(entered) => entered,
        Err(error) => {
            let text = error.to_string();
            let (what, fix) = text.split_once("; ").unwrap_or((&text, ""));
            return vec![Check::new("user namespaces", Health::Fail, what, Some(fix))];
        }
    };
    let ids = if entered.mapping.is_single() { "with one id" } else { "with a range of ids" };
    vec![
        Check::new("user namespaces", Health::Ok, format!("can be created, {ids}"), None),
        overlay(root),
        private_binfmt(),
    ]
}

/// Whether layers can be stacked, and changes written where the store is or will be.
fn overlay(root: &Path) -> Check {
    let name = "overlay";
    // The store's own directory may not be there yet.
    let Some(directory) = root.ancestors().find(|directory| directory.is_dir()) else {
        return Check::new(name, Health::Fail, format!("{} is not a directory", root.display()), None);
    };
    let on = || {
        let mount =
            fs::read_to_string("/proc/self/mountinfo").ok().and_then(|text| places::of(&text, directory));
        mount.map_or_else(|| "an unknown file system".to_string(), |mount| mount.kind)
    };
    match places::try_place(directory) {
        Ok(()) => {
            let what = format!(
                "overlayfs can be mounted in a user namespace, with the store in {} ({})",
                root.display(),
                on()
            );
            Check::new(name, Health::Ok, what, None)
        }
        Err(SandboxError::Failure(Failure::Upper { kind, place, .. })) => {
            let what = format!(
                "the store in {} is on {kind}, to which overlayfs cannot write: run, and RUN, COPY and ADD of builds, fail",
                root.display()
            );
            let fix = format!(
                "put the store on another file system with --root DIR or CROSSDOCK_ROOT=DIR, {place}"
            );
            Check::new(name, Health::Fail, what, Some(&fix))
        }
        Err(SandboxError::Step { doing, source }) => {
            let what = format!("cannot {doing}: {source}");
            Check::new(
                name,
                Health::Fail,
                what,
                Some("give a directory that can be written to with --root DIR"),
            )
        }
        Err(error) => {
            Check::new(name, Health::Fail, format!("{error} ({})", on()), Some("sudo modprobe overlay"))
        }
    }
}

fn private_binfmt() -> Check {
    let name = "private binfmt_misc";
    match crate::binfmt::private_works() {
        Ok(true) => {
            Check::new(name, Health::Ok, "emulators are registered without a change to the host", None)
        }
        Ok(false) => {
            let what =
                "this kernel has none per user namespace (Linux 6.7, CONFIG_BINFMT_MISC); the host's is used";
            Check::new(name, Health::Warn, what, Some("sudo crossdock binfmt install ARCHITECTURE"))
        }
        Err(error) => Check::new(name, Health::Warn, error.to_string(), None),
    }
}

fn host_binfmt() -> Check {
    let name = "host binfmt_misc";
    match Host::default().status() {
        Ok(status) if !status.mounted => {
            Check::new(name, Health::Ok, "not mounted; not needed where the private one works", None)
        }
        Ok(status) => {
            let served: Vec<&str> = ARCHITECTURES
                .iter()
                .filter(|a| status.enabled && status.entries.iter().any(|entry| entry.serves(a)))
                .map(|a| a.name)
                .collect();
            let list = if served.is_empty() { "no architecture".into() } else { served.join(", ") };
            Check::new(name, Health::Ok, format!("{} entries, for {list}", status.entries.len()), None)
        }
        Err(error) => Check::new(name, Health::Warn, error.to_string(), None),
    }
}

/// One check for each architecture that people build for, and that this machine does not run itself.
fn emulators() -> Vec<Check> {
    ["arm64", "arm", "riscv64", "ppc64le", "s390x", "386"]
        .into_iter()
        .filter(|architecture| {
            !emulator::is_native(&crossdock_platform::Platform::new("linux", architecture, None))
        })
        .map(|architecture| {
            let name = format!("emulator for {architecture}");
            match emulator::find(architecture, &Choice::Auto) {
                Ok(emulator) => Check {
                    notes: faults(architecture, &emulator),
                    ..found(&name, &emulator, emulator::translates())
                },
                Err(error) => {
                    let text = error.to_string();
                    let (what, fix) = text.rsplit_once("; ").unwrap_or((&text, ""));
                    Check::new(&name, Health::Warn, what, Some(fix))
                }
            }
        })
        .collect()
}

/// Where our emulator keeps translations, if it is used.
fn translations(root: &Path) -> Option<Check> {
    let mut found = emulator::BUILTIN_ARCHITECTURES.iter().map(|name| emulator::find(name, &Choice::Auto));
    found.find(|found| found.as_ref().is_ok_and(Emulator::is_builtin))?.ok()?;
    let folder = crate::spec::Images::folder(root);
    let what = format!("of emulated programs are kept in {}", folder.display());
    Some(Check::new("translations", Health::Ok, what, None))
}

/// Faults of QEMU's user mode that programs meet, seen with version 7.2 (see the guide).
fn faults(architecture: &str, emulator: &Emulator) -> Vec<String> {
    if !emulator.is_qemu() {
        return Vec::new();
    }
    let mut notes = vec![
        "QEMU: posix_spawn says success where the program cannot be executed, so a build may miss an error",
        "QEMU: no ptrace and no seccomp inside (gdb, strace, sandboxes)",
    ];
    if matches!(architecture, "arm" | "386") {
        notes.insert(
            0,
            "QEMU: readdir of 32-bit programs fails with \"Value too large for defined data type\" on file systems \
             with 64-bit directory offsets, as ext4 has them; a store on tmpfs (--root) has none",
        );
    }
    notes.into_iter().map(str::to_string).collect()
}

fn found(name: &str, emulator: &Emulator, translates: bool) -> Check {
    let version = emulator.version().unwrap_or_else(|| "of unknown version".into());
    let what = format!("{}: {version}", emulator.path.display());
    if translates || !emulator.is_builtin() {
        return Check::new(name, Health::Ok, what, None);
    }
    let what = format!("{what}: this CPU is older than x86-64-v3, so it interprets, which is slow");
    let fix = "sudo apt-get install --no-install-recommends qemu-user-static";
    Check::new(name, Health::Warn, what, Some(fix))
}

fn private_network() -> Check {
    let name = "private network";
    match network::available() {
        Ok(programs) => {
            let programs: Vec<String> = programs.iter().map(|path| path.display().to_string()).collect();
            Check::new(name, Health::Ok, format!("{} for --network private", programs.join(", ")), None)
        }
        Err(lack) => {
            Check::new(name, Health::Warn, format!("no --network private: {}", lack.what), Some(&lack.fix))
        }
    }
}

/// Abstract sockets belong to a network namespace, so without Landlock's scope commands reach the host's.
fn abstract_sockets(scoped: bool) -> Check {
    let name = "abstract sockets";
    if scoped {
        return Check::new(name, Health::Ok, "those of this machine cannot be reached by commands", None);
    }
    let what = "commands in the machine's network can reach this machine's abstract Unix sockets (the kernel has no Landlock of ABI 6)";
    let fix = "choose --network private or none, or use Linux 6.12 or later with landlock in lsm= on its command line";
    Check::new(name, Health::Warn, what, Some(fix))
}

fn cgroups() -> Check {
    let unified = PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists();
    let what = if unified {
        "version 2; commands run in the group of crossdock, without limits of their own"
    } else {
        "version 1 or none; commands run in the group of crossdock, without limits of their own"
    };
    Check::new("cgroups", Health::Ok, what, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(version("6.18.44-fc-v782"), (6, 18));
        assert_eq!(version("5.15.0-91-generic"), (5, 15));
        assert_eq!(version("rubbish"), (0, 0));
    }

    #[test]
    fn the_readme_names_the_same_kernel() {
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&format!("You need Linux {}.{} or later", OLDEST.0, OLDEST.1)));
    }

    #[test]
    fn an_old_cpu_is_told() {
        let ours = Emulator::at("arm64", "/nonexistent/crossdock-emu");
        assert_eq!(found("x", &ours, true).status, Health::Ok);
        let check = found("x", &ours, false);
        assert!(check.status == Health::Warn && check.what.contains("x86-64-v3") && check.fix.is_some());
        assert_eq!(found("x", &Emulator::at("arm64", "/nonexistent/qemu"), false).status, Health::Ok);
    }

    #[test]
    fn every_lack_names_a_command() {
        let lacks = [kernel(), identifiers(), host_binfmt(), cgroups()];
        for check in lacks.iter().chain(&emulators()).filter(|check| check.status == Health::Fail) {
            assert!(check.fix.is_some(), "{check:?}");
        }
        let check = private_network();
        assert_eq!(check.fix.is_some(), check.status == Health::Warn, "{check:?}");
    }

    #[test]
    fn sockets_within_reach_are_told() {
        assert_eq!(abstract_sockets(true).status, Health::Ok);
        let check = abstract_sockets(false);
        assert!(
            check.status == Health::Warn && check.fix.is_some_and(|fix| fix.contains("--network private"))
        );
    }
}
