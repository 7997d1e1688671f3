//! The A64 instruction set of Armv8 (Arm Architecture Reference Manual, DDI 0487, parts C and D), at
//! exception level 0.

mod branch;
mod crypto;
mod decode;
mod facts;
pub mod features;
mod fields;
mod fp;
mod fpcr;
mod guest;
mod integer;
mod load_store;
mod refused;
mod registers;
mod simd;
mod simd_float;
mod simd_permute;
mod simd_shift;
pub mod stack_pointer;
mod system;
mod table;

pub use decode::{Support, classify, decode, facts, facts_with, implemented, name};
pub use facts::{Ending, Facts, File, Operand};
pub(crate) use fp::{comparison_flags, expand_immediate};
pub(crate) use fpcr::{Control, cumulative};
pub use fpcr::{FPCR_MASK, FPSR_MASK};
pub use guest::A64;
pub use refused::{Refused, refused};
pub use registers::SP;
pub use system::constant_register;
pub use table::{Class, Row, TABLE};

pub use crate::state::{SINK, ZERO};
pub use crate::{CodeLines, Exit, Flow, Host, Invalidations, LOG, Op, State};

/// Runs the A64 instructions of one guest thread.
pub type Interpreter<'log> = crate::Interpreter<'log, A64>;
