//! Garbage collection, the build cache and disk usage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crossdock_oci::store::{GcOptions, Ingest, LayerOptions, Sharing};
use crossdock_oci::{Digest, Reference, Store};
use crossdock_testkit::{LayerTar, TempStore, TinyImage};

const EVERYTHING: GcOptions = GcOptions {
    cache_unused_for: Some(Duration::ZERO),
    cache_bytes_max: None,
    cache_mounts_unused_for: Some(Duration::ZERO),
    partials_unused_for: Some(Duration::ZERO),
    dry_run: false,
};

fn count(store: &Store, directory: &str) -> usize {
    fs::read_dir(store.root().join(directory)).expect("a directory of the store").count()
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a valid reference")
}

/// Runs `work` with a handle of its own, so that what it touched is free afterwards.
fn aside<T>(store: &Store, work: impl FnOnce(&Store) -> T) -> T {
    work(&store.session())
}

#[test]
fn what_images_need_stays_and_the_rest_goes() {
    let store = TempStore::new();
    let kept = aside(&store, |s| {
        let kept = TinyImage::named(s, "kept", "linux/amd64", vec![LayerTar::new().file("k", "1")]);
        s.unpack(&kept.layers[0], &kept.diff_ids[0], &[]).expect("unpacked");
        let gone = TinyImage::write(s, "linux/amd64", vec![LayerTar::new().file("g", "1")]);
        s.unpack(&gone.layers[0], &gone.diff_ids[0], &[]).expect("unpacked");
        kept
    });
    let dry = aside(&store, |s| s.gc(&GcOptions { dry_run: true, ..EVERYTHING })).expect("counted");
    let report = store.gc(&EVERYTHING).expect("collected");
    assert_eq!((report.blobs, report.snapshots, report.bytes), (3, 1, dry.bytes));
    assert!(report.failed.is_empty() && report.bytes > 1000, "{report:?}");
    assert_eq!(
        (count(&store, "blobs/sha256"), count(&store, "trees"), count(&store, "snapshots")),
        (3, 1, 1)
    );
    let again = store.gc(&EVERYTHING).expect("collected");
    assert_eq!((again.blobs, again.snapshots, again.bytes), (0, 0, 0));
    store.session().load_image(&kept.manifest).expect("all there");
    assert!(store.session().snapshot(&kept.diff_ids[0], &[]).expect("looked up").is_some());
    store.remove(&reference("kept"), None).expect("removed");
    store.gc(&EVERYTHING).expect("collected");
    for directory in ["blobs/sha256", "trees", "snapshots", "images", "tmp", "leases"] {
        assert_eq!(count(&store, directory), 0, "{directory}");
    }
}

#[test]
fn what_a_live_handle_uses_stays() {
    let store = TempStore::new();
    let live = store.session();
    let image = TinyImage::write(&live, "linux/amd64", vec![LayerTar::new().file("f", "1")]);
    live.unpack(&image.layers[0], &image.diff_ids[0], &[]).expect("unpacked");
    let scratch = live.new_scratch().expect("made");
    fs::write(scratch.upper().join("f"), "1").expect("written");
    let mut writer = live.blob_writer().expect("a writer");
    std::io::Write::write_all(&mut writer, b"half").expect("written");
    let digest = Digest::of(b"download");
    let Ingest::Partial(mut partial) = live.partial(&digest).expect("begun") else {
        panic!("nothing was downloaded");
    };
    partial.append(b"down").expect("appended");

    let report = store.gc(&EVERYTHING).expect("collected");
    assert_eq!((report.blobs, report.snapshots, report.partials), (0, 0, 0), "{report:?}");
    partial.append(b"load").expect("appended");
    partial.commit().expect("verified");
    writer.commit(None).expect("stored");
    live.commit_layer(scratch, &LayerOptions::default()).expect("committed");
    live.load_image(&image.manifest).expect("all there");

    // Reading holds content, too.
    drop(live);
    let reader = store.session();
    reader.load_image(&image.manifest).expect("all there");
    store.gc(&EVERYTHING).expect("collected");
    reader.load_image(&image.manifest).expect("all there");
    assert!(reader.contains(&image.layers[0].digest).expect("looked up"), "children of what is held stay");
}

#[test]
fn removal_copes_with_what_images_contain() {
    let store = TempStore::new();
    aside(&store, |s| {
        let scratch = s.new_scratch().expect("made");
        let closed = scratch.upper().join("closed");
        fs::create_dir_all(closed.join("inner")).expect("created");
        fs::write(closed.join("inner/f"), "1").expect("written");
        std::os::unix::fs::chown(closed.join("inner"), Some(12345), Some(54321)).expect("changed");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("changed");
        s.commit_layer(scratch, &LayerOptions::default()).expect("committed");
    });
    let report = store.gc(&EVERYTHING).expect("collected");
    assert_eq!((report.snapshots, report.failed), (1, vec![]));
    assert_eq!((count(&store, "trees"), count(&store, "tmp")), (0, 0));
}

