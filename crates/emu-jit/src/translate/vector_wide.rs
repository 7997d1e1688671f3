//! Wide.
use super::{Lowered, Translator};
impl Translator<'_> {
    pub(super) fn by_element(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
    pub(super) fn three_different(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
    pub(super) fn two_registers(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
    pub(super) fn scalar_pairwise(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
    pub(super) fn across(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
}
