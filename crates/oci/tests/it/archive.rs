//! Archives and layouts: ours read back, those of other tools, and damaged ones.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use crossdock_oci::archive::{Loaded, SaveItem};
use crossdock_oci::layer::{self, Timestamps};
use crossdock_oci::manifest::Descriptor;
use crossdock_oci::media_type::{self, Compression};
use crossdock_oci::store::{GcOptions, LayerOptions, Owners};
use crossdock_oci::validate::{Missing, Validated};
use crossdock_oci::{Digest, ImageConfig, Index, Manifest, Reference, Store, StoreError};
use crossdock_testkit::{LayerTar, TempStore, TinyImage};

fn reference(text: &str) -> Reference {
    text.parse().expect("a valid reference")
}

fn two_layers(text: &str) -> Vec<LayerTar> {
    vec![
        LayerTar::new().dir("etc/").file("etc/base", "base").file("gone", "1"),
        LayerTar::new().dir("etc/").file("etc/top", text).file(".wh.gone", ""),
    ]
}

fn item(name: &str, target: &Descriptor) -> SaveItem {
    SaveItem { references: vec![reference(name)], plain_names: Vec::new(), target: target.clone() }
}

fn save_docker(store: &Store, items: &[SaveItem]) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.save_docker(items, &mut bytes).expect("saved");
    bytes
}

fn save_oci(store: &Store, items: &[SaveItem]) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.save_oci(items, &mut bytes).expect("saved");
    bytes
}

/// A reader that cannot seek and gives little at a time, like a pipe.
struct Pipe<'a>(&'a [u8]);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = buffer.len().min(700);
        self.0.read(&mut buffer[..n])
    }
}

fn load(store: &Store, bytes: &[u8]) -> Result<Vec<Loaded>, StoreError> {
    store.load(Pipe(bytes), &LayerOptions::default(), "test.tar")
}

/// Runs a tool and returns what it prints.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program}, a Debian package of that name, is needed: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn docker_archives_come_back_with_the_same_id() {
    let store = TempStore::new();
    let image = TinyImage::write(&store, "linux/arm/v7", two_layers("1"));
    let bytes = save_docker(&store, &[item("app:1", &image.manifest)]);
    for compression in [Compression::Gzip, Compression::None] {
        let other = TempStore::new();
        let options = LayerOptions { compression, ..LayerOptions::default() };
        let loaded = other.load(Pipe(&bytes), &options, "test.tar").expect("loaded");
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].references, [reference("app:1")]);
        assert_eq!(loaded[0].images[0].0, image.platform);
        other.name_loaded(&loaded[0], &reference("app:1")).expect("named");
        other.validate(&loaded[0].target, Missing::Refuse).expect("whole");
        let entry = other.require(&reference("app:1"), &image.platform).expect("there");
        let (back, first) = (
            other.load_image(&entry.manifest).expect("read"),
            store.load_image(&image.manifest).expect("read"),
        );
        assert_eq!(back.manifest.config.digest, first.manifest.config.digest);
        assert!(back.manifest.layers.iter().all(|l| l.media_type == compression.oci_layer()));
    }
}

#[test]
fn oci_archives_carry_several_platforms_and_names() {
    let store = TempStore::new();
    let arm = TinyImage::write(&store, "linux/arm64", two_layers("arm"));
    let amd = TinyImage::write(&store, "linux/amd64", two_layers("amd"));
    let index = TinyImage::index(&store, "app", &[&arm, &amd]);
    let mut both = item("app", &index);
    both.references.push(reference("host.example/app:2"));
    let items = [both, item("single", &arm.manifest)];
    let bytes = save_oci(&store, &items);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let zstd = zstd::encode_all(bytes.as_slice(), 1).expect("compressed");
    for archive in [bytes, gzip, zstd] {
        let other = TempStore::new();
        let loaded = load(&other, &archive).expect("loaded");
        assert_eq!(loaded.len(), 2);
        assert_eq!(loaded[0].references, [reference("app"), reference("host.example/app:2")]);
        assert_eq!((&loaded[0].target.digest, loaded[0].images.len()), (&index.digest, 2));
        other.name_loaded(&loaded[0], &loaded[0].references[0]).expect("named");
        let record = other.image(&reference("app")).expect("read").expect("there");
        assert_eq!((record.index.map(|i| i.digest), record.images.len()), (Some(index.digest.clone()), 2));
        let checked = other.validate(&loaded[0].target, Missing::Refuse).expect("whole");
        assert_eq!(checked, Validated { images: 2, layers: 3, missing: 0 });
        assert_eq!(loaded[1].target.digest, arm.manifest.digest);
    }
}

