//! Options, and the forms in which the emulator is started.

use crate::guest::{CROSS, EMULATOR, compile, run, verdict};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn hello(directory: &std::path::Path) -> std::path::PathBuf {
    let source = directory.join("hello.c");
    let text = "#include <stdio.h>\nint main(int c, char **v) { for (int n = 0; n < c; n++) puts(v[n]); return 3; }\n";
    fs::write(&source, text).expect("the source is written");
    let program = directory.join("hello");
    compile(CROSS, &source, &program);
    program
}

#[test]
fn arguments_and_status_pass() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = hello(directory.path());
    let path = program.to_str().expect("a path in UTF-8");
    let output = run(Command::new(EMULATOR).args(["-0", "name", path, "--version", ""]));
    assert_eq!(verdict(&output), "name\n--version\n\nexit status 3\n");
}

#[test]
fn scripts_run_by_their_interpreter() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = hello(directory.path());
    let script = directory.path().join("script");
    fs::write(&script, format!("#!{} one two\n", program.display())).expect("the script is written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is executable");
    let output = run(Command::new(EMULATOR).arg(&script).arg("three"));
    let expected = format!("{}\none two\n{}\nthree\nexit status 3\n", program.display(), script.display());
    assert_eq!(verdict(&output), expected);
}

#[test]
fn version_and_features_are_printed() {
    let version = run(Command::new(EMULATOR).arg("--version"));
    assert!(verdict(&version).starts_with("crossdock-emu "), "{version:?}");
    let features = run(Command::new(EMULATOR).arg("--cpu-features"));
    assert!(verdict(&features).starts_with("arm64: fp asimd"), "{features:?}");
}

#[test]
fn system_calls_are_traced() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = hello(directory.path());
    let output = run(Command::new(EMULATOR).args(["--trace", "syscalls"]).arg(&program));
    let trace = String::from_utf8_lossy(&output.stderr);
    assert!(trace.contains("write(1, ") && trace.contains("exit_group(3)"), "{trace}");
}

#[test]
fn what_cannot_be_run_is_said() {
    let missing = run(Command::new(EMULATOR).arg("/does/not/exist"));
    assert_eq!(missing.status.code(), Some(127));
    assert_eq!(
        String::from_utf8_lossy(&missing.stderr),
        "crossdock-emu: /does/not/exist: no such file, or its interpreter (ld.so) is missing\n"
    );
    let native = run(Command::new(EMULATOR).arg(EMULATOR));
    assert_eq!(native.status.code(), Some(126));
    assert!(String::from_utf8_lossy(&native.stderr).ends_with("not an arm64 program\n"), "{native:?}");
}

fn program(directory: &std::path::Path, text: &str) -> std::path::PathBuf {
    let source = directory.join("source.c");
    fs::write(&source, text).expect("the source is written");
    let program = directory.join("missing");
    compile(CROSS, &source, &program);
    program
}

#[test]
fn instructions_that_are_missing_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    // FADD H0, H1, H2.
    let text = "int main(void) { __asm__(\".word 0x1ee22820\"); return 0; }\n";
    let program = program(directory.path(), text);
    let output = run(Command::new(EMULATOR).arg(&program));
    assert_eq!(verdict(&output), "killed by signal 4\n");
    let errors = String::from_utf8_lossy(&output.stderr);
    let name = program.display();
    let expected = format!(
        "crossdock-emu: {name}: this CPU has no instruction 0x1ee22820 (FADD, FEAT_FP16; bytes 20 28 e2 1e) at 0x4"
    );
    assert!(errors.starts_with(&expected), "{errors}");
    assert!(errors.contains(&format!("({name}+0x")) && errors.lines().count() == 1, "{errors}");
}

#[test]
fn system_calls_that_are_missing_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    // One that nobody has, twice; io_uring_setup.
    let text = "#include <unistd.h>\n#include <sys/syscall.h>\n\
        int main(void) { return syscall(900, 1, 2, 3) + syscall(900, 4) + syscall(425, 5, 0) + 3; }\n";
    let program = program(directory.path(), text);
    let name = program.display();
    let unknown = format!("crossdock-emu: {name}: system call 900 (0x1, 0x2, 0x3) is not known: ENOSYS");
    let lines = |setting: Option<&str>| {
        let mut command = Command::new(EMULATOR);
        let output = run(command.arg(&program).envs(setting.map(|value| ("CROSSDOCK_EMU_LOG", value))));
        assert_eq!(verdict(&output), "");
        let errors = String::from_utf8_lossy(&output.stderr);
        errors.lines().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(lines(None), std::slice::from_ref(&unknown));
    assert_eq!(lines(Some("0")), [""; 0]);
    let all = lines(Some("1"));
    let refused = format!("crossdock-emu: {name}: system call io_uring_setup(0x5, 0x0, ");
    assert!(all.contains(&unknown), "{all:?}");
    let of_ring = all.iter().filter(|line| line.starts_with(&refused)).collect::<Vec<_>>();
    assert!(of_ring.len() == 1 && of_ring[0].ends_with(") is refused: ENOSYS"), "{all:?}");
}
