//! Which guest registers live in host registers in a loop.
//!
//! A loop here is all blocks that reach each other by direct branches, without a call between. If it uses
//! registers that the standard assignment leaves in memory more often than registers that the standard
//! assignment has in host registers, it gets an assignment of its own, in which these change places; the
//! others stay where they are. Code that enters or leaves the loop moves the registers, so a change must pay
//! within a few rounds. A use weighs more the deeper it is in inner loops.
//!
//! The counts need not be exact: a wrong count costs only time.

use super::accesses::Uses;
use super::blocks::{Block, Blocks};
use super::{End, Isa};
use crate::layout::{Assignment, NOTHING, PARTS, QUARTERS, VECTOR};
use crate::unit::STANDARD;
use alloc::vec::Vec;
use core::ops::Range;

/// How much more often per round a register must be used than the one whose place it takes.
const GAIN_MIN: u32 = 2;
/// How much all changes together must gain in a round: one register that is read and written in it, which
/// would make a round wait for its store.
const GAIN_ALL_MIN: u32 = 2;
/// Blocks with fewer instructions get no assignment of their own outside of a loop.
const LENGTH_MIN: usize = 24;
/// How often such a block must use the register in a place that changes: it is changed before the block and
/// after it, with a load and a store each.
const GAIN_OF_PLACE_MIN: u32 = 5;
/// Weight of a use in an inner loop, relative to one in the loop around it.
const ROUNDS: u32 = 8;
/// Deeper loops count as this deep.
const DEPTH_MAX: u32 = 4;

impl<I: Isa> Blocks<I> {
    /// Gives the loop that the unit starts in, and long blocks, assignments of their own, if that pays.
    pub(super) fn assign(&mut self, start: u64) {
        self.assign_loop(start);
        if I::HALVES {
            self.assign_blocks();
        }
    }

    /// Gives long blocks outside of the loop an assignment that suits the vector registers that they use. All
    /// have the same, since one often leads to the next.
    fn assign_blocks(&mut self) {
        let is_long = |block: &Block| {
            let has_vectors = u32::from(block.vectors) >= GAIN_OF_PLACE_MIN;
            has_vectors && block.assignment == STANDARD && block.items().len() >= LENGTH_MIN
        };
        if !self.blocks.iter().any(is_long) {
            return;
        }
        let mut uses = Uses::NONE;
        for block in self.blocks.iter().filter(|block| is_long(block)) {
            self.items[block.items()].iter().for_each(|item| I::count_uses(item, 1, &mut uses));
        }
        let changes = vector_changes(&uses, I::STANDARD.vector(), GAIN_OF_PLACE_MIN);
        if changes.is_empty() {
            return;
        }
        let mut assignment = I::STANDARD.clone();
        changes.iter().for_each(|&(place, new, _)| assignment.set_vector(place, new));
        let number = self.assignments.len() as u16 + 1;
        let mut is_used = false;
        for i in 0..self.blocks.len() {
            if !is_long(&self.blocks[i]) {
                continue;
            }
            let mut uses = Uses::NONE;
            self.items[self.blocks[i].items()].iter().for_each(|item| I::count_uses(item, 1, &mut uses));
            let gain: u32 = changes.iter().map(|&(_, new, _)| uses.of(new)).sum();
            if gain >= GAIN_OF_PLACE_MIN * changes.len() as u32 {
                self.blocks[i].assignment = number;
                is_used = true;
            }
        }
        if is_used {
            self.assignments.push(assignment);
        }
    }

    /// Gives the loop that the unit starts in an assignment of its own, if that pays. Other loops gain
    /// little: if a loop goes round often, its blocks are hot before the code that leads to it.
    fn assign_loop(&mut self, start: u64) {
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
        let mut uses = Uses::NONE;
        let inner: Vec<Range<usize>> = self.loops(members);
        for &i in members {
            let around = inner.iter().filter(|one| one.contains(&i)).count() as u32;
            let weight = ROUNDS.pow(around.saturating_sub(1).min(DEPTH_MAX));
            for item in &self.items[self.blocks[i].items()] {
                I::count_uses(item, weight, &mut uses);
            }
        }
        let mut assignment = I::STANDARD.clone();
        let general = changes(&uses.general, *I::STANDARD.general());
        general.iter().for_each(|&(old, new, _)| assignment.replace_general(old, new));
        let mut gain: u32 = general.iter().map(|(_, _, gain)| gain).sum();
        if I::HALVES {
            let vector = vector_changes(&uses, I::STANDARD.vector(), 1);
            vector.iter().for_each(|&(place, new, _)| assignment.set_vector(place, new));
            gain += vector.iter().map(|(_, _, gain)| gain).sum::<u32>();
        } else {
            let vector = changes(&uses.vector, *I::STANDARD.vector());
            vector.iter().for_each(|&(old, new, _)| assignment.replace_vector(old, new));
            gain += vector.iter().map(|(_, _, gain)| gain).sum::<u32>();
        }
        (gain >= GAIN_ALL_MIN).then_some(assignment)
    }
}

