//! Running, leaving, and changing code.

use crate::differ::install_fault_handler;
use crossdock_emu_guest::a64::{
    Exit, Host, Interpreter, Invalidations, State, Support, TABLE, decode, stack_pointer,
};
use crossdock_emu_guest::memory::{Access, Memory};
use std::sync::atomic::AtomicU32;

/// Guest code and data in the test's own memory, at the address where it happens to lie.
struct Guest {
    words: Box<[u32]>,
    state: State,
}

impl Guest {
    fn new(code: &[u32]) -> Self {
        let mut words = vec![0; 1024].into_boxed_slice();
        words[..code.len()].copy_from_slice(code);
        let mut state = State::default();
        state.pc = words.as_ptr() as u64;
        Guest { words, state }
    }

    fn start(&self) -> u64 {
        self.words.as_ptr() as u64
    }

    fn host(&mut self) -> Host {
        let start = self.words.as_mut_ptr() as u64;
        // SAFETY: the window is the buffer, which the test accesses only between runs.
        let memory = unsafe { Memory::new(start, start + self.words.len() as u64 * 4) };
        Host { memory, counter: || 42, executable: Host::anywhere }
    }

    fn run(&mut self) -> Exit {
        let host = self.host();
        let log = Invalidations::new();
        Interpreter::new(&log).run(&mut self.state, &host, &AtomicU32::new(0), 1_000_000)
    }
}

const SVC: u32 = 0xd400_0001;

#[test]
fn a_loop_runs_to_its_system_call() {
    // mov x0, #0; mov x1, #100; loop: add x0, x0, x1; subs x1, x1, #1; b.ne loop; svc #0
    let mut guest = Guest::new(&[0xd280_0000, 0xd280_0c81, 0x8b01_0000, 0xf100_0421, 0x54ff_ffc1, SVC]);
    assert_eq!(guest.run(), Exit::Syscall(0));
    assert_eq!(guest.state.x(0), 5050);
    assert_eq!(guest.state.pc, guest.start() + 24);
}

#[test]
fn an_access_outside_the_window_changes_nothing() {
    // ldr x0, [x1], #8
    let mut guest = Guest::new(&[0xf840_8420]);
    guest.state.set_x(0, 7);
    guest.state.set_x(1, 0x1000);
    let Exit::Fault(fault) = guest.run() else { panic!("the load must fault") };
    assert_eq!((fault.address, fault.access, fault.host_signal), (0x1000, Access::Read, false));
    assert_eq!((guest.state.x(0), guest.state.x(1), guest.state.pc), (7, 0x1000, guest.start()));
}

#[test]
fn code_that_has_changed_is_decoded_again_after_its_invalidation() {
    // mov x0, #1; svc #0
    let mut guest = Guest::new(&[0xd280_0020, SVC]);
    let (host, start) = (guest.host(), guest.start());
    let log = Invalidations::new();
    let mut interpreter = Interpreter::new(&log);
    let mut run = |state: &mut State| {
        state.pc = start;
        assert_eq!(interpreter.run(state, &host, &AtomicU32::new(0), 100), Exit::Syscall(0));
        state.x(0)
    };
    assert_eq!(run(&mut guest.state), 1);
    guest.words[0] = 0xd280_0040;
    log.invalidate(start..start + 4);
    assert_eq!(run(&mut guest.state), 2);
}

#[test]
fn a_change_in_the_middle_of_a_block_is_seen() {
    // mov x0, #1; add x0, x0, #1; nop; svc #0
    let mut guest = Guest::new(&[0xd280_0020, 0x9100_0400, 0xd503_201f, SVC]);
    let (host, start) = (guest.host(), guest.start());
    let log = Invalidations::new();
    let mut interpreter = Interpreter::new(&log);
    let mut run = |state: &mut State, from: u64| {
        state.pc = start + from;
        assert_eq!(interpreter.run(state, &host, &AtomicU32::new(0), 100), Exit::Syscall(0));
        state.x(0)
    };
    assert_eq!(run(&mut guest.state, 0), 2);
    assert_eq!(run(&mut guest.state, 4), 3);
    // add x0, x0, #8
    guest.words[1] = 0x9100_2000;
    log.invalidate(start + 4..start + 8);
    assert_eq!(run(&mut guest.state, 0), 9);
    assert_eq!(run(&mut guest.state, 4), 17);
    guest.words[2] = 0x9100_2000;
    log.invalidate(0..u64::MAX);
    assert_eq!(run(&mut guest.state, 0), 17);
    assert_eq!(run(&mut guest.state, 8), 25);
}

