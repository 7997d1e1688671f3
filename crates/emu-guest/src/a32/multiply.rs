//! Multiplication and division (manual F2.4.2).
//!
//! In all patterns `n` and `m` are factors, `d` is the destination, `a` the accumulator; long products have
//! their low half in `d` and their high half in `a`.

use super::action::Action;
use super::fields::Word;
use super::registers::Q;
use crate::condition::{N, Z};
use crate::exit::{Flow, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// The operands as registers.
#[inline(always)]
fn factors(s: &State, op: &Op) -> (u32, u32) {
    (s.gpr[op.rn as usize] as u32, s.gpr[op.rm as usize] as u32)
}

#[inline(always)]
fn accumulator(s: &State, op: &Op) -> u32 {
    s.gpr[op.ra as usize] as u32
}

#[inline(always)]
fn put(s: &mut State, op: &Op, value: u32) -> Step {
    s.gpr[op.rd as usize] = u64::from(value);
    Ok(Flow::Next)
}

/// The 64-bit accumulator of a long multiplication.
#[inline(always)]
fn long_accumulator(s: &State, op: &Op) -> u64 {
    s.gpr[op.rd as usize] & 0xffff_ffff | s.gpr[op.ra as usize] << 32
}

#[inline(always)]
fn put_long(s: &mut State, op: &Op, value: u64) -> Step {
    s.gpr[op.rd as usize] = value & 0xffff_ffff;
    s.gpr[op.ra as usize] = value >> 32;
    Ok(Flow::Next)
}

/// Sets N and Z; C and V stay.
#[inline(always)]
fn set_nz(s: &mut State, negative: bool, zero: bool) {
    s.nzcv = s.nzcv & !(N | Z) | u32::from(negative) * N | u32::from(zero) * Z;
}

const MUL: u8 = 0;
const MLA: u8 = 1;
const MLS: u8 = 2;

fn multiply<const KIND: u8, const SETS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let product = n.wrapping_mul(m);
    let result = match KIND {
        MUL => product,
        MLA => accumulator(s, op).wrapping_add(product),
        _ => accumulator(s, op).wrapping_sub(product),
    };
    if SETS {
        set_nz(s, result >> 31 == 1, result == 0);
    }
    put(s, op, result)
}

/// MUL; in T32 of 16 bits the destination is the second factor, and flags are set outside of IT blocks.
pub(crate) fn mul(word: &Word<'_>) -> Option<Op> {
    if word.row.width == 16 {
        let sets = !word.is_in_it();
        let op = word.op(if sets { multiply::<MUL, true> } else { multiply::<MUL, false> });
        return Some(Op { rm: op.rd, ..op.acting(Action::Multiply { kind: MUL, sets }.pack()) });
    }
    checked(word, if word.is('S') { multiply::<MUL, true> } else { multiply::<MUL, false> })
        .map(|op| op.acting(Action::Multiply { kind: MUL, sets: word.is('S') }.pack()))
}

/// MLA.
pub(crate) fn mla(word: &Word<'_>) -> Option<Op> {
    checked(word, if word.is('S') { multiply::<MLA, true> } else { multiply::<MLA, false> })
        .map(|op| op.acting(Action::Multiply { kind: MLA, sets: word.is('S') }.pack()))
}

/// MLS.
pub(crate) fn mls(word: &Word<'_>) -> Option<Op> {
    checked(word, multiply::<MLS, false>)
        .map(|op| op.acting(Action::Multiply { kind: MLS, sets: false }.pack()))
}

/// The instruction, unless a register is PC.
fn checked(word: &Word<'_>, run: Handler) -> Option<Op> {
    (!word.names_pc("dnma")).then(|| word.op(run))
}

/// As [`checked`]; the halves of a long product are different registers.
fn checked_long(word: &Word<'_>, run: Handler) -> Option<Op> {
    if word.field('d') == word.field('a') { None } else { checked(word, run) }
}

fn multiply_long<const SIGNED: bool, const ADDS: bool, const SETS: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let (n, m) = factors(s, op);
    let product =
        if SIGNED { (i64::from(n as i32) * i64::from(m as i32)) as u64 } else { u64::from(n) * u64::from(m) };
    let result = if ADDS { long_accumulator(s, op).wrapping_add(product) } else { product };
    if SETS {
        set_nz(s, result >> 63 == 1, result == 0);
    }
    put_long(s, op, result)
}

