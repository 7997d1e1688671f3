//! Uploads: whole, in chunks, interrupted, mounted.

use crossdock_oci::Digest;
use crossdock_registry::server::faults::Fault;
use crossdock_registry::server::{GarbageOptions, collect_garbage};
use crossdock_registry::{Client, Error, Outcome};
use std::time::Duration;

use crate::raw::{Wire, ask, push_blob};
use crate::support::*;

/// Reads a blob back whole.
fn read_back(client: &Client, reference: &crossdock_oci::Reference, bytes: &[u8]) {
    use std::io::Read;
    let mut read = Vec::new();
    client.blob(reference, &blob(bytes), 0).expect("there").read_to_end(&mut read).expect("whole");
    assert!(read == bytes, "the content differs");
}

fn header<'a>(answer: &'a ureq::http::Response<ureq::Body>, name: &str) -> &'a str {
    answer.headers()[name].to_str().expect("text")
}

#[test]
fn chunks_make_a_whole() {
    let site = Site::new();
    let mut options = options().0;
    options.chunk_size = Some(100_000);
    let client = Client::new(options);
    let bytes = noise(1, 450_001);
    let reference = site.reference("a");
    client.put_blob(&reference, &blob(&bytes), &bytes, &[]).expect("pushed");
    assert_eq!((site.count("PATCH", "uploads"), site.count("PUT", "uploads")), (5, 1));
    let seen = site.seen.lock().expect("not poisoned");
    let ranges: Vec<_> = seen.iter().filter_map(|s| s.content_range.clone()).collect();
    assert_eq!((ranges[0].as_str(), ranges[4].as_str()), ("0-99999", "400000-450000"));
    drop(seen);
    read_back(&client, &reference, &bytes);
}

#[test]
fn a_cut_upload_goes_on_where_it_was() {
    for (method, chunk_size) in [("PUT", None), ("PATCH", Some(1_000_000))] {
        let site = Site::faulty(move |seen, spoiled| {
            (seen.method == method && spoiled < 2).then_some(Fault::CutRequest(300_000))
        });
        let mut options = options().0;
        options.chunk_size = chunk_size;
        let client = Client::new(options);
        let bytes = noise(2, 2_000_000);
        let reference = site.reference("a");
        client.put_blob(&reference, &blob(&bytes), &bytes, &[]).expect("pushed in the end");
        assert_eq!(site.count("POST", "uploads"), 1, "{method}: one upload only");
        assert!(site.count("GET", "uploads") >= 1, "{method}: its state was asked for");
        let seen = site.seen.lock().expect("not poisoned");
        let resumed =
            seen.iter().filter_map(|s| s.content_range.as_deref()).any(|r| r.starts_with("300000-"));
        assert!(resumed, "{method}: it went on after 300000 bytes");
        drop(seen);
        read_back(&client, &reference, &bytes);
    }
}

#[test]
fn an_upload_that_is_forgotten_starts_anew() {
    let site = Site::faulty(|seen, spoiled| match (seen.method.as_str(), spoiled) {
        ("PUT", 0) => Some(Fault::CutRequest(100_000)),
        ("GET", 1) => Some(Fault::status(404, "gone")),
        _ => None,
    });
    let client = client();
    let bytes = noise(3, 1_000_000);
    client.put_blob(&site.reference("a"), &blob(&bytes), &bytes, &[]).expect("pushed in the end");
    assert_eq!(site.count("POST", "uploads"), 2);
    read_back(&client, &site.reference("a"), &bytes);
}

#[test]
fn too_large_a_request_becomes_chunks() {
    let too_large = || Some(Fault::status(413, "<html>413 Request Entity Too Large</html>"));
    let site = Site::faulty(move |seen, spoiled| match (seen.method.as_str(), spoiled) {
        ("PUT", 0) | ("PATCH", 1 | 2) => too_large(),
        _ => None,
    });
    let client = client();
    let bytes = noise(4, 6_000_000);
    client.put_blob(&site.reference("a"), &blob(&bytes), &bytes, &[]).expect("pushed in the end");
    // One chunk of 32 MiB and one of 8 MiB fail, then chunks of 2 MiB succeed.
    assert_eq!(site.count("PATCH", "uploads"), 2 + 3);
    read_back(&client, &site.reference("a"), &bytes);

    let site = Site::faulty(
        move |seen, _| if seen.method == "PUT" || seen.method == "PATCH" { too_large() } else { None },
    );
    let error = client.put_blob(&site.reference("a"), &blob(&bytes), &bytes, &[]).expect_err("never taken");
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
}

