//! Walks over the blocks of a deflate stream (RFC 1951) without unpacking it: only lengths of codes count.

/// Bits of a code that a table is indexed by; longer codes are rare.
const TABLE_BITS: u32 = 11;
/// Bits of the longest code.
const CODE_MAX: usize = 15;
/// Symbols of the first code: bytes, the end of the block, lengths.
const LENGTHS: usize = 288;
/// Symbols of the second code: distances.
const DISTANCES: usize = 32;
/// Extra bits of the symbols 257 to 285 (section 3.2.5), and of two that never occur.
const LENGTH_EXTRA: [u8; 31] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0, 0, 0];
/// Order of the lengths of the code that packs the lengths of the two others (section 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Where a stream's last block begins and where the stream ends, in bits from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The bit that marks the last block.
    pub(super) last: usize,
    /// The bit behind the last block.
    pub(super) end: usize,
}

impl Ends {
    /// Finds the ends of a stream; `None` if it is no valid one. References are not checked.
    pub(super) fn of(stream: &[u8]) -> Option<Ends> {
        let mut bits = Bits { stream, position: 0, buffer: 0, count: 0 };
        let (mut first, mut second) = (Code::new(), Code::new());
        loop {
            bits.fill();
            let start = bits.at();
            let is_last = bits.take(1) == 1;
            match bits.take(2) {
                0 => bits.skip_stored()?,
                kind @ (1 | 2) => {
                    if kind == 1 {
                        fixed(&mut first, &mut second);
                    } else {
                        dynamic(&mut bits, &mut first, &mut second)?;
                    }
                    bits.skip_symbols(&first, &second)?;
                }
                _ => return None,
            }
            if is_last {
                return (bits.at() <= stream.len() * 8).then_some(Ends { last: start, end: bits.at() });
            }
        }
    }
}

/// The code of section 3.2.6.
fn fixed(first: &mut Code, second: &mut Code) {
    let mut lengths = [8; LENGTHS];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    first.set(&lengths, of_first_code);
    first.chain();
    second.set(&[5; DISTANCES], of_distance);
}

