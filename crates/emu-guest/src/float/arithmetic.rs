//! Addition, subtraction, multiplication, division, square root, and fused multiply-add (IEEE 754, clause
//! 5.4.1).

use super::environment::{DZC, Fpu, Rounding};
use super::format::{Format, infinity, power, signed};
use super::host::HostFormat;
use super::round::shift_jam;
use super::unpack::{Class, Unpacked};

impl Fpu {
    /// FPAdd.
    #[inline(always)]
    pub(crate) fn add<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.fast() && Self::plain::<F>(a) && Self::plain::<F>(b) {
            let sum = F::add(a, b);
            if Self::normal::<F>(sum) {
                return sum;
            }
        }
        self.add_exact::<F>(a, b, false)
    }

    /// FPSub.
    #[inline(always)]
    pub(crate) fn sub<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.fast() && Self::plain::<F>(a) && Self::plain::<F>(b) {
            let difference = F::sub(a, b);
            if Self::normal::<F>(difference) {
                return difference;
            }
        }
        self.add_exact::<F>(a, b, true)
    }

    #[inline(never)]
    fn add_exact<F: Format>(&mut self, a: u64, b: u64, negate: bool) -> u64 {
        let (ua, mut ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F>(&[(ua, a), (ub, b)]) {
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
    #[inline(always)]
    pub(crate) fn mul<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.fast() && Self::plain::<F>(a) && Self::plain::<F>(b) {
            let product = F::mul(a, b);
            if Self::normal::<F>(product) {
                return product;
            }
        }
        self.mul_exact::<F>(a, b, false)
    }

    #[inline(never)]
    pub(super) fn mul_exact<F: Format>(&mut self, a: u64, b: u64, extended: bool) -> u64 {
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F>(&[(ua, a), (ub, b)]) {
            return nan;
        }
        let sign = ua.sign != ub.sign;
        let infinite = ua.is(Class::Infinity) || ub.is(Class::Infinity);
        let zero = ua.is(Class::Zero) || ub.is(Class::Zero);
        if infinite && zero {
            return if extended { power::<F>(sign, 1, false) } else { self.invalid::<F>() };
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
    #[inline(always)]
    pub(crate) fn div<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.fast() && Self::plain::<F>(a) && Self::plain::<F>(b) {
            let quotient = F::div(a, b);
            if Self::normal::<F>(quotient) {
                return quotient;
            }
        }
        self.div_exact::<F>(a, b)
    }

    #[inline(never)]
    fn div_exact<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F>(&[(ua, a), (ub, b)]) {
            return nan;
        }
        let sign = ua.sign != ub.sign;
        match (ua.class, ub.class) {
            (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => self.invalid::<F>(),
            (Class::Infinity, _) => infinity::<F>(sign),
            (_, Class::Zero) => {
                self.raise(DZC);
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
    pub(crate) fn sqrt<F: HostFormat>(&mut self, a: u64) -> u64 {
        if self.fast() && Self::normal::<F>(a) && a & F::SIGN == 0 {
            let root = F::sqrt(a);
            if Self::normal::<F>(root) {
                return root;
            }
        }
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
                let root = square_root(mantissa);
                let jammed = root << 1 | u128::from(root * root != mantissa);
                self.round::<F>(false, exponent / 2 - 1, jammed, self.rounding())
            }
        }
    }

    /// FPMulAdd: `addend + a * b`, rounded once.
    #[inline(always)]
    pub(crate) fn mul_add<F: HostFormat>(&mut self, addend: u64, a: u64, b: u64) -> u64 {
        if self.fast()
            && Self::plain::<F>(a)
            && Self::plain::<F>(b)
            && Self::plain::<F>(addend)
            && let Some(sum) = F::mul_add(a, b, addend)
            && Self::normal::<F>(sum)
        {
            return sum;
        }
        self.mul_add_exact::<F>(addend, a, b)
    }

    #[inline(never)]
    fn mul_add_exact<F: Format>(&mut self, addend: u64, a: u64, b: u64) -> u64 {
        let (uc, ua, ub) = (self.unpack::<F>(addend), self.unpack::<F>(a), self.unpack::<F>(b));
        let infinite = ua.is(Class::Infinity) || ub.is(Class::Infinity);
        let zero = ua.is(Class::Zero) || ub.is(Class::Zero);
        let invalid_product = infinite && zero;
        if uc.is(Class::QuietNan) && invalid_product {
            return self.invalid::<F>();
        }
        if let Some(nan) = self.nans::<F>(&[(uc, addend), (ua, a), (ub, b)]) {
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

/// The largest integer whose square is at most `value`.
fn square_root(value: u128) -> u128 {
    let (mut root, mut rest) = (0u128, value);
    let mut bit = 1u128 << 126;
    while bit != 0 {
        if rest >= root + bit {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
        bit >>= 2;
    }
    root
}

/// Sum of two numbers `mantissa * 2^exponent`, exact but for a jammed lowest bit far below the result's
/// precision. A zero mantissa is zero.
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

#[cfg(test)]
mod tests {
    use super::super::environment::{IOC, IXC, UFC};
    use super::super::format::Double;
    use super::*;

    fn fpu() -> Fpu {
        Fpu { fpcr: 0, fpsr: 0 }
    }

    #[test]
    fn double_arithmetic_agrees_with_the_host() {
        let values =
            [0.0, 1.0, -1.5, 3.0, 1e300, 1e-300, 5e-324, f64::MAX, 0.1, -7.25, 2.2250738585072014e-308];
        for a in values {
            for b in values {
                let (x, y) = (a.to_bits(), b.to_bits());
                assert_eq!(fpu().add::<Double>(x, y), (a + b).to_bits(), "{a} + {b}");
                assert_eq!(fpu().sub::<Double>(x, y), (a - b).to_bits(), "{a} - {b}");
                assert_eq!(fpu().mul::<Double>(x, y), (a * b).to_bits(), "{a} * {b}");
                if b != 0.0 {
                    assert_eq!(fpu().div::<Double>(x, y), (a / b).to_bits(), "{a} / {b}");
                }
            }
        }
    }

    #[test]
    fn the_default_nan_is_positive() {
        let mut fpu = fpu();
        assert_eq!(fpu.div::<Double>(0, 0), 0x7ff8_0000_0000_0000);
        assert_eq!(fpu.fpsr, IOC);
    }

    #[test]
    fn the_smallest_normal_number_reached_by_rounding_up_is_tiny() {
        // The largest subnormal number times one and a bit.
        let mut fpu = fpu();
        let result = fpu.mul::<Double>(0x000f_ffff_ffff_ffff, 0x3ff0_0000_0000_0001);
        assert_eq!(result, 0x0010_0000_0000_0000);
        assert_eq!(fpu.fpsr, UFC | IXC);
    }
}