#[test]
fn errors_of_the_server_are_tried_again() {
    for method in ["POST", "PUT", "HEAD"] {
        let site = Site::faulty(move |seen, spoiled| {
            (seen.method == method && spoiled < 3).then(|| Fault::status(503, "busy"))
        });
        let bytes = noise(5, 50_000);
        let client = client();
        client.put_blob(&site.reference("a"), &blob(&bytes), &bytes, &[]).expect(method);
        read_back(&client, &site.reference("a"), &bytes);
    }
}

#[test]
fn content_that_is_not_its_digest_is_refused() {
    let site = Site::new();
    let (options, clock) = options();
    let client = Client::new(options);
    let bytes = noise(6, 10_000);
    let mut descriptor = blob(&bytes);
    descriptor.digest = Digest::of(b"something else");
    let error = client.put_blob(&site.reference("a"), &descriptor, &bytes, &[]).expect_err("refused");
    assert_eq!(error.answer().map(|a| a.code.as_str()), Some("DIGEST_INVALID"), "{error}");
    assert!(clock.slept().is_empty(), "it gets no better by sending it again");
    assert_eq!(site.count("PUT", "uploads"), 1);
    assert_eq!(client.head_blob(&site.reference("a"), &descriptor.digest).expect("answers"), None);
}

#[test]
fn a_source_that_is_too_short_is_an_error_of_this_side() {
    let (site, bytes) = (Site::new(), noise(7, 10_000));
    let mut descriptor = blob(&bytes);
    descriptor.size = 20_000;
    let error = client().put_blob(&site.reference("a"), &descriptor, &bytes, &[]).expect_err("too short");
    assert!(matches!(error, Error::Source { .. }), "{error}");
    assert!(error.to_string().contains("shorter than announced"), "{error}");
}

#[test]
fn mounts_move_nothing() {
    let (site, client) = (Site::new(), client());
    let bytes = noise(8, 100_000);
    client.put_blob(&site.reference("base"), &blob(&bytes), &bytes, &[]).expect("pushed");
    let puts = site.count("PUT", "uploads");
    let from = ["nothing/there".to_string(), "base".to_string()];
    assert_eq!(
        client.put_blob(&site.reference("app"), &blob(&bytes), &bytes, &from).expect("mounted"),
        Outcome::Mounted
    );
    assert_eq!(site.count("PUT", "uploads"), puts);
    read_back(&client, &site.reference("app"), &bytes);
}

#[test]
fn a_mount_that_cannot_be_done_becomes_an_upload() {
    let site = Site::new();
    let digest = push_blob(&site.host(), "team/base", b"shared");
    let begin = |query: &str| ask(&site.host(), &format!("POST /v2/app/blobs/uploads/?{query}"), &[], b"");
    let missing = Digest::of(b"nowhere");
    for query in [
        format!("mount={missing}&from=team/base"),
        format!("mount={missing}"),
        format!("mount={digest}&from=no/such"),
        format!("mount={digest}&from=Not%20A%20Name"),
        "mount=sha256:short&from=team/base".to_string(),
        "mount=&from=".to_string(),
    ] {
        let answer = begin(&query);
        assert_eq!(answer.status, 202, "{query}: {}", answer.text());
        let finish = format!("PUT {}?digest={}", answer.header("location"), Digest::of(b"own"));
        assert_eq!(ask(&site.host(), &finish, &[], b"own").status, 201, "{query}");
    }
    // A source is not needed if some repository has the blob.
    let mounted = begin(&format!("mount={digest}"));
    assert_eq!((mounted.status, mounted.header("location")), (201, format!("/v2/app/blobs/{digest}")));
    assert_eq!(ask(&site.host(), &format!("GET /v2/app/blobs/{digest}"), &[], b"").body, b"shared");
    // Content that nobody has a link to any more cannot be had by its digest.
    for name in ["team/base", "app"] {
        assert_eq!(ask(&site.host(), &format!("DELETE /v2/{name}/blobs/{digest}"), &[], b"").status, 202);
    }
    assert_eq!(begin(&format!("mount={digest}")).status, 202);
}

