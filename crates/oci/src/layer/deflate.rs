//! Deflate (RFC 1951) of parts that are joined by writing one after the other.
//!
//! libdeflate compresses a part better and faster than zlib does, but it neither looks back at the bytes
//! before the part nor leaves a stream open: it marks its last block as the last one of the stream. That
//! block is looked up ([`Ends`]) and its mark taken away. Short parts that could look back are left to zlib.

use std::io;
use std::ops::Range;

use flate2::{Compress, Compression, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use crate::layer::deflate_blocks::Ends;

/// Bytes that deflate looks back at (RFC 1951).
pub(super) const WINDOW: usize = 32 * 1024;

/// Length in bytes from which on a part loses less by not looking back than libdeflate gains.
const LONG: usize = 64 * 1024;

/// What one thread deflates with: a compressor of libdeflate, which takes some hundred KiB.
pub(super) struct Deflater {
    level: u32,
    long: Option<Compressor>,
}

impl Deflater {
    /// `level` from 1, the fastest, to 9.
    pub(super) fn new(level: u32) -> Deflater {
        Deflater { level: level.clamp(1, 9), long: None }
    }

    /// Deflates a part of `data` behind what is in `out`. The result ends at a byte boundary, and is the end
    /// of a stream if it is the last part of one.
    pub(super) fn deflate(
        &mut self,
        data: &[u8],
        part: Range<usize>,
        last: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let is_long = part.len() >= LONG || (part.start == 0 && !part.is_empty());
        let (before, part) = (&data[part.start.saturating_sub(WINDOW)..part.start], &data[part]);
        match is_long && self.deflate_long(part, last, out) {
            true => Ok(()),
            false => self.deflate_short(before, part, last, out),
        }
    }

    /// Returns false, and leaves `out` as it was, if the result is not what this file knows to change.
    fn deflate_long(&mut self, part: &[u8], last: bool, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let long = self.long.get_or_insert_with(|| {
            let level = CompressionLvl::new(self.level.cast_signed());
            Compressor::new(level.expect("libdeflate has levels up to 12"))
        });
        out.resize(start + long.deflate_compress_bound(part.len()), 0);
        let written = long.deflate_compress(part, &mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
        let ends = Ends::of(&out[start..]);
        match &ends {
            Some(ends) if !last => leave_open(out, start, ends),
            Some(_) => {}
            None => out.truncate(start),
        }
        ends.is_some()
    }

    /// `before` are the bytes before the part that it can refer to.
    ///
    /// The same part must always give the same bytes. zlib-rs finds other matches with a compressor that was
    /// used before, even if that was reset, and ends blocks elsewhere if the output does not fit in one call
    /// (zlib-rs 0.6.8; findings/zlib-rs-reset-remembers.sh). So each part has a new one, and room for all.
    fn deflate_short(&self, before: &[u8], part: &[u8], last: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let mut deflate = Compress::new(Compression::new(self.level), false);
        if !before.is_empty() {
            deflate.set_dictionary(before).map_err(io::Error::other)?;
        }
        // Fixed codes take 9 bits for a byte at most (RFC 1951, section 3.2.6); the rest is headers and ends.
        out.reserve(part.len() + part.len() / 8 + 1024);
        let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
        let status = deflate.compress_vec(part, out, flush).map_err(io::Error::other)?;
        let all_taken = deflate.total_in() == part.len() as u64;
        let has_room = out.len() < out.capacity();
        match if last { status == Status::StreamEnd } else { all_taken && has_room } {
            true => Ok(()),
            false => Err(io::Error::other("zlib needs more room than its format can take")),
        }
    }
}

/// Makes the stream from byte `start` of `out` on one that more can follow: its last block is no longer
/// marked, and an empty stored block (RFC 1951, section 3.2.4) leads to a byte boundary.
fn leave_open(out: &mut Vec<u8>, start: usize, ends: &Ends) {
    out[start + ends.last / 8] &= !(1 << (ends.last % 8));
    out.truncate(start + ends.end.div_ceil(8));
    let used = ends.end % 8;
    if used > 0 {
        let end = out.len() - 1;
        out[end] &= (1 << used) - 1;
    }
    // The three bits of the block's header are zero, and so are those up to the boundary.
    if used == 0 || used > 5 {
        out.push(0);
    }
    out.extend([0, 0, 0xff, 0xff]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Words of some hundred, with numbers between them.
    fn text(length: usize) -> Vec<u8> {
        let state = &mut 1;
        let words: Vec<Vec<u8>> = (0..400)
            .map(|_| (0..2 + random(state) % 7).map(|_| b'a' + (random(state) % 26) as u8).collect())
            .collect();
        let mut text = Vec::new();
        while text.len() < length {
            text.extend(&words[(random(state) % 400) as usize]);
            if random(state).is_multiple_of(3) {
                text.extend(random(state).to_le_bytes());
            }
            text.push(b' ');
        }
        text
    }

    #[test]
    fn a_part_has_the_same_bytes_whatever_was_deflated_before() {
        let data = text(400_000);
        let levels = [crate::layer::GZIP_LEVEL, 6, 9];
        let lengths = [1_000, 5_000, 30_000, LONG - 1, LONG, 100_000];
        for (level, length) in levels.into_iter().flat_map(|level| lengths.map(|length| (level, length))) {
            let mut used = Deflater::new(level);
            for n in 0..40 {
                let start = WINDOW + n * 5_003;
                let results = [0, 100, 5_000, 1 << 20].map(|room| {
                    let mut out = Vec::with_capacity(room);
                    let deflated = used.deflate(&data, start..start + length, n % 5 == 0, &mut out);
                    deflated.map(|()| out).expect("it has room")
                });
                let mut alone = Vec::new();
                let mut new = Deflater::new(level);
                new.deflate(&data, start..start + length, n % 5 == 0, &mut alone).expect("it has room");
                assert!(
                    results.iter().all(|out| *out == alone),
                    "{length} bytes from {start}, level {level}"
                );
            }
        }
    }
}
