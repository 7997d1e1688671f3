//! General registers in the fields of A64 words.
//!
//! Register numbers are indexes in `State::gpr`: 31 is SP, [`ZERO`] reads as zero, [`SINK`] takes writes to
//! XZR.

use super::bits;
pub(super) use crate::translate::operands::{SINK, ZERO};
use crossdock_emu_x64::Size;

/// The general register in 5 bits of a word from bit `low`; 31 is SP.
pub(super) fn sp(word: u32, low: u32) -> u8 {
    bits(word, low + 4, low) as u8
}

/// The same field as a source; 31 is XZR.
pub(super) fn source(word: u32, low: u32) -> u8 {
    match sp(word, low) {
        31 => ZERO,
        register => register,
    }
}

/// The same field as a destination; 31 is XZR.
pub(super) fn destination(word: u32, low: u32) -> u8 {
    match sp(word, low) {
        31 => SINK,
        register => register,
    }
}

/// The operand size that bit 31 selects.
pub(super) fn size(word: u32) -> Size {
    if word >> 31 == 1 { Size::Q } else { Size::D }
}
