//! The log of changed code, which all threads of a process share.

use crossdock_emu_guest::a64::Invalidations;

/// The log: whoever changes code or mappings adds the range.
pub static CHANGES: Invalidations = Invalidations::new();
