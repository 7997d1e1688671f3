//! Calls about files and descriptors: offsets, statuses, locks, vectors, sets of descriptors, directories,
//! ioctl, asynchronous transfers.

use super::interfaces;
use super::words::{Timeout, Width, read, write};
use crate::arch::call::Row;
use crate::arch::{Abi, HostStat};
use crate::calls::files;
use crate::calls::host::{after_mask, host, host32, with_mask};
use crate::guest;
use crate::own_executable;
use crate::region;
use crate::sys::call::nr;
use crate::sys::{Errno, errno};
use crate::thread::Thread;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

/// Largest offset of calls with 32 bits.
const OFFSET_MAX: i64 = i32::MAX as i64;

/// Writes a `struct stat64` (Linux, arch/arm/include/uapi/asm/stat.h), of 104 bytes.
pub(super) fn put_stat64(s: &HostStat, at: u64) -> Result<(), Errno> {
    let pair = |low: u64, high: u64| low & 0xffff_ffff | high << 32;
    let words = [
        s[0],
        pair(0, s[1]),
        pair(s[3], s[2]),
        pair(s[3] >> 32, s[4]),
        s[5],
        0,
        s[6],
        pair(s[7], 0),
        s[8],
        pair(s[9], s[10]),
        pair(s[11], s[12]),
        pair(s[13], s[14]),
        s[1],
    ];
    guest::write_words(at, &words)
}

/// Writes the older `struct stat`, of 64 bytes.
fn put_stat(s: &HostStat, at: u64) -> Result<(), Errno> {
    let fits = |value: u64| value <= u32::MAX.into();
    if s[6] as i64 > OFFSET_MAX || !fits(s[1]) || !fits(s[0]) {
        return Err(errno::EOVERFLOW);
    }
    let halves = |low: u64, high: u64| low & 0xffff | (high & 0xffff) << 16;
    let short = |id: u64| if id as u32 > 0xffff { 0xfffe } else { id };
    let words = [
        s[0],
        s[1],
        halves(s[3], s[2]),
        halves(short(s[3] >> 32), short(s[4])),
        s[5],
        s[6],
        s[7],
        s[8],
        s[9],
        s[10],
        s[11],
        s[12],
        s[13],
        s[14],
        0,
        0,
    ];
    write(at, &words)
}

/// stat(2) and lstat(2) with the older structure.
pub(super) fn old_stat(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    put_stat(&files::status_at(thread, a)?, a[2]).map(|()| 0)
}

/// fstat(2) with the older structure.
pub(super) fn old_fstat(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    put_stat(&files::status(thread, a[0])?, a[1]).map(|()| 0)
}

/// A struct statfs of the host: type, block size, three numbers of blocks, two of files, id, length of names,
/// fragment size, flags, four unused.
type HostStatfs = [u64; 15];

fn host_statfs(thread: &Thread, row: &Row, file: u64) -> Result<HostStatfs, Errno> {
    let mut words = HostStatfs::default();
    host(thread, u64::from(row.host), &[file, words.as_mut_ptr() as u64, 0, 0, 0, 0])?;
    Ok(words)
}

/// statfs(2) and fstatfs(2) with numbers of 32 bits.
pub(super) fn statfs(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let s = host_statfs(thread, row, a[0])?;
    let fits = |value: u64| value <= u32::MAX.into() || value == u64::MAX;
    if !s[1..7].iter().all(|&value| fits(value)) {
        return Err(errno::EOVERFLOW);
    }
    let words = [s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[7] >> 32, s[8], s[9], s[10], 0, 0, 0, 0];
    write(a[1], &words).map(|()| 0)
}

/// statfs64(2) and fstatfs64(2): the structure has 84 bytes, and programs may say 88 (Linux,
/// arch/arm/kernel/sys_oabi-compat.c and sys_arm.c).
pub(super) fn statfs64(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[1] != 84 && a[1] != 88 {
        return Err(errno::EINVAL);
    }
    let s = host_statfs(thread, row, a[0])?;
    let mut words = [0; 21];
    words[..2].copy_from_slice(&s[..2]);
    for (pair, value) in words[2..14].as_chunks_mut::<2>().0.iter_mut().zip(&s[2..8]) {
        *pair = [*value, *value >> 32];
    }
    words[14..17].copy_from_slice(&s[8..11]);
    write(a[2], &words).map(|()| 0)
}

/// lseek(2).
pub(super) fn lseek(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let position = unfolded(thread, a[0], a[1], a[2]);
    match host(thread, u64::from(row.host), &[a[0], position, a[2], 0, 0, 0])? {
        at if position != a[1] => Ok(at >> FOLD),
        at if at > OFFSET_MAX => Err(errno::EOVERFLOW),
        at => Ok(at),
    }
}

