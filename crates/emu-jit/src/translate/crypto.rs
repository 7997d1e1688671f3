//! Cryptography.
use super::{Lowered, Translator};
impl Translator<'_> {
    pub(super) fn crypto_two_registers(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
}
impl Translator<'_> {
    pub(super) fn crypto_three_registers(&mut self, _word: u32) -> Lowered {
        Lowered::No
    }
}
