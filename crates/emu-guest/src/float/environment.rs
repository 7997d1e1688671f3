//! The modes of arithmetic, and the flags that accumulate, without the control register of any CPU.

use super::format::{Format, default_nan};
use core::ops::{BitOr, BitOrAssign};

/// Rounding modes (IEEE 754, clause 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To the nearest value; a tie goes to the even one.
    TieEven,
    PlusInfinity,
    MinusInfinity,
    Zero,
    /// To the nearest value; a tie goes away from zero.
    TieAway,
    /// An inexact result gets an odd fraction, so that rounding it again is harmless.
    Odd,
}

/// When a nonzero result counts as too small for a normal number (IEEE 754, clause 7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tininess {
    /// As on Arm.
    BeforeRounding,
    /// As on RISC-V and x86: rounding as if the exponent had no limit does not reach the smallest normal
    /// number.
    AfterRounding,
}

/// What an operation with a NaN operand gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanRule {
    /// The first signalling NaN, made quiet; if there is none, the first NaN (Arm's FPProcessNaNs).
    Propagate,
    /// The NaN of invalid operations: positive and quiet, the rest of the fraction zero. Arm's default NaN
    /// and RISC-V's canonical NaN are the same.
    Canonical,
}

/// How the bits of a half-precision number are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfFormat {
    /// binary16.
    Ieee,
    /// Arm's alternative format: the largest exponent is that of numbers, not of infinities and NaNs.
    Alternative,
}

/// The integer that a NaN becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanInteger {
    /// As on Arm.
    Zero,
    /// As on RISC-V (F extension, "Single-Precision Floating-Point Conversion and Move Instructions").
    Largest,
}

/// The modes of arithmetic. Nothing traps.
///
/// Two bytes with a bit per choice. The places of the bits are such that Arm's control registers become an
/// environment with few shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Environment(u16);

impl Environment {
    const ROUNDING: u16 = 7;
    const FLUSH_INPUTS: u16 = 1 << 3;
    const CANONICAL_NAN: u16 = 1 << 4;
    const ALTERNATIVE_HALF: u16 = 1 << 5;
    const FLUSH_OUTPUTS: u16 = 1 << 6;
    const AFTER_ROUNDING: u16 = 1 << 7;
    const LARGEST_OF_NAN: u16 = 1 << 8;

    /// Rounds by `rounding`, flushes nothing, detects tininess before rounding, propagates NaNs, reads half
    /// precision as binary16, and converts NaNs to the integer 0.
    #[inline(always)]
    pub(crate) const fn new(rounding: Rounding) -> Environment {
        Environment(rounding as u16)
    }

    const fn set(self, bit: u16, on: bool) -> Environment {
        Environment(self.0 & !bit | if on { bit } else { 0 })
    }

    const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// Whether subnormal operands count as zeros, with the flag [`Flags::INPUT_DENORMAL`]. Half precision is
    /// never flushed.
    #[inline(always)]
    pub(crate) const fn flush_inputs(self, on: bool) -> Environment {
        self.set(Environment::FLUSH_INPUTS, on)
    }

    /// Whether results that are subnormal before rounding become zeros, with the flag [`Flags::UNDERFLOW`]
    /// alone. Half precision is never flushed.
    #[inline(always)]
    pub(crate) const fn flush_outputs(self, on: bool) -> Environment {
        self.set(Environment::FLUSH_OUTPUTS, on)
    }

    /// When tininess is detected.
    pub(crate) const fn tininess(self, tininess: Tininess) -> Environment {
        self.set(Environment::AFTER_ROUNDING, matches!(tininess, Tininess::AfterRounding))
    }

    /// What becomes of NaNs.
    #[inline(always)]
    pub(crate) const fn nan(self, rule: NanRule) -> Environment {
        self.set(Environment::CANONICAL_NAN, matches!(rule, NanRule::Canonical))
    }

