//! Images that are changed and written again.

use std::collections::BTreeMap;

use crossdock_oci::{Descriptor, Digest, Image, StoreError, media_type};
use crossdock_testkit::{LayerTar, TempStore, TinyImage};

/// An image of one layer, and its manifest.
fn image(store: &TempStore) -> (Image, Descriptor) {
    let tiny = TinyImage::write(store, "linux/arm/v7", vec![LayerTar::new().file("a", "b")]);
    (store.image_of(&tiny.manifest).expect("an image"), tiny.manifest)
}

#[test]
fn what_nobody_changed_keeps_its_digests() {
    let store = TempStore::new();
    let (image, manifest) = image(&store);
    let put = store.put(&image).expect("written");
    assert_eq!(put.manifest.digest, manifest.digest);
    assert_eq!(put.id, image.manifest().config.digest);
}

#[test]
fn a_configuration_keeps_its_bytes_until_it_is_changed() {
    let store = TempStore::new();
    let (mut image, before) = image(&store);
    // JSON that this program would write otherwise.
    let given = br#"{ "os": "linux",  "architecture": "arm", "rootfs": {"type": "layers", "diff_ids": []} }"#;
    image.set_config(given.to_vec()).expect("a configuration");
    let put = store.put(&image).expect("written");
    assert_eq!((put.id.clone(), put.manifest.digest == before.digest), (Digest::of(given), false));
    let loaded = store.load_image(&put.manifest).expect("read again");
    assert_eq!(loaded.config_bytes, given);

    image.config_mut().config.user = "nobody".to_string();
    let changed = store.put(&image).expect("written");
    assert_ne!(changed.id, put.id);
    assert_eq!(store.load_image(&changed.manifest).expect("read again").config.config.user, "nobody");
    assert!(image.set_config(b"[]".to_vec()).is_err());
    assert_eq!(image.config().config.user, "nobody", "a wrong configuration changes nothing");
}

#[test]
fn annotations_and_media_types_change_the_manifest_only() {
    let store = TempStore::new();
    let (mut image, before) = image(&store);
    let id = image.manifest().config.digest.clone();
    image.annotate(BTreeMap::from([("a".to_string(), "1".to_string())]));
    image.annotate(BTreeMap::from([("a".to_string(), "2".to_string())]));
    let put = store.put(&image).expect("written");
    assert_eq!((put.id.clone(), put.manifest.digest == before.digest), (id.clone(), false));
    let annotations = store.load_image(&put.manifest).expect("read again").manifest.annotations;
    assert_eq!(annotations, BTreeMap::from([("a".to_string(), "2".to_string())]));

    image.use_docker_types().expect("gzip has a type");
    let put = store.put(&image).expect("written");
    assert_eq!((put.manifest.media_type.as_str(), put.id), (media_type::DOCKER_MANIFEST, id));
    let manifest = store.load_image(&put.manifest).expect("read again").manifest;
    assert_eq!(manifest.config.media_type, media_type::DOCKER_CONFIG);

    let layer = image.manifest().layers[0].digest.clone();
    image.layers_mut()[0].media_type = media_type::OCI_LAYER_ZSTD.to_string();
    let untouched = image.manifest().clone();
    assert_eq!(image.use_docker_types(), Err(layer));
    assert_eq!(*image.manifest(), untouched);
}

#[test]
fn layers_are_squashed() {
    let store = TempStore::new();
    let layers = ["a", "b", "c"].map(|name| LayerTar::new().file(name, name)).into();
    let tiny = TinyImage::write(&store, "linux/amd64", layers);
    let mut image = store.image_of(&tiny.manifest).expect("an image");
    let (first, last) = (image.manifest().layers[0].clone(), image.manifest().layers[2].clone());
    let diff_ids = image.config().rootfs.diff_ids.clone();
    image.squash(1, last.clone(), diff_ids[2].clone());
    let put = store.put(&image).expect("written");
    let loaded = store.load_image(&put.manifest).expect("read again");
    assert_eq!(loaded.manifest.layers, [first, last]);
    assert_eq!(loaded.config.rootfs.diff_ids, [diff_ids[0].clone(), diff_ids[2].clone()]);
}

#[test]
fn a_configuration_that_nobody_could_read_is_not_written() {
    let store = TempStore::new();
    let (mut image, _) = image(&store);
    image.config_mut().author = Some("x".repeat(32 << 20));
    match store.put(&image) {
        Err(error @ StoreError::WouldBeTooLarge { .. }) => {
            assert!(error.to_string().starts_with("the configuration of the image"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
