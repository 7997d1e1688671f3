//! The modes of arithmetic, and the flags that accumulate.

use super::format::{Format, default_nan};

/// FPSR bits.
pub(crate) const IOC: u32 = 1;
pub(super) const DZC: u32 = 1 << 1;
pub(super) const OFC: u32 = 1 << 2;
pub(super) const UFC: u32 = 1 << 3;
pub(crate) const IXC: u32 = 1 << 4;
pub(super) const IDC: u32 = 1 << 7;
/// Saturation.
pub(crate) const QC: u32 = 1 << 27;

/// FPCR bits.
pub(super) const AHP: u32 = 1 << 26;
pub(super) const DN: u32 = 1 << 25;
pub(super) const FZ: u32 = 1 << 24;

/// Rounding modes; the first four as in FPCR.RMode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    TieEven,
    PlusInfinity,
    MinusInfinity,
    Zero,
    TieAway,
    Odd,
}

/// The control register, and flags as they accumulate.
pub(crate) struct Fpu {
    pub(crate) fpcr: u32,
    pub(crate) fpsr: u32,
}

impl Fpu {
    /// The rounding mode in FPCR.
    #[inline(always)]
    pub(crate) fn rounding(&self) -> Rounding {
        match self.fpcr >> 22 & 3 {
            0 => Rounding::TieEven,
            1 => Rounding::PlusInfinity,
            2 => Rounding::MinusInfinity,
            _ => Rounding::Zero,
        }
    }

    pub(super) fn raise(&mut self, flags: u32) {
        self.fpsr |= flags;
    }

    pub(super) fn invalid<F: Format>(&mut self) -> u64 {
        self.raise(IOC);
        default_nan::<F>()
    }
}
