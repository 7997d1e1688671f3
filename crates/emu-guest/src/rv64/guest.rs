//! RV64 as a guest of the decoder and the interpreter.

use super::decode;
use super::instruction::Upper;
use crate::exit::Exit;
use crate::guest::{Decoded, Guest, Words};
use crate::memory::Fault;
use crate::op::Op;
use crate::state::State;

/// The RV64 instruction set. A place is an address.
pub enum Rv64 {}

impl Guest for Rv64 {
    const GRANULE: u64 = 2;
    // The second half of an instruction.
    const OVERHANG: u64 = 2;
    const TAIL: usize = 0;
    const LENGTH_MAX: u64 = 4;

    /// Only a translator looks at what comes before an instruction.
    type Context = Upper;

    #[inline(always)]
    fn address(place: u64) -> u64 {
        place
    }

    #[inline(always)]
    fn places(address: u64) -> impl Iterator<Item = u64> {
        core::iter::once(address)
    }

    #[inline(always)]
    fn decode(words: &mut Words<'_>, place: u64, _: &mut Upper) -> Result<Decoded, Fault> {
        decode::read(words, place)
    }

    /// Every even address is a place, and no instruction jumps to another.
    #[inline(always)]
    fn check_place(state: &State) -> Result<(), Exit> {
        if state.pc & 1 == 0 { Ok(()) } else { Err(Exit::UnalignedPc) }
    }

    #[inline(always)]
    fn length(op: &Op) -> u64 {
        op.rv64_length()
    }
}
