//! The modes of floating point in Advanced SIMD: FPSCR does not change them, but for two bits (manual J1.3,
//! StandardFPSCRValue).

use crate::a64::cumulative;
use crate::float::{Control, Environment, Flags, Format, Fpu, HalfFormat, NanRule, Rounding};
use crate::state::State;

/// FPSCR.AHP: the alternative half-precision format, in conversions.
const AHP: u32 = 1 << 26;
/// FPSCR.IXC: a result was inexact.
const IXC: u32 = 1 << 4;
/// FPSCR.FZ16: flushing in arithmetic in half precision.
const FZ16: u32 = 1 << 19;

/// Bits of a number in half precision.
const HALF: u32 = 16;

/// The modes, and whether a result was inexact before.
#[derive(Clone, Copy)]
pub(crate) struct Modes {
    environment: Environment,
    inexact: bool,
}

impl Modes {
    /// The modes, with a rounding and flushing of one's own.
    pub(crate) fn new(rounding: Rounding, flush: bool) -> Modes {
        let environment = Environment::new(rounding).flush_inputs(flush).flush_outputs(flush);
        Modes { environment: environment.nan(NanRule::Canonical), inexact: false }
    }
}

impl Control for Modes {
    #[inline(always)]
    fn environment(self) -> Environment {
        self.environment
    }

    /// Numbers that are zero or normal are not flushed.
    #[inline(always)]
    fn host_agrees(self) -> bool {
        self.inexact
    }
}

/// Arithmetic of Advanced SIMD.
pub(crate) type Arithmetic = Fpu<Modes>;

impl State {
    /// Whether subnormal numbers in half precision count as zeros.
    #[inline(always)]
    pub(crate) fn flushes_half(&self) -> bool {
        self.fpcr & FZ16 != 0
    }

    /// Arithmetic in a format: default NaNs, flushing to zero, rounding to nearest.
    #[inline(always)]
    pub(crate) fn standard<F: Format>(&self) -> Arithmetic {
        let modes = Modes::new(Rounding::TieEven, F::WIDTH != HALF || self.flushes_half());
        Fpu::new(Modes { inexact: self.fpsr & IXC != 0, ..modes })
    }

    /// Conversions between half and single precision.
    pub(crate) fn standard_conversion(&self) -> Arithmetic {
        let half = if self.fpcr & AHP != 0 { HalfFormat::Alternative } else { HalfFormat::Ieee };
        let modes = Modes::new(Rounding::TieEven, true);
        Fpu::new(Modes { environment: modes.environment.half(half), ..modes })
    }

    /// Sets the cumulative flags of FPSCR that were raised by arithmetic in a format. Flushing by FZ16 does
    /// not raise the flag for subnormal operands (manual, FPUnpackBase).
    #[inline(always)]
    pub(crate) fn accumulate<F: Format>(&mut self, fpu: &Arithmetic) {
        let flags = fpu.flags();
        let flags = if F::WIDTH == HALF { flags.without(Flags::INPUT_DENORMAL) } else { flags };
        self.fpsr |= cumulative(flags);
    }
}
