//! The client of the cache service of GitHub Actions, and of its relatives.

use crossdock_registry::client::{ActionsCache, ActionsProtocol};
use crossdock_registry::{Client, Secret};
use crossdock_testkit::ActionsService;
use crossdock_testkit::actions::{SIGNATURE, TOKEN};

use crate::support::client as quick;

fn cache(service: &ActionsService, protocol: ActionsProtocol) -> ActionsCache {
    ActionsCache { url: service.url(), token: Secret::new(TOKEN), protocol, version: "ab12".to_string() }
}

const BOTH: [ActionsProtocol; 2] = [ActionsProtocol::V1, ActionsProtocol::V2];

/// The content of an entry, by the address that the client finds.
fn read(client: &Client, cache: &ActionsCache, key: &str, prefix: bool) -> Option<(String, Vec<u8>)> {
    let entry = client.actions_entry(cache, key, prefix).expect("asked")?;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("content");
    client.download(entry.url.expose(), &path).expect("downloaded");
    Some((entry.key, std::fs::read(path).expect("a file")))
}

#[test]
fn entries_are_made_once_and_found_by_key_or_prefix() {
    for protocol in BOTH {
        let (service, client) = (ActionsService::start(), quick());
        let cache = cache(&service, protocol);
        assert_eq!(read(&client, &cache, "a#", true), None);
        for (key, content) in [("a#1", "one"), ("a#2", "two"), ("b", ""), ("a", "a itself")] {
            let content = content.as_bytes().to_vec();
            let made = client.save_actions_entry(&cache, key, content.len() as u64, &content);
            assert!(made.expect("saved"), "{key}");
        }
        assert!(!client.save_actions_entry(&cache, "a#1", 1, &b"x".to_vec()).expect("answered"));
        assert_eq!(read(&client, &cache, "a#", true), Some(("a#2".to_string(), b"two".to_vec())));
        assert_eq!(read(&client, &cache, "a#1", false), Some(("a#1".to_string(), b"one".to_vec())));
        assert_eq!(read(&client, &cache, "b", false), Some(("b".to_string(), Vec::new())));
        // A server may answer with a longer key, which is another entry.
        assert_eq!(read(&client, &cache, "a#", false), None);
        assert!(client.save_actions_entry(&cache, "Big#1", 1, &b"x".to_vec()).expect("saved"));
        assert_eq!(read(&client, &cache, "Big#", true).expect("found").1, b"x");
        let other = ActionsCache { version: "cd".to_string(), ..cache };
        assert_eq!(read(&client, &other, "b", false), None);
    }
}

#[test]
fn large_entries_are_sent_in_parts() {
    let content: Vec<u8> = (0..70 * 1024 * 1024u32).map(|n| (n / 251) as u8).collect();
    for protocol in BOTH {
        let (service, client) = (ActionsService::start(), quick());
        let cache = cache(&service, protocol);
        assert!(client.save_actions_entry(&cache, "k", content.len() as u64, &content).expect("saved"));
        let parts =
            service.requests().iter().filter(|r| r.starts_with("PATCH") || r.starts_with("PUT")).count();
        // Blocks are followed by their list.
        assert_eq!(parts, if protocol == ActionsProtocol::V1 { 3 } else { 4 });
        assert!(service.content("k") == content);
    }
}

#[test]
fn failures_are_repeated_or_explained() {
    for protocol in BOTH {
        let (service, client) = (ActionsService::start(), quick());
        let cache = cache(&service, protocol);
        service.fail_next(&[(503, "later"), (429, ""), (500, "")]);
        assert!(client.save_actions_entry(&cache, "k", 3, &b"abc".to_vec()).expect("saved at last"));
        service.cut_next(&[1, 2]);
        assert_eq!(read(&client, &cache, "k", false), Some(("k".to_string(), b"abc".to_vec())));

        let says = |cache: &ActionsCache, texts: &[&str]| {
            let error = client.actions_entry(cache, "k", false).expect_err("refused").to_string();
            assert!(texts.iter().all(|text| error.contains(text)), "{error}");
            assert!(!error.contains("wrong.token") && !error.contains(SIGNATURE), "{error}");
        };
        let wrong = ActionsCache { token: Secret::new("wrong.token"), ..cache.clone() };
        says(&wrong, &["the cache service at 127.0.0.1", "ACTIONS_RUNTIME_TOKEN", "status 401"]);
        let nowhere = ActionsCache { url: "file:///x".to_string(), ..cache.clone() };
        says(&nowhere, &["not an http address", "ACTIONS_RESULTS_URL"]);
        service.fail_next(&[(200, "<html>")]);
        says(&cache, &["unusable answer", "status 200"]);
        let unprintable = ActionsCache { token: Secret::new("wrong.token\n"), ..cache.clone() };
        says(&unprintable, &["no header can have"]);
    }
}
