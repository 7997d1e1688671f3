//! Roots to run in, and users to run as.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crossdock_sandbox::{Root, Spec};
use crossdock_testkit::test_user;
use tempfile::TempDir;

/// Who runs crossdock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Real root.
    Root,
    /// An ordinary user with ranges in `/etc/subuid`.
    User,
    /// An ordinary user without ranges.
    SingleId,
}

impl Who {
    /// All users that this machine lets us be.
    pub fn all() -> Vec<Who> {
        if is_root() { vec![Who::Root, Who::User, Who::SingleId] } else { vec![Who::User, Who::SingleId] }
    }

    /// The id to become, if any.
    fn id(self) -> Option<u32> {
        (self != Who::Root && is_root()).then(test_user)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program that the tests need.
pub fn require(program: &str, package: &str) -> PathBuf {
    let path = Path::new("/usr/bin").join(program);
    assert!(
        path.exists(),
        "{} is missing: apt-get install --no-install-recommends {package}",
        path.display()
    );
    path
}

/// A root of layers, and the user who runs commands in it.
pub struct Sandbox {
    pub dir: TempDir,
    pub who: Who,
    pub spec: Spec,
}

/// The applets of busybox that tests use.
const APPLETS: &[&str] = &[
    "sh", "cat", "chown", "cut", "echo", "env", "find", "grep", "hostname", "id", "kill", "ln", "ls",
    "mkdir", "mount", "mv", "pwd", "readlink", "rm", "sleep", "sort", "stat", "stty", "test", "touch", "tr",
    "true", "tty", "umount", "wc", "ps", "head", "printf", "seq", "sed", "su", "chmod", "cp", "ulimit", "df",
];

impl Drop for Sandbox {
    fn drop(&mut self) {
        // overlayfs leaves a directory that its owner may not read, so that only root could remove it.
        for work in ["work/work", "dropped-work/work"] {
            let _ = fs::set_permissions(self.path(work), fs::Permissions::from_mode(0o700));
        }
    }
}

impl Sandbox {
    /// A root of two layers: busybox, and `/etc` with users. It lacks every mount point except `/etc` itself.
    pub fn new(who: Who, script: &str) -> Sandbox {
        let busybox = require("busybox", "busybox-static");
        let dir = tempfile::Builder::new().prefix("crossdock-it-").tempdir().expect("a temporary directory");
        let path = dir.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
        for part in ["base/bin", "base/tmp", "etc/etc", "upper", "work"] {
            fs::create_dir_all(path.join(part)).expect("a directory");
        }
        copy_program(&busybox, &path.join("base/bin/busybox"));
        for applet in APPLETS {
            symlink("busybox", path.join("base/bin").join(applet)).expect("a link");
        }
        copy_program(Path::new(env!("CARGO_BIN_EXE_sandbox-probe")), &path.join("probe"));
        fs::hard_link(path.join("probe"), path.join("base/bin/probe")).expect("the probe");
        fs::write(
            path.join("etc/etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n",
        )
        .expect("passwd");
        fs::write(path.join("etc/etc/group"), "root:x:0:\nstaff:x:50:ann\nann:x:1001:\n").expect("group");
        let spec = Spec::new(
            Root::Overlay {
                lower: vec![path.join("base"), path.join("etc")],
                upper: path.join("upper"),
                work: path.join("work"),
                volatile: false,
            },
            ["sh", "-c", script],
        );
        Sandbox { dir, who, spec }
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }

    /// The command that starts the driver with the specification; the whole directory belongs to the user who
    /// starts it.
    pub fn command(&self, options: &[&str]) -> Command {
        let json = serde_json::to_vec(&self.spec).expect("serialisable");
        fs::write(self.path("spec.json"), json).expect("the specification");
        let mut command = self.probe();
        command.arg("drive").arg(self.path("spec.json")).args(options);
        if self.who == Who::SingleId {
            command.arg("--single-id");
        }
        command
    }

    /// The probe, run as the user of this sandbox.
    pub fn probe(&self) -> Command {
        let mut command = Command::new(self.path("probe"));
        command.stdin(Stdio::null()).current_dir("/");
        if let Some(id) = self.who.id() {
            give(self.dir.path(), id);
            command.uid(id).gid(id);
        }
        command
    }

    /// Runs to the end.
    pub fn run(&self) -> Ran {
        self.run_with(&[])
    }

    pub fn run_with(&self, options: &[&str]) -> Ran {
        Ran::from(self.command(options).output().expect("the probe runs"))
    }

    /// The paths in upper, relative and sorted.
    pub fn changes(&self) -> Vec<String> {
        let mut all = Vec::new();
        collect(&self.path("upper"), Path::new(""), &mut all);
        all.sort();
        all
    }

    /// The names beside upper and work.
    pub fn beside(&self) -> Vec<String> {
        let mut all: Vec<_> = fs::read_dir(self.dir.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        all.sort();
        all
    }
}

fn collect(base: &Path, inner: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(base.join(inner)).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = inner.join(entry.file_name());
        all.push(path.display().to_string());
        if entry.file_type().expect("a type").is_dir() {
            collect(base, &path, all);
        }
    }
}

/// Copies an executable in another process: while we have it open for writing, a child that another test
/// starts would have it open too until its `execve`, and the copy could not be executed (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("--preserve=mode").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp {} {}", from.display(), to.display());
}

/// Gives a tree to a user.
pub fn give(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).expect("chown");
    if fs::symlink_metadata(path).expect("metadata").is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path(), id);
        }
    } else if fs::symlink_metadata(path).expect("metadata").is_file() {
        // A change of owner removes the setuid bit, which the tests set themselves.
        let _ = chown(path, Some(id), Some(id));
    }
}

/// How a run ended and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// The output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

/// Runs a script in a fresh root as every user.
pub fn everybody(script: &str, check: impl Fn(Who, Ran)) {
    for who in Who::all() {
        check(who, Sandbox::new(who, script).run());
    }
}
