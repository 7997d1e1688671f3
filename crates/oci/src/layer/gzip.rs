//! Gzip on several threads, as pigz does it: one member (RFC 1952) of blocks compressed side by side.
//!
//! Each block is primed with the 32 KiB before it and ends at a byte boundary, so that the blocks are joined by
//! writing one after the other. Where blocks begin depends on the input alone: the output is the same for any number
//! of threads.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of input per block: large enough that ends of blocks cost less than 0.1 %, small enough for all cores to have
/// work soon.
const BLOCK: usize = 256 * 1024;
/// What deflate looks back at (RFC 1951).
const WINDOW: usize = 32 * 1024;
/// Magic, method deflate, no flags, no time, unknown system: the header that Go's writer makes.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

struct Job {
    data: Vec<u8>,
    /// The end of the block before, for the compressor to look back at.
    before: Vec<u8>,
    last: bool,
    reply: SyncSender<io::Result<Done>>,
}

struct Done {
    compressed: Vec<u8>,
    crc: Crc,
}

/// A writer that compresses what is written to it; [`ParallelGzip::finish`] must be called.
pub(crate) struct ParallelGzip<W> {
    inner: W,
    level: u32,
    threads: usize,
    block: Vec<u8>,
    before: Vec<u8>,
    crc: Crc,
    jobs: Option<SyncSender<Job>>,
    workers: Vec<JoinHandle<()>>,
    waiting: VecDeque<Receiver<io::Result<Done>>>,
}

