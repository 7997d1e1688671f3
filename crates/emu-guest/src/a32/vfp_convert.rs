//! VFP's conversions (manual F6.1).

use super::fields::Word;
use super::registers::AHP;
use super::vfp_arithmetic::directed;
use super::vfp_register::{Element, by_size};
use crate::exit::{Flow, Step};
use crate::float::{Brain, Double, Format, Half, HalfOperand, Rounding, Single};
use crate::op::{Handler, Host, Op, sign_extend};
use crate::state::State;

/// Bits of [`Op::extra`] of conversions with fixed-point numbers: the number is unsigned; it has 32 bits.
const UNSIGNED: u32 = 1;
const WIDE: u32 = 2;

fn widen(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = Single::get(s, op.rm);
    let result = convert::<Single, Double>(s, s.fpcr, a);
    s.set_d(op.rd, result);
    Ok(Flow::Next)
}

fn narrow(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = Double::get(s, op.rm);
    let result = convert::<Double, Single>(s, s.fpcr, a);
    s.set_s(op.rd, result as u32);
    Ok(Flow::Next)
}

/// FPConvert with the modes `fpcr`.
fn convert<F: Format, T: Format>(s: &mut State, fpcr: u32, a: u64) -> u64 {
    Single::compute(s, fpcr, |fpu| {
        let rounding = fpu.rounding();
        fpu.convert::<F, T>(a, rounding)
    })
}

/// VCVT between single and double precision; bit 8 is the size of the source.
pub(super) fn single_double(word: &Word<'_>) -> Option<Op> {
    Some(if word.has_doubles() {
        Op { rd: word.single('d'), ..word.doubles(narrow) }
    } else {
        Op { rd: word.double('d'), ..word.singles(widen) }
    })
}

/// The lowest bit of the half of a singleword that bit 7 names.
#[inline(always)]
fn half_of(op: &Op) -> u32 {
    if op.bit(7) { 16 } else { 0 }
}

fn from_half_to<T: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = u64::from(s.s(op.rm) >> half_of(op) & 0xffff);
    let result = convert::<Half, T>(s, s.fpcr, a);
    T::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// VCVTB and VCVTT from half precision.
pub(super) fn from_half(word: &Word<'_>) -> Option<Op> {
    let run: Handler = if word.has_doubles() { from_half_to::<Double> } else { from_half_to::<Single> };
    Some(Op { rm: word.single('m'), ..word.sized(run) })
}

/// Sets the half of a singleword that bit 7 names.
fn set_half(s: &mut State, op: &Op, value: u64) {
    let shift = half_of(op);
    let kept = s.s(op.rd) & !(0xffff << shift);
    s.set_s(op.rd, kept | (value as u32) << shift);
}

fn to_half_from<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = F::get(s, op.rm);
    let result = convert::<F, Half>(s, s.fpcr, a);
    set_half(s, op, result);
    Ok(Flow::Next)
}

/// VCVTB and VCVTT to half precision.
pub(super) fn to_half(word: &Word<'_>) -> Option<Op> {
    let run: Handler = if word.has_doubles() { to_half_from::<Double> } else { to_half_from::<Single> };
    Some(Op { rd: word.single('d'), ..word.sized(run) })
}

fn to_brain_from_single(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = Single::get(s, op.rm);
    let result = convert::<Single, Brain>(s, s.fpcr & !AHP, a);
    set_half(s, op, result);
    Ok(Flow::Next)
}

/// VCVTB and VCVTT to BFloat16 (FEAT_AA32BF16).
pub(super) fn to_brain(word: &Word<'_>) -> Option<Op> {
    Some(word.singles(to_brain_from_single))
}

/// Converts to an integer of 32 bits; `None` is FPSCR's rounding.
#[inline(always)]
fn set_integer<F: Element>(s: &mut State, op: &Op, unsigned: bool, rounding: Option<Rounding>) -> Step {
    let a = F::get(s, op.rm);
    let result = F::with_fpu(s, |fpu| {
        let rounding = rounding.unwrap_or_else(|| fpu.rounding());
        fpu.fixed_of::<F>(a, 0, unsigned, rounding, 32)
    });
    s.set_s(op.rd, result as u32);
    Ok(Flow::Next)
}

