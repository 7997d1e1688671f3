//! A program can read the flags of floating point, wherever the host keeps them.

use crate::cases::{Case, Layout, RECORD, Record, ours};
use crate::host::{LOG, engine};
use std::sync::atomic::AtomicU32;

/// MRS X0, FPSR.
const READ_STATUS: u32 = 0xd53b_4420;
/// MRS X0, FPCR.
const READ_CONTROL: u32 = 0xd53b_4400;
/// FDIV D0, D1, D2.
const DIVIDE: u32 = 0x1e62_1820;
/// FDIV V0.4S, V1.4S, V2.4S.
const DIVIDE_LANES: u32 = 0x6e22_fc20;
/// UQADD V0.16B, V1.16B, V2.16B.
const ADD_BYTES: u32 = 0x6e22_0c20;

/// X0 after two instructions, with these values in V1 and V2.
fn x0_after(slot: u64, cases: &[([u32; 2], u32, u128, u128)]) -> Vec<u64> {
    let layout = Layout { base: 0x10_0000_0000 * (slot + 1), cases: cases.len() };
    let cases: Vec<Case> = cases
        .iter()
        .map(|&(words, fpcr, n, m)| {
            let mut before = Record::from_bytes(&[0; RECORD]);
            (before.v[1], before.v[2], before.fpcr) = (n, m, fpcr);
            Case { words, before }
        })
        .collect();
    let mut engine = engine();
    engine.translate_after(0);
    LOG.invalidate(layout.base..layout.base + 0x3000_0000);
    let after = ours(&layout, &cases, 1, |state, host| engine.run(state, host, &AtomicU32::new(0)));
    (0..cases.len()).map(|i| Record::from_bytes(&after[i * RECORD..]).x[0]).collect()
}

#[test]
fn status_holds_what_instructions_before_have_raised() {
    let double = |value: f64| u128::from(value.to_bits());
    let lane = |value: f32, i: u32| u128::from(value.to_bits()) << (32 * i);
    let ones = (0..4).fold(0, |v, i| v | lane(1.0, i));
    let (ioc, dzc, ixc, qc) = (1, 2, 16, 1 << 27);
    let cases = [
        (([DIVIDE, READ_STATUS], 0, double(1.0), double(2.0)), 0),
        (([DIVIDE, READ_STATUS], 0, double(1.0), double(3.0)), ixc),
        (([DIVIDE, READ_STATUS], 0, double(1.0), double(0.0)), dzc),
        // Left to the interpreter, as the result is a NaN.
        (([DIVIDE, READ_STATUS], 0, double(0.0), double(0.0)), ioc),
        // FZ: the quotient of a subnormal number is a zero.
        (([DIVIDE, READ_STATUS], 1 << 24, 1, double(2.0)), 0),
        (([DIVIDE_LANES, READ_STATUS], 0, ones, ones), 0),
        (([DIVIDE_LANES, READ_STATUS], 0, ones, ones ^ lane(1.0, 2) ^ lane(3.0, 2)), ixc),
        (([DIVIDE_LANES, READ_STATUS], 0, ones, ones ^ lane(1.0, 3)), dzc),
        (([DIVIDE_LANES, READ_STATUS], 0, ones ^ lane(1.0, 3), ones ^ lane(1.0, 3)), ioc),
        (([ADD_BYTES, READ_STATUS], 0, 1, 254), 0),
        (([ADD_BYTES, READ_STATUS], 0, 1 << 120, 255 << 120), qc),
        (([DIVIDE, READ_CONTROL], 1 << 24, 0, double(1.0)), 1 << 24),
        (([DIVIDE, READ_CONTROL], 3 << 22, 0, double(1.0)), 3 << 22),
    ];
    let expected: Vec<u64> = cases.iter().map(|(_, x0)| *x0).collect();
    assert_eq!(x0_after(9, &cases.map(|(case, _)| case)), expected);
}
