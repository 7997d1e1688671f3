//! ELF files of every architecture, read without running anything: what they are and which libraries they
//! need.
//!
//! - [`Elf::read`]: class, machine, ABI, interpreter, needed libraries, notes (System V ABI, chapters 4 and
//!   5);
//! - [`describe`]: the words of file(1);
//! - [`section`]: content of sections by name;
//! - [`ldd`]: where each needed library is found in a root, as ld.so(8) would look.
//!
//! No offset in a file is trusted: everything read is bounded, and nonsense is an error or a missing value.

#![forbid(unsafe_code)]

mod arm;
pub mod describe;
pub mod ldd;
pub mod section;

pub use arm::FloatAbi;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crossdock_platform::Platform;

/// Something to read at offsets: a file, or bytes.
pub trait ReadAt {
    /// Fills `buffer` from `offset`; an error if the end comes first.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Why a file is not an ELF file that can be described.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The magic number is missing.
    #[error("not an ELF file")]
    NotElf,
    /// A field of the header has a value that the ABI does not know.
    #[error("a damaged ELF file: {0}")]
    Damaged(&'static str),
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// `EI_CLASS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 32-bit.
    Elf32,
    /// 64-bit.
    Elf64,
}

/// `e_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not linked yet.
    Relocatable,
    /// At a fixed address.
    Executable,
    /// Shared object or position-independent executable.
    Dynamic,
    /// A memory image of a dead process.
    Core,
    /// Anything else.
    Other(u16),
}

