//! What A64 instructions do, as far as plans for their translation depend on it.

use super::{bit, bits};
use crate::translate::accesses::{Accesses, NO, NONE, UNKNOWN, Uses, mask};
use crate::translate::{Class, ENDS, End, FAULTS, READS, VECTORS, WRITES};
use crossdock_emu_guest::State;
use crossdock_emu_guest::a64::stack_pointer::may_unalign;
use crossdock_emu_guest::a64::{self, Ending, Facts, File, Operand, facts};

/// A bit of a [`Class`] in [`CLASSES`]: the lower bits of the word decide.
const MIXED: u8 = 1 << 7;

/// The classes of most words, by bits 31 to 21.
static CLASSES: [Class; 1 << 11] = {
    let mut classes = [Class(ENDS); 1 << 11];
    let mut high = 0;
    while high < classes.len() {
        let mut at = 0;
        while let Some(facts) = a64::facts_with(high as u32, at) {
            let class = class_of(facts).0;
            classes[high] = Class(if at == 0 || classes[high].0 == class { class } else { MIXED });
            at += 1;
        }
        high += 1;
    }
    classes
};

const fn class_of(facts: &Facts) -> Class {
    Class(
        facts.uses_flags as u8 * READS
            | facts.sets_flags as u8 * WRITES
            | facts.accesses_memory as u8 * FAULTS
            | facts.ending.is_some() as u8 * ENDS,
    )
}

/// The class of a word. One that is no instruction may have the class of its neighbours, and ends a block
/// when it runs.
#[inline(always)]
pub(super) fn class(word: u32) -> Class {
    let class = CLASSES[(word >> 21) as usize];
    let class = if class.has(MIXED) { facts(word).map_or(Class(ENDS), class_of) } else { class };
    // Data processing and loads and stores with vector registers (manual C4.1).
    let is_vector = bits(word, 27, 26) == 3;
    Class(class.0 | if is_vector { VECTORS } else { 0 })
}

/// How a block ends with `word` at `pc`; `None` if it goes on.
pub(super) fn end_of(word: u32, pc: u64) -> Option<End> {
    let Some(facts) = facts(word) else { return Some(End::Look) };
    let target = || pc.wrapping_add_signed(facts.signed_field(b'i', word) << 2);
    facts.ending.map(|ending| match ending {
        Ending::Jump => End::Jump(target()),
        Ending::Call => End::Call(target()),
        Ending::Branch => End::Branch(target()),
        Ending::JumpRegister => End::JumpRegister,
        Ending::CallRegister => End::CallRegister,
        Ending::Return => End::Return,
        Ending::Syscall => End::Syscall,
        Ending::Exception => End::Look,
        Ending::Synchronize => End::Synchronize,
        Ending::Invalidate => End::Invalidate,
        Ending::SetMode => End::SetMode,
    })
}

/// The place of a general register in `State::gpr`; [`NO`] for the zero register and vectors.
fn general(operand: &Operand) -> u8 {
    match operand.file {
        File::General if operand.number == 31 => NO,
        File::General | File::Base => operand.number,
        File::Vector => NO,
    }
}

/// Whether a load of a general register writes it as the last thing that it does.
fn loads_last(word: u32) -> bool {
    let literal = bits(word, 29, 28) == 1 && !bit(word, 24);
    let plain = bits(word, 29, 28) == 3 && (bit(word, 24) || !bit(word, 21) || bits(word, 11, 10) == 2);
    literal || plain
}

/// The registers of an instruction that only computes with general registers, and that has a lowering of its
/// own; `None` for others, for those that depend on their address, and for those that may change SP.
pub(super) fn computes_alone(word: u32) -> Option<Accesses> {
    let is_immediate = bits(word, 28, 26) == 0b100 && bits(word, 25, 24) != 0;
    // Logical and arithmetic with shifted or extended registers; products.
    let is_register = bits(word, 27, 25) == 0b101 && (bits(word, 28, 28) == 0 || bits(word, 24, 24) == 1);
    let is_plain = !class(word).has(FAULTS | ENDS | READS);
    let found = (is_immediate || is_register) && is_plain && !may_unalign(word);
    found.then(|| accesses(word)).filter(|accesses| !accesses.unknown)
}

