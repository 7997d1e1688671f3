//! What is translated at once, and in which order.

pub(super) use super::branch::End;
use super::branch::end_of;
use super::flags::{Condition, Flags, flag_use};
use super::pressure::{self, ALL, Plan};
use super::{Cold, Stub, Translator, Zeros, bits};
use crate::cache::{Cache, STANDARD, Unit};
use crate::layout::Assignment;
use alloc::vec::Vec;
use crossdock_emu_guest::a64::Host;
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_x64::{Assembler, Label};

/// Most instructions of a block, so that the time between interrupts is bounded.
const BLOCK_LENGTH_MAX: usize = 128;
/// Most instructions of a unit.
const UNIT_LENGTH_MAX: usize = 512;

/// A block of guest code.
pub(super) struct Block {
    pub(super) start: u64,
    /// Its words in [`Guest::words`].
    pub(super) words: core::ops::Range<usize>,
    pub(super) end: End,
    /// Whether somebody reads the flags from before it.
    live_in: bool,
    /// Branches and calls of the unit that lead to it.
    arrivals: u32,
    /// A branch backwards leads to it.
    pub(super) loop_head: bool,
    label: Option<Label>,
    placed: bool,
    /// Where it has the guest's registers: [`STANDARD`], or that of a loop ([`super::loops`]).
    pub(super) assignment: u16,
    /// Whether it is in the middle of a loop with an assignment, and not to be entered from outside of the unit.
    pub(super) hidden: bool,
}

impl Block {
    /// The address after it.
    fn next(&self) -> u64 {
        self.start.wrapping_add(self.words.len() as u64 * 4)
    }

    /// Address of its last instruction.
    pub(super) fn last(&self) -> u64 {
        self.next().wrapping_sub(4)
    }

    /// The blocks that it leads to by direct branches or by the return of a call.
    pub(super) fn successors(&self) -> [Option<u64>; 2] {
        match self.end {
            End::Next | End::Call(_) | End::CallRegister => [Some(self.next()), None],
            End::Jump(target) => [Some(target), None],
            End::Branch(target) => [Some(self.next()), Some(target)],
            End::JumpRegister | End::Return | End::Syscall | End::Look => [None, None],
        }
    }
}

/// The guest code of a unit.
pub(super) struct Guest {
    pub(super) words: Vec<u32>,
    /// By rising address; none begins inside another.
    pub(super) blocks: Vec<Block>,
    /// There is one block, and branches lead out of it even where they lead to it.
    pub(super) alone: bool,
    /// Branches backwards: the indexes of where they lead to and of where they are.
    pub(super) back: Vec<(usize, usize)>,
    /// What is numbered from 1 in [`Block::assignment`].
    pub(super) assignments: Vec<Assignment>,
}

impl Guest {
    /// Finds the blocks from `start` on; `wanted` says which of the others belong to the unit.
    fn find(start: u64, host: &Host, alone: bool, mut wanted: impl FnMut(u64) -> bool) -> Guest {
        let mut guest = Guest {
            words: Vec::with_capacity(64),
            blocks: Vec::with_capacity(16),
            alone,
            back: Vec::new(),
            assignments: Vec::new(),
        };
        let mut waiting = alloc::vec![start];
        while let Some(pc) = waiting.pop() {
            let known = guest.blocks.iter().any(|block| block.start == pc);
            if known || guest.words.len() >= UNIT_LENGTH_MAX || pc != start && !wanted(pc) {
                continue;
            }
            if let Some(block) = guest.read(pc, host) {
                waiting.extend(block.successors().into_iter().rev().flatten());
                guest.blocks.push(block);
            }
        }
        guest.blocks.sort_unstable_by_key(|block| block.start);
        guest.cut();
        guest.connect(start);
        guest.find_live();
        guest.assign(start);
        guest
    }

