//! Which blocks are translated at once, and in which order.

pub(super) use super::branch::End;
use super::branch::{end_of, may_end};
use super::flags::{Condition, Flags, flag_use, flag_use_needs_all};
use super::pressure::{self, ALL, Plan};
use super::{Buffers, Cold, Stub, Translator, Zeros, bits};
use crate::cache::{Cache, STANDARD};
use crate::layout::Assignment;
use alloc::vec::Vec;
use crossdock_emu_guest::a64::stack_pointer::{ALIGNMENT, may_unalign};
use crossdock_emu_guest::a64::{CodeLines, Host, SP};
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_x64::{Cc, Label};

/// Most instructions of a block, so that the time between interrupts is bounded.
const BLOCK_LENGTH_MAX: usize = 128;
/// Most instructions of a unit.
const UNIT_LENGTH_MAX: usize = 512;

/// What the high bits of a word say about it, from a table: [`READS`] and the others.
#[derive(Clone, Copy)]
struct Class(u8);

/// Bits of a [`Class`]: the word reads the flags; it writes all of them; its code may access the guest's
/// memory; it may end a block; its lower bits decide how it uses the flags.
const READS: u8 = 1 << 0;
const WRITES: u8 = 1 << 1;
const FAULTS: u8 = 1 << 2;
const ENDS: u8 = 1 << 3;
const MORE: u8 = 1 << 4;

impl Class {
    const fn new(reads: bool, writes: bool, more: u8) -> Class {
        Class(reads as u8 * READS | writes as u8 * WRITES | more)
    }

    /// Indexed by bits 31 to 21.
    const TABLE: [Class; 1 << 11] = {
        let mut table = [Class(0); 1 << 11];
        let mut high = 0;
        while high < table.len() {
            let word = (high as u32) << 21;
            let (reads, writes) = flag_use(word);
            let faults = if may_fault(word) { FAULTS } else { 0 };
            let ends = if may_end(word) { ENDS } else { 0 };
            let more = if flag_use_needs_all(word) { MORE } else { 0 };
            table[high] = Class::new(reads, writes, faults | ends | more);
            high += 1;
        }
        table
    };

    fn of(word: u32) -> Class {
        let class = Self::TABLE[(word >> 21) as usize];
        if class.has(MORE) {
            let (reads, writes) = flag_use(word);
            return Class::new(reads, writes, class.0 & (FAULTS | ENDS));
        }
        class
    }

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// Which words of a block read and write the flags: bit 0 is the last word.
#[derive(Clone, Copy, Default)]
struct FlagUses {
    reads: u128,
    writes: u128,
}

impl FlagUses {
    /// Adds a word after the others.
    fn push(&mut self, class: Class) {
        self.reads = self.reads << 1 | u128::from(class.0 / READS & 1);
        self.writes = self.writes << 1 | u128::from(class.0 / WRITES & 1);
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
    pub(super) start: u64,
    pub(super) end: End,
    /// The block's words in [`Guest::words`]: the index of the first, and their number.
    first: u16,
    length: u16,
    /// The next block, if this one goes on there and the next is in the unit.
    next: Option<Index>,
    /// The target of the block's branch or call, if the target is in the unit.
    target: Option<Index>,
    /// Whether the flags from before the block are read.
    live_in: bool,
    flag_uses: FlagUses,
    /// Number of branches and calls of the unit that lead to the block.
    arrivals: u16,
    /// Whether a backward branch leads to the block.
    pub(super) loop_head: bool,
    label: Option<Label>,
    placed: bool,
    /// Where the block has the guest's registers: [`STANDARD`], or the number of a loop's assignment
    /// ([`super::loops`]).
    pub(super) assignment: u16,
    /// Whether the block is in the middle of a loop with an assignment, and not to be entered from outside
    /// the unit.
    pub(super) hidden: bool,
}

/// The number of a block in its unit, from 1.
type Index = core::num::NonZeroU16;

fn of_index(index: Index) -> usize {
    usize::from(index.get()) - 1
}

impl Block {
    /// The block's words in [`Guest::words`].
    pub(super) fn words(&self) -> core::ops::Range<usize> {
        let first = usize::from(self.first);
        first..first + usize::from(self.length)
    }

    /// The address after the block.
    fn next(&self) -> u64 {
        self.start.wrapping_add(u64::from(self.length) * 4)
    }

    /// Address of the block's last instruction.
    pub(super) fn last(&self) -> u64 {
        self.next().wrapping_sub(4)
    }

    /// The next block, if this one goes on there and the next is in the unit.
    pub(super) fn next_index(&self) -> Option<usize> {
        self.next.map(of_index)
    }

