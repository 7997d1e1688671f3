//! The A64 instruction set of Armv8 (Arm Architecture Reference Manual, DDI 0487, parts C and D), at
//! exception level 0.

mod branch;
mod code;
mod code_lines;
mod crypto;
mod decode;
pub mod features;
mod fp;
mod fpcr;
mod integer;
mod interpreter;
mod load_store;
mod refused;
mod simd;
mod simd_float;
mod simd_permute;
mod simd_shift;
pub mod stack_pointer;
mod state;
mod system;
mod table;

pub use code::{Invalidations, LOG};
pub use code_lines::CodeLines;
pub use decode::{Support, classify, decode, name};
pub use fpcr::{FPCR_MASK, FPSR_MASK};
pub use interpreter::Interpreter;
pub use refused::{Refused, refused};
pub use state::{SINK, SP, State, ZERO};
pub use system::constant_register;
pub use table::{Class, Row, TABLE};

use crate::memory::{Fault, Memory};
use core::ops::Range;

/// What the guest's instructions use besides the registers.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Guest memory.
    pub memory: Memory,
    /// The value of CNTVCT_EL0: nanoseconds, never going back, the same on all threads.
    pub counter: fn() -> u64,
    /// A range of addresses around the given one (without tag) in which code may be run; `None` if code may
    /// not be run there. The range may be smaller than it could be. It is asked for when code is decoded, so
    /// taking the right away counts as a change of code ([`Invalidations::invalidate`]).
    pub executable: fn(u64) -> Option<Range<u64>>,
}

impl Host {
    /// For [`Host::executable`]: code may be run wherever it can be read.
    pub fn anywhere(_address: u64) -> Option<Range<u64>> {
        Some(0..u64::MAX)
    }
}

/// Why [`Interpreter::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// SVC with this immediate. `pc` is that of the next instruction.
    Syscall(u16),
    /// BRK with this immediate. `pc` is that of the BRK.
    Breakpoint(u16),
    /// An encoding that is not an instruction of this CPU, at `pc`.
    Undefined(u32),
    /// The instruction at `pc` could not access memory, or could not be fetched. No register has changed; a
    /// store of several registers may have written some of them.
    Fault(Fault),
    /// The atomic or ordered access at `pc` needs an aligned address. No register has changed.
    Unaligned {
        /// The address.
        address: u64,
    },
    /// `pc` is not a multiple of 4.
    UnalignedPc,
    /// The load or store at `pc` has SP as its base, and SP is not a multiple of 16 ([`stack_pointer`]). No
    /// register has changed.
    UnalignedSp,
    /// IC IVAU: code in the line of 64 bytes at `address` may have changed; call
    /// [`Invalidations::invalidate`]. `pc` is that of the next instruction.
    CodeModified {
        /// Start of the line.
        address: u64,
    },
    /// The budget is used up. `pc` is that of the next instruction.
    Budget,
    /// The interrupt flag is set. `pc` is that of the next instruction.
    Interrupted,
}

/// Which instruction follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next instruction in memory.
    Next,
    /// The instruction at [`State::pc`], which has been set.
    Jump,
}

/// The instruction leaves the interpreter; [`State::exit`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave;

/// Result of one instruction.
pub(crate) type Step = Result<Flow, Leave>;

/// The function that executes one instruction.
pub(crate) type Handler = fn(&mut State, &Host, &Op) -> Step;

/// A decoded instruction.
///
/// Register numbers are indexes into [`State::gpr`] for general registers (31 already resolved to SP, zero or
/// sink) and register numbers for vector registers.
#[derive(Clone, Copy)]
pub struct Op {
    pub(crate) run: Handler,
    /// Immediate value; for PC-relative instructions the absolute address.
    pub(crate) imm: u64,
    /// The instruction word.
    pub(crate) code: u32,
    pub(crate) rd: u8,
    pub(crate) rn: u8,
    pub(crate) rm: u8,
    pub(crate) ra: u8,
}

impl State {
    /// Leaves with `exit`.
    #[cold]
    pub(crate) fn leave<T>(&mut self, exit: Exit) -> Result<T, Leave> {
        self.exit = exit;
        Err(Leave)
    }

    /// Leaves because the encoding is reserved.
    #[cold]
    pub(crate) fn undefined<T>(&mut self, op: &Op) -> Result<T, Leave> {
        self.leave(Exit::Undefined(op.code))
    }
}

impl Op {
    /// Runs the instruction; [`State::pc`] must be its address. The registers change as the manual says; `pc`
    /// changes only with [`Flow::Jump`].
    ///
    /// # Errors
    ///
    /// What the caller has to do, as [`Interpreter::run`] returns it.
    #[inline(always)]
    pub fn execute(&self, state: &mut State, host: &Host) -> Result<Flow, Exit> {
        (self.run)(state, host, self).map_err(|Leave| state.exit)
    }

    /// Bit `n` of the instruction word.
    #[inline(always)]
    pub(crate) fn bit(&self, n: u32) -> bool {
        self.code >> n & 1 == 1
    }

    /// Bits `high` to `low` of the instruction word.
    #[inline(always)]
    pub(crate) fn bits(&self, high: u32, low: u32) -> u32 {
        bits(self.code, high, low)
    }
}

/// Bits `high` to `low` of a word.
#[inline(always)]
pub(crate) const fn bits(code: u32, high: u32, low: u32) -> u32 {
    code >> low & (u32::MAX >> (31 - (high - low)))
}
