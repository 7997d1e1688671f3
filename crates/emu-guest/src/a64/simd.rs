//! Advanced SIMD: lanes, and the integer instructions with two or three vector operands (manual C3.6,
//! C4.1.96).
//!
//! A handler serves the vector form, the scalar form (bits 28 and 30 set) and, where there is one, the form
//! with an element of Vm (bit 24 set). Lanes that the form does not use are zero in the operands and in the
//! result.

use super::fpcr::QC;
use crate::exit::{Flow, Step};
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

/// The low `width` bits.
#[inline(always)]
pub(crate) const fn low(width: u32) -> u64 {
    u64::MAX >> (64 - width)
}

/// A lane as a signed number.
#[inline(always)]
pub(crate) fn sx(width: u32, value: u64) -> i64 {
    ((value << (64 - width)) as i64) >> (64 - width)
}

/// Lane `i` of `width` bits.
#[inline(always)]
pub(crate) fn lane(value: u128, i: u32, width: u32) -> u64 {
    (value >> (i * width)) as u64 & low(width)
}

/// `value` in all lanes of `width` bits.
pub(crate) fn broadcast(value: u64, width: u32) -> u128 {
    u128::from(value & low(width)) * (u128::MAX / u128::from(low(width)))
}

/// Applies `f` to all lanes of three registers. `f` gets the width, then lanes of n, m and d.
#[inline(always)]
fn map<const SIZE: u32>(n: u128, m: u128, d: u128, mut f: impl FnMut(u32, u64, u64, u64) -> u64) -> u128 {
    let width = 8 << SIZE;
    let mut result = [0u64; 2];
    for (half, result) in result.iter_mut().enumerate() {
        let (n, m, d) = ((n >> (half * 64)) as u64, (m >> (half * 64)) as u64, (d >> (half * 64)) as u64);
        let mut i = 0;
        while i < 64 {
            let value = f(width, n >> i & low(width), m >> i & low(width), d >> i & low(width));
            *result |= (value & low(width)) << i;
            i += width;
        }
    }
    u128::from(result[0]) | u128::from(result[1]) << 64
}

/// [`map`] for a size known only at run time.
#[inline(always)]
pub(crate) fn map_size(
    size: u32,
    n: u128,
    m: u128,
    d: u128,
    f: impl FnMut(u32, u64, u64, u64) -> u64,
) -> u128 {
    match size {
        0 => map::<0>(n, m, d, f),
        1 => map::<1>(n, m, d, f),
        2 => map::<2>(n, m, d, f),
        _ => map::<3>(n, m, d, f),
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

/// A handler that maps lanes of Vn, Vm and Vd. The closure may name the saturation flag.
macro_rules! three_same {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr, |$qc:pat_param, $w:pat_param, $n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let size = op.bits(23, 22);
            if !$sizes.allow(op, size) || by_element_reserved(op, size) {
                return s.undefined(op);
            }
            let active = active(op, size);
            let mut saturated = false;
            let (n, m, d) = (s.v[op.vn()] & active, operand_m(s, op, size) & active, s.v[op.vd()] & active);
            let result = map_size(size, n, m, d, |$w, $n, $m, $d| {
                let $qc = &mut saturated;
                $body
            });
            s.v[op.vd()] = result & active;
            if saturated {
                s.fpsr |= QC;
            }
            Ok(Flow::Next)
        }
    )*};
}

#[inline(always)]
fn signed(w: u32, value: u64) -> i128 {
    i128::from(sx(w, value))
}

/// SatQ to a signed number of `w` bits.
#[inline(always)]
pub(crate) fn saturate_signed(qc: &mut bool, w: u32, value: i128) -> u64 {
    let max = i128::from(low(w) >> 1);
    let clamped = value.clamp(-max - 1, max);
    *qc |= clamped != value;
    clamped as u64
}

/// SatQ to an unsigned number of `w` bits.
#[inline(always)]
pub(crate) fn saturate_unsigned(qc: &mut bool, w: u32, value: i128) -> u64 {
    let clamped = value.clamp(0, i128::from(low(w)));
    *qc |= clamped != value;
    clamped as u64
}

