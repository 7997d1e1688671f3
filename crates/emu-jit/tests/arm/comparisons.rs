//! VCMP, whose flags become the CPU's at once, or behind other instructions, some of which the interpreter
//! runs.

use crate::both::Both;
use crossdock_emu_guest::a64::{Exit, State};

const CODE: u64 = 0x6810_0000;

/// What stands between VCMP and VMRS.
const BETWEEN: [&[u32]; 5] = [
    &[],
    &[0xe287_7001],              // add r7, r7, #1
    &[0xe217_60ff],              // ands r6, r7, #255
    &[0xe107_7047],              // crc32b r7, r7, r7
    &[0xe107_7047, 0xe217_60ff], // both
];

/// A loop of ten rounds. R0 counts those in which the condition holds, R1 those in which it does not.
///
/// ```text
/// loop:  vcmp.f64 d0, d1
///        ...
///        vmrs APSR_nzcv, fpscr
///        add<condition> r0, r0, #1
///        add<opposite> r1, r1, #1
///        subs r4, r4, #1
///        bne loop
///        udf
/// ```
fn program(between: &[u32], condition: u32) -> Vec<u32> {
    let mut words = vec![0xeeb4_0b41];
    words.extend(between);
    words.push(0xeef1_fa10);
    words.extend([0x0280_0001 | condition << 28, 0x0281_1001 | (condition ^ 1) << 28, 0xe254_4001]);
    // From the branch's place and 8.
    let back = -(words.len() as i32) - 2;
    words.extend([0x1a00_0000 | back as u32 & 0xff_ffff, 0xe7f0_00f0]);
    words
}

#[test]
fn a_comparison_gives_its_flags_later() {
    let mut both = Both::new(CODE);
    // EQ to LE, for less, equal, greater, unordered.
    let holds = [
        [false, true, false, false],
        [true, false, true, true],
        [false, true, true, true],
        [true, false, false, false],
        [true, false, false, false],
        [false, true, true, true],
        [false, false, false, true],
        [true, true, true, false],
        [false, false, true, true],
        [true, true, false, false],
        [false, true, true, false],
        [true, false, false, true],
        [false, false, true, false],
        [true, true, false, true],
    ];
    for (between, condition) in BETWEEN.iter().flat_map(|&between| (0..14).map(move |c| (between, c))) {
        both.put(&program(between, condition));
        for (i, second) in [2.0, 1.0, 0.5, f64::NAN].into_iter().enumerate() {
            let mut state = State::default();
            state.pc = CODE;
            state.set_r(4, 10);
            state.v[0] = u128::from(1f64.to_bits()) | u128::from(second.to_bits()) << 64;
            let (states, exits) = both.run(&state);
            let what = format!("condition {condition}, 1 and {second}, {between:x?}");
            assert!(matches!(exits[0], Exit::Undefined(_)), "{what}: {exits:?}");
            assert_eq!(exits[0], exits[1], "{what}");
            let counts = states.each_ref().map(|state| [state.r(0), state.r(1)]);
            assert_eq!(counts[0], counts[1], "{what}");
            assert_eq!(counts[1], if holds[condition as usize][i] { [10, 0] } else { [0, 10] }, "{what}");
            assert_eq!(states[0].fpscr(), states[1].fpscr(), "{what}");
            assert_eq!(states[0].r(7), states[1].r(7), "{what}");
        }
    }
}
