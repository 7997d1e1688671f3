//! Commands in a root made of layers, their mounts and their output; for RUN and for operations of LLB.

mod agent;
pub mod container;
pub(crate) mod execute;
pub(crate) mod failed;
pub mod mount;
pub(crate) mod mounts;
mod output;
