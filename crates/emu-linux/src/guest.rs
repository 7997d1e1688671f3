//! The guest's memory: reads and writes for system calls, where a bad address is EFAULT, and mappings.

use crate::region;
use crate::sys::file::PATH_MAX;
use crate::sys::memory::{self, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE};
use crate::sys::{Errno, errno};
use alloc::vec::Vec;
use core::ops::Range;
use crossdock_emu_guest::memory::Memory;

/// The window of guest memory.
pub fn memory() -> Memory {
    // SAFETY: below its region, the emulator keeps only what libc's start-up left; handlers for SIGSEGV and
    // SIGBUS are installed before the first access.
    let memory = unsafe { Memory::new(0, region::start()) };
    if region::is_stack_high() { memory.with_alias(region::ALIAS) } else { memory }
}

/// Fills `bytes` from guest memory.
pub fn read(address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    let memory = memory();
    let mut at = address;
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        chunk.copy_from_slice(&memory.load(at, 3).map_err(|_| errno::EFAULT)?.to_le_bytes());
        at = at.wrapping_add(8);
    }
    for byte in chunks.into_remainder() {
        *byte = memory.load(at, 0).map_err(|_| errno::EFAULT)? as u8;
        at = at.wrapping_add(1);
    }
    Ok(())
}

/// Writes `bytes` to guest memory.
pub fn write(address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let memory = memory();
    let mut at = address;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.try_into().map(u64::from_le_bytes).unwrap_or(0);
        memory.store(at, 3, word).map_err(|_| errno::EFAULT)?;
        at = at.wrapping_add(8);
    }
    for &byte in chunks.remainder() {
        memory.store(at, 0, u64::from(byte)).map_err(|_| errno::EFAULT)?;
        at = at.wrapping_add(1);
    }
    Ok(())
}

/// Writes zeroes.
pub fn clear(range: Range<u64>) -> Result<(), Errno> {
    let memory = memory();
    let mut at = range.start;
    while at < range.end {
        let size = if at.is_multiple_of(8) && range.end - at >= 8 { 3 } else { 0 };
        memory.store(at, size, 0).map_err(|_| errno::EFAULT)?;
        at += 1 << size;
    }
    Ok(())
}

/// Reads 8 bytes.
pub fn read64(address: u64) -> Result<u64, Errno> {
    memory().load(address, 3).map_err(|_| errno::EFAULT)
}

/// Reads 4 bytes.
pub fn read32(address: u64) -> Result<u32, Errno> {
    memory().load(address, 2).map(|word| word as u32).map_err(|_| errno::EFAULT)
}

/// Writes 8 bytes.
pub fn write64(address: u64, value: u64) -> Result<(), Errno> {
    memory().store(address, 3, value).map_err(|_| errno::EFAULT)
}

/// Writes 4 bytes.
pub fn write32(address: u64, value: u32) -> Result<(), Errno> {
    memory().store(address, 2, u64::from(value)).map_err(|_| errno::EFAULT)
}

/// Writes 4 bytes if they are as expected, atomically; returns what they were.
pub fn compare_swap32(address: u64, expected: u32, new: u32) -> Result<u32, Errno> {
    let result = memory().compare_swap(address, 2, u64::from(expected), u64::from(new));
    result.map(|word| word as u32).map_err(|_| errno::EFAULT)
}

/// Reads `N` words of 8 bytes.
#[inline]
pub fn read_words<const N: usize>(address: u64) -> Result<[u64; N], Errno> {
    let (memory, mut words) = (memory(), [0; N]);
    let mut at = address;
    let (pairs, rest) = words.as_chunks_mut::<2>();
    for pair in pairs {
        let both = memory.load128(at).map_err(|_| errno::EFAULT)?;
        *pair = [both as u64, (both >> 64) as u64];
        at = at.wrapping_add(16);
    }
    for word in rest {
        *word = memory.load(at, 3).map_err(|_| errno::EFAULT)?;
    }
    Ok(words)
}

/// Writes words of 8 bytes.
#[inline]
pub fn write_words(address: u64, words: &[u64]) -> Result<(), Errno> {
    let memory = memory();
    let mut at = address;
    let (pairs, rest) = words.as_chunks::<2>();
    for &[low, high] in pairs {
        memory.store128(at, u128::from(low) | u128::from(high) << 64).map_err(|_| errno::EFAULT)?;
        at = at.wrapping_add(16);
    }
    for &word in rest {
        memory.store(at, 3, word).map_err(|_| errno::EFAULT)?;
    }
    Ok(())
}

