//! Integer data processing (manual C3.4, C3.5, C4.1.92, C4.1.95).

use super::fields::op;
use crate::condition::{C, N, V, Z, holds};
use crate::exit::{Flow, Step};
use crate::op::sign_extend;
use crate::op::{Host, Op, bits};
use crate::state::State;

/// `value` as a register of 64 or 32 bits.
#[inline(always)]
fn narrow<const WIDE: bool>(value: u64) -> u64 {
    if WIDE { value } else { value & 0xffff_ffff }
}

/// AddWithCarry: sum and NZCV.
#[inline(always)]
fn add_with_carry<const WIDE: bool>(a: u64, b: u64, carry: bool) -> (u64, u32) {
    if WIDE {
        let (sum, c1) = a.overflowing_add(b);
        let (sum, c2) = sum.overflowing_add(u64::from(carry));
        let overflow = (a ^ sum) & (b ^ sum);
        let flags = (sum >> 63) as u32 * N
            | u32::from(sum == 0) * Z
            | u32::from(c1 | c2) * C
            | (overflow >> 63) as u32 * V;
        (sum, flags)
    } else {
        let (a, b) = (a as u32, b as u32);
        let wide = u64::from(a) + u64::from(b) + u64::from(carry);
        let sum = wide as u32;
        let overflow = (a ^ sum) & (b ^ sum);
        let flags =
            (sum >> 31) * N | u32::from(sum == 0) * Z | (wide >> 32) as u32 * C | (overflow >> 31) * V;
        (u64::from(sum), flags)
    }
}

/// N and Z of a logical result; C and V are zero.
#[inline(always)]
fn logical_flags<const WIDE: bool>(value: u64) -> u32 {
    let sign = if WIDE { value >> 63 } else { value >> 31 & 1 };
    sign as u32 * N | u32::from(value == 0) * Z
}

/// ShiftReg: LSL, LSR, ASR, ROR by an amount below the register's width.
#[inline(always)]
fn shift<const WIDE: bool>(value: u64, kind: u64, amount: u32) -> u64 {
    if WIDE {
        match kind {
            0 => value << amount,
            1 => value >> amount,
            2 => ((value as i64) >> amount) as u64,
            _ => value.rotate_right(amount),
        }
    } else {
        let value = value as u32;
        u64::from(match kind {
            0 => value << amount,
            1 => value >> amount,
            2 => ((value as i32) >> amount) as u32,
            _ => value.rotate_right(amount),
        })
    }
}

/// Picks the handler of the register width in bit 31.
macro_rules! by_width {
    ($code:expr, $handler:ident $(, $parameter:expr)*) => {
        if $code >> 31 == 1 { $handler::<true $(, $parameter)*> } else { $handler::<false $(, $parameter)*> }
    };
}

fn add_immediate<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = narrow::<WIDE>(s.gpr[op.rn as usize].wrapping_add(op.imm));
    Ok(Flow::Next)
}

fn adds_immediate<const WIDE: bool, const SUB: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (sum, flags) = add_with_carry::<WIDE>(s.gpr[op.rn as usize], if SUB { !op.imm } else { op.imm }, SUB);
    s.gpr[op.rd as usize] = sum;
    s.nzcv = flags;
    Ok(Flow::Next)
}

/// ADD, ADDS, SUB, SUBS (immediate).
pub(crate) fn add_sub_immediate(code: u32, _: u64) -> Option<Op> {
    let imm = u64::from(bits(code, 21, 10)) << if code >> 22 & 1 == 1 { 12 } else { 0 };
    let sub = code >> 30 & 1 == 1;
    Some(if code >> 29 & 1 == 0 {
        let imm = if sub { imm.wrapping_neg() } else { imm };
        op(by_width!(code, add_immediate), code).rn_sp().rd_sp().imm(imm)
    } else if sub {
        op(by_width!(code, adds_immediate, true), code).rn_sp().imm(imm)
    } else {
        op(by_width!(code, adds_immediate, false), code).rn_sp().imm(imm)
    })
}

