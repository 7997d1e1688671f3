//! A thread's table from guest addresses to generated code, for branches whose target is known only when they
//! run.
//!
//! It has two levels. The first is indexed by the low bits of the address, which costs least; targets whose
//! low bits agree displace each other. Displaced pairs go to the second level, a set-associative cache: a
//! hash of the address chooses a set of two pairs of guest and host address. The hash is the host's CRC32
//! instruction, so targets at regular distances (aligned functions, stubs, code of a JIT) spread over the
//! sets. The second level grows if a program has many targets. Generated code reads both levels
//! ([`crate::thunks`]).

use alloc::boxed::Box;
use alloc::vec;
use core::arch::asm;

/// Pairs of the first level: 64 KiB.
pub(crate) const FIRST: usize = 4096;
/// Pairs of guest and host address in a set.
const WAYS: usize = 2;
/// Bytes of a set, as a power of two.
const SET_BITS: u32 = 5;
const _: () = assert!(size_of::<Set>() == 1 << SET_BITS);
/// Sets of the second level: 1 KiB at first, 1 MiB at most.
const SETS: usize = 32;
const SETS_MAX: usize = 32 << 10;
/// Factor by which the second level grows.
const GROWTH: usize = 4;

type Set = [[u64; 2]; WAYS];

/// A place without code. No branch finds it: the guest address 4 does not belong to place 0, nor 0 to any
/// other place.
const fn nothing(place: usize) -> [u64; 2] {
    [if place == 0 { 4 } else { 0 }, 0]
}

/// See the [module](self).
pub(crate) struct JumpCache {
    first: Box<[[u64; 2]]>,
    second: Sets,
}

/// The second level.
struct Sets {
    sets: Box<[Set]>,
    /// Number of pairs that were evicted since the table got this size.
    evictions: usize,
}

/// CRC-32C of the 8 bytes of an address, starting from 0 and not inverted.
fn hash(pc: u64) -> u64 {
    let mut crc = 0u64;
    // SAFETY: the host has SSE4.2 (`host_is_able`); no memory is involved.
    unsafe { asm!("crc32 {}, {}", inout(reg) crc, in(reg) pc, options(pure, nomem, nostack)) };
    crc
}

fn place_of(pc: u64) -> usize {
    (pc >> 2) as usize % FIRST
}

impl JumpCache {
    /// An empty table.
    pub fn new() -> JumpCache {
        let mut first = vec![[0; 2]; FIRST].into_boxed_slice();
        first[0] = nothing(0);
        JumpCache { first, second: Sets::new(SETS) }
    }

    /// A table that is never read, for a thread that translates nothing.
    pub fn none() -> JumpCache {
        JumpCache { first: Box::default(), second: Sets { sets: Box::default(), evictions: 0 } }
    }

    /// Host address of the first level.
    pub fn address(&self) -> u64 {
        self.first.as_ptr() as u64
    }

    /// Host address of the second level, and the mask that turns a hash into a set's distance in bytes from
    /// there.
    pub fn second(&self) -> (u64, u64) {
        (self.second.sets.as_ptr() as u64, self.second.mask())
    }

    /// Host address of the code for `pc`.
    pub fn find(&self, pc: u64) -> Option<u64> {
        let [guest, host] = self.first[place_of(pc)];
        if guest == pc { Some(host) } else { self.second.find(pc) }
    }

    /// Puts code into the first level; the pair that it displaces goes to the second.
    pub fn insert(&mut self, pc: u64, host: u64) {
        let place = place_of(pc);
        let old = core::mem::replace(&mut self.first[place], [pc, host]);
        if old[0] != pc && old != nothing(place) {
            self.second.insert(old);
        }
    }

    /// Removes a block.
    pub fn remove(&mut self, pc: u64) {
        let place = place_of(pc);
        if self.first[place][0] == pc {
            self.first[place] = nothing(place);
        }
        self.second.remove(pc);
    }

    /// Empties the table.
    pub fn clear(&mut self) {
        self.first.fill([0; 2]);
        self.first[0] = nothing(0);
        self.second.clear();
    }

    /// Whether pairs have been evicted so often that a bigger table is worth its memory. A branch that finds
    /// nothing costs about 70 ns; a bigger table costs as much as a few of these.
    #[inline(always)]
    pub fn is_small(&self) -> bool {
        self.second.evictions > 2 * self.second.sets.len() && self.second.sets.len() < SETS_MAX
    }

    /// Enlarges the second level: [`JumpCache::second`] changes.
    pub fn grow(&mut self) {
        let mut bigger = Sets::new(self.second.sets.len() * GROWTH);
        for (number, set) in self.second.sets.iter().enumerate() {
            set.iter().rev().filter(|&&pair| pair != nothing(number)).for_each(|&pair| bigger.insert(pair));
        }
        self.second = bigger;
    }
}

impl Sets {
    fn new(count: usize) -> Sets {
        let mut sets = vec![[[0; 2]; WAYS]; count].into_boxed_slice();
        sets[0] = [nothing(0); WAYS];
        Sets { sets, evictions: 0 }
    }

    fn mask(&self) -> u64 {
        (self.sets.len() as u64 - 1) << SET_BITS
    }

    fn set_of(&self, pc: u64) -> usize {
        ((hash(pc) & self.mask()) >> SET_BITS) as usize
    }

