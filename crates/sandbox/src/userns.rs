//! Moves the calling process into its own user and mount namespace, where it is user 0.
//!
//! Must happen at the start of a program, before other threads exist. All work on layers happens inside. See
//! `docs/dev/sandbox.md`, user_namespaces(7) and newuidmap(1).

#![expect(clippy::disallowed_methods, reason = "files of the host")]

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{CapabilitySet, capabilities};

use crate::error::{Doing, SandboxError};
use crate::idmap::{self, IdMapping};
use crate::sys::{self, Cloned};

/// How [`enter`] chooses the ids.
#[derive(Debug, Clone, Default)]
pub struct EnterOptions {
    /// Map only the caller's own id, as where `newuidmap` is missing.
    pub single_id: bool,
}

/// The namespace that [`enter`] made.
#[derive(Debug, Clone)]
pub struct Entered {
    /// The ids that exist inside.
    pub mapping: IdMapping,
    /// Why there is only one id, with the command that changes this; `None` with more ids or when one was
    /// asked for.
    pub note: Option<String>,
    /// User id outside.
    pub outer_uid: u32,
    /// Whether there is no user namespace, only one of mounts, see [`enter_mounts`].
    pub is_bare: bool,
}

static ENTERED: OnceLock<Entered> = OnceLock::new();

/// Why this process goes on without a user namespace: the reason and what to do.
static FORBIDDEN: OnceLock<(String, String)> = OnceLock::new();

/// Goes on without a user namespace after [`enter`] has failed. Then no command can be started, and the
/// kernel cannot stack layers, see [`crate::Stack`]. `false` for errors of another kind, after which nothing
/// can go on.
pub fn go_without(error: &SandboxError) -> bool {
    let SandboxError::UserNamespaces { reason, fix } = error else { return false };
    FORBIDDEN.get_or_init(|| (reason.clone(), fix.clone()));
    true
}

/// The error of [`enter`] in a process that goes on without a user namespace.
pub(crate) fn forbidden() -> Option<SandboxError> {
    let (reason, fix) = FORBIDDEN.get()?.clone();
    Some(SandboxError::UserNamespaces { reason, fix })
}

/// What [`enter`] returned in this process, if it was called.
pub fn entered() -> Option<&'static Entered> {
    ENTERED.get()
}

/// How the ids get into the new namespace.
enum Plan {
    /// Written by a child that stays outside: the caller has CAP_SETUID and CAP_SETGID.
    Write(IdMapping),
    /// Written by the setuid programs `newuidmap` and `newgidmap`.
    Programs(IdMapping),
    /// Only the caller's id, which every process may map.
    Single(Option<String>),
}

/// Enters a new user and mount namespace as user 0. All mounts become private.
///
/// A second call returns what the first did. Errors: other threads are alive; user namespaces are not allowed
/// (the message names the command that allows them).
pub fn enter(options: &EnterOptions) -> Result<Entered, SandboxError> {
    if let Some(entered) = ENTERED.get() {
        return Ok(entered.clone());
    }
    let threads = sys::thread_count().doing(|| "read /proc/self/task".into())?;
    if threads != 1 {
        return Err(SandboxError::SeveralThreads(threads));
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let note = match plan(options, uid, gid)? {
        Plan::Single(note) => {
            unshare()?;
            write_single(uid, gid)?;
            note
        }
        Plan::Write(mapping) => {
            let helper = Helper::start(|pid| write_maps(pid, &mapping))?;
            unshare()?;
            helper.finish().map_err(|message| SandboxError::UserNamespaces {
                reason: message,
                fix: "run as an ordinary user instead".into(),
            })?;
            None
        }
        Plan::Programs(mapping) => {
            let helper = Helper::start(|pid| run_programs(pid, &mapping))?;
            unshare()?;
            match helper.finish() {
                Ok(()) => None,
                Err(message) => {
                    // newuidmap may have succeeded before newgidmap failed; then the single map is refused
                    // too.
                    write_single(uid, gid).map_err(|_| SandboxError::UserNamespaces {
                        reason: message.clone(),
                        fix: "correct /etc/subuid and /etc/subgid".into(),
                    })?;
                    Some(message)
                }
            }
        }
    };
    sys::become_user(0, 0, None).doing(|| "become user 0 of the new namespace".into())?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())?;
    let mapping = IdMapping::current().doing(|| "read /proc/self/uid_map".into())?;
    Ok(ENTERED.get_or_init(|| Entered { mapping, note, outer_uid: uid, is_bare: false }).clone())
}

