//! The translator of 32-bit Arm. A program of its own, since a process has one translator.
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

mod barriers;
mod both;
#[allow(dead_code)]
#[path = "../../../emu-guest/tests/it/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../../../emu-guest/tests/it/cases_arm.rs"]
mod cases_arm;
mod comparisons;
mod differ;
#[path = "../it/differences.rs"]
mod differences;
#[allow(dead_code)]
#[path = "../it/host.rs"]
mod host;
mod images;
#[path = "../it/libraries.rs"]
mod libraries;
mod long_blocks;
mod loops;
mod routines;
#[allow(dead_code)]
#[path = "../../examples/routines.rs"]
mod tool;
