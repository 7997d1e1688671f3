//! Advanced SIMD: shifts by an immediate within lanes (manual F6.1).

use super::fields::Word;
use super::vectors::lanewise;
use crate::exit::Step;
use crate::lanes::shift;
use crate::op::{Host, Op};
use crate::state::State;

/// The instruction with lanes of m, whose width the highest bit that is set in `L:i` gives.
fn decode(word: &Word<'_>, run: crate::op::Handler) -> Option<Op> {
    let imm = word.field('L') << 6 | word.field('i');
    let size = (imm >> 3).checked_ilog2()?;
    Some(word.same_vectors(run, size)?.exchanged().with_imm(imm))
}

/// Decoders of shifts of lanes of m, signed and unsigned. The immediate is twice the width less a shift to
/// the right, and the width plus a shift to the left.
macro_rules! shifts {
    ($($(#[$doc:meta])* $name:ident, $signed:ident, $unsigned:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn signed(s: &mut State, _: &Host, op: &Op) -> Step {
                let imm = op.imm32();
                lanewise(s, op, 0, |qc, w, n, _, d| shift::$signed(qc, w, 2 * w - imm, imm - w, n, d))
            }
            fn unsigned(s: &mut State, _: &Host, op: &Op) -> Step {
                let imm = op.imm32();
                lanewise(s, op, 0, |qc, w, n, _, d| shift::$unsigned(qc, w, 2 * w - imm, imm - w, n, d))
            }
            decode(word, if word.is('U') { unsigned } else { signed })
        }
    )*};
}

shifts! {
    /// VSHR.
    vshr, sshr, ushr;
    /// VSRA.
    vsra, ssra, usra;
    /// VRSHR.
    vrshr, srshr, urshr;
    /// VRSRA.
    vrsra, srsra, ursra;
    /// VQSHL.
    vqshl, sqshl, uqshl;
}

/// Decoders of shifts that have no sign.
macro_rules! unsigned_shifts {
    ($($(#[$doc:meta])* $name:ident, $operation:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let imm = op.imm32();
                lanewise(s, op, 0, |qc, w, n, _, d| shift::$operation(qc, w, 2 * w - imm, imm - w, n, d))
            }
            decode(word, run)
        }
    )*};
}

unsigned_shifts! {
    /// VSRI.
    vsri, sri;
    /// VSHL.
    vshl, shl;
    /// VSLI.
    vsli, sli;
    /// VQSHLU.
    vqshlu, sqshlu;
}