fn add_register<const WIDE: bool, const SUB: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (a, b) = (s.gpr[op.rn as usize], s.gpr[op.rm as usize]);
    s.gpr[op.rd as usize] = narrow::<WIDE>(if SUB { a.wrapping_sub(b) } else { a.wrapping_add(b) });
    Ok(Flow::Next)
}

fn add_shifted<const WIDE: bool, const SUB: bool, const FLAGS: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let b = shift::<WIDE>(s.gpr[op.rm as usize], op.imm >> 8, op.imm as u32 & 63);
    add_sub_flags::<WIDE, SUB, FLAGS>(s, op, b)
}

#[inline(always)]
fn add_sub_flags<const WIDE: bool, const SUB: bool, const FLAGS: bool>(
    s: &mut State,
    op: &Op,
    b: u64,
) -> Step {
    let a = s.gpr[op.rn as usize];
    if FLAGS {
        let (sum, flags) = add_with_carry::<WIDE>(a, if SUB { !b } else { b }, SUB);
        s.gpr[op.rd as usize] = sum;
        s.nzcv = flags;
    } else {
        s.gpr[op.rd as usize] = narrow::<WIDE>(if SUB { a.wrapping_sub(b) } else { a.wrapping_add(b) });
    }
    Ok(Flow::Next)
}

/// ADD, ADDS, SUB, SUBS (shifted register).
pub(crate) fn add_sub_shifted(code: u32, _: u64) -> Option<Op> {
    let (kind, amount) = (bits(code, 23, 22), bits(code, 15, 10));
    if kind == 3 || code >> 31 == 0 && amount > 31 {
        return None;
    }
    let handler = match (bits(code, 30, 29), amount) {
        (0, 0) => by_width!(code, add_register, false),
        (2, 0) => by_width!(code, add_register, true),
        (0, _) => by_width!(code, add_shifted, false, false),
        (1, _) => by_width!(code, add_shifted, false, true),
        (2, _) => by_width!(code, add_shifted, true, false),
        _ => by_width!(code, add_shifted, true, true),
    };
    Some(op(handler, code).imm(u64::from(kind << 8 | amount)))
}

fn add_extended<const WIDE: bool, const SUB: bool, const FLAGS: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let b = extend(s.gpr[op.rm as usize], op.imm as u32 >> 8) << (op.imm & 7);
    add_sub_flags::<WIDE, SUB, FLAGS>(s, op, b)
}

/// ExtendReg: UXTB, UXTH, UXTW, UXTX, SXTB, SXTH, SXTW, SXTX.
#[inline(always)]
pub(crate) fn extend(value: u64, option: u32) -> u64 {
    match option {
        0 => u64::from(value as u8),
        1 => u64::from(value as u16),
        2 => u64::from(value as u32),
        4 => value as i8 as u64,
        5 => value as i16 as u64,
        6 => value as i32 as u64,
        _ => value,
    }
}

/// ADD, ADDS, SUB, SUBS (extended register).
pub(crate) fn add_sub_extended(code: u32, _: u64) -> Option<Op> {
    let amount = bits(code, 12, 10);
    if amount > 4 {
        return None;
    }
    let imm = u64::from(bits(code, 15, 13) << 8 | amount);
    Some(match bits(code, 30, 29) {
        0 => op(by_width!(code, add_extended, false, false), code).rn_sp().rd_sp().imm(imm),
        1 => op(by_width!(code, add_extended, false, true), code).rn_sp().imm(imm),
        2 => op(by_width!(code, add_extended, true, false), code).rn_sp().rd_sp().imm(imm),
        _ => op(by_width!(code, add_extended, true, true), code).rn_sp().imm(imm),
    })
}

fn add_carry<const WIDE: bool, const SUB: bool, const FLAGS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let b = s.gpr[op.rm as usize];
    let (sum, flags) =
        add_with_carry::<WIDE>(s.gpr[op.rn as usize], if SUB { !b } else { b }, s.nzcv & C != 0);
    s.gpr[op.rd as usize] = sum;
    if FLAGS {
        s.nzcv = flags;
    }
    Ok(Flow::Next)
}

