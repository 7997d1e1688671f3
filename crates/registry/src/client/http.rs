//! One HTTP exchange: connection pools, TLS, proxies, time limits; and failures explained to the user.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ureq::http::{self, HeaderMap, HeaderValue, Method, Response, header::HeaderName};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy, SendBody};

use super::proxy::Proxies;
use super::resolve::{OwnResolver, ResolverFiles};
use super::url::Url;
use crate::error::{Error, Result};
use crate::hosts::{HostCertificates, Hosts};

/// Time limits.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Time to resolve a name and connect, including TLS.
    pub connect: Duration,
    /// Longest time without a byte in either direction, including the wait for the answer.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { connect: Duration::from_secs(30), stall: Duration::from_secs(60) }
    }
}

/// Bytes read or written at once; larger than ureq's default since most traffic is blobs.
const BUFFER_SIZE: usize = 256 * 1024;

/// Request bodies from this size on, in bytes, are large.
pub(crate) const LARGE: u64 = 1024 * 1024;

/// All connections of a client.
pub(crate) struct Http {
    pub(crate) hosts: Hosts,
    pub(crate) proxies: Proxies,
    pub(crate) resolver: ResolverFiles,
    pub(crate) timeouts: Timeouts,
    pub(crate) user_agent: String,
    pub(crate) agents: Mutex<HashMap<AgentKey, Agent>>,
}

/// Properties that all connections of a pool share; ureq itself separates hosts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct AgentKey {
    unverified: bool,
    /// The host, if it has certificates of its own.
    host: Option<String>,
    proxy: Option<String>,
}

/// A body and its length in bytes; without one it is sent in chunks (RFC 9112 section 7.1).
pub(crate) type SendableBody<'a> = (&'a mut (dyn Read + Send), Option<u64>);

/// Why no answer came.
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) retryable: bool,
    /// Whether the connection was refused: nothing listens there.
    pub(crate) refused: bool,
    /// The body could not be read on this side.
    pub(crate) source: Option<io::Error>,
}

impl Http {
    /// Sends a request and waits for the head of the answer. Redirects are not followed.
    pub(crate) fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<SendableBody>,
        unverified: bool,
    ) -> Result<Result<Response<Body>, Failure>> {
        let agent = self.agent(url, unverified)?;
        let mut request = http::Request::builder().method(method.clone()).uri(url.full());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let proxy = self.proxies.for_request(url.is_https(), url.authority());
        let failed = |e: ureq::Error| Ok(Err(explain(&e, url, proxy)));
        let Some((reader, length)) = body else {
            let request = request.body(()).map_err(ureq::Error::from);
            return request.and_then(|r| agent.run(r)).map(Ok).or_else(failed);
        };
        let mut source = ExactReader { reader, left: length, error: None };
        if let Some(length) = length {
            request = request.header(http::header::CONTENT_LENGTH, length);
        }
        // A registry may need time to move a large blob to its place before it answers.
        let patience = if length.is_none_or(|length| length >= LARGE) {
            5 * self.timeouts.stall
        } else {
            self.timeouts.stall
        };
        let result = request
            .body(SendBody::from_reader(&mut source))
            .map_err(ureq::Error::from)
            .and_then(|r| agent.run(agent.configure_request(r).timeout_per_read(Some(patience)).build()));
        match (result, source.error.take()) {
            (Err(_), Some(error)) => {
                let reason = error.to_string();
                Ok(Err(Failure { reason, retryable: false, refused: false, source: Some(error) }))
            }
            (result, _) => result.map(Ok).or_else(failed),
        }
    }

    fn agent(&self, url: &Url, unverified: bool) -> Result<Agent> {
        let certificates = match url.is_https() {
            true => self.hosts.certificates(url.authority())?,
            false => HostCertificates::default(),
        };
        let key = AgentKey {
            unverified,
            host: (certificates != HostCertificates::default()).then(|| url.authority().to_string()),
            proxy: self.proxies.for_request(url.is_https(), url.authority()).map(str::to_string),
        };
        let mut agents = self.agents.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(&key, &certificates, url.is_https())?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn new_agent(&self, key: &AgentKey, certificates: &HostCertificates, https: bool) -> Result<Agent> {
        let proxy = match &key.proxy {
            // The URL may hold a password.
            Some(url) => Some(Proxy::new(url).map_err(|_| Error::File {
                path: PathBuf::from("HTTPS_PROXY or HTTP_PROXY"),
                reason: "not the URL of a proxy, such as http://HOST:PORT".to_string(),
            })?),
            None => None,
        };
        let mut tls = TlsConfig::builder().disable_verification(key.unverified);
        if https && !key.unverified {
            tls = tls.root_certs(roots(certificates)?);
        }
        if let Some((certificate, private_key)) = &certificates.client {
            tls = tls.client_cert(Some(client_certificate(certificate, private_key)?));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls.build())
            .proxy(proxy)
            .user_agent(&self.user_agent)
            .accept_encoding("")
            .timeout_resolve(Some(self.timeouts.connect))
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_per_read(Some(self.timeouts.stall))
            .timeout_per_write(Some(self.timeouts.stall))
            .input_buffer_size(BUFFER_SIZE)
            .output_buffer_size(BUFFER_SIZE)
            .max_idle_connections(32)
            .max_idle_connections_per_host(16)
            .build();
        Ok(Agent::with_parts(config, DefaultConnector::default(), OwnResolver(self.resolver.clone())))
    }
}

/// Reads exactly the announced length and remembers its own error. Data that end early are an error, since an
/// end of file would make the sender wait forever.
struct ExactReader<'a> {
    reader: &'a mut (dyn Read + Send),
    left: Option<u64>,
    error: Option<io::Error>,
}

