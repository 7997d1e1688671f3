//! Pointers that a system call finds in memory, and those whose meaning depends on another argument: none may lead the
//! kernel to write to the emulator's part of the address space.
//!
//! A thread that changes them between this check and the call is not caught: the emulator is no sandbox.

use super::number;
use crate::exec;
use crate::guest;
use crate::memory;
use crate::region;
use crate::sys::{errno, nr};
use crate::syscall;
use crate::task::{self, CHANGES};
use alloc::format;
use core::sync::atomic::{AtomicBool, Ordering};

macro_rules! calls {
    ($($constant:ident $name:literal)*) => { $(const $constant: u64 = number($name);)* };
}

calls! {
    FUTEX "futex" GETSOCKOPT "getsockopt" GETXATTRAT "getxattrat" IOCTL "ioctl" IO_SUBMIT "io_submit"
    MBIND "mbind" MSEAL "mseal" MUNLOCK "munlock"
    PREADV "preadv" PREADV2 "preadv2" PROCESS_VM_READV "process_vm_readv" PROCESS_VM_WRITEV "process_vm_writev"
    READV "readv" RECVMSG "recvmsg" RECVMMSG "recvmmsg" VMSPLICE "vmsplice"
}

/// Refuses a call that would lead the kernel to the emulator's memory.
pub(super) fn check(call: u64, a: &[u64; 6]) -> Result<(), i64> {
    match call {
        READV | PREADV | PREADV2 | VMSPLICE => check_vector(a[1], a[2]),
        PROCESS_VM_READV | PROCESS_VM_WRITEV => {
            check_vector(a[1], a[2])?;
            if shares_memory(a[0]) { check_vector(a[3], a[4]) } else { Ok(()) }
        }
        RECVMSG => check_message(a[1]),
        // struct mmsghdr: a msghdr and a length, 64 bytes.
        RECVMMSG => (0..a[2].min(1024)).try_for_each(|n| check_message(a[1].wrapping_add(64 * n))),
        IO_SUBMIT => check_submission(a[1], a[2]),
        FUTEX => check_futex(a),
        IOCTL => check_ioctl(a[1] as u32, a[2]),
        // TCP_ZEROCOPY_RECEIVE has addresses; no option is longer than this.
        GETSOCKOPT => check_words(a[3], 64),
        // struct xattr_args: where the value goes, and its size.
        GETXATTRAT => check_words(a[4], 8),
        MSEAL | MBIND | MUNLOCK => memory::check(a[0], a[1]),
        _ => Ok(()),
    }
}

/// Whether an address is in the emulator's part of the address space.
fn is_ours(address: u64) -> bool {
    address >= region::start() && address >> 47 == 0
}

fn check_pointer(address: u64) -> Result<(), i64> {
    if is_ours(address) { Err(errno::EFAULT) } else { Ok(()) }
}

/// The pieces of an iovec. What the kernel refuses anyway passes.
fn check_vector(at: u64, count: u64) -> Result<(), i64> {
    for n in 0..count.min(1024) {
        let [base, length] = guest::read_words::<2>(at.wrapping_add(16 * n))?;
        if length > 0 && base >= region::start() {
            return Err(errno::EFAULT);
        }
    }
    Ok(())
}

/// A msghdr: name, its length, iovec, its count, control data.
fn check_message(at: u64) -> Result<(), i64> {
    let [name, _, vector, count, control] = guest::read_words::<5>(at)?;
    if name >= region::start() || control >= region::start() {
        return Err(errno::EFAULT);
    }
    check_vector(vector, count)
}

/// Whether a process has this very memory: a thread of ours, or one of a vfork.
fn shares_memory(process: u64) -> bool {
    const KCMP: u64 = 312;
    const KCMP_VM: u64 = 1;
    let own = u64::from(task::process_id());
    let process = u64::from(process as u32);
    // SAFETY: only asks.
    process == own || unsafe { syscall!(KCMP, own, process, KCMP_VM, 0, 0) } == 0
}

/// io_submit(2): an array of pointers to struct iocb. The kernel writes the key at 8; the operation is at 16, the
/// buffer, or an iovec, at 24.
fn check_submission(count: u64, list: u64) -> Result<(), i64> {
    const PREAD: u64 = 0;
    const PREADV: u64 = 7;
    for n in 0..(count as i64).clamp(0, 1 << 16) as u64 {
        let block = guest::read64(list.wrapping_add(8 * n))?;
        let [_, _, operation, buffer, length] = guest::read_words::<5>(block)?;
        match operation & 0xffff {
            PREAD => check_pointer(buffer)?,
            PREADV => check_vector(buffer, length)?,
            _ => {}
        }
    }
    Ok(())
}

