//! Scalar floating-point (manual C3.6, C4.1.96): single and double precision, and conversions with half
//! precision.

use super::fields::op;
use super::fpcr::{Control, Fpu, cumulative};
use crate::condition::holds;
use crate::exit::{Flow, Step};
use crate::float::{Comparison, Double, Format, Half, HostFormat, NanOperands, Order, Rounding, Single};
use crate::op::{Handler, Host, Op, bits};
use crate::state::State;

impl Op {
    /// Vd.
    #[inline(always)]
    pub(crate) fn vd(&self) -> usize {
        (self.code & 31) as usize
    }
    /// Vn.
    #[inline(always)]
    pub(crate) fn vn(&self) -> usize {
        (self.code >> 5 & 31) as usize
    }
    /// Vm.
    #[inline(always)]
    pub(crate) fn vm(&self) -> usize {
        (self.code >> 16 & 31) as usize
    }
    /// Va.
    #[inline(always)]
    pub(crate) fn va(&self) -> usize {
        (self.code >> 10 & 31) as usize
    }
}

impl State {
    /// Floating-point arithmetic with this thread's modes; [`State::flags`] takes the flags back.
    #[inline(always)]
    pub(crate) fn fpu(&self) -> Fpu {
        Fpu::new(Control { fpcr: self.fpcr, fpsr: self.fpsr })
    }

    /// Takes the flags of `fpu`.
    #[inline(always)]
    pub(crate) fn flags(&mut self, fpu: &Fpu) {
        self.fpsr |= cumulative(fpu.flags());
    }
}

#[inline(always)]
fn scalar<F: Format>(value: u128) -> u64 {
    value as u64 & u64::MAX >> (64 - F::WIDTH)
}

/// Picks the handler of the format in bits 23 and 22, half precision excluded.
macro_rules! by_format {
    ($code:expr, $handler:ident $(, $parameter:expr)*) => {
        match bits($code, 23, 22) {
            0 => $handler::<Single $(, $parameter)*>,
            1 => $handler::<Double $(, $parameter)*>,
            _ => return None,
        }
    };
}

/// FMUL, FDIV, FADD, FSUB, FMAX, FMIN, FMAXNM, FMINNM, FNMUL by opcode.
fn arithmetic<F: HostFormat, const OPCODE: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (a, b) = (scalar::<F>(s.v[op.vn()]), scalar::<F>(s.v[op.vm()]));
    let mut fpu = s.fpu();
    let result = match OPCODE {
        0 => fpu.mul::<F>(a, b),
        1 => fpu.div::<F>(a, b),
        2 => fpu.add::<F>(a, b),
        3 => fpu.sub::<F>(a, b),
        4 => fpu.max::<F>(a, b, NanOperands::Win),
        5 => fpu.min::<F>(a, b, NanOperands::Win),
        6 => fpu.max::<F>(a, b, NanOperands::QuietLose),
        7 => fpu.min::<F>(a, b, NanOperands::QuietLose),
        _ => fpu.mul::<F>(a, b) ^ F::SIGN,
    };
    s.flags(&fpu);
    s.v[op.vd()] = u128::from(result);
    Ok(Flow::Next)
}

/// Two operands.
pub(crate) fn two_source(code: u32, _: u64) -> Option<Op> {
    let handler: Handler = match bits(code, 15, 12) {
        0 => by_format!(code, arithmetic, 0),
        1 => by_format!(code, arithmetic, 1),
        2 => by_format!(code, arithmetic, 2),
        3 => by_format!(code, arithmetic, 3),
        4 => by_format!(code, arithmetic, 4),
        5 => by_format!(code, arithmetic, 5),
        6 => by_format!(code, arithmetic, 6),
        7 => by_format!(code, arithmetic, 7),
        8 => by_format!(code, arithmetic, 8),
        _ => return None,
    };
    Some(op(handler, code))
}

fn multiply_add<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (negate_addend, subtract) = (op.bit(21), op.bit(15));
    let sign = |negate: bool| if negate { F::SIGN } else { 0 };
    let a = scalar::<F>(s.v[op.vn()]) ^ sign(negate_addend != subtract);
    let addend = scalar::<F>(s.v[op.va()]) ^ sign(negate_addend);
    let b = scalar::<F>(s.v[op.vm()]);
    let mut fpu = s.fpu();
    let result = fpu.mul_add::<F>(addend, a, b);
    s.flags(&fpu);
    s.v[op.vd()] = u128::from(result);
    Ok(Flow::Next)
}

/// FMADD, FMSUB, FNMADD, FNMSUB.
pub(crate) fn three_source(code: u32, _: u64) -> Option<Op> {
    Some(op(by_format!(code, multiply_add), code))
}

