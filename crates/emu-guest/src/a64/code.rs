//! Decoded code: blocks by address, and the log of changes of code.

use super::code_lines::CodeLines;
use super::{Host, Op, decode};
use crate::addresses::{AddressTable, PAGE, PageSet};
use crate::memory::{Access, Fault, Memory, untagged};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Most instructions in a block. Bounds the time until an interrupt, and the waste after a branch into the
/// middle of a block.
const BLOCK_LENGTH_MAX: usize = 128;
/// Entries that the log keeps. A thread that is further behind drops all its code.
pub const LOG: usize = 64;

/// The log of changed code that the threads of a guest process share.
///
/// Each [`super::Interpreter`] reads it before each block. Lock-free, so that a fork at any moment leaves a
/// usable copy in the child.
#[derive(Debug)]
pub struct Invalidations {
    /// Number of entries claimed so far.
    head: AtomicU64,
    entries: [Entry; LOG],
    lines: CodeLines,
}

#[derive(Debug)]
struct Entry {
    /// One more than the number of the entry that the range belongs to; 0 while it is being written.
    sequence: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

impl Invalidations {
    /// An empty log.
    pub const fn new() -> Self {
        Invalidations {
            head: AtomicU64::new(0),
            entries: [const {
                Entry { sequence: AtomicU64::new(0), start: AtomicU64::new(0), end: AtomicU64::new(0) }
            }; LOG],
            lines: CodeLines::new(),
        }
    }

    /// The lines of memory from which code was ever read.
    pub fn lines(&self) -> &CodeLines {
        &self.lines
    }

    /// Makes all threads forget code decoded from `range` before they run their next block. Call it after IC
    /// IVAU, munmap, mmap over existing pages, mprotect, mremap, and any other write to code: always after
    /// the change.
    pub fn invalidate(&self, range: Range<u64>) {
        let number = self.head.fetch_add(1, Ordering::SeqCst);
        let entry = &self.entries[number as usize % LOG];
        entry.sequence.store(0, Ordering::SeqCst);
        entry.start.store(range.start, Ordering::SeqCst);
        entry.end.store(range.end, Ordering::SeqCst);
        entry.sequence.store(number + 1, Ordering::SeqCst);
    }

    /// The number of entries claimed.
    #[inline(always)]
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Entry `number`; `None` if it is not yet written or already overwritten.
    pub fn entry(&self, number: u64) -> Option<Range<u64>> {
        let entry = &self.entries[number as usize % LOG];
        let before = entry.sequence.load(Ordering::SeqCst);
        let range = entry.start.load(Ordering::SeqCst)..entry.end.load(Ordering::SeqCst);
        let after = entry.sequence.load(Ordering::SeqCst);
        (before == number + 1 && after == before).then_some(range)
    }
}

impl Default for Invalidations {
    fn default() -> Self {
        Self::new()
    }
}

/// An element of [`Code::chunks`]. The instructions of a block follow its head, so that both share lines of
/// the host's cache.
enum Slot {
    Head(Head),
    Op(Op),
}

// The head fits beside the niche of the handler.
const _: () = assert!(size_of::<Slot>() == size_of::<Op>());

/// Head of a block: consecutive instructions in one page, up to and including the first branch.
pub(crate) struct Head {
    /// Address of the first instruction; [`NOWHERE`] for a dropped block.
    pub(crate) pc: u64,
    /// Bit fields, from the lowest bit: the number of instructions (8 bits), the heat (8), then the numbers
    /// of the two successors found last (24 each). If the heat is [`TRANSLATED`], the place of the
    /// translation (32) stands there instead.
    facts: u64,
}

/// The heat of a block that has been translated; all other heats are lower.
pub(crate) const TRANSLATED: u32 = 255;
/// The place of a translation that is not known.
const UNKNOWN: u64 = u32::MAX as u64;
/// Bits of [`Head::facts`] that say that neither successor is known.
const NO_SUCCESSORS: u64 = u64::MAX << 16;

impl Head {
    fn new(pc: u64, count: usize) -> Head {
        Head { pc, facts: NO_SUCCESSORS | count as u64 }
    }

