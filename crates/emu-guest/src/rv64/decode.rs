//! From instruction words to decoded instructions.

use super::action::Action;
use super::handler::handler;
use super::refused::refused;
use super::row::{Immediate, Row, Use};
use super::table::ROWS;
use super::{compressed, registers};
use crate::exit::Step;
use crate::guest::{Decoded, Words};
use crate::index::{self, Index, Key};
use crate::memory::Fault;
use crate::op::{Host, Op, bits, sign_extend};
use crate::pattern::column;
use crate::state::{SINK, State, ZERO};

/// funct7 and the opcode without its two lowest bits, which are set in all instructions of 32 bits.
const KEY: Key = [(25, 7), (2, 5)];
const WORDS: [(u32, u32); ROWS.len()] = column!(ROWS, row => (row.mask, row.value));
static MASKS: [(u32, u32); ROWS.len()] = WORDS;
static INDEX: Index<{ index::starts(KEY) }, { index::length(KEY, &WORDS) }> = Index::new(KEY, &WORDS);

/// The two lowest bits of an instruction of 32 bits.
const WIDE: u32 = 3;
/// Instead of [`WIDE`] in [`Op::code`]: the instruction has 16 bits.
const COMPRESSED: u32 = 2;

#[inline(always)]
fn find(word: u32) -> Option<usize> {
    index::find(KEY, &INDEX.start, &INDEX.rows, &MASKS, word)
}

/// The row that an instruction of 32 bits belongs to. The word may still be undefined, by a reserved value of
/// a field.
pub fn classify(word: u32) -> Option<&'static Row> {
    if word & WIDE == WIDE { find(word).map(|row| &ROWS[row]) } else { None }
}

/// The instruction of 32 bits that one of 16 stands for; `None` if it is reserved.
pub fn expand(code: u32) -> Option<u32> {
    compressed::expand(code)
}

/// The mnemonic of an instruction of 16 or 32 bits, for messages.
pub fn name(code: u32) -> &'static str {
    if code & WIDE == WIDE {
        return classify(code).map_or("unallocated", Row::name);
    }
    compressed::find(code & 0xffff).map_or("unallocated", |row| compressed::TABLE[row].name.as_str())
}

/// Whether an instruction is one of this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is. What depends on registers, as a reserved rounding mode in FCSR, is found when it runs.
    Implemented,
    /// It belongs to a row, but a field has a reserved value.
    Reserved,
    /// It belongs to an extension that this CPU does not have.
    Refused,
    /// No extension defines it.
    Absent,
}

impl Support {
    /// Looks an instruction of 16 or 32 bits up.
    pub fn of(code: u32) -> Support {
        if code & WIDE != WIDE {
            return match (compressed::find(code & 0xffff), compressed::expand(code & 0xffff)) {
                (_, Some(_)) => Support::Implemented,
                (Some(_), None) => Support::Reserved,
                (None, None) if refused(code).is_some() => Support::Refused,
                (None, None) => Support::Absent,
            };
        }
        match classify(code) {
            Some(row) if is_reserved(row, code) => Support::Reserved,
            Some(_) => Support::Implemented,
            None if refused(code).is_some() => Support::Refused,
            None => Support::Absent,
        }
    }
}

/// Whether a word of a row is undefined, by a field that decoding checks.
fn is_reserved(row: &Row, word: u32) -> bool {
    let mode = bits(word, 14, 12);
    let pairs = matches!(row.action, Action::CompareSwap { size: 4 });
    row.rounds && matches!(mode, 5 | 6) || pairs && word & (1 << 7 | 1 << 20) != 0
}

fn undefined(state: &mut State, _: &Host, op: &Op) -> Step {
    state.undefined(op)
}

