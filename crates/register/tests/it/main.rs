//! The program registers and removes handlers in a user namespace whose binfmt_misc stands for the machine's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crossdock_testkit::foreign::{self, Cpu};

/// The program, the emulator, and foreign programs in a directory of their own.
struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let directory = tempfile::tempdir().expect("a directory");
        let program = Path::new(env!("CARGO_BIN_EXE_crossdock-register"));
        for path in [program.to_path_buf(), emulator(program)] {
            let copied = Command::new("cp").arg(&path).arg(directory.path()).status();
            assert!(copied.expect("cp runs").success(), "{}", path.display());
        }
        for (name, cpu) in [("hello-arm64", Cpu::Arm64), ("hello-arm", Cpu::Arm)] {
            let path = directory.path().join(name);
            fs::write(&path, foreign::hello(cpu)).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        Machine { directory }
    }

    /// Runs a script as root of namespaces of its own; both outputs, one after the other.
    fn sh(&self, script: &str) -> String {
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .current_dir(self.directory.path())
            .output()
            .expect("unshare runs (package util-linux)");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }
}

/// Our emulator, beside the program in cargo's target directory; built if only this package is tested.
fn emulator(program: &Path) -> PathBuf {
    let path = program.with_file_name("crossdock-emu");
    if !path.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--quiet", "--package", "crossdock-emu"]).status();
        assert!(built.expect("cargo runs").success());
    }
    path
}

/// The namespace's own binfmt_misc, made before, as the machine's is there before the container.
const OWN: &str = "mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc || exit 9\n";

#[test]
fn emulators_are_registered_and_removed() {
    let machine = Machine::new();
    let text = machine.sh(&format!(
        "{OWN} ./crossdock-register | tr -d ' \\n'; echo
         ./crossdock-register --install all >/dev/null 2>&1; ./hello-arm64; echo; ./hello-arm; echo
         cat /proc/sys/fs/binfmt_misc/crossdock-arm64 | grep flags
         ./crossdock-register --install arm64 -p no -c no | tr -d ' \\n'; echo
         cat /proc/sys/fs/binfmt_misc/crossdock-arm64 | grep flags
         ./crossdock-register --uninstall arm64 | tr -d ' \\n'; echo
         ./crossdock-register --uninstall 'crossdock-*' | tr -d ' \\n'; echo"
    ));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("re")).collect();
    assert_eq!(lines.len(), 8, "{text}");
    assert!(lines[0].starts_with("{\"supported\":[") && lines[0].ends_with("\"emulators\":[]}"), "{text}");
    assert!(lines[0].contains("\"linux/amd64\"") && !lines[0].contains("arm"), "{text}");
    // Each program prints its argv[0].
    assert_eq!(lines[1..3], ["./hello-arm64", "./hello-arm"], "{text}");
    assert_eq!((lines[3], lines[5]), ("flags: POCF", "flags: PO"), "{text}");
    assert!(lines[4].contains("\"linux/arm64\"") && lines[4].contains("\"linux/arm/v7\""), "{text}");
    assert!(lines[6].ends_with("\"emulators\":[\"crossdock-arm\",\"crossdock-riscv64\"]}"), "{text}");
    assert!(lines[7].ends_with("\"emulators\":[]}"), "{text}");
}

#[test]
fn a_reset_removes_what_others_have_registered() {
    let machine = Machine::new();
    let line = r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/bin/false:";
    let text = machine.sh(&format!(
        "{OWN} cd /proc/sys/fs/binfmt_misc; printf '%s' '{line}' > register; cd - >/dev/null
         ./crossdock-register | grep -c qemu-aarch64
         ./crossdock-register --reset -p yes 2>/dev/null | grep -c qemu-aarch64
         ./hello-arm64"
    ));
    assert_eq!(text, "1\n0\n./hello-arm64");
}

#[test]
fn refusals_say_what_to_do() {
    let machine = Machine::new();
    // A container of a user who is not root.
    let covered = "mount -t tmpfs tmpfs /proc/sys/fs/binfmt_misc; ./crossdock-register --install all";
    let text = machine.sh(covered);
    assert!(text.starts_with("error: this container is root in a user namespace only"), "{text}");
    let text = machine.sh(&format!("{OWN} ./crossdock-register --install s390x"));
    assert!(
        text.contains("emulators for arm64, arm, riscv64 only; take tonistiigi/binfmt for others"),
        "{text}"
    );
    let text = machine.sh("./crossdock-register --mount /nowhere");
    assert!(text.contains("cannot be mounted at /nowhere") && text.contains("--privileged"), "{text}");
    let text = machine.sh(&format!("{OWN} ./crossdock-register --install all -p maybe"));
    assert!(text.contains("--persistent maybe: it is yes or no"), "{text}");
}
