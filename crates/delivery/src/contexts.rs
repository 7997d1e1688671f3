//! Build contexts: directories, archives and Dockerfiles on standard input, Git repositories, addresses
//! (docker's reference, "docker build", "Build context"), and named contexts.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_builder::NamedContext;
use crossdock_builder::Secrets;
use crossdock_builder::git::{GitSource, is_git};
use crossdock_dockerfile::ignore::{self, Ignore};
use crossdock_dockerfile::parser;
use crossdock_oci::layer::extract_tar;
use crossdock_oci::store::{Owners, TemporaryDirectory};
use crossdock_oci::{Reference, Store};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::git;
use crate::input::{Kinds, read_if_there, read_whole};
use crate::source::Source;

/// Where the Dockerfile and the context come from.
pub struct Input {
    /// Bytes of the Dockerfile.
    pub dockerfile: Vec<u8>,
    /// The Dockerfile's name in messages.
    pub name: String,
    /// The directory of the context, if there is one.
    pub context: Option<PathBuf>,
    /// Rules of the ignore file.
    pub ignore: Ignore,
    /// The address of the context without a password, if it was fetched.
    pub address: Option<String>,
    /// The directory of a fetched or unpacked context, removed on drop.
    _temporary: Option<TemporaryDirectory>,
}

/// Where a build finds its context and its Dockerfile.
pub struct Where<'a> {
    /// A directory, an address, or `-` for standard input.
    pub context: &'a Path,
    /// The Dockerfile, or `-` for standard input; the context's own if absent.
    pub file: Option<&'a Path>,
    /// The ignore file; the Dockerfile's or the context's own if absent.
    pub ignore_file: Option<&'a Path>,
}

/// Fetches remote contexts into temporary directories.
pub struct Remote<'a> {
    /// The store that the temporary directories are in.
    pub store: &'a Store,
    /// Downloads.
    pub source: &'a Source<'a>,
    /// Whether a context that is a repository keeps `.git`.
    pub keep_git: bool,
    /// Secrets and agents that may open a repository.
    pub secrets: &'a dyn Secrets,
}

/// What was found at an address.
pub enum Fetched {
    /// A directory inside a temporary directory.
    Directory(TemporaryDirectory, PathBuf),
    /// A file that is not an archive.
    File(Vec<u8>),
}

impl Remote<'_> {
    /// Whether a context is an address; like docker, this takes `github.com/...` without a scheme, too.
    pub fn is_address(text: &str) -> bool {
        text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/")
    }

    /// Fetches what an address leads to.
    ///
    /// # Errors
    ///
    /// It cannot be had, or is neither an archive, a repository nor a file.
    pub fn fetch(&self, text: &str) -> Result<Fetched> {
        let address = whole_address(text);
        let shown = crossdock_builder::without_password(&address);
        let is_repository = is_git(&address) || address.starts_with("file://") || address != *text;
        let fetched = match is_repository {
            true => self.repository(&address),
            false if address.starts_with("http://") || address.starts_with("https://") => self.file(&address),
            false => bail!(
                "build context {shown}: it must be a directory, \"-\", a Git repository, or an http(s) address of an archive or a Dockerfile"
            ),
        };
        fetched.with_context(|| format!("build context {shown}"))
    }

    fn repository(&self, address: &str) -> Result<Fetched> {
        let source = GitSource::parse(address).map_err(anyhow::Error::msg)?;
        let directory = self.store.temporary_directory()?;
        let (keep_git, secrets) = (self.keep_git, self.secrets);
        let checkout = git::Checkout { source: &source, keep_git, allow_file: true, secrets };
        let commit = checkout.run(directory.path())?;
        self.source.note_repository(address, &commit);
        let top = std::fs::canonicalize(directory.path())?;
        let missing = || format!("directory \"{}\" of commit {commit}", source.directory);
        let path = std::fs::canonicalize(top.join(&source.directory)).with_context(missing)?;
        if !path.starts_with(&top) {
            bail!("{}: a link leads out of the repository", missing());
        }
        Ok(Fetched::Directory(directory, path))
    }

    fn file(&self, address: &str) -> Result<Fetched> {
        let directory = self.store.temporary_directory()?;
        let (path, unpacked) = (directory.path().join("download"), directory.path().join("context"));
        self.source.client()?.download(address, &path)?;
        self.source.note_download(address, &path)?;
        let mut file = std::fs::File::open(&path)?;
        let mut head = Vec::new();
        (&mut file).take(512).read_to_end(&mut head)?;
        let stream = std::io::Cursor::new(head.clone()).chain(file);
        if !is_archive(&head) {
            let mut bytes = Vec::new();
            read_dockerfile(stream, &mut bytes, "the address")?;
            return Ok(Fetched::File(bytes));
        }
        std::fs::create_dir(&unpacked)?;
        extract_tar(stream, &unpacked, Owners::Ignore, "context", self.store.unpack_limit())?;
        Ok(Fetched::Directory(directory, unpacked))
    }
}

