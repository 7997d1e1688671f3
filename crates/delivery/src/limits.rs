//! Resource limits of commands, as docker writes them.

use anyhow::{Context, Result, bail};
use crossdock_sandbox::Limit;

/// Reads `NAME=SOFT[:HARD]`, see getrlimit(2).
///
/// # Errors
///
/// The text has another form, or no limit has this name.
pub fn limit(text: &str) -> Result<Limit> {
    /// Names and numbers of Linux on every architecture that this program runs on.
    const NAMES: [(&str, u32); 16] = [
        ("cpu", 0),
        ("fsize", 1),
        ("data", 2),
        ("stack", 3),
        ("core", 4),
        ("rss", 5),
        ("nproc", 6),
        ("nofile", 7),
        ("memlock", 8),
        ("as", 9),
        ("locks", 10),
        ("sigpending", 11),
        ("msgqueue", 12),
        ("nice", 13),
        ("rtprio", 14),
        ("rttime", 15),
    ];
    let wrong = || "the form is NAME=SOFT[:HARD], for example nofile=1024:2048";
    let (name, values) = text.split_once('=').with_context(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        other => other.parse::<u64>().with_context(wrong),
    };
    let Some((_, resource)) = NAMES.iter().find(|(known, _)| *known == name) else {
        bail!("unknown limit {name}");
    };
    Ok(Limit { resource: *resource, soft: number(soft)?, hard: number(hard)? })
}
