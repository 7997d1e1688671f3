//! Damaged names, documents, layers, archives and files of the store: refused in time, without a panic, and
//! without a file outside of the target.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crossdock_oci::archive::SaveItem;
use crossdock_oci::layer::extract_tar;
use crossdock_oci::manifest::{Descriptor, Document};
use crossdock_oci::store::{FOLLOWED_FROM, GcOptions, LayerOptions, Owners};
use crossdock_oci::validate::Missing;
use crossdock_oci::{Digest, ImageConfig, Reference, Store, StoreError, media_type};
use crossdock_platform::{Platform, parse_list};
use crossdock_testkit::hostile::{mutate, texts, try_inputs, try_numbered};
use crossdock_testkit::{LayerTar, TempStore, TinyImage};

const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn references() {
    let long = format!("localhost:5000/a/b-c__d.e:tag@{ZEROS}");
    let seeds = texts(&["debian", "docker.io/library/debian:bookworm", &long, "[::1]:80/x:1", ZEROS]);
    try_inputs("references", &seeds, |input| {
        let input = String::from_utf8_lossy(input);
        if let Ok(reference) = input.parse::<Reference>() {
            let again: Reference = reference.to_string().parse().expect("what is printed can be read");
            assert_eq!(again, reference);
            let _ = (reference.familiar(), reference.name(), reference.with_tag(&input));
        }
        if let Ok(digest) = input.parse::<Digest>() {
            assert_eq!(digest.to_string(), input);
            let _ = (digest.short(), digest.hex());
        }
    });
}

#[test]
fn a_layer_is_checked_without_unpacking_it() {
    let store = TempStore::new();
    let check = |archive: &[u8], diff_id: &Digest| {
        store.write_blob(archive).expect("stored");
        let layer = Descriptor::of(media_type::OCI_LAYER_TAR, archive);
        let checked = store.check_layer(&layer, diff_id);
        // In memory it is the same.
        let told = |result: &Result<(), StoreError>| result.as_ref().err().map(ToString::to_string);
        assert_eq!(told(&store.check_layer_bytes(archive, &layer, diff_id)), told(&checked));
        checked
    };
    let archive = LayerTar::new().dir("d/").file("d/f", "text").finish();
    check(&archive, &Digest::of(&archive)).expect("a good layer");
    assert_eq!(fs::read_dir(store.root().join("trees")).expect("a directory").count(), 0);
    let wrong = check(&archive, &ZEROS.parse().expect("a digest")).expect_err("another diff_id");
    assert!(wrong.to_string().contains(ZEROS), "{wrong}");
    let mut cut = archive.clone();
    cut.truncate(700);
    let deleted = LayerTar::new().file(".wh.d/f", "text").finish();
    for bad in [cut, deleted, vec![b'x'; 2048]] {
        assert!(check(&bad, &Digest::of(&bad)).is_err());
    }
}

#[test]
fn a_large_layer_is_checked_while_it_is_written() {
    let store = TempStore::new();
    let take = |archive: &[u8], diff_id: &Digest, sent: &[u8]| {
        assert!(archive.len() as u64 > FOLLOWED_FROM, "a large one");
        let layer = Descriptor::of(media_type::OCI_LAYER_TAR, archive);
        let mut writer = store.layer_writer(&layer, diff_id).expect("a writer");
        sent.chunks(100_000).for_each(|piece| writer.write_all(piece).expect("written"));
        (layer, writer)
    };
    let text = "text".repeat(2 << 20);
    let archive = LayerTar::new().dir("d/").file("d/f", &text).finish();
    let good = Digest::of(&archive);
    // What never comes does not stay, and nobody waits for it.
    drop(take(&archive, &good, &archive[..5_000_000]));
    assert!(!store.contains(&good).expect("readable"));
    let mut other = archive.clone();
    other[600] ^= 1;
    let (_, writer) = take(&archive, &good, &other);
    assert!(matches!(writer.finish(), Err(StoreError::DigestMismatch { .. })));
    assert!(!store.contains(&good).expect("readable"));
    let (_, writer) = take(&archive, &ZEROS.parse().expect("a digest"), &archive);
    let wrong = writer.finish().expect_err("another diff_id");
    assert!(wrong.to_string().contains(ZEROS), "{wrong}");
    let (layer, writer) = take(&archive, &good, &archive);
    writer.finish().expect("a good layer");
    store.check_layer(&layer, &good).expect("it is there");
    assert_eq!(fs::read_dir(store.root().join("trees")).expect("a directory").count(), 0);
    let cut = archive[..archive.len() - 3_000_000].to_vec();
    let deleted = LayerTar::new().file("f", &text).file(".wh.f/f", "text").finish();
    for bad in [cut, deleted, vec![b'x'; archive.len()]] {
        let (layer, writer) = take(&bad, &Digest::of(&bad), &bad);
        let told = writer.finish().expect_err("a bad archive").to_string();
        let later = store.check_layer(&layer, &Digest::of(&bad)).expect_err("a bad archive");
        assert_eq!(told, later.to_string());
    }
}

