//! How the tables of encodings are written down: patterns whose letters name fields.

use super::fields::Word;
pub(super) use super::row::{Class, Row};
use super::row::{FIELDS, bit};
use crate::op::Op;
use crate::pattern::{self, Pattern};
use crate::short::Short;

/// How an instruction is decoded: `None` says that the combination of fields is reserved.
pub(crate) type Build = fn(&Word<'_>) -> Option<Op>;

/// A row from its [pattern](crate::pattern::read).
pub(crate) const fn row(pattern: &str, name: &str, class: Class, build: Build) -> (Row, Build) {
    let Pattern { mask, value, width, mut fields } = pattern::read(pattern);
    let (mut letters, mut count) = (0, 0);
    while count < FIELDS && fields[count].letter != 0 {
        letters |= bit(fields[count].letter);
        // Insertion sort.
        let mut at = count;
        while at > 0 && fields[at - 1].letter > fields[at].letter {
            (fields[at - 1], fields[at]) = (fields[at], fields[at - 1]);
            at -= 1;
        }
        count += 1;
    }
    (Row { mask, value, class, width, name: Short::new(name), fields, letters }, build)
}
