//! Docker's daemon as a peer: started directly, with everything that it writes in one directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tools::{has, is_root};

/// A running daemon; stopped when dropped.
pub struct Dockerd {
    child: Child,
    socket: PathBuf,
}

impl Dockerd {
    /// Whether the daemon can be started here.
    pub fn is_there() -> bool {
        is_root() && has("dockerd") && Path::new("/usr/bin/docker").exists()
    }

    /// Starts the daemon in a new directory. No bridge and no firewall rules: nothing on the machine changes.
    pub fn start(directory: &Path) -> Result<Dockerd> {
        std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let path = |name: &str| directory.join(name);
        std::fs::write(path("daemon.json"), "{}")?;
        let log = std::fs::File::create(path("log"))?;
        let socket = path("socket");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(path("data")).arg("--exec-root").arg(path("exec"));
        command.arg("--pidfile").arg(path("pid")).arg("--config-file").arg(path("daemon.json"));
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let mut daemon = Dockerd { child, socket };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !daemon.docker(&["version"]).output().context("run docker")?.status.success() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("dockerd ended: {status}; see {}", directory.join("log").display());
            }
            if Instant::now() > deadline {
                bail!("dockerd does not answer; see {}", directory.join("log").display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    /// Debian's client, for this daemon.
    pub fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/docker");
        command.args(args).env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command.env("DOCKER_BUILDKIT", "1");
        command
    }

    /// CPU time of the daemon, its containerd and all processes that they have waited for, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let daemon = self.child.id();
        let mut ticks = 0;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            // The name may hold anything, even parentheses.
            let Some(((pid, _), (_, rest))) = text.split_once(' ').zip(text.rsplit_once(')')) else {
                continue;
            };
            let fields: Vec<u64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
            // After the name: state, ppid, ...; utime, stime, cutime and cstime are fields 14 to 17 of
            // proc(5).
            if pid == daemon.to_string() || fields.get(1) == Some(&daemon.into()) {
                ticks += fields.get(11..15).map_or(0, |times| times.iter().sum());
            }
        }
        // USER_HZ is 100 on every machine that Linux runs containers on.
        ticks as f64 / 100.0
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // Not kill -9: the daemon must stop its containerd and remove its mounts.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
