//! Fences, calls, and control and status registers (manual: RV32I "Memory Ordering Instructions" and
//! "Environment Call and Breakpoints"; Zifencei; Zicsr; Zicntr).

use super::action::Csr;
use super::vector;
use crate::exit::{Exit, Flow, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;
use core::sync::atomic::{Ordering, fence as host_fence};

const FFLAGS: u32 = 0x001;
const FRM: u32 = 0x002;
const FCSR: u32 = 0x003;
const CYCLE: u32 = 0xc00;
const TIME: u32 = 0xc01;
const INSTRET: u32 = 0xc02;

/// Whether a FENCE orders earlier stores before later loads, which alone the host does not do by itself: W in
/// the predecessors and R in the successors.
pub(super) const fn orders_stores_before_loads(code: u32) -> bool {
    code >> 24 & 1 == 1 && code >> 21 & 1 == 1
}

pub(super) fn fence(_: &mut State, _: &Host, op: &Op) -> Step {
    if orders_stores_before_loads(op.code) {
        host_fence(Ordering::SeqCst);
    }
    Ok(Flow::Next)
}

pub(super) fn nothing(_: &mut State, _: &Host, _: &Op) -> Step {
    Ok(Flow::Next)
}

/// FENCE.I does not say which code has changed.
pub(super) fn fence_instructions(s: &mut State, _: &Host, op: &Op) -> Step {
    s.pc = s.pc.wrapping_add(op.rv64_length());
    s.leave(Exit::AllCodeModified)
}

pub(super) fn environment_call(s: &mut State, _: &Host, op: &Op) -> Step {
    s.pc = s.pc.wrapping_add(op.rv64_length());
    s.leave(Exit::Syscall(0))
}

pub(super) fn breakpoint(s: &mut State, _: &Host, _: &Op) -> Step {
    s.leave(Exit::Breakpoint(0))
}

/// The value of a CSR; `None` if it does not exist.
fn read(s: &State, host: &Host, csr: u32) -> Option<u64> {
    Some(match csr {
        FFLAGS => s.fflags().into(),
        FRM => s.fpcr.into(),
        FCSR => s.fcsr().into(),
        // One count for all three: nanoseconds.
        CYCLE | TIME | INSTRET => (host.counter)(),
        _ => return vector::csr(s, csr),
    })
}

fn access<const IMMEDIATE: bool>(s: &mut State, host: &Host, op: &Op, kind: Csr) -> Step {
    let (csr, field) = (op.bits(31, 20), op.bits(19, 15));
    let Some(old) = read(s, host, csr) else { return s.undefined(op) };
    let operand = if IMMEDIATE { field.into() } else { s.gpr[usize::from(op.rn)] };
    // CSRRS and CSRRC with x0 or 0 only read.
    if kind == Csr::Write || field != 0 {
        let new = match kind {
            Csr::Write => operand,
            Csr::Set => old | operand,
            Csr::Clear => old & !operand,
        };
        match csr {
            FFLAGS => s.set_fflags(new as u32),
            FRM => s.fpcr = new as u32 & 7,
            FCSR => s.set_fcsr(new as u32),
            _ if vector::set_csr(s, csr, new) => {}
            // Read-only.
            _ => return s.undefined(op),
        }
    }
    s.gpr[usize::from(op.rd)] = old;
    Ok(Flow::Next)
}

/// CSRRW and its kin.
pub(super) fn csr(kind: Csr, immediate: bool) -> Handler {
    match (kind, immediate) {
        (Csr::Write, false) => |s, host, op| access::<false>(s, host, op, Csr::Write),
        (Csr::Set, false) => |s, host, op| access::<false>(s, host, op, Csr::Set),
        (Csr::Clear, false) => |s, host, op| access::<false>(s, host, op, Csr::Clear),
        (Csr::Write, true) => |s, host, op| access::<true>(s, host, op, Csr::Write),
        (Csr::Set, true) => |s, host, op| access::<true>(s, host, op, Csr::Set),
        (Csr::Clear, true) => |s, host, op| access::<true>(s, host, op, Csr::Clear),
    }
}