/// Reads a pointer of `word` bytes, 4 or 8.
pub fn read_pointer(address: u64, word: u64) -> Result<u64, Errno> {
    if word == 4 { read32(address).map(u64::from) } else { read64(address) }
}

/// Reads `N` pointers of `word` bytes.
pub fn read_pointers<const N: usize>(address: u64, word: u64) -> Result<[u64; N], Errno> {
    let mut pointers = [0; N];
    for (n, pointer) in (0..).zip(&mut pointers) {
        *pointer = read_pointer(address.wrapping_add(word * n), word)?;
    }
    Ok(pointers)
}

/// Writes pointers of `word` bytes.
pub fn write_pointers(address: u64, pointers: &[u64], word: u64) -> Result<(), Errno> {
    (0..)
        .zip(pointers)
        .try_for_each(|(n, &pointer)| write_pointer(address.wrapping_add(word * n), pointer, word))
}

/// Writes a pointer of `word` bytes, 4 or 8.
pub fn write_pointer(address: u64, value: u64, word: u64) -> Result<(), Errno> {
    if word == 4 { write32(address, value as u32) } else { write64(address, value) }
}

/// Reads a string with its NUL: at most `limit` bytes, else the error `too_long`.
pub fn read_string(address: u64, limit: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
    let memory = memory();
    let mut bytes = Vec::with_capacity(64);
    while bytes.len() < limit {
        let at = address.wrapping_add(bytes.len() as u64);
        let byte = memory.load(at, 0).map_err(|_| errno::EFAULT)? as u8;
        bytes.push(byte);
        if byte == 0 {
            return Ok(bytes);
        }
    }
    Err(too_long)
}

/// Reads a path, with its NUL.
pub fn read_path(address: u64) -> Result<Vec<u8>, Errno> {
    read_string(address, PATH_MAX, errno::ENAMETOOLONG)
}

/// Replaces guest memory by a new mapping (mmap(2)). Memory that is not the guest's is EINVAL.
fn replace(a: [u64; 6]) -> Result<u64, Errno> {
    if !region::could_be_guest(a[0], a[1]) {
        return Err(errno::EINVAL);
    }
    // SAFETY: guest memory only.
    unsafe { memory::map(a) }
}

/// The host's rights for rights of the guest (PROT_ of mmap(2)): what may only be executed may be read as
/// well. The translator reads code; a host with protection keys would refuse that (pkeys(7)). Kernels of
/// arm64 without EPAN, and of Arm, give the same rights.
pub(crate) fn host_rights(protection: u64) -> u64 {
    const ALL: u64 = 7;
    const READ: u64 = 1;
    const EXECUTE: u64 = 4;
    if protection & ALL == EXECUTE { protection | READ } else { protection }
}

/// Maps a part of a file over guest memory.
pub(crate) fn map_file(
    address: u64,
    length: u64,
    protection: u64,
    file: i32,
    offset: u64,
) -> Result<u64, Errno> {
    replace([address, length, host_rights(protection), MAP_PRIVATE | MAP_FIXED, file as u64, offset])
}

/// Maps zeroes over guest memory.
pub(crate) fn map_zeroes(address: u64, length: u64, protection: u64) -> Result<u64, Errno> {
    let flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
    replace([address, length, host_rights(protection), flags, u64::MAX, 0])
}

/// Unmaps guest memory; nothing if the range is empty.
pub(crate) fn unmap(range: Range<u64>) {
    if range.start < range.end && range.end <= region::start() {
        // SAFETY: guest memory only.
        let _ = unsafe { memory::unmap(range.start, range.end - range.start) };
    }
}

/// Changes the rights of guest memory (mprotect(2)). Memory that is not the guest's is ENOMEM.
pub(crate) fn protect(address: u64, length: u64, protection: u64) -> Result<(), Errno> {
    if !region::could_be_guest(address, length) {
        return Err(errno::ENOMEM);
    }
    // SAFETY: guest memory only.
    unsafe { memory::protect(address, length, host_rights(protection)) }
}
