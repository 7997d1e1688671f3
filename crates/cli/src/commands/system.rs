//! system df and system prune.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossdock_oci::store::GcOptions;

use super::{print, table};
use crate::args::SystemCommand;
use crate::session::{Session, size};

/// Downloads that were not continued for that long count as given up.
const DAY: Duration = Duration::from_secs(86_400);

pub fn system(session: &Session, command: SystemCommand) -> Result<u8> {
    match command {
        SystemCommand::Df => df(session),
        SystemCommand::Prune { all, force, older_than, keep_storage } => {
            let keep = keep_storage
                .map(|text| {
                    crossdock_dockerfile::mount::bytes(&text)
                        .with_context(|| format!("--keep-storage {text}: not a size"))
                })
                .transpose()?;
            let age = older_than.map(|text| age_seconds("--older-than", &text)).transpose()?;
            prune(session, all, force, age, keep)
        }
    }
}

/// `30m`, `24h`, `7d`: seconds.
pub(super) fn age_seconds(option: &str, text: &str) -> Result<u64> {
    if text == "0" {
        return Ok(0);
    }
    if let Some(days) = text.strip_suffix('d').and_then(|n| n.parse::<u64>().ok()) {
        return Ok(days * 86_400);
    }
    match crossdock_dockerfile::instruction::duration_ns(text) {
        Some(ns) if ns >= 0 => Ok(ns as u64 / 1_000_000_000),
        _ => bail!("{option} {text}: not an age such as 30m, 24h or 7d"),
    }
}

fn df(session: &Session) -> Result<u8> {
    let usage = session.store()?.disk_usage()?;
    let mut rows = vec![["TYPE", "TOTAL", "SIZE", "RECLAIMABLE"].map(str::to_string).to_vec()];
    let parts = [
        ("Images", usage.images),
        ("Unpacked layers", usage.snapshots),
        ("Build cache", usage.build_cache),
        ("Cache mounts", usage.cache_mounts),
        ("Partial downloads", usage.partials),
    ];
    for (name, part) in parts {
        rows.push(vec![name.to_string(), part.count.to_string(), size(part.bytes), size(part.reclaimable)]);
    }
    table(&rows);
    usage.damaged.iter().for_each(|problem| eprintln!("warning: {problem}"));
    Ok(0)
}

fn prune(session: &Session, all: bool, force: bool, age: Option<u64>, keep: Option<u64>) -> Result<u8> {
    if !force {
        let what = if all {
            "the whole build cache, cache mounts, and everything that no image needs"
        } else {
            "everything that neither an image nor the build cache needs"
        };
        if !std::io::stdin().is_terminal() {
            bail!("this removes {what}: confirm with --force");
        }
        eprint!("This removes {what}. Continue? [y/N] ");
        std::io::stderr().flush().context("ask on the terminal")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("read the answer")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(1);
        }
    }
    let unused_for = age.map(Duration::from_secs).or(if all { Some(Duration::ZERO) } else { None });
    let options = GcOptions {
        cache_unused_for: unused_for,
        cache_bytes_max: keep,
        cache_mounts_unused_for: if all { unused_for } else { None },
        partials_unused_for: Some(if all { Duration::ZERO } else { DAY }),
        dry_run: false,
    };
    let store = session.store()?;
    let report = store.gc(&options)?;
    let digests = store.root().join("statcache");
    crossdock_build::stat_cache::prune(&digests, unused_for)
        .with_context(|| format!("remove from {}", digests.display()))?;
    print(&format!(
        "removed {} blobs, {} unpacked layers, {} build cache records, {} cache mounts, {} partial downloads: {}",
        report.blobs,
        report.snapshots,
        report.cache_records,
        report.cache_mounts,
        report.partials,
        size(report.bytes)
    ));
    report.failed.iter().chain(&report.damaged).for_each(|problem| eprintln!("warning: {problem}"));
    Ok(u8::from(!report.failed.is_empty()))
}
