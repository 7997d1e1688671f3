//! Exclusive loads and stores (manual B2.9): a store compares memory with the value that was loaded.

use super::{Translator, at};
use crate::layout::{EXCLUSIVE_ADDRESS, EXCLUSIVE_SIZE, EXCLUSIVE_VALUE};
use crossdock_emu_guest::a32::Instruction;
use crossdock_emu_x64::{Alu, Cc, Reg, Shift, Size};

impl Translator<'_> {
    /// `rdx` = the address. Goes to the interpreter if it is not aligned.
    fn exclusive_address(&mut self, item: &Instruction, size: u8, slow: crossdock_emu_x64::Label) {
        let base = self.held(item.rn, Reg::RDX);
        self.a.lea(Size::D, Reg::RDX, at(base, item.imm));
        if size > 0 {
            self.a.test_imm8(Reg::RDX, (1 << size) - 1);
            self.a.jump_if(Cc::Ne, slow);
        }
    }

    /// LDREX and its kin.
    pub(super) fn load_exclusive(&mut self, item: &Instruction, size: u8) {
        self.clobber();
        let back = self.a.label();
        let slow = self.slow_path(back);
        self.exclusive_address(item, size, slow);
        self.mark();
        if size == 3 {
            self.a.mov(Size::Q, Reg::RAX, at(Reg::RDX, 0));
        } else {
            self.load(size, Reg::RAX, at(Reg::RDX, 0));
        }
        self.a.mov_to(Size::Q, EXCLUSIVE_ADDRESS, Reg::RDX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 1 << size);
        self.a.mov_to(Size::Q, EXCLUSIVE_VALUE, Reg::RAX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_VALUE.plus(8), 0);
        if size == 3 {
            self.a.mov(Size::D, Reg::RCX, Reg::RAX);
            self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32);
            self.put(item.rd, Reg::RCX);
            self.put(item.ra, Reg::RAX);
        } else {
            self.put(item.rd, Reg::RAX);
        }
        self.a.bind(back);
    }

    /// STREX and its kin; the result goes to `rm`: 0 if the value was stored.
    pub(super) fn store_exclusive(&mut self, item: &Instruction, size: u8) {
        self.clobber();
        let back = self.a.label();
        let slow = self.slow_path(back);
        self.exclusive_address(item, size, slow);
        self.mark();
        self.a.alu(Alu::Cmp, Size::Q, Reg::RDX, EXCLUSIVE_ADDRESS);
        self.a.jump_if(Cc::Ne, slow);
        self.a.alu_imm(Alu::Cmp, Size::Q, EXCLUSIVE_SIZE, 1 << size);
        self.a.jump_if(Cc::Ne, slow);
        if size == 3 {
            self.fetch(item.ra, Reg::RCX);
            self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, 32);
            self.fetch(item.rd, Reg::RAX);
            self.a.alu(Alu::Or, Size::Q, Reg::RCX, Reg::RAX);
        } else {
            self.fetch(item.rd, Reg::RCX);
        }
        self.a.mov(Size::Q, Reg::RAX, EXCLUSIVE_VALUE);
        self.a.lock_cmpxchg(size, at(Reg::RDX, 0), Reg::RCX);
        self.a.set(Cc::Ne, Reg::RAX);
        self.a.movzx8(Reg::RAX, Reg::RAX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 0);
        self.put(item.rm, Reg::RAX);
        self.a.bind(back);
    }
}
