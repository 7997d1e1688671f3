//! Whole images: push, pull, platforms, resumption.

use std::sync::{Arc, Mutex};

use crossdock_oci::manifest::Descriptor;
use crossdock_oci::store::Ingest;
use crossdock_oci::{Digest, StoreError};
use crossdock_registry::server::faults::Fault;
use crossdock_registry::transfer::{LayerReady, Platforms, PullOptions, PushOptions, pull, push, push_blob};
use crossdock_registry::{Client, Error, Outcome};

use crate::support::*;

const THREE: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/arm/v7"];

/// A server with an index of three platforms, and the index.
fn published(site: &Site) -> Descriptor {
    let (_directory, store) = store();
    let top = index(&store, &THREE);
    push(&client(), &store, &site.reference("app:1"), &top, &PushOptions::default()).expect("pushed");
    top
}

#[test]
fn what_is_pushed_is_pulled() {
    let site = Site::new();
    let (_one, here) = store();
    let top = index(&here, &THREE);
    let reference = site.reference("team/app:1");
    let pushed = push(&client(), &here, &reference, &top, &PushOptions::default()).expect("pushed");
    // Three configs, three layers and a shared one.
    assert_eq!((pushed.digest.clone(), pushed.moved, pushed.existed), (top.digest.clone(), 7, 0));
    let again = push(&client(), &here, &reference, &top, &PushOptions::default()).expect("pushed");
    assert_eq!((again.moved, again.existed), (0, 7));

    let (_two, there) = store();
    let pulled = pull(&client(), &there, &reference, &PullOptions::all()).expect("pulled");
    assert_eq!(pulled.index.as_ref().map(|i| &i.digest), Some(&top.digest));
    let platforms: Vec<String> = pulled.images.iter().map(|(p, _)| p.to_string()).collect();
    assert_eq!(platforms, THREE);
    assert_eq!(validate(&there, &top), (3, 4));
    for text in THREE {
        let entry = there.require(&reference, &platform(text)).expect("recorded");
        assert_eq!(there.load_image(&entry.manifest).expect("complete").config.platform().to_string(), text);
    }
    let again = pull(&client(), &there, &reference, &PullOptions::all()).expect("pulled");
    assert_eq!(again.bytes_moved, 0);
}

#[test]
fn one_platform_brings_one_image() {
    let site = Site::new();
    let top = published(&site);
    let (_directory, store) = store();
    let reference = site.reference("app:1");
    let pulled =
        pull(&client(), &store, &reference, &PullOptions::platform(platform("linux/arm64"))).expect("pulled");
    assert_eq!(pulled.images.len(), 1);
    assert_eq!(site.count("GET", "/blobs/"), 3, "a config and two layers");
    assert_eq!(
        store.image(&reference).expect("readable").expect("recorded").index.expect("kept").digest,
        top.digest
    );
    // A second platform joins the first; the shared layer is not fetched again.
    let options =
        PullOptions { platforms: Platforms::Only(vec![platform("linux/arm/v7")]), ..PullOptions::all() };
    pull(&client(), &store, &reference, &options).expect("pulled");
    assert_eq!(site.count("GET", "/blobs/"), 5);
    assert_eq!(store.image(&reference).expect("readable").expect("recorded").images.len(), 2);
    // A pull by digest sends no request for content that is here.
    let requests = site.seen.lock().expect("not poisoned").len();
    let by_digest = reference.with_digest(top.digest);
    pull(&client(), &store, &by_digest, &PullOptions::platform(platform("linux/arm64"))).expect("here");
    assert_eq!(site.seen.lock().expect("not poisoned").len(), requests);
}

#[test]
fn a_platform_that_is_not_there_lists_what_is() {
    let site = Site::new();
    published(&site);
    let (_directory, store) = store();
    let reference = site.reference("app:1");
    let error = pull(&client(), &store, &reference, &PullOptions::platform(platform("linux/s390x")));
    let text = error.expect_err("not offered").to_string();
    assert_eq!(
        text,
        format!("no image for linux/s390x in {reference}; it offers: linux/amd64, linux/arm64, linux/arm/v7")
    );
    assert!(store.image(&reference).expect("readable").is_none());
}

