//! The mask of a thread on the host: the guest's, without the signals that the emulator needs.

use super::number::OURS;
use crate::sys::signal::set_mask;

/// Blocks everything but our own signals; returns the old mask.
pub(crate) fn block_all() -> u64 {
    set_mask(!OURS)
}

/// Blocks everything, our own signals too.
pub(crate) fn block_even_ours() {
    set_mask(!0);
}

/// The host's form of a guest's mask.
pub(crate) fn host_mask(mask: u64) -> u64 {
    mask & !OURS
}

/// Gives the host the guest's mask.
pub(crate) fn use_mask(mask: u64) {
    set_mask(host_mask(mask));
}
