//! Unpacking and committing layers, honest and hostile.
//!
//! These tests make device files and change owners, so they run as root or in a user namespace
//! (`unshare --map-root-user --map-auto`).

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crossdock_oci::layer::{self, Lent, Timestamps};
use crossdock_oci::manifest::Descriptor;
use crossdock_oci::media_type::{self, Compression};
use crossdock_oci::store::{Frozen, LayerOptions, Owners, Unpacked};
use crossdock_oci::{Digest, Store, StoreError};
use crossdock_testkit::{LayerTar, TempStore, TinyImage, usable_id};
use tar::EntryType;

/// Stores an archive and unpacks it over other layers.
fn unpack_over(store: &Store, tar: LayerTar, lower: &[Digest]) -> Result<(Digest, Unpacked), StoreError> {
    let bytes = tar.finish();
    let diff_id = store.write_blob(&bytes).expect("written");
    let layer = Descriptor::of(media_type::OCI_LAYER_TAR, &bytes);
    store.unpack(&layer, &diff_id, lower).map(|unpacked| (diff_id, unpacked))
}

fn unpack(store: &Store, tar: LayerTar) -> PathBuf {
    unpack_over(store, tar, &[]).expect("unpacked").1.path
}

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    matches!(rustix::fs::lgetxattr(path, "user.overlay.opaque", &mut value[..]), Ok(1)) && value[0] == b'y'
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

fn trees(store: &Store) -> usize {
    fs::read_dir(store.root().join("trees")).expect("read").count()
}

#[test]
fn files_keep_their_attributes() {
    let store = TempStore::new();
    let mut owned = LayerTar::header(EntryType::Regular, "bin/tool", 0o4755);
    owned.set_uid(33);
    owned.set_gid(44);
    owned.set_size(4);
    let mut sticky = LayerTar::header(EntryType::Directory, "tmp/", 0o1777);
    sticky.set_mtime(1_600_000_000);
    let tar = LayerTar::new()
        .dir("bin/")
        .raw(sticky, b"")
        .pax(&[("SCHILY.xattr.user.note", b"hi\0there"), ("mtime", b"1500000000.25")])
        .raw(owned, b"code")
        .hard_link("bin/same", "bin/tool")
        .symlink("sh", "bin/tool")
        .file("tmp/f", "1")
        .raw(LayerTar::header(EntryType::Fifo, "pipe", 0o600), b"");
    let root = unpack(&store, tar);
    let tool = root.join("bin/tool").metadata().expect("there");
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid(), tool.nlink()), (0o4755, 33, 44, 2));
    assert_eq!((tool.mtime(), tool.mtime_nsec()), (1_500_000_000, 250_000_000));
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(root.join("bin/same"), "user.note", &mut note[..]).expect("set");
    assert_eq!(&note[..length], b"hi\0there");
    let tmp = root.join("tmp").metadata().expect("there");
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1_600_000_000));
    assert_eq!(fs::read_link(root.join("sh")).expect("a link"), Path::new("bin/tool"));
    assert!(root.join("pipe").metadata().expect("there").file_type().is_fifo());
}

#[test]
fn whiteouts_become_overlays() {
    let store = TempStore::new();
    let tar = LayerTar::new()
        .dir("d/")
        .file("d/.wh..wh..opq", "")
        .file("d/kept", "1")
        .file(".wh.gone", "")
        .file(".wh.again", "")
        .file("again", "new")
        .dir("both/")
        .file("both/x", "1")
        .file(".wh.both", "")
        .file(".wh.tree", "")
        .file("tree/leaf", "1")
        .file(".wh..wh.plnk", "");
    let root = unpack(&store, tar);
    assert!(is_opaque(&root.join("d")) && root.join("d/kept").exists());
    assert!(is_whiteout(&root.join("gone")));
    assert_eq!(read(root.join("again")), "new");
    assert!(is_opaque(&root.join("both")) && root.join("both/x").exists());
    assert!(is_opaque(&root.join("tree")) && root.join("tree/leaf").exists());
    let names = fs::read_dir(&root).expect("read").map(|e| e.expect("an entry").file_name());
    assert!(names.into_iter().all(|n| !n.to_string_lossy().starts_with(".wh.")));
}

