//! Uploads of layers that are still being written.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossdock_oci::manifest::{Descriptor, Manifest};
use crossdock_oci::store::{BlobWriter, Growing};
use crossdock_oci::{Digest, ImageConfig, Store, media_type};
use crossdock_registry::server::faults::Fault;
use crossdock_registry::transfer::{PullOptions, PushOptions, Pushed, Streams, pull, push};
use crossdock_registry::{Client, Error};

use crate::support::*;

const SIZE: usize = 3 << 20;

/// A layer that is being written.
struct Writing {
    content: Vec<u8>,
    writer: BlobWriter,
    growing: Arc<Growing>,
}

impl Writing {
    fn begin(store: &Store) -> Writing {
        let mut writer = store.blob_writer().expect("a new blob");
        let growing = writer.follow().expect("readable");
        Writing { content: layer(1, SIZE).0, writer, growing }
    }

    fn write(&mut self, length: usize) {
        let rest = self.content.split_off(length.min(self.content.len()));
        self.writer.write_all(&self.content).expect("written");
        self.content = rest;
    }

    /// Writes the rest and builds an image of the layer.
    fn end(mut self, store: &Store) -> Descriptor {
        self.write(usize::MAX);
        let (digest, size) = self.writer.commit(None).expect("stored");
        let (os, architecture) = ("linux".to_string(), "amd64".to_string());
        let mut config = ImageConfig { os, architecture, ..ImageConfig::default() };
        config.rootfs.diff_ids.push(layer(1, SIZE).1);
        let config = config.to_bytes();
        store.write_blob(&config).expect("stored");
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_string()),
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers: vec![Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size)],
            subject: None,
            annotations: Default::default(),
        };
        let bytes = serde_json::to_vec(&manifest).expect("serialises");
        store.write_blob(&bytes).expect("stored");
        Descriptor::of(media_type::OCI_MANIFEST, &bytes)
    }
}

/// Number of bytes of each upload under way in the repository `app`.
fn uploads(site: &Site) -> Vec<u64> {
    let directory: PathBuf = site.directory.path().join("repositories/app/_uploads");
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).collect()
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not come about");
        std::thread::yield_now();
    }
}

fn push_with(client: &Client, store: &Store, site: &Site, streams: &Streams, image: &Descriptor) -> Pushed {
    let options = PushOptions { streams: Some(streams.clone()), ..PushOptions::default() };
    push(client, store, &site.reference("app:1"), image, &options).expect("pushed")
}

#[test]
fn bytes_arrive_while_others_are_written() {
    let site = Site::new();
    let (_directory, store) = store();
    let client = client();
    let streams = Streams::new(&client, &site.reference("app:1"));
    let mut writing = Writing::begin(&store);
    streams.follow(writing.growing.clone(), || {});
    for part in 1..=2u64 {
        writing.write(1 << 20);
        eventually("the upload", || uploads(&site) == [part << 20]);
    }
    let image = writing.end(&store);
    let pushed = push_with(&client, &store, &site, &streams, &image);
    assert_eq!((pushed.moved, pushed.existed), (2, 0), "the configuration and the layer");
    assert_eq!((site.count("POST", "/uploads/"), site.count("PATCH", "/uploads/")), (2, 1));
    assert!(uploads(&site).is_empty());
    let (_other, there) = self::store();
    pull(&client, &there, &site.reference("app:1"), &PullOptions::all()).expect("pulled");
    assert_eq!(validate(&there, &image), (1, 1));
    assert!(streams.refusal().is_none(), "nobody was refused");
}

