//! Which blocks are translated at once, and in which order.

use super::ahead::{Ahead, Sight};
use super::condition::{Condition, Flags};
use super::order;
use super::pressure::{self, ALL, Plan};
use super::rounds::{Facts, Later, Zeros};
use super::{
    Buffers, Class, Cold, ENDS, End, FAULTS, GROUP, Ground, Isa, Origin, READS, Stub, Translator, VECTORS,
    WRITES,
};
use crate::layout::Assignment;
use crate::routines::{self, Routine};
use crate::unit::STANDARD;
use alloc::vec::Vec;
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::{CodeLines, Host, Interpreter};
use crossdock_emu_x64::Label;

/// Most instructions of a block, so that the time between interrupts is bounded.
const BLOCK_LENGTH_MAX: usize = 128;
/// Most instructions of a unit.
const UNIT_LENGTH_MAX: usize = 512;

/// Which words of a block read and write the flags, or a group of them: bit 0 is the last word.
#[derive(Clone, Copy, Default)]
struct FlagUses {
    reads: u128,
    writes: u128,
}

impl FlagUses {
    /// Adds a word after the others.
    fn push(&mut self, class: Class) {
        self.reads = self.reads << 1 | u128::from(class.has(READS));
        self.writes = self.writes << 1 | u128::from(class.has(WRITES));
    }

    /// Adds a word after the others, to each group.
    fn push_all<I: Isa>(groups: &mut [FlagUses; 2], class: Class) {
        for (group, uses) in groups.iter_mut().enumerate().take(I::FLAG_GROUPS) {
            uses.push(Class(class.0 >> (group as u32 * GROUP)));
        }
    }

    /// Forgets the last `count` words; at least one must remain.
    fn cut(&mut self, count: u32) {
        self.reads >>= count;
        self.writes >>= count;
    }

    /// Whether the block reads the flags from before it.
    fn live_in(self) -> bool {
        self.reads != 0 && self.reads.leading_zeros() <= self.writes.leading_zeros()
    }

    /// Whether the block neither reads nor writes the flags.
    fn keeps(self) -> bool {
        self.reads | self.writes == 0
    }

    /// Bit by word: whether the flags after it are read; `out` says so for the last word. The sum computes
    /// this by its carries: a word that reads makes a carry, whatever follows it, and a word that neither
    /// reads nor writes passes a carry on.
    fn live(self, out: bool) -> u128 {
        let passes = !(self.reads | self.writes);
        let sum = self.reads.wrapping_add(self.reads | passes).wrapping_add(u128::from(out));
        sum ^ passes
    }
}

/// A block of guest code.
pub(super) struct Block {
    /// The place of its first instruction.
    pub(super) start: u64,
    pub(super) end: End,
    /// The place after it, and that of its last instruction.
    next_place: u64,
    last: u64,
    /// Its instructions in [`Blocks::items`]: the index of the first, and how many.
    first: u16,
    length: u16,
    /// How many of them are of class [`VECTORS`].
    pub(super) vectors: u16,
    /// The next block, if this one goes on there and the next is in the unit.
    next: Option<Index>,
    /// The target of the block's branch or call, if the target is in the unit.
    target: Option<Index>,
    /// Whether the flags from before the block are read, by group ([`Isa::FLAG_GROUPS`]).
    live_in: [bool; 2],
    /// Where the next block, and the target, are outside of the unit: whether the flags are read there.
    outside: [[bool; 2]; 2],
    flag_uses: [FlagUses; 2],
    /// Number of branches and calls of the unit that lead to the block.
    arrivals: u16,
    /// Whether a backward branch leads to the block.
    pub(super) loop_head: bool,
    label: Option<Label>,
    placed: bool,
    /// Where the block has the guest's registers: [`STANDARD`], or the number of a loop's assignment
    /// ([`super::loops`]).
    pub(super) assignment: u16,
    /// The configuration of vectors that the code before the block leaves, if that is known: a guess.
    configuration: Option<u8>,
    /// Whether the block is in the middle of a loop with an assignment, and not to be entered from outside
    /// the unit.
    pub(super) hidden: bool,
    /// Whether the block comes to a barrier before any access, and something that is a barrier, too, lies
    /// before the block on one way to it. Then the block's barrier is left out, and made up for on the other
    /// ways.
    is_fenced: bool,
    /// Whether the block is a loop of its own, whose first round may find out what holds in all later ones
    /// ([`Facts`]): then the later rounds have code of their own.
    peels: bool,
}

/// The number of a block in its unit, from 1.
type Index = core::num::NonZeroU16;

fn of_index(index: Index) -> usize {
    usize::from(index.get()) - 1
}

impl Block {
    /// Its instructions in [`Blocks::items`].
    pub(super) fn items(&self) -> core::ops::Range<usize> {
        let first = usize::from(self.first);
        first..first + usize::from(self.length)
    }

    /// The place after it.
    fn next(&self) -> u64 {
        self.next_place
    }

    /// The next block, if this one goes on there and the next is in the unit.
    pub(super) fn next_index(&self) -> Option<usize> {
        self.next.map(of_index)
    }

    /// The target of the block's branch or call, if the target is in the unit.
    pub(super) fn target_index(&self) -> Option<usize> {
        self.target.map(of_index)
    }

    /// Whether nothing reads the flags after the block where it leaves the unit for the next block (side 0)
    /// or for its target (1).
    fn is_dead_outside(&self, side: usize, groups: usize) -> bool {
        !self.outside[side][..groups].contains(&true)
    }

    /// Whether some of the flags from before the block are read.
    fn is_live_in(&self) -> bool {
        self.live_in[0] | self.live_in[1]
    }