#[test]
fn a_single_image_of_another_platform_is_told() {
    let site = Site::new();
    let (_one, here) = store();
    let descriptor = image(&here, &platform("linux/arm64"), &[1]);
    let reference = site.reference("single:1");
    push(&client(), &here, &reference, &descriptor, &PushOptions::default()).expect("pushed");
    let (_two, there) = store();
    let mut options = PullOptions::platform(platform("linux/amd64"));
    let text = pull(&client(), &there, &reference, &options).expect_err("another").to_string();
    assert_eq!(text, format!("{reference} is a single image for linux/arm64, not for linux/amd64"));
    options.any_platform = true;
    let pulled = pull(&client(), &there, &reference, &options).expect("taken all the same");
    assert_eq!((pulled.index, pulled.images[0].0.to_string().as_str()), (None, "linux/arm64"));
    assert_eq!(validate(&there, &descriptor), (1, 1));
}

/// An index on the server whose entries do not name their platforms, with its images.
fn published_without_platforms(site: &Site, platforms: &[&str]) -> crossdock_oci::Reference {
    let (_directory, here) = store();
    let reference = site.reference("plain:1");
    let entries = platforms.iter().map(|text| {
        let mut descriptor = image(&here, &platform(text), &[text.len() as u64]);
        descriptor.platform = None;
        let by_digest = reference.with_digest(descriptor.digest.clone());
        push(&client(), &here, &by_digest, &descriptor, &PushOptions::default()).expect("pushed");
        descriptor
    });
    let index = crossdock_oci::Index::new(entries.collect());
    let media_type = crossdock_oci::media_type::OCI_INDEX;
    client().put_manifest(&reference, media_type, &index.to_bytes()).expect("put");
    reference
}

#[test]
fn an_entry_without_a_platform_is_judged_by_its_configuration() {
    let site = Site::new();
    let reference = published_without_platforms(&site, &["linux/amd64", "linux/arm64"]);
    for wanted in ["linux/amd64", "linux/arm64"] {
        let (_directory, there) = store();
        let pulled = pull(&client(), &there, &reference, &PullOptions::platform(platform(wanted)));
        let images = pulled.expect("found").images;
        assert_eq!((images.len(), images[0].0.to_string().as_str()), (1, wanted));
    }
    let (_directory, there) = store();
    let error = pull(&client(), &there, &reference, &PullOptions::platform(platform("linux/s390x")));
    let text = error.expect_err("not offered").to_string();
    assert!(text.ends_with("it offers: linux/amd64, linux/arm64"), "{text}");
    let only = |text| Platforms::Only(vec![platform(text)]);
    let to = site.reference("copied:1");
    crossdock_registry::transfer::copy(
        &client(),
        &[&reference],
        &to,
        &only("linux/arm64"),
        crossdock_registry::transfer::WithReferrers::No,
    )
    .expect("copied");
    let pulled =
        pull(&client(), &there, &to, &PullOptions::platform(platform("linux/arm64"))).expect("pulled");
    assert_eq!(pulled.images.len(), 1);
    let none = crossdock_registry::transfer::copy(
        &client(),
        &[&reference],
        &to,
        &only("linux/arm/v7"),
        crossdock_registry::transfer::WithReferrers::No,
    );
    assert!(matches!(none, Err(Error::NoPlatform { .. })), "{none:?}");

    // This holds even for the only entry.
    let site = Site::new();
    let reference = published_without_platforms(&site, &["linux/s390x"]);
    let (_directory, there) = store();
    let error = pull(&client(), &there, &reference, &PullOptions::platform(platform("linux/arm64")));
    assert!(matches!(error, Err(Error::NoPlatform { .. })), "{error:?}");
    // If no platform was requested, the only entry is taken.
    let pulled = pull(&client(), &there, &reference, &PullOptions::machine()).expect("the only one");
    assert_eq!(pulled.images[0].0.to_string(), "linux/s390x");
}

