//! The mappings of this process, as the host's kernel lists them (proc_pid_maps(5)).

use crate::changes::CHANGES;
use crate::region;
use crate::sys::file;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// The host's list; empty without /proc.
pub(crate) fn host() -> Vec<u8> {
    file::read_all(b"/proc/self/maps\0")
}

/// A line of maps: start, end, and the rest.
pub(crate) fn parse(line: &str) -> Option<(u64, u64, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, rest))
}

/// A mapping of this process.
pub(crate) struct Mapping {
    pub(crate) range: Range<u64>,
    pub(crate) is_executable: bool,
}

/// The mapping around an address. Without /proc, every page counts as an executable mapping.
pub(crate) fn mapping(address: u64) -> Option<Mapping> {
    let maps = host();
    if maps.is_empty() {
        let start = address & !0xfff;
        return Some(Mapping { range: start..start + 0x1000, is_executable: true });
    }
    let maps = String::from_utf8_lossy(&maps);
    let mut found = maps.lines().filter_map(|line| {
        let (start, end, rest) = parse(line)?;
        Some(Mapping { range: start..end, is_executable: rest.as_bytes().get(2) == Some(&b'x') })
    });
    found.find(|mapping| mapping.range.contains(&address))
}

/// The guest's mappings.
pub(crate) fn mappings() -> Vec<Range<u64>> {
    let maps = host();
    let maps = String::from_utf8_lossy(&maps);
    let all = maps.lines().filter_map(parse).map(|(start, end, _)| start..end);
    all.filter(|range| range.end <= region::limit()).collect()
}

/// The mapped files, as of the last look-up.
#[derive(Debug)]
pub struct Places {
    /// Start, end, offset, name.
    files: Vec<(u64, u64, u64, String)>,
    /// Head of the log of code changes at that time.
    head: u64,
}

impl Places {
    /// Nothing is known yet.
    pub const NONE: Places = Places { files: Vec::new(), head: u64::MAX };

    /// [`place`], without reading /proc each time.
    pub fn place(&mut self, address: u64) -> String {
        let head = CHANGES.head();
        let known = |files: &[(u64, u64, u64, String)]| {
            files.iter().find(|file| (file.0..file.1).contains(&address)).map(|(start, _, offset, name)| {
                format!("{address:#x} ({name}+{:#x})", address - start + offset)
            })
        };
        if self.head == head
            && let Some(text) = known(&self.files)
        {
            return text;
        }
        let maps = host();
        let maps = String::from_utf8_lossy(&maps);
        self.head = head;
        self.files = maps.lines().filter_map(mapped_file).collect();
        known(&self.files).unwrap_or_else(|| format!("{address:#x}"))
    }
}

/// Start, end, offset and name from a line of maps, if it is a file's.
pub(crate) fn mapped_file(line: &str) -> Option<(u64, u64, u64, String)> {
    let (start, end, rest) = parse(line)?;
    let offset = u64::from_str_radix(rest.split(' ').nth(1)?, 16).ok()?;
    // No field before the name has a slash.
    Some((start, end, offset, rest[rest.find('/')?..].into()))
}

/// The mapped files: where, and their names.
pub(crate) fn files() -> Vec<(Range<u64>, String)> {
    let host = host();
    let host = String::from_utf8_lossy(&host);
    host.lines().filter_map(mapped_file).map(|(start, end, _, name)| (start..end, name)).collect()
}

/// The file mapped at an address, and the offset in it.
pub fn file_at(address: u64) -> Option<(Vec<u8>, u64)> {
    let host = host();
    let host = String::from_utf8_lossy(&host);
    let mut files = host.lines().filter_map(mapped_file);
    let (start, _, offset, name) = files.find(|file| (file.0..file.1).contains(&address))?;
    Some((name.into_bytes(), address - start + offset))
}

/// An address as text, with its file and the offset in it if a file is mapped there.
pub fn place(address: u64) -> String {
    match file_at(address) {
        Some((file, offset)) => format!("{address:#x} ({}+{offset:#x})", String::from_utf8_lossy(&file)),
        None => format!("{address:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_of_maps() {
        let line = "1000-2000 r-xp 00003000 08:01 1        /x y";
        assert_eq!(mapped_file(line), Some((0x1000, 0x2000, 0x3000, "/x y".into())));
        assert_eq!(mapped_file("1000-2000 r-xp 00000000 00:00 0 "), None);
        assert_eq!(parse("1000-2000 r-xp 0 0:0 1 /x"), Some((0x1000, 0x2000, "r-xp 0 0:0 1 /x")));
    }
}
