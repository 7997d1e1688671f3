//! The translated code of a process: where it lies, what leads to it, which guest code it came from.
//!
//! Memory is handed out in one direction and given back only as a whole, once no thread is in it, so code
//! that a thread still runs is never overwritten. A unit whose guest code changes is unlinked: once each
//! thread has seen the new epoch, no entry, link, jump cache or return stack leads to the unit. Until then a
//! thread may finish what it has begun, as on hardware before its next ISB.

use crate::breakpoints::Breakpoints;
use crate::flag_form::FlagForm;
use crate::image::attached::{Attached, Ways};
use crate::image::format::{Image, Profile};
use crate::layout::Assignment;
use crate::presence::Presence;
use crate::thunks::Thunks;
use crate::translate::{Buffers, Features, Ground, Origin};
use crate::unit::{Keying, Link, Mark, Record, STANDARD};
use crate::wary::WarySet;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicI32, Ordering};
use crossdock_emu_guest::addresses::{AddressTable, NONE, PAGE, PageIndex};
use crossdock_emu_guest::memory::untagged;
use crossdock_emu_guest::pieces::{Lists, Pieces, Place};
use crossdock_emu_guest::{CodeLines, Invalidations, LOG};

/// A block of guest code that is translated, or that is the target of links.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    /// Where its translation begins: an offset in the arena, or [`NONE`].
    code: u32,
    /// The number of its unit.
    unit: u32,
    /// The first of the links that lead to the block, or [`NONE`]; the others follow by `next`.
    incoming: u32,
}

/// An instruction that traps this often within [`TRAPS_PERIOD`] becomes wary. A trap costs microseconds, so
/// the traps of an instruction that is not wary cost a twentieth of the time at most.
const TRAPS_MAX: u32 = 16;
/// Ticks of the host's time stamp counter: about a millisecond.
const TRAPS_PERIOD: u64 = 1 << 22;
/// Instructions whose traps are counted.
const TRAPS_LENGTH_MAX: usize = 4096;
/// Most wary instructions.
const WARY_LENGTH_MAX: usize = 1 << 16;

/// The invalid operations that an instruction has signalled recently.
struct Traps {
    since: u64,
    count: u32,
}

/// A unit in the arena.
struct Placed {
    /// Offsets of its code in the arena.
    code: Range<u32>,
    start: u64,
    marks: Place,
    assignments: Vec<Assignment>,
    loops: usize,
    planned: usize,
    /// Its blocks by key and end, including those that cannot be entered, and behind them the code that it
    /// depends on; empty once the unit is dropped.
    blocks: Place,
    /// How many of them are blocks.
    own: usize,
    /// Kept because the code reads them.
    _records: Vec<Box<Record>>,
}

/// All translated code of a process.
pub struct Cache {
    /// Start of the arena: readable, writable and executable memory.
    arena: *mut u8,
    size: u32,
    used: u32,
    /// Where the images begin, which lie at the arena's end.
    images_from: u32,
    /// Translations that were made before the process.
    images: Vec<Attached>,
    /// Where the first unit begins, after the thunks.
    first: u32,
    /// `ready` must be called before anything is written from this address on.
    told: u64,
    /// See [`crate::System`].
    ready: fn(end: u64) -> u64,
    /// The entry and exit code.
    pub thunks: Thunks,
    units: Pieces<Placed>,
    /// The lists that [`Placed::marks`] and [`Placed::blocks`] refer to.
    marks: Lists<Mark>,
    blocks: Lists<(u64, u64)>,
    /// How keys are made.
    pub(crate) keying: Keying,
    /// Where guest registers are where code is entered and left.
    standard: &'static Assignment,
    /// Blocks by number, and numbers by key.
    entries: Pieces<Entry>,
    keys: AddressTable,
    /// Units by the pages of their blocks.
    pages: PageIndex,
    links: Pieces<Link>,
    /// How many entries of the log of changes have been applied.
    seen: u64,
    /// Instructions whose translations check for invalid operations themselves.
    pub(crate) wary: WarySet,
    /// The traps of the other instructions.
    traps: BTreeMap<u64, Traps>,
    /// Changes when a unit is dropped.
    pub epoch: u64,
    /// Addresses of the blocks dropped after the epoch `listed`, each with the epoch since which it is
    /// dropped.
    dropped: Vec<(u64, u64)>,
    listed: u64,
    /// All units have been dropped, and [`Cache::reset`] is still to come.
    pub(crate) emptying: bool,
    /// Where threads leave generated code for signals.
    breakpoints: Breakpoints,
    /// The process's threads.
    pub(crate) presences: Vec<&'static Presence>,
    /// The translator's buffers.
    pub buffers: Buffers,
    /// What the host has beyond x86-64-v3.
    pub features: Features,
    /// The lines that code was ever read from.
    pub lines: &'static CodeLines,
}

