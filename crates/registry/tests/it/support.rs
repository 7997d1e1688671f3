//! Servers, clients and tiny images.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossdock_oci::manifest::{Descriptor, Index, Manifest};
use crossdock_oci::validate::Missing;
use crossdock_oci::{Digest, ImageConfig, Reference, Store, media_type};
use crossdock_platform::Platform;
use crossdock_registry::client::Clock;
use crossdock_registry::server::faults::{Fault, Hook, Seen};
use crossdock_registry::server::{RegistryServer, ServerOptions};
use crossdock_registry::{Client, ClientOptions, Outcome, Progress};
use tempfile::TempDir;

/// A clock that does not really sleep.
#[derive(Default)]
pub struct FastClock {
    slept: Mutex<Vec<Duration>>,
}

impl FastClock {
    pub fn slept(&self) -> Vec<Duration> {
        self.slept.lock().expect("not poisoned").clone()
    }
}

impl Clock for FastClock {
    fn now(&self) -> Instant {
        Instant::now() + self.slept().iter().sum::<Duration>()
    }

    fn sleep(&self, duration: Duration) {
        self.slept.lock().expect("not poisoned").push(duration);
    }
}

/// Records progress reports.
#[derive(Default)]
pub struct Heard {
    pub done: Mutex<Vec<(String, Outcome)>>,
    pub position: Mutex<u64>,
}

impl Progress for Heard {
    fn start(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: &str, position: u64) {
        *self.position.lock().expect("not poisoned") = position;
    }
    fn done(&self, id: &str, outcome: Outcome) {
        self.done.lock().expect("not poisoned").push((id.to_string(), outcome));
    }
}

/// A server in a temporary directory, and all requests that it saw.
pub struct Site {
    pub server: RegistryServer,
    pub directory: TempDir,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Site {
    pub fn new() -> Site {
        Site::with(ServerOptions::default(), |_, _| None)
    }

    /// A server whose hook also gets the number of earlier requests that it spoiled.
    pub fn faulty(hook: impl Fn(&Seen, usize) -> Option<Fault> + Send + Sync + 'static) -> Site {
        Site::with(ServerOptions::default(), hook)
    }

    pub fn with(
        options: ServerOptions,
        hook: impl Fn(&Seen, usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Site {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = seen.clone();
        let spoiled = Mutex::new(0);
        let hook: Hook = Arc::new(move |request| {
            log.lock().expect("not poisoned").push(request.clone());
            let mut spoiled = spoiled.lock().expect("not poisoned");
            let fault = hook(request, *spoiled);
            *spoiled += usize::from(fault.is_some());
            fault
        });
        let options = ServerOptions { faults: Some(hook), sync: false, ..options };
        let server = RegistryServer::bind("127.0.0.1:0", directory.path(), options).expect("a free port");
        Site { server, directory, seen }
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> String {
        self.server.addr().to_string()
    }

    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host()).parse().expect("a good reference")
    }

    /// Number of requests with a method whose path contains a text.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let seen = self.seen.lock().expect("not poisoned");
        seen.iter().filter(|s| s.method == method && s.path.contains(path)).count()
    }
}

/// Options with a clock that does not really sleep.
pub fn options() -> (ClientOptions, Arc<FastClock>) {
    let clock = Arc::new(FastClock::default());
    (ClientOptions { clock: clock.clone(), ..ClientOptions::default() }, clock)
}

pub fn client() -> Client {
    Client::new(options().0)
}

/// Bytes that do not repeat: a simple generator seeded by `seed`.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::of("application/octet-stream", bytes)
}

pub fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

pub fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&directory.path().join("store")).expect("a new store");
    (directory, store)
}

/// A gzipped archive with one file of noise.
pub fn layer(seed: u64, size: usize) -> (Vec<u8>, Digest) {
    let mut archive = tar::Builder::new(Vec::new());
    let content = noise(seed, size);
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, format!("file{seed}"), content.as_slice()).expect("written to memory");
    let archive = archive.into_inner().expect("written to memory");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).expect("written to memory");
    (gzip.finish().expect("written to memory"), Digest::of(&archive))
}

/// Puts an image with `layers` layers into a store.
pub fn image(store: &Store, platform: &Platform, seeds: &[u64]) -> Descriptor {
    let mut config = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    let mut layers = Vec::new();
    for seed in seeds {
        let (bytes, diff_id) = layer(*seed, 20_000);
        config.rootfs.diff_ids.push(diff_id);
        let digest = store.write_blob(&bytes).expect("stored");
        layers.push(Descriptor::new(media_type::OCI_LAYER_GZIP, digest, bytes.len() as u64));
    }
    let bytes = config.to_bytes();
    store.write_blob(&bytes).expect("stored");
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_string()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, &bytes),
        layers,
        subject: None,
        annotations: Default::default(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("serialises");
    store.write_blob(&bytes).expect("stored");
    Descriptor::of(media_type::OCI_MANIFEST, &bytes).with_platform(platform.clone())
}

/// Puts an index of one image per platform into a store; the first layer is shared.
pub fn index(store: &Store, platforms: &[&str]) -> Descriptor {
    let images = platforms
        .iter()
        .enumerate()
        .map(|(number, text)| image(store, &platform(text), &[1000, 2000 + number as u64]))
        .collect();
    let bytes = serde_json::to_vec(&Index::new(images)).expect("serialises");
    store.write_blob(&bytes).expect("stored");
    Descriptor::of(media_type::OCI_INDEX, &bytes)
}

/// Checks that an image or index is complete and holds together; returns the numbers of images and of
/// different layers.
pub fn validate(store: &Store, top: &Descriptor) -> (usize, usize) {
    let validated = store.validate(top, Missing::Refuse).expect("valid");
    (validated.images, validated.layers)
}

/// A manifest of one blob, pushed with it; the smallest thing that a repository can hold.
pub fn push_small(client: &Client, reference: &Reference) -> Digest {
    let config = b"{}".to_vec();
    client.put_blob(reference, &blob(&config), &config, &[]).expect("pushed");
    let manifest = small_manifest(None, "application/x.small");
    client.put_manifest(reference, media_type::OCI_MANIFEST, &manifest).expect("pushed")
}

/// The bytes of a manifest without layers.
pub fn small_manifest(subject: Option<Descriptor>, kind: &str) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_string()),
        artifact_type: Some(kind.to_string()),
        config: Descriptor::of(media_type::OCI_EMPTY, b"{}"),
        layers: Vec::new(),
        subject,
        annotations: Default::default(),
    };
    serde_json::to_vec(&manifest).expect("serialises")
}

/// Fails if the program is missing, and says what to install.
pub fn require_program(name: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).any(|directory: std::path::PathBuf| directory.join(name).exists());
    assert!(found, "{name} is missing: apt-get install docker-registry skopeo");
}

/// Writes an executable script.
pub fn script(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    // Written by another process, so that no fork of a parallel test holds the file open for writing
    // (ETXTBSY).
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&temporary)
        .expect("a new file");
    file.write_all(text.as_bytes()).expect("written");
    drop(file);
    let copied =
        std::process::Command::new("cp").arg("-p").arg(&temporary).arg(path).status().expect("cp runs");
    assert!(copied.success());
}
