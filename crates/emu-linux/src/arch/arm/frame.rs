//! Signal frames (Linux, arch/arm/kernel/signal.c, include/uapi/asm/sigcontext.h, include/asm/ucontext.h).
//!
//! ```text
//! sp -> siginfo 128, with SA_SIGINFO only
//!       | ucontext: flags, link, stack 12 | sigcontext: trap, error, mask, r0..r15, cpsr, fault address
//!       | mask 8, padding 120 | records, 512 bytes: VFP, end | code to return by, 16
//! ```

use super::siginfo;
use crate::arch::{Delivery, Frame};
use crate::guest;
use crate::signal::number::{BUS, SEGV};
use crate::signal::{SA_RESTORER, SA_SIGINFO};
use crate::sys::{Errno, errno};
use crossdock_emu_guest::State;
use crossdock_emu_guest::a32::registers::{E, Q};

const VFP_MAGIC: u32 = 0x5646_5001;
const VFP_SIZE: u32 = 288;
/// FPEXC: the floating-point unit is on.
const FPEXC_ENABLED: u32 = 1 << 30;
/// uc_flags of a frame without siginfo.
const OLD_FRAME: u32 = 0x5ac3_c35a;
/// Vector of a page fault, as the kernel reports it.
const TRAP_PAGE_FAULT: u32 = 14;

/// Bytes before the ucontext, with SA_SIGINFO.
const INFO: u64 = 128;
// Offsets in the ucontext, in words of 4 bytes.
const STACK: usize = 2;
const CONTEXT: usize = 5;
const REGISTERS: usize = CONTEXT + 3;
const CPSR: usize = REGISTERS + 16;
const FAULT: usize = CPSR + 1;
const MASK: usize = FAULT + 1;
const RECORDS: usize = MASK + 32;
const FPSCR: usize = RECORDS + 2 + 64;
const FPEXC: usize = FPSCR + 1;
/// Words up to the end of the records that this CPU has, and the word 0 after them.
const USED: usize = RECORDS + VFP_SIZE as usize / 4 + 1;
/// Words of the ucontext and the code.
const WORDS: usize = RECORDS + 128 + 4;

const PSR_MODE: u32 = 0x1f;
const PSR_USER: u32 = 0x10;
const PSR_THUMB: u32 = 1 << 5;

/// CPSR of the interrupted code (manual G1.9.1): the state of IT is in bits 26 and 25, and 15 to 10.
fn cpsr(state: &State) -> u32 {
    let it = u32::from(state.it());
    let thumb = if state.pc & 1 == 1 { PSR_THUMB } else { 0 };
    state.nzcv | state.apsr & (Q | E) | state.ge() | (it & 3) << 25 | it >> 2 << 10 | thumb | PSR_USER
}

/// Sets what CPSR says; its place is added by the caller.
fn set_cpsr(state: &mut State, cpsr: u32) {
    state.nzcv = cpsr & 0xf000_0000;
    state.apsr = cpsr & (Q | E);
    state.set_ge(cpsr);
    state.set_it((cpsr >> 25 & 3 | cpsr >> 10 << 2 & 0xfc) as u8);
}

/// Where the frame below `top` begins.
pub(super) fn start(top: u64, has_info: bool) -> u64 {
    let info = if has_info { INFO } else { 0 };
    top.wrapping_sub(4 * WORDS as u64 + info) & 0xffff_fff8
}

