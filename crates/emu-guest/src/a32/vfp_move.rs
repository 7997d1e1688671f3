//! VFP's moves: between its registers and general ones, of FPSCR, and of immediates (manual F6.1).

use super::fields::Word;
use super::registers::place;
use super::vfp_register::{Element, by_size};
use crate::a64::expand_immediate;
use crate::exit::{Flow, Step};
use crate::float::{Double, HalfOperand, Single};
use crate::op::{Handler, Host, Op};
use crate::state::State;

fn set_immediate<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    F::set(s, op.rd, expand_immediate::<F>(op.imm32()));
    Ok(Flow::Next)
}

/// VMOV of the immediate `i`:`j`.
pub(super) fn immediate(word: &Word<'_>) -> Option<Op> {
    let run: Handler = by_size!(word, set_immediate);
    Some(word.sized(run).with_imm(word.field('i') << 4 | word.field('j')))
}

fn copy<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = F::get(s, op.rm);
    F::set(s, op.rd, value);
    Ok(Flow::Next)
}

/// VMOV between registers of VFP.
pub(super) fn register(word: &Word<'_>) -> Option<Op> {
    Some(word.sized(if word.has_doubles() { copy::<Double> } else { copy::<Single> }))
}

fn insert_half(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.s(op.rd) & 0xffff | s.s(op.rm) << 16;
    s.set_s(op.rd, value);
    Ok(Flow::Next)
}

/// VINS: the low half becomes the high half of the destination.
pub(super) fn insert(word: &Word<'_>) -> Option<Op> {
    Some(word.singles(insert_half))
}

fn extract_half(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.s(op.rm) >> 16;
    s.set_s(op.rd, value);
    Ok(Flow::Next)
}

/// VMOVX: the high half becomes the low half of the destination, the rest of which becomes zero.
pub(super) fn extract(word: &Word<'_>) -> Option<Op> {
    Some(word.singles(extract_half))
}

fn singleword_of_general<const MASK: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rd as usize] as u32 & MASK;
    s.set_s(op.rn, value);
    Ok(Flow::Next)
}

fn general_of_singleword<const MASK: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = u64::from(s.s(op.rn) & MASK);
    Ok(Flow::Next)
}

/// A move between `t` and the singleword register `n`.
fn between(word: &Word<'_>, run: Handler) -> Option<Op> {
    (!word.names_pc("t")).then(|| Op { rn: word.single('n'), ..word.op(run) })
}

/// VMOV from a general register to a half; the rest of the singleword becomes zero.
pub(super) fn from_general_half(word: &Word<'_>) -> Option<Op> {
    between(word, singleword_of_general::<0xffff>)
}

/// VMOV from a half to a general register.
pub(super) fn to_general_half(word: &Word<'_>) -> Option<Op> {
    between(word, general_of_singleword::<0xffff>)
}

/// VMOV from a general register to a singleword.
pub(super) fn from_general(word: &Word<'_>) -> Option<Op> {
    between(word, singleword_of_general::<0xffff_ffff>)
}

/// VMOV from a singleword to a general register.
pub(super) fn to_general(word: &Word<'_>) -> Option<Op> {
    between(word, general_of_singleword::<0xffff_ffff>)
}

fn pair_of_generals(s: &mut State, _: &Host, op: &Op) -> Step {
    let [first, second] = [op.rd, op.ra].map(|register| s.gpr[register as usize] as u32);
    s.set_s(op.rm, first);
    s.set_s(op.rm + 1, second);
    Ok(Flow::Next)
}

fn generals_of_pair(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = u64::from(s.s(op.rm));
    s.gpr[op.ra as usize] = u64::from(s.s(op.rm + 1));
    Ok(Flow::Next)
}

fn double_of_generals(s: &mut State, _: &Host, op: &Op) -> Step {
    let [low, high] = [op.rd, op.ra].map(|register| s.gpr[register as usize] & 0xffff_ffff);
    s.set_d(op.rm, high << 32 | low);
    Ok(Flow::Next)
}

fn generals_of_double(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.d(op.rm);
    s.gpr[op.rd as usize] = value & 0xffff_ffff;
    s.gpr[op.ra as usize] = value >> 32;
    Ok(Flow::Next)
}

/// A move between `t` and `u`, which differ if they are written, and the registers from `m` on.
fn pair(word: &Word<'_>, run: Handler, m: u8) -> Option<Op> {
    let to_general = word.code >> 20 & 1 == 1;
    if word.names_pc("tu") || to_general && word.field('t') == word.field('u') {
        return None;
    }
    Some(Op { rd: place(word.field('t')), ra: place(word.field('u')), rm: m, ..word.op(run) })
}

/// The first of two singleword registers; the last register has none after it.
fn first(word: &Word<'_>) -> Option<u8> {
    Some(word.single('m')).filter(|m| *m < 31)
}

/// VMOV from two general registers to two singlewords.
pub(super) fn pair_from_general(word: &Word<'_>) -> Option<Op> {
    pair(word, pair_of_generals, first(word)?)
}

/// VMOV from two singlewords to two general registers.
pub(super) fn pair_to_general(word: &Word<'_>) -> Option<Op> {
    pair(word, generals_of_pair, first(word)?)
}

/// VMOV from two general registers to a doubleword.
pub(super) fn double_from_general(word: &Word<'_>) -> Option<Op> {
    pair(word, double_of_generals, word.double('m'))
}

/// VMOV from a doubleword to two general registers.
pub(super) fn double_to_general(word: &Word<'_>) -> Option<Op> {
    pair(word, generals_of_double, word.double('m'))
}

fn copy_fpscr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = u64::from(s.fpscr());
    Ok(Flow::Next)
}

fn copy_flags(s: &mut State, _: &Host, _: &Op) -> Step {
    s.nzcv = s.float_flags();
    Ok(Flow::Next)
}

/// VMRS of FPSCR, or, with PC as the destination, of its condition flags to APSR. FPSID, FPEXC and MVFR0 to
/// MVFR2 are for higher levels of privilege only.
pub(super) fn read_fpscr(word: &Word<'_>) -> Option<Op> {
    Some(word.op(if word.names_pc("t") { copy_flags } else { copy_fpscr }))
}

fn set_fpscr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.set_fpscr(s.gpr[op.rd as usize] as u32);
    Ok(Flow::Next)
}

/// VMSR of FPSCR. A block ends after it, unless an IT block goes on: what follows is translated for other
/// modes.
pub(super) fn write_fpscr(word: &Word<'_>) -> Option<Op> {
    let op = (!word.names_pc("t")).then(|| word.op(set_fpscr))?;
    Some(if word.is_inside_it() { op } else { op.ending() })
}
