//! LDM, STM, PUSH, POP (manual F4.1.6).
//!
//! LDM writes no register before all its loads are done, so that it can be run again after a fault.

use super::action::Action;
use super::fields::{Jump, Word};
use super::registers::{PC, place};
use crate::exit::{Flow, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// Bits of [`Op::extra`]: the address counts up; it changes before each access; the base is written back.
const UP: u32 = 1;
const BEFORE: u32 = 2;
const WRITE_BACK: u32 = 4;

/// The lowest address, and the base after the instruction.
#[inline(always)]
fn range(s: &State, op: &Op, count: u32) -> (u32, u32) {
    let base = s.gpr[op.rn as usize] as u32;
    let extra = op.extra();
    let length = 4 * count;
    if extra & UP != 0 {
        let start = if extra & BEFORE != 0 { base.wrapping_add(4) } else { base };
        (start, base.wrapping_add(length))
    } else {
        let end = base.wrapping_sub(length);
        (if extra & BEFORE != 0 { end } else { end.wrapping_add(4) }, end)
    }
}

/// The numbers of the registers in a list.
#[inline(always)]
fn registers(list: u32) -> impl Iterator<Item = u32> {
    (0..16).filter(move |n| list >> n & 1 == 1)
}

fn load_multiple(s: &mut State, host: &Host, op: &Op) -> Step {
    let list = op.imm32();
    let (mut address, base) = range(s, op, list.count_ones());
    let mut values = [0; 16];
    for n in registers(list) {
        values[n as usize] = s.load32(host, address, 2)?;
        address = address.wrapping_add(4);
    }
    if op.extra() & WRITE_BACK != 0 {
        s.gpr[op.rn as usize] = u64::from(base);
    }
    for n in registers(list) {
        s.gpr[place(n) as usize] = u64::from(values[n as usize]);
    }
    Ok(Flow::Next)
}

fn store_multiple(s: &mut State, host: &Host, op: &Op) -> Step {
    let list = op.imm32();
    let (mut address, base) = range(s, op, list.count_ones());
    for n in registers(list) {
        s.store32(host, address, 2, s.gpr[place(n) as usize] as u32)?;
        address = address.wrapping_add(4);
    }
    if op.extra() & WRITE_BACK != 0 {
        s.gpr[op.rn as usize] = u64::from(base);
    }
    Ok(Flow::Next)
}

/// A load or store of `list` from base register `n`.
fn multiple(word: &Word<'_>, loads: bool, n: u32, list: u32, extra: u32) -> Option<Op> {
    if n == 15 || list == 0 {
        return None;
    }
    let run: Handler = if loads { load_multiple } else { store_multiple };
    let op = Op {
        rn: place(n),
        rd: PC,
        ..word.op(run).acting(Action::Multiple { loads }.pack()).with_imm(list).with_extra(extra)
    };
    Some(if loads && list >> 15 & 1 == 1 { op.jumping(Jump::Exchange) } else { op })
}

/// A32: list `l`.
pub(crate) fn arm(word: &Word<'_>) -> Option<Op> {
    let extra = word.field('U') * UP | word.field('P') * BEFORE | word.field('W') * WRITE_BACK;
    let (n, list) = (word.field('n'), word.field('l'));
    let loads = word.code >> 20 & 1 == 1;
    // The base is both loaded and written back.
    if loads && word.is('W') && list >> n & 1 == 1 {
        return None;
    }
    multiple(word, loads, n, list, extra)
}

/// T32, 32 bits: list `l`; bits 24 to 23 say increment after or decrement before.
pub(crate) fn thumb(word: &Word<'_>) -> Option<Op> {
    let (n, list) = (word.field('n'), word.field('l'));
    let loads = word.code >> 20 & 1 == 1;
    let extra = match word.code >> 23 & 3 {
        1 => UP,
        _ => BEFORE,
    } | word.field('W') * WRITE_BACK;
    let writes_base = word.is('W') && list >> n & 1 == 1;
    let bad_list = list >> 13 & 1 == 1
        || list.count_ones() < 2
        || list >> 15 & 1 == 1 && (!loads || list >> 14 & 1 == 1 || word.is_inside_it());
    if bad_list || writes_base {
        return None;
    }
    multiple(word, loads, n, list, extra)
}

/// T32, 16 bits: LDM, STM with list `l`; LDM writes the base back unless it loads it.
pub(crate) fn thumb16(word: &Word<'_>) -> Option<Op> {
    let (n, list) = (word.field('n'), word.field('l'));
    let loads = word.code >> 11 & 1 == 1;
    let write_back = if loads && list >> n & 1 == 1 { 0 } else { WRITE_BACK };
    multiple(word, loads, n, list, UP | write_back)
}

/// T32, 16 bits: PUSH and POP with list `l`, and LR or PC by bit `p`.
pub(crate) fn thumb16_stack(word: &Word<'_>) -> Option<Op> {
    let loads = word.code >> 11 & 1 == 1;
    let more = word.field('p') << if loads { 15 } else { 14 };
    if loads && word.is('p') && word.is_inside_it() {
        return None;
    }
    let extra = WRITE_BACK | if loads { UP } else { BEFORE };
    multiple(word, loads, 13, word.field('l') | more, extra)
}
