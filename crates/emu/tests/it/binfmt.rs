//! The emulator as an interpreter of binfmt_misc, in a user namespace of its own (Linux 6.7).

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

/// Runs the program in a root that has neither /proc nor the emulator.
fn by_binfmt(flags: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("program.c");
    fs::write(&source, PROGRAM).expect("the source is written");
    for name in ["root", "binfmt"] {
        fs::create_dir(directory.path().join(name)).expect("a directory");
    }
    compile(CROSS, &source, &directory.path().join("root/program"));
    let output = run(Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", REGISTER, "sh", EMULATOR])
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
    assert_eq!(by_binfmt("FPC"), "/program|--version|\nagain|--version|x|\n");
}

#[test]
fn arguments_pass_with_an_open_interpreter() {
    // Without P the kernel replaces argv[0] by the path.
    assert_eq!(by_binfmt("F"), "/program|--version|\n/program|--version|x|\n");
}
