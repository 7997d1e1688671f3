//! From an instruction word to a decoded instruction.

use super::facts::Facts;
use super::fields::op;
use super::stack_pointer::may_unalign;
use super::table::{Class, DECODE, Decode, FACTS, Row, TABLE};
use crate::exit::Step;
use crate::op::{Host, Op};
use crate::state::State;

/// Rows are indexed by bits 31 to 21 of the word: for code from compilers, the first row of a bucket is then
/// nearly always the right one.
const BUCKETS: usize = 1 << 11;
const LOW: u32 = 21;

/// For each bucket the rows that may match, in the order of the table.
struct Index {
    start: [u16; BUCKETS + 1],
    rows: [u16; INDEX_LENGTH],
}

/// The bits of a bucket that a row leaves open.
const fn open(row: &Row) -> u32 {
    !row.mask >> LOW
}

const INDEX_LENGTH: usize = {
    let (mut length, mut i) = (0, 0);
    while i < TABLE.len() {
        length += 1 << open(&TABLE[i]).count_ones();
        i += 1;
    }
    length
};

static INDEX: Index = {
    let mut index = Index { start: [0; BUCKETS + 1], rows: [0; INDEX_LENGTH] };
    // At first the length of each bucket; then, while the buckets are filled, the place of the next row.
    let mut next = [0u16; BUCKETS];
    let mut i = 0;
    while i < TABLE.len() {
        let (fixed, open) = (TABLE[i].value >> LOW, open(&TABLE[i]));
        let mut some = 0;
        loop {
            next[(fixed | some) as usize] += 1;
            if some == open {
                break;
            }
            // The next subset of `open`.
            some = (some.wrapping_sub(open)) & open;
        }
        i += 1;
    }
    let mut bucket = 0;
    while bucket < BUCKETS {
        index.start[bucket + 1] = index.start[bucket] + next[bucket];
        next[bucket] = index.start[bucket];
        bucket += 1;
    }
    let mut i = 0;
    while i < TABLE.len() {
        let (fixed, open) = (TABLE[i].value >> LOW, open(&TABLE[i]));
        let mut some = 0;
        loop {
            let bucket = (fixed | some) as usize;
            index.rows[next[bucket] as usize] = i as u16;
            next[bucket] += 1;
            if some == open {
                break;
            }
            some = (some.wrapping_sub(open)) & open;
        }
        i += 1;
    }
    index
};

/// The number of the row of the table that `word` belongs to.
#[inline(always)]
fn find(word: u32) -> Option<usize> {
    let bucket = (word >> LOW) as usize;
    let rows = INDEX.start[bucket] as usize..INDEX.start[bucket + 1] as usize;
    INDEX.rows[rows].iter().map(|&row| row as usize).find(|&row| word & TABLE[row].mask == TABLE[row].value)
}

/// The row of the table that `word` belongs to. The word may still be undefined: its other fields may hold a
/// reserved combination.
pub fn classify(word: u32) -> Option<&'static Row> {
    find(word).map(|row| &TABLE[row])
}

/// What the instruction `word` does; `None` if it is not in the table.
#[inline]
pub fn facts(word: u32) -> Option<&'static Facts> {
    find(word).map(|row| &FACTS[row])
}

/// The class of the instruction `word`, and what it does; `None` if it is undefined.
pub fn implemented(word: u32) -> Option<(Class, &'static Facts)> {
    let row = find(word)?;
    (!is_reserved(row, word)).then(|| (TABLE[row].class, &FACTS[row]))
}

/// What the instructions whose bits 31 to 21 are `high` do: the facts of number `at`, as long as there are
/// more.
pub const fn facts_with(high: u32, at: usize) -> Option<&'static Facts> {
    let first = INDEX.start[high as usize] as usize;
    if first + at < INDEX.start[high as usize + 1] as usize {
        Some(&FACTS[INDEX.rows[first + at] as usize])
    } else {
        None
    }
}

/// The mnemonic of `word`, for messages.
pub fn name(word: u32) -> &'static str {
    classify(word).map_or("unallocated", Row::name)
}

/// Whether `word` is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// In the table. Field combinations that the manual reserves are found when the instruction runs.
    Implemented,
    /// In the table, but reserved because of a field that decoding checks.
    Reserved,
    /// Not in the table.
    Absent,
}

impl Support {
    /// Looks `word` up.
    pub fn of(word: u32) -> Support {
        match find(word) {
            None => Support::Absent,
            Some(row) if is_reserved(row, word) => Support::Reserved,
            Some(_) => Support::Implemented,
        }
    }
}

/// Whether a word of a row is undefined, by a field that decoding checks.
fn is_reserved(row: usize, word: u32) -> bool {
    match DECODE[row] {
        Decode::Run(_) => false,
        Decode::With(decode) | Decode::Ends(_, decode) => decode(word, 0x1000).is_none(),
    }
}

/// Whether `word` is an instruction of this CPU.
pub(crate) fn is_implemented(word: u32) -> bool {
    Support::of(word) == Support::Implemented
}

fn undefined(state: &mut State, _: &Host, op: &Op) -> Step {
    state.undefined(op)
}

/// Decodes `word` at `pc`. The second value says whether a block ends after it.
#[inline(always)]
pub fn decode(word: u32, pc: u64) -> (Op, bool) {
    let Some(row) = find(word) else { return (op(undefined, word), true) };
    match DECODE[row] {
        Decode::Run(handler) => (op(handler, word), false),
        Decode::With(decode) => match decode(word, pc) {
            Some(op) => (op, may_unalign(word)),
            None => (op(undefined, word), true),
        },
        Decode::Ends(_, decode) => (decode(word, pc).unwrap_or_else(|| op(undefined, word)), true),
    }
}
