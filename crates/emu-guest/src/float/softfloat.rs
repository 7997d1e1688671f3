//! Floating-point arithmetic to the letter of the manual's pseudo-code (J1.3, shared/functions/float): every
//! rounding mode, NaN rules, flushing to zero, and cumulative flags.
//!
//! Values are bit patterns in the low bits of a `u64`. Where the host's arithmetic gives the same result and
//! no flag can change, it is used instead: round to nearest, no mode bits, and the inexact flag set already,
//! as it is after the first few operations of most programs.

use super::host;

/// FPSR bits.
pub(crate) const IOC: u32 = 1;
const DZC: u32 = 1 << 1;
const OFC: u32 = 1 << 2;
const UFC: u32 = 1 << 3;
pub(crate) const IXC: u32 = 1 << 4;
const IDC: u32 = 1 << 7;
/// Saturation.
pub(crate) const QC: u32 = 1 << 27;

/// FPCR bits.
const AHP: u32 = 1 << 26;
const DN: u32 = 1 << 25;
const FZ: u32 = 1 << 24;

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

/// A format of IEEE 754.
pub(crate) trait Format {
    /// Bits of the exponent.
    const EXPONENT: u32;
    /// Bits of the fraction.
    const FRACTION: u32;
    /// Width in bits.
    const WIDTH: u32 = 1 + Self::EXPONENT + Self::FRACTION;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::WIDTH - 1);
    /// The fraction's top bit: set in quiet NaNs.
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    /// Infinity: exponent all ones.
    const INFINITY: u64 = ((1 << Self::EXPONENT) - 1) << Self::FRACTION;
    const FRACTION_MASK: u64 = (1 << Self::FRACTION) - 1;
    /// Exponent of the smallest normal number.
    const EXPONENT_MIN: i32 = 2 - (1 << (Self::EXPONENT - 1));
    /// Whether FPCR.FZ applies.
    const FLUSHES: bool;

    fn add(a: u64, b: u64) -> u64;
    fn sub(a: u64, b: u64) -> u64;
    fn mul(a: u64, b: u64) -> u64;
    fn div(a: u64, b: u64) -> u64;
    fn sqrt(a: u64) -> u64;
    /// `None` where the host cannot.
    fn mul_add(a: u64, b: u64, addend: u64) -> Option<u64>;
}

/// Half precision. Only conversions use it.
pub(crate) enum Half {}
/// Single precision.
pub(crate) enum Single {}
/// Double precision.
pub(crate) enum Double {}

impl Format for Half {
    const EXPONENT: u32 = 5;
    const FRACTION: u32 = 10;
    const FLUSHES: bool = false;

    // Never a normal number: the fast path declines.
    fn add(_: u64, _: u64) -> u64 {
        0
    }
    fn sub(_: u64, _: u64) -> u64 {
        0
    }
    fn mul(_: u64, _: u64) -> u64 {
        0
    }
    fn div(_: u64, _: u64) -> u64 {
        0
    }
    fn sqrt(_: u64) -> u64 {
        0
    }
    fn mul_add(_: u64, _: u64, _: u64) -> Option<u64> {
        None
    }
}

macro_rules! host_format {
    ($format:ty, $host:ty, $bits:ty, $exponent:expr, $fraction:expr, $sqrt:path, $mul_add:path) => {
        impl Format for $format {
            const EXPONENT: u32 = $exponent;
            const FRACTION: u32 = $fraction;
            const FLUSHES: bool = true;

            #[inline(always)]
            fn add(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) + <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn sub(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) - <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn mul(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) * <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn div(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) / <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn sqrt(a: u64) -> u64 {
                u64::from($sqrt(<$host>::from_bits(a as $bits)).to_bits())
            }
            #[inline(always)]
            fn mul_add(a: u64, b: u64, addend: u64) -> Option<u64> {
                let number = |bits: u64| <$host>::from_bits(bits as $bits);
                $mul_add(number(a), number(b), number(addend)).map(|result| u64::from(result.to_bits()))
            }
        }
    };
}