// SAFETY: the arena belongs to the cache, which is accessed only under a lock.
unsafe impl Send for Cache {}

/// Most blocks in [`Cache::dropped`]: with more of them, emptying a jump cache is cheaper than looking for
/// each.
const DROPPED_MAX: usize = 256;

/// Least bytes that are free in the arena while units are added.
const FREE_MIN: u32 = 1 << 20;

/// What is known about a guest instruction that faults.
pub struct Guest {
    /// Its place.
    pub place: u64,
    /// Where the guest's flags are.
    pub flags: FlagForm,
    /// See [`Mark::context`].
    pub context: u8,
    /// Where the guest's registers are.
    pub assignment: Assignment,
}

impl Cache {
    /// A cache in an arena of `size` bytes, with the thunks written.
    ///
    /// # Safety
    ///
    /// The memory is readable, writable and executable, used by nobody else, and stays so.
    pub unsafe fn new(
        arena: *mut u8,
        size: u32,
        fallbacks: [u64; 2],
        log: &'static Invalidations,
        ready: fn(end: u64) -> u64,
        keying: Keying,
        standard: &'static Assignment,
    ) -> Cache {
        let mut buffers = Buffers::default();
        let thunks = Thunks::write(&mut buffers.assembler, fallbacks, standard);
        let mut cache = Cache {
            arena,
            size,
            used: 0,
            images_from: size,
            images: Vec::new(),
            first: 0,
            told: 0,
            ready,
            thunks,
            units: Pieces::default(),
            marks: Lists::default(),
            blocks: Lists::default(),
            entries: Pieces::default(),
            keying,
            standard,
            keys: AddressTable::default(),
            pages: PageIndex::default(),
            links: Pieces::default(),
            seen: log.head(),
            wary: WarySet::default(),
            traps: BTreeMap::default(),
            epoch: 1,
            dropped: Vec::new(),
            listed: 1,
            emptying: false,
            breakpoints: Breakpoints::new(),
            presences: Vec::new(),
            buffers,
            features: Features::of_host(),
            lines: log.lines(),
        };
        cache.first = cache.place_assembled().end;
        cache
    }

