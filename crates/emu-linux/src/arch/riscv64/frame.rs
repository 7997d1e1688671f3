//! Signal frames (Linux, arch/riscv/kernel/signal.c, include/uapi/asm/{ucontext.h,sigcontext.h,ptrace.h}).
//!
//! ```text
//! sp -> siginfo 128 | ucontext: flags, link, stack 24, mask 8, padding 120, 8
//!       | sigcontext: pc, x1..x31 | f0..f31, fcsr 4, padding up to 516, 4 | record: end 8
//! ```

use crate::arch::{Delivery, Frame};
use crate::guest;
use crate::sys::{Errno, errno};
use crossdock_emu_guest::State;

// Offsets in words.
const UCONTEXT: usize = 16;
const STACK: usize = UCONTEXT + 2;
const MASK: usize = UCONTEXT + 5;
const REGISTERS: usize = UCONTEXT + 22;
const FLOATS: usize = REGISTERS + 32;
const FCSR: usize = FLOATS + 32;
/// A reserved word of 4 bytes behind 129 others, and the first record, which ends the list.
const RESERVED: usize = FLOATS + 64;
const RECORD: usize = RESERVED + 1;
/// Words of the frame.
const FRAME: usize = RECORD + 1;

/// Bytes of the frame: AT_MINSIGSTKSZ.
pub(super) const SIZE: u64 = 8 * FRAME as u64;

const X2: u32 = 2;
const A0: u32 = 10;

/// Where the frame below `top` begins.
pub(super) fn start(top: u64) -> u64 {
    top.wrapping_sub(SIZE) & !15
}

/// Pushes a signal frame and enters the handler.
pub(super) fn push(state: &mut State, delivery: &Delivery) -> Result<(), Errno> {
    let Delivery { signal, info, action, mask, stack, top, trampoline, .. } = *delivery;
    let mut frame = [0u64; FRAME];
    frame[..16].copy_from_slice(info);
    frame[STACK..STACK + 3].copy_from_slice(&stack);
    frame[MASK] = mask;
    frame[REGISTERS] = state.pc;
    for n in 1..32 {
        frame[REGISTERS + n] = state.rv64_x(n as u32);
    }
    for n in 0..32 {
        frame[FLOATS + n] = state.rv64_f(n as u32);
    }
    frame[FCSR] = state.fcsr().into();
    let sp = start(top);
    guest::write_words(sp, &frame)?;
    state.set_rv64_x(1, trampoline);
    state.set_rv64_x(X2, sp);
    state.set_rv64_x(A0, signal.into());
    state.set_rv64_x(A0 + 1, sp);
    state.set_rv64_x(A0 + 2, sp + 8 * UCONTEXT as u64);
    state.pc = action.handler & !1;
    Ok(())
}

/// Reads the frame at the stack pointer.
pub(super) fn read(interrupted: &State) -> Result<Frame, Errno> {
    let sp = interrupted.rv64_x(X2);
    let words = guest::read_words::<{ FRAME - UCONTEXT }>(sp.wrapping_add(8 * UCONTEXT as u64))?;
    let word = |n: usize| words[n - UCONTEXT];
    // Without vectors there is no record.
    if word(RESERVED) >> 32 != 0 || word(RECORD) != 0 {
        return Err(errno::EINVAL);
    }
    let mut state = interrupted.clone();
    state.pc = word(REGISTERS) & !1;
    for n in 1..32 {
        state.set_rv64_x(n as u32, word(REGISTERS + n));
    }
    for n in 0..32 {
        state.set_rv64_f(n as u32, word(FLOATS + n));
    }
    state.set_fcsr(word(FCSR) as u32);
    Ok(Frame { state, mask: word(MASK), stack: [word(STACK), word(STACK + 1), word(STACK + 2)] })
}
