//! Resolves host names without the C library: a statically linked glibc loads the NSS modules of the
//! distribution that it runs on, and fails or crashes if they are of another version.
//!
//! Handles IP literals, `localhost`, `hosts(5)`, then DNS (RFC 1035) at the servers of `resolv.conf(5)`: by
//! UDP, and by TCP if the answer is truncated.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::hosts::is_loopback;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
/// Most addresses that are used; ureq takes at most 16.
const ADDRESSES_MAX: usize = 8;
const NAME_NOT_FOUND: u8 = 3;

/// The files that say how names are resolved.
#[derive(Clone, Debug)]
pub struct ResolverFiles {
    /// Usually `/etc/hosts`.
    pub hosts: PathBuf,
    /// Usually `/etc/resolv.conf`. A server may have a port: `nameserver [127.0.0.1]:5353`, as on OpenBSD.
    pub resolv_conf: PathBuf,
}

impl Default for ResolverFiles {
    fn default() -> ResolverFiles {
        ResolverFiles { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// The resolver that the client gives to ureq.
#[derive(Debug)]
pub(crate) struct OwnResolver(pub(crate) ResolverFiles);

impl Resolver for OwnResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let authority = uri.authority().ok_or(ureq::Error::HostNotFound)?;
        let port = authority.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let deadline = Instant::now() + (*timeout.after).min(Duration::from_secs(30));
        let addresses = self.0.addresses(authority.host(), deadline)?;
        let mut result = self.empty();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            result.push(SocketAddr::new(address, port));
        }
        Ok(result)
    }
}

impl ResolverFiles {
    /// At least one address of a host.
    ///
    /// # Errors
    ///
    /// No file and no server knows the host, or none answers in time.
    pub fn addresses(&self, host: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let in_file = std::fs::read_to_string(&self.hosts).map(|t| parse_hosts(&t, host)).unwrap_or_default();
        if !in_file.is_empty() {
            return Ok(in_file);
        }
        if is_loopback(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // Without the file, the C library asks a server on this machine, and so does this function.
        let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        ResolvConf::parse(&text).look_up(host, deadline)
    }
}

fn parse_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) {
            found.push(address);
        }
    }
    found
}

struct ResolvConf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl ResolvConf {
    fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(parse_server)),
                Some("search" | "domain") => conf.search = words.map(str::to_string).collect(),
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        conf.servers.truncate(3);
        if conf.servers.is_empty() {
            conf.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let Some((name, Ok(value))) = option.split_once(':').map(|(n, v)| (n, v.parse::<u32>())) else {
            return;
        };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// Full names to try, in order: `ndots` decides whether the name itself comes before those with search
    /// domains.
    fn candidates(&self, host: &str) -> Vec<String> {
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let absolute_first = host.matches('.').count() >= self.ndots;
        names.insert(if absolute_first { 0 } else { names.len() }, host.to_string());
        names
    }

    fn look_up(&self, host: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut failure = None;
        for name in self.candidates(host) {
            match self.query_servers(&name, deadline) {
                Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
                Ok(_) => {}
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        let servers: Vec<String> = self.servers.iter().map(|s| s.ip().to_string()).collect();
        let servers = servers.join(", ");
        Err(match failure {
            None => io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no host {host} (name servers asked: {servers})"),
            ),
            Some(e) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("cannot resolve {host}: {e} (name servers asked: {servers})"),
            ),
        })
    }

    /// Addresses of one full name; empty if a server says that there are none.
    fn query_servers(&self, name: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut failure = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        for _ in 0..self.attempts {
            for server in &self.servers {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(failure);
                }
                match query_both(*server, name, self.timeout.min(left)) {
                    Ok(addresses) => return Ok(addresses),
                    Err(e) => failure = e,
                }
            }
        }
        Err(failure)
    }
}

fn parse_server(text: &str) -> Option<SocketAddr> {
    if let Some((address, port)) = text.strip_prefix('[').and_then(|t| t.split_once("]:")) {
        return Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?));
    }
    // A scope such as %eth0 would need an interface index; such servers are left out.
    Some(SocketAddr::new(text.parse().ok()?, 53))
}

