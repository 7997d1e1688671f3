//! Advanced SIMD: floating point in single and half precision (manual F6.1; FEAT_FP16 for the latter).

use super::fields::Word;
use super::standard::Arithmetic;
use crate::exit::{Flow, Step};
use crate::float::{Comparison, Format, Half, HalfOperand, HostFormat, NanOperands, Order, Rounding, Single};
use crate::lanes::{arithmetic, broadcast, lane, permute, sx};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// Log2 of the bytes of a lane, from a field `z` of one bit (half precision if it is set) or two (the size).
fn size(word: &Word<'_>) -> Option<u32> {
    match (word.row.field('z')?.1, word.field('z')) {
        (1, half) => Some(2 - half),
        (_, size @ 1..=2) => Some(size),
        _ => None,
    }
}

/// Sets d to what `f` makes of the lanes of n, `m` and d.
#[inline(always)]
fn map<F: HostFormat>(
    s: &mut State,
    op: &Op,
    m: u128,
    mut f: impl FnMut(&mut Arithmetic, u64, u64, u64) -> u64,
) -> Step {
    let mut fpu = s.standard::<F>();
    let (n, d) = (s.vector(op.rn, op.is_quad()), s.vector(op.rd, op.is_quad()));
    let mut result = 0u128;
    for i in 0..if op.is_quad() { 128 } else { 64 } / F::WIDTH {
        let value = f(&mut fpu, lane(n, i, F::WIDTH), lane(m, i, F::WIDTH), lane(d, i, F::WIDTH));
        result |= u128::from(value) << (i * F::WIDTH);
    }
    s.set_vector(op.rd, op.is_quad(), result);
    s.accumulate::<F>(&fpu);
    Ok(Flow::Next)
}

/// The handler for half or single precision.
macro_rules! by_size {
    ($size:expr, $handler:ident $(, $parameter:expr)*) => {
        if $size == 1 { $handler::<HalfOperand $(, { $parameter })*> } else { $handler::<Single $(, { $parameter })*> }
    };
}

/// Decoders of operations on the lanes of n, m and d.
macro_rules! same {
    ($($(#[$doc:meta])* $name:ident, |$fpu:ident, $n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
                let m = s.vector(op.rm, op.is_quad());
                map::<F>(s, op, m, |$fpu, $n, $m, $d| $body)
            }
            let size = size(word)?;
            word.same_vectors(by_size!(size, run), size)
        }
    )*};
}

/// A mask of one lane.
#[inline(always)]
fn mask<F: HostFormat>(condition: bool) -> u64 {
    if condition { F::SIGN | (F::SIGN - 1) } else { 0 }
}

/// `a >= b`.
#[inline(always)]
fn at_least<F: HostFormat>(fpu: &mut Arithmetic, a: u64, b: u64) -> u64 {
    mask::<F>(matches!(fpu.compare::<F>(a, b, Comparison::Signalling), Order::Equal | Order::Greater))
}

/// `a > b`.
#[inline(always)]
fn above<F: HostFormat>(fpu: &mut Arithmetic, a: u64, b: u64) -> u64 {
    mask::<F>(fpu.compare::<F>(a, b, Comparison::Signalling) == Order::Greater)
}

/// `a == b`.
#[inline(always)]
fn equal<F: HostFormat>(fpu: &mut Arithmetic, a: u64, b: u64) -> u64 {
    mask::<F>(fpu.compare::<F>(a, b, Comparison::Quiet) == Order::Equal)
}

/// The number 1.
fn one<F: HostFormat>() -> u64 {
    (F::INFINITY >> 1) & !F::FRACTION_MASK
}

/// Whether a product is that of infinity and zero. Raises the flag of a subnormal operand that counts as
/// zero.
fn infinity_times_zero<F: HostFormat>(fpu: &mut Arithmetic, a: u64, b: u64) -> bool {
    let infinite = |bits: u64| bits & !F::SIGN == F::INFINITY;
    let (infinite, other) = match (infinite(a), infinite(b)) {
        (true, _) => (true, b),
        (_, true) => (true, a),
        _ => (false, a),
    };
    infinite && fpu.compare::<F>(other, 0, Comparison::Quiet) == Order::Equal
}

