//! Users of htpasswd files, rights by repository, pulls without a name, TLS; and files that change while the
//! server runs.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_oci::media_type;
use crossdock_registry::hosts::{HostPaths, Hosts};
use crossdock_registry::server::{
    AuthFiles, AuthOptions, RegistryServer, ServerOptions, TlsFiles, htpasswd_line,
};
use crossdock_registry::{Client, Credential, Credentials, Error};

use crate::raw::{Answer, Wire, ask, push_blob};
use crate::support::*;

/// The password "correct horse" as Apache's htpasswd -B and as libxcrypt hash it.
const OTHERS: [&str; 3] = [
    "$2y$05$iuXMUVCgiABMRgcAxxab8.PO0Wqb/EYEAxrkenhMoTJBkd67GlT4a",
    "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
    "$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
];

const SOON: Duration = Duration::from_secs(10);

/// A server with its own files, and the notices that it gave its operator.
struct Guarded {
    site: Site,
    files: tempfile::TempDir,
    told: Arc<Mutex<Vec<String>>>,
}

impl Guarded {
    fn new(users: &str, rights: Option<&str>, anonymous_pull: bool) -> Guarded {
        let files = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(files.path().join("htpasswd"), users).expect("written");
        let rights = rights.map(|rights| {
            std::fs::write(files.path().join("rights"), rights).expect("written");
            files.path().join("rights")
        });
        let htpasswd = files.path().join("htpasswd");
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = told.clone();
        let options = ServerOptions {
            auth: AuthOptions::Files(AuthFiles { htpasswd, rights, anonymous_pull }),
            notice: Arc::new(move |text| heard.lock().expect("not poisoned").push(text.to_string())),
            ..ServerOptions::default()
        };
        Guarded { site: Site::with(options, |_, _| None), files, told }
    }

    /// Sends a request as a user, or without a name.
    fn ask(&self, user: Option<(&str, &str)>, line: &str, body: &[u8]) -> Answer {
        let header =
            user.map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        let headers: Vec<(&str, &str)> = header.iter().map(|h| ("authorization", h.as_str())).collect();
        ask(&self.site.host(), line, &headers, body)
    }

    fn client(&self, user: &str, password: &str) -> Client {
        let mut options = options().0;
        options.credentials =
            Credentials::none().with(&self.site.host(), Credential::password(user, password));
        Client::new(options)
    }

    /// Waits until a changed file has come into force.
    fn wait(&self, what: &str, happened: impl Fn() -> bool) {
        let began = Instant::now();
        while !happened() {
            assert!(began.elapsed() < SOON, "{what}");
            std::thread::yield_now();
        }
    }
}

fn line(user: &str, password: &str) -> String {
    htpasswd_line(user, password).expect("a line")
}

#[test]
fn passwords_are_compared_with_their_hashes() {
    let hash = line("alice", "s3cret");
    let text = hash.split_once(':').expect("two parts").1;
    // All three prefixes mean the same.
    let users = ["$2y$", "$2b$", "$2a$"]
        .map(|prefix| format!("u{}:{}\n", &prefix[2..3], text.replacen("$2y$", prefix, 1)));
    let guarded = Guarded::new(&format!("{hash}\n{}", users.concat()), None, false);
    let status = |user: Option<(&str, &str)>| guarded.ask(user, "GET /v2/", b"").status;
    for user in ["alice", "uy", "ub", "ua"] {
        assert_eq!(status(Some((user, "s3cret"))), 200, "{user}");
    }
    for wrong in
        [Some(("alice", text)), Some(("alice", "")), Some(("alice", "S3cret")), Some(("bob", "s3cret")), None]
    {
        let answer = guarded.ask(wrong, "GET /v2/", b"");
        assert_eq!(
            (answer.status, answer.header("www-authenticate").as_str()),
            (401, "Basic realm=\"crossdock registry\"")
        );
    }
    push_small(&guarded.client("alice", "s3cret"), &guarded.site.reference("a:1"));
    assert!(matches!(
        guarded.client("alice", "no").manifest(&guarded.site.reference("a:1")),
        Err(Error::Unauthorized(_))
    ));
    // The answer does not reveal whether the user exists, and the time hardly does.
    let time = |user: &str, number: usize| {
        let began = Instant::now();
        assert_eq!(status(Some((user, &format!("wrong{number}")))), 401);
        began.elapsed()
    };
    // The fastest of several, since other processes use the machine, too.
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    let is_alike = (0..20).any(|number| {
        known = known.min(time("alice", number));
        unknown = unknown.min(time("nobody", number));
        number > 3 && unknown > known / 3 && known > unknown / 3
    });
    assert!(is_alike, "known {known:?}, unknown {unknown:?}");
    // A correct pair is compared once.
    let began = Instant::now();
    (0..50).for_each(|_| assert_eq!(status(Some(("alice", "s3cret"))), 200));
    assert!(began.elapsed() < known * 25, "{:?} for 50, {known:?} for a comparison", began.elapsed());
}

