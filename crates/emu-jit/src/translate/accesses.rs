//! The registers that an instruction reads and writes, as plans need them.

use crate::layout::{NOTHING, PARTS, QUARTERS};
use alloc::vec::Vec;

/// No register.
pub(super) const NO: u8 = 255;

/// The general registers of an instruction (index in `State::gpr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accesses {
    /// Registers that are read, or both read and written.
    pub(super) reads: [u8; 3],
    /// The register that is only written, all 64 bits, after the last access to memory.
    pub(super) write: u8,
    /// Bit per register: others that may be written, and those of `reads` that are written.
    pub(super) also: u32,
    /// Whether any register may be written.
    pub(super) unknown: bool,
}

/// An instruction that accesses no general register.
pub(super) const NONE: Accesses = Accesses { reads: [NO; 3], write: NO, also: 0, unknown: false };
/// An instruction that may access any register.
pub(super) const UNKNOWN: Accesses = Accesses { unknown: true, ..NONE };

/// The bit of a register; none for [`NO`].
pub(super) fn mask(register: u8) -> u32 {
    if register == NO { 0 } else { 1 << register }
}

impl Accesses {
    /// Bit per register: the registers that the instruction names.
    pub(super) fn all(&self) -> u32 {
        self.reads.iter().fold(mask(self.write), |all, &register| all | mask(register))
    }
}

/// How many uses of parts weigh as much as one of the whole.
const WHOLE_WEIGHT: u32 = 3;

/// How often registers are used.
pub struct Uses {
    pub(super) general: [u32; 32],
    pub(super) vector: [u32; 32],
    /// Of halves of vector registers, and of quarters.
    pub(super) halves: [u32; 32],
    pub(super) quarters: [u32; 32],
}

impl Uses {
    pub(super) const NONE: Uses =
        Uses { general: [0; 32], vector: [0; 32], halves: [0; 32], quarters: [0; 32] };

    /// Counts a vector register, or a part of one.
    pub(super) fn operand(&mut self, operand: u8, weight: u32) {
        let count = match operand {
            0..PARTS => &mut self.vector,
            PARTS..QUARTERS => &mut self.halves,
            QUARTERS.. => &mut self.quarters,
        };
        count[usize::from(operand) & 31] += weight;
    }

    /// How often the parts of a vector register are used, as operands, if it can be split: if it is never
    /// used as a whole. A half that is used as such is not split further.
    pub(super) fn parts(&self, register: u8) -> Vec<(u8, u32)> {
        if register >= 16 || self.vector[usize::from(register)] > 0 {
            Vec::new()
        } else {
            self.split(register)
        }
    }

    /// Like [`Uses::parts`], of one of the registers 0 to 15 that may be used as a whole, too.
    fn split(&self, register: u8) -> Vec<(u8, u32)> {
        let mut parts = Vec::new();
        for half in 2 * register..2 * register + 2 {
            let quarters = if half < 16 { 2 * half..2 * half + 2 } else { 0..0 };
            let of_quarters = |n: u8| self.quarters[usize::from(n)];
            match self.halves[usize::from(half)] {
                0 => parts.extend(quarters.map(|n| (QUARTERS + n, of_quarters(n)))),
                uses => parts.push((PARTS + half, uses + quarters.map(of_quarters).sum::<u32>())),
            }
        }
        parts.retain(|&(_, uses)| uses > 0);
        parts
    }

    /// [`Uses::parts`] where a few uses as a whole do not count: outside of loops, parts can be joined.
    pub(super) fn most_parts(&self, register: u8) -> Vec<(u8, u32)> {
        let parts = if register < 16 { self.split(register) } else { Vec::new() };
        let all: u32 = parts.iter().map(|(_, uses)| uses).sum();
        if self.vector[usize::from(register)] * WHOLE_WEIGHT <= all { parts } else { Vec::new() }
    }

    fn whole(&self, register: u8) -> u32 {
        let n = usize::from(register);
        let sum = |uses: &[u32]| uses.iter().sum::<u32>();
        let halves = if n < 16 { sum(&self.halves[2 * n..2 * n + 2]) } else { 0 };
        let quarters = if n < 8 { sum(&self.quarters[4 * n..4 * n + 4]) } else { 0 };
        self.vector[n] + halves + quarters
    }

    /// How often vector registers are used, as a whole or by their parts.
    pub(super) fn wholes(&self) -> [u32; 32] {
        core::array::from_fn(|n| self.whole(n as u8))
    }

    /// How often an operand is used, as such.
    pub(super) fn of(&self, operand: u8) -> u32 {
        let count = match operand {
            0..PARTS => &self.vector,
            PARTS..QUARTERS => &self.halves,
            QUARTERS.. => &self.quarters,
        };
        if operand < NOTHING { count[usize::from(operand) & 31] } else { 0 }
    }

    /// Counts a general register; 31 is no register.
    pub(super) fn general(&mut self, field: u32, weight: u32) {
        // 31 is mostly XZR; fields in which it is SP are counted by `pointer`.
        if field != 31 {
            self.general[field as usize] += weight;
        }
    }

    /// Counts a general register.
    pub(super) fn pointer(&mut self, field: u32, weight: u32) {
        self.general[field as usize] += weight;
    }

    /// Counts a vector register.
    pub(super) fn vector(&mut self, field: u32, weight: u32) {
        self.vector[field as usize] += weight;
    }
}
