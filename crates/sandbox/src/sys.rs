//! Kernel calls that rustix lacks, or that need `unsafe`: the only module of this crate with unsafe code.
//!
//! Each function is one system call with typed arguments; the callers know what it is for.

use std::ffi::{CStr, CString, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Which side of [`clone_process`] this is.
pub enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the child's process id in the caller's namespace.
    Parent(i32),
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// clone(2) with new namespaces (`CLONE_NEW*`), otherwise like fork(2).
///
/// The caller must have one thread: the child gets a copy of this thread only, and locks held by others would
/// stay locked. This is checked: the check costs little beside a clone.
pub fn clone_process(namespaces: c_int) -> io::Result<Cloned> {
    if thread_count()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let flags = namespaces as c_long | libc::SIGCHLD as c_long;
    // SAFETY: without CLONE_VM the child has its own copy of the address space, and the null stack pointer
    // makes it continue on the copied stack. The process has one thread, so no lock is held by a thread that
    // the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(if pid == 0 { Cloned::Child } else { Cloned::Parent(pid as i32) })
}

/// fork(2) in pid 1 of a sandbox, where the image controls `/proc`, so that it cannot be asked for the number
/// of threads.
///
/// The caller is a process that [`clone_process`] made, and has started no thread since.
pub fn fork_from_pid_1() -> io::Result<Cloned> {
    // SAFETY: as in clone_process; a process made by it has one thread, and this crate starts none in pid 1.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as c_long, 0, 0, 0, 0) })?;
    Ok(if pid == 0 { Cloned::Child } else { Cloned::Parent(pid as i32) })
}

/// How many threads this process has.
#[expect(clippy::disallowed_methods, reason = "/proc of the host")]
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// malloc_trim(3): gives free pages of all heaps back to the kernel.
pub fn trim_heaps() {
    // SAFETY: glibc locks each heap while it looks at it, and only unmaps pages that no allocation lies in.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// madvise(2), MADV_DONTNEED, for this program's code: its pages leave this process, and are mapped again
/// from the file when they are executed.
#[expect(clippy::disallowed_methods, reason = "/proc of the host")]
pub fn forget_code() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let Some((from, to)) = code_of(line, &program) else { continue };
        let range = std::ptr::without_provenance_mut(from);
        // SAFETY: the mapping is private and not writable, and of a file that nobody can write while it is
        // executed (ETXTBSY), so the kernel brings the same bytes again. Relocations, which change private
        // pages, are in mappings that are not executable.
        check(unsafe { libc::madvise(range, to - from, libc::MADV_DONTNEED) } as c_long)?;
    }
    Ok(())
}

/// Beginning and end of a mapping, by its line of `/proc/self/maps`, if it is code of the program.
fn code_of(line: &str, program: &Path) -> Option<(usize, usize)> {
    // ADDRESS-ADDRESS PERMISSIONS OFFSET DEVICE INODE, spaces, PATH (proc_pid_maps(5)).
    let mut fields = line.splitn(6, ' ');
    let (range, permissions) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?.trim_start();
    if permissions != "r-xp" || Path::new(path) != program {
        return None;
    }
    let (from, to) = range.split_once('-')?;
    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
}

/// unshare(2). `CLONE_NEWUSER` fails with EINVAL in a process of several threads.
pub fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: plain integer argument; CLONE_FILES is never passed, so descriptors keep their meaning.
    check(unsafe { libc::unshare(flags) } as c_long).map(drop)
}

/// mount_setattr(2): sets attributes of a mount, and of those below it when `recursive`. Linux 5.12.
pub fn mount_set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the attributes live across the call and their size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Makes every descriptor from `first` on close at the next `execve`. Linux 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now, so owned descriptors stay valid.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Closes every descriptor from 3 on except these. Linux 5.9.
///
/// The caller never uses or drops a closed descriptor: it goes on to `execve` or `_exit`.
pub fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let close = |first: u32, last: u32| {
        // SAFETY: the owner of one of these descriptors neither uses nor drops it again, see above.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
    };
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if first < fd {
            close(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close(first, u32::MAX).map(drop)
}

/// Keeps the calling thread and its descendants from abstract Unix sockets of other processes and from
/// signals to them. Needs CAP_SYS_ADMIN in the user namespace. `false` where the kernel cannot do this:
/// Landlock is off or older than Linux 6.12.
pub fn limit_scope() -> io::Result<bool> {
    /// `struct landlock_ruleset_attr` of linux/landlock.h.
    #[repr(C)]
    struct Ruleset {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    const SCOPE_SIGNAL: u64 = 2;
    if !scope_available() {
        return Ok(false);
    }
    let scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
    let ruleset = Ruleset { handled_access_fs: 0, handled_access_net: 0, scoped };
    // SAFETY: the attributes live across the call and their size is passed; the descriptor is owned from here
    // on.
    let ruleset = unsafe {
        let size = size_of::<Ruleset>();
        OwnedFd::from_raw_fd(
            check(libc::syscall(libc::SYS_landlock_create_ruleset, &ruleset, size, 0))? as RawFd
        )
    };
    // SAFETY: integer arguments only.
    match check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }) {
        // At most 16 such limits can be nested (a sandbox in a sandbox ...); the outer ones hold.
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Ok(true),
        other => other.map(|_| true),
    }
}

