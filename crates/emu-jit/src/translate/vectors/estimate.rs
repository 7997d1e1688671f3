//! FRECPE and FRSQRTE of single precision (manual J1.3: FPRecipEstimate, FPRSqrtEstimate).
//!
//! Both are defined by integer arithmetic on the top 8 bits of the fraction. The host's own estimates differ
//! between makers, but are good enough to start from: they are off by one at most, which a multiplication
//! shows. Neither the estimates nor conversions of such small integers raise a flag. Numbers that are not
//! normal go to the interpreter.

use super::float::Lanes;
use super::form::Form;
use super::lanes::{ADD, AND, AND_NOT, GREATER, OR, SUB, lanes};
use crate::layout::{X0, X1, X2};
use crate::translate::{Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Label, Map, Prefix, Rm, Xmm};

/// VPMULLD (map 0F38).
const MULTIPLY: u8 = 0x40;

impl<I: Isa> Translator<'_, I> {
    /// `value` in all lanes of 32 bits.
    fn words(&mut self, value: u32) -> Rm {
        self.constant(lanes(2, u64::from(value)))
    }

    /// Jumps to the interpreter if a number is zero or subnormal. Changes xmm1 and xmm15.
    fn unless_tiny(&mut self, l: Lanes, a: Xmm, slow: Label) {
        let magnitude = self.words(0x7fff_ffff);
        self.a.vp(AND, X2, a, magnitude);
        self.load_constant(X1, lanes(2, 0x0080_0000));
        self.packed(GREATER[2], X1, X1, X2);
        self.unless_any(l, X1, slow);
    }

    pub(in crate::translate) fn estimate(&mut self, f: Form, l: Lanes) -> Lowered {
        if l.double {
            return Lowered::No;
        }
        let root = f.unsigned;
        let (back, slow) = self.slow_way();
        let n = self.lanes_get(l, f.n, X0);
        // The reciprocal of 2^126 is subnormal.
        self.unless_below(l, n, if root { 0x7f80_0000 } else { 0x7e80_0000 }, root, slow);
        self.unless_tiny(l, n, slow);
        if root {
            self.root_estimate(n);
        } else {
            self.reciprocal_estimate(n);
        }
        // Half the estimate, rounded up; xmm0 is one too small. The low 8 bits are the fraction's top.
        let two = self.words(2);
        self.packed(ADD[2], X0, X0, two);
        self.a.vshift_imm(0x72, 2, X0, X0, 1);
        let low = self.words(0xff);
        self.a.vp(AND, X0, X0, low);
        self.a.vshift_imm(0x72, 6, X0, X0, 15);
        let n = self.lanes_get(l, f.n, X1);
        if root {
            // Exponent: (380 - e) / 2.
            self.a.vshift_imm(0x72, 2, X2, n, 23);
            self.load_constant(X1, lanes(2, 380));
            self.packed(SUB[2], X1, X1, X2);
            self.a.vshift_imm(0x72, 2, X1, X1, 1);
            self.a.vshift_imm(0x72, 6, X1, X1, 23);
        } else {
            // Exponent: 253 - e.
            let exponent = self.words(0x7f80_0000);
            self.a.vp(AND, X2, n, exponent);
            let sign = self.words(1 << 31);
            self.a.vp(AND, X1, n, sign);
            self.a.vp(OR, X0, X0, X1);
            self.load_constant(X1, lanes(2, 253 << 23));
            self.packed(SUB[2], X1, X1, X2);
        }
        self.a.vp(OR, X0, X0, X1);
        self.lanes_put(l, f.d, X0, false);
        self.a.bind(back);
        ONE
    }

    /// xmm0 = 2^23 and the fraction of the host's estimate (RCPPS, RSQRTPS) of xmm15, shifted right by 14. In
    /// both cases, xmm15 lies between powers of two for which this is the result, or one off.
    fn start_estimate(&mut self, opcode: u8) {
        self.a.vpacked(false, 0x5b, X0, Xmm(0), X2);
        self.a.vpacked(false, opcode, X0, Xmm(0), X0);
        let fraction = self.words(0x007f_ffff);
        self.a.vp(AND, X0, X0, fraction);
        let one = self.words(0x0080_0000);
        self.a.vp(OR, X0, X0, one);
        self.a.vshift_imm(0x72, 2, X0, X0, 14);
    }

    /// xmm0 = 2^19 / a - 1 for `a = 2 * (256 + top 8 bits) + 1`.
    fn reciprocal_estimate(&mut self, n: Xmm) {
        self.a.vshift_imm(0x72, 2, X2, n, 14);
        let top = self.words(0x1fe);
        self.a.vp(AND, X2, X2, top);
        let one = self.words(0x201);
        self.a.vp(OR, X2, X2, one);
        self.start_estimate(0x53);
        // q * a - 2^19 is above 0 if q is too large, and not above -a if q is too small.
        self.a.vp38(MULTIPLY, X1, X0, X2);
        let dividend = self.words(1 << 19);
        self.packed(SUB[2], X1, X1, dividend);
        self.packed(ADD[2], X2, X2, X1);
        let zero = self.words(0);
        self.packed(GREATER[2], X1, X1, zero);
        self.packed(GREATER[2], X2, X2, zero);
        self.packed(ADD[2], X0, X0, X1);
        self.packed(ADD[2], X0, X0, X2);
    }

    /// xmm0 = b - 1 for the largest b with `a * b * b < 2^28`, where a is 257 plus twice the top 7 bits,
    /// doubled for even exponents.
    fn root_estimate(&mut self, n: Xmm) {
        self.a.vshift_imm(0x72, 2, X1, n, 23);
        let one = self.words(1);
        self.a.vp(AND_NOT, X1, X1, one);
        self.a.vshift_imm(0x72, 2, X2, n, 15);
        let top = self.words(0xfe);
        self.a.vp(AND, X2, X2, top);
        let base = self.words(257);
        self.packed(ADD[2], X2, X2, base);
        // VPSLLVD.
        self.a.vex(Prefix::P66, Map::M0F38, false, 0x47, X2.0, X2.0, X1);
        self.start_estimate(0x52);
        let limit = self.words((1 << 28) - 1);
        for step in 0..2 {
            if step == 0 {
                self.a.vp38(MULTIPLY, X1, X0, X0);
            } else {
                // The next number.
                let less = self.words(u32::MAX);
                self.packed(SUB[2], X1, X0, less);
                self.a.vp38(MULTIPLY, X1, X1, X1);
            }
            self.a.vp38(MULTIPLY, X1, X1, X2);
            self.packed(GREATER[2], X1, X1, limit);
            self.packed(ADD[2], X0, X0, X1);
        }
    }
}
