//! What turns one tree into another, and trees laid over each other (moby/buildkit, docs/dev/merge-diff.md).

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};

use super::files::remove;
use super::solving::{Change, Current, Solving, Value};
use crate::error::ErrorKind;
use crate::files::copy::{self, CopyOptions};
use crate::files::tree::{Entry, Tree, join};
use crate::solver::key::Key;
use crate::solver::layer::open_root;

impl Solving<'_, '_, '_> {
    /// The trees laid over each other, the lowest first. Deletions of one hold for those below it.
    pub fn merge(&self, current: &Current<'_>, inputs: Vec<Value>) -> Result<Value, ErrorKind> {
        let mut key = Key::new("merge", &Value::empty().digest);
        key.list(inputs.iter().map(|input| input.digest.as_str()));
        let digest = key.finish();
        self.keyed(current, &digest, &inputs.iter().collect::<Vec<_>>());
        let mut merged = Value { digest, made_by: Some(current.step), ..Value::empty() };
        for input in &inputs {
            for made in self.layered(current, input)?.layers {
                // A layer that comes again hides everything that it holds further down.
                merged.layers.retain(|other| !other.layer.is_same(&made.layer));
                merged.layers.push(made);
            }
        }
        Ok(merged)
    }

    /// The layers that turn `lower` into `upper`: those of `upper` alone if it was made from `lower`, else a
    /// new one.
    pub fn diff(&self, current: &Current<'_>, lower: Value, upper: Value) -> Result<Value, ErrorKind> {
        let mut key = Key::new("diff", &lower.digest);
        key.field(upper.digest.as_str());
        let key = self.engine.timed(key);
        self.keyed(current, &key.0, &[&lower, &upper]);
        let (lower, upper) = (self.layered(current, &lower)?, self.layered(current, &upper)?);
        let store = self.engine.env.store;
        let (below, above) = (lower.lower(store)?, upper.lower(store)?);
        if above.starts_with(&below) {
            let layers = upper.layers[below.len()..].to_vec();
            return Ok(Value { digest: key.0, layers, directory: None, made_by: Some(current.step) });
        }
        let wanted = self.tree(&upper)?;
        let options = CopyOptions { xattrs: true, ..CopyOptions::default() };
        let change = Change { base: &Value::empty(), key, varies: false };
        self.change(current, change, &mut |scratch| {
            let stack = open_root(scratch, &below)?;
            make_same(stack.root(), wanted.as_ref(), &options)?;
            Ok(stack.finish()?)
        })
    }
}

fn failed(path: &[u8]) -> impl Fn(io::Error) -> ErrorKind {
    let path = String::from_utf8_lossy(path).into_owned();
    move |error| ErrorKind::io(format!("compare /{path}"), error)
}

/// Changes the files of a root to those of a tree, and leaves alone what is the same.
fn make_same(root: &OwnedFd, wanted: Option<&Tree>, options: &CopyOptions) -> Result<(), ErrorKind> {
    let mut directories = vec![Vec::new()];
    let mut finished = Vec::new();
    while let Some(path) = directories.pop() {
        let there = Tree::new(root.try_clone().map_err(failed(&path))?);
        let old = there.entries_in(&path).map_err(failed(&path))?;
        let new = match wanted {
            Some(wanted) => wanted.entries_in(&path).map_err(failed(&path))?,
            None => Vec::new(),
        };
        for entry in old.iter().filter(|old| !new.iter().any(|new| new.path == old.path)) {
            remove(root, &entry.path).map_err(failed(&entry.path))?;
        }
        let Some(wanted) = wanted else { continue };
        for entry in new {
            let target = join(&path, entry.name());
            match old.iter().find(|old| old.path == entry.path) {
                Some(old) if old.is_dir() && entry.is_dir() => {
                    if !has_same_metadata(old, &entry) {
                        finished.push(entry);
                    }
                    directories.push(target);
                }
                Some(old) if is_same(&there, old, wanted, &entry).map_err(failed(&target))? => {}
                Some(_) => {
                    remove(root, &target).map_err(failed(&target))?;
                    copy::copy_whole(wanted, &entry, root, &target, options)?;
                }
                None => copy::copy_whole(wanted, &entry, root, &target, options)?,
            }
        }
    }
    let wanted = wanted.into_iter();
    // Inner directories first: changing them changes the time of the outer ones.
    for (wanted, entry) in wanted.flat_map(|wanted| finished.iter().rev().map(move |entry| (wanted, entry))) {
        copy::finish_directory(wanted, entry, root, &entry.path, options)?;
    }
    Ok(())
}

fn has_same_metadata(one: &Entry, other: &Entry) -> bool {
    let of = |entry: &Entry| {
        let stat = &entry.stat;
        (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec)
    };
    of(one) == of(other)
}

fn is_same(one: &Tree, a: &Entry, other: &Tree, b: &Entry) -> io::Result<bool> {
    if !has_same_metadata(a, b) || a.stat.st_size != b.stat.st_size || a.stat.st_rdev != b.stat.st_rdev {
        return Ok(false);
    }
    match a.file_type() {
        FileType::Symlink => Ok(one.read_link(&a.path)? == other.read_link(&b.path)?),
        FileType::RegularFile => has_same_content(one, &a.path, other, &b.path),
        _ => Ok(true),
    }
}

fn has_same_content(one: &Tree, a: &[u8], other: &Tree, b: &[u8]) -> io::Result<bool> {
    let open = |tree: &Tree, path: &[u8]| {
        let file = tree.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW)?;
        Ok::<_, io::Error>(std::fs::File::from(file))
    };
    let (mut a, mut b) = (open(one, a)?, open(other, b)?);
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = a.read(&mut left)?;
        if length == 0 {
            return Ok(b.read(&mut right[..1])? == 0);
        }
        if b.read_exact(&mut right[..length]).is_err() || left[..length] != right[..length] {
            return Ok(false);
        }
    }
}