/// What an ELF file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Word size.
    pub class: Class,
    /// Whether the least significant byte comes first.
    pub little_endian: bool,
    /// `EI_OSABI`.
    pub os_abi: u8,
    /// Type of the file.
    pub kind: Kind,
    /// `e_machine`.
    pub machine: u16,
    /// `e_flags`.
    pub flags: u32,
    /// `PT_INTERP`: the dynamic loader.
    pub interpreter: Option<String>,
    /// Whether there is a dynamic section.
    pub is_dynamic: bool,
    /// `DF_1_PIE`.
    pub is_pie: bool,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_RPATH`.
    pub rpath: Option<String>,
    /// `DT_RUNPATH`.
    pub runpath: Option<String>,
    /// `NT_GNU_BUILD_ID`.
    pub build_id: Option<Vec<u8>>,
    /// `NT_GNU_ABI_TAG`: operating system (0 is Linux) and the lowest kernel version.
    pub abi_tag: Option<[u32; 4]>,
    /// Whether there are section headers at all.
    pub has_sections: bool,
    /// Whether there is a symbol table.
    pub has_symbols: bool,
    /// Whether there is a section `.debug_info`.
    pub has_debug_info: bool,
    /// 32-bit Arm: calling convention, if the file states it.
    pub float_abi: Option<FloatAbi>,
    /// 32-bit Arm: the architecture version that the code needs, 4 to 8, if the file states it.
    pub arm_version: Option<u8>,
}

/// `e_machine` values of the architectures that Linux images exist for.
pub mod machine {
    /// Intel 80386.
    pub const I386: u16 = 3;
    /// MIPS.
    pub const MIPS: u16 = 8;
    /// 64-bit PowerPC.
    pub const PPC64: u16 = 21;
    /// IBM S/390.
    pub const S390: u16 = 22;
    /// 32-bit Arm.
    pub const ARM: u16 = 40;
    /// AMD x86-64.
    pub const X86_64: u16 = 62;
    /// 64-bit Arm.
    pub const AARCH64: u16 = 183;
    /// RISC-V.
    pub const RISCV: u16 = 243;
    /// LoongArch.
    pub const LOONGARCH: u16 = 258;
}

/// Headers, strings and notes longer than this, in bytes, are not read: real files have none.
const TABLE_SIZE_MAX: u64 = 16 << 20;
/// The longest string read from a string table, in bytes.
const STRING_SIZE_MAX: usize = 4096;
/// Entries of the dynamic section beyond this are not read.
const DYNAMIC_MAX: usize = 65536;

/// The first bytes of every ELF file.
pub const MAGIC: [u8; 4] = [0x7f, b'E', b'L', b'F'];

/// Reads numbers of the file's byte order and word size.
struct Reader<'a, R: ReadAt + ?Sized> {
    source: &'a R,
    class: Class,
    little_endian: bool,
}

impl<R: ReadAt + ?Sized> Reader<'_, R> {
    fn bytes(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        if size > TABLE_SIZE_MAX {
            return None;
        }
        let mut buffer = vec![0; size as usize];
        self.source.read_exact_at(&mut buffer, offset).ok()?;
        Some(buffer)
    }

    fn number(&self, bytes: &[u8], at: usize, size: usize) -> u64 {
        let part = bytes.get(at..at + size).unwrap_or_default();
        let digit = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        match self.little_endian {
            true => part.iter().rev().fold(0, digit),
            false => part.iter().fold(0, digit),
        }
    }

    /// An address-sized number; `at32` and `at64` are its offsets in the two classes.
    fn word(&self, bytes: &[u8], at32: usize, at64: usize) -> u64 {
        match self.class {
            Class::Elf32 => self.number(bytes, at32, 4),
            Class::Elf64 => self.number(bytes, at64, 8),
        }
    }

    fn string(&self, offset: u64) -> Option<String> {
        let mut bytes = Vec::new();
        while bytes.len() < STRING_SIZE_MAX {
            let mut byte = [0];
            self.source.read_exact_at(&mut byte, offset.checked_add(bytes.len() as u64)?).ok()?;
            if byte[0] == 0 {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            bytes.push(byte[0]);
        }
        None
    }
}

struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    file_size: u64,
}

struct Section {
    name: u64,
    kind: u64,
    offset: u64,
    size: u64,
}

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const PT_NOTE: u64 = 4;
const SHT_SYMTAB: u64 = 2;
const SHT_NOTE: u64 = 7;
const SHT_ARM_ATTRIBUTES: u64 = 0x7000_0003;

impl Elf {
    /// Reads the headers of a file.
    pub fn read<R: ReadAt + ?Sized>(source: &R) -> Result<Elf, ElfError> {
        let mut ident = [0; 20];
        match source.read_exact_at(&mut ident, 0) {
            Ok(()) if ident[..4] == MAGIC => {}
            Ok(()) => return Err(ElfError::NotElf),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(ElfError::NotElf),
            Err(e) => return Err(e.into()),
        }
        let class = match ident[4] {
            1 => Class::Elf32,
            2 => Class::Elf64,
            _ => return Err(ElfError::Damaged("neither 32-bit nor 64-bit")),
        };
        let little_endian = match ident[5] {
            1 => true,
            2 => false,
            _ => return Err(ElfError::Damaged("unknown byte order")),
        };
        let reader = Reader { source, class, little_endian };
        let header_size = if class == Class::Elf64 { 64 } else { 52 };
        let header = reader.bytes(0, header_size).ok_or(ElfError::Damaged("the header is cut off"))?;
        let half = |at32: usize, at64: usize| {
            reader.number(&header, if class == Class::Elf64 { at64 } else { at32 }, 2)
        };
        let kind = match reader.number(&header, 16, 2) {
            1 => Kind::Relocatable,
            2 => Kind::Executable,
            3 => Kind::Dynamic,
            4 => Kind::Core,
            other => Kind::Other(other as u16),
        };
        let mut elf = Elf {
            class,
            little_endian,
            os_abi: ident[7],
            kind,
            machine: reader.number(&header, 18, 2) as u16,
            flags: reader.number(&header, if class == Class::Elf64 { 48 } else { 36 }, 4) as u32,
            interpreter: None,
            is_dynamic: false,
            is_pie: false,
            needed: Vec::new(),
            soname: None,
            rpath: None,
            runpath: None,
            build_id: None,
            abi_tag: None,
            has_sections: false,
            has_symbols: false,
            has_debug_info: false,
            float_abi: None,
            arm_version: None,
        };
        let segments = segments(&reader, reader.word(&header, 28, 32), half(42, 54), half(44, 56));
        let sections = sections(&reader, reader.word(&header, 32, 40), half(46, 58), half(48, 60));
        elf.read_segments(&reader, &segments);
        elf.read_sections(&reader, &sections, half(50, 62));
        if elf.machine == machine::ARM {
            elf.float_abi = elf.float_abi.or(match elf.flags & 0x600 {
                0x400 => Some(FloatAbi::Hard),
                0x200 => Some(FloatAbi::Soft),
                _ => None,
            });
        }
        Ok(elf)
    }

    fn read_segments<R: ReadAt + ?Sized>(&mut self, reader: &Reader<'_, R>, segments: &[Segment]) {
        for segment in segments {
            match segment.kind {
                PT_INTERP if segment.file_size <= STRING_SIZE_MAX as u64 => {
                    self.interpreter = reader.bytes(segment.offset, segment.file_size).map(|bytes| {
                        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
                        String::from_utf8_lossy(&bytes[..end]).into_owned()
                    });
                }
                PT_NOTE => {
                    if let Some(bytes) = reader.bytes(segment.offset, segment.file_size) {
                        self.read_notes(reader, &bytes);
                    }
                }
                PT_DYNAMIC => {
                    self.is_dynamic = true;
                    if let Some(bytes) = reader.bytes(segment.offset, segment.file_size) {
                        self.read_dynamic(reader, &bytes, segments);
                    }
                }
                _ => {}
            }
        }
    }

    fn read_sections<R: ReadAt + ?Sized>(
        &mut self,
        reader: &Reader<'_, R>,
        sections: &[Section],
        names: u64,
    ) {
        self.has_sections = !sections.is_empty();
        let names = sections.get(names as usize).map(|s| s.offset);
        for section in sections {
            match section.kind {
                SHT_SYMTAB => self.has_symbols = true,
                SHT_NOTE => {
                    if let Some(bytes) = reader.bytes(section.offset, section.size) {
                        self.read_notes(reader, &bytes);
                    }
                }
                SHT_ARM_ATTRIBUTES if self.machine == machine::ARM => {
                    if let Some(bytes) = reader.bytes(section.offset, section.size) {
                        let attributes = arm::attributes(&bytes, self.little_endian);
                        self.arm_version = attributes.version;
                        self.float_abi = attributes.float_abi;
                    }
                }
                _ => {}
            }
            let name = names.and_then(|base| reader.string(base.checked_add(section.name)?));
            self.has_debug_info |= name.as_deref() == Some(".debug_info");
        }
    }

    fn read_notes<R: ReadAt + ?Sized>(&mut self, reader: &Reader<'_, R>, bytes: &[u8]) {
        let mut rest = bytes;
        // namesz, descsz, type; name and descriptor padded to 4 bytes.
        while rest.len() >= 12 {
            let field = |i: usize| reader.number(rest, i * 4, 4) as usize;
            let (name_size, size, kind) = (field(0), field(1), field(2));
            let padded = |n: usize| n.checked_add(3).map(|n| n & !3);
            let Some((name_end, end)) = padded(name_size).and_then(|n| {
                let start = n.checked_add(12)?;
                Some((start, start.checked_add(padded(size)?)?))
            }) else {
                return;
            };
            let (Some(name), Some(content)) =
                (rest.get(12..12 + name_size), rest.get(name_end..name_end + size))
            else {
                return;
            };
            if name == b"GNU\0" {
                match kind {
                    1 if size >= 16 => {
                        self.abi_tag = Some(std::array::from_fn(|i| reader.number(content, i * 4, 4) as u32));
                    }
                    3 if (1..=64).contains(&size) => self.build_id = Some(content.to_vec()),
                    _ => {}
                }
            }
            rest = rest.get(end..).unwrap_or_default();
        }
    }

    fn read_dynamic<R: ReadAt + ?Sized>(
        &mut self,
        reader: &Reader<'_, R>,
        bytes: &[u8],
        segments: &[Segment],
    ) {
        let entry_size = if self.class == Class::Elf64 { 16 } else { 8 };
        let entries: Vec<(u64, u64)> = bytes
            .chunks_exact(entry_size)
            .take(DYNAMIC_MAX)
            .map(|entry| (reader.word(entry, 0, 0), reader.word(entry, 4, 8)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let string_table = entries.iter().find(|(tag, _)| *tag == 5).and_then(|(_, address)| {
            let segment = segments
                .iter()
                .find(|s| s.kind == PT_LOAD && *address >= s.address && *address - s.address < s.file_size)?;
            segment.offset.checked_add(address - segment.address)
        });
        for (tag, value) in entries {
            let string = || reader.string(string_table?.checked_add(value)?);
            match tag {
                1 => self.needed.extend(string()),
                14 => self.soname = string(),
                15 => self.rpath = string(),
                29 => self.runpath = string(),
                0x6fff_fffb => self.is_pie = value & 0x0800_0000 != 0,
                _ => {}
            }
        }
    }

    /// The platform whose programs this file belongs to; `None` for machines without images.
    pub fn platform(&self) -> Option<Platform> {
        let arm_variant;
        let (architecture, variant) = match (self.machine, self.class, self.little_endian) {
            (machine::X86_64, Class::Elf64, true) => ("amd64", None),
            (machine::I386, Class::Elf32, true) => ("386", None),
            (machine::AARCH64, Class::Elf64, true) => ("arm64", None),
            (machine::ARM, Class::Elf32, true) => {
                // Hard float came with v7 in Debian; Raspberry Pi OS has it with v6, which the attributes
                // state.
                let version = self.arm_version.unwrap_or(match self.float_abi {
                    Some(FloatAbi::Soft) => 5,
                    _ => 7,
                });
                arm_variant = format!("v{}", version.clamp(5, 8));
                ("arm", Some(arm_variant.as_str()))
            }
            (machine::RISCV, Class::Elf64, true) => ("riscv64", None),
            (machine::PPC64, Class::Elf64, true) => ("ppc64le", None),
            (machine::PPC64, Class::Elf64, false) => ("ppc64", None),
            (machine::S390, Class::Elf64, false) => ("s390x", None),
            (machine::MIPS, Class::Elf64, true) => ("mips64le", None),
            (machine::MIPS, Class::Elf32, true) => ("mipsle", None),
            (machine::LOONGARCH, Class::Elf64, true) => ("loong64", None),
            _ => return None,
        };
        Some(Platform::new("linux", architecture, variant))
    }
}

fn segments<R: ReadAt + ?Sized>(reader: &Reader<'_, R>, offset: u64, size: u64, count: u64) -> Vec<Segment> {
    let least = if reader.class == Class::Elf64 { 56 } else { 32 };
    if size < least {
        return Vec::new();
    }
    let table = reader.bytes(offset, size * count).unwrap_or_default();
    let segment = |bytes: &[u8]| Segment {
        kind: reader.number(bytes, 0, 4),
        offset: reader.word(bytes, 4, 8),
        address: reader.word(bytes, 8, 16),
        file_size: reader.word(bytes, 16, 32),
    };
    table.chunks_exact(size as usize).map(segment).collect()
}

fn sections<R: ReadAt + ?Sized>(reader: &Reader<'_, R>, offset: u64, size: u64, count: u64) -> Vec<Section> {
    let least = if reader.class == Class::Elf64 { 64 } else { 40 };
    if size < least || offset == 0 {
        return Vec::new();
    }
    let table = reader.bytes(offset, size * count).unwrap_or_default();
    let section = |bytes: &[u8]| Section {
        name: reader.number(bytes, 0, 4),
        kind: reader.number(bytes, 4, 4),
        offset: reader.word(bytes, 16, 24),
        size: reader.word(bytes, 20, 32),
    };
    table.chunks_exact(size as usize).map(section).collect()
}

/// A small ELF file for tests of this crate.
#[cfg(test)]
pub(crate) mod sample {
    /// A 64-bit little-endian file with an interpreter and the given `e_machine`.
    pub fn with_interpreter(machine: u16, interpreter: &str) -> Vec<u8> {
        let mut bytes = vec![0u8; 64 + 56];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        bytes[16..18].copy_from_slice(&3u16.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&3u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&120u64.to_le_bytes());
        bytes[96..104].copy_from_slice(&(interpreter.len() as u64 + 1).to_le_bytes());
        bytes.extend(interpreter.as_bytes());
        bytes.push(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let bytes = sample::with_interpreter(machine::AARCH64, "/lib/ld-linux-aarch64.so.1");
        let elf = Elf::read(&bytes[..]).expect("valid");
        assert_eq!(elf.interpreter.as_deref(), Some("/lib/ld-linux-aarch64.so.1"));
        assert_eq!(elf.platform().expect("known").to_string(), "linux/arm64");
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_survived() {
        let own = std::fs::read("/proc/self/exe").expect("readable");
        let small = sample::with_interpreter(machine::ARM, "/lib/ld.so");
        for bytes in [&own[..own.len().min(4096)], &small] {
            for end in 0..bytes.len().min(300) {
                let _ = Elf::read(&bytes[..end]);
            }
            for i in 0..bytes.len().min(600) {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut damaged = bytes.to_vec();
                    damaged[i] = value;
                    let _ = Elf::read(&damaged[..]).map(|elf| (describe::describe(&elf), elf.platform()));
                }
            }
        }
        assert!(matches!(Elf::read(&b""[..]), Err(ElfError::NotElf)));
        assert!(matches!(Elf::read(&b"#!/bin/sh\n# a script of some length\n"[..]), Err(ElfError::NotElf)));
    }
}