/// The immediate of an instruction at a place.
#[inline(always)]
fn immediate(row: &Row, word: u32, place: u64) -> u64 {
    let signed = |value: u32, width: u32| sign_extend(value.into(), width);
    match row.immediate {
        Immediate::None => 0,
        Immediate::I => (word as i32 >> 20) as u64,
        Immediate::S => signed(bits(word, 31, 25) << 5 | bits(word, 11, 7), 12),
        Immediate::B => {
            let offset = bits(word, 31, 31) << 12
                | bits(word, 7, 7) << 11
                | bits(word, 30, 25) << 5
                | bits(word, 11, 8) << 1;
            place.wrapping_add(signed(offset, 13))
        }
        Immediate::U => {
            let value = (word & 0xffff_f000) as i32 as u64;
            if matches!(row.action, Action::AddPc) { place.wrapping_add(value) } else { value }
        }
        Immediate::J => {
            let offset = bits(word, 31, 31) << 20
                | bits(word, 19, 12) << 12
                | bits(word, 20, 20) << 11
                | bits(word, 30, 21) << 1;
            place.wrapping_add(signed(offset, 21))
        }
        Immediate::Shift => bits(word, 25, 20).into(),
    }
}

/// The instruction `word` of a row, which has 16 bits in memory if `compressed`.
#[inline(always)]
fn op(row: &Row, word: u32, compressed: bool, place: u64) -> Op {
    let source = |kind: Use, low: u32| match kind {
        Use::None => ZERO as u8,
        Use::General => registers::source(word >> low),
        Use::Float => registers::float(word >> low),
    };
    let rd = match row.uses[0] {
        Use::None => SINK as u8,
        Use::General => registers::destination(word >> 7),
        Use::Float => registers::float(word >> 7),
    };
    let ra = if row.reads_rd { registers::source(word >> 7) } else { source(row.uses[3], 27) };
    Op {
        run: handler(row.action),
        imm: immediate(row, word, place),
        code: if compressed { word & !WIDE | COMPRESSED } else { word },
        rd,
        rn: source(row.uses[1], 15),
        rm: source(row.uses[2], 20),
        ra,
    }
}

/// Whether a block ends after an action.
pub(super) fn ends(action: Action) -> bool {
    matches!(
        action,
        Action::Jump
            | Action::JumpRegister
            | Action::Branch(_)
            | Action::EnvironmentCall
            | Action::Breakpoint
            | Action::FenceInstructions
    )
}

/// Decodes an instruction of 16 or 32 bits at a place.
#[inline]
pub(super) fn decode(code: u32, place: u64) -> (Op, Option<Action>) {
    let compressed = code & WIDE != WIDE;
    let word = if compressed { compressed::expand(code) } else { Some(code) };
    if let Some(word) = word
        && let Some(row) = find(word)
        && !is_reserved(&ROWS[row], word)
    {
        let row = &ROWS[row];
        return (op(row, word, compressed, place), Some(row.action));
    }
    let zero = ZERO as u8;
    (Op { run: undefined, imm: 0, code, rd: SINK as u8, rn: zero, rm: zero, ra: UNDEFINED }, None)
}

/// [`Op::ra`] of what is no instruction; [`Op::code`] is as in memory then.
const UNDEFINED: u8 = 0xff;

/// The row of a decoded instruction; `None` if it is undefined.
#[inline]
pub(super) fn row_of(op: &Op) -> Option<&'static Row> {
    if op.ra == UNDEFINED { None } else { find(op.code | WIDE).map(|row| &ROWS[row]) }
}

impl Op {
    /// Bytes of the instruction.
    #[inline(always)]
    pub(super) fn rv64_length(&self) -> u64 {
        if self.code & WIDE == WIDE { 4 } else { 2 }
    }
}

/// Reads the instruction at a place, of 16 or 32 bits.
#[inline(always)]
pub(super) fn fetch(words: &mut Words<'_>, place: u64) -> Result<u32, Fault> {
    let first = u32::from(words.half(place)?);
    if first & WIDE != WIDE {
        return Ok(first);
    }
    Ok(first | u32::from(words.half(place.wrapping_add(2))?) << 16)
}

/// Decodes the instruction at a place.
pub(super) fn read(words: &mut Words<'_>, place: u64) -> Result<Decoded, Fault> {
    let (op, action) = decode(fetch(words, place)?, place);
    Ok(Decoded { op, ends: action.is_none_or(ends), binds: false })
}
