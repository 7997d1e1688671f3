//! The functions of this guest's C library: see `libraries.rs`.

use crate::libraries::{Place, check_known, check_runs};
use crossdock_emu_guest::rv64::Rv64;

const PLACE: Place = Place { at: 0x41_0000_0000, stop: [0x73, 0x00, 0x10, 0x00] };
const FOLDER: &str = "/usr/riscv64-linux-gnu/lib";

#[test]
fn functions_of_an_installed_library_are_known_and_changed_ones_are_not() {
    check_known::<Rv64>(&PLACE, FOLDER);
}

#[test]
fn known_functions_do_what_the_interpreter_does() {
    check_runs::<Rv64>(&PLACE, FOLDER);
}
