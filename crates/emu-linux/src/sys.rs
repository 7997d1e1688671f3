//! System calls of the host, without a C library: nothing is cached, nothing is allocated, errors are
//! negative numbers.

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
    pub const GETEUID: u64 = 107;
    pub const GETEGID: u64 = 108;
    pub const RT_SIGPENDING: u64 = 127;
    pub const RT_SIGTIMEDWAIT: u64 = 128;
    pub const RT_SIGSUSPEND: u64 = 130;
    pub const IOCTL: u64 = 16;
    pub const PREAD64: u64 = 17;
    pub const SCHED_YIELD: u64 = 24;
    pub const MREMAP: u64 = 25;
    pub const MINCORE: u64 = 27;
    pub const MADVISE: u64 = 28;
    pub const SHMAT: u64 = 30;
    pub const SHMDT: u64 = 67;
    pub const GETPID: u64 = 39;
    pub const CLONE: u64 = 56;
    pub const EXECVE: u64 = 59;
    pub const EXIT: u64 = 60;
    pub const UNAME: u64 = 63;
    pub const SEMCTL: u64 = 66;
    pub const FCNTL: u64 = 72;
    pub const GETRLIMIT: u64 = 97;
    pub const PERSONALITY: u64 = 135;
    pub const SIGALTSTACK: u64 = 131;
    pub const PRCTL: u64 = 157;
    pub const GETTID: u64 = 186;
    pub const FGETXATTR: u64 = 193;
    pub const GETRANDOM: u64 = 318;
    pub const FUTEX: u64 = 202;
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
    pub const EPOLL_PWAIT: u64 = 281;
    pub const DUP3: u64 = 292;
    pub const PIPE2: u64 = 293;
    pub const RT_TGSIGQUEUEINFO: u64 = 297;
    pub const FANOTIFY_INIT: u64 = 300;
    pub const PRLIMIT64: u64 = 302;
    pub const OPEN_BY_HANDLE_AT: u64 = 304;
    pub const MLOCKALL: u64 = 151;
    pub const MEMFD_CREATE: u64 = 319;
    pub const MLOCK2: u64 = 325;
    pub const EXECVEAT: u64 = 322;
    pub const IO_PGETEVENTS: u64 = 333;
    pub const CLONE3: u64 = 435;
    pub const CLOSE_RANGE: u64 = 436;
    pub const OPENAT2: u64 = 437;
    pub const FACCESSAT2: u64 = 439;
    pub const EPOLL_PWAIT2: u64 = 441;
}

/// Error numbers, negative as system calls return them; the same on all guests.
#[allow(missing_docs)]
pub mod errno {
    pub const EPERM: i64 = -1;
    pub const ENOENT: i64 = -2;
    pub const ESRCH: i64 = -3;
    pub const EINTR: i64 = -4;
    pub const E2BIG: i64 = -7;
    pub const ENOEXEC: i64 = -8;
    pub const EBADF: i64 = -9;
    pub const ENOMEM: i64 = -12;
    pub const EACCES: i64 = -13;
    pub const EFAULT: i64 = -14;
    pub const EEXIST: i64 = -17;
    pub const EINVAL: i64 = -22;
    pub const ELOOP: i64 = -40;
    pub const ENAMETOOLONG: i64 = -36;
    pub const ENOSYS: i64 = -38;
    pub const ENOTTY: i64 = -25;
    pub const ELIBBAD: i64 = -80;
    pub const EOPNOTSUPP: i64 = -95;
    /// The kernel would restart the call if the signal's action has SA_RESTART. Never reaches the guest.
    pub const RESTART: i64 = -512;
    /// A signal came before the call was made: deliver it and make the call afterwards. Never reaches the
    /// guest.
    pub const NOT_STARTED: i64 = -513;
}

/// Makes a system call.
///
/// # Safety
///
/// As for the system call: the kernel must not write to memory that Rust code relies on.
#[inline(always)]
pub unsafe fn call(number: u64, a: [u64; 6]) -> i64 {
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

/// [`call`] with the arguments listed.
#[macro_export]
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::sys::call($number, $crate::sys::six([$($argument as u64),*]))
    };
}

