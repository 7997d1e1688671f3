//! The functions of this guest's C library: see `libraries.rs`.

use crate::libraries::{Place, check_known, check_runs};
use crossdock_emu_guest::a32::A32;

const PLACE: Place = Place { at: 0x2100_0000, stop: [0x70, 0x00, 0x20, 0xe1] };
const FOLDER: &str = "/usr/arm-linux-gnueabihf/lib";

#[test]
fn functions_of_an_installed_library_are_known_and_changed_ones_are_not() {
    check_known::<A32>(&PLACE, FOLDER);
}

#[test]
fn known_functions_do_what_the_interpreter_does() {
    check_runs::<A32>(&PLACE, FOLDER);
}
