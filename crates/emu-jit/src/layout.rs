//! Where generated code finds the guest's registers.
//!
//! rbp points into the thread's [`State`], [`BIAS`] bytes from its start, so that a displacement of 8 bits
//! reaches X0 to X31. Eleven general registers and thirteen vector registers of the guest live in host
//! registers; the others are memory operands. Where code is entered or left, or calls, they are those of the
//! guest's standard assignment; inside a loop they may be others ([`Assignment`]). rsp is the return stack.
//! rax, rcx, rdx, xmm0, xmm1 and xmm15 hold nothing between guest instructions.

use crossdock_emu_guest::a64::State;
use crossdock_emu_x64::{Mem, Reg, Xmm};

/// Bytes from the start of the state to where rbp points.
pub const BIAS: i32 = 128;
/// The register that points into the state.
pub const STATE: Reg = Reg::RBP;

/// Host registers in which guest general registers live.
pub const GENERAL: [Reg; 11] = [
    Reg::RBX,
    Reg::RSI,
    Reg::RDI,
    Reg::R8,
    Reg::R9,
    Reg::R10,
    Reg::R11,
    Reg::R14,
    Reg::R15,
    Reg::R12,
    Reg::R13,
];
/// The guest registers in them (index in `State::gpr`), of A64: X0 to X4, the link register, X19 to X22 and
/// SP. A call and its return use the link register four times, and compilers seldom use X5.
const OF_A64: [u8; GENERAL.len()] = [0, 1, 2, 3, 4, LINK, 19, 20, 21, 22, 31];
/// The same, of 32-bit Arm: R0 to R9 and SP. A return does not read the link register: it loads PC.
const OF_A32: [u8; GENERAL.len()] = [0, 1, 2, 3, 4, 5, 19, 20, 21, 22, 31];
/// The same, of RISC-V: a0 to a5, s0, s1, the link register, s2 and sp.
const OF_RISCV: [u8; GENERAL.len()] = [0, 1, 2, 3, 4, 5, 19, 20, LINK, 22, 31];
/// Place of the link register in `State::gpr`.
pub const LINK: u8 = 30;

/// Host registers in which guest vector registers live.
pub const VECTOR: [Xmm; 13] = [
    Xmm(2),
    Xmm(3),
    Xmm(4),
    Xmm(5),
    Xmm(6),
    Xmm(7),
    Xmm(8),
    Xmm(9),
    Xmm(10),
    Xmm(11),
    Xmm(12),
    Xmm(13),
    Xmm(14),
];
/// The guest vector registers in them, of a guest with 32.
const OF_32: [u8; VECTOR.len()] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 8];
/// The same, of guests whose programs mostly compute with doubles, which are halves of them: the first 13.
/// Most distributions compile for 16 doubles of 32-bit Arm; what uses more is mostly loops, which have their
/// own.
const OF_HALVES: [u8; VECTOR.len()] = [32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44];
const _: () = assert!(PARTS == 32);

/// Operands from this number on are halves of vector registers, counted from the low half of register 0.
pub const PARTS: u8 = 32;
/// Operands from this number on are quarters of the vector registers 0 to 7, likewise.
pub const QUARTERS: u8 = 64;
/// What a host register holds that holds nothing: the halves before it have been joined.
pub const NOTHING: u8 = 96;
/// Numbers of vector registers and their parts, and of [`NOTHING`].
const OPERANDS: usize = 97;

/// Scratch vector registers.
pub const X0: Xmm = Xmm(0);
/// See [`X0`].
pub const X1: Xmm = Xmm(1);
/// See [`X0`].
pub const X2: Xmm = Xmm(15);

/// Where the guest's registers are: which of them live in the host's registers of [`GENERAL`] and [`VECTOR`].
///
/// A part of a vector register may have a host register of its own, in whose lowest lane it lies. Then
/// neither the whole register nor a part that overlaps this one has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The guest register in each of [`GENERAL`]'s host registers.
    general: [u8; GENERAL.len()],
    /// The guest vector register, or part of one, in each of [`VECTOR`]'s host registers.
    vector: [u8; VECTOR.len()],
    /// Host registers by guest register (or part), or [`NO_REG`].
    general_host: [u8; 34],
    vector_host: [u8; OPERANDS],
}

