//! Parts of groups in the host's registers, and the masks of elements that an instruction leaves alone.
//!
//! The guest's vector registers are in the state, one behind the other, so a group is memory in one piece. An
//! instruction loads 32 bytes of it at a time, computes in xmm0 with xmm1 and xmm15 as its scratch registers,
//! and stores. A scalar operand is in all elements of xmm15 from before the first part on.

use super::shape::{Body, Chunk};
use crate::layout::{BIT_OF, BYTE_OF, LANE_PARTS, ROOM, STATE, TAIL, VL, X0, X1, group};
use crate::translate::rv64::Translator;
use crossdock_emu_x64::{Alu, Map, Mem, Prefix, Reg, Rm, Shift, Size, Xmm};

/// Prefix, map, field `W` and opcode of an instruction.
pub(super) type Code = (Prefix, Map, bool, u8);

/// An instruction of map 0F with prefix 66.
pub(super) const fn p(opcode: u8) -> Code {
    (Prefix::P66, Map::M0F, false, opcode)
}

/// An instruction of map 0F38 with prefix 66.
pub(super) const fn p38(opcode: u8) -> Code {
    (Prefix::P66, Map::M0F38, false, opcode)
}

/// An instruction of map 0F3A with prefix 66.
pub(super) const fn p3a(opcode: u8) -> Code {
    (Prefix::P66, Map::M0F3A, false, opcode)
}

/// The packed form of an instruction of floating point.
pub(super) const fn packed(double: bool, opcode: u8) -> Code {
    (if double { Prefix::P66 } else { Prefix::None }, Map::M0F, false, opcode)
}

pub(super) const AND: Code = p(0xdb);
pub(super) const AND_NOT: Code = p(0xdf);
pub(super) const OR: Code = p(0xeb);
pub(super) const XOR: Code = p(0xef);

/// A constant that repeats an element.
pub(super) fn repeated(value: u64, sew: u8) -> u128 {
    let (bits, mut all) = (8u32 << sew, 0);
    let value = u128::from(value) & u128::MAX >> (128 - bits);
    for i in 0..128 / bits {
        all |= value << (i * bits);
    }
    all
}

/// The part of a group that begins at register `v`.
pub(super) fn part(v: u32, chunk: Chunk) -> Mem {
    group(v).plus(chunk.at as i32)
}

/// The element that rcx numbers of a group.
pub(super) fn element(v: u32, size: u8) -> Mem {
    Mem { index: Some((Reg::RCX, size)), ..group(v) }
}

/// Where the mask of a part is kept, and an operand under it.
const MASK: Mem = LANE_PARTS;
pub(super) const OPERAND: Mem = LANE_PARTS.plus(32);
pub(super) const OTHER: Mem = LANE_PARTS.plus(64);
pub(super) const ROOM_BEHIND: Mem = ROOM.plus(128);

