//! manifest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crossdock_registry::server::faults::Fault;
use crossdock_testkit::DockerRegistry;
use serde_json::Value;

use crate::support::{FaultyRegistry, Registry, World};

fn images(world: &World, registry: &Registry) -> Vec<String> {
    ["amd64", "arm64"]
        .map(|arch| {
            let name = registry.image(&format!("app:{arch}"));
            let dockerfile = format!("FROM scratch\nCOPY Dockerfile /{arch}\n");
            world.build(&dockerfile, &["-t", &name, "--platform", &format!("linux/{arch}"), "--push"]).ok();
            name
        })
        .to_vec()
}

fn entries(world: &World, name: &str) -> Vec<Value> {
    let index: Value = serde_json::from_str(&world.run(&["manifest", "inspect", name]).ok()).expect("JSON");
    index["manifests"].as_array().expect("a list").clone()
}

#[test]
fn indexes_are_made_of_images_in_registries() {
    let world = World::new();
    let registry = Registry::start(&world);
    let names = images(&world, &registry);
    let list = registry.image("app:1");
    // A store that has none of the images.
    let other = World::new();
    let create = ["manifest", "create", &list, &names[0], &names[1]];
    let first = other.run(&create).ok();
    assert_eq!(other.run(&create).ok(), first, "the same again is the same index");
    let pushed = other.run(&["manifest", "push", &list]).ok();
    assert_eq!(pushed, first);
    let fresh = World::new();
    let found = entries(&fresh, &list);
    let architectures: Vec<&Value> = found.iter().map(|e| &e["platform"]["architecture"]).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    fresh.run(&["pull", "--all-platforms", &list]).ok();
}

#[test]
fn entries_are_annotated_and_amended() {
    let world = World::new();
    let registry = Registry::start(&world);
    let names = images(&world, &registry);
    let list = registry.image("app:1");
    world.run(&["manifest", "create", &list, &names[0]]).ok();
    world.run(&["manifest", "create", "--amend", &list, &names[1]]).ok();
    let args = [
        "manifest",
        "annotate",
        "--arch",
        "arm64",
        "--variant",
        "v8",
        "--os-features",
        "a,b",
        "--annotation",
        "k=v",
    ];
    world.run(&[&args[..], &[&list, &names[1]]].concat()).ok();
    let all = entries(&world, &list);
    assert_eq!(all.len(), 2);
    assert_eq!((&all[1]["platform"]["variant"], &all[1]["annotations"]["k"]), (&"v8".into(), &"v".into()));
    world
        .run(&["manifest", "annotate", &list, "linux/s390x", "--os", "linux"])
        .fails_with(&["is not in the index"]);
    world.run(&["manifest", "push", &list]).ok();
    assert_eq!(entries(&World::new(), &list), all);
    world.run(&["manifest", "create", &list, &names[0]]).ok();
    assert_eq!(entries(&world, &list).len(), 1, "create without --amend starts anew");
    world.run(&["manifest", "push", "--purge", &list]).ok();
    world.run(&["manifest", "annotate", &list, &names[0], "--os", "linux"]).fails_with(&["manifest create"]);
}

#[test]
fn local_images_are_enough() {
    let world = World::new();
    let registry = Registry::start(&world);
    for arch in ["amd64", "arm64"] {
        world
            .build(
                "FROM scratch\nCOPY Dockerfile /\n",
                &["-t", &format!("local:{arch}"), "--platform", &format!("linux/{arch}")],
            )
            .ok();
    }
    world.run(&["manifest", "create", "list", "local:amd64", "local:arm64"]).ok();
    let target = registry.image("other/name:3");
    world.run(&["manifest", "push", "list", &format!("docker://{target}")]).ok();
    let fresh = World::new();
    fresh.run(&["pull", "--all-platforms", &target]).ok();
    assert_eq!(entries(&fresh, &target).len(), 2);
    world.run(&["manifest", "rm", "list"]).ok();
    world.run(&["manifest", "push", "list"]).fails_with(&["no index list"]);
    world.run(&["manifest", "create", "list", "none:1"]).fails_with(&["docker.io is blocked"]);
}

#[test]
fn one_image_is_inspected_too() {
    let world = World::new();
    let registry = Registry::start(&world);
    let names = images(&world, &registry);
    let one: Value =
        serde_json::from_str(&World::new().run(&["manifest", "inspect", &names[0]]).ok()).expect("JSON");
    assert!(one["config"]["digest"].is_string(), "{one}");
    let verbose = World::new().run(&["manifest", "inspect", "--verbose", &names[0]]).ok();
    let verbose: Value = serde_json::from_str(&verbose).expect("JSON");
    assert_eq!(verbose["Descriptor"]["platform"]["architecture"], "amd64");
    assert_eq!(verbose["OCIManifest"], one);
}

