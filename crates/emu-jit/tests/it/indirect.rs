//! Branches to many targets, several of which share a set of the jump cache.

use crate::cases::Mapping;
use crate::host::{LOG, engine};
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use std::sync::atomic::AtomicU32;

/// `loop: ldr x9, [x1], #8; blr x9; subs x2, x2, #1; b.ne loop; brk #0`.
const CALLS: [u32; 5] = [0xf840_8429, 0xd63f_0120, 0xf100_0442, 0x54ff_ffa1, 0xd420_0000];
/// The same with `adr x30, .+8; br x9`.
const JUMPS: [u32; 6] = [0xf840_8429, 0x1000_005e, 0xd61f_0120, 0xf100_0442, 0x54ff_ff81, 0xd420_0000];
/// `add x0, x0, #1; br x30` and `add x0, x0, #2; ret`.
const TARGETS: [[u32; 2]; 2] = [[0x9100_0400, 0xd61f_03c0], [0x9100_0800, 0xd65f_03c0]];

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs through the table of `count` targets, `distance` apart, four times.
fn go_to_all(program: &[u32], count: usize, distance: usize) {
    let base = 0x48_0000_0000;
    let (first, table) = (0x1_0000, 0x1_0000 + (count + 1) * distance);
    let size = (table + 8 * count).next_multiple_of(4096);
    let mut image = vec![0u8; size];
    image[..program.len() * 4].copy_from_slice(&bytes(program));
    for n in 0..count {
        let at = first + n * distance;
        image[at..at + 8].copy_from_slice(&bytes(&TARGETS[n % 2]));
        image[table + 8 * n..][..8].copy_from_slice(&(base + at as u64).to_le_bytes());
    }
    let mapping = Mapping::new(base, &image, size);
    LOG.invalidate(base..base + size as u64);
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + size as u64) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let mut engine = engine();
    engine.translate_after(0);
    let mut state = State::default();
    for round in 1..=4u64 {
        (state.pc, state.gpr[1], state.gpr[2]) = (base, base + table as u64, count as u64);
        assert_eq!(engine.run(&mut state, &host, &AtomicU32::new(0)), Exit::Breakpoint(0));
        assert_eq!(state.gpr[0], round * (count / 2 * 3) as u64, "{count} targets {distance} apart");
    }
}

#[test]
fn all_targets_are_found_however_far_they_are_apart() {
    for program in [&CALLS[..], &JUMPS] {
        for (count, distance) in [(2, 64), (4, 16 << 10), (6, 64 << 10), (512, 256), (20_000, 72)] {
            go_to_all(program, count, distance);
        }
    }
}
