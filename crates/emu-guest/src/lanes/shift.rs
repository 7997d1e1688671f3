//! Shifts of single lanes by an immediate, named after the mnemonics of A64 (manual C7.2).

use super::{low, saturate_signed, saturate_unsigned, signed, sx};

/// Shifts `value` right by 1 to 64, rounding where asked. Wide enough for 64-bit lanes.
#[inline(always)]
fn right(value: i128, by: u32, round: bool) -> i128 {
    (value + if round { 1 << (by - 1) } else { 0 }) >> by
}

/// Shifts right by 1 to `w`, filled with the sign.
#[inline(always)]
fn arithmetic(w: u32, value: u64, by: u32) -> u64 {
    (sx(w, value) >> by.min(63)) as u64
}

/// Shifts right by 1 to 64, filled with zeros.
#[inline(always)]
fn logical(value: u64, by: u32) -> u64 {
    value.checked_shr(by).unwrap_or(0)
}

/// Each gets the width, the shift to the right, the shift to the left, and lanes of n and d; the first
/// parameter is the cumulative saturation flag.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, |$qc:pat_param, $w:pat_param, $right:pat_param, $left:pat_param, $n:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name($qc: &mut bool, $w: u32, $right: u32, $left: u32, $n: u64, $d: u64) -> u64 {
            $body
        }
    )*};
}

operations! {
    /// SSHR.
    sshr, |_, w, by, _, n, _| arithmetic(w, n, by);
    /// USHR.
    ushr, |_, _, by, _, n, _| logical(n, by);
    /// SSRA.
    ssra, |_, w, by, _, n, d| d.wrapping_add(arithmetic(w, n, by));
    /// USRA.
    usra, |_, _, by, _, n, d| d.wrapping_add(logical(n, by));
    /// SRSHR.
    srshr, |_, w, by, _, n, _| right(signed(w, n), by, true) as u64;
    /// URSHR.
    urshr, |_, _, by, _, n, _| right(i128::from(n), by, true) as u64;
    /// SRSRA.
    srsra, |_, w, by, _, n, d| d.wrapping_add(right(signed(w, n), by, true) as u64);
    /// URSRA.
    ursra, |_, _, by, _, n, d| d.wrapping_add(right(i128::from(n), by, true) as u64);
    /// SRI.
    sri, |_, w, by, _, n, d| d & !logical(low(w), by) | logical(n, by);
    /// SHL.
    shl, |_, _, _, by, n, _| n << by;
    /// SLI.
    sli, |_, _, _, by, n, d| d & !(u64::MAX << by) | n << by;
    /// SQSHL (immediate).
    sqshl, |qc, w, _, by, n, _| saturate_signed(qc, w, signed(w, n) << by);
    /// UQSHL (immediate).
    uqshl, |qc, w, _, by, n, _| saturate_unsigned(qc, w, i128::from(n) << by);
    /// SQSHLU.
    sqshlu, |qc, w, _, by, n, _| saturate_unsigned(qc, w, signed(w, n) << by);
}