/// FPRecipStep: `2 - a * b`, rounded twice, unlike A64's.
fn reciprocal_step<F: HostFormat>(fpu: &mut Arithmetic, a: u64, b: u64) -> u64 {
    let two = one::<F>() + (1 << F::FRACTION);
    if infinity_times_zero::<F>(fpu, a, b) {
        return two;
    }
    let product = fpu.mul::<F>(a, b);
    fpu.sub::<F>(two, product)
}

/// FPRSqrtStep: `(3 - a * b) / 2`. To halve the difference is exact, for it is no smaller than the last place
/// of 3.
fn root_step<F: HostFormat>(fpu: &mut Arithmetic, a: u64, b: u64) -> u64 {
    let (half, three) = (one::<F>() - (1 << F::FRACTION), one::<F>() + (3 << (F::FRACTION - 1)));
    if infinity_times_zero::<F>(fpu, a, b) {
        return one::<F>() | F::QUIET;
    }
    let product = fpu.mul::<F>(a, b);
    let difference = fpu.sub::<F>(three, product);
    fpu.mul::<F>(difference, half)
}

same! {
    /// VADD.
    vadd, |fpu, n, m, _| fpu.add::<F>(n, m);
    /// VSUB.
    vsub, |fpu, n, m, _| fpu.sub::<F>(n, m);
    /// VABD.
    vabd, |fpu, n, m, _| fpu.sub::<F>(n, m) & !F::SIGN;
    /// VMUL.
    vmul, |fpu, n, m, _| fpu.mul::<F>(n, m);
    /// VMLA: rounds the product, too.
    vmla, |fpu, n, m, d| { let product = fpu.mul::<F>(n, m); fpu.add::<F>(d, product) };
    /// VMLS: rounds the product, too.
    vmls, |fpu, n, m, d| { let product = fpu.mul::<F>(n, m); fpu.sub::<F>(d, product) };
    /// VFMA.
    vfma, |fpu, n, m, d| fpu.mul_add::<F>(d, n, m);
    /// VFMS.
    vfms, |fpu, n, m, d| fpu.mul_add::<F>(d, n ^ F::SIGN, m);
    /// VMAX.
    vmax, |fpu, n, m, _| fpu.max::<F>(n, m, NanOperands::Win);
    /// VMIN.
    vmin, |fpu, n, m, _| fpu.min::<F>(n, m, NanOperands::Win);
    /// VMAXNM.
    vmaxnm, |fpu, n, m, _| fpu.max::<F>(n, m, NanOperands::QuietLose);
    /// VMINNM.
    vminnm, |fpu, n, m, _| fpu.min::<F>(n, m, NanOperands::QuietLose);
    /// VCEQ.
    vceq, |fpu, n, m, _| equal::<F>(fpu, n, m);
    /// VCGE.
    vcge, |fpu, n, m, _| at_least::<F>(fpu, n, m);
    /// VCGT.
    vcgt, |fpu, n, m, _| above::<F>(fpu, n, m);
    /// VACGE.
    vacge, |fpu, n, m, _| at_least::<F>(fpu, n & !F::SIGN, m & !F::SIGN);
    /// VACGT.
    vacgt, |fpu, n, m, _| above::<F>(fpu, n & !F::SIGN, m & !F::SIGN);
    /// VRECPS.
    vrecps, |fpu, n, m, _| reciprocal_step::<F>(fpu, n, m);
    /// VRSQRTS.
    vrsqrts, |fpu, n, m, _| root_step::<F>(fpu, n, m);
    /// VABS.
    vabs, |_fpu, _, m, _| m & !F::SIGN;
    /// VNEG.
    vneg, |_fpu, _, m, _| m ^ F::SIGN;
    /// VCGT with zero.
    vcgt_zero, |fpu, _, m, _| above::<F>(fpu, m, 0);
    /// VCGE with zero.
    vcge_zero, |fpu, _, m, _| at_least::<F>(fpu, m, 0);
    /// VCEQ with zero.
    vceq_zero, |fpu, _, m, _| equal::<F>(fpu, m, 0);
    /// VCLE with zero.
    vcle_zero, |fpu, _, m, _| at_least::<F>(fpu, 0, m);
    /// VCLT with zero.
    vclt_zero, |fpu, _, m, _| above::<F>(fpu, 0, m);
    /// VRECPE.
    vrecpe, |fpu, _, m, _| fpu.reciprocal_estimate::<F>(m);
    /// VRSQRTE.
    vrsqrte, |fpu, _, m, _| fpu.root_estimate::<F>(m);
    /// VRINTN.
    vrintn, |fpu, _, m, _| fpu.round_int::<F>(m, Rounding::TieEven, false);
    /// VRINTX.
    vrintx, |fpu, _, m, _| fpu.round_int::<F>(m, Rounding::TieEven, true);
    /// VRINTA.
    vrinta, |fpu, _, m, _| fpu.round_int::<F>(m, Rounding::TieAway, false);
    /// VRINTZ.
    vrintz, |fpu, _, m, _| fpu.round_int::<F>(m, Rounding::Zero, false);
    /// VRINTM.
    vrintm, |fpu, _, m, _| fpu.round_int::<F>(m, Rounding::MinusInfinity, false);
    /// VRINTP.
    vrintp, |fpu, _, m, _| fpu.round_int::<F>(m, Rounding::PlusInfinity, false);
}