/// ADC, ADCS, SBC, SBCS.
pub(crate) fn add_sub_carry(code: u32, _: u64) -> Option<Op> {
    let handler = match bits(code, 30, 29) {
        0 => by_width!(code, add_carry, false, false),
        1 => by_width!(code, add_carry, false, true),
        2 => by_width!(code, add_carry, true, false),
        _ => by_width!(code, add_carry, true, true),
    };
    Some(op(handler, code))
}

#[inline(always)]
fn logical<const OPC: u32>(a: u64, b: u64) -> u64 {
    match OPC {
        1 => a | b,
        2 => a ^ b,
        _ => a & b,
    }
}

fn logical_imm<const WIDE: bool, const OPC: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = narrow::<WIDE>(logical::<OPC>(s.gpr[op.rn as usize], op.imm));
    s.gpr[op.rd as usize] = value;
    if OPC == 3 {
        s.nzcv = logical_flags::<WIDE>(value);
    }
    Ok(Flow::Next)
}

/// DecodeBitMasks for logical immediates: the pattern over 64 bits.
pub(crate) fn bit_mask(n: u32, imms: u32, immr: u32) -> Option<u64> {
    let length = 31u32.checked_sub((n << 6 | !imms & 63).leading_zeros())?;
    if length < 1 {
        return None;
    }
    let size = 1u32 << length;
    let (s, r) = (imms & (size - 1), immr & (size - 1));
    if s == size - 1 {
        return None;
    }
    let ones = u64::MAX >> (63 - s);
    let element = if r == 0 { ones } else { ones >> r | ones << (size - r) };
    let element = if size == 64 { element } else { element & ((1 << size) - 1) };
    let mut pattern = element;
    let mut width = size;
    while width < 64 {
        pattern |= pattern << width;
        width *= 2;
    }
    Some(pattern)
}

/// AND, ORR, EOR, ANDS (immediate).
pub(crate) fn logical_immediate(code: u32, _: u64) -> Option<Op> {
    let wide = code >> 31 == 1;
    let n = code >> 22 & 1;
    if !wide && n == 1 {
        return None;
    }
    let imm = bit_mask(n, bits(code, 15, 10), bits(code, 21, 16))?;
    Some(match bits(code, 30, 29) {
        0 => op(by_width!(code, logical_imm, 0), code).rd_sp().imm(imm),
        1 => op(by_width!(code, logical_imm, 1), code).rd_sp().imm(imm),
        2 => op(by_width!(code, logical_imm, 2), code).rd_sp().imm(imm),
        _ => op(by_width!(code, logical_imm, 3), code).imm(imm),
    })
}

fn move_register<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = narrow::<WIDE>(s.gpr[op.rm as usize]);
    Ok(Flow::Next)
}

fn logical_reg<const WIDE: bool, const OPC: u32, const NOT: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let b = shift::<WIDE>(s.gpr[op.rm as usize], op.imm >> 8, op.imm as u32 & 63);
    let b = if NOT { !b } else { b };
    let value = narrow::<WIDE>(logical::<OPC>(s.gpr[op.rn as usize], b));
    s.gpr[op.rd as usize] = value;
    if OPC == 3 {
        s.nzcv = logical_flags::<WIDE>(value);
    }
    Ok(Flow::Next)
}

/// AND, BIC, ORR, ORN, EOR, EON, ANDS, BICS (shifted register).
pub(crate) fn logical_shifted(code: u32, _: u64) -> Option<Op> {
    let amount = bits(code, 15, 10);
    if code >> 31 == 0 && amount > 31 {
        return None;
    }
    let handler = match (bits(code, 30, 29), code >> 21 & 1) {
        (1, 0) if amount == 0 && bits(code, 9, 5) == 31 => by_width!(code, move_register),
        (0, 0) => by_width!(code, logical_reg, 0, false),
        (0, _) => by_width!(code, logical_reg, 0, true),
        (1, 0) => by_width!(code, logical_reg, 1, false),
        (1, _) => by_width!(code, logical_reg, 1, true),
        (2, 0) => by_width!(code, logical_reg, 2, false),
        (2, _) => by_width!(code, logical_reg, 2, true),
        (_, 0) => by_width!(code, logical_reg, 3, false),
        (_, _) => by_width!(code, logical_reg, 3, true),
    };
    Some(op(handler, code).imm(u64::from(bits(code, 23, 22) << 8 | amount)))
}

