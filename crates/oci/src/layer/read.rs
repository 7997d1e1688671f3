//! Reading tar archives: POSIX.1-2017 `pax` (ustar with extended headers), GNU long names and all four sparse
//! forms.
//!
//! Names stay bytes; nothing here touches the file system. Sizes and counts are limited, since archives are
//! hostile until proven otherwise.

use std::io::{self, BufRead};

pub(crate) const BLOCK: usize = 512;
/// Extended headers larger than this, in bytes, are refused; the kernel allows 64 KiB for one attribute.
const EXTENDED_SIZE_MAX: u64 = 1024 * 1024;
/// Sparse files with more segments than this are refused.
const SEGMENTS_MAX: usize = 1 << 16;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// Volume labels and other things that are no files.
    Other,
}

/// One entry, with its extended headers applied.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    /// Length of the file in bytes, including the holes of a sparse file.
    pub size: u64,
    /// Name without `SCHILY.xattr.`, and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length in bytes of each stored segment of a sparse file.
    pub sparse: Option<Vec<(u64, u64)>>,
}

/// Why an archive cannot be read.
#[derive(Debug)]
pub(crate) enum TarError {
    Io(io::Error),
    Bad(String),
}

impl From<io::Error> for TarError {
    fn from(e: io::Error) -> TarError {
        TarError::Io(e)
    }
}

type Result<T, E = TarError> = std::result::Result<T, E>;

fn bad<T>(reason: impl Into<String>) -> Result<T> {
    Err(TarError::Bad(reason.into()))
}

/// A reader of entries, in order.
pub(crate) struct Reader<R> {
    inner: R,
    /// Bytes of the current entry's data not read yet, and of padding after them.
    data: u64,
    padding: u64,
    pub entries: u64,
}

/// Extended headers collected for the next entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Whether the checksum in a header block is right; old programs summed the bytes as signed numbers.
fn has_right_sum(header: &[u8; BLOCK]) -> bool {
    let blanked = |i: usize, b: u8| if (148..156).contains(&i) { b' ' } else { b };
    let unsigned: i64 = header.iter().enumerate().map(|(i, b)| i64::from(blanked(i, *b))).sum();
    let signed: i64 = header.iter().enumerate().map(|(i, b)| i64::from(blanked(i, *b) as i8)).sum();
    number(&header[148..156]).is_some_and(|sum| sum == unsigned || sum == signed)
}

