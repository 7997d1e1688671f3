//! A32 and T32 as a guest of the decoder and the interpreter.

use super::decode;
use super::fields::{AL, It, Jump, pc_value};
use super::registers::PC;
use crate::condition::holds;
use crate::exit::{Exit, Flow, Step};
use crate::guest::{Decoded, Guest, Words, run_in_turn};
use crate::memory::Fault;
use crate::op::{Host, Op};
use crate::state::State;

/// The A32 and T32 instruction sets. A place is an address, with bit 0 set for T32.
pub enum A32 {}

impl Guest for A32 {
    const GRANULE: u64 = 2;
    // The second half of an instruction, or the rest of an IT block.
    const OVERHANG: u64 = 16;
    /// The instructions of an IT block.
    const TAIL: usize = 4;
    const LENGTH_MAX: u64 = 4;

    type Context = It;

    #[inline(always)]
    fn address(place: u64) -> u64 {
        place & !1
    }

    #[inline(always)]
    fn places(address: u64) -> impl Iterator<Item = u64> {
        // A32 instructions lie at multiples of 4.
        let arm = (address & 2 == 0).then_some(address);
        arm.into_iter().chain(core::iter::once(address | 1))
    }

    fn decode(words: &mut Words<'_>, place: u64, it: &mut It) -> Result<Decoded, Fault> {
        decode::read(words, place, it)
    }

    #[inline(always)]
    fn check_place(state: &State) -> Result<(), Exit> {
        if state.pc & 3 == 2 { Err(Exit::UnalignedPc) } else { Ok(()) }
    }

    #[inline(always)]
    fn is_between(state: &State) -> bool {
        state.it() != 0
    }

    fn context_of(state: &State) -> It {
        It(state.it())
    }

    #[inline(always)]
    fn length(op: &Op) -> u64 {
        op.length()
    }

    #[inline(always)]
    fn after(state: &mut State, op: &Op) {
        state.set_it(op.next_it());
    }

    #[inline(always)]
    fn run_op(state: &mut State, host: &Host, op: &Op) -> Step {
        let condition = op.condition();
        if condition < u32::from(AL) && !holds(condition, state.nzcv) {
            return Ok(Flow::Next);
        }
        let place = state.pc;
        state.gpr[PC as usize] = u64::from(pc_value(place));
        let flow = (op.run)(state, host, op);
        if flow.is_err() {
            return leave(state, op, place);
        }
        match op.jump() {
            Jump::No => return flow,
            Jump::Same => {
                let target = state.gpr[PC as usize];
                state.pc = if place & 1 == 1 { target | 1 } else { target & !3 };
            }
            Jump::Exchange => state.pc = state.gpr[PC as usize],
        }
        Ok(Flow::Jump)
    }

    #[inline(always)]
    fn run_block<'c>(
        state: &mut State,
        host: &Host,
        place: u64,
        ops: impl Iterator<Item = &'c Op>,
    ) -> Option<Exit> {
        let mut next = 0;
        state.set_it(0);
        let exit = run_in_turn::<A32>(state, host, place, ops.inspect(|op| next = op.next_it()));
        // A block ends inside an IT block only where the next instruction cannot be read.
        if exit.is_none() && next != 0 {
            state.set_it(next);
        }
        exit
    }
}

/// Leaves with the execution state of IT that goes with the place where the guest goes on.
#[cold]
fn leave(state: &mut State, op: &Op, place: u64) -> Step {
    let goes_on = state.pc != place;
    state.set_it(if goes_on { op.next_it() } else { op.it() });
    Err(crate::exit::Leave)
}
