//! Output: lines on standard output and standard error, questions, files written as a whole, and times as
//! people read them.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, bail};
use crossdock_builder::BuildError;
use crossdock_delivery::files::{ClosedPipe, unwritten};
pub use crossdock_delivery::files::{chain, to_file, write_report, write_whole};

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

/// Prints a line to standard output; a closed pipe ends the program quietly.
pub fn print(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        let error = unwritten(error);
        print_error(&error);
        std::process::exit(exit_code(&error, 1).into());
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

/// The exit code for an error; `usual` is that of most errors.
pub fn exit_code(error: &anyhow::Error, usual: u8) -> u8 {
    if error.is::<ClosedPipe>() {
        return CLOSED_PIPE;
    }
    error.downcast_ref::<ExitWith>().map_or(usual, |exit| exit.0)
}

/// Prints an error with its causes; a cause that the error already quotes is not repeated.
pub fn print_error(error: &anyhow::Error) {
    if error.is::<ClosedPipe>() {
        return;
    }
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

/// A time in seconds since 1970 as Go prints times, in UTC: `2026-01-31 12:00:00 +0000 UTC`.
pub fn go_time(seconds: i64) -> String {
    shown_time(seconds, "%Y-%m-%d %H:%M:%S +0000 UTC")
}

/// A time in seconds since 1970 as RFC 3339 has it, in UTC.
pub fn rfc_3339(seconds: i64) -> String {
    shown_time(seconds, "%Y-%m-%dT%H:%M:%SZ")
}

fn shown_time(seconds: i64, format: &str) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().strftime(format).to_string()
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
