//! Where a farm is: `grpc[s]://HOST[:PORT][/INSTANCE]`, as Bazel writes it.

use std::fmt;
use std::str::FromStr;

/// Ports if the address has none, as Bazel has them.
const PORT_TLS: u16 = 443;
const PORT_PLAIN: u16 = 80;

/// Words that may not be part of an instance name, since they begin the next part of a resource name
/// (REAPI, "ContentAddressableStorage").
const RESERVED: [&str; 8] = [
    "blobs",
    "uploads",
    "actions",
    "actionResults",
    "operations",
    "capabilities",
    "compressed-blobs",
    "captures",
];

/// The address of a farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `instance_name` of every request; often empty.
    pub instance: String,
}

impl Address {
    /// Whether nobody outside this machine sees the connection.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }

    /// Host and port for a URI.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let wrong = |what: &str| {
            format!("\"{text}\" is no address of a farm: {what}; it is grpc[s]://HOST[:PORT][/INSTANCE]")
        };
        let (is_tls, rest) = match text.split_once("://") {
            Some(("grpcs", rest)) => (true, rest),
            Some(("grpc", rest)) => (false, rest),
            _ => return Err(wrong("it does not begin with grpc:// or grpcs://")),
        };
        let (authority, instance) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(wrong("user names belong into a header (--farm-header)"));
        }
        let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, port)) => (
                host,
                port.strip_prefix(':').filter(|port| !port.is_empty()).or(port.is_empty().then_some("")),
            ),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port {
            Some("") => {
                if is_tls {
                    PORT_TLS
                } else {
                    PORT_PLAIN
                }
            }
            Some(port) => port.parse().map_err(|_| wrong("the port is no number up to 65535"))?,
            None => return Err(wrong("something stands between host and port")),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_host = match bracketed {
            Some((host, _)) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(is_name),
        };
        if !is_host {
            return Err(wrong("it has no valid host"));
        }
        let instance = instance.trim_end_matches('/');
        let is_part = |part: &str| {
            !part.is_empty() && !RESERVED.contains(&part) && part.chars().all(|c| c.is_ascii_graphic())
        };
        if !instance.is_empty() && !instance.split('/').all(is_part) {
            return Err(wrong("the instance name is not one"));
        }
        Ok(Address { is_tls, host: host.to_string(), port, instance: instance.to_string() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "grpcs" } else { "grpc" };
        write!(f, "{scheme}://{}", self.authority())?;
        if self.instance.is_empty() { Ok(()) } else { write!(f, "/{}", self.instance) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        for (text, shown) in [
            ("grpc://localhost:8980", "grpc://localhost:8980"),
            ("grpcs://farm.example.com", "grpcs://farm.example.com:443"),
            ("grpc://10.0.0.1/main/", "grpc://10.0.0.1:80/main"),
            ("grpcs://[::1]:8980/a/b", "grpcs://[::1]:8980/a/b"),
            ("grpcs://[::1]", "grpcs://[::1]:443"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown));
        }
        for text in [
            "",
            "farm:8980",
            "http://farm",
            "grpc://",
            "grpc://:80",
            "grpc://a:b",
            "grpc://a:70000",
            "grpc://[::1]x:1",
            "grpc://[a]:1",
            "grpc://user@farm:1",
            "grpc://host/a//b",
            "grpc://host/a/blobs",
            "grpc://host/a b",
        ] {
            assert!(read(text).is_err_and(|error| error.contains("grpc[s]://")), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, is_loopback) in
            [("localhost", true), ("127.0.0.2", true), ("[::1]", true), ("10.0.0.1", false)]
        {
            let address: Address = format!("grpc://{text}:1").parse().expect("an address");
            assert_eq!(address.is_loopback(), is_loopback, "{text}");
        }
    }
}