#[test]
fn nothing_leaves_the_target() {
    let store = TempStore::new();
    let outside = store.scratch().join("outside");
    fs::create_dir(&outside).expect("created");
    fs::write(outside.join("victim"), "safe").expect("written");
    let link = outside.to_str().expect("UTF-8");
    let up = "../../../../../../../../..";
    let tar = LayerTar::new()
        .file("../../escape1", "x")
        .file("/abs/escape2", "x")
        .file("a/../../escape3", "x")
        // A link made by the layer itself, then files through it.
        .symlink("evil", link)
        .file("evil/victim", "hacked")
        .symlink("up", up)
        .file(&format!("up{link}/victim"), "hacked")
        .hard_link("hard", "evil/victim")
        // A file over a link must not write through it.
        .symlink("over", &format!("{link}/victim"))
        .file("over", "hacked")
        .symlink("dir", link)
        .dir("dir/")
        .file("dir/victim", "hacked")
        .file(".wh.evil", "")
        .symlink("loop", "loop");
    let root = unpack(&store, tar);
    assert_eq!(read(outside.join("victim")), "safe");
    assert_eq!(fs::read_dir(&outside).expect("read").count(), 1);
    for inside in ["escape1", "abs/escape2", "escape3", "dir/victim"] {
        assert!(root.join(inside).symlink_metadata().expect(inside).is_file(), "{inside}");
    }
    // The link was followed as in a chroot.
    let confined = root.join(link.trim_start_matches('/')).join("victim");
    assert_eq!(read(&confined), "hacked");
    assert_eq!(read(root.join("over")), "hacked");
    assert!(root.join("over").symlink_metadata().expect("there").is_file());
}

#[test]
fn bad_entries_are_refused_with_their_names() {
    let store = TempStore::new();
    fs::write(store.scratch().join("victim"), "safe").expect("written");
    let victim = store.scratch().join("victim");
    let victim = victim.to_str().expect("UTF-8");
    let deep = "d/".repeat(450) + "f";
    let cases: Vec<(LayerTar, &str)> = vec![
        (LayerTar::new().hard_link("h", victim), "not there"),
        (LayerTar::new().hard_link("h", "../../../../etc/passwd"), "not there"),
        (LayerTar::new().symlink("s", "/etc").hard_link("h", "s/passwd"), "not there"),
        (LayerTar::new().dir("d").hard_link("h", "d"), "directory"),
        (LayerTar::new().file(".wh.x", "").hard_link("h", "x"), "deletes"),
        (LayerTar::new().file(".wh.", ""), "without a name"),
        (LayerTar::new().file(".wh...", ""), "without a name"),
        (LayerTar::new().file(".wh.d/f", ""), ".wh."),
        (LayerTar::new().symlink("loop", "loop").file("loop/f", ""), "symbolic links"),
        (LayerTar::new().symlink("s", ""), "bad target"),
        (LayerTar::new().pax(&[("path", b"a\0b")]).file("x", ""), "zero byte"),
        (LayerTar::new().pax(&[("path", &[b'x'; 300])]).file("x", ""), "300 bytes"),
        (LayerTar::new().pax(&[("path", &b"x/".repeat(3000))]).file("x", ""), "6000 bytes"),
        (LayerTar::new().pax(&[("path", deep.as_bytes())]).file("x", ""), "deeper"),
        (LayerTar::new().pax(&[("size", b"-1")]).file("x", ""), "not a number"),
    ];
    for (tar, expected) in cases {
        let message = unpack_over(&store, tar, &[]).expect_err(expected).to_string();
        assert!(message.contains(expected) && message.contains("sha256:"), "{message}");
    }
    assert_eq!(trees(&store), 0);
    assert!(fs::read_dir(store.root().join("snapshots")).expect("read").next().is_none());
}

