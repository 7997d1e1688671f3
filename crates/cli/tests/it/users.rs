//! Ordinary users, with ranges of ids and with a single id.

use std::path::Path;
use std::process::Command;

use crossdock_testkit::LayerTar;
use crossdock_testkit::foreign::{self, Cpu};

use crate::support::{Registry, Who, World, host_handlers, our_emulator, require};

#[test]
fn ordinary_users_build_run_and_publish() {
    require("newuidmap", "uidmap");
    require("qemu-aarch64-static", "qemu-user-static");
    let before = host_handlers();
    for who in [Who::User, Who::SingleId] {
        let world = World::of(who).load_base();
        let registry = Registry::start(&world);
        world.file("f", "x").file_mode("hello", foreign::hello(Cpu::Arm64), 0o755).file_mode(
            "mkdir",
            foreign::mkdir(Cpu::Arm64),
            0o755,
        );
        let name = registry.image("app:1");
        let owners = if who == Who::User {
            "COPY --chown=ann:staff f /owned\nRUN chown 5:6 /tmp && touch /by-root\n"
        } else {
            "COPY --chown=ann:staff f /owned\n"
        };
        let dockerfile = format!(
            "FROM base\nCOPY f /f\n{owners}RUN --mount=type=cache,target=/c id -u > /id && rm /etc/group && mkdir -p /d/e && mv /d /moved\nRUN rmdir /moved/e\n"
        );
        let built = world.build(&dockerfile, &["-t", &name, "--push", "--load"]);
        built.ok();
        let script = "cat /f /id; stat -c %u:%g /owned; ls /moved; ls /etc/group 2>/dev/null";
        let owner = if who == Who::User { "1000:50" } else { "0:0" };
        assert_eq!(world.sh(&name, script), format!("x0\n{owner}\n"), "as {who:?}");
        assert_eq!(world.build(&dockerfile, &["-t", &name]).executed(), [""; 0], "as {who:?}");
        // A foreign platform.
        let foreign = "FROM scratch\nCOPY hello mkdir /\nRUN [\"/mkdir\", \"/made\"]\n";
        world.build(foreign, &["-t", "arm64", "--platform", "linux/arm64"]).ok();
        let ran = world.run(&["run", "--platform", "linux/arm64", "arm64", "/hello"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(42), "/hello"), "as {who:?}: {}", ran.err);
        // Others can use what was published.
        let fresh = World::new();
        fresh.run(&["pull", &name]).ok();
        assert_eq!(fresh.sh(&name, script), format!("x0\n{owner}\n"), "as {who:?}");
        let ran = world.run(&[
            "run",
            "-u",
            "0",
            "-v",
            &format!("{}:/v:ro", world.text("context")),
            "base",
            "cat",
            "/v/f",
        ]);
        assert_eq!(ran.ok(), "x");
        world.run(&["rmi", &name, "arm64"]).ok();
        world.run(&["system", "prune", "-af"]).ok();
    }
    assert_eq!(host_handlers(), before);
}

#[test]
fn ids_that_a_user_does_not_have_are_no_others() {
    require("newuidmap", "uidmap");
    let world = World::of(Who::User).load_base();
    world.file("f", "x").file("d/f", "x");
    for dockerfile in [
        "FROM base\nCOPY --chown=1000660000:0 f /f\n",
        "FROM base\nCOPY --chown=0:1000660000 d /d\n",
        "FROM base\nCOPY --chown=1000660000 f /new/f\n",
        "FROM base\nUSER 1000660000\nWORKDIR /w\n",
    ] {
        let error = world.build(dockerfile, &["-t", "t"]).fails(1);
        assert!(error.contains("outside the ids of this user") && error.contains("/etc/subuid"), "{error}");
        assert!(!error.contains("begins again"), "{error}");
    }
}

#[test]
fn what_was_made_with_a_single_id_is_not_taken_with_more() {
    require("newuidmap", "uidmap");
    let world = World::of(Who::User).load_base();
    world.file("f", "x");
    let dockerfile = "FROM base\nCOPY --chown=5:6 f /f\nRUN touch /r && chown 7:8 /r\n";
    world.building(dockerfile, &["-t", "t"]).env("CROSSDOCK_SINGLE_ID", "1").run().ok();
    let again = world.build(dockerfile, &["-t", "t"]);
    assert_eq!(again.executed().len(), 2, "{}", again.err);
    assert_eq!(world.sh("t", "stat -c %u:%g /f /r"), "5:6\n7:8\n");
}

