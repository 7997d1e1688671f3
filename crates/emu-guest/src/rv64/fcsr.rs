//! FCSR (manual, F extension, "Floating-Point Control and Status Register"): its bits, as modes and flags of
//! [`crate::float`].
//!
//! [`State::fpcr`] is frm. [`State::fpsr`] has the flags in Arm's places, which generated code and its
//! dispatcher know: the reverse of those in FCSR.

use crate::a64;
use crate::exit::Leave;
use crate::float::{self, Environment, Flags, NanInteger, NanRule, Rounding, Tininess};
use crate::op::Op;
use crate::state::State;

/// The flags in [`State::fpsr`].
const FLAGS: u32 = 31;
/// The inexact flag there.
const INEXACT: u32 = 1 << 4;
/// The rounding mode of an instruction that uses frm.
const DYNAMIC: u32 = 7;

/// The modes of an instruction, and whether the inexact flag is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    rounding: Rounding,
    is_inexact: bool,
}

/// RISC-V's arithmetic.
pub(super) type Fpu = float::Fpu<Control>;

impl float::Control for Control {
    #[inline(always)]
    fn environment(self) -> Environment {
        Environment::new(self.rounding)
            .nan(NanRule::Canonical)
            .tininess(Tininess::AfterRounding)
            .nan_integer(NanInteger::Largest)
    }

    #[inline(always)]
    fn host_agrees(self) -> bool {
        self.rounding == Rounding::TieEven && self.is_inexact
    }
}

impl State {
    /// fflags: NV, DZ, OF, UF, NX from bit 4 to bit 0.
    pub fn fflags(&self) -> u32 {
        (self.fpsr & FLAGS).reverse_bits() >> 27
    }

    /// FCSR.
    pub fn fcsr(&self) -> u32 {
        self.fpcr << 5 | self.fflags()
    }

    /// Sets fflags.
    pub fn set_fflags(&mut self, value: u32) {
        self.fpsr = (value & FLAGS).reverse_bits() >> 27;
    }

    /// Sets FCSR; bits that do not exist are ignored.
    pub fn set_fcsr(&mut self, value: u32) {
        self.set_fflags(value);
        self.fpcr = value >> 5 & 7;
    }

    /// The arithmetic of an instruction without a rounding mode.
    #[inline(always)]
    pub(super) fn rv64_fpu(&self) -> Fpu {
        Fpu::new(Control { rounding: Rounding::TieEven, is_inexact: self.fpsr & INEXACT != 0 })
    }

    /// The arithmetic of an instruction with a rounding mode; the reserved ones make it undefined.
    #[inline(always)]
    pub(super) fn rounding_fpu(&mut self, op: &Op) -> Result<Fpu, Leave> {
        let field = op.bits(14, 12);
        self.fpu_of_mode(op, if field == DYNAMIC { self.fpcr } else { field })
    }

    /// The arithmetic of an instruction that rounds by frm.
    pub(super) fn frm_fpu(&mut self, op: &Op) -> Result<Fpu, Leave> {
        self.fpu_of_mode(op, self.fpcr)
    }

    #[inline(always)]
    fn fpu_of_mode(&mut self, op: &Op, mode: u32) -> Result<Fpu, Leave> {
        let rounding = match mode {
            0 => Rounding::TieEven,
            1 => Rounding::Zero,
            2 => Rounding::MinusInfinity,
            3 => Rounding::PlusInfinity,
            4 => Rounding::TieAway,
            _ => return self.undefined(op),
        };
        Ok(Fpu::new(Control { rounding, is_inexact: self.fpsr & INEXACT != 0 }))
    }

    /// Adds the flags that an instruction has raised.
    #[inline(always)]
    pub(super) fn raise(&mut self, flags: Flags) {
        self.fpsr |= a64::cumulative(flags) & FLAGS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fcsr_is_what_was_written() {
        let mut state = State::default();
        for value in 0..256 {
            state.set_fcsr(value | 0x5500);
            assert_eq!(state.fcsr(), value);
        }
        state.set_fcsr(0);
        state.raise(Flags::INEXACT | Flags::UNDERFLOW);
        assert_eq!(state.fflags(), 3);
        state.raise(Flags::INVALID);
        assert_eq!(state.fflags(), 0x13);
    }
}