/// An address with its scheme.
fn whole_address(text: &str) -> String {
    match text.starts_with("github.com/") {
        true => format!("https://{text}"),
        false => text.to_string(),
    }
}

/// Whether build arguments (`NAME=VALUE`) ask to keep `.git` in a context that is a repository (BuildKit,
/// "Built-in build args").
pub fn keeps_git<'a>(mut arguments: impl Iterator<Item = &'a str>) -> bool {
    arguments
        .any(|one| matches!(one, "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1" | "BUILDKIT_CONTEXT_KEEP_GIT_DIR=true"))
}

/// The input of a build that has only a Dockerfile and no context.
fn without_context(place: &Where<'_>, dockerfile: Vec<u8>, from: &str) -> Result<Input> {
    if let Some(file) = place.file {
        bail!("--file {} needs a context with that file, but {from} is a Dockerfile", file.display());
    }
    Ok(Input {
        dockerfile,
        name: "-".into(),
        context: None,
        ignore: Ignore::default(),
        address: None,
        _temporary: None,
    })
}

/// Finds and reads the Dockerfile and the ignore file, and fetches or unpacks the context if it is no
/// directory.
///
/// # Errors
///
/// What cannot be had or read, with its path or address.
pub fn input(remote: &Remote<'_>, place: &Where<'_>) -> Result<Input> {
    let from_stdin = place.context.as_os_str() == "-";
    let file_is_stdin = place.file.is_some_and(|f| f.as_os_str() == "-");
    if from_stdin && file_is_stdin {
        bail!("only one of the context and the Dockerfile can be read from standard input");
    }
    let text = place.context.to_string_lossy();
    let (mut temporary, mut address) = (None, None);
    let mut context = Some(place.context.to_path_buf());
    if Remote::is_address(&text) && !place.context.exists() {
        address = Some(crossdock_builder::without_password(&whole_address(&text)));
        match remote.fetch(&text)? {
            Fetched::File(dockerfile) => {
                let input = without_context(place, dockerfile, "the address")?;
                return Ok(Input { address, ..input });
            }
            Fetched::Directory(directory, path) => {
                context = Some(path);
                temporary = Some(directory);
            }
        }
    }
    if from_stdin {
        let (head, rest) = read_head()?;
        if !is_archive(&head) {
            let mut dockerfile = head;
            read_dockerfile(rest, &mut dockerfile, "standard input")?;
            return without_context(place, dockerfile, "standard input");
        }
        let directory = remote.store.temporary_directory()?;
        let stream = std::io::Cursor::new(head).chain(rest);
        extract_tar(stream, directory.path(), Owners::Ignore, "context", remote.store.unpack_limit())?;
        context = Some(directory.path().to_path_buf());
        temporary = Some(directory);
    }
    let directory = context.clone().expect("set above");
    let kind =
        std::fs::metadata(&directory).with_context(|| format!("build context {}", directory.display()))?;
    if !kind.is_dir() {
        bail!("build context {} is not a directory", directory.display());
    }
    let own_ignores: Option<Vec<PathBuf>> = place.ignore_file.map(|file| vec![file.to_path_buf()]);
    if let Some(file) = place.ignore_file.filter(|file| !file.exists()) {
        bail!("--ignorefile {}: there is no such file", file.display());
    }
    let context = std::fs::canonicalize(&directory).with_context(|| directory.display().to_string())?;
    if file_is_stdin {
        let mut dockerfile = Vec::new();
        read_dockerfile(std::io::stdin(), &mut dockerfile, "standard input")?;
        let paths = ignore_files(&context, None).into_iter().filter_map(|path| match &temporary {
            Some(_) => within(&context, &path),
            None => Some(path),
        });
        let paths = paths.collect::<Vec<_>>();
        let ignore = read_ignore(own_ignores.as_deref().unwrap_or(&paths))?;
        return Ok(Input {
            dockerfile,
            name: "-".into(),
            context: Some(context),
            ignore,
            address,
            _temporary: temporary,
        });
    }
    // Links in a remote context must not lead to files of this machine: an error message would show their
    // lines.
    let inside = |path: PathBuf| if temporary.is_some() { within(&context, &path) } else { Some(path) };
    let path = match place.file {
        // In a remote context, --file is a path inside it; otherwise a path on this machine, as in buildx.
        Some(file) if temporary.is_some() => inside(context.join(file))
            .with_context(|| format!("the context has no Dockerfile {}", file.display()))?,
        Some(file) => file.to_path_buf(),
        None => {
            // The first that exists: buildx's names, then podman's.
            let names = ["Dockerfile", "dockerfile", "Containerfile"].map(|name| context.join(name));
            let mut there = names.iter().filter(|path| path.exists()).filter_map(|path| inside(path.clone()));
            there.next().unwrap_or_else(|| context.join("Dockerfile"))
        }
    };
    if place.file.is_none() && temporary.is_some() && inside(path.clone()).is_none() {
        bail!("the context has no Dockerfile (give the path of another one in it with --file)");
    }
    // A file that the user names may be a pipe; a file of a context may not.
    let kinds = if place.file.is_some() && temporary.is_none() { Kinds::Any } else { Kinds::Regular };
    let dockerfile = read_whole(&path, parser::SIZE_MAX as u64, kinds).with_context(|| {
        let hint = if place.file.is_none() { " (give another one with --file)" } else { "" };
        format!("the Dockerfile {}{hint}", path.display())
    })?;
    let ignores = ignore_files(&context, Some(&path)).into_iter().filter_map(inside).collect::<Vec<_>>();
    let ignore = read_ignore(own_ignores.as_deref().unwrap_or(&ignores))?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Input { dockerfile, name, context: Some(context), ignore, address, _temporary: temporary })
}