    /// The block at `pc`; `None` where its first word cannot be read.
    fn read(&mut self, pc: u64, host: &Host) -> Option<Block> {
        let first = self.words.len();
        let mut at = pc;
        let mut end = End::Next;
        while let Ok(word) = host.memory.fetch(at) {
            self.words.push(word);
            if let Some(found) = end_of(word, at) {
                end = found;
                break;
            }
            at = at.wrapping_add(4);
            if self.words.len() - first == BLOCK_LENGTH_MAX || at.is_multiple_of(PAGE) {
                break;
            }
        }
        let words = first..self.words.len();
        (!words.is_empty()).then_some(Block {
            start: pc,
            words,
            end,
            live_in: false,
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
                before.words.end = before.words.start + ((start - before.start) / 4) as usize;
                before.end = End::Next;
            }
        }
    }

    /// The block at `pc`, for what leads to it.
    pub(super) fn index(&self, pc: u64) -> Option<usize> {
        if self.alone {
            return None;
        }
        self.blocks.binary_search_by_key(&pc, |block| block.start).ok()
    }

    fn connect(&mut self, start: u64) {
        for i in 0..self.blocks.len() {
            let (last, end) = (self.blocks[i].last(), self.blocks[i].end);
            for to in self.blocks[i].successors().into_iter().flatten() {
                let Some(to) = self.index(to) else { continue };
                self.blocks[to].arrivals += 1;
                if self.blocks[to].start <= last {
                    self.blocks[to].loop_head = true;
                    self.back.push((to, i));
                }
            }
            // What a call returns to, and what it calls, is reached with the flags in memory.
            let also = match end {
                End::Call(target) => [Some(target), Some(self.blocks[i].next())],
                End::CallRegister => [Some(self.blocks[i].next()), None],
                _ => [None, None],
            };
            for to in also.into_iter().flatten() {
                if let Some(to) = self.index(to) {
                    self.blocks[to].arrivals += 2;
                }
            }
        }
        if let Some(start) = self.index(start) {
            self.blocks[start].arrivals += 2;
        }
    }

    fn live_in(&self, pc: u64) -> bool {
        self.index(pc).is_none_or(|block| self.blocks[block].live_in)
    }

    /// Whether somebody reads the flags after the block's last instruction.
    fn live_out(&self, block: &Block) -> bool {
        match block.end {
            End::Next => self.live_in(block.next()),
            End::Jump(target) => self.live_in(target),
            End::Branch(target) => self.live_in(block.next()) || self.live_in(target),
            _ => true,
        }
    }

    /// Finds `live_in` of all blocks, from the last to the first until nothing changes.
    fn find_live(&mut self) {
        loop {
            let mut changed = false;
            for i in (0..self.blocks.len()).rev() {
                let block = &self.blocks[i];
                let mut live = self.live_out(block);
                for &word in self.words[block.words.clone()].iter().rev() {
                    let (reads, writes) = flag_use(word);
                    live = reads || live && !writes;
                }
                changed |= live != block.live_in;
                self.blocks[i].live_in = live;
            }
            if !changed {
                return;
            }
        }
    }
}

/// Whether the code of a word that is no branch may touch the guest's memory: loads, stores, and system instructions
/// (DC ZVA). What is left to the interpreter has a mark of its own.
fn may_fault(word: u32) -> bool {
    word >> 25 & 0b0101 == 0b0100 || bits(word, 31, 22) == 0b11_0101_0100
}

/// Translates the unit at `start` into `assembler`: `None` where nothing can be read there. `wanted` says which blocks
/// that it leads to belong to it.
pub fn translate(
    cache: &Cache,
    assembler: &mut Assembler,
    host: &Host,
    start: u64,
    mode: u64,
    wanted: impl FnMut(u64) -> bool,
) -> Option<Unit> {
    let guest = Guest::find(start, host, false, wanted);
    translate_guest(cache, assembler, start, mode, guest)
}

