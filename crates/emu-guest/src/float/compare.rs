//! Comparisons, minimum and maximum.

use super::environment::{Fpu, IOC};
use super::format::{Format, infinity, signed};
use super::unpack::{Class, Unpacked};

/// Result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    Equal,
    Greater,
    Unordered,
}

impl Fpu {
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
}
