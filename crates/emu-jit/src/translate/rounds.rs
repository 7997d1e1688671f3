//! The rounds of a loop of one block: what the first finds out holds in the later ones.

use crossdock_emu_x64::Label;

/// Vector registers whose upper bits are known to be zero.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Zeros {
    /// From bit 32 up.
    pub(super) from_32: u32,
    /// From bit 64 up.
    pub(super) from_64: u32,
}

/// What is known where a block begins or ends, without which code would have to look: as the fields of these
/// names of the translator.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) modes: Option<u32>,
    pub(super) aligned: u32,
    pub(super) boxed: u32,
    pub(super) configured: Option<u8>,
    pub(super) length: Option<u32>,
    pub(super) zeros: Zeros,
}

impl Facts {
    /// Whether all that `others` say holds by these.
    pub(super) fn include(self, others: Facts) -> bool {
        fn same<T: PartialEq>(known: Option<T>, other: Option<T>) -> bool {
            other.is_none() || known == other
        }
        same(self.modes, others.modes)
            && others.aligned & !self.aligned == 0
            && others.boxed & !self.boxed == 0
            && same(self.configured, others.configured)
            && same(self.length, others.length)
            && others.zeros.from_32 & !self.zeros.from_32 == 0
            && others.zeros.from_64 & !self.zeros.from_64 == 0
    }
}

/// Code for the later rounds of a loop of one block, in which more is known than in the first.
#[derive(Clone, Copy)]
pub(super) struct Later {
    /// The block's index.
    pub(super) block: usize,
    pub(super) label: Label,
    pub(super) facts: Facts,
}
