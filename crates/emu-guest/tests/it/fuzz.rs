//! Random words as code: the interpreter never panics and never leaves the window.
//!
//! `CROSSDOCK_FUZZ_STEPS` sets the number of instructions.

use crate::cases::Random;
use crossdock_emu_guest::a64::{Exit, Host, Interpreter, Invalidations, State, TABLE};
use crossdock_emu_guest::memory::Memory;
use std::sync::atomic::AtomicU32;

#[test]
fn random_code_stays_in_its_window() {
    let steps: u64 = std::env::var("CROSSDOCK_FUZZ_STEPS")
        .map_or(200_000, |steps| steps.parse().expect("a number of steps"));
    let mut random = Random(0x5eed);
    let guard = 0x5a5a_5a5a_5a5a_5a5au64;
    let mut buffer = vec![guard; 3 * 1024];
    let start = buffer.as_mut_ptr() as u64 + 8 * 1024;
    // SAFETY: the window is the middle third of the buffer, which the test accesses only between runs.
    let memory = unsafe { Memory::new(start, start + 8 * 1024) };
    let host = Host { memory, counter: || 7, executable: Host::anywhere };
    let log = Invalidations::new();
    let mut interpreter = Interpreter::new(&log);
    let mut exits = [0u64; 3];
    for _ in 0..steps / 16 {
        // Words of known encodings, except one in eight, which is any word.
        for slot in 0..32u64 {
            let row = &TABLE[random.next() as usize % TABLE.len()];
            let word = random.next() as u32;
            let word =
                if word.is_multiple_of(8) { word.rotate_left(9) } else { row.value | word & !row.mask };
            memory.store(start + slot * 4, 2, u64::from(word)).expect("inside the window");
        }
        log.invalidate(start..start + 8 * 1024);
        let mut state = State::default();
        for n in 0..31 {
            let pointer = start + random.next() % (8 * 1024);
            let value = random.register();
            state.set_x(n, if random.next().is_multiple_of(2) { pointer } else { value });
        }
        state.set_sp(start + 4096);
        state.v = std::array::from_fn(|_| random.vector());
        state.fpcr = random.next() as u32 & 0x07c0_0000;
        state.nzcv = random.next() as u32 & 0xf000_0000;
        state.pc = start;
        for _ in 0..16 {
            match interpreter.run(&mut state, &host, &AtomicU32::new(0), 16) {
                Exit::Budget => exits[0] += 1,
                Exit::Syscall(_) | Exit::CodeModified { .. } => exits[1] += 1,
                _ => {
                    exits[2] += 1;
                    state.pc = state.pc.wrapping_add(4) & !3;
                }
            }
        }
    }
    assert!(exits[0] > 0 && exits[2] > 0, "{exits:?}");
    assert!(
        buffer[..1024].iter().chain(&buffer[2048..]).all(|&word| word == guard),
        "a write outside the window"
    );
}
