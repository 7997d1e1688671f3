//! Files and descriptors: flags and layouts that differ from the host's, the emulator's own descriptor, files
//! of /proc.

use super::host::{after_mask, host, with_mask};
use super::indirect;
use crate::arch::call::{Call, Row};
use crate::arch::{Abi, HostStat};
use crate::guest;
use crate::own_executable;
use crate::proc;
use crate::region;
use crate::sys::file::{self, AT_FDCWD, Fd};
use crate::sys::{Errno, errno, nr};
use crate::sysroot;
use crate::thread::Thread;
use alloc::vec::Vec;

/// Answers a call that only reads and whose path is in the sysroot.
pub(super) fn in_sysroot<A: Abi>(thread: &Thread, row: &Row, a: &[u64; 6]) -> Option<Result<i64, Errno>> {
    const O_ACCMODE: u64 = 3;
    const O_CREAT: u64 = 0o100;
    const O_NOFOLLOW: u64 = 0o400_000;
    let index = if row.call == Call::Statfs { 0 } else { 1 };
    let flags = match row.call {
        Call::Openat if a[2] & (O_ACCMODE | O_CREAT) == 0 => {
            if to_host::<A>(a[2]) & O_NOFOLLOW == 0 {
                0
            } else {
                AT_SYMLINK_NOFOLLOW
            }
        }
        Call::Fstatat | Call::Faccessat2 => a[3],
        Call::Statx => a[2],
        Call::Readlinkat => AT_SYMLINK_NOFOLLOW,
        Call::Faccessat | Call::Statfs => 0,
        _ => return None,
    };
    let path = guest::read_path(a[index]).ok()?;
    let real = sysroot::lookup(&path, flags & AT_SYMLINK_NOFOLLOW == 0)?;
    let mut with = *a;
    with[index] = real.as_ptr() as u64;
    Some(match row.call {
        Call::Openat => host(thread, nr::OPENAT, &[a[0], with[1], to_host::<A>(a[2]), a[3], 0, 0]),
        Call::Fstatat => fstatat::<A>(thread, &with),
        _ => host(thread, u64::from(row.host), &with),
    })
}

/// The O_ flags in `flags`, of which `pairs` have other bits on the other side: from, to.
fn moved(flags: u64, pairs: impl Iterator<Item = (u64, u64)> + Clone) -> u64 {
    let same = pairs.clone().fold(flags, |rest, (from, _)| rest & !from);
    pairs.fold(same, |all, (from, to)| if flags & from != 0 { all | to } else { all })
}

/// O_ flags of the guest, for the host.
pub(super) fn to_host<A: Abi>(flags: u64) -> u64 {
    moved(flags, A::OPEN_FLAGS.iter().copied())
}

/// O_ flags of the host, for the guest.
fn to_guest<A: Abi>(flags: u64) -> u64 {
    moved(flags, A::OPEN_FLAGS.iter().map(|&(guest, host)| (host, guest)))
}

/// The path at `address`, if it starts with /proc/: only such paths are read.
fn special(address: u64) -> Option<Vec<u8>> {
    let start = guest::read64(address).ok()?.to_le_bytes();
    start.starts_with(b"/proc/").then(|| guest::read_path(address).ok()).flatten()
}

/// openat(2).
pub(super) fn openat<A: Abi>(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let flags = to_host::<A>(a[2]);
    if A::MACHINE.word() == 8 || flags & (O_LARGEFILE | O_PATH) != 0 {
        return open_path::<A>(thread, a);
    }
    if flags & O_TRUNC != 0
        && status_at(thread, &[a[0], a[1], 0, 0, 0, 0]).is_ok_and(|s| is_large(s[3], s[6]))
    {
        return Err(errno::EOVERFLOW);
    }
    let opened = open_path::<A>(thread, a)?;
    check_size(opened)?;
    Ok(opened)
}

const O_TRUNC: u64 = 0o1000;
const O_LARGEFILE: u64 = 0o100_000;
const O_PATH: u64 = 0o10_000_000;

/// Whether a file of this mode and size is regular, and larger than offsets of 32 bits reach.
fn is_large(mode: u64, size: u64) -> bool {
    const S_IFMT: u64 = 0o170_000;
    const S_IFREG: u64 = 0o100_000;
    mode & S_IFMT == S_IFREG && size > i32::MAX as u64
}

