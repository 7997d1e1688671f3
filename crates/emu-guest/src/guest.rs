//! What an instruction set must say of itself, so that the decoder's blocks and the interpreter serve it.

use crate::code_lines::CodeLines;
use crate::exit::{Exit, Flow, Step};
use crate::memory::{Fault, Memory};
use crate::op::{Host, Op};
use crate::state::State;

/// An instruction set.
///
/// A *place* is what [`State::pc`] holds: the address of an instruction and, in bits that addresses leave
/// free, whatever else decides how the instruction is decoded (for Arm's 32-bit sets bit 0: Thumb). Blocks of
/// code are known by the places of their first instructions.
pub trait Guest: 'static {
    /// The addresses of instructions are multiples of this number of bytes.
    const GRANULE: u64;
    /// Bytes by which a block may reach into the next page: the part of its last instructions that does not
    /// fit into the page of its first. 0 if instructions are aligned to their length.
    const OVERHANG: u64;

    /// Most instructions that may not be parted from the one before.
    const TAIL: usize;
    /// Bytes of the longest instruction.
    const LENGTH_MAX: u64;

    /// What decoding an instruction must know of those before it in the block.
    type Context: Default;

    /// The address of the instruction at a place.
    fn address(place: u64) -> u64;

    /// The places that the instruction at an address may have.
    fn places(address: u64) -> impl Iterator<Item = u64>;

    /// Decodes the instruction at a place.
    ///
    /// # Errors
    ///
    /// The instruction cannot be read.
    fn decode(words: &mut Words<'_>, place: u64, context: &mut Self::Context) -> Result<Decoded, Fault>;

    /// Checks that code can be run at the place in `state`; called before each block.
    ///
    /// # Errors
    ///
    /// What the caller of the interpreter has to do.
    fn check_place(state: &State) -> Result<(), Exit>;

    /// Whether the next instructions are to be decoded one by one, since more than their place decides what
    /// they do: the rest of an IT block, after a signal has interrupted it.
    #[inline(always)]
    fn is_between(_state: &State) -> bool {
        false
    }

    /// What decoding the instruction at the place in `state` by itself must know.
    fn context_of(_state: &State) -> Self::Context {
        Self::Context::default()
    }

    /// Bytes of a decoded instruction.
    fn length(op: &Op) -> u64;

    /// Runs one instruction; [`State::pc`] is its place.
    #[inline(always)]
    fn run_op(state: &mut State, host: &Host, op: &Op) -> Step {
        (op.run)(state, host, op)
    }

    /// Sets what an instruction that has not jumped leaves in the state for the next one; called where blocks
    /// do not end ([`Guest::is_between`]).
    #[inline(always)]
    fn after(_state: &mut State, _op: &Op) {}

    /// As [`Guest::run_op`], for callers that have no blocks.
    ///
    /// # Errors
    ///
    /// What the caller has to do, as [`crate::Interpreter::run`] returns it.
    #[inline(always)]
    fn execute(state: &mut State, host: &Host, op: &Op) -> Result<Flow, Exit> {
        Self::run_op(state, host, op).map_err(|crate::exit::Leave| state.exit)
    }

    /// Runs the instructions of a block that begins at `place`. `None` if the next block can be run.
    #[inline(always)]
    fn run_block<'c>(
        state: &mut State,
        host: &Host,
        place: u64,
        ops: impl Iterator<Item = &'c Op>,
    ) -> Option<Exit> {
        run_in_turn::<Self>(state, host, place, ops)
    }
}

/// A decoded instruction, and what blocks must know of it.
pub struct Decoded {
    /// The instruction.
    pub op: Op,
    /// Whether a block ends after it.
    pub ends: bool,
    /// Whether no block may end after it, since the next instruction depends on it. Never with `ends`.
    pub binds: bool,
}

/// Runs instructions one after another, up to the first that jumps.
#[inline(always)]
pub(crate) fn run_in_turn<'c, G: Guest + ?Sized>(
    state: &mut State,
    host: &Host,
    place: u64,
    ops: impl Iterator<Item = &'c Op>,
) -> Option<Exit> {
    let mut place = place;
    for op in ops {
        // Stored before each instruction, so that a fault finds it.
        state.pc = place;
        match G::run_op(state, host, op) {
            Ok(Flow::Next) => place = place.wrapping_add(G::length(op)),
            Ok(Flow::Jump) => return None,
            Err(crate::exit::Leave) => return Some(state.exit),
        }
    }
    state.pc = place;
    None
}

/// Bytes of code, read in groups of 16, each of which lies in one page.
pub struct Words<'h> {
    memory: &'h Memory,
    /// `None`: the caller decodes afresh each time, so that no change of code need be known.
    lines: Option<&'h CodeLines>,
    /// Address of the group, or [`NOWHERE`].
    at: u64,
    group: [u32; 4],
}

/// An address that no instruction has.
pub(crate) const NOWHERE: u64 = u64::MAX;

impl<'h> Words<'h> {
    /// Reads `memory`, and marks the lines in `lines`.
    pub fn new(memory: &'h Memory, lines: Option<&'h CodeLines>) -> Self {
        Words { memory, lines, at: NOWHERE, group: [0; 4] }
    }

    /// The word of 4 bytes at a multiple of 4.
    ///
    /// # Errors
    ///
    /// The word cannot be read, or lies outside of the guest's memory.
    #[inline(always)]
    pub fn word(&mut self, address: u64) -> Result<u32, Fault> {
        if self.at != address & !15 {
            // The window may begin or end inside the group.
            let group = self.lines.and_then(|lines| lines.read(self.memory, address & !15));
            let Some(group) = group else { return self.memory.fetch(address) };
            (self.at, self.group) = (address & !15, group);
        }
        Ok(self.group[(address >> 2) as usize % 4])
    }

    /// The halfword of 2 bytes at a multiple of 2.
    ///
    /// # Errors
    ///
    /// As [`Words::word`].
    #[inline(always)]
    pub fn half(&mut self, address: u64) -> Result<u16, Fault> {
        let word = self.word(address & !3)?;
        Ok((word >> (8 * (address & 2))) as u16)
    }
}
