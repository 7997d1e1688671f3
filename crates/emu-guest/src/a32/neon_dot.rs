//! Advanced SIMD: dot products and matrix products of bytes (manual F6.1; FEAT_AA32DOTPROD, FEAT_AA32I8MM).

use super::fields::Word;
use crate::exit::{Flow, Step};
use crate::lanes::{broadcast, lane, long, sx};
use crate::op::{Handler, Host, Op};
use crate::state::State;

fn dot<const N_UNSIGNED: bool, const M_UNSIGNED: bool, const SCALAR: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let (n, d) = (s.vector(op.rn, op.is_quad()), s.vector(op.rd, op.is_quad()));
    let m = if SCALAR {
        broadcast(lane(s.vector(op.rm, false), op.imm32(), 32), 32)
    } else {
        s.vector(op.rm, op.is_quad())
    };
    s.set_vector(op.rd, op.is_quad(), long::dot((N_UNSIGNED, M_UNSIGNED), n, m, d));
    Ok(Flow::Next)
}

/// The instruction with four bytes of m in lane `M` as the scalar.
fn by_scalar(word: &Word<'_>, run: Handler) -> Option<Op> {
    let quad = word.is('Q');
    let (rm, index) = word.scalar(2);
    let op = Op { rm, ..word.vectors(run, quad, 2) }.with_imm(index);
    (!(quad && word.names_odd("dn"))).then_some(op)
}

/// VSDOT.
pub(crate) fn vsdot(word: &Word<'_>) -> Option<Op> {
    word.same_vectors(dot::<false, false, false>, 2)
}

/// VUDOT.
pub(crate) fn vudot(word: &Word<'_>) -> Option<Op> {
    word.same_vectors(dot::<true, true, false>, 2)
}

/// VUSDOT.
pub(crate) fn vusdot(word: &Word<'_>) -> Option<Op> {
    word.same_vectors(dot::<true, false, false>, 2)
}

/// VSDOT by a scalar.
pub(crate) fn vsdot_scalar(word: &Word<'_>) -> Option<Op> {
    by_scalar(word, dot::<false, false, true>)
}

/// VUDOT by a scalar.
pub(crate) fn vudot_scalar(word: &Word<'_>) -> Option<Op> {
    by_scalar(word, dot::<true, true, true>)
}

/// VUSDOT by a scalar.
pub(crate) fn vusdot_scalar(word: &Word<'_>) -> Option<Op> {
    by_scalar(word, dot::<true, false, true>)
}

/// VSUDOT by a scalar.
pub(crate) fn vsudot_scalar(word: &Word<'_>) -> Option<Op> {
    by_scalar(word, dot::<false, true, true>)
}

/// A matrix of two rows of eight bytes, times the transpose of another, added to a matrix of 2 by 2 words
/// (MatMulAdd).
fn matrix<const N_UNSIGNED: bool, const M_UNSIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m, d) = (s.vector(op.rn, true), s.vector(op.rm, true), s.vector(op.rd, true));
    let extend = |unsigned: bool, byte: u64| if unsigned { byte as u32 } else { sx(8, byte) as u32 };
    let mut result = 0u128;
    for i in 0..4 {
        let (row, column) = (i / 2 * 8, i % 2 * 8);
        let sum = (0..8).fold(lane(d, i, 32) as u32, |sum, j| {
            let a = extend(N_UNSIGNED, lane(n, row + j, 8));
            let b = extend(M_UNSIGNED, lane(m, column + j, 8));
            sum.wrapping_add(a.wrapping_mul(b))
        });
        result |= u128::from(sum) << (i * 32);
    }
    s.set_vector(op.rd, true, result);
    Ok(Flow::Next)
}

/// VSMMLA.
pub(crate) fn vsmmla(word: &Word<'_>) -> Option<Op> {
    (!word.names_odd("dnm")).then(|| word.vectors(matrix::<false, false>, true, 2))
}

/// VUMMLA.
pub(crate) fn vummla(word: &Word<'_>) -> Option<Op> {
    (!word.names_odd("dnm")).then(|| word.vectors(matrix::<true, true>, true, 2))
}

/// VUSMMLA.
pub(crate) fn vusmmla(word: &Word<'_>) -> Option<Op> {
    (!word.names_odd("dnm")).then(|| word.vectors(matrix::<true, false>, true, 2))
}