#[test]
fn each_manifest_of_an_index_is_shown_as_docker_does() {
    let world = World::new();
    let registry = Registry::start(&world);
    let names = images(&world, &registry);
    let list = registry.image("app:1");
    world.run(&["manifest", "create", &list, &names[0], &names[1]]).ok();
    let digest = world.run(&["manifest", "push", &list]).ok().trim().to_string();
    for world in [&world, &World::new()] {
        let shown = world.run(&["manifest", "inspect", "-v", &list]).ok();
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let entries = shown.as_array().expect("a list");
        assert_eq!(entries.len(), 2);
        for entry in entries {
            let descriptor = &entry["Descriptor"];
            let digest = descriptor["digest"].as_str().expect("a digest");
            assert_eq!(entry["Ref"], format!("{list}@{digest}"));
            assert!(descriptor["platform"]["architecture"].is_string() && descriptor["size"].is_u64());
            assert!(entry["OCIManifest"]["layers"].is_array() && entry["Raw"].is_string());
        }
    }
    let imagetools =
        |args: &[&str]| World::new().run(&[&["buildx", "imagetools", "inspect"], args].concat()).ok();
    let text = imagetools(&[&list]);
    assert!(text.contains(&digest) && text.contains("Platform:  linux/arm64"), "{text}");
    let raw = imagetools(&["--raw", &list]);
    assert_eq!(crossdock_oci::Digest::of(raw.as_bytes()).as_str(), digest);
    assert_eq!(
        imagetools(&["--format", "{{.Manifest.Digest}} {{.Name}}", &list]),
        format!("{digest} {list}\n")
    );
    let manifest: Value =
        serde_json::from_str(&imagetools(&["--format", "{{json .Manifest}}", &list])).expect("JSON");
    assert_eq!(
        (&manifest["digest"], manifest["manifests"].as_array().map(Vec::len)),
        (&digest.into(), Some(2))
    );
    let image: Value =
        serde_json::from_str(&imagetools(&["--format", "{{json .Image}}", &list])).expect("JSON");
    assert_eq!(image["linux/arm64"]["architecture"], "arm64");
    // Names that the registry does not have.
    world.run(&["tag", &list, &registry.image("only/here:1")]).ok();
    world.run(&["buildx", "imagetools", "inspect", "--raw", &registry.image("only/here:1")]).ok();
    world.run(&["buildx", "imagetools", "inspect", &registry.image("not/even:1")]).fails(1);
}

#[test]
fn entries_are_added_annotated_and_removed() {
    let world = World::new();
    let registry = Registry::start(&world);
    let names = images(&world, &registry);
    // From here on another world, so that only the registry has the images.
    let world = World::new();
    let list = registry.image(&format!("{}:all", repository(&names[0])));
    world.run(&["manifest", "push", &list]).fails_with(&["no index"]);
    world.run(&["manifest", "add", &list, &names[0]]).fails_with(&["no index"]);
    world.run(&["manifest", "create", &list]).ok();
    world.run(&["manifest", "push", &list]).fails_with(&["no images", "manifest add"]);
    world.run(&["manifest", "add", &list, &names[0]]).ok();
    let args = ["manifest", "add", &list, &names[1], "--variant", "v8", "--annotation", "a=b"];
    world.run(&args).ok();
    let index = |world: &World| -> Value {
        serde_json::from_str(&world.run(&["manifest", "inspect", &list]).ok()).expect("JSON")
    };
    let entry = &index(&world)["manifests"][1];
    assert_eq!((&entry["platform"]["variant"], &entry["annotations"]["a"]), (&"v8".into(), &"b".into()));
    world.run(&["manifest", "annotate", &list, &names[0], "--os-version", "9"]).ok();
    assert_eq!(index(&world)["manifests"][0]["platform"]["os.version"], "9");
    world
        .run(&["manifest", "annotate", &list, &registry.image("absent:1"), "--variant", "v8"])
        .fails_with(&["is not in the index", "absent"]);
    world.run(&["manifest", "push", &list]).ok();
    world.run(&["manifest", "remove", &list, &names[0]]).ok();
    assert_eq!(index(&world)["manifests"].as_array().map(Vec::len), Some(1));
    // The store has the index but none of its images: commands that need an image say so.
    let err = world.run(&["inspect", &list]).fails(1);
    assert!(err.contains("no image is in the store") && err.contains("pull"), "{err}");
}

