//! Any tree is the same after committing and unpacking; unpacking any bytes does no harm.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crossdock_oci::Digest;
use crossdock_oci::layer::{self, Timestamps};
use crossdock_oci::manifest::Descriptor;
use crossdock_oci::media_type;
use crossdock_oci::store::{LayerOptions, Owners};
use crossdock_testkit::{LayerTar, TempStore, usable_id};
use proptest::collection::vec;
use proptest::prelude::*;

/// One thing to make in a directory.
#[derive(Clone, Debug)]
enum Node {
    File {
        content: Vec<u8>,
        mode: u32,
        owner: (u32, u32),
        mtime: i64,
        note: Option<Vec<u8>>,
    },
    Directory {
        mode: u32,
        opaque: bool,
        mtime: i64,
    },
    Symlink(Vec<u8>),
    /// A hard link to a file made before, if there is one.
    HardLink(usize),
    Whiteout,
    Fifo,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => vec(1u8..=255, 1..20),
        1 => ("[a-z]{90,200}").prop_map(String::into_bytes),
    ]
    .prop_filter("a name that a layer can have", |n| {
        !n.contains(&b'/') && !n.starts_with(b".wh.") && n != b"." && n != b".."
    })
}

fn node() -> impl Strategy<Value = Node> {
    let id = prop_oneof![3 => Just(0u32), 1 => 0u32..60_000, 1 => 2_000_000u32..4_000_000];
    let mtime = prop_oneof![3 => 0i64..2_000_000_000, 1 => -1000i64..0, 1 => 8_589_934_590i64..8_589_934_600];
    let mtime2 = 0i64..2_000_000_000;
    prop_oneof![
        4 => (vec(any::<u8>(), 0..3000), 0u32..0o10000, (id.clone(), id), mtime, proptest::option::of(vec(any::<u8>(), 0..40)))
            .prop_map(|(content, mode, owner, mtime, note)| Node::File { content, mode, owner, mtime, note }),
        4 => (0u32..0o10000, any::<bool>(), mtime2).prop_map(|(mode, opaque, mtime)| Node::Directory { mode, opaque, mtime }),
        2 => vec(1u8..=255, 1..300).prop_map(Node::Symlink),
        2 => any::<usize>().prop_map(Node::HardLink),
        1 => Just(Node::Whiteout),
        1 => Just(Node::Fifo),
    ]
}

fn set_times(path: &Path, mtime: i64) {
    let time = rustix::fs::Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("set");
}

/// Makes the nodes below `root`; a node's parent is one of the directories made before it.
fn plant(root: &Path, nodes: &[(Vec<u8>, usize, Node)]) {
    let mut directories = vec![root.to_path_buf()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut finish = Vec::new();
    for (name, parent, node) in nodes {
        let path = directories[parent % directories.len()].join(std::ffi::OsString::from_vec(name.clone()));
        if path.symlink_metadata().is_ok() || path.as_os_str().len() > 3000 {
            continue;
        }
        let make = |kind| {
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::RUSR, 0).expect("made");
        };
        match node {
            Node::File { content, mode, owner, mtime, note } => {
                fs::write(&path, content).expect("written");
                let (uid, gid) = (usable_id(owner.0), usable_id(owner.1));
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("changed");
                if let Some(note) = note {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::setxattr(&path, "user.note", note, flags).expect("set");
                }
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("changed");
                set_times(&path, *mtime);
                files.push(path);
            }
            Node::Directory { mode, opaque, mtime } => {
                fs::create_dir(&path).expect("created");
                if *opaque {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::setxattr(&path, "user.overlay.opaque", b"y", flags).expect("set");
                }
                directories.push(path.clone());
                finish.push((path, *mode, *mtime));
            }
            Node::Symlink(target) => {
                std::os::unix::fs::symlink(std::ffi::OsString::from_vec(target.clone()), &path)
                    .expect("linked");
                set_times(&path, 5);
            }
            Node::HardLink(which) => {
                if !files.is_empty() {
                    fs::hard_link(&files[which % files.len()], &path).expect("linked");
                }
            }
            Node::Whiteout => make(rustix::fs::FileType::CharacterDevice),
            Node::Fifo => {
                make(rustix::fs::FileType::Fifo);
                set_times(&path, 5);
            }
        }
    }
    for (path, mode, mtime) in finish.into_iter().rev() {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        set_times(&path, mtime);
    }
}

