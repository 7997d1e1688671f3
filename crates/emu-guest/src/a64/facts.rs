//! What instructions do with registers, flags and memory, as their rows in the table say.
//!
//! The letters of a pattern name the operands:
//!
//! | letters | register | access |
//! | --- | --- | --- |
//! | `n` `m` `a` `s` `r` `v` | general, 31 is zero | read |
//! | `d` `t` `u` `w` | general, 31 is zero | written |
//! | `e` `f` | general, 31 is zero | read and written |
//! | `p`, `q`, `b` | general, 31 is SP | read, written, read and written |
//! | `N` `M` `A` `R` `V` | vector | read |
//! | `D` `T` `U` | vector | written |
//! | `E` | vector | read and written |
//!
//! `r` and `v` are stored, `t` and `u` are loaded; `s` and `w` are Rs. All other letters name no register:
//! `z` is a size, `k` the bit Q, `c` a condition, `i` and `j` are immediates, `l` is the number of a lane.

use crate::pattern::{Field, Pattern};

/// Most fields of an encoding.
pub(super) const FIELDS: usize = 7;
/// Most registers of an encoding, where several in a row count as one.
const OPERANDS: usize = 4;

/// Which registers a field numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// X0 to X30; 31 is the zero register.
    General,
    /// X0 to X30, and 31 is SP.
    Base,
    /// V0 to V31.
    Vector,
}

/// A register of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Its kind.
    pub file: File,
    /// The value of its field.
    pub number: u8,
    /// Whether the instruction reads it.
    pub reads: bool,
    /// Whether the instruction writes it, in full.
    pub writes: bool,
}

/// How an instruction ends a block of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Goes to its target.
    Jump,
    /// Goes to its target, and sets the link register.
    Call,
    /// Goes to its target or on.
    Branch,
    /// Goes to the address in a register.
    JumpRegister,
    /// Goes to the address in a register, and sets the link register.
    CallRegister,
    /// Goes to the address in a register, from a function.
    Return,
    /// SVC.
    Syscall,
    /// An exception, or undefined.
    Exception,
    /// Sees code that was written before (ISB).
    Synchronize,
    /// Invalidates a line of the instruction cache.
    Invalidate,
    /// Sets the modes of floating point.
    SetMode,
}

/// Letters of operands; what they mean is at the start of this file.
const LETTERS: [(u8, File, bool, bool); 20] = [
    (b'n', File::General, true, false),
    (b'm', File::General, true, false),
    (b'a', File::General, true, false),
    (b's', File::General, true, false),
    (b'r', File::General, true, false),
    (b'v', File::General, true, false),
    (b'd', File::General, false, true),
    (b't', File::General, false, true),
    (b'u', File::General, false, true),
    (b'w', File::General, false, true),
    (b'e', File::General, true, true),
    (b'f', File::General, true, true),
    (b'p', File::Base, true, false),
    (b'q', File::Base, false, true),
    (b'b', File::Base, true, true),
    // Upper case: vectors.
    (b'N', File::Vector, true, false),
    (b'M', File::Vector, true, false),
    (b'A', File::Vector, true, false),
    (b'D', File::Vector, false, true),
    (b'E', File::Vector, true, true),
];

/// The operand that a letter stands for, with number 0.
const fn operand(letter: u8) -> Option<Operand> {
    let letter = match letter {
        b'R' | b'V' => b'N',
        b'T' | b'U' => b'D',
        other => other,
    };
    let mut i = 0;
    while i < LETTERS.len() {
        let (known, file, reads, writes) = LETTERS[i];
        if known == letter {
            return Some(Operand { file, number: 0, reads, writes });
        }
        i += 1;
    }
    None
}

/// What the instructions of a row do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    fields: [Field; FIELDS],
    /// The registers, each with its field.
    operands: [Option<(Operand, Field)>; OPERANDS],
    /// How many registers in a row the fields of [`Facts::listed`] stand for.
    list: u8,
    /// Bit per operand: whether it stands for a list.
    listed: u8,
    /// Whether it uses condition flags.
    pub uses_flags: bool,
    /// Whether it sets all condition flags.
    pub sets_flags: bool,
    /// Whether it may access the guest's memory.
    pub accesses_memory: bool,
    /// How it ends a block.
    pub ending: Option<Ending>,
}

impl Facts {
    pub(super) const fn new(pattern: &Pattern<FIELDS>, accesses_memory: bool) -> Facts {
        let (mut operands, mut count, mut i) = ([None; OPERANDS], 0, 0);
        while i < FIELDS {
            let field = pattern.fields[i];
            if let Some(found) = operand(field.letter) {
                operands[count] = Some((found, field));
                count += 1;
            }
            i += 1;
        }
        Facts {
            fields: pattern.fields,
            operands,
            list: 1,
            listed: 0,
            uses_flags: false,
            sets_flags: false,
            accesses_memory,
            ending: None,
        }
    }

    /// With fields of these letters that stand for `count` registers in a row.
    pub(super) const fn with_list(mut self, count: u8, letters: &str) -> Facts {
        let letters = letters.as_bytes();
        let (mut at, mut i) = (0, 0);
        while i < FIELDS {
            let letter = self.fields[i].letter;
            if operand(letter).is_some() {
                let mut j = 0;
                while j < letters.len() {
                    self.listed |= ((letters[j] == letter) as u8) << at;
                    j += 1;
                }
                at += 1;
            }
            i += 1;
        }
        self.list = count;
        self
    }

    /// The value of the field with this letter in `word`, if the encoding has one.
    pub fn field(&self, letter: u8, word: u32) -> Option<u32> {
        self.fields.iter().find(|field| field.letter == letter).map(|field| field.of(word))
    }

    /// The value of the field with this letter in `word`, as a signed number; 0 if the encoding has none.
    pub fn signed_field(&self, letter: u8, word: u32) -> i64 {
        let field = self.fields.iter().find(|field| field.letter == letter);
        field.map_or(0, |field| {
            let unused = 32 - u32::from(field.width);
            i64::from((field.of(word) << unused) as i32 >> unused)
        })
    }

    /// The registers that `word` accesses, in the order of its fields.
    #[inline]
    pub fn operands(&self, word: u32) -> Operands<'_> {
        Operands { facts: self, word, at: 0, more: 0, last: None }
    }
}

/// The registers that an instruction accesses.
pub struct Operands<'facts> {
    facts: &'facts Facts,
    word: u32,
    at: usize,
    /// How many registers behind the last one are in its list.
    more: u8,
    last: Option<Operand>,
}

impl Iterator for Operands<'_> {
    type Item = Operand;

    #[inline]
    fn next(&mut self) -> Option<Operand> {
        if self.more != 0 {
            self.more -= 1;
            let last = self.last.as_mut()?;
            last.number = last.number + 1 & 31;
            return self.last;
        }
        let (operand, field) = (*self.facts.operands.get(self.at)?)?;
        self.last = Some(Operand { number: field.of(self.word) as u8, ..operand });
        if self.facts.listed >> self.at & 1 == 1 {
            self.more = self.facts.list - 1;
        }
        self.at += 1;
        self.last
    }
}
