//! Trees of files: below roots that cannot be left, copied, and digested.

mod archive;
mod beside;
pub mod chmod;
pub mod copy;
pub mod stat_cache;
pub mod tree;
pub(crate) mod unpack;
