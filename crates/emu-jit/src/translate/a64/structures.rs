//! Loads and stores of structures (manual C4.1.94, "Advanced SIMD load/store multiple structures" and "single
//! structure").
//!
//! No general register changes before the last access, and the registers loaded are no operands of the
//! addresses, so an instruction that faults half-way can be run again. The lowest address comes first: a
//! fault reports that one.

use super::registers::sp;
use super::vector::{OR, UNPACK_HIGH, UNPACK_LOW, bytes};
use super::{Lowered, ONE, Translator, bit, bits};
use crate::layout::{X0, X1, X2, vector};
use crossdock_emu_x64::{Map, Mem, Prefix, Reg, Size, Xmm};

/// PSHUFB's operand that takes byte `p` of the result from byte `from(p)` of 16-byte block `block`; bytes
/// from other blocks, and bytes at `end` or after it, are zero.
fn shuffle(block: usize, end: usize, from: impl Fn(usize) -> usize) -> u128 {
    (0..end).fold(bytes(0x80), |mask, p| {
        let source = from(p);
        if source / 16 == block { mask ^ (0x80 ^ (source as u128 % 16)) << (8 * p) } else { mask }
    })
}

/// The register `i` after `first`.
fn register(first: u32, i: u32) -> u8 {
    (first + i & 31) as u8
}