    /// The target of the block's branch or call, if the target is in the unit.
    pub(super) fn target_index(&self) -> Option<usize> {
        self.target.map(of_index)
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

/// Slots of [`Guest::table`]: more than a unit has blocks.
const SLOTS: usize = 1 << 10;
const _: () = assert!(SLOTS > UNIT_LENGTH_MAX + BLOCK_LENGTH_MAX);

/// The guest code of a unit.
#[derive(Default)]
pub(super) struct Guest {
    pub(super) words: Vec<u32>,
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
}

impl Guest {
    /// Finds the blocks from `start` on; `wanted` says which of the other blocks belong to the unit.
    fn find(
        &mut self,
        start: u64,
        host: &Host,
        lines: &CodeLines,
        alone: bool,
        mut wanted: impl FnMut(u64) -> bool,
    ) {
        self.words.clear();
        self.blocks.clear();
        self.back.clear();
        self.assignments.clear();
        self.clear_table();
        self.alone = alone;
        let mut waiting = core::mem::take(&mut self.waiting);
        waiting.push(start);
        while let Some(pc) = waiting.pop() {
            let slot = self.slot(pc);
            let known = self.table[slot] != 0;
            if known || self.words.len() >= UNIT_LENGTH_MAX || pc != start && !wanted(pc) {
                continue;
            }
            if let Some(block) = self.read(pc, host, lines) {
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
        self.connect(start);
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

    /// The block at `pc`; `None` if its first word cannot be read.
    fn read(&mut self, pc: u64, host: &Host, lines: &CodeLines) -> Option<Block> {
        let first = self.words.len();
        let mut at = pc;
        let mut end = End::Next;
        let mut flag_uses = FlagUses::default();
        let mut reader = Reader { host, lines, line: [0; 4], at: UNREAD };
        while let Some(word) = reader.word(at) {
            let class = Class::of(word);
            self.words.push(word);
            flag_uses.push(class);
            if class.has(ENDS)
                && let Some(found) = end_of(word, at)
            {
                end = found;
                break;
            }
            at = at.wrapping_add(4);
            let full = self.words.len() - first == BLOCK_LENGTH_MAX || at.is_multiple_of(PAGE);
            if full || self.alone && may_unalign(word) {
                break;
            }
        }
        let length = self.words.len() - first;
        (length != 0).then_some(Block {
            start: pc,
            end,
            first: first as u16,
            length: length as u16,
            next: None,
            target: None,
            live_in: false,
            flag_uses,
            arrivals: 0,
            loop_head: false,
            label: None,
            placed: false,
            assignment: STANDARD,
            hidden: false,
        })
    }

    /// Ends each block where the next begins.
    fn cut(&mut self) {
        for i in 1..self.blocks.len() {
            let start = self.blocks[i].start;
            let before = &mut self.blocks[i - 1];
            if before.next() > start {
                let length = ((start - before.start) / 4) as u16;
                before.flag_uses.cut(u32::from(before.length - length));
                before.length = length;
                before.end = End::Next;
            }
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
            let (last, end) = (block.last(), block.end);
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
                        to.loop_head = true;
                        self.back.push((target, i));
                    }
                }
            }
        }
        if let Some(start) = self.index(start) {
            self.blocks[start].arrivals += 2;
        }
    }

    /// The numbers from 1 of the blocks that the flags after a block's last instruction reach; 0 stands for
    /// code outside the unit, which may read them.
    fn flag_successors(block: &Block) -> [u16; 2] {
        let number = |index: Option<Index>| index.map_or(0, Index::get);
        let (next, target) = (number(block.next), number(block.target));
        match block.end {
            End::Next | End::Synchronize | End::Invalidate | End::SetMode => [next; 2],
            End::Jump(_) => [target; 2],
            End::Branch(_) => [next, target],
            _ => [0; 2],
        }
    }

    /// Whether the flags after the block's last instruction are read.
    fn live_out(&self, block: &Block) -> bool {
        let live = |number: u16| number == 0 || self.blocks[usize::from(number) - 1].live_in;
        let [one, other] = Self::flag_successors(block);
        live(one) | live(other)
    }

    /// Finds `live_in` of all blocks, going from the last to the first until nothing changes.
    fn find_live(&mut self) {
        for block in &mut self.blocks {
            block.live_in = block.flag_uses.live_in();
        }
        loop {
            let mut changed = false;
            for i in (0..self.blocks.len()).rev() {
                let block = &self.blocks[i];
                let live = block.live_in | block.flag_uses.keeps() & self.live_out(block);
                changed |= live != block.live_in;
                self.blocks[i].live_in = live;
            }
            if !changed || self.back.is_empty() {
                return;
            }
        }
    }
}

/// Reads words one after another, in aligned units of 16 bytes, each of which lies in one page.
struct Reader<'h> {
    host: &'h Host,
    lines: &'h CodeLines,
    line: [u32; 4],
    /// The address of `line`, or [`UNREAD`].
    at: u64,
}

const UNREAD: u64 = 1;

impl Reader<'_> {
    fn word(&mut self, at: u64) -> Option<u32> {
        let line = at & !15;
        if self.at != line {
            let Some(read) = self.lines.read(&self.host.memory, line) else {
                return self.host.memory.fetch(at).ok();
            };
            (self.line, self.at) = (read, line);
        }
        Some(self.line[(at >> 2) as usize % 4])
    }
}

/// Whether the code of a word that is no branch may access the guest's memory: loads, stores, and system
/// instructions (DC ZVA). Instructions left to the interpreter have a mark of their own.
const fn may_fault(word: u32) -> bool {
    word >> 25 & 0b0101 == 0b0100 || bits(word, 31, 22) == 0b11_0101_0100
}

/// Translates the unit at `start` into `buffers`; false if no word can be read there. `wanted` says which of
/// the blocks that the unit leads to belong to it.
pub fn translate(
    cache: &Cache,
    buffers: &mut Buffers,
    host: &Host,
    start: u64,
    mode: u64,
    wanted: impl FnMut(u64) -> bool,
) -> bool {
    buffers.guest.find(start, host, cache.lines, false, wanted);
    translate_guest(cache, buffers, start, mode)
}

/// Translates the block at `start` alone: the code leaves at the block's end, even if the block leads to
/// itself.
pub fn translate_alone(cache: &Cache, buffers: &mut Buffers, host: &Host, start: u64, mode: u64) -> bool {
    buffers.guest.find(start, host, cache.lines, true, |_| false);
    translate_guest(cache, buffers, start, mode)
}

/// Whether a block that is translated alone ends after `word` at `pc`, its instruction `length`, counted from
/// 1.
pub fn ends_block(word: u32, pc: u64, length: usize) -> bool {
    length == BLOCK_LENGTH_MAX
        || pc.wrapping_add(4).is_multiple_of(PAGE)
        || may_unalign(word)
        || end_of(word, pc).is_some()
}

fn translate_guest(cache: &Cache, buffers: &mut Buffers, start: u64, mode: u64) -> bool {
    let mut guest = core::mem::take(&mut buffers.guest);
    let words = core::mem::take(&mut guest.words);
    let first = guest.blocks.iter().position(|block| block.start == start);
    if let Some(first) = first {
        buffers.unit.alone = guest.alone;
        buffers.unit.assignments.append(&mut guest.assignments);
        buffers.unit.loops = buffers.unit.assignments.len();
        let mut translator = Translator::new(cache, buffers, start, mode);
        for block in &mut guest.blocks {
            block.label = Some(translator.a.label());
        }
        translator.blocks(&mut guest, &words, first);
        translator.write_stubs();
        translator.write_constants();
    }
    buffers.guest = Guest { words, ..guest };
    first.is_some()
}

impl<'t> Translator<'t> {
    /// Writes all blocks, each after the block that falls into it, if there is one.
    fn blocks(&mut self, guest: &mut Guest, words: &'t [u32], first: usize) {
        let mut waiting = core::mem::take(self.waiting);
        waiting.push(first);
        while let Some(next) = waiting.pop() {
            let mut next = Some(next);
            while let Some(index) = next.filter(|&index| !guest.blocks[index].placed) {
                let block = &mut guest.blocks[index];
                block.placed = true;
                let range = block.words();
                next = self.block(guest, &words[range], index, &mut waiting);
            }
            self.flags = Flags::Memory;
        }
        *self.waiting = waiting;
    }