    /// The blocks that this one leads to by direct branches or by the return of a call.
    fn successors(&self) -> [Option<u64>; 2] {
        match self.end {
            End::Next
            | End::Synchronize
            | End::Invalidate
            | End::SetMode
            | End::Call(_)
            | End::CallRegister => [Some(self.next()), None],
            End::Jump(target) => [Some(target), None],
            End::Branch(target) => [Some(self.next()), Some(target)],
            End::JumpRegister | End::Return | End::Syscall | End::Look => [None, None],
        }
    }
}

/// Slots of [`Blocks::table`]: more than a unit has blocks.
const SLOTS: usize = 1 << 10;
const _: () = assert!(SLOTS > UNIT_LENGTH_MAX + BLOCK_LENGTH_MAX);

/// The guest code of a unit.
pub struct Blocks<I: Isa> {
    pub(super) items: Vec<I::Item>,
    /// The blocks by ascending address; none begins inside another.
    pub(super) blocks: Vec<Block>,
    /// Numbers of blocks from 1 by a hash of their start; 0 is an empty slot.
    table: Vec<u16>,
    /// Slots that are not empty.
    used: Vec<u16>,
    /// Starts of blocks that are still to be read.
    waiting: Vec<u64>,
    /// Whether there is only one block, whose branches leave the unit even if they lead to the block itself.
    pub(super) alone: bool,
    /// Backward branches: the indexes of the target block and of the block with the branch.
    pub(super) back: Vec<(usize, usize)>,
    /// The assignments that [`Block::assignment`] numbers from 1.
    pub(super) assignments: Vec<Assignment>,
    /// The configuration of vectors ([`Isa::configuration`]) where the unit begins, if it is known.
    pub configuration: Option<u8>,
    /// The known function with which the unit begins, and its end.
    routine: Option<(Routine, u64)>,
    /// The code outside of the unit that was looked at.
    ahead: Vec<Ahead>,
}

impl<I: Isa> Default for Blocks<I> {
    fn default() -> Self {
        Blocks {
            items: Vec::new(),
            blocks: Vec::new(),
            table: Vec::new(),
            used: Vec::new(),
            waiting: Vec::new(),
            alone: false,
            back: Vec::new(),
            assignments: Vec::new(),
            configuration: None,
            routine: None,
            ahead: Vec::new(),
        }
    }
}

impl<I: Isa> Blocks<I> {
    /// Finds the blocks from `start` on; `wanted` says which of the other blocks belong to the unit.
    fn find(&mut self, start: u64, source: &Source<'_, I>, alone: bool, mut wanted: impl FnMut(u64) -> bool) {
        self.items.clear();
        self.blocks.clear();
        self.back.clear();
        self.assignments.clear();
        self.clear_table();
        self.alone = alone;
        self.routine = source.routine(start).filter(|_| !alone);
        let mut waiting = core::mem::take(&mut self.waiting);
        waiting.push(start);
        while let Some(pc) = waiting.pop() {
            let slot = self.slot(pc);
            let known = self.table[slot] != 0;
            if known || self.items.len() >= UNIT_LENGTH_MAX || pc != start && !wanted(pc) {
                continue;
            }
            // A known function begins a unit of its own.
            if pc != start && source.routine(pc).is_some() {
                continue;
            }
            if let Some(block) = self.read(pc, source) {
                waiting.extend(block.successors().into_iter().rev().flatten());
                self.blocks.push(block);
                self.fill_slot(slot, self.blocks.len());
            }
        }
        self.waiting = waiting;
        if !self.blocks.is_sorted_by_key(|block| block.start) {
            self.blocks.sort_unstable_by_key(|block| block.start);
            self.clear_table();
            for index in 0..self.blocks.len() {
                let slot = self.slot(self.blocks[index].start);
                self.fill_slot(slot, index + 1);
            }
        }
        self.cut();
        self.gather_flags();
        self.guess_configurations();
        self.connect(start);
        self.find_fenced();
        self.find_peeled();
        self.look_outside(source);
        self.find_live();
        self.assign(start);
    }

    fn clear_table(&mut self) {
        self.table.resize(SLOTS, 0);
        for slot in self.used.drain(..) {
            self.table[usize::from(slot)] = 0;
        }
    }

    fn fill_slot(&mut self, slot: usize, number: usize) {
        self.table[slot] = number as u16;
        self.used.push(slot as u16);
    }

