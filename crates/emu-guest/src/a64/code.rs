//! Decoded code: blocks by address, and the news that code has changed.

use super::{Host, Op, decode};
use crate::addresses::{AddressTable, NONE, PAGE, PageIndex};
use crate::memory::{Fault, untagged};
use crate::pieces::Pieces;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Most instructions in a block. Bounds the time to an interrupt and the waste after a branch into the middle.
const BLOCK_LENGTH_MAX: usize = 128;
/// Blocks kept before all are dropped: about 100 MB of decoded code.
const BLOCKS_MAX: usize = 1 << 19;
/// Entries that the log keeps: a thread that lags further behind drops all its code.
pub const LOG: usize = 64;

/// The log of changed code that the threads of a guest process share.
///
/// Each [`super::Interpreter`] reads it before each block. Lock-free, so that a fork at any moment leaves a usable
/// copy in the child.
#[derive(Debug)]
pub struct Invalidations {
    /// How many entries were ever claimed.
    head: AtomicU64,
    entries: [Entry; LOG],
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
        }
    }

    /// Makes all threads forget code decoded from `range` before their next block: after IC IVAU, munmap, mmap over
    /// something, mprotect, mremap, and writes to code by other means. Call it after the change.
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

    /// Entry `number`; `None` where it is not yet written or overwritten.
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

/// Instructions that follow each other in one page, up to and including the first branch.
pub(crate) struct Block {
    /// Address of the first; [`NOWHERE`] for a block that is free.
    pub(crate) pc: u64,
    /// Number of its first decoded instruction.
    first: u32,
    /// The two successors found last, valid while `epoch` is that of the [`Code`].
    successors: [u32; 2],
    epoch: u32,
    /// How often the block was run by [`super::Interpreter::run_cold`].
    pub(crate) heat: Cell<u32>,
    /// How many instructions it has.
    count: u16,
}

impl Block {
    /// The address after it.
    fn end(&self) -> u64 {
        self.pc.wrapping_add(u64::from(self.count) * 4)
    }
}

/// No instruction's address.
const NOWHERE: u64 = u64::MAX;
/// Instructions of a chunk: 64 KiB of them.
const CHUNK: usize = (64 << 10) / size_of::<Op>();

/// The decoded code of one thread.
pub(crate) struct Code {
    blocks: Pieces<Block>,
    free: Vec<u32>,
    /// Decoded instructions of all blocks. Those of dropped blocks stay until everything is dropped.
    chunks: Vec<Vec<Op>>,
    /// How many of them belong to dropped blocks.
    dead: usize,
    /// How many blocks there are.
    count: usize,
    /// All blocks by address.
    map: AddressTable,
    /// The same by page.
    pages: PageIndex,
    /// Entries of the log that have been heeded.
    seen: u64,
    /// Changes when blocks are dropped, which makes all links void.
    epoch: u32,
}

impl Code {
    pub(crate) fn new(log: &Invalidations) -> Self {
        Code {
            blocks: Pieces::default(),
            free: Vec::new(),
            chunks: Vec::new(),
            dead: 0,
            count: 0,
            map: AddressTable::default(),
            pages: PageIndex::default(),
            seen: log.head(),
            epoch: 0,
        }
    }

    /// Drops what the log says has changed. Returns whether there was news.
    #[inline(always)]
    pub(crate) fn catch_up(&mut self, log: &Invalidations) -> bool {
        let head = log.head();
        head != self.seen && {
            self.heed(log, head);
            true
        }
    }

    #[cold]
    fn heed(&mut self, log: &Invalidations, head: u64) {
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
        self.blocks.clear();
        self.free.clear();
        self.chunks.clear();
        (self.dead, self.count) = (0, 0);
        self.map.clear();
        self.pages.clear();
        self.forget_links();
    }

