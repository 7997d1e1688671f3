//! A64: what its instructions do, and their lowerings.

mod branch;
#[cfg(test)]
mod coverage;
mod facts;
mod float;
mod integer;
mod isa;
mod load_store;
mod registers;
mod structures;
mod system;
mod vector;
mod vector_copy;

use super::condition::Flags;
use super::{Cold, Lowered, ONE};
use crate::unit::EXACT;
use crossdock_emu_guest::a64::stack_pointer::ALIGNMENT;
use crossdock_emu_guest::a64::{A64, SP};
use crossdock_emu_x64::Cc;

type Translator<'t> = super::Translator<'t, A64>;

impl Translator<'_> {
    /// Lowers the current instruction, which is no branch. Returns how many words the code covers.
    fn instruction(&mut self) -> usize {
        let word = self.items[0];
        let lowered = match word >> 25 & 15 {
            0b1000 | 0b1001 => self.data_immediate(word),
            0b1010 | 0b1011 => self.system(word),
            0b0100 | 0b0110 | 0b1100 | 0b1110 => self.load_store(word),
            0b0101 | 0b1101 => self.data_register(word),
            0b0111 | 0b1111 => return self.vector_instruction(word),
            _ => Lowered::No,
        };
        self.done(lowered)
    }

    /// Like [`Translator::instruction`], for scalar floating point and Advanced SIMD.
    fn vector_instruction(&mut self, word: u32) -> usize {
        let wary = self.mode & EXACT == 0 && self.wary_at.contains(self.pc);
        if wary {
            self.begin_wary();
        }
        let lowered = self.data_vector(word);
        let count = self.done(lowered);
        if wary {
            self.end_wary();
        }
        count
    }

    /// How many words the code covers; an instruction without a lowering is handed to the interpreter.
    fn done(&mut self, lowered: Lowered) -> usize {
        match lowered {
            Lowered::Words(count) => count,
            Lowered::No => {
                self.fallback();
                1
            }
        }
    }

    /// Scalar floating point and Advanced SIMD (C4.1.97): bit 28 is set for scalars, bit 30 in scalars of
    /// Advanced SIMD.
    fn data_vector(&mut self, word: u32) -> Lowered {
        if bit(word, 28) && !bit(word, 30) {
            self.float(word)
        } else if Self::is_cryptography(word) {
            self.cryptography(word)
        } else {
            self.vector(word)
        }
    }

    /// Leaves after an instruction that has written SP, if SP is not aligned: generated code runs only with
    /// an aligned SP, so accesses by SP need no check.
    fn check_stack_pointer(&mut self) {
        self.clobber();
        let stub = self.stub(Cold::Interrupted { pc: self.next });
        self.a.test_imm8(self.rm(SP as u8), (ALIGNMENT - 1) as u8);
        self.a.jump_if(Cc::Ne, stub);
    }
}

/// Bits `high` to `low` of a word.
const fn bits(word: u32, high: u32, low: u32) -> u32 {
    word >> low & (u32::MAX >> (31 - (high - low)))
}

/// Bit `n` of a word.
const fn bit(word: u32, n: u32) -> bool {
    word >> n & 1 == 1
}