impl Translator<'_> {
    /// `d = a op b`, of 256 bits if `long`.
    pub(super) fn lanes(&mut self, long: bool, code: Code, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.a.vex_of_length(long, code, d.0, a.0, b.into());
    }

    /// `d = op b`.
    pub(super) fn lanes_of_one(&mut self, long: bool, code: Code, d: Xmm, b: impl Into<Rm>) {
        self.a.vex_of_length(long, code, d.0, 0, b.into());
    }

    /// `d = a op b` with an immediate.
    pub(super) fn lanes_imm(&mut self, long: bool, code: Code, d: Xmm, a: Xmm, b: impl Into<Rm>, imm: u8) {
        self.a.vex_of_length(long, code, d.0, a.0, b.into());
        self.a.byte_behind_operand(imm);
    }

    /// `d` = `a` shifted by an immediate; `extension` is part of the opcode.
    pub(super) fn lanes_shift(&mut self, long: bool, (opcode, extension): (u8, u8), d: Xmm, a: Xmm, by: u8) {
        self.a.vex_of_length(long, p(opcode), extension, d.0, a.into());
        self.a.byte(by);
    }

    /// `d` = some bytes of memory; above them are zeros.
    pub(super) fn lanes_load(&mut self, d: Xmm, from: Mem, bytes: u32) {
        match bytes {
            32 => self.lanes_of_one(true, (Prefix::F3, Map::M0F, false, 0x6f), d, from),
            16 => self.a.vload(d, from),
            8 => self.a.vmovq(d, from),
            4 => self.a.vmov_from(Size::D, d, from),
            2 => {
                self.a.movzx16(Reg::RAX, from);
                self.a.vmov_from(Size::D, d, Reg::RAX);
            }
            _ => {
                self.a.movzx8(Reg::RAX, from);
                self.a.vmov_from(Size::D, d, Reg::RAX);
            }
        }
    }

    /// Memory = the lowest bytes of a register.
    pub(super) fn lanes_store(&mut self, to: Mem, from: Xmm, bytes: u32) {
        match bytes {
            32 => self.a.vex_of_length(true, (Prefix::F3, Map::M0F, false, 0x7f), from.0, 0, to.into()),
            16 => self.a.vstore(to, from),
            8 => self.a.vstore_q(to, from),
            4 => self.a.vmov_to(Size::D, to, from),
            // VPEXTRW, VPEXTRB.
            2 => self.lanes_imm(false, p3a(0x15), from, Xmm(0), to, 0),
            _ => self.lanes_imm(false, p3a(0x14), from, Xmm(0), to, 0),
        }
    }

    /// `d` = a constant of 16 bytes, twice if `long`.
    pub(super) fn splat_constant(&mut self, long: bool, d: Xmm, value: u128) {
        if value == 0 {
            return self.lanes(false, XOR, d, d, d);
        }
        let value = self.constant(value);
        // VBROADCASTI128.
        let code = if long { p38(0x5a) } else { (Prefix::F3, Map::M0F, false, 0x6f) };
        self.lanes_of_one(long, code, d, value);
    }

    /// `d` = an element in all its elements.
    pub(super) fn lanes_splat(&mut self, long: bool, sew: u8, d: Xmm, from: impl Into<Rm>) {
        let opcode = [0x78, 0x79, 0x58, 0x59][usize::from(sew & 3)];
        self.lanes_of_one(long, p38(opcode), d, from);
    }

    /// `d` = `select` ? `other` : `one`, by bytes.
    pub(super) fn lanes_blend(&mut self, long: bool, d: Xmm, one: Xmm, other: impl Into<Rm>, select: Xmm) {
        self.lanes_imm(long, p3a(0x4c), d, one, other, select.0 << 4);
    }

    /// Makes rcx lead to the masks of the bytes behind vl, of elements of `1 << sew` bytes, if vl is not
    /// known. [`Translator::inverse`] needs that.
    pub(super) fn find_tail(&mut self, body: Body, sew: u8) {
        if body.vl.is_none() {
            self.a.mov(Size::Q, Reg::RCX, VL);
            if sew > 0 {
                self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, sew);
            }
            self.a.neg(Size::Q, Reg::RCX);
            self.a.alu(Alu::Add, Size::Q, Reg::RCX, STATE);
        }
    }

    /// The mask of the bytes of a part that are not in the body. Changes xmm1.
    pub(super) fn inverse(&mut self, body: Body, sew: u8, chunk: Chunk) -> Mem {
        let tail = match body.vl {
            None => Mem { base: Reg::RCX, ..TAIL },
            Some(vl) => TAIL.plus(-((vl << sew).cast_signed())),
        }
        .plus(chunk.at as i32);
        if !body.masked {
            return tail;
        }
        self.expand_mask(chunk, sew);
        if body.vl != Some(body.elements) || chunk.bytes < 16 {
            self.lanes(chunk.long(), OR, X1, X1, tail);
        }
        self.lanes_store(MASK, X1, chunk.bytes.max(16));
        MASK
    }

    /// xmm1 = ones in the elements of a part that v0 leaves out.
    fn expand_mask(&mut self, chunk: Chunk, sew: u8) {
        let long = chunk.long();
        let first = chunk.at >> sew;
        let (bits, at) = (BIT_OF[usize::from(sew)], group(0).plus((first / 8) as i32));
        // Only elements of 32 and 64 bits begin inside a byte of the mask.
        let bits = bits.plus(((first % 8) << sew) as i32);
        match sew {
            0 => {
                self.lanes_splat(long, 2, X1, at);
                // VPSHUFB.
                self.lanes(long, p38(0x00), X1, X1, BYTE_OF);
            }
            1 => self.lanes_splat(long, 1, X1, at),
            2 => self.lanes_splat(long, 2, X1, at),
            _ => self.lanes_splat(long, 3, X1, at),
        }
        self.lanes(long, AND, X1, X1, bits);
        // VPCMPEQ.
        let equal = [p(0x74), p(0x75), p(0x76), p38(0x29)][usize::from(sew)];
        self.lanes(long, equal, X1, X1, bits);
        self.invert_part(long, X1);
    }

    /// `d` = its bits inverted.
    pub(super) fn invert_part(&mut self, long: bool, d: Xmm) {
        // The end of the tail's table is all ones.
        self.lanes(long, XOR, d, d, TAIL);
    }

    /// Stores xmm0 as the result of a part, but for the elements that are not in the body. Changes xmm1.
    pub(super) fn finish_part(&mut self, d: u32, chunk: Chunk, body: Body, sew: u8) {
        if !body.is_whole() {
            let inverse = self.inverse(body, sew, chunk);
            self.lanes_load(X1, inverse, chunk.bytes.max(16));
            if chunk.bytes < 16 {
                // Not more than was stored is loaded.
                self.lanes(false, AND_NOT, X0, X1, X0);
                self.lanes_store(OPERAND, X0, 16);
                self.lanes_load(X0, part(d, chunk), chunk.bytes);
                self.lanes(false, AND, X0, X0, X1);
                self.lanes(false, OR, X0, X0, OPERAND);
            } else {
                self.lanes_blend(chunk.long(), X0, X0, part(d, chunk), X1);
            }
        }
        self.lanes_store(part(d, chunk), X0, chunk.bytes);
    }
}
