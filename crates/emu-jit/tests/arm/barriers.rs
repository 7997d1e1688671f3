//! Barriers next to rounds of exclusive accesses are left out, where they have nothing to do; what such code
//! computes is the same from whatever place it is entered. `guest-tests/barriers.c` has two threads look for
//! missing barriers.

use crate::cases::Mapping;
use crate::host::{LOG, engine_of};
use crossdock_emu_guest::a32::registers::place;
use crossdock_emu_guest::a32::{A32, Interpreter};
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::Features;
use crossdock_emu_jit::image::compile::{Request, compile};
use crossdock_emu_jit::image::format::{Identity, Profile};
use std::sync::atomic::AtomicU32;

const CODE: u64 = 0x6c00_0000;
const CODE_SIZE: usize = 0x1000;
/// Two words of data behind the code.
const DATA: u64 = CODE + 0x800;

/// A loop in A32 that stores and adds 1 to a word.
const PROGRAM: [u32; 12] = [
    0xe588_0000, // again: str r0, [r8]
    0xf57f_f05b, //        dmb ish
    0xe199_1f9f, // round: ldrex r1, [r9]
    0xe281_1001, //        add r1, r1, #1
    0xe189_2f91, //        strex r2, r1, [r9]
    0xe352_0000, //        cmp r2, #0
    0x1aff_fffa, //        bne round
    0xe283_3001, //        add r3, r3, #1
    0xf57f_f05b, //        dmb ish
    0xe254_4001, //        subs r4, r4, #1
    0x1aff_fff4, //        bne again
    0xe7f0_00f0, //        udf #0
];
/// The place behind the round.
const BEHIND: u32 = 4 * 7;

fn host(code: &Mapping) -> Host {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(code.0, code.0 + CODE_SIZE as u64) };
    Host { memory, counter: || 0, executable: Host::anywhere }
}

fn mapping(program: &[u32]) -> Mapping {
    let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
    Mapping::new(CODE, &bytes, CODE_SIZE)
}

/// How many barriers the code of an image of the program has: XCHG of rax with memory at rbp and 32 bits.
fn barriers(program: &[u32]) -> usize {
    let code = mapping(program);
    let image = compile::<A32>(&Request {
        host: &host(&code),
        lines: LOG.lines(),
        base: CODE,
        text: 0..4 * program.len() as u32,
        profile: &Profile { hot: [0].into(), cold: [8, BEHIND].into() },
        features: Features::of_host(),
        identity: Identity::default(),
    });
    image.expect("there is code").windows(3).filter(|bytes| *bytes == [0x48, 0x87, 0x85]).count()
}

#[test]
fn barriers_with_nothing_to_do_are_left_out() {
    let _turn = crate::differ::turn();
    // That behind the round is made up for where the code behind the round is entered.
    assert_eq!(barriers(&PROGRAM), 1);
    // The same, and the one in front: the round compares with 1, stores another word, begins with a load, or
    // goes back to elsewhere.
    for (at, word) in [(5, 0xe352_0001), (4, 0xe188_2f91), (3, 0xe598_1000), (6, 0x1aff_fffb)] {
        let mut program = PROGRAM;
        program[at] = word;
        assert_eq!(barriers(&program), 2, "{word:#x}");
    }
    // A load lies behind the round: that barrier stays where it is.
    let mut program = PROGRAM;
    program[7] = 0xe598_3000;
    assert_eq!(barriers(&program), 1);
    // Both stay if nothing stores.
    program[4] = 0xe3a0_2000;
    assert_eq!(barriers(&program), 2);
}

#[test]
fn code_without_barriers_is_entered_anywhere() {
    let _turn = crate::differ::turn();
    let code = mapping(&PROGRAM);
    let host = host(&code);
    let (mut engine, mut interpreter) = (engine_of::<A32>(), Interpreter::new(&LOG));
    LOG.invalidate(CODE..CODE + CODE_SIZE as u64);
    engine.translate_after(1);
    for start in (0..PROGRAM.len() as u64).map(|i| CODE + 4 * i).chain([CODE]) {
        let mut state = State::default();
        state.pc = start;
        for (register, value) in [(4, 20), (8, DATA as u32), (9, DATA as u32 + 8)] {
            state.set_r(register, value);
        }
        let results = [true, false].map(|translates| {
            let (mut state, run) = (state.clone(), AtomicU32::new(0));
            // SAFETY: the words are in the mapping, and nobody else uses them.
            unsafe { std::ptr::write_bytes(DATA as *mut u32, 0, 3) };
            let exit = if translates {
                engine.run(&mut state, &host, &run)
            } else {
                interpreter.run(&mut state, &host, &run, u64::MAX)
            };
            assert!(matches!(exit, Exit::Undefined(_)), "{start:#x}: {exit:?}");
            // SAFETY: as above.
            let added =
                unsafe { std::ptr::read(DATA as *const u32).wrapping_add(*((DATA + 8) as *const u32)) };
            ([0, 1, 2, 3, 4].map(|n| state.gpr[usize::from(place(n))]), added, state.pc)
        });
        assert_eq!(results[0], results[1], "from {start:#x}");
    }
}
