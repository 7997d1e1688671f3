//! Bodies of answers. A client that takes nothing costs no thread and no buffer: the next piece is read only
//! when the previous one was sent and the kernel has room.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::socket::Socket;

/// Bytes read from a file at once.
const READ_SIZE: u64 = 64 * 1024;

/// The body of an answer.
#[derive(Default)]
pub(super) struct ReplyBody {
    parts: VecDeque<Part>,
    /// Bytes that will still come.
    left: u64,
    /// The socket that the body goes to.
    socket: Option<Arc<Socket>>,
    /// A wait for bytes of a file that is still being written.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// A read that waits for the disk.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    outstanding: Arc<Outstanding>,
    spoiling: Spoiling,
    /// Dropped with the body.
    at_end: Option<AtEnd>,
}

enum Part {
    Bytes(Bytes),
    File { file: Arc<File>, offset: u64, length: u64, filled: Option<watch::Receiver<Filled>> },
}

/// How much of a growing file is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    /// Bytes from the file's start that may be read.
    pub(super) available: u64,
    /// No more will come.
    pub(super) failed: bool,
}

/// Faults that a body gets on purpose.
#[derive(Debug, Default)]
struct Spoiling {
    /// Breaks off after this many more bytes.
    cut_after: Option<u64>,
    /// The bytes before the cut are on their way.
    flushed: bool,
    /// Goes silent instead of breaking off.
    stall: bool,
    /// Changes the next byte.
    corrupt: bool,
}

/// A function that is called with the number of bytes handed on, when the body is dropped.
struct AtEnd {
    call: Option<Box<dyn FnOnce(u64) + Send + Sync>>,
    passed: u64,
}

impl std::fmt::Debug for AtEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtEnd").field("passed", &self.passed).finish_non_exhaustive()
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call(self.passed);
        }
    }
}

