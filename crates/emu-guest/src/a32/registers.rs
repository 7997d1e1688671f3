//! The places of the 32-bit registers in the shared [`State`].
//!
//! R0 to R12, SP and LR lie where the translator keeps the registers that A64 code uses most, so that the
//! translator's standard assignment serves both sets.

use crate::state::State;

/// Index in [`State::gpr`] of R0 to R15. R15 is a slot: before an instruction runs, it holds what the
/// instruction reads as PC.
const PLACES: [u8; 16] = [0, 1, 2, 3, 4, 5, 19, 20, 21, 22, 6, 7, 8, SP, LR, PC];

/// Place of SP.
pub const SP: u8 = 31;
/// Place of LR.
pub const LR: u8 = 30;
/// Place of the slot of PC.
pub const PC: u8 = 29;
/// Place of a slot that is always zero.
pub const ZERO: u8 = crate::state::ZERO as u8;
/// Place of a slot that is never read.
pub const SINK: u8 = crate::state::SINK as u8;
/// Place of TPIDRURW, the thread register that programs may write.
pub const THREAD: u8 = 28;

/// Place of the flags GE: a byte per flag, all zeros where the flag is set and all ones where it is clear, as
/// SEL takes bytes of its second operand.
pub const GE_CLEAR: u8 = 26;

/// Place of FPSCR's condition flags, in their bits 31 to 28.
pub const FLOAT_FLAGS: u8 = 27;

/// Bits of FPSCR (manual G8.2): the alternative half-precision format.
pub(crate) const AHP: u32 = 1 << 26;
/// Operations on NaNs give the default NaN.
const DN: u32 = 1 << 25;
/// Subnormal operands and results become zeros.
pub(crate) const FZ: u32 = 1 << 24;
/// The rounding mode; zero is to nearest.
pub(crate) const RMODE: u32 = 3 << 22;
/// What [`FZ`] is, for arithmetic in half precision.
pub(crate) const FZ16: u32 = 1 << 19;

/// Bits of FPSCR that lie in [`State::fpcr`]. LEN and STRIDE are not among them: Armv8 has no short vectors.
pub const FPSCR_CONTROL: u32 = AHP | DN | FZ | RMODE | FZ16;
/// Bits of FPSCR that lie in [`State::fpsr`]: QC, IDC, IXC, UFC, OFC, DZC, IOC.
pub const FPSCR_STATUS: u32 = 0x0800_009f;

/// Bits of [`State::apsr`]: saturation has occurred.
pub const Q: u32 = 1 << 27;
/// The lowest of the four bits of APSR and CPSR for GE: parallel additions set them, and SEL reads them.
const GE_LOW: u32 = 16;
/// Data accesses are big-endian (SETEND).
pub const E: u32 = 1 << 9;
/// The execution state of IT: condition and mask of the instructions that follow (manual G1.11.4).
pub const IT: u32 = 0xff;

/// The index in [`State::gpr`] of register `n`, 0 to 15.
#[inline(always)]
pub const fn place(n: u32) -> u8 {
    PLACES[n as usize & 15]
}

impl State {
    /// Rn, `n` at most 14.
    #[inline(always)]
    pub fn r(&self, n: u32) -> u32 {
        self.gpr[place(n) as usize] as u32
    }

    /// Sets Rn, `n` at most 14.
    #[inline(always)]
    pub fn set_r(&mut self, n: u32, value: u32) {
        self.gpr[place(n) as usize] = u64::from(value);
    }

    /// The execution state of IT (manual G1.11.4): 0 outside of an IT block.
    #[inline(always)]
    pub fn it(&self) -> u8 {
        (self.apsr & IT) as u8
    }

    /// Sets the execution state of IT.
    #[inline(always)]
    pub fn set_it(&mut self, it: u8) {
        self.apsr = self.apsr & !IT | u32::from(it);
    }

    /// The flags GE, where APSR and CPSR have them: in bits 19 to 16.
    pub fn ge(&self) -> u32 {
        let set = !self.gpr[GE_CLEAR as usize] as u32 & 0x0101_0101;
        // Bit 8 * i goes to bit 24 + i.
        (set.wrapping_mul(0x0102_0408) >> 24 & 15) << GE_LOW
    }

    /// Sets the flags GE from bits 19 to 16.
    pub fn set_ge(&mut self, apsr: u32) {
        // Bit i goes to bit 8 * i.
        let set = (apsr >> GE_LOW & 15) * 0x0020_4081 & 0x0101_0101;
        self.gpr[GE_CLEAR as usize] = u64::from(!(set * 0xff));
    }

    /// FPSCR.
    pub fn fpscr(&self) -> u32 {
        self.float_flags() | self.fpcr & FPSCR_CONTROL | self.fpsr & FPSCR_STATUS
    }

    /// Sets FPSCR. Bits that do not exist are ignored.
    pub fn set_fpscr(&mut self, value: u32) {
        self.set_float_flags(value);
        self.fpcr = value & FPSCR_CONTROL;
        self.fpsr = value & FPSCR_STATUS;
    }

    /// FPSCR's condition flags, in bits 31 to 28.
    #[inline(always)]
    pub(crate) fn float_flags(&self) -> u32 {
        self.gpr[FLOAT_FLAGS as usize] as u32
    }

    /// Sets FPSCR's condition flags from bits 31 to 28.
    #[inline(always)]
    pub(crate) fn set_float_flags(&mut self, value: u32) {
        self.gpr[FLOAT_FLAGS as usize] = u64::from(value & 0xf000_0000);
    }

    /// Whether data accesses are big-endian.
    #[inline(always)]
    pub fn is_big_endian(&self) -> bool {
        self.apsr & E != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ge_comes_back() {
        let mut state = State::default();
        for ge in 0..16 {
            state.set_ge(ge << GE_LOW | 0xf0f0_ffff);
            assert_eq!(state.ge(), ge << GE_LOW);
            for byte in 0..4 {
                let clear = state.gpr[usize::from(GE_CLEAR)] >> (8 * byte) & 255;
                assert_eq!(clear, if ge >> byte & 1 == 1 { 0 } else { 255 });
            }
        }
    }
}
