//! The one way into the host's kernel: numbers, the instruction, and a form that a signal can interrupt.

use super::errno::Errno;
use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicU32;

/// Numbers of the host's system calls (x86-64, `asm/unistd_64.h`) that the emulator makes for itself.
#[allow(missing_docs)]
pub mod nr {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const CLOSE: u64 = 3;
    pub const FSTAT: u64 = 5;
    pub const LSEEK: u64 = 8;
    pub const MMAP: u64 = 9;
    pub const MPROTECT: u64 = 10;
    pub const MUNMAP: u64 = 11;
    pub const RT_SIGACTION: u64 = 13;
    pub const RT_SIGPROCMASK: u64 = 14;
    pub const IOCTL: u64 = 16;
    pub const PREAD64: u64 = 17;
    pub const SCHED_YIELD: u64 = 24;
    pub const MREMAP: u64 = 25;
    pub const MINCORE: u64 = 27;
    pub const MADVISE: u64 = 28;
    pub const SHMAT: u64 = 30;
    pub const SHMCTL: u64 = 31;
    pub const DUP2: u64 = 33;
    pub const GETPID: u64 = 39;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const CLONE: u64 = 56;
    pub const EXIT: u64 = 60;
    pub const WAIT4: u64 = 61;
    pub const KILL: u64 = 62;
    pub const UNAME: u64 = 63;
    pub const SEMCTL: u64 = 66;
    pub const SHMDT: u64 = 67;
    pub const FCNTL: u64 = 72;
    pub const FLOCK: u64 = 73;
    pub const RENAME: u64 = 82;
    pub const MKDIR: u64 = 83;
    pub const RMDIR: u64 = 84;
    pub const UNLINK: u64 = 87;
    pub const GETRLIMIT: u64 = 97;
    pub const GETPPID: u64 = 110;
    pub const SETSID: u64 = 112;
    pub const GETEUID: u64 = 107;
    pub const GETEGID: u64 = 108;
    pub const CAPGET: u64 = 125;
    pub const RT_SIGPENDING: u64 = 127;
    pub const RT_SIGTIMEDWAIT: u64 = 128;
    pub const RT_SIGSUSPEND: u64 = 130;
    pub const SIGALTSTACK: u64 = 131;
    pub const PERSONALITY: u64 = 135;
    pub const GETPRIORITY: u64 = 140;
    pub const SETPRIORITY: u64 = 141;
    pub const SCHED_SETSCHEDULER: u64 = 144;
    pub const MLOCKALL: u64 = 151;
    pub const PRCTL: u64 = 157;
    pub const ARCH_PRCTL: u64 = 158;
    pub const GETTID: u64 = 186;
    pub const FGETXATTR: u64 = 193;
    pub const FUTEX: u64 = 202;
    pub const SCHED_GETAFFINITY: u64 = 204;
    pub const GETDENTS64: u64 = 217;
    pub const CLOCK_GETTIME: u64 = 228;
    pub const EXIT_GROUP: u64 = 231;
    pub const EPOLL_CTL: u64 = 233;
    pub const TGKILL: u64 = 234;
    pub const WAITID: u64 = 247;
    pub const OPENAT: u64 = 257;
    pub const NEWFSTATAT: u64 = 262;
    pub const READLINKAT: u64 = 267;
    pub const PSELECT6: u64 = 270;
    pub const PPOLL: u64 = 271;
    pub const DUP3: u64 = 292;
    pub const PIPE2: u64 = 293;
    pub const FANOTIFY_INIT: u64 = 300;
    pub const PRLIMIT64: u64 = 302;
    pub const OPEN_BY_HANDLE_AT: u64 = 304;
    pub const PROCESS_VM_READV: u64 = 310;
    pub const KCMP: u64 = 312;
    pub const GETRANDOM: u64 = 318;
    pub const MEMFD_CREATE: u64 = 319;
    pub const EXECVEAT: u64 = 322;
    pub const MLOCK2: u64 = 325;
    pub const IO_PGETEVENTS: u64 = 333;
    pub const CLONE3: u64 = 435;
    pub const CLOSE_RANGE: u64 = 436;
    pub const OPENAT2: u64 = 437;
    pub const FACCESSAT2: u64 = 439;
}

