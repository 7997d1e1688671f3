//! Results and flags against the host's SSE and FMA units, in all their rounding modes.
//!
//! x86 detects tininess after rounding, as RISC-V does, so the environment is RISC-V's. The host's NaNs have
//! other bits, and are compared as such; its flag of subnormal operands has no counterpart.
#![allow(unsafe_code)]

extern crate std;

use super::environment::{Exact, Flags, Rounding};
use super::format::{Double, Format, Half, Single, default_nan};
use super::tests::riscv;
use core::arch::asm;
use std::is_x86_feature_detected;

/// Cases per operation.
const CASES: u32 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// Rounding modes with their bits in MXCSR.
const MODES: [(Rounding, u32); 4] = [
    (Rounding::TieEven, 0),
    (Rounding::MinusInfinity, 1 << 13),
    (Rounding::PlusInfinity, 2 << 13),
    (Rounding::Zero, 3 << 13),
];

/// MXCSR with all exceptions masked and no flag.
const MXCSR: u32 = 0x1f80;

/// Flags by their bits in MXCSR.
const FLAGS: [(Flags, u32); 5] = [
    (Flags::INVALID, 1),
    (Flags::DIVIDE_BY_ZERO, 1 << 2),
    (Flags::OVERFLOW, 1 << 3),
    (Flags::UNDERFLOW, 1 << 4),
    (Flags::INEXACT, 1 << 5),
];

type Operands = [u64; 3];

/// A function that runs an instruction with operands in XMM0 to XMM2 and the first also in RAX, and returns
/// XMM0, RAX and MXCSR.
macro_rules! host {
    ($line:literal) => {
        |[a, b, c]: Operands, mode: u32| -> (u64, u64, u32) {
            let (before, normal, mut after) = (MXCSR | mode, MXCSR, 0u32);
            let (result, integer): (f64, u64);
            // SAFETY: the instruction uses the named registers only, and MXCSR ends as it was.
            unsafe {
                asm!(
                    "ldmxcsr [{before}]",
                    "movq xmm0, xmm0",
                    $line,
                    "stmxcsr [{after}]",
                    "ldmxcsr [{normal}]",
                    before = in(reg) &before,
                    normal = in(reg) &normal,
                    after = in(reg) &mut after,
                    inlateout("xmm0") f64::from_bits(a) => result,
                    in("xmm1") f64::from_bits(b),
                    in("xmm2") f64::from_bits(c),
                    inlateout("rax") a => integer,
                    options(nostack),
                );
            }
            (result.to_bits(), integer, after)
        }
    };
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }

    /// A fraction: random, or near its ends, or with few bits set or clear.
    fn fraction<F: Format>(&mut self) -> u64 {
        let bit = 1 << self.below(F::FRACTION.into());
        F::FRACTION_MASK
            & match self.below(6) {
                0 => self.below(3),
                1 => self.below(3).wrapping_neg(),
                2 => bit,
                3 => !bit,
                4 => bit.wrapping_neg(),
                _ => self.next(),
            }
    }

    fn value<F: Format>(&mut self, exponent: i64) -> u64 {
        let exponent = exponent.clamp(0, (1 << F::EXPONENT) - 1) as u64;
        let sign = if self.below(2) == 0 { F::SIGN } else { 0 };
        sign | exponent << F::FRACTION | self.fraction::<F>()
    }

    /// Three operands. Their exponents are random, at the ends of the range, or such that products,
    /// quotients, sums and narrower formats are near the ends of theirs.
    fn operands<F: Format>(&mut self) -> Operands {
        let max = (1 << F::EXPONENT) - 1;
        let bias = max / 2;
        let near = |random: &mut Random, center: i64| center + random.below(7) as i64 - 3;
        let a = match self.below(6) {
            0 => near(self, 0),
            1 => near(self, max),
            2 => near(self, bias),
            3 => near(self, bias - 126),
            4 => near(self, bias - 14),
            _ => self.below(max as u64) as i64,
        };
        let b = match self.below(6) {
            0 => near(self, a),
            1 => near(self, bias - a),
            2 => near(self, a + bias),
            3 => near(self, max + bias - a),
            4 => near(self, 0),
            _ => self.below(max as u64) as i64,
        };
        let c = match self.below(3) {
            0 => near(self, a + b - bias),
            1 => near(self, 0),
            _ => self.below(max as u64) as i64,
        };
        [self.value::<F>(a), self.value::<F>(b), self.value::<F>(c)]
    }
}

