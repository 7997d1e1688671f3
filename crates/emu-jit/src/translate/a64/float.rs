//! Scalar floating point (manual C4.1.97), single and double precision.
//!
//! The host computes, with the guest's rounding (FPCR is 0 here) and flags. Cases in which it differs are
//! left to the interpreter: the host signals invalid operations, signalling NaNs and integers that do not fit
//! before it writes a result ([`Translator::host_float`]). A quiet NaN passes through an operation of two
//! operands as on Arm, the first before the second; fused operations check for it first. A wary instruction
//! ([`Translator::wary`]) finds these cases by comparisons. No operand is overwritten before that.

use super::facts::flag_use;
use super::registers::{ZERO, destination, source};
use super::{Lowered, ONE, Translator, bit, bits};
use crate::flag_form::slot_of_nzcv;
use crate::layout::{Slot, X0, X1, X2, slot, vector};
use crate::translate::condition::{Condition, Flags};
use crate::translate::flags::wants_swap;
use crossdock_emu_x64::{Alu, Cc, Label, Map, Prefix, Reg, Shift, Size, Xmm};

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

/// VFPExpandImm for single or double precision.
pub(super) fn expand_immediate(double: bool, imm8: u32) -> u64 {
    let (sign, top, low) = (u64::from(imm8 >> 7), imm8 >> 6 & 1, u64::from(imm8 & 63));
    if double {
        let exponent = if top == 1 { 0x3fc0_0000_0000_0000 } else { 0x4000_0000_0000_0000 };
        sign << 63 | exponent | low << 48
    } else {
        let exponent = if top == 1 { 0x3e00_0000 } else { 0x4000_0000 };
        sign << 31 | exponent | low << 19
    }
}

/// The end of the fast way, and the slow way, if an instruction has one.
pub(super) type Way = Option<(Label, Label)>;