    /// Writes a block. Returns the block that it falls through to, which must be placed next.
    fn block(
        &mut self,
        guest: &Guest,
        words: &'t [u32],
        index: usize,
        waiting: &mut Vec<usize>,
    ) -> Option<usize> {
        let block = &guest.blocks[index];
        // A block that is reached only by falling into it may take over flags in EFLAGS, and then cannot be
        // entered from elsewhere.
        let inner = block.arrivals == 1 && !block.loop_head && block.live_in && self.flags != Flags::Memory;
        let label = block.label.expect("all blocks have labels");
        self.a.bind(label);
        let inherits = core::mem::take(&mut self.inherits);
        if !inherits {
            self.assume(block.assignment);
        }
        if !inner {
            self.flags = Flags::Memory;
            self.zeros = Zeros::default();
        }
        self.enter(block, inner || inherits, label);
        self.pc = block.start;
        if block.loop_head {
            self.check_interrupt(block.start);
        }
        let straight = if block.end == End::Next { words.len() } else { words.len() - 1 };
        self.end_word = words.get(straight).copied().unwrap_or(0);
        let plan = self.plan(guest, block, &words[..straight]);
        self.plans = plan.is_some();
        let live = block.flag_uses.live(guest.live_out(block));
        match plan {
            None => {
                self.dirty = ALL;
                let mut i = 0;
                while i < straight {
                    self.set_place(block, live, i);
                    self.words = &words[i..straight];
                    let word = words[i];
                    self.mark_if(Class::of(word).has(FAULTS));
                    i += self.instruction();
                    if may_unalign(word) {
                        self.check_stack_pointer();
                    }
                }
            }
            Some(plan) => {
                self.unit.planned += 1;
                self.planned(block, &words[..straight], live, &plan);
            }
        }
        if straight < words.len() {
            if !matches!(block.end, End::Jump(_) | End::Branch(_)) {
                self.reassign(STANDARD);
            }
            self.set_place(block, live, straight);
            self.words = &words[straight..];
            self.mark_if(true);
        }
        self.end(guest, block, waiting)
    }

