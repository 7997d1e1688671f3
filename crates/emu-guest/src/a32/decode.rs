//! From instruction words to decoded instructions.
//!
//! Four tables: A32, T32 of 16 bits, T32 of 32 bits, and floating point with Advanced SIMD, whose encodings
//! in A32 and T32 differ in a few high bits only. The last is in A32's form; T32 words are rewritten to it.

use super::fields::{It, Word};
use super::row::Row;
use super::table::Build;
use super::{arm, float, thumb};
use crate::exit::Step;
use crate::guest::{Decoded, Words};
use crate::index::{self, Index, Key};
use crate::memory::Fault;
use crate::op::{Host, Op};
use crate::pattern::column;
use crate::state::State;

/// A table of encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// A32, except for what is in [`Set::Float`].
    Arm,
    /// T32, 16 bits.
    Thumb16,
    /// T32, 32 bits (the first halfword in the high half), except for what is in [`Set::Float`].
    Thumb32,
    /// Floating point and Advanced SIMD, in A32's encoding.
    Float,
}

/// A table of encodings with its index.
struct Table {
    key: Key,
    rows: &'static [Row],
    /// Mask and value of each row, close together: a search looks at little else.
    words: &'static [(u32, u32)],
    build: &'static [Build],
    start: &'static [u16],
    index: &'static [u16],
}

macro_rules! table {
    ($name:ident, $rows:expr, $key:expr) => {
        static $name: Table = {
            const ROWS: &[(Row, Build)] = $rows;
            const KEY: Key = $key;
    const WORDS: [(u32, u32); ROWS.len()] = column!(ROWS, row => (row.0.mask, row.0.value));
            static INDEX: Index<{ index::starts(KEY) }, { index::length(KEY, &WORDS) }> =
                Index::new(KEY, &WORDS);
    static LIST: [Row; ROWS.len()] = column!(ROWS, row => row.0);
    static BUILD: [Build; ROWS.len()] = column!(ROWS, row => row.1);
            Table {
                key: KEY,
                rows: &LIST,
                words: &WORDS,
                build: &BUILD,
                start: &INDEX.start,
                index: &INDEX.rows,
            }
        };
    };
}

table!(ARM, arm::ROWS, [(20, 8), (4, 4)]);
table!(THUMB16, thumb::ROWS16, [(6, 10), (0, 0)]);
table!(THUMB32, thumb::ROWS32, [(20, 9), (14, 1)]);
table!(FLOAT, float::ROWS, [(20, 5), (4, 8)]);

impl Set {
    fn table(self) -> &'static Table {
        match self {
            Set::Arm => &ARM,
            Set::Thumb16 => &THUMB16,
            Set::Thumb32 => &THUMB32,
            Set::Float => &FLOAT,
        }
    }

    /// All encodings, the more specific ones first.
    pub fn rows(self) -> &'static [Row] {
        self.table().rows
    }
}

impl Table {
    #[inline]
    fn find(&self, word: u32) -> Option<usize> {
        index::find(self.key, self.start, self.index, self.words, word)
    }
}

/// The row that `word` belongs to. The word may still be undefined, by a reserved combination of fields.
pub fn classify(set: Set, word: u32) -> Option<&'static Row> {
    let table = set.table();
    table.find(word).map(|row| &table.rows[row])
}

/// The mnemonic of `word`, for messages.
pub fn name(set: Set, word: u32) -> &'static str {
    classify(set, word).map_or("unallocated", Row::name)
}

/// Whether an instruction is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// In the table.
    Implemented,
    /// In the table, but reserved because of a field that decoding checks.
    Reserved,
    /// Not in the table.
    Absent,
}

