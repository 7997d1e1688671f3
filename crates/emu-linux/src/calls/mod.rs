//! System calls of the guest, by family. Most go to the host unchanged: addresses, layouts and flags are the
//! same. The ABI's table ([`crate::arch::call`]) says which implementation answers a call; implementations
//! know neither numbers nor registers.
//!
//! Unknown calls, and those that the host cannot answer for another CPU, fail with ENOSYS.

pub(crate) mod files;
pub(crate) mod host;
mod indirect;
pub(crate) mod signals;
pub(crate) mod system;
mod tagged;
mod trace;

use crate::arch::Abi;
use crate::arch::call::{Call, Row};
use crate::exec;
use crate::guest;
use crate::images::{compile, report};
use crate::memory;
use crate::options::{self, Log};
use crate::own_executable;
use crate::personality;
use crate::process;
use crate::program;
use crate::region;
use crate::seccomp::{self, Verdict};
use crate::shared;
use crate::signal::deliver;
use crate::signal::number::{KILL, SYS};
use crate::sys::file::AT_FDCWD;
use crate::sys::signal::die;
use crate::sys::{self, Errno, errno, nr};
use crate::task::Task;
use crate::vdso;
use core::sync::atomic::{AtomicU64, Ordering};
use host::host;

/// Answers the thread's call, unless a signal has to be delivered first.
pub fn answer<A: Abi>(task: &mut Task<A>) {
    let (number, registers) = A::call(&task.state);
    let row = A::row(number);
    if seccomp::has_filters(&task.thread) && !is_allowed(task, number, row, &registers) {
        return;
    }
    let Some(row) = row else {
        missing(number, None, &registers);
        return A::set_result(&mut task.state, Err(errno::ENOSYS));
    };
    if row.call == Call::RtSigreturn {
        return signals::rt_sigreturn(task);
    }
    let arguments = A::decode(row, registers);
    let trace = options::get().trace_calls;
    if trace {
        trace::begin(row, &arguments);
    }
    let result = make(task, number, row, arguments);
    if trace {
        trace::end(row, &arguments, result);
    }
    match result {
        Err(errno::NOT_STARTED) => A::call_again(&mut task.state),
        Err(errno::RESTART) => task.thread.restart = true,
        result => A::set_result(&mut task.state, result),
    }
}

/// Asks the thread's filters about a call, and does what they say if the call is not to be made.
#[cold]
fn is_allowed<A: Abi>(
    task: &mut Task<A>,
    number: u64,
    row: Option<&'static Row>,
    registers: &[u64; 6],
) -> bool {
    let call = seccomp::Asked { number, row, registers, pc: A::pc(&task.state) };
    match seccomp::ask(&task.thread, &call, A::AUDIT_ARCHITECTURE) {
        Verdict::Allowed => return true,
        Verdict::Result(result) => A::set_result(&mut task.state, result),
        Verdict::Trapped(info) => deliver::force(task, SYS, &info),
        Verdict::Killed => die(KILL),
        Verdict::ThreadEnds if shared::other_threads(task.thread.shared).next().is_some() => {
            process::exit(task, u64::from(SYS))
        }
        Verdict::ThreadEnds | Verdict::ProcessEnds => die(SYS),
    }
    false
}

/// Makes a call with the guest's arguments.
fn make<A: Abi>(task: &mut Task<A>, number: u64, row: &Row, mut a: [u64; 6]) -> Result<i64, Errno> {
    if task.thread.has_other_addresses() {
        return make_tagged(task, number, row, a);
    }
    check(row.arguments(), &mut a)?;
    dispatch(task, number, row, &a)
}

/// [`make`] for a thread that may pass pointers with tags, or with an alias of the host's addresses.
fn make_tagged<A: Abi>(task: &mut Task<A>, number: u64, row: &Row, mut a: [u64; 6]) -> Result<i64, Errno> {
    let mut copies = tagged::Copies::default();
    for (kind, argument) in row.arguments().bytes().zip(&mut a) {
        if kind == b'p' || kind == b's' {
            *argument = region::host_address(*argument);
        }
    }
    check(row.arguments(), &mut a)?;
    tagged::untag(row.call, &mut a, &mut copies);
    let result = dispatch(task, number, row, &a)?;
    tagged::give_back(row.call, &copies, result).map(|()| result)
}

/// Keeps the guest from making the kernel read or write the emulator's memory, and from using the emulator's
/// descriptor.
fn check(kinds: &str, arguments: &mut [u64; 6]) -> Result<(), Errno> {
    let own = own_executable::descriptor();
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
        alloc::string::String::from_utf8_lossy(&program::file()),
    ));
}

fn dispatch<A: Abi>(task: &mut Task<A>, number: u64, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let Some(at) = indirect::leads_to_us(row.call, a) else {
        return dispatch_checked(task, number, row, a);
    };
    let mut with = *a;
    let mut copies = tagged::Copies::default();
    if !tagged::untag(row.call, &mut with, &mut copies) {
        with[at] = region::start();
    }
    let result = dispatch_checked(task, number, row, &with)?;
    tagged::give_back(row.call, &copies, result).map(|()| result)
}

/// Reports the code that the process has run, before it ends (`ends`) or executes another program.
fn report_code<A: Abi>(task: &mut Task<A>, ends: bool) {
    // A child of vfork has its parent's engine.
    if !task.owns_engine {
        return;
    }
    if let Some(folder) = report::write(task.parts().0)
        && ends
    {
        compile::start(&folder);
    }
}

