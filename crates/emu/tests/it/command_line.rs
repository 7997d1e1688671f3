//! Options, and the ways to start the emulator.

use crate::guest::{CROSS, EMULATOR, compile, run, verdict};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
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
fn a_panic_says_where_and_aborts() {
    let output = run(Command::new(EMULATOR).arg("--panic"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.starts_with("crossdock-emu: panicked at crates/emu/src/main.rs:"), "{errors}");
    assert!(errors.ends_with(": asked to, number 1\n") && errors.lines().count() == 1, "{errors}");
    assert_eq!(output.status.signal(), Some(6));
}

/// Prints variables and the release, then executes itself and prints them again.
const TELLS: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>
int main(int c, char **v) {
    struct utsname u;
    uname(&u);
    printf("%d %s %s %s\n", c, getenv("A") ? getenv("A") : "-", getenv("B") ? getenv("B") : "-", u.release);
    fflush(stdout);
    if (c == 1) execl(v[0], v[0], "again", NULL);
    return 0;
}
"#;

/// Executes itself once with variables of the emulator set, as a shell in the guest does.
const SETS: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>
int main(int c, char **v) {
    struct utsname u;
    uname(&u);
    printf("%s\n", u.release);
    fflush(stdout);
    if (c == 1) {
        setenv("QEMU_UNAME", "7.8.9", 1);
        setenv("QEMU_STRACE", "1", 1);
        execl(v[0], v[0], "again", NULL);
    }
    return 0;
}
"#;

#[test]
fn settings_that_the_guest_makes_are_heeded() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = program(directory.path(), SETS);
    let output = run(Command::new(EMULATOR).args(["-r", "4.5.6"]).arg(&program));
    assert_eq!(verdict(&output), "4.5.6\n7.8.9\n");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("uname(") && !errors.contains("execve("), "{errors}");
}

#[test]
fn variables_and_release_pass_to_the_programs_it_executes() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = program(directory.path(), TELLS);
    let mut command = Command::new(EMULATOR);
    command.env("B", "host").args(["-E", "A=1", "-U", "B", "-r", "4.5.6"]).arg(&program);
    assert_eq!(verdict(&run(&mut command)), "1 1 - 4.5.6\n2 1 - 4.5.6\n");
    // The same, with QEMU's variables.
    let mut command = Command::new(EMULATOR);
    command.env("QEMU_SET_ENV", "A=1,B=2").env("QEMU_UNAME", "4.5.6").arg(&program);
    assert_eq!(verdict(&run(&mut command)), "1 1 2 4.5.6\n2 1 2 4.5.6\n");
}

/// Changes its personality twice, prints what it was each time, and executes itself.
const CHANGES: &str = r#"
#include <stdio.h>
#include <sys/personality.h>
#include <sys/utsname.h>
#include <unistd.h>
int main(int c, char **v) {
    struct utsname u;
    int first = personality(0xffffffff), second = personality(0x30080000), third = personality(0x20000);
    uname(&u);
    printf("%x %x %x %x %s\n", first, second, third, personality(0xffffffff), u.machine);
    fflush(stdout);
    if (c == 1) execl(v[0], v[0], "again", NULL);
    return 0;
}
"#;

/// The CPU of a platform is in the personality, where no guest can see or change it.
#[test]
fn the_cpu_outlasts_changes_of_the_personality() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("changes.c");
    fs::write(&source, CHANGES).expect("the source is written");
    let program = directory.path().join("changes");
    compile("arm-linux-gnueabihf-gcc", &source, &program);
    for (cpu, machine) in [("arm926", "armv5tel"), ("arm1176", "armv6l"), ("cortex-a7", "armv7l")] {
        let output = run(Command::new(EMULATOR).args(["-cpu", cpu]).arg(&program));
        let expected = format!("0 0 80000 20000 {machine}\n20000 20000 80000 20000 {machine}\n");
        assert_eq!(verdict(&output), expected, "{cpu}");
    }
}

/// Debian's cross libraries.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

#[test]
fn libraries_come_from_the_sysroot() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("tells.c");
    fs::write(&source, TELLS).expect("the source is written");
    let program = directory.path().join("tells");
    let compiled = run(Command::new(CROSS).args(["-w", "-o"]).args([&program, &source]));
    assert!(compiled.status.success(), "{compiled:?}");
    let without = run(Command::new(EMULATOR).arg(&program));
    assert_eq!(without.status.code(), Some(127), "{without:?}");
    for (options, variable) in [(vec!["-L", SYSROOT], None), (vec![], Some(("QEMU_LD_PREFIX", SYSROOT)))] {
        let mut command = Command::new(EMULATOR);
        command.args(options).args(["-r", "5"]).arg(&program).env("A", "1").envs(variable);
        let output = run(&mut command);
        assert_eq!(verdict(&output), "1 1 - 5\n2 1 - 5\n", "{output:?}");
    }
}

