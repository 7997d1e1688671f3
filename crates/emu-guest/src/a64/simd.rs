//! Advanced SIMD: lanes, and the integer instructions with two or three vector operands (manual C3.6,
//! C4.1.96).
//!
//! A handler serves the vector form, the scalar form (bits 28 and 30 set) and, where there is one, the form
//! with an element of Vm (bit 24 set). Lanes that the form does not use are zero in the operands and in the
//! result.

use super::fpcr::QC;
use crate::exit::{Flow, Step};
use crate::lanes::{arithmetic, broadcast, lane, long as long_lanes, low, map_size, permute, sx};
use crate::op::{Host, Op};
use crate::state::State;

/// Whether the word is of a scalar form.
#[inline(always)]
pub(crate) fn is_scalar(op: &Op) -> bool {
    op.bits(30, 28) & 0b101 == 0b101
}

/// The bits of a register that the form uses, for lanes of `8 << size` bits.
#[inline(always)]
pub(crate) fn active(op: &Op, size: u32) -> u128 {
    if is_scalar(op) {
        u128::MAX >> (128 - (8 << size))
    } else if op.bit(30) {
        u128::MAX
    } else {
        u128::from(u64::MAX)
    }
}

/// Which sizes an instruction has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// Vectors of all sizes but 1D; scalar 64 bits.
    All,
    /// Vectors of 8, 16 and 32 bits.
    Narrow,
    /// Vectors of all sizes but 1D; scalars of all sizes.
    Scalars,
    /// 16 and 32 bits.
    Middle,
    /// 8 bits.
    Bytes,
}

impl Sizes {
    /// Whether the form exists.
    #[inline(always)]
    pub(crate) fn allow(self, op: &Op, size: u32) -> bool {
        match self {
            Sizes::Scalars if is_scalar(op) => true,
            Sizes::All if is_scalar(op) => size == 3,
            Sizes::All | Sizes::Scalars => size < 3 || op.bit(30),
            Sizes::Narrow => size < 3,
            Sizes::Middle => size == 1 || size == 2,
            Sizes::Bytes => size == 0,
        }
    }
}

/// Vm, or the element of it that the by-element form names, in all lanes. Lanes of 16 and 32 bits.
#[inline(always)]
fn operand_m(s: &State, op: &Op, size: u32) -> u128 {
    if !op.bit(24) {
        return s.v[op.vm()];
    }
    let (h, l, m) = (op.bits(11, 11), op.bits(21, 21), op.bits(20, 20));
    if size == 1 {
        broadcast(lane(s.v[op.vm() & 15], h << 2 | l << 1 | m, 16), 16)
    } else {
        broadcast(lane(s.v[op.vm()], h << 1 | l, 32), 32)
    }
}

/// Elements have 16 or 32 bits.
#[inline(always)]
fn by_element_reserved(op: &Op, size: u32) -> bool {
    op.bit(24) && size != 1 && size != 2
}

/// A handler that maps lanes of Vn, Vm and Vd by the operation of the same name.
macro_rules! three_same {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let size = op.bits(23, 22);
            if !$sizes.allow(op, size) || by_element_reserved(op, size) {
                return s.undefined(op);
            }
            let active = active(op, size);
            let mut saturated = false;
            let (n, m, d) = (s.v[op.vn()] & active, operand_m(s, op, size) & active, s.v[op.vd()] & active);
            let result = map_size(size, n, m, d, |w, n, m, d| arithmetic::$name(&mut saturated, w, n, m, d));
            s.v[op.vd()] = result & active;
            if saturated {
                s.fpsr |= QC;
            }
            Ok(Flow::Next)
        }
    )*};
}

