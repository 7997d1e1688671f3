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

/// What one thread deflates with. Each of both takes some hundred KiB, and a small layer needs one.
pub(super) struct Deflater {
    level: u32,
    long: Option<Compressor>,
    short: Option<Compress>,
}

impl Deflater {
    /// `level` from 1, the fastest, to 9.
    pub(super) fn new(level: u32) -> Deflater {
        Deflater { level: level.clamp(1, 9), long: None, short: None }
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
    fn deflate_short(&mut self, before: &[u8], part: &[u8], last: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let new = || Compress::new(Compression::new(self.level), false);
        let deflate = self.short.get_or_insert_with(new);
        deflate.reset();
        if !before.is_empty() {
            deflate.set_dictionary(before).map_err(io::Error::other)?;
        }
        out.reserve(part.len() / 2 + 64);
        let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
        loop {
            let taken = usize::try_from(deflate.total_in()).expect("a part's length fits");
            let status = deflate.compress_vec(&part[taken..], out, flush).map_err(io::Error::other)?;
            let all_taken = deflate.total_in() == part.len() as u64;
            let has_room = out.len() < out.capacity();
            if (last && status == Status::StreamEnd) || (!last && all_taken && has_room) {
                return Ok(());
            }
            out.reserve(64 * 1024);
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
