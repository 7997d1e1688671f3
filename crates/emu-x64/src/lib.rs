//! An assembler for the x86-64 instructions that translated guest code is made of (Intel SDM volume 2,
//! chapter 2).
//!
//! It writes bytes into a buffer and resolves labels within it; the caller decides what the bytes are for.
//! The same calls give the same bytes. No byte depends on where the code will lie, except the displacements
//! that the caller passes to [`Assembler::jump_rel`] and its kin.
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

    /// The operand moved by `bytes`.
    pub const fn plus(self, bytes: i32) -> Mem {
        Mem { disp: self.disp + bytes, ..self }
    }
}

/// A register or memory operand: the ModRM byte's `rm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rm {
    /// A register; the instruction decides whether general or vector.
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

/// A place in the code, known or still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(u32);

const UNBOUND: u32 = u32::MAX;

/// The longest instruction (SDM volume 2, chapter 2.3.11), and one more byte.
const LENGTH_MAX: usize = 16;
/// Room behind the buffer's end for an instruction: a store at any offset below [`LENGTH_MAX`] stays inside.
const ROOM: usize = 2 * LENGTH_MAX;
/// One instruction that does nothing, by its length (SDM volume 2, NOP).
const NOPS: [[u8; 4]; 4] = [[0; 4], [0x90, 0, 0, 0], [0x66, 0x90, 0, 0], [0x0f, 0x1f, 0x00, 0]];

/// An instruction that is being written behind the buffer's end.
struct Encoding<'a> {
    bytes: &'a mut [u8; ROOM],
    length: usize,
    /// Where a displacement to a label ends, and the label.
    fixup: Option<(usize, Label)>,
}

impl Encoding<'_> {
    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.length % LENGTH_MAX] = byte;
        self.length += 1;
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, bytes: [u8; N]) {
        let at = self.length % LENGTH_MAX;
        self.bytes[at..at + N].copy_from_slice(&bytes);
        self.length += N;
    }

    #[inline(always)]
    fn dword(&mut self, value: i32) {
        self.store(value.to_le_bytes());
    }

    /// Up to 8 bytes, the first in the low bits.
    #[inline(always)]
    fn few(&mut self, bytes: u64, length: usize) {
        self.store(bytes.to_le_bytes());
        self.length -= 8 - length;
    }

    /// REX if needed, opcode and ModRM of an instruction with a register operand. Uses no branches, which
    /// would often be mispredicted: later bytes overwrite those that are not needed.
    #[inline(always)]
    fn register_form(&mut self, code: Code, reg: u8, rm: u8) {
        let modrm = 0xc0 | (reg & 7) << 3 | rm & 7;
        let (head, length) = code.head(reg >> 3 << 2 | rm >> 3, modrm.into(), 1);
        self.few(head, length);
    }

    /// Like [`Encoding::register_form`], for a memory operand.
    #[inline(always)]
    fn memory_form(&mut self, code: Code, reg: u8, mem: Mem) {
        let operand = Operand::of(reg, mem);
        let bits = reg >> 3 << 2 | mem.base.0 >> 3;
        match mem.index {
            None => {
                // The bases rsp and r12, 4 in ModRM, need a SIB byte, in which 4 means no index.
                let sib = usize::from(operand.modrm & 7 == 4);
                let (head, length) = code.head(bits, u64::from(operand.modrm) | 0x2400, 1 + sib);
                self.few(head, length);
            }
            Some(index) => {
                let modrm = operand.modrm & !7 | 4;
                let all = u64::from(modrm) | u64::from(sib(mem.base, index)) << 8;
                let (head, length) = code.head(bits | index.0.0 >> 3 << 1, all, 2);
                self.few(head, length);
            }
        }
        self.displacement(mem, operand);
    }

    #[inline(always)]
    fn displacement(&mut self, mem: Mem, operand: Operand) {
        self.dword(mem.disp);
        self.length -= 4 - operand.displacement_bytes;
    }

    /// An opcode of one to three bytes; longer ones begin with 0F.
    #[inline(always)]
    fn opcode(&mut self, opcode: u32) {
        if opcode > 0xffff {
            self.byte((opcode >> 16) as u8);
        }
        if opcode > 0xff {
            self.byte((opcode >> 8) as u8);
        }
        self.byte(opcode as u8);
    }

    #[inline(always)]
    fn immediate(&mut self, immediate: Immediate) {
        self.dword(immediate.value);
        self.length -= 4 - usize::from(immediate.bytes);
    }

    /// REX if needed, opcode, operand.
    #[inline(always)]
    fn instruction(&mut self, code: Code, reg: u8, rm: Rm) {
        match rm {
            Rm::R(rm) => self.register_form(code, reg, rm),
            Rm::M(mem) => self.memory_form(code, reg, mem),
            Rm::L(label) => {
                let (head, length) = code.head(reg >> 3 << 2, u64::from((reg & 7) << 3 | 5), 1);
                self.few(head, length);
                self.label(label);
            }
        }
    }

    /// Four bytes that lead to a label from their end.
    #[inline(always)]
    fn label(&mut self, label: Label) {
        self.dword(0);
        self.fixup = Some((self.length, label));
    }

    /// ModRM, SIB and displacement. The VEX bits have been written.
    #[inline(always)]
    fn modrm(&mut self, reg: u8, rm: Rm) {
        match rm {
            Rm::R(register) => self.byte(0xc0 | (reg & 7) << 3 | register & 7),
            Rm::L(label) => {
                self.byte((reg & 7) << 3 | 5);
                self.label(label);
            }
            Rm::M(mem) => {
                let operand = Operand::of(reg, mem);
                match mem.index {
                    None => {
                        let base = operand.modrm & 7;
                        self.few(u64::from(operand.modrm) | 0x2400, 1 + usize::from(base == 4));
                    }
                    Some(index) => {
                        self.byte(operand.modrm & !7 | 4);
                        self.byte(sib(mem.base, index));
                    }
                }
                self.displacement(mem, operand);
            }
        }
    }
}

