//! System calls of the guest, by family. Most go to the host unchanged: addresses, layouts and flags are the
//! same.
//!
//! Unknown calls, and those that the host cannot answer for another CPU, fail with ENOSYS.

mod files;
mod indirect;
pub mod table;
mod tagged;
mod trace;

use crate::abi;
use crate::exec;
use crate::guest;
use crate::lock::Lock;
use crate::memory;
use crate::options::{self, Log};
use crate::process;
use crate::program;
use crate::region;
use crate::seccomp::{self, Verdict};
use crate::signal;
use crate::sys::{self, errno, nr};
use crate::task::{self, Task};
use crate::vdso;
use core::sync::atomic::{AtomicU64, Ordering};
use table::number;

/// Defines constants for the numbers of calls, to match against.
macro_rules! calls {
    ($($constant:ident $name:literal)*) => { $(const $constant: u64 = number($name);)* };
}

calls! {
    BRK "brk" CLOCK_GETTIME "clock_gettime" CLONE "clone" CLONE3 "clone3" EXECVE "execve" EXECVEAT "execveat" EXIT "exit" GETRLIMIT "getrlimit"
    MADVISE "madvise" MBIND "mbind" MINCORE "mincore" MLOCKALL "mlockall" MSEAL "mseal" MUNLOCK "munlock" MLOCK "mlock" MLOCK2 "mlock2" MMAP "mmap" MPROTECT "mprotect" MREMAP "mremap" MSYNC "msync"
    MUNMAP "munmap" PKEY_ALLOC "pkey_alloc" PKEY_FREE "pkey_free" PKEY_MPROTECT "pkey_mprotect" PRCTL "prctl"
    PRLIMIT "prlimit64" PWRITE64 "pwrite64" WRITE "write" REMAP_FILE_PAGES "remap_file_pages" RT_SIGACTION "rt_sigaction" RT_SIGPENDING "rt_sigpending" RT_SIGTIMEDWAIT "rt_sigtimedwait"
    RT_SIGPROCMASK "rt_sigprocmask" RT_SIGRETURN "rt_sigreturn" RT_SIGSUSPEND "rt_sigsuspend" SECCOMP "seccomp"
    SEMCTL "semctl" SETRLIMIT "setrlimit" SHMAT "shmat" SHMDT "shmdt" SIGALTSTACK "sigaltstack" UNAME "uname"
    BPF "bpf" IO_URING_SETUP "io_uring_setup" IO_URING_ENTER "io_uring_enter" IO_URING_REGISTER "io_uring_register"
    MAP_SHADOW_STACK "map_shadow_stack" PERF_EVENT_OPEN "perf_event_open" PTRACE "ptrace" RSEQ "rseq"
    USERFAULTFD "userfaultfd" MEMFD_SECRET "memfd_secret" RESTART_SYSCALL "restart_syscall"
    PROCESS_MADVISE "process_madvise" KEXEC_LOAD "kexec_load" KEXEC_FILE_LOAD "kexec_file_load"
}

/// Answers the thread's call, unless a signal has to be delivered first.
pub fn answer(task: &mut Task) {
    let number = task.state.x(8);
    let arguments = core::array::from_fn(|n| task.state.x(n));
    match seccomp::ask(task, number, &arguments) {
        Verdict::Allowed => {}
        Verdict::Result(result) => return task.state.set_x(0, result as u64),
        Verdict::Trapped => return,
    }
    if number == RT_SIGRETURN {
        signal::rt_sigreturn(task);
        return;
    }
    let trace = options::get().trace_calls;
    let result = match table::find(number) {
        Some(row) => {
            if trace {
                trace::begin(row, &arguments);
            }
            let result = make(task, number, row, arguments).unwrap_or_else(|error| error);
            if trace {
                trace::end(row, &arguments, result);
            }
            result
        }
        None => {
            missing(number, None, &arguments);
            errno::ENOSYS
        }
    };
    match result {
        errno::NOT_STARTED => task.state.pc -= abi::SVC_LENGTH,
        errno::RESTART => task.restart = true,
        result => task.state.set_x(0, result as u64),
    }
}

/// Makes a call with the guest's arguments.
fn make(task: &mut Task, number: u64, row: &table::Row, mut a: [u64; 6]) -> Result<i64, i64> {
    let mut copies = tagged::Copies::default();
    let is_tagged = task.tagged;
    if is_tagged {
        for (kind, argument) in row.arguments().bytes().zip(&mut a) {
            if kind == b'p' || kind == b's' {
                *argument = tagged::without_tag(*argument);
            }
        }
    }
    check(row.arguments(), &mut a)?;
    if is_tagged {
        tagged::untag(number, &mut a, &mut copies);
    }
    let result = dispatch(task, number, row.host, &a);
    if is_tagged && result.is_ok() {
        tagged::give_back(number, &copies)?;
    }
    result
}

