//! System calls of an ABI: its table says for each number which implementation answers.
//!
//! Implementations are shared between ABIs and get decoded arguments: six values as wide as the host's
//! registers, with pointers, lengths and offsets whole. The table holds no addresses (docs/dev/emulator.md
//! says why), so a row names its implementation by a [`Call`].

use crossdock_emu_guest::short::Short;

/// The implementation that answers a call, by the name that the manual gives it (syscalls(2)).
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The host answers, with the arguments as they are.
    Host,
    /// The ABI answers itself: [`crate::arch::Abi::own_call`] with this number.
    Own(u8),
    /// Known and refused on purpose: ENOSYS.
    Refused,
    /// Always EINVAL, as for a CPU without the feature.
    Invalid,
    // Memory.
    Brk,
    Mlockall,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    PkeyMprotect,
    Shmat,
    Shmdt,
    /// madvise, mlock, mlock2, msync, munlock, mincore, mbind, mseal.
    Range,
    // Processes.
    Clone,
    Clone3,
    Execve,
    Execveat,
    Exit,
    Personality,
    Prctl,
    Getrlimit,
    Setrlimit,
    Prlimit,
    Seccomp,
    Uname,
    // Signals.
    RtSigaction,
    RtSigpending,
    RtSigprocmask,
    RtSigreturn,
    RtSigsuspend,
    RtSigtimedwait,
    Sigaltstack,
    // Files.
    CloseRange,
    Dup3,
    EpollCtl,
    /// epoll_pwait, epoll_pwait2.
    EpollPwait,
    Faccessat,
    Faccessat2,
    FanotifyInit,
    Fcntl,
    Fstat,
    Fstatat,
    Getdents64,
    IoPgetevents,
    OpenByHandleAt,
    Openat,
    Openat2,
    Pipe2,
    Ppoll,
    Pselect6,
    Readlinkat,
    Statfs,
    Statx,
    // Calls whose arguments lead to other pointers.
    Futex,
    Getsockopt,
    Getxattrat,
    Ioctl,
    IoSubmit,
    /// readv, preadv, preadv2, vmsplice.
    Readv,
    Writev,
    /// pwritev, pwritev2.
    Pwritev,
    /// process_vm_readv, process_vm_writev.
    ProcessVm,
    Sendmsg,
    Recvmsg,
    Recvmmsg,
    Sendmmsg,
    // Calls that may write to /proc/self/mem.
    Write,
    Pwrite64,
    Sendfile,
    /// splice, copy_file_range.
    Splice,
    // Others.
    Read,
    ClockGettime,
    Semctl,
}

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The guest's number.
    number: u16,
    /// The host's number.
    pub host: u16,
    /// Who answers.
    pub call: Call,
    name: Short<23>,
    arguments: Short<6>,
}

impl Row {
    /// A call that the host answers.
    pub const fn new(number: u16, name: &str, host: u16, arguments: &str) -> Row {
        Row { number, host, call: Call::Host, name: Short::new(name), arguments: Short::new(arguments) }
    }

    /// The same call, answered by `call`.
    pub const fn is(self, call: Call) -> Row {
        Row { call, ..self }
    }

    /// The call's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The kinds of the arguments: `f` descriptor, `d` decimal, `x` hexadecimal, `o` octal, `p` pointer, `s`
    /// path. An ABI may have further kinds, for its [`crate::arch::Abi::decode`].
    pub fn arguments(&self) -> &str {
        self.arguments.as_str()
    }
}

/// The calls of an ABI, by number.
pub struct Table<const ROWS: usize> {
    rows: [Row; ROWS],
    index: [u16; HIGHEST],
}

/// Numbers from here on are no calls.
const HIGHEST: usize = 512;

impl<const ROWS: usize> Table<ROWS> {
    /// Joins the rows that an ABI shares with others and its own; `ROWS` is how many there are.
    pub const fn new(parts: &[&[Row]]) -> Self {
        let mut rows = [Row::new(0, "", 0, ""); ROWS];
        let mut index = [u16::MAX; HIGHEST];
        let (mut part, mut at) = (0, 0);
        while part < parts.len() {
            let mut nth = 0;
            while nth < parts[part].len() {
                rows[at] = parts[part][nth];
                assert!(index[rows[at].number as usize] == u16::MAX, "a number stands for one call");
                index[rows[at].number as usize] = at as u16;
                (nth, at) = (nth + 1, at + 1);
            }
            part += 1;
        }
        assert!(at == ROWS);
        Table { rows, index }
    }

    /// The row of a call.
    #[inline]
    pub fn find(&self, number: u64) -> Option<&Row> {
        let row = *self.index.get(usize::try_from(number).ok()?)?;
        self.rows.get(row as usize)
    }

    /// All rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}