/// A reader that is not root may not be able to make directories in root's name, as skopeo 1.9.3 does with
/// those that an archive only implies.
#[test]
fn oci_archives_have_the_directories_of_their_files() {
    let store = TempStore::new();
    let image = TinyImage::write(&store, "linux/arm64", two_layers("arm"));
    let bytes = save_oci(&store, &[item("app:1", &image.manifest)]);
    let mut directories = vec![String::new()];
    let mut files = 0;
    for entry in tar::Archive::new(&bytes[..]).entries().expect("entries") {
        let entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_str().expect("UTF-8").trim_end_matches('/').to_string();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(directories.iter().any(|d| d == parent), "{parent} comes before {path}");
        match entry.header().entry_type() {
            tar::EntryType::Directory => directories.push(path),
            _ => files += 1,
        }
    }
    assert_eq!(directories, ["", "blobs", "blobs/sha256"]);
    assert_eq!(files, 2 + 2 + 2, "oci-layout, index.json; manifest, configuration; two layers");
}

#[test]
fn layouts_are_added_to_and_read() {
    let store = TempStore::new();
    let first = TinyImage::write(&store, "linux/arm64", two_layers("1"));
    let second = TinyImage::write(&store, "linux/arm64", two_layers("2"));
    let dir = store.scratch().join("layout");
    store.write_layout(&[item("app:1", &first.manifest)], &dir).expect("written");
    store.write_layout(&[item("app:2", &first.manifest)], &dir).expect("written");
    store.write_layout(&[item("app:2", &second.manifest)], &dir).expect("written");
    let other = TempStore::new();
    let tag = |wanted: &'static str| {
        move |d: &Descriptor| {
            d.annotations.get("org.opencontainers.image.ref.name").is_some_and(|t| t == wanted)
        }
    };
    let loaded = other.read_layout(&dir, tag("2")).expect("read");
    assert_eq!((loaded.len(), &loaded[0].target.digest), (1, &second.manifest.digest));
    assert!(!other.contains(&first.manifest.digest).expect("looked up"));
    other.validate(&loaded[0].target, Missing::Refuse).expect("whole");
    assert_eq!(other.read_layout(&dir, |_| true).expect("read").len(), 2);
    assert!(other.read_layout(&dir, tag("3")).expect("read").is_empty());
}

#[test]
fn skopeo_and_umoci_agree() {
    let store = TempStore::new();
    let image = TinyImage::write(&store, "linux/arm64", two_layers("1"));
    let loaded = store.load_image(&image.manifest).expect("read");
    let scratch = store.scratch().canonicalize().expect("there");
    let (docker, oci, layout) = (scratch.join("docker.tar"), scratch.join("oci.tar"), scratch.join("layout"));
    fs::write(&docker, save_docker(&store, &[item("app:1", &image.manifest)])).expect("written");
    fs::write(&oci, save_oci(&store, &[item("app:1", &image.manifest)])).expect("written");
    store.write_layout(&[item("app:1", &image.manifest)], &layout).expect("written");
    for source in [
        format!("docker-archive:{}:app:1", docker.display()),
        format!("oci-archive:{}:1", oci.display()),
        format!("oci:{}:1", layout.display()),
    ] {
        let config = run("skopeo", &["inspect", "--config", "--raw", &source]);
        assert_eq!(Digest::of(config.as_bytes()), loaded.manifest.config.digest, "{source}");
    }
    let from = format!("oci:{}:1", layout.display());
    for (kind, file) in [("docker-archive", "theirs-docker.tar"), ("oci-archive", "theirs-oci.tar")] {
        let path = scratch.join(file);
        let target = format!("{kind}:{}:docker.io/library/app:1", path.display());
        run("skopeo", &["copy", "--quiet", "--override-arch", "arm64", &from, &target]);
        let other = TempStore::new();
        let loaded_back = load(&other, &fs::read(&path).expect("read")).expect(kind);
        assert_eq!(loaded_back[0].references, [reference("app:1")], "{kind}");
        other.validate(&loaded_back[0].target, Missing::Refuse).expect("whole");
        let back = other.load_image(&loaded_back[0].target).expect("read");
        assert_eq!(back.config.rootfs.diff_ids, loaded.config.rootfs.diff_ids);
    }
    // The unpacked root is the same as umoci's.
    let bundle = scratch.join("bundle");
    let tagged = format!("{}:1", layout.display());
    run("umoci", &["raw", "unpack", "--image", &tagged, utf8(&bundle)]);
    let unpacked = store.unpack_image(&loaded, 0).expect("unpacked");
    let trees: Vec<_> = unpacked.into_iter().map(|u| u.path).collect();
    let merged = scratch.join("merged");
    fs::create_dir(&merged).expect("created");
    layer::copy_tree(&trees, Timestamps::Keep, &merged, Owners::Keep).expect("copied");
    run("diff", &["-r", "--no-dereference", utf8(&bundle), utf8(&merged)]);
}