#[test]
fn whatever_happens_to_the_upload_the_image_arrives() {
    let faults = [
        ("PATCH", Fault::CutRequest(700_000)),
        ("PATCH", Fault::Close),
        ("PATCH", Fault::status(404, "no such upload")),
        ("PATCH", Fault::status(405, "no such method")),
        ("PATCH", Fault::status(411, "how long is it?")),
        ("PATCH", Fault::status(413, "too large")),
        ("PATCH", Fault::status(416, "not there")),
        ("PUT", Fault::status(404, "no such upload")),
    ];
    let digest = Digest::of(&layer(1, SIZE).0);
    for (number, (method, fault)) in faults.into_iter().enumerate() {
        let told = fault.clone();
        let hex = digest.hex().to_string();
        let site = Site::faulty(move |seen, spoiled| {
            let is_layer = seen.method == "PATCH" || seen.query.contains(&hex);
            (spoiled == 0 && seen.method == method && is_layer).then(|| fault.clone())
        });
        let (_directory, store) = store();
        let client = client();
        let streams = Streams::new(&client, &site.reference("app:1"));
        let mut writing = Writing::begin(&store);
        writing.write(1 << 20);
        streams.follow(writing.growing.clone(), || {});
        // The fault must come before the end of the layer.
        if method == "PATCH" {
            eventually("the request", || site.count("PATCH", "/uploads/") > 0);
        }
        let image = writing.end(&store);
        let pushed = push_with(&client, &store, &site, &streams, &image);
        assert_eq!(pushed.moved, 2, "{told:?}");
        streams.end();
        assert!(streams.refusal().is_none(), "{told:?}");
        assert!(uploads(&site).is_empty(), "{told:?}: {:?}", uploads(&site));
        let (_other, there) = self::store();
        pull(&client, &there, &site.reference("app:1"), &PullOptions::all()).expect("pulled");
        assert_eq!(validate(&there, &image), (1, 1), "{told:?}");
        if number == 0 {
            // The upload went on where it was cut.
            assert_eq!((site.count("PATCH", "/uploads/"), site.count("POST", "/uploads/")), (2, 2));
        }
    }
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let site = Site::new();
    let (_directory, store) = store();
    let first = client();
    let image = Writing::begin(&store).end(&store);
    let streams = Streams::new(&first, &site.reference("app:1"));
    assert_eq!(push_with(&first, &store, &site, &streams, &image).moved, 2);

    let (_directory, store) = self::store();
    let second = client();
    let streams = Streams::new(&second, &site.reference("app:1"));
    let writing = Writing::begin(&store);
    let growing = writing.growing.clone();
    let image = writing.end(&store);
    streams.follow(growing, || {});
    eventually("the end of the upload", || site.count("DELETE", "/uploads/") == 1);
    let pushed = push_with(&second, &store, &site, &streams, &image);
    assert_eq!((pushed.moved, pushed.existed), (0, 2));
    assert!(uploads(&site).is_empty());
    assert!(streams.refusal().is_none(), "nobody was refused");
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let site = Site::new();
    let (_directory, store) = store();
    let client = client();
    let streams = Streams::new(&client, &site.reference("app:1"));
    let mut given_up = Writing::begin(&store);
    given_up.write(1 << 20);
    streams.follow(given_up.growing.clone(), || {});
    eventually("the upload", || uploads(&site) == [1 << 20]);
    drop(given_up);
    eventually("its end", || uploads(&site).is_empty());
    // One layer is complete but never pushed; another is still being written.
    let unused = Writing::begin(&store);
    streams.follow(unused.growing.clone(), || {});
    unused.end(&store);
    let mut unfinished = Writing::begin(&store);
    unfinished.write(1 << 20);
    streams.follow(unfinished.growing.clone(), || {});
    eventually("both uploads", || uploads(&site).len() == 2);
    assert!(streams.refusal().is_none(), "nobody was refused");
    drop(streams);
    assert!(uploads(&site).is_empty());
}

#[test]
fn who_may_not_write_hears_it_at_once() {
    let site = Site::faulty(|seen, _| (seen.method == "POST").then(|| Fault::status(403, "not you")));
    let (_directory, store) = store();
    let client = client();
    let streams = Streams::new(&client, &site.reference("app:1"));
    let mut writing = Writing::begin(&store);
    writing.write(1 << 20);
    let refused = Arc::new(AtomicBool::new(false));
    let told = refused.clone();
    streams.follow(writing.growing.clone(), move || told.store(true, Ordering::SeqCst));
    eventually("the refusal", || refused.load(Ordering::SeqCst));
    assert!(matches!(streams.refusal(), Some(Error::Denied(_))));
}
