//! pull, push, images, tag, rmi, inspect, history.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use crossdock_oci::store::GcOptions;
use crossdock_oci::{Descriptor, Reference, Store, StoreError};
use crossdock_platform::Platform;
use crossdock_registry::transfer::{Platforms, PullOptions, PushOptions, WithReferrers, push as push_image};

use super::source::{self, Source};
use super::{print, table};
use crate::args::{
    CopyArgs, HistoryArgs, ImagesArgs, InspectArgs, ProgressMode, PullArgs, PushArgs, RmiArgs, TagArgs,
};
use crate::progress::Display;
use crate::session::{self, Session, ago, seconds, size};

fn display(quiet: bool) -> Display {
    Display::new(if quiet { ProgressMode::Quiet } else { ProgressMode::Auto })
}

pub fn pull(session: &Session, args: PullArgs) -> Result<u8> {
    session.warn_of_single_id();
    let reference = session::reference(&args.image)?;
    let store = session.store()?;
    let display = display(args.quiet);
    let source = Source::new(session, &store, display.clone());
    let options = match args.all_platforms {
        true => PullOptions::all(),
        false => PullOptions {
            platforms: Platforms::Only(session::platforms(&args.platform)?),
            any_platform: false,
            on_layer_ready: None,
        },
    };
    let pulled = source.pull(&reference, options, !args.no_unpack)?;
    display.clear();
    let digest = match (&pulled.index, pulled.images.first()) {
        (Some(index), _) => &index.digest,
        (None, Some((_, manifest))) => &manifest.digest,
        (None, None) => bail!("{} has no images", reference.familiar()),
    };
    if !args.quiet {
        let names: Vec<String> = pulled.images.iter().map(|(platform, _)| platform.to_string()).collect();
        eprintln!(
            "pulled {} for {} ({} moved)",
            reference.familiar(),
            names.join(", "),
            size(pulled.bytes_moved)
        );
    }
    print(digest.as_str());
    Ok(0)
}

/// What a push of this name sends: the index if there is one and all its images are here, else the one image.
pub fn push_target(store: &Store, text: &str, platform: Option<&Platform>) -> Result<Descriptor> {
    let found = source::find(store, text, platform)?;
    match (platform, &found.index, &found.images[..]) {
        (None, Some(index), _) => Ok(index.clone()),
        (_, _, [only]) => Ok(only.manifest.clone()),
        (None, None, several) => {
            // Images of several platforms under one name, built or pulled one by one.
            let entries =
                several.iter().map(|i| i.manifest.clone().with_platform(i.platform.clone())).collect();
            let index = crossdock_oci::Index::new(entries);
            let bytes = serde_json::to_vec(&index).context("write the index")?;
            store.write_blob(&bytes)?;
            Ok(Descriptor::of(crossdock_oci::media_type::OCI_INDEX, &bytes))
        }
        (Some(_), _, _) => Ok(source::choose(&found, text)?.manifest.clone()),
    }
}

pub fn push(session: &Session, args: PushArgs) -> Result<u8> {
    let store = session.store()?;
    let platform = session::platform(args.platform.as_ref())?;
    let target = push_target(&store, &args.image, platform.as_ref())?;
    let destination = args.destination.as_deref().unwrap_or(&args.image);
    let reference = session::reference(destination.strip_prefix("docker://").unwrap_or(destination))?;
    let display = display(args.quiet);
    let source = Source::new(session, &store, display.clone());
    let pushed = push_image(source.client()?, &store, &reference, &target, &PushOptions::default());
    let pushed = pushed.map_err(|e| explain_missing(e.into(), &args.image))?;
    display.clear();
    if !args.quiet {
        eprintln!(
            "pushed {}: {} blobs and {} moved, {} mounted, {} already there",
            reference.familiar(),
            pushed.moved,
            size(pushed.bytes_moved),
            pushed.mounted,
            pushed.existed
        );
    }
    print(pushed.digest.as_str());
    Ok(0)
}