    /// The address after the block.
    fn end(&self) -> u64 {
        self.pc.wrapping_add(self.count() as u64 * 4)
    }

    pub(crate) fn count(&self) -> usize {
        (self.facts & 255) as usize
    }

    fn heat(&self) -> u32 {
        (self.facts >> 8) as u32 & 255
    }

    /// Counts a run of the block, up to `threshold`. Returns the number of runs before this one.
    #[inline(always)]
    pub(crate) fn warm(&mut self, threshold: u32) -> u32 {
        let heat = self.heat();
        if heat < threshold {
            self.facts += 1 << 8;
        }
        heat
    }

    /// Numbers of the successors. May be stale: callers check that the block is the one they want.
    #[inline(always)]
    fn successors(&self) -> [u32; 2] {
        [self.facts >> 16, self.facts >> 40].map(|number| number as u32 & NUMBER_MAX)
    }

    fn add_successor(&mut self, number: u32) {
        if self.heat() != TRANSLATED {
            let older = self.facts >> 16 & u64::from(NUMBER_MAX);
            self.facts = self.facts & 0xffff | u64::from(number) << 16 | older << 40;
        }
    }

    fn code(&self) -> Option<u32> {
        let code = self.facts >> 16 & UNKNOWN;
        (self.heat() == TRANSLATED && code != UNKNOWN).then_some(code as u32)
    }

    fn set_code(&mut self, code: u64) {
        self.facts = self.facts & 255 | u64::from(TRANSLATED) << 8 | code << 16;
    }
}

/// An address that no instruction has.
const NOWHERE: u64 = u64::MAX;
/// Slots of a chunk, which has 64 KiB. The number of a block is the number of its chunk and, in the low bits,
/// of its slot.
const CHUNK: usize = (64 << 10) / size_of::<Slot>();
const CHUNK_BITS: u32 = CHUNK.next_power_of_two().trailing_zeros();
/// Highest number of a block.
const NUMBER_MAX: u32 = (1 << 24) - 1;
/// Most chunks: about 100 MB of decoded code. When more are needed, all code is dropped.
const CHUNKS_MAX: usize = 1600;
const _: () = assert!(CHUNKS_MAX << CHUNK_BITS <= NUMBER_MAX as usize);

/// The decoded code of one thread.
pub(crate) struct Code {
    /// All blocks. Dropped blocks stay here until everything is dropped.
    chunks: Vec<Vec<Slot>>,
    /// Number of slots that belong to dropped blocks.
    dead: usize,
    /// All blocks by address.
    map: AddressTable,
    /// The pages that the blocks are in.
    pages: PageSet,
    /// Number of instructions of the longest block.
    longest: usize,
    /// All blocks whose translation is known, and perhaps others.
    translated: Vec<u32>,
    /// Addresses where code may be run, as last asked.
    executable: Range<u64>,
    /// Number of log entries that have been handled.
    seen: u64,
}

impl Code {
    pub(crate) fn new(log: &Invalidations) -> Self {
        Code {
            chunks: Vec::new(),
            dead: 0,
            map: AddressTable::default(),
            pages: PageSet::default(),
            longest: 0,
            translated: Vec::new(),
            executable: 0..0,
            seen: log.head(),
        }
    }

    /// Drops what the log says has changed.
    #[inline(always)]
    pub(crate) fn catch_up(&mut self, log: &Invalidations) {
        let head = log.head();
        if head != self.seen {
            self.heed(log, head);
        }
    }

    #[cold]
    fn heed(&mut self, log: &Invalidations, head: u64) {
        self.executable = 0..0;
        if head - self.seen > LOG as u64 {
            self.clear();
        } else {
            for number in self.seen..head {
                match log.entry(number) {
                    Some(range) => self.drop_range(range),
                    None => self.clear(),
                }
            }
        }
        self.seen = head;
    }

    fn clear(&mut self) {
        self.chunks.clear();
        self.dead = 0;
        self.map.clear();
        self.pages.clear();
        self.longest = 0;
        self.translated.clear();
    }

