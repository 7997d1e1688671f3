//! Calls about time, threads, limits and ids.

use super::words::{Field, Timeout, Width, call, write};
use crate::arch::call::Row;
use crate::calls::host::{host, host32};
use crate::calls::system::change_limit;
use crate::guest;
use crate::sys::call::nr;
use crate::sys::{Errno, errno};
use crate::thread::Thread;
use crate::vdso;
use core::sync::atomic::Ordering;

/// clock_gettime(2).
pub(super) fn clock_gettime(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    match vdso::clock_gettime(a[0]) {
        Some(time) => write(a[1], &time).map(|()| 0),
        None => call(thread, row, a, &[Field::Out(1, 2)]),
    }
}

/// gettimeofday(2).
pub(super) fn gettimeofday(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    const CLOCK_REALTIME: u64 = 0;
    match vdso::clock_gettime(CLOCK_REALTIME) {
        Some([seconds, nanoseconds]) if a[0] != 0 && a[1] == 0 => {
            write(a[0], &[seconds, nanoseconds / 1000]).map(|()| 0)
        }
        _ => call(thread, row, a, &[Field::Out(0, 2)]),
    }
}

/// futex(2): the operation decides whether the fourth argument is a time.
pub(super) fn futex(thread: &Thread, row: &Row, a: &[u64; 6], width: Width) -> Result<i64, Errno> {
    // FUTEX_WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2.
    let mut with = *a;
    if !matches!(a[1] & 0x7f, 0 | 6 | 9 | 11 | 13) {
        return host(thread, u64::from(row.host), a);
    }
    let mut timeout = Timeout::read(a[3], width)?;
    with[3] = timeout.pointer();
    host(thread, u64::from(row.host), &with)
}

// Numbers of i386 (asm/unistd_32.h).
const SET_ROBUST_LIST: u64 = 311;
const GET_ROBUST_LIST: u64 = 312;

/// Bytes of the head of a list of robust mutexes (Linux, struct robust_list_head).
const HEAD_SIZE: u64 = 12;

/// set_robust_list(2): the kernel walks the list when the thread ends, and must know that its pointers have 4
/// bytes. For a host without 32-bit programs, we walk it.
pub(super) fn set_robust_list(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[1] != HEAD_SIZE {
        return Err(errno::EINVAL);
    }
    match host32(thread, SET_ROBUST_LIST, a) {
        Err(errno::ENOSYS) => {
            thread.shared.robust.store(a[0], Ordering::Relaxed);
            Ok(0)
        }
        other => other,
    }
}

/// get_robust_list(2); without the host's help, of the calling thread only.
pub(super) fn get_robust_list(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    match host32(thread, GET_ROBUST_LIST, a) {
        Err(errno::ENOSYS) if a[0] == 0 => {
            guest::write32(a[2], HEAD_SIZE as u32)?;
            guest::write32(a[1], thread.shared.robust.load(Ordering::Relaxed) as u32).map(|()| 0)
        }
        other => other,
    }
}

/// prctl(2): options that write a pointer.
pub(super) fn prctl(thread: &Thread, a: &[u64; 6]) -> Option<Result<i64, Errno>> {
    const PR_GET_TID_ADDRESS: u64 = 40;
    (a[0] as u32 as u64 == PR_GET_TID_ADDRESS).then(|| {
        let mut address = 0u64;
        host(thread, nr::PRCTL, &[a[0], &raw mut address as u64, 0, 0, 0, 0])?;
        guest::write32(a[1], address as u32).map(|()| 0)
    })
}

/// No limit.
const INFINITY: u32 = u32::MAX;

/// ugetrlimit(2).
pub(super) fn getrlimit(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let limits = change_limit(thread, 0, a[0], None)?;
    write(a[1], &limits.map(|limit| limit.min(INFINITY.into()))).map(|()| 0)
}

/// setrlimit(2).
pub(super) fn setrlimit(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let limits = guest::read_pointers::<2>(a[1], 4)?;
    let limits = limits.map(|limit| if limit == INFINITY.into() { u64::MAX } else { limit });
    change_limit(thread, 0, a[0], Some(limits)).map(|_| 0)
}

