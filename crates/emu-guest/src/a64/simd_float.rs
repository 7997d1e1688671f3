//! Advanced SIMD floating-point, and the scalar forms in its encoding space (manual C4.1.96).

use super::fpcr::Fpu;
use super::simd::is_scalar;
use super::simd_shift;
use crate::exit::{Flow, Step};
use crate::float::Comparison::{Quiet, Signalling};
use crate::float::{Double, Format, Half, HostFormat, NanOperands, Order, Rounding, Single};
use crate::lanes::{broadcast, lane, sx};
use crate::op::{Host, Op};
use crate::state::State;

/// Number of lanes, by bit 22: single or double precision. `None` for 1D.
#[inline(always)]
fn lanes(op: &Op, double: bool) -> Option<u32> {
    match (is_scalar(op), double, op.bit(30)) {
        (true, ..) => Some(1),
        (_, true, false) => None,
        (_, false, true) => Some(4),
        _ => Some(2),
    }
}

/// Vm, or the element of it that the by-element form names, in all lanes. `None` if it is reserved.
#[inline(always)]
fn operand_m(s: &State, op: &Op) -> Option<u128> {
    if !op.bit(24) {
        return Some(s.v[op.vm()]);
    }
    let (h, l) = (op.bits(11, 11), op.bits(21, 21));
    if op.bit(22) {
        (l == 0).then(|| broadcast(lane(s.v[op.vm()], h, 64), 64))
    } else {
        Some(broadcast(lane(s.v[op.vm()], h << 1 | l, 32), 32))
    }
}

/// Applies `f` to the lanes of n, m and d.
#[inline(always)]
fn map<F: Format>(
    s: &mut State,
    op: &Op,
    m: u128,
    count: u32,
    mut f: impl FnMut(&mut Fpu, u64, u64, u64) -> u64,
) -> Step {
    let mut fpu = s.fpu();
    let (n, d) = (s.v[op.vn()], s.v[op.vd()]);
    let mut result = 0u128;
    for i in 0..count {
        let value = f(&mut fpu, lane(n, i, F::WIDTH), lane(m, i, F::WIDTH), lane(d, i, F::WIDTH));
        result |= u128::from(value) << (i * F::WIDTH);
    }
    s.v[op.vd()] = result;
    s.flags(&fpu);
    Ok(Flow::Next)
}

/// A mask of one lane.
#[inline(always)]
fn mask<F: Format>(condition: bool) -> u64 {
    if condition { F::SIGN | (F::SIGN - 1) } else { 0 }
}

/// Operations on lanes, in single and double precision. The body is generic over `F`.
macro_rules! lanewise {
    ($($(#[$doc:meta])* $name:ident, |$fpu:ident, $n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            #[inline(always)]
            fn one<F: HostFormat>($fpu: &mut Fpu, $n: u64, $m: u64, $d: u64) -> u64 {
                $body
            }
            let double = op.bit(22);
            let (Some(count), Some(m)) = (lanes(op, double), operand_m(s, op)) else { return s.undefined(op) };
            if double { map::<Double>(s, op, m, count, one::<Double>) } else { map::<Single>(s, op, m, count, one::<Single>) }
        }
    )*};
}