/// Makes a system call.
///
/// # Safety
///
/// As for the system call: the kernel must not write to memory that Rust code relies on.
#[inline(always)]
pub unsafe fn raw(number: u64, a: [u64; 6]) -> i64 {
    let result;
    // SAFETY: the caller answers for the effects; the registers are those of the kernel's convention.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// [`raw`] with its result as a value or an error number.
///
/// # Safety
///
/// As [`raw`].
#[inline(always)]
pub unsafe fn checked(number: u64, a: [u64; 6]) -> Result<i64, Errno> {
    // SAFETY: the caller's promise.
    Errno::check(unsafe { raw(number, a) })
}

/// Whether the arguments of a call are numbers only, for which the kernel accesses no memory of ours.
const fn takes_numbers(number: u64) -> bool {
    matches!(
        number,
        nr::CLOSE
            | nr::LSEEK
            | nr::FLOCK
            | nr::SETSID
            | nr::SETPRIORITY
            | nr::CLOSE_RANGE
            | nr::SCHED_YIELD
            | nr::GETPID
            | nr::EXIT
            | nr::GETEUID
            | nr::GETEGID
            | nr::PERSONALITY
            | nr::MLOCKALL
            | nr::GETTID
            | nr::EXIT_GROUP
            | nr::TGKILL
            | nr::KCMP
            | nr::MLOCK2
    )
}

/// Makes a call whose arguments are numbers.
pub fn with_numbers<const NUMBER: u64, const N: usize>(arguments: [u64; N]) -> Result<i64, Errno> {
    const { assert!(takes_numbers(NUMBER)) };
    // SAFETY: the kernel accesses no memory of ours.
    unsafe { checked(NUMBER, six(arguments)) }
}

/// Pads the arguments of a system call with 0.
pub const fn six<const N: usize>(list: [u64; N]) -> [u64; 6] {
    let mut all = [0; 6];
    let mut at = 0;
    while at < N {
        all[at] = list[at];
        at += 1;
    }
    all
}

/// [`checked`] with the arguments listed.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::sys::call::checked($number, $crate::sys::call::six([$($argument as u64),*]))
    };
}
pub(crate) use syscall;

// crossdock_emu_interruptible(number, arguments, interrupt): makes a system call unless `interrupt` is set.
//
// A handler that runs between `begin` and `end` (after the check and before the call, or when the kernel has
// gone back to repeat the call) moves the instruction pointer to `before` or `again`; see
// `signal::on_host_signal`. rcx tells the two apart: it is 0 before the SYSCALL instruction, which puts its
// return address there.
#[rustfmt::skip]
global_asm!(
    ".pushsection .text.crossdock_emu_syscall,\"ax\",@progbits",
    ".irp name,interruptible,call_begin,call_syscall,call_end,call_before,call_again,restorer,\
     call32,call32_begin,call32_int,call32_again,call32_before,call32_absent",
    ".globl crossdock_emu_\\name",
    ".hidden crossdock_emu_\\name",
    ".endr",
    ".p2align 4",
    "crossdock_emu_interruptible:",
    "mov rax, rdi",
    "mov rcx, rsi",
    "mov r11, rdx",
    "mov rdi, [rcx]",
    "mov rsi, [rcx + 8]",
    "mov rdx, [rcx + 16]",
    "mov r10, [rcx + 24]",
    "mov r8, [rcx + 32]",
    "mov r9, [rcx + 40]",
    "xor ecx, ecx",
    "crossdock_emu_call_begin:",
    "cmp dword ptr [r11], 0",
    "jne crossdock_emu_call_before",
    "crossdock_emu_call_syscall:",
    "syscall",
    "crossdock_emu_call_end:",
    "ret",
    "crossdock_emu_call_before:",
    "mov rax, -513",
    "ret",
    "crossdock_emu_call_again:",
    "mov rax, -512",
    "ret",

    // crossdock_emu_call32(number, arguments, interrupt): a system call of a 32-bit program, as above. INT
    // has a prefix without effect (DS, 0x3e). The kernel goes back by two bytes to repeat a call, so to INT
    // after the prefix, where nothing else stops.
    ".p2align 4",
    "crossdock_emu_call32:",
    "push rbx",
    "mov eax, edi",
    "mov r11, rdx",
    "mov ebx, [rsi]",
    "mov ecx, [rsi + 8]",
    "mov edx, [rsi + 16]",
    "mov edi, [rsi + 32]",
    "mov esi, [rsi + 24]",
    "crossdock_emu_call32_begin:",
    "cmp dword ptr [r11], 0",
    "jne crossdock_emu_call32_before",
    "crossdock_emu_call32_int:",
    ".byte 0x3e, 0xcd, 0x80",
    "movsxd rax, eax",
    "pop rbx",
    "ret",
    "crossdock_emu_call32_before:",
    "mov rax, -513",
    "pop rbx",
    "ret",
    "crossdock_emu_call32_again:",
    "mov rax, -512",
    "pop rbx",
    "ret",
    "crossdock_emu_call32_absent:",
    "mov rax, -38",
    "pop rbx",
    "ret",

    // The sa_restorer that x86-64 requires: rt_sigreturn.
    ".p2align 4",
    "crossdock_emu_restorer:",
    "mov eax, 15",
    "syscall",

    ".popsection",
);