/// An id as calls of 16 bits show it (Linux, high2lowuid).
const fn short_id(id: u32) -> u16 {
    const OVERFLOW: u16 = 65534;
    if id > 0xffff { OVERFLOW } else { id as u16 }
}

fn write_short(at: u64, id: u32) -> Result<(), Errno> {
    guest::write(at, &short_id(id).to_le_bytes())
}

/// getuid(2) and its like, of 16 bits.
pub(super) fn id16(thread: &Thread, row: &Row) -> Result<i64, Errno> {
    host(thread, u64::from(row.host), &[0; 6]).map(|id| short_id(id as u32).into())
}

/// getresuid(2) and getresgid(2), of 16 bits.
pub(super) fn getres16(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut ids = [0u32; 3];
    let [real, effective, saved] = ids.each_mut().map(|id| &raw mut *id as u64);
    host(thread, u64::from(row.host), &[real, effective, saved, 0, 0, 0])?;
    ids.iter().zip(a).try_for_each(|(&id, &at)| write_short(at, id)).map(|()| 0)
}

/// Most supplementary groups (Linux, NGROUPS_MAX).
const GROUPS_MAX: usize = 65536;

/// getgroups(2), of 16 bits.
pub(super) fn getgroups16(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut groups = alloc::vec![0u32; (a[0] as usize).min(GROUPS_MAX)];
    let pointer = groups.as_mut_ptr() as u64;
    let count = host(thread, u64::from(row.host), &[groups.len() as u64, pointer, 0, 0, 0, 0])?;
    for (n, &group) in (0..count as u64).zip(&groups) {
        write_short(a[1].wrapping_add(2 * n), group)?;
    }
    Ok(count)
}

/// setgroups(2), of 16 bits.
pub(super) fn setgroups16(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[0] > GROUPS_MAX as u64 {
        return Err(errno::EINVAL);
    }
    let mut groups = alloc::vec![0u32; a[0] as usize];
    for (n, group) in (0..).zip(&mut groups) {
        let mut bytes = [0; 2];
        guest::read(a[1].wrapping_add(2 * n), &mut bytes)?;
        *group = u16::from_le_bytes(bytes).into();
    }
    host(thread, u64::from(row.host), &[a[0], groups.as_ptr() as u64, 0, 0, 0, 0])
}

/// nice(2), which the host has not.
pub(super) fn nice(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    const PRIO_PROCESS: u64 = 0;
    // The kernel gives 20 less the nice value, so that it is no error.
    let now = 20 - host(thread, nr::GETPRIORITY, &[PRIO_PROCESS, 0, 0, 0, 0, 0])?;
    let wanted = now.saturating_add(a[0] as i64).clamp(-20, 19);
    match host(thread, u64::from(row.host), &[PRIO_PROCESS, 0, wanted as u64, 0, 0, 0]) {
        Err(errno::EACCES) => Err(errno::EPERM),
        other => other,
    }
}

/// sysinfo(2): sizes of memory are given in larger units if they do not fit.
pub(super) fn sysinfo(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    // The host's words: uptime, three loads, six sizes, processes, two sizes, unit.
    const SIZES: [usize; 8] = [4, 5, 6, 7, 8, 9, 11, 12];
    let mut words = [0u64; 14];
    host(thread, u64::from(row.host), &[words.as_mut_ptr() as u64, 0, 0, 0, 0, 0])?;
    let mut unit = words[13] as u32;
    while SIZES.iter().any(|&n| words[n] > u32::MAX.into()) && unit < 1 << 20 {
        unit *= 2;
        SIZES.iter().for_each(|&n| words[n] >>= 1);
    }
    words[10] &= 0xffff;
    words[13] = unit.into();
    write(a[0], &words)?;
    // The padding of a struct sysinfo of 64 bytes.
    guest::write64(a[0].wrapping_add(56), 0).map(|()| 0)
}
