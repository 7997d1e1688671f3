//! Saturating integers of Advanced SIMD, vectors and scalars (manual C4.1.97).
//!
//! Lanes outside of the form are zeros in the operands; for zeros, all instructions here give zeros and do
//! not saturate. If a lane saturates, code after the unit's blocks sets FPSR.QC.

use super::form::Form;
use super::lanes::{ADD, AND, AND_NOT, EQUAL, GREATER, MAX_UNSIGNED, MIN_UNSIGNED, OR, SUB, XOR, lanes};
use crate::layout::{X0, X1, X2};
use crate::translate::{Cold, Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Cc, Map, Prefix, Size, Xmm};

/// The smallest signed number of `8 << size` bits, in all lanes.
fn smallest(size: usize) -> u128 {
    lanes(size as u32, 1 << ((8 << size) - 1))
}

impl<I: Isa> Translator<'_, I> {
    /// A register with the lanes that the form uses, of `8 << size` bits, and zeros elsewhere.
    fn active(&mut self, f: Form, size: usize, n: u8, scratch: Xmm) -> Xmm {
        let scalar = f.scalar;
        if !scalar && f.q {
            return self.vget(n, scratch);
        }
        match (scalar, size) {
            (true, 0 | 1) => {
                let a = self.vget(n, scratch);
                let lane = self.constant(u128::from(u64::MAX >> (64 - (8 << size))));
                self.a.vp(AND, scratch, a, lane);
            }
            (true, 2) => match self.vector_host(n) {
                Some(host) => self.vclear(false, scratch, host),
                None => self.a.vmov_from(Size::D, scratch, self.vrm(n)),
            },
            _ => self.vget_clear(scratch, n),
        }
        scratch
    }

    /// Vd = `t`, whose lanes outside of the form are zeros.
    fn put_active(&mut self, f: Form, size: usize, t: Xmm) {
        self.vput(f.d, t);
        if f.scalar || !f.q {
            self.set_vclean(!f.scalar || size == 3, f.d);
        }
    }

    /// QC = 1 if a bit of `mask` is set. EFLAGS are free.
    pub(in crate::translate) fn note_saturation(&mut self, mask: Xmm) {
        let back = self.a.label();
        let saturated = self.stub(Cold::Saturated { back });
        self.a.vex(Prefix::P66, Map::M0F38, false, 0x17, mask.0, 0, mask);
        self.a.jump_if(Cc::Ne, saturated);
        self.a.bind(back);
    }

    /// QC = 1 if `a` and `b` differ. Changes xmm15.
    fn note_difference(&mut self, a: Xmm, b: Xmm) {
        self.a.vp(XOR, X2, a, b);
        self.note_saturation(X2);
    }

    /// The size of the lanes, if the form exists: vectors of 64-bit lanes need Q.
    fn saturating_form(f: Form) -> Option<usize> {
        let size = f.size;
        (size < 3 || f.scalar || f.q).then_some(size)
    }

    /// SQADD, UQADD, SQSUB, UQSUB.
    pub(in crate::translate) fn saturating_three(&mut self, f: Form) -> Lowered {
        let Some(size) = Self::saturating_form(f) else { return Lowered::No };
        let subtract = match f.opcode {
            0b0_0001 => false,
            0b0_0101 => true,
            _ => return Lowered::No,
        };
        self.clobber();
        let n = self.active(f, size, f.n, X0);
        let m = self.active(f, size, f.m, X1);
        self.saturating_sum(size, f.unsigned, subtract, n, m);
        self.put_active(f, size, X0);
        ONE
    }

    /// xmm0 = a + b or a - b, saturated. `a` is not xmm1 or xmm15, `b` not xmm0 or xmm15; all three change.
    fn saturating_sum(&mut self, size: usize, unsigned: bool, subtract: bool, a: Xmm, b: Xmm) {
        let plain = if subtract { SUB } else { ADD }[size];
        match (size, unsigned, subtract) {
            (0 | 1, ..) => {
                let saturating = match (subtract, unsigned) {
                    (false, false) => [0xec, 0xed],
                    (false, true) => [0xdc, 0xdd],
                    (true, false) => [0xe8, 0xe9],
                    (true, true) => [0xd8, 0xd9],
                }[size];
                self.packed(plain, X2, a, b);
                self.a.vp(saturating, X0, a, b);
                self.note_difference(X0, X2);
            }
            (_, false, _) => {
                self.packed(plain, X2, a, b);
                // Overflow: in a sum, both operands' signs differ from the result's; in a difference, the
                // sign of `a` differs from those of `b` and of the result.
                self.a.vp(XOR, X1, b, if subtract { a } else { X2 });
                self.a.vp(XOR, X0, a, X2);
                self.a.vp(AND, X1, X1, X0);
                self.shift_right(size, true, X1, X1, (8 << size) - 1);
                // The limit whose sign the result does not have.
                self.shift_right(size, true, X0, X2, (8 << size) - 1);
                let limit = self.constant(smallest(size));
                self.a.vp(XOR, X0, X0, limit);
                self.a.vp3a(0x4c, X0, X2, X0, X1.0 << 4);
                self.note_saturation(X1);
            }
            (2, true, false) => {
                self.packed(plain, X2, a, b);
                self.packed(MAX_UNSIGNED[2], X0, X2, a);
                self.packed(EQUAL[2], X0, X0, X2);
                self.invert(X1, X0);
                self.a.vp(OR, X0, X2, X1);
                self.note_saturation(X1);
            }
            (_, true, _) => {
                self.packed(plain, X2, a, b);
                // Overflow: a sum is below an operand, or a subtrahend above the other operand.
                let signs = self.constant(smallest(size));
                self.a.vp(XOR, X1, if subtract { b } else { X2 }, signs);
                self.a.vp(XOR, X0, a, signs);
                if subtract {
                    self.packed(GREATER[size], X1, X1, X0);
                    self.a.vp(AND_NOT, X0, X1, X2);
                } else {
                    self.packed(GREATER[size], X1, X0, X1);
                    self.a.vp(OR, X0, X2, X1);
                }
                self.note_saturation(X1);
            }
        }
    }

    /// Replaces the smallest number in lanes of xmm0, which an operation gave for a result that is too large,
    /// by the largest.
    fn saturate_smallest(&mut self, size: usize) {
        let limit = self.constant(smallest(size));
        self.packed(EQUAL[size], X1, X0, limit);
        self.a.vp(XOR, X0, X0, X1);
        self.note_saturation(X1);
    }

    /// SQDMULH, SQRDMULH, also by element.
    pub(in crate::translate) fn saturating_double_high(&mut self, f: Form, rounds: bool) -> Lowered {
        let size = f.size;
        if size != 1 && size != 2 {
            return Lowered::No;
        }
        self.clobber();
        let n = self.active(f, size, f.n, X0);
        let m = self.saturating_second(f, size);
        match (size, rounds) {
            (1, true) => self.a.vp38(0x0b, X0, n, m),
            (1, false) => {
                self.a.vp(0xe5, X2, n, m);
                self.a.vp(0xd5, X0, n, m);
                self.a.vshift_imm(0x71, 6, X2, X2, 1);
                self.a.vshift_imm(0x71, 2, X0, X0, 15);
                self.a.vp(OR, X0, X0, X2);
            }
            _ => self.double_high_of_32(n, m, rounds),
        }
        self.saturate_smallest(size);
        self.put_active(f, size, X0);
        ONE
    }

    /// xmm0 = the high halves of 2 * n * m. Changes xmm1 and xmm15.
    fn double_high_of_32(&mut self, n: Xmm, m: Xmm, rounds: bool) {
        // VPMULDQ of even lanes, then of odd ones.
        self.a.vp38(0x28, X2, n, m);
        self.a.vshift_imm(0x73, 2, X1, m, 32);
        self.a.vshift_imm(0x73, 2, X0, n, 32);
        self.a.vp38(0x28, X0, X0, X1);
        for product in [X2, X0] {
            self.packed(ADD[3], product, product, product);
            if rounds {
                let half = self.constant(lanes(3, 1 << 31));
                self.packed(ADD[3], product, product, half);
            }
        }
        self.a.vshift_imm(0x73, 2, X2, X2, 32);
        self.a.vp3a(0x0e, X0, X2, X0, 0xcc);
    }

    /// Vm, or its element in all lanes.
    fn saturating_second(&mut self, f: Form, size: usize) -> Xmm {
        if f.lane.is_none() {
            return self.active(f, size, f.m, X1);
        }
        self.duplicate(size as u8, X1, f.m, f.lane.unwrap_or(0));
        X1
    }

    /// SQDMULL, SQDMLAL, SQDMLSL, also by element: the product and a sum saturate.
    pub(in crate::translate) fn saturating_double_long(
        &mut self,
        f: Form,
        accumulates: Option<bool>,
    ) -> Lowered {
        let size = f.size;
        if size != 1 && size != 2 {
            return Lowered::No;
        }
        let (scalar, high) = (f.scalar, f.q);
        self.clobber();
        if f.lane.is_some() || scalar {
            let m = self.saturating_second(f, size);
            self.extend(size, false, X1, m.into());
        } else {
            self.widen(size, false, high, X1, f.m);
        }
        if scalar {
            let n = self.active(f, size, f.n, X0);
            self.extend(size, false, X0, n.into());
        } else {
            self.widen(size, false, high, X0, f.n);
        }
        self.a.vp38(if size == 1 { 0x40 } else { 0x28 }, X0, X0, X1);
        self.packed(ADD[size + 1], X0, X0, X0);
        self.saturate_smallest(size + 1);
        if let Some(subtract) = accumulates {
            self.a.vload(X1, X0);
            let d = if scalar { self.active(f, size + 1, f.d, X0) } else { self.vget(f.d, X0) };
            self.saturating_sum(size + 1, false, subtract, d, X1);
        }
        self.vput(f.d, X0);
        if scalar {
            self.set_vclean(size == 2, f.d);
        }
        ONE
    }

    /// SQABS, SQNEG.
    pub(in crate::translate) fn saturating_sign(&mut self, f: Form) -> Lowered {
        let Some(size) = Self::saturating_form(f) else { return Lowered::No };
        self.clobber();
        let n = self.active(f, size, f.n, X0);
        self.zero(X2);
        match (f.unsigned, size) {
            (true, _) => self.packed(SUB[size], X0, X2, n),
            (false, 0..3) => self.a.vex(Prefix::P66, Map::M0F38, false, 0x1c + size as u8, X0.0, 0, n),
            (false, _) => {
                self.packed(GREATER[3], X2, X2, n);
                self.a.vp(XOR, X0, n, X2);
                self.packed(SUB[3], X0, X0, X2);
            }
        }
        self.saturate_smallest(size);
        self.put_active(f, size, X0);
        ONE
    }

    /// SQSHL, UQSHL, SQSHLU by an immediate: a number that shifting back does not restore has saturated.
    pub(in crate::translate) fn saturating_shift(&mut self, f: Form, size: usize, by: u8) -> Lowered {
        if !f.scalar && size == 3 && !f.q {
            return Lowered::No;
        }
        let (unsigned, from_signed) = (f.unsigned, f.opcode == 0b0_1100);
        let width = 8u8 << size;
        self.clobber();
        let mut n = self.active(f, size, f.n, X0);
        if from_signed {
            self.shift_right(size, true, X2, n, width - 1);
            self.a.vp(AND_NOT, X0, X2, n);
            self.note_saturation(X2);
            n = X0;
        }
        self.shift_left(size, X1, n, by);
        if by == 0 {
            self.a.vload(X2, X1);
        } else {
            self.shift_right(size, !unsigned, X2, X1, by);
        }
        self.packed(EQUAL[size], X2, X2, n);
        if unsigned {
            self.invert(X2, X2);
            self.a.vp(OR, X0, X1, X2);
        } else {
            self.shift_right(size, true, X0, n, width - 1);
            let limit = self.constant(!smallest(size));
            self.a.vp(XOR, X0, X0, limit);
            self.a.vp3a(0x4c, X0, X0, X1, X2.0 << 4);
            self.invert(X2, X2);
        }
        self.note_saturation(X2);
        self.put_active(f, size, X0);
        ONE
    }

    /// SQXTN, UQXTN, SQXTUN (`kind` 1 to 3).
    pub(in crate::translate) fn saturating_extract(&mut self, f: Form, size: usize, kind: u32) -> Lowered {
        if size > 2 {
            return Lowered::No;
        }
        self.clobber();
        let n = if f.scalar { self.active(f, size + 1, f.n, X0) } else { self.vget(f.n, X0) };
        self.saturate_narrow(f, size, kind, n);
        ONE
    }

    /// SQSHRN, UQSHRN, SQSHRUN and the rounding ones.
    pub(in crate::translate) fn saturating_shift_narrow(&mut self, f: Form, size: usize, by: u8) -> Lowered {
        let (to_unsigned, rounds) = (f.opcode & 2 == 0, f.opcode & 1 == 1);
        let kind = match (to_unsigned, f.unsigned) {
            (true, _) => 3,
            (false, false) => 1,
            (false, true) => 2,
        };
        self.clobber();
        let n = if f.scalar { self.active(f, size + 1, f.n, X0) } else { self.vget(f.n, X0) };
        if rounds {
            self.rounding_shift(size + 1, kind != 2, n, by);
        } else {
            self.shift_right(size + 1, kind != 2, X0, n, by);
        }
        self.saturate_narrow(f, size, kind, X0);
        ONE
    }

    /// Vd's half = the lanes of `n`, of `16 << size` bits, narrowed; `kind` as in
    /// [`Translator::saturating_extract`].
    fn saturate_narrow(&mut self, f: Form, size: usize, kind: u32, n: Xmm) {
        if size == 2 {
            return self.saturate_narrow_64(f, kind, n);
        }
        // VPACKSSWB, VPACKSSDW, VPACKUSWB, VPACKUSDW; VPMOVSX and VPMOVZX undo it.
        let (pack, back) = match kind {
            1 => ([0x63, 0x6b][size], [0x20, 0x23][size]),
            _ => ([0x67, 0x12b][size], [0x30, 0x33][size]),
        };
        if kind == 2 {
            // Packing treats its operands as signed.
            let max = self.constant(lanes(size as u32 + 1, u64::MAX >> (64 - (8 << size))));
            self.packed(MIN_UNSIGNED[size + 1], X1, n, max);
            self.note_difference(X1, n);
            self.packed(pack, X0, X1, X1);
        } else {
            self.packed(pack, X1, n, n);
            self.a.vex(Prefix::P66, Map::M0F38, false, back, X2.0, 0, X1);
            self.note_difference(X2, n);
            self.a.vload(X0, X1);
        }
        self.write_half(f, X0);
    }

    /// Lanes of 64 bits to 32: the high halves show whether the low halves are the whole numbers.
    fn saturate_narrow_64(&mut self, f: Form, kind: u32, n: Xmm) {
        self.a.vpshufd(X1, n, 0xdd);
        self.a.vpshufd(X0, n, 0x88);
        if kind == 1 {
            self.a.vshift_imm(0x72, 4, X2, X0, 31);
            self.packed(EQUAL[2], X2, X2, X1);
            self.a.vshift_imm(0x72, 4, X1, X1, 31);
            let limit = self.constant(!smallest(2));
            self.a.vp(XOR, X1, X1, limit);
            self.a.vp3a(0x4c, X0, X1, X0, X2.0 << 4);
            self.invert(X2, X2);
        } else {
            self.zero(X2);
            self.packed(EQUAL[2], X2, X1, X2);
            self.invert(X2, X2);
            self.a.vp(OR, X0, X0, X2);
            if kind == 3 {
                self.a.vshift_imm(0x72, 4, X1, X1, 31);
                self.a.vp(AND_NOT, X0, X1, X0);
            }
        }
        self.note_saturation(X2);
        self.write_half(f, X0);
    }
}
