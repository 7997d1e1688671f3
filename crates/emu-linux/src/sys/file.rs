//! Files of the host, for the emulator's own use: typed forms of open(2), read(2) and the like.

use super::call::{nr, with_numbers};
use super::errno::{self, Errno};
use crate::sys::call::syscall;
use alloc::vec::Vec;
use core::ffi::CStr;

/// The current directory, for `*at` calls.
pub const AT_FDCWD: i32 = -100;
/// Longest path, with its NUL (Linux, `PATH_MAX`).
pub const PATH_MAX: usize = 4096;
const O_CLOEXEC: u64 = 0o2_000_000;
const AT_EMPTY_PATH: u64 = 0x1000;

/// An open file of ours, which is closed when it is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Fd(i32);

impl Fd {
    /// Takes over an open descriptor.
    pub const fn from_number(descriptor: i32) -> Fd {
        Fd(descriptor)
    }

    /// The descriptor.
    pub const fn number(&self) -> i32 {
        self.0
    }

    /// The descriptor, which stays open.
    pub const fn into_number(self) -> i32 {
        let descriptor = self.0;
        core::mem::forget(self);
        descriptor
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        let _ = with_numbers::<{ nr::CLOSE }, _>([self.0 as u64]);
    }
}

/// The address of a path, for the kernel; EINVAL for bytes that do not end with NUL.
fn address(path: &[u8]) -> Result<*const u8, Errno> {
    if path.last() == Some(&0) { Ok(path.as_ptr()) } else { Err(errno::EINVAL) }
}

/// openat(2) with O_CLOEXEC; `path` ends with NUL. `mode` counts where `flags` create the file.
pub fn open_mode(directory: i32, path: &[u8], flags: u64, mode: u32) -> Result<Fd, Errno> {
    let path = address(path)?;
    // SAFETY: the path ends with NUL.
    unsafe { syscall!(nr::OPENAT, directory, path, O_CLOEXEC | flags, mode) }
        .map(|descriptor| Fd(descriptor as i32))
}

/// openat(2) with O_CLOEXEC; `path` ends with NUL.
pub fn open(directory: i32, path: &[u8], flags: u64) -> Result<Fd, Errno> {
    open_mode(directory, path, flags, 0)
}

/// openat2(2): opens `path`, which ends with NUL, below `directory` as `resolve` says.
pub fn open_below(directory: i32, path: &[u8], flags: u64, resolve: u64) -> Result<Fd, Errno> {
    let path = address(path)?;
    let how = [flags | O_CLOEXEC, 0, resolve];
    // SAFETY: the path ends with NUL; the kernel reads the structure.
    unsafe { syscall!(nr::OPENAT2, directory, path, how.as_ptr(), size_of_val(&how)) }
        .map(|descriptor| Fd(descriptor as i32))
}

/// fcntl(2) with an argument that is a number.
pub fn control(descriptor: i32, command: u64, argument: u64) -> Result<i64, Errno> {
    // SAFETY: the commands used here take no pointer.
    unsafe { syscall!(nr::FCNTL, descriptor, command, argument) }
}

