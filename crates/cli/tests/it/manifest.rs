//! manifest.

use serde_json::Value;

use crate::support::{Registry, World};

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
    // A store that has none of them.
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
    fresh.run(&["pull", "-a", &target]).ok();
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
    let table = World::new().run(&["manifest", "inspect", "--verbose", &names[0]]).ok();
    assert!(table.contains("sha256:") && table.contains("image"), "{table}");
}
