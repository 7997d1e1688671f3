//! Garbage collection of a registry's directory; it may run beside servers.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crossdock_oci::Digest;
use crossdock_oci::manifest::Document;

use super::route::Identifier;
use super::storage::{Storage, TEMPORARY, found, subject_of};
use crate::error::{Error, Result};

/// What to remove, and what to spare.
#[derive(Clone, Debug)]
pub struct GarbageOptions {
    /// Content touched within this time is kept: a push may be under way.
    pub grace: Duration,
    /// Only counts, removes nothing.
    pub dry_run: bool,
    /// Also removes manifests that have no tag, are in no tagged index, and refer to nothing that stays.
    pub untagged: bool,
}

impl Default for GarbageOptions {
    fn default() -> GarbageOptions {
        GarbageOptions { grace: Duration::from_secs(24 * 3600), dry_run: false, untagged: false }
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests without a tag.
    pub manifests: u64,
    /// Blobs, including those of manifests.
    pub blobs: u64,
    /// Abandoned uploads.
    pub uploads: u64,
    /// Files of interrupted writes, and dangling links.
    pub leftovers: u64,
    /// Bytes of everything removed.
    pub bytes: u64,
    /// Unneeded blobs, uploads and manifests that were touched within the grace time.
    pub spared: u64,
    /// Bytes of the spared files.
    pub bytes_spared: u64,
}

/// Removes blobs that no manifest of any repository reaches, abandoned uploads, and leftovers of interrupted
/// writes. Manifests without a tag stay unless the options say otherwise, since they can be pulled by digest.
pub fn collect_garbage(directory: &Path, options: &GarbageOptions) -> Result<Collected> {
    let version = directory.join("version");
    // A missing directory has no garbage; creating it would hide a wrong name.
    fs::metadata(&version).map_err(Error::io(&version))?;
    let storage = Storage::open(directory, true)?;
    let collection = Collection { storage: &storage, options, collected: Collected::default() };
    collection.run().map_err(Error::io(directory))
}

struct Collection<'a> {
    storage: &'a Storage,
    options: &'a GarbageOptions,
    collected: Collected,
}

/// The parts of a repository's manifest that matter here.
struct Entry {
    children: Vec<Digest>,
    subject: Option<Digest>,
}