/// Shifts left by a signed amount in the low byte of `by`, rounding where asked. If the result is too large
/// for `w` bits, its low bits and its sign are right.
#[inline(always)]
fn shift_by(w: u32, value: i128, by: u64, round: bool) -> i128 {
    let by = i32::from(by as u8 as i8);
    if by >= w as i32 {
        value.signum() << 126
    } else if by >= 0 {
        value << by
    } else {
        let by = (-by).min(100);
        (value + if round { 1 << (by - 1) } else { 0 }) >> by
    }
}

/// A comparison's result: all ones or zero.
#[inline(always)]
fn mask(condition: bool) -> u64 {
    if condition { u64::MAX } else { 0 }
}

#[inline(always)]
fn difference(signed: bool, w: u32, n: u64, m: u64) -> u64 {
    if signed { sx(w, n).abs_diff(sx(w, m)) } else { n.abs_diff(m) }
}

/// Polynomial product of two numbers of at most 8 bits.
fn polynomial(n: u64, m: u64) -> u64 {
    (0..8).filter(|i| m >> i & 1 == 1).fold(0, |product, i| product ^ n << i)
}

/// 2 * n * m, the high half, rounded where asked.
#[inline(always)]
fn double_high(qc: &mut bool, w: u32, n: u64, m: u64, round: bool) -> u64 {
    let product = 2 * signed(w, n) * signed(w, m) + if round { 1 << (w - 1) } else { 0 };
    saturate_signed(qc, w, product >> w)
}

/// d ± 2 * n * m rounded, the high half.
#[inline(always)]
fn double_high_accumulate(qc: &mut bool, w: u32, n: u64, m: u64, d: u64, subtract: bool) -> u64 {
    let product = 2 * signed(w, n) * signed(w, m);
    let product = if subtract { -product } else { product };
    saturate_signed(qc, w, ((signed(w, d) << w) + product + (1 << (w - 1))) >> w)
}

