//! Operations on lanes whose results or operands have twice the width (manual C7.2).

use super::arithmetic::polynomial;
use super::{lane, low, saturate_signed, saturate_unsigned, signed, sx};

/// Lanes of n and m, `8 << size` bits wide, give lanes of twice the width. `f` gets the narrow width, lanes
/// of n and m, and the wide lane of d.
#[inline(always)]
pub(crate) fn long(
    size: u32,
    count: u32,
    unsigned: bool,
    [n, m]: [u64; 2],
    d: u128,
    mut f: impl FnMut(u32, i128, i128, u64) -> i128,
) -> u128 {
    let w = 8u32 << size;
    let extend = |value: u64| if unsigned { i128::from(value) } else { i128::from(sx(w, value)) };
    let (n, m) = (u128::from(n), u128::from(m));
    let mut result = 0u128;
    for i in 0..count {
        let value = f(w, extend(lane(n, i, w)), extend(lane(m, i, w)), lane(d, i, 2 * w));
        result |= u128::from(value as u64 & low(2 * w)) << (i * 2 * w);
    }
    result
}

/// Lanes of m, `8 << size` bits wide, are added to wide lanes of n, or subtracted.
#[inline(always)]
pub(crate) fn wide(size: u32, unsigned: bool, subtract: bool, n: u128, m: u64) -> u128 {
    let (w, m) = (8u32 << size, u128::from(m));
    let mut result = 0u128;
    for i in 0..64 / w {
        let b = lane(m, i, w);
        let b = if unsigned { b } else { sx(w, b) as u64 };
        let a = lane(n, i, 2 * w);
        let value = if subtract { a.wrapping_sub(b) } else { a.wrapping_add(b) };
        result |= u128::from(value & low(2 * w)) << (i * 2 * w);
    }
    result
}

/// The high halves of sums or differences, rounded where asked; `8 << size` bits each.
#[inline(always)]
pub(crate) fn high_narrow(size: u32, subtract: bool, round: bool, n: u128, m: u128) -> u64 {
    let w = 8u32 << size;
    let round = if round { 1u64 << (w - 1) } else { 0 };
    let mut result = 0u64;
    for i in 0..64 / w {
        let (a, b) = (lane(n, i, 2 * w), lane(m, i, 2 * w));
        let value = if subtract { a.wrapping_sub(b) } else { a.wrapping_add(b) };
        result |= (value.wrapping_add(round) >> w & low(w)) << (i * w);
    }
    result
}

/// How lanes become narrower: their low bits; saturated from signed to signed, from unsigned to unsigned,
/// from signed to unsigned.
pub(crate) const TRUNCATE: u32 = 0;
pub(crate) const SIGNED: u32 = 1;
pub(crate) const UNSIGNED: u32 = 2;
pub(crate) const SIGNED_TO_UNSIGNED: u32 = 3;

/// `count` lanes of n are shifted right by `by`, rounded where asked, and become `8 << size` bits wide, as
/// `KIND` says. Also whether one was saturated.
#[inline(always)]
pub(crate) fn narrow<const KIND: u32>(size: u32, count: u32, by: u32, round: bool, n: u128) -> (u64, bool) {
    let w = 8u32 << size;
    let right = |value: i128| (value + if round { 1 << (by - 1) } else { 0 }) >> by;
    let (mut saturated, mut result) = (false, 0u64);
    for i in 0..count {
        let value = lane(n, i, 2 * w);
        let narrowed = match KIND {
            TRUNCATE => right(i128::from(value)) as u64,
            SIGNED => saturate_signed(&mut saturated, w, right(signed(2 * w, value))),
            UNSIGNED => saturate_unsigned(&mut saturated, w, right(i128::from(value))),
            _ => saturate_unsigned(&mut saturated, w, right(signed(2 * w, value))),
        };
        result |= (narrowed & low(w)) << (i * w);
    }
    (result, saturated)
}

