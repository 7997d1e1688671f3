//! Options that change the finished image: --squash, --omit-history, --unsetenv and their like.

use serde_json::Value;

use crate::support::World;

/// Deletions, replaced directories, and files over directories, of the base and of the build itself.
const DOCKERFILE: &str = "FROM below\nRUN rm /b/gone && rm -r /b/dir && mkdir /b/dir && touch /b/dir/new\n\
    RUN rm -r /b/tree && echo file > /b/tree\nRUN rm /b/tree && mkdir /b/tree && touch /b/tree/again\n\
    RUN mkdir /own && echo 1 > /own/f && ln /own/f /own/hard\nRUN rm /own/f && echo 2 > /own/f && chown 5:6 /own/f\n\
    RUN rm -r /b/low\nRUN mkdir -p /b/low && touch /b/low/fresh\nENV A=1 B=2\nLABEL a=1 b=2\n";
const BELOW: &str = "FROM base\nRUN mkdir -p /b/dir /b/tree /b/low && touch /b/gone /b/kept /b/dir/old /b/tree/old /b/low/old\n";
const SCRIPT: &str = "cd /b; find . /own | sort; cat /own/f /own/hard; stat -c '%u:%g %h' /own/f";

#[test]
fn squashed_layers_give_the_same_files() {
    let world = World::with_base();
    world.build(BELOW, &["-t", "below"]).ok();
    world.build(DOCKERFILE, &["-t", "whole"]).ok();
    let expected = world.sh("whole", SCRIPT);
    assert!(expected.contains("./dir/new") && !expected.contains("old"), "{expected}");
    let layers = |image: &str| -> Vec<String> {
        let manifest = world.inspect(image)["Manifest"]["layers"].as_array().expect("layers").clone();
        manifest.iter().map(|layer| layer["digest"].as_str().expect("a digest").to_string()).collect()
    };
    let below = layers("below");

    world.build(DOCKERFILE, &["-t", "squashed", "--squash"]).ok();
    assert_eq!(world.sh("squashed", SCRIPT), expected);
    let squashed = layers("squashed");
    assert_eq!((squashed.len(), &squashed[..below.len()]), (below.len() + 1, &below[..]));
    let names = world.layer("squashed", below.len());
    assert!(names.iter().any(|name| name.contains(".wh.gone")), "{names:?}");
    let inspected = world.inspect("squashed");
    let history = inspected["History"].as_array().expect("a history").clone();
    let with_layer = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(with_layer, squashed.len(), "{history:?}");

    world.build(DOCKERFILE, &["-t", "flat", "--squash-all"]).ok();
    assert_eq!(layers("flat").len(), 1);
    assert_eq!(world.sh("flat", SCRIPT), expected);
    // What only a layer of the build has deleted, of that build, leaves no mark: others would see it.
    let own = "FROM below\nRUN mkdir /c && touch /c/a /c/b\nRUN rm /c/b\n";
    for option in ["--squash", "--squash-all"] {
        world.build(own, &["-t", "own", option]).ok();
        assert_eq!(
            world.sh("own", "ls /c && rm -r /c && ls -d /c 2>/dev/null || echo removed"),
            "a\nremoved\n"
        );
        world.build("FROM base\nCOPY --from=own /c /c\nRUN ls /c\n", &["-t", "copied"]).ok();
        let last = layers("own").len() - 1;
        assert!(world.layer("own", last).iter().all(|name| !name.contains(".wh.")), "{option}");
    }
    // The same again, also through the cache; and the image is whole.
    let digest = |image: &str| world.inspect(image)["Descriptor"]["digest"].clone();
    let first = digest("squashed");
    world.build(DOCKERFILE, &["-t", "squashed", "--squash"]).ok();
    assert_eq!(digest("squashed"), first);
    world.validate();
    // A build without layers of its own keeps those of the base.
    world.build("FROM below\nENV x=y\n", &["-t", "same", "--squash"]).ok();
    assert_eq!(layers("same"), below);
    world
        .build(DOCKERFILE, &["--squash", "--cache-to", "type=inline"])
        .fails_with(&["--squash", "inline cache"]);
}

#[test]
fn the_configuration_is_changed() {
    let world = World::with_base();
    let args = ["-t", "t", "--unsetenv", "A", "--unsetlabel", "a,none", "--env", "C=3", "--env", "B=two"];
    let built = world.building("FROM base\nENV A=1 B=2\nLABEL a=1 b=2\nRUN echo $A$B$C > /seen\n", &args);
    let built = built.env("FROM_HERE", "x").run();
    built.ok();
    let config: Value = world.inspect("t")["Config"].clone();
    assert_eq!(config["Env"], serde_json::json!(["PATH=/bin", "B=two", "C=3"]));
    assert_eq!(config["Labels"], serde_json::json!({"b": "2"}));
    // Steps see what the Dockerfile says.
    assert_eq!(world.sh("t", "cat /seen"), "12\n");
    world.build("FROM base\nRUN true\n", &["-t", "t", "--omit-history"]).ok();
    assert_eq!(world.inspect("t")["History"], serde_json::json!([]));
    world.build("FROM base\n", &["--env", "=x"]).fails_with(&["--env =x"]);
    // The id file has the id of the changed image.
    world.build("FROM base\n", &["-t", "t", "--unsetenv", "PATH", "--iidfile", "id"]).ok();
    let id = std::fs::read_to_string(world.path("id")).expect("there");
    assert_eq!(world.inspect("t")["Id"], id);
}

#[test]
fn several_platforms_are_changed_alike() {
    let world = World::new();
    let dockerfile =
        "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\nCOPY Dockerfile /b\nENV A=1\n";
    let args =
        ["--platform", "linux/amd64,linux/arm64", "-t", "t", "--squash", "--unsetenv", "A", "--omit-history"];
    world.build(dockerfile, &args).ok();
    let all: Value = serde_json::from_str(&world.run(&["inspect", "t"]).ok()).expect("JSON");
    for image in all.as_array().expect("images") {
        assert_eq!(image["Manifest"]["layers"].as_array().map(Vec::len), Some(1), "{image}");
        assert!(!image["Config"]["Env"].to_string().contains("A=1"), "{image}");
        assert_eq!(image["History"], serde_json::json!([]));
        assert!(image["Index"]["digest"].is_string());
    }
    assert_eq!(world.validate(), 1);
}
