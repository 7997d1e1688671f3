//! Advanced SIMD: integer operations whose operands and results have the same length (manual F6.1).

use super::fields::Word;
use super::vectors::lanewise;
use crate::exit::{Flow, Step};
use crate::lanes::{arithmetic, broadcast, lane, long, low, permute};
use crate::op::{Host, Op};
use crate::state::State;

/// Which lanes an operation has: a bit for 8, 16, 32 and 64 bits each.
const ALL: u32 = 0b1111;
const NARROW: u32 = 0b0111;
const MIDDLE: u32 = 0b0110;
const BYTES: u32 = 0b0001;

/// The size in the field `z`; `None` if the operation does not have it.
fn size(word: &Word<'_>, sizes: u32) -> Option<u32> {
    let size = word.field('z');
    (sizes >> size & 1 == 1).then_some(size)
}

/// Decoders of operations on lanes of n, m and d.
macro_rules! same {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let m = s.vector(op.rm, op.is_quad());
                lanewise(s, op, m, arithmetic::$operation)
            }
            word.same_vectors(run, size(word, $sizes)?)
        }
    )*};
}

same! {
    /// VHADD, signed.
    vhadd_s, NARROW, shadd;
    /// VHADD, unsigned.
    vhadd_u, NARROW, uhadd;
    /// VRHADD, signed.
    vrhadd_s, NARROW, srhadd;
    /// VRHADD, unsigned.
    vrhadd_u, NARROW, urhadd;
    /// VHSUB, signed.
    vhsub_s, NARROW, shsub;
    /// VHSUB, unsigned.
    vhsub_u, NARROW, uhsub;
    /// VQADD, signed.
    vqadd_s, ALL, sqadd;
    /// VQADD, unsigned.
    vqadd_u, ALL, uqadd;
    /// VQSUB, signed.
    vqsub_s, ALL, sqsub;
    /// VQSUB, unsigned.
    vqsub_u, ALL, uqsub;
    /// VCGT, signed.
    vcgt_s, NARROW, cmgt;
    /// VCGT, unsigned.
    vcgt_u, NARROW, cmhi;
    /// VCGE, signed.
    vcge_s, NARROW, cmge;
    /// VCGE, unsigned.
    vcge_u, NARROW, cmhs;
    /// VCEQ.
    vceq, NARROW, cmeq;
    /// VTST.
    vtst, NARROW, cmtst;
    /// VMAX, signed.
    vmax_s, NARROW, smax;
    /// VMAX, unsigned.
    vmax_u, NARROW, umax;
    /// VMIN, signed.
    vmin_s, NARROW, smin;
    /// VMIN, unsigned.
    vmin_u, NARROW, umin;
    /// VABD, signed.
    vabd_s, NARROW, sabd;
    /// VABD, unsigned.
    vabd_u, NARROW, uabd;
    /// VABA, signed.
    vaba_s, NARROW, saba;
    /// VABA, unsigned.
    vaba_u, NARROW, uaba;
    /// VADD.
    vadd, ALL, add;
    /// VSUB.
    vsub, ALL, sub;
    /// VMLA.
    vmla, NARROW, mla;
    /// VMLS.
    vmls, NARROW, mls;
    /// VMUL.
    vmul, NARROW, mul;
    /// VMUL of polynomials.
    vmul_p, BYTES, pmul;
    /// VQDMULH.
    vqdmulh, MIDDLE, sqdmulh;
    /// VQRDMULH.
    vqrdmulh, MIDDLE, sqrdmulh;
    /// VQRDMLAH.
    vqrdmlah, MIDDLE, sqrdmlah;
    /// VQRDMLSH.
    vqrdmlsh, MIDDLE, sqrdmlsh;
}

/// Decoders of shifts of lanes of m by lanes of n.
macro_rules! shifts {
    ($($(#[$doc:meta])* $name:ident, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let m = s.vector(op.rm, op.is_quad());
                lanewise(s, op, m, arithmetic::$operation)
            }
            word.same_vectors(run, size(word, ALL)?).map(Op::exchanged)
        }
    )*};
}

shifts! {
    /// VSHL by registers, signed.
    vshl_s, sshl;
    /// VSHL by registers, unsigned.
    vshl_u, ushl;
    /// VRSHL, signed.
    vrshl_s, srshl;
    /// VRSHL, unsigned.
    vrshl_u, urshl;
    /// VQSHL by registers, signed.
    vqshl_s, sqshl;
    /// VQSHL by registers, unsigned.
    vqshl_u, uqshl;
    /// VQRSHL, signed.
    vqrshl_s, sqrshl;
    /// VQRSHL, unsigned.
    vqrshl_u, uqrshl;
}

/// Decoders of operations on lanes of m alone.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident, $sizes:expr, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                lanewise(s, op, 0, arithmetic::$operation)
            }
            word.same_vectors(run, size(word, $sizes)?).map(Op::exchanged)
        }
    )*};
}