/// Whether the kernel can limit the scope of abstract sockets and signals (Landlock, ABI 6, Linux 6.12).
pub fn scope_available() -> bool {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag, the call requires a null pointer and the size 0.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, CREATE_RULESET_VERSION)
    };
    abi >= 6
}

/// pidfd_send_signal(2).
pub fn signal_process(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: the null pointer asks for the usual siginfo.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// 64 bits that nobody can guess.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: pointer and length are those of one array. Fewer than 256 bytes are never cut short,
    // getrandom(2).
    check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as c_long)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Installs a seccomp filter in the calling thread, which needs CAP_SYS_ADMIN in its user namespace.
pub fn install_seccomp(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program during the call and does not write to it.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            // Speculative store bypass stays as the administrator set it, as Docker leaves it.
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &program,
        )
    })
    .map(drop)
}

/// Forbids the calling thread and its children to gain rights by executing programs (prctl(2),
/// `PR_SET_NO_NEW_PRIVS`).
pub fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: integer arguments only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } as c_long).map(drop)
}

/// Whether the kernel has seccomp filters with the "errno" action.
pub fn seccomp_available() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one u32.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 }
}

/// Names the calling thread, as `ps -o comm` shows it: 15 bytes at most.
pub fn set_process_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends in zero, and the kernel copies it.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) } as c_long).map(drop)
}

/// Drops one capability, by number, from the bounding set.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: integer arguments only.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) } as c_long)
        .map(drop)
}

/// setgroups(2), setresgid(2) and setresuid(2) of the calling process, which must have one thread.
///
/// Errors: also EINVAL for an id of -1, which the kernel takes for "unchanged".
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if uid == u32::MAX || gid == u32::MAX || groups.is_some_and(|groups| groups.contains(&u32::MAX)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    if let Some(groups) = groups {
        // SAFETY: pointer and length come from one slice. A raw call, since libc's wrapper changes all
        // threads of a process.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    }
    // SAFETY: integer arguments only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: integer arguments only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Joins a new, empty session keyring, so that the caller's keys cannot be read inside.
pub fn new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name makes an anonymous keyring.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>())
    })
    .map(drop)
}

/// Gives every signal its default action and blocks none.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is not a function of this program; refusals (SIGKILL, SIGSTOP, libc's own) are
        // harmless.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Blocks every signal in this thread, for [`wait_signal`].
pub fn block_all_signals() {
    // SAFETY: the set is initialised by sigfillset before use.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Waits for the next blocked signal and takes it.
pub fn wait_signal() -> io::Result<c_int> {
    let mut signal = 0;
    // SAFETY: both arguments are initialised and live across the call.
    let error = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::sigwait(&set, &mut signal)
    };
    if error == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// kill(2).
pub fn kill(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: integer arguments only.
    check(unsafe { libc::kill(pid, signal) } as c_long).map(drop)
}

/// waitpid(2) without flags: the process and its raw status.
pub fn wait(pid: i32) -> io::Result<(i32, c_int)> {
    let mut status = 0;
    loop {
        // SAFETY: the status lives across the call.
        match check(unsafe { libc::waitpid(pid, &mut status, 0) } as c_long) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => return other.map(|pid| (pid as i32, status)),
        }
    }
}

/// Reaps one ended child without waiting: the process and its raw status.
pub fn reap() -> Option<(i32, c_int)> {
    let mut status = 0;
    // SAFETY: the status lives across the call.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// `execve(path, args, env)`; returns only the error.
pub fn execute(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and all strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once, without destructors and without flushing buffers copied from a parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Sets the soft and hard limit of a resource (`RLIMIT_*`).
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the limit lives across the call; the old value is not asked for.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &limit, std::ptr::null_mut::<libc::rlimit64>())
    })
    .map(drop)
}

