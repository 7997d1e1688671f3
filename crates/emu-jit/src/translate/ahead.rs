//! What code outside of a unit does with the flags that the unit leaves.

use super::{Class, ENDS, End, GROUP, Isa, READS, WRITES};
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_guest::guest::Words;

/// Most instructions that are looked at in code outside of the unit.
#[derive(Clone, Copy)]
pub struct Sight(usize);

impl Sight {
    /// While a program runs: what the look costs is not worth more.
    pub const SHORT: Sight = Sight(16);
    /// For images.
    pub const FAR: Sight = Sight(48);
}

/// Most pieces of code that are looked at.
const PIECES_MAX: usize = 8;

/// What is read of code that a unit leads to.
#[derive(Clone, Copy)]
pub struct Ahead {
    /// Where it begins.
    pub(super) place: u64,
    /// Whether the flags may be read there before they are written, by group.
    pub live: [bool; 2],
    /// The places of the instructions that say so; the unit goes when one of them changes.
    pieces: [Piece; PIECES_MAX],
    /// How many pieces there are.
    count: usize,
}

/// Code without a branch.
#[derive(Clone, Copy, Default)]
struct Piece {
    start: u64,
    end: u64,
    /// Whether each group of flags was neither read nor written on the way here.
    open: [bool; 2],
}

impl Ahead {
    /// Looks at the code at a place: along direct branches, on both ways of those with conditions, until the
    /// flags are read or written on all ways.
    pub fn look<I: Isa>(words: &mut Words<'_>, place: u64, sight: Sight) -> Ahead {
        let mut ahead = Ahead { place, live: [false; 2], pieces: [Piece::default(); PIECES_MAX], count: 0 };
        let mut groups = [false; 2];
        groups[..I::FLAG_GROUPS].fill(true);
        let Sight(mut left) = sight;
        let is_known = ahead.enter(place, groups) && {
            let mut at = 0;
            loop {
                if at == ahead.count || ahead.live == groups {
                    break true;
                }
                if !ahead.follow::<I>(words, at, &mut left) {
                    break false;
                }
                at += 1;
            }
        };
        if !is_known {
            ahead.live = groups;
        }
        ahead
    }

    /// The places of the instructions that were looked at. None crosses the end of a page.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.pieces[..self.count].iter().map(|piece| (piece.start, piece.end))
    }

    /// Adds the code at `start` to what is to be looked at; false if there is no room.
    fn enter(&mut self, start: u64, open: [bool; 2]) -> bool {
        let covers = |known: &Piece| {
            known.start == start && known.open.iter().zip(open).all(|(known, new)| *known || !new)
        };
        if self.pieces[..self.count].iter().any(covers) {
            return true;
        }
        let Some(piece) = self.pieces.get_mut(self.count) else { return false };
        *piece = Piece { start, end: start, open };
        self.count += 1;
        true
    }

    /// Looks at a piece up to its branch, and adds where that leads; false if it is not known what the code
    /// does with the flags.
    fn follow<I: Isa>(&mut self, words: &mut Words<'_>, index: usize, left: &mut usize) -> bool {
        let Piece { start, mut open, .. } = self.pieces[index];
        let (mut at, mut context) = (start, I::Context::default());
        loop {
            // Units are found by the pages where their blocks begin.
            if I::address(at ^ start) >= PAGE {
                return self.enter(at, open);
            }
            let Some(still) = left.checked_sub(1) else { return false };
            *left = still;
            let Some(item) = I::read(words, at, &mut context) else { return false };
            let class = I::class(&item);
            let end = if class.has(ENDS) { I::end_of(&item, at) } else { None };
            at = at.wrapping_add(I::item_length(&item));
            if I::address(at.wrapping_sub(1) ^ start) >= PAGE {
                return false;
            }
            self.pieces[index].end = at;
            let groups = open.iter_mut().zip(&mut self.live).take(I::FLAG_GROUPS);
            for (group, (open, live)) in groups.enumerate() {
                let class = Class(class.0 >> (group as u32 * GROUP));
                if *open && class.has(READS | WRITES) {
                    *open = false;
                    *live |= class.has(READS);
                }
            }
            if !open.contains(&true) {
                return true;
            }
            match end {
                None => {}
                Some(End::Jump(target) | End::Call(target)) => return self.enter(target, open),
                Some(End::Branch(target)) => return self.enter(target, open) && self.enter(at, open),
                Some(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_emu_guest::a64::A64;
    use crossdock_emu_guest::memory::Memory;

    /// Whether the flags may be read in A64 code before they are written.
    fn are_live(code: &[u32], sight: Sight) -> bool {
        let start = code.as_ptr() as u64;
        // SAFETY: the window is the array.
        let memory = unsafe { Memory::new(start, start + size_of_val(code) as u64) };
        Ahead::look::<A64>(&mut Words::new(&memory, None), start, sight).live[0]
    }

    #[test]
    fn flags_are_dead_if_all_ways_write_them_first() {
        const NOP: u32 = 0xd503_201f;
        const CBZ_12: u32 = 0xb400_0060;
        const CMP: u32 = 0xf100_041f;
        const CSET: u32 = 0x9a9f_17e0;
        const RET: u32 = 0xd65f_03c0;
        assert!(!are_live(&[NOP, CMP], Sight::SHORT));
        assert!(are_live(&[NOP, CSET, CMP], Sight::SHORT));
        assert!(!are_live(&[CBZ_12, CMP, RET, NOP, CMP], Sight::SHORT));
        assert!(are_live(&[CBZ_12, CMP, RET, CSET], Sight::SHORT));
        assert!(are_live(&[CBZ_12, CSET, RET, CMP], Sight::SHORT));
        // A return leads to code that is not known, and so does the end of what can be read.
        assert!(are_live(&[CBZ_12, CMP, RET, RET], Sight::FAR));
        assert!(are_live(&[NOP], Sight::FAR));
        // A loop that only ends at a comparison, and one that never ends.
        assert!(!are_live(&[CBZ_12, NOP, 0x17ff_fffe, CMP], Sight::SHORT));
        assert!(!are_live(&[NOP, 0x17ff_ffff], Sight::SHORT));
        let mut long = [NOP; 40];
        long[39] = CMP;
        assert!(are_live(&long, Sight::SHORT) && !are_live(&long, Sight::FAR));
    }
}
