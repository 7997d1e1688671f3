//! Requirements of HTTP and the distribution specification that our client does not use.

use crossdock_oci::manifest::Descriptor;
use crossdock_oci::{Digest, media_type};
use crossdock_registry::server::ServerOptions;

use crate::raw::{Answer, Wire, ask, push_blob};
use crate::support::*;

/// Pushes a manifest.
fn put(site: &Site, path: &str, content_type: &str, bytes: &[u8]) -> Answer {
    ask(&site.host(), &format!("PUT /v2/{path}"), &[("content-type", content_type)], bytes)
}

/// A server whose repository `a` has the blob `{}`.
fn site() -> Site {
    let site = Site::new();
    push_blob(&site.host(), "a", b"{}");
    site
}

#[test]
fn several_ranges_come_in_parts() {
    let site = site();
    let bytes = noise(1, 1_000_000);
    let digest = push_blob(&site.host(), "a", &bytes);
    let get =
        |ranges: &str| ask(&site.host(), &format!("GET /v2/a/blobs/{digest}"), &[("range", ranges)], b"");
    let answer = get("bytes=500000-500009, 0-9,-3");
    let boundary = answer.header("content-type");
    let boundary = boundary.strip_prefix("multipart/byteranges; boundary=").expect("parts");
    assert_eq!(answer.status, 206);
    assert!(answer.header("content-range").is_empty());
    let mut expected = Vec::new();
    for (start, end) in [(500_000, 500_009), (0, 9), (999_997, 999_999)] {
        expected.extend_from_slice(
            format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {start}-{end}/1000000\r\n\r\n"
            )
            .as_bytes(),
        );
        expected.extend_from_slice(&bytes[start..=end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(answer.body == expected, "{}", answer.text());
    // A list with one valid range; a list without any; a list larger than the whole blob.
    let one = get("bytes=2000000-,5-6");
    assert_eq!((one.status, one.header("content-range").as_str()), (206, "bytes 5-6/1000000"));
    assert_eq!(get("bytes=2000000-,1000000-").status, 416);
    assert_eq!(get("bytes=0-,0-").body.len(), 1_000_000);
    // A thousand, as podman asks for.
    let thousand: Vec<String> = (0..1000).map(|n| format!("{}-{}", n * 1000, n * 1000 + 9)).collect();
    let answer = get(&format!("bytes={}", thousand.join(",")));
    assert_eq!(answer.status, 206);
    assert!(answer.body.len() < 200_000, "{} bytes", answer.body.len());
}

#[test]
fn conditions_are_honoured() {
    let site = site();
    let digest = push_blob(&site.host(), "a", b"hello");
    let manifest = small_manifest(None, "x/y");
    let pushed = put(&site, "a/manifests/v", media_type::OCI_MANIFEST, &manifest);
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    for (path, digest) in [
        (format!("/v2/a/blobs/{digest}"), digest.clone()),
        ("/v2/a/manifests/v".to_string(), Digest::of(&manifest)),
    ] {
        let asked = |method: &str, name: &str, value: &str| {
            ask(&site.host(), &format!("{method} {path}"), &[(name, value)], b"")
        };
        let etag = format!("\"{digest}\"");
        for method in ["GET", "HEAD"] {
            let answer = asked(method, "if-none-match", &etag);
            assert_eq!((answer.status, answer.header("etag")), (304, etag.clone()), "{method} {path}");
            assert_eq!(asked(method, "if-none-match", "\"other\", *").status, 304);
            assert_eq!(asked(method, "if-none-match", "\"other\"").status, 200);
        }
        assert_eq!(asked("GET", "if-match", &etag).status, 200);
        assert_eq!(asked("GET", "if-match", "\"other\"").status, 412);
    }
    let range = |value: &str| {
        let path = format!("GET /v2/a/blobs/{digest}");
        ask(&site.host(), &path, &[("range", "bytes=1-2"), ("if-range", value)], b"")
    };
    let answer = range(&format!("\"{digest}\""));
    assert_eq!((answer.status, answer.text().as_str()), (206, "el"));
    for other in ["\"other\"", "Sun, 29 Nov 2026 02:00:00 GMT"] {
        let answer = range(other);
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{other}");
    }
}

#[test]
fn a_type_that_contradicts_the_manifest_is_refused() {
    let site = site();
    let manifest = small_manifest(None, "x/y");
    assert_eq!(put(&site, "a/manifests/one", media_type::OCI_MANIFEST, &manifest).status, 201);
    let untyped = String::from_utf8(manifest.clone()).expect("JSON");
    let untyped = untyped.replace(&format!("\"mediaType\":\"{}\",", media_type::OCI_MANIFEST), "");
    assert!(!untyped.contains(media_type::OCI_MANIFEST));
    for (bytes, content_type) in [
        (manifest.as_slice(), media_type::DOCKER_MANIFEST),
        (&manifest, media_type::OCI_INDEX),
        (&manifest, "application/vnd.example+json"),
        (untyped.as_bytes(), media_type::DOCKER_MANIFEST),
        (untyped.as_bytes(), media_type::DOCKER_LIST),
    ] {
        let answer = put(&site, "a/manifests/two", content_type, bytes);
        assert_eq!(answer.status, 400, "{content_type}");
        assert!(answer.text().contains("MANIFEST_INVALID"), "{}", answer.text());
        assert!(answer.text().contains(content_type), "{}", answer.text());
    }
    // Default types of programs are accepted for any manifest; parameters do not count.
    let exact = format!("{}; charset=utf-8", media_type::OCI_MANIFEST);
    for content_type in ["application/json", "application/octet-stream", exact.as_str()] {
        assert_eq!(put(&site, "a/manifests/two", content_type, &manifest).status, 201, "{content_type}");
        assert_eq!(put(&site, "a/manifests/three", content_type, untyped.as_bytes()).status, 201);
    }
    for tag in ["one", "two", "three"] {
        let answer = ask(&site.host(), &format!("GET /v2/a/manifests/{tag}"), &[], b"");
        assert_eq!(answer.header("content-type"), media_type::OCI_MANIFEST, "{tag}");
    }
}

#[test]
fn a_push_by_digest_may_give_tags() {
    let site = site();
    let manifest = small_manifest(None, "x/y");
    let path = format!("a/manifests/{}?tag=two&tag=one&tag=two", Digest::of(&manifest));
    let answer = put(&site, &path, media_type::OCI_MANIFEST, &manifest);
    assert_eq!((answer.status, answer.header("oci-tag").as_str()), (201, "two,one"));
    let tags = ask(&site.host(), "GET /v2/a/tags/list", &[], b"").json();
    assert_eq!(tags["tags"], serde_json::json!(["one", "two"]));
    // Clients refuse answers with many headers, so each of these names several of many tags.
    let many: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
    let path = format!("a/manifests/{}?tag={}", Digest::of(&manifest), many.join("&tag="));
    let answer = put(&site, &path, media_type::OCI_MANIFEST, &manifest);
    assert!(answer.status == 201 && answer.headers.len() < 32, "{:?}", answer.headers);
    assert_eq!(answer.header("oci-tag").split(',').map(str::trim).collect::<Vec<_>>(), many);
    for bad in ["a%2fb", "", "-x"] {
        let path = format!("a/manifests/{}?tag={bad}", Digest::of(&manifest));
        let answer = put(&site, &path, media_type::OCI_MANIFEST, &manifest);
        assert!(answer.status == 400 && answer.text().contains("TAG_INVALID"), "{bad}: {}", answer.text());
    }
}

#[test]
fn lists_may_be_null() {
    let site = site();
    let config = serde_json::to_string(&Descriptor::of(media_type::OCI_EMPTY, b"{}")).expect("serialises");
    let manifest =
        format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":null,\"annotations\":null}}");
    let answer = put(&site, "a/manifests/m", media_type::OCI_MANIFEST, manifest.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer =
        put(&site, "a/manifests/i", media_type::OCI_INDEX, b"{\"schemaVersion\":2,\"manifests\":null}");
    assert_eq!(answer.status, 201, "{}", answer.text());
    // Our client reads such manifests, and the server keeps them to the byte.
    assert_eq!(client().manifest(&site.reference("a:m")).expect("there").bytes, manifest.as_bytes());
}

#[test]
fn names_at_their_limits() {
    let site = Site::new();
    let longest = format!("{}abcde", "abcd/".repeat(50));
    assert_eq!(longest.len(), 255);
    push_small(&client(), &site.reference(&format!("{longest}:{}", "t".repeat(128))));
    push_small(&client(), &site.reference(&format!("{}:1", "c".repeat(255))));
    let answer = ask(&site.host(), &format!("POST /v2/{longest}f/blobs/uploads/"), &[], b"");
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[test]
fn impossible_names_are_not_there_and_cannot_be_made() {
    let site = site();
    for path in ["a/manifests/.INVALID_MANIFEST_NAME", "a/manifests/-x", "A/manifests/x", "a//b/tags/list"] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&site.host(), &format!("{method} /v2/{path}"), &[], b"");
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
    assert_eq!(put(&site, "a/manifests/-x", media_type::OCI_MANIFEST, b"{}").status, 400);
    assert_eq!(ask(&site.host(), "POST /v2/A/blobs/uploads/", &[], b"").status, 400);
    assert_eq!(ask(&site.host(), "GET /v2/a/blobs/sha256:xyz", &[], b"").status, 400);
}

#[test]
fn wrong_methods_are_told_the_right_ones() {
    let site = site();
    let asked = |site: &Site, line: &str| {
        let answer = ask(&site.host(), line, &[], b"");
        (answer.status, answer.header("allow"))
    };
    assert_eq!(asked(&site, "PUT /v2/"), (405, "GET, HEAD".into()));
    assert_eq!(asked(&site, "POST /v2/a/manifests/x"), (405, "GET, HEAD, PUT, DELETE".into()));
    assert_eq!(asked(&site, "GET /v2/a/blobs/uploads/"), (405, "POST".into()));
    assert_eq!(asked(&site, "PATCH /v2/a/tags/list"), (405, "GET, HEAD".into()));
    assert_eq!(ask(&site.host(), "HEAD /v2/_catalog", &[], b"").status, 200);
    let read_only = Site::with(ServerOptions { read_only: true, ..ServerOptions::default() }, |_, _| None);
    assert_eq!(asked(&read_only, "PUT /v2/a/manifests/x"), (405, "GET, HEAD".into()));
}

#[test]
fn an_early_answer_says_what_becomes_of_the_connection() {
    let site = site();
    // The server reads a small rest, and the connection goes on.
    let mut wire = Wire::connect(&site.host());
    for _ in 0..3 {
        wire.head("PUT /v2/a/manifests/-x", &[("content-length", "1000")]);
        wire.send(&[b' '; 1000]);
        let answer = wire.answer(false);
        assert_eq!((answer.status, answer.header("connection").as_str()), (400, ""));
    }
    // The server does not read a large rest; it says so in an answer that the client can read while it still
    // sends.
    let mut wire = Wire::connect(&site.host());
    wire.head(
        "PATCH /v2/a/blobs/uploads/0123456789abcdef0123456789abcdef",
        &[("content-length", "50000000")],
    );
    wire.send(&vec![0; 3_000_000]);
    let answer = wire.answer(false);
    assert_eq!((answer.status, answer.header("connection").as_str()), (404, "close"));
    // A client that waits for permission to send does not get it.
    let mut wire = Wire::connect(&site.host());
    wire.head("PUT /v2/a/manifests/-x", &[("content-length", "10"), ("expect", "100-continue")]);
    let answer = wire.answer(false);
    assert_eq!((answer.status, answer.header("connection").as_str()), (400, "close"));
    assert!(wire.is_closed());
}

#[test]
fn messages_are_for_people() {
    let site = site();
    for (content_type, bytes) in [
        (
            "application/vnd.oci.artifact.manifest.v1+json",
            "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.artifact.manifest.v1+json\"}",
        ),
        ("application/json", "{\"schemaVersion\":2}"),
        ("application/json", "{\"schemaVersion\":2,\"mediaType\":7}"),
    ] {
        let text = put(&site, "a/manifests/x", content_type, bytes.as_bytes()).text();
        assert!(text.contains("MANIFEST_INVALID"), "{text}");
        assert!(!text.contains("Some(") && !text.contains("None"), "{text}");
    }
}

#[test]
fn referrers_come_in_pages() {
    let site = site();
    let client = client();
    let reference = site.reference("a:1");
    let subject = Descriptor::of(media_type::OCI_MANIFEST, b"not pushed yet");
    for number in 0..9 {
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&small_manifest(Some(subject.clone()), "x/y")).expect("JSON");
        manifest["annotations"] = serde_json::json!({ "big": format!("{number}{}", "x".repeat(1 << 20)) });
        let bytes = serde_json::to_vec(&manifest).expect("serialises");
        let by_digest = reference.with_digest(Digest::of(&bytes));
        client.put_manifest(&by_digest, media_type::OCI_MANIFEST, &bytes).expect("pushed");
    }
    let path = format!("/v2/a/referrers/{}", subject.digest);
    let first = ask(&site.host(), &format!("GET {path}?artifactType=x%2Fy"), &[], b"");
    assert!(first.body.len() <= 4 << 20, "{} bytes", first.body.len());
    assert_eq!(first.json()["manifests"].as_array().map(Vec::len), Some(3));
    assert!(first.header("link").contains("artifactType=x%2Fy&last=sha256:"), "{}", first.header("link"));
    assert_eq!(client.referrers(&reference, &subject.digest, None).expect("lists").len(), 9);
    assert_eq!(client.referrers(&reference, &subject.digest, Some("x/y")).expect("lists").len(), 9);
    let two = ask(&site.host(), &format!("GET {path}?n=2"), &[], b"");
    assert_eq!(two.json()["manifests"].as_array().map(Vec::len), Some(2));
    assert!(two.header("link").contains("?n=2&last="), "{}", two.header("link"));
}

#[test]
fn who_has_sent_all_and_says_so_is_answered() {
    let site = Site::new();
    let bytes = noise(1, 300_000);
    let digest = Digest::of(&bytes);
    let mut wire = Wire::connect(&site.host());
    wire.head(
        &format!("POST /v2/a/blobs/uploads/?digest={digest}"),
        &[("content-length", "300000"), ("content-type", "application/octet-stream")],
    );
    wire.send(&bytes);
    wire.finish();
    assert_eq!(wire.answer(false).status, 201);
    assert!(wire.is_closed());
    let mut wire = Wire::connect(&site.host());
    wire.head(&format!("GET /v2/a/blobs/{digest}"), &[]);
    wire.finish();
    assert!(wire.answer(false).body == bytes);
    // Half a body is an upload that was given up; the bytes that came stay.
    let begun = ask(&site.host(), "POST /v2/a/blobs/uploads/", &[], b"");
    let location = begun.header("location");
    let mut wire = Wire::connect(&site.host());
    wire.head(&format!("PATCH {location}"), &[("content-length", "300000")]);
    wire.send(&bytes[..100_000]);
    wire.finish();
    assert!(wire.is_closed());
    assert_eq!(ask(&site.host(), &format!("GET {location}"), &[], b"").header("range"), "0-99999");
}

#[test]
fn malformed_chunks_are_answered() {
    let site = Site::new();
    let location = ask(&site.host(), "POST /v2/a/blobs/uploads/", &[], b"").header("location");
    for line in [format!("PATCH {location}"), "PUT /v2/a/manifests/v".to_string()] {
        let mut wire = Wire::connect(&site.host());
        wire.head(&line, &[("transfer-encoding", "chunked"), ("content-type", media_type::OCI_MANIFEST)]);
        wire.send(b"3\r\nabc\r\nzz\r\nabc\r\n0\r\n\r\n");
        let answer = wire.answer(false);
        assert!(answer.status == 400 && answer.text().contains("chunked"), "{line}: {}", answer.text());
        assert!(wire.is_closed());
    }
    // The bytes before the damage count.
    assert_eq!(ask(&site.host(), &format!("GET {location}"), &[], b"").header("range"), "0-2");
}
