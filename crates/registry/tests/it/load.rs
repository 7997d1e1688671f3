//! Clients that stop in the middle, many at once, and uploads that nobody finishes.

use std::time::{Duration, Instant};

use crossdock_registry::server::ServerOptions;

use crate::raw::{Wire, ask, push_blob};
use crate::support::*;

/// Number of clients: more than all threads of the server.
const CLIENTS: usize = 600;

/// Longest time that a healthy server takes to answer.
const SOON: Duration = Duration::from_secs(5);

fn options_with(stall: Duration) -> ServerOptions {
    ServerOptions { stall, ..ServerOptions::default() }
}

/// A server with a small manifest and a large blob, and the blob's path.
fn loaded(options: ServerOptions) -> (Site, String) {
    let site = Site::with(options, |_, _| None);
    push_small(&client(), &site.reference("a:v"));
    let digest = push_blob(&site.host(), "a", &noise(1, 8 << 20));
    (site, format!("/v2/a/blobs/{digest}"))
}

/// A client that sends a request and reads nothing.
fn deaf(host: &str, path: &str) -> Wire {
    let mut wire = Wire::connect(host);
    wire.head(&format!("GET {path}"), &[]);
    wire
}

/// A client that has begun an upload and sent half of it.
fn mute(host: &str) -> Wire {
    let begun = ask(host, "POST /v2/a/blobs/uploads/", &[], b"");
    let mut wire = Wire::connect(host);
    wire.head(&format!("PATCH {}", begun.header("location")), &[("content-length", "20000")]);
    wire.send(&noise(2, 10_000));
    wire
}

#[test]
fn clients_that_stop_reading_stop_nobody() {
    let (site, blob) = loaded(ServerOptions::default());
    let _deaf: Vec<Wire> = (0..CLIENTS).map(|_| deaf(&site.host(), &blob)).collect();
    let began = Instant::now();
    assert_eq!(ask(&site.host(), "GET /v2/a/manifests/v", &[], b"").status, 200);
    assert_eq!(ask(&site.host(), &format!("GET {blob}"), &[], b"").body.len(), 8 << 20);
    push_blob(&site.host(), "b", &noise(3, 100_000));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn clients_that_stop_sending_stop_nobody_and_lose_nothing() {
    let (site, _) = loaded(ServerOptions::default());
    let mut mute: Vec<Wire> = (0..CLIENTS).map(|_| mute(&site.host())).collect();
    let began = Instant::now();
    assert_eq!(ask(&site.host(), "GET /v2/a/manifests/v", &[], b"").status, 200);
    push_blob(&site.host(), "b", &noise(3, 100_000));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // Each upload goes on where it stopped.
    let rest = noise(2, 20_000)[10_000..].to_vec();
    for wire in mute.iter_mut().step_by(50) {
        wire.send(&rest);
        let answer = wire.answer(false);
        assert_eq!((answer.status, answer.header("range").as_str()), (202, "0-19999"));
    }
}

#[test]
fn clients_that_read_too_slowly_are_given_up() {
    let options = ServerOptions { connections_per_address: Some(1), ..options_with(Duration::from_secs(1)) };
    let site = Site::with(options, |_, _| None);
    let digest = push_blob(&site.host(), "a", &noise(1, 16 << 20));
    let line = format!("/v2/a/blobs/{digest}");
    // The previous connection may still be counted.
    let wait_for = |line: &str| {
        let began = Instant::now();
        while ask(&site.host(), line, &[], b"").status == 429 {
            assert!(began.elapsed() < SOON, "{line}");
            std::thread::yield_now();
        }
    };
    wait_for("GET /v2/");
    let mut deaf = loop {
        let mut wire = deaf(&site.host(), &line);
        if wire.peek_status() == 200 {
            break wire;
        }
    };
    assert_eq!(ask(&site.host(), "GET /v2/", &[], b"").status, 429);
    wait_for("GET /v2/");
    // The bytes in the kernel still arrive, but not the whole blob.
    let got = deaf.read_to_end();
    assert!((1..16 << 20).contains(&got), "{got} bytes came");
}

#[test]
fn clients_that_send_too_slowly_are_given_up() {
    let (site, _) = loaded(options_with(Duration::from_secs(1)));
    let mut mute = mute(&site.host());
    // A byte now and then is also too slow.
    let location = ask(&site.host(), "POST /v2/a/blobs/uploads/", &[], b"").header("location");
    let mut drip = Wire::connect(&site.host());
    drip.head(&format!("PATCH {location}"), &[("content-length", "5000000")]);
    drip.send(b"x");
    let began = Instant::now();
    std::thread::scope(|scope| {
        // The state of an upload is reported only when no request holds the upload any more.
        let asked = scope.spawn(|| ask(&site.host(), &format!("GET {location}"), &[], b"").status);
        while !asked.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
            drip.try_send(b"x");
        }
        assert_eq!(asked.join().expect("answered"), 204);
    });
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(mute.is_closed());
}

