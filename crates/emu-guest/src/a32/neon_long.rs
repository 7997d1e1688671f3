//! Advanced SIMD: integer operations that make lanes wider or narrower (manual F6.1).

use super::fields::Word;
use crate::exit::{Flow, Step};
use crate::lanes::arithmetic::polynomial_wide;
use crate::lanes::long::{self, SIGNED, SIGNED_TO_UNSIGNED, TRUNCATE, UNSIGNED};
use crate::lanes::{broadcast, lane};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// Sets the quadword d to lanes made of lanes of n and `m`; with `UNSIGNED` they are unsigned.
#[inline(always)]
fn widen<const UNSIGNED: bool>(
    s: &mut State,
    op: &Op,
    m: u64,
    operation: impl Fn(&mut bool, u32, i128, i128, u64) -> i128,
) -> Step {
    let (size, operands, d) = (op.lane_size(), [s.d(op.rn), m], s.vector(op.rd, true));
    let mut saturated = false;
    let result = long::long(size, 8 >> size, UNSIGNED, operands, d, |w, n, m, d| {
        operation(&mut saturated, w, n, m, d)
    });
    s.set_vector(op.rd, true, result);
    s.note_saturation(saturated);
    Ok(Flow::Next)
}

/// The size in the field `z`, if it is one of `sizes` and the quadword d is even.
fn size(word: &Word<'_>, sizes: u32) -> Option<u32> {
    let size = word.field('z');
    (sizes >> size & 1 == 1 && !word.names_odd("d")).then_some(size)
}

/// Lanes of 8, 16 and 32 bits.
const NARROW: u32 = 0b0111;
/// Lanes of 16 and 32 bits.
const MIDDLE: u32 = 0b0110;

/// Decoders of operations on lanes of the doublewords n and m, and for some also of n and a scalar.
macro_rules! long {
    ($($(#[$doc:meta])* $name:ident, $scalar:ident, $sizes:expr, $unsigned:literal, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                widen::<$unsigned>(s, op, s.d(op.rm), long::$operation)
            }
            Some(word.vectors(run, true, size(word, $sizes)?))
        }
        long!(@$scalar, $(#[$doc])* $unsigned, $operation);
    )*};
    (@none, $(#[$doc:meta])* $unsigned:literal, $operation:ident) => {};
    (@$name:ident, $(#[$doc:meta])* $unsigned:literal, $operation:ident) => {
        $(#[$doc])*
        /// By a scalar.
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let width = 8 << op.lane_size();
                let m = broadcast(lane(s.vector(op.rm, false), op.imm32(), width), width) as u64;
                widen::<$unsigned>(s, op, m, long::$operation)
            }
            let size = size(word, MIDDLE)?;
            let (rm, index) = word.scalar(size);
            Some(Op { rm, ..word.vectors(run, true, size) }.with_imm(index))
        }
    };
}

long! {
    /// VADDL, signed.
    vaddl_s, none, NARROW, false, addl;
    /// VADDL, unsigned.
    vaddl_u, none, NARROW, true, addl;
    /// VSUBL, signed.
    vsubl_s, none, NARROW, false, subl;
    /// VSUBL, unsigned.
    vsubl_u, none, NARROW, true, subl;
    /// VABAL, signed.
    vabal_s, none, NARROW, false, abal;
    /// VABAL, unsigned.
    vabal_u, none, NARROW, true, abal;
    /// VABDL, signed.
    vabdl_s, none, NARROW, false, abdl;
    /// VABDL, unsigned.
    vabdl_u, none, NARROW, true, abdl;
    /// VMLAL, signed.
    vmlal_s, vmlal_s_scalar, NARROW, false, mlal;
    /// VMLAL, unsigned.
    vmlal_u, vmlal_u_scalar, NARROW, true, mlal;
    /// VMLSL, signed.
    vmlsl_s, vmlsl_s_scalar, NARROW, false, mlsl;
    /// VMLSL, unsigned.
    vmlsl_u, vmlsl_u_scalar, NARROW, true, mlsl;
    /// VMULL, signed.
    vmull_s, vmull_s_scalar, NARROW, false, mull;
    /// VMULL, unsigned.
    vmull_u, vmull_u_scalar, NARROW, true, mull;
    /// VQDMULL.
    vqdmull, vqdmull_scalar, MIDDLE, false, sqdmull;
    /// VQDMLAL.
    vqdmlal, vqdmlal_scalar, MIDDLE, false, sqdmlal;
    /// VQDMLSL.
    vqdmlsl, vqdmlsl_scalar, MIDDLE, false, sqdmlsl;
}

/// VMULL of polynomials: 8 and, with the extension of cryptography, 64 bits.
pub(crate) fn vmull_p(word: &Word<'_>) -> Option<Op> {
    fn bytes(s: &mut State, _: &Host, op: &Op) -> Step {
        s.set_vector(op.rd, true, long::polynomial_bytes(s.d(op.rn), s.d(op.rm)));
        Ok(Flow::Next)
    }
    fn doublewords(s: &mut State, _: &Host, op: &Op) -> Step {
        s.set_vector(op.rd, true, polynomial_wide(s.d(op.rn), s.d(op.rm)));
        Ok(Flow::Next)
    }
    match size(word, 0b0101)? {
        0 => Some(word.vectors(bytes, true, 0)),
        _ => Some(word.vectors(doublewords, true, 3)),
    }
}

fn wide<const UNSIGNED: bool, const SUBTRACT: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = (s.vector(op.rn, true), s.d(op.rm));
    s.set_vector(op.rd, true, long::wide(op.lane_size(), UNSIGNED, SUBTRACT, n, m));
    Ok(Flow::Next)
}

/// VADDW; `U` is unsignedness.
pub(crate) fn vaddw(word: &Word<'_>) -> Option<Op> {
    let run = if word.is('U') { wide::<true, false> } else { wide::<false, false> };
    let size = size(word, NARROW)?;
    (!word.names_odd("n")).then(|| word.vectors(run, true, size))
}

/// VSUBW; `U` is unsignedness.
pub(crate) fn vsubw(word: &Word<'_>) -> Option<Op> {
    let run = if word.is('U') { wide::<true, true> } else { wide::<false, true> };
    let size = size(word, NARROW)?;
    (!word.names_odd("n")).then(|| word.vectors(run, true, size))
}

fn high_narrow<const SUBTRACT: bool, const ROUND: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = (s.vector(op.rn, true), s.vector(op.rm, true));
    let result = long::high_narrow(op.lane_size(), SUBTRACT, ROUND, n, m);
    s.set_vector(op.rd, false, u128::from(result));
    Ok(Flow::Next)
}

/// The instruction with quadwords n and m, if they are even, and lanes of 8, 16 or 32 bits in d.
fn narrowing(word: &Word<'_>, run: Handler) -> Option<Op> {
    let size = word.field('z');
    (size < 3 && !word.names_odd("nm")).then(|| word.vectors(run, false, size))
}

/// VADDHN and, with `ROUND`, VRADDHN.
pub(crate) fn vaddhn<const ROUND: bool>(word: &Word<'_>) -> Option<Op> {
    narrowing(word, high_narrow::<false, ROUND>)
}

/// VSUBHN and, with `ROUND`, VRSUBHN.
pub(crate) fn vsubhn<const ROUND: bool>(word: &Word<'_>) -> Option<Op> {
    narrowing(word, high_narrow::<true, ROUND>)
}

/// The immediate is the shift to the right.
fn narrow<const KIND: u32, const ROUND: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.lane_size();
    let m = s.vector(op.rm, true);
    let (result, saturated) = long::narrow::<KIND>(size, 8 >> size, op.imm32(), ROUND, m);
    s.set_vector(op.rd, false, u128::from(result));
    s.note_saturation(saturated);
    Ok(Flow::Next)
}

