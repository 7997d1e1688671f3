//! bake: the targets of a file are built, each once, those first that others need.

use crate::support::{Registry, World};

const FILE: &str = r#"
variable "TAG" {
  default = "1"
}
group "default" {
  targets = ["app", "v"]
}
target "tools" {
  context = "context/tools"
  args = { FROM = "tools" }
}
target "app" {
  context = "context/app"
  contexts = { tools = "target:tools" }
  dockerfile-inline = <<EOT
FROM tools
ARG V
LABEL app=yes
RUN echo "$V of $(cat /from)" > /v
EOT
  args = { V = "app ${TAG}" }
  tags = ["app:${TAG}"]
}
target "v" {
  name = "v-${n}"
  matrix = { n = ["a", "b"] }
  inherits = ["app"]
  args = { V = n }
  tags = ["v:${n}"]
}
"#;

fn world() -> World {
    let world = World::with_base();
    world.file("../docker-bake.hcl", FILE).file("app/f", "");
    world.file("tools/Dockerfile", "FROM base\nARG FROM\nRUN echo \"$FROM\" > /from\n");
    world
}

#[test]
fn targets_are_built_and_linked() {
    let world = world();
    let ran = world.run(&["bake", "--progress", "plain", "--metadata-file", "m.json"]);
    let err = ran.err.clone();
    ran.ok();
    let order: Vec<&str> = err.lines().filter_map(|line| line.strip_prefix("target ")).collect();
    assert_eq!(order, ["tools", "app", "v-a", "v-b"]);
    assert_eq!(world.sh("app:1", "cat /v"), "app 1 of tools\n");
    assert_eq!(world.sh("v:b", "cat /v"), "b of tools\n");
    // What only others needed is no image of its own.
    let names = world.run(&["images", "--format", "{{.Repository}}"]).ok();
    assert!(!names.contains("<none>"), "{names}");
    let text = std::fs::read_to_string(world.path("m.json")).expect("written");
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(metadata["app"]["image.name"], "docker.io/library/app:1");
    assert!(metadata["tools"].get("image.name").is_none(), "{text}");
    assert_eq!(metadata.as_object().expect("an object").len(), 4);
    // Everything is known now.
    let again = world.run(&["buildx", "bake", "--progress", "plain", "app"]);
    assert!(!again.err.contains("v-a") && again.err.contains("CACHED"), "{}", again.err);
    again.ok();
}

#[test]
fn what_is_set_and_pushed() {
    let world = world();
    let registry = Registry::start(&world);
    let name = registry.image("app:2");
    let set = [format!("app.tags={name}"), "app.args.V=set".to_string(), "*.labels.who=me".to_string()];
    let args =
        ["bake", "app", "--push", "--var", "TAG=9", "--set", &set[0], "--set", &set[1], "--set", &set[2]];
    world.run(&args).ok();
    assert!(world.run(&["manifest", "inspect", &name]).ok().contains("\"layers\""));
    assert_eq!(world.sh(&name, "cat /v"), "set of tools\n");
    assert_eq!(world.inspect(&name)["Config"]["Labels"]["who"], "me");
    // The environment gives variables, and only what is asked for is built.
    let printed = world.crossdock(&["bake", "--print", "v-a"]).env("TAG", "7").run().ok();
    let plan: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(plan["target"]["v-a"]["args"]["V"], "a");
    assert_eq!(plan["target"]["tools"]["output"][0]["type"], "cacheonly");
    assert_eq!(plan["group"]["default"]["targets"], serde_json::json!(["v-a"]));
}

#[test]
fn lists_and_refusals() {
    let world = world();
    let listed = world.run(&["bake", "--list", "targets"]).ok();
    assert!(listed.starts_with("TARGET ") && listed.contains("v-b"), "{listed}");
    let listed = world.run(&["bake", "--list=type=variables,format=json"]).ok();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&listed).expect("JSON"),
        serde_json::json!([{"name": "TAG", "value": "1"}])
    );
    world.run(&["bake", "nope"]).fails_with(&["no target or group \"nope\" is defined; there are"]);
    world.file("../docker-bake.hcl", "target \"default\" {\n  entitlements = [\"security.insecure\"]\n}\n");
    world
        .run(&["bake"])
        .fails_with(&["asks for the privilege security.insecure", "--allow security.insecure"]);
    world.file("../docker-bake.hcl", "target \"default\" {\n  tags = [nope]\n}\n");
    world.run(&["bake"]).fails_with(&["docker-bake.hcl:2:11: there is no variable \"nope\""]);
    world.file("../compose.yaml", "services: {}\n");
    world.run(&["bake", "-f", "compose.yaml"]).fails_with(&["files of Compose are not read yet"]);
    std::fs::remove_file(world.path("docker-bake.hcl")).expect("removed");
    world.run(&["bake"]).fails_with(&["no file of definitions is here: docker-bake.json, docker-bake.hcl"]);
    world.file("../docker-bake.hcl", "target \"default\" {\n  dockerfile = \"absent\"\n}\n");
    world.run(&["bake"]).fails_with(&["the target default"]);
}
