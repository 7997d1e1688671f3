//! Decoded instructions as a translator sees them.

use super::action::Action;
use super::decode;
use super::fields::{It, Jump};
use super::row::Class;
use crate::guest::Words;
use crate::memory::Fault;
use crate::op::Op;

/// A decoded instruction, for a translator. Registers are indexes in [`crate::State::gpr`].
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// For the interpreter.
    pub op: Op,
    /// The place.
    pub place: u64,
    /// What it does.
    pub action: Action,
    /// The word in A32's encoding, if it is floating point or Advanced SIMD; else 0.
    pub word: u32,
    /// The condition, 0 to 15; 14 and 15 are always.
    pub condition: u8,
    /// Whether it writes the slot of PC, and what follows.
    pub jump: Jump,
    /// Whether a block ends after it.
    pub ends: bool,
    /// Bytes.
    pub length: u8,
    /// The state of IT for this instruction and for the next one.
    pub it: u8,
    /// See `it`.
    pub next_it: u8,
    /// The destination, or the transferred register.
    pub rd: u8,
    /// The first operand, or the base.
    pub rn: u8,
    /// The second operand.
    pub rm: u8,
    /// The accumulator, the high half, the second transferred register, or the amount of a shift.
    pub ra: u8,
    /// The immediate.
    pub imm: u32,
    /// See [`Action`].
    pub extra: u32,
}

impl Instruction {
    /// Decodes the instruction at a place.
    ///
    /// # Errors
    ///
    /// The instruction cannot be read.
    pub fn read(words: &mut Words<'_>, place: u64, it: &mut It) -> Result<Instruction, Fault> {
        let (decoded, class) = decode::classified(words, place, it)?;
        let op = decoded.op;
        let (action, word) = match class {
            None => (Action::Other, 0),
            Some(Class::Float | Class::Simd | Class::Crypto) => (Action::Other, op.code),
            Some(_) => (Action::unpack(op.code), 0),
        };
        Ok(Instruction {
            op,
            place,
            action,
            word,
            condition: op.condition() as u8,
            jump: op.jump(),
            ends: decoded.ends,
            length: op.length() as u8,
            it: op.it(),
            next_it: op.next_it(),
            rd: op.rd,
            rn: op.rn,
            rm: op.rm,
            ra: op.ra,
            imm: op.imm32(),
            extra: op.extra(),
        })
    }
}
