//! Branches (manual F2.2).
//!
//! Targets in the encoding are resolved when the instruction is decoded: [`Op::imm32`] is the place to go to.

use super::action::Action;
use super::fields::Word;
use super::registers::{LR, PC};
use crate::exit::{Flow, Step};
use crate::op::{Host, Op, sign_extend};
use crate::state::State;

/// The signed number in the low `width` bits.
fn signed(value: u32, width: u32) -> u32 {
    sign_extend(u64::from(value), width) as u32
}

#[inline(always)]
fn go(s: &mut State, place: u32) -> Step {
    s.pc = u64::from(place);
    Ok(Flow::Jump)
}

fn branch(s: &mut State, _: &Host, op: &Op) -> Step {
    go(s, op.imm32())
}

/// What BL and BLX write to LR: the place of the next instruction.
#[inline(always)]
fn link(s: &mut State, op: &Op) {
    s.gpr[LR as usize] = s.pc.wrapping_add(op.length()) & 0xffff_ffff;
}

fn branch_link(s: &mut State, _: &Host, op: &Op) -> Step {
    link(s, op);
    go(s, op.imm32())
}

/// A branch that ends the block. Jumps by `pc` itself, so that the slot of PC plays no role.
fn jumping(op: Op) -> Op {
    op.ending()
}

/// A32: B with the offset `i` in words.
pub(crate) fn arm_b(word: &Word<'_>) -> Option<Op> {
    let target = word.pc().wrapping_add(signed(word.field('i') << 2, 26));
    Some(jumping(word.op(branch).acting(Action::Branch.pack()).with_imm(target)))
}

/// A32: BL with the offset `i` in words.
pub(crate) fn arm_bl(word: &Word<'_>) -> Option<Op> {
    let target = word.pc().wrapping_add(signed(word.field('i') << 2, 26));
    Some(jumping(word.op(branch_link).acting(Action::BranchLink.pack()).with_imm(target)))
}

/// A32: BLX to T32 code, with the offset `i` in words and a halfword more by `h`.
pub(crate) fn arm_blx(word: &Word<'_>) -> Option<Op> {
    let offset = signed(word.field('i') << 2 | word.field('h') << 1, 26);
    Some(jumping(
        word.op(branch_link).acting(Action::BranchLink.pack()).with_imm(word.pc().wrapping_add(offset) | 1),
    ))
}

fn branch_exchange(s: &mut State, _: &Host, op: &Op) -> Step {
    s.pc = s.gpr[op.rm as usize];
    Ok(Flow::Jump)
}

fn branch_link_exchange(s: &mut State, _: &Host, op: &Op) -> Step {
    let target = s.gpr[op.rm as usize];
    link(s, op);
    s.pc = target;
    Ok(Flow::Jump)
}

/// BX, and BXJ, which does the same on CPUs without Jazelle.
pub(crate) fn bx(word: &Word<'_>) -> Option<Op> {
    (!word.is_inside_it()).then(|| jumping(word.op(branch_exchange).acting(Action::BranchRegister.pack())))
}

/// BLX to the place in a register.
pub(crate) fn blx(word: &Word<'_>) -> Option<Op> {
    let reserved = word.names_pc("m") || word.is_inside_it();
    (!reserved).then(|| jumping(word.op(branch_link_exchange).acting(Action::BranchLinkRegister.pack())))
}

/// T32, 16 bits: B with a condition `q` and the offset `i` of 8 bits in halfwords.
pub(crate) fn thumb16_b_conditional(word: &Word<'_>) -> Option<Op> {
    if word.is_in_it() {
        return None;
    }
    let target = word.pc().wrapping_add(signed(word.field('i') << 1, 9));
    Some(jumping(word.op(branch).acting(Action::Branch.pack()).on(word.field('q')).with_imm(target | 1)))
}

