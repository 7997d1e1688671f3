//! file, ldd, binfmt, doctor, emulate, unshare: commands about programs and about this machine.

use std::path::Path;
use std::process::Command;

use crossdock_testkit::foreign::{self, Cpu};
use serde_json::Value;

use crate::support::{World, host_handlers, is_root, our_emulator, require};

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
    // Links are resolved inside the image.
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
    // The program is copied into a root that lacks the libraries.
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

/// A dynamic program whose loader and libraries are in the root of another system.
#[test]
fn dynamic_programs_find_their_libraries_in_the_sysroot() {
    let world = World::new();
    world.file(
        "main.c",
        "#include <stdio.h>\nint main(int c, char **v) { printf(\"%d %s\\n\", c, v[1]); return 7; }\n",
    );
    let program = world.text("context/main");
    let mut compiler = Command::new("aarch64-linux-gnu-gcc");
    let compiled = compiler.args(["-o", &program, &world.text("context/main.c")]).status();
    assert!(compiled.expect("apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross").success());
    let help = Command::new(our_emulator()).arg("--help").output().expect("the emulator runs");
    let ours_can = String::from_utf8_lossy(&help.stdout).contains("-L DIR");
    for choice in if ours_can { &["qemu", "builtin", "auto"][..] } else { &["qemu"] } {
        let sysroot = "/usr/aarch64-linux-gnu";
        let ran = world.run(&["emulate", "--emulator", choice, "--sysroot", sysroot, &program, "-x"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(7), "2 -x\n"), "{choice}: {}", ran.err);
    }
    if !Path::new("/lib/ld-linux-aarch64.so.1").exists() {
        world.run(&["emulate", &program]).fails_with(&["/lib/ld-linux-aarch64.so.1", "--sysroot DIR"]);
    }
}

/// All commands run in a user namespace, which has its own binfmt_misc (Linux 6.7) and /etc.
#[test]
fn our_emulator_is_registered_for_everybody() {
    let before = host_handlers();
    let world = World::with_base();
    world.file_mode("hello", foreign::hello(Cpu::Arm64), 0o755);
    copy_programs(&world);
    let script = r#"
        cd "$1"
        ./crossdock binfmt install arm64 2>&1 && exit 1
        mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc || exit 1
        ./crossdock binfmt status
        # A file in a directory that others may write to is refused.
        ./crossdock binfmt install --emulator builtin --persist arm64 2>&1 && exit 1
        ls /proc/sys/fs/binfmt_misc | grep crossdock
        ./crossdock binfmt install --emulator builtin linux/arm64 || exit 1
        ./crossdock binfmt status
        grep -E 'flags|magic' /proc/sys/fs/binfmt_misc/crossdock-arm64
        # The kernel opened the file at the registration.
        mv crossdock-emu moved
        context/hello; echo " $?"
        mv moved crossdock-emu
        ./crossdock binfmt install --emulator builtin arm64 && context/hello; echo " $?"
        ./crossdock binfmt uninstall arm64 || exit 1
        context/hello 2>/dev/null || echo " $?"
        ./crossdock binfmt uninstall arm64 2>&1 || echo "status $?"
    "#;
    let text = in_user_namespace(script, &world);
    let here = world.text("crossdock-emu");
    let expected = [
        "error: binfmt_misc is not mounted on this machine: sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc".to_string(),
        "binfmt_misc is enabled".to_string(),
        "no handler for another CPU is registered".to_string(),
        format!("error: {here}: {} can be changed by others than root", world.directory.path().parent().expect("a directory").display()),
        format!("registered {here} for arm64"),
        "binfmt_misc is enabled".to_string(),
        "ARCHITECTURE HANDLER STATE FLAGS NAME".to_string(),
        format!("arm64 {here} enabled POCF crossdock-arm64"),
        "flags: POCF".to_string(),
        "magic 7f454c460201010000000000000000000200b700".to_string(),
        "context/hello 42".to_string(),
        format!("registered {here} for arm64"),
        "context/hello 42".to_string(),
        "removed the handler for arm64".to_string(),
        "126".to_string(),
        "no handler of ours for arm64".to_string(),
        "status 1".to_string(),
    ];
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(&expected) {
        assert!(line.starts_with(expected.as_str()), "{line:?} should begin with {expected:?}:\n{text}");
    }
    assert_eq!(host_handlers(), before);
}

