//! sync: all tags of names, or those of a list, between registries and directories (skopeo-sync(1)).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use crossdock_oci::{Digest, Reference};
use crossdock_registry::Client;
use crossdock_registry::transfer::{Platforms, WithReferrers};

use super::convert::{self, Form, Types};
use super::copy::{Plan, accesses, one};
use super::sync_list::{self, Wanted};
use super::transports::{Place, repository};
use crate::access::{Access, DestinationArgs, SourceArgs};
use crate::output::{chain, print, say, write_whole};
use crate::progress::{Display, ProgressMode};
use crate::session::Session;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    Docker,
    Dir,
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    Docker,
    Dir,
}

#[derive(clap::Args)]
pub struct SyncArgs {
    /// What the source is: docker (a name in a registry), dir (a directory of directories), yaml (a list)
    #[arg(short, long, value_enum, value_name = "TRANSPORT")]
    pub src: From,
    /// What the destination is: docker (a part of a registry) or dir (a directory)
    #[arg(short, long, value_enum, value_name = "TRANSPORT")]
    pub dest: To,
    /// The source: a name, with a tag or without for all tags; a directory; a file
    pub source: String,
    /// The destination: a registry, perhaps with the beginning of a name; a directory
    pub destination: String,
    /// Images keep their whole name, with the registry, below the destination
    #[arg(long)]
    pub scoped: bool,
    /// The images of all platforms [default: this machine's]
    #[arg(short, long)]
    pub all: bool,
    /// Say what would be copied, and copy nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go on after an image that cannot be copied
    #[arg(long)]
    pub keep_going: bool,
    /// Text behind each tag at the destination
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub append_suffix: String,
    /// Media types of the copies: oci or v2s2 (Docker's) [default: those of the source]
    #[arg(short, long, value_name = "TYPE", value_parser = convert::types)]
    pub format: Option<Types>,
    /// End with an error if a copy would have another digest
    #[arg(long)]
    pub preserve_digests: bool,
    /// Do not copy signatures, and nothing else that refers to the images
    #[arg(long)]
    pub remove_signatures: bool,
    /// Write digest and name of each copy to a file, a line each
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// The only file with credentials [default: those of docker and podman]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// How often a failed request is tried again [default: 5]
    #[arg(long, value_name = "N")]
    pub retry_times: Option<u32>,
    #[command(flatten)]
    pub from: SourceArgs,
    #[command(flatten)]
    pub to: DestinationArgs,
}

