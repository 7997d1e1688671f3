//! S registers that are written alone: the D register in which one lies is written as a whole behind it,
//! before anybody can see its other half. Compilers convert integers so: `vmov s15, r3`;
//! `vcvt.f64.s32 d7, s15`.

use super::float::Arithmetic;
use super::kind::Kind;
use super::{ALWAYS, Translator};
use crate::layout::QUARTERS;
use crate::translate::operands::{half, quarter};
use crate::translate::{FAULTS, Isa};
use crossdock_emu_guest::a32::action::Action;
use crossdock_emu_guest::a32::{A32, Instruction};

/// How far [`Translator::writes_alone`] looks.
const ALONE_MAX: usize = 12;

impl Translator<'_> {
    /// Whether the current instruction, of floating point, writes an S register alone.
    pub(super) fn computes_single_alone(&self, item: &Instruction, it: &Arithmetic) -> bool {
        let (Some(written @ QUARTERS..), reads) = it.roles() else { return false };
        self.stays(it, item.place) && self.writes_alone(item, written - QUARTERS, reads)
    }

    /// Whether the current instruction, which may read some parts of vector registers, writes S register
    /// `written` alone.
    pub(super) fn writes_alone(&self, item: &Instruction, written: u8, reads: [Option<u8>; 3]) -> bool {
        let (written, other) = (quarter(written), quarter(written ^ 1));
        let whole = half(written % 32 / 2);
        let has = |reads: [Option<u8>; 3], part: u8| reads.contains(&Some(part));
        if item.condition < ALWAYS || [written, other, whole].iter().any(|&part| has(reads, part)) {
            return false;
        }
        for item in self.items.iter().skip(1).take(ALONE_MAX) {
            match Kind::of(item.word) {
                Kind::General
                    if A32::class(item).has(FAULTS) || item.ends || item.action == Action::Other =>
                {
                    return false;
                }
                Kind::General => {}
                Kind::Float(it) if item.condition >= ALWAYS && self.stays(&it, item.place) => {
                    let (writes, reads) = it.roles();
                    if has(reads, other) || has(reads, whole) || writes == Some(other) {
                        return false;
                    }
                    if writes == Some(whole) {
                        return true;
                    }
                }
                _ => return false,
            }
        }
        false
    }
}