#[test]
fn files_of_other_programs_are_read() {
    let lines: Vec<String> = OTHERS.iter().enumerate().map(|(n, hash)| format!("user{n}:{hash}\n")).collect();
    let guarded = Guarded::new(&lines.concat(), None, false);
    for (number, hash) in OTHERS.iter().enumerate() {
        let user = format!("user{number}");
        assert_eq!(guarded.ask(Some((&user, "correct horse")), "GET /v2/", b"").status, 200, "{user}");
        assert_eq!(guarded.ask(Some((&user, "correct hors")), "GET /v2/", b"").status, 401, "{user}");
        assert_eq!(guarded.ask(Some((&user, hash)), "GET /v2/", b"").status, 401, "{user}");
    }
}

#[test]
fn many_wrong_passwords_delay_nobody_else() {
    let guarded = Guarded::new(&line("alice", "s3cret"), None, true);
    push_small(&guarded.client("alice", "s3cret"), &guarded.site.reference("a:1"));
    let header = format!("Basic {}", STANDARD.encode("alice:guess"));
    let _guessing: Vec<Wire> = (0..300)
        .map(|_| {
            let mut wire = Wire::connect(&guarded.site.host());
            wire.head("GET /v2/", &[("authorization", &header)]);
            wire
        })
        .collect();
    let began = Instant::now();
    assert_eq!(guarded.ask(None, "GET /v2/a/manifests/1", b"").status, 200);
    assert_eq!(guarded.ask(Some(("alice", "s3cret")), "GET /v2/", b"").status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // When too many passwords wait, the answer comes at once.
    let busy = guarded.ask(Some(("alice", "other")), "GET /v2/", b"");
    assert!(busy.status == 503 && !busy.header("retry-after").is_empty() || busy.status == 401, "{busy:?}");
}

#[test]
fn users_and_passwords_change_while_serving() {
    let guarded = Guarded::new(&line("alice", "first"), None, false);
    let path = guarded.files.path().join("htpasswd");
    let status = |user, password| guarded.ask(Some((user, password)), "GET /v2/", b"").status;
    assert_eq!((status("alice", "first"), status("bob", "hello")), (200, 401));
    std::fs::write(&path, format!("{}\n{}\n", line("alice", "second"), line("bob", "hello")))
        .expect("written");
    guarded.wait("bob is let in", || status("bob", "hello") == 200);
    // The remembered pair does not count any more.
    assert_eq!((status("alice", "first"), status("alice", "second")), (401, 200));
    std::fs::write(&path, "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n").expect("written");
    guarded.wait("the operator is told", || {
        status("bob", "hello");
        !guarded.told.lock().expect("not poisoned").is_empty()
    });
    let told = guarded.told.lock().expect("not poisoned").concat();
    assert!(
        told.contains("line 1: the password of bob is hashed with SHA-1") && !told.contains("W6ph5"),
        "{told}"
    );
    assert!(told.contains("stays in force"), "{told}");
    assert_eq!(status("bob", "hello"), 200);
    std::fs::remove_file(&path).expect("removed");
    guarded.wait("told again", || {
        status("bob", "hello");
        guarded.told.lock().expect("not poisoned").len() == 2
    });
}

#[test]
fn a_file_of_another_form_is_refused_at_the_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let htpasswd = directory.path().join("htpasswd");
    std::fs::write(&htpasswd, "alice:secret-in-clear\n").expect("written");
    let auth = AuthOptions::Files(AuthFiles { htpasswd, rights: None, anonymous_pull: false });
    let options = ServerOptions { auth, ..ServerOptions::default() };
    let error =
        RegistryServer::bind("127.0.0.1:0", &directory.path().join("r"), options).err().expect("refused");
    let text = error.to_string();
    assert!(text.contains("htpasswd: line 1: the password of alice is not hashed"), "{text}");
    assert!(!text.contains("secret-in-clear"), "{text}");
}

