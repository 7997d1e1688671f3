//! The interpreter as its callers use it.

mod interpreter;