/// Resolves a path inside a context, with the context as the root of all links; `None` if nothing is there.
pub fn within(context: &Path, path: &Path) -> Option<PathBuf> {
    let relative = path.strip_prefix(context).unwrap_or(path);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = rustix::fs::open(context, flags, Mode::empty()).ok()?;
    let file = openat2(&root, relative, flags, Mode::empty(), resolve).ok()?;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// The files that may hold the rules of what a context leaves out, the first that exists counts: those of
/// the Dockerfile, then those of the context. The names and their order are those of buildah
/// (containerignore(5)); BuildKit knows the names with `docker` alone.
pub fn ignore_files(context: &Path, dockerfile: Option<&Path>) -> Vec<PathBuf> {
    let beside = |dockerfile: &Path, suffix: &str| {
        let mut name = dockerfile.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let own = dockerfile
        .into_iter()
        .flat_map(|file| [".dockerignore", ".containerignore"].map(|s| beside(file, s)));
    own.chain([".containerignore", ".dockerignore"].map(|name| context.join(name))).collect()
}

/// Reads the first ignore file that exists.
///
/// # Errors
///
/// The file and line that are wrong.
pub fn read_ignore(paths: &[PathBuf]) -> Result<Ignore> {
    for path in paths {
        if let Some(text) = read_if_there(path, ignore::SIZE_MAX as u64, Kinds::Regular)? {
            return Ignore::parse(&text)
                .map_err(|e| anyhow::anyhow!("{}:{}: {e}", path.display(), e.lines.start));
        }
    }
    Ok(Ignore::default())
}

/// Appends the rest of a Dockerfile from a stream to `dockerfile`; stops reading once it is too large.
fn read_dockerfile(stream: impl Read, dockerfile: &mut Vec<u8>, from: &str) -> Result<()> {
    let limit = parser::SIZE_MAX;
    let rest = (limit + 1).saturating_sub(dockerfile.len()) as u64;
    stream.take(rest).read_to_end(dockerfile).with_context(|| format!("read {from}"))?;
    if dockerfile.len() > limit {
        bail!("the Dockerfile from {from} is larger than {limit} bytes, the limit");
    }
    Ok(())
}

fn read_head() -> Result<(Vec<u8>, std::io::Stdin)> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        bail!("standard input is a terminal: pipe a Dockerfile or a tar archive into this command");
    }
    let mut head = Vec::new();
    stdin.lock().take(512).read_to_end(&mut head).context("read standard input")?;
    Ok((head, std::io::stdin()))
}