unsafe extern "C" {
    fn crossdock_emu_interruptible(number: u64, arguments: *const u64, interrupt: *const AtomicU32) -> i64;
    fn crossdock_emu_call_begin();
    fn crossdock_emu_call_syscall();
    fn crossdock_emu_call_end();
    fn crossdock_emu_call_before();
    fn crossdock_emu_call_again();
    fn crossdock_emu_restorer();
    fn crossdock_emu_call32(number: u64, arguments: *const u64, interrupt: *const AtomicU32) -> i64;
    fn crossdock_emu_call32_begin();
    fn crossdock_emu_call32_int();
    fn crossdock_emu_call32_again();
    fn crossdock_emu_call32_before();
    fn crossdock_emu_call32_absent();
}

/// Makes a system call that a signal can interrupt. Returns [`super::errno::NOT_STARTED`] if a signal came
/// before the call, [`super::errno::RESTART`] if one came during the call and the kernel would have restarted
/// it.
///
/// # Safety
///
/// As [`raw`].
#[inline]
pub unsafe fn interruptible(number: u64, arguments: &[u64; 6], interrupt: &AtomicU32) -> Result<i64, Errno> {
    // SAFETY: the pointers are those of references; the caller answers for the call's effects.
    Errno::check(unsafe { crossdock_emu_interruptible(number, arguments.as_ptr(), interrupt) })
}

/// Makes a call as a 32-bit program of the host does (i386, `asm/unistd_32.h`), with at most five arguments
/// below 4 GiB: the kernel then converts structures itself. A signal can interrupt it, as
/// [`interruptible`]. ENOSYS where the host runs no such programs.
///
/// # Safety
///
/// As [`raw`].
pub unsafe fn call32(number: u64, arguments: &[u64; 6], interrupt: &AtomicU32) -> Result<i64, Errno> {
    // SAFETY: the pointers are those of references; the caller answers for the call's effects.
    Errno::check(unsafe { crossdock_emu_call32(number, arguments.as_ptr(), interrupt) })
}

fn address(function: unsafe extern "C" fn()) -> u64 {
    function as usize as u64
}

/// Where a handler that interrupted the thread at `pc` continues it, if `pc` is in [`interruptible`] or
/// [`call32`] and the call is still to be made.
pub(crate) fn leave_call(pc: u64, rcx: u64) -> Option<u64> {
    let int = address(crossdock_emu_call32_int);
    if (address(crossdock_emu_call32_begin)..=int).contains(&pc) {
        Some(address(crossdock_emu_call32_before))
    } else if pc == int + 1 {
        Some(address(crossdock_emu_call32_again))
    } else if !(address(crossdock_emu_call_begin)..address(crossdock_emu_call_end)).contains(&pc) {
        None
    } else if pc == address(crossdock_emu_call_syscall) && rcx == address(crossdock_emu_call_end) {
        Some(address(crossdock_emu_call_again))
    } else {
        Some(address(crossdock_emu_call_before))
    }
}

/// Where a handler continues a thread whose [`call32`] has faulted at `pc`, since the host runs no 32-bit
/// programs.
pub(crate) fn leave_call32(pc: u64) -> Option<u64> {
    (pc == address(crossdock_emu_call32_int)).then(|| address(crossdock_emu_call32_absent))
}

/// Address of the function for `sa_restorer`.
pub(crate) fn restorer() -> u64 {
    crossdock_emu_restorer as *const () as u64
}
