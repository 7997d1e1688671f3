//! file, ldd, binfmt, doctor, emulate, unshare: what looks at programs and at this machine.

use std::path::Path;
use std::process::Command;

use crossdock_testkit::foreign::{self, Cpu};
use serde_json::Value;

use crate::support::{World, host_handlers, our_emulator, require};

#[test]
fn files_are_described() {
    let world = World::with_base();
    world.file_mode("arm64", foreign::hello(Cpu::Arm64), 0o755).file_mode(
        "arm",
        foreign::hello(Cpu::Arm),
        0o755,
    );
    world.file_mode("script", "#!/bin/sh -e\n", 0o755).file("text", "text").file("empty", "");
    let path = |name: &str| world.text(&format!("context/{name}"));
    let args = ["arm64", "arm", "script", "text", "empty", ""].map(path);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let text = world.run(&[&["file"], &args[..]].concat()).ok();
    let lines: Vec<&str> = text.lines().map(|line| line.split_once(": ").expect("a name").1).collect();
    assert!(
        lines[0].starts_with("ELF 64-bit LSB executable, ARM aarch64") && lines[0].ends_with("[linux/arm64]"),
        "{text}"
    );
    assert!(lines[1].contains("EABI5") && lines[1].contains("[linux/arm"), "{text}");
    assert_eq!(
        lines[2..],
        ["script, interpreter /bin/sh -e", "data (not an ELF file)", "empty", "directory"]
    );
    let missing = world.run(&["file", "/no/such/file"]);
    assert!(missing.code == Some(1) && missing.out.contains("cannot open"), "{missing:?}");
    let json: Value = serde_json::from_str(&world.run(&["file", "--json", args[0]]).ok()).expect("JSON");
    assert_eq!((&json[0]["elf"]["platform"], &json[0]["elf"]["bits"]), (&"linux/arm64".into(), &64.into()));
}

#[test]
fn files_inside_images() {
    let world = World::with_base();
    world.file_mode("hello", foreign::hello(Cpu::Arm64), 0o755);
    world.build("FROM scratch\nCOPY hello /bin/hello\n", &["-t", "t", "--platform", "linux/arm64"]).ok();
    let brief = world.run(&["file", "--image", "t", "--platform", "linux/arm64", "-b", "/bin/hello"]).ok();
    assert!(brief.contains("ARM aarch64"), "{brief}");
    // Links are those of the image.
    let text = world.run(&["file", "--image", "base", "/bin/sh", "bin/busybox", "/etc"]).ok();
    assert_eq!(text.matches("statically linked").count(), 2, "{text}");
    assert_eq!(world.run(&["ldd", "--image", "base", "/bin/sh"]).ok().trim(), "statically linked");
    world.run(&["ldd", "--image", "base", "/no/such"]).fails_with(&["/no/such"]);
    world.run(&["ldd", "--image", "absent", "--platform", "linux/amd64", "/x"]).fails(1);
}

#[test]
fn libraries_are_those_of_ldd() {
    let world = World::new();
    let program = std::fs::canonicalize("/bin/sh").expect("there");
    let program = program.to_str().expect("UTF-8");
    let ours = world.run(&["ldd", program]).ok();
    let theirs = Command::new("ldd").arg(program).output().expect("ldd runs");
    let theirs = String::from_utf8_lossy(&theirs.stdout).into_owned();
    for line in theirs.lines().filter_map(|line| line.trim().split_once(" => ")) {
        let path = line.1.split(" (").next().expect("a path");
        assert!(ours.contains(&format!("{} => {path}", line.0)), "{ours} and {theirs}");
    }
    // Copied into a root that lacks the libraries.
    let root = world.path("root");
    std::fs::create_dir_all(root.join("bin")).expect("a directory");
    std::fs::copy(program, root.join("bin/sh")).expect("copied");
    let ran = world.run(&["ldd", "--sysroot", "root", "/bin/sh"]);
    assert!(ran.code == Some(1) && ran.out.contains("libc.so.6 => not found"), "{ran:?}");
}

#[test]
fn registrations_are_printed_and_not_made() {
    require("qemu-aarch64-static", "qemu-user-static");
    let before = host_handlers();
    let world = World::new();
    let printed = world.run(&["binfmt", "print", "--emulator", "qemu", "arm64"]).ok();
    let line = printed.lines().last().expect("a line");
    assert!(
        line.starts_with(":")
            && line.contains(r"\x7f\x45\x4c\x46\x02\x01\x01")
            && line.contains("qemu-aarch64-static"),
        "{printed}"
    );
    assert!(printed.contains("# arm64, flags:"), "{printed}");
    let ours = our_emulator().display();
    for choice in ["auto", "builtin"] {
        let printed = world.run(&["binfmt", "print", "--emulator", choice, "linux/arm64"]).ok();
        assert!(printed.ends_with(&format!(":{ours}:POCF\n")), "{printed}");
    }
    world.run(&["binfmt", "print"]).ok();
    world.run(&["binfmt", "status"]).ok();
    world.run(&["binfmt", "print", "vax"]).fails_with(&["vax"]);
    assert_eq!(host_handlers(), before);
}