#[test]
fn broken_archives_are_refused() {
    let store = TempStore::new();
    let good = LayerTar::new().file("f", [7; 2000]).finish();
    let mut wrong_checksum = good.clone();
    wrong_checksum[0] = b'g';
    let truncated = good[..1000].to_vec();
    let half_header = good[..300].to_vec();
    for bytes in [wrong_checksum, truncated, half_header, b"<html>not found</html>".repeat(100)] {
        let diff_id = store.write_blob(&bytes).expect("written");
        let layer = Descriptor::of(media_type::OCI_LAYER_TAR, &bytes);
        let error = store.unpack(&layer, &diff_id, &[]).expect_err("broken");
        assert!(matches!(error, StoreError::Layer { .. }), "{error}");
    }
    // Content with another `diff_id` than the image promises.
    let digest = store.write_blob(&good).expect("written");
    let layer = Descriptor::of(media_type::OCI_LAYER_TAR, &good);
    let message = store.unpack(&layer, &Digest::of(b"else"), &[]).expect_err("another diff_id").to_string();
    assert!(message.contains("diff_id") && message.contains(digest.as_str()), "{message}");
    assert_eq!(trees(&store), 0);
}

#[test]
fn a_damaged_blob_is_set_aside_when_it_is_unpacked() {
    let store = TempStore::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let tar = LayerTar::new().file("f", [7; 9000]).finish();
    gzip.write_all(&tar).expect("written");
    let bytes = gzip.finish().expect("compressed");
    for (position, truncate) in [(20, false), (bytes.len() - 1, false), (30, true)] {
        let digest = store.write_blob(&bytes).expect("written");
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x55;
        if truncate {
            damaged.truncate(position);
        }
        fs::write(store.blob_path(&digest), &damaged).expect("damaged");
        let layer = Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes);
        let error = store.unpack(&layer, &Digest::of(&tar), &[]).expect_err("damaged");
        if truncate {
            assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
            store.verify_blob(&digest).expect_err("set aside");
        } else {
            assert!(matches!(error, StoreError::CorruptBlob { .. }), "{error}");
        }
        assert!(!store.contains(&digest).expect("looked up"));
    }
}

#[test]
fn devices_are_made_where_allowed_and_never_forge_a_whiteout() {
    let store = TempStore::new();
    let mut null = LayerTar::header(EntryType::Char, "null", 0o666);
    null.set_device_major(1).expect("ustar");
    null.set_device_minor(3).expect("ustar");
    let mut forged = LayerTar::header(EntryType::Char, "forged", 0o666);
    forged.set_device_major(0).expect("ustar");
    forged.set_device_minor(0).expect("ustar");
    let tar = LayerTar::new().raw(null, b"").raw(forged, b"").file("after", "1");
    let (_, unpacked) = unpack_over(&store, tar, &[]).expect("unpacked");
    assert!(!unpacked.path.join("forged").exists() && unpacked.path.join("after").exists());
    match unpacked.path.join("null").symlink_metadata() {
        Ok(made) => assert_eq!((made.rdev(), unpacked.warnings.len()), (rustix::fs::makedev(1, 3), 1)),
        Err(_) => assert_eq!(unpacked.warnings.len(), 2, "{:?}", unpacked.warnings),
    }
}

#[test]
fn foreign_attributes_are_left_out() {
    let store = TempStore::new();
    let tar = LayerTar::new()
        .pax(&[
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.x", b"1"),
            ("SCHILY.xattr.user.ok", b"1"),
        ])
        .dir("d/");
    let (_, unpacked) = unpack_over(&store, tar, &[]).expect("unpacked");
    assert!(!is_opaque(&unpacked.path.join("d")));
    assert_eq!(unpacked.warnings.len(), 2, "{:?}", unpacked.warnings);
}

