//! How a farm is reached, and what it can do.

use std::net::TcpListener;

use crossdock_reapi::{Client, Digest, FarmError, Identity, Settings};
use crossdock_registry::Secret;
use crossdock_testkit::farm::{TestFarm, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{client, settings};

fn error(settings: Settings) -> FarmError {
    match Client::connect(settings) {
        Ok(_) => panic!("it connects"),
        Err(error) => error,
    }
}

#[test]
fn capabilities_are_heeded() {
    let farm = TestFarm::start(1, &[]);
    assert!(client(&farm).capabilities().has_zstd && client(&farm).capabilities().may_update);
    farm.behave(|behaviour| {
        behaviour.has_zstd = false;
        behaviour.may_update = false;
    });
    let client = client(&farm);
    farm.take_requests();
    client
        .update_action_result(&Digest::of(b""), &crossdock_reapi::ActionResult::default())
        .expect("nothing to do");
    assert!(farm.take_requests().is_empty(), "who may not write does not try");
    farm.behave(|behaviour| behaviour.digest_function = 9);
    let error = error(settings(&farm)).to_string();
    assert!(error.contains("BLAKE3") && error.contains(&farm.address), "{error}");
}

#[test]
fn a_busy_server_is_asked_again() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    farm.behave(|behaviour| behaviour.unavailable = 3);
    farm.take_requests();
    assert_eq!(client.action_result(&Digest::of(b""), &[]).expect("an answer"), None);
    assert_eq!(farm.take_requests()["GetActionResult"], 4);
}

#[test]
fn nobody_there_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("grpc://{}", free.local_addr().expect("bound"));
    drop(free);
    let mut settings = Settings::new(address.parse().expect("an address"));
    settings.retries = 1;
    let error = error(settings).to_string();
    assert!(error.contains(&address) && error.contains("refused"), "{error}");
}

#[test]
fn a_token_is_sent_and_never_shown() {
    let farm = TestFarm::start(1, &[]);
    farm.behave(|behaviour| behaviour.token = Some("hunter2".to_string()));
    let mut settings = settings(&farm);
    settings.headers = vec![("authorization".to_string(), Secret::new("Bearer wrong-token"))];
    let refused = error(settings.clone());
    assert!(matches!(refused, FarmError::Unauthorised { .. }), "{refused}");
    assert!(refused.to_string().contains("expired"), "{refused}");
    assert!(!format!("{refused:?} {refused} {settings:?}").contains("wrong-token"));
    settings.headers = vec![("Authorization".to_string(), Secret::new("Bearer hunter2"))];
    Client::connect(settings).expect("the right token");
}

/// An authority, and a certificate of `localhost` that it signed, with its key; all in PEM.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_string()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    (authority, certificate, key.serialize_pem())
}

#[test]
fn both_sides_prove_who_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (authority, certificate, key) = certificates();
    let (client_authority, client_certificate, client_key) = certificates();
    let tls = Tls { certificate, key, client_authority: Some(client_authority) };
    let farm = TestFarm::listen("127.0.0.1:0", 1, &[], Some(tls));
    let mut settings = settings(&farm);
    settings.retries = 0;
    let unknown = error(settings.clone()).to_string();
    assert!(unknown.contains("certificate") || unknown.contains("UnknownIssuer"), "{unknown}");
    settings.authority = Some(file("ca.pem", &authority));
    error(settings.clone());
    settings.identity = Some(Identity {
        certificate: file("own.pem", &client_certificate),
        key: file("key.pem", &client_key),
    });
    Client::connect(settings.clone()).expect("both are known");
    settings.authority = Some(directory.path().join("absent.pem"));
    assert!(matches!(error(settings), FarmError::File { path, .. } if path.ends_with("absent.pem")));
}
