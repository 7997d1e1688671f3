//! Advanced SIMD shifts by an immediate (manual C4.1.96). The highest bit that is set in immh gives the lane
//! size, the bits below it the shift.

use super::fpcr::QC;
use super::simd::{active, half, is_scalar, write_half};
use crate::exit::{Flow, Step};
use crate::lanes::{long as long_lanes, map_size, shift};
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

/// Shifts within lanes, by the operation of the same name.
macro_rules! shifts {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let Some(size) = allowed(op, $sizes) else { return s.undefined(op) };
            let imm = op.bits(22, 16);
            let active = active(op, size);
            let mut saturated = false;
            let (n, d) = (s.v[op.vn()] & active, s.v[op.vd()] & active);
            let result = map_size(size, n, 0, d, |w, n, _, d| {
                shift::$name(&mut saturated, w, 2 * w - imm, imm - w, n, d)
            });
            s.v[op.vd()] = result & active;
            if saturated {
                s.fpsr |= QC;
            }
            Ok(Flow::Next)
        }
    )*};
}

shifts! {
    /// SSHR.
    sshr, Sizes::All;
    /// USHR.
    ushr, Sizes::All;
    /// SSRA.
    ssra, Sizes::All;
    /// USRA.
    usra, Sizes::All;
    /// SRSHR.
    srshr, Sizes::All;
    /// URSHR.
    urshr, Sizes::All;
    /// SRSRA.
    srsra, Sizes::All;
    /// URSRA.
    ursra, Sizes::All;
    /// SRI.
    sri, Sizes::All;
    /// SHL.
    shl, Sizes::All;
    /// SLI.
    sli, Sizes::All;
    /// SQSHL (immediate).
    sqshl, Sizes::Scalars;
    /// UQSHL (immediate).
    uqshl, Sizes::Scalars;
    /// SQSHLU.
    sqshlu, Sizes::Scalars;
}

/// SHRN, SQSHRN, UQSHRN, SQSHRUN and their rounding forms: `KIND` 0 to 3, bit 11 is rounding.
pub(crate) fn narrow<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(size) = size(op).filter(|&size| size < 3) else { return s.undefined(op) };
    let (by, round) = ((16 << size) - op.bits(22, 16), op.bit(11));
    let count = if is_scalar(op) { 1 } else { 8 >> size };
    let (result, saturated) = long_lanes::narrow::<KIND>(size, count, by, round, s.v[op.vn()]);
    write_half(s, op, result);
    if saturated {
        s.fpsr |= QC;
    }
    Ok(Flow::Next)
}

/// SSHLL, USHLL.
pub(crate) fn long(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(size) = size(op).filter(|&size| size < 3) else { return s.undefined(op) };
    let by = op.bits(22, 16) - (8 << size);
    s.v[op.vd()] = long_lanes::shift_long(size, op.bit(29), by, half(op, s.v[op.vn()]));
    Ok(Flow::Next)
}
