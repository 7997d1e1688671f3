//! An assembler for the x86-64 instructions that translated guest code is made of (Intel SDM volume 2, chapter 2).
//!
//! It writes bytes into a buffer and resolves labels within it. What the bytes are for is the caller's. The same calls
//! give the same bytes, and no byte depends on where the code will lie, except the displacements that the caller asks
//! for with [`Assembler::jump_rel`] and its kin.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod vector;

pub use vector::{Map, Prefix};

use alloc::vec::Vec;

/// A general register by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

#[allow(missing_docs)]
impl Reg {
    pub const RAX: Reg = Reg(0);
    pub const RCX: Reg = Reg(1);
    pub const RDX: Reg = Reg(2);
    pub const RBX: Reg = Reg(3);
    pub const RSP: Reg = Reg(4);
    pub const RBP: Reg = Reg(5);
    pub const RSI: Reg = Reg(6);
    pub const RDI: Reg = Reg(7);
    pub const R8: Reg = Reg(8);
    pub const R9: Reg = Reg(9);
    pub const R10: Reg = Reg(10);
    pub const R11: Reg = Reg(11);
    pub const R12: Reg = Reg(12);
    pub const R13: Reg = Reg(13);
    pub const R14: Reg = Reg(14);
    pub const R15: Reg = Reg(15);
}

/// A vector register by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xmm(pub u8);

/// A memory operand: `base + index * 2^shift + disp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    /// Base register.
    pub base: Reg,
    /// Index register (not RSP) and the power of two it is scaled by, 0 to 3.
    pub index: Option<(Reg, u8)>,
    /// Displacement in bytes.
    pub disp: i32,
}

impl Mem {
    /// `base + disp`.
    pub const fn at(base: Reg, disp: i32) -> Mem {
        Mem { base, index: None, disp }
    }

    /// The same operand `bytes` further.
    pub const fn plus(self, bytes: i32) -> Mem {
        Mem { disp: self.disp + bytes, ..self }
    }
}

/// A register or memory operand: the ModRM byte's `rm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rm {
    /// A register, general or vector as the instruction has it.
    R(u8),
    /// Memory.
    M(Mem),
    /// Memory at a label, relative to the next instruction; not for instructions with an immediate.
    L(Label),
}

impl From<Label> for Rm {
    fn from(label: Label) -> Rm {
        Rm::L(label)
    }
}

impl From<Reg> for Rm {
    fn from(reg: Reg) -> Rm {
        Rm::R(reg.0)
    }
}

impl From<Xmm> for Rm {
    fn from(xmm: Xmm) -> Rm {
        Rm::R(xmm.0)
    }
}

impl From<Mem> for Rm {
    fn from(mem: Mem) -> Rm {
        Rm::M(mem)
    }
}

/// Operand size of an integer instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 32 bits; a register result is zero-extended.
    D,
    /// 64 bits.
    Q,
}

/// The two-operand arithmetic instructions, by their number in opcodes 00 to 3F and 80 to 83.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Alu {
    Add = 0,
    Or = 1,
    Adc = 2,
    Sbb = 3,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// The shifts, by their number in opcodes C1 and D3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shift {
    Rol = 0,
    Ror = 1,
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// The conditions, by their number in opcodes 70 to 7F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cc {
    O = 0,
    No = 1,
    B = 2,
    Ae = 3,
    E = 4,
    Ne = 5,
    Be = 6,
    A = 7,
    S = 8,
    Ns = 9,
    P = 10,
    Np = 11,
    L = 12,
    Ge = 13,
    Le = 14,
    G = 15,
}

impl Cc {
    /// The opposite condition.
    pub const fn not(self) -> Cc {
        match self {
            Cc::O => Cc::No,
            Cc::No => Cc::O,
            Cc::B => Cc::Ae,
            Cc::Ae => Cc::B,
            Cc::E => Cc::Ne,
            Cc::Ne => Cc::E,
            Cc::Be => Cc::A,
            Cc::A => Cc::Be,
            Cc::S => Cc::Ns,
            Cc::Ns => Cc::S,
            Cc::P => Cc::Np,
            Cc::Np => Cc::P,
            Cc::L => Cc::Ge,
            Cc::Ge => Cc::L,
            Cc::Le => Cc::G,
            Cc::G => Cc::Le,
        }
    }
}

/// A place in the code, known or yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(u32);