#[test]
fn a_block_knows_its_other_code_until_that_is_forgotten() {
    // b .
    let mut guest = Guest::new(&[0x1400_0000]);
    let (host, start) = (guest.host(), guest.start());
    let log = Invalidations::new();
    let mut interpreter = Interpreter::new(&log);
    let mut run = |interpreter: &mut Interpreter| {
        let exit = interpreter.run_cold(&mut guest.state, &host, &AtomicU32::new(0), 3, false, |_| false);
        assert_eq!(exit, None);
        (interpreter.heat(start), interpreter.code())
    };
    assert_eq!(run(&mut interpreter), (3, None));
    interpreter.set_code(start, Some(7));
    assert_eq!(run(&mut interpreter), (Interpreter::TRANSLATED, Some(7)));
    interpreter.forget_code(start);
    assert_eq!(run(&mut interpreter), (Interpreter::TRANSLATED, None));
    interpreter.set_code(start, Some(8));
    interpreter.forget_codes();
    assert_eq!(run(&mut interpreter), (Interpreter::TRANSLATED, None));
    interpreter.set_code(start, Some(0));
    assert_eq!(run(&mut interpreter), (Interpreter::TRANSLATED, Some(0)));
    interpreter.cool(start);
    assert_eq!((interpreter.heat(start), interpreter.code()), (1, None));
    assert_eq!(run(&mut interpreter), (3, None));
    interpreter.set_code(start, Some(9));
    log.invalidate(start..start + 4);
    assert_eq!(run(&mut interpreter), (3, None));
}

#[test]
fn the_interrupt_flag_and_the_budget_stop_an_endless_loop() {
    // b .
    let mut guest = Guest::new(&[0x1400_0000]);
    assert_eq!(guest.run(), Exit::Budget);
    let host = guest.host();
    let log = Invalidations::new();
    let exit = Interpreter::new(&log).run(&mut guest.state, &host, &AtomicU32::new(1), u64::MAX);
    assert_eq!(exit, Exit::Interrupted);
}

#[test]
fn undefined_words_and_misaligned_exclusives_leave() {
    let mut guest = Guest::new(&[0]);
    assert_eq!(guest.run(), Exit::Undefined(0));
    // ldxr x0, [x1]
    let mut guest = Guest::new(&[0xc85f_7c20]);
    let address = guest.start() + 4;
    guest.state.set_x(1, address);
    let expected = if address.is_multiple_of(8) { address + 4 } else { address };
    guest.state.set_x(1, expected);
    assert_eq!(guest.run(), Exit::Unaligned { address: expected });
    guest.state.pc = 2;
    assert_eq!(guest.run(), Exit::UnalignedPc);
}

#[test]
fn accesses_by_an_unaligned_sp_leave() {
    // mov x0, sp; str x0, [sp, #-8]!; ldr x1, [sp]
    let mut guest = Guest::new(&[0x9100_03e0, 0xf81f_8fe0, 0xf940_03e1]);
    let top = (guest.start() + 512) & !15;
    guest.state.set_sp(top);
    assert_eq!(guest.run(), Exit::UnalignedSp);
    assert_eq!((guest.state.sp(), guest.state.pc), (top - 8, guest.start() + 8));
    assert_eq!(guest.run(), Exit::UnalignedSp);
    assert_eq!(guest.state.pc, guest.start() + 8);
    // prfm pldl1keep, [sp]; mov x0, sp; svc #0
    let mut guest = Guest::new(&[0xf980_03e0, 0x9100_03e0, SVC]);
    guest.state.set_sp(top + 1);
    assert_eq!(guest.run(), Exit::Syscall(0));
    assert_eq!(guest.state.x(0), top + 1);
}

/// SplitMix64.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[test]
fn what_makes_sp_unaligned_is_known_and_ends_a_block() {
    install_fault_handler();
    let mut guest = Guest::new(&[]);
    let (host, start) = (guest.host(), guest.start());
    let log = Invalidations::new();
    let mut interpreter = Interpreter::new(&log);
    let (mut seed, mut unaligned, mut checked) = (1, 0, 0);
    for i in 0..400_000 {
        let row = &TABLE[i % TABLE.len()];
        let mut word = row.value | random(&mut seed) as u32 & !row.mask;
        // SP is often Rn, Rd or both.
        word |= [0, 31 << 5, 31, 31 << 5 | 31][i / TABLE.len() % 4] & !row.mask;
        if word & row.mask != row.value || Support::of(word) != Support::Implemented {
            continue;
        }
        // Accesses based on SP do not reach the instruction.
        guest.words[0] = word;
        let mut state = guest.state.clone();
        for n in 0..31 {
            state.set_x(n, if random(&mut seed) & 3 == 0 { start + 2048 } else { random(&mut seed) });
        }
        let sp = (start + 2048) & !15;
        state.set_sp(sp);
        let exit = interpreter.step(&mut state, &host);
        let may = stack_pointer::may_unalign(word);
        if state.sp() & 15 != 0 {
            unaligned += 1;
            assert!(may, "{word:08x} {} has made SP unaligned", row.name());
        }
        let ends = decode(word, start).1;
        assert!(!may || ends, "a block goes on behind {word:08x} {}", row.name());
        // An instruction that checks SP does nothing before the check.
        state = guest.state.clone();
        state.set_sp(sp + 8);
        let by_sp = stack_pointer::accesses(word);
        let exit_unaligned = interpreter.step(&mut state, &host);
        assert_eq!(exit_unaligned == Exit::UnalignedSp, by_sp, "{word:08x} {} {exit:?}", row.name());
        checked += u32::from(by_sp);
    }
    assert!(unaligned > 1000 && checked > 1000, "{unaligned} {checked}");
}