fn is_nan<F: Format>(bits: u64) -> bool {
    bits & (F::SIGN - 1) > F::INFINITY
}

/// Compares `ours` with `host` on operands of format `F` and results of format `T`, flags included.
fn check<F: Format, T: Format>(
    name: &str,
    host: impl Fn(Operands, u32) -> (u64, u64, u32),
    ours: impl Fn(&mut Exact, Operands) -> u64,
) {
    check_all::<F>(
        name,
        |operands, mode| {
            let (result, _, mxcsr) = host(operands, mode);
            let bits = result & (T::SIGN | (T::SIGN - 1));
            (if is_nan::<T>(bits) { default_nan::<T>() } else { bits }, mxcsr)
        },
        ours,
    );
}

fn check_all<F: Format>(
    name: &str,
    host: impl Fn(Operands, u32) -> (u64, u32),
    ours: impl Fn(&mut Exact, Operands) -> u64,
) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for case in 0..CASES {
        let (rounding, mode) = MODES[case as usize % MODES.len()];
        let operands = random.operands::<F>();
        let mut exact = Exact::new(riscv(rounding));
        let result = ours(&mut exact, operands);
        let (expected, mxcsr) = host(operands, mode);
        let raised =
            FLAGS.iter().fold(0, |bits, &(flag, bit)| bits | if exact.flags.any(flag) { bit } else { 0 });
        assert_eq!(
            (result, raised),
            (expected, mxcsr & 0x3d),
            "{name} of {operands:x?}, {rounding:?}: {result:x} and {raised:x}, on the host {expected:x}",
        );
    }
}

#[test]
fn addition_and_subtraction() {
    check::<Single, Single>("add", host!("addss xmm0, xmm1"), |x, [a, b, _]| x.add::<Single>(a, b));
    check::<Double, Double>("add", host!("addsd xmm0, xmm1"), |x, [a, b, _]| x.add::<Double>(a, b));
    check::<Single, Single>("sub", host!("subss xmm0, xmm1"), |x, [a, b, _]| x.sub::<Single>(a, b));
    check::<Double, Double>("sub", host!("subsd xmm0, xmm1"), |x, [a, b, _]| x.sub::<Double>(a, b));
}

#[test]
fn multiplication() {
    check::<Single, Single>("mul", host!("mulss xmm0, xmm1"), |x, [a, b, _]| x.mul::<Single>(a, b));
    check::<Double, Double>("mul", host!("mulsd xmm0, xmm1"), |x, [a, b, _]| x.mul::<Double>(a, b));
}

#[test]
fn division() {
    check::<Single, Single>("div", host!("divss xmm0, xmm1"), |x, [a, b, _]| x.div::<Single>(a, b));
    check::<Double, Double>("div", host!("divsd xmm0, xmm1"), |x, [a, b, _]| x.div::<Double>(a, b));
}

#[test]
fn square_root() {
    check::<Single, Single>("sqrt", host!("sqrtss xmm0, xmm0"), |x, [a, ..]| x.sqrt::<Single>(a));
    check::<Double, Double>("sqrt", host!("sqrtsd xmm0, xmm0"), |x, [a, ..]| x.sqrt::<Double>(a));
}

