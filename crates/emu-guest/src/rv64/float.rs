//! Floating point (manual: F, D, Zfh, Zfa).
//!
//! A register has 64 bits. A narrower number has ones above it ("NaN boxing"); a register that has none there
//! counts as the canonical NaN. Moves, loads and stores take the bits as they are.

use super::action::{Float, Precision};
use super::fcsr::Fpu;
use crate::exit::{Flow, Step};
use crate::float::{
    Comparison, Double, Format, Half, HalfOperand, HostFormat, NanOperands, Order, Rounding, Single,
};
use crate::op::{Handler, Host, Op, sign_extend};
use crate::state::State;

/// The canonical NaN.
const fn canonical<F: Format>() -> u64 {
    F::INFINITY | F::QUIET
}

/// The bits above a number.
const fn above<F: Format>() -> u64 {
    if F::WIDTH == 64 { 0 } else { u64::MAX << (F::WIDTH & 63) }
}

/// The number in a register.
#[inline(always)]
fn read<F: Format>(s: &State, register: u8) -> u64 {
    let bits = s.half(register);
    if bits & above::<F>() == above::<F>() { bits & !above::<F>() } else { canonical::<F>() }
}

/// Writes a number.
#[inline(always)]
fn write<F: Format>(s: &mut State, op: &Op, bits: u64) -> Step {
    s.set_half(op.rd, bits | above::<F>());
    Ok(Flow::Next)
}

/// Writes a number that an operation has given, and adds the flags that it raised.
#[inline(always)]
fn finish<F: Format>(s: &mut State, op: &Op, fpu: &Fpu, bits: u64) -> Step {
    s.raise(fpu.flags());
    write::<F>(s, op, bits)
}

/// Writes an integer.
#[inline(always)]
fn finish_integer(s: &mut State, op: &Op, fpu: &Fpu, value: u64) -> Step {
    s.raise(fpu.flags());
    s.gpr[usize::from(op.rd)] = value;
    Ok(Flow::Next)
}

#[inline(always)]
fn with_two<F: Format>(s: &mut State, op: &Op, f: impl FnOnce(&mut Fpu, u64, u64) -> u64) -> Step {
    let mut fpu = s.rounding_fpu(op)?;
    let result = f(&mut fpu, read::<F>(s, op.rn), read::<F>(s, op.rm));
    finish::<F>(s, op, &fpu, result)
}

fn add<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
    with_two::<F>(s, op, |fpu, a, b| fpu.add::<F>(a, b))
}

fn sub<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
    with_two::<F>(s, op, |fpu, a, b| fpu.sub::<F>(a, b))
}

fn mul<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
    with_two::<F>(s, op, |fpu, a, b| fpu.mul::<F>(a, b))
}

fn div<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
    with_two::<F>(s, op, |fpu, a, b| fpu.div::<F>(a, b))
}

fn sqrt<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.rounding_fpu(op)?;
    let result = fpu.sqrt::<F>(read::<F>(s, op.rn));
    finish::<F>(s, op, &fpu, result)
}

fn fused<F: HostFormat, const NEGATES_PRODUCT: bool, const NEGATES_ADDEND: bool>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let mut fpu = s.rounding_fpu(op)?;
    let flip = |negates: bool, bits: u64| if negates { bits ^ F::SIGN } else { bits };
    let (a, b) = (flip(NEGATES_PRODUCT, read::<F>(s, op.rn)), read::<F>(s, op.rm));
    let addend = flip(NEGATES_ADDEND, read::<F>(s, op.ra));
    let result = fpu.mul_add::<F>(addend, a, b);
    finish::<F>(s, op, &fpu, result)
}

/// FSGNJ, FSGNJN, FSGNJX.
fn sign<F: Format, const NEGATES: bool, const XORS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (a, b) = (read::<F>(s, op.rn), read::<F>(s, op.rm));
    let sign = if XORS { a ^ b } else { b } ^ if NEGATES { F::SIGN } else { 0 };
    write::<F>(s, op, a & !F::SIGN | sign & F::SIGN)
}

/// FMIN and FMAX, where a number wins over a NaN; FMINM and FMAXM, where it does not.
fn extreme<F: Format, const MAX: bool, const NAN_WINS: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.rv64_fpu();
    let (a, b) = (read::<F>(s, op.rn), read::<F>(s, op.rm));
    let nans = if NAN_WINS { NanOperands::Win } else { NanOperands::Lose };
    let result = if MAX { fpu.max::<F>(a, b, nans) } else { fpu.min::<F>(a, b, nans) };
    finish::<F>(s, op, &fpu, result)
}

#[inline(always)]
fn compare<F: Format>(s: &mut State, op: &Op, kind: Comparison, holds: impl FnOnce(Order) -> bool) -> Step {
    let mut fpu = s.rv64_fpu();
    let order = fpu.compare::<F>(read::<F>(s, op.rn), read::<F>(s, op.rm), kind);
    finish_integer(s, op, &fpu, holds(order).into())
}

