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
use super::blocks::Blocks;
use super::{End, Isa};
use crate::layout::{Assignment, GENERAL};
use crate::unit::STANDARD;
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

impl<I: Isa> Blocks<I> {
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
        let general = changes(&uses.general, GENERAL.map(|(guest, _)| guest));
        let vector = vector_changes(&uses, *I::STANDARD.vector());
        general.iter().for_each(|&(old, new, _)| assignment.replace_general(old, new));
        vector.iter().for_each(|&(old, new, _)| assignment.replace_vector(old, new));
        let gain: u32 = general.iter().chain(&vector).map(|(_, _, gain)| gain).sum();
        (gain >= GAIN_ALL_MIN).then_some(assignment)
    }
}

/// Like [`changes`], for vector registers. Where a loop uses parts of a register and never the whole, each
/// part wants a place of its own: an operation that writes a lane depends on what wrote the others before.
fn vector_changes<const N: usize>(uses: &Uses, standing: [u8; N]) -> Vec<(u8, u8, u32)> {
    let mut whole = uses.wholes();
    let mut wanting = Vec::new();
    for register in 0..16 {
        let parts = uses.parts(register);
        if !parts.is_empty() {
            whole[usize::from(register)] = 0;
            wanting.extend(parts);
        }
    }
    if wanting.is_empty() {
        return changes(&whole, standing);
    }
    wanting.extend((0..32).map(|guest| (guest, whole[usize::from(guest)])));
    wanting.retain(|&(_, uses)| uses > 0);
    wanting.sort_unstable_by_key(|&(guest, uses)| (core::cmp::Reverse(uses), guest));
    wanting.truncate(standing.len());
    let stays = |guest: u8| wanting.iter().any(|&(wanted, _)| wanted == guest);
    // Registers of which parts get places must go, so they come first: there are at least as many parts.
    let is_split = |guest: u8| uses.parts(guest).iter().any(|&(part, _)| guest < 16 && stays(part));
    let mut leaving: Vec<u8> = standing.into_iter().filter(|&guest| !stays(guest)).collect();
    leaving.sort_by_key(|&guest| (!is_split(guest), whole[usize::from(guest)]));
    let coming = wanting.iter().filter(|(guest, _)| !standing.contains(guest));
    leaving.into_iter().zip(coming).map(|(old, &(new, uses))| (old, new, uses)).collect()
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
}
