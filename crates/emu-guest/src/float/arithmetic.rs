//! Addition, subtraction, multiplication, division, square root, and fused multiply-add (IEEE 754, clause
//! 5.4.1).

use super::environment::{Exact, Flags, Rounding};
use super::format::{Format, infinity, signed};
use super::round::shift_jam;
use super::unpack::{Class, Unpacked};

impl Exact {
    /// FPAdd.
    pub(super) fn add<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        self.signed_sum::<F>(a, b, false)
    }

    /// FPSub.
    pub(super) fn sub<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        self.signed_sum::<F>(a, b, true)
    }

    fn signed_sum<F: Format>(&mut self, a: u64, b: u64, negate: bool) -> u64 {
        let (ua, mut ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F, _>([(&ua, a), (&ub, b)]) {
            return nan;
        }
        ub.sign ^= negate;
        match (ua.is(Class::Infinity), ub.is(Class::Infinity)) {
            (true, true) if ua.sign != ub.sign => return self.invalid::<F>(),
            (true, _) => return infinity::<F>(ua.sign),
            (_, true) => return infinity::<F>(ub.sign),
            _ => {}
        }
        if ua.is(Class::Zero) && ub.is(Class::Zero) && ua.sign == ub.sign {
            return signed::<F>(ua.sign, 0);
        }
        let wide = |value: &Unpacked| (value.sign, value.exponent, u128::from(value.mantissa) << 64);
        let (sign, exponent, mantissa) = sum(wide(&ua), wide(&ub));
        self.sum_result::<F>(sign, exponent - 64, mantissa)
    }

    pub(super) fn sum_result<F: Format>(&mut self, sign: bool, exponent: i32, mantissa: u128) -> u64 {
        let rounding = self.rounding();
        if mantissa == 0 {
            return signed::<F>(rounding == Rounding::MinusInfinity, 0);
        }
        self.round::<F>(sign, exponent, mantissa, rounding)
    }

    /// FPMul.
    pub(super) fn mul<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        self.product::<F>(a, b, |exact, _| exact.invalid::<F>())
    }

    /// A product, where the caller knows what zero times infinity is by its sign.
    pub(super) fn product<F: Format>(
        &mut self,
        a: u64,
        b: u64,
        zero_times_infinity: impl FnOnce(&mut Exact, bool) -> u64,
    ) -> u64 {
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F, _>([(&ua, a), (&ub, b)]) {
            return nan;
        }
        let sign = ua.sign != ub.sign;
        let infinite = ua.is(Class::Infinity) || ub.is(Class::Infinity);
        let zero = ua.is(Class::Zero) || ub.is(Class::Zero);
        if infinite && zero {
            return zero_times_infinity(self, sign);
        }
        if infinite {
            return infinity::<F>(sign);
        }
        if zero {
            return signed::<F>(sign, 0);
        }
        let product = u128::from(ua.mantissa) * u128::from(ub.mantissa);
        self.round::<F>(sign, ua.exponent + ub.exponent, product, self.rounding())
    }

    /// FPDiv.
    pub(super) fn div<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F, _>([(&ua, a), (&ub, b)]) {
            return nan;
        }
        let sign = ua.sign != ub.sign;
        match (ua.class, ub.class) {
            (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => self.invalid::<F>(),
            (Class::Infinity, _) => infinity::<F>(sign),
            (_, Class::Zero) => {
                self.raise(Flags::DIVIDE_BY_ZERO);
                infinity::<F>(sign)
            }
            (Class::Zero, _) | (_, Class::Infinity) => signed::<F>(sign, 0),
            _ => {
                // Both normalised to 64 bits: a quotient of 63 or 64 bits and a remainder.
                let (la, lb) = (ua.mantissa.leading_zeros(), ub.mantissa.leading_zeros());
                let dividend = u128::from(ua.mantissa << la) << 63;
                let divisor = u128::from(ub.mantissa << lb);
                let quotient = dividend / divisor << 1 | u128::from(dividend % divisor != 0);
                let exponent = ua.exponent - la as i32 - 64 - (ub.exponent - lb as i32);
                self.round::<F>(sign, exponent, quotient, self.rounding())
            }
        }
    }

    /// FPSqrt.
    pub(super) fn sqrt<F: Format>(&mut self, a: u64) -> u64 {
        let ua = self.unpack::<F>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => self.nan::<F>(ua.class, a),
            Class::Zero => signed::<F>(ua.sign, 0),
            _ if ua.sign => self.invalid::<F>(),
            Class::Infinity => infinity::<F>(false),
            Class::Finite => {
                let leading = ua.mantissa.leading_zeros();
                let (mut mantissa, mut exponent) =
                    (u128::from(ua.mantissa << leading) << 62, ua.exponent - leading as i32 - 62);
                if exponent & 1 != 0 {
                    mantissa <<= 1;
                    exponent -= 1;
                }
                let root = mantissa.isqrt();
                let jammed = root << 1 | u128::from(root * root != mantissa);
                self.round::<F>(false, exponent / 2 - 1, jammed, self.rounding())
            }
        }
    }

    /// FPMulAdd: `addend + a * b`, rounded once. Zero times infinity is invalid also when the addend is a
    /// quiet NaN (IEEE 754, clause 7.2, leaves this to the CPU; RISC-V's F extension asks for it, too).
    pub(super) fn mul_add<F: Format>(&mut self, addend: u64, a: u64, b: u64) -> u64 {
        let (uc, ua, ub) = (self.unpack::<F>(addend), self.unpack::<F>(a), self.unpack::<F>(b));
        let infinite = ua.is(Class::Infinity) || ub.is(Class::Infinity);
        let zero = ua.is(Class::Zero) || ub.is(Class::Zero);
        let invalid_product = infinite && zero;
        if uc.is(Class::QuietNan) && invalid_product {
            return self.invalid::<F>();
        }
        if let Some(nan) = self.nans::<F, _>([(&uc, addend), (&ua, a), (&ub, b)]) {
            return nan;
        }
        let sign = ua.sign != ub.sign;
        if invalid_product || uc.is(Class::Infinity) && infinite && uc.sign != sign {
            return self.invalid::<F>();
        }
        if uc.is(Class::Infinity) {
            return infinity::<F>(uc.sign);
        }
        if infinite {
            return infinity::<F>(sign);
        }
        if uc.is(Class::Zero) && zero && uc.sign == sign {
            return signed::<F>(sign, 0);
        }
        let product = (sign, ua.exponent + ub.exponent, u128::from(ua.mantissa) * u128::from(ub.mantissa));
        let (sign, exponent, mantissa) = sum(product, (uc.sign, uc.exponent, u128::from(uc.mantissa)));
        self.sum_result::<F>(sign, exponent, mantissa)
    }
}

