//! The A32 and T32 (Thumb) instruction sets of Armv7-A and of AArch32 in Armv8 (Arm Architecture Reference
//! Manual, DDI 0487, parts F and G), in user mode.
//!
//! A place is an address with bit 0 set for T32, as BX takes it. Registers lie in the shared
//! [`State`](crate::State) as an AArch64 kernel sees them: general registers zero-extended to 64 bits
//! ([`registers`]), D(2n) and D(2n+1) as the halves of vector register n, FPSCR in `fpcr` and
//! `fpsr`, but for its condition flags ([`registers`]).

pub mod action;
mod arm;
mod branch;
mod data;
mod decode;
mod exclusive;
mod fields;
mod float;
mod guest;
mod instruction;
mod load_store;
mod media;
mod multiple;
mod multiply;
mod neon;
mod neon_brain;
mod neon_crypto;
mod neon_dot;
mod neon_float;
mod neon_integer;
mod neon_long;
mod neon_memory;
mod neon_move;
mod neon_shift;
pub mod registers;
mod row;
mod shift;
mod standard;
pub mod structure;
mod system;
mod table;
mod thumb;
mod vectors;
mod vfp;
mod vfp_arithmetic;
mod vfp_convert;
mod vfp_memory;
mod vfp_move;
mod vfp_register;

pub use decode::{Set, Support, classify, float_of_thumb, is_float, name};
pub use fields::{It, Jump, it_before};
pub use guest::A32;
pub use instruction::Instruction;
pub use row::{Class, Row};

/// Runs the A32 and T32 instructions of one guest thread.
pub type Interpreter<'log> = crate::Interpreter<'log, A32>;
