//! Every endpoint of the distribution specification, through the client.

use std::io::Read;
use std::time::Duration;

use crossdock_oci::manifest::{Descriptor, Index};
use crossdock_oci::{Digest, Reference, media_type};
use crossdock_registry::server::{GarbageOptions, RegistryServer, ServerOptions, collect_garbage};
use crossdock_registry::{Error, Outcome};

use crate::support::*;

#[test]
fn blobs_are_pushed_read_in_parts_and_deleted() {
    let (site, client) = (Site::new(), client());
    let reference = site.reference("a/b/c");
    let bytes = noise(1, 700_000);
    let descriptor = blob(&bytes);
    assert_eq!(client.head_blob(&reference, &descriptor.digest).expect("answers"), None);
    assert_eq!(client.put_blob(&reference, &descriptor, &bytes, &[]).expect("pushed"), Outcome::Moved);
    assert_eq!(client.put_blob(&reference, &descriptor, &bytes, &[]).expect("known"), Outcome::Existed);
    assert_eq!(client.head_blob(&reference, &descriptor.digest).expect("answers"), Some(700_000));
    for offset in [0, 1, 699_999, 700_000] {
        let mut read = Vec::new();
        client.blob(&reference, &descriptor, offset).expect("there").read_to_end(&mut read).expect("whole");
        assert!(read == bytes[offset as usize..], "from {offset}");
    }
    // Blobs belong to repositories.
    assert_eq!(client.head_blob(&site.reference("other"), &descriptor.digest).expect("answers"), None);
    client.delete_blob(&reference, &descriptor.digest).expect("deleted");
    assert!(matches!(client.delete_blob(&reference, &descriptor.digest), Err(Error::NotFound { .. })));
    assert_eq!(client.put_blob(&reference, &descriptor, &bytes, &[]).expect("pushed"), Outcome::Moved);
}

#[test]
fn an_empty_blob_is_a_blob() {
    let (site, reference) = (Site::new(), |site: &Site| site.reference("empty"));
    for chunk_size in [None, Some(10)] {
        let mut options = options().0;
        options.chunk_size = chunk_size;
        let client = crossdock_registry::Client::new(options);
        let reference = reference(&site);
        client.put_blob(&reference, &blob(b""), &Vec::new(), &[]).expect("pushed");
        assert_eq!(client.head_blob(&reference, &Digest::of(b"")).expect("answers"), Some(0));
        client.delete_blob(&reference, &Digest::of(b"")).expect("deleted");
    }
}

#[test]
fn manifests_by_tag_and_digest() {
    let (site, client) = (Site::new(), client());
    let reference = site.reference("app:v1");
    let digest = push_small(&client, &reference);
    let fetched = client.manifest(&reference).expect("there");
    assert_eq!((&fetched.digest, fetched.media_type.as_str()), (&digest, media_type::OCI_MANIFEST));
    assert_eq!(client.manifest(&reference.with_digest(digest.clone())).expect("there"), fetched);
    assert_eq!(client.head_manifest(&reference).expect("answers"), Some(fetched.descriptor()));
    assert_eq!(client.head_manifest(&site.reference("app:v2")).expect("answers"), None);

    // Deleting a tag removes the tag alone; deleting a digest removes its tags, too.
    let second = site.reference("app:v2");
    client.put_manifest(&second, &fetched.media_type, &fetched.bytes).expect("pushed");
    client.delete_manifest(&second).expect("deleted");
    assert_eq!(client.tags(&reference).expect("lists"), ["v1"]);
    client.delete_manifest(&reference.with_digest(digest)).expect("deleted");
    assert_eq!(client.tags(&reference).expect("lists"), [""; 0]);
    assert!(client.head_manifest(&reference).expect("answers").is_none());
}

