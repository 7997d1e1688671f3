//! Copies of lanes, permutations and table look-ups (manual C4.1.97, F4.1.10).

use super::form::Form;
use super::lanes::{AND_NOT, EQUAL, MIN_UNSIGNED, OR, SUB, UNPACK_HIGH, UNPACK_LOW, bytes, lanes};
use crate::layout::{SCRATCH_MEMORY, X0, X1, X2, vector};
use crate::translate::operands::{first_lane, half, is_part};
use crate::translate::{Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Map, Prefix, Reg, Rm, Size, Xmm};

impl<I: Isa> Translator<'_, I> {
    /// `t = value`.
    pub(in crate::translate) fn load_constant(&mut self, t: Xmm, value: u128) {
        match value {
            0 => self.zero(t),
            u128::MAX => self.a.vp(EQUAL[2] as u8, t, t, t),
            _ => {
                let constant = self.constant(value);
                self.a.vload(t, constant);
            }
        }
    }

    /// VPEXTRB, W, D, Q; zero-extended.
    pub(in crate::translate) fn extract_lane(&mut self, size: u8, to: Reg, from: Xmm, lane: u8) {
        if lane == 0 && size >= 2 {
            return self.a.vmov_to(if size == 3 { Size::Q } else { Size::D }, to, from);
        }
        let opcode = [0x14, 0x15, 0x16, 0x16][usize::from(size)];
        self.a.vex(Prefix::P66, Map::M0F3A, size == 3, opcode, from.0, 0, to);
        self.a.byte(lane);
    }

    /// `to` = an element.
    pub(in crate::translate) fn element_to(&mut self, to: Reg, size: u8, n: u8, lane: u8) {
        match self.lane_host(n, size, lane) {
            Some((host, lane)) => self.extract_lane(size, to, host, lane),
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

    /// The host register that an element of a vector register lies in, which may be that of its half, and the
    /// element's lane there.
    fn lane_host(&self, n: u8, size: u8, lane: u8) -> Option<(Xmm, u8)> {
        if let Some(host) = self.vector_host(n) {
            return Some((host, lane));
        }
        let per_half = 8 >> size;
        let own = if n < 16 { self.vector_host(half(2 * n + lane / per_half)) } else { None };
        own.map(|host| (host, lane % per_half))
    }

    /// `t` = an element in all lanes.
    pub(in crate::translate) fn duplicate(&mut self, size: u8, t: Xmm, n: u8, lane: u8) {
        debug_assert!(!self.is_split(n));
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
    pub(in crate::translate) fn insert(&mut self, size: u8, d: u8, lane: u8, from: Rm) {
        let place = self.lane_host(d, size, lane);
        if let (None, Rm::R(reg)) = (place, from) {
            let (mem, reg) = (vector(d).plus(i32::from(lane) << size), Reg(reg));
            match size {
                0 => self.a.store8(mem, reg),
                1 => self.a.store16(mem, reg),
                2 => self.a.mov_to(Size::D, mem, reg),
                _ => self.a.mov_to(Size::Q, mem, reg),
            }
            self.vchanged(d);
            return;
        }
        let (t, lane) = match place {
            Some(place) => place,
            None => (self.vget(d, X0), lane),
        };
        let (map, opcode) =
            [(Map::M0F3A, 0x20), (Map::M0F, 0xc4), (Map::M0F3A, 0x22), (Map::M0F3A, 0x22)][usize::from(size)];
        self.a.vex(Prefix::P66, map, size == 3, opcode, t.0, t.0, from);
        self.a.byte(lane);
        match place {
            Some(_) => self.vchanged(d),
            None => self.vput(d, t),
        }
    }

    /// EXT: the immediate counts bytes.
    pub(in crate::translate) fn vector_extract(&mut self, f: Form) -> Lowered {
        let (q, by, d) = (f.q, f.imm as u8, f.d);
        let t = self.vresult(d);
        if q {
            // VPALIGNR.
            let m = self.vget(f.m, X1);
            let source = self.vsource(f.n, X0);
            self.a.vp3a(0x0f, t, m, source, by);
        } else {
            let n = self.vget(f.n, X0);
            let source = self.vsource(f.m, X1);
            self.a.vp(0x6c, X0, n, source);
            self.a.vshift_imm(0x73, 3, t, X0, by);
        }
        self.finish(q, d, t);
        ONE
    }

    /// ZIP1, ZIP2, UZP1, UZP2, TRN1, TRN2: opcodes 3, 1 and 2, with bit 2 for the second.
    pub(in crate::translate) fn permute(&mut self, f: Form) -> Lowered {
        if f.size == 3 && !f.q {
            return Lowered::No;
        }
        let Some(t) = self.permuted(f, self.vresult(f.d)) else { return Lowered::No };
        self.finish(f.q, f.d, t);
        ONE
    }

    /// Both results of [`Translator::permute`] at once: that of the first form to `d`, that of the second to
    /// `m`.
    pub(in crate::translate) fn permute_both(&mut self, f: Form) -> Lowered {
        let f = Form { n: f.d, ..f };
        let Some(t) = self.permuted(f, X0) else { return Lowered::No };
        self.a.vstore(SCRATCH_MEMORY, t);
        let second = Form { opcode: f.opcode | 4, ..f };
        if let Some(t) = self.permuted(second, X0) {
            self.finish(f.q, f.m, t);
        }
        self.a.vload(X0, SCRATCH_MEMORY);
        self.finish(f.q, f.d, X0);
        ONE
    }

    /// The permuted lanes in a register, which is xmm0 or `t`.
    fn permuted(&mut self, f: Form, t: Xmm) -> Option<Xmm> {
        let (size, q, second) = (f.size, f.q, f.opcode & 4 != 0);
        match f.opcode & 3 {
            1 => {
                let (a, b) = self.unzip_operands(f, size, q);
                self.unzip(size, second, a, b, X0);
                return Some(X0);
            }
            2 => {
                let n = self.vget(f.n, X0);
                let m = self.vget(f.m, X1);
                self.transpose(size, second, t, n, m);
            }
            3 => self.zip(f, size, q, second, t),
            _ => return None,
        }
        Some(t)
    }

    fn zip(&mut self, f: Form, size: usize, q: bool, second: bool, t: Xmm) {
        let n = self.vget(f.n, X0);
        let m = self.vsource(f.m, X1);
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

    /// TBL, and TBX by the opcode 1, of a table of as many bytes as the immediate says: VPSHUFB gives 0 for
    /// indexes with bit 7, which a saturating addition sets for indexes of 16 and more.
    pub(in crate::translate) fn table(&mut self, f: Form) -> Lowered {
        let (d, q) = (f.d, f.q);
        let indexes = self.vget(f.m, X1);
        let limit = self.constant(bytes(0x70));
        for i in 0..f.imm.div_ceil(16) as u8 {
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
                let table = self.table_piece(f, i, X0);
                self.a.vp38(0x00, X0, table, index);
                continue;
            }
            // The table is the first operand: one in memory needs a register, and all are in use.
            let n = f.n + i & 31;
            let Some(table) = self.vector_host(n).filter(|_| !is_part(f.n)) else {
                self.a.vstore(SCRATCH_MEMORY, X0);
                let table = self.table_piece(f, i, X0);
                self.a.vp38(0x00, X2, table, index);
                self.a.vp(OR, X0, X2, SCRATCH_MEMORY);
                continue;
            };
            self.a.vp38(0x00, X2, table, index);
            self.a.vp(OR, X0, X0, X2);
        }
        if f.opcode == 1 {
            // If the index is outside of the table, the old byte stays.
            let last = self.constant(bytes(f.imm as u8 - 1));
            self.a.vp(MIN_UNSIGNED[0] as u8, X2, indexes, last);
            self.a.vp(EQUAL[0] as u8, X2, X2, indexes);
            let source = self.vsource(d, X1);
            self.a.vp(AND_NOT, X2, X2, source);
            self.a.vp(OR, X0, X0, X2);
        }
        self.finish(q, d, X0);
        ONE
    }

    /// Piece `i` of a table, of 16 bytes: a register, or two halves after each other; zeros after the end.
    fn table_piece(&mut self, f: Form, i: u8, scratch: Xmm) -> Xmm {
        if !is_part(f.n) {
            return self.vget(f.n + i & 31, scratch);
        }
        let first = f.n + 2 * i;
        if f.imm == u32::from(i) * 16 + 8 {
            self.vget_clear(scratch, first);
            return scratch;
        }
        let (register, odd) = first_lane(first, 3);
        if odd == 0 {
            return self.vget(register, scratch);
        }
        // VPALIGNR by 8.
        self.a.vload(scratch, self.vrm(register + 1));
        let low = self.vrm(register);
        self.a.vp3a(0x0f, scratch, scratch, low, 8);
        scratch
    }
}

const X0_OR_X1: [Xmm; 2] = [X0, X1];
