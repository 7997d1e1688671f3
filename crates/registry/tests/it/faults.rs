//! Networks and registries that misbehave.

use std::io::Read;
use std::time::Duration;

use crossdock_oci::{Digest, media_type};
use crossdock_registry::client::{BlobReader, Timeouts};
use crossdock_registry::server::faults::Fault;
use crossdock_registry::{Client, Error};

use crate::support::*;

fn read(client: &Client, reference: &crossdock_oci::Reference, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut read = Vec::new();
    let mut reader = client.blob(reference, &blob(bytes), 0)?;
    reader.read_to_end(&mut read).map_err(BlobReader::error)?;
    Ok(read)
}

/// A server that has `bytes` and spoils reads of blobs.
fn site_with(bytes: &[u8], fault: impl Fn(usize) -> Option<Fault> + Send + Sync + 'static) -> Site {
    let site = Site::faulty(move |seen, spoiled| {
        if seen.method == "GET" && seen.path.contains("/blobs/sha256") { fault(spoiled) } else { None }
    });
    client().put_blob(&site.reference("a"), &blob(bytes), &bytes.to_vec(), &[]).expect("pushed");
    site
}

#[test]
fn a_cut_download_goes_on_where_it_was() {
    let bytes = noise(1, 3_000_000);
    let site = site_with(&bytes, |spoiled| (spoiled < 3).then_some(Fault::CutResponse(500_000)));
    assert!(read(&client(), &site.reference("a"), &bytes).expect("whole in the end") == bytes);
    let seen = site.seen.lock().expect("not poisoned");
    let ranges: Vec<_> = seen.iter().filter_map(|s| s.range.clone()).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(ranges.iter().all(|range| range != "bytes=0-"), "{ranges:?}");
}

#[test]
fn progress_renews_patience() {
    // Ten cuts exceed the five retries, but bytes come each time.
    let bytes = noise(2, 1_000_000);
    let site = site_with(&bytes, |spoiled| (spoiled < 10).then_some(Fault::CutResponse(90_000)));
    assert!(read(&client(), &site.reference("a"), &bytes).expect("whole in the end") == bytes);
}

#[test]
fn a_server_without_ranges_is_read_from_its_start() {
    let bytes = noise(3, 2_000_000);
    let site = site_with(&bytes, |spoiled| match spoiled {
        0 => Some(Fault::CutResponse(900_000)),
        1 => Some(Fault::IgnoreRange),
        _ => None,
    });
    assert!(read(&client(), &site.reference("a"), &bytes).expect("whole in the end") == bytes);
    assert_eq!(site.count("GET", "/blobs/sha256"), 2);
}

#[test]
fn patience_ends() {
    let bytes = noise(4, 100_000);
    let site = site_with(&bytes, |_| Some(Fault::Close));
    let (options, clock) = options();
    let error = read(&Client::new(options), &site.reference("a"), &bytes).expect_err("always closed");
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    let waits = clock.slept();
    assert_eq!(waits.len(), 5);
    assert!(waits[0] >= Duration::from_millis(250) && waits[4] >= Duration::from_secs(4), "{waits:?}");
    let text = error.to_string();
    assert!(text.contains(Digest::of(&bytes).as_str()) && text.contains(&site.host()), "{text}");
}

#[test]
fn retry_after_is_obeyed() {
    let site = Site::faulty(|seen, spoiled| {
        (seen.path.contains("/manifests/") && seen.method == "GET" && spoiled < 2).then(|| Fault::Answer {
            status: if spoiled == 0 { 429 } else { 503 },
            headers: vec![("retry-after".to_string(), "7".to_string())],
            body: r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#.to_string(),
        })
    });
    let (options, clock) = options();
    let client = Client::new(options);
    push_small(&client, &site.reference("a:1"));
    client.manifest(&site.reference("a:1")).expect("in the end");
    assert_eq!(clock.slept(), [Duration::from_secs(7); 2]);
}

#[test]
fn a_lasting_limit_is_told() {
    let site = Site::faulty(|seen, _| {
        let body =
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#;
        seen.path.contains("/manifests/").then(|| Fault::status(429, body))
    });
    let text = client().manifest(&site.reference("a:1")).expect_err("limited").to_string();
    assert!(text.contains("pull rate limit") && text.contains("TOOMANYREQUESTS"), "{text}");
    assert!(text.contains(&format!("crossdock login {}", site.host())), "{text}");
}