three_same! {
    /// SHADD.
    shadd, Sizes::Narrow, |_, w, n, m, _| ((sx(w, n) + sx(w, m)) >> 1) as u64;
    /// UHADD.
    uhadd, Sizes::Narrow, |_, _, n, m, _| (n + m) >> 1;
    /// SRHADD.
    srhadd, Sizes::Narrow, |_, w, n, m, _| ((sx(w, n) + sx(w, m) + 1) >> 1) as u64;
    /// URHADD.
    urhadd, Sizes::Narrow, |_, _, n, m, _| (n + m + 1) >> 1;
    /// SHSUB.
    shsub, Sizes::Narrow, |_, w, n, m, _| ((sx(w, n) - sx(w, m)) >> 1) as u64;
    /// UHSUB.
    uhsub, Sizes::Narrow, |_, _, n, m, _| n.wrapping_sub(m) >> 1;
    /// SQADD.
    sqadd, Sizes::Scalars, |qc, w, n, m, _| saturate_signed(qc, w, signed(w, n) + signed(w, m));
    /// UQADD.
    uqadd, Sizes::Scalars, |qc, w, n, m, _| saturate_unsigned(qc, w, i128::from(n) + i128::from(m));
    /// SQSUB.
    sqsub, Sizes::Scalars, |qc, w, n, m, _| saturate_signed(qc, w, signed(w, n) - signed(w, m));
    /// UQSUB.
    uqsub, Sizes::Scalars, |qc, w, n, m, _| saturate_unsigned(qc, w, i128::from(n) - i128::from(m));
    /// CMGT.
    cmgt, Sizes::All, |_, w, n, m, _| mask(sx(w, n) > sx(w, m));
    /// CMGE.
    cmge, Sizes::All, |_, w, n, m, _| mask(sx(w, n) >= sx(w, m));
    /// CMHI.
    cmhi, Sizes::All, |_, _, n, m, _| mask(n > m);
    /// CMHS.
    cmhs, Sizes::All, |_, _, n, m, _| mask(n >= m);
    /// CMEQ.
    cmeq, Sizes::All, |_, _, n, m, _| mask(n == m);
    /// CMTST.
    cmtst, Sizes::All, |_, _, n, m, _| mask(n & m != 0);
    /// SSHL.
    sshl, Sizes::All, |_, w, n, m, _| shift_by(w, signed(w, n), m, false) as u64;
    /// USHL.
    ushl, Sizes::All, |_, w, n, m, _| shift_by(w, i128::from(n), m, false) as u64;
    /// SRSHL.
    srshl, Sizes::All, |_, w, n, m, _| shift_by(w, signed(w, n), m, true) as u64;
    /// URSHL.
    urshl, Sizes::All, |_, w, n, m, _| shift_by(w, i128::from(n), m, true) as u64;
    /// SQSHL.
    sqshl, Sizes::Scalars, |qc, w, n, m, _| saturate_signed(qc, w, shift_by(w, signed(w, n), m, false));
    /// UQSHL.
    uqshl, Sizes::Scalars, |qc, w, n, m, _| saturate_unsigned(qc, w, shift_by(w, i128::from(n), m, false));
    /// SQRSHL.
    sqrshl, Sizes::Scalars, |qc, w, n, m, _| saturate_signed(qc, w, shift_by(w, signed(w, n), m, true));
    /// UQRSHL.
    uqrshl, Sizes::Scalars, |qc, w, n, m, _| saturate_unsigned(qc, w, shift_by(w, i128::from(n), m, true));
    /// SMAX.
    smax, Sizes::Narrow, |_, w, n, m, _| sx(w, n).max(sx(w, m)) as u64;
    /// UMAX.
    umax, Sizes::Narrow, |_, _, n, m, _| n.max(m);
    /// SMIN.
    smin, Sizes::Narrow, |_, w, n, m, _| sx(w, n).min(sx(w, m)) as u64;
    /// UMIN.
    umin, Sizes::Narrow, |_, _, n, m, _| n.min(m);
    /// SABD.
    sabd, Sizes::Narrow, |_, w, n, m, _| difference(true, w, n, m);
    /// UABD.
    uabd, Sizes::Narrow, |_, w, n, m, _| difference(false, w, n, m);
    /// SABA.
    saba, Sizes::Narrow, |_, w, n, m, d| d.wrapping_add(difference(true, w, n, m));
    /// UABA.
    uaba, Sizes::Narrow, |_, w, n, m, d| d.wrapping_add(difference(false, w, n, m));
    /// ADD.
    add, Sizes::All, |_, _, n, m, _| n.wrapping_add(m);
    /// SUB.
    sub, Sizes::All, |_, _, n, m, _| n.wrapping_sub(m);
    /// MLA (vector, by element).
    mla, Sizes::Narrow, |_, _, n, m, d| d.wrapping_add(n.wrapping_mul(m));
    /// MLS (vector, by element).
    mls, Sizes::Narrow, |_, _, n, m, d| d.wrapping_sub(n.wrapping_mul(m));
    /// MUL (vector, by element).
    mul, Sizes::Narrow, |_, _, n, m, _| n.wrapping_mul(m);
    /// PMUL.
    pmul, Sizes::Bytes, |_, _, n, m, _| polynomial(n, m);
    /// SQDMULH (vector, by element).
    sqdmulh, Sizes::Middle, |qc, w, n, m, _| double_high(qc, w, n, m, false);
    /// SQRDMULH (vector, by element).
    sqrdmulh, Sizes::Middle, |qc, w, n, m, _| double_high(qc, w, n, m, true);
    /// SQRDMLAH (vector, by element).
    sqrdmlah, Sizes::Middle, |qc, w, n, m, d| double_high_accumulate(qc, w, n, m, d, false);
    /// SQRDMLSH (vector, by element).
    sqrdmlsh, Sizes::Middle, |qc, w, n, m, d| double_high_accumulate(qc, w, n, m, d, true);
    /// SUQADD: Vm is not an operand.
    suqadd, Sizes::Scalars, |qc, w, n, _, d| saturate_signed(qc, w, signed(w, d) + i128::from(n));
    /// USQADD.
    usqadd, Sizes::Scalars, |qc, w, n, _, d| saturate_unsigned(qc, w, i128::from(d) + signed(w, n));
    /// SQABS.
    sqabs, Sizes::Scalars, |qc, w, n, _, _| saturate_signed(qc, w, signed(w, n).abs());
    /// SQNEG.
    sqneg, Sizes::Scalars, |qc, w, n, _, _| saturate_signed(qc, w, -signed(w, n));
    /// ABS.
    abs, Sizes::All, |_, w, n, _, _| sx(w, n).wrapping_abs() as u64;
    /// NEG.
    neg, Sizes::All, |_, _, n, _, _| n.wrapping_neg();
    /// CMGT (zero).
    cmgt_zero, Sizes::All, |_, w, n, _, _| mask(sx(w, n) > 0);
    /// CMGE (zero).
    cmge_zero, Sizes::All, |_, w, n, _, _| mask(sx(w, n) >= 0);
    /// CMEQ (zero).
    cmeq_zero, Sizes::All, |_, _, n, _, _| mask(n == 0);
    /// CMLE (zero).
    cmle_zero, Sizes::All, |_, w, n, _, _| mask(sx(w, n) <= 0);
    /// CMLT (zero).
    cmlt_zero, Sizes::All, |_, w, n, _, _| mask(sx(w, n) < 0);
    /// CLS.
    cls, Sizes::Narrow, |_, w, n, _, _| {
        let value = sx(w, n);
        u64::from((value ^ value >> 1).leading_zeros() - (64 - w) - 1)
    };
    /// CLZ.
    clz, Sizes::Narrow, |_, w, n, _, _| u64::from(n.leading_zeros() - (64 - w));
    /// CNT.
    cnt, Sizes::Bytes, |_, _, n, _, _| u64::from(n.count_ones());
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
    let (width, container) = (8u32 << size, 8u32 << CONTAINER);
    let n = s.v[op.vn()];
    let mut result = 0u128;
    for i in 0..128 / width {
        let (place, within) = (i * width / container, i % (container / width));
        let to = place * container + container - width - within * width;
        result |= u128::from(lane(n, i, width)) << to;
    }
    s.v[op.vd()] = result & active(op, 3);
    Ok(Flow::Next)
}

