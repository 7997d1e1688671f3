//! Signal frames (Linux, arch/arm64/kernel/signal.c, include/uapi/asm/sigcontext.h).
//!
//! ```text
//! sp -> siginfo 128 | ucontext: flags, link, stack 24, mask 8, padding 120, 8
//!       | sigcontext: fault address, x0..x30, sp, pc, pstate, 8 | records, 4096 bytes: fpsimd, esr, end
//!       | frame record: x29, x30 of the interrupted code
//! ```

use crate::arch::{Delivery, Frame};
use crate::guest;
use crate::signal::number::{BUS, SEGV};
use crate::signal::{SA_RESTORER, SA_SIGINFO};
use crate::sys::{Errno, errno};
use crossdock_emu_guest::a64::State;

const FPSIMD_MAGIC: u64 = 0x4650_8001;
const FPSIMD_SIZE: u64 = 528;
const ESR_MAGIC: u64 = 0x4553_5201;
const ESR_SIZE: u64 = 16;

// Offsets in words.
const UCONTEXT: usize = 16;
const STACK: usize = UCONTEXT + 2;
const MASK: usize = UCONTEXT + 5;
const CONTEXT: usize = UCONTEXT + 22;
const REGISTERS: usize = CONTEXT + 1;
const SP: usize = CONTEXT + 32;
const PC: usize = CONTEXT + 33;
const PSTATE: usize = CONTEXT + 34;
const RECORDS: usize = CONTEXT + 36;
const RECORDS_LENGTH: usize = 512;
/// Words of the frame.
const FRAME: usize = RECORDS + RECORDS_LENGTH;

/// Where the frame below `top` begins; the frame record above it ends at `top`, rounded down.
pub(super) fn start(top: u64) -> u64 {
    (top & !15).wrapping_sub(16 + 8 * FRAME as u64)
}

/// Pushes a signal frame and enters the handler.
pub(super) fn push(state: &mut State, delivery: &Delivery) -> Result<(), Errno> {
    let Delivery { signal, info, action, mask, trap, stack, top, trampoline } = *delivery;
    // Only the used part of the records: fpsimd, esr, the end.
    let mut frame = [0u64; RECORDS + 66 + 4];
    frame[..16].copy_from_slice(info);
    frame[STACK..STACK + 3].copy_from_slice(&stack);
    frame[MASK] = mask;
    frame[CONTEXT] = trap.address;
    frame[REGISTERS..REGISTERS + 31].copy_from_slice(&state.gpr[..31]);
    frame[SP] = state.sp();
    frame[PC] = state.pc;
    frame[PSTATE] = u64::from(state.nzcv);
    frame[RECORDS] = FPSIMD_MAGIC | FPSIMD_SIZE << 32;
    frame[RECORDS + 1] = u64::from(state.fpsr) | u64::from(state.fpcr) << 32;
    for (n, v) in state.v.iter().enumerate() {
        frame[RECORDS + 2 + 2 * n] = *v as u64;
        frame[RECORDS + 3 + 2 * n] = (*v >> 64) as u64;
    }
    if (signal == SEGV || signal == BUS) && trap.syndrome != 0 {
        frame[RECORDS + 66] = ESR_MAGIC | ESR_SIZE << 32;
        frame[RECORDS + 67] = trap.syndrome;
    }
    let sp = start(top);
    let record = sp.wrapping_add(8 * FRAME as u64);
    guest::write64(record, state.x(29))?;
    guest::write64(record + 8, state.x(30))?;
    guest::write_words(sp, &frame)?;
    state.set_x(0, u64::from(signal));
    if action.flags & SA_SIGINFO != 0 {
        state.set_x(1, sp);
        state.set_x(2, sp + 8 * UCONTEXT as u64);
    }
    state.set_x(29, record);
    let back = if action.flags & SA_RESTORER != 0 { action.restorer } else { trampoline };
    state.set_x(30, back);
    state.set_sp(sp);
    state.pc = action.handler;
    Ok(())
}

/// Reads the frame at SP.
pub(super) fn read(interrupted: &State) -> Result<Frame, Errno> {
    let sp = interrupted.sp();
    if sp & 15 != 0 {
        return Err(errno::EFAULT);
    }
    let at = |n: usize| sp.wrapping_add(8 * n as u64);
    let words = guest::read_words::<{ RECORDS - UCONTEXT }>(at(UCONTEXT))?;
    let word = |n: usize| words[n - UCONTEXT];
    let mut state = interrupted.clone();
    state.gpr[..31].copy_from_slice(&words[REGISTERS - UCONTEXT..][..31]);
    state.set_sp(word(SP));
    state.pc = word(PC);
    let pstate = word(PSTATE);
    // Only AArch64 at EL0 is valid (valid_user_regs).
    if pstate & 0x1f != 0 {
        return Err(errno::EINVAL);
    }
    state.nzcv = pstate as u32 & 0xf000_0000;
    read_records(at(RECORDS), &mut state)?;
    Ok(Frame { state, mask: word(MASK), stack: [word(STACK), word(STACK + 1), word(STACK + 2)] })
}

/// Reads the records from `start` on: exactly one of them has the vector registers.
fn read_records(start: u64, state: &mut State) -> Result<(), Errno> {
    let (mut offset, mut seen) = (0, false);
    loop {
        let at = start.wrapping_add(offset);
        let head = guest::read64(at)?;
        let (magic, size) = (head & 0xffff_ffff, head >> 32);
        match magic {
            0 if size == 0 => break,
            FPSIMD_MAGIC if size == FPSIMD_SIZE && !seen => {
                seen = true;
                let words = guest::read_words::<65>(at.wrapping_add(8))?;
                state.fpsr = words[0] as u32 & 0x0800_009f;
                state.fpcr = (words[0] >> 32) as u32 & 0x07c0_0000;
                for (v, [low, high]) in state.v.iter_mut().zip(words[1..].as_chunks::<2>().0) {
                    *v = u128::from(*low) | u128::from(*high) << 64;
                }
            }
            ESR_MAGIC => {}
            _ => return Err(errno::EINVAL),
        }
        if size < 16 || size % 16 != 0 || offset + size + 16 > 8 * RECORDS_LENGTH as u64 {
            return Err(errno::EINVAL);
        }
        offset += size;
    }
    if seen { Ok(()) } else { Err(errno::EINVAL) }
}

/// AT_MINSIGSTKSZ: bytes of a frame of this CPU.
pub(super) const SIZE_OF_THIS_CPU: u64 = 4720;