/// Whether a block is the header of an archive's first file: of ustar, GNU, or of the seventh edition, which
/// has no magic and is recognised by its checksum.
pub(crate) fn is_tar_header(block: &[u8]) -> bool {
    let Some(header) = block.first_chunk::<BLOCK>() else { return false };
    header[257..262] == *b"ustar" || header[0] != 0 && has_right_sum(header)
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(inner: R) -> Reader<R> {
        Reader { inner, data: 0, padding: 0, entries: 0 }
    }

    /// The stream after the archive's end.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry. [`Reader::chunk`] reads its data; unread data is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extended = Extended::default();
        loop {
            self.skip_rest()?;
            let mut header = [0; BLOCK];
            if !self.read_header(&mut header)? {
                return Ok(None);
            }
            let size = number(&header[124..136]).and_then(|n| u64::try_from(n).ok());
            let Some(size) = size else { return bad("an entry's size is not a number") };
            match header[156] {
                b'x' => {
                    let bytes = self.read_extended(size)?;
                    extended.records = parse_records(&bytes)?;
                }
                b'g' => self.begin_data(size),
                b'L' => extended.path = Some(until_nul(&self.read_extended(size)?).to_vec()),
                b'K' => extended.link = Some(until_nul(&self.read_extended(size)?).to_vec()),
                _ => {
                    self.entries += 1;
                    return self.entry(&header, size, extended).map(Some);
                }
            }
        }
    }

    /// The next piece of the entry's data; empty at its end. [`Reader::consume`] moves on.
    pub(crate) fn chunk(&mut self) -> Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let available = self.inner.fill_buf()?;
        if available.is_empty() {
            return bad("it ends in the middle of a file");
        }
        let length = available.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    pub(crate) fn consume(&mut self, length: usize) {
        self.inner.consume(length);
        self.data -= length as u64;
    }

    fn begin_data(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> Result<()> {
        loop {
            let length = self.chunk()?.len();
            if length == 0 {
                break;
            }
            self.consume(length);
        }
        self.data = std::mem::take(&mut self.padding);
        if self.data > 0 {
            return self.skip_rest();
        }
        Ok(())
    }

    /// Reads a header block; `false` at the end of the archive.
    fn read_header(&mut self, header: &mut [u8; BLOCK]) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            let available = self.inner.fill_buf()?;
            if available.is_empty() {
                // Archives without the two zero blocks exist, and every program reads them.
                return if filled == 0 { Ok(false) } else { bad("it ends in the middle of a header") };
            }
            let length = available.len().min(BLOCK - filled);
            header[filled..filled + length].copy_from_slice(&available[..length]);
            self.inner.consume(length);
            filled += length;
        }
        if header.iter().all(|b| *b == 0) {
            return Ok(false);
        }
        if has_right_sum(header) { Ok(true) } else { bad("a header's checksum is wrong") }
    }

    fn read_extended(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENDED_SIZE_MAX {
            return bad(format!("an extended header of {size} bytes is too large"));
        }
        self.begin_data(size);
        let mut bytes = Vec::with_capacity(size as usize);
        while self.data > 0 {
            let length = self.copy_chunk(&mut bytes)?;
            self.consume(length);
        }
        Ok(bytes)
    }

    fn copy_chunk(&mut self, bytes: &mut Vec<u8>) -> Result<usize> {
        let chunk = self.chunk()?;
        bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    /// Reads one block of the entry's data, for sparse maps.
    fn data_block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return bad("a sparse map is cut short");
            }
            let length = chunk.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&chunk[..length]);
            self.consume(length);
            filled += length;
        }
        Ok(block)
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, extended: Extended) -> Result<Entry> {
        let is_posix = &header[257..263] == b"ustar\0";
        let mut path = until_nul(&header[..100]).to_vec();
        if is_posix && header[345] != 0 {
            path = [until_nul(&header[345..500]), b"/", &path].concat();
        }
        let field = |range: std::ops::Range<usize>| number(&header[range]).unwrap_or(0);
        let mut entry = Entry {
            kind: Kind::Other,
            path,
            link: until_nul(&header[157..257]).to_vec(),
            mode: (field(100..108) & 0o7777) as u32,
            uid: id(field(108..116)),
            gid: id(field(116..124)),
            mtime: (field(136..148), 0),
            device: (field(329..337) as u32, field(337..345) as u32),
            size,
            xattrs: Vec::new(),
            sparse: None,
        };
        entry.path = extended.path.unwrap_or(entry.path);
        entry.link = extended.link.unwrap_or(entry.link);
        let sparse = apply_records(&mut entry, &extended.records)?;
        if [entry.uid, entry.gid].contains(&NO_ID) {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            return bad(format!("{path:?} has a user or group id that is out of range (0 to {})", NO_ID - 1));
        }
        // The whole name decides: the one in the header may be cut after a slash.
        entry.kind = kind(header[156], &entry.path);
        let sparse = sparse.filter(|_| entry.kind == Kind::File);
        let stored = match entry.kind {
            Kind::File | Kind::Other => entry.size,
            // Headers of other kinds may state a size, but nothing follows them.
            _ => 0,
        };
        if header[156] == b'S' {
            entry.sparse = Some(self.old_gnu_map(header)?);
            entry.size = number(&header[483..495]).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        }
        self.begin_data(stored);
        if let Some(sparse) = sparse {
            entry.size = sparse.real_size.unwrap_or(stored);
            entry.sparse = Some(match sparse.map {
                Some(map) => map,
                None => self.pax_map()?,
            });
        }
        if let Some(map) = &entry.sparse {
            check_map(map, entry.size, self.data)?;
        }
        Ok(entry)
    }

    /// The map of old GNU sparse files: four segments in the header, 21 in each block that follows.
    fn old_gnu_map(&mut self, header: &[u8; BLOCK]) -> Result<Vec<(u64, u64)>> {
        let mut map = Vec::new();
        push_segments(&mut map, &header[386..482])?;
        let mut more = header[482] != 0;
        while more {
            self.begin_data(BLOCK as u64);
            let block = self.data_block()?;
            push_segments(&mut map, &block[..504])?;
            more = block[504] != 0;
        }
        Ok(map)
    }

    /// The map of PAX sparse form 1.0: decimal numbers, one a line, in whole blocks before the data.
    fn pax_map(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut numbers = Vec::new();
        let mut digits = String::new();
        loop {
            for byte in self.data_block()? {
                match byte {
                    b'0'..=b'9' if digits.len() < 20 => digits.push(char::from(byte)),
                    b'\n' => match std::mem::take(&mut digits).parse::<u64>() {
                        Ok(n) => numbers.push(n),
                        Err(_) => return bad("a sparse map has a bad number"),
                    },
                    // The rest of the last block.
                    _ if complete(&numbers) => break,
                    _ => return bad("a sparse map has a bad number"),
                }
                if complete(&numbers) {
                    break;
                }
            }
            if complete(&numbers) {
                return Ok(numbers[1..].chunks_exact(2).map(|p| (p[0], p[1])).collect());
            }
            if numbers.len() > 2 * SEGMENTS_MAX {
                return bad("a sparse file has too many segments");
            }
        }
    }
}

