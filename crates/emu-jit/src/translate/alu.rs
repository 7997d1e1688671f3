//! Arithmetic and shifts of general registers, which guests share.

use super::operands::{SINK, ZERO};
use super::{Isa, Translator};
use crossdock_emu_x64::{Alu, Reg, Rm, Shift, Size};

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
            let t = self.result(rd, Reg::RAX);
            let t =
                if matches!(operand, Operand::Rm(Rm::R(r)) if r == t.0) && rd != rn { Reg::RAX } else { t };
            if rd != rn || t == Reg::RAX {
                self.copy(size, t, rn);
            }
            self.apply(op, size, t, operand);
            self.put(rd, t);
        }
        if set {
            self.set_flags(sub);
        }
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
}