/// Pairwise operations: neighbours in Vn, then neighbours in Vm.
macro_rules! pairwise {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr, |$w:pat_param, $a:pat_param, $b:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let size = op.bits(23, 22);
            if !$sizes.allow(op, size) {
                return s.undefined(op);
            }
            let $w = 8u32 << size;
            let w = 8u32 << size;
            let lanes = if op.bit(30) { 128 } else { 64 } / w;
            let (n, m) = (s.v[op.vn()], s.v[op.vm()]);
            let mut result = 0u128;
            for i in 0..lanes {
                let (source, j) = if i < lanes / 2 { (n, 2 * i) } else { (m, 2 * i - lanes) };
                let ($a, $b) = (lane(source, j, w), lane(source, j + 1, w));
                result |= u128::from($body & low(w)) << (i * w);
            }
            s.v[op.vd()] = result;
            Ok(Flow::Next)
        }
    )*};
}

pairwise! {
    /// ADDP (vector).
    addp, Sizes::All, |_, a, b| a.wrapping_add(b);
    /// SMAXP.
    smaxp, Sizes::Narrow, |w, a, b| sx(w, a).max(sx(w, b)) as u64;
    /// SMINP.
    sminp, Sizes::Narrow, |w, a, b| sx(w, a).min(sx(w, b)) as u64;
    /// UMAXP.
    umaxp, Sizes::Narrow, |_, a, b| a.max(b);
    /// UMINP.
    uminp, Sizes::Narrow, |_, a, b| a.min(b);
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
    let w = 8u32 << size;
    let extend = |value: u64| if op.bit(29) { value } else { sx(w, value) as u64 };
    let (n, d) = (s.v[op.vn()], s.v[op.vd()]);
    let mut result = 0u128;
    for i in 0..64 / w {
        let sum = extend(lane(n, 2 * i, w)).wrapping_add(extend(lane(n, 2 * i + 1, w)));
        let sum = if op.bit(14) { sum.wrapping_add(lane(d, i, 2 * w)) } else { sum };
        result |= u128::from(sum & low(2 * w)) << (i * 2 * w);
    }
    s.v[op.vd()] = result & active(op, 3);
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
    let w = 8u32 << size;
    let n = s.v[op.vn()];
    let mut saturated = false;
    let mut result = 0u64;
    for i in 0..if is_scalar(op) { 1 } else { 64 / w } {
        let value = lane(n, i, 2 * w);
        let narrowed = match KIND {
            0 => value,
            1 => saturate_signed(&mut saturated, w, signed(2 * w, value)),
            2 => saturate_unsigned(&mut saturated, w, i128::from(value)),
            _ => saturate_unsigned(&mut saturated, w, signed(2 * w, value)),
        };
        result |= (narrowed & low(w)) << (i * w);
    }
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
    let w = 8u32 << size;
    let n = u128::from(half(op, s.v[op.vn()]));
    s.v[op.vd()] = (0..64 / w).fold(0, |result, i| result | u128::from(lane(n, i, w)) << (i * 2 * w + w));
    Ok(Flow::Next)
}

