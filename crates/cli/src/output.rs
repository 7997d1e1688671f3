//! Output: lines on standard output and standard error, questions, files written as a whole, and times as
//! people read them.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, bail};
use crossdock_builder::BuildError;

/// An error that ends the program with a code of its own; nothing is printed if the text is empty.
#[derive(Debug)]
pub struct ExitWith(pub u8, pub String);

impl std::fmt::Display for ExitWith {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for ExitWith {}

/// In which form messages are written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// Of `--progress json`.
    Json,
    /// Of `--progress rawjson`.
    Raw,
}

static FORM: AtomicU8 = AtomicU8::new(Form::Text as u8);

/// From now on [`say`] writes this form.
pub fn say_in(form: Form) {
    FORM.store(form as u8, Ordering::Relaxed);
}

/// Prints a message of one or more lines to standard error. With `--progress json` the message is an object
/// whose event is `error`, `warning` or `message`.
pub fn say(text: &str) {
    let form = FORM.load(Ordering::Relaxed);
    if form == Form::Text as u8 {
        // A closed standard error is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{text}");
        return;
    }
    if form == Form::Raw as u8 {
        let _ = writeln!(std::io::stderr(), "{}", crate::rawjson::message(text));
        return;
    }
    let (event, message) = match text.split_once(": ") {
        Some((event @ ("error" | "warning"), message)) => (event, message),
        _ => ("message", text),
    };
    let _ = writeln!(std::io::stderr(), "{}", serde_json::json!({"event": event, "message": message}));
}

/// What a shell shows of a program that SIGPIPE ended: 128 + 13 (signal(7)). Programs in Rust ignore that
/// signal.
const CLOSED_PIPE: u8 = 141;

/// The end of a program whose reader went away, such as `head`: quiet, as other programs end. Any other error
/// says what could not be written.
fn unwritten(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => ExitWith(CLOSED_PIPE, String::new()).into(),
        _ => anyhow::Error::from(error).context("write to standard output"),
    }
}

/// Prints a line to standard output; a closed pipe ends the program quietly.
pub fn print(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        let error = unwritten(error);
        print_error(&error);
        std::process::exit(error.downcast_ref::<ExitWith>().map_or(1, |exit| exit.0).into());
    }
}

/// Writes bytes to standard output.
///
/// # Errors
///
/// They cannot be written; a closed pipe is an error that is not shown.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(unwritten)
}

/// Columns aligned by spaces, three between them, as docker prints tables.
pub fn table(rows: &[Vec<String>]) {
    /// One long value must not pad all other rows to its length.
    const WIDTH_MAX: usize = 200;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count().min(WIDTH_MAX)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        print(cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}

/// Prints an error with its causes; a cause that the error already quotes is not repeated.
pub fn print_error(error: &anyhow::Error) {
    if let Some(exit) = error.downcast_ref::<ExitWith>()
        && exit.1.is_empty()
    {
        return;
    }
    if let Some(build) = error.downcast_ref::<BuildError>() {
        say(&format!("error: failed to build: {build}"));
        return;
    }
    say(&format!("error: {}", chain(error)));
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
    use std::io::Write;
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

/// Whether standard error is a terminal that shows colours and moving lines.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// How long ago a time in seconds since 1970 was, in docker's words.
pub fn ago(seconds: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    let age = (now - seconds).max(0);
    let text = |n: i64, unit: &str| format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" });
    match age {
        0..60 => text(age, "second"),
        60..3600 => text(age / 60, "minute"),
        3600..172_800 => text(age / 3600, "hour"),
        172_800..1_209_600 => text(age / 86_400, "day"),
        1_209_600..5_184_000 => text(age / 604_800, "week"),
        5_184_000..63_072_000 => text(age / 2_592_000, "month"),
        _ => text(age / 31_536_000, "year"),
    }
}

/// Seconds since 1970 of an RFC 3339 time.
pub fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(|t| t.as_second())
}

/// Asks before something is removed; false if the answer is no.
pub fn confirmed(what: &str, force: bool) -> Result<bool> {
    if force {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("this removes {what}: confirm with --force");
    }
    eprint!("This removes {what}. Continue? [y/N] ");
    std::io::stderr().flush().context("ask on the terminal")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