/// IPv4 addresses, then IPv6: where both are announced, IPv4 nearly always works.
fn query_both(server: SocketAddr, name: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let mut addresses = query(server, name, TYPE_A, timeout)?;
    match query(server, name, TYPE_AAAA, timeout) {
        Ok(more) => addresses.extend(more),
        Err(e) if addresses.is_empty() => return Err(e),
        Err(_) => {}
    }
    Ok(addresses)
}

fn query(server: SocketAddr, name: &str, kind: u16, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let mut id = [0u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let request = encode_query(id, name, kind)?;
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    socket.connect(server)?;
    socket.send(&request)?;
    let deadline = Instant::now() + timeout;
    let mut buffer = [0u8; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        };
        // A message that does not answer the question is not from the server.
        match decode_answer(&buffer[..length], &request) {
            Some(Reply::Truncated) => return query_tcp(server, &request, timeout),
            Some(Reply::Addresses(addresses)) => return Ok(addresses),
            Some(Reply::Failed(code)) => {
                return Err(io::Error::other(format!("the name server failed (code {code})")));
            }
            None => {}
        }
    }
}

/// RFC 1035 section 4.2.2: the message after its length in two bytes.
fn query_tcp(server: SocketAddr, request: &[u8], timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), request].concat())?;
    let mut length = [0u8; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    match decode_answer(&answer, request) {
        Some(Reply::Addresses(addresses)) => Ok(addresses),
        _ => Err(io::Error::other("the name server gave no useful answer over TCP")),
    }
}

/// A query with recursion, section 4.1.
fn encode_query(id: [u8; 2], name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n));
        let length = length.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("\"{name}\" cannot be the name of a host"))
        })?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    Ok(message)
}

#[derive(Debug, PartialEq)]
enum Reply {
    Addresses(Vec<IpAddr>),
    Truncated,
    Failed(u8),
}

/// Reads an answer to `request`; `None` for anything else. Addresses of all records count: the server puts
/// the chain of aliases (CNAME) before the addresses that it leads to.
fn decode_answer(message: &[u8], request: &[u8]) -> Option<Reply> {
    let question = request.get(12..)?;
    let header = message.get(..12)?;
    let echoed = message.get(12..12 + question.len())?;
    if header[..2] != request[..2] || header[2] & 0x80 == 0 || !echoed.eq_ignore_ascii_case(question) {
        return None;
    }
    if header[2] & 0x02 != 0 {
        return Some(Reply::Truncated);
    }
    match header[3] & 0x0f {
        0 => {}
        NAME_NOT_FOUND => return Some(Reply::Addresses(Vec::new())),
        code => return Some(Reply::Failed(code)),
    }
    let mut addresses = Vec::new();
    let mut at = 12 + question.len();
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        at = skip_name(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = message.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        if let (TYPE_A, Ok(bytes)) = (kind, <[u8; 4]>::try_from(data)) {
            addresses.push(IpAddr::from(bytes));
        } else if let (TYPE_AAAA, Ok(bytes)) = (kind, <[u8; 16]>::try_from(data)) {
            addresses.push(IpAddr::from(bytes));
        }
    }
    Some(Reply::Addresses(addresses))
}

