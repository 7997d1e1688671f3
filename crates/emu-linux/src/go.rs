//! What an executable that Go linked says about its build: a note names Go (Go, cmd/link/internal/ld/elf.go),
//! and a section has the settings (Go, debug/buildinfo).

use crate::sys::file::read_at;
use alloc::vec::Vec;

/// Most bytes of the section headers, of their names and of the settings.
const SIZE_MAX: u64 = 64 << 10;

/// Whether notes, the content of a PT_NOTE segment, name Go: ELFNOTE_GO with tag 4, the id of the build.
pub(crate) fn is_note_of_go(mut notes: &[u8]) -> bool {
    const GO_BUILD_ID: u32 = 4;
    loop {
        let [Some(name_size), Some(size), Some(kind)] = [0, 4, 8].map(|at| word(notes, at)) else {
            return false;
        };
        let padded = |size: u32| (size as usize).next_multiple_of(4);
        let (name, end) = (12 + name_size as usize, 12 + padded(name_size) + padded(size));
        if kind == GO_BUILD_ID && notes.get(12..name) == Some(b"Go\0\0") {
            return true;
        }
        let Some(rest) = notes.get(end..) else { return false };
        notes = rest;
    }
}

/// Whether an ELF file of 64 bits was built with `go build -race` (by Go 1.18 or later). False if its section
/// headers are missing or cannot be read.
pub(crate) fn has_race_detector(descriptor: i32) -> bool {
    settings(descriptor).is_some_and(|settings| settings.windows(SETTING.len()).any(|part| part == SETTING))
}

const SETTING: &[u8] = b"\nbuild\t-race=true\n";

/// The content of the section with the settings.
fn settings(descriptor: i32) -> Option<Vec<u8>> {
    // e_shoff, e_shnum and e_shstrndx of the ELF header; sh_name, sh_offset and sh_size of section headers.
    const HEADER: usize = 64;
    let header = read(descriptor, 0, HEADER as u64)?;
    let [count, names] = [60, 62].map(|at| u16::from_le_bytes([header[at], header[at + 1]]));
    let headers = read(descriptor, double(&header, 40)?, u64::from(count) * HEADER as u64)?;
    let section = |header: &[u8]| read(descriptor, double(header, 24)?, double(header, 32)?);
    let mut headers = headers.chunks_exact(HEADER);
    let names = section(headers.clone().nth(names.into())?)?;
    section(headers.find(|header| {
        let name = word(header, 0).and_then(|at| names.get(at as usize..));
        name.is_some_and(|name| name.starts_with(b".go.buildinfo\0"))
    })?)
}

/// A piece of a file; `None` if it is larger than [`SIZE_MAX`] or not all there.
fn read(descriptor: i32, offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = alloc::vec![0; usize::try_from(size).ok().filter(|_| size <= SIZE_MAX)?];
    // More than the largest file's size would wrap around.
    i64::try_from(offset.checked_add(size)?).ok()?;
    (read_at(descriptor, &mut bytes, offset).ok()? == bytes.len()).then_some(bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn double(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::in_memory;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [name.len() as u32, content.len() as u32, kind].into_iter().flat_map(u32::to_le_bytes).collect();
        for part in [name, content] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_note_of_go_is_found_behind_others() {
        let [id, go] = [note(b"GNU\0", 3, b"12345"), note(b"Go\0\0", 4, b"abc/def")];
        assert!(is_note_of_go(&go));
        assert!(is_note_of_go(&[id.clone(), go].concat()));
        assert!(!is_note_of_go(&id));
        assert!(!is_note_of_go(&[]));
        assert!(!is_note_of_go(&note(b"GNU\0", 4, b"abc")));
    }

    #[test]
    fn notes_that_end_early_are_no_error() {
        let mut go = note(b"GNU\0", 3, b"12345");
        go[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(!is_note_of_go(&go));
        assert!(!is_note_of_go(&note(b"Go\0\0", 4, b"")[..13]));
    }

    /// A file with an ELF header, settings, names of sections, and three section headers.
    fn file_with_settings() -> Vec<u8> {
        let (settings, names) = (b"\nbuild\t-race=true\n", b"\0.text\0.go.buildinfo\0");
        let mut file = alloc::vec![0; 64];
        file.extend(settings);
        file.extend(names);
        let headers = file.len();
        file[40..48].copy_from_slice(&(headers as u64).to_le_bytes());
        (file[60], file[62]) = (3, 2);
        for (name, offset, size) in
            [(1, 0, 64), (7, 64, settings.len()), (0, 64 + settings.len(), names.len())]
        {
            let words = [name, 0, 0, offset, size, 0, 0, 0].map(|word: usize| word as u64);
            file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        file
    }

    fn is_found(file: &[u8]) -> bool {
        let file = in_memory(c"program", 0, file).expect("a file in memory");
        has_race_detector(file.number())
    }

    #[test]
    fn the_setting_is_found_in_its_section() {
        let mut file = file_with_settings();
        assert!(is_found(&file));
        file[64 + 14] = b'f';
        assert!(!is_found(&file));
    }

    #[test]
    fn headers_that_lead_nowhere_are_no_error() {
        let whole = file_with_settings();
        assert!((0..whole.len()).all(|length| !is_found(&whole[..length])));
        // e_shoff, e_shnum, e_shstrndx; the name, offset and size of the section with the settings; the
        // offset and size of the names.
        let [settings, names] = [2, 1].map(|section| whole.len() - 64 * section);
        for (at, size) in [
            (40, 8),
            (60, 2),
            (62, 2),
            (settings, 4),
            (settings + 24, 8),
            (settings + 32, 8),
            (names + 24, 8),
            (names + 32, 8),
        ] {
            let mut file = whole.clone();
            file[at..at + size].fill(0xff);
            assert!(!is_found(&file), "{at}");
            file[at + size - 1] = 0x7f;
            assert!(!is_found(&file), "{at}");
        }
    }
}
