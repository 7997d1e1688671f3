//! Errors as one line, and files that appear whole or not at all.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Whoever reads standard output is gone, such as `head`. A program then ends quietly.
#[derive(Debug)]
pub struct ClosedPipe;

impl std::fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for ClosedPipe {}

/// What a failed write to standard output means: [`ClosedPipe`], or an error that says what could not be
/// written.
pub fn unwritten(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => ClosedPipe.into(),
        _ => anyhow::Error::from(error).context("write to standard output"),
    }
}

/// An error with its causes in one line; a cause that is already quoted is not repeated.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Standard output, and whether whoever read it is gone.
#[derive(Default)]
struct Reader {
    is_gone: bool,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = std::io::stdout().write(bytes);
        self.is_gone |= matches!(&written, Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = std::io::stdout().flush();
        self.is_gone |= matches!(&flushed, Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe);
        flushed
    }
}

/// Runs `write` on a new file that appears complete, or on standard output.
pub fn to_file(path: Option<&Path>, write: impl FnOnce(&mut dyn std::io::Write) -> Result<()>) -> Result<()> {
    let Some(path) = path else {
        let mut out = std::io::BufWriter::with_capacity(1 << 16, Reader::default());
        let written = write(&mut out).context("write to standard output");
        let is_closed = out.get_ref().is_gone;
        let written = written.and_then(|()| out.flush().map_err(unwritten));
        // Whatever was being written says in its own way that it could not.
        return written.map_err(|error| {
            if is_closed { unwritten(std::io::ErrorKind::BrokenPipe.into()) } else { error }
        });
    };
    let doing = || format!("write {}", path.display());
    if let Some(device) = open_special(path).with_context(doing)? {
        let mut out = std::io::BufWriter::with_capacity(1 << 16, device);
        write(&mut out).with_context(doing)?;
        return out.flush().with_context(doing);
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(doing)?;
    let mut out = std::io::BufWriter::with_capacity(1 << 16, &mut file);
    write(&mut out).with_context(doing)?;
    out.flush().with_context(doing)?;
    drop(out);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).with_context(doing)?;
    file.as_file().sync_all().with_context(doing)?;
    file.persist(path).map_err(|e| e.error).with_context(doing)?;
    Ok(())
}

/// Writes a file so that readers see either nothing or all of it, also after the power failed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, true)
}

/// As [`write_whole`], for files that tell of a build: when the power fails they may be lost, so that builds
/// need not wait for the disk.
pub fn write_report(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, false)
}

fn replace(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let doing = || format!("write {}", path.display());
    if let Some(mut device) = open_special(path).with_context(doing)? {
        return device.write_all(bytes).with_context(doing);
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(doing)?;
    file.write_all(bytes).with_context(doing)?;
    file.as_file().set_permissions(readable).with_context(doing)?;
    if sync {
        file.as_file().sync_all().with_context(doing)?;
    } else if exchange(file.path(), path) {
        // The file that was there is now the temporary one, which goes.
        return Ok(());
    }
    file.persist(path).map_err(|e| e.error).with_context(doing)?;
    Ok(())
}

/// Lets two files exchange their names, if both are there. A rename over a file makes ext4 write the new one
/// to the disk at once (ext4(5), auto_da_alloc), which takes longer than a build of cached steps.
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let is_file = std::fs::symlink_metadata(other).is_ok_and(|there| there.is_file());
    is_file && renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

/// Opens a device or pipe, such as `/dev/null` or `/dev/stdout`, to write to it instead of replacing it.
/// `None` if `path` is a regular file, a directory or missing.
pub fn open_special(path: &Path) -> std::io::Result<Option<std::fs::File>> {
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() && !there.is_dir() => {
            std::fs::File::options().write(true).open(path).map(Some)
        }
        _ => Ok(None),
    }
}
