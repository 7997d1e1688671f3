//! volume: directories that outlive the containers that use them, as docker's local volumes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use crossdock_oci::Store;
use crossdock_oci::size::size;
use crossdock_oci::store::{Volume, VolumeRemoval};
use serde_json::{Value, json};

use super::listing::{self, formatted};
use crate::output::{confirmed, print, print_error, say};
use crate::session::Session;
use crate::template;
use crate::values::{age_seconds, random_id};

#[derive(Subcommand)]
pub enum VolumeCommand {
    /// Make a volume
    Create {
        /// Its name [default: one of its own]
        name: Option<String>,
        /// Labels: NAME=VALUE
        #[arg(long = "label", value_name = "NAME=VALUE")]
        labels: Vec<String>,
        /// Accepted for docker: local is the only driver
        #[arg(short, long, hide = true, default_value = "local")]
        driver: String,
        /// Refused: volumes are directories of the store
        #[arg(short, long = "opt", hide = true)]
        options: Vec<String>,
        /// Accept a volume that exists, as docker always does
        #[arg(long)]
        ignore: bool,
    },
    /// List volumes
    #[command(visible_alias = "list")]
    Ls {
        /// Only names
        #[arg(short, long)]
        quiet: bool,
        /// Only volumes of which this is true: name=TEXT, label=NAME[=VALUE], dangling=true|false
        #[arg(short, long = "filter", value_name = "NAME=VALUE")]
        filters: Vec<String>,
        /// table, json (an object a line), or a template such as '{{.Name}}'
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: String,
        /// Accepted for podman: sizes are not shown here
        #[arg(short, long, hide = true)]
        noheading: bool,
    },
    /// Show everything known about volumes
    Inspect {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// A template such as '{{.Mountpoint}}'
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
    },
    /// Remove volumes and their content
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names
        #[arg(required_unless_present = "all")]
        names: Vec<String>,
        /// A volume that does not exist is no error
        #[arg(short, long)]
        force: bool,
        /// All volumes that no container uses
        #[arg(short, long, conflicts_with = "names")]
        all: bool,
    },
    /// Remove volumes that no container uses: those without a name of their own, or all
    Prune {
        /// Also volumes with a name
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only volumes of which this is true: label=NAME[=VALUE], label!=NAME[=VALUE], until=AGE
        #[arg(long = "filter", value_name = "NAME=VALUE")]
        filters: Vec<String>,
    },
}

/// The label of a volume that was made without a name, as docker sets it.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

pub fn volume(session: &Session, command: VolumeCommand) -> Result<u8> {
    let store = session.store()?;
    match command {
        VolumeCommand::Create { name, labels, driver, options, ignore: _ } => {
            if driver != "local" || !options.is_empty() {
                bail!(
                    "volumes are directories of the store, without drivers and their options: mount other file systems yourself, and bind them with \"crossdock run --volume DIR:TARGET\""
                );
            }
            create(&store, name, &labels)
        }
        VolumeCommand::Ls { quiet, filters, format, noheading } => {
            let filters = filters.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
            let format = match (format.as_str(), noheading) {
                ("table", true) => "{{.Driver}}\t{{.Name}}".to_string(),
                (other, _) => other.to_string(),
            };
            list(&store, quiet, &filters, &format)
        }
        VolumeCommand::Inspect { names, format } => inspect(&store, &names, format.as_deref()),
        VolumeCommand::Rm { names, force, all } => remove(&store, names, force, all),
        VolumeCommand::Prune { all, force, filters } => {
            let what = if all { "all volumes that no container uses" } else { "all volumes without a name" };
            if !confirmed(what, force)? {
                return Ok(1);
            }
            let filters = filters.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
            let bytes = prune(&store, all, &filters)?;
            print(&format!("Total reclaimed space: {}", size(bytes)));
            Ok(0)
        }
    }
}

fn create(store: &Store, name: Option<String>, labels: &[String]) -> Result<u8> {
    let mut given = BTreeMap::new();
    for label in labels {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        if name.is_empty() {
            bail!("--label {label}: no name stands before \"=\"");
        }
        given.insert(name.to_string(), value.to_string());
    }
    let name = match name.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => {
            given.insert(ANONYMOUS.to_string(), String::new());
            random_id()?
        }
    };
    if !store.create_volume(&name, &given)? && !labels.is_empty() {
        say(&format!("warning: the volume {name} exists and keeps its labels"));
    }
    print(&name);
    Ok(0)
}

