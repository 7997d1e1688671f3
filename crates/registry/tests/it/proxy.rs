//! A registry that is a cache of another one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossdock_oci::Digest;
use crossdock_registry::server::faults::Fault;
use crossdock_registry::server::{ProxyOptions, RegistryServer, ServerOptions};
use crossdock_registry::transfer::{PullOptions, PushOptions, pull, push};
use crossdock_registry::{Client, ClientOptions};

use crate::raw::{ask, push_blob};
use crate::support::*;

/// A cache of a site. Its client does not really sleep, and never retries.
fn cache_of(site: &Site) -> Site {
    let client = Client::new(ClientOptions { retries: 0, ..options().0 });
    let proxy = ProxyOptions { client, registry: site.host(), max: None };
    Site::with(ServerOptions { proxy: Some(proxy), ..ServerOptions::default() }, |_, _| None)
}

#[test]
fn images_come_through_and_stay() {
    let origin = Site::new();
    let (_here, store_here) = store();
    let top = index(&store_here, &["linux/amd64", "linux/arm64"]);
    push(&client(), &store_here, &origin.reference("team/app:1"), &top, &PushOptions::default())
        .expect("pushed");
    let cache = cache_of(&origin);
    let pulled = |cache: &Site| {
        let (directory, there) = store();
        pull(&client(), &there, &cache.reference("team/app:1"), &PullOptions::all()).expect("pulled");
        validate(&there, &top);
        drop(directory);
    };
    pulled(&cache);
    let blobs = origin.count("GET", "/blobs/");
    let manifests = origin.count("GET", "/manifests/");
    assert!(blobs > 0);
    pulled(&cache);
    assert_eq!((origin.count("GET", "/blobs/"), origin.count("GET", "/manifests/")), (blobs, manifests));
    // The cache asks for tags each time, since tags move.
    assert!(origin.count("HEAD", "/manifests/1") > 0);
    push_small(&client(), &origin.reference("team/app:1"));
    let moved = client().manifest(&cache.reference("team/app:1")).expect("there");
    assert_ne!(moved.digest, top.digest);
    assert_eq!(client().tags(&cache.reference("team/app")).expect("lists"), ["1"]);
    // Clients cannot change anything through the cache.
    let refused = ask(&cache.host(), "POST /v2/team/app/blobs/uploads/", &[], b"");
    assert!(refused.status == 405 && refused.text().contains("cache of another"), "{}", refused.text());
    let absent = ask(&cache.host(), "GET /v2/team/app/manifests/none", &[], b"");
    assert_eq!(absent.status, 404);
    let metrics = ask(&cache.host(), "GET /metrics", &[], b"").text();
    assert!(
        metrics.lines().any(|l| l.starts_with("crossdock_registry_cache_hits_total ") && !l.ends_with(" 0")),
        "{metrics}"
    );
}

#[test]
fn what_was_fetched_is_served_while_the_other_registry_is_away() {
    let away = Arc::new(AtomicBool::new(false));
    let now = away.clone();
    let origin = Site::faulty(move |_, _| now.load(Ordering::Relaxed).then(|| Fault::status(503, "away")));
    push_small(&client(), &origin.reference("a:1"));
    let cache = cache_of(&origin);
    let before = client().manifest(&cache.reference("a:1")).expect("fetched");
    away.store(true, Ordering::Relaxed);
    let get = |path: &str| ask(&cache.host(), &format!("GET /v2/a/{path}"), &[], b"");
    assert_eq!(get("manifests/1").body, before.bytes);
    assert_eq!(get("tags/list").json()["tags"], serde_json::json!(["1"]));
    let other = get("manifests/2");
    assert!(other.status == 502 && other.text().contains(&origin.host()), "{}", other.text());
}

#[test]
fn blobs_are_passed_on_while_they_come_and_fetched_once() {
    let origin = Site::new();
    let bytes = noise(1, 12 << 20);
    let digest = push_blob(&origin.host(), "a", &bytes);
    let cache = cache_of(&origin);
    let line = format!("GET /v2/a/blobs/{digest}");
    assert_eq!(
        ask(&cache.host(), &line.replace("GET", "HEAD"), &[], b"").header("content-length"),
        "12582912"
    );
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (cache, line, bytes) = (&cache, &line, &bytes);
            scope.spawn(move || {
                if reader % 2 == 0 {
                    assert!(ask(&cache.host(), line, &[], b"").body == *bytes);
                } else {
                    let part = ask(&cache.host(), line, &[("range", "bytes=12000000-12000009")], b"");
                    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[12_000_000..12_000_010]));
                }
            });
        }
    });
    assert_eq!(origin.count("GET", "/blobs/"), 1);
    assert_eq!(ask(&cache.host(), "GET /v2/a/blobs/sha256:x", &[], b"").status, 400);
    let absent = ask(&cache.host(), &format!("GET /v2/a/blobs/{}", Digest::of(b"none")), &[], b"");
    assert_eq!(absent.status, 404);
}