host_format!(Single, f32, u32, 8, 23, host::sqrt_single, host::mul_add_single);
host_format!(Double, f64, u64, 11, 52, host::sqrt_double, host::mul_add_double);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Zero,
    Finite,
    Infinity,
    QuietNan,
    SignallingNan,
}

/// A value taken apart: `mantissa * 2^exponent`.
#[derive(Clone, Copy)]
struct Unpacked {
    class: Class,
    sign: bool,
    exponent: i32,
    mantissa: u64,
}

impl Unpacked {
    fn is_nan(&self) -> bool {
        matches!(self.class, Class::QuietNan | Class::SignallingNan)
    }

    fn is(&self, class: Class) -> bool {
        self.class == class
    }
}

/// Result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    Equal,
    Greater,
    Unordered,
}

/// The control register, and flags as they accumulate.
pub(crate) struct Fpu {
    pub(crate) fpcr: u32,
    pub(crate) fpsr: u32,
}

fn signed<F: Format>(sign: bool, bits: u64) -> u64 {
    if sign { bits | F::SIGN } else { bits }
}

fn default_nan<F: Format>() -> u64 {
    F::INFINITY | F::QUIET
}

fn infinity<F: Format>(sign: bool) -> u64 {
    signed::<F>(sign, F::INFINITY)
}

fn max_normal<F: Format>(sign: bool) -> u64 {
    signed::<F>(sign, F::INFINITY - 1)
}

/// 2^`exponent`, or with `half` 1.5 times that.
fn power<F: Format>(sign: bool, exponent: i32, half: bool) -> u64 {
    let biased = (exponent - F::EXPONENT_MIN + 1) as u64;
    signed::<F>(sign, biased << F::FRACTION | if half { F::QUIET } else { 0 })
}