macro_rules! long {
    ($(#[$doc:meta] $name:ident, $signed:literal, $adds:literal;)*) => {$(
        #[$doc]
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            let run: Handler = if word.is('S') {
                multiply_long::<$signed, $adds, true>
            } else {
                multiply_long::<$signed, $adds, false>
            };
            let action = Action::MultiplyLong { signed: $signed, adds: $adds };
            let op = checked_long(word, run)?;
            // Those that set flags are rare.
            Some(if word.is('S') { op } else { op.acting(action.pack()) })
        }
    )*};
}
long! {
    /// UMULL.
    umull, false, false;
    /// UMLAL.
    umlal, false, true;
    /// SMULL.
    smull, true, false;
    /// SMLAL.
    smlal, true, true;
}

fn multiply_accumulate_accumulate(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let sum =
        u64::from(n) * u64::from(m) + (s.gpr[op.rd as usize] & 0xffff_ffff) + u64::from(accumulator(s, op));
    put_long(s, op, sum)
}

/// UMAAL.
pub(crate) fn umaal(word: &Word<'_>) -> Option<Op> {
    checked_long(word, multiply_accumulate_accumulate).map(|op| op.acting(Action::MultiplyAddTwice.pack()))
}

/// A signed half of a word.
#[inline(always)]
fn half(value: u32, top: bool) -> i32 {
    i32::from(if top { (value >> 16) as i16 } else { value as i16 })
}

/// `a + b`; sets Q on overflow.
#[inline(always)]
fn add_sticky(s: &mut State, a: i32, b: i32) -> u32 {
    let (sum, overflow) = a.overflowing_add(b);
    if overflow {
        s.apsr |= Q;
    }
    sum as u32
}

/// Bits of [`Op::extra`] for halves: that of `n`, that of `m`.
const TOP_N: u32 = 1;
const TOP_M: u32 = 2;

fn multiply_halves<const ADDS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let product = half(n, op.extra() & TOP_N != 0) * half(m, op.extra() & TOP_M != 0);
    let result = if ADDS { add_sticky(s, product, accumulator(s, op) as i32) } else { product as u32 };
    put(s, op, result)
}

fn multiply_halves_long(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let product = half(n, op.extra() & TOP_N != 0) * half(m, op.extra() & TOP_M != 0);
    let sum = long_accumulator(s, op).wrapping_add(i64::from(product) as u64);
    put_long(s, op, sum)
}

/// The halves that the fields `z` (of `n`) and `y` (of `m`) choose.
fn with_halves(word: &Word<'_>, op: Op, action: Action) -> Op {
    op.acting(action.pack()).with_extra(word.field('z') * TOP_N | word.field('y') * TOP_M)
}

/// SMULBB and its forms.
pub(crate) fn smul_xy(word: &Word<'_>) -> Option<Op> {
    checked(word, multiply_halves::<false>)
        .map(|op| with_halves(word, op, Action::MultiplyHalves { adds: false }))
}

/// SMLABB and its forms.
pub(crate) fn smla_xy(word: &Word<'_>) -> Option<Op> {
    checked(word, multiply_halves::<true>)
        .map(|op| with_halves(word, op, Action::MultiplyHalves { adds: true }))
}

/// SMLALBB and its forms.
pub(crate) fn smlal_xy(word: &Word<'_>) -> Option<Op> {
    checked_long(word, multiply_halves_long).map(|op| with_halves(word, op, Action::MultiplyHalvesLong))
}

fn multiply_word_half<const ADDS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let product = (i64::from(n as i32) * i64::from(half(m, op.extra() & TOP_M != 0)) >> 16) as i32;
    let result = if ADDS { add_sticky(s, product, accumulator(s, op) as i32) } else { product as u32 };
    put(s, op, result)
}

/// SMULWB, SMULWT.
pub(crate) fn smulw(word: &Word<'_>) -> Option<Op> {
    checked(word, multiply_word_half::<false>)
        .map(|op| with_halves(word, op, Action::MultiplyWordHalf { adds: false }))
}

/// SMLAWB, SMLAWT.
pub(crate) fn smlaw(word: &Word<'_>) -> Option<Op> {
    checked(word, multiply_word_half::<true>)
        .map(|op| with_halves(word, op, Action::MultiplyWordHalf { adds: true }))
}

/// The two products of halves; `extra` says that the halves of `m` are exchanged.
#[inline(always)]
fn products(s: &State, op: &Op) -> (i32, i32) {
    let (n, m) = factors(s, op);
    let m = if op.extra() != 0 { m.rotate_right(16) } else { m };
    (half(n, false) * half(m, false), half(n, true) * half(m, true))
}

