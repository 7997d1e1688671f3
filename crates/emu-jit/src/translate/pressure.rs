//! Which guest registers live in host registers at each instruction of a long block.
//!
//! If a block uses many registers that its assignment leaves in memory, it changes the assignment as it goes:
//! before an instruction, a general register that is used again soon takes the place of the one that is
//! unused for longest. A register that already equals its memory is not stored again ([`Plan::dirty`]).
//!
//! A register that an instruction only writes takes its place without being loaded. If the instruction may
//! fault, its mark still has the previous assignment: nothing has been written then, and the place still
//! holds its old register.
//!
//! The lowering still finds registers that [`Accesses::of`] does not name, wherever they are. But each
//! register that an instruction may write must be named, or all be taken as written ([`Accesses::unknown`]).

use super::integer::logical_immediate;
use super::{bit, bits};
use crate::layout::{Assignment, GENERAL};
use alloc::vec::Vec;

/// Blocks with fewer instructions get no plan: in loops, and elsewhere.
const LENGTH_MIN_IN_LOOP: usize = 20;
const LENGTH_MIN: usize = 32;
/// The least number of memory operands that a plan must save, and the least share of all of them, in eighths.
const GAIN_MIN: u32 = 8;
const GAIN_EIGHTHS: u32 = 2;
/// All places may differ from memory.
pub(super) const ALL: u16 = (1 << PLACES) - 1;

const PLACES: usize = GENERAL.len();
/// Next use of a register that the block does not use any more, but that is in a host register after the
/// block.
const AT_END: u16 = u16::MAX - 1;
/// Next use of a register that is not used again and is in memory after the block.
const NEVER: u16 = u16::MAX;
/// No register.
const NO: u8 = 255;

/// A change of the assignment before an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// Index of the instruction in its block.
    pub at: usize,
    /// Index in [`GENERAL`].
    pub place: usize,
    /// The register that takes the place.
    pub guest: u8,
    /// Whether the register is loaded; if not, the instruction writes it.
    pub load: bool,
    /// Whether the register that loses the place is stored.
    pub store: bool,
}

/// Whether a block of this many instructions is worth a plan.
pub(super) fn is_long(length: usize, in_loop: bool) -> bool {
    length >= if in_loop { LENGTH_MIN_IN_LOOP } else { LENGTH_MIN }
}

/// How the assignment changes in a block.
#[derive(Default)]
pub(super) struct Plan {
    /// By ascending instruction, those with a load first.
    pub changes: Vec<Change>,
    /// Bit per place: whether it may differ from memory, from each instruction on.
    pub dirty: Vec<u16>,
}

/// The general registers of an instruction (index in `State::gpr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accesses {
    /// Registers that are read, or both read and written.
    reads: [u8; 3],
    /// The register that is only written, all 64 bits, after the last access to memory.
    write: u8,
    /// Bit per register: others that may be written, and those of `reads` that are written.
    also: u32,
    /// Whether any register may be written.
    unknown: bool,
}

const NONE: Accesses = Accesses { reads: [NO; 3], write: NO, also: 0, unknown: false };
const UNKNOWN: Accesses = Accesses { unknown: true, ..NONE };

/// A register field in which 31 is XZR.
fn register(word: u32, low: u32) -> u8 {
    match bits(word, low + 4, low) as u8 {
        31 => NO,
        register => register,
    }
}

/// A register field in which 31 is SP.
fn pointer(word: u32, low: u32) -> u8 {
    bits(word, low + 4, low) as u8
}

fn mask(register: u8) -> u32 {
    if register == NO { 0 } else { 1 << register }
}

impl Accesses {
    fn of(word: u32) -> Accesses {
        match word >> 25 & 15 {
            0b1000 | 0b1001 => Self::of_immediate(word),
            0b0101 | 0b1101 => Self::of_register(word),
            0b0100 | 0b0110 | 0b1100 | 0b1110 if bit(word, 26) => Self::of_vector_access(word),
            0b0100 | 0b0110 | 0b1100 | 0b1110 => Self::of_access(word),
            // FMOV, conversions, UMOV and SMOV write a general register.
            0b0111 | 0b1111 => Accesses { also: mask(register(word, 0)), ..NONE },
            _ => UNKNOWN,
        }
    }

