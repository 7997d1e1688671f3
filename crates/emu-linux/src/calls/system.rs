//! Calls about the system, the process and its limits.

use super::host::host;
use crate::arch::Abi;
use crate::guest;
use crate::lock::{self, Lock};
use crate::options;
use crate::seccomp;
use crate::sys::{self, Errno, errno, nr};
use crate::thread::Thread;

/// uname(2): the machine is the guest's, and the release what the user wants.
pub(super) fn uname<A: Abi>(thread: &Thread, at: u64) -> Result<i64, Errno> {
    const FIELD: u64 = 65;
    host(thread, nr::UNAME, &[at, 0, 0, 0, 0, 0])?;
    let mut machine = [0; FIELD as usize];
    let release = &options::get().release;
    if !release.is_empty() {
        let mut field = [0; FIELD as usize];
        let length = release.len().min(field.len() - 1);
        field[..length].copy_from_slice(&release[..length]);
        guest::write(at.wrapping_add(2 * FIELD), &field)?;
    }
    machine[..A::uname().len()].copy_from_slice(A::uname().as_bytes());
    guest::write(at.wrapping_add(4 * FIELD), &machine)?;
    Ok(0)
}

/// semctl(2): x86-64's semid64_ds has a gap after each time.
pub(super) fn semctl(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    const IPC_SET: u64 = 1;
    const IPC_STAT: u64 = 2;
    const SEM_STAT: u64 = 18;
    const SEM_STAT_ANY: u64 = 20;
    if (a[0] as i32) < 0 {
        return Err(errno::EINVAL);
    }
    // Words: ipc_perm 6, sem_otime, gap, sem_ctime, gap, sem_nsems, 2 unused.
    let mut set = [0u64; 13];
    match a[2] & 0xff {
        IPC_SET => {
            set[..6].copy_from_slice(&guest::read_words::<6>(a[3])?);
            host(thread, nr::SEMCTL, &[a[0], a[1], a[2], set.as_ptr() as u64, 0, 0])
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            let result = host(thread, nr::SEMCTL, &[a[0], a[1], a[2], set.as_mut_ptr() as u64, 0, 0])?;
            for (n, word) in [0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12].into_iter().enumerate() {
                guest::write64(a[3].wrapping_add(8 * n as u64), set[word])?;
            }
            Ok(result)
        }
        _ => host(thread, nr::SEMCTL, a),
    }
}

/// prctl(2).
pub(super) fn prctl<A: Abi>(thread: &mut Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    const PR_GET_SECCOMP: u64 = 21;
    const PR_SET_SECCOMP: u64 = 22;
    const PR_GET_TSC: u64 = 25;
    const PR_SET_TSC: u64 = 26;
    const PR_SET_MM: u64 = 35;
    const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;
    match a[0] as u32 as u64 {
        PR_GET_SECCOMP => Ok(seccomp::mode(thread)),
        PR_SET_SECCOMP => seccomp::prctl(thread, A::MACHINE.word(), a[1], a[2]),
        PR_GET_TSC | PR_SET_TSC | PR_SET_MM | PR_SET_SYSCALL_USER_DISPATCH => Err(errno::EINVAL),
        _ => A::prctl(thread, a).unwrap_or_else(|| host(thread, nr::PRCTL, a)),
    }
}

/// prlimit64(2), for limits in guest memory.
pub(super) fn rlimit(thread: &Thread, process: u64, resource: u64, new: u64, old: u64) -> Result<i64, Errno> {
    let new = if new == 0 { None } else { Some(guest::read_words::<2>(new)?) };
    let before = change_limit(thread, process, resource, new)?;
    if old != 0 {
        guest::write64(old, before[0])?;
        guest::write64(old.wrapping_add(8), before[1])?;
    }
    Ok(0)
}

/// Changes a limit, if one is given; returns the old one (prlimit(2)). Limits of address space and data would
/// hit the emulator, whose region is large, so they are only remembered.
pub(crate) fn change_limit(
    thread: &Thread,
    process: u64,
    resource: u64,
    new: Option<[u64; 2]>,
) -> Result<[u64; 2], Errno> {
    const RLIMIT_DATA: u64 = 2;
    const RLIMIT_AS: u64 = 9;
    static REMEMBERED: Lock<[Option<[u64; 2]>; 2]> = lock::new([None; 2]);
    let own = process as u32 == 0 || process as u32 == sys::process_id();
    let mut now = [0u64; 2];
    let slot = match resource as u32 as u64 {
        RLIMIT_DATA if own => 0,
        RLIMIT_AS if own => 1,
        _ => {
            let pointer = new.as_ref().map_or(0, |new| new.as_ptr() as u64);
            host(thread, nr::PRLIMIT64, &[process, resource, pointer, now.as_mut_ptr() as u64, 0, 0])?;
            return Ok(now);
        }
    };
    host(thread, nr::PRLIMIT64, &[0, resource, 0, now.as_mut_ptr() as u64, 0, 0])?;
    let mut remembered = REMEMBERED.lock();
    let before = remembered[slot].unwrap_or(now);
    if let Some(wanted) = new {
        if wanted[0] > wanted[1] {
            return Err(errno::EINVAL);
        }
        remembered[slot] = Some(wanted);
    }
    Ok(before)
}
