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
    sync(&["--src=yaml", "--dest=dir", "list", "x"]).fails_with(&["--src yaml", "loop"]);
}
