//! The places of A64's registers in the shared [`State`].

use crate::state::State;

/// Index in [`State::gpr`] of the stack pointer.
pub const SP: usize = 31;

impl State {
    /// Xn; 0 for n = 31.
    #[inline(always)]
    pub fn x(&self, n: usize) -> u64 {
        if n < 31 { self.gpr[n] } else { 0 }
    }

    /// Sets Xn; does nothing for n = 31.
    #[inline(always)]
    pub fn set_x(&mut self, n: usize, value: u64) {
        if n < 31 {
            self.gpr[n] = value;
        }
    }

    /// The stack pointer.
    #[inline(always)]
    pub fn sp(&self) -> u64 {
        self.gpr[SP]
    }

    /// Sets the stack pointer.
    #[inline(always)]
    pub fn set_sp(&mut self, value: u64) {
        self.gpr[SP] = value;
    }
}