    /// Leaves after an instruction that has written SP, if SP is not aligned: generated code runs only with
    /// an aligned SP, so accesses by SP need no check.
    fn check_stack_pointer(&mut self) {
        self.clobber();
        let stub = self.stub(Cold::Interrupted { pc: self.pc.wrapping_add(4) });
        self.a.test_imm8(self.rm(SP as u8), (ALIGNMENT - 1) as u8);
        self.a.jump_if(Cc::Ne, stub);
    }

    /// Moves on to instruction `i` of the block; `live` is the result of [`FlagUses::live`].
    fn set_place(&mut self, block: &Block, live: u128, i: usize) {
        self.pc = block.start.wrapping_add(i as u64 * 4);
        let after = live >> (usize::from(block.length) - 1 - i);
        self.live = after & 1 == 1;
        self.live_before = if i == 0 { block.live_in } else { after >> 1 & 1 == 1 };
    }

    /// Writes a block's instructions except its branch, with an assignment that changes.
    fn planned(&mut self, block: &Block, words: &'t [u32], live: u128, plan: &Plan) {
        let mut changes = &plan.changes[..];
        let mut i = 0;
        while i < words.len() {
            self.set_place(block, live, i);
            let here = changes.iter().take_while(|change| change.at == i).count();
            let (now, later) = changes.split_at(here);
            changes = later;
            // Instructions are lowered together only if the assignment stays the same.
            let end = changes.first().map_or(words.len(), |change| change.at);
            self.words = &words[i..end];
            for change in now {
                if change.load { self.load_place(change) } else { self.store_place(change) }
            }
            if Class::of(words[i]).has(FAULTS) {
                self.mark();
            }
            now.iter().filter(|change| !change.load).for_each(|change| self.take_place(change));
            self.dirty = plan.dirty[(i + 3).min(end - 1)];
            let word = words[i];
            i += self.instruction();
            self.dirty = plan.dirty[i - 1];
            if may_unalign(word) {
                self.check_stack_pointer();
            }
        }
    }

    /// How the assignment changes in the block, if the block uses many registers.
    fn plan(&self, guest: &Guest, block: &Block, words: &[u32]) -> Option<Plan> {
        if !pressure::is_long(words.len(), block.assignment != STANDARD) {
            return None;
        }
        let next = match block.end {
            End::Next | End::Branch(_) => Some(block.next_index()),
            End::Jump(_) => Some(block.target_index()),
            _ => None,
        };
        let standard = Assignment::STANDARD;
        let to = match next {
            Some(Some(next)) if self.may_inherit(&guest.blocks[next]) => None,
            Some(Some(next)) => match guest.blocks[next].assignment {
                STANDARD => Some(&standard),
                number => Some(&self.unit.assignments[usize::from(number) - 1]),
            },
            _ => Some(&standard),
        };
        pressure::plan(words, &self.assignment, self.dirty, to)
    }

    /// Whether the block may go on with the registers of the block that falls into it.
    fn may_inherit(&self, block: &Block) -> bool {
        block.arrivals == 1
            && !block.placed
            && !block.loop_head
            && pressure::is_long(usize::from(block.length), block.assignment != STANDARD)
    }

