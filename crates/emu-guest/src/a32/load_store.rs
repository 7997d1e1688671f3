//! Loads and stores of general registers (manual F4.1.4, F3.1.3).
//!
//! Every instruction makes all its loads before it writes a register, and all its stores before it writes
//! the base back: a fault changes no register.
//!
//! Addresses need no alignment, as on Armv7 under Linux: the CPU does single accesses at any address, and the
//! kernel's default is to do what LDRD, STRD, LDM and STM could not (Documentation/arch/arm/mem_alignment).

use super::action::{Action, Mode, Transfer};
use super::fields::{Jump, Word};
use super::registers::{PC, ZERO, place};
use super::shift::{self, decode_immediate};
use crate::condition::C;
use crate::exit::{Flow, Leave, Step};
use crate::op::{Handler, Host, Op, sign_extend};
use crate::state::State;

/// Addressing modes.
const OFFSET: u8 = 0;
const PRE: u8 = 1;
const POST: u8 = 2;

/// Bit 3 of [`Op::extra`]: the offset, a shifted register, is subtracted. The low bits are the kind of shift.
const SUBTRACTS: u32 = 8;

impl State {
    /// Loads `1 << size` bytes in the order of the current data accesses.
    #[inline(always)]
    pub(crate) fn load32(&mut self, host: &Host, address: u32, size: u8) -> Result<u32, Leave> {
        let value = self.load(host, u64::from(address), size)? as u32;
        Ok(if self.is_big_endian() { value.swap_bytes() >> (32 - (8 << size)) } else { value })
    }

    /// Stores `1 << size` bytes in the order of the current data accesses.
    #[inline(always)]
    pub(crate) fn store32(&mut self, host: &Host, address: u32, size: u8, value: u32) -> Result<(), Leave> {
        let value = if self.is_big_endian() { value.swap_bytes() >> (32 - (8 << size)) } else { value };
        self.store(host, u64::from(address), size, u64::from(value))
    }
}

/// The offset from the base.
#[inline(always)]
fn offset<const REGISTER: bool>(s: &State, op: &Op) -> u32 {
    if !REGISTER {
        return op.imm32();
    }
    let extra = op.extra();
    let m = s.gpr[op.rm as usize] as u32;
    let (value, _) = shift::shift(m, extra & 7, op.imm32(), s.nzcv & C != 0);
    if extra & SUBTRACTS != 0 { value.wrapping_neg() } else { value }
}

/// The address of the access and, with write-back, the new base.
#[inline(always)]
fn addresses<const MODE: u8, const REGISTER: bool>(s: &State, op: &Op) -> (u32, u32) {
    let base = s.gpr[op.rn as usize] as u32;
    let moved = base.wrapping_add(offset::<REGISTER>(s, op));
    (if MODE == POST { base } else { moved }, moved)
}

#[inline(always)]
fn write_back<const MODE: u8>(s: &mut State, op: &Op, base: u32) {
    if MODE != OFFSET {
        s.gpr[op.rn as usize] = u64::from(base);
    }
}

fn load<const SIZE: u8, const SIGNED: bool, const MODE: u8, const REGISTER: bool>(
    s: &mut State,
    host: &Host,
    op: &Op,
) -> Step {
    let (address, base) = addresses::<MODE, REGISTER>(s, op);
    let value = s.load32(host, address, SIZE)?;
    write_back::<MODE>(s, op, base);
    let value = if SIGNED { sign_extend(u64::from(value), 8 << SIZE) as u32 } else { value };
    s.gpr[op.rd as usize] = u64::from(value);
    Ok(Flow::Next)
}

fn store<const SIZE: u8, const MODE: u8, const REGISTER: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let (address, base) = addresses::<MODE, REGISTER>(s, op);
    s.store32(host, address, SIZE, s.gpr[op.rd as usize] as u32)?;
    write_back::<MODE>(s, op, base);
    Ok(Flow::Next)
}

/// LDRD: of an aligned address one access of 8 bytes.
fn load_dual<const MODE: u8, const REGISTER: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let (address, base) = addresses::<MODE, REGISTER>(s, op);
    let (first, second) = if address & 7 == 0 && !s.is_big_endian() {
        let both = s.load(host, u64::from(address), 3)?;
        (both as u32, (both >> 32) as u32)
    } else {
        (s.load32(host, address, 2)?, s.load32(host, address.wrapping_add(4), 2)?)
    };
    write_back::<MODE>(s, op, base);
    s.gpr[op.rd as usize] = u64::from(first);
    s.gpr[op.ra as usize] = u64::from(second);
    Ok(Flow::Next)
}

