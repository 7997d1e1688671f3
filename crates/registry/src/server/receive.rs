//! Bodies of requests. A client that sends nothing costs no thread: a piece that came is hashed and written
//! by a thread that ends with it, while the next one comes.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crossdock_oci::digest::Hasher;
use crossdock_oci::store::WriteBehind;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::socket::RATE_MIN;

/// Bytes that are taken from the client while others are written.
const AHEAD: usize = 32 * 1024;
/// The same as long as more than [`FREE`] places are free: each piece costs a wake-up of a thread and one back.
const AHEAD_OF_FEW: usize = 256 * 1024;
const FREE: usize = 4;

/// Bodies of more bytes are not held in memory by everybody at once.
const LARGE: usize = 64 * 1024;

/// After an early answer so many bytes of the request's body are read, so that the connection can be used
/// again.
const REST_MAX: usize = 64 * 1024;
/// And for so long.
const REST_TIME: Duration = Duration::from_millis(200);

/// How the reception of a body ended.
pub(super) enum Received {
    /// To its end.
    Whole,
    /// The client went away, or sent too little for too long; what came is written.
    Cut,
}

/// What a body is written to.
pub(super) struct Sink {
    file: File,
    /// `None` once it no longer fits what is in the file.
    hasher: Option<Hasher>,
    behind: WriteBehind,
    /// The disk begins to write while the body still comes.
    sync: bool,
    written: u64,
}

impl Sink {
    pub(super) fn new(file: File, hasher: Option<Hasher>, sync: bool) -> Sink {
        Sink { file, hasher, behind: WriteBehind::default(), sync, written: 0 }
    }

    fn write(mut self, piece: &[u8]) -> (Sink, io::Result<()>) {
        if let Err(e) = self.file.write_all(piece) {
            self.hasher = None;
            return (self, Err(e));
        }
        if self.sync {
            self.behind.wrote(&self.file, piece.len());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        self.written += piece.len() as u64;
        (self, Ok(()))
    }
}

/// Bytes that came since some time.
struct Pace {
    since: Instant,
    bytes: u64,
    stall: Duration,
}

impl Pace {
    fn new(stall: Duration) -> Pace {
        Pace { since: Instant::now(), bytes: 0, stall }
    }

    /// When the client must have sent enough.
    fn deadline(&self) -> Instant {
        self.since + self.stall
    }

    fn came(&mut self, length: usize) {
        self.bytes += length as u64;
        if self.bytes >= (RATE_MIN * self.stall.as_secs()).max(1) {
            *self = Pace::new(self.stall);
        }
    }
}

/// Appends a request's body to a file and feeds the hash; a piece is written when there is a place in `disk`.
/// At most `limit` bytes are taken. Returns how it ended, the hash of all that is in the file, and the number
/// of bytes written.
pub(super) async fn receive(
    body: &mut Incoming,
    sink: Sink,
    stall: Duration,
    limit: Option<u64>,
    disk: &Arc<Semaphore>,
) -> (io::Result<Received>, Option<Hasher>, u64) {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut pace = Pace::new(stall);
    let mut ended = None;
    // A copy, since the pieces that HTTP gives are parts of its read buffer, and each would keep all of that
    // in memory.
    let mut gathered: Vec<u8> = Vec::new();
    let mut sink = Some(sink);
    let mut writing: Option<JoinHandle<(Sink, io::Result<()>)>> = None;
    loop {
        if !gathered.is_empty()
            && let Some(sink) = sink.take()
        {
            // Nothing more is taken meanwhile: what the client has sent by then waits in the kernel.
            let asked = Instant::now();
            let Ok(place) = disk.clone().acquire_owned().await else {
                return (Err(io::Error::other("the server stops")), None, sink.written);
            };
            let piece = std::mem::take(&mut gathered);
            writing = Some(tokio::task::spawn_blocking(move || {
                let _place = place;
                sink.write(&piece)
            }));
            // Nor is the wait the client's fault.
            pace.since += asked.elapsed();
        }
        let ahead = if disk.available_permits() > FREE { AHEAD_OF_FEW } else { AHEAD };
        let takes = ended.is_none() && gathered.len() < ahead;
        tokio::select! {
            done = async { writing.as_mut().expect("checked").await }, if writing.is_some() => {
                writing = None;
                match done {
                    Ok((back, Ok(()))) => sink = Some(back),
                    Ok((back, Err(e))) => return (Err(e), None, back.written),
                    Err(e) => return (Err(io::Error::other(e)), None, 0),
                }
                if !takes {
                    // The disk was slow, not the client.
                    pace = Pace::new(stall);
                }
            }
            frame = tokio::time::timeout_at(pace.deadline(), body.frame()), if takes => match frame {
                Ok(Some(Ok(frame))) => if let Ok(mut bytes) = frame.into_data() {
                    bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= bytes.len() as u64;
                    pace.came(bytes.len());
                    gathered.extend_from_slice(&bytes);
                    if left == 0 {
                        ended = Some(Received::Cut);
                    }
                },
                Ok(None) => ended = Some(Received::Whole),
                Ok(Some(Err(_))) | Err(_) => ended = Some(Received::Cut),
            },
            else => break,
        }
    }
    let sink = sink.expect("nothing is being written");
    let end = ended.expect("the loop ends with the body");
    // What the disk was given already is of no interest where the client gave up.
    let settled = match end {
        Received::Whole => sink.behind.settle(),
        Received::Cut => Ok(()),
    };
    match settled {
        Ok(()) => (Ok(end), sink.hasher, sink.written),
        Err(e) => (Err(e), None, sink.written),
    }
}

/// Why a small body could not be had.
pub(super) enum CollectError {
    TooLarge,
    Cut,
}

/// A body that fits in memory, of at most `limit` bytes. One of more than [`LARGE`] waits for a place in
/// `large`.
pub(super) async fn collect(
    body: &mut Incoming,
    limit: usize,
    stall: Duration,
    large: &Semaphore,
) -> Result<Vec<u8>, CollectError> {
    let mut collected = Vec::new();
    let mut place = None;
    if body.size_hint().lower() > limit as u64 {
        return Err(CollectError::TooLarge);
    }
    let mut pace = Pace::new(stall);
    loop {
        match tokio::time::timeout_at(pace.deadline(), body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(bytes) = frame.into_data() else { continue };
                if collected.len() + bytes.len() > limit {
                    return Err(CollectError::TooLarge);
                }
                if collected.len() + bytes.len() > LARGE && place.is_none() {
                    place = Some(large.acquire().await.map_err(|_| CollectError::Cut)?);
                    pace = Pace::new(stall);
                }
                pace.came(bytes.len());
                collected.extend_from_slice(&bytes);
            }
            Ok(None) => return Ok(collected),
            Ok(Some(Err(_))) | Err(_) => return Err(CollectError::Cut),
        }
    }
}

/// Reads a small rest of a body that nobody wants. False if there is more.
pub(super) async fn skip_rest(body: &mut Incoming) -> bool {
    if body.size_hint().lower() > REST_MAX as u64 {
        return false;
    }
    let skip = async {
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame.ok().and_then(|f| f.into_data().ok()).map_or(0, |bytes| bytes.len());
            if size > REST_MAX {
                return false;
            }
            if body.is_end_stream() {
                break;
            }
        }
        true
    };
    tokio::time::timeout(REST_TIME, skip).await.unwrap_or(false)
}
