//! Blobs, downloads and image records.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::time::Duration;

use crossdock_oci::store::{GcOptions, ImageEntry, Ingest};
use crossdock_oci::{Digest, Reference, Store, StoreError};
use crossdock_platform::Platform;
use crossdock_testkit::{LayerTar, TempStore, TinyImage};

fn platform(text: &str) -> Platform {
    text.parse().expect("a valid platform")
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a valid reference")
}

fn partial(store: &Store, digest: &Digest) -> crossdock_oci::store::Partial {
    match store.partial(digest).expect("a download") {
        Ingest::Partial(partial) => partial,
        Ingest::Present(size) => panic!("already there with {size} bytes"),
    }
}

fn files_in(store: &Store, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(store.root().join(directory)).expect("a directory of the store");
    entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn blobs_are_written_verified_and_read() {
    let store = TempStore::new();
    let digest = store.write_blob(b"hello").expect("written");
    assert_eq!(digest, Digest::of(b"hello"));
    assert_eq!(store.blob_size(&digest).expect("looked up"), Some(5));
    assert_eq!(store.read_blob(&digest).expect("read"), b"hello");
    let (mut file, rest) = store.open_blob_at(&digest, 2).expect("opened");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    assert_eq!((text.as_str(), rest), ("llo", 3));
    // Writing again works, and leaves nothing behind.
    store.write_blob(b"hello").expect("written again");
    assert!(files_in(&store, "tmp").is_empty());
}

#[test]
fn many_small_blobs_are_written_together() {
    let store = TempStore::new();
    // More than are open at once; one twice, one known.
    let mut blobs: Vec<Vec<u8>> = (0..150_u32).map(|i| i.to_le_bytes().to_vec()).collect();
    blobs.push(blobs[3].clone());
    store.write_blob(&blobs[7]).expect("written");
    let digests: Vec<Digest> = blobs.iter().map(|bytes| Digest::of(bytes)).collect();
    store.write_blobs(digests.iter().zip(blobs.iter().map(Vec::as_slice))).expect("written");
    for (digest, bytes) in digests.iter().zip(&blobs) {
        assert_eq!(store.read_blob(digest).expect("read"), *bytes);
    }
    let wrong = Digest::of(b"right");
    let error = store.write_blobs([(&wrong, &b"wrong"[..])]).expect_err("another digest");
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert!(!store.contains(&wrong).expect("looked up"));
    assert!(files_in(&store, "tmp").is_empty());
}

#[test]
fn blobs_that_were_not_waited_for_are_compared_in_a_later_boot() {
    let store = TempStore::new();
    let blobs: [&[u8]; 3] = [b"whole", b"torn", b"of this boot"];
    let [whole, torn, young] = blobs.map(Digest::of);
    let write = || {
        let digests = [&whole, &torn, &young];
        store.write_blobs_unsynced(digests.into_iter().zip(blobs)).expect("written");
    };
    write();
    assert!(files_in(&store, "tmp").is_empty());
    let mode = |digest: &Digest| {
        let meta = store.blob_path(digest).metadata().expect("it is there");
        meta.permissions().mode() & 0o7777
    };
    assert_eq!([&whole, &torn, &young].map(|digest| mode(digest) & 0o1000), [0o1000; 3]);
    store.cache_put(&Digest::of(b"step"), b"outcome", std::slice::from_ref(&torn), &[]).expect("recorded");
    // In the same boot nobody reads them for that: what is wrong shows when they are read.
    let time = fs::metadata(store.blob_path(&young)).and_then(|meta| meta.modified()).expect("a time");
    fs::write(store.blob_path(&young), b"of this b00t").expect("damaged");
    let file = fs::File::options().write(true).open(store.blob_path(&young)).expect("opened");
    file.set_times(fs::FileTimes::new().set_modified(time)).expect("set");
    assert!(store.contains(&young).expect("looked up"));
    assert!(matches!(store.read_blob(&young), Err(StoreError::CorruptBlob { .. })));
    // As another boot would have left them; one lost its bytes with the power.
    fs::write(store.blob_path(&torn), b"t0rn").expect("damaged");
    for digest in [&whole, &torn] {
        let file = fs::File::options().write(true).open(store.blob_path(digest)).expect("opened");
        let time = file.metadata().and_then(|meta| meta.modified()).expect("a time");
        file.set_times(fs::FileTimes::new().set_modified(time + Duration::from_nanos(1))).expect("set");
    }
    assert!(store.cache_get(&Digest::of(b"step")).expect("looked up").is_none());
    assert!(!store.contains(&torn).expect("looked up"));
    assert!(matches!(store.read_blob(&torn), Err(StoreError::MissingBlob(_))));
    assert!(matches!(store.open_blob(&torn), Err(StoreError::MissingBlob(_))));
    assert_eq!(files_in(&store, "corrupt").len(), 2);
    assert!(store.contains(&whole).expect("looked up"));
    assert_eq!(mode(&whole) & 0o1000, 0, "what was compared once is on the disk");
    assert_eq!(store.read_blob(&whole).expect("read"), b"whole");
    write();
    for (digest, bytes) in [&whole, &torn, &young].into_iter().zip(blobs) {
        assert_eq!(store.read_blob(digest).expect("read"), bytes);
    }
    let mismatch = store.write_blobs_unsynced([(&torn, &b"other"[..])]).expect_err("another digest");
    assert!(matches!(mismatch, StoreError::DigestMismatch { .. }), "{mismatch}");
}

#[test]
fn a_wrong_digest_stores_nothing() {
    let store = TempStore::new();
    let mut writer = store.blob_writer().expect("a writer");
    writer.write_all(b"trunc").expect("written");
    let expected = Digest::of(b"truncated");
    let error = writer.commit(Some(&expected)).expect_err("the bytes are others");
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert!(!store.contains(&expected).expect("looked up"));
    assert!(files_in(&store, "tmp").is_empty() && files_in(&store, "blobs/sha256").is_empty());
}

#[test]
fn a_corrupt_blob_is_set_aside_so_that_it_can_be_fetched_again() {
    let store = TempStore::new();
    for read_whole in [true, false] {
        let digest = store.write_blob(b"content").expect("written");
        fs::write(store.blob_path(&digest), b"c0ntent").expect("damaged");
        let message = if read_whole {
            store.read_blob(&digest).expect_err("damaged").to_string()
        } else {
            let mut reader = store.open_blob(&digest).expect("opened");
            std::io::copy(&mut reader, &mut std::io::sink()).expect_err("damaged").to_string()
        };
        assert!(message.contains(digest.as_str()) && message.contains("pull or build"), "{message}");
        assert!(!store.contains(&digest).expect("looked up"));
        assert_eq!(files_in(&store, "corrupt").len(), 1);
    }
    let digest = store.write_blob(b"content").expect("repaired");
    assert_eq!(store.read_blob(&digest).expect("read"), b"content");
}

#[test]
fn a_blob_too_large_for_memory_is_not_read() {
    let store = TempStore::new();
    let digest = store.write_blob(&vec![0; 9 << 20]).expect("written");
    assert!(matches!(store.read_blob(&digest), Err(StoreError::TooLarge { .. })));
}

#[test]
fn downloads_resume() {
    let store = TempStore::new();
    let digest = Digest::of(b"first second");
    let mut first = partial(&store, &digest);
    first.append(b"first ").expect("appended");
    drop(first);
    let mut second = partial(&store, &digest);
    assert_eq!(second.length(), 6);
    second.append(b"second").expect("appended");
    assert_eq!(second.commit().expect("verified"), 12);
    assert!(matches!(store.partial(&digest).expect("found"), Ingest::Present(12)));
    assert!(files_in(&store, "ingest").is_empty());
}

#[test]
fn a_download_of_wrong_bytes_starts_from_nothing() {
    let store = TempStore::new();
    let digest = Digest::of(b"right");
    let mut download = partial(&store, &digest);
    download.append(b"wrong").expect("appended");
    assert!(matches!(download.commit(), Err(StoreError::DigestMismatch { .. })));
    let mut download = partial(&store, &digest);
    assert_eq!(download.length(), 0);
    download.append(b"xx").expect("appended");
    download.restart().expect("restarted");
    download.append(b"right").expect("appended");
    download.commit().expect("verified");
}

#[test]
fn a_second_download_waits_and_finds_the_blob() {
    let store = TempStore::new();
    let digest = Digest::of(b"x");
    let mut download = partial(&store, &digest);
    let (send, receive) = mpsc::channel();
    let other = Store::open(store.root()).expect("opened");
    let waiting = digest.clone();
    let thread = std::thread::spawn(move || {
        send.send(()).expect("received");
        matches!(other.partial(&waiting).expect("found"), Ingest::Present(1))
    });
    receive.recv().expect("started");
    download.append(b"x").expect("appended");
    download.commit().expect("verified");
    assert!(thread.join().expect("no panic"));
}

#[test]
fn images_are_kept_by_reference_and_platform() {
    let store = TempStore::new();
    let layer = || vec![LayerTar::new().file("f", "1")];
    let arm = TinyImage::named(&store, "app:1", "linux/arm/v6", layer());
    let amd = TinyImage::named(&store, "app:1", "linux/amd64", layer());
    let app = reference("app:1");
    let record = store.image(&app).expect("read").expect("there");
    assert_eq!(record.images.len(), 2);
    assert_eq!(store.find(&app, &platform("linux/arm/v7")).expect("read"), Some(arm.manifest.clone()));
    let error = store.require(&app, &platform("linux/s390x")).expect_err("not there").to_string();
    assert!(error.contains("linux/amd64, linux/arm/v6"), "{error}");

    store.tag(&app, &reference("host/b:2")).expect("tagged");
    assert_eq!(store.images().expect("read").len(), 2);
    store.remove(&app, Some(&platform("linux/arm/v6"))).expect("removed");
    assert_eq!(store.find(&app, &platform("linux/arm/v6")).expect("read"), None);
    store.remove(&app, None).expect("removed");
    assert!(matches!(store.remove(&app, None), Err(StoreError::UnknownImage(_))));

    let loaded = store.load_image(&amd.manifest).expect("loaded");
    assert_eq!(loaded.config.platform(), amd.platform);
    for digest in [&loaded.manifest_digest, &loaded.manifest.config.digest] {
        let found = store.find_by_id(&digest.hex()[..12]).expect("looked up");
        assert_eq!((found.len(), &found[0].images[0].manifest), (1, &amd.manifest));
    }
    assert!(store.find_by_id("ffff0000ffff").expect("looked up").is_empty());
    assert!(matches!(store.find_by_id("abc"), Err(StoreError::BadId(_))));
}

#[test]
fn a_name_that_keeps_its_meaning_is_not_written_again() {
    use std::os::unix::fs::MetadataExt;
    let store = TempStore::new();
    let layer = |text: &str| vec![LayerTar::new().file("f", text)];
    let first = TinyImage::named(&store, "app:1", "linux/arm64", layer("1"));
    let app = reference("app:1");
    let entry = || {
        let names = files_in(&store, "images");
        assert_eq!(names.len(), 1);
        fs::metadata(store.root().join("images").join(&names[0])).expect("a record").ino()
    };
    let (inode, record) = (entry(), store.image(&app).expect("read").expect("there"));
    store.put_image(&app, &first.platform, &first.manifest).expect("put");
    store.tag(&app, &app).expect("tagged");
    assert_eq!((entry(), store.image(&app).expect("read")), (inode, Some(record)));
    let second = TinyImage::named(&store, "app:1", "linux/arm64", layer("2"));
    assert_ne!(entry(), inode);
    assert_eq!(store.find(&app, &second.platform).expect("read"), Some(second.manifest));
}

#[test]
fn images_without_a_name_stay_until_they_are_removed() {
    let store = TempStore::new();
    // What a handle wrote is kept by its lease, too, until it is dropped.
    let writer = Store::open(store.root()).expect("a store");
    let [arm, amd] = ["linux/arm64", "linux/amd64"]
        .map(|platform| TinyImage::write(&writer, platform, vec![LayerTar::new().file("f", "1")]));
    let entry =
        |image: &TinyImage| ImageEntry { platform: image.platform.clone(), manifest: image.manifest.clone() };
    for image in [&arm, &amd] {
        writer.put_untagged(&image.manifest, &[entry(image)]).expect("put");
    }
    drop(writer);
    let collect = || {
        let other = Store::open(store.root()).expect("a store");
        other.gc(&GcOptions::default()).expect("collected");
        other
    };
    let find = |store: &Store, image: &TinyImage| {
        let found = store.find_by_id(image.manifest.digest.as_str()).expect("looked up");
        found.into_iter().map(|found| found.reference).collect::<Vec<_>>()
    };
    let other = collect();
    assert_eq!(other.untagged().expect("read").len(), 2);
    other.load_image(&arm.manifest).expect("kept");
    assert_eq!(find(&other, &arm), [None]);
    assert_eq!(other.disk_usage().expect("counted").images.count, 2);
    // A name replaces the record, and an image with a name needs none.
    other.put_image(&reference("app"), &arm.platform, &arm.manifest).expect("put");
    other.put_untagged(&arm.manifest, &[entry(&arm)]).expect("put");
    assert_eq!(find(&other, &arm), [Some(reference("app"))]);
    assert_eq!(other.untagged().expect("read").len(), 1);
    // A damaged record still keeps its image.
    let record = store.root().join("untagged").join(format!("sha256-{}.json", amd.manifest.digest.hex()));
    std::fs::write(&record, "{").expect("written");
    drop(other);
    let other = collect();
    assert_eq!(other.untagged().expect("read"), []);
    other.load_image(&amd.manifest).expect("kept");
    assert!(other.remove_untagged(&amd.manifest.digest).expect("removed"));
    assert!(!other.remove_untagged(&amd.manifest.digest).expect("nothing to do"));
    assert!(!record.exists());
    drop(other);
    assert!(collect().load_image(&amd.manifest).is_err());
}

#[test]
fn an_index_stays_as_long_as_it_is_true() {
    let store = TempStore::new();
    let layer = |text: &str| vec![LayerTar::new().file("f", text)];
    let arm = TinyImage::write(&store, "linux/arm64", layer("1"));
    let amd = TinyImage::write(&store, "linux/amd64", layer("1"));
    let index = TinyImage::index(&store, "app", &[&arm, &amd]);
    let app = reference("app");
    let read = || store.image(&app).expect("read").expect("there");
    assert_eq!(read().index.as_ref(), Some(&index));
    store.put_image(&app, &amd.platform, &amd.manifest).expect("put");
    assert_eq!(read().index.as_ref(), Some(&index));
    let newer = TinyImage::named(&store, "app", "linux/amd64", layer("2"));
    assert_eq!(read().index, None);
    assert_eq!(store.find(&app, &newer.platform).expect("read"), Some(newer.manifest));
    assert_eq!(read().images.len(), 2);
    TinyImage::index(&store, "app", &[&arm]);
    assert_eq!(read().images.len(), 1);
}

#[test]
fn records_of_two_writers_both_survive() {
    let store = TempStore::new();
    let images: Vec<TinyImage> = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64"]
        .iter()
        .map(|p| TinyImage::write(&store, p, vec![LayerTar::new().file("p", p)]))
        .collect();
    std::thread::scope(|scope| {
        for image in &images {
            let other = Store::open(store.root()).expect("opened");
            scope.spawn(move || other.put_image(&reference("app"), &image.platform, &image.manifest));
        }
    });
    assert_eq!(store.image(&reference("app")).expect("read").expect("there").images.len(), 4);
}

#[test]
fn damaged_records_and_foreign_directories_are_named() {
    let store = TempStore::new();
    TinyImage::named(&store, "app", "linux/amd64", vec![]);
    let record = store.root().join("images").join(&files_in(&store, "images")[0]);
    fs::write(&record, "{").expect("damaged");
    let error = store.images().expect_err("damaged").to_string();
    assert!(error.contains(record.to_str().expect("UTF-8")) && error.contains("crossdock rmi"), "{error}");

    fs::write(store.root().join("version"), "7\n").expect("changed");
    assert!(matches!(Store::open(store.root()), Err(StoreError::Version { .. })));
    fs::write(store.scratch().join("something"), "").expect("written");
    assert!(matches!(Store::open(store.scratch()), Err(StoreError::NotAStore(_))));
}

/// What may lie where a file of the store should be.
const DAMAGE: [&str; 5] = ["empty", "garbage", "directory", "pipe", "loop"];

fn damage(path: &std::path::Path, how: &str) {
    match how {
        "empty" => fs::write(path, "").expect("written"),
        "garbage" => fs::write(path, [0xff; 5000]).expect("written"),
        other => {
            let _ = fs::remove_file(path);
            match other {
                "directory" => fs::create_dir_all(path.join("x")).expect("created"),
                "loop" => std::os::unix::fs::symlink(path, path).expect("linked"),
                _ => {
                    let made = std::process::Command::new("mkfifo").arg(path).status();
                    assert!(made.expect("mkfifo runs").success());
                }
            }
        }
    }
}

#[test]
fn a_damaged_record_hinders_nobody_who_gives_the_name() {
    for how in DAMAGE {
        let store = TempStore::new();
        let image = TinyImage::named(&store, "app", "linux/amd64", vec![]);
        TinyImage::named(&store, "other", "linux/amd64", vec![]);
        let record = store
            .root()
            .join("images")
            .join(files_in(&store, "images").into_iter().find(|name| name.contains("app")).expect("there"));
        damage(&record, how);
        assert!(matches!(store.image(&reference("app")), Err(StoreError::Record { .. })), "{how}");
        let (readable, damaged) = store.readable_images().expect("the others");
        assert_eq!((readable.len(), damaged.len()), (1, 1), "{how}");
        store
            .put_image(&reference("app"), &"linux/amd64".parse().expect("valid"), &image.manifest)
            .expect(how);
        assert_eq!(store.image(&reference("app")).expect(how).expect("there").images.len(), 1);
        let told = store.warnings().take();
        assert!(told.len() == 1 && told[0].contains("app:latest"), "{told:?}");
        damage(&record, how);
        store.tag(&reference("other"), &reference("app")).expect(how);
        assert!(store.image(&reference("app")).expect(how).is_some());
        damage(&record, how);
        store.remove(&reference("app"), None).expect(how);
        assert_eq!(store.images().expect("all is well").len(), 1, "{how}");
        store.gc(&GcOptions::default()).expect(how);
    }
}

#[test]
fn damaged_cache_records_leases_and_snapshots_are_as_good_as_none() {
    for how in DAMAGE {
        let store = TempStore::new();
        let key = Digest::of(b"step");
        store.cache_put(&key, b"result", &[], &[]).expect("stored");
        let record = store.root().join("cache").join(&files_in(&store, "cache")[0]);
        damage(&record, how);
        assert_eq!(store.cache_get(&key).expect(how), None, "{how}");
        store.cache_put(&key, b"again", &[], &[]).expect(how);
        assert_eq!(store.cache_get(&key).expect(how).as_deref(), Some(&b"again"[..]), "{how}");
        damage(&record, how);
        damage(&store.root().join("leases/0123456789abcdef"), how);
        damage(&store.root().join("snapshots").join(format!("sha256-{}", key.hex())), how);
        assert_eq!(store.snapshot(&key, &[]).expect(how), None);
        store.disk_usage().expect(how);
        store
            .gc(&GcOptions { cache_unused_for: Some(Default::default()), ..GcOptions::default() })
            .expect(how);
        assert_eq!(store.cache_get(&key).expect(how), None, "{how}");
    }
}

#[test]
fn what_is_no_file_is_no_blob() {
    for how in ["directory", "pipe"] {
        let store = TempStore::new();
        let digest = store.write_blob(b"content").expect("stored");
        damage(&store.blob_path(&digest), how);
        assert!(!store.contains(&digest).expect(how), "{how}");
        assert!(store.read_blob(&digest).is_err(), "{how}");
        store.gc(&GcOptions::default()).expect(how);
        assert_eq!(store.write_blob(b"content").expect(how), digest);
        assert_eq!(store.read_blob(&digest).expect(how), b"content");
    }
}
