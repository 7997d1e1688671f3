//! How the tables of encodings are written down: patterns whose letters name fields.

use super::fields::Word;
pub(super) use super::row::{Class, Row};
use super::row::{FIELDS, Field};
use crate::op::Op;
use crate::short::Short;

/// How an instruction is decoded: `None` says that the combination of fields is reserved.
pub(crate) type Build = fn(&Word<'_>) -> Option<Op>;

/// Reads a pattern of 16 or 32 characters, high bit first. `0` and `1` are fixed; a letter names the field
/// that the bit belongs to; `x` is open and has no name; spaces are ignored. The bits of a field lie side by
/// side.
pub(crate) const fn row(pattern: &str, name: &str, class: Class, build: Build) -> (Row, Build) {
    let bytes = pattern.as_bytes();
    let mut width = 0;
    let mut i = 0;
    while i < bytes.len() {
        width += (bytes[i] != b' ') as u8;
        i += 1;
    }
    assert!(width == 16 || width == 32, "a pattern has 16 or 32 digits");
    let mut row = Row {
        mask: 0,
        value: 0,
        class,
        width,
        name: Short::new(name),
        fields: [Field { letter: 0, low: 0, width: 0 }; FIELDS],
    };
    let (mut bit, mut count, mut i) = (width, 0, 0);
    while i < bytes.len() {
        let digit = bytes[i];
        i += 1;
        if digit == b' ' {
            continue;
        }
        bit -= 1;
        match digit {
            b'0' => row.mask |= 1 << bit,
            b'1' => {
                row.mask |= 1 << bit;
                row.value |= 1 << bit;
            }
            b'x' => {}
            letter => {
                let last = if count == 0 { 0 } else { row.fields[count - 1].letter };
                if last == letter && row.fields[count - 1].low == bit + 1 {
                    row.fields[count - 1].low = bit;
                    row.fields[count - 1].width += 1;
                } else {
                    let mut other = 0;
                    while other < count {
                        assert!(row.fields[other].letter != letter, "a field is in one piece");
                        other += 1;
                    }
                    row.fields[count] = Field { letter, low: bit, width: 1 };
                    count += 1;
                }
            }
        }
    }
    (row, build)
}
