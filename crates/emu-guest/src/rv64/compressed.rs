//! Compressed instructions (manual: C, Zcb, Zcmop): each stands for an instruction of 32 bits.

use crate::index::{self, Index, Key};
use crate::op::bits;
use crate::pattern::{self, Pattern, column};
use crate::short::Short;

/// The word that a compressed instruction stands for; `None` if the combination of fields is reserved.
type Expand = fn(u32) -> Option<u32>;

/// One encoding of 16 bits.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) mask: u32,
    pub(super) value: u32,
    pub(super) name: Short<12>,
}

const fn row(pattern: &str, name: &str, expand: Expand) -> (Row, Expand) {
    let Pattern { mask, value, .. } = pattern::read::<1>(pattern);
    (Row { mask, value, name: Short::new(name) }, expand)
}

// Opcodes of instructions of 32 bits.
const LOAD: u32 = 0x03;
const LOAD_FP: u32 = 0x07;
const OP_IMM: u32 = 0x13;
const OP_IMM_32: u32 = 0x1b;
const STORE: u32 = 0x23;
const STORE_FP: u32 = 0x27;
const OP: u32 = 0x33;
const LUI: u32 = 0x37;
const OP_32: u32 = 0x3b;
const BRANCH: u32 = 0x63;
const JALR: u32 = 0x67;
const JAL: u32 = 0x6f;

fn r(opcode: u32, funct3: u32, funct7: u32, rd: u32, rs1: u32, rs2: u32) -> Option<u32> {
    Some(funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode)
}

fn i(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: i32) -> Option<u32> {
    Some((imm as u32) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode)
}

fn s(opcode: u32, funct3: u32, rs1: u32, rs2: u32, imm: u32) -> Option<u32> {
    Some((imm >> 5) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (imm & 31) << 7 | opcode)
}

/// rd or rs1 of a form with all registers.
fn rd(c: u32) -> u32 {
    bits(c, 11, 7)
}

/// rs2 of a form with all registers.
fn rs2(c: u32) -> u32 {
    bits(c, 6, 2)
}

/// rs1 of a form with eight registers, x8 to x15.
fn rs1_short(c: u32) -> u32 {
    8 + bits(c, 9, 7)
}

/// rd or rs2 of such a form.
fn rs2_short(c: u32) -> u32 {
    8 + bits(c, 4, 2)
}

/// The immediate of CI: bits 12 and 6 to 2, signed.
fn imm6(c: u32) -> i32 {
    ((bits(c, 12, 12) << 5 | bits(c, 6, 2)) << 26) as i32 >> 26
}

/// An amount of a shift.
fn amount(c: u32) -> i32 {
    (bits(c, 12, 12) << 5 | bits(c, 6, 2)) as i32
}

/// Offset of words: bits 5 to 3 in 12 to 10, bit 2 in 6, bit 6 in 5.
fn offset_of_word(c: u32) -> u32 {
    bits(c, 12, 10) << 3 | bits(c, 6, 6) << 2 | bits(c, 5, 5) << 6
}

/// Offset of doublewords: bits 5 to 3 in 12 to 10, bits 7 and 6 in 6 and 5.
fn offset_of_double(c: u32) -> u32 {
    bits(c, 12, 10) << 3 | bits(c, 6, 5) << 6
}

fn addi4spn(c: u32) -> Option<u32> {
    let imm = bits(c, 12, 11) << 4 | bits(c, 10, 7) << 6 | bits(c, 6, 6) << 2 | bits(c, 5, 5) << 3;
    if imm == 0 { None } else { i(OP_IMM, 0, rs2_short(c), 2, imm as i32) }
}

fn load(c: u32, opcode: u32, funct3: u32, offset: u32) -> Option<u32> {
    i(opcode, funct3, rs2_short(c), rs1_short(c), offset as i32)
}

fn store(c: u32, opcode: u32, funct3: u32, offset: u32) -> Option<u32> {
    s(opcode, funct3, rs1_short(c), rs2_short(c), offset)
}

