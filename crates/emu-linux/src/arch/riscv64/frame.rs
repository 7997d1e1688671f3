//! Signal frames (Linux, arch/riscv/kernel/signal.c, include/uapi/asm/{ucontext.h,sigcontext.h,ptrace.h}).
//!
//! ```text
//! sp -> siginfo 128 | ucontext: flags, link, stack 24, mask 8, padding 120, 8
//!       | sigcontext: pc, x1..x31 | f0..f31, fcsr 4, padding up to 516, 4
//!       | record of vectors, if the program has used them:
//!         head 8, vstart, vl, vtype, vcsr, vlenb, address, v0..v31
//!       | record: end 8
//! ```

use crate::arch::{Delivery, Frame};
use crate::guest;
use crate::sys::{Errno, errno};
use crossdock_emu_guest::{State, Vectors};

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
/// Words of the frame without vectors.
const FRAME: usize = RECORD + 1;
/// Words of the record of vectors: its head, six of the state, the registers.
const VECTORS: usize = 7 + 64;
/// The head: the magic number (RISCV_V_MAGIC), and the bytes of the record.
const VECTORS_HEAD: u64 = 0x5346_5457 | (8 * VECTORS as u64) << 32;
/// Bytes of a vector register.
const VLENB: u64 = 16;

/// Bytes of the largest frame: AT_MINSIGSTKSZ.
pub(super) const SIZE: u64 = 8 * (FRAME + VECTORS + 1) as u64;

const X2: u32 = 2;
const A0: u32 = 10;

/// Where the frame below `top` begins.
pub(super) fn start(top: u64) -> u64 {
    top.wrapping_sub(SIZE) & !15
}

/// Pushes a signal frame and enters the handler.
pub(super) fn push(state: &mut State, delivery: &Delivery) -> Result<(), Errno> {
    let Delivery { signal, info, action, mask, stack, top, trampoline, .. } = *delivery;
    let mut frame = [0u64; FRAME + VECTORS];
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
    let mut length = FRAME;
    if state.vectors.used {
        length += VECTORS;
        let Vectors { registers, vl, vtype, vstart, vcsr, .. } = &state.vectors;
        let data = sp + 8 * (RECORD + 7) as u64;
        let head = [VECTORS_HEAD, *vstart, *vl, *vtype, (*vcsr).into(), VLENB, data];
        frame[RECORD..RECORD + 7].copy_from_slice(&head);
        for (words, v) in frame[RECORD + 7..].as_chunks_mut::<2>().0.iter_mut().zip(registers) {
            *words = [*v as u64, (*v >> 64) as u64];
        }
    }
    guest::write_words(sp, &frame[..length])?;
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
    let mut state = interrupted.clone();
    match (word(RESERVED) >> 32, word(RECORD)) {
        (0, 0) => {}
        (0, VECTORS_HEAD) => state.vectors = read_vectors(sp.wrapping_add(8 * RECORD as u64))?,
        _ => return Err(errno::EINVAL),
    }
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

/// Reads the record of vectors at an address. The registers lie where the record says.
fn read_vectors(at: u64) -> Result<Vectors, Errno> {
    let [_, vstart, vl, vtype, vcsr, _, data] = guest::read_words::<7>(at)?;
    let words = guest::read_words::<64>(data)?;
    let mut vectors = Vectors { vl, vtype, vstart, vcsr: vcsr as u32 & 7, used: true, ..Vectors::default() };
    for (v, [low, high]) in vectors.registers.iter_mut().zip(words.as_chunks::<2>().0) {
        *v = u128::from(*low) | u128::from(*high) << 64;
    }
    // More elements than there are would lead out of the registers.
    vectors.restrict();
    Ok(vectors)
}
