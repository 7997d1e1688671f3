//! Authentication: Basic, Bearer, identity tokens, expiry, and secrets that must not leak.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossdock_oci::{Digest, Reference};
use crossdock_registry::server::faults::Fault;
use crossdock_registry::server::{AuthOptions, BearerOptions, ServerOptions};
use crossdock_registry::{Client, Credential, Credentials, Error, Outcome, Secret};

use crate::support::*;

const PASSWORD: &str = "correct-horse-battery";
const IDENTITY: &str = "identity-of-alice-0123456789";

fn users() -> BTreeMap<String, Secret> {
    BTreeMap::from([("alice".to_string(), Secret::new(PASSWORD))])
}

fn bearer() -> BearerOptions {
    BearerOptions {
        users: users(),
        identity_token: Some(Secret::new(IDENTITY)),
        anonymous_pull: true,
        lifetime: Duration::from_secs(300),
    }
}

fn guarded(auth: AuthOptions) -> Site {
    Site::with(ServerOptions { auth, ..ServerOptions::default() }, |_, _| None)
}

fn client_as(site: &Site, credential: Credential) -> Client {
    let mut options = options().0;
    options.credentials = Credentials::none().with(&site.host(), credential);
    Client::new(options)
}

fn alice(site: &Site) -> Client {
    client_as(site, Credential::password("alice", PASSWORD))
}

#[test]
fn basic_lets_in_and_keeps_out() {
    let site = guarded(AuthOptions::Basic(users()));
    let reference = site.reference("a:1");
    push_small(&alice(&site), &reference);
    alice(&site).manifest(&reference).expect("allowed");
    for client in [client(), client_as(&site, Credential::password("alice", "wrong"))] {
        let error = client.manifest(&reference).expect_err("kept out");
        assert!(matches!(error, Error::Unauthorized(_)), "{error}");
        assert!(error.to_string().contains(&format!("crossdock login {}", site.host())), "{error}");
    }
}

#[test]
fn tokens_are_fetched_once_per_set_of_rights() {
    let site = guarded(AuthOptions::Bearer(bearer()));
    let client = alice(&site);
    for number in 0..5 {
        let bytes = noise(number, 1000);
        client.put_blob(&site.reference("a"), &blob(&bytes), &bytes, &[]).expect("pushed");
    }
    push_small(&client, &site.reference("a:1"));
    assert_eq!(site.count("GET", "/token"), 2, "one to look, one to push");
    client.tags(&site.reference("a")).expect("lists");
    assert_eq!(site.count("GET", "/token"), 2, "a token that allows more serves, too");
    client.catalog(&site.host()).expect("lists");
    client.delete_manifest(&site.reference("a:1")).expect("deleted");
    assert_eq!(site.count("GET", "/token"), 4);
}

#[test]
fn parallel_requests_share_a_token() {
    let site = guarded(AuthOptions::Bearer(bearer()));
    push_small(&alice(&site), &site.reference("a:1"));
    let before = site.count("GET", "/token");
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.manifest(&site.reference("a:1")).expect("public"));
        }
    });
    assert_eq!(site.count("GET", "/token") - before, 1);
}

#[test]
fn anonymous_may_pull_and_not_push() {
    let site = guarded(AuthOptions::Bearer(bearer()));
    let reference = site.reference("a:1");
    push_small(&alice(&site), &reference);
    client().manifest(&reference).expect("public");
    let bytes = noise(1, 10);
    let error = client().put_blob(&reference, &blob(&bytes), &bytes, &[]).expect_err("not allowed");
    assert!(matches!(error, Error::Unauthorized(_)), "{error}");
    let private = guarded(AuthOptions::Bearer(BearerOptions { anonymous_pull: false, ..bearer() }));
    let error = client().manifest(&private.reference("a:1")).expect_err("not allowed");
    assert!(error.to_string().contains("crossdock login"), "{error}");
}

#[test]
fn identity_tokens_are_exchanged() {
    let site = guarded(AuthOptions::Bearer(bearer()));
    let client = client_as(&site, Credential::IdentityToken(Secret::new(IDENTITY)));
    push_small(&client, &site.reference("a:1"));
    assert!(site.count("POST", "/token") > 0);
    assert_eq!(site.count("GET", "/token"), 0);
    let wrong = client_as(&site, Credential::IdentityToken(Secret::new("wrong-token-9876")));
    let error = wrong.manifest(&site.reference("a:1")).expect_err("refused");
    assert!(matches!(error, Error::Unauthorized(_)), "{error}");
}