/// One `--filter`, named as in docker.
enum Filter {
    /// A part of the name.
    Name(String),
    /// A label, and its value if one was given; with `false`, volumes that do not have it.
    Label(String, Option<String>, bool),
    /// Whether no container uses it.
    Dangling(bool),
    /// Made before that time, in seconds since 1970.
    Before(u64),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter> {
        let Some((name, value)) = text.split_once('=') else { bail!("--filter {text}: not NAME=VALUE") };
        Ok(match name {
            "name" => Filter::Name(value.to_string()),
            "label" | "label!" => {
                let (label, value) =
                    value.split_once('=').map_or((value, None), |(l, v)| (l, Some(v.to_string())));
                Filter::Label(label.to_string(), value, name == "label")
            }
            "dangling" => {
                let value = crate::values::switch(value);
                Filter::Dangling(value.map_err(|error| anyhow::anyhow!("--filter {text}: {error}"))?)
            }
            "until" => {
                let now = jiff::Timestamp::now().as_second().max(0) as u64;
                let age = age_seconds(value).with_context(|| format!("--filter {text}"))?;
                Filter::Before(now.saturating_sub(age))
            }
            "driver" if value == "local" => Filter::Name(String::new()),
            _ => bail!("--filter {text}: it must be name=, label=, label!=, dangling= or until="),
        })
    }

    fn matches(&self, volume: &Volume) -> bool {
        match self {
            Filter::Name(part) => volume.name.contains(part),
            Filter::Label(name, value, wanted) => {
                let has = volume.labels.get(name).is_some_and(|own| value.as_ref().is_none_or(|v| v == own));
                has == *wanted
            }
            Filter::Dangling(dangling) => *dangling != volume.is_used,
            Filter::Before(time) => volume.created <= *time,
        }
    }
}

fn list(store: &Store, quiet: bool, filters: &[Filter], format: &str) -> Result<u8> {
    let volumes = store.volumes()?;
    let chosen = volumes.iter().filter(|volume| filters.iter().all(|filter| filter.matches(volume)));
    if quiet {
        chosen.for_each(|volume| print(&volume.name));
        return Ok(0);
    }
    let rows: Vec<_> = chosen.map(|volume| template::Value::of(&described(volume))).collect();
    formatted(format, "{{.Driver}}\t{{.Name}}", &rows)?;
    Ok(0)
}

/// A volume in docker's words.
fn described(volume: &Volume) -> Value {
    let created =
        i64::try_from(volume.created).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    json!({
        "CreatedAt": created.map(|time| time.to_string()),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

/// Shows what is there, then says what is not.
fn inspect(store: &Store, names: &[String], format: Option<&str>) -> Result<u8> {
    format.map_or(Ok(()), listing::check)?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match store.find_volume(name)? {
            Some(volume) => found.push(described(&volume)),
            None => errors.push(anyhow::anyhow!("no volume {name}: \"crossdock volume ls\" lists them")),
        }
    }
    match format {
        Some(template) => {
            for volume in &found {
                match listing::filled_json(template, volume) {
                    Ok(line) => print(&line),
                    Err(error) => errors.push(error),
                }
            }
        }
        None => print(&serde_json::to_string_pretty(&found)?),
    }
    errors.iter().for_each(print_error);
    Ok(u8::from(!errors.is_empty()))
}

fn remove(store: &Store, names: Vec<String>, force: bool, all: bool) -> Result<u8> {
    let names = match all {
        true => store.volumes()?.into_iter().filter(|v| !v.is_used).map(|v| v.name).collect(),
        false => names,
    };
    let mut failed = false;
    for name in names {
        match store.remove_volume(&name)? {
            VolumeRemoval::Removed(_) => print(&name),
            VolumeRemoval::Absent if force => {}
            VolumeRemoval::Absent => {
                say(&format!("error: no volume {name}: \"crossdock volume ls\" lists them"));
                failed = true;
            }
            VolumeRemoval::Used => {
                say(&format!("error: a container uses the volume {name}: end it first"));
                failed = true;
            }
        }
    }
    Ok(u8::from(failed))
}

/// Removes volumes that no container uses and prints their names; with `all` also those that were given a
/// name. Returns the bytes that they had.
fn prune(store: &Store, all: bool, filters: &[Filter]) -> Result<u64> {
    let mut bytes = 0;
    for volume in store.volumes()? {
        let is_wanted = all || volume.labels.contains_key(ANONYMOUS);
        if !is_wanted || !filters.iter().all(|filter| filter.matches(&volume)) {
            continue;
        }
        if let VolumeRemoval::Removed(size) = store.remove_volume(&volume.name)? {
            print(&format!("deleted: {}", volume.name));
            bytes += size;
        }
    }
    Ok(bytes)
}

/// For `system prune --volumes`: as in docker, volumes with a name stay.
pub fn prune_unnamed(store: &Store) -> Result<u64> {
    prune(store, false, &[])
}