#[test]
fn an_unknown_algorithm_is_refused_before_the_upload() {
    let site = Site::new();
    let begin = |name: &str| {
        ask(&site.host(), &format!("POST /v2/a/blobs/uploads/?digest-algorithm={name}"), &[], b"")
    };
    assert_eq!((begin("sha256").status, begin("sha512").status), (202, 202));
    let refused = begin("md5");
    assert!(refused.status == 400 && refused.text().contains("sha512"), "{}", refused.text());
}

#[test]
fn a_body_of_unknown_length_must_fit_its_range() {
    let site = Site::new();
    let begun = ask(&site.host(), "POST /v2/a/blobs/uploads/", &[], b"");
    let location = begun.header("location");
    let patch = |range: &str, body: &str| {
        let headers = [("content-range", range), ("transfer-encoding", "chunked")];
        let mut wire = Wire::connect(&site.host());
        wire.head(&format!("PATCH {location}"), &headers);
        wire.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
        wire.answer(false)
    };
    let first = patch("0-2", "abc");
    assert_eq!((first.status, first.header("range")), (202, "0-2".to_string()));
    for (range, body) in [("3-9", "def"), ("3-4", "def")] {
        let answer = patch(range, body);
        assert!(answer.status == 400 && answer.text().contains("the 3 bytes of the body"), "{range}");
        let asked = ask(&site.host(), &format!("HEAD {location}"), &[], b"");
        assert_eq!((asked.status, asked.header("range")), (204, "0-2".to_string()), "nothing was kept");
    }
    assert_eq!(patch("3-5", "def").status, 202);
    let finish = format!("PUT {location}?digest={}", Digest::of(b"abcdef"));
    assert_eq!(ask(&site.host(), &finish, &[], b"").status, 201);
}

#[test]
fn a_refused_mount_becomes_an_upload() {
    for fault in [Fault::RefuseMount, Fault::status(405, "no mounts here")] {
        let site = Site::faulty(move |seen, _| seen.query.contains("mount=").then(|| fault.clone()));
        let client = client();
        let bytes = noise(9, 100_000);
        client.put_blob(&site.reference("base"), &blob(&bytes), &bytes, &[]).expect("pushed");
        let outcome = client.put_blob(&site.reference("app"), &blob(&bytes), &bytes, &["base".to_string()]);
        assert_eq!(outcome.expect("pushed"), Outcome::Moved);
        read_back(&client, &site.reference("app"), &bytes);
    }
}

#[test]
fn locations_may_be_relative_and_have_queries() {
    // The location leads to the same server with a state in the query, which must come back with the digest.
    let site = Site::faulty(|seen, spoiled| {
        (seen.method == "POST" && spoiled == 0).then(|| Fault::Answer {
            status: 202,
            headers: vec![(
                "location".to_string(),
                "/v2/a/blobs/uploads/00000000000000000000000000000000?_state=s%3D1".to_string(),
            )],
            body: String::new(),
        })
    });
    let bytes = noise(10, 1000);
    client().put_blob(&site.reference("a"), &blob(&bytes), &bytes, &[]).expect("pushed at the second try");
    let seen = site.seen.lock().expect("not poisoned");
    let put = seen.iter().find(|s| s.method == "PUT").expect("tried");
    assert_eq!(put.query, format!("_state=s%3D1&digest={}", Digest::of(&bytes).as_str().replace(':', "%3A")));
}

