//! Parallel addition, saturation, packing, extension, reversal, bit fields, CRC32 (manual F2.4.3, F2.4.5 to
//! F2.4.8).

use super::action::Action;
use super::fields::Word;
use super::registers::{GE_CLEAR, Q};
use super::shift::{self, decode_immediate};
use crate::crc32::crc32;
use crate::exit::{Flow, Step};
use crate::op::{Handler, Host, Op, sign_extend};
use crate::state::State;

#[inline(always)]
fn operands(s: &State, op: &Op) -> (u32, u32) {
    (s.gpr[op.rn as usize] as u32, s.gpr[op.rm as usize] as u32)
}

#[inline(always)]
fn put(s: &mut State, op: &Op, value: u32) -> Step {
    s.gpr[op.rd as usize] = u64::from(value);
    Ok(Flow::Next)
}

/// The instruction, unless a register is PC.
fn checked(word: &Word<'_>, run: Handler) -> Option<Op> {
    (!word.names_pc("dnm")).then(|| word.op(run))
}

/// How lanes are combined: additions and subtractions of halfwords, exchanged halfwords, bytes.
const ADD16: u8 = 0;
const ASX: u8 = 1;
const SAX: u8 = 2;
const SUB16: u8 = 3;
const ADD8: u8 = 4;
const SUB8: u8 = 5;

/// What is made of the exact results.
const SIGNED: u8 = 0;
const SATURATING: u8 = 1;
const HALVING: u8 = 2;
const UNSIGNED: u8 = 3;
const UNSIGNED_SATURATING: u8 = 4;
const UNSIGNED_HALVING: u8 = 5;

fn parallel<const LANES: u8, const RESULT: u8>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = operands(s, op);
    let signed = matches!(RESULT, SIGNED | SATURATING | HALVING);
    let width = if matches!(LANES, ADD8 | SUB8) { 8 } else { 16 };
    let lane = |value: u32, at: u32| -> i32 {
        let bits = u64::from(value >> at & ((1 << width) - 1));
        if signed { sign_extend(bits, width) as i32 } else { bits as i32 }
    };
    let m = if matches!(LANES, ASX | SAX) { m.rotate_right(16) } else { m };
    let (mut result, mut ge) = (0, 0);
    for at in (0..32).step_by(width as usize) {
        let subtracts = match LANES {
            ADD16 | ADD8 => false,
            SUB16 | SUB8 => true,
            ASX => at == 0,
            _ => at != 0,
        };
        let (a, b) = (lane(n, at), lane(m, at));
        let exact = if subtracts { a - b } else { a + b };
        let limit = 1 << (width - 1);
        let value = match RESULT {
            SATURATING => exact.clamp(-limit, limit - 1),
            UNSIGNED_SATURATING => exact.clamp(0, 2 * limit - 1),
            HALVING | UNSIGNED_HALVING => exact >> 1,
            _ => exact,
        };
        result |= (value as u32 & ((1 << width) - 1)) << at;
        let set = match RESULT {
            UNSIGNED if !subtracts => exact >= 2 * limit,
            _ => exact >= 0,
        };
        if set {
            ge |= ((1 << (width / 8)) - 1) << (at / 8);
        }
    }
    if matches!(RESULT, SIGNED | UNSIGNED) {
        s.set_ge(ge << 16);
    }
    put(s, op, result)
}

macro_rules! by_result {
    ($lanes:ident) => {
        [
            parallel::<$lanes, SIGNED>,
            parallel::<$lanes, SATURATING>,
            parallel::<$lanes, HALVING>,
            parallel::<$lanes, UNSIGNED>,
            parallel::<$lanes, UNSIGNED_SATURATING>,
            parallel::<$lanes, UNSIGNED_HALVING>,
        ]
    };
}
static PARALLEL: [[Handler; 6]; 6] = [
    by_result!(ADD16),
    by_result!(ASX),
    by_result!(SAX),
    by_result!(SUB16),
    by_result!(ADD8),
    by_result!(SUB8),
];