fn store_dual<const MODE: u8, const REGISTER: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let (address, base) = addresses::<MODE, REGISTER>(s, op);
    let (first, second) = (s.gpr[op.rd as usize] as u32, s.gpr[op.ra as usize] as u32);
    if address & 7 == 0 && !s.is_big_endian() {
        s.store(host, u64::from(address), 3, u64::from(first) | u64::from(second) << 32)?;
    } else {
        s.store32(host, address, 2, first)?;
        s.store32(host, address.wrapping_add(4), 2, second)?;
    }
    write_back::<MODE>(s, op, base);
    Ok(Flow::Next)
}

macro_rules! by_mode {
    ($($handler:ident::<$($parameter:literal),*>)?; $mode:expr, $register:expr) => {
        match ($mode, $register) {
            (OFFSET, false) => $($handler::<$($parameter,)* OFFSET, false>)?,
            (PRE, false) => $($handler::<$($parameter,)* PRE, false>)?,
            (POST, false) => $($handler::<$($parameter,)* POST, false>)?,
            (OFFSET, true) => $($handler::<$($parameter,)* OFFSET, true>)?,
            (PRE, true) => $($handler::<$($parameter,)* PRE, true>)?,
            (_, _) => $($handler::<$($parameter,)* POST, true>)?,
        }
    };
}

fn handler(transfer: Transfer, mode: u8, register: bool) -> Handler {
    match transfer {
        Transfer::Load(0) => by_mode!(load::<0, false>; mode, register),
        Transfer::Load(1) => by_mode!(load::<1, false>; mode, register),
        Transfer::Load(_) => by_mode!(load::<2, false>; mode, register),
        Transfer::LoadSigned(0) => by_mode!(load::<0, true>; mode, register),
        Transfer::LoadSigned(_) => by_mode!(load::<1, true>; mode, register),
        Transfer::Store(0) => by_mode!(store::<0>; mode, register),
        Transfer::Store(1) => by_mode!(store::<1>; mode, register),
        Transfer::Store(_) => by_mode!(store::<2>; mode, register),
        Transfer::LoadDual => by_mode!(load_dual::<>; mode, register),
        Transfer::StoreDual => by_mode!(store_dual::<>; mode, register),
    }
}

/// An instruction of this transfer.
fn access_op(word: &Word<'_>, transfer: Transfer, mode: u8, register: bool) -> Op {
    let kind = match mode {
        OFFSET => Mode::Offset,
        PRE => Mode::Before,
        _ => Mode::After,
    };
    let action = Action::Access { transfer, mode: kind, register };
    word.op(handler(transfer, mode, register)).acting(action.pack())
}

/// The offset of an access.
enum Offset {
    /// Bytes, negative ones as their complement.
    Immediate(u32),
    /// Register `m`, shifted; subtracted unless `up`.
    Register { kind: u32, amount: u32, up: bool },
}

/// Bytes to add: `imm` or its negative.
fn signed(imm: u32, up: bool) -> Offset {
    Offset::Immediate(if up { imm } else { imm.wrapping_neg() })
}

/// The addressing mode of bits P and W; W without P is the unprivileged form, which is post-indexed in A32.
fn mode_of(word: &Word<'_>) -> u8 {
    match (word.is('P'), word.is('W')) {
        (true, false) => OFFSET,
        (true, true) => PRE,
        (false, _) => POST,
    }
}

/// A load or store with its base `n`, or from PC.
fn access(word: &Word<'_>, transfer: Transfer, mode: u8, offset: Offset) -> Option<Op> {
    let loads = matches!(transfer, Transfer::Load(_) | Transfer::LoadSigned(_) | Transfer::LoadDual);
    let dual = transfer == Transfer::LoadDual;
    let from_pc = word.names_pc("n");
    let whole = matches!(transfer, Transfer::Load(2) | Transfer::Store(2));
    // Of bytes, halfwords and pairs none is PC; a base that is written back is no PC and not transferred.
    let bad_register = word.names_pc("t") && !whole;
    if bad_register || mode != OFFSET && (from_pc || word.field('n') == word.field('t')) {
        return None;
    }
    let register = matches!(offset, Offset::Register { .. });
    let mut op = access_op(word, transfer, mode, register);
    match offset {
        Offset::Immediate(imm) if from_pc && word.is_thumb() => {
            op = Op { rn: ZERO, ..op.with_imm(word.literal_base().wrapping_add(imm)) };
        }
        Offset::Immediate(imm) => op = op.with_imm(imm),
        Offset::Register { kind, amount, up } => {
            let m = word.field('m');
            let loads_index = dual && (m == word.field('t') || m == word.field('t') + 1);
            if m == 15 || loads_index {
                return None;
            }
            op = op.with_imm(amount).with_extra(kind | if up { 0 } else { SUBTRACTS });
        }
    }
    let writes_pc = loads && op.rd == PC;
    if writes_pc && word.is_inside_it() {
        return None;
    }
    Some(if writes_pc { op.jumping(Jump::Exchange) } else { op })
}

