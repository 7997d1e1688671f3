//! Which guest registers live in host registers in a loop.
//!
//! A loop here is all blocks that reach each other by direct branches, without a call between. If it uses
//! registers that the standard assignment leaves in memory more often than registers that the standard
//! assignment has in host registers, it gets an assignment of its own, in which these change places; the
//! others stay where they are. Code that enters or leaves the loop moves the registers, so a change must pay
//! within a few rounds. A use weighs more the deeper it is in inner loops.
//!
//! The counts need not be exact: a wrong count costs only time.

use super::unit::{End, Guest};
use super::{bit, bits};
use crate::cache::STANDARD;
use crate::layout::{Assignment, GENERAL, VECTOR};
use alloc::vec::Vec;
use core::ops::Range;

/// How much more often per round a register must be used than the one whose place it takes.
const GAIN_MIN: u32 = 2;
/// How much all changes together must gain in a round.
const GAIN_ALL_MIN: u32 = 4;
/// Weight of a use in an inner loop, relative to one in the loop around it.
const ROUNDS: u32 = 8;
/// Deeper loops count as this deep.
const DEPTH_MAX: u32 = 4;

/// How often registers are used.
struct Uses {
    general: [u32; 32],
    vector: [u32; 32],
}

impl Guest {
    /// Gives the loop that the unit starts in an assignment of its own, if that pays. Other loops gain
    /// little: if a loop goes round often, its blocks are hot before the code that leads to it.
    pub(super) fn assign(&mut self, start: u64) {
        if self.back.is_empty() {
            return;
        }
        let Some(first) = self.index(start) else { return };
        if !self.back.iter().any(|&(head, from)| (head..=from).contains(&first)) {
            return;
        }
        let Some(members) = self.loop_of(first) else { return };
        let Some(assignment) = self.assignment_for(&members) else { return };
        self.assignments.push(assignment);
        for i in members {
            self.blocks[i].assignment = self.assignments.len() as u16;
        }
        self.hide(start);
    }

    /// The blocks that direct branches reach from `start`, and that reach it again; `None` if there are none.
    /// Calls and their return addresses are left out.
    fn loop_of(&self, start: usize) -> Option<Vec<usize>> {
        const NONE: usize = usize::MAX;
        let to = |index: Option<usize>| index.unwrap_or(NONE);
        let next: Vec<[usize; 2]> = self
            .blocks
            .iter()
            .map(|block| match block.end {
                End::Call(_) | End::CallRegister => [NONE; 2],
                _ => [block.next_index(), block.target_index()].map(to),
            })
            .collect();
        let mut leads_back = alloc::vec![false; next.len()];
        // A block usually leads to a later one.
        loop {
            let mut changed = false;
            for i in (0..next.len()).rev() {
                if leads_back[i] {
                    continue;
                }
                let leads = next[i].iter().any(|&to| to == start || to != NONE && leads_back[to]);
                changed |= leads;
                leads_back[i] = leads;
            }
            if !changed {
                break;
            }
        }
        let (mut members, mut at) = (alloc::vec![start], 0);
        while let Some(&member) = members.get(at) {
            for to in next[member] {
                if to != NONE && leads_back[to] && !members.contains(&to) {
                    members.push(to);
                }
            }
            at += 1;
        }
        leads_back[start].then_some(members)
    }

    /// The loops among these blocks, from the head to the last block that branches back to it: compilers
    /// place a loop in one piece.
    fn loops(&self, members: &[usize]) -> Vec<Range<usize>> {
        let mut loops: Vec<Range<usize>> = Vec::new();
        for &(head, from) in
            self.back.iter().filter(|(head, from)| members.contains(head) && members.contains(from))
        {
            match loops.iter_mut().find(|known| known.start == head) {
                Some(known) => known.end = known.end.max(from + 1),
                None => loops.push(head..from + 1),
            }
        }
        loops
    }