#[test]
fn the_server_checks_chunks() {
    let site = Site::new();
    let base = format!("http://{}", site.host());
    let agent =
        ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let begun = agent.post(format!("{base}/v2/a/blobs/uploads/")).send_empty().expect("answers");
    assert_eq!(begun.status(), 202);
    let location = begun.headers()["location"].to_str().expect("text").to_string();
    let patch = |range: &str, body: &str| {
        agent.patch(format!("{base}{location}")).header("content-range", range).send(body).expect("answers")
    };
    assert_eq!(patch("0-2", "abc").status(), 202);
    for bad in ["0-2", "4-6", "5-3", "x"] {
        let answer = patch(bad, "abc");
        assert_eq!((answer.status().as_u16(), header(&answer, "range")), (416, "0-2"), "{bad}");
    }
    // The range and the body differ in length, so one of them is wrong.
    for bad in ["3-9", "3-4"] {
        let mut answer = patch(bad, "def");
        let text = answer.body_mut().read_to_string().expect("text");
        assert!(answer.status() == 400 && text.contains("SIZE_INVALID"), "{bad}: {text}");
    }
    assert_eq!(patch("3-5", "def").headers()["range"], "0-5");
    let status = agent.get(format!("{base}{location}")).call().expect("answers");
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-5"));
    let digest = Digest::of(b"abcdefg");
    let finished = agent.put(format!("{base}{location}?digest={digest}")).send("g").expect("answers");
    assert_eq!(
        (finished.status().as_u16(), header(&finished, "docker-content-digest")),
        (201, digest.as_str())
    );
    assert_eq!(patch("7-7", "h").status(), 404);

    // One upload in a single POST, and one that is cancelled.
    let one = agent
        .post(format!("{base}/v2/a/blobs/uploads/?digest={}", Digest::of(b"x")))
        .send("x")
        .expect("answers");
    assert_eq!(one.status(), 201);
    let begun = agent.post(format!("{base}/v2/a/blobs/uploads/")).send_empty().expect("answers");
    let location = format!("{base}{}", begun.headers()["location"].to_str().expect("text"));
    assert_eq!(agent.delete(&location).call().expect("answers").status(), 204);
    assert_eq!(agent.get(&location).call().expect("answers").status(), 404);
}

#[test]
fn ranges_are_served_and_refused() {
    let (site, client) = (Site::new(), client());
    let bytes = noise(11, 1000);
    client.put_blob(&site.reference("a"), &blob(&bytes), &bytes, &[]).expect("pushed");
    let agent =
        ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let url = format!("http://{}/v2/a/blobs/{}", site.host(), Digest::of(&bytes));
    let get = |range: &str| {
        let mut answer = agent.get(&url).header("range", range).call().expect("answers");
        let range = answer.headers().get("content-range").map(|h| h.to_str().expect("text").to_string());
        (answer.status().as_u16(), range, answer.body_mut().read_to_vec().expect("a body"))
    };
    let (status, range, body) = get("bytes=10-19");
    assert_eq!((status, range.as_deref(), body.as_slice()), (206, Some("bytes 10-19/1000"), &bytes[10..20]));
    assert_eq!(get("bytes=-5").2, &bytes[995..]);
    assert_eq!(get("bytes=1-2,5-x").0, 200);
    assert_eq!(get("bytes=500-0").0, 416);
    let (status, range, _) = get("bytes=1000-");
    assert_eq!((status, range.as_deref()), (416, Some("bytes */1000")));
}

#[test]
fn garbage_goes_and_what_is_used_stays() {
    let (site, client) = (Site::new(), client());
    let reference = site.reference("app:1");
    push_small(&client, &reference);
    let garbage = noise(12, 5000);
    client.put_blob(&reference, &blob(&garbage), &garbage, &[]).expect("pushed");
    let agent = ureq::Agent::new_with_defaults();
    agent.post(format!("http://{}/v2/app/blobs/uploads/", site.host())).send_empty().expect("begun");

    let young = collect_garbage(site.directory.path(), &GarbageOptions::default()).expect("collected");
    assert_eq!((young.blobs, young.uploads), (0, 0), "a push may be under way");
    assert_eq!((young.spared, young.bytes_spared), (2, 5000), "and it says so");
    let dry = GarbageOptions { grace: Duration::ZERO, dry_run: true, ..GarbageOptions::default() };
    let dry = collect_garbage(site.directory.path(), &dry).expect("counted");
    assert_eq!((dry.blobs, dry.uploads, dry.bytes), (1, 1, 5000));
    assert!(client.head_blob(&reference, &Digest::of(&garbage)).expect("answers").is_some());
    let all = GarbageOptions { grace: Duration::ZERO, ..GarbageOptions::default() };
    let collected = collect_garbage(site.directory.path(), &all).expect("collected");
    assert_eq!((collected.blobs, collected.uploads, collected.bytes), (1, 1, 5000));
    assert_eq!(client.head_blob(&reference, &Digest::of(&garbage)).expect("answers"), None);
    client.manifest(&reference).expect("still there");
    assert!(client.head_blob(&reference, &Digest::of(b"{}")).expect("answers").is_some());

    client
        .delete_manifest(&reference.with_digest(client.manifest(&reference).expect("there").digest))
        .expect("deleted");
    assert_eq!(collect_garbage(site.directory.path(), &all).expect("collected").blobs, 2);
}
