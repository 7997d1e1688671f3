//! Named volumes: directories that outlive the commands that use them (docker's `--volume NAME:TARGET`).
//!
//! A volume is `volumes/NAME/` with the content in `data`, `volume.json`, and `lock`, which every user of the
//! volume holds shared and who removes it exclusively. A volume exists when it has its `volume.json`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result, StoreError};
use crate::name::random_name;
use crate::store::Store;
use crate::store::files::{make_dir, read_regular, replace_file, walk_size};
use crate::store::gc::entries;
use crate::store::image::now;
use crate::store::lock::{self, Mode};

/// Largest `volume.json` that is read, in bytes.
const RECORD_SIZE_MAX: u64 = 1 << 20;

/// Longest name of a volume, in bytes; a file name has at most 255.
const NAME_LENGTH_MAX: usize = 255;

/// What `volume.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct VolumeRecord {
    /// Seconds since 1970.
    created: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A volume as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory with its content.
    pub path: PathBuf,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether a command uses it now.
    pub is_used: bool,
}

/// A volume in use: nobody removes it until this is dropped.
#[derive(Debug)]
pub struct VolumeUse {
    path: PathBuf,
    _lock: File,
}

impl VolumeUse {
    /// The directory to mount.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What became of an attempt to remove a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeRemoval {
    /// It is gone; it had this many bytes.
    Removed(u64),
    /// A command uses it.
    Used,
    /// There is none of that name.
    Absent,
}

/// Whether a volume may have this name: a letter or digit, then letters, digits, `_`, `.` and `-`, as in
/// docker.
pub fn is_volume_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    name.len() <= NAME_LENGTH_MAX
        && name.bytes().all(is_plain)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Makes the directory that commands see, whoever their user is; the one around it is closed to others.
fn make_content(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.context("create", path),
    }
}

impl Store {
    /// Makes a volume; false if there is one of that name, which stays as it is.
    ///
    /// # Errors
    ///
    /// Also [`StoreError::VolumeName`], see [`is_volume_name`].
    pub fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<bool> {
        Ok(self.made_volume(name, labels)?.1)
    }

