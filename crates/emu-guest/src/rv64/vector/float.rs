//! Floating point in vectors, of 16 bits (Zvfh), 32 and 64 bits.

use super::element::{
    Shape, element_of, have_one_size, is_aligned, is_unmasked, may_overlap, overlap, vd, vs1, vs2,
};
use super::kind::Kind;
use crate::exit::{Flow, Leave, Step};
use crate::float::{
    Comparison, Double, Flags, HalfOperand, HostFormat, NanOperands, Order, Rounding, Single,
};
use crate::op::{Host, Op, sign_extend};
use crate::rv64::action::{Action, VectorFloat};
use crate::rv64::decode::row_of;
use crate::rv64::fcsr::Fpu;
use crate::state::State;

/// The number in a floating-point register as an element: without ones above it, the canonical NaN.
pub(super) fn scalar(s: &State, op: &Op, sew: u32) -> u64 {
    let bits = s.half(op.rn);
    let above = if sew == 3 { 0 } else { u64::MAX << (8 << sew) };
    if bits & above == above { bits & !above } else { canonical(sew) }
}

fn canonical(sew: u32) -> u64 {
    match sew {
        1 => 0x7e00,
        2 => 0x7fc0_0000,
        _ => 0x7ff8_0000_0000_0000,
    }
}

fn kind(operation: VectorFloat, op: &Op) -> Kind {
    use VectorFloat::*;
    match operation {
        Wadd | Wsub | Wmul | Wmacc | Wnmacc | Wmsac | Wnmsac => Kind::Wide,
        WaddWide | WsubWide => Kind::WideBoth,
        Eq | Le | Lt | Ne | Gt | Ge => Kind::Compare,
        RedSum | RedMin | RedMax => Kind::Reduction,
        WredSum => Kind::WideReduction,
        Convert => match vs1(op) >> 3 {
            0 => Kind::Unary,
            1 => Kind::Wide,
            _ => Kind::Narrow,
        },
        Sqrt | Rsqrt7 | Rec7 | Class => Kind::Unary,
        _ => Kind::Same,
    }
}

/// `x * y + z`, with the product and the addend negated before.
fn fused<F: HostFormat>(fpu: &mut Fpu, [x, y, z]: [u64; 3], negates: [bool; 2]) -> u64 {
    let flip = |negates: bool, bits: u64| if negates { bits ^ F::SIGN } else { bits };
    fpu.mul_add::<F>(flip(negates[1], z), flip(negates[0], x), y)
}

/// The result for numbers of one format: `a` is vs2's, `b` vs1's, `d` the destination's.
fn compute<F: HostFormat>(fpu: &mut Fpu, operation: VectorFloat, a: u64, b: u64, d: u64) -> u64 {
    use VectorFloat::*;
    let sign = |sign: u64| a & !F::SIGN | sign & F::SIGN;
    match operation {
        Add | Wadd | WaddWide | RedSum | WredSum => fpu.add::<F>(a, b),
        Sub | Wsub | WsubWide => fpu.sub::<F>(a, b),
        Rsub => fpu.sub::<F>(b, a),
        Mul | Wmul => fpu.mul::<F>(a, b),
        Div => fpu.div::<F>(a, b),
        Rdiv => fpu.div::<F>(b, a),
        Min | RedMin => fpu.min::<F>(a, b, NanOperands::Lose),
        Max | RedMax => fpu.max::<F>(a, b, NanOperands::Lose),
        Sgnj => sign(b),
        Sgnjn => sign(!b),
        Sgnjx => sign(a ^ b),
        Madd => fused::<F>(fpu, [b, d, a], [false, false]),
        Nmadd => fused::<F>(fpu, [b, d, a], [true, true]),
        Msub => fused::<F>(fpu, [b, d, a], [false, true]),
        Nmsub => fused::<F>(fpu, [b, d, a], [true, false]),
        Macc | Wmacc => fused::<F>(fpu, [b, a, d], [false, false]),
        Nmacc | Wnmacc => fused::<F>(fpu, [b, a, d], [true, true]),
        Msac | Wmsac => fused::<F>(fpu, [b, a, d], [false, true]),
        Nmsac | Wnmsac => fused::<F>(fpu, [b, a, d], [true, false]),
        Eq => holds::<F>(fpu, a, b, Comparison::Quiet, |order| order == Order::Equal),
        Ne => holds::<F>(fpu, a, b, Comparison::Quiet, |order| order != Order::Equal),
        Lt => holds::<F>(fpu, a, b, Comparison::Signalling, |order| order == Order::Less),
        Le => holds::<F>(fpu, a, b, Comparison::Signalling, Order::is_le),
        Gt => holds::<F>(fpu, a, b, Comparison::Signalling, |order| order == Order::Greater),
        Ge => holds::<F>(fpu, a, b, Comparison::Signalling, Order::is_ge),
        Sqrt => fpu.sqrt::<F>(a),
        Class => class::<F>(a),
        Merge => b,
        Rsqrt7 | Rec7 | Convert => a,
    }
}

