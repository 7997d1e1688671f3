//! Translations that were made before the process: where they lie, how they get into it, who makes them.
//!
//! ```text
//! file     what identifies a guest file, and the build of the emulator
//! store    the folder with images: finding one, publishing one
//! mapped   the guest's mappings of files with code, and the images attached to them
//! report   what a process ran that no image had
//! compile  the process that makes images of reports
//! ```
//!
//! docs/dev/code-cache.md has the formats, and whom they trust.

pub mod compile;
pub(crate) mod file;
pub(crate) mod mapped;
pub(crate) mod report;
pub(crate) mod store;
