//! Decoded instructions from the fields that a row names.
//!
//! These letters mean the same in every pattern: `c` condition, `d` destination, `n` first operand, `m`
//! second operand, `a` accumulator or high half, `s` register with an amount, `t` and `u` first and second
//! transferred register; `S` sets flags, `P`, `U` and `W` the addressing mode (pre-indexed, up, write-back).

use super::registers::place;
use super::row::{Class, Row};
use crate::condition::holds;
use crate::op::{Handler, Op};

/// The condition AL: always.
pub(crate) const AL: u8 = 14;

/// What follows when an instruction has written the slot of PC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Jump {
    /// The instruction does not write PC.
    No = 0,
    /// Goes on at the address in the same instruction set.
    Same = 1,
    /// Bit 0 of the address chooses the instruction set.
    Exchange = 2,
}

/// An instruction word with its row and its surroundings.
pub(crate) struct Word<'r> {
    pub(crate) code: u32,
    pub(crate) row: &'r Row,
    /// The place of the instruction.
    pub(crate) place: u64,
    /// The execution state of IT for this instruction.
    pub(crate) it: u8,
}

impl Word<'_> {
    /// The field of this letter; 0 if there is none.
    #[inline(always)]
    pub(crate) fn field(&self, letter: char) -> u32 {
        self.row.value_of(letter as u8, self.code)
    }

    /// Whether the field of this letter, of one bit, is set.
    #[inline(always)]
    pub(crate) fn is(&self, letter: char) -> bool {
        self.field(letter) != 0
    }

    /// Whether one of these fields names R15.
    pub(crate) fn names_pc(&self, letters: &str) -> bool {
        letters.bytes().any(|letter| self.row.has(letter) && self.row.value_of(letter, self.code) == 15)
    }

    /// Whether the instruction is T32.
    #[inline(always)]
    pub(crate) fn is_thumb(&self) -> bool {
        self.place & 1 != 0
    }

    /// Whether the instruction is in an IT block.
    #[inline(always)]
    pub(crate) fn is_in_it(&self) -> bool {
        self.it != 0
    }

    /// Whether the instruction is in an IT block, and not its last.
    #[inline(always)]
    pub(crate) fn is_inside_it(&self) -> bool {
        self.it & 7 != 0
    }

    /// What the instruction reads as PC.
    #[inline(always)]
    pub(crate) fn pc(&self) -> u32 {
        pc_value(self.place)
    }

    /// What PC-relative loads take as their base: PC, aligned to 4 bytes.
    pub(crate) fn literal_base(&self) -> u32 {
        self.pc() & !3
    }

    /// The condition under which the instruction runs.
    fn condition(&self) -> u8 {
        if self.is_thumb() {
            if self.it == 0 { AL } else { self.it >> 4 }
        } else if self.row.has(b'c') {
            self.field('c') as u8
        } else {
            AL
        }
    }

    /// Bytes of the instruction.
    fn length(&self) -> u64 {
        if self.row.width == 16 { 2 } else { 4 }
    }

    /// The instruction with the registers of the fields `d` or `t`, `n`, `m`, and `a`, `u` or `s`.
    pub(crate) fn op(&self, run: Handler) -> Op {
        let [rd, rn, rm, ra] = self.row.registers.map(|field| place(field.of(self.code)));
        // Floating point takes fields from the word as it runs; other instructions have an action there.
        let is_float = matches!(self.row.class, Class::Float | Class::Simd | Class::Crypto);
        let code = if is_float { self.code } else { 0 };
        let imm = u64::from(self.condition()) << CONDITION.0
            | (self.length() / 2 - 1) << LENGTH.0
            | u64::from(self.it) << IT.0
            | u64::from(advance(self.it)) << NEXT.0;
        Op { run, imm, code, rd, rn, rm, ra }
    }
}

/// What an instruction at `place` reads as PC.
#[inline(always)]
pub(crate) const fn pc_value(place: u64) -> u32 {
    (place & !1).wrapping_add(if place & 1 == 1 { 4 } else { 8 }) as u32
}

/// A bit field of [`Op::imm`]: its lowest bit and its width. The low 32 bits are the instruction's immediate.
type Part = (u32, u32);
const CONDITION: Part = (32, 4);
const JUMP: Part = (36, 2);
/// Halfwords of the instruction, less 1.
const LENGTH: Part = (38, 1);
const END: Part = (39, 1);
const IT: Part = (40, 8);
const NEXT: Part = (48, 8);
const EXTRA: Part = (56, 8);
/// [`Op::ra`] of a word that is no instruction.
const UNDEFINED: u8 = 0xff;

impl Op {
    #[inline(always)]
    fn part(&self, (low, width): Part) -> u64 {
        self.imm >> low & ((1 << width) - 1)
    }

