//! Finding code by its address: exactly, and by the pages that a change of memory touches.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};
use core::ops::Range;

/// Blocks of code lie in one page each, so that they are found from any address in it.
pub const PAGE: u64 = 4096;

/// Spreads addresses of instructions over the buckets of a map: multiplication by 2^64 divided by the golden ratio.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let spread = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 32;
    }
}

/// A map by address.
pub type AddressMap<T> = hashbrown::HashMap<u64, T, BuildHasherDefault<AddressHasher>>;

/// Numbers of blocks by the page they begin in.
#[derive(Clone, Debug, Default)]
pub struct PageIndex {
    pages: BTreeMap<u64, Vec<u32>>,
}

impl PageIndex {
    /// Adds block `number` at `address`.
    pub fn insert(&mut self, address: u64, number: u32) {
        self.pages.entry(address / PAGE).or_default().push(number);
    }

    /// Asks `keep` for each block in the pages that `range` touches, and forgets those that it refuses.
    pub fn retain(&mut self, range: Range<u64>, mut keep: impl FnMut(u32) -> bool) {
        if range.is_empty() {
            return;
        }
        let mut empty = Vec::new();
        for (&page, numbers) in self.pages.range_mut(range.start / PAGE..=(range.end - 1) / PAGE) {
            numbers.retain(|&number| keep(number));
            if numbers.is_empty() {
                empty.push(page);
            }
        }
        for page in empty {
            self.pages.remove(&page);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.pages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_page() {
        let mut index = PageIndex::default();
        index.insert(0x1000, 1);
        index.insert(0x1ffc, 2);
        index.insert(0x2000, 3);
        let mut seen = Vec::new();
        index.retain(0x1800..0x1804, |number| {
            seen.push(number);
            number == 2
        });
        assert_eq!(seen, [1, 2]);
        seen.clear();
        index.retain(0..u64::MAX, |number| {
            seen.push(number);
            true
        });
        assert_eq!(seen, [2, 3]);
        index.retain(0x2000..0x2000, |_| unreachable!("an empty range"));
    }
}
