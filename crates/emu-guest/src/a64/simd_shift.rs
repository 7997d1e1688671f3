//! Advanced SIMD shifts by an immediate (manual C4.1.96). The highest bit that is set in immh gives the lane
//! size, the bits below it the shift.

use super::fpcr::QC;
use super::simd::{
    active, half, is_scalar, lane, low, map_size, saturate_signed, saturate_unsigned, sx, write_half,
};
use crate::exit::{Flow, Step};
use crate::op::{Host, Op};
use crate::state::State;

/// Log2 of the lane size in bytes; `None` where immh is zero, which is another class.
#[inline(always)]
pub(crate) fn size(op: &Op) -> Option<u32> {
    let immh = op.bits(22, 19);
    if immh == 0 { None } else { Some(31 - immh.leading_zeros()) }
}

/// Which sizes a shift has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sizes {
    /// All vectors but 1D; scalar 64 bits.
    All,
    /// All vectors but 1D; scalars of all sizes.
    Scalars,
}

/// Size, or `None` if the form is reserved.
#[inline(always)]
fn allowed(op: &Op, sizes: Sizes) -> Option<u32> {
    let size = size(op)?;
    let ok = if is_scalar(op) { sizes == Sizes::Scalars || size == 3 } else { size < 3 || op.bit(30) };
    ok.then_some(size)
}

/// Shifts `value` right by 1 to 64, rounding where asked. Wide enough for 64-bit lanes.
#[inline(always)]
fn right(value: i128, by: u32, round: bool) -> i128 {
    (value + if round { 1 << (by - 1) } else { 0 }) >> by
}

/// Shifts within lanes. The closure gets the width, the shift right, the shift left, and lanes of n and d.
macro_rules! shifts {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr, |$qc:pat_param, $w:pat_param, $right:pat_param, $left:pat_param, $n:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let Some(size) = allowed(op, $sizes) else { return s.undefined(op) };
            let imm = op.bits(22, 16);
            let active = active(op, size);
            let mut saturated = false;
            let (n, d) = (s.v[op.vn()] & active, s.v[op.vd()] & active);
            let result = map_size(size, n, 0, d, |w, $n, _, $d| {
                let ($w, $right, $left) = (w, 2 * w - imm, imm - w);
                let $qc = &mut saturated;
                $body
            });
            s.v[op.vd()] = result & active;
            if saturated {
                s.fpsr |= QC;
            }
            Ok(Flow::Next)
        }
    )*};
}

#[inline(always)]
fn signed(w: u32, value: u64) -> i128 {
    i128::from(sx(w, value))
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

shifts! {
    /// SSHR.
    sshr, Sizes::All, |_, w, by, _, n, _| arithmetic(w, n, by);
    /// USHR.
    ushr, Sizes::All, |_, _, by, _, n, _| logical(n, by);
    /// SSRA.
    ssra, Sizes::All, |_, w, by, _, n, d| d.wrapping_add(arithmetic(w, n, by));
    /// USRA.
    usra, Sizes::All, |_, _, by, _, n, d| d.wrapping_add(logical(n, by));
    /// SRSHR.
    srshr, Sizes::All, |_, w, by, _, n, _| right(signed(w, n), by, true) as u64;
    /// URSHR.
    urshr, Sizes::All, |_, _, by, _, n, _| right(i128::from(n), by, true) as u64;
    /// SRSRA.
    srsra, Sizes::All, |_, w, by, _, n, d| d.wrapping_add(right(signed(w, n), by, true) as u64);
    /// URSRA.
    ursra, Sizes::All, |_, _, by, _, n, d| d.wrapping_add(right(i128::from(n), by, true) as u64);
    /// SRI.
    sri, Sizes::All, |_, w, by, _, n, d| d & !logical(low(w), by) | logical(n, by);
    /// SHL.
    shl, Sizes::All, |_, _, _, by, n, _| n << by;
    /// SLI.
    sli, Sizes::All, |_, _, _, by, n, d| d & !(u64::MAX << by) | n << by;
    /// SQSHL (immediate).
    sqshl, Sizes::Scalars, |qc, w, _, by, n, _| saturate_signed(qc, w, signed(w, n) << by);
    /// UQSHL (immediate).
    uqshl, Sizes::Scalars, |qc, w, _, by, n, _| saturate_unsigned(qc, w, i128::from(n) << by);
    /// SQSHLU.
    sqshlu, Sizes::Scalars, |qc, w, _, by, n, _| saturate_unsigned(qc, w, signed(w, n) << by);
}

/// SHRN, SQSHRN, UQSHRN, SQSHRUN and their rounding forms: `KIND` 0 to 3, bit 11 is rounding.
pub(crate) fn narrow<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(size) = size(op).filter(|&size| size < 3) else { return s.undefined(op) };
    let w = 8u32 << size;
    let (by, round) = (2 * w - op.bits(22, 16), op.bit(11));
    let n = s.v[op.vn()];
    let mut saturated = false;
    let mut result = 0u64;
    for i in 0..if is_scalar(op) { 1 } else { 64 / w } {
        let value = lane(n, i, 2 * w);
        let narrowed = match KIND {
            0 => right(i128::from(value), by, round) as u64,
            1 => saturate_signed(&mut saturated, w, right(signed(2 * w, value), by, round)),
            2 => saturate_unsigned(&mut saturated, w, right(i128::from(value), by, round)),
            _ => saturate_unsigned(&mut saturated, w, right(signed(2 * w, value), by, round)),
        };
        result |= (narrowed & low(w)) << (i * w);
    }
    write_half(s, op, result);
    if saturated {
        s.fpsr |= QC;
    }
    Ok(Flow::Next)
}

/// SSHLL, USHLL.
pub(crate) fn long(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(size) = size(op).filter(|&size| size < 3) else { return s.undefined(op) };
    let w = 8u32 << size;
    let by = op.bits(22, 16) - w;
    let n = u128::from(half(op, s.v[op.vn()]));
    let mut result = 0u128;
    for i in 0..64 / w {
        let value = lane(n, i, w);
        let value = if op.bit(29) { value } else { sx(w, value) as u64 };
        result |= u128::from(value << by & low(2 * w)) << (i * 2 * w);
    }
    s.v[op.vd()] = result;
    Ok(Flow::Next)
}
