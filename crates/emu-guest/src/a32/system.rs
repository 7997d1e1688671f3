//! Exceptions, status and system registers, hints, barriers, IT (manual F2.10, F2.11, G8).

use super::action::Action;
use super::fields::Word;
use super::registers::{E, Q, THREAD, ZERO, place};
use crate::exit::{Exit, Flow, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;
use core::sync::atomic::{Ordering, fence};

fn supervisor_call(s: &mut State, _: &Host, op: &Op) -> Step {
    s.pc = s.pc.wrapping_add(op.length());
    s.leave(Exit::Syscall(op.imm32() as u16))
}

/// SVC with the immediate `i`; the exit has its low 16 bits.
pub(crate) fn svc(word: &Word<'_>) -> Option<Op> {
    Some(word.op(supervisor_call).acting(Action::Call.pack()).with_imm(word.field('i')).ending())
}

fn breakpoint(s: &mut State, _: &Host, op: &Op) -> Step {
    s.leave(Exit::Breakpoint(op.imm32() as u16))
}

/// BKPT with the immediate `i`:`j`; it is unconditional.
pub(crate) fn bkpt(word: &Word<'_>) -> Option<Op> {
    let imm = if word.is_thumb() { word.field('i') } else { word.field('i') << 4 | word.field('j') };
    Some(word.op(breakpoint).with_imm(imm).always().ending())
}

fn nothing(_: &mut State, _: &Host, _: &Op) -> Step {
    Ok(Flow::Next)
}

/// Hints, and prefetches.
pub(crate) fn nop(word: &Word<'_>) -> Option<Op> {
    Some(word.op(nothing).acting(Action::Nop.pack()))
}

fn barrier(_: &mut State, _: &Host, _: &Op) -> Step {
    fence(Ordering::SeqCst);
    Ok(Flow::Next)
}

/// DMB, DSB.
pub(crate) fn dmb(word: &Word<'_>) -> Option<Op> {
    Some(word.op(barrier).acting(Action::Barrier.pack()))
}

/// Goes on with the next block: before it, code that has changed according to the log is dropped.
fn synchronize(s: &mut State, _: &Host, op: &Op) -> Step {
    s.pc = s.pc.wrapping_add(op.length());
    s.set_it(op.next_it());
    Ok(Flow::Jump)
}

/// ISB.
pub(crate) fn isb(word: &Word<'_>) -> Option<Op> {
    Some(word.op(synchronize).ending())
}

fn clear_exclusive(s: &mut State, _: &Host, _: &Op) -> Step {
    s.exclusive_size = 0;
    Ok(Flow::Next)
}

/// CLREX.
pub(crate) fn clrex(word: &Word<'_>) -> Option<Op> {
    Some(word.op(clear_exclusive))
}

/// The mode bits of CPSR in user mode.
const USER: u32 = 0x10;

fn read_status(s: &mut State, _: &Host, op: &Op) -> Step {
    // T and IT read as zero (manual, MRS).
    let status = s.nzcv | s.apsr & (Q | E) | s.ge() | USER;
    s.gpr[op.rd as usize] = u64::from(status);
    Ok(Flow::Next)
}

/// MRS of CPSR; the saved status does not exist in user mode.
pub(crate) fn mrs(word: &Word<'_>) -> Option<Op> {
    let reserved = word.names_pc("d") || word.is('R');
    (!reserved).then(|| word.op(read_status))
}

/// Writes the flags (`extra` bit 3), and GE and E (bit 2 and bit 1); programs may write no more.
fn write(s: &mut State, mask: u32, value: u32) -> Step {
    if mask & 8 != 0 {
        s.nzcv = value & 0xf000_0000;
        s.apsr = s.apsr & !Q | value & Q;
    }
    if mask & 4 != 0 {
        s.set_ge(value);
    }
    if mask & 2 != 0 {
        s.apsr = s.apsr & !E | value & E;
    }
    Ok(Flow::Next)
}

fn write_status(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rn as usize] as u32;
    write(s, op.extra(), value)
}

fn write_status_immediate(s: &mut State, _: &Host, op: &Op) -> Step {
    write(s, op.extra(), op.imm32())
}

/// MSR of CPSR from a register; the mask of bytes is `k`.
pub(crate) fn msr(word: &Word<'_>) -> Option<Op> {
    let reserved = word.names_pc("n") || word.is('R') || word.field('k') == 0;
    (!reserved).then(|| word.op(write_status).with_extra(word.field('k')))
}

