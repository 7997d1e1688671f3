//! Several processes at once, killed processes and full disks.
//!
//! The other processes are this test program again, running one of the ignored tests below.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossdock_oci::manifest::Descriptor;
use crossdock_oci::media_type;
use crossdock_oci::store::{GcOptions, Ingest, LayerOptions};
use crossdock_oci::validate::Missing;
use crossdock_oci::{Digest, Reference, Store};
use crossdock_testkit::{LayerTar, TempStore, TinyImage};

const ROOT: &str = "CROSSDOCK_TEST_STORE";
const NAME: &str = "CROSSDOCK_TEST_NAME";

fn root() -> PathBuf {
    std::env::var_os(ROOT).expect("set by the test that started this process").into()
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("Linux knows it")
}

fn start(test: &str, store: &Store, name: &str) -> Child {
    Command::new(this_program())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(ROOT, store.root())
        .env(NAME, name)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs")
}

fn everything() -> GcOptions {
    GcOptions {
        cache_unused_for: Some(Duration::ZERO),
        partials_unused_for: Some(Duration::ZERO),
        cache_mounts_unused_for: Some(Duration::ZERO),
        ..GcOptions::default()
    }
}

/// Does a little of everything that a build does; fails if anything it made is removed.
fn build(store: &Store, name: &str, round: usize) {
    let text = format!("{name} {round}");
    let base = TinyImage::write(store, "linux/amd64", vec![LayerTar::new().dir("d/").file("d/f", &text)]);
    let lower = store.unpack(&base.layers[0], &base.diff_ids[0], &[]).expect("unpacked").path;
    let scratch = store.new_scratch().expect("made");
    fs::create_dir(scratch.upper().join("new")).expect("created");
    fs::write(scratch.upper().join("new/f"), &text).expect("written");
    let frozen = scratch.freeze().expect("frozen");
    let layer = store.commit_frozen(&frozen, &LayerOptions::default()).expect("committed");
    assert_eq!(fs::read_to_string(lower.join("d/f")).expect("still there"), text);
    assert_eq!(fs::read_to_string(frozen.path().expect("whole").join("new/f")).expect("still there"), text);
    let key = Digest::of(text.as_bytes());
    let blob = layer.descriptor.digest;
    store.cache_put(&key, b"", std::slice::from_ref(&blob), &[layer.diff_id]).expect("put");
    let content = text.repeat(1000);
    if let Ingest::Partial(mut partial) = store.partial(&Digest::of(content.as_bytes())).expect("begun") {
        let have = usize::try_from(partial.length()).expect("small");
        for piece in content.as_bytes()[have..].chunks(1000) {
            partial.append(piece).expect("appended");
        }
        partial.commit().expect("verified");
    }
    let reference: Reference = format!("test/{name}").parse().expect("valid");
    store.put_image(&reference, &base.platform, &base.manifest).expect("put");
    store.validate(&base.manifest, Missing::Refuse).expect("whole");
    assert!(store.contains(&blob).expect("looked up"));
}

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn builder_process() {
    let name = std::env::var(NAME).expect("set");
    let store = Store::open(&root()).expect("opened");
    for round in 0..15 {
        build(&store.session(), &name, round);
    }
}

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn endless_process() {
    let name = std::env::var(NAME).expect("set");
    let store = Store::open(&root()).expect("opened");
    for round in 0.. {
        build(&store, &name, round);
        println!("{round}");
        std::io::stdout().flush().expect("the parent reads");
    }
}

