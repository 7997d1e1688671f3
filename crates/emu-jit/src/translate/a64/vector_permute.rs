//! Copies of lanes, immediates, permutations and table look-ups (manual C4.1.97).

use super::float::{expand_immediate, vd, vm, vn};
use super::registers::{ZERO, destination, source};
use super::vector::{AND, AND_NOT, EQUAL, MIN_UNSIGNED, OR, SUB, UNPACK_HIGH, UNPACK_LOW, bytes, lanes};
use super::{Lowered, ONE, Translator, bit, bits};
use crate::layout::{SCRATCH_MEMORY, X0, X1, X2, vector};
use crossdock_emu_x64::{Map, Mem, Prefix, Reg, Rm, Size, Xmm};

/// AdvSIMDExpandImm, in both halves.
fn immediate(word: u32) -> Option<u128> {
    let imm8 = bits(word, 18, 16) << 5 | bits(word, 9, 5);
    let (cmode, inverted, wide) = (bits(word, 15, 12), bit(word, 29), u64::from(imm8));
    Some(match cmode {
        0..8 => lanes(2, wide << (8 * (cmode >> 1))),
        8..12 => lanes(1, wide << (8 * (cmode >> 1 & 1))),
        12 => lanes(2, wide << 8 | 0xff),
        13 => lanes(2, wide << 16 | 0xffff),
        14 if !inverted => bytes(imm8 as u8),
        14 => {
            let half = (0..8).filter(|i| imm8 >> i & 1 == 1).fold(0, |value, i| value | 0xff << (8 * i));
            lanes(3, half)
        }
        _ if !inverted => lanes(2, expand_immediate(false, imm8)),
        _ if bit(word, 30) => lanes(3, expand_immediate(true, imm8)),
        _ => return None,
    })
}

/// Size and lane that imm5 names.
fn element(word: u32) -> Option<(u8, u8)> {
    let imm5 = bits(word, 20, 16);
    let size = imm5.trailing_zeros();
    (size < 4).then(|| (size as u8, (imm5 >> (size + 1)) as u8))
}

