//! Reads the rows of one table of an SQLite database (SQLite, "Database File Format").
//!
//! Only what rpm's database needs: tables, no indexes, and no write-ahead log. Nothing in the file is
//! trusted: pages that are visited and bytes that are read are limited by the size of the file, so a circle
//! of pages ends.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What the first bytes of a database are.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The longest row that is read, in bytes; headers of large packages have a few MB.
const ROW_SIZE_MAX: u64 = 64 << 20;
/// The deepest tree of pages; one of 2^32 pages has fewer levels.
const DEPTH_MAX: usize = 24;

/// Why a database cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

type Result<T> = std::result::Result<T, Damaged>;

/// An open database.
pub struct Database<'a> {
    file: &'a File,
    page_size: u64,
    /// Bytes of a page that SQLite uses.
    usable: u64,
    /// Pages that may still be visited.
    pages_left: u64,
    /// Bytes of rows that may still be read.
    bytes_left: u64,
}

/// One value of a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Not there, a real number, or one of no interest here.
    Null,
    /// An integer.
    Integer(i64),
    /// Text, as bytes, or a blob.
    Bytes(&'a [u8]),
}

impl<'a> Database<'a> {
    /// Reads the header.
    pub fn open(file: &'a File) -> Result<Database<'a>> {
        let length = file.metadata().map_err(|_| Damaged("it cannot be read"))?.len();
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0).map_err(|_| Damaged("it has no header"))?;
        if &header[..16] != MAGIC {
            return Err(Damaged("it is no SQLite database"));
        }
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            size => u64::from(size),
        };
        let usable = page_size.saturating_sub(u64::from(header[20]));
        if !page_size.is_power_of_two() || page_size < 512 || usable < 480 {
            return Err(Damaged("its page size is wrong"));
        }
        Ok(Database { file, page_size, usable, pages_left: 4 * (length / page_size) + 4, bytes_left: length })
    }

    /// Calls `visit` with each row of a table.
    pub fn rows(&mut self, table: &str, visit: &mut dyn FnMut(&[Value<'_>])) -> Result<()> {
        let mut root = None;
        // The schema is the table whose root is the first page: type, name, table, root page, text.
        self.tree(1, 0, &mut |row| {
            if let [Value::Bytes(b"table"), Value::Bytes(name), _, Value::Integer(page), ..] = row
                && *name == table.as_bytes()
            {
                root = u32::try_from(*page).ok();
            }
        })?;
        let root = root.ok_or(Damaged("it lacks the table of packages"))?;
        self.tree(root, 0, visit)
    }

    fn page(&mut self, number: u32) -> Result<Vec<u8>> {
        self.pages_left = self.pages_left.checked_sub(1).ok_or(Damaged("its pages make a circle"))?;
        let index = number.checked_sub(1).ok_or(Damaged("a page has no number"))?;
        let mut page = vec![0; self.page_size as usize];
        let read = self.file.read_exact_at(&mut page, u64::from(index) * self.page_size);
        read.map_err(|_| Damaged("a page is missing"))?;
        Ok(page)
    }

    /// The rows of a tree of pages ("B-tree Pages").
    fn tree(&mut self, number: u32, depth: usize, visit: &mut dyn FnMut(&[Value<'_>])) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Damaged("its pages are nested too deeply"));
        }
        let page = self.page(number)?;
        let start = if number == 1 { 100 } else { 0 };
        let is_leaf = match page[start] {
            13 => true,
            5 => false,
            _ => return Err(Damaged("a page is not of a table")),
        };
        let count = usize::from(half(&page, start + 3)?);
        let pointers = start + if is_leaf { 8 } else { 12 };
        for cell in 0..count {
            let at = usize::from(half(&page, pointers + 2 * cell)?);
            match is_leaf {
                true => self.row(&page, at, visit)?,
                false => self.tree(word(&page, at)?, depth + 1, visit)?,
            }
        }
        if is_leaf { Ok(()) } else { self.tree(word(&page, start + 8)?, depth + 1, visit) }
    }

    /// The row of a cell of a leaf.
    fn row(&mut self, page: &[u8], at: usize, visit: &mut dyn FnMut(&[Value<'_>])) -> Result<()> {
        let mut rest = page.get(at..).ok_or(Damaged("a row is outside its page"))?;
        let size = varint(&mut rest)?;
        varint(&mut rest)?;
        if size > ROW_SIZE_MAX {
            return Err(Damaged("a row is too large"));
        }
        self.bytes_left =
            self.bytes_left.checked_sub(size).ok_or(Damaged("its rows are larger than the file"))?;
        let here = self.local_size(size) as usize;
        let mut payload = rest.get(..here).ok_or(Damaged("a row is outside its page"))?.to_vec();
        let mut next = if (here as u64) < size { word(rest, here)? } else { 0 };
        while (payload.len() as u64) < size {
            let more = self.page(next)?;
            next = word(&more, 0)?;
            let wanted = (size - payload.len() as u64).min(self.usable - 4) as usize;
            payload.extend_from_slice(&more[4..4 + wanted]);
        }
        visit(&record(&payload)?);
        Ok(())
    }

    /// How many bytes of a row are in its cell ("Cell Payload Overflow Pages").
    fn local_size(&self, size: u64) -> u64 {
        let most = self.usable - 35;
        if size <= most {
            return size;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fits = least + (size - least) % (self.usable - 4);
        if fits <= most { fits } else { least }
    }
}

/// The values of a row ("Record Format").
fn record(payload: &[u8]) -> Result<Vec<Value<'_>>> {
    let mut header = payload;
    let header_size = usize::try_from(varint(&mut header)?).unwrap_or(usize::MAX);
    let used = payload.len() - header.len();
    let mut types = payload.get(used..header_size).ok_or(Damaged("a row has no header"))?;
    let mut content = &payload[header_size..];
    let mut values = Vec::new();
    while !types.is_empty() {
        let kind = varint(&mut types)?;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(Damaged("a value has an unknown type")),
            _ => (kind - 12) / 2,
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let bytes = content.get(..size).ok_or(Damaged("a value is outside its row"))?;
        content = &content[size..];
        values.push(match kind {
            0 | 7 => Value::Null,
            1..=6 => Value::Integer(integer(bytes)),
            8 | 9 => Value::Integer(kind as i64 - 8),
            _ => Value::Bytes(bytes),
        });
    }
    Ok(values)
}

/// A signed number, the highest byte first.
fn integer(bytes: &[u8]) -> i64 {
    let start = if bytes.first().is_some_and(|first| *first >= 0x80) { -1 } else { 0 };
    bytes.iter().fold(start, |value, byte| value << 8 | i64::from(*byte))
}

/// A number of one to nine bytes, the highest first; seven bits in each of the first eight.
fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value: u64 = 0;
    for count in 1..=9 {
        let (first, more) = rest.split_first().ok_or(Damaged("a number is cut off"))?;
        *rest = more;
        if count == 9 {
            return Ok(value << 8 | u64::from(*first));
        }
        value = value << 7 | u64::from(first & 0x7f);
        if first & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

fn half(bytes: &[u8], at: usize) -> Result<u16> {
    let part = bytes.get(at..at + 2).and_then(|part| part.try_into().ok());
    part.map(u16::from_be_bytes).ok_or(Damaged("a number is outside its page"))
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    part.map(u32::from_be_bytes).ok_or(Damaged("a number is outside its page"))
}

/// Small databases for tests.
#[cfg(test)]
pub(super) mod sample {
    const PAGE_SIZE: usize = 512;

    /// A number as [`super::varint`] reads it.
    fn varint(value: usize) -> Vec<u8> {
        let mut bytes = vec![(value & 0x7f) as u8];
        let mut rest = value >> 7;
        while rest > 0 {
            bytes.insert(0, (rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes
    }

    /// A record of values with their types.
    fn record(values: &[(usize, &[u8])]) -> Vec<u8> {
        let types: Vec<u8> = values.iter().flat_map(|(kind, _)| varint(*kind)).collect();
        let content = values.iter().flat_map(|(_, bytes)| bytes.iter().copied());
        varint(types.len() + 1).into_iter().chain(types).chain(content).collect()
    }

    /// The page of a leaf with these cells, after `before` bytes.
    fn leaf(before: &[u8], cells: &[Vec<u8>]) -> Vec<u8> {
        let mut page = before.to_vec();
        page.extend([13, 0, 0]);
        page.extend((cells.len() as u16).to_be_bytes());
        page.extend([0, 0, 0]);
        let mut end = PAGE_SIZE;
        let mut content = Vec::new();
        for cell in cells {
            end -= cell.len();
            page.extend((end as u16).to_be_bytes());
            content = [cell, &content[..]].concat();
        }
        page.resize(end, 0);
        [page, content].concat()
    }

    /// A database whose table `Packages` has these blobs in rows of two columns.
    pub fn database(blobs: &[Vec<u8>]) -> Vec<u8> {
        let mut header = [super::MAGIC, &(PAGE_SIZE as u16).to_be_bytes()[..]].concat();
        header.resize(100, 0);
        let sql = b"CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)";
        let text = |bytes: &'static [u8]| (13 + 2 * bytes.len(), bytes);
        let schema = record(&[text(b"table"), text(b"Packages"), text(b"Packages"), (1, &[2]), text(sql)]);
        let first = leaf(&header, &[[varint(schema.len()), varint(1), schema].concat()]);
        let (mut cells, mut overflow) = (Vec::new(), Vec::new());
        for (number, blob) in blobs.iter().enumerate() {
            let row = record(&[(0, b""), (12 + 2 * blob.len(), blob)]);
            let begin = [varint(row.len()), varint(number + 1)].concat();
            let most = PAGE_SIZE - 35;
            if row.len() <= most {
                cells.push([begin, row].concat());
                continue;
            }
            let least = (PAGE_SIZE - 12) * 32 / 255 - 23;
            let fits = least + (row.len() - least) % (PAGE_SIZE - 4);
            let here = if fits <= most { fits } else { least };
            let next = 3 + (overflow.len() / PAGE_SIZE) as u32;
            cells.push([begin, row[..here].to_vec(), next.to_be_bytes().to_vec()].concat());
            let parts: Vec<&[u8]> = row[here..].chunks(PAGE_SIZE - 4).collect();
            for (place, part) in parts.iter().enumerate() {
                let following = if place + 1 == parts.len() { 0 } else { next + place as u32 + 1 };
                let mut page = [&following.to_be_bytes()[..], part].concat();
                page.resize(PAGE_SIZE, 0);
                overflow.extend(page);
            }
        }
        [first, leaf(&[], &cells), overflow].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("room");
        file
    }

    fn blobs(file: &File) -> Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        Database::open(file)?.rows("Packages", &mut |row| {
            if let [_, Value::Bytes(blob)] = row {
                all.push(blob.to_vec());
            }
        })?;
        Ok(all)
    }

    #[test]
    fn rows_may_go_on_in_other_pages() {
        let given = vec![b"small".to_vec(), vec![7; 2000], (0..600).map(|n| n as u8).collect(), Vec::new()];
        assert_eq!(blobs(&file(&sample::database(&given))).expect("valid"), given);
        let empty = file(&sample::database(&[]));
        let other = Database::open(&empty).expect("valid").rows("Other", &mut |_| {});
        assert_eq!(other, Err(Damaged("it lacks the table of packages")));
        assert_eq!(blobs(&file(b"short")), Err(Damaged("it has no header")));
        assert_eq!(blobs(&file(&[0; 200])), Err(Damaged("it is no SQLite database")));
    }

    #[test]
    fn circles_of_pages_end() {
        // An inner page that is its own child.
        let mut bytes = sample::database(&[]);
        bytes[512..524].copy_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert!(blobs(&file(&bytes)).is_err());
        // A row that says it is larger than the file, in a page that goes on in itself.
        let mut bytes = sample::database(&[vec![7; 60_000]]);
        bytes.truncate(3 * 512);
        bytes[1024..1028].copy_from_slice(&3u32.to_be_bytes());
        assert_eq!(blobs(&file(&bytes)), Err(Damaged("its rows are larger than the file")));
    }
}