/// x86 does not call zero times infinity plus a quiet NaN invalid; RISC-V and Arm do.
fn fused<F: Format>(x: &mut Exact, [a, b, c]: Operands) -> u64 {
    let quiet = is_nan::<F>(c) && c & F::QUIET != 0;
    let number = |bits: u64| bits & !F::SIGN;
    let invalid = |a: u64, b: u64| number(a) == 0 && number(b) == F::INFINITY;
    if quiet && (invalid(a, b) || invalid(b, a)) { default_nan::<F>() } else { x.mul_add::<F>(c, a, b) }
}

#[test]
fn fused_multiply_add() {
    if !is_x86_feature_detected!("fma") {
        return;
    }
    check::<Single, Single>("fma", host!("vfmadd213ss xmm0, xmm1, xmm2"), fused::<Single>);
    check::<Double, Double>("fma", host!("vfmadd213sd xmm0, xmm1, xmm2"), fused::<Double>);
}

#[test]
fn conversions_between_formats() {
    let mode = |x: &Exact| x.environment.rounding();
    check::<Double, Single>("narrow", host!("cvtsd2ss xmm0, xmm0"), |x, [a, ..]| {
        x.convert::<Double, Single>(a, mode(x))
    });
    check::<Single, Double>("widen", host!("cvtss2sd xmm0, xmm0"), |x, [a, ..]| {
        x.convert::<Single, Double>(a, mode(x))
    });
    if is_x86_feature_detected!("f16c") {
        check::<Single, Half>("halve", host!("vcvtps2ph xmm0, xmm0, 4"), |x, [a, ..]| {
            x.convert::<Single, Half>(a, mode(x))
        });
        check::<Half, Single>("double", host!("vcvtph2ps xmm0, xmm0"), |x, [a, ..]| {
            x.convert::<Half, Single>(a, mode(x))
        });
    }
}

/// The host's integer of an invalid conversion is always the smallest one; ours is not compared then.
fn check_integer<F: Format>(name: &str, width: u32, host: impl Fn(Operands, u32) -> (u64, u64, u32)) {
    let mask = u64::MAX >> (64 - width);
    check_all::<F>(
        name,
        |operands, mode| {
            let (_, integer, mxcsr) = host(operands, mode);
            (if mxcsr & 1 != 0 { 0 } else { integer & mask }, mxcsr)
        },
        |x, [a, ..]| {
            let integer = x.fixed_of::<F>(a, 0, false, x.environment.rounding(), width);
            if x.flags.any(Flags::INVALID) { 0 } else { integer }
        },
    );
}

#[test]
fn conversions_with_integers() {
    check_integer::<Single>("to 32 bits", 32, host!("cvtss2si eax, xmm0"));
    check_integer::<Double>("to 32 bits", 32, host!("cvtsd2si eax, xmm0"));
    check_integer::<Single>("to 64 bits", 64, host!("cvtss2si rax, xmm0"));
    check_integer::<Double>("to 64 bits", 64, host!("cvtsd2si rax, xmm0"));
    // The bits of a random number are the integer.
    check::<Double, Single>("of 64 bits", host!("cvtsi2ss xmm0, rax"), |x, [a, ..]| {
        x.float_of::<Single>(a, 0, false)
    });
    check::<Double, Double>("of 64 bits", host!("cvtsi2sd xmm0, rax"), |x, [a, ..]| {
        x.float_of::<Double>(a, 0, false)
    });
}

#[test]
fn round_to_integral() {
    if !is_x86_feature_detected!("sse4.1") {
        return;
    }
    let mode = |x: &Exact| x.environment.rounding();
    check::<Single, Single>("round", host!("roundss xmm0, xmm0, 4"), |x, [a, ..]| {
        x.round_int::<Single>(a, mode(x), true)
    });
    check::<Double, Double>("round", host!("roundsd xmm0, xmm0, 4"), |x, [a, ..]| {
        x.round_int::<Double>(a, mode(x), true)
    });
}
