//! What A64 instructions do, as far as plans for their translation depend on it.

use super::branch::may_end;
use super::integer::logical_immediate;
use super::{bit, bits};
use crate::translate::accesses::{Accesses, NO, NONE, UNKNOWN, Uses, mask};
use crate::translate::{Class, ENDS, FAULTS, READS, WRITES};
use crossdock_emu_guest::State;

/// A bit of a [`Class`] in the table: the lower bits of the word decide how it uses the flags.
const MORE: u8 = 1 << 7;

impl Class {
    const fn a64(reads: bool, writes: bool, more: u8) -> Class {
        Class(reads as u8 * READS | writes as u8 * WRITES | more)
    }

    /// Indexed by bits 31 to 21.
    const TABLE: [Class; 1 << 11] = {
        let mut table = [Class(0); 1 << 11];
        let mut high = 0;
        while high < table.len() {
            let word = (high as u32) << 21;
            let (reads, writes) = flag_use(word);
            let faults = if may_fault(word) { FAULTS } else { 0 };
            let ends = if may_end(word) { ENDS } else { 0 };
            let more = if flag_use_needs_all(word) { MORE } else { 0 };
            table[high] = Class::a64(reads, writes, faults | ends | more);
            high += 1;
        }
        table
    };

    pub(in crate::translate) fn of(word: u32) -> Class {
        let class = Self::TABLE[(word >> 21) as usize];
        if class.has(MORE) {
            let (reads, writes) = flag_use(word);
            return Class::a64(reads, writes, class.0 & (FAULTS | ENDS));
        }
        class
    }
}

/// Whether an instruction reads the flags and whether it writes all of them (manual C4.1).
pub(in crate::translate) const fn flag_use(word: u32) -> (bool, bool) {
    let sets = bits(word, 29, 29) == 1;
    match bits(word, 28, 23) {
        // Add and subtract, immediate.
        0b10_0010 => return (false, sets),
        // Logical, immediate.
        0b10_0100 => return (false, bits(word, 30, 29) == 3),
        _ => {}
    }
    match bits(word, 28, 24) {
        0b01011 => (false, sets),
        0b01010 => (false, bits(word, 30, 29) == 3),
        0b11010 => match bits(word, 23, 21) {
            0 => (true, sets),
            0b010 => (true, true),
            0b100 => (true, false),
            _ => (false, false),
        },
        // B.cond, exceptions and system instructions.
        0b10100 | 0b10101 if word >> 29 & 3 == 2 => (true, false),
        // Scalar floating point: FCMP; FCCMP; FCSEL.
        0b11110 if word >> 29 & 7 == 0 && word >> 21 & 1 == 1 => match bits(word, 11, 10) {
            0 if bits(word, 15, 10) == 8 => (false, true),
            // FJCVTZS.
            0 if bits(word, 31, 10) == 0x0007_9f80 => (false, true),
            1 => (true, true),
            3 => (true, false),
            _ => (false, false),
        },
        _ => (false, false),
    }
}

/// Whether bits below 21 matter to [`flag_use`], because the word is scalar floating point.
pub(super) const fn flag_use_needs_all(word: u32) -> bool {
    bits(word, 28, 24) == 0b11110 && word >> 29 & 7 == 0 && word >> 21 & 1 == 1
}

/// Whether the code of a word that is no branch may access the guest's memory: loads, stores, and system
/// instructions (DC ZVA). Instructions left to the interpreter have a mark of their own.
const fn may_fault(word: u32) -> bool {
    word >> 25 & 0b0101 == 0b0100 || bits(word, 31, 22) == 0b11_0101_0100
}

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