    /// Data processing with an immediate (C4.1.92).
    fn of_immediate(word: u32) -> Accesses {
        let (d, n) = (register(word, 0), register(word, 5));
        let wide = bit(word, 31);
        match bits(word, 25, 23) {
            0 | 1 => Accesses { write: d, ..NONE },
            2 => {
                let write = if bit(word, 29) { d } else { pointer(word, 0) };
                Accesses { reads: [pointer(word, 5), NO, NO], write, ..NONE }
            }
            4 if logical_immediate(word).is_some() => {
                let write = if bits(word, 30, 29) == 3 { d } else { pointer(word, 0) };
                Accesses { reads: [n, NO, NO], write, ..NONE }
            }
            5 if wide || !bit(word, 22) => match bits(word, 30, 29) {
                0 | 2 => Accesses { write: d, ..NONE },
                3 => Accesses { reads: [d, NO, NO], also: mask(d), ..NONE },
                _ => UNKNOWN,
            },
            6 if bit(word, 22) == wide && (wide || !bit(word, 21) && !bit(word, 15)) => {
                match bits(word, 30, 29) {
                    0 | 2 => Accesses { reads: [n, NO, NO], write: d, ..NONE },
                    1 => Accesses { reads: [n, d, NO], also: mask(d), ..NONE },
                    _ => UNKNOWN,
                }
            }
            7 if bits(word, 30, 29) == 0
                && bit(word, 22) == wide
                && !bit(word, 21)
                && (wide || !bit(word, 15)) =>
            {
                Accesses { reads: [n, register(word, 16), NO], write: d, ..NONE }
            }
            _ => UNKNOWN,
        }
    }

    /// Data processing with registers (C4.1.95).
    fn of_register(word: u32) -> Accesses {
        let [d, n, m, a] = [0, 5, 16, 10].map(|low| register(word, low));
        let wide = bit(word, 31);
        let two = Accesses { reads: [n, m, NO], write: d, ..NONE };
        if !bit(word, 28) {
            let amount = wide || !bit(word, 15);
            return match (bit(word, 24), bit(word, 21)) {
                (false, _) if amount => two,
                (true, false) if amount && bits(word, 23, 22) != 3 => two,
                (true, true) if bits(word, 23, 22) == 0 && bits(word, 12, 10) <= 4 => {
                    let write = if bit(word, 29) { d } else { pointer(word, 0) };
                    Accesses { reads: [pointer(word, 5), m, NO], write, ..NONE }
                }
                _ => UNKNOWN,
            };
        }
        match bits(word, 24, 21) {
            0b0000 if bits(word, 15, 10) == 0 => two,
            // CCMN, CCMP.
            0b0010 if bit(word, 29) && !bit(word, 10) && !bit(word, 4) => {
                let m = if bit(word, 11) { NO } else { m };
                Accesses { reads: [n, m, NO], ..NONE }
            }
            0b0100 if !bit(word, 29) && !bit(word, 11) => two,
            0b0110 if bit(word, 30) && !bit(word, 29) && bits(word, 20, 16) == 0 => {
                match bits(word, 15, 10) {
                    0..=2 | 4 | 5 => Accesses { reads: [n, NO, NO], write: d, ..NONE },
                    3 if wide => Accesses { reads: [n, NO, NO], write: d, ..NONE },
                    _ => UNKNOWN,
                }
            }
            0b0110 if !bit(word, 30) && !bit(word, 29) && matches!(bits(word, 15, 10), 2 | 3 | 8..=11) => two,
            0b1000..=0b1111 if bits(word, 30, 29) == 0 => match bits(word, 23, 21) {
                0 => Accesses { reads: [n, m, a], write: d, ..NONE },
                1 | 5 if wide => Accesses { reads: [n, m, a], write: d, ..NONE },
                2 | 6 if wide && !bit(word, 15) => two,
                _ => UNKNOWN,
            },
            _ => UNKNOWN,
        }
    }

    /// Loads and stores of general registers (C4.1.94).
    fn of_access(word: u32) -> Accesses {
        let (t, n, m) = (register(word, 0), pointer(word, 5), register(word, 16));
        match bits(word, 29, 28) {
            1 if !bit(word, 24) && bits(word, 31, 30) != 3 => Accesses { write: t, ..NONE },
            2 => {
                let t2 = register(word, 10);
                let back = if bit(word, 23) { mask(n) } else { 0 };
                let loaded = if bit(word, 22) { mask(t) | mask(t2) } else { 0 };
                Accesses { reads: [n, t, t2], also: back | loaded, ..NONE }
            }
            3 => {
                let mut found = Accesses { reads: [n, NO, NO], ..NONE };
                if !bit(word, 24) {
                    match (bit(word, 21), bits(word, 11, 10)) {
                        (false, 1 | 3) if t == n => return UNKNOWN,
                        (false, 1 | 3) => found.also = mask(n),
                        (false, _) => {}
                        (true, 2) if bit(word, 14) => found.reads[1] = m,
                        _ => return UNKNOWN,
                    }
                }
                match (bits(word, 31, 30), bits(word, 23, 22)) {
                    (_, 0) => found.reads[2] = t,
                    (3, 2) => return NONE,
                    (_, 1) | (0..=2, 2) | (0 | 1, 3) => found.write = t,
                    _ => return UNKNOWN,
                }
                found
            }
            _ => UNKNOWN,
        }
    }