#[test]
fn what_is_damaged_on_the_way_is_neither_given_whole_nor_kept() {
    let origin = Site::faulty(|seen, _| {
        (seen.method == "GET" && seen.path.contains("/blobs/")).then_some(Fault::Corrupt)
    });
    let bytes = noise(1, 500_000);
    let digest = push_blob(&origin.host(), "a", &bytes);
    let cache = cache_of(&origin);
    let mut wire = crate::raw::Wire::connect(&cache.host());
    wire.head(&format!("GET /v2/a/blobs/{digest}"), &[("connection", "close")]);
    assert_eq!(wire.peek_status(), 200);
    let rest = wire.rest();
    let head = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    assert!(rest.len() - head < 500_000, "all of it came");
    assert!(!cache.directory.path().join("blobs/sha256").join(digest.hex()).exists());
    let uploads = cache.directory.path().join("repositories/a/_uploads");
    assert_eq!(std::fs::read_dir(uploads).expect("there").count(), 0);
}

/// A bounded cache of a site.
fn bounded_cache_of(site: &Site, max: u64) -> Site {
    let client = Client::new(ClientOptions { retries: 0, ..options().0 });
    let proxy = ProxyOptions { client, registry: site.host(), max: Some(max) };
    Site::with(ServerOptions { proxy: Some(proxy), ..ServerOptions::default() }, |_, _| None)
}

fn content(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm()).join(digest.hex())
}

/// Sets the time of the last use to some minutes ago.
fn age(directory: &Path, digest: &Digest, minutes: u64) {
    let file = File::options().append(true).open(content(directory, digest)).expect("it is kept");
    file.set_modified(SystemTime::now() - Duration::from_secs(60 * minutes)).expect("set");
}

/// Number of bytes that a cache keeps.
fn kept(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory.join("blobs/sha256")).expect("a directory");
    // A file may be removed during the count.
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

/// Waits until a condition holds.
fn wait_until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_cache_drops_what_was_used_least_recently() {
    let origin = Site::new();
    let blobs: Vec<Digest> =
        (0..5).map(|seed| push_blob(&origin.host(), "a", &noise(seed + 1, 100_000))).collect();
    let cache = bounded_cache_of(&origin, 350_000);
    let directory = cache.directory.path();
    let get = |number: usize| {
        let line = format!("GET /v2/a/blobs/{}", blobs[number]);
        assert!(ask(&cache.host(), &line, &[], b"").body == noise(number as u64 + 1, 100_000));
        assert!(kept(directory) <= 350_000, "{} bytes are kept", kept(directory));
    };
    let is_kept = |number: usize| content(directory, &blobs[number]).exists();
    for (number, minutes) in [(0, 30), (1, 20), (2, 10)] {
        get(number);
        age(directory, &blobs[number], minutes);
    }
    // The first one is used again, so the second one is the oldest.
    get(0);
    get(3);
    assert_eq!([0, 1, 2, 3].map(is_kept), [true, false, true, true]);
    age(directory, &blobs[3], 5);
    get(4);
    assert_eq!([0, 1, 2, 3, 4].map(is_kept), [true, false, false, true, true]);
    let before = origin.count("GET", "/blobs/");
    get(1);
    assert_eq!(origin.count("GET", "/blobs/"), before + 1);
    let metrics = ask(&cache.host(), "GET /metrics", &[], b"").text();
    assert!(metrics.contains("crossdock_registry_cache_evictions_total 3\n"), "{metrics}");
}

#[test]
fn manifests_go_with_the_blobs_that_they_need() {
    let away = Arc::new(AtomicBool::new(false));
    let now = away.clone();
    let origin = Site::faulty(move |_, _| now.load(Ordering::Relaxed).then(|| Fault::status(503, "away")));
    let (_here, store_here) = store();
    let top = index(&store_here, &["linux/amd64"]);
    push(&client(), &store_here, &origin.reference("app:1"), &top, &PushOptions::default()).expect("pushed");
    let large = push_blob(&origin.host(), "app", &noise(1, 100_000));
    // The image has 42 kB.
    let cache = bounded_cache_of(&origin, 130_000);
    let directory = cache.directory.path();
    let pulled = || {
        let (_directory, there) = store();
        pull(&client(), &there, &cache.reference("app:1"), &PullOptions::all())
    };
    pulled().expect("pulled");
    let manifests = directory.join("repositories/app/_manifests/sha256");
    let links = || std::fs::read_dir(&manifests).expect("a directory").count();
    assert_eq!(links(), 2);
    // Everything except the manifests is old.
    let name = cache.reference("app:1");
    let document = client().manifest(&name).expect("an index").document(&name).expect("parses");
    let image: Digest = document.children()[0].digest.clone();
    for name in std::fs::read_dir(directory.join("blobs/sha256")).expect("a directory").flatten() {
        let digest: Digest =
            format!("sha256:{}", name.file_name().to_string_lossy()).parse().expect("a digest");
        if digest != image && digest != top.digest {
            age(directory, &digest, 10);
        }
    }
    assert!(ask(&cache.host(), &format!("GET /v2/app/blobs/{large}"), &[], b"").status == 200);
    assert!(!content(directory, &image).exists(), "its layers went");
    assert_eq!(links(), 1, "the index stays");
    // The image is not offered while its layers cannot be fetched.
    away.store(true, Ordering::Relaxed);
    let refused = ask(&cache.host(), &format!("GET /v2/app/manifests/{image}"), &[], b"");
    assert_eq!(refused.status, 502, "{}", refused.text());
    away.store(false, Ordering::Relaxed);
    pulled().expect("pulled again");
    assert!(kept(directory) <= 130_000);
}

