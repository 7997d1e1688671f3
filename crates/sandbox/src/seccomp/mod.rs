//! Seccomp filters: the profile as data, compiled to classic BPF.
//!
//! Emulated programs are covered too: what they do arrives as system calls of the emulator. Source:
//! seccomp(2), Documentation/userspace-api/seccomp_filter.rst.

mod bpf;
mod profile;
mod table;

use bpf::{Assembler, Decision, Field};

use crate::capabilities::Capabilities;

/// Which of the two numberings of x86 a call uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Abi {
    X86_64,
    I386,
}

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` of linux/audit.h.
const ARCH_X86_64: u32 = 0xc000_003e;
const ARCH_I386: u32 = 0x4000_0003;

/// Numbers from here on are calls of the x32 ABI (`__X32_SYSCALL_BIT`), which differs in the sizes of
/// arguments.
const X32_BIT: u32 = 0x4000_0000;

/// What a filter does.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter {
    /// Apply the profile.
    pub sandbox: bool,
    /// Pretend changes of ids, since there is only one id.
    pub single: bool,
    /// The commands are programs for 32-bit x86, see [`profile::SOCKETCALL`].
    pub x86: bool,
    /// The capabilities of the command: some make the profile allow more.
    pub capabilities: Capabilities,
}

/// The filter for a command; `None` if nothing needs filtering.
pub(crate) fn filter(filter: Filter) -> Option<Vec<libc::sock_filter>> {
    if !filter.sandbox && !filter.single {
        return None;
    }
    let mut assembler = Assembler::default();
    assembler.load(Field::Arch);
    let other = assembler.jump_unless_equal(ARCH_X86_64);
    assembler.load(Field::Number);
    let x32 = assembler.jump_if_at_least(X32_BIT);
    assembler.search(&decisions(Abi::X86_64, filter));
    assembler.land(x32);
    assembler.decide(&Decision::Errno(libc::ENOSYS));
    assembler.land(other);
    let foreign = assembler.jump_unless_equal(ARCH_I386);
    assembler.load(Field::Number);
    assembler.search(&decisions(Abi::I386, filter));
    assembler.land(foreign);
    assembler.decide(&Decision::Errno(libc::ENOSYS));
    Some(assembler.finish())
}

/// What happens to each number, as ranges by their first number; they begin at 0 and cover all numbers.
fn decisions(abi: Abi, filter: Filter) -> Vec<(u32, Decision)> {
    let mut numbered: Vec<(u32, &str)> = table::SYSCALLS
        .iter()
        .filter_map(|(name, x86_64, i386)| {
            let number = if abi == Abi::X86_64 { x86_64 } else { i386 };
            number.map(|number| (u32::from(number), *name))
        })
        .collect();
    numbered.sort_unstable();
    // The list is ordered by subject for the reader; here by name, for some thousand look-ups in every run.
    let mut refused = profile::REFUSED.to_vec();
    for (_, names) in profile::ALLOWED_WITH.iter().filter(|(name, _)| filter.capabilities.has(name)) {
        refused.retain(|refused| !names.contains(refused));
    }
    refused.sort_unstable();
    let may_unshare = filter.capabilities.has("SYS_ADMIN");
    let mut ranges: Vec<(u32, Decision)> = Vec::new();
    let mut add = |first: u32, decision: Decision| {
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((first, decision));
        }
    };
    let unknown = || if filter.sandbox { Decision::Errno(libc::ENOSYS) } else { Decision::Allow };
    let mut next = 0;
    for (number, name) in numbered {
        if number > next {
            add(next, unknown());
        }
        let decision = match name {
            // Programs need not fall back to `clone` where that has no restriction.
            "clone" | "clone3" if filter.sandbox && may_unshare => Decision::Allow,
            _ => decision(name, &refused, filter),
        };
        add(number, decision);
        next = number + 1;
    }
    add(next, unknown());
    ranges
}

/// `refused` is [`profile::REFUSED`], sorted.
fn decision(name: &str, refused: &[&str], filter: Filter) -> Decision {
    use profile::{ABSENT, CLONE_REFUSED, PERSONALITY_ALLOWED, PRETENDED, SOCKET_REFUSED, SOCKETCALL};
    match name {
        _ if filter.single && PRETENDED.contains(&name) => Decision::Errno(0),
        _ if !filter.sandbox => Decision::Allow,
        "clone" => Decision::RefuseBits { argument: 0, bits: CLONE_REFUSED },
        "personality" => Decision::AllowValues { argument: 0, values: PERSONALITY_ALLOWED },
        "socket" | "socketpair" => Decision::RefuseValues { argument: 0, values: SOCKET_REFUSED },
        SOCKETCALL if !filter.x86 => Decision::Errno(libc::ENOSYS),
        _ if ABSENT.contains(&name) => Decision::Errno(libc::ENOSYS),
        _ if refused.binary_search(&name).is_ok() => Decision::Errno(libc::EPERM),
        _ => Decision::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::bpf::tests::evaluate;
    use super::*;

    fn answer(filter: &[libc::sock_filter], arch: u32, name: &str, arguments: [u64; 6]) -> Result<(), i32> {
        let row = table::SYSCALLS.iter().find(|(n, ..)| *n == name).expect("a known call");
        let number = if arch == ARCH_X86_64 { row.1 } else { row.2 };
        number_answer(filter, arch, u32::from(number.expect("a call of this ABI")), arguments)
    }

    fn number_answer(
        filter: &[libc::sock_filter],
        arch: u32,
        number: u32,
        arguments: [u64; 6],
    ) -> Result<(), i32> {
        let value = evaluate(filter, number, arch, arguments);
        match value & 0xffff_0000 {
            libc::SECCOMP_RET_ALLOW => Ok(()),
            libc::SECCOMP_RET_ERRNO => Err((value & 0xffff) as i32),
            other => panic!("unexpected action {other:#x}"),
        }
    }

    const NO: [u64; 6] = [0; 6];
    const SANDBOX: Filter =
        Filter { sandbox: true, single: false, x86: false, capabilities: Capabilities::DEFAULT };

    #[test]
    fn the_profile_answers_as_dockers() {
        let filter = filter(SANDBOX).expect("a filter");
        assert!(filter.len() < 4096, "BPF_MAXINSNS, {}", filter.len());
        for arch in [ARCH_X86_64, ARCH_I386] {
            for name in ["read", "execve", "ptrace", "chown", "chroot", "setgroups", "seccomp", "fchmodat2"] {
                assert_eq!(answer(&filter, arch, name, NO), Ok(()), "{name}");
            }
            for name in ["mount", "unshare", "setns", "bpf", "keyctl", "reboot", "io_uring_setup", "swapon"] {
                assert_eq!(answer(&filter, arch, name, NO), Err(libc::EPERM), "{name}");
            }
            assert_eq!(answer(&filter, arch, "clone3", NO), Err(libc::ENOSYS));
            let clone = |flags: i32| answer(&filter, arch, "clone", [flags as u64, 0, 0, 0, 0, 0]);
            assert_eq!(clone(libc::CLONE_VM | libc::SIGCHLD), Ok(()));
            assert_eq!(clone(libc::CLONE_NEWUSER | libc::SIGCHLD), Err(libc::EPERM));
            let personality = |p: u64| answer(&filter, arch, "personality", [p, 0, 0, 0, 0, 0]);
            assert_eq!((personality(0), personality(8)), (Ok(()), Ok(())));
            assert_eq!(personality(0x40000), Err(libc::EPERM));
            let socket = |family: u64| answer(&filter, arch, "socket", [family, 0, 0, 0, 0, 0]);
            assert_eq!((socket(1), socket(2), socket(10), socket(16)), (Ok(()), Ok(()), Ok(()), Ok(())));
            assert_eq!((socket(38), socket(40)), (Err(libc::EPERM), Err(libc::EPERM)), "AF_ALG, AF_VSOCK");
            assert_eq!(number_answer(&filter, arch, 5000, NO), Err(libc::ENOSYS));
        }
        assert_eq!(number_answer(&filter, ARCH_X86_64, X32_BIT, NO), Err(libc::ENOSYS));
        assert_eq!(number_answer(&filter, 0xc000_00b7, 0, NO), Err(libc::ENOSYS));
    }

    /// Checks every call against the lists: the search tree leaves none out.
    #[test]
    fn every_call_gets_its_own_answer() {
        let filter = filter(SANDBOX).expect("a filter");
        for (name, x86_64, i386) in table::SYSCALLS {
            for (arch, number) in [(ARCH_X86_64, x86_64), (ARCH_I386, i386)] {
                let Some(number) = number else { continue };
                let expect = match *name {
                    "clone3" | "socketcall" => Err(libc::ENOSYS),
                    name if profile::REFUSED.contains(&name) => Err(libc::EPERM),
                    _ => Ok(()),
                };
                assert_eq!(number_answer(&filter, arch, u32::from(*number), NO), expect, "{name}");
            }
        }
    }

    #[test]
    fn names_of_the_profile_exist() {
        for name in profile::REFUSED.iter().chain(profile::ABSENT).chain(profile::PRETENDED) {
            assert!(table::SYSCALLS.iter().any(|(n, ..)| n == name), "{name}");
        }
        for (capability, names) in profile::ALLOWED_WITH {
            assert!(Capabilities::of(capability).is_some(), "{capability}");
            for name in *names {
                assert!(profile::REFUSED.contains(name), "{name} is not refused anyhow");
            }
        }
    }

    #[test]
    fn capabilities_allow_their_calls_and_no_others() {
        let with = |capability: &str| {
            let capability = Capabilities::of(capability).expect("a capability");
            filter(Filter { capabilities: Capabilities::DEFAULT.with(capability), ..SANDBOX })
                .expect("a filter")
        };
        let admin = with("SYS_ADMIN");
        for name in ["mount", "umount2", "unshare", "setns", "clone3"] {
            assert_eq!(answer(&admin, ARCH_X86_64, name, NO), Ok(()), "{name}");
        }
        let clone = [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0];
        assert_eq!(answer(&admin, ARCH_X86_64, "clone", clone), Ok(()));
        for name in ["keyctl", "reboot", "settimeofday", "open_by_handle_at", "init_module"] {
            assert_eq!(answer(&admin, ARCH_X86_64, name, NO), Err(libc::EPERM), "{name}");
        }
        let time = with("SYS_TIME");
        assert_eq!(answer(&time, ARCH_X86_64, "settimeofday", NO), Ok(()));
        assert_eq!(answer(&time, ARCH_X86_64, "mount", NO), Err(libc::EPERM));
        assert_eq!(answer(&time, ARCH_X86_64, "clone3", NO), Err(libc::ENOSYS));
    }

    #[test]
    fn with_a_single_id_changes_of_ids_are_pretended() {
        let alone = filter(Filter { single: true, ..Filter::default() }).expect("a filter");
        assert_eq!(answer(&alone, ARCH_X86_64, "fchownat", NO), Err(0));
        assert_eq!(answer(&alone, ARCH_X86_64, "mount", NO), Ok(()));
        assert_eq!(number_answer(&alone, ARCH_I386, 5000, NO), Ok(()));
        let both = filter(Filter { single: true, ..SANDBOX }).expect("a filter");
        assert_eq!(answer(&both, ARCH_I386, "setuid32", NO), Err(0));
        assert_eq!(answer(&both, ARCH_X86_64, "mount", NO), Err(libc::EPERM));
        assert!(filter(Filter::default()).is_none());
    }

    #[test]
    fn only_programs_for_32_bit_x86_have_socketcall() {
        let theirs = filter(Filter { x86: true, ..SANDBOX }).expect("a filter");
        let others = filter(SANDBOX).expect("a filter");
        assert_eq!(answer(&theirs, ARCH_I386, "socketcall", NO), Ok(()));
        assert_eq!(answer(&others, ARCH_I386, "socketcall", NO), Err(libc::ENOSYS));
    }
}
