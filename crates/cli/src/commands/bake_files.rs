//! Where the definitions of `bake` come from: files here, or a Git repository, an archive or a file at an
//! address, whose relative paths then lie there and not here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_bake::{DEFAULT_FILES, SourceFile, Target};
use crossdock_builder::{Given, Secret};
use crossdock_delivery::contexts::{Fetched, Remote, ignore_files, within};
use crossdock_delivery::input::{Kinds, read_if_there, read_whole};
use crossdock_oci::Store;
use crossdock_oci::store::TemporaryDirectory;

use crate::progress::{Display, ProgressMode};
use crate::session::Session;

/// Largest file of definitions that is read, in bytes.
const FILE_SIZE_MAX: u64 = crossdock_bake::FILE_SIZE_MAX as u64;

/// What stands before a path of this machine.
pub const HERE: &str = "cwd://";

/// Definitions, and where their relative paths lie.
pub struct Definitions {
    pub files: Vec<SourceFile>,
    /// `.env`, with variables for files of Compose.
    pub dotenv: Option<SourceFile>,
    origin: Origin,
}

enum Origin {
    Here,
    /// What was fetched, removed at the end.
    Directory(PathBuf, #[expect(dead_code, reason = "removed on drop")] TemporaryDirectory),
    /// A single file, beside which nothing is.
    File,
}

/// Whether a word is the address of definitions and not the name of a target.
pub fn is_address(word: &str) -> bool {
    let schemes = ["https://", "http://", "git://", "ssh://", "file://", "git@", "github.com/"];
    schemes.iter().any(|scheme| word.starts_with(scheme))
}

/// What opens the repository of definitions: buildx has variables for that, since secrets belong to targets.
fn git_secrets() -> Given {
    let ids = ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"];
    let given = |id: &str| {
        let value = std::env::var(format!("BUILDX_BAKE_{id}")).ok().filter(|value| !value.is_empty())?;
        Some((id.to_string(), Secret(value.into_bytes())))
    };
    let agent = std::env::var("BUILDX_BAKE_GIT_SSH").ok().filter(|paths| !paths.is_empty());
    let agent = agent.and_then(|paths| Some(("default".to_string(), paths.split(',').next()?.into())));
    Given { secrets: ids.into_iter().filter_map(given).collect(), agents: agent.into_iter().collect() }
}

impl Definitions {
    /// Reads the files that are given, or those with usual names: here, or at `address`.
    ///
    /// # Errors
    ///
    /// There are none, one cannot be read, the address leads to nothing.
    pub fn read(session: &Session, store: &Store, address: Option<&str>, given: &[PathBuf]) -> Result<Self> {
        let dotenv = read_if_there(Path::new(".env"), FILE_SIZE_MAX, Kinds::Regular)?;
        let dotenv = dotenv.map(|bytes| text(".env", bytes)).transpose()?;
        let mut all = Definitions { files: Vec::new(), dotenv, origin: Origin::Here };
        if let Some(address) = address {
            let source = crate::desk::source_of(session, store, Display::new(ProgressMode::Quiet));
            let secrets = git_secrets();
            let remote = Remote { store, source: &source, keep_git: false, secrets: &secrets };
            let shown = crossdock_builder::without_password(address);
            match remote.fetch(address).with_context(|| format!("definitions of {shown}"))? {
                Fetched::Directory(directory, path) => all.origin = Origin::Directory(path, directory),
                Fetched::File(bytes) => {
                    all.origin = Origin::File;
                    let name = shown.split(['?', '#']).next().unwrap_or(&shown);
                    all.files.push(text(name, bytes)?);
                }
            }
        }
        for path in given {
            let file = all.given(path)?;
            all.files.push(file);
        }
        if all.files.is_empty() {
            all.files = all.usual()?;
        }
        Ok(all)
    }

