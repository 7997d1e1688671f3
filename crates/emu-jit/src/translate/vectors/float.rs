//! Advanced SIMD floating point, and the scalar forms in its encoding space (manual C4.1.97).
//!
//! As with scalars ([`super::float`]), the host computes, and cases in which it differs go to the
//! interpreter: what the host signals, NaNs that it passes on in another order, and operands that would raise
//! a flag only on the host. Forms of 64 bits compute the low half twice, so that the upper half raises no
//! other flag.

use super::form::Form;
use super::lanes::{
    ADD as ADD_INTEGERS, AND, EQUAL_OR_UNORDERED, EQUAL_QUIET, GREATER, OR, UNORDERED, UNORDERED_QUIET, XOR,
    above_smallest, lanes,
};
use super::scalar::Way;
use crate::layout::{X0, X1, X2, vector};
use crate::translate::{Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Cc, Label, Map, Prefix, Reg, Rm, Size, Xmm};

/// The host's arithmetic (map 0F).
const ADD: u8 = 0x58;
const MULTIPLY: u8 = 0x59;
const SUBTRACT: u8 = 0x5c;
const DIVIDE: u8 = 0x5e;
const ROOT: u8 = 0x51;
const MAX: u8 = 0x5f;
const MIN: u8 = 0x5d;
/// VFMADD231 and VFNMADD231 of vectors; the next opcodes are those of scalars.
const FUSED: u8 = 0xb8;
const FUSED_NEGATED: u8 = 0xbc;

/// More predicates of VCMP.
const LESS: u8 = 0x01;
const LESS_EQUAL: u8 = 0x02;
const ORDERED_QUIET: u8 = 0x07;
const GREATER_EQUAL: u8 = 0x0d;
const GREATER_THAN: u8 = 0x0e;
const GREATER_EQUAL_QUIET: u8 = 0x1d;

/// Bit of VROUND's mode: no inexactness is raised.
const SILENT: u8 = 8;
const TO_ZERO: u8 = 3;

/// Which lanes an instruction computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::translate) struct Lanes {
    pub(in crate::translate) double: bool,
    scalar: bool,
    /// All 128 bits.
    q: bool,
}

impl Lanes {
    /// By bit 22; `None` for 1D, which is reserved.
    fn of(f: Form) -> Option<Lanes> {
        let (double, scalar, q) = (f.size & 1 == 1, f.scalar, f.q);
        (scalar || q || !double).then_some(Lanes { double, scalar, q })
    }

    /// log2 of the bytes of a lane.
    fn log2(self) -> u32 {
        2 + u32::from(self.double)
    }

    /// The bits of 2^`exponent`.
    fn power(self, exponent: i32) -> u64 {
        if self.double { ((1023 + exponent) as u64) << 52 } else { ((127 + exponent) as u64) << 23 }
    }

    fn infinity(self) -> u64 {
        self.power(if self.double { 1024 } else { 128 })
    }

    fn sign(self) -> u64 {
        if self.double { 1 << 63 } else { 1 << 31 }
    }
}

/// How a conversion to an integer rounds: FPCR's number, or `None` for nearest with ties away from zero.
type Mode = Option<u8>;