fn arm_transfer(word: &Word<'_>) -> Transfer {
    let size = if word.code >> 22 & 1 == 1 { 0 } else { 2 };
    if word.code >> 20 & 1 == 1 { Transfer::Load(size) } else { Transfer::Store(size) }
}

/// A32: LDR, LDRB, STR, STRB with an immediate `i`, and their unprivileged forms.
pub(crate) fn arm_immediate(word: &Word<'_>) -> Option<Op> {
    access(word, arm_transfer(word), mode_of(word), signed(word.field('i'), word.is('U')))
}

/// A32: LDR, LDRB, STR, STRB with a register shifted by an immediate: kind `y`, amount `i`.
pub(crate) fn arm_register(word: &Word<'_>) -> Option<Op> {
    let (kind, amount) = decode_immediate(word.field('y'), word.field('i'));
    access(word, arm_transfer(word), mode_of(word), Offset::Register { kind, amount, up: word.is('U') })
}

/// Of A32's halfwords, signed bytes and doublewords: bit 20 and bits 6 to 5.
fn arm_extra_transfer(word: &Word<'_>) -> Option<Transfer> {
    Some(match (word.code >> 20 & 1, word.code >> 5 & 3) {
        (0, 1) => Transfer::Store(1),
        (1, 1) => Transfer::Load(1),
        (1, 2) => Transfer::LoadSigned(0),
        (1, 3) => Transfer::LoadSigned(1),
        (0, 2) => Transfer::LoadDual,
        (0, 3) => Transfer::StoreDual,
        _ => return None,
    })
}

fn arm_extra(word: &Word<'_>, offset: Offset) -> Option<Op> {
    let transfer = arm_extra_transfer(word)?;
    let dual = matches!(transfer, Transfer::LoadDual | Transfer::StoreDual);
    let t = word.field('t');
    let unprivileged = !word.is('P') && word.is('W');
    if dual && (t & 1 == 1 || t == 14 || unprivileged) {
        return None;
    }
    let mode = mode_of(word);
    if dual && mode != OFFSET && word.field('n') == t + 1 {
        return None;
    }
    let op = access(word, transfer, mode, offset)?;
    Some(if dual { Op { ra: place(t + 1), ..op } } else { op })
}

/// A32: halfwords, signed bytes, doublewords, with an immediate `i`:`j`.
pub(crate) fn arm_extra_immediate(word: &Word<'_>) -> Option<Op> {
    let imm = word.field('i') << 4 | word.field('j');
    arm_extra(word, signed(imm, word.is('U')))
}

/// A32: halfwords, signed bytes, doublewords, with a register.
pub(crate) fn arm_extra_register(word: &Word<'_>) -> Option<Op> {
    arm_extra(word, Offset::Register { kind: shift::LSL, amount: 0, up: word.is('U') })
}

/// Of T32's 32-bit encodings: sign in bit 24, size in bits 22 to 21, load in bit 20.
fn thumb_transfer(word: &Word<'_>) -> Option<Transfer> {
    let size = (word.code >> 21 & 3) as u8;
    Some(match (word.code >> 24 & 1, word.code >> 20 & 1) {
        (0, 0) if size < 3 => Transfer::Store(size),
        (0, 1) if size < 3 => Transfer::Load(size),
        (1, 1) if size < 2 => Transfer::LoadSigned(size),
        _ => return None,
    })
}

/// The instruction, unless it is a store from PC.
fn thumb_access(word: &Word<'_>, mode: u8, offset: Offset) -> Option<Op> {
    let transfer = thumb_transfer(word)?;
    let stores = matches!(transfer, Transfer::Store(_));
    if stores && word.names_pc("tn") {
        return None;
    }
    access(word, transfer, mode, offset)
}

/// T32: with an immediate `i` of 12 bits.
pub(crate) fn thumb_immediate(word: &Word<'_>) -> Option<Op> {
    thumb_access(word, OFFSET, signed(word.field('i'), true))
}