/// A32: MSR of CPSR from an immediate.
pub(crate) fn msr_immediate(word: &Word<'_>) -> Option<Op> {
    if word.is('R') || word.field('k') == 0 {
        return None;
    }
    let (value, _) = super::shift::expand_arm(word.field('i'));
    Some(word.op(write_status_immediate).with_imm(value).with_extra(word.field('k')))
}

fn set_endianness(s: &mut State, _: &Host, op: &Op) -> Step {
    s.apsr = s.apsr & !E | op.imm32() * E;
    Ok(Flow::Next)
}

/// SETEND.
pub(crate) fn setend(word: &Word<'_>) -> Option<Op> {
    (!word.is_in_it()).then(|| word.op(set_endianness).with_imm(word.field('e')).always())
}

/// CPS does nothing in user mode.
pub(crate) fn privileged_nop(word: &Word<'_>) -> Option<Op> {
    (!word.is_in_it()).then(|| word.op(nothing).acting(Action::Nop.pack()))
}

/// UDF, and what exists at higher levels of privilege only.
pub(crate) fn undefined(_: &Word<'_>) -> Option<Op> {
    None
}

/// IT: the first condition `q`, the mask `k`.
pub(crate) fn it(word: &Word<'_>) -> Option<Op> {
    let (condition, mask) = (word.field('q'), word.field('k'));
    let always = condition == 14 && mask.count_ones() != 1;
    if word.is_in_it() || condition == 15 || always {
        return None;
    }
    Some(word.op(nothing).acting(Action::Nop.pack()).starting_it(condition << 4 | mask))
}

fn read_register(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = if op.rn == ZERO { s.tpidr_el0 } else { s.gpr[op.rn as usize] };
    s.gpr[op.rd as usize] = value & 0xffff_ffff;
    Ok(Flow::Next)
}

fn write_register(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[THREAD as usize] = s.gpr[op.rd as usize];
    Ok(Flow::Next)
}

/// A register of coprocessor 15: opc1, CRn, CRm, opc2.
type Register = (u32, u32, u32, u32);

/// The thread pointer, which the kernel sets.
const TPIDRURO: Register = (0, 13, 0, 3);
/// The thread register that programs may write.
const TPIDRURW: Register = (0, 13, 0, 2);
/// Barriers of Armv6.
const CP15ISB: Register = (0, 7, 5, 4);
const CP15DSB: Register = (0, 7, 10, 4);
const CP15DMB: Register = (0, 7, 10, 5);

fn register_of(word: &Word<'_>) -> Register {
    (word.field('o'), word.field('n'), word.field('m'), word.field('q'))
}

/// MRC of coprocessor 15.
pub(crate) fn mrc(word: &Word<'_>) -> Option<Op> {
    let source = match register_of(word) {
        TPIDRURO => ZERO,
        TPIDRURW => THREAD,
        _ => return None,
    };
    let op = Op { rn: source, ..word.op(read_register) };
    let op = if source == ZERO { op.acting(Action::ThreadPointer.pack()) } else { op };
    (word.field('t') != 15).then_some(op)
}

/// MCR of coprocessor 15.
pub(crate) fn mcr(word: &Word<'_>) -> Option<Op> {
    let run: Handler = match register_of(word) {
        TPIDRURW if word.field('t') != 15 => write_register,
        CP15DSB | CP15DMB => barrier,
        CP15ISB => return Some(word.op(synchronize).ending()),
        _ => return None,
    };
    Some(word.op(run))
}

fn read_counter(s: &mut State, host: &Host, op: &Op) -> Step {
    let value = (host.counter)();
    s.gpr[op.rd as usize] = value & 0xffff_ffff;
    s.gpr[op.ra as usize] = value >> 32;
    Ok(Flow::Next)
}

/// MRRC of coprocessor 15: the virtual counter CNTVCT, which Linux lets programs read.
pub(crate) fn mrrc(word: &Word<'_>) -> Option<Op> {
    let (opc1, crm) = (word.field('o'), word.field('m'));
    let (t, u) = (word.field('t'), word.field('u'));
    if (opc1, crm) != (1, 14) || t == 15 || u == 15 || t == u {
        return None;
    }
    Some(Op { rd: place(t), ra: place(u), ..word.op(read_counter) })
}
