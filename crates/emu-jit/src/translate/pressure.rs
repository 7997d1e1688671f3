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
//! The lowering still finds registers that [`Isa::accesses`](super::Isa::accesses) does not name, wherever
//! they are. But each register that an instruction may write must be named, or all be taken as written
//! ([`Accesses::unknown`]).

use super::accesses::{Accesses, NO, mask};
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
pub(super) fn plan(
    items: impl Iterator<Item = Accesses>,
    from: &Assignment,
    dirty: u16,
    to: Option<&Assignment>,
) -> Option<Plan> {
    let placed = from.general().iter().fold(0, |placed, &guest| placed | mask(guest));
    let mut before = 0;
    let accesses: Vec<Accesses> =
        items.inspect(|accesses| before += (accesses.all() & !placed).count_ones()).collect();
    if before < GAIN_MIN {
        return None;
    }
    let mut places =
        Places { guests: *from.general(), placed, dirty, next: [NEVER; 32], changes: Vec::new() };
    for &guest in to.iter().flat_map(|to| to.general()) {
        places.next[usize::from(guest)] = AT_END;
    }
    // By instruction, the next uses of the registers that it uses, by ascending register.
    let mut nexts = alloc::vec![[NEVER; 4]; accesses.len()];
    for (i, accesses) in accesses.iter().enumerate().rev() {
        for (guest, next) in registers(accesses.all()).zip(&mut nexts[i]) {
            *next = core::mem::replace(&mut places.next[usize::from(guest)], i as u16);
        }
    }
    let mut plan = Plan { changes: Vec::new(), dirty: Vec::with_capacity(accesses.len()) };
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
