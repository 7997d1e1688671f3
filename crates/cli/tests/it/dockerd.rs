//! Docker's daemon takes our archives and the images of our registry, and we take its archives and images.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::interop::{DOCKERFILE, EXPECTED, SCRIPT};
use crate::support::{Ran, Registry, World, is_root, require};

/// Debian's dockerd, which writes only to a directory of its own: no bridge, no firewall rules, no socket
/// visible to others. Stopped when dropped.
pub struct Dockerd {
    child: Child,
    directory: tempfile::TempDir,
    /// Reads the log as long as the daemon lives: the daemon would block on a full pipe.
    _log: JoinHandle<()>,
}

impl Dockerd {
    /// `None` for an ordinary user, for whom dockerd does not run.
    pub fn start() -> Option<Dockerd> {
        if !is_root() {
            return None;
        }
        let directory = tempfile::Builder::new().prefix("crossdock-dockerd-").tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        // The machine's own configuration must not matter.
        std::fs::write(path("daemon.json"), "{}").expect("a file");
        let mut child = Command::new(require("dockerd", "docker.io"))
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("socket")), "--config-file", &path("daemon.json")])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dockerd starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        let is_up = lines.by_ref().any(|line| {
            seen.push(line);
            seen.last().is_some_and(|line| line.contains("API listen on"))
        });
        if !is_up {
            let _ = child.wait();
            panic!("dockerd ended: {}", seen.join("\n"));
        }
        let log = std::thread::spawn(move || lines.for_each(drop));
        Some(Dockerd { child, directory, _log: log })
    }

    /// What `DOCKER_HOST` must be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.directory.path().join("socket").display())
    }

    #[track_caller]
    fn docker(&self, args: &[&str]) -> String {
        let mut command = Command::new(docker());
        command.args(args).env_clear().env("HOME", self.directory.path()).env("PATH", "/usr/bin:/bin");
        command.env("DOCKER_HOST", self.host());
        Ran::from(command.stdin(Stdio::null()).output().expect("docker runs")).ok()
    }

    #[track_caller]
    pub fn sh(&self, image: &str, script: &str) -> String {
        self.docker(&["run", "--rm", "--network=none", image, "sh", "-c", script])
    }
}

/// The path of Debian's client.
pub fn docker() -> PathBuf {
    let path = Path::new("/usr/bin/docker");
    if path.exists() { path.to_path_buf() } else { require("docker", "docker.io") }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // On SIGTERM dockerd stops its containerd and removes its mounts.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn docker_loads_what_we_save_and_we_load_what_it_saves() {
    let Some(dockerd) = Dockerd::start() else { return };
    let world = World::with_base();
    let archive = world.text("built.tar");
    let id =
        world.build(DOCKERFILE, &["-q", "-t", "built:1", "-o", &format!("type=docker,dest={archive}")]).ok();
    assert_eq!(dockerd.docker(&["load", "-q", "-i", &archive]).trim(), "Loaded image: built:1");
    assert_eq!(dockerd.docker(&["image", "inspect", "-f", "{{.Id}}", "built:1"]), id);
    assert_eq!(dockerd.sh("built:1", SCRIPT), EXPECTED);

    world.build(DOCKERFILE, &["-t", "saved:1"]).ok();
    world.run(&["tag", "saved:1", "saved:two"]).ok();
    let archive = world.text("saved.tar");
    world.run(&["save", "-o", &archive, "saved:1", "saved:two"]).ok();
    let loaded = dockerd.docker(&["load", "-q", "-i", &archive]);
    assert!(loaded.contains("saved:1") && loaded.contains("saved:two"), "{loaded}");
    assert_eq!(dockerd.sh("saved:two", SCRIPT), EXPECTED);

    let archive = world.text("theirs.tar");
    dockerd.docker(&["tag", "built:1", "theirs:1"]);
    dockerd.docker(&["save", "-o", &archive, "theirs:1", "saved:1"]);
    let fresh = World::new();
    let loaded = fresh.run(&["load", "-i", &archive]).ok();
    assert!(loaded.contains("theirs:1") && loaded.contains("saved:1"), "{loaded}");
    assert_eq!(fresh.sh("theirs:1", SCRIPT), EXPECTED);
    assert_eq!(fresh.validate(), 2);
}

#[test]
fn docker_pulls_and_pushes_with_our_registry() {
    let Some(dockerd) = Dockerd::start() else { return };
    let world = World::with_base();
    let registry = Registry::start(&world);
    let ours = registry.image("team/ours:1");
    world.build(DOCKERFILE, &["-t", &ours, "--push"]).ok();
    dockerd.docker(&["pull", "-q", &ours]);
    assert_eq!(dockerd.sh(&ours, SCRIPT), EXPECTED);

    // The image gets a layer of its own, so that something is uploaded.
    dockerd.docker(&["run", "--name", "made", "--network=none", &ours, "sh", "-c", "echo docker > /made"]);
    let theirs = registry.image("team/theirs:1");
    dockerd.docker(&["commit", "made", &theirs]);
    dockerd.docker(&["rm", "made"]);
    dockerd.docker(&["push", "-q", &theirs]);
    let fresh = World::new();
    fresh.run(&["pull", &theirs]).ok();
    assert_eq!(fresh.sh(&theirs, "cat /made; ls /d"), "docker\nf\nhard\nsoft\n");
    assert_eq!(fresh.validate(), 1);
}

#[test]
fn images_are_copied_to_docker_and_back() {
    let Some(dockerd) = Dockerd::start() else { return };
    let world = World::with_base();
    let registry = Registry::start(&world);
    let name = registry.image("team/ours:1");
    world.build(DOCKERFILE, &["-t", &name, "--push"]).ok();
    let host = format!("unix://{}", dockerd.directory.path().join("socket").display());
    let copy = |from: &str, to: &str| {
        world.run(&["copy", "--src-daemon-host", &host, "--dest-daemon-host", &host, from, to])
    };
    copy(&name, "docker-daemon:given:1").ok();
    assert_eq!(dockerd.sh("given:1", SCRIPT), EXPECTED);
    dockerd.docker(&["tag", "given:1", "h.example/team/x:2"]);
    let back = registry.image("team/back:1");
    copy("docker-daemon:h.example/team/x:2", &back).ok();
    world.run(&["pull", &back]).ok();
    assert_eq!(world.sh(&back, SCRIPT), EXPECTED);
    let id = dockerd.docker(&["image", "inspect", "-f", "{{.Id}}", "given:1"]);
    copy(&format!("docker-daemon:{}", id.trim()), "oci:by-id").ok();
    let place = "docker-daemon:given:1";
    let shown = world.run(&["inspect", "--daemon-host", &host, "--format", "{{.Os}} {{.Env}}", place]).ok();
    assert!(shown.contains("linux") && shown.contains("A=env"), "{shown}");
    copy("docker-daemon:absent:1", "dir:x").fails_with(&["docker-daemon:absent:1", "docker says 404"]);
    let env = world.crossdock(&["copy", place, "dir:y"]).env("DOCKER_HOST", &host).run();
    env.ok();
}
