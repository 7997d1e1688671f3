//! Exceptions, system registers, hints, barriers and cache maintenance (manual C3.1.3 to C3.1.9, C4.1.93,
//! C5).

use super::features;
use super::fields::op;
use super::fpcr::{FPCR_MASK, FPSR_MASK};
use crate::exit::{Exit, Flow, Step};
use crate::memory::untagged;
use crate::op::{Host, Op, bits};
use crate::state::State;
use core::sync::atomic::{Ordering, fence};

fn supervisor_call(s: &mut State, _: &Host, op: &Op) -> Step {
    s.pc = s.pc.wrapping_add(4);
    s.leave(Exit::Syscall(op.imm as u16))
}

/// SVC.
pub(crate) fn svc(code: u32, _: u64) -> Option<Op> {
    Some(op(supervisor_call, code).imm(u64::from(bits(code, 20, 5))))
}

fn breakpoint(s: &mut State, _: &Host, op: &Op) -> Step {
    s.leave(Exit::Breakpoint(op.imm as u16))
}

/// BRK.
pub(crate) fn brk(code: u32, _: u64) -> Option<Op> {
    Some(op(breakpoint, code).imm(u64::from(bits(code, 20, 5))))
}

/// HINT, and barriers that the host's stronger ordering makes superfluous.
pub(crate) fn nop(_: &mut State, _: &Host, _: &Op) -> Step {
    Ok(Flow::Next)
}

/// DMB, DSB.
pub(crate) fn barrier(_: &mut State, _: &Host, _: &Op) -> Step {
    fence(Ordering::SeqCst);
    Ok(Flow::Next)
}

/// CLREX.
pub(crate) fn clear_exclusive(s: &mut State, _: &Host, _: &Op) -> Step {
    s.exclusive_size = 0;
    Ok(Flow::Next)
}

/// Goes on with the next block: before it, code that has changed according to the log is dropped.
fn synchronize(s: &mut State, _: &Host, _: &Op) -> Step {
    s.pc = s.pc.wrapping_add(4);
    Ok(Flow::Jump)
}

/// ISB.
pub(crate) fn isb(code: u32, _: u64) -> Option<Op> {
    Some(op(synchronize, code))
}

/// `op1:CRn:CRm:op2` of a system instruction or register, 14 bits.
const fn selector(op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op1 << 11 | crn << 7 | crm << 3 | op2
}

const NZCV: u32 = selector(3, 4, 2, 0);
const FPCR: u32 = selector(3, 4, 4, 0);
const FPSR: u32 = selector(3, 4, 4, 1);
const TPIDR_EL0: u32 = selector(3, 13, 0, 2);
const TPIDRRO_EL0: u32 = selector(3, 13, 0, 3);
const CNTVCT_EL0: u32 = selector(3, 14, 0, 2);

fn read_nzcv(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = u64::from(s.nzcv);
    Ok(Flow::Next)
}

fn read_fpcr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = u64::from(s.fpcr);
    Ok(Flow::Next)
}

fn read_fpsr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = u64::from(s.fpsr);
    Ok(Flow::Next)
}

fn read_tpidr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = s.tpidr_el0;
    Ok(Flow::Next)
}

fn read_counter(s: &mut State, host: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = (host.counter)();
    Ok(Flow::Next)
}

fn read_constant(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = op.imm;
    Ok(Flow::Next)
}

/// MRS (op0 = 3).
pub(crate) fn mrs(code: u32, _: u64) -> Option<Op> {
    match bits(code, 18, 5) {
        NZCV => Some(op(read_nzcv, code)),
        FPCR => Some(op(read_fpcr, code)),
        FPSR => Some(op(read_fpsr, code)),
        TPIDR_EL0 => Some(op(read_tpidr, code)),
        CNTVCT_EL0 => Some(op(read_counter, code)),
        _ => constant_register(code).map(|value| op(read_constant, code).imm(value)),
    }
}

