//! Needs of an operator: health, metrics, the access log, garbage collection.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossdock_oci::manifest::Index;
use crossdock_oci::{Digest, media_type};
use crossdock_registry::Secret;
use crossdock_registry::server::{
    AuthOptions, Collected, GarbageOptions, LogOutput, ServerOptions, collect_garbage,
};

use crate::raw::{ask, push_blob};
use crate::support::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Waits for a number of lines.
    fn wait(&self, number: usize) -> Vec<String> {
        wait_for_lines(number, || self.0.lock().expect("not poisoned").clone())
    }
}

/// Waits until a growing text has a number of lines.
fn wait_for_lines(number: usize, text: impl Fn() -> Vec<u8>) -> Vec<String> {
    let began = Instant::now();
    loop {
        let text = String::from_utf8(text()).expect("text");
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        if lines.len() >= number {
            return lines;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{lines:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_log_goes_on_after_it_was_rotated() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("access.log");
    let old = directory.path().join("access.log.1");
    let options = ServerOptions {
        access_log: Some(LogOutput::file(&path).expect("opened")),
        ..ServerOptions::default()
    };
    let site = Site::with(options, |_, _| None);
    let get = |name: &str| {
        assert_eq!(ask(&site.host(), &format!("GET /v2/{name}/tags/list"), &[], b"").status, 404)
    };
    let lines =
        |path: &Path, number: usize| wait_for_lines(number, || std::fs::read(path).unwrap_or_default());
    get("first");
    lines(&path, 1);
    // As logrotate does: the file is renamed, and the server is not told.
    std::fs::rename(&path, &old).expect("renamed");
    get("second");
    let now = lines(&path, 1);
    assert!(now.len() == 1 && now[0].contains("/second/"), "{now:?}");
    assert_eq!(lines(&old, 1).len(), 1);
    // The same, with a new file that is created at once.
    std::fs::rename(&path, &old).expect("renamed");
    std::fs::write(&path, b"").expect("made");
    get("third");
    assert!(lines(&path, 1)[0].contains("/third/"));
    // "copytruncate": the next line is written at the file's new end, not behind a hole.
    std::fs::copy(&path, &old).expect("copied");
    File::options().write(true).truncate(true).open(&path).expect("truncated");
    get("fourth");
    let now = lines(&path, 1);
    assert!(now[0].starts_with("127.0.0.1 ") && now[0].contains("/fourth/"), "{now:?}");
    // No request fails while the directory is gone.
    let away = directory.path().with_extension("away");
    std::fs::rename(directory.path(), &away).expect("renamed");
    get("fifth");
    lines(&away.join("access.log"), 2);
    std::fs::rename(&away, directory.path()).expect("renamed back");
    get("sixth");
    assert_eq!(lines(&path, 3).len(), 3);
}

#[test]
fn requests_are_logged_without_secrets() {
    let lines = Lines::default();
    let users = [("alice".to_string(), Secret::new("s3cret-word"))].into();
    let options = ServerOptions {
        auth: AuthOptions::Basic(users),
        access_log: Some(LogOutput::new(lines.clone())),
        ..ServerOptions::default()
    };
    let site = Site::with(options, |_, _| None);
    let alice = ("authorization", "Basic YWxpY2U6czNjcmV0LXdvcmQ=");
    let digest = Digest::of(b"hello");
    let push = format!("POST /v2/a/blobs/uploads/?digest={digest}&password=s3cret-word");
    assert_eq!(ask(&site.host(), &push, &[alice, ("user-agent", "test/1 \"x\"")], b"hello").status, 201);
    let get = format!("GET /v2/a/blobs/{digest}");
    assert_eq!(ask(&site.host(), &get, &[alice], b"").text(), "hello");
    assert_eq!(
        ask(&site.host(), &get, &[("authorization", "Basic YWxpY2U6d3Jvbmctd29yZA==")], b"").status,
        401
    );
    let lines = lines.wait(3);
    let all = lines.concat();
    assert!(!all.contains("s3cret-word") && !all.contains("YWxpY2U6"), "{all}");
    assert!(lines[0].starts_with("127.0.0.1 - alice ["), "{}", lines[0]);
    assert!(
        lines[0].contains("\"POST /v2/a/blobs/uploads/ HTTP/1.1\" 201 0 \"-\" \"test/1 \\\"x\\\"\" "),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains(&format!("\"{get} HTTP/1.1\" 200 5 ")), "{}", lines[1]);
    assert!(lines[2].starts_with("127.0.0.1 - - [") && lines[2].contains(" 401 "), "{}", lines[2]);
}

#[test]
fn health_and_figures() {
    let site = Site::new();
    assert_eq!(ask(&site.host(), "GET /healthz", &[], b"").json()["status"], "ok");
    let digest = push_blob(&site.host(), "a", b"hello");
    ask(&site.host(), &format!("GET /v2/a/blobs/{digest}"), &[], b"");
    ask(&site.host(), "GET /v2/a/manifests/nothing", &[], b"");
    let metrics = ask(&site.host(), "GET /metrics", &[], b"");
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    for line in [
        "crossdock_registry_requests_total{method=\"GET\",endpoint=\"blob\",status=\"200\"} 1",
        "crossdock_registry_requests_total{method=\"GET\",endpoint=\"manifest\",status=\"404\"} 1",
        "crossdock_registry_requests_total{method=\"POST\",endpoint=\"upload\",status=\"201\"} 1",
        "crossdock_registry_bytes_received_total 5",
        "crossdock_registry_requests_in_flight 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    // A server without its directory is not healthy.
    std::fs::remove_file(site.directory.path().join("version")).expect("removed");
    let sick = ask(&site.host(), "GET /healthz", &[], b"");
    assert_eq!((sick.status, sick.json()["status"].as_str()), (503, Some("failing")));
}

#[test]
fn figures_are_for_users_and_health_is_for_all() {
    let auth = AuthOptions::Basic([("alice".to_string(), Secret::new("x"))].into());
    let site = Site::with(ServerOptions { auth, ..ServerOptions::default() }, |_, _| None);
    assert_eq!(ask(&site.host(), "GET /healthz", &[], b"").status, 200);
    assert_eq!(ask(&site.host(), "GET /metrics", &[], b"").status, 401);
    assert_eq!(
        ask(&site.host(), "GET /metrics", &[("authorization", "Basic YWxpY2U6eA==")], b"").status,
        200
    );
}

fn collect(directory: &Path, dry_run: bool, untagged: bool) -> Collected {
    let options = GarbageOptions { grace: Duration::ZERO, dry_run, untagged };
    collect_garbage(directory, &options).expect("collected")
}

#[test]
fn what_no_tag_leads_to_goes_if_that_is_wished() {
    let (site, client) = (Site::new(), client());
    let directory = site.directory.path();
    let put = |name: &str, media_type: &str, bytes: &[u8]| {
        client.put_manifest(&site.reference(name), media_type, bytes).expect("pushed")
    };
    push_blob(&site.host(), "a", b"{}");
    let [in_index, alone, signed] =
        ["x/in-index", "x/alone", "x/signed"].map(|kind| small_manifest(None, kind));
    for bytes in [&in_index, &alone] {
        put(&format!("a@{}", Digest::of(bytes)), media_type::OCI_MANIFEST, bytes);
    }
    put("a:signed", media_type::OCI_MANIFEST, &signed);
    let of = |bytes: &[u8]| crossdock_oci::manifest::Descriptor::of(media_type::OCI_MANIFEST, bytes);
    put("a:index", media_type::OCI_INDEX, &Index::new(vec![of(&in_index)]).to_bytes());
    let signature = small_manifest(Some(of(&signed)), "x/signature");
    let orphan = small_manifest(Some(of(b"gone")), "x/orphan");
    for bytes in [&signature, &orphan] {
        put(&format!("a@{}", Digest::of(bytes)), media_type::OCI_MANIFEST, bytes);
    }
    // By default a collection spares everything that can be pulled by digest.
    assert_eq!(collect(directory, false, false), Collected::default());
    let dry = collect(directory, true, true);
    let real = collect(directory, false, true);
    assert_eq!((dry, real.manifests, real.blobs), (real, 2, 2));
    for (bytes, there) in
        [(&in_index, true), (&signed, true), (&signature, true), (&alone, false), (&orphan, false)]
    {
        let found =
            client.head_manifest(&site.reference(&format!("a@{}", Digest::of(bytes)))).expect("answers");
        assert_eq!(found.is_some(), there, "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(client.referrers(&site.reference("a"), &Digest::of(b"gone"), None).expect("none"), []);
    assert_eq!(collect(directory, false, true), Collected::default());
}

#[test]
fn leftovers_of_interrupted_writes_go() {
    let (site, client) = (Site::new(), client());
    let digest = push_small(&client, &site.reference("a:1"));
    let directory = site.directory.path();
    for place in ["blobs/sha256", "repositories/a/_tags", "repositories/a/_manifests/sha256", "."] {
        std::fs::write(directory.join(place).join(".tmp-Xy12z"), [0; 100]).expect("written");
    }
    // A link of a referrer whose manifest was never written.
    let referrers = directory.join("repositories/a/_referrers/sha256").join(digest.hex());
    std::fs::create_dir_all(&referrers).expect("made");
    std::fs::write(referrers.join(format!("sha256-{}", Digest::of(b"none").hex())), "").expect("written");
    let collected = collect(directory, false, false);
    assert_eq!((collected.leftovers, collected.bytes, collected.blobs), (5, 400, 0));
    assert_eq!(collect(directory, false, false), Collected::default());
    client.manifest(&site.reference("a:1")).expect("still there");
    let absent = directory.join("no-such-directory");
    let error = collect_garbage(&absent, &GarbageOptions::default()).expect_err("nothing there").to_string();
    assert!(error.contains("no-such-directory") && !absent.exists(), "{error}");
}
