//! The capabilities that a command may have. Source: capabilities(7), Docker's run reference.

use std::io;

use serde::{Deserialize, Serialize};

/// Names without `CAP_`; each stands at its number in `linux/capability.h`.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities; none by default.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(u64);

impl Capabilities {
    /// All capabilities, also those that only newer kernels know.
    pub const ALL: Capabilities = Capabilities(u64::MAX);
    /// Docker's default set: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
    /// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE and SETFCAP.
    pub const DEFAULT: Capabilities = Capabilities(0xa804_25fb);

    /// The set that a name stands for: one capability, with or without `CAP_`, in any case; or `ALL`.
    pub fn of(name: &str) -> Option<Capabilities> {
        let name = name.to_ascii_uppercase();
        if name == "ALL" {
            return Some(Capabilities::ALL);
        }
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let number = NAMES.iter().position(|known| *known == name)?;
        Some(Capabilities(1 << number))
    }

    /// This set and another one.
    pub fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// This set without another one.
    pub fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Whether the set has the capability of this name, which must be one of capabilities(7) without `CAP_`.
    pub(crate) fn has(self, name: &str) -> bool {
        Capabilities::of(name).is_some_and(|wanted| self.0 & wanted.0 == wanted.0)
    }

    /// The set as a bit mask, as `/proc/PID/status` shows it.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Drops all capabilities but these from the bounding set, so that no program can regain them.
    pub(crate) fn limit_bounding(self) -> io::Result<()> {
        for number in (0..64).filter(|number| self.0 & (1 << number) == 0) {
            match crate::sys::drop_bounding(number) {
                // Above the last capability that this kernel knows.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Takes all capabilities but these from the calling thread.
    pub(crate) fn limit(self) -> io::Result<()> {
        let have = rustix::thread::capabilities(None)?.permitted.bits();
        crate::sys::set_capabilities(have & self.0)
    }
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capabilities({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let net_admin = Capabilities::of("NET_ADMIN").expect("a capability");
        assert_eq!(net_admin.bits(), 1 << 12);
        assert_eq!(Capabilities::of("cap_net_admin"), Some(net_admin));
        assert_eq!(Capabilities::of("all"), Some(Capabilities::ALL));
        assert_eq!(Capabilities::of("CAP_ALL"), None);
        assert_eq!(Capabilities::of("NET"), None);
        assert_eq!(Capabilities::of("CHECKPOINT_RESTORE").map(Capabilities::bits), Some(1 << 40));
        let set = Capabilities::DEFAULT.with(net_admin).without(Capabilities::of("CHOWN").expect("one"));
        assert_eq!(set.bits(), 0xa804_35fa);
        assert!(set.has("NET_ADMIN") && !set.has("CHOWN") && !set.has("SYS_ADMIN"));
        assert_eq!(Capabilities::ALL.without(Capabilities::ALL), Capabilities::default());
    }
}
