//! Images: translations of a file of guest code that any process can run, made ahead of it.
//!
//! An image holds the units that [`compile`](compile::compile) makes of a file's blocks, as
//! position-independent code: it runs wherever the guest maps the file, and wherever the image itself lies.
//! The page before its code has the few words that differ between processes ([`words`]). The layout is in
//! `docs/dev/code-cache.md`.

pub mod attached;
pub mod compile;
pub mod format;
pub mod words;
