//! Multiplication and division (manual F2.4.2).

use super::Translator;
use crate::layout::APSR;
use crossdock_emu_guest::a32::Instruction;
use crossdock_emu_guest::a32::action::Action;
use crossdock_emu_guest::a32::registers::Q;
use crossdock_emu_x64::{Alu, Cc, Reg, Shift, Size};

impl Translator<'_> {
    /// Lowers a multiplication or division; false for other instructions.
    pub(super) fn multiplication(&mut self, item: &Instruction) -> bool {
        match item.action {
            Action::Multiply { kind, sets } => self.product(item, kind, sets && self.live_groups[0]),
            Action::MultiplyLong { signed, adds } => self.long_product(item, signed, adds),
            Action::Divide { signed } => self.divide(Size::D, item.rd, item.rn, item.rm, signed),
            Action::MultiplyHalves { adds } => {
                self.clobber();
                self.half(Size::D, Reg::RAX, item.rn, item.extra & 1 != 0);
                self.half(Size::D, Reg::RCX, item.rm, item.extra & 2 != 0);
                self.a.imul(Size::D, Reg::RAX, Reg::RCX);
                self.add_sticky(item, adds);
            }
            Action::MultiplyWordHalf { adds } => {
                self.clobber();
                self.a.movsxd(Reg::RAX, self.rm(item.rn));
                self.half(Size::Q, Reg::RCX, item.rm, item.extra & 2 != 0);
                self.a.imul(Size::Q, Reg::RAX, Reg::RCX);
                self.a.shift_imm(Shift::Sar, Size::Q, Reg::RAX, 16);
                self.a.mov(Size::D, Reg::RAX, Reg::RAX);
                self.add_sticky(item, adds);
            }
            Action::MultiplyHalvesLong => {
                self.clobber();
                self.half(Size::Q, Reg::RAX, item.rn, item.extra & 1 != 0);
                self.half(Size::Q, Reg::RCX, item.rm, item.extra & 2 != 0);
                self.a.imul(Size::Q, Reg::RAX, Reg::RCX);
                self.add_long(item);
                self.put_long(item);
            }
            Action::Dual { subtracts, adds } => {
                self.dual(item, subtracts);
                if adds {
                    self.a.movsxd(Reg::RCX, self.rm(item.ra));
                    self.a.alu(Alu::Add, Size::Q, Reg::RAX, Reg::RCX);
                }
                self.a.movsxd(Reg::RCX, Reg::RAX);
                self.a.alu(Alu::Cmp, Size::Q, Reg::RCX, Reg::RAX);
                self.set_sticky_unless(Cc::E);
                self.a.mov(Size::D, Reg::RAX, Reg::RAX);
                self.put(item.rd, Reg::RAX);
            }
            Action::DualLong { subtracts } => {
                self.dual(item, subtracts);
                self.add_long(item);
                self.put_long(item);
            }
            Action::MostSignificant { kind } => self.most_significant(item, kind),
            Action::MultiplyAddTwice => {
                self.clobber();
                self.a.mov(Size::D, Reg::RAX, self.rm(item.rn));
                self.a.mov(Size::D, Reg::RCX, self.rm(item.rm));
                self.a.imul(Size::Q, Reg::RAX, Reg::RCX);
                for register in [item.rd, item.ra] {
                    self.a.mov(Size::D, Reg::RCX, self.rm(register));
                    self.a.alu(Alu::Add, Size::Q, Reg::RAX, Reg::RCX);
                }
                self.put_long(item);
            }
            _ => return false,
        }
        true
    }

    /// MUL, MLA, MLS; with N and Z if `sets`.
    fn product(&mut self, item: &Instruction, kind: u8, sets: bool) {
        self.clobber();
        self.fetch(item.rn, Reg::RAX);
        self.a.imul(Size::D, Reg::RAX, self.rm(item.rm));
        match kind {
            1 => self.a.alu(Alu::Add, Size::D, Reg::RAX, self.rm(item.ra)),
            2 => {
                self.a.neg(Size::D, Reg::RAX);
                self.a.alu(Alu::Add, Size::D, Reg::RAX, self.rm(item.ra));
            }
            _ => {}
        }
        if sets {
            self.a.test(Size::D, Reg::RAX, Reg::RAX);
            self.set_some_flags(false);
        }
        self.put(item.rd, Reg::RAX);
    }

    /// UMULL, UMLAL, SMULL, SMLAL.
    fn long_product(&mut self, item: &Instruction, signed: bool, adds: bool) {
        self.clobber();
        let source = |t: &mut Self, guest, reg| {
            if signed { t.a.movsxd(reg, t.rm(guest)) } else { t.a.mov(Size::D, reg, t.rm(guest)) }
        };
        source(self, item.rn, Reg::RAX);
        source(self, item.rm, Reg::RCX);
        self.a.imul(Size::Q, Reg::RAX, Reg::RCX);
        if adds {
            self.add_long(item);
        }
        self.put_long(item);
    }

    /// `reg` = a signed half of a register.
    fn half(&mut self, size: Size, reg: Reg, guest: u8, top: bool) {
        if top {
            self.fetch(guest, reg);
            self.a.shift_imm(Shift::Sar, Size::D, reg, 16);
            if size == Size::Q {
                self.a.movsxd(reg, reg);
            }
        } else {
            let from = self.held(guest, reg);
            self.a.movsx16(size, reg, from);
        }
    }

    /// `rd = rax`, plus the accumulator if `adds`: Q is set if that overflows.
    fn add_sticky(&mut self, item: &Instruction, adds: bool) {
        if adds {
            self.a.alu(Alu::Add, Size::D, Reg::RAX, self.rm(item.ra));
            self.set_sticky_unless(Cc::No);
        }
        self.put(item.rd, Reg::RAX);
    }

    /// Sets Q unless the condition holds.
    pub(super) fn set_sticky_unless(&mut self, cc: Cc) {
        let fits = self.a.skip_if(cc);
        self.a.alu_imm(Alu::Or, Size::D, APSR, Q as i32);
        self.a.land(fits);
    }

    /// Adds the accumulator of 64 bits to rax. Changes rcx and rdx.
    fn add_long(&mut self, item: &Instruction) {
        self.a.mov(Size::D, Reg::RCX, self.rm(item.ra));
        self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, 32);
        self.a.mov(Size::D, Reg::RDX, self.rm(item.rd));
        self.a.alu(Alu::Or, Size::Q, Reg::RCX, Reg::RDX);
        self.a.alu(Alu::Add, Size::Q, Reg::RAX, Reg::RCX);
    }

    /// The destinations become the halves of rax.
    fn put_long(&mut self, item: &Instruction) {
        self.a.mov(Size::D, Reg::RCX, Reg::RAX);
        self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32);
        self.put(item.rd, Reg::RCX);
        self.put(item.ra, Reg::RAX);
    }

    /// `rax` = the sum or the difference of the products of halves, of 64 bits.
    fn dual(&mut self, item: &Instruction, subtracts: bool) {
        self.clobber();
        let exchanged = item.extra != 0;
        for (reg, top) in [(Reg::RAX, false), (Reg::RDX, true)] {
            self.half(Size::Q, reg, item.rn, top);
            self.half(Size::Q, Reg::RCX, item.rm, top != exchanged);
            self.a.imul(Size::Q, reg, Reg::RCX);
        }
        self.a.alu(if subtracts { Alu::Sub } else { Alu::Add }, Size::Q, Reg::RAX, Reg::RDX);
    }

    /// SMMUL, SMMLA, SMMLS.
    fn most_significant(&mut self, item: &Instruction, kind: u8) {
        self.clobber();
        self.a.movsxd(Reg::RCX, self.rm(item.rn));
        self.a.movsxd(Reg::RDX, self.rm(item.rm));
        self.a.imul(Size::Q, Reg::RCX, Reg::RDX);
        if kind == 0 {
            self.a.mov(Size::Q, Reg::RAX, Reg::RCX);
        } else {
            self.fetch(item.ra, Reg::RAX);
            self.a.shift_imm(Shift::Shl, Size::Q, Reg::RAX, 32);
            self.a.alu(if kind == 1 { Alu::Add } else { Alu::Sub }, Size::Q, Reg::RAX, Reg::RCX);
        }
        if item.extra != 0 {
            self.a.mov_imm(Reg::RCX, 0x8000_0000);
            self.a.alu(Alu::Add, Size::Q, Reg::RAX, Reg::RCX);
        }
        self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32);
        self.put(item.rd, Reg::RAX);
    }
}
