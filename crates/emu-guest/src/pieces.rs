//! Lists that grow in pieces, so that their items never move. A vector that grows is copied again and again,
//! and leaves touched memory behind.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// Approximate bytes of a piece.
const PIECE: usize = 16 << 10;

/// A list of items with numbers.
#[derive(Debug)]
pub struct Pieces<T>(Vec<Vec<T>>);

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Pieces(Vec::new())
    }
}

impl<T> Pieces<T> {
    /// Number of items in a piece.
    const LENGTH: usize = PIECE / size_of::<T>();

    /// Adds an item and returns its number.
    pub fn push(&mut self, item: T) -> u32 {
        if self.0.last().is_none_or(|last| last.len() == Self::LENGTH) {
            self.0.push(Vec::with_capacity(Self::LENGTH));
        }
        let before = (self.0.len() - 1) * Self::LENGTH;
        let last = self.0.last_mut().expect("there is one with room");
        last.push(item);
        (before + last.len() - 1) as u32
    }

    /// The item with this number.
    #[inline(always)]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.0.get(number as usize / Self::LENGTH)?.get(number as usize % Self::LENGTH)
    }

    /// The item with this number, to be changed.
    #[inline(always)]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.0.get_mut(number as usize / Self::LENGTH)?.get_mut(number as usize % Self::LENGTH)
    }

    /// Number of items, which is also the number that the next item gets.
    pub fn len(&self) -> u32 {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * Self::LENGTH + last.len()) as u32
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first number whose item does not fulfil `before`. All items that do must come first.
    pub fn partition_point(&self, mut before: impl FnMut(&T) -> bool) -> u32 {
        let piece = self.0.partition_point(|piece| piece.first().is_some_and(&mut before));
        let Some(piece) = piece.checked_sub(1) else { return 0 };
        (piece * Self::LENGTH + self.0[piece].partition_point(before)) as u32
    }

    /// All items, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T> Index<u32> for Pieces<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        &self.0[number as usize / Self::LENGTH][number as usize % Self::LENGTH]
    }
}

impl<T> IndexMut<u32> for Pieces<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.0[number as usize / Self::LENGTH][number as usize % Self::LENGTH]
    }
}

/// Where a short list lies in [`Lists`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    piece: u32,
    first: u32,
    length: u32,
}

/// Many short lists.
#[derive(Debug)]
pub struct Lists<T>(Vec<Vec<T>>);

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Lists(Vec::new())
    }
}

impl<T: Copy> Lists<T> {
    /// Stores a list.
    pub fn add(&mut self, list: &[T]) -> Place {
        if self.0.last().is_none_or(|last| last.capacity() - last.len() < list.len()) {
            self.0.push(Vec::with_capacity((PIECE / size_of::<T>()).max(list.len())));
        }
        let piece = self.0.len() - 1;
        let last = &mut self.0[piece];
        let first = last.len();
        last.extend_from_slice(list);
        Place { piece: piece as u32, first: first as u32, length: list.len() as u32 }
    }

    /// A list that was added since the last [`Lists::clear`].
    pub fn get(&self, place: Place) -> &[T] {
        if place.length == 0 {
            return &[];
        }
        &self.0[place.piece as usize][place.first as usize..][..place.length as usize]
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_numbers() {
        let mut pieces = Pieces::default();
        for i in 0..10_000u64 {
            assert_eq!(pieces.len(), i as u32);
            assert_eq!(pieces.push(i * 2), i as u32);
        }
        assert_eq!(pieces[9_999], 19_998);
        assert_eq!(pieces.get(10_000), None);
        for wanted in [0, 1, 2, 4095, 4096, 4097, 8192, 19_998, 19_999, 30_000] {
            let number = pieces.partition_point(|&item| item < wanted);
            assert_eq!(u64::from(number), wanted.div_ceil(2).min(10_000));
        }
        pieces.clear();
        assert_eq!(pieces.partition_point(|_| true), 0);
    }

    #[test]
    fn lists_are_found_by_their_places() {
        let mut lists = Lists::default();
        let all: Vec<Vec<u64>> = (0..3000).map(|i| (0..i % 70 * (i % 50)).collect()).collect();
        let places: Vec<Place> = all.iter().map(|list| lists.add(list)).collect();
        for (list, place) in all.iter().zip(places) {
            assert_eq!(lists.get(place), list);
        }
        assert!(lists.get(Place::default()).is_empty());
    }
}
