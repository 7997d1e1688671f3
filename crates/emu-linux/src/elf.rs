//! ELF files of the guest: reads their headers, and maps them as the kernel does (Linux, fs/binfmt_elf.c).

use crate::arch::machine::{self, Machine};
use crate::executable;
use crate::go;
use crate::guest;
use crate::images::mapped;
use crate::memory;
use crate::region;
use crate::sys::file::{PATH_MAX, read_at};
use crate::sys::memory::{MAP_FIXED_NOREPLACE, MAP_NORESERVE, PAGE, PROT_NONE, map_new};
use crate::sys::{Errno, errno};
use alloc::vec::Vec;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
/// The header whose flags are those of the stack.
const PT_GNU_STACK: u32 = 0x6474_e551;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// p_type.
    pub kind: u32,
    /// p_flags.
    pub flags: u32,
    /// p_offset.
    pub offset: u64,
    /// p_vaddr.
    pub address: u64,
    /// p_filesz.
    pub file_size: u64,
    /// p_memsz.
    pub memory_size: u64,
    /// p_align.
    pub align: u64,
}

/// A file's header and segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// What it is for.
    pub machine: Machine,
    /// Whether the file runs at any address.
    pub relocatable: bool,
    /// e_entry.
    pub entry: u64,
    /// e_phoff.
    pub headers: u64,
    /// Program headers.
    pub segments: Vec<Segment>,
    /// The path of the interpreter (ld.so), with its NUL, if it was read with the header.
    interpreter: Option<Vec<u8>>,
}

/// Bytes of a file that are read at once: as a rule they hold the headers and the interpreter's path.
pub const START: usize = 1024;

/// A file in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Offset added to the file's addresses.
    pub bias: u64,
    /// First instruction.
    pub entry: u64,
    /// Address of the program headers.
    pub headers: u64,
    /// Lowest address.
    pub start: u64,
    /// First address after the file.
    pub end: u64,
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn double(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A 4-byte or 8-byte field.
fn field(bytes: &[u8], at: usize, word_size: u64) -> u64 {
    if word_size == 4 { word(bytes, at).into() } else { double(bytes, at) }
}

/// The machine that a program is for, if `start` begins one that this executable runs.
pub fn machine(start: &[u8]) -> Option<Machine> {
    const LITTLE_ENDIAN: u8 = 1;
    let [b'\x7f', b'E', b'L', b'F', class, LITTLE_ENDIAN, ..] = *start else { return None };
    let machine = Machine { class, machine: half(start, 18) };
    let is_known = machine::ALL.contains(&machine) && (machine != machine::ARM || arm_abi(start) == 5);
    (is_known && [ET_EXEC, ET_DYN].contains(&half(start, 16))).then_some(machine)
}

/// The version of the EABI in e_flags of a program for 32-bit Arm (EF_ARM_EABIMASK, "ELF for the Arm
/// Architecture").
fn arm_abi(start: &[u8]) -> u32 {
    word(start, 36) >> 24
}

/// Why a program for a known machine is not run, if it is one.
pub fn refusal(start: &[u8]) -> Option<&'static str> {
    const EM_ARM_IN_BIG_ENDIAN: u16 = machine::ARM.machine.swap_bytes();
    const EM_AARCH64_IN_BIG_ENDIAN: u16 = machine::ARM64.machine.swap_bytes();
    match (start.get(..6)?, half(start, 18)) {
        ([b'\x7f', b'E', b'L', b'F', _, 2], EM_ARM_IN_BIG_ENDIAN | EM_AARCH64_IN_BIG_ENDIAN) => {
            Some("a big-endian Arm program; only little-endian ones are run")
        }
        ([b'\x7f', b'E', b'L', b'F', 1, 1], machine) if machine == machine::ARM.machine => {
            (arm_abi(start) != 5).then_some("an Arm program for an ABI before EABI version 5")
        }
        _ => None,
    }
}