#[test]
fn changes_of_user_are_pretended_with_a_single_id() {
    let world = World::of(Who::SingleId).load_base();
    world.run(&["run", "-u", "ann", "base", "test", "-e", "/etc/passwd"]).ok();
    world
        .build(
            "FROM base\nUSER ann\nRUN echo x > /tmp/x\nUSER root\nRUN chown ann /tmp/x && su ann -c true\n",
            &[],
        )
        .ok();
    // Owners in an archive, such as a base image's layer, are ignored, too.
    let mut header = LayerTar::header(tar::EntryType::Regular, "f", 0o644);
    header.set_uid(5);
    header.set_gid(42);
    header.set_size(1);
    let archive = LayerTar::new().raw(header, b"x").finish();
    world.file("a.tar", archive);
    world.build("FROM base\nADD a.tar /\n", &["-t", "t"]).ok();
    assert_eq!(world.sh("t", "stat -c %u:%g /f"), "0:0\n");
}

/// As for sudo and su: setuid bits, setgid bits and file capabilities of foreign programs count as those of
/// native ones, whichever program executes them, and the caller's environment and arguments cannot misuse
/// these rights.
#[test]
fn foreign_programs_have_the_rights_of_their_files() {
    our_emulator();
    let world = World::new();
    for (compiler, package, platform) in
        [("gcc", "gcc", "linux/amd64"), ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "linux/arm64")]
    {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/setuid.c");
        let compiled = Command::new(require(compiler, package))
            .args(["-static", "-O1", "-w", "-o"])
            .args([world.path("context/program"), source])
            .status();
        assert!(compiled.expect("the compiler runs").success());
        let dockerfile = "FROM scratch
COPY --chmod=755 program /plain
COPY --chmod=755 program /capable
COPY --chmod=4755 program /setuid
COPY --chmod=4755 program /--guest-exec
COPY --chmod=2755 --chown=0:7 program /setgid
RUN [\"/plain\", \"give\"]
USER 1000:1001
ENV QEMU_SET_ENV=SET_BY_EMULATOR=yes
RUN [\"/plain\"]
RUN [\"/setuid\"]
RUN [\"/plain\", \"/setuid\"]
RUN [\"/plain\", \"/setgid\"]
RUN [\"/plain\", \"/capable\"]
RUN [\"/plain\", \"/plain\"]
RUN [\"/plain\", \"pretend\"]
";
        let built = world.build(dockerfile, &["--platform", platform, "--emulator", "builtin"]);
        assert_eq!(built.code, Some(0), "{}", built.err);
        let lines: Vec<&str> = built.err.lines().filter_map(|line| Some(line.split_once(" /")?.1)).collect();
        let lines: Vec<&str> = lines.into_iter().filter(|line| line.contains(": ids ")).collect();
        // An emulator that starts without added rights heeds the environment of the step, or of the program
        // in it.
        let heeded = if platform == "linux/arm64" { "yes" } else { "none" };
        let first = format!("plain: ids 1000 1000 1001 1001, capabilities 0, secure 0, variable {heeded}");
        assert_eq!(
            lines,
            [
                first.as_str(),
                "setuid: ids 1000 0 1001 1001, capabilities a80425fb, secure 1, variable none",
                "setuid: ids 1000 0 1001 1001, capabilities a80425fb, secure 1, variable none",
                "setgid: ids 1000 1000 1001 7, capabilities 0, secure 1, variable none",
                "capable: ids 1000 1000 1001 1001, capabilities 400, secure 1, variable none",
                first.as_str(),
                "--guest-exec: ids 1000 0 1001 1001, capabilities a80425fb, secure 1, variable none",
            ],
            "{platform}: {}",
            built.err
        );
    }
}

#[test]
fn a_store_of_somebody_else_is_refused() {
    let world = World::of(Who::User);
    let other = World::with_base();
    let ran = world.crossdock_at(&other.store(), &["build", "-t", "x", "context"]).run();
    if crate::support::is_root() {
        assert!(ran.code == Some(1) && ran.err.contains("store") && !ran.err.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn a_file_that_the_user_cannot_read_is_named() {
    if !crate::support::is_root() {
        return;
    }
    let world = World::of(Who::User).load_base();
    world.file("f", "x").file("in/secret", "x").file("locked/x", "x");
    world.building("FROM base\nCOPY . /\n", &[]).run().ok();
    let own = |path: &str, mode: u32| {
        let path = world.path("context").join(path);
        std::os::unix::fs::chown(&path, Some(0), Some(0)).expect("root");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("mode");
    };
    let build = |dockerfile: &str| {
        std::fs::write(world.path("context/Dockerfile"), dockerfile).expect("a file");
        world.run(&["build", "context"])
    };
    own("in/secret", 0o600);
    for dockerfile in ["FROM base\nCOPY . /\n", "FROM base\nCOPY in/ /in/\n"] {
        build(dockerfile).fails_with(&["cannot read \"in/secret\"", "Permission denied", ".dockerignore"]);
    }
    std::fs::write(world.path("context/.dockerignore"), "in/secret\n").expect("a file");
    build("FROM base\nCOPY . /\n").ok();
    own("locked", 0o700);
    build("FROM base\nCOPY . /\n").fails_with(&["cannot read \"locked\"", "Permission denied"]);
}
