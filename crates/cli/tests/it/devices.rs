//! Images for devices: push over SSH into podman and docker, with an sshd of the test's own on loopback.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::dockerd::Dockerd;
use crate::interop::end_podman;
use crate::support::{Crossdock, Ran, World, eventually, require};

/// An sshd that lets this user in by a key, and an `ssh` that knows the key.
struct Device {
    directory: tempfile::TempDir,
    sshd: Child,
    port: u16,
    user: String,
}

impl Device {
    /// `engines` are programs that the device has: names and shell scripts.
    fn start(engines: &[(&str, &str)], configuration: &str) -> Device {
        let sshd = require("sshd", "openssh-server");
        let directory = tempfile::Builder::new().prefix("crossdock-device-").tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["host", "user"] {
            let made = Command::new(require("ssh-keygen", "openssh-client"))
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path(name))
                .status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        for (name, text) in engines {
            script(&path("engines").join(name), text);
        }
        // What every device has, and nothing else.
        fs::create_dir_all(path("engines")).expect("a directory");
        for name in ["sh", "head", "cut", "sed", "uname", "id"] {
            let program = PathBuf::from("/usr/bin").join(name);
            let program = if program.exists() { program } else { PathBuf::from("/bin").join(name) };
            std::os::unix::fs::symlink(program, path("engines").join(name)).expect("a link");
        }
        let user =
            Ran::from(Command::new("id").arg("-un").output().expect("id runs")).ok().trim().to_string();
        let port = free_port();
        let text = |name: &str| path(name).display().to_string();
        fs::write(
            path("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
                 StrictModes no\nPasswordAuthentication no\nSetEnv PATH={}\n{configuration}\n",
                text("host"),
                text("user.pub"),
                text("engines"),
            ),
        )
        .expect("written");
        // The sshd of root separates privileges in this directory, which Debian makes at every start.
        if crate::support::is_root() {
            fs::create_dir_all("/run/sshd").expect("a directory");
        }
        let log = fs::File::create(path("log")).expect("a file");
        let sshd = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(path("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        // The user's own configuration of ssh must not matter.
        script(
            &path("bin/ssh"),
            &format!(
                "exec {} -F none -i {} -o UserKnownHostsFile={} -o StrictHostKeyChecking=no \"$@\"",
                require("ssh", "openssh-client").display(),
                text("user"),
                text("known_hosts")
            ),
        );
        let device = Device { directory, sshd, port, user };
        eventually("sshd listens", || {
            fs::read_to_string(device.directory.path().join("log"))
                .is_ok_and(|log| log.contains("listening on"))
        });
        device
    }

    fn address(&self, engine: &str) -> String {
        format!("ssh://{}@127.0.0.1:{}{engine}", self.user, self.port)
    }

    /// A crossdock that finds the device's ssh.
    fn crossdock(&self, world: &World, args: &[&str]) -> Crossdock {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.directory.path().join("bin").display());
        world.crossdock(args).env("PATH", &path)
    }

    /// Runs a program of the device.
    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(self.directory.path().join("engines").join(program)).args(args).output();
        Ran::from(output.expect("it runs")).ok()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

/// A program written in sh.
fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("in a directory")).expect("a directory");
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// A port that was free a moment ago; sshd takes no port 0.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Storage of podmans, in directories of the names given.
struct Storage(tempfile::TempDir, &'static [&'static str]);

impl Storage {
    fn new(names: &'static [&'static str]) -> Storage {
        Storage(tempfile::tempdir().expect("a directory"), names)
    }

    fn of(&self, name: &str) -> PathBuf {
        assert!(self.1.contains(&name), "a name that was given");
        self.0.path().join(name)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        for name in self.1 {
            end_podman(&self.of(name));
        }
    }
}

/// A podman with storage of its own.
fn podman(directory: &Path) -> String {
    let place = |name: &str| directory.join(name).display().to_string();
    format!(
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH\nexec {} --root {} --runroot {} --tmpdir {} --storage-driver vfs \"$@\"",
        require("podman", "podman").display(),
        place("graph"),
        place("run"),
        place("libpod"),
    )
}

/// The bytes that a push says it has sent.
fn sent(err: &str) -> String {
    let line = err.lines().find(|line| line.contains(" sent in ")).expect("a line about what was sent");
    line.split("; ").last().and_then(|text| text.split(" sent").next()).expect("a size").to_string()
}

#[test]
fn podman_gets_what_it_lacks() {
    let world = World::with_base();
    let storage = Storage::new(&["amd64"]);
    let device = Device::start(&[("podman", &podman(&storage.of("amd64")))], "");
    world.file("big", vec![0xa5u8; 3 << 20]).file("small", "1\n");
    let dockerfile = "FROM base\nCOPY big /big\nCOPY small /small\nCMD [\"cat\", \"/small\"]\n";
    world.build(dockerfile, &["-t", "example.com/team/app:1"]).ok();
    let push = |extra: &[&str]| {
        let name = "example.com/team/app:1";
        device.crossdock(&world, &[&["push", name, &device.address("")], extra].concat()).run()
    };
    let first = push(&[]);
    assert!(first.err.contains("podman ") && first.err.contains("is there for linux/amd64"), "{}", first.err);
    let digest = first.ok();
    let names = device.run("podman", &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names, "example.com/team/app:1\n", "no other name is left");
    let config = "{{.Architecture}} {{index .Config.Cmd 1}}";
    let shown = device.run("podman", &["image", "inspect", "--format", config, "example.com/team/app:1"]);
    assert_eq!(shown, "amd64 /small\n");

    world.file("small", "2\n");
    world.build(dockerfile, &["-t", "example.com/team/app:1"]).ok();
    let second = push(&[]);
    assert!(sent(&second.err).ends_with("kB"), "one small layer: {}", second.err);
    assert_ne!(second.ok(), digest);
    // Nothing is sent to a device that has everything, and only the digest is printed.
    let third = push(&["-q"]);
    assert_eq!(third.err, "");
    assert!(third.ok().starts_with("sha256:"));
}