const UNBOUND: u32 = u32::MAX;

/// The longest instruction (SDM volume 2, chapter 2.3.11), and one more byte.
const LENGTH_MAX: usize = 16;

/// An instruction on its way to the buffer, which takes it in one store.
#[derive(Clone, Copy)]
struct Encoding {
    bytes: [u8; LENGTH_MAX],
    length: usize,
    /// What the displacement that ends it leads to.
    label: Option<Label>,
}

impl Encoding {
    const EMPTY: Encoding = Encoding { bytes: [0; LENGTH_MAX], length: 0, label: None };

    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.length & (LENGTH_MAX - 1)] = byte;
        self.length += 1;
    }

    #[inline(always)]
    fn dword(&mut self, value: i32) {
        for byte in value.to_le_bytes() {
            self.byte(byte);
        }
    }

    /// ModRM, SIB and displacement. The REX or VEX bits have been written.
    #[inline(always)]
    fn modrm(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        let mem = match rm {
            Rm::R(register) => return self.byte(0xc0 | reg | register & 7),
            Rm::L(label) => {
                self.byte(reg | 5);
                self.label = Some(label);
                return self.dword(0);
            }
            Rm::M(mem) => mem,
        };
        let base = mem.base.0 & 7;
        // rbp and r13 as base have no form without displacement.
        let mode = match mem.disp {
            0 if base != 5 => 0x00,
            -128..=127 => 0x40,
            _ => 0x80,
        };
        match mem.index {
            None if base != 4 => self.byte(mode | reg | base),
            // rsp and r12 as base need a SIB byte.
            None => {
                self.byte(mode | reg | 4);
                self.byte(0x20 | base);
            }
            Some((index, shift)) => {
                debug_assert!(index != Reg::RSP && shift < 4);
                self.byte(mode | reg | 4);
                self.byte(shift << 6 | (index.0 & 7) << 3 | base);
            }
        }
        match mode {
            0x40 => self.byte(mem.disp as u8),
            0x80 => self.dword(mem.disp),
            _ => {}
        }
    }
}

/// A buffer of code.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The code, and room behind it.
    code: Vec<u8>,
    length: usize,
    labels: Vec<u32>,
    /// Displacements of 4 bytes that end at the position and lead to the label.
    fixups: Vec<(u32, Label)>,
}

impl Assembler {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the buffer and forgets all labels, keeping the memory.
    pub fn clear(&mut self) {
        self.length = 0;
        self.labels.clear();
        self.fixups.clear();
    }

    /// Bytes so far: the offset of the next instruction.
    pub fn position(&self) -> u32 {
        self.length as u32
    }

    /// The code, with all labels resolved.
    ///
    /// # Panics
    ///
    /// Where a label that is used was never bound: a bug of the caller.
    pub fn finish(&mut self) -> &[u8] {
        for (end, label) in self.fixups.drain(..) {
            let target = self.labels[label.0 as usize];
            assert!(target != UNBOUND, "a jump to a label that is not bound");
            let displacement = target.wrapping_sub(end) as i32;
            self.code[end as usize - 4..end as usize].copy_from_slice(&displacement.to_le_bytes());
        }
        &self.code[..self.length]
    }

