//! Which requests go through a proxy: the variables of curl(1) and wget(1).

use std::net::IpAddr;

use crate::environment::Environment;
use crate::hosts::{bare_host, is_loopback};

/// Proxy URLs and the hosts reached without a proxy. The URLs may hold passwords, so `Debug` hides them.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<String>,
    http: Option<String>,
    except: Vec<String>,
}

impl Proxies {
    /// Proxies that the environment names.
    pub fn from_environment(environment: &Environment) -> Proxies {
        let except = environment.no_proxy.as_deref().unwrap_or("");
        Proxies {
            https: environment.https_proxy.clone(),
            http: environment.http_proxy.clone(),
            except: except
                .split([',', ' '])
                .filter(|t| !t.is_empty())
                .map(|t| t.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase())
                .collect(),
        }
    }

    /// The proxy's URL for a request to `authority`; this machine is always reached directly.
    pub(crate) fn for_request(&self, https: bool, authority: &str) -> Option<&str> {
        let proxy = if https { self.https.as_deref() } else { self.http.as_deref() }?;
        let excepted = is_loopback(authority) || self.except.iter().any(|rule| matches(rule, authority));
        (!excepted).then_some(proxy)
    }
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("except", &self.except).finish_non_exhaustive()
    }
}

/// Whether a rule matches. Rules are `*`, a host or domain with everything below it, an address or a network
/// in CIDR form, each with an optional port.
fn matches(rule: &str, authority: &str) -> bool {
    let host = bare_host(authority).to_ascii_lowercase();
    if rule == "*" || rule == authority.to_ascii_lowercase() {
        return true;
    }
    if let (Some((network, bits)), Ok(address)) = (rule.split_once('/'), host.parse::<IpAddr>()) {
        return in_network(network, bits, address);
    }
    host == rule.trim_start_matches('[').trim_end_matches(']')
        || host.strip_suffix(rule).is_some_and(|rest| rest.ends_with('.'))
}

fn in_network(network: &str, bits: &str, address: IpAddr) -> bool {
    let as_u128 = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let ((network, length), (address, other_length)) = (as_u128(network), as_u128(address));
    length == other_length && bits <= length && (bits == 0 || (network ^ address) >> (128 - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions() {
        let environment = Environment {
            https_proxy: Some("http://proxy:3128".into()),
            no_proxy: Some("example.com, .corp,10.0.0.0/8 [2001:db8::1],r.io:5000".into()),
            ..Environment::default()
        };
        let proxies = Proxies::from_environment(&environment);
        for direct in [
            "example.com",
            "a.Example.com:443",
            "x.corp",
            "10.2.3.4:5000",
            "[2001:db8::1]:5000",
            "r.io:5000",
            "127.0.0.1:5000",
            "localhost",
        ] {
            assert_eq!(proxies.for_request(true, direct), None, "{direct}");
        }
        for proxied in ["badexample.com", "11.0.0.1", "r.io", "ghcr.io", "[2001:db8::2]"] {
            assert_eq!(proxies.for_request(true, proxied), Some("http://proxy:3128"), "{proxied}");
        }
        assert_eq!(proxies.for_request(false, "ghcr.io"), None);
    }
}