/// Widening instructions: lanes of the halves of Vn and Vm give lanes of double width. The closure gets the
/// narrow width, the lanes of n and m extended by bit 29, and the wide lane of d.
macro_rules! long {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr, |$qc:pat_param, $w:pat_param, $n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(s: &mut State, _: &Host, op: &Op) -> Step {
            let size = op.bits(23, 22);
            if size == 3 || !$sizes.allow(op, size) || by_element_reserved(op, size) {
                return s.undefined(op);
            }
            let w = 8u32 << size;
            let unsigned = op.bit(29);
            let extend = |value: u64| if unsigned { i128::from(value) } else { i128::from(sx(w, value)) };
            let (n, m) = (u128::from(half(op, s.v[op.vn()])), u128::from(half(op, operand_m(s, op, size))));
            let d = s.v[op.vd()];
            let mut saturated = false;
            let mut result = 0u128;
            for i in 0..if is_scalar(op) { 1 } else { 64 / w } {
                let ($n, $m, $d) = (extend(lane(n, i, w)), extend(lane(m, i, w)), lane(d, i, 2 * w));
                let $qc = &mut saturated;
                let $w = w;
                let value: i128 = $body;
                result |= u128::from(value as u64 & low(2 * w)) << (i * 2 * w);
            }
            s.v[op.vd()] = result;
            if saturated {
                s.fpsr |= QC;
            }
            Ok(Flow::Next)
        }
    )*};
}

/// 2 * n * m, saturated to twice the width.
fn double_long(qc: &mut bool, w: u32, n: i128, m: i128) -> i128 {
    i128::from(sx(2 * w, saturate_signed(qc, 2 * w, 2 * n * m) & low(2 * w)))
}

long! {
    /// SADDL, UADDL.
    addl, Sizes::Narrow, |_, _, n, m, _| n + m;
    /// SSUBL, USUBL.
    subl, Sizes::Narrow, |_, _, n, m, _| n - m;
    /// SABAL, UABAL.
    abal, Sizes::Narrow, |_, _, n, m, d| i128::from(d) + (n - m).abs();
    /// SABDL, UABDL.
    abdl, Sizes::Narrow, |_, _, n, m, _| (n - m).abs();
    /// SMLAL, UMLAL (vector, by element).
    mlal, Sizes::Narrow, |_, _, n, m, d| i128::from(d) + n * m;
    /// SMLSL, UMLSL (vector, by element).
    mlsl, Sizes::Narrow, |_, _, n, m, d| i128::from(d) - n * m;
    /// SMULL, UMULL (vector, by element).
    mull, Sizes::Narrow, |_, _, n, m, _| n * m;
    /// SQDMULL (vector, by element).
    sqdmull, Sizes::Middle, |qc, w, n, m, _| double_long(qc, w, n, m);
    /// SQDMLAL (vector, by element).
    sqdmlal, Sizes::Middle, |qc, w, n, m, d| {
        let product = double_long(qc, w, n, m);
        saturate_signed(qc, 2 * w, i128::from(sx(2 * w, d)) + product) as i128
    };
    /// SQDMLSL (vector, by element).
    sqdmlsl, Sizes::Middle, |qc, w, n, m, d| {
        let product = double_long(qc, w, n, m);
        saturate_signed(qc, 2 * w, i128::from(sx(2 * w, d)) - product) as i128
    };
}