/// Keeps the guest from making the kernel read or write the emulator's memory, and from using the emulator's
/// descriptor.
fn check(kinds: &str, arguments: &mut [u64; 6]) -> Result<(), i64> {
    let own = program::descriptor();
    for (kind, argument) in kinds.bytes().zip(arguments) {
        match kind {
            b'f' if *argument as i32 == own && own >= 0 => return Err(errno::EBADF),
            b'p' | b's' => *argument = region::harmless(*argument),
            _ => {}
        }
    }
    Ok(())
}

/// Reports once that a call is missing: unknown, or refused on purpose.
fn missing(number: u64, name: Option<&str>, arguments: &[u64; 6]) {
    static SAID: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
    let program = program::get();
    if options::get().log < if name.is_some() { Log::Refused } else { Log::Unknown } {
        return;
    }
    let bit = 1 << (number % 64);
    // Numbers that no kernel will ever define share the last word, so that few of them are reported.
    let word = SAID.get(usize::try_from(number / 64).unwrap_or(usize::MAX)).unwrap_or(&SAID[15]);
    if word.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return;
    }
    let [a, b, c, ..] = arguments;
    let what = match name {
        Some(name) => alloc::format!("{name}({a:#x}, {b:#x}, {c:#x}) is refused"),
        None => alloc::format!("{number} ({a:#x}, {b:#x}, {c:#x}) is not known"),
    };
    sys::complain(&alloc::format!(
        "crossdock-emu: {}: system call {what}: ENOSYS\n",
        alloc::string::String::from_utf8_lossy(&program.file),
    ));
}

/// Gives a call to the host.
fn host(task: &Task, number: u64, arguments: &[u64; 6]) -> Result<i64, i64> {
    // SAFETY: the guest's own pointers, which `check` has checked, or locals of the caller.
    let result = unsafe { sys::interruptible(number, arguments, &task.shared.interrupt) };
    if (-4095..0).contains(&result) { Err(result) } else { Ok(result) }
}

fn dispatch(task: &mut Task, number: u64, host_number: u16, a: &[u64; 6]) -> Result<i64, i64> {
    if let Some(at) = indirect::leads_to_us(number, a) {
        let mut with = *a;
        let mut copies = tagged::Copies::default();
        if !tagged::untag(number, &mut with, &mut copies) {
            with[at] = region::start();
        }
        let result = dispatch_checked(task, number, host_number, &with)?;
        return tagged::give_back(number, &copies).map(|()| result);
    }
    dispatch_checked(task, number, host_number, a)
}

