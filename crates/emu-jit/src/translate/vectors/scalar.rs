//! Scalar floating point of single and double precision, lowered for all guests.
//!
//! The host computes, with the guest's rounding and flags. Cases in which it differs are left to the
//! interpreter: the host signals invalid operations, signalling NaNs and integers that do not fit before it
//! writes a result ([`Translator::host_float`]). A quiet NaN passes through an operation of two operands as
//! on Arm, the first before the second; fused operations check for it first. A wary instruction
//! ([`Translator::wary`]) finds these cases by comparisons. No operand is overwritten before that.

use super::immediate::expand_immediate;
use super::lanes::{ADD, AND, UNORDERED, UNORDERED_QUIET, above_smallest};
use crate::layout::{X0, X1, X2, vector};
use crate::translate::operands::is_part;
use crate::translate::{Isa, Translator};
use crossdock_emu_x64::{Alu, Cc, Label, Reg, Rm, Shift, Size, Xmm};

/// The end of the fast way, and the slow way, if an instruction has one.
pub(in crate::translate) type Way = Option<(Label, Label)>;

/// The operand size of a scalar's bits.
pub(in crate::translate) fn scalar_size(double: bool) -> Size {
    if double { Size::Q } else { Size::D }
}

impl<I: Isa> Translator<'_, I> {
    /// Jumps to the interpreter if `t` is a NaN and the instruction is wary; signals a NaN if it must become
    /// the canonical one.
    pub(in crate::translate) fn unless_nan(&mut self, double: bool, t: Xmm, way: Way) {
        if self.wary
            && let Some((_, slow)) = way
        {
            self.a.vucomis(double, t, t);
            self.a.jump_if(Cc::P, slow);
        } else if I::CANONICAL_NANS {
            debug_assert_ne!(t, X2);
            // It signals all NaNs, in half of the host's operations that VCOMIS takes.
            self.a.vscalar(double, 0xc2, X2, t, t);
            self.a.byte(UNORDERED);
        }
    }

    /// Whether a result may go to the interpreter, so that the operands must stay until it is looked at.
    fn looks_at_nans(&self) -> bool {
        self.wary || I::CANONICAL_NANS
    }

    /// Like [`Translator::unless_nan`], for a product, quotient or narrower number: if subnormal numbers are
    /// flushed, the smallest normal number goes to the interpreter too, since Arm tests before rounding and
    /// the host after it. So do NaNs if `nans`, or if the instruction is wary. No operand must have been
    /// overwritten. Changes xmm15.
    ///
    /// An addition of integers makes a NaN of such a result ([`above_smallest`]), and a comparison signals
    /// it. That needs neither a branch nor EFLAGS.
    pub(in crate::translate) fn unless_scalar_special(&mut self, double: bool, nans: bool, t: Xmm, way: Way) {
        if !self.flushes() {
            return self.unless_nan(double, t, way);
        }
        debug_assert_ne!(t, X2);
        let log2 = 2 + usize::from(double);
        match way {
            Some((_, slow)) => {
                let (sign, smallest) = if double { (1 << 63, 1 << 52) } else { (1 << 31, 1 << 23) };
                let (magnitude, smallest) = (self.constant(sign - 1), self.constant(smallest));
                self.a.vp(AND, X2, t, magnitude);
                // Unordered operands set ZF as equal ones do.
                self.a.vucomis(double, X2, smallest);
                self.a.jump_if(Cc::E, slow);
            }
            None => {
                let addend = self.constant(above_smallest(log2 as u32).into());
                self.a.vp(ADD[log2] as u8, X2, t, addend);
                self.a.vscalar(double, 0xc2, X2, if nans { t } else { X2 }, X2);
                self.a.byte(if nans { UNORDERED } else { UNORDERED_QUIET });
            }
        }
    }

    /// Returns where to go on, and the way there through the interpreter. EFLAGS are free from here.
    pub(in crate::translate) fn slow_way(&mut self) -> (Label, Label) {
        self.clobber();
        // The flags may have moved.
        self.mark();
        let back = self.a.label();
        (back, self.slow_path(back))
    }

    /// [`Translator::slow_way`] if the instruction is wary.
    pub(in crate::translate) fn nan_way(&mut self) -> Way {
        self.wary.then(|| self.slow_way())
    }

    /// Ends the fast way.
    pub(in crate::translate) fn way_ends(&mut self, way: Way) {
        if let Some((back, _)) = way {
            self.a.bind(back);
        }
    }

    /// [`Translator::target`] of a scalar operation, which leaves the bits above as in its first operand;
    /// `looks` says that the result may go to the interpreter.
    pub(in crate::translate) fn scalar_target(&self, looks: bool, d: u8, operands: &[u8]) -> Xmm {
        let needed = looks && operands.contains(&d);
        if needed { X0 } else { self.vresult_like(d, operands[0]) }
    }

    /// Where to compute a result: in its own register, unless the interpreter needs an operand from there.
    pub(in crate::translate) fn target(&self, way: Way, d: u8, operands: &[u8]) -> Xmm {
        let needed = way.is_some() || self.flushes();
        if needed && operands.contains(&d) { X0 } else { self.vresult(d) }
    }

    /// The sign of one scalar.
    pub(in crate::translate) fn sign_mask(&mut self, double: bool) -> Rm {
        self.constant(if double { 1 << 63 } else { 1 << 31 })
    }

    /// FADD, FSUB, FMUL, FDIV by the host's opcode.
    pub(in crate::translate) fn scalar_arithmetic(&mut self, double: bool, opcode: u8, d: u8, n: u8, m: u8) {
        let scales = matches!(opcode, 0x59 | 0x5e);
        let way = self.nan_way();
        let t = self.scalar_target(self.looks_at_nans() || scales && self.flushes(), d, &[n, m]);
        let a = self.vget(n, X0);
        let b = self.vscalar_source(m, X1);
        self.a.vscalar(double, opcode, t, a, b);
        if scales {
            self.unless_scalar_special(double, false, t, way);
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
    pub(in crate::translate) fn scalar_extreme(&mut self, double: bool, max: bool, d: u8, n: u8, m: u8) {
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

    /// `d = a + n * m`, rounded once, with `a` and the product negated before if `negates` says so (FMADD,
    /// FMSUB, FNMADD, FNMSUB; VFMA, VFMS, VFNMA, VFNMS).
    pub(in crate::translate) fn scalar_fused(
        &mut self,
        double: bool,
        negates: [bool; 2],
        [d, n, m, a]: [u8; 4],
    ) {
        // VFMADD231, VFNMADD231, VFNMSUB231, VFMSUB231.
        let opcode = match negates {
            [false, false] => 0xb9,
            [false, true] => 0xbd,
            [true, true] => 0xbf,
            [true, false] => 0xbb,
        };
        let way = self.nan_way();
        let looks = self.looks_at_nans() || self.flushes();
        let t = if d != a && [n, m].contains(&d) { X0 } else { self.scalar_target(looks, d, &[a, n, m]) };
        let first = self.vget(n, X1);
        let addend = self.vget(a, t);
        // Of two NaNs, Arm takes the addend and the host a factor. If Arm negates a factor, it negates a NaN
        // there too. VCMP UNORD_S signals these NaNs, unless those of the result are signalled anyway.
        if !self.looks_at_nans() && !self.flushes() {
            self.a.vscalar(double, 0xc2, X2, addend, if negates[1] { first } else { addend });
            self.a.byte(0x13);
        }
        let mut clean = self.vclean(double, a);
        if addend != t && !clean && !is_part(d) {
            // Not behind the operation, which others wait for.
            self.vclear(double, t, addend);
            clean = true;
        } else if addend != t {
            self.a.vload(t, addend);
        }
        let second = self.vscalar_source(m, X2);
        self.a.vfused(double, opcode, t, first, second);
        self.unless_scalar_special(double, true, t, way);
        self.vput_scalar(double, d, t, clean);
        self.way_ends(way);
    }

    /// `d = ±d ± n * m`, with two roundings (VMLA, VMLS, VNMLA, VNMLS).
    pub(in crate::translate) fn scalar_accumulate(
        &mut self,
        double: bool,
        negates: bool,
        subtracts: bool,
        [d, n, m]: [u8; 3],
    ) {
        let way = self.nan_way();
        let a = self.vget(n, X0);
        let b = self.vscalar_source(m, X1);
        self.a.vscalar(double, 0x59, X1, a, b);
        self.unless_scalar_special(double, false, X1, way);
        let sign = self.sign_mask(double);
        // A NaN is negated, too.
        if subtracts {
            self.a.vp(0xef, X1, X1, sign);
        }
        let mut addend = self.vget(d, X0);
        let mut t = self.scalar_target(self.wary, d, &[d]);
        if negates {
            self.a.vp(0xef, X0, addend, sign);
            addend = X0;
            if self.wary {
                t = X0;
            }
        }
        self.a.vscalar(double, 0x58, t, addend, X1);
        self.unless_nan(double, t, way);
        self.vput_scalar(double, d, t, self.vclean(double, d));
        self.way_ends(way);
    }

    /// FSQRT, VSQRT.
    pub(in crate::translate) fn scalar_root(&mut self, double: bool, d: u8, n: u8) {
        let way = self.nan_way();
        let t = self.scalar_target(self.looks_at_nans(), d, &[n]);
        let a = self.vget(n, X0);
        self.a.vscalar(double, 0x51, t, a, a);
        self.unless_nan(double, t, way);
        self.vput_scalar(double, d, t, self.vclean(double, n));
        self.way_ends(way);
    }

    /// FNMUL, VNMUL.
    pub(in crate::translate) fn scalar_multiply_negated(&mut self, double: bool, d: u8, n: u8, m: u8) {
        let way = self.nan_way();
        let a = self.vget(n, X0);
        let b = self.vscalar_source(m, X1);
        self.a.vscalar(double, 0x59, X0, a, b);
        self.unless_scalar_special(double, false, X0, way);
        let sign = self.sign_mask(double);
        self.a.vp(0xef, X0, X0, sign);
        self.vput_scalar(double, d, X0, self.vclean(double, n));
        self.way_ends(way);
    }

    /// A double to a single: NaNs keep their payload on Arm and on the host.
    pub(in crate::translate) fn scalar_narrow(&mut self, d: u8, n: u8) {
        let way = (self.flushes() && self.wary).then(|| self.slow_way());
        let a = self.vget(n, X0);
        self.a.vscalar(true, 0x5a, X0, a, a);
        self.unless_scalar_special(false, false, X0, way);
        // The second quarter is that of the operand.
        self.vput_scalar(false, d, X0, false);
        self.way_ends(way);
    }

    /// A single to a double.
    pub(in crate::translate) fn scalar_widen(&mut self, d: u8, n: u8) {
        let a = self.vget(n, X0);
        self.a.vscalar(false, 0x5a, X0, a, a);
        self.vput_scalar(true, d, X0, self.vclean(true, n));
    }

    /// `d = n` rounded to an integral number by the host's mode.
    pub(in crate::translate) fn scalar_round(&mut self, double: bool, d: u8, n: u8, mode: u8) {
        let a = self.vget(n, X0);
        let t = self.vresult_like(d, n);
        self.a.vp3a(0x0a + u8::from(double), t, a, a, mode);
        self.vput_scalar(double, d, t, self.vclean(double, n));
    }

    /// FRINTA, VRINTA: the integer part plus twice the fraction, truncated. Both terms are exact.
    pub(in crate::translate) fn scalar_round_away(&mut self, double: bool, d: u8, n: u8) {
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
    }

    /// Jumps to the interpreter if the magnitude is not below 2^30, or if the value is a NaN or, for an
    /// `unsigned` result, negative. Changes rax and EFLAGS.
    pub(in crate::translate) fn unless_small(&mut self, double: bool, unsigned: bool, a: Xmm, slow: Label) {
        self.a.vmov_to(scalar_size(double), Reg::RAX, a);
        let (shift, mask, limit) = if double { (52, 0x7ff, 0x41d) } else { (23, 0xff, 0x9d) };
        self.a.shift_imm(Shift::Shr, scalar_size(double), Reg::RAX, shift);
        if !unsigned {
            self.a.alu_imm(Alu::And, Size::D, Reg::RAX, mask);
        }
        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RAX, limit);
        self.a.jump_if(Cc::Ae, slow);
    }

    /// `reg` = the bits of a scalar.
    pub(in crate::translate) fn scalar_bits(&mut self, double: bool, reg: Reg, n: u8) {
        if is_part(n) {
            return self.part_bits(reg, n);
        }
        match self.vector_host(n) {
            Some(host) => self.a.vmov_to(scalar_size(double), reg, host),
            None => self.a.mov(scalar_size(double), reg, vector(n)),
        }
    }

    /// xmm0 = rax converted, which is zero-extended from 32 bits unless it is `wide`; zeros above. Changes
    /// rcx and EFLAGS if rax is `wide`.
    pub(in crate::translate) fn unsigned_to_xmm0(&mut self, double: bool, wide: bool) {
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
    pub(in crate::translate) fn clobber_but_rax(&mut self) {
        self.a.mov(Size::Q, Reg::RDX, Reg::RAX);
        self.clobber();
        self.a.mov(Size::Q, Reg::RAX, Reg::RDX);
    }

    /// `reg` = `a`, truncated or rounded to nearest. A number that does not fit is signalled; if that is
    /// masked, the result is 2^63 or 2^31.
    pub(in crate::translate) fn convert_in_one(
        &mut self,
        double: bool,
        wide: bool,
        truncate: bool,
        reg: Reg,
        a: Xmm,
    ) {
        self.a.vconvert(double, scalar_size(wide), if truncate { 0x2c } else { 0x2d }, reg.0, 0, a);
    }

    /// Jumps to the interpreter if the number did not fit in [`Translator::convert_in_one`] and that is
    /// masked.
    pub(in crate::translate) fn unless_too_large(&mut self, size: Size, slow: Label) {
        if self.wary {
            self.a.alu_imm(Alu::Cmp, size, Reg::RAX, 1);
            self.a.jump_if(Cc::O, slow);
        }
    }

    /// rax = a converted, zero-extended from 32 bits unless it is `wide`. Jumps to `slow` if `a` does not
    /// fit. Raises no flag that the guest's instruction does not. Changes rcx, xmm0 and xmm1.
    pub(in crate::translate) fn convert_to_rax(
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