/// The `team/app` in `HOST/team/app:TAG`.
fn repository(name: &str) -> &str {
    let (_, path) = name.split_once('/').expect("a host");
    path.rsplit_once(':').expect("a tag").0
}

#[test]
fn copies_go_from_registry_to_registry() {
    let world = World::new();
    let registry = Registry::start(&world);
    let names = images(&world, &registry);
    let list = registry.image("app:1");
    world.run(&["manifest", "create", &list, &names[0], &names[1]]).ok();
    let digest = world.run(&["manifest", "push", &list]).ok();
    let other = World::new();
    let peer = DockerRegistry::start("");
    let copy = peer.reference("team/copy:1").to_string();
    let copied = other.run(&["copy", &format!("docker://{list}"), &format!("docker://{copy}")]);
    assert!(copied.err.contains("4 blobs and"), "{}", copied.err);
    assert_eq!(copied.ok(), digest);
    assert_eq!(
        fs::read_dir(other.path("store/blobs/sha256")).map_or(0, Iterator::count),
        0,
        "nothing is stored"
    );
    let again = other.run(&["copy", &list, &copy]);
    assert!(again.err.contains("0 blobs and 0B moved, 0 mounted, 4 already there"), "{}", again.err);
    // Within one registry nothing moves.
    let (two, three) = (registry.image("elsewhere:2"), registry.image("third:3"));
    let mounted = other.run(&["buildx", "imagetools", "create", "-t", &two, "-t", &three, &list]);
    assert_eq!(mounted.err.matches("0 blobs and 0B moved, 4 mounted").count(), 2, "{}", mounted.err);
    other.run(&["pull", "--all-platforms", &copy]).ok();
    assert_eq!(other.validate(), 1);

    let one = registry.image("one:1");
    other.run(&["copy", "--platform", "linux/arm64", &list, &one]).ok();
    other.run(&["pull", "--platform", "linux/arm64", &one]).ok();
    assert!(other.inspect(&one)["Index"].is_null());
    let both = registry.image("both:1");
    other.run(&["copy", "--platform", "linux/arm64,linux/amd64", &list, &both]).ok();
    assert_eq!(entries(&other, &both).len(), 2);
    other
        .run(&["copy", "--platform", "linux/s390x", &list, &one])
        .fails_with(&["linux/s390x", "it offers: linux/amd64, linux/arm64"]);
    other.run(&["copy", "oci:dir", &one]).fails(1);
    other.run(&["copy", "oci-archive:absent", &one]).fails_with(&["open absent"]);
    other.run(&["copy", &registry.image("none:1"), &one]).fails_with(&["none:1", "not found"]);
}

/// `imagetools create` with several sources, from two registries.
#[test]
fn several_sources_make_an_index() {
    let world = World::new();
    let registry = Registry::start(&world);
    let names = images(&world, &registry);
    let peer = DockerRegistry::start("");
    let elsewhere = peer.reference("part:1").to_string();
    world.run(&["copy", &names[1], &elsewhere]).ok();
    let other = World::new();
    let list = peer.reference("team/list:1").to_string();
    other.run(&["buildx", "imagetools", "create", "-t", &list, &names[0], &elsewhere]).ok();
    other.run(&["pull", "--all-platforms", &list]).ok();
    assert_eq!((other.validate(), entries(&other, &list).len()), (1, 2));
    // A second copy gives the same index; sources may be indexes; the last image for a platform counts.
    let again = peer.reference("team/list:2").to_string();
    let of_list = other.run(&["copy", "-t", &again, &list, &names[0]]);
    assert!(of_list.err.contains("0 blobs and 0B moved"), "{}", of_list.err);
    of_list.ok();
    assert_eq!(entries(&other, &again).len(), 2);
    world.file("changed", "x");
    world
        .build("FROM scratch\nCOPY changed /\n", &["-t", &names[0], "--push", "--platform", "linux/amd64"])
        .ok();
    other.run(&["copy", "--append", "-t", &list, &names[0]]).ok();
    let found = entries(&other, &list);
    assert_eq!(found.len(), 2);
    other.run(&["pull", "--platform", "linux/amd64", &list]).ok();
    let layers = other.run(&["history", "--platform", "linux/amd64", &list]).ok();
    assert!(layers.contains("changed"), "{layers}");
    let fresh = peer.reference("fresh:1").to_string();
    other.run(&["copy", "--append", "-t", &fresh, &names[0]]).ok();
    other.run(&["copy", &list]).fails_with(&["source and a destination", "--tag"]);
    other.run(&["copy", "-t", &fresh, &list, &registry.image("none:1")]).fails_with(&["none:1", "not found"]);
}

