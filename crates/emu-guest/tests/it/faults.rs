//! Faults of the host at guest accesses.

use crate::cases::Mapping;
use crate::differ::install_fault_handler;
use crossdock_emu_guest::a64::{Exit, Host, Interpreter, Invalidations, State};
use crossdock_emu_guest::memory::{Access, Memory};
use std::sync::atomic::AtomicU32;

const BASE: u64 = 0x7f_0000_0000;
const BARRED: u64 = BASE + 0x2000;

/// Runs one instruction whose X1 points 8 bytes before a page without rights, or into it.
fn fault(word: u32, x1: u64) -> (State, Exit) {
    install_fault_handler();
    let page = Mapping::new(BASE, &word.to_le_bytes(), 0x2000);
    // SAFETY: the window holds the mapping and a page that is not mapped.
    let memory = unsafe { Memory::new(BASE, BARRED + 0x1000) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let log = Invalidations::new();
    let mut state = State::default();
    for n in 0..31 {
        state.set_x(n, 0x1111 * n as u64);
    }
    state.set_x(1, x1);
    state.v = [5; 32];
    state.pc = page.0;
    let before = state.clone();
    let exit = Interpreter::new(&log).run(&mut state, &host, &AtomicU32::new(0), 1);
    assert_eq!(
        (state.gpr, state.v, state.pc),
        (before.gpr, before.v, before.pc),
        "{word:08x} changed a register"
    );
    (state, exit)
}

/// One test for all cases, since they share the addresses.
#[test]
fn a_fault_leaves_the_registers_and_names_the_address() {
    let cases = [
        // ldr x0, [x1, #8]!; ldp x2, x3, [x1], #16: the second half faults; ldr q0, [x1]; ld4 {v0-v3}, [x1],
        // #64
        (0xf840_8c20, BARRED - 8, BARRED, Access::Read),
        (0xa8c1_0c22, BARRED - 8, BARRED, Access::Read),
        (0x3dc0_0020, BARRED - 8, BARRED - 8, Access::Read),
        (0x4cdf_0020, BARRED - 16, BARRED, Access::Read),
        // str x0, [x1], #8; stp q0, q1, [x1, #-32]!
        (0xf800_8420, BARRED, BARRED, Access::Write),
        (0xadbf_0420, BARRED + 32, BARRED, Access::Write),
        // ldadd x2, x3, [x1]; swp; cas x2, x3, [x1]; casp x2, x3, x4, x5, [x1]; ldxp x2, x3, [x1]
        (0xf822_0023, BARRED, BARRED, Access::Write),
        (0xf822_8023, BARRED, BARRED, Access::Write),
        (0xc8a2_7c23, BARRED, BARRED, Access::Write),
        (0x4822_7c24, BARRED, BARRED, Access::Write),
        (0xc87f_0c22, BARRED, BARRED, Access::Read),
        // dc zva, x1; br x1
        (0xd50b_7421, BARRED, BARRED, Access::Write),
    ];
    for (word, x1, address, access) in cases {
        let (_, exit) = fault(word, x1);
        let Exit::Fault(fault) = exit else { panic!("{word:08x}: {exit:?}") };
        assert_eq!((fault.address, fault.access, fault.host_signal), (address, access, true), "{word:08x}");
    }
    // Tagged addresses lose the tag.
    let (_, exit) = fault(0xf940_0020, 0x5a00_0000_0000_0000 | BARRED);
    assert!(matches!(exit, Exit::Fault(fault) if fault.address == BARRED && fault.host_signal));
}

#[test]
fn an_alias_is_the_same_memory() {
    const ALIAS: u64 = 1 << 47;
    const TAG: u64 = 0x5a << 56;
    let mut words = [1u64, 2, 3, 4];
    let start = words.as_mut_ptr() as u64;
    // SAFETY: the window is the array, which is used through the window alone until the end.
    let plain = unsafe { Memory::new(start, start + 32) };
    let memory = plain.with_alias(ALIAS);
    assert_eq!(memory.load(start + 8 | ALIAS, 3), Ok(2));
    assert_eq!(memory.load(start + 8 | ALIAS | TAG, 3), Ok(2));
    assert_eq!(memory.store(start | ALIAS, 3, 5), Ok(()));
    assert_eq!(memory.load(start, 3), Ok(5));
    assert_eq!(memory.compare_swap(start + 16 | ALIAS, 3, 3, 7), Ok(3));
    // The last byte would be outside; so is everything with the bit, without an alias.
    for (memory, address) in
        [(memory, start + 25 | ALIAS), (memory, start - 8 | ALIAS), (plain, start | ALIAS)]
    {
        let fault = memory.load(address, 3).expect_err("outside the window");
        assert_eq!((fault.address, fault.host_signal), (address, false));
    }
    assert_eq!(words, [5, 2, 7, 4]);
}
