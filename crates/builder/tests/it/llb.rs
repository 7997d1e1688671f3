//! Graphs of operations on made-up trees: what they make, what the cache knows, and what is refused. Without
//! user namespaces, which a process with threads cannot enter: commands are tested with the executable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crossdock_builder::git::GitSource;
use crossdock_builder::llb::{Action, Copy, Edge, File, Graph, Id, Kind, Op, Owner, Source, solve};
use crossdock_builder::solver::cache::Imported;
use crossdock_builder::{
    BuiltImage, Environment, Event, Events, Given, Images, Secrets, Settings, Shared, Stop,
};
use crossdock_oci::layer::Owners;
use crossdock_oci::store::LayerOptions;
use crossdock_oci::{Descriptor, Reference};
use crossdock_platform::Platform;
use crossdock_sandbox::SandboxError;
use crossdock_testkit::{LayerTar, TempStore, TinyImage};

/// The world of these tests: every download is a file with its address, there is nothing else.
struct Downloads;

impl Images for Downloads {
    fn resolve(&self, reference: &Reference, _: &Platform, _: bool) -> Result<Descriptor, String> {
        Err(format!("there is no {reference}"))
    }

    fn download(&self, url: &str, to: &Path) -> Result<Option<i64>, String> {
        std::fs::write(to, url).map_err(|e| e.to_string())?;
        Ok(Some(7))
    }

    fn layer(&self, _: &Descriptor) -> Result<(), String> {
        Err("there is no registry".to_string())
    }

    fn checkout(&self, _: &GitSource, _: bool, _: &Path, _: &dyn Secrets) -> Result<String, String> {
        Err("there is no git".to_string())
    }
}

/// Names of the steps, and whether their results were known.
#[derive(Default)]
struct Steps {
    names: Mutex<BTreeMap<usize, String>>,
    done: Mutex<Vec<(String, bool)>>,
}

impl Events for Steps {
    fn event(&self, event: Event) {
        let mut names = self.names.lock().expect("no panic elsewhere");
        match event {
            Event::Started { step, info } => drop(names.insert(step, info.name)),
            Event::Done { step, cached, .. } => {
                let name = names[&step].clone();
                self.done.lock().expect("no panic elsewhere").push((name, cached));
            }
            _ => {}
        }
    }
}

/// Solves a graph; returns the image and the steps in the order of their names.
fn solved(store: &TempStore, graph: &Graph) -> Result<(BuiltImage, Vec<(String, bool)>), String> {
    crossdock_sandbox::userns::go_without(&SandboxError::UserNamespaces {
        reason: "these tests have threads".to_string(),
        fix: String::new(),
    });
    let steps = Steps::default();
    let emulator = |platform: &Platform| Err(format!("there is no emulator for {platform}"));
    // Without a user namespace only root can give files away.
    let owners = if rustix::process::geteuid().is_root() { Owners::Keep } else { Owners::Ignore };
    let store = store.with_owners(owners);
    let environment = Environment {
        farm: None,
        failed: None,
        store: &store,
        images: &Downloads,
        events: &steps,
        imported: &Imported::default(),
        layers: LayerOptions::default(),
        sink: None,
        secrets: &Given::default(),
        stop: Arc::new(Stop::default()),
        shared: &Shared::default(),
        emulator: &emulator,
    };
    let platform = Platform::host();
    let settings = Settings::for_platform(platform.clone());
    let result = solve(&environment, &settings, graph, &platform).map_err(|e| e.to_string())?;
    let mut told = steps.done.into_inner().expect("no panic elsewhere");
    told.sort();
    let written = result.0.write(&store).map_err(|e| e.to_string())?;
    Ok((written, told))
}

/// Ids that files of these tests can have.
fn owner() -> Owner {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Owner { user: Some(Id::Number(uid)), group: Some(Id::Number(gid)) }
}

fn op(name: &str, kind: Kind) -> Op {
    Op { name: name.to_string(), platform: Platform::host(), ignore_cache: false, lines: None, kind }
}

fn edge(op: usize) -> Option<Edge> {
    Some(Edge { op, output: 0 })
}

