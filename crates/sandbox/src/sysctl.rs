//! Settings of the kernel that a command's own namespaces have. Source: namespaces(7), ipc_namespaces(7),
//! Docker's run reference (`--sysctl`), Documentation/admin-guide/sysctl of the kernel.

use std::path::PathBuf;

use crate::spec::Network;

/// Settings of an IPC namespace, besides those below `fs.mqueue`.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A setting that a command cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// The setting belongs to the network, which is the machine's.
    #[error(
        "{0} belongs to the network, and --network host is the network of this machine; use --network private or none"
    )]
    HostNetwork(String),
    /// No namespace has this setting.
    #[error("{0} is a setting of the whole machine, not of a container")]
    Machine(String),
    /// Not the name of a setting.
    #[error("\"{0}\" is not the name of a setting, such as net.ipv4.ip_unprivileged_port_start")]
    Name(String),
}

/// Checks that a command in `network` can have the setting.
pub fn check(name: &str, network: Network) -> Result<(), SysctlError> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word != ".."
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/' | b'.'))
    };
    let words: Vec<&str> = name.split(['.', '/']).collect();
    if words.len() < 2 || !words.iter().all(|word| is_word(word)) {
        return Err(SysctlError::Name(name.to_string()));
    }
    let dotted = words.join(".");
    match words[0] {
        "net" if network == Network::Host => Err(SysctlError::HostNetwork(name.to_string())),
        "net" => Ok(()),
        "fs" if words[1] == "mqueue" => Ok(()),
        _ if IPC.contains(&dotted.as_str()) => Ok(()),
        _ => Err(SysctlError::Machine(name.to_string())),
    }
}

/// The file of a setting, below `/proc`. As with sysctl(8), a name whose first separator is `/` has dots in
/// its words: `net/ipv4/conf/eth0.100/forwarding`.
pub(crate) fn path(name: &str) -> PathBuf {
    let slashed = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    PathBuf::from("sys").join(if slashed { name.to_string() } else { name.replace('.', "/") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Uplink;

    #[test]
    fn only_settings_of_own_namespaces_can_be_set() {
        let own = Network::Private(Uplink::Any);
        assert_eq!(check("net.ipv4.ip_forward", own), Ok(()));
        assert_eq!(check("net/ipv4/conf/eth0.100/forwarding", Network::None), Ok(()));
        assert!(matches!(check("net.ipv4.ip_forward", Network::Host), Err(SysctlError::HostNetwork(_))));
        for name in ["kernel.shmmax", "fs.mqueue.msg_max"] {
            assert_eq!(check(name, Network::Host), Ok(()), "{name}");
        }
        for name in ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.shmmax.x"] {
            assert_eq!(check(name, own), Err(SysctlError::Machine(name.into())), "{name}");
        }
        for name in ["", "net", "net.", "net..x", "net/../kernel/core_pattern", "net.ipv4.\nx", "net/ipv4/ "]
        {
            assert_eq!(check(name, own), Err(SysctlError::Name(name.into())), "{name}");
        }
        assert_eq!(path("net.ipv4.ip_forward"), PathBuf::from("sys/net/ipv4/ip_forward"));
        assert_eq!(path("net/a.b/c"), PathBuf::from("sys/net/a.b/c"));
    }
}