    /// Hides blocks in the middle of a loop with an assignment: they need no entry.
    fn hide(&mut self, start: u64) {
        for block in &mut self.blocks {
            block.hidden = block.assignment != STANDARD && !block.loop_head && block.start != start;
        }
        for i in 0..self.blocks.len() {
            let block = &self.blocks[i];
            let (from, calls) = (block.assignment, matches!(block.end, End::Call(_)));
            for to in [block.next_index(), block.target_index()].into_iter().flatten() {
                if self.blocks[to].hidden && (self.blocks[to].assignment != from || calls) {
                    self.blocks[to].hidden = false;
                }
            }
        }
    }

    /// The assignment for a loop of these blocks, if the loop gets its own.
    fn assignment_for(&self, members: &[usize]) -> Option<Assignment> {
        let mut uses = Uses { general: [0; 32], vector: [0; 32] };
        let inner: Vec<Range<usize>> = self.loops(members);
        for &i in members {
            let around = inner.iter().filter(|one| one.contains(&i)).count() as u32;
            let weight = ROUNDS.pow(around.saturating_sub(1).min(DEPTH_MAX));
            for &word in &self.words[self.blocks[i].words()] {
                uses.count(word, weight);
            }
        }
        let mut assignment = Assignment::STANDARD;
        let general = changes(&uses.general, GENERAL.map(|(guest, _)| guest));
        let vector = changes(&uses.vector, VECTOR.map(|(guest, _)| guest));
        general.iter().for_each(|&(old, new, _)| assignment.replace_general(old, new));
        vector.iter().for_each(|&(old, new, _)| assignment.replace_vector(old, new));
        let gain: u32 = general.iter().chain(&vector).map(|(_, _, gain)| gain).sum();
        (gain >= GAIN_ALL_MIN).then_some(assignment)
    }
}

/// Registers that give up their places, registers that take them, and the gain of each pair. The registers in
/// `standing` have places.
fn changes<const N: usize>(uses: &[u32; 32], mut standing: [u8; N]) -> Vec<(u8, u8, u32)> {
    let of = |guest: u8| uses[usize::from(guest)];
    let mut wanting: Vec<u8> =
        (0..32).filter(|guest| of(*guest) >= GAIN_MIN && !standing.contains(guest)).collect();
    if wanting.is_empty() {
        return Vec::new();
    }
    wanting.sort_unstable_by_key(|&guest| (core::cmp::Reverse(of(guest)), guest));
    standing.sort_unstable_by_key(|&guest| (of(guest), guest));
    standing
        .into_iter()
        .zip(wanting)
        .map(|(old, new)| (old, new, of(new).saturating_sub(of(old))))
        .take_while(|&(_, _, gain)| gain >= GAIN_MIN)
        .collect()
}

impl Uses {
    fn general(&mut self, field: u32, weight: u32) {
        // 31 is mostly XZR; fields in which it is SP are counted by `pointer`.
        if field != 31 {
            self.general[field as usize] += weight;
        }
    }

    fn pointer(&mut self, field: u32, weight: u32) {
        self.general[field as usize] += weight;
    }

    fn vector(&mut self, field: u32, weight: u32) {
        self.vector[field as usize] += weight;
    }

    /// Counts the registers of a word.
    fn count(&mut self, word: u32, weight: u32) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_used_take_the_places_of_the_least_used() {
        let mut uses = [0; 32];
        (uses[6], uses[7], uses[8], uses[0], uses[1]) = (10, 5, 6, 6, 20);
        assert_eq!(changes(&uses, [1, 0, 2]), [(2, 6, 10)]);
        uses[0] = 1;
        assert_eq!(changes(&uses, [1, 0, 2]), [(2, 6, 10), (0, 8, 5)]);
    }

    #[test]
    fn registers_of_words_are_counted() {
        let uses = |word: u32| {
            let mut uses = Uses { general: [0; 32], vector: [0; 32] };
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
}
