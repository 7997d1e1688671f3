//! ELF files of the guest: reads their headers, and maps them as the kernel does (Linux, fs/binfmt_elf.c).

use crate::abi;
use crate::executable;
use crate::guest;
use crate::memory;
use crate::region::{self, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE};
use crate::sys::{errno, nr};
use crate::syscall;
use alloc::vec::Vec;

const PAGE: u64 = 4096;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
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
    /// Whether the file runs at any address.
    pub relocatable: bool,
    /// e_entry.
    pub entry: u64,
    /// e_phoff.
    pub headers: u64,
    /// Program headers.
    pub segments: Vec<Segment>,
}

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

/// Reads up to `bytes.len()` bytes of a file at `offset`; returns how many it read.
pub fn read_at(descriptor: i32, bytes: &mut [u8], offset: u64) -> Result<usize, i64> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: the kernel writes into the slice.
        match unsafe {
            syscall!(nr::PREAD64, descriptor, rest.as_mut_ptr(), rest.len(), offset + done as u64)
        } {
            0 => break,
            count if count > 0 => done += count as usize,
            errno::EINTR => {}
            error => return Err(error),
        }
    }
    Ok(done)
}

/// Whether `start` begins a program for this guest.
pub fn is_guest(start: &[u8]) -> bool {
    start.starts_with(b"\x7fELF\x02\x01")
        && half(start, 18) == abi::ELF_MACHINE
        && [ET_EXEC, ET_DYN].contains(&half(start, 16))
}

impl Elf {
    /// Reads the headers of a program for this guest; ENOEXEC for other files.
    pub fn read(descriptor: i32) -> Result<Elf, i64> {
        let mut header = [0; 64];
        if read_at(descriptor, &mut header, 0)? < 64 || !is_guest(&header) || half(&header, 54) != 56 {
            return Err(errno::ENOEXEC);
        }
        let count = half(&header, 56) as usize;
        let headers = double(&header, 32);
        // The kernel's limit: 64 KiB of program headers.
        if count == 0 || count * 56 > 65536 {
            return Err(errno::ENOEXEC);
        }
        let mut bytes = alloc::vec![0; count * 56];
        if read_at(descriptor, &mut bytes, headers)? < bytes.len() {
            return Err(errno::ENOEXEC);
        }
        let segments = bytes
            .chunks_exact(56)
            .map(|b| Segment {
                kind: word(b, 0),
                flags: word(b, 4),
                offset: double(b, 8),
                address: double(b, 16),
                file_size: double(b, 32),
                memory_size: double(b, 40),
                align: double(b, 48),
            })
            .collect();
        Ok(Elf { relocatable: half(&header, 16) == ET_DYN, entry: double(&header, 24), headers, segments })
    }

    /// The path of the interpreter (ld.so), with its NUL.
    pub fn interpreter(&self, descriptor: i32) -> Result<Option<Vec<u8>>, i64> {
        let Some(segment) = self.segments.iter().find(|segment| segment.kind == PT_INTERP) else {
            return Ok(None);
        };
        if !(2..=guest::PATH_MAX as u64).contains(&segment.file_size) {
            return Err(errno::ENOEXEC);
        }
        let mut path = alloc::vec![0; segment.file_size as usize];
        if read_at(descriptor, &mut path, segment.offset)? < path.len() || path.last() != Some(&0) {
            return Err(errno::ENOEXEC);
        }
        Ok(Some(path))
    }

    /// Whether the program asks for an executable stack. On arm64, one without PT_GNU_STACK does not (Linux,
    /// arch/arm64/include/asm/elf.h).
    pub fn has_executable_stack(&self) -> bool {
        self.segments.iter().any(|segment| segment.kind == PT_GNU_STACK && segment.flags & 1 != 0)
    }

