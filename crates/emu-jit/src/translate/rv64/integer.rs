//! Integer arithmetic.

use super::Translator;
use crate::layout::{X0, X1};
use crate::translate::alu::Operand;
use crate::translate::operands::{SINK, ZERO};
use crate::translate::{Lowered, ONE};
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::{Action, Compute, Unary};
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Rm, Shift, Size};

/// The host's instruction for a shift or rotation.
fn shift_of(kind: Compute) -> Option<Shift> {
    Some(match kind {
        Compute::Sll | Compute::SllUw => Shift::Shl,
        Compute::Srl => Shift::Shr,
        Compute::Sra => Shift::Sar,
        Compute::Rol => Shift::Rol,
        Compute::Ror => Shift::Ror,
        _ => return None,
    })
}

/// The host's instruction for an operation whose operands may change places.
fn commutative(kind: Compute) -> Option<Alu> {
    Some(match kind {
        Compute::Add => Alu::Add,
        Compute::And => Alu::And,
        Compute::Or => Alu::Or,
        Compute::Xor => Alu::Xor,
        _ => return None,
    })
}

/// By how much the first operand of an addition is shifted (Zba).
fn scale(kind: Compute) -> u8 {
    match kind {
        Compute::Sh1add | Compute::Sh1addUw => 1,
        Compute::Sh2add | Compute::Sh2addUw => 2,
        Compute::Sh3add | Compute::Sh3addUw => 3,
        _ => 0,
    }
}

