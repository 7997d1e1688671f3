//! Advanced SIMD: immediates, copies of lanes, and lanes that change places (manual F6.1).

use super::fields::Word;
use super::registers::place;
use crate::exit::{Flow, Step};
use crate::lanes::{broadcast, lane, low, permute, sx};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// VMOV, VMVN, VORR, VBIC of an immediate: `i`, `j` and `k` are its bits; bits 11 to 8 are cmode,
/// bit 5 inverts.
pub(crate) fn immediate(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let (imm, cmode, inverted) = (op.imm32() & 0xff, op.bits(11, 8), op.bit(5));
        let half = permute::immediate(cmode, inverted, imm);
        let d = s.vector(op.rd, op.is_quad());
        let value = u128::from(half) | u128::from(half) << 64;
        s.set_vector(op.rd, op.is_quad(), permute::with_immediate(cmode, inverted, value, d));
        Ok(Flow::Next)
    }
    if word.code >> 8 & 15 == 15 && word.code >> 5 & 1 == 1 {
        return None;
    }
    let imm = word.field('i') << 7 | word.field('j') << 4 | word.field('k');
    Some(word.same_vectors(run, 0)?.with_imm(imm))
}

/// VDUP of a scalar: the lowest bit that is set in `i` gives the size, the bits above it the lane.
pub(crate) fn vdup_scalar(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let width = 8 << op.lane_size();
        let value = lane(s.vector(op.rm, false), op.imm32(), width);
        s.set_vector(op.rd, op.is_quad(), broadcast(value, width));
        Ok(Flow::Next)
    }
    let imm = word.field('i');
    let (size, quad) = (imm.trailing_zeros(), word.is('Q'));
    let reserved = size > 2 || quad && word.names_odd("d");
    (!reserved).then(|| word.vectors(run, quad, size).with_imm(imm >> (size + 1)))
}

/// VEXT: the bytes of m:n from byte `i` on.
pub(crate) fn vext(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let (n, m) = (s.vector(op.rn, op.is_quad()), s.vector(op.rm, op.is_quad()));
        let by = op.imm32() * 8;
        let result = match (op.is_quad(), by) {
            (_, 0) => n,
            (true, _) => n >> by | m << (128 - by),
            (false, _) => (n | m << 64) >> by,
        };
        s.set_vector(op.rd, op.is_quad(), result);
        Ok(Flow::Next)
    }
    let imm = word.field('i');
    let op = word.same_vectors(run, 0)?.with_imm(imm);
    (op.is_quad() || imm < 8).then_some(op)
}

/// VTBL and, with `x`, VTBX: the table is `l` + 1 doublewords from n on.
pub(crate) fn table(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let registers = op.imm32() as usize;
        let mut bytes = [0u8; 32];
        for i in 0..registers {
            bytes[i * 8..i * 8 + 8].copy_from_slice(&s.d(op.rn + i as u8).to_le_bytes());
        }
        let outside = if op.bit(6) { s.vector(op.rd, false) } else { 0 };
        let result = permute::look_up(&bytes[..registers * 8], s.vector(op.rm, false), outside);
        s.set_vector(op.rd, false, result);
        Ok(Flow::Next)
    }
    let registers = word.field('l') + 1;
    let inside = u32::from(word.double('n')) + registers <= 32;
    inside.then(|| word.vectors(run, false, 0).with_imm(registers))
}

/// VREV64, VREV32, VREV16 by the size of the container.
fn reverse<const CONTAINER: u32>(word: &Word<'_>) -> Option<Op> {
    fn run<const CONTAINER: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
        let result = permute::reverse(op.lane_size(), CONTAINER, s.vector(op.rm, op.is_quad()));
        s.set_vector(op.rd, op.is_quad(), result);
        Ok(Flow::Next)
    }
    let size = word.field('z');
    if size < CONTAINER { word.same_vectors(run::<CONTAINER>, size) } else { None }
}

/// VREV64.
pub(crate) fn vrev64(word: &Word<'_>) -> Option<Op> {
    reverse::<3>(word)
}

/// VREV32.
pub(crate) fn vrev32(word: &Word<'_>) -> Option<Op> {
    reverse::<2>(word)
}

/// VREV16.
pub(crate) fn vrev16(word: &Word<'_>) -> Option<Op> {
    reverse::<1>(word)
}