fn file(base: Option<Edge>, actions: Vec<Action>) -> Kind {
    Kind::File(File { base, actions })
}

fn write(path: &str, content: &str) -> Action {
    let content = content.as_bytes().to_vec();
    Action::MakeFile {
        path: path.to_string(),
        mode: 0o640,
        content,
        owner: owner(),
        mtime: Some(5_000_000_000),
    }
}

fn directory(path: &str, parents: bool) -> Action {
    Action::MakeDirectory { path: path.to_string(), mode: 0o750, parents, owner: owner(), mtime: None }
}

fn copy(from: Option<Edge>, source: &str, destination: &str) -> Copy {
    Copy {
        from,
        source: source.to_string(),
        destination: destination.to_string(),
        owner: owner(),
        mode: String::new(),
        follow: false,
        is_content_only: false,
        unpack: false,
        make_destination: true,
        is_pattern: false,
        may_match_nothing: false,
        include: Vec::new(),
        exclude: Vec::new(),
        replace: false,
        mtime: None,
    }
}

/// Paths of everything in the layers, the lowest first; files with their content, links with their targets.
fn files(store: &TempStore, image: &BuiltImage) -> Vec<String> {
    fn list(directory: &Path, below: &str, all: &mut Vec<String>) {
        let entries = std::fs::read_dir(directory).expect("a directory");
        let mut entries: Vec<_> = entries.map(|entry| entry.expect("an entry")).collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let path = format!("{below}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                all.push(format!("{path}/"));
                list(&entry.path(), &path, all);
            } else if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).expect("a link");
                all.push(format!("{path} -> {}", target.display()));
            } else {
                let content = std::fs::read_to_string(entry.path()).expect("a file");
                all.push(format!("{path}: {content}"));
            }
        }
    }
    let mut all = Vec::new();
    for tree in &image.trees(store).expect("unpacked") {
        list(tree, "", &mut all);
    }
    all
}

#[test]
fn actions_make_files() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let store = TempStore::new();
    let link =
        Action::Symlink { to: "/a/f".to_string(), path: "/a/l".to_string(), owner: owner(), mtime: None };
    let gone =
        |may_be_missing| Action::Remove { path: "/a/x".to_string(), may_be_missing, is_pattern: false };
    let actions = vec![
        directory("/a/b", true),
        write("/a/f", "text"),
        link,
        write("/a/x", "x"),
        gone(false),
        gone(true),
    ];
    let graph = Graph { ops: vec![op("make", file(None, actions.clone()))], result: edge(0) };
    let (image, steps) = solved(&store, &graph).expect("a tree");
    assert_eq!(files(&store, &image), ["/a/", "/a/b/", "/a/f: text", "/a/l -> /a/f"]);
    assert_eq!(steps, [("make".to_string(), false)]);
    let made = std::fs::metadata(image.trees(&store).expect("unpacked")[0].join("a/f")).expect("a file");
    assert_eq!((made.permissions().mode() & 0o7777, made.mtime()), (0o640, 5));
    let loaded = store.load_image(&image.manifest).expect("an image");
    assert_eq!(loaded.config.history[0].created_by.as_deref(), Some("make"));
    assert_eq!(loaded.config.architecture, Platform::host().architecture);

    let (_, steps) = solved(&store, &graph).expect("the same tree");
    assert_eq!(steps, [("make".to_string(), true)], "the second time it is known");
    let mut again = graph.clone();
    again.ops[0].ignore_cache = true;
    assert_eq!(solved(&store, &again).expect("a tree").1, [("make".to_string(), false)]);

    let mut strict = actions;
    strict.push(gone(false));
    let graph = Graph { ops: vec![op("make", file(None, strict))], result: edge(0) };
    let error = solved(&store, &graph).err().expect("nothing to remove");
    assert!(error.contains("remove /a/x"), "{error}");
    let graph =
        Graph { ops: vec![op("make", file(None, vec![directory("/no/such", false)]))], result: edge(0) };
    assert!(solved(&store, &graph).is_err(), "the parent is missing");
}

