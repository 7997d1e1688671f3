//! Rows of the tables of encodings: which words belong to an instruction, and where its fields are.

use crate::pattern::Field;
use crate::short::Short;

/// The chapter of the manual that an instruction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// F4.1: branches.
    Branch,
    /// Exceptions, system registers, hints, barriers.
    System,
    /// Data processing, with immediates, registers and shifted registers.
    Data,
    /// Multiplication and division.
    Multiply,
    /// Parallel addition, saturation, packing, extension, reversal, bit fields.
    Media,
    /// Loads and stores of general registers.
    LoadStore,
    /// Exclusive and ordered loads and stores, and SWP.
    Exclusive,
    /// Floating point (VFP), with its loads, stores and moves.
    Float,
    /// Advanced SIMD (NEON), with its loads and stores.
    Simd,
    /// Cryptography.
    Crypto,
}

/// Most fields of an encoding.
pub(super) const FIELDS: usize = 10;

/// One encoding: words that equal `value` under `mask`.
#[derive(Clone, Copy)]
pub struct Row {
    /// Bits that are fixed.
    pub mask: u32,
    /// Their values.
    pub value: u32,
    /// Chapter of the manual.
    pub class: Class,
    /// Bits in the encoding, 16 or 32.
    pub width: u8,
    pub(super) name: Short<12>,
    /// The fields; those that the encoding does not have, and always the last, have no bits.
    pub(super) fields: [Field; FIELDS + 1],
    /// Bit per letter of the fields, from `@` on.
    pub(super) letters: u64,
    /// For each letter of the alphabet the numbers of its fields: in the low 4 bits of the small letter, in
    /// the high 4 of the capital.
    pub(super) numbers: [u8; 26],
    /// The fields of the registers of an instruction: `d` or `t`; `n`; `m`; `a`, `u` or `s`.
    pub(super) registers: [Field; 4],
}

/// The bit of a letter in [`Row::letters`].
pub(super) const fn bit(letter: u8) -> u64 {
    1 << (letter - b'@')
}

/// The number of a letter in the alphabet.
#[inline(always)]
pub(super) const fn alphabetical(letter: u8) -> usize {
    (letter.to_ascii_lowercase() - b'a') as usize
}

impl Row {
    /// The mnemonic.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The lowest bit and the width of the field of this letter.
    pub fn field(&self, letter: char) -> Option<(u32, u32)> {
        self.fields
            .iter()
            .find(|field| field.letter == letter as u8)
            .map(|field| (u32::from(field.low), u32::from(field.width)))
    }

    /// The value of a field in `code`; 0 if the encoding has none of this letter.
    #[inline]
    pub(crate) fn value_of(&self, letter: u8, code: u32) -> u32 {
        let numbers = self.numbers[alphabetical(letter)];
        let number = if letter.is_ascii_lowercase() { numbers & 15 } else { numbers >> 4 };
        self.fields[usize::from(number).min(FIELDS)].of(code)
    }

    /// Whether the encoding has a field of this letter.
    #[inline]
    pub(crate) fn has(&self, letter: u8) -> bool {
        self.letters & bit(letter) != 0
    }
}