/// From a user namespace that sees the machine's handlers, only --host changes them.
#[test]
fn the_machines_handlers_are_not_changed_from_a_user_namespace_by_accident() {
    let world = World::new();
    copy_programs(&world);
    // The outer namespace stands for the machine.
    let script = r#"
        cd "$1"
        mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc || exit 1
        ./crossdock binfmt install --emulator builtin arm64
        unshare --user --map-root-user --mount sh -c '
            ./crossdock binfmt uninstall arm64 2>&1; ./crossdock binfmt install --emulator builtin arm64 2>&1
            ./crossdock binfmt uninstall --host arm64 2>&1
            mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc && ./crossdock binfmt install --emulator builtin arm64'
        ls /proc/sys/fs/binfmt_misc | grep -c crossdock; true
    "#;
    let text = in_user_namespace(script, &world);
    let here = world.text("crossdock-emu");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("registered {here} for arm64"), "{text}");
    for line in &lines[1..3] {
        assert!(line.starts_with("error: this user namespace has no binfmt_misc of its own"), "{text}");
    }
    assert_eq!(lines[3..], ["removed the handler for arm64", lines[0], "0"], "{text}");
}

/// The file written for systemd, whose emulator must be one that only root can change.
#[test]
fn a_registration_for_every_start_names_a_file_that_stays() {
    if !crate::support::is_root() {
        // In an ordinary user's namespace the system's directories do not belong to its root.
        return;
    }
    let world = World::new();
    copy_programs(&world);
    let script = r#"
        cd "$1"
        mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc && mount -t tmpfs -o mode=755 tmpfs /mnt &&
            mount -t tmpfs tmpfs /etc && cp crossdock crossdock-emu /mnt || exit 1
        cd /mnt
        ./crossdock binfmt install --emulator builtin --persist arm64 || exit 1
        ls /etc /etc/binfmt.d; cat /etc/binfmt.d/*
        cat /proc/sys/fs/binfmt_misc/crossdock-arm64 | grep interpreter
        ./crossdock binfmt uninstall --persist arm64; ls /etc/binfmt.d
        chmod 775 /mnt; ./crossdock binfmt install --emulator builtin --persist arm64 2>&1; ls /etc/binfmt.d
    "#;
    let text = in_user_namespace(script, &world);
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "registered /mnt/crossdock-emu for arm64",
        "wrote /etc/binfmt.d/crossdock-arm64.conf, read at every start by systemd",
        "/etc:",
        "binfmt.d",
        "",
        "/etc/binfmt.d:",
        "crossdock-arm64.conf",
        r":crossdock-arm64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff:/mnt/crossdock-emu:POCF",
        "interpreter /mnt/crossdock-emu",
        "removed the handler for arm64",
        "removed its file in binfmt.d",
        "error: /mnt/crossdock-emu: /mnt can be changed by others than root, and with --persist it would be registered at every start of the machine; install it first: sudo install /mnt/crossdock-emu /usr/local/bin/",
    ];
    assert_eq!(lines, expected, "{text}");
}

/// Copies crossdock and its emulator into the directory of the test, which a user namespace may change.
fn copy_programs(world: &World) {
    for program in [Path::new(env!("CARGO_BIN_EXE_crossdock")), our_emulator()] {
        let copied = Command::new("cp").arg(program).arg(world.directory.path()).status();
        assert!(copied.expect("cp runs").success());
    }
}

/// Runs a script as root of namespaces of its own and returns its output; `$1` is the world's directory.
fn in_user_namespace(script: &str, world: &World) -> String {
    // Covers the machine's mount, so that the script neither sees nor changes it.
    let script = format!("mount -t tmpfs tmpfs /proc/sys/fs/binfmt_misc || exit 1\n{script}");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
        .arg(world.directory.path())
        .env("XDG_DATA_HOME", world.path("data"))
        .output()
        .expect("unshare runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_doctor_speaks_json_too() {
    let world = World::new();
    let text = world.run(&["doctor"]);
    assert!(text.out.contains("overlay") && text.out.contains("emulator"), "{text:?}");
    let json: Value = serde_json::from_str(&world.run(&["doctor", "--json"]).out).expect("JSON");
    let checks = json.as_array().expect("a list");
    for name in ["emulator for arm", "emulator for arm64"] {
        let check = checks.iter().find(|check| check["name"] == name).expect("there");
        let is_qemu = check["what"].to_string().contains("qemu-");
        assert_eq!(check["notes"] == serde_json::json!([]), !is_qemu, "{check}");
    }
}

/// Without our emulator beside crossdock, QEMU's faults are named.
#[test]
fn the_doctor_names_faults_of_qemu() {
    require("qemu-arm-static", "qemu-user-static");
    let world = World::new();
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_crossdock")).arg(world.directory.path()).status();
    assert!(copied.expect("cp runs").success());
    let text = world.copied(&["doctor"]).run();
    assert!(text.out.contains("note: QEMU: readdir of 32-bit programs fails"), "{text:?}");
}

/// If our emulator is not beside crossdock, QEMU's is used; doctor shows which one it is.
#[test]
fn the_emulator_beside_crossdock_comes_first() {
    let qemu = require("qemu-aarch64-static", "qemu-user-static");
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
    assert!(emulator_of("arm").starts_with(&format!("{ours}: crossdock-emu ")));
    assert!(emulator_of("riscv64").starts_with(&format!("{ours}: crossdock-emu ")));
    let refused = world.copied(&["binfmt", "print", "--emulator", "builtin", "s390x"]).run();
    refused.fails_with(&["crossdock-emu runs programs for arm64, arm, riscv64 only", "--emulator qemu"]);
    // A file that is no emulator counts as missing.
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
        let traced = world.run(&["emulate", "--emulator", choice, "--trace", "syscalls", &program]);
        assert_eq!(
            (traced.code, traced.out.as_str()),
            (Some(42), program.as_str()),
            "{choice}: {}",
            traced.err
        );
        assert!(traced.err.contains("write(1,"), "{choice}: {}", traced.err);
    }
    let program = world.text("context/hello");
    let traced = world.run(&["emulate", "--emulator", "builtin", "--trace", "blocks", &program]);
    assert!(traced.code == Some(42) && traced.err.contains("(/"), "{}", traced.err);
    world.run(&["emulate", "--trace", "syscalls", "/bin/true"]).fails_with(&["/bin/true", "strace"]);
    let native = world.run(&["emulate", "/bin/sh", "-c", "exit 3"]);
    assert_eq!(native.code, Some(3), "{}", native.err);
    let no_program = world.run(&["emulate", "/etc/passwd"]).fails(126);
    assert!(no_program.contains("/etc/passwd") && no_program.contains("ELF"), "{no_program}");
    assert!(world.run(&["emulate", "/no/such"]).fails(127).contains("/no/such"));
    let program = world.text("context/hello");
    world.run(&["emulate", "--emulator", "/no/such", &program]).fails_with(&["/no/such"]);
    // `unshare` makes a namespace in which such programs just run.
    for platform in [&["--platform", "linux/arm64"][..], &[]] {
        let command = ["sh", "-c", &format!("id -u; {program}")];
        let ran = world.run(&[&["unshare"], platform, &command].concat());
        assert_eq!((ran.code, ran.out), (Some(42), format!("0\n{program}")), "{}", ran.err);
    }
}

/// Runs a script whose commands may not make user namespaces; returns its output.
fn forbidden(world: &World, script: &str) -> String {
    let crossdock = env!("CARGO_BIN_EXE_crossdock");
    // The namespace's limit holds for its processes, and none of them has the right to lift it.
    let outer = "echo 0 > /proc/sys/user/max_user_namespaces || exit 9
        exec setpriv --inh-caps=-all --bounding-set=-all --no-new-privs sh -c \"$1\"";
    let mut command = Command::new(require("unshare", "util-linux"));
    command.args(["-Ur", "sh", "-c", outer, "sh", &format!("alias crossdock={crossdock}\n{script}")]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", world.path("home"));
    command.env("CROSSDOCK_ROOT", world.store()).current_dir(world.directory.path());
    let ran = command.output().expect("unshare runs");
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

#[test]
fn where_user_namespaces_are_forbidden_files_can_still_be_copied() {
    let allowed = World::with_base();
    let base = "FROM base\nRUN mkdir -p /data/deep /gone/x && ln -s data /link && chmod 750 /data\n\
        RUN rm -r /gone && mkdir -p /usr/share /etc && echo old > /z && echo app:x:7:7::/: > /etc/passwd\n\
        RUN echo below > /data/file && rm /z && echo newer > /z && ln /z /data/hard\n";
    allowed.build(base, &["-t", "below", "--load", "-o", "type=oci,dest=below.tar"]).ok();
    let dockerfile = "FROM below\nCOPY file /link/deep/\nCOPY tree /usr/share/tree\nADD file /new/dir/f\n\
        WORKDIR /gone/x\nCOPY file /z\nCOPY --from=below /data/file /z /gon[e] /link /from/\nCOPY --from=below / /all/\n\
        CMD [\"cat\", \"/z\"]\n";
    let copies = |world: &World| {
        world.file("file", "new\n").file("tree/leaf", "leaf\n").file("Dockerfile", dockerfile);
    };
    copies(&allowed);
    let archive = allowed.path("below.tar");
    let world = World::new();
    copies(&world);
    let out = forbidden(
        &world,
        &format!(
            "crossdock load -q -i {} && crossdock build -q -t app context && crossdock save -o app.tar app && echo saved
             printf 'FROM below\\nCOPY --chown=app file /c\\n' > context/chown; crossdock build -q -f context/chown context; echo \"chown: $?\"
             crossdock file --image below /bin/busybox | grep -o 'ELF 64-bit'
             crossdock run app; echo \"run: $?\"; printf 'FROM below\\nRUN true\\n' | crossdock build -; echo \"build: $?\"",
            archive.display()
        ),
    );
    assert!(out.contains("saved") && out.contains("run: 125") && out.contains("build: 1"), "{out}");
    assert!(out.contains("chown: 0\nELF 64-bit\n"), "{out}");
    assert_eq!(out.matches("error: failed to build: cannot run").count(), 1, "{out}");
    assert!(out.contains("user.max_user_namespaces is 0"), "{out}");
    // The image is the same as one built with namespaces.
    allowed.run(&["load", "-q", "-i", &world.text("app.tar")]).ok();
    assert_eq!(allowed.run(&["run", "app"]).ok(), "new\n");
    let seen =
        "stat -c '%a %n' /data /data/deep /gone /gone/x /new/dir; cat /link/deep/file /usr/share/tree/leaf";
    assert_eq!(
        allowed.sh("app", seen),
        "750 /data\n755 /data/deep\n755 /gone\n755 /gone/x\n755 /new/dir\nnew\nleaf\n"
    );
    allowed.build(dockerfile, &["-t", "peer"]).ok();
    let count = allowed.inspect("peer")["Manifest"]["layers"].as_array().expect("layers").len();
    for layer in 0..count {
        assert_eq!(allowed.layer("app", layer), allowed.layer("peer", layer), "layer {layer}");
    }
}

/// Inside a container the root is on overlayfs, which cannot hold the upper directory of another overlay.
#[test]
fn a_store_on_overlayfs_is_told_with_a_place_that_works() {
    let world = World::new();
    world.busybox();
    world.file("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN true\n");
    for part in ["lower", "upper", "work", "inside"] {
        std::fs::create_dir(world.path(part)).expect("a directory");
    }
    let crossdock = env!("CARGO_BIN_EXE_crossdock");
    let script = format!(
        "mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay inside || exit 9
         export CROSSDOCK_ROOT=$PWD/inside/store
         {crossdock} doctor
         {crossdock} build context 2>&1; echo \"built: $?\""
    );
    let flags = if is_root() { "-m" } else { "-Urm" };
    let mut ran = std::process::Command::new("unshare");
    ran.args([flags, "sh", "-c", &script]).current_dir(world.directory.path());
    let ran = ran.output().expect("unshare runs");
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(out.contains("built: 1"), "{out}{}", String::from_utf8_lossy(&ran.stderr));
    let line = out.lines().find(|line| line.contains("  overlay  ")).expect("doctor tells");
    assert!(line.starts_with("FAIL") && line.contains("inside/store is on overlay"), "{line}");
    let error = out.lines().find(|line| line.starts_with("error: ")).expect("the build fails");
    assert!(error.contains("on overlay") && error.contains("--root DIR or CROSSDOCK_ROOT=DIR"), "{error}");
    // The directory that the error names works.
    if let Some(place) = error.split("for example ").nth(1).filter(|_| is_root()) {
        let store = format!("{place}-test-{}", std::process::id());
        world.crossdock_at(std::path::Path::new(&store), &["build", "context"]).run().ok();
        std::fs::remove_dir_all(&store).expect("removed");
    }
}