#[test]
fn hostile_and_damaged_archives_are_refused() {
    let store = TempStore::new();
    let image = TinyImage::write(&store, "linux/arm64", two_layers("1"));
    let oci = save_oci(&store, &[item("app:1", &image.manifest)]);
    let docker = save_docker(&store, &[item("app:1", &image.manifest)]);
    let zeros = "0".repeat(64);
    let config = br#"{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let index = |digest: &str| {
        let kind = media_type::OCI_MANIFEST;
        let entry = format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":2}}"#);
        format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)
    };
    let manifest = |config: &str, layers: &str| format!(r#"[{{"Config":"{config}","Layers":{layers}}}]"#);
    let replace = |bytes: &[u8], from: &[u8], to: &[u8]| -> Vec<u8> {
        let at = bytes.windows(from.len()).position(|w| w == from).expect("it is in there");
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"nonsense".repeat(200), "checksum"),
        (LayerTar::new().file("hello", "1").finish(), "neither"),
        (oci[..oci.len() / 2].to_vec(), "ends in the middle"),
        (replace(&oci, b"arm64", b"armXX"), "does not match"),
        (replace(&docker, b"base\0", b"evil\0"), "does not match"),
        (LayerTar::new().file("index.json", "{}").finish(), "index.json"),
        (LayerTar::new().file("index.json", index("sha256:../../../../etc/passwd")).finish(), "index.json"),
        (LayerTar::new().file("index.json", index(&format!("sha256:{zeros}"))).finish(), "not in it"),
        (LayerTar::new().file("index.json", vec![b' '; 9 << 20]).finish(), "9437184 bytes"),
        (LayerTar::new().file("manifest.json", "[]]").finish(), "damaged"),
        (LayerTar::new().file("manifest.json", manifest("/etc/passwd", "[]")).finish(), "not in it"),
        (LayerTar::new().symlink("c", "c").file("manifest.json", manifest("c", "[]")).finish(), "not in it"),
        (
            LayerTar::new().file("c", config).file("manifest.json", manifest("c", r#"["l"]"#)).finish(),
            "1 layers but 0",
        ),
        (LayerTar::new().file("c", "{").file("manifest.json", manifest("c", "[]")).finish(), "not an image"),
    ];
    for (bytes, expected) in cases {
        let other = TempStore::new();
        let message = load(&other, &bytes).expect_err(expected).to_string();
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(other.images().expect("read").is_empty());
        other.gc(&GcOptions::default()).expect("collected");
        assert_eq!(fs::read_dir(other.root().join("tmp")).expect("read").count(), 0);
    }
}

/// Damages an image.
type Change<'a> = &'a dyn Fn(&mut Manifest, &mut ImageConfig);

#[test]
fn validation_finds_what_does_not_fit() {
    let store = TempStore::new();
    let image = TinyImage::write(&store, "linux/arm64", two_layers("1"));
    let loaded = store.load_image(&image.manifest).expect("read");
    store.validate(&image.manifest, Missing::Refuse).expect("whole");
    let check = |change: Change<'_>| {
        let (mut manifest, mut config) = (loaded.manifest.clone(), loaded.config.clone());
        change(&mut manifest, &mut config);
        let bytes = config.to_bytes();
        store.write_blob(&bytes).expect("written");
        let config_type = manifest.config.media_type.clone();
        manifest.config = Descriptor::of(&config_type, &bytes);
        let bytes = manifest.to_bytes();
        store.write_blob(&bytes).expect("written");
        let target = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        store.validate(&target, Missing::Refuse).map(|_| ()).map_err(|e| e.to_string())
    };
    check(&|_, _| {}).expect("nothing was changed");
    let wrong: [(Change<'_>, &str); 9] = [
        (&|m, _| drop(m.layers.pop()), "1 layers but 2 diff_ids"),
        (&|_, c| c.rootfs.diff_ids.reverse(), "its diff_id is"),
        (&|_, c| drop(c.history.pop()), "history"),
        (&|_, c| c.os.clear(), "operating system"),
        (&|_, c| c.rootfs.kind = "x".into(), "rootfs"),
        (&|m, _| m.layers[0].size += 1, "should have"),
        (&|m, _| m.layers[0].media_type = media_type::OCI_LAYER_GZIP.into(), "its type says"),
        (&|m, _| m.layers[0].media_type = media_type::DOCKER_LAYER_TAR.into(), "other kind"),
        (&|m, _| m.layers[0].digest = Digest::of(b"nowhere"), "not in the store"),
    ];
    for (change, expected) in wrong {
        let message = check(change).expect_err(expected);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let other = image.manifest.clone().with_platform("linux/amd64".parse().expect("valid"));
    assert!(store.validate(&other, Missing::Refuse).is_err());
    let missing = Descriptor::of(media_type::OCI_MANIFEST, b"elsewhere");
    let bytes = Index::new(vec![image.manifest, missing]).to_bytes();
    store.write_blob(&bytes).expect("written");
    let index = Descriptor::of(media_type::OCI_INDEX, &bytes);
    assert!(matches!(store.validate(&index, Missing::Refuse), Err(StoreError::MissingBlob(_))));
    assert_eq!(store.validate(&index, Missing::Allow).expect("partly there").missing, 1);
}
