//! The images that a process runs code from.

use super::format::{Image, ImageMark, Replay};
use super::words::{self, Word};
use core::ops::Range;

/// Where the thunks are that an image's code leaves by: host addresses.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    /// Leaves generated code.
    pub exit: u64,
    /// A branch that the first level of the jump cache does not know.
    pub indirect: u64,
    /// Runs an instruction in the interpreter.
    pub fallback: u64,
    /// A branch to the address in rax.
    pub by_cache: u64,
}

/// An image for a mapping of its file.
pub struct Attached {
    image: Image<'static>,
    /// The guest's code that the image was made of.
    guest: Range<u64>,
    /// The guest's address of the file's offset 0, as places count it.
    base: u64,
    /// Where the image's code lies in the arena.
    code: Range<u32>,
    /// Whether its code must not be entered any more.
    pub dropped: bool,
}

impl Attached {
    /// Prepares an image that lies at offset `at` of the arena, which begins at `arena`, for a file whose
    /// offset 0 the guest has at `base`.
    ///
    /// # Safety
    ///
    /// The image's bytes are there, can be written by this process alone, and stay.
    pub unsafe fn new(arena: *mut u8, at: u32, image: Image<'static>, base: u64, ways: Ways) -> Attached {
        let (start, length) = image.code();
        let start = at + start;
        let put = |word: Word, value: u64| {
            let at = start.wrapping_add_signed(words::offset(word as u32));
            // SAFETY: `Image::open` has checked that the words lie in the image in front of its code.
            unsafe { arena.add(at as usize).cast::<u64>().write(value) };
        };
        put(Word::Base, base);
        put(Word::Exit, ways.exit);
        put(Word::Indirect, ways.indirect);
        put(Word::Fallback, ways.fallback);
        put(Word::ByCache, ways.by_cache);
        let (from, to) = image.text();
        let guest = base.wrapping_add(from.into())..base.wrapping_add(to.into());
        Attached { image, guest, base, code: start..start + length, dropped: false }
    }

    /// The guest's code.
    pub fn guest(&self) -> &Range<u64> {
        &self.guest
    }

    /// The file's offset 0, as an address of the guest.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Where the code for a place begins in the arena.
    #[inline]
    pub fn entry(&self, place: u64) -> Option<u32> {
        if self.dropped || !self.guest.contains(&place) {
            return None;
        }
        let code = self.image.entry(place.wrapping_sub(self.base) as u32)?;
        Some(self.code.start + code)
    }

    /// Whether an offset of the arena is in the image's code.
    pub fn contains(&self, code: u32) -> bool {
        self.code.contains(&code)
    }

    /// The mark of the guest instruction whose code holds an offset of the arena, and the instruction's
    /// place.
    pub fn mark(&self, code: u32) -> Option<(u64, ImageMark)> {
        let mark = self.image.mark(code.checked_sub(self.code.start)?)?;
        Some((self.base.wrapping_add(mark.guest.into()), mark))
    }

    /// The first mark at or behind an offset of the arena.
    pub fn mark_behind(&self, code: u32) -> Option<u32> {
        Some(self.code.start + self.image.mark_behind(code.checked_sub(self.code.start)?)?)
    }

    /// The record that belongs to the word at an offset of the arena: places of the block, of the instruction
    /// and of the next one.
    pub fn record(&self, word: u32) -> Option<[u64; 3]> {
        let before = u64::from(self.code.start.checked_sub(word)?);
        let Replay { block, place, next } = self.image.record(words::number(before)?)?;
        Some([block, place, next].map(|at| self.base.wrapping_add(at.into())))
    }
}
