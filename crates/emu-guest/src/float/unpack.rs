//! Taking values apart, and what becomes of NaNs.

use super::environment::{Exact, Flags, NanRule};
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

impl Exact {
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
            } else if F::FLUSHES && self.environment.flushes_inputs() {
                self.raise(Flags::INPUT_DENORMAL);
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
            self.raise(Flags::INVALID);
        }
        match self.environment.nan_rule() {
            NanRule::Propagate => bits | F::QUIET,
            NanRule::Canonical => default_nan::<F>(),
        }
    }

    /// FPProcessNaNs: signalling before quiet, then in order.
    #[inline(always)]
    pub(super) fn nans<F: Format, const N: usize>(&mut self, operands: [(&Unpacked, u64); N]) -> Option<u64> {
        if !operands.iter().any(|(value, _)| value.is_nan()) {
            return None;
        }
        let bits = operands.map(|(_, bits)| bits);
        Some(self.first_nan::<F>(&bits))
    }

    /// What the NaNs among `operands` become. There is one at least.
    #[cold]
    fn first_nan<F: Format>(&mut self, operands: &[u64]) -> u64 {
        for class in [Class::SignallingNan, Class::QuietNan] {
            if let Some(&bits) = operands.iter().find(|&&bits| self.unpack::<F>(bits).is(class)) {
                return self.nan::<F>(class, bits);
            }
        }
        unreachable!("no operand is a NaN")
    }
}
