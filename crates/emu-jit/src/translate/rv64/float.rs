//! Floating point.

use super::Translator;
use crate::translate::Lowered;
use crate::translate::operands::half;
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::Action;
use crossdock_emu_x64::Xmm;

impl Translator<'_> {
    /// Records whether a register is known to hold a number of single precision with ones above it.
    pub(super) fn set_boxed(&mut self, register: u8, boxed: bool) {
        self.boxed = self.boxed & !(1 << register) | u32::from(boxed) << register;
    }

    /// A register = the single in the lowest lane of `from`, with ones above. Changes `from`.
    pub(super) fn put_boxed(&mut self, register: u8, from: Xmm) {
        let above = self.constant(u128::from(u64::MAX << 32));
        // VPOR.
        self.a.vp(0xeb, from, from, above);
        self.vput(half(register), from);
        self.set_boxed(register, true);
    }

    pub(super) fn float(&mut self, _: &Instruction, _: Action) -> Lowered {
        Lowered::No
    }
}