/// The options of `imagetools create` that CI jobs use: sources by digest from files, annotations, a dry run.
#[test]
fn an_index_is_planned_annotated_and_made_of_files() {
    let world = World::new();
    let registry = Registry::start(&world);
    let mut files = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let output = format!("type=image,name={},push-by-digest=true,push=true", registry.image("app"));
        let file = format!("{}.json", platform.replace('/', "-"));
        let args = ["--platform", platform, "-o", &output, "--metadata-file", &file];
        world.build("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n", &args).ok();
        files.push(file);
    }
    let name = registry.image("app:1");
    let create = |args: &[&str]| {
        let fixed = ["buildx", "imagetools", "create", "--progress=plain", "-t", &name];
        let sources = ["-f", &files[0], "-f", &files[1]];
        world.run(&[&fixed[..], args, &sources].concat())
    };
    let annotations = [
        "--annotation",
        "a=1",
        "--annotation",
        "index:b=2",
        "--annotation",
        "manifest-descriptor[linux/arm64]:c=3",
    ];
    let planned = create(&[&annotations[..], &["--dry-run"]].concat()).ok();
    world.run(&["manifest", "inspect", &name]).fails(1);
    create(&annotations).ok();
    let raw = world.run(&["inspect", "--raw", &format!("docker://{name}")]).ok();
    assert_eq!(planned, format!("{raw}\n"));
    let index: Value = serde_json::from_str(&raw).expect("JSON");
    assert_eq!(index["annotations"], serde_json::json!({"a": "1", "b": "2"}));
    assert_eq!(index["manifests"][0]["annotations"], Value::Null);
    assert_eq!(index["manifests"][1]["annotations"], serde_json::json!({"c": "3"}));
    world.run(&["pull", "--all-platforms", &name]).ok();
    assert_eq!((world.validate(), entries(&world, &name).len()), (1, 2));

    let fails = |args: &[&str], texts: &[&str]| world.run(&[&["copy"], args].concat()).fails_with(texts);
    fails(&["-t", &name, "--file", "absent"], &["--file absent"]);
    std::fs::write(world.path("odd"), "{}").expect("written");
    fails(&["-t", &name, "--file", "odd"], &["--file odd", "no digest"]);
    fails(&["--annotation", "index-descriptor:a=b", &name, &registry.image("x:1")], &["index-descriptor"]);
    fails(&["--dry-run", &name, "oci:layout"], &["--dry-run", "between registries"]);
    let one = index["manifests"][0]["digest"].as_str().expect("a digest");
    let one = format!("{}@{one}", registry.image("app"));
    fails(&["--annotation", "a=b", &one, &registry.image("x:1")], &["several sources"]);
}

#[test]
fn copies_survive_faults_and_notice_damage() {
    let world = World::new();
    world.file("big", vec![7u8; 300_000]);
    // Downloads that fail at first.
    let faulty = FaultyRegistry::start(&world, |seen, spoilt| {
        (spoilt < 2 && seen.method == "GET" && seen.path.contains("/blobs/"))
            .then(|| Fault::status(503, "busy"))
    });
    world
        .build(
            "FROM scratch\nCOPY big /\n",
            &["-t", &faulty.name, "--push", "--output", "type=registry,compression=uncompressed"],
        )
        .ok();
    let peer = DockerRegistry::start("");
    let copy = peer.reference("copy:1").to_string();
    world.run(&["copy", &faulty.name, &copy]).ok();
    // The registry's blob is damaged: the target gets no name.
    let blobs = world.path("registry/blobs/sha256");
    let is_big = |path: &PathBuf| path.metadata().expect("a blob").len() > 100_000;
    let mut paths = fs::read_dir(&blobs).expect("blobs").map(|entry| entry.expect("an entry").path());
    let blob = paths.find(is_big).expect("the layer");
    let mut bytes = fs::read(&blob).expect("readable");
    bytes[200_000] ^= 1;
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).expect("mode");
    fs::write(&blob, bytes).expect("damaged");
    let damaged = peer.reference("damaged:1").to_string();
    let error = world.run(&["copy", &faulty.name, &damaged]).fails(1);
    assert!(error.contains("sha256:"), "{error}");
    world.run(&["manifest", "inspect", &damaged]).fails(1);
}