#[test]
fn what_dead_processes_left_is_counted() {
    let store = TempStore::new();
    let tmp = store.root().join("tmp");
    fs::write(tmp.join("0123456789abcdef.1"), [1; 30_000]).expect("written");
    fs::create_dir(tmp.join("0123456789abcdef.2")).expect("created");
    fs::write(tmp.join("0123456789abcdef.2/f"), [1; 50_000]).expect("written");
    let report = store.gc(&EVERYTHING).expect("collected");
    assert!((80_000..200_000).contains(&report.bytes), "{report:?}");
    assert_eq!(count(&store, "tmp"), 0);
    assert_eq!(store.gc(&EVERYTHING).expect("collected").bytes, 0);
}

#[test]
fn while_a_record_is_damaged_no_content_goes() {
    let store = TempStore::new();
    aside(&store, |s| TinyImage::named(s, "app", "linux/amd64", vec![]));
    let images = store.root().join("images");
    let record = fs::read_dir(&images).expect("read").next().expect("one").expect("an entry").path();
    fs::write(&record, "").expect("damaged");
    store.session().cache_put(&Digest::of(b"step"), b"value", &[], &[]).expect("kept");
    let report = store.gc(&EVERYTHING).expect("collected");
    assert_eq!((report.blobs, report.cache_records), (0, 1), "{report:?}");
    assert!(report.damaged[0].contains(record.to_str().expect("UTF-8")), "{report:?}");
    assert_eq!(store.disk_usage().expect("counted").damaged, report.damaged);
    assert_eq!(count(&store, "blobs/sha256"), 2);
    // The name can be removed, and then the content.
    store.remove(&"app".parse().expect("a name"), None).expect("removed");
    assert_eq!(store.gc(&EVERYTHING).expect("collected").blobs, 2);
}

#[test]
fn the_cache_keeps_what_it_refers_to() {
    let store = TempStore::new();
    let key = Digest::of(b"RUN true");
    let (layer, blob) = aside(&store, |s| {
        let scratch = s.new_scratch().expect("made");
        fs::write(scratch.upper().join("f"), "1").expect("written");
        let layer = s.commit_layer(scratch, &LayerOptions::default()).expect("committed");
        let refs = [layer.descriptor.digest.clone()];
        s.cache_put(&key, b"result\nof two lines", &refs, std::slice::from_ref(&layer.diff_id)).expect("put");
        let [blob] = refs;
        (layer, blob)
    });
    store.gc(&GcOptions::default()).expect("collected");
    let bytes = aside(&store, |s| s.cache_get(&key)).expect("read");
    assert_eq!(bytes.as_deref(), Some(&b"result\nof two lines"[..]));
    assert!(aside(&store, |s| s.snapshot(&layer.diff_id, &[])).expect("looked up").is_some());
    let usage = store.disk_usage().expect("counted");
    assert_eq!((usage.build_cache.count, usage.images.count, usage.snapshots.count), (1, 0, 0));
    assert!(usage.build_cache.reclaimable > layer.size);

    let hour = Duration::from_secs(3600);
    let old = GcOptions { cache_unused_for: Some(hour), ..GcOptions::default() };
    assert_eq!(store.gc(&old).expect("collected").cache_records, 0);
    // A record whose blob is gone is a miss.
    fs::remove_file(store.blob_path(&blob)).expect("removed");
    assert_eq!(aside(&store, |s| s.cache_get(&key)).expect("read"), None);
    assert_eq!(store.gc(&EVERYTHING).expect("collected").cache_records, 1);
    assert_eq!(count(&store, "trees"), 0);
}

#[test]
fn half_a_cache_record_is_a_miss() {
    let store = TempStore::new();
    let key = Digest::of(b"k");
    store.cache_put(&key, b"0123456789", &[], &[]).expect("put");
    let directory = store.root().join("cache");
    let path = fs::read_dir(&directory).expect("read").next().expect("one").expect("an entry").path();
    let whole = fs::read(&path).expect("read");
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("cut");
        assert_eq!(store.cache_get(&key).expect("read"), None, "{length} bytes");
    }
    store.cache_put(&key, b"again", &[], &[]).expect("put");
    assert_eq!(store.cache_get(&key).expect("read").as_deref(), Some(&b"again"[..]));
}

#[test]
fn the_least_recently_used_cache_goes_first() {
    let store = TempStore::new();
    let keys: Vec<Digest> = (0..4).map(|i: u8| Digest::of(&[i])).collect();
    for (i, key) in keys.iter().enumerate() {
        aside(&store, |s| {
            let blob = s.write_blob(&vec![i as u8; 10_000]).expect("written");
            s.cache_put(key, b"x", &[blob], &[]).expect("put");
        });
        let name = format!("{}-{}", key.algorithm(), key.hex());
        let file =
            fs::File::options().append(true).open(store.root().join("cache").join(name)).expect("there");
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + i as u64);
        file.set_modified(time).expect("set");
    }
    assert!(aside(&store, |s| s.cache_get(&keys[0])).expect("read").is_some());
    let options = GcOptions { cache_bytes_max: Some(25_000), ..GcOptions::default() };
    assert_eq!(store.gc(&options).expect("collected").cache_records, 2);
    let left: Vec<bool> =
        keys.iter().map(|k| aside(&store, |s| s.cache_get(k)).expect("read").is_some()).collect();
    assert_eq!(left, [true, false, false, true]);
}