#[test]
fn the_last_of_equal_names_wins() {
    let store = TempStore::new();
    let tar = LayerTar::new()
        .file("f", "1")
        .file("f", "2")
        .dir("d/")
        .file("d/x", "1")
        .file("d", "now a file")
        .symlink("s", "f")
        .dir("s/")
        .file("s/in", "1")
        .file("p", "file")
        .file("p/q", "parent replaced");
    let root = unpack(&store, tar);
    assert_eq!(read(root.join("f")), "2");
    assert_eq!(read(root.join("d")), "now a file");
    assert_eq!(read(root.join("s/in")), "1");
    assert_eq!(read(root.join("p/q")), "parent replaced");
}

#[test]
fn a_layer_that_needs_those_below_is_kept_apart_from_equal_ones() {
    let store = TempStore::new();
    let base = |text: &str, mode: u32| {
        let dir = LayerTar::header(EntryType::Directory, "etc/", mode);
        let tar = LayerTar::new().raw(dir, b"").file("etc/passwd", text);
        unpack_over(&store, tar, &[]).expect("unpacked").0
    };
    let (evil, good) = (base("evil", 0o777), base("good", 0o711));
    let top = || LayerTar::new().hard_link("link", "etc/passwd").file("etc/new", "1");
    let (id, over_evil) = unpack_over(&store, top(), &[evil]).expect("unpacked");
    let (_, over_good) = unpack_over(&store, top(), std::slice::from_ref(&good)).expect("unpacked");
    assert_eq!(read(over_evil.path.join("link")), "evil");
    assert_eq!(read(over_good.path.join("link")), "good");
    assert_eq!(over_good.path.join("etc").metadata().expect("there").mode() & 0o777, 0o711);
    assert_eq!(store.snapshot(&id, &[good]).expect("looked up"), Some(over_good.path));
    assert_eq!(store.snapshot(&id, &[]).expect("looked up"), None);
    let missing = Digest::of(b"not unpacked");
    assert!(matches!(unpack_over(&store, top(), &[missing]), Err(StoreError::NeedsLower { .. })));
}

#[test]
fn a_lower_link_is_no_way_out() {
    let store = TempStore::new();
    let outside = store.scratch().join("outside");
    fs::create_dir(&outside).expect("created");
    fs::write(outside.join("secret"), "secret").expect("written");
    let link = outside.to_str().expect("UTF-8");
    let (base, _) = unpack_over(&store, LayerTar::new().symlink("evil", link), &[]).expect("unpacked");
    let through = LayerTar::new().file("evil/victim", "hacked");
    unpack_over(&store, through, std::slice::from_ref(&base)).expect("unpacked");
    assert_eq!(fs::read_dir(&outside).expect("read").count(), 1);
    let steal = LayerTar::new().hard_link("stolen", "evil/secret");
    let message = unpack_over(&store, steal, &[base]).expect_err("a link out").to_string();
    assert!(message.contains("not there"), "{message}");
}