/// The general registers that a word accesses, for plans.
pub(super) fn accesses(word: u32) -> Accesses {
    let Some((class, facts)) = a64::implemented(word) else { return UNKNOWN };
    if facts.ending.is_some() {
        // Calls write the link register, too.
        return UNKNOWN;
    }
    let writes_last = match class {
        a64::Class::Integer => true,
        a64::Class::LoadStore => loads_last(word),
        _ => false,
    };
    let (mut found, mut count) = (NONE, 0);
    let mut read = |found: &mut Accesses, register: u8| {
        if register != NO && count < found.reads.len() {
            found.reads[count] = register;
            count += 1;
        }
    };
    for operand in facts.operands(word) {
        let register = general(&operand);
        if register == NO {
            continue;
        }
        let is_only_written = operand.writes && !operand.reads;
        if is_only_written && writes_last {
            found.write = register;
            continue;
        }
        if operand.reads || class == a64::Class::LoadStore {
            read(&mut found, register);
        }
        if operand.writes {
            found.also |= mask(register);
        }
    }
    // A base that is written back and loaded, too.
    if found.write != NO && found.also & mask(found.write) != 0 { UNKNOWN } else { found }
}

/// Counts the registers of a word.
pub(super) fn count(word: u32, weight: u32, uses: &mut Uses) {
    for operand in facts(word).into_iter().flat_map(|facts| facts.operands(word)) {
        let number = operand.number.into();
        match operand.file {
            File::General => uses.general(number, weight),
            File::Base => uses.pointer(number, weight),
            File::Vector => uses.vector(number, weight),
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
                let found = accesses(word);
                if found.unknown {
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
                    let known = found.write == x as u8 || found.also >> x & 1 == 1;
                    assert!(known || !written, "{} {word:08x} writes X{x}", row.name());
                }
                let write = found.write;
                if write != NO && !found.reads.contains(&write) {
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
            words.iter().map(|&word| accesses(word)),
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
            plan([0x8b02_0020; 40].iter().map(|&word| accesses(word)), &Assignment::STANDARD, ALL, None)
                .is_none()
        );
    }

    #[test]
    fn classes_and_ends_of_words() {
        let class = |word: u32| {
            let class = class(word);
            [READS, WRITES, FAULTS, ENDS].map(|bit| class.has(bit))
        };
        let [none, reads, writes, both, faults, ends, reads_ends] = [
            [false; 4],
            [true, false, false, false],
            [false, true, false, false],
            [true, true, false, false],
            [false, false, true, false],
            [false, false, false, true],
            [true, false, false, true],
        ];
        for (word, expected, end) in [
            (0x8b0d_018b_u32, none, None),                   // add x11, x12, x13
            (0xf100_05ce, writes, None),                     // subs x14, x14, #1
            (0xba0d_018b, both, None),                       // adcs x11, x12, x13
            (0xfa4d_0180, both, None),                       // ccmp x12, x13, #0, eq
            (0x9a8d_018b, reads, None),                      // csel x11, x12, x13, eq
            (0x1e6d_2180, writes, None),                     // fcmp d12, d13
            (0x1e6d_0d8b, reads, None),                      // fcsel d11, d12, d13, eq
            (0x1e6d_298b, none, None),                       // fadd d11, d12, d13
            (0xf940_018b, faults, None),                     // ldr x11, [x12]
            (0x4c40_2189, faults, None),                     // ld1 {v9.16b-v12.16b}, [x12]
            (0xd50b_7429, [true, false, true, false], None), // dc zva, x9
            (0xd53b_e04b, reads, None),                      // mrs x11, cntvct_el0
            (0xd503_201f, none, None),                       // nop
            (0x1400_0002, ends, Some(End::Jump(0x1008))),
            (0x97ff_ffff, ends, Some(End::Call(0xffc))),
            (0x5400_0040, reads_ends, Some(End::Branch(0x1008))),
            (0xb5ff_ffee, ends, Some(End::Branch(0xffc))), // cbnz x14, .-4
            (0x3707_ffee, ends, Some(End::Branch(0xffc))), // tbnz w14, #0, .-4
            (0xd61f_0180, ends, Some(End::JumpRegister)),
            (0xd63f_0180, ends, Some(End::CallRegister)),
            (0xd65f_03c0, ends, Some(End::Return)),
            (0xd400_0001, reads_ends, Some(End::Syscall)),
            (0xd420_0000, reads_ends, Some(End::Look)), // brk #0
            (0xd503_3fdf, reads_ends, Some(End::Synchronize)),
            (0xd50b_7529, reads_ends, Some(End::Invalidate)),
            (0xd51b_4409, reads_ends, Some(End::SetMode)),
            (0x0000_0000, ends, Some(End::Look)),
            (0x5400_0050, reads_ends, Some(End::Look)), // bc.eq
        ] {
            assert_eq!((class(word), end_of(word, 0x1000)), (expected, end), "{word:08x}");
        }
    }

    #[test]
    fn registers_of_words_are_counted() {
        let uses = |word: u32| {
            let mut uses = Uses::NONE;
            count(word, 1, &mut uses);
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