    fn find(&self, pc: u64) -> Option<u64> {
        let set = &self.sets[self.set_of(pc)];
        set.iter().find(|pair| pair[0] == pc).map(|pair| pair[1])
    }

    /// In a full set, the pair that was inserted first is evicted.
    fn insert(&mut self, pair: [u64; 2]) {
        let number = self.set_of(pair[0]);
        let set = &mut self.sets[number];
        if set[0][0] != pair[0] {
            self.evictions += usize::from(set[1] != nothing(number) && set[1][0] != pair[0]);
            set[1] = set[0];
        }
        set[0] = pair;
    }

    fn remove(&mut self, pc: u64) {
        let number = self.set_of(pc);
        for pair in &mut self.sets[number] {
            if pair[0] == pc {
                *pair = nothing(number);
            }
        }
    }

    fn clear(&mut self) {
        self.evictions = 0;
        self.sets.fill([[0; 2]; WAYS]);
        self.sets[0] = [nothing(0); WAYS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed() {
        let mut cache = JumpCache::new();
        let empty = |cache: &JumpCache| {
            let new = JumpCache::new();
            cache.first == new.first && cache.second.sets == new.second.sets
        };
        assert!([0, 1, 4, 8, u64::MAX].into_iter().all(|pc| cache.find(pc).is_none()));
        assert!(cache.second.set_of(4) != 0 && cache.second.set_of(0) == 0);
        // The last two displace the first two.
        let more = 4 * FIRST as u64;
        for pc in [0, 4, more, more + 4] {
            cache.insert(pc, pc + 1);
        }
        assert_eq!([0, 4, more, more + 4].map(|pc| cache.find(pc)), [1, 5, more + 1, more + 5].map(Some));
        cache.insert(4, 3);
        assert_eq!(cache.find(4), Some(3));
        [0, 4, more, more + 4].into_iter().for_each(|pc| cache.remove(pc));
        assert!(empty(&cache));
        cache.insert(4, 3);
        cache.insert(more + 4, 3);
        cache.clear();
        assert!(empty(&cache));
    }

    #[test]
    fn two_of_a_set_stay_and_the_older_makes_room() {
        let mut sets = Sets::new(SETS);
        let set = sets.set_of(0x1000);
        let same: Vec<u64> = (0x1000..).step_by(4).filter(|&pc| sets.set_of(pc) == set).take(3).collect();
        let found = |sets: &Sets| same.iter().map(|&pc| sets.find(pc)).collect::<Vec<_>>();
        sets.insert([same[0], 1]);
        sets.insert([same[1], 2]);
        sets.insert([same[1], 3]);
        assert_eq!(found(&sets), [Some(1), Some(3), None]);
        sets.insert([same[2], 4]);
        assert_eq!(found(&sets), [None, Some(3), Some(4)]);
        assert_eq!(sets.evictions, 1);
    }

    /// Number of targets that are in the table after all have been looked up many times.
    fn kept(cache: &mut JumpCache, targets: &[u64]) -> usize {
        for _ in 0..400_000 / targets.len().clamp(500, 10_000) {
            for &pc in targets {
                if cache.find(pc).is_none() {
                    cache.insert(pc, 1);
                }
                if cache.is_small() {
                    cache.grow();
                }
            }
        }
        targets.iter().filter(|&&pc| cache.find(pc).is_some()).count()
    }

    #[test]
    fn targets_at_regular_distances_are_kept() {
        let powers = (4..30).map(|bit| 1u64 << bit);
        let others =
            [48, 80, 96, 112, 160, 192, 208, 320, 4096 + 64, (16 << 10) + 64, (64 << 10) + 4096, 3 << 16];
        for distance in powers.chain(others) {
            for base in [0x40_0000, 0x5555_5555_0000, 0x7f12_3456_0000] {
                for count in [2, 16, 512, 4000] {
                    let targets: Vec<u64> = (0..count).map(|n| base + n * distance).collect();
                    let kept = kept(&mut JumpCache::new(), &targets);
                    assert!(
                        kept * 100 >= targets.len() * 90,
                        "{kept} of {count} targets {distance:#x} apart from {base:#x} are kept"
                    );
                }
            }
        }
    }

    #[test]
    fn it_grows_and_keeps_what_it_has() {
        let mut cache = JumpCache::new();
        let targets: Vec<u64> = (0..20_000u64).map(|n| 0x7f00_0000_0000 + n * 76).collect();
        let mut sets = SETS;
        while sets < SETS_MAX {
            let mut rounds = 0;
            while !cache.is_small() {
                targets.iter().for_each(|&pc| cache.insert(pc, 1));
                rounds += 1;
                assert!(rounds < 10, "{} pairs had to make room", cache.second.evictions);
            }
            let known: Vec<u64> = targets.iter().copied().filter(|&pc| cache.find(pc).is_some()).collect();
            cache.grow();
            sets *= GROWTH;
            assert_eq!(cache.second.sets.len(), sets);
            assert!(known.iter().all(|&pc| cache.find(pc) == Some(1)));
        }
        assert!(kept(&mut cache, &targets) > targets.len() * 9 / 10);
        cache.second.evictions = usize::MAX;
        assert!(!cache.is_small());
    }
}
