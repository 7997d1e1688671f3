//! system df and system prune.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use crossdock_oci::Store;
use crossdock_oci::size::size;
use crossdock_oci::store::{CacheUsage, GcOptions, Keep};
use serde_json::json;

use super::listing::{self, Filter, Listed};
use crate::output::{ago, confirmed, print, seconds, table};
use crate::session::Session;
use crate::translations;
use crate::values::age_seconds;

#[derive(Subcommand)]
pub enum SystemCommand {
    /// Show the space that the store uses
    Df(DfArgs),
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
    PruneCache(PruneArgs),
    /// Remove what nothing needs, and images without a name
    Prune(SystemPruneArgs),
}

#[derive(clap::Args)]
pub struct SystemPruneArgs {
    #[command(flatten)]
    pub prune: PruneArgs,
    /// Also volumes without a name of their own that no container uses
    #[arg(long)]
    pub volumes: bool,
}

#[derive(clap::Args)]
pub struct DfArgs {
    /// Also each image and each record of the build cache
    #[arg(short, long)]
    pub verbose: bool,
    /// json (an object a line), or a template such as '{{.Type}} {{.Size}}'
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    pub format: Option<String>,
}

/// Options of the commands that remove build cache.
#[derive(clap::Args)]
pub struct PruneArgs {
    /// Also the build cache and cache mounts that were used of late
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only what this is true of: until=AGE (made, or last used, before that), label=NAME[=VALUE],
    /// label!=NAME[=VALUE] (of images)
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// Only build cache not used for this time: 30m, 24h, 7d
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<String>,
    /// Build cache that always stays, in bytes; the least recently used goes first
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES")]
    pub reserved_space: Option<String>,
    /// Build cache that may stay at most, in bytes
    #[arg(long, value_name = "BYTES")]
    pub max_used_space: Option<String>,
    /// Room that there shall be on the disk, in bytes: build cache goes until there is
    #[arg(long, value_name = "BYTES")]
    pub min_free_space: Option<String>,
}

impl PruneArgs {
    /// Build cache that stays, in bytes.
    fn kept(&self, store: &Store) -> Result<Option<u64>> {
        let read = |flag: &str, text: &Option<String>| {
            let bytes = |text: &String| {
                crossdock_dockerfile::values::bytes(text)
                    .with_context(|| format!("{flag} {text}: not a size"))
            };
            text.as_ref().map(bytes).transpose()
        };
        let keep = Keep {
            reserved_space: read("--reserved-space", &self.reserved_space)?,
            max_used_space: read("--max-used-space", &self.max_used_space)?,
            min_free_space: read("--min-free-space", &self.min_free_space)?,
        };
        Ok(keep.bytes(store)?)
    }

    /// The time for which removed build cache was not used.
    fn age(&self) -> Result<Option<Duration>> {
        let mut age = self.older_than.as_deref().map(age_seconds).transpose().context("--older-than")?;
        for text in &self.filters {
            if let Some(value) = text.strip_prefix("until=").or_else(|| text.strip_prefix("unused-for=")) {
                let seconds = match seconds(value) {
                    Some(time) => u64::try_from(jiff::Timestamp::now().as_second() - time).unwrap_or(0),
                    None => age_seconds(value).with_context(|| format!("--filter {text}"))?,
                };
                age = Some(seconds);
            }
        }
        Ok(age.map(Duration::from_secs))
    }

    /// Filters that are about images.
    fn image_filters(&self, store: &Store) -> Result<Vec<Filter>> {
        let about_images = self.filters.iter().filter(|text| !text.starts_with("unused-for="));
        let parsed = about_images.map(|text| match text.split(['=', '!']).next() {
            Some("until" | "label") => Filter::parse(store, text),
            _ => bail!("--filter {text}: known are until=AGE, label=NAME[=VALUE] and label!=NAME[=VALUE]"),
        });
        parsed.collect()
    }
}

/// A partial download that was not continued for this long is removed.
const DAY: Duration = Duration::from_secs(86_400);

pub fn system(session: &Session, command: SystemCommand) -> Result<u8> {
    match command {
        SystemCommand::Df(args) => df(session, &args),
        SystemCommand::PruneImages { all, force, filters } => prune_images(session, all, force, &filters),
        SystemCommand::PruneCache(args) => prune_cache(session, &args),
        SystemCommand::Prune(args) => prune(session, &args.prune, args.volumes),
    }
}