/// All that must stay the same, by path.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(&directory).expect("read").map(|e| e.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            let meta = path.symlink_metadata().expect("there");
            let kind = meta.file_type();
            let content = if kind.is_file() {
                Digest::of(&fs::read(&path).expect("read")).to_string()
            } else if kind.is_symlink() {
                format!("{:?}", fs::read_link(&path).expect("a link"))
            } else {
                format!("device {}", meta.rdev())
            };
            let is_whiteout = meta.mode() & 0o170_000 == 0o020_000;
            let time = if is_whiteout { 0 } else { meta.mtime() };
            let mode = if is_whiteout { 0 } else { meta.mode() };
            let mut attributes = String::new();
            for name in ["user.note", "user.overlay.opaque"] {
                let mut value = [0; 100];
                if let Ok(n) = rustix::fs::lgetxattr(&path, name, &mut value[..]) {
                    attributes += &format!("{name}={:?} ", &value[..n]);
                }
            }
            let own = path.strip_prefix(root).expect("below").to_path_buf();
            let first = inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| own.clone()).clone();
            let text =
                format!("{mode:o} {}:{} {time} {content} {attributes}{first:?}", meta.uid(), meta.gid());
            all.insert(own, text);
            if kind.is_dir() {
                pending.push(path);
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_comes_back(nodes in vec((name(), any::<usize>(), node()), 0..40)) {
        let store = TempStore::new();
        let scratch = store.new_scratch().expect("made");
        plant(&scratch.upper(), &nodes);
        let expected = describe(&scratch.upper());
        let layer = store.commit_layer(scratch, &LayerOptions::default()).expect("committed");
        let other = TempStore::new();
        let mut blob = store.open_blob(&layer.descriptor.digest).expect("opened");
        let mut writer = other.blob_writer().expect("a writer");
        std::io::copy(&mut blob, &mut writer).expect("copied");
        writer.commit(Some(&layer.descriptor.digest)).expect("written");
        let back = other.unpack(&layer.descriptor, &layer.diff_id, &[]).expect("unpacked");
        prop_assert_eq!(describe(&back.path), expected);
        let mut again = Vec::new();
        layer::write_layer(&back.path, Timestamps::Keep, &mut again).expect("written");
        prop_assert_eq!(Digest::of(&again), layer.diff_id);
    }

    #[test]
    fn damaged_archives_do_no_harm(
        nodes in vec((name(), any::<usize>(), node()), 1..12),
        damage in vec((any::<usize>(), any::<u8>(), any::<bool>()), 1..8),
    ) {
        let store = TempStore::new();
        let source = store.scratch().join("source");
        fs::create_dir(&source).expect("created");
        plant(&source, &nodes);
        let mut bytes = Vec::new();
        layer::write_layer(&source, Timestamps::Keep, &mut bytes).expect("written");
        for (at, value, repair) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
            if repair {
                // A damaged header with a right checksum.
                let start = at / 512 * 512;
                let header = &mut bytes[start..start + 512];
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let diff_id = store.write_blob(&bytes).expect("written");
        let target = Descriptor::of(media_type::OCI_LAYER_TAR, &bytes);
        let trees = || fs::read_dir(store.root().join("trees")).expect("read").count();
        match store.unpack(&target, &diff_id, &[]) {
            Ok(unpacked) => prop_assert!(unpacked.path.is_dir()),
            Err(_) => prop_assert_eq!(trees(), 0),
        }
        let outside: Vec<_> = fs::read_dir(store.scratch()).expect("read").collect();
        prop_assert_eq!(outside.len(), 2);
    }

    #[test]
    fn any_path_stays_inside(paths in vec("(/|\\.\\./|\\./|[ab]/|l/){0,6}[ab]", 1..8), up in "(\\.\\./){1,9}[ab]{0,1}") {
        let store = TempStore::new();
        let mut tar = LayerTar::new().symlink("l", &up);
        for (i, path) in paths.iter().enumerate() {
            tar = match i % 3 {
                0 => tar.file(path, "x"),
                1 => tar.symlink(path, &up),
                _ => tar.dir(path),
            };
        }
        let target = store.scratch().join("target");
        fs::create_dir(&target).expect("created");
        // Links to themselves are refused, all else is confined.
        let _ = layer::extract_tar(tar.finish().as_slice(), &target, Owners::Keep, "x", &Default::default());
        let outside: Vec<_> = fs::read_dir(store.scratch()).expect("read").collect();
        prop_assert_eq!(outside.len(), 2);
    }
}