fn dual<const SUBTRACTS: bool, const ADDS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (low, high) = products(s, op);
    let (low, high) = (i64::from(low), i64::from(high));
    let sum = if SUBTRACTS { low - high } else { low + high };
    let sum = if ADDS { sum + i64::from(accumulator(s, op) as i32) } else { sum };
    if i64::from(sum as i32) != sum {
        s.apsr |= Q;
    }
    put(s, op, sum as u32)
}

fn dual_long<const SUBTRACTS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (low, high) = products(s, op);
    let (low, high) = (i64::from(low), i64::from(high));
    let sum = if SUBTRACTS { low - high } else { low + high };
    let result = long_accumulator(s, op).wrapping_add(sum as u64);
    put_long(s, op, result)
}

macro_rules! duals {
    ($(#[$doc:meta] $name:ident, $check:ident, $run:expr, $action:expr;)*) => {$(
        #[$doc]
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            $check(word, $run).map(|op| op.acting($action.pack()).with_extra(word.field('z')))
        }
    )*};
}
duals! {
    /// SMUAD, SMUADX.
    smuad, checked, dual::<false, false>, Action::Dual { subtracts: false, adds: false };
    /// SMUSD, SMUSDX.
    smusd, checked, dual::<true, false>, Action::Dual { subtracts: true, adds: false };
    /// SMLAD, SMLADX.
    smlad, checked, dual::<false, true>, Action::Dual { subtracts: false, adds: true };
    /// SMLSD, SMLSDX.
    smlsd, checked, dual::<true, true>, Action::Dual { subtracts: true, adds: true };
    /// SMLALD, SMLALDX.
    smlald, checked_long, dual_long::<false>, Action::DualLong { subtracts: false };
    /// SMLSLD, SMLSLDX.
    smlsld, checked_long, dual_long::<true>, Action::DualLong { subtracts: true };
}

const MOST_MUL: u8 = 0;
const MOST_ADD: u8 = 1;
const MOST_SUB: u8 = 2;

fn most_significant<const KIND: u8>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let product = i64::from(n as i32) * i64::from(m as i32);
    let accumulator = i64::from(accumulator(s, op) as i32) << 32;
    let sum = match KIND {
        MOST_MUL => product,
        MOST_ADD => accumulator.wrapping_add(product),
        _ => accumulator.wrapping_sub(product),
    };
    let rounded = if op.extra() != 0 { sum.wrapping_add(0x8000_0000) } else { sum };
    put(s, op, (rounded >> 32) as u32)
}

duals! {
    /// SMMUL, SMMULR.
    smmul, checked, most_significant::<MOST_MUL>, Action::MostSignificant { kind: MOST_MUL };
    /// SMMLA, SMMLAR.
    smmla, checked, most_significant::<MOST_ADD>, Action::MostSignificant { kind: MOST_ADD };
    /// SMMLS, SMMLSR.
    smmls, checked, most_significant::<MOST_SUB>, Action::MostSignificant { kind: MOST_SUB };
}

fn divide<const SIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let result = match (m, SIGNED) {
        (0, _) => 0,
        (_, true) => (n as i32).wrapping_div(m as i32) as u32,
        (_, false) => n / m,
    };
    put(s, op, result)
}

/// SDIV.
pub(crate) fn sdiv(word: &Word<'_>) -> Option<Op> {
    checked(word, divide::<true>).map(|op| op.acting(Action::Divide { signed: true }.pack()))
}

/// UDIV.
pub(crate) fn udiv(word: &Word<'_>) -> Option<Op> {
    checked(word, divide::<false>).map(|op| op.acting(Action::Divide { signed: false }.pack()))
}

fn absolute_differences<const ADDS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = factors(s, op);
    let sum: u32 = n.to_le_bytes().iter().zip(m.to_le_bytes()).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
    let result = if ADDS { accumulator(s, op).wrapping_add(sum) } else { sum };
    put(s, op, result)
}

/// USAD8.
pub(crate) fn usad8(word: &Word<'_>) -> Option<Op> {
    checked(word, absolute_differences::<false>)
        .map(|op| op.acting(Action::Differences { adds: false }.pack()))
}

/// USADA8.
pub(crate) fn usada8(word: &Word<'_>) -> Option<Op> {
    checked(word, absolute_differences::<true>).map(|op| op.acting(Action::Differences { adds: true }.pack()))
}
