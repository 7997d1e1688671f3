//! A registry that is a cache of another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_oci::Digest;
use crossdock_registry::server::faults::Fault;
use crossdock_registry::server::{ProxyOptions, ServerOptions};
use crossdock_registry::transfer::{PullOptions, PushOptions, pull, push};
use crossdock_registry::{Client, ClientOptions};

use crate::raw::{ask, push_blob};
use crate::support::*;

/// A cache of a site. Its client waits in no time and tries nothing twice.
fn cache_of(site: &Site) -> Site {
    let client = Client::new(ClientOptions { retries: 0, ..options().0 });
    let proxy = ProxyOptions { client, registry: site.host() };
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
    // Tags are asked for, since they move.
    assert!(origin.count("HEAD", "/manifests/1") > 0);
    push_small(&client(), &origin.reference("team/app:1"));
    let moved = client().manifest(&cache.reference("team/app:1")).expect("there");
    assert_ne!(moved.digest, top.digest);
    assert_eq!(client().tags(&cache.reference("team/app")).expect("lists"), ["1"]);
    // Nothing is changed through it.
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