// crossdock_emu_interruptible(number, arguments, interrupt): makes a system call unless `interrupt` is set.
//
// A handler that runs between `begin` and `end` (after the check and before the call, or when the kernel has
// gone back to repeat the call) moves the instruction pointer to `before` or `again`; see
// `signal::on_host_signal`. rcx tells the two apart: it is 0 before the SYSCALL instruction, which puts its
// return address there.
#[rustfmt::skip]
global_asm!(
    ".pushsection .text.crossdock_emu_syscall,\"ax\",@progbits",
    ".irp name,interruptible,call_begin,call_syscall,call_end,call_before,call_again,restorer,thread_start,thread_start3,thread_exit",
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

    // The sa_restorer that x86-64 requires: rt_sigreturn.
    ".p2align 4",
    "crossdock_emu_restorer:",
    "mov eax, 15",
    "syscall",

    // crossdock_emu_thread_start(flags, stack, ptid, ctid, main, argument) -> tid or error: clone, in whose
    // child `main(argument)` runs on the new stack and never returns.
    ".p2align 4",
    "crossdock_emu_thread_start:",
    "mov r10, rcx",
    "mov r11, r8",
    "sub rsi, 16",
    "mov [rsi], r8",
    "mov [rsi + 8], r9",
    "xor r8d, r8d",
    "mov eax, 56",
    "jmp crossdock_emu_thread_clone",

    // crossdock_emu_thread_start3(clone_args, size) -> tid or error: clone3, whose child finds `main` and its
    // argument on top of its stack.
    ".p2align 4",
    "crossdock_emu_thread_start3:",
    "mov eax, 435",
    "crossdock_emu_thread_clone:",
    "syscall",
    "test rax, rax",
    "jz 1f",
    "ret",
    "1: xor ebp, ebp",
    "pop rax",
    "pop rdi",
    "call rax",
    "ud2",

    // crossdock_emu_thread_exit(flag, status): gives back the thread's own stack, then ends the thread.
    ".p2align 4",
    "crossdock_emu_thread_exit:",
    "mov dword ptr [rdi], 0",
    "mov edi, esi",
    "mov eax, 60",
    "syscall",
    "ud2",
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
    fn crossdock_emu_thread_start(
        flags: u64,
        stack: u64,
        ptid: u64,
        ctid: u64,
        main: unsafe extern "C" fn(u64) -> !,
        argument: u64,
    ) -> i64;
    fn crossdock_emu_thread_start3(arguments: *const u64, size: usize) -> i64;
    fn crossdock_emu_thread_exit(flag: *const AtomicU32, status: u64) -> !;
}

/// Makes a system call that a signal can interrupt. Returns [`errno::NOT_STARTED`] if a signal came before
/// the call, [`errno::RESTART`] if one came during the call and the kernel would have restarted it.
///
/// # Safety
///
/// As [`call`].
pub unsafe fn interruptible(number: u64, arguments: &[u64; 6], interrupt: &AtomicU32) -> i64 {
    // SAFETY: the pointers are those of references; the caller answers for the call's effects.
    unsafe { crossdock_emu_interruptible(number, arguments.as_ptr(), interrupt) }
}

/// Where a handler that interrupted the thread at `pc` continues it, if `pc` is in [`interruptible`] and the
/// call is still to be made.
pub(crate) fn leave_call(pc: u64, rcx: u64) -> Option<u64> {
    let address = |function: unsafe extern "C" fn()| function as usize as u64;
    if !(address(crossdock_emu_call_begin)..address(crossdock_emu_call_end)).contains(&pc) {
        None
    } else if pc == address(crossdock_emu_call_syscall) && rcx == address(crossdock_emu_call_end) {
        Some(address(crossdock_emu_call_again))
    } else {
        Some(address(crossdock_emu_call_before))
    }
}

/// Address of the function for `sa_restorer`.
pub(crate) fn restorer() -> u64 {
    crossdock_emu_restorer as *const () as u64
}

/// Starts a task that shares memory and runs `main(argument)` on `stack`. Returns its id or an error.
///
/// # Safety
///
/// As for clone(2): `stack` is the end of memory that nothing else uses while the task lives.
pub(crate) unsafe fn thread_start(
    flags: u64,
    stack: u64,
    ptid: u64,
    ctid: u64,
    main: unsafe extern "C" fn(u64) -> !,
    argument: u64,
) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { crossdock_emu_thread_start(flags, stack, ptid, ctid, main, argument) }
}

/// [`thread_start`] by clone3(2), with the words of a `struct clone_args`.
///
/// # Safety
///
/// As [`thread_start`], for the stack in the arguments.
pub(crate) unsafe fn thread_start3(
    mut arguments: [u64; 11],
    main: unsafe extern "C" fn(u64) -> !,
    argument: u64,
) -> i64 {
    const STACK_SIZE: usize = 6;
    arguments[STACK_SIZE] -= 16;
    let top = (arguments[STACK_SIZE - 1] + arguments[STACK_SIZE]) as *mut u64;
    // SAFETY: the caller's promise: the stack is unused memory.
    unsafe {
        top.write(main as *const () as u64);
        top.add(1).write(argument);
        crossdock_emu_thread_start3(arguments.as_ptr(), size_of_val(&arguments))
    }
}

/// Ends the calling thread; sets `flag` to 0 when its stack is no longer used.
///
/// # Safety
///
/// All signals are blocked, and nothing on the stack is needed any more.
pub(crate) unsafe fn thread_exit(flag: &AtomicU32, status: u64) -> ! {
    // SAFETY: the caller's promise.
    unsafe { crossdock_emu_thread_exit(flag, status) }
}

/// Writes text to standard error; stops at the first error.
pub fn complain(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        // SAFETY: write only reads the bytes given.
        let written = unsafe { syscall!(nr::WRITE, 2, rest.as_ptr(), rest.len()) };
        if written <= 0 {
            return;
        }
        rest = &rest[written as usize..];
    }
}

/// Ends the process.
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { syscall!(nr::EXIT_GROUP, status) };
    }
}
