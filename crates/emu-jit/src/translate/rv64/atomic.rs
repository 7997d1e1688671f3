//! Atomic accesses: the host's locked instructions order all others. SC compares memory with the value that
//! LR loaded.

use super::Translator;
use crate::layout::{EXCLUSIVE_ADDRESS, EXCLUSIVE_SIZE, EXCLUSIVE_VALUE};
use crate::translate::{Lowered, ONE};
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::{Action, Atomic};
use crossdock_emu_x64::{Alu, Cc, Label, Mem, Reg, Size};

impl Translator<'_> {
    pub(super) fn atomic(&mut self, item: &Instruction, action: Action) -> Lowered {
        match action {
            Action::LoadReserved { size } => self.load_reserved(item, size),
            Action::StoreConditional { size } => self.store_conditional(item, size),
            Action::Atomic { operation, size } if size >= 2 => return self.modify(item, operation, size),
            Action::CompareSwap { size: size @ 2..=3 } => self.compare_swap(item, size),
            _ => return Lowered::No,
        }
        ONE
    }

    /// `rdx` = the address; one that is not aligned goes to the interpreter.
    fn aligned(&mut self, item: &Instruction, size: u8) -> Label {
        self.clobber();
        let back = self.a.label();
        self.copy(Size::Q, Reg::RDX, item.rn);
        self.mark();
        let slow = self.slow_path(back);
        self.a.test_imm8(Reg::RDX, (1 << size) - 1);
        self.a.jump_if(Cc::Ne, slow);
        back
    }

    /// rax = its low bytes, sign-extended.
    fn extend_result(&mut self, size: u8) {
        if size == 2 {
            self.a.movsxd(Reg::RAX, Reg::RAX);
        }
    }

    fn load_reserved(&mut self, item: &Instruction, size: u8) {
        let back = self.aligned(item, size);
        self.load(size, false, Reg::RAX, Mem::at(Reg::RDX, 0));
        self.a.mov_to(Size::Q, EXCLUSIVE_ADDRESS, Reg::RDX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 1 << size);
        self.a.mov_to(Size::Q, EXCLUSIVE_VALUE, Reg::RAX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_VALUE.plus(8), 0);
        self.extend_result(size);
        self.put(item.rd, Reg::RAX);
        self.a.bind(back);
    }

    /// If the reservation does not match, the interpreter runs the store.
    fn store_conditional(&mut self, item: &Instruction, size: u8) {
        let back = self.aligned(item, size);
        let slow = self.slow_path(back);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RDX, EXCLUSIVE_ADDRESS);
        self.a.jump_if(Cc::Ne, slow);
        self.a.alu_imm(Alu::Cmp, Size::Q, EXCLUSIVE_SIZE, 1 << size);
        self.a.jump_if(Cc::Ne, slow);
        self.a.mov(Size::Q, Reg::RAX, EXCLUSIVE_VALUE);
        let new = self.get(item.rm, Reg::RCX);
        self.a.lock_cmpxchg(size, Mem::at(Reg::RDX, 0), new);
        self.a.set(Cc::Ne, Reg::RAX);
        self.a.movzx8(Reg::RAX, Reg::RAX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 0);
        self.put(item.rd, Reg::RAX);
        self.a.bind(back);
    }

    /// AMOCAS.
    fn compare_swap(&mut self, item: &Instruction, size: u8) {
        let back = self.aligned(item, size);
        self.copy(Size::Q, Reg::RAX, item.ra);
        let new = self.get(item.rm, Reg::RCX);
        self.a.lock_cmpxchg(size, Mem::at(Reg::RDX, 0), new);
        self.extend_result(size);
        self.put(item.rd, Reg::RAX);
        self.a.bind(back);
    }

    /// AMOSWAP and its kin.
    fn modify(&mut self, item: &Instruction, operation: Atomic, size: u8) -> Lowered {
        let host = if size == 3 { Size::Q } else { Size::D };
        let mem = Mem::at(Reg::RDX, 0);
        let back = self.aligned(item, size);
        match operation {
            Atomic::Swap => {
                self.copy(Size::Q, Reg::RAX, item.rm);
                self.a.xchg(size, mem, Reg::RAX);
            }
            Atomic::Add => {
                self.copy(Size::Q, Reg::RAX, item.rm);
                self.a.lock_xadd(size, mem, Reg::RAX);
            }
            _ => {
                self.load(size, false, Reg::RAX, mem);
                let again = self.a.label();
                self.a.bind(again);
                self.copy(Size::Q, Reg::RCX, item.rm);
                match operation {
                    Atomic::Xor => self.a.alu(Alu::Xor, host, Reg::RCX, Reg::RAX),
                    Atomic::And => self.a.alu(Alu::And, host, Reg::RCX, Reg::RAX),
                    Atomic::Or => self.a.alu(Alu::Or, host, Reg::RCX, Reg::RAX),
                    _ => {
                        // The old value stays where it wins.
                        self.a.alu(Alu::Cmp, host, Reg::RAX, Reg::RCX);
                        let wins = match operation {
                            Atomic::Min => Cc::L,
                            Atomic::Max => Cc::G,
                            Atomic::Minu => Cc::B,
                            _ => Cc::A,
                        };
                        self.a.cmov(wins, host, Reg::RCX, Reg::RAX);
                    }
                }
                self.a.lock_cmpxchg(size, mem, Reg::RCX);
                self.a.jump_if(Cc::Ne, again);
            }
        }
        self.extend_result(size);
        self.put(item.rd, Reg::RAX);
        self.a.bind(back);
        ONE
    }
}