    /// A volume, made if it is missing, kept from removal until the result is dropped.
    ///
    /// An empty volume that nobody else uses is filled by `fill`, which runs in a directory that no command
    /// has mounted; the complete directory is then moved to its place. Of several processes one fills it.
    ///
    /// # Errors
    ///
    /// Those of [`Store::create_volume`] and of `fill`.
    pub fn volume<E: From<StoreError>>(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<VolumeUse, E> {
        let (used, _) = self.made_volume(name, &BTreeMap::new())?;
        let directory = used.path.parent().expect("the content lies in the volume's directory").to_path_buf();
        let fill_path = directory.join("fill.lock");
        let _filling = lock::lock(&fill_path, Mode::Exclusive).context("lock", &fill_path)?;
        if !entries(&used.path)?.is_empty() {
            return Ok(used);
        }
        // Who has mounted the empty directory would not see the one that takes its place.
        let lock_path = directory.join("lock");
        drop(used);
        let Some(alone) = lock::try_lock(&lock_path, Mode::Exclusive).context("lock", &lock_path)? else {
            return Ok(self.made_volume(name, &BTreeMap::new())?.0);
        };
        let (path, new) = (directory.join("data"), directory.join("new"));
        // Left by a process that was killed.
        crate::layer::tree::remove(&new, &self.dir("tmp")).context("remove", &new)?;
        make_content(&new)?;
        fill(&new)?;
        // Replaces an empty directory, rename(2).
        fs::rename(&new, &path).context("create", &path)?;
        drop(alone);
        Ok(self.made_volume(name, &BTreeMap::new())?.0)
    }

    fn made_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(VolumeUse, bool)> {
        if !is_volume_name(name) {
            return Err(StoreError::VolumeName(name.to_string()));
        }
        self.lease.require_writable()?;
        let volumes = self.dir("volumes");
        make_dir(&volumes)?;
        let directory = volumes.join(name);
        let lock_path = directory.join("lock");
        loop {
            make_dir(&directory)?;
            let lock = match lock::lock(&lock_path, Mode::Shared) {
                // It was removed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("lock", &lock_path)?,
            };
            let (path, record) = (directory.join("data"), directory.join("volume.json"));
            make_content(&path)?;
            let is_new = !record.exists();
            if is_new {
                let text = serde_json::to_vec(&VolumeRecord { created: now(), labels: labels.clone() })
                    .expect("text and numbers");
                // Several processes may do this; one record wins, and all are alike but for the time.
                replace_file(&record, &directory.join(random_name()), &text)?;
            }
            return Ok((VolumeUse { path, _lock: lock }, is_new));
        }
    }

    /// The volume of this name.
    pub fn find_volume(&self, name: &str) -> Result<Option<Volume>> {
        Ok(self.volumes()?.into_iter().find(|volume| volume.name == name))
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let directory = self.dir("volumes");
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in entries(&directory)? {
            let record = entry.join("volume.json");
            let record: VolumeRecord = match read_regular(&record, RECORD_SIZE_MAX) {
                Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
                // It is being made or removed.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(_) => VolumeRecord::default(),
            };
            let lock_path = entry.join("lock");
            let is_used = lock::try_lock(&lock_path, Mode::Exclusive).is_ok_and(|lock| lock.is_none());
            found.push(Volume {
                name: entry.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                path: entry.join("data"),
                created: record.created,
                labels: record.labels,
                is_used,
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Bytes of a volume's content on disk.
    pub fn volume_size(&self, volume: &Volume) -> u64 {
        walk_size(&volume.path)
    }

    /// Removes a volume that nobody uses.
    pub fn remove_volume(&self, name: &str) -> Result<VolumeRemoval> {
        let Some(volume) = self.find_volume(name)? else { return Ok(VolumeRemoval::Absent) };
        self.lease.require_writable()?;
        let directory = self.dir("volumes").join(name);
        let lock_path = directory.join("lock");
        let lock = match lock::try_lock(&lock_path, Mode::Exclusive) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(VolumeRemoval::Absent),
            other => other.context("lock", &lock_path)?,
        };
        let Some(_lock) = lock else { return Ok(VolumeRemoval::Used) };
        let bytes = self.volume_size(&volume);
        // One step, so that a volume is there or is not, whatever ends this process.
        let trash = self.lease.temporary()?;
        fs::rename(&directory, &trash).context("remove", &directory)?;
        crate::layer::tree::remove(&trash, &self.dir("tmp")).context("remove", &trash)?;
        Ok(VolumeRemoval::Removed(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfilled(_: &Path) -> Result<()> {
        Ok(())
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&directory.path().join("store")).expect("a store");
        (directory, store)
    }

    #[test]
    fn a_volume_is_filled_once_and_kept_while_it_is_used() {
        let (_directory, store) = store();
        assert_eq!(store.volumes().expect("none"), []);
        let labels = BTreeMap::from([("a".to_string(), "b".to_string())]);
        assert!(store.create_volume("db", &labels).expect("made"));
        assert!(!store.create_volume("db", &BTreeMap::new()).expect("it exists"));
        let fill = |path: &Path| fs::write(path.join("f"), "first").context("write", path);
        let used = store.volume("db", fill).expect("filled");
        assert_eq!(fs::read(used.path().join("f")).expect("a file"), b"first");
        fs::write(used.path().join("f"), "second").expect("written");
        // It has content, so it is not filled again, although another process asks for it.
        let again = store.session().volume("db", |_: &Path| -> Result<()> { panic!("filled twice") });
        assert_eq!(fs::read(again.expect("used").path().join("f")).expect("a file"), b"second");
        let listed = store.find_volume("db").expect("read").expect("there");
        assert_eq!((listed.is_used, listed.labels), (true, labels));
        assert_eq!(store.remove_volume("db").expect("tried"), VolumeRemoval::Used);
        drop(used);
        assert!(matches!(store.remove_volume("db"), Ok(VolumeRemoval::Removed(bytes)) if bytes > 0));
        assert_eq!(store.remove_volume("db").expect("tried"), VolumeRemoval::Absent);
        assert_eq!(fs::read_dir(store.dir("volumes")).expect("a directory").count(), 0);
    }

    #[test]
    fn a_failure_to_fill_leaves_an_empty_volume() {
        let (_directory, store) = store();
        let failed = store.volume("v", |path: &Path| {
            fs::write(path.join("half"), "").context("write", path)?;
            Err(StoreError::UnknownImage("x".to_string()))
        });
        assert!(failed.is_err());
        let used = store.volume("v", unfilled).expect("filled");
        assert_eq!(fs::read_dir(used.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn names_are_file_names() {
        let (_directory, store) = store();
        for name in ["", ".", "..", "a/b", "-a", "_a", "a b", "ä", "a\n", &"a".repeat(256)] {
            assert!(matches!(store.volume(name, unfilled), Err(StoreError::VolumeName(_))), "{name}");
            assert_eq!(store.remove_volume(name).expect("tried"), VolumeRemoval::Absent);
        }
        for name in ["a", "A.b-c_9", &"a".repeat(255)] {
            store.volume(name, unfilled).expect(name);
        }
    }

    #[test]
    fn damaged_records_are_listed_and_can_be_removed() {
        let (_directory, store) = store();
        store.create_volume("v", &BTreeMap::new()).expect("made");
        fs::write(store.dir("volumes/v/volume.json"), "{").expect("written");
        // A process was killed before the record was written.
        fs::create_dir_all(store.dir("volumes/w/data")).expect("made");
        let names: Vec<String> = store.volumes().expect("listed").into_iter().map(|v| v.name).collect();
        assert_eq!(names, ["v"]);
        assert!(matches!(store.remove_volume("v"), Ok(VolumeRemoval::Removed(_))));
        assert!(store.create_volume("w", &BTreeMap::new()).expect("made"));
    }
}
