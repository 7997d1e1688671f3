//! Files and descriptors: flags and layouts that differ from the host's, the emulator's own descriptor, files
//! of /proc.

use super::{after_mask, host, indirect, number, with_mask};
use crate::exec;
use crate::guest;
use crate::options;
use crate::proc;
use crate::program;
use crate::region;
use crate::sys::{errno, nr};
use crate::syscall;
use crate::sysroot;
use crate::task::Task;
use alloc::vec::Vec;

macro_rules! calls {
    ($($constant:ident $name:literal)*) => { $(const $constant: u64 = number($name);)* };
}

calls! {
    CLOSE_RANGE "close_range" DUP3 "dup3" EPOLL_CTL "epoll_ctl" EPOLL_PWAIT "epoll_pwait"
    EPOLL_PWAIT2 "epoll_pwait2" FANOTIFY_INIT "fanotify_init" FCNTL "fcntl" FSTAT "fstat" GETDENTS64 "getdents64" IOCTL "ioctl" FSTATAT "newfstatat"
    IO_PGETEVENTS "io_pgetevents" OPEN_BY_HANDLE_AT "open_by_handle_at" OPENAT "openat" OPENAT2 "openat2"
    PIPE2 "pipe2" PPOLL "ppoll" PSELECT6 "pselect6" READLINKAT "readlinkat" STATX "statx" FACCESSAT "faccessat"
    FACCESSAT2 "faccessat2" STATFS "statfs"
}

/// Answers a call of this family that differs from the host's; `None` for others.
pub(super) fn dispatch(task: &mut Task, call: u64, a: &[u64; 6]) -> Option<Result<i64, i64>> {
    if !options::get().sysroot.is_empty()
        && let Some(result) = in_sysroot(task, call, a)
    {
        return Some(result);
    }
    Some(match call {
        OPENAT => openat(task, a),
        OPENAT2 => openat2(task, a),
        GETDENTS64 => getdents64(task, a),
        DUP3 => dup3(task, a),
        FCNTL => fcntl(task, a),
        CLOSE_RANGE => close_range(task, a),
        FSTAT => {
            let mut stat = [0u64; 18];
            host(task, nr::FSTAT, &[a[0], stat.as_mut_ptr() as u64, 0, 0, 0, 0])
                .and_then(|_| put_stat(&stat, a[1]))
        }
        FSTATAT => fstatat(task, a),
        IOCTL if a[1] as u32 == PROCMAP_QUERY => procmap_query(task, a),
        STATX | FACCESSAT | FACCESSAT2 => with_exe(task, call, a)?,
        READLINKAT => readlinkat(task, a),
        EPOLL_CTL => epoll_ctl(task, a),
        EPOLL_PWAIT => epoll_wait(task, nr::EPOLL_PWAIT, a),
        EPOLL_PWAIT2 => epoll_wait(task, nr::EPOLL_PWAIT2, a),
        PPOLL => ppoll(task, a),
        PSELECT6 => pselect6(task, a),
        IO_PGETEVENTS if a[5] == 0 => return None,
        IO_PGETEVENTS => with_mask_pointer(task, nr::IO_PGETEVENTS, a),
        PIPE2 => host(task, nr::PIPE2, &[a[0], to_host(a[1]), 0, 0, 0, 0]),
        FANOTIFY_INIT => host(task, nr::FANOTIFY_INIT, &[a[0], to_host(a[1]), 0, 0, 0, 0]),
        OPEN_BY_HANDLE_AT => host(task, nr::OPEN_BY_HANDLE_AT, &[a[0], a[1], to_host(a[2]), 0, 0, 0]),
        _ => return None,
    })
}