    fn drop_range(&mut self, range: Range<u64>) {
        let start = untagged(range.start);
        let end = untagged(range.end).max(start);
        let mut pages = core::mem::take(&mut self.pages);
        // The lowest address at which a block that reaches into the range may begin.
        let before = start.saturating_sub(self.longest as u64 * 4) & !3;
        pages.retain(start..end, |page| {
            // Blocks lie in one page each.
            let first = before.max(page);
            let last = end.min(page.saturating_add(PAGE));
            for pc in (first..last).step_by(4) {
                self.drop_block(pc, start);
            }
            first > page || last - page < PAGE
        });
        self.pages = pages;
        if self.dead > 16 * CHUNK && self.dead > self.chunks.len() * CHUNK / 2 {
            self.clear();
        }
    }

    /// Drops the block at `pc`, if there is one that ends after `start`.
    fn drop_block(&mut self, pc: u64, start: u64) {
        let Some(number) = self.find(pc) else { return };
        let Some(head) = self.head_mut(number).filter(|head| head.end() > start) else { return };
        head.pc = NOWHERE;
        let slots = 1 + head.count();
        self.dead += slots;
        self.map.remove(pc, |other| other == number);
    }

    /// The block at `pc`, which was reached from block `from`.
    #[inline(always)]
    pub(crate) fn follow(
        &mut self,
        from: u32,
        pc: u64,
        host: &Host,
        lines: &CodeLines,
    ) -> Result<u32, Fault> {
        if let Some(head) = self.head(from) {
            for next in head.successors() {
                if self.is_at(next, pc) {
                    return Ok(next);
                }
            }
        }
        self.link(from, pc, host, lines)
    }

    #[inline(never)]
    fn link(&mut self, from: u32, pc: u64, host: &Host, lines: &CodeLines) -> Result<u32, Fault> {
        let number = match self.find(pc) {
            Some(number) => number,
            None => self.decode(pc, host, lines)?,
        };
        // If all code has been dropped, `from` may be another block by now. That does no harm: successors are
        // checked when they are used.
        if let Some(head) = self.head_mut(from) {
            head.add_successor(number);
        }
        Ok(number)
    }

    /// The block at `pc`, if it is known.
    #[inline]
    fn find(&self, pc: u64) -> Option<u32> {
        self.map.find(pc, |number| self.is_at(number, pc))
    }

    #[inline(always)]
    fn is_at(&self, number: u32, pc: u64) -> bool {
        self.head(number).is_some_and(|head| head.pc == pc)
    }