fn dispatch_checked(task: &mut Task, number: u64, host_number: u16, a: &[u64; 6]) -> Result<i64, i64> {
    if let Some(offset) = indirect::memory_written(number, a) {
        let simple = matches!(number, WRITE | PWRITE64);
        return indirect::write_memory(a, simple, offset, |a| host(task, u64::from(host_number), a));
    }
    if let Some(result) = files::dispatch(task, number, a) {
        return result;
    }
    match number {
        BRK => Ok(memory::brk(a[0])),
        MMAP => memory::mmap(*a),
        MUNMAP => memory::munmap(a[0], a[1]),
        MPROTECT => memory::mprotect(a[0], a[1], a[2]),
        PKEY_MPROTECT if a[3] as i32 == -1 => memory::mprotect(a[0], a[1], a[2]),
        MREMAP => memory::mremap(*a),
        SHMAT => memory::shmat(a[0], a[1], a[2]),
        SHMDT => memory::shmdt(a[0]),
        MADVISE | MLOCK | MLOCK2 | MSYNC | MUNLOCK | MINCORE | MBIND | MSEAL => {
            let at = memory::own_range(a[0], a[1]);
            host(task, u64::from(host_number), &[at, a[1], a[2], a[3], a[4], a[5]])
        }
        MLOCKALL => memory::mlockall(a[0]),
        SECCOMP => seccomp::seccomp(task, a[0], a[1], a[2]),
        CLONE => process::clone(task, *a),
        CLONE3 => process::clone3(task, a[0], a[1]),
        EXECVE => exec::execveat(task, exec::AT_FDCWD, a[0], a[1], a[2], 0),
        EXECVEAT => exec::execveat(task, a[0] as i32, a[1], a[2], a[3], a[4]),
        EXIT => process::exit(task, a[0]),
        RT_SIGACTION => signal::rt_sigaction(task, a[0], a[1], a[2], a[3]),
        RT_SIGPROCMASK => signal::rt_sigprocmask(task, a[0], a[1], a[2], a[3]),
        RT_SIGPENDING => signal::rt_sigpending(task, a[0], a[1]),
        RT_SIGTIMEDWAIT => rt_sigtimedwait(task, a),
        RT_SIGSUSPEND => {
            if a[1] != 8 {
                return Err(errno::EINVAL);
            }
            let mask = with_mask(task, a[0], a[1])?.ok_or(errno::EFAULT)?;
            let result = host(task, nr::RT_SIGSUSPEND, &[&raw const mask as u64, 8, 0, 0, 0, 0]);
            after_mask(task, result)
        }
        SIGALTSTACK => signal::sigaltstack(task, a[0], a[1]),
        CLOCK_GETTIME => match vdso::clock_gettime(a[0]) {
            Some(time) => {
                guest::write64(a[1], time[0])?;
                guest::write64(a[1].wrapping_add(8), time[1]).map(|()| 0)
            }
            None => host(task, nr::CLOCK_GETTIME, a),
        },
        UNAME => uname(task, a[0]),
        SEMCTL => semctl(task, a),
        PRCTL => prctl(task, a),
        GETRLIMIT => rlimit(task, 0, a[0], 0, a[1]),
        SETRLIMIT => rlimit(task, 0, a[0], a[1], 0),
        PRLIMIT => rlimit(task, a[0], a[1], a[2], a[3]),
        PKEY_ALLOC | PKEY_FREE | PKEY_MPROTECT => Err(errno::EINVAL),
        BPF | IO_URING_SETUP | IO_URING_ENTER | IO_URING_REGISTER | MAP_SHADOW_STACK | PERF_EVENT_OPEN
        | PTRACE | RSEQ | USERFAULTFD | MEMFD_SECRET | REMAP_FILE_PAGES | RESTART_SYSCALL
        | PROCESS_MADVISE | KEXEC_LOAD | KEXEC_FILE_LOAD => {
            missing(number, table::find(number).map(table::Row::name), a);
            Err(errno::ENOSYS)
        }
        _ => host(task, u64::from(host_number), a),
    }
}

/// rt_sigtimedwait(2). Signals that the host does not block for the guest may be queued already, or may come
/// during the wait, which they interrupt on the host.
fn rt_sigtimedwait(task: &mut Task, a: &[u64; 6]) -> Result<i64, i64> {
    if a[3] != 8 {
        return Err(errno::EINVAL);
    }
    let set = guest::read64(a[0])?;
    loop {
        if let Some((signal, info)) = signal::take_blocked(task, set) {
            if a[1] != 0 {
                for (n, word) in (0..).zip(info) {
                    guest::write64(a[1].wrapping_add(8 * n), word)?;
                }
            }
            return Ok(i64::from(signal));
        }
        let result = host(task, nr::RT_SIGTIMEDWAIT, a);
        if result != Err(errno::EINTR) || !signal::has_blocked(task, set) {
            return result;
        }
    }
}

/// Reads the signal mask that a call installs while it waits, and remembers it for the delivery. Returns the
/// host's form.
fn with_mask(task: &mut Task, set: u64, size: u64) -> Result<Option<u64>, i64> {
    if set == 0 {
        return Ok(None);
    }
    if size != 8 {
        return Err(errno::EINVAL);
    }
    let mask = guest::read64(set)?;
    task.mask_of_call = Some(mask);
    Ok(Some(signal::host_mask(mask)))
}

/// Forgets the mask of a call that no signal has ended.
fn after_mask(task: &mut Task, result: Result<i64, i64>) -> Result<i64, i64> {
    if !task.shared.interrupted() || result == Err(errno::NOT_STARTED) {
        task.mask_of_call = None;
    }
    result
}

fn uname(task: &Task, at: u64) -> Result<i64, i64> {
    const FIELD: u64 = 65;
    host(task, nr::UNAME, &[at, 0, 0, 0, 0, 0])?;
    let mut machine = [0; FIELD as usize];
    let release = &options::get().release;
    if !release.is_empty() {
        let mut field = [0; FIELD as usize];
        let length = release.len().min(field.len() - 1);
        field[..length].copy_from_slice(&release[..length]);
        guest::write(at.wrapping_add(2 * FIELD), &field)?;
    }
    machine[..abi::MACHINE.len()].copy_from_slice(abi::MACHINE.as_bytes());
    guest::write(at.wrapping_add(4 * FIELD), &machine)?;
    Ok(0)
}

