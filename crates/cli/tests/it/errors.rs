//! Failures, and whether their messages help.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crossdock_registry::server::faults::{Fault, Seen};
use crossdock_testkit::foreign;

use crate::support::{FaultyRegistry, Registry, World, is_root, our_emulator};

#[test]
fn commands_that_fail_show_code_line_and_output() {
    let world = World::with_base();
    let dockerfile =
        "FROM base\nENV A=1\nRUN echo one && \\\n    echo two && \\\n    exit 42\nRUN echo never\n";
    let error = world.build(dockerfile, &["-t", "t"]).fails(1);
    for text in
        ["Dockerfile:3", ">>> RUN echo one", ">>>     exit 42", "exit code: 42", "ENV A=1", "#2", "two"]
    {
        assert!(error.contains(text), "no {text:?} in {error}");
    }
    assert!(!error.contains("#3"), "{error}");
    world.run(&["inspect", "t"]).fails_with(&["no image t:latest"]);
    world
        .build("FROM base\nRUN sh -c 'kill -9 $$'; exit $?\n", &[])
        .fails_with(&["Dockerfile:2", "exit code: 137"]);
    world
        .build("FROM base\nRUN [\"/no/such/program\"]\n", &[])
        .fails_with(&["/no/such/program", "Dockerfile:2"]);
    world
        .build("FROM scratch\nCOPY Dockerfile /\nRUN echo x\n", &[])
        .fails_with(&["/bin/sh", "Dockerfile:3"]);
}

/// An instruction that the emulated CPU does not have: the step's error quotes the emulator's message, also
/// if other output follows it.
#[test]
fn what_the_emulator_cannot_do_is_named_at_the_line() {
    our_emulator();
    let world = World::with_base();
    world.file_mode("undefined", foreign::undefined_arm64(), 0o755);
    let args = ["--platform", "linux/arm64", "--emulator", "builtin"];
    let error = world.build("FROM scratch\nCOPY undefined /\nRUN [\"/undefined\"]\n", &args).fails(1);
    for text in [
        "Dockerfile:3",
        "exit code: 132 (crossdock-emu: /undefined: this CPU has no instruction 0x00000007",
        "(/undefined+",
    ] {
        assert!(error.contains(text), "no {text:?} in {error}");
    }
    // A shell of this machine stands for a guest's shell that goes on for a while. The stages for arm64
    // register the emulator.
    let dockerfile =
        "FROM --platform=linux/arm64 scratch AS arm\nCOPY undefined /\nRUN [\"/undefined\", \"x\"]\n";
    let error = world.build(dockerfile, &["--emulator", "builtin"]).fails(1);
    assert!(
        error.contains("Dockerfile:3") && error.contains("(crossdock-emu: /undefined: this CPU has no inst"),
        "{error}"
    );
    let dockerfile = "FROM base\nCOPY undefined /\nRUN /undefined; seq 1 100; exit 3\n";
    let args = ["--platform", "linux/amd64,linux/arm64", "--emulator", "builtin"];
    let dockerfile = dockerfile.replace("FROM base", "FROM --platform=linux/amd64 base");
    let error = world.build(&dockerfile, &args).fails(1);
    for text in
        ["Dockerfile:3", "exit code: 3 (crossdock-emu: /undefined: this CPU has no instruction 0x00000007"]
    {
        assert!(error.contains(text), "no {text:?} in {error}");
    }
    let error = world.build("FROM base\nRUN sh -c 'kill -ILL $$'; exit $?\n", &[]).fails(1);
    assert!(error.contains("exit code: 132 (a program died of an instruction"), "{error}");
}

#[test]
fn mistakes_in_the_dockerfile() {
    let world = World::with_base();
    for (dockerfile, texts) in [
        ("FROM base\nCPOY a b\n", &["unknown instruction: CPOY", "COPY", "Dockerfile:2"][..]),
        ("FROM base\nRUN\n", &["RUN requires", "Dockerfile:2"]),
        ("RUN x\n", &["Dockerfile:1", "FROM"]),
        ("", &["no instructions"]),
        ("# only a comment\n", &["no instructions"]),
        ("FROM base\nCOPY --form=x a b\n", &["did you mean from?", "Dockerfile:2"]),
        (
            "FROM base AS one\nCOPY --from=later /a /b\nFROM base AS later\nFROM one\n",
            &["it needs to be defined before current stage", "Dockerfile:2"],
        ),
        (
            "FROM base\nCOPY --from=0 /a /b\n",
            &["invalid stage index 0", "no stage comes before", "Dockerfile:2"],
        ),
        (
            "FROM base\nFROM base\nFROM base\nCOPY --from=5 /a /b\n",
            &["invalid stage index 5", "only stages 0 to 1 come", "Dockerfile:4"],
        ),
        ("FROM base AS a b\n", &["Dockerfile:1"]),
        ("FROM base\nENV x\n", &["ENV", "Dockerfile:2"]),
        ("FROM base\nEXPOSE http\n", &["http", "Dockerfile:2"]),
        ("FROM base\nSTOPSIGNAL SIGNOPE\n", &["SIGNOPE", "Dockerfile:2"]),
        ("FROM base\nARG V\nENV x=${V:?must be given}\n", &["must be given", "Dockerfile:3"]),
        ("FROM base\nRUN <<EOF\nnever ends\n", &["EOF", "Dockerfile:2"]),
        ("FROM base\nONBUILD FROM x\n", &["ONBUILD", "Dockerfile:2"]),
        ("FROM base\nWORKDIR\n", &["WORKDIR", "Dockerfile:2"]),
        ("FROM UPPER/Case\n", &["UPPER", "lower", "Dockerfile:1"]),
        ("FROM $NOTHING\n", &["blank", "Dockerfile:1"]),
        ("FROM base\nCOPY [\"a\", b]\nHEALTHCHECK\n", &["Dockerfile:"]),
    ] {
        let ran = world.build(dockerfile, &[]);
        assert_eq!(ran.code, Some(1), "{dockerfile:?}: {}", ran.err);
        for text in texts {
            assert!(ran.err.contains(text), "{dockerfile:?}: no {text:?} in:\n{}", ran.err);
        }
    }
}