/// Decoders of operations on lanes of n and d with a scalar; the lane of the scalar is the immediate.
macro_rules! by_scalar {
    ($($(#[$doc:meta])* $name:ident, |$fpu:ident, $n:pat_param, $m:pat_param, $d:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
                let m = broadcast(lane(s.vector(op.rm, false), op.imm32(), F::WIDTH), F::WIDTH);
                map::<F>(s, op, m, |$fpu, $n, $m, $d| $body)
            }
            let (size, quad) = (size(word)?, word.is('Q'));
            let (rm, index) = word.scalar(size);
            let op = Op { rm, ..word.vectors(by_size!(size, run), quad, size) }.with_imm(index);
            (!(quad && word.names_odd("dn"))).then_some(op)
        }
    )*};
}

by_scalar! {
    /// VMLA by a scalar.
    vmla_scalar, |fpu, n, m, d| { let product = fpu.mul::<F>(n, m); fpu.add::<F>(d, product) };
    /// VMLS by a scalar.
    vmls_scalar, |fpu, n, m, d| { let product = fpu.mul::<F>(n, m); fpu.sub::<F>(d, product) };
    /// VMUL by a scalar.
    vmul_scalar, |fpu, n, m, _| fpu.mul::<F>(n, m);
}

/// Decoders of operations on neighbours in doublewords.
macro_rules! pairwise {
    ($($(#[$doc:meta])* $name:ident, |$fpu:ident, $a:pat_param, $b:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
                let mut fpu = s.standard::<F>();
                let (n, m) = (s.vector(op.rn, false), s.vector(op.rm, false));
                let $fpu = &mut fpu;
                let result = permute::pairs(op.lane_size(), 64 / F::WIDTH, n, m, |$a, $b| $body);
                s.set_vector(op.rd, false, result);
                s.accumulate::<F>(&fpu);
                Ok(Flow::Next)
            }
            let size = size(word)?;
            (!word.is('Q')).then(|| word.vectors(by_size!(size, run), false, size))
        }
    )*};
}

pairwise! {
    /// VPADD.
    vpadd, |fpu, a, b| fpu.add::<F>(a, b);
    /// VPMAX.
    vpmax, |fpu, a, b| fpu.max::<F>(a, b, NanOperands::Win);
    /// VPMIN.
    vpmin, |fpu, a, b| fpu.min::<F>(a, b, NanOperands::Win);
}

/// VRECPE and, with `ROOT`, VRSQRTE of unsigned fixed-point numbers.
fn unsigned_estimate<const ROOT: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let m = s.vector(op.rm, op.is_quad());
    let estimate = if ROOT { arithmetic::ursqrte } else { arithmetic::urecpe };
    let result = (0..4).fold(0, |result, i| result | u128::from(estimate(lane(m, i, 32) as u32)) << (i * 32));
    s.set_vector(op.rd, op.is_quad(), result);
    Ok(Flow::Next)
}

