//! How the tables of encodings are written down: patterns whose letters name fields.

use super::fields::Word;
pub(super) use super::row::{Class, Row};
use super::row::{FIELDS, alphabetical, bit};
use crate::op::Op;
use crate::pattern::{self, Field, Pattern};
use crate::short::Short;

/// How an instruction is decoded: `None` says that the combination of fields is reserved.
pub(crate) type Build = fn(&Word<'_>) -> Option<Op>;

/// A row from its [pattern](crate::pattern::read).
pub(crate) const fn row(pattern: &str, name: &str, class: Class, build: Build) -> (Row, Build) {
    let Pattern { mask, value, width, fields: found } = pattern::read::<FIELDS>(pattern);
    const NO_FIELD: Field = Field { letter: 0, low: 0, width: 0 };
    const NO_NUMBERS: u8 = (FIELDS << 4 | FIELDS) as u8;
    let (mut fields, mut registers) = ([NO_FIELD; FIELDS + 1], [NO_FIELD; 4]);
    let (mut letters, mut numbers, mut i) = (0, [NO_NUMBERS; 26], 0);
    while i < FIELDS && found[i].letter != 0 {
        let letter = found[i].letter;
        fields[i] = found[i];
        letters |= bit(letter);
        let shift = if letter.is_ascii_lowercase() { 0 } else { 4 };
        let number = &mut numbers[alphabetical(letter)];
        *number = *number & !(15 << shift) | (i as u8) << shift;
        match letter {
            b'd' | b't' => registers[0] = first(registers[0], found[i], b"dt"),
            b'n' => registers[1] = found[i],
            b'm' => registers[2] = found[i],
            b'a' | b'u' | b's' => registers[3] = first(registers[3], found[i], b"aus"),
            _ => {}
        }
        i += 1;
    }
    let name = Short::new(name);
    (Row { mask, value, class, width, name, fields, letters, numbers, registers }, build)
}

/// Which of two fields has the letter that comes first in `order`.
const fn first(one: Field, other: Field, order: &[u8]) -> Field {
    let mut i = 0;
    while i < order.len() {
        if one.letter == order[i] {
            return one;
        }
        if other.letter == order[i] {
            return other;
        }
        i += 1;
    }
    one
}