/// _llseek(2): the offset's high half comes first.
pub(super) fn llseek(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let position = unfolded(thread, a[0], a[1] << 32 | a[2], a[4]);
    let mut at = host(thread, u64::from(row.host), &[a[0], position, a[4], 0, 0, 0])? as u64;
    if position != a[1] << 32 | a[2] {
        at >>= FOLD;
    }
    guest::write64(a[3], at).map(|()| 0)
}

/// sendfile(2).
pub(super) fn sendfile(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[2] == 0 {
        return host(thread, u64::from(row.host), a);
    }
    let mut offset = [0];
    read(a[2], &mut offset)?;
    let result = host(thread, u64::from(row.host), &[a[0], a[1], offset.as_mut_ptr() as u64, a[3], 0, 0]);
    write(a[2], &offset)?;
    result
}

/// dup2(2), which may ask for our own descriptor.
pub(super) fn dup2(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    if own_executable::is_own(a[1]) {
        own_executable::move_descriptor();
    }
    host(thread, nr::DUP2, a)
}

/// fcntl(2) and fcntl64(2): locks with offsets of 32 bits have numbers that the host uses for 64 bits.
pub(super) fn fcntl<A: Abi>(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    const F_GETLK: u64 = 5;
    const F_SETLKW: u64 = 7;
    const F_GETLK64: u64 = 12;
    const F_SETLKW64: u64 = 14;
    match a[1] {
        F_GETLK..=F_SETLKW => lock(thread, a, a[1] == F_GETLK),
        F_GETLK64..=F_SETLKW64 => host(thread, nr::FCNTL, &[a[0], a[1] - F_GETLK64 + F_GETLK, a[2], 0, 0, 0]),
        _ => files::fcntl::<A>(thread, a),
    }
}

/// A lock with a `struct flock` of 16 bytes: type and whence, start, length, process.
fn lock(thread: &Thread, a: &[u64; 6], asks: bool) -> Result<i64, Errno> {
    let mut words = [0; 4];
    read(a[2], &mut words)?;
    words[0] &= 0xffff_ffff;
    let result = host(thread, nr::FCNTL, &[a[0], a[1], words.as_mut_ptr() as u64, 0, 0, 0])?;
    if asks {
        if words[1] as i64 > OFFSET_MAX || words[2] as i64 > OFFSET_MAX {
            return Err(errno::EOVERFLOW);
        }
        write(a[2], &words)?;
    }
    Ok(result)
}

/// Largest number of pieces of an iovec (Linux, UIO_MAXIOV).
const PIECES_MAX: u64 = 1024;

/// The host's form of an iovec of `count` pieces.
pub(super) fn vector(at: u64, count: u64) -> Result<Vec<u64>, Errno> {
    if count > PIECES_MAX {
        return Err(errno::EINVAL);
    }
    let mut words = Vec::with_capacity(2 * count as usize);
    for n in 0..count {
        let [base, length] = guest::read_pointers(at.wrapping_add(8 * n), 4)?;
        if length > i32::MAX as u64 {
            return Err(errno::EINVAL);
        }
        words.extend([base, length]);
    }
    Ok(words)
}

/// A pointer for the host in place of one to a structure that cannot be read: the kernel refuses it, too, in
/// its usual order of checks.
pub(super) fn refused() -> u64 {
    region::start()
}

/// readv(2) and its like: the second and third argument are an iovec.
pub(super) fn vector_call(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let vector = match vector(a[1], a[2] & 0xffff_ffff) {
        Err(errno::EFAULT) => {
            return host(thread, u64::from(row.host), &[a[0], refused(), a[2], a[3], a[4], a[5]]);
        }
        other => other?,
    };
    host(thread, u64::from(row.host), &[a[0], vector.as_ptr() as u64, a[2], a[3], a[4], a[5]])
}

/// process_vm_readv(2), process_vm_writev(2).
pub(super) fn process_vm(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let (local, remote) = (vector(a[1], a[2] & 0xffff_ffff)?, vector(a[3], a[4] & 0xffff_ffff)?);
    let with = [a[0], local.as_ptr() as u64, a[2], remote.as_ptr() as u64, a[4], a[5]];
    host(thread, u64::from(row.host), &with)
}

/// A set of descriptors: the host reads and writes multiples of 8 bytes, the guest of 4.
struct Set {
    at: u64,
    bytes: Vec<u8>,
    length: usize,
}

impl Set {
    fn read(at: u64, count: u64) -> Result<Set, Errno> {
        let length = count.div_ceil(32) as usize * 4;
        let mut bytes = alloc::vec![0; length.next_multiple_of(8)];
        if at != 0 {
            guest::read(at, &mut bytes[..length])?;
        }
        Ok(Set { at, bytes, length })
    }

