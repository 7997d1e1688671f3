//! Debian's `docker-registry`, the registry of the CNCF's distribution project, as a peer.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crossdock_oci::Reference;
use tempfile::TempDir;

/// A running `docker-registry` on a free port, with its data in a temporary directory; stopped when dropped.
pub struct DockerRegistry {
    child: Child,
    /// `HOST:PORT`.
    pub host: String,
    _directory: TempDir,
    /// Reads the process's log for as long as it lives, since it blocks once the pipe is full.
    _log: JoinHandle<()>,
}

impl DockerRegistry {
    /// Starts the registry; `extra` is added to its configuration.
    pub fn start(extra: &str) -> DockerRegistry {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: text\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{extra}",
            directory.path().join("data").display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).expect("a writable directory");
        let mut child = Command::new("docker-registry")
            .args(["serve".as_ref(), path.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry runs: apt-get install --no-install-recommends docker-registry");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let host = lines
            .by_ref()
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect())
            })
            .expect("docker-registry says where it listens");
        let log = std::thread::spawn(move || lines.for_each(drop));
        DockerRegistry { child, host, _directory: directory, _log: log }
    }

    /// A name in this registry.
    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().expect("a valid reference")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
