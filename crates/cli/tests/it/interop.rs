//! Debian's podman, buildah, skopeo and docker-registry use what we make, and we use what they make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crossdock_testkit::DockerRegistry;
use crossdock_testkit::foreign::{self, Cpu};
use serde_json::Value;

use crate::support::{Ran, World, is_root, require};

/// podman, buildah and skopeo with storage and configuration of their own.
pub struct Peers {
    directory: tempfile::TempDir,
}

impl Peers {
    pub fn new() -> Peers {
        for program in ["podman", "buildah", "skopeo", "runc", "docker-registry"] {
            require(program, "podman buildah skopeo runc docker-registry");
        }
        let directory = tempfile::Builder::new().prefix("crossdock-peers-").tempdir().expect("a directory");
        let peers = Peers { directory };
        let write = |name: &str, text: &str| fs::write(peers.path(name), text).expect("written");
        // Settings that also work in containers and virtual machines: without systemd and without the right
        // to raise limits.
        write(
            "containers.conf",
            &format!(
                "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\nruntime = \"runc\"\n\
                cgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\ntmp_dir = \"{}\"\n",
                peers.path("libpod").display()
            ),
        );
        write(
            "registries.conf",
            "unqualified-search-registries = []\n[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n",
        );
        let graph = peers.path("graph").display().to_string();
        write(
            "storage.conf",
            &format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = \"{graph}\"\nrootless_storage_path = \"{graph}\"\nrunroot = \"{}\"\n",
                peers.path("run").display()
            ),
        );
        write("policy.json", "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}");
        peers
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        Ran::from(self.command(program, args).output().expect("it runs")).ok()
    }

    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"))
            .env("HOME", self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env("TMPDIR", self.directory.path())
            .env_remove("REGISTRY_AUTH_FILE")
            .current_dir(self.directory.path());
        command
    }

    #[track_caller]
    pub fn podman_run(&self, image: &str, script: &str) -> String {
        let args = ["run", "--rm", "--network=none", "--security-opt=seccomp=unconfined", image];
        self.run("podman", &[&args[..], &["sh", "-c", script]].concat())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        end_podman(self.directory.path());
    }
}

/// What a podman whose `graph`, `run` and `libpod` lie in a directory leaves there if root has not run it:
/// files of other ids, which only its user namespace can remove, and the process that keeps this namespace.
pub fn end_podman(directory: &Path) {
    if is_root() || !directory.join("libpod").exists() {
        return;
    }
    let pause = fs::read_to_string(directory.join("libpod/pause.pid")).unwrap_or_default();
    if let Some(pause) = pause.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pause, rustix::process::Signal::KILL);
    }
    // podman has the same ids as our own namespace of the user.
    let mut own = Command::new(env!("CARGO_BIN_EXE_crossdock"));
    own.arg("--root").arg(directory.join("store")).args(["unshare", "rm", "-rf"]);
    let _ = own.arg(directory.join("graph")).arg(directory.join("store")).output();
}

/// An image with everything that layers can hold: owners, modes, links, a deletion, an opaque directory.
pub const DOCKERFILE: &str = "FROM base\nRUN mkdir -p /d/old /o && echo 1 > /d/f && chown 5:6 /d/f && chmod 4751 /d/f && ln /d/f /d/hard && ln -s f /d/soft && touch /o/gone /gone\n\
    RUN rm /gone && rmdir /d/old && rm -r /o && mkdir /o && touch /o/new\nENV A=env\nWORKDIR /d\nUSER 0:0\n";
pub const SCRIPT: &str =
    "pwd; echo $A; stat -c '%u:%g %a %h' /d/f; cat soft hard; ls /o; ls /gone /d/old 2>/dev/null; true";
pub const EXPECTED: &str = "/d\nenv\n5:6 4751 2\n1\n1\nnew\n";

#[test]
fn podman_and_skopeo_use_what_we_push() {
    let (world, peers) = (World::with_base(), Peers::new());
    let registry = DockerRegistry::start("");
    let name = registry.reference("team/ours:1").to_string();
    world.build(DOCKERFILE, &["-t", &name, "--push", "--load"]).ok();
    let inspected: Value = serde_json::from_str(
        &peers.run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]),
    )
    .expect("JSON");
    assert_eq!(inspected["Digest"], world.inspect(&name)["Descriptor"]["digest"]);
    assert_eq!(
        inspected["Layers"].as_array().expect("a list").len(),
        world.inspect(&name)["Manifest"]["layers"].as_array().expect("a list").len()
    );
    peers.run("podman", &["pull", "-q", "--tls-verify=false", &name]);
    assert_eq!(peers.podman_run(&name, SCRIPT), EXPECTED);
    let copy = format!("docker://{}", registry.reference("team/copy:2"));
    peers.run(
        "skopeo",
        &[
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &format!("docker://{name}"),
            &copy,
        ],
    );
    let fresh = World::new();
    let copy = copy.trim_start_matches("docker://");
    fresh.run(&["pull", copy]).ok();
    assert_eq!(fresh.sh(copy, SCRIPT), EXPECTED);
    assert_eq!(fresh.validate(), 1);
}

