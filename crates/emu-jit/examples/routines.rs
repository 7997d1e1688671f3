//! Makes the tables of `src/routines` of C libraries: reads ELF files with symbols and prints a row for each
//! function that is known.
//!
//! ```sh
//! cargo run --release -p crossdock-emu-jit --example routines -- FILE[=SYMBOLS]...
//! ```
//!
//! FILE is an archive (`libc.a`, `libgcc.a`) or a linked file (`libc.so.6`, a static program). SYMBOLS is a
//! file with its symbols, such as `/usr/lib/debug/.build-id/23/afff97....debug` of Debian's libc6-dbg, for a
//! file that has none. All files are of one machine. The linker of RISC-V shortens code, so for that machine
//! a static program takes the archive's place.
//!
//! What differs from program to program becomes a hole: in an archive what has a relocation, in a linked
//! file a branch out of the function, and addresses that are formed of two instructions.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crossdock_emu_jit::routines::{Digest, HEAD, HOLES_MAX, Routine, Row, digest};

/// The machines, as `e_machine` has them.
const ARM: u16 = 40;
const AARCH64: u16 = 183;
const RISCV: u16 = 243;

/// Functions by their names without underscores in front and without what libraries add.
const NAMES: [(&str, Routine); 14] = [
    ("memcpy", Routine::Copy),
    ("memmove", Routine::Copy),
    ("memset", Routine::Set),
    ("memcmp", Routine::Compare),
    ("memchr", Routine::Find),
    ("strlen", Routine::Length),
    ("strnlen", Routine::LengthWithin),
    ("strchr", Routine::FindInString),
    ("strchrnul", Routine::FindInStringOrEnd),
    ("strcmp", Routine::CompareStrings),
    ("strncmp", Routine::CompareStringsWithin),
    ("udivsi3", Routine::Divide),
    ("divsi3", Routine::DivideSigned),
    ("udivmoddi4", Routine::DivideLong),
];

/// A place in a function that others of its library call, and the function.
const INNER: (&str, &str) = (".divsi3_skip_div0_test", "__divsi3");

/// What glibc's names of implementations for certain CPUs end with.
const IMPLEMENTATIONS: [&str; 17] = [
    "generic",
    "simd",
    "falkor",
    "thunderx",
    "thunderx2",
    "emag",
    "kunpeng",
    "zva64",
    "oryon1",
    "nosimd",
    "mte",
    "asimd",
    "neon",
    "vfp",
    "arm",
    "noneon",
    "noalignment",
];

/// Least bytes of a function without holes: shorter ones may fall into the next function, which is not
/// examined.
const LENGTH_MIN: usize = 28;
/// Least bytes of a function with holes: a short one that calls another could be any such function.
const LENGTH_MIN_WITH_HOLES: usize = 100;

/// What a function of this name does.
fn routine_of(name: &str) -> Option<Routine> {
    let name = name.trim_start_matches("__GI_").trim_start_matches("__");
    let name = name.trim_start_matches("aeabi_");
    let base = match name.split_once('_') {
        Some((base, implementation)) if IMPLEMENTATIONS.contains(&implementation) => base,
        Some(_) => return None,
        None => name,
    };
    NAMES.iter().find(|(known, _)| *known == base).map(|&(_, routine)| routine)
}

/// A little-endian ELF file (gABI, chapters 4 and 5).
struct Elf<'f> {
    bytes: &'f [u8],
    wide: bool,
    machine: u16,
    sections: Vec<Section>,
}

struct Section {
    kind: u32,
    address: u64,
    offset: usize,
    size: usize,
    link: usize,
    info: usize,
}

