//! COPY, ADD and WORKDIR.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossdock_dockerfile::Lines;
use crossdock_dockerfile::ignore::{Ignore, clean};
use crossdock_dockerfile::instruction::{Instruction, Transfer};
use crossdock_oci::store::{Owners, Scratch, TemporaryDirectory};
use crossdock_oci::{Digest, Store};
use crossdock_sandbox::user::{User, UserError};
use percent_encoding::percent_decode_str;
use rustix::fs::{FileType, OFlags};

use super::names::Origin;
use super::request::NamedContext;
use super::stage::{StageRun, Step};
use crate::dockerfile::paths::{below, is_remote};
use crate::error::{BuildError, ErrorKind, shell_error};
use crate::event::Event;
use crate::files::chmod::ModeChange;
use crate::files::copy::{self, CopyOptions, Placement};
use crate::files::tree::{Entry, Tree, clean_relative, join};
use crate::files::unpack::{is_archive, on_disk, unpack};
use crate::git::{GitSource, is_git, without_password};
use crate::solver::engine::Reach;
use crate::solver::key::Key;
use crate::solver::layer::{Layer, MakeLater, open_root, trees_of};

/// A file, directory or download that an instruction names, with the tree it is in.
struct Item {
    /// Index into the trees of the step.
    tree: usize,
    entry: Entry,
    /// Whether the tree is the build context, whose file digests are remembered.
    in_context: bool,
    /// Whether an archive is unpacked rather than copied.
    unpack: bool,
    /// `--parents`: the path to keep below the destination.
    keep: Option<Vec<u8>>,
    /// Name of the content, if known without reading it.
    identity: Option<String>,
    options: usize,
}

/// The sources of one instruction.
#[derive(Default)]
struct Sources {
    trees: Vec<Tree>,
    items: Vec<Item>,
    options: Vec<CopyOptions>,
    /// Directories with downloads and heredocs; removed at the end.
    temporary: Vec<TemporaryDirectory>,
}

impl Sources {
    /// Adds an entry of a tree that was made for it, with the options that were added last.
    fn add(&mut self, tree: Tree, entry: Entry, unpack: bool) {
        self.items.push(Item {
            tree: self.trees.len(),
            entry,
            in_context: false,
            unpack,
            keep: None,
            identity: None,
            options: self.options.len() - 1,
        });
        self.trees.push(tree);
    }
}

