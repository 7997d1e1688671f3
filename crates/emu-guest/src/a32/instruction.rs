//! Decoded instructions as a translator sees them.

use super::action::Action;
use super::decode::{self, is_float};
use super::fields::{It, Jump};
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
        decode::read(words, place, it).map(|decoded| Instruction::of(&decoded.op, place))
    }

    /// An instruction that has been decoded for the interpreter, which lies at `place`.
    pub fn of(op: &Op, place: u64) -> Instruction {
        let (action, word) = match op.code {
            _ if op.is_undefined() => (Action::Other, 0),
            word if is_float(word) => (Action::Other, word),
            packed => (Action::unpack(packed), 0),
        };
        Instruction {
            op: *op,
            place,
            action,
            word,
            condition: op.condition() as u8,
            jump: op.jump(),
            ends: op.ends_block(),
            length: op.length() as u8,
            it: op.it(),
            next_it: op.next_it(),
            rd: op.rd,
            rn: op.rn,
            rm: op.rm,
            ra: op.ra,
            imm: op.imm32(),
            extra: op.extra(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Set, classify, decode};
    use super::super::row::Class;
    use super::*;

    #[test]
    fn a_decoded_word_tells_whether_it_is_floating_point() {
        let (mut floats, mut others) = (0, 0);
        for set in [Set::Arm, Set::Thumb16, Set::Thumb32, Set::Float] {
            for row in set.rows() {
                // All fields 0, all 1, and two mixtures.
                for fields in [0, !0, 0x5555_5555, 0xaaaa_aaaa] {
                    let word = row.value | !row.mask & fields;
                    let word = if row.width == 16 { word & 0xffff } else { word };
                    let place = 0x1000 | u64::from(set != Set::Arm);
                    let op = decode(set, word, place, 0).op;
                    let class = classify(set, word).map(|row| row.class);
                    let is_float = !op.is_undefined()
                        && matches!(class, Some(Class::Float | Class::Simd | Class::Crypto));
                    let instruction = Instruction::of(&op, place);
                    assert_eq!(instruction.word, if is_float { word } else { 0 }, "{set:?} {word:#x}");
                    assert!(!op.is_undefined() || instruction.ends && instruction.action == Action::Other);
                    *if is_float { &mut floats } else { &mut others } += 1;
                }
            }
        }
        assert!(floats > 500 && others > 2000, "{floats} {others}");
    }
}
