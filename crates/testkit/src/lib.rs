//! For tests only: temporary stores and tiny images made from entries in memory.
//!
//! Functions panic with what went wrong: in a test there is nobody to hand an error to.

#![forbid(unsafe_code)]

pub mod image;
pub mod store;

pub use image::{LayerTar, TinyImage};
pub use store::TempStore;
