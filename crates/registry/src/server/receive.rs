//! Bodies of requests. A client that sends nothing costs neither a thread nor memory: a piece is read, hashed
//! and written only after it has arrived and there is a place for it. The thread is free again after each
//! piece.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use crossdock_oci::digest::Hasher;
use crossdock_oci::store::WriteBehind;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::gate::HEAD_SIZE_MAX;
use super::socket::{RATE_MIN, Socket};

/// Most bytes that are hashed and written at once.
const PIECE: usize = 128 * 1024;

/// Most bytes that HTTP hands over at once: the size of its read buffer.
const FRAME: usize = HEAD_SIZE_MAX;

/// Bodies of more bytes need a place before they are held in memory.
const LARGE: usize = 64 * 1024;

/// Most bytes of a request's body that are read after an early answer, so that the connection can be used
/// again.
const REST_MAX: usize = 64 * 1024;
/// Longest time for reading them.
const REST_TIME: Duration = Duration::from_millis(200);

/// Places for pieces of bodies. Each has a buffer that is used again, since buffers that come and go between
/// those of connections would leave holes in the heap.
pub(super) struct Places {
    free: Arc<Semaphore>,
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Places {
    pub(super) fn new(count: usize) -> Places {
        Places { free: Arc::new(Semaphore::new(count)), buffers: Mutex::default() }
    }

    /// Waits for a place; `None` when the server stops.
    async fn take(self: &Arc<Places>) -> Option<Place> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        let used = self.buffers().pop();
        let buffer = used.unwrap_or_else(|| Vec::with_capacity(PIECE));
        Some(Place { buffer, places: self.clone(), _permit: permit })
    }

    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.buffers.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A place and the bytes gathered in it; free for others when dropped.
struct Place {
    buffer: Vec<u8>,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.places.buffers().push(buffer);
    }
}

/// How the reception of a body ended.
pub(super) enum Received {
    /// The whole body came.
    Whole,
    /// The client went away, or sent too little for too long; the bytes that came are written.
    Cut,
    /// The body is not chunked as RFC 9112 says; the bytes before the error are written.
    Malformed,
}

/// The file that a body is written to.
pub(super) struct Sink {
    file: File,
    /// `None` once the hash no longer matches the file's content.
    hasher: Option<Hasher>,
    behind: WriteBehind,
    /// The disk begins to write while the body still arrives.
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

/// Bytes received since a point in time.
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

/// Appends at most `limit` bytes of a request's body to a file and feeds the hash. Returns how the reception
/// ended, the hash of the whole file, and the number of bytes written.
///
/// Nothing is read before there is a place, so only as many uploads as there are places have bytes in memory;
/// the bytes of the others wait in the kernel. No upload holds a place while its client sends nothing.
pub(super) async fn receive(
    body: &mut Incoming,
    mut sink: Sink,
    socket: &Socket,
    stall: Duration,
    limit: Option<u64>,
    places: &Arc<Places>,
) -> (io::Result<Received>, Option<Hasher>, u64) {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut pace = Pace::new(stall);
    let reading = socket.pause();
    let end = loop {
        // The first bytes may have been read with the request's head.
        let mut next = tokio::select! {
            biased;
            frame = body.frame() => Some(frame),
            () = socket.readable() => None,
            () = tokio::time::sleep_until(pace.deadline()) => break Received::Cut,
        };
        let asked = Instant::now();
        let Some(mut place) = places.take().await else {
            return (Err(io::Error::other("the server stops")), None, sink.written);
        };
        if next.is_none() {
            reading.resume();
            next = arrived(body).await;
        }
        let end = loop {
            match next {
                None => break None,
                Some(None) => break Some(Received::Whole),
                Some(Some(Err(e))) if is_malformed(&e) => break Some(Received::Malformed),
                Some(Some(Err(_))) => break Some(Received::Cut),
                Some(Some(Ok(frame))) => {
                    if let Ok(mut bytes) = frame.into_data() {
                        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                        left -= bytes.len() as u64;
                        place.buffer.extend_from_slice(&bytes);
                    }
                }
            }
            if left == 0 {
                break Some(Received::Cut);
            }
            if place.buffer.len() + FRAME > PIECE {
                break None;
            }
            reading.resume();
            next = arrived(body).await;
        };
        reading.pause();
        let came = place.buffer.len();
        if came > 0 {
            match tokio::task::spawn_blocking(move || sink.write(&place.buffer)).await {
                Ok((back, Ok(()))) => sink = back,
                Ok((back, Err(e))) => return (Err(e), None, back.written),
                Err(e) => return (Err(io::Error::other(e)), None, 0),
            }
        }
        // Neither the wait for a place nor the disk is the client's fault.
        pace.since += asked.elapsed();
        pace.came(came);
        if let Some(end) = end {
            break end;
        }
    };
    // If the client gave up, the state of earlier writes does not matter.
    let settled = match end {
        Received::Whole => sink.behind.settle(),
        Received::Cut | Received::Malformed => Ok(()),
    };
    match settled {
        Ok(()) => (Ok(end), sink.hasher, sink.written),
        Err(e) => (Err(e), None, sink.written),
    }
}

/// Whether the client is connected but does not speak HTTP.
fn is_malformed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|e| matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// The next part of a body if it has arrived: the connection gets one turn to read it from the socket.
/// `Some(None)` is the body's end.
async fn arrived(body: &mut Incoming) -> Option<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let mut turns = 1;
    poll_fn(|context| match Pin::new(&mut *body).poll_frame(context) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if turns == 0 => Poll::Ready(None),
        Poll::Pending => {
            turns -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Why a small body could not be received.
pub(super) enum CollectError {
    TooLarge,
    Malformed,
    Cut,
}

/// Reads a body of at most `limit` bytes into memory. A body of more than [`LARGE`] bytes waits for a place
/// in `large`.
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
            Ok(Some(Err(e))) if is_malformed(&e) => return Err(CollectError::Malformed),
            Ok(Some(Err(_))) | Err(_) => return Err(CollectError::Cut),
        }
    }
}

/// Reads and drops a small rest of a body; false if there is more.
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