fn dispatch_checked<A: Abi>(task: &mut Task<A>, number: u64, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let thread = &mut task.thread;
    if let Some(offset) = indirect::memory_written(row.call, a) {
        let simple = matches!(row.call, Call::Write | Call::Pwrite64);
        return indirect::write_memory(a, simple, offset, |a| host(thread, u64::from(row.host), a));
    }
    if !options::get().sysroot.is_empty()
        && let Some(result) = files::in_sysroot::<A>(thread, row, a)
    {
        return result;
    }
    if u64::from(row.host) == nr::EXIT_GROUP {
        report_code(task, true);
    }
    let thread = &mut task.thread;
    match row.call {
        Call::Brk => Ok(memory::brk(a[0])),
        Call::Mmap => memory::mmap(*a),
        Call::Munmap => memory::munmap(a[0], a[1]),
        Call::Mprotect => memory::mprotect(a[0], a[1], a[2]),
        Call::PkeyMprotect if a[3] as i32 == -1 => memory::mprotect(a[0], a[1], a[2]),
        Call::Mremap => memory::mremap(*a),
        Call::Shmat => memory::shmat(a[0], a[1], a[2]),
        Call::Shmdt => memory::shmdt(a[0]),
        Call::Range => {
            let at = memory::own_range(a[0], a[1]);
            host(thread, u64::from(row.host), &[at, a[1], a[2], a[3], a[4], a[5]])
        }
        Call::Mlockall => memory::mlockall(a[0]),

        Call::Clone => process::clone(task, A::clone_arguments(*a)),
        Call::Clone3 => process::clone3(task, a[0], a[1]),
        Call::Execve => {
            report_code(task, false);
            exec::execveat(&task.thread, A::MACHINE.word(), AT_FDCWD, a[0], a[1], a[2], 0)
        }
        Call::Execveat => {
            report_code(task, false);
            let (directory, word) = (a[0] as i32, A::MACHINE.word());
            exec::execveat(&task.thread, word, directory, a[1], a[2], a[3], a[4])
        }
        Call::Exit => process::exit(task, a[0]),
        Call::Seccomp => seccomp::seccomp(thread, A::MACHINE.word(), a[0], a[1], a[2]),
        Call::Personality => {
            let persona = host(thread, nr::PERSONALITY, &[personality::to_host(a[0]), 0, 0, 0, 0, 0])?;
            Ok(personality::to_guest(persona))
        }
        Call::Uname => system::uname::<A>(thread, a[0]),
        Call::Prctl => system::prctl::<A>(thread, a),
        Call::Getrlimit => system::rlimit(thread, 0, a[0], 0, a[1]),
        Call::Setrlimit => system::rlimit(thread, 0, a[0], a[1], 0),
        Call::Prlimit => system::rlimit(thread, a[0], a[1], a[2], a[3]),
        Call::Semctl => system::semctl(thread, a),
        Call::ClockGettime => match vdso::clock_gettime(a[0]) {
            Some(time) => guest::write_words(a[1], &time).map(|()| 0),
            None => host(thread, nr::CLOCK_GETTIME, a),
        },

        Call::RtSigaction => signals::rt_sigaction::<A>(thread, a[0], a[1], a[2], a[3]),
        Call::RtSigprocmask => signals::rt_sigprocmask(thread, a[0], a[1], a[2], a[3]),
        Call::RtSigpending => signals::rt_sigpending(thread, a[0], a[1]),
        Call::RtSigtimedwait => signals::rt_sigtimedwait(thread, a),
        Call::RtSigsuspend => signals::rt_sigsuspend(thread, a[0], a[1]),
        Call::Sigaltstack => signals::sigaltstack::<A>(thread, A::sp(&task.state), a[0], a[1]),

        Call::Openat => files::openat::<A>(thread, a),
        Call::Openat2 => files::openat2::<A>(thread, a),
        Call::OpenByHandleAt => {
            host(thread, nr::OPEN_BY_HANDLE_AT, &[a[0], a[1], files::to_host::<A>(a[2]), 0, 0, 0])
        }
        Call::Pipe2 => host(thread, nr::PIPE2, &[a[0], files::to_host::<A>(a[1]), 0, 0, 0, 0]),
        Call::FanotifyInit => host(thread, nr::FANOTIFY_INIT, &[a[0], files::to_host::<A>(a[1]), 0, 0, 0, 0]),
        Call::Fcntl => files::fcntl::<A>(thread, a),
        Call::Fstat => files::fstat::<A>(thread, a),
        Call::Fstatat => files::fstatat::<A>(thread, a),
        Call::Statx | Call::Faccessat | Call::Faccessat2 => files::with_exe(thread, row, a),
        Call::Readlinkat => files::readlinkat(thread, a),
        Call::Getdents64 => files::getdents64(thread, a),
        Call::Dup3 => files::dup3(thread, a),
        Call::CloseRange => files::close_range(thread, a),
        Call::Ioctl => files::ioctl(thread, a),
        Call::EpollCtl => files::epoll_ctl(thread, a),
        Call::EpollPwait => files::epoll_wait(thread, u64::from(row.host), a),
        Call::Ppoll => files::ppoll(thread, a),
        Call::Pselect6 => files::with_mask_pointer(thread, nr::PSELECT6, a),
        Call::IoPgetevents if a[5] != 0 => files::with_mask_pointer(thread, nr::IO_PGETEVENTS, a),

        Call::Own(which) => A::own_call(thread, &mut task.state, row, which, a),
        Call::Invalid | Call::PkeyMprotect => Err(errno::EINVAL),
        Call::Refused => {
            missing(number, Some(row.name()), a);
            Err(errno::ENOSYS)
        }
        _ => host(thread, u64::from(row.host), a),
    }
}
