//! Finds code by its exact address, and by the pages that a change of memory touches.

use alloc::vec::Vec;
use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::ops::Range;

/// Bytes of a page. Each block of code lies in one page, so that it is found from any address in that page.
pub const PAGE: u64 = 4096;

/// No item.
pub const NONE: u32 = u32::MAX;

/// Number of low bits of an address that are not spread over the table, so that neighbours share a line of
/// the host's cache.
const NEAR: u32 = 7;
/// Slots in a line of the host's cache.
const LINE: u32 = 8;

/// Spreads addresses of instructions: multiplies by 2^64 divided by the golden ratio, and uses the high bits,
/// which are well mixed. The low bits tell neighbours apart.
fn spread(key: u64) -> u32 {
    let high = ((key >> NEAR).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    high & !31 | (key >> 2) as u32 & 31
}

/// Numbers of items by key; the items hold the keys. Open addressing with 8 bytes per slot: a look-up reads
/// one cache line here and one of the item.
#[derive(Debug, Default)]
pub struct AddressTable {
    /// Pairs of spread key and item number.
    slots: Vec<(u32, u32)>,
    /// How far the spread key is shifted right to give a slot's number.
    shift: u32,
    used: usize,
}

/// Fewest slots of a table that is not empty.
const SLOTS_MIN: usize = 1 << 10;
/// Slots below which a table grows faster.
const SLOTS_FEW: usize = 1 << 16;

impl AddressTable {
    fn slot(&self, spread: u32) -> usize {
        (spread >> self.shift & !(LINE - 1) | spread & (LINE - 1)) as usize
    }

    /// The item of `key`; `is` says whether an item has that key.
    #[inline]
    pub fn find(&self, key: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_slot(key, is).map(|slot| self.slots[slot].1)
    }

    #[inline]
    fn find_slot(&self, key: u64, is: impl Fn(u32) -> bool) -> Option<usize> {
        let spread = spread(key);
        let mask = self.slots.len().wrapping_sub(1);
        let mut slot = self.slot(spread);
        loop {
            let &(known, item) = self.slots.get(slot & mask)?;
            if item == NONE {
                return None;
            }
            if known == spread && is(item) {
                return Some(slot & mask);
            }
            slot += 1;
        }
    }

    /// Prefetches the slot of `key`, which is likely to be looked up soon.
    #[allow(unsafe_code)]
    #[inline]
    pub fn expect(&self, key: u64) {
        if let Some(slot) = self.slots.get(self.slot(spread(key))) {
            // SAFETY: prefetching memory into the cache is always sound.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(slot).cast()) };
        }
    }

    /// Adds the item of a key that has none.
    pub fn insert(&mut self, key: u64, item: u32) {
        if self.used >= self.slots.len() / 4 * 3 {
            self.grow();
        }
        self.used += 1;
        self.put(spread(key), item);
    }

    fn put(&mut self, spread: u32, item: u32) {
        let mask = self.slots.len() - 1;
        let mut slot = self.slot(spread);
        while self.slots[slot & mask].1 != NONE {
            slot += 1;
        }
        self.slots[slot & mask] = (spread, item);
    }

    #[cold]
    fn grow(&mut self) {
        let more = if self.slots.len() < SLOTS_FEW { 4 } else { 2 };
        let size = (self.slots.len() * more).max(SLOTS_MIN);
        self.shift = 32 - size.trailing_zeros();
        let old = core::mem::replace(&mut self.slots, alloc::vec![(0, NONE); size]);
        for (spread, item) in old {
            if item != NONE {
                self.put(spread, item);
            }
        }
    }

    /// Forgets the item of `key`; `is` says whether an item has that key.
    pub fn remove(&mut self, key: u64, is: impl Fn(u32) -> bool) {
        let Some(mut hole) = self.find_slot(key, is) else { return };
        self.used -= 1;
        let mask = self.slots.len() - 1;
        let mut slot = hole;
        // Later items that an empty slot would hide move up.
        loop {
            slot = (slot + 1) & mask;
            let (spread, item) = self.slots[slot];
            if item == NONE {
                break;
            }
            let wanted = self.slot(spread);
            if (slot.wrapping_sub(wanted) & mask) >= (slot.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[slot];
                hole = slot;
            }
        }
        self.slots[hole].1 = NONE;
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = AddressTable::default();
    }
}

/// Numbers of blocks by the page they begin in.
#[derive(Debug, Default)]
pub struct PageIndex {
    table: AddressTable,
    /// Page numbers, and the blocks that begin in each page.
    pages: Vec<(u64, Vec<u32>)>,
    /// Index of the page that was used last: successive blocks are often in the same page.
    last: usize,
}

impl PageIndex {
    /// Index of a page's list, if the page has one.
    fn find(&self, page: u64) -> Option<usize> {
        self.table.find(page, |item| self.pages[item as usize].0 == page).map(|item| item as usize)
    }

    /// Adds block `number` at `address`.
    pub fn insert(&mut self, address: u64, number: u32) {
        let page = address / PAGE;
        if self.pages.get(self.last).is_none_or(|known| known.0 != page) {
            self.last = self.find(page).unwrap_or_else(|| {
                self.pages.push((page, Vec::new()));
                self.table.insert(page, self.pages.len() as u32 - 1);
                self.pages.len() - 1
            });
        }
        self.pages[self.last].1.push(number);
    }

    /// Asks `keep` about each block in the pages that `range` touches, and forgets the blocks that it
    /// refuses.
    pub fn retain(&mut self, range: Range<u64>, mut keep: impl FnMut(u32) -> bool) {
        if range.is_empty() {
            return;
        }
        let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
        if last - first < self.pages.len() as u64 {
            for page in first..=last {
                if let Some(index) = self.find(page) {
                    self.pages[index].1.retain(|&number| keep(number));
                }
            }
        } else {
            for (page, numbers) in &mut self.pages {
                if (first..=last).contains(page) {
                    numbers.retain(|&number| keep(number));
                }
            }
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = PageIndex::default();
    }
}

/// Number of recent pages that [`PageSet::insert`] recognises without a look-up.
const RECENT: usize = 32;

/// A set of pages.
#[derive(Debug, Default)]
pub struct PageSet {
    table: AddressTable,
    /// Numbers of pages, and whether they are in the set.
    pages: Vec<(u64, bool)>,
    /// Numbers, plus one, of pages that were added lately, indexed by the low bits of the number.
    recent: [u64; RECENT],
}

impl PageSet {
    fn find(&self, page: u64) -> Option<usize> {
        self.table.find(page, |item| self.pages[item as usize].0 == page).map(|item| item as usize)
    }

    /// Adds the page of `address`.
    #[inline]
    pub fn insert(&mut self, address: u64) {
        let page = address / PAGE;
        if self.recent[page as usize % RECENT] != page + 1 {
            self.insert_page(page);
        }
    }

    fn insert_page(&mut self, page: u64) {
        self.recent[page as usize % RECENT] = page + 1;
        match self.find(page) {
            Some(index) => self.pages[index].1 = true,
            None => {
                self.pages.push((page, true));
                self.table.insert(page, self.pages.len() as u32 - 1);
            }
        }
    }

    /// Asks `keep` about the first address of each page that `range` touches, and forgets the pages that it
    /// refuses.
    pub fn retain(&mut self, range: Range<u64>, mut keep: impl FnMut(u64) -> bool) {
        if range.is_empty() {
            return;
        }
        self.recent = [0; RECENT];
        let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
        if last - first < self.pages.len() as u64 {
            for page in first..=last {
                if let Some(index) = self.find(page) {
                    let there = &mut self.pages[index].1;
                    *there = *there && keep(page * PAGE);
                }
            }
        } else {
            for (page, there) in &mut self.pages {
                if (first..=last).contains(page) {
                    *there = *there && keep(*page * PAGE);
                }
            }
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = PageSet::default();
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

    #[test]
    fn pages_are_known_until_they_are_refused() {
        let mut pages = PageSet::default();
        for address in [0x1000, 0x1ffc, 0x2000, 0x7000, 0x1004] {
            pages.insert(address);
        }
        let asked = |pages: &mut PageSet, range: Range<u64>, kept: u64| {
            let mut asked = Vec::new();
            pages.retain(range, |page| {
                asked.push(page);
                page == kept
            });
            asked
        };
        assert_eq!(asked(&mut pages, 0x1ffc..0x2004, 0x1000), [0x1000, 0x2000]);
        assert_eq!(asked(&mut pages, 0..u64::MAX, 0x1000), [0x1000, 0x7000]);
        assert!(asked(&mut pages, 0x1000..0x1000, 0).is_empty());
        pages.insert(0x7ffc);
        assert_eq!(asked(&mut pages, 0..u64::MAX, 0), [0x1000, 0x7000]);
        assert!(asked(&mut pages, 0..u64::MAX, 0).is_empty());
    }

    #[test]
    fn items_are_found_until_they_are_removed() {
        // Keys that collide in a table of the smallest size, and others.
        let mut keys: Vec<u64> = (0..6000).map(|i| 0x5555_0000_0000 + i * 4).collect();
        let slot = |key: u64| spread(key) >> 22 & !7;
        let first = slot(keys[0]);
        keys.extend(
            (6000..4_000_000u64)
                .map(|i| 0x5555_0000_0000 + i * 4)
                .filter(|&key| slot(key) == first)
                .take(500),
        );
        let mut table = AddressTable::default();
        let is = |key: u64| move |item: u32| keys_at(item) == key;
        fn keys_at(item: u32) -> u64 {
            0x5555_0000_0000 + u64::from(item) * 4
        }
        let item = |key: u64| ((key - 0x5555_0000_0000) / 4) as u32;
        for &key in &keys {
            assert_eq!(table.find(key, is(key)), None);
            table.insert(key, item(key));
        }
        for (number, &key) in keys.iter().enumerate() {
            assert_eq!(table.find(key, is(key)), Some(item(key)));
            if number % 3 == 0 {
                table.remove(key, is(key));
            }
        }
        for (number, &key) in keys.iter().enumerate() {
            let left = (number % 3 != 0).then(|| item(key));
            assert_eq!(table.find(key, is(key)), left);
        }
    }
}
