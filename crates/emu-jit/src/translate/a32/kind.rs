//! Which of the groups of instructions with vector registers an instruction belongs to.

use super::float::Arithmetic;
use super::neon::Vector;
use super::vectors::Transfer;

/// A group of instructions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// General registers, or something without a lowering.
    General,
    /// Floating point, and moves of its registers.
    Float(Arithmetic),
    /// Advanced SIMD.
    Vector(Vector),
    /// Loads and stores of both.
    Transfer(Transfer),
}

impl Kind {
    /// The group of a word in A32's encoding; the word is 0 for instructions of general registers.
    pub(super) fn of(word: u32) -> Kind {
        if word == 0 {
            return Kind::General;
        }
        if let Some(arithmetic) = Arithmetic::of(word) {
            return Kind::Float(arithmetic);
        }
        if let Some(transfer) = Transfer::of(word) {
            return Kind::Transfer(transfer);
        }
        Vector::of(word).map_or(Kind::General, Kind::Vector)
    }
}