/// SADD16 and its 35 relatives.
pub(crate) fn parallel_of(word: &Word<'_>) -> Option<Op> {
    let (lanes, result) = if word.is_thumb() {
        let lanes = match word.code >> 20 & 7 {
            0 => ADD8,
            1 => ADD16,
            2 => ASX,
            4 => SUB8,
            5 => SUB16,
            6 => SAX,
            _ => return None,
        };
        let result = match word.code >> 4 & 7 {
            0 => SIGNED,
            1 => SATURATING,
            2 => HALVING,
            4 => UNSIGNED,
            5 => UNSIGNED_SATURATING,
            6 => UNSIGNED_HALVING,
            _ => return None,
        };
        (lanes, result)
    } else {
        let lanes = match word.code >> 5 & 7 {
            0 => ADD16,
            1 => ASX,
            2 => SAX,
            3 => SUB16,
            4 => ADD8,
            7 => SUB8,
            _ => return None,
        };
        let result = match word.code >> 20 & 7 {
            1 => SIGNED,
            2 => SATURATING,
            3 => HALVING,
            5 => UNSIGNED,
            6 => UNSIGNED_SATURATING,
            7 => UNSIGNED_HALVING,
            _ => return None,
        };
        (lanes, result)
    };
    let op = checked(word, PARALLEL[usize::from(lanes)][usize::from(result)])?;
    Some(op.acting(Action::Parallel { lanes, result }.pack()))
}

fn select(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = operands(s, op);
    let clear = s.gpr[GE_CLEAR as usize] as u32;
    put(s, op, n & !clear | m & clear)
}

/// SEL.
pub(crate) fn sel(word: &Word<'_>) -> Option<Op> {
    checked(word, select).map(|op| op.acting(Action::Select.pack()))
}

/// `value` as a signed number of `bits`, saturated; sets Q if that changes it.
#[inline(always)]
fn saturate(s: &mut State, value: i64, low: i64, high: i64) -> u32 {
    let result = value.clamp(low, high);
    if result != value {
        s.apsr |= Q;
    }
    result as u32
}

#[inline(always)]
fn saturate32(s: &mut State, value: i64) -> u32 {
    saturate(s, value, i64::from(i32::MIN), i64::from(i32::MAX))
}

fn saturating<const DOUBLES: bool, const SUBTRACTS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = operands(s, op);
    let (n, m) = (i64::from(n as i32), i64::from(m as i32));
    let n = if DOUBLES { i64::from(saturate32(s, 2 * n) as i32) } else { n };
    let result = saturate32(s, if SUBTRACTS { m - n } else { m + n });
    put(s, op, result)
}

/// QADD, QSUB, QDADD, QDSUB: by bits 22 to 21 (A32) or 5 to 4 (T32).
pub(crate) fn saturating_of(word: &Word<'_>) -> Option<Op> {
    let code = if word.is_thumb() {
        // 0 QADD, 1 QDADD, 2 QSUB, 3 QDSUB.
        [0, 2, 1, 3][(word.code >> 4 & 3) as usize]
    } else {
        word.code >> 21 & 3
    };
    let action = Action::SaturatingSum { doubles: code >= 2, subtracts: code & 1 == 1 };
    checked(
        word,
        match code {
            0 => saturating::<false, false>,
            1 => saturating::<false, true>,
            2 => saturating::<true, false>,
            _ => saturating::<true, true>,
        },
    )
    .map(|op| op.acting(action.pack()))
}