/// Lanes of n, `8 << size` bits wide, are shifted left by at most their width into lanes of twice the width.
#[inline(always)]
pub(crate) fn shift_long(size: u32, unsigned: bool, by: u32, n: u64) -> u128 {
    let (w, n) = (8u32 << size, u128::from(n));
    let mut result = 0u128;
    for i in 0..64 / w {
        let value = lane(n, i, w);
        let value = if unsigned { value } else { sx(w, value) as u64 };
        result |= u128::from(value << by & low(2 * w)) << (i * 2 * w);
    }
    result
}

/// Sums of neighbours, `8 << size` bits wide each, in lanes of twice the width, added to those of d.
#[inline(always)]
pub(crate) fn add_pairs(size: u32, unsigned: bool, n: u128, d: u128) -> u128 {
    let w = 8u32 << size;
    let extend = |value: u64| if unsigned { value } else { sx(w, value) as u64 };
    let mut result = 0u128;
    for i in 0..64 / w {
        let sum = extend(lane(n, 2 * i, w)).wrapping_add(extend(lane(n, 2 * i + 1, w)));
        result |= u128::from(sum.wrapping_add(lane(d, i, 2 * w)) & low(2 * w)) << (i * 2 * w);
    }
    result
}

/// Polynomial products of bytes.
pub(crate) fn polynomial_bytes(n: u64, m: u64) -> u128 {
    (0..8).fold(0, |result, i| {
        let product = polynomial(n >> (i * 8) & 0xff, m >> (i * 8) & 0xff);
        result | u128::from(product) << (i * 16)
    })
}

/// Products of four bytes of n with four bytes of m are added to each lane of d. The pair says which operands
/// are unsigned.
#[inline(always)]
pub(crate) fn dot(unsigned: (bool, bool), n: u128, m: u128, d: u128) -> u128 {
    let extend = |unsigned: bool, value: u64| if unsigned { value } else { sx(8, value) as u64 };
    let mut result = 0u128;
    for i in 0..4 {
        let sum = (0..4).fold(lane(d, i, 32), |sum, j| {
            let a = extend(unsigned.0, lane(n, 4 * i + j, 8));
            let b = extend(unsigned.1, lane(m, 4 * i + j, 8));
            sum.wrapping_add(a.wrapping_mul(b))
        });
        result |= u128::from(sum & low(32)) << (i * 32);
    }
    result
}

/// 2 * n * m, saturated to twice the width.
fn double_long(qc: &mut bool, w: u32, n: i128, m: i128) -> i128 {
    i128::from(sx(2 * w, saturate_signed(qc, 2 * w, 2 * n * m) & low(2 * w)))
}

/// Each gets the narrow width, lanes of n and m, and the wide lane of d; the first parameter is the
/// cumulative saturation flag.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, |$qc:pat_param, $w:pat_param, $n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name($qc: &mut bool, $w: u32, $n: i128, $m: i128, $d: u64) -> i128 {
            $body
        }
    )*};
}

operations! {
    /// SADDL, UADDL.
    addl, |_, _, n, m, _| n + m;
    /// SSUBL, USUBL.
    subl, |_, _, n, m, _| n - m;
    /// SABAL, UABAL.
    abal, |_, _, n, m, d| i128::from(d) + (n - m).abs();
    /// SABDL, UABDL.
    abdl, |_, _, n, m, _| (n - m).abs();
    /// SMLAL, UMLAL (vector, by element).
    mlal, |_, _, n, m, d| i128::from(d) + n * m;
    /// SMLSL, UMLSL (vector, by element).
    mlsl, |_, _, n, m, d| i128::from(d) - n * m;
    /// SMULL, UMULL (vector, by element).
    mull, |_, _, n, m, _| n * m;
    /// SQDMULL (vector, by element).
    sqdmull, |qc, w, n, m, _| double_long(qc, w, n, m);
    /// SQDMLAL (vector, by element).
    sqdmlal, |qc, w, n, m, d| {
        let product = double_long(qc, w, n, m);
        saturate_signed(qc, 2 * w, i128::from(sx(2 * w, d)) + product) as i128
    };
    /// SQDMLSL (vector, by element).
    sqdmlsl, |qc, w, n, m, d| {
        let product = double_long(qc, w, n, m);
        saturate_signed(qc, 2 * w, i128::from(sx(2 * w, d)) - product) as i128
    };
}