/// Adds bits to this process's personality (personality(2)).
pub fn add_personality(bits: u32) -> io::Result<()> {
    const ASK: u64 = 0xffff_ffff;
    // SAFETY: the call takes no pointers.
    let now = check(unsafe { libc::syscall(libc::SYS_personality, ASK) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_personality, now | c_long::from(bits)) }).map(drop)
}

/// Sets flag IFF_UP of the loopback interface of this network namespace.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: the request is zeroed, its name ends in zero, and the descriptor is owned until the end of the
    // block.
    unsafe {
        let raw =
            check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) as c_long)? as RawFd;
        let socket = OwnedFd::from_raw_fd(raw);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) as c_long).map(drop)
    }
}

/// Makes the terminal the controlling terminal of this session, whose leader must be the caller.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) } as c_long).map(drop)
}

/// Sets the effective and permitted capabilities of the calling thread to these bits, and clears the
/// inheritable ones.
pub fn set_capabilities(bits: u64) -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    let set = CapabilitySet::from_bits_retain(bits);
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(io::Error::from)
}

static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// Whether a SIGWINCH that the terminal sends is noted.
static HEEDS_WINDOW: AtomicBool = AtomicBool::new(false);

/// Signals by which a terminal stops a process that it does not belong to, or on Ctrl-Z.
const STOPS_OF_TERMINAL: [c_int; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

extern "C" fn note_signal(signal: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t.
    let by_kernel = !info.is_null() && unsafe { (*info).si_code } == libc::SI_KERNEL;
    if by_kernel && STOPS_OF_TERMINAL.contains(&signal) {
        // Else a read from the terminal in the background would be restarted and refused without end.
        // SAFETY: kill(2) and getpid(2) are async-signal-safe. errno is restored for the interrupted code.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            libc::kill(libc::getpid(), libc::SIGSTOP);
            *errno = saved;
        }
        return;
    }
    if by_kernel && signal == libc::SIGWINCH && !HEEDS_WINDOW.load(Ordering::Relaxed) {
        return;
    }
    let descriptor = SIGNAL_PIPE.load(Ordering::Relaxed);
    if descriptor >= 0 {
        let byte = signal as u8;
        // SAFETY: write(2) is async-signal-safe. errno is restored for the interrupted code.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            libc::write(descriptor, (&raw const byte).cast(), 1);
            *errno = saved;
        }
    }
}

/// While this lives, the given signals are written as bytes to a pipe and do not have their default action.
/// What a terminal itself sends differs for some: SIGTSTP, SIGTTIN and SIGTTOU stop this process as usual,
/// and SIGWINCH counts only if the new size of the window matters.
///
/// Process-wide, so only one may live at a time.
pub struct SignalPipe {
    previous: Vec<(c_int, libc::sigaction)>,
    /// Read end, non-blocking.
    pub read: OwnedFd,
    _write: OwnedFd,
}

impl SignalPipe {
    /// Installs the handlers. Signals that are ignored stay ignored (`nohup`). With `heeds_window` a change
    /// of the terminal's size is noted as SIGWINCH.
    pub fn install(signals: &[c_int], heeds_window: bool) -> io::Result<SignalPipe> {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if SIGNAL_PIPE.compare_exchange(-1, write.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        HEEDS_WINDOW.store(heeds_window, Ordering::Relaxed);
        let mut pipe = SignalPipe { previous: Vec::new(), read, _write: write };
        for &signal in signals {
            // SAFETY: both structures are initialised; the handler only uses async-signal-safe calls.
            unsafe {
                let mut old: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut old);
                if old.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
                let mut new: libc::sigaction = std::mem::zeroed();
                new.sa_sigaction = note_signal as *const () as usize;
                new.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
                libc::sigemptyset(&mut new.sa_mask);
                if libc::sigaction(signal, &new, std::ptr::null_mut()) == 0 {
                    pipe.previous.push((signal, old));
                }
            }
        }
        Ok(pipe)
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        for (signal, action) in &self.previous {
            // SAFETY: the kernel gave this action for this signal.
            unsafe { libc::sigaction(*signal, action, std::ptr::null_mut()) };
        }
        SIGNAL_PIPE.store(-1, Ordering::SeqCst);
    }
}
