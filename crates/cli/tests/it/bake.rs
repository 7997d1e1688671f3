//! bake: the targets of a file are built, each once, those first that others need.

use crate::remote::{git, serve};
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
fn print_shows_what_the_command_line_changes() {
    let world = world();
    let target = |args: &[&str]| {
        let printed = world.run(&[&["bake", "v-a", "--print"], args].concat()).ok();
        let plan: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        plan["target"]["v-a"].clone()
    };
    assert_eq!(target(&[])["no-cache"], serde_json::Value::Null);
    assert_eq!(target(&["--no-cache"])["no-cache"], true);
    assert_eq!(target(&["--pull"])["pull"], true);
    assert_eq!(target(&["--check"])["call"], "lint");
    assert_eq!(target(&["--call", "outline"])["call"], "outline");
    let attest = |args: &[&str]| target(args)["attest"].clone();
    assert_eq!(attest(&["--sbom=true"]), serde_json::json!([{"type": "sbom"}]));
    let max = serde_json::json!([{"mode": "max", "type": "provenance"}]);
    assert_eq!(attest(&["--provenance=mode=max"]), max);
    let set = ["--set", "v-a.attest=type=provenance,mode=max", "--provenance=false"];
    assert_eq!(attest(&set), serde_json::json!([{"disabled": true, "type": "provenance"}]));
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
    world.file("../x.yaml", "services: {a: {build: {nope: 1}}}\n");
    world
        .run(&["bake", "-f", "x.yaml"])
        .fails_with(&["x.yaml: services.a: build: there is no attribute \"nope\""]);
    std::fs::remove_file(world.path("docker-bake.hcl")).expect("removed");
    world.run(&["bake"]).fails_with(&["no file of definitions is here: compose.yaml, compose.yml"]);
    world.file("../docker-bake.hcl", "target \"default\" {\n  dockerfile = \"absent\"\n}\n");
    world.run(&["bake"]).fails_with(&["the target default"]);
}

const COMPOSE: &str = "
services:
  tools:
    build:
      context: context/tools
      args: {FROM: \"${WHO:-nobody}\"}
  app:
    image: app:unused
    build:
      context: context/app
      additional_contexts: {tools: service:tools}
      dockerfile_inline: |
        FROM tools
        RUN cat /from /etc/hosts > /v
      extra_hosts: {one: [10.0.0.1, 10.0.0.2]}
      tags: ['app:${TAG}']
      x-bake: {tags: [more:1]}
";

#[test]
fn services_of_compose_are_targets() {
    let world = World::with_base();
    world.file("../compose.yaml", COMPOSE).file("../.env", "WHO=me\nTAG=3\n").file("app/f", "");
    world.file("tools/Dockerfile", "FROM base\nARG FROM\nRUN echo \"$FROM\" > /from\n");
    world.file("../docker-bake.override.hcl", "target \"app\" {\n  labels = { a = \"b\" }\n}\n");
    world.run(&["bake"]).ok();
    let seen = world.sh("app:3", "cat /v");
    assert!(seen.starts_with("me\n") && seen.contains("10.0.0.1") && seen.contains("10.0.0.2"), "{seen}");
    assert_eq!(world.sh("more:1", "cat /from"), "me\n");
    assert_eq!(world.inspect("app:3")["Config"]["Labels"]["a"], "b");
    let ran = world.crossdock(&["bake", "--print", "tools"]).env("WHO", "other").run();
    assert!(ran.ok().contains("\"FROM\": \"other\""), "the environment counts more than .env");
}

/// The address of a repository with definitions and contexts.
fn repository(world: &World, definitions: &str) -> String {
    let repository = world.path("repository");
    world.file("../repository/docker-bake.hcl", definitions);
    world.file("../repository/sub/f", "of the repository\n");
    world.file("../repository/sub/Dockerfile", "FROM scratch\nCOPY f /f\n");
    std::os::unix::fs::symlink("/etc", repository.join("out")).expect("a link");
    for args in [&["init", "-q", "-b", "main"][..], &["add", "."], &["commit", "-q", "-m", "x"]] {
        git(&repository, args);
    }
    format!("file://{}#main", repository.display())
}

#[test]
fn definitions_come_from_elsewhere() {
    let world = World::with_base();
    let definitions = "target \"default\" {\n  context = \"sub\"\n  tags = [\"r:1\"]\n}\n\
        target \"here\" {\n  inherits = [\"default\"]\n  context = \"cwd://context\"\n  tags = [\"r:2\"]\n}\n\
        target \"out\" {\n  context = \"out\"\n}\n\
        target \"up\" {\n  context = \"../..\"\n  dockerfile = \"sub/Dockerfile\"\n}\n\
        target \"secret\" {\n  inherits = [\"default\"]\n  secret = [\"id=x,src=/etc/hostname\"]\n}\n";
    let address = repository(&world, definitions);
    world.file("f", "of this machine\n").file("Dockerfile", "FROM scratch\nCOPY f /f\n");
    let tar = |tag: &str| {
        let dest = world.path("o").display().to_string();
        let output = format!("{tag}.output=type=local,dest={dest}");
        world.run(&["bake", &address, tag, "--set", &output, "--allow", &format!("fs.write={dest}")]).ok();
        std::fs::read_to_string(world.path("o/f")).expect("written")
    };
    assert_eq!(tar("default"), "of the repository\n");
    assert_eq!(tar("here"), "of this machine\n");
    let bake = |args: &[&str]| world.run(&[&["bake", &address], args].concat());
    bake(&["out"]).fails_with(&["out is not in the repository or archive of the definitions"]);
    // The way up ends at the top of the repository.
    bake(&["up"]).fails_with(&["target up", "\"f\": not found"]);
    bake(&["secret"])
        .fails_with(&["asks for /etc/hostname of this machine", "--allow fs.read=/etc/hostname"]);
    bake(&["secret", "--allow", "fs.read=/etc/hostname"]).ok();
    bake(&["-f", "nope.hcl"]).fails_with(&["nope.hcl is not in what was fetched", "cwd://nope.hcl"]);
    world.file(
        "../own.hcl",
        "target \"default\" {\n  context = \"sub\"\n  labels = { x = \"${1 + 1}\" }\n}\n",
    );
    let printed = bake(&["-f", "cwd://own.hcl", "--print"]).ok();
    assert!(printed.contains("\"x\": \"2\""), "{printed}");

    // A single file, with nothing beside it.
    let served = format!("http://{}/docker-bake.hcl", serve(world.path("repository")));
    world.run(&["bake", &served]).fails_with(&["nothing is beside definitions that are a single file"]);
    world.run(&["bake", &served, "here"]).ok();
}
