//! Programs of others: Debian's `docker-registry` as a peer of the server, `skopeo` as a peer of the client.

use std::path::Path;
use std::process::Command;

use crossdock_oci::{Reference, media_type};
use crossdock_registry::transfer::{PullOptions, PushOptions, pull, push};
use crossdock_registry::{Client, Credential, Credentials, Error, Outcome};
use crossdock_testkit::DockerRegistry as Peer;

use crate::support::*;

fn skopeo(arguments: &[&str]) -> String {
    require_program("skopeo");
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

fn docker(reference: &Reference) -> String {
    format!("docker://{reference}")
}

#[test]
fn the_client_and_debians_registry() {
    let peer = Peer::start("");
    let client = client();
    let (_one, here) = store();
    let top = index(&here, &["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    let reference = peer.reference("team/app:1");
    client.ping(&peer.host).expect("answers");
    push(&client, &here, &reference, &top, &PushOptions::default()).expect("pushed");
    let other = PushOptions { mount_from: vec![reference.clone()], ..PushOptions::default() };
    let mounted = push(&client, &here, &peer.reference("team/copy:1"), &top, &other).expect("pushed");
    assert_eq!((mounted.mounted, mounted.moved), (7, 0));

    let (_two, there) = store();
    let pulled = pull(&client, &there, &reference, &PullOptions::all()).expect("pulled");
    assert_eq!(pulled.images.len(), 3);
    validate(&there, &top);
    assert_eq!(client.tags(&reference).expect("lists"), ["1"]);
    assert_eq!(client.catalog(&peer.host).expect("lists"), ["team/app", "team/copy"]);
    assert_eq!(
        client.head_manifest(&reference).expect("answers").map(|d| d.digest),
        Some(top.digest.clone())
    );
    assert_eq!(client.referrers(&reference, &top.digest, None).expect("none"), []);
    let error = client.manifest(&peer.reference("team/app:2")).expect_err("no such tag");
    assert!(error.to_string().contains("1 tag there: 1"), "{error}");
    client.delete_manifest(&reference.with_digest(top.digest)).expect("deleted");
    assert!(matches!(client.manifest(&reference), Err(Error::NotFound { .. })));
}

#[test]
fn chunks_and_ranges_with_debians_registry() {
    let peer = Peer::start("");
    let mut options = options().0;
    options.chunk_size = Some(64 * 1024);
    let client = Client::new(options);
    let bytes = noise(1, 1_000_000);
    let reference = peer.reference("a");
    assert_eq!(client.put_blob(&reference, &blob(&bytes), &bytes, &[]).expect("pushed"), Outcome::Moved);
    let mut read = Vec::new();
    let mut reader = client.blob(&reference, &blob(&bytes), 400_000).expect("there");
    std::io::Read::read_to_end(&mut reader, &mut read).expect("whole");
    assert!(read == bytes[400_000..]);
    client.delete_blob(&reference, &blob(&bytes).digest).expect("deleted");
    assert_eq!(client.head_blob(&reference, &blob(&bytes).digest).expect("answers"), None);
    client.put_blob(&reference, &blob(b""), &Vec::new(), &[]).expect("an empty one, too");
}

#[test]
fn basic_authentication_of_debians_registry() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("htpasswd");
    // bcrypt of "secret-word".
    std::fs::write(&path, format!("alice:{BCRYPT}\n")).expect("written");
    let extra = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
    let peer = Peer::start(&extra);
    let reference = peer.reference("a:1");
    let mut options = options().0;
    options.credentials = Credentials::none().with(&peer.host, Credential::password("alice", "secret-word"));
    push_small(&Client::new(options.clone()), &reference);
    assert!(matches!(client().manifest(&reference), Err(Error::Unauthorized(_))));
    options.credentials = Credentials::none().with(&peer.host, Credential::password("alice", "wrong"));
    assert!(matches!(Client::new(options).manifest(&reference), Err(Error::Unauthorized(_))));
}

const BCRYPT: &str = "$2b$04$EZnTbvjOsmwzPXfc8hDrfe6dgArXq9cbhouwry3yeoSdxyR3i.G8S";

#[test]
fn skopeo_reads_and_writes_the_server() {
    let site = Site::new();
    let (_one, here) = store();
    let top = index(&here, &["linux/amd64", "linux/arm64"]);
    let reference = site.reference("team/app:1");
    push(&client(), &here, &reference, &top, &PushOptions::default()).expect("pushed");
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &docker(&reference)]);
    assert_eq!(crossdock_oci::Digest::of(raw.as_bytes()), top.digest);
    let listed = skopeo(&[
        "list-tags",
        "--tls-verify=false",
        &docker(&site.reference("team/app")).replace(":latest", ""),
    ]);
    assert!(listed.contains("\"1\""), "{listed}");

    // From the server to a directory and back under another name.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let layout = format!("oci:{}:x", directory.path().join("layout").display());
    skopeo(&["copy", "--all", "--src-tls-verify=false", &docker(&reference), &layout]);
    let copy = site.reference("team/copy:2");
    skopeo(&["copy", "--all", "--dest-tls-verify=false", &layout, &docker(&copy)]);
    let (_two, there) = store();
    let pulled = pull(&client(), &there, &copy, &PullOptions::all()).expect("pulled");
    assert_eq!(pulled.index.expect("an index").digest, top.digest);
    validate(&there, &top);
    skopeo(&["delete", "--tls-verify=false", &docker(&copy)]);
    assert!(client().head_manifest(&copy).expect("answers").is_none());
}