fn move_constant(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = op.imm;
    Ok(Flow::Next)
}

fn move_keep<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let amount = op.bits(22, 21) * 16;
    let old = s.gpr[op.rd as usize] & !(0xffff << amount);
    s.gpr[op.rd as usize] = narrow::<WIDE>(old | op.imm << amount);
    Ok(Flow::Next)
}

/// MOVN, MOVZ, MOVK.
pub(crate) fn move_wide(code: u32, _: u64) -> Option<Op> {
    let wide = code >> 31 == 1;
    let amount = bits(code, 22, 21) * 16;
    if !wide && amount > 16 {
        return None;
    }
    let imm = u64::from(bits(code, 20, 5));
    Some(match bits(code, 30, 29) {
        0 => {
            let value = !(imm << amount);
            op(move_constant, code).imm(if wide { value } else { value & 0xffff_ffff })
        }
        2 => op(move_constant, code).imm(imm << amount),
        _ => op(by_width!(code, move_keep), code).imm(imm),
    })
}

/// ADR, ADRP.
pub(crate) fn pc_relative(code: u32, pc: u64) -> Option<Op> {
    let imm = sign_extend(u64::from(bits(code, 23, 5) << 2 | bits(code, 30, 29)), 21);
    Some(op(move_constant, code).imm(if code >> 31 == 1 {
        (pc & !4095).wrapping_add(imm << 12)
    } else {
        pc.wrapping_add(imm)
    }))
}

/// SBFM, BFM and UBFM: `imm` holds immr in the low byte and imms in the next.
fn bitfield_move<const WIDE: bool, const OPC: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let width = if WIDE { 64 } else { 32 };
    let (r, last) = (op.imm as u32 & 63, (op.imm >> 8) as u32 & 63);
    let source = narrow::<WIDE>(s.gpr[op.rn as usize]);
    // A field of `length` bits moves from bit `from` to bit `to`.
    let (length, from, to) = if last >= r { (last - r + 1, r, 0) } else { (last + 1, 0, width - r) };
    let ones = u64::MAX >> (64 - length);
    let field = source >> from & ones;
    let value = match OPC {
        0 => sign_extend(field, length) << to,
        1 => s.gpr[op.rd as usize] & !(ones << to) | field << to,
        _ => field << to,
    };
    s.gpr[op.rd as usize] = narrow::<WIDE>(value);
    Ok(Flow::Next)
}

/// SBFM, BFM, UBFM.
pub(crate) fn bitfield(code: u32, _: u64) -> Option<Op> {
    let (n, r, last) = (code >> 22 & 1, bits(code, 21, 16), bits(code, 15, 10));
    if n != code >> 31 || code >> 31 == 0 && (r > 31 || last > 31) {
        return None;
    }
    let handler = match bits(code, 30, 29) {
        0 => by_width!(code, bitfield_move, 0),
        1 => by_width!(code, bitfield_move, 1),
        _ => by_width!(code, bitfield_move, 2),
    };
    Some(op(handler, code).imm(u64::from(last << 8 | r)))
}

fn extract_register<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (high, low, amount) = (s.gpr[op.rn as usize], s.gpr[op.rm as usize], op.imm as u32);
    s.gpr[op.rd as usize] = if WIDE {
        ((u128::from(high) << 64 | u128::from(low)) >> amount) as u64
    } else {
        (high << 32 | low & 0xffff_ffff) >> amount & 0xffff_ffff
    };
    Ok(Flow::Next)
}

/// EXTR.
pub(crate) fn extract(code: u32, _: u64) -> Option<Op> {
    let amount = bits(code, 15, 10);
    if code >> 22 & 1 != code >> 31 || code >> 31 == 0 && amount > 31 {
        return None;
    }
    Some(op(by_width!(code, extract_register), code).imm(u64::from(amount)))
}

/// CCMN, CCMP; `imm` is the second operand of the immediate form.
fn compare_if<const WIDE: bool, const SUB: bool, const IMMEDIATE: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    s.nzcv = if holds(op.bits(15, 12), s.nzcv) {
        let b = if IMMEDIATE { op.imm } else { s.gpr[op.rm as usize] };
        add_with_carry::<WIDE>(s.gpr[op.rn as usize], if SUB { !b } else { b }, SUB).1
    } else {
        op.bits(3, 0) << 28
    };
    Ok(Flow::Next)
}

