//! Loads and stores (manual F4.1.3 to F4.1.6).
//!
//! No base changes before the last access of an instruction, so an instruction that faults can be run again
//! by the interpreter. LDM may have loaded some of its registers by then.

use super::{ALWAYS, NO_BASE, PC, Translator, at};
use crate::translate::Cold;
use crossdock_emu_guest::a32::Instruction;
use crossdock_emu_guest::a32::action::{Action, Mode, Transfer};
use crossdock_emu_guest::a32::registers::place;
use crossdock_emu_x64::{Cc, Label, Mem, Reg, Shift, Size};

/// Bits of a load or store of several registers: up, before, write-back.
const UP: u32 = 1;
const BEFORE: u32 = 2;
const WRITE_BACK: u32 = 4;

impl Translator<'_> {
    /// The `1 << size` bytes at an address of the guest, if they are as constant as the code.
    pub(super) fn literal(&self, address: u32, size: u8) -> Option<u64> {
        self.literals?.value(address.into(), size)
    }

    /// The operand of a load or store. The base is in a register that is not rax. If a register is added, the
    /// sum that is written back is in rdx, or in rcx after the access. Changes EFLAGS for shifted and
    /// subtracted registers.
    fn operand(&mut self, item: &Instruction, mode: Mode, register: bool) -> Mem {
        if !register && item.rn == NO_BASE {
            // From PC.
            return self.at_guest_address(Reg::RDX, item.imm.into());
        }
        if !register {
            let base = self.held(item.rn, Reg::RDX);
            return at(base, if mode == Mode::After { 0 } else { item.imm });
        }
        let (kind, amount) = (item.extra & 7, item.imm as u8);
        let subtracts = item.extra & 8 != 0;
        if kind == 0 && amount <= 3 && !subtracts && mode == Mode::Offset {
            let base = self.held(item.rn, Reg::RDX);
            let index = self.held(item.rm, Reg::RCX);
            return Mem { base, index: Some((index, amount)), disp: 0 };
        }
        self.offset(item, kind, amount, subtracts);
        let base = self.held(item.rn, Reg::RDX);
        let sum = Mem { base, index: Some((Reg::RCX, 0)), disp: 0 };
        match mode {
            Mode::Offset => sum,
            Mode::Before => {
                self.a.lea(Size::D, Reg::RDX, sum);
                at(Reg::RDX, 0)
            }
            Mode::After => {
                self.a.lea(Size::D, Reg::RCX, sum);
                at(base, 0)
            }
        }
    }

    /// `rcx` = register `rm`, shifted and perhaps negated.
    fn offset(&mut self, item: &Instruction, kind: u32, amount: u8, subtracts: bool) {
        if kind != 0 || amount != 0 || subtracts {
            self.clobber();
        }
        self.fetch(item.rm, Reg::RCX);
        let shift = [Shift::Shl, Shift::Shr, Shift::Sar, Shift::Ror][kind as usize];
        match amount {
            0 => {}
            1..=31 => self.a.shift_imm(shift, Size::D, Reg::RCX, amount),
            // LSR and ASR by 32.
            _ if kind == 1 => self.a.mov_imm(Reg::RCX, 0),
            _ => self.a.shift_imm(shift, Size::D, Reg::RCX, 31),
        }
        if subtracts {
            self.a.neg(Size::D, Reg::RCX);
        }
    }

    /// Writes the base back, behind the access.
    fn write_back(&mut self, item: &Instruction, mode: Mode) {
        let register = matches!(item.action, Action::Access { register: true, .. });
        match mode {
            Mode::Offset => {}
            // The base is where the operand has it.
            Mode::Before | Mode::After if !register => {
                let t = self.result(item.rn, Reg::RDX);
                self.a.lea(Size::D, t, at(t, item.imm));
                self.put_moved(item.rn, t, item.imm);
            }
            // A register may hold anything.
            Mode::Before => self.put_moved(item.rn, Reg::RDX, 1),
            Mode::After => self.put_moved(item.rn, Reg::RCX, 1),
        }
    }

    pub(super) fn access(&mut self, item: &Instruction) {
        let Action::Access { transfer, mode, register } = item.action else { return };
        if let Transfer::Load(size) = transfer
            && item.rn == NO_BASE
            && !register
            && let Some(value) = self.literal(item.imm, size)
        {
            return self.put_constant(item.rd, value);
        }
        let mem = self.operand(item, mode, register);
        // The flags may have moved.
        self.mark();
        match transfer {
            Transfer::Load(size) => {
                let t = self.result(item.rd, Reg::RAX);
                self.load(size, t, mem);
                self.write_back(item, mode);
                self.put(item.rd, t);
            }
            Transfer::LoadSigned(size) => {
                let t = self.result(item.rd, Reg::RAX);
                self.guest_access();
                match size {
                    0 => self.a.movsx8(Size::D, t, mem),
                    _ => self.a.movsx16(Size::D, t, mem),
                }
                self.write_back(item, mode);
                self.put(item.rd, t);
            }
            Transfer::Store(size) => {
                let t = self.held(item.rd, Reg::RAX);
                self.store(size, mem, t);
                self.write_back(item, mode);
            }
            Transfer::LoadDual => {
                let back = if register { None } else { self.unless_odd(item, mem) };
                // One access of 8 bytes.
                self.guest_access();
                self.a.mov(Size::Q, Reg::RAX, mem);
                if register {
                    // The sum is in rcx.
                    self.write_back(item, mode);
                }
                self.a.rorx(Size::Q, Reg::RCX, Reg::RAX, 32);
                if let Some(back) = back {
                    self.a.bind(back);
                }
                if !register {
                    self.write_back(item, mode);
                }
                for (guest, half) in [(item.rd, Reg::RAX), (item.ra, Reg::RCX)] {
                    let t = self.result(guest, half);
                    self.a.mov(Size::D, t, half);
                    self.put(guest, t);
                }
            }
            Transfer::StoreDual => {
                self.store_dual(item, mem);
                self.write_back(item, mode);
            }
        }
    }

    /// Makes LDRD two accesses, of rax and rcx, if its address is no multiple of 8, and returns where both
    /// ways meet. There the architecture asks for no single access (manual E2.2.1), and two words that
    /// compilers load together were often stored apart: the host would have to wait until these stores have
    /// reached its cache. Does nothing if that would take more to keep the flags than it is likely to gain.
    fn unless_odd(&mut self, item: &Instruction, mem: Mem) -> Option<Label> {
        if item.it != 0 || item.condition < ALWAYS || self.live_before && !self.flags.saved() {
            return None;
        }
        self.clobber();
        self.mark();
        let back = self.a.label();
        let split = self.stub(Cold::TwoWords { mem, pc: self.pc, back });
        self.a.test_imm8(mem.base, 4);
        self.a.jump_if(if mem.disp & 4 == 0 { Cc::Ne } else { Cc::E }, split);
        Some(back)
    }

    /// STRD. One access of 8 bytes, as [`Transfer::LoadDual`] is: the host forwards two stores to one load
    /// only when they have reached its cache. Keeps EFLAGS, and rcx if the operand may need it, or it holds
    /// the sum that is written back.
    fn store_dual(&mut self, item: &Instruction, mem: Mem) {
        let is_free = !matches!(item.action, Action::Access { register: true, .. });
        let low = match self.general_host(item.rd) {
            Some(host) => host,
            None if is_free => self.held(item.rd, Reg::RCX),
            None => {
                let t = self.held(item.rd, Reg::RAX);
                self.store(2, mem, t);
                let u = self.held(item.ra, Reg::RAX);
                return self.store(2, mem.plus(4), u);
            }
        };
        // rax = the second register << 32 | the first.
        self.a.rorx(Size::Q, Reg::RAX, self.rm(item.ra), 32);
        self.a.lea(Size::Q, Reg::RAX, Mem { index: Some((low, 0)), ..at(Reg::RAX, 0) });
        self.guest_access();
        self.a.mov_to(Size::Q, mem, Reg::RAX);
    }

    pub(super) fn load(&mut self, size: u8, reg: Reg, mem: Mem) {
        self.guest_access();
        match size {
            0 => self.a.movzx8(reg, mem),
            1 => self.a.movzx16(reg, mem),
            _ => self.a.mov(Size::D, reg, mem),
        }
    }

    pub(super) fn store(&mut self, size: u8, mem: Mem, reg: Reg) {
        self.guest_access();
        match size {
            0 => self.a.store8(mem, reg),
            1 => self.a.store16(mem, reg),
            _ => self.a.mov_to(Size::D, mem, reg),
        }
    }

    /// LDR of PC: the place into `reg`.
    pub(super) fn load_target(&mut self, item: &Instruction, reg: Reg) {
        let Action::Access { mode, register, .. } = item.action else { return };
        let mem = self.operand(item, mode, register);
        self.mark();
        self.load(2, reg, mem);
        self.write_back(item, mode);
    }

    /// LDM and STM. What is loaded for PC is left in rax.
    pub(super) fn multiple(&mut self, item: &Instruction) {
        let Action::Multiple { loads } = item.action else { return };
        let (list, extra) = (item.imm, item.extra);
        let length = 4 * list.count_ones();
        let up = extra & UP != 0;
        // Where the lowest register lies, from the base.
        let start = match (up, extra & BEFORE != 0) {
            (true, false) => 0,
            (true, true) => 4,
            (false, true) => length.wrapping_neg(),
            (false, false) => 4u32.wrapping_sub(length),
        };
        // It does not change before the last access.
        let base = self.held(item.rn, Reg::RDX);
        self.mark();
        let offset = |n: u32| start.wrapping_add(4 * (list & ((1 << n) - 1)).count_ones());
        let others = (0..16).filter(|n| list >> n & 1 == 1);
        for n in others.filter(|&n| n != 15 && place(n) != item.rn) {
            self.transfer(loads, place(n), at(base, offset(n)));
        }
        if list >> 15 & 1 == 1 {
            if loads {
                self.load(2, Reg::RAX, at(base, offset(15)));
            } else {
                self.fetch(PC, Reg::RAX);
                self.store(2, at(base, offset(15)), Reg::RAX);
            }
        }
        // The base comes last: until then the instruction can be run again.
        if let Some(n) = (0..15).find(|&n| list >> n & 1 == 1 && place(n) == item.rn) {
            if loads && list >> 15 & 1 == 1 {
                self.load(2, Reg::RCX, at(base, offset(n)));
                self.put(item.rn, Reg::RCX);
            } else {
                self.transfer(loads, item.rn, at(base, offset(n)));
            }
        }
        if extra & WRITE_BACK != 0 {
            let moved = if up { length } else { length.wrapping_neg() };
            let t = self.result(item.rn, Reg::RDX);
            self.a.lea(Size::D, t, at(base, moved));
            self.put_moved(item.rn, t, moved);
        }
    }

    fn transfer(&mut self, loads: bool, guest: u8, mem: Mem) {
        if loads {
            let t = self.result(guest, Reg::RCX);
            self.load(2, t, mem);
            self.put(guest, t);
        } else {
            let t = self.held(guest, Reg::RCX);
            self.store(2, mem, t);
        }
    }
}
