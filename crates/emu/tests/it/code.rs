//! Random code runs the same interpreted and translated. The settings are those of the other fuzz tests.

use crate::fuzz::{assert_sound, for_a_while};
use crate::guest::{CROSS, EMULATOR, RISCV_CROSS, run, sources, verdict};
use crossdock_emu_guest::{a64, rv64};
use std::fmt::Write;
use std::fs;
use std::process::Command;

/// Left out: instructions whose results vary (system registers, random times), system calls, and changes of
/// the thread pointer.
const LEFT_OUT: [&str; 4] = ["MRS", "MSR", "SVC", "ECALL"];

/// Rows of a table, each with its name, mask and value, as C.
fn rows<'a>(table: impl Iterator<Item = (&'a str, u32, u32)>) -> String {
    let mut text = String::from("static const unsigned rows[][2] = {\n");
    for (_, mask, value) in table.filter(|(name, ..)| !LEFT_OUT.contains(name)) {
        writeln!(text, "{{{mask:#x}, {value:#x}}},").expect("a string has room");
    }
    text + "};\n"
}

#[test]
fn random_code_runs_the_same_translated() {
    random_code(CROSS, "-static-pie", &rows(a64::TABLE.iter().map(|row| (row.name(), row.mask, row.value))));
}

/// Debian's C library for riscv64 has no start for static-pie.
#[test]
fn random_code_of_riscv_runs_the_same_translated() {
    random_code(RISCV_CROSS, "-pie", &rows(rv64::TABLE.iter().map(|row| (row.name(), row.mask, row.value))));
}

/// Runs `fuzz/random_code.c` with these rows. `form` makes it relocatable, so no small number is an address
/// in the program.
fn random_code(compiler: &str, form: &str, rows: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("rows.h"), rows).expect("the rows are written");
    let program = directory.path().join("random_code");
    let compiled = run(Command::new(compiler)
        .args(["-O1", "-w", form, "-I"])
        .arg(directory.path())
        .arg("-o")
        .args([&program, &sources().join("fuzz/random_code.c")]));
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let root = format!("/usr/{}", compiler.trim_end_matches("-gcc"));
    for_a_while(|seed| {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let output = run(Command::new("timeout")
            .args(["--signal=KILL", "60", EMULATOR, "-L", &root])
            .arg(&program)
            .args([&state.to_string(), "300"]));
        assert_sound(seed, &output);
        let text = verdict(&output);
        assert!(text.contains("runs compared") && output.status.success(), "seed {seed}: {text}");
    });
}
