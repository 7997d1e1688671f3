//! Rows of the table of encodings: which words belong to an instruction, and where its fields are.
//!
//! The letters of a pattern name the fields. Registers always lie in the same bits:
//!
//! | letters | register | access |
//! | --- | --- | --- |
//! | `n` `m` `a` | general: rs1, rs2, rs3 | read |
//! | `d` | general: rd | written |
//! | `e` | general: rd | read and written |
//! | `N` `M` `A` | floating point: rs1, rs2, rs3 | read |
//! | `D` | floating point: rd | written |
//!
//! Immediates: `i` of 12 bits or of the upper 20, `j` and `k` of stores, `p` and `q` of branches, `o` of JAL,
//! `h` an amount of a shift. `r` is the rounding mode, `c` a CSR, `u` an immediate of 5 bits in the place of
//! rs1, `y` and `z` are aq and rl, `f` the fields of FENCE; `g` is any number.

use super::action::Action;
use crate::pattern::{self, Pattern};
use crate::short::Short;

/// The extension that an instruction belongs to (manual, the chapters of these names).
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    I,
    M,
    A,
    F,
    D,
    Zfh,
    Zfa,
    Zicsr,
    Zifencei,
    Zba,
    Zbb,
    Zbc,
    Zbs,
    Zicond,
    Zacas,
    Zabha,
    Zawrs,
    Zicbom,
    Zicboz,
    Zimop,
    /// With Zvfh, Zvbb, Zvbc and the cryptography of vectors.
    V,
}

/// How the immediate of an instruction is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rv64) enum Immediate {
    None,
    /// Bits 31 to 20.
    I,
    /// Bits 31 to 25 and 11 to 7.
    S,
    /// The target of a branch.
    B,
    /// Bits 31 to 12.
    U,
    /// The target of JAL.
    J,
    /// The amount of a shift, bits 25 to 20.
    Shift,
}

/// A register of an instruction, as its letter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rv64) enum Use {
    None,
    General,
    Float,
}

/// One encoding: words that equal `value` under `mask`.
#[derive(Clone, Copy)]
pub struct Row {
    /// Bits that are fixed.
    pub mask: u32,
    /// Their values.
    pub value: u32,
    /// The extension.
    pub extension: Extension,
    /// What the instruction does.
    pub action: Action,
    pub(in crate::rv64) name: Short<12>,
    pub(in crate::rv64) immediate: Immediate,
    /// rd, rs1, rs2, rs3.
    pub(in crate::rv64) uses: [Use; 4],
    /// Whether rd is read, too.
    pub(in crate::rv64) reads_rd: bool,
    /// Whether there is a rounding mode.
    pub(in crate::rv64) rounds: bool,
}

impl Row {
    /// The mnemonic.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether bits 14 to 12 are a rounding mode.
    pub fn rounds(&self) -> bool {
        self.rounds
    }

    /// Whether rd is a general register.
    pub fn has_general_rd(&self) -> bool {
        self.uses[0] == Use::General
    }

    /// Whether rs1 is a general register.
    pub fn has_general_rs1(&self) -> bool {
        self.uses[1] == Use::General
    }
}

/// A row from its [pattern](crate::pattern::read).
pub(super) const fn row(pattern: &str, name: &str, extension: Extension, action: Action) -> Row {
    let Pattern { mask, value, fields, .. } = pattern::read::<7>(pattern);
    let (mut immediate, mut uses) = (Immediate::None, [Use::None; 4]);
    let (mut reads_rd, mut rounds, mut i) = (false, false, 0);
    while i < fields.len() {
        let field = fields[i];
        let (place, low) = match field.letter {
            b'd' | b'e' | b'D' => (0, 7),
            b'n' | b'N' | b'u' => (1, 15),
            b'm' | b'M' => (2, 20),
            b'a' | b'A' => (3, 27),
            _ => (4, field.low),
        };
        assert!(field.low == low, "a register lies where all do");
        match field.letter {
            b'd' | b'n' | b'm' | b'a' => uses[place] = Use::General,
            b'D' | b'N' | b'M' | b'A' => uses[place] = Use::Float,
            b'e' => (uses[place], reads_rd) = (Use::General, true),
            b'i' => immediate = if field.width == 12 { Immediate::I } else { Immediate::U },
            b'j' => immediate = Immediate::S,
            b'p' => immediate = Immediate::B,
            b'o' => immediate = Immediate::J,
            b'h' => immediate = Immediate::Shift,
            b'r' => rounds = true,
            0 | b'k' | b'q' | b'c' | b'u' | b'y' | b'z' | b'f' | b'g' => {}
            _ => panic!("a letter without meaning"),
        }
        i += 1;
    }
    Row { mask, value, extension, action, name: Short::new(name), immediate, uses, reads_rd, rounds }
}