/// Answers a call that only reads and whose path is in the sysroot.
fn in_sysroot(task: &Task, call: u64, a: &[u64; 6]) -> Option<Result<i64, i64>> {
    const O_ACCMODE: u64 = 3;
    const O_CREAT: u64 = 0o100;
    const O_NOFOLLOW: u64 = 0o400_000;
    let index = if call == STATFS { 0 } else { 1 };
    let flags = match call {
        OPENAT if a[2] & (O_ACCMODE | O_CREAT) == 0 => {
            if to_host(a[2]) & O_NOFOLLOW == 0 {
                0
            } else {
                AT_SYMLINK_NOFOLLOW
            }
        }
        FSTATAT | FACCESSAT2 => a[3],
        STATX => a[2],
        READLINKAT => AT_SYMLINK_NOFOLLOW,
        FACCESSAT | STATFS => 0,
        _ => return None,
    };
    let path = guest::read_path(a[index]).ok()?;
    let real = sysroot::lookup(&path, flags & AT_SYMLINK_NOFOLLOW == 0)?;
    let mut with = *a;
    with[index] = real.as_ptr() as u64;
    Some(match call {
        OPENAT => host(task, nr::OPENAT, &[a[0], with[1], to_host(a[2]), a[3], 0, 0]),
        FSTATAT => fstatat(task, &with),
        _ => host(task, u64::from(super::table::find(call)?.host), &with),
    })
}

/// O_ flags that arm64 numbers differently (Linux, arch/arm64/include/uapi/asm/fcntl.h): guest, host.
const FLAGS: [(u64, u64); 4] = [
    (0o40_000, 0o200_000),  // O_DIRECTORY
    (0o100_000, 0o400_000), // O_NOFOLLOW
    (0o200_000, 0o40_000),  // O_DIRECT
    (0o400_000, 0o100_000), // O_LARGEFILE
];
const FLAGS_MOVED: u64 = 0o740_000;

fn to_host(flags: u64) -> u64 {
    FLAGS
        .iter()
        .fold(flags & !FLAGS_MOVED, |all, &(guest, host)| if flags & guest != 0 { all | host } else { all })
}

fn to_guest(flags: u64) -> u64 {
    FLAGS
        .iter()
        .fold(flags & !FLAGS_MOVED, |all, &(guest, host)| if flags & host != 0 { all | guest } else { all })
}

/// Whether a descriptor is the emulator's.
fn is_own(descriptor: u64) -> bool {
    descriptor as i32 == program::descriptor() && program::descriptor() >= 0
}

/// The path at `address`, if it starts with /proc/: only such paths are read.
fn special(address: u64) -> Option<Vec<u8>> {
    let start = guest::read64(address).ok()?.to_le_bytes();
    start.starts_with(b"/proc/").then(|| guest::read_path(address).ok()).flatten()
}

fn openat(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    if let Some(path) = special(a[1]) {
        if a[2] & 3 != 0 {
            indirect::opened(&path);
        }
        if let Some(file) = proc::file(&path) {
            return open_special(task, file, to_host(a[2]));
        }
        if let Some(path) = proc::followed_exe(&path) {
            return host(task, nr::OPENAT, &[a[0], path.as_ptr() as u64, to_host(a[2]), a[3], 0, 0]);
        }
    }
    host(task, nr::OPENAT, &[a[0], a[1], to_host(a[2]), a[3], 0, 0])
}

fn open_special(task: &Task, file: proc::File, flags: u64) -> Result<i64, i64> {
    match file {
        proc::File::Exe => {
            let path = proc::exe_path();
            host(task, nr::OPENAT, &[exec::AT_FDCWD as u64, path.as_ptr() as u64, flags, 0, 0, 0])
        }
        _ if flags & 3 != 0 => Err(errno::EACCES),
        file => proc::open(file, flags),
    }
}

fn openat2(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
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
    how[..8].copy_from_slice(&to_host(flags).to_le_bytes());
    let opened = host(task, nr::OPENAT2, &[a[0], a[1], how.as_ptr() as u64, size, 0, 0]);
    // The kernel decides whether the path may be followed as requested (RESOLVE_NO_MAGICLINKS and others).
    if let Some(path) = special(a[1])
        && let Some(file) = proc::file(&path)
        && (opened.is_ok() || opened == Err(errno::EACCES))
    {
        if let Ok(descriptor) = opened {
            // SAFETY: just opened.
            unsafe { syscall!(nr::CLOSE, descriptor) };
        }
        return open_special(task, file, to_host(flags));
    }
    opened
}

/// ioctl on `/proc/PID/maps`: asks for the mapping at an address (Linux 6.11, include/uapi/linux/fs.h).
const PROCMAP_QUERY: u32 = 0xc068_6611;