pub fn copy(session: &Session, args: CopyArgs) -> Result<u8> {
    let name = |text: &str| match text.split_once("://") {
        Some(("docker", name)) => session::reference(name),
        None => session::reference(text),
        Some((transport, _)) => bail!(
            "{text}: only registries, not {transport}: see \"crossdock load\", \"save\" and \"push\" for archives and the store"
        ),
    };
    let mut sources = args.names.iter().map(|text| name(text)).collect::<Result<Vec<_>>>()?;
    let mut targets = args.tags.iter().map(|text| name(text)).collect::<Result<Vec<_>>>()?;
    if targets.is_empty() {
        if sources.len() != 2 {
            bail!(
                "copy needs a source and a destination; to make an index of several sources give --tag NAME"
            );
        }
        targets.extend(sources.pop());
    }
    let platforms = match args.platform.is_empty() || args.all {
        true => Platforms::All,
        false => Platforms::Only(session::platforms(&args.platform)?),
    };
    let referrers = match args.referrers {
        None => WithReferrers::Listed,
        Some(true) => WithReferrers::All,
        Some(false) => WithReferrers::No,
    };
    let display = display(args.quiet);
    let client = session.client(std::sync::Arc::new(display.clone()))?;
    let mut digest = None;
    for to in &targets {
        let existing = args.append.then(|| client.head_manifest(to)).transpose()?.flatten();
        let from: Vec<&Reference> = existing.map(|_| to).into_iter().chain(&sources).collect();
        let copied = crossdock_registry::transfer::copy(&client, &from, to, &platforms, referrers)?;
        if !args.quiet {
            display.say(&format!(
                "copied {} to {}: {} blobs and {} moved, {} mounted, {} already there",
                sources.iter().map(Reference::familiar).collect::<Vec<_>>().join(", "),
                to.familiar(),
                copied.moved,
                size(copied.bytes_moved),
                copied.mounted,
                copied.existed
            ));
            if copied.referrers > 0 || args.referrers == Some(true) {
                display.say(&format!("with {} manifests that refer to it", copied.referrers));
            }
        }
        digest = Some(copied.digest);
    }
    display.clear();
    digest.iter().for_each(|digest| print(digest.as_str()));
    Ok(0)
}

/// An index of which only some images were pulled cannot be pushed as it is.
fn explain_missing(error: anyhow::Error, image: &str) -> anyhow::Error {
    match error.downcast_ref::<crossdock_registry::Error>() {
        Some(crossdock_registry::Error::Incomplete { .. }) => error.context(format!(
            "pull the rest first (crossdock pull --all-platforms {image}), or push one image with --platform"
        )),
        _ => error,
    }
}

