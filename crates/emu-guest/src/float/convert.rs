//! Conversions between formats, to and from integers and fixed-point numbers, and to integral numbers.

use super::environment::{AHP, DN, Fpu, IOC, IXC, Rounding};
use super::format::{Format, default_nan, infinity, signed};
use super::round::integral;
use super::unpack::{Class, Unpacked};

impl Fpu {
    /// FPRoundInt. `exact` raises inexactness.
    pub(crate) fn round_int<F: Format>(&mut self, a: u64, rounding: Rounding, exact: bool) -> u64 {
        let ua = self.unpack::<F>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => self.nan::<F>(ua.class, a),
            Class::Infinity => infinity::<F>(ua.sign),
            Class::Zero => signed::<F>(ua.sign, 0),
            Class::Finite if ua.exponent >= 0 => a,
            Class::Finite => {
                let (magnitude, inexact) = integral(&ua, rounding);
                if inexact && exact {
                    self.raise(IXC);
                }
                if magnitude == 0 {
                    signed::<F>(ua.sign, 0)
                } else {
                    self.round::<F>(ua.sign, 0, magnitude, Rounding::Zero)
                }
            }
        }
    }

    /// FPToFixed: to an integer of `width` bits with `fbits` fraction bits, saturating.
    pub(crate) fn fixed_of<F: Format>(
        &mut self,
        a: u64,
        fbits: u32,
        unsigned: bool,
        rounding: Rounding,
        width: u32,
    ) -> u64 {
        let mut ua = self.unpack::<F>(a);
        let mask = u64::MAX >> (64 - width);
        let (max, min) = if unsigned {
            (i128::from(mask), 0)
        } else {
            (i128::from(mask >> 1), -i128::from(mask >> 1) - 1)
        };
        let saturated = (if ua.sign { min } else { max }) as u64 & mask;
        match ua.class {
            Class::QuietNan | Class::SignallingNan => {
                self.raise(IOC);
                return 0;
            }
            Class::Infinity => {
                self.raise(IOC);
                return saturated;
            }
            Class::Zero => return 0,
            Class::Finite => {}
        }
        ua.exponent += fbits as i32;
        if ua.exponent > 64 {
            self.raise(IOC);
            return saturated;
        }
        let (magnitude, inexact) = integral(&ua, rounding);
        let value = if ua.sign { -(magnitude as i128) } else { magnitude as i128 };
        if value > max || value < min {
            self.raise(IOC);
            return saturated;
        }
        if inexact {
            self.raise(IXC);
        }
        value as u64 & mask
    }

    /// FixedToFP of the 64-bit `value` with `fbits` fraction bits.
    pub(crate) fn float_of<F: Format>(&mut self, value: u64, fbits: u32, unsigned: bool) -> u64 {
        if value == 0 {
            return 0;
        }
        let negative = !unsigned && (value as i64) < 0;
        let magnitude = if negative { value.wrapping_neg() } else { value };
        self.round::<F>(negative, -(fbits as i32), u128::from(magnitude), self.rounding())
    }

    /// FPConvert from format `F` to `T`.
    pub(crate) fn convert<F: Format, T: Format>(&mut self, a: u64, rounding: Rounding) -> u64 {
        let alternative = |width: u32, fpcr: u32| width == 16 && fpcr & AHP != 0;
        let ua = if alternative(F::WIDTH, self.fpcr) && a & F::INFINITY == F::INFINITY {
            // The alternative format has numbers where others have infinities and NaNs.
            let mantissa = a & F::FRACTION_MASK | 1 << F::FRACTION;
            let exponent = -F::EXPONENT_MIN + 2 - F::FRACTION as i32;
            Unpacked { class: Class::Finite, sign: a & F::SIGN != 0, exponent, mantissa }
        } else {
            self.unpack::<F>(a)
        };
        let alternative = alternative(T::WIDTH, self.fpcr);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => {
                if ua.is(Class::SignallingNan) || alternative {
                    self.raise(IOC);
                }
                if alternative {
                    signed::<T>(ua.sign, 0)
                } else if self.fpcr & DN != 0 {
                    default_nan::<T>()
                } else {
                    let fraction = (a & F::FRACTION_MASK) << (52 - F::FRACTION) >> (52 - T::FRACTION);
                    signed::<T>(ua.sign, T::INFINITY | T::QUIET | fraction)
                }
            }
            Class::Infinity if alternative => {
                self.raise(IOC);
                signed::<T>(ua.sign, T::SIGN - 1)
            }
            Class::Infinity => infinity::<T>(ua.sign),
            Class::Zero => signed::<T>(ua.sign, 0),
            Class::Finite => {
                self.round_to::<T>(ua.sign, ua.exponent, u128::from(ua.mantissa), rounding, alternative)
            }
        }
    }
}