#[test]
fn a_token_that_expires_is_replaced() {
    let auth = AuthOptions::Bearer(bearer());
    let puts = AtomicUsize::new(0);
    let site = Site::with(ServerOptions { auth, ..ServerOptions::default() }, move |seen, _| {
        // The server forgets the token earlier than the client expects, even in the middle of an upload.
        let first_try = seen.method == "PUT" && puts.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        first_try.then_some(Fault::ExpireTokens)
    });
    let client = alice(&site);
    push_small(&client, &site.reference("a:1"));
    assert_eq!(
        client.manifest(&site.reference("a:1")).expect("there").bytes,
        small_manifest(None, "application/x.small")
    );
}

#[test]
fn a_token_near_its_end_is_not_used() {
    let site = guarded(AuthOptions::Bearer(BearerOptions { lifetime: Duration::from_secs(100), ..bearer() }));
    push_small(&alice(&site), &site.reference("a:1"));
    let (mut options, clock) = options();
    options.credentials = Credentials::none();
    let client = Client::new(options);
    client.manifest(&site.reference("a:1")).expect("public");
    let before = site.count("GET", "/token");
    use crossdock_registry::client::Clock;
    clock.sleep(Duration::from_secs(80));
    client.manifest(&site.reference("a:1")).expect("public");
    assert_eq!(site.count("GET", "/token"), before);
    clock.sleep(Duration::from_secs(15));
    client.manifest(&site.reference("a:1")).expect("public");
    assert_eq!(site.count("GET", "/token"), before + 1);
    assert_eq!(site.count("GET", "/manifests/"), 3, "without a 401 in between, but for the first");
}

#[test]
fn mounting_asks_for_the_source_too() {
    let site = guarded(AuthOptions::Bearer(bearer()));
    let client = alice(&site);
    let bytes = noise(3, 1000);
    client.put_blob(&site.reference("base"), &blob(&bytes), &bytes, &[]).expect("pushed");
    let from = ["base".to_string()];
    assert_eq!(
        client.put_blob(&site.reference("app"), &blob(&bytes), &bytes, &from).expect("mounted"),
        Outcome::Mounted
    );
    let seen = site.seen.lock().expect("not poisoned");
    assert!(seen.iter().any(|s| s.query.contains("repository%3Abase%3Apull")
        && s.query.contains("repository%3Aapp%3Apull%2Cpush")));
}

#[test]
fn credentials_do_not_follow_redirects() {
    let storage = Site::new();
    let bytes = noise(4, 100_000);
    client().put_blob(&storage.reference("a"), &blob(&bytes), &bytes, &[]).expect("pushed");
    let target = format!("http://{}/v2/a/blobs/{}?X-Signature=topsecret", storage.host(), Digest::of(&bytes));
    let site = Site::with(
        ServerOptions { auth: AuthOptions::Basic(users()), ..ServerOptions::default() },
        move |seen, _| {
            (seen.path.contains("/blobs/sha256") && seen.authorization.is_some()).then(|| Fault::Answer {
                status: 307,
                headers: vec![("location".to_string(), target.clone())],
                body: String::new(),
            })
        },
    );
    use std::io::Read;
    let mut read = Vec::new();
    let client = alice(&site);
    client
        .blob(&site.reference("a"), &blob(&bytes), 0)
        .expect("redirected")
        .read_to_end(&mut read)
        .expect("whole");
    assert_eq!(read, bytes);
    assert!(site.seen.lock().expect("not poisoned").iter().any(|s| s.authorization.is_some()));
    let seen = storage.seen.lock().expect("not poisoned");
    let redirected = seen.iter().filter(|s| s.query.contains("X-Signature")).count();
    assert_eq!(redirected, 1);
    assert!(seen.iter().all(|s| s.authorization.is_none()), "{seen:?}");
}

#[test]
fn endless_redirects_end() {
    let site = Site::faulty(|seen, _| {
        (seen.path != "/v2/").then(|| Fault::Answer {
            status: 302,
            headers: vec![("location".to_string(), "/v2/a/manifests/2?secret=s3cr3t".to_string())],
            body: String::new(),
        })
    });
    let text = client().manifest(&site.reference("a:1")).expect_err("no end").to_string();
    assert!(text.contains("redirects to") && !text.contains("s3cr3t"), "{text}");
    assert!(site.seen.lock().expect("not poisoned").len() < 10);
}

