//! The emulator as an interpreter of binfmt_misc, in its own user namespace (Linux 6.7).

use crate::guest::{ARM_CROSS, CROSS, EMULATOR, compile, verdict};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

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

/// A guest: its compiler, and its programs' EI_CLASS and e_machine.
struct Guest {
    compiler: &'static str,
    class: u8,
    machine: u8,
}

const ARM64: Guest = Guest { compiler: CROSS, class: 2, machine: 183 };
const ARM: Guest = Guest { compiler: ARM_CROSS, class: 1, machine: 40 };

/// Who exists in the user namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    Root,
    Many,
}

impl Users {
    fn are_mapped_by_root(self) -> bool {
        let data = fs::metadata("/proc/self");
        self == Users::Many && data.is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
    }

    /// Options of unshare(1). Other users than root may map those that /etc/subuid gives them.
    fn mapping(self) -> &'static [&'static str] {
        match self {
            Users::Root => &["--map-root-user"],
            Users::Many if self.are_mapped_by_root() => &[],
            Users::Many => &["--map-root-user", "--map-auto"],
        }
    }

    /// Runs a command that enters a user namespace, says so by a line, and waits for one.
    fn run(self, mut command: Command) -> Output {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare is installed");
        let mut entered = [0];
        let output = child.stdout.as_mut().expect("a pipe");
        if output.read_exact(&mut entered).is_ok() && self.are_mapped_by_root() {
            for map in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{}/{map}", child.id()), "0 0 65536").expect("root maps users");
            }
        }
        child.stdin.take().expect("a pipe").write_all(b"\n").expect("the script waits");
        child.wait_with_output().expect("the command ends")
    }
}

/// The text for binfmt_misc's `register`, without the flags.
fn registration(guest: &Guest, interpreter: &str) -> String {
    let Guest { class, machine, .. } = guest;
    let zeroes = r"\x00".repeat(8);
    let magic = format!(r"\x7fELF\x{class:02x}\x01\x01\x00{zeroes}\x02\x00\x{machine:02x}\x00");
    let mask = format!(r"{}\x00{}\xfe\xff\xff\xff", r"\xff".repeat(7), r"\xff".repeat(8));
    format!(":guest:M::{magic}:{mask}:{interpreter}:")
}

const REGISTER: &str = r#"
set -e
echo
read go
mount -t binfmt_misc binfmt "$2"
printf '%s' "$1$3" > "$2/register"
exec chroot "$4" /program --version
"#;

/// Runs the program in a root without /proc. The emulator is copied to `inside` in this root; without
/// `inside`, the host's file is registered.
fn by_binfmt(flags: &str, inside: Option<&str>) -> String {
    program_by_binfmt(&ARM64, Users::Root, PROGRAM, flags, inside, |_| {})
}

fn program_by_binfmt(
    guest: &Guest,
    users: Users,
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
    compile(guest.compiler, &source, &directory.path().join("root/program"));
    if let Some(place) = inside {
        let place = directory.path().join("root").join(place.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("it is in a directory")).expect("a directory");
        copy(Path::new(EMULATOR), &place);
    }
    prepare(&directory.path().join("root"));
    let registration = registration(guest, inside.unwrap_or(EMULATOR));
    let mut command = Command::new("unshare");
    command.args(users.mapping()).args(["--user", "--mount", "sh", "-c", REGISTER, "sh", &registration]);
    command.arg(directory.path().join("binfmt")).arg(flags).arg(directory.path().join("root"));
    let output = users.run(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("mount"),
        "this test needs binfmt_misc in user namespaces, Linux 6.7 or newer: {errors}"
    );
    verdict(&output)
}

/// Copies an executable. Another process does it: a file that a child of another test holds open for writing
/// cannot be executed.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "{} is not copied", from.display());
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
        copy(&root.join("program"), &root.join("secret"));
    };
    // The kernel opens the file for us with flag O.
    assert_eq!(
        program_by_binfmt(&ARM64, Users::Root, UNREADABLE, "FPOC", None, secret),
        "opened -1\nagain|a|b|\n"
    );
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

#[test]
fn arguments_of_arm_pass() {
    let output = program_by_binfmt(&ARM, Users::Root, PROGRAM, "FPC", None, |_| {});
    assert_eq!(output, "/program|--version|\nagain|--version|x|\n");
}

/// Executes a copy of itself that runs with the rights of user 5 and group 1.
const PRIVILEGED: &str = r#"
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int c, char **v) {
    if (c == 3)
        return printf("%d %d of %d %d, secure %d, %s|%s|%s|\n", (int)geteuid(), (int)getegid(), (int)getuid(), (int)getgid(),
                      (int)getauxval(AT_SECURE), v[0], v[1], v[2]) < 0;
    if (chown("/privileged", 5, 1) || chmod("/privileged", 06755)) return perror("/privileged"), 1;
    char *args[] = {"again", "a", "b", NULL};
    execv("/privileged", args);
    perror("execv");
    return 1;
}
"#;

#[test]
fn setuid_programs_keep_their_rights() {
    let privileged = |root: &std::path::Path| {
        copy(&root.join("program"), &root.join("privileged"));
    };
    for guest in [ARM64, ARM] {
        let output = program_by_binfmt(&guest, Users::Many, PRIVILEGED, "FPOC", None, privileged);
        assert_eq!(output, "5 1 of 0 0, secure 1, again|a|b|\n", "{}", guest.compiler);
    }
}