    /// What the translator must know of the cache.
    pub fn origin(&self) -> Origin<'_> {
        Origin {
            thunks: self.thunks,
            base: self.next_offset(),
            ground: Ground::Arena,
            first_link: self.next_link(),
            wary: &self.wary,
            features: self.features,
            lines: self.lines,
            keying: self.keying,
            // They may be written without a word about the code beside them.
            literals: None,
        }
    }

    /// Host address of an offset.
    pub fn address(&self, offset: u32) -> u64 {
        self.arena as u64 + u64::from(offset)
    }

    /// Whether no more code fits.
    pub fn is_full(&self) -> bool {
        self.images_from.saturating_sub(self.used) < FREE_MIN
    }

    /// Where the next unit will begin.
    pub fn next_offset(&self) -> u32 {
        self.used.next_multiple_of(16)
    }

    /// The number of the next link.
    pub fn next_link(&self) -> u32 {
        self.links.len()
    }

    /// Copies the assembler's code to [`Cache::next_offset`].
    fn place_assembled(&mut self) -> Range<u32> {
        let start = self.next_offset();
        let end = start + self.buffers.assembler.position();
        if self.address(end) > self.told {
            self.told = (self.ready)(self.address(end));
        }
        assert!(end <= self.images_from, "the translator was asked for code although the cache is full");
        let code = self.buffers.assembler.finish();
        // SAFETY: the range is inside the arena and nobody runs it yet.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), self.arena.add(start as usize), code.len()) };
        self.used = end;
        self.buffers.assembler.clear();
        start..end
    }

    /// The offset of the code for a key.
    pub fn entry(&self, key: u64) -> Option<u32> {
        let number = self.keys.find(key, |number| self.entries[number].key == key);
        let known = number.map(|number| self.entries[number].code).filter(|&code| code != NONE);
        known.or_else(|| self.entry_of_image(key))
    }

    /// The offset of an image's code for a key. Images have no other mode of floating point than 0, in which
    /// the key is the place.
    #[inline]
    pub fn entry_of_image(&self, key: u64) -> Option<u32> {
        self.images.iter().find_map(|image| image.entry(key))
    }

    /// The address where the next image, of `length` bytes, is to be mapped; `None` if there is no room.
    pub fn image_room(&self, length: u64) -> Option<u64> {
        let length = u32::try_from(length.checked_next_multiple_of(PAGE)?).ok()?;
        let at = self.images_from.checked_sub(length)?;
        let is_free = at >= self.size / 2 && at.saturating_sub(self.used) >= 2 * FREE_MIN;
        is_free.then(|| self.address(at))
    }

    /// Takes an image that has been mapped at [`Cache::image_room`], for a file whose offset 0 the guest has
    /// at `base`.
    ///
    /// # Safety
    ///
    /// The image's bytes are there, can be run, and can be written by this process alone. They stay.
    pub unsafe fn attach(&mut self, at: u64, image: Image<'static>, base: u64) {
        let ways = Ways {
            exit: self.address(self.thunks.exit),
            indirect: self.address(self.thunks.indirect),
            fallback: self.address(self.thunks.fallback_of_image),
            by_cache: self.address(self.thunks.by_cache),
        };
        let at = (at - self.arena as u64) as u32;
        self.images_from = self.images_from.min(at);
        // SAFETY: the caller's promise.
        self.images.push(unsafe { Attached::new(self.arena, at, image, base, ways) });
    }

    /// What the image's word at a host address stands for: [`Attached::record`].
    pub fn record_of_image(&self, word: u64) -> Option<[u64; 3]> {
        let word = u32::try_from(word.checked_sub(self.arena as u64)?).ok()?;
        let next = self.images.iter().filter(|image| !image.contains(word));
        // The words of an image lie behind the code of the image below it.
        next.filter_map(|image| image.record(word)).next()
    }

    /// Makes an image unreachable.
    fn drop_image(&mut self, number: usize) {
        let image = &mut self.images[number];
        if core::mem::replace(&mut image.dropped, true) {
            return;
        }
        let image = &self.images[number];
        let hit = |entry: &Entry| entry.code != NONE && image.contains(entry.code);
        let entries: Vec<u32> =
            (0..self.entries.len()).filter(|&number| hit(&self.entries[number])).collect();
        for number in entries {
            let entry = &mut self.entries[number];
            entry.code = NONE;
            let incoming = entry.incoming;
            self.patch_all(incoming, |link| link.unlinked);
        }
        // Its blocks are too many to be listed.
        self.dropped.clear();
        self.listed = self.epoch + 1;
    }

    /// The blocks in a range of the guest's addresses that have been translated in this process, by their
    /// offsets from `base`.
    pub fn profile(&self, range: &Range<u64>, base: u64) -> Profile {
        let mut profile = Profile::default();
        for unit in self.units.iter() {
            let blocks = self.blocks.get(unit.blocks);
            if range.contains(&unit.start) && !blocks.is_empty() {
                profile.hot.push(unit.start.wrapping_sub(base) as u32);
            }
            let places = blocks.iter().take(unit.own).map(|&(key, _)| self.keying.place(key));
            let inside = places.filter(|place| range.contains(place));
            profile.cold.extend(inside.map(|place| place.wrapping_sub(base) as u32));
        }
        profile
    }

    /// The number of a key; a key without one gets one.
    fn number(&mut self, key: u64) -> u32 {
        self.keys.find(key, |number| self.entries[number].key == key).unwrap_or_else(|| {
            let code = self.entry_of_image(key).unwrap_or(NONE);
            let number = self.entries.push(Entry { key, code, unit: NONE, incoming: NONE });
            self.keys.insert(key, number);
            number
        })
    }

    /// Places what the translator has made in the arena, and links it with the rest.
    pub fn add(&mut self, buffers: Buffers) {
        self.buffers = buffers;
        let mut unit = core::mem::take(&mut self.buffers.unit);
        let code = self.place_assembled();
        let number = self.units.len();
        for &(key, _, _) in &unit.blocks {
            self.keys.expect(key);
        }
        for link in &unit.links {
            self.keys.expect(link.target);
        }
        for &(key, end, offset) in &unit.blocks {
            let entry = self.number(key);
            let entry = &mut self.entries[entry];
            (entry.code, entry.unit) = (offset, number);
            let incoming = entry.incoming;
            unit.inner.push((key, end));
            self.patch_all(incoming, |_| offset);
        }
        let own = unit.inner.len();
        unit.inner.append(&mut unit.ahead);
        let mut page = u64::MAX;
        for &(key, _) in &unit.inner {
            let place = self.keying.place(key);
            if place / PAGE != page {
                page = place / PAGE;
                self.pages.insert(place, number);
            }
        }
        for &link in &unit.links {
            if unit.alone {
                self.links.push(link);
                continue;
            }
            let (id, entry) = (self.links.len(), self.number(link.target));
            let entry = &mut self.entries[entry];
            let (next, code) = (core::mem::replace(&mut entry.incoming, id), entry.code);
            self.links.push(Link { next, ..link });
            if code != NONE {
                self.patch(link.site, code);
            }
        }
        self.units.push(Placed {
            code,
            start: unit.start,
            marks: self.marks.add(&unit.marks),
            assignments: core::mem::take(&mut unit.assignments),
            loops: unit.loops,
            planned: unit.planned,
            blocks: self.blocks.add(&unit.inner),
            own,
            _records: core::mem::take(&mut unit.records),
        });
        unit.clear();
        self.buffers.unit = unit;
    }

    /// Makes the link `next` and those after it lead to where `to` says.
    fn patch_all(&self, mut next: u32, to: impl Fn(&Link) -> u32) {
        while next != NONE {
            let link = &self.links[next];
            self.patch(link.site, to(link));
            next = link.next;
        }
    }

    /// Makes the displacement at `site` lead to `target`.
    fn patch(&self, site: u32, target: u32) {
        let displacement = target.wrapping_sub(site + 4) as i32;
        // SAFETY: the site is 4 bytes of a jump in the arena, aligned, so that a thread that runs it sees the
        // old or the new displacement.
        unsafe { &*self.arena.add(site as usize).cast::<AtomicI32>() }.store(displacement, Ordering::Release);
    }

    /// The target of a link.
    pub fn link_target(&self, link: u32) -> u64 {
        self.links[link].target
    }

    /// The guest instruction whose translation holds the host address `pc`.
    pub fn guest_of(&self, pc: u64) -> Option<Guest> {
        if let Some((image, code)) = self.image_of(pc) {
            let (place, mark) = image.mark(code)?;
            let assignment = mark.assignment.unwrap_or_else(|| self.standard.clone());
            return Some(Guest { place, flags: mark.flags, context: mark.context, assignment });
        }
        let (index, offset) = self.unit_of(pc)?;
        let unit = &self.units[index];
        let marks = self.marks.get(unit.marks);
        let mark = marks[marks.partition_point(|mark| mark.code <= offset).checked_sub(1)?];
        let assignment = match mark.assignment {
            STANDARD => self.standard,
            number => &unit.assignments[usize::from(number) - 1],
        };
        let place = unit.start.wrapping_add_signed(i64::from(mark.guest));
        Some(Guest { place, flags: mark.flags, context: mark.context, assignment: assignment.clone() })
    }

    /// The image whose code holds the host address `pc`, and the address's offset.
    fn image_of(&self, pc: u64) -> Option<(&Attached, u32)> {
        let offset = u32::try_from(pc.checked_sub(self.arena as u64)?).ok()?;
        let image = self.images.iter().find(|image| image.contains(offset))?;
        Some((image, offset))
    }

    /// Makes the thread whose state is at `owner`, and which is at the host address `pc`, leave generated
    /// code at the next mark. Returns the number of breakpoints. Allocates no memory.
    pub(crate) fn set_breakpoint(&mut self, pc: u64, owner: u64) -> usize {
        if let Some((image, code)) = self.image_of(pc) {
            if let Some(mark) = image.mark_behind(code) {
                // SAFETY: marks stand where instructions begin.
                unsafe { self.breakpoints.set(self.arena, mark, owner) };
            }
        } else if let Some((index, offset)) = self.unit_of(pc) {
            let unit = &self.units[index];
            let marks = self.marks.get(unit.marks);
            let next = marks.get(marks.partition_point(|mark| mark.code < offset));
            if let Some(mark) = next.filter(|mark| mark.code < unit.code.end) {
                // SAFETY: marks stand where instructions begin.
                unsafe { self.breakpoints.set(self.arena, mark.code, owner) };
            }
        }
        self.breakpoints.len()
    }

    /// Removes the breakpoints of a thread, or all breakpoints. Returns how many are left.
    pub(crate) fn remove_breakpoints(&mut self, owner: Option<u64>) -> usize {
        // SAFETY: the arena's code is replaced only after `reset` has forgotten all breakpoints.
        unsafe { self.breakpoints.remove(self.arena, owner) };
        self.breakpoints.len()
    }

    /// Whether there is a breakpoint at a host address.
    pub(crate) fn is_breakpoint(&self, pc: u64) -> bool {
        pc.checked_sub(self.arena as u64).is_some_and(|offset| self.breakpoints.contains(offset as u32))
    }

    /// The unit that holds the host address `pc`, and the address's offset.
    fn unit_of(&self, pc: u64) -> Option<(u32, u32)> {
        let offset = u32::try_from(pc.checked_sub(self.arena as u64)?).ok()?;
        let index = self.units.partition_point(|unit| unit.code.start <= offset).checked_sub(1)?;
        self.units[index].code.contains(&offset).then_some((index, offset))
    }

    /// Counts an invalid operation that the instruction at `guest` has signalled, at host address `pc` and
    /// time `now`. If this happens often, drops the instruction's unit; in the next unit, the instruction is
    /// wary. Returns whether it happens often.
    pub(crate) fn trapped(&mut self, guest: u64, pc: u64, now: u64) -> bool {
        if self.traps.len() >= TRAPS_LENGTH_MAX {
            self.traps.clear();
        }
        let traps = self.traps.entry(guest).or_insert(Traps { since: now, count: 0 });
        if now.wrapping_sub(traps.since) > TRAPS_PERIOD {
            *traps = Traps { since: now, count: 0 };
        }
        traps.count += 1;
        if traps.count < TRAPS_MAX {
            return false;
        }
        if self.wary.at.len() >= WARY_LENGTH_MAX {
            self.wary.at.clear();
        }
        // Instructions that have begun to trap are likely to go on.
        let more = self.traps.iter().filter(|(_, traps)| traps.count > 1).map(|(&guest, _)| guest);
        self.wary.at.extend(more);
        self.traps.remove(&guest);
        let at = (pc - self.arena as u64) as u32;
        if let Some(image) = self.images.iter().position(|image| image.contains(at)) {
            // Its instructions are not wary.
            self.drop_image(image);
            self.epoch += 1;
        } else if let Some((unit, _)) = self.unit_of(pc) {
            self.drop_unit(unit);
            self.epoch += 1;
        }
        true
    }

    /// How many entries of the log have been applied.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Drops the units whose guest code has changed according to the log. Returns how many entries have been
    /// applied.
    pub fn catch_up(&mut self, log: &Invalidations) -> u64 {
        let head = log.head();
        if head - self.seen > LOG as u64 {
            self.drop_range(0..u64::MAX);
        } else {
            for number in self.seen..head {
                self.drop_range(log.entry(number).unwrap_or(0..u64::MAX));
            }
        }
        self.seen = head;
        head
    }

    /// Drops all units.
    pub(crate) fn drop_all(&mut self) {
        self.drop_range(0..u64::MAX);
        self.epoch += 1;
        self.dropped.clear();
        self.listed = self.epoch;
    }

    /// The addresses of the blocks that have been dropped after `epoch`, or `None` if there are too many.
    pub(crate) fn dropped_since(&self, epoch: u64) -> Option<impl Iterator<Item = u64>> {
        (epoch >= self.listed)
            .then(|| self.dropped.iter().filter(move |(since, _)| *since > epoch).map(|&(_, pc)| pc))
    }

    /// Gives all memory back. All units have been dropped, and no thread is in generated code of an earlier
    /// epoch.
    pub(crate) fn reset(&mut self) {
        self.used = self.first;
        self.units.clear();
        self.marks.clear();
        self.blocks.clear();
        self.entries.clear();
        self.keys.clear();
        self.pages.clear();
        self.links.clear();
        self.breakpoints.clear();
        self.emptying = false;
    }

    fn drop_range(&mut self, range: Range<u64>) {
        let start = untagged(range.start);
        let end = if range.end == u64::MAX { u64::MAX } else { untagged(range.end).max(start) };
        let mut is_hit = false;
        for number in 0..self.images.len() {
            let image = &self.images[number];
            if !image.dropped && image.guest().start < end && image.guest().end > start {
                self.drop_image(number);
                is_hit = true;
            }
        }
        self.epoch += u64::from(is_hit);
        let (units, lists) = (&self.units, &self.blocks);
        let mut hit: Vec<u32> = Vec::new();
        let keying = self.keying;
        self.pages.retain(start..end, |number| {
            let blocks = lists.get(units[number].blocks);
            if blocks.iter().any(|&(key, block_end)| keying.place(key) < end && block_end > start) {
                hit.push(number);
            }
            !blocks.is_empty()
        });
        hit.sort_unstable();
        hit.dedup();
        if hit.is_empty() {
            return;
        }
        for unit in hit {
            self.drop_unit(unit);
        }
        self.epoch += 1;
    }

    /// Drops the unit that was added last.
    pub(crate) fn drop_last(&mut self) {
        if let Some(last) = self.units.len().checked_sub(1) {
            self.drop_unit(last);
        }
    }

    fn drop_unit(&mut self, number: u32) {
        let blocks = core::mem::take(&mut self.units[number].blocks);
        if self.dropped.len() > DROPPED_MAX {
            self.dropped.clear();
            self.listed = self.epoch + 1;
        }
        for i in 0..self.blocks.get(blocks).len() {
            let key = self.blocks.get(blocks)[i].0;
            // Also if a later unit has the key: a jump cache may still lead to this unit.
            self.dropped.push((self.epoch + 1, self.keying.place(key)));
            // A later unit may have the key now; blocks that cannot be entered have none.
            let entry = self.keys.find(key, |number| self.entries[number].key == key);
            if let Some(entry) = entry.filter(|&entry| self.entries[entry].unit == number) {
                let entry = &mut self.entries[entry];
                (entry.code, entry.unit) = (NONE, NONE);
                let incoming = entry.incoming;
                self.patch_all(incoming, |link| link.unlinked);
            }
        }
    }

    /// Number of blocks in which the assignment changes, in code that has not been dropped.
    pub fn planned_blocks(&self) -> usize {
        self.units
            .iter()
            .filter(|unit| !self.blocks.get(unit.blocks).is_empty())
            .map(|unit| unit.planned)
            .sum()
    }

    /// Number of loops that keep the guest's registers in other places, in code that has not been dropped.
    pub fn assigned_loops(&self) -> usize {
        self.units.iter().filter(|unit| !self.blocks.get(unit.blocks).is_empty()).map(|unit| unit.loops).sum()
    }

    /// Bytes of code and number of units.
    pub fn size(&self) -> (u32, usize) {
        (self.used, self.units.len() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(cache: &mut Cache, pc: u64) {
        let mut buffers = core::mem::take(&mut cache.buffers);
        buffers.assembler.byte(0xc3);
        buffers.unit.blocks.push((pc, pc + 4, cache.next_offset()));
        cache.add(buffers);
    }

    fn dropped(cache: &Cache, epoch: u64) -> Option<Vec<u64>> {
        cache.dropped_since(epoch).map(Iterator::collect)
    }

    #[test]
    fn what_is_dropped_is_listed_until_it_is_much() {
        let arena = alloc::vec![0u8; 2 << 20].leak();
        static LOG: Invalidations = Invalidations::new();
        let log = &LOG;
        // SAFETY: only this cache uses the memory, and its code is not run.
        let mut cache = unsafe {
            Cache::new(
                arena.as_mut_ptr(),
                2 << 20,
                [0; 2],
                log,
                |_| u64::MAX,
                Keying { shift: 0 },
                &Assignment::STANDARD,
            )
        };
        // The second unit takes the key, but jump caches may still lead to the first.
        add(&mut cache, 0x1000);
        add(&mut cache, 0x1000);
        add(&mut cache, 0x3000);
        let first = cache.epoch;
        log.invalidate(0x1000..0x1001);
        cache.catch_up(log);
        assert_eq!(cache.entry(0x1000), None);
        assert!(cache.entry(0x3000).is_some());
        assert_eq!(dropped(&cache, first).as_deref(), Some(&[0x1000, 0x1000][..]));
        let second = cache.epoch;
        assert_eq!(dropped(&cache, second).as_deref(), Some(&[][..]));
        assert_eq!(dropped(&cache, 0), None);
        for pc in (0x10_0000..).step_by(4).take(2 * DROPPED_MAX) {
            add(&mut cache, pc);
        }
        log.invalidate(0x10_0000..0x20_0000);
        cache.catch_up(log);
        assert_eq!(dropped(&cache, second), None);
        assert!(dropped(&cache, cache.epoch).is_some());
        let third = cache.epoch;
        cache.drop_all();
        assert_eq!(dropped(&cache, third), None);
    }
}
