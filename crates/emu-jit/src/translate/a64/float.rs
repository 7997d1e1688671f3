//! Scalar floating point (manual C4.1.97), single and double precision.
//!
//! What other guests compute likewise is in [`crate::translate::vectors::scalar`].

use super::registers::{ZERO, destination, source};
use super::{Lowered, ONE, Translator, bit, bits};
use crate::flag_form::slot_of_nzcv;
use crate::layout::{Slot, X0, X1, slot, vector};
use crate::translate::condition::{Condition, Flags};
use crate::translate::flags::wants_swap;
use crate::translate::vectors::immediate::expand_immediate;
use crate::translate::vectors::scalar::scalar_size;
use crossdock_emu_guest::a64::facts;
use crossdock_emu_x64::{Alu, Cc, Map, Prefix, Reg, Size, Xmm};

/// Vd.
pub(super) fn vd(word: u32) -> u8 {
    bits(word, 4, 0) as u8
}

/// Vn.
pub(super) fn vn(word: u32) -> u8 {
    bits(word, 9, 5) as u8
}

/// Vm.
pub(super) fn vm(word: u32) -> u8 {
    bits(word, 20, 16) as u8
}

impl Translator<'_> {
    pub(super) fn float(&mut self, word: u32) -> Lowered {
        let double = match bits(word, 23, 22) {
            0 => false,
            1 => true,
            2 => return self.float_move_high(word),
            _ => return self.float_from_half(word),
        };
        if bit(word, 29) {
            return Lowered::No;
        }
        if bit(word, 24) {
            return self.fused(word, double);
        }
        if !bit(word, 21) {
            return self.float_fixed_point(word, double);
        }
        if bits(word, 15, 10) == 0 {
            return self.float_integer(word, double);
        }
        if bit(word, 31) {
            return Lowered::No;
        }
        match bits(word, 11, 10) {
            0 if bits(word, 14, 12) & 1 == 1 => self.float_immediate(word, double),
            0 if bits(word, 15, 10) == 0b00_1000 => self.float_compare(word, double),
            0 if bits(word, 14, 10) == 0b1_0000 => self.float_one_source(word, double),
            1 => self.float_compare_if(word, double),
            2 => self.float_two_source(word, double),
            3 => self.float_select(word, double),
            _ => Lowered::No,
        }
    }

    /// FMOV Xd, Vn.D\[1\] and FMOV Vd.D\[1\], Xn.
    fn float_move_high(&mut self, word: u32) -> Lowered {
        match word >> 10 {
            0x0027_ab80 => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                match self.vector_host(vn(word)) {
                    // VPEXTRQ.
                    Some(host) => {
                        self.a.vex(Prefix::P66, Map::M0F3A, true, 0x16, host.0, 0, t);
                        self.a.byte(1);
                    }
                    None => self.a.mov(Size::Q, t, vector(vn(word)).plus(8)),
                }
                self.put(rd, t);
                ONE
            }
            0x0027_abc0 => {
                let n = self.get(source(word, 5), Reg::RAX);
                match self.vector_host(vd(word)) {
                    // VPINSRQ.
                    Some(host) => {
                        self.a.vex(Prefix::P66, Map::M0F3A, true, 0x22, host.0, host.0, n);
                        self.a.byte(1);
                        self.vput(vd(word), host);
                    }
                    None => {
                        self.a.mov_to(Size::Q, vector(vd(word)).plus(8), n);
                        self.zeros.from_32 &= !(1 << vd(word));
                        self.zeros.from_64 &= !(1 << vd(word));
                    }
                }
                ONE
            }
            _ => Lowered::No,
        }
    }

    /// FCVT from half precision. The lanes above are cleared, so that they raise no flag.
    fn float_from_half(&mut self, word: u32) -> Lowered {
        let to_double = match word >> 10 & !(1 << 5) {
            0x0007_b890 => bit(word, 15),
            _ => return Lowered::No,
        };
        if !self.host_float() {
            return Lowered::No;
        }
        let a = self.vget(vn(word), X0);
        let low = self.constant(0xffff);
        self.a.vp(0xdb, X0, a, low);
        // VCVTPH2PS.
        self.a.vp38(0x13, X0, Xmm(0), X0);
        if to_double {
            self.a.vscalar(false, 0x5a, X0, X0, X0);
        }
        self.vput_scalar(to_double, vd(word), X0, true);
        ONE
    }

    fn float_two_source(&mut self, word: u32, double: bool) -> Lowered {
        if !self.host_float() {
            return Lowered::No;
        }
        let (d, n, m) = (vd(word), vn(word), vm(word));
        match bits(word, 15, 12) {
            0 => self.scalar_arithmetic(double, 0x59, d, n, m),
            1 => self.scalar_arithmetic(double, 0x5e, d, n, m),
            2 => self.scalar_arithmetic(double, 0x58, d, n, m),
            3 => self.scalar_arithmetic(double, 0x5c, d, n, m),
            4 | 6 => self.scalar_extreme(double, true, d, n, m),
            5 | 7 => self.scalar_extreme(double, false, d, n, m),
            8 => self.scalar_multiply_negated(double, d, n, m),
            _ => return Lowered::No,
        }
        ONE
    }

    /// FMADD, FMSUB, FNMADD, FNMSUB.
    fn fused(&mut self, word: u32, double: bool) -> Lowered {
        if bit(word, 31) || !self.host_float() {
            return Lowered::No;
        }
        let (negates_addend, subtracts) = (bit(word, 21), bit(word, 15));
        let registers = [vd(word), vn(word), vm(word), bits(word, 14, 10) as u8];
        self.scalar_fused(double, [negates_addend, negates_addend != subtracts], registers);
        ONE
    }

    fn float_one_source(&mut self, word: u32, double: bool) -> Lowered {
        let (d, n, opcode) = (vd(word), vn(word), bits(word, 20, 15));
        let clean = self.vclean(double, n);
        match opcode {
            // FMOV.
            0 => {
                if self.vector_host(n).is_none() {
                    let t = self.vresult(d);
                    self.a.vmov_from(scalar_size(double), t, vector(n));
                    self.vput_scalar(double, d, t, true);
                } else {
                    let a = self.vget(n, X0);
                    self.vput_scalar(double, d, a, clean);
                }
                ONE
            }
            // FABS: the mask clears the upper bits too.
            1 => {
                let mask = self.constant(if double { u128::from(u64::MAX >> 1) } else { 0x7fff_ffff });
                let (a, t) = (self.vget(n, X0), self.vresult(d));
                self.a.vp(0xdb, t, a, mask);
                self.vput_scalar(double, d, t, true);
                ONE
            }
            // FNEG.
            2 => {
                let sign = self.sign_mask(double);
                let (a, t) = (self.vget(n, X0), self.vresult(d));
                self.a.vp(0xef, t, a, sign);
                self.vput_scalar(double, d, t, clean);
                ONE
            }
            _ if !self.host_float() => Lowered::No,
            // To half precision: VCVTPS2PH, to nearest, the lanes above cleared.
            7 if !double => {
                let a = self.vget(n, X0);
                self.vclear(false, X0, a);
                self.a.vp3a(0x1d, X0, Xmm(0), X0, 0);
                self.vput_scalar(false, d, X0, true);
                ONE
            }
            _ => self.float_rounded(double, opcode, d, n),
        }
    }

    /// FSQRT, FCVT between single and double precision, FRINTx.
    fn float_rounded(&mut self, double: bool, opcode: u32, d: u8, n: u8) -> Lowered {
        match opcode {
            3 => self.scalar_root(double, d, n),
            4 if double => self.scalar_narrow(d, n),
            5 if !double => self.scalar_widen(d, n),
            // FRINTN, FRINTP, FRINTM, FRINTZ; FRINTX says whether the value changes; FRINTI.
            8 => self.scalar_round(double, d, n, 8),
            9 => self.scalar_round(double, d, n, 8 | 2),
            10 => self.scalar_round(double, d, n, 8 | 1),
            11 => self.scalar_round(double, d, n, 8 | 3),
            12 => self.scalar_round_away(double, d, n),
            14 => self.scalar_round(double, d, n, 0),
            15 => self.scalar_round(double, d, n, 8),
            _ => return Lowered::No,
        }
        ONE
    }

    /// FMOV (immediate).
    fn float_immediate(&mut self, word: u32, double: bool) -> Lowered {
        if bits(word, 12, 10) != 0b100 || bits(word, 9, 5) != 0 {
            return Lowered::No;
        }
        let value = expand_immediate(double, bits(word, 20, 13));
        let d = vd(word);
        let t = self.vresult(d);
        let constant = self.constant(u128::from(value));
        self.a.vload(t, constant);
        self.vput_scalar(double, d, t, true);
        ONE
    }

    /// Whether the next reader of the flags in the block wants the operands of UCOMIS in reverse order.
    fn swaps(&self) -> bool {
        for &word in self.items[1..].iter().chain(&self.end_item) {
            let Some(facts) = facts(word) else { break };
            if facts.uses_flags {
                return facts.field(b'c', word).is_some_and(wants_swap);
            }
            if facts.sets_flags {
                break;
            }
        }
        false
    }

    /// FCMP, FCMPE, also with zero.
    fn float_compare(&mut self, word: u32, double: bool) -> Lowered {
        let with_zero = bit(word, 3);
        if !self.host_float() || bits(word, 2, 0) != 0 || with_zero && vm(word) != 0 {
            return Lowered::No;
        }
        let swapped = self.swaps();
        self.compare(word, double, swapped, with_zero);
        self.flags = if self.live { Flags::Compare { swapped, saved: false } } else { Flags::Memory };
        ONE
    }

    fn compare(&mut self, word: u32, double: bool, swapped: bool, with_zero: bool) {
        let n = vn(word);
        // The flags may have moved.
        self.mark();
        if with_zero {
            self.a.vp(0xef, X1, X1, X1);
        }
        let (first, second) = match (swapped, with_zero) {
            (false, false) => (self.vget(n, X0), self.vrm(vm(word))),
            (false, true) => (self.vget(n, X0), X1.into()),
            (true, false) => (self.vget(vm(word), X0), self.vrm(n)),
            (true, true) => (X1, self.vrm(n)),
        };
        if bit(word, 4) {
            self.a.vcomis(double, first, second);
        } else {
            self.a.vucomis(double, first, second);
        }
    }

    /// FCCMP, FCCMPE.
    fn float_compare_if(&mut self, word: u32, double: bool) -> Lowered {
        if !self.host_float() {
            return Lowered::No;
        }
        let condition = self.condition(bits(word, 15, 12));
        let (otherwise, done) = (self.a.label(), self.a.label());
        self.jump_on(condition.not(), otherwise);
        let swapped = self.swaps();
        self.compare(word, double, swapped, false);
        if condition == Condition::Always {
            self.a.bind(otherwise);
            self.flags = Flags::Compare { swapped, saved: false };
            self.a.bind(done);
            return ONE;
        }
        self.flags = Flags::Compare { swapped, saved: false };
        self.save_flags();
        self.a.jump(done);
        self.a.bind(otherwise);
        let flags = slot_of_nzcv(bits(word, 3, 0) << 28);
        self.a.mov_imm(Reg::RAX, flags);
        self.a.mov_to(Size::D, slot(Slot::Flags), Reg::RAX);
        self.a.bind(done);
        self.flags = Flags::Memory;
        ONE
    }

    /// FCSEL.
    fn float_select(&mut self, word: u32, double: bool) -> Lowered {
        let (d, n, m) = (vd(word), vn(word), vm(word));
        let condition = self.condition(bits(word, 15, 12));
        let size = scalar_size(double);
        self.scalar_bits(double, Reg::RAX, n);
        if condition != Condition::Always {
            self.scalar_bits(double, Reg::RCX, m);
            self.unless(condition, size, Reg::RAX, Reg::RCX.into());
        }
        let t = self.vresult(d);
        self.a.vmov_from(size, t, Reg::RAX);
        self.vput_scalar(double, d, t, true);
        ONE
    }

    /// Conversions from and to general registers, and moves.
    fn float_integer(&mut self, word: u32, double: bool) -> Lowered {
        let wide = bit(word, 31);
        let size = scalar_size(wide);
        match (bits(word, 20, 19), bits(word, 18, 16)) {
            // FMOV.
            (0, 6) if wide == double => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                self.scalar_bits(double, t, vn(word));
                self.put(rd, t);
                ONE
            }
            (0, 7) if wide == double => {
                let d = vd(word);
                let t = self.vresult(d);
                if source(word, 5) == ZERO {
                    self.a.vp(0xef, t, t, t);
                } else {
                    self.a.vmov_from(size, t, self.rm(source(word, 5)));
                }
                self.vput_scalar(double, d, t, true);
                ONE
            }
            (3, 6) if double && !wide && self.host_float() => self.javascript_convert(word),
            (_, 6 | 7) => Lowered::No,
            _ if !self.host_float() => Lowered::No,
            (0, 2) => {
                let n = source(word, 5);
                self.a.vp(0xef, X0, X0, X0);
                if n == ZERO {
                    self.vput_scalar(double, vd(word), X0, true);
                } else {
                    self.a.vconvert(double, size, 0x2a, X0.0, X0.0, self.rm(n));
                    self.vput_scalar(double, vd(word), X0, true);
                }
                ONE
            }
            (0, 3) => {
                self.copy(size, Reg::RAX, source(word, 5));
                self.unsigned_to_float(double, wide, vd(word));
                ONE
            }
            (mode, opcode @ (0 | 1)) => self.float_to_integer(
                double,
                wide,
                opcode == 1,
                Some(mode as u8),
                vn(word),
                destination(word, 0),
            ),
            (0, opcode @ (4 | 5)) => {
                self.float_to_integer(double, wide, opcode == 5, None, vn(word), destination(word, 0))
            }
            _ => Lowered::No,
        }
    }

    /// FJCVTZS: numbers that do not fit go to the interpreter. Z says that the integer is the number, bit for
    /// bit.
    fn javascript_convert(&mut self, word: u32) -> Lowered {
        let (back, slow) = self.slow_way();
        let a = self.vget(vn(word), X0);
        self.convert_in_one(true, false, true, Reg::RAX, a);
        self.unless_too_large(Size::D, slow);
        if self.live {
            self.a.vp(0xef, X1, X1, X1);
            self.a.vconvert(true, Size::D, 0x2a, X1.0, X1.0, Reg::RAX);
            self.a.vmov_to(Size::Q, Reg::RDX, X1);
            self.a.vmov_to(Size::Q, Reg::RCX, a);
            self.a.alu(Alu::Cmp, Size::Q, Reg::RDX, Reg::RCX);
            self.a.mov_imm(Reg::RCX, slot_of_nzcv(0));
            self.a.mov_imm(Reg::RDX, slot_of_nzcv(1 << 30));
            self.a.cmov(Cc::E, Size::D, Reg::RCX, Reg::RDX);
            self.a.mov_to(Size::D, slot(Slot::Flags), Reg::RCX);
        }
        self.put(destination(word, 0), Reg::RAX);
        self.a.bind(back);
        ONE
    }

    /// SCVTF, UCVTF, FCVTZS, FCVTZU with fraction bits; scaling by a power of two is exact.
    fn float_fixed_point(&mut self, word: u32, double: bool) -> Lowered {
        let (wide, scale) = (bit(word, 31), bits(word, 15, 10));
        if !self.host_float() || !wide && scale < 32 {
            return Lowered::No;
        }
        let size = scalar_size(wide);
        let fraction = u64::from(64 - scale);
        let power = |exponent: u64| u128::from(if double { exponent << 52 } else { exponent << 23 });
        let bias = if double { 1023 } else { 127 };
        match bits(word, 20, 16) {
            opcode @ (2 | 3) => {
                let n = source(word, 5);
                self.copy(size, Reg::RAX, n);
                if opcode == 2 {
                    self.a.vp(0xef, X0, X0, X0);
                    self.a.vconvert(double, size, 0x2a, X0.0, X0.0, Reg::RAX);
                } else {
                    if wide {
                        self.clobber_but_rax();
                    }
                    self.unsigned_to_xmm0(double, wide);
                }
                let divisor = self.constant(power(bias - fraction));
                self.a.vscalar(double, 0x59, X0, X0, divisor);
                self.vput_scalar(double, vd(word), X0, true);
                ONE
            }
            opcode @ (0b1_1000 | 0b1_1001) => {
                let (back, slow) = self.slow_way();
                let a = self.vget(vn(word), X0);
                self.unless_small(double, opcode & 1 == 1, a, slow);
                let factor = self.constant(power(bias + fraction));
                self.a.vscalar(double, 0x59, X0, a, factor);
                self.convert_to_rax(double, wide, opcode & 1 == 1, Some(3), X0, slow);
                self.put(destination(word, 0), Reg::RAX);
                self.a.bind(back);
                ONE
            }
            _ => Lowered::No,
        }
    }

    /// UCVTF of rax, which is zero-extended from 32 bits unless it is `wide`.
    fn unsigned_to_float(&mut self, double: bool, wide: bool, d: u8) {
        if wide {
            self.clobber_but_rax();
        }
        self.unsigned_to_xmm0(double, wide);
        self.vput_scalar(double, d, X0, true);
    }

    /// `FCVT[NPMZA][SU]`: `mode` is the manual's; `None` is nearest with ties away.
    fn float_to_integer(
        &mut self,
        double: bool,
        wide: bool,
        unsigned: bool,
        mode: Option<u8>,
        n: u8,
        rd: u8,
    ) -> Lowered {
        if !self.wary && !unsigned && matches!(mode, Some(0 | 3)) {
            let (a, t) = (self.vget(n, X0), self.result(rd, Reg::RAX));
            self.convert_in_one(double, wide, mode == Some(3), t, a);
            self.put(rd, t);
            return ONE;
        }
        let (back, slow) = self.slow_way();
        let a = self.vget(n, X0);
        self.convert_to_rax(double, wide, unsigned, mode, a, slow);
        self.put(rd, Reg::RAX);
        self.a.bind(back);
        ONE
    }
}
