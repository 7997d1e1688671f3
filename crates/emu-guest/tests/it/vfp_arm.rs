//! VFP of AArch32 where the comparison with QEMU does not reach: traps, faults and big-endian data.

use crate::cases::Mapping;
use crossdock_emu_guest::a32::Interpreter;
use crossdock_emu_guest::memory::{Access, Memory};
use crossdock_emu_guest::{Exit, Host, Invalidations, State};
use std::sync::atomic::AtomicU32;

/// A page of code and, after it, a page of data, of which word n is n in the high and n + 1 in the low half.
const BASE: u64 = 0x5800_0000;
const DATA: u32 = BASE as u32 + 0x1000;

/// SETEND BE.
const BIG_ENDIAN: u32 = 0xf101_0200;

fn run(guest: &mut State, words: &[u32], budget: u64) -> Exit {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(0x1000, 0);
    bytes.extend((0..0x400u32).flat_map(|n| (n << 16 | n + 1).to_le_bytes()));
    let page = Mapping::new(BASE, &bytes, 0x2000);
    // SAFETY: the window holds the mapping.
    let memory = unsafe { Memory::new(BASE, BASE + 0x2000) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let log = Invalidations::new();
    guest.pc = page.0;
    Interpreter::new(&log).run(guest, &host, &AtomicU32::new(0), budget)
}

/// Runs instructions with data at R1 and beyond; the exit must be that of the budget.
fn after(words: &[u32]) -> State {
    let mut state = State::default();
    state.set_r(1, DATA);
    assert_eq!(run(&mut state, words, words.len() as u64), Exit::Budget);
    state
}

/// Runs one instruction with R1 as given, which must leave registers as they are.
fn exit_of(word: u32, r1: u32) -> Exit {
    let mut state = State::default();
    state.set_r(1, r1);
    state.v = [7; 32];
    let before = state.clone();
    let exit = run(&mut state, &[word], 1);
    assert_eq!((state.r(1), state.v, state.pc), (before.r(1), before.v, BASE), "{word:08x}");
    exit
}

/// One test for all, since they share the addresses.
#[test]
fn vfp_traps_faults_and_reads_big_endian_data() {
    registers_of_the_kernel_are_undefined();
    unaligned_addresses_are_reported();
    a_fault_leaves_the_registers();
    doublewords_are_big_endian();
    short_vectors_do_not_exist();
}

fn registers_of_the_kernel_are_undefined() {
    // vmrs r0, and vmsr to, fpsid, mvfr2, mvfr1, mvfr0, fpexc, fpinst
    for register in [0, 5, 6, 7, 8, 9] {
        for word in [0xeef0_0a10, 0xeee0_0a10u32] {
            let word = word | register << 16;
            assert_eq!(exit_of(word, 0), Exit::Undefined(word));
        }
    }
}

fn unaligned_addresses_are_reported() {
    // vldr d0, [r1]; vldr s0, [r1]; vstr d0, [r1]; vldmia r1!, {d0-d1}; vstmdb r1!, {s0-s3}; vldr.16 s0, [r1]
    for (word, offset) in [
        (0xed91_0b00, 0),
        (0xed91_0a00, 0),
        (0xed81_0b00, 0),
        (0xecb1_0b04, 0),
        (0xed21_0a04, 16),
        (0xed91_0900, 0),
    ] {
        let r1 = DATA + 0x101 + offset;
        let address = u64::from(DATA + 0x101);
        assert_eq!(exit_of(word, r1), Exit::Unaligned { address }, "{word:08x}");
    }
}

fn a_fault_leaves_the_registers() {
    let end = DATA + 0x1000;
    // vldmia r1!, {d0-d3}; vldr d0, [r1], of which the second word faults; fldmiax r1!, {d0-d3}
    for (word, r1) in [(0xecb1_0b08, end - 24), (0xed91_0b00, end - 4), (0xecb1_0b09, end - 8)] {
        let Exit::Fault(fault) = exit_of(word, r1) else { panic!("{word:08x} must fault") };
        assert_eq!((fault.address, fault.access), (u64::from(end), Access::Read), "{word:08x}");
    }
    // vstmia r1!, {s0-s3}
    let Exit::Fault(fault) = exit_of(0xeca1_0a04, end - 8) else { panic!("the store must fault") };
    assert_eq!((fault.address, fault.access), (u64::from(end), Access::Write));
}

fn doublewords_are_big_endian() {
    let swapped = 0x0100_0000_0200_0100;
    // vldr d0, [r1]; vldr d1, [r1, #4]; vldmia r1, {d2}
    let state = after(&[BIG_ENDIAN, 0xed91_0b00, 0xed91_1b01, 0xec91_2b02]);
    let (d0, d1, d2) = (state.v[0] as u64, (state.v[0] >> 64) as u64, state.v[1] as u64);
    assert_eq!((d0, d1, d2), (swapped, 0x0200_0100_0300_0200, swapped));
    // vldr d0, [r1]; vstr d0, [r1, #20]; vstr d0, [r1, #32]; vldr s4, [r1, #20]; setend le;
    // vldr d3, [r1, #20]; vldr d4, [r1, #32]
    let state = after(&[
        BIG_ENDIAN,
        0xed91_0b00,
        0xed81_0b05,
        0xed81_0b08,
        0xed91_2a05,
        0xf101_0000,
        0xed91_3b05,
        0xed91_4b08,
    ]);
    let plain = 0x0001_0002_0000_0001;
    assert_eq!(state.v[1] as u32, (swapped >> 32) as u32);
    assert_eq!(((state.v[1] >> 64) as u64, state.v[2] as u64), (plain, plain));
}

fn short_vectors_do_not_exist() {
    // mvn r0, #0; vmsr fpscr, r0; vmrs r2, fpscr; vmrs apsr_nzcv, fpscr
    let state = after(&[0xe3e0_0000, 0xeee1_0a10, 0xeef1_2a10, 0xeef1_fa10]);
    assert_eq!((state.r(2), state.nzcv), (0xffc8_009f, 0xf000_0000));
}
