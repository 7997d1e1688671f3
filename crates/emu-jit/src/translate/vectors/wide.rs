//! Advanced SIMD with operands of two widths, with two registers, by element, and across lanes (manual
//! C4.1.97).

use super::form::Form;
use super::lanes::{
    ADD, AND, BySize, EQUAL, GREATER, MAX_SIGNED, MAX_UNSIGNED, MIN_SIGNED, MIN_UNSIGNED, OR, SUB, XOR,
    bytes, lanes,
};
use crate::layout::{X0, X1, X2};
use crate::translate::{Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Map, Prefix, Xmm};

/// VPSHUFB's operand that reverses lanes of `8 << size` bits within containers of `8 << container` bits.
fn reversal(size: usize, container: usize) -> u128 {
    (0..16u128).fold(0, |order, i| {
        let flip = (1u128 << container) - (1 << size);
        order | (i ^ flip) << (8 * i)
    })
}

impl<I: Isa> Translator<'_, I> {
    /// Instructions that widen or narrow lanes.
    pub(in crate::translate) fn three_different(&mut self, f: Form) -> Lowered {
        let (size, q, unsigned, opcode) = (f.size, f.q, f.unsigned, f.opcode);
        match (opcode, unsigned) {
            (0b1001, false) => return self.saturating_double_long(f, Some(false)),
            (0b1011, false) => return self.saturating_double_long(f, Some(true)),
            (0b1101, false) => return self.saturating_double_long(f, None),
            _ => {}
        }
        if f.scalar {
            return Lowered::No;
        }
        if opcode == 0b1110 {
            return if unsigned { Lowered::No } else { self.polynomial(f, size, q) };
        }
        if size == 3 {
            return Lowered::No;
        }
        let d = f.d;
        match opcode {
            // SADDL, SSUBL and the forms with one wide operand.
            0b0000..=0b0011 => {
                self.widen(size, unsigned, q, X1, f.m);
                let n = if opcode & 1 == 1 {
                    self.vget(f.n, X0)
                } else {
                    self.widen(size, unsigned, q, X0, f.n);
                    X0
                };
                let table = if opcode & 2 == 0 { ADD } else { SUB };
                self.packed(table[size + 1], X0, n, X1);
                self.vput(d, X0);
            }
            // ADDHN, RADDHN, SUBHN, RSUBHN.
            0b0100 | 0b0110 => {
                let table = if opcode & 2 == 0 { ADD } else { SUB };
                let n = self.vget(f.n, X0);
                let source = self.vsource(f.m, X1);
                self.packed(table[size + 1], X0, n, source);
                if unsigned {
                    let half = self.constant(lanes(size as u32 + 1, 1 << ((8 << size) - 1)));
                    self.packed(ADD[size + 1], X0, X0, half);
                }
                self.narrow(f, size, X0, 8 << size);
            }
            // SABAL, SABDL.
            0b0101 | 0b0111 => {
                let n = self.vget(f.n, X0);
                let m = self.vget(f.m, X1);
                self.difference(size, unsigned, n, m);
                if q {
                    self.a.vpshufd(X0, X0, 0xee);
                }
                self.extend(size, true, X0, X0.into());
                if opcode == 0b0101 {
                    self.vaccumulate(ADD[size + 1], d);
                }
                self.vput(d, X0);
            }
            // SMLAL, SMLSL, SMULL.
            0b1000 | 0b1010 | 0b1100 => {
                self.widen(size, unsigned, q, X1, f.m);
                self.widen(size, unsigned, q, X0, f.n);
                self.multiply_long(f, size, opcode);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// Vd = xmm0 * xmm1, whose lanes have been extended, or that product added to Vd or subtracted from it.
    fn multiply_long(&mut self, f: Form, size: usize, opcode: u32) {
        let d = f.d;
        match size {
            0 => self.a.vp(0xd5, X0, X0, X1),
            1 => self.a.vp38(0x40, X0, X0, X1),
            // VPMULUDQ, VPMULDQ.
            _ if f.unsigned => self.a.vp(0xf4, X0, X0, X1),
            _ => self.a.vp38(0x28, X0, X0, X1),
        }
        match opcode {
            0b1000 | 0b0010 => self.vaccumulate(ADD[size + 1], d),
            0b1010 | 0b0110 if opcode != 0b1010 || f.lane.is_none() => self.vaccumulate(SUB[size + 1], d),
            _ => {}
        }
        self.vput(d, X0);
    }

    /// PMULL of 64 bits.
    fn polynomial(&mut self, f: Form, size: usize, q: bool) -> Lowered {
        if size != 3 || !self.features.pclmul {
            return Lowered::No;
        }
        let n = self.vget(f.n, X0);
        let m = self.vget(f.m, X1);
        let t = self.vresult(f.d);
        self.a.vp3a(0x44, t, n, m, if q { 0x11 } else { 0x00 });
        self.vput(f.d, t);
        ONE
    }

    /// Instructions with an element of Vm.
    pub(in crate::translate) fn by_element(&mut self, f: Form) -> Lowered {
        let (size, scalar, unsigned, opcode) = (f.size, f.scalar, f.unsigned, f.opcode);
        if matches!(opcode, 0b0001 | 0b0101 | 0b1001) {
            return self.float_by_element(f);
        }
        match (opcode, unsigned) {
            (0b1110, _) if size == 2 && !scalar => return self.dot_product(f),
            (0b0011, false) => return self.saturating_double_long(f, Some(false)),
            (0b0111, false) => return self.saturating_double_long(f, Some(true)),
            (0b1011, false) => return self.saturating_double_long(f, None),
            (0b1100 | 0b1101, false) => return self.saturating_double_high(f, opcode & 1 == 1),
            _ => {}
        }
        if scalar || size != 1 && size != 2 {
            return Lowered::No;
        }
        let (q, d) = (f.q, f.d);
        let (register, lane) = (f.m, f.lane.unwrap_or(0));
        match (opcode, unsigned) {
            // MUL, MLA, MLS.
            (0b1000, false) | (0b0000 | 0b0100, true) => {
                self.duplicate(size as u8, X1, register, lane);
                let n = self.vget(f.n, X0);
                self.multiply(size, n, X1);
                match opcode {
                    0b0000 => self.vaccumulate(ADD[size], d),
                    0b0100 => self.vaccumulate(SUB[size], d),
                    _ => {}
                }
                self.finish(q, d, X0);
            }
            // SMLAL, SMLSL, SMULL.
            (0b0010 | 0b0110 | 0b1010, _) => {
                self.duplicate(size as u8, X1, register, lane);
                self.extend(size, unsigned, X1, X1.into());
                self.widen(size, unsigned, q, X0, f.n);
                self.multiply_long(f, size, opcode);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// SDOT, UDOT: bytes as numbers of 16 bits, even ones and odd ones, whose products are added in pairs
    /// (VPMADDWD).
    pub(in crate::translate) fn dot_product(&mut self, f: Form) -> Lowered {
        let unsigned = f.unsigned;
        let m = if let Some(lane) = f.lane {
            self.duplicate(2, X1, f.m, lane);
            X1
        } else {
            self.vget(f.m, X1)
        };
        let n = self.vget(f.n, X0);
        for (even, from) in [(X2, n), (X0, m)] {
            if unsigned {
                let low = self.constant(lanes(1, 0xff));
                self.a.vp(AND, even, from, low);
            } else {
                self.a.vshift_imm(0x71, 6, even, from, 8);
                self.a.vshift_imm(0x71, 4, even, even, 8);
            }
        }
        self.a.vp(0xf5, X2, X2, X0);
        let n = self.vget(f.n, X0);
        let shift = if unsigned { 2 } else { 4 };
        self.a.vshift_imm(0x71, shift, X0, n, 8);
        self.a.vshift_imm(0x71, shift, X1, m, 8);
        self.a.vp(0xf5, X0, X0, X1);
        self.packed(ADD[2], X0, X0, X2);
        self.vaccumulate(ADD[2], f.d);
        self.finish(f.q, f.d, X0);
        ONE
    }

    /// CLZ, CLS: a table counts the zeros of bytes. A wider number has those of its upper half and, if that
    /// is zero, those of its lower half too.
    fn count_leading(&mut self, f: Form, size: usize) -> Lowered {
        let mut n = self.vget(f.n, X0);
        let of_sign = !f.unsigned;
        if of_sign {
            // Bits that differ from the next higher one.
            self.shift_right(size, true, X1, n, 1);
            self.a.vp(XOR, X0, X1, n);
            n = X0;
        }
        self.look_up_nibbles(n, LEADING_LOW, LEADING_HIGH, MIN_UNSIGNED[0]);
        for step in 1..=size {
            let width = 4u8 << step;
            self.a.vshift_imm(0x70 + step as u8, 2, X1, X0, width);
            let empty = self.constant(lanes(step as u32, u64::from(width)));
            self.packed(EQUAL[step], X2, X1, empty);
            let low = self.constant(lanes(step as u32, u64::MAX >> (64 - width)));
            self.a.vp(AND, X0, X0, low);
            self.a.vp(AND, X0, X0, X2);
            self.packed(ADD[step], X0, X0, X1);
        }
        if of_sign {
            let ones = self.constant(u128::MAX);
            self.packed(ADD[size], X0, X0, ones);
        }
        self.finish(f.q, f.d, X0);
        ONE
    }

    /// Two registers, miscellaneous.
    pub(in crate::translate) fn two_registers(&mut self, f: Form) -> Lowered {
        let (size, unsigned, scalar, opcode) = (f.size, f.unsigned, f.scalar, f.opcode);
        let q = f.q && !scalar;
        match opcode {
            0b0_1100..=0b0_1111 | 0b1_0110.. => return self.float_two_registers(f),
            0b0_0111 => return self.saturating_sign(f),
            0b1_0010 | 0b1_0100 if !scalar || opcode == 0b1_0100 || unsigned => {
                return self.narrow_class(f, size, opcode);
            }
            _ => {}
        }
        if matches!(opcode, 0b0_1000..=0b0_1011) {
            return self.with_zero(f, opcode);
        }
        if scalar {
            return Lowered::No;
        }
        let d = f.d;
        match (opcode, unsigned, size) {
            // REV64, REV32, REV16.
            (0b0_0000, false, 0..3) => self.shuffle(f, reversal(size, 3)),
            (0b0_0000, true, 0 | 1) => self.shuffle(f, reversal(size, 2)),
            (0b0_0001, false, 0) => self.shuffle(f, reversal(0, 1)),
            (0b0_0100, _, 0..3) => self.count_leading(f, size),
            (0b0_0010 | 0b0_0110, _, 0..3) => {
                self.long_pairs(f, size, unsigned);
                if opcode == 0b0_0110 {
                    self.vaccumulate(ADD[size + 1], d);
                }
                self.finish(q, d, X0);
                ONE
            }
            // CNT, RBIT: by table, of the low and of the high nibbles.
            (0b0_0101, false, 0) => self.nibbles(f, COUNTS, COUNTS, ADD[0]),
            (0b0_0101, true, 1) => self.nibbles(f, REVERSED_LOW, REVERSED_HIGH, u16::from(OR)),
            (0b0_0101, true, 0) => {
                let n = self.vget(f.n, X0);
                let t = self.vresult(d);
                self.invert(t, n);
                self.finish(q, d, t);
                ONE
            }
            // SHLL.
            (0b1_0011, true, 0..3) => {
                self.widen(size, true, q, X0, f.n);
                self.shift_left(size + 1, X0, X0, 8 << size);
                self.vput(d, X0);
                ONE
            }
            _ => Lowered::No,
        }
    }

    /// XTN, SQXTN, UQXTN, SQXTUN.
    fn narrow_class(&mut self, f: Form, size: usize, opcode: u32) -> Lowered {
        let kind = match (opcode, f.unsigned) {
            (0b1_0010, false) => 0,
            (0b1_0010, true) => 3,
            (_, false) => 1,
            (_, true) => 2,
        };
        match (kind, size) {
            (0, 0..3) => {
                let n = self.vget(f.n, X0);
                self.narrow(f, size, n, 0);
                ONE
            }
            (1.., _) => self.saturating_extract(f, size, kind),
            _ => Lowered::No,
        }
    }

    fn shuffle(&mut self, f: Form, order: u128) -> Lowered {
        let n = self.vget(f.n, X0);
        let t = self.vresult(f.d);
        let order = self.constant(order);
        self.a.vp38(0x00, t, n, order);
        self.finish(f.q, f.d, t);
        ONE
    }

    fn nibbles(&mut self, f: Form, low: u128, high: u128, combine: u16) -> Lowered {
        let n = self.vget(f.n, X0);
        self.look_up_nibbles(n, low, high, combine);
        self.finish(f.q, f.d, X0);
        ONE
    }

    /// xmm0 = the entries of two tables for the low and the high nibbles of bytes, combined. Changes xmm1 and
    /// xmm15.
    fn look_up_nibbles(&mut self, n: Xmm, low: u128, high: u128, combine: u16) {
        let mask = self.constant(bytes(15));
        self.a.vshift_imm(0x71, 2, X1, n, 4);
        self.a.vp(AND, X1, X1, mask);
        self.a.vp(AND, X0, n, mask);
        self.load_constant(X2, low);
        self.a.vp38(0x00, X0, X2, X0);
        if high != low {
            self.load_constant(X2, high);
        }
        self.a.vp38(0x00, X1, X2, X1);
        self.packed(combine, X0, X0, X1);
    }

    /// Comparisons with zero, ABS, NEG.
    fn with_zero(&mut self, f: Form, opcode: u32) -> Lowered {
        let Some((size, q)) = self.shape(f) else { return Lowered::No };
        let unsigned = f.unsigned;
        if opcode == 0b0_1010 && unsigned {
            return Lowered::No;
        }
        let n = self.vget(f.n, X0);
        if !matches!((opcode, unsigned, size), (0b0_1011, false, 0..3)) {
            self.zero(X2);
        }
        match (opcode, unsigned) {
            (0b0_1000, false) => self.packed(GREATER[size], X0, n, X2),
            (0b0_1000, true) => {
                self.packed(GREATER[size], X0, X2, n);
                self.invert(X0, X0);
            }
            (0b0_1001, false) => self.packed(EQUAL[size], X0, n, X2),
            (0b0_1001, true) => {
                self.packed(GREATER[size], X0, n, X2);
                self.invert(X0, X0);
            }
            (0b0_1010, _) => self.packed(GREATER[size], X0, X2, n),
            (_, true) => self.packed(SUB[size], X0, X2, n),
            (_, false) if size < 3 => {
                // VPABSB, W, D.
                self.a.vex(Prefix::P66, Map::M0F38, false, 0x1c + size as u8, X0.0, 0, n);
            }
            _ => {
                self.packed(GREATER[3], X2, X2, n);
                self.a.vp(XOR, X0, n, X2);
                self.packed(SUB[3], X0, X0, X2);
            }
        }
        self.finish(q, f.d, X0);
        ONE
    }

    /// xmm0 = sums of neighbours, of twice the width. Changes xmm1.
    fn long_pairs(&mut self, f: Form, size: usize, unsigned: bool) {
        let n = self.vget(f.n, X0);
        let width = 8u8 << size;
        if size == 2 {
            self.shift_right(3, !unsigned, X1, n, width);
            self.a.vshift_imm(0x73, 6, X0, n, width);
            self.shift_right(3, !unsigned, X0, X0, width);
        } else {
            let kind = if unsigned { 2 } else { 4 };
            let opcode = 0x71 + size as u8;
            self.a.vshift_imm(opcode, kind, X1, n, width);
            self.a.vshift_imm(opcode, 6, X0, n, width);
            self.a.vshift_imm(opcode, kind, X0, X0, width);
        }
        self.packed(ADD[size + 1], X0, X0, X1);
    }

    /// ADDP (scalar).
    pub(in crate::translate) fn scalar_pairwise(&mut self, f: Form) -> Lowered {
        if !f.unsigned && f.size == 3 && f.opcode == 0b1_1011 {
            let n = self.vget(f.n, X0);
            self.a.vpshufd(X1, n, 0xee);
            self.packed(ADD[3], X0, n, X1);
            self.vput_scalar(true, f.d, X0, false);
            return ONE;
        }
        self.float_scalar_pairwise(f)
    }

    /// ADDV, SADDLV, UADDLV, SMAXV, UMAXV, SMINV, UMINV: halves are combined until one lane is left.
    pub(in crate::translate) fn across(&mut self, f: Form) -> Lowered {
        let (size, q, unsigned, opcode) = (f.size, f.q, f.unsigned, f.opcode);
        if matches!(opcode, 0b0_1100 | 0b0_1111) {
            return self.float_across(f);
        }
        if size == 3 || size == 2 && !q {
            return Lowered::No;
        }
        let (table, long): (BySize, bool) = match (opcode, unsigned) {
            (0b1_1011, false) => (ADD, false),
            (0b0_0011, _) => (ADD, true),
            (0b0_1010, false) => (MAX_SIGNED, false),
            (0b0_1010, true) => (MAX_UNSIGNED, false),
            (0b1_1010, false) => (MIN_SIGNED, false),
            (0b1_1010, true) => (MIN_UNSIGNED, false),
            _ => return Lowered::No,
        };
        let size = size + usize::from(long);
        let mut from = if long {
            self.long_pairs(f, size - 1, unsigned);
            X0
        } else {
            self.vget(f.n, X0)
        };
        let mut half = if q { 8 } else { 4 };
        while half >= 1u8 << size {
            self.a.vshift_imm(0x73, 3, X1, from, half);
            self.packed(table[size], X0, from, X1);
            from = X0;
            half /= 2;
        }
        if size < 2 {
            let mask = self.constant(u128::from(u64::MAX >> (64 - (8 << size))));
            self.a.vp(AND, X0, from, mask);
            self.vput_scalar(false, f.d, X0, true);
        } else {
            self.vput_scalar(size == 3, f.d, from, false);
        }
        ONE
    }
}

/// Bits set in the numbers from 0 to 15.
const COUNTS: u128 = 0x0403_0302_0302_0201_0302_0201_0201_0100;
/// Leading zeros of bytes with these low nibbles and a high nibble of zero, and of bytes with these high
/// nibbles.
const LEADING_LOW: u128 = 0x0404_0404_0404_0404_0505_0505_0606_0708;
const LEADING_HIGH: u128 = 0x0000_0000_0000_0000_0101_0101_0202_0308;
/// The numbers from 0 to 15 reversed, as high nibbles and as low ones.
const REVERSED_LOW: u128 = 0xf070_b030_d050_9010_e060_a020_c040_8000;
const REVERSED_HIGH: u128 = REVERSED_LOW >> 4;