/// Closes a file that is larger than a 32-bit program can handle that does not ask for large files (open(2),
/// O_LARGEFILE); for the host, which has 64 bits, all programs ask.
fn check_size(descriptor: i64) -> Result<(), Errno> {
    let status = file::status(descriptor as i32)?;
    if is_large(status.mode.into(), status.size) {
        drop(Fd::from_number(descriptor as i32));
        return Err(errno::EOVERFLOW);
    }
    Ok(())
}

fn open_path<A: Abi>(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    if let Some(path) = special(a[1]) {
        if a[2] & 3 != 0 {
            indirect::opened(&path);
        }
        if let Some(file) = proc::file(&path) {
            return open_special::<A>(thread, file, to_host::<A>(a[2]));
        }
        if let Some(path) = proc::followed_exe(&path) {
            return host(thread, nr::OPENAT, &[a[0], path.as_ptr() as u64, to_host::<A>(a[2]), a[3], 0, 0]);
        }
    }
    host(thread, nr::OPENAT, &[a[0], a[1], to_host::<A>(a[2]), a[3], 0, 0])
}

fn open_special<A: Abi>(thread: &Thread, file: proc::File, flags: u64) -> Result<i64, Errno> {
    match file {
        proc::File::Exe => {
            let path = proc::exe_path();
            host(thread, nr::OPENAT, &[AT_FDCWD as u64, path.as_ptr() as u64, flags, 0, 0, 0])
        }
        _ if flags & 3 != 0 => Err(errno::EACCES),
        file => proc::open::<A>(file, flags),
    }
}

pub(super) fn openat2<A: Abi>(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let size = a[3];
    if size < 24 {
        return Err(errno::EINVAL);
    }
    if size > 4096 {
        return Err(errno::E2BIG);
    }
    let mut how = alloc::vec![0u8; size as usize];
    guest::read(a[2], &mut how)?;
    let flags = guest::read64(a[2])?;
    if flags & 3 != 0
        && let Some(path) = special(a[1])
    {
        indirect::opened(&path);
    }
    how[..8].copy_from_slice(&to_host::<A>(flags).to_le_bytes());
    let opened = host(thread, nr::OPENAT2, &[a[0], a[1], how.as_ptr() as u64, size, 0, 0]);
    // The kernel decides whether the path may be followed as requested (RESOLVE_NO_MAGICLINKS and others).
    if let Some(path) = special(a[1])
        && let Some(file) = proc::file(&path)
        && (opened.is_ok() || opened == Err(errno::EACCES))
    {
        if let Ok(descriptor) = opened {
            drop(Fd::from_number(descriptor as i32));
        }
        return open_special::<A>(thread, file, to_host::<A>(flags));
    }
    opened
}

/// ioctl on `/proc/PID/maps`: asks for the mapping at an address (Linux 6.11, include/uapi/linux/fs.h).
const PROCMAP_QUERY: u32 = 0xc068_6611;

/// Answers the query for the file that we have created of our own mappings.
fn procmap_query(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    // struct procmap_query, in words: its size, flags, address; start, end, flags, page size, offset, inode,
    // device, sizes of the name and the build id, addresses to write them to.
    const START: usize = 3;
    const END: usize = 4;
    const SIZES: usize = 10;
    const NAME: usize = 11;
    const WORDS: usize = 13;
    let is_ours = file::link_of(a[0] as i32).is_some_and(|link| link.starts_with(proc::MAPS_LINK));
    if !is_ours {
        return host(thread, nr::IOCTL, a);
    }
    let own = file::open(AT_FDCWD, b"/proc/self/maps\0", 0)?;
    let query = |at: u64| host(thread, nr::IOCTL, &[own.number() as u64, a[1], at, 0, 0, 0]);
    let words = guest::read_words::<WORDS>(a[2]);
    let Some(mut words) = words.ok().filter(|words| words[0] == 8 * WORDS as u64) else {
        // Shorter structures have no fields that we would change; the kernel refuses longer ones.
        return query(a[2]);
    };
    let wanted = words[SIZES] as u32;
    let result = query(words.as_mut_ptr() as u64)?;
    if words[START] >= region::limit() {
        return Err(errno::ENOENT);
    }
    let name = proc::name_of(words[START], words[END]);
    if words[SIZES] as u32 == 0 && wanted as usize > name.len() && !name.is_empty() {
        guest::write(words[NAME], &[name.as_bytes(), b"\0"].concat())?;
        words[SIZES] |= name.len() as u64 + 1;
    }
    guest::write_words(a[2], &words)?;
    Ok(result)
}

