//! Damaged requests to the server, damaged answers to the client, damaged files of credentials and hosts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use crossdock_oci::manifest::Descriptor;
use crossdock_oci::{Reference, media_type};
use crossdock_registry::hosts::{HostPaths, Hosts};
use crossdock_registry::server::{RegistryServer, ServerOptions};
use crossdock_registry::transfer::{PullOptions, pull};
use crossdock_registry::{Client, ClientOptions, Credential, Credentials, Environment};
use crossdock_testkit::TempStore;
use crossdock_testkit::hostile::{texts, try_inputs};

use crate::support::{options, platform};

/// A connection that is silent for this long counts as hanging.
const SILENCE: Duration = Duration::from_secs(5);

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The server's runtime swallows panics, so a panic hook counts them.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some("registry") {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            usual(info);
        }));
    });
}

const DIGEST: &str = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

fn requests() -> Vec<Vec<u8>> {
    let head = "Host: localhost\r\nConnection: close\r\n";
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"config\":{{\"mediaType\":\"x\",\"digest\":\"{DIGEST}\",\"size\":3}},\"layers\":[]}}",
        media_type::OCI_MANIFEST
    );
    let texts = [
        format!("GET /v2/ HTTP/1.1\r\n{head}\r\n"),
        format!("GET /v2/_catalog?n=10&last=a HTTP/1.1\r\n{head}Authorization: Basic YTpi\r\n\r\n"),
        format!("GET /v2/a/b/tags/list?n=5&last=x HTTP/1.1\r\n{head}\r\n"),
        format!("HEAD /v2/a/b/manifests/latest HTTP/1.1\r\n{head}Accept: */*\r\n\r\n"),
        format!(
            "PUT /v2/a/b/manifests/latest HTTP/1.1\r\n{head}Content-Type: {}\r\nContent-Length: {}\r\n\r\n{manifest}",
            media_type::OCI_MANIFEST,
            manifest.len()
        ),
        format!("GET /v2/a/b/blobs/{DIGEST} HTTP/1.1\r\n{head}Range: bytes=1-2\r\n\r\n"),
        format!("POST /v2/a/b/blobs/uploads/?digest={DIGEST} HTTP/1.1\r\n{head}Content-Length: 3\r\n\r\nfoo"),
        format!(
            "POST /v2/a/b/blobs/uploads/?mount={DIGEST}&from=c/d HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n"
        ),
        format!(
            "PATCH /v2/a/b/blobs/uploads/00000000-0000-4000-8000-000000000000 HTTP/1.1\r\n{head}Content-Range: 0-2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\n\r\n"
        ),
        format!("PUT /v2/a/b/blobs/uploads/x?digest={DIGEST} HTTP/1.1\r\n{head}Content-Length: 3\r\n\r\nfoo"),
        format!("DELETE /v2/a/b/manifests/{DIGEST} HTTP/1.1\r\n{head}\r\n"),
        format!("GET /v2/a/b/referrers/{DIGEST}?artifactType=x HTTP/1.1\r\n{head}\r\n"),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

#[test]
fn requests_to_the_server() {
    count_panics();
    let outside = tempfile::tempdir().expect("a temporary directory");
    let directory = outside.path().join("registry");
    let options = ServerOptions { sync: false, ..ServerOptions::default() };
    let server = RegistryServer::bind("127.0.0.1:0", &directory, options).expect("a free port");
    let exchange = |request: &[u8], whole: bool| {
        let mut stream = TcpStream::connect(server.addr()).expect("it listens");
        stream.set_read_timeout(Some(SILENCE)).expect("set");
        // The server may have answered and closed before the end.
        let _ = stream.write_all(request);
        // The server may take a client that closes its side for one that is gone, and need not answer it.
        if !whole {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert!(
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
                "no answer and no end"
            );
        }
        answer
    };
    try_inputs("requests", &requests(), |input| {
        let before = PANICS.load(Ordering::SeqCst);
        let _ = exchange(input, false);
        assert_eq!(PANICS.load(Ordering::SeqCst), before, "the server panics");
        let left: Vec<_> = std::fs::read_dir(outside.path()).expect("readable").flatten().collect();
        assert_eq!(left.len(), 1, "something was written beside the registry: {left:?}");
    });
    let answer = exchange(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", true);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "the server is damaged: {}", answer.escape_ascii());
}

/// A server that answers every request with the same bytes.
struct Parrot {
    answer: Arc<Mutex<Vec<u8>>>,
    port: u16,
}

impl Parrot {
    fn start() -> Parrot {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let answer: Arc<Mutex<Vec<u8>>> = Arc::default();
        let said = answer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = said.clone();
                std::thread::spawn(move || Parrot::talk(stream, &said));
            }
        });
        Parrot { answer, port }
    }

    fn talk(mut stream: TcpStream, said: &Mutex<Vec<u8>>) {
        let mut head = Vec::new();
        let mut buffer = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) => head.extend_from_slice(&buffer[..length]),
            }
            // The beginning of TLS, which the client tries first: after a hang-up it tries plain HTTP at
            // once.
            if head[0] == 0x16 {
                return;
            }
        }
        let answer = said.lock().expect("not poisoned").clone();
        // The client may have stopped reading.
        let _ = stream.write_all(&answer);
        let _ = stream.shutdown(Shutdown::Write);
        // Closing the connection with unread bytes would reset it and lose the answer.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
        while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {}
    }
}