/// The encoding of a memory operand: ModRM without an index, and the length of the displacement.
#[derive(Clone, Copy)]
struct Operand {
    modrm: u8,
    displacement_bytes: usize,
}

impl Operand {
    #[inline(always)]
    fn of(reg: u8, mem: Mem) -> Operand {
        let base = mem.base.0 & 7;
        // No displacement, 8 bits or 32; the bases rbp and r13 always need one.
        let form = u8::from(mem.disp != 0 || base == 5) + u8::from(mem.disp != i32::from(mem.disp as i8));
        Operand { modrm: form << 6 | (reg & 7) << 3 | base, displacement_bytes: usize::from(form * form) }
    }
}

#[inline(always)]
fn sib(base: Reg, (index, shift): (Reg, u8)) -> u8 {
    debug_assert!(index != Reg::RSP && shift < 4);
    shift << 6 | (index.0 & 7) << 3 | base.0 & 7
}

/// An immediate at the end of an instruction: the low 1 or 4 bytes of a value.
#[derive(Clone, Copy)]
struct Immediate {
    value: i32,
    bytes: u8,
}

impl Immediate {
    fn byte(value: u8) -> Immediate {
        Immediate { value: value.into(), bytes: 1 }
    }

    fn dword(value: i32) -> Immediate {
        Immediate { value, bytes: 4 }
    }
}

/// An opcode and its REX bits: the opcode's bytes in the order of writing, their number from bit 24, REX.W in
/// bit 27, and in bit 28 whether REX is always written.
#[derive(Clone, Copy)]
struct Code(u32);

impl Code {
    /// An opcode of one to three bytes; longer ones begin with 0F.
    #[inline(always)]
    const fn new(size: Size, opcode: u32) -> Code {
        let wide = (size as u32) << 27;
        Code(match opcode {
            0..=0xff => opcode | 1 << 24 | wide,
            0x100..=0xffff => opcode >> 8 | (opcode & 0xff) << 8 | 2 << 24 | wide,
            _ => opcode >> 16 | opcode & 0xff00 | (opcode & 0xff) << 16 | 3 << 24 | wide,
        })
    }

