//! The comparison of blocks of RV64 with the interpreter. A program of its own, since that needs a process in
//! which nobody else has an engine.
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

#[allow(dead_code)]
#[path = "../../../emu-guest/tests/it/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../it/host.rs"]
mod host;

use cases::Mapping;
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::rv64::Rv64;
use crossdock_emu_guest::{Exit, Host, State};
use crossdock_emu_jit::{Copies, Outcome};
use host::engine_of;
use std::sync::atomic::AtomicU32;

const AT: u64 = 0x43_0000_0000;
const SIZE: usize = 1 << 14;

/// No copies: there are no images.
struct None;

impl Copies for None {
    fn run(&mut self, _: &mut dyn FnMut() -> Outcome) -> Option<Outcome> {
        Option::None
    }

    fn read(&mut self, _: u64, _: &mut [u8]) -> bool {
        false
    }

    fn end(&mut self) {}
}

/// Compares block by block until EBREAK.
fn check(code: &[u32], state: &mut State) -> Result<Exit, String> {
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let _code = Mapping::new(AT, &bytes, SIZE);
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(AT, AT + SIZE as u64) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let mut engine = engine_of::<Rv64>();
    state.pc = AT;
    loop {
        match engine.check(state, &host, &AtomicU32::new(0), &mut None) {
            Ok(Exit::Budget) => {}
            result => return result,
        }
    }
}

#[test]
fn blocks_that_hand_over_to_the_interpreter_are_compared_to_their_end() {
    // A register without ones above its single: the code leaves behind the first instruction.
    let unboxed = [
        0x4205_8553, // fcvt.d.s fa0, fa1
        0x0015_0513, // addi a0, a0, 1
        0x10a6_3023, // sd a0, 256(a2)
        0x0010_0073, // ebreak
    ];
    let mut state = State::default();
    state.set_rv64_f(11, 0x3f80_0000);
    state.set_rv64_x(12, AT + 0x1000);
    assert!(matches!(check(&unboxed, &mut state), Ok(Exit::Breakpoint(_))), "{state:?}");
    assert_eq!((state.rv64_f(10), state.rv64_x(10)), (0x7ff8_0000_0000_0000, 1));

    // A branch to a place inside its own block.
    let inside = [
        0x0015_0513, // addi a0, a0, 1
        0x0025_8593, // addi a1, a1, 2
        0x0005_8463, // beqz a1, 10
        0x0006_8067, // jr a3
        0x0010_0073, // ebreak
    ];
    let mut state = State::default();
    state.set_rv64_x(11, -8i64 as u64);
    state.set_rv64_x(13, AT + 4);
    assert!(matches!(check(&inside, &mut state), Ok(Exit::Breakpoint(_))), "{state:?}");
    assert_eq!((state.rv64_x(10), state.rv64_x(11)), (1, 0));
}