impl Accesses {
    pub(in crate::translate) fn of(word: u32) -> Accesses {
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
}

impl Uses {
    /// Counts the registers of a word.
    pub(in crate::translate) fn count(&mut self, word: u32, weight: u32) {
        let [d, n, m, a] = [(4, 0), (9, 5), (20, 16), (14, 10)].map(|(high, low)| bits(word, high, low));
        match word >> 25 & 15 {
            0b1000 | 0b1001 => match bits(word, 25, 23) {
                0 | 1 | 5 => self.general(d, weight),
                2 => {
                    self.pointer(n, weight);
                    if bit(word, 29) { self.general(d, weight) } else { self.pointer(d, weight) }
                }
                opcode => {
                    self.general(d, weight);
                    self.general(n, weight);
                    if opcode == 7 {
                        self.general(m, weight);
                    }
                }
            },
            // CBZ, CBNZ, TBZ, TBNZ.
            0b1010 | 0b1011 if bits(word, 30, 26) >> 1 == 0b0110 || bits(word, 30, 25) == 0b01_1011 => {
                self.general(d, weight);
            }
            0b0101 | 0b1101 => {
                self.general(n, weight);
                let compares = bit(word, 28) && bits(word, 24, 21) == 0b0010;
                if !compares {
                    self.general(d, weight);
                }
                let one = bit(word, 30) && bit(word, 28) && bits(word, 24, 21) == 0b0110;
                if !(one || compares && bit(word, 11)) {
                    self.general(m, weight);
                }
                if bits(word, 28, 24) == 0b1_1011 {
                    self.general(a, weight);
                }
            }
            0b0100 | 0b0110 | 0b1100 | 0b1110 => self.count_access(word, weight),
            0b0111 | 0b1111 => self.count_vector(word, weight),
            _ => {}
        }
    }

    /// Counts the registers of a load or store.
    fn count_access(&mut self, word: u32, weight: u32) {
        let [t, n, m, t2] = [(4, 0), (9, 5), (20, 16), (14, 10)].map(|(high, low)| bits(word, high, low));
        let is_vector = bit(word, 26);
        let class = bits(word, 29, 28);
        if is_vector {
            self.vector(t, weight)
        } else {
            self.general(t, weight)
        }
        if class != 1 {
            self.pointer(n, weight);
        }
        match class {
            2 if is_vector => self.vector(t2, weight),
            2 => self.general(t2, weight),
            3 if !bit(word, 24) && bit(word, 21) => self.general(m, weight),
            0 if is_vector && !bit(word, 24) => {
                let more = match bits(word, 15, 12) {
                    0b0111 => 0,
                    0b1010 | 0b1000 => 1,
                    0b0110 | 0b0100 => 2,
                    _ => 3,
                };
                (1..=more).for_each(|i| self.vector(t + i & 31, weight));
            }
            0 if !is_vector && m != 31 => self.general(m, weight),
            _ => {}
        }
    }

