//! A thread's table from guest addresses to generated code, for branches whose target is known only when they
//! run.
//!
//! It is a set-associative cache: a hash of the address chooses a set of two pairs of guest and host address.
//! The hash is the host's CRC32 instruction, so that targets at regular distances (aligned functions, stubs,
//! code of a JIT) spread over the sets. A program with many targets gets a bigger table. Generated code reads
//! the table ([`crate::thunks::jump_by_cache`]).

use alloc::boxed::Box;
use alloc::vec;
use core::arch::asm;

/// Pairs of guest and host address in a set.
const WAYS: usize = 2;
/// Bytes of a set, as a power of two.
const SET_BITS: u32 = 5;
const _: () = assert!(size_of::<Set>() == 1 << SET_BITS);
/// Sets of a table: at first, and at most. 64 KiB, and 1 MiB.
const SETS: usize = 2 << 10;
const SETS_MAX: usize = 32 << 10;
/// By how much a table grows.
const GROWTH: usize = 4;

type Set = [[u64; 2]; WAYS];

/// A place without code. No branch leads to it: the guest address 4 does not belong to set 0, nor 0 to any
/// other set.
const fn nothing(set: usize) -> [u64; 2] {
    [if set == 0 { 4 } else { 0 }, 0]
}

/// See the [module](self).
pub(crate) struct JumpCache {
    sets: Box<[Set]>,
    /// Pairs that had to make room for others, in a table of this size.
    evictions: usize,
}

/// CRC-32C of the 8 bytes of an address, which starts from 0 and is not inverted.
fn hash(pc: u64) -> u64 {
    let mut crc = 0u64;
    // SAFETY: the host has SSE4.2 (`host_is_able`); no memory is involved.
    unsafe { asm!("crc32 {}, {}", inout(reg) crc, in(reg) pc, options(pure, nomem, nostack)) };
    crc
}

impl JumpCache {
    /// An empty table.
    pub fn new() -> JumpCache {
        JumpCache::of(SETS)
    }

    /// One that is never asked, for a thread that translates nothing.
    pub fn none() -> JumpCache {
        JumpCache { sets: Box::default(), evictions: 0 }
    }

    fn of(sets: usize) -> JumpCache {
        let mut cache = JumpCache { sets: vec![[[0; 2]; WAYS]; sets].into_boxed_slice(), evictions: 0 };
        cache.sets[0] = [nothing(0); WAYS];
        cache
    }

    /// Host address of the table.
    pub fn address(&self) -> u64 {
        self.sets.as_ptr() as u64
    }

    /// What of a hash is the set's distance in bytes from the table's start.
    pub fn mask(&self) -> u64 {
        (self.sets.len() as u64 - 1) << SET_BITS
    }

    fn set_of(&self, pc: u64) -> usize {
        ((hash(pc) & self.mask()) >> SET_BITS) as usize
    }

    /// Host address of the code for `pc`.
    pub fn find(&self, pc: u64) -> Option<u64> {
        let set = &self.sets[self.set_of(pc)];
        set.iter().find(|pair| pair[0] == pc).map(|pair| pair[1])
    }

    /// Puts code into the table. The pair that was put into a full set first makes room.
    pub fn insert(&mut self, pc: u64, host: u64) {
        let number = self.set_of(pc);
        let set = &mut self.sets[number];
        if set[0][0] != pc {
            self.evictions += usize::from(set[1] != nothing(number) && set[1][0] != pc);
            set[1] = set[0];
        }
        set[0] = [pc, host];
    }

