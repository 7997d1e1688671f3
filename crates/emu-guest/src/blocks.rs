//! Decoded code: blocks by the places where they begin.

use crate::addresses::{AddressTable, PAGE, PageSet};
use crate::changes::{Invalidations, LOG};
use crate::code_lines::CodeLines;
use crate::guest::{Guest, NOWHERE, Words};
use crate::memory::{Access, Fault, untagged};
use crate::op::{Host, Op};
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Range;

/// Most instructions in a block. Bounds the time until an interrupt, and the waste after a branch into the
/// middle of a block.
const BLOCK_LENGTH_MAX: usize = 128;
/// Most instructions in a block whose last ones may not be parted.
const SLOTS_MAX: usize = BLOCK_LENGTH_MAX + 4;
/// An element of [`Code::chunks`]. The instructions of a block follow its head, so that both share lines of
/// the host's cache.
enum Slot {
    Head(Head),
    Op(Op),
}

// The head fits beside the niche of the handler.
const _: () = assert!(size_of::<Slot>() == size_of::<Op>());

/// Head of a block: consecutive instructions that begin in one page, up to and including the first branch.
pub(crate) struct Head {
    /// Place of the first instruction; [`NOWHERE`] for a dropped block.
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

/// Slots of a chunk, which has 64 KiB. The number of a block is the number of its chunk and, in the low bits,
/// of its slot.
const CHUNK: usize = (64 << 10) / size_of::<Slot>();
const CHUNK_BITS: u32 = CHUNK.next_power_of_two().trailing_zeros();
/// Highest number of a block.
const NUMBER_MAX: u32 = (1 << 24) - 1;
/// Most chunks: about 100 MB of decoded code. When more are needed, all code is dropped.
const CHUNKS_MAX: usize = 1600;
const _: () = assert!(SLOTS_MAX < 256 && CHUNKS_MAX << CHUNK_BITS <= NUMBER_MAX as usize);

/// The decoded code of one thread.
pub(crate) struct Code<G> {
    /// All blocks. Dropped blocks stay here until everything is dropped.
    chunks: Vec<Vec<Slot>>,
    /// Number of slots that belong to dropped blocks.
    dead: usize,
    /// How many blocks have ever been decoded.
    pub(crate) decoded: usize,
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
    guest: PhantomData<G>,
}

impl<G: Guest> Code<G> {
    pub(crate) fn new(log: &Invalidations) -> Self {
        Code {
            chunks: Vec::new(),
            dead: 0,
            decoded: 0,
            map: AddressTable::default(),
            pages: PageSet::default(),
            longest: 0,
            translated: Vec::new(),
            executable: 0..0,
            seen: log.head(),
            guest: PhantomData,
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
        let before = start.saturating_sub(self.longest as u64 * G::LENGTH_MAX) & !(G::GRANULE - 1);
        pages.retain(start..end, |page| {
            // Blocks begin in one page each, and reach little beyond it.
            let first = before.max(page.saturating_sub(G::OVERHANG));
            let last = end.min(page.saturating_add(PAGE));
            for address in (first..last).step_by(G::GRANULE as usize) {
                for place in G::places(address) {
                    self.drop_block(place, start);
                }
            }
            first > page || last - page < PAGE
        });
        self.pages = pages;
        if self.dead > 16 * CHUNK && self.dead > self.chunks.len() * CHUNK / 2 {
            self.clear();
        }
    }

    /// Drops the block at `pc`, if there is one that may end after `start`.
    fn drop_block(&mut self, pc: u64, start: u64) {
        let Some(number) = self.find(pc) else { return };
        let may_reach =
            |head: &&mut Head| G::address(head.pc).wrapping_add(head.count() as u64 * G::LENGTH_MAX) > start;
        let Some(head) = self.head_mut(number).filter(may_reach) else { return };
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
        let found = self.follow_unless(&|_| false, from, pc, host, lines)?;
        Ok(found.expect("no block is elsewhere"))
    }

    /// As [`Code::follow`]; `None` if the block has not been decoded, and `elsewhere` holds for its place.
    #[inline(always)]
    pub(crate) fn follow_unless(
        &mut self,
        elsewhere: &impl Fn(u64) -> bool,
        from: u32,
        pc: u64,
        host: &Host,
        lines: &CodeLines,
    ) -> Result<Option<u32>, Fault> {
        if let Some(head) = self.head(from) {
            for next in head.successors() {
                if self.is_at(next, pc) {
                    return Ok(Some(next));
                }
            }
        }
        self.link(elsewhere, from, pc, host, lines)
    }

    #[inline(never)]
    fn link(
        &mut self,
        elsewhere: &impl Fn(u64) -> bool,
        from: u32,
        pc: u64,
        host: &Host,
        lines: &CodeLines,
    ) -> Result<Option<u32>, Fault> {
        let number = match self.find(pc) {
            Some(number) => number,
            None if elsewhere(pc) => return Ok(None),
            None => self.decode(pc, host, lines)?,
        };
        // If all code has been dropped, `from` may be another block by now. That does no harm: successors are
        // checked when they are used.
        if let Some(head) = self.head_mut(from) {
            head.add_successor(number);
        }
        Ok(Some(number))
    }

    /// The places of all blocks.
    pub(crate) fn places(&self) -> impl Iterator<Item = u64> {
        let heads = self.chunks.iter().flatten().filter_map(|slot| match slot {
            Slot::Head(head) => Some(head.pc),
            Slot::Op(_) => None,
        });
        heads.filter(|&place| place != NOWHERE)
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
        let first = G::address(pc);
        self.check_executable(untagged(first), host)?;
        let mut words = Words::new(&host.memory, Some(lines));
        let mut context = G::Context::default();
        let mut decoded = G::decode(&mut words, pc, &mut context)?;
        if G::OVERHANG != 0 {
            self.check_executable(first + G::length(&decoded.op) - 1, host)?;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() + 1 + SLOTS_MAX > CHUNK) {
            if self.chunks.len() == CHUNKS_MAX {
                self.clear();
            }
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        let executable = self.executable.clone();
        let slots = &mut self.chunks[chunk];
        let head = slots.len();
        slots.push(Slot::Head(Head::new(pc, 0)));
        let mut at = pc;
        loop {
            at = at.wrapping_add(G::length(&decoded.op));
            slots.push(Slot::Op(decoded.op));
            let count = slots.len() - head - 1;
            // The translator ends blocks at the same places.
            let full = count + G::TAIL >= BLOCK_LENGTH_MAX || (G::address(at) ^ first) >= PAGE;
            if decoded.ends || full && !decoded.binds || count == SLOTS_MAX {
                break;
            }
            match G::decode(&mut words, at, &mut context) {
                Ok(next) => decoded = next,
                Err(_) => break,
            }
            // The instruction may reach into another page, or lie there.
            if G::OVERHANG != 0 {
                let last = G::address(at) + G::length(&decoded.op) - 1;
                if !executable.contains(&last) {
                    break;
                }
            }
        }
        let count = slots.len() - head - 1;
        slots[head] = Slot::Head(Head::new(pc, count));
        self.longest = self.longest.max(count);
        let number = (chunk << CHUNK_BITS | head) as u32;
        self.decoded += 1;
        self.map.insert(pc, number);
        self.pages.insert(G::address(pc));
        if G::OVERHANG != 0 {
            self.pages.insert(G::address(at).wrapping_sub(1));
        }
        Ok(number)
    }

    /// Checks that code may be run at an address without tag.
    #[inline(always)]
    fn check_executable(&mut self, address: u64, host: &Host) -> Result<(), Fault> {
        if !self.executable.contains(&address) {
            let fault = Fault { address, access: Access::Execute, host_signal: false };
            self.executable = (host.executable)(address).ok_or(fault)?;
        }
        Ok(())
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

    /// The instructions of the block at `pc`; none if there is no such block.
    pub(crate) fn ops(&self, pc: u64) -> Ops<'_> {
        let slots = self.find(pc).and_then(|number| {
            let chunk = self.chunks.get((number >> CHUNK_BITS) as usize)?;
            chunk.get(number as usize % (1 << CHUNK_BITS) + 1..)
        });
        Ops(slots.unwrap_or_default())
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
