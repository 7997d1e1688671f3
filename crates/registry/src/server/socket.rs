//! A client's socket, shared by the HTTP connection that reads and writes it, the body that waits for room in
//! it, and the watch over slow clients.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Bytes per second below which a client is too slow. A modem of 1998 is faster.
pub(super) const RATE_MIN: u64 = 1024;

/// Most bytes that wait in the kernel to be sent; bytes under way do not count.
const NOT_SENT_MAX: u32 = 128 * 1024;

/// Most bytes that are read at once. HTTP doubles its read buffer whenever a read of 8 KiB, then of 16 KiB,
/// fills it, and keeps the buffer as long as the connection. This limit just prevents the second doubling.
const READ_MAX: usize = 16 * 1024 - 1;

/// Number of checks of a slow client within its time.
const LOOKS: usize = 4;

/// How long the bytes that a client sends after an early answer are thrown away, so that the client can read
/// the answer: the kernel resets a connection that is closed with unread bytes.
const LINGER: Duration = Duration::from_secs(2);

/// A client's socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Bytes that the kernel accepted for sending.
    sent: AtomicU64,
    /// There are bytes to send, and the kernel's buffer is full.
    blocked: AtomicBool,
    /// The client may still be sending when the connection ends.
    lingers: AtomicBool,
    /// HTTP reads nothing.
    paused: AtomicBool,
    /// The task that wanted to read meanwhile.
    reader: Mutex<Option<Waker>>,
}

/// While paused, HTTP reads nothing from the socket, and the client's bytes wait in the kernel. HTTP goes on
/// when this is dropped.
pub(super) struct Reading<'a>(&'a Socket);

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Socket {
        let _ = stream.set_nodelay(true);
        // The kernel's buffer grows to megabytes by itself, and a client that reads nothing would fill it.
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_MAX);
        Socket {
            stream,
            sent: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            reader: Mutex::default(),
        }
    }

    /// Keeps HTTP from reading ahead.
    pub(super) fn pause(&self) -> Reading<'_> {
        let reading = Reading(self);
        reading.pause();
        reading
    }

    /// Waits until the client has sent something, or is gone.
    pub(super) async fn readable(&self) {
        // The next read finds a failure again.
        let _ = self.stream.readable().await;
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Bytes sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Marks a connection that will be closed while the client may still be sending.
    pub(super) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    /// Waits until the kernel has room for more, so that nothing is read from the disk for a client that
    /// takes nothing.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.stream.poll_write_ready(context)?.is_pending() {
                self.blocked.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
            // The runtime assumes room until a write fails; poll(2) asks the kernel, and makes the kernel
            // report new room.
            let asked = self.stream.try_io(Interest::WRITABLE, || {
                let mut set = [PollFd::new(&self.stream, PollFlags::OUT)];
                match poll(&mut set, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                }
            });
            match asked {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Bytes that surely fit once the kernel reports room, which means that a third of its buffer is free and
    /// less than half of [`NOT_SENT_MAX`] waits.
    pub(super) fn room(&self) -> u64 {
        let buffer = rustix::net::sockopt::socket_send_buffer_size(&self.stream).unwrap_or(0);
        (buffer as u64 / 4).clamp(4096, u64::from(NOT_SENT_MAX / 2))
    }

    /// Whether the first byte begins a TLS handshake (RFC 8446, section 5.1); the byte stays unread.
    pub(super) async fn begins_tls(&self) -> io::Result<bool> {
        let mut first = [0];
        Ok(self.stream.peek(&mut first).await? == 1 && first[0] == 22)
    }

    /// Sends as many of the bytes as the kernel accepts at once.
    pub(super) fn answer(&self, bytes: &[u8]) {
        let _ = self.stream.try_write(bytes);
    }

    /// Returns once the client took less than [`RATE_MIN`] for `time` although there were bytes to take.
    pub(super) async fn too_slow(&self, time: Duration) {
        let wanted = (RATE_MIN * time.as_secs()).max(1);
        // Bytes sent at the last checks, one element for each check since the client was last seen unblocked.
        let mut sent = Vec::with_capacity(LOOKS + 1);
        loop {
            tokio::time::sleep(time / LOOKS as u32).await;
            if !self.blocked.load(Ordering::Relaxed) {
                sent.clear();
                continue;
            }
            sent.push(self.sent());
            if sent.len() > LOOKS {
                if sent[LOOKS] - sent[0] < wanted {
                    return;
                }
                sent.remove(0);
            }
        }
    }

    /// Ends the sending half and lets the client finish if it may still be sending.
    pub(super) async fn finish(&self) {
        if !self.lingers.load(Ordering::Relaxed) {
            return;
        }
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
        let drain = async {
            let mut buffer = vec![0; 16 * 1024];
            while self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut buffer) {
                    Ok(0) => return,
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }

    fn wrote(&self, result: &io::Result<usize>) {
        match result {
            Ok(n) => {
                self.sent.fetch_add(*n as u64, Ordering::Relaxed);
                self.blocked.store(false, Ordering::Relaxed);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.blocked.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let result = send(&self.stream);
            self.wrote(&result);
            match result {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl Reading<'_> {
    pub(super) fn pause(&self) {
        self.0.paused.store(true, Ordering::Release);
    }

    pub(super) fn resume(&self) {
        self.0.paused.store(false, Ordering::Release);
        if let Some(waker) = self.0.reader().take() {
            waker.wake();
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.resume();
    }
}

/// The socket as a stream of bytes, for HTTP and TLS.
pub(super) struct Wire(pub(super) Arc<Socket>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.paused.load(Ordering::Acquire) {
            // The second check is under the lock: either `resume` finds the waker, or this check finds that
            // it ran.
            let mut reader = self.0.reader();
            if self.0.paused.load(Ordering::Acquire) {
                *reader = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        loop {
            ready!(self.0.stream.poll_read_ready(context))?;
            let size = buffer.remaining().min(READ_MAX);
            match self.0.stream.try_read(buffer.initialize_unfilled_to(size)) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_send(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_send(context, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.0.stream, rustix::net::Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }
}
