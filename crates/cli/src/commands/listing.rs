//! images: the list of images, its filters, and `--format` for lists.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use crossdock_oci::size::size;
use crossdock_oci::store::{ImageEntry, LoadedImage};
use crossdock_oci::{Descriptor, Reference, Store};
use serde_json::{Value as Json, json};

use crate::output::{ago, go_time, print, say, seconds, table};
use crate::session::Session;
use crate::template;
use crate::values::{self, age_seconds, switch};
use crossdock_delivery::source;

#[derive(clap::Args)]
pub struct ImagesArgs {
    /// Only images of this name
    pub name: Option<String>,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Accepted for docker; all images are always shown
    #[arg(short, long, hide = true)]
    pub all: bool,
    /// Only images of which this is true: reference=PATTERN, dangling=true|false, label=NAME[=VALUE],
    /// before=IMAGE, since=IMAGE, until=AGE
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// Show whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// table, json (an object a line), or a template such as '{{.ID}}' or 'table {{.Repository}}\t{{.ID}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: String,
}

/// An image of one platform under one of its names, or without one.
pub struct Listed {
    pub reference: Option<Reference>,
    pub index: Option<Descriptor>,
    pub entry: ImageEntry,
    pub image: LoadedImage,
    /// When its name, or it without one, was recorded in the store, in seconds since 1970.
    pub updated: u64,
}

impl Listed {
    /// When the image was made, in seconds since 1970.
    fn created(&self) -> Option<i64> {
        self.image.config.created.as_deref().and_then(seconds)
    }
}

/// All images, by name, then those without a name. An image that cannot be read is skipped with a warning.
pub fn all(store: &Store) -> Result<Vec<Listed>> {
    let (records, damaged) = store.readable_images()?;
    damaged.iter().for_each(|problem| say(&format!("warning: {problem}")));
    let named = records.into_iter().map(|r| (Some(r.reference), r.index, r.images, r.updated));
    let untagged = store.untagged()?.into_iter().map(|r| (None, r.index().cloned(), r.images, r.updated));
    let mut listed = Vec::new();
    for (reference, index, images, updated) in named.chain(untagged) {
        for entry in images {
            match store.load_image(&entry.manifest) {
                Ok(image) => {
                    let (reference, index) = (reference.clone(), index.clone());
                    listed.push(Listed { reference, index, entry, image, updated });
                }
                Err(problem) => {
                    let name =
                        reference.as_ref().map_or(entry.manifest.digest.to_string(), Reference::familiar);
                    say(&format!(
                        "warning: image {name} for {} cannot be listed: {problem}, or remove its name with \"crossdock rmi {name}\"",
                        entry.platform
                    ));
                }
            }
        }
    }
    Ok(listed)
}

/// One `--filter`, named as in docker.
pub enum Filter {
    Dangling(bool),
    Reference(String),
    /// A label, and its value if one was given; with `false`, images that do not have it.
    Label(String, Option<String>, bool),
    /// Made before that time, in seconds since 1970.
    Before(i64),
    /// `until=`: the same, of a time and not of another image.
    Until(i64),
    Since(i64),
}

impl Filter {
    /// Reads `NAME=VALUE`.
    pub fn parse(store: &Store, text: &str) -> Result<Filter> {
        let Some((name, value)) = text.split_once('=') else { bail!("--filter {text}: not NAME=VALUE") };
        let (name, wanted) = name.strip_suffix('!').map_or((name, true), |name| (name, false));
        let made = |name: &str| -> Result<i64> {
            let found = source::find(store, name, None).with_context(|| format!("--filter {text}"))?;
            let image = store.load_image(&source::choose(&found, name)?.manifest)?;
            let created = image.config.created.as_deref().and_then(seconds);
            created.with_context(|| format!("--filter {text}: the image does not say when it was made"))
        };
        Ok(match name {
            "label" => {
                let (label, value) =
                    value.split_once('=').map_or((value, None), |(l, v)| (l, Some(v.into())));
                Filter::Label(label.to_string(), value, wanted)
            }
            _ if !wanted => bail!("--filter {text}: only a label can be excluded"),
            "dangling" => {
                let value = switch(value);
                Filter::Dangling(value.map_err(|e| anyhow::anyhow!("--filter {text}: {e}"))?)
            }
            "reference" => Filter::Reference(value.to_string()),
            "before" => Filter::Before(made(value)?),
            "since" => Filter::Since(made(value)?),
            "until" => Filter::Until(match seconds(value) {
                Some(time) => time,
                None => {
                    let age = age_seconds(value).with_context(|| format!("--filter {text}"))?;
                    jiff::Timestamp::now().as_second() - i64::try_from(age).unwrap_or(i64::MAX)
                }
            }),
            other => bail!(
                "--filter {text}: unknown filter {other} (reference, dangling, label, before, since, until)"
            ),
        })
    }