const NO_REG: u8 = 255;

impl Assignment {
    /// The assignment with which code of A64 is entered and left.
    pub const STANDARD: Assignment = Assignment::standard(OF_A64, OF_32);

    /// The same of 32-bit Arm.
    pub const STANDARD_OF_A32: Assignment = Assignment::standard(OF_A32, OF_HALVES);

    /// The same of RISC-V.
    pub const STANDARD_OF_RISCV: Assignment = Assignment::standard(OF_RISCV, OF_HALVES);

    const fn standard(general: [u8; GENERAL.len()], vector: [u8; VECTOR.len()]) -> Assignment {
        let mut standard =
            Assignment { general, vector, general_host: [NO_REG; 34], vector_host: [NO_REG; OPERANDS] };
        let mut i = 0;
        while i < GENERAL.len() {
            standard.general_host[general[i] as usize] = GENERAL[i].0;
            i += 1;
        }
        let mut i = 0;
        while i < VECTOR.len() {
            standard.vector_host[vector[i] as usize] = VECTOR[i].0;
            i += 1;
        }
        standard
    }

    /// The assignment with these registers in the host's of [`GENERAL`] and then of [`VECTOR`]; `None` if
    /// that is no assignment.
    pub fn from_bytes(registers: &[u8; GENERAL.len() + VECTOR.len()]) -> Option<Assignment> {
        let mut assignment = Assignment {
            general: [0; GENERAL.len()],
            vector: [0; VECTOR.len()],
            general_host: [NO_REG; 34],
            vector_host: [NO_REG; OPERANDS],
        };
        let (general, vector) = registers.split_at(GENERAL.len());
        for (i, &guest) in general.iter().enumerate() {
            assignment.general[i] = guest;
            *assignment.general_host.get_mut(usize::from(guest))? = GENERAL[i].0;
        }
        for (i, &guest) in vector.iter().enumerate() {
            assignment.vector[i] = guest;
            let host = assignment.vector_host.get_mut(usize::from(guest))?;
            if guest != NOTHING {
                *host = VECTOR[i].0;
            }
        }
        Some(assignment)
    }

    /// The host register of a guest register (index in `State::gpr`).
    pub fn general_host(&self, guest: u8) -> Option<Reg> {
        let host = self.general_host[guest as usize];
        (host != NO_REG).then_some(Reg(host))
    }

    /// The host register of a guest vector register, or of a part that has one of its own.
    pub fn vector_host(&self, guest: u8) -> Option<Xmm> {
        let host = self.vector_host[guest as usize];
        (host != NO_REG).then_some(Xmm(host))
    }

    /// The guest registers in the host registers of [`GENERAL`].
    pub fn general(&self) -> &[u8; GENERAL.len()] {
        &self.general
    }

    /// Gives the host register of `old` to `new`, which has no host register yet.
    pub fn replace_general(&mut self, old: u8, new: u8) {
        let place =
            self.general.iter().position(|&guest| guest == old).expect("the old register has a place");
        debug_assert_eq!(self.general_host[new as usize], NO_REG);
        self.general[place] = new;
        self.general_host[new as usize] = core::mem::replace(&mut self.general_host[old as usize], NO_REG);
    }

    /// Like [`Assignment::replace_general`], for vector registers.
    pub fn replace_vector(&mut self, old: u8, new: u8) {
        let place = self.vector.iter().position(|&guest| guest == old).expect("the old register has a place");
        debug_assert_eq!(self.vector_host[new as usize], NO_REG);
        self.vector[place] = new;
        self.vector_host[new as usize] = core::mem::replace(&mut self.vector_host[old as usize], NO_REG);
    }

    /// Gives a host register, by its index in [`VECTOR`], to `new`, or to [`NOTHING`].
    pub fn set_vector(&mut self, place: usize, new: u8) {
        let host = VECTOR[place].0;
        let old = core::mem::replace(&mut self.vector[place], new);
        // It may have another place by now.
        if self.vector_host[old as usize] == host {
            self.vector_host[old as usize] = NO_REG;
        }
        if new != NOTHING {
            self.vector_host[new as usize] = host;
        }
    }