#[test]
fn docker_gets_an_image() {
    let Some(dockerd) = Dockerd::start() else { return };
    let world = World::with_base();
    let client = format!("DOCKER_HOST={} exec {} \"$@\"", dockerd.host(), crate::dockerd::docker().display());
    let device = Device::start(&[("docker", &client)], "");
    world.build("FROM base\nRUN echo here > /f\nCMD [\"cat\", \"/f\"]\n", &["-t", "app:1"]).ok();
    let ran = device.crossdock(&world, &["push", "app:1", &device.address("/docker")]).run();
    assert!(ran.err.contains("docker "), "{}", ran.err);
    ran.ok();
    assert_eq!(device.run("docker", &["images", "--format", "{{.Repository}}:{{.Tag}}"]), "app:1\n");
    assert_eq!(dockerd.sh("app:1", "cat /f"), "here\n");
}

#[test]
fn each_device_gets_the_image_for_its_cpu() {
    let world = World::with_base();
    let storage = Storage::new(&["amd64", "arm"]);
    // Podman says what it runs on; here it says something else.
    let engine = |arch: &str, machine: &str| {
        let lie = format!("case $1 in info) echo '9.9|linux/{arch}'; exit;; esac\n");
        let place = storage.of(arch);
        [lie + &podman(&place), format!("case $1 in -m) echo {machine};; *) echo Linux;; esac")]
    };
    let [[amd, x86], [arm, armv7]] = [engine("amd64", "x86_64"), engine("arm", "armv7l")];
    let one = Device::start(&[("podman", &amd), ("uname2", &x86)], "");
    let two = Device::start(&[("podman", &arm), ("uname2", &armv7)], "");
    for device in [&one, &two] {
        let engines = device.directory.path().join("engines");
        fs::rename(engines.join("uname2"), engines.join("uname")).expect("replaced");
    }
    world
        .build(
            "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n",
            &["--platform", "linux/amd64,linux/arm/v7", "-t", "app:2"],
        )
        .ok();
    let path = format!(
        "{}:{}",
        one.directory.path().join("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    // One ssh knows the keys of both.
    let key = |device: &Device| device.directory.path().join("user").display().to_string();
    script(
        &one.directory.path().join("bin/ssh"),
        &format!(
            "exec {} -F none -i {} -i {} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no \"$@\"",
            require("ssh", "openssh-client").display(),
            key(&one),
            key(&two)
        ),
    );
    let push = |extra: &[&str]| {
        let (one, two) = (one.address(""), two.address(""));
        let args = [&["push", &one, &two, "app:2"], extra].concat();
        world.crossdock(&args).env("PATH", &path).run()
    };
    let ran = push(&[]);
    assert!(
        ran.err.contains("there for linux/amd64") && ran.err.contains("there for linux/arm/v7"),
        "{}",
        ran.err
    );
    assert_eq!(ran.ok().lines().count(), 2);
    let architecture = |device: &Device| {
        device
            .run("podman", &["image", "inspect", "--format", "{{.Architecture}}", "docker.io/library/app:2"])
    };
    assert_eq!((architecture(&one).as_str(), architecture(&two).as_str()), ("amd64\n", "arm\n"));

    // A platform that the image does not have: one device fails, the other gets its image.
    world.build("FROM scratch\nCOPY Dockerfile /f\n", &["-t", "app:2"]).ok();
    let ran = push(&[]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(
        ran.err.contains("the device is linux/arm/v7, and app:2 is in the store for linux/amd64"),
        "{}",
        ran.err
    );
    assert_eq!(ran.out.lines().count(), 1);
}

#[test]
fn failures_say_what_to_do() {
    let world = World::with_base();
    let none = Device::start(&[], "");
    let push = |device: &Device, args: &[&str]| device.crossdock(&world, &[&["push"], args].concat()).run();
    push(&none, &["base", &none.address("")]).fails_with(&["neither docker nor podman", "install it"]);
    push(&none, &["base", &none.address("/docker")]).fails_with(&["no docker answers there"]);
    push(&none, &["base", &none.address("/rkt")]).fails_with(&["no engine \"rkt\""]);
    push(&none, &["absent", &none.address("")]).fails_with(&["absent"]);
    push(&none, &[&none.address("")]).fails_with(&["name one image"]);
    let closed = Device::start(&[], "AllowTcpForwarding no");
    push(&closed, &["base", &closed.address("")]).fails_with(&["AllowTcpForwarding"]);
    let port = free_port();
    push(&none, &["base", &format!("ssh://127.0.0.1:{port}")]).fails_with(&["ssh cannot connect", "refused"]);
    let broken = "case $1 in version) echo '1.0|linux/amd64';; *) echo 'no such host' >&2; exit 3;; esac";
    let broken = Device::start(&[("docker", broken)], "");
    push(&broken, &["base", &broken.address("")])
        .fails_with(&["docker 1.0 could not take the image", "no such host"]);
    // A device that answers with another image than it was given.
    let other =
        format!("case $1 in version) echo '1.0|linux/amd64';; image) echo sha256:{};; esac", "0".repeat(64));
    let other = Device::start(&[("docker", &other)], "");
    push(&other, &["base", &other.address("")]).fails_with(&["the device now has another image"]);
}