pub fn images(session: &Session, args: ImagesArgs) -> Result<u8> {
    let store = session.store()?;
    let wanted = args.name.as_deref().map(session::reference).transpose()?;
    let tag_was_given =
        args.name.as_deref().is_some_and(|n| n.rsplit('/').next().is_some_and(|n| n.contains([':', '@'])));
    let mut rows = Vec::new();
    let mut json = Vec::new();
    let mut ids = BTreeSet::new();
    let (records, damaged) = store.readable_images()?;
    damaged.iter().for_each(|problem| eprintln!("warning: {problem}"));
    for record in records {
        if let Some(wanted) = &wanted {
            let same = if tag_was_given {
                record.reference == *wanted
            } else {
                record.reference.name() == wanted.name()
            };
            if !same {
                continue;
            }
        }
        for image in &record.images {
            let loaded = match store.load_image(&image.manifest) {
                Ok(loaded) => loaded,
                Err(problem) => {
                    let name = record.reference.familiar();
                    let remove = format!("or remove its name with \"crossdock rmi {name}\"");
                    eprintln!(
                        "warning: image {name} for {} cannot be listed: {problem}, {remove}",
                        image.platform
                    );
                    continue;
                }
            };
            let id = &loaded.manifest.config.digest;
            let bytes: u64 = loaded.manifest.size();
            let created = loaded.config.created.as_deref().and_then(seconds);
            ids.insert(if args.no_trunc { id.to_string() } else { id.short().to_string() });
            let familiar = record.reference.with_tag(record.reference.tag().unwrap_or("latest"))?.familiar();
            let (repository, tag) = familiar.rsplit_once(':').unwrap_or((&familiar, ""));
            let tag = record.reference.tag().map_or("<none>", |_| tag);
            json.push(serde_json::json!({
                "Repository": repository, "Tag": tag, "Platform": image.platform.to_string(), "ID": id, "Digest": image.manifest.digest,
                "Index": record.index.as_ref().map(|i| &i.digest), "Created": loaded.config.created, "Size": bytes,
            }));
            let mut row = vec![repository.to_string(), tag.to_string(), image.platform.to_string()];
            if args.digests {
                row.push(image.manifest.digest.to_string());
            }
            row.push(if args.no_trunc { id.to_string() } else { id.short().to_string() });
            row.push(created.map(ago).unwrap_or_else(|| "N/A".to_string()));
            row.push(size(bytes));
            rows.push(row);
        }
    }
    if args.quiet {
        ids.iter().for_each(|id| print(id));
    } else if !formatted(&args.format, &json)? {
        let mut head = vec!["REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "CREATED", "SIZE"];
        if args.digests {
            head.insert(3, "DIGEST");
        }
        rows.insert(0, head.into_iter().map(str::to_string).collect());
        table(&rows);
    }
    Ok(0)
}

pub fn tag(session: &Session, args: TagArgs) -> Result<u8> {
    let store = session.store()?;
    let target = session::reference(&args.target)?;
    let found = source::find(&store, &args.source, None)?;
    match &found.reference {
        Some(reference) => store.tag(reference, &target)?,
        None => {
            for image in &found.images {
                store.put_image(&target, &image.platform, &image.manifest)?;
            }
        }
    }
    Ok(0)
}

pub fn rmi(session: &Session, args: RmiArgs) -> Result<u8> {
    let store = session.store()?;
    let platform = session::platform(args.platform.as_ref())?;
    let mut failed = false;
    for text in &args.images {
        if let Err(error) = remove(&store, text, platform.as_ref()) {
            if args.force && error.to_string().starts_with("no image") {
                continue;
            }
            session::print_error(&error);
            failed = true;
        }
    }
    // The handle's lease holds what it looked at; another one collects.
    drop(store);
    let report = session.store()?.gc(&GcOptions::default())?;
    report.damaged.iter().for_each(|problem| eprintln!("warning: {problem}"));
    Ok(u8::from(failed))
}

fn remove(store: &Store, text: &str, platform: Option<&Platform>) -> Result<()> {
    let found = match source::find(store, text, platform) {
        Ok(found) => found,
        // A name whose record is damaged can still go.
        Err(e) if is_damaged_record(&e) && platform.is_none() => {
            let reference = session::reference(text)?;
            store.remove(&reference, None)?;
            print(&format!("Untagged: {}", reference.familiar()));
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let references: Vec<Reference> = match found.reference {
        Some(reference) => vec![reference],
        // By id: every name of that image goes.
        None => {
            let digests: Vec<_> = found.images.iter().map(|i| &i.manifest.digest).collect();
            let (records, _) = store.readable_images()?;
            let named = records
                .into_iter()
                .filter(|r| r.images.iter().any(|i| digests.contains(&&i.manifest.digest)));
            named.map(|r| r.reference).collect()
        }
    };
    for reference in references {
        store.remove(&reference, platform)?;
        print(&format!("Untagged: {}", reference.familiar()));
    }
    Ok(())
}

fn is_damaged_record(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<StoreError>(), Some(StoreError::Record { .. }))
}

pub fn inspect(session: &Session, args: InspectArgs) -> Result<u8> {
    let store = session.store()?;
    let platform = session::platform(args.platform.as_ref())?;
    let mut all = Vec::new();
    for text in &args.images {
        let found = source::find(&store, text, platform.as_ref())?;
        for image in &found.images {
            let loaded = store.load_image(&image.manifest)?;
            let config: serde_json::Value = serde_json::from_slice(&loaded.config_bytes)?;
            let bytes = loaded.manifest.layers_size();
            let platform = &image.platform;
            all.push(serde_json::json!({
                "Id": loaded.manifest.config.digest,
                "RepoTags": found.reference.iter().map(Reference::familiar).collect::<Vec<_>>(),
                "RepoDigests": found.reference.iter().map(|r| r.with_digest(image.manifest.digest.clone()).familiar()).collect::<Vec<_>>(),
                "Platform": platform.to_string(),
                "Os": platform.os,
                "Architecture": platform.architecture,
                "Variant": platform.variant,
                "Created": loaded.config.created,
                "Author": loaded.config.author,
                "Config": config.get("config"),
                "RootFS": {"Type": "layers", "Layers": loaded.config.rootfs.diff_ids},
                "Size": bytes,
                "Index": found.index,
                "Descriptor": image.manifest,
                "Manifest": loaded.manifest,
                "History": loaded.config.history,
            }));
        }
    }
    match args.format.as_deref() {
        None | Some("json") => print(&serde_json::to_string_pretty(&all)?),
        Some(template) => {
            for image in &mut all {
                complete(&mut image["Config"]);
                print(&filled(template, image)?);
            }
        }
    }
    Ok(0)
}

/// What docker's own configuration always has, so that templates may ask for it.
fn complete(config: &mut serde_json::Value) {
    use serde_json::json;
    if !config.is_object() {
        *config = json!({});
    }
    let always = [
        ("User", json!("")),
        ("WorkingDir", json!("")),
        ("StopSignal", json!("")),
        ("Env", json!([])),
        ("Cmd", json!([])),
        ("Entrypoint", json!([])),
        ("OnBuild", json!([])),
        ("Shell", json!([])),
        ("Labels", json!({})),
        ("Volumes", json!({})),
        ("ExposedPorts", json!({})),
        ("Healthcheck", json!(null)),
    ];
    let map = config.as_object_mut().expect("made one above");
    for (name, empty) in always {
        map.entry(name).or_insert(empty);
    }
}

/// Prints a list as `--format` says; false for the table, which the caller makes.
fn formatted(format: &str, rows: &[serde_json::Value]) -> Result<bool> {
    match format {
        "table" => return Ok(false),
        "json" => print(&serde_json::to_string_pretty(rows)?),
        template if template.contains("{{") => {
            for row in rows {
                // For people, as docker has them.
                let mut row = row.clone();
                let created = row["Created"].as_str().map(str::to_string);
                row["CreatedSince"] = created.as_deref().and_then(seconds).map(ago).into();
                row["CreatedAt"] = created.into();
                row["Size"] = row["Size"].as_u64().map(size).into();
                print(&filled(template, &row)?);
            }
        }
        other => bail!("--format {other}: it must be table, json, or a template such as '{{{{.ID}}}}'"),
    }
    Ok(true)
}

fn filled(template: &str, value: &serde_json::Value) -> Result<String> {
    crate::template::render(template, value).with_context(|| format!("--format {template}"))
}

pub fn history(session: &Session, args: HistoryArgs) -> Result<u8> {
    let store = session.store()?;
    let platform = session::platform(args.platform.as_ref())?;
    let found = source::find(&store, &args.image, platform.as_ref())?;
    let image = source::choose(&found, &args.image)?;
    let loaded = store.load_image(&image.manifest)?;
    let mut sizes = loaded.manifest.layers.iter().map(|l| l.size);
    let mut rows = Vec::new();
    let mut json = Vec::new();
    for entry in &loaded.config.history {
        let bytes = if entry.empty_layer == Some(true) { 0 } else { sizes.next().unwrap_or(0) };
        let created =
            entry.created.as_deref().and_then(seconds).map(ago).unwrap_or_else(|| "N/A".to_string());
        let by = entry.created_by.clone().unwrap_or_default();
        let shown: String = match args.no_trunc || by.chars().count() <= 60 {
            true => by.clone(),
            false => by.chars().take(59).chain(['…']).collect(),
        };
        json.push(serde_json::json!({"Created": entry.created, "CreatedBy": by, "Size": bytes, "Comment": entry.comment}));
        rows.push(vec![created, shown, size(bytes), entry.comment.clone().unwrap_or_default()]);
    }
    // The newest first, as docker shows them.
    rows.reverse();
    json.reverse();
    if formatted(&args.format, &json)? {
        return Ok(0);
    }
    rows.insert(0, ["CREATED", "CREATED BY", "SIZE", "COMMENT"].map(str::to_string).to_vec());
    table(&rows);
    Ok(0)
}