#[test]
fn images_are_unpacked_side_by_side() {
    let store = TempStore::new();
    let image = TinyImage::write(
        &store,
        "linux/amd64",
        vec![
            LayerTar::new().dir("a/").file("a/1", "1"),
            LayerTar::new().hard_link("b", "a/1"),
            LayerTar::new().file("a/3", "3"),
        ],
    );
    let loaded = store.load_image(&image.manifest).expect("loaded");
    let unpacked = store.unpack_image(&loaded, 4).expect("unpacked");
    let paths: Vec<PathBuf> = unpacked.into_iter().map(|u| u.path).collect();
    assert_eq!(store.snapshots(&image.diff_ids).expect("looked up"), Some(paths.clone()));
    assert_eq!(read(paths[1].join("b")), "1");
    // Several handles, like several processes, unpack the same layer at once.
    let other = TempStore::new();
    let image = TinyImage::write(&other, "linux/amd64", vec![LayerTar::new().file("f", [1; 100_000])]);
    let results: Vec<PathBuf> = std::thread::scope(|scope| {
        let unpack = || {
            let store = Store::open(other.root()).expect("opened");
            store.unpack(&image.layers[0], &image.diff_ids[0], &[]).expect("unpacked").path
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(unpack)).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    assert!(results.iter().all(|p| *p == results[0]));
    assert_eq!(trees(&other), 1);
}

#[test]
fn owners_are_ignored_where_they_cannot_be_set() {
    let store = TempStore::new();
    let mut header = LayerTar::header(EntryType::Regular, "f", 0o644);
    header.set_uid(12345);
    let tar = LayerTar::new().raw(header, b"").finish();
    let diff_id = store.write_blob(&tar).expect("written");
    let layer = Descriptor::of(media_type::OCI_LAYER_TAR, &tar);
    let lenient = store.with_owners(Owners::Ignore);
    let own = lenient.unpack(&layer, &diff_id, &[]).expect("unpacked").path;
    assert_eq!(own.join("f").metadata().expect("there").uid(), rustix::process::geteuid().as_raw());
    // A handle that sets owners does not use that tree, but the lenient handle may use its tree.
    let full = store.unpack(&layer, &diff_id, &[]).expect("unpacked").path;
    assert_eq!(full.join("f").metadata().expect("there").uid(), 12345);
    assert_eq!(lenient.snapshot(&diff_id, &[]).expect("looked up"), Some(full));
}

/// Fills a directory with one of everything, in overlay form.
fn fill(upper: &Path) {
    fs::create_dir_all(upper.join("dir/sub")).expect("created");
    fs::write(upper.join("dir/file"), "content").expect("written");
    fs::hard_link(upper.join("dir/file"), upper.join("z-link")).expect("linked");
    fs::set_permissions(upper.join("dir/file"), fs::Permissions::from_mode(0o6711)).expect("changed");
    symlink("../dir/file", upper.join("dir/sub/link")).expect("linked");
    let long = "n".repeat(200);
    fs::write(upper.join(&long), "long").expect("written");
    symlink(&long, upper.join("to-long")).expect("linked");
    fs::write(upper.join("ünïcode"), "").expect("written");
    let attribute = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(upper.join("dir/file"), "user.note", b"x", attribute).expect("set");
    rustix::fs::setxattr(upper.join("dir"), "user.overlay.opaque", b"y", attribute).expect("set");
    rustix::fs::setxattr(upper.join("dir/sub"), "user.overlay.impure", b"y", attribute).expect("set");
    let node = |name: &str, kind| {
        rustix::fs::mknodat(rustix::fs::CWD, upper.join(name), kind, rustix::fs::Mode::RUSR, 0)
            .expect("made");
    };
    node("dir/deleted", rustix::fs::FileType::CharacterDevice);
    node("pipe", rustix::fs::FileType::Fifo);
    node("socket", rustix::fs::FileType::Socket);
    std::os::unix::fs::chown(upper.join("pipe"), Some(5), Some(usable_id(3_000_000))).expect("changed");
}

#[test]
fn a_scratch_becomes_a_layer_and_back() {
    let store = TempStore::new();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let scratch = store.new_scratch().expect("made");
        assert!(scratch.is_empty().expect("read") && scratch.work().is_dir());
        fill(&scratch.upper());
        assert!(!scratch.is_empty().expect("read"));
        let frozen = scratch.freeze().expect("frozen");
        let options = LayerOptions { compression, ..LayerOptions::default() };
        let layer = store.commit_frozen(&frozen, &options).expect("committed");
        assert!(frozen.path().expect("whole").join("dir/file").exists());
        assert_eq!(store.snapshot(&layer.diff_id, &[]).expect("looked up"), layer.path);
        assert_eq!(layer.descriptor.media_type, compression.oci_layer());

        let other = TempStore::new();
        let mut blob = Vec::new();
        let mut reader = store.open_blob(&layer.descriptor.digest).expect("opened");
        reader.read_to_end(&mut blob).expect("verified");
        other.write_blob(&blob).expect("written");
        let back = other.unpack(&layer.descriptor, &layer.diff_id, &[]).expect("unpacked");
        assert!(back.warnings.is_empty(), "{:?}", back.warnings);
        let root = back.path;
        assert!(is_opaque(&root.join("dir")) && is_whiteout(&root.join("dir/deleted")));
        assert!(!root.join("socket").exists());
        let file = root.join("dir/file").metadata().expect("there");
        assert_eq!((file.ino(), file.nlink()), (root.join("z-link").metadata().expect("there").ino(), 2));
        let mut bytes = Vec::new();
        layer::write_layer(&root, Timestamps::Keep, &mut bytes).expect("written");
        assert_eq!(Digest::of(&bytes), layer.diff_id, "the same tree gives the same archive");
    }
}

/// Files that are borrowed: the archive has them, the tree has not.
#[test]
fn borrowed_files_give_the_same_layer() {
    let store = TempStore::new();
    let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    fs::write(elsewhere.path().join("lender"), &content).expect("written");
    let root = Arc::new(OwnedFd::from(fs::File::open(elsewhere.path()).expect("opened")));
    let lent = || Lent {
        root: root.clone(),
        source: b"lender".to_vec(),
        stat: rustix::fs::stat(elsewhere.path().join("lender")).expect("there"),
        mode: 0o4751,
        owner: (7, 8),
        mtime: 5,
        xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())],
    };
    let make = |borrows: bool| {
        let scratch = store.new_scratch().expect("made");
        fill(&scratch.upper());
        // The file takes the place of one below.
        let whiteout = scratch.upper().join("dir/large");
        if borrows {
            let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
            rustix::fs::mknodat(rustix::fs::CWD, &whiteout, kind, mode, 0).expect("root or a user namespace");
            let borrowed = Arc::new(layer::Borrowed::default());
            assert!(borrowed.lend(b"dir", b"large", lent()) && borrowed.has(b"dir", b"large"));
            // A file that was replaced later.
            assert!(borrowed.lend(b"dir", b"file", lent()));
            borrowed.forget(b"dir", b"file");
            scratch.borrow(borrowed);
        } else {
            fs::write(&whiteout, &content).expect("written");
            let file = fs::File::open(&whiteout).expect("opened");
            std::os::unix::fs::fchown(&file, Some(7), Some(8)).expect("changed");
            file.set_permissions(fs::Permissions::from_mode(0o4751)).expect("changed");
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(&file, "user.a", b"1", flags).expect("set");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(5)).expect("set");
        }
        scratch.clamp_times(5).expect("set");
        scratch.freeze().expect("frozen")
    };
    let commit = |frozen: &Frozen| store.commit_frozen(frozen, &LayerOptions::default());
    let borrowing = make(true);
    assert_eq!(borrowing.path(), None);
    let layer = commit(&borrowing).expect("committed");
    assert_eq!((layer.path, layer.changed), (None, Vec::<String>::new()));
    let trees = || fs::read_dir(store.root().join("trees")).expect("readable").count();
    assert_eq!((store.snapshot(&layer.diff_id, &[]).expect("looked up"), trees()), (None, 0));
    let unpacked = store.unpack(&layer.descriptor, &layer.diff_id, &[]).expect("unpacked");
    assert!(fs::read(unpacked.path.join("dir/large")).expect("there") == content);
    let whole = commit(&make(false)).expect("committed");
    assert_eq!((whole.diff_id, whole.descriptor), (layer.diff_id, layer.descriptor));

    let changing = make(true);
    fs::write(elsewhere.path().join("lender"), "another one").expect("written");
    let layer = commit(&changing).expect("it is archived as it is");
    assert_eq!(layer.changed, ["dir/large"]);
    let vanishing = make(true);
    fs::remove_file(elsewhere.path().join("lender")).expect("removed");
    let error = commit(&vanishing).expect_err("it is gone");
    let error = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(error.contains("dir/large: it was removed"), "{error}");

    // A directory that is not in the tree: nothing may be left out.
    fs::write(elsewhere.path().join("lender"), "here").expect("written");
    let scratch = store.new_scratch().expect("made");
    let borrowed = Arc::new(layer::Borrowed::default());
    borrowed.lend(b"none", b"file", lent());
    scratch.borrow(borrowed);
    let error = commit(&scratch.freeze().expect("frozen")).expect_err("no such directory");
    let error = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(error.contains("/none should be in the layer"), "{error}");
}