/// Translates the block at `start` without those that it leads to: it leaves at its end, also where that leads to itself.
pub fn translate_alone(
    cache: &Cache,
    assembler: &mut Assembler,
    host: &Host,
    start: u64,
    mode: u64,
) -> Option<Unit> {
    let guest = Guest::find(start, host, true, |_| false);
    let unit = translate_guest(cache, assembler, start, mode, guest)?;
    Some(Unit { alone: true, ..unit })
}

/// Whether a block ends behind `word` at `pc`, its instruction number `length` from 1.
pub fn ends_block(word: u32, pc: u64, length: usize) -> bool {
    length == BLOCK_LENGTH_MAX || pc.wrapping_add(4).is_multiple_of(PAGE) || end_of(word, pc).is_some()
}

fn translate_guest(
    cache: &Cache,
    assembler: &mut Assembler,
    start: u64,
    mode: u64,
    mut guest: Guest,
) -> Option<Unit> {
    let first = guest.blocks.iter().position(|block| block.start == start)?;
    let mut translator = Translator::new(cache, assembler, start, mode);
    translator.unit.assignments = core::mem::take(&mut guest.assignments);
    translator.unit.loops = translator.unit.assignments.len();
    for block in &mut guest.blocks {
        block.label = Some(translator.a.label());
    }
    let words = core::mem::take(&mut guest.words);
    let mut waiting = alloc::vec![first];
    while let Some(next) = waiting.pop() {
        let mut next = Some(next);
        while let Some(index) = next.filter(|&index| !guest.blocks[index].placed) {
            guest.blocks[index].placed = true;
            next = translator.block(&guest, &words, index, &mut waiting);
        }
        translator.flags = Flags::Memory;
    }
    translator.write_stubs();
    translator.write_constants();
    Some(translator.unit)
}

impl<'t> Translator<'t> {
    /// Writes a block. Returns the one to be placed behind it, to which it falls through.
    fn block(
        &mut self,
        guest: &Guest,
        words: &'t [u32],
        index: usize,
        waiting: &mut Vec<usize>,
    ) -> Option<usize>
where {
        let block = &guest.blocks[index];
        // One that is only fallen into may take over flags in EFLAGS, and cannot be entered from elsewhere then.
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
        let words = &words[block.words.clone()];
        let mut live = [false; BLOCK_LENGTH_MAX + 1];
        live[words.len()] = guest.live_out(block);
        let mut live_before = [false; BLOCK_LENGTH_MAX + 1];
        for (i, &word) in words.iter().enumerate().rev() {
            let (reads, writes) = flag_use(word);
            live_before[i] = reads || live[i + 1] && !writes;
            live[i] = live_before[i];
        }
        let straight = if block.end == End::Next { words.len() } else { words.len() - 1 };
        self.end_word = words.get(straight).copied().unwrap_or(0);
        let plan = self.plan(guest, block, &words[..straight]);
        self.plans = plan.is_some();
        self.unit.planned += usize::from(self.plans);
        if !self.plans {
            self.dirty = ALL;
        }
        let plan = plan.unwrap_or_default();
        let mut changes = &plan.changes[..];
        let mut i = 0;
        while i < straight {
            self.pc = block.start.wrapping_add(i as u64 * 4);
            let here = changes.iter().take_while(|change| change.at == i).count();
            let (now, later) = changes.split_at(here);
            changes = later;
            // Instructions are lowered together only where the assignment stays.
            let end = changes.first().map_or(straight, |change| change.at);
            self.words = &words[i..end];
            (self.live, self.live_before) = (live[i + 1], live_before[i]);
            for change in now {
                if change.load { self.load_place(change) } else { self.store_place(change) }
            }
            if may_fault(words[i]) {
                self.mark();
            }
            now.iter().filter(|change| !change.load).for_each(|change| self.take_place(change));
            if self.plans {
                self.dirty = plan.dirty[(i + 3).min(end - 1)];
            }
            i += self.instruction();
            if self.plans {
                self.dirty = plan.dirty[i - 1];
            }
        }
        if straight < words.len() {
            if !matches!(block.end, End::Jump(_) | End::Branch(_)) {
                self.reassign(STANDARD);
            }
            self.pc = block.last();
            self.words = &words[straight..];
            (self.live, self.live_before) = (live[words.len()], live_before[straight]);
            self.mark();
        }
        self.end(guest, block, waiting)
    }

