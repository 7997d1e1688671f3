//! Which functions of the guest's C libraries are known, and how they are recognised.
//!
//! A function is known by its code alone: nobody looks at symbols, which most programs do not have. A row of
//! a table holds the length of a function of some library, and a digest of its bytes without those that
//! differ from program to program (*holes*: branches to other functions, and what leads to data). The tables
//! are made by `examples/routines.rs` from libraries of distributions; `docs/dev/emulator.md` says of which.
//! What a known function does is in [`crate::translate`].

mod a32;
mod a64;
mod rv64;

pub use a32::TABLE as A32_TABLE;
pub use a64::TABLE as A64_TABLE;
pub use rv64::TABLE as RV64_TABLE;

use crossdock_emu_guest::guest::Words;

/// What a known function does (ISO C, 7.26; the others are GNU's and POSIX's, and the divisions of libgcc:
/// its manual, "Integer library routines", and "Run-time ABI for the Arm Architecture").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Routine {
    /// memcpy and memmove.
    Copy,
    /// memset.
    Set,
    /// memcmp.
    Compare,
    /// memchr.
    Find,
    /// strlen.
    Length,
    /// strnlen.
    LengthWithin,
    /// strchr.
    FindInString,
    /// strchrnul.
    FindInStringOrEnd,
    /// strcmp.
    CompareStrings,
    /// strncmp.
    CompareStringsWithin,
    /// The quotient of numbers without sign: `__udivsi3`, which is `__aeabi_uidiv`.
    Divide,
    /// The same of numbers with a sign: `__divsi3`.
    DivideSigned,
    /// The quotient of numbers of 64 bits without sign, and the rest in memory: `__udivmoddi4`.
    DivideLong,
}

/// Most holes of a row.
pub const HOLES_MAX: usize = 6;

/// Bytes that rows are found by: without holes, and not those with which all functions begin.
pub const HEAD: u64 = 8;

/// Functions of the libraries of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Where in each function its [`HEAD`] bytes lie.
    pub head: u64,
    /// In the order of these bytes' digests.
    pub rows: &'static [Row],
}

/// A function of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Digest of the bytes at [`Table::head`].
    pub head: u32,
    /// Bytes of the function.
    pub length: u16,
    /// What it does.
    pub routine: Routine,
    /// Places in the function, in units of 2 bytes, of 4 bytes that may be any; the others are 0.
    pub holes: [u16; HOLES_MAX],
    /// Digest of the function, with zeros in its holes.
    pub digest: u64,
}

/// Writes down a row.
pub const fn row(head: u32, length: u16, routine: Routine, holes: [u16; HOLES_MAX], digest: u64) -> Row {
    Row { head, length, routine, holes, digest }
}

/// The digest of a piece of code, in units of 2 bytes, that is run in the set of instructions `set` (bit 0 of
/// 32-bit Arm's places). FNV-1a, of 64 bits, with units instead of bytes. Code that is made to have the
/// digest of another deceives nobody but its own program.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Digest {
    /// The digest of nothing.
    pub const fn new(set: u64) -> Digest {
        Digest(0xcbf2_9ce4_8422_2325 ^ set)
    }

    /// Adds 2 bytes.
    #[must_use]
    pub const fn with(self, unit: u16) -> Digest {
        Digest((self.0 ^ unit as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    /// The digest as a number.
    pub const fn value(self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    /// The digest of the bytes at [`Table::head`].
    pub const fn head(self) -> u32 {
        self.value() as u32
    }
}

/// The row of the function that begins at an address, if it is known; `set` as for [`Digest::new`].
pub fn find(table: &Table, words: &mut Words<'_>, address: u64, set: u64) -> Option<&'static Row> {
    let mut head = Digest::new(set);
    for at in (table.head..table.head + HEAD).step_by(2) {
        head = head.with(words.half(address.wrapping_add(at)).ok()?);
    }
    let head = head.head();
    let first = table.rows.partition_point(|row| row.head < head);
    let mut alike = table.rows[first..].iter().take_while(|row| row.head == head);
    alike.find(|row| row.matches(words, address, set))
}

impl Row {
    /// Whether the function at an address is this one.
    fn matches(&self, words: &mut Words<'_>, address: u64, set: u64) -> bool {
        let mut read = |unit: u64| words.half(address.wrapping_add(2 * unit)).ok();
        digest(self.length, &self.holes, set, &mut read) == Some(self.digest)
    }
}

/// The digest of a function of `length` bytes, with zeros in its holes; `None` if a unit cannot be read.
pub fn digest(
    length: u16,
    holes: &[u16; HOLES_MAX],
    set: u64,
    read: &mut impl FnMut(u64) -> Option<u16>,
) -> Option<u64> {
    let mut digest = Digest::new(set);
    for unit in 0..length / 2 {
        let is_hole = holes.iter().any(|&hole| hole != 0 && (unit == hole || unit == hole + 1));
        digest = digest.with(if is_hole { 0 } else { read(unit.into())? });
    }
    Some(digest.value())
}