#[test]
fn without_a_platform_this_machine_chooses() {
    let site = Site::new();
    let (_directory, here) = store();
    let host = crossdock_platform::Platform::host().to_string();
    let foreign = if host == "linux/s390x" { "linux/riscv64" } else { "linux/s390x" };
    let reference = site.reference("choice:1");
    let top = index(&here, &[foreign, &host]);
    push(&client(), &here, &reference, &top, &PushOptions::default()).expect("pushed");
    let (_directory, there) = store();
    let pulled = pull(&client(), &there, &reference, &PullOptions::machine()).expect("pulled");
    assert_eq!(pulled.images[0].0.to_string(), host);
    // An index with several images, none of which this machine runs.
    let reference = site.reference("foreign:1");
    let top = index(&here, &[foreign, "linux/mips64le"]);
    push(&client(), &here, &reference, &top, &PushOptions::default()).expect("pushed");
    let text = pull(&client(), &there, &reference, &PullOptions::machine()).expect_err("none").to_string();
    assert!(text.contains("this machine") && text.contains(foreign), "{text}");
}

#[test]
fn an_artifact_is_told_and_not_taken_for_an_image() {
    let site = Site::new();
    let (_one, here) = store();
    let reference = site.reference("chart:1");
    let mut descriptor = image(&here, &platform("linux/amd64"), &[1]);
    let (document, _) = here.read_document(&descriptor).expect("a manifest");
    let crossdock_oci::manifest::Document::Manifest(mut manifest) = document else { panic!("an index") };
    for (own, kind) in
        [(None, "application/vnd.cncf.helm.config.v1+json"), (Some("application/vnd.x"), "application/vnd.x")]
    {
        manifest.artifact_type = own.map(str::to_string);
        manifest.config.media_type = "application/vnd.cncf.helm.config.v1+json".into();
        let bytes = manifest.to_bytes();
        let mut writer = here.blob_writer().expect("a writer");
        std::io::Write::write_all(&mut writer, &bytes).expect("written");
        (descriptor.digest, descriptor.size) = writer.commit(None).expect("stored");
        push(&client(), &here, &reference, &descriptor, &PushOptions::default()).expect("pushed");
        let (_two, there) = store();
        let options = PullOptions::platform(platform("linux/amd64"));
        let text = pull(&client(), &there, &reference, &options).expect_err("no image").to_string();
        assert!(
            text.contains(&format!("{reference} is not an image but an artifact of type {kind}")),
            "{text}"
        );
        assert!(there.image(&reference).expect("readable").is_none());
    }
}

#[test]
fn layers_are_told_as_they_come() {
    let site = Site::new();
    published(&site);
    let (_directory, store) = store();
    let ready: Mutex<Vec<(Digest, Option<Digest>, usize)>> = Mutex::default();
    let tell = |layer: LayerReady| {
        assert!(store.contains(&layer.layer.digest).expect("readable"), "it is complete");
        let told = (layer.layer.digest.clone(), layer.diff_id.cloned(), layer.index);
        ready.lock().expect("not poisoned").push(told);
    };
    let options = PullOptions { on_layer_ready: Some(&tell), ..PullOptions::all() };
    pull(&client(), &store, &site.reference("app:1"), &options).expect("pulled");
    let mut told = ready.into_inner().expect("not poisoned");
    assert_eq!(told.len(), 4, "the shared layer once");
    assert!(told.iter().all(|(_, diff_id, _)| diff_id.is_some()));
    told.dedup_by_key(|(digest, _, _)| digest.clone());
    assert_eq!(told.iter().filter(|(_, _, index)| *index == 0).count(), 1);
}