    /// Index in [`GENERAL`], host register, and the guest registers in it here and in `other`, where the two
    /// differ.
    pub fn general_changes(&self, other: &Assignment) -> impl Iterator<Item = (usize, Reg, u8, u8)> {
        (0..GENERAL.len())
            .map(|i| (i, GENERAL[i], self.general[i], other.general[i]))
            .filter(|(_, _, here, there)| here != there)
    }

    /// Index in [`VECTOR`], host register, and what it holds here and in `other`, where the two differ.
    pub fn vector_changes(&self, other: &Assignment) -> impl Iterator<Item = (usize, Xmm, u8, u8)> {
        (0..VECTOR.len())
            .map(|i| (i, VECTOR[i], self.vector[i], other.vector[i]))
            .filter(|(_, _, here, there)| here != there)
    }

    /// The guest vector registers, or parts of them, in the host registers of [`VECTOR`].
    pub fn vector(&self) -> &[u8; VECTOR.len()] {
        &self.vector
    }

    /// Moves the registers that the fault thunk has saved to the guest's registers in the state.
    pub fn take_saved(&self, state: &mut State) {
        for (i, &guest) in self.general.iter().enumerate() {
            state.gpr[guest as usize] = state.generated[SAVED_GENERAL + i];
        }
        for (i, &guest) in self.vector.iter().enumerate() {
            let [low, high] = [0, 1].map(|half| u128::from(state.generated[SAVED_VECTOR + 2 * i + half]));
            let saved = high << 64 | low;
            let (register, shift, bits) = match guest {
                0..PARTS => (guest, 0, 128),
                PARTS..QUARTERS => ((guest - PARTS) / 2, guest % 2 * 64, 64),
                QUARTERS..NOTHING => ((guest - QUARTERS) / 4, guest % 4 * 32, 32),
                NOTHING.. => continue,
            };
            let mask = u128::MAX >> (128 - bits) << shift;
            let vector = &mut state.v[register as usize];
            *vector = *vector & !mask | saved << shift & mask;
        }
    }
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

/// The place of a vector register in the state, or of a part of one.
pub const fn vector_operand(operand: u8) -> Mem {
    let n = (operand & 31) as i32;
    match operand {
        0..PARTS => vector(operand),
        PARTS..QUARTERS => vector(0).plus(8 * n),
        QUARTERS.. => vector(0).plus(4 * n),
    }
}

/// `State::pc`.
pub const PC: Mem = state(272);
/// `State::fpcr`.
pub const FPCR: Mem = state(284);
/// `State::fpsr`.
pub const FPSR: Mem = state(288);
/// `State::apsr`.
pub const APSR: Mem = state(292);
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
    /// The guest's flags in the host's form: V in the low byte; the high byte is LAHF's, with the carry of a
    /// borrow.
    Flags,
    /// Why generated code returned: an [`ExitKind`] in the low 3 bits, its number above them.
    Exit,
    /// rsp of the caller.
    HostStack,
    /// rsp of the return stack.
    ReturnStack,
    /// Address of the thread's jump cache.
    JumpCache,
    /// Address and mask of the jump cache's second level: see `JumpCache::second`.
    JumpSets,
    /// See `JumpSets`.
    JumpSetsMask,
    /// Address of the interrupt flag.
    Interrupt,
    /// Host address of a faulting instruction.
    FaultPc,
    /// EFLAGS at the faulting instruction.
    FaultFlags,
    /// The access to the guest's memory that failed: a [`FaultAccess`] in the low 2 bits, the address above.
    FaultAccess,
    /// The `Host` of the run.
    Host,
    /// MXCSR at the exit.
    Mxcsr,
    /// The epoch and mode of the code that the return stack leads to.
    Epoch,
    /// Start of the lines that IC IVAU has invalidated and that the log of changes does not have yet.
    Invalid,
    /// End of these lines; there are none if it equals the start.
    InvalidEnd,
}

/// What a fault of generated code says about the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum FaultAccess {
    /// The interpreter must find out: an address with a tag, a breakpoint, an invalid operation, a full
    /// return stack.
    Unknown,
    /// A load from a page that cannot be read.
    Read,
    /// A store to a page that cannot be written.
    Write,
}