impl StageRun<'_, '_, '_> {
    pub fn copy_step(
        &mut self,
        transfer: &Transfer,
        instruction: &Instruction,
        is_add: bool,
    ) -> Result<(), BuildError> {
        let lines = instruction.lines;
        let name = if is_add { "ADD" } else { "COPY" };
        let error = |message: String| ErrorKind::Dockerfile(message).at(lines);
        let expand_all =
            |words: &[String]| words.iter().map(|w| self.expand(w, lines)).collect::<Result<Vec<_>, _>>();
        let sources = expand_all(&transfer.sources)?;
        let destination = self.expand(&transfer.destination, lines)?;
        let is_directory = matches!(destination.as_str(), "" | "." | "..")
            || destination.ends_with('/')
            || destination.ends_with("/.")
            || transfer.parents;
        if sources.len() + transfer.heredocs.len() > 1 && !is_directory {
            let message = format!(
                "when using {name} with more than one source file, the destination must be a directory and end with a /"
            );
            return Err(error(message));
        }
        if transfer.checksum.is_some() && !matches!(&sources[..], [one] if is_remote(one)) {
            let message = match sources.len() {
                1 => format!("--checksum is for what ADD downloads: \"{}\" is no address", sources[0]),
                _ => "--checksum is for a single download".to_string(),
            };
            return Err(error(message));
        }
        let mode = transfer.chmod.as_ref().map(|m| self.expand(m, lines)).transpose()?;
        let mode = mode.map(|m| ModeChange::parse(&m)).transpose().map_err(|e| error(e.to_string()))?;
        let owner = transfer.chown.as_ref().map(|o| self.expand(o, lines)).transpose()?;
        let owner = owner.map(|o| self.owner(&o, lines)).transpose()?;
        let exclude = expand_all(&transfer.exclude)?;
        let exclude = Ignore::of_patterns(exclude.iter().map(String::as_str)).map_err(error)?;

        let origin = transfer.from.as_ref().map(|from| self.origin(from, lines)).transpose()?;
        let shown_from = transfer.from.as_ref().map(|from| format!("--from={from} ")).unwrap_or_default();
        // Addresses without passwords: they go to the terminal and into the image's history.
        let shown: Vec<String> = sources
            .iter()
            .map(|source| if is_add && is_remote(source) { without_password(source) } else { source.clone() })
            .chain(transfer.heredocs.iter().map(|heredoc| format!("<<{}", heredoc.name)))
            .collect();
        let rest = format!("{} {destination}", shown.join(" "));
        let title = format!("{name} {shown_from}{}{rest}", shown_flags(transfer));
        let created_by = format!("{name} {shown_from}{rest}");
        self.begin(&title, lines);
        let directory = self.absolute(&destination);

        let parent = if transfer.link { Digest::of(b"link") } else { self.state.digest.clone() };
        let mut shape = Key::new(if is_add { "add" } else { "copy" }, &parent);
        shape.part("the destination or an option");
        shape.field(&directory).field(format!("{is_directory} {} {}", transfer.parents, transfer.link));

        // For stages and images, the origin's digest and the instruction's words suffice to find an earlier
        // result.
        let mut quick = None;
        let origin_layers = match &origin {
            None | Some(Origin::Context(NamedContext::Directory { .. })) => None,
            Some(origin) => Some(self.origin_layers(origin, lines)?),
        };
        if let Some((_, digest)) = &origin_layers {
            let mut key = Key::new("copy from", &parent);
            key.field(digest.as_str()).list(&sources).field(&directory).field(format!(
                "{is_directory} {owner:?} {mode:?} {exclude:?} {} {is_add}",
                transfer.parents
            ));
            let (key, _) = self.engine.timed(key);
            if let Some(known) = self.known_under(&key).map_err(|e| e.at(lines))? {
                let mut never = |_: &Scratch, _| -> Result<(), ErrorKind> { Err(ErrorKind::Cancelled) };
                let (key, reach) = ((known, Vec::new()), Reach::Here);
                let step = Step { title: &title, key, created_by, varies: false, reach, later: None };
                return self.layer_step(step, lines, &mut never);
            }
            quick = Some(key);
        }

        let options = CopyOptions {
            // Files of the context belong to root; files of an image keep their owner.
            owner: owner.or(if origin_layers.is_none() { Some((0, 0)) } else { None }),
            owner_is_given: owner.is_some(),
            mode_of_made: mode.clone(),
            mode,
            exclude,
            xattrs: origin_layers.is_some(),
            mtime_max: self.plan.request.settings.source_date_epoch,
            mtime: None,
            borrowed: None,
        };
        let layers = origin_layers.as_ref().map(|(layers, _)| layers.as_slice());
        let mut found = Sources { options: vec![options], ..Sources::default() };
        self.local_sources(transfer, &sources, origin.as_ref(), layers, is_add, &mut found, lines)?;
        if is_add {
            self.downloads(transfer, &sources, &mut found, lines)?;
        }
        self.heredoc_sources(transfer, &mut found, lines)?;
        if sources.is_empty() && found.items.is_empty() {
            return Err(error(format!("{name} has no source")));
        }
        if found.items.is_empty() {
            let message = format!("no file matches {}, so nothing is copied", shown.join(" "));
            self.engine.env.events.event(Event::Warning { message, lines: Some(lines) });
        }

        for item in &found.items {
            let options = &found.options[item.options];
            shape.part(part_of(item));
            shape.field(format!("{} {}", item.entry.is_dir(), item.unpack)).option(item.keep.as_ref());
            if !item.entry.is_dir() {
                shape.field(item.entry.name());
            }
            if let Some(kept) = &item.keep {
                let parents = copy::parents(&found.trees[item.tree], &item.entry, kept);
                for (parent, _) in parents.map_err(|e| ErrorKind::Copy(e).at(lines))? {
                    shape.field(options.described(&parent));
                }
            }
            if let Some(identity) = &item.identity {
                shape
                    .field(identity)
                    .field(format!("{:?} {:?} {:?}", options.owner, options.mode, options.exclude));
                continue;
            }
            let cache = if item.in_context { self.plan.stat_cache.as_ref() } else { None };
            copy::add_to_key(&mut shape, &found.trees[item.tree], &item.entry, options, cache)
                .map_err(|e| ErrorKind::Copy(e).at(lines))?;
        }
        let (key, parts) = self.engine.timed(shape);
        let layers = if transfer.link { Vec::new() } else { self.state.layers.clone() };
        let store = self.engine.env.store.clone();
        // Files of temporary directories are gone before they are archived, and an archive that is unpacked
        // may replace files of this step.
        let can_wait = found.temporary.is_empty() && !found.items.iter().any(|item| item.unpack);
        // A user with one id cannot give files to others.
        let may_borrow = can_wait && store.owners() == Owners::Keep && self.needs_archive();
        if may_borrow && !self.needs_tree() {
            found.options[0].borrowed = Some(Arc::default());
        }
        let borrowed = found.options[0].borrowed.clone();
        let make: MakeLater = Arc::new(move |scratch| {
            place(&found, scratch, &trees_of(&store, &layers)?, (&directory, is_directory), &store)
        });
        let mut execute = |scratch: &Scratch, _| {
            if let Some(borrowed) = &borrowed {
                scratch.borrow(borrowed.clone());
            }
            make(scratch)
        };
        // The root of a stage goes with the build; the files of a context are there as long as its result.
        let later = (can_wait && origin_layers.is_none()).then(|| make.clone());
        // What is copied out of the context lies in the context of whoever else builds this, so it is worth
        // no upload; but a command on the farm may have needed it there.
        let reach = Reach::Shared { under: quick.as_ref(), is_sent: quick.is_some() };
        if quick.is_none() {
            self.ask_ahead(&key);
        }
        let step = Step { title: &title, key: (key.clone(), parts), created_by, varies: false, reach, later };
        self.layer_step(step, lines, &mut execute)?;
        match quick {
            Some(quick) => self.engine.remember_quick(&quick, &key).map_err(|e| e.at(lines)),
            None => Ok(()),
        }
    }

    /// Resolves a path against WORKDIR: absolute and clean.
    pub fn absolute(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => clean(path),
            false => clean(&format!("/{}/{path}", self.state.config.config.working_dir)),
        }
    }

    /// The ids of `--chown`, by number or by names in the image. A number alone is also the group.
    pub fn owner(&self, text: &str, lines: Lines) -> Result<(u32, u32), BuildError> {
        let numeric = |text: &str| {
            crossdock_sandbox::user::id(text).map_err(|e| ErrorKind::Dockerfile(e.to_string()).at(lines))
        };
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        if let (Some(uid), Some(gid)) = (numeric(user)?, numeric(group)?) {
            return Ok((uid, gid));
        }
        let user = self.find_user(text, lines)?;
        let user = user.map_err(|e| ErrorKind::Dockerfile(e.to_string()).at(lines))?;
        Ok((user.uid, user.gid))
    }

    /// A user of the image. root is 0 even if the image does not define it.
    fn find_user(&self, text: &str, lines: Lines) -> Result<Result<User, UserError>, BuildError> {
        let found = match self.state.layers.is_empty() {
            true => crossdock_sandbox::user::resolve_in(text, "", ""),
            false => {
                let view = self.engine.view(&self.lower(lines)?).map_err(|e| e.at(lines))?;
                crossdock_sandbox::user::resolve(view.root().as_fd(), text)
            }
        };
        Ok(match (found, text.split_once(':').unwrap_or((text, ""))) {
            (Err(UserError::NoUser(_) | UserError::NoGroup(_)), ("root" | "0", "root" | "0" | "")) => {
                crossdock_sandbox::user::resolve_in("0:0", "", "")
            }
            (other, _) => other,
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn local_sources(
        &self,
        transfer: &Transfer,
        sources: &[String],
        origin: Option<&Origin>,
        layers: Option<&[Layer]>,
        is_add: bool,
        found: &mut Sources,
        lines: Lines,
    ) -> Result<(), BuildError> {
        let local: Vec<&String> = sources.iter().filter(|s| !(is_add && is_remote(s))).collect();
        if local.is_empty() {
            return Ok(());
        }
        let name = transfer.from.clone().unwrap_or_default();
        let shown = match origin {
            None => "the build context".to_string(),
            Some(Origin::Stage(_)) => format!("stage {name}"),
            Some(Origin::Context(_)) => format!("build context {name}"),
            Some(_) => name.clone(),
        };
        let wanted: Option<Vec<String>> = local.iter().map(|source| below(source)).collect();
        let tree = self.tree(origin, layers, &wanted.unwrap_or_default(), lines)?;
        for source in local {
            let entries = tree
                .select(source, transfer.parents)
                .map_err(|source| ErrorKind::Source { origin: shown.clone(), source }.at(lines))?;
            // `--parents`: the part before `/./` is not kept.
            let dropped = match source.split_once("/./") {
                Some((before, _)) => {
                    parts(&clean_relative(before.as_bytes())).filter(|p| !p.is_empty()).count()
                }
                None => 0,
            };
            for entry in entries {
                let keep = transfer
                    .parents
                    .then(|| parts(&entry.path).skip(dropped).collect::<Vec<_>>().join(&b'/'));
                let unpack = is_add
                    && transfer.unpack != Some(false)
                    && entry.file_type() == FileType::RegularFile
                    && is_archive(&tree, &entry).map_err(|e| e.at(lines))?;
                found.items.push(Item {
                    tree: found.trees.len(),
                    entry,
                    in_context: origin.is_none(),
                    unpack,
                    keep,
                    identity: None,
                    options: 0,
                });
            }
        }
        found.trees.push(tree);
        Ok(())
    }

    /// The tree that an instruction takes files from: its `--from`, or the build context. `paths` are the
    /// ones that it takes; none are all.
    pub fn tree(
        &self,
        origin: Option<&Origin>,
        layers: Option<&[Layer]>,
        paths: &[String],
        lines: Lines,
    ) -> Result<Tree, BuildError> {
        let open = |path: &Path, ignore: Ignore| {
            let ready = self.engine.env.images.ready(path, paths);
            ready.map_err(|message| ErrorKind::Dockerfile(message).at(lines))?;
            let doing = || format!("open {}", path.display());
            Tree::open(path, ignore).map_err(|e| ErrorKind::io(doing(), e).at(lines))
        };
        match (origin, layers) {
            (None, _) => match &self.plan.request.context {
                Some(context) => open(context, self.plan.request.ignore.clone()),
                None => {
                    let message =
                        "there is no build context to copy from: the Dockerfile was read from standard input";
                    Err(ErrorKind::Dockerfile(message.to_string()).at(lines))
                }
            },
            (Some(Origin::Context(NamedContext::Directory { path, ignore })), _) => {
                open(path, ignore.clone())
            }
            (Some(_), Some(layers)) if !layers.is_empty() => {
                let lower = trees_of(self.engine.env.store, layers).map_err(|e| e.at(lines))?;
                let view = self.engine.view(&lower).map_err(|e| e.at(lines))?;
                let root = view.root().try_clone();
                Ok(Tree::new(root.map_err(|e| ErrorKind::io("use a root again".to_string(), e).at(lines))?))
            }
            (Some(_), _) => {
                let message = "the stage or image to copy from has no files";
                Err(ErrorKind::Dockerfile(message.to_string()).at(lines))
            }
        }
    }

    fn downloads(
        &self,
        transfer: &Transfer,
        sources: &[String],
        found: &mut Sources,
        lines: Lines,
    ) -> Result<(), BuildError> {
        for url in sources.iter().filter(|s| is_remote(s)) {
            let shown = without_password(url);
            let failed = |reason: String| ErrorKind::Download { url: shown.clone(), reason }.at(lines);
            if is_git(url) {
                self.repository(transfer, url, found).map_err(failed)?;
                continue;
            }
            // BuildKit's name; of use if the destination names a file.
            let name = file_name(url).unwrap_or_else(|| "__unnamed__".to_string());
            let directory = self.engine.temporary().map_err(|e| e.at(lines))?;
            let path = directory.path().join(&name);
            let modified = self.engine.env.images.download(url, &path).map_err(failed)?;
            let io = |e: std::io::Error| ErrorKind::io(format!("use the download of {shown}"), e).at(lines);
            if let Some(checksum) = &transfer.checksum {
                let checksum = self.expand(checksum, lines)?;
                let expected: Digest =
                    checksum.parse().map_err(|_| failed(format!("bad --checksum {checksum}")))?;
                let digest = File::open(&path).and_then(|file| expected.again(file)).map_err(io)?;
                if digest != expected {
                    return Err(failed(format!("digest mismatch {digest}: {expected}")));
                }
            }
            let file = File::options().write(true).open(&path).map_err(io)?;
            let time = modified.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time)).map_err(io)?;
            let tree = Tree::open(directory.path(), Ignore::default()).map_err(io)?;
            let entry = tree.entry(&name).map_err(io)?;
            // Dockerfile reference, "ADD": downloaded files have mode 0600.
            let mode = found.options[0].mode.clone().or(Some(ModeChange::Octal(0o600)));
            let CopyOptions { owner, mode_of_made, .. } = &found.options[0];
            let (owner, mode_of_made) = (*owner, mode_of_made.clone());
            let options = CopyOptions { owner, mode, mode_of_made, ..CopyOptions::default() };
            found.options.push(options);
            let unpack =
                transfer.unpack == Some(true) && is_archive(&tree, &entry).map_err(|e| e.at(lines))?;
            found.add(tree, entry, unpack);
            found.temporary.push(directory);
        }
        Ok(())
    }

    /// A Git repository, or a directory in it, as a source of ADD.
    fn repository(&self, transfer: &Transfer, url: &str, found: &mut Sources) -> Result<(), String> {
        let mut source = GitSource::parse(url)?;
        if let Some(checksum) = &transfer.checksum {
            let env = &self.state.env;
            source.commit = Some(self.state.scope.expand(checksum, env).map_err(|e| e.to_string())?.text);
        }
        let directory = self.engine.temporary().map_err(|e| e.to_string())?;
        let env = self.engine.env;
        let commit = env.images.checkout(&source, transfer.keep_git_dir, directory.path(), env.secrets)?;
        let shown = format!("directory \"{}\" of commit {commit}", source.directory);
        let tree = Tree::open(directory.path(), Ignore::default()).map_err(|e| e.to_string())?;
        let entry = tree.entry(&source.directory).map_err(|e| format!("{shown}: {e}"))?;
        if !entry.is_dir() {
            return Err(format!("{shown}: not a directory"));
        }
        // Git's own files differ each time.
        let identity = transfer.keep_git_dir.then(|| format!("git {commit} {}", source.directory));
        found.items.push(Item {
            tree: found.trees.len(),
            entry,
            in_context: false,
            unpack: false,
            keep: None,
            identity,
            options: 0,
        });
        found.trees.push(tree);
        found.temporary.push(directory);
        Ok(())
    }

    fn heredoc_sources(
        &self,
        transfer: &Transfer,
        found: &mut Sources,
        lines: Lines,
    ) -> Result<(), BuildError> {
        if transfer.heredocs.is_empty() {
            return Ok(());
        }
        let directory = self.engine.temporary().map_err(|e| e.at(lines))?;
        let io = |e: std::io::Error| ErrorKind::io("write a heredoc", e).at(lines);
        let mode = found.options[0].mode.clone().or(Some(ModeChange::Octal(0o644)));
        let options = CopyOptions {
            owner: found.options[0].owner.or(Some((0, 0))),
            mode,
            mode_of_made: found.options[0].mode_of_made.clone(),
            mtime_max: Some(self.plan.request.settings.source_date_epoch.unwrap_or(0)),
            ..CopyOptions::default()
        };
        found.options.push(options);
        for heredoc in &transfer.heredocs {
            let mut text = heredoc.text();
            if heredoc.expand {
                let env = &self.state.env;
                text = self.state.scope.expand_heredoc(&text, env).map_err(|e| shell_error(e, lines))?;
            }
            let name = heredoc.name.trim_start_matches('/');
            if name.contains('/') || matches!(name, "" | "." | "..") {
                let message = format!("the name of a heredoc must be a file name, not {:?}", heredoc.name);
                return Err(ErrorKind::Dockerfile(message).at(lines));
            }
            std::fs::write(directory.path().join(name), text).map_err(io)?;
            let tree = Tree::open(directory.path(), Ignore::default()).map_err(io)?;
            let entry = tree.entry(name).map_err(io)?;
            found.add(tree, entry, false);
        }
        found.temporary.push(directory);
        Ok(())
    }

    /// The owner of a directory that WORKDIR makes. A user that the image does not know yet is no error while
    /// nothing runs: the directory then belongs to root.
    fn owner_of_workdir(&self, user: &str, lines: Lines) -> Result<Option<(u32, u32)>, BuildError> {
        if user.is_empty() {
            return Ok(None);
        }
        match self.find_user(user, lines)? {
            Ok(user) => Ok(Some((user.uid, user.gid))),
            Err(UserError::NoUser(_) | UserError::NoGroup(_)) => Ok(None),
            Err(error) => Err(ErrorKind::Dockerfile(error.to_string()).at(lines)),
        }
    }

    pub fn workdir_step(&mut self, path: &str, instruction: &Instruction) -> Result<(), BuildError> {
        let lines = instruction.lines;
        let (key, directory, user) = self.workdir_key(path);
        let title = format!("WORKDIR {directory}");
        self.begin(&title, lines);
        let owner = self.owner_of_workdir(&user, lines)?;
        let (layers, store) = (self.state.layers.clone(), self.engine.env.store);
        let mut execute = |scratch: &Scratch, _| {
            let stack = open_root(scratch, &trees_of(store, &layers)?)?;
            let options = CopyOptions { owner, ..CopyOptions::default() };
            let path = directory.trim_start_matches('/').as_bytes();
            copy::make_directories(stack.root(), path, &options)?;
            Ok(stack.finish()?)
        };
        let key = self.engine.timed(key);
        self.ask_ahead(&key.0);
        let reach = Reach::Shared { under: None, is_sent: true };
        let step = Step { title: &title, key, created_by: title.clone(), varies: false, reach, later: None };
        self.layer_step(step, lines, &mut execute)
    }

    /// The key of a WORKDIR instruction that is looked at before its turn.
    pub fn workdir_key_ahead(&mut self, path: &str, lines: Lines) -> Result<Digest, BuildError> {
        let path = self.expand(path, lines)?;
        let (key, ..) = self.workdir_key(&path);
        Ok(self.engine.timed(key).0)
    }

    /// Changes the working directory; returns the step's key, the directory and the user.
    fn workdir_key(&mut self, path: &str) -> (Key, String, String) {
        let directory = self.absolute(path);
        self.state.config.config.working_dir = directory.clone();
        let mut user = self.state.config.config.user.clone();
        // As in BuildKit, a number alone is also the group, whatever the image knows of that user.
        if matches!(crossdock_sandbox::user::id(&user), Ok(Some(_))) {
            user = format!("{user}:{user}");
        }
        let mut key = Key::new("workdir", &self.state.digest);
        key.part("the directory").field(&directory).part("the user").field(&user);
        (key, directory, user)
    }
}