    fn with(self, (low, width): Part, value: u64) -> Op {
        let mask = ((1 << width) - 1) << low;
        Op { imm: self.imm & !mask | value << low & mask, ..self }
    }

    /// The same instruction with this immediate.
    pub(crate) fn with_imm(self, imm: u32) -> Op {
        Op { imm: self.imm & !0xffff_ffff | u64::from(imm), ..self }
    }

    /// The immediate.
    #[inline(always)]
    pub(crate) fn imm32(&self) -> u32 {
        self.imm as u32
    }

    /// The same instruction with these 8 bits for the handler.
    pub(crate) fn with_extra(self, extra: u32) -> Op {
        self.with(EXTRA, u64::from(extra))
    }

    /// The 8 bits for the handler.
    #[inline(always)]
    pub(crate) fn extra(&self) -> u32 {
        (self.imm >> EXTRA.0) as u32
    }

    /// The same instruction; it writes the slot of PC, and `jump` says what follows.
    pub(crate) fn jumping(self, jump: Jump) -> Op {
        self.with(JUMP, jump as u64)
    }

    /// The same instruction, of which a translator knows this ([`super::action::Action::pack`]).
    pub(crate) fn acting(self, action: u32) -> Op {
        Op { code: action, ..self }
    }

    /// The same instruction, unconditional even in an IT block.
    pub(crate) fn always(self) -> Op {
        self.with(CONDITION, u64::from(AL))
    }

    /// The same instruction with this condition.
    pub(crate) fn on(self, condition: u32) -> Op {
        self.with(CONDITION, u64::from(condition))
    }

    /// The condition, 0 to 15.
    #[inline(always)]
    pub(crate) fn condition(&self) -> u32 {
        self.part(CONDITION) as u32
    }

    /// What follows.
    #[inline(always)]
    pub(crate) fn jump(&self) -> Jump {
        match self.part(JUMP) {
            0 => Jump::No,
            1 => Jump::Same,
            _ => Jump::Exchange,
        }
    }

    /// The execution state of IT for this instruction.
    #[inline(always)]
    pub(crate) fn it(&self) -> u8 {
        self.part(IT) as u8
    }

    /// The execution state of IT for the next instruction.
    #[inline(always)]
    pub(crate) fn next_it(&self) -> u8 {
        self.part(NEXT) as u8
    }

    /// The same instruction, which is IT: the next one runs with this state.
    pub(crate) fn starting_it(self, it: u32) -> Op {
        self.with(NEXT, u64::from(it))
    }

    /// Bytes of the instruction: 2 or 4.
    #[inline(always)]
    pub(crate) fn length(&self) -> u64 {
        (self.part(LENGTH) + 1) * 2
    }

    /// The same instruction, after which a block ends although it writes no PC.
    pub(crate) fn ending(self) -> Op {
        self.with(END, 1)
    }

    /// The same word, which is no instruction.
    pub(crate) fn undefined(self) -> Op {
        Op { ra: UNDEFINED, ..self }
    }

    /// Whether the word is no instruction.
    pub(crate) fn is_undefined(&self) -> bool {
        self.ra == UNDEFINED
    }

    /// Whether a block ends after the instruction.
    pub(crate) fn ends_block(&self) -> bool {
        self.jump() != Jump::No || self.part(END) != 0
    }
}

/// The execution state of IT after one instruction (ITAdvance of the manual).
const fn advance(it: u8) -> u8 {
    if it & 7 == 0 { 0 } else { it & 0xe0 | it << 1 & 0x1f }
}

/// The execution state of IT of an instruction that has run, with these flags, from the state after it.
/// Outside of an IT block, and after its last instruction, that is 0: always.
pub fn it_before(it: u8, nzcv: u32) -> u8 {
    if it == 0 {
        return 0;
    }
    // The lowest bit of the condition was shifted out; the instruction has run, so the condition holds.
    let upper = it & 0xe0;
    let lowest = if holds(u32::from(upper >> 4), nzcv) { 0 } else { 0x10 };
    upper | lowest | it >> 1 & 0xf
}

/// The execution state of IT for the next instruction.
#[derive(Default)]
pub struct It(pub(super) u8);

impl It {
    /// That of the instruction after `op`.
    #[inline(always)]
    pub fn of_next(op: &Op) -> It {
        It(op.next_it())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_it_goes_back() {
        for it in (0x10..=0xefu8).filter(|it| it & 7 != 0) {
            for flags in 0..16u32 {
                let nzcv = flags << 28;
                if holds(u32::from(it >> 4), nzcv) {
                    assert_eq!(it_before(advance(it), nzcv), it, "{it:#x} {nzcv:#x}");
                }
            }
        }
        assert_eq!(it_before(0, 0), 0);
    }
}