/// FMOV, FABS, FNEG, FSQRT.
fn sign_or_root<F: HostFormat, const OPCODE: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let a = scalar::<F>(s.v[op.vn()]);
    let result = match OPCODE {
        0 => a,
        1 => a & !F::SIGN,
        2 => a ^ F::SIGN,
        _ => {
            let mut fpu = s.fpu();
            let result = fpu.sqrt::<F>(a);
            s.flags(&fpu);
            result
        }
    };
    s.v[op.vd()] = u128::from(result);
    Ok(Flow::Next)
}

/// FRINTN, FRINTP, FRINTM, FRINTZ, FRINTA, FRINTX, FRINTI.
fn round_to_integral<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.fpu();
    let (rounding, exact) = match op.bits(17, 15) {
        0 => (Rounding::TieEven, false),
        1 => (Rounding::PlusInfinity, false),
        2 => (Rounding::MinusInfinity, false),
        3 => (Rounding::Zero, false),
        4 => (Rounding::TieAway, false),
        opcode => (fpu.rounding(), opcode == 6),
    };
    let result = fpu.round_int::<F>(scalar::<F>(s.v[op.vn()]), rounding, exact);
    s.flags(&fpu);
    s.v[op.vd()] = u128::from(result);
    Ok(Flow::Next)
}

fn convert<F: Format, T: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.fpu();
    let rounding = fpu.rounding();
    let result = fpu.convert::<F, T>(scalar::<F>(s.v[op.vn()]), rounding);
    s.flags(&fpu);
    s.v[op.vd()] = u128::from(result);
    Ok(Flow::Next)
}

/// One operand.
pub(crate) fn one_source(code: u32, _: u64) -> Option<Op> {
    let handler: Handler = match bits(code, 20, 15) {
        0 => by_format!(code, sign_or_root, 0),
        1 => by_format!(code, sign_or_root, 1),
        2 => by_format!(code, sign_or_root, 2),
        3 => by_format!(code, sign_or_root, 3),
        opcode @ 4..8 => match (bits(code, 23, 22), opcode & 3) {
            (0, 1) => convert::<Single, Double>,
            (0, 3) => convert::<Single, Half>,
            (1, 0) => convert::<Double, Single>,
            (1, 3) => convert::<Double, Half>,
            (3, 0) => convert::<Half, Single>,
            (3, 1) => convert::<Half, Double>,
            _ => return None,
        },
        8..=12 | 14 | 15 => by_format!(code, round_to_integral),
        _ => return None,
    };
    Some(op(handler, code))
}

/// NZCV of a comparison.
pub(crate) fn comparison_flags(order: Order) -> u32 {
    (match order {
        Order::Less => 0b1000,
        Order::Equal => 0b0110,
        Order::Greater => 0b0010,
        Order::Unordered => 0b0011,
    }) << 28
}

/// Bit 4 distinguishes FCMPE and FCCMPE.
#[inline(always)]
fn comparison(op: &Op) -> Comparison {
    if op.bit(4) { Comparison::Signalling } else { Comparison::Quiet }
}

fn compare_values<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let b = if op.bit(3) { 0 } else { scalar::<F>(s.v[op.vm()]) };
    let mut fpu = s.fpu();
    let order = fpu.compare::<F>(scalar::<F>(s.v[op.vn()]), b, comparison(op));
    s.flags(&fpu);
    s.nzcv = comparison_flags(order);
    Ok(Flow::Next)
}

/// FCMP, FCMPE.
pub(crate) fn compare(code: u32, _: u64) -> Option<Op> {
    Some(op(by_format!(code, compare_values), code))
}

fn compare_if<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    s.nzcv = if holds(op.bits(15, 12), s.nzcv) {
        let mut fpu = s.fpu();
        let order = fpu.compare::<F>(scalar::<F>(s.v[op.vn()]), scalar::<F>(s.v[op.vm()]), comparison(op));
        s.flags(&fpu);
        comparison_flags(order)
    } else {
        op.bits(3, 0) << 28
    };
    Ok(Flow::Next)
}

/// FCCMP, FCCMPE.
pub(crate) fn conditional_compare(code: u32, _: u64) -> Option<Op> {
    Some(op(by_format!(code, compare_if), code))
}

fn select<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let source = if holds(op.bits(15, 12), s.nzcv) { op.vn() } else { op.vm() };
    s.v[op.vd()] = u128::from(scalar::<F>(s.v[source]));
    Ok(Flow::Next)
}

/// FCSEL.
pub(crate) fn conditional_select(code: u32, _: u64) -> Option<Op> {
    Some(op(by_format!(code, select), code))
}