#[test]
fn the_doctor_speaks_json_too() {
    let world = World::new();
    let text = world.run(&["doctor"]);
    assert!(text.out.contains("overlay") && text.out.contains("emulator"), "{text:?}");
    let json: Value = serde_json::from_str(&world.run(&["doctor", "--json"]).out).expect("JSON");
    assert!(json.is_object() || json.is_array(), "{json}");
}

/// Where our emulator is not beside crossdock, QEMU's is taken; what is there is told by the doctor.
#[test]
fn the_emulator_beside_crossdock_comes_first() {
    let qemu = require("qemu-aarch64-static", "qemu-user-static");
    let arm = require("qemu-arm-static", "qemu-user-static");
    let world = World::new();
    let copy = |from: &Path| {
        let copied = Command::new("cp").arg(from).arg(world.directory.path()).status();
        assert!(copied.expect("cp runs").success());
    };
    let emulator_of = |architecture: &str| {
        let name = format!("emulator for {architecture}");
        let json = world.copied(&["doctor", "--json"]).run().out;
        let checks: Vec<Value> = serde_json::from_str(&json).expect("JSON");
        let check = checks.into_iter().find(|check| check["name"] == name.as_str()).expect("there");
        assert_eq!(check["status"], "ok", "{check}");
        check["what"].as_str().expect("text").to_string()
    };
    copy(Path::new(env!("CARGO_BIN_EXE_crossdock")));
    let canonical = |path: &Path| std::fs::canonicalize(path).expect("there").display().to_string();
    assert!(emulator_of("arm64").starts_with(&canonical(&qemu)));
    copy(our_emulator());
    let found = emulator_of("arm64");
    let ours = canonical(&world.path("crossdock-emu"));
    assert!(found.starts_with(&format!("{ours}: crossdock-emu ")), "{found}");
    assert!(emulator_of("arm").starts_with(&canonical(&arm)));
    let refused = world.copied(&["binfmt", "print", "--emulator", "builtin", "arm"]).run();
    refused.fails_with(&["crossdock-emu runs programs for arm64 only", "--emulator qemu"]);
    // A file that is none is as good as no file.
    std::fs::remove_file(world.path("crossdock-emu")).expect("removed");
    std::fs::write(world.path("crossdock-emu"), "#!/bin/sh\n").expect("a file");
    assert!(emulator_of("arm64").starts_with(&canonical(&qemu)));
    let refused = world.copied(&["binfmt", "print", "--emulator", "builtin", "arm64"]).run();
    refused.fails_with(&["crossdock-emu is neither beside crossdock nor in PATH", "copy crossdock-emu"]);
}

#[test]
fn single_programs_are_emulated() {
    require("qemu-aarch64-static", "qemu-user-static");
    our_emulator();
    let world = World::new();
    world.file_mode("hello", foreign::hello(Cpu::Arm64), 0o755).file_mode(
        "hello-arm",
        foreign::hello(Cpu::Arm),
        0o755,
    );
    for name in ["hello", "hello-arm"] {
        let program = world.text(&format!("context/{name}"));
        let ran = world.run(&["emulate", &program, "--flag"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(42), program.as_str()), "{}", ran.err);
    }
    for choice in ["builtin", "qemu"] {
        let program = world.text("context/hello");
        let ran = world.run(&["emulate", "--emulator", choice, &program]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(42), program.as_str()), "{choice}: {}", ran.err);
    }
    let native = world.run(&["emulate", "/bin/sh", "-c", "exit 3"]);
    assert_eq!(native.code, Some(3), "{}", native.err);
    world.run(&["emulate", "/etc/passwd"]).fails_with(&["/etc/passwd", "ELF"]);
    world.run(&["emulate", "/no/such"]).fails_with(&["/no/such"]);
    let program = world.text("context/hello");
    world.run(&["emulate", "--emulator", "/no/such", &program]).fails_with(&["/no/such"]);
    // In a namespace where such programs just run.
    let ran = world.run(&["unshare", "--platform", "linux/arm64", "sh", "-c", &format!("id -u; {program}")]);
    assert_eq!((ran.code, ran.out), (Some(42), format!("0\n{program}")), "{}", ran.err);
}