fn holds<F: HostFormat>(
    fpu: &mut Fpu,
    a: u64,
    b: u64,
    kind: Comparison,
    holds: impl FnOnce(Order) -> bool,
) -> u64 {
    holds(fpu.compare::<F>(a, b, kind)).into()
}

fn class<F: HostFormat>(bits: u64) -> u64 {
    let (negative, magnitude) = (bits & F::SIGN != 0, bits & !F::SIGN);
    if magnitude > F::INFINITY {
        return 1 << (8 + u32::from(magnitude & F::QUIET != 0));
    }
    let distance = match magnitude {
        0 => 0,
        _ if magnitude == F::INFINITY => 3,
        _ if magnitude & F::INFINITY == 0 => 1,
        _ => 2,
    };
    1 << if negative { 3 - distance } else { 4 + distance }
}

/// The square root of `value / divisor`, rounded to the nearest integer.
fn rounded_root(value: u64, divisor: u64) -> u64 {
    (1..512).rev().find(|root| (2 * root - 1) * (2 * root - 1) * divisor <= 4 * value).unwrap_or(0)
}

/// VFREC7 and VFRSQRT7: estimates of 7 bits, of the middle of the interval that the highest bits name.
/// Returns the flags, too.
fn estimate<F: HostFormat>(bits: u64, root: bool, rounding: Rounding) -> (u64, Flags) {
    let (sign, magnitude) = (bits & F::SIGN, bits & !F::SIGN);
    let nan = F::INFINITY | F::QUIET;
    if magnitude > F::INFINITY {
        let signals = magnitude & F::QUIET == 0;
        return (nan, if signals { Flags::INVALID } else { Flags::NONE });
    }
    if magnitude == 0 {
        return (sign | F::INFINITY, Flags::DIVIDE_BY_ZERO);
    }
    if root && sign != 0 {
        return (nan, Flags::INVALID);
    }
    if magnitude == F::INFINITY {
        return (sign, Flags::NONE);
    }
    let bias = i64::from(1 - F::EXPONENT_MIN);
    let mut exponent = (magnitude >> F::FRACTION) as i64;
    let mut fraction = magnitude & F::FRACTION_MASK;
    if exponent == 0 {
        // A subnormal number gets an exponent of its own, from 0 down.
        let shift = fraction.leading_zeros() - (63 - F::FRACTION);
        exponent = 1 - i64::from(shift);
        fraction = fraction << shift & F::FRACTION_MASK;
    }
    if root {
        let (odd, index) = ((exponent & 1) as u64, fraction >> (F::FRACTION - 6));
        let value = if odd == 1 { 8_388_608 } else { 4_194_304 };
        let significand = rounded_root(value, 129 + 2 * index) - 128;
        let result = ((3 * bias - 1 - exponent) / 2) as u64;
        return (result << F::FRACTION | significand << (F::FRACTION - 7), Flags::NONE);
    }
    if exponent < -1 {
        let to_infinity = match rounding {
            Rounding::Zero => false,
            Rounding::PlusInfinity => sign == 0,
            Rounding::MinusInfinity => sign != 0,
            _ => true,
        };
        let result = if to_infinity { F::INFINITY } else { F::INFINITY - 1 };
        return (sign | result, Flags::OVERFLOW | Flags::INEXACT);
    }
    let divisor = 257 + 2 * (fraction >> (F::FRACTION - 7));
    let significand = (2 * 65536 + divisor) / (2 * divisor) - 128;
    let (mut fraction, mut result) = (significand << (F::FRACTION - 7), 2 * bias - 1 - exponent);
    if result <= 0 {
        // A subnormal result.
        fraction = (fraction | 1 << F::FRACTION) >> (1 - result);
        result = 0;
    }
    (sign | (result as u64) << F::FRACTION | fraction, Flags::NONE)
}

