//! How much compressed streams may unpack to: a few kilobytes can unpack to terabytes.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are always allowed.
pub const UNPACKED_FREE: u64 = 1 << 30;
/// Bytes allowed beyond that for each byte that was read. Layers of programs unpack to 2 to 4 times their
/// size, of text to 20 times; deflate can make 1,032, zstd and xz far more, of one byte repeated.
pub const UNPACKED_RATIO: u64 = 100;
/// Bytes that nothing may exceed by default.
pub const UNPACKED_MAX: u64 = 1 << 40;

/// What all streams of one command together may unpack to; clones share the count.
#[derive(Clone, Debug)]
pub struct UnpackLimit {
    counts: Arc<Counts>,
    /// Whether bytes of streams count, and not only holes.
    streams: bool,
}

#[derive(Debug)]
struct Counts {
    /// Bytes of streams as they came.
    read: AtomicU64,
    /// Bytes that came out, and bytes of holes in sparse files.
    made: AtomicU64,
    free: u64,
    ratio: u64,
    max: u64,
}

/// Streams unpack to more than the limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnpackedTooMuch {
    /// Bytes read.
    pub read: u64,
    /// The limit, in bytes.
    pub limit: u64,
}

impl fmt::Display for UnpackedTooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (read, limit) = (self.read, self.limit);
        write!(
            f,
            "{read} bytes unpack to more than {limit}, the limit: if that is right, allow more with --unpack-max SIZE"
        )
    }
}

impl Default for UnpackLimit {
    fn default() -> UnpackLimit {
        UnpackLimit::of(UNPACKED_FREE, UNPACKED_RATIO, UNPACKED_MAX)
    }
}

impl UnpackLimit {
    fn of(free: u64, ratio: u64, max: u64) -> UnpackLimit {
        let (read, made) = (AtomicU64::new(0), AtomicU64::new(0));
        UnpackLimit { counts: Arc::new(Counts { read, made, free, ratio, max }), streams: true }
    }

    /// The limit for streams from [`UnpackLimit::output`], which are counted already: only holes count.
    pub fn inside(&self) -> UnpackLimit {
        UnpackLimit { streams: false, ..self.clone() }
    }

    /// A limit of `max` bytes, however many are read.
    pub fn bytes(max: u64) -> UnpackLimit {
        UnpackLimit::of(max, 0, max)
    }

    fn read(&self, count: usize) {
        if self.streams {
            self.counts.read.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Counts bytes of output.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] with [`UnpackedTooMuch`] inside.
    pub(crate) fn made(&self, count: u64) -> io::Result<()> {
        let Counts { read, made, free, ratio, max } = &*self.counts;
        // Holes of several files may be announced as 2^63 bytes each.
        let add = |before: u64| Some(before.saturating_add(count));
        let before = made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or_default();
        let read = read.load(Ordering::Relaxed);
        let limit = read.saturating_mul(*ratio).saturating_add(*free).min(*max);
        match before.saturating_add(count) > limit {
            true => Err(io::Error::other(UnpackedTooMuch { read, limit })),
            false => Ok(()),
        }
    }

    /// Counts the bytes read from `stream`.
    pub(crate) fn input<R: Read>(&self, stream: R) -> Input<R> {
        Input { stream, limit: self.clone() }
    }

    /// Counts the output of a decoder, and ends it at the limit.
    pub fn output<R: Read>(&self, stream: R) -> Output<R> {
        Output { stream, limit: self.clone() }
    }

    /// Counts the bytes of a file that decoders outside this crate read.
    pub fn input_of<R: Read>(&self, stream: R) -> impl Read + use<R> {
        self.input(stream)
    }
}

/// See [`UnpackLimit::input_of`].
pub(crate) struct Input<R> {
    stream: R,
    limit: UnpackLimit,
}

/// See [`UnpackLimit::output`].
pub struct Output<R> {
    stream: R,
    limit: UnpackLimit,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.limit.read(length);
        Ok(length)
    }
}

impl<R: Read> Read for Output<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        if self.limit.streams {
            self.limit.made(length as u64)?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(limit: &UnpackLimit, input: u64, output: u64) -> Result<u64, String> {
        let read = io::copy(&mut limit.input(io::repeat(0).take(input)), &mut io::sink());
        assert_eq!(read.expect("counts only"), input);
        let made = io::copy(&mut limit.output(io::repeat(0).take(output)), &mut io::sink());
        made.map_err(|e| e.to_string())
    }

    #[test]
    fn what_unpacks_to_too_much_ends() {
        let limit = || UnpackLimit::of(10_000, 10, 100_000);
        assert_eq!(unpack(&limit(), 1000, 20_000), Ok(20_000));
        let error = unpack(&limit(), 1000, 20_001).expect_err("too much");
        assert!(
            error.contains("1000 bytes unpack to more than 20000") && error.contains("--unpack-max"),
            "{error}"
        );
        assert!(unpack(&limit(), 1_000_000, 100_001).is_err(), "the absolute limit");
        // Several streams share it.
        let shared = limit();
        assert!(unpack(&shared, 100, 10_000).is_ok() && unpack(&shared.clone(), 100, 10_000).is_err());
        assert!(unpack(&UnpackLimit::bytes(50_000), 1, 50_000).is_ok());
        assert!(UnpackLimit::bytes(u64::MAX).made(u64::MAX).is_ok());
    }
}