fn answers(port: u16) -> Vec<Vec<u8>> {
    // A name, not a number: a damaged number could be the address of another machine.
    let site = format!("http://localhost:{port}");
    let index = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[{{\"mediaType\":\"{}\",\"digest\":\"{DIGEST}\",\"size\":3,\"platform\":{{\"os\":\"linux\",\"architecture\":\"amd64\"}}}}]}}",
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST
    );
    let with = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
    };
    vec![
        with("200 OK", &format!("Content-Type: {}\r\n", media_type::OCI_INDEX), &index),
        with("200 OK", "Link: </v2/a/b/tags/list?n=1&last=x>; rel=\"next\"\r\n", "{\"name\":\"a/b\",\"tags\":[\"x\"]}"),
        with("200 OK", &format!("Docker-Content-Digest: {DIGEST}\r\n"), "foo"),
        with("206 Partial Content", "Content-Range: bytes 1-2/3\r\n", "oo"),
        with("202 Accepted", "Location: /v2/a/b/blobs/uploads/x\r\nRange: 0-2\r\nOCI-Chunk-Min-Length: 1\r\n", ""),
        with("201 Created", &format!("Location: /v2/a/b/blobs/{DIGEST}\r\n"), ""),
        with("307 Temporary Redirect", &format!("Location: {site}/v2/\r\n"), ""),
        with(
            "401 Unauthorized",
            &format!("WWW-Authenticate: Bearer realm=\"{site}/token\",service=\"s\",scope=\"repository:a/b:pull\", Basic realm=\"x\"\r\n"),
            "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"m\",\"detail\":{\"a\":[1]}}]}",
        ),
        with("200 OK", "", "{\"token\":\"t\",\"expires_in\":60,\"issued_at\":\"2026-01-01T00:00:00Z\"}"),
        with("429 Too Many Requests", "Retry-After: 1\r\n", "slow"),
        with("503 Service Unavailable", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", "<html>"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\n\r\n".to_vec(),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nfoo".to_vec(),
    ]
}

/// A client that resolves only `localhost`, does not really sleep, and gives up soon.
fn impatient(nowhere: &std::path::Path) -> Client {
    let (options, _) = options();
    let mut options = ClientOptions { retries: 2, ..options };
    options.timeouts.connect = Duration::from_secs(1);
    options.timeouts.stall = Duration::from_secs(1);
    options.resolver.hosts = nowhere.join("hosts");
    options.resolver.resolv_conf = nowhere.join("resolv.conf");
    options.credentials = Credentials::none().with("localhost", Credential::password("u", "p"));
    Client::new(options)
}

#[test]
fn answers_to_the_client() {
    let nowhere = tempfile::tempdir().expect("a temporary directory");
    // No server listens there.
    std::fs::write(
        nowhere.path().join("resolv.conf"),
        "nameserver [127.0.0.1]:1\noptions timeout:1 attempts:1\n",
    )
    .expect("written");
    let parrot = Parrot::start();
    let store = TempStore::new();
    let reference: Reference = format!("127.0.0.1:{}/a/b:t", parrot.port).parse().expect("valid");
    let by_digest = reference.with_digest(DIGEST.parse().expect("valid"));
    let blob = Descriptor::new("x", DIGEST.parse().expect("valid"), 3);
    let turn = AtomicUsize::new(0);
    try_inputs("answers", &answers(parrot.port), |input| {
        *parrot.answer.lock().expect("not poisoned") = input.to_vec();
        let client = impatient(nowhere.path());
        let session = store.session();
        match turn.fetch_add(1, Ordering::SeqCst) % 9 {
            0 => drop(client.manifest(&reference).map(|fetched| fetched.document(&reference).is_ok())),
            1 => drop(client.head_manifest(&by_digest)),
            2 => drop(client.tags(&reference)),
            3 => drop(client.catalog(reference.registry())),
            4 => {
                if let Ok(mut reader) = client.blob(&reference, &blob, 1) {
                    let mut bytes = Vec::new();
                    let read = reader.read_to_end(&mut bytes);
                    assert!(read.is_err() || bytes.len() == 2, "{} bytes of 2", bytes.len());
                }
            }
            5 => drop(pull(&client, &session, &reference, &PullOptions::platform(platform("linux/amd64")))),
            6 => drop(client.put_manifest(&reference, media_type::OCI_MANIFEST, b"{}")),
            7 => drop(client.put_blob(&reference, &blob, &b"foo".to_vec(), &[])),
            _ => drop(client.referrers(&reference, &blob.digest, None)),
        }
    });
}

#[test]
fn credential_files() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join(".docker/config.json");
    std::fs::create_dir(home.path().join(".docker")).expect("made");
    let seeds = texts(&[
        r#"{"auths":{"h":{"auth":"dTpw"},"https://index.docker.io/v1/":{"identitytoken":"t"},"h/a/b":{"username":"u","password":"p"}},"credHelpers":{"g":"x"},"credsStore":"y","HttpHeaders":{"a":"b"}}"#,
        r#"{"auths":{"h:5000":{"auth":"dTpwOnE="},"[::1]:80":{"auth":""}}}"#,
        r#"{"auths":null}"#,
    ]);
    let environment = Environment { home: Some(home.path().into()), ..Environment::default() };
    try_inputs("credential files", &seeds, |input| {
        std::fs::write(&file, input).expect("written");
        let credentials = Credentials::from_environment(&environment);
        for (registry, repository) in
            [("h", "a/b/c"), ("docker.io", "library/x"), ("g", "y"), ("[::1]:80", "z")]
        {
            let _ = credentials.find(registry, repository);
        }
        let _ = credentials.list();
        if credentials.store("new", &Credential::password("u", "p")).is_ok() {
            credentials.find("new", "x").expect("what is written can be read");
        }
        let _ = credentials.erase("h");
    });
}

#[test]
fn host_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("registries.conf");
    let seeds = texts(&[
        "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"enforcing\"\n[[registry]]\nprefix = \"*.example.com\"\nlocation = \"mirror/x\"\ninsecure = true\nblocked = false\n[[registry.mirror]]\nlocation = \"m:5000/y\"\npull-from-mirror = \"digest-only\"\n",
        "[[registry]]\nlocation = \"docker.io\"\nmirror-by-digest-only = true\n[aliases]\n\"a\" = \"b/c\"\n",
    ]);
    let paths = HostPaths { registries_conf: vec![file.clone()], ..HostPaths::default() };
    try_inputs("host files", &seeds, |input| {
        std::fs::write(&file, input).expect("written");
        let Ok(hosts) = Hosts::read(&paths) else { return };
        for registry in ["docker.io", "a.example.com", "localhost:5000", "[::1]"] {
            let _ = (hosts.endpoints(registry, "a/b", true), hosts.endpoints(registry, "a/b", false));
            let _ = hosts.certificates(registry);
        }
    });
}
