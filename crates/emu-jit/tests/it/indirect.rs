//! Branches to many targets, several of which share a set of the jump cache.

use crate::cases::Mapping;
use crate::host::{LOG, engine};
use crossdock_emu_guest::a64::{A64, Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::Runner;
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

/// The first bytes of a mapping, and what runs code there from its first round on.
fn window(mapping: &Mapping, size: usize) -> (Host, Runner<A64>) {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + size as u64) };
    let mut engine = engine();
    engine.translate_after(0);
    (Host { memory, counter: || 0, executable: Host::anywhere }, engine)
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
    let (host, mut engine) = window(&mapping, size);
    let mut state = State::default();
    for round in 1..=4u64 {
        (state.pc, state.gpr[1], state.gpr[2]) = (base, base + table as u64, count as u64);
        assert_eq!(engine.run(&mut state, &host, &AtomicU32::new(0)), Exit::Breakpoint(0));
        assert_eq!(state.gpr[0], round * (count / 2 * 3) as u64, "{count} targets {distance} apart");
    }
}

/// An entry of a procedure linkage table, then `brk #0` and `brk #1`:
/// `adrp x16, .+0x3000; ldr x17, [x16, #16]; add x16, x16, #16; br x17`.
const ENTRY: [u32; 6] = [0xf000_0010, 0xf940_0a11, 0x9100_4210, 0xd61f_0220, 0xd420_0000, 0xd420_0020];

#[test]
fn an_entry_of_a_linkage_table_leads_where_the_table_says() {
    let base = 0x49_0000_0000;
    let mut image = vec![0u8; 0x4000];
    image[..ENTRY.len() * 4].copy_from_slice(&bytes(&ENTRY));
    image[0x3010..0x3018].copy_from_slice(&(base + 20u64).to_le_bytes());
    // The table's page belongs to the program, or it does not.
    for size in [0x4000, 0x3000] {
        let mapping = Mapping::new(base, &image[..size], size);
        LOG.invalidate(base..base + size as u64);
        let (host, mut engine) = window(&mapping, size);
        let mut state = State::default();
        state.pc = base;
        let exit = engine.run(&mut state, &host, &AtomicU32::new(0));
        if size == 0x4000 {
            assert_eq!((exit, state.pc), (Exit::Breakpoint(1), base + 20));
            assert_eq!(state.gpr[16..18], [base + 0x3010, base + 20]);
        } else {
            let Exit::Fault(fault) = exit else { panic!("{exit:?}") };
            assert_eq!(fault.address, base + 0x3010);
        }
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