#[test]
fn everybody_pulls_and_users_push() {
    let guarded = Guarded::new(&line("alice", "s3cret"), None, true);
    let reference = guarded.site.reference("a:1");
    push_small(&guarded.client("alice", "s3cret"), &reference);
    client().manifest(&reference).expect("without a name");
    let bytes = noise(1, 10);
    let error = client().put_blob(&reference, &blob(&bytes), &bytes, &[]).expect_err("not without a name");
    assert!(matches!(error, Error::Unauthorized(_)), "{error}");
    // Plain requests, as curl sends them. The base of the API demands a password, so that Docker sends one.
    let asked = |user, line: &str| guarded.ask(user, line, b"").status;
    let alice = Some(("alice", "s3cret"));
    assert_eq!(asked(None, "GET /v2/a/manifests/1"), 200);
    assert_eq!(asked(None, "GET /v2/"), 401);
    assert_eq!(asked(alice, "GET /v2/"), 200);
    assert_eq!(asked(None, "POST /v2/a/blobs/uploads/"), 401);
    assert_eq!(asked(alice, "POST /v2/a/blobs/uploads/"), 202);
    assert_eq!(asked(None, "DELETE /v2/a/manifests/1"), 401);
    assert_eq!(asked(Some(("alice", "wrong")), "GET /v2/"), 401);
    let challenge = guarded.ask(None, "POST /v2/a/blobs/uploads/", b"").header("www-authenticate");
    assert!(
        challenge.starts_with("Bearer realm=\"http://") && challenge.contains("repository:a:pull,push"),
        "{challenge}"
    );
}

#[test]
fn rights_are_kept_by_repository() {
    let users = format!("{}\n{}\n{}\n", line("alice", "a"), line("bob", "b"), line("ci", "c"));
    let rights = "alice all team/**\nbob pull team/*\nci pull,push team/app\nanonymous pull public/*\n";
    let guarded = Guarded::new(&users, Some(rights), false);
    let (alice, bob, ci) = (Some(("alice", "a")), Some(("bob", "b")), Some(("ci", "c")));
    push_small(&guarded.client("alice", "a"), &guarded.site.reference("team/app:1"));
    push_small(&guarded.client("ci", "c"), &guarded.site.reference("team/app:2"));
    guarded.client("bob", "b").manifest(&guarded.site.reference("team/app:1")).expect("bob may pull");
    for (user, line, expected) in [
        (alice, "POST /v2/other/blobs/uploads/", 403),
        (bob, "POST /v2/team/app/blobs/uploads/", 403),
        (bob, "GET /v2/team/app/tags/list", 200),
        (bob, "GET /v2/team/app/deep/tags/list", 403),
        (ci, "DELETE /v2/team/app/manifests/1", 403),
        (ci, "GET /v2/team/other/tags/list", 403),
        (None, "GET /v2/team/app/tags/list", 401),
        (None, "GET /v2/public/x/tags/list", 404),
        (alice, "GET /v2/public/x/tags/list", 404),
        (alice, "DELETE /v2/team/app/manifests/1", 202),
    ] {
        let answer = guarded.ask(user, line, b"");
        assert_eq!(answer.status, expected, "{user:?} {line}: {}", answer.text());
    }
    let denied = guarded.ask(bob, "POST /v2/team/app/blobs/uploads/", b"").text();
    assert!(denied.contains("bob has no right to push in team/app"), "{denied}");
    // Tokens hold no more rights than the user has, and the client learns why it is refused.
    let error = guarded
        .client("bob", "b")
        .delete_manifest(&guarded.site.reference("team/app:2"))
        .expect_err("no right");
    assert!(matches!(error, Error::Denied(_)), "{error}");
    // A mount needs the right to pull from its source.
    let secret = push_blob_as(&guarded, alice, "team/secret", b"secret bytes");
    let mount = format!("POST /v2/team/app/blobs/uploads/?mount={secret}&from=team/secret");
    assert_eq!((guarded.ask(ci, &mount, b"").status, guarded.ask(alice, &mount, b"").status), (202, 201));
    // Each user sees in the catalog what they may pull.
    push_small(&guarded.client("alice", "a"), &guarded.site.reference("team/x/y:1"));
    let catalog = |user| guarded.ask(user, "GET /v2/_catalog", b"").json()["repositories"].clone();
    assert_eq!(catalog(alice), serde_json::json!(["team/app", "team/x/y"]));
    assert_eq!(catalog(bob), serde_json::json!(["team/app"]));
    assert_eq!(catalog(None), serde_json::json!([]));
    // The rights can change, too.
    std::fs::write(guarded.files.path().join("rights"), "bob pull,push team/*\n").expect("written");
    guarded.wait("bob may push", || guarded.ask(bob, "POST /v2/team/app/blobs/uploads/", b"").status == 202);
    assert_eq!(guarded.ask(alice, "GET /v2/team/app/tags/list", b"").status, 403);
}

