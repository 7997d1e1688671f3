//! Loads and stores of structures (manual C4.1.94, "Advanced SIMD load/store multiple structures" and "single
//! structure"). What reorders elements is in [`crate::translate::vectors::structures`].

use super::registers::sp;
use super::{Lowered, ONE, Translator, bit, bits};
use crate::layout::{X0, vector};
use crossdock_emu_x64::{Map, Mem, Prefix, Reg, Size};

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
            let v = [0, 1, 2, 3].map(|i| register(rt, i));
            match (count, bit(word, 22)) {
                (2, true) => self.load_2(size, q, v, mem),
                (3, true) => self.load_3(size, q, v, mem),
                (_, true) => self.load_4(size, q, v, mem),
                (2, false) => self.store_2(size, q, v, mem),
                (3, false) => self.store_3(size, q, v, mem),
                (_, false) => self.store_4(size, q, v, mem),
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
}
