//! Pointers that a system call finds in memory, and arguments that are pointers only with some values of
//! other arguments: none may make the kernel write to the emulator's part of the address space.
//!
//! A thread that changes such a pointer between this check and the call is not caught: the emulator is no
//! sandbox.

use crate::arch::call::Call;
use crate::changes::CHANGES;
use crate::guest;
use crate::region;
use crate::sys::{self, Errno, errno, file};
use alloc::format;
use core::sync::atomic::{AtomicBool, Ordering};

/// The argument of a call that would lead the kernel to the emulator's memory. The caller replaces it by one
/// that leads nowhere ([`region::harmless`]), so that the kernel reports the error in its usual order.
pub(super) fn leads_to_us(call: Call, a: &[u64; 6]) -> Option<usize> {
    let vector = |at: usize| is_vector_ours(a[at], a[at + 1]).then_some(at);
    match call {
        Call::Readv => vector(1),
        Call::ProcessVm => vector(1).or_else(|| if shares_memory(a[0]) { vector(3) } else { None }),
        Call::Recvmsg => is_message_ours(a[1]).then_some(1),
        // struct mmsghdr: a msghdr and a length, 64 bytes.
        Call::Recvmmsg => {
            let mut messages = (0..a[2].min(1024)).map(|n| a[1].wrapping_add(64 * n));
            messages.any(is_message_ours).then_some(1)
        }
        Call::IoSubmit => is_submission_ours(a[1], a[2]).then_some(2),
        Call::Futex => futex(a),
        Call::Ioctl => is_ioctl_ours(a[1] as u32, a[2]).then_some(2),
        // TCP_ZEROCOPY_RECEIVE has addresses; no option is longer than 64 bytes.
        Call::Getsockopt => are_words_ours(a[3], 64).then_some(3),
        // struct xattr_args: the value's address, and its size.
        Call::Getxattrat => are_words_ours(a[4], 8).then_some(4),
        _ => None,
    }
}

/// Whether an address is in the emulator's part of the address space.
fn is_ours(address: u64) -> bool {
    region::harmless(address) != address || address == region::start()
}

/// Whether a piece of an iovec is ours. False for iovecs that the kernel refuses anyway.
fn is_vector_ours(at: u64, count: u64) -> bool {
    const UIO_MAXIOV: u64 = 1024;
    count <= UIO_MAXIOV
        && (0..count).any(|n| {
            guest::read_words::<2>(at.wrapping_add(16 * n))
                .is_ok_and(|[base, length]| length > 0 && is_ours(base))
        })
}

/// Whether a msghdr points to us. Its words: name, its length, iovec, its count, control data.
fn is_message_ours(at: u64) -> bool {
    guest::read_words::<5>(at).is_ok_and(|[name, _, vector, count, control]| {
        is_ours(name) || is_ours(control) || is_vector_ours(vector, count)
    })
}

/// Whether a process shares our memory: a thread of ours, or a task of a vfork.
fn shares_memory(process: u64) -> bool {
    process as u32 == sys::process_id() || sys::process::shares_memory(process as u32)
}

/// io_submit(2): an array of pointers to struct iocb, of which the kernel takes those before the first that
/// it cannot read. The kernel writes the key at 8; the operation is at 16, the buffer, or an iovec, at 24.
fn is_submission_ours(count: u64, list: u64) -> bool {
    const PREAD: u64 = 0;
    const PREADV: u64 = 7;
    for n in 0..(count as i64).clamp(0, 1 << 16) as u64 {
        let Ok(block) = guest::read64(list.wrapping_add(8 * n)) else { return false };
        if is_ours(block) {
            return true;
        }
        let Ok([_, _, operation, buffer, length]) = guest::read_words(block) else { return false };
        let is_request_ours = match operation & 0xffff {
            PREAD => is_ours(buffer),
            PREADV => is_vector_ours(buffer, length),
            _ => false,
        };
        if is_request_ours {
            return true;
        }
    }
    false
}

