//! The places of RV64's registers in the shared [`State`].
//!
//! The registers that programs use most are where the standard assignment of generated code has host
//! registers: in [`State::gpr`] 0 to 5, 19 to 22 and 31, and of the halves of vector registers the first 13.
//! The link register x1 is at 30, as Arm's.

use crate::state::{SINK, State, ZERO};

/// Index in [`State::gpr`] of each general register; x0 has [`ZERO`].
const GENERAL: [u8; 32] = [
    ZERO as u8, 30, 31, 6, 7, 8, 9, 10, // zero, ra, sp, gp, tp, t0 to t2
    19, 20, 0, 1, 2, 3, 4, 5, // s0, s1, a0 to a5
    21, 11, 22, 12, 13, 14, 15, 16, // a6, a7, s2 to s7
    17, 18, 23, 24, 25, 26, 27, 28, // s8 to s11, t3 to t6
];

/// The half of the vector registers that holds each floating-point register, counted from the low half of
/// register 0.
const FLOAT: [u8; 32] = [
    10, 11, 12, 13, 14, 15, 16, 17, // ft0 to ft7
    8, 9, 0, 1, 2, 3, 4, 5, // fs0, fs1, fa0 to fa5
    6, 7, 18, 19, 20, 21, 22, 23, // fa6, fa7, fs2 to fs7
    24, 25, 26, 27, 28, 29, 30, 31, // fs8 to fs11, ft8 to ft11
];

/// Index in [`State::gpr`] of the link register, x1.
pub const RA: u8 = GENERAL[1];
/// Index of the stack pointer, x2.
pub const SP: u8 = GENERAL[2];
/// Index of x5, the alternative link register.
pub const T0: u8 = GENERAL[5];

/// The index of a general register that is read.
#[inline(always)]
pub const fn source(n: u32) -> u8 {
    GENERAL[(n & 31) as usize]
}

/// The index of a general register that is written: writes to x0 go nowhere.
#[inline(always)]
pub const fn destination(n: u32) -> u8 {
    if n & 31 == 0 { SINK as u8 } else { source(n) }
}

/// The half that holds a floating-point register.
#[inline(always)]
pub const fn float(n: u32) -> u8 {
    FLOAT[(n & 31) as usize]
}

impl State {
    /// General register `n`.
    pub fn rv64_x(&self, n: u32) -> u64 {
        self.gpr[usize::from(source(n))]
    }

    /// Sets general register `n`; does nothing for x0.
    pub fn set_rv64_x(&mut self, n: u32, value: u64) {
        if n & 31 != 0 {
            self.gpr[usize::from(source(n))] = value;
        }
    }

    /// Floating-point register `n`.
    pub fn rv64_f(&self, n: u32) -> u64 {
        self.half(float(n))
    }

    /// Sets floating-point register `n`.
    pub fn set_rv64_f(&mut self, n: u32, value: u64) {
        self.set_half(float(n), value);
    }

    /// A half of the vector registers.
    #[inline(always)]
    pub(super) fn half(&self, half: u8) -> u64 {
        (self.v[usize::from(half / 2)] >> (64 * (half & 1))) as u64
    }

    /// Sets a half of the vector registers.
    #[inline(always)]
    pub(super) fn set_half(&mut self, half: u8, value: u64) {
        let vector = &mut self.v[usize::from(half / 2)];
        let low = u128::from(u64::MAX);
        *vector = if half & 1 == 0 {
            *vector & !low | u128::from(value)
        } else {
            *vector & low | u128::from(value) << 64
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_a_place_of_its_own() {
        let mut state = State::default();
        for n in 0..32 {
            state.set_rv64_x(n, u64::from(n) + 100);
            state.set_rv64_f(n, u64::from(n) + 200);
        }
        for n in 0..32 {
            assert_eq!(state.rv64_x(n), if n == 0 { 0 } else { u64::from(n) + 100 });
            assert_eq!(state.rv64_f(n), u64::from(n) + 200);
        }
        assert_eq!((state.gpr[ZERO], RA), (0, 30));
    }
}
