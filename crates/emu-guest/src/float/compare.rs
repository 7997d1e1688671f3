//! Comparisons, minimum and maximum.

use super::environment::{Exact, Flags};
use super::format::{Format, infinity, plain, signed};
use super::unpack::{Class, Unpacked};
use core::cmp::Ordering;

/// Result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    Equal,
    Greater,
    Unordered,
}

impl Order {
    /// Greater or equal.
    #[inline(always)]
    pub(crate) fn is_ge(self) -> bool {
        matches!(self, Order::Greater | Order::Equal)
    }

    /// Less or equal.
    #[inline(always)]
    pub(crate) fn is_le(self) -> bool {
        matches!(self, Order::Less | Order::Equal)
    }
}

/// Which NaNs are invalid operands of a comparison (IEEE 754, clause 5.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Signalling NaNs.
    Quiet,
    /// All NaNs.
    Signalling,
}

/// What minimum and maximum do with NaN operands. Signalling NaNs are always invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanOperands {
    /// The result is a NaN (IEEE 754-2019, clause 9.6, minimum and maximum; Arm's FPMin and FPMax).
    Win,
    /// The result is the number if the other operand is a quiet NaN, and a NaN if it is a signalling one
    /// (IEEE 754-2008, clause 5.3.1, minNum and maxNum; Arm's FPMinNum and FPMaxNum).
    QuietLose,
    /// The result is the number if there is one (IEEE 754-2019, clause 9.6, minimumNumber and maximumNumber;
    /// RISC-V's FMIN and FMAX since version 2.2 of the F extension).
    Lose,
}

impl Exact {
    /// FPCompare.
    pub(super) fn compare<F: Format>(&mut self, a: u64, b: u64, comparison: Comparison) -> Order {
        if plain::<F>(a) && plain::<F>(b) {
            return order_of(signed_magnitude::<F>(a), signed_magnitude::<F>(b));
        }
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if ua.is_nan() || ub.is_nan() {
            let signalling = ua.is(Class::SignallingNan) || ub.is(Class::SignallingNan);
            if comparison == Comparison::Signalling || signalling {
                self.raise(Flags::INVALID);
            }
            return Order::Unordered;
        }
        order_of(key::<F>(&ua, a), key::<F>(&ub, b))
    }

    /// FPMax, FPMaxNum, or maximumNumber. The positive zero is the greater.
    pub(super) fn max<F: Format>(&mut self, a: u64, b: u64, nans: NanOperands) -> u64 {
        self.extreme::<F>(a, b, true, nans)
    }

    /// FPMin, FPMinNum, or minimumNumber. The negative zero is the smaller.
    pub(super) fn min<F: Format>(&mut self, a: u64, b: u64, nans: NanOperands) -> u64 {
        self.extreme::<F>(a, b, false, nans)
    }

    fn extreme<F: Format>(&mut self, a: u64, b: u64, max: bool, nans: NanOperands) -> u64 {
        if plain::<F>(a) && plain::<F>(b) {
            let order = order_of(signed_magnitude::<F>(a), signed_magnitude::<F>(b));
            return if first::<F>(a, b, order, max) { a } else { b };
        }
        let (a, b) = match nans {
            NanOperands::Win => (a, b),
            NanOperands::QuietLose => self.without_nan::<F>(a, b, max, |nan| nan.is(Class::QuietNan)),
            NanOperands::Lose => self.without_nan::<F>(a, b, max, Unpacked::is_nan),
        };
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        if let Some(nan) = self.nans::<F, _>([(&ua, a), (&ub, b)]) {
            return nan;
        }
        let order = order_of(key::<F>(&ua, a), key::<F>(&ub, b));
        let (value, bits) = if first::<F>(a, b, order, max) { (ua, a) } else { (ub, b) };
        if value.is(Class::Zero) { signed::<F>(value.sign, 0) } else { bits }
    }

    /// The operands, with the infinity that loses in place of an operand that `loses` while the other does
    /// not.
    fn without_nan<F: Format>(
        &mut self,
        a: u64,
        b: u64,
        max: bool,
        loses: impl Fn(&Unpacked) -> bool,
    ) -> (u64, u64) {
        let (ua, ub) = (self.unpack::<F>(a), self.unpack::<F>(b));
        let loser = infinity::<F>(max);
        match (loses(&ua), loses(&ub)) {
            (true, false) => (self.lost(ua, loser), b),
            (false, true) => (a, self.lost(ub, loser)),
            _ => (a, b),
        }
    }

    /// `loser`, which takes the place of a NaN.
    fn lost(&mut self, nan: Unpacked, loser: u64) -> u64 {
        if nan.is(Class::SignallingNan) {
            self.raise(Flags::INVALID);
        }
        loser
    }
}

/// Whether maximum (or else minimum) picks `a`, which compares to `b` as `order` says.
#[inline]
fn first<F: Format>(a: u64, b: u64, order: Order, max: bool) -> bool {
    match order {
        Order::Equal => (a & F::SIGN == 0) == max || (a ^ b) & F::SIGN == 0,
        Order::Greater => max,
        _ => !max,
    }
}

/// An integer that orders numbers; flushed ones are zeros.
fn key<F: Format>(value: &Unpacked, bits: u64) -> i64 {
    if value.is(Class::Zero) { 0 } else { signed_magnitude::<F>(bits) }
}

/// An integer that orders bit patterns that are no NaNs.
#[inline]
fn signed_magnitude<F: Format>(bits: u64) -> i64 {
    let magnitude = (bits & !F::SIGN) as i64;
    if bits & F::SIGN != 0 { -magnitude } else { magnitude }
}

#[inline]
fn order_of(a: i64, b: i64) -> Order {
    match a.cmp(&b) {
        Ordering::Less => Order::Less,
        Ordering::Equal => Order::Equal,
        Ordering::Greater => Order::Greater,
    }
}
