//! The listening socket: the meaning of `--addr`, the backlog, and how many descriptors clients may use.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted; the kernel lowers this to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Descriptors reserved for other uses: libraries, the lock, logs, the listener.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Listens at `HOST:PORT`, or at `:PORT` on all addresses. Must be called inside a runtime.
pub(super) fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the host has no address");
    for address in addresses(address)? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Addresses to try in turn.
fn addresses(text: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
        .ok_or_else(|| {
            let expected = "expected HOST:PORT, such as 127.0.0.1:5000, or :5000 for all addresses";
            io::Error::new(io::ErrorKind::InvalidInput, expected)
        })?;
    Ok(match host {
        // An IPv6 socket accepts IPv4 clients, too; a kernel without IPv6 has only the IPv4 socket.
        "" | "*" => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
        "localhost" => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
        host => (host, port).to_socket_addrs()?.collect(),
    })
}

/// Raises this process's soft limit of open files to the hard limit, and returns how many connections fit:
/// each needs a socket and perhaps a file.
pub(super) fn connections_max() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    // No limit counts as a million.
    let descriptors = limit.current.unwrap_or(1 << 20);
    usize::try_from(descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2).unwrap_or(usize::MAX).max(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        let read = |text: &str| addresses(text).map(|all| all[0].to_string());
        assert_eq!(read("127.0.0.1:5000").ok().as_deref(), Some("127.0.0.1:5000"));
        assert_eq!(read("[::1]:0").ok().as_deref(), Some("[::1]:0"));
        assert_eq!(read(":5000").ok().as_deref(), Some("[::]:5000"));
        assert_eq!(read("*:5000").ok().as_deref(), Some("[::]:5000"));
        assert_eq!(read("localhost:80").ok().as_deref(), Some("127.0.0.1:80"));
        for bad in ["", "5000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "localhost:http"] {
            let message = read(bad).expect_err(bad).to_string();
            assert!(message.contains("expected HOST:PORT"), "{bad}: {message}");
        }
    }
}