#[test]
fn noise_is_no_dockerfile() {
    let world = World::with_base();
    let mut state = 1u64;
    for _ in 0..8 {
        let noise: Vec<u8> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        world.file("Dockerfile", noise);
        world.run(&["build", "context"]).fails(1);
    }
    for bytes in [
        &b"\x00\x00\x00"[..],
        b"FROM base\nRUN \xff\xfe\x00\n",
        b"\xef\xbb\xbf",
        b"FROM base\nCOPY \x00 /x\n",
    ] {
        world.file("Dockerfile", bytes);
        let ran = world.run(&["build", "context"]);
        assert!(ran.code.is_some_and(|code| code <= 1) && !ran.err.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn contexts_and_files_that_are_not_there() {
    let world = World::with_base();
    world.run(&["build", "/no/such/context"]).fails_with(&["/no/such/context"]);
    std::fs::remove_dir_all(world.path("context")).expect("removed");
    std::fs::write(world.path("context"), "a file").expect("written");
    world.run(&["build", "context"]).fails_with(&["not a directory"]);
    world.run(&["build", "home"]).fails_with(&["Dockerfile", "--file"]);
    std::fs::write(world.path("home/Containerfile"), "FROM base\nRUN exit 3\n").expect("written");
    world.run(&["build", "home"]).fails_with(&["Containerfile:2", "exit code: 3"]);
    world.run(&["build", "-f", "home/Other", "home"]).fails_with(&["home/Other"]);
    // Nothing listens at this address.
    let url = "https://127.0.0.1:1/a.git";
    world.run(&["build", url]).fails_with(&["build context", url, "git fetch failed"]);
    world.run(&["build", "-t", "Not Valid", "home"]).fails_with(&["Not Valid"]);
    world.run(&["build", "--no-such-flag", "home"]).fails(2);
}

#[test]
fn bases_that_cannot_be_had() {
    let world = World::new();
    // Names of docker.io cannot be resolved in tests: registries.conf blocks them.
    let error = world.build("FROM none:1\n", &[]);
    error.fails_with(&["failed to resolve none:1", "docker.io is blocked", "Dockerfile:1"]);
}

fn is_blob(seen: &Seen) -> bool {
    seen.method == "GET" && seen.path.contains("/blobs/")
}

#[test]
fn registries_that_fail_for_a_while() {
    let limited = Fault::Answer {
        status: 429,
        headers: vec![("Retry-After".into(), "0".into())],
        body: "slow down".into(),
    };
    let faults = [("cut", Fault::CutResponse(1000)), ("close", Fault::Close), ("limit", limited)];
    for (what, fault) in faults {
        let world = World::with_base();
        let registry = FaultyRegistry::start(&world, move |seen, spoilt| {
            (is_blob(seen) && spoilt < 2).then(|| fault.clone())
        });
        let name = registry.name.clone();
        world.run(&["push", "base", &name]).ok();
        let fresh = World::new();
        let pulled = fresh.run(&["pull", &name]);
        assert_eq!(pulled.code, Some(0), "{what}: {}", pulled.err);
        assert_eq!(fresh.sh(&name, "echo runs"), "runs\n");
    }
}

#[test]
fn registries_that_answer_nonsense() {
    let html = Fault::Answer {
        status: 200,
        headers: vec![("Content-Type".into(), "text/html".into())],
        body: "<html>log in to the hotel's network</html>".into(),
    };
    for (fault, texts) in [
        (html, &["no useful answer", "log in to the hotel"][..]),
        (Fault::status(403, "no"), &["403"]),
        (Fault::status(404, "no"), &["not found"]),
        (Fault::status(418, "teapot"), &["418"]),
    ] {
        let world = World::with_base();
        let registry = FaultyRegistry::start(&world, move |seen, _| {
            seen.path.contains("/manifests/").then(|| fault.clone())
        });
        let name = registry.name.clone();
        let error = world.run(&["pull", &name]).fails(1);
        for text in texts {
            assert!(error.contains(text) && error.contains(&name), "no {text:?} in {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
        let error = world.build(&format!("FROM {name}\n"), &[]).fails(1);
        assert!(error.contains("Dockerfile:1") && error.contains(&name), "{error}");
    }
}

#[test]
fn blobs_that_never_match_their_digest() {
    let world = World::with_base();
    let registry = FaultyRegistry::start(&world, |seen, _| is_blob(seen).then_some(Fault::Corrupt));
    let name = registry.name.clone();
    world.run(&["push", "base", &name]).ok();
    let fresh = World::new();
    let error = fresh.run(&["pull", &name]).fails(1);
    assert!(error.contains("sha256:"), "{error}");
    fresh.run(&["inspect", &name]).fails(1);
}

#[test]
fn stores_that_cannot_be_written() {
    let world = World::with_base();
    let error = world.crossdock_at(std::path::Path::new("/proc/nothing"), &["images"]).run().fails(1);
    assert!(error.contains("/proc/nothing"), "{error}");
    let file = world.path("file");
    std::fs::write(&file, "a file").expect("written");
    let error = world.crossdock_at(&file, &["images"]).run().fails(1);
    assert!(error.contains("file"), "{error}");
    let error = world.crossdock_at(&file.join("below"), &["images"]).run().fails(1);
    assert!(error.contains("file/below"), "{error}");
    let no_home = world.crossdock(&["images"]);
    drop(no_home);
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossdock"));
    let ran = command.arg("images").env_clear().output().expect("runs");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("--root DIR"), "{ran:?}");
}

/// A small file system, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf, size: &str) -> SmallDisk {
        std::fs::create_dir(&path).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"])
            .arg(&path)
            .status();
        assert!(mounted.expect("mount runs").success());
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_torn() {
    if !is_root() {
        // Only root may mount a small file system for a process that then enters a namespace of its own.
        return;
    }
    let world = World::new();
    let disk = SmallDisk::mount(world.path("small"), "16m");
    let store = disk.0.join("store");
    world.crossdock_at(&store, &["load", "-q"]).input(crate::support::base_archive()).ok();
    let full = "FROM base\nRUN dd if=/dev/urandom of=/big bs=1M count=30\n";
    world.file("Dockerfile", full);
    let error = world.crossdock_at(&store, &["build", "-t", "t", "context"]).run().fails(1);
    assert!(error.contains("No space left on device"), "{error}");
    world.crossdock_at(&store, &["inspect", "t"]).run().fails(1);
    // The step fits, but not its archive.
    world.file("Dockerfile", "FROM base\nRUN head -c 7500000 /dev/urandom > /big\n");
    let error = world.crossdock_at(&store, &["build", "-t", "t", "context"]).run().fails(1);
    assert!(error.contains("no space left to archive"), "{error}");
    world.crossdock_at(&store, &["inspect", "t"]).run().fails(1);
    // Older images still work, and space is freed.
    world.crossdock_at(&store, &["system", "prune", "-f"]).run().ok();
    world.file("Dockerfile", "FROM base\nRUN echo small > /small\n");
    world.crossdock_at(&store, &["build", "-t", "t", "context"]).run().ok();
    let ran = world.crossdock_at(&store, &["run", "t", "cat", "/small"]).run();
    assert_eq!(ran.ok(), "small\n");
}

#[test]
fn nothing_listens_at_the_registry() {
    let world = World::with_base();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let started = std::time::Instant::now();
    let nothing = format!("nothing listens at {address}");
    world.run(&["pull", &format!("{address}/a")]).fails_with(&[&nothing]);
    world.run(&["push", "base", &format!("{address}/a")]).fails_with(&[&nothing]);
    world.build(&format!("FROM {address}/a\n"), &[]).fails_with(&[&nothing]);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn a_wait_for_a_registry_is_told_once() {
    let world = World::with_base();
    let registry =
        FaultyRegistry::start(&world, |_, spoilt| (spoilt < 2).then(|| Fault::status(503, "busy")));
    let ran = world.run(&["push", "base", &registry.name]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err.matches("trying again").count(), 1, "{ran:?}");
}

#[test]
fn a_layer_that_is_damaged_here_is_not_sent_again_and_again() {
    let world = World::with_base();
    let registry = Registry::start(&world);
    let digest = world.inspect("base")["Manifest"]["layers"][0]["digest"].as_str().expect("one").to_string();
    let path = world.store().join("blobs").join(digest.replace(':', "/"));
    let mut bytes = fs::read(&path).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
    fs::write(&path, bytes).expect("damaged");
    let started = std::time::Instant::now();
    world.run(&["push", "base", &registry.image("a")]).fails_with(&[
        &digest,
        "is corrupt",
        "pull or build the image again",
    ]);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
