//! Layers: tar archives applied to directories, and directories written as archives.

pub(crate) mod tree;
