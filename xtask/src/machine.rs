//! The machine around the tests. The tests must leave it as it was.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tools::{is_root, run};

/// Users that tests and the demo create when root runs them.
const USERS: [&str; 2] = ["crossdock-test", "crossdock-demo"];

/// How long processes may take to end after they are told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// What tests could leave behind, as lines of text.
pub struct Machine {
    lines: BTreeSet<String>,
    users: Vec<&'static str>,
}

impl Machine {
    /// Records the machine as it is. From now on orphans of our processes become children of this process,
    /// prctl(2) `PR_SET_CHILD_SUBREAPER`, so that they can be found.
    pub fn before() -> Result<Machine> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context("become a subreaper")?;
        Ok(Machine { lines: lines()?, users: USERS.into_iter().filter(|name| exists(name)).collect() })
    }

    /// Removes users that were not there before, and compares the machine with its recorded state.
    ///
    /// # Errors
    ///
    /// Every handler, mount, user, process and temporary file that is new, or gone.
    pub fn check(&self) -> Result<()> {
        let strays = strays()?;
        for name in USERS.iter().filter(|name| is_root() && exists(name) && !self.users.contains(name)) {
            run(Command::new("userdel").args(["--remove", name]).stderr(std::process::Stdio::null()))?;
        }
        let after = lines()?;
        let gone = self.lines.difference(&after).map(|line| format!("gone: {line}"));
        let new = after.difference(&self.lines).map(|line| format!("new: {line}"));
        let changes: Vec<String> = gone.chain(new).chain(strays).collect();
        if !changes.is_empty() {
            bail!("the tests have changed the machine:\n{}", changes.join("\n"));
        }
        Ok(())
    }
}

fn exists(user: &str) -> bool {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().any(|line| line.split(':').next() == Some(user))
}

/// The handlers with their texts, the mounts, the files of users and groups, and temporary files of this
/// user's tests.
fn lines() -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for entry in fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten() {
        // `register` cannot be read; an entry may disappear meanwhile.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let text = text.lines().collect::<Vec<_>>().join(", ");
        lines.insert(format!("binfmt_misc handler {}: {text}", entry.file_name().display()));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    // proc_pid_mountinfo(5): the fifth field is the place, the first after the dash the file system.
    lines.extend(mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        Some(format!("{} at {}", source.split(' ').next()?, mount.split(' ').nth(4)?))
    }));
    for file in ["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        lines.extend(text.lines().map(|line| format!("{file}: {line}")));
    }
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let is_own = entry.metadata().is_ok_and(|data| data.uid() == rustix::process::getuid().as_raw());
        if is_own && entry.file_name().as_encoded_bytes().starts_with(b"crossdock-") {
            lines.insert(format!("temporary {}", entry.path().display()));
        }
    }
    for directory in ["/etc/binfmt.d", "/run/binfmt.d"] {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        lines.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    Ok(lines)
}

/// Processes that outlived the test that started them.
fn strays() -> Result<Vec<String>> {
    let started = Instant::now();
    loop {
        let strays = children()?;
        if strays.is_empty() || started.elapsed() > PATIENCE {
            return Ok(strays);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Children of this process that still run.
fn children() -> Result<Vec<String>> {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        // A process that ends meanwhile is no stray.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // proc_pid_stat(5): the name in parentheses, which may contain anything, then the state and the
        // parent.
        let Some((name, after)) = stat.rsplit_once(')') else { continue };
        let mut fields = after.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        if parent == Some(&own) && state != Some("Z") {
            children.push(format!("stray process {name})"));
        }
    }
    Ok(children)
}