/// Host registers (index in [`VECTOR`]) that change what they hold, what they hold then, and the gain.
/// Where a loop uses parts of a vector register and never the whole, each part wants a place of its own: an
/// operation that writes a lane depends on what wrote the others before. No register that is used as a whole
/// has parts with places. Operands that are used less often than `least` do not count.
fn vector_changes(uses: &Uses, standing: &[u8; VECTOR.len()], least: u32) -> Vec<(usize, u8, u32)> {
    let (all, whole) = (uses, uses.wholes());
    let mut wanting = Vec::new();
    for register in 0..32 {
        let parts = if least > 1 { uses.most_parts(register) } else { uses.parts(register) };
        if parts.is_empty() {
            wanting.push((register, whole[usize::from(register)]))
        } else {
            wanting.extend(parts)
        }
    }
    wanting.retain(|&(_, uses)| uses >= least);
    if wanting.is_empty() {
        return Vec::new();
    }
    // What a place holds must go if the loop uses it otherwise.
    let is_in_the_way = |held: u8| wanting.iter().any(|&(wanted, _)| wanted != held && overlap(wanted, held));
    let in_the_way: [bool; VECTOR.len()] = standing.map(is_in_the_way);
    wanting.sort_unstable_by_key(|&(operand, uses)| (core::cmp::Reverse(uses), operand));
    wanting.truncate(VECTOR.len());
    let stays = |held: u8| wanting.iter().any(|&(wanted, _)| wanted == held);
    let mut free: Vec<usize> = (0..VECTOR.len()).filter(|&place| !stays(standing[place])).collect();
    free.sort_by_key(|&place| (!in_the_way[place], uses.of(standing[place])));
    let mut changes = Vec::new();
    for &(operand, uses) in wanting.iter().filter(|(operand, _)| !standing.contains(operand)) {
        // A whole is best where its lower half is.
        let is_best = |&place: &usize| operand < PARTS && standing[place] == PARTS + (2 * operand & 31);
        let index = free.iter().position(is_best).unwrap_or(0);
        let gains = |&place: &usize| in_the_way[place] || uses >= all.of(standing[place]) + least;
        if free.get(index).is_some_and(gains) {
            changes.push((free.remove(index), operand, uses));
        }
    }
    changes.extend(free.into_iter().filter(|&place| in_the_way[place]).map(|place| (place, NOTHING, 0)));
    changes
}

/// Whether two operands are, or are parts of, one vector register, and have bits in common.
fn overlap(a: u8, b: u8) -> bool {
    // First bit and last bit.
    let bits = |operand: u8| match operand {
        0..PARTS => (u32::from(operand) * 128, 128),
        PARTS..QUARTERS => (u32::from(operand - PARTS) * 64, 64),
        QUARTERS..NOTHING => (u32::from(operand - QUARTERS) * 32, 32),
        NOTHING.. => (u32::MAX / 2, 0),
    };
    let ((a, of_a), (b, of_b)) = (bits(a), bits(b));
    a < b + of_b && b < a + of_a
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

    /// [`vector_changes`] from the standard assignment of 32-bit Arm, of operands that are used so often.
    fn changes_for(used: &[(u8, u32)], least: u32) -> Vec<(usize, u8, u32)> {
        let mut uses = Uses::NONE;
        used.iter().for_each(|&(operand, times)| uses.operand(operand, times));
        vector_changes(&uses, Assignment::STANDARD_OF_A32.vector(), least)
    }

    #[test]
    fn a_whole_register_takes_the_place_of_its_halves() {
        // Q1: D2 and D3 are in the third and the fourth place.
        assert_eq!(changes_for(&[(1, 9)], 1), [(2, 1, 9), (3, NOTHING, 0)]);
        // D3 has a place of its own.
        assert_eq!(changes_for(&[(PARTS + 3, 9), (PARTS + 4, 2)], 1), []);
        assert_eq!(changes_for(&[], 1), []);
    }

    #[test]
    fn parts_take_the_place_of_the_register_that_they_are_parts_of() {
        // S1 is a part of D0.
        assert_eq!(changes_for(&[(QUARTERS + 1, 8)], 1), [(0, QUARTERS + 1, 8)]);
        let changes = changes_for(&[(PARTS + 16, 9), (QUARTERS + 1, 8)], 1);
        assert_eq!(changes.iter().map(|&(_, new, _)| new).collect::<Vec<_>>(), [PARTS + 16, QUARTERS + 1]);
    }

    #[test]
    fn a_block_changes_only_what_pays() {
        assert_eq!(changes_for(&[(PARTS + 20, 4)], 5), []);
        // D0 is used as often as D28.
        let busy: Vec<(u8, u32)> = (0..13).map(|n| (PARTS + n, 9)).collect();
        let with = |operand: u8| busy.iter().copied().chain([(operand, 9)]).collect::<Vec<_>>();
        assert_eq!(changes_for(&with(PARTS + 28), 5), []);
        assert_eq!(changes_for(&[(PARTS + 28, 9)], 5).len(), 1);
    }

    #[test]
    fn registers_overlap_with_their_parts() {
        for (a, b, expected) in [
            (0, PARTS, true),
            (0, PARTS + 1, true),
            (0, PARTS + 2, false),
            (1, QUARTERS + 4, true),
            (PARTS + 1, QUARTERS + 2, true),
            (PARTS + 1, QUARTERS + 4, false),
            (QUARTERS, QUARTERS, true),
            (NOTHING, 0, false),
        ] {
            assert_eq!((overlap(a, b), overlap(b, a)), (expected, expected), "{a} and {b}");
        }
    }
}
