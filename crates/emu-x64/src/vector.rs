//! VEX-encoded instructions: AVX, AVX2, FMA, BMI (Intel SDM volume 2, chapter 2.3).

use crate::{Assembler, Mem, Reg, Rm, Size, Xmm};

/// The implied prefix of a VEX instruction (field `pp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Prefix {
    None = 0,
    P66 = 1,
    F3 = 2,
    F2 = 3,
}

/// The opcode map of a VEX instruction (field `mmmmm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Map {
    M0F = 1,
    M0F38 = 2,
    M0F3A = 3,
}

use Map::{M0F, M0F3A, M0F38};
use Prefix::{F2, F3, None as Np, P66};

impl Assembler {
    /// Any VEX instruction of 128 bits or a scalar: `reg`, `vvvv` (0 where unused) and `rm` by number.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the encoding")]
    pub fn vex(
        &mut self,
        prefix: Prefix,
        map: Map,
        wide: bool,
        opcode: u8,
        reg: u8,
        vvvv: u8,
        rm: impl Into<Rm>,
    ) {
        self.vex_of_length(false, (prefix, map, wide, opcode), reg, vvvv, rm.into());
    }

    /// The same, of 256 bits if `long`; prefix, map, field `W` and opcode together.
    pub fn vex_of_length(
        &mut self,
        long: bool,
        (prefix, map, wide, opcode): (Prefix, Map, bool, u8),
        reg: u8,
        vvvv: u8,
        rm: Rm,
    ) {
        let bits = Self::rex_bits(reg, rm);
        // R, X and B are stored inverted.
        let (r, x, b) = (bits >> 2 & 1, bits >> 1 & 1, bits & 1);
        let last = (!vvvv & 15) << 3 | u8::from(long) << 2 | prefix as u8;
        self.put(|encoding| {
            if map == M0F && !wide && x == 0 && b == 0 {
                encoding.byte(0xc5);
                encoding.byte((r ^ 1) << 7 | last);
            } else {
                encoding.byte(0xc4);
                encoding.byte((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | map as u8);
                encoding.byte(if wide { 0x80 } else { 0 } | last);
            }
            encoding.byte(opcode);
            encoding.modrm(reg, rm);
        });
    }

    /// A packed integer instruction of map 0F with prefix 66: `d = a op b`.
    pub fn vp(&mut self, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.vex(P66, M0F, false, opcode, d.0, a.0, b);
    }

    /// A packed integer instruction of map 0F38 with prefix 66: `d = a op b`.
    pub fn vp38(&mut self, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.vex(P66, M0F38, false, opcode, d.0, a.0, b);
    }

    /// An instruction of map 0F3A with prefix 66 and an immediate: `d = a op b, imm`.
    pub fn vp3a(&mut self, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>, imm: u8) {
        self.vex(P66, M0F3A, false, opcode, d.0, a.0, b);
        self.byte(imm);
    }

    /// A packed shift of map 0F by an immediate: `d = a shifted`; `extension` selects the shift.
    pub fn vshift_imm(&mut self, opcode: u8, extension: u8, d: Xmm, a: Xmm, count: u8) {
        self.vex(P66, M0F, false, opcode, extension, d.0, a);
        self.byte(count);
    }

    /// A scalar floating-point instruction of map 0F (ADD 58, MUL 59, SUB 5C, MIN 5D, DIV 5E, MAX 5F, SQRT
    /// 51): `d = a op b`, upper bits from `a`.
    pub fn vscalar(&mut self, double: bool, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.vex(if double { F2 } else { F3 }, M0F, false, opcode, d.0, a.0, b);
    }

    /// A packed floating-point instruction of map 0F: `d = a op b`.
    pub fn vpacked(&mut self, double: bool, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.vex(if double { P66 } else { Np }, M0F, false, opcode, d.0, a.0, b);
    }

    /// VUCOMISS, VUCOMISD.
    pub fn vucomis(&mut self, double: bool, a: Xmm, b: impl Into<Rm>) {
        self.vex(if double { P66 } else { Np }, M0F, false, 0x2e, a.0, 0, b);
    }

    /// VCOMISS, VCOMISD: quiet NaNs signal, too.
    pub fn vcomis(&mut self, double: bool, a: Xmm, b: impl Into<Rm>) {
        self.vex(if double { P66 } else { Np }, M0F, false, 0x2f, a.0, 0, b);
    }

    /// VZEROUPPER: the bits of all vector registers from 128 up become zero.
    pub fn vzeroupper(&mut self) {
        self.bytes(&[0xc5, 0xf8, 0x77]);
    }

    /// VMOVDQU: loads 16 bytes, or copies a register.
    pub fn vload(&mut self, d: Xmm, from: impl Into<Rm>) {
        match from.into() {
            // VMOVAPS: shorter, and executed by register renaming.
            Rm::R(register) => self.vex(Np, M0F, false, 0x28, d.0, 0, Rm::R(register)),
            mem => self.vex(F3, M0F, false, 0x6f, d.0, 0, mem),
        }
    }

    /// VMOVDQU: stores 16 bytes.
    pub fn vstore(&mut self, mem: Mem, from: Xmm) {
        self.vex(F3, M0F, false, 0x7f, from.0, 0, mem);
    }

    /// VMOVQ: the low 8 bytes of `from`, zero-extended.
    pub fn vmovq(&mut self, d: Xmm, from: impl Into<Rm>) {
        self.vex(F3, M0F, false, 0x7e, d.0, 0, from);
    }

    /// VMOVDDUP: the low 8 bytes of `from` in both halves.
    pub fn vmovddup(&mut self, d: Xmm, from: impl Into<Rm>) {
        self.vex(F2, M0F, false, 0x12, d.0, 0, from);
    }

    /// VMOVQ: stores the low 8 bytes.
    pub fn vstore_q(&mut self, mem: Mem, from: Xmm) {
        self.vex(P66, M0F, false, 0xd6, from.0, 0, mem);
    }

    /// VMOVD, VMOVQ: a general register or memory to the low bytes of `d`, zero-extended.
    pub fn vmov_from(&mut self, size: Size, d: Xmm, from: impl Into<Rm>) {
        self.vex(P66, M0F, size == Size::Q, 0x6e, d.0, 0, from);
    }

    /// VMOVD, VMOVQ: the low bytes to a general register or memory.
    pub fn vmov_to(&mut self, size: Size, to: impl Into<Rm>, from: Xmm) {
        self.vex(P66, M0F, size == Size::Q, 0x7e, from.0, 0, to);
    }

    /// SHLX, SHRX, SARX: `d = rm shifted by count`; leaves the flags alone.
    pub fn shiftx(&mut self, op: crate::Shift, size: Size, d: Reg, rm: impl Into<Rm>, count: Reg) {
        let prefix = match op {
            crate::Shift::Shl => P66,
            crate::Shift::Shr => F2,
            _ => F3,
        };
        self.vex(prefix, M0F38, size == Size::Q, 0xf7, d.0, count.0, rm);
    }

    /// RORX: `d = rm rotated right`; leaves the flags alone.
    pub fn rorx(&mut self, size: Size, d: Reg, rm: impl Into<Rm>, count: u8) {
        self.vex(F2, M0F3A, size == Size::Q, 0xf0, d.0, 0, rm);
        self.byte(count);
    }

    /// ANDN: `d = !a & rm`.
    pub fn andn(&mut self, size: Size, d: Reg, a: Reg, rm: impl Into<Rm>) {
        self.vex(Np, M0F38, size == Size::Q, 0xf2, d.0, a.0, rm);
    }

    /// MULX: `high:low = rdx * rm`, unsigned; leaves the flags alone.
    pub fn mulx(&mut self, size: Size, high: Reg, low: Reg, rm: impl Into<Rm>) {
        self.vex(F2, M0F38, size == Size::Q, 0xf6, high.0, low.0, rm);
    }

    /// A conversion between a general register or memory and a scalar, or the other way (opcodes 2A, 2C, 2D):
    /// `reg` and `vvvv` by number.
    pub fn vconvert(&mut self, double: bool, size: Size, opcode: u8, reg: u8, vvvv: u8, rm: impl Into<Rm>) {
        let prefix = if double { F2 } else { F3 };
        self.vex(prefix, M0F, size == Size::Q, opcode, reg, vvvv, rm);
    }

    /// A scalar fused multiply-add of map 0F38 (opcode B9 is `d = a * b + d`).
    pub fn vfused(&mut self, double: bool, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.vex(P66, M0F38, double, opcode, d.0, a.0, b);
    }

    /// VPSHUFD; `from` is not a label.
    pub fn vpshufd(&mut self, d: Xmm, from: impl Into<Rm>, order: u8) {
        self.vex(P66, M0F, false, 0x70, d.0, 0, from);
        self.byte(order);
    }

    /// SHA1MSG1, SHA1MSG2, SHA1NEXTE, SHA256RNDS2, SHA256MSG1, SHA256MSG2 (opcodes C8 to CD of map 0F38,
    /// without VEX): `d = d op b`; SHA256RNDS2 reads xmm0 too.
    pub fn sha(&mut self, opcode: u8, d: Xmm, b: Xmm) {
        self.legacy(None, Size::D, 0x0f_3800 | u32::from(opcode), d.0, Rm::R(b.0), false);
    }

    /// SHA1RNDS4 with the function of that number: `d` holds a to d from the top, `b` the words with e added
    /// to the first.
    pub fn sha1_rounds(&mut self, d: Xmm, b: Xmm, function: u8) {
        self.legacy(None, Size::D, 0x0f_3acc, d.0, Rm::R(b.0), false);
        self.byte(function);
    }

    /// VPBROADCASTB, W, D, Q by log2 of the size.
    pub fn vbroadcast(&mut self, log2: u8, d: Xmm, from: impl Into<Rm>) {
        let opcode = [0x78, 0x79, 0x58, 0x59][usize::from(log2 & 3)];
        self.vex(P66, M0F38, false, opcode, d.0, 0, from);
    }
}
