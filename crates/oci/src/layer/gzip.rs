//! Gzip on several threads, as pigz does it: one member (RFC 1952) of blocks compressed side by side.
//!
//! Each block ends at a byte boundary, so that the blocks are joined by writing one after the other. Where
//! blocks begin depends on the input alone: the output is the same for any number of threads.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::Crc;

use crate::layer::deflate::{Deflater, WINDOW};

/// Bytes of input per block: large enough that ends of blocks cost less than 0.1 %, small enough for all
/// cores to have work soon.
const BLOCK: usize = 256 * 1024;
/// Magic, method deflate, no flags, no time, unknown system: the header that Go writes.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A block behind the end of the block before, which the compressor can look back at.
#[derive(Default)]
struct Block {
    data: Vec<u8>,
    /// Where the block begins.
    start: usize,
}

impl Block {
    /// An empty block at the beginning, in a used buffer if there is one.
    fn new(used: Option<Vec<u8>>) -> Block {
        let mut data = used.unwrap_or_else(|| Vec::with_capacity(WINDOW + BLOCK));
        data.clear();
        Block { data, start: 0 }
    }

    /// An empty block behind this one.
    fn next(&self, used: Option<Vec<u8>>) -> Block {
        let mut next = Block::new(used);
        next.data.extend_from_slice(&self.data[self.data.len().saturating_sub(WINDOW)..]);
        next.start = next.data.len();
        next
    }

    fn len(&self) -> usize {
        self.data.len() - self.start
    }
}

struct Job {
    block: Block,
    /// An empty buffer for the result.
    out: Vec<u8>,
    last: bool,
    reply: SyncSender<io::Result<Done>>,
}

struct Done {
    compressed: Vec<u8>,
    crc: Crc,
    /// The block's buffer, for another one.
    used: Vec<u8>,
}