/// CCMN, CCMP (register and immediate).
pub(crate) fn conditional_compare(code: u32, _: u64) -> Option<Op> {
    let handler = match (code >> 30 & 1, code >> 11 & 1) {
        (0, 0) => by_width!(code, compare_if, false, false),
        (0, _) => by_width!(code, compare_if, false, true),
        (_, 0) => by_width!(code, compare_if, true, false),
        (_, _) => by_width!(code, compare_if, true, true),
    };
    Some(op(handler, code).imm(u64::from(bits(code, 20, 16))))
}

fn select_register<const WIDE: bool, const OPC: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = if holds(op.imm as u32, s.nzcv) {
        s.gpr[op.rn as usize]
    } else {
        let b = s.gpr[op.rm as usize];
        match OPC {
            0 => b,
            1 => b.wrapping_add(1),
            2 => !b,
            _ => b.wrapping_neg(),
        }
    };
    s.gpr[op.rd as usize] = narrow::<WIDE>(value);
    Ok(Flow::Next)
}

/// CSEL, CSINC, CSINV, CSNEG.
pub(crate) fn conditional_select(code: u32, _: u64) -> Option<Op> {
    let handler = match (code >> 30 & 1, code >> 10 & 1) {
        (0, 0) => by_width!(code, select_register, 0),
        (0, _) => by_width!(code, select_register, 1),
        (_, 0) => by_width!(code, select_register, 2),
        (_, _) => by_width!(code, select_register, 3),
    };
    Some(op(handler, code).imm(u64::from(bits(code, 15, 12))))
}

fn multiply_add<const WIDE: bool, const SUB: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let product = s.gpr[op.rn as usize].wrapping_mul(s.gpr[op.rm as usize]);
    let a = s.gpr[op.ra as usize];
    s.gpr[op.rd as usize] =
        narrow::<WIDE>(if SUB { a.wrapping_sub(product) } else { a.wrapping_add(product) });
    Ok(Flow::Next)
}

fn multiply_add_long<const SIGNED: bool, const SUB: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = (s.gpr[op.rn as usize], s.gpr[op.rm as usize]);
    let product = if SIGNED {
        i64::from(n as i32).wrapping_mul(i64::from(m as i32)) as u64
    } else {
        u64::from(n as u32).wrapping_mul(u64::from(m as u32))
    };
    let a = s.gpr[op.ra as usize];
    s.gpr[op.rd as usize] = if SUB { a.wrapping_sub(product) } else { a.wrapping_add(product) };
    Ok(Flow::Next)
}

fn multiply_high<const SIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = (s.gpr[op.rn as usize], s.gpr[op.rm as usize]);
    s.gpr[op.rd as usize] = if SIGNED {
        ((i128::from(n as i64) * i128::from(m as i64)) >> 64) as u64
    } else {
        ((u128::from(n) * u128::from(m)) >> 64) as u64
    };
    Ok(Flow::Next)
}

/// MADD, MSUB, SMADDL, SMSUBL, SMULH, UMADDL, UMSUBL, UMULH.
pub(crate) fn three_source(code: u32, _: u64) -> Option<Op> {
    let handler = match (bits(code, 23, 21), code >> 15 & 1) {
        (0, 0) => by_width!(code, multiply_add, false),
        (0, _) => by_width!(code, multiply_add, true),
        (1, 0) => multiply_add_long::<true, false>,
        (1, _) => multiply_add_long::<true, true>,
        (2, _) => multiply_high::<true>,
        (5, 0) => multiply_add_long::<false, false>,
        (5, _) => multiply_add_long::<false, true>,
        _ => multiply_high::<false>,
    };
    Some(op(handler, code))
}