#[test]
fn platforms() {
    let seeds =
        texts(&["linux/amd64", "linux/arm/v7,linux/arm64/v8", "aarch64", "windows(10.0)/amd64", "linux/386"]);
    try_inputs("platforms", &seeds, |input| {
        let input = String::from_utf8_lossy(input);
        let _ = parse_list(&input);
        if let Ok(platform) = input.parse::<Platform>() {
            let normal = platform.normalised();
            assert_eq!(normal, normal.normalised());
            let _ = (platform.only(), platform.rank(&normal), platform.is_native(), platform.to_string());
        }
    });
}

/// Manifest, index and configuration of an image, as bytes.
fn documents() -> Vec<Vec<u8>> {
    let store = TempStore::new();
    let layers = || vec![LayerTar::new().dir("d/").file("d/f", "text")];
    let image = TinyImage::named(&store, "a", "linux/arm/v7", layers());
    let index = TinyImage::index(&store, "i", &[&image]);
    let config = br#"{"architecture":"amd64","os":"linux","variant":"v2","config":{"User":"a:b","Env":["A=b"],"Cmd":["c"],"Entrypoint":null,"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":1000000000},"Labels":null,"OnBuild":["RUN x"],"Shell":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]},"history":[{"created":"2026-01-01T00:00:00Z","created_by":"x","empty_layer":true}],"created":"2026-01-01T00:00:00Z"}"#;
    let manifest = store.read_blob(&image.manifest.digest).expect("there");
    vec![manifest, store.read_blob(&index.digest).expect("there"), config.to_vec()]
}

#[test]
fn manifests_and_configurations() {
    try_inputs("documents", &documents(), |input| {
        for announced in [None, Some(media_type::OCI_INDEX), Some(media_type::OCI_MANIFEST)] {
            let Ok(document) = Document::parse(input, announced) else { continue };
            let _ = (document.children().len(), document.media_type().len());
            if let Document::Index(index) = document {
                let _ = (index.select(&Platform::host()), index.images().count(), index.to_bytes());
            }
        }
        if let Ok(config) = ImageConfig::parse(input) {
            let bytes = config.to_bytes();
            ImageConfig::parse(&bytes).expect("what is written can be read");
            let _ = config.platform();
        }
    });
}

/// Archives with every kind of entry, including those that lead outside.
fn layers() -> Vec<Vec<u8>> {
    let kind = |kind, path| LayerTar::header(kind, path, 0o644);
    let plain = LayerTar::new().dir("d/").file("d/f", "text").symlink("d/l", "f").hard_link("h", "d/f");
    let plain = plain.file("d/.wh.gone", "").file("d/.wh..wh..opq", "").file_mode("suid", "x", 0o4755);
    let outside = LayerTar::new()
        .symlink("up", "../../..")
        .symlink("root", "/")
        .file("up/canary", "damaged")
        .file("root/canary", "damaged")
        .file("../canary", "damaged")
        .file("/../../canary", "damaged")
        .hard_link("stolen", "../canary")
        .hard_link("stolen2", "up/canary")
        .file("stolen", "damaged")
        .dir("up/made/");
    let special = LayerTar::new()
        .raw(kind(tar::EntryType::Fifo, "fifo"), b"")
        .raw(kind(tar::EntryType::Char, "char"), b"")
        .raw(kind(tar::EntryType::Block, "block"), b"");
    let long = "n".repeat(250);
    let pax = LayerTar::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"1.5"),
            ("uid", b"70000"),
            ("SCHILY.xattr.user.a", b"b"),
        ])
        .file("x", "text")
        .pax(&[("linkpath", b"../../canary"), ("size", b"3")])
        .file("y", "abc")
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1000")])
        .file("sparse", format!("1\n0\n3\n{}abc", "\0".repeat(506)));
    [plain, outside, special, pax].into_iter().map(LayerTar::finish).collect()
}

fn compressed(bytes: &[u8]) -> [Vec<u8>; 2] {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("memory");
    [gzip.finish().expect("memory"), zstd::encode_all(bytes, 1).expect("memory")]
}