impl Support {
    /// Looks `word` up; T32 as the last instruction of an IT block, if `in_it`.
    pub fn of(set: Set, word: u32, in_it: bool) -> Support {
        let table = set.table();
        let thumb = matches!(set, Set::Thumb16 | Set::Thumb32);
        let it = if in_it { 0x08 } else { 0 };
        let place = 0x1000 | u64::from(thumb);
        match table.find(word) {
            None => Support::Absent,
            Some(row) => {
                let word = Word { code: word, row: &table.rows[row], place, it };
                match table.build[row](&word) {
                    Some(_) => Support::Implemented,
                    None => Support::Reserved,
                }
            }
        }
    }
}

/// Whether an A32 word belongs to [`Set::Float`].
pub fn is_float(word: u32) -> bool {
    match word >> 24 {
        // Advanced SIMD: data processing; loads and stores.
        0xf2 | 0xf3 => true,
        0xf4 => word >> 20 & 1 == 0,
        // Advanced SIMD: more data processing, in the space of coprocessors 12 and 13.
        0xfc..=0xfe if word >> 9 & 7 == 6 => true,
        // Coprocessors 8 to 11.
        high => matches!(high & 15, 0xc..=0xe) && word >> 10 & 3 == 2,
    }
}

/// A T32 word of 32 bits in A32's encoding, if it belongs to [`Set::Float`].
pub fn float_of_thumb(word: u32) -> Option<u32> {
    let rewritten = match word >> 24 {
        // 111U 1111: Advanced SIMD data processing, 1111 001U in A32.
        0xef | 0xff => 0xf200_0000 | (word >> 28 & 1) << 24 | word & 0xff_ffff,
        // 1111 1001: loads and stores of structures, 1111 0100 in A32.
        0xf9 if word >> 20 & 1 == 0 => 0xf400_0000 | word & 0xff_ffff,
        // The same words as in A32, with the condition AL or none.
        0xec..=0xee | 0xfc..=0xfe => word,
        _ => return None,
    };
    is_float(rewritten).then_some(rewritten)
}

fn undefined(state: &mut State, _: &Host, op: &Op) -> Step {
    state.undefined(op)
}

/// The row of a word that no table has.
static UNALLOCATED: Row =
    super::table::row("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "?", super::Class::System, none).0;
static UNALLOCATED16: Row = super::table::row("xxxxxxxxxxxxxxxx", "?", super::Class::System, none).0;

fn none(_: &Word<'_>) -> Option<Op> {
    None
}

/// Decodes a word that belongs to `set`.
pub(super) fn decode(set: Set, code: u32, place: u64, it: u8) -> Decoded {
    let table = set.table();
    if let Some(row) = table.find(code) {
        let word = Word { code, row: &table.rows[row], place, it };
        if let Some(op) = table.build[row](&word) {
            return decoded(op);
        }
    }
    let row = if set == Set::Thumb16 { &UNALLOCATED16 } else { &UNALLOCATED };
    let word = Word { code, row, place, it };
    decoded(Op { code, ..word.op(undefined).ending() }.undefined())
}

/// The instruction, and what blocks must know of it.
fn decoded(op: Op) -> Decoded {
    let ends = op.ends_block();
    Decoded { op, ends, binds: !ends && op.next_it() != 0 }
}

/// Decodes the instruction at a place.
pub(super) fn read(words: &mut Words<'_>, place: u64, it: &mut It) -> Result<Decoded, Fault> {
    if place & 1 == 0 {
        let word = words.word(place)?;
        let set = if is_float(word) { Set::Float } else { Set::Arm };
        return Ok(decode(set, word, place, 0));
    }
    let address = place & !1;
    let first = u32::from(words.half(address)?);
    let found = if first >> 11 < 0b11101 {
        decode(Set::Thumb16, first, place, it.0)
    } else {
        let word = first << 16 | u32::from(words.half(address.wrapping_add(2) & 0xffff_ffff)?);
        match float_of_thumb(word) {
            Some(word) => decode(Set::Float, word, place, it.0),
            None => decode(Set::Thumb32, word, place, it.0),
        }
    };
    it.0 = found.op.next_it();
    Ok(found)
}
