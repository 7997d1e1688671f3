//! Structures.
use super::{Lowered, Translator};
impl Translator<'_> {
    pub(super) fn interleaved(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
    pub(super) fn one_structure(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
}
