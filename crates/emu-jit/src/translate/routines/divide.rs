//! Division as a function of the compiler's library: 32-bit Arm has an instruction for it from Armv7's
//! extension on, and Debian and Alpine compile for CPUs without it.

use super::ARGUMENTS;
use crate::layout::GENERAL;
use crate::translate::{Isa, Translator};
use crossdock_emu_x64::{Alu, Cc, Label, Mem, Reg, Shift, Size};

impl<I: Isa> Translator<'_, I> {
    /// The quotient of the first two arguments, of 32 bits. Where the host would fault, or might, the guest's
    /// own code goes on: if the divisor is 0, or -1.
    pub(super) fn routine_divide(&mut self, signed: bool, own: Label) {
        let [dividend, divisor, _] = ARGUMENTS;
        if signed {
            self.a.lea(Size::D, Reg::RAX, Mem::at(divisor, 1));
            self.a.alu_imm(Alu::Cmp, Size::D, Reg::RAX, 1);
            self.a.jump_if(Cc::Be, own);
            self.a.mov(Size::D, Reg::RAX, dividend);
            self.a.sign_to_rdx(Size::D);
            self.a.idiv(Size::D, divisor);
        } else {
            self.a.test(Size::D, divisor, divisor);
            self.a.jump_if(Cc::E, own);
            self.a.mov(Size::D, Reg::RAX, dividend);
            self.a.alu(Alu::Xor, Size::D, Reg::RDX, Reg::RDX);
            self.a.div(Size::D, divisor);
        }
        self.a.mov(Size::D, dividend, Reg::RAX);
        self.return_from_routine();
    }

    /// The quotient of two numbers of 64 bits in pairs of registers, whose rest is stored where the word at
    /// the stack pointer says, unless it is zero. A division by zero is left to the guest's own code.
    pub(super) fn routine_divide_long(&mut self, own: Label) {
        let [low, high, divisor_low] = ARGUMENTS;
        let divisor_high = GENERAL[3];
        // The standard assignment has the stack pointer in a host register.
        let Some(stack) = self.general_host(STACK_POINTER) else { return self.a.jump(own) };
        let [narrow, divided, no_rest] = [(); 3].map(|()| self.a.label());
        for (whole, high, low) in [(Reg::RCX, divisor_high, divisor_low), (Reg::RAX, high, low)] {
            self.a.mov(Size::D, whole, high);
            self.a.shift_imm(Shift::Shl, Size::Q, whole, 32);
            self.a.alu(Alu::Or, Size::Q, whole, low);
        }
        self.a.test(Size::Q, Reg::RCX, Reg::RCX);
        self.a.jump_if(Cc::E, own);
        // Most CPUs take several times as long for 64 bits.
        self.a.mov(Size::D, Reg::RDX, high);
        self.a.alu(Alu::Or, Size::D, Reg::RDX, divisor_high);
        self.a.jump_if(Cc::E, narrow);
        self.a.alu(Alu::Xor, Size::D, Reg::RDX, Reg::RDX);
        self.a.div(Size::Q, Reg::RCX);
        self.a.jump(divided);
        self.a.bind(narrow);
        self.a.div(Size::D, Reg::RCX);
        self.a.bind(divided);
        self.guest_load(Size::D, Reg::RCX, Mem::at(stack, 0));
        self.a.test(Size::D, Reg::RCX, Reg::RCX);
        self.a.jump_if(Cc::E, no_rest);
        self.guest_store(Size::Q, Mem::at(Reg::RCX, 0), Reg::RDX);
        self.a.bind(no_rest);
        self.a.mov(Size::D, low, Reg::RAX);
        self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32);
        self.a.mov(Size::D, high, Reg::RAX);
        self.return_from_routine();
    }
}

/// The stack pointer's index in `State::gpr`, of all guests.
const STACK_POINTER: u8 = 31;
