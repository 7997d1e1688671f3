//! Formats of IEEE 754 (clause 3.6) and their special values, as bit patterns in the low bits of a `u64`.

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
    /// Whether an environment's flushing applies: Arm's FZ leaves half precision alone.
    const FLUSHES: bool;
}

/// Half precision in conversions with other formats, where it is never flushed. The host does not compute in
/// it.
pub(crate) enum Half {}
/// Half precision in arithmetic (Arm's FEAT_FP16), where the environment says what is flushed.
pub(crate) enum HalfOperand {}
/// BFloat16: the high half of single precision.
pub(crate) enum Brain {}
/// Single precision.
pub(crate) enum Single {}
/// Double precision.
pub(crate) enum Double {}

impl Format for Half {
    const EXPONENT: u32 = 5;
    const FRACTION: u32 = 10;
    const FLUSHES: bool = false;
}

impl Format for HalfOperand {
    const EXPONENT: u32 = 5;
    const FRACTION: u32 = 10;
    const FLUSHES: bool = true;
}

impl Format for Brain {
    const EXPONENT: u32 = 8;
    const FRACTION: u32 = 7;
    const FLUSHES: bool = true;
}

impl Format for Single {
    const EXPONENT: u32 = 8;
    const FRACTION: u32 = 23;
    const FLUSHES: bool = true;
}

impl Format for Double {
    const EXPONENT: u32 = 11;
    const FRACTION: u32 = 52;
    const FLUSHES: bool = true;
}

pub(super) fn signed<F: Format>(sign: bool, bits: u64) -> u64 {
    if sign { bits | F::SIGN } else { bits }
}

/// The NaN of invalid operations: Arm's default NaN and RISC-V's canonical NaN.
pub(super) fn default_nan<F: Format>() -> u64 {
    F::INFINITY | F::QUIET
}

pub(super) fn infinity<F: Format>(sign: bool) -> u64 {
    signed::<F>(sign, F::INFINITY)
}

pub(super) fn max_normal<F: Format>(sign: bool) -> u64 {
    signed::<F>(sign, F::INFINITY - 1)
}

/// 2^`exponent`, or with `half` 1.5 times that.
pub(super) fn power<F: Format>(sign: bool, exponent: i32, half: bool) -> u64 {
    let biased = (exponent - F::EXPONENT_MIN + 1) as u64;
    signed::<F>(sign, biased << F::FRACTION | if half { F::QUIET } else { 0 })
}

/// Whether an operand is zero or normal.
#[inline(always)]
pub(super) fn plain<F: Format>(bits: u64) -> bool {
    let exponent = bits & F::INFINITY;
    exponent != F::INFINITY && (exponent != 0 || bits & F::FRACTION_MASK == 0)
}