/// Three layers as one: what any of them hides or deletes below all of them is in the archive.
#[test]
fn squashed_layers_are_one_in_overlay_form() {
    let store = TempStore::new();
    let layers = [
        LayerTar::new().dir("d").file("d/first", "1").file("replaced", "1").dir("kept").file("kept/a", "1"),
        LayerTar::new().file(".wh.gone", "").file(".wh.back", "").dir("o").file("o/.wh..wh..opq", ""),
        LayerTar::new()
            .dir("back")
            .file("back/x", "3")
            .file("replaced", "3")
            .file("d/.wh.first", "")
            .file("o/y", "3"),
    ];
    let unpack = |archive: Vec<u8>| {
        let (diff_id, layer, _) = store
            .write_layer_blob(&LayerOptions::default(), |writer| {
                writer.write_all(&archive).expect("written");
                Ok(())
            })
            .expect("stored");
        store.unpack(&layer, &diff_id, &[]).expect("unpacked").path
    };
    let trees: Vec<_> = layers.into_iter().map(|layer| unpack(layer.finish())).collect();
    let squash = |below: &[std::path::PathBuf]| {
        let mut bytes = Vec::new();
        layer::write_squashed(&trees, below, Timestamps::Set(0), &mut bytes).expect("written");
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().expect("entries");
        let name = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            entry.expect("an entry").path().expect("a path").display().to_string()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    };
    let below = [
        LayerTar::new()
            .file("gone", "0")
            .dir("d")
            .file("d/first", "0")
            .file("back", "0")
            .dir("o")
            .dir("kept"),
        LayerTar::new().dir("kept").file("kept/.wh.a", "").dir("back").file("back/old", "0").file("o/z", "0"),
    ];
    let below = below.map(|layer| unpack(layer.finish()));
    // A directory in place of a deleted name hides the one below.
    let expected = [
        ".wh.gone",
        "back/",
        "back/.wh..wh..opq",
        "back/x",
        "d/",
        "d/.wh.first",
        "kept/",
        "kept/a",
        "o/",
        "o/.wh..wh..opq",
        "o/y",
        "replaced",
    ];
    assert_eq!(squash(&below), expected);
    // Of deletions only those are left that delete something below.
    let of = |names: &[&str]| expected.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>();
    assert_eq!(squash(&below[..1]), of(&["back/.wh..wh..opq"]));
    assert_eq!(squash(&[]), of(&[".wh.gone", "back/.wh..wh..opq", "d/.wh.first", "o/.wh..wh..opq"]));
    let again = LayerTar::new().file(".wh.gone", "").file(".wh.d", "").dir("o").file("o/.wh..wh..opq", "");
    let again = [below[0].clone(), unpack(again.finish())];
    assert_eq!(squash(&again), of(&[".wh.gone", "back/.wh..wh..opq", "d/.wh.first"]));
}

