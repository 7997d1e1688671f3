//! The facts of A64's table are what the interpreter does.

use crossdock_emu_guest::a64::{Class, Ending, Facts, File, Host, Row, State, TABLE, decode, facts};
use crossdock_emu_guest::memory::Memory;
use std::collections::BTreeMap;

/// Words of the guest's memory.
const WORDS: usize = 512;
const LR: usize = 30;
const SP: usize = 31;

/// SplitMix64.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

struct Guest {
    memory: &'static mut [u64; WORDS],
    host: Host,
    seed: u64,
}

impl Guest {
    fn new() -> Guest {
        let memory = Box::leak(Box::new([0; WORDS]));
        let start = memory.as_ptr() as u64;
        // SAFETY: the window is that memory, which lives for ever.
        let window = unsafe { Memory::new(start, start + 8 * WORDS as u64) };
        let host = Host { memory: window, counter: || 0, executable: Host::anywhere };
        Guest { memory, host, seed: 11 }
    }

    fn random(&mut self) -> u64 {
        random(&mut self.seed)
    }

    /// Registers of which most are addresses in the middle of the memory, and some small numbers.
    fn state(&mut self) -> State {
        let mut state = State::default();
        let middle = (self.memory.as_ptr() as u64 + 4 * WORDS as u64) & !63;
        for n in 0..SP {
            let value = self.random();
            state.gpr[n] = if value & 3 != 0 { middle + (value >> 32 & 7) * 64 } else { value >> 58 };
        }
        state.gpr[SP] = middle;
        for v in &mut state.v {
            *v = u128::from(random(&mut self.seed)) << 64 | u128::from(random(&mut self.seed));
        }
        state.nzcv = (self.random() as u32) << 28;
        state
    }

    /// Runs a word; the registers and memory behind it, or nothing if it leaves the interpreter.
    fn run(&mut self, word: u32, mut state: State) -> Option<(State, [u64; WORDS])> {
        for (i, memory) in self.memory.iter_mut().enumerate() {
            *memory = 0x0123_4567_89ab_cdef_u64.rotate_left(i as u32);
        }
        let is_done = decode(word, 0x1000).0.execute(&mut state, &self.host).is_ok();
        is_done.then_some((state, *self.memory))
    }
}

/// Which registers a word accesses: bits of general registers, then of vector registers.
fn registers(facts: &Facts, word: u32) -> (u64, u64) {
    let (mut reads, mut writes) = (0, 0);
    for operand in facts.operands(word) {
        let number = u64::from(operand.number);
        let bit = match operand.file {
            File::General if operand.number == 31 => continue,
            File::General | File::Base => 1 << number,
            File::Vector => 1 << (32 + number),
        };
        reads |= if operand.reads { bit } else { 0 };
        writes |= if operand.writes { bit } else { 0 };
    }
    if matches!(facts.ending, Some(Ending::Call | Ending::CallRegister)) {
        writes |= 1 << LR;
    }
    (reads, writes)
}

fn register(state: &State, n: usize) -> u128 {
    if n < 32 { state.gpr[n].into() } else { state.v[n - 32] }
}

fn change(state: &mut State, n: usize, by: u128) {
    if n < 32 { state.gpr[n] ^= by as u64 } else { state.v[n - 32] ^= by }
}

/// Checks one word of a row; true if it has run.
fn check(guest: &mut Guest, row: &Row, word: u32) -> bool {
    let facts = facts(word).expect("a row");
    let (reads, writes) = registers(facts, word);
    let before = guest.state();
    let Some((after, memory)) = guest.run(word, before.clone()) else { return false };
    let what = format!("{} {word:08x}", row.name());
    for n in 0..64 {
        let is_written = register(&after, n) != register(&before, n);
        assert!(!is_written || writes >> n & 1 == 1, "{what} writes register {n}");
    }
    let changes_flags = after.nzcv != before.nzcv;
    assert!(!changes_flags || facts.sets_flags || row.class == Class::System, "{what} sets flags");

    // Registers that are not read may have any value: one that is written, and some others.
    let written = (0..64).filter(|n| writes >> n & 1 == 1);
    let others = [0; 4].map(|_: i32| guest.random() as usize % 64);
    for n in written.chain(others).filter(|n| reads >> n & 1 == 0) {
        let mut other = before.clone();
        change(&mut other, n, u128::from(guest.random()) << 64 | u128::from(guest.random()));
        let (other, other_memory) = guest.run(word, other).unwrap_or_else(|| panic!("{what} reads {n}"));
        for m in 0..64 {
            let is_own = m == n && writes >> n & 1 == 0;
            assert!(is_own || register(&other, m) == register(&after, m), "{what} reads register {n}");
        }
        assert!(other.nzcv == after.nzcv && other.pc == after.pc, "{what} reads register {n}");
        assert!(other_memory == memory, "{what} stores register {n}");
    }
    if !facts.uses_flags {
        let mut other = before.clone();
        other.nzcv ^= 0xf000_0000;
        let (other, other_memory) = guest.run(word, other).unwrap_or_else(|| panic!("{what} uses flags"));
        let is_same = (0..64).all(|n| register(&other, n) == register(&after, n));
        assert!(is_same && other.pc == after.pc && other_memory == memory, "{what} uses flags");
        let keeps = other.nzcv ^ after.nzcv == 0xf000_0000;
        assert!(if facts.sets_flags { other.nzcv == after.nzcv } else { keeps }, "{what} sets flags");
    }
    true
}

#[test]
fn instructions_do_what_their_rows_say() {
    let mut guest = Guest::new();
    let mut ran: BTreeMap<Class, u32> = BTreeMap::new();
    for row in TABLE {
        for _ in 0..60 {
            let word = row.value | guest.random() as u32 & !row.mask;
            if check(&mut guest, row, word) {
                *ran.entry(row.class).or_default() += 1;
            }
        }
    }
    for (class, least) in [(Class::LoadStore, 5_000), (Class::Integer, 2_000), (Class::Simd, 10_000)] {
        assert!(ran[&class] > least, "{ran:?}");
    }
}

#[test]
fn words_outside_the_table_have_no_facts() {
    assert!(facts(0).is_none() && facts(0xffff_ffff).is_none());
}

#[test]
fn rows_that_access_memory_say_so() {
    let mut guest = Guest::new();
    let mut stored = 0;
    for row in TABLE {
        for _ in 0..60 {
            let word = row.value | guest.random() as u32 & !row.mask;
            let state = guest.state();
            let untouched: [u64; WORDS] =
                std::array::from_fn(|i| 0x0123_4567_89ab_cdef_u64.rotate_left(i as u32));
            let Some((_, memory)) = guest.run(word, state) else { continue };
            if memory != untouched {
                stored += 1;
                assert!(facts(word).is_some_and(|facts| facts.accesses_memory), "{} {word:08x}", row.name());
            }
        }
    }
    assert!(stored > 1_000, "{stored}");
}