    /// Takes a block out.
    pub fn remove(&mut self, pc: u64) {
        let number = self.set_of(pc);
        for pair in &mut self.sets[number] {
            if pair[0] == pc {
                *pair = nothing(number);
            }
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.evictions = 0;
        self.sets.fill([[0; 2]; WAYS]);
        self.sets[0] = [nothing(0); WAYS];
    }

    /// Whether pairs have had to make room so often that a bigger table is worth its memory. A branch that
    /// finds nothing costs about 70 ns, a bigger table as much as some thousand of these.
    #[inline(always)]
    pub fn is_small(&self) -> bool {
        self.evictions > 2 * self.sets.len() && self.sets.len() < SETS_MAX
    }

    /// Makes it bigger: [`JumpCache::address`] and [`JumpCache::mask`] change.
    pub fn grow(&mut self) {
        let mut bigger = JumpCache::of(self.sets.len() * GROWTH);
        for (number, set) in self.sets.iter().enumerate() {
            for pair in set.iter().rev().filter(|&&pair| pair != nothing(number)) {
                bigger.insert(pair[0], pair[1]);
            }
        }
        *self = bigger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed() {
        let mut cache = JumpCache::new();
        assert!([0, 4, 8, u64::MAX].into_iter().all(|pc| cache.find(pc).is_none()));
        assert_ne!(cache.set_of(4), 0);
        assert_eq!(cache.set_of(0), 0);
        cache.insert(0, 1);
        cache.insert(4, 2);
        assert_eq!((cache.find(0), cache.find(4)), (Some(1), Some(2)));
        cache.insert(4, 3);
        assert_eq!(cache.find(4), Some(3));
        cache.remove(4);
        cache.remove(0);
        assert_eq!(cache.sets, JumpCache::new().sets);
        cache.insert(4, 3);
        cache.clear();
        assert_eq!(cache.sets, JumpCache::new().sets);
    }

    #[test]
    fn two_of_a_set_stay_and_the_older_makes_room() {
        let mut cache = JumpCache::new();
        let set = cache.set_of(0x1000);
        let same: Vec<u64> = (0x1000..).step_by(4).filter(|&pc| cache.set_of(pc) == set).take(3).collect();
        cache.insert(same[0], 1);
        cache.insert(same[1], 2);
        cache.insert(same[1], 3);
        assert_eq!(same.iter().map(|&pc| cache.find(pc)).collect::<Vec<_>>(), [Some(1), Some(3), None]);
        cache.insert(same[2], 4);
        assert_eq!(same.iter().map(|&pc| cache.find(pc)).collect::<Vec<_>>(), [None, Some(3), Some(4)]);
        assert_eq!(cache.evictions, 1);
    }

    /// How many of the targets are in the table after all have been inserted.
    fn kept(cache: &mut JumpCache, targets: &[u64]) -> usize {
        cache.clear();
        targets.iter().for_each(|&pc| cache.insert(pc, 1));
        targets.iter().filter(|&&pc| cache.find(pc).is_some()).count()
    }

    #[test]
    fn targets_at_regular_distances_spread() {
        let mut cache = JumpCache::new();
        let powers = (4..30).map(|bit| 1u64 << bit);
        let others =
            [48, 80, 96, 112, 160, 192, 208, 320, 4096 + 64, (16 << 10) + 64, (64 << 10) + 4096, 3 << 16];
        for distance in powers.chain(others) {
            for base in [0x40_0000, 0x5555_5555_0000, 0x7f12_3456_0000] {
                for count in [2, 16, 512] {
                    let targets: Vec<u64> = (0..count).map(|n| base + n * distance).collect();
                    let kept = kept(&mut cache, &targets);
                    assert!(
                        kept * 100 >= targets.len() * 93,
                        "{kept} of {count} targets {distance:#x} apart from {base:#x} are kept"
                    );
                }
            }
        }
    }

    #[test]
    fn a_table_that_is_too_small_grows_and_keeps_what_it_has() {
        let mut cache = JumpCache::new();
        let targets: Vec<u64> = (0..20_000u64).map(|n| 0x7f00_0000_0000 + n * 76).collect();
        let first = kept(&mut cache, &targets);
        for sets in [GROWTH * SETS, SETS_MAX] {
            let mut rounds = 0;
            while !cache.is_small() {
                targets.iter().for_each(|&pc| cache.insert(pc, 1));
                rounds += 1;
                assert!(rounds < 10, "{} pairs had to make room", cache.evictions);
            }
            let known: Vec<u64> = targets.iter().copied().filter(|&pc| cache.find(pc).is_some()).collect();
            cache.grow();
            assert_eq!(cache.sets.len(), sets);
            assert!(known.iter().all(|&pc| cache.find(pc) == Some(1)));
        }
        let last = kept(&mut cache, &targets);
        assert!(first < targets.len() / 4 && last > targets.len() * 3 / 4, "{first}, then {last} are kept");
        cache.evictions = usize::MAX;
        assert!(!cache.is_small());
    }
}