/// Whoever unpacks the layer would take such a file for a deletion.
#[test]
fn no_file_of_a_layer_looks_like_a_deletion() {
    let store = TempStore::new();
    for name in [".wh.x", ".wh..wh..opq", ".wh."] {
        let scratch = store.new_scratch().expect("made");
        fs::create_dir(scratch.upper().join("d")).expect("made");
        fs::write(scratch.upper().join("d").join(name), "x").expect("written");
        let error = store.commit_layer(scratch, &LayerOptions::default()).expect_err("a bad name");
        let error = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(error.contains(&format!("/d/{name}: ")) && error.contains("rename"), "{error}");
    }
}

#[test]
fn archives_are_the_same_whatever_made_the_tree() {
    let store = TempStore::new();
    let commit = |names: [&str; 3], threads| {
        let scratch = store.new_scratch().expect("made");
        for name in names {
            fs::write(scratch.upper().join(name), name.repeat(200_000)).expect("written");
        }
        let options =
            LayerOptions { timestamps: Timestamps::Clamp(1000), threads, ..LayerOptions::default() };
        store.commit_layer(scratch, &options).expect("committed")
    };
    let (first, second) = (commit(["a", "b", "c"], 1), commit(["c", "b", "a"], 3));
    assert_eq!(first.descriptor, second.descriptor);
    // The second commit found the first's snapshot.
    assert_eq!(first.path, second.path);
}