/// Offset of bytes (Zcb): bit 1 in 5, bit 0 in 6.
fn offset_of_byte(c: u32) -> u32 {
    bits(c, 5, 5) << 1 | bits(c, 6, 6)
}

/// Offset of halfwords (Zcb).
fn offset_of_half(c: u32) -> u32 {
    bits(c, 5, 5) << 1
}

fn addi16sp(c: u32) -> Option<u32> {
    let imm = bits(c, 12, 12) << 9
        | bits(c, 6, 6) << 4
        | bits(c, 5, 5) << 6
        | bits(c, 4, 3) << 7
        | bits(c, 2, 2) << 5;
    if imm == 0 { None } else { i(OP_IMM, 0, 2, 2, (imm << 22) as i32 >> 22) }
}

fn lui(c: u32) -> Option<u32> {
    if imm6(c) == 0 { None } else { Some((imm6(c) as u32) << 12 | rd(c) << 7 | LUI) }
}

/// C.MOP: nothing, by default; its register is x0.
fn mop(_: u32) -> Option<u32> {
    i(OP_IMM, 0, 0, 0, 0)
}

/// A register of eight with another, or with itself alone.
fn short(c: u32, opcode: u32, funct3: u32, funct7: u32) -> Option<u32> {
    r(opcode, funct3, funct7, rs1_short(c), rs1_short(c), rs2_short(c))
}

fn short_imm(c: u32, funct3: u32, imm: i32) -> Option<u32> {
    i(OP_IMM, funct3, rs1_short(c), rs1_short(c), imm)
}

fn jump(c: u32) -> Option<u32> {
    let offset = bits(c, 12, 12) << 11
        | bits(c, 11, 11) << 4
        | bits(c, 10, 9) << 8
        | bits(c, 8, 8) << 10
        | bits(c, 7, 7) << 6
        | bits(c, 6, 6) << 7
        | bits(c, 5, 3) << 1
        | bits(c, 2, 2) << 5;
    // The sign is in bits 20 to 11.
    let sign = if offset >> 11 == 1 { 1 << 31 | 0xff << 12 } else { 0 };
    Some(sign | bits(offset, 10, 1) << 21 | bits(offset, 11, 11) << 20 | JAL)
}

fn branch(c: u32, funct3: u32) -> Option<u32> {
    let offset = bits(c, 12, 12) << 8
        | bits(c, 11, 10) << 3
        | bits(c, 6, 5) << 6
        | bits(c, 4, 3) << 1
        | bits(c, 2, 2) << 5;
    let sign = if offset >> 8 == 1 { 0xf << 28 } else { 0 };
    // Bits 7 to 5 of the offset at 27, 4 to 1 at 8, 11 at 7.
    let low = bits(offset, 4, 1) << 8 | bits(offset, 8, 8) << 7;
    Some(sign | bits(offset, 7, 5) << 25 | rs1_short(c) << 15 | funct3 << 12 | low | BRANCH)
}

/// Offset from sp of words: bit 5 in 12, bits 4 to 2 in 6 to 4, bits 7 and 6 in 3 and 2.
fn stack_word(c: u32) -> i32 {
    (bits(c, 12, 12) << 5 | bits(c, 6, 4) << 2 | bits(c, 3, 2) << 6) as i32
}

/// Offset from sp of doublewords: bit 5 in 12, bits 4 and 3 in 6 and 5, bits 8 to 6 in 4 to 2.
fn stack_double(c: u32) -> i32 {
    (bits(c, 12, 12) << 5 | bits(c, 6, 5) << 3 | bits(c, 4, 2) << 6) as i32
}

/// The same for stores of words: bits 5 to 2 in 12 to 9, 7 and 6 in 8 and 7.
fn stored_word(c: u32) -> u32 {
    bits(c, 12, 9) << 2 | bits(c, 8, 7) << 6
}

/// Of doublewords: bits 5 to 3 in 12 to 10, 8 to 6 in 9 to 7.
fn stored_double(c: u32) -> u32 {
    bits(c, 12, 10) << 3 | bits(c, 9, 7) << 6
}