impl Translator<'_> {
    /// The classes in which bits 24 and 21 are clear.
    pub(super) fn permute_class(&mut self, word: u32, low: u32) -> Lowered {
        let scalar = bit(word, 28);
        if bits(word, 23, 22) == 0 && low & 1 == 1 && !bit(word, 15) {
            return self.copies(word);
        }
        if scalar {
            return Lowered::No;
        }
        if bits(word, 15, 10) == 0b10_0101 && bits(word, 23, 22) == 2 {
            return self.dot_product(word);
        }
        match (bit(word, 29), bit(word, 15), low) {
            (false, false, 0) if bits(word, 23, 22) == 0 => self.table(word),
            (false, false, 2) => self.permute(word),
            (true, false, 0 | 2) if bits(word, 23, 22) == 0 => self.vector_extract(word),
            _ => Lowered::No,
        }
    }

    /// MOVI, MVNI, FMOV, ORR, BIC (immediate).
    pub(super) fn modified_immediate(&mut self, word: u32) -> Lowered {
        let Some(value) = immediate(word) else { return Lowered::No };
        if bit(word, 11) {
            return Lowered::No;
        }
        let (d, q, cmode, inverted) = (vd(word), bit(word, 30), bits(word, 15, 12), bit(word, 29));
        let t = self.vresult(d);
        if cmode < 12 && cmode & 1 == 1 {
            let value = if inverted { !value } else { value };
            let old = self.vget(d, X0);
            let constant = self.constant(value);
            self.a.vp(if inverted { AND } else { OR }, t, old, constant);
            self.finish(q, d, t);
            return ONE;
        }
        let value = if inverted && cmode < 14 { !value } else { value };
        self.load_constant(t, if q { value } else { value & u128::from(u64::MAX) });
        self.vput(d, t);
        if !q || value == 0 {
            self.set_vclean(value != 0, d);
        }
        ONE
    }

    /// `t = value`.
    pub(super) fn load_constant(&mut self, t: Xmm, value: u128) {
        match value {
            0 => self.zero(t),
            u128::MAX => self.a.vp(EQUAL[2] as u8, t, t, t),
            _ => {
                let constant = self.constant(value);
                self.a.vload(t, constant);
            }
        }
    }

    /// DUP, INS, SMOV, UMOV.
    fn copies(&mut self, word: u32) -> Lowered {
        let Some((size, lane)) = element(word) else { return Lowered::No };
        let (scalar, q, d) = (bit(word, 28), bit(word, 30), vd(word));
        let wide = q && !scalar;
        if bit(word, 29) {
            return if q && !scalar { self.insert_element(word, size, lane) } else { Lowered::No };
        }
        match bits(word, 14, 11) {
            // DUP (element).
            0 if size < 3 || q => {
                if scalar {
                    self.element_to_rax(size, vn(word), lane);
                    let t = self.vresult(d);
                    self.a.vmov_from(Size::Q, t, Reg::RAX);
                    self.vput_scalar(true, d, t, true);
                    return ONE;
                }
                let t = self.vresult(d);
                self.duplicate(size, t, vn(word), lane);
                self.finish(wide, d, t);
                ONE
            }
            _ if scalar => Lowered::No,
            // DUP (general).
            1 if size < 3 || q => {
                let t = self.vresult(d);
                if source(word, 5) == ZERO {
                    self.zero(t);
                } else {
                    self.a.vmov_from(Size::Q, t, self.rm(source(word, 5)));
                    if size < 3 || q {
                        self.a.vbroadcast(size, t, t);
                    }
                }
                self.finish(wide, d, t);
                ONE
            }
            // INS (general).
            3 if q => {
                let n = self.get(source(word, 5), Reg::RAX);
                self.insert(size, d, lane, n.into());
                ONE
            }
            // SMOV.
            5 if size < 2 + u8::from(q) => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                let operand_size = if q { Size::Q } else { Size::D };
                let from: Rm = match self.vector_host(vn(word)) {
                    Some(host) => {
                        self.extract_lane(size, Reg::RAX, host, lane);
                        Reg::RAX.into()
                    }
                    None => vector(vn(word)).plus(i32::from(lane) << size).into(),
                };
                match size {
                    0 => self.a.movsx8(operand_size, t, from),
                    1 => self.a.movsx16(operand_size, t, from),
                    _ => self.a.movsxd(t, from),
                }
                self.put(rd, t);
                ONE
            }
            // UMOV.
            7 if (size == 3) == q => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                self.element_to(t, size, vn(word), lane);
                self.put(rd, t);
                ONE
            }
            _ => Lowered::No,
        }
    }

    /// VPEXTRB, W, D, Q; zero-extended.
    fn extract_lane(&mut self, size: u8, to: Reg, from: Xmm, lane: u8) {
        if lane == 0 && size >= 2 {
            return self.a.vmov_to(if size == 3 { Size::Q } else { Size::D }, to, from);
        }
        let opcode = [0x14, 0x15, 0x16, 0x16][usize::from(size)];
        self.a.vex(Prefix::P66, Map::M0F3A, size == 3, opcode, from.0, 0, to);
        self.a.byte(lane);
    }

    /// `to` = an element.
    pub(super) fn element_to(&mut self, to: Reg, size: u8, n: u8, lane: u8) {
        match self.vector_host(n) {
            Some(host) => self.extract_lane(size, to, host, lane),
            None => {
                let mem = vector(n).plus(i32::from(lane) << size);
                match size {
                    0 => self.a.movzx8(to, mem),
                    1 => self.a.movzx16(to, mem),
                    2 => self.a.mov(Size::D, to, mem),
                    _ => self.a.mov(Size::Q, to, mem),
                }
            }
        }
    }

    fn element_to_rax(&mut self, size: u8, n: u8, lane: u8) {
        self.element_to(Reg::RAX, size, n, lane);
    }

    /// `t` = an element in all lanes.
    pub(super) fn duplicate(&mut self, size: u8, t: Xmm, n: u8, lane: u8) {
        let Some(host) = self.vector_host(n) else {
            return self.a.vbroadcast(size, t, vector(n).plus(i32::from(lane) << size));
        };
        match size {
            _ if lane == 0 => self.a.vbroadcast(size, t, host),
            2 => self.a.vpshufd(t, host, lane * 0x55),
            3 => self.a.vpshufd(t, host, 0xee),
            _ => {
                // VPSRLDQ.
                self.a.vshift_imm(0x73, 3, t, host, lane << size);
                self.a.vbroadcast(size, t, t);
            }
        }
    }

    /// Element `lane` of `d` = the low bits of `from`, a general register or memory.
    pub(super) fn insert(&mut self, size: u8, d: u8, lane: u8, from: Rm) {
        if let (None, Rm::R(reg)) = (self.vector_host(d), from) {
            let (mem, reg) = (vector(d).plus(i32::from(lane) << size), Reg(reg));
            match size {
                0 => self.a.store8(mem, reg),
                1 => self.a.store16(mem, reg),
                2 => self.a.mov_to(Size::D, mem, reg),
                _ => self.a.mov_to(Size::Q, mem, reg),
            }
            self.zeros.from_32 &= !(1 << d);
            self.zeros.from_64 &= !(1 << d);
            return;
        }
        let t = self.vget(d, X0);
        let (map, opcode) =
            [(Map::M0F3A, 0x20), (Map::M0F, 0xc4), (Map::M0F3A, 0x22), (Map::M0F3A, 0x22)][usize::from(size)];
        self.a.vex(Prefix::P66, map, size == 3, opcode, t.0, t.0, from);
        self.a.byte(lane);
        self.vput(d, t);
    }

    /// INS (element).
    fn insert_element(&mut self, word: u32, size: u8, lane: u8) -> Lowered {
        let (d, n, from) = (vd(word), vn(word), (bits(word, 14, 11) >> size) as u8);
        let (Some(_), Some(source)) = (self.vector_host(d), self.vector_host(n)) else {
            if self.vector_host(d).is_some() {
                let mem: Mem = vector(n).plus(i32::from(from) << size);
                self.insert(size, d, lane, mem.into());
            } else {
                self.element_to_rax(size, n, from);
                self.insert(size, d, lane, Reg::RAX.into());
            }
            return ONE;
        };
        let t = self.vresult(d);
        match size {
            // VINSERTPS.
            2 => self.a.vp3a(0x21, t, t, source, from << 6 | lane << 4),
            3 => match (from, lane) {
                // VPUNPCKLQDQ; VPBLENDW; VSHUFPD.
                (0, 1) => self.a.vp(0x6c, t, t, source),
                (1, 1) => self.a.vp3a(0x0e, t, t, source, 0xf0),
                (0, _) => self.a.vp3a(0x0e, t, t, source, 0x0f),
                _ => {
                    self.a.vpacked(true, 0xc6, t, source, t);
                    self.a.byte(3);
                }
            },
            _ => {
                self.element_to_rax(size, n, from);
                self.insert(size, d, lane, Reg::RAX.into());
                return ONE;
            }
        }
        self.vput(d, t);
        ONE
    }

    /// EXT.
    fn vector_extract(&mut self, word: u32) -> Lowered {
        let (q, by, d) = (bit(word, 30), bits(word, 14, 11) as u8, vd(word));
        if bit(word, 10) || bit(word, 11) && by == 0 || !q && by >= 8 || bit(word, 15) {
            return Lowered::No;
        }
        let t = self.vresult(d);
        if q {
            // VPALIGNR.
            let m = self.vget(vm(word), X1);
            self.a.vp3a(0x0f, t, m, self.vrm(vn(word)), by);
        } else {
            let n = self.vget(vn(word), X0);
            self.a.vp(0x6c, X0, n, self.vrm(vm(word)));
            self.a.vshift_imm(0x73, 3, t, X0, by);
        }
        self.finish(q, d, t);
        ONE
    }

    /// ZIP1, ZIP2, UZP1, UZP2, TRN1, TRN2.
    fn permute(&mut self, word: u32) -> Lowered {
        let (size, q, d) = (bits(word, 23, 22) as usize, bit(word, 30), vd(word));
        if size == 3 && !q {
            return Lowered::No;
        }
        let (second, t) = (bit(word, 14), self.vresult(d));
        match bits(word, 13, 12) {
            1 => {
                let (a, b) = self.unzip_operands(word, size, q);
                self.unzip(size, second, a, b, X0);
                self.finish(q, d, X0);
                return ONE;
            }
            2 => {
                let n = self.vget(vn(word), X0);
                let m = self.vget(vm(word), X1);
                self.transpose(size, second, t, n, m);
            }
            3 => self.zip(word, size, q, second, t),
            _ => return Lowered::No,
        }
        self.finish(q, d, t);
        ONE
    }

    fn zip(&mut self, word: u32, size: usize, q: bool, second: bool, t: Xmm) {
        let n = self.vget(vn(word), X0);
        let m = self.vrm(vm(word));
        let (low, high) = (UNPACK_LOW[size], UNPACK_HIGH[size]);
        self.a.vp(if second && q { high } else { low }, t, n, m);
        if second && !q {
            self.a.vshift_imm(0x73, 3, t, t, 8);
        }
    }

    /// Even lanes (`second`: odd) of n and m in turn.
    fn transpose(&mut self, size: usize, second: bool, t: Xmm, n: Xmm, m: Xmm) {
        if size == 3 {
            return self.a.vp(if second { 0x6d } else { 0x6c }, t, n, m);
        }
        let (shift, width) = (0x71 + size as u8, 8u8 << size);
        let (a, b) = if second {
            self.a.vshift_imm(shift, 2, X2, n, width);
            (X2, m)
        } else {
            self.a.vshift_imm(shift, 6, X2, m, width);
            (n, X2)
        };
        match size {
            0 => {
                // VPBLENDVB.
                let odd = lanes(1, 0xff00);
                self.load_constant(X0_OR_X1[usize::from(a == X0)], odd);
                self.a.vp3a(0x4c, t, a, b, X0_OR_X1[usize::from(a == X0)].0 << 4);
            }
            1 => self.a.vp3a(0x0e, t, a, b, 0xaa),
            _ => self.a.vp3a(0x0e, t, a, b, 0xcc),
        }
    }

    /// TBL, TBX: VPSHUFB gives 0 for indexes with bit 7, which a saturating addition sets for indexes of 16
    /// and more.
    fn table(&mut self, word: u32) -> Lowered {
        let (d, q, registers) = (vd(word), bit(word, 30), bits(word, 14, 13) as u8 + 1);
        if bit(word, 15) || bits(word, 11, 10) != 0 {
            return Lowered::No;
        }
        let indexes = self.vget(vm(word), X1);
        let limit = self.constant(bytes(0x70));
        for i in 0..registers {
            let n = (vn(word) + i) & 31;
            let index = if i == 0 {
                self.a.vp(0xdc, X2, indexes, limit);
                X2
            } else {
                let base = self.constant(bytes(16 * i));
                self.a.vp(SUB[0] as u8, X2, indexes, base);
                self.a.vp(0xdc, X2, X2, limit);
                X2
            };
            if i == 0 {
                let table = self.vget(n, X0);
                self.a.vp38(0x00, X0, table, index);
                continue;
            }
            // The table is the first operand: one in memory needs a register, and all are in use.
            let Some(table) = self.vector_host(n) else {
                self.a.vstore(SCRATCH_MEMORY, X0);
                self.a.vload(X0, vector(n));
                self.a.vp38(0x00, X2, X0, index);
                self.a.vp(OR, X0, X2, SCRATCH_MEMORY);
                continue;
            };
            self.a.vp38(0x00, X2, table, index);
            self.a.vp(OR, X0, X0, X2);
        }
        if bit(word, 12) {
            // If the index is outside of the table, the old byte stays.
            let last = self.constant(bytes(16 * registers - 1));
            self.a.vp(MIN_UNSIGNED[0] as u8, X2, indexes, last);
            self.a.vp(EQUAL[0] as u8, X2, X2, indexes);
            self.a.vp(AND_NOT, X2, X2, self.vrm(d));
            self.a.vp(OR, X0, X0, X2);
        }
        self.finish(q, d, X0);
        ONE
    }
}

const X0_OR_X1: [Xmm; 2] = [X0, X1];