impl Translator<'_> {
    pub(super) fn integer(&mut self, item: &Instruction, action: Action) -> Lowered {
        if item.rd == SINK {
            return ONE;
        }
        match action {
            Action::LoadUpper => return self.upper(item, false),
            Action::AddPc => return self.upper(item, true),
            Action::Compute(kind) => return self.compute(item, kind),
            Action::ComputeImmediate(kind) => return self.compute_immediate(item, kind),
            Action::ComputeWord(kind) => return self.compute_word(item, kind),
            Action::ComputeWordImmediate(kind) => self.compute_word_immediate(item, kind),
            Action::Unary(kind) => return self.unary(item, kind),
            _ => return Lowered::No,
        }
        ONE
    }

    /// CLMUL, CLMULH and CLMULR: the low half of the product without carries, the bits from 64 on, and those
    /// from 63 on.
    fn carryless_product(&mut self, item: &Instruction, kind: Compute) {
        let n = self.get(item.rn, Reg::RAX);
        self.a.vmov_from(Size::Q, X0, n);
        let m = self.get(item.rm, Reg::RAX);
        self.a.vmov_from(Size::Q, X1, m);
        // VPCLMULQDQ.
        self.a.vp3a(0x44, X0, X0, X1, 0);
        if kind != Compute::Clmulh {
            self.a.vmov_to(Size::Q, Reg::RAX, X0);
        }
        if kind != Compute::Clmul {
            // VPSRLDQ.
            self.a.vshift_imm(0x73, 3, X0, X0, 8);
            self.a.vmov_to(Size::Q, Reg::RDX, X0);
        }
        let result = match kind {
            Compute::Clmul => Reg::RAX,
            Compute::Clmulh => Reg::RDX,
            _ => {
                self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 63);
                self.a.alu(Alu::Add, Size::Q, Reg::RDX, Reg::RDX);
                self.a.alu(Alu::Or, Size::Q, Reg::RAX, Reg::RDX);
                Reg::RAX
            }
        };
        self.put(item.rd, result);
    }

    /// The next instruction, if it computes with the current one's result alone, into the same register.
    fn follower(&self, item: &Instruction) -> Option<(Action, u64)> {
        let next = self.items.get(1)?;
        (next.rd == item.rd && next.rn == item.rd).then_some((next.action?, next.imm))
    }

    /// LUI and AUIPC, with an addition that follows.
    fn upper(&mut self, item: &Instruction, is_address: bool) -> Lowered {
        let (value, count) = match self.follower(item) {
            Some((Action::ComputeImmediate(Compute::Add), imm)) => (item.imm.wrapping_add(imm), 2),
            Some((Action::ComputeWordImmediate(Compute::Add), imm)) if !is_address => {
                (Compute::Add.of_words(item.imm, imm), 2)
            }
            _ => (item.imm, 1),
        };
        if is_address {
            self.put_address(item.rd, value);
        } else {
            self.put_constant(item.rd, value);
        }
        Lowered::Words(count)
    }

    /// `rd = rn`.
    fn move_register(&mut self, rd: u8, rn: u8) {
        if rn == ZERO {
            return self.put_constant(rd, 0);
        }
        let t = self.result(rd, Reg::RAX);
        let n = self.get(rn, t);
        self.put(rd, n);
    }

    /// `rd = rn op operand`. The operand is not in rax.
    fn operate(&mut self, op: Alu, rd: u8, rn: u8, operand: Operand) {
        self.clobber();
        let t = self.result(rd, Reg::RAX);
        let is_operand = matches!(operand, Operand::Rm(Rm::R(r)) if r == t.0);
        let t = if is_operand && rd != rn { Reg::RAX } else { t };
        if rd != rn || t == Reg::RAX {
            self.copy(Size::Q, t, rn);
        }
        self.apply(op, Size::Q, t, operand);
        self.put(rd, t);
    }

    /// `rd` = 1 if the condition holds, else 0.
    fn set_on(&mut self, rd: u8, cc: Cc) {
        self.a.set(cc, Reg::RAX);
        let t = self.result(rd, Reg::RAX);
        self.a.movzx8(t, Reg::RAX);
        self.put(rd, t);
    }

    fn compute(&mut self, item: &Instruction, kind: Compute) -> Lowered {
        let (rd, mut n, mut m) = (item.rd, item.rn, item.rm);
        if let Some(op) = commutative(kind) {
            // The result is best computed in an operand's place.
            if rd == m && rd != n || n == ZERO {
                (n, m) = (m, n);
            }
            if m == ZERO {
                if kind == Compute::And {
                    self.put_constant(rd, 0);
                } else {
                    self.move_register(rd, n);
                }
            } else if kind == Compute::Add && rd != n {
                let (a, b) = (self.get(n, Reg::RAX), self.get(m, Reg::RCX));
                let t = self.result(rd, Reg::RAX);
                self.a.lea(Size::Q, t, Mem { base: a, index: Some((b, 0)), disp: 0 });
                self.put(rd, t);
            } else {
                self.operate(op, rd, n, Operand::Rm(self.rm(m)));
            }
            return ONE;
        }
        if let Some(shift) = shift_of(kind) {
            self.shift(shift, Size::Q, rd, n, m);
            return ONE;
        }
        match kind {
            Compute::Sub => self.arithmetic(true, false, Size::Q, rd, n, Operand::Rm(self.rm(m))),
            Compute::Slt | Compute::Sltu => {
                self.clobber();
                let cc = if kind == Compute::Slt { Cc::L } else { Cc::B };
                if n == ZERO {
                    // SGTZ, SNEZ.
                    self.test_zero(m);
                    self.set_on(rd, if kind == Compute::Slt { Cc::G } else { Cc::Ne });
                } else {
                    let n = self.get(n, Reg::RAX);
                    self.a.alu(Alu::Cmp, Size::Q, n, self.rm(m));
                    self.set_on(rd, cc);
                }
            }
            Compute::Mul => {
                self.clobber();
                let t = self.result_early(rd, Reg::RAX, m);
                self.copy(Size::Q, t, n);
                self.a.imul(Size::Q, t, self.rm(m));
                self.put(rd, t);
            }
            Compute::Mulh => {
                self.clobber();
                self.copy(Size::Q, Reg::RAX, n);
                self.a.imul_wide(Size::Q, self.rm(m));
                self.put(rd, Reg::RDX);
            }
            Compute::Mulhu => {
                self.copy(Size::Q, Reg::RDX, n);
                self.a.mulx(Size::Q, Reg::RDX, Reg::RAX, self.rm(m));
                self.put(rd, Reg::RDX);
            }
            Compute::Mulhsu => {
                // The unsigned product, less rm if rn is negative.
                self.clobber();
                self.copy(Size::Q, Reg::RDX, n);
                self.a.mov(Size::Q, Reg::RCX, Reg::RDX);
                self.a.shift_imm(Shift::Sar, Size::Q, Reg::RCX, 63);
                self.a.alu(Alu::And, Size::Q, Reg::RCX, self.rm(m));
                self.a.mulx(Size::Q, Reg::RDX, Reg::RAX, self.rm(m));
                self.a.alu(Alu::Sub, Size::Q, Reg::RDX, Reg::RCX);
                self.put(rd, Reg::RDX);
            }
            Compute::Div | Compute::Divu | Compute::Rem | Compute::Remu => self.quotient(kind, Size::Q, item),
            Compute::AddUw | Compute::Sh1addUw | Compute::Sh2addUw | Compute::Sh3addUw => {
                self.copy(Size::D, Reg::RCX, n);
                self.shifted_sum(rd, Reg::RCX, m, scale(kind));
            }
            Compute::Sh1add | Compute::Sh2add | Compute::Sh3add => {
                let n = self.get(n, Reg::RCX);
                self.shifted_sum(rd, n, m, scale(kind));
            }
            Compute::Andn => {
                self.clobber();
                let m = self.get(m, Reg::RCX);
                let t = self.result(rd, Reg::RAX);
                self.a.andn(Size::Q, t, m, self.rm(n));
                self.put(rd, t);
            }
            Compute::Orn => {
                self.copy(Size::Q, Reg::RCX, m);
                self.a.not(Size::Q, Reg::RCX);
                self.operate(Alu::Or, rd, n, Operand::Rm(Reg::RCX.into()));
            }
            Compute::Xnor => {
                self.copy(Size::Q, Reg::RCX, m);
                self.a.not(Size::Q, Reg::RCX);
                self.operate(Alu::Xor, rd, n, Operand::Rm(Reg::RCX.into()));
            }
            Compute::Max | Compute::Maxu | Compute::Min | Compute::Minu => {
                self.clobber();
                self.copy(Size::Q, Reg::RAX, n);
                self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, self.rm(m));
                let other = match kind {
                    Compute::Max => Cc::L,
                    Compute::Maxu => Cc::B,
                    Compute::Min => Cc::G,
                    _ => Cc::A,
                };
                self.a.cmov(other, Size::Q, Reg::RAX, self.rm(m));
                self.put(rd, Reg::RAX);
            }
            Compute::CzeroEqz | Compute::CzeroNez => {
                self.clobber();
                self.copy(Size::Q, Reg::RAX, n);
                self.a.mov_imm(Reg::RCX, 0);
                self.test_zero(m);
                let zero = if kind == Compute::CzeroEqz { Cc::E } else { Cc::Ne };
                self.a.cmov(zero, Size::Q, Reg::RAX, Reg::RCX);
                self.put(rd, Reg::RAX);
            }
            Compute::Bext => {
                self.clobber();
                let (m, n) = (self.get(m, Reg::RCX), self.get(n, Reg::RAX));
                let t = self.result(rd, Reg::RAX);
                self.a.shiftx(Shift::Shr, Size::Q, t, n, m);
                self.a.alu_imm(Alu::And, Size::D, t, 1);
                self.put(rd, t);
            }
            Compute::Bset | Compute::Binv | Compute::Bclr => {
                self.clobber();
                let m = self.get(m, Reg::RCX);
                self.a.mov_imm(Reg::RDX, 1);
                self.a.shiftx(Shift::Shl, Size::Q, Reg::RCX, Reg::RDX, m);
                self.with_bit(kind, rd, n);
            }
            Compute::Zero => self.put_constant(rd, 0),
            Compute::Clmul | Compute::Clmulh | Compute::Clmulr if self.features.pclmul => {
                self.clobber();
                self.carryless_product(item, kind);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// BSET, BINV, BCLR of the bit in rcx.
    fn with_bit(&mut self, kind: Compute, rd: u8, n: u8) {
        let op = match kind {
            Compute::Bset => Alu::Or,
            Compute::Binv => Alu::Xor,
            _ => {
                self.a.not(Size::Q, Reg::RCX);
                Alu::And
            }
        };
        self.operate(op, rd, n, Operand::Rm(Reg::RCX.into()));
    }

    /// `rd = m + (index << amount)`.
    fn shifted_sum(&mut self, rd: u8, index: Reg, m: u8, amount: u8) {
        let base = self.get(m, Reg::RAX);
        let t = self.result(rd, Reg::RAX);
        self.a.lea(Size::Q, t, Mem { base, index: Some((index, amount)), disp: 0 });
        self.put(rd, t);
    }

    /// A shift or rotation by a register; of words, the result is sign-extended.
    fn shift(&mut self, shift: Shift, size: Size, rd: u8, n: u8, m: u8) {
        let t = if size == Size::Q { self.result(rd, Reg::RAX) } else { Reg::RAX };
        if matches!(shift, Shift::Rol | Shift::Ror) {
            self.clobber();
            self.copy(Size::D, Reg::RCX, m);
            self.copy(size, Reg::RAX, n);
            self.a.shift_cl(shift, size, Reg::RAX);
            if size == Size::D {
                self.a.movsxd(Reg::RAX, Reg::RAX);
            }
            return self.put(rd, Reg::RAX);
        }
        let count = self.get(m, Reg::RCX);
        let from = if n == ZERO { self.get(n, Reg::RAX).into() } else { self.rm(n) };
        self.a.shiftx(shift, size, t, from, count);
        if size == Size::D {
            self.put_word(rd, t);
        } else {
            self.put(rd, t);
        }
    }

    /// `rd` = the low 32 bits of `reg`, sign-extended.
    fn put_word(&mut self, rd: u8, reg: Reg) {
        let t = self.result(rd, Reg::RAX);
        self.a.movsxd(t, reg);
        self.put(rd, t);
    }

    /// DIV, DIVU, REM, REMU: a division by zero gives all ones, and the dividend as the remainder; the only
    /// overflow gives the dividend, and zero.
    fn quotient(&mut self, kind: Compute, size: Size, item: &Instruction) {
        let remainder = matches!(kind, Compute::Rem | Compute::Remu);
        self.clobber();
        self.copy(size, Reg::RCX, item.rm);
        self.copy(size, Reg::RAX, item.rn);
        let usual = if matches!(kind, Compute::Div | Compute::Rem) {
            // The divisors -1 and 0 are done without a division.
            self.a.lea(size, Reg::RDX, Mem::at(Reg::RCX, 1));
            self.a.alu_imm(Alu::Cmp, size, Reg::RDX, 1);
            let usual = self.a.skip_if(Cc::A);
            if remainder {
                self.a.mov_imm(Reg::RDX, 0);
                self.a.test(size, Reg::RCX, Reg::RCX);
                self.a.cmov(Cc::E, size, Reg::RDX, Reg::RAX);
            } else {
                self.a.neg(size, Reg::RAX);
                self.a.mov_imm(Reg::RDX, u64::MAX);
                self.a.test(size, Reg::RCX, Reg::RCX);
                self.a.cmov(Cc::E, size, Reg::RAX, Reg::RDX);
            }
            usual
        } else {
            self.a.test(size, Reg::RCX, Reg::RCX);
            let usual = self.a.skip_if(Cc::Ne);
            if remainder {
                self.a.mov(size, Reg::RDX, Reg::RAX);
            } else {
                self.a.mov_imm(Reg::RAX, u64::MAX);
            }
            usual
        };
        let over = self.a.skip();
        self.a.land(usual);
        if matches!(kind, Compute::Div | Compute::Rem) {
            self.a.sign_to_rdx(size);
            self.a.idiv(size, Reg::RCX);
        } else {
            self.a.alu(Alu::Xor, Size::D, Reg::RDX, Reg::RDX);
            self.a.div(size, Reg::RCX);
        }
        self.a.land(over);
        let result = if remainder { Reg::RDX } else { Reg::RAX };
        if size == Size::D { self.put_word(item.rd, result) } else { self.put(item.rd, result) }
    }

    fn compute_immediate(&mut self, item: &Instruction, kind: Compute) -> Lowered {
        let (rd, n, imm) = (item.rd, item.rn, item.imm);
        if n == ZERO {
            self.put_constant(rd, kind.of(0, imm));
            return ONE;
        }
        match kind {
            Compute::Add if imm == 0 => self.move_register(rd, n),
            Compute::Add => {
                let a = self.get(n, Reg::RAX);
                let t = self.result(rd, Reg::RAX);
                self.a.lea(Size::Q, t, Mem::at(a, imm as i32));
                self.put(rd, t);
            }
            Compute::And if imm == 0xff => {
                let t = self.result(rd, Reg::RAX);
                self.a.movzx8(t, self.rm(n));
                self.put(rd, t);
            }
            Compute::Xor if imm == u64::MAX => {
                let t = self.result(rd, Reg::RAX);
                self.copy(Size::Q, t, n);
                self.a.not(Size::Q, t);
                self.put(rd, t);
            }
            Compute::And => self.operate(Alu::And, rd, n, Operand::Imm(imm as i32)),
            Compute::Or => self.operate(Alu::Or, rd, n, Operand::Imm(imm as i32)),
            Compute::Xor => self.operate(Alu::Xor, rd, n, Operand::Imm(imm as i32)),
            Compute::Slt | Compute::Sltu => {
                self.clobber();
                if kind == Compute::Sltu && imm == 1 {
                    // SEQZ.
                    self.test_zero(n);
                    self.set_on(rd, Cc::E);
                    return ONE;
                }
                self.a.alu_imm(Alu::Cmp, Size::Q, self.rm(n), imm as i32);
                self.set_on(rd, if kind == Compute::Slt { Cc::L } else { Cc::B });
            }
            Compute::Sll => return self.shift_left_by(item),
            Compute::Srl | Compute::Sra => self.shift_by(shift_of(kind).unwrap_or(Shift::Shr), rd, n, imm),
            Compute::SllUw => {
                self.clobber();
                let t = self.result(rd, Reg::RAX);
                self.copy(Size::D, t, n);
                self.a.shift_imm(Shift::Shl, Size::Q, t, imm as u8);
                self.put(rd, t);
            }
            Compute::Ror => {
                let t = self.result(rd, Reg::RAX);
                self.a.rorx(Size::Q, t, self.rm(n), imm as u8);
                self.put(rd, t);
            }
            Compute::Bext => {
                self.shift_by(Shift::Shr, rd, n, imm);
                let t = self.get(rd, Reg::RAX);
                self.a.alu_imm(Alu::And, Size::D, t, 1);
                self.put(rd, t);
            }
            Compute::Bset | Compute::Binv | Compute::Bclr => {
                self.clobber();
                self.a.mov_imm(Reg::RCX, 1 << imm);
                self.with_bit(kind, rd, n);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    fn shift_by(&mut self, shift: Shift, rd: u8, n: u8, amount: u64) {
        self.clobber();
        let t = self.result(rd, Reg::RAX);
        self.copy(Size::Q, t, n);
        if amount != 0 {
            self.a.shift_imm(shift, Size::Q, t, amount as u8);
        }
        self.put(rd, t);
    }

    /// SLLI, with a shift to the right that follows: together they extend a part of the register.
    fn shift_left_by(&mut self, item: &Instruction) -> Lowered {
        let (rd, n) = (item.rd, item.rn);
        let next = match self.follower(item) {
            Some((Action::ComputeImmediate(kind @ (Compute::Srl | Compute::Sra)), right)) => {
                Some((kind == Compute::Sra, right))
            }
            _ => None,
        };
        let t = self.result(rd, Reg::RAX);
        match (item.imm, next) {
            (32, Some((false, right @ ..=32))) => {
                self.copy(Size::D, t, n);
                if right < 32 {
                    self.clobber();
                    self.a.shift_imm(Shift::Shl, Size::Q, t, (32 - right) as u8);
                }
            }
            (32, Some((true, 32))) => self.a.movsxd(t, self.rm(n)),
            (48, Some((false, 48))) => self.a.movzx16(t, self.rm(n)),
            (48, Some((true, 48))) => self.a.movsx16(Size::Q, t, self.rm(n)),
            (56, Some((false, 56))) => self.a.movzx8(t, self.rm(n)),
            (56, Some((true, 56))) => self.a.movsx8(Size::Q, t, self.rm(n)),
            (amount, _) => {
                self.shift_by(Shift::Shl, rd, n, amount);
                return ONE;
            }
        }
        self.put(rd, t);
        Lowered::Words(2)
    }

    fn compute_word(&mut self, item: &Instruction, kind: Compute) -> Lowered {
        let (rd, n, m) = (item.rd, item.rn, item.rm);
        if let Some(shift) = shift_of(kind) {
            self.shift(shift, Size::D, rd, n, m);
            return ONE;
        }
        match kind {
            Compute::Add => {
                let (a, b) = (self.get(n, Reg::RAX), self.get(m, Reg::RCX));
                self.a.lea(Size::D, Reg::RAX, Mem { base: a, index: Some((b, 0)), disp: 0 });
                self.put_word(rd, Reg::RAX);
            }
            Compute::Sub => {
                self.clobber();
                self.copy(Size::D, Reg::RAX, n);
                self.a.alu(Alu::Sub, Size::D, Reg::RAX, self.rm(m));
                self.put_word(rd, Reg::RAX);
            }
            Compute::Mul => {
                self.clobber();
                self.copy(Size::D, Reg::RAX, n);
                self.a.imul(Size::D, Reg::RAX, self.rm(m));
                self.put_word(rd, Reg::RAX);
            }
            Compute::Div | Compute::Divu | Compute::Rem | Compute::Remu => self.quotient(kind, Size::D, item),
            _ => return Lowered::No,
        }
        ONE
    }

    fn compute_word_immediate(&mut self, item: &Instruction, kind: Compute) {
        let (rd, n, imm) = (item.rd, item.rn, item.imm);
        if n == ZERO {
            return self.put_constant(rd, kind.of_words(0, imm));
        }
        let t = self.result(rd, Reg::RAX);
        match kind {
            Compute::Sra => {
                self.clobber();
                self.a.movsxd(t, self.rm(n));
                if imm != 0 {
                    self.a.shift_imm(Shift::Sar, Size::Q, t, imm as u8);
                }
                self.put(rd, t);
            }
            Compute::Sll | Compute::Srl if imm != 0 => {
                self.clobber();
                self.copy(Size::D, t, n);
                let shift = if kind == Compute::Sll { Shift::Shl } else { Shift::Shr };
                self.a.shift_imm(shift, Size::D, t, imm as u8);
                // A shift to the right has cleared the sign.
                if kind == Compute::Sll {
                    self.a.movsxd(t, t);
                }
                self.put(rd, t);
            }
            Compute::Ror => {
                self.a.rorx(Size::D, t, self.rm(n), imm as u8);
                self.a.movsxd(t, t);
                self.put(rd, t);
            }
            Compute::Add if imm != 0 => {
                let a = self.get(n, Reg::RAX);
                self.a.lea(Size::D, t, Mem::at(a, imm as i32));
                self.a.movsxd(t, t);
                self.put(rd, t);
            }
            _ => {
                self.a.movsxd(t, self.rm(n));
                self.put(rd, t);
            }
        }
    }

    fn unary(&mut self, item: &Instruction, kind: Unary) -> Lowered {
        let (rd, n) = (item.rd, item.rn);
        if n == ZERO {
            self.put_constant(rd, kind.of(0));
            return ONE;
        }
        let t = self.result(rd, Reg::RAX);
        match kind {
            Unary::SextB => self.a.movsx8(Size::Q, t, self.rm(n)),
            Unary::SextH => self.a.movsx16(Size::Q, t, self.rm(n)),
            Unary::ZextH => self.a.movzx16(t, self.rm(n)),
            Unary::Rev8 => {
                self.copy(Size::Q, t, n);
                self.a.bswap(Size::Q, t);
            }
            Unary::OrcB => {
                // Ones in the bytes that are not zero.
                let a = self.get(n, Reg::RAX);
                self.a.vmov_from(Size::Q, X0, a);
                self.a.vp(0xef, X1, X1, X1);
                self.a.vp(0x74, X0, X0, X1);
                self.a.vmov_to(Size::Q, t, X0);
                self.a.not(Size::Q, t);
            }
            _ => {
                self.clobber();
                match kind {
                    Unary::Clz => self.a.lzcnt(Size::Q, t, self.rm(n)),
                    Unary::Clzw => self.a.lzcnt(Size::D, t, self.rm(n)),
                    Unary::Ctz => self.a.tzcnt(Size::Q, t, self.rm(n)),
                    Unary::Ctzw => self.a.tzcnt(Size::D, t, self.rm(n)),
                    Unary::Cpop => self.a.popcnt(Size::Q, t, self.rm(n)),
                    _ => self.a.popcnt(Size::D, t, self.rm(n)),
                }
            }
        }
        self.put(rd, t);
        ONE
    }
}
