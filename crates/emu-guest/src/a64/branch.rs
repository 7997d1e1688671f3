//! Branches (manual C3.1.1, C3.1.2, C4.1.93).

use super::fields::op;
use crate::condition::holds;
use crate::exit::{Flow, Step};
use crate::op::sign_extend;
use crate::op::{Host, Op, bits};
use crate::state::State;

/// Absolute target of a branch whose word offset is `width` bits of `code` at `low`.
fn target(code: u32, pc: u64, low: u32, width: u32) -> u64 {
    pc.wrapping_add(sign_extend(u64::from(bits(code, low + width - 1, low)), width) << 2)
}

#[inline(always)]
fn branch_if(s: &mut State, op: &Op, condition: bool) -> Step {
    if condition {
        s.pc = op.imm;
        Ok(Flow::Jump)
    } else {
        Ok(Flow::Next)
    }
}

fn branch(s: &mut State, _: &Host, op: &Op) -> Step {
    branch_if(s, op, true)
}

fn branch_link(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[30] = s.pc.wrapping_add(4);
    branch_if(s, op, true)
}

/// B, BL.
pub(crate) fn immediate(code: u32, pc: u64) -> Option<Op> {
    Some(op(if code >> 31 == 1 { branch_link } else { branch }, code).imm(target(code, pc, 0, 26)))
}

fn branch_condition(s: &mut State, _: &Host, op: &Op) -> Step {
    branch_if(s, op, holds(op.code & 15, s.nzcv))
}

/// B.cond.
pub(crate) fn conditional(code: u32, pc: u64) -> Option<Op> {
    Some(op(branch_condition, code).imm(target(code, pc, 5, 19)))
}

fn branch_zero<const WIDE: bool, const ZERO: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rd as usize];
    branch_if(s, op, (if WIDE { value } else { value & 0xffff_ffff } == 0) == ZERO)
}

/// CBZ, CBNZ.
pub(crate) fn compare(code: u32, pc: u64) -> Option<Op> {
    let handler = match (code >> 31, code >> 24 & 1) {
        (0, 0) => branch_zero::<false, true>,
        (0, _) => branch_zero::<false, false>,
        (_, 0) => branch_zero::<true, true>,
        (_, _) => branch_zero::<true, false>,
    };
    Some(op(handler, code).rd_source().imm(target(code, pc, 5, 19)))
}

fn branch_bit<const SET: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    branch_if(s, op, (s.gpr[op.rd as usize] >> op.ra & 1 == 1) == SET)
}

/// TBZ, TBNZ.
pub(crate) fn test(code: u32, pc: u64) -> Option<Op> {
    let handler = if code >> 24 & 1 == 1 { branch_bit::<true> } else { branch_bit::<false> };
    let bit = code >> 31 << 5 | bits(code, 23, 19);
    let op = op(handler, code).rd_source().imm(target(code, pc, 5, 14));
    Some(Op { ra: bit as u8, ..op })
}

fn branch_register<const LINK: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let target = s.gpr[op.rn as usize];
    if LINK {
        s.gpr[30] = s.pc.wrapping_add(4);
    }
    s.pc = target;
    Ok(Flow::Jump)
}

/// BR, BLR, RET.
pub(crate) fn register(code: u32, _: u64) -> Option<Op> {
    let handler = if bits(code, 22, 21) == 1 { branch_register::<true> } else { branch_register::<false> };
    Some(op(handler, code))
}