/// A number converted to the format of twice the size.
fn widened(fpu: &mut Fpu, sew: u32, value: u64) -> u64 {
    let rounding = fpu.rounding();
    match sew {
        1 => fpu.convert::<HalfOperand, Single>(value, rounding),
        _ => fpu.convert::<Single, Double>(value, rounding),
    }
}

fn compute_by_size(fpu: &mut Fpu, sew: u32, operation: VectorFloat, a: u64, b: u64, d: u64) -> u64 {
    match sew {
        1 => compute::<HalfOperand>(fpu, operation, a, b, d),
        2 => compute::<Single>(fpu, operation, a, b, d),
        _ => compute::<Double>(fpu, operation, a, b, d),
    }
}

/// An integer of a number of `1 << size` bytes.
fn to_integer(fpu: &mut Fpu, size: u32, value: u64, unsigned: bool, rounding: Rounding, width: u32) -> u64 {
    match size {
        1 => fpu.fixed_of::<HalfOperand>(value, 0, unsigned, rounding, width),
        2 => fpu.fixed_of::<Single>(value, 0, unsigned, rounding, width),
        _ => fpu.fixed_of::<Double>(value, 0, unsigned, rounding, width),
    }
}

/// A number of `1 << size` bytes of an integer.
fn of_integer(fpu: &mut Fpu, size: u32, value: u64, unsigned: bool, width: u32) -> u64 {
    let value = if unsigned { value } else { sign_extend(value, width) };
    match size {
        1 => fpu.float_of::<HalfOperand>(value, 0, unsigned),
        2 => fpu.float_of::<Single>(value, 0, unsigned),
        _ => fpu.float_of::<Double>(value, 0, unsigned),
    }
}

/// The conversions of VFUNARY0: bits 4 and 3 say whether the result is wider or narrower, the others what of
/// what.
fn convert(fpu: &mut Fpu, code: u32, to: Shape, from: Shape, value: u64) -> u64 {
    let unsigned = code & 1 == 0;
    let rounding = fpu.rounding();
    match code & 7 {
        0 | 1 => to_integer(fpu, from.sew, value, unsigned, rounding, to.width()),
        6 | 7 => to_integer(fpu, from.sew, value, unsigned, Rounding::Zero, to.width()),
        2 | 3 => of_integer(fpu, to.sew, value, unsigned, from.width()),
        _ if to.sew > from.sew => widened(fpu, from.sew, value),
        kind => {
            let rounding = if kind == 5 { Rounding::Odd } else { rounding };
            match to.sew {
                1 => fpu.convert::<Single, HalfOperand>(value, rounding),
                _ => fpu.convert::<Double, Single>(value, rounding),
            }
        }
    }
}

/// Runs an operation.
pub(crate) fn run(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(Action::VectorFloat(operation)) = row_of(op).map(|row| row.action) else {
        return s.undefined(op);
    };
    let shape = s.shape(op)?;
    let kind = kind(operation, op);
    let mut fpu = s.frm_fpu(op)?;
    let (to, from2, from1) = shapes(s, op, operation, kind, shape)?;
    check(s, op, operation, kind, [to, from2, from1])?;
    let (d, v1, v2) = (vd(op), vs1(op), vs2(op));
    let operand = (op.bits(14, 12) == 5).then(|| scalar(s, op, shape.sew));
    let mut flags = Flags::NONE;
    if matches!(kind, Kind::Reduction | Kind::WideReduction) {
        let mut sum = s.element(v1, 0, to.sew);
        for i in s.body() {
            if s.is_active(op, i) {
                let mut a = s.element(v2, i, from2.sew);
                if kind == Kind::WideReduction {
                    a = widened(&mut fpu, from2.sew, a);
                }
                sum = compute_by_size(&mut fpu, to.sew, operation, sum, a, 0);
            }
        }
        if s.vectors.vl > 0 {
            s.set_element(d, 0, to.sew, sum);
        }
        s.raise(fpu.flags());
        s.end_vector();
        return Ok(Flow::Next);
    }
    let before = s.vectors.registers;
    for i in s.body() {
        let active = before[0] >> i & 1 == 1 || is_unmasked(op);
        if !active && operation != VectorFloat::Merge {
            continue;
        }
        let a = element_of(&before, v2, i, from2.sew);
        let b = operand.unwrap_or_else(|| element_of(&before, v1, i, from1.sew));
        let old = if kind == Kind::Compare { 0 } else { s.element(d, i, to.sew) };
        let result = match (operation, kind) {
            (VectorFloat::Merge, _) => {
                if active {
                    b
                } else {
                    a
                }
            }
            (VectorFloat::Convert, _) => convert(&mut fpu, vs1(op), to, from2, a),
            (VectorFloat::Rsqrt7 | VectorFloat::Rec7, _) => {
                let (root, rounding) = (operation == VectorFloat::Rsqrt7, fpu.rounding());
                let (result, raised) = match to.sew {
                    1 => estimate::<HalfOperand>(a, root, rounding),
                    2 => estimate::<Single>(a, root, rounding),
                    _ => estimate::<Double>(a, root, rounding),
                };
                flags |= raised;
                result
            }
            (_, Kind::Wide) => {
                let a = widened(&mut fpu, from2.sew, a);
                let b = widened(&mut fpu, from1.sew, b);
                compute_by_size(&mut fpu, to.sew, operation, a, b, old)
            }
            (_, Kind::WideBoth) => {
                let b = widened(&mut fpu, from1.sew, b);
                compute_by_size(&mut fpu, to.sew, operation, a, b, old)
            }
            _ => compute_by_size(&mut fpu, shape.sew, operation, a, b, old),
        };
        if kind == Kind::Compare {
            s.set_mask_bit(d, i, result == 1);
        } else {
            s.set_element(d, i, to.sew, result);
        }
    }
    s.raise(fpu.flags() | flags);
    s.end_vector();
    Ok(Flow::Next)
}