    /// Lowest and highest address of the file in memory, rounded to pages.
    fn extent(&self) -> Result<(u64, u64), i64> {
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
    pub fn map(&self, descriptor: i32, wanted: u64) -> Result<Mapped, i64> {
        let (low, high) = self.extent()?;
        let align =
            self.loads().map(|segment| segment.align).filter(|a| a.is_power_of_two()).max().unwrap_or(PAGE);
        let length = high - low;
        let bias = if self.relocatable {
            let slack = if align > PAGE && wanted == 0 { align } else { 0 };
            let wanted = wanted & !(align.max(PAGE) - 1);
            let mut got = place(wanted, length + slack, if wanted == 0 { 0 } else { MAP_FIXED_NOREPLACE });
            if got == errno::EEXIST {
                got = place(0, length + slack, 0);
            }
            if got < 0 {
                return Err(got);
            }
            let at = (got as u64).next_multiple_of(align.max(PAGE));
            trim(got as u64, at);
            trim(at + length, got as u64 + length + slack);
            at.wrapping_sub(low)
        } else {
            memory::reach(low, length);
            let got = place(low, length, MAP_FIXED_NOREPLACE);
            if got != low as i64 {
                return Err(if got < 0 { got } else { errno::ENOMEM });
            }
            0
        };
        let mut previous = low.wrapping_add(bias);
        for segment in self.loads() {
            let start = segment.address.wrapping_add(bias) & !(PAGE - 1);
            if start > previous {
                trim(previous, start);
            }
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

/// Reserves guest memory.
fn place(address: u64, length: u64, flags: u64) -> i64 {
    let flags = flags | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: guest memory; MAP_FIXED_NOREPLACE replaces nothing.
    unsafe { syscall!(nr::MMAP, address, length, 0, flags, u64::MAX, 0) }
}

fn trim(start: u64, end: u64) {
    if end > start {
        // SAFETY: part of what `place` reserved.
        unsafe { syscall!(nr::MUNMAP, start, end - start) };
    }
}

fn protection(flags: u32) -> u64 {
    u64::from((flags & 4) >> 2 | flags & 2 | (flags & 1) << 2)
}

fn map_segment(descriptor: i32, segment: &Segment, bias: u64) -> Result<(), i64> {
    let start = segment.address.wrapping_add(bias);
    let within = start & (PAGE - 1);
    let prot = protection(segment.flags);
    let file_end = start + segment.file_size;
    let end = (start + segment.memory_size).next_multiple_of(PAGE);
    let check = |result: i64| if result < 0 { Err(result) } else { Ok(()) };
    executable::set(start - within..end, segment.flags & 1 != 0);
    if segment.file_size > 0 {
        let length = (segment.file_size + within).next_multiple_of(PAGE);
        let offset = segment.offset.checked_sub(within).ok_or(errno::ENOEXEC)?;
        // SAFETY: inside the reservation made for this file.
        check(unsafe {
            syscall!(nr::MMAP, start - within, length, prot, MAP_PRIVATE | MAP_FIXED, descriptor, offset)
        })?;
    }
    let zero_from = if segment.file_size > 0 { file_end.next_multiple_of(PAGE) } else { start - within };
    if segment.memory_size > segment.file_size {
        if end > zero_from {
            let flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
            // SAFETY: inside the reservation made for this file.
            check(unsafe { syscall!(nr::MMAP, zero_from, end - zero_from, prot, flags, u64::MAX, 0) })?;
        }
        if prot & 2 != 0 && segment.file_size > 0 {
            // Clears the rest of the file's last page: bss.
            for address in file_end..zero_from {
                guest::memory().store(address, 0, 0).map_err(|_| errno::EFAULT)?;
            }
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
        assert!(is_guest(&header));
        header[18] = 62;
        assert!(!is_guest(&header));
        assert!(!is_guest(b"#!/bin/sh"));
    }

    #[test]
    fn protection_is_in_the_order_of_mmap() {
        assert_eq!(protection(5), 5);
        assert_eq!(protection(6), 3);
    }
}