impl Segment {
    /// Bytes of a program header.
    const fn size(machine: Machine) -> usize {
        if machine.class == 1 { 32 } else { 56 }
    }

    /// From the bytes of a header. `p_flags` has another place in 32-bit files, to keep words aligned.
    fn from_bytes(b: &[u8], machine: Machine) -> Segment {
        let size = machine.word();
        let (flags, words) = if machine.class == 1 { (24, 4) } else { (4, 8) };
        let nth = |n: usize| field(b, words + n * size as usize, size);
        let align = if machine.class == 1 { field(b, 28, 4) } else { nth(5) };
        Segment {
            kind: word(b, 0),
            flags: word(b, flags),
            offset: nth(0),
            address: nth(1),
            file_size: nth(3),
            memory_size: nth(4),
            align,
        }
    }
}

impl Elf {
    /// Reads the headers of a program that this executable runs; ENOEXEC for other files.
    pub fn read(descriptor: i32) -> Result<Elf, Errno> {
        let mut start = [0; START];
        let length = read_at(descriptor, &mut start, 0)?;
        Elf::from_start(descriptor, &start[..length])
    }

    /// As [`Elf::read`], given the first bytes of the file, [`START`] if it has as many.
    pub fn from_start(descriptor: i32, start: &[u8]) -> Result<Elf, Errno> {
        let (mut header, length) = ([0; 64], start.len());
        header[..length.min(64)].copy_from_slice(&start[..length.min(64)]);
        let machine = machine(&header).ok_or(errno::ENOEXEC)?;
        // e_entry and e_phoff are words; the halves after e_flags have moved accordingly.
        let size = machine.word();
        let (e_ehsize, e_phentsize, e_phnum) = if machine.class == 1 { (52, 42, 44) } else { (64, 54, 56) };
        let entry_size = Segment::size(machine);
        if length < e_ehsize || usize::from(half(&header, e_phentsize)) != entry_size {
            return Err(errno::ENOEXEC);
        }
        let count = half(&header, e_phnum) as usize;
        let headers = field(&header, 24 + size as usize, size);
        // The kernel's limit: 64 KiB of program headers.
        if count == 0 || count * entry_size > 65536 {
            return Err(errno::ENOEXEC);
        }
        let bytes = part(descriptor, start, headers, count * entry_size)?;
        let segments = bytes.chunks_exact(entry_size).map(|b| Segment::from_bytes(b, machine)).collect();
        let (relocatable, entry) = (half(&header, 16) == ET_DYN, field(&header, 24, size));
        let mut elf = Elf { machine, relocatable, entry, headers, segments, interpreter: None };
        elf.interpreter = elf.interpreter_segment()?.and_then(|segment| {
            let bytes = within(start, segment.offset, segment.file_size as usize)?;
            bytes.ends_with(&[0]).then(|| bytes.to_vec())
        });
        Ok(elf)
    }

    /// Bytes of a program header (AT_PHENT).
    pub fn header_size(&self) -> u64 {
        Segment::size(self.machine) as u64
    }

    /// The path of the interpreter (ld.so), with its NUL.
    pub fn interpreter(&self, descriptor: i32) -> Result<Option<Vec<u8>>, Errno> {
        let Some(segment) = self.interpreter_segment()? else { return Ok(None) };
        if self.interpreter.is_some() {
            return Ok(self.interpreter.clone());
        }
        let path = part(descriptor, &[], segment.offset, segment.file_size as usize)?;
        if path.ends_with(&[0]) { Ok(Some(path)) } else { Err(errno::ENOEXEC) }
    }

    /// The segment with the path of the interpreter.
    fn interpreter_segment(&self) -> Result<Option<&Segment>, Errno> {
        let found = self.segments.iter().find(|segment| segment.kind == PT_INTERP);
        let is_path = |segment: &Segment| (2..=PATH_MAX as u64).contains(&segment.file_size);
        if found.is_none_or(is_path) { Ok(found) } else { Err(errno::ENOEXEC) }
    }

