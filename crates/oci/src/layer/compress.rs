//! Streams of layers: writers choose the compression, readers detect it by the first bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use flate2::bufread::MultiGzDecoder;

use crate::digest::{Digest, Hasher};
use crate::layer::gzip::ParallelGzip;
use crate::layer::limit::UnpackLimit;
use crate::layer::read::{BLOCK, is_tar_header};
use crate::media_type::Compression;

/// Default gzip level. Sizes and CPU times of deflating beside level 3 of zlib-rs, which was the default:
/// 0.98 to 1.00 and 0.65 to 0.75 for programs and libraries, 1.03 and 0.91 for sources. Level 1 takes half of
/// the time for 2 % to 7 % more, level 5 the whole for 3 % to 5 % less.
pub const GZIP_LEVEL: u32 = 2;
/// Default Zstandard level, which is also Zstandard's own.
pub const ZSTD_LEVEL: u32 = 3;

/// A compressing writer.
pub(crate) enum Encoder<W: Write> {
    None(W),
    Gzip(ParallelGzip<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(
        inner: W,
        compression: Compression,
        level: Option<u32>,
        threads: usize,
    ) -> io::Result<Encoder<W>> {
        Ok(match compression {
            Compression::None => Encoder::None(inner),
            Compression::Gzip => {
                Encoder::Gzip(ParallelGzip::new(inner, level.unwrap_or(GZIP_LEVEL).min(9), threads)?)
            }
            Compression::Zstd => {
                let level = i32::try_from(level.unwrap_or(ZSTD_LEVEL).min(22)).expect("at most 22");
                Encoder::Zstd(zstd::Encoder::new(inner, level)?)
            }
        })
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Encoder::None(inner) => Ok(inner),
            Encoder::Gzip(gzip) => gzip.finish(),
            Encoder::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::None(inner) => inner.write(buffer),
            Encoder::Gzip(gzip) => gzip.write(buffer),
            Encoder::Zstd(zstd) => zstd.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a stream is compressed: layers in the three ways of [`Compression`], archives of other programs also
/// in the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Layer(Compression),
    Bzip2,
    Xz,
}

impl Packing {
    fn of_magic(head: &[u8]) -> Packing {
        match head {
            [b'B', b'Z', b'h', ..] => Packing::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            other => Packing::Layer(Compression::of_magic(other)),
        }
    }
}

/// First bytes that show how a stream is packed.
const MAGIC_SIZE: usize = 6;

/// Memory that an .xz stream may ask for, in KiB; a stream of `xz -9` needs 65 MiB.
const XZ_MEMORY_MAX: u32 = 256 * 1024;

/// Whether a file with `head` as its first 512 bytes may be a tar archive, uncompressed or compressed in a
/// supported way.
pub fn may_be_archive(head: &[u8]) -> bool {
    Packing::of_magic(head) != Packing::Layer(Compression::None) || is_tar_header(head)
}

/// Whether `stream`, a whole file that begins with `head`, is a tar archive. Unlike [`may_be_archive`], this
/// looks into a compressed file.
pub fn is_archive(head: &[u8], stream: impl Read + Send) -> io::Result<bool> {
    if Packing::of_magic(head) == Packing::Layer(Compression::None) {
        return Ok(is_tar_header(head));
    }
    // A file that only begins like a compressed one is no archive.
    let mut inner = Vec::new();
    let read = decoder(stream, &UnpackLimit::default())
        .and_then(|(stream, _)| stream.take(BLOCK as u64).read_to_end(&mut inner));
    Ok(read.is_ok() && is_tar_header(&inner))
}

/// Decompresses a stream by its first bytes; a stream with unknown ones is taken as uncompressed. The stream
/// ends with an error at the limit. Also returns its compression as a layer.
pub(crate) fn decoder<'a>(
    stream: impl Read + Send + 'a,
    limit: &UnpackLimit,
) -> io::Result<(Box<dyn Read + Send + 'a>, Compression)> {
    let mut stream = Rewound { head: Vec::new(), inner: limit.input(stream) };
    let mut head = [0; MAGIC_SIZE];
    let mut length = 0;
    while length < head.len() {
        match stream.inner.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    stream.head = head[..length].to_vec();
    let packing = Packing::of_magic(&stream.head);
    let stream = BufReader::with_capacity(BUFFER, stream);
    Ok(match packing {
        Packing::Layer(compression) => (
            match compression {
                Compression::None => Box::new(limit.output(stream)),
                Compression::Gzip => Box::new(limit.output(MultiGzDecoder::new(stream))),
                Compression::Zstd => Box::new(limit.output(zstd::Decoder::with_buffer(stream)?)),
            },
            compression,
        ),
        Packing::Bzip2 => {
            (Box::new(limit.output(bzip2::bufread::MultiBzDecoder::new(stream))), Compression::None)
        }
        Packing::Xz => {
            let stream = lzma_rust2::XzReader::new_mem_limit(stream, true, XZ_MEMORY_MAX);
            (Box::new(limit.output(stream)), Compression::None)
        }
    })
}

const BUFFER: usize = 256 * 1024;

/// A stream whose first bytes were read ahead.
struct Rewound<R> {
    head: Vec<u8>,
    inner: R,
}

impl<R: Read> Read for Rewound<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() {
            return self.inner.read(buffer);
        }
        let n = self.head.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.head[..n]);
        self.head.drain(..n);
        Ok(n)
    }
}

/// A stream that another thread reads ahead (and so decompresses), hashed as it is consumed.
pub(crate) struct ReadAhead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    hasher: Hasher,
    ended: bool,
}

/// Buffers on their way between the two threads.
const CHUNKS: usize = 8;

impl ReadAhead {
    /// Starts the thread. Dropping the result ends it.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut stream: impl Read + Send + 'scope,
        hasher: Hasher,
    ) -> io::Result<ReadAhead> {
        let (send_full, full) = sync_channel(CHUNKS);
        let (empty, receive_empty) = sync_channel::<Vec<u8>>(CHUNKS + 2);
        let read = move || {
            loop {
                let mut chunk = receive_empty.try_recv().unwrap_or_default();
                chunk.resize(BUFFER, 0);
                let result = fill(&mut stream, &mut chunk).map(|n| {
                    chunk.truncate(n);
                    chunk
                });
                let is_end = !matches!(&result, Ok(chunk) if !chunk.is_empty());
                if send_full.send(result).is_err() || is_end {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn_scoped(scope, read)?;
        Ok(ReadAhead { full, empty, chunk: Vec::new(), position: 0, hasher, ended: false })
    }

    /// The digest of all that was consumed.
    pub(crate) fn digest(self) -> Digest {
        self.hasher.finish()
    }
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match stream.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() && !self.ended {
            let next = self.full.recv().map_err(|_| io::Error::other("the reading thread died"))??;
            let used = std::mem::replace(&mut self.chunk, next);
            // The reading thread may have ended.
            let _ = self.empty.try_send(used);
            self.position = 0;
            self.ended = self.chunk.is_empty();
            self.hasher.update(&self.chunk);
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}
