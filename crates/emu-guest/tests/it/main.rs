//! The interpreter as its callers use it.
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

mod cases;
mod cases_arm;
mod cases_riscv;
mod differ;
mod differ_arm;
mod differ_riscv;
mod encodings;
mod encodings_arm;
mod encodings_riscv;
mod facts;
mod faults;
mod fuzz;
mod interpreter;
mod registers_arm;
mod spike;
mod vectors_arm;
mod vfp_arm;