/// Answers the query for the file that we have created of our own mappings.
fn procmap_query(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    // struct procmap_query, in words: its size, flags, address; start, end, flags, page size, offset, inode,
    // device, sizes of the name and the build id, addresses to write them to.
    const START: usize = 3;
    const END: usize = 4;
    const SIZES: usize = 10;
    const NAME: usize = 11;
    const WORDS: usize = 13;
    let is_ours = exec::link_of(a[0] as i32).is_some_and(|link| link.starts_with(proc::MAPS_LINK));
    if !is_ours {
        return host(task, nr::IOCTL, a);
    }
    let descriptor = exec::open(exec::AT_FDCWD, b"/proc/self/maps\0", 0)?;
    let query = |at: u64| {
        let result = host(task, nr::IOCTL, &[descriptor as u64, a[1], at, 0, 0, 0]);
        // SAFETY: our own descriptor.
        unsafe { syscall!(nr::CLOSE, descriptor) };
        result
    };
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
    for (n, word) in (0..).zip(words) {
        guest::write64(a[2].wrapping_add(8 * n), word)?;
    }
    Ok(result)
}

fn dup3(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    if is_own(a[1]) {
        exec::move_descriptor();
    }
    host(task, nr::DUP3, a)
}

fn fcntl(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    const F_GETFL: u64 = 3;
    const F_SETFL: u64 = 4;
    match a[1] as u32 as u64 {
        F_GETFL => host(task, nr::FCNTL, a).map(|flags| to_guest(flags as u64) as i64),
        F_SETFL => host(task, nr::FCNTL, &[a[0], a[1], to_host(a[2]), 0, 0, 0]),
        _ => host(task, nr::FCNTL, a),
    }
}

/// getdents64(2): /proc/self/fd does not list our own descriptor.
fn getdents64(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    // struct linux_dirent64: d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name.
    let length = host(task, 217, a)?;
    let own = alloc::format!("{}\0", program::descriptor());
    let (mut at, end) = (a[1], a[1].wrapping_add(length as u64));
    while at < end {
        let size = u64::from(guest::read32(at + 16)? & 0xffff);
        let mut name = [0; 12];
        guest::read(at + 19, &mut name[..own.len()])?;
        if name.starts_with(own.as_bytes())
            && exec::link_of(a[0] as i32)
                .is_some_and(|link| link.starts_with(b"/proc/") && link.ends_with(b"/fd"))
        {
            let mut rest = alloc::vec![0; (end - at - size) as usize];
            guest::read(at + size, &mut rest)?;
            guest::write(at, &rest)?;
            return if length as u64 == size { getdents64(task, a) } else { Ok(length - size as i64) };
        }
        at += size.max(24);
    }
    Ok(length)
}

