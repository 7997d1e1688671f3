//! Advanced SIMD: the format BFloat16 (manual F6.1, J1.3 shared/functions/float/bfloat; FEAT_AA32BF16).

use super::fields::Word;
use super::standard::{Arithmetic, Modes};
use crate::exit::{Flow, Step};
use crate::float::{Brain, Flags, Fpu, Rounding, Single};
use crate::lanes::{broadcast, lane};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// A number of BFloat16 is the high half of one in single precision.
#[inline(always)]
fn single(vector: u128, i: u32) -> u64 {
    lane(vector, i, 16) << 16
}

/// BFMul and BFAdd: rounded to odd, but to infinity beyond the largest number; FPSCR gets no flag.
fn silently(f: impl FnOnce(&mut Arithmetic) -> u64) -> u64 {
    let mut fpu = Fpu::new(Modes::new(Rounding::Odd, true));
    let result = f(&mut fpu);
    if fpu.flags().any(Flags::OVERFLOW) { (result & 1 << 31) | 0x7f80_0000 } else { result }
}

/// BFDotAdd of lanes `2i` and `2i + 1` of n with `2j` and `2j + 1` of m.
fn dot_add(sum: u64, (n, i): (u128, u32), (m, j): (u128, u32)) -> u64 {
    let product = |k: u32| silently(|fpu| fpu.mul::<Single>(single(n, 2 * i + k), single(m, 2 * j + k)));
    let (low, high) = (product(0), product(1));
    let products = silently(|fpu| fpu.add::<Single>(low, high));
    silently(|fpu| fpu.add::<Single>(sum, products))
}

fn dot<const SCALAR: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, d) = (s.vector(op.rn, op.is_quad()), s.vector(op.rd, op.is_quad()));
    let m = if SCALAR {
        broadcast(lane(s.vector(op.rm, false), op.imm32(), 32), 32)
    } else {
        s.vector(op.rm, op.is_quad())
    };
    let result = (0..if op.is_quad() { 4 } else { 2 })
        .fold(0, |result, i| result | u128::from(dot_add(lane(d, i, 32), (n, i), (m, i))) << (i * 32));
    s.set_vector(op.rd, op.is_quad(), result);
    Ok(Flow::Next)
}

/// VDOT.
pub(crate) fn vdot(word: &Word<'_>) -> Option<Op> {
    word.same_vectors(dot::<false>, 2)
}

/// VDOT by a scalar.
pub(crate) fn vdot_scalar(word: &Word<'_>) -> Option<Op> {
    let quad = word.is('Q');
    let (rm, index) = word.scalar(2);
    let op = Op { rm, ..word.vectors(dot::<true>, quad, 2) }.with_imm(index);
    (!(quad && word.names_odd("dn"))).then_some(op)
}

/// VMMLA: a matrix of 2 by 4 numbers times the transpose of another (BFMatMulAdd).
pub(crate) fn vmmla(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let (n, m, d) = (s.vector(op.rn, true), s.vector(op.rm, true), s.vector(op.rd, true));
        let result = (0..4).fold(0, |result, i| {
            let (row, column) = (i / 2 * 2, i % 2 * 2);
            let sum = (0..2).fold(lane(d, i, 32), |sum, k| dot_add(sum, (n, row + k), (m, column + k)));
            result | u128::from(sum) << (i * 32)
        });
        s.set_vector(op.rd, true, result);
        Ok(Flow::Next)
    }
    (!word.names_odd("dnm")).then(|| word.vectors(run, true, 2))
}

/// The even lanes of n and m or, with `TOP`, the odd ones. The immediate is the lane of a scalar.
fn multiply_add<const TOP: bool, const SCALAR: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.standard::<Single>();
    let (n, d) = (s.vector(op.rn, true), s.vector(op.rd, true));
    let m = if SCALAR {
        broadcast(lane(s.vector(op.rm, false), op.imm32(), 16), 16)
    } else {
        s.vector(op.rm, true)
    };
    let result = (0..4).fold(0, |result, i| {
        let j = 2 * i + u32::from(TOP);
        result | u128::from(fpu.mul_add::<Single>(lane(d, i, 32), single(n, j), single(m, j))) << (i * 32)
    });
    s.set_vector(op.rd, true, result);
    s.accumulate::<Single>(&fpu);
    Ok(Flow::Next)
}

/// VFMAB and, with `T`, VFMAT.
pub(crate) fn vfma(word: &Word<'_>) -> Option<Op> {
    let run: Handler = if word.is('T') { multiply_add::<true, false> } else { multiply_add::<false, false> };
    (!word.names_odd("dnm")).then(|| word.vectors(run, true, 2))
}

/// VFMAB and, with `T`, VFMAT by a scalar.
pub(crate) fn vfma_scalar(word: &Word<'_>) -> Option<Op> {
    let run: Handler = if word.is('T') { multiply_add::<true, true> } else { multiply_add::<false, true> };
    let (rm, index) = word.scalar(1);
    (!word.names_odd("dn")).then(|| Op { rm, ..word.vectors(run, true, 2) }.with_imm(index))
}

/// VCVT from single precision.
pub(crate) fn vcvt(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let mut fpu = s.standard::<Single>();
        let m = s.vector(op.rm, true);
        let result = (0..4).fold(0, |result, i| {
            result | fpu.convert::<Single, Brain>(lane(m, i, 32), Rounding::TieEven) << (i * 16)
        });
        s.set_vector(op.rd, false, u128::from(result));
        s.accumulate::<Single>(&fpu);
        Ok(Flow::Next)
    }
    (!word.names_odd("m")).then(|| word.vectors(run, false, 1))
}
