//! Bodies: files that flow to and from the network while the disk is touched on threads of its own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crossdock_oci::digest::Hasher;
use crossdock_oci::store::WriteBehind;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

/// Bytes read from a file at once.
const READ_SIZE: usize = 256 * 1024;
/// Pieces between network and disk; they bound the memory of a transfer.
const PIECES: usize = 4;

/// The body of an answer.
#[derive(Debug)]
pub(super) struct ReplyBody {
    source: Source,
    /// Bytes that will still come.
    left: u64,
    /// Breaks off once that many more bytes were sent.
    cut_after: Option<u64>,
    /// What came before a cut is on its way.
    flushed: bool,
    /// Goes silent instead of breaking off.
    stall: bool,
    /// Changes the next byte.
    corrupt: bool,
}

#[derive(Debug)]
enum Source {
    Bytes(Bytes),
    Channel(mpsc::Receiver<io::Result<Bytes>>),
}

impl ReplyBody {
    pub(super) fn empty() -> ReplyBody {
        ReplyBody::of(Vec::new())
    }

    pub(super) fn of(bytes: Vec<u8>) -> ReplyBody {
        let left = bytes.len() as u64;
        ReplyBody {
            source: Source::Bytes(bytes.into()),
            left,
            cut_after: None,
            flushed: false,
            stall: false,
            corrupt: false,
        }
    }

    /// The next `length` bytes of a file.
    pub(super) fn file(file: File, length: u64) -> ReplyBody {
        let (sender, receiver) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || send_file(file, length, &sender));
        ReplyBody {
            source: Source::Channel(receiver),
            left: length,
            cut_after: None,
            flushed: false,
            stall: false,
            corrupt: false,
        }
    }

    /// Ends early, with an error or, to `stall`, with silence.
    pub(super) fn cut(&mut self, after: u64, stall: bool) {
        self.cut_after = Some(after);
        self.stall = stall;
    }

    pub(super) fn corrupt(&mut self) {
        self.corrupt = true;
    }

    fn spoil(&mut self, bytes: Bytes) -> io::Result<Bytes> {
        let mut bytes = bytes;
        if self.corrupt && !bytes.is_empty() {
            self.corrupt = false;
            let mut changed = bytes.to_vec();
            changed[0] ^= 0xff;
            bytes = changed.into();
        }
        match self.cut_after {
            Some(0) => return Err(io::Error::other("cut on purpose")),
            Some(after) => {
                bytes.truncate(usize::try_from(after).unwrap_or(usize::MAX));
                self.cut_after = Some(after - bytes.len() as u64);
            }
            None => {}
        }
        Ok(bytes)
    }
}

fn send_file(mut file: File, mut left: u64, sender: &mpsc::Sender<io::Result<Bytes>>) {
    while left > 0 {
        let mut buffer = vec![0; READ_SIZE.min(usize::try_from(left).unwrap_or(READ_SIZE))];
        let piece = match file.read(&mut buffer) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was")),
            Ok(n) => {
                left -= n as u64;
                buffer.truncate(n);
                Ok(Bytes::from(buffer))
            }
            Err(e) => Err(e),
        };
        let failed = piece.is_err();
        // Nobody listens any more when the client has gone.
        if sender.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.cut_after == Some(0) && !self.flushed {
            // What came before is sent, not kept for the next piece.
            self.flushed = !self.stall;
            if !self.stall {
                context.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let piece = match &mut self.source {
            Source::Bytes(bytes) => Some(Ok(std::mem::take(bytes))),
            Source::Channel(receiver) => match receiver.poll_recv(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        let piece = match piece {
            Some(Ok(bytes)) if !bytes.is_empty() => self.spoil(bytes),
            Some(Err(e)) => Err(e),
            _ => Err(io::Error::other("the body ended early")),
        };
        if let Ok(bytes) = &piece {
            self.left -= (bytes.len() as u64).min(self.left);
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

/// How the reception of a body ended.
pub(super) enum Received {
    /// To its end.
    Whole,
    /// The client went away, or sent nothing for too long; what came is written.
    Cut,
}

/// Appends a request's body to a file and feeds the hash, on a thread of its own. At most `limit` bytes are taken. With
/// `sync` the disk begins to write while the body still comes.
pub(super) async fn receive(
    body: &mut Incoming,
    mut file: File,
    mut hasher: Option<Hasher>,
    stall: Duration,
    limit: Option<u64>,
    sync: bool,
) -> (io::Result<Received>, Option<Hasher>, u64) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(2 * PIECES);
    let writer = tokio::task::spawn_blocking(move || {
        let mut written = 0;
        let mut behind = WriteBehind::default();
        while let Some(bytes) = receiver.blocking_recv() {
            if let Err(e) = file.write_all(&bytes) {
                // The hash no longer fits what is in the file.
                return (Err(e), None, written);
            }
            if sync {
                behind.wrote(&file, bytes.len());
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&bytes);
            }
            written += bytes.len() as u64;
        }
        match behind.settle() {
            Ok(()) => (Ok(()), hasher, written),
            Err(e) => (Err(e), None, written),
        }
    });
    let mut left = limit.unwrap_or(u64::MAX);
    let mut end = Received::Whole;
    loop {
        let frame = match tokio::time::timeout(stall, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => {
                end = Received::Cut;
                break;
            }
        };
        let Ok(mut bytes) = frame.into_data() else { continue };
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= bytes.len() as u64;
        if sender.send(bytes).await.is_err() {
            break;
        }
        if left == 0 {
            end = Received::Cut;
            break;
        }
    }
    drop(sender);
    match writer.await {
        Ok((result, hasher, written)) => (result.map(|()| end), hasher, written),
        Err(e) => (Err(io::Error::other(e)), None, 0),
    }
}
