//! What a handle uses, recorded for the garbage collectors of all processes. See `docs/dev/store.md`.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::digest::Digest;
use crate::error::{Context, Result, StoreError, is_read_only};
use crate::name::random_name;
use crate::store::files::open_regular;
use crate::store::tree_id::TreeId;

/// One thing that is in use.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    Blob(Digest),
    Snapshot(Digest),
    Tree(TreeId),
}

impl Use {
    fn line(&self) -> String {
        match self {
            Use::Blob(digest) => format!("b {digest}\n"),
            Use::Snapshot(key) => format!("s {key}\n"),
            Use::Tree(id) => format!("t {id}\n"),
        }
    }

    /// Reads a line of a lease file; what is not understood is left out.
    pub(crate) fn parse(line: &str) -> Option<Use> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "b" => rest.parse().ok().map(Use::Blob),
            "s" => rest.parse().ok().map(Use::Snapshot),
            "t" => TreeId::parse(rest).map(Use::Tree),
            _ => None,
        }
    }
}

/// The lease of one handle; its file is created at first use.
pub(crate) struct Lease {
    id: String,
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<File>,
    gc_lock: Option<File>,
    /// Why nothing can be written; `gc_lock` is then held as long as the lease lives, so that no collector
    /// runs.
    read_only: Option<String>,
    held: HashSet<Use>,
    temporaries: u64,
    /// Trees of this lease that got no name and are removed with it.
    doomed: HashSet<TreeId>,
}

/// No collector runs while this lives.
pub(crate) struct Guard<'a> {
    lease: &'a Lease,
    state: MutexGuard<'a, State>,
}

impl Lease {
    pub(crate) fn new(root: &Path) -> Lease {
        Lease { id: random_name(), root: root.to_path_buf(), state: Mutex::default() }
    }

    fn path(&self) -> PathBuf {
        self.root.join("leases").join(&self.id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete in itself, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Keeps collectors out until the guard is dropped.
    pub(crate) fn guard(&self) -> Result<Guard<'_>> {
        let mut state = self.state();
        let path = self.root.join("gc.lock");
        if state.gc_lock.is_none() {
            let file =
                match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
                    Err(e) if is_read_only(&e) => {
                        let reason = format!("cannot write {}: {e}", path.display());
                        state.read_only = Some(reason.clone());
                        open_regular(&path).map_err(|_| self.read_only(reason))?.0
                    }
                    other => other.context("open", &path)?,
                };
            state.gc_lock = Some(file);
        }
        state.gc_lock.as_ref().expect("set above").lock_shared().context("lock", &path)?;
        Ok(Guard { lease: self, state })
    }

    fn read_only(&self, reason: String) -> StoreError {
        StoreError::ReadOnly { root: self.root.clone(), reason }
    }

    /// Makes sure that the store can be written to.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`].
    pub(crate) fn require_writable(&self) -> Result<()> {
        self.guard()?.require_writable()
    }

    /// Records that `uses` are in use.
    pub(crate) fn hold(&self, uses: &[Use]) -> Result<()> {
        {
            let state = self.state();
            if uses.iter().all(|u| state.held.contains(u)) {
                return Ok(());
            }
        }
        self.guard()?.hold(uses)
    }

    /// A name in `tmp/` that collectors leave alone while this handle lives.
    pub(crate) fn temporary(&self) -> Result<PathBuf> {
        self.guard()?.temporary()
    }

    /// Removes the tree when the handle is dropped, unless [`Lease::spare`] is called first.
    pub(crate) fn doom(&self, id: &TreeId) {
        self.state().doomed.insert(id.clone());
    }

    pub(crate) fn spare(&self, id: &TreeId) {
        self.state().doomed.remove(id);
    }
}

impl Guard<'_> {
    pub(crate) fn hold(&mut self, uses: &[Use]) -> Result<()> {
        let new: Vec<&Use> = uses.iter().filter(|u| !self.state.held.contains(*u)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let lines: String = new.iter().map(|u| u.line()).collect();
        let path = self.lease.path();
        if let Some(file) = self.ensure_file()? {
            let whole = file.metadata().context("look at", &path)?.len();
            if let Err(error) = file.write_all(lines.as_bytes()) {
                // A part of a line, as a full disk leaves it, would spoil the next one.
                let _ = file.set_len(whole);
                return Err(error).context("write", &path);
            }
        }
        self.state.held.extend(new.into_iter().cloned());
        Ok(())
    }

    /// As [`Lease::temporary`].
    pub(crate) fn temporary(&mut self) -> Result<PathBuf> {
        self.ensure_file()?;
        self.require_writable()?;
        self.state.temporaries += 1;
        let name = format!("{}.{}", self.lease.id, self.state.temporaries);
        Ok(self.lease.root.join("tmp").join(name))
    }

    fn require_writable(&self) -> Result<()> {
        match &self.state.read_only {
            Some(reason) => Err(self.lease.read_only(reason.clone())),
            None => Ok(()),
        }
    }

    /// The lease's file, created if missing; `None` if nothing can be written.
    fn ensure_file(&mut self) -> Result<Option<&mut File>> {
        if self.state.file.is_none() && self.state.read_only.is_none() {
            let path = self.lease.path();
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(e) if is_read_only(&e) => {
                    self.state.read_only = Some(format!("cannot create {}: {e}", path.display()));
                }
                other => {
                    let file = other.context("create", &path)?;
                    file.lock().context("lock", &path)?;
                    self.state.file = Some(file);
                }
            }
        }
        Ok(self.state.file.as_mut())
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(file) = &self.state.gc_lock
            && self.state.read_only.is_none()
        {
            // Fails only for a bad descriptor, and closing would unlock as well.
            let _ = file.unlock();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let path = self.path();
        let state = self.state.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        for id in &state.doomed {
            // If this fails, the next collection finds the tree without an owner.
            let _ = crate::layer::tree::remove(&id.dir(&self.root), &self.root.join("tmp"));
        }
        if state.file.is_some() {
            let _ = fs::remove_file(path);
        }
    }
}

/// The lease that a file in `tmp/` belongs to.
pub(crate) fn owner_of_temporary(name: &str) -> &str {
    name.split_once('.').map_or(name, |(lease, _)| lease)
}

/// Reads the leases of live processes and removes the files of dead ones; flock reports this process's own
/// leases like any other. Only for the holder of the exclusive `gc.lock`.
pub(crate) fn live(root: &Path) -> Result<(HashSet<String>, Vec<Use>)> {
    let dir = root.join("leases");
    let (mut live, mut uses) = (HashSet::new(), Vec::new());
    for entry in fs::read_dir(&dir).context("read", &dir)? {
        let path = entry.context("read", &dir)?.path();
        let (file, _) = match open_regular(&path) {
            // What is no file is no lease.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => continue,
            Err(e) if matches!(e.raw_os_error(), Some(6 | 40)) => continue,
            other => other.context("open", &path)?,
        };
        if file.try_lock().is_ok() {
            match fs::remove_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other.context("remove", &path)?,
            }
            continue;
        }
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).context("read", &path)?;
        let text = String::from_utf8_lossy(&bytes);
        uses.extend(text.lines().filter_map(Use::parse));
        if let Some(name) = path.file_name() {
            live.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok((live, uses))
}