/// T32: from PC, with an immediate `i` of 12 bits.
pub(crate) fn thumb_literal(word: &Word<'_>) -> Option<Op> {
    let offset = signed(word.field('i'), word.is('U'));
    let Offset::Immediate(imm) = offset else { return None };
    let transfer = thumb_transfer(word)?;
    let address = word.literal_base().wrapping_add(imm);
    let op = Op { rn: ZERO, ..access_op(word, transfer, OFFSET, false).with_imm(address) };
    match op.rd == PC {
        true if word.is_inside_it() => None,
        true => Some(op.jumping(Jump::Exchange)),
        false => Some(op),
    }
}

/// T32: the unprivileged forms, with an immediate `i` of 8 bits; in user mode the same as the others.
pub(crate) fn thumb_unprivileged(word: &Word<'_>) -> Option<Op> {
    if word.names_pc("tn") {
        return None;
    }
    thumb_access(word, OFFSET, signed(word.field('i'), true))
}

/// T32: with an immediate `i` of 8 bits and P, U, W.
pub(crate) fn thumb_indexed(word: &Word<'_>) -> Option<Op> {
    let (p, u, w) = (word.is('P'), word.is('U'), word.is('W'));
    // P and U without W are the unprivileged forms.
    let mode = match (p, w) {
        (true, false) => OFFSET,
        (true, true) => PRE,
        (false, true) => POST,
        (false, false) => return None,
    };
    if word.names_pc("n") {
        return None;
    }
    thumb_access(word, mode, signed(word.field('i'), u))
}

/// T32: with a register shifted left by `i`.
pub(crate) fn thumb_register(word: &Word<'_>) -> Option<Op> {
    if word.names_pc("n") {
        return None;
    }
    thumb_access(word, OFFSET, Offset::Register { kind: shift::LSL, amount: word.field('i'), up: true })
}

/// T32: LDRD, STRD with an immediate `i` in words.
pub(crate) fn thumb_dual(word: &Word<'_>) -> Option<Op> {
    let loads = word.code >> 20 & 1 == 1;
    let (t, u) = (word.field('t'), word.field('u'));
    // Neither P nor W: exclusive accesses.
    let other = !word.is('P') && !word.is('W');
    let mode = mode_of(word);
    let transfers_base = mode != OFFSET && word.field('n') == u;
    let bad_register = word.names_pc("u") || !loads && word.names_pc("n");
    if other || bad_register || transfers_base || loads && t == u {
        return None;
    }
    let transfer = if loads { Transfer::LoadDual } else { Transfer::StoreDual };
    access(word, transfer, mode, signed(word.field('i') << 2, word.is('U')))
}

/// T32, 16 bits: with an immediate `i`, scaled by the size in bytes.
pub(crate) fn thumb16_immediate(word: &Word<'_>) -> Option<Op> {
    let loads = word.code >> 11 & 1 == 1;
    let size = match word.code >> 12 {
        0b1000 => 1,
        _ if word.code >> 12 & 1 == 1 => 0,
        _ => 2,
    };
    let transfer = if loads { Transfer::Load(size) } else { Transfer::Store(size) };
    Some(access_op(word, transfer, OFFSET, false).with_imm(word.field('i') << size))
}

/// T32, 16 bits: with two registers; operation in bits 11 to 9.
pub(crate) fn thumb16_register(word: &Word<'_>) -> Option<Op> {
    let transfer = match word.code >> 9 & 7 {
        0 => Transfer::Store(2),
        1 => Transfer::Store(1),
        2 => Transfer::Store(0),
        3 => Transfer::LoadSigned(0),
        4 => Transfer::Load(2),
        5 => Transfer::Load(1),
        6 => Transfer::Load(0),
        _ => Transfer::LoadSigned(1),
    };
    Some(access_op(word, transfer, OFFSET, true))
}

/// T32, 16 bits: from SP, with an immediate `i` in words.
pub(crate) fn thumb16_sp(word: &Word<'_>) -> Option<Op> {
    let transfer = if word.code >> 11 & 1 == 1 { Transfer::Load(2) } else { Transfer::Store(2) };
    Some(Op { rn: place(13), ..access_op(word, transfer, OFFSET, false).with_imm(word.field('i') << 2) })
}

/// T32, 16 bits: from PC, with an immediate `i` in words.
pub(crate) fn thumb16_literal(word: &Word<'_>) -> Option<Op> {
    let address = word.literal_base().wrapping_add(word.field('i') << 2);
    Some(Op { rn: ZERO, ..access_op(word, Transfer::Load(2), OFFSET, false).with_imm(address) })
}