/// The position after a name, section 4.1.4: labels up to an empty one or a pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// Answers a query: `alias.test` is an alias with an address, `big.test` is truncated over UDP, others do
    /// not exist.
    fn answer(request: &[u8], tcp: bool) -> Vec<u8> {
        let mut message = request.to_vec();
        message[2] |= 0x80;
        let is_a = request[request.len() - 3] == TYPE_A as u8;
        let labels = |name: &str| {
            let mut bytes = Vec::new();
            for label in name.split('.') {
                bytes.push(label.len() as u8);
                bytes.extend(label.as_bytes());
            }
            bytes
        };
        if request[12..].starts_with(&labels("alias.test")) && is_a {
            message[7] = 2;
            message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 18]);
            message.extend([0xc0, 40, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        } else if request[12..].starts_with(&labels("big.test")) {
            if !tcp {
                message[2] |= 2;
            } else if is_a {
                message[7] = 1;
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 8]);
            }
        } else {
            message[3] = NAME_NOT_FOUND;
        }
        message
    }

    fn resolver(directory: &tempfile::TempDir) -> ResolverFiles {
        // The same port for both transports; tries again if another process has it.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("bound")) {
                break (udp, tcp);
            }
        };
        let port = udp.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(&answer(&buffer[..length], false), from);
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("a length");
                let mut request = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut request).expect("a request");
                let answer = answer(&request, true);
                let length = (answer.len() as u16).to_be_bytes();
                stream.write_all(&[&length, answer.as_slice()].concat()).expect("answered");
            }
        });
        let files = ResolverFiles {
            hosts: directory.path().join("hosts"),
            resolv_conf: directory.path().join("resolv.conf"),
        };
        std::fs::write(&files.hosts, "# x\n10.1.2.3 one One.example # two\nbad one\n::5 one\n")
            .expect("written");
        std::fs::write(&files.resolv_conf, format!("search nowhere test\nnameserver [127.0.0.1]:{port}\n"))
            .expect("written");
        files
    }

    #[test]
    fn files_literals_and_dns() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let resolver = resolver(&directory);
        let look_up = |host: &str| {
            let found = resolver.addresses(host, soon()).expect(host);
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(look_up("192.0.2.1"), "192.0.2.1");
        assert_eq!(look_up("[2001:db8::1]"), "2001:db8::1");
        assert_eq!(look_up("ONE"), "10.1.2.3 ::5");
        assert_eq!(look_up("localhost"), "127.0.0.1 ::1");
        assert_eq!(look_up("alias.test"), "192.0.2.7");
        assert_eq!(look_up("alias"), "192.0.2.7");
        assert_eq!(look_up("big.test."), "192.0.2.8");
        let error = resolver.addresses("absent.test", soon()).expect_err("does not exist");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("absent.test"), "{error}");
    }

    #[test]
    fn damaged_answers_are_ignored() {
        let request = encode_query([1, 2], "alias.test", TYPE_A).expect("a good name");
        let good = answer(&request, false);
        assert_eq!(
            decode_answer(&good, &request),
            Some(Reply::Addresses(vec!["192.0.2.7".parse().expect("IP")]))
        );
        for length in 0..good.len() {
            assert_eq!(decode_answer(&good[..length], &request), None, "{length}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = decode_answer(&bad, &request);
        }
        assert!(encode_query([0, 0], "a..b", TYPE_A).is_err());
        assert!(encode_query([0, 0], &"a".repeat(64), TYPE_A).is_err());
    }

    #[test]
    fn resolv_conf_of_the_manual_page() {
        let conf = ResolvConf::parse(
            "nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver ::1 ; x\noptions ndots:2 timeout:1 attempts:9 rotate\nsearch a.b c",
        );
        assert_eq!(
            conf.servers,
            ["192.0.2.1:53".parse().expect("address"), "[::1]:53".parse().expect("address")]
        );
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (2, 1, 5));
        assert_eq!(conf.candidates("x.y"), ["x.y.a.b", "x.y.c", "x.y"]);
        assert_eq!(conf.candidates("x.y.z")[0], "x.y.z");
        assert_eq!(ResolvConf::parse("").servers, ["127.0.0.1:53".parse().expect("address")]);
    }

    #[test]
    fn hostile_answers_and_files() {
        use crossdock_testkit::hostile::{texts, try_inputs};
        let request = encode_query([1, 2], "alias.test", TYPE_A).expect("a name");
        let mut message = request.clone();
        (message[2], message[7]) = (0x81, 2);
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 18]);
        message.extend([0xc0, 40, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        try_inputs("answers of name servers", &[message.clone()], |input| {
            let _ = decode_answer(input, &request);
            // Only the bytes after the question are damaged.
            let _ = decode_answer(&[&message[..request.len()], input].concat(), &request);
        });
        let files = texts(&[
            "127.0.0.1 localhost a # c\n::1 ip6 b\nfe80::1%eth0 c\n",
            "nameserver [127.0.0.1]:5353\nnameserver ::1\nsearch a b\noptions ndots:3 timeout:1 attempts:9 rotate\n",
        ]);
        try_inputs("files of names", &files, |input| {
            let input = String::from_utf8_lossy(input);
            let _ = (parse_hosts(&input, "a"), ResolvConf::parse(&input), parse_server(&input));
            let _ = encode_query([0, 0], &input, TYPE_A);
        });
    }
}