    /// A file of `--file`.
    fn given(&self, path: &Path) -> Result<SourceFile> {
        let name = path.display().to_string();
        match (path.to_str(), &self.origin) {
            (Some("-"), _) => {
                text("standard input", read_whole(Path::new("/dev/stdin"), FILE_SIZE_MAX, Kinds::Any)?)
            }
            (Some(path), _) if path.starts_with(HERE) => {
                let path = &path[HERE.len()..];
                text(path, read_whole(Path::new(path), FILE_SIZE_MAX, Kinds::Any)?)
            }
            (_, Origin::Directory(top, _)) => {
                let found = within(top, &top.join(path)).with_context(|| {
                    format!(
                        "{name} is not in what was fetched: write {HERE}{name} for a file of this machine"
                    )
                })?;
                text(&name, read_whole(&found, FILE_SIZE_MAX, Kinds::Regular)?)
            }
            (_, Origin::File) => {
                bail!(
                    "{name}: nothing is beside a single file: write {HERE}{name} for a file of this machine"
                )
            }
            (_, Origin::Here) => text(&name, read_whole(path, FILE_SIZE_MAX, Kinds::Any)?),
        }
    }

    /// The files with usual names.
    fn usual(&self) -> Result<Vec<SourceFile>> {
        let top = match &self.origin {
            Origin::Directory(top, _) => top.as_path(),
            _ => Path::new(""),
        };
        let mut files = Vec::new();
        for name in DEFAULT_FILES.into_iter().filter(|name| top.join(name).exists()) {
            files.push(self.given(Path::new(name))?);
        }
        if files.is_empty() {
            let place = if top == Path::new("") { "here" } else { "there" };
            bail!("no file of definitions is {place}: {}; name one with --file", DEFAULT_FILES.join(", "));
        }
        Ok(files)
    }

    /// Reads a file that a file of Compose names.
    pub fn other(&self, path: &str) -> Result<String, String> {
        let file = self.given(Path::new(path)).map_err(|error| crate::output::chain(&error))?;
        Ok(file.text)
    }

    /// Whether the definitions come from elsewhere, so that they may not take what they like of this machine.
    pub fn is_remote(&self) -> bool {
        !matches!(self.origin, Origin::Here)
    }

    /// The directory for a relative path of the definitions, such as a context.
    ///
    /// # Errors
    ///
    /// Nothing is there, or a link leads out of what was fetched.
    pub fn directory(&self, path: &str) -> Result<PathBuf> {
        match &self.origin {
            Origin::Here => Ok(PathBuf::from(path)),
            Origin::Directory(top, _) => within(top, &top.join(path))
                .with_context(|| format!("{path} is not in the repository or archive of the definitions")),
            Origin::File => bail!(
                "{path}: nothing is beside definitions that are a single file: write {HERE}{path} for a directory of this machine"
            ),
        }
    }

    /// The Dockerfile `name` of a context that [`Definitions::directory`] gave.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn dockerfile(&self, context: &Path, name: &str) -> Result<PathBuf> {
        let Origin::Directory(top, _) = &self.origin else { return Ok(context.join(name)) };
        let missing = || format!("the Dockerfile {name} is not in the repository or archive");
        let found = within(top, &context.join(name)).with_context(missing)?;
        // Errors show lines of these files, so that no link may make one of this machine's files of them.
        for ignore in ignore_files(context, Some(&context.join(name))) {
            if ignore.symlink_metadata().is_ok_and(|file| file.is_symlink()) {
                bail!("{} is a link: make it a file", ignore.file_name().unwrap_or_default().display());
            }
        }
        Ok(found)
    }
}

fn text(name: &str, bytes: Vec<u8>) -> Result<SourceFile> {
    let text = String::from_utf8(bytes).with_context(|| format!("{name}: not UTF-8 text"))?;
    Ok(SourceFile { name: name.to_string(), text })
}

/// What `--allow` grants, besides privileges of steps.
#[derive(Default)]
struct Granted {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    all_read: bool,
    all_write: bool,
    ssh: bool,
}

impl Granted {
    fn of(allowed: &[String]) -> Granted {
        let mut granted = Granted::default();
        for text in allowed {
            let (what, path) = text.split_once('=').unwrap_or((text, ""));
            let (reads, writes) = match what {
                "fs" => (true, true),
                "fs.read" => (true, false),
                "fs.write" => (false, true),
                "ssh" => {
                    granted.ssh = true;
                    continue;
                }
                _ => continue,
            };
            match path {
                "*" => {
                    granted.all_read |= reads;
                    granted.all_write |= writes;
                }
                path => {
                    let path = whole(path);
                    granted.read.extend(reads.then(|| path.clone()));
                    granted.write.extend(writes.then_some(path));
                }
            }
        }
        // The directory in which bake was started is granted, as in buildx.
        granted.read.push(whole("."));
        granted.write.push(whole("."));
        granted
    }
}