fn equal<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    compare::<F>(s, op, Comparison::Quiet, |order| order == Order::Equal)
}

fn less<F: Format, const QUIET: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let kind = if QUIET { Comparison::Quiet } else { Comparison::Signalling };
    compare::<F>(s, op, kind, |order| order == Order::Less)
}

fn less_or_equal<F: Format, const QUIET: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let kind = if QUIET { Comparison::Quiet } else { Comparison::Signalling };
    compare::<F>(s, op, kind, Order::is_le)
}

/// FCLASS: bit 0 negative infinity, then by value up to bit 7, positive infinity; 8 signalling and 9 quiet
/// NaN.
fn classify<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let bits = read::<F>(s, op.rn);
    let (negative, magnitude) = (bits & F::SIGN != 0, bits & !F::SIGN);
    let class = if magnitude > F::INFINITY {
        8 + u32::from(magnitude & F::QUIET != 0)
    } else {
        let distance = match magnitude {
            0 => 0,
            _ if magnitude == F::INFINITY => 3,
            _ if magnitude & F::INFINITY == 0 => 1,
            _ => 2,
        };
        if negative { 3 - distance } else { 4 + distance }
    };
    s.gpr[usize::from(op.rd)] = 1 << class;
    Ok(Flow::Next)
}

/// FROUND, FROUNDNX.
fn round<F: Format, const EXACT: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.rounding_fpu(op)?;
    let rounding = fpu.rounding();
    let result = fpu.round_int::<F>(read::<F>(s, op.rn), rounding, EXACT);
    finish::<F>(s, op, &fpu, result)
}

/// FLI: the constants of the manual's table, the same numbers in each format; where a format has no such
/// number, what the table gives instead.
fn load_immediate<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    write::<F>(s, op, constant::<F>(op.bits(19, 15)))
}

/// The constant of FLI.S or FLI.D with this number.
pub fn immediate(number: u32, double: bool) -> u64 {
    if double { constant::<Double>(number) } else { constant::<Single>(number) }
}

/// The constant of FLI with this number.
fn constant<F: Format>(number: u32) -> u64 {
    let bias = 1 - F::EXPONENT_MIN;
    // 1 + quarters / 4, times 2 to the exponent.
    let value = |exponent: i32, quarters: u64| {
        ((exponent + bias) as u64) << F::FRACTION | quarters << (F::FRACTION - 2)
    };
    match number {
        0 => F::SIGN | value(0, 0),
        // The smallest normal number.
        1 => 1 << F::FRACTION,
        // 2^-16 and 2^-15 are subnormal in half precision.
        2 | 3 if F::WIDTH == 16 => 1 << (6 + number),
        2 => value(-16, 0),
        3 => value(-15, 0),
        4 => value(-8, 0),
        5 => value(-7, 0),
        6 => value(-4, 0),
        7 => value(-3, 0),
        8..=11 => value(-2, u64::from(number) - 8),
        12..=15 => value(-1, u64::from(number) - 12),
        16..=19 => value(0, u64::from(number) - 16),
        20..=22 => value(1, u64::from(number) - 20),
        23 => value(2, 0),
        24 => value(3, 0),
        25 => value(4, 0),
        26 => value(7, 0),
        27 => value(8, 0),
        28 => value(15, 0),
        29 if F::WIDTH == 16 => F::INFINITY,
        29 => value(16, 0),
        30 => F::INFINITY,
        _ => canonical::<F>(),
    }
}

/// FMV.X.H, FMV.X.W, FMV.X.D.
fn move_to_integer<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[usize::from(op.rd)] = sign_extend(s.half(op.rn), F::WIDTH);
    Ok(Flow::Next)
}

/// FMV.H.X, FMV.W.X, FMV.D.X.
fn move_from_integer<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let bits = s.gpr[usize::from(op.rn)];
    write::<F>(s, op, bits)
}

/// FCVT.W, FCVT.WU, FCVT.L, FCVT.LU. Results of 32 bits are sign-extended, unsigned ones too.
fn to_integer<F: Format, const WIDE: bool, const UNSIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.rounding_fpu(op)?;
    let (rounding, width) = (fpu.rounding(), if WIDE { 64 } else { 32 });
    let value = fpu.fixed_of::<F>(read::<F>(s, op.rn), 0, UNSIGNED, rounding, width);
    finish_integer(s, op, &fpu, sign_extend(value, width))
}

/// FCVT.S.W and its kin.
fn from_integer<F: Format, const WIDE: bool, const UNSIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.rounding_fpu(op)?;
    let value = s.gpr[usize::from(op.rn)];
    let value = match (WIDE, UNSIGNED) {
        (true, _) => value,
        (false, true) => u64::from(value as u32),
        (false, false) => sign_extend(value, 32),
    };
    let result = fpu.float_of::<F>(value, 0, UNSIGNED);
    finish::<F>(s, op, &fpu, result)
}

