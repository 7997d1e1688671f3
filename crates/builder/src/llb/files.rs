//! Operations on files: copy, mkdir, mkfile, symlink, rm (moby/buildkit, solver/llbsolver/file).

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use crossdock_dockerfile::ignore::{Ignore, clean};
use crossdock_dockerfile::pattern::Pattern;
use crossdock_oci::store::Scratch;
use crossdock_sandbox::user;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::graph::{self, Action, Id, Owner};
use super::solving::{Change, Current, Solving, Value};
use crate::error::ErrorKind;
use crate::files::chmod::ModeChange;
use crate::files::copy::{self, CopyOptions};
use crate::files::tree::{Entry, SelectError, Tree, clean_relative, join, open_in_root, resolve, split_name};
use crate::files::unpack::{is_archive, on_disk, unpack};
use crate::solver::key::Key;
use crate::solver::layer::open_root;

/// An action whose inputs are there.
enum Ready<'g> {
    Copy(Box<Copying<'g>>),
    /// The owner is known, if there is one.
    Other(&'g Action, (u32, u32)),
}

/// Files to copy.
struct Copying<'g> {
    copy: &'g graph::Copy,
    tree: Tree,
    entries: Vec<Entry>,
    options: CopyOptions,
}

impl Solving<'_, '_, '_> {
    /// Changes files of a tree.
    pub fn file(&self, current: &Current<'_>, file: &graph::File) -> Result<Value, ErrorKind> {
        let base = self.value(file.base)?;
        let mut inputs = vec![base.clone()];
        let mut key = Key::new("file", &base.digest);
        let mut all = Vec::new();
        for action in &file.actions {
            match action {
                Action::Copy(copy) => {
                    let from = self.value(copy.from)?;
                    let copying = self.copying(copy, &from)?;
                    add_copy(&mut key, &copying)?;
                    inputs.push(from);
                    all.push(Ready::Copy(Box::new(copying)));
                }
                other => {
                    let owner = self.owner(owner_of(other))?.unwrap_or((0, 0));
                    add_other(&mut key, other, owner);
                    all.push(Ready::Other(other, owner));
                }
            }
        }
        let key = self.engine.timed(key);
        self.keyed(current, &key.0, &inputs.iter().collect::<Vec<_>>());
        let base = self.layered(current, &base)?;
        let lower = base.lower(self.engine.env.store)?;
        let change = Change { base: &base, key, varies: false };
        self.change(current, change, &mut |scratch| {
            let stack = open_root(scratch, &lower)?;
            for action in &all {
                match action {
                    Ready::Copy(copying) => copying.place(stack.root(), scratch, self)?,
                    Ready::Other(action, owner) => change_files(stack.root(), action, *owner)?,
                }
            }
            Ok(stack.finish()?)
        })
    }

    /// Finds the files that are copied.
    fn copying<'g>(&self, copy: &'g graph::Copy, from: &Value) -> Result<Copying<'g>, ErrorKind> {
        let tree = match self.tree(from)? {
            Some(tree) => tree,
            None => return Err(not_found(&copy.source)),
        };
        let mode = Some(copy.mode.as_str()).filter(|mode| !mode.is_empty()).map(ModeChange::parse);
        let mode = mode.transpose().map_err(|e| ErrorKind::Dockerfile(e.to_string()))?;
        let owner = self.owner(&copy.owner)?;
        let defaults = self.options_of(from);
        let options = CopyOptions {
            owner: owner.or(defaults.owner),
            owner_is_given: owner.is_some(),
            mode_of_made: mode.clone(),
            mode,
            exclude: rules(copy)?,
            mtime: copy.mtime,
            ..defaults
        };
        let entries = select(&tree, copy)?;
        if entries.is_empty() && !copy.may_match_nothing {
            return Err(not_found(&copy.source));
        }
        Ok(Copying { copy, tree, entries, options })
    }

    /// User and group id; `None` if there is neither.
    fn owner(&self, owner: &Owner) -> Result<Option<(u32, u32)>, ErrorKind> {
        let lookup = |name: &str, tree: &Option<graph::Edge>, is_group: bool| {
            let tree = self.tree(&self.value(*tree)?)?;
            // Without a file of users BuildKit takes root, too.
            let text = if is_group { format!("0:{name}") } else { name.to_string() };
            let found = tree.map(|tree| user::resolve(tree.root().as_fd(), &text)).transpose();
            match found {
                Ok(found) => Ok(found.map_or((0, 0), |user| (user.uid, user.gid))),
                Err(user::UserError::NoUser(_) | user::UserError::NoGroup(_)) => Ok((0, 0)),
                Err(error) => Err(ErrorKind::Dockerfile(error.to_string())),
            }
        };
        let mut ids = (0, 0);
        match &owner.user {
            Some(Id::Number(number)) => ids = (*number, *number),
            Some(Id::Name(name, tree)) => ids = lookup(name, tree, false)?,
            None => {}
        }
        match &owner.group {
            Some(Id::Number(number)) => ids.1 = *number,
            Some(Id::Name(name, tree)) => ids.1 = lookup(name, tree, true)?.1,
            None => {}
        }
        Ok((owner.user.is_some() || owner.group.is_some()).then_some(ids))
    }
}

