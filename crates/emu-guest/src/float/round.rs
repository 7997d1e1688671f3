//! Rounding to a format, and to an integer.

use super::environment::{Exact, Flags, Rounding, Tininess};
use super::format::{Format, infinity, max_normal, signed};
use super::unpack::Unpacked;

impl Exact {
    /// FPRound of `mantissa * 2^exponent`, not zero. Bits beyond the format may be jammed into the lowest.
    pub(super) fn round<F: Format>(
        &mut self,
        sign: bool,
        exponent: i32,
        mantissa: u128,
        rounding: Rounding,
    ) -> u64 {
        self.round_to::<F>(sign, exponent, mantissa, rounding, false)
    }

    /// [`Exact::round`]; with `alternative` to Arm's alternative half precision.
    pub(super) fn round_to<F: Format>(
        &mut self,
        sign: bool,
        exponent: i32,
        mantissa: u128,
        rounding: Rounding,
        alternative: bool,
    ) -> u64 {
        let top = 127 - mantissa.leading_zeros() as i32 + exponent;
        let tiny = top < F::EXPONENT_MIN;
        if F::FLUSHES && self.environment.flushes_outputs() && tiny {
            self.raise(Flags::UNDERFLOW);
            return signed::<F>(sign, 0);
        }
        let unit = top.max(F::EXPONENT_MIN) - F::FRACTION as i32;
        let (units, rest) = split(mantissa, unit - exponent);
        let inexact = rest != 0;
        if tiny && inexact && !self.becomes_normal::<F>(sign, exponent, mantissa, rounding) {
            self.raise(Flags::UNDERFLOW);
        }
        // A carry out of the fraction goes on into the exponent.
        let biased = if tiny { 0 } else { (top - F::EXPONENT_MIN) as u64 };
        let bits = (biased << F::FRACTION) + rounded(sign, units, rest, rounding);
        if alternative {
            if bits >= 1 << (F::WIDTH - 1) {
                self.raise(Flags::INVALID);
                return signed::<F>(sign, F::SIGN - 1);
            }
        } else if bits >= F::INFINITY {
            return self.overflow::<F>(sign, rounding);
        }
        if inexact {
            self.raise(Flags::INEXACT);
        }
        signed::<F>(sign, bits)
    }

    /// Whether a number below the smallest normal one is not tiny: tininess is detected after rounding, and
    /// the format's precision with an exponent without limit rounds to the smallest normal number.
    fn becomes_normal<F: Format>(
        &self,
        sign: bool,
        exponent: i32,
        mantissa: u128,
        rounding: Rounding,
    ) -> bool {
        if self.environment.tininess_is() == Tininess::BeforeRounding {
            return false;
        }
        // The unit in the last place of the binade below the smallest normal number. Numbers below this
        // binade round to its start at most.
        let unit = F::EXPONENT_MIN - 1 - F::FRACTION as i32;
        let (units, rest) = split(mantissa, unit - exponent);
        rounded(sign, units, rest, rounding) >> (F::FRACTION + 1) != 0
    }

    /// The result of a number beyond the largest one (IEEE 754, clause 7.4).
    pub(super) fn overflow<F: Format>(&mut self, sign: bool, rounding: Rounding) -> u64 {
        self.raise(Flags::OVERFLOW | Flags::INEXACT);
        let to_infinity = match rounding {
            Rounding::TieEven | Rounding::TieAway => true,
            Rounding::PlusInfinity => !sign,
            Rounding::MinusInfinity => sign,
            Rounding::Zero | Rounding::Odd => false,
        };
        if to_infinity { infinity::<F>(sign) } else { max_normal::<F>(sign) }
    }
}

/// A mantissa below 2^127 in units of 2^`shift`, and whether the rest is nothing, below, at, or above one
/// half (0 to 3).
#[inline]
fn split(mantissa: u128, shift: i32) -> (u64, u32) {
    debug_assert!(mantissa >> 127 == 0);
    match shift {
        ..1 => ((mantissa << -shift) as u64, 0),
        1..128 => {
            let rest = mantissa << (128 - shift);
            ((mantissa >> shift) as u64, (rest >> 127) as u32 * 2 + u32::from(rest << 1 != 0))
        }
        _ => (0, 1),
    }
}

/// `units` rounded by the `rest` of [`split`].
#[inline]
fn rounded(sign: bool, units: u64, rest: u32, rounding: Rounding) -> u64 {
    let up = match rounding {
        Rounding::TieEven => rest > 2 || rest == 2 && units & 1 == 1,
        Rounding::TieAway => rest >= 2,
        Rounding::PlusInfinity => rest != 0 && !sign,
        Rounding::MinusInfinity => rest != 0 && sign,
        Rounding::Zero => false,
        Rounding::Odd => rest != 0 && units & 1 == 0,
    };
    units + u64::from(up)
}

/// Shifts right; bits lost set the low bit.
pub(super) fn shift_jam(value: u128, amount: u32) -> u128 {
    match amount {
        0 => value,
        1..128 => value >> amount | u128::from(value << (128 - amount) != 0),
        _ => u128::from(value != 0),
    }
}

/// Magnitude of a finite number rounded to an integer, and whether it is another. The exponent is at most 64.
#[inline]
pub(super) fn integral(value: &Unpacked, rounding: Rounding) -> (u128, bool) {
    if value.exponent >= 0 {
        return (u128::from(value.mantissa) << value.exponent, false);
    }
    let shift = value.exponent.unsigned_abs();
    // From 64 on the number is below one half: mantissas have 53 bits at most.
    let (whole, rest) = if shift < 64 {
        (value.mantissa >> shift, below_half_or_above(value.mantissa << (64 - shift)))
    } else {
        (0, 1)
    };
    (u128::from(rounded(value.sign, whole, rest, rounding)), rest != 0)
}

/// Whether a fraction in units of 2^-64 is nothing, below, at, or above one half (0 to 3).
fn below_half_or_above(fraction: u64) -> u32 {
    (fraction >> 63) as u32 * 2 + u32::from(fraction << 1 != 0)
}