    /// Loads and stores of vector registers: only the base may be written.
    fn of_vector_access(word: u32) -> Accesses {
        let n = pointer(word, 5);
        match bits(word, 29, 28) {
            1 => NONE,
            3 if !bit(word, 24) && bit(word, 21) => {
                Accesses { reads: [n, register(word, 16), NO], also: mask(n), ..NONE }
            }
            _ => Accesses { reads: [n, NO, NO], also: mask(n), ..NONE },
        }
    }

    /// Bit per register: the registers that the instruction names.
    fn all(&self) -> u32 {
        self.reads.iter().fold(mask(self.write), |all, &register| all | mask(register))
    }
}

/// The registers in a mask.
fn registers(mut all: u32) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let register = all.trailing_zeros() as u8;
        all &= all.wrapping_sub(1);
        (register < 32).then_some(register)
    })
}

/// The places of a block's registers while its plan is made.
struct Places {
    guests: [u8; PLACES],
    /// Bit per register: whether it has a place.
    placed: u32,
    dirty: u16,
    /// The next instruction that uses each register.
    next: [u16; 32],
    changes: Vec<Change>,
}

impl Places {
    /// Gives `guest` a place, if the register in one is not used now (`used`) and is used later than `guest`
    /// is used again.
    fn bring(&mut self, at: usize, guest: u8, load: bool, used: u32) {
        let (mut place, mut farthest) = (NO, self.next[usize::from(guest)]);
        for (i, &old) in self.guests.iter().enumerate() {
            let next = self.next[usize::from(old)];
            if next > farthest && used >> old & 1 == 0 {
                (place, farthest) = (i as u8, next);
            }
        }
        if place == NO {
            return;
        }
        let place = usize::from(place);
        let store = self.dirty >> place & 1 == 1;
        self.changes.push(Change { at, place, guest, load, store });
        let old = core::mem::replace(&mut self.guests[place], guest);
        self.placed = self.placed & !mask(old) | mask(guest);
        self.dirty &= !(1 << place);
    }

    /// Marks the places of the written registers as dirty.
    fn write(&mut self, written: u32) {
        if written & self.placed == 0 {
            return;
        }
        for (place, &guest) in self.guests.iter().enumerate() {
            self.dirty |= ((written >> guest & 1) as u16) << place;
        }
    }
}