/// futex(2): the operation decides what the fourth and fifth argument are. C libraries leave anything in
/// unused ones.
fn futex(a: &[u64; 6]) -> Option<usize> {
    const WAIT: u64 = 0;
    const REQUEUE: u64 = 3;
    const CMP_REQUEUE: u64 = 4;
    const WAKE_OP: u64 = 5;
    const LOCK_PI: u64 = 6;
    const WAIT_BITSET: u64 = 9;
    const WAIT_REQUEUE_PI: u64 = 11;
    const CMP_REQUEUE_PI: u64 = 12;
    const LOCK_PI2: u64 = 13;
    let pointers: &[usize] = match a[1] & 0x7f {
        WAIT | LOCK_PI | LOCK_PI2 | WAIT_BITSET => &[3],
        REQUEUE | CMP_REQUEUE | CMP_REQUEUE_PI | WAKE_OP => &[4],
        WAIT_REQUEUE_PI => &[3, 4],
        _ => &[],
    };
    pointers.iter().copied().find(|&at| is_ours(a[at]))
}

/// ioctl(2): any word of the structure may be a pointer. The bits of a request give the structure's length
/// and whether the kernel reads it; of the old requests without such bits, those of sockets and SCSI have
/// pointers.
fn is_ioctl_ours(request: u32, at: u64) -> bool {
    const READ_BY_KERNEL: u32 = 1 << 30;
    let length = match request >> 8 {
        0x89 => 40,
        0x22 => 88,
        _ if request & READ_BY_KERNEL != 0 => request >> 16 & 0x3fff,
        _ => return false,
    };
    are_words_ours(at, u64::from(length))
}

/// Whether a structure has a word that could be a pointer to us. The kernel refuses what cannot be read.
fn are_words_ours(at: u64, length: u64) -> bool {
    (0..length / 8).map_while(|n| guest::read64(at.wrapping_add(8 * n)).ok()).any(is_ours)
}

/// Whether the guest has ever opened its own memory as a file for writing.
static MEMORY_OPENED: AtomicBool = AtomicBool::new(false);

/// Notes that a path is opened for writing.
pub(super) fn opened(path: &[u8]) {
    if path.strip_suffix(b"\0").unwrap_or(path).ends_with(b"/mem") && path.starts_with(b"/proc/") {
        MEMORY_OPENED.store(true, Ordering::Relaxed);
    }
}

/// The address that a call writes to, if it writes to the guest's own memory through /proc/self/mem.
pub(super) fn memory_written(call: Call, a: &[u64; 6]) -> Option<u64> {
    if !MEMORY_OPENED.load(Ordering::Relaxed) {
        return None;
    }
    let (descriptor, offset) = match call {
        Call::Write | Call::Writev | Call::Sendfile => (a[0], None),
        Call::Pwrite64 | Call::Pwritev => (a[0], Some(a[3]).filter(|&offset| offset != u64::MAX)),
        Call::Splice => (a[2], if a[3] == 0 { None } else { guest::read64(a[3]).ok() }),
        _ => return None,
    };
    let link = file::link_of(descriptor as i32)?;
    if link != format!("/proc/{}/mem", sys::process_id()).as_bytes() {
        return None;
    }
    const SEEK_CUR: u64 = 1;
    offset.or_else(|| file::seek(descriptor as i32, 0, SEEK_CUR).ok())
}

/// Writes to the guest's own memory through its file, at `offset`, never past the window, and forgets code
/// there. Near the window's end, writes from vectors and from other files fail as for memory that the kernel
/// cannot copy.
pub(super) fn write_memory(
    a: &[u64; 6],
    is_simple: bool,
    offset: u64,
    write: impl Fn(&[u64; 6]) -> Result<i64, Errno>,
) -> Result<i64, Errno> {
    let room = region::start().saturating_sub(offset);
    if room == 0 || !is_simple && room < 1 << 30 {
        return Err(errno::EIO);
    }
    let mut a = *a;
    if is_simple {
        a[2] = a[2].min(room);
    }
    let count = write(&a)?;
    CHANGES.invalidate(offset..offset.saturating_add(count as u64));
    Ok(count)
}