#[test]
fn a_token_takes_no_right_away_that_everybody_has() {
    let users = line("ci", "c");
    let rights = "ci pull,push team/* base/*\nanonymous pull base/*\n";
    let guarded = Guarded::new(&users, Some(rights), false);
    let ci = Some(("ci", "c"));
    let (open, closed) = (b"open to all".as_slice(), b"of the team".as_slice());
    let open = push_blob_as(&guarded, ci, "base/os", open);
    let closed = push_blob_as(&guarded, ci, "team/app", closed);
    // A client that asked for a token for the repository it pushes to, and for nothing else.
    let granted = guarded.ask(ci, "GET /token?service=x&scope=repository:team/new:pull,push", b"");
    let token = format!("Bearer {}", granted.json()["token"].as_str().expect("a token"));
    let bears = [("authorization", token.as_str())];
    let bearing = |line: &str| ask(&guarded.site.host(), line, &bears, b"").status;
    let mount = |digest, from| bearing(&format!("POST /v2/team/new/blobs/uploads/?mount={digest}{from}"));
    assert_eq!(mount(&open, "&from=base/os"), 201);
    assert_eq!(mount(&closed, "&from=team/app"), 202, "the token does not name team/app");
    assert_eq!(bearing(&format!("GET /v2/base/os/blobs/{open}")), 200);
    assert_eq!(bearing(&format!("GET /v2/team/app/blobs/{closed}")), 401);
    assert_eq!(bearing("POST /v2/base/os/blobs/uploads/"), 401, "everybody may pull there, not push");
    // Without a source, any repository counts that the client may pull from.
    let again = push_blob_as(&guarded, ci, "base/os", b"open, too");
    assert_eq!((mount(&again, ""), mount(&closed, "")), (201, 202));
    let uploaded = format!("POST /v2/team/new/blobs/uploads/?mount={closed}");
    assert_eq!(guarded.ask(ci, &uploaded, b"").status, 201, "a password proves all rights of the user");
}

fn push_blob_as(
    guarded: &Guarded,
    user: Option<(&str, &str)>,
    name: &str,
    bytes: &[u8],
) -> crossdock_oci::Digest {
    let digest = crossdock_oci::Digest::of(bytes);
    let line = format!("POST /v2/{name}/blobs/uploads/?digest={digest}");
    assert_eq!(guarded.ask(user, &line, bytes).status, 201);
    digest
}

/// A self-signed certificate for this machine and its key, written to a directory.
fn certificate(directory: &Path) -> String {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_string(), "127.0.0.1".to_string()]).expect("made");
    std::fs::write(directory.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    made.cert.pem()
}

/// A client that trusts one certificate for a host.
fn trusting(host: &str, pem: &str) -> (tempfile::TempDir, Client) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(directory.path().join(host)).expect("made");
    std::fs::write(directory.path().join(host).join("ca.crt"), pem).expect("written");
    let paths = HostPaths { certs_d: vec![directory.path().into()], ..HostPaths::default() };
    let mut options = options().0;
    options.hosts = Hosts::read(&paths).expect("read");
    (directory, Client::new(options))
}

#[test]
fn tls_with_a_certificate_that_changes() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let first = certificate(files.path());
    let tls = TlsFiles { certificate: files.path().join("cert.pem"), key: files.path().join("key.pem") };
    let site = Site::with(ServerOptions { tls: Some(tls), ..ServerOptions::default() }, |_, _| None);
    let reference = site.reference("a:1");
    let (_first, trusted) = trusting(&site.host(), &first);
    push_small(&trusted, &reference);
    let bytes = noise(1, 3_000_000);
    trusted.put_blob(&reference, &blob(&bytes), &bytes, &[]).expect("pushed");
    let mut read = Vec::new();
    let mut reader = trusted.blob(&reference, &blob(&bytes), 0).expect("there");
    std::io::Read::read_to_end(&mut reader, &mut read).expect("whole");
    assert!(read == bytes);
    // A client that speaks plain HTTP gets an explanation.
    let answer = ask(&site.host(), "GET /v2/", &[], b"");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("this registry speaks https"), "{}", answer.text());
    // Renewed: new connections get the new certificate.
    let second = certificate(files.path());
    let began = Instant::now();
    loop {
        let (_second, renewed) = trusting(&site.host(), &second);
        match renewed.manifest(&reference) {
            Ok(_) => break,
            Err(e) => assert!(began.elapsed() < SOON, "{e}"),
        }
    }
    let (_first, old) = trusting(&site.host(), &first);
    assert!(old.manifest(&reference).is_err());
}