#[test]
fn indexes_that_we_push_are_read_by_platform() {
    let (world, peers) = (World::new(), Peers::new());
    let registry = DockerRegistry::start("");
    let name = registry.reference("multi:1").to_string();
    for (cpu, arch) in [(Cpu::Amd64, "amd64"), (Cpu::Arm64, "arm64"), (Cpu::Arm, "arm")] {
        world.file_mode(&format!("mkdir-{arch}"), foreign::mkdir(cpu), 0o755);
    }
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY mkdir-$TARGETARCH /mkdir\n";
    world
        .build(dockerfile, &["-t", &name, "--platform", "linux/amd64,linux/arm64,linux/arm/v7", "--push"])
        .ok();
    for (arch, variant) in [("amd64", ""), ("arm64", ""), ("arm", "v7")] {
        let mut args = vec!["--override-os=linux", "--override-arch", arch];
        if !variant.is_empty() {
            args.extend(["--override-variant", variant]);
        }
        let reference = format!("docker://{name}");
        args.extend(["inspect", "--tls-verify=false", "--config", &reference]);
        let config: Value = serde_json::from_str(&peers.run("skopeo", &args)).expect("JSON");
        assert_eq!(config["architecture"], arch);
    }
    peers.run("podman", &["pull", "-q", "--tls-verify=false", "--platform=linux/arm64", &name]);
    assert_eq!(peers.run("podman", &["inspect", "--format", "{{.Architecture}}", &name]).trim(), "arm64");
    // An index that buildah makes from ours must be readable for us.
    let list = registry.reference("list:1").to_string();
    peers.run("buildah", &["manifest", "create", "made"]);
    peers.run(
        "buildah",
        &["manifest", "add", "--all", "--tls-verify=false", "made", &format!("docker://{name}")],
    );
    peers.run(
        "buildah",
        &["manifest", "push", "-q", "--all", "--tls-verify=false", "made", &format!("docker://{list}")],
    );
    let fresh = World::new();
    fresh.run(&["pull", "--all-platforms", &list]).ok();
    let shown = fresh.run(&["buildx", "imagetools", "inspect", &list]).ok();
    for platform in ["linux/amd64", "linux/arm64", "linux/arm/v7"] {
        assert!(shown.contains(platform), "{shown}");
    }
}

#[test]
fn what_podman_and_buildah_push_runs_here() {
    let (world, peers) = (World::with_base(), Peers::new());
    let registry = DockerRegistry::start("");
    let base = registry.reference("base:1").to_string();
    world.run(&["push", "base", &base]).ok();
    fs::write(peers.path("Dockerfile"), DOCKERFILE.replace("FROM base", &format!("FROM {base}")))
        .expect("written");
    for format in ["oci", "docker"] {
        let name = registry.reference(&format!("theirs:{format}")).to_string();
        peers.run(
            "buildah",
            &[
                "bud",
                "-q",
                "--isolation=chroot",
                "--tls-verify=false",
                "--layers",
                "--format",
                format,
                "-t",
                &name,
                ".",
            ],
        );
        peers.run("podman", &["push", "-q", "--tls-verify=false", &name, &name]);
        let fresh = World::new();
        fresh.run(&["pull", &name]).ok();
        assert_eq!(fresh.sh(&name, SCRIPT), EXPECTED, "{format}");
        assert_eq!(fresh.validate(), 1);
        // The image also serves as a base.
        fresh.build(&format!("FROM {name}\nRUN cat /d/soft > /seen && rm /d/hard\n"), &["-t", "on-top"]).ok();
        assert_eq!(fresh.sh("on-top", "cat /seen; ls /d"), "1\nf\nsoft\n");
    }
}

#[test]
fn archives_load_both_ways() {
    let (world, peers) = (World::with_base(), Peers::new());
    world.build(DOCKERFILE, &["-t", "ours:1"]).ok();
    for (format, file) in [("docker", "ours.docker"), ("oci", "ours.oci")] {
        let path = peers.path(file);
        let path = path.to_str().expect("UTF-8");
        world.run(&["save", "--format", format, "-o", path, "ours:1"]).ok();
        let loaded = peers.run("podman", &["load", "-q", "-i", path]);
        assert!(loaded.contains("docker.io/library/ours:1"), "{loaded}");
        assert_eq!(peers.podman_run("docker.io/library/ours:1", SCRIPT), EXPECTED, "{format}");
        let source = format!("{format}-archive:{path}");
        peers.run("skopeo", &["copy", "-q", &source, &format!("dir:{}", peers.path(format).display())]);
        for theirs in ["docker-archive", "oci-archive"] {
            let back = peers.path(&format!("back-{format}-{theirs}"));
            let back = back.to_str().expect("UTF-8");
            peers.run("podman", &["save", "-q", "--format", theirs, "-o", back, "docker.io/library/ours:1"]);
            let fresh = World::new();
            let loaded = fresh.run(&["load", "-i", back, "--tag", "ours:1"]).ok();
            assert!(loaded.contains("ours:1"), "{loaded}");
            assert_eq!(fresh.sh("ours:1", SCRIPT), EXPECTED, "{theirs}");
            assert_eq!(fresh.validate(), 1);
        }
        peers.run("podman", &["rmi", "docker.io/library/ours:1"]);
    }
}

#[test]
fn layouts_of_skopeo_are_build_contexts() {
    let (world, peers) = (World::with_base(), Peers::new());
    let layout = peers.path("layout");
    let archive = peers.path("a.tar");
    world.run(&["save", "--format", "oci", "-o", archive.to_str().expect("UTF-8"), "base"]).ok();
    peers.run(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("oci-archive:{}", archive.display()),
            &format!("oci:{}:tag", layout.display()),
        ],
    );
    let context = format!("other=oci-layout://{}:tag", layout.display());
    world.build("FROM other\nRUN echo x > /x\n", &["-t", "t", "--build-context", &context]).ok();
    assert_eq!(world.sh("t", "cat /x"), "x\n");
}
