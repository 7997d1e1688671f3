//! Which system calls a command may make: the same as with Docker's default profile (Docker 28, capabilities
//! as in [`crate::capabilities`]), written as the list of refused calls.
//!
//! Docker's profile lists what is allowed; a call is refused here if it is not in that list. Calls newer than
//! our table do not exist for the command (ENOSYS), so that programs use their fallbacks, as with runc.

/// Calls that are refused with EPERM.
pub const REFUSED: &[&str] = &[
    // The kernel's keys, which no namespace separates.
    "add_key",
    "keyctl",
    "request_key",
    // Mounts and namespaces.
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "listmount",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "pivot_root",
    "setns",
    "statmount",
    "umount",
    "umount2",
    "unshare",
    // Tracing the kernel and its programs; large attack surface.
    "bpf",
    "fanotify_init",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kcmp",
    "lookup_dcookie",
    "perf_event_open",
    "pidfd_getfd",
    "process_madvise",
    "syslog",
    "userfaultfd",
    // Would leave the root by file handle.
    "open_by_handle_at",
    // The machine: time, names, modules, swap, quotas, ports, accounting, power.
    "acct",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "setdomainname",
    "sethostname",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "vhangup",
    // Placement of memory on nodes.
    "get_mempolicy",
    "mbind",
    "migrate_pages",
    "move_pages",
    "set_mempolicy",
    "set_mempolicy_home_node",
    // Obsolete, never implemented, or of use to the kernel only.
    "_sysctl",
    "afs_syscall",
    "bdflush",
    "break",
    "file_getattr",
    "file_setattr",
    "ftime",
    "get_kernel_syms",
    "getpmsg",
    "gtty",
    "idle",
    "lock",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "mpx",
    "nfsservctl",
    "nice",
    "oldfstat",
    "oldlstat",
    "oldolduname",
    "oldstat",
    "olduname",
    "prof",
    "profil",
    "putpmsg",
    "query_module",
    "readdir",
    "security",
    "sgetmask",
    "sigaction",
    "signal",
    "sigpending",
    "sigsuspend",
    "ssetmask",
    "stty",
    "sysfs",
    "tuxcall",
    "ulimit",
    "uretprobe",
    "uselib",
    "ustat",
    "vm86",
    "vm86old",
    "vserver",
];

/// Calls that are not refused if the command has a capability, as in Docker's profile. With `SYS_ADMIN`,
/// `clone` and `clone3` may create namespaces, too.
pub const ALLOWED_WITH: &[(&str, &[&str])] = &[
    ("BPF", &["bpf"]),
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("PERFMON", &["perf_event_open"]),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "listmount",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "statmount",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
    ("SYS_RAWIO", &["ioperm", "iopl"]),
    ("SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
    ("SYSLOG", &["syslog"]),
];

/// Calls that are answered with ENOSYS: their arguments are in memory, where a filter cannot look, and
/// programs fall back to the older call.
pub const ABSENT: &[&str] = &["clone3"];

/// `clone` may not have these flags: the `CLONE_NEW*` of sched.h, except `CLONE_NEWTIME`, which is a signal
/// number there.
pub const CLONE_REFUSED: u32 = 0x7e02_0000;

/// `personality` may have these arguments: Linux, 32 bits without `ADDR_NO_RANDOMIZE` (PER_LINUX32), both
/// with UNAME26, each of them with a choice of CPU (see [`crate::spec::Programs`]), and the query.
pub const PERSONALITY_ALLOWED: &[u32] = &[
    0,
    0x8,
    0x2_0000,
    0x2_0008,
    0x1000_0000,
    0x1000_0008,
    0x1002_0000,
    0x1002_0008,
    0x2000_0000,
    0x2000_0008,
    0x2002_0000,
    0x2002_0008,
    0xffff_ffff,
];

/// `socket` may not have these families: `AF_ALG`, the kernel's own cryptography, whose faults have let
/// programs write to files that they may only read (Docker refuses it since 29), and `AF_VSOCK`, which
/// reaches the host of a virtual machine, past every namespace.
pub const SOCKET_REFUSED: &[u32] = &[38, 40];

/// The older form of `socket` on 32-bit x86. Its family is in memory, where a filter cannot look, so the call
/// is absent unless the programs are for 32-bit x86, whose C libraries know no other.
pub const SOCKETCALL: &str = "socketcall";

/// Calls that do nothing and succeed in a user namespace with one id, where they could only fail.
pub const PRETENDED: &[&str] = &[
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];