    fn pointer(&mut self) -> u64 {
        if self.at == 0 { 0 } else { self.bytes.as_mut_ptr() as u64 }
    }

    fn give_back(&self) -> Result<(), Errno> {
        if self.at == 0 { Ok(()) } else { guest::write(self.at, &self.bytes[..self.length]) }
    }
}

/// Reads the three sets of select(2), makes the call with pointers to copies, and gives the results back.
fn with_sets(a: &[u64; 6], call: impl FnOnce([u64; 4]) -> Result<i64, Errno>) -> Result<i64, Errno> {
    /// More descriptors than a process may have (Linux, sysctl_nr_open_max).
    const DESCRIPTORS_MAX: u64 = 1 << 26;
    if (a[0] as i32) < 0 || a[0] > DESCRIPTORS_MAX {
        return Err(errno::EINVAL);
    }
    let [mut read, mut write, mut except] =
        [Set::read(a[1], a[0])?, Set::read(a[2], a[0])?, Set::read(a[3], a[0])?];
    let result = call([a[0], read.pointer(), write.pointer(), except.pointer()])?;
    for set in [read, write, except] {
        set.give_back()?;
    }
    Ok(result)
}

/// select(2).
pub(super) fn select(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut timeout = Timeout::read(a[4], Width::Narrow)?;
    let result = with_sets(a, |[count, read, write, except]| {
        host(thread, u64::from(row.host), &[count, read, write, except, timeout.pointer(), 0])
    });
    timeout.give_back();
    result
}

/// pselect6(2): the sixth argument points to the address and the size of a mask.
pub(super) fn pselect6(thread: &mut Thread, a: &[u64; 6], width: Width) -> Result<i64, Errno> {
    let mut timeout = Timeout::read(a[4], width)?;
    let [set, size] = if a[5] == 0 { [0, 0] } else { guest::read_pointers(a[5], 4)? };
    let mask = with_mask(thread, set, size)?;
    let pair = [mask.as_ref().map_or(0, |mask| &raw const *mask as u64), 8u64];
    let result = with_sets(a, |[count, read, write, except]| {
        let with = [count, read, write, except, timeout.pointer(), pair.as_ptr() as u64];
        host(thread, nr::PSELECT6, &with)
    });
    timeout.give_back();
    after_mask(thread, result)
}

/// ppoll(2).
pub(super) fn ppoll(thread: &mut Thread, a: &[u64; 6], width: Width) -> Result<i64, Errno> {
    let mut timeout = Timeout::read(a[2], width)?;
    let result = files::ppoll(thread, &[a[0], a[1], timeout.pointer(), a[3], a[4], 0]);
    timeout.give_back();
    result
}

/// epoll_pwait2(2): the fourth argument is a time.
pub(super) fn epoll_pwait2(thread: &mut Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut timeout = Timeout::read(a[3], Width::Wide)?;
    let with = [a[0], a[1], a[2], timeout.pointer(), a[4], a[5]];
    files::epoll_wait(thread, u64::from(row.host), &with)
}

// Numbers of i386 (asm/unistd_32.h).
const IOCTL: u64 = 54;
const GETDENTS64: u64 = 220;

/// getdents(2), with inodes and positions of 32 bits: entries of getdents64, which are longer, made shorter
/// in their place.
pub(super) fn getdents(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    // struct linux_dirent64: d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name.
    // struct linux_dirent: d_ino 4, d_off 4, d_reclen 2, d_name, d_type in the last byte.
    const NAME: u64 = 10;
    let end = a[1].wrapping_add(getdents64(thread, a)? as u64);
    let (mut from, mut to) = (a[1], a[1]);
    while from < end {
        let [inode, position, sizes] = guest::read_words(from)?;
        let (length, kind) = (sizes & 0xffff, sizes >> 16 & 0xff);
        if inode > u32::MAX.into() || length < 24 {
            return Err(errno::EOVERFLOW);
        }
        let name = guest::read_string(from + 19, length as usize - 19, errno::EINVAL)?;
        let shorter = (NAME + name.len() as u64 + 1).next_multiple_of(4);
        guest::write32(to, inode as u32)?;
        guest::write32(to + 4, position as u32)?;
        guest::write(to + 8, &(shorter as u16).to_le_bytes())?;
        guest::write(to + NAME, &name)?;
        guest::write(to + shorter - 1, &[kind as u8])?;
        (from, to) = (from + length, to + shorter);
    }
    Ok((to - a[1]) as i64)
}

