//! Operations that only Arm has: estimates and steps of reciprocals, FMULX, and the conversion of JavaScript.

use super::arithmetic::sum;
use super::environment::{Environment, Exact, Flags, NanRule, Rounding};
use super::format::{Double, Format, infinity, power, signed};
use super::fpu::{Control, Fpu};
use super::round::integral;
use super::unpack::Class;

impl Environment {
    /// What 32-bit Arm's vector instructions compute with, whatever FPSCR says (StandardFPSCRValue).
    #[cfg_attr(not(test), expect(dead_code, reason = "for 32-bit Arm"))]
    pub(crate) const fn standard_fpscr() -> Environment {
        Environment::new(Rounding::TieEven).flush_inputs(true).flush_outputs(true).nan(NanRule::Canonical)
    }
}

impl Exact {
    /// FPMulX: zero times infinity is two.
    pub(super) fn mulx<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        self.product::<F>(a, b, |_, sign| power::<F>(sign, 1, false))
    }

    /// FPRecipStepFused: `2 - a * b`. FPRSqrtStepFused with `root`: `(3 - a * b) / 2`.
    pub(super) fn step<F: Format>(&mut self, a: u64, b: u64, root: bool) -> u64 {
        let a = a ^ F::SIGN;
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F, _>([(&ua, a), (&ub, b)]) {
            return nan;
        }
        let infinite = ua.is(Class::Infinity) || ub.is(Class::Infinity);
        let zero = ua.is(Class::Zero) || ub.is(Class::Zero);
        let sign = ua.sign != ub.sign;
        if infinite && zero {
            return if root { power::<F>(false, 0, true) } else { power::<F>(false, 1, false) };
        }
        if infinite {
            return infinity::<F>(sign);
        }
        let product = (sign, ua.exponent + ub.exponent, u128::from(ua.mantissa) * u128::from(ub.mantissa));
        let (sign, exponent, mantissa) = sum(product, (false, 0, if root { 3 } else { 2 }));
        self.sum_result::<F>(sign, exponent - i32::from(root), mantissa)
    }

    /// FPToFixedJS: the low 32 bits of the integer part, and whether it is exactly the number.
    pub(super) fn javascript_of(&mut self, a: u64) -> (u32, bool) {
        let ua = self.unpack::<Double>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan | Class::Infinity => {
                self.raise(Flags::INVALID);
                (0, false)
            }
            Class::Zero => (0, !ua.sign && a == 0),
            Class::Finite => {
                let negative = |value: u32| if ua.sign { value.wrapping_neg() } else { value };
                if ua.exponent >= 0 {
                    // 2^52 or more: the low bits count.
                    self.raise(Flags::INVALID);
                    let low = if ua.exponent < 32 { (ua.mantissa << ua.exponent) as u32 } else { 0 };
                    return (negative(low), false);
                }
                let (magnitude, inexact) = integral(&ua, Rounding::Zero);
                let limit = (1u128 << 31) - u128::from(!ua.sign);
                if magnitude > limit {
                    self.raise(Flags::INVALID);
                    return (negative(magnitude as u32), false);
                }
                if inexact {
                    self.raise(Flags::INEXACT);
                }
                (negative(magnitude as u32), !inexact)
            }
        }
    }

    /// FPRecipEstimate.
    #[inline]
    pub(super) fn reciprocal_estimate<F: Format>(&mut self, a: u64) -> u64 {
        let ua = self.unpack::<F>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => return self.nan::<F>(ua.class, a),
            Class::Infinity => return signed::<F>(ua.sign, 0),
            Class::Zero => {
                self.raise(Flags::DIVIDE_BY_ZERO);
                return infinity::<F>(ua.sign);
            }
            Class::Finite => {}
        }
        let bias = (1 << (F::EXPONENT - 1)) - 1;
        let (mut fraction, mut exponent) = estimate_operand::<F>(a);
        // Below 2^-(bias + 1) the reciprocal overflows.
        if exponent == 0 && fraction >> 50 == 0 {
            return self.overflow::<F>(ua.sign, self.rounding());
        }
        // From 2^(bias - 1) the reciprocal is subnormal.
        if F::FLUSHES && self.environment.flushes_outputs() && exponent >= 2 * bias - 1 {
            self.raise(Flags::UNDERFLOW);
            return signed::<F>(ua.sign, 0);
        }
        if exponent == 0 {
            if fraction >> 51 == 0 {
                exponent = -1;
                fraction <<= 2;
            } else {
                fraction <<= 1;
            }
            fraction &= (1 << 52) - 1;
        }
        let estimate = u64::from(reciprocal((256 | fraction >> 44) as u32));
        let mut result_exponent = 2 * bias - 1 - exponent;
        let mut fraction = (estimate & 0xff) << 44;
        if result_exponent == 0 {
            fraction = 1 << 51 | fraction >> 1;
        } else if result_exponent == -1 {
            fraction = 1 << 50 | fraction >> 2;
            result_exponent = 0;
        }
        signed::<F>(ua.sign, (result_exponent as u64) << F::FRACTION | fraction >> (52 - F::FRACTION))
    }

    /// FPRSqrtEstimate.
    #[inline]
    pub(super) fn root_estimate<F: Format>(&mut self, a: u64) -> u64 {
        let ua = self.unpack::<F>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => return self.nan::<F>(ua.class, a),
            Class::Zero => {
                self.raise(Flags::DIVIDE_BY_ZERO);
                return infinity::<F>(ua.sign);
            }
            _ if ua.sign => return self.invalid::<F>(),
            Class::Infinity => return 0,
            Class::Finite => {}
        }
        let bias = (1 << (F::EXPONENT - 1)) - 1;
        let (mut fraction, mut exponent) = estimate_operand::<F>(a);
        if exponent == 0 {
            while fraction >> 51 == 0 {
                fraction <<= 1;
                exponent -= 1;
            }
            fraction = fraction << 1 & ((1 << 52) - 1);
        }
        let scaled = if exponent & 1 == 0 { 256 | fraction >> 44 } else { 128 | fraction >> 45 };
        let estimate = u64::from(root((scaled) as u32));
        let result_exponent = (3 * bias - 1 - exponent) / 2;
        (result_exponent as u64) << F::FRACTION | (estimate & 0xff) << 44 >> (52 - F::FRACTION)
    }

    /// FPRecpX.
    pub(super) fn reciprocal_exponent<F: Format>(&mut self, a: u64) -> u64 {
        let ua = self.unpack::<F>(a);
        if ua.is_nan() {
            return self.nan::<F>(ua.class, a);
        }
        let exponent = a & F::INFINITY;
        let result = if exponent == 0 { F::INFINITY - (1 << F::FRACTION) } else { !exponent & F::INFINITY };
        signed::<F>(ua.sign, result)
    }
}

