//! Programs that write code and invalidate the instruction cache.

use crate::cases::Mapping;
use crate::host::{LOG, engine};
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use std::sync::atomic::AtomicU32;

/// `loop: str w1, [x0]; dc cvau, x0; dsb ish; ic ivau, x0; dsb ish; isb; blr x0; add w1, w1, #0x400; subs x2,
/// x2, #1; b.ne loop; brk #0`.
const REWRITE: [u32; 11] = [
    0xb900_0001,
    0xd50b_7b20,
    0xd503_3b9f,
    0xd50b_7520,
    0xd503_3b9f,
    0xd503_3fdf,
    0xd63f_0000,
    0x1110_0021,
    0xf100_0442,
    0x54ff_fee1,
    0xd420_0000,
];
/// `loop: dc cvau, x0; ic ivau, x0; add x0, x0, #64; subs x2, x2, #1; b.ne loop; dsb ish; isb; brk #0`.
const CLEAR: [u32; 8] =
    [0xd50b_7b20, 0xd50b_7520, 0x9101_0000, 0xf100_0442, 0x54ff_ff81, 0xd503_3b9f, 0xd503_3fdf, 0xd420_0000];
/// `add x3, x3, #1`, whose immediate is in bits 21 to 10.
const ADD: u32 = 0x9100_0463;
const RET: u32 = 0xd65f_03c0;
const SIZE: usize = 1 << 20;

/// Runs the program at the start of a mapping, with X0 `code` bytes after the start, until its BRK. Returns
/// X3, and how often it left to have code dropped.
fn run(mapping: &Mapping, hot: u32, code: usize, x2: u64) -> (u64, usize) {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + SIZE as u64) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let mut engine = engine();
    engine.translate_after(hot);
    let mut state = State::default();
    (state.pc, state.gpr[0], state.gpr[1], state.gpr[2]) =
        (mapping.0, mapping.0 + code as u64, ADD.into(), x2);
    let mut left = 0;
    loop {
        match engine.run(&mut state, &host, &AtomicU32::new(0)) {
            Exit::CodeModified { address } => LOG.invalidate(address..address + 64),
            exit => {
                assert_eq!(exit, Exit::Breakpoint(0));
                return (state.gpr[3], left);
            }
        }
        left += 1;
    }
}

fn mapping(base: u64, program: &[u32]) -> Mapping {
    let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mapping = Mapping::new(base, &bytes, SIZE);
    LOG.invalidate(base..base + SIZE as u64);
    mapping
}

#[test]
fn code_that_is_written_again_and_again_is_run_as_it_is() {
    let mapping = mapping(0x49_0000_0000, &REWRITE);
    for (hot, code) in [(0, 0x1000), (8, 0x2000), (2, 0x40), (2, 0x3ffc)] {
        // SAFETY: the word is in the mapping.
        unsafe { *((mapping.0 as usize + code + 4) as *mut u32) = RET };
        let times = 500;
        let before = LOG.head();
        let (sum, _) = run(&mapping, hot, code, times);
        assert_eq!(sum, times * (times + 1) / 2, "translated after {hot}, code at {code:#x}");
        // Each time except the first, there is code to drop.
        assert!(LOG.head() - before >= times - 1, "{}", LOG.head() - before);
    }
}

#[test]
fn lines_without_code_are_invalidated_without_leaving() {
    let mapping = mapping(0x4a_0500_0000, &CLEAR);
    let lines = (SIZE - 0x1000) as u64 / 64;
    let (_, left) = run(&mapping, 0, 0x1000, lines);
    assert_eq!(left, 0);
}

/// `add x3, x3, #1; ret` in lines whose number is divisible by `step`, each run once.
fn fill(mapping: &Mapping, step: usize) {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + SIZE as u64) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let mut engine = engine();
    engine.translate_after(0);
    for at in (0x1000..SIZE).step_by(64 * step) {
        // SAFETY: the words are in the mapping.
        unsafe { *((mapping.0 as usize + at) as *mut [u32; 2]) = [ADD, 0xd420_0000] };
        let mut state = State::default();
        state.pc = mapping.0 + at as u64;
        assert_eq!(engine.run(&mut state, &host, &AtomicU32::new(0)), Exit::Breakpoint(0));
        assert_eq!(state.gpr[3], 1);
    }
}

#[test]
fn lines_with_code_that_follow_each_other_are_invalidated_at_once() {
    let mapping = mapping(0x4c_0300_0000, &CLEAR);
    let lines = (SIZE - 0x1000) as u64 / 64;
    fill(&mapping, 1);
    let before = LOG.head();
    let (_, left) = run(&mapping, 0, 0x1000, lines);
    // Other tests log changes, too.
    assert!(left == 0 && LOG.head() - before < lines / 2, "{left}, {}", LOG.head() - before);
    // Another invalidation makes new code count, even where the old code was translated.
    // SAFETY: the words are in the mapping.
    unsafe { *((mapping.0 as usize + SIZE - 64) as *mut u32) = ADD + (1 << 10) };
    let (_, left) = run(&mapping, 0, 0x1000, lines);
    assert_eq!(left, 0);
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + SIZE as u64) };
    let mut state = State::default();
    state.pc = mapping.0 + SIZE as u64 - 64;
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    assert_eq!(engine().run(&mut state, &host, &AtomicU32::new(0)), Exit::Breakpoint(0));
    assert_eq!(state.gpr[3], 2);
}

#[test]
fn lines_with_code_that_lie_apart_are_all_invalidated() {
    let mapping = mapping(0x4d_0400_0000, &CLEAR);
    let lines = (SIZE - 0x1000) as u64 / 64;
    fill(&mapping, 3);
    let (_, left) = run(&mapping, 0, 0x1000, lines);
    // The first line waits for the second, at which the code leaves, and so on.
    assert!((lines / 7..=lines / 3).contains(&(left as u64)), "{left} of {lines}");
}

#[test]
fn code_that_another_unit_relies_on_is_not_relied_on_once_it_changes() {
    const FAR: usize = 0x2000;
    // cmp x0, #5; and x1, x1, x0; b far
    const NEAR: [u32; 3] = [0xf100_141f, 0x8a00_0021, 0x1400_07fe];
    const COMPARE: u32 = 0xf100_001f;
    const NOP: u32 = 0xd503_201f;
    let mapping = mapping(0x4d_0700_0000, &NEAR);
    // cmp x0, #0, which makes the flags from before it dead; cset x4, eq; brk #0
    // SAFETY: the words are in the mapping.
    unsafe { *((mapping.0 as usize + FAR) as *mut [u32; 3]) = [COMPARE, 0x9a9f_17e4, 0xd420_0000] };
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + SIZE as u64) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let mut engine = engine();
    engine.translate_after(0);
    let mut x4 = |offset: usize| {
        let mut state = State::default();
        (state.pc, state.gpr[0], state.gpr[1]) = (mapping.0 + offset as u64, 5, 7);
        assert_eq!(engine.run(&mut state, &host, &AtomicU32::new(0)), Exit::Breakpoint(0));
        state.gpr[4]
    };
    // The far code gets a unit of its own, so the near code leaves its unit for it.
    assert_eq!([FAR, 0, 0].map(&mut x4), [0; 3]);
    let far = mapping.0 + FAR as u64;
    // SAFETY: the word is in the mapping.
    unsafe { *(far as *mut u32) = NOP };
    LOG.invalidate(far..far + 4);
    assert_eq!([0, 0].map(&mut x4), [1; 2]);
}
