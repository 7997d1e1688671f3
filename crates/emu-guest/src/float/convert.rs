//! Conversions between formats, to and from integers and fixed-point numbers, and to integral numbers.

use super::environment::{Exact, Flags, HalfFormat, NanInteger, NanRule, Rounding};
use super::format::{Format, default_nan, infinity, signed};
use super::round::integral;
use super::unpack::{Class, Unpacked};

impl Exact {
    /// FPRoundInt. `exact` raises inexactness.
    pub(super) fn round_int<F: Format>(&mut self, a: u64, rounding: Rounding, exact: bool) -> u64 {
        let ua = self.unpack::<F>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => self.nan::<F>(ua.class, a),
            Class::Infinity => infinity::<F>(ua.sign),
            Class::Zero => signed::<F>(ua.sign, 0),
            Class::Finite if ua.exponent >= 0 => a,
            Class::Finite => {
                let (magnitude, inexact) = integral(&ua, rounding);
                if inexact && exact {
                    self.raise(Flags::INEXACT);
                }
                if magnitude == 0 { signed::<F>(ua.sign, 0) } else { whole::<F>(ua.sign, magnitude as u64) }
            }
        }
    }

    /// FPToFixed: to an integer of `width` bits with `fbits` fraction bits, saturating.
    #[inline]
    pub(super) fn fixed_of<F: Format>(
        &mut self,
        a: u64,
        fbits: u32,
        unsigned: bool,
        rounding: Rounding,
        width: u32,
    ) -> u64 {
        let mut ua = self.unpack::<F>(a);
        let mask = u64::MAX >> (64 - width);
        let largest = if unsigned { mask } else { mask >> 1 };
        let magnitude_max = match (ua.sign, unsigned) {
            (false, _) => largest,
            (true, false) => largest + 1,
            (true, true) => 0,
        };
        let signed = |magnitude: u64| if ua.sign { magnitude.wrapping_neg() & mask } else { magnitude };
        let saturated = signed(magnitude_max);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => {
                self.raise(Flags::INVALID);
                return match self.environment.integer_of_nan() {
                    NanInteger::Zero => 0,
                    NanInteger::Largest => largest,
                };
            }
            Class::Infinity => {
                self.raise(Flags::INVALID);
                return saturated;
            }
            Class::Zero => return 0,
            Class::Finite => {}
        }
        ua.exponent += fbits as i32;
        if ua.exponent > 64 {
            self.raise(Flags::INVALID);
            return saturated;
        }
        let (magnitude, inexact) = integral(&ua, rounding);
        if magnitude > u128::from(magnitude_max) {
            self.raise(Flags::INVALID);
            return saturated;
        }
        if inexact {
            self.raise(Flags::INEXACT);
        }
        signed(magnitude as u64)
    }

    /// FixedToFP of the 64-bit `value` with `fbits` fraction bits.
    pub(super) fn float_of<F: Format>(&mut self, value: u64, fbits: u32, unsigned: bool) -> u64 {
        if value == 0 {
            return 0;
        }
        let negative = !unsigned && (value as i64) < 0;
        let magnitude = if negative { value.wrapping_neg() } else { value };
        self.round::<F>(negative, -(fbits as i32), u128::from(magnitude), self.rounding())
    }

    /// FPConvert from format `F` to `T`.
    pub(super) fn convert<F: Format, T: Format>(&mut self, a: u64, rounding: Rounding) -> u64 {
        let half = self.environment.half_format();
        let alternative = |width: u32| width == 16 && half == HalfFormat::Alternative;
        let ua = if alternative(F::WIDTH) && a & F::INFINITY == F::INFINITY {
            // The alternative format has numbers where others have infinities and NaNs.
            let mantissa = a & F::FRACTION_MASK | 1 << F::FRACTION;
            let exponent = -F::EXPONENT_MIN + 2 - F::FRACTION as i32;
            Unpacked { class: Class::Finite, sign: a & F::SIGN != 0, exponent, mantissa }
        } else {
            self.unpack::<F>(a)
        };
        let alternative = alternative(T::WIDTH);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => {
                if ua.is(Class::SignallingNan) || alternative {
                    self.raise(Flags::INVALID);
                }
                if alternative {
                    signed::<T>(ua.sign, 0)
                } else if self.environment.nan_rule() == NanRule::Canonical {
                    default_nan::<T>()
                } else {
                    let fraction = (a & F::FRACTION_MASK) << (52 - F::FRACTION) >> (52 - T::FRACTION);
                    signed::<T>(ua.sign, T::INFINITY | T::QUIET | fraction)
                }
            }
            Class::Infinity if alternative => {
                self.raise(Flags::INVALID);
                signed::<T>(ua.sign, T::SIGN - 1)
            }
            Class::Infinity => infinity::<T>(ua.sign),
            Class::Zero => signed::<T>(ua.sign, 0),
            Class::Finite if T::WIDTH > F::WIDTH && ua.mantissa >> F::FRACTION != 0 => widened::<F, T>(&ua),
            Class::Finite => {
                self.round_to::<T>(ua.sign, ua.exponent, u128::from(ua.mantissa), rounding, alternative)
            }
        }
    }
}

/// A normal number in a format with more bits of exponent and fraction: the same number.
fn widened<F: Format, T: Format>(value: &Unpacked) -> u64 {
    let biased = (value.exponent + F::FRACTION as i32 - T::EXPONENT_MIN + 1) as u64;
    let fraction = (value.mantissa & F::FRACTION_MASK) << (T::FRACTION - F::FRACTION);
    signed::<T>(value.sign, biased << T::FRACTION | fraction)
}

/// The number `magnitude`, from 1 to 2^`FRACTION`.
fn whole<F: Format>(sign: bool, magnitude: u64) -> u64 {
    let top = magnitude.ilog2();
    let biased = (top as i32 - F::EXPONENT_MIN + 1) as u64;
    signed::<F>(sign, biased << F::FRACTION | magnitude << (F::FRACTION - top) & F::FRACTION_MASK)
}