#[test]
fn copies_choose_their_destination() {
    let store = TempStore::new();
    let context = store.scratch().join("context");
    std::fs::create_dir_all(context.join("d/e")).expect("a directory");
    for (path, content) in [("one.txt", "1"), ("two.txt", "2"), ("d/f", "f"), ("d/e/g", "g")] {
        std::fs::write(context.join(path), content).expect("a file");
    }
    std::os::unix::fs::symlink("one.txt", context.join("l")).expect("a link");
    let local = op("local", Kind::Source(Source::Directory(context)));
    let made = |copy: Copy| {
        let ops = vec![local.clone(), op("copy", file(None, vec![Action::Copy(Box::new(copy))]))];
        solved(&store, &Graph { ops, result: edge(1) }).map(|(image, _)| files(&store, &image))
    };
    let from = |source: &str, to: &str| copy(edge(0), source, to);
    assert_eq!(made(from("one.txt", "/x")).expect("a copy"), ["/x: 1"]);
    assert_eq!(made(from("one.txt", "/x/")).expect("a copy"), ["/x/", "/x/one.txt: 1"]);
    assert_eq!(made(from("d", "/x")).expect("a copy"), ["/x/", "/x/e/", "/x/e/g: g", "/x/f: f"]);
    assert_eq!(made(from("d/e", "/x/")).expect("a copy"), ["/x/", "/x/e/", "/x/e/g: g"]);
    let content = Copy { is_content_only: true, ..from("d/e", "/x/") };
    assert_eq!(made(content).expect("a copy"), ["/x/", "/x/g: g"]);
    let pattern = Copy { is_pattern: true, ..from("*.txt", "/x/") };
    assert_eq!(made(pattern.clone()).expect("a copy"), ["/x/", "/x/one.txt: 1", "/x/two.txt: 2"]);
    assert_eq!(made(from("l", "/x")).expect("a copy"), ["/x -> one.txt"]);
    assert_eq!(made(Copy { follow: true, ..from("l", "/x") }).expect("a copy"), ["/x: 1"]);
    let some = Copy { include: vec!["d/e".to_string()], is_content_only: true, ..from("/", "/") };
    assert_eq!(made(some).expect("a copy"), ["/d/", "/d/e/", "/d/e/g: g"]);
    let some = Copy { exclude: vec!["*.txt".to_string(), "d".to_string()], ..from("/", "/") };
    assert_eq!(made(some).expect("a copy"), ["/l -> one.txt"]);
    let over = |replace| {
        let copy = Action::Copy(Box::new(Copy { replace, ..from("d", "/") }));
        let actions = vec![directory("/d", false), write("/d/e", "in the way"), copy];
        let ops = vec![local.clone(), op("copy", file(None, actions))];
        solved(&store, &Graph { ops, result: edge(1) }).map(|(image, _)| files(&store, &image))
    };
    assert!(over(false).is_err_and(|e| e.contains("not a directory")), "a file is in the way");
    assert_eq!(over(true).expect("a copy"), ["/d/", "/d/e/", "/d/e/g: g", "/d/f: f"]);
    assert!(made(from("no", "/x")).is_err_and(|e| e.contains("not found")));
    let nothing = Copy { source: "*.no".to_string(), ..pattern };
    assert!(made(nothing.clone()).is_err_and(|e| e.contains("not found")));
    let nothing = Copy { may_match_nothing: true, ..nothing };
    made(nothing).expect("a pattern that may match nothing");
    let strict = Copy { make_destination: false, ..from("one.txt", "/no/x") };
    assert!(made(strict).is_err_and(|e| e.contains("not there")));
    let outside = made(from("../../etc/passwd", "/x"));
    assert!(outside.is_err_and(|e| e.contains("not found")), "a path cannot leave its tree");
}

