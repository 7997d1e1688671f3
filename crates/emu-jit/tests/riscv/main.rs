//! The translator of RV64. A program of its own, since a process has one translator.
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

#[allow(dead_code)]
#[path = "../../../emu-guest/tests/it/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../../../emu-guest/tests/it/cases_riscv.rs"]
mod cases_riscv;
mod differ;
#[allow(dead_code)]
#[path = "../it/host.rs"]
mod host;
mod images;
#[path = "../it/libraries.rs"]
mod libraries;
mod loops;
mod routines;
#[allow(dead_code)]
#[path = "../../examples/routines.rs"]
mod tool;