/// Pushes a signal frame and enters the handler.
pub(super) fn push(state: &mut State, delivery: &Delivery) -> Result<(), Errno> {
    let Delivery { signal, info, action, mask, trap, stack, top, trampoline } = *delivery;
    let has_info = action.flags & SA_SIGINFO != 0;
    let mut words = [0u32; USED];
    words[0] = if has_info { 0 } else { OLD_FRAME };
    for (word, value) in words[STACK..].iter_mut().zip(stack) {
        *word = value as u32;
    }
    if (signal == SEGV || signal == BUS) && trap.syndrome != 0 {
        words[CONTEXT] = TRAP_PAGE_FAULT;
        words[CONTEXT + 1] = trap.syndrome as u32;
    }
    words[CONTEXT + 2] = mask as u32;
    for n in 0..15 {
        words[REGISTERS + n] = state.r(n as u32);
    }
    words[REGISTERS + 15] = (state.pc & !1) as u32;
    words[CPSR] = cpsr(state);
    words[FAULT] = trap.address as u32;
    words[MASK..MASK + 2].copy_from_slice(&[mask as u32, (mask >> 32) as u32]);
    words[RECORDS..RECORDS + 2].copy_from_slice(&[VFP_MAGIC, VFP_SIZE]);
    for (quad, v) in words[RECORDS + 2..FPSCR].chunks_exact_mut(4).zip(&state.v) {
        quad.copy_from_slice(&[*v as u32, (*v >> 32) as u32, (*v >> 64) as u32, (*v >> 96) as u32]);
    }
    words[FPSCR] = state.fpscr();
    words[FPEXC] = FPEXC_ENABLED;

    let sp = start(top, has_info);
    let context = if has_info { sp + INFO } else { sp };
    if has_info {
        guest::write(sp, &siginfo::narrow(info))?;
    }
    let bytes: [u8; 4 * USED] = core::array::from_fn(|n| words[n / 4].to_le_bytes()[n % 4]);
    guest::write(context, &bytes)?;

    // T32's code is two words after A32's, and called with bit 0 set.
    let is_thumb = action.handler & 1;
    let code = trampoline + 9 * is_thumb + if has_info { 12 } else { 0 };
    let back = if action.flags & SA_RESTORER != 0 { action.restorer } else { code };
    state.set_r(0, signal);
    if has_info {
        state.set_r(1, sp as u32);
        state.set_r(2, context as u32);
    }
    state.set_r(13, sp as u32);
    state.set_r(14, back as u32);
    state.set_it(0);
    state.apsr &= !E;
    state.pc = if is_thumb == 1 { action.handler } else { action.handler & !3 };
    Ok(())
}

/// Reads the frame at SP, of the kind that the call asks for: sigreturn or rt_sigreturn.
pub(super) fn read(interrupted: &State) -> Result<Frame, Errno> {
    const SIGRETURN: u32 = 119;
    let sp = u64::from(interrupted.r(13));
    if sp & 7 != 0 {
        return Err(errno::EFAULT);
    }
    let context = if interrupted.r(7) == SIGRETURN { sp } else { sp + INFO };
    let mut bytes = [0u8; 4 * USED];
    guest::read(context, &mut bytes)?;
    let words: [u32; USED] = core::array::from_fn(|n| {
        let at = 4 * n;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    });
    let mut state = interrupted.clone();
    for n in 0..15 {
        state.set_r(n as u32, words[REGISTERS + n]);
    }
    let cpsr = words[CPSR];
    // Only user mode is valid (valid_user_regs).
    if cpsr & PSR_MODE != PSR_USER {
        return Err(errno::EINVAL);
    }
    set_cpsr(&mut state, cpsr);
    let pc = u64::from(words[REGISTERS + 15]);
    state.pc = if cpsr & PSR_THUMB != 0 { pc | 1 } else { pc };
    if words[RECORDS] != VFP_MAGIC || words[RECORDS + 1] != VFP_SIZE {
        return Err(errno::EINVAL);
    }
    for (v, quad) in state.v.iter_mut().zip(words[RECORDS + 2..FPSCR].chunks_exact(4)) {
        *v = quad.iter().rev().fold(0, |value, &word| value << 32 | u128::from(word));
    }
    state.set_fpscr(words[FPSCR]);
    let mask = u64::from(words[MASK]) | u64::from(words[MASK + 1]) << 32;
    let stack = [words[STACK], words[STACK + 1], words[STACK + 2]].map(u64::from);
    Ok(Frame { state, mask, stack })
}