/// The name of an item's part of the step's key.
fn part_of(item: &Item) -> String {
    let path = String::from_utf8_lossy(&item.entry.path);
    match &item.identity {
        Some(_) => "what is downloaded".to_string(),
        None if path.is_empty() => "the files".to_string(),
        None if item.entry.is_dir() => format!("files in {path}"),
        None => path.into_owned(),
    }
}

fn place(
    found: &Sources,
    scratch: &Scratch,
    lower: &[PathBuf],
    (destination, is_directory): (&str, bool),
    store: &Store,
) -> Result<(), ErrorKind> {
    let stack = open_root(scratch, lower)?;
    let root = stack.root();
    let destination = destination.trim_start_matches('/').as_bytes();
    let mut parents = Vec::new();
    let exists =
        crate::files::tree::open_in_root(root, destination, OFlags::PATH | OFlags::DIRECTORY).is_ok();
    let placement = match is_directory || exists || found.items.len() > 1 {
        true => Placement::Into,
        false => Placement::Exact,
    };
    for item in &found.items {
        let (tree, options) = (&found.trees[item.tree], &found.options[item.options]);
        if item.unpack {
            unpack(tree, &item.entry, root, destination, options, store)?;
            continue;
        }
        let copied = match &item.keep {
            Some(path) => {
                copy::make_parents(tree, &item.entry, path, root, destination, options).and_then(|made| {
                    parents.extend(made.into_iter().map(|parent| (tree, options, parent)));
                    let target = join(destination, path);
                    copy::copy(tree, &item.entry, root, &target, Placement::Exact, options)
                })
            }
            None => copy::copy(tree, &item.entry, root, destination, placement, options),
        };
        copied.map_err(|error| on_disk(error, scratch))?;
    }
    copy::finish_parents(&parents, root).map_err(|error| on_disk(error, scratch))?;
    Ok(stack.finish()?)
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// The last part of a URL's path, whose escapes count as what they stand for.
fn file_name(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    Some(name.to_string()).filter(|name| !matches!(name.as_str(), "" | "." | "..") && !name.contains('\0'))
}

/// The flags of an instruction as its step's name shows them, but for `--from`.
fn shown_flags(transfer: &Transfer) -> String {
    let mut flags = String::new();
    for (name, value) in
        [("chown", &transfer.chown), ("chmod", &transfer.chmod), ("checksum", &transfer.checksum)]
    {
        if let Some(value) = value {
            flags.push_str(&format!("--{name}={value} "));
        }
    }
    for (name, is_set) in [("link", transfer.link), ("parents", transfer.parents)] {
        if is_set {
            flags.push_str(&format!("--{name} "));
        }
    }
    for pattern in &transfer.exclude {
        flags.push_str(&format!("--exclude={pattern} "));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert!(
            is_remote("https://h/a")
                && is_git("https://h/a.git#main")
                && is_git("git@h:a")
                && !is_remote("a/b")
        );
    }

    #[test]
    fn downloads_are_called_as_their_addresses_end() {
        for (url, name) in [
            ("http://h/a/b.tar.gz?x=/y#z", Some("b.tar.gz")),
            ("https://u:p@h:1/a%20b", Some("a b")),
            ("http://h/%61.tar", Some("a.tar")),
            ("http://h/a%2Fb", Some("b")),
            ("http://h/..%2f..%2fetc%2fx", Some("x")),
            ("http://h/100%", Some("100%")),
            ("http://h/%2e%2e", None),
            ("http://h/a%00b", None),
            ("http://h/%ff", None),
            ("http://h/a/", Some("a")),
            ("http://h/", None),
            ("http://h", None),
        ] {
            assert_eq!(file_name(url).as_deref(), name, "{url}");
        }
    }
}