/// A word of `State::generated`.
pub const fn slot(slot: Slot) -> Mem {
    word(slot as usize)
}

const fn word(index: usize) -> Mem {
    state(848 + index as i32 * 8)
}

/// Words of `State::generated` after the slots: 16 bytes of scratch, and the host's registers at a fault.
const SCRATCH: usize = 16;
const _: () = assert!((Slot::InvalidEnd as usize) < SCRATCH);
const SAVED_VECTOR: usize = 18;
const SAVED_GENERAL: usize = SAVED_VECTOR + 2 * VECTOR.len();

/// 16 bytes that hold nothing between guest instructions.
pub const SCRATCH_MEMORY: Mem = word(SCRATCH);

/// The word with the MXCSR, without flags, that generated code runs with: a guest may have several kinds of
/// code.
pub const MODES_WORD: usize = SAVED_GENERAL + GENERAL.len();
/// See [`MODES_WORD`].
pub const MODES: Mem = word(MODES_WORD);

/// Where the fault thunk saves the `i`th register of [`GENERAL`].
pub const fn saved_general(i: usize) -> Mem {
    word(SAVED_GENERAL + i)
}

/// Where the fault thunk saves the `i`th register of [`VECTOR`].
pub const fn saved_vector(i: usize) -> Mem {
    word(SAVED_VECTOR + 2 * i)
}

/// `State::vectors.registers[n]`, of RISC-V.
pub const fn group(n: u32) -> Mem {
    state(VECTORS + n as i32 * 16)
}

const VECTORS: i32 = 1296;
/// `State::vectors.vl`.
pub const VL: Mem = state(VECTORS + 512);
/// `State::vectors.vtype`.
pub const VTYPE: Mem = state(VECTORS + 520);
/// `State::vectors.vstart`.
pub const VSTART: Mem = state(VECTORS + 528);
/// `State::vectors.vcsr`.
pub const VCSR: Mem = state(VECTORS + 536);
/// `State::vectors.used`, with three bytes that nobody reads.
pub const VECTORS_USED: Mem = state(VECTORS + 540);
const LANES: i32 = VECTORS + 544;
/// `State::lanes.tail`, from the mask of the bytes from 0 on.
pub const TAIL: Mem = state(LANES + 128);
/// `State::lanes.byte_of`.
pub const BYTE_OF: Mem = state(LANES + 256);
/// `State::lanes.bit_of_8`, `bit_of_16`, `bit_of_32`, `bit_of_64`, by the logarithm of the bytes.
pub const BIT_OF: [Mem; 4] = [state(LANES + 288), state(LANES + 320), state(LANES + 352), state(LANES + 384)];
/// `State::lanes.room`.
pub const ROOM: Mem = state(LANES + 448);
/// `State::lanes.parts`.
pub const LANE_PARTS: Mem = state(LANES + 704);