    #[inline(always)]
    fn with_rex(self, always: bool) -> Code {
        Code(self.0 | u32::from(always) << 28)
    }

    /// REX if needed, opcode and operand, and their number of bytes, at most 6.
    #[inline(always)]
    fn head(self, bits: u8, operand: u64, operand_bytes: usize) -> (u64, usize) {
        let high = self.0 >> 24;
        let bits = high & 0x18 | u32::from(bits);
        let needed = usize::from(bits != 0);
        let opcode_bytes = high as usize & 3;
        let all = u64::from(self.0 & 0xff_ffff) | operand << (8 * opcode_bytes);
        let rex = u64::from(0x40 | bits & 15);
        ((all << 8 | rex) >> (8 - 8 * needed), needed + opcode_bytes + operand_bytes)
    }
}

/// A buffer of code.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The code, and room behind it.
    code: Vec<u8>,
    length: usize,
    labels: Vec<u32>,
    /// Displacements of 4 bytes: the position where each ends, and the label that it leads to.
    fixups: Vec<(u32, Label)>,
    /// Room for an instruction before `code` has any.
    first: [u8; ROOM],
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

    /// Bytes written so far: the offset of the next instruction.
    pub fn position(&self) -> u32 {
        self.length as u32
    }

    /// The code, with all labels resolved.
    ///
    /// # Panics
    ///
    /// If a used label was never bound, which is a bug of the caller.
    pub fn finish(&mut self) -> &[u8] {
        for (end, label) in self.fixups.drain(..) {
            let target = self.labels[label.0 as usize];
            assert!(target != UNBOUND, "a jump to a label that is not bound");
            let Some(place) = self.code[..end as usize].last_chunk_mut() else { continue };
            let displacement = target.wrapping_sub(end) as i32 + i32::from_le_bytes(*place);
            *place = displacement.to_le_bytes();
        }
        &self.code[..self.length]
    }

    /// A label for a place still to come.
    pub fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() as u32 - 1)
    }

    /// Binds `label` to this place.
    pub fn bind(&mut self, label: Label) {
        debug_assert!(self.labels[label.0 as usize] == UNBOUND, "a label is bound twice");
        self.labels[label.0 as usize] = self.position();
    }

    /// Offset of a label; `None` until the label is bound.
    pub fn offset(&self, label: Label) -> Option<u32> {
        Some(self.labels[label.0 as usize]).filter(|&offset| offset != UNBOUND)
    }

    /// Appends an instruction, or a part of one. Except at the very beginning there is room already, so no
    /// values must be kept across a call that makes room.
    #[inline(always)]
    fn put(&mut self, write: impl FnOnce(&mut Encoding<'_>)) {
        let start = self.length;
        let bytes = match self.code.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
            Some(bytes) => bytes,
            None => &mut self.first,
        };
        let mut encoding = Encoding { bytes, length: 0, fixup: None };
        write(&mut encoding);
        let fixup = encoding.fixup;
        self.length = start + encoding.length;
        if let Some((end, label)) = fixup {
            self.fixups.push(((start + end) as u32, label));
        }
        if self.code.len() < self.length + ROOM {
            self.grow(start);
        }
    }

    /// Makes room for the next instruction; the last one began at `start`.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, start: usize) {
        let before = self.code.len();
        self.code.resize((before * 2).max(8 << 10), 0);
        if before < start + ROOM {
            self.code[start..start + ROOM].copy_from_slice(&self.first);
        }
    }

    /// Writes one byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.put(|encoding| encoding.byte(byte));
    }

    /// Writes the immediate of an instruction whose last operand may be at a label: the label's displacement
    /// counts from the instruction's end.
    pub fn byte_behind_operand(&mut self, byte: u8) {
        if let Some(&(end, _)) = self.fixups.last()
            && end as usize == self.length
        {
            self.code[self.length - 4..self.length].copy_from_slice(&(-1i32).to_le_bytes());
        }
        self.byte(byte);
    }

    /// Writes bytes unchanged.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(LENGTH_MAX) {
            self.put(|encoding| part.iter().for_each(|&byte| encoding.byte(byte)));
        }
    }

    /// Data of 8 bytes.
    pub fn quad(&mut self, value: u64) {
        self.put(|encoding| encoding.store(value.to_le_bytes()));
    }

    /// NOPs until the position plus `ahead` is a multiple of `align` (a power of two).
    pub fn align(&mut self, align: u32, ahead: u32) {
        let count = (self.position() + ahead).wrapping_neg() & (align - 1);
        debug_assert!(align.is_power_of_two() && align as usize <= LENGTH_MAX);
        self.put(|encoding| match NOPS.get(count as usize) {
            Some(nop) => nop[..count as usize].iter().for_each(|&byte| encoding.byte(byte)),
            None => {
                *encoding.bytes = [0x90; ROOM];
                encoding.length = count as usize;
            }
        });
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

    /// A legacy instruction: optional prefix, REX, opcode, ModRM. `byte_reg` says that `reg` (or a register
    /// `rm`) is an 8-bit register, which needs a REX prefix for SPL to DIL.
    pub(crate) fn legacy(
        &mut self,
        prefix: Option<u8>,
        size: Size,
        opcode: u32,
        reg: u8,
        rm: Rm,
        byte_reg: bool,
    ) {
        let code = Code::new(size, opcode).with_rex(byte_reg && (reg >= 4 || matches!(rm, Rm::R(4..))));
        self.put(|encoding| {
            if let Some(prefix) = prefix {
                encoding.byte(prefix);
            }
            encoding.instruction(code, reg, rm);
        });
    }

    /// An instruction without prefix: REX, opcode, ModRM, immediate.
    #[inline(always)]
    fn with_immediate(&mut self, size: Size, opcode: u32, reg: u8, rm: Rm, immediate: Immediate) {
        let code = Code::new(size, opcode);
        match rm {
            Rm::R(rm) => self.register_with_immediate(code, reg, rm, immediate),
            Rm::M(mem) => self.memory_with_immediate(code, reg, mem, immediate),
            // Callers never pass `Rm::L` with an immediate.
            Rm::L(_) => unreachable!("an immediate behind an operand at a label"),
        }
    }

    fn register_with_immediate(&mut self, code: Code, reg: u8, rm: u8, immediate: Immediate) {
        self.put(|encoding| {
            encoding.register_form(code, reg, rm);
            encoding.immediate(immediate);
        });
    }

    fn memory_with_immediate(&mut self, code: Code, reg: u8, mem: Mem, immediate: Immediate) {
        self.put(|encoding| {
            encoding.memory_form(code, reg, mem);
            encoding.immediate(immediate);
        });
    }

    /// The usual instruction: REX, opcode, ModRM. The kind of operand is mostly known at compile time.
    #[inline(always)]
    fn plain(&mut self, size: Size, opcode: u32, reg: u8, rm: Rm) {
        let code = Code::new(size, opcode);
        match rm {
            Rm::R(rm) => self.plain_register(code, reg, rm),
            Rm::M(mem) => self.plain_memory(code, reg, mem),
            Rm::L(_) => self.put(|encoding| encoding.instruction(code, reg, rm)),
        }
    }

    fn plain_register(&mut self, code: Code, reg: u8, rm: u8) {
        self.put(|encoding| encoding.register_form(code, reg, rm));
    }

    fn plain_memory(&mut self, code: Code, reg: u8, mem: Mem) {
        self.put(|encoding| encoding.memory_form(code, reg, mem));
    }

    /// `reg = reg op rm` (for CMP, the flags only).
    pub fn alu(&mut self, op: Alu, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.plain(size, (op as u32) << 3 | 3, reg.0, rm.into());
    }

    /// `rm = rm op reg`.
    pub fn alu_to(&mut self, op: Alu, size: Size, rm: impl Into<Rm>, reg: Reg) {
        self.plain(size, (op as u32) << 3 | 1, reg.0, rm.into());
    }

    /// `rm = rm op imm`, the immediate sign-extended.
    pub fn alu_imm(&mut self, op: Alu, size: Size, rm: impl Into<Rm>, imm: i32) {
        if let Ok(imm) = i8::try_from(imm) {
            self.with_immediate(size, 0x83, op as u8, rm.into(), Immediate::byte(imm as u8));
        } else {
            self.with_immediate(size, 0x81, op as u8, rm.into(), Immediate::dword(imm));
        }
    }

    /// TEST: flags of `rm & reg`.
    pub fn test(&mut self, size: Size, rm: impl Into<Rm>, reg: Reg) {
        self.plain(size, 0x85, reg.0, rm.into());
    }

    /// TEST with a sign-extended immediate.
    pub fn test_imm(&mut self, size: Size, rm: impl Into<Rm>, imm: i32) {
        self.with_immediate(size, 0xf7, 0, rm.into(), Immediate::dword(imm));
    }

    /// TEST of a byte of memory, or of the low byte of a register.
    pub fn test_imm8(&mut self, rm: impl Into<Rm>, imm: u8) {
        self.legacy(None, Size::D, 0xf6, 0, rm.into(), true);
        self.byte(imm);
    }

    /// BT: carry = bit `bit` of `rm`.
    pub fn bit_test(&mut self, size: Size, rm: impl Into<Rm>, bit: u8) {
        self.with_immediate(size, 0x0fba, 4, rm.into(), Immediate::byte(bit));
    }

    /// BT: carry = the bit of a string of bits in memory that `reg` numbers, or of a register.
    pub fn bit_test_by(&mut self, size: Size, rm: impl Into<Rm>, reg: Reg) {
        self.plain(size, 0x0fa3, reg.0, rm.into());
    }

    /// `reg = rm`.
    pub fn mov(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.plain(size, 0x8b, reg.0, rm.into());
    }

    /// `rm = reg`.
    pub fn mov_to(&mut self, size: Size, rm: impl Into<Rm>, reg: Reg) {
        self.plain(size, 0x89, reg.0, rm.into());
    }

    /// `reg = imm` in the shortest form; leaves the flags alone.
    pub fn mov_imm(&mut self, reg: Reg, imm: u64) {
        if let Ok(imm) = u32::try_from(imm) {
            self.put(|encoding| {
                if reg.0 >= 8 {
                    encoding.byte(0x41);
                }
                encoding.byte(0xb8 | reg.0 & 7);
                encoding.dword(imm as i32);
            });
        } else if let Ok(imm) = i32::try_from(imm as i64) {
            self.mov_imm32(Size::Q, reg, imm);
        } else {
            self.put(|encoding| {
                encoding.byte(0x48 | reg.0 >> 3);
                encoding.byte(0xb8 | reg.0 & 7);
                encoding.store(imm.to_le_bytes());
            });
        }
    }

    /// `rm = imm`, sign-extended.
    pub fn mov_imm32(&mut self, size: Size, rm: impl Into<Rm>, imm: i32) {
        self.with_immediate(size, 0xc7, 0, rm.into(), Immediate::dword(imm));
    }

    /// Stores the low byte of a register.
    pub fn store8(&mut self, mem: Mem, reg: Reg) {
        self.legacy(None, Size::D, 0x88, reg.0, mem.into(), true);
    }

    /// Stores the low 16 bits of a register.
    pub fn store16(&mut self, mem: Mem, reg: Reg) {
        self.legacy(Some(0x66), Size::D, 0x89, reg.0, mem.into(), false);
    }

    /// Loads the low byte of a register, and leaves the others alone.
    pub fn load8(&mut self, reg: Reg, mem: Mem) {
        self.legacy(None, Size::D, 0x8a, reg.0, mem.into(), true);
    }

    /// MOVZX of a byte.
    pub fn movzx8(&mut self, reg: Reg, rm: impl Into<Rm>) {
        self.extend8(Size::D, 0x0fb6, reg, rm.into());
    }

    /// MOVZX of 16 bits.
    pub fn movzx16(&mut self, reg: Reg, rm: impl Into<Rm>) {
        self.plain(Size::D, 0x0fb7, reg.0, rm.into());
    }

    /// MOVSX of a byte.
    pub fn movsx8(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.extend8(size, 0x0fbe, reg, rm.into());
    }

    /// MOVSX of 16 bits.
    pub fn movsx16(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.plain(size, 0x0fbf, reg.0, rm.into());
    }

    /// MOVSXD: 32 bits to 64.
    pub fn movsxd(&mut self, reg: Reg, rm: impl Into<Rm>) {
        self.plain(Size::Q, 0x63, reg.0, rm.into());
    }

    fn extend8(&mut self, size: Size, opcode: u32, reg: Reg, rm: Rm) {
        // Only the source is an 8-bit register.
        let code = Code::new(size, opcode).with_rex(matches!(rm, Rm::R(4..)));
        self.put(|encoding| encoding.instruction(code, reg.0, rm));
    }

    /// CMP of the 32 bits at the base of GS with zero.
    pub fn cmp_gs_zero(&mut self) {
        self.bytes(&[0x65, 0x83, 0x3c, 0x25, 0, 0, 0, 0, 0]);
    }

    /// `reg = address of mem`; leaves the flags alone.
    pub fn lea(&mut self, size: Size, reg: Reg, mem: Mem) {
        self.plain(size, 0x8d, reg.0, mem.into());
    }

    /// `reg = address of label`.
    pub fn lea_label(&mut self, reg: Reg, label: Label) {
        self.plain(Size::Q, 0x8d, reg.0, Rm::L(label));
    }

    /// A shift of `rm` by an immediate.
    pub fn shift_imm(&mut self, op: Shift, size: Size, rm: impl Into<Rm>, count: u8) {
        self.with_immediate(size, 0xc1, op as u8, rm.into(), Immediate::byte(count));
    }

    /// A rotation of `rm` by CL (or a shift).
    pub fn shift_cl(&mut self, op: Shift, size: Size, rm: impl Into<Rm>) {
        self.plain(size, 0xd3, op as u8, rm.into());
    }

    /// ROL of the low 16 bits of a register.
    pub fn rol16(&mut self, reg: Reg, count: u8) {
        self.legacy(Some(0x66), Size::D, 0xc1, 0, reg.into(), false);
        self.byte(count);
    }

    /// SHRD: `rm` shifted right by `count`, filled from `reg`.
    pub fn shrd(&mut self, size: Size, rm: impl Into<Rm>, reg: Reg, count: u8) {
        self.with_immediate(size, 0x0fac, reg.0, rm.into(), Immediate::byte(count));
    }

    /// NOT; leaves the flags alone.
    pub fn not(&mut self, size: Size, rm: impl Into<Rm>) {
        self.plain(size, 0xf7, 2, rm.into());
    }

    /// NEG.
    pub fn neg(&mut self, size: Size, rm: impl Into<Rm>) {
        self.plain(size, 0xf7, 3, rm.into());
    }

    /// `rdx:rax = rax * rm`, unsigned.
    pub fn mul(&mut self, size: Size, rm: impl Into<Rm>) {
        self.plain(size, 0xf7, 4, rm.into());
    }

    /// `rdx:rax = rax * rm`, signed.
    pub fn imul_wide(&mut self, size: Size, rm: impl Into<Rm>) {
        self.plain(size, 0xf7, 5, rm.into());
    }

    /// `rax, rdx = rdx:rax / rm, remainder`, unsigned.
    pub fn div(&mut self, size: Size, rm: impl Into<Rm>) {
        self.plain(size, 0xf7, 6, rm.into());
    }

    /// `rax, rdx = rdx:rax / rm, remainder`, signed.
    pub fn idiv(&mut self, size: Size, rm: impl Into<Rm>) {
        self.plain(size, 0xf7, 7, rm.into());
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
        self.plain(size, 0x0faf, reg.0, rm.into());
    }

    /// LZCNT.
    pub fn lzcnt(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(Some(0xf3), size, 0x0fbd, reg.0, rm.into(), false);
    }

    /// TZCNT.
    pub fn tzcnt(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(Some(0xf3), size, 0x0fbc, reg.0, rm.into(), false);
    }

    /// POPCNT.
    pub fn popcnt(&mut self, size: Size, reg: Reg, rm: impl Into<Rm>) {
        self.legacy(Some(0xf3), size, 0x0fb8, reg.0, rm.into(), false);
    }

    /// CRC32 (Castagnoli) of 1, 2, 4 or 8 bytes (`log2` 0 to 3) of `rm` into `reg`.
    pub fn crc32(&mut self, reg: Reg, rm: impl Into<Rm>, log2: u8) {
        let rm = rm.into();
        self.put(|encoding| {
            if log2 == 1 {
                encoding.byte(0x66);
            }
            encoding.byte(0xf2);
            let size = if log2 == 3 { Size::Q } else { Size::D };
            let code = Code::new(size, if log2 == 0 { 0x0f_38f0 } else { 0x0f_38f1 });
            encoding.instruction(code.with_rex(log2 == 0 && matches!(rm, Rm::R(4..))), reg.0, rm);
        });
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
        self.plain(size, 0x0f40 | cc as u32, reg.0, rm.into());
    }

    /// SETcc of the low byte of a register.
    pub fn set(&mut self, cc: Cc, reg: Reg) {
        self.legacy(None, Size::D, 0x0f90 | cc as u32, 0, reg.into(), true);
    }

    /// LAHF (ah = SF ZF 0 AF 0 PF 1 CF), SETO of al, and eax to memory.
    pub fn store_lahf_seto(&mut self, mem: Mem) {
        self.put(|encoding| {
            encoding.store([0x9f, 0x0f, 0x90, 0xc0]);
            encoding.memory_form(Code::new(Size::D, 0x89), Reg::RAX.0, mem);
        });
    }

    /// STC: CF = 1.
    pub fn stc(&mut self) {
        self.byte(0xf9);
    }

    /// LAHF: `ah` = SF, ZF, AF, PF and CF, as the low byte of EFLAGS has them.
    pub fn lahf(&mut self) {
        self.byte(0x9f);
    }

    /// SAHF, the inverse of LAHF.
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
        self.plain(Size::D, 0xff, 4, rm.into());
    }

    /// `call rm`.
    pub fn call_indirect(&mut self, rm: impl Into<Rm>) {
        self.plain(Size::D, 0xff, 2, rm.into());
    }

    /// `jmp label`, 5 bytes.
    pub fn jump(&mut self, label: Label) {
        self.leading_to(0xe9, label);
    }

    /// `call label`, 5 bytes.
    pub fn call(&mut self, label: Label) {
        self.leading_to(0xe8, label);
    }

    /// `jcc label`, 6 bytes.
    pub fn jump_if(&mut self, cc: Cc, label: Label) {
        self.leading_to(0x0f80 | cc as u32, label);
    }

    /// `jcc` over at most 127 bytes; [`Assembler::land`] sets the target.
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
    /// If the skip is more than 127 bytes back, which is a bug of the caller.
    pub fn land(&mut self, skip: Skip) {
        let distance = self.position() - skip.0;
        assert!(distance < 128, "a short jump over {distance} bytes");
        self.code[skip.0 as usize - 1] = distance as u8;
    }

    /// `jmp` by a displacement from its end. Returns the offset of the displacement.
    pub fn jump_rel(&mut self, displacement: i32) -> u32 {
        self.relative(0xe9, displacement);
        self.position() - 4
    }

    /// `mov dword [base + disp], imm; jmp` by a displacement from its end, written at once. The base must not
    /// need REX or SIB.
    pub fn mov_imm32_and_jump_rel(&mut self, base: Reg, disp: i32, imm: i32, displacement: i32) {
        debug_assert!(base.0 < 8 && base != Reg::RSP);
        self.put(|encoding| {
            encoding.store([0xc7, 0x80 | base.0 & 7]);
            encoding.dword(disp);
            encoding.dword(imm);
            encoding.byte(0xe9);
            encoding.dword(displacement);
        });
    }

    /// `jmp` with a displacement of 0 that NOPs in front align to 4 bytes. Returns the offset of the
    /// displacement.
    pub fn aligned_jump(&mut self) -> u32 {
        let count = (self.position() + 1).wrapping_neg() as usize & 3;
        self.put(|encoding| {
            encoding.store(NOPS[count]);
            encoding.length = count;
            encoding.byte(0xe9);
            encoding.dword(0);
        });
        self.position() - 4
    }

    /// `mov reg, [rip + disp]`: loads what lies `displacement` bytes from the instruction's end.
    pub fn mov_rip(&mut self, size: Size, reg: Reg, displacement: i32) {
        self.put(|encoding| {
            let wide = (size as u8 & 1) << 3;
            let rex = 0x40 | wide | reg.0 >> 3 << 2;
            encoding.store([rex, 0x8b, (reg.0 & 7) << 3 | 5]);
            encoding.dword(displacement);
        });
    }

    /// `lea reg, [rip + disp]`, with an address `displacement` bytes from the instruction's end.
    pub fn lea_rip(&mut self, reg: Reg, displacement: i32) {
        self.put(|encoding| {
            encoding.store([0x48 | reg.0 >> 3 << 2, 0x8d, (reg.0 & 7) << 3 | 5]);
            encoding.dword(displacement);
        });
    }

    /// `jmp [rip + disp]`: jumps to the address in the word `displacement` bytes from the instruction's end.
    pub fn jump_rip(&mut self, displacement: i32) {
        self.put(|encoding| {
            encoding.store([0xff, 0x25]);
            encoding.dword(displacement);
        });
    }

    /// `call [rip + disp]`, as [`Assembler::jump_rip`].
    pub fn call_rip(&mut self, displacement: i32) {
        self.put(|encoding| {
            encoding.store([0xff, 0x15]);
            encoding.dword(displacement);
        });
    }

    /// Bytes of [`Assembler::mov_rip`] and [`Assembler::lea_rip`].
    pub const RIP_LENGTH: u32 = 7;
    /// Bytes of [`Assembler::jump_rip`] and [`Assembler::call_rip`].
    pub const JUMP_RIP_LENGTH: u32 = 6;

    /// `call` by a displacement from its end. Returns the offset of the displacement.
    pub fn call_rel(&mut self, displacement: i32) -> u32 {
        self.relative(0xe8, displacement);
        self.position() - 4
    }

    fn leading_to(&mut self, opcode: u32, label: Label) {
        self.put(|encoding| {
            encoding.opcode(opcode);
            encoding.label(label);
        });
    }

    fn relative(&mut self, opcode: u32, displacement: i32) {
        self.put(|encoding| {
            encoding.opcode(opcode);
            encoding.dword(displacement);
        });
    }

    /// `lock xadd`: adds `reg` to memory; `reg` = the old value.
    pub fn lock_xadd(&mut self, log2: u8, mem: Mem, reg: Reg) {
        self.locked(log2, mem, reg, 0x0fc0, 0x0fc1);
    }

    /// `lock cmpxchg`: memory that equals rax becomes `reg`; rax = the old value.
    pub fn lock_cmpxchg(&mut self, log2: u8, mem: Mem, reg: Reg) {
        self.locked(log2, mem, reg, 0x0fb0, 0x0fb1);
    }

    /// XCHG of memory and `reg`; atomic without a prefix.
    pub fn xchg(&mut self, log2: u8, mem: Mem, reg: Reg) {
        self.sized(log2, mem, reg, 0x86, 0x87);
    }

    fn locked(&mut self, log2: u8, mem: Mem, reg: Reg, byte: u32, other: u32) {
        self.byte(0xf0);
        self.sized(log2, mem, reg, byte, other);
    }

    fn sized(&mut self, log2: u8, mem: Mem, reg: Reg, byte: u32, other: u32) {
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
        self.plain(Size::D, 0x0fae, 2, mem.into());
    }

    /// STMXCSR.
    pub fn stmxcsr(&mut self, mem: Mem) {
        self.plain(Size::D, 0x0fae, 3, mem.into());
    }
}

/// A short jump whose target is still to come.
#[derive(Debug)]
#[must_use]
pub struct Skip(u32);