#[test]
fn files_of_the_sysroot_stand_in_front() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("etc/inner")).expect("directories");
    fs::write(root.join("etc/passwd"), "ours\n").expect("a file");
    // An absolute link leads inside.
    std::os::unix::fs::symlink("/etc/passwd", root.join("etc/link")).expect("a link");
    let text = r#"
        #include <fcntl.h>
        #include <stdio.h>
        #include <sys/stat.h>
        #include <unistd.h>
        static void show(const char *path) {
            char text[64] = {0};
            struct stat s = {0};
            int fd = open(path, O_RDONLY);
            read(fd, text, 5);
            printf("%s %d %d %d %s\n", path, stat(path, &s), (int)s.st_size, access(path, F_OK), text);
        }
        int main(void) {
            show("/etc/passwd");
            show("/etc/link");
            char link[64] = {0};
            readlink("/etc/link", link, 63);
            printf("%s\n", link);
            printf("%d %d\n", access("/etc/inner", F_OK), access("/etc/hostname", F_OK));
            int fd = open("/etc/created-by-a-test", O_WRONLY | O_CREAT | O_EXCL, 0600);
            if (fd >= 0) unlink("/etc/created-by-a-test");
            printf("%d\n", access("/proc/self/status", F_OK));
            return 0;
        }"#;
    let program = program(directory.path(), text);
    let output = run(Command::new(EMULATOR).arg("-L").arg(&root).arg(&program));
    let host = i32::from(!std::path::Path::new("/etc/hostname").exists());
    let expected = format!("/etc/passwd 0 5 0 ours\n\n/etc/link 0 5 0 ours\n\n/etc/passwd\n0 {}\n0\n", -host);
    assert_eq!(verdict(&output), expected, "{output:?}");
}

#[test]
fn what_qemu_takes_and_we_cannot_is_said() {
    let output = run(Command::new(EMULATOR).args(["-g", "1234", "/bin/true"]));
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "crossdock-emu: -g: there is no port for debuggers\n"
    );
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
    assert!(
        String::from_utf8_lossy(&native.stderr).ends_with("no program for arm64, 32-bit Arm or riscv64\n"),
        "{native:?}"
    );
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
    // An unknown system call twice, and io_uring_setup.
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

/// The file offset of a function of a static program.
fn offset_of(program: &std::path::Path, function: &str) -> u64 {
    let field = |text: &str, at: usize| text.split_whitespace().nth(at).map(str::to_string);
    let hexadecimal = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number");
    let symbols = run(Command::new("aarch64-linux-gnu-nm").arg(program));
    let symbols = String::from_utf8_lossy(&symbols.stdout).into_owned();
    let line = symbols.lines().find(|line| field(line, 2).as_deref() == Some(function)).expect("a symbol");
    let address = hexadecimal(&field(line, 0).expect("an address"));
    // The first segment begins at the file's start.
    let segments = run(Command::new("aarch64-linux-gnu-readelf").arg("-lW").arg(program));
    let segments = String::from_utf8_lossy(&segments.stdout).into_owned();
    let first = segments.lines().find(|line| line.trim_start().starts_with("LOAD")).expect("a segment");
    address - hexadecimal(&field(first, 2).expect("an address"))
}

const LOOP: &str = "
    __attribute__((noinline)) int work(int n) { int s = 0; for (int i = 0; i < n; i++) s += i ^ n; return s; }
    int main(void) { volatile int s = 0; for (int i = 0; i < 100; i++) s += work(i); return 0; }
";

#[test]
fn blocks_are_traced_with_their_place_in_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = program(directory.path(), LOOP);
    let output = run(Command::new(EMULATOR).args(["--trace", "blocks"]).arg(&program));
    assert_eq!(verdict(&output), "");
    let trace = String::from_utf8_lossy(&output.stderr);
    let place = format!("({}+{:#x})", program.display(), offset_of(&program, "work"));
    let calls = trace.lines().filter(|line| line.ends_with(&place)).count();
    assert_eq!(calls, 100, "{place}");
}

#[test]
fn the_map_for_perf_names_guest_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = program(directory.path(), LOOP);
    let child = Command::new(EMULATOR).arg("--perf-map").arg(&program).spawn().expect("it starts");
    let map = format!("/tmp/perf-{}.map", child.id());
    child.wait_with_output().expect("it ends");
    let text = fs::read_to_string(&map).expect("the map is written");
    let _ = fs::remove_file(&map);
    // The loop's unit begins somewhere in the short function.
    let (name, start) = (format!("({}+0x", program.display()), offset_of(&program, "work"));
    let offsets = text.lines().filter_map(|line| {
        let (_, offset) = line.split_once(&name)?;
        u64::from_str_radix(offset.trim_end_matches(')'), 16).ok()
    });
    assert!(offsets.clone().any(|offset| (start..start + 64).contains(&offset)), "{start:#x}: {text}");
    assert!(text.lines().all(|line| line.split(' ').nth(2) == Some("arm64")), "{text}");
}

#[test]
fn nothing_is_translated_when_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = program(directory.path(), LOOP);
    let child =
        Command::new(EMULATOR).args(["--interpret", "--perf-map"]).arg(&program).spawn().expect("it starts");
    let map = format!("/tmp/perf-{}.map", child.id());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && !std::path::Path::new(&map).exists());
}