three_same! {
    /// SHADD.
    shadd, Sizes::Narrow;
    /// UHADD.
    uhadd, Sizes::Narrow;
    /// SRHADD.
    srhadd, Sizes::Narrow;
    /// URHADD.
    urhadd, Sizes::Narrow;
    /// SHSUB.
    shsub, Sizes::Narrow;
    /// UHSUB.
    uhsub, Sizes::Narrow;
    /// SQADD.
    sqadd, Sizes::Scalars;
    /// UQADD.
    uqadd, Sizes::Scalars;
    /// SQSUB.
    sqsub, Sizes::Scalars;
    /// UQSUB.
    uqsub, Sizes::Scalars;
    /// CMGT.
    cmgt, Sizes::All;
    /// CMGE.
    cmge, Sizes::All;
    /// CMHI.
    cmhi, Sizes::All;
    /// CMHS.
    cmhs, Sizes::All;
    /// CMEQ.
    cmeq, Sizes::All;
    /// CMTST.
    cmtst, Sizes::All;
    /// SSHL.
    sshl, Sizes::All;
    /// USHL.
    ushl, Sizes::All;
    /// SRSHL.
    srshl, Sizes::All;
    /// URSHL.
    urshl, Sizes::All;
    /// SQSHL.
    sqshl, Sizes::Scalars;
    /// UQSHL.
    uqshl, Sizes::Scalars;
    /// SQRSHL.
    sqrshl, Sizes::Scalars;
    /// UQRSHL.
    uqrshl, Sizes::Scalars;
    /// SMAX.
    smax, Sizes::Narrow;
    /// UMAX.
    umax, Sizes::Narrow;
    /// SMIN.
    smin, Sizes::Narrow;
    /// UMIN.
    umin, Sizes::Narrow;
    /// SABD.
    sabd, Sizes::Narrow;
    /// UABD.
    uabd, Sizes::Narrow;
    /// SABA.
    saba, Sizes::Narrow;
    /// UABA.
    uaba, Sizes::Narrow;
    /// ADD.
    add, Sizes::All;
    /// SUB.
    sub, Sizes::All;
    /// MLA (vector, by element).
    mla, Sizes::Narrow;
    /// MLS (vector, by element).
    mls, Sizes::Narrow;
    /// MUL (vector, by element).
    mul, Sizes::Narrow;
    /// PMUL.
    pmul, Sizes::Bytes;
    /// SQDMULH (vector, by element).
    sqdmulh, Sizes::Middle;
    /// SQRDMULH (vector, by element).
    sqrdmulh, Sizes::Middle;
    /// SQRDMLAH (vector, by element).
    sqrdmlah, Sizes::Middle;
    /// SQRDMLSH (vector, by element).
    sqrdmlsh, Sizes::Middle;
    /// SUQADD: Vm is not an operand.
    suqadd, Sizes::Scalars;
    /// USQADD.
    usqadd, Sizes::Scalars;
    /// SQABS.
    sqabs, Sizes::Scalars;
    /// SQNEG.
    sqneg, Sizes::Scalars;
    /// ABS.
    abs, Sizes::All;
    /// NEG.
    neg, Sizes::All;
    /// CMGT (zero).
    cmgt_zero, Sizes::All;
    /// CMGE (zero).
    cmge_zero, Sizes::All;
    /// CMEQ (zero).
    cmeq_zero, Sizes::All;
    /// CMLE (zero).
    cmle_zero, Sizes::All;
    /// CMLT (zero).
    cmlt_zero, Sizes::All;
    /// CLS.
    cls, Sizes::Narrow;
    /// CLZ.
    clz, Sizes::Narrow;
    /// CNT.
    cnt, Sizes::Bytes;
}

/// Logical operations: the size field is the opcode.
macro_rules! logical {
    ($($(#[$doc:meta])* $name:ident, |$n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let ($n, $m, $d) = (s.v[op.vn()], s.v[op.vm()], s.v[op.vd()]);
            s.v[op.vd()] = $body & active(op, 3);
            Ok(Flow::Next)
        }
    )*};
}

logical! {
    /// AND.
    and, |n, m, _| n & m;
    /// BIC.
    bic, |n, m, _| n & !m;
    /// ORR.
    orr, |n, m, _| n | m;
    /// ORN.
    orn, |n, m, _| n | !m;
    /// EOR.
    eor, |n, m, _| n ^ m;
    /// BSL.
    bsl, |n, m, d| (n & d) | (m & !d);
    /// BIT.
    bit, |n, m, d| (d & !m) | (n & m);
    /// BIF.
    bif, |n, m, d| (d & m) | (n & !m);
    /// NOT.
    not, |n, _, _| !n;
    /// RBIT.
    rbit, |n, _, _| n.reverse_bits().swap_bytes();
}

/// REV64, REV32, REV16: lanes of `8 << size` bits change places within containers of `8 << CONTAINER`.
pub(crate) fn reverse<const CONTAINER: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size >= CONTAINER {
        return s.undefined(op);
    }
    s.v[op.vd()] = permute::reverse(size, CONTAINER, s.v[op.vn()]) & active(op, 3);
    Ok(Flow::Next)
}