lanewise! {
    /// FADD.
    fadd, |fpu, n, m, _| fpu.add::<F>(n, m);
    /// FSUB.
    fsub, |fpu, n, m, _| fpu.sub::<F>(n, m);
    /// FABD.
    fabd, |fpu, n, m, _| fpu.sub::<F>(n, m) & !F::SIGN;
    /// FMUL (vector, by element).
    fmul, |fpu, n, m, _| fpu.mul::<F>(n, m);
    /// FMULX (vector, by element).
    fmulx, |fpu, n, m, _| fpu.mulx::<F>(n, m);
    /// FDIV.
    fdiv, |fpu, n, m, _| fpu.div::<F>(n, m);
    /// FMLA (vector, by element).
    fmla, |fpu, n, m, d| fpu.mul_add::<F>(d, n, m);
    /// FMLS (vector, by element).
    fmls, |fpu, n, m, d| fpu.mul_add::<F>(d, n ^ F::SIGN, m);
    /// FMAX.
    fmax, |fpu, n, m, _| fpu.max::<F>(n, m, NanOperands::Win);
    /// FMIN.
    fmin, |fpu, n, m, _| fpu.min::<F>(n, m, NanOperands::Win);
    /// FMAXNM.
    fmaxnm, |fpu, n, m, _| fpu.max::<F>(n, m, NanOperands::QuietLose);
    /// FMINNM.
    fminnm, |fpu, n, m, _| fpu.min::<F>(n, m, NanOperands::QuietLose);
    /// FCMEQ.
    fcmeq, |fpu, n, m, _| mask::<F>(fpu.compare::<F>(n, m, Quiet) == Order::Equal);
    /// FCMGE.
    fcmge, |fpu, n, m, _| mask::<F>(fpu.compare::<F>(n, m, Signalling).is_ge());
    /// FCMGT.
    fcmgt, |fpu, n, m, _| mask::<F>(fpu.compare::<F>(n, m, Signalling) == Order::Greater);
    /// FACGE.
    facge, |fpu, n, m, _| {
        mask::<F>(fpu.compare::<F>(n & !F::SIGN, m & !F::SIGN, Signalling).is_ge())
    };
    /// FACGT.
    facgt, |fpu, n, m, _| {
        mask::<F>(fpu.compare::<F>(n & !F::SIGN, m & !F::SIGN, Signalling) == Order::Greater)
    };
    /// FRECPS.
    frecps, |fpu, n, m, _| fpu.step::<F>(n, m, false);
    /// FRSQRTS.
    frsqrts, |fpu, n, m, _| fpu.step::<F>(n, m, true);
    /// FCMEQ (zero).
    fcmeq_zero, |fpu, n, _, _| mask::<F>(fpu.compare::<F>(n, 0, Quiet) == Order::Equal);
    /// FCMGE (zero).
    fcmge_zero, |fpu, n, _, _| mask::<F>(fpu.compare::<F>(n, 0, Signalling).is_ge());
    /// FCMGT (zero).
    fcmgt_zero, |fpu, n, _, _| mask::<F>(fpu.compare::<F>(n, 0, Signalling) == Order::Greater);
    /// FCMLE (zero).
    fcmle_zero, |fpu, n, _, _| mask::<F>(fpu.compare::<F>(n, 0, Signalling).is_le());
    /// FCMLT (zero).
    fcmlt_zero, |fpu, n, _, _| mask::<F>(fpu.compare::<F>(n, 0, Signalling) == Order::Less);
    /// FABS.
    fabs, |_fpu, n, _, _| n & !F::SIGN;
    /// FNEG.
    fneg, |_fpu, n, _, _| n ^ F::SIGN;
    /// FSQRT.
    fsqrt, |fpu, n, _, _| fpu.sqrt::<F>(n);
    /// FRECPE.
    frecpe, |fpu, n, _, _| fpu.reciprocal_estimate::<F>(n);
    /// FRSQRTE.
    frsqrte, |fpu, n, _, _| fpu.root_estimate::<F>(n);
    /// FRECPX.
    frecpx, |fpu, n, _, _| fpu.reciprocal_exponent::<F>(n);
    /// FRINTN.
    frintn, |fpu, n, _, _| fpu.round_int::<F>(n, Rounding::TieEven, false);
    /// FRINTM.
    frintm, |fpu, n, _, _| fpu.round_int::<F>(n, Rounding::MinusInfinity, false);
    /// FRINTP.
    frintp, |fpu, n, _, _| fpu.round_int::<F>(n, Rounding::PlusInfinity, false);
    /// FRINTZ.
    frintz, |fpu, n, _, _| fpu.round_int::<F>(n, Rounding::Zero, false);
    /// FRINTA.
    frinta, |fpu, n, _, _| fpu.round_int::<F>(n, Rounding::TieAway, false);
    /// FRINTX.
    frintx, |fpu, n, _, _| { let mode = fpu.rounding(); fpu.round_int::<F>(n, mode, true) };
    /// FRINTI.
    frinti, |fpu, n, _, _| { let mode = fpu.rounding(); fpu.round_int::<F>(n, mode, false) };
    /// FCVTNS.
    fcvtns, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, false, Rounding::TieEven, F::WIDTH);
    /// FCVTNU.
    fcvtnu, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, true, Rounding::TieEven, F::WIDTH);
    /// FCVTPS.
    fcvtps, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, false, Rounding::PlusInfinity, F::WIDTH);
    /// FCVTPU.
    fcvtpu, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, true, Rounding::PlusInfinity, F::WIDTH);
    /// FCVTMS.
    fcvtms, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, false, Rounding::MinusInfinity, F::WIDTH);
    /// FCVTMU.
    fcvtmu, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, true, Rounding::MinusInfinity, F::WIDTH);
    /// FCVTZS.
    fcvtzs, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, false, Rounding::Zero, F::WIDTH);
    /// FCVTZU.
    fcvtzu, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, true, Rounding::Zero, F::WIDTH);
    /// FCVTAS.
    fcvtas, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, false, Rounding::TieAway, F::WIDTH);
    /// FCVTAU.
    fcvtau, |fpu, n, _, _| fpu.fixed_of::<F>(n, 0, true, Rounding::TieAway, F::WIDTH);
    /// SCVTF.
    scvtf, |fpu, n, _, _| fpu.float_of::<F>(sx(F::WIDTH, n) as u64, 0, false);
    /// UCVTF.
    ucvtf, |fpu, n, _, _| fpu.float_of::<F>(n, 0, true);
}

