//! The RV64GC instruction set with the extensions that [`features`] lists (The RISC-V Instruction Set Manual,
//! Volume I: Unprivileged Architecture), in user mode.
//!
//! A place is an address. Registers lie in the shared [`State`](crate::State) where [`registers`] says. The
//! flags of FCSR are in `fpsr`, in the order that Arm gives them, which is the reverse; its rounding mode is
//! `fpcr`.
//!
//! A compressed instruction is decoded to the instruction of 32 bits that it stands for ([`compressed`]), so
//! all else knows that form only.

pub mod action;
mod atomic;
mod branch;
mod compressed;
mod compute;
mod decode;
mod fcsr;
pub mod features;
mod float;
mod guest;
mod handler;
mod instruction;
mod load_store;
mod refused;
pub mod registers;
mod row;
mod system;
mod table;
mod vector;

pub use decode::{Support, classify, expand, name};
pub use float::immediate;
pub use guest::Rv64;
pub use instruction::{Instruction, Upper};
pub use refused::{Refused, refused};
pub use row::{Extension, Row};
pub use table::TABLE;
pub use vector::{accepts, accessed};

/// Runs the RV64 instructions of one guest thread.
pub type Interpreter<'log> = crate::Interpreter<'log, Rv64>;
