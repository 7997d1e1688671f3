//! Directories of a client: build contexts and Dockerfiles (BuildKit, session/filesync).

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use crossdock_oci::store::TemporaryDirectory;
use crossdock_oci::{Digest, Store};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status, Streaming};

use super::packet::file_sync_client::FileSyncClient;
use super::receive::Receiver;
use super::{MESSAGE_SIZE_MAX, Session, add_values, said};

/// Directory of the store for files of clients that are kept between builds.
const KEPT: &str = "buildkit/contexts";

/// What is wanted of a client.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The name that the client gave the directory: `context`, `dockerfile`.
    pub name: String,
    /// Only files that one of these patterns names; all if there are none.
    pub includes: Vec<String>,
    /// Patterns of files that are not wanted, as in `.dockerignore`.
    pub excludes: Vec<String>,
    /// Only these paths, and where links in them lead; all if there are none.
    pub follow: Vec<String>,
}

/// A directory with files of a client.
pub struct Synced {
    path: PathBuf,
    _kept: Kept,
}

/// How long a directory stays.
enum Kept {
    /// Until a later build changes it; nobody else changes it while the lock is held.
    Locked { _lock: File },
    /// Until this is dropped.
    Temporary { _directory: TemporaryDirectory },
}

impl Synced {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The directory of the store that holds files of clients between builds.
pub fn kept_directory(store: &Store) -> PathBuf {
    store.root().join(KEPT)
}

/// A directory for files of a client: one that has the files of an earlier build, if the client says that its
/// directory is the same and nobody else uses ours now, or else an empty one.
fn place(store: &Store, shared_key: &str, wanted: &Wanted) -> Result<Synced> {
    let temporary = || -> Result<Synced> {
        let directory = store.temporary_directory()?;
        let path = directory.path().join("files");
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Synced { path, _kept: Kept::Temporary { _directory: directory } })
    };
    if shared_key.is_empty() {
        return temporary();
    }
    // What is left out is part of the name: else two kinds of builds would delete each other's files.
    let which = [shared_key, &wanted.name, &wanted.includes.join("\n"), &wanted.follow.join("\n")];
    let name = Digest::of(which.join("\0").as_bytes()).hex()[..32].to_string();
    let path = kept_directory(store).join(name);
    std::fs::create_dir_all(path.join("files")).with_context(|| format!("create {}", path.display()))?;
    let lock = File::create(path.join("lock")).with_context(|| format!("lock {}", path.display()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Synced { path: path.join("files"), _kept: Kept::Locked { _lock: lock } }),
        Err(_) => temporary(),
    }
}

impl Session {
    /// The directory into which [`Session::fill`] may receive files.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn place(&self, store: &Store, wanted: &Wanted) -> Result<Synced> {
        place(store, self.shared_key(), wanted)
    }

    /// Receives files of a client into a directory of [`Session::place`]. `progress` hears how many bytes
    /// have come so far.
    ///
    /// # Errors
    ///
    /// The client's words; a file that cannot be written.
    pub fn fill(&self, wanted: &Wanted, directory: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        if !self.offers("/moby.filesync.v1.FileSync/DiffCopy") {
            bail!("the client sends no files: it offers no directory \"{}\"", wanted.name);
        }
        self.receive(wanted, directory, progress)
            .with_context(|| format!("receive the directory \"{}\" of the client", wanted.name))
    }

    fn receive(&self, wanted: &Wanted, directory: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let (send, receive) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(receive));
        let metadata = request.metadata_mut();
        add_values(metadata, "dir-name", std::slice::from_ref(&wanted.name))?;
        add_values(metadata, "include-patterns", &wanted.includes)?;
        add_values(metadata, "exclude-patterns", &wanted.excludes)?;
        add_values(metadata, "followpaths", &wanted.follow)?;
        let client = FileSyncClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_SIZE_MAX);
        let answer = self.block(client.diff_copy(request)).map_err(|status| said(&status))?;
        let mut packets = answer.into_inner();
        let mut receiver = Receiver::new(directory)?;
        let mut is_complete = false;
        while !is_complete {
            for packet in self.block(next_packets(&mut packets)).map_err(|status| said(&status))? {
                let Some(packet) = packet else { bail!("the client ended before all its files were sent") };
                let taken = receiver.packet(packet);
                let (asked, complete) = taken.inspect_err(|error| {
                    let data = format!("{error:#}").into_bytes();
                    let packet = Packet { r#type: PacketType::PacketErr.into(), data, ..Packet::default() };
                    // The client may be gone.
                    let _ = send.send(packet);
                })?;
                if let Some(asked) = asked {
                    send.send(asked).ok().context("the client is gone")?;
                }
                is_complete = complete;
                if complete {
                    break;
                }
            }
            progress(receiver.bytes);
        }
        receiver.complete()?;
        let end = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
        send.send(end).ok().context("the client is gone")?;
        drop(send);
        // The client's own end; everything is here, whatever it says, so nobody waits for it.
        self.runtime.spawn(async move { while let Ok(Some(_)) = packets.message().await {} });
        Ok(())
    }
}

/// Packets, and bytes of files, that are taken from a stream together: each time that this thread waits costs
/// a change of threads.
const TOGETHER: (usize, usize) = (256, 1024 * 1024);

/// The next packet, and those behind it that have come already; `None` for the end of the stream.
async fn next_packets(packets: &mut Streaming<Packet>) -> Result<Vec<Option<Packet>>, Status> {
    let mut taken = Vec::new();
    let (mut next, mut bytes) = (packets.message().await?, 0);
    while let Some(packet) = next {
        bytes += packet.data.len();
        taken.push(Some(packet));
        if taken.len() >= TOGETHER.0 || bytes >= TOGETHER.1 {
            return Ok(taken);
        }
        next = tokio::select! {
            biased;
            packet = packets.message() => packet?,
            () = std::future::ready(()) => return Ok(taken),
        };
    }
    taken.push(None);
    Ok(taken)
}