#[test]
fn sha512_works_like_sha256() {
    let (site, client) = (Site::new(), client());
    let bytes = noise(5, 1000);
    let sha512 = |bytes: &[u8]| {
        let mut hasher = format!("sha512:{}", "0".repeat(128)).parse::<Digest>().expect("a digest").hasher();
        hasher.update(bytes);
        hasher.finish()
    };
    let descriptor = Descriptor::new("application/x", sha512(&bytes), 1000);
    let reference = site.reference("a");
    client.put_blob(&reference, &descriptor, &bytes, &[]).expect("pushed");
    client.put_blob(&reference, &blob(b"{}"), &b"{}".to_vec(), &[]).expect("pushed");
    let manifest = small_manifest(None, "x");
    let by_digest = reference.with_digest(sha512(&manifest));
    assert_eq!(
        client.put_manifest(&by_digest, media_type::OCI_MANIFEST, &manifest).expect("pushed"),
        sha512(&manifest)
    );
    assert_eq!(client.manifest(&by_digest).expect("there").bytes, manifest);
}

#[test]
fn tags_and_catalog_come_in_pages() {
    let (site, client) = (Site::new(), client());
    let first = site.reference("team/app:t000");
    push_small(&client, &first);
    let fetched = client.manifest(&first).expect("there");
    for number in 1..25 {
        let tag = first.with_tag(&format!("t{number:03}")).expect("a good tag");
        client.put_manifest(&tag, &fetched.media_type, &fetched.bytes).expect("pushed");
    }
    for name in ["x", "x/y", "team/app2", "blobs/uploads"] {
        push_small(&client, &site.reference(&format!("{name}:1")));
    }
    // The client asks for pages of 1000, so this test asks the server directly for smaller ones.
    let expected: Vec<String> = (0..25).map(|n| format!("t{n:03}")).collect();
    assert_eq!(client.tags(&first).expect("lists"), expected);
    assert_eq!(
        client.catalog(&site.host()).expect("lists"),
        ["blobs/uploads", "team/app", "team/app2", "x", "x/y"]
    );
    let mut found: Vec<String> = Vec::new();
    let mut next = format!("http://{}/v2/team/app/tags/list?n=10", site.host());
    for _ in 0..3 {
        let mut response = ureq::get(&next).call().expect("a page");
        let link = response.headers().get("link").map(|l| l.to_str().expect("text").to_string());
        let page: serde_json::Value =
            serde_json::from_slice(&response.body_mut().read_to_vec().expect("a body")).expect("JSON");
        found.extend(
            page["tags"].as_array().expect("a list").iter().map(|t| t.as_str().expect("text").into()),
        );
        match link {
            Some(link) => {
                let target = link.trim_start_matches('<').split('>').next().expect("a target");
                next = format!("http://{}{target}", site.host());
            }
            None => break,
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn the_client_follows_pages() {
    let site = Site::faulty(|seen, _| {
        let page = |tags: &str, link: Option<&str>| {
            let headers = link.map(|l| ("link".to_string(), l.to_string())).into_iter().collect();
            let body = format!("{{\"name\":\"a\",\"tags\":{tags}}}");
            Some(crossdock_registry::server::faults::Fault::Answer { status: 200, headers, body })
        };
        match seen.query.as_str() {
            "n=1000" => page("[\"a\",\"b\"]", Some("</v2/a/tags/list?last=b&x=1>; rel=\"next\"")),
            "last=b&x=1" => page("[\"c\"]", Some("<list?last=c>; rel=next")),
            "last=c" => page("null", None),
            _ => None,
        }
    });
    assert_eq!(client().tags(&site.reference("a")).expect("lists"), ["a", "b", "c"]);
}

#[test]
fn referrers_are_listed_and_filtered() {
    let (site, client) = (Site::new(), client());
    let reference = site.reference("app:1");
    let digest = push_small(&client, &reference);
    let subject = client.manifest(&reference).expect("there").descriptor();
    for kind in ["application/vnd.sbom", "application/vnd.signature"] {
        let manifest = small_manifest(Some(subject.clone()), kind);
        let by_digest = reference.with_digest(Digest::of(&manifest));
        client.put_manifest(&by_digest, media_type::OCI_MANIFEST, &manifest).expect("pushed");
    }
    let all = client.referrers(&reference, &digest, None).expect("lists");
    assert_eq!(all.len(), 2);
    let some = client.referrers(&reference, &digest, Some("application/vnd.sbom")).expect("lists");
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].artifact_type.as_deref(), Some("application/vnd.sbom"));
    client.delete_manifest(&reference.with_digest(some[0].digest.clone())).expect("deleted");
    assert_eq!(client.referrers(&reference, &digest, None).expect("lists").len(), 1);
    assert_eq!(client.referrers(&reference, &Digest::of(b"none"), None).expect("lists"), []);
}

#[test]
fn referrers_fall_back_to_a_tag() {
    let site = Site::faulty(|seen, _| {
        seen.path
            .contains("/referrers/")
            .then(|| crossdock_registry::server::faults::Fault::status(404, "404 page not found"))
    });
    let client = client();
    let reference = site.reference("app:1");
    let digest = push_small(&client, &reference);
    assert_eq!(client.referrers(&reference, &digest, None).expect("none"), []);
    let mut entry = client.manifest(&reference).expect("there").descriptor();
    entry.artifact_type = Some("x/y".to_string());
    let index = serde_json::to_vec(&Index::new(vec![entry.clone()])).expect("serialises");
    let tag = reference.with_tag(&format!("sha256-{}", digest.hex())).expect("a good tag");
    client.put_manifest(&tag, media_type::OCI_INDEX, &index).expect("pushed");
    assert_eq!(client.referrers(&reference, &digest, None).expect("lists"), [entry]);
    assert_eq!(client.referrers(&reference, &digest, Some("z")).expect("lists"), []);
}

#[test]
fn a_manifest_without_its_parts_is_refused() {
    let (site, client) = (Site::new(), client());
    let reference = site.reference("app:1");
    let error = client.put_manifest(&reference, media_type::OCI_MANIFEST, &small_manifest(None, "x"));
    let text = error.expect_err("its config is missing").to_string();
    assert!(text.contains("MANIFEST_BLOB_UNKNOWN") && text.contains("app:1"), "{text}");
    let lost = Descriptor::of(media_type::OCI_MANIFEST, b"lost");
    let index = serde_json::to_vec(&Index::new(vec![lost])).expect("serialises");
    let error =
        client.put_manifest(&reference, media_type::OCI_INDEX, &index).expect_err("its image is missing");
    assert!(error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");
    // A wrong size is found, too.
    client.put_blob(&reference, &blob(b"{}"), &b"{}".to_vec(), &[]).expect("pushed");
    let text =
        String::from_utf8(small_manifest(None, "x")).expect("JSON").replace("\"size\":2", "\"size\":3");
    let error =
        client.put_manifest(&reference, media_type::OCI_MANIFEST, text.as_bytes()).expect_err("wrong size");
    assert!(error.to_string().contains("MANIFEST_INVALID"), "{error}");
    for bad in ["{}", "<html>", "{\"schemaVersion\":1}"] {
        let error = client.put_manifest(&reference, media_type::OCI_MANIFEST, bad.as_bytes()).expect_err(bad);
        assert_eq!(
            error.answer().map(|a| (a.status, a.code.as_str())),
            Some((400, "MANIFEST_INVALID")),
            "{bad}"
        );
    }
    let huge = format!("{{\"x\":\"{}\"}}", "y".repeat(4 << 20));
    let error =
        client.put_manifest(&reference, media_type::OCI_MANIFEST, huge.as_bytes()).expect_err("too large");
    assert!(matches!(error, Error::TooLarge(_) | Error::Transport { .. }), "{error}");
}

#[test]
fn a_sparse_registry_takes_what_has_missing_parts() {
    let options = ServerOptions { sparse: true, ..ServerOptions::default() };
    let (site, client) = (Site::with(options, |_, _| None), client());
    let image = small_manifest(None, "x");
    client.put_manifest(&site.reference("app:image"), media_type::OCI_MANIFEST, &image).expect("no config");
    let (here, lost) = (Descriptor::of(media_type::OCI_MANIFEST, &image), b"lost".as_slice());
    let entries = vec![here.clone(), Descriptor::of(media_type::OCI_MANIFEST, lost)];
    let index = serde_json::to_vec(&Index::new(entries)).expect("serialises");
    client
        .put_manifest(&site.reference("app:1"), media_type::OCI_INDEX, &index)
        .expect("an image is missing");
    assert_eq!(client.manifest(&site.reference("app:1")).expect("there").bytes, index);
    let absent = site.reference("app").with_digest(Digest::of(lost));
    assert!(matches!(client.manifest(&absent), Err(Error::NotFound { .. })));
    // What is there must still be as large as it is said to be.
    client.put_blob(&site.reference("app"), &blob(b"{}"), &b"{}".to_vec(), &[]).expect("pushed");
    let wrong = String::from_utf8(image.clone()).expect("JSON").replace("\"size\":2", "\"size\":3");
    let error = client
        .put_manifest(&site.reference("app:wrong"), media_type::OCI_MANIFEST, wrong.as_bytes())
        .expect_err("another size");
    assert!(error.to_string().contains("MANIFEST_INVALID"), "{error}");
    // A collection keeps what is there and stumbles over nothing.
    let options = GarbageOptions { grace: Duration::ZERO, untagged: true, ..GarbageOptions::default() };
    collect_garbage(site.directory.path(), &options).expect("collected");
    for name in ["app:1", "app:image"] {
        client.manifest(&site.reference(name)).expect("still there");
    }
    client.blob(&site.reference("app"), &blob(b"{}"), 0).expect("still there, too");
}

#[test]
fn errors_say_what_is_there_instead() {
    let (site, client) = (Site::new(), client());
    for tag in ["1.0", "1.1", "latest"] {
        push_small(&client, &site.reference(&format!("app:{tag}")));
    }
    let text = client.manifest(&site.reference("app:2.0")).expect_err("no such tag").to_string();
    assert!(text.contains("app:2.0: not found: no such tag; 3 tags there: latest, 1.1, 1.0"), "{text}");
    assert!(text.contains("status 404") && text.contains("MANIFEST_UNKNOWN"), "{text}");
    let text = client.tags(&site.reference("ap")).expect_err("no such repository").to_string();
    assert!(text.contains("/ap: not found") && text.contains("NAME_UNKNOWN"), "{text}");
    let digest = Digest::of(b"nothing");
    let text =
        client.manifest(&site.reference(&format!("app@{digest}"))).expect_err("no such digest").to_string();
    assert!(text.contains("no such digest") && text.contains(digest.as_str()), "{text}");
}

#[test]
fn the_wrong_digest_of_a_manifest_is_found_before_it_is_sent() {
    let (site, client) = (Site::new(), client());
    let reference = site.reference("app").with_digest(Digest::of(b"other"));
    let error = client.put_manifest(&reference, media_type::OCI_MANIFEST, &small_manifest(None, "x"));
    assert!(matches!(error, Err(Error::DigestMismatch { .. })));
    assert_eq!(site.count("PUT", "manifests"), 0);
}

#[test]
fn a_read_only_server_changes_nothing() {
    let writable = Site::new();
    push_small(&client(), &writable.reference("app:1"));
    let options = ServerOptions { read_only: true, ..ServerOptions::default() };
    let server =
        RegistryServer::bind("127.0.0.1:0", writable.directory.path(), options).expect("a free port");
    let reference: Reference = format!("{}/app:1", server.addr()).parse().expect("good");
    client().manifest(&reference).expect("readable");
    let bytes = noise(3, 10);
    let error = client().put_blob(&reference, &blob(&bytes), &bytes, &[]).expect_err("read-only");
    assert!(error.to_string().contains("read-only"), "{error}");
    assert!(client().delete_manifest(&reference).is_err());
    assert!(client().manifest(&reference).is_ok());
}

#[test]
fn a_foreign_directory_and_a_taken_address_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("precious"), "x").expect("written");
    let bind = |address: &str, path: &std::path::Path| {
        RegistryServer::bind(address, path, ServerOptions::default()).err().expect("refused").to_string()
    };
    assert!(bind("127.0.0.1:0", directory.path()).contains("not the directory of a registry"));
    let site = Site::new();
    let fresh = tempfile::tempdir().expect("a temporary directory");
    assert!(bind(&site.host(), fresh.path()).contains(&format!("cannot listen on {}", site.host())));
}

#[test]
fn nothing_listens_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let (options, clock) = options();
    let reference: Reference = format!("{address}/a").parse().expect("good");
    let text =
        crossdock_registry::Client::new(options).manifest(&reference).expect_err("refused").to_string();
    assert!(text.contains("nothing listens at") && text.contains(&address.to_string()), "{text}");
    assert!(clock.slept().is_empty(), "nobody waits for a registry that was never there");
}
