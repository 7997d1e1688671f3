//! `serve --buildkit` as BuildKit's own client sees it: buildctl, which `cargo xtask buildctl` builds from
//! Debian's source.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Ran, Registry, Running, World, our_emulator};

fn buildctl() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/buildctl/buildctl");
    assert!(path.exists(), "buildctl is missing: run cargo xtask buildctl");
    path
}

/// A server with its socket in the world.
struct Served {
    world: World,
    _running: Running,
}

impl Served {
    fn new() -> Served {
        our_emulator();
        let world = World::with_base();
        let mut running = world.crossdock(&["serve", "--buildkit"]).start();
        running.until_err("use it with");
        Served { world, _running: running }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(buildctl());
        command
            .args(["--addr", &format!("unix://{}", self.world.text("run/crossdock.sock"))])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.world.path("home"))
            .current_dir(self.world.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn buildctl(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().expect("buildctl runs"))
    }

    /// Builds the context.
    fn build(&self, args: &[&str]) -> Ran {
        let places = ["--local", "context=context", "--local", "dockerfile=context"];
        let all =
            [&["build", "--progress", "plain", "--frontend", "dockerfile.v0"][..], &places, args].concat();
        self.buildctl(&all)
    }
}

#[test]
#[ignore = "cargo xtask buildctl builds buildctl and runs this"]
fn buildctl_builds_for_every_output() {
    let served = Served::new();
    let world = &served.world;
    world
        .file("f", "data")
        .file("Dockerfile", "FROM base AS one\nARG X=1\nRUN echo $X > /x\nFROM one\nCOPY f /f\n");
    served.build(&["--opt", "build-arg:X=5", "--output", "type=local,dest=out"]).ok();
    let read = |name: &str| std::fs::read_to_string(world.path(name)).expect("written");
    assert_eq!((read("out/x"), read("out/f")), ("5\n".to_string(), "data".to_string()));
    served.build(&["--opt", "target=one", "--output", "type=tar,dest=a.tar"]).ok();
    let mut archive = tar::Archive::new(std::fs::File::open(world.path("a.tar")).expect("an archive"));
    let names =
        archive.entries().expect("entries").map(|entry| entry.expect("an entry").path_bytes().into_owned());
    let names: Vec<Vec<u8>> = names.collect();
    assert!(names.contains(&b"x".to_vec()) && !names.contains(&b"f".to_vec()));
    served.build(&["--output", "type=oci,dest=b.tar", "--metadata-file", "m.json", "--ref-file", "ref"]).ok();
    let metadata: Value = serde_json::from_str(&read("m.json")).expect("JSON");
    let digest = metadata["containerimage.digest"].as_str().expect("a digest");
    assert!(world.run(&["load", "-i", "b.tar"]).code == Some(0) && digest.starts_with("sha256:"));
    let registry = Registry::start(world);
    let name = registry.image("a:1");
    let platforms = "platform=linux/amd64,linux/arm64";
    world.file("Dockerfile", "FROM scratch\nCOPY f /f\n");
    let pushed =
        served.build(&["--opt", platforms, "--output", &format!("type=image,name={name},push=true")]);
    assert!(pushed.err.contains("exporting manifest list sha256:"), "{}", pushed.err);
    pushed.ok();
    let index: Value = serde_json::from_str(&world.run(&["manifest", "inspect", &name]).ok()).expect("JSON");
    let images = index["manifests"].as_array().expect("entries");
    assert!(images.iter().any(|image| image["platform"]["architecture"] == "arm64"), "{index}");
    // Caches, secrets, and a build that fails.
    world.file(
        "Dockerfile",
        "FROM base\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /n\nRUN exit 4\n",
    );
    std::fs::write(world.path("s"), "secret").expect("a file");
    let failed = served.build(&["--secret", "id=s,src=s", "--no-cache"]);
    let said = failed.fails(1);
    assert!(said.contains("exit code: 4") && said.contains(">>> RUN exit 4"), "{said}");
    world.file("Dockerfile", "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n");
    let cache = registry.image("cache:1");
    served
        .build(&[
            "--export-cache",
            &format!("type=registry,ref={cache},mode=max"),
            "--output",
            "type=local,dest=i",
        ])
        .ok();
    let other = Served::new();
    other.world.file("Dockerfile", "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n");
    other
        .build(&["--import-cache", &format!("type=registry,ref={cache}"), "--output", "type=local,dest=i"])
        .ok();
    let of_other = std::fs::read_to_string(other.world.path("i/id")).expect("written");
    assert_eq!(of_other, read("i/id"));
}

#[test]
#[ignore = "cargo xtask buildctl builds buildctl and runs this"]
fn buildctl_asks_for_workers_records_and_space() {
    let served = Served::new();
    served.world.file("f", "data").file(
        "Dockerfile",
        "FROM base\nCOPY f /f\nRUN --mount=type=cache,target=/c echo kept > /c/k; echo told\n",
    );
    served.build(&["--ref-file", "ref"]).ok();
    let reference = std::fs::read_to_string(served.world.path("ref")).expect("written");
    let workers = served.buildctl(&["debug", "workers"]).ok();
    assert!(workers.contains("linux/amd64") && workers.contains("linux/arm/v7"), "{workers}");
    assert!(served.buildctl(&["debug", "workers", "-v"]).ok().contains("worker.hostname"));
    let listed: Value =
        serde_json::from_str(&served.buildctl(&["debug", "workers", "--format", "{{json .}}"]).ok())
            .expect("JSON");
    assert_eq!(listed[0]["platforms"][0]["architecture"], "amd64");
    assert!(served.buildctl(&["debug", "info"]).ok().contains("BuildKit: crossdock"));
    let histories = served.buildctl(&["debug", "histories"]).ok();
    assert!(histories.contains("COMPLETE") && histories.contains(&reference), "{histories}");
    let logs = served.buildctl(&["debug", "logs", "--progress", "plain", &reference]).ok();
    assert!(logs.contains(" told\n"), "{logs}");
    let usage = served.buildctl(&["du"]).ok();
    assert!(usage.contains("Total:") && usage.lines().count() > 4, "{usage}");
    let mounts = served.buildctl(&["du", "--filter", "type==exec.cachemount", "-v"]).ok();
    assert!(mounts.contains("exec.cachemount") && !mounts.contains("regular"), "{mounts}");
    served.buildctl(&["prune", "--filter", "type==exec.cachemount"]).ok();
    let usage = served.buildctl(&["du", "-v"]).ok();
    assert!(usage.contains("regular") && !usage.contains("exec.cachemount"), "{usage}");
    served.buildctl(&["prune", "--all"]).ok();
    let usage = served.buildctl(&["du"]).ok();
    assert!(usage.contains("Total:\t\t0B"), "{usage}");
}

#[test]
#[ignore = "cargo xtask buildctl builds buildctl and runs this"]
fn buildctl_passes_a_stream_on() {
    let served = Served::new();
    let mut child = served
        .command(&["dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("buildctl starts");
    // The preface of HTTP/2 and empty settings; then the end of the stream.
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("taken");
    drop(input);
    let answer = child.wait_with_output().expect("it ends");
    // The server's settings come first: a frame of type 4 on stream 0.
    assert_eq!(answer.stdout.get(3), Some(&4), "{:?}", answer.stdout);
    assert_eq!(answer.stdout.get(5..9), Some(&[0; 4][..]));
}