    /// Counts the registers of scalar floating point and Advanced SIMD.
    fn count_vector(&mut self, word: u32, weight: u32) {
        let [d, n, m, a] = [(4, 0), (9, 5), (20, 16), (14, 10)].map(|(high, low)| bits(word, high, low));
        let scalar = bit(word, 28) && !bit(word, 30);
        if scalar && bit(word, 24) {
            [d, n, m, a].into_iter().for_each(|v| self.vector(v, weight));
            return;
        }
        // Conversions between float and integer, and FMOV.
        if scalar && bit(word, 21) && bits(word, 15, 10) == 0 {
            let to_vector = matches!(bits(word, 18, 16), 2 | 3 | 7);
            let (v, x) = if to_vector { (d, n) } else { (n, d) };
            self.vector(v, weight);
            return self.general(x, weight);
        }
        // DUP, INS (general); SMOV, UMOV.
        if !scalar && bits(word, 28, 21) & 0xf9 == 0b0111_0000 & 0xf9 && bits(word, 15, 10) & 1 == 1 {
            match bits(word, 14, 11) {
                0b0001 | 0b0011 if !bit(word, 29) => {
                    self.vector(d, weight);
                    return self.general(n, weight);
                }
                0b0101 | 0b0111 if !bit(word, 29) => {
                    self.vector(n, weight);
                    return self.general(d, weight);
                }
                _ => {}
            }
        }
        let immediate = scalar && bits(word, 12, 10) == 0b100;
        let compares = scalar && bits(word, 13, 10) == 0b1000;
        let one = scalar && bits(word, 14, 10) == 0b1_0000
            || !scalar && bits(word, 11, 10) == 2 && bits(word, 20, 19) & 1 == 0 && bits(word, 18, 17) == 0;
        if !compares {
            self.vector(d, weight);
        }
        if !immediate {
            self.vector(n, weight);
            if !one {
                self.vector(m, weight);
            }
        }
    }
}

/// The address that a load or store (manual C4.1.94) or DC ZVA accesses; `None` for other words, and for
/// literals, which are only read.
pub(in crate::translate) fn accessed(word: u32, state: &State) -> Option<u64> {
    let bits = |high: u32, low: u32| word >> low & (u32::MAX >> (31 - (high - low)));
    let signed = |high: u32, low: u32| i64::from((word << (31 - high)) as i32 >> (31 - high + low));
    if word & 0xffff_ffe0 == 0xd50b_7420 {
        return Some(state.x(bits(4, 0) as usize) & !63);
    }
    if word >> 25 & 0b0101 != 0b0100 {
        return None;
    }
    let base = state.gpr[bits(9, 5) as usize];
    let vector = bits(26, 26) == 1;
    let size = if vector && bits(23, 23) == 1 { 4 } else { bits(31, 30) };
    let offset = match bits(29, 28) {
        0 => 0,
        1 => return None,
        2 if bits(24, 23) == 1 => 0,
        2 => signed(21, 15) << if vector { 2 + bits(31, 30) } else { 2 + bits(31, 31) },
        _ if bits(24, 24) == 1 => i64::from(bits(21, 10)) << size,
        _ if bits(21, 21) == 0 && bits(11, 10) == 1 => 0,
        _ if bits(21, 21) == 0 => signed(20, 12),
        _ if bits(11, 10) == 2 => {
            let index = state.x(bits(20, 16) as usize);
            let index = match bits(15, 13) {
                2 => i64::from(index as u32),
                6 => i64::from(index as i32),
                _ => index as i64,
            };
            index << if bits(12, 12) == 1 { size } else { 0 }
        }
        _ => 0,
    };
    Some(base.wrapping_add_signed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Assignment;
    use crate::translate::a64::branch::end_of;
    use crate::translate::pressure::{ALL, plan};
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
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
        let made = plan(
            words.iter().map(|&word| Accesses::of(word)),
            &Assignment::STANDARD,
            ALL,
            Some(&Assignment::STANDARD),
        )
        .expect("a plan pays");
        let mut found: Vec<_> =
            made.changes.iter().map(|change| (change.at, change.guest, change.load, change.store)).collect();
        found.sort_unstable();
        assert_eq!(found, [(0, 11, false, true), (0, 12, true, true), (0, 13, true, true)]);
        assert_eq!(made.dirty.len(), words.len());
        // Registers that were loaded and not written since do not differ from memory.
        let clean = |guest: u8| {
            let change = made.changes.iter().find(|change| change.guest == guest).expect("it has a place");
            made.dirty[0] >> change.place & 1 == 0
        };
        assert_eq!([11, 12, 13].map(clean), [false, true, true]);
        // Registers that the standard assignment has in host registers need no plan.
        assert!(
            plan([0x8b02_0020; 40].iter().map(|&word| Accesses::of(word)), &Assignment::STANDARD, ALL, None)
                .is_none()
        );
    }

    /// A word of an existing instruction, with random fields.
    fn random_word(seed: &mut u64) -> u32 {
        let table = crossdock_emu_guest::a64::TABLE;
        let row = &table[random(seed) as usize % table.len()];
        row.value | random(seed) as u32 & !row.mask
    }

    #[test]
    fn classes_are_those_of_the_whole_words() {
        let mut seed = 1;
        let mut ends = 0;
        for i in 0..400_000 {
            let word = if i % 4 == 0 { random(&mut seed) as u32 } else { random_word(&mut seed) };
            let class = Class::of(word);
            assert_eq!((class.has(READS), class.has(WRITES)), flag_use(word), "{word:08x}");
            assert_eq!(class.has(FAULTS), may_fault(word), "{word:08x}");
            let end = end_of(word, 0x1000);
            assert!(class.has(ENDS) || end.is_none(), "{word:08x} ends a block: {end:?}");
            ends += u32::from(end.is_some());
        }
        assert!(ends > 10_000, "{ends}");
    }

    #[test]
    fn registers_of_words_are_counted() {
        let uses = |word: u32| {
            let mut uses = Uses::NONE;
            uses.count(word, 1);
            let numbers = |counts: [u32; 32]| -> Vec<usize> {
                (0..32).flat_map(|i| core::iter::repeat_n(i, counts[i] as usize)).collect()
            };
            (numbers(uses.general), numbers(uses.vector))
        };
        for (word, general, vector) in [
            (0x8b0d_018b_u32, &[11, 12, 13][..], &[][..]), // add x11, x12, x13
            (0xf100_05ce, &[14, 14], &[]),                 // subs x14, x14, #1
            (0x9100_43ff, &[31, 31], &[]),                 // add sp, sp, #16
            (0xb500_000e, &[14], &[]),                     // cbnz x14, .
            (0x3728_000e, &[14], &[]),                     // tbnz w14, #5, .
            (0x5400_000e, &[], &[]),                       // b.al .
            (0xf86d_7989, &[9, 12, 13], &[]),              // ldr x9, [x12, x13, lsl #3]
            (0xa940_2989, &[9, 10, 12], &[]),              // ldp x9, x10, [x12]
            (0x9b0d_398b, &[11, 12, 13, 14], &[]),         // madd x11, x12, x13, x14
            (0x6e6b_d549, &[], &[9, 10, 11]),              // fadd v9.2d, v10.2d, v11.2d
            (0x1e6b_0949, &[], &[9, 10, 11]),              // fmul d9, d10, d11
            (0x1f4b_3149, &[], &[9, 10, 11, 12]),          // fmadd d9, d10, d11, d12
            (0x9e67_0189, &[12], &[9]),                    // fmov d9, x12
            (0xfd40_0589, &[12], &[9]),                    // ldr d9, [x12, #8]
            (0x4c40_2189, &[12], &[9, 10, 11, 12]),        // ld1 {v9.16b-v12.16b}, [x12]
        ] {
            assert_eq!(uses(word), (general.to_vec(), vector.to_vec()), "{word:08x}");
        }
    }

    #[test]
    fn addresses_are_those_of_the_access() {
        let mut state = State::default();
        (state.gpr[1], state.gpr[2], state.gpr[31]) = (0x1000, 0xffff_fffe, 0x2000);
        for (word, address) in [
            (0xf940_0420, 0x1008),        // ldr x0, [x1, #8]
            (0xf81f_8c20, 0xff8),         // str x0, [x1, #-8]!
            (0xf81f_8420, 0x1000),        // str x0, [x1], #-8
            (0xa9bf_7bfd, 0x1ff0),        // stp x29, x30, [sp, #-16]!
            (0x3d80_0420, 0x1010),        // str q0, [x1, #16]
            (0xf822_d820, 0xff0),         // str x0, [x1, w2, sxtw #3]
            (0xb822_4820, 0x1_0000_0ffe), // str w0, [x1, w2, uxtw]
            (0xc89f_fc20, 0x1000),        // stlr x0, [x1]
            (0xf820_0020, 0x1000),        // ldadd x0, x0, [x1]
            (0x4c00_0020, 0x1000),        // st4 {v0.16b-v3.16b}, [x1]
        ] {
            assert_eq!(accessed(word, &state), Some(address), "{word:08x}");
        }
        assert_eq!(accessed(0x9100_0420, &state), None);
    }
}
