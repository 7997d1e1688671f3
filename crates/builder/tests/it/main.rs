//! Integration tests of what the builder reads, and of graphs of operations; whole builds are tested with the
//! executable.

mod hostile;
mod llb;