impl Copying<'_> {
    /// Copies the files to a root.
    fn place(
        &self,
        root: &OwnedFd,
        scratch: &Scratch,
        solving: &Solving<'_, '_, '_>,
    ) -> Result<(), ErrorKind> {
        let copy = self.copy;
        let destination = clean(&format!("/{}", copy.destination));
        let destination = destination.trim_start_matches('/').as_bytes();
        if !copy.make_destination && !is_directory(root, split_name(destination).0) {
            let message = format!("copy to {}: its directory is not there", copy.destination);
            return Err(ErrorKind::Dockerfile(message));
        }
        if copy.destination.ends_with('/') || copy.destination.ends_with("/.") {
            copy::make_directories(root, destination, &self.options)?;
        }
        for entry in &self.entries {
            let store = solving.engine.env.store;
            if copy.unpack && !entry.is_dir() && is_archive(&self.tree, entry)? {
                unpack(&self.tree, entry, root, destination, &self.options, store)?;
                continue;
            }
            self.one(root, entry, destination).map_err(|error| on_disk(error, scratch))?;
        }
        Ok(())
    }

    fn one(&self, root: &OwnedFd, entry: &Entry, destination: &[u8]) -> Result<(), copy::CopyError> {
        let is_there = is_directory(root, destination);
        let goes_into = is_there && !(entry.is_dir() && self.copy.is_content_only);
        let target = match goes_into && !entry.name().is_empty() {
            true => join(destination, entry.name()),
            false => destination.to_vec(),
        };
        if self.copy.replace {
            make_room(self, root, entry, &target)?;
        }
        match self.copy.is_content_only {
            true => copy::copy(&self.tree, entry, root, &target, copy::Placement::Exact, &self.options),
            false => copy::copy_whole(&self.tree, entry, root, &target, &self.options),
        }
    }
}

/// Removes what is of another kind than the entry that comes to its place, for everything that is copied.
fn make_room(
    copying: &Copying<'_>,
    root: &OwnedFd,
    start: &Entry,
    target: &[u8],
) -> Result<(), copy::CopyError> {
    let options = &copying.options;
    let excluded = |path: &[u8]| options.excludes(&start.path, path);
    let excluded = (&excluded as &dyn Fn(&[u8]) -> bool, options.exclude.may_include_again());
    let made = copying.tree.walk_with(start, excluded, &mut |entry| {
        let relative = entry.path.strip_prefix(&start.path[..]).unwrap_or(&entry.path);
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        let target = if relative.is_empty() { target.to_vec() } else { join(target, relative) };
        let Ok(open) = open_in_root(root, &target, OFlags::PATH | OFlags::NOFOLLOW) else { return Ok(()) };
        let there = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&open)?.st_mode);
        match there == entry.file_type() || target.is_empty() {
            true => Ok(()),
            false => remove(root, &target),
        }
    });
    let path = String::from_utf8_lossy(target).into_owned();
    made.map_err(|error| copy::CopyError::Io { path, error })
}

fn not_found(source: &str) -> ErrorKind {
    let source = SelectError::NotFound(source.to_string());
    ErrorKind::Source { origin: "its input".to_string(), source }
}

/// What the patterns of a copy leave out.
fn rules(copy: &graph::Copy) -> Result<Ignore, ErrorKind> {
    let mut patterns = Vec::new();
    if !copy.include.is_empty() {
        patterns.push("**".to_string());
        patterns.extend(copy.include.iter().map(|pattern| format!("!{pattern}")));
    }
    patterns.extend(copy.exclude.iter().cloned());
    Ignore::of_patterns(patterns.iter().map(String::as_str)).map_err(ErrorKind::Dockerfile)
}

