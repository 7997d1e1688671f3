//! VFP's arithmetic, comparisons, rounding to integral numbers, and selection (manual F6.1).

use super::fields::Word;
use super::vfp_register::{Element, by_size};
use crate::a64::comparison_flags;
use crate::condition::holds;
use crate::exit::{Flow, Step};
use crate::float::{Comparison, Double, HalfOperand, NanOperands, Rounding, Single};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// Operations on two registers.
const ADD: u8 = 0;
const SUB: u8 = 1;
const MUL: u8 = 2;
const NMUL: u8 = 3;
const DIV: u8 = 4;
const MAXNM: u8 = 5;
const MINNM: u8 = 6;

fn binary<F: Element, const OPERATION: u8>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (a, b) = (F::get(s, op.rn), F::get(s, op.rm));
    let result = F::with_fpu(s, |fpu| match OPERATION {
        ADD => fpu.add::<F>(a, b),
        SUB => fpu.sub::<F>(a, b),
        MUL => fpu.mul::<F>(a, b),
        NMUL => fpu.mul::<F>(a, b) ^ F::SIGN,
        DIV => fpu.div::<F>(a, b),
        MAXNM => fpu.max::<F>(a, b, NanOperands::QuietLose),
        _ => fpu.min::<F>(a, b, NanOperands::QuietLose),
    });
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// The sign bit, if `negate`.
#[inline(always)]
fn sign<F: Element>(negate: bool) -> u64 {
    if negate { F::SIGN } else { 0 }
}

/// Adds a product to the destination, both rounded; either may be negated before.
fn multiply_add<F: Element, const NEGATE_ADDEND: bool, const NEGATE_PRODUCT: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let (a, b) = (F::get(s, op.rn), F::get(s, op.rm));
    let addend = F::get(s, op.rd) ^ sign::<F>(NEGATE_ADDEND);
    let result = F::with_fpu(s, |fpu| {
        let product = fpu.mul::<F>(a, b) ^ sign::<F>(NEGATE_PRODUCT);
        fpu.add::<F>(addend, product)
    });
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// Adds a product to the destination, rounded once; the destination and the first factor may be negated
/// before.
fn fused<F: Element, const NEGATE_ADDEND: bool, const NEGATE_PRODUCT: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let (a, b) = (F::get(s, op.rn) ^ sign::<F>(NEGATE_PRODUCT), F::get(s, op.rm));
    let addend = F::get(s, op.rd) ^ sign::<F>(NEGATE_ADDEND);
    let result = F::with_fpu(s, |fpu| fpu.mul_add::<F>(addend, a, b));
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

macro_rules! instructions {
    ($($name:ident: $handler:ident $(, $parameter:expr)*; $text:literal)*) => {
        $(
            #[doc = $text]
            pub(super) fn $name(word: &Word<'_>) -> Option<Op> {
                Some(word.sized(by_size!(word, $handler $(, $parameter)*)))
            }
        )*
    };
}

instructions! {
    add: binary, ADD; "VADD."
    sub: binary, SUB; "VSUB."
    mul: binary, MUL; "VMUL."
    nmul: binary, NMUL; "VNMUL."
    div: binary, DIV; "VDIV."
    maxnm: binary, MAXNM; "VMAXNM."
    minnm: binary, MINNM; "VMINNM."
    mla: multiply_add, false, false; "VMLA."
    mls: multiply_add, false, true; "VMLS."
    nmla: multiply_add, true, true; "VNMLA."
    nmls: multiply_add, true, false; "VNMLS."
    fma: fused, false, false; "VFMA."
    fms: fused, false, true; "VFMS."
    fnma: fused, true, true; "VFNMA."
    fnms: fused, true, false; "VFNMS."
    abs: unary, ABS; "VABS."
    neg: unary, NEG; "VNEG."
    sqrt: unary, SQRT; "VSQRT."
}

/// Operations on one register.
const ABS: u8 = 0;
const NEG: u8 = 1;
const SQRT: u8 = 2;

fn unary<F: Element, const OPERATION: u8>(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = F::get(s, op.rm);
    let result = match OPERATION {
        ABS => a & !F::SIGN,
        NEG => a ^ F::SIGN,
        _ => F::with_fpu(s, |fpu| fpu.sqrt::<F>(a)),
    };
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// Compares with zero where the instruction has no second register. Bit 7 distinguishes VCMPE.
fn compare_with<F: Element, const ZERO: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (a, b) = (F::get(s, op.rd), if ZERO { 0 } else { F::get(s, op.rm) });
    let comparison = if op.bit(7) { Comparison::Signalling } else { Comparison::Quiet };
    let order = F::with_fpu(s, |fpu| fpu.compare::<F>(a, b, comparison));
    s.set_float_flags(comparison_flags(order));
    Ok(Flow::Next)
}

/// VCMP, VCMPE.
pub(super) fn compare(word: &Word<'_>) -> Option<Op> {
    Some(word.sized(by_size!(word, compare_with, false)))
}

/// VCMP, VCMPE with zero.
pub(super) fn compare_zero(word: &Word<'_>) -> Option<Op> {
    Some(word.sized(by_size!(word, compare_with, true)))
}

/// The rounding mode in bits 17 to 16 of instructions that name one.
pub(super) fn directed(bits: u32) -> Rounding {
    match bits & 3 {
        0 => Rounding::TieAway,
        1 => Rounding::TieEven,
        2 => Rounding::PlusInfinity,
        _ => Rounding::MinusInfinity,
    }
}

fn integral_directed<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = F::get(s, op.rm);
    let result = F::with_fpu(s, |fpu| fpu.round_int::<F>(a, directed(op.bits(17, 16)), false));
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// VRINTA, VRINTN, VRINTP, VRINTM.
pub(super) fn round_directed(word: &Word<'_>) -> Option<Op> {
    Some(word.sized(by_size!(word, integral_directed)))
}

fn integral_to_zero<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = F::get(s, op.rm);
    let result = F::with_fpu(s, |fpu| fpu.round_int::<F>(a, Rounding::Zero, false));
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// VRINTZ.
pub(super) fn rintz(word: &Word<'_>) -> Option<Op> {
    Some(word.sized(by_size!(word, integral_to_zero)))
}

fn integral<F: Element, const EXACT: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = F::get(s, op.rm);
    let result = F::with_fpu(s, |fpu| {
        let rounding = fpu.rounding();
        fpu.round_int::<F>(a, rounding, EXACT)
    });
    F::set(s, op.rd, result);
    Ok(Flow::Next)
}

/// VRINTR.
pub(super) fn rintr(word: &Word<'_>) -> Option<Op> {
    Some(word.sized(by_size!(word, integral, false)))
}

/// VRINTX.
pub(super) fn rintx(word: &Word<'_>) -> Option<Op> {
    Some(word.sized(by_size!(word, integral, true)))
}

fn select_by<F: Element>(s: &mut State, _: &Host, op: &Op) -> Step {
    let source = if holds(op.extra(), s.nzcv) { op.rn } else { op.rm };
    let value = F::get(s, source);
    F::set(s, op.rd, value);
    Ok(Flow::Next)
}

/// VSEL on the condition EQ, VS, GE or GT by `q`.
pub(super) fn select(word: &Word<'_>) -> Option<Op> {
    let condition = [0b0000, 0b0110, 0b1010, 0b1100][word.field('q') as usize];
    let run: Handler = by_size!(word, select_by);
    Some(word.sized(run).with_extra(condition))
}
