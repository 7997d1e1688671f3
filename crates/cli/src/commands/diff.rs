//! diff: what distinguishes two images, or two platforms of one: files and configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};

use anyhow::{Context, Result, bail};
use crossdock_builder::files::tree::{Entry, Tree};
use crossdock_oci::size::size;
use rustix::fs::{FileType, OFlags};
use serde_json::{Value, json};

use super::root::ImageRoot;
use crate::output::print;
use crate::session::Session;
use crate::values;

#[derive(clap::Args)]
pub struct DiffArgs {
    /// The image
    pub image: String,
    /// The other image; without it, two platforms of the image are compared
    pub other: Option<String>,
    /// Platform of both images, or given twice: of the first and of the second
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Vec<String>,
    /// What is written
    #[arg(long, value_enum, default_value_t = Form::Text)]
    pub format: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A line each with A for added, D for deleted, C for changed
    Text,
    /// One JSON object
    Json,
}

/// One file that differs.
struct Difference {
    path: String,
    before: Option<Facts>,
    after: Option<Facts>,
    /// What has changed: `content`, `mode`, ...
    changed: Vec<&'static str>,
}

/// What is compared of a file besides its content. Times are not compared: two builds never agree on them.
struct Facts {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    /// The target of a symbolic link, or the numbers of a device.
    target: String,
    /// Inode and change time: if they agree, both images have the same file of the store. The device is that
    /// of each image's overlay.
    identity: (u64, i64, u64),
}

pub fn diff(session: &Session, args: DiffArgs) -> Result<u8> {
    let platforms =
        args.platform.iter().map(|text| values::platform(Some(text))).collect::<Result<Vec<_>>>()?;
    let (first, second) = match (&platforms[..], &args.other) {
        ([], Some(_)) => (None, None),
        ([both], Some(_)) => (both.clone(), both.clone()),
        ([first, second], _) => (first.clone(), second.clone()),
        ([] | [_], None) => bail!("give a second image, or --platform twice to compare two platforms of one"),
        _ => bail!("--platform is given at most twice: for the first image and for the second"),
    };
    let other = args.other.as_ref().unwrap_or(&args.image);
    let store = session.store()?;
    let before = ImageRoot::open(session, &store, &args.image, first)?;
    let after = ImageRoot::open(session, &store, other, second)?;
    let files = compare(&before.tree, &after.tree)?;
    let config = compare_configs(&config_of(&before)?, &config_of(&after)?);
    let names = [(&args.image, &before), (other, &after)];
    match args.format {
        Form::Json => print(&serde_json::to_string_pretty(&as_json(&names, &files, &config))?),
        Form::Text => tell(&files, &config),
    }
    Ok(0)
}

/// The files that differ, in the order of their paths.
fn compare(before: &Tree, after: &Tree) -> Result<Vec<Difference>> {
    let (mut old, new) = (listed(before)?, listed(after)?);
    let mut all = Vec::new();
    for (path, (entry, facts)) in new {
        let Some((old_entry, old_facts)) = old.remove(&path) else {
            all.push(Difference {
                path: entry.shown(),
                before: None,
                after: Some(facts),
                changed: Vec::new(),
            });
            continue;
        };
        let mut changed = old_facts.changed(&facts);
        let is_file = facts.kind == FileType::RegularFile && old_facts.kind == FileType::RegularFile;
        if is_file && old_facts.identity != facts.identity {
            let is_equal = old_facts.size == facts.size && {
                let doing = || format!("compare {}", entry.shown());
                equal(before, &old_entry, after, &entry).with_context(doing)?
            };
            if !is_equal {
                changed.insert(0, "content");
            }
        }
        if !changed.is_empty() {
            let (before, after) = (Some(old_facts), Some(facts));
            all.push(Difference { path: entry.shown(), before, after, changed });
        }
    }
    all.extend(old.into_values().map(|(entry, facts)| Difference {
        path: entry.shown(),
        before: Some(facts),
        after: None,
        changed: Vec::new(),
    }));
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

type Listed = BTreeMap<Vec<u8>, (Entry, Facts)>;

fn listed(tree: &Tree) -> Result<Listed> {
    let mut all = Listed::new();
    let root = tree.entry("")?;
    tree.walk(&root, &|_| false, &mut |entry| {
        if !entry.path.is_empty() {
            all.insert(entry.path.clone(), (entry.clone(), Facts::of(tree, entry)?));
        }
        Ok(())
    })
    .context("read the files of the image")?;
    Ok(all)
}

impl Facts {
    fn of(tree: &Tree, entry: &Entry) -> std::io::Result<Facts> {
        let stat = &entry.stat;
        let kind = entry.file_type();
        let target = match kind {
            FileType::Symlink => one_line(&tree.read_link(&entry.path)?.to_string_lossy()),
            FileType::CharacterDevice | FileType::BlockDevice => {
                format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            }
            _ => String::new(),
        };
        Ok(Facts {
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            // Sizes of directories depend on the file system.
            size: if kind == FileType::RegularFile { stat.st_size as u64 } else { 0 },
            target,
            identity: (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec),
        })
    }

    fn changed(&self, now: &Facts) -> Vec<&'static str> {
        let mut changed = Vec::new();
        for (differs, what) in [
            (self.kind != now.kind, "type"),
            (self.target != now.target, "target"),
            // The mode of a link has no meaning.
            (self.mode != now.mode && now.kind != FileType::Symlink, "mode"),
            (self.owner != now.owner, "owner"),
        ] {
            if differs {
                changed.push(what);
            }
        }
        changed
    }

    fn kind(&self) -> &'static str {
        match self.kind {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "link",
            FileType::CharacterDevice => "character device",
            FileType::BlockDevice => "block device",
            FileType::Fifo => "FIFO",
            FileType::Socket => "socket",
            _ => "unknown",
        }
    }

    fn shown_owner(&self) -> String {
        format!("{}:{}", self.owner.0, self.owner.1)
    }

    fn as_json(&self) -> Value {
        let mut json = json!({
            "type": self.kind(), "mode": format!("{:04o}", self.mode), "uid": self.owner.0, "gid": self.owner.1,
        });
        if self.kind == FileType::RegularFile {
            json["size"] = self.size.into();
        }
        if !self.target.is_empty() {
            json["target"] = self.target.clone().into();
        }
        json
    }
}