unary! {
    /// VABS.
    vabs, NARROW, abs;
    /// VNEG.
    vneg, NARROW, neg;
    /// VQABS.
    vqabs, NARROW, sqabs;
    /// VQNEG.
    vqneg, NARROW, sqneg;
    /// VCGT with zero.
    vcgt_zero, NARROW, cmgt_zero;
    /// VCGE with zero.
    vcge_zero, NARROW, cmge_zero;
    /// VCEQ with zero.
    vceq_zero, NARROW, cmeq_zero;
    /// VCLE with zero.
    vcle_zero, NARROW, cmle_zero;
    /// VCLT with zero.
    vclt_zero, NARROW, cmlt_zero;
    /// VCLS.
    vcls, NARROW, cls;
    /// VCLZ.
    vclz, NARROW, clz;
    /// VCNT.
    vcnt, BYTES, cnt;
}

/// Decoders of operations on lanes of n and d with a scalar; the lane of the scalar is the immediate.
macro_rules! by_scalar {
    ($($(#[$doc:meta])* $name:ident, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let width = 8 << op.lane_size();
                let m = broadcast(lane(s.vector(op.rm, false), op.imm32(), width), width);
                let m = if op.is_quad() { m } else { m & u128::from(u64::MAX) };
                lanewise(s, op, m, arithmetic::$operation)
            }
            let size = size(word, MIDDLE)?;
            let quad = word.is('Q');
            if quad && word.names_odd("dn") {
                return None;
            }
            let (rm, index) = word.scalar(size);
            Some(Op { rm, ..word.vectors(run, quad, size) }.with_imm(index))
        }
    )*};
}

by_scalar! {
    /// VMLA by a scalar.
    vmla_scalar, mla;
    /// VMLS by a scalar.
    vmls_scalar, mls;
    /// VMUL by a scalar.
    vmul_scalar, mul;
    /// VQDMULH by a scalar.
    vqdmulh_scalar, sqdmulh;
    /// VQRDMULH by a scalar.
    vqrdmulh_scalar, sqrdmulh;
    /// VQRDMLAH by a scalar.
    vqrdmlah_scalar, sqrdmlah;
    /// VQRDMLSH by a scalar.
    vqrdmlsh_scalar, sqrdmlsh;
}

/// Decoders of operations on neighbours in doublewords.
macro_rules! pairwise {
    ($($(#[$doc:meta])* $name:ident, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let (size, n, m) = (op.lane_size(), s.vector(op.rn, false), s.vector(op.rm, false));
                let w = 8 << size;
                let result = permute::pairs(size, 8 >> size, n, m, |a, b| {
                    arithmetic::$operation(&mut false, w, a, b, 0) & low(w)
                });
                s.set_vector(op.rd, false, result);
                Ok(Flow::Next)
            }
            let size = size(word, NARROW)?;
            (!word.is('Q')).then(|| word.vectors(run, false, size))
        }
    )*};
}

pairwise! {
    /// VPADD.
    vpadd, add;
    /// VPMAX, signed.
    vpmax_s, smax;
    /// VPMAX, unsigned.
    vpmax_u, umax;
    /// VPMIN, signed.
    vpmin_s, smin;
    /// VPMIN, unsigned.
    vpmin_u, umin;
}

fn add_pairs<const ACCUMULATE: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let d = if ACCUMULATE { s.vector(op.rd, op.is_quad()) } else { 0 };
    let result = long::add_pairs(op.lane_size(), op.imm32() != 0, s.vector(op.rm, op.is_quad()), d);
    s.set_vector(op.rd, op.is_quad(), result);
    Ok(Flow::Next)
}

/// VPADDL; `u` is unsignedness.
pub(crate) fn vpaddl(word: &Word<'_>) -> Option<Op> {
    Some(word.same_vectors(add_pairs::<false>, size(word, NARROW)?)?.with_imm(word.field('u')))
}

/// VPADAL; `u` is unsignedness.
pub(crate) fn vpadal(word: &Word<'_>) -> Option<Op> {
    Some(word.same_vectors(add_pairs::<true>, size(word, NARROW)?)?.with_imm(word.field('u')))
}

/// Decoders of operations on the bits of n, m and d.
macro_rules! bitwise {
    ($($(#[$doc:meta])* $name:ident, |$n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let vector = |number| s.vector(number, op.is_quad());
                let ($n, $m, $d) = (vector(op.rn), vector(op.rm), vector(op.rd));
                s.set_vector(op.rd, op.is_quad(), $body);
                Ok(Flow::Next)
            }
            word.same_vectors(run, 0)
        }
    )*};
}

bitwise! {
    /// VAND.
    vand, |n, m, _| n & m;
    /// VBIC.
    vbic, |n, m, _| n & !m;
    /// VORR.
    vorr, |n, m, _| n | m;
    /// VORN.
    vorn, |n, m, _| n | !m;
    /// VEOR.
    veor, |n, m, _| n ^ m;
    /// VBSL.
    vbsl, |n, m, d| (n & d) | (m & !d);
    /// VBIT.
    vbit, |n, m, d| (n & m) | (d & !m);
    /// VBIF.
    vbif, |n, m, d| (d & m) | (n & !m);
    /// VMVN.
    vmvn, |_, m, _| !m;
}
