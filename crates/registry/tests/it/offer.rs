//! An image of a store that is served for a moment, to those who know where.

use crossdock_registry::server::{RegistryServer, ServerOptions, offer};
use crossdock_registry::transfer::{PullOptions, pull};

use crate::raw::ask;
use crate::support::*;

#[test]
fn an_offered_index_is_pulled_whole_and_found_by_its_name_alone() {
    let (directory, ours) = store();
    let top = index(&ours, &["linux/amd64", "linux/arm64"]);
    let root = directory.path().join("offer");
    offer(&root, &ours, "secret-name", "v1", &top).expect("offered");
    // Another name for the same content.
    offer(&root, &ours, "other/name", "v2", &top).expect("offered");
    let options = ServerOptions { read_only: true, unlisted: true, sync: false, ..ServerOptions::default() };
    let server = RegistryServer::bind("127.0.0.1:0", &root, options).expect("a free port");
    let host = server.addr().to_string();
    for (name, status) in [
        ("/v2/_catalog", 404),
        ("/metrics", 404),
        ("/healthz", 404),
        ("/v2/", 200),
        ("/v2/secret-name/manifests/v1", 200),
        ("/v2/secret-name/manifests/v2", 404),
        ("/v2/other/name/manifests/v2", 200),
    ] {
        assert_eq!(ask(&host, &format!("GET {name}"), &[], b"").status, status, "{name}");
    }
    let (_theirs, theirs) = store();
    let reference = format!("{host}/secret-name:v1").parse().expect("a name");
    let pulled = pull(&client(), &theirs, &reference, &PullOptions::all()).expect("pulled");
    assert_eq!(pulled.index.expect("an index").digest, top.digest);
    assert_eq!(validate(&theirs, &top), validate(&ours, &top));
}

#[test]
fn a_part_that_the_store_lacks_is_named() {
    let (directory, ours) = store();
    let image = image(&ours, &platform("linux/amd64"), &[1, 2]);
    let (document, _) = ours.read_document(&image).expect("a manifest");
    let layer = document.children()[1].digest.clone();
    std::fs::remove_file(ours.blob_path(&layer)).expect("removed");
    let error =
        offer(&directory.path().join("offer"), &ours, "a", "v1", &image).expect_err("a part is missing");
    assert!(error.to_string().contains(layer.as_str()), "{error}");
}