/// getdents64(2). Positions in directories of ext4 are hashes, of 64 bits for 64-bit programs; 32-bit ones
/// often can use 32 bits only, which they get as 32-bit programs of the host do.
pub(super) fn getdents64(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    files::directory(a, &|| match host32(thread, GETDENTS64, a) {
        Err(errno::ENOSYS) => {
            let length = host(thread, nr::GETDENTS64, a)?;
            fold_positions(a[1], length as u64).map(|()| length)
        }
        other => other,
    })
}

/// Whether positions of entries were ever folded.
static FOLDED: AtomicBool = AtomicBool::new(false);
/// A position of ext4 is a hash of 31 bits, and another of 32 below it; of the first, 32-bit programs see the
/// high 30 (Linux, fs/ext4/dir.c, hash2pos).
const FOLD: u32 = 33;
/// Positions that are no hashes are small.
const HASH_MIN: u64 = 1 << 16;

/// Replaces the positions of entries that 32-bit programs cannot use.
fn fold_positions(at: u64, length: u64) -> Result<(), Errno> {
    // struct linux_dirent64: d_ino 8, d_off 8, d_reclen 2.
    let mut offset = 0;
    while offset < length {
        let entry = at.wrapping_add(offset);
        let position = guest::read64(entry.wrapping_add(8))?;
        if position > OFFSET_MAX as u64 {
            FOLDED.store(true, Ordering::Relaxed);
            guest::write64(entry.wrapping_add(8), position >> FOLD)?;
        }
        offset += u64::from(guest::read32(entry.wrapping_add(16))? & 0xffff).max(1);
    }
    Ok(())
}

/// The host's position for one that a program seeks to.
fn unfolded(thread: &Thread, descriptor: u64, position: u64, whence: u64) -> u64 {
    const SEEK_SET: u64 = 0;
    const S_IFMT: u64 = 0o170_000;
    const S_IFDIR: u64 = 0o040_000;
    let is_directory = || files::status(thread, descriptor).is_ok_and(|stat| stat[3] & S_IFMT == S_IFDIR);
    let may_be = FOLDED.load(Ordering::Relaxed) && whence == SEEK_SET;
    if may_be && (HASH_MIN..=OFFSET_MAX as u64).contains(&position) && is_directory() {
        position << FOLD
    } else {
        position
    }
}

/// ioctl(2). The host's kernel converts the structures of 32-bit programs; terminals have none to convert. A
/// driver that converts nothing has structures without pointers and `long`s, as a rule.
pub(super) fn ioctl(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    const TERMINAL: u64 = 0x54;
    if a[1] >> 8 & 0xff == TERMINAL {
        return files::ioctl(thread, a);
    }
    let converted = match host32(thread, IOCTL, a) {
        Err(errno::ENOTTY) => None,
        Err(errno::ENOSYS) => interfaces::ioctl(thread, a),
        other => Some(other),
    };
    converted.unwrap_or_else(|| files::ioctl(thread, a))
}

/// io_setup(2): the kernel's context is an address in the guest's part of memory.
pub(super) fn io_setup(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut context = u64::from(guest::read32(a[1])?);
    let result = host(thread, u64::from(row.host), &[a[0], &raw mut context as u64, 0, 0, 0, 0])?;
    guest::write32(a[1], context as u32)?;
    Ok(result)
}

/// io_submit(2): an array of pointers to struct iocb, whose fields have 64 bits everywhere.
pub(super) fn io_submit(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    const BLOCKS_MAX: i64 = 1 << 16;
    let count = (a[1] as i64).min(BLOCKS_MAX);
    let mut blocks = Vec::new();
    for n in 0..count.max(0) as u64 {
        blocks.push(u64::from(guest::read32(a[2].wrapping_add(4 * n))?));
    }
    host(thread, u64::from(row.host), &[a[0], count as u64, blocks.as_ptr() as u64, 0, 0, 0])
}

/// io_getevents(2).
pub(super) fn io_getevents(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut timeout = Timeout::read(a[4], Width::Narrow)?;
    host(thread, u64::from(row.host), &[a[0], a[1], a[2], a[3], timeout.pointer(), 0])
}

/// io_pgetevents(2): the sixth argument points to the address and the size of a mask.
pub(super) fn io_pgetevents(
    thread: &mut Thread,
    row: &Row,
    a: &[u64; 6],
    width: Width,
) -> Result<i64, Errno> {
    let mut timeout = Timeout::read(a[4], width)?;
    let [set, size] = if a[5] == 0 { [0, 0] } else { guest::read_pointers(a[5], 4)? };
    let mask = with_mask(thread, set, size)?;
    let pair = [mask.as_ref().map_or(0, |mask| &raw const *mask as u64), 8u64];
    let with = [a[0], a[1], a[2], a[3], timeout.pointer(), pair.as_ptr() as u64];
    let result = host(thread, u64::from(row.host), &with);
    after_mask(thread, result)
}