/// VRECPE of unsigned numbers of 32 bits.
pub(crate) fn vrecpe_u(word: &Word<'_>) -> Option<Op> {
    if word.field('z') == 2 { word.same_vectors(unsigned_estimate::<false>, 2) } else { None }
}

/// VRSQRTE of unsigned numbers of 32 bits.
pub(crate) fn vrsqrte_u(word: &Word<'_>) -> Option<Op> {
    if word.field('z') == 2 { word.same_vectors(unsigned_estimate::<true>, 2) } else { None }
}

/// To an integer or, with fraction bits as the immediate, a fixed-point number.
fn to_fixed<F: HostFormat, const UNSIGNED: bool, const ROUNDING: u32>(
    s: &mut State,
    _: &Host,
    op: &Op,
) -> Step {
    let rounding = match ROUNDING {
        0 => Rounding::TieAway,
        1 => Rounding::TieEven,
        2 => Rounding::PlusInfinity,
        3 => Rounding::MinusInfinity,
        _ => Rounding::Zero,
    };
    let (m, fraction) = (s.vector(op.rm, op.is_quad()), op.imm32());
    map::<F>(s, op, m, |fpu, _, m, _| fpu.fixed_of::<F>(m, fraction, UNSIGNED, rounding, F::WIDTH))
}

/// [`to_fixed`]'s rounding to zero; 0 to 3 are as in the encodings.
const ZERO: u32 = 4;

/// From an integer or, with fraction bits as the immediate, a fixed-point number.
fn of_fixed<F: HostFormat, const UNSIGNED: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (m, fraction) = (s.vector(op.rm, op.is_quad()), op.imm32());
    map::<F>(s, op, m, |fpu, _, m, _| {
        let value = if UNSIGNED { m } else { sx(F::WIDTH, m) as u64 };
        fpu.float_of::<F>(value, fraction, UNSIGNED)
    })
}

/// VCVTA, VCVTN, VCVTP, VCVTM: `ROUNDING` 0 to 3; `u` is unsignedness.
pub(crate) fn vcvt_rounding<const ROUNDING: u32>(word: &Word<'_>) -> Option<Op> {
    let size = size(word)?;
    let run = if word.is('u') {
        by_size!(size, to_fixed, true, ROUNDING)
    } else {
        by_size!(size, to_fixed, false, ROUNDING)
    };
    word.same_vectors(run, size)
}

/// The handler of a conversion of lanes of `size`.
fn conversion(size: u32, to_fixed_point: bool, unsigned: bool) -> Handler {
    match (to_fixed_point, unsigned) {
        (false, false) => by_size!(size, of_fixed, false),
        (false, true) => by_size!(size, of_fixed, true),
        (true, false) => by_size!(size, to_fixed, false, ZERO),
        (true, true) => by_size!(size, to_fixed, true, ZERO),
    }
}

/// VCVT between floating point and integers: `t` to the latter, `u` for unsigned ones.
pub(crate) fn vcvt_integer(word: &Word<'_>) -> Option<Op> {
    let size = size(word)?;
    word.same_vectors(conversion(size, word.is('t'), word.is('u')), size)
}

/// VCVT between floating point and fixed point: `t` to the latter, `U` for unsigned ones; `f` is 1 for single
/// precision; `i` is 64 less the fraction bits.
pub(crate) fn vcvt_fixed(word: &Word<'_>) -> Option<Op> {
    let (size, fraction) = (word.field('f') + 1, 64 - word.field('i'));
    if fraction > 8 << size {
        return None;
    }
    Some(word.same_vectors(conversion(size, word.is('t'), word.is('U')), size)?.with_imm(fraction))
}

/// VCVT from single to half precision.
pub(crate) fn vcvt_to_half(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let mut fpu = s.standard_conversion();
        let m = s.vector(op.rm, true);
        let result = (0..4).fold(0, |result, i| {
            result | fpu.convert::<Single, Half>(lane(m, i, 32), Rounding::TieEven) << (i * 16)
        });
        s.set_vector(op.rd, false, u128::from(result));
        s.accumulate::<Single>(&fpu);
        Ok(Flow::Next)
    }
    (word.field('z') == 1 && !word.names_odd("m")).then(|| word.vectors(run, false, 1))
}

