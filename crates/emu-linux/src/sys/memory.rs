//! Mappings of the host (mmap(2) and its kin), and random bytes.

use super::call::{nr, with_numbers};
use super::errno::Errno;
use crate::sys::call::syscall;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// PROT_ bits.
pub const PROT_NONE: u64 = 0;
/// Read and write.
pub const PROT_READ_WRITE: u64 = 3;
/// Read and execute.
pub const PROT_READ_EXECUTE: u64 = 5;
/// All three rights.
pub const PROT_READ_WRITE_EXECUTE: u64 = 7;
/// MAP_ flags (mmap(2)).
pub const MAP_PRIVATE: u64 = 2;
/// Replaces what is there.
pub const MAP_FIXED: u64 = 0x10;
/// No file.
pub const MAP_ANONYMOUS: u64 = 0x20;
/// Fails if something is there.
pub const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
/// Memory that is not counted until it is used.
pub const MAP_NORESERVE: u64 = 0x4000;

/// mmap(2) of private memory without a file, which replaces nothing.
pub fn map_new(address: u64, length: u64, protection: u64, flags: u64) -> Result<u64, Errno> {
    let flags = flags & !MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS;
    // SAFETY: without MAP_FIXED, the memory is nobody's.
    let got = unsafe { syscall!(nr::MMAP, address, length, protection, flags, u64::MAX, 0) };
    got.map(|address| address as u64)
}

/// mmap(2) of memory that copies of the process share, without a file.
pub fn map_shared(length: u64, protection: u64) -> Result<u64, Errno> {
    const MAP_SHARED: u64 = 1;
    // SAFETY: without MAP_FIXED, the memory is nobody's.
    let got = unsafe { syscall!(nr::MMAP, 0, length, protection, MAP_SHARED | MAP_ANONYMOUS, u64::MAX, 0) };
    got.map(|address| address as u64)
}

/// mmap(2).
///
/// # Safety
///
/// With MAP_FIXED, no Rust code relies on the memory there.
pub unsafe fn map(a: [u64; 6]) -> Result<u64, Errno> {
    // SAFETY: the caller's promise.
    unsafe { super::call::checked(nr::MMAP, a) }.map(|address| address as u64)
}

/// munmap(2).
///
/// # Safety
///
/// No Rust code relies on the memory.
pub unsafe fn unmap(address: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall!(nr::MUNMAP, address, length) }.map(|_| ())
}

/// mprotect(2).
///
/// # Safety
///
/// No Rust code relies on rights that the memory loses.
pub unsafe fn protect(address: u64, length: u64, protection: u64) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall!(nr::MPROTECT, address, length, protection) }.map(|_| ())
}

/// madvise(2).
///
/// # Safety
///
/// No Rust code relies on contents that the advice throws away.
pub unsafe fn advise(address: u64, length: u64, advice: u64) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall!(nr::MADVISE, address, length, advice) }.map(|_| ())
}

/// Whether the page at an address is in memory (mincore(2)).
pub fn is_resident(page: u64) -> bool {
    let mut resident = 0u8;
    // SAFETY: the kernel writes a byte to a local.
    let _ = unsafe { syscall!(nr::MINCORE, page, PAGE, &raw mut resident) };
    resident & 1 == 1
}

/// mlock2(2).
pub fn lock(address: u64, length: u64, flags: u64) -> Result<(), Errno> {
    with_numbers::<{ nr::MLOCK2 }, _>([address, length, flags]).map(|_| ())
}

/// mlockall(2).
pub fn lock_all(flags: u64) -> Result<(), Errno> {
    with_numbers::<{ nr::MLOCKALL }, _>([flags]).map(|_| ())
}

/// Fills words with random bits (getrandom(2)).
pub fn random<const N: usize>() -> [u64; N] {
    let mut words = [0; N];
    // SAFETY: the kernel fills the array.
    let _ = unsafe { syscall!(nr::GETRANDOM, words.as_mut_ptr(), size_of_val(&words), 0) };
    words
}
