//! Ways out of a block that all guests share: interrupts, calls, indirect branches.
//!
//! A call pushes the guest's return address and calls; a return continues right after the call, so that the
//! host predicts it. Backward branches out of a unit, indirect branches, returns to elsewhere and loop heads
//! read the interrupt flag: every loop has one of them, and endless calls run into the guard of the return
//! stack.

use super::condition::Flags;
use super::{Cold, Isa, Translator, Way};
use crate::layout::{ExitKind, LINK, PC, Slot, slot};
use crate::thunks;
use crossdock_emu_x64::{Alu, Cc, Label, Mem, Reg, Size};

impl<I: Isa> Translator<'_, I> {
    /// Leaves for `pc` if the interrupt flag is set. The guest's flags are in memory. Changes rax.
    pub(super) fn check_interrupt(&mut self, pc: u64) {
        let stub = self.stub(Cold::Interrupted { pc });
        self.test_interrupt(Reg::RAX);
        self.a.jump_if(Cc::Ne, stub);
    }

    /// ZF = whether the interrupt flag is clear. May change `scratch`.
    fn test_interrupt(&mut self, scratch: Reg) {
        if self.features.flag_in_gs {
            return self.a.cmp_gs_zero();
        }
        self.a.mov(Size::Q, scratch, slot(Slot::Interrupt));
        self.a.alu_imm(Alu::Cmp, Size::D, Mem::at(scratch, 0), 0);
    }

    /// Like [`Translator::check_interrupt`], without a stub, for code that rarely runs.
    pub(super) fn check_interrupt_here(&mut self, pc: u64) {
        self.test_interrupt(Reg::RAX);
        let clear = self.a.skip_if(Cc::E);
        self.set_pc(pc);
        self.exit(ExitKind::Interrupted, 0);
        self.a.land(clear);
    }

    /// Sets the link register to the next place, and pushes it onto the return stack. Changes rcx.
    pub(super) fn push_return(&mut self) {
        let link = self.result(LINK, Reg::RCX);
        self.guest_address(link, self.next);
        self.a.push(link);
        self.put(LINK, link);
    }

    /// The place that a return reaches: pops the guest's address, which is still on the return stack.
    pub(super) fn land_return(&mut self) {
        self.a.lea(Size::Q, Reg::RSP, Mem::at(Reg::RSP, 8));
    }

    /// A call of a block of the unit (`label`) or of another unit.
    pub(super) fn call(&mut self, target: u64, label: Option<Label>) {
        self.save_flags();
        self.push_return();
        match label {
            Some(label) => self.a.call(label),
            None => {
                self.a.align(4, 1);
                let site = self.a.position() + 1;
                let stub = self.stub(Cold::Call { target, site });
                self.a.call(stub);
            }
        }
        self.land_return();
        self.flags = Flags::Memory;
    }

    /// A return to the place in a register of the guest. The flags are in memory. May change rax.
    pub(super) fn return_by(&mut self, register: u8) {
        let target = self.get(register, Reg::RAX);
        self.return_at(target);
    }

    /// A return to the place in a register of the host that keeps it up to here. The flags are in memory.
    pub(super) fn return_at(&mut self, target: Reg) {
        // What is on the return stack is even for guests that clear the lowest bit.
        let stub = self.stub(Cold::Return { target });
        self.a.alu(Alu::Cmp, Size::Q, target, Mem::at(Reg::RSP, 8));
        self.a.jump_if(Cc::Ne, stub);
        self.a.ret();
    }

    /// A return that the return stack does not predict.
    pub(super) fn return_elsewhere(&mut self, target: Reg) {
        if target != Reg::RAX {
            self.a.mov(Size::Q, Reg::RAX, target);
        }
        if I::EVEN_RETURNS {
            self.a.alu_imm(Alu::And, Size::Q, Reg::RAX, !1);
        }
        self.indirect_interruptible();
    }

    /// A branch to rax that may close a loop.
    pub(super) fn indirect_interruptible(&mut self) {
        let stub = self.stub(Cold::InterruptedAtRax);
        self.test_interrupt(Reg::RCX);
        self.a.jump_if(Cc::Ne, stub);
        self.indirect();
    }

    /// A branch to rax.
    pub(super) fn indirect(&mut self) {
        thunks::jump_by_cache(self.a);
        self.jump_to(Way::Indirect);
    }

    /// Leaves for the guest address in rax because the interrupt flag is set.
    pub(super) fn leave_interrupted(&mut self) {
        self.a.mov_to(Size::Q, PC, Reg::RAX);
        self.exit(ExitKind::Interrupted, 0);
    }

    /// DSB and ISB: leaves after the instruction if lines have been invalidated. The guest's flags are in
    /// memory or dead. Changes rax.
    pub(super) fn complete_invalidations(&mut self) {
        let stub = self.stub(Cold::Interrupted { pc: self.next });
        self.a.mov(Size::Q, Reg::RAX, slot(Slot::Invalid));
        self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, slot(Slot::InvalidEnd));
        self.a.jump_if(Cc::Ne, stub);
    }

    /// Hands the instruction to the interpreter, and returns to the dispatcher.
    pub(super) fn look(&mut self) {
        self.fallback();
        self.set_pc(self.next);
        self.exit(ExitKind::Indirect, 0);
    }
}