/// The operand size of a scalar's bits.
fn scalar_size(double: bool) -> Size {
    if double { Size::Q } else { Size::D }
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
            return if bit(word, 31) { Lowered::No } else { self.fused(word, double) };
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

    /// Jumps to the interpreter if `t` is a NaN and the instruction is wary.
    fn unless_nan(&mut self, double: bool, t: Xmm, way: Way) {
        if self.wary
            && let Some((_, slow)) = way
        {
            self.a.vucomis(double, t, t);
            self.a.jump_if(Cc::P, slow);
        }
    }

    /// Like [`Translator::unless_nan`], for a product, quotient or narrower number: if subnormal numbers are
    /// flushed, the smallest normal number goes to the interpreter too, since Arm tests before rounding and
    /// the host after it. Changes rax and rcx.
    fn unless_scalar_special(&mut self, double: bool, t: Xmm, way: Way) {
        self.unless_nan(double, t, way);
        if self.flushes()
            && let Some((_, slow)) = way
        {
            let size = scalar_size(double);
            self.a.vmov_to(size, Reg::RAX, t);
            self.a.alu(Alu::Add, size, Reg::RAX, Reg::RAX);
            self.a.mov_imm(Reg::RCX, if double { 1 << 53 } else { 1 << 24 });
            self.a.alu(Alu::Cmp, size, Reg::RAX, Reg::RCX);
            self.a.jump_if(Cc::E, slow);
        }
    }

    /// Returns where to go on, and the way there through the interpreter. EFLAGS are free from here.
    pub(super) fn slow_way(&mut self) -> (Label, Label) {
        self.clobber();
        // The flags may have moved.
        self.mark();
        let back = self.a.label();
        (back, self.slow_path(back))
    }

    /// [`Translator::slow_way`] if the instruction is wary, for NaNs.
    pub(super) fn nan_way(&mut self) -> Way {
        self.wary.then(|| self.slow_way())
    }

    /// [`Translator::slow_way`] if the instruction is wary or subnormal numbers are flushed.
    pub(super) fn special_way(&mut self) -> Way {
        (self.wary || self.flushes()).then(|| self.slow_way())
    }

    /// Ends the fast way.
    pub(super) fn way_ends(&mut self, way: Way) {
        if let Some((back, _)) = way {
            self.a.bind(back);
        }
    }

    /// Where to compute a result: in its own register, unless the slow way needs an operand from there.
    pub(super) fn target(&self, way: Way, d: u8, operands: &[u8]) -> Xmm {
        if way.is_some() && operands.contains(&d) { X0 } else { self.vresult(d) }
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
            8 => {
                let way = self.special_way();
                let a = self.vget(n, X0);
                self.a.vscalar(double, 0x59, X0, a, self.vrm(m));
                self.unless_scalar_special(double, X0, way);
                let sign = self.sign_mask(double);
                self.a.vp(0xef, X0, X0, sign);
                self.vput_scalar(double, d, X0, self.vclean(double, n));
                self.way_ends(way);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// The sign of one scalar.
    fn sign_mask(&mut self, double: bool) -> crossdock_emu_x64::Rm {
        self.constant(if double { 1 << 63 } else { 1 << 31 })
    }

    /// FADD, FSUB, FMUL, FDIV by the host's opcode.
    pub(super) fn scalar_arithmetic(&mut self, double: bool, opcode: u8, d: u8, n: u8, m: u8) {
        let scales = matches!(opcode, 0x59 | 0x5e);
        let way = if scales { self.special_way() } else { self.nan_way() };
        let t = self.target(way, d, &[n, m]);
        let a = self.vget(n, X0);
        self.a.vscalar(double, opcode, t, a, self.vrm(m));
        if scales {
            self.unless_scalar_special(double, t, way);
        } else {
            self.unless_nan(double, t, way);
        }
        // The upper bits are the first operand's.
        self.vput_scalar(double, d, t, self.vclean(double, n));
        self.way_ends(way);
    }

    /// FMAX, FMIN, FMAXNM, FMINNM. If both operands are zero, the host's instructions return the second. So
    /// both orders are computed: the result is negative if both zeros are (FMAX), or if one is (FMIN). The
    /// host's instructions signal quiet NaNs too.
    fn scalar_extreme(&mut self, double: bool, max: bool, d: u8, n: u8, m: u8) {
        let way = self.nan_way();
        let a = self.vget(n, X0);
        let b = self.vget(m, X1);
        if let Some((_, slow)) = way {
            self.a.vucomis(double, a, b);
            self.a.jump_if(Cc::P, slow);
        }
        let opcode = if max { 0x5f } else { 0x5d };
        self.a.vscalar(double, opcode, X2, a, b);
        self.a.vscalar(double, opcode, X0, b, a);
        self.a.vp(if max { 0xdb } else { 0xeb }, X0, X0, X2);
        if self.flushes() {
            // The host's instructions return an operand unchanged.
            let one = self.constant(u128::from(expand_immediate(double, 0x70)));
            self.a.vscalar(double, 0x59, X0, X0, one);
        }
        let clean = self.vclean(double, n) && self.vclean(double, m);
        self.vput_scalar(double, d, X0, clean);
        self.way_ends(way);
    }

    /// FMADD, FMSUB, FNMADD, FNMSUB.
    fn fused(&mut self, word: u32, double: bool) -> Lowered {
        if !self.host_float() {
            return Lowered::No;
        }
        let (d, n, m, a) = (vd(word), vn(word), vm(word), bits(word, 14, 10) as u8);
        let way = self.special_way();
        // VFMADD231, VFNMADD231, VFNMSUB231, VFMSUB231.
        let opcode = match (bit(word, 21), bit(word, 15)) {
            (false, false) => 0xb9,
            (false, true) => 0xbd,
            (true, false) => 0xbf,
            (true, true) => 0xbb,
        };
        let t = if d != a && [n, m].contains(&d) { X0 } else { self.target(way, d, &[n, m, a]) };
        let first = self.vget(n, X1);
        let addend = self.vget(a, t);
        // Of two NaNs, Arm takes the addend and the host a factor. If Arm negates a factor, it negates a NaN
        // there too. VCMP UNORD_S signals these NaNs.
        if !self.wary {
            let negates = bit(word, 15) != bit(word, 21);
            self.a.vscalar(double, 0xc2, X2, addend, if negates { first } else { addend });
            self.a.byte(0x13);
        }
        if addend != t {
            self.a.vload(t, addend);
        }
        self.a.vfused(double, opcode, t, first, self.vrm(m));
        self.unless_scalar_special(double, t, way);
        self.vput_scalar(double, d, t, self.vclean(double, a));
        self.way_ends(way);
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
            // FSQRT.
            3 => {
                let way = self.nan_way();
                let t = self.target(way, d, &[n]);
                let a = self.vget(n, X0);
                self.a.vscalar(double, 0x51, t, a, a);
                self.unless_nan(double, t, way);
                self.vput_scalar(double, d, t, clean);
                self.way_ends(way);
                ONE
            }
            // FCVT between single and double precision: NaNs keep their payload on Arm and on the host.
            4 if double => {
                let way = self.flushes().then(|| self.slow_way());
                let a = self.vget(n, X0);
                self.a.vscalar(true, 0x5a, X0, a, a);
                self.unless_scalar_special(false, X0, way);
                // The second quarter is that of the operand.
                self.vput_scalar(false, d, X0, false);
                self.way_ends(way);
                ONE
            }
            5 if !double => {
                let a = self.vget(n, X0);
                self.a.vscalar(false, 0x5a, X0, a, a);
                self.vput_scalar(true, d, X0, self.vclean(true, n));
                ONE
            }
            // To half precision: VCVTPS2PH, to nearest, the lanes above cleared.
            7 if !double => {
                let a = self.vget(n, X0);
                self.vclear(false, X0, a);
                self.a.vp3a(0x1d, X0, Xmm(0), X0, 0);
                self.vput_scalar(false, d, X0, true);
                ONE
            }
            // FRINTN, FRINTP, FRINTM, FRINTZ; FRINTX says whether the value changes; FRINTI.
            8 => self.scalar_round(double, d, n, 8),
            9 => self.scalar_round(double, d, n, 8 | 2),
            10 => self.scalar_round(double, d, n, 8 | 1),
            11 => self.scalar_round(double, d, n, 8 | 3),
            12 => self.scalar_round_away(double, d, n),
            14 => self.scalar_round(double, d, n, 0),
            15 => self.scalar_round(double, d, n, 8),
            _ => Lowered::No,
        }
    }

    fn scalar_round(&mut self, double: bool, d: u8, n: u8, mode: u8) -> Lowered {
        let a = self.vget(n, X0);
        let t = self.vresult(d);
        self.a.vp3a(0x0a + u8::from(double), t, a, a, mode);
        self.vput_scalar(double, d, t, self.vclean(double, n));
        ONE
    }

    /// FRINTA: the integer part plus twice the fraction, truncated. Both terms are exact.
    fn scalar_round_away(&mut self, double: bool, d: u8, n: u8) -> Lowered {
        let (back, slow) = self.slow_way();
        let a = self.vget(n, X0);
        self.unless_small(double, false, a, slow);
        let round = 0x0a + u8::from(double);
        self.a.vp3a(round, X1, a, a, 8 | 3);
        self.a.vscalar(double, 0x5c, X2, a, X1);
        self.a.vscalar(double, 0x58, X2, X2, X2);
        self.a.vp3a(round, X2, X2, X2, 8 | 3);
        let sign = self.sign_mask(double);
        self.a.vp(0xdb, X0, a, sign);
        self.a.vscalar(double, 0x58, X1, X1, X2);
        self.a.vp(0xeb, X0, X0, X1);
        self.vput_scalar(double, d, X0, self.vclean(double, n));
        self.a.bind(back);
        ONE
    }

    /// Jumps to the interpreter if the magnitude is not below 2^30, or if the value is a NaN or, for an
    /// `unsigned` result, negative. Changes rax and EFLAGS.
    fn unless_small(&mut self, double: bool, unsigned: bool, a: Xmm, slow: Label) {
        self.a.vmov_to(scalar_size(double), Reg::RAX, a);
        let (shift, mask, limit) = if double { (52, 0x7ff, 0x41d) } else { (23, 0xff, 0x9d) };
        self.a.shift_imm(Shift::Shr, scalar_size(double), Reg::RAX, shift);
        if !unsigned {
            self.a.alu_imm(Alu::And, Size::D, Reg::RAX, mask);
        }
        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RAX, limit);
        self.a.jump_if(Cc::Ae, slow);
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
            let (reads, writes) = flag_use(word);
            if reads {
                let condition =
                    if bits(word, 31, 24) == 0x54 { bits(word, 3, 0) } else { bits(word, 15, 12) };
                return wants_swap(condition);
            }
            if writes {
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
        self.a.store16(slot(Slot::Flags), Reg::RAX);
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

    /// `reg` = the bits of a scalar.
    pub(super) fn scalar_bits(&mut self, double: bool, reg: Reg, n: u8) {
        match self.vector_host(n) {
            Some(host) => self.a.vmov_to(scalar_size(double), reg, host),
            None => self.a.mov(scalar_size(double), reg, vector(n)),
        }
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
            self.a.store16(slot(Slot::Flags), Reg::RCX);
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

    /// Like [`Translator::unsigned_to_float`], to xmm0, with zeros above. Changes rcx and EFLAGS if rax is
    /// `wide`.
    pub(super) fn unsigned_to_xmm0(&mut self, double: bool, wide: bool) {
        self.a.vp(0xef, X0, X0, X0);
        if !wide {
            self.a.vconvert(double, Size::Q, 0x2a, X0.0, X0.0, Reg::RAX);
        } else {
            // From 2^63 on, half the number is converted, with the lost bit in the lowest, and doubled.
            self.a.test(Size::Q, Reg::RAX, Reg::RAX);
            let large = self.a.skip_if(Cc::S);
            self.a.vconvert(double, Size::Q, 0x2a, X0.0, X0.0, Reg::RAX);
            let done = self.a.skip();
            self.a.land(large);
            self.a.mov(Size::D, Reg::RCX, Reg::RAX);
            self.a.alu_imm(Alu::And, Size::D, Reg::RCX, 1);
            self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 1);
            self.a.alu(Alu::Or, Size::Q, Reg::RAX, Reg::RCX);
            self.a.vconvert(double, Size::Q, 0x2a, X0.0, X0.0, Reg::RAX);
            self.a.vscalar(double, 0x58, X0, X0, X0);
            self.a.land(done);
        }
    }

    /// [`Translator::clobber`] with rax kept.
    fn clobber_but_rax(&mut self) {
        self.a.mov(Size::Q, Reg::RDX, Reg::RAX);
        self.clobber();
        self.a.mov(Size::Q, Reg::RAX, Reg::RDX);
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

    /// `reg` = `a`, truncated or rounded to nearest. A number that does not fit is signalled; if that is
    /// masked, the result is 2^63 or 2^31.
    fn convert_in_one(&mut self, double: bool, wide: bool, truncate: bool, reg: Reg, a: Xmm) {
        self.a.vconvert(double, scalar_size(wide), if truncate { 0x2c } else { 0x2d }, reg.0, 0, a);
    }

    /// Jumps to the interpreter if the number did not fit in [`Translator::convert_in_one`] and that is
    /// masked.
    fn unless_too_large(&mut self, size: Size, slow: Label) {
        if self.wary {
            self.a.alu_imm(Alu::Cmp, size, Reg::RAX, 1);
            self.a.jump_if(Cc::O, slow);
        }
    }

    /// rax = a converted, zero-extended from 32 bits unless it is `wide`. Jumps to `slow` if `a` does not
    /// fit. Raises no flag that the guest's instruction does not. Changes rcx, xmm0 and xmm1.
    pub(super) fn convert_to_rax(
        &mut self,
        double: bool,
        wide: bool,
        unsigned: bool,
        mode: Option<u8>,
        a: Xmm,
        slow: Label,
    ) {
        let size = scalar_size(wide);
        match (mode, unsigned) {
            (Some(mode @ (0 | 3)), false) => {
                self.convert_in_one(double, wide, mode == 3, Reg::RAX, a);
                self.unless_too_large(size, slow);
            }
            // From 0 up, and within the signed numbers of 64 bits.
            (Some(3), true) => {
                self.a.vmov_to(scalar_size(double), Reg::RAX, a);
                let (shift, limit) = match (double, wide) {
                    (true, true) => (52, 0x43e),
                    (true, false) => (52, 0x41f),
                    (false, true) => (23, 0xbe),
                    (false, false) => (23, 0x9f),
                };
                self.a.shift_imm(Shift::Shr, scalar_size(double), Reg::RAX, shift);
                self.a.alu_imm(Alu::Cmp, Size::D, Reg::RAX, limit);
                self.a.jump_if(Cc::Ae, slow);
                self.a.vconvert(double, Size::Q, 0x2c, Reg::RAX.0, 0, a);
            }
            (Some(mode), _) => {
                self.unless_small(double, unsigned, a, slow);
                // For the host, up is 2 and down is 1; in the manual it is the reverse.
                let mode = [0, 2, 1, 3][usize::from(mode & 3)];
                self.a.vp3a(0x0a + u8::from(double), X0, a, a, mode);
                self.a.vconvert(double, size, 0x2c, Reg::RAX.0, 0, X0);
            }
            (None, _) => {
                self.unless_small(double, unsigned, a, slow);
                self.a.vconvert(double, size, 0x2c, Reg::RAX.0, 0, a);
                self.a.vp(0xef, X1, X1, X1);
                self.a.vconvert(double, size, 0x2a, X1.0, X1.0, Reg::RAX);
                // Twice the fraction, exactly.
                self.a.vscalar(double, 0x5c, X1, a, X1);
                self.a.vscalar(double, 0x58, X1, X1, X1);
                self.a.vconvert(double, size, 0x2c, Reg::RCX.0, 0, X1);
                self.a.alu(Alu::Add, size, Reg::RAX, Reg::RCX);
            }
        }
    }
}