/// Reads up to `bytes.len()` bytes of a file at `offset` (pread(2)); returns how many it read.
pub fn read_at(descriptor: i32, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        let at = offset + done as u64;
        // SAFETY: the kernel writes into the slice.
        match unsafe { syscall!(nr::PREAD64, descriptor, rest.as_mut_ptr(), rest.len(), at) } {
            Ok(0) => break,
            Ok(count) => done += count as usize,
            Err(errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The content of a file, from its position on, as far as it can be read.
fn read_rest(descriptor: i32) -> Vec<u8> {
    let mut content = Vec::new();
    let mut piece = [0u8; 4096];
    loop {
        // SAFETY: the kernel writes into the array.
        match unsafe { syscall!(nr::READ, descriptor, piece.as_mut_ptr(), piece.len()) } {
            Ok(0) | Err(_) => return content,
            Ok(count) => content.extend_from_slice(&piece[..count as usize]),
        }
    }
}

/// The content of the file at `path`, which ends with NUL; empty if it cannot be read.
pub fn read_all(path: &[u8]) -> Vec<u8> {
    let Ok(descriptor) = open(AT_FDCWD, path, 0) else { return Vec::new() };
    read_rest(descriptor.number())
}

/// Writes all bytes at the file's position (write(2)).
pub fn write_all(descriptor: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the kernel reads the slice.
        match unsafe { syscall!(nr::WRITE, descriptor, bytes.as_ptr(), bytes.len()) } {
            Ok(0) => return Err(errno::ENOMEM),
            Ok(count) => bytes = &bytes[count as usize..],
            Err(errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes text to standard error; stops at the first error.
pub fn complain(text: &str) {
    let _ = write_all(2, text.as_bytes());
}

/// lseek(2).
pub fn seek(descriptor: i32, offset: i64, whence: u64) -> Result<u64, Errno> {
    with_numbers::<{ nr::LSEEK }, _>([descriptor as u64, offset as u64, whence]).map(|at| at as u64)
}

/// A file in memory (memfd_create(2)) with `content`, read from its start.
pub fn in_memory(name: &CStr, flags: u64, content: &[u8]) -> Result<Fd, Errno> {
    // SAFETY: the name ends with NUL.
    let file = unsafe { syscall!(nr::MEMFD_CREATE, name.as_ptr(), flags) }.map(|number| Fd(number as i32))?;
    write_all(file.number(), content)?;
    seek(file.number(), 0, 0)?;
    Ok(file)
}

/// The link of a descriptor in /proc/self/fd.
pub fn link_of(descriptor: i32) -> Option<Vec<u8>> {
    let path = alloc::format!("/proc/self/fd/{descriptor}\0");
    let mut target = alloc::vec![0u8; PATH_MAX];
    // SAFETY: the path ends with NUL; the kernel writes into the vector.
    let length =
        unsafe { syscall!(nr::READLINKAT, AT_FDCWD, path.as_ptr(), target.as_mut_ptr(), target.len()) };
    target.truncate(length.ok()? as usize);
    Some(target)
}

/// A file's status (x86-64, `struct stat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// st_dev and st_ino.
    pub file: [u64; 2],
    /// st_size.
    pub size: u64,
    /// st_mode.
    pub mode: u32,
    /// st_uid.
    pub user: u32,
    /// st_gid.
    pub group: u32,
}

impl Status {
    fn from_words(words: &[u64; 18]) -> Status {
        Status {
            file: [words[0], words[1]],
            size: words[6],
            mode: words[3] as u32,
            user: (words[3] >> 32) as u32,
            group: words[4] as u32,
        }
    }
}

/// A file's whole status (x86-64, `struct stat`).
#[derive(Clone, Copy, Debug)]
pub struct RawStatus([u64; 18]);

#[allow(missing_docs)]
impl RawStatus {
    pub fn device(&self) -> u64 {
        self.0[0]
    }

    pub fn inode(&self) -> u64 {
        self.0[1]
    }

    /// st_nlink.
    pub fn links(&self) -> u64 {
        self.0[2]
    }

    pub fn mode(&self) -> u32 {
        self.0[3] as u32
    }

    pub fn user(&self) -> u32 {
        (self.0[3] >> 32) as u32
    }

    pub fn size(&self) -> u64 {
        self.0[6]
    }

    /// st_mtim: seconds and nanoseconds.
    pub fn modified(&self) -> [u64; 2] {
        [self.0[11], self.0[12]]
    }

    /// st_ctim.
    pub fn changed(&self) -> [u64; 2] {
        [self.0[13], self.0[14]]
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.mode() & 0o170_000 == 0o100_000
    }
}

/// fstat(2).
pub fn raw_status(descriptor: i32) -> Result<RawStatus, Errno> {
    let mut words = [0u64; 18];
    // SAFETY: a struct stat has 18 words.
    unsafe { syscall!(nr::FSTAT, descriptor, words.as_mut_ptr()) }?;
    Ok(RawStatus(words))
}

/// rename(2); both paths end with NUL.
pub fn rename(old: &[u8], new: &[u8]) -> Result<(), Errno> {
    let (old, new) = (address(old)?, address(new)?);
    // SAFETY: the paths end with NUL.
    unsafe { syscall!(nr::RENAME, old, new) }.map(|_| ())
}

/// unlink(2); the path ends with NUL.
pub fn remove(path: &[u8]) -> Result<(), Errno> {
    let path = address(path)?;
    // SAFETY: the path ends with NUL.
    unsafe { syscall!(nr::UNLINK, path) }.map(|_| ())
}

/// rmdir(2); the path ends with NUL.
pub fn remove_folder(path: &[u8]) -> Result<(), Errno> {
    let path = address(path)?;
    // SAFETY: the path ends with NUL.
    unsafe { syscall!(nr::RMDIR, path) }.map(|_| ())
}

/// mkdir(2); the path ends with NUL.
pub fn make_folder(path: &[u8], mode: u32) -> Result<(), Errno> {
    let path = address(path)?;
    // SAFETY: the path ends with NUL.
    unsafe { syscall!(nr::MKDIR, path, mode) }.map(|_| ())
}

/// flock(2): locks an open file for its holder alone; false if another one has it.
pub fn try_lock(descriptor: i32) -> bool {
    const LOCK_EX_NB: u64 = 2 | 4;
    with_numbers::<{ nr::FLOCK }, _>([descriptor as u64, LOCK_EX_NB]).is_ok()
}

/// The names in a folder but `.` and `..` (getdents64(2)).
pub fn names(folder: i32) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut piece = alloc::vec![0u8; 32 << 10];
    loop {
        // SAFETY: the kernel writes into the vector.
        let length = unsafe { syscall!(nr::GETDENTS64, folder, piece.as_mut_ptr(), piece.len()) };
        let Ok(length @ 1..) = length else { return names };
        let mut rest = &piece[..length as usize];
        // A record: inode and position, 8 bytes each, its length, 2 bytes, a type, and the name with NUL.
        while let Some(&[low, high]) = rest.get(16..18).and_then(|bytes| bytes.first_chunk()) {
            let length = usize::from(u16::from_le_bytes([low, high]));
            let Some(record) = rest.get(19..length) else { break };
            let name = record.split(|&byte| byte == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
            rest = &rest[length..];
        }
    }
}

/// fstat(2).
pub fn status(descriptor: i32) -> Result<Status, Errno> {
    let mut words = [0u64; 18];
    // SAFETY: a struct stat has 18 words.
    unsafe { syscall!(nr::FSTAT, descriptor, words.as_mut_ptr()) }?;
    Ok(Status::from_words(&words))
}

/// stat(2) of a path that ends with NUL.
pub fn status_of(path: &[u8]) -> Result<Status, Errno> {
    let path = address(path)?;
    let mut words = [0u64; 18];
    // SAFETY: a struct stat has 18 words; the path ends with NUL.
    unsafe { syscall!(nr::NEWFSTATAT, AT_FDCWD, path, words.as_mut_ptr(), 0) }?;
    Ok(Status::from_words(&words))
}

/// faccessat2(2) of an open file: whether the process may use it as `mode` says, with its effective ids.
pub fn may(descriptor: i32, mode: u64) -> Result<(), Errno> {
    const AT_EACCESS: u64 = 0x200;
    let flags = AT_EMPTY_PATH | AT_EACCESS;
    // SAFETY: an empty path.
    unsafe { syscall!(nr::FACCESSAT2, descriptor, c"".as_ptr(), mode, flags) }.map(|_| ())
}

/// Whether a file has an extended attribute that is not empty (fgetxattr(2)).
pub fn has_attribute(descriptor: i32, name: &CStr) -> bool {
    // SAFETY: the name ends with NUL; without a buffer the kernel only returns the length.
    unsafe { syscall!(nr::FGETXATTR, descriptor, name.as_ptr(), 0, 0) }.is_ok_and(|length| length > 0)
}
