//! Shifts by an immediate, and instructions that narrow and widen lanes with them (manual C4.1.97).

use super::form::Form;
use super::lanes::{ADD, AND, OR, SUB, XOR, bytes, lanes};
use crate::layout::{X0, X1, X2, vector};
use crate::translate::{Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Map, Prefix, Rm, Xmm};

impl<I: Isa> Translator<'_, I> {
    /// `t = a << count` in lanes of `8 << size` bits.
    pub(in crate::translate) fn shift_left(&mut self, size: usize, t: Xmm, a: Xmm, count: u8) {
        if count == 0 {
            if t != a {
                self.a.vload(t, a);
            }
        } else if size == 0 {
            self.a.vshift_imm(0x71, 6, t, a, count);
            let kept = self.constant(bytes(0xffu8.checked_shl(u32::from(count)).unwrap_or(0)));
            self.a.vp(AND, t, t, kept);
        } else {
            self.a.vshift_imm(0x70 + size as u8, 6, t, a, count);
        }
    }

    /// `t = a >> count` in lanes of `8 << size` bits, count at most their width.
    pub(in crate::translate) fn shift_right(&mut self, size: usize, signed: bool, t: Xmm, a: Xmm, count: u8) {
        let width = 8u8 << size;
        match (size, signed) {
            (0, _) => {
                let count = if signed { count.min(7) } else { count };
                self.a.vshift_imm(0x71, 2, t, a, count);
                let kept = self.constant(bytes(0xffu8.checked_shr(u32::from(count)).unwrap_or(0)));
                self.a.vp(AND, t, t, kept);
                if signed {
                    self.sign_extend(size, t, 0x80 >> count);
                }
            }
            (3, true) if count >= width - 1 => {
                // Only the sign is left: that of the upper half, in both halves.
                self.a.vpshufd(t, a, 0xf5);
                self.a.vshift_imm(0x72, 4, t, t, 31);
            }
            (3, true) => {
                self.a.vshift_imm(0x73, 2, t, a, count);
                self.sign_extend(size, t, 1 << (63 - count));
            }
            (_, true) => self.a.vshift_imm(0x70 + size as u8, 4, t, a, count),
            (_, false) => self.a.vshift_imm(0x70 + size as u8, 2, t, a, count),
        }
    }

    /// Spreads the bit `sign` of each lane to the bits above it, which are zero.
    fn sign_extend(&mut self, size: usize, t: Xmm, sign: u64) {
        let sign = self.constant(lanes(size as u32, sign));
        self.a.vp(XOR, t, t, sign);
        self.packed(SUB[size], t, t, sign);
    }

    pub(in crate::translate) fn shift_immediate(&mut self, f: Form) -> Lowered {
        let (size, scalar, opcode) = (f.size, f.scalar, f.opcode);
        match opcode {
            0b1_0000..=0b1_0011 => return self.shift_narrow(f, size),
            0b1_0100 if !scalar => return self.shift_long(f, size),
            0b1_1100 | 0b1_1111 => return self.float_fixed(f),
            0b0_1110 | 0b0_1100 if opcode == 0b0_1110 || f.unsigned => {
                let by = (f.imm - (8 << size)) as u8;
                return self.saturating_shift(f, size, by);
            }
            _ => {}
        }
        let q = f.q && !scalar;
        if scalar && size != 3 || !scalar && size == 3 && !q {
            return Lowered::No;
        }
        let (unsigned, d, width) = (f.unsigned, f.d, 8u32 << size);
        let imm = f.imm;
        // Shifts left are imm - width, shifts right 2 * width - imm.
        let left = imm.wrapping_sub(width) as u8;
        let right = (2 * width).wrapping_sub(imm) as u8;
        let n = self.vget(f.n, X0);
        match (opcode, unsigned) {
            // SSHR, USHR, SHL.
            (0b0_0000, _) | (0b0_1010, false) => {
                // Shifts read Vn first, so Vd may be the same register.
                let t = self.vresult(d);
                if opcode == 0 {
                    self.shift_right(size, !unsigned, t, n, right);
                } else {
                    self.shift_left(size, t, n, left);
                }
                self.finish(q, d, t);
                return ONE;
            }
            // SSRA, USRA.
            (0b0_0010, _) => {
                self.shift_right(size, !unsigned, X0, n, right);
                self.vaccumulate(ADD[size], d);
            }
            // SRSHR, URSHR, SRSRA, URSRA: the last bit shifted out is added.
            (0b0_0100 | 0b0_0110, _) => {
                self.rounding_shift(size, !unsigned, n, right);
                if opcode == 0b0_0110 {
                    self.vaccumulate(ADD[size], d);
                }
            }
            // SRI and SLI: bits of Vd stay.
            (0b0_1000, true) => {
                self.shift_right(size, false, X2, n, right);
                let low = u64::MAX >> (64 - width);
                self.merge(d, lanes(size as u32, low.checked_shr(u32::from(right)).unwrap_or(0)));
            }
            (0b0_1010, true) => {
                self.shift_left(size, X2, n, left);
                self.merge(d, lanes(size as u32, u64::MAX << left));
            }
            _ => return Lowered::No,
        }
        self.finish(q, d, X0);
        ONE
    }

    /// xmm0 = xmm15 and the bits of Vd outside `mask`.
    fn merge(&mut self, d: u8, mask: u128) {
        let kept = self.constant(!mask);
        let old = self.vget(d, X0);
        self.a.vp(AND, X0, old, kept);
        self.a.vp(OR, X0, X0, X2);
    }

    /// xmm0 = n shifted right and rounded. Changes xmm15.
    pub(in crate::translate) fn rounding_shift(&mut self, size: usize, signed: bool, n: Xmm, count: u8) {
        let width = 8u8 << size;
        // The last bit that is shifted out, at the bottom.
        self.shift_left(size, X2, n, width - count);
        self.shift_right(size, false, X2, X2, width - 1);
        if count == width && !signed {
            self.a.vload(X0, X2);
            return;
        }
        self.shift_right(size, signed, X1, n, count.min(width - u8::from(signed && size == 3)));
        self.packed(ADD[size], X0, X1, X2);
    }

    /// SHRN, RSHRN, SQSHRN, UQSHRN, SQSHRUN.
    fn shift_narrow(&mut self, f: Form, size: usize) -> Lowered {
        let (scalar, unsigned) = (f.scalar, f.unsigned);
        let rounds = f.opcode & 1 == 1;
        let saturates = f.opcode & 2 != 0 || unsigned;
        if size > 2 || scalar && !saturates {
            return Lowered::No;
        }
        let by = ((16u32 << size) - f.imm) as u8;
        if saturates {
            return self.saturating_shift_narrow(f, size, by);
        }
        let n = self.vget(f.n, X0);
        if rounds {
            let half = self.constant(lanes(size as u32 + 1, 1 << (by - 1)));
            self.packed(ADD[size + 1], X0, n, half);
            self.narrow(f, size, X0, by);
        } else {
            self.narrow(f, size, n, by);
        }
        ONE
    }

    /// Vd's half = the low halves of a's lanes, which are shifted right first. Changes xmm0.
    pub(in crate::translate) fn narrow(&mut self, f: Form, size: usize, a: Xmm, by: u8) {
        if size == 2 {
            let a = if by == 0 {
                a
            } else {
                self.a.vshift_imm(0x73, 2, X0, a, by);
                X0
            };
            self.a.vpshufd(X0, a, 0xe8);
            return self.write_half(f, X0);
        }
        let a = if by == 0 {
            a
        } else {
            self.a.vshift_imm(0x71 + size as u8, 2, X0, a, by);
            X0
        };
        // After a shift by the narrow width or more, nothing is left above.
        if by != 8 << size {
            let low = self.constant(lanes(size as u32 + 1, u64::MAX >> (64 - (8 << size))));
            self.a.vp(AND, X0, a, low);
        }
        self.packed([0x67, 0x12b][size], X0, X0, X0);
        self.write_half(f, X0);
    }

    /// The result of a narrowing instruction: the low half and zeros, or with Q the high half of Vd.
    pub(in crate::translate) fn write_half(&mut self, f: Form, from: Xmm) {
        let d = f.d;
        if !f.q || f.scalar {
            return self.vput_scalar(true, d, from, false);
        }
        let t = self.vresult(d);
        if t == from {
            // Vd is in memory: only its upper half changes.
            self.a.vstore_q(vector(d).plus(8), from);
            return self.vchanged(d);
        }
        self.a.vp(0x6c, t, t, from);
        self.vput(d, t);
    }

    /// SSHLL, USHLL.
    fn shift_long(&mut self, f: Form, size: usize) -> Lowered {
        if size > 2 {
            return Lowered::No;
        }
        let (d, by) = (f.d, (f.imm - (8 << size)) as u8);
        let t = self.vresult(d);
        self.widen(size, f.unsigned, f.q, t, f.n);
        self.shift_left(size + 1, t, t, by);
        self.vput(d, t);
        ONE
    }

    /// `t` = the lanes of the low or high half of Vn, extended to twice their width.
    pub(in crate::translate) fn widen(&mut self, size: usize, unsigned: bool, high: bool, t: Xmm, n: u8) {
        let from = self.vhalf_source(n, high, t);
        self.extend(size, unsigned, t, from);
    }

    /// VPMOVZX, VPMOVSX to the next width.
    pub(in crate::translate) fn extend(&mut self, size: usize, unsigned: bool, t: Xmm, from: Rm) {
        let opcode = [0x20, 0x23, 0x25][size] | if unsigned { 0x10 } else { 0 };
        self.a.vex(Prefix::P66, Map::M0F38, false, opcode, t.0, 0, from);
    }
}
