//! What the translator makes of a unit of guest code, beside its machine code.

use crate::flag_form::FlagForm;
use crate::layout::Assignment;
use alloc::boxed::Box;
use alloc::vec::Vec;
use crossdock_emu_guest::Op;

/// A mode of floating point: the translation leaves it to the interpreter.
pub const EXACT: u64 = 1;
/// A mode of floating point: for FPCR.FZ, where subnormal operands and results are zeros.
pub const FLUSH: u64 = 2;

/// How the key of a block is made of its place and the mode of floating point: the mode lies in two bits that
/// places of the guest leave free.
#[derive(Clone, Copy, Debug)]
pub struct Keying {
    /// The lower of the two bits.
    pub shift: u32,
}

impl Keying {
    /// The key of a block.
    #[inline(always)]
    pub fn key(self, place: u64, mode: u64) -> u64 {
        place | mode << self.shift
    }

    /// The place of a key.
    #[inline(always)]
    pub fn place(self, key: u64) -> u64 {
        key & !((EXACT | FLUSH) << self.shift)
    }
}

/// An instruction that generated code hands to the interpreter.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Record {
    /// The decoded instruction.
    pub op: Op,
    /// The places of the instruction and of the next one.
    pub pc: u64,
    /// See `pc`.
    pub next: u64,
    /// Where the block begins from which the instruction was read.
    pub block: u64,
}

/// A direct branch out of a unit.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Key of the target block.
    pub target: u64,
    /// Offset of the displacement in the arena, a multiple of 4.
    pub site: u32,
    /// Where the branch leads while it is not linked.
    pub unlinked: u32,
    /// The next link to the same block, or [`NONE`].
    pub next: u32,
}

/// Where a guest instruction that may fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Offset in the arena.
    pub code: u32,
    /// Bytes from the unit's first guest address, or below it.
    pub guest: i32,
    /// Where the guest's flags are.
    pub flags: FlagForm,
    /// Where the guest's registers are: [`STANDARD`], or one more than the index of the unit's assignment.
    pub assignment: u16,
    /// What of the guest's state depends on the instruction alone: the state of IT
    /// ([`crate::translate::Isa`]).
    pub context: u8,
}

/// The number of [`Assignment::STANDARD`].
pub const STANDARD: u16 = 0;

/// What the translator returns.
#[derive(Default)]
pub struct Unit {
    /// First guest address; [`Mark::guest`] is relative to it.
    pub start: u64,
    /// Keys and ends of the blocks that can be entered, with their offsets in the arena.
    pub blocks: Vec<(u64, u64, u32)>,
    /// Start and end of the blocks that cannot be entered, for invalidation.
    pub inner: Vec<(u64, u64)>,
    /// Start and end of code outside of the unit that the unit depends on, for invalidation.
    pub ahead: Vec<(u64, u64)>,
    /// Direct branches out of the unit.
    pub links: Vec<Link>,
    /// Guest instructions that may fault, by ascending offset.
    pub marks: Vec<Mark>,
    /// Instructions for the interpreter.
    pub records: Vec<Box<Record>>,
    /// The number of the first of them in an image.
    pub first_record: u32,
    /// Where loops have the guest's registers, then where instructions in blocks with many registers have
    /// them.
    pub assignments: Vec<Assignment>,
    /// How many of the assignments are loops', and how many blocks have plans.
    pub loops: usize,
    pub planned: usize,
    /// The unit's branches are not to be linked.
    pub alone: bool,
}

impl Unit {
    /// Empties the unit, except for what the next one reuses.
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.inner.clear();
        self.ahead.clear();
        self.links.clear();
        self.marks.clear();
        self.planned = 0;
    }
}
