//! The interpreter as its callers use it.
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

mod cases;
mod differ;
mod encodings;
mod faults;
mod fuzz;
mod interpreter;