/// A directory whose content must not change, with the target in it.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Canary {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("canary"), "whole").expect("written");
        Canary(directory)
    }

    fn check(&self, target: &Path) {
        let names = fs::read_dir(self.0.path()).expect("readable").flatten();
        let mut names: Vec<PathBuf> = names.map(|entry| entry.path()).filter(|path| path != target).collect();
        names.sort();
        assert_eq!(names, [self.0.path().join("canary")], "something was written beside the target");
        assert_eq!(fs::read(self.0.path().join("canary")).expect("readable"), b"whole");
        assert!(!Path::new("/canary").exists(), "something was written to the root");
        assert!(!Path::new("/tmp/canary").exists(), "something was written to /tmp");
    }
}

fn try_to_extract(name: &str, seeds: &[Vec<u8>]) {
    let canary = Canary::new();
    let target = canary.0.path().join("target");
    try_inputs(name, seeds, |input| {
        fs::create_dir(&target).expect("made");
        let _ = extract_tar(input, &target, Owners::Ignore, "hostile", &Default::default());
        canary.check(&target);
        remove(&target);
    });
}

/// Removes a tree whose directories may have any mode.
fn remove(target: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if fs::remove_dir_all(target).is_ok() {
        return;
    }
    let mut pending = vec![target.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        pending.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    fs::remove_dir_all(target).expect("now it can be removed");
}

#[test]
fn tar_archives() {
    try_to_extract("tar archives", &layers());
}

#[test]
fn compressed_archives() {
    let seeds: Vec<Vec<u8>> = layers().iter().flat_map(|layer| compressed(layer)).collect();
    try_to_extract("compressed archives", &seeds);
}

#[test]
fn layers_of_images() {
    let canary = Canary::new();
    let root = canary.0.path().join("store");
    let store = Store::open(&root).expect("a new store").with_owners(Owners::Ignore);
    let mut seeds = layers();
    seeds.extend(layers().iter().flat_map(|layer| compressed(layer)));
    try_inputs("layers", &seeds, |input| {
        let session = store.session();
        let digest = session.write_blob(input).expect("written");
        let kind =
            if input.first() == Some(&0x1f) { media_type::OCI_LAYER_GZIP } else { media_type::OCI_LAYER_TAR };
        // The `diff_id` is right for plain archives, wrong for the rest.
        let _ = session.unpack(&Descriptor::new(kind, digest.clone(), input.len() as u64), &digest, &[]);
        let _ = session.verify_blob(&digest);
        canary.check(&root);
        drop(session);
        let report = store.gc(&everything()).expect("collected");
        assert_eq!(report.failed, [""; 0]);
    });
    let left = fs::read_dir(root.join("trees")).expect("readable").count();
    assert_eq!(left, 0, "trees are left");
}

fn everything() -> GcOptions {
    let all = Some(std::time::Duration::ZERO);
    GcOptions {
        cache_unused_for: all,
        partials_unused_for: all,
        cache_mounts_unused_for: all,
        ..GcOptions::default()
    }
}

/// A docker archive and an OCI layout.
fn archives() -> Vec<Vec<u8>> {
    let store = TempStore::new();
    let image = |platform| {
        let layers = vec![LayerTar::new().dir("d/").file("d/f", platform), LayerTar::new().file("g", "x")];
        TinyImage::named(&store, "a:b", platform, layers)
    };
    let images = [image("linux/amd64"), image("linux/arm64")];
    let index = TinyImage::index(&store, "i", &[&images[0], &images[1]]);
    let item = |target: &Descriptor| SaveItem {
        references: vec!["a:b".parse().expect("valid")],
        plain_names: Vec::new(),
        target: target.clone(),
    };
    let mut docker = Vec::new();
    store.save_docker(&[item(&images[0].manifest)], &mut docker).expect("saved");
    let mut oci = Vec::new();
    store.save_oci(&[item(&index)], &mut oci).expect("saved");
    vec![docker, oci]
}

/// Damages JSON and headers rather than the padding between them: an archive is mostly zeros.
fn mutate_text(random: &mut crossdock_testkit::hostile::Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if random.below(3) == 0 {
        return mutate(random, seeds);
    }
    let mut bytes = seeds[random.below(seeds.len())].clone();
    let count = bytes.iter().filter(|byte| **byte != 0).count();
    for _ in 0..=random.below(3) {
        let nth = random.below(count);
        let place = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).nth(nth).map(|(at, _)| at);
        if let Some(at) = place {
            bytes[at] = random.next() as u8;
        }
    }
    let _ = fix_checksums(&mut bytes);
    bytes
}