impl<W: Write> ParallelGzip<W> {
    /// `level` as in zlib, 0 to 9.
    pub(crate) fn new(mut inner: W, level: u32, threads: usize) -> io::Result<ParallelGzip<W>> {
        inner.write_all(&HEADER)?;
        Ok(ParallelGzip {
            inner,
            level,
            threads: threads.max(1),
            block: Vec::with_capacity(BLOCK),
            before: Vec::new(),
            crc: Crc::new(),
            jobs: None,
            workers: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    /// Writes what is left and the trailer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if self.workers.is_empty() {
            // One block: not worth a thread.
            let mut compressor = Compress::new(Compression::new(self.level), false);
            let done = compress(&mut compressor, &self.block, &self.before, true)?;
            self.write_block(&done)?;
        } else {
            self.submit(true)?;
            while !self.waiting.is_empty() {
                self.collect()?;
            }
        }
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // Their panics would have shown as missing replies.
            let _ = worker.join();
        }
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.inner)
    }

    fn start(&mut self) {
        let (send, receive) = sync_channel::<Job>(self.threads);
        let receive = Arc::new(Mutex::new(receive));
        for _ in 0..self.threads {
            let (receive, level) = (Arc::clone(&receive), self.level);
            self.workers.push(std::thread::spawn(move || work(&receive, level)));
        }
        self.jobs = Some(send);
    }

    fn submit(&mut self, last: bool) -> io::Result<()> {
        if self.jobs.is_none() {
            self.start();
        }
        // Bounds memory: two blocks per thread on their way.
        if self.waiting.len() >= 2 * self.threads {
            self.collect()?;
        }
        let data = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let tail = data[data.len().saturating_sub(WINDOW)..].to_vec();
        let before = std::mem::replace(&mut self.before, tail);
        let (reply, receive) = sync_channel(1);
        let jobs = self.jobs.as_ref().expect("started above");
        jobs.send(Job { data, before, last, reply })
            .map_err(|_| io::Error::other("a compressing thread died"))?;
        self.waiting.push_back(receive);
        Ok(())
    }

    /// Waits for the oldest block and writes it.
    fn collect(&mut self) -> io::Result<()> {
        let Some(receive) = self.waiting.pop_front() else { return Ok(()) };
        let done = receive.recv().map_err(|_| io::Error::other("a compressing thread died"))??;
        self.write_block(&done)
    }

    fn write_block(&mut self, done: &Done) -> io::Result<()> {
        self.crc.combine(&done.crc);
        self.inner.write_all(&done.compressed)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A full block is submitted when more follows, so that the last block is known as the last.
        if self.block.len() == BLOCK && !buffer.is_empty() {
            self.submit(false)?;
        }
        let n = buffer.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, level: u32) {
    let mut compressor = Compress::new(Compression::new(level), false);
    loop {
        let job = match jobs.lock() {
            Ok(receiver) => receiver.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        let done = compress(&mut compressor, &job.data, &job.before, job.last);
        // Nobody waits any more after an error elsewhere.
        let _ = job.reply.send(done);
    }
}

/// Whether deflate would only waste time: archives, images and films inside a layer are compressed already.
///
/// A look at the frequency of bytes in 16 KiB (noise has 7.99 bits of entropy a byte there, programs 6, text 5) picks
/// candidates; the quickest deflate of the first 32 KiB decides. Both depend on the data alone.
fn is_noise(data: &[u8]) -> bool {
    const PIECES: usize = 4;
    const PIECE: usize = 4096;
    const PROBE: usize = 32 * 1024;
    if data.len() < 2 * PROBE {
        return false;
    }
    let mut counts = [0u32; 256];
    for n in 0..PIECES {
        let start = n * (data.len() - PIECE) / (PIECES - 1);
        data[start..start + PIECE].iter().for_each(|b| counts[usize::from(*b)] += 1);
    }
    let total = (PIECES * PIECE) as f64;
    let entropy: f64 =
        counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum();
    if entropy < 7.9 {
        return false;
    }
    let mut compressed = Vec::with_capacity(PROBE + 1024);
    let mut quick = Compress::new(Compression::new(1), false);
    let status = quick.compress_vec(&data[..PROBE], &mut compressed, FlushCompress::Finish);
    // What does not fit into the buffer did not get smaller.
    !matches!(status, Ok(Status::StreamEnd)) || compressed.len() > PROBE / 100 * 98
}

/// Stored blocks (RFC 1951, section 3.2.4). Each begins at a byte boundary, since the block before ended at one.
fn store(data: &[u8], last: bool) -> Vec<u8> {
    const STORED_MAX: usize = 65535;
    let mut out = Vec::with_capacity(data.len() + 5 * data.len().div_ceil(STORED_MAX) + 5);
    let mut chunks = data.chunks(STORED_MAX).peekable();
    while let Some(chunk) = chunks.next() {
        let length = chunk.len() as u16;
        out.push(u8::from(last && chunks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
    out
}

fn compress(compressor: &mut Compress, data: &[u8], before: &[u8], last: bool) -> io::Result<Done> {
    if is_noise(data) {
        let mut crc = Crc::new();
        crc.update(data);
        return Ok(Done { compressed: store(data, last), crc });
    }
    compressor.reset();
    if !before.is_empty() {
        compressor.set_dictionary(before).map_err(io::Error::other)?;
    }
    let mut crc = Crc::new();
    crc.update(data);
    let mut compressed = Vec::with_capacity(data.len() / 2 + 1024);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let taken = usize::try_from(compressor.total_in()).expect("a block's length fits");
        let status =
            compressor.compress_vec(&data[taken..], &mut compressed, flush).map_err(io::Error::other)?;
        let all_taken = compressor.total_in() == data.len() as u64;
        let has_room = compressed.len() < compressed.capacity();
        if (last && status == Status::StreamEnd) || (!last && all_taken && has_room) {
            return Ok(Done { compressed, crc });
        }
        compressed.reserve(64 * 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn gzip(data: &[u8], threads: usize) -> Vec<u8> {
        let mut writer = ParallelGzip::new(Vec::new(), 4, threads).expect("a Vec takes all");
        for piece in data.chunks(100_001) {
            writer.write_all(piece).expect("a Vec takes all");
        }
        writer.finish().expect("a Vec takes all")
    }

    #[test]
    fn one_member_that_does_not_depend_on_the_threads() {
        let mut state = 1u32;
        let noisy: Vec<u8> = (0..3 * BLOCK + 7)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if i % 3 == 0 { (state >> 24) as u8 } else { b'a' }
            })
            .collect();
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, noisy.len()] {
            let data = &noisy[..length];
            let one = gzip(data, 1);
            assert_eq!(one, gzip(data, 5), "{length} bytes");
            // Not a multi-member decoder: what follows the first member would be missing.
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(one.as_slice()).read_to_end(&mut back).expect("valid gzip");
            assert!(back == data, "{length} bytes");
        }
    }

    #[test]
    fn noise_is_stored_and_text_is_not() {
        let mut state = 1u64;
        let noise: Vec<u8> = (0..2 * BLOCK)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let text = b"the quick brown fox jumps over the lazy dog. ".repeat(BLOCK / 20);
        // Noise that comes again soon is no noise to deflate.
        let repeated = noise[..4096].repeat(BLOCK / 4096);
        assert!(is_noise(&noise[..BLOCK]) && !is_noise(&text[..BLOCK]) && !is_noise(&repeated));
        let mixed = [&text[..BLOCK], &noise[..], &text[..100]].concat();
        for data in [&noise[..], &mixed[..]] {
            let packed = gzip(data, 3);
            assert_eq!(packed, gzip(data, 1));
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut back).expect("valid gzip");
            assert!(back == data);
        }
        assert!(gzip(&mixed, 2).len() < noise.len() + BLOCK / 10);
    }
}