impl Collection<'_> {
    fn run(mut self) -> io::Result<Collected> {
        let _lock = self.storage.lock_alone()?;
        let repositories = self.storage.all_directories()?;
        let mut live = HashSet::new();
        for name in &repositories {
            let mut entries = self.entries(name)?;
            if self.options.untagged {
                self.untagged(name, &mut entries)?;
            }
            for (digest, entry) in entries {
                live.extend(entry.children);
                live.insert(digest);
            }
            for path in self.storage.uploads(name)? {
                if self.remove_if_old(&path)? {
                    self.collected.uploads += 1;
                }
            }
        }
        let gone = self.blobs(&live)?;
        for name in &repositories {
            self.links(name, &gone)?;
        }
        for directory in [self.storage.root(), &self.storage.blobs(), &self.storage.repositories_directory()]
        {
            self.temporary(directory, directory != self.storage.root())?;
        }
        Ok(self.collected)
    }

    fn entries(&self, name: &str) -> io::Result<HashMap<Digest, Entry>> {
        let mut entries = HashMap::new();
        for digest in self.storage.digests(name, "_manifests")? {
            let stored = self.storage.manifest(name, &Identifier::Digest(digest.clone()))?;
            let document = stored.and_then(|stored| Document::parse(&stored.bytes, None).ok());
            let entry = match document {
                Some(document) => Entry {
                    children: document.children().into_iter().map(|child| child.digest.clone()).collect(),
                    subject: subject_of(&document).map(|subject| subject.digest.clone()),
                },
                None => Entry { children: Vec::new(), subject: None },
            };
            entries.insert(digest, entry);
        }
        Ok(entries)
    }

    /// Removes manifests that no tag leads to, from the repository and from `entries`.
    fn untagged(&mut self, name: &str, entries: &mut HashMap<Digest, Entry>) -> io::Result<()> {
        let mut referrers: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
        for (digest, entry) in &*entries {
            if let Some(subject) = &entry.subject {
                referrers.entry(subject).or_default().push(digest);
            }
        }
        let mut kept: HashSet<Digest> = HashSet::new();
        let mut pending = Vec::new();
        for tag in self.storage.tags(name)?.unwrap_or_default() {
            pending.extend(self.storage.tag(name, &tag)?);
        }
        while let Some(digest) = pending.pop() {
            if let Some(entry) = entries.get(&digest)
                && kept.insert(digest.clone())
            {
                pending.extend(entry.children.iter().cloned());
                pending.extend(referrers.get(&digest).into_iter().flatten().map(|d| (*d).clone()));
            }
        }
        let doomed: Vec<Digest> = entries.keys().filter(|digest| !kept.contains(digest)).cloned().collect();
        for digest in doomed {
            let link = self.storage.in_repository(name, "_manifests", &digest);
            if !self.remove_if_old(&link)? {
                continue;
            }
            self.collected.manifests += 1;
            let entry = entries.remove(&digest);
            if let (Some(subject), false) = (entry.and_then(|e| e.subject), self.options.dry_run) {
                found(fs::remove_file(self.storage.referrer_path(name, &subject, &digest)))?;
            }
        }
        Ok(())
    }

    /// Removes blobs that nothing needs, and returns their digests.
    fn blobs(&mut self, live: &HashSet<Digest>) -> io::Result<HashSet<Digest>> {
        let mut gone = HashSet::new();
        for algorithm in ["sha256", "sha512"] {
            for entry in found(fs::read_dir(self.storage.blobs().join(algorithm)))?.into_iter().flatten() {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                // Temporary files are handled later.
                let Ok(digest) = format!("{algorithm}:{name}").parse::<Digest>() else { continue };
                if !live.contains(&digest) && self.remove_if_old(&entry.path())? {
                    self.collected.blobs += 1;
                    gone.insert(digest);
                }
            }
        }
        Ok(gone)
    }

    /// Removes a repository's links to missing blobs and referrers.
    fn links(&mut self, name: &str, gone: &HashSet<Digest>) -> io::Result<()> {
        for digest in self.storage.digests(name, "_blobs")? {
            let dangles = gone.contains(&digest) || !self.storage.blob_path(&digest).exists();
            if dangles && !self.options.dry_run {
                self.storage.unlink_blob(name, &digest)?;
            }
        }
        for (path, referrer) in self.storage.referrer_links(name)? {
            if !self.storage.in_repository(name, "_manifests", &referrer).exists() {
                self.collected.leftovers += 1;
                if !self.options.dry_run {
                    found(fs::remove_file(path))?;
                }
            }
        }
        Ok(())
    }

    /// Removes files of interrupted writes: the lock excludes all writers now.
    fn temporary(&mut self, directory: &Path, below: bool) -> io::Result<()> {
        let mut pending: Vec<PathBuf> = vec![directory.to_path_buf()];
        while let Some(directory) = pending.pop() {
            for entry in found(fs::read_dir(&directory))?.into_iter().flatten() {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    if below {
                        pending.push(entry.path());
                    }
                } else if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    let Some(metadata) = found(entry.metadata())? else { continue };
                    self.collected.leftovers += 1;
                    self.collected.bytes += metadata.len();
                    if !self.options.dry_run {
                        found(fs::remove_file(entry.path()))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes a file older than the grace time (a dry run only counts it); false if the file is spared.
    fn remove_if_old(&mut self, path: &Path) -> io::Result<bool> {
        let Some(metadata) = found(fs::metadata(path))? else { return Ok(false) };
        let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
        if age < self.options.grace {
            self.collected.spared += 1;
            self.collected.bytes_spared += metadata.len();
            return Ok(false);
        }
        self.collected.bytes += metadata.len();
        if !self.options.dry_run {
            found(fs::remove_file(path))?;
        }
        Ok(true)
    }
}