/// futex(2): what the fourth and fifth argument are depends on the operation. Where they are not used, C libraries leave
/// in them what was there.
fn check_futex(a: &[u64; 6]) -> Result<(), i64> {
    const WAIT: u64 = 0;
    const REQUEUE: u64 = 3;
    const CMP_REQUEUE: u64 = 4;
    const WAKE_OP: u64 = 5;
    const LOCK_PI: u64 = 6;
    const WAIT_BITSET: u64 = 9;
    const WAIT_REQUEUE_PI: u64 = 11;
    const CMP_REQUEUE_PI: u64 = 12;
    const LOCK_PI2: u64 = 13;
    match a[1] & 0x7f {
        WAIT | LOCK_PI | LOCK_PI2 | WAIT_BITSET => check_pointer(a[3]),
        REQUEUE | CMP_REQUEUE | CMP_REQUEUE_PI | WAKE_OP => check_pointer(a[4]),
        WAIT_REQUEUE_PI => check_pointer(a[3]).and(check_pointer(a[4])),
        _ => Ok(()),
    }
}

/// ioctl(2): any word of the structure may be a pointer. Requests say in their bits how long it is and whether it is read;
/// of the old ones that do not, those of sockets and of SCSI have pointers in them.
fn check_ioctl(request: u32, at: u64) -> Result<(), i64> {
    const READ_BY_KERNEL: u32 = 1 << 30;
    let length = match request >> 8 {
        0x89 => 40,
        0x22 => 88,
        _ if request & READ_BY_KERNEL != 0 => request >> 16 & 0x3fff,
        _ => return Ok(()),
    };
    check_words(at, u64::from(length))
}

/// Refuses a structure with a word that could be a pointer to us. What cannot be read is the kernel's to refuse.
fn check_words(at: u64, length: u64) -> Result<(), i64> {
    for n in 0..length / 8 {
        match guest::read64(at.wrapping_add(8 * n)) {
            Ok(word) => check_pointer(word)?,
            Err(_) => break,
        }
    }
    Ok(())
}

/// Whether the guest has ever opened its own memory as a file for writing.
static MEMORY_OPENED: AtomicBool = AtomicBool::new(false);

/// Notes that a path is opened for writing.
pub(super) fn opened(path: &[u8]) {
    if path.strip_suffix(b"\0").unwrap_or(path).ends_with(b"/mem") && path.starts_with(b"/proc/") {
        MEMORY_OPENED.store(true, Ordering::Relaxed);
    }
}

/// Where a call writes, if that is the guest's own memory by a descriptor of /proc/self/mem.
pub(super) fn memory_written(call: u64, a: &[u64; 6]) -> Option<u64> {
    calls! {
        WRITE "write" WRITEV "writev" PWRITE64 "pwrite64" PWRITEV "pwritev" PWRITEV2 "pwritev2" SENDFILE "sendfile"
        SPLICE "splice" COPY_FILE_RANGE "copy_file_range"
    }
    if !MEMORY_OPENED.load(Ordering::Relaxed) {
        return None;
    }
    let (descriptor, offset) = match call {
        WRITE | WRITEV | SENDFILE => (a[0], None),
        PWRITE64 | PWRITEV | PWRITEV2 => (a[0], Some(a[3]).filter(|&offset| offset != u64::MAX)),
        SPLICE | COPY_FILE_RANGE => (a[2], if a[3] == 0 { None } else { guest::read64(a[3]).ok() }),
        _ => return None,
    };
    let link = exec::link_of(descriptor as i32)?;
    if link != format!("/proc/{}/mem", task::process_id()).as_bytes() {
        return None;
    }
    // SAFETY: no memory is involved.
    let here = || unsafe { syscall!(nr::LSEEK, descriptor as i32, 0, 1) as u64 };
    Some(offset.unwrap_or_else(here))
}

/// Writes to the guest's own memory by its file, at `offset`: never past the window, and code there is forgotten. Pieces
/// of vectors and of other files are refused as the kernel refuses what it cannot copy.
pub(super) fn write_memory(
    a: &[u64; 6],
    is_simple: bool,
    offset: u64,
    write: impl Fn(&[u64; 6]) -> Result<i64, i64>,
) -> Result<i64, i64> {
    const EIO: i64 = -5;
    let room = region::start().saturating_sub(offset);
    if room == 0 || !is_simple && room < 1 << 30 {
        return Err(EIO);
    }
    let mut a = *a;
    if is_simple {
        a[2] = a[2].min(room);
    }
    let count = write(&a)?;
    CHANGES.invalidate(offset..offset.saturating_add(count as u64));
    Ok(count)
}