/// T32, 16 bits: B with the offset `i` of 11 bits in halfwords.
pub(crate) fn thumb16_b(word: &Word<'_>) -> Option<Op> {
    if word.is_inside_it() {
        return None;
    }
    let target = word.pc().wrapping_add(signed(word.field('i') << 1, 12));
    Some(jumping(word.op(branch).acting(Action::Branch.pack()).with_imm(target | 1)))
}

/// T32, 32 bits: B with a condition `q` and the offset `s`:`k`:`j`:`h`:`l`.
pub(crate) fn thumb_b_conditional(word: &Word<'_>) -> Option<Op> {
    if word.is_in_it() {
        return None;
    }
    let offset = word.field('s') << 19
        | word.field('k') << 18
        | word.field('j') << 17
        | word.field('h') << 11
        | word.field('l');
    let target = word.pc().wrapping_add(signed(offset << 1, 21));
    Some(jumping(word.op(branch).acting(Action::Branch.pack()).on(word.field('q')).with_imm(target | 1)))
}

/// The offset in bytes of T32's B, BL and BLX of 32 bits: `s`, `j`, `k`, `h` (10 bits), `l` (11 bits).
fn thumb_offset(word: &Word<'_>) -> u32 {
    let sign = word.field('s');
    let (i1, i2) = (!(word.field('j') ^ sign) & 1, !(word.field('k') ^ sign) & 1);
    let offset = sign << 23 | i1 << 22 | i2 << 21 | word.field('h') << 11 | word.field('l');
    signed(offset << 1, 25)
}

/// T32, 32 bits: B.
pub(crate) fn thumb_b(word: &Word<'_>) -> Option<Op> {
    let target = word.pc().wrapping_add(thumb_offset(word));
    (!word.is_inside_it())
        .then(|| jumping(word.op(branch).acting(Action::Branch.pack()).with_imm(target | 1)))
}

/// T32: BL.
pub(crate) fn thumb_bl(word: &Word<'_>) -> Option<Op> {
    let target = word.pc().wrapping_add(thumb_offset(word));
    (!word.is_inside_it())
        .then(|| jumping(word.op(branch_link).acting(Action::BranchLink.pack()).with_imm(target | 1)))
}

/// T32: BLX to A32 code.
pub(crate) fn thumb_blx(word: &Word<'_>) -> Option<Op> {
    let target = word.literal_base().wrapping_add(thumb_offset(word));
    let reserved = word.is_inside_it() || word.code & 1 == 1;
    (!reserved).then(|| jumping(word.op(branch_link).acting(Action::BranchLink.pack()).with_imm(target)))
}

fn compare_branch<const NOT: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    if (s.gpr[op.rn as usize] as u32 == 0) != NOT { go(s, op.imm32()) } else { Ok(Flow::Next) }
}

/// T32: CBZ, CBNZ by `o`, with the offset `h`:`i` in halfwords.
pub(crate) fn cbz(word: &Word<'_>) -> Option<Op> {
    if word.is_in_it() {
        return None;
    }
    let target = word.pc().wrapping_add(word.field('h') << 6 | word.field('i') << 1);
    let op = word.op(if word.is('o') { compare_branch::<true> } else { compare_branch::<false> });
    let action = Action::CompareBranch { not: word.is('o') };
    Some(jumping(op.acting(action.pack()).with_imm(target | 1)))
}

fn table_branch<const HALVES: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let (base, index) = (s.gpr[op.rn as usize] as u32, s.gpr[op.rm as usize] as u32);
    let distance = if HALVES {
        s.load32(host, base.wrapping_add(index << 1), 1)?
    } else {
        s.load32(host, base.wrapping_add(index), 0)?
    };
    let target = (s.gpr[PC as usize] as u32).wrapping_add(2 * distance);
    go(s, target | 1)
}

/// T32: TBB, TBH by `h`.
pub(crate) fn table(word: &Word<'_>) -> Option<Op> {
    if word.names_pc("m") || word.is_inside_it() {
        return None;
    }
    let op = word.op(if word.is('h') { table_branch::<true> } else { table_branch::<false> });
    let action = Action::TableBranch { halves: word.is('h') };
    Some(jumping(op.acting(action.pack())))
}