#[test]
fn wrong_keys_are_named_and_not_shown() {
    let files = tempfile::tempdir().expect("a temporary directory");
    certificate(files.path());
    let path = |name: &str| files.path().join(name);
    let bind = |certificate: &str, key: &str| {
        let tls = TlsFiles { certificate: path(certificate), key: path(key) };
        let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
        RegistryServer::bind("127.0.0.1:0", &path("r"), options).err().expect("refused").to_string()
    };
    let other = tempfile::tempdir().expect("a temporary directory");
    certificate(other.path());
    std::fs::copy(other.path().join("key.pem"), path("other.pem")).expect("copied");
    std::fs::write(path("bad.pem"), "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n")
        .expect("written");
    assert!(bind("cert.pem", "other.pem").contains("not the key of the certificate in"));
    assert!(bind("cert.pem", "cert.pem").contains("no private key"));
    assert!(bind("key.pem", "key.pem").contains("no certificate"));
    assert!(bind("absent.pem", "key.pem").contains("absent.pem"));
    let text = bind("cert.pem", "bad.pem");
    assert!(text.contains("bad.pem") && !text.contains("secret"), "{text}");
}

#[test]
fn tags_that_do_not_change() {
    let options = ServerOptions { immutable_tags: true, ..ServerOptions::default() };
    let site = Site::with(options, |_, _| None);
    push_blob(&site.host(), "a", b"{}");
    let put = |path: &str, kind: &str| {
        let manifest = small_manifest(None, kind);
        ask(
            &site.host(),
            &format!("PUT /v2/{path}"),
            &[("content-type", media_type::OCI_MANIFEST)],
            &manifest,
        )
    };
    assert_eq!(put("a/manifests/v1", "x/one").status, 201);
    assert_eq!(put("a/manifests/v1", "x/one").status, 201, "the same again");
    let refused = put("a/manifests/v1", "x/two");
    assert!(
        refused.status == 409 && refused.text().contains("the tag v1 is there already"),
        "{}",
        refused.text()
    );
    let digest = crossdock_oci::Digest::of(&small_manifest(None, "x/two"));
    let both = put(&format!("a/manifests/{digest}?tag=v2&tag=v1"), "x/two");
    assert_eq!(both.status, 409);
    assert_eq!(ask(&site.host(), "GET /v2/a/tags/list", &[], b"").json()["tags"], serde_json::json!(["v1"]));
    assert_eq!(put(&format!("a/manifests/{digest}?tag=v2"), "x/two").status, 201);
    let delete = |what: &str| ask(&site.host(), &format!("DELETE /v2/a/manifests/{what}"), &[], b"").status;
    assert_eq!((delete("v2"), delete(digest.as_str()), delete("v3")), (405, 405, 404));
    // Nor does what they need.
    let config = crossdock_oci::Digest::of(b"{}");
    let delete_blob = |digest: &crossdock_oci::Digest| {
        ask(&site.host(), &format!("DELETE /v2/a/blobs/{digest}"), &[], b"").status
    };
    push_blob(&site.host(), "a", b"unused");
    assert_eq!(delete_blob(&config), 405);
    assert_eq!(delete_blob(&crossdock_oci::Digest::of(b"unused")), 202);
    assert_eq!(delete_blob(&crossdock_oci::Digest::of(b"absent")), 404);
    let kept = ask(&site.host(), "DELETE /v2/a/manifests/v2", &[], b"");
    assert_eq!(kept.header("allow"), "GET, HEAD, PUT");
    assert!(kept.text().contains("the tag v2 stays"), "{}", kept.text());
    let error = client().delete_manifest(&site.reference("a:v2")).expect_err("the tag stays").to_string();
    assert!(
        error.contains("a:v2: the registry refuses DELETE") && error.contains("the tag v2 stays"),
        "{error}"
    );
    // Of simultaneous pushes, exactly one succeeds.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|n| scope.spawn(move || put("a/manifests/race", &format!("x/{n}")).status)).collect();
        threads.into_iter().map(|t| t.join().expect("answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 1, "{statuses:?}");
}