fn integer_directed<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    set_integer::<F>(s, op, !op.bit(7), Some(directed(op.bits(17, 16))))
}

/// VCVTA, VCVTN, VCVTP, VCVTM; the integer is signed by `s`.
pub(super) fn to_integer_directed(word: &Word<'_>) -> Option<Op> {
    let run: Handler = by_size!(word, integer_directed);
    Some(Op { rd: word.single('d'), ..word.sized(run) })
}

/// Bit 16 says that the integer is signed, bit 7 that rounding is to zero.
fn integer<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    set_integer::<F>(s, op, !op.bit(16), op.bit(7).then_some(Rounding::Zero))
}

/// VCVT and VCVTR to an integer.
pub(super) fn to_integer(word: &Word<'_>) -> Option<Op> {
    let run: Handler = by_size!(word, integer);
    Some(Op { rd: word.single('d'), ..word.sized(run) })
}

fn float_of_integer<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (value, unsigned) = (u64::from(s.s(op.rm)), !op.bit(7));
    let value = if unsigned { value } else { sign_extend(value, 32) };
    let result = F::with_fpu(s, |fpu| fpu.float_of::<F>(value, 0, unsigned));
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// VCVT from an integer, which is signed by `s`.
pub(super) fn from_integer(word: &Word<'_>) -> Option<Op> {
    let run: Handler = by_size!(word, float_of_integer);
    Some(Op { rm: word.single('m'), ..word.sized(run) })
}

fn float_of_fixed<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    // A number of 32 bits takes the whole singleword also where the result is in half precision.
    let value = if F::WIDTH == 64 { s.d(op.rd) } else { u64::from(s.s(op.rd)) };
    let extra = op.extra();
    let (unsigned, width) = (extra & UNSIGNED != 0, if extra & WIDE != 0 { 32 } else { 16 });
    let value = if unsigned { value & ((1 << width) - 1) } else { sign_extend(value, width) };
    let result = F::to_nearest(s, |fpu| fpu.float_of::<F>(value, op.imm32(), unsigned));
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

fn fixed_of_float<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (extra, a) = (op.extra(), F::get(s, op.rd));
    let (unsigned, width) = (extra & UNSIGNED != 0, if extra & WIDE != 0 { 32 } else { 16 });
    let value = F::with_fpu(s, |fpu| fpu.fixed_of::<F>(a, op.imm32(), unsigned, Rounding::Zero, width));
    let value = if unsigned { value } else { sign_extend(value, width) };
    F::set(s, op.rd, value);
    Ok(Flow::Next)
}

/// A conversion in place with a fixed-point number of 16 or, by `w`, 32 bits, which is unsigned by `U` and
/// has as many bits before the point as `i`:`j` says.
fn fixed(word: &Word<'_>, run: Handler) -> Option<Op> {
    let wide = word.is('w');
    let integer_bits = word.field('i') << 1 | word.field('j');
    // More bits before the point than the number has.
    let fraction_bits = if wide { 32u32 } else { 16 }.checked_sub(integer_bits)?;
    let extra = word.field('U') * UNSIGNED | u32::from(wide) * WIDE;
    Some(word.sized(run).with_imm(fraction_bits).with_extra(extra))
}

/// VCVT from a fixed-point number, which rounds to nearest whatever FPSCR says.
pub(super) fn from_fixed(word: &Word<'_>) -> Option<Op> {
    fixed(word, by_size!(word, float_of_fixed))
}

/// VCVT to a fixed-point number.
pub(super) fn to_fixed(word: &Word<'_>) -> Option<Op> {
    fixed(word, by_size!(word, fixed_of_float))
}

fn convert_javascript(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = Double::get(s, op.rm);
    let (value, exact) = Double::with_fpu(s, |fpu| fpu.javascript_of(a));
    s.set_s(op.rd, value);
    s.set_float_flags(u32::from(exact) << 30);
    Ok(Flow::Next)
}

/// VJCVT (FEAT_JSCVT).
pub(super) fn javascript(word: &Word<'_>) -> Option<Op> {
    Some(Op { rd: word.single('d'), ..word.doubles(convert_javascript) })
}