    /// A label for a place yet to come.
    pub fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() as u32 - 1)
    }

    /// Makes `label` this place.
    pub fn bind(&mut self, label: Label) {
        debug_assert!(self.labels[label.0 as usize] == UNBOUND, "a label is bound twice");
        self.labels[label.0 as usize] = self.position();
    }

    /// Offset of a label, once bound.
    pub fn offset(&self, label: Label) -> Option<u32> {
        Some(self.labels[label.0 as usize]).filter(|&offset| offset != UNBOUND)
    }

    /// One byte as it is.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        let mut encoding = Encoding::EMPTY;
        encoding.byte(byte);
        self.put(encoding);
    }

    /// Appends an instruction, or a part of one.
    #[inline(always)]
    fn put(&mut self, encoding: Encoding) {
        if self.code.len() - self.length < LENGTH_MAX {
            self.grow();
        }
        self.code[self.length..self.length + LENGTH_MAX].copy_from_slice(&encoding.bytes);
        self.length += encoding.length;
        if let Some(label) = encoding.label {
            self.fixups.push((self.position(), label));
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.code.len() * 2).max(8 << 10);
        self.code.resize(size, 0);
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(LENGTH_MAX) {
            let mut encoding = Encoding::EMPTY;
            for &byte in part {
                encoding.byte(byte);
            }
            self.put(encoding);
        }
    }

    /// Data of 8 bytes.
    pub fn quad(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// NOPs until the position plus `ahead` is a multiple of `align` (a power of two).
    pub fn align(&mut self, align: u32, ahead: u32) {
        while !(self.position() + ahead).is_multiple_of(align) {
            self.byte(0x90);
        }
    }

    fn dword(&mut self, value: i32) {
        self.bytes(&value.to_le_bytes());
    }

    /// REX prefix bits R, X and B.
    fn rex_bits(reg: u8, rm: Rm) -> u8 {
        let r = reg >> 3 << 2;
        match rm {
            Rm::R(register) => r | register >> 3,
            Rm::L(_) => r,
            Rm::M(mem) => r | mem.index.map_or(0, |(index, _)| index.0 >> 3 << 1) | mem.base.0 >> 3,
        }
    }

    /// A legacy instruction: optional prefix, REX, opcode bytes, ModRM. `byte_reg` says that `reg` (or a register
    /// `rm`) is an 8-bit register, which needs a REX prefix for SPL to DIL.
    pub(crate) fn legacy(
        &mut self,
        prefix: Option<u8>,
        size: Size,
        opcode: &[u8],
        reg: u8,
        rm: Rm,
        byte_reg: bool,
    ) {
        let mut encoding = Encoding::EMPTY;
        if let Some(prefix) = prefix {
            encoding.byte(prefix);
        }
        let rex = Self::rex_bits(reg, rm) | if size == Size::Q { 8 } else { 0 };
        let low_byte = byte_reg && (reg >= 4 || matches!(rm, Rm::R(4..)));
        if rex != 0 || low_byte {
            encoding.byte(0x40 | rex);
        }
        for &byte in opcode {
            encoding.byte(byte);
        }
        encoding.modrm(reg, rm);
        self.put(encoding);
    }

    /// `reg = reg op rm` (for CMP, the flags only).
    pub fn alu(&mut self, op: Alu, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(None, size, &[(op as u8) << 3 | 3], reg.0, rm.into(), false);
    }

    /// `rm = rm op reg`.
    pub fn alu_to(&mut self, op: Alu, size: Size, rm: impl Into<Rm>, reg: Reg) {
        self.legacy(None, size, &[(op as u8) << 3 | 1], reg.0, rm.into(), false);
    }

    /// `rm = rm op imm`, the immediate sign-extended.
    pub fn alu_imm(&mut self, op: Alu, size: Size, rm: impl Into<Rm>, imm: i32) {
        if let Ok(imm) = i8::try_from(imm) {
            self.legacy(None, size, &[0x83], op as u8, rm.into(), false);
            self.byte(imm as u8);
        } else {
            self.legacy(None, size, &[0x81], op as u8, rm.into(), false);
            self.dword(imm);
        }
    }

    /// TEST: flags of `rm & reg`.
    pub fn test(&mut self, size: Size, rm: impl Into<Rm>, reg: Reg) {
        self.legacy(None, size, &[0x85], reg.0, rm.into(), false);
    }

    /// TEST with a sign-extended immediate.
    pub fn test_imm(&mut self, size: Size, rm: impl Into<Rm>, imm: i32) {
        self.legacy(None, size, &[0xf7], 0, rm.into(), false);
        self.dword(imm);
    }

    /// TEST of a byte of memory, or of the low byte of a register.
    pub fn test_imm8(&mut self, rm: impl Into<Rm>, imm: u8) {
        self.legacy(None, Size::D, &[0xf6], 0, rm.into(), true);
        self.byte(imm);
    }

    /// BT: carry = bit `bit` of `rm`.
    pub fn bit_test(&mut self, size: Size, rm: impl Into<Rm>, bit: u8) {
        self.legacy(None, size, &[0x0f, 0xba], 4, rm.into(), false);
        self.byte(bit);
    }

    /// `reg = rm`.
    pub fn mov(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0x8b], reg.0, rm.into(), false);
    }

    /// `rm = reg`.
    pub fn mov_to(&mut self, size: Size, rm: impl Into<Rm>, reg: Reg) {
        self.legacy(None, size, &[0x89], reg.0, rm.into(), false);
    }

    /// `reg = imm` in the shortest form; leaves the flags alone.
    pub fn mov_imm(&mut self, reg: Reg, imm: u64) {
        if let Ok(imm) = u32::try_from(imm) {
            if reg.0 >= 8 {
                self.byte(0x41);
            }
            self.byte(0xb8 | reg.0 & 7);
            self.dword(imm as i32);
        } else if let Ok(imm) = i32::try_from(imm as i64) {
            self.mov_imm32(Size::Q, reg, imm);
        } else {
            self.byte(0x48 | reg.0 >> 3);
            self.byte(0xb8 | reg.0 & 7);
            self.quad(imm);
        }
    }

    /// `rm = imm`, sign-extended.
    pub fn mov_imm32(&mut self, size: Size, rm: impl Into<Rm>, imm: i32) {
        self.legacy(None, size, &[0xc7], 0, rm.into(), false);
        self.dword(imm);
    }

    /// Stores the low byte of a register.
    pub fn store8(&mut self, mem: Mem, reg: Reg) {
        self.legacy(None, Size::D, &[0x88], reg.0, mem.into(), true);
    }

    /// Stores the low 16 bits of a register.
    pub fn store16(&mut self, mem: Mem, reg: Reg) {
        self.legacy(Some(0x66), Size::D, &[0x89], reg.0, mem.into(), false);
    }

    /// MOVZX of a byte.
    pub fn movzx8(&mut self, reg: Reg, rm: impl Into<Rm>) {
        self.extend8(Size::D, &[0x0f, 0xb6], reg, rm.into());
    }

    /// MOVZX of 16 bits.
    pub fn movzx16(&mut self, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(None, Size::D, &[0x0f, 0xb7], reg.0, rm.into(), false);
    }

    /// MOVSX of a byte.
    pub fn movsx8(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.extend8(size, &[0x0f, 0xbe], reg, rm.into());
    }

    /// MOVSX of 16 bits.
    pub fn movsx16(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0x0f, 0xbf], reg.0, rm.into(), false);
    }

    /// MOVSXD: 32 bits to 64.
    pub fn movsxd(&mut self, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(None, Size::Q, &[0x63], reg.0, rm.into(), false);
    }

    fn extend8(&mut self, size: Size, opcode: &[u8], reg: Reg, rm: Rm) {
        // Only the source is an 8-bit register.
        let low_byte = matches!(rm, Rm::R(4..));
        let rex = Self::rex_bits(reg.0, rm) | if size == Size::Q { 8 } else { 0 };
        if rex != 0 || low_byte {
            self.byte(0x40 | rex);
        }
        self.bytes(opcode);
        self.modrm(reg.0, rm);
    }

    fn modrm(&mut self, reg: u8, rm: Rm) {
        let mut encoding = Encoding::EMPTY;
        encoding.modrm(reg, rm);
        self.put(encoding);
    }

    /// `reg = address of mem`; leaves the flags alone.
    pub fn lea(&mut self, size: Size, reg: Reg, mem: Mem) {
        self.legacy(None, size, &[0x8d], reg.0, mem.into(), false);
    }

    /// `reg = address of label`.
    pub fn lea_label(&mut self, reg: Reg, label: Label) {
        self.bytes(&[0x48 | reg.0 >> 3 << 2, 0x8d, (reg.0 & 7) << 3 | 5]);
        self.label32(label);
    }

    /// A shift of `rm` by an immediate.
    pub fn shift_imm(&mut self, op: Shift, size: Size, rm: impl Into<Rm>, count: u8) {
        self.legacy(None, size, &[0xc1], op as u8, rm.into(), false);
        self.byte(count);
    }

    /// A rotation of `rm` by CL (or a shift).
    pub fn shift_cl(&mut self, op: Shift, size: Size, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0xd3], op as u8, rm.into(), false);
    }

    /// ROL of the low 16 bits of a register.
    pub fn rol16(&mut self, reg: Reg, count: u8) {
        self.legacy(Some(0x66), Size::D, &[0xc1], 0, reg.into(), false);
        self.byte(count);
    }

    /// SHRD: `rm` shifted right by `count`, filled from `reg`.
    pub fn shrd(&mut self, size: Size, rm: impl Into<Rm>, reg: Reg, count: u8) {
        self.legacy(None, size, &[0x0f, 0xac], reg.0, rm.into(), false);
        self.byte(count);
    }

    /// NOT; leaves the flags alone.
    pub fn not(&mut self, size: Size, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0xf7], 2, rm.into(), false);
    }

    /// NEG.
    pub fn neg(&mut self, size: Size, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0xf7], 3, rm.into(), false);
    }

    /// `rdx:rax = rax * rm`, unsigned.
    pub fn mul(&mut self, size: Size, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0xf7], 4, rm.into(), false);
    }

    /// `rdx:rax = rax * rm`, signed.
    pub fn imul_wide(&mut self, size: Size, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0xf7], 5, rm.into(), false);
    }

    /// `rax, rdx = rdx:rax / rm, remainder`, unsigned.
    pub fn div(&mut self, size: Size, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0xf7], 6, rm.into(), false);
    }

    /// `rax, rdx = rdx:rax / rm, remainder`, signed.
    pub fn idiv(&mut self, size: Size, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0xf7], 7, rm.into(), false);
    }

    /// CDQ, CQO: the sign of rax in rdx.
    pub fn sign_to_rdx(&mut self, size: Size) {
        if size == Size::Q {
            self.byte(0x48);
        }
        self.byte(0x99);
    }

    /// `reg = reg * rm`.
    pub fn imul(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0x0f, 0xaf], reg.0, rm.into(), false);
    }

    /// LZCNT.
    pub fn lzcnt(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(Some(0xf3), size, &[0x0f, 0xbd], reg.0, rm.into(), false);
    }

    /// POPCNT.
    pub fn popcnt(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(Some(0xf3), size, &[0x0f, 0xb8], reg.0, rm.into(), false);
    }

    /// CRC32 (Castagnoli) of 1, 2, 4 or 8 bytes (`log2` 0 to 3) of `rm` into `reg`.
    pub fn crc32(&mut self, reg: Reg, rm: impl Into<Rm>, log2: u8) {
        let rm = rm.into();
        if log2 == 1 {
            self.byte(0x66);
        }
        let size = if log2 == 3 { Size::Q } else { Size::D };
        self.byte(0xf2);
        let rex = Self::rex_bits(reg.0, rm) | if size == Size::Q { 8 } else { 0 };
        if rex != 0 || log2 == 0 && matches!(rm, Rm::R(4..)) {
            self.byte(0x40 | rex);
        }
        self.bytes(&[0x0f, 0x38, if log2 == 0 { 0xf0 } else { 0xf1 }]);
        self.modrm(reg.0, rm);
    }

    /// BSWAP.
    pub fn bswap(&mut self, size: Size, reg: Reg) {
        let rex = if size == Size::Q { 8 } else { 0 } | reg.0 >> 3;
        if rex != 0 {
            self.byte(0x40 | rex);
        }
        self.bytes(&[0x0f, 0xc8 | reg.0 & 7]);
    }

    /// CMOVcc.
    pub fn cmov(&mut self, cc: Cc, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(None, size, &[0x0f, 0x40 | cc as u8], reg.0, rm.into(), false);
    }

    /// SETcc of the low byte of a register.
    pub fn set(&mut self, cc: Cc, reg: Reg) {
        self.legacy(None, Size::D, &[0x0f, 0x90 | cc as u8], 0, reg.into(), true);
    }

    /// LAHF: ah = SF ZF 0 AF 0 PF 1 CF.
    pub fn lahf(&mut self) {
        self.byte(0x9f);
    }

    /// SAHF, its inverse.
    pub fn sahf(&mut self) {
        self.byte(0x9e);
    }

    /// CMC: complements the carry.
    pub fn cmc(&mut self) {
        self.byte(0xf5);
    }

    /// `add al, imm`.
    pub fn add_al(&mut self, imm: u8) {
        self.bytes(&[0x04, imm]);
    }

    /// PUSH.
    pub fn push(&mut self, reg: Reg) {
        if reg.0 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x50 | reg.0 & 7);
    }

    /// POP.
    pub fn pop(&mut self, reg: Reg) {
        if reg.0 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x58 | reg.0 & 7);
    }

    /// RET.
    pub fn ret(&mut self) {
        self.byte(0xc3);
    }

    /// `jmp rm`.
    pub fn jump_indirect(&mut self, rm: impl Into<Rm>) {
        self.legacy(None, Size::D, &[0xff], 4, rm.into(), false);
    }

    /// `call rm`.
    pub fn call_indirect(&mut self, rm: impl Into<Rm>) {
        self.legacy(None, Size::D, &[0xff], 2, rm.into(), false);
    }

    /// `jmp label`, 5 bytes.
    pub fn jump(&mut self, label: Label) {
        self.byte(0xe9);
        self.label32(label);
    }

    /// `call label`, 5 bytes.
    pub fn call(&mut self, label: Label) {
        self.byte(0xe8);
        self.label32(label);
    }

    /// `jcc label`, 6 bytes.
    pub fn jump_if(&mut self, cc: Cc, label: Label) {
        self.bytes(&[0x0f, 0x80 | cc as u8]);
        self.label32(label);
    }

    /// `jcc` over at most 127 bytes; [`Assembler::land`] says where to.
    pub fn skip_if(&mut self, cc: Cc) -> Skip {
        self.bytes(&[0x70 | cc as u8, 0]);
        Skip(self.position())
    }

    /// `jmp` over at most 127 bytes.
    pub fn skip(&mut self) -> Skip {
        self.bytes(&[0xeb, 0]);
        Skip(self.position())
    }

    /// The target of a skip.
    ///
    /// # Panics
    ///
    /// Where it is more than 127 bytes back: a bug of the caller.
    pub fn land(&mut self, skip: Skip) {
        let distance = self.position() - skip.0;
        assert!(distance < 128, "a short jump over {distance} bytes");
        self.code[skip.0 as usize - 1] = distance as u8;
    }

    /// `jmp` by a displacement from its end. Returns the offset of the displacement.
    pub fn jump_rel(&mut self, displacement: i32) -> u32 {
        self.byte(0xe9);
        self.dword(displacement);
        self.position() - 4
    }

    /// `call` by a displacement from its end. Returns the offset of the displacement.
    pub fn call_rel(&mut self, displacement: i32) -> u32 {
        self.byte(0xe8);
        self.dword(displacement);
        self.position() - 4
    }

    fn label32(&mut self, label: Label) {
        self.dword(0);
        self.fixups.push((self.position(), label));
    }

    /// `lock` and an instruction that reads and writes memory: XADD (`mem`, `reg` = old).
    pub fn lock_xadd(&mut self, log2: u8, mem: Mem, reg: Reg) {
        self.locked(log2, mem, reg, &[0x0f, 0xc0], &[0x0f, 0xc1]);
    }

    /// `lock cmpxchg`: memory that equals rax becomes `reg`; rax = what was seen.
    pub fn lock_cmpxchg(&mut self, log2: u8, mem: Mem, reg: Reg) {
        self.locked(log2, mem, reg, &[0x0f, 0xb0], &[0x0f, 0xb1]);
    }

    /// XCHG of memory and `reg`; atomic without a prefix.
    pub fn xchg(&mut self, log2: u8, mem: Mem, reg: Reg) {
        self.sized(log2, mem, reg, &[0x86], &[0x87]);
    }

    fn locked(&mut self, log2: u8, mem: Mem, reg: Reg, byte: &[u8], other: &[u8]) {
        self.byte(0xf0);
        self.sized(log2, mem, reg, byte, other);
    }

    fn sized(&mut self, log2: u8, mem: Mem, reg: Reg, byte: &[u8], other: &[u8]) {
        let size = if log2 == 3 { Size::Q } else { Size::D };
        let prefix = (log2 == 1).then_some(0x66);
        self.legacy(prefix, size, if log2 == 0 { byte } else { other }, reg.0, mem.into(), log2 == 0);
    }

    /// MFENCE.
    pub fn mfence(&mut self) {
        self.bytes(&[0x0f, 0xae, 0xf0]);
    }

    /// PAUSE.
    pub fn pause(&mut self) {
        self.bytes(&[0xf3, 0x90]);
    }

    /// LDMXCSR.
    pub fn ldmxcsr(&mut self, mem: Mem) {
        self.legacy(None, Size::D, &[0x0f, 0xae], 2, mem.into(), false);
    }

    /// STMXCSR.
    pub fn stmxcsr(&mut self, mem: Mem) {
        self.legacy(None, Size::D, &[0x0f, 0xae], 3, mem.into(), false);
    }
}

/// A short jump whose target is yet to come.
#[derive(Debug)]
#[must_use]
pub struct Skip(u32);