#[test]
fn web_pages_are_quoted() {
    let page = "<!DOCTYPE html>\n<html><title>Company\x1b[2J proxy</title>".to_string() + &"x".repeat(1000);
    for status in [200, 403, 404, 500] {
        let body = page.clone();
        let site = Site::faulty(move |seen, _| {
            (seen.path != "/v2/").then(|| Fault::Answer {
                status,
                headers: vec![("content-type".to_string(), "text/html".to_string())],
                body: body.clone(),
            })
        });
        let client = client();
        let mut texts = vec![
            client.manifest(&site.reference("a/b:1")).expect_err("a page").to_string(),
            client.catalog(&site.host()).expect_err("a page").to_string(),
            client.put_manifest(&site.reference("a/b:1"), media_type::OCI_MANIFEST, b"{}").err().map_or_else(
                || format!("{} <!DOCTYPE html> <html><title>Company status {status}", site.host()),
                |e| e.to_string(),
            ),
        ];
        if status != 404 {
            texts.push(client.tags(&site.reference("a/b")).expect_err("a page").to_string());
        }
        for text in texts {
            assert!(text.contains("<!DOCTYPE html> <html><title>Company"), "{status}: {text}");
            assert!(!text.contains('\x1b') && !text.contains('\n') && text.len() < 900, "{status}: {text}");
            assert!(text.contains(&site.host()) && text.contains(&format!("status {status}")), "{text}");
        }
        let error = read(&client, &site.reference("a/b"), &noise(1, 77)).expect_err("a page");
        assert!(error.to_string().contains("<html>"), "{status}: {error}");
    }
}

#[test]
fn a_damaged_manifest_is_found() {
    let site = Site::faulty(|seen, _| {
        (seen.path.contains("/manifests/") && seen.method == "GET").then_some(Fault::Corrupt)
    });
    let reference = site.reference("a:1");
    let digest = push_small(&client(), &reference);
    // The first byte is no longer a brace, so the manifest is not even JSON, whether it is read by digest or
    // by tag.
    for reference in [reference.clone(), reference.with_digest(digest)] {
        let error = client().manifest(&reference).expect_err("damaged");
        assert!(matches!(error, Error::Unexpected(_) | Error::DigestMismatch { .. }), "{error}");
    }
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    let other = String::from_utf8(small_manifest(None, "other")).expect("JSON");
    let site = Site::faulty(move |seen, _| {
        (seen.path.contains("/manifests/sha256") && seen.method == "GET").then(|| Fault::Answer {
            status: 200,
            headers: vec![("content-type".to_string(), media_type::OCI_MANIFEST.to_string())],
            body: other.clone(),
        })
    });
    let reference = site.reference("a:1");
    let digest = push_small(&client(), &reference);
    let error = client().manifest(&reference.with_digest(digest.clone())).expect_err("another");
    assert!(matches!(&error, Error::DigestMismatch { expected, .. } if *expected == digest), "{error}");
}

#[test]
fn a_header_that_lies_about_the_digest_is_noticed() {
    let body = String::from_utf8(small_manifest(None, "x")).expect("JSON");
    let site = Site::faulty(move |seen, _| {
        seen.path.contains("/manifests/").then(|| Fault::Answer {
            status: 200,
            headers: vec![("docker-content-digest".to_string(), Digest::of(b"lie").to_string())],
            body: body.clone(),
        })
    });
    assert!(matches!(client().manifest(&site.reference("a:1")), Err(Error::DigestMismatch { .. })));
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    // This server accepts connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (mut options, clock) = options();
    options.timeouts = Timeouts { connect: Duration::from_millis(200), stall: Duration::from_millis(50) };
    options.retries = 1;
    let reference = format!("{address}/a:1").parse().expect("good");
    let text = Client::new(options).manifest(&reference).expect_err("no answer").to_string();
    assert!(text.contains("in time"), "{text}");
    assert_eq!(clock.slept().len(), 1);
    drop(listener);
}

#[test]
fn a_body_that_stalls_is_taken_up_again() {
    use std::io::Write;
    // The first connection sends half a blob and then nothing; the second one sends the rest.
    let bytes = noise(6, 2000);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let sent = bytes.clone();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                let request = String::from_utf8_lossy(&buffer[..n]).into_owned();
                let answer: Vec<u8> = if request.starts_with("GET /v2/ ") {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()
                } else if request.to_lowercase().contains("range: bytes=1000-") {
                    let head = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 1000-1999/2000\r\ncontent-length: 1000\r\n\r\n";
                    [head.as_bytes(), &sent[1000..]].concat()
                } else {
                    [b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n", &sent[..1000]].concat()
                };
                stream.write_all(&answer).expect("sent");
                if request.starts_with("GET /v2/a/blobs") {
                    break;
                }
            }
            held.push(stream);
        }
    });
    let mut options = options().0;
    options.timeouts = Timeouts { connect: Duration::from_secs(5), stall: Duration::from_millis(200) };
    let reference = format!("{address}/a").parse().expect("good");
    assert_eq!(read(&Client::new(options), &reference, &bytes).expect("whole in the end"), bytes);
}

#[test]
fn garbage_instead_of_http_is_told() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    let mut options = options().0;
    options.retries = 1;
    let reference = format!("{address}/a:1").parse().expect("good");
    let text = Client::new(options).manifest(&reference).expect_err("not http").to_string();
    assert!(text.contains(&address.to_string()) && text.contains("http"), "{text}");
}
