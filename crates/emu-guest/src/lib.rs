//! Guest instruction sets of the emulator: what an instruction of another CPU does to registers and memory.
//!
//! This is the reference implementation: a decoder over a table of encodings and an interpreter over decoded
//! blocks, exact to the bit. Faster implementations are checked against it. It knows nothing of the operating
//! system; the caller (`emu-linux`) handles system calls, signals and mappings.
#![no_std]
#![deny(unsafe_code)]
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

extern crate alloc;

#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
compile_error!("guest memory is accessed by x86-64 instructions; other hosts need their own memory.rs");

pub mod a32;
pub mod a64;
mod access;
pub mod addresses;
mod blocks;
mod changes;
mod code_lines;
mod condition;
mod crc32;
mod crypto;
mod exit;
mod float;
pub mod guest;
mod index;
mod interpreter;
mod lanes;
pub mod memory;
mod op;
mod pattern;
pub mod pieces;
pub mod rv64;
pub mod short;
mod state;

pub use changes::{Invalidations, LOG};
pub use code_lines::CodeLines;
pub use exit::{Exit, Flow};
pub use interpreter::Interpreter;
pub use op::{Host, Op};
pub use state::{LaneTables, SINK, State, Vectors, ZERO};
