//! Loads and stores: unit-stride, strided, indexed, of segments, of masks, of whole registers, and those that
//! only fault at the first element.
//!
//! A fault leaves the number of its element in vstart, where the instruction goes on.

use super::element::{
    Shape, VLENB, have_one_size, is_aligned, is_unmasked, may_overlap, overlap, registers, vd, vs2,
};
use crate::exit::{Flow, Leave, Step};
use crate::memory::{Access, Fault, untagged};
use crate::op::{Host, Op};
use crate::state::State;
use alloc::vec::Vec;

/// How an instruction goes through memory.
struct Walk {
    /// The logarithm of the bytes of an element.
    size: u32,
    /// The registers of a field's group, as a logarithm.
    lmul: i32,
    fields: u64,
    elements: u64,
    /// Bytes from element to element, unless indexes say where they are.
    stride: u64,
    /// The size of indexes.
    indexes: Option<u32>,
    masked: bool,
    only_first_faults: bool,
}

/// The logarithm of the bytes that the field of the width stands for.
fn width(op: &Op) -> u32 {
    match op.bits(14, 12) {
        0 => 0,
        wide => wide - 4,
    }
}

fn walk(s: &mut State, op: &Op, loads: bool) -> Result<Walk, Leave> {
    let (mop, field, nf) = (op.bits(27, 26), vs2(op), op.bits(31, 29) + 1);
    let size = width(op);
    if mop == 0 && field == 8 {
        s.vectors.used = true;
        // Whole registers need no valid vtype.
        let lmul = nf.trailing_zeros() as i32;
        s.require(op, nf.is_power_of_two() && is_aligned(vd(op), lmul))?;
        let elements = u64::from(nf) * VLENB >> size;
        return Ok(Walk {
            size,
            lmul,
            fields: 1,
            elements,
            stride: 1 << size,
            indexes: None,
            masked: false,
            only_first_faults: false,
        });
    }
    let shape = s.shape(op)?;
    if mop == 0 && field == 11 {
        return Ok(Walk {
            size: 0,
            lmul: 0,
            fields: 1,
            elements: s.vectors.vl.div_ceil(8),
            stride: 1,
            indexes: None,
            masked: false,
            only_first_faults: false,
        });
    }
    let of_width = Shape { sew: size, lmul: shape.lmul + size as i32 - shape.sew as i32 };
    let is_indexed = mop & 1 == 1;
    let data = if is_indexed { shape } else { of_width };
    let fields = nf;
    let all = fields << data.lmul.max(0);
    let masked = !is_unmasked(op);
    let mut holds = (-3..=3).contains(&of_width.lmul)
        && is_aligned(vd(op), data.lmul)
        && all <= 8
        && vd(op) + fields * registers(data.lmul) <= 32;
    if loads {
        holds &= !masked || vd(op) != 0;
    }
    if is_indexed {
        holds &= is_aligned(vs2(op), of_width.lmul) && have_one_size(op, Some((vs2(op), of_width)), None);
        let d = vd(op);
        let group = registers(data.lmul);
        let touches = (0..fields).any(|n| overlap(d + n * group, data.lmul, vs2(op), of_width.lmul));
        holds &= loads || !masked || d != 0;
        if loads && touches {
            // Segments may not overlap their indexes.
            holds &= fields == 1 && may_overlap(d, data, vs2(op), of_width);
        }
    }
    s.require(op, holds)?;
    let stride = if mop == 2 { s.gpr[usize::from(op.rm)] } else { u64::from(fields) << data.sew };
    Ok(Walk {
        size: data.sew,
        lmul: data.lmul,
        fields: fields.into(),
        elements: s.vectors.vl,
        stride,
        indexes: is_indexed.then_some(size),
        masked,
        only_first_faults: mop == 0 && field == 16,
    })
}

fn transfer(s: &mut State, host: &Host, op: &Op, loads: bool) -> Step {
    let walk = walk(s, op, loads)?;
    let (base, d) = (s.gpr[usize::from(op.rn)], vd(op));
    let group = registers(walk.lmul);
    for i in s.vectors.vstart..walk.elements {
        if walk.masked && !s.mask_bit(0, i) {
            continue;
        }
        let offset = match walk.indexes {
            Some(size) => s.element(vs2(op), i, size),
            None => i.wrapping_mul(walk.stride),
        };
        for field in 0..walk.fields {
            let address = base.wrapping_add(offset).wrapping_add(field << walk.size);
            let register = d + field as u32 * group;
            let result = if untagged(address) != address {
                let access = if loads { Access::Read } else { Access::Write };
                Err(Fault { address, access, host_signal: false })
            } else if loads {
                host.memory.load(address, walk.size as u8).map(|value| {
                    s.set_element(register, i, walk.size, value);
                })
            } else {
                host.memory.store(address, walk.size as u8, s.element(register, i, walk.size))
            };
            match result {
                Ok(()) => {}
                Err(_) if walk.only_first_faults && i > 0 => {
                    s.vectors.vl = i;
                    s.end_vector();
                    return Ok(Flow::Next);
                }
                Err(fault) => {
                    s.vectors.vstart = i;
                    return s.fault(fault);
                }
            }
        }
    }
    s.end_vector();
    Ok(Flow::Next)
}

/// Where an access of vectors may go: an address and a number of bytes for each element.
pub fn accessed(state: &State, op: &Op) -> Vec<(u64, u64)> {
    let mut s = state.clone();
    let Ok(walk) = walk(&mut s, op, !op.bit(5)) else { return Vec::new() };
    let base = s.gpr[usize::from(op.rn)];
    let offset = |i: u64| match walk.indexes {
        Some(size) => s.element(vs2(op), i, size),
        None => i.wrapping_mul(walk.stride),
    };
    (0..walk.elements).map(|i| (base.wrapping_add(offset(i)), walk.fields << walk.size)).collect()
}

/// VLE8 and its kin.
pub(crate) fn load(s: &mut State, host: &Host, op: &Op) -> Step {
    transfer(s, host, op, true)
}

/// VSE8 and its kin.
pub(crate) fn store(s: &mut State, host: &Host, op: &Op) -> Step {
    transfer(s, host, op, false)
}
