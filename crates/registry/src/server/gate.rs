//! Limits the number of connections, in total and by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use super::socket::Socket;

/// Most bytes of a request's line and headers, and the size of a connection's read buffer. podman asks for
/// 1024 ranges in one header, of at most 22 bytes each.
pub(super) const HEAD_SIZE_MAX: usize = 32 * 1024;

/// Most connections of one address, unless the options set another limit. Many machines may share a router's
/// address.
const PER_ADDRESS: usize = 1000;

/// The client of a connection.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    /// Whether the client uses TLS.
    pub(super) secure: bool,
    pub(super) socket: Arc<Socket>,
}

/// Counts connections.
pub(super) struct Gate {
    total_max: usize,
    /// The limit in the options. Without one, loopback is unlimited, since a reverse proxy may be there.
    per_address: Option<usize>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that was let in; counted until dropped.
pub(super) struct Pass {
    gate: Arc<Gate>,
    key: IpAddr,
}

/// Why a connection is not served.
pub(super) enum Refused {
    Full,
    TooMany(usize),
}

impl Gate {
    pub(super) fn new(total_max: usize, per_address: Option<usize>) -> Gate {
        Gate { total_max, per_address, open: Mutex::default() }
    }

    /// Number of open connections.
    pub(super) fn open(&self) -> usize {
        self.count().total
    }

    fn count(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn enter(self: &Arc<Gate>, address: IpAddr) -> Result<Pass, Refused> {
        let key = household(address);
        let mut open = self.count();
        if open.total >= self.total_max {
            return Err(Refused::Full);
        }
        let limit = match self.per_address {
            Some(limit) => limit,
            None if key.is_loopback() => usize::MAX,
            None => PER_ADDRESS,
        };
        let count = open.by_address.entry(key).or_insert(0);
        if *count >= limit {
            return Err(Refused::TooMany(limit));
        }
        *count += 1;
        open.total += 1;
        Ok(Pass { gate: self.clone(), key })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.count();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.key);
            }
        }
    }
}

/// The address to count under: an IPv6 client has a /64 of its own.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let s = v6.segments();
            Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address() {
        let gate = Arc::new(Gate::new(5, Some(2)));
        let enter = |text: &str| gate.enter(text.parse().expect("an address"));
        let first = enter("192.0.2.1").ok().expect("let in");
        let _second = enter("::ffff:192.0.2.1").ok().expect("let in");
        assert!(matches!(enter("192.0.2.1"), Err(Refused::TooMany(2))));
        drop(first);
        let _first = enter("192.0.2.1").ok().expect("let in again");
        // Addresses of one /64 are one client.
        let _v6 = [enter("2001:db8::1").ok(), enter("2001:db8::2").ok()];
        assert!(matches!(enter("2001:db8::3"), Err(Refused::TooMany(2))));
        let _last = enter("2001:db8:0:1::3").ok().expect("another network");
        assert!(matches!(enter("192.0.2.9"), Err(Refused::Full)));
        assert_eq!(gate.open(), 5);
    }

    #[test]
    fn a_reverse_proxy_on_this_machine_has_no_limit() {
        let gate = Arc::new(Gate::new(usize::MAX, None));
        let passes: Vec<_> = (0..3000).map(|_| gate.enter(IpAddr::from([127, 0, 0, 1])).ok()).collect();
        assert!(passes.iter().all(Option::is_some));
        let passes: Vec<_> = (0..3000).map(|_| gate.enter(IpAddr::from([192, 0, 2, 1])).ok()).collect();
        assert_eq!(passes.iter().flatten().count(), PER_ADDRESS);
    }
}