    /// Whether the program asks for an executable stack, or not; `None` if it has no PT_GNU_STACK.
    pub fn has_executable_stack(&self) -> Option<bool> {
        let stack = self.segments.iter().find(|segment| segment.kind == PT_GNU_STACK)?;
        Some(stack.flags & 1 != 0)
    }

    /// Whether the program wants the first thread's stack where Linux has it with 48 bits of addresses. Go's
    /// race detector does: it counts the bits of the stack's address, and accepts only 48. The memory that it
    /// divides lies lower (compiler-rt, tsan_platform.h, MappingGoAarch64).
    pub fn wants_high_stack(&self, descriptor: i32) -> bool {
        let is_of_go = |segment: &Segment| {
            let mut notes = alloc::vec![0; segment.file_size.min(PAGE) as usize];
            read_at(descriptor, &mut notes, segment.offset).is_ok() && go::is_note_of_go(&notes)
        };
        let mut notes = self.segments.iter().filter(|segment| segment.kind == PT_NOTE);
        self.machine == machine::ARM64 && notes.any(is_of_go) && go::has_race_detector(descriptor)
    }

    /// Lowest and highest address of the file in memory, rounded to pages.
    fn extent(&self) -> Result<(u64, u64), Errno> {
        let mut low = u64::MAX;
        let mut high = 0;
        for segment in self.loads() {
            let end = segment.address.checked_add(segment.memory_size).ok_or(errno::ENOEXEC)?;
            if segment.file_size > segment.memory_size || !region::could_be_guest(end, 0) {
                return Err(errno::ENOEXEC);
            }
            low = low.min(segment.address & !(PAGE - 1));
            high = high.max(end.next_multiple_of(PAGE));
        }
        if low >= high { Err(errno::ENOEXEC) } else { Ok((low, high)) }
    }

    fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.kind == PT_LOAD && segment.memory_size > 0)
    }

    /// Maps the file; `wanted` is the address of a relocatable one, 0 lets the kernel choose.
    pub fn map(&self, descriptor: i32, wanted: u64) -> Result<Mapped, Errno> {
        let (low, high) = self.extent()?;
        let align =
            self.loads().map(|segment| segment.align).filter(|a| a.is_power_of_two()).max().unwrap_or(PAGE);
        let length = high - low;
        let bias = if self.relocatable {
            let slack = if align > PAGE && wanted == 0 { align } else { 0 };
            let wanted = wanted & !(align.max(PAGE) - 1);
            let flags = if wanted == 0 { 0 } else { MAP_FIXED_NOREPLACE };
            let got = match place(wanted, length + slack, flags) {
                Err(errno::EEXIST) => place(0, length + slack, 0)?,
                other => other?,
            };
            let at = got.next_multiple_of(align.max(PAGE));
            guest::unmap(got..at);
            guest::unmap(at + length..got + length + slack);
            at.wrapping_sub(low)
        } else {
            memory::reach(low, length);
            if place(low, length, MAP_FIXED_NOREPLACE)? != low {
                return Err(errno::ENOMEM);
            }
            0
        };
        let mut previous = low.wrapping_add(bias);
        for segment in self.loads() {
            let start = segment.address.wrapping_add(bias) & !(PAGE - 1);
            guest::unmap(previous..start);
            map_segment(descriptor, segment, bias)?;
            previous = (segment.address.wrapping_add(bias) + segment.memory_size).next_multiple_of(PAGE);
        }
        let headers = self
            .loads()
            .find(|s| s.offset <= self.headers && self.headers < s.offset + s.file_size)
            .map_or(0, |s| self.headers - s.offset + s.address.wrapping_add(bias));
        Ok(Mapped {
            bias,
            entry: self.entry.wrapping_add(bias),
            headers,
            start: low.wrapping_add(bias),
            end: high.wrapping_add(bias),
        })
    }
}

/// `length` bytes at `offset`, if `start`, the first bytes of a file, holds them.
fn within(start: &[u8], offset: u64, length: usize) -> Option<&[u8]> {
    let offset = usize::try_from(offset).ok()?;
    start.get(offset..offset.checked_add(length)?)
}