/// Goes on with a mount namespace alone after [`enter`] has failed with `error`, which a process of root with
/// all rights to mount can. Commands then run as with other engines that have no user namespaces: users of
/// the container are those of the machine, and there is no binfmt_misc of its own, so no emulator.
///
/// # Errors
///
/// `error`, if this is not such a process or the error another one; mounts cannot be made private.
pub fn enter_mounts(error: SandboxError) -> Result<Entered, SandboxError> {
    let SandboxError::UserNamespaces { reason, .. } = &error else { return Err(error) };
    let effective = capabilities(None).doing(|| "read the capabilities".into())?.effective;
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID;
    let is_root = rustix::process::geteuid().is_root() && effective.contains(needed);
    if !is_root || sys::unshare(libc::CLONE_NEWNS).is_err() {
        return Err(error);
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())?;
    let mapping = IdMapping::current().doing(|| "read /proc/self/uid_map".into())?;
    let entered = Entered { mapping, note: Some(reason.clone()), outer_uid: 0, is_bare: true };
    Ok(ENTERED.get_or_init(|| entered).clone())
}

/// Whether this process has a mount namespace, but no user namespace of its own.
pub fn is_bare() -> bool {
    ENTERED.get().is_some_and(|entered| entered.is_bare)
}

fn plan(options: &EnterOptions, uid: u32, gid: u32) -> Result<Plan, SandboxError> {
    if options.single_id {
        return Ok(Plan::Single(None));
    }
    let effective = capabilities(None).doing(|| "read the capabilities".into())?.effective;
    if effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        let here = IdMapping::current().doing(|| "read /proc/self/uid_map".into())?;
        return Ok(Plan::Write(here.identity()));
    }
    Ok(match subordinate(uid, gid) {
        Ok(mapping) => Plan::Programs(mapping),
        Err(note) => Plan::Single(Some(note)),
    })
}

/// The map for `newuidmap`, or why there is none and what to do.
pub(crate) fn subordinate(uid: u32, gid: u32) -> Result<IdMapping, String> {
    for program in ["newuidmap", "newgidmap"] {
        if crate::programs::find_program(program).is_none() {
            return Err(format!("{program} is not installed: apt-get install uidmap"));
        }
    }
    let name = idmap::login_name(uid);
    let files = ["/etc/subuid", "/etc/subgid"];
    let texts = files.map(|path| fs::read_to_string(path).unwrap_or_default());
    let [uids, gids] = texts.each_ref().map(|text| idmap::parse_subordinate(text, name.as_deref(), uid));
    let lacking: Vec<(&str, &str)> = [("uids", files[0], &uids), ("gids", files[1], &gids)]
        .into_iter()
        .filter(|(_, _, ranges)| ranges.is_empty())
        .map(|(kind, path, _)| (kind, path))
        .collect();
    if !lacking.is_empty() {
        let who = name.clone().unwrap_or_else(|| uid.to_string());
        let paths: Vec<&str> = lacking.iter().map(|(_, path)| *path).collect();
        let (paths, have) = (paths.join(" and "), if paths.len() == 1 { "has" } else { "have" });
        let Some((first, last)) = idmap::free_range(&texts.join("\n")) else {
            return Err(format!("{paths} {have} no range for {who}: free 65536 ids there, all are given"));
        };
        let options: Vec<String> =
            lacking.iter().map(|(kind, _)| format!("--add-sub{kind} {first}-{last}")).collect();
        return Err(format!("{paths} {have} no range for {who}: sudo usermod {} {who}", options.join(" ")));
    }
    Ok(IdMapping { uids: idmap::stack(uid, &uids), gids: idmap::stack(gid, &gids) })
}

fn unshare() -> Result<(), SandboxError> {
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|error| explain_unshare(&error))
}

