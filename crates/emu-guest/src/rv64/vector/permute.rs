//! Moves of elements: slides, gathers, compression, scalars.

use super::element::{
    Shape, have_one_size, is_aligned, is_unmasked, may_overlap, overlap, registers, vd, vs1, vs2,
};
use crate::exit::{Flow, Step};
use crate::op::{Host, Op};
use crate::rv64::action::{Action, Permute};
use crate::rv64::decode::row_of;
use crate::state::State;

/// The scalar operand: an unsigned immediate, a general register, or a number of floating point.
fn scalar(s: &State, op: &Op, shape: Shape) -> u64 {
    match op.bits(14, 12) {
        3 => op.bits(19, 15).into(),
        5 => super::float::scalar(s, op, shape.sew),
        _ => s.gpr[usize::from(op.rn)],
    }
}

/// Runs a move.
pub(crate) fn run(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(Action::VectorPermute(operation)) = row_of(op).map(|row| row.action) else {
        return s.undefined(op);
    };
    let (d, v1, v2) = (vd(op), vs1(op), vs2(op));
    if operation == Permute::Whole {
        s.vectors.used = true;
        let count = op.bits(17, 15) + 1;
        let lmul = count.trailing_zeros() as i32;
        s.require(op, Shape::of(s.vectors.vtype).is_some() && is_aligned(d, lmul) && is_aligned(v2, lmul))?;
        let shape = s.shape(op)?;
        for i in s.vectors.vstart..u64::from(count) * 16 >> shape.sew {
            let value = s.element(v2, i, shape.sew);
            s.set_element(d, i, shape.sew, value);
        }
        s.end_vector();
        return Ok(Flow::Next);
    }
    let shape = s.shape(op)?;
    let (sew, vl, vlmax) = (shape.sew, s.vectors.vl, shape.vlmax());
    if matches!(operation, Permute::ToFloat | Permute::FromFloat) || op.bits(14, 12) == 5 {
        s.require(op, sew > 0 && s.fpcr <= 4)?;
    }
    match operation {
        Permute::ToScalar => {
            s.gpr[usize::from(op.rd)] = crate::op::sign_extend(s.element(v2, 0, sew), shape.width());
        }
        Permute::ToFloat => {
            let above = if sew == 3 { 0 } else { u64::MAX << shape.width() };
            s.set_half(op.rd, s.element(v2, 0, sew) | above);
        }
        Permute::FromScalar | Permute::FromFloat => {
            let value = scalar(s, op, shape);
            if s.vectors.vstart < vl {
                s.set_element(d, 0, sew, value);
            }
        }
        Permute::Compress => {
            let holds = s.vectors.vstart == 0
                && is_aligned(d, shape.lmul)
                && is_aligned(v2, shape.lmul)
                && !overlap(d, shape.lmul, v2, shape.lmul)
                && !overlap(d, shape.lmul, v1, 0);
            s.require(op, holds)?;
            let mut next = 0;
            for i in s.body() {
                if s.mask_bit(v1, i) {
                    let value = s.element(v2, i, sew);
                    s.set_element(d, next, sew, value);
                    next += 1;
                }
            }
        }
        _ => {
            let by_halves = operation == Permute::GatherByHalves;
            let index = if by_halves { Shape { sew: 1, lmul: shape.lmul + 1 - sew as i32 } } else { shape };
            let gathers = matches!(operation, Permute::Gather | Permute::GatherByHalves);
            let has_v1 = gathers && op.bits(14, 12) == 0;
            let mut holds = is_aligned(d, shape.lmul) && is_aligned(v2, shape.lmul);
            holds &= is_unmasked(op) || d != 0;
            // Where elements go up, or anywhere, the source must stay.
            let stays = gathers || matches!(operation, Permute::SlideUp | Permute::SlideOneUp);
            holds &= !stays || !overlap(d, shape.lmul, v2, shape.lmul);
            holds &= !by_halves || (-3..=3).contains(&index.lmul);
            holds &= !has_v1 || is_aligned(v1, index.lmul) && !overlap(d, shape.lmul, v1, index.lmul);
            holds &= !by_halves || may_overlap(d, shape, v1, index);
            holds &= have_one_size(op, Some((v2, shape)), has_v1.then_some((v1, index)));
            s.require(op, holds)?;
            let offset = scalar(s, op, shape);
            let above = u64::from(registers(shape.lmul)) * 16 >> sew;
            debug_assert!(vlmax <= above);
            for i in s.body() {
                if !s.is_active(op, i) {
                    continue;
                }
                let from = match operation {
                    Permute::Gather if has_v1 => Some(s.element(v1, i, sew)),
                    Permute::GatherByHalves => Some(s.element(v1, i, 1)),
                    Permute::Gather => Some(offset),
                    Permute::SlideUp if i < offset => continue,
                    Permute::SlideUp => Some(i - offset),
                    Permute::SlideDown => Some(i.saturating_add(offset)),
                    Permute::SlideOneUp => i.checked_sub(1),
                    _ => Some(i + 1).filter(|&next| next < vl),
                };
                let value = match from {
                    None => offset,
                    Some(from) if from < vlmax => s.element(v2, from, sew),
                    Some(_) => 0,
                };
                s.set_element(d, i, sew, value);
            }
        }
    }
    s.end_vector();
    Ok(Flow::Next)
}