impl<I: Isa> Translator<'_, I> {
    /// `value` in all lanes, as an operand in memory.
    fn lanes_constant(&mut self, l: Lanes, value: u64) -> Rm {
        self.constant(lanes(l.log2(), value))
    }

    /// A register with the lanes of an operand.
    pub(in crate::translate) fn lanes_get(&mut self, l: Lanes, n: u8, scratch: Xmm) -> Xmm {
        if l.scalar || l.q {
            return self.vget(n, scratch);
        }
        self.vget_twice(scratch, n);
        scratch
    }

    /// The operand Vm, or its element. May be xmm1.
    fn lanes_second(&mut self, f: Form, l: Lanes) -> Rm {
        if let Some(lane) = f.lane {
            self.duplicate(l.log2() as u8, X1, f.m, lane);
            return X1.into();
        }
        if l.q || l.scalar { self.vsource(f.m, X1) } else { self.lanes_get(l, f.m, X1).into() }
    }

    /// [`Translator::lanes_second`] in a register.
    fn lanes_second_register(&mut self, f: Form, l: Lanes) -> Xmm {
        match self.lanes_second(f, l) {
            Rm::R(register) => Xmm(register),
            _ => self.vget(f.m, X1),
        }
    }

    /// An instruction of map 0F.
    fn lanes_op(&mut self, l: Lanes, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        if l.scalar {
            self.a.vscalar(l.double, opcode, d, a, b);
        } else {
            self.a.vpacked(l.double, opcode, d, a, b);
        }
    }

    /// `d` = a mask of the lanes that the predicate holds for.
    fn lanes_compare(&mut self, l: Lanes, predicate: u8, d: Xmm, a: Xmm, b: Xmm) {
        self.lanes_op(l, 0xc2, d, a, b);
        self.a.byte(predicate);
    }

    fn lanes_fused(&mut self, l: Lanes, opcode: u8, d: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.a.vfused(l.double, opcode + u8::from(l.scalar), d, a, b);
    }

    /// `d = a` rounded to integers.
    fn lanes_round(&mut self, l: Lanes, d: Xmm, a: Xmm, mode: u8) {
        let opcode = 0x08 + u8::from(l.double);
        if l.scalar {
            self.a.vp3a(opcode + 2, d, a, a, mode);
        } else {
            self.a.vp3a(opcode, d, Xmm(0), a, mode);
        }
    }

    /// Vd = `t`; `clean` says that the bits above a scalar are zero.
    pub(in crate::translate) fn lanes_put(&mut self, l: Lanes, d: u8, t: Xmm, clean: bool) {
        if l.scalar { self.vput_scalar(l.double, d, t, clean) } else { self.finish(l.q, d, t) }
    }

    /// Jumps to the interpreter if the sign of a lane is set. Changes rax.
    pub(in crate::translate) fn unless_any(&mut self, l: Lanes, mask: Xmm, slow: Label) {
        // VMOVMSKPS, VMOVMSKPD.
        let prefix = if l.double { Prefix::P66 } else { Prefix::None };
        self.a.vex(prefix, Map::M0F, false, 0x50, Reg::RAX.0, 0, mask);
        if l.scalar {
            self.a.test_imm8(Reg::RAX, 1);
        } else {
            self.a.test(Size::D, Reg::RAX, Reg::RAX);
        }
        self.a.jump_if(Cc::Ne, slow);
    }

    /// Jumps to the interpreter if a lane of `a` or `b` is a NaN and the instruction is wary. Changes rax and
    /// `scratch`.
    fn unless_unordered(&mut self, l: Lanes, a: Xmm, b: Xmm, scratch: Xmm, way: Way) {
        let Some((_, slow)) = way.filter(|_| self.wary) else { return };
        if l.scalar {
            self.a.vucomis(l.double, a, b);
            self.a.jump_if(Cc::P, slow);
            return;
        }
        self.lanes_compare(l, UNORDERED_QUIET, scratch, a, b);
        self.unless_any(l, scratch, slow);
    }

    /// Jumps to the interpreter if a lane of the result `t` is a NaN and the instruction is wary; with the
    /// standard modes, such a NaN is signalled otherwise. Changes rax and xmm1.
    fn unless_any_nan(&mut self, l: Lanes, t: Xmm, way: Way) {
        if self.standard && !self.wary {
            return self.lanes_compare(l, UNORDERED, X1, t, t);
        }
        self.unless_unordered(l, t, t, X1, way);
    }

    /// Like [`Translator::unless_any_nan`], for products, quotients and narrower numbers: if subnormal
    /// numbers are flushed, the smallest normal number goes to the interpreter too, since Arm tests before
    /// rounding and the host after it.
    fn unless_special(&mut self, l: Lanes, t: Xmm, way: Way) {
        match way {
            _ if !self.flushes() => self.unless_any_nan(l, t, way),
            Some((_, slow)) if self.wary => self.unless_equal(l, t, EQUAL_OR_UNORDERED, slow),
            _ => self.signal_smallest(l, t, self.standard),
        }
    }

    /// The second part of [`Translator::unless_special`].
    fn unless_smallest(&mut self, l: Lanes, t: Xmm, way: Way) {
        match way {
            _ if !self.flushes() => {}
            Some((_, slow)) if self.wary => self.unless_equal(l, t, EQUAL_QUIET, slow),
            _ => self.signal_smallest(l, t, false),
        }
    }

    /// Jumps to the interpreter if the magnitude of a lane of `t` compares with the smallest normal number by
    /// a predicate of VCMP. Changes rax and xmm1.
    fn unless_equal(&mut self, l: Lanes, t: Xmm, predicate: u8, slow: Label) {
        let magnitude = self.lanes_constant(l, l.sign() - 1);
        self.a.vp(AND, X1, t, magnitude);
        let smallest = self.lanes_constant(l, l.power(if l.double { -1022 } else { -126 }));
        self.lanes_op(l, 0xc2, X1, X1, smallest);
        self.a.byte_behind_operand(predicate);
        self.unless_any(l, X1, slow);
    }

    /// Signals lanes of `t` with the smallest normal magnitude, some of little more, and if `nans` all NaNs:
    /// an addition of integers makes NaNs of them ([`above_smallest`]), and a comparison signals these. That
    /// needs no branch, and leaves the host's way from vector to general registers, which stores use too,
    /// alone. Changes xmm1.
    fn signal_smallest(&mut self, l: Lanes, t: Xmm, nans: bool) {
        debug_assert_ne!(t, X1);
        let addend = self.lanes_constant(l, above_smallest(l.log2()));
        self.a.vp(ADD_INTEGERS[l.log2() as usize] as u8, X1, t, addend);
        if nans {
            self.lanes_compare(l, UNORDERED, X1, t, X1);
        } else {
            self.lanes_compare(l, UNORDERED_QUIET, X1, X1, X1);
        }
    }

    /// Jumps to the interpreter if a magnitude is not below the number whose bits are `limit` or, for
    /// `unsigned` results, a sign is set. Changes rax and xmm15.
    pub(in crate::translate) fn unless_below(
        &mut self,
        l: Lanes,
        a: Xmm,
        limit: u64,
        unsigned: bool,
        slow: Label,
    ) {
        let last = self.lanes_constant(l, limit - 1);
        let greater = GREATER[l.log2() as usize];
        if unsigned {
            self.packed(greater, X2, a, last);
            self.a.vp(OR, X2, X2, a);
        } else {
            let magnitude = self.lanes_constant(l, l.sign() - 1);
            self.a.vp(AND, X2, a, magnitude);
            self.packed(greater, X2, X2, last);
        }
        self.unless_any(l, X2, slow);
    }

    /// Three operands of one shape: opcodes from 11000 on.
    pub(in crate::translate) fn float_three_same(&mut self, f: Form) -> Lowered {
        let Some(l) = Lanes::of(f).filter(|_| self.host_float()) else { return Lowered::No };
        let opcode = (f.opcode & 7, u8::from(f.unsigned), (f.size >> 1) as u8);
        let has_scalars = matches!(opcode, (2, 1, 1) | (3, 0, 0) | (4 | 5, ..) | (7, 0, _));
        if l.scalar && !has_scalars {
            return Lowered::No;
        }
        match opcode {
            // FMAXNM, FMINNM, FMAX, FMIN: without NaNs they are the same.
            (0 | 6, 0, less) => self.lanes_extreme(f, l, less == 0),
            (0 | 6, 1, less) => self.pairs_extreme(f, l, less == 0),
            (1, 0, 0) => self.lanes_multiply_add(f, l, FUSED),
            (1, 0, 1) => self.lanes_multiply_add(f, l, FUSED_NEGATED),
            (2, 0, 0) => self.lanes_arithmetic(f, l, ADD),
            (2, 0, 1) => self.lanes_arithmetic(f, l, SUBTRACT),
            (2, 1, 0) => self.pairs_add(f, l),
            (2, 1, 1) => self.absolute_difference(f, l),
            (3, 0, 0) => self.multiply_extended(f, l),
            (3, 1, 0) => self.lanes_arithmetic(f, l, MULTIPLY),
            (4, 0, 0) => self.compare_lanes(f, l, EQUAL_QUIET, false),
            (4, 1, 0) => self.compare_lanes(f, l, GREATER_EQUAL, false),
            (4, 1, 1) => self.compare_lanes(f, l, GREATER_THAN, false),
            (5, 1, 0) => self.compare_lanes(f, l, GREATER_EQUAL, true),
            (5, 1, 1) => self.compare_lanes(f, l, GREATER_THAN, true),
            (7, 0, root) => self.newton_step(f, l, root == 1),
            (7, 1, 0) => self.lanes_arithmetic(f, l, DIVIDE),
            _ => Lowered::No,
        }
    }

    /// FMLA, FMLS, FMUL, FMULX by element.
    pub(in crate::translate) fn float_by_element(&mut self, f: Form) -> Lowered {
        let Some(l) = Lanes::of(f).filter(|_| self.host_float()) else { return Lowered::No };
        match (f.opcode, f.unsigned) {
            (0b0001, false) => self.lanes_multiply_add(f, l, FUSED),
            (0b0101, false) => self.lanes_multiply_add(f, l, FUSED_NEGATED),
            (0b1001, false) => self.lanes_arithmetic(f, l, MULTIPLY),
            (0b1001, true) => self.multiply_extended(f, l),
            _ => Lowered::No,
        }
    }

    fn lanes_arithmetic(&mut self, f: Form, l: Lanes, opcode: u8) -> Lowered {
        let (d, n) = (f.d, f.n);
        let scales = matches!(opcode, MULTIPLY | DIVIDE);
        let way = self.nan_way();
        let t = self.target(way, d, &[n, f.m]);
        let a = self.lanes_get(l, n, X0);
        let b = self.lanes_second(f, l);
        self.lanes_op(l, opcode, t, a, b);
        if scales {
            self.unless_special(l, t, way);
        } else {
            self.unless_any_nan(l, t, way);
        }
        self.lanes_put(l, d, t, self.vclean(l.double, n));
        self.way_ends(way);
        ONE
    }

    /// FMLA, FMLS.
    fn lanes_multiply_add(&mut self, f: Form, l: Lanes, opcode: u8) -> Lowered {
        let d = f.d;
        let way = self.nan_way();
        let mut t = self.lanes_get(l, d, X2);
        let a = self.lanes_get(l, f.n, X0);
        // Of two NaNs, Arm takes the addend and the host a factor; FMLS also negates a factor that is a NaN.
        // These NaNs are signalled.
        if !self.wary && !self.standard {
            self.lanes_compare(l, UNORDERED, X1, t, if opcode == FUSED { t } else { a });
        }
        if (way.is_some() || self.flushes()) && t != X2 {
            self.a.vload(X2, t);
            t = X2;
        }
        let b = self.lanes_second(f, l);
        self.lanes_fused(l, opcode, t, a, b);
        self.unless_special(l, t, way);
        self.lanes_put(l, d, t, self.vclean(l.double, d));
        self.way_ends(way);
        ONE
    }

    /// VMLA, VMLS of 32-bit Arm, also by an element: the product is rounded, too.
    pub(in crate::translate) fn lanes_multiply_then_add(&mut self, f: Form, subtracts: bool) -> Lowered {
        let Some(l) = Lanes::of(f).filter(|_| self.host_float()) else { return Lowered::No };
        let way = self.nan_way();
        let a = self.lanes_get(l, f.n, X0);
        let b = self.lanes_second(f, l);
        self.lanes_op(l, MULTIPLY, X0, a, b);
        self.unless_smallest(l, X0, way);
        let addend = self.lanes_get(l, f.d, X1);
        self.lanes_op(l, if subtracts { SUBTRACT } else { ADD }, X0, addend, X0);
        self.unless_any_nan(l, X0, way);
        self.lanes_put(l, f.d, X0, false);
        self.way_ends(way);
        ONE
    }

    /// VRECPS, `2 - n * m`, and VRSQRTS, `(3 - n * m) / 2`, of 32-bit Arm: the product is rounded, too. Next
    /// to 2 and 3 it does not matter whether a product is zero or the smallest number.
    pub(in crate::translate) fn lanes_step(&mut self, f: Form, root: bool) -> Lowered {
        let Some(l) = Lanes::of(f).filter(|_| self.host_float()) else { return Lowered::No };
        let way = self.nan_way();
        let a = self.lanes_get(l, f.n, X0);
        let b = self.lanes_second(f, l);
        self.lanes_op(l, MULTIPLY, X0, a, b);
        self.load_constant(X2, lanes(l.log2(), if root { three(l) } else { l.power(1) }));
        self.lanes_op(l, SUBTRACT, X0, X2, X0);
        if root {
            let half = self.lanes_constant(l, l.power(-1));
            self.lanes_op(l, MULTIPLY, X0, X0, half);
        }
        self.unless_any_nan(l, X0, way);
        self.lanes_put(l, f.d, X0, false);
        self.way_ends(way);
        ONE
    }

    /// FABD.
    fn absolute_difference(&mut self, f: Form, l: Lanes) -> Lowered {
        let way = self.nan_way();
        let a = self.lanes_get(l, f.n, X0);
        let b = self.lanes_second(f, l);
        self.lanes_op(l, SUBTRACT, X0, a, b);
        self.unless_any_nan(l, X0, way);
        let magnitude = self.lanes_constant(l, l.sign() - 1);
        self.a.vp(AND, X0, X0, magnitude);
        self.lanes_put(l, f.d, X0, self.vclean(l.double, f.n));
        self.way_ends(way);
        ONE
    }

    /// FMULX: zero times infinity raises nothing, so the host sees only finite numbers.
    fn multiply_extended(&mut self, f: Form, l: Lanes) -> Lowered {
        let (back, slow) = self.slow_way();
        let a = self.lanes_get(l, f.n, X0);
        let b = self.lanes_second_register(f, l);
        self.unless_below(l, a, l.infinity(), false, slow);
        self.unless_below(l, b, l.infinity(), false, slow);
        self.lanes_op(l, MULTIPLY, X0, a, b);
        self.unless_special(l, X0, Some((back, slow)));
        self.lanes_put(l, f.d, X0, self.vclean(l.double, f.n));
        self.a.bind(back);
        ONE
    }

    /// FRECPS, `2 - n * m`, and FRSQRTS, `(3 - n * m) / 2`, whose operands are small enough here to be halved
    /// at the end.
    fn newton_step(&mut self, f: Form, l: Lanes, root: bool) -> Lowered {
        let (back, slow) = self.slow_way();
        let a = self.lanes_get(l, f.n, X0);
        let b = self.lanes_second_register(f, l);
        let limit = match (root, l.double) {
            (false, _) => l.infinity(),
            (true, false) => l.power(63),
            (true, true) => l.power(511),
        };
        self.unless_below(l, a, limit, false, slow);
        self.unless_below(l, b, limit, false, slow);
        self.load_constant(X2, lanes(l.log2(), if root { three(l) } else { l.power(1) }));
        self.lanes_fused(l, FUSED_NEGATED, X2, a, b);
        if root {
            let half = self.lanes_constant(l, l.power(-1));
            self.lanes_op(l, MULTIPLY, X2, X2, half);
        }
        self.lanes_put(l, f.d, X2, false);
        self.a.bind(back);
        ONE
    }

    /// xmm0 = the greater or smaller of both, none a NaN. If both are zero, the host returns the second. So
    /// both orders are computed: the result is negative if both zeros are (FMAX), or if one is (FMIN).
    /// `scratch` is neither operand nor xmm0.
    fn extreme(&mut self, l: Lanes, max: bool, a: Xmm, b: Xmm, scratch: Xmm) {
        let opcode = if max { MAX } else { MIN };
        self.lanes_op(l, opcode, scratch, a, b);
        self.lanes_op(l, opcode, X0, b, a);
        self.a.vp(if max { AND } else { OR }, X0, X0, scratch);
        if self.flushes() {
            // The host's instructions return an operand unchanged.
            let one = self.lanes_constant(l, l.power(0));
            self.lanes_op(l, MULTIPLY, X0, X0, one);
        }
    }

    /// FMAX, FMIN, FMAXNM, FMINNM.
    fn lanes_extreme(&mut self, f: Form, l: Lanes, max: bool) -> Lowered {
        let way = self.nan_way();
        let a = self.lanes_get(l, f.n, X0);
        let b = self.lanes_second_register(f, l);
        self.unless_unordered(l, a, b, X2, way);
        self.extreme(l, max, a, b, X2);
        self.lanes_put(l, f.d, X0, false);
        self.way_ends(way);
        ONE
    }

    /// Even lanes of Vm:Vn to xmm15, odd ones to xmm0.
    fn lanes_of_pairs(&mut self, f: Form, l: Lanes) {
        let size = l.log2() as usize;
        let (a, b) = self.unzip_operands(f, size, l.q);
        self.unzip(size, false, a, b, X2);
        self.unzip(size, true, a, b, X0);
    }

    /// FADDP.
    fn pairs_add(&mut self, f: Form, l: Lanes) -> Lowered {
        let way = self.nan_way();
        self.lanes_of_pairs(f, l);
        self.lanes_op(l, ADD, X0, X2, X0);
        self.unless_any_nan(l, X0, way);
        self.finish(l.q, f.d, X0);
        self.way_ends(way);
        ONE
    }

    /// FMAXP, FMINP, FMAXNMP, FMINNMP.
    fn pairs_extreme(&mut self, f: Form, l: Lanes, max: bool) -> Lowered {
        let way = self.nan_way();
        self.lanes_of_pairs(f, l);
        self.unless_unordered(l, X2, X0, X1, way);
        self.extreme(l, max, X2, X0, X1);
        self.finish(l.q, f.d, X0);
        self.way_ends(way);
        ONE
    }

    /// FADDP, FMAXP, FMINP, FMAXNMP, FMINNMP of the two low lanes.
    pub(in crate::translate) fn float_scalar_pairwise(&mut self, f: Form) -> Lowered {
        let Some(l) = Lanes::of(f).filter(|_| self.host_float() && f.unsigned) else {
            return Lowered::No;
        };
        let less = f.size & 2 != 0;
        match f.opcode {
            0b0_1101 if !less => {}
            0b0_1100 | 0b0_1111 => {}
            _ => return Lowered::No,
        }
        let way = self.nan_way();
        let a = self.vget(f.n, X0);
        self.a.vpshufd(X1, a, if l.double { 0xee } else { 0x55 });
        if f.opcode == 0b0_1101 {
            self.lanes_op(l, ADD, X0, a, X1);
            self.unless_any_nan(l, X0, way);
        } else {
            self.unless_unordered(l, a, X1, X2, way);
            self.extreme(l, !less, a, X1, X2);
        }
        self.lanes_put(l, f.d, X0, false);
        self.way_ends(way);
        ONE
    }

    /// FMAXV, FMINV, FMAXNMV, FMINNMV.
    pub(in crate::translate) fn float_across(&mut self, f: Form) -> Lowered {
        if !self.host_float() || !f.unsigned || !f.q || f.size & 1 == 1 {
            return Lowered::No;
        }
        let l = Lanes { double: false, scalar: false, q: true };
        let way = self.nan_way();
        let a = self.vget(f.n, X0);
        self.unless_any_nan(l, a, way);
        self.a.vpshufd(X1, a, 0xb1);
        self.extreme(l, f.size & 2 == 0, a, X1, X2);
        self.a.vpshufd(X1, X0, 0x4e);
        self.extreme(l, f.size & 2 == 0, X0, X1, X2);
        self.vput_scalar(false, f.d, X0, false);
        self.way_ends(way);
        ONE
    }

    /// FCMEQ, FCMGE, FCMGT, and with magnitudes FACGE, FACGT.
    fn compare_lanes(&mut self, f: Form, l: Lanes, predicate: u8, magnitudes: bool) -> Lowered {
        let mut a = self.lanes_get(l, f.n, X0);
        let mut b = self.lanes_second_register(f, l);
        if magnitudes {
            let magnitude = self.lanes_constant(l, l.sign() - 1);
            self.a.vp(AND, X0, a, magnitude);
            self.a.vp(AND, X1, b, magnitude);
            (a, b) = (X0, X1);
        }
        let t = self.vresult(f.d);
        self.lanes_compare(l, predicate, t, a, b);
        self.lanes_put(l, f.d, t, self.vclean(l.double, f.n));
        ONE
    }

    /// Two registers, miscellaneous: opcodes 01100 to 01111 and from 10110 on.
    pub(in crate::translate) fn float_two_registers(&mut self, f: Form) -> Lowered {
        let (opcode, unsigned, second) = (f.opcode, f.unsigned, f.size & 2 != 0);
        let scalar = f.scalar;
        if matches!((opcode, second, scalar), (0b0_1111, true, false)) {
            return self.lanes_sign(f);
        }
        if !self.host_float() {
            return Lowered::No;
        }
        match (opcode, unsigned, second) {
            (0b1_0110, false, false) if !scalar => return self.narrow_lanes(f),
            (0b1_0111, false, false) if !scalar => return self.widen_lanes(f),
            _ => {}
        }
        let Some(l) = Lanes::of(f) else { return Lowered::No };
        match (opcode, unsigned, second) {
            (0b0_1100, false, true) => self.compare_with_zero(f, l, GREATER_THAN),
            (0b0_1100, true, true) => self.compare_with_zero(f, l, GREATER_EQUAL),
            (0b0_1101, false, true) => self.compare_with_zero(f, l, EQUAL_QUIET),
            (0b0_1101, true, true) => self.compare_with_zero(f, l, LESS_EQUAL),
            (0b0_1110, false, true) => self.compare_with_zero(f, l, LESS),
            (0b1_1010, _, false) => self.lanes_to_integers(f, l, Some(0), 0),
            (0b1_1010, _, true) => self.lanes_to_integers(f, l, Some(1), 0),
            (0b1_1011, _, false) => self.lanes_to_integers(f, l, Some(2), 0),
            (0b1_1011, _, true) => self.lanes_to_integers(f, l, Some(3), 0),
            (0b1_1100, _, false) => self.lanes_to_integers(f, l, None, 0),
            (0b1_1101, _, false) => self.integers_to_lanes(f, l, 0),
            (0b1_1101, _, true) => self.estimate(f, l),
            _ if scalar => Lowered::No,
            // FRINTN, FRINTA, FRINTP, FRINTM, FRINTX, FRINTZ, FRINTI.
            (0b1_1000, false, false) => self.round_lanes(f, l, SILENT),
            (0b1_1000, true, false) => self.round_lanes_away(f, l),
            (0b1_1000, false, true) => self.round_lanes(f, l, SILENT | 2),
            (0b1_1001, false, false) => self.round_lanes(f, l, SILENT | 1),
            (0b1_1001, true, false) => self.round_lanes(f, l, 0),
            (0b1_1001, false, true) => self.round_lanes(f, l, SILENT | TO_ZERO),
            (0b1_1001, true, true) => self.round_lanes(f, l, SILENT),
            (0b1_1111, true, true) => self.lanes_root(f, l),
            _ => Lowered::No,
        }
    }

    /// FABS, FNEG.
    fn lanes_sign(&mut self, f: Form) -> Lowered {
        let Some(l) = Lanes::of(f) else { return Lowered::No };
        let (a, t) = (self.vget(f.n, X0), self.vresult(f.d));
        let (opcode, mask) = if f.unsigned { (XOR, l.sign()) } else { (AND, l.sign() - 1) };
        let mask = self.lanes_constant(l, mask);
        self.a.vp(opcode, t, a, mask);
        self.finish(l.q, f.d, t);
        ONE
    }

    /// FSQRT.
    fn lanes_root(&mut self, f: Form, l: Lanes) -> Lowered {
        let way = self.nan_way();
        let a = self.lanes_get(l, f.n, X0);
        let t = self.target(way, f.d, &[f.n]);
        self.lanes_op(l, ROOT, t, Xmm(0), a);
        self.unless_any_nan(l, t, way);
        self.finish(l.q, f.d, t);
        self.way_ends(way);
        ONE
    }

    fn compare_with_zero(&mut self, f: Form, l: Lanes, predicate: u8) -> Lowered {
        let a = self.lanes_get(l, f.n, X0);
        let t = self.vresult(f.d);
        self.zero(X1);
        self.lanes_compare(l, predicate, t, a, X1);
        self.lanes_put(l, f.d, t, self.vclean(l.double, f.n));
        ONE
    }

    /// FRINTx except FRINTA: NaNs become quiet on Arm and on the host.
    fn round_lanes(&mut self, f: Form, l: Lanes, mode: u8) -> Lowered {
        let way = if self.standard { self.nan_way() } else { None };
        let a = self.lanes_get(l, f.n, X0);
        let t = self.target(way, f.d, &[f.n]);
        self.lanes_round(l, t, a, mode);
        if self.standard {
            self.unless_any_nan(l, t, way);
        }
        self.finish(l.q, f.d, t);
        self.way_ends(way);
        ONE
    }

    /// FRINTA.
    fn round_lanes_away(&mut self, f: Form, l: Lanes) -> Lowered {
        let (back, slow) = self.slow_way();
        let a = self.lanes_get(l, f.n, X0);
        self.unless_below(l, a, l.infinity(), false, slow);
        self.lanes_away(l, a);
        self.finish(l.q, f.d, X0);
        self.a.bind(back);
        ONE
    }

    /// xmm0 = finite `a` rounded to nearest, ties away from zero: the integer part plus twice the fraction,
    /// truncated. Both terms are exact. Changes xmm1 and xmm15.
    fn lanes_away(&mut self, l: Lanes, a: Xmm) {
        self.lanes_round(l, X1, a, SILENT | TO_ZERO);
        self.lanes_op(l, SUBTRACT, X2, a, X1);
        self.lanes_op(l, ADD, X2, X2, X2);
        self.lanes_round(l, X2, X2, SILENT | TO_ZERO);
        let sign = self.lanes_constant(l, l.sign());
        self.a.vp(AND, X0, a, sign);
        self.lanes_op(l, ADD, X1, X1, X2);
        self.a.vp(OR, X0, X0, X1);
    }

    /// FCVTN: NaNs keep the top of their payload on Arm and on the host.
    fn narrow_lanes(&mut self, f: Form) -> Lowered {
        if f.size & 1 == 1 {
            let way = (self.flushes() && self.wary).then(|| self.slow_way());
            let source = self.vrm(f.n);
            self.a.vpacked(true, 0x5a, X0, Xmm(0), source);
            if self.flushes() {
                self.unless_special(Lanes { double: false, scalar: false, q: false }, X0, way);
                self.write_half(f, X0);
                self.way_ends(way);
                return ONE;
            }
        } else {
            // VCVTPS2PH, to nearest.
            let a = self.vget(f.n, X1);
            self.a.vp3a(0x1d, a, Xmm(0), X0, 0);
        }
        self.write_half(f, X0);
        ONE
    }

    /// FCVTL.
    fn widen_lanes(&mut self, f: Form) -> Lowered {
        let from = self.vhalf_source(f.n, f.q, X0);
        let t = self.vresult(f.d);
        if f.size & 1 == 1 {
            self.a.vpacked(false, 0x5a, t, Xmm(0), from);
        } else {
            // VCVTPH2PS.
            self.a.vp38(0x13, t, Xmm(0), from);
        }
        self.vput(f.d, t);
        ONE
    }

    /// SCVTF, UCVTF, FCVTZS, FCVTZU with fraction bits.
    pub(in crate::translate) fn float_fixed(&mut self, f: Form) -> Lowered {
        let (scalar, immediate) = (f.scalar, f.imm);
        if !self.host_float() || immediate < 32 {
            return Lowered::No;
        }
        let l = Lanes { double: immediate >= 64, scalar, q: f.q && !scalar };
        if l.double && !l.q && !scalar {
            return Lowered::No;
        }
        let fraction = if l.double { 128 - immediate } else { 64 - immediate };
        if f.opcode == 0b1_1100 {
            self.integers_to_lanes(f, l, fraction)
        } else {
            self.lanes_to_integers(f, l, Some(3), fraction)
        }
    }

    /// SCVTF, UCVTF; the division by a power of two is exact.
    fn integers_to_lanes(&mut self, f: Form, l: Lanes, fraction: u32) -> Lowered {
        let (d, n, unsigned) = (f.d, f.n, f.unsigned);
        if l.scalar {
            self.integer_to_scalar(l, n, unsigned);
        } else if l.double {
            self.longs_to_lanes(n, unsigned);
        } else {
            let a = self.lanes_get(l, n, X0);
            // VCVTDQ2PS.
            if unsigned {
                let low = self.constant(lanes(2, 0xffff));
                self.a.vp(AND, X1, a, low);
                self.a.vshift_imm(0x72, 2, X0, a, 16);
                self.a.vpacked(false, 0x5b, X1, Xmm(0), X1);
                self.a.vpacked(false, 0x5b, X0, Xmm(0), X0);
                // VFMADD132PS: rounded once.
                let shift = self.lanes_constant(l, l.power(16));
                self.a.vfused(false, 0x98, X0, X1, shift);
            } else {
                self.a.vpacked(false, 0x5b, X0, Xmm(0), a);
            }
        }
        if fraction != 0 {
            let scale = self.lanes_constant(l, l.power(-(fraction as i32)));
            self.lanes_op(l, MULTIPLY, X0, X0, scale);
        }
        self.lanes_put(l, d, X0, l.scalar);
        ONE
    }

    /// xmm0 = an integer of the scalar's width converted, zeros above. Changes EFLAGS if the integer has 64
    /// bits and no sign.
    fn integer_to_scalar(&mut self, l: Lanes, n: u8, unsigned: bool) {
        let size = if l.double { Size::Q } else { Size::D };
        if unsigned {
            if l.double {
                self.clobber();
            }
            self.scalar_bits(l.double, Reg::RAX, n);
            self.unsigned_to_xmm0(l.double, l.double);
            return;
        }
        let from: Rm = match self.vector_host(n) {
            Some(host) => {
                self.a.vmov_to(size, Reg::RAX, host);
                Reg::RAX.into()
            }
            None => vector(n).into(),
        };
        self.zero(X0);
        self.a.vconvert(l.double, size, 0x2a, X0.0, X0.0, from);
    }

    /// xmm0 = two integers of 64 bits converted: the halves become the low bits of 2^84 and of 2^52, from
    /// which these numbers are subtracted again. Only the last addition rounds.
    fn longs_to_lanes(&mut self, n: u8, unsigned: bool) {
        let a = self.vget(n, X0);
        let low = self.constant(lanes(3, 0xffff_ffff));
        self.a.vp(AND, X1, a, low);
        let two_52 = self.constant(lanes(3, 0x4330_0000_0000_0000));
        self.a.vp(OR, X1, X1, two_52);
        self.a.vshift_imm(0x73, 2, X0, a, 32);
        // In between, a signed number is 2^63 larger.
        let (high, all) = if unsigned {
            (0x4530_0000_0000_0000, 0x4530_0000_0010_0000)
        } else {
            (0x4530_0000_8000_0000, 0x4530_0000_8010_0000)
        };
        let high = self.constant(lanes(3, high));
        self.a.vp(XOR, X0, X0, high);
        let all = self.constant(lanes(3, all));
        self.a.vpacked(true, SUBTRACT, X0, X0, all);
        self.a.vpacked(true, ADD, X0, X0, X1);
    }

    /// `FCVT[NPMZA][SU]`, and with fraction bits FCVTZS, FCVTZU.
    fn lanes_to_integers(&mut self, f: Form, l: Lanes, mode: Mode, fraction: u32) -> Lowered {
        let unsigned = f.unsigned;
        if l.scalar || l.double {
            self.lanes_to_integers_in_turn(f, l, mode, fraction);
        } else if unsigned {
            self.singles_to_unsigned(f, l, mode, fraction);
        } else {
            self.singles_to_signed(f, l, mode, fraction);
        }
        ONE
    }

    /// Returns `a * 2^fraction`, exact, in xmm0 or, without a fraction, in `a`. Jumps to `slow` if it would
    /// not fit.
    fn scale(&mut self, l: Lanes, a: Xmm, fraction: u32, unsigned: bool, slow: Label) -> Xmm {
        let width = if l.double { 63 } else { 31 } + i32::from(unsigned);
        self.unless_below(l, a, l.power(width - fraction as i32), unsigned, slow);
        if fraction == 0 {
            return a;
        }
        let scale = self.lanes_constant(l, l.power(fraction as i32));
        self.lanes_op(l, MULTIPLY, X0, a, scale);
        X0
    }

    /// [`Translator::lanes_to_integers`] for scalars and for two doubles.
    fn lanes_to_integers_in_turn(&mut self, f: Form, l: Lanes, mode: Mode, fraction: u32) {
        let (n, unsigned) = (f.n, f.unsigned);
        let (back, slow) = self.slow_way();
        if fraction != 0 {
            // Checks all lanes before xmm15 holds results.
            let a = self.vget(n, X0);
            self.scale(l, a, fraction, unsigned, slow);
        }
        let one = Lanes { scalar: true, q: false, ..l };
        let scale = self.lanes_constant(l, l.power(fraction as i32));
        for lane in 0..if l.scalar { 1 } else { 2 } {
            let mut a = if lane == 0 {
                self.vget(n, X0)
            } else {
                let source = self.vrm(n);
                self.a.vpshufd(X0, source, 0xee);
                X0
            };
            if fraction != 0 {
                self.lanes_op(one, MULTIPLY, X0, a, scale);
                a = X0;
            }
            self.convert_to_rax(l.double, l.double, unsigned, mode, a, slow);
            if lane == 0 {
                self.a.vmov_from(if l.double { Size::Q } else { Size::D }, X2, Reg::RAX);
            } else {
                // VPINSRQ.
                self.a.vex(Prefix::P66, Map::M0F3A, true, 0x22, X2.0, X2.0, Reg::RAX);
                self.a.byte(1);
            }
        }
        self.lanes_put(l, f.d, X2, true);
        self.a.bind(back);
    }

    /// Rounds for a conversion, with the inexactness that the conversion would raise. Returns the register of
    /// the rounded numbers.
    fn round_for_conversion(&mut self, l: Lanes, a: Xmm, mode: Mode) -> Xmm {
        match mode {
            Some(3) => a,
            Some(mode) => {
                // For the host, up is 2 and down is 1; in the manual it is the reverse.
                self.lanes_round(l, X0, a, [0, 2, 1, 3][usize::from(mode & 3)]);
                X0
            }
            None => {
                self.lanes_round(l, X1, a, TO_ZERO);
                self.lanes_away(l, a);
                X0
            }
        }
    }

    /// Signed integers of 32 bits. The host signals numbers that do not fit; if that is masked, it gives
    /// -2^31, which is then inverted for numbers that are too large and cleared for NaNs.
    fn singles_to_signed(&mut self, f: Form, l: Lanes, mode: Mode, fraction: u32) {
        let way = (mode.is_none() || fraction != 0).then(|| self.slow_way());
        let mut a = self.lanes_get(l, f.n, X0);
        if let Some((_, slow)) = way {
            if fraction != 0 {
                a = self.scale(l, a, fraction, false, slow);
            } else {
                self.unless_below(l, a, l.infinity(), false, slow);
            }
        }
        let a = self.round_for_conversion(l, a, mode);
        // VCVTTPS2DQ.
        self.a.vex(Prefix::F3, Map::M0F, false, 0x5b, X2.0, 0, a);
        if fraction == 0 && self.wary {
            self.load_constant(X1, lanes(2, l.power(31)));
            self.lanes_compare(l, GREATER_EQUAL_QUIET, X1, a, X1);
            self.a.vp(XOR, X2, X2, X1);
            self.lanes_compare(l, ORDERED_QUIET, X1, a, a);
            self.a.vp(AND, X2, X2, X1);
        }
        self.finish(l.q, f.d, X2);
        if let Some((back, _)) = way {
            self.a.bind(back);
        }
    }

    /// Unsigned integers of 32 bits: from numbers of 2^31 and more, 2^31 is subtracted, and added after the
    /// conversion.
    fn singles_to_unsigned(&mut self, f: Form, l: Lanes, mode: Mode, fraction: u32) {
        let (back, slow) = self.slow_way();
        let a = self.lanes_get(l, f.n, X0);
        let a = self.scale(l, a, fraction, true, slow);
        let a = self.round_for_conversion(l, a, mode);
        self.load_constant(X1, lanes(2, l.power(31)));
        self.lanes_compare(l, GREATER_EQUAL_QUIET, X2, a, X1);
        self.a.vp(AND, X1, X1, X2);
        self.lanes_op(l, SUBTRACT, X1, a, X1);
        self.a.vex(Prefix::F3, Map::M0F, false, 0x5b, X1.0, 0, X1);
        self.a.vshift_imm(0x72, 6, X2, X2, 31);
        self.a.vp(XOR, X0, X1, X2);
        self.finish(l.q, f.d, X0);
        self.a.bind(back);
    }
}

/// The bits of 3.0.
fn three(l: Lanes) -> u64 {
    if l.double { 0x4008_0000_0000_0000 } else { 0x4040_0000 }
}