    /// Records where the block is entered, if it can be.
    fn enter(&mut self, block: &Block, inner: bool, label: Label) {
        let (start, end) = (block.start, block.next());
        if inner || block.hidden {
            self.unit.inner.push((start, end));
        } else if block.assignment == STANDARD {
            let code = self.base + self.a.position();
            self.unit.blocks.push((start | self.mode, end, code));
        } else {
            let cold = Cold::Entry { start, end, to: block.assignment, block: label };
            let stub = self.a.label();
            self.stubs.push(Stub { label: stub, flags: Flags::Memory, assigned: STANDARD, dirty: ALL, cold });
        }
    }

    fn end(&mut self, guest: &Guest, block: &Block, waiting: &mut Vec<usize>) -> Option<usize> {
        let (next, next_index, target_index) = (block.next(), block.next_index(), block.target_index());
        match block.end {
            End::Next => self.go(guest, next_index, next),
            End::Synchronize => {
                self.synchronize();
                self.go(guest, next_index, next)
            }
            End::Invalidate => {
                self.invalidate(self.words[0]);
                self.go(guest, next_index, next)
            }
            End::SetMode => {
                self.set_mode(self.words[0]);
                self.go(guest, next_index, next)
            }
            End::Jump(target) => self.go(guest, target_index, target),
            End::Branch(target) => self.branch(guest, block, target, waiting),
            End::Call(target) => {
                let label = target_index.map(|index| {
                    waiting.push(index);
                    self.way_to(&guest.blocks[index])
                });
                self.call(target, label);
                self.go(guest, next_index, next)
            }
            End::CallRegister => {
                self.call_register(self.words[0]);
                self.go(guest, next_index, next)
            }
            End::JumpRegister => {
                self.jump_register(self.words[0]);
                None
            }
            End::Return => {
                self.return_to(self.words[0]);
                None
            }
            End::Syscall => {
                self.syscall(self.words[0]);
                None
            }
            End::Look => {
                self.look();
                None
            }
        }
    }

    /// Where a jump or call to the block leads: to the block, or to code that moves the registers first.
    fn way_to(&mut self, block: &Block) -> Label {
        let label = block.label.expect("all blocks have labels");
        match block.assignment {
            to if self.holds(to) => label,
            to => self.stub(Cold::Reassign { to, block: label }),
        }
    }

    /// Goes on at `pc`, which is block `index` if it is in the unit. If that block is not placed yet, falls
    /// into it and returns it.
    fn go(&mut self, guest: &Guest, index: Option<usize>, pc: u64) -> Option<usize> {
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
        if block.live_in && !alone {
            self.save_flags();
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
        guest: &Guest,
        block: &Block,
        target: u64,
        waiting: &mut Vec<usize>,
    ) -> Option<usize> {
        let word = self.words[0];
        let inside = block.target_index();
        // Code that is reached by a jump finds the flags in memory.
        if inside.is_some_and(|index| guest.blocks[index].live_in) {
            self.save_flags();
        }
        let condition = if bits(word, 31, 24) == 0x54 {
            self.condition(bits(word, 3, 0))
        } else {
            Condition::One(self.branch_test(word))
        };
        if condition == Condition::Always {
            return self.go(guest, inside, target);
        }
        let label = match inside {
            Some(index) => {
                waiting.push(index);
                self.way_to(&guest.blocks[index])
            }
            None => self.stub(Cold::Link { target, from: self.pc }),
        };
        self.jump_on(condition, label);
        self.go(guest, block.next_index(), block.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A word of an existing instruction, with random fields.
    fn random_word(seed: &mut u64) -> u32 {
        let table = crossdock_emu_guest::a64::TABLE;
        let row = &table[random(seed) as usize % table.len()];
        row.value | random(seed) as u32 & !row.mask
    }

    #[test]
    fn classes_are_those_of_the_whole_words() {
        let mut seed = 1;
        let mut ends = 0;
        for i in 0..400_000 {
            let word = if i % 4 == 0 { random(&mut seed) as u32 } else { random_word(&mut seed) };
            let class = Class::of(word);
            assert_eq!((class.has(READS), class.has(WRITES)), flag_use(word), "{word:08x}");
            assert_eq!(class.has(FAULTS), may_fault(word), "{word:08x}");
            let end = end_of(word, 0x1000);
            assert!(class.has(ENDS) || end.is_none(), "{word:08x} ends a block: {end:?}");
            ends += u32::from(end.is_some());
        }
        assert!(ends > 10_000, "{ends}");
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
}
