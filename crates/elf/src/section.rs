//! Sections by name (System V ABI, chapter 4, "Sections").

use std::collections::BTreeMap;

use crate::{Class, MAGIC, ReadAt, Reader, sections};

/// Bytes of section names that are read; real files have a few hundred.
const NAMES_SIZE_MAX: u64 = 1 << 20;

/// The content of those sections among `names` that the file has. Larger ones than `size_max` bytes are left
/// out, and so is everything in a file that is damaged or no ELF file. `size_max` is at most 16 MiB.
pub fn named<R: ReadAt + ?Sized>(source: &R, names: &[&str], size_max: u64) -> BTreeMap<String, Vec<u8>> {
    read(source, names, size_max).unwrap_or_default()
}

fn read<R: ReadAt + ?Sized>(source: &R, names: &[&str], size_max: u64) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut ident = [0; 6];
    source.read_exact_at(&mut ident, 0).ok()?;
    let class = match (ident[..4] == MAGIC, ident[4]) {
        (true, 1) => Class::Elf32,
        (true, 2) => Class::Elf64,
        _ => return None,
    };
    let reader = Reader { source, class, little_endian: ident[5] != 2 };
    let is_64 = class == Class::Elf64;
    let header = reader.bytes(0, if is_64 { 64 } else { 52 })?;
    let half = |at32: usize, at64: usize| reader.number(&header, if is_64 { at64 } else { at32 }, 2);
    let all = sections(&reader, reader.word(&header, 32, 40), half(46, 58), half(48, 60));
    let table = all.get(half(50, 62) as usize).filter(|table| table.size <= NAMES_SIZE_MAX)?;
    let strings = reader.bytes(table.offset, table.size)?;
    let mut found = BTreeMap::new();
    for section in &all {
        let rest = usize::try_from(section.name).ok().and_then(|start| strings.get(start..));
        let Some(name) = rest.and_then(|rest| rest.split(|byte| *byte == 0).next()) else { continue };
        if let Some(name) = names.iter().find(|wanted| wanted.as_bytes() == name)
            && section.size <= size_max
            && let Some(bytes) = reader.bytes(section.offset, section.size)
        {
            found.insert(name.to_string(), bytes);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_by_name() {
        let own = std::fs::File::open("/proc/self/exe").expect("readable");
        let found = named(&own, &[".interp", ".comment", ".nonsense"], 4096);
        let text = String::from_utf8_lossy(&found[".comment"]);
        assert!(text.contains("rustc") || text.contains("GCC"), "{text}");
        assert!(!found.contains_key(".nonsense"));
        assert!(named(&own, &[".text"], 16).is_empty());
        assert!(named(&b"no ELF file"[..], &[".text"], 16).is_empty());
    }

    #[test]
    fn damaged_headers_are_survived() {
        let own = std::fs::read("/proc/self/exe").expect("readable");
        for place in 0..64 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = own[..own.len().min(1 << 16)].to_vec();
                damaged[place] = value;
                assert!(named(&damaged[..], &[".comment"], 4096).len() <= 1);
            }
        }
    }
}
