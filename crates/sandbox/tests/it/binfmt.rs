//! Programs of other architectures, by QEMU, registered for the sandbox only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Sandbox, Who, copy_program, require};

/// Writes its `argv[0]` and a newline missing, and exits with 42: A64.
const ARM64: &[u32] = &[
    0xf940_07e1, //       ldr  x1, [sp, #8]     argv[0]
    0xd280_0002, //       mov  x2, #0
    0x3862_6823, // loop: ldrb w3, [x1, x2]
    0x3400_0063, //       cbz  w3, done
    0x9100_0442, //       add  x2, x2, #1
    0x17ff_fffd, //       b    loop
    0xd280_0020, // done: mov  x0, #1
    0xd280_0808, //       mov  x8, #64           write
    0xd400_0001, //       svc  #0
    0xd280_0540, //       mov  x0, #42
    0xd280_0ba8, //       mov  x8, #93           exit
    0xd400_0001, //       svc  #0
];

/// Exits with its effective user id: A64.
const ARM64_EUID: &[u32] = &[
    0xd280_15e8, // mov x8, #175     geteuid
    0xd400_0001, // svc #0
    0xd280_0ba8, // mov x8, #93      exit
    0xd400_0001, // svc #0
];

/// As [`ARM64`]: A32.
const ARM: &[u32] = &[
    0xe59d_1004, //       ldr  r1, [sp, #4]
    0xe3a0_2000, //       mov  r2, #0
    0xe7d1_3002, // loop: ldrb r3, [r1, r2]
    0xe353_0000, //       cmp  r3, #0
    0x0a00_0001, //       beq  done
    0xe282_2001, //       add  r2, r2, #1
    0xeaff_fffa, //       b    loop
    0xe3a0_0001, // done: mov  r0, #1
    0xe3a0_7004, //       mov  r7, #4       write
    0xef00_0000, //       svc  #0
    0xe3a0_002a, //       mov  r0, #42
    0xe3a0_7001, //       mov  r7, #1       exit
    0xef00_0000, //       svc  #0
];

const BASE: u64 = 0x40_0000;

/// A static executable with one segment: header, program header, code.
fn elf(wide: bool, machine: u16, flags: u32, code: &[u32]) -> Vec<u8> {
    let (header, program) = if wide { (64u64, 56u64) } else { (52, 32) };
    let start = header + program;
    let size = start + 4 * code.len() as u64;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
    bytes.resize(16, 0);
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend_from_slice(&value.to_le_bytes());
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend_from_slice(&value.to_le_bytes());
    let address = |bytes: &mut Vec<u8>, value: u64| {
        bytes.extend_from_slice(&value.to_le_bytes()[..if wide { 8 } else { 4 }]);
    };
    half(&mut bytes, 2);
    half(&mut bytes, machine);
    word(&mut bytes, 1);
    for value in [BASE + start, header, 0] {
        address(&mut bytes, value);
    }
    word(&mut bytes, flags);
    for value in [header as u16, program as u16, 1, 0, 0, 0] {
        half(&mut bytes, value);
    }
    word(&mut bytes, 1);
    if wide {
        word(&mut bytes, 5);
    }
    for value in [0, BASE, BASE, size, size] {
        address(&mut bytes, value);
    }
    if !wide {
        word(&mut bytes, 5);
    }
    address(&mut bytes, 0x1000);
    code.iter().for_each(|instruction| word(&mut bytes, *instruction));
    bytes
}

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
    write(&sandbox.path("base/bin/hello-arm64"), &elf(true, 183, 0, ARM64));
    write(&sandbox.path("base/bin/hello-arm"), &elf(false, 40, 0x0500_0000, ARM));
    write(&sandbox.path("base/bin/euid-arm64"), &elf(true, 183, 0, ARM64_EUID));
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
        // QEMU makes the path of the program out of a bare argv[0] unless it is preserved.
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
    // The host's own handlers would serve; an instance with another architecture hides none of them, so only without any.
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