/// Reserved with x0.
fn unless_zero(register: u32, word: Option<u32>) -> Option<u32> {
    if register == 0 { None } else { word }
}

/// C.JR, C.MV.
fn jump_or_move(c: u32) -> Option<u32> {
    if rs2(c) == 0 { unless_zero(rd(c), i(JALR, 0, 0, rd(c), 0)) } else { r(OP, 0, 0, rd(c), 0, rs2(c)) }
}

/// C.EBREAK, C.JALR, C.ADD.
fn call_or_add(c: u32) -> Option<u32> {
    match (rd(c), rs2(c)) {
        (0, 0) => Some(0x0010_0073),
        (rs1, 0) => i(JALR, 0, 1, rs1, 0),
        (rd, rs2) => r(OP, 0, 0, rd, rd, rs2),
    }
}

#[rustfmt::skip]
const ROWS: &[(Row, Expand)] = &[
    // Quadrant 0
    row("000 xxxxxxxxxxx 00", "C.ADDI4SPN", addi4spn),
    row("001 xxxxxxxxxxx 00", "C.FLD", |c| load(c, LOAD_FP, 3, offset_of_double(c))),
    row("010 xxxxxxxxxxx 00", "C.LW", |c| load(c, LOAD, 2, offset_of_word(c))),
    row("011 xxxxxxxxxxx 00", "C.LD", |c| load(c, LOAD, 3, offset_of_double(c))),
    row("100 000 xxxxxxxx 00", "C.LBU", |c| load(c, LOAD, 4, offset_of_byte(c))),
    row("100 001 xxx 0 xxxx 00", "C.LHU", |c| load(c, LOAD, 5, offset_of_half(c))),
    row("100 001 xxx 1 xxxx 00", "C.LH", |c| load(c, LOAD, 1, offset_of_half(c))),
    row("100 010 xxxxxxxx 00", "C.SB", |c| store(c, STORE, 0, offset_of_byte(c))),
    row("100 011 xxx 0 xxxx 00", "C.SH", |c| store(c, STORE, 1, offset_of_half(c))),
    row("101 xxxxxxxxxxx 00", "C.FSD", |c| store(c, STORE_FP, 3, offset_of_double(c))),
    row("110 xxxxxxxxxxx 00", "C.SW", |c| store(c, STORE, 2, offset_of_word(c))),
    row("111 xxxxxxxxxxx 00", "C.SD", |c| store(c, STORE, 3, offset_of_double(c))),
    // Quadrant 1
    row("000 xxxxxxxxxxx 01", "C.ADDI", |c| i(OP_IMM, 0, rd(c), rd(c), imm6(c))),
    row("001 xxxxxxxxxxx 01", "C.ADDIW", |c| unless_zero(rd(c), i(OP_IMM_32, 0, rd(c), rd(c), imm6(c)))),
    row("010 xxxxxxxxxxx 01", "C.LI", |c| i(OP_IMM, 0, rd(c), 0, imm6(c))),
    row("011 x 00010 xxxxx 01", "C.ADDI16SP", addi16sp),
    row("011 0 0xxx1 00000 01", "C.MOP", mop),
    row("011 xxxxxxxxxxx 01", "C.LUI", lui),
    row("100 x 00 xxxxxxxx 01", "C.SRLI", |c| short_imm(c, 5, amount(c))),
    row("100 x 01 xxxxxxxx 01", "C.SRAI", |c| short_imm(c, 5, amount(c) | 0x400)),
    row("100 x 10 xxxxxxxx 01", "C.ANDI", |c| short_imm(c, 7, imm6(c))),
    row("100 0 11 xxx 00 xxx 01", "C.SUB", |c| short(c, OP, 0, 0x20)),
    row("100 0 11 xxx 01 xxx 01", "C.XOR", |c| short(c, OP, 4, 0)),
    row("100 0 11 xxx 10 xxx 01", "C.OR", |c| short(c, OP, 6, 0)),
    row("100 0 11 xxx 11 xxx 01", "C.AND", |c| short(c, OP, 7, 0)),
    row("100 1 11 xxx 00 xxx 01", "C.SUBW", |c| short(c, OP_32, 0, 0x20)),
    row("100 1 11 xxx 01 xxx 01", "C.ADDW", |c| short(c, OP_32, 0, 0)),
    row("100 1 11 xxx 10 xxx 01", "C.MUL", |c| short(c, OP, 0, 1)),
    row("100 1 11 xxx 11 000 01", "C.ZEXT.B", |c| short_imm(c, 7, 0xff)),
    row("100 1 11 xxx 11 001 01", "C.SEXT.B", |c| short_imm(c, 1, 0x604)),
    row("100 1 11 xxx 11 010 01", "C.ZEXT.H", |c| r(OP_32, 4, 4, rs1_short(c), rs1_short(c), 0)),
    row("100 1 11 xxx 11 011 01", "C.SEXT.H", |c| short_imm(c, 1, 0x605)),
    row("100 1 11 xxx 11 100 01", "C.ZEXT.W", |c| r(OP_32, 0, 4, rs1_short(c), rs1_short(c), 0)),
    row("100 1 11 xxx 11 101 01", "C.NOT", |c| short_imm(c, 4, -1)),
    row("101 xxxxxxxxxxx 01", "C.J", jump),
    row("110 xxxxxxxxxxx 01", "C.BEQZ", |c| branch(c, 0)),
    row("111 xxxxxxxxxxx 01", "C.BNEZ", |c| branch(c, 1)),
    // Quadrant 2
    row("000 xxxxxxxxxxx 10", "C.SLLI", |c| i(OP_IMM, 1, rd(c), rd(c), amount(c))),
    row("001 xxxxxxxxxxx 10", "C.FLDSP", |c| i(LOAD_FP, 3, rd(c), 2, stack_double(c))),
    row("010 xxxxxxxxxxx 10", "C.LWSP", |c| unless_zero(rd(c), i(LOAD, 2, rd(c), 2, stack_word(c)))),
    row("011 xxxxxxxxxxx 10", "C.LDSP", |c| unless_zero(rd(c), i(LOAD, 3, rd(c), 2, stack_double(c)))),
    row("100 0 xxxxxxxxxx 10", "C.JR or C.MV", jump_or_move),
    row("100 1 xxxxxxxxxx 10", "C.JALR/C.ADD", call_or_add),
    row("101 xxxxxxxxxxx 10", "C.FSDSP", |c| s(STORE_FP, 3, 2, rs2(c), stored_double(c))),
    row("110 xxxxxxxxxxx 10", "C.SWSP", |c| s(STORE, 2, 2, rs2(c), stored_word(c))),
    row("111 xxxxxxxxxxx 10", "C.SDSP", |c| s(STORE, 3, 2, rs2(c), stored_double(c))),
];

const KEY: Key = [(13, 3), (0, 2)];
const WORDS: [(u32, u32); ROWS.len()] = column!(ROWS, row => (row.0.mask, row.0.value));
static MASKS: [(u32, u32); ROWS.len()] = WORDS;
static INDEX: Index<{ index::starts(KEY) }, { index::length(KEY, &WORDS) }> = Index::new(KEY, &WORDS);
pub(super) static TABLE: [Row; ROWS.len()] = column!(ROWS, row => row.0);
static EXPAND: [Expand; ROWS.len()] = column!(ROWS, row => row.1);

/// The number of the row that an instruction of 16 bits belongs to.
#[inline]
pub(super) fn find(code: u32) -> Option<usize> {
    index::find(KEY, &INDEX.start, &INDEX.rows, &MASKS, code)
}

/// The instruction of 32 bits that one of 16 stands for; `None` if it is reserved.
#[inline]
pub(super) fn expand(code: u32) -> Option<u32> {
    find(code).and_then(|row| EXPAND[row](code))
}