/// VCVT from half to single precision.
pub(crate) fn vcvt_of_half(word: &Word<'_>) -> Option<Op> {
    fn run(s: &mut State, _: &Host, op: &Op) -> Step {
        let mut fpu = s.standard_conversion();
        let m = s.vector(op.rm, false);
        let result = (0..4).fold(0, |result, i| {
            let value = fpu.convert::<Half, Single>(lane(m, i, 16), Rounding::TieEven);
            result | u128::from(value) << (i * 32)
        });
        s.set_vector(op.rd, true, result);
        s.accumulate::<Single>(&fpu);
        Ok(Flow::Next)
    }
    (word.field('z') == 1 && !word.names_odd("d")).then(|| word.vectors(run, true, 1))
}

/// Bit 0 of the immediate is the lane of a scalar, the bits above it are a rotation.
#[inline(always)]
fn complex_operand<F: HostFormat, const SCALAR: bool>(s: &State, op: &Op) -> u128 {
    if SCALAR {
        let width = 2 * F::WIDTH;
        broadcast(lane(s.vector(op.rm, false), op.imm32() & 1, width), width)
    } else {
        s.vector(op.rm, op.is_quad())
    }
}

/// Pairs of lanes are complex numbers. `f` gets the pairs of n, m and d.
#[inline(always)]
fn map_complex<F: HostFormat>(
    s: &mut State,
    op: &Op,
    m: u128,
    mut f: impl FnMut(&mut Arithmetic, [u64; 2], [u64; 2], [u64; 2]) -> [u64; 2],
) -> Step {
    let mut fpu = s.standard::<F>();
    let (n, d) = (s.vector(op.rn, op.is_quad()), s.vector(op.rd, op.is_quad()));
    let mut result = 0u128;
    for i in (0..if op.is_quad() { 128 } else { 64 } / F::WIDTH).step_by(2) {
        let pair = |vector| [lane(vector, i, F::WIDTH), lane(vector, i + 1, F::WIDTH)];
        let [low, high] = f(&mut fpu, pair(n), pair(m), pair(d));
        result |= (u128::from(low) | u128::from(high) << F::WIDTH) << (i * F::WIDTH);
    }
    s.set_vector(op.rd, op.is_quad(), result);
    s.accumulate::<F>(&fpu);
    Ok(Flow::Next)
}

fn complex_add<F: HostFormat>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (m, rotation) = (s.vector(op.rm, op.is_quad()), op.imm32());
    // By 90 degrees the imaginary part is negative, by 270 degrees the real one.
    let (low, high) = if rotation == 0 { (F::SIGN, 0) } else { (0, F::SIGN) };
    map_complex::<F>(s, op, m, |fpu, n, m, _| {
        [fpu.add::<F>(n[0], m[1] ^ low), fpu.add::<F>(n[1], m[0] ^ high)]
    })
}

/// VCADD: `S` is set for single precision, `r` is the rotation.
pub(crate) fn vcadd(word: &Word<'_>) -> Option<Op> {
    let size = 1 + word.field('S');
    Some(word.same_vectors(by_size!(size, complex_add), size)?.with_imm(word.field('r')))
}

fn complex_multiply_add<F: HostFormat, const SCALAR: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (m, rotation) = (complex_operand::<F, SCALAR>(s, op), op.imm32() >> 1);
    let (low, high) = match rotation {
        0 => (0, 0),
        1 => (F::SIGN, 0),
        2 => (F::SIGN, F::SIGN),
        _ => (0, F::SIGN),
    };
    // By 90 and 270 degrees the imaginary part of n is taken, and the parts of m change places.
    let turned = rotation as usize & 1;
    map_complex::<F>(s, op, m, |fpu, n, m, d| {
        let (real, imaginary) = (m[turned] ^ low, m[1 - turned] ^ high);
        [fpu.mul_add::<F>(d[0], n[turned], real), fpu.mul_add::<F>(d[1], n[turned], imaginary)]
    })
}

