//! The emulator as an interpreter of binfmt_misc, in its own user namespace (Linux 6.7).

use crate::guest::{CROSS, EMULATOR, compile, run, verdict};
use std::fs;
use std::process::Command;

/// Prints its arguments, and executes itself once more.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <unistd.h>
int main(int c, char **v) {
    for (int n = 0; n < c; n++) printf("%s|", v[n]);
    printf("\n");
    fflush(stdout);
    if (c == 3) return 0;
    char *args[] = {"again", "--version", "x", NULL};
    execv("/program", args);
    perror("execv");
    return 1;
}
"#;

const REGISTER: &str = r#"
set -e
mount -t binfmt_misc binfmt "$2"
printf '%s' ":arm64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$1:$3" > "$2/register"
exec chroot "$4" /program --version
"#;

/// Runs the program in a root without /proc. The emulator is copied to `inside` in this root; without
/// `inside`, the host's file is registered.
fn by_binfmt(flags: &str, inside: Option<&str>) -> String {
    program_by_binfmt(PROGRAM, flags, inside, |_| {})
}

fn program_by_binfmt(
    text: &str,
    flags: &str,
    inside: Option<&str>,
    prepare: impl Fn(&std::path::Path),
) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("program.c");
    fs::write(&source, text).expect("the source is written");
    for name in ["root", "binfmt"] {
        fs::create_dir(directory.path().join(name)).expect("a directory");
    }
    compile(CROSS, &source, &directory.path().join("root/program"));
    if let Some(place) = inside {
        let place = directory.path().join("root").join(place.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("it is in a directory")).expect("a directory");
        fs::copy(EMULATOR, &place).expect("the emulator is copied");
    }
    prepare(&directory.path().join("root"));
    let interpreter = inside.unwrap_or(EMULATOR);
    let output = run(Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", REGISTER, "sh", interpreter])
        .arg(directory.path().join("binfmt"))
        .arg(flags)
        .arg(directory.path().join("root")));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("mount"),
        "this test needs binfmt_misc in user namespaces, Linux 6.7 or newer: {errors}"
    );
    verdict(&output)
}

#[test]
fn arguments_pass_with_all_flags() {
    assert_eq!(by_binfmt("FPC", None), "/program|--version|\nagain|--version|x|\n");
}

#[test]
fn arguments_pass_with_an_open_interpreter() {
    // Without P the kernel replaces argv[0] by the path.
    assert_eq!(by_binfmt("F", None), "/program|--version|\n/program|--version|x|\n");
}

/// Gives up all rights of root and executes a file that the process may not read.
const UNREADABLE: &str = r#"
#include <stdio.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int c, char **v) {
    struct { unsigned version; int pid; } header = { 0x20080522, 0 };
    unsigned none[6] = {0};
    if (c == 3) return printf("%s|%s|%s|\n", v[0], v[1], v[2]) < 0;
    chmod("/secret", 0111);
    syscall(SYS_capset, &header, none);
    printf("opened %d\n", open("/secret", O_RDONLY));
    fflush(stdout);
    char *args[] = {"again", "a", "b", NULL};
    execv("/secret", args);
    perror("execv");
    return 1;
}
"#;

#[test]
fn programs_that_may_only_be_executed_run() {
    let secret = |root: &std::path::Path| {
        fs::copy(root.join("program"), root.join("secret")).expect("the program is copied");
    };
    // The kernel opens the file for us with flag O.
    assert_eq!(program_by_binfmt(UNREADABLE, "FPOC", None, secret), "opened -1\nagain|a|b|\n");
}

/// `COPY crossdock-emu /usr/bin/qemu-aarch64-static`, with a handler that others have registered.
#[test]
fn a_copy_in_the_root_stands_for_qemu() {
    for (flags, first) in [("", "/program"), ("OC", "/program"), ("P", "again"), ("POC", "again")] {
        let output = by_binfmt(flags, Some("/usr/bin/qemu-aarch64-static"));
        assert_eq!(output, format!("/program|--version|\n{first}|--version|x|\n"), "flags {flags}");
    }
}

#[test]
fn the_name_of_an_interpreter_tells_that_argv_is_preserved() {
    // The name with which Debian registers an interpreter with flag P. If the kernel reports the flag, too
    // (Linux 5.12), it must not count twice.
    let output = by_binfmt("P", Some("/usr/libexec/qemu-binfmt/aarch64-binfmt-P"));
    assert_eq!(output, "/program|--version|\nagain|--version|x|\n");
}
