//! Operations on single lanes, named after the mnemonics of A64 (manual C7.2).

use super::{saturate_signed, saturate_unsigned, signed, sx};
use crate::float::{reciprocal, root};

/// Shifts left by a signed amount in the low byte of `by`, rounding where asked. If the result is too large
/// for `w` bits, its low bits and its sign are right.
#[inline(always)]
fn shift_by(w: u32, value: i128, by: u64, round: bool) -> i128 {
    let by = i32::from(by as u8 as i8);
    if by >= w as i32 {
        value.signum() << 126
    } else if by >= 0 {
        value << by
    } else {
        let by = (-by).min(100);
        (value + if round { 1 << (by - 1) } else { 0 }) >> by
    }
}

/// A comparison's result: all ones or zero.
#[inline(always)]
fn mask(condition: bool) -> u64 {
    if condition { u64::MAX } else { 0 }
}

#[inline(always)]
fn difference(signed: bool, w: u32, n: u64, m: u64) -> u64 {
    if signed { sx(w, n).abs_diff(sx(w, m)) } else { n.abs_diff(m) }
}

/// Polynomial product of two numbers of at most 8 bits.
pub(crate) fn polynomial(n: u64, m: u64) -> u64 {
    (0..8).filter(|i| m >> i & 1 == 1).fold(0, |product, i| product ^ n << i)
}

/// 2 * n * m, the high half, rounded where asked.
#[inline(always)]
fn double_high(qc: &mut bool, w: u32, n: u64, m: u64, round: bool) -> u64 {
    let product = 2 * signed(w, n) * signed(w, m) + if round { 1 << (w - 1) } else { 0 };
    saturate_signed(qc, w, product >> w)
}

/// d ± 2 * n * m rounded, the high half.
#[inline(always)]
fn double_high_accumulate(qc: &mut bool, w: u32, n: u64, m: u64, d: u64, subtract: bool) -> u64 {
    let product = 2 * signed(w, n) * signed(w, m);
    let product = if subtract { -product } else { product };
    saturate_signed(qc, w, ((signed(w, d) << w) + product + (1 << (w - 1))) >> w)
}

/// Polynomial product of 64-bit numbers.
pub(crate) fn polynomial_wide(n: u64, m: u64) -> u128 {
    (0..64).filter(|i| m >> i & 1 == 1).fold(0, |product, i| product ^ u128::from(n) << i)
}

/// UnsignedRecipEstimate.
pub(crate) fn urecpe(n: u32) -> u32 {
    if n >> 31 == 0 { u32::MAX } else { reciprocal(n >> 23) << 23 }
}

/// UnsignedRSqrtEstimate.
pub(crate) fn ursqrte(n: u32) -> u32 {
    if n >> 30 == 0 { u32::MAX } else { root(n >> 23) << 23 }
}

/// Each gets the width, and lanes of n, m and d; the first parameter is the cumulative saturation flag.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, |$qc:pat_param, $w:pat_param, $n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name($qc: &mut bool, $w: u32, $n: u64, $m: u64, $d: u64) -> u64 {
            $body
        }
    )*};
}

