//! Taking values apart, and what becomes of NaNs.

use super::environment::{DN, FZ, Fpu, IDC, IOC};
use super::format::{Format, default_nan};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Zero,
    Finite,
    Infinity,
    QuietNan,
    SignallingNan,
}

/// A value taken apart: `mantissa * 2^exponent`.
#[derive(Clone, Copy)]
pub(super) struct Unpacked {
    pub(super) class: Class,
    pub(super) sign: bool,
    pub(super) exponent: i32,
    pub(super) mantissa: u64,
}

impl Unpacked {
    pub(super) fn is_nan(&self) -> bool {
        matches!(self.class, Class::QuietNan | Class::SignallingNan)
    }

    pub(super) fn is(&self, class: Class) -> bool {
        self.class == class
    }
}

impl Fpu {
    /// FPUnpack.
    pub(super) fn unpack<F: Format>(&mut self, bits: u64) -> Unpacked {
        let sign = bits & F::SIGN != 0;
        let biased = (bits & F::INFINITY) >> F::FRACTION;
        let fraction = bits & F::FRACTION_MASK;
        let finite = |exponent: i32, mantissa: u64| Unpacked {
            class: Class::Finite,
            sign,
            exponent: exponent - F::FRACTION as i32,
            mantissa,
        };
        let special = |class| Unpacked { class, sign, exponent: 0, mantissa: 0 };
        if biased == 0 {
            if fraction == 0 {
                special(Class::Zero)
            } else if F::FLUSHES && self.fpcr & FZ != 0 {
                self.raise(IDC);
                special(Class::Zero)
            } else {
                finite(F::EXPONENT_MIN, fraction)
            }
        } else if bits & F::INFINITY == F::INFINITY {
            special(match fraction {
                0 => Class::Infinity,
                _ if fraction & F::QUIET != 0 => Class::QuietNan,
                _ => Class::SignallingNan,
            })
        } else {
            finite(biased as i32 - 1 + F::EXPONENT_MIN, fraction | 1 << F::FRACTION)
        }
    }

    /// FPProcessNaN.
    pub(super) fn nan<F: Format>(&mut self, class: Class, bits: u64) -> u64 {
        if class == Class::SignallingNan {
            self.raise(IOC);
        }
        if self.fpcr & DN != 0 { default_nan::<F>() } else { bits | F::QUIET }
    }

    /// FPProcessNaNs: signalling before quiet, then in order.
    pub(super) fn nans<F: Format>(&mut self, operands: &[(Unpacked, u64)]) -> Option<u64> {
        for class in [Class::SignallingNan, Class::QuietNan] {
            if let Some((value, bits)) = operands.iter().find(|(value, _)| value.is(class)) {
                return Some(self.nan::<F>(value.class, *bits));
            }
        }
        None
    }
}