impl Translator<'_> {
    /// LD1 to LD4, ST1 to ST4.
    pub(super) fn structures(&mut self, word: u32) -> Lowered {
        let post = bit(word, 23);
        if bit(word, 31) || !bit(word, 24) && bit(word, 21) || !post && bits(word, 20, 16) != 0 {
            return Lowered::No;
        }
        if bit(word, 24) {
            return self.one_structure(word);
        }
        let (count, interleaved) = match bits(word, 15, 12) {
            0b0111 => (1, false),
            0b1010 => (2, false),
            0b0110 => (3, false),
            0b0010 => (4, false),
            0b1000 => (2, true),
            0b0100 => (3, true),
            0b0000 => (4, true),
            _ => return Lowered::No,
        };
        let (size, q) = (bits(word, 11, 10) as usize, bit(word, 30));
        if interleaved && size == 3 && !q {
            return Lowered::No;
        }
        let (rn, rt) = (sp(word, 5), bits(word, 4, 0));
        let base = self.base(rn);
        let length = if q { 16 } else { 8 };
        if interleaved {
            let mem = Mem::at(base, 0);
            match (count, bit(word, 22)) {
                (2, true) => self.load_2(size, q, rt, mem),
                (3, true) => self.load_3(size, q, rt, mem),
                (_, true) => self.load_4(size, q, rt, mem),
                (2, false) => self.store_2(size, q, rt, mem),
                (3, false) => self.store_3(size, q, rt, mem),
                (_, false) => self.store_4(size, q, rt, mem),
            }
        } else {
            for i in 0..count {
                self.whole_register(q, bit(word, 22), register(rt, i), Mem::at(base, i as i32 * length));
            }
        }
        if post {
            self.advance_structure(word, rn, base, count as i32 * length);
        }
        ONE
    }

    /// Loads or stores the register `v`.
    fn whole_register(&mut self, q: bool, load: bool, v: u8, mem: Mem) {
        match (load, q) {
            (true, true) => {
                let t = self.vresult(v);
                self.a.vload(t, mem);
                self.vput(v, t);
            }
            (true, false) => {
                let t = self.vresult(v);
                self.a.vmovq(t, mem);
                self.vput_scalar(true, v, t, true);
            }
            (false, true) => {
                let from = self.vget(v, X0);
                self.a.vstore(mem, from);
            }
            (false, false) => {
                let from = self.vget(v, X0);
                self.a.vstore_q(mem, from);
            }
        }
    }

    /// LD1 to LD4 and ST1 to ST4 of single lanes, LD1R to LD4R.
    fn one_structure(&mut self, word: u32) -> Lowered {
        let (load, q, s) = (bit(word, 22), bit(word, 30), bit(word, 12));
        let (opcode, size) = (bits(word, 15, 13), bits(word, 11, 10));
        let count = (opcode & 1) << 1 | bits(word, 21, 21);
        // Q:S:size, the lane among bytes.
        let lane = u32::from(q) << 3 | u32::from(s) << 2 | size;
        let (log2, lane) = match opcode >> 1 {
            0 => (0, lane),
            1 if size & 1 == 0 => (1, lane >> 1),
            2 if size == 0 => (2, lane >> 2),
            2 if size == 1 && !s => (3, lane >> 3),
            3 if load && !s => (size, 0),
            _ => return Lowered::No,
        };
        let (rn, rt) = (sp(word, 5), bits(word, 4, 0));
        let base = self.base(rn);
        for i in 0..=count {
            let (mem, v) = (Mem::at(base, (i << log2) as i32), register(rt, i));
            if opcode >> 1 == 3 {
                let t = self.vresult(v);
                self.a.vbroadcast(log2 as u8, t, mem);
                self.finish(q, v, t);
            } else if load {
                self.insert(log2 as u8, v, lane as u8, mem.into());
            } else {
                self.store_lane(log2 as u8, v, lane as u8, mem);
            }
        }
        if bit(word, 23) {
            self.advance_structure(word, rn, base, (count as i32 + 1) << log2);
        }
        ONE
    }

    fn store_lane(&mut self, log2: u8, v: u8, lane: u8, mem: Mem) {
        let Some(host) = self.vector_host(v) else {
            let from = vector(v).plus(i32::from(lane) << log2);
            match log2 {
                0 => self.a.movzx8(Reg::RAX, from),
                1 => self.a.movzx16(Reg::RAX, from),
                2 => self.a.mov(Size::D, Reg::RAX, from),
                _ => self.a.mov(Size::Q, Reg::RAX, from),
            }
            return self.store(log2, mem, Reg::RAX);
        };
        // VPEXTRB, VPEXTRW, VPEXTRD, VPEXTRQ.
        let opcode = [0x14, 0x15, 0x16, 0x16][usize::from(log2)];
        self.a.vex(Prefix::P66, Map::M0F3A, log2 == 3, opcode, host.0, 0, mem);
        self.a.byte(lane);
    }

    /// `x` = its even elements in the low half, its odd ones in the high half.
    fn split(&mut self, size: usize, x: Xmm) {
        match size {
            0 | 1 => {
                let (width, half) = (1 << size, 8);
                let mask = self.constant(shuffle(0, 16, |p| {
                    let (odd, p) = (p / half, p % half);
                    (p / width * 2 + odd) * width + p % width
                }));
                self.a.vp38(0x00, x, x, mask);
            }
            2 => self.a.vpshufd(x, x, 0b11_01_10_00),
            _ => {}
        }
    }

    /// The even (or odd) elements of two registers that have been split.
    fn halves(&mut self, odd: bool, d: Xmm, a: Xmm, b: Xmm) {
        self.a.vp(if odd { UNPACK_HIGH[3] } else { UNPACK_LOW[3] }, d, a, b);
    }

    /// Registers `first` and `second` = the even and odd elements of xmm0, with xmm1 after it if `q` is set.
    fn put_split(&mut self, size: usize, q: bool, first: u8, second: u8) {
        self.split(size, X0);
        if q {
            self.split(size, X1);
        }
        for (v, odd) in [(first, false), (second, true)] {
            let t = self.vector_host(v).unwrap_or(X2);
            match (q, odd) {
                (true, _) => self.halves(odd, t, X0, X1),
                (false, false) => self.a.vmovq(t, X0),
                // VPSRLDQ by 8.
                (false, true) => self.a.vshift_imm(0x73, 3, t, X0, 8),
            }
            self.vput(v, t);
            if !q {
                self.set_vclean(true, v);
            }
        }
    }

    fn load_2(&mut self, size: usize, q: bool, rt: u32, mem: Mem) {
        self.a.vload(X0, mem);
        if q {
            self.a.vload(X1, mem.plus(16));
        }
        self.put_split(size, q, register(rt, 0), register(rt, 1));
    }

    /// The even elements, which are those of the first and third register, then the odd ones.
    fn load_4(&mut self, size: usize, q: bool, rt: u32, mem: Mem) {
        for odd in [false, true] {
            for (target, offset) in [(X0, 0), (X1, 32)].into_iter().take(if q { 2 } else { 1 }) {
                self.a.vload(target, mem.plus(offset));
                self.a.vload(X2, mem.plus(offset + 16));
                self.split(size, target);
                self.split(size, X2);
                self.halves(odd, target, target, X2);
            }
            let first = u32::from(odd);
            self.put_split(size, q, register(rt, first), register(rt, first + 2));
        }
    }

    fn load_3(&mut self, size: usize, q: bool, rt: u32, mem: Mem) {
        let (width, length) = (1usize << size, if q { 16usize } else { 8 });
        for i in 0..3 {
            let sum = X0;
            for block in 0..(3 * length).div_ceil(16) {
                let x = if block == 0 { sum } else { X1 };
                let from = mem.plus(block as i32 * 16);
                if q || block == 0 {
                    self.a.vload(x, from);
                } else {
                    self.a.vmovq(x, from);
                }
                let mask = self.constant(shuffle(block, length, |p| (p / width * 3 + i) * width + p % width));
                self.a.vp38(0x00, x, x, mask);
                if block != 0 {
                    self.a.vp(OR, sum, sum, x);
                }
            }
            let v = register(rt, i as u32);
            self.vput(v, sum);
            if !q {
                self.set_vclean(true, v);
            }
        }
    }

    fn store_2(&mut self, size: usize, q: bool, rt: u32, mem: Mem) {
        let (a, b) = (register(rt, 0), register(rt, 1));
        let a = self.vget(a, X0);
        let b = self.vrm(b);
        self.a.vp(UNPACK_LOW[size], X1, a, b);
        self.a.vstore(mem, X1);
        if q {
            self.a.vp(UNPACK_HIGH[size], X1, a, b);
            self.a.vstore(mem.plus(16), X1);
        }
    }

    fn store_4(&mut self, size: usize, q: bool, rt: u32, mem: Mem) {
        for (part, unpack) in [UNPACK_LOW[size], UNPACK_HIGH[size]].into_iter().enumerate() {
            if part == 1 && !q {
                break;
            }
            for (x, first) in [(X0, 0), (X1, 1)] {
                let a = self.vget(register(rt, first), x);
                let b = self.vrm(register(rt, first + 2));
                self.a.vp(unpack, x, a, b);
            }
            let at = mem.plus(part as i32 * 32);
            self.a.vp(UNPACK_LOW[size], X2, X0, X1);
            self.a.vstore(at, X2);
            self.a.vp(UNPACK_HIGH[size], X2, X0, X1);
            self.a.vstore(at.plus(16), X2);
        }
    }

    fn store_3(&mut self, size: usize, q: bool, rt: u32, mem: Mem) {
        let (width, length) = (1usize << size, if q { 16usize } else { 8 });
        for block in 0..(3 * length).div_ceil(16) {
            let end = (3 * length - block * 16).min(16);
            for i in 0..3 {
                let from = self.vget(register(rt, i as u32), X1);
                let x = if i == 0 { X0 } else { X1 };
                // Elements of other registers come from another block.
                let mask = self.constant(shuffle(0, end, |p| {
                    let (element, byte) = ((block * 16 + p) / width, p % width);
                    if element % 3 == i { element / 3 * width + byte } else { 16 }
                }));
                self.a.vp38(0x00, x, from, mask);
                if i != 0 {
                    self.a.vp(OR, X0, X0, x);
                }
            }
            let at = mem.plus(block as i32 * 16);
            if end == 16 {
                self.a.vstore(at, X0);
            } else {
                self.a.vstore_q(at, X0);
            }
        }
    }
}