#[test]
fn an_interrupted_pull_goes_on() {
    let site = Site::faulty(|seen, spoiled| {
        (seen.method == "GET" && seen.path.contains("/blobs/") && spoiled < 1)
            .then_some(Fault::CutResponse(9000))
    });
    let (_one, here) = store();
    let descriptor = image(&here, &platform("linux/amd64"), &[1]);
    let layer = here.load_image(&descriptor).expect("complete").manifest.layers[0].clone();
    let reference = site.reference("app:1");
    push(&client(), &here, &reference, &descriptor, &PushOptions::default()).expect("pushed");
    // An earlier attempt of another process left half of the layer.
    let (_two, there) = store();
    let bytes = here.read_blob(&layer.digest).expect("there");
    let Ingest::Partial(mut partial) = there.partial(&layer.digest).expect("begun") else {
        panic!("it is new")
    };
    partial.append(&bytes[..10_000]).expect("written");
    drop(partial);
    pull(&client(), &there, &reference, &PullOptions::all()).expect("pulled");
    validate(&there, &descriptor);
    let seen = site.seen.lock().expect("not poisoned");
    let ranges: Vec<_> = seen.iter().filter_map(|s| s.range.clone()).collect();
    assert!(ranges.contains(&"bytes=10000-".to_string()), "{ranges:?}");
}

#[test]
fn damage_on_the_way_or_on_disk_is_repaired_once() {
    for times in [1, 100] {
        let site = Site::faulty(move |seen, spoiled| {
            (seen.method == "GET" && seen.path.contains("/blobs/") && spoiled < times)
                .then_some(Fault::Corrupt)
        });
        let (_one, here) = store();
        let descriptor = image(&here, &platform("linux/amd64"), &[1]);
        let reference = site.reference("app:1");
        push(&client(), &here, &reference, &descriptor, &PushOptions::default()).expect("pushed");
        let (_two, there) = store();
        let result = pull(&client(), &there, &reference, &PullOptions::all());
        if times == 1 {
            result.expect("repaired");
            validate(&there, &descriptor);
        } else {
            let error = result.expect_err("always damaged");
            assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
            assert!(there.image(&reference).expect("readable").is_none());
        }
    }
    // A partial file with other bytes than the registry's.
    let site = Site::new();
    let (_one, here) = store();
    let descriptor = image(&here, &platform("linux/amd64"), &[1]);
    let reference = site.reference("app:1");
    push(&client(), &here, &reference, &descriptor, &PushOptions::default()).expect("pushed");
    let layer = here.load_image(&descriptor).expect("complete").manifest.layers[0].clone();
    for length in [5000, 50_000] {
        let (_two, there) = store();
        let Ingest::Partial(mut partial) = there.partial(&layer.digest).expect("begun") else {
            panic!("new")
        };
        partial.append(&noise(9, length)).expect("written");
        drop(partial);
        pull(&client(), &there, &reference, &PullOptions::all()).expect("repaired");
        validate(&there, &descriptor);
    }
}

#[test]
fn a_failed_layer_ends_the_pull_and_names_nothing() {
    let site = Site::faulty(|seen, _| {
        (seen.method == "GET" && seen.path.contains("/blobs/"))
            .then(|| Fault::status(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"lost"}]}"#))
    });
    published(&site);
    let (_directory, store) = store();
    let error = pull(&client(), &store, &site.reference("app:1"), &PullOptions::all()).expect_err("lost");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("BLOB_UNKNOWN: lost"), "{error}");
    assert!(store.images().expect("readable").is_empty());
}

#[test]
fn a_base_image_is_mounted() {
    let site = Site::new();
    published(&site);
    let (_directory, store) = store();
    let top = index(&store, &THREE);
    let options = PushOptions {
        mount_from: vec![site.reference("app:1"), "docker.io/library/x".parse().expect("good")],
        ..PushOptions::default()
    };
    let pushed = push(&client(), &store, &site.reference("other:1"), &top, &options).expect("pushed");
    assert_eq!((pushed.mounted, pushed.moved), (7, 0));
}

