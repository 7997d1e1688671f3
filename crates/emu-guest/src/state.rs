//! The registers of one guest thread, at fixed offsets.

use crate::exit::{Exit, Leave};

/// Index in [`State::gpr`] of a slot that is always zero.
pub const ZERO: usize = 32;
/// Index in [`State::gpr`] of a slot that is never read.
pub const SINK: usize = 33;

/// The registers of one guest thread.
///
/// The layout is fixed, since generated code addresses it by displacement; a test checks the offsets below.
///
/// | offset | field |
/// |---|---|
/// | 0 | `gpr`: X0 to X30, SP, the zero slot, the sink slot |
/// | 272 | `pc` |
/// | 280 | `nzcv` (bits 31 to 28), `fpcr`, `fpsr`, `apsr`, 4 bytes each |
/// | 296 | `tpidr_el0` |
/// | 304 | `exclusive_address`, `exclusive_size` (bytes, 0 = no reservation) |
/// | 320 | `exclusive_value` |
/// | 336 | `v`: V0 to V31, 16 bytes each |
/// | 848 | `generated`: 56 words of 8 bytes |
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct State {
    /// General registers, at the places that the guest's instruction set gives them. A64: X0 to X30, then SP,
    /// then the slots [`ZERO`] and [`SINK`]; use [`State::x`] and [`State::set_x`]
    /// unless the index is known not to be 31.
    pub gpr: [u64; 34],
    /// Place of the current instruction: its address, and the bits that [`crate::guest::Guest`] adds.
    pub pc: u64,
    /// The condition flags N, Z, C, V in bits 31 to 28, as in the NZCV register and PSTATE.
    pub nzcv: u32,
    /// Floating-point control: AHP, DN, FZ, RMode, and of 32-bit Arm FZ16; the other bits read as
    /// zero.
    pub fpcr: u32,
    /// Floating-point status: QC, IDC, IXC, UFC, OFC, DZC, IOC.
    pub fpsr: u32,
    /// Of the program status register what only 32-bit Arm has: Q (bit 27), GE (bits 19 to 16), and the
    /// execution state of IT (bits 7 to 0); always 0 for A64.
    pub apsr: u32,
    /// The thread pointer.
    pub tpidr_el0: u64,
    /// Address of the exclusive reservation, without tag.
    pub exclusive_address: u64,
    /// Size of the reservation in bytes; 0 = none. The kernel clears the reservation at exceptions, so the
    /// caller must clear it when it delivers a signal.
    pub exclusive_size: u64,
    /// The value seen by the load that made the reservation.
    pub exclusive_value: u128,
    /// V0 to V31; the low byte is lane 0.
    pub v: [u128; 32],
    /// Room for what generated code keeps besides the registers; this crate does not read it.
    pub generated: [u64; 56],
    /// Vector registers besides `v`.
    pub vectors: Vectors,
    /// What generated code that works with them reads and writes; this crate does not read it.
    pub lanes: LaneTables,
    /// Why the last instruction left the interpreter.
    pub(crate) exit: Exit,
}

/// The registers of RISC-V's vectors: its floating-point registers are in [`State::v`].
#[repr(C, align(16))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vectors {
    /// v0 to v31; the low byte is element 0 of bytes.
    pub registers: [u128; 32],
    /// How many elements instructions go through.
    pub vl: u64,
    /// What elements they are.
    pub vtype: u64,
    /// Where the next instruction begins.
    pub vstart: u64,
    /// vxrm in bits 2 and 1, vxsat in bit 0.
    pub vcsr: u32,
    /// Whether an instruction has ever used them.
    pub used: bool,
}

impl Default for Vectors {
    /// All zero, with a reserved vtype.
    fn default() -> Self {
        Vectors { registers: [0; 32], vl: 0, vtype: 1 << 63, vstart: 0, vcsr: 0, used: false }
    }
}

/// Tables of masks beside the registers, where generated code reaches them by displacement, and room for
/// results that are not finished.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct LaneTables {
    /// 128 bytes of zeros and then 128 of ones: read from 128 - n on, the mask of the bytes from n on.
    pub tail: [u8; 256],
    /// The byte that has the bit of each byte's number, of 4 bytes that are there twice.
    pub byte_of: [u8; 32],
    /// Bits by the number of the element, of 8, 16, 32 bits, and of 64 bits from 0 and from 4 on.
    pub bit_of_8: [u8; 32],
    /// See `bit_of_8`.
    pub bit_of_16: [u16; 16],
    /// See `bit_of_8`.
    pub bit_of_32: [u32; 8],
    /// See `bit_of_8`.
    pub bit_of_64: [u64; 8],
    /// Room for a group of registers and as much behind it.
    pub room: [u8; 256],
    /// The mask of a part of a group, and operands under it.
    pub parts: [u8; 128],
}

impl LaneTables {
    const NEW: LaneTables = {
        let mut tables = LaneTables {
            tail: [0; 256],
            byte_of: [0; 32],
            bit_of_8: [0; 32],
            bit_of_16: [0; 16],
            bit_of_32: [0; 8],
            bit_of_64: [0; 8],
            room: [0; 256],
            parts: [0; 128],
        };
        let mut i = 0;
        while i < 128 {
            tables.tail[128 + i] = 0xff;
            if i < 32 {
                tables.byte_of[i] = i as u8 / 8;
                tables.bit_of_8[i] = 1 << (i % 8);
            }
            if i < 16 {
                tables.bit_of_16[i] = 1 << i;
            }
            if i < 8 {
                tables.bit_of_32[i] = 1 << i;
                tables.bit_of_64[i] = 1 << i;
            }
            i += 1;
        }
        tables
    };
}

impl Default for State {
    fn default() -> Self {
        State {
            gpr: [0; 34],
            pc: 0,
            nzcv: 0,
            fpcr: 0,
            fpsr: 0,
            apsr: 0,
            tpidr_el0: 0,
            exclusive_address: 0,
            exclusive_size: 0,
            exclusive_value: 0,
            v: [0; 32],
            generated: [0; 56],
            vectors: Vectors::default(),
            lanes: LaneTables::NEW,
            exit: Exit::Budget,
        }
    }
}

impl State {
    /// Leaves with `exit`.
    #[cold]
    pub(crate) fn leave<T>(&mut self, exit: Exit) -> Result<T, Leave> {
        self.exit = exit;
        Err(Leave)
    }
}

#[cfg(test)]
mod tests {
    use super::State;
    use core::mem::offset_of;

    #[test]
    fn offsets_are_the_documented_ones() {
        assert_eq!(offset_of!(State, gpr), 0);
        assert_eq!(offset_of!(State, pc), 272);
        assert_eq!(offset_of!(State, nzcv), 280);
        assert_eq!(offset_of!(State, fpcr), 284);
        assert_eq!(offset_of!(State, fpsr), 288);
        assert_eq!(offset_of!(State, tpidr_el0), 296);
        assert_eq!(offset_of!(State, exclusive_address), 304);
        assert_eq!(offset_of!(State, exclusive_size), 312);
        assert_eq!(offset_of!(State, exclusive_value), 320);
        assert_eq!(offset_of!(State, v), 336);
        assert_eq!(offset_of!(State, generated), 848);
    }
}