/// Why generated code returned to the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExitKind {
    /// A direct branch; the number is that of its link.
    Link = 0,
    /// A branch to `State::pc`.
    Indirect = 1,
    /// An instruction left; the run's `left` says why.
    Leave = 2,
    /// A memory access faulted.
    Fault = 3,
    /// The interrupt flag is set; `State::pc` is where to go on.
    Interrupted = 4,
    /// SVC; the number is its immediate, `State::pc` is the address of the next instruction.
    Syscall = 5,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::mem::offset_of;
    use crossdock_emu_guest::{LaneTables, Vectors};

    #[test]
    fn offsets_are_those_of_the_state() {
        let at = |offset: usize| Mem::at(STATE, offset as i32 - BIAS);
        assert_eq!(general(3), at(offset_of!(State, gpr) + 24));
        assert_eq!(vector(5), at(offset_of!(State, v) + 80));
        assert_eq!(PC, at(offset_of!(State, pc)));
        assert_eq!(FPCR, at(offset_of!(State, fpcr)));
        assert_eq!(FPSR, at(offset_of!(State, fpsr)));
        assert_eq!(APSR, at(offset_of!(State, apsr)));
        assert_eq!(TPIDR, at(offset_of!(State, tpidr_el0)));
        assert_eq!(EXCLUSIVE_ADDRESS, at(offset_of!(State, exclusive_address)));
        assert_eq!(EXCLUSIVE_SIZE, at(offset_of!(State, exclusive_size)));
        assert_eq!(EXCLUSIVE_VALUE, at(offset_of!(State, exclusive_value)));
        assert_eq!(slot(Slot::Exit), at(offset_of!(State, generated) + 8));
        let vectors = offset_of!(State, vectors);
        assert_eq!(group(3), at(vectors + offset_of!(Vectors, registers) + 48));
        assert_eq!(VL, at(vectors + offset_of!(Vectors, vl)));
        assert_eq!(VTYPE, at(vectors + offset_of!(Vectors, vtype)));
        assert_eq!(VSTART, at(vectors + offset_of!(Vectors, vstart)));
        assert_eq!(VCSR, at(vectors + offset_of!(Vectors, vcsr)));
        assert_eq!(VECTORS_USED, at(vectors + offset_of!(Vectors, used)));
        assert_eq!(offset_of!(Vectors, used) + 4, size_of::<Vectors>());
        let lanes = offset_of!(State, lanes);
        assert_eq!(TAIL, at(lanes + offset_of!(LaneTables, tail) + 128));
        assert_eq!(BYTE_OF, at(lanes + offset_of!(LaneTables, byte_of)));
        assert_eq!(BIT_OF[0], at(lanes + offset_of!(LaneTables, bit_of_8)));
        assert_eq!(BIT_OF[1], at(lanes + offset_of!(LaneTables, bit_of_16)));
        assert_eq!(BIT_OF[2], at(lanes + offset_of!(LaneTables, bit_of_32)));
        assert_eq!(BIT_OF[3], at(lanes + offset_of!(LaneTables, bit_of_64)));
        assert_eq!(ROOM, at(lanes + offset_of!(LaneTables, room)));
        assert_eq!(LANE_PARTS, at(lanes + offset_of!(LaneTables, parts)));
        assert!((Slot::InvalidEnd as usize) < SCRATCH);
        assert_eq!((offset_of!(State, generated) + SCRATCH * 8) % 16, 0);
        assert!(MODES_WORD < State::default().generated.len());
    }

    #[test]
    fn saved_registers_return_to_their_guests() {
        let mut assignment = Assignment::STANDARD;
        assignment.replace_general(31, 6);
        assignment.replace_vector(0, 31);
        assert_eq!(assignment.general_host(6), Assignment::STANDARD.general_host(31));
        assert_eq!(assignment.vector_host(0), None);
        // The upper half of register 9, and a quarter of register 3.
        assignment.replace_vector(8, PARTS + 19);
        assignment.replace_vector(3, QUARTERS + 14);
        let mut state = State::default();
        (state.gpr[31], state.v[0]) = (1, 2);
        (state.v[9], state.v[3]) = (u128::MAX, u128::MAX);
        for (i, word) in state.generated.iter_mut().enumerate() {
            *word = i as u64;
        }
        assignment.take_saved(&mut state);
        assert_eq!((state.gpr[31], state.v[0]), (1, 2));
        assert_eq!(state.gpr[6], SAVED_GENERAL as u64 + 10);
        assert_eq!(state.v[31], (SAVED_VECTOR as u128 + 1) << 64 | SAVED_VECTOR as u128);
        assert_eq!(state.v[9], (SAVED_VECTOR as u128 + 24) << 64 | u128::from(u64::MAX));
        let quarter = (SAVED_VECTOR as u128 + 6) << 64;
        assert_eq!(state.v[3], !(0xffff_ffff << 64) | quarter);
        let general: Vec<_> = Assignment::STANDARD.general_changes(&assignment).collect();
        assert_eq!(general, [(10, Reg::R13, 31, 6)]);
        let vector: Vec<_> = Assignment::STANDARD.vector_changes(&assignment).collect();
        let expected = [(0, Xmm(2), 0, 31), (3, Xmm(5), 3, QUARTERS + 14), (12, Xmm(14), 8, PARTS + 19)];
        assert_eq!(vector, expected);
    }
}