/// Why the kernel refuses a user namespace, from the switches that exist for it.
pub(crate) fn explain_unshare(error: &io::Error) -> SandboxError {
    let switch = |name: &str| {
        fs::read_to_string(format!("/proc/sys/{name}")).ok().and_then(|text| text.trim().parse::<u64>().ok())
    };
    let (reason, fix) = if switch("user/max_user_namespaces") == Some(0) {
        ("user.max_user_namespaces is 0".to_string(), "sudo sysctl -w user.max_user_namespaces=15000")
    } else if switch("kernel/unprivileged_userns_clone") == Some(0) {
        ("kernel.unprivileged_userns_clone is 0".into(), "sudo sysctl -w kernel.unprivileged_userns_clone=1")
    } else if switch("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        (
            "AppArmor restricts user namespaces of ordinary users".into(),
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else if error.raw_os_error() == Some(libc::ENOSPC) {
        (
            "too many user namespaces, or nested too deep (32 at most)".into(),
            "sudo sysctl -w user.max_user_namespaces=15000",
        )
    } else {
        (
            format!("{error}"),
            "inside a container, allow it there (docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined)",
        )
    };
    SandboxError::UserNamespaces { reason, fix: fix.into() }
}

/// Maps only the caller's id; the process itself must call this.
fn write_single(uid: u32, gid: u32) -> Result<(), SandboxError> {
    // setgroups must be denied before an unprivileged process may write its gid_map, see user_namespaces(7).
    for (file, text) in [
        ("setgroups", "deny".to_string()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).doing(|| format!("write /proc/self/{file}"))?;
    }
    Ok(())
}

fn write_maps(pid: u32, mapping: &IdMapping) -> Result<(), String> {
    for (file, ranges) in [("uid_map", &mapping.uids), ("gid_map", &mapping.gids)] {
        fs::write(format!("/proc/{pid}/{file}"), idmap::format_map(ranges))
            .map_err(|error| format!("cannot write the {file} of the new namespace: {error}"))?;
    }
    Ok(())
}

fn run_programs(pid: u32, mapping: &IdMapping) -> Result<(), String> {
    let start = |program: &str, ranges: &[idmap::IdRange]| {
        let path = crate::programs::find_program(program).unwrap_or_else(|| program.into());
        let mut command = Command::new(path);
        command.arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for range in ranges {
            command.args([range.inside, range.outside, range.count].map(|n| n.to_string()));
        }
        command.spawn().map_err(|error| format!("cannot run {program}: {error}"))
    };
    let children = [
        ("newuidmap", start("newuidmap", &mapping.uids)?),
        ("newgidmap", start("newgidmap", &mapping.gids)?),
    ];
    let mut failed = Ok(());
    for (program, child) in children {
        let output =
            child.wait_with_output().map_err(|error| format!("cannot wait for {program}: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            failed = Err(format!("{program} failed: {said}"));
        }
    }
    failed
}

/// A child that stays in the old namespace and acts on the caller once told to.
struct Helper {
    pid: i32,
    go: fs::File,
    report: fs::File,
}

impl Helper {
    fn start(work: impl FnOnce(u32) -> Result<(), String>) -> Result<Helper, SandboxError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into());
        let ((wait, go), (report, write)) = (pipe()?, pipe()?);
        let parent = std::process::id();
        match sys::clone_process(0).doing(|| "fork".into())? {
            Cloned::Parent(pid) => Ok(Helper { pid, go: go.into(), report: report.into() }),
            Cloned::Child => {
                drop((go, report));
                // End of file without a byte: the parent failed to unshare.
                let mut byte = [0];
                if fs::File::from(wait).read_exact(&mut byte).is_ok()
                    && let Err(message) = work(parent)
                {
                    let _ = fs::File::from(write).write_all(message.as_bytes());
                }
                sys::exit_now(0)
            }
        }
    }

    fn finish(mut self) -> Result<(), String> {
        let mut message = String::new();
        let told = self.go.write_all(b"x").and_then(|()| self.report.read_to_string(&mut message));
        drop(self.go);
        let _ = sys::wait(self.pid);
        match told {
            Err(error) => Err(format!("cannot talk to the helper: {error}")),
            Ok(_) if message.is_empty() => Ok(()),
            Ok(_) => Err(message),
        }
    }
}