/// The files that a copy names. A link is the link itself unless the copy follows it.
fn select(tree: &Tree, copy: &graph::Copy) -> Result<Vec<Entry>, ErrorKind> {
    let shown = || format!("copy \"{}\"", copy.source);
    let failed = |source| ErrorKind::Source { origin: "a tree".to_string(), source };
    let path = clean_relative(copy.source.as_bytes());
    let found = match copy.is_pattern && Pattern::is_pattern(&path) {
        true => tree.matches(&copy.source, false).map_err(failed)?,
        false => vec![path],
    };
    let mut entries = Vec::new();
    for path in found {
        let flags = if copy.follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        let open = match tree.open_at(&path, flags) {
            Ok(open) => open,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_found(&copy.source));
            }
            Err(error) => return Err(ErrorKind::io(shown(), error)),
        };
        let stat = rustix::fs::fstat(&open).map_err(|e| ErrorKind::io(shown(), e.into()))?;
        entries.push(Entry { path, stat });
    }
    Ok(entries)
}

fn add_copy(key: &mut Key, copying: &Copying<'_>) -> Result<(), ErrorKind> {
    let Copying { copy, tree, entries, options } = copying;
    key.part(format!("the copy of {}", copy.source)).field("copy").field(clean(&copy.destination));
    key.field(format!(
        "{} {} {} {} {} {:?}",
        copy.destination.ends_with('/'),
        copy.is_content_only,
        copy.unpack,
        copy.make_destination,
        copy.replace,
        copy.mtime,
    ));
    key.field(entries.len().to_string());
    for entry in entries {
        key.field(entry.name()).field(entry.is_dir().to_string());
        copy::add_to_key(key, tree, entry, options, None)?;
    }
    Ok(())
}

fn add_other(key: &mut Key, action: &Action, owner: (u32, u32)) {
    let (path, rest) = match action {
        Action::Copy(_) => unreachable!("copies have keys of their own"),
        Action::MakeDirectory { path, mode, parents, mtime, .. } => {
            (path, format!("mkdir {mode:o} {parents} {mtime:?}"))
        }
        Action::MakeFile { path, mode, mtime, .. } => (path, format!("mkfile {mode:o} {mtime:?}")),
        Action::Symlink { path, to, mtime, .. } => (path, format!("symlink {mtime:?} {to}")),
        Action::Remove { path, may_be_missing, is_pattern } => {
            (path, format!("rm {may_be_missing} {is_pattern}"))
        }
    };
    key.part(format!("the change of {path}")).field(path).field(rest).field(format!("{owner:?}"));
    if let Action::MakeFile { content, .. } = action {
        key.field(content);
    }
}

fn owner_of(action: &Action) -> &Owner {
    static NOBODY: Owner = Owner { user: None, group: None };
    match action {
        Action::Copy(copy) => &copy.owner,
        Action::MakeDirectory { owner, .. }
        | Action::MakeFile { owner, .. }
        | Action::Symlink { owner, .. } => owner,
        Action::Remove { .. } => &NOBODY,
    }
}

fn is_directory(root: &OwnedFd, path: &[u8]) -> bool {
    open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
}

/// Does an action that copies nothing.
fn change_files(root: &OwnedFd, action: &Action, owner: (u32, u32)) -> Result<(), ErrorKind> {
    let done = match action {
        Action::Copy(_) => unreachable!("copies are placed by the caller"),
        Action::MakeDirectory { path, mode, parents, mtime, .. } => {
            return make_directory(root, path, (*mode, *parents), owner, *mtime);
        }
        Action::MakeFile { path, mode, content, mtime, .. } => {
            (path, make_file(root, path, (*mode, content), owner, *mtime))
        }
        Action::Symlink { path, to, mtime, .. } => (path, make_link(root, path, to, owner, *mtime)),
        Action::Remove { path, may_be_missing, is_pattern } => {
            return remove_all(root, path, *may_be_missing, *is_pattern);
        }
    };
    done.1.map_err(|e| ErrorKind::io(format!("make {}", done.0), e))
}

fn make_directory(
    root: &OwnedFd,
    path: &str,
    (mode, parents): (u32, bool),
    owner: (u32, u32),
    mtime: Option<i64>,
) -> Result<(), ErrorKind> {
    let failed = |e| ErrorKind::io(format!("make the directory {path}"), e);
    let resolved = resolve(root, path.as_bytes()).map_err(failed)?;
    if is_directory(root, &resolved) {
        return Ok(());
    }
    if !parents && !is_directory(root, split_name(&resolved).0) {
        return Err(failed(std::io::ErrorKind::NotFound.into()));
    }
    let mode_of_made = Some(ModeChange::Octal(mode & 0o7777));
    let options = CopyOptions { owner: Some(owner), mode_of_made, ..CopyOptions::default() };
    copy::make_directories(root, &resolved, &options)?;
    set_time(root, &resolved, mtime).map_err(failed)
}