/// VCMLA: `S` is set for single precision, `r` is the rotation.
pub(crate) fn vcmla(word: &Word<'_>) -> Option<Op> {
    let size = 1 + word.field('S');
    let op = word.same_vectors(by_size!(size, complex_multiply_add, false), size)?;
    Some(op.with_imm(word.field('r') << 1))
}

/// VCMLA by a scalar: `S` is set for single precision, `r` is the rotation.
pub(crate) fn vcmla_scalar(word: &Word<'_>) -> Option<Op> {
    let (size, quad) = (1 + word.field('S'), word.is('Q'));
    let (rm, index) =
        if size == 1 { (word.field('m') as u8, word.field('M')) } else { (word.double('m'), 0) };
    let run = by_size!(size, complex_multiply_add, true);
    let op = Op { rm, ..word.vectors(run, quad, size) }.with_imm(word.field('r') << 1 | index);
    (!(quad && word.names_odd("dn"))).then_some(op)
}

/// Where VFMAL and VFMSL find their halves: n and m are D registers if d is a quadword, else S registers. The
/// immediate is the lane of a scalar.
#[inline(always)]
fn halves(s: &State, op: &Op, number: u8) -> u128 {
    let single = || lane(s.vector(number >> 1, false), u32::from(number & 1), 32);
    if op.is_quad() { s.vector(number, false) } else { u128::from(single()) }
}

/// A number in half precision as one in single precision.
fn wide(fpu: &mut Arithmetic, flush: bool, half: u64) -> u64 {
    let zero = flush && half & Half::INFINITY == 0;
    fpu.convert::<Half, Single>(if zero { half & Half::SIGN } else { half }, Rounding::TieEven)
}

/// Products of halves, exact, are added to lanes of d in single precision.
fn multiply_add_long<const SUBTRACT: bool, const SCALAR: bool>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (mut fpu, flush) = (s.standard::<Single>(), s.flushes_half());
    let (n, m, d) = (halves(s, op, op.rn), halves(s, op, op.rm), s.vector(op.rd, op.is_quad()));
    let m = if SCALAR { broadcast(lane(m, op.imm32(), 16), 16) } else { m };
    let mut result = 0u128;
    for i in 0..if op.is_quad() { 4 } else { 2 } {
        let sign = if SUBTRACT { Single::SIGN } else { 0 };
        let (a, b) = (wide(&mut fpu, flush, lane(n, i, 16)) ^ sign, wide(&mut fpu, flush, lane(m, i, 16)));
        result |= u128::from(fpu.mul_add::<Single>(lane(d, i, 32), a, b)) << (i * 32);
    }
    s.set_vector(op.rd, op.is_quad(), result);
    s.accumulate::<Single>(&fpu);
    Ok(Flow::Next)
}

/// The instruction; `m` and `index` are those of a scalar.
fn long(word: &Word<'_>, run: Handler, scalar: Option<(u8, u32)>) -> Option<Op> {
    let quad = word.is('Q');
    let single = |letter: char| (word.field(letter) << 1 | word.field(letter.to_ascii_uppercase())) as u8;
    let register = |letter: char| if quad { word.double(letter) } else { single(letter) };
    let (rm, index) = scalar.unwrap_or_else(|| (register('m'), 0));
    let op = Op { rn: register('n'), rm, ..word.vectors(run, quad, 2) }.with_imm(index);
    (!(quad && word.names_odd("d"))).then_some(op)
}

/// VFMAL and, with `SUBTRACT`, VFMSL.
pub(crate) fn vfmal<const SUBTRACT: bool>(word: &Word<'_>) -> Option<Op> {
    long(word, multiply_add_long::<SUBTRACT, false>, None)
}

/// VFMAL and, with `SUBTRACT`, VFMSL by a scalar.
pub(crate) fn vfmal_scalar<const SUBTRACT: bool>(word: &Word<'_>) -> Option<Op> {
    let (m, high) = (word.field('m'), word.field('M'));
    let scalar = if word.is('Q') { word.scalar(1) } else { ((m & 7) as u8 * 2 + high as u8, m >> 3) };
    long(word, multiply_add_long::<SUBTRACT, true>, Some(scalar))
}