/// VFPExpandImm.
pub(crate) fn expand_immediate<F: Format>(imm8: u32) -> u64 {
    let imm8 = u64::from(imm8);
    let top = imm8 >> 6 & 1;
    // NOT(b), then copies of b, then the two bits cd.
    let copies = if top == 1 { ((1u64 << (F::EXPONENT - 3)) - 1) << 2 } else { 0 };
    let exponent = (top ^ 1) << (F::EXPONENT - 1) | copies | imm8 >> 4 & 3;
    let sign = if imm8 >> 7 == 1 { F::SIGN } else { 0 };
    sign | exponent << F::FRACTION | (imm8 & 15) << (F::FRACTION - 4)
}

fn move_immediate(s: &mut State, _: &Host, op: &Op) -> Step {
    s.v[op.vd()] = u128::from(op.imm);
    Ok(Flow::Next)
}

/// FMOV (scalar, immediate).
pub(crate) fn immediate(code: u32, _: u64) -> Option<Op> {
    let imm8 = bits(code, 20, 13);
    let value = match bits(code, 23, 22) {
        0 => expand_immediate::<Single>(imm8),
        1 => expand_immediate::<Double>(imm8),
        _ => return None,
    };
    Some(op(move_immediate, code).imm(value))
}

/// Conversions to and from integers and fixed-point; `imm` is the number of fraction bits.
fn convert_integer<F: Format>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (width, opcode) = (if op.bit(31) { 64 } else { 32 }, op.bits(18, 16));
    let unsigned = opcode & 1 == 1;
    let fraction = op.imm as u32;
    let mut fpu = s.fpu();
    if opcode == 2 || opcode == 3 {
        let value = s.x(op.vn());
        let value = match (width, unsigned) {
            (32, true) => value & 0xffff_ffff,
            (32, false) => value as i32 as u64,
            _ => value,
        };
        s.v[op.vd()] = u128::from(fpu.float_of::<F>(value, fraction, unsigned));
    } else {
        let rounding = match (opcode >> 2, op.bits(20, 19)) {
            (1, _) => Rounding::TieAway,
            (_, 0) => Rounding::TieEven,
            (_, 1) => Rounding::PlusInfinity,
            (_, 2) => Rounding::MinusInfinity,
            _ => Rounding::Zero,
        };
        let value = fpu.fixed_of::<F>(scalar::<F>(s.v[op.vn()]), fraction, unsigned, rounding, width);
        s.set_x(op.vd(), value);
    }
    s.flags(&fpu);
    Ok(Flow::Next)
}

fn move_to_general<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.v[op.vn()];
    s.set_x(
        op.vd(),
        match KIND {
            0 => value as u64 & 0xffff_ffff,
            1 => value as u64,
            _ => (value >> 64) as u64,
        },
    );
    Ok(Flow::Next)
}

fn move_from_general<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let value = s.x(op.vn());
    let vd = &mut s.v[op.vd()];
    *vd = match KIND {
        0 => u128::from(value & 0xffff_ffff),
        1 => u128::from(value),
        _ => *vd & u128::from(u64::MAX) | u128::from(value) << 64,
    };
    Ok(Flow::Next)
}

fn convert_javascript(s: &mut State, _: &Host, op: &Op) -> Step {
    let mut fpu = s.fpu();
    let (value, exact) = fpu.javascript_of(s.v[op.vn()] as u64);
    s.flags(&fpu);
    s.set_x(op.vd(), u64::from(value));
    s.nzcv = u32::from(exact) << 30;
    Ok(Flow::Next)
}

/// `FCVT[NPMZA][SU]`, SCVTF, UCVTF, FMOV between general and vector registers, FJCVTZS.
pub(crate) fn integer(code: u32, _: u64) -> Option<Op> {
    let (wide, format, opcode) = (code >> 31 == 1, bits(code, 23, 22), bits(code, 18, 16));
    let handler: Handler = match (wide, format, bits(code, 20, 19), opcode) {
        (false, 0, 0, 6) => move_to_general::<0>,
        (false, 0, 0, 7) => move_from_general::<0>,
        (true, 1, 0, 6) => move_to_general::<1>,
        (true, 1, 0, 7) => move_from_general::<1>,
        (true, 2, 1, 6) => move_to_general::<2>,
        (true, 2, 1, 7) => move_from_general::<2>,
        (false, 1, 3, 6) => convert_javascript,
        (_, _, _, 6 | 7) => return None,
        (_, _, 1.., 2..6) => return None,
        _ => by_format!(code, convert_integer),
    };
    Some(op(handler, code))
}

/// SCVTF, UCVTF, FCVTZS, FCVTZU (fixed-point).
pub(crate) fn fixed(code: u32, _: u64) -> Option<Op> {
    let scale = bits(code, 15, 10);
    if code >> 31 == 0 && scale < 32 {
        return None;
    }
    Some(op(by_format!(code, convert_integer), code).imm(u64::from(64 - scale)))
}