/// SCVTF, UCVTF (fixed-point); with `TO_FIXED` FCVTZS, FCVTZU.
pub(crate) fn fixed<const TO_FIXED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(double) = simd_shift::size(op).filter(|&size| size >= 2).map(|size| size == 3) else {
        return s.undefined(op);
    };
    let Some(count) = lanes(op, double) else { return s.undefined(op) };
    let unsigned = op.bit(29);
    #[inline(always)]
    fn one<F: Format>(fpu: &mut Fpu, n: u64, imm: u32, unsigned: bool, to_fixed: bool) -> u64 {
        let fraction = 2 * F::WIDTH - imm;
        if to_fixed {
            fpu.fixed_of::<F>(n, fraction, unsigned, Rounding::Zero, F::WIDTH)
        } else {
            let value = if unsigned { n } else { sx(F::WIDTH, n) as u64 };
            fpu.float_of::<F>(value, fraction, unsigned)
        }
    }
    let imm = op.bits(22, 16);
    if double {
        map::<Double>(s, op, 0, count, |fpu, n, _, _| one::<Double>(fpu, n, imm, unsigned, TO_FIXED))
    } else {
        map::<Single>(s, op, 0, count, |fpu, n, _, _| one::<Single>(fpu, n, imm, unsigned, TO_FIXED))
    }
}

/// Operations on pairs of neighbours.
#[derive(Clone, Copy)]
struct Pair;

impl Pair {
    /// FADDP, FMAXP, FMINP, FMAXNMP, FMINNMP: 0 to 4.
    #[inline(always)]
    fn apply<F: HostFormat, const KIND: u32>(fpu: &mut Fpu, a: u64, b: u64) -> u64 {
        match KIND {
            0 => fpu.add::<F>(a, b),
            1 => fpu.max::<F>(a, b, NanOperands::Win),
            2 => fpu.min::<F>(a, b, NanOperands::Win),
            3 => fpu.max::<F>(a, b, NanOperands::QuietLose),
            _ => fpu.min::<F>(a, b, NanOperands::QuietLose),
        }
    }
}