/// The shapes of the destination, of vs2 and of vs1. There are no numbers of 8 bits; the integers of
/// conversions may have them.
fn shapes(
    s: &mut State,
    op: &Op,
    operation: VectorFloat,
    kind: Kind,
    shape: Shape,
) -> Result<(Shape, Shape, Shape), Leave> {
    let doubles = !matches!(kind, Kind::Same | Kind::Compare | Kind::Unary | Kind::Reduction);
    let code = vs1(op) & 7;
    // Of bytes: a wider number of an integer, or a narrower integer of a number.
    let of_bytes = operation == VectorFloat::Convert
        && match kind {
            Kind::Wide => matches!(code, 2 | 3),
            Kind::Narrow => matches!(code, 0 | 1 | 6 | 7),
            _ => false,
        };
    s.require(op, shape.sew > 0 || of_bytes)?;
    s.require(op, !doubles || shape.sew < 3 && (shape.lmul < 3 || kind == Kind::WideReduction))?;
    Ok(kind.shapes(shape))
}

/// What makes an instruction reserved.
fn check(
    s: &mut State,
    op: &Op,
    operation: VectorFloat,
    kind: Kind,
    [to, from2, from1]: [Shape; 3],
) -> Result<(), Leave> {
    let (d, v1, v2) = (vd(op), vs1(op), vs2(op));
    let is_reduction = matches!(kind, Kind::Reduction | Kind::WideReduction);
    let has_v1 = op.bits(14, 12) == 1 && kind != Kind::Unary && operation != VectorFloat::Convert;
    let is_move = operation == VectorFloat::Merge && is_unmasked(op);
    let mut holds = is_move || is_aligned(v2, from2.lmul);
    holds &= is_reduction || is_aligned(d, to.lmul);
    holds &= !has_v1 || is_reduction || is_aligned(v1, from1.lmul);
    holds &= have_one_size(op, Some((v2, from2)), has_v1.then_some((v1, from1)));
    if is_reduction {
        return s.require(op, holds && s.vectors.vstart == 0);
    }
    if kind == Kind::Compare {
        let apart = |v: u32, lmul: i32| d == v || !overlap(d, 0, v, lmul);
        holds &= apart(v2, from2.lmul) && (!has_v1 || apart(v1, from1.lmul));
        return s.require(op, holds);
    }
    holds &= is_unmasked(op) || d != 0;
    holds &= is_move || may_overlap(d, to, v2, from2);
    // A destination that is read is a source, too.
    let accumulates = matches!(
        operation,
        VectorFloat::Wmacc | VectorFloat::Wnmacc | VectorFloat::Wmsac | VectorFloat::Wnmsac
    );
    holds &= !accumulates || have_one_size(op, Some((d, to)), Some((v2, from2)));
    holds &= !accumulates || !has_v1 || have_one_size(op, Some((d, to)), Some((v1, from1)));
    holds &= !has_v1 || may_overlap(d, to, v1, from1);
    s.require(op, holds)
}