    pub fn matches(&self, listed: &Listed) -> bool {
        match self {
            Filter::Dangling(wanted) => listed.reference.is_none() == *wanted,
            Filter::Reference(pattern) => listed.reference.as_ref().is_some_and(|reference| {
                let whole = reference.familiar();
                let name = reference.with_tag("x").map(|r| r.familiar()).unwrap_or_default();
                is_like(pattern, &whole) || is_like(pattern, name.trim_end_matches(":x"))
            }),
            Filter::Label(name, value, wanted) => {
                let found = listed.image.config.config.labels.as_ref().and_then(|labels| labels.get(name));
                let has = found.is_some_and(|found| value.as_ref().is_none_or(|value| found == value));
                has == *wanted
            }
            Filter::Before(time) | Filter::Until(time) => {
                listed.created().is_some_and(|created| created < *time)
            }
            Filter::Since(time) => listed.created().is_some_and(|created| created > *time),
        }
    }
}

/// Whether an image came into the store, or got its name, at the time of an `until=` or later: the times in
/// images are those of their makers, often 1970, and say nothing about that.
pub fn came_after(filters: &[Filter], listed: &Listed) -> bool {
    let updated = i64::try_from(listed.updated).unwrap_or(i64::MAX);
    filters.iter().any(|filter| matches!(filter, Filter::Until(time) if updated >= *time))
}

/// Whether an image passes all filters; of the filters for names one is enough, as with docker.
pub fn match_all(filters: &[Filter], listed: &Listed) -> bool {
    let (names, others): (Vec<&Filter>, Vec<&Filter>) =
        filters.iter().partition(|filter| matches!(filter, Filter::Reference(_)));
    (names.is_empty() || names.iter().any(|filter| filter.matches(listed)))
        && others.iter().all(|filter| filter.matches(listed))
}