/// `length` bytes of a file at `offset`, of which `start` is the beginning; ENOEXEC if it has fewer.
fn part(descriptor: i32, start: &[u8], offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    if let Some(bytes) = within(start, offset, length) {
        return Ok(bytes.to_vec());
    }
    let mut bytes = alloc::vec![0; length];
    if read_at(descriptor, &mut bytes, offset)? < length { Err(errno::ENOEXEC) } else { Ok(bytes) }
}

/// Reserves guest memory.
fn place(address: u64, length: u64, flags: u64) -> Result<u64, Errno> {
    map_new(address, length, PROT_NONE, flags | MAP_NORESERVE)
}

fn protection(flags: u32) -> u64 {
    u64::from((flags & 4) >> 2 | flags & 2 | (flags & 1) << 2)
}

fn map_segment(descriptor: i32, segment: &Segment, bias: u64) -> Result<(), Errno> {
    let start = segment.address.wrapping_add(bias);
    let within = start & (PAGE - 1);
    let prot = protection(segment.flags);
    let file_end = start + segment.file_size;
    let end = (start + segment.memory_size).next_multiple_of(PAGE);
    executable::set(start - within..end, segment.flags & 1 != 0);
    if segment.file_size > 0 {
        let length = (segment.file_size + within).next_multiple_of(PAGE);
        let offset = segment.offset.checked_sub(within).ok_or(errno::ENOEXEC)?;
        guest::map_file(start - within, length, prot, descriptor, offset)?;
        if segment.flags & 3 == 1 {
            mapped::add(start - within..start - within + length, descriptor, offset);
        }
    }
    let zero_from = if segment.file_size > 0 { file_end.next_multiple_of(PAGE) } else { start - within };
    if segment.memory_size > segment.file_size {
        if end > zero_from {
            guest::map_zeroes(zero_from, end - zero_from, prot)?;
        }
        if prot & 2 != 0 && segment.file_size > 0 {
            // Clears the rest of the file's last page: bss.
            guest::clear(file_end..zero_from)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_programs_of_the_guest() {
        let mut header = [0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[16] = 2;
        header[18] = 183;
        assert_eq!(machine(&header), Some(Machine { class: 2, machine: 183 }));
        header[4] = 1;
        assert_eq!(machine(&header), None);
        (header[4], header[18]) = (2, 62);
        assert_eq!(machine(&header), None);
        assert_eq!(machine(b"#!/bin/sh"), None);
        (header[4], header[18], header[39]) = (1, 40, 5);
        assert_eq!((machine(&header), refusal(&header)), (Some(machine::ARM), None));
        header[39] = 4;
        assert!(machine(&header).is_none() && refusal(&header).is_some());
        (header[5], header[18], header[19]) = (2, 0, 40);
        assert!(machine(&header).is_none() && refusal(&header).is_some_and(|why| why.contains("big-endian")));
    }

    #[test]
    fn program_headers_of_both_classes_are_read() {
        let expected = Segment {
            kind: 1,
            flags: 5,
            offset: 0x1000,
            address: 0x2000,
            file_size: 0x30,
            memory_size: 0x40,
            align: 0x1000,
        };
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let narrow = bytes(&[1, 0x1000, 0x2000, 0x9999, 0x30, 0x40, 5, 0x1000]);
        assert_eq!(Segment::from_bytes(&narrow, Machine { class: 1, machine: 40 }), expected);
        let wide = bytes(&[1, 5, 0x1000, 0, 0x2000, 0, 0x9999, 0, 0x30, 0, 0x40, 0, 0x1000, 0]);
        assert_eq!(Segment::from_bytes(&wide, Machine { class: 2, machine: 183 }), expected);
    }

    #[test]
    fn protection_is_in_the_order_of_mmap() {
        assert_eq!(protection(5), 5);
        assert_eq!(protection(6), 3);
    }
}
