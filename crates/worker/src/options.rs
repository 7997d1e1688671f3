//! Options of an engine.

use std::path::PathBuf;

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds blobs and results; several engines may share it.
    pub directory: PathBuf,
    /// Actions that are executed at once.
    pub jobs: usize,
    /// The machine's name, which clients show.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// The machine's platform, such as `linux/amd64`.
    pub platform: String,
}