/// Whether the numbers are a count and that many pairs.
fn complete(numbers: &[u64]) -> bool {
    numbers.first().is_some_and(|count| (numbers.len() - 1) as u64 == count.saturating_mul(2))
}

fn push_segments(map: &mut Vec<(u64, u64)>, bytes: &[u8]) -> Result<()> {
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        match (number(&pair[..12]).map(u64::try_from), number(&pair[12..]).map(u64::try_from)) {
            (Some(Ok(offset)), Some(Ok(length))) => map.push((offset, length)),
            _ => return bad("a sparse map has a bad number"),
        }
    }
    if map.len() > SEGMENTS_MAX {
        return bad("a sparse file has too many segments");
    }
    Ok(())
}

/// Segments must ascend, end within the file and cover exactly the data that follows.
fn check_map(map: &[(u64, u64)], size: u64, stored: u64) -> Result<()> {
    let mut end = 0u64;
    let mut total = 0u64;
    for (offset, length) in map {
        let next = offset.checked_add(*length).filter(|next| *next <= size && *offset >= end);
        let Some(next) = next else { return bad("a sparse map does not fit its file") };
        end = next;
        total += length;
    }
    if total != stored {
        return bad("a sparse map does not fit its data");
    }
    Ok(())
}

fn kind(flag: u8, path: &[u8]) -> Kind {
    match flag {
        // Old archives mark directories by the slash alone.
        0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => Kind::Other,
    }
}

/// What extended headers say about a sparse file. If they have no map, it precedes the data.
struct Sparse {
    real_size: Option<u64>,
    map: Option<Vec<(u64, u64)>>,
}

