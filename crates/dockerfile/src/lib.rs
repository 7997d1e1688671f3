//! The Dockerfile language: text to typed instructions, with the lines they stand on.
//!
//! - [`parser`]: directives, line continuation, heredocs, flags: text to [`parser::Node`]s;
//! - [`instruction`]: nodes to typed instructions and stages;
//! - [`shell`]: `$variable` expansion and word splitting as BuildKit does it;
//! - [`mount`]: the options of `RUN --mount`;
//! - [`ignore`] and [`pattern`]: `.dockerignore` and Go's `filepath.Match`.
//!
//! Parsing does no input or output; reference: the Dockerfile reference of docker/dockerfile 1.26.

#![forbid(unsafe_code)]

pub mod error;
pub mod ignore;
pub mod instruction;
pub mod mount;
pub mod parser;
pub mod pattern;
pub mod shell;
pub mod values;

pub use error::{Error, Lines};
pub use instruction::{Dockerfile, Instruction, Stage};