    /// What becomes of the assignment in the block, if it has many registers.
    fn plan(&self, guest: &Guest, block: &Block, words: &[u32]) -> Option<Plan> {
        if !pressure::is_long(words.len(), block.assignment != STANDARD) {
            return None;
        }
        let next = match block.end {
            End::Next | End::Branch(_) => Some(block.next()),
            End::Jump(target) => Some(target),
            _ => None,
        };
        let assignment = |pc| guest.index(pc).map_or(STANDARD, |index| guest.blocks[index].assignment);
        let standard = Assignment::STANDARD;
        let to = match next {
            Some(pc) if self.may_inherit(guest, pc) => None,
            Some(pc) => match assignment(pc) {
                STANDARD => Some(&standard),
                number => Some(&self.unit.assignments[usize::from(number) - 1]),
            },
            None => Some(&standard),
        };
        pressure::plan(words, &self.assignment, self.dirty, to)
    }

    /// Whether the block at `pc` may go on with what the one that falls into it has in registers.
    fn may_inherit(&self, guest: &Guest, pc: u64) -> bool {
        guest.index(pc).is_some_and(|index| {
            let block = &guest.blocks[index];
            block.arrivals == 1
                && !block.placed
                && !block.loop_head
                && pressure::is_long(block.words.len(), block.assignment != STANDARD)
        })
    }

    /// Says where the block is entered, if it can be.
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
        let next = block.next();
        match block.end {
            End::Next => self.go(guest, next),
            End::Jump(target) => self.go(guest, target),
            End::Branch(target) => self.branch(guest, target, next, waiting),
            End::Call(target) => {
                let label = guest.index(target).map(|index| {
                    waiting.push(index);
                    self.way_to(&guest.blocks[index])
                });
                self.call(target, label);
                self.go(guest, next)
            }
            End::CallRegister => {
                self.call_register(self.words[0]);
                self.go(guest, next)
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

    /// Where a jump or call to the block leads: to it, or to what moves the registers before.
    fn way_to(&mut self, block: &Block) -> Label {
        let label = block.label.expect("all blocks have labels");
        match block.assignment {
            to if self.holds(to) => label,
            to => self.stub(Cold::Reassign { to, block: label }),
        }
    }

    /// Goes on at `pc`: falls into the block if it is not placed yet, which is then returned.
    fn go(&mut self, guest: &Guest, pc: u64) -> Option<usize> {
        let Some(index) = guest.index(pc) else {
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
        if self.plans && self.may_inherit(guest, pc) {
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
    fn branch(&mut self, guest: &Guest, target: u64, next: u64, waiting: &mut Vec<usize>) -> Option<usize> {
        let word = self.words[0];
        let inside = guest.index(target);
        // Who arrives by a jump finds the flags in memory.
        if inside.is_some_and(|index| guest.blocks[index].live_in) {
            self.save_flags();
        }
        let condition = if bits(word, 31, 24) == 0x54 {
            self.condition(bits(word, 3, 0))
        } else {
            Condition::One(self.branch_test(word))
        };
        if condition == Condition::Always {
            return self.go(guest, target);
        }
        let label = match inside {
            Some(index) => {
                waiting.push(index);
                self.way_to(&guest.blocks[index])
            }
            None => self.stub(Cold::Link { target, from: self.pc }),
        };
        self.jump_on(condition, label);
        self.go(guest, next)
    }
}