impl Read for ExactReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let result = match self.reader.read(&mut buffer[..wanted]) {
            Ok(0) if wanted > 0 && self.left.is_some() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than announced"))
            }
            other => other,
        };
        match result {
            Ok(n) => {
                self.left = self.left.map(|left| left - n as u64);
                Ok(n)
            }
            Err(e) => {
                let copy = io::Error::new(e.kind(), e.to_string());
                self.error = Some(e);
                Err(copy)
            }
        }
    }
}

/// The roots to trust: the system's and the host's; if there are none at all, Mozilla's, which are built in.
fn roots(certificates: &HostCertificates) -> Result<RootCerts> {
    // Reading and parsing the bundle takes milliseconds, so it is done once, and only for https.
    static SYSTEM: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs().certs;
        found.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
    });
    let mut all = system.clone();
    for path in &certificates.roots {
        for item in read_pem(path)? {
            if let PemItem::Certificate(certificate) = item {
                all.push(certificate);
            }
        }
    }
    Ok(if all.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::new(all)) })
}

fn client_certificate(certificate: &Path, key: &Path) -> Result<ClientCert> {
    let chain: Vec<Certificate> = read_pem(certificate)?
        .into_iter()
        .filter_map(|item| if let PemItem::Certificate(c) = item { Some(c) } else { None })
        .collect();
    let private_key: Option<PrivateKey> = read_pem(key)?
        .into_iter()
        .find_map(|item| if let PemItem::PrivateKey(k) = item { Some(k) } else { None });
    match (chain.is_empty(), private_key) {
        (false, Some(private_key)) => Ok(ClientCert::new_with_certs(&chain, private_key)),
        (true, _) => Err(pem_error(certificate, "no certificate in it")),
        (_, None) => Err(pem_error(key, "no private key in it")),
    }
}

fn read_pem(path: &Path) -> Result<Vec<PemItem<'static>>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    ureq::tls::parse_pem(&bytes).collect::<Result<_, _>>().map_err(|_| pem_error(path, "damaged PEM"))
}

fn pem_error(path: &Path, reason: &str) -> Error {
    Error::File { path: path.to_path_buf(), reason: reason.to_string() }
}

/// Host and port of a proxy's URL, which may hold a password.
fn proxy_host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Explains a connection failure that is the proxy's; `None` for other failures.
fn explain_proxy(error: &ureq::Error, host: &str, proxy: &str) -> Option<Failure> {
    let proxy = proxy_host(proxy);
    let what = match error {
        ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there (connection refused)".to_string()
        }
        // The resolver's own messages.
        ureq::Error::Io(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::TimedOut) => {
            e.to_string()
        }
        ureq::Error::HostNotFound => "there is no such host".to_string(),
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
        | ureq::Error::ConnectionFailed => {
            format!("no connection ({error})")
        }
        ureq::Error::ConnectProxyFailed(text) => format!("it refuses to connect to {host} ({text})"),
        _ => return None,
    };
    let reason = format!(
        "cannot use the proxy {proxy} for {host}: {what}; correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or name {host} in NO_PROXY"
    );
    Some(Failure { reason, retryable: true, refused: false, source: None })
}

/// Explains a connection failure and says what to do about it.
fn explain(error: &ureq::Error, url: &Url, proxy: Option<&str>) -> Failure {
    let host = url.authority();
    if let Some(failure) = proxy.and_then(|proxy| explain_proxy(error, host, proxy)) {
        return failure;
    }
    let mut text = error.to_string();
    // TLS errors come from the handshake as input/output errors with the cause inside.
    if let ureq::Error::Io(e) = error {
        text = e.to_string();
    }
    let lower = text.to_lowercase();
    let answer = |reason: String, retryable| Failure { reason, retryable, refused: false, source: None };
    if url.is_https() && (lower.contains("invalidcontenttype") || lower.contains("corrupt message")) {
        return answer(
            format!(
                "{host} speaks http, not https; if that is intended, allow it with --insecure {host} or --tls-verify=false"
            ),
            false,
        );
    }
    if lower.contains("certificate") {
        return answer(
            format!(
                "the certificate of {host} is not trusted ({text}); put the certificate of its authority into \
                 /etc/containers/certs.d/{host}/ca.crt, or go without verification with --insecure {host} or --tls-verify=false"
            ),
            false,
        );
    }
    match error {
        ureq::Error::Timeout(_) => answer(format!("no answer from {host} in time ({text})"), true),
        ureq::Error::HostNotFound => answer(format!("there is no host {host}"), false),
        ureq::Error::Io(e) => match e.kind() {
            io::ErrorKind::NotFound => answer(text, false),
            io::ErrorKind::ConnectionRefused => {
                let reason = format!("nothing listens at {host} (connection refused)");
                Failure { refused: true, ..answer(reason, true) }
            }
            _ => answer(format!("the connection to {host} failed ({text})"), true),
        },
        ureq::Error::Protocol(_) => answer(format!("{host} does not speak http ({text})"), true),
        ureq::Error::ConnectionFailed => answer(format!("cannot connect to {host}"), true),
        _ => answer(format!("the request to {host} failed ({text})"), false),
    }
}

/// A header's value as text, if it is text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_password() {
        for (url, host) in [
            ("http://proxy:3128", "proxy:3128"),
            ("http://user:p@ss@proxy.example:3128/", "proxy.example:3128"),
            ("socks5://[::1]:1080", "[::1]:1080"),
            ("proxy", "proxy"),
        ] {
            assert_eq!(proxy_host(url), host, "{url}");
        }
    }
}