fn saturate_to<const IS_SIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (value, _) = shift::shift(s.gpr[op.rn as usize] as u32, op.extra(), op.imm32() >> 8, false);
    let bits = op.imm32() & 255;
    let (low, high) =
        if IS_SIGNED { (-(1i64 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    let result = saturate(s, i64::from(value as i32), low, high);
    put(s, op, result)
}

fn saturate_halves<const IS_SIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.gpr[op.rn as usize] as u32;
    let bits = op.imm32();
    let (low, high) =
        if IS_SIGNED { (-(1i64 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
    let halves = [value as i16, (value >> 16) as i16].map(|half| saturate(s, i64::from(half), low, high));
    put(s, op, halves[0] & 0xffff | halves[1] << 16)
}

/// SSAT: `w` is one less than the number of bits, `h` says arithmetic shift right, `i` (and `j`) the amount.
pub(crate) fn ssat(word: &Word<'_>) -> Option<Op> {
    saturate_of(word, true, word.field('w') + 1)
}

/// USAT: `w` is the number of bits.
pub(crate) fn usat(word: &Word<'_>) -> Option<Op> {
    saturate_of(word, false, word.field('w'))
}

fn saturate_of(word: &Word<'_>, signed: bool, bits: u32) -> Option<Op> {
    let run: Handler = if signed { saturate_to::<true> } else { saturate_to::<false> };
    let amount = amount_of(word);
    let (kind, amount) = decode_immediate(word.field('h') * shift::ASR, amount);
    if word.is_thumb() && word.is('h') && amount == 32 {
        return None;
    }
    let action = Action::Saturate { signed };
    checked(word, run).map(|op| op.acting(action.pack()).with_imm(amount << 8 | bits).with_extra(kind))
}

/// A shift's amount: 5 bits `i` in A32, 3 and 2 bits `i`, `j` in T32.
fn amount_of(word: &Word<'_>) -> u32 {
    if word.is_thumb() { word.field('i') << 2 | word.field('j') } else { word.field('i') }
}

/// SSAT16: `w` is one less than the number of bits.
pub(crate) fn ssat16(word: &Word<'_>) -> Option<Op> {
    let action = Action::SaturateHalves { signed: true };
    checked(word, saturate_halves::<true>).map(|op| op.acting(action.pack()).with_imm(word.field('w') + 1))
}

/// USAT16: `w` is the number of bits.
pub(crate) fn usat16(word: &Word<'_>) -> Option<Op> {
    let action = Action::SaturateHalves { signed: false };
    checked(word, saturate_halves::<false>).map(|op| op.acting(action.pack()).with_imm(word.field('w')))
}

fn pack(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = operands(s, op);
    let (m, _) = shift::shift(m, op.extra(), op.imm32(), false);
    let top = op.extra() == shift::ASR;
    put(s, op, if top { n & 0xffff_0000 | m & 0xffff } else { m & 0xffff_0000 | n & 0xffff })
}

/// PKHBT, PKHTB: `h` says TB.
pub(crate) fn pkh(word: &Word<'_>) -> Option<Op> {
    pack_of(word, amount_of(word))
}

/// T32: PKHBT, PKHTB with the amount `j`:`k`.
pub(crate) fn pkh_thumb(word: &Word<'_>) -> Option<Op> {
    pack_of(word, word.field('j') << 2 | word.field('k'))
}

fn pack_of(word: &Word<'_>, amount: u32) -> Option<Op> {
    let (kind, amount) = decode_immediate(word.field('h') * shift::ASR, amount);
    checked(word, pack).map(|op| op.acting(Action::Pack.pack()).with_imm(amount).with_extra(kind))
}

/// Bits of [`Op::imm32`] for extensions: a rotation in bytes, and what is extended.
const SIGN: u32 = 8;
const HALF: u32 = 16;
const TWO_BYTES: u32 = 32;

#[inline(always)]
fn extended(value: u32, form: u32) -> u32 {
    let value = value.rotate_right(8 * (form & 3));
    let signed = form & SIGN != 0;
    if form & TWO_BYTES != 0 {
        let bytes = [value, value >> 16].map(|v| if signed { v as u8 as i8 as u16 } else { v as u8 as u16 });
        return u32::from(bytes[0]) | u32::from(bytes[1]) << 16;
    }
    match (form & HALF != 0, signed) {
        (true, true) => value as i16 as u32,
        (true, false) => value & 0xffff,
        (false, true) => value as i8 as u32,
        (false, false) => value & 0xff,
    }
}

fn extend<const ADDS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = operands(s, op);
    let value = extended(m, op.imm32());
    let result = match (ADDS, op.imm32() & TWO_BYTES != 0) {
        (false, _) => value,
        (true, false) => n.wrapping_add(value),
        (true, true) => n.wrapping_add(value) & 0xffff | (n & 0xffff_0000).wrapping_add(value & 0xffff_0000),
    };
    put(s, op, result)
}

fn extend_of(word: &Word<'_>, form: u32) -> Option<Op> {
    let adds = word.row.has(b'n');
    let run: Handler = if adds { extend::<true> } else { extend::<false> };
    let action = Action::Extend { adds };
    checked(word, run).map(|op| op.acting(action.pack()).with_imm(form | word.field('r')))
}

/// SXTB, SXTAB.
pub(crate) fn sxtb(word: &Word<'_>) -> Option<Op> {
    extend_of(word, SIGN)
}

/// SXTH, SXTAH.
pub(crate) fn sxth(word: &Word<'_>) -> Option<Op> {
    extend_of(word, SIGN | HALF)
}

/// SXTB16, SXTAB16.
pub(crate) fn sxtb16(word: &Word<'_>) -> Option<Op> {
    extend_of(word, SIGN | TWO_BYTES)
}

/// UXTB, UXTAB.
pub(crate) fn uxtb(word: &Word<'_>) -> Option<Op> {
    extend_of(word, 0)
}

/// UXTH, UXTAH.
pub(crate) fn uxth(word: &Word<'_>) -> Option<Op> {
    extend_of(word, HALF)
}

/// UXTB16, UXTAB16.
pub(crate) fn uxtb16(word: &Word<'_>) -> Option<Op> {
    extend_of(word, TWO_BYTES)
}

fn reverse(s: &mut State, _: &Host, op: &Op) -> Step {
    put(s, op, (s.gpr[op.rm as usize] as u32).swap_bytes())
}

fn reverse_halves(s: &mut State, _: &Host, op: &Op) -> Step {
    put(s, op, (s.gpr[op.rm as usize] as u32).swap_bytes().rotate_right(16))
}

fn reverse_signed(s: &mut State, _: &Host, op: &Op) -> Step {
    put(s, op, (s.gpr[op.rm as usize] as u16).swap_bytes() as i16 as u32)
}

fn reverse_bits(s: &mut State, _: &Host, op: &Op) -> Step {
    put(s, op, (s.gpr[op.rm as usize] as u32).reverse_bits())
}

fn leading_zeros(s: &mut State, _: &Host, op: &Op) -> Step {
    put(s, op, (s.gpr[op.rm as usize] as u32).leading_zeros())
}

/// In T32 of 32 bits the operand stands twice, in `m` and in `n`; both must be the same.
fn one_operand(word: &Word<'_>, run: Handler) -> Option<Op> {
    let twice = word.row.width == 32 && word.is_thumb();
    if twice && word.field('n') != word.field('m') { None } else { checked(word, run) }
}

/// REV.
pub(crate) fn rev(word: &Word<'_>) -> Option<Op> {
    one_operand(word, reverse).map(|op| op.acting(Action::Reverse.pack()))
}

/// REV16.
pub(crate) fn rev16(word: &Word<'_>) -> Option<Op> {
    one_operand(word, reverse_halves).map(|op| op.acting(Action::ReverseHalves.pack()))
}

/// REVSH.
pub(crate) fn revsh(word: &Word<'_>) -> Option<Op> {
    one_operand(word, reverse_signed).map(|op| op.acting(Action::ReverseSigned.pack()))
}

/// RBIT.
pub(crate) fn rbit(word: &Word<'_>) -> Option<Op> {
    one_operand(word, reverse_bits).map(|op| op.acting(Action::ReverseBits.pack()))
}

/// CLZ.
pub(crate) fn clz(word: &Word<'_>) -> Option<Op> {
    one_operand(word, leading_zeros).map(|op| op.acting(Action::LeadingZeros.pack()))
}

/// Bit fields: the lowest bit in the low byte of the immediate, the mask of the field's width by `extra`.
#[inline(always)]
fn mask(width: u32) -> u32 {
    u32::MAX >> (32 - width)
}

fn insert<const CLEARS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (lsb, mask) = (op.imm32(), mask(op.extra()));
    let value = if CLEARS { 0 } else { s.gpr[op.rn as usize] as u32 & mask };
    let old = s.gpr[op.rd as usize] as u32;
    put(s, op, old & !(mask << lsb) | value << lsb)
}

fn extract<const IS_SIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (lsb, width) = (op.imm32(), op.extra());
    let value = s.gpr[op.rn as usize] as u32 >> lsb & mask(width);
    put(s, op, if IS_SIGNED { sign_extend(u64::from(value), width) as u32 } else { value })
}

/// BFI and, with PC as the source, BFC: the highest bit `w`, the lowest as [`amount_of`].
pub(crate) fn bfi(word: &Word<'_>) -> Option<Op> {
    let (msb, lsb) = (word.field('w'), amount_of(word));
    if msb < lsb || word.names_pc("d") {
        return None;
    }
    let run: Handler = if word.names_pc("n") { insert::<true> } else { insert::<false> };
    let action = Action::Insert { clears: word.names_pc("n") };
    Some(word.op(run).acting(action.pack()).with_imm(lsb).with_extra(msb - lsb + 1))
}

fn extract_of(word: &Word<'_>, run: Handler, signed: bool) -> Option<Op> {
    let (width, lsb) = (word.field('w') + 1, amount_of(word));
    if lsb + width > 32 {
        None
    } else {
        checked(word, run)
            .map(|op| op.acting(Action::Extract { signed }.pack()).with_imm(lsb).with_extra(width))
    }
}

/// SBFX: one less than the width in `w`.
pub(crate) fn sbfx(word: &Word<'_>) -> Option<Op> {
    extract_of(word, extract::<true>, true)
}

/// UBFX: one less than the width in `w`.
pub(crate) fn ubfx(word: &Word<'_>) -> Option<Op> {
    extract_of(word, extract::<false>, false)
}

fn checksum<const SIZE: u8, const CASTAGNOLI: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = operands(s, op);
    put(s, op, crc32(CASTAGNOLI, 1 << SIZE, n, u64::from(m)))
}

/// CRC32B, CRC32H, CRC32W: the size in bits 22 to 21 (A32) or 5 to 4 (T32).
pub(crate) fn crc32_of(word: &Word<'_>) -> Option<Op> {
    let handlers: [Handler; 3] = [checksum::<0, false>, checksum::<1, false>, checksum::<2, false>];
    checksum_of(word, handlers)
}

/// CRC32CB, CRC32CH, CRC32CW.
pub(crate) fn crc32c_of(word: &Word<'_>) -> Option<Op> {
    let handlers: [Handler; 3] = [checksum::<0, true>, checksum::<1, true>, checksum::<2, true>];
    let action = Action::Castagnoli { size: checksum_size(word) as u8 };
    checksum_of(word, handlers).map(|op| op.acting(action.pack()))
}

/// The logarithm of the bytes; 3 is reserved.
fn checksum_size(word: &Word<'_>) -> u32 {
    if word.is_thumb() { word.code >> 4 & 3 } else { word.code >> 21 & 3 }
}

fn checksum_of(word: &Word<'_>, handlers: [Handler; 3]) -> Option<Op> {
    let size = checksum_size(word);
    let run = *handlers.get(size as usize)?;
    (!word.is_in_it()).then(|| checked(word, run)).flatten()
}