/// Applies extended header records to an entry.
fn apply_records(entry: &mut Entry, records: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<Sparse>> {
    let mut sparse = Sparse { real_size: None, map: None };
    let mut is_sparse = false;
    let mut sparse_name = None;
    let mut pairs: Vec<u64> = Vec::new();
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            entry.xattrs.push((name.to_vec(), value.clone()));
            continue;
        }
        let text = || std::str::from_utf8(value).ok();
        let decimal = || match text().and_then(|t| t.parse::<u64>().ok()) {
            Some(n) => Ok(n),
            None => bad(format!("extended header {} is not a number", String::from_utf8_lossy(key))),
        };
        match key.as_slice() {
            b"path" => entry.path = value.clone(),
            b"linkpath" => entry.link = value.clone(),
            b"size" => entry.size = decimal()?,
            b"uid" => entry.uid = id(decimal()?),
            b"gid" => entry.gid = id(decimal()?),
            b"mtime" => match text().and_then(parse_time) {
                Some(time) => entry.mtime = time,
                None => return bad("extended header mtime is not a time"),
            },
            b"GNU.sparse.major" | b"GNU.sparse.minor" | b"GNU.sparse.numblocks" => is_sparse = true,
            b"GNU.sparse.name" => sparse_name = Some(value.clone()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                is_sparse = true;
                sparse.real_size = Some(decimal()?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => pairs.push(decimal()?),
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> =
                    text().and_then(|t| t.split(',').map(|n| n.parse().ok()).collect());
                match numbers {
                    Some(numbers) => pairs = numbers,
                    None => return bad("a sparse map has a bad number"),
                }
            }
            _ => {}
        }
    }
    if !is_sparse {
        return Ok(None);
    }
    if let Some(name) = sparse_name {
        entry.path = name;
    }
    if !pairs.is_empty() {
        sparse.map = Some(pairs.chunks_exact(2).map(|p| (p[0], p[1])).collect());
    }
    Ok(Some(sparse))
}

/// `seconds[.fraction]`, possibly negative.
fn parse_time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    match (text.starts_with('-'), nanoseconds) {
        (_, 0) => Some((seconds, 0)),
        (true, n) => Some((seconds.checked_sub(1)?, 1_000_000_000 - n)),
        (false, n) => Some((seconds, n)),
    }
}

/// `length key=value\n` records.
fn parse_records(mut bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() && bytes[0] != 0 {
        let space = bytes.iter().take(20).position(|b| *b == b' ');
        let length = space.and_then(|s| std::str::from_utf8(&bytes[..s]).ok()?.parse::<usize>().ok());
        let (Some(space), Some(length)) = (space, length) else {
            return bad("an extended header is malformed");
        };
        let record = bytes.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n"));
        let Some(record) = record else { return bad("an extended header is malformed") };
        let Some(equals) = record.iter().position(|b| *b == b'=') else {
            return bad("an extended header is malformed");
        };
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or(bytes)
}

/// A numeric field: octal digits between blanks, or base 256 with the first bit set (GNU). Empty is zero.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (i, byte) in field.iter().enumerate() {
            let byte = if i == 0 && !negative { byte & 0x7f } else { *byte };
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

/// No id: chown(2) takes it for "leave unchanged".
const NO_ID: u32 = u32::MAX;

/// A user or group id of an archive; [`NO_ID`] if it is out of range.
fn id(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(NO_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_out_of_range_do_not_become_others() {
        assert_eq!((id(0i64), id(1000i64), id(4_294_967_294i64)), (0, 1000, 4_294_967_294));
        for number in [-1i64, 1 << 32, (1 << 32) + 5, i64::MAX] {
            assert_eq!(id(number), NO_ID, "{number}");
        }
        assert_eq!(id(u64::MAX), NO_ID);
    }

    #[test]
    fn numbers_of_all_kinds() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(number(b"12x\0\0\0\0\0"), None);
        assert_eq!(parse_time("1.5"), Some((1, 500_000_000)));
        assert_eq!(parse_time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time("1.x"), None);
    }

    #[test]
    fn records_of_bad_length_are_refused() {
        assert_eq!(parse_records(b"7 a=bcd\n").ok(), None);
        assert_eq!(parse_records(b"8 a=bcd\n").expect("valid"), [(b"a".to_vec(), b"bcd".to_vec())]);
        for bad in [&b"99999999999999999999 a=b\n"[..], b"0 a=b\n", b"3 a=b\n", b"6 abc\n", b"x"] {
            assert!(parse_records(bad).is_err(), "{bad:?}");
        }
    }
}