/// Corrects the checksums of all headers, so that damaged headers are read. `None` at the first that is no
/// header.
fn fix_checksums(bytes: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at + 512 <= bytes.len() && bytes[at] != 0 {
        let header = &mut bytes[at..at + 512];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok()?;
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).ok()?;
        at += 512 + size.next_multiple_of(512);
    }
    Some(())
}

#[test]
fn archives_of_images() {
    let canary = Canary::new();
    let root = canary.0.path().join("store");
    let store = Store::open(&root).expect("a new store");
    let mut seeds = archives();
    seeds.extend(layers());
    try_numbered(
        "archives",
        |random| mutate_text(random, &seeds),
        |input| {
            let session = store.session();
            let loaded = session.load(input, &LayerOptions::default(), "hostile");
            for loaded in loaded.into_iter().flatten() {
                // An accepted image can be named, and is whole or an error says what is missing.
                let name: Reference = "hostile/name".parse().expect("valid");
                let _ = session.name_loaded(&loaded, &name);
                let _ = session.validate(&loaded.target, Missing::Refuse);
                let _ = session.validate(&loaded.target, Missing::Allow);
                for (_, manifest) in &loaded.images {
                    let image = session.load_image(manifest);
                    let _ = image.map(|image| session.with_owners(Owners::Ignore).unpack_image(&image, 1));
                }
                session.remove(&name, None).ok();
            }
            canary.check(&root);
            drop(session);
            store.gc(&everything()).expect("collected");
        },
    );
}

#[test]
fn layouts() {
    let canary = Canary::new();
    let root = canary.0.path().join("store");
    let store = TempStore::new();
    let image = TinyImage::named(&store, "a:b", "linux/amd64", vec![LayerTar::new().file("f", "x")]);
    let layout = store.scratch().join("layout");
    let item = SaveItem {
        references: vec!["a:b".parse().expect("valid")],
        plain_names: Vec::new(),
        target: image.manifest.clone(),
    };
    store.write_layout(&[item], &layout).expect("written");
    let index = layout.join("index.json");
    let seeds = vec![fs::read(&index).expect("readable")];
    let target = Store::open(&root).expect("a new store");
    try_inputs("layouts", &seeds, |input| {
        fs::write(&index, input).expect("written");
        let session = target.session();
        let _ = session.read_layout(&layout, |_| true);
        canary.check(&root);
    });
}

/// Damages the files of a store other than its content, and runs everything that reads them.
#[test]
fn files_of_the_store() {
    let store = TempStore::new();
    let image = TinyImage::named(&store, "a:b", "linux/amd64", vec![LayerTar::new().file("f", "x")]);
    let name: Reference = "a:b".parse().expect("valid");
    let key = Digest::of(b"key");
    store.cache_put(&key, b"record", std::slice::from_ref(&image.manifest.digest), &[]).expect("put");
    let file = |directory: &str| {
        let entries = fs::read_dir(store.root().join(directory)).expect("readable").flatten();
        entries.map(|entry| entry.path()).next().expect("a file")
    };
    let (record, cached, manifest) = (file("images"), file("cache"), store.blob_path(&image.manifest.digest));
    let (record_bytes, cached_bytes) = (fs::read(&record).expect("there"), fs::read(&cached).expect("there"));
    let manifest_bytes = fs::read(&manifest).expect("there");
    let lease = store.root().join("leases/0123456789abcdef");
    let seeds = vec![
        record_bytes.clone(),
        cached_bytes.clone(),
        manifest_bytes.clone(),
        format!("b {key}\ns {key}\nt 01234567-89abcdef01\n").into_bytes(),
    ];
    try_inputs("files of the store", &seeds, |input| {
        let session = Store::open(store.root()).expect("a store");
        for damaged in [&record, &cached, &manifest, &lease] {
            fs::write(damaged, input).expect("written");
            let locked = fs::File::open(&lease).map(|file| file.lock().map(|()| file));
            let _ = (session.image(&name), session.images(), session.readable_images());
            let _ = (session.cache_get(&key), session.find_by_id("sha256:0"), session.disk_usage());
            let _ = session.gc(&GcOptions { dry_run: true, ..everything() });
            let _ = session.validate(&image.manifest, Missing::Allow);
            drop(locked);
            // Reading moves a damaged blob away.
            fs::write(&record, &record_bytes).expect("written");
            fs::write(&cached, &cached_bytes).expect("written");
            fs::write(&manifest, &manifest_bytes).expect("written");
            let _ = fs::remove_file(&lease);
        }
        session.image(&name).expect("readable").expect("there");
    });
}