/// VMOVN.
pub(crate) fn vmovn(word: &Word<'_>) -> Option<Op> {
    narrowing(word, narrow::<TRUNCATE, false>)
}

/// VQMOVUN.
pub(crate) fn vqmovun(word: &Word<'_>) -> Option<Op> {
    narrowing(word, narrow::<SIGNED_TO_UNSIGNED, false>)
}

/// VQMOVN; `u` is unsignedness.
pub(crate) fn vqmovn(word: &Word<'_>) -> Option<Op> {
    narrowing(word, if word.is('u') { narrow::<UNSIGNED, false> } else { narrow::<SIGNED, false> })
}

/// The size and the rest of the immediate `i`, whose highest bit that is set gives the size: 8, 16 or 32
/// bits.
fn size_and_rest(word: &Word<'_>) -> Option<(u32, u32)> {
    let imm = word.field('i');
    let size = (imm >> 3).checked_ilog2()?;
    Some((size, imm - (8 << size)))
}

/// A shift right of the quadword m, if it is even; the immediate `i` is twice the width less the shift.
fn shift_narrowing(word: &Word<'_>, run: Handler) -> Option<Op> {
    let (size, rest) = size_and_rest(word)?;
    (!word.names_odd("m")).then(|| word.vectors(run, false, size).with_imm((8 << size) - rest))
}

/// VSHRN.
pub(crate) fn vshrn(word: &Word<'_>) -> Option<Op> {
    shift_narrowing(word, narrow::<TRUNCATE, false>)
}

/// VRSHRN.
pub(crate) fn vrshrn(word: &Word<'_>) -> Option<Op> {
    shift_narrowing(word, narrow::<TRUNCATE, true>)
}

/// VQSHRN; `U` is unsignedness.
pub(crate) fn vqshrn(word: &Word<'_>) -> Option<Op> {
    shift_narrowing(word, if word.is('U') { narrow::<UNSIGNED, false> } else { narrow::<SIGNED, false> })
}

/// VQRSHRN; `U` is unsignedness.
pub(crate) fn vqrshrn(word: &Word<'_>) -> Option<Op> {
    shift_narrowing(word, if word.is('U') { narrow::<UNSIGNED, true> } else { narrow::<SIGNED, true> })
}

/// VQSHRUN.
pub(crate) fn vqshrun(word: &Word<'_>) -> Option<Op> {
    shift_narrowing(word, narrow::<SIGNED_TO_UNSIGNED, false>)
}

/// VQRSHRUN.
pub(crate) fn vqrshrun(word: &Word<'_>) -> Option<Op> {
    shift_narrowing(word, narrow::<SIGNED_TO_UNSIGNED, true>)
}

fn shift_long<const UNSIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let result = long::shift_long(op.lane_size(), UNSIGNED, op.imm32(), s.d(op.rm));
    s.set_vector(op.rd, true, result);
    Ok(Flow::Next)
}

/// VSHLL by less than the width, and VMOVL; `U` is unsignedness.
pub(crate) fn vshll(word: &Word<'_>) -> Option<Op> {
    let (size, by) = size_and_rest(word)?;
    let run = if word.is('U') { shift_long::<true> } else { shift_long::<false> };
    (!word.names_odd("d")).then(|| word.vectors(run, true, size).with_imm(by))
}

/// VSHLL by the width.
pub(crate) fn vshll_width(word: &Word<'_>) -> Option<Op> {
    let size = size(word, NARROW)?;
    Some(word.vectors(shift_long::<true>, true, size).with_imm(8 << size))
}
