//! Floating point of vectors.
use super::{Lowered, Translator};
impl Translator<'_> {
    pub(super) fn float_three_same(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
}