pub(super) fn dup3(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    if own_executable::is_own(a[1]) {
        own_executable::move_descriptor();
    }
    host(thread, nr::DUP3, a)
}

/// fcntl(2).
pub(crate) fn fcntl<A: Abi>(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    const F_GETFL: u64 = 3;
    const F_SETFL: u64 = 4;
    match a[1] as u32 as u64 {
        F_GETFL => host(thread, nr::FCNTL, a).map(|flags| to_guest::<A>(flags as u64) as i64),
        F_SETFL => host(thread, nr::FCNTL, &[a[0], a[1], to_host::<A>(a[2]), 0, 0, 0]),
        _ => host(thread, nr::FCNTL, a),
    }
}

/// getdents64(2): /proc/self/fd does not list our own descriptor.
pub(super) fn getdents64(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    directory(a, &|| host(thread, nr::GETDENTS64, a))
}

/// [`getdents64`], by a call that reads the next entries into the guest's memory.
pub(crate) fn directory(a: &[u64; 6], next: &dyn Fn() -> Result<i64, Errno>) -> Result<i64, Errno> {
    // struct linux_dirent64: d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name.
    let length = next()?;
    let own = alloc::format!("{}\0", own_executable::descriptor());
    let (mut at, end) = (a[1], a[1].wrapping_add(length as u64));
    while at < end {
        let size = u64::from(guest::read32(at + 16)? & 0xffff);
        let mut name = [0; 12];
        guest::read(at + 19, &mut name[..own.len()])?;
        if name.starts_with(own.as_bytes())
            && file::link_of(a[0] as i32)
                .is_some_and(|link| link.starts_with(b"/proc/") && link.ends_with(b"/fd"))
        {
            let mut rest = alloc::vec![0; (end - at - size) as usize];
            guest::read(at + size, &mut rest)?;
            guest::write(at, &rest)?;
            return if length as u64 == size { directory(a, next) } else { Ok(length - size as i64) };
        }
        at += size.max(24);
    }
    Ok(length)
}

/// close_range(2), around our own descriptor.
pub(super) fn close_range(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let (first, last) = (a[0] as u32, a[1] as u32);
    let own = own_executable::descriptor();
    let part = |first: u32, last: u32| {
        host(thread, nr::CLOSE_RANGE, &[u64::from(first), u64::from(last), a[2], 0, 0, 0])
    };
    if own < 0 || first > last || !(first..=last).contains(&(own as u32)) {
        return part(first, last);
    }
    let own = own as u32;
    if first < own {
        part(first, own - 1)?;
    }
    if own < last {
        part(own + 1, last)?;
    }
    Ok(0)
}

/// fstat(2).
pub(super) fn fstat<A: Abi>(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    A::put_stat(&status(thread, a[0])?, a[1]).map(|()| 0)
}

/// The status of an open file.
pub(crate) fn status(thread: &Thread, descriptor: u64) -> Result<HostStat, Errno> {
    let mut stat: HostStat = [0; 18];
    host(thread, nr::FSTAT, &[descriptor, stat.as_mut_ptr() as u64, 0, 0, 0, 0])?;
    Ok(stat)
}

/// ioctl(2).
pub(crate) fn ioctl(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[1] as u32 == PROCMAP_QUERY { procmap_query(thread, a) } else { host(thread, nr::IOCTL, a) }
}

const AT_SYMLINK_NOFOLLOW: u64 = 0x100;

pub(super) fn fstatat<A: Abi>(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    A::put_stat(&status_at(thread, a)?, a[2]).map(|()| 0)
}

/// The status of a file by directory, path and flags (fstatat(2)), the first, second and fourth argument.
pub(crate) fn status_at(thread: &Thread, a: &[u64; 6]) -> Result<HostStat, Errno> {
    let mut stat: HostStat = [0; 18];
    let own = own_exe(a[1], a[3]);
    let path = own.as_ref().map_or(a[1], |path| path.as_ptr() as u64);
    host(thread, nr::NEWFSTATAT, &[a[0], path, stat.as_mut_ptr() as u64, a[3], 0, 0])?;
    Ok(stat)
}

/// The program's path, if `path` is followed and is the exe link of a program that an emulator runs.
fn own_exe(path: u64, flags: u64) -> Option<Vec<u8>> {
    if flags & AT_SYMLINK_NOFOLLOW != 0 {
        return None;
    }
    special(path).and_then(|path| proc::followed_exe(&path))
}