/// A writer that compresses what is written to it; [`ParallelGzip::finish`] must be called.
pub(crate) struct ParallelGzip<W> {
    inner: W,
    level: u32,
    threads: usize,
    block: Block,
    /// Buffers of written blocks and of their results: new memory costs the kernel time.
    used: Vec<(Vec<u8>, Vec<u8>)>,
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
            block: Block::new(None),
            used: Vec::new(),
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
            let block = std::mem::take(&mut self.block);
            let done = Compressor::new(self.level).block(block, Vec::new(), true)?;
            self.write_block(done)?;
        } else {
            self.submit(true)?;
            while !self.waiting.is_empty() {
                self.collect()?;
            }
        }
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // A panic would have shown as a missing reply.
            let _ = worker.join();
        }
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.inner)
    }

    fn start(&mut self) -> io::Result<()> {
        let (send, receive) = sync_channel::<Job>(self.threads);
        let receive = Arc::new(Mutex::new(receive));
        for _ in 0..self.threads {
            let (receive, level) = (Arc::clone(&receive), self.level);
            match std::thread::Builder::new().spawn(move || work(&receive, level)) {
                Ok(worker) => self.workers.push(worker),
                // The threads that were started do all the work.
                Err(_) if !self.workers.is_empty() => break,
                Err(e) => return Err(e),
            }
        }
        self.jobs = Some(send);
        Ok(())
    }

    fn submit(&mut self, last: bool) -> io::Result<()> {
        if self.jobs.is_none() {
            self.start()?;
        }
        // Bounds memory: at most two blocks per thread are pending.
        if self.waiting.len() >= 2 * self.threads {
            self.collect()?;
        }
        let (used, out) = self.used.pop().unzip();
        let next = self.block.next(used);
        let block = std::mem::replace(&mut self.block, next);
        let out = out.unwrap_or_default();
        let (reply, receive) = sync_channel(1);
        let jobs = self.jobs.as_ref().expect("started above");
        jobs.send(Job { block, out, last, reply })
            .map_err(|_| io::Error::other("a compressing thread died"))?;
        self.waiting.push_back(receive);
        Ok(())
    }

    /// Waits for the oldest block and writes it.
    fn collect(&mut self) -> io::Result<()> {
        let Some(receive) = self.waiting.pop_front() else { return Ok(()) };
        let done = receive.recv().map_err(|_| io::Error::other("a compressing thread died"))??;
        self.write_block(done)
    }

    fn write_block(&mut self, done: Done) -> io::Result<()> {
        let Done { mut compressed, crc, used } = done;
        self.crc.combine(&crc);
        self.inner.write_all(&compressed)?;
        compressed.clear();
        self.used.push((used, compressed));
        Ok(())
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A full block is submitted only when more follows, so that the last block can be marked as the last.
        if self.block.len() == BLOCK && !buffer.is_empty() {
            self.submit(false)?;
        }
        let n = buffer.len().min(BLOCK - self.block.len());
        self.block.data.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, level: u32) {
    let mut compressor = Compressor::new(level);
    loop {
        let job = match jobs.lock() {
            Ok(receiver) => receiver.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        let done = compressor.block(job.block, job.out, job.last);
        // After an error elsewhere, nobody waits for the reply.
        let _ = job.reply.send(done);
    }
}

/// Finds noise: data that is compressed already, such as archives, images and films, on which deflate would
/// only waste time. The result depends on the data alone.
struct Spotter {
    /// For each hash, where four bytes with it were last seen in pieces that may be noise.
    seen: Vec<u32>,
}

/// Length in bytes of the pieces that are tested for noise: small enough for the end of a small file.
const PIECE: usize = 2048;
/// Shorter runs are not worth the change of method, which costs a flush and refilling deflate's window.
const RUN_MIN: usize = 2 * PIECE;
/// From this length on, a glance at a piece tells whether the run goes on.
const RUN_LONG: usize = 8 * PIECE;

impl Spotter {
    const HASH_BITS: u32 = 14;

    fn new() -> Spotter {
        Spotter { seen: vec![0; 1 << Spotter::HASH_BITS] }
    }

    /// The runs of noise in `data` from `start` on, in whole pieces. Deflate can refer to bytes before the
    /// start.
    fn runs(&mut self, data: &[u8], start: usize) -> Vec<Range<usize>> {
        if data.len() - start < RUN_MIN {
            return Vec::new();
        }
        self.seen.fill(0);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in (0..data.len() / PIECE).map(|n| n * PIECE) {
            // Long noise seldom ends with a piece that begins like noise.
            let is_long = runs.last().is_some_and(|run| run.end == at && run.len() >= RUN_LONG);
            // Pieces before the start only enter the table.
            if !is_level(&data[at..at + PIECE], is_long) || self.repeats(data, at) || at < start {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == at => run.end = at + PIECE,
                _ => runs.push(at..at + PIECE),
            }
        }
        runs.retain(|run| run.len() >= RUN_MIN);
        runs
    }

    /// Whether much of the piece at `at` also occurs earlier, where deflate would find it; remembers the
    /// piece.
    fn repeats(&mut self, data: &[u8], at: usize) -> bool {
        /// Every fourth position is remembered, so that one of four positions in a row is found.
        const STEP: usize = 4;
        /// Four positions of this many are looked up.
        const GROUP: usize = 64;
        let word = |i: usize| u32::from_le_bytes(data[i..i + 4].try_into().expect("four bytes"));
        let slot = |word: u32| (word.wrapping_mul(0x9e37_79b1) >> (32 - Spotter::HASH_BITS)) as usize;
        let mut found = 0;
        for group in (at..at + PIECE).step_by(GROUP) {
            let is_known = |i: &usize| {
                let before = self.seen[slot(word(*i))] as usize;
                // In noise the first test fails nearly always, so the processor guesses it right.
                word(before) == word(*i) && before < *i && *i - before <= WINDOW
            };
            found += usize::from((group..group + STEP).any(|i| is_known(&i)));
            for i in (group..group + GROUP).step_by(STEP) {
                self.seen[slot(word(i))] = i as u32;
            }
        }
        found > PIECE / GROUP / 16
    }
}

/// Whether all byte values are about equally frequent, as in compressed data but not in programs and texts:
/// the probability that two bytes are equal (Rényi's entropy of order 2) is at most that of 7.75 bits a
/// byte; noise has 7.91 in a piece of this length. `glance` looks at the first quarter only.
fn is_level(piece: &[u8], glance: bool) -> bool {
    let is_level = |bytes: &[u8], symbols: u32| {
        let mut counts = [[0u16; 256]; 2];
        for pair in bytes.chunks_exact(2) {
            counts[0][usize::from(pair[0])] += 1;
            counts[1][usize::from(pair[1])] += 1;
        }
        // At most the square of the length, which fits.
        let equal: u32 = (0..256).map(|b| u32::from(counts[0][b] + counts[1][b])).map(|n| n * n).sum();
        let length = bytes.len() as u32;
        (equal - length) * symbols <= length * length
    };
    // The first bytes reveal most texts; they are few, so their bound is wider.
    is_level(&piece[..PIECE / 4], 180) && (glance || is_level(piece, 215))
}

/// Stored blocks (RFC 1951, section 3.2.4). Each begins at a byte boundary, since the block before ended at
/// one.
fn store(data: &[u8], last: bool, out: &mut Vec<u8>) {
    const STORED_MAX: usize = 65535;
    out.reserve(data.len() + 5 * data.len().div_ceil(STORED_MAX));
    let mut chunks = data.chunks(STORED_MAX).peekable();
    while let Some(chunk) = chunks.next() {
        let length = chunk.len() as u16;
        out.push(u8::from(last && chunks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
}

/// What one thread compresses with.
struct Compressor {
    deflater: Deflater,
    level: u32,
    spotter: Spotter,
}

impl Compressor {
    fn new(level: u32) -> Compressor {
        Compressor { deflater: Deflater::new(level), level, spotter: Spotter::new() }
    }

    /// Compresses a block into the empty `out`: noise is stored, the rest deflated.
    fn block(&mut self, block: Block, mut out: Vec<u8>, last: bool) -> io::Result<Done> {
        let Block { data, start } = block;
        let mut crc = Crc::new();
        crc.update(&data[start..]);
        // Level 0 stores everything.
        let whole = (self.level == 0 && start < data.len()).then_some(start..data.len());
        let runs = match self.level {
            0 => whole.into_iter().collect(),
            _ => self.spotter.runs(&data, start),
        };
        out.reserve((data.len() - start) / 2 + 1024);
        let mut at = start;
        for run in runs {
            if at < run.start {
                self.deflater.deflate(&data, at..run.start, false, &mut out)?;
            }
            at = run.end;
            store(&data[run], last && at == data.len(), &mut out);
        }
        if at < data.len() || start == data.len() {
            self.deflater.deflate(&data, at..data.len(), last, &mut out)?;
        }
        Ok(Done { compressed: out, crc, used: data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::GZIP_LEVEL;
    use std::io::Read;

    fn gzip(data: &[u8], level: u32, threads: usize) -> Vec<u8> {
        let mut writer = ParallelGzip::new(Vec::new(), level, threads).expect("a Vec takes all");
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
            let one = gzip(data, GZIP_LEVEL, 1);
            assert!(one == gzip(data, GZIP_LEVEL, 5), "{length} bytes");
            // Not a multi-member decoder: what follows the first member would be missing.
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(one.as_slice()).read_to_end(&mut back).expect("valid gzip");
            assert!(back == data, "{length} bytes");
        }
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    /// Packs with different numbers of threads, compares, unpacks, compares; returns the packed length.
    fn round_trip(data: &[u8]) -> usize {
        let [length, _] = [GZIP_LEVEL, 6].map(|level| {
            let packed = gzip(data, level, 3);
            assert!(packed == gzip(data, level, 1), "the output depends on the number of threads");
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut back).expect("valid gzip");
            assert!(back == data, "{} bytes came back as {}", data.len(), back.len());
            packed.len()
        });
        length
    }

    const TEXT: &[u8] = b"the quick brown fox jumps over the lazy dog. ";

    #[test]
    fn noise_is_stored_and_text_is_not() {
        let noise = noise(2 * BLOCK, 1);
        let text = TEXT.repeat(BLOCK / 20);
        let runs = |data: &[u8], start: usize| Spotter::new().runs(data, start);
        let all = runs(&noise[..BLOCK], 0);
        assert!(all.len() == 1 && all[0] == (0..BLOCK), "{all:?}");
        assert!(runs(&text[..BLOCK], 0).is_empty());
        // Noise that soon repeats is no noise to deflate, within a block or after the previous block.
        let repeated = noise[..5001].repeat(BLOCK / 5000);
        assert!(runs(&repeated[10_240..], 0).iter().all(|run| run.end <= 6 * PIECE));
        assert!(runs(&[&noise[..WINDOW], &noise[11..WINDOW]].concat(), WINDOW).is_empty());
        // Small files, half text and half noise.
        let mixed: Vec<u8> =
            (0..40).flat_map(|n| [&text[n..10_000 + n], &noise[n * 9_000..][..10_000]].concat()).collect();
        let stored: usize = runs(&mixed[..BLOCK], 0).iter().map(Range::len).sum();
        assert!(stored > BLOCK / 4, "{stored}");
        assert!(round_trip(&mixed) < 40 * 10_800);
        assert!(round_trip(&[&text[..BLOCK], &noise[..], &text[..100]].concat()) < noise.len() + BLOCK / 10);
        assert!(round_trip(&repeated) < BLOCK / 4);
    }

    #[test]
    fn any_mixture_comes_back() {
        let (noise, text) = (noise(3 * BLOCK, 7), TEXT.repeat(BLOCK / 20));
        let mut state = 12_345u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..25 {
            let mut data = Vec::new();
            let (length, longest) = (random(3 * BLOCK), 1 + random(BLOCK));
            while data.len() < length {
                let piece = 1 + random(longest);
                match random(4) {
                    0 => data.extend(std::iter::repeat_n(random(256) as u8, piece)),
                    1 => data.extend(&text[random(100)..][..piece]),
                    // Repeats an earlier part: matches across stored blocks.
                    2 if data.len() > piece => {
                        data.extend_from_within(random(data.len() - piece)..data.len() - 1)
                    }
                    _ => data.extend(&noise[random(BLOCK)..][..piece]),
                }
                data.truncate(length);
            }
            round_trip(&data);
        }
    }
}