/// Sum of two numbers `mantissa * 2^exponent`, exact but for a jammed lowest bit far below the result's
/// precision. A zero mantissa is zero.
#[inline]
pub(super) fn sum(a: (bool, i32, u128), b: (bool, i32, u128)) -> (bool, i32, u128) {
    // Top bits at 125: room for a carry, and 70 bits below a double's precision. Cancellation of more than
    // one bit needs exponents at most one apart, when nothing is lost.
    let normalise = |(sign, exponent, mantissa): (bool, i32, u128)| {
        let shift = mantissa.leading_zeros() as i32 - 2;
        if mantissa == 0 {
            (sign, i32::MIN / 2, 0)
        } else if shift >= 0 {
            (sign, exponent - shift, mantissa << shift)
        } else {
            (sign, exponent - shift, shift_jam(mantissa, -shift as u32))
        }
    };
    let (a, b) = (normalise(a), normalise(b));
    let (big, small) = if a.1 >= b.1 { (a, b) } else { (b, a) };
    let aligned = shift_jam(small.2, (big.1 - small.1) as u32);
    if big.0 == small.0 {
        (big.0, big.1, big.2 + aligned)
    } else if big.2 >= aligned {
        (big.0, big.1, big.2 - aligned)
    } else {
        (small.0, big.1, aligned - big.2)
    }
}
