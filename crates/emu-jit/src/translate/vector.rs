//! Advanced SIMD (manual C4.1.97).

use super::{Lowered, Translator};

impl Translator<'_> {
    pub(super) fn vector(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
}