/// Reads the codes of a block that brings its own (section 3.2.7).
fn dynamic(bits: &mut Bits<'_>, first: &mut Code, second: &mut Code) -> Option<()> {
    let (symbols, distances) = (257 + bits.take(5) as usize, 1 + bits.take(5) as usize);
    let count = 4 + bits.take(4) as usize;
    let mut packing = [0; 19];
    for &symbol in &ORDER[..count] {
        bits.fill();
        packing[symbol] = bits.take(3) as u8;
    }
    first.set(&packing, |symbol| Entry::plain(symbol as u8));
    let mut lengths = [0u8; LENGTHS + DISTANCES];
    let mut at = 0;
    while at < symbols + distances {
        bits.fill();
        let symbol = bits.entry(first)?.extra();
        let (value, times) = match symbol {
            16 => (*lengths.get(at.checked_sub(1)?)?, 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.get_mut(at..at + times as usize)?.fill(value);
        at += times as usize;
    }
    let mut own = [0; LENGTHS];
    own.get_mut(..symbols)?.copy_from_slice(&lengths[..symbols]);
    first.set(&own, of_first_code);
    first.chain();
    second.set(lengths.get(symbols..symbols + distances)?, of_distance);
    Some(())
}

fn of_first_code(symbol: usize) -> Entry {
    match symbol {
        0..256 => Entry::plain(0),
        256 => Entry(Entry::END),
        _ => Entry(Entry::LENGTH | u16::from(LENGTH_EXTRA[symbol - 257]) << 5),
    }
}

fn of_distance(symbol: usize) -> Entry {
    Entry::plain((symbol / 2).saturating_sub(1) as u8)
}

/// What follows from a symbol, or from a chain of them: bits of codes (0 to 4), extra bits behind them
/// (5 to 9), and the kind of the last symbol.
#[derive(Clone, Copy, Default)]
struct Entry(u16);

impl Entry {
    const END: u16 = 1 << 10;
    const LENGTH: u16 = 1 << 11;

    fn plain(extra: u8) -> Entry {
        Entry(u16::from(extra) << 5)
    }

    fn extra(self) -> u8 {
        (self.0 >> 5 & 31) as u8
    }

    fn code_bits(self) -> u32 {
        u32::from(self.0 & 31)
    }
}

/// A canonical prefix code (section 3.2.2).
struct Code {
    /// By the next bits of the stream; 0 bits of code for a code that is longer, or for none.
    table: [Entry; 1 << TABLE_BITS],
    /// Symbols by their codes.
    sorted: [Entry; LENGTHS],
    /// How many codes have each length.
    counts: [u16; CODE_MAX + 1],
}

impl Code {
    fn new() -> Code {
        Code {
            table: [Entry::default(); 1 << TABLE_BITS],
            sorted: [Entry::default(); LENGTHS],
            counts: [0; CODE_MAX + 1],
        }
    }

    /// Makes the code of the symbols' code lengths, 0 to 15.
    fn set(&mut self, lengths: &[u8], entry: impl Fn(usize) -> Entry) {
        self.counts = [0; CODE_MAX + 1];
        for &length in lengths {
            self.counts[usize::from(length)] += 1;
        }
        self.counts[0] = 0;
        let (mut code, mut index) = ([0u32; CODE_MAX + 2], [0u16; CODE_MAX + 2]);
        for length in 1..=CODE_MAX {
            code[length + 1] = (code[length] + u32::from(self.counts[length])) << 1;
            index[length + 1] = index[length] + self.counts[length];
        }
        self.table.fill(Entry::default());
        for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let length = usize::from(length);
            let entry = Entry(entry(symbol).0 | length as u16);
            self.sorted[usize::from(index[length])] = entry;
            index[length] += 1;
            // The stream has a code's bits in the reverse of their order.
            let reversed = (code[length].reverse_bits() >> (32 - length)) as usize;
            code[length] += 1;
            if length <= TABLE_BITS as usize {
                for place in (reversed..1 << TABLE_BITS).step_by(1 << length) {
                    self.table[place] = entry;
                }
            }
        }
    }

    /// Lets one look-up in the table of the first code take bytes and what follows them, as far as their
    /// codes fit into the table's index.
    fn chain(&mut self) {
        let single = self.table;
        for (index, entry) in self.table.iter_mut().enumerate() {
            // The code of a byte that ends the chain so far has no extra bits.
            while entry.0 >> 5 == 0 && entry.0 != 0 {
                let used = entry.code_bits();
                let next = single[index >> used];
                if next.0 == 0 || used + next.code_bits() > TABLE_BITS {
                    break;
                }
                entry.0 = next.0 + used as u16;
            }
        }
    }

    /// The entry of a code that is not in the table.
    #[cold]
    fn long(&self, mut bits: u64) -> Option<Entry> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for length in 1..=CODE_MAX {
            code |= (bits & 1) as u32;
            bits >>= 1;
            let count = u32::from(self.counts[length]);
            if code < first + count {
                return self.sorted.get((index + code - first) as usize).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// The bits of a stream; behind its end there are zeros.
struct Bits<'a> {
    stream: &'a [u8],
    /// The first byte that is not in the buffer.
    position: usize,
    buffer: u64,
    /// Bits in the buffer.
    count: u32,
}

impl Bits<'_> {
    /// Makes at least 56 bits available.
    fn fill(&mut self) {
        let next = match self.stream.get(self.position..self.position + 8) {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().expect("eight bytes")),
            None => {
                let rest = self.stream.get(self.position..).unwrap_or_default();
                let mut bytes = [0; 8];
                bytes[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(bytes)
            }
        };
        self.buffer |= next << self.count;
        let taken = (63 - self.count) / 8;
        self.position += taken as usize;
        self.count += taken * 8;
    }

    /// Takes up to 32 of the bits that [`Bits::fill`] made available.
    fn take(&mut self, count: u32) -> u32 {
        let bits = self.buffer & ((1 << count) - 1);
        self.drop(count);
        bits as u32
    }

    fn drop(&mut self, count: u32) {
        self.buffer >>= count;
        self.count -= count;
    }

    /// The bit that comes next, from the start of the stream.
    fn at(&self) -> usize {
        self.position * 8 - self.count as usize
    }

    /// Takes a code, but not its extra bits.
    fn entry(&mut self, code: &Code) -> Option<Entry> {
        let entry = match code.table[self.buffer as usize & ((1 << TABLE_BITS) - 1)] {
            Entry(0) => code.long(self.buffer)?,
            entry => entry,
        };
        self.drop(entry.code_bits());
        Some(entry)
    }

    fn skip_stored(&mut self) -> Option<()> {
        let at = self.at().div_ceil(8);
        let header: [u8; 4] = self.stream.get(at..at + 4)?.try_into().expect("four bytes");
        let length = u16::from_le_bytes([header[0], header[1]]);
        if length != !u16::from_le_bytes([header[2], header[3]]) {
            return None;
        }
        self.position = at + 4 + usize::from(length);
        (self.buffer, self.count) = (0, 0);
        Some(())
    }

    fn skip_symbols(&mut self, first: &Code, second: &Code) -> Option<()> {
        loop {
            // A length and a distance with their extra bits take at most 48.
            if self.count < 48 {
                if self.at() > self.stream.len() * 8 {
                    return None;
                }
                self.fill();
            }
            let entry = self.entry(first)?;
            if entry.0 & Entry::LENGTH != 0 {
                self.drop(u32::from(entry.extra()));
                let distance = self.entry(second)?;
                self.drop(u32::from(distance.extra()));
            } else if entry.0 & Entry::END != 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn samples() -> Vec<Vec<u8>> {
        let mut state = 5u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        let words: Vec<u8> = (0..300_000).map(|_| b"etaoin shrdlu\n."[next() as usize % 15]).collect();
        let noise: Vec<u8> = (0..150_000).map(|_| next() as u8).collect();
        // A byte in four is of a geometric distribution: long codes.
        let skewed: Vec<u8> = (0..200_000).map(|_| (next() as u8).leading_zeros() as u8 * 23).collect();
        vec![
            Vec::new(),
            vec![7],
            b"ab".repeat(9),
            vec![0; 100_000],
            [&words[..], &noise, &skewed, &words[1000..]].concat(),
            skewed,
            noise,
            words,
        ]
    }

    #[test]
    fn the_ends_are_those_of_the_streams_of_two_libraries() {
        for data in samples() {
            for level in 1..=9 {
                let mut zlib =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
                zlib.write_all(&data).expect("a Vec takes all");
                let zlib = zlib.finish().expect("a Vec takes all");
                let mut libdeflate = vec![0; data.len() * 2 + 100];
                let lvl = libdeflater::CompressionLvl::new(level.cast_signed()).expect("a level");
                let length = libdeflater::Compressor::new(lvl).deflate_compress(&data, &mut libdeflate);
                libdeflate.truncate(length.expect("room"));
                for stream in [zlib, libdeflate] {
                    let ends = Ends::of(&stream).expect("a valid stream");
                    assert_eq!(ends.end.div_ceil(8), stream.len());
                    // Without the mark, a decoder wants more.
                    let mut open = stream.clone();
                    assert!(open[ends.last / 8] & 1 << (ends.last % 8) != 0);
                    open[ends.last / 8] &= !(1 << (ends.last % 8));
                    let mut back = Vec::with_capacity(data.len() + 1);
                    let mut decoder = flate2::Decompress::new(false);
                    let status = decoder
                        .decompress_vec(&open, &mut back, flate2::FlushDecompress::None)
                        .expect("valid");
                    assert!(status != flate2::Status::StreamEnd && back == data, "level {level}");
                }
            }
        }
    }

    #[test]
    fn damaged_streams_have_other_ends_or_none() {
        let data = samples().swap_remove(4);
        let mut stream = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(3));
        stream.write_all(&data[..20_000]).expect("a Vec takes all");
        let stream = stream.finish().expect("a Vec takes all");
        for length in (0..stream.len()).step_by(13) {
            assert_eq!(Ends::of(&stream[..length]), None, "cut off at {length}");
        }
        for at in (0..stream.len()).step_by(17) {
            let mut damaged = stream.clone();
            damaged[at] ^= 1 << (at % 8);
            // Whatever is found lies inside of the stream.
            if let Some(ends) = Ends::of(&damaged) {
                assert!(ends.last < ends.end && ends.end <= damaged.len() * 8);
            }
        }
    }
}
