//! skopeo's commands: inspect docker://, list-tags, delete, sync, manifest-digest.

use std::fs;

use serde_json::{Value, json};

use crate::interop::Peers;
use crate::support::{Registry, World};

const DOCKERFILE: &str = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\nENV A=b\nLABEL l=m\n";

fn pushed(world: &World, name: &str) {
    world.build(DOCKERFILE, &["--platform", "linux/amd64,linux/arm64", "-t", name, "--push"]).ok();
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The same as skopeo itself says.
#[test]
fn inspect_says_what_skopeo_says() {
    let world = World::new();
    let peers = Peers::new();
    let registry = Registry::start(&world);
    pushed(&world, &registry.image("team/app:1"));
    pushed(&world, &registry.image("team/app:2"));
    let name = format!("docker://{}", registry.image("team/app:1"));
    let theirs =
        |args: &[&str]| peers.run("skopeo", &[&["inspect", "--tls-verify=false"], args, &[&name]].concat());
    let ours = |args: &[&str]| world.run(&[&["inspect"], args, &[&name]].concat()).ok();
    let (our, their) = (json_of(&ours(&[])), json_of(&theirs(&[])));
    // Debian 12's skopeo does not show every member.
    for (member, value) in their.as_object().expect("an object") {
        assert_eq!(our[member], *value, "{member}");
    }
    assert_eq!(our["LayersData"][0]["Digest"], our["Layers"][0]);
    assert_eq!(ours(&["--raw"]), theirs(&["--raw"]));
    assert_eq!(ours(&["--config", "--raw"]), theirs(&["--config", "--raw"]));
    let template = "{{.Name}} {{.Digest}}";
    assert_eq!(ours(&["--format", template]), theirs(&["--format", template]));
    assert_eq!(json_of(&ours(&["--no-tags"]))["RepoTags"], json!([]));
    let arm = json_of(&world.run(&["--override-arch", "arm64", "inspect", &name]).ok());
    assert_eq!(arm["Architecture"], "arm64");
    world.run(&["inspect", "--platform", "linux/s390x", &name]).fails_with(&["linux/amd64", "--platform"]);
    world.run(&["inspect", &name, "other"]).fails_with(&["one image"]);
}

#[test]
fn tags_are_listed_and_images_deleted() {
    let world = World::new();
    let registry = Registry::start(&world);
    let repository = registry.image("team/app");
    for tag in ["1", "2"] {
        world.file("f", tag);
        let name = format!("{repository}:{tag}");
        world.build("FROM scratch\nCOPY f /\n", &["-t", &name, "--push"]).ok();
    }
    let listed = |name: &str| json_of(&world.run(&["list-tags", name]).ok());
    let expected = json!({"Repository": repository, "Tags": ["1", "2"]});
    assert_eq!(listed(&format!("docker://{repository}")), expected);
    assert_eq!(listed(&repository), expected);
    world.run(&["delete", &format!("docker://{repository}:1")]).ok();
    assert_eq!(listed(&repository)["Tags"], json!(["2"]));
    world.run(&["delete", &format!("{repository}:1")]).fails_with(&["team/app:1 is not in the registry"]);
    world.run(&["delete", "oci:x"]).fails_with(&["only images of registries"]);
    world.run(&["list-tags", "oci://x"]).fails_with(&["docker://NAME"]);
    world.run(&["list-tags", &registry.image("none")]).fails(1);
    world.run(&["pull", &format!("{repository}:2")]).ok();
    world.run(&["save", "-o", "a.tar", &format!("{repository}:2")]).ok();
    assert_eq!(listed("docker-archive:a.tar"), json!({"Tags": [format!("{repository}:2")]}));
}

#[test]
fn digests_of_manifests() {
    let world = World::new();
    let registry = Registry::start(&world);
    let name = registry.image("a:1");
    pushed(&world, &name);
    let raw = world.run(&["inspect", "--raw", &format!("docker://{name}")]).ok();
    fs::write(world.path("manifest"), &raw).expect("written");
    let digest = format!("{}\n", crossdock_oci::Digest::of(raw.as_bytes()));
    assert_eq!(world.run(&["manifest-digest", "manifest"]).ok(), digest);
    assert_eq!(world.crossdock(&["manifest-digest", "-"]).input(raw.as_bytes()).ok(), digest);
    fs::write(world.path("manifest"), "{}").expect("written");
    world.run(&["manifest-digest", "manifest"]).fails_with(&["manifest is no manifest"]);
    world.run(&["manifest-digest", "absent"]).fails_with(&["absent"]);
}

#[test]
fn names_are_synced_to_directories_and_back() {
    let world = World::new();
    let registry = Registry::start(&world);
    for name in ["team/app:1", "team/app:2"] {
        pushed(&world, &registry.image(name));
    }
    let sync = |args: &[&str]| world.run(&[&["sync"], args].concat());
    let repository = registry.image("team/app");
    let planned = sync(&["--src", "docker", "--dest", "dir", "--dry-run", &repository, "out"]).ok();
    assert_eq!(planned.lines().count(), 2, "{planned}");
    assert!(planned.contains("to dir:out/app:1") && !world.path("out").exists(), "{planned}");
    let args = ["-s", "docker", "-d", "dir", "--all", "--digestfile", "digests", &repository, "out"];
    assert!(sync(&args).ok().ends_with("copied 2 of 2 images\n"));
    assert!(world.path("out/app:1/manifest.json").exists() && world.path("out/app:2/version").exists());
    assert_eq!(fs::read_to_string(world.path("digests")).expect("there").lines().count(), 2);
    let scoped = ["--src", "docker", "--dest", "dir", "--scoped", &format!("{repository}:1"), "whole"];
    sync(&scoped).ok();
    assert!(world.path("whole").join(format!("{repository}:1/manifest.json")).exists());
    // Back, with another ending of the tags.
    let to = registry.image("mirror");
    let args = ["--src=dir", "--dest=docker", "--all", "--append-suffix=-x", "out", &to];
    sync(&args).ok();
    let tags = json_of(&world.run(&["list-tags", &registry.image("mirror/app")]).ok());
    assert_eq!(tags["Tags"], json!(["1-x", "2-x"]));
    let bytes = |name: &str| world.run(&["inspect", "--raw", &format!("docker://{name}")]).ok();
    assert_eq!(bytes(&registry.image("mirror/app:1-x")), bytes(&registry.image("team/app:1")));
    // From registry to registry, only this machine's image.
    let other = registry.image("one");
    sync(&["--src=docker", "--dest=docker", &format!("{repository}:1"), &other]).ok();
    assert!(bytes(&registry.image("one/app:1")).contains("\"layers\""));

    // Damage ends it, unless the rest is wanted.
    fs::write(world.path("out/app:1/manifest.json"), "{}").expect("written");
    sync(&["--src=dir", "--dest=docker", "--all", "out", &registry.image("a")]).fails_with(&["app:1"]);
    let rest = sync(&["--src=dir", "--dest=docker", "--all", "--keep-going", "out", &registry.image("b")]);
    assert!(rest.out.ends_with("copied 1 of 2 images\n"), "{rest:?}");
    rest.fails(1);
    fs::create_dir(world.path("empty")).expect("a directory");
    sync(&["--src=dir", "--dest=docker", "empty", &to]).fails_with(&["empty has no images"]);
    sync(&["--src=dir", "--dest=dir", "out", "x"]).fails_with(&["cp --recursive"]);
}

#[test]
fn lists_of_images_are_synced() {
    let world = World::new();
    let line = world.crossdock(&["registry", "htpasswd", "ann"]).input(b"correct-horse\n").ok();
    fs::write(world.path("users"), line).expect("written");
    let registry = Registry::with(&world, &["--users", &world.text("users")]);
    for name in ["team/app:1.0", "team/app:1.1", "team/app:2.0", "other:1", "other:2"] {
        world.file("f", name);
        let to = registry.image(name);
        world.build("FROM scratch\nCOPY f /\n", &["-o", "type=oci,dest=a.tar", "-t", &to]).ok();
        world.run(&["copy", "-q", "--dest-creds", "ann:correct-horse", "oci-archive:a.tar", &to]).ok();
    }
    let there = format!("docker://{}", registry.image("other:2"));
    let digest = world.run(&["inspect", "--creds=ann:correct-horse", "--format", "{{.Digest}}", &there]).ok();
    let list = format!(
        "# what is wanted\n{}:\n  images:\n    other: []\n    team/app:\n      - \"2.0\"\n  images-by-tag-regex:\n    \
        team/app: ^1\\.[0-9]$\n  credentials:\n    username: ann\n    password: correct-horse\n  tls-verify: false\n",
        registry.host
    );
    fs::write(world.path("list"), &list).expect("written");
    let sync = |to: &str| world.run(&["sync", "--src", "yaml", "--dest", "dir", "list", to]);
    assert!(sync("out").ok().ends_with("copied 5 of 5 images\n"));
    for name in ["app:1.0", "app:1.1", "app:2.0", "other:1", "other:2"] {
        assert!(world.path("out").join(name).join("manifest.json").exists(), "{name}");
    }
    // By digest; and tags that are not there.
    let text = list.replace("other: []", &format!("other: [\"{}\"]", digest.trim()));
    fs::write(world.path("list"), text).expect("written");
    sync("by-digest").ok();
    assert!(world.path("by-digest").join(format!("other@{}", digest.trim())).exists());
    for (from, to, texts) in [
        ("other: []", "other: x", &["line 4", "other"][..]),
        ("other: []", "other: [absent]", &["other:absent"]),
        ("^1", "(", &["images-by-tag-regex", "line 8"]),
        ("images-by-tag-regex", "images-by-semver", &["images-by-semver", "images-by-tag-regex"]),
        ("correct-horse", "wrong-guess", &[]),
        ("tls-verify: false", "tls-verify: perhaps", &["tls-verify", "line 12"]),
        ("tls-verify", "unknown", &["unknown", "line 12"]),
        ("images:", "images: &a\n  x: *a\n  y:", &["list", "alias"]),
        ("images:", "images: [", &["list"]),
    ] {
        fs::write(world.path("list"), list.replace(from, to)).expect("written");
        let err = sync("bad").fails(1);
        let has_all = texts.iter().all(|text| err.contains(text));
        assert!(has_all && !err.contains("correct-horse") && !err.contains("wrong-guess"), "{to}: {err}");
    }
    fs::write(world.path("list"), "[".repeat(100_000)).expect("written");
    sync("bad").fails(1);
    fs::write(world.path("list"), "").expect("written");
    sync("bad").fails_with(&["list has no images"]);
}
