//! What code outside of a unit does with the flags that the unit leaves.

use super::{Class, ENDS, End, GROUP, Isa, READS, WRITES};
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_guest::guest::Words;

/// Most instructions that are looked at in code outside of the unit, and most branches there.
const AHEAD_MAX: usize = 24;
const HOPS_MAX: usize = 2;

/// What is read of code that a unit leads to.
#[derive(Clone, Copy)]
pub struct Ahead {
    /// Where it begins.
    pub(super) place: u64,
    /// Whether the flags may be read there before they are written, by group.
    pub live: [bool; 2],
    /// The places of the instructions that say so; the unit goes when one of them changes.
    pub(super) ranges: [(u64, u64); HOPS_MAX + 1],
}

impl Ahead {
    /// Looks at the code at a place: along direct jumps and calls, until the flags are read or written.
    pub fn look<I: Isa>(words: &mut Words<'_>, place: u64) -> Ahead {
        let mut ahead = Ahead { place, live: [true; 2], ranges: [(0, 0); HOPS_MAX + 1] };
        let mut open = [true; 2];
        let (mut at, mut from, mut hops) = (place, place, 0);
        let mut context = I::Context::default();
        for _ in 0..AHEAD_MAX {
            let Some(item) = I::read(words, at, &mut context) else { break };
            let class = I::class(&item);
            let end = if class.has(ENDS) { I::end_of(&item, at) } else { None };
            at = at.wrapping_add(I::item_length(&item));
            // Units are found by the pages where their blocks begin.
            if I::address(at.wrapping_sub(1) ^ from) >= PAGE {
                break;
            }
            ahead.ranges[hops] = (from, at);
            let groups = open.iter_mut().zip(&mut ahead.live).take(I::FLAG_GROUPS);
            for (group, (open, live)) in groups.enumerate() {
                let class = Class(class.0 >> (group as u32 * GROUP));
                if *open && class.has(READS | WRITES) {
                    (*open, *live) = (false, class.has(READS));
                }
            }
            if !open[..I::FLAG_GROUPS].contains(&true) {
                break;
            }
            match end {
                None => {}
                Some(End::Jump(target) | End::Call(target)) if hops < HOPS_MAX => {
                    (at, from, context) = (target, target, I::Context::default());
                    hops += 1;
                }
                Some(_) => break,
            }
        }
        ahead
    }
}
