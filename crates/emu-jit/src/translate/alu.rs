//! Arithmetic, shifts, division and reversal of general registers, which guests share.

use super::operands::{SINK, ZERO};
use super::{Isa, Translator};
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Rm, Shift, Size};

/// The second operand of an operation.
#[derive(Clone, Copy)]
pub(super) enum Operand {
    Rm(Rm),
    Imm(i32),
}

impl<I: Isa> Translator<'_, I> {
    /// `rd = rn op operand` and, with `set`, the flags. The operand is not in rax.
    pub(super) fn arithmetic(&mut self, sub: bool, set: bool, size: Size, rd: u8, rn: u8, operand: Operand) {
        let op = if sub { Alu::Sub } else { Alu::Add };
        if !set {
            self.clobber();
        }
        if set && sub && rd == SINK {
            // CMP
            match operand {
                Operand::Imm(imm) if rn != ZERO => self.a.alu_imm(Alu::Cmp, size, self.rm(rn), imm),
                _ => {
                    let n = self.get(rn, Reg::RAX);
                    self.apply(Alu::Cmp, size, n, operand);
                }
            }
        } else if sub
            && rn == ZERO
            && let Operand::Rm(rm) = operand
        {
            let t = self.result(rd, Reg::RAX);
            self.a.mov(size, t, rm);
            self.a.neg(size, t);
            self.put(rd, t);
        } else {
            self.combine(op, size, rd, rn, operand);
        }
        if set {
            self.set_flags(sub);
        }
    }

    /// `rd = rn op operand`. The operand is not in rax.
    pub(super) fn combine(&mut self, op: Alu, size: Size, rd: u8, rn: u8, operand: Operand) {
        let t = self.result(rd, Reg::RAX);
        let holds_operand = matches!(operand, Operand::Rm(Rm::R(r)) if r == t.0) && rd != rn;
        if holds_operand && rn != ZERO && matches!(op, Alu::Add | Alu::And | Alu::Or | Alu::Xor) {
            self.a.alu(op, size, t, self.rm(rn));
            return self.put(rd, t);
        }
        let t = if holds_operand { Reg::RAX } else { t };
        if rd != rn || t == Reg::RAX {
            self.copy(size, t, rn);
        }
        self.apply(op, size, t, operand);
        self.put(rd, t);
    }

    pub(super) fn apply(&mut self, op: Alu, size: Size, reg: Reg, operand: Operand) {
        match operand {
            Operand::Rm(rm) => self.a.alu(op, size, reg, rm),
            Operand::Imm(imm) => self.a.alu_imm(op, size, reg, imm),
        }
    }

    /// `rcx = rm` shifted by an amount that is not 0.
    pub(super) fn shifted(&mut self, size: Size, rm: u8, kind: u32, amount: u8) {
        let op = match kind {
            0 => Shift::Shl,
            1 => Shift::Shr,
            2 => Shift::Sar,
            _ => {
                let from = if rm == ZERO { self.get(rm, Reg::RCX).into() } else { self.rm(rm) };
                return self.a.rorx(size, Reg::RCX, from, amount);
            }
        };
        self.copy(size, Reg::RCX, rm);
        self.a.shift_imm(op, size, Reg::RCX, amount);
    }

    /// [`Translator::clobber`], unless the instruction sets the flags without reading them.
    pub(super) fn clobber_unless(&mut self, sets: bool) {
        if !sets {
            self.clobber();
        }
    }

    /// `rd = rn / rm`: a division by zero gives zero, and the only overflow gives the dividend.
    pub(super) fn divide(&mut self, size: Size, rd: u8, rn: u8, rm: u8, signed: bool) {
        self.clobber();
        self.copy(size, Reg::RCX, rm);
        self.copy(size, Reg::RAX, rn);
        if signed {
            // For the divisors -1 and 0, the result is -rax or 0.
            self.a.lea(size, Reg::RDX, Mem::at(Reg::RCX, 1));
            self.a.alu_imm(Alu::Cmp, size, Reg::RDX, 1);
            let usual = self.a.skip_if(Cc::A);
            self.a.neg(size, Reg::RAX);
            self.a.test(size, Reg::RCX, Reg::RCX);
            self.a.cmov(Cc::E, size, Reg::RAX, Reg::RCX);
            let over = self.a.skip();
            self.a.land(usual);
            self.a.sign_to_rdx(size);
            self.a.idiv(size, Reg::RCX);
            self.a.land(over);
        } else {
            self.a.alu(Alu::Xor, Size::D, Reg::RDX, Reg::RDX);
            self.a.test(size, Reg::RCX, Reg::RCX);
            let usual = self.a.skip_if(Cc::Ne);
            self.a.mov_imm(Reg::RAX, 0);
            let over = self.a.skip();
            self.a.land(usual);
            self.a.div(size, Reg::RCX);
            self.a.land(over);
        }
        self.put(rd, Reg::RAX);
    }

    /// `rax`: neighbouring groups of `shift` bits change places; `mask` selects every second one.
    pub(super) fn swap_groups(&mut self, size: Size, shift: u8, mask: u64) {
        let mask = if size == Size::Q { mask } else { mask & 0xffff_ffff };
        self.a.mov_imm(Reg::RDX, mask);
        self.a.mov(size, Reg::RCX, Reg::RAX);
        self.a.shift_imm(Shift::Shr, size, Reg::RCX, shift);
        self.a.alu(Alu::And, size, Reg::RCX, Reg::RDX);
        self.a.alu(Alu::And, size, Reg::RAX, Reg::RDX);
        self.a.shift_imm(Shift::Shl, size, Reg::RAX, shift);
        self.a.alu(Alu::Or, size, Reg::RAX, Reg::RCX);
    }

    /// `rd = rn` with its bits in reverse order.
    pub(super) fn reverse_bits(&mut self, size: Size, rd: u8, rn: u8) {
        self.clobber();
        self.copy(size, Reg::RAX, rn);
        self.a.bswap(size, Reg::RAX);
        self.swap_groups(size, 4, 0x0f0f_0f0f_0f0f_0f0f);
        self.swap_groups(size, 2, 0x3333_3333_3333_3333);
        self.swap_groups(size, 1, 0x5555_5555_5555_5555);
        self.put(rd, Reg::RAX);
    }
}
