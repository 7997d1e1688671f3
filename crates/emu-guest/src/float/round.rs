//! Rounding to a format, and to an integer.

use super::environment::{FZ, Fpu, IOC, IXC, OFC, Rounding, UFC};
use super::format::{Format, infinity, max_normal, signed};
use super::unpack::Unpacked;

impl Fpu {
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

    pub(super) fn round_to<F: Format>(
        &mut self,
        sign: bool,
        exponent: i32,
        mantissa: u128,
        rounding: Rounding,
        alternative: bool,
    ) -> u64 {
        let top = 127 - mantissa.leading_zeros() as i32 + exponent;
        if F::FLUSHES && self.fpcr & FZ != 0 && top < F::EXPONENT_MIN {
            self.raise(UFC);
            return signed::<F>(sign, 0);
        }
        let tiny = top < F::EXPONENT_MIN;
        let unit = top.max(F::EXPONENT_MIN) - F::FRACTION as i32;
        let shift = unit - exponent;
        // The mantissa in units in the last place, and whether the rest is below, at, or above one half (1 to
        // 3).
        let (mut units, rest) = if shift <= 0 {
            ((mantissa << -shift) as u64, 0)
        } else if shift > 128 {
            (0, 1)
        } else {
            let units = if shift == 128 { 0 } else { (mantissa >> shift) as u64 };
            let rest = mantissa << (128 - shift);
            (
                units,
                if rest == 0 { 0 } else { (rest >> 127) as u32 * 2 + u32::from(rest << 1 != 0) }
                    .max(u32::from(rest != 0)),
            )
        };
        let inexact = rest != 0;
        if tiny && inexact {
            self.raise(UFC);
        }
        let (up, overflow_to_infinity) = match rounding {
            Rounding::TieEven => (rest > 2 || rest == 2 && units & 1 == 1, true),
            Rounding::TieAway => (rest >= 2, true),
            Rounding::PlusInfinity => (inexact && !sign, !sign),
            Rounding::MinusInfinity => (inexact && sign, sign),
            Rounding::Zero => (false, false),
            Rounding::Odd => {
                units |= u64::from(inexact);
                (false, false)
            }
        };
        units += u64::from(up);
        // A carry out of the fraction goes on into the exponent.
        let biased = if tiny { 0 } else { (top - F::EXPONENT_MIN) as u64 };
        let bits = (biased << F::FRACTION) + units;
        if alternative {
            if bits >= 1 << (F::WIDTH - 1) {
                self.raise(IOC);
                return signed::<F>(sign, F::SIGN - 1);
            }
        } else if bits >= F::INFINITY {
            self.raise(OFC | IXC);
            return if overflow_to_infinity { infinity::<F>(sign) } else { max_normal::<F>(sign) };
        }
        if inexact {
            self.raise(IXC);
        }
        signed::<F>(sign, bits)
    }
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
pub(super) fn integral(value: &Unpacked, rounding: Rounding) -> (u128, bool) {
    let mantissa = u128::from(value.mantissa);
    if value.exponent >= 0 {
        return (mantissa << value.exponent, false);
    }
    let shift = value.exponent.unsigned_abs();
    if shift > 66 {
        // Less than a quarter.
        let up = match rounding {
            Rounding::PlusInfinity => !value.sign,
            Rounding::MinusInfinity => value.sign,
            _ => false,
        };
        return (u128::from(up), true);
    }
    let whole = mantissa >> shift;
    let rest = mantissa & ((1 << shift) - 1);
    let half = 1u128 << (shift - 1);
    let up = match rounding {
        Rounding::TieEven => rest > half || rest == half && whole & 1 == 1,
        Rounding::TieAway => rest >= half,
        Rounding::PlusInfinity => rest != 0 && !value.sign,
        Rounding::MinusInfinity => rest != 0 && value.sign,
        Rounding::Zero | Rounding::Odd => false,
    };
    (whole + u128::from(up), rest != 0)
}