impl<C: Control> Fpu<C> {
    /// [`Exact::mulx`].
    #[inline(always)]
    pub(crate) fn mulx<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        self.exact.mulx::<F>(a, b)
    }

    /// [`Exact::step`].
    #[inline(always)]
    pub(crate) fn step<F: Format>(&mut self, a: u64, b: u64, root: bool) -> u64 {
        self.exact.step::<F>(a, b, root)
    }

    /// [`Exact::javascript_of`].
    #[inline(always)]
    pub(crate) fn javascript_of(&mut self, a: u64) -> (u32, bool) {
        self.exact.javascript_of(a)
    }

    /// [`Exact::reciprocal_estimate`].
    #[inline(always)]
    pub(crate) fn reciprocal_estimate<F: Format>(&mut self, a: u64) -> u64 {
        self.exact.reciprocal_estimate::<F>(a)
    }

    /// [`Exact::root_estimate`].
    #[inline(always)]
    pub(crate) fn root_estimate<F: Format>(&mut self, a: u64) -> u64 {
        self.exact.root_estimate::<F>(a)
    }

    /// [`Exact::reciprocal_exponent`].
    #[inline(always)]
    pub(crate) fn reciprocal_exponent<F: Format>(&mut self, a: u64) -> u64 {
        self.exact.reciprocal_exponent::<F>(a)
    }
}

/// Fraction in 52 bits, and biased exponent.
fn estimate_operand<F: Format>(bits: u64) -> (u64, i32) {
    ((bits & F::FRACTION_MASK) << (52 - F::FRACTION), ((bits & F::INFINITY) >> F::FRACTION) as i32)
}

/// RecipEstimate of 256 to 511.
pub(crate) fn reciprocal(a: u32) -> u32 {
    ((1 << 19) / (a * 2 + 1)).div_ceil(2)
}

/// RecipSqrtEstimate of 128 to 511.
pub(crate) fn root(a: u32) -> u32 {
    let a = if a < 256 { a * 2 + 1 } else { ((a & !1) + 1) * 2 };
    let mut b = 512;
    while a * (b + 1) * (b + 1) < 1 << 28 {
        b += 1;
    }
    b.div_ceil(2)
}