struct Symbol {
    name: String,
    value: u64,
    size: u64,
    section: usize,
    is_function: bool,
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(size)?)?;
    Some(part.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

impl<'f> Elf<'f> {
    fn new(bytes: &'f [u8]) -> Option<Elf<'f>> {
        let wide = *bytes.get(4)? == 2;
        if bytes.get(..4)? != b"\x7fELF" {
            return None;
        }
        let field = |narrow: (usize, usize), of_wide: (usize, usize)| {
            let (at, size) = if wide { of_wide } else { narrow };
            number(bytes, at, size)
        };
        let table = field((32, 4), (40, 8))? as usize;
        let entry = field((46, 2), (58, 2))? as usize;
        let count = field((48, 2), (60, 2))? as usize;
        let sections = (0..count).map(|n| {
            let at = table + n * entry;
            let word = |narrow: usize, of_wide: usize| {
                if wide { number(bytes, at + of_wide, 8) } else { number(bytes, at + narrow, 4) }
            };
            let half =
                |narrow: usize, of_wide: usize| number(bytes, at + if wide { of_wide } else { narrow }, 4);
            Some(Section {
                kind: number(bytes, at + 4, 4)? as u32,
                address: word(12, 16)?,
                offset: word(16, 24)? as usize,
                size: word(20, 32)? as usize,
                link: half(24, 40)? as usize,
                info: half(28, 44)? as usize,
            })
        });
        let machine = number(bytes, 18, 2)? as u16;
        Some(Elf { bytes, wide, machine, sections: sections.collect::<Option<_>>()? })
    }

    fn text(&self, at: usize) -> String {
        let end = self.bytes[at..].iter().position(|&byte| byte == 0).unwrap_or(0);
        String::from_utf8_lossy(&self.bytes[at..at + end]).into_owned()
    }

    /// The symbols of `.symtab`, or else of `.dynsym`.
    fn symbols(&self) -> Vec<Symbol> {
        const SYMTAB: u32 = 2;
        const DYNSYM: u32 = 11;
        const FUNCTION: u64 = 2;
        let table = |kind| self.sections.iter().find(|section| section.kind == kind);
        let Some(table) = table(SYMTAB).or_else(|| table(DYNSYM)) else { return Vec::new() };
        let names = self.sections[table.link].offset;
        let size = if self.wide { 24 } else { 16 };
        let read = |at: usize| {
            let name = number(self.bytes, at, 4)? as usize;
            let (info, section, value, size) =
                if self.wide { (4, 6, (8, 8), (16, 8)) } else { (12, 14, (4, 4), (8, 4)) };
            Some(Symbol {
                name: self.text(names + name),
                value: number(self.bytes, at + value.0, value.1)?,
                size: number(self.bytes, at + size.0, size.1)?,
                section: number(self.bytes, at + section, 2)? as usize,
                is_function: number(self.bytes, at + info, 1)? & 15 == FUNCTION,
            })
        };
        (0..table.size / size).filter_map(|n| read(table.offset + n * size)).collect()
    }

    /// Offsets in a section of what has relocations.
    fn relocations(&self, section: usize) -> Vec<u64> {
        const RELA: u32 = 4;
        const REL: u32 = 9;
        let entry = if self.wide { 8 } else { 4 };
        let size = |kind: u32| if kind == RELA { 3 * entry } else { 2 * entry };
        let tables =
            self.sections.iter().filter(|table| [RELA, REL].contains(&table.kind) && table.info == section);
        tables
            .flat_map(|table| {
                let size = size(table.kind);
                (0..table.size / size).filter_map(move |n| {
                    // `R_ARM_V4BX` changes nothing.
                    let at = table.offset + n * size;
                    let kind = number(self.bytes, at + entry, 4)?;
                    let changes = self.wide || kind & 0xff != 40;
                    number(self.bytes, at, entry).filter(|_| changes)
                })
            })
            .collect()
    }

    /// The bytes at an address of a linked file.
    fn at(&self, address: u64, size: u64) -> Option<&'f [u8]> {
        const PROGBITS: u32 = 1;
        let section = self.sections.iter().find(|section| {
            section.kind == PROGBITS
                && section.address != 0
                && address >= section.address
                && address + size <= section.address + section.size as u64
        })?;
        let start = section.offset + (address - section.address) as usize;
        self.bytes.get(start..start + size as usize)
    }
}

/// The number in some bits of a word, with its sign.
fn signed(word: u32, high: u32, low: u32) -> i64 {
    i64::from((word << (31 - high)) as i32 >> (31 - high + low))
}

/// Where in a function of a linked file something differs from program to program: offsets of 4 bytes.
fn holes_of_linked(machine: u16, thumb: bool, code: &[u8]) -> Vec<u64> {
    let length = code.len() as i64;
    let mut holes = Vec::new();
    let mut at = 0;
    while at + 2 <= code.len() {
        let half = number(code, at, 2).unwrap_or(0) as u32;
        let word = number(code, at, 4).unwrap_or(0) as u32;
        let mut leads_out = |distance: i64| {
            let target = at as i64 + distance;
            if !(0..length).contains(&target) {
                holes.push(at as u64);
            }
        };
        let mut size = 4;
        match machine {
            AARCH64 => match word >> 24 {
                0x14..=0x17 | 0x94..=0x97 => leads_out(signed(word, 25, 0) * 4),
                0x54 | 0x34 | 0x35 | 0xb4 | 0xb5 => leads_out(signed(word, 23, 5) * 4),
                0x36 | 0x37 | 0xb6 | 0xb7 => leads_out(signed(word, 18, 5) * 4),
                _ if word & 0x9f00_0000 == 0x9000_0000 => holes.extend([at as u64, at as u64 + 4]),
                _ => {}
            },
            RISCV if half & 3 != 3 => size = 2,
            RISCV => match word & 0x7f {
                0x6f => {
                    let distance = signed(word, 31, 31) << 20
                        | i64::from(word >> 12 & 0xff) << 12
                        | i64::from(word >> 20 & 1) << 11
                        | i64::from(word >> 21 & 0x3ff) << 1;
                    leads_out(distance);
                }
                0x17 => holes.extend([at as u64, at as u64 + 4]),
                _ => {}
            },
            _ if thumb && half >> 11 < 0x1d => size = 2,
            _ if thumb => {
                let second = word >> 16;
                // BL, BLX and B (T4): their displacement is not examined, since short branches reach all
                // places of a function.
                if half >> 11 == 0x1e && second >> 14 & 2 == 2 && second >> 12 & 5 != 0 {
                    holes.push(at as u64);
                }
            }
            _ if word >> 25 & 7 == 5 => leads_out(signed(word, 23, 0) * 4 + 8),
            _ => {}
        }
        at += size;
    }
    holes.retain(|&hole| hole + 4 <= length as u64);
    holes.sort_unstable();
    holes.dedup();
    holes
}

/// Where the functions of a machine have the bytes that they are found by: elsewhere than in the functions of
/// most of its libraries there are holes.
fn head_of(machine: u16) -> u64 {
    if machine == AARCH64 { 4 } else { 20 }
}

/// The row of a function, if it can have one.
fn row_of(machine: u16, routine: Routine, thumb: bool, code: &[u8], holes: &[u64]) -> Option<Row> {
    let head = head_of(machine);
    let is_strange =
        |&hole: &u64| hole == 0 || hole < head + HEAD && hole + 4 > head || !hole.is_multiple_of(2);
    let least = if holes.is_empty() { LENGTH_MIN } else { LENGTH_MIN_WITH_HOLES };
    if holes.iter().any(is_strange) || holes.len() > HOLES_MAX || code.len() < least {
        return None;
    }
    let mut all = [0; HOLES_MAX];
    for (place, hole) in all.iter_mut().zip(holes) {
        *place = u16::try_from(hole / 2).ok()?;
    }
    let length = u16::try_from(code.len()).ok()?;
    let set = u64::from(thumb);
    let mut read = |unit: u64| number(code, 2 * unit as usize, 2).map(|unit| unit as u16);
    let digest = digest(length, &all, set, &mut read)?;
    let units = head / 2..(head + HEAD) / 2;
    let of_head = units.map(&mut read).try_fold(Digest::new(set), |head, unit| Some(head.with(unit?)))?;
    Some(Row { head: of_head.head(), length, routine, holes: all, digest })
}

/// Where a row was found.
pub struct Found {
    /// The symbol and the file.
    pub name: String,
    /// The code, with what one file has in its holes.
    pub code: Vec<u8>,
    /// The bytes before it, which glibc's strcmp of T32 branches to.
    pub before: Vec<u8>,
    /// Whether it is T32.
    pub thumb: bool,
    /// Where it is in its section or file: libgcc's division computes addresses of places in it.
    pub address: u64,
}

/// Most bytes of [`Found::before`].
const BEFORE: u64 = 16;

/// All functions that were found.
pub type Rows = BTreeMap<Row, Found>;

/// The symbols, with one for the rest of a function from [`INNER`] on.
fn with_inner(mut symbols: Vec<Symbol>) -> Vec<Symbol> {
    let named = |name: &str| symbols.iter().find(|symbol| symbol.name == name && symbol.section != 0);
    if let (Some(inner), Some(whole)) = (named(INNER.0), named(INNER.1)) {
        let (start, set) = (whole.value & !1, whole.value & 1);
        let rest = Symbol {
            name: whole.name.clone(),
            value: inner.value & !1 | set,
            size: start + whole.size - (inner.value & !1),
            ..*whole
        };
        symbols.push(rest);
    }
    symbols
}

/// Adds the rows of an ELF file; `symbols` has its symbols.
fn add(rows: &mut Rows, from: &str, elf: &Elf<'_>, symbols: &Elf<'_>, is_object: bool) -> Option<()> {
    for symbol in with_inner(symbols.symbols()) {
        let Some(routine) =
            routine_of(&symbol.name).filter(|_| symbol.is_function && symbol.size >= LENGTH_MIN as u64)
        else {
            continue;
        };
        let thumb = elf.machine == ARM && symbol.value & 1 == 1;
        let start = symbol.value & !u64::from(elf.machine == ARM);
        let bytes_before = start.min(BEFORE);
        let (code, before, holes) = if is_object {
            let Some(section) = elf.sections.get(symbol.section) else { continue };
            let at = section.offset + start as usize;
            let relocations = elf.relocations(symbol.section).into_iter();
            let inside = |place: u64| (start..start + symbol.size).contains(&place).then(|| place - start);
            let Some(code) = elf.bytes.get(at..at + symbol.size as usize) else { continue };
            // Branches to other functions of the object have no relocations.
            let mut holes = holes_of_linked(elf.machine, thumb, code);
            holes.extend(relocations.filter_map(inside));
            holes.sort_unstable();
            holes.dedup();
            (code, elf.bytes[at - bytes_before as usize..at].to_vec(), holes)
        } else {
            let Some(code) = elf.at(start, symbol.size) else { continue };
            let before = elf.at(start - bytes_before, bytes_before).unwrap_or_default().to_vec();
            (code, before, holes_of_linked(elf.machine, thumb, code))
        };
        match row_of(elf.machine, routine, thumb, code, &holes) {
            Some(row) => {
                let name = format!("{}, {from}", symbol.name);
                rows.entry(row).or_insert_with(|| Found {
                    name,
                    code: code.to_vec(),
                    before,
                    thumb,
                    address: start,
                });
            }
            None => {
                eprintln!("{from}: no row for {}: {} bytes, holes {holes:?}", symbol.name, code.len())
            }
        }
    }
    Some(())
}

/// The members of an archive (ar(5)).
fn members(bytes: &[u8]) -> Vec<&[u8]> {
    let mut members = Vec::new();
    let mut at = 8;
    while let Some(header) = bytes.get(at..at + 60) {
        let size: usize = String::from_utf8_lossy(&header[48..58]).trim().parse().unwrap_or(0);
        members.extend(bytes.get(at + 60..at + 60 + size));
        at = (at + 60 + size).next_multiple_of(2);
    }
    members
}

/// Reads files.
///
/// # Errors
///
/// What is wrong with which file.
pub fn read(arguments: impl Iterator<Item = String>) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for argument in arguments {
        let (file, symbols) = argument.split_once('=').unwrap_or((&argument, &argument));
        let bytes_of = |file: &str| std::fs::read(file).map_err(|error| format!("read {file}: {error}"));
        let (bytes, symbols) = (bytes_of(file)?, bytes_of(symbols)?);
        let bad = || format!("{file}: no ELF file that can be read");
        if bytes.starts_with(b"!<arch>\n") {
            for member in members(&bytes) {
                let Some(elf) = Elf::new(member) else { continue };
                add(&mut rows, file, &elf, &elf, true).ok_or_else(bad)?;
            }
        } else {
            let (elf, symbols) = (Elf::new(&bytes).ok_or_else(bad)?, Elf::new(&symbols).ok_or_else(bad)?);
            add(&mut rows, file, &elf, &symbols, false).ok_or_else(bad)?;
        }
    }
    Ok(rows)
}

fn main() -> ExitCode {
    match read(std::env::args().skip(1)) {
        Ok(rows) => {
            for (row, found) in rows {
                let Row { head, length, routine, holes, digest } = row;
                eprintln!("{head:08x} {length:4} {}", found.name);
                println!("    row({head:#010x}, {length}, {routine:?}, {holes:?}, {digest:#018x}),");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