#[test]
fn keys_are_those_of_content() {
    let store = TempStore::new();
    let context = store.scratch().join("context");
    std::fs::create_dir(&context).expect("a directory");
    let put = |path: &str, content: &str| std::fs::write(context.join(path), content).expect("a file");
    put("used", "1");
    put("other", "1");
    let local = op("local", Kind::Source(Source::Directory(context.clone())));
    let copy = Action::Copy(Box::new(copy(edge(0), "used", "/x")));
    let graph = Graph { ops: vec![local, op("copy", file(None, vec![copy]))], result: edge(1) };
    let copied = || solved(&store, &graph).expect("a copy").1[0].clone();
    assert_eq!(copied(), ("copy".to_string(), false));
    put("other", "2");
    assert_eq!(copied(), ("copy".to_string(), true), "a file that is not copied does not matter");
    put("used", "2");
    assert_eq!(copied(), ("copy".to_string(), false));
}

#[test]
fn merge_and_diff_use_layers_that_are_there() {
    let store = TempStore::new();
    let image =
        TinyImage::write(&store, &Platform::host().to_string(), vec![LayerTar::new().file("base", "b")]);
    let base = Source::Images(vec![(Platform::host(), image.manifest.clone())]);
    let ops = vec![
        op("base", Kind::Source(base)),
        op("more", file(edge(0), vec![write("/more", "m")])),
        op("diff", Kind::Diff { lower: edge(0), upper: edge(1) }),
        op("other", file(None, vec![write("/other", "o")])),
        op("merge", Kind::Merge(vec![edge(3), edge(2), edge(3), None])),
    ];
    let (diff, _) = solved(&store, &Graph { ops: ops.clone(), result: edge(2) }).expect("a diff");
    assert_eq!(files(&store, &diff), ["/more: m"]);
    let (merged, steps) = solved(&store, &Graph { ops: ops.clone(), result: edge(4) }).expect("a merge");
    assert_eq!(
        files(&store, &merged),
        ["/more: m", "/other: o"],
        "a layer that comes again counts at its last place"
    );
    assert_eq!(steps.len(), 5);
    let (_, steps) = solved(&store, &Graph { ops, result: edge(3) }).expect("a tree");
    assert_eq!(steps, [("other".to_string(), true)], "what the result does not need is not done");
}

#[test]
fn downloads_are_checked() {
    let store = TempStore::new();
    let download = |checksum: Option<&[u8]>, filename: &str| {
        let source = Source::Http {
            url: "http://user:password@host/f".to_string(),
            checksum: checksum.map(crossdock_oci::Digest::of),
            filename: filename.to_string(),
            mode: 0o755,
            owner: (0, 0),
        };
        let copy = Action::Copy(Box::new(copy(edge(0), filename, "/x")));
        let ops = vec![op("get", Kind::Source(source)), op("copy", file(None, vec![copy]))];
        solved(&store, &Graph { ops, result: edge(1) }).map(|(image, _)| files(&store, &image))
    };
    let expected = ["/x: http://user:password@host/f"];
    assert_eq!(download(Some(b"http://user:password@host/f"), "f").expect("a file"), expected);
    let error = download(Some(b"something else"), "f").expect_err("another file");
    assert!(error.contains("digest mismatch") && !error.contains("password"), "{error}");
    assert!(download(None, "../f").is_err_and(|e| e.contains("no name for a file")));
}

#[test]
fn wrong_graphs_are_refused() {
    let store = TempStore::new();
    let refused =
        |ops: Vec<Op>, result| solved(&store, &Graph { ops, result }).err().expect("the graph is wrong");
    let make = op("make", file(None, vec![write("/f", "")]));
    let error = refused(vec![op("itself", file(edge(0), Vec::new()))], edge(0));
    assert!(error.contains("does not come before it"), "{error}");
    let error = refused(vec![make.clone()], edge(1));
    assert!(error.contains("does not come before it"), "{error}");
    let error = refused(vec![make], Some(Edge { op: 0, output: 3 }));
    assert!(error.contains("\"make\" has no output 3"), "{error}");
    let images = Source::Images(vec![("linux/s390x".parse().expect("a platform"), Descriptor::of("x", b""))]);
    let error = refused(vec![op("image", Kind::Source(images))], edge(0));
    assert!(error.contains("it offers: linux/s390x"), "{error}");
    let (image, steps) = solved(&store, &Graph::default()).expect("an empty tree");
    assert!(files(&store, &image).is_empty() && steps.is_empty());
}
