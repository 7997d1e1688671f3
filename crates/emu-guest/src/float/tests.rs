//! Values derived by hand.

use super::compare::NanOperands;
use super::environment::{Environment, Exact, Flags, NanInteger, NanRule, Rounding, Tininess};
use super::format::{Double, Half, Single};

/// RISC-V's environment (F extension, "NaN Generation and Propagation" and "Floating-Point Control and Status
/// Register").
pub(super) fn riscv(rounding: Rounding) -> Environment {
    Environment::new(rounding)
        .tininess(Tininess::AfterRounding)
        .nan(NanRule::Canonical)
        .nan_integer(NanInteger::Largest)
}

/// IEEE 754's defaults as on Arm.
const ARM: Environment = Environment::new(Rounding::TieEven);

/// Result and flags of `operation`.
fn run<R>(environment: Environment, operation: impl FnOnce(&mut Exact) -> R) -> (R, Flags) {
    let mut exact = Exact::new(environment);
    let result = operation(&mut exact);
    (result, exact.flags)
}

const NONE: Flags = Flags::NONE;
const NAN: u64 = 0x7fc0_0000;
const SIGNALLING: u64 = 0x7f80_0001;
const ONE: u64 = 0x3f80_0000;
const MINUS_ZERO: u64 = 0x8000_0000;
/// The largest subnormal, the smallest normal, and the smallest subnormal number.
const SUBNORMAL: u64 = 0x007f_ffff;
const NORMAL: u64 = 0x0080_0000;
const SMALLEST: u64 = 1;

#[test]
fn double_arithmetic_agrees_with_the_host() {
    let values = [0.0, 1.0, -1.5, 3.0, 1e300, 1e-300, 5e-324, f64::MAX, 0.1, -7.25, 2.2250738585072014e-308];
    for a in values {
        for b in values {
            let (x, y) = (a.to_bits(), b.to_bits());
            assert_eq!(run(ARM, |e| e.add::<Double>(x, y)).0, (a + b).to_bits(), "{a} + {b}");
            assert_eq!(run(ARM, |e| e.sub::<Double>(x, y)).0, (a - b).to_bits(), "{a} - {b}");
            assert_eq!(run(ARM, |e| e.mul::<Double>(x, y)).0, (a * b).to_bits(), "{a} * {b}");
            if b != 0.0 {
                assert_eq!(run(ARM, |e| e.div::<Double>(x, y)).0, (a / b).to_bits(), "{a} / {b}");
            }
        }
    }
}

#[test]
fn the_default_nan_is_positive() {
    assert_eq!(run(ARM, |e| e.div::<Double>(0, 0)), (0x7ff8_0000_0000_0000, Flags::INVALID));
}

#[test]
fn the_smallest_normal_number_reached_by_rounding_up_is_tiny() {
    // The largest subnormal number times one and a bit: 2^-1022 (1 - 2^-104), which 53 bits round up to
    // 2^-1022 also if the exponent has no limit.
    let product = |e: &mut Exact| e.mul::<Double>(0x000f_ffff_ffff_ffff, 0x3ff0_0000_0000_0001);
    let result = 0x0010_0000_0000_0000;
    assert_eq!(run(ARM, product), (result, Flags::UNDERFLOW | Flags::INEXACT));
    assert_eq!(run(riscv(Rounding::TieEven), product), (result, Flags::INEXACT));
}

#[test]
fn tininess() {
    let both = Flags::UNDERFLOW | Flags::INEXACT;
    for (a, b, before, after) in [
        // (1 - 2^-24) * 2^-126 (1 + 2^-23) is above 2^-126, and not tiny.
        (0x3f7f_ffff, NORMAL + 1, Flags::INEXACT, Flags::INEXACT),
        // (1 - 2^-24) * 2^-126 has 24 bits: without a limit of the exponent it is exact and below 2^-126.
        (0x3f7f_ffff, NORMAL, both, both),
        // (1 + 2^-23) / 2 * 2^-126 (2 - 2^-22) = 2^-126 (1 - 2^-46), which 24 bits round up to 2^-126.
        (0x3f00_0001, 0x00ff_fffe, both, Flags::INEXACT),
    ] {
        assert_eq!(run(ARM, |e| e.mul::<Single>(a, b)), (NORMAL, before), "{a:x} * {b:x}");
        let result = run(riscv(Rounding::TieEven), |e| e.mul::<Single>(a, b));
        assert_eq!(result, (NORMAL, after), "{a:x} * {b:x}");
    }
}