/// close_range(2), around our own descriptor.
fn close_range(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    let (first, last) = (a[0] as u32, a[1] as u32);
    let own = program::descriptor();
    let part = |first: u32, last: u32| {
        host(task, nr::CLOSE_RANGE, &[u64::from(first), u64::from(last), a[2], 0, 0, 0])
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

/// Writes the host's struct stat (18 words) as the generic one (16 words).
fn put_stat(s: &[u64; 18], at: u64) -> Result<i64, i64> {
    // Host: dev, ino, nlink, mode|uid, gid|pad, rdev, size, blksize, blocks, 3 times of 2 words, 3 unused.
    let words = [
        s[0],
        s[1],
        s[3] & 0xffff_ffff | s[2] << 32,
        s[3] >> 32 | s[4] << 32,
        s[5],
        0,
        s[6],
        s[7] & 0xffff_ffff,
        s[8],
        s[9],
        s[10],
        s[11],
        s[12],
        s[13],
        s[14],
        0,
    ];
    for (index, word) in words.into_iter().enumerate() {
        guest::write64(at.wrapping_add(8 * index as u64), word)?;
    }
    Ok(0)
}

const AT_SYMLINK_NOFOLLOW: u64 = 0x100;

fn fstatat(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    let mut stat = [0u64; 18];
    let own = own_exe(a[1], a[3]);
    let path = own.as_ref().map_or(a[1], |path| path.as_ptr() as u64);
    host(task, nr::NEWFSTATAT, &[a[0], path, stat.as_mut_ptr() as u64, a[3], 0, 0])?;
    put_stat(&stat, a[2])
}

/// The program's path, if `path` is followed and is the exe link of a program that an emulator runs.
fn own_exe(path: u64, flags: u64) -> Option<Vec<u8>> {
    if flags & AT_SYMLINK_NOFOLLOW != 0 {
        return None;
    }
    special(path).and_then(|path| proc::followed_exe(&path))
}

/// Calls whose path may be /proc/self/exe.
fn with_exe(task: &Task, call: u64, a: &[u64; 6]) -> Option<Result<i64, i64>> {
    let (flags, host_number) = match call {
        STATX => (a[2], 332),
        FACCESSAT => (0, 269),
        _ => (a[3], nr::FACCESSAT2),
    };
    let path = own_exe(a[1], flags)?;
    Some(host(task, host_number, &[a[0], path.as_ptr() as u64, a[2], a[3], a[4], 0]))
}

fn readlinkat(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    match own_exe(a[1], 0) {
        Some(target) => {
            if a[3] as i32 <= 0 {
                return Err(errno::EINVAL);
            }
            let length = (target.len() - 1).min(a[3] as usize);
            guest::write(a[2], &target[..length])?;
            Ok(length as i64)
        }
        _ => host(task, nr::READLINKAT, a),
    }
}

/// epoll_ctl(2): struct epoll_event is packed on x86-64 only.
fn epoll_ctl(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
    const EPOLL_CTL_DEL: u64 = 2;
    if a[1] as u32 as u64 == EPOLL_CTL_DEL {
        return host(task, nr::EPOLL_CTL, &[a[0], a[1], a[2], 0, 0, 0]);
    }
    let mut event = [0u8; 12];
    event[..4].copy_from_slice(&guest::read32(a[3])?.to_le_bytes());
    event[4..].copy_from_slice(&guest::read64(a[3].wrapping_add(8))?.to_le_bytes());
    host(task, nr::EPOLL_CTL, &[a[0], a[1], a[2], event.as_ptr() as u64, 0, 0])
}

/// epoll_pwait(2), epoll_pwait2(2). The host writes its 12-byte events to the guest's array, which is large
/// enough; then they are spread out, last to first.
fn epoll_wait(task: &mut Task, call: u64, a: &[u64; 6]) -> Result<i64, i64> {
    let mask = with_mask(task, a[4], a[5])?;
    let pointer = mask.as_ref().map_or(0, |mask| &raw const *mask as u64);
    let result = host(task, call, &[a[0], a[1], a[2], a[3], pointer, 8]);
    let count = after_mask(task, result)?;
    for n in (0..count as u64).rev() {
        let events = guest::read32(a[1] + 12 * n)?;
        let mut data = [0; 8];
        guest::read(a[1] + 12 * n + 4, &mut data)?;
        guest::write64(a[1] + 16 * n + 8, u64::from_le_bytes(data))?;
        guest::write64(a[1] + 16 * n, u64::from(events))?;
    }
    Ok(count)
}

fn ppoll(task: &mut Task, a: &[u64; 6]) -> Result<i64, i64> {
    let mask = with_mask(task, a[3], a[4])?;
    let pointer = mask.as_ref().map_or(0, |mask| &raw const *mask as u64);
    let result = host(task, nr::PPOLL, &[a[0], a[1], a[2], pointer, 8, 0]);
    after_mask(task, result)
}

fn pselect6(task: &mut Task, a: &[u64; 6]) -> Result<i64, i64> {
    with_mask_pointer(task, nr::PSELECT6, a)
}

/// Calls whose sixth argument points to a mask and its size.
fn with_mask_pointer(task: &mut Task, call: u64, a: &[u64; 6]) -> Result<i64, i64> {
    let [set, size] = if a[5] == 0 { [0, 0] } else { guest::read_words::<2>(a[5])? };
    let mask = with_mask(task, set, size)?;
    let pair = [mask.as_ref().map_or(0, |mask| &raw const *mask as u64), 8u64];
    let result = host(task, call, &[a[0], a[1], a[2], a[3], a[4], pair.as_ptr() as u64]);
    after_mask(task, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_move_both_ways() {
        // O_RDWR | O_DIRECTORY | O_CLOEXEC; O_TMPFILE contains O_DIRECTORY.
        assert_eq!(to_host(0o2_040_002), 0o2_200_002);
        assert_eq!(to_host(0o20_040_000), 0o20_200_000);
        for flags in [0o740_000, 0o400_001, 0o2_100_000] {
            assert_eq!(to_guest(to_host(flags)), flags);
        }
    }
}