fn convert<F: Format, T: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.rounding_fpu(op)?;
    let rounding = fpu.rounding();
    let result = fpu.convert::<F, T>(read::<F>(s, op.rn), rounding);
    finish::<T>(s, op, &fpu, result)
}

/// FCVTMOD.W.D: truncates, and keeps the low 32 bits. The flags are those of FCVT.W.D.
pub(super) fn convert_modular(s: &mut State, _: &Host, op: &Op) -> Step {
    type D = Double;
    let bits = read::<D>(s, op.rn);
    let mut fpu = s.rv64_fpu();
    fpu.fixed_of::<D>(bits, 0, false, Rounding::Zero, 32);
    let exponent = ((bits & D::INFINITY) >> D::FRACTION) as i32 - 1023;
    let mantissa = bits & D::FRACTION_MASK | 1 << D::FRACTION;
    let magnitude = match exponent - D::FRACTION as i32 {
        // Infinities and NaNs are zero, as all multiples of 2^32.
        32.. => 0,
        shift @ 0.. => mantissa << shift,
        shift @ -63.. => mantissa >> -shift,
        _ => 0,
    };
    let value = if bits & D::SIGN != 0 { magnitude.wrapping_neg() } else { magnitude };
    finish_integer(s, op, &fpu, sign_extend(value & 0xffff_ffff, 32))
}

/// The function for a precision: half precision as an operand of arithmetic, which the host does not have.
macro_rules! by_precision {
    ($precision:expr, $function:ident $(, $constant:literal)*) => {
        match $precision {
            Precision::Half => $function::<HalfOperand $(, $constant)*>,
            Precision::Single => $function::<Single $(, $constant)*>,
            Precision::Double => $function::<Double $(, $constant)*>,
        }
    };
}

/// The handler of an operation with numbers of one precision.
pub(super) fn operation(operation: Float, precision: Precision) -> Handler {
    match operation {
        Float::Add => by_precision!(precision, add),
        Float::Sub => by_precision!(precision, sub),
        Float::Mul => by_precision!(precision, mul),
        Float::Div => by_precision!(precision, div),
        Float::Sqrt => by_precision!(precision, sqrt),
        Float::Madd => by_precision!(precision, fused, false, false),
        Float::Msub => by_precision!(precision, fused, false, true),
        Float::Nmsub => by_precision!(precision, fused, true, false),
        Float::Nmadd => by_precision!(precision, fused, true, true),
        Float::Sgnj => by_precision!(precision, sign, false, false),
        Float::Sgnjn => by_precision!(precision, sign, true, false),
        Float::Sgnjx => by_precision!(precision, sign, false, true),
        Float::Min => by_precision!(precision, extreme, false, false),
        Float::Max => by_precision!(precision, extreme, true, false),
        Float::Minm => by_precision!(precision, extreme, false, true),
        Float::Maxm => by_precision!(precision, extreme, true, true),
        Float::Eq => by_precision!(precision, equal),
        Float::Lt => by_precision!(precision, less, false),
        Float::Le => by_precision!(precision, less_or_equal, false),
        Float::Ltq => by_precision!(precision, less, true),
        Float::Leq => by_precision!(precision, less_or_equal, true),
        Float::Class => by_precision!(precision, classify),
        Float::Round => by_precision!(precision, round, false),
        Float::RoundInexact => by_precision!(precision, round, true),
        Float::LoadImmediate => by_precision!(precision, load_immediate),
        Float::MoveToInteger => by_precision!(precision, move_to_integer),
        Float::MoveFromInteger => by_precision!(precision, move_from_integer),
    }
}

/// FCVT.W.S and its kin.
pub(super) fn conversion_to_integer(precision: Precision, wide: bool, unsigned: bool) -> Handler {
    match (wide, unsigned) {
        (false, false) => by_precision!(precision, to_integer, false, false),
        (false, true) => by_precision!(precision, to_integer, false, true),
        (true, false) => by_precision!(precision, to_integer, true, false),
        (true, true) => by_precision!(precision, to_integer, true, true),
    }
}

/// FCVT.S.W and its kin.
pub(super) fn conversion_from_integer(precision: Precision, wide: bool, unsigned: bool) -> Handler {
    match (wide, unsigned) {
        (false, false) => by_precision!(precision, from_integer, false, false),
        (false, true) => by_precision!(precision, from_integer, false, true),
        (true, false) => by_precision!(precision, from_integer, true, false),
        (true, true) => by_precision!(precision, from_integer, true, true),
    }
}

/// FCVT.D.S and its kin.
pub(super) fn conversion(from: Precision, to: Precision) -> Handler {
    match (from, to) {
        (Precision::Half, Precision::Single) => convert::<Half, Single>,
        (Precision::Half, _) => convert::<Half, Double>,
        (Precision::Single, Precision::Half) => convert::<Single, Half>,
        (Precision::Single, _) => convert::<Single, Double>,
        (Precision::Double, Precision::Half) => convert::<Double, Half>,
        (Precision::Double, _) => convert::<Double, Single>,
    }
}
