//! The registers that an instruction reads and writes, as plans need them.

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

/// How often registers are used.
pub struct Uses {
    pub(super) general: [u32; 32],
    pub(super) vector: [u32; 32],
}

impl Uses {
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