/// Whether two files of the same size have the same content.
fn equal(before: &Tree, old: &Entry, after: &Tree, new: &Entry) -> std::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
    let open =
        |tree: &Tree, entry: &Entry| Ok::<_, std::io::Error>(File::from(tree.open_at(&entry.path, flags)?));
    let mut old = BufReader::with_capacity(1 << 16, open(before, old)?);
    let mut new = BufReader::with_capacity(1 << 16, open(after, new)?);
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let length = old.read(&mut left)?;
        if length == 0 {
            return Ok(new.read(&mut right)? == 0);
        }
        match new.read_exact(&mut right[..length]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

/// The configuration as it is compared: lists of `NAME=value` by name, and nothing that names layers or
/// times.
fn config_of(image: &ImageRoot) -> Result<BTreeMap<String, Value>> {
    let config: Value = serde_json::from_slice(&image.loaded.config_bytes)?;
    let mut fields = BTreeMap::new();
    for name in ["architecture", "variant", "os", "author"] {
        fields.insert(name.to_string(), config[name].clone());
    }
    for (name, value) in config["config"].as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("Env", Value::Array(all)) => {
                for variable in all.iter().filter_map(Value::as_str) {
                    let (variable, value) = variable.split_once('=').unwrap_or((variable, ""));
                    fields.insert(format!("Env.{variable}"), value.into());
                }
            }
            (_, Value::Object(map)) => {
                fields.extend(map.iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())));
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    fields.retain(|_, value| !value.is_null());
    Ok(fields)
}

/// The fields that differ, with their values before and after.
fn compare_configs(
    before: &BTreeMap<String, Value>,
    after: &BTreeMap<String, Value>,
) -> Vec<(String, Option<Value>, Option<Value>)> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    differing.map(|name| (name.clone(), before.get(name).cloned(), after.get(name).cloned())).collect()
}

fn tell(files: &[Difference], config: &[(String, Option<Value>, Option<Value>)]) {
    for file in files {
        let path = one_line(&file.path);
        match (&file.before, &file.after) {
            (Some(before), Some(after)) => {
                print(&format!("C /{path}  ({})", changes(before, after, &file.changed)));
            }
            (None, Some(facts)) => print(&format!("A /{path}  ({})", told(facts))),
            (Some(facts), None) => print(&format!("D /{path}  ({})", told(facts))),
            (None, None) => unreachable!("a difference has a file before or after"),
        }
    }
    for (name, before, after) in config {
        let name = name.escape_debug();
        // JSON escapes what a terminal would take for commands.
        match (before, after) {
            (Some(before), Some(after)) => print(&format!("C config {name}: {before} -> {after}")),
            (None, Some(after)) => print(&format!("A config {name}: {after}")),
            (Some(before), _) => print(&format!("D config {name}: {before}")),
            (None, None) => unreachable!("a difference has a value before or after"),
        }
    }
}

/// A name as one line that changes nothing on a terminal.
fn one_line(name: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    name.chars().map(shown).collect()
}

fn told(facts: &Facts) -> String {
    let what = match facts.kind {
        FileType::RegularFile => size(facts.size),
        FileType::Symlink => return format!("link to {}, {}", facts.target, facts.shown_owner()),
        _ if facts.target.is_empty() => facts.kind().to_string(),
        _ => format!("{} {}", facts.kind(), facts.target),
    };
    format!("{what}, {:04o}, {}", facts.mode, facts.shown_owner())
}

fn changes(before: &Facts, after: &Facts, changed: &[&str]) -> String {
    let change = |what: &&str| match *what {
        "content" => format!("content {} -> {}", size(before.size), size(after.size)),
        "type" => format!("{} -> {}", before.kind(), after.kind()),
        "target" => format!("{} -> {}", before.target, after.target),
        "mode" => format!("mode {:04o} -> {:04o}", before.mode, after.mode),
        _ => format!("owner {} -> {}", before.shown_owner(), after.shown_owner()),
    };
    changed.iter().map(change).collect::<Vec<_>>().join(", ")
}

fn as_json(
    names: &[(&String, &ImageRoot)],
    files: &[Difference],
    config: &[(String, Option<Value>, Option<Value>)],
) -> Value {
    let image = |(name, image): &(&String, &ImageRoot)| {
        json!({
            "name": name, "platform": image.loaded.config.platform().to_string(),
            "digest": image.loaded.manifest_digest,
        })
    };
    let file = |file: &Difference| {
        let kind = match (&file.before, &file.after) {
            (None, _) => "added",
            (_, None) => "deleted",
            _ => "changed",
        };
        json!({
            "path": format!("/{}", file.path), "kind": kind, "changed": file.changed,
            "before": file.before.as_ref().map(Facts::as_json), "after": file.after.as_ref().map(Facts::as_json),
        })
    };
    let field = |(name, before, after): &(String, Option<Value>, Option<Value>)| json!({"field": name, "before": before, "after": after});
    json!({
        "before": image(&names[0]),
        "after": image(&names[1]),
        "files": files.iter().map(file).collect::<Vec<_>>(),
        "config": config.iter().map(field).collect::<Vec<_>>(),
    })
}