    /// How half precision is read and written.
    #[inline(always)]
    pub(crate) const fn half(self, format: HalfFormat) -> Environment {
        self.set(Environment::ALTERNATIVE_HALF, matches!(format, HalfFormat::Alternative))
    }

    /// The integer that a NaN becomes.
    pub(crate) const fn nan_integer(self, rule: NanInteger) -> Environment {
        self.set(Environment::LARGEST_OF_NAN, matches!(rule, NanInteger::Largest))
    }

    /// The rounding mode.
    #[inline(always)]
    pub(crate) const fn rounding(self) -> Rounding {
        match self.0 & Environment::ROUNDING {
            0 => Rounding::TieEven,
            1 => Rounding::PlusInfinity,
            2 => Rounding::MinusInfinity,
            3 => Rounding::Zero,
            4 => Rounding::TieAway,
            _ => Rounding::Odd,
        }
    }

    #[inline(always)]
    pub(super) const fn flushes_inputs(self) -> bool {
        self.has(Environment::FLUSH_INPUTS)
    }

    #[inline(always)]
    pub(super) const fn flushes_outputs(self) -> bool {
        self.has(Environment::FLUSH_OUTPUTS)
    }

    #[inline(always)]
    pub(super) const fn tininess_is(self) -> Tininess {
        if self.has(Environment::AFTER_ROUNDING) { Tininess::AfterRounding } else { Tininess::BeforeRounding }
    }

    #[inline(always)]
    pub(super) const fn nan_rule(self) -> NanRule {
        if self.has(Environment::CANONICAL_NAN) { NanRule::Canonical } else { NanRule::Propagate }
    }

    #[inline(always)]
    pub(super) const fn half_format(self) -> HalfFormat {
        if self.has(Environment::ALTERNATIVE_HALF) { HalfFormat::Alternative } else { HalfFormat::Ieee }
    }

    #[inline(always)]
    pub(super) const fn integer_of_nan(self) -> NanInteger {
        if self.has(Environment::LARGEST_OF_NAN) { NanInteger::Largest } else { NanInteger::Zero }
    }
}

/// Exceptions that were raised: the five of IEEE 754 in the order of its clauses 7.2 to 7.6, and Arm's own.
/// The places of the bits are such that Arm's status registers take them without a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const NONE: Flags = Flags(0);
    pub(crate) const INVALID: Flags = Flags(1);
    pub(crate) const DIVIDE_BY_ZERO: Flags = Flags(1 << 1);
    pub(crate) const OVERFLOW: Flags = Flags(1 << 2);
    pub(crate) const UNDERFLOW: Flags = Flags(1 << 3);
    pub(crate) const INEXACT: Flags = Flags(1 << 4);
    /// A subnormal operand was flushed to zero.
    pub(crate) const INPUT_DENORMAL: Flags = Flags(1 << 7);

    /// The flags but for `flags`.
    #[inline(always)]
    pub(crate) const fn without(self, flags: Flags) -> Flags {
        Flags(self.0 & !flags.0)
    }

    /// Whether one of `flags` was raised.
    #[inline(always)]
    pub(crate) const fn any(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    #[inline(always)]
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline(always)]
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

/// Arithmetic in integers, exact in every mode and flag: its environment, and the flags raised so far.
pub(crate) struct Exact {
    pub(super) environment: Environment,
    pub(super) flags: Flags,
}

impl Exact {
    #[inline(always)]
    pub(crate) fn new(environment: Environment) -> Exact {
        Exact { environment, flags: Flags::NONE }
    }

    #[inline(always)]
    pub(super) fn rounding(&self) -> Rounding {
        self.environment.rounding()
    }

    #[inline(always)]
    pub(super) fn raise(&mut self, flags: Flags) {
        self.flags |= flags;
    }

    pub(super) fn invalid<F: Format>(&mut self) -> u64 {
        self.raise(Flags::INVALID);
        default_nan::<F>()
    }
}