    fn decode(&mut self, pc: u64, host: &Host, lines: &CodeLines) -> Result<u32, Fault> {
        // A block lies in one page.
        let address = untagged(pc);
        if !self.executable.contains(&address) {
            self.executable = (host.executable)(address).ok_or(Fault {
                address,
                access: Access::Execute,
                host_signal: false,
            })?;
        }
        let mut words = Words { memory: &host.memory, lines, at: NOWHERE, group: [0; 4] };
        let mut word = words.fetch(pc)?;
        if self.chunks.last().is_none_or(|chunk| chunk.len() + 1 + BLOCK_LENGTH_MAX > CHUNK) {
            if self.chunks.len() == CHUNKS_MAX {
                self.clear();
            }
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        let slots = &mut self.chunks[chunk];
        let first = slots.len();
        slots.push(Slot::Head(Head::new(pc, 0)));
        let mut at = pc;
        loop {
            let (op, ends) = decode::decode(word, at);
            slots.push(Slot::Op(op));
            at = at.wrapping_add(4);
            if ends || slots.len() - first > BLOCK_LENGTH_MAX || at.is_multiple_of(PAGE) {
                break;
            }
            match words.fetch(at) {
                Ok(next) => word = next,
                Err(_) => break,
            }
        }
        let count = slots.len() - first - 1;
        slots[first] = Slot::Head(Head::new(pc, count));
        self.longest = self.longest.max(count);
        let number = (chunk << CHUNK_BITS | first) as u32;
        self.map.insert(pc, number);
        self.pages.insert(pc);
        Ok(number)
    }

    #[inline(always)]
    fn head(&self, number: u32) -> Option<&Head> {
        match self.chunks.get((number >> CHUNK_BITS) as usize)?.get(number as usize % (1 << CHUNK_BITS))? {
            Slot::Head(head) => Some(head),
            Slot::Op(_) => None,
        }
    }

    #[inline(always)]
    fn head_mut(&mut self, number: u32) -> Option<&mut Head> {
        let chunk = self.chunks.get_mut((number >> CHUNK_BITS) as usize)?;
        match chunk.get_mut(number as usize % (1 << CHUNK_BITS))? {
            Slot::Head(head) => Some(head),
            Slot::Op(_) => None,
        }
    }

    /// How often the block at `pc` was run cold; `None` if there is no such block.
    pub(crate) fn heat(&self, pc: u64) -> Option<u32> {
        Some(self.head(self.find(pc)?)?.heat())
    }

    /// Records that the block at `pc` has been translated, and where, if the caller knows.
    pub(crate) fn set_code(&mut self, pc: u64, code: Option<u32>) {
        let Some(number) = self.find(pc) else { return };
        let Some(head) = self.head_mut(number) else { return };
        let new = code.is_some() && head.code().is_none();
        head.set_code(code.map_or(UNKNOWN, u64::from));
        if new {
            self.translated.push(number);
        }
    }

    /// Records that the block at `pc` has no translation: its heat becomes one run.
    pub(crate) fn cool(&mut self, pc: u64) {
        let number = self.find(pc);
        if let Some(head) = number.and_then(|number| self.head_mut(number)) {
            head.facts = NO_SUCCESSORS | 1 << 8 | head.facts & 255;
        }
    }

    /// Forgets where the translation of the block at `pc` is.
    pub(crate) fn forget_code(&mut self, pc: u64) {
        let number = self.find(pc);
        if let Some(head) = number.and_then(|number| self.head_mut(number))
            && head.heat() == TRANSLATED
        {
            head.set_code(UNKNOWN);
        }
    }

    /// Forgets where the translations of all blocks are.
    pub(crate) fn forget_codes(&mut self) {
        for number in core::mem::take(&mut self.translated) {
            if let Some(head) = self.head_mut(number)
                && head.heat() == TRANSLATED
            {
                head.set_code(UNKNOWN);
            }
        }
    }

    /// The place of a block's translation.
    pub(crate) fn code(&self, number: u32) -> Option<u32> {
        self.head(number)?.code()
    }

    /// A block that [`Code::follow`] returned, and its instructions.
    #[inline(always)]
    pub(crate) fn block(&mut self, number: u32) -> Option<(&mut Head, Ops<'_>)> {
        let chunk = self.chunks.get_mut((number >> CHUNK_BITS) as usize)?;
        match chunk.get_mut(number as usize % (1 << CHUNK_BITS)..)? {
            [Slot::Head(head), ops @ ..] => Some((head, Ops(ops))),
            _ => None,
        }
    }
}

/// Instruction words, read in groups of four.
struct Words<'h> {
    memory: &'h Memory,
    lines: &'h CodeLines,
    /// Address of the group, or [`NOWHERE`].
    at: u64,
    group: [u32; 4],
}

impl Words<'_> {
    #[inline(always)]
    fn fetch(&mut self, pc: u64) -> Result<u32, Fault> {
        if self.at != pc & !15 {
            // The window may begin or end inside the group.
            let Some(group) = self.lines.read(self.memory, pc & !15) else { return self.memory.fetch(pc) };
            (self.at, self.group) = (pc & !15, group);
        }
        Ok(self.group[(pc >> 2) as usize % 4])
    }
}

/// The instructions of a block.
pub(crate) struct Ops<'c>(&'c [Slot]);

impl<'c> Iterator for Ops<'c> {
    type Item = &'c Op;
    #[inline(always)]
    fn next(&mut self) -> Option<&'c Op> {
        match self.0 {
            [Slot::Op(op), rest @ ..] => {
                self.0 = rest;
                Some(op)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_log_are_read_until_they_are_overwritten() {
        let log = Invalidations::new();
        log.invalidate(1..2);
        assert_eq!(log.entry(0), Some(1..2));
        assert_eq!(log.entry(1), None);
        for _ in 0..LOG {
            log.invalidate(3..4);
        }
        assert_eq!(log.entry(0), None);
        assert_eq!(log.entry(LOG as u64), Some(3..4));
    }
}
