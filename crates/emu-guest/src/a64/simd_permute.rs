//! Advanced SIMD moves: copies of lanes, immediates, permutations and table look-ups (manual C4.1.96).

use super::fp::expand_immediate;
use super::simd::active;
use crate::exit::{Flow, Step};
use crate::float::Double;
use crate::lanes::{broadcast, lane, low, permute as places, sx};
use crate::op::{Host, Op};
use crate::state::State;

/// Size and lane that imm5 names: the lowest bit that is set gives the size.
fn element(op: &Op) -> Option<(u32, u32)> {
    let imm5 = op.bits(20, 16);
    let size = imm5.trailing_zeros();
    (size < 4).then(|| (size, imm5 >> (size + 1)))
}

/// DUP (element); also the scalar form.
pub(crate) fn dup_element(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some((size, index)) = element(op) else { return s.undefined(op) };
    let scalar = op.bit(28);
    if size == 3 && !op.bit(30) {
        return s.undefined(op);
    }
    let value = lane(s.v[op.vn()], index, 8 << size);
    s.v[op.vd()] = if scalar { u128::from(value) } else { broadcast(value, 8 << size) & active(op, size) };
    Ok(Flow::Next)
}

/// DUP (general).
pub(crate) fn dup_general(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some((size, _)) = element(op) else { return s.undefined(op) };
    if size == 3 && !op.bit(30) {
        return s.undefined(op);
    }
    s.v[op.vd()] = broadcast(s.x(op.vn()), 8 << size) & active(op, size);
    Ok(Flow::Next)
}

fn insert(s: &mut State, op: &Op, size: u32, index: u32, value: u64) {
    let (width, shift) = (8u32 << size, index * (8 << size));
    let vd = &mut s.v[op.vd()];
    *vd = *vd & !(u128::from(low(width)) << shift) | u128::from(value & low(width)) << shift;
}

/// INS (general).
pub(crate) fn ins_general(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some((size, index)) = element(op) else { return s.undefined(op) };
    let value = s.x(op.vn());
    insert(s, op, size, index, value);
    Ok(Flow::Next)
}

/// INS (element).
pub(crate) fn ins_element(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some((size, index)) = element(op) else { return s.undefined(op) };
    let value = lane(s.v[op.vn()], op.bits(14, 11) >> size, 8 << size);
    insert(s, op, size, index, value);
    Ok(Flow::Next)
}

/// SMOV.
pub(crate) fn smov(s: &mut State, _: &Host, op: &Op) -> Step {
    let limit = if op.bit(30) { 3 } else { 2 };
    let Some((size, index)) = element(op).filter(|&(size, _)| size < limit) else { return s.undefined(op) };
    let value = sx(8 << size, lane(s.v[op.vn()], index, 8 << size)) as u64;
    s.set_x(op.vd(), if op.bit(30) { value } else { value & 0xffff_ffff });
    Ok(Flow::Next)
}

/// UMOV.
pub(crate) fn umov(s: &mut State, _: &Host, op: &Op) -> Step {
    let wide = op.bit(30);
    let Some((size, index)) = element(op).filter(|&(size, _)| (size == 3) == wide) else {
        return s.undefined(op);
    };
    let value = lane(s.v[op.vn()], index, 8 << size);
    s.set_x(op.vd(), value);
    Ok(Flow::Next)
}

/// AdvSIMDExpandImm, in both halves.
fn immediate(op: &Op) -> Option<u128> {
    let imm8 = op.bits(18, 16) << 5 | op.bits(9, 5);
    let half = match (op.bits(15, 12), op.bit(29)) {
        (15, true) if op.bit(30) => expand_immediate::<Double>(imm8),
        (15, true) => return None,
        (cmode, inverted) => places::immediate(cmode, inverted, imm8),
    };
    Some(u128::from(half) | u128::from(half) << 64)
}

/// MOVI, MVNI, FMOV, ORR, BIC (vector, immediate).
pub(crate) fn modified_immediate(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(value) = immediate(op) else { return s.undefined(op) };
    let result = places::with_immediate(op.bits(15, 12), op.bit(29), value, s.v[op.vd()]);
    s.v[op.vd()] = result & active(op, 3);
    Ok(Flow::Next)
}

/// EXT.
pub(crate) fn ext(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m, shift) = (s.v[op.vn()], s.v[op.vm()], op.bits(14, 11) * 8);
    s.v[op.vd()] = if op.bit(30) {
        if shift == 0 { n } else { n >> shift | m << (128 - shift) }
    } else {
        if shift >= 64 {
            return s.undefined(op);
        }
        (n & u128::from(u64::MAX) | m << 64) >> shift & u128::from(u64::MAX)
    };
    Ok(Flow::Next)
}

/// ZIP1, ZIP2, UZP1, UZP2, TRN1, TRN2 by bits 14 to 12.
pub(crate) fn permute(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 && !op.bit(30) {
        return s.undefined(op);
    }
    let count = if op.bit(30) { 16 } else { 8 } >> size;
    let kind = match op.bits(13, 12) {
        1 => places::UNZIP,
        2 => places::TRANSPOSE,
        _ => places::ZIP,
    };
    s.v[op.vd()] = places::mix(kind, size, count, op.bits(14, 14), s.v[op.vn()], s.v[op.vm()]);
    Ok(Flow::Next)
}

/// TBL, TBX: bits 14 and 13 are the number of table registers less one, bit 12 is TBX.
pub(crate) fn table(s: &mut State, _: &Host, op: &Op) -> Step {
    let registers = op.bits(14, 13) as usize + 1;
    let mut bytes = [0u8; 64];
    for i in 0..registers {
        bytes[i * 16..i * 16 + 16].copy_from_slice(&s.v[(op.vn() + i) & 31].to_le_bytes());
    }
    let outside = if op.bit(12) { s.v[op.vd()] } else { 0 };
    let result = places::look_up(&bytes[..registers * 16], s.v[op.vm()], outside);
    s.v[op.vd()] = result & active(op, 3);
    Ok(Flow::Next)
}