/// Pairwise operations: neighbours in Vn, then neighbours in Vm.
macro_rules! pairwise {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let size = op.bits(23, 22);
            if !$sizes.allow(op, size) {
                return s.undefined(op);
            }
            let w = 8u32 << size;
            let lanes = if op.bit(30) { 128 } else { 64 } / w;
            let (n, m) = (s.v[op.vn()], s.v[op.vm()]);
            s.v[op.vd()] = permute::pairs(size, lanes, n, m, |a, b| {
                arithmetic::$operation(&mut false, w, a, b, 0) & low(w)
            });
            Ok(Flow::Next)
        }
    )*};
}

pairwise! {
    /// ADDP (vector).
    addp, Sizes::All, add;
    /// SMAXP.
    smaxp, Sizes::Narrow, smax;
    /// SMINP.
    sminp, Sizes::Narrow, smin;
    /// UMAXP.
    umaxp, Sizes::Narrow, umax;
    /// UMINP.
    uminp, Sizes::Narrow, umin;
}

/// ADDP (scalar).
pub(crate) fn addp_scalar(s: &mut State, _: &Host, op: &Op) -> Step {
    if op.bits(23, 22) != 3 {
        return s.undefined(op);
    }
    let n = s.v[op.vn()];
    s.v[op.vd()] = u128::from((n as u64).wrapping_add((n >> 64) as u64));
    Ok(Flow::Next)
}

/// SADDLP, UADDLP, SADALP, UADALP: bit 29 is unsignedness, bit 14 accumulation.
pub(crate) fn add_long_pairwise(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 {
        return s.undefined(op);
    }
    let d = if op.bit(14) { s.v[op.vd()] } else { 0 };
    s.v[op.vd()] = long_lanes::add_pairs(size, op.bit(29), s.v[op.vn()], d) & active(op, 3);
    Ok(Flow::Next)
}

/// ADDV, SADDLV, UADDLV, SMAXV, UMAXV, SMINV, UMINV: `KIND` 0 to 6.
pub(crate) fn across<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 || size == 2 && !op.bit(30) {
        return s.undefined(op);
    }
    let w = 8u32 << size;
    let lanes = if op.bit(30) { 128 } else { 64 } / w;
    let n = s.v[op.vn()];
    let values = (0..lanes).map(|i| lane(n, i, w));
    let signed = (0..lanes).map(|i| sx(w, lane(n, i, w)));
    let (value, width) = match KIND {
        0 => (values.sum::<u64>(), w),
        1 => (signed.sum::<i64>() as u64, 2 * w),
        2 => (values.sum::<u64>(), 2 * w),
        3 => (signed.max().unwrap_or(0) as u64, w),
        4 => (values.max().unwrap_or(0), w),
        5 => (signed.min().unwrap_or(0) as u64, w),
        _ => (values.min().unwrap_or(0), w),
    };
    s.v[op.vd()] = u128::from(value & low(width));
    Ok(Flow::Next)
}

/// XTN, SQXTN, UQXTN, SQXTUN: `KIND` 0 to 3.
pub(crate) fn narrow<const KIND: u32>(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 {
        return s.undefined(op);
    }
    let count = if is_scalar(op) { 1 } else { 8 >> size };
    let (result, saturated) = long_lanes::narrow::<KIND>(size, count, 0, false, s.v[op.vn()]);
    write_half(s, op, result);
    if saturated {
        s.fpsr |= QC;
    }
    Ok(Flow::Next)
}

/// Writes the result of a narrowing instruction: the low half and zeros, or with Q the high half.
pub(crate) fn write_half(s: &mut State, op: &Op, result: u64) {
    let vd = &mut s.v[op.vd()];
    *vd = if op.bit(30) && !is_scalar(op) {
        *vd & u128::from(u64::MAX) | u128::from(result) << 64
    } else {
        u128::from(result)
    };
}

/// The half of a register that a widening instruction reads: the high one with Q.
#[inline(always)]
pub(crate) fn half(op: &Op, value: u128) -> u64 {
    if op.bit(30) && !is_scalar(op) { (value >> 64) as u64 } else { value as u64 }
}