    /// The slot of the block at `pc`, or the empty slot where it would be.
    fn slot(&self, pc: u64) -> usize {
        let mut slot = (pc >> 2) as usize % SLOTS;
        while self.table[slot] != 0 && self.blocks[usize::from(self.table[slot]) - 1].start != pc {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    /// The block at `pc`; `None` if its first instruction cannot be read.
    fn read(&mut self, pc: u64, source: &Source<'_, I>) -> Option<Block> {
        let first = self.items.len();
        let (mut at, mut last) = (pc, pc);
        let mut end = End::Next;
        let mut vectors = 0;
        let mut flag_uses = [FlagUses::default(); 2];
        let mut words = Words::new(&source.host.memory, Some(source.lines));
        let mut decoded =
            source.interpreter.filter(|_| I::DECODED).map(|interpreter| interpreter.decoded(pc));
        let mut context = I::Context::default();
        loop {
            let known = decoded.as_mut().and_then(Iterator::next);
            let item = match known.and_then(|op| I::of_decoded(op, at, &mut context)) {
                Some(item) => item,
                None => match I::read(&mut words, at, &mut context) {
                    Some(item) => item,
                    None => break,
                },
            };
            let class = I::class(&item);
            self.items.push(item);
            vectors += u16::from(class.has(VECTORS));
            FlagUses::push_all::<I>(&mut flag_uses, class);
            last = at;
            let found = if class.has(ENDS) { I::end_of(&item, at) } else { None };
            at = at.wrapping_add(I::item_length(&item));
            if let Some(found) = found {
                end = found;
                break;
            }
            let length = self.items.len() - first;
            let full = length + I::TAIL >= BLOCK_LENGTH_MAX || I::address(at ^ pc) >= PAGE;
            if full && !I::binds(&item) || length == BLOCK_LENGTH_MAX || self.alone && I::may_unalign(&item) {
                break;
            }
        }
        let length = self.items.len() - first;
        (length != 0).then_some(Block {
            start: pc,
            end,
            next_place: at,
            last,
            first: first as u16,
            length: length as u16,
            vectors,
            next: None,
            target: None,
            live_in: [false; 2],
            outside: [[true; 2]; 2],
            flag_uses,
            arrivals: 0,
            loop_head: false,
            label: None,
            placed: false,
            assignment: STANDARD,
            configuration: None,
            hidden: false,
            is_fenced: false,
            peels: false,
        })
    }

    /// Guesses each block's configuration of vectors: compilers place the instruction that sets it in front
    /// of the code that needs it.
    fn guess_configurations(&mut self) {
        if !I::CONFIGURES {
            return;
        }
        let mut last = self.configuration;
        for block in &mut self.blocks {
            block.configuration = last;
            let items = &self.items[block.items()];
            last = items.iter().rev().find_map(I::configuration).or(last);
        }
    }

    /// The last configuration of vectors that the block at `start` sets.
    fn configuration_after(&mut self, start: u64, source: &Source<'_, I>) -> Option<u8> {
        self.items.clear();
        self.read(start, source)?;
        self.items.iter().rev().find_map(I::configuration)
    }

    /// Ends each block where the next begins.
    fn cut(&mut self) {
        for i in 1..self.blocks.len() {
            let start = self.blocks[i].start;
            let before = &mut self.blocks[i - 1];
            if before.next() > start {
                let items = &self.items[before.items()];
                let Some(length) = I::count_before(items, before.start, start) else { continue };
                before.last = I::place(items, before.start, length - 1);
                before.next_place = start;
                for uses in &mut before.flag_uses {
                    uses.cut(u32::from(before.length) - length as u32);
                }
                before.length = length as u16;
                before.end = End::Next;
            }
        }
    }

    /// Brings what sets the flags and what reads them together, in each block.
    fn gather_flags(&mut self) {
        if !I::GATHERS_FLAGS {
            return;
        }
        for block in &mut self.blocks {
            let items = &mut self.items[block.items()];
            if !order::gather::<I>(items) {
                continue;
            }
            let mut uses = [FlagUses::default(); 2];
            items.iter().for_each(|item| FlagUses::push_all::<I>(&mut uses, I::class(item)));
            block.flag_uses = uses;
        }
    }

    /// The block at `pc`, for branches to it.
    fn find_index(&self, pc: u64) -> Option<Index> {
        if self.alone {
            return None;
        }
        Index::new(self.table[self.slot(pc)])
    }

    /// The index of the block at `pc`, if branches may lead to it.
    pub(super) fn index(&self, pc: u64) -> Option<usize> {
        self.find_index(pc).map(of_index)
    }

    fn connect(&mut self, start: u64) {
        for i in 0..self.blocks.len() {
            let block = &self.blocks[i];
            let (last, end) = (block.last, block.end);
            let next = match end {
                End::Next
                | End::Synchronize
                | End::Invalidate
                | End::SetMode
                | End::Branch(_)
                | End::Call(_)
                | End::CallRegister => self.find_index(block.next()),
                _ => None,
            };
            let target = match end {
                End::Jump(target) | End::Branch(target) | End::Call(target) => self.find_index(target),
                _ => None,
            };
            (self.blocks[i].next, self.blocks[i].target) = (next, target);
            // The return address and the target of a call are reached with the flags in memory.
            let by_next = if matches!(end, End::Call(_) | End::CallRegister) { 3 } else { 1 };
            if let Some(next) = next {
                self.blocks[of_index(next)].arrivals += by_next;
            }
            if let Some(target) = target.map(of_index) {
                let to = &mut self.blocks[target];
                if let End::Call(_) = end {
                    to.arrivals += 2;
                } else {
                    to.arrivals += 1;
                    if to.start <= last {
                        self.back.push((target, i));
                    }
                }
            }
        }
        if let Some(start) = self.index(start) {
            self.blocks[start].arrivals += 2;
        }
        self.find_loop_heads();
    }

    /// Finds `loop_head` of all blocks: where a branch leads back to, unless that cannot close a loop. It
    /// does not where a compiler has moved code out of the way.
    ///
    /// Of all branches of a loop, one leads back from its highest address. If that is within the unit, the
    /// way from its target leads to it again, or leaves the unit for a lower place: then its target is a
    /// head. All branches that lead back to another unit read the interrupt flag themselves.
    fn find_loop_heads(&mut self) {
        for i in 0..self.back.len() {
            let (head, from) = self.back[i];
            self.blocks[head].loop_head |= self.may_lead(head, from);
        }
    }

    /// Whether the way from a block may lead to another: within the unit, or by code at a lower place
    /// elsewhere.
    fn may_lead(&self, start: usize, to: usize) -> bool {
        let highest = self.blocks[to].last;
        let (mut seen, mut open) = (alloc::vec![false; self.blocks.len()], alloc::vec![start]);
        while let Some(at) = open.pop() {
            if at == to {
                return true;
            }
            if core::mem::replace(&mut seen[at], true) {
                continue;
            }
            let block = &self.blocks[at];
            for place in block.successors().into_iter().flatten() {
                match if place == block.next() { block.next_index() } else { block.target_index() } {
                    Some(index) => open.push(index),
                    None if place <= highest => return true,
                    None => {}
                }
            }
        }
        false
    }

    /// Finds `is_fenced` of all blocks.
    fn find_fenced(&mut self) {
        for i in 0..self.blocks.len() {
            let block = &self.blocks[i];
            let behind = match block.end {
                End::Next => 0,
                End::Branch(_) | End::Jump(_) => 1,
                _ => continue,
            };
            let items = &self.items[block.items()];
            let mut before = items.iter().rev().skip(behind).skip_while(|item| I::computes(item));
            if !before.next().is_some_and(I::fences) {
                continue;
            }
            for to in [block.next_index(), block.target_index()].into_iter().flatten() {
                let mut items = self.items[self.blocks[to].items()].iter();
                let first = items.find(|item| !I::computes(item));
                self.blocks[to].is_fenced = first.is_some_and(I::is_barrier);
            }
        }
    }

    /// Finds `peels` of all blocks.
    fn find_peeled(&mut self) {
        if !I::HAS_FACTS {
            return;
        }
        for i in 0..self.blocks.len() {
            let block = &mut self.blocks[i];
            let again = matches!(block.end, End::Branch(_)) && block.target_index() == Some(i);
            block.peels = again && block.vectors > 0 && !block.is_fenced;
            // The later rounds lead to the next block, too.
            if let Some(next) = block.next_index().filter(|_| block.peels) {
                self.blocks[next].arrivals += 1;
            }
        }
    }

    /// Finds `outside` of all blocks.
    fn look_outside(&mut self, source: &Source<'_, I>) {
        self.ahead.clear();
        let writes = |block: &Block| block.flag_uses[0].writes | block.flag_uses[1].writes != 0;
        if self.alone || !self.blocks.iter().any(writes) {
            return;
        }
        for i in 0..self.blocks.len() {
            let block = &self.blocks[i];
            let next = matches!(block.end, End::Next | End::Branch(_)).then_some(block.next());
            let target = match block.end {
                End::Jump(target) | End::Branch(target) | End::Call(target) => Some(target),
                _ => None,
            };
            let places = [next.filter(|_| block.next.is_none()), target.filter(|_| block.target.is_none())];
            for (side, place) in places.into_iter().enumerate() {
                let Some(place) = place else { continue };
                let known = self.ahead.iter().find(|ahead| ahead.place == place).map(|ahead| ahead.live);
                self.blocks[i].outside[side] = known.unwrap_or_else(|| {
                    let mut words = Words::new(&source.host.memory, Some(source.lines));
                    let ahead = Ahead::look::<I>(&mut words, place, source.sight);
                    self.ahead.push(ahead);
                    ahead.live
                });
            }
        }
    }

    /// Whether the flags of a group after the block's last instruction are read.
    fn live_out(&self, block: &Block, group: usize) -> bool {
        let live = |index: Option<Index>, side: usize| match index {
            Some(index) => self.blocks[of_index(index)].live_in[group],
            None => block.outside[side][group],
        };
        match block.end {
            End::Next | End::Synchronize | End::Invalidate | End::SetMode => live(block.next, 0),
            End::Jump(_) | End::Call(_) => live(block.target, 1),
            End::Branch(_) => live(block.next, 0) | live(block.target, 1),
            _ => true,
        }
    }

    /// Finds `live_in` of all blocks, going from the last to the first until nothing changes.
    fn find_live(&mut self) {
        for group in 0..I::FLAG_GROUPS {
            self.find_live_group(group);
        }
    }

    fn find_live_group(&mut self, group: usize) {
        for block in &mut self.blocks {
            block.live_in[group] = block.flag_uses[group].live_in();
        }
        loop {
            let mut changed = false;
            for i in (0..self.blocks.len()).rev() {
                let block = &self.blocks[i];
                let was = block.live_in[group];
                let live = was | block.flag_uses[group].keeps() & self.live_out(block, group);
                changed |= live != was;
                self.blocks[i].live_in[group] = live;
            }
            if !changed || self.back.is_empty() {
                return;
            }
        }
    }
}

/// Where the translator finds the guest's instructions.
struct Source<'s, I> {
    host: &'s Host,
    lines: &'s CodeLines,
    /// Has decoded many of them.
    interpreter: Option<&'s Interpreter<'static, I>>,
    sight: Sight,
}

impl<I: Isa> Source<'_, I> {
    /// The known function that begins at a place, and its end.
    fn routine(&self, place: u64) -> Option<(Routine, u64)> {
        let address = I::address(place);
        let mut words = Words::new(&self.host.memory, Some(self.lines));
        let row = routines::find(&I::ROUTINES, &mut words, address, place ^ address)?;
        Some((row.routine, address.wrapping_add(row.length.into())))
    }
}