/// Whether a piece of a file is on its way to the kernel.
#[derive(Debug, Default)]
struct Outstanding {
    busy: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Outstanding {
    fn poll_sent(&self, context: &Context<'_>) -> Poll<()> {
        if !self.busy.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        *self.waker.lock().unwrap_or_else(|e| e.into_inner()) = Some(context.waker().clone());
        if self.busy.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// A piece of a file; dropped when the kernel has it.
struct Piece {
    bytes: Vec<u8>,
    outstanding: Arc<Outstanding>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.outstanding.busy.store(false, Ordering::Release);
        let waker = self.outstanding.waker.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl ReplyBody {
    pub(super) fn empty() -> ReplyBody {
        ReplyBody::default()
    }

    pub(super) fn of(bytes: Vec<u8>) -> ReplyBody {
        let mut body = ReplyBody::default();
        body.add_bytes(bytes);
        body
    }

    /// Adds bytes at the end.
    pub(super) fn add_bytes(&mut self, bytes: Vec<u8>) {
        self.left += bytes.len() as u64;
        self.parts.push_back(Part::Bytes(bytes.into()));
    }

    /// Adds `length` bytes of a file, from `offset` on.
    pub(super) fn add_file(&mut self, file: &Arc<File>, offset: u64, length: u64) {
        self.left += length;
        self.parts.push_back(Part::File { file: file.clone(), offset, length, filled: None });
    }

    /// Like [`ReplyBody::add_file`], for a file that is still being written.
    pub(super) fn add_growing(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        length: u64,
        filled: watch::Receiver<Filled>,
    ) {
        self.left += length;
        self.parts.push_back(Part::File { file: file.clone(), offset, length, filled: Some(filled) });
    }

    /// Bytes that will still come.
    pub(super) fn length(&self) -> u64 {
        self.left
    }

    /// Names the socket that the body goes to.
    pub(super) fn send_to(&mut self, socket: Arc<Socket>) {
        self.socket = Some(socket);
    }

    /// Calls `call` with the number of bytes sent, once the body has ended or is given up.
    pub(super) fn at_end(&mut self, call: impl FnOnce(u64) + Send + Sync + 'static) {
        self.at_end = Some(AtEnd { call: Some(Box::new(call)), passed: 0 });
    }

    /// Ends the body after this many bytes: with an error, or with silence if `stall` is set.
    pub(super) fn cut(&mut self, after: u64, stall: bool) {
        self.spoiling.cut_after = Some(after);
        self.spoiling.stall = stall;
    }

    pub(super) fn corrupt(&mut self) {
        self.spoiling.corrupt = true;
    }

    /// The next bytes, before they are spoiled.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other);
                self.reading = None;
                return Poll::Ready(read.flatten().and_then(|bytes| self.advance(bytes)));
            }
            let (file, offset, length) = match self.parts.front_mut() {
                None => return Poll::Ready(Err(io::Error::other("the body ended early"))),
                Some(Part::Bytes(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    self.parts.pop_front();
                    if bytes.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Ok(bytes));
                }
                Some(Part::File { length: 0, .. }) => {
                    self.parts.pop_front();
                    continue;
                }
                Some(Part::File { file, offset, length, filled }) => {
                    if let Some(waiting) = &mut self.waiting {
                        ready!(waiting.as_mut().poll(context));
                        self.waiting = None;
                    }
                    let mut there = *length;
                    if let Some(filled) = filled {
                        let now = *filled.borrow();
                        let closed = filled.has_changed().is_err();
                        if now.available <= *offset && (now.failed || closed) {
                            return Poll::Ready(Err(io::Error::other("the content could not be fetched")));
                        }
                        if now.available <= *offset {
                            let (mut filled, offset) = (filled.clone(), *offset);
                            self.waiting = Some(Box::pin(async move {
                                let _ = filled.wait_for(|now| now.failed || now.available > offset).await;
                            }));
                            continue;
                        }
                        there = there.min(now.available - *offset);
                    }
                    (file.clone(), *offset, there)
                }
            };
            ready!(self.outstanding.poll_sent(context));
            let mut wanted = length.min(READ_SIZE);
            if let Some(socket) = &self.socket {
                ready!(socket.poll_room(context))?;
                wanted = wanted.min(socket.room());
            }
            let wanted = usize::try_from(wanted).expect("READ_SIZE fits");
            match read_cached(&file, offset, wanted)? {
                Some(bytes) => return Poll::Ready(self.advance(bytes)),
                None => {
                    self.reading = Some(tokio::task::spawn_blocking(move || {
                        let mut bytes = vec![0; wanted];
                        let n = file.read_at(&mut bytes, offset)?;
                        bytes.truncate(n);
                        Ok(bytes)
                    }));
                }
            }
        }
    }

    /// Moves the first part past the bytes read.
    fn advance(&mut self, bytes: Vec<u8>) -> io::Result<Bytes> {
        let Some(Part::File { offset, length, .. }) = self.parts.front_mut() else {
            return Err(io::Error::other("the body ended early"));
        };
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
        }
        *offset += bytes.len() as u64;
        *length -= bytes.len() as u64;
        self.outstanding.busy.store(true, Ordering::Release);
        Ok(Bytes::from_owner(Piece { bytes, outstanding: self.outstanding.clone() }))
    }

    fn spoil(&mut self, mut bytes: Bytes) -> io::Result<Bytes> {
        if self.spoiling.corrupt && !bytes.is_empty() {
            self.spoiling.corrupt = false;
            let mut changed = bytes.to_vec();
            changed[0] ^= 0xff;
            bytes = changed.into();
        }
        match self.spoiling.cut_after {
            Some(0) => return Err(io::Error::other("cut on purpose")),
            Some(after) => {
                bytes.truncate(usize::try_from(after).unwrap_or(usize::MAX));
                self.spoiling.cut_after = Some(after - bytes.len() as u64);
            }
            None => {}
        }
        Ok(bytes)
    }
}

/// Reads bytes that the kernel has in memory; `None` if the read would wait for the disk.
fn read_cached(file: &File, offset: u64, wanted: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; wanted];
    match preadv2(file, &mut [IoSliceMut::new(&mut bytes)], offset, ReadWriteFlags::NOWAIT) {
        Ok(n) => {
            bytes.truncate(n);
            Ok(Some(bytes))
        }
        // Some file systems and all old kernels cannot say what is in memory.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.spoiling.cut_after == Some(0) && !self.spoiling.flushed {
            // This makes HTTP send the bytes before the cut instead of keeping them for the next piece.
            self.spoiling.flushed = !self.spoiling.stall;
            if !self.spoiling.stall {
                context.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let piece = ready!(self.poll_piece(context)).and_then(|bytes| self.spoil(bytes));
        if let Ok(bytes) = &piece {
            let length = bytes.len() as u64;
            self.left -= length.min(self.left);
            if let Some(at_end) = &mut self.at_end {
                at_end.passed += length;
            }
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