fn df(session: &Session, args: &DfArgs) -> Result<u8> {
    let store = session.store()?;
    let usage = store.disk_usage()?;
    let parts = [
        ("Images", usage.images),
        ("Unpacked layers", usage.snapshots),
        ("Build cache", usage.build_cache),
        ("Cache mounts", usage.cache_mounts),
        ("Partial downloads", usage.partials),
        ("Volumes", usage.volumes),
        ("Translations", translations::usage(store.root()).context("look for translations")?),
    ];
    usage.damaged.iter().for_each(|problem| eprintln!("warning: {problem}"));
    if let Some(format) = &args.format {
        for (name, part) in parts {
            let row = json!({
                "Type": name, "TotalCount": part.count.to_string(), "Size": size(part.bytes),
                "Reclaimable": size(part.reclaimable),
            });
            match format.as_str() {
                "json" => print(&row.to_string()),
                template => print(&listing::filled_json(template, &row)?),
            }
        }
        return Ok(0);
    }
    let mut rows = vec![["TYPE", "TOTAL", "SIZE", "RECLAIMABLE"].map(str::to_string).to_vec()];
    for (name, part) in parts {
        rows.push(vec![name.to_string(), part.count.to_string(), size(part.bytes), size(part.reclaimable)]);
    }
    table(&rows);
    if args.verbose {
        df_images(&store)?;
        df_records(&usage.records);
    }
    Ok(0)
}

/// The images, with the bytes of their layers; images share layers.
fn df_images(store: &Store) -> Result<()> {
    let heads = ["REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "CREATED", "SIZE"];
    let mut rows = vec![heads.map(str::to_string).to_vec()];
    for listed in listing::all(store)? {
        let name = listed.reference.as_ref();
        let created = listed.image.config.created.as_deref().and_then(seconds);
        rows.push(vec![
            name.map_or("<none>".to_string(), |name| {
                let familiar = name.familiar();
                familiar.rsplit_once(':').map_or(familiar.clone(), |(before, _)| before.to_string())
            }),
            name.and_then(|name| name.tag()).unwrap_or("<none>").to_string(),
            listed.entry.platform.to_string(),
            listed.image.manifest.config.digest.short().to_string(),
            created.map_or("N/A".to_string(), ago),
            size(listed.image.manifest.size()),
        ]);
    }
    print("\nImages:");
    table(&rows);
    Ok(())
}

/// The records of the build cache, the most recently used first.
fn df_records(records: &[CacheUsage]) {
    let mut rows = vec![["CACHE ID", "LAST USED", "SIZE"].map(str::to_string).to_vec()];
    for record in records.iter().rev() {
        let used = record.used.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let key = record.key.rsplit(['-', ':']).next().unwrap_or(&record.key);
        let id = key.chars().take(12).collect::<String>();
        rows.push(vec![id, ago(i64::try_from(used).unwrap_or(0)), size(record.bytes)]);
    }
    print("\nBuild cache:");
    table(&rows);
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
        if !listing::match_all(&filters, &listed) || listing::came_after(&filters, &listed) {
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
fn prune_cache(session: &Session, args: &PruneArgs) -> Result<u8> {
    let is_age = |text: &&String| text.starts_with("until=") || text.starts_with("unused-for=");
    if let Some(other) = args.filters.iter().find(|text| !is_age(text)) {
        bail!("--filter {other}: only until=AGE is known");
    }
    let (age, keep) = (args.age()?, args.kept(&session.store()?)?);
    if !confirmed("the build cache and cache mounts", args.force)? {
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

/// Removes what nothing needs.
fn prune(session: &Session, args: &PruneArgs, volumes: bool) -> Result<u8> {
    let what = if args.all {
        "the whole build cache, cache mounts, images without a name, and everything that no image needs"
    } else {
        "images without a name, and everything that neither an image nor the build cache needs"
    };
    let store = session.store()?;
    let filters = args.image_filters(&store)?;
    let (age, keep) = (args.age()?, args.kept(&store)?);
    if !confirmed(what, args.force)? {
        return Ok(1);
    }
    if filters.is_empty() {
        for target in store.untagged_digests()? {
            store.remove_untagged(&target)?;
        }
    } else {
        let unnamed = listing::all(&store)?.into_iter().filter(|listed| listed.reference.is_none());
        let is_meant =
            |listed: &Listed| listing::match_all(&filters, listed) && !listing::came_after(&filters, listed);
        for listed in unnamed.filter(is_meant) {
            let target = listed.index.as_ref().unwrap_or(&listed.entry.manifest);
            store.remove_untagged(&target.digest)?;
        }
    }
    if volumes {
        super::volume::prune_unnamed(&store)?;
    }
    drop(store);
    // A label says nothing about the build cache, so only an age or --all reaches it.
    let only_images = !filters.is_empty() && age.is_none();
    let unused_for = age.or(if args.all && !only_images { Some(Duration::ZERO) } else { None });
    let options = GcOptions {
        cache_unused_for: unused_for,
        cache_bytes_max: keep,
        cache_mounts_unused_for: if args.all { unused_for } else { None },
        partials_unused_for: Some(if args.all { Duration::ZERO } else { DAY }),
        dry_run: false,
    };
    prune_stat_cache(session, unused_for)?;
    collect(session, &options)
}

/// Removes the recorded digests of context files, and what the emulator has translated.
fn prune_stat_cache(session: &Session, unused_for: Option<Duration>) -> Result<()> {
    let digests = session.store()?.root().join("statcache");
    if let Some(unused_for) = unused_for {
        translations::prune(session.root(), unused_for).context("remove translations")?;
    }
    crossdock_builder::files::stat_cache::prune(&digests, unused_for)
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
