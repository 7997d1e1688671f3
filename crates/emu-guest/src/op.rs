//! Decoded instructions.

use crate::exit::{Exit, Flow, Leave, Step};
use crate::memory::Memory;
use crate::state::State;
use core::ops::Range;

/// What the guest's instructions use besides the registers.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Guest memory.
    pub memory: Memory,
    /// The value of CNTVCT_EL0: nanoseconds, never going back, the same on all threads.
    pub counter: fn() -> u64,
    /// A range of addresses around the given one (without tag) in which code may be run; `None` if code may
    /// not be run there. The range may be smaller than possible. Decoding asks for it, so taking the right
    /// away counts as a change of code ([`crate::Invalidations::invalidate`]).
    pub executable: fn(u64) -> Option<Range<u64>>,
}

impl Host {
    /// For [`Host::executable`]: code may be run wherever it can be read.
    pub fn anywhere(_address: u64) -> Option<Range<u64>> {
        Some(0..u64::MAX)
    }
}

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

impl Op {
    /// Runs the instruction; [`State::pc`] must be its address. The registers change as the manual says; `pc`
    /// changes only with [`Flow::Jump`].
    ///
    /// # Errors
    ///
    /// What the caller has to do, as [`crate::Interpreter::run`] returns it.
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

impl State {
    /// Leaves because the encoding is reserved.
    #[cold]
    pub(crate) fn undefined<T>(&mut self, op: &Op) -> Result<T, Leave> {
        self.leave(Exit::Undefined(op.code))
    }
}

impl core::fmt::Debug for Op {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(to, "Op({:08x})", self.code)
    }
}

/// Bits `high` to `low` of a word.
#[inline(always)]
pub(crate) const fn bits(code: u32, high: u32, low: u32) -> u32 {
    code >> low & (u32::MAX >> (31 - (high - low)))
}

/// The low `width` bits of `value`, sign-extended.
pub(crate) const fn sign_extend(value: u64, width: u32) -> u64 {
    (((value << (64 - width)) as i64) >> (64 - width)) as u64
}