fn make_file(
    root: &OwnedFd,
    path: &str,
    (mode, content): (u32, &[u8]),
    owner: (u32, u32),
    mtime: Option<i64>,
) -> std::io::Result<()> {
    let path = resolve(root, path.as_bytes())?;
    let (directory, name) = split_name(&path);
    let directory = open_in_root(root, directory, OFlags::PATH | OFlags::DIRECTORY)?;
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let new = rustix::fs::openat(&directory, name, flags | OFlags::CREATE | OFlags::EXCL, Mode::from(0o600));
    let (mut file, is_new) = match new {
        Ok(file) => (File::from(file), true),
        Err(rustix::io::Errno::EXIST) => {
            (File::from(rustix::fs::openat(&directory, name, flags, Mode::empty())?), false)
        }
        Err(error) => return Err(error.into()),
    };
    file.write_all(content)?;
    copy::set_owner(&file, owner)?;
    if is_new {
        rustix::fs::fchmod(&file, Mode::from(mode & 0o7777))?;
    }
    set_time(root, &path, mtime)
}

fn make_link(
    root: &OwnedFd,
    path: &str,
    to: &str,
    owner: (u32, u32),
    mtime: Option<i64>,
) -> std::io::Result<()> {
    let path = resolve(root, path.as_bytes())?;
    let (directory, name) = split_name(&path);
    let directory = open_in_root(root, directory, OFlags::PATH | OFlags::DIRECTORY)?;
    rustix::fs::symlinkat(to, &directory, name)?;
    let ids = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
    let owned = rustix::fs::chownat(&directory, name, ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW);
    copy::owned(owned, owner)?;
    set_time(root, &path, mtime)
}

/// Sets the time of what is at a path that has no links in it.
fn set_time(root: &OwnedFd, path: &[u8], mtime: Option<i64>) -> std::io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let Some(mtime) = mtime else { return Ok(()) };
    let (directory, name) = split_name(path);
    let directory = open_in_root(root, directory, OFlags::PATH | OFlags::DIRECTORY)?;
    let name = if name.is_empty() { b"." } else { name };
    let time = Timespec { tv_sec: mtime.div_euclid(SECOND), tv_nsec: mtime.rem_euclid(SECOND) as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(&directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn remove_all(root: &OwnedFd, path: &str, may_be_missing: bool, is_pattern: bool) -> Result<(), ErrorKind> {
    let failed = |e| ErrorKind::io(format!("remove {path}"), e);
    let wanted = clean_relative(path.as_bytes());
    let all = match is_pattern && Pattern::is_pattern(&wanted) {
        false => vec![wanted],
        true => {
            let tree = Tree::new(root.try_clone().map_err(failed)?);
            let origin = || "a tree".to_string();
            tree.matches(path, false).map_err(|source| ErrorKind::Source { origin: origin(), source })?
        }
    };
    for one in all {
        let (directory, name) = split_name(&one);
        if name.is_empty() {
            return Err(ErrorKind::Dockerfile("the root of a tree cannot be removed".to_string()));
        }
        let target = join(&resolve(root, directory).map_err(failed)?, name);
        match remove(root, &target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_be_missing => {}
            result => result.map_err(failed)?,
        }
    }
    Ok(())
}

/// Removes what is at a path, with everything in it; a link, not where it leads.
pub(super) fn remove(root: &OwnedFd, path: &[u8]) -> std::io::Result<()> {
    let open = open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let start = Entry { path: path.to_vec(), stat: rustix::fs::fstat(&open)? };
    drop(open);
    let tree = Tree::new(root.try_clone()?);
    let mut all = Vec::new();
    tree.walk(&start, &|_| false, &mut |entry| {
        all.push((entry.path.clone(), entry.is_dir()));
        Ok(())
    })?;
    // Directories come before what is in them.
    for (path, is_directory) in all.into_iter().rev() {
        let (directory, name) = split_name(&path);
        let directory = open_in_root(root, directory, OFlags::PATH | OFlags::DIRECTORY)?;
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&directory, name, flags)?;
    }
    Ok(())
}