/// SHLL.
pub(crate) fn shll(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 {
        return s.undefined(op);
    }
    s.v[op.vd()] = long_lanes::shift_long(size, true, 8 << size, half(op, s.v[op.vn()]));
    Ok(Flow::Next)
}

/// Widening instructions, by the operation of the same name: lanes of the halves of Vn and Vm, extended by
/// bit 29, give lanes of double width.
macro_rules! long {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let size = op.bits(23, 22);
            if size == 3 || !$sizes.allow(op, size) || by_element_reserved(op, size) {
                return s.undefined(op);
            }
            let operands = [half(op, s.v[op.vn()]), half(op, operand_m(s, op, size))];
            let count = if is_scalar(op) { 1 } else { 8 >> size };
            let mut saturated = false;
            s.v[op.vd()] = long_lanes::long(size, count, op.bit(29), operands, s.v[op.vd()], |w, n, m, d| {
                long_lanes::$name(&mut saturated, w, n, m, d)
            });
            if saturated {
                s.fpsr |= QC;
            }
            Ok(Flow::Next)
        }
    )*};
}

long! {
    /// SADDL, UADDL.
    addl, Sizes::Narrow;
    /// SSUBL, USUBL.
    subl, Sizes::Narrow;
    /// SABAL, UABAL.
    abal, Sizes::Narrow;
    /// SABDL, UABDL.
    abdl, Sizes::Narrow;
    /// SMLAL, UMLAL (vector, by element).
    mlal, Sizes::Narrow;
    /// SMLSL, UMLSL (vector, by element).
    mlsl, Sizes::Narrow;
    /// SMULL, UMULL (vector, by element).
    mull, Sizes::Narrow;
    /// SQDMULL (vector, by element).
    sqdmull, Sizes::Middle;
    /// SQDMLAL (vector, by element).
    sqdmlal, Sizes::Middle;
    /// SQDMLSL (vector, by element).
    sqdmlsl, Sizes::Middle;
}

/// SADDW, UADDW, SSUBW, USUBW: bit 13 is subtraction.
pub(crate) fn wide(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 {
        return s.undefined(op);
    }
    let (n, m) = (s.v[op.vn()], half(op, s.v[op.vm()]));
    s.v[op.vd()] = long_lanes::wide(size, op.bit(29), op.bit(13), n, m);
    Ok(Flow::Next)
}

/// ADDHN, RADDHN, SUBHN, RSUBHN: bit 13 is subtraction, bit 29 rounding.
pub(crate) fn high_narrow(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 {
        return s.undefined(op);
    }
    let result = long_lanes::high_narrow(size, op.bit(13), op.bit(29), s.v[op.vn()], s.v[op.vm()]);
    write_half(s, op, result);
    Ok(Flow::Next)
}

/// PMULL: 8 and 64 bits.
pub(crate) fn pmull(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = (half(op, s.v[op.vn()]), half(op, s.v[op.vm()]));
    s.v[op.vd()] = match op.bits(23, 22) {
        0 => long_lanes::polynomial_bytes(n, m),
        3 => arithmetic::polynomial_wide(n, m),
        _ => return s.undefined(op),
    };
    Ok(Flow::Next)
}

/// SDOT, UDOT (vector, by element).
pub(crate) fn dot(s: &mut State, _: &Host, op: &Op) -> Step {
    if op.bits(23, 22) != 2 {
        return s.undefined(op);
    }
    let (n, m, unsigned) = (s.v[op.vn()], operand_m(s, op, 2), op.bit(29));
    s.v[op.vd()] = long_lanes::dot((unsigned, unsigned), n, m, s.v[op.vd()]) & active(op, 2);
    Ok(Flow::Next)
}

/// URECPE, URSQRTE: bit 29 is the root.
pub(crate) fn unsigned_estimate(s: &mut State, _: &Host, op: &Op) -> Step {
    if op.bit(22) {
        return s.undefined(op);
    }
    let n = s.v[op.vn()];
    let mut result = 0u128;
    for i in 0..4 {
        let value = lane(n, i, 32) as u32;
        let estimate = if op.bit(29) { arithmetic::ursqrte(value) } else { arithmetic::urecpe(value) };
        result |= u128::from(estimate) << (i * 32);
    }
    s.v[op.vd()] = result & active(op, 2);
    Ok(Flow::Next)
}
