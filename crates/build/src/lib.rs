//! Builds images: Dockerfile, context and platforms in, images and an index out.
//!
//! The design is in `docs/dev/build.md`: stage runs as threads, steps with digests, layers packed in the background.

#![forbid(unsafe_code)]

pub mod chmod;
pub mod copy;
pub mod key;
pub mod scope;
pub mod stat_cache;
pub mod tree;