#[test]
fn an_address_has_a_limit_of_connections() {
    let options = ServerOptions { connections_per_address: Some(3), ..ServerOptions::default() };
    let site = Site::with(options, |_, _| None);
    let mut three: Vec<Wire> = (0..3).map(|_| Wire::connect(&site.host())).collect();
    for wire in &mut three {
        wire.head("GET /v2/", &[]);
        assert_eq!(wire.answer(false).status, 200);
    }
    let refused = ask(&site.host(), "GET /v2/", &[], b"");
    assert_eq!((refused.status, refused.header("connection").as_str()), (429, "close"));
    assert!(refused.text().contains("more than 3 connections from one address"), "{}", refused.text());
    drop(three);
    let began = Instant::now();
    while ask(&site.host(), "GET /v2/", &[], b"").status == 429 {
        assert!(began.elapsed() < SOON);
        std::thread::yield_now();
    }
}

#[test]
fn aborted_uploads_are_over_at_once() {
    let (site, _) = loaded(ServerOptions::default());
    let began = Instant::now();
    let aborted: Vec<Wire> = (0..CLIENTS).map(|_| mute(&site.host())).collect();
    drop(aborted);
    assert_eq!(ask(&site.host(), "GET /v2/", &[], b"").status, 200);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn abandoned_uploads_are_dropped_while_serving() {
    let options = ServerOptions { upload_expiry: Duration::from_millis(500), ..ServerOptions::default() };
    let site = Site::with(options, |_, _| None);
    let location = ask(&site.host(), "POST /v2/a/blobs/uploads/", &[], b"").header("location");
    let uploads = site.directory.path().join("repositories/a/_uploads");
    assert_eq!(std::fs::read_dir(&uploads).expect("there").count(), 1);
    let began = Instant::now();
    while std::fs::read_dir(&uploads).expect("there").count() > 0 {
        assert!(began.elapsed() < SOON, "the upload is still there");
        std::thread::yield_now();
    }
    assert_eq!(ask(&site.host(), &format!("GET {location}"), &[], b"").status, 404);
}

#[test]
fn large_manifests_of_slow_clients_do_not_add_up() {
    let (site, _) = loaded(options_with(Duration::from_secs(2)));
    let half = vec![b' '; 1 << 20];
    let mut slow: Vec<Wire> = (0..20)
        .map(|_| {
            let mut wire = Wire::connect(&site.host());
            wire.head("PUT /v2/a/manifests/big", &[("content-length", "4000000")]);
            wire
        })
        .collect();
    std::thread::scope(|scope| {
        for wire in &mut slow {
            // The server does not read from clients that wait for a place, so the kernel's buffers fill.
            scope.spawn(|| wire.send(&half[..64 << 10]));
        }
    });
    // Other clients are served once the slow ones are given up.
    push_small(&client(), &site.reference("a:small"));
    assert!(slow.iter_mut().all(Wire::is_closed));
}
