//! Threads and processes of the host: their numbers, their start and their end.

use super::call::{nr, with_numbers};
use super::errno::Errno;
use crate::sys::call::syscall;
use core::arch::global_asm;
use core::sync::atomic::AtomicU32;

#[rustfmt::skip]
global_asm!(
    ".pushsection .text.crossdock_emu_threads,\"ax\",@progbits",
    ".irp name,thread_start,thread_start3,thread_exit",
    ".globl crossdock_emu_\\name",
    ".hidden crossdock_emu_\\name",
    ".endr",

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
) -> Result<i64, Errno> {
    // SAFETY: the caller's promise.
    Errno::check(unsafe { crossdock_emu_thread_start(flags, stack, ptid, ctid, main, argument) })
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
) -> Result<i64, Errno> {
    const STACK_SIZE: usize = 6;
    arguments[STACK_SIZE] -= 16;
    let top = (arguments[STACK_SIZE - 1] + arguments[STACK_SIZE]) as *mut u64;
    // SAFETY: the caller's promise: the stack is unused memory.
    unsafe {
        top.write(main as *const () as u64);
        top.add(1).write(argument);
        Errno::check(crossdock_emu_thread_start3(arguments.as_ptr(), size_of_val(&arguments)))
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

/// Ends the calling thread alone (exit(2)), whose memory is somebody else's.
pub fn exit_thread(status: u64) -> ! {
    loop {
        let _ = with_numbers::<{ nr::EXIT }, _>([status]);
    }
}

/// Ends the process.
pub fn exit_group(status: i32) -> ! {
    loop {
        let _ = with_numbers::<{ nr::EXIT_GROUP }, _>([status as u64]);
    }
}

/// The result of a call that always succeeds.
fn id(result: Result<i64, Errno>) -> u32 {
    result.map_or(0, |id| id as u32)
}

/// The host's id of the calling thread (gettid(2)).
pub fn thread_id() -> u32 {
    id(with_numbers::<{ nr::GETTID }, _>([]))
}

/// The host's id of the process (getpid(2)).
pub fn process_id() -> u32 {
    id(with_numbers::<{ nr::GETPID }, _>([]))
}

/// The effective user and group of the process (geteuid(2), getegid(2)).
pub fn effective_ids() -> (u32, u32) {
    (id(with_numbers::<{ nr::GETEUID }, _>([])), id(with_numbers::<{ nr::GETEGID }, _>([])))
}

/// Leaves the CPU to all other processes (setpriority(2), sched(7), "SCHED_IDLE").
pub fn be_nice() {
    const PRIO_PROCESS: u64 = 0;
    const LOWEST: u64 = 19;
    const SCHED_IDLE: u64 = 5;
    let _ = with_numbers::<{ nr::SETPRIORITY }, _>([PRIO_PROCESS, 0, LOWEST]);
    let priority = 0_i32;
    // SAFETY: the priority, which is a whole sched_param, outlives the call.
    let _ = unsafe { syscall!(nr::SCHED_SETSCHEDULER, 0, SCHED_IDLE, &raw const priority as u64) };
}

/// Leaves the terminal (setsid(2)).
pub fn own_session() {
    let _ = with_numbers::<{ nr::SETSID }, _>([]);
}

/// Closes all descriptors (close_range(2)).
pub fn close_all() {
    let _ = with_numbers::<{ nr::CLOSE_RANGE }, _>([0, u32::MAX.into(), 0]);
}

/// Waits for some nanoseconds, less than a second.
pub fn sleep(nanoseconds: u64) {
    let time = [0, nanoseconds];
    // SAFETY: the kernel reads the time; there are no descriptors.
    let _ = unsafe { syscall!(nr::PPOLL, 0, 0, time.as_ptr(), 0, 0) };
}

/// Executes an open file in a child that nobody waits for, with no environment. The caller waits until that
/// has happened.
pub(crate) fn start_apart(descriptor: i32, arguments: &[u64]) {
    const CLONE_VM_VFORK: u64 = 0x100 | 0x4000;
    const AT_EMPTY_PATH: u64 = 0x1000;
    const STACK: usize = 16 << 10;
    struct Child<'c> {
        descriptor: i32,
        arguments: &'c [u64],
    }
    unsafe extern "C" fn main(child: u64) -> ! {
        // SAFETY: the parent's structure; it waits.
        let child = unsafe { &*(child as *const Child<'_>) };
        let environment = [0u64];
        let (arguments, environment) = (child.arguments.as_ptr() as u64, environment.as_ptr() as u64);
        let empty = c"".as_ptr() as u64;
        let _ = execute(child.descriptor, empty, arguments, environment, AT_EMPTY_PATH);
        exit_thread(127)
    }
    let stack: alloc::vec::Vec<u128> = alloc::vec![0; STACK / 16];
    let child = Child { descriptor, arguments };
    let argument = core::ptr::from_ref(&child) as u64;
    // SAFETY: the child alone uses the stack; this thread waits until the child has left its memory.
    let _ = unsafe { thread_start(CLONE_VM_VFORK, stack.as_ptr_range().end as u64, 0, 0, main, argument) };
}

/// Lets another thread run (sched_yield(2)).
pub fn give_way() {
    let _ = with_numbers::<{ nr::SCHED_YIELD }, _>([]);
}

/// The personality of the process (personality(2)).
pub fn personality() -> u64 {
    const ASK: u64 = 0xffff_ffff;
    with_numbers::<{ nr::PERSONALITY }, _>([ASK]).map_or(0, |persona| persona as u64)
}

/// Sets the personality of the process.
pub fn set_personality(personality: u64) {
    let _ = with_numbers::<{ nr::PERSONALITY }, _>([personality]);
}

/// Sets the thread pointer of the host's thread (arch_prctl(2), ARCH_SET_FS).
///
/// # Safety
///
/// The pointer is to thread-local variables, laid out for the executable.
pub unsafe fn set_thread_pointer(pointer: u64) {
    const ARCH_SET_FS: u64 = 0x1002;
    // SAFETY: the caller's promise.
    let _ = unsafe { syscall!(nr::ARCH_PRCTL, ARCH_SET_FS, pointer) };
}

/// Sets the base of GS of the calling thread (arch_prctl(2), ARCH_SET_GS), which no code but the translated
/// one uses. False if the host refuses.
pub fn point_gs(address: u64) -> bool {
    const ARCH_SET_GS: u64 = 0x1001;
    // SAFETY: nothing refers to memory by GS but translated code, which needs this base.
    unsafe { syscall!(nr::ARCH_PRCTL, ARCH_SET_GS, address) }.is_ok()
}

/// The limits of a resource of the process, now and at most (getrlimit(2)).
pub fn limits(resource: u64) -> [u64; 2] {
    let mut limits = [0; 2];
    // SAFETY: the kernel fills the array.
    let _ = unsafe { syscall!(nr::GETRLIMIT, resource, limits.as_mut_ptr()) };
    limits
}

/// The number of CPUs that the process may use (sched_getaffinity(2)); 1 if the kernel does not say.
pub fn cpus() -> u32 {
    let mut set = [0u64; 128];
    // SAFETY: the kernel writes into the array.
    let length = unsafe { syscall!(nr::SCHED_GETAFFINITY, 0, size_of_val(&set), set.as_mut_ptr()) };
    if length.is_ok() { set.iter().map(|word| word.count_ones()).sum() } else { 1 }
}

/// Sets the name of the thread (PR_SET_NAME, prctl(2)): at most 15 bytes.
pub fn set_name(name: &[u8]) {
    const PR_SET_NAME: u64 = 15;
    let mut bytes = [0u8; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name[..length]);
    // SAFETY: 16 bytes that end with NUL.
    let _ = unsafe { syscall!(nr::PRCTL, PR_SET_NAME, bytes.as_ptr()) };
}

/// The time of a clock (clock_gettime(2)): seconds and nanoseconds.
pub fn time(clock: u64) -> [u64; 2] {
    let mut time = [0; 2];
    // SAFETY: the kernel fills the array.
    let _ = unsafe { syscall!(nr::CLOCK_GETTIME, clock, time.as_mut_ptr()) };
    time
}

/// Whether another process shares this one's memory (kcmp(2)): a task of a vfork, for example.
pub fn shares_memory(process: u32) -> bool {
    const KCMP_VM: u64 = 1;
    with_numbers::<{ nr::KCMP }, _>([process_id().into(), process.into(), KCMP_VM]) == Ok(0)
}

/// Whether the process can gain no rights by execve (PR_GET_NO_NEW_PRIVS, prctl(2)).
pub fn has_no_new_privileges() -> bool {
    const PR_GET_NO_NEW_PRIVS: u64 = 39;
    // SAFETY: no memory is involved.
    unsafe { syscall!(nr::PRCTL, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == Ok(1) }
}

/// Whether the process has one of the first 32 capabilities (capget(2)).
pub fn has_capability(capability: u32) -> bool {
    const VERSION_3: u64 = 0x2008_0522;
    let (header, mut data) = ([VERSION_3, 0], [0u32; 6]);
    // SAFETY: the kernel reads a header of 8 bytes, and fills two structures of 3 words.
    let result = unsafe { syscall!(nr::CAPGET, header.as_ptr(), data.as_mut_ptr()) };
    result.is_ok() && data[0] >> capability & 1 == 1
}

/// Tells the kernel where a program's parts lie (PR_SET_MM_MAP, prctl(2)): the words of a
/// `struct prctl_mm_map`. Returns whether the kernel has accepted that.
pub fn describe_memory(map: &[u64; 13]) -> bool {
    const PR_SET_MM: u64 = 35;
    const PR_SET_MM_MAP: u64 = 14;
    // SAFETY: the kernel reads the structure, and the auxiliary vector that it points to.
    unsafe { syscall!(nr::PRCTL, PR_SET_MM, PR_SET_MM_MAP, map.as_ptr(), size_of_val(map), 0) == Ok(0) }
}

/// clone(2), by clone3(2) if `by_clone3`, of a process with a copy of this one's memory; 0 in the child.
///
/// # Safety
///
/// The pointers in `words` (a `struct clone_args`) are 0 or lead to memory that no Rust code relies on, and
/// what other threads have begun is consistent in the copy.
pub(crate) unsafe fn fork(words: &[u64; 11], by_clone3: bool) -> Result<i64, Errno> {
    let [flags, pidfd, child, parent, exit_signal, ..] = *words;
    const CLONE_PIDFD: u64 = 0x1000;
    let parent = if flags & CLONE_PIDFD != 0 { pidfd } else { parent };
    // SAFETY: the caller's promise.
    unsafe {
        if by_clone3 {
            syscall!(nr::CLONE3, words.as_ptr(), size_of_val(words))
        } else {
            syscall!(nr::CLONE, flags | exit_signal, 0, parent, child, 0)
        }
    }
}

/// A copy of the process, of which the guest hears nothing, since its end sends no signal and wait(2) passes
/// over it. It ends with the process. Returns its number, and 0 in the copy.
///
/// # Safety
///
/// What other threads have begun is consistent in the copy.
pub(crate) unsafe fn copy() -> Result<u32, Errno> {
    const PR_SET_PDEATHSIG: u64 = 1;
    let process = process_id();
    // SAFETY: the caller's promise; no pointer is passed.
    let copy = unsafe { fork(&[0; 11], false) }?;
    if copy == 0 {
        // SAFETY: nothing is written.
        let parent = unsafe {
            let _ = syscall!(nr::PRCTL, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            syscall!(nr::GETPPID)
        };
        if parent != Ok(process.into()) {
            // It has ended already.
            exit_group(0);
        }
    }
    Ok(copy as u32)
}

const SIGKILL: u64 = 9;

const WNOHANG: u64 = 1;
/// Children whose end sends no signal, too.
const WALL: u64 = 0x4000_0000;

/// Whether a copy has ended; its number is free then.
pub(crate) fn has_ended(copy: u32) -> bool {
    // SAFETY: nothing is written.
    unsafe { syscall!(nr::WAIT4, copy, 0, WNOHANG | WALL, 0) != Ok(0) }
}

/// Ends a copy.
pub(crate) fn end_copy(copy: u32) {
    // SAFETY: nothing is written.
    let _ = unsafe { (syscall!(nr::KILL, copy, SIGKILL), syscall!(nr::WAIT4, copy, 0, WALL, 0)) };
}

/// process_vm_readv(2): reads memory of another process, a copy of this one; false unless all of it can be
/// read.
pub(crate) fn read_memory(process: u32, address: u64, bytes: &mut [u8]) -> bool {
    let (ours, theirs) = ([bytes.as_mut_ptr() as u64, bytes.len() as u64], [address, bytes.len() as u64]);
    // SAFETY: the kernel writes `bytes`, and reads the two ranges.
    let read = unsafe { syscall!(nr::PROCESS_VM_READV, process, ours.as_ptr(), 1, theirs.as_ptr(), 1, 0) };
    read == Ok(bytes.len() as i64)
}

/// futex(2): waits while `word`, which processes share, has `value`, at most for so many nanoseconds.
pub(crate) fn wait_any(word: &AtomicU32, value: u32, nanoseconds: u64) {
    const FUTEX_WAIT: u64 = 0;
    let time = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    // SAFETY: the kernel reads the word and the time.
    let _ = unsafe { syscall!(nr::FUTEX, word.as_ptr(), FUTEX_WAIT, value, time.as_ptr()) };
}

/// futex(2): wakes a process that waits for `word`.
pub(crate) fn wake_any(word: &AtomicU32) {
    wake_shared(word.as_ptr() as u64);
}

/// futex(2): waits while `word` has `value`, among the threads of the process.
pub fn wait(word: &AtomicU32, value: u32) {
    const FUTEX_WAIT_PRIVATE: u64 = 128;
    // SAFETY: the kernel reads the word.
    let _ = unsafe { syscall!(nr::FUTEX, word.as_ptr(), FUTEX_WAIT_PRIVATE, value, 0) };
}

/// futex(2): wakes a thread that waits for `word`.
pub fn wake(word: &AtomicU32) {
    const FUTEX_WAKE_PRIVATE: u64 = 129;
    // SAFETY: nothing is read or written.
    let _ = unsafe { syscall!(nr::FUTEX, word.as_ptr(), FUTEX_WAKE_PRIVATE, 1) };
}

/// futex(2): wakes a thread of any process that waits for the word at an address of the guest.
pub fn wake_shared(address: u64) {
    const FUTEX_WAKE: u64 = 1;
    // SAFETY: nothing is read or written.
    let _ = unsafe { syscall!(nr::FUTEX, address, FUTEX_WAKE, 1) };
}

/// execveat(2). Returns only on error.
///
/// The kernel reads the path, the two arrays of pointers and the strings; what it cannot read is EFAULT.
pub fn execute(directory: i32, path: u64, arguments: u64, environment: u64, flags: u64) -> Errno {
    // SAFETY: nothing is written in this process.
    match unsafe { syscall!(nr::EXECVEAT, directory, path, arguments, environment, flags) } {
        Err(error) => error,
        Ok(_) => unreachable!("the program has been replaced"),
    }
}