/// One image to copy.
struct Pair {
    from: Place,
    /// The name below the destination, without the tag.
    name: String,
    /// The same with the registry, for `--scoped`.
    scoped: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// # Errors
///
/// A source that does not exist; with `--keep-going` the command ends with 1 after the rest.
pub fn sync(session: &Session, args: SyncArgs) -> Result<u8> {
    if args.src == From::Dir && args.dest == To::Dir {
        bail!("sync from dir to dir: copy the directory with cp --recursive");
    }
    let display = Display::new(ProgressMode::Auto);
    let list = match args.src {
        From::Yaml => sync_list::read(Path::new(&args.source))?,
        _ => Vec::new(),
    };
    session.reach(reached(&args, &list)?, args.retry_times);
    let client = session.client(std::sync::Arc::new(display.clone()))?;
    let pairs = pairs(&client, &args, &list)?;
    if pairs.is_empty() {
        bail!("{} has no images", args.source);
    }
    if args.dry_run {
        for pair in &pairs {
            print(&format!("would copy {} to {}", pair.from, destination(&args, pair)?));
        }
        return Ok(0);
    }
    copy_all(session, &client, &args, &pairs, &display)
}

/// How the registries are reached.
fn reached(args: &SyncArgs, list: &[Wanted]) -> Result<Vec<Access>> {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    if args.src == From::Docker {
        from.push(Place::Registry(repository(&args.source)?));
    }
    if args.dest == To::Docker {
        // Any name below the destination has its registry.
        to.push(Place::Registry(repository(&format!("{}/x", args.destination.trim_end_matches('/')))?));
    }
    let (from, to): (Vec<&Place>, Vec<&Place>) = (from.iter().collect(), to.iter().collect());
    let mut all: Vec<Access> = list.iter().map(Wanted::access).collect();
    all.extend(accesses(&from, &to, &args.from, &args.to, args.authfile.as_ref())?);
    Ok(all)
}

/// The images to copy.
fn pairs(client: &Client, args: &SyncArgs, list: &[Wanted]) -> Result<Vec<Pair>> {
    match args.src {
        From::Docker => of_repository(client, &args.source),
        From::Dir => of_directory(Path::new(&args.source)),
        From::Yaml => {
            let mut all = Vec::new();
            for wanted in list {
                all.extend(wanted.references(client)?.into_iter().map(of_reference));
            }
            Ok(all)
        }
    }
}

fn copy_all(
    session: &Session,
    client: &Client,
    args: &SyncArgs,
    pairs: &[Pair],
    display: &Display,
) -> Result<u8> {
    let plan = Plan {
        platforms: if args.all { Platforms::All } else { Platforms::Machine },
        referrers: if args.remove_signatures { WithReferrers::No } else { WithReferrers::Listed },
        form: Form { types: args.format, ..Form::default() },
        preserve_digests: args.preserve_digests,
        ..Plan::whole()
    };
    let (mut lines, mut failed) = (String::new(), 0);
    for pair in pairs {
        let to = destination(args, pair)?;
        match one(session, client, std::slice::from_ref(&pair.from), &to, &plan, false, display) {
            Ok(digest) => lines.push_str(&format!("{digest} {to}\n")),
            Err(error) if args.keep_going => {
                say(&format!("error: {}", chain(&error)));
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    display.clear();
    if let Some(path) = &args.digestfile {
        write_whole(path, lines.as_bytes())?;
    }
    print(&format!("copied {} of {} images", pairs.len() - failed, pairs.len()));
    Ok(u8::from(failed > 0))
}

/// Where an image goes.
fn destination(args: &SyncArgs, pair: &Pair) -> Result<Place> {
    let name = if args.scoped { &pair.scoped } else { &pair.name };
    let root = args.destination.trim_end_matches('/');
    let suffix = &args.append_suffix;
    match args.dest {
        To::Dir => {
            let version = match (&pair.tag, &pair.digest) {
                (Some(tag), _) => format!(":{tag}{suffix}"),
                (None, Some(digest)) => format!("@{digest}"),
                (None, None) => String::new(),
            };
            Ok(Place::Directory(PathBuf::from(format!("{root}/{name}{version}"))))
        }
        To::Docker => {
            let version = match (&pair.tag, &pair.digest) {
                (Some(tag), _) => format!(":{tag}{suffix}"),
                (None, Some(digest)) => format!("@{digest}"),
                (None, None) => format!(":latest{suffix}"),
            };
            Place::parse(&format!("docker://{root}/{name}{version}"))
        }
    }
}

fn of_reference(reference: Reference) -> Pair {
    // skopeo keeps only the last part of the name, unless it is told to keep all.
    let last = reference.repository().rsplit('/').next().unwrap_or_default().to_string();
    Pair {
        name: last,
        scoped: reference.name(),
        tag: reference.tag().map(str::to_string).filter(|_| reference.digest().is_none()),
        digest: reference.digest().cloned(),
        from: Place::Registry(reference),
    }
}

/// The images of a name: the one with the tag that was given, or those of all tags.
fn of_repository(client: &Client, source: &str) -> Result<Vec<Pair>> {
    let reference = repository(source)?;
    let name = source.strip_prefix("docker://").unwrap_or(source);
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if has_tag {
        return Ok(vec![of_reference(reference)]);
    }
    let tags = client.tags(&reference)?;
    tags.iter().map(|tag| Ok(of_reference(reference.with_tag(tag)?))).collect()
}

/// The images below a directory: each directory with a manifest is one, named by its path.
fn of_directory(root: &Path) -> Result<Vec<Pair>> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let reading = || format!("read {}", directory.display());
        if super::directory::is_one(&directory) {
            found.push(directory);
            continue;
        }
        for entry in std::fs::read_dir(&directory).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            // Links could lead in circles.
            if entry.file_type().with_context(reading)?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    found.sort();
    found.into_iter().map(|path| of_path(root, path)).collect()
}

fn of_path(root: &Path, path: PathBuf) -> Result<Pair> {
    let relative = path.strip_prefix(root).unwrap_or(&path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(path.file_name().unwrap_or_default())
    } else {
        relative
    };
    let text = relative.to_str().with_context(|| format!("{}: its name is no text", path.display()))?;
    let (name, tag, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, None, Some(digest.parse::<Digest>()?)),
        // Colons before the last slash are a registry's port.
        None => match text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((name, tag)) => (name, Some(tag.to_string()), None),
            None => (text, None, None),
        },
    };
    Ok(Pair {
        name: name.to_string(),
        scoped: name.to_string(),
        tag,
        digest,
        from: Place::Directory(path.clone()),
    })
}