/// Translates the unit at `start` into `buffers`; false if nothing can be read there. `wanted` says which of
/// the blocks that the unit leads to belong to it. The interpreter has caught up with all changes of code.
pub fn translate<I: Isa>(
    origin: &Origin<'_>,
    buffers: &mut Buffers,
    blocks: &mut Blocks<I>,
    (host, interpreter): (&Host, Option<&Interpreter<'static, I>>),
    start: u64,
    mode: u64,
    wanted: impl FnMut(u64) -> bool,
) -> bool {
    let sight = if origin.ground == Ground::Arena { Sight::SHORT } else { Sight::FAR };
    let source = Source { host, lines: origin.lines, interpreter, sight };
    blocks.find(start, &source, false, wanted);
    translate_blocks(origin, buffers, blocks, start, mode)
}

/// Guesses the configuration of vectors at a place by blocks that lie before it, the nearest first.
pub fn configuration_before<I: Isa>(
    blocks: &mut Blocks<I>,
    host: &Host,
    lines: &CodeLines,
    mut before: impl Iterator<Item = u64>,
) -> Option<u8> {
    let source = Source { host, lines, interpreter: None, sight: Sight::SHORT };
    before.find_map(|start| blocks.configuration_after(start, &source))
}

/// Where the direct branch leads that ends the block at `start`, if it leads back, and how far.
pub fn branch_back<I: Isa>(
    blocks: &mut Blocks<I>,
    host: &Host,
    lines: &CodeLines,
    start: u64,
) -> Option<(u64, u64)> {
    blocks.items.clear();
    let block = blocks.read(start, &Source { host, lines, interpreter: None, sight: Sight::SHORT })?;
    match block.end {
        End::Jump(target) | End::Branch(target) if target <= block.last => {
            Some((target, block.last - target))
        }
        _ => None,
    }
}

/// Translates the block at `start` alone: the code leaves at the block's end, even if the block leads to
/// itself.
pub fn translate_alone<I: Isa>(
    origin: &Origin<'_>,
    buffers: &mut Buffers,
    blocks: &mut Blocks<I>,
    host: &Host,
    start: u64,
    mode: u64,
) -> bool {
    let source = Source { host, lines: origin.lines, interpreter: None, sight: Sight::SHORT };
    blocks.find(start, &source, true, |_| false);
    translate_blocks(origin, buffers, blocks, start, mode)
}

/// Whether a block that is translated alone ends after `item` at `pc`, its instruction number `length` from
/// 1.
pub fn ends_block<I: Isa>(item: &I::Item, pc: u64, length: usize) -> bool {
    let next = pc.wrapping_add(I::item_length(item));
    length == BLOCK_LENGTH_MAX
        || (length + I::TAIL >= BLOCK_LENGTH_MAX || I::address(next ^ pc) >= PAGE) && !I::binds(item)
        || I::may_unalign(item)
        || I::end_of(item, pc).is_some()
}

fn translate_blocks<I: Isa>(
    origin: &Origin<'_>,
    buffers: &mut Buffers,
    blocks: &mut Blocks<I>,
    start: u64,
    mode: u64,
) -> bool {
    let items = core::mem::take(&mut blocks.items);
    let first = blocks.blocks.iter().position(|block| block.start == start);
    if let Some(first) = first {
        buffers.unit.alone = blocks.alone;
        let seen = blocks.ahead.iter().flat_map(Ahead::ranges);
        buffers.unit.ahead.extend(seen.filter(|(start, end)| start != end));
        buffers.unit.assignments.append(&mut blocks.assignments);
        buffers.unit.loops = buffers.unit.assignments.len();
        let mut translator = Translator::<I>::new(origin, buffers, start, mode);
        for block in &mut blocks.blocks {
            block.label = Some(translator.a.label());
        }
        if let Some((routine, end)) = blocks.routine {
            let own = translator.way_to(&blocks.blocks[first], false);
            translator.routine(routine, end, own);
        }
        translator.blocks(blocks, &items, first);
        translator.write_stubs();
        translator.write_constants();
    }
    blocks.items = items;
    first.is_some()
}

impl<'t, I: Isa> Translator<'t, I> {
    /// Writes all blocks, each after the block that falls into it, if there is one.
    fn blocks(&mut self, guest: &mut Blocks<I>, items: &'t [I::Item], first: usize) {
        let mut waiting = core::mem::take(self.waiting);
        waiting.push(first);
        while let Some(next) = waiting.pop() {
            let mut next = Some(next);
            while let Some(index) = next.filter(|&index| !guest.blocks[index].placed) {
                let block = &mut guest.blocks[index];
                block.placed = true;
                next = self.block(guest, items, index, &mut waiting);
            }
            self.flags = Flags::Memory;
        }
        while let Some(later) = self.laters.pop() {
            self.later_rounds(guest, items, later, &mut waiting);
        }
        waiting.clear();
        *self.waiting = waiting;
    }

    /// Writes the later rounds of a loop of one block. All blocks are placed.
    fn later_rounds(
        &mut self,
        guest: &Blocks<I>,
        items: &'t [I::Item],
        later: Later,
        waiting: &mut Vec<usize>,
    ) {
        let block = &guest.blocks[later.block];
        self.a.bind(later.label);
        self.assume(block.assignment);
        (self.fenced, self.inherits) = (false, false);
        (self.flags, self.compared) = (Flags::Memory, None);
        self.set_facts(later.facts);
        self.later = Some(later);
        self.body(guest, items, block, waiting);
        self.later = None;
        self.flags = Flags::Memory;
    }

    fn facts(&self) -> Facts {
        let Translator { modes, aligned, boxed, configured, length, zeros, .. } = *self;
        Facts { modes, aligned, boxed, configured, length, zeros }
    }

    fn set_facts(&mut self, facts: Facts) {
        Facts {
            modes: self.modes,
            aligned: self.aligned,
            boxed: self.boxed,
            configured: self.configured,
            length: self.length,
            zeros: self.zeros,
        } = facts;
    }

    /// Writes a block. Returns the block that it falls through to, which must be placed next.
    fn block(
        &mut self,
        guest: &Blocks<I>,
        guest_items: &'t [I::Item],
        index: usize,
        waiting: &mut Vec<usize>,
    ) -> Option<usize> {
        let block = &guest.blocks[index];
        // A block that is reached only by falling into it may take over flags in EFLAGS, and then cannot be
        // entered from elsewhere.
        let inner =
            block.arrivals == 1 && !block.loop_head && block.is_live_in() && self.flags != Flags::Memory;
        let label = block.label.expect("all blocks have labels");
        let inherits = core::mem::take(&mut self.inherits);
        self.fenced = block.is_fenced;
        self.a.bind(label);
        if !inherits {
            self.assume(block.assignment);
        }
        if !inner {
            self.flags = Flags::Memory;
            self.zeros = Zeros::default();
        }
        if !(inner || inherits) {
            self.set_facts(Facts::default());
            self.compared = None;
        }
        self.enter(guest, block, inner || inherits, label);
        self.body(guest, guest_items, block, waiting)
    }

    /// Writes a block's instructions. Returns the block that it falls through to.
    fn body(
        &mut self,
        guest: &Blocks<I>,
        guest_items: &'t [I::Item],
        block: &Block,
        waiting: &mut Vec<usize>,
    ) -> Option<usize> {
        let items = &guest_items[block.items()];
        self.guessed = block.configuration;
        (self.pc, self.block_start) = (block.start, block.start);
        if block.loop_head {
            self.check_interrupt(block.start);
        }
        let straight = if block.end == End::Next { items.len() } else { items.len() - 1 };
        self.end_item = items.get(straight).copied();
        self.following = match block.next_index() {
            Some(next) if block.end == End::Next => &guest_items[guest.blocks[next].items()],
            _ => &[],
        };
        let plan = self.plan(guest, block, &items[..straight]);
        self.plans = plan.is_some();
        let mut live = [0; 2];
        for (group, live) in live.iter_mut().enumerate().take(I::FLAG_GROUPS) {
            *live = block.flag_uses[group].live(guest.live_out(block, group));
        }
        match plan {
            None => {
                self.dirty = ALL;
                let mut i = 0;
                while i < straight {
                    self.set_place(block, items, live, i);
                    self.items = &items[i..straight];
                    let item = items[i];
                    self.mark_if(I::class(&item).has(FAULTS));
                    i += I::lower(self);
                    if I::may_unalign(&item) {
                        I::check_stack_pointer(self);
                    }
                }
            }
            Some(plan) => {
                self.unit.planned += 1;
                self.planned(block, items, straight, live, &plan);
            }
        }
        if straight < items.len() {
            if !matches!(block.end, End::Jump(_) | End::Branch(_)) {
                self.reassign(STANDARD);
            }
            self.set_place(block, items, live, straight);
            self.items = &items[straight..];
            // A jump may have no code of its own. Then its mark stands where its target begins, and a thread
            // that comes there from elsewhere and leaves goes on at the jump, which must not matter.
            let reads = matches!(block.end, End::Jump(_)) && I::jump_reads(&items[straight]);
            self.mark_if(!reads);
        }
        self.end(guest, block, waiting)
    }

    /// Moves on to instruction `i` of the block; `live` are the results of [`FlagUses::live`].
    fn set_place(&mut self, block: &Block, items: &[I::Item], live: [u128; 2], i: usize) {
        self.pc = I::place(items, block.start, i);
        self.next = self.pc.wrapping_add(I::item_length(&items[i]));
        (self.live_behind, self.behind) = (live, usize::from(block.length) - 1 - i);
        for (group, live) in live.iter().enumerate().take(I::FLAG_GROUPS) {
            let after = live >> self.behind;
            self.live_groups[group] = after & 1 == 1;
            self.live_groups_before[group] = if i == 0 { block.live_in[group] } else { after >> 1 & 1 == 1 };
        }
        let any = |groups: &[bool; 2]| groups[..I::FLAG_GROUPS].contains(&true);
        (self.live, self.live_before) = (any(&self.live_groups), any(&self.live_groups_before));
    }

    /// Writes a block's instructions except its branch, with an assignment that changes.
    fn planned(
        &mut self,
        block: &Block,
        items: &'t [I::Item],
        straight: usize,
        live: [u128; 2],
        plan: &Plan,
    ) {
        let mut changes = &plan.changes[..];
        let mut i = 0;
        while i < straight {
            self.set_place(block, items, live, i);
            let here = changes.iter().take_while(|change| change.at == i).count();
            let (now, later) = changes.split_at(here);
            changes = later;
            // Instructions are lowered together only if the assignment stays the same.
            let end = changes.first().map_or(straight, |change| change.at);
            self.items = &items[i..end];
            for change in now {
                if change.load { self.load_place(change) } else { self.store_place(change) }
            }
            let item = items[i];
            if I::class(&item).has(FAULTS) {
                self.mark();
            }
            now.iter().filter(|change| !change.load).for_each(|change| self.take_place(change));
            self.dirty = plan.dirty[(i + 3).min(end - 1)];
            i += I::lower(self);
            self.dirty = plan.dirty[i - 1];
            if I::may_unalign(&item) {
                I::check_stack_pointer(self);
            }
        }
    }

    /// How the assignment changes in the block, if the block uses many registers.
    fn plan(&self, guest: &Blocks<I>, block: &Block, items: &[I::Item]) -> Option<Plan> {
        if !pressure::is_long(items.len(), block.assignment != STANDARD) {
            return None;
        }
        let next = match block.end {
            End::Next | End::Branch(_) => Some(block.next_index()),
            End::Jump(_) => Some(block.target_index()),
            _ => None,
        };
        let to = match next {
            Some(Some(next)) if self.may_inherit(&guest.blocks[next]) => None,
            Some(Some(next)) => match guest.blocks[next].assignment {
                STANDARD => Some(I::STANDARD),
                number => Some(&self.unit.assignments[usize::from(number) - 1]),
            },
            _ => Some(I::STANDARD),
        };
        pressure::plan(items.iter().map(I::accesses), &self.assignment, self.dirty, to)
    }

    /// Whether the block may go on with the registers of the block that falls into it.
    fn may_inherit(&self, block: &Block) -> bool {
        block.arrivals == 1
            && !block.placed
            && !block.loop_head
            && pressure::is_long(usize::from(block.length), block.assignment != STANDARD)
    }

    /// Records where the block is entered, if it can be.
    fn enter(&mut self, guest: &Blocks<I>, block: &Block, inner: bool, label: Label) {
        let (start, end) = (block.start, block.next());
        if guest.routine.is_some() && start == self.unit.start {
            // The function's code is entered.
        } else if inner || block.hidden {
            self.unit.inner.push((start, end));
        } else if block.assignment == STANDARD && !block.is_fenced {
            let code = self.base + self.a.position();
            self.unit.blocks.push((self.keying.key(start, self.mode), end, code));
        } else {
            let (to, fenced) = (block.assignment, block.is_fenced);
            let cold = Cold::Entry { start, end, to, block: label, fenced };
            let stub = self.a.label();
            self.stubs.push(Stub { label: stub, flags: Flags::Memory, assigned: STANDARD, dirty: ALL, cold });
        }
    }

    fn end(&mut self, guest: &Blocks<I>, block: &Block, waiting: &mut Vec<usize>) -> Option<usize> {
        let (next, next_index, target_index) = (block.next(), block.next_index(), block.target_index());
        self.fenced &= matches!(block.end, End::Next | End::Branch(_) | End::Jump(_));
        match block.end {
            End::Next => {
                self.leave_dead_flags(block, 0);
                self.go(guest, next_index, next)
            }
            End::Synchronize | End::Invalidate | End::SetMode => {
                I::end(self, block.end);
                self.go(guest, next_index, next)
            }
            End::Jump(target) => {
                self.leave_dead_flags(block, 1);
                self.go(guest, target_index, target)
            }
            End::Branch(target) => self.branch(guest, block, target, waiting),
            End::Call(target) => {
                if !(0..I::FLAG_GROUPS).any(|group| guest.live_out(block, group)) {
                    self.flags = Flags::Memory;
                }
                let label = target_index.map(|index| {
                    waiting.push(index);
                    self.way_to(&guest.blocks[index], false)
                });
                self.call(target, label);
                self.go(guest, next_index, next)
            }
            End::CallRegister => {
                I::end(self, block.end);
                self.go(guest, next_index, next)
            }
            End::JumpRegister | End::Return | End::Syscall | End::Look => {
                I::end(self, block.end);
                None
            }
        }
    }

    /// Forgets the flags if the block leaves the unit, for the next block (side 0) or for its target (1), and
    /// nothing reads them there.
    fn leave_dead_flags(&mut self, block: &Block, side: usize) {
        let leaves = if side == 0 { block.next.is_none() } else { block.target.is_none() };
        if leaves && block.is_dead_outside(side, I::FLAG_GROUPS) {
            self.flags = Flags::Memory;
        }
    }

    /// Where a jump or call to the block leads: to the block, or to code that moves the registers first, and
    /// if `saves` saves the flags.
    fn way_to(&mut self, block: &Block, saves: bool) -> Label {
        let label = block.label.expect("all blocks have labels");
        self.way_to_label(block, label, saves)
    }

    /// As [`Translator::way_to`], to the code of later rounds if the block leads to itself and there is more
    /// known than where it begins.
    fn way_around(&mut self, block: &Block, index: usize, saves: bool) -> Label {
        let facts = self.facts();
        let label = match self.later {
            Some(later) => Some(later.label).filter(|_| facts.include(later.facts)),
            None if facts == Facts::default() => None,
            None => {
                let label = self.a.label();
                self.laters.push(Later { block: index, label, facts });
                Some(label)
            }
        };
        self.way_to_label(block, label.or(block.label).expect("all blocks have labels"), saves)
    }

    /// As [`Translator::way_to`], for this code of the block.
    fn way_to_label(&mut self, block: &Block, label: Label, saves: bool) -> Label {
        match block.assignment {
            to if self.holds(to) && !saves && !self.needs_fence(block) => label,
            to => self.stub(Cold::Reassign { to, saves, fenced: self.needs_fence(block), block: label }),
        }
    }

    /// Whether the way from here to the block needs a barrier.
    fn needs_fence(&self, block: &Block) -> bool {
        block.is_fenced && !self.fenced
    }

    /// Goes on at `pc`, which is block `index` if it is in the unit. If that block is not placed yet, falls
    /// into it and returns it.
    fn go(&mut self, guest: &Blocks<I>, index: Option<usize>, pc: u64) -> Option<usize> {
        let Some(index) = index else {
            self.reassign(STANDARD);
            self.save_flags();
            if pc <= self.pc {
                self.check_interrupt(pc);
            }
            self.link(pc);
            return None;
        };
        let block = &guest.blocks[index];
        let alone = block.arrivals == 1 && !block.placed && !block.loop_head;
        if block.is_live_in() && !alone {
            self.save_flags();
        }
        if self.needs_fence(block) {
            self.full_barrier();
        }
        if self.plans && self.may_inherit(block) {
            self.inherits = true;
        } else {
            self.reassign(block.assignment);
        }
        if block.placed {
            self.a.jump(block.label.expect("all blocks have labels"));
            return None;
        }
        if !alone {
            self.flags = Flags::Memory;
        }
        Some(index)
    }

    /// B.cond, CBZ, CBNZ, TBZ, TBNZ.
    fn branch(
        &mut self,
        guest: &Blocks<I>,
        block: &Block,
        target: u64,
        waiting: &mut Vec<usize>,
    ) -> Option<usize> {
        let inside = block.target_index();
        // Code that is reached by a jump finds the flags in memory. A forward branch often leaves a loop:
        // then they are saved on the way.
        let lives = inside.is_some_and(|index| guest.blocks[index].is_live_in());
        if lives && target <= self.pc {
            self.save_flags();
        }
        let condition = I::branch_condition(self);
        if condition == Condition::Always {
            self.leave_dead_flags(block, 1);
            return self.go(guest, inside, target);
        }
        let flags = self.flags;
        let label = match inside {
            Some(index) => {
                waiting.push(index);
                let saves = lives && !self.flags.saved();
                match guest.blocks[index].start == block.start && block.peels {
                    true => self.way_around(block, index, saves),
                    false => self.way_to(&guest.blocks[index], saves),
                }
            }
            None => {
                self.leave_dead_flags(block, 1);
                self.stub(Cold::Link { target, from: self.pc })
            }
        };
        self.flags = flags;
        self.jump_on(condition, label);
        self.leave_dead_flags(block, 0);
        self.go(guest, block.next_index(), block.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thunks::Thunks;
    use crate::translate::Features;
    use crate::unit::Keying;
    use crate::wary::WarySet;
    use crossdock_emu_guest::Invalidations;
    use crossdock_emu_guest::a64::A64;
    use crossdock_emu_guest::memory::Memory;
    use crossdock_emu_guest::rv64::Rv64;

    /// SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    #[test]
    fn flags_are_live_where_a_word_behind_reads_them() {
        let mut seed = 2;
        for _ in 0..20_000 {
            let length = 1 + random(&mut seed) as usize % BLOCK_LENGTH_MAX;
            // Some blocks have few words that use flags.
            let rare = random(&mut seed) % 40 + 1;
            let classes: Vec<Class> = (0..length)
                .map(|_| if random(&mut seed).is_multiple_of(rare) { random(&mut seed) as u8 % 4 } else { 0 })
                .map(Class)
                .collect();
            let kept = 1 + random(&mut seed) as usize % length;
            let mut uses = FlagUses::default();
            classes.iter().for_each(|&class| uses.push(class));
            uses.cut((length - kept) as u32);
            for out in [false, true] {
                let mut live = out;
                for (i, class) in classes[..kept].iter().enumerate().rev() {
                    assert_eq!(uses.live(out) >> (kept - 1 - i) & 1 == 1, live, "{i} of {kept}");
                    live = class.has(READS) || live && !class.has(WRITES);
                }
                assert_eq!(uses.live_in() || out && uses.keeps(), live);
            }
        }
    }

    /// The places of the heads of loops in A64 code, in bytes from its start.
    fn heads(code: &'static [u32], wanted: impl Fn(u64) -> bool) -> Vec<u64> {
        static LOG: Invalidations = Invalidations::new();
        let start = code.as_ptr() as u64;
        // SAFETY: the window is the array.
        let memory = unsafe { Memory::new(start, start + size_of_val(code) as u64) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let source = Source { host: &host, lines: LOG.lines(), interpreter: None, sight: Sight::FAR };
        let mut blocks = Blocks::<A64>::default();
        blocks.find(start, &source, false, |place| wanted(place - start));
        let heads = blocks.blocks.iter().filter(|block| block.loop_head);
        heads.map(|block| block.start - start).collect()
    }

    #[test]
    fn a_branch_back_makes_a_head_if_the_way_from_there_may_come_again() {
        #[rustfmt::skip]
        static LOOP: [u32; 3] = [
            0xf100_0400, // subs x0, x0, #1
            0x54ff_ffe1, // b.ne LOOP
            0xd65f_03c0, // ret
        ];
        assert_eq!(heads(&LOOP, |_| true), [0]);
        #[rustfmt::skip]
        static MOVED_AWAY: [u32; 5] = [
            0xb400_0060, // cbz x0, 12
            0x9100_0421, // add x1, x1, #1
            0xd65f_03c0, // ret
            0x9100_0842, // add x2, x2, #2
            0x17ff_fffd, // b 4
        ];
        assert!(heads(&MOVED_AWAY, |_| true).is_empty());
        #[rustfmt::skip]
        static WITH_A_CALL: [u32; 5] = [
            0xb400_0080, // cbz x0, 16
            0x9400_0002, // bl 12
            0x17ff_fffe, // b 0
            0xd65f_03c0, // ret
            0xd65f_03c0, // ret
        ];
        assert_eq!(heads(&WITH_A_CALL, |_| true), [0]);
        // The loop goes through a block that may be in another unit, and comes back by a branch forward.
        #[rustfmt::skip]
        static THROUGH_ANOTHER_UNIT: [u32; 4] = [
            0x1400_0003, // b 12
            0x1400_0001, // b 8
            0x1400_0001, // b 12
            0x17ff_fffe, // b 4
        ];
        assert_eq!(heads(&THROUGH_ANOTHER_UNIT, |_| true), [4]);
        assert_eq!(heads(&THROUGH_ANOTHER_UNIT, |place| place != 8), [4]);
        // Only a branch back, which reads the flag itself, leads here from there.
        #[rustfmt::skip]
        static FAR_AWAY: [u32; 4] = [
            0x1400_0002, // b 8
            0x1400_0002, // b 12
            0x17ff_ffff, // b 4
            0xd65f_03c0, // ret
        ];
        assert!(heads(&FAR_AWAY, |place| place != 12).is_empty());
    }

    /// A far jump has no code where its target follows. A thread that comes to the target from elsewhere, and
    /// leaves there for a signal, must not go on at the jump, whose register has another value then.
    #[test]
    fn no_mark_of_a_jump_by_a_register_stands_where_its_target_begins() {
        static LOG: Invalidations = Invalidations::new();
        const TARGET: u64 = 16;
        #[rustfmt::skip]
        static CODE: [u32; 8] = [
            0x0000_0f97, // auipc t6, 0
            0x010f_8067, // jr 16(t6)
            0, 0,
            0x0001_0113, // mv sp, sp
            0x0015_0513, // addi a0, a0, 1
            0x0005_3583, // ld a1, 0(a0)
            0x0002_8067, // jr t0
        ];
        let start = CODE.as_ptr() as u64;
        // SAFETY: the window is the array.
        let memory = unsafe { Memory::new(start, start + size_of_val(&CODE) as u64) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let origin = Origin {
            thunks: Thunks::default(),
            base: 0,
            ground: Ground::Arena,
            first_link: 0,
            wary: &WarySet::default(),
            features: Features::default(),
            lines: LOG.lines(),
            keying: Keying { shift: Rv64::MODE_SHIFT },
            literals: None,
        };
        let (mut buffers, mut blocks) = (Buffers::default(), Blocks::<Rv64>::default());
        assert!(translate(&origin, &mut buffers, &mut blocks, (&host, None), start, 0, |_| true));
        let unit = &buffers.unit;
        let place = |key| origin.keying.place(key);
        let target = unit.blocks.iter().find(|&&(key, ..)| place(key) == start + TARGET);
        let &(_, _, code) = target.expect("the target can be entered");
        let marks: Vec<i32> =
            unit.marks.iter().filter(|mark| mark.code == code).map(|mark| mark.guest).collect();
        assert!(marks.iter().all(|&guest| guest >= TARGET as i32), "{marks:?}");
    }
}
