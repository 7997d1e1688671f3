//! Graphs of operations that a client made itself, as BuildKit's LLB describes them (moby/buildkit,
//! solver/pb/ops.proto), solved by the engine that builds Dockerfiles. This module knows no protobuf: whoever
//! reads a definition makes a [`Graph`] of it.
//!
//! An operation has inputs, which are outputs of earlier operations, and outputs, which are trees of files.
//! Operations run as soon as a thread takes them; keys, cache and packing are those of [`crate::solver`].

mod command;
mod diff;
mod files;
mod graph;
mod solve;
mod solving;
mod sources;

pub use graph::{
    Action, Copy, Edge, Exec, File, Graph, Id, Kind, Mount, MountKind, Op, Owner, SecretVariable, Source,
};
pub use solve::solve;
