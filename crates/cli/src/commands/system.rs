//! system df and system prune.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use crossdock_oci::size::size;
use crossdock_oci::store::GcOptions;

use super::listing::{self, Filter};
use crate::output::{confirmed, print, table};
use crate::session::Session;
use crate::values::age_seconds;

#[derive(Subcommand)]
pub enum SystemCommand {
    /// Show the space that the store uses
    Df,
    /// Remove images: those without a name, or all
    #[command(name = "prune-images", hide = true)]
    PruneImages {
        /// All images, not only those without a name
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only images of which this is true: until=AGE, label=NAME[=VALUE], label!=NAME[=VALUE]
        #[arg(long = "filter", value_name = "NAME=VALUE")]
        filters: Vec<String>,
    },
    /// Remove the build cache and cache mounts
    #[command(name = "prune-cache", hide = true)]
    PruneCache {
        /// Accepted for docker: the whole cache is removed anyhow
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only what was not used for this time: until=24h
        #[arg(long = "filter", value_name = "NAME=VALUE")]
        filters: Vec<String>,
        /// Build cache to keep, in bytes; the least recently used goes first
        #[arg(long, visible_aliases = ["max-used-space", "reserved-space"], value_name = "BYTES")]
        keep_storage: Option<String>,
    },
    /// Remove what nothing needs, and images without a name
    Prune {
        /// Also the build cache and images without a use
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only build cache older than this: 30m, 24h, 7d
        #[arg(long, value_name = "AGE")]
        older_than: Option<String>,
        /// Also volumes without a name of their own that no container uses
        #[arg(long)]
        volumes: bool,
        /// Build cache to keep, in bytes; the least recently used goes first
        #[arg(long, value_name = "BYTES")]
        keep_storage: Option<String>,
    },
}

/// A partial download that was not continued for this long is removed.
const DAY: Duration = Duration::from_secs(86_400);

pub fn system(session: &Session, command: SystemCommand) -> Result<u8> {
    match command {
        SystemCommand::Df => df(session),
        SystemCommand::PruneImages { all, force, filters } => prune_images(session, all, force, &filters),
        SystemCommand::PruneCache { all: _, force, filters, keep_storage } => {
            prune_cache(session, force, &filters, keep_storage.as_deref())
        }
        SystemCommand::Prune { all, force, older_than, volumes, keep_storage } => {
            let keep = keep_storage.as_deref().map(kept).transpose()?;
            let age = older_than.map(|text| age_seconds(&text)).transpose().context("--older-than")?;
            prune(session, all, force, volumes, age, keep)
        }
    }
}

/// Reads `--keep-storage`, in bytes.
fn kept(text: &str) -> Result<u64> {
    crossdock_dockerfile::values::bytes(text).with_context(|| format!("--keep-storage {text}: not a size"))
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
        ("Volumes", usage.volumes),
    ];
    for (name, part) in parts {
        rows.push(vec![name.to_string(), part.count.to_string(), size(part.bytes), size(part.reclaimable)]);
    }
    table(&rows);
    usage.damaged.iter().for_each(|problem| eprintln!("warning: {problem}"));
    Ok(0)
}

/// Removes images only; the build cache stays as it is.
fn prune_images(session: &Session, all: bool, force: bool, filters: &[String]) -> Result<u8> {
    let what = if all { "all images" } else { "all images without a name" };
    if !confirmed(what, force)? {
        return Ok(1);
    }
    let store = session.store()?;
    let filters = filters.iter().map(|text| Filter::parse(&store, text)).collect::<Result<Vec<_>>>()?;
    for listed in listing::all(&store)? {
        if !listing::match_all(&filters, &listed) {
            continue;
        }
        let manifest = &listed.entry.manifest.digest;
        match &listed.reference {
            Some(reference) if all => {
                store.remove_manifests(reference, std::slice::from_ref(manifest))?;
                print(&format!("untagged: {} for {}", reference.familiar(), listed.entry.platform));
            }
            Some(_) => {}
            None => {
                let target = listed.index.as_ref().map_or(manifest, |index| &index.digest);
                if store.remove_untagged(target)? {
                    print(&format!("deleted: {target}"));
                }
            }
        }
    }
    if filters.is_empty() {
        // Images that cannot be listed go, too.
        for target in store.untagged_digests()? {
            if store.remove_untagged(&target)? {
                print(&format!("deleted: {target}"));
            }
        }
    }
    // The handle's lease keeps everything it looked up, so a new handle collects.
    drop(store);
    collect(session, &GcOptions::default())
}

/// Removes the build cache and cache mounts; images stay, also those without a name.
fn prune_cache(session: &Session, force: bool, filters: &[String], keep: Option<&str>) -> Result<u8> {
    let mut age = None;
    for text in filters {
        match text.split_once('=') {
            Some(("until" | "unused-for", value)) => {
                let seconds = age_seconds(value).with_context(|| format!("--filter {text}"))?;
                age = Some(Duration::from_secs(seconds));
            }
            _ => bail!("--filter {text}: only until=AGE is known"),
        }
    }
    let keep = keep.map(kept).transpose()?;
    if !confirmed("the build cache and cache mounts", force)? {
        return Ok(1);
    }
    // With a size to keep, age alone removes nothing.
    let unused_for = age.or(keep.is_none().then_some(Duration::ZERO));
    prune_stat_cache(session, unused_for)?;
    let options = GcOptions {
        cache_unused_for: unused_for,
        cache_bytes_max: keep,
        cache_mounts_unused_for: unused_for,
        ..GcOptions::default()
    };
    collect(session, &options)
}

fn prune(
    session: &Session,
    all: bool,
    force: bool,
    volumes: bool,
    age: Option<u64>,
    keep: Option<u64>,
) -> Result<u8> {
    let what = if all {
        "the whole build cache, cache mounts, images without a name, and everything that no image needs"
    } else {
        "images without a name, and everything that neither an image nor the build cache needs"
    };
    if !confirmed(what, force)? {
        return Ok(1);
    }
    let store = session.store()?;
    for target in store.untagged_digests()? {
        store.remove_untagged(&target)?;
    }
    if volumes {
        super::volume::prune_unnamed(&store)?;
    }
    drop(store);
    let unused_for = age.map(Duration::from_secs).or(if all { Some(Duration::ZERO) } else { None });
    let options = GcOptions {
        cache_unused_for: unused_for,
        cache_bytes_max: keep,
        cache_mounts_unused_for: if all { unused_for } else { None },
        partials_unused_for: Some(if all { Duration::ZERO } else { DAY }),
        dry_run: false,
    };
    prune_stat_cache(session, unused_for)?;
    collect(session, &options)
}

/// Removes the recorded digests of context files.
fn prune_stat_cache(session: &Session, unused_for: Option<Duration>) -> Result<()> {
    let digests = session.store()?.root().join("statcache");
    crossdock_builder::stat_cache::prune(&digests, unused_for)
        .with_context(|| format!("remove from {}", digests.display()))
}

/// Collects garbage, and prints what was removed.
fn collect(session: &Session, options: &GcOptions) -> Result<u8> {
    let report = session.store()?.gc(options)?;
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
