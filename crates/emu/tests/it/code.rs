//! Random code runs the same interpreted and translated. The settings are those of the other fuzz tests.

use crate::fuzz::{assert_sound, for_a_while};
use crate::guest::{CROSS, EMULATOR, run, sources, verdict};
use crossdock_emu_guest::a64::TABLE;
use std::fmt::Write;
use std::fs;
use std::process::Command;

/// Left out: instructions whose results vary (system registers, random times), system calls, and changes of
/// the thread pointer.
const LEFT_OUT: [&str; 3] = ["MRS", "MSR", "SVC"];

/// The rows of the table as C.
fn rows() -> String {
    let mut text = String::from("static const unsigned rows[][2] = {\n");
    for row in TABLE.iter().filter(|row| !LEFT_OUT.contains(&row.name())) {
        writeln!(text, "{{{:#x}, {:#x}}},", row.mask, row.value).expect("a string has room");
    }
    text + "};\n"
}

#[test]
fn random_code_runs_the_same_translated() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("rows.h"), rows()).expect("the rows are written");
    let program = directory.path().join("random_code");
    let compiled = run(Command::new(CROSS)
        // Relocatable, so no small number is an address in the program.
        .args(["-O1", "-w", "-static-pie", "-I"])
        .arg(directory.path())
        .arg("-o")
        .args([&program, &sources().join("fuzz/random_code.c")]));
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    for_a_while(|seed| {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let output = run(Command::new("timeout")
            .args(["--signal=KILL", "60", EMULATOR])
            .arg(&program)
            .args([&state.to_string(), "300"]));
        assert_sound(seed, &output);
        let text = verdict(&output);
        assert!(text.contains("runs compared") && output.status.success(), "seed {seed}: {text}");
    });
}
