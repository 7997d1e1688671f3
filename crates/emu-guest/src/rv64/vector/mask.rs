//! Operations with masks.

use super::element::{is_aligned, is_unmasked, overlap, vd, vs1, vs2};
use crate::exit::{Flow, Step};
use crate::op::{Host, Op};
use crate::rv64::action::{Action, Mask};
use crate::rv64::decode::row_of;
use crate::state::State;

/// Runs an operation.
pub(crate) fn run(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(Action::VectorMask(operation)) = row_of(op).map(|row| row.action) else {
        return s.undefined(op);
    };
    let shape = s.shape(op)?;
    let (d, v2) = (vd(op), vs2(op));
    match operation {
        Mask::Count | Mask::First => {
            s.require(op, s.vectors.vstart == 0)?;
            let mut found = s.body().filter(|&i| s.mask_bit(v2, i) && s.is_active(op, i));
            let result = match operation {
                Mask::Count => found.count() as u64,
                _ => found.next().unwrap_or(u64::MAX),
            };
            s.gpr[usize::from(op.rd)] = result;
        }
        Mask::BeforeFirst | Mask::OnlyFirst | Mask::IncludingFirst => {
            let masked_itself = !is_unmasked(op) && d == 0;
            s.require(op, s.vectors.vstart == 0 && d != v2 && !masked_itself)?;
            let mut seen = false;
            for i in s.body() {
                if !s.is_active(op, i) {
                    continue;
                }
                let is_first = !seen && s.mask_bit(v2, i);
                let value = match operation {
                    Mask::BeforeFirst => !seen && !is_first,
                    Mask::OnlyFirst => is_first,
                    _ => !seen,
                };
                seen |= is_first;
                s.set_mask_bit(d, i, value);
            }
        }
        Mask::Iota => {
            let holds = s.vectors.vstart == 0
                && is_aligned(d, shape.lmul)
                && !overlap(d, shape.lmul, v2, 0)
                && (is_unmasked(op) || d != 0);
            s.require(op, holds)?;
            let mut count = 0;
            for i in s.body() {
                if s.is_active(op, i) {
                    s.set_element(d, i, shape.sew, count);
                    count += u64::from(s.mask_bit(v2, i));
                }
            }
        }
        Mask::Number => {
            s.require(op, is_aligned(d, shape.lmul) && (is_unmasked(op) || d != 0))?;
            for i in s.body() {
                if s.is_active(op, i) {
                    s.set_element(d, i, shape.sew, i);
                }
            }
        }
        _ => {
            for i in s.body() {
                let (a, b) = (s.mask_bit(v2, i), s.mask_bit(vs1(op), i));
                let value = match operation {
                    Mask::Andn => a & !b,
                    Mask::And => a & b,
                    Mask::Or => a | b,
                    Mask::Xor => a ^ b,
                    Mask::Orn => a | !b,
                    Mask::Nand => !(a & b),
                    Mask::Nor => !(a | b),
                    _ => a == b,
                };
                s.set_mask_bit(d, i, value);
            }
        }
    }
    s.end_vector();
    Ok(Flow::Next)
}