/// The plan for a block's instructions without its branch, if a plan pays. `from` is the assignment before
/// the block, of which `dirty` may differ from memory; `to` is the assignment wanted after the block, if any.
pub(super) fn plan(words: &[u32], from: &Assignment, dirty: u16, to: Option<&Assignment>) -> Option<Plan> {
    let placed = from.general().iter().fold(0, |placed, &guest| placed | mask(guest));
    let mut before = 0;
    let accesses: Vec<Accesses> = words
        .iter()
        .map(|&word| {
            let accesses = Accesses::of(word);
            before += (accesses.all() & !placed).count_ones();
            accesses
        })
        .collect();
    if before < GAIN_MIN {
        return None;
    }
    let mut places =
        Places { guests: *from.general(), placed, dirty, next: [NEVER; 32], changes: Vec::new() };
    for &guest in to.iter().flat_map(|to| to.general()) {
        places.next[usize::from(guest)] = AT_END;
    }
    // By instruction, the next uses of the registers that it uses, by ascending register.
    let mut nexts = alloc::vec![[NEVER; 4]; words.len()];
    for (i, accesses) in accesses.iter().enumerate().rev() {
        for (guest, next) in registers(accesses.all()).zip(&mut nexts[i]) {
            *next = core::mem::replace(&mut places.next[usize::from(guest)], i as u16);
        }
    }
    let mut plan = Plan { changes: Vec::new(), dirty: Vec::with_capacity(words.len()) };
    let mut after = 0;
    for (i, accesses) in accesses.iter().enumerate() {
        let used = accesses.all();
        for (guest, next) in registers(used).zip(nexts[i]) {
            places.next[usize::from(guest)] = next;
        }
        let only_written = if accesses.reads.contains(&accesses.write) { 0 } else { mask(accesses.write) };
        for guest in registers(used & !only_written & !places.placed) {
            places.bring(i, guest, true, used);
        }
        for guest in registers(only_written & !places.placed) {
            places.bring(i, guest, false, used);
        }
        after += (used & !places.placed).count_ones();
        places.write(mask(accesses.write) | accesses.also);
        if accesses.unknown {
            places.dirty = ALL;
        }
        plan.dirty.push(places.dirty);
    }
    let moves = |change: &Change| u32::from(change.load) + u32::from(change.store);
    after += places.changes.iter().map(moves).sum::<u32>();
    if let Some(to) = to {
        let back = |place: &usize| places.guests[*place] != to.general()[*place];
        after += (0..PLACES).filter(back).map(|place| 1 + u32::from(places.dirty >> place & 1)).sum::<u32>();
    }
    plan.changes = places.changes;
    (after + GAIN_MIN.max(before * GAIN_EIGHTHS / 8) <= before).then_some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use crossdock_emu_guest::a64::{Host, State, TABLE, decode};
    use crossdock_emu_guest::memory::Memory;

    extern crate std;

    /// SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    #[test]
    fn what_an_instruction_writes_is_named() {
        let mut seed = 5;
        let data = std::vec![0x5a5a_5a5a_1234_5678_u64; 4096].leak();
        let start = data.as_mut_ptr() as u64;
        // SAFETY: the window is that memory.
        let memory = unsafe { Memory::new(start, start + 8 * data.len() as u64) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let mut named: BTreeMap<&str, u32> = BTreeMap::new();
        for row in TABLE {
            for _ in 0..400 {
                let word = row.value | random(&mut seed) as u32 & !row.mask;
                let accesses = Accesses::of(word);
                if accesses.unknown {
                    continue;
                }
                let mut before = State::default();
                for x in &mut before.gpr[..32] {
                    let r = random(&mut seed);
                    *x = if r & 1 == 0 { start + 16384 + (r >> 32) % 256 * 16 } else { r >> 58 };
                }
                let run = |mut state: State| {
                    decode(word, 0x1000).0.execute(&mut state, &host).is_ok().then_some(state)
                };
                let Some(after) = run(before.clone()) else { continue };
                for x in 0..32 {
                    let written = after.gpr[x] != before.gpr[x];
                    let known = accesses.write == x as u8 || accesses.also >> x & 1 == 1;
                    assert!(known || !written, "{} {word:08x} writes X{x}", row.name());
                }
                let write = accesses.write;
                if write != NO && !accesses.reads.contains(&write) {
                    let mut other = before.clone();
                    other.gpr[usize::from(write)] ^= random(&mut seed);
                    let other = run(other).expect("it ran before");
                    assert_eq!(other.gpr[..32], after.gpr[..32], "{} {word:08x} reads X{write}", row.name());
                    *named.entry(row.name()).or_default() += 1;
                }
            }
        }
        for name in [
            "ADD", "SUBS", "ORR", "EOR", "MOVZ", "UBFM", "EXTR", "CSEL", "MADD", "REV", "LDR", "LDRB",
            "LDURSW",
        ] {
            assert!(named.get(name).is_some_and(|&count| count > 20), "{name}: {named:?}");
        }
    }

    #[test]
    fn registers_that_are_used_take_the_places_of_those_that_are_not() {
        // add x11, x12, x13; eor x12, x13, x11; add x13, x11, x12, repeated.
        let words = [0x8b0d_018b_u32, 0xca0b_01ac, 0x8b0c_016d].repeat(8);
        let plan =
            plan(&words, &Assignment::STANDARD, ALL, Some(&Assignment::STANDARD)).expect("a plan pays");
        let mut found: Vec<_> =
            plan.changes.iter().map(|change| (change.at, change.guest, change.load, change.store)).collect();
        found.sort_unstable();
        assert_eq!(found, [(0, 11, false, true), (0, 12, true, true), (0, 13, true, true)]);
        assert_eq!(plan.dirty.len(), words.len());
        // Registers that were loaded and not written since do not differ from memory.
        let clean = |guest: u8| {
            let change = plan.changes.iter().find(|change| change.guest == guest).expect("it has a place");
            plan.dirty[0] >> change.place & 1 == 0
        };
        assert_eq!([11, 12, 13].map(clean), [false, true, true]);
        // Registers that the standard assignment has in host registers need no plan.
        assert!(super::plan(&[0x8b02_0020; 40], &Assignment::STANDARD, ALL, None).is_none());
    }
}