/// VSWP.
pub(crate) fn vswp(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let (d, m) = (s.vector(op.rd, op.is_quad()), s.vector(op.rm, op.is_quad()));
        s.set_vector(op.rd, op.is_quad(), m);
        s.set_vector(op.rm, op.is_quad(), d);
        Ok(Flow::Next)
    }
    word.same_vectors(run, 0)
}

fn mix<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (d, m, size) = (s.vector(op.rd, op.is_quad()), s.vector(op.rm, op.is_quad()), op.lane_size());
    let count = if op.is_quad() { 16 } else { 8 } >> size;
    s.set_vector(op.rd, op.is_quad(), permute::mix(KIND, size, count, 0, d, m));
    s.set_vector(op.rm, op.is_quad(), permute::mix(KIND, size, count, 1, d, m));
    Ok(Flow::Next)
}

/// VTRN.
pub(crate) fn vtrn(word: &Word<'_>) -> Option<Op> {
    mixing(word, mix::<{ permute::TRANSPOSE }>, 2)
}

/// VUZP.
pub(crate) fn vuzp(word: &Word<'_>) -> Option<Op> {
    mixing(word, mix::<{ permute::UNZIP }>, 1)
}

/// VZIP.
pub(crate) fn vzip(word: &Word<'_>) -> Option<Op> {
    mixing(word, mix::<{ permute::ZIP }>, 1)
}

/// `size_max` is for doublewords; quadwords have lanes of 32 bits too.
fn mixing(word: &Word<'_>, run: Handler, size_max: u32) -> Option<Op> {
    let size = word.field('z');
    if size > if word.is('Q') { 2 } else { size_max } { None } else { word.same_vectors(run, size) }
}

/// The size and the lane that opc1 and opc2 name together.
fn size_and_lane(opc: u32) -> Option<(u32, u32)> {
    match opc {
        0b1000..=0b1111 => Some((0, opc & 7)),
        0b0001 | 0b0011 | 0b0101 | 0b0111 => Some((1, opc >> 1 & 3)),
        0b0000 | 0b0100 => Some((2, opc >> 2)),
        _ => None,
    }
}

/// Whether a move between a general register and a lane is one: it is conditional, and not of PC.
fn is_move(word: &Word<'_>) -> bool {
    word.field('c') != 15 && !word.names_pc("t")
}

/// VMOV to a lane of `D:d` from `t`; `o` and `p` are opc1 and opc2.
pub(crate) fn vmov_to_lane(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let (width, value) = (8 << op.lane_size(), s.gpr[op.rn as usize]);
        let at = op.imm32() * width;
        let d = s.d(op.rd) & !(low(width) << at) | (value & low(width)) << at;
        s.set_vector(op.rd, false, u128::from(d));
        Ok(Flow::Next)
    }
    let (size, index) = size_and_lane(word.field('o') << 2 | word.field('p'))?;
    let op = Op { rn: place(word.field('t')), ..word.vectors(run, false, size) };
    is_move(word).then(|| op.with_imm(index))
}

/// VMOV to `t` from a lane of `N:n`, which is unsigned with `U`; `o` and `p` are opc1 and opc2.
pub(crate) fn vmov_from_lane(word: &Word<'_>) -> Option<Op> {
    fn run<const SIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
        let width = 8 << op.lane_size();
        let value = lane(s.vector(op.rn, false), op.imm32(), width);
        let value = if SIGNED { sx(width, value) as u32 } else { value as u32 };
        s.gpr[op.rd as usize] = u64::from(value);
        Ok(Flow::Next)
    }
    let (size, index) = size_and_lane(word.field('o') << 2 | word.field('p'))?;
    let unsigned = word.is('U');
    let run = if unsigned { run::<false> } else { run::<true> };
    let op = Op { rd: place(word.field('t')), ..word.vectors(run, false, size) };
    (is_move(word) && !(unsigned && size == 2)).then(|| op.with_imm(index))
}

/// VDUP of `t`; `b` and `e` give the size.
pub(crate) fn vdup_register(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let result = broadcast(s.gpr[op.rn as usize], 8 << op.lane_size());
        s.set_vector(op.rd, op.is_quad(), result);
        Ok(Flow::Next)
    }
    let size = 2u32.checked_sub(word.field('b') << 1 | word.field('e'))?;
    let quad = word.is('Q');
    let op = Op { rn: place(word.field('t')), ..word.vectors(run, quad, size) };
    (is_move(word) && !(quad && word.names_odd("d"))).then_some(op)
}
