//! Records of builds that are over, for `buildx history` (BuildKit, solver/llbsolver/history.go).
//!
//! A record and the log of a build are two files in the store. Names of builds come from clients, so files
//! are named by their digests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, StatusResponse,
};
use crossdock_delivery::files::write_whole;
use crossdock_oci::{Digest, Store};
use prost::Message;
use tokio::sync::broadcast;

/// Records that are kept beside pinned ones, as BuildKit keeps them.
const KEPT: usize = 50;

/// Events that a slow client may be behind.
const BACKLOG: usize = 256;

/// The records of a store.
pub struct History {
    directory: PathBuf,
    events: broadcast::Sender<BuildHistoryEvent>,
    generation: AtomicI32,
}

impl History {
    /// The records of this store.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub fn open(store: &Store) -> Result<History> {
        let directory = store.root().join("buildkit/history");
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        Ok(History { directory, events: broadcast::channel(BACKLOG).0, generation: AtomicI32::new(0) })
    }

    fn path(&self, reference: &str, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", &Digest::of(reference.as_bytes()).hex()[..32]))
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<BuildHistoryEvent> {
        self.events.subscribe()
    }

    fn tell(&self, kind: BuildHistoryEventType, record: BuildHistoryRecord) {
        // Nobody may be listening.
        let _ = self.events.send(BuildHistoryEvent { r#type: kind.into(), record: Some(record) });
    }

    /// A build has begun.
    pub fn begun(&self, record: BuildHistoryRecord) {
        self.tell(BuildHistoryEventType::Started, record);
    }

    /// A build is over: writes its record and its log.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn ended(&self, mut record: BuildHistoryRecord, log: &[StatusResponse]) -> Result<()> {
        let mut bytes = Vec::new();
        for status in log {
            status.encode_length_delimited(&mut bytes).context("encode the log")?;
        }
        record.generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        write_whole(&self.path(&record.r#ref, "log"), &bytes)?;
        write_whole(&self.path(&record.r#ref, "record"), &record.encode_to_vec())?;
        self.tell(BuildHistoryEventType::Complete, record);
        self.prune()
    }

    /// The record of a build.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn record(&self, reference: &str) -> Result<Option<BuildHistoryRecord>> {
        read(&self.path(reference, "record"))
    }

    /// All records, the latest first.
    ///
    /// # Errors
    ///
    /// The directory cannot be read; a damaged record is left out.
    pub fn records(&self) -> Result<Vec<BuildHistoryRecord>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory).context("read the history of builds")? {
            let path = entry.context("read the history of builds")?.path();
            if path.extension().is_some_and(|kind| kind == "record") {
                all.extend(read(&path).ok().flatten());
            }
        }
        all.sort_by_key(|record| {
            record.created_at.map_or((0, 0), |time| (-time.seconds, -i64::from(time.nanos)))
        });
        Ok(all)
    }

    /// The log of a build that is over.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn log(&self, reference: &str) -> Result<Option<Vec<StatusResponse>>> {
        let path = self.path(reference, "log");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let status = StatusResponse::decode_length_delimited(&mut rest);
            all.push(status.with_context(|| format!("{} is damaged", path.display()))?);
        }
        Ok(Some(all))
    }

    /// Pins a record or takes the pin away.
    ///
    /// # Errors
    ///
    /// There is no such record, or it cannot be written.
    pub fn pin(&self, reference: &str, pinned: bool) -> Result<()> {
        let mut record =
            self.record(reference)?.with_context(|| format!("no build {reference} is recorded"))?;
        record.pinned = pinned;
        write_whole(&self.path(reference, "record"), &record.encode_to_vec())?;
        self.tell(BuildHistoryEventType::Complete, record);
        Ok(())
    }

    /// Removes a record.
    ///
    /// # Errors
    ///
    /// There is no such record, or it cannot be removed.
    pub fn delete(&self, reference: &str) -> Result<()> {
        let record = self.record(reference)?.with_context(|| format!("no build {reference} is recorded"))?;
        fs::remove_file(self.path(reference, "record")).context("remove the record")?;
        // A log without a record is removed by nobody else, but does no harm.
        let _ = fs::remove_file(self.path(reference, "log"));
        self.tell(BuildHistoryEventType::Deleted, record);
        Ok(())
    }

    fn prune(&self) -> Result<()> {
        for record in self.records()?.into_iter().filter(|record| !record.pinned).skip(KEPT) {
            self.delete(&record.r#ref)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<BuildHistoryRecord>> {
    match fs::read(path) {
        Ok(bytes) => {
            let record = BuildHistoryRecord::decode(&bytes[..]);
            Ok(Some(record.with_context(|| format!("{} is damaged", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::google::protobuf::Timestamp;

    fn record(name: &str, seconds: i64) -> BuildHistoryRecord {
        let created_at = Some(Timestamp { seconds, nanos: 0 });
        BuildHistoryRecord { r#ref: name.to_string(), created_at, ..BuildHistoryRecord::default() }
    }

    #[test]
    fn records_are_kept_pinned_and_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let history = History::open(&store).expect("opens");
        let mut events = history.events();
        history.ended(record("first", 1), &[StatusResponse::default()]).expect("written");
        history.pin("first", true).expect("pinned");
        for number in 0..=KEPT {
            history.ended(record(&format!("b/../{number}"), 10 + number as i64), &[]).expect("written");
        }
        let all = history.records().expect("readable");
        assert_eq!(all.len(), KEPT + 1, "the pinned one, and as many as are kept");
        assert_eq!(all[0].r#ref, format!("b/../{KEPT}"), "the latest first");
        assert!(all.last().is_some_and(|last| last.r#ref == "first" && last.pinned));
        assert_eq!(history.log("first").expect("readable").map(|log| log.len()), Some(1));
        assert_eq!(history.log("b/../0").expect("no error"), None);
        history.delete("first").expect("removed");
        assert!(history.record("first").expect("no error").is_none());
        assert!(history.delete("first").is_err());
        assert_eq!(events.try_recv().expect("told").r#type, i32::from(BuildHistoryEventType::Complete));
    }
}