#[test]
fn skopeo_copies_between_both_servers() {
    let (site, peer) = (Site::new(), Peer::start(""));
    let (_one, here) = store();
    let top = index(&here, &["linux/amd64", "linux/arm64"]);
    push(&client(), &here, &peer.reference("app:1"), &top, &PushOptions::default()).expect("pushed");
    let flags = ["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&flags[..], &[&docker(&peer.reference("app:1")), &docker(&site.reference("app:1"))]].concat());
    skopeo(&[&flags[..], &[&docker(&site.reference("app:1")), &docker(&peer.reference("back:1"))]].concat());
    for reference in [site.reference("app:1"), peer.reference("back:1")] {
        let (_two, there) = store();
        pull(&client(), &there, &reference, &PullOptions::all()).expect("pulled");
        validate(&there, &top);
    }
}

#[test]
fn docker_schema_2_is_read() {
    let site = Site::new();
    let (_one, here) = store();
    let descriptor = image(&here, &platform("linux/amd64"), &[1, 2]);
    push(&client(), &here, &site.reference("app:1"), &descriptor, &PushOptions::default()).expect("pushed");
    let target = site.reference("docker:1");
    skopeo(&[
        "copy",
        "--format=v2s2",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &docker(&site.reference("app:1")),
        &docker(&target),
    ]);
    let (_two, there) = store();
    let pulled =
        pull(&client(), &there, &target, &PullOptions::platform(platform("linux/amd64"))).expect("pulled");
    assert_eq!(pulled.images[0].1.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(validate(&there, &pulled.images[0].1), (1, 2));
    // The image is pushed again unchanged.
    push(&client(), &there, &site.reference("docker:2"), &pulled.images[0].1, &PushOptions::default())
        .expect("pushed");
    let fetched = client().manifest(&site.reference("docker:2")).expect("there");
    assert_eq!(fetched.digest, pulled.images[0].1.digest);
}

#[test]
fn skopeo_logs_in_to_the_server() {
    use crossdock_registry::server::{AuthOptions, BearerOptions, ServerOptions};
    let users = std::collections::BTreeMap::from([("u".to_string(), crossdock_registry::Secret::new("pw"))]);
    let bearer = BearerOptions {
        users: users.clone(),
        identity_token: None,
        anonymous_pull: false,
        lifetime: std::time::Duration::from_secs(60),
    };
    for auth in [AuthOptions::Basic(users), AuthOptions::Bearer(bearer)] {
        let site = Site::with(ServerOptions { auth, ..Default::default() }, |_, _| None);
        let mut options = options().0;
        options.credentials = Credentials::none().with(&site.host(), Credential::password("u", "pw"));
        let (_one, here) = store();
        let descriptor = image(&here, &platform("linux/amd64"), &[1]);
        let reference = site.reference("app:1");
        push(&Client::new(options), &here, &reference, &descriptor, &PushOptions::default()).expect("pushed");
        let target = docker(&site.reference("copy:1"));
        let creds =
            ["--src-creds=u:pw", "--dest-creds=u:pw", "--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo(&[&["copy"], &creds[..], &[&docker(&reference), &target]].concat());
        assert!(site.count("PUT", "/copy/manifests/") == 1);
    }
}

#[test]
fn a_login_of_skopeo_is_found() {
    use crossdock_registry::server::{AuthOptions, ServerOptions};
    let users = std::collections::BTreeMap::from([("u".to_string(), crossdock_registry::Secret::new("pw"))]);
    let site =
        Site::with(ServerOptions { auth: AuthOptions::Basic(users), ..Default::default() }, |_, _| None);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("auth.json");
    let path: &Path = &file;
    skopeo(&[
        "login",
        "--tls-verify=false",
        "-u=u",
        "-p=pw",
        "--authfile",
        path.to_str().expect("text"),
        &site.host(),
    ]);
    let environment =
        crossdock_registry::Environment { registry_auth_file: Some(file), ..Default::default() };
    let mut options = options().0;
    options.credentials = Credentials::from_environment(&environment);
    push_small(&Client::new(options), &site.reference("a:1"));
    assert_eq!(site.count("PUT", "/a/manifests/"), 1);
}
