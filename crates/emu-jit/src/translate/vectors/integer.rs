//! Integer instructions with three operands of one shape (manual C4.1.97, F4.1.10).

use super::form::Form;
use super::lanes::{
    ADD, AND, AND_NOT, EQUAL, GREATER, MAX_SIGNED, MAX_UNSIGNED, MIN_SIGNED, MIN_UNSIGNED, OR, SUB, XOR,
    lanes,
};
use crate::layout::{X0, X1, X2};
use crate::translate::operands::is_part;
use crate::translate::{Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Map, Prefix, Rm, Xmm};

impl<I: Isa> Translator<'_, I> {
    /// A packed instruction by its opcode in a table.
    pub(in crate::translate) fn packed(&mut self, opcode: u16, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        if opcode & 0x100 != 0 {
            self.a.vp38(opcode as u8, d, a, b);
        } else {
            self.a.vp(opcode as u8, d, a, b);
        }
    }

    /// `d` = zeros.
    pub(in crate::translate) fn zero(&mut self, d: Xmm) {
        self.a.vp(XOR, d, d, d);
    }

    /// `d = !a`.
    pub(in crate::translate) fn invert(&mut self, d: Xmm, a: Xmm) {
        let ones = self.constant(u128::MAX);
        self.a.vp(XOR, d, a, ones);
    }

    /// Vd = `t`, of which only the low half counts if `q` is false. Changes xmm0.
    pub(in crate::translate) fn finish(&mut self, q: bool, d: u8, t: Xmm) {
        if q { self.vput(d, t) } else { self.vput_scalar(true, d, t, false) }
    }

    /// Size and Q of a vector or scalar form in which scalars have 64 bits; `None` if it is reserved.
    pub(in crate::translate) fn shape(&self, f: Form) -> Option<(usize, bool)> {
        let (size, scalar) = (f.size, f.scalar);
        let q = f.q && !scalar;
        let ok = if scalar { size == 3 } else { size < 3 || q };
        ok.then_some((size, q))
    }

    /// Three operands of one shape.
    pub(in crate::translate) fn three_same(&mut self, f: Form) -> Lowered {
        let opcode = f.opcode;
        if opcode >= 0b1_1000 {
            return self.float_three_same(f);
        }
        if opcode == 0b0_0011 && !f.scalar {
            return self.vector_logical(f);
        }
        match opcode {
            0b0_0001 | 0b0_0101 => return self.saturating_three(f),
            0b1_0110 => return self.saturating_double_high(f, f.unsigned),
            _ => {}
        }
        let Some((size, q)) = self.shape(f) else { return Lowered::No };
        let unsigned = f.unsigned;
        let simple = match (opcode, unsigned) {
            (0b0_0110, false) => GREATER,
            (0b0_1100, false) => MAX_SIGNED,
            (0b0_1100, true) => MAX_UNSIGNED,
            (0b0_1101, false) => MIN_SIGNED,
            (0b0_1101, true) => MIN_UNSIGNED,
            (0b1_0000, false) => ADD,
            (0b1_0000, true) => SUB,
            (0b1_0001, true) => EQUAL,
            (0b1_0011, false) => [0, 0xd5, 0x140, 0],
            // URHADD: PAVGB, PAVGW.
            (0b0_0010, true) => [0xe0, 0xe3, 0, 0],
            _ => [0; 4],
        }[size];
        if simple != 0 && (!f.scalar || matches!(opcode, 0b0_0110 | 0b1_0000 | 0b1_0001)) {
            let n = self.vget(f.n, X0);
            let t = self.vresult(f.d);
            let m = self.vsource(f.m, X1);
            self.packed(simple, t, n, m);
            self.finish(q, f.d, t);
            return ONE;
        }
        self.three_same_steps(f, opcode, size, q)
    }

    fn three_same_steps(&mut self, f: Form, opcode: u32, size: usize, q: bool) -> Lowered {
        let (unsigned, scalar) = (f.unsigned, f.scalar);
        if scalar && !matches!(opcode, 0b0_0110 | 0b0_0111 | 0b0_1000 | 0b1_0001) {
            return Lowered::No;
        }
        match opcode {
            0b0_1000 if size >= 2 => self.shift_by_register(f, size, q),
            0b1_0100 | 0b1_0101 if size < 3 => self.pairwise_extreme(f, opcode, size, q),
            0b1_0111 if !unsigned => self.add_pairwise(f, size, q),
            _ => {
                let n = self.vget(f.n, X0);
                let m = self.vget(f.m, X1);
                if !self.three_same_result(f, opcode, size, n, m) {
                    return Lowered::No;
                }
                self.finish(q, f.d, X0);
                ONE
            }
        }
    }

    /// xmm0 = the result. Writes nothing and returns false if there is no lowering.
    fn three_same_result(&mut self, f: Form, opcode: u32, size: usize, n: Xmm, m: Xmm) -> bool {
        let unsigned = f.unsigned;
        match (opcode, unsigned) {
            (0b0_0110, true) => self.higher(size, n, m),
            (0b0_0111, false) => {
                self.packed(GREATER[size], X0, m, n);
                self.invert(X0, X0);
            }
            (0b0_0111, true) if size == 3 => {
                self.higher(size, m, n);
                self.invert(X0, X0);
            }
            // n >= m: n is the greater of both.
            (0b0_0111, true) => {
                self.packed(MAX_UNSIGNED[size], X2, n, m);
                self.packed(EQUAL[size], X0, X2, n);
            }
            // CMTST.
            (0b1_0001, false) => {
                self.a.vp(AND, X0, n, m);
                self.zero(X2);
                self.packed(EQUAL[size], X0, X0, X2);
                self.invert(X0, X0);
            }
            // MUL and MLA, MLS.
            (0b1_0011, false) if size == 0 => self.multiply(size, n, m),
            (0b1_0010, _) if size < 3 => {
                self.multiply(size, n, m);
                self.vaccumulate(if unsigned { SUB } else { ADD }[size], f.d);
            }
            // SABD, UABD, SABA, UABA.
            (0b0_1110 | 0b0_1111, _) if size < 3 => {
                self.difference(size, unsigned, n, m);
                if opcode & 1 == 1 {
                    self.vaccumulate(ADD[size], f.d);
                }
            }
            // Halving: n + m = 2 * (n & m) + (n ^ m) = 2 * (n | m) - (n ^ m), n - m = (n ^ m) - 2 * (m & !n).
            (0b0_0000 | 0b0_0010 | 0b0_0100, _) if size < 3 => {
                self.a.vp(XOR, X2, n, m);
                match opcode {
                    0b0_0000 => self.a.vp(AND, X0, n, m),
                    0b0_0010 => self.a.vp(OR, X0, n, m),
                    _ => self.a.vp(AND_NOT, X0, n, m),
                }
                self.shift_right(size, !unsigned, X1, X2, 1);
                match opcode {
                    0b0_0000 => self.packed(ADD[size], X0, X0, X1),
                    0b0_0010 => self.packed(SUB[size], X0, X0, X1),
                    _ => self.packed(SUB[size], X0, X1, X0),
                }
            }
            _ => return false,
        }
        true
    }

    /// xmm0 = xmm0 added to Vd or subtracted from it.
    pub(in crate::translate) fn vaccumulate(&mut self, opcode: u16, d: u8) {
        let old = self.vget(d, X1);
        self.packed(opcode, X0, old, X0);
    }

    /// xmm0 = a > b, unsigned. Changes xmm15.
    fn higher(&mut self, size: usize, a: Xmm, b: Xmm) {
        if size == 3 {
            let signs = lanes(3, 1 << 63);
            let signs = self.constant(signs);
            self.a.vp(XOR, X2, b, signs);
            self.a.vp(XOR, X0, a, signs);
            self.packed(GREATER[3], X0, X0, X2);
        } else {
            // The opposite: a is the smaller of both.
            self.packed(MIN_UNSIGNED[size], X2, a, b);
            self.packed(EQUAL[size], X0, X2, a);
            self.invert(X0, X0);
        }
    }

    /// xmm0 = the low halves of the products. Changes xmm1 and xmm15.
    pub(in crate::translate) fn multiply(&mut self, size: usize, n: Xmm, m: Xmm) {
        match size {
            0 => {
                // Odd bytes in their place, then even bytes.
                let low = self.constant(lanes(1, 0xff));
                self.a.vp(0xd5, X2, n, m);
                self.a.vp(AND, X2, X2, low);
                self.a.vshift_imm(0x71, 2, X0, n, 8);
                self.a.vshift_imm(0x71, 2, X1, m, 8);
                self.a.vp(0xd5, X0, X0, X1);
                self.a.vshift_imm(0x71, 6, X0, X0, 8);
                self.a.vp(OR, X0, X0, X2);
            }
            1 => self.a.vp(0xd5, X0, n, m),
            _ => self.a.vp38(0x40, X0, n, m),
        }
    }

    /// xmm0 = |n - m|. Changes xmm15.
    pub(in crate::translate) fn difference(&mut self, size: usize, unsigned: bool, n: Xmm, m: Xmm) {
        let (max, min) = if unsigned { (MAX_UNSIGNED, MIN_UNSIGNED) } else { (MAX_SIGNED, MIN_SIGNED) };
        self.packed(max[size], X2, n, m);
        self.packed(min[size], X0, n, m);
        self.packed(SUB[size], X0, X2, X0);
    }

    /// AND, BIC, ORR, ORN, EOR, BSL, BIT, BIF: the size field is the opcode.
    fn vector_logical(&mut self, f: Form) -> Lowered {
        let (d, n, m, q) = (f.d, f.n, f.m, f.q);
        let t = self.vresult(d);
        match (f.unsigned, f.size) {
            (false, 0) => {
                let a = self.vget(n, X0);
                let source = self.vsource(m, X1);
                self.a.vp(AND, t, a, source);
            }
            (false, 1) => {
                let b = self.vget(m, X1);
                let source = self.vsource(n, X0);
                self.a.vp(AND_NOT, t, b, source);
            }
            // MOV.
            (false, 2) if n == m && (q || is_part(n)) => {
                let a = self.vget(n, X0);
                self.vmove(q, d, n, a);
                return ONE;
            }
            (false, 2) => {
                let a = self.vget(n, X0);
                let source = self.vsource(m, X1);
                self.a.vp(OR, t, a, source);
            }
            (false, _) => {
                let b = self.vget(m, X1);
                self.invert(X1, b);
                let source = self.vsource(n, X0);
                self.a.vp(OR, t, X1, source);
            }
            (true, 0) if n == m => self.zero(t),
            (true, 0) => {
                let a = self.vget(n, X0);
                let source = self.vsource(m, X1);
                self.a.vp(XOR, t, a, source);
            }
            // BSL: d selects n, else m. BIT: m selects n, else d. BIF: m selects d, else n.
            (true, opcode) => {
                let (select, yes, no) = match opcode {
                    1 => (d, n, m),
                    2 => (m, n, d),
                    _ => (m, d, n),
                };
                let select = self.vget(select, X1);
                let source = self.vsource(yes, X2);
                self.a.vp(AND, X2, select, source);
                let source = self.vsource(no, X0);
                self.a.vp(AND_NOT, X0, select, source);
                self.a.vp(OR, t, X0, X2);
            }
        }
        self.finish(q, d, t);
        ONE
    }

    /// Vd = Vn, which `from` holds.
    fn vmove(&mut self, q: bool, d: u8, n: u8, from: Xmm) {
        let clean = [false, true].map(|double| self.vclean(double, n));
        self.finish(q, d, from);
        for (double, clean) in [false, true].into_iter().zip(clean) {
            if clean && q {
                self.set_vclean(double, d);
            }
        }
    }

    /// SSHL, USHL of 32 and 64 bits. For large counts, the host's shifts give zeros, its arithmetic shifts
    /// the sign.
    fn shift_by_register(&mut self, f: Form, size: usize, q: bool) -> Lowered {
        let (unsigned, wide) = (f.unsigned, size == 3);
        if !unsigned && wide {
            return self.shift_signed_64(f, q);
        }
        let n = self.vget(f.n, X0);
        let m = self.vget(f.m, X1);
        let mask = lanes(size as u32, 0xff);
        let low = self.constant(mask);
        // VPSLLVD and similar instructions have W0, those for 64 bits W1.
        let variable = |x: &mut Self, opcode: u8, d: Xmm, a: Xmm, count: Xmm| {
            x.a.vex(Prefix::P66, Map::M0F38, wide, opcode, d.0, a.0, count);
        };
        self.zero(X2);
        self.packed(SUB[size], X2, X2, m);
        self.a.vp(AND, X2, X2, low);
        if unsigned {
            variable(self, 0x45, X2, n, X2);
            self.a.vp(AND, X1, m, low);
            variable(self, 0x47, X0, n, X1);
            self.a.vp(OR, X0, X0, X2);
        } else {
            // The sign of the count selects.
            variable(self, 0x46, X2, n, X2);
            self.a.vp(AND, X1, m, low);
            variable(self, 0x47, X0, n, X1);
            self.a.vshift_imm(0x72, 6, X1, X1, 24);
            self.a.vp3a(0x4a, X0, X0, X2, X1.0 << 4);
        }
        self.finish(q, f.d, X0);
        ONE
    }

    /// SSHL of 64 bits. The host has no arithmetic shift of these: negative numbers are inverted before and
    /// after.
    fn shift_signed_64(&mut self, f: Form, q: bool) -> Lowered {
        // VPSLLVQ, VPSRLVQ.
        let variable = |x: &mut Self, opcode: u8, d: Xmm, a: Xmm, count: Xmm| {
            x.a.vex(Prefix::P66, Map::M0F38, true, opcode, d.0, a.0, count);
        };
        let ones = self.constant(u128::MAX);
        let low = self.constant(lanes(3, 0xff));
        let n = self.vget(f.n, X0);
        let m = self.vget(f.m, X1);
        self.zero(X2);
        self.packed(GREATER[3], X2, X2, n);
        self.a.vp(XOR, X0, n, X2);
        self.a.vp(XOR, X1, m, ones);
        self.packed(SUB[3], X1, X1, ones);
        self.a.vp(AND, X1, X1, low);
        variable(self, 0x45, X0, X0, X1);
        self.a.vp(XOR, X0, X0, X2);
        let m = self.vget(f.m, X1);
        self.a.vp(AND, X1, m, low);
        let n = self.vget(f.n, X2);
        variable(self, 0x47, X2, n, X1);
        // The sign of the count selects.
        self.a.vshift_imm(0x73, 6, X1, X1, 56);
        self.a.vp3a(0x4b, X0, X2, X0, X1.0 << 4);
        self.finish(q, f.d, X0);
        ONE
    }

    /// Even lanes of b:a to xmm0 (`odd`: odd lanes), for lanes of `8 << size` bits; a and b may be xmm0 and
    /// xmm1. Changes xmm0 and xmm1.
    pub(in crate::translate) fn unzip(&mut self, size: usize, odd: bool, a: Xmm, b: Xmm, d: Xmm) {
        let scratch = if d == X0 { [X0, X1] } else { [d, X1] };
        match (size, odd) {
            (0 | 1, true) => {
                let opcode = 0x71 + size as u8;
                self.a.vshift_imm(opcode, 2, X1, b, 8 << size);
                self.a.vshift_imm(opcode, 2, scratch[0], a, 8 << size);
                self.packed([0x67, 0x12b][size], d, scratch[0], X1);
            }
            (0 | 1, false) => {
                let low = self.constant(lanes(size as u32 + 1, u64::MAX >> (64 - (8 << size))));
                self.a.vp(AND, X1, b, low);
                self.a.vp(AND, scratch[0], a, low);
                self.packed([0x67, 0x12b][size], d, scratch[0], X1);
            }
            // VSHUFPS.
            (2, _) => {
                self.a.vpacked(false, 0xc6, d, a, b);
                self.a.byte(if odd { 0xdd } else { 0x88 });
            }
            _ => self.a.vp(if odd { 0x6d } else { 0x6c }, d, a, b),
        }
    }

    /// Vn and Vm as operands of [`Translator::unzip`]. If they have 64 bits, one register holds both.
    pub(in crate::translate) fn unzip_operands(&mut self, f: Form, size: usize, q: bool) -> (Xmm, Xmm) {
        let n = self.vget(f.n, X0);
        if q || size == 3 {
            return (n, self.vget(f.m, X1));
        }
        let source = self.vsource(f.m, X1);
        self.a.vp(0x6c, X0, n, source);
        (X0, X0)
    }

    /// ADDP.
    fn add_pairwise(&mut self, f: Form, size: usize, q: bool) -> Lowered {
        let (a, b) = self.unzip_operands(f, size, q);
        match size {
            // VPHADDW, VPHADDD.
            1 | 2 => self.a.vp38(size as u8, X0, a, b),
            _ => self.pairs(size, a, b, ADD[size]),
        }
        self.finish(q, f.d, X0);
        ONE
    }

    /// xmm0 = even lanes of b:a op odd lanes. Changes xmm1 and xmm15.
    fn pairs(&mut self, size: usize, a: Xmm, b: Xmm, opcode: u16) {
        if size >= 2 {
            self.unzip(size, false, a, b, X2);
            self.unzip(size, true, a, b, X0);
            self.packed(opcode, X0, X2, X0);
            return;
        }
        // Each lane op the next one; the even lanes of the result are packed.
        let (shift, width) = (0x71 + size as u8, 8 << size);
        self.a.vshift_imm(shift, 2, X2, a, width);
        self.packed(opcode, X2, a, X2);
        if a == b {
            self.a.vload(X0, X2);
        } else {
            self.a.vshift_imm(shift, 2, X0, b, width);
            self.packed(opcode, X0, b, X0);
        }
        self.unzip(size, false, X2, X0, X0);
    }

    /// SMAXP, UMAXP, SMINP, UMINP.
    fn pairwise_extreme(&mut self, f: Form, opcode: u32, size: usize, q: bool) -> Lowered {
        let table = match (opcode & 1 == 1, f.unsigned) {
            (false, false) => MAX_SIGNED,
            (false, true) => MAX_UNSIGNED,
            (true, false) => MIN_SIGNED,
            (true, true) => MIN_UNSIGNED,
        };
        let (a, b) = self.unzip_operands(f, size, q);
        self.pairs(size, a, b, table[size]);
        self.finish(q, f.d, X0);
        ONE
    }
}