fn divide<const WIDE: bool, const SIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = (s.gpr[op.rn as usize], s.gpr[op.rm as usize]);
    s.gpr[op.rd as usize] = if narrow::<WIDE>(m) == 0 {
        0
    } else {
        match (WIDE, SIGNED) {
            (true, true) => (n as i64).wrapping_div(m as i64) as u64,
            (true, false) => n / m,
            (false, true) => u64::from((n as i32).wrapping_div(m as i32) as u32),
            (false, false) => u64::from(n as u32 / m as u32),
        }
    };
    Ok(Flow::Next)
}

fn shift_variable<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let amount = s.gpr[op.rm as usize] as u32 & if WIDE { 63 } else { 31 };
    s.gpr[op.rd as usize] = shift::<WIDE>(s.gpr[op.rn as usize], op.imm, amount);
    Ok(Flow::Next)
}

/// UDIV, SDIV, LSLV, LSRV, ASRV, RORV.
pub(crate) fn two_source(code: u32, _: u64) -> Option<Op> {
    Some(match bits(code, 15, 10) {
        2 => op(by_width!(code, divide, false), code),
        3 => op(by_width!(code, divide, true), code),
        opcode => op(by_width!(code, shift_variable), code).imm(u64::from(opcode & 3)),
    })
}

fn crc_bytes(s: &mut State, _: &Host, op: &Op) -> Step {
    let (crc, value) = (s.gpr[op.rn as usize] as u32, s.gpr[op.rm as usize]);
    let crc = crate::crc32::crc32(op.bit(12), 1 << op.bits(11, 10), crc, value);
    s.gpr[op.rd as usize] = u64::from(crc);
    Ok(Flow::Next)
}

/// CRC32B, CRC32H, CRC32W, CRC32X, CRC32CB, CRC32CH, CRC32CW, CRC32CX.
pub(crate) fn crc32(code: u32, _: u64) -> Option<Op> {
    Some(op(crc_bytes, code))
}

fn reverse_bits<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rn as usize];
    s.gpr[op.rd as usize] =
        if WIDE { value.reverse_bits() } else { u64::from((value as u32).reverse_bits()) };
    Ok(Flow::Next)
}

fn reverse_16<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rn as usize];
    let swapped = value >> 8 & 0x00ff_00ff_00ff_00ff | (value & 0x00ff_00ff_00ff_00ff) << 8;
    s.gpr[op.rd as usize] = narrow::<WIDE>(swapped);
    Ok(Flow::Next)
}

fn reverse_32<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rn as usize];
    s.gpr[op.rd as usize] = narrow::<WIDE>(value.swap_bytes().rotate_right(32));
    Ok(Flow::Next)
}

fn reverse_64(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = s.gpr[op.rn as usize].swap_bytes();
    Ok(Flow::Next)
}

fn leading_zeros<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rn as usize];
    s.gpr[op.rd as usize] =
        u64::from(if WIDE { value.leading_zeros() } else { (value as u32).leading_zeros() });
    Ok(Flow::Next)
}

fn leading_signs<const WIDE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rn as usize];
    let count = if WIDE {
        (value ^ ((value as i64) >> 1) as u64).leading_zeros()
    } else {
        let value = value as u32;
        (value ^ ((value as i32) >> 1) as u32).leading_zeros()
    };
    s.gpr[op.rd as usize] = u64::from(count - 1);
    Ok(Flow::Next)
}

/// RBIT, REV16, REV, REV32, CLZ, CLS.
pub(crate) fn one_source(code: u32, _: u64) -> Option<Op> {
    let handler = match bits(code, 15, 10) {
        0 => by_width!(code, reverse_bits),
        1 => by_width!(code, reverse_16),
        2 => by_width!(code, reverse_32),
        3 if code >> 31 == 1 => reverse_64,
        4 => by_width!(code, leading_zeros),
        5 => by_width!(code, leading_signs),
        _ => return None,
    };
    Some(op(handler, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_masks_are_those_of_the_manual() {
        assert_eq!(bit_mask(1, 0, 0), Some(1));
        assert_eq!(bit_mask(0, 0b111100, 0), Some(0x5555_5555_5555_5555));
        assert_eq!(bit_mask(0, 0b100111, 4), Some(0xf00f_f00f_f00f_f00f));
        assert_eq!(bit_mask(1, 63, 0), None);
        assert_eq!(bit_mask(0, 63, 0), None);
    }
}
