//! Floating-point instructions that run with invalid operations masked.

use alloc::collections::BTreeSet;

/// Floating-point instructions that often signal invalid operations, by their addresses.
#[derive(Default)]
pub struct WarySet {
    pub(crate) at: BTreeSet<u64>,
    /// All instructions are wary, for tests.
    pub(crate) everywhere: bool,
}

impl WarySet {
    /// Whether the instruction at an address is wary.
    pub fn contains(&self, pc: u64) -> bool {
        self.everywhere || self.at.contains(&pc)
    }
}