/// What MRS reads from a register that never changes; `None` for all other words.
pub fn constant_register(word: u32) -> Option<u64> {
    const MIDR_EL1: u32 = selector(0, 0, 0, 0);
    const MPIDR_EL1: u32 = selector(0, 0, 0, 5);
    const REVIDR_EL1: u32 = selector(0, 0, 0, 6);
    const ID_AA64PFR0_EL1: u32 = selector(0, 0, 4, 0);
    const ID_AA64ISAR0_EL1: u32 = selector(0, 0, 6, 0);
    const ID_AA64ISAR1_EL1: u32 = selector(0, 0, 6, 1);
    const CTR_EL0: u32 = selector(3, 0, 0, 1);
    const DCZID_EL0: u32 = selector(3, 0, 0, 7);
    const CNTFRQ_EL0: u32 = selector(3, 14, 0, 0);
    if bits(word, 31, 20) != 0xd53 {
        return None;
    }
    let (crn, crm) = (bits(word, 15, 12), bits(word, 11, 8));
    Some(match bits(word, 18, 5) {
        MIDR_EL1 => features::MIDR_EL1,
        MPIDR_EL1 => features::MPIDR_EL1,
        REVIDR_EL1 => features::REVIDR_EL1,
        ID_AA64PFR0_EL1 => features::ID_AA64PFR0_EL1,
        ID_AA64ISAR0_EL1 => features::ID_AA64ISAR0_EL1,
        ID_AA64ISAR1_EL1 => features::ID_AA64ISAR1_EL1,
        CTR_EL0 => features::CTR_EL0,
        DCZID_EL0 => features::DCZID_EL0,
        CNTFRQ_EL0 => features::CNTFRQ_EL0,
        TPIDRRO_EL0 => 0,
        // The rest of the identification space that Linux emulates reads as zero.
        _ if bits(word, 18, 16) == 0 && crn == 0 && (2..=7).contains(&crm) => 0,
        _ => return None,
    })
}

fn write_nzcv(s: &mut State, _: &Host, op: &Op) -> Step {
    s.nzcv = s.gpr[op.rd as usize] as u32 & 0xf000_0000;
    Ok(Flow::Next)
}

fn write_fpcr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.fpcr = s.gpr[op.rd as usize] as u32 & FPCR_MASK;
    Ok(Flow::Next)
}

fn write_fpsr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.fpsr = s.gpr[op.rd as usize] as u32 & FPSR_MASK;
    Ok(Flow::Next)
}

fn write_tpidr(s: &mut State, _: &Host, op: &Op) -> Step {
    s.tpidr_el0 = s.gpr[op.rd as usize];
    Ok(Flow::Next)
}

/// MSR (register; op0 = 3).
pub(crate) fn msr(code: u32, _: u64) -> Option<Op> {
    let handler = match bits(code, 18, 5) {
        NZCV => write_nzcv,
        FPCR => write_fpcr,
        FPSR => write_fpsr,
        TPIDR_EL0 => write_tpidr,
        _ => return None,
    };
    Some(op(handler, code).rd_source())
}

fn zero_line(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rd as usize] & !(features::CACHE_LINE - 1);
    for offset in (0..features::CACHE_LINE).step_by(16) {
        s.store128(host, address.wrapping_add(offset), 0)?;
    }
    Ok(Flow::Next)
}

/// DC CVAC, CVAU, CIVAC: the host keeps its caches coherent, but these fault like a load.
fn clean_line(s: &mut State, host: &Host, op: &Op) -> Step {
    s.load(host, s.gpr[op.rd as usize], 0)?;
    Ok(Flow::Next)
}

fn invalidate_line(s: &mut State, _: &Host, op: &Op) -> Step {
    s.pc = s.pc.wrapping_add(4);
    let address = untagged(s.gpr[op.rd as usize]) & !(features::CACHE_LINE - 1);
    s.leave(Exit::CodeModified { address })
}

/// SYS: DC ZVA, CVAC, CVAU, CIVAC and IC IVAU; the others are not for EL0.
pub(crate) fn sys(code: u32, _: u64) -> Option<Op> {
    let handler = match bits(code, 18, 5) {
        selected if selected == selector(3, 7, 4, 1) => zero_line,
        selected if selected == selector(3, 7, 10, 1) => clean_line,
        selected if selected == selector(3, 7, 11, 1) => clean_line,
        selected if selected == selector(3, 7, 14, 1) => clean_line,
        selected if selected == selector(3, 7, 5, 1) => invalidate_line,
        _ => return None,
    };
    Some(op(handler, code).rd_source())
}