/// Shifts right; bits lost set the low bit.
fn shift_jam(value: u128, amount: u32) -> u128 {
    match amount {
        0 => value,
        1..128 => value >> amount | u128::from(value << (128 - amount) != 0),
        _ => u128::from(value != 0),
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

    fn raise(&mut self, flags: u32) {
        self.fpsr |= flags;
    }

    /// FPUnpack.
    fn unpack<F: Format>(&mut self, bits: u64) -> Unpacked {
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

    /// FPRound of `mantissa * 2^exponent`, not zero. Bits beyond the format may be jammed into the lowest.
    fn round<F: Format>(&mut self, sign: bool, exponent: i32, mantissa: u128, rounding: Rounding) -> u64 {
        self.round_to::<F>(sign, exponent, mantissa, rounding, false)
    }

    fn round_to<F: Format>(
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

    /// FPProcessNaN.
    fn nan<F: Format>(&mut self, class: Class, bits: u64) -> u64 {
        if class == Class::SignallingNan {
            self.raise(IOC);
        }
        if self.fpcr & DN != 0 { default_nan::<F>() } else { bits | F::QUIET }
    }

    /// FPProcessNaNs: signalling before quiet, then in order.
    fn nans<F: Format>(&mut self, operands: &[(Unpacked, u64)]) -> Option<u64> {
        for class in [Class::SignallingNan, Class::QuietNan] {
            if let Some((value, bits)) = operands.iter().find(|(value, _)| value.is(class)) {
                return Some(self.nan::<F>(value.class, *bits));
            }
        }
        None
    }

    fn invalid<F: Format>(&mut self) -> u64 {
        self.raise(IOC);
        default_nan::<F>()
    }

    /// Whether the host's arithmetic may stand in: no modes, and inexactness needs no noticing.
    #[inline(always)]
    fn fast(&self) -> bool {
        self.fpcr & !AHP == 0 && self.fpsr & IXC != 0
    }

    /// Whether an operand is zero or normal.
    #[inline(always)]
    fn plain<F: Format>(bits: u64) -> bool {
        let exponent = bits & F::INFINITY;
        exponent != F::INFINITY && (exponent != 0 || bits & F::FRACTION_MASK == 0)
    }

    /// Whether a result is normal and not the smallest normal number, which may have been rounded up to.
    #[inline(always)]
    fn normal<F: Format>(bits: u64) -> bool {
        let exponent = bits & F::INFINITY;
        exponent != F::INFINITY && exponent > 1 << F::FRACTION
    }

    /// FPAdd.
    #[inline(always)]
    pub(crate) fn add<F: Format>(&mut self, a: u64, b: u64) -> u64 {
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
    pub(crate) fn sub<F: Format>(&mut self, a: u64, b: u64) -> u64 {
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

    fn sum_result<F: Format>(&mut self, sign: bool, exponent: i32, mantissa: u128) -> u64 {
        let rounding = self.rounding();
        if mantissa == 0 {
            return signed::<F>(rounding == Rounding::MinusInfinity, 0);
        }
        self.round::<F>(sign, exponent, mantissa, rounding)
    }

    /// FPMul.
    #[inline(always)]
    pub(crate) fn mul<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        if self.fast() && Self::plain::<F>(a) && Self::plain::<F>(b) {
            let product = F::mul(a, b);
            if Self::normal::<F>(product) {
                return product;
            }
        }
        self.mul_exact::<F>(a, b, false)
    }

    /// FPMulX: zero times infinity is two.
    pub(crate) fn mulx<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        self.mul_exact::<F>(a, b, true)
    }

    #[inline(never)]
    fn mul_exact<F: Format>(&mut self, a: u64, b: u64, extended: bool) -> u64 {
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
    pub(crate) fn div<F: Format>(&mut self, a: u64, b: u64) -> u64 {
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
    pub(crate) fn sqrt<F: Format>(&mut self, a: u64) -> u64 {
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
    pub(crate) fn mul_add<F: Format>(&mut self, addend: u64, a: u64, b: u64) -> u64 {
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

    /// FPRecipStepFused: `2 - a * b`. FPRSqrtStepFused with `root`: `(3 - a * b) / 2`.
    pub(crate) fn step<F: Format>(&mut self, a: u64, b: u64, root: bool) -> u64 {
        let a = a ^ F::SIGN;
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F>(&[(ua, a), (ub, b)]) {
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

    /// FPCompare. `quiet` comparisons signal only signalling NaNs.
    pub(crate) fn compare<F: Format>(&mut self, a: u64, b: u64, quiet: bool) -> Order {
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if ua.is_nan() || ub.is_nan() {
            if !quiet || ua.is(Class::SignallingNan) || ub.is(Class::SignallingNan) {
                self.raise(IOC);
            }
            return Order::Unordered;
        }
        let key = |value: &Unpacked, bits: u64| {
            let magnitude = if value.is(Class::Zero) { 0 } else { (bits & !F::SIGN) as i64 };
            if value.sign { -magnitude } else { magnitude }
        };
        match key(&ua, a).cmp(&key(&ub, b)) {
            core::cmp::Ordering::Less => Order::Less,
            core::cmp::Ordering::Equal => Order::Equal,
            core::cmp::Ordering::Greater => Order::Greater,
        }
    }

    /// FPMax, FPMin; with `number` FPMaxNum, FPMinNum, where a quiet NaN loses.
    pub(crate) fn extreme<F: Format>(&mut self, mut a: u64, mut b: u64, max: bool, number: bool) -> u64 {
        if number {
            let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
            let loser = infinity::<F>(max);
            match (ua.is(Class::QuietNan), ub.is(Class::QuietNan)) {
                (true, false) => a = loser,
                (false, true) => b = loser,
                _ => {}
            }
        }
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F>(&[(ua, a), (ub, b)]) {
            return nan;
        }
        let order = self.compare::<F>(a, b, true);
        let first = match order {
            Order::Equal => (ua.sign != max) || ub.sign == ua.sign,
            Order::Greater => max,
            _ => !max,
        };
        let (value, bits) = if first { (ua, a) } else { (ub, b) };
        if value.is(Class::Zero) { signed::<F>(value.sign, 0) } else { bits }
    }

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

    /// FPToFixedJS: the low 32 bits of the integer part, and whether it is exactly the number.
    pub(crate) fn javascript_of(&mut self, a: u64) -> (u32, bool) {
        let ua = self.unpack::<Double>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan | Class::Infinity => {
                self.raise(IOC);
                (0, false)
            }
            Class::Zero => (0, !ua.sign && a == 0),
            Class::Finite => {
                let negative = |value: u32| if ua.sign { value.wrapping_neg() } else { value };
                if ua.exponent >= 0 {
                    // 2^52 or more: the low bits count.
                    self.raise(IOC);
                    let low = if ua.exponent < 32 { (ua.mantissa << ua.exponent) as u32 } else { 0 };
                    return (negative(low), false);
                }
                let (magnitude, inexact) = integral(&ua, Rounding::Zero);
                let limit = (1u128 << 31) - u128::from(!ua.sign);
                if magnitude > limit {
                    self.raise(IOC);
                    return (negative(magnitude as u32), false);
                }
                if inexact {
                    self.raise(IXC);
                }
                (negative(magnitude as u32), !inexact)
            }
        }
    }

    /// FPRecipEstimate.
    pub(crate) fn reciprocal_estimate<F: Format>(&mut self, a: u64) -> u64 {
        let ua = self.unpack::<F>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => return self.nan::<F>(ua.class, a),
            Class::Infinity => return signed::<F>(ua.sign, 0),
            Class::Zero => {
                self.raise(DZC);
                return infinity::<F>(ua.sign);
            }
            Class::Finite => {}
        }
        let bias = (1 << (F::EXPONENT - 1)) - 1;
        let (mut fraction, mut exponent) = estimate_operand::<F>(a);
        // Below 2^-(bias + 1) the reciprocal overflows.
        if exponent == 0 && fraction >> 50 == 0 {
            let to_infinity = match self.rounding() {
                Rounding::TieEven => true,
                Rounding::PlusInfinity => !ua.sign,
                Rounding::MinusInfinity => ua.sign,
                _ => false,
            };
            self.raise(OFC | IXC);
            return if to_infinity { infinity::<F>(ua.sign) } else { max_normal::<F>(ua.sign) };
        }
        // From 2^(bias - 1) the reciprocal is subnormal.
        if F::FLUSHES && self.fpcr & FZ != 0 && exponent >= 2 * bias - 1 {
            self.raise(UFC);
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
    pub(crate) fn root_estimate<F: Format>(&mut self, a: u64) -> u64 {
        let ua = self.unpack::<F>(a);
        match ua.class {
            Class::QuietNan | Class::SignallingNan => return self.nan::<F>(ua.class, a),
            Class::Zero => {
                self.raise(DZC);
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
    pub(crate) fn reciprocal_exponent<F: Format>(&mut self, a: u64) -> u64 {
        let ua = self.unpack::<F>(a);
        if ua.is_nan() {
            return self.nan::<F>(ua.class, a);
        }
        let exponent = a & F::INFINITY;
        let result = if exponent == 0 { F::INFINITY - (1 << F::FRACTION) } else { !exponent & F::INFINITY };
        signed::<F>(ua.sign, result)
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

/// Magnitude of a finite number rounded to an integer, and whether it is another. The exponent is at most 64.
fn integral(value: &Unpacked, rounding: Rounding) -> (u128, bool) {
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

/// Sum of two numbers `mantissa * 2^exponent`, exact but for a jammed lowest bit far below the result's
/// precision. A zero mantissa is zero.
fn sum(a: (bool, i32, u128), b: (bool, i32, u128)) -> (bool, i32, u128) {
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