/// Whether a text matches a pattern of Go's `path.Match`: `*` and `?` stand for anything but `/`.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // `star`: the index after the last `*`, and the end of what that `*` has matched so far.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == text[t] || (*c == '?' && text[t] != '/') => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, taken)) if text[taken] != '/' => {
                    star = Some((after, taken + 1));
                    (p, t) = (after, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

pub fn images(session: &Session, args: ImagesArgs) -> Result<u8> {
    let store = session.store()?;
    let mut filters =
        args.filters.iter().map(|text| Filter::parse(&store, text)).collect::<Result<Vec<_>>>()?;
    let name = match args.name.as_deref() {
        // A pattern of names, as docker accepts it.
        Some(pattern) if pattern.contains(['*', '?']) => {
            filters.push(Filter::Reference(pattern.to_string()));
            None
        }
        name => name,
    };
    let wanted = name.map(values::reference).transpose()?;
    let tag_was_given = name.is_some_and(|n| n.rsplit('/').next().is_some_and(|n| n.contains([':', '@'])));
    let has_name = |listed: &Listed| match (&wanted, &listed.reference) {
        (None, _) => true,
        (Some(wanted), Some(reference)) if tag_was_given => reference == wanted,
        (Some(wanted), Some(reference)) => reference.name() == wanted.name(),
        (Some(_), None) => false,
    };
    let mut listed = all(&store)?;
    listed.retain(|one| has_name(one) && match_all(&filters, one));
    if args.quiet {
        let id = |listed: &Listed| shown_id(listed, args.no_trunc);
        listed.iter().map(id).collect::<BTreeSet<_>>().iter().for_each(|id| print(id));
        return Ok(0);
    }
    let rows = listed.iter().map(|one| row(one, args.no_trunc)).collect::<Result<Vec<_>>>()?;
    let digests = if args.digests { "\t{{.Digest}}" } else { "" };
    let table = format!(
        "{{{{.Repository}}}}\t{{{{.Tag}}}}\t{{{{.Platform}}}}{digests}\t{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
    );
    formatted(&args.format, &table, &rows)?;
    Ok(0)
}

fn shown_id(listed: &Listed, whole: bool) -> String {
    let id = &listed.image.manifest.config.digest;
    if whole { id.to_string() } else { id.short().to_string() }
}

/// A row of the list: docker's members, which are also those of JSON, and podman's.
fn row(listed: &Listed, whole: bool) -> Result<template::Value> {
    let (repository, tag) = match &listed.reference {
        None => ("<none>".to_string(), "<none>".to_string()),
        Some(reference) => {
            let tag = reference.tag().unwrap_or("latest");
            let familiar = reference.with_tag(tag)?.familiar();
            let repository = familiar.rsplit_once(':').map_or(familiar.as_str(), |(name, _)| name);
            (repository.to_string(), reference.tag().unwrap_or("<none>").to_string())
        }
    };
    let bytes = listed.image.manifest.size();
    let created = listed.image.config.created.as_deref();
    let row = json!({
        "Repository": repository, "Tag": tag, "Platform": listed.entry.platform.to_string(),
        "ID": shown_id(listed, whole), "Digest": listed.entry.manifest.digest,
        "Index": listed.index.as_ref().map(|i| &i.digest), "Created": created,
        "CreatedSince": since(created), "CreatedAt": created.and_then(seconds).map_or("N/A".to_string(), go_time),
        "Size": size(bytes), "VirtualSize": size(bytes), "SharedSize": "N/A", "UniqueSize": "N/A",
        "Containers": "N/A",
    });
    let mut row = template::Value::of(&row);
    let names: Vec<String> = listed.reference.iter().map(Reference::familiar).collect();
    let more = json!({
        "Id": shown_id(listed, whole), "Names": names, "RepoTags": names,
        "Labels": listed.image.config.config.labels, "Dangling": listed.reference.is_none(),
        "Os": listed.entry.platform.os, "Arch": listed.entry.platform.architecture,
    });
    if let template::Value::Structure(members) = template::Value::of(&more) {
        members.into_iter().for_each(|member| row.imply(&member.name, member.value));
    }
    Ok(row)
}

/// How long ago an RFC 3339 time was, in docker's words.
pub fn since(created: Option<&str>) -> String {
    created.and_then(seconds).map_or_else(|| "N/A".to_string(), ago)
}

/// The titles of docker's columns, and of podman's.
const HEADS: [(&str, &str); 27] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Platform", "PLATFORM"),
    ("ID", "IMAGE ID"),
    ("Id", "IMAGE ID"),
    ("Digest", "DIGEST"),
    ("Index", "INDEX"),
    ("Created", "CREATED"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
    ("Names", "NAMES"),
    ("RepoTags", "NAMES"),
    ("Tags", "TAGS"),
    ("Labels", "LABELS"),
    ("Os", "OS"),
    ("Comment", "COMMENT"),
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Options", "OPTIONS"),
];

/// Prints a list as `--format` says: `table`, with the tab-separated columns of `own`; `table` and a
/// template; `json`; or a template.
pub fn formatted(format: &str, own: &str, rows: &[template::Value]) -> Result<()> {
    if format == "json" {
        rows.iter().for_each(|row| print(&row.json().to_string()));
        return Ok(());
    }
    let (template, is_table) = match format.strip_prefix("table") {
        Some("") => (own, true),
        Some(rest) if rest.starts_with([' ', '\t']) => (rest.trim_start(), true),
        _ => (format, false),
    };
    if !template.contains("{{") {
        bail!("--format {format}: it must be table, json, or a template such as '{{{{.ID}}}}'");
    }
    // The shell passes `\t` and `\n` on as two characters; like docker, read them here.
    let template = template.replace("\\t", "\t").replace("\\n", "\n");
    let rows = rows.iter().map(|row| filled(&template, row)).collect::<Result<Vec<_>>>()?;
    if !is_table {
        rows.iter().for_each(|row| print(row));
        return Ok(());
    }
    let heads = Json::Object(HEADS.iter().map(|(name, head)| (name.to_string(), json!(head))).collect());
    let head = template::render_head(&template, &template::Value::of(&heads));
    let head = head.with_context(|| format!("--format {template}"))?;
    let cells = |text: &str| text.split('\t').map(str::to_string).collect::<Vec<_>>();
    let lines = std::iter::once(head).chain(rows);
    table(&lines.map(|line| cells(&line)).collect::<Vec<_>>());
    Ok(())
}

/// Whether a text is a template of `--format`, whatever it is filled with.
pub fn check(template: &str) -> Result<()> {
    template::check(template).with_context(|| format!("--format {template}"))
}

/// A template of `--format` filled with a value.
pub fn filled(template: &str, value: &template::Value) -> Result<String> {
    template::render(template, value).with_context(|| format!("--format {template}"))
}

/// As [`filled`], with a value of JSON.
pub fn filled_json(template: &str, value: &Json) -> Result<String> {
    filled(template, &template::Value::of(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        for (pattern, text, like) in [
            ("app", "app", true),
            ("app*", "app:1", true),
            ("*:1", "app:1", true),
            ("a?p:*", "app:1.2", true),
            ("*", "team/app:1", false),
            ("*/*:1", "team/app:1", true),
            ("team/*", "team/app", true),
            ("*/app", "x/team/app", false),
            ("app", "apple", false),
            ("", "a", false),
        ] {
            assert_eq!(is_like(pattern, text), like, "{pattern} {text}");
        }
    }
}
