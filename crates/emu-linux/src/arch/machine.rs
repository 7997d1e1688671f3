//! The machines whose programs this executable runs, as ELF headers name them.

/// Which programs an ABI runs: the fields of their ELF header (elf(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// EI_CLASS: 1 for 32 bits, 2 for 64 bits.
    pub class: u8,
    /// e_machine.
    pub machine: u16,
}

impl Machine {
    /// Bytes of a pointer.
    pub const fn word(self) -> u64 {
        if self.class == 1 { 4 } else { 8 }
    }
}

/// arm64, little-endian: EM_AARCH64.
pub const ARM64: Machine = Machine { class: 2, machine: 183 };

/// 32-bit Arm, little-endian: EM_ARM.
pub const ARM: Machine = Machine { class: 1, machine: 40 };

/// riscv64, little-endian: EM_RISCV.
pub const RISCV64: Machine = Machine { class: 2, machine: 243 };

/// All of them.
pub const ALL: [Machine; 3] = [ARM64, ARM, RISCV64];
