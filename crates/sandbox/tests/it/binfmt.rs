//! Programs of other architectures, run by QEMU, which is registered for the sandbox only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crossdock_testkit::foreign::{self, Cpu};

use crate::support::{Sandbox, Who, copy_program, require};

fn write(path: &Path, content: &[u8]) {
    let written = path.with_extension("written");
    fs::write(&written, content).expect("a program");
    fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).expect("mode");
    copy_program(&written, path);
    fs::remove_file(written).expect("removed");
}

fn with_programs(who: Who, script: &str) -> Sandbox {
    require("qemu-aarch64-static", "qemu-user-static");
    require("qemu-arm-static", "qemu-user-static");
    let sandbox = Sandbox::new(who, script);
    write(&sandbox.path("base/bin/hello-arm64"), &foreign::hello(Cpu::Arm64));
    write(&sandbox.path("base/bin/hello-arm"), &foreign::hello(Cpu::Arm));
    write(&sandbox.path("base/bin/euid-arm64"), &foreign::effective_user_arm64());
    sandbox
}

const EMULATORS: &[&str] = &["--emulator", "arm64", "--emulator", "arm"];

fn host_entries() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir("/proc/sys/fs/binfmt_misc")
        .map(|list| list.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn foreign_programs_run_and_the_host_is_as_before() {
    let before = host_entries();
    for who in Who::all() {
        let sandbox = with_programs(
            who,
            "hello-arm64; echo \" $?\"; hello-arm; echo \" $?\"; ls /proc/sys/fs/binfmt_misc",
        );
        // Without preserved argv[0], QEMU shows the path of the program in place of a bare argv[0].
        assert_eq!(sandbox.run_with(EMULATORS).ok(), "hello-arm64 42\nhello-arm 42\n", "as {who:?}");
        assert_eq!(sandbox.changes(), [] as [&str; 0], "no emulator is in the image");
    }
    assert_eq!(before, host_entries());
}

#[test]
fn a_foreign_program_can_be_the_command() {
    for who in Who::all() {
        let mut sandbox = with_programs(who, "");
        sandbox.spec.args = ["hello-arm64".into()].into();
        let ran = sandbox.run_with(EMULATORS);
        assert_eq!((ran.code, ran.out.as_str()), (Some(42), "hello-arm64"), "as {who:?}: {}", ran.err);
    }
}

#[test]
fn setuid_bits_of_foreign_programs_count() {
    for who in Who::all().into_iter().filter(|who| *who != Who::SingleId) {
        let script = "chown 5 /bin/euid-arm64 && chmod 4755 /bin/euid-arm64 && euid-arm64; echo $?";
        let sandbox = with_programs(who, script);
        assert_eq!(sandbox.run_with(EMULATORS).ok(), "5\n", "as {who:?}");
    }
}

#[test]
fn without_an_emulator_the_error_names_the_architecture() {
    // The host's handlers would run the program, and an instance for another architecture keeps them, so the
    // error appears only on a host without any.
    if host_entries().len() > 2 {
        let mut sandbox = with_programs(Who::all()[0], "");
        sandbox.spec.args = ["hello-arm64".into()].into();
        assert_eq!(sandbox.run().code, Some(42), "the host runs it");
        return;
    }
    for who in Who::all() {
        let mut sandbox = with_programs(who, "");
        sandbox.spec.args = ["hello-arm64".into()].into();
        let ran = sandbox.run_with(&["--emulator", "arm"]);
        assert_eq!(ran.code, Some(126), "{ran:?}");
        assert!(
            ran.err.contains("exec format error") && ran.err.contains("is a program for arm64"),
            "{ran:?}"
        );
    }
}