#[test]
fn cache_mounts_are_shared_as_asked() {
    let store = TempStore::new();
    let first = store.cache_mount("/root/.cache", Sharing::Shared, unfilled).expect("locked");
    let second = store.cache_mount("/root/.cache", Sharing::Shared, unfilled).expect("locked");
    assert_eq!(first.path(), second.path());
    fs::write(first.path().join("f"), "1").expect("written");
    let private = store.cache_mount("/root/.cache", Sharing::Private, unfilled).expect("locked");
    assert_ne!(private.path(), first.path());
    assert!(private.path().starts_with(store.root()));
    let other = store.cache_mount("../../etc", Sharing::Shared, unfilled).expect("locked");
    assert!(
        other.path().canonicalize().expect("there").starts_with(store.root().canonicalize().expect("there"))
    );

    // A mount in use stays.
    assert_eq!(store.gc(&EVERYTHING).expect("collected").cache_mounts, 0);
    drop((second, private, other));
    assert_eq!(store.gc(&EVERYTHING).expect("collected").cache_mounts, 2);
    let (send, receive) = std::sync::mpsc::channel();
    let session = store.session();
    let waiting = std::thread::spawn(move || {
        let locked = session.cache_mount("/root/.cache", Sharing::Locked, unfilled).expect("locked");
        send.send(()).expect("received");
        fs::read_to_string(locked.path().join("f")).expect("what the first wrote")
    });
    assert!(receive.try_recv().is_err(), "it waits for the shared lock");
    drop(first);
    assert_eq!(waiting.join().expect("no panic"), "1");
    assert_eq!(store.gc(&EVERYTHING).expect("collected").cache_mounts, 1);
    assert_eq!(count(&store, "cachemounts"), 0);
}

#[test]
fn a_tree_of_another_boot_counts_only_if_it_was_settled() {
    let store = TempStore::new();
    let image = aside(&store, |s| {
        let image = TinyImage::named(s, "app", "linux/amd64", vec![LayerTar::new().file("f", "1")]);
        s.unpack(&image.layers[0], &image.diff_ids[0], &[]).expect("unpacked");
        image
    });
    let link = fs::read_dir(store.root().join("snapshots")).expect("read").next().expect("one");
    let link = link.expect("an entry").path();
    // As after a reboot: the same tree under an id of an earlier boot.
    let old = store.root().join("snapshots").join(fs::read_link(&link).expect("a link"));
    let new = old.with_file_name("00000000-0123456789");
    fs::rename(&old, &new).expect("renamed");
    fs::remove_file(&link).expect("removed");
    std::os::unix::fs::symlink("../trees/00000000-0123456789", &link).expect("linked");
    let look_up = || aside(&store, |s| s.snapshot(&image.diff_ids[0], &[])).expect("looked up");
    assert_eq!(look_up(), None);
    fs::write(new.join("synced"), "").expect("written");
    assert!(look_up().is_some());
    fs::remove_file(new.join("synced")).expect("removed");
    let again = aside(&store, |s| s.unpack(&image.layers[0], &image.diff_ids[0], &[])).expect("unpacked");
    assert_ne!(again.path, new.join("fs"));
    let report = store.gc(&GcOptions::default()).expect("collected");
    assert_eq!((report.snapshots, report.blobs), (1, 0));
    store.settle().expect("synced");
    assert!(again.path.with_file_name("synced").exists());
}

/// A cache mount without first content.
fn unfilled(_: &std::path::Path) -> Result<(), crossdock_oci::error::StoreError> {
    Ok(())
}

#[test]
fn a_cache_mount_is_filled_once_and_never_in_place() {
    let session = TempStore::new();
    let fill = |text: &'static str| {
        move |path: &std::path::Path| -> Result<(), crossdock_oci::error::StoreError> {
            assert_ne!(path.file_name().expect("a name"), "data", "nobody may have it mounted");
            std::fs::write(path.join("first"), text).expect("written");
            Ok(())
        }
    };
    let failed = session.cache_mount("c", Sharing::Shared, |path| {
        std::fs::write(path.join("half"), "").expect("written");
        Err(crossdock_oci::error::StoreError::UnknownImage("x".into()))
    });
    assert!(failed.is_err());
    let path = session.cache_mount("c", Sharing::Shared, fill("1")).expect("filled").path().to_path_buf();
    assert!(!path.join("half").exists(), "what a failed attempt has left is gone");
    // A mount that a command has emptied is not filled again.
    std::fs::remove_file(path.join("first")).expect("removed");
    session.cache_mount("c", Sharing::Shared, fill("2")).expect("there");
    assert!(!path.join("first").exists());
}