/// SADDW, UADDW, SSUBW, USUBW: bit 13 is subtraction.
pub(crate) fn wide(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 {
        return s.undefined(op);
    }
    let w = 8u32 << size;
    let (n, m) = (s.v[op.vn()], u128::from(half(op, s.v[op.vm()])));
    let mut result = 0u128;
    for i in 0..64 / w {
        let b = lane(m, i, w);
        let b = if op.bit(29) { b } else { sx(w, b) as u64 };
        let a = lane(n, i, 2 * w);
        let value = if op.bit(13) { a.wrapping_sub(b) } else { a.wrapping_add(b) };
        result |= u128::from(value & low(2 * w)) << (i * 2 * w);
    }
    s.v[op.vd()] = result;
    Ok(Flow::Next)
}

/// ADDHN, RADDHN, SUBHN, RSUBHN: bit 13 is subtraction, bit 29 rounding.
pub(crate) fn high_narrow(s: &mut State, _: &Host, op: &Op) -> Step {
    let size = op.bits(23, 22);
    if size == 3 {
        return s.undefined(op);
    }
    let w = 8u32 << size;
    let (n, m) = (s.v[op.vn()], s.v[op.vm()]);
    let round = if op.bit(29) { 1u64 << (w - 1) } else { 0 };
    let mut result = 0u64;
    for i in 0..64 / w {
        let (a, b) = (lane(n, i, 2 * w), lane(m, i, 2 * w));
        let value = if op.bit(13) { a.wrapping_sub(b) } else { a.wrapping_add(b) };
        result |= (value.wrapping_add(round) >> w & low(w)) << (i * w);
    }
    write_half(s, op, result);
    Ok(Flow::Next)
}

/// Polynomial product of 64-bit numbers.
fn polynomial_wide(n: u64, m: u64) -> u128 {
    (0..64).filter(|i| m >> i & 1 == 1).fold(0, |product, i| product ^ u128::from(n) << i)
}

/// PMULL: 8 and 64 bits.
pub(crate) fn pmull(s: &mut State, _: &Host, op: &Op) -> Step {
    let (n, m) = (half(op, s.v[op.vn()]), half(op, s.v[op.vm()]));
    s.v[op.vd()] = match op.bits(23, 22) {
        0 => (0..8).fold(0, |result, i| {
            let product = polynomial(n >> (i * 8) & 0xff, m >> (i * 8) & 0xff);
            result | u128::from(product) << (i * 16)
        }),
        3 => polynomial_wide(n, m),
        _ => return s.undefined(op),
    };
    Ok(Flow::Next)
}

/// SDOT, UDOT (vector, by element).
pub(crate) fn dot(s: &mut State, _: &Host, op: &Op) -> Step {
    if op.bits(23, 22) != 2 {
        return s.undefined(op);
    }
    let extend = |value: u64| if op.bit(29) { value } else { sx(8, value) as u64 };
    let (n, m) = (s.v[op.vn()], operand_m(s, op, 2));
    let d = s.v[op.vd()];
    let mut result = 0u128;
    for i in 0..4 {
        let sum = (0..4).fold(lane(d, i, 32), |sum, j| {
            let (a, b) = (extend(lane(n, 4 * i + j, 8)), extend(lane(m, 4 * i + j, 8)));
            sum.wrapping_add(a.wrapping_mul(b))
        });
        result |= u128::from(sum & low(32)) << (i * 32);
    }
    s.v[op.vd()] = result & active(op, 2);
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
        let estimate = if op.bit(29) {
            if value >> 30 == 0 { u32::MAX } else { crate::float::root(value >> 23) << 23 }
        } else if value >> 31 == 0 {
            u32::MAX
        } else {
            crate::float::reciprocal(value >> 23) << 23
        };
        result |= u128::from(estimate) << (i * 32);
    }
    s.v[op.vd()] = result & active(op, 2);
    Ok(Flow::Next)
}
