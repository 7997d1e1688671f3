//! The translator as its callers use it.
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

#[allow(dead_code)]
#[path = "../../../emu-guest/tests/it/cases.rs"]
mod cases;
mod changed;
mod differ;
mod differences;
mod host;
mod images;
mod indirect;
mod libraries;
mod loops;
mod routines;
mod signals;
mod status;
mod threads;
#[allow(dead_code)]
#[path = "../../examples/routines.rs"]
mod tool;
