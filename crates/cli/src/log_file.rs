//! `--logfile`: standard error goes to a file.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};

/// Standard error is the file as long as this lives.
pub struct LogFile {
    before: OwnedFd,
}

impl LogFile {
    /// Makes a file standard error; the file is made anew.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn start(path: &Path) -> Result<LogFile> {
        let doing = || format!("--logfile {}", path.display());
        let file = File::create(path).with_context(doing)?;
        let before = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3).with_context(doing)?;
        rustix::stdio::dup2_stderr(file).with_context(doing)?;
        Ok(LogFile { before })
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // The error that ends the command is for whoever started it.
        let _ = rustix::stdio::dup2_stderr(&self.before);
    }
}