#[test]
fn blobs_may_go_before_the_image() {
    let site = Site::new();
    let (_directory, store) = store();
    let descriptor = image(&store, &platform("linux/amd64"), &[1, 2]);
    let layers = store.load_image(&descriptor).expect("complete").manifest.layers;
    let heard = Arc::new(Heard::default());
    let mut options = options().0;
    options.progress = heard.clone();
    let client = Client::new(options);
    let reference = site.reference("app:1");
    let none = PushOptions::default();
    assert_eq!(
        push_blob(&client, &store, &reference, &layers[0], "layer", &none).expect("pushed"),
        Outcome::Moved
    );
    assert_eq!(*heard.position.lock().expect("not poisoned"), layers[0].size);
    let pushed = push(&client, &store, &reference, &descriptor, &none).expect("pushed");
    assert_eq!((pushed.moved, pushed.existed), (2, 1));
    let heads = site.seen.lock().expect("not poisoned");
    let heads =
        heads.iter().filter(|s| s.method == "HEAD" && s.path.contains(layers[0].digest.as_str())).count();
    assert_eq!(heads, 1, "what the client brought there itself is not asked for again");
    let done = heard.done.lock().expect("not poisoned");
    assert_eq!(
        done.iter().filter(|(id, _)| id == layers[0].digest.as_str()).map(|(_, o)| *o).collect::<Vec<_>>(),
        [Outcome::Moved, Outcome::Existed]
    );
}

#[test]
fn the_name_appears_last() {
    let site = Site::new();
    published(&site);
    let seen = site.seen.lock().expect("not poisoned");
    let puts: Vec<&str> = seen.iter().filter(|s| s.method == "PUT").map(|s| s.path.as_str()).collect();
    assert!(puts.last().expect("pushed").ends_with("/manifests/1"));
    let first_manifest = puts.iter().position(|p| p.contains("/manifests/")).expect("pushed");
    assert!(puts[first_manifest..].iter().all(|p| p.contains("/manifests/")), "{puts:?}");
}

#[test]
fn an_index_with_gaps_is_not_pushed() {
    let site = Site::new();
    let top = published(&site);
    let (_directory, store) = store();
    let options = PullOptions::platform(platform("linux/arm64"));
    pull(&client(), &store, &site.reference("app:1"), &options).expect("pulled");
    let error = push(&client(), &store, &site.reference("copy:1"), &top, &PushOptions::default());
    let text = error.expect_err("two images are missing").to_string();
    assert!(text.contains("missing: linux/amd64, linux/arm/v7"), "{text}");
    assert_eq!(site.count("PUT", "/copy/"), 0);
}

#[test]
fn a_corrupt_store_is_not_the_registrys_fault() {
    let site = Site::new();
    let (_directory, store) = store();
    let descriptor = image(&store, &platform("linux/amd64"), &[1]);
    let layer = store.load_image(&descriptor).expect("complete").manifest.layers[0].clone();
    let path = store.blob_path(&layer.digest);
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[100] ^= 1;
    let mut permissions = std::fs::metadata(&path).expect("there").permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).expect("changed");
    std::fs::write(&path, bytes).expect("damaged");
    let error = push(&client(), &store, &site.reference("app:1"), &descriptor, &PushOptions::default());
    match error.expect_err("damaged") {
        Error::Store(error) => assert!(matches!(*error, StoreError::CorruptBlob { .. }), "{error}"),
        other => panic!("{other}"),
    }
    assert!(site.count("PUT", "uploads") <= 2, "config and layer, once each");
}

#[test]
fn parallel_pulls_of_one_image_share_the_work() {
    let site = Site::new();
    let top = published(&site);
    let (_directory, store) = store();
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                pull(&client, &store, &site.reference("app:1"), &PullOptions::all()).expect("pulled")
            });
        }
    });
    validate(&store, &top);
    assert_eq!(site.count("GET", "/blobs/"), 7, "each blob once");
}
