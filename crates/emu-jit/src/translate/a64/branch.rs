//! The ends of blocks: branches, calls, returns, exceptions (manual C4.1.93).
//!
//! A return compares X30 with the address on the return stack and returns, so that the host predicts it.

use super::registers::{ZERO, size, source};
use super::{Cold, Flags, Translator, bit, bits};
use crate::layout::{ExitKind, FPCR, Slot, slot};
use crate::translate::Ground;
use crossdock_emu_guest::a64::{CodeLines, FPCR_MASK};
use crossdock_emu_x64::{Alu, Cc, Label, Mem, Reg, Shift, Size};

impl Translator<'_> {
    /// Writes the test of CBZ, CBNZ, TBZ, TBNZ, which sets EFLAGS. Returns the condition of the branch.
    pub(super) fn branch_test(&mut self, word: u32) -> Cc {
        let rt = source(word, 0);
        let not = bit(word, 24);
        self.clobber();
        if !bit(word, 25) {
            let size = size(word);
            match self.general_host(rt) {
                Some(host) => self.a.test(size, host, host),
                None => self.a.alu_imm(Alu::Cmp, size, self.rm(rt), 0),
            }
            return if not { Cc::Ne } else { Cc::E };
        }
        let number = (word >> 31 << 5 | bits(word, 23, 19)) as u8;
        match (number, self.general_host(rt)) {
            (31, Some(host)) => self.a.test(Size::D, host, host),
            (63, Some(host)) => self.a.test(Size::Q, host, host),
            (0..=7, _) => self.a.test_imm8(self.rm(rt), 1 << number),
            (8..=30, _) => self.a.test_imm(Size::D, self.rm(rt), 1 << number),
            _ => {
                self.a.bit_test(Size::Q, self.rm(rt), number);
                return if not { Cc::B } else { Cc::Ae };
            }
        }
        match number {
            31 | 63 if not => Cc::S,
            31 | 63 => Cc::Ns,
            _ if not => Cc::Ne,
            _ => Cc::E,
        }
    }

    /// BLR.
    pub(super) fn call_register(&mut self, word: u32) {
        self.save_flags();
        self.copy(Size::Q, Reg::RAX, source(word, 5));
        self.push_return();
        let stub = self.stub(Cold::Indirect);
        self.a.call(stub);
        self.land_return();
        self.flags = Flags::Memory;
    }

    /// BR.
    pub(super) fn jump_register(&mut self, word: u32) {
        self.save_flags();
        self.copy(Size::Q, Reg::RAX, source(word, 5));
        self.indirect_interruptible();
    }

    /// RET.
    pub(super) fn return_to(&mut self, word: u32) {
        self.save_flags();
        let register = source(word, 5);
        debug_assert!(register <= ZERO);
        self.return_by(register);
    }

    /// SVC.
    pub(super) fn syscall(&mut self, word: u32) {
        self.save_flags();
        self.set_pc(self.next);
        self.exit(ExitKind::Syscall, bits(word, 20, 5));
    }

    /// ISB: leaves if code has been dropped that must not run any more. A thread that changes code drops the
    /// translations, and sets the interrupt flag of the threads that are in generated code, before its next
    /// instruction.
    pub(super) fn synchronize(&mut self) {
        self.save_flags();
        self.flags = Flags::Memory;
        self.complete_invalidations();
        self.check_interrupt(self.next);
    }

    /// IC IVAU: does nothing if no code was ever read from the line. Consecutive lines are collected until
    /// DSB or ISB. For another line, generated code leaves, so that the translations of the collected lines
    /// are dropped.
    ///
    /// ```text
    /// if lines[x >> 11 & MASK] >> (x >> 6 & 31) & 1 {
    ///     line = x & !63
    ///     if line != invalid_end {
    ///         if invalid != invalid_end { interpreter, which leaves }
    ///         invalid = line
    ///     }
    ///     invalid_end = line + 64
    /// }
    /// ```
    pub(super) fn invalidate(&mut self, word: u32) {
        if self.ground != Ground::Arena {
            // The table of lines lies elsewhere in each process.
            return self.fallback();
        }
        self.save_flags();
        self.flags = Flags::Memory;
        let back = self.a.label();
        let slow = self.slow_path(back);
        let marked = self.stub(Cold::Invalidate { register: source(word, 0), slow, back });
        self.copy(Size::Q, Reg::RCX, source(word, 0));
        self.a.shift_imm(Shift::Shr, Size::Q, Reg::RCX, 6);
        self.a.mov(Size::D, Reg::RAX, Reg::RCX);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RAX, 5);
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, CodeLines::MASK as i32);
        self.a.mov_imm(Reg::RDX, self.lines.address());
        self.a.mov(Size::D, Reg::RAX, Mem { base: Reg::RDX, index: Some((Reg::RAX, 2)), disp: 0 });
        // The count is modulo 32.
        self.a.shift_cl(Shift::Shr, Size::D, Reg::RAX);
        self.a.test_imm8(Reg::RAX, 1);
        self.a.jump_if(Cc::Ne, marked);
        self.a.bind(back);
    }

    /// Handles a line of code, whose address is in a register: see [`Translator::invalidate`].
    pub(super) fn invalidate_marked(&mut self, register: u8, slow: Label, back: Label) {
        self.copy(Size::Q, Reg::RAX, register);
        self.a.alu_imm(Alu::And, Size::Q, Reg::RAX, -64);
        self.a.mov(Size::Q, Reg::RCX, slot(Slot::InvalidEnd));
        self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, Reg::RCX);
        let follows = self.a.skip_if(Cc::E);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RCX, slot(Slot::Invalid));
        self.a.jump_if(Cc::Ne, slow);
        self.a.mov_to(Size::Q, slot(Slot::Invalid), Reg::RAX);
        self.a.land(follows);
        self.a.alu_imm(Alu::Add, Size::Q, Reg::RAX, 64);
        self.a.mov_to(Size::Q, slot(Slot::InvalidEnd), Reg::RAX);
        self.a.jump(back);
    }

    /// MSR FPCR: the following code is translated for the current mode; for another mode, the dispatcher
    /// looks for other code.
    pub(super) fn set_mode(&mut self, word: u32) {
        self.save_flags();
        self.flags = Flags::Memory;
        let other = self.stub(Cold::Look { record: self.record() });
        self.copy(Size::Q, Reg::RAX, source(word, 0));
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, FPCR_MASK as i32);
        self.a.alu(Alu::Cmp, Size::D, Reg::RAX, FPCR);
        self.a.jump_if(Cc::Ne, other);
    }
}