#[test]
fn a_blob_that_is_evicted_while_it_is_sent_arrives_whole() {
    let origin = Site::new();
    let bytes = noise(1, 8 << 20);
    let digest = push_blob(&origin.host(), "a", &bytes);
    let other = push_blob(&origin.host(), "a", &noise(2, 6 << 20));
    let cache = bounded_cache_of(&origin, 10 << 20);
    let directory = cache.directory.path();
    let line = format!("GET /v2/a/blobs/{digest}");
    assert!(ask(&cache.host(), &line, &[], b"").body == bytes);
    age(directory, &digest, 10);
    // More than the kernel takes for a client that does not read: the rest comes from the file.
    let mut wire = crate::raw::Wire::connect(&cache.host());
    wire.head(&line, &[("connection", "close")]);
    assert_eq!(wire.peek_status(), 200);
    age(directory, &digest, 10);
    assert_eq!(ask(&cache.host(), &format!("GET /v2/a/blobs/{other}"), &[], b"").status, 200);
    assert!(!content(directory, &digest).exists());
    let rest = wire.rest();
    let head = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    assert!(rest[head..] == bytes[..], "{} of {} bytes", rest.len() - head, bytes.len());
}

#[test]
fn what_is_larger_than_the_cache_is_passed_on_only() {
    let origin = Site::new();
    let small = push_blob(&origin.host(), "a", b"small");
    let bytes = noise(1, 500_000);
    let digest = push_blob(&origin.host(), "a", &bytes);
    let cache = bounded_cache_of(&origin, 100_000);
    let directory = cache.directory.path();
    assert_eq!(ask(&cache.host(), &format!("GET /v2/a/blobs/{small}"), &[], b"").text(), "small");
    for _ in 0..2 {
        assert!(ask(&cache.host(), &format!("GET /v2/a/blobs/{digest}"), &[], b"").body == bytes);
        assert!(content(directory, &small).exists() && !content(directory, &digest).exists());
        let uploads = directory.join("repositories/a/_uploads");
        wait_until("nothing is left", || std::fs::read_dir(&uploads).expect("there").count() == 0);
    }
}

#[test]
fn a_cache_that_starts_anew_knows_the_order_and_the_bound() {
    let origin = Site::new();
    let blobs: Vec<Digest> =
        (0..4).map(|seed| push_blob(&origin.host(), "a", &noise(seed + 1, 100_000))).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let serve = |max| {
        let client = Client::new(ClientOptions { retries: 0, ..options().0 });
        let proxy = ProxyOptions { client, registry: origin.host(), max };
        let options = ServerOptions { proxy: Some(proxy), sync: false, ..ServerOptions::default() };
        RegistryServer::bind("127.0.0.1:0", directory.path(), options).expect("a free port")
    };
    let server = serve(None);
    for (number, digest) in blobs.iter().enumerate() {
        let line = format!("GET /v2/a/blobs/{digest}");
        assert_eq!(ask(&server.addr().to_string(), &line, &[], b"").status, 200);
        age(directory.path(), digest, [40, 10, 30, 20][number]);
    }
    drop(server);
    assert_eq!(kept(directory.path()), 400_000);
    // One fetch was cut when its server was killed; the other belongs to a process that still runs.
    let uploads = directory.path().join("repositories/a/_uploads");
    let [cut, running] = [1, 2].map(|number| uploads.join(format!("{number:032x}")));
    std::fs::write(&cut, [0; 1000]).expect("written");
    let locked = File::create(&running).expect("made");
    locked.lock().expect("locked");
    let _server = serve(Some(250_000));
    assert!(!cut.exists() && running.exists());
    wait_until("it shrinks", || kept(directory.path()) <= 250_000);
    let left: Vec<bool> = blobs.iter().map(|digest| content(directory.path(), digest).exists()).collect();
    assert_eq!(left, [false, true, false, true]);
}
