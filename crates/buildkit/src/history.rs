//! Records of builds that are over, for `buildx history` (BuildKit, solver/llbsolver/history.go).
//!
//! Records are files in the store. Names of builds come from clients, so files are named by their digests.
//! They are there before the client has its answer, but no client waits for the disk: when the power fails,
//! those of the last seconds may be lost, and what is damaged then counts as absent. What a record names (its
//! log, provenance) are blobs beside the records, which clients read by the service of `content.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildResultInfo, Descriptor, StatusResponse,
};
use crossdock_delivery::attest::statement::{PREDICATE_TYPE, STATEMENT};
use crossdock_delivery::files::{write_report, write_whole};
use crossdock_oci::{Digest, Store};
use prost::Message;
use tokio::sync::broadcast;

/// Records that are kept beside pinned ones, as BuildKit keeps them.
const KEPT: usize = 50;

/// Media type of a log: statuses, each after its length in four bytes, the lowest first.
const LOG: &str = "application/vnd.buildkit.status.v0";

/// Media type of the error of a build with its details, misspelt as BuildKit has it.
const ERROR: &str = "application/vnd.googeapis.google.rpc.status+proto";

/// Events that a slow client may be behind.
const BACKLOG: usize = 256;

/// What is attested of an image of a build, for its record.
pub struct Attested {
    /// The platform, if the build was for several.
    pub platform: Option<String>,
    /// What the predicate is.
    pub predicate_type: String,
    /// The predicate in JSON.
    pub predicate: Vec<u8>,
}

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
        let blobs = directory.join("blobs");
        fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
        Ok(History { directory, events: broadcast::channel(BACKLOG).0, generation: AtomicI32::new(0) })
    }

    fn path(&self, reference: &str) -> PathBuf {
        self.directory.join(format!("{}.record", &Digest::of(reference.as_bytes()).hex()[..32]))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Something that a record names, by its digest; `None` if it is not there, or damaged.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.blob_path(digest);
        match fs::read(&path) {
            Ok(bytes) => {
                let mut hasher = digest.hasher();
                hasher.update(&bytes);
                Ok((hasher.finish() == *digest).then_some(bytes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn write_blob(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        write_report(&self.blob_path(&digest), bytes)?;
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let media_type = media_type.to_string();
        Ok(Descriptor { media_type, digest: digest.to_string(), size, ..Descriptor::default() })
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

    /// A build is over: writes its record, its log, what is attested of its images, the manifest or index
    /// that it exported, and why it failed. [`History::prune`] makes room afterwards.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn ended(
        &self,
        mut record: BuildHistoryRecord,
        log: &[StatusResponse],
        attested: &[Attested],
        exported: Option<(crossdock_oci::Descriptor, Vec<u8>)>,
        failed: Option<rpc::Status>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        for status in log {
            let length = u32::try_from(status.encoded_len()).context("a status of more than 4 GiB")?;
            bytes.extend_from_slice(&length.to_le_bytes());
            status.encode(&mut bytes).context("encode the log")?;
        }
        record.logs = Some(self.write_blob(LOG, &bytes)?);
        for Attested { platform, predicate_type, predicate } in attested {
            let mut descriptor = self.write_blob(STATEMENT, predicate)?;
            descriptor.annotations.insert(PREDICATE_TYPE.to_string(), predicate_type.clone());
            let result = match platform {
                None => record.result.get_or_insert_with(BuildResultInfo::default),
                Some(platform) => record.results.entry(platform.clone()).or_default(),
            };
            result.attestations.push(descriptor);
        }
        if let Some((descriptor, bytes)) = exported {
            let mut blob = self.write_blob(&descriptor.media_type, &bytes)?;
            blob.annotations = descriptor.annotations.into_iter().collect();
            record.result.get_or_insert_with(BuildResultInfo::default).results.insert(0, blob);
        }
        if let Some(mut status) = failed {
            record.external_error = Some(self.write_blob(ERROR, &status.encode_to_vec())?);
            // Records are listed often, and details hold whole Dockerfiles.
            status.details.clear();
            record.error = Some(status);
        }
        record.generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        write_report(&self.path(&record.r#ref), &record.encode_to_vec())?;
        self.tell(BuildHistoryEventType::Complete, record);
        Ok(())
    }

    /// The record of a build.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn record(&self, reference: &str) -> Result<Option<BuildHistoryRecord>> {
        read(&self.path(reference))
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
        let Some(logs) = self.record(reference)?.and_then(|record| record.logs) else { return Ok(None) };
        let digest: Digest = logs.digest.parse().with_context(|| format!("the record of {reference}"))?;
        let Some(bytes) = self.blob(&digest)? else { return Ok(None) };
        let damaged = || format!("the log {digest} is damaged");
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let (status, more) = more.split_at_checked(length).with_context(damaged)?;
            all.push(StatusResponse::decode(status).with_context(damaged)?);
            rest = more;
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
        write_whole(&self.path(reference), &record.encode_to_vec())?;
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
        fs::remove_file(self.path(reference)).context("remove the record")?;
        let kept: BTreeSet<String> = self.records()?.iter().flat_map(blobs).collect();
        for blob in blobs(&record).filter(|blob| !kept.contains(blob)) {
            if let Ok(digest) = blob.parse() {
                // A blob that no record names is removed by nobody else, but does no harm.
                let _ = fs::remove_file(self.blob_path(&digest));
            }
        }
        self.tell(BuildHistoryEventType::Deleted, record);
        Ok(())
    }

    /// Removes the records beyond those that are kept. It reads all of them, so no client should wait for it.
    ///
    /// # Errors
    ///
    /// The directory cannot be read; a record cannot be removed.
    pub fn prune(&self) -> Result<()> {
        for record in self.records()?.into_iter().filter(|record| !record.pinned).skip(KEPT) {
            self.delete(&record.r#ref)?;
        }
        Ok(())
    }
}

/// The digests of the blobs that a record names.
fn blobs(record: &BuildHistoryRecord) -> impl Iterator<Item = String> {
    let results = record.result.iter().chain(record.results.values());
    let named = results.flat_map(|result| result.attestations.iter().chain(result.results.values()));
    let own = record.logs.iter().chain(&record.external_error);
    let all: Vec<String> = own.chain(named).map(|blob| blob.digest.clone()).collect();
    all.into_iter()
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
        let attested = |platform: Option<&str>| Attested {
            platform: platform.map(str::to_string),
            predicate_type: "https://slsa.dev/provenance/v1".to_string(),
            predicate: b"{}".to_vec(),
        };
        let log = [StatusResponse::default()];
        history
            .ended(record("first", 1), &log, &[attested(Some("linux/arm64"))], None, None)
            .expect("written");
        history.ended(record("second", 2), &log, &[attested(None)], None, None).expect("written");
        history.pin("first", true).expect("pinned");
        for number in 0..=KEPT {
            history
                .ended(record(&format!("b/../{number}"), 10 + number as i64), &[], &[], None, None)
                .expect("written");
            history.prune().expect("pruned");
        }
        let all = history.records().expect("readable");
        assert_eq!(all.len(), KEPT + 1, "the pinned one, and as many as are kept");
        assert_eq!(all[0].r#ref, format!("b/../{KEPT}"), "the latest first");
        assert!(all.last().is_some_and(|last| last.r#ref == "first" && last.pinned));
        assert_eq!(history.log("first").expect("readable").map(|log| log.len()), Some(1));
        assert_eq!(history.log("b/../0").expect("no error"), None);
        let first = history.record("first").expect("readable").expect("a record");
        let named: Digest = first.results["linux/arm64"].attestations[0].digest.parse().expect("a digest");
        assert_eq!(history.blob(&named).expect("readable").as_deref(), Some(&b"{}"[..]));
        let status = rpc::Status { code: 2, message: "no".to_string(), details: vec![Default::default()] };
        history.ended(record("failed", 1000), &[], &[], None, Some(status.clone())).expect("written");
        let failed = history.record("failed").expect("readable").expect("a record");
        assert_eq!(
            failed.error.map(|error| (error.message, error.details.len())),
            Some(("no".to_string(), 0))
        );
        let named_error = failed.external_error.expect("an error").digest.parse().expect("a digest");
        let whole = history.blob(&named_error).expect("readable").expect("there");
        assert_eq!(rpc::Status::decode(&whole[..]).expect("a status"), status);
        fs::write(history.blob_path(&named_error), &whole[1..]).expect("damaged");
        assert_eq!(history.blob(&named_error).expect("no error"), None, "as after a power failure");
        history.delete("failed").expect("removed");
        assert_eq!(history.blob(&named_error).expect("no error"), None);
        history.delete("first").expect("removed");
        assert_eq!(
            history.blob(&named).expect("no error"),
            None,
            "nothing else names it: \"second\" was pruned"
        );
        assert!(history.record("first").expect("no error").is_none());
        assert!(history.delete("first").is_err());
        assert_eq!(events.try_recv().expect("told").r#type, i32::from(BuildHistoryEventType::Complete));
    }
}