fn pairs<F: HostFormat, const KIND: u32>(s: &mut State, op: &Op, count: u32) -> Step {
    let (n, m, w) = (s.v[op.vn()], s.v[op.vm()], F::WIDTH);
    let mut fpu = s.fpu();
    let mut result = 0u128;
    for i in 0..count {
        let (source, j) = if is_scalar(op) || i < count / 2 { (n, 2 * i) } else { (m, 2 * i - count) };
        let value = Pair::apply::<F, KIND>(&mut fpu, lane(source, j, w), lane(source, j + 1, w));
        result |= u128::from(value) << (i * w);
    }
    s.v[op.vd()] = result;
    s.flags(&fpu);
    Ok(Flow::Next)
}

/// FADDP, FMAXP, FMINP, FMAXNMP, FMINNMP, vector and scalar.
pub(crate) fn pairwise<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let double = op.bit(22);
    let Some(count) = lanes(op, double) else { return s.undefined(op) };
    if double { pairs::<Double, KIND>(s, op, count) } else { pairs::<Single, KIND>(s, op, count) }
}

/// FMAXV, FMINV, FMAXNMV, FMINNMV (single precision): a tree over four lanes.
pub(crate) fn across<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    if !op.bit(30) || op.bit(22) {
        return s.undefined(op);
    }
    let n = s.v[op.vn()];
    let mut fpu = s.fpu();
    let low = Pair::apply::<Single, KIND>(&mut fpu, lane(n, 0, 32), lane(n, 1, 32));
    let high = Pair::apply::<Single, KIND>(&mut fpu, lane(n, 2, 32), lane(n, 3, 32));
    let result = Pair::apply::<Single, KIND>(&mut fpu, low, high);
    s.v[op.vd()] = u128::from(result);
    s.flags(&fpu);
    Ok(Flow::Next)
}

fn convert_long<F: Format, T: Format>(s: &mut State, op: &Op) -> Step {
    let n = u128::from(super::simd::half(op, s.v[op.vn()]));
    let mut fpu = s.fpu();
    let rounding = fpu.rounding();
    let mut result = 0u128;
    for i in 0..128 / T::WIDTH {
        result |= u128::from(fpu.convert::<F, T>(lane(n, i, F::WIDTH), rounding)) << (i * T::WIDTH);
    }
    s.v[op.vd()] = result;
    s.flags(&fpu);
    Ok(Flow::Next)
}

/// FCVTL.
pub(crate) fn fcvtl(s: &mut State, _: &Host, op: &Op) -> Step {
    if op.bit(22) { convert_long::<Single, Double>(s, op) } else { convert_long::<Half, Single>(s, op) }
}

fn convert_narrow<F: Format, T: Format>(s: &mut State, op: &Op, rounding: Rounding) -> Step {
    let n = s.v[op.vn()];
    let mut fpu = s.fpu();
    let mut result = 0u64;
    for i in 0..if is_scalar(op) { 1 } else { 128 / F::WIDTH } {
        result |= fpu.convert::<F, T>(lane(n, i, F::WIDTH), rounding) << (i * T::WIDTH);
    }
    super::simd::write_half(s, op, result);
    s.flags(&fpu);
    Ok(Flow::Next)
}

/// FCVTN.
pub(crate) fn fcvtn(s: &mut State, _: &Host, op: &Op) -> Step {
    let rounding = s.fpu().rounding();
    if op.bit(22) {
        convert_narrow::<Double, Single>(s, op, rounding)
    } else {
        convert_narrow::<Single, Half>(s, op, rounding)
    }
}

/// FCVTXN: rounds to odd, so that a second rounding is harmless.
pub(crate) fn fcvtxn(s: &mut State, _: &Host, op: &Op) -> Step {
    if !op.bit(22) {
        return s.undefined(op);
    }
    convert_narrow::<Double, Single>(s, op, Rounding::Odd)
}
