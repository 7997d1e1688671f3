//! A64 as a guest of the decoder and the interpreter.

use super::decode;
use super::stack_pointer::{self, ALIGNMENT};
use crate::exit::Exit;
use crate::guest::{Decoded, Guest, Words, run_in_turn};
use crate::memory::Fault;
use crate::op::{Host, Op};
use crate::state::State;

/// The A64 instruction set. A place is an address.
pub enum A64 {}

/// Bytes of an instruction.
const LENGTH: u64 = 4;

impl Guest for A64 {
    const GRANULE: u64 = LENGTH;
    const OVERHANG: u64 = 0;
    const TAIL: usize = 0;
    const LENGTH_MAX: u64 = LENGTH;

    type Context = ();

    #[inline(always)]
    fn address(place: u64) -> u64 {
        place
    }

    #[inline(always)]
    fn places(address: u64) -> impl Iterator<Item = u64> {
        core::iter::once(address)
    }

    #[inline(always)]
    fn decode(words: &mut Words<'_>, place: u64, (): &mut ()) -> Result<Decoded, Fault> {
        let (op, ends) = decode::decode(words.word(place)?, place);
        Ok(Decoded { op, ends, binds: false })
    }

    #[inline(always)]
    fn check_place(state: &State) -> Result<(), Exit> {
        if state.pc & (LENGTH - 1) == 0 { Ok(()) } else { Err(Exit::UnalignedPc) }
    }

    #[inline(always)]
    fn length(_op: &Op) -> u64 {
        LENGTH
    }

    /// If the block begins with an unaligned SP, checks SP at each instruction ([`stack_pointer`]).
    #[inline(always)]
    fn run_block<'c>(
        state: &mut State,
        host: &Host,
        place: u64,
        ops: impl Iterator<Item = &'c Op>,
    ) -> Option<Exit> {
        if state.sp().is_multiple_of(ALIGNMENT) {
            run_in_turn::<A64>(state, host, place, ops)
        } else {
            run_unaligned(state, host, place, ops)
        }
    }
}

/// Runs a block that begins with an unaligned SP.
#[cold]
#[inline(never)]
fn run_unaligned<'c>(
    state: &mut State,
    host: &Host,
    start: u64,
    ops: impl Iterator<Item = &'c Op>,
) -> Option<Exit> {
    let mut pc = start;
    for op in ops {
        let unaligned = !state.sp().is_multiple_of(ALIGNMENT);
        if unaligned && stack_pointer::accesses(op.code) && decode::is_implemented(op.code) {
            state.pc = pc;
            return Some(Exit::UnalignedSp);
        }
        if let Some(exit) = run_in_turn::<A64>(state, host, pc, [op].into_iter()) {
            return Some(exit);
        }
        pc = pc.wrapping_add(LENGTH);
        if state.pc != pc {
            return None;
        }
    }
    None
}