fn is_archive(head: &[u8]) -> bool {
    crossdock_oci::layer::may_be_archive(head)
}

/// Reads the values of `--build-context`; also returns the temporary directories of the remote ones.
///
/// # Errors
///
/// The value that is wrong, or what cannot be fetched.
pub fn contexts(
    remote: &Remote<'_>,
    given: &[String],
) -> Result<(BTreeMap<String, NamedContext>, Vec<TemporaryDirectory>)> {
    let (mut all, mut directories) = (BTreeMap::new(), Vec::new());
    for text in given {
        let Some((name, source)) = text.split_once('=').filter(|(n, s)| !n.is_empty() && !s.is_empty())
        else {
            bail!("--build-context {text}: not NAME=SOURCE");
        };
        let context = if let Some(image) = source.strip_prefix("docker-image://") {
            NamedContext::Image(image.parse::<Reference>()?)
        } else if let Some(layout) = source.strip_prefix("oci-layout://") {
            layout_context(layout)
        } else if let Some(stage) = source.strip_prefix("target:") {
            NamedContext::Stage(stage.to_string())
        } else if Remote::is_address(source) {
            match remote.fetch(source)? {
                Fetched::Directory(directory, path) => {
                    directories.push(directory);
                    // As with the build's own context: no link may lead to a file of this machine.
                    let files = ignore_files(&path, None).into_iter().filter_map(|file| within(&path, &file));
                    let ignore = read_ignore(&files.collect::<Vec<_>>())?;
                    NamedContext::Directory { path, ignore }
                }
                Fetched::File(_) => {
                    bail!("--build-context {name}: the address leads to a file that is no tar archive")
                }
            }
        } else {
            let path = std::fs::canonicalize(source).with_context(|| format!("--build-context {text}"))?;
            if !path.is_dir() {
                bail!("--build-context {text}: not a directory");
            }
            let ignore = read_ignore(&ignore_files(&path, None))?;
            NamedContext::Directory { path, ignore }
        };
        all.insert(name.to_string(), context);
    }
    Ok((all, directories))
}

/// Reads `PATH[:TAG][@DIGEST]`.
fn layout_context(text: &str) -> NamedContext {
    let (path, name) = match text.split_once('@') {
        Some((path, digest)) => (path.split(':').next().unwrap_or(path), Some(digest.to_string())),
        None => match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_string())),
            _ => (text, None),
        },
    };
    NamedContext::OciLayout { path: PathBuf::from(path), name }
}
