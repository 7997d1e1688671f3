//! Loads and stores of several structures, whose elements lie in turn in two to four registers (manual
//! C4.1.94, F4.1.11).
//!
//! No general register changes before the last access, and the registers loaded are no operands of the
//! addresses, so an instruction that faults half-way can be run again. The lowest address comes first: a
//! fault reports that one.

use super::lanes::{OR, UNPACK_HIGH, UNPACK_LOW, bytes};
use crate::layout::{X0, X1, X2};
use crate::translate::operands::is_part;
use crate::translate::{Isa, Translator};
use crossdock_emu_x64::{Mem, Xmm};

/// PSHUFB's operand that takes byte `p` of the result from byte `from(p)` of 16-byte block `block`; bytes
/// from other blocks, and bytes at `end` or after it, are zero.
fn shuffle(block: usize, end: usize, from: impl Fn(usize) -> usize) -> u128 {
    (0..end).fold(bytes(0x80), |mask, p| {
        let source = from(p);
        if source / 16 == block { mask ^ (0x80 ^ (source as u128 % 16)) << (8 * p) } else { mask }
    })
}

impl<I: Isa> Translator<'_, I> {
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
            let t = if is_part(v) { X2 } else { self.vector_host(v).unwrap_or(X2) };
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

    /// Two registers of structures of two elements at `mem`, which are interleaved there.
    pub(in crate::translate) fn load_2(&mut self, size: usize, q: bool, v: [u8; 4], mem: Mem) {
        self.guest_access();
        self.a.vload(X0, mem);
        if q {
            self.guest_access();
            self.a.vload(X1, mem.plus(16));
        }
        self.put_split(size, q, v[0], v[1]);
    }

    /// The same of four: the even elements, which are those of the first and third register, then the odd
    /// ones.
    pub(in crate::translate) fn load_4(&mut self, size: usize, q: bool, v: [u8; 4], mem: Mem) {
        for odd in [false, true] {
            for (target, offset) in [(X0, 0), (X1, 32)].into_iter().take(if q { 2 } else { 1 }) {
                self.guest_access();
                self.a.vload(target, mem.plus(offset));
                self.guest_access();
                self.a.vload(X2, mem.plus(offset + 16));
                self.split(size, target);
                self.split(size, X2);
                self.halves(odd, target, target, X2);
            }
            let first = usize::from(odd);
            self.put_split(size, q, v[first], v[first + 2]);
        }
    }

    /// The same of three.
    pub(in crate::translate) fn load_3(&mut self, size: usize, q: bool, v: [u8; 4], mem: Mem) {
        let (width, length) = (1usize << size, if q { 16usize } else { 8 });
        for i in 0..3 {
            let sum = X0;
            for block in 0..(3 * length).div_ceil(16) {
                let x = if block == 0 { sum } else { X1 };
                let from = mem.plus(block as i32 * 16);
                self.guest_access();
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
            let v = v[i];
            self.vput(v, sum);
            if !q {
                self.set_vclean(true, v);
            }
        }
    }

    /// Stores structures of two elements.
    pub(in crate::translate) fn store_2(&mut self, size: usize, q: bool, v: [u8; 4], mem: Mem) {
        let (a, b) = (v[0], v[1]);
        let a = self.vget(a, X0);
        let b = self.vsource(b, X1);
        self.a.vp(UNPACK_LOW[size], X1, a, b);
        self.guest_access();
        self.a.vstore(mem, X1);
        if q {
            self.a.vp(UNPACK_HIGH[size], X1, a, b);
            self.guest_access();
            self.a.vstore(mem.plus(16), X1);
        }
    }

    /// The same of four.
    pub(in crate::translate) fn store_4(&mut self, size: usize, q: bool, v: [u8; 4], mem: Mem) {
        for (part, unpack) in [UNPACK_LOW[size], UNPACK_HIGH[size]].into_iter().enumerate() {
            if part == 1 && !q {
                break;
            }
            for (x, first) in [(X0, 0), (X1, 1)] {
                let a = self.vget(v[first], x);
                let b = self.vsource(v[first + 2], X2);
                self.a.vp(unpack, x, a, b);
            }
            let at = mem.plus(part as i32 * 32);
            self.a.vp(UNPACK_LOW[size], X2, X0, X1);
            self.guest_access();
            self.a.vstore(at, X2);
            self.a.vp(UNPACK_HIGH[size], X2, X0, X1);
            self.guest_access();
            self.a.vstore(at.plus(16), X2);
        }
    }

    /// The same of three.
    pub(in crate::translate) fn store_3(&mut self, size: usize, q: bool, v: [u8; 4], mem: Mem) {
        let (width, length) = (1usize << size, if q { 16usize } else { 8 });
        for block in 0..(3 * length).div_ceil(16) {
            let end = (3 * length - block * 16).min(16);
            for (i, &register) in v[..3].iter().enumerate() {
                let from = self.vget(register, X1);
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
            self.guest_access();
            if end == 16 {
                self.a.vstore(at, X0);
            } else {
                self.a.vstore_q(at, X0);
            }
        }
    }
}
