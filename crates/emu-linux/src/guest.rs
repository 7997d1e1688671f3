//! Reads and writes guest memory for system calls: a bad address is EFAULT.

use crate::region;
use crate::sys::errno;
use alloc::vec::Vec;
use crossdock_emu_guest::memory::Memory;

/// Longest path, with its NUL (Linux, `PATH_MAX`).
pub const PATH_MAX: usize = 4096;

/// The window of guest memory.
pub fn memory() -> Memory {
    // SAFETY: below its region, the emulator keeps only what libc's start-up left; handlers for SIGSEGV and
    // SIGBUS are installed before the first access.
    unsafe { Memory::new(0, region::start()) }
}

/// Fills `bytes` from guest memory.
pub fn read(address: u64, bytes: &mut [u8]) -> Result<(), i64> {
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
pub fn write(address: u64, bytes: &[u8]) -> Result<(), i64> {
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

/// Reads 8 bytes.
pub fn read64(address: u64) -> Result<u64, i64> {
    memory().load(address, 3).map_err(|_| errno::EFAULT)
}

/// Reads 4 bytes.
pub fn read32(address: u64) -> Result<u32, i64> {
    memory().load(address, 2).map(|word| word as u32).map_err(|_| errno::EFAULT)
}

/// Writes 8 bytes.
pub fn write64(address: u64, value: u64) -> Result<(), i64> {
    memory().store(address, 3, value).map_err(|_| errno::EFAULT)
}

/// Writes 4 bytes.
pub fn write32(address: u64, value: u32) -> Result<(), i64> {
    memory().store(address, 2, u64::from(value)).map_err(|_| errno::EFAULT)
}

/// Reads `N` words of 8 bytes.
pub fn read_words<const N: usize>(address: u64) -> Result<[u64; N], i64> {
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        *word = read64(address.wrapping_add(8 * index as u64))?;
    }
    Ok(words)
}

/// Reads a string with its NUL: at most `limit` bytes, else the error `too_long`.
pub fn read_string(address: u64, limit: usize, too_long: i64) -> Result<Vec<u8>, i64> {
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
pub fn read_path(address: u64) -> Result<Vec<u8>, i64> {
    read_string(address, PATH_MAX, errno::ENAMETOOLONG)
}

/// Reads an array of strings that ends with a null pointer; a null `address` is an empty array.
pub fn read_strings(address: u64) -> Result<Vec<Vec<u8>>, i64> {
    let mut strings = Vec::new();
    if address != 0 {
        loop {
            let pointer = read64(address.wrapping_add(8 * strings.len() as u64))?;
            if pointer == 0 {
                break;
            }
            // Linux, MAX_ARG_STRLEN.
            strings.push(read_string(pointer, 128 << 10, errno::E2BIG)?);
        }
    }
    Ok(strings)
}