#[test]
fn the_canonical_nan_has_no_payload() {
    let payload = 0xffc1_2345;
    assert_eq!(run(ARM, |e| e.add::<Single>(ONE, payload)), (payload, NONE));
    assert_eq!(run(ARM, |e| e.add::<Single>(payload, SIGNALLING)), (0x7fc0_0001, Flags::INVALID));
    let canonical = riscv(Rounding::TieEven);
    assert_eq!(run(canonical, |e| e.add::<Single>(ONE, payload)), (NAN, NONE));
    assert_eq!(run(canonical, |e| e.mul_add::<Single>(payload, 0, 0x7f80_0000)), (NAN, Flags::INVALID));
    let wide = run(canonical, |e| e.convert::<Single, Double>(payload, Rounding::TieEven));
    assert_eq!(wide, (0x7ff8_0000_0000_0000, NONE));
}

#[test]
fn inputs_are_flushed_before_and_outputs_after() {
    let inputs = ARM.flush_inputs(true);
    assert_eq!(run(inputs, |e| e.add::<Single>(SUBNORMAL, 0)), (0, Flags::INPUT_DENORMAL));
    assert_eq!(run(inputs, |e| e.sub::<Single>(NORMAL + 1, NORMAL)), (SMALLEST, NONE));
    let outputs = ARM.flush_outputs(true);
    assert_eq!(run(outputs, |e| e.add::<Single>(SUBNORMAL, SMALLEST)), (NORMAL, NONE));
    assert_eq!(run(outputs, |e| e.sub::<Single>(NORMAL, NORMAL + 1)), (MINUS_ZERO, Flags::UNDERFLOW));
    // Half precision is never flushed: 2^-24.
    let both = outputs.flush_inputs(true);
    let wide = run(both, |e| e.convert::<Half, Single>(1, Rounding::TieEven));
    assert_eq!(wide, (0x3380_0000, NONE));
}

#[test]
fn standard_fpscr() {
    let standard = Environment::standard_fpscr();
    assert_eq!(run(standard, |e| e.add::<Single>(ONE, 0xffc1_2345)), (NAN, NONE));
    assert_eq!(run(standard, |e| e.mul::<Single>(SUBNORMAL, ONE)), (0, Flags::INPUT_DENORMAL));
    assert_eq!(run(standard, |e| e.mul::<Single>(NORMAL, 0x3f00_0000)), (0, Flags::UNDERFLOW));
    // 1 + 2^-24 is a tie.
    assert_eq!(run(standard, |e| e.add::<Single>(ONE, 0x3380_0000)), (ONE, Flags::INEXACT));
}

#[test]
fn minimum_and_maximum_by_their_rules() {
    let max = |a, b, nans| run(ARM, |e| e.max::<Single>(a, b, nans));
    assert_eq!(max(ONE, NAN, NanOperands::Win), (NAN, NONE));
    assert_eq!(max(ONE, NAN, NanOperands::QuietLose), (ONE, NONE));
    assert_eq!(max(ONE, SIGNALLING, NanOperands::QuietLose), (0x7fc0_0001, Flags::INVALID));
    let fmin = |a, b| run(riscv(Rounding::TieEven), |e| e.min::<Single>(a, b, NanOperands::Lose));
    assert_eq!(fmin(ONE, NAN), (ONE, NONE));
    assert_eq!(fmin(SIGNALLING, ONE), (ONE, Flags::INVALID));
    assert_eq!(fmin(SIGNALLING, NAN), (NAN, Flags::INVALID));
    assert_eq!(fmin(0xffc1_2345, NAN), (NAN, NONE));
    assert_eq!(fmin(0, MINUS_ZERO), (MINUS_ZERO, NONE));
}

#[test]
fn integers_saturate_and_nans_follow_the_guest() {
    let arm = |a, unsigned| run(ARM, |e| e.fixed_of::<Single>(a, 0, unsigned, Rounding::Zero, 32));
    let risc = |a, unsigned| {
        run(riscv(Rounding::Zero), |e| e.fixed_of::<Single>(a, 0, unsigned, Rounding::Zero, 32))
    };
    assert_eq!(arm(NAN, false), (0, Flags::INVALID));
    assert_eq!(risc(NAN, false), (0x7fff_ffff, Flags::INVALID));
    assert_eq!(risc(0xffc0_0000, true), (0xffff_ffff, Flags::INVALID));
    // -2^31, -2^32, -0.5 and -1.
    assert_eq!(arm(0xcf00_0000, false), (0x8000_0000, NONE));
    assert_eq!(arm(0xcf80_0000, false), (0x8000_0000, Flags::INVALID));
    assert_eq!(arm(0xbf00_0000, true), (0, Flags::INEXACT));
    assert_eq!(risc(0xbf80_0000, true), (0, Flags::INVALID));
}
