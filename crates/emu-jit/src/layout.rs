//! Where generated code finds the guest's registers.
//!
//! rbp points into the thread's [`State`], [`BIAS`] bytes from its start, so that X0 to X31 are within a displacement
//! of 8 bits. Eleven general registers and thirteen vector registers of the guest live in host registers wherever
//! generated code runs; the others are memory operands. rsp is the return stack. rax, rcx, rdx, xmm0, xmm1 and xmm15
//! hold nothing between guest instructions.

use crossdock_emu_x64::{Mem, Reg, Xmm};

/// Bytes from the start of the state to where rbp points.
pub const BIAS: i32 = 128;
/// The state.
pub const STATE: Reg = Reg::RBP;

/// Guest general registers (index in `State::gpr`) that live in host registers.
pub const GENERAL: [(u8, Reg); 11] = [
    (0, Reg::RBX),
    (1, Reg::RSI),
    (2, Reg::RDI),
    (3, Reg::R8),
    (4, Reg::R9),
    (5, Reg::R10),
    (19, Reg::R11),
    (20, Reg::R14),
    (21, Reg::R15),
    (22, Reg::R12),
    (31, Reg::R13),
];

/// Guest vector registers that live in host registers.
pub const VECTOR: [(u8, Xmm); 13] = [
    (0, Xmm(2)),
    (1, Xmm(3)),
    (2, Xmm(4)),
    (3, Xmm(5)),
    (4, Xmm(6)),
    (5, Xmm(7)),
    (6, Xmm(8)),
    (7, Xmm(9)),
    (16, Xmm(10)),
    (17, Xmm(11)),
    (18, Xmm(12)),
    (19, Xmm(13)),
    (8, Xmm(14)),
];

/// Scratch vector registers.
pub const X0: Xmm = Xmm(0);
/// See [`X0`].
pub const X1: Xmm = Xmm(1);
/// See [`X0`].
pub const X2: Xmm = Xmm(15);

const NO_REG: u8 = 255;

const fn index_general() -> [u8; 34] {
    let mut index = [NO_REG; 34];
    let mut i = 0;
    while i < GENERAL.len() {
        index[GENERAL[i].0 as usize] = GENERAL[i].1.0;
        i += 1;
    }
    index
}

const fn index_vector() -> [u8; 32] {
    let mut index = [NO_REG; 32];
    let mut i = 0;
    while i < VECTOR.len() {
        index[VECTOR[i].0 as usize] = VECTOR[i].1.0;
        i += 1;
    }
    index
}

/// The host register of a guest register (index in `State::gpr`).
pub fn general_host(guest: u8) -> Option<Reg> {
    const INDEX: [u8; 34] = index_general();
    let host = INDEX[guest as usize];
    (host != NO_REG).then_some(Reg(host))
}

/// The host register of a guest vector register.
pub fn vector_host(guest: u8) -> Option<Xmm> {
    const INDEX: [u8; 32] = index_vector();
    let host = INDEX[guest as usize];
    (host != NO_REG).then_some(Xmm(host))
}

const fn state(offset: i32) -> Mem {
    Mem::at(STATE, offset - BIAS)
}

/// `State::gpr[guest]`.
pub const fn general(guest: u8) -> Mem {
    state(guest as i32 * 8)
}

/// `State::v[guest]`.
pub const fn vector(guest: u8) -> Mem {
    state(336 + guest as i32 * 16)
}

/// `State::pc`.
pub const PC: Mem = state(272);
/// `State::fpcr`.
pub const FPCR: Mem = state(284);
/// `State::fpsr`.
pub const FPSR: Mem = state(288);
/// `State::tpidr_el0`.
pub const TPIDR: Mem = state(296);
/// `State::exclusive_address`.
pub const EXCLUSIVE_ADDRESS: Mem = state(304);
/// `State::exclusive_size`.
pub const EXCLUSIVE_SIZE: Mem = state(312);
/// `State::exclusive_value`.
pub const EXCLUSIVE_VALUE: Mem = state(320);

/// Words of `State::generated`.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Slot {
    /// The guest's flags in the host's form: low byte V, high byte as LAHF has it, with the carry of a borrow.
    Flags,
    /// Why generated code returned: an [`ExitKind`] in the low 3 bits, its number above.
    Exit,
    /// rsp of the caller.
    HostStack,
    /// rsp of the return stack.
    ReturnStack,
    /// Address of the thread's jump cache.
    JumpCache,
    /// Address of the interrupt flag.
    Interrupt,
    /// Host address of a faulting instruction.
    FaultPc,
    /// EFLAGS there.
    FaultFlags,
    /// The `Host` of the run.
    Host,
    /// MXCSR at the exit.
    Mxcsr,
    /// The epoch of the code that the return stack and the jump cache lead to.
    Epoch,
}

/// A word of `State::generated`.
pub const fn slot(slot: Slot) -> Mem {
    state(848 + slot as i32 * 8)
}

/// Why generated code returned to the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExitKind {
    /// A direct branch; the number is that of its link.
    Link = 0,
    /// A branch to `State::pc`.
    Indirect = 1,
    /// An instruction left; the thread's `Left` says why.
    Leave = 2,
    /// A memory access faulted.
    Fault = 3,
    /// The interrupt flag is set; `State::pc` is where to go on.
    Interrupted = 4,
    /// SVC; the number is its immediate, `State::pc` that of the next instruction.
    Syscall = 5,
}

/// Slots of a thread's jump cache, pairs of guest and host address.
pub const JUMP_CACHE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use crossdock_emu_guest::a64::State;

    #[test]
    fn offsets_are_those_of_the_state() {
        let at = |offset: usize| Mem::at(STATE, offset as i32 - BIAS);
        assert_eq!(general(3), at(offset_of!(State, gpr) + 24));
        assert_eq!(vector(5), at(offset_of!(State, v) + 80));
        assert_eq!(PC, at(offset_of!(State, pc)));
        assert_eq!(FPCR, at(offset_of!(State, fpcr)));
        assert_eq!(FPSR, at(offset_of!(State, fpsr)));
        assert_eq!(TPIDR, at(offset_of!(State, tpidr_el0)));
        assert_eq!(EXCLUSIVE_ADDRESS, at(offset_of!(State, exclusive_address)));
        assert_eq!(EXCLUSIVE_SIZE, at(offset_of!(State, exclusive_size)));
        assert_eq!(EXCLUSIVE_VALUE, at(offset_of!(State, exclusive_value)));
        assert_eq!(slot(Slot::Exit), at(offset_of!(State, generated) + 8));
    }
}