    fn drop_range(&mut self, range: Range<u64>) {
        let start = untagged(range.start);
        let end = untagged(range.end).max(start);
        let (blocks, map, free) = (&mut self.blocks, &mut self.map, &mut self.free);
        let before = free.len();
        let dead = &mut self.dead;
        self.pages.retain(start..end, |index| {
            let Some(block) = blocks.get_mut(index) else { return false };
            let outside = block.pc >= end || block.end() <= start;
            if !outside {
                let pc = core::mem::replace(&mut block.pc, NOWHERE);
                *dead += usize::from(block.count);
                map.remove(pc, |other| other == index);
                free.push(index);
            }
            outside
        });
        if self.free.len() == before {
            return;
        }
        self.count -= self.free.len() - before;
        self.forget_links();
        if self.dead > 16 * CHUNK && self.dead > self.chunks.len() * CHUNK / 2 {
            self.clear();
        }
    }

    fn forget_links(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.clear();
        }
    }

    /// The block at `pc`, which was reached from block `from`.
    #[inline(always)]
    pub(crate) fn follow(&mut self, from: u32, pc: u64, host: &Host) -> Result<u32, Fault> {
        if let Some(block) = self.blocks.get(from)
            && block.epoch == self.epoch
        {
            for next in block.successors {
                if self.is_at(next, pc) {
                    return Ok(next);
                }
            }
        }
        self.link(from, pc, host)
    }

    #[inline(never)]
    fn link(&mut self, from: u32, pc: u64, host: &Host) -> Result<u32, Fault> {
        let epoch = self.epoch;
        let index = match self.find(pc) {
            Some(index) => index,
            None => self.decode(pc, host)?,
        };
        if self.epoch == epoch
            && let Some(block) = self.blocks.get_mut(from)
        {
            block.successors[1] = if block.epoch == epoch { block.successors[0] } else { NONE };
            block.successors[0] = index;
            block.epoch = epoch;
        }
        Ok(index)
    }

    /// The block at `pc`, if it is known.
    #[inline]
    pub(crate) fn find(&self, pc: u64) -> Option<u32> {
        self.map.find(pc, |index| self.is_at(index, pc))
    }

    #[inline(always)]
    fn is_at(&self, index: u32, pc: u64) -> bool {
        self.blocks.get(index).is_some_and(|block| block.pc == pc)
    }

    fn decode(&mut self, pc: u64, host: &Host) -> Result<u32, Fault> {
        if self.count >= BLOCKS_MAX {
            self.clear();
        }
        let mut word = host.memory.fetch(pc)?;
        if self.chunks.last().is_none_or(|chunk| chunk.len() + BLOCK_LENGTH_MAX > CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        let ops = &mut self.chunks[chunk];
        let first = ops.len();
        let mut at = pc;
        loop {
            let (op, ends) = decode::decode(word, at);
            ops.push(op);
            at = at.wrapping_add(4);
            if ends || ops.len() - first == BLOCK_LENGTH_MAX || at.is_multiple_of(PAGE) {
                break;
            }
            match host.memory.fetch(at) {
                Ok(next) => word = next,
                Err(_) => break,
            }
        }
        let block = Block {
            pc,
            first: (chunk * CHUNK + first) as u32,
            count: (ops.len() - first) as u16,
            successors: [NONE; 2],
            epoch: self.epoch,
            heat: Cell::new(0),
        };
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(old) = self.blocks.get_mut(index) {
                    *old = block;
                }
                index
            }
            None => self.blocks.push(block),
        };
        self.count += 1;
        self.map.insert(pc, index);
        self.pages.insert(pc, index);
        Ok(index)
    }

    /// How often the block at `pc` was run cold; `None` where it is not known.
    pub(crate) fn heat(&self, pc: u64) -> Option<&Cell<u32>> {
        Some(&self.block(self.find(pc)?)?.heat)
    }

    /// A block that [`Code::follow`] or [`Code::find`] returned.
    #[inline(always)]
    pub(crate) fn block(&self, index: u32) -> Option<&Block> {
        self.blocks.get(index)
    }

    /// Its decoded instructions.
    #[inline(always)]
    pub(crate) fn ops(&self, block: &Block) -> &[Op] {
        let (chunk, first) = (block.first as usize / CHUNK, block.first as usize % CHUNK);
        &self.chunks[chunk][first..first + usize::from(block.count)]
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
