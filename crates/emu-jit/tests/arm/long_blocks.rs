//! Blocks that are as long as blocks can be: they are cut, but not inside an IT block.

use crate::both::Both;
use crossdock_emu_guest::a32::registers::place;
use crossdock_emu_guest::a64::{Exit, State};

const CODE: u64 = 0x6800_0000;

/// A loop in T32 whose IT block is after `before` instructions.
///
/// ```text
/// loop:  adds r0, #1              before times
///        lsls r1, r0, #31
///        ittt mi
///        addmi r2, #1; addmi r3, #1; addmi r2, #1
///        adds r5, #1              eight times
///        cmp r0, r4
///        bge end
///        b loop
/// end:   udf #0
/// ```
fn program(before: usize) -> Vec<u16> {
    let mut words = vec![0x3001; before];
    words.extend([0x07c1, 0xbf42, 0x3201, 0x3301, 0x3201]);
    words.extend([0x3501; 8]);
    words.extend([0x42a0, 0xda00]);
    // From the branch's place and 4.
    let back = -(words.len() as i32) - 2;
    words.extend([0xe000 | back as u16 & 0x7ff, 0xde00]);
    words
}

#[test]
fn a_block_is_not_cut_inside_an_it_block() {
    let mut both = Both::new(CODE);
    for before in 105..140 {
        both.put(&program(before));
        let mut state = State::default();
        state.pc = CODE | 1;
        state.set_r(4, 40 * before as u32);
        let (states, exits) = both.run(&state);
        assert!(matches!(exits[0], Exit::Undefined(_)), "{before}: {exits:?}");
        assert_eq!(exits[0], exits[1], "{before}");
        let registers = states.map(|state| [0, 1, 2, 3, 5].map(|n| state.gpr[usize::from(place(n))]));
        assert_eq!(registers[0], registers[1], "{before}");
        assert_eq!(
            registers[1][3] != 0,
            before % 2 == 1,
            "an odd number of instructions makes N true at times"
        );
    }
}