/// semctl(2): x86-64's semid64_ds has a gap after each time.
fn semctl(task: &Task, a: &[u64; 6]) -> Result<i64, i64> {
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
            host(task, nr::SEMCTL, &[a[0], a[1], a[2], set.as_ptr() as u64, 0, 0])
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            let result = host(task, nr::SEMCTL, &[a[0], a[1], a[2], set.as_mut_ptr() as u64, 0, 0])?;
            for (n, word) in [0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12].into_iter().enumerate() {
                guest::write64(a[3].wrapping_add(8 * n as u64), set[word])?;
            }
            Ok(result)
        }
        _ => host(task, nr::SEMCTL, a),
    }
}

fn prctl(task: &mut Task, a: &[u64; 6]) -> Result<i64, i64> {
    const PR_GET_SECCOMP: u64 = 21;
    const PR_SET_SECCOMP: u64 = 22;
    const PR_GET_TSC: u64 = 25;
    const PR_SET_TSC: u64 = 26;
    const PR_SET_MM: u64 = 35;
    const PR_SVE_SET_VL: u64 = 50;
    const PR_SVE_GET_VL: u64 = 51;
    const PR_PAC_RESET_KEYS: u64 = 54;
    const PR_SET_TAGGED_ADDR_CTRL: u64 = 55;
    const PR_TAGGED_ADDR_ENABLE: u64 = 1;
    const PR_GET_TAGGED_ADDR_CTRL: u64 = 56;
    const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;
    const PR_PAC_GET_ENABLED_KEYS: u64 = 61;
    match a[0] as u32 as u64 {
        PR_GET_SECCOMP => Ok(seccomp::mode(task)),
        PR_SET_SECCOMP => seccomp::prctl(task, a[1], a[2]),
        // Without the Memory Tagging Extension there is nothing else to set.
        PR_SET_TAGGED_ADDR_CTRL => {
            if a[1] & !PR_TAGGED_ADDR_ENABLE != 0 || a[2..5] != [0; 3] {
                return Err(errno::EINVAL);
            }
            task.tagged = a[1] == PR_TAGGED_ADDR_ENABLE;
            Ok(0)
        }
        PR_GET_TAGGED_ADDR_CTRL => {
            if a[1..5] == [0; 4] {
                Ok(i64::from(task.tagged))
            } else {
                Err(errno::EINVAL)
            }
        }
        PR_GET_TSC | PR_SET_TSC | PR_SET_MM | PR_SVE_SET_VL | PR_SVE_GET_VL => Err(errno::EINVAL),
        PR_PAC_RESET_KEYS => Err(errno::EINVAL),
        PR_SET_SYSCALL_USER_DISPATCH..=PR_PAC_GET_ENABLED_KEYS => Err(errno::EINVAL),
        _ => host(task, nr::PRCTL, a),
    }
}

/// prlimit64(2). Limits of address space and data would hit the emulator, whose region is large, so they are
/// only remembered.
fn rlimit(task: &Task, process: u64, resource: u64, new: u64, old: u64) -> Result<i64, i64> {
    const RLIMIT_DATA: u64 = 2;
    const RLIMIT_AS: u64 = 9;
    static REMEMBERED: Lock<[Option<[u64; 2]>; 2]> = Lock::new([None; 2]);
    let own = process as u32 == 0 || process as u32 == task::process_id();
    let slot = match resource as u32 as u64 {
        RLIMIT_DATA if own => 0,
        RLIMIT_AS if own => 1,
        _ => return host(task, nr::PRLIMIT64, &[process, resource, new, old, 0, 0]),
    };
    let mut now = [0u64; 2];
    host(task, nr::PRLIMIT64, &[0, resource, 0, now.as_mut_ptr() as u64, 0, 0])?;
    let mut remembered = REMEMBERED.lock();
    let before = remembered[slot].unwrap_or(now);
    if new != 0 {
        let wanted = guest::read_words::<2>(new)?;
        if wanted[0] > wanted[1] {
            return Err(errno::EINVAL);
        }
        remembered[slot] = Some(wanted);
    }
    if old != 0 {
        guest::write64(old, before[0])?;
        guest::write64(old.wrapping_add(8), before[1])?;
    }
    Ok(0)
}