#[test]
fn a_token_server_on_plain_http_elsewhere_gets_nothing() {
    let site = Site::faulty(|_, _| {
        Some(Fault::Answer {
            status: 401,
            headers: vec![(
                "www-authenticate".to_string(),
                "Bearer realm=\"http://192.0.2.1/token\"".to_string(),
            )],
            body: String::new(),
        })
    });
    let text = alice(&site).manifest(&site.reference("a:1")).expect_err("refused").to_string();
    assert!(text.contains("not sent by plain http") && text.contains("--insecure"), "{text}");
}

/// No failure makes a message or `Debug` show a secret.
#[test]
fn secrets_are_in_no_message() {
    let echo = |seen: &crossdock_registry::server::faults::Seen| {
        // A token server that quotes the request.
        format!("you said {} {}", seen.authorization.clone().unwrap_or_default(), seen.query)
    };
    let spoil = [
        Arc::new(move |path: &str, text: String| (path == "/token").then(|| Fault::status(500, &text)))
            as Arc<dyn Fn(&str, String) -> Option<Fault> + Send + Sync>,
        Arc::new(|path: &str, text: String| (path == "/token").then(|| Fault::status(401, &text))),
        Arc::new(|path: &str, text: String| (path == "/token").then(|| Fault::status(200, &text))),
        Arc::new(|path: &str, _| {
            (path == "/token")
                .then(|| Fault::status(200, "{\"token\":\"issued-token-42\",\"expires_in\":\"x\"}"))
        }),
        Arc::new(|path: &str, _| {
            (path == "/token").then(|| Fault::status(200, "{\"token\":\"issued-token-42\\n\"}"))
        }),
        Arc::new(|path: &str, _| (path == "/token").then_some(Fault::Close)),
        Arc::new(|path: &str, _| path.contains("/manifests/").then_some(Fault::Close)),
    ];
    let credentials = [
        Credential::password("alice", PASSWORD),
        Credential::password("alice", "wrong-password-1"),
        Credential::IdentityToken(Secret::new(IDENTITY)),
    ];
    for (case, spoil) in spoil.iter().enumerate() {
        for credential in &credentials {
            let hook = spoil.clone();
            let auth = AuthOptions::Bearer(bearer());
            let site = Site::with(ServerOptions { auth, ..ServerOptions::default() }, move |seen, _| {
                hook(&seen.path, echo(seen))
            });
            let client = client_as(&site, credential.clone());
            let error = client.manifest(&site.reference("a:1")).expect_err("spoiled");
            let text =
                format!("{error} {error:?} {client:?} {:?} {credential:?}", client.options().credentials);
            let encoded = "YWxpY2U6"; // "alice:" in Base64
            for secret in [PASSWORD, IDENTITY, "wrong-password-1", "issued-token-42", encoded] {
                assert!(!text.contains(secret), "case {case}: {secret} in {text}");
            }
        }
    }
}

#[test]
fn login_verifies_before_it_stores() {
    let site = guarded(AuthOptions::Bearer(BearerOptions { anonymous_pull: false, ..bearer() }));
    let home = tempfile::tempdir().expect("a temporary directory");
    let environment =
        crossdock_registry::Environment { home: Some(home.path().to_path_buf()), ..Default::default() };
    let mut options = options().0;
    options.credentials = Credentials::from_environment(&environment);
    let client = Client::new(options.clone());
    let wrong = client.login(&site.host(), &Credential::password("alice", "wrong-password-1"));
    assert!(matches!(wrong, Err(Error::WrongCredentials(_))), "{wrong:?}");
    assert!(!home.path().join(".docker").exists());
    let place = client.login(&site.host(), &Credential::password("alice", PASSWORD)).expect("accepted");
    assert!(place.ends_with(".docker/config.json"), "{place}");
    let reference: Reference = site.reference("a:1");
    push_small(&Client::new(options.clone()), &reference);
    client.logout(&site.host()).expect("was logged in");
    assert!(matches!(client.logout(&site.host()), Err(Error::NotLoggedIn(_))));
    assert!(matches!(Client::new(options).manifest(&reference), Err(Error::Unauthorized(_))));
}