/// statx(2), faccessat(2) and faccessat2(2): their path may be /proc/self/exe.
pub(super) fn with_exe(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let flags = match row.call {
        Call::Statx => a[2],
        Call::Faccessat => 0,
        _ => a[3],
    };
    let own = own_exe(a[1], flags);
    let path = own.as_ref().map_or(a[1], |path| path.as_ptr() as u64);
    host(thread, u64::from(row.host), &[a[0], path, a[2], a[3], a[4], a[5]])
}

/// readlinkat(2): the link of /proc/self/exe leads to the guest's program.
pub(super) fn readlinkat(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    match own_exe(a[1], 0) {
        Some(target) => {
            if a[3] as i32 <= 0 {
                return Err(errno::EINVAL);
            }
            let length = (target.len() - 1).min(a[3] as usize);
            guest::write(a[2], &target[..length])?;
            Ok(length as i64)
        }
        _ => host(thread, nr::READLINKAT, a),
    }
}

/// epoll_ctl(2): struct epoll_event is packed on x86-64 only.
pub(super) fn epoll_ctl(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    const EPOLL_CTL_DEL: u64 = 2;
    if a[1] as u32 as u64 == EPOLL_CTL_DEL {
        return host(thread, nr::EPOLL_CTL, &[a[0], a[1], a[2], 0, 0, 0]);
    }
    let mut event = [0u8; 12];
    event[..4].copy_from_slice(&guest::read32(a[3])?.to_le_bytes());
    event[4..].copy_from_slice(&guest::read64(a[3].wrapping_add(8))?.to_le_bytes());
    host(thread, nr::EPOLL_CTL, &[a[0], a[1], a[2], event.as_ptr() as u64, 0, 0])
}

/// epoll_pwait(2), epoll_pwait2(2). The host writes its 12-byte events to the guest's array, which is large
/// enough; then they are spread out, last to first.
pub(crate) fn epoll_wait(thread: &mut Thread, call: u64, a: &[u64; 6]) -> Result<i64, Errno> {
    let mask = with_mask(thread, a[4], a[5])?;
    let pointer = mask.as_ref().map_or(0, |mask| &raw const *mask as u64);
    let result = host(thread, call, &[a[0], a[1], a[2], a[3], pointer, 8]);
    let count = after_mask(thread, result)?;
    for n in (0..count as u64).rev() {
        let events = guest::read32(a[1] + 12 * n)?;
        let mut data = [0; 8];
        guest::read(a[1] + 12 * n + 4, &mut data)?;
        guest::write64(a[1] + 16 * n + 8, u64::from_le_bytes(data))?;
        guest::write64(a[1] + 16 * n, u64::from(events))?;
    }
    Ok(count)
}

/// ppoll(2).
pub(crate) fn ppoll(thread: &mut Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let mask = with_mask(thread, a[3], a[4])?;
    let pointer = mask.as_ref().map_or(0, |mask| &raw const *mask as u64);
    let result = host(thread, nr::PPOLL, &[a[0], a[1], a[2], pointer, 8, 0]);
    after_mask(thread, result)
}

/// Calls whose sixth argument points to a mask and its size.
pub(super) fn with_mask_pointer(thread: &mut Thread, call: u64, a: &[u64; 6]) -> Result<i64, Errno> {
    let [set, size] = if a[5] == 0 { [0, 0] } else { guest::read_words::<2>(a[5])? };
    let mask = with_mask(thread, set, size)?;
    let pair = [mask.as_ref().map_or(0, |mask| &raw const *mask as u64), 8u64];
    let result = host(thread, call, &[a[0], a[1], a[2], a[3], a[4], pair.as_ptr() as u64]);
    after_mask(thread, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::arm64::Arm64;

    #[test]
    fn open_flags_move_both_ways() {
        // O_RDWR | O_DIRECTORY | O_CLOEXEC; O_TMPFILE contains O_DIRECTORY.
        assert_eq!(to_host::<Arm64>(0o2_040_002), 0o2_200_002);
        assert_eq!(to_host::<Arm64>(0o20_040_000), 0o20_200_000);
        for flags in [0o740_000, 0o400_001, 0o2_100_000] {
            assert_eq!(to_guest::<Arm64>(to_host::<Arm64>(flags)), flags);
        }
    }
}
