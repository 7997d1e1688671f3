//! Random words as code: the interpreter never panics and never leaves the window.
//!
//! `CROSSDOCK_FUZZ_STEPS` sets the number of instructions, `CROSSDOCK_FUZZ_SEED` where they begin.

use crate::cases::{Mapping, Random};
use crossdock_emu_guest::a32::{A32, Set};
use crossdock_emu_guest::a64::{A64, TABLE};
use crossdock_emu_guest::guest::Guest;
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::rv64::{self, Rv64};
use crossdock_emu_guest::{Exit, Host, Interpreter, Invalidations, State};
use std::sync::atomic::AtomicU32;

/// Three parts of 8 KiB: the middle one is the window. Below 4 GiB, so that 32-bit guests reach it.
const BUFFER: u64 = 0x5a00_0000;
const PART: u64 = 8 * 1024;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// A word of a known encoding, or, once in eight times, any word.
fn word(random: &mut Random, value: u32, mask: u32) -> u32 {
    let word = random.next() as u32;
    if word.is_multiple_of(8) { word.rotate_left(9) } else { value | word & !mask }
}

#[test]
fn random_code_stays_in_its_window() {
    random_code::<A64>(
        BUFFER,
        |random| {
            let row = &TABLE[random.next() as usize % TABLE.len()];
            word(random, row.value, row.mask)
        },
        |random, state| {
            state.fpcr = random.next() as u32 & 0x07c0_0000;
            state.nzcv = random.next() as u32 & 0xf000_0000;
        },
    );
}

#[test]
fn random_code_of_arm_stays_in_its_window() {
    let sets = [Set::Arm, Set::Thumb16, Set::Thumb32, Set::Float];
    random_code::<A32>(
        BUFFER + 0x10_0000,
        |random| {
            let set = sets[random.next() as usize % sets.len()];
            let row = &set.rows()[random.next() as usize % set.rows().len()];
            let word = word(random, row.value, row.mask);
            match set {
                // T32's words of 32 bits begin with their high half.
                Set::Thumb32 => word.rotate_left(16),
                Set::Thumb16 => word << 16 | random.next() as u32 & 0xffff,
                // Mostly "always", since other conditions may fail.
                _ if word < 0xe000_0000 && random.next().is_multiple_of(2) => {
                    word & 0x0fff_ffff | 0xe000_0000
                }
                _ => word,
            }
        },
        |random, state| {
            for register in &mut state.gpr[..31] {
                *register &= 0xffff_ffff;
            }
            state.set_fpscr(random.next() as u32);
            // Q, E.
            state.apsr = random.next() as u32 & 0x0800_0200;
            state.set_ge(random.next() as u32);
            state.pc |= random.next() & 1;
        },
    );
}

#[test]
fn random_code_of_riscv_stays_in_its_window() {
    random_code::<Rv64>(
        BUFFER + 0x20_0000,
        |random| {
            let row = &rv64::TABLE[random.next() as usize % rv64::TABLE.len()];
            // Two instructions of 16 bits, once in four times.
            if random.next().is_multiple_of(4) {
                let half = |random: &mut Random| random.next() as u32 & 0xffff;
                let (low, high) = (half(random), half(random));
                return (high << 16 | low) & !0x0001_0001;
            }
            word(random, row.value, row.mask)
        },
        |random, state| state.set_fcsr(random.next() as u32 & 0x9f),
    );
}

/// Runs words that `word` makes, in pieces of at most 32, with registers that `prepare` completes.
fn random_code<G: Guest>(
    buffer: u64,
    word: impl Fn(&mut Random) -> u32,
    prepare: impl Fn(&mut Random, &mut State),
) {
    let steps = setting("CROSSDOCK_FUZZ_STEPS", 200_000);
    let mut random = Random(0x5eed + setting("CROSSDOCK_FUZZ_SEED", 0));
    let guard = vec![0x5au8; 3 * PART as usize];
    let buffer = Mapping::new(buffer, &guard, guard.len());
    let start = buffer.0 + PART;
    // SAFETY: the window is the middle third of the mapping, which the test accesses only between runs.
    let memory = unsafe { Memory::new(start, start + PART) };
    let host = Host { memory, counter: || 7, executable: Host::anywhere };
    let log = Invalidations::new();
    let mut interpreter = Interpreter::<G>::new(&log);
    let mut exits = [0u64; 3];
    for _ in 0..steps / 16 {
        for slot in 0..32u64 {
            memory.store(start + slot * 4, 2, u64::from(word(&mut random))).expect("inside the window");
        }
        log.invalidate(start..start + PART);
        let mut state = State::default();
        for n in 0..31 {
            let pointer = start + random.next() % PART;
            let value = random.register();
            state.set_x(n, if random.next().is_multiple_of(2) { pointer } else { value });
        }
        state.set_sp(start + PART / 2);
        state.v = std::array::from_fn(|_| random.vector());
        state.pc = start;
        prepare(&mut random, &mut state);
        for _ in 0..16 {
            match interpreter.run(&mut state, &host, &AtomicU32::new(0), 16) {
                Exit::Budget => exits[0] += 1,
                Exit::Syscall(_) | Exit::CodeModified { .. } | Exit::AllCodeModified => exits[1] += 1,
                _ => {
                    exits[2] += 1;
                    let (address, set) = (G::address(state.pc), state.pc - G::address(state.pc));
                    state.pc = address.wrapping_add(4) & !3 | set;
                }
            }
        }
    }
    assert!(exits.iter().all(|count| *count > 0), "{exits:?}");
    let bytes = buffer.bytes(guard.len());
    let (below, above) = (&bytes[..PART as usize], &bytes[2 * PART as usize..]);
    assert!(below.iter().chain(above).all(|&byte| byte == 0x5a), "a write outside the window");
}
