//! How the tables of encodings are written down: patterns whose letters name fields.

use super::fields::Word;
pub(super) use super::row::{Class, Row};
use crate::op::Op;
use crate::pattern::{self, Pattern};
use crate::short::Short;

/// How an instruction is decoded: `None` says that the combination of fields is reserved.
pub(crate) type Build = fn(&Word<'_>) -> Option<Op>;

/// A row from its [pattern](crate::pattern::read).
pub(crate) const fn row(pattern: &str, name: &str, class: Class, build: Build) -> (Row, Build) {
    let Pattern { mask, value, width, fields } = pattern::read(pattern);
    (Row { mask, value, class, width, name: Short::new(name), fields }, build)
}