#[test]
fn gnu_tar_agrees() {
    let store = TempStore::new();
    let source = store.scratch().join("source");
    fs::create_dir(&source).expect("created");
    fill(&source);
    fs::remove_file(source.join("dir/deleted")).expect("removed");
    fs::remove_file(source.join("socket")).expect("removed");
    let long = source.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&long).expect("created");
    let mut sparse = fs::File::create(long.join("sparse")).expect("created");
    sparse.write_all(b"head").expect("written");
    sparse.set_len(3 << 20).expect("extended");
    drop(sparse);

    let listing = |dir: &Path| -> String {
        let script = "find . -mindepth 1 -printf '%P %y %m %U:%G %n %l %T@\\n' | sed 's/\\.[0-9]*$//' | sort; \
                      find . -type f -exec sha256sum {} + | sort";
        let output = Command::new("sh").args(["-c", script]).current_dir(dir).output().expect("find");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let expected = listing(&source);
    for format in ["gnu", "pax", "oldgnu"] {
        let file = store.scratch().join("gnu.tar");
        let status = Command::new("tar")
            .args(["--sparse", "--format", format, "--numeric-owner", "-C"])
            .arg(&source)
            .arg("-cf")
            .arg(&file)
            .arg(".")
            .status()
            .expect("GNU tar is installed");
        assert!(status.success());
        let bytes = fs::read(&file).expect("read");
        let target = store.scratch().join(format);
        fs::create_dir(&target).expect("created");
        layer::extract_tar(bytes.as_slice(), &target, Owners::Keep, "gnu.tar", &Default::default())
            .expect("extracted");
        assert_eq!(listing(&target), expected, "{format}");
    }
    let mut ours = Vec::new();
    layer::export_tar(&[source], Timestamps::Keep, &mut ours).expect("written");
    let file = store.scratch().join("ours.tar");
    fs::write(&file, &ours).expect("written");
    let target = store.scratch().join("ours");
    fs::create_dir(&target).expect("created");
    let output = Command::new("tar").arg("-C").arg(&target).arg("-xpf").arg(&file).output().expect("GNU tar");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(listing(&target), expected);
}

#[test]
fn layers_merge_as_overlay_does() {
    let store = TempStore::new();
    let lower = unpack(
        &store,
        LayerTar::new()
            .dir("d/")
            .file("d/old", "1")
            .dir("e/")
            .file("e/old", "1")
            .file("gone", "1")
            .file("file", "1"),
    );
    let upper = unpack(
        &store,
        LayerTar::new()
            .dir("d/")
            .file("d/new", "2")
            .dir("e/")
            .file("e/.wh..wh..opq", "")
            .file("e/new", "2")
            .file(".wh.gone", "")
            .dir("file/")
            .file("file/in", "2"),
    );
    let target = store.scratch().join("merged");
    fs::create_dir(&target).expect("created");
    symlink("/etc", target.join("d")).expect("linked");
    let warnings =
        layer::copy_tree(&[lower, upper], Timestamps::Keep, &target, Owners::Keep).expect("copied");
    assert!(warnings.is_empty());
    let output = Command::new("find").arg(".").current_dir(&target).output().expect("find");
    let mut names: Vec<String> =
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_string).collect();
    names.sort();
    assert_eq!(names, [".", "./d", "./d/new", "./d/old", "./e", "./e/new", "./file", "./file/in"]);
}