operations! {
    /// SHADD.
    shadd, |_, w, n, m, _| ((sx(w, n) + sx(w, m)) >> 1) as u64;
    /// UHADD.
    uhadd, |_, _, n, m, _| (n + m) >> 1;
    /// SRHADD.
    srhadd, |_, w, n, m, _| ((sx(w, n) + sx(w, m) + 1) >> 1) as u64;
    /// URHADD.
    urhadd, |_, _, n, m, _| (n + m + 1) >> 1;
    /// SHSUB.
    shsub, |_, w, n, m, _| ((sx(w, n) - sx(w, m)) >> 1) as u64;
    /// UHSUB.
    uhsub, |_, _, n, m, _| n.wrapping_sub(m) >> 1;
    /// SQADD.
    sqadd, |qc, w, n, m, _| saturate_signed(qc, w, signed(w, n) + signed(w, m));
    /// UQADD.
    uqadd, |qc, w, n, m, _| saturate_unsigned(qc, w, i128::from(n) + i128::from(m));
    /// SQSUB.
    sqsub, |qc, w, n, m, _| saturate_signed(qc, w, signed(w, n) - signed(w, m));
    /// UQSUB.
    uqsub, |qc, w, n, m, _| saturate_unsigned(qc, w, i128::from(n) - i128::from(m));
    /// CMGT.
    cmgt, |_, w, n, m, _| mask(sx(w, n) > sx(w, m));
    /// CMGE.
    cmge, |_, w, n, m, _| mask(sx(w, n) >= sx(w, m));
    /// CMHI.
    cmhi, |_, _, n, m, _| mask(n > m);
    /// CMHS.
    cmhs, |_, _, n, m, _| mask(n >= m);
    /// CMEQ.
    cmeq, |_, _, n, m, _| mask(n == m);
    /// CMTST.
    cmtst, |_, _, n, m, _| mask(n & m != 0);
    /// SSHL.
    sshl, |_, w, n, m, _| shift_by(w, signed(w, n), m, false) as u64;
    /// USHL.
    ushl, |_, w, n, m, _| shift_by(w, i128::from(n), m, false) as u64;
    /// SRSHL.
    srshl, |_, w, n, m, _| shift_by(w, signed(w, n), m, true) as u64;
    /// URSHL.
    urshl, |_, w, n, m, _| shift_by(w, i128::from(n), m, true) as u64;
    /// SQSHL.
    sqshl, |qc, w, n, m, _| saturate_signed(qc, w, shift_by(w, signed(w, n), m, false));
    /// UQSHL.
    uqshl, |qc, w, n, m, _| saturate_unsigned(qc, w, shift_by(w, i128::from(n), m, false));
    /// SQRSHL.
    sqrshl, |qc, w, n, m, _| saturate_signed(qc, w, shift_by(w, signed(w, n), m, true));
    /// UQRSHL.
    uqrshl, |qc, w, n, m, _| saturate_unsigned(qc, w, shift_by(w, i128::from(n), m, true));
    /// SMAX.
    smax, |_, w, n, m, _| sx(w, n).max(sx(w, m)) as u64;
    /// UMAX.
    umax, |_, _, n, m, _| n.max(m);
    /// SMIN.
    smin, |_, w, n, m, _| sx(w, n).min(sx(w, m)) as u64;
    /// UMIN.
    umin, |_, _, n, m, _| n.min(m);
    /// SABD.
    sabd, |_, w, n, m, _| difference(true, w, n, m);
    /// UABD.
    uabd, |_, w, n, m, _| difference(false, w, n, m);
    /// SABA.
    saba, |_, w, n, m, d| d.wrapping_add(difference(true, w, n, m));
    /// UABA.
    uaba, |_, w, n, m, d| d.wrapping_add(difference(false, w, n, m));
    /// ADD.
    add, |_, _, n, m, _| n.wrapping_add(m);
    /// SUB.
    sub, |_, _, n, m, _| n.wrapping_sub(m);
    /// MLA (vector, by element).
    mla, |_, _, n, m, d| d.wrapping_add(n.wrapping_mul(m));
    /// MLS (vector, by element).
    mls, |_, _, n, m, d| d.wrapping_sub(n.wrapping_mul(m));
    /// MUL (vector, by element).
    mul, |_, _, n, m, _| n.wrapping_mul(m);
    /// PMUL.
    pmul, |_, _, n, m, _| polynomial(n, m);
    /// SQDMULH (vector, by element).
    sqdmulh, |qc, w, n, m, _| double_high(qc, w, n, m, false);
    /// SQRDMULH (vector, by element).
    sqrdmulh, |qc, w, n, m, _| double_high(qc, w, n, m, true);
    /// SQRDMLAH (vector, by element).
    sqrdmlah, |qc, w, n, m, d| double_high_accumulate(qc, w, n, m, d, false);
    /// SQRDMLSH (vector, by element).
    sqrdmlsh, |qc, w, n, m, d| double_high_accumulate(qc, w, n, m, d, true);
    /// SUQADD: Vm is not an operand.
    suqadd, |qc, w, n, _, d| saturate_signed(qc, w, signed(w, d) + i128::from(n));
    /// USQADD.
    usqadd, |qc, w, n, _, d| saturate_unsigned(qc, w, i128::from(d) + signed(w, n));
    /// SQABS.
    sqabs, |qc, w, n, _, _| saturate_signed(qc, w, signed(w, n).abs());
    /// SQNEG.
    sqneg, |qc, w, n, _, _| saturate_signed(qc, w, -signed(w, n));
    /// ABS.
    abs, |_, w, n, _, _| sx(w, n).wrapping_abs() as u64;
    /// NEG.
    neg, |_, _, n, _, _| n.wrapping_neg();
    /// CMGT (zero).
    cmgt_zero, |_, w, n, _, _| mask(sx(w, n) > 0);
    /// CMGE (zero).
    cmge_zero, |_, w, n, _, _| mask(sx(w, n) >= 0);
    /// CMEQ (zero).
    cmeq_zero, |_, _, n, _, _| mask(n == 0);
    /// CMLE (zero).
    cmle_zero, |_, w, n, _, _| mask(sx(w, n) <= 0);
    /// CMLT (zero).
    cmlt_zero, |_, w, n, _, _| mask(sx(w, n) < 0);
    /// CLS.
    cls, |_, w, n, _, _| {
        let value = sx(w, n);
        u64::from((value ^ value >> 1).leading_zeros() - (64 - w) - 1)
    };
    /// CLZ.
    clz, |_, w, n, _, _| u64::from(n.leading_zeros() - (64 - w));
    /// CNT.
    cnt, |_, _, n, _, _| u64::from(n.count_ones());
}
