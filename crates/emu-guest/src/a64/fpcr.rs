//! FPCR and FPSR (manual C5.2.8 and C5.2.10): their bits, as modes and flags of [`crate::float`].

use crate::float::{self, Environment, Flags, HalfFormat, NanRule, Rounding};

/// FPSR bits.
const IOC: u32 = 1;
const DZC: u32 = 1 << 1;
const OFC: u32 = 1 << 2;
const UFC: u32 = 1 << 3;
const IXC: u32 = 1 << 4;
const IDC: u32 = 1 << 7;
/// Saturation.
pub(crate) const QC: u32 = 1 << 27;

/// FPCR bits.
const AHP: u32 = 1 << 26;
const DN: u32 = 1 << 25;
const FZ: u32 = 1 << 24;
const RMODE: u32 = 3 << RMODE_SHIFT;
const RMODE_SHIFT: u32 = 22;

/// Bits of FPCR that exist: AHP, DN, FZ, RMode.
pub const FPCR_MASK: u32 = AHP | DN | FZ | RMODE;
/// Bits of FPSR that exist: QC, IDC, IXC, UFC, OFC, DZC, IOC.
pub const FPSR_MASK: u32 = QC | IDC | IXC | UFC | OFC | DZC | IOC;

/// FPCR and FPSR before an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    /// FPCR.
    pub(crate) fpcr: u32,
    /// FPSR.
    pub(crate) fpsr: u32,
}

/// A64's arithmetic.
pub(crate) type Fpu = float::Fpu<Control>;

impl float::Control for Control {
    #[inline(always)]
    fn environment(self) -> Environment {
        let rounding = match (self.fpcr & RMODE) >> RMODE_SHIFT {
            0 => Rounding::TieEven,
            1 => Rounding::PlusInfinity,
            2 => Rounding::MinusInfinity,
            _ => Rounding::Zero,
        };
        let flush = self.fpcr & FZ != 0;
        Environment::new(rounding)
            .flush_inputs(flush)
            .flush_outputs(flush)
            .nan(if self.fpcr & DN != 0 { NanRule::Canonical } else { NanRule::Propagate })
            .half(if self.fpcr & AHP != 0 { HalfFormat::Alternative } else { HalfFormat::Ieee })
    }

    /// The half-precision format does not matter to arithmetic.
    #[inline(always)]
    fn host_agrees(self) -> bool {
        self.fpcr & !AHP == 0 && self.fpsr & IXC != 0
    }
}

/// The cumulative bits of FPSR that `flags` set.
#[inline(always)]
pub(crate) fn cumulative(flags: Flags) -> u32 {
    let bit = |flag: Flags, bit: u32| if flags.any(flag) { bit } else { 0 };
    bit(Flags::INVALID, IOC)
        | bit(Flags::DIVIDE_BY_ZERO, DZC)
        | bit(Flags::OVERFLOW, OFC)
        | bit(Flags::UNDERFLOW, UFC)
        | bit(Flags::INEXACT, IXC)
        | bit(Flags::INPUT_DENORMAL, IDC)
}
