//! Mirrors, certificates, insecure hosts, proxies.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use crossdock_oci::Reference;
use crossdock_registry::client::{Proxies, ResolverFiles};
use crossdock_registry::hosts::{HostPaths, Hosts};
use crossdock_registry::server::faults::Fault;
use crossdock_registry::{Client, ClientOptions, Credential, Credentials, Environment, Error};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::support::*;

/// A certificate authority.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("signed") }
    }

    /// PEM of a certificate for a name, and of its key.
    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_string()]).expect("good names");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }
}

/// Terminates TLS before a server; with `clients`, clients need a certificate of this authority.
fn tls_before(upstream: String, authority: &Authority, name: &str, clients: bool) -> u16 {
    let (certificate, key) = authority.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if clients {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).expect("a root");
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("a verifier");
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain: Vec<CertificateDer> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = Arc::new(builder.with_single_cert(chain, key).expect("they fit"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, upstream) = (config.clone(), upstream.clone());
            std::thread::spawn(move || relay(stream, config, &upstream));
        }
    });
    port
}

/// Relays one request; the upstream's answer is small and ends with the connection.
fn relay(stream: TcpStream, config: Arc<rustls::ServerConfig>, upstream: &str) {
    let connection = rustls::ServerConnection::new(config).expect("a good configuration");
    let mut tls = rustls::StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut buffer = [0; 65536];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match tls.read(&mut buffer) {
            Ok(n @ 1..) => request.extend(&buffer[..n]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut plain = TcpStream::connect(upstream).expect("it listens");
    plain.write_all(text.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).expect("answered");
    let _ = tls.write_all(&answer);
    tls.conn.send_close_notify();
    let _ = tls.flush();
}

/// Names that resolve to this machine, since loopback names would be tried by http.
fn resolver(directory: &TempDir) -> ResolverFiles {
    let files = ResolverFiles {
        hosts: directory.path().join("hosts"),
        resolv_conf: directory.path().join("resolv.conf"),
    };
    std::fs::write(&files.hosts, "127.0.0.1 registry.test mirror.test other.test\n").expect("written");
    std::fs::write(&files.resolv_conf, "nameserver [127.0.0.1]:1\noptions timeout:1 attempts:1\n")
        .expect("written");
    files
}

struct Setting {
    directory: TempDir,
    options: ClientOptions,
}

impl Setting {
    fn new() -> Setting {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut options = options().0;
        options.resolver = resolver(&directory);
        options.retries = 0;
        Setting { directory, options }
    }

    /// The client after writing `registries.conf`.
    fn client(&self, conf: &str) -> Client {
        let path = self.directory.path().join("registries.conf");
        std::fs::write(&path, conf).expect("written");
        let paths = HostPaths {
            certs_d: vec![self.directory.path().join("certs.d")],
            registries_conf: vec![path],
            registries_conf_d: Vec::new(),
        };
        let hosts = Hosts::read(&paths).expect("readable");
        Client::new(ClientOptions { hosts, ..self.options.clone() })
    }

    fn certificate(&self, host: &str, name: &str, pem: &str) {
        let directory = self.directory.path().join("certs.d").join(host);
        std::fs::create_dir_all(&directory).expect("made");
        std::fs::write(directory.join(name), pem).expect("written");
    }
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a good reference")
}

#[test]
fn certificates_of_a_host_are_trusted() {
    let site = Site::new();
    push_small(&client(), &site.reference("app:1"));
    let authority = Authority::new();
    let port = tls_before(site.host(), &authority, "registry.test", false);
    let host = format!("registry.test:{port}");
    let setting = Setting::new();
    let name = reference(&format!("{host}/app:1"));
    let text = setting.client("").manifest(&name).expect_err("unknown authority").to_string();
    assert!(
        text.contains("is not trusted") && text.contains("--insecure") && text.contains("certs.d"),
        "{text}"
    );
    setting.certificate(&host, "ca.crt", &authority.issuer.pem());
    setting.client("").manifest(&name).expect("trusted");
}

#[test]
fn insecure_hosts_are_not_verified() {
    let site = Site::new();
    push_small(&client(), &site.reference("app:1"));
    let port = tls_before(site.host(), &Authority::new(), "somebody.else", false);
    let name = reference(&format!("registry.test:{port}/app:1"));
    let mut setting = Setting::new();
    assert!(setting.client("").manifest(&name).is_err());
    setting.options.insecure = vec![format!("registry.test:{port}")];
    setting.client("").manifest(&name).expect("not verified");
    setting.options.insecure = Vec::new();
    setting.options.insecure_all = true;
    setting.client("").manifest(&name).expect("not verified");
    setting.options.insecure_all = false;
    let conf = format!("[[registry]]\nlocation = \"registry.test:{port}\"\ninsecure = true\n");
    setting.client(&conf).manifest(&name).expect("not verified");
}

#[test]
fn tls_on_loopback_is_found() {
    let site = Site::new();
    push_small(&client(), &site.reference("app:1"));
    let authority = Authority::new();
    let port = tls_before(site.host(), &authority, "localhost", false);
    let setting = Setting::new();
    setting.certificate(&format!("localhost:{port}"), "ca.crt", &authority.issuer.pem());
    setting.client("").manifest(&reference(&format!("localhost:{port}/app:1"))).expect("by https");
}

#[test]
fn plain_http_needs_a_word() {
    let site = Site::new();
    push_small(&client(), &site.reference("app:1"));
    let port = site.server.addr().port();
    let name = reference(&format!("registry.test:{port}/app:1"));
    let mut setting = Setting::new();
    let text = setting.client("").manifest(&name).expect_err("http").to_string();
    assert!(
        text.contains("speaks http, not https") && text.contains(&format!("--insecure registry.test:{port}")),
        "{text}"
    );
    setting.options.insecure = vec![format!("registry.test:{port}")];
    setting.client("").manifest(&name).expect("by http");
}

#[test]
fn clients_show_their_certificates() {
    let site = Site::new();
    push_small(&client(), &site.reference("app:1"));
    let authority = Authority::new();
    let port = tls_before(site.host(), &authority, "registry.test", true);
    let host = format!("registry.test:{port}");
    let setting = Setting::new();
    let name = reference(&format!("{host}/app:1"));
    setting.certificate(&host, "ca.crt", &authority.issuer.pem());
    assert!(setting.client("").manifest(&name).is_err());
    let (certificate, key) = authority.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    setting.certificate(&host, "client.cert", &certificate.pem());
    let error = setting.client("").manifest(&name).expect_err("no key");
    assert!(error.to_string().contains("client.key is missing"), "{error}");
    setting.certificate(&host, "client.key", &key.serialize_pem());
    setting.client("").manifest(&name).expect("known");
    setting.certificate(&host, "client.key", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IGtleQ\n");
    let error = setting.client("").manifest(&name).expect_err("damaged");
    let text = format!("{error} {error:?}");
    assert!(text.contains("client.key") && !text.contains("c2VjcmV0"), "{text}");
}

#[test]
fn mirrors_come_first_and_may_fail() {
    let (upstream, mirror) = (Site::new(), Site::new());
    let digest = push_small(&client(), &upstream.reference("library/app:1"));
    push_small(&client(), &upstream.reference("library/app:2"));
    push_small(&client(), &mirror.reference("hub/library/app:1"));
    let conf = format!(
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"other.test:1/x\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\n",
        upstream.host(),
        mirror.host()
    );
    let setting = Setting::new();
    let client = setting.client(&conf);
    assert_eq!(client.manifest(&reference("app:1")).expect("mirrored").digest, digest);
    assert_eq!(
        (mirror.count("GET", "/hub/library/app/manifests/1"), upstream.count("GET", "/manifests/1")),
        (1, 0)
    );
    client.manifest(&reference("app:2")).expect("from the registry itself");
    assert_eq!(upstream.count("GET", "/library/app/manifests/2"), 1);
    // Blobs likewise, and pushes never go to a mirror.
    use std::io::Read as _;
    let mut read = Vec::new();
    client.blob(&reference("app"), &blob(b"{}"), 0).expect("there").read_to_end(&mut read).expect("whole");
    assert_eq!(read, b"{}");
    push_small(&client, &reference("app:3"));
    assert_eq!(upstream.count("PUT", "/library/app/manifests/3"), 1);
    assert!(mirror.count("PUT", "/manifests/3") == 0);
}

#[test]
fn blocked_registries_are_not_asked() {
    let setting = Setting::new();
    let client = setting.client("[[registry]]\nlocation = \"registry.test\"\nblocked = true\n");
    let error = client.manifest(&reference("registry.test/a:1")).expect_err("blocked");
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
    assert!(error.to_string().contains("registries.conf"), "{error}");
}

#[test]
fn hosts_that_do_not_exist() {
    let setting = Setting::new();
    let error = setting.client("").manifest(&reference("absent.test/a:1")).expect_err("no such host");
    assert!(error.to_string().contains("cannot resolve absent.test"), "{error}");
}

#[test]
fn proxies_are_used_and_their_passwords_kept() {
    // A proxy that reports each request and refuses it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                asked.push(byte[0]);
            }
            let _ = sender.send(String::from_utf8_lossy(&asked).into_owned());
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let environment = Environment {
        https_proxy: Some(format!("http://user:proxypassword@127.0.0.1:{port}")),
        no_proxy: Some("other.test".to_string()),
        ..Environment::default()
    };
    let mut setting = Setting::new();
    setting.options.proxies = Proxies::from_environment(&environment);
    let client = setting.client("");
    let error = client.manifest(&reference("far.example/a:1")).expect_err("refused");
    let asked = receiver.recv().expect("the proxy was asked");
    assert!(asked.starts_with("CONNECT far.example:443 "), "{asked}");
    assert!(error.to_string().contains("proxy"), "{error}");
    let text = format!("{error} {error:?} {client:?}");
    assert!(!text.contains("proxypassword"), "{text}");
    // Excepted hosts and this machine are reached without the proxy.
    let site = Site::new();
    push_small(&client, &site.reference("a:1"));
    assert!(client.manifest(&reference("other.test:1/a:1")).is_err());
    assert!(receiver.try_recv().is_err());
}

#[test]
fn credentials_stay_away_from_http_that_nobody_allowed() {
    // A registry behind TLS that redirects its token realm to http elsewhere.
    let site = Site::faulty(|_, _| {
        Some(Fault::Answer {
            status: 401,
            headers: vec![(
                "www-authenticate".to_string(),
                "Bearer realm=\"http://other.test:1/token\"".to_string(),
            )],
            body: String::new(),
        })
    });
    let authority = Authority::new();
    let port = tls_before(site.host(), &authority, "registry.test", false);
    let host = format!("registry.test:{port}");
    let mut setting = Setting::new();
    setting.certificate(&host, "ca.crt", &authority.issuer.pem());
    setting.options.credentials = Credentials::none().with(&host, Credential::password("u", "pw-of-u"));
    let error = setting.client("").manifest(&reference(&format!("{host}/a:1"))).expect_err("refused");
    assert!(error.to_string().contains("not sent by plain http"), "{error}");
}
