//! Errors as one line, and files that appear whole or not at all.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

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

/// Runs `write` on a new file that appears complete, or on standard output.
pub fn to_file(path: Option<&Path>, write: impl FnOnce(&mut dyn std::io::Write) -> Result<()>) -> Result<()> {
    let Some(path) = path else {
        let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
        write(&mut out).context("write to standard output")?;
        return out.flush().context("write to standard output");
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

/// Writes a file so that readers see either nothing or all of it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(mut device) = open_special(path).with_context(|| format!("write {}", path.display()))? {
        return device.write_all(bytes).with_context(|| format!("write {}", path.display()));
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let doing = || format!("write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(doing)?;
    file.write_all(bytes).with_context(doing)?;
    file.as_file().sync_all().with_context(doing)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).with_context(doing)?;
    file.persist(path).map_err(|e| e.error).with_context(doing)?;
    Ok(())
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
