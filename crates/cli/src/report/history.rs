//! The records of recent builds, in the directory `builds` of the store: one file per build, named by its
//! begin and its id, so that the names sort by time. A file appears complete, by rename, or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::record::Record;

/// Records that are kept; a new one removes the oldest.
const RECORDS_MAX: usize = 50;

/// The largest record that is read, in bytes. 2,000 steps with commands of 4 kB take less.
const RECORD_SIZE_MAX: u64 = 64 << 20;

/// The records of a store.
pub struct History(PathBuf);

impl History {
    /// The records of the store at `root`.
    pub fn of(root: &Path) -> History {
        History(root.join("builds"))
    }

    /// Adds a record and removes the oldest ones.
    ///
    /// # Errors
    ///
    /// The directory cannot be written.
    pub fn add(&self, record: &Record) -> Result<()> {
        let doing = || format!("record the build in {}", self.0.display());
        let text = serde_json::to_vec(record)?;
        let mut file = match tempfile::NamedTempFile::new_in(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.0).with_context(doing)?;
                tempfile::NamedTempFile::new_in(&self.0).with_context(doing)?
            }
            file => file.with_context(doing)?,
        };
        // Not synced, which took as long as ten cached steps: when the power fails, this record may be lost.
        file.write_all(&text).with_context(doing)?;
        let began = record.began.replace([':', '/'], "");
        file.persist(self.0.join(format!("{began}-{}.json", record.id)))
            .map_err(|e| e.error)
            .with_context(doing)?;
        self.remove_old()
    }

    /// Removes the oldest records, and files of builds that were killed while they wrote, once they are a
    /// day old.
    fn remove_old(&self) -> Result<()> {
        const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
        let all = self.entries()?;
        for name in all.iter().filter(|name| name.starts_with(".tmp")) {
            let path = self.0.join(name);
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
            if modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > DAY) {
                let _ = fs::remove_file(path);
            }
        }
        let names = records(all);
        for name in &names[..names.len().saturating_sub(RECORDS_MAX)] {
            // Another build may have removed it.
            let _ = fs::remove_file(self.0.join(name));
        }
        Ok(())
    }

    /// Names of all files.
    fn entries(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("read {}", self.0.display())),
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    /// Names of the files, the oldest first.
    fn names(&self) -> Result<Vec<String>> {
        Ok(records(self.entries()?))
    }

    /// The newest record. A file that lost its content when the power failed is none.
    fn last<'n>(&self, names: &'n [String]) -> Option<&'n String> {
        let is_empty =
            |name: &String| fs::metadata(self.0.join(name)).is_ok_and(|metadata| metadata.len() == 0);
        names.iter().rev().find(|name| !is_empty(name))
    }

    /// All records that can be read, the newest first. A damaged file is skipped.
    pub fn all(&self) -> Result<Vec<Record>> {
        let names = self.names()?;
        Ok(names.iter().rev().filter_map(|name| self.read(name).ok()).collect())
    }

    fn read(&self, name: &str) -> Result<Record> {
        let path = self.0.join(name);
        let doing = || format!("read {}", path.display());
        if fs::metadata(&path).with_context(doing)?.len() > RECORD_SIZE_MAX {
            bail!("{} is larger than any record", path.display());
        }
        let bytes = fs::read(&path).with_context(doing)?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }

    /// The record that `wanted` names: `last`, or the first digits of an id.
    ///
    /// # Errors
    ///
    /// There is none, or several ids begin so.
    pub fn find(&self, wanted: &str) -> Result<Record> {
        let names = self.names()?;
        let id = |name: &String| name.rsplit_once('-').map_or("", |(_, rest)| rest).to_string();
        let found: Vec<&String> = match wanted {
            "last" => self.last(&names).into_iter().collect(),
            _ => names.iter().filter(|name| !wanted.is_empty() && id(name).starts_with(wanted)).collect(),
        };
        match found[..] {
            [name] => self.read(name),
            [] if names.is_empty() || wanted == "last" => {
                bail!("no build is recorded yet in {}", self.0.display())
            }
            [] => bail!("no recorded build {wanted}: \"crossdock report ls\" lists them"),
            _ => bail!("{} recorded builds begin with {wanted}: give more digits", found.len()),
        }
    }
}

/// Those of the names that are of records, the oldest first.
fn records(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| name.ends_with(".json") && name.contains('-'));
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn only_recent_builds_are_kept() {
        let root = tempfile::tempdir().expect("a directory");
        let history = History::of(root.path());
        assert!(history.find("last").expect_err("empty").to_string().contains("no build is recorded"));
        for number in 0..RECORDS_MAX + 5 {
            let began = format!("2026-01-01T00:{:02}:{:02}.000Z", number / 60, number % 60);
            history.add(&Record { id: format!("{number:016x}"), began, ..record() }).expect("added");
        }
        let all = history.all().expect("read");
        assert_eq!((all.len(), all[0].id.as_str()), (RECORDS_MAX, "0000000000000036"));
        assert_eq!(history.find("last").expect("there").id, all[0].id);
        assert_eq!(history.find("0000000000000036").expect("there"), all[0]);
        assert!(history.find("00").expect_err("many").to_string().contains("50 recorded builds"));
        assert!(history.find("zz").expect_err("none").to_string().contains("report ls"));
    }

    #[test]
    fn a_damaged_record_is_skipped_and_named() {
        let root = tempfile::tempdir().expect("a directory");
        let history = History::of(root.path());
        history.add(&record()).expect("added");
        let torn = root.path().join("builds/2027-01-01T000000Z-ffff.json");
        fs::write(&torn, "{\"id\":").expect("written");
        assert_eq!(history.all().expect("read").len(), 1);
        assert!(history.find("last").expect_err("torn").to_string().contains("is damaged"));
        assert_eq!(history.find("0123").expect("whole"), record());
    }

    #[test]
    fn a_record_without_content_is_none() {
        let root = tempfile::tempdir().expect("a directory");
        let history = History::of(root.path());
        fs::create_dir_all(root.path().join("builds")).expect("a directory");
        let lost = |name: &str| fs::write(root.path().join("builds").join(name), "").expect("written");
        lost("2025-01-01T000000Z-eeee.json");
        assert!(history.find("last").expect_err("nothing").to_string().contains("no build is recorded"));
        history.add(&record()).expect("added");
        lost("2027-01-01T000000Z-ffff.json");
        assert_eq!((history.find("last").expect("whole"), history.all().expect("read").len()), (record(), 1));
    }
}
