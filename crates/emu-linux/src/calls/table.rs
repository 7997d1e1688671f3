//! System calls of the generic 64-bit ABI (Linux, include/uapi/asm-generic/unistd.h) and the host's numbers
//! for them.

use crossdock_emu_guest::short::Short;

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The guest's number.
    number: u16,
    /// The host's number.
    pub host: u16,
    name: Short<23>,
    arguments: Short<6>,
}

impl Row {
    /// The call's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The kinds of the arguments: `f` descriptor, `d` decimal, `x` hexadecimal, `o` octal, `p` pointer, `s`
    /// path.
    pub fn arguments(&self) -> &str {
        self.arguments.as_str()
    }
}

const fn row(number: u16, name: &str, host: u16, arguments: &str) -> Row {
    Row { number, host, name: Short::new(name), arguments: Short::new(arguments) }
}

/// All known calls, by number. Calls that the host cannot answer for the guest are refused in
/// [`super::dispatch`].
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row(0, "io_setup", 206, "dp"),
    row(1, "io_destroy", 207, "x"),
    row(2, "io_submit", 209, "xdp"),
    row(3, "io_cancel", 210, "xpp"),
    row(4, "io_getevents", 208, "xddpp"),
    row(5, "setxattr", 188, "sspxd"),
    row(6, "lsetxattr", 189, "sspxd"),
    row(7, "fsetxattr", 190, "fspxd"),
    row(8, "getxattr", 191, "sspx"),
    row(9, "lgetxattr", 192, "sspx"),
    row(10, "fgetxattr", 193, "fspx"),
    row(11, "listxattr", 194, "spx"),
    row(12, "llistxattr", 195, "spx"),
    row(13, "flistxattr", 196, "fpx"),
    row(14, "removexattr", 197, "ss"),
    row(15, "lremovexattr", 198, "ss"),
    row(16, "fremovexattr", 199, "fs"),
    row(17, "getcwd", 79, "px"),
    row(18, "lookup_dcookie", 212, "xpx"),
    row(19, "eventfd2", 290, "dx"),
    row(20, "epoll_create1", 291, "x"),
    row(21, "epoll_ctl", 233, "fddp"),
    row(22, "epoll_pwait", 281, "fpddpd"),
    row(23, "dup", 32, "f"),
    row(24, "dup3", 292, "fdx"),
    row(25, "fcntl", 72, "fdp"),
    row(26, "inotify_init1", 294, "x"),
    row(27, "inotify_add_watch", 254, "fsx"),
    row(28, "inotify_rm_watch", 255, "dd"),
    row(29, "ioctl", 16, "fxp"),
    row(30, "ioprio_set", 251, "ddd"),
    row(31, "ioprio_get", 252, "dd"),
    row(32, "flock", 73, "fd"),
    row(33, "mknodat", 259, "fsox"),
    row(34, "mkdirat", 258, "fso"),
    row(35, "unlinkat", 263, "fsx"),
    row(36, "symlinkat", 266, "sds"),
    row(37, "linkat", 265, "fsdsx"),
    row(38, "renameat", 264, "fsds"),
    row(39, "umount2", 166, "sx"),
    row(40, "mount", 165, "sssxp"),
    row(41, "pivot_root", 155, "ss"),
    row(42, "nfsservctl", 180, "dpp"),
    row(43, "statfs", 137, "sp"),
    row(44, "fstatfs", 138, "fp"),
    row(45, "truncate", 76, "sd"),
    row(46, "ftruncate", 77, "fd"),
    row(47, "fallocate", 285, "fxdd"),
    row(48, "faccessat", 269, "fsd"),
    row(49, "chdir", 80, "s"),
    row(50, "fchdir", 81, "f"),
    row(51, "chroot", 161, "s"),
    row(52, "fchmod", 91, "fo"),
    row(53, "fchmodat", 268, "fso"),
    row(54, "fchownat", 260, "fsddx"),
    row(55, "fchown", 93, "fdd"),
    row(56, "openat", 257, "fsxo"),
    row(57, "close", 3, "f"),
    row(58, "vhangup", 153, ""),
    row(59, "pipe2", 293, "px"),
    row(60, "quotactl", 179, "dsdp"),
    row(61, "getdents64", 217, "fpd"),
    row(62, "lseek", 8, "fdd"),
    row(63, "read", 0, "fpd"),
    row(64, "write", 1, "fpd"),
    row(65, "readv", 19, "fpd"),
    row(66, "writev", 20, "fpd"),
    row(67, "pread64", 17, "fpdd"),
    row(68, "pwrite64", 18, "fpdd"),
    row(69, "preadv", 295, "fpddd"),
    row(70, "pwritev", 296, "fpddd"),
    row(71, "sendfile", 40, "fdpd"),
    row(72, "pselect6", 270, "dppppp"),
    row(73, "ppoll", 271, "pdppd"),
    row(74, "signalfd4", 289, "dpdx"),
    row(75, "vmsplice", 278, "fpdx"),
    row(76, "splice", 275, "fpdpdx"),
    row(77, "tee", 276, "fddx"),
    row(78, "readlinkat", 267, "fspd"),
    row(79, "newfstatat", 262, "fspx"),
    row(80, "fstat", 5, "fp"),
    row(81, "sync", 162, ""),
    row(82, "fsync", 74, "f"),
    row(83, "fdatasync", 75, "f"),
    row(84, "sync_file_range", 277, "fddx"),
    row(85, "timerfd_create", 283, "dx"),
    row(86, "timerfd_settime", 286, "dxpp"),
    row(87, "timerfd_gettime", 287, "dp"),
    row(88, "utimensat", 280, "fspx"),
    row(89, "acct", 163, "s"),
    row(90, "capget", 125, "pp"),
    row(91, "capset", 126, "pp"),
    row(92, "personality", 135, "x"),
    row(93, "exit", 60, "d"),
    row(94, "exit_group", 231, "d"),
    row(95, "waitid", 247, "ddpxp"),
    row(96, "set_tid_address", 218, "p"),
    row(97, "unshare", 272, "x"),
    row(98, "futex", 202, "pxdxxd"),
    row(99, "set_robust_list", 273, "pd"),
    row(100, "get_robust_list", 274, "dpp"),
    row(101, "nanosleep", 35, "pp"),
    row(102, "getitimer", 36, "dp"),
    row(103, "setitimer", 38, "dpp"),
    row(104, "kexec_load", 246, "xxxx"),
    row(105, "init_module", 175, "pds"),
    row(106, "delete_module", 176, "sx"),
    row(107, "timer_create", 222, "dpp"),
    row(108, "timer_gettime", 224, "dp"),
    row(109, "timer_getoverrun", 225, "d"),
    row(110, "timer_settime", 223, "dxpp"),
    row(111, "timer_delete", 226, "d"),
    row(112, "clock_settime", 227, "dp"),
    row(113, "clock_gettime", 228, "dp"),
    row(114, "clock_getres", 229, "dp"),
    row(115, "clock_nanosleep", 230, "dxpp"),
    row(116, "syslog", 103, "dpd"),
    row(117, "ptrace", 101, "dddd"),
    row(118, "sched_setparam", 142, "dp"),
    row(119, "sched_setscheduler", 144, "ddp"),
    row(120, "sched_getscheduler", 145, "d"),
    row(121, "sched_getparam", 143, "dp"),
    row(122, "sched_setaffinity", 203, "ddp"),
    row(123, "sched_getaffinity", 204, "ddp"),
    row(124, "sched_yield", 24, ""),
    row(125, "sched_get_priority_max", 146, "d"),
    row(126, "sched_get_priority_min", 147, "d"),
    row(127, "sched_rr_get_interval", 148, "dp"),
    row(128, "restart_syscall", 219, ""),
    row(129, "kill", 62, "dd"),
    row(130, "tkill", 200, "dd"),
    row(131, "tgkill", 234, "ddd"),
    row(132, "sigaltstack", 131, "pp"),
    row(133, "rt_sigsuspend", 130, "pd"),
    row(134, "rt_sigaction", 13, "dppd"),
    row(135, "rt_sigprocmask", 14, "dppd"),
    row(136, "rt_sigpending", 127, "pd"),
    row(137, "rt_sigtimedwait", 128, "pppd"),
    row(138, "rt_sigqueueinfo", 129, "ddp"),
    row(139, "rt_sigreturn", 15, ""),
    row(140, "setpriority", 141, "ddd"),
    row(141, "getpriority", 140, "dd"),
    row(142, "reboot", 169, "xxxp"),
    row(143, "setregid", 114, "dd"),
    row(144, "setgid", 106, "d"),
    row(145, "setreuid", 113, "dd"),
    row(146, "setuid", 105, "d"),
    row(147, "setresuid", 117, "ddd"),
    row(148, "getresuid", 118, "ppp"),
    row(149, "setresgid", 119, "ddd"),
    row(150, "getresgid", 120, "ppp"),
    row(151, "setfsuid", 122, "d"),
    row(152, "setfsgid", 123, "d"),
    row(153, "times", 100, "p"),
    row(154, "setpgid", 109, "dd"),
    row(155, "getpgid", 121, "d"),
    row(156, "getsid", 124, "d"),
    row(157, "setsid", 112, ""),
    row(158, "getgroups", 115, "dp"),
    row(159, "setgroups", 116, "dp"),
    row(160, "uname", 63, "p"),
    row(161, "sethostname", 170, "pd"),
    row(162, "setdomainname", 171, "pd"),
    row(163, "getrlimit", 97, "dp"),
    row(164, "setrlimit", 160, "dp"),
    row(165, "getrusage", 98, "dp"),
    row(166, "umask", 95, "o"),
    row(167, "prctl", 157, "dpppp"),
    row(168, "getcpu", 309, "ppp"),
    row(169, "gettimeofday", 96, "pp"),
    row(170, "settimeofday", 164, "pp"),
    row(171, "adjtimex", 159, "p"),
    row(172, "getpid", 39, ""),
    row(173, "getppid", 110, ""),
    row(174, "getuid", 102, ""),
    row(175, "geteuid", 107, ""),
    row(176, "getgid", 104, ""),
    row(177, "getegid", 108, ""),
    row(178, "gettid", 186, ""),
    row(179, "sysinfo", 99, "p"),
    row(180, "mq_open", 240, "sxop"),
    row(181, "mq_unlink", 241, "s"),
    row(182, "mq_timedsend", 242, "dpddp"),
    row(183, "mq_timedreceive", 243, "dpdpp"),
    row(184, "mq_notify", 244, "dp"),
    row(185, "mq_getsetattr", 245, "dpp"),
    row(186, "msgget", 68, "xx"),
    row(187, "msgctl", 71, "ddp"),
    row(188, "msgrcv", 70, "dpddx"),
    row(189, "msgsnd", 69, "dpdx"),
    row(190, "semget", 64, "xdx"),
    row(191, "semctl", 66, "dddp"),
    row(192, "semtimedop", 220, "dpdp"),
    row(193, "semop", 65, "dpd"),
    row(194, "shmget", 29, "xdx"),
    row(195, "shmctl", 31, "ddp"),
    row(196, "shmat", 30, "dxx"),
    row(197, "shmdt", 67, "x"),
    row(198, "socket", 41, "ddd"),
    row(199, "socketpair", 53, "dddp"),
    row(200, "bind", 49, "fpd"),
    row(201, "listen", 50, "fd"),
    row(202, "accept", 43, "fpp"),
    row(203, "connect", 42, "fpd"),
    row(204, "getsockname", 51, "fpp"),
    row(205, "getpeername", 52, "fpp"),
    row(206, "sendto", 44, "fpdxpd"),
    row(207, "recvfrom", 45, "fpdxpp"),
    row(208, "setsockopt", 54, "fddpd"),
    row(209, "getsockopt", 55, "fddpp"),
    row(210, "shutdown", 48, "fd"),
    row(211, "sendmsg", 46, "fpx"),
    row(212, "recvmsg", 47, "fpx"),
    row(213, "readahead", 187, "fdd"),
    row(214, "brk", 12, "x"),
    row(215, "munmap", 11, "xx"),
    row(216, "mremap", 25, "xxxxx"),
    row(217, "add_key", 248, "sspdd"),
    row(218, "request_key", 249, "sspd"),
    row(219, "keyctl", 250, "dpppp"),
    row(220, "clone", 56, "xxxxx"),
    row(221, "execve", 59, "spp"),
    row(222, "mmap", 9, "xxdxfx"),
    row(223, "fadvise64", 221, "fddd"),
    row(224, "swapon", 167, "sx"),
    row(225, "swapoff", 168, "s"),
    row(226, "mprotect", 10, "xxd"),
    row(227, "msync", 26, "xxd"),
    row(228, "mlock", 149, "xx"),
    row(229, "munlock", 150, "xx"),
    row(230, "mlockall", 151, "x"),
    row(231, "munlockall", 152, ""),
    row(232, "mincore", 27, "xxp"),
    row(233, "madvise", 28, "xxd"),
    row(234, "remap_file_pages", 216, "xxddx"),
    row(235, "mbind", 237, "xxdpdx"),
    row(236, "get_mempolicy", 239, "ppdxx"),
    row(237, "set_mempolicy", 238, "dpd"),
    row(238, "migrate_pages", 256, "ddpp"),
    row(239, "move_pages", 279, "ddpppx"),
    row(240, "rt_tgsigqueueinfo", 297, "dddp"),
    row(241, "perf_event_open", 298, "pdddx"),
    row(242, "accept4", 288, "fppx"),
    row(243, "recvmmsg", 299, "dpdxp"),
    row(260, "wait4", 61, "dpxp"),
    row(261, "prlimit64", 302, "ddpp"),
    row(262, "fanotify_init", 300, "xx"),
    row(263, "fanotify_mark", 301, "dxxds"),
    row(264, "name_to_handle_at", 303, "fsppx"),
    row(265, "open_by_handle_at", 304, "dpx"),
    row(266, "clock_adjtime", 305, "dp"),
    row(267, "syncfs", 306, "f"),
    row(268, "setns", 308, "fx"),
    row(269, "sendmmsg", 307, "dpdx"),
    row(270, "process_vm_readv", 310, "dpdpdx"),
    row(271, "process_vm_writev", 311, "dpdpdx"),
    row(272, "kcmp", 312, "ddddd"),
    row(273, "finit_module", 313, "fsx"),
    row(274, "sched_setattr", 314, "dpx"),
    row(275, "sched_getattr", 315, "dpdx"),
    row(276, "renameat2", 316, "fsdsx"),
    row(277, "seccomp", 317, "dxp"),
    row(278, "getrandom", 318, "pdx"),
    row(279, "memfd_create", 319, "sx"),
    row(280, "bpf", 321, "dpd"),
    row(281, "execveat", 322, "fsppx"),
    row(282, "userfaultfd", 323, "x"),
    row(283, "membarrier", 324, "dxd"),
    row(284, "mlock2", 325, "xxx"),
    row(285, "copy_file_range", 326, "fpdpdx"),
    row(286, "preadv2", 327, "fpdddx"),
    row(287, "pwritev2", 328, "fpdddx"),
    row(288, "pkey_mprotect", 329, "xxdd"),
    row(289, "pkey_alloc", 330, "xx"),
    row(290, "pkey_free", 331, "d"),
    row(291, "statx", 332, "fsxxp"),
    row(292, "io_pgetevents", 333, "xddppp"),
    row(293, "rseq", 334, "pxxx"),
    row(294, "kexec_file_load", 320, "ddxpx"),
    row(424, "pidfd_send_signal", 424, "ddpx"),
    row(425, "io_uring_setup", 425, "dp"),
    row(426, "io_uring_enter", 426, "dddxp"),
    row(427, "io_uring_register", 427, "ddpd"),
    row(428, "open_tree", 428, "dsx"),
    row(429, "move_mount", 429, "dsdsx"),
    row(430, "fsopen", 430, "sx"),
    row(431, "fsconfig", 431, "ddspd"),
    row(432, "fsmount", 432, "dxx"),
    row(433, "fspick", 433, "dsx"),
    row(434, "pidfd_open", 434, "dx"),
    row(435, "clone3", 435, "pd"),
    row(436, "close_range", 436, "ddx"),
    row(437, "openat2", 437, "fspd"),
    row(438, "pidfd_getfd", 438, "ddx"),
    row(439, "faccessat2", 439, "fsdx"),
    row(440, "process_madvise", 440, "dpddx"),
    row(441, "epoll_pwait2", 441, "dpdppd"),
    row(442, "mount_setattr", 442, "dsxpd"),
    row(443, "quotactl_fd", 443, "dxdp"),
    row(444, "landlock_create_ruleset", 444, "pdx"),
    row(445, "landlock_add_rule", 445, "ddpx"),
    row(446, "landlock_restrict_self", 446, "dx"),
    row(447, "memfd_secret", 447, "x"),
    row(448, "process_mrelease", 448, "dx"),
    row(449, "futex_waitv", 449, "pdxpd"),
    row(450, "set_mempolicy_home_node", 450, "xxdx"),
    row(451, "cachestat", 451, "dppx"),
    row(452, "fchmodat2", 452, "fsox"),
    row(453, "map_shadow_stack", 453, "xxx"),
    row(454, "futex_wake", 454, "pxdx"),
    row(455, "futex_wait", 455, "pxxxpd"),
    row(456, "futex_requeue", 456, "pxdd"),
    row(457, "statmount", 457, "ppdx"),
    row(458, "listmount", 458, "ppdx"),
    row(459, "lsm_get_self_attr", 459, "dppx"),
    row(460, "lsm_set_self_attr", 460, "dpdx"),
    row(461, "lsm_list_modules", 461, "ppx"),
    row(462, "mseal", 462, "xxx"),
    row(463, "setxattrat", 463, "fsxspd"),
    row(464, "getxattrat", 464, "fsxspd"),
    row(465, "listxattrat", 465, "fsxpd"),
    row(466, "removexattrat", 466, "fsxs"),
    row(467, "open_tree_attr", 467, "fsxpd"),
    row(468, "file_getattr", 468, "fspdx"),
    row(469, "file_setattr", 469, "fspdx"),
];

const HIGHEST: usize = 512;

static INDEX: [u16; HIGHEST] = {
    let mut index = [u16::MAX; HIGHEST];
    let mut row = 0;
    while row < TABLE.len() {
        index[TABLE[row].number as usize] = row as u16;
        row += 1;
    }
    index
};

/// The row of a call.
pub fn find(number: u64) -> Option<&'static Row> {
    let row = *INDEX.get(usize::try_from(number).ok()?)?;
    TABLE.get(row as usize)
}

/// The guest's number of a call; for matching by name.
pub const fn number(name: &str) -> u64 {
    let mut row = 0;
    while row < TABLE.len() {
        if TABLE[row].name.is(name) {
            return TABLE[row].number as u64;
        }
        row += 1;
    }
    panic!("no call of this name");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_have_known_arguments() {
        assert!(TABLE.windows(2).all(|rows| rows[0].number < rows[1].number));
        assert!(TABLE.iter().all(|row| row.arguments().chars().all(|kind| "fdxops".contains(kind))));
    }

    #[test]
    fn finds_by_number() {
        assert_eq!(find(56).map(Row::name), Some("openat"));
        assert_eq!(find(1000), None);
        assert_eq!(number("execve"), 221);
    }
}