#[test]
fn two_builds_and_a_prune_at_once() {
    let store = TempStore::new();
    let mut builders = ["one", "two"].map(|name| start("processes::builder_process", &store, name));
    let mut collections = 0;
    while builders.iter_mut().any(|b| b.try_wait().expect("a child").is_none()) {
        let report = store.gc(&everything()).expect("collected");
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        collections += 1;
    }
    for builder in builders {
        let output = builder.wait_with_output().expect("a child");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(collections > 0);
    for record in store.images().expect("read") {
        store.validate(&record.images[0].manifest, Missing::Refuse).expect("whole");
    }
    assert_eq!(store.images().expect("read").len(), 2);
}

#[test]
fn a_killed_process_leaves_a_consistent_store() {
    let store = TempStore::new();
    for rounds in 0..4 {
        let mut child = start("processes::endless_process", &store, "killed");
        let output = child.stdout.take().expect("piped");
        let wanted = format!("{rounds}");
        let is_there = BufReader::new(output).lines().any(|line| line.expect("UTF-8") == wanted);
        assert!(is_there, "the child ended by itself");
        child.kill().expect("it runs");
        child.wait().expect("a child");

        // Checks the store as the kill left it, then collects.
        for record in store.session().images().expect("read") {
            store.session().validate(&record.images[0].manifest, Missing::Refuse).expect("whole");
        }
        let blobs = fs::read_dir(store.root().join("blobs/sha256")).expect("read");
        for blob in blobs {
            let name = blob.expect("an entry").file_name();
            let digest: Digest = format!("sha256:{}", name.to_string_lossy()).parse().expect("a digest");
            store.session().verify_blob(&digest).expect("a name is a promise");
        }
        // Each round gives the name to another image.
        for target in store.untagged_digests().expect("listed") {
            store.session().remove_untagged(&target).expect("removed");
        }
        let report = store.gc(&everything()).expect("collected");
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        for directory in ["tmp", "leases", "ingest", "cache"] {
            let left = fs::read_dir(store.root().join(directory)).expect("read").count();
            assert_eq!(left, 0, "{directory}");
        }
        // One tree for each of the two names.
        assert!(fs::read_dir(store.root().join("trees")).expect("read").count() <= 2);
        build(&store.session(), "after", rounds);
    }
}

#[test]
#[ignore = "run by the test below, on a small file system"]
fn full_disk_process() {
    let store = Store::open(&root()).expect("opened");
    let noise = |seed: u32| -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..1 << 20).map(|_| next()).collect()
    };
    let small = store.write_blob(b"small").expect("room for this");
    let tar = LayerTar::new().file("f", vec![0; 2 << 20]).finish();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let layer = store.write_blob(&gzip).expect("room for this");
    let layer = Descriptor::new(media_type::OCI_LAYER_GZIP, layer, gzip.len() as u64);
    let scratch = store.new_scratch().expect("made");
    fs::write(scratch.upper().join("f"), noise(2000)).expect("room for this");
    // Writes blobs until the disk is full.
    let error = (0..100).find_map(|i| store.write_blob(&noise(i)).err()).expect("it is full at last");
    assert!(error.is_no_space(), "{error}");
    assert!(error.to_string().contains(store.root().to_str().expect("UTF-8")), "{error}");
    assert!(error.to_string().contains("free"), "{error}");
    // A download keeps the bytes it has and resumes when there is room.
    let content = noise(1000);
    let digest = Digest::of(&content);
    let Ok(Ingest::Partial(mut partial)) = store.partial(&digest) else { panic!("an empty download fits") };
    let error = content.chunks(4096).find_map(|c| partial.append(c).err()).expect("it is full");
    assert!(error.is_no_space(), "{error}");
    let have = partial.length();
    drop(partial);
    let error = store.unpack(&layer, &Digest::of(&tar), &[]).expect_err("it is full");
    assert!(error.is_no_space(), "{error}");
    let error = store.commit_layer(scratch, &LayerOptions::default()).expect_err("it is full");
    assert!(error.is_no_space(), "{error}");
    for path in ["tmp", "blobs/sha256"] {
        for entry in fs::read_dir(store.root().join(path)).expect("read") {
            let entry = entry.expect("an entry");
            assert_ne!(path, "tmp", "{entry:?} was left behind");
            let digest: Digest =
                format!("sha256:{}", entry.file_name().to_string_lossy()).parse().expect("a digest");
            store.verify_blob(&digest).expect("no torn blob");
        }
    }
    // A prune works on a full disk, and makes room.
    drop(store);
    let store = Store::open(&root()).expect("opened");
    let report = store.gc(&GcOptions::default()).expect("collected");
    assert!(report.bytes > 1 << 20, "{report:?}");
    assert!(!store.contains(&small).expect("looked up"));
    let Ok(Ingest::Partial(mut partial)) = store.partial(&digest) else { panic!("it was not complete") };
    assert_eq!(partial.length(), have);
    partial.append(&content[usize::try_from(have).expect("small")..]).expect("room now");
    partial.commit().expect("verified");
}

#[test]
fn a_full_disk_is_told_and_leaves_no_torn_blob() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = "mount -t tmpfs -o size=8m tmpfs \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(this_program())
        .args(["--ignored", "--exact", "--nocapture", "processes::full_disk_process"])
        .env(ROOT, directory.path().join("store"))
        .output()
        .expect("unshare, of Debian's util-linux, is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}