/// A path from the root, links resolved as far as it exists.
fn whole(path: &str) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let mut rest = Vec::new();
    let mut there = path.as_path();
    loop {
        if let Ok(found) = std::fs::canonicalize(there) {
            return rest.iter().rev().fold(found, |path, part| path.join(part));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_os_string());
                there = parent;
            }
            _ => return path,
        }
    }
}

/// Checks what a target of definitions from elsewhere takes of this machine: files outside of the directory
/// in which bake was started, and agents of ssh, need a grant.
///
/// # Errors
///
/// What is not granted, and the option that grants it.
pub fn check_grants(name: &str, target: &Target, allowed: &[String]) -> Result<()> {
    let granted = Granted::of(allowed);
    for (reads, path) in local_paths(target) {
        let (all, paths, option) = match reads {
            true => (granted.all_read, &granted.read, "fs.read"),
            false => (granted.all_write, &granted.write, "fs.write"),
        };
        let real = whole(&path);
        if !all && !paths.iter().any(|granted| real.starts_with(granted)) {
            bail!("the target {name} asks for {path} of this machine: grant it with --allow {option}={path}");
        }
    }
    if target.get("ssh").and_then(serde_json::Value::as_array).is_some_and(|all| !all.is_empty())
        && !granted.ssh
    {
        bail!("the target {name} asks for an agent of ssh: grant it with --allow ssh");
    }
    Ok(())
}

/// Paths of this machine in a target, and whether they are read or else written.
fn local_paths(target: &Target) -> Vec<(bool, String)> {
    let mut paths = Vec::new();
    let context = [target.text("context"), target.text("dockerfile")].into_iter().flatten();
    let contexts = target.map("contexts").into_iter().map(|(_, path)| path);
    for path in context.chain(contexts) {
        let path = path.strip_prefix(HERE).or_else(|| path.strip_prefix("oci-layout://")).map(|path| {
            // Of a layout, a tag or digest may follow.
            path.split(['@', ':']).next().unwrap_or(path)
        });
        paths.extend(path.map(|path| (true, if path.is_empty() { "." } else { path }.to_string())));
    }
    for (attribute, key, reads) in [
        ("secret", "src", true),
        ("cache-from", "src", true),
        ("cache-to", "dest", false),
        ("output", "dest", false),
    ] {
        let entries = target.get(attribute).and_then(serde_json::Value::as_array);
        let found = entries.into_iter().flatten().filter_map(|entry| entry[key].as_str());
        paths.extend(found.map(|path| (reads, path.to_string())));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_targets() {
        for address in
            ["https://x/y.git#main", "http://x/bake.hcl", "git@x:y.git", "github.com/a/b", "ssh://a/b"]
        {
            assert!(is_address(address), "{address}");
        }
        for target in ["app", "m-one", "cwd://x", "*"] {
            assert!(!is_address(target), "{target}");
        }
    }

    #[test]
    fn files_of_this_machine_are_granted_one_by_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let outside = directory.path().display().to_string();
        let mut target = Target::default();
        let context = serde_json::json!(format!("cwd://{outside}"));
        target.set("context", &context).expect("a context");
        target
            .set("output", &serde_json::json!([format!("type=local,dest={outside}/new/o")]))
            .expect("an output");
        target.set("secret", &serde_json::json!(["id=a,src=Cargo.toml"])).expect("a secret");
        let check = |target: &Target, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            check_grants("t", target, &allowed).map_err(|error| error.to_string())
        };
        let refused = |allowed: &[&str]| check(&target, allowed).expect_err("refused");
        assert!(refused(&[]).contains(&format!("--allow fs.read={outside}")));
        assert!(refused(&[&format!("fs.read={outside}")]).contains("--allow fs.write="));
        assert_eq!(check(&target, &[&format!("fs={outside}")]), Ok(()));
        assert_eq!(check(&target, &["fs.read=*", "fs.write=*"]), Ok(()));
        target.set("ssh", &serde_json::json!(["default"])).expect("an agent");
        assert!(check(&target, &["fs=*"]).expect_err("ssh").contains("--allow ssh"));
        assert_eq!(check(&target, &["fs=*", "ssh"]), Ok(()));
    }
}
