//! images, tag, rmi, inspect, history, save, load, pull, push, system, and docker's other names for them.

use crossdock_testkit::LayerTar;
use crossdock_testkit::foreign::{self, Cpu};
use serde_json::Value;

use crate::support::{Registry, World};

#[test]
fn names_come_and_go() {
    let world = World::with_base();
    world.build("FROM base\nRUN echo x > /x\n", &["-t", "app:1", "-t", "127.0.0.1:9/team/app:2"]).ok();
    world.run(&["tag", "app:1", "other"]).ok();
    let listed = world.run(&["images"]).ok();
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["REPOSITORY", "TAG", "PLATFORM"]);
    let names: Vec<String> = lines[1..].iter().map(|l| format!("{}:{}", l[0], l[1])).collect();
    assert_eq!(names, ["127.0.0.1:9/team/app:2", "app:1", "base:latest", "other:latest"]);
    // One object per line, with docker's members.
    let all = world.run(&["image", "ls", "--format", "json"]).ok();
    let all: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let app = all.iter().find(|image| image["Repository"] == "app").expect("the image");
    assert_eq!((all.len(), &app["Tag"]), (4, &"1".into()));
    let size = app["Size"].as_str().expect("text");
    assert!(size.ends_with('B') && app["ID"].as_str().is_some_and(|id| id.len() == 12), "{app}");
    let id = world.inspect("app:1")["Id"].as_str().expect("text").to_string();
    assert_eq!(world.run(&["images", "-q", "--no-trunc", "other"]).ok().trim(), id);
    let short = &id["sha256:".len()..][..12];
    assert_eq!(world.run(&["run", short, "cat", "/x"]).ok(), "x\n");
    assert_eq!(world.inspect(short)["Id"], id.as_str());
    world.run(&["tag", short, "by-id:3"]).ok();
    assert_eq!(world.sh("by-id:3", "cat /x"), "x\n");
    assert_eq!(world.run(&["rmi", "other"]).ok(), "Untagged: other:latest\n");
    assert_eq!(world.sh("app:1", "cat /x"), "x\n");
    world.run(&["rmi", short]).fails_with(&["3 names", "--force"]);
    let gone = world.run(&["rmi", "--force", short]).ok();
    assert_eq!(gone.lines().count(), 3, "{gone}");
    world.run(&["rmi", "app:1"]).fails_with(&["no image app:1"]);
    world.run(&["rmi", "-f", "app:1"]).ok();
    for args in [
        &["tag", "absent", "x"][..],
        &["inspect", "absent"],
        &["history", "absent"],
        &["save", "absent"],
        &["push", "absent"],
    ] {
        world.run(args).fails_with(&["no image absent:latest"]);
    }
    world.run(&["tag", "base", "Not:Valid:Name"]).fails_with(&["Not:Valid:Name"]);
}

#[test]
fn an_archive_of_files_becomes_an_image() {
    let world = World::new();
    let busybox = std::fs::read(crate::support::require("busybox", "busybox-static")).expect("readable");
    let root = || {
        let applets = LayerTar::new().dir("bin").file_mode("bin/busybox", &busybox, 0o755);
        applets.symlink("bin/sh", "busybox").file("a.wh.b", "a name")
    };
    world.file("root.tar", root().finish());
    let packed = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &root().finish()).expect("packed");
        encoder.finish().expect("packed")
    };
    let file = world.text("context/root.tar");
    let id = world.run(&[
        "import",
        "-c",
        "CMD [\"sh\", \"-c\", \"echo $A\"]",
        "--change",
        "ENV=A=1",
        &file,
        "os:1",
    ]);
    let id = id.ok();
    assert_eq!(world.inspect("os:1")["Id"], id.trim());
    assert_eq!(world.run(&["run", "os:1"]).ok(), "1\n");
    assert_eq!(world.sh("os:1", "busybox ls -a / | busybox grep -c wh"), "1\n");
    assert_eq!(world.inspect("os:1")["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));

    // From standard input, without a name, for another machine.
    let args = ["image", "import", "--platform", "linux/arm/v7", "-"];
    let id = world.crossdock(&args).input(&packed).ok();
    assert_eq!(world.inspect(id.trim())["Architecture"], "arm");

    // A name that whoever gets the image takes for a deletion.
    let mark = root().file(".wh.c", "a name").finish();
    let refused = world.crossdock(&["import", "-", "mark"]).input(&mark).fails(1);
    assert!(refused.contains("/.wh.c: ") && refused.contains("rename or remove it"), "{refused}");

    // docker's way to an empty image.
    world.crossdock(&["import", "-", "empty"]).input(&[0; 10240]).ok();
    assert_eq!(world.inspect("empty")["Size"], 0);
    world.run(&["rmi", "empty"]).ok();
    // An image of a disk begins with zeros, too.
    let disk = [&[0; 4096][..], b"ext4"].concat();
    world.crossdock(&["import", "-", "disk"]).input(&disk).fails_with(&["is not a tar archive"]);
    let digest = format!("x@sha256:{}", "a".repeat(64));
    for args in [&["import", &file, &digest][..], &["tag", "os:1", &digest]] {
        world.run(args).fails_with(&["has no digest"]);
    }

    let none = world.run(&["import", &world.text("context/absent"), "x"]);
    none.fails_with(&["the archive", "absent", "No such file"]);
    let text = world.file("text", "no archive").text("context/text");
    world.run(&["import", &text, "x"]).fails_with(&[&text, "is not a tar archive"]);
    world
        .run(&["import", "-c", "RUN true", &file, "x"])
        .fails_with(&["--change RUN true", "CMD, ENTRYPOINT"]);
    world.run(&["import", &file, "X"]).fails_with(&["X"]);
    assert_eq!(world.run(&["images", "-q"]).ok().lines().count(), 2);
}

#[test]
fn podman_asks_for_images_and_takes_names_away() {
    let world = World::with_base();
    world.run(&["tag", "base", "a:1", "b:2", "c:3"]).ok();
    let code = |args: &[&str]| world.run(args).code;
    assert_eq!(code(&["image", "exists", "a:1"]), Some(0));
    assert_eq!(code(&["image", "exists", "absent"]), Some(1));
    assert_eq!(code(&["manifest", "exists", "a:1"]), Some(1));
    world.run(&["manifest", "create", "list"]).ok();
    assert_eq!(code(&["manifest", "exists", "list"]), Some(0));

    let id = world.inspect("a:1")["Id"].as_str().expect("text").to_string();
    world.run(&["untag", "a:1", "absent"]).fails_with(&["absent is no name of a:1", "nothing was changed"]);
    world.run(&["untag", "a:1", "b:2", "c:3"]).ok();
    world.run(&["image", "untag", "base"]).ok();
    let names = world.run(&["images", "--format", "{{.Repository}}"]).ok();
    assert_eq!(
        names.lines().filter(|name| ["a", "b", "c", "base"].contains(name)).collect::<Vec<_>>(),
        ["a"]
    );
    // The last name goes, and the image stays.
    world.run(&["untag", &id]).ok();
    assert_eq!(code(&["image", "exists", "a:1"]), Some(1));
    assert_eq!(world.sh(&id, "echo here"), "here\n");
    world.run(&["rmi", &id]).ok();
    assert_eq!(code(&["image", "exists", &id]), Some(1));
}

#[test]
fn removed_images_free_their_space() {
    let world = World::with_base();
    world.build("FROM base\nRUN head -c 3000000 /dev/urandom > /big\n", &["-t", "t", "--no-cache"]).ok();
    let size = || {
        let out =
            std::process::Command::new("du").args(["-sk", &world.text("store")]).output().expect("du runs");
        String::from_utf8_lossy(&out.stdout)
            .split_whitespace()
            .next()
            .expect("a number")
            .parse::<u64>()
            .expect("a number")
    };
    let before = size();
    let usage = world.run(&["system", "df"]).ok();
    assert!(usage.contains("Images") && usage.contains("Build cache"), "{usage}");
    world.run(&["rmi", "t"]).ok();
    world.run(&["system", "prune"]).fails_with(&["--force"]);
    world.run(&["builder", "prune", "-a", "-f"]).ok();
    assert!(size() + 5000 < before, "{} and then {}", before, size());
    let usage = world.run(&["system", "df"]).ok();
    let cache = usage.lines().find(|line| line.starts_with("Build cache")).expect("a line").to_string();
    assert_eq!(cache.split_whitespace().nth(2), Some("0"), "{usage}");
    assert_eq!(world.sh("base", "echo still"), "still\n");
}

#[test]
fn archives_go_both_ways() {
    let world = World::with_base();
    for (format, more) in [
        ("docker", &[][..]),
        ("oci", &[]),
        ("docker-archive", &["base:latest"]),
        ("oci-archive", &["base:latest"]),
    ] {
        world
            .build("FROM base\nRUN rm /etc/group && echo x > /x\nENTRYPOINT [\"cat\"]\n", &["-t", "t:9"])
            .ok();
        let file = world.text("archive");
        world.run(&[&["save", "--format", format, "-o", &file, "t:9"], more].concat()).ok();
        let other = World::new();
        let loaded = other.run(&["load", "-q", "-i", &file]).ok();
        assert_eq!(loaded.lines().count(), 1 + more.len(), "{loaded}");
        assert_eq!(other.run(&["run", "t:9", "/x"]).ok(), "x\n");
        assert_eq!(other.inspect("t:9")["Id"], world.inspect("t:9")["Id"]);
        // An archive that is cut off, from a pipe: no image appears.
        let bytes = std::fs::read(&file).expect("there");
        let torn = World::new();
        torn.crossdock(&["load"]).input(&bytes[..bytes.len() / 2]).fails(1);
        assert_eq!(torn.run(&["images", "-q"]).ok(), "");
    }
    world.crossdock(&["load"]).input(b"no archive at all").fails(1);
    world.crossdock(&["load"]).input(b"").fails(1);
    world.run(&["load", "-i", "/no/such/file"]).fails_with(&["/no/such/file"]);
}

fn three(world: &World) -> String {
    for (cpu, name) in [(Cpu::Amd64, "amd64"), (Cpu::Arm64, "arm64"), (Cpu::Arm, "arm")] {
        world.file_mode(&format!("mkdir-{name}"), foreign::mkdir(cpu), 0o755);
    }
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY mkdir-$TARGETARCH /mkdir\nENTRYPOINT [\"/mkdir\"]\n";
    world.build(dockerfile, &["-t", "m", "--platform", "linux/amd64,linux/arm64,linux/arm/v7"]).ok();
    "linux/amd64 linux/arm64 linux/arm/v7".to_string()
}

#[test]
fn platforms_live_side_by_side() {
    let world = World::new();
    let platforms = three(&world);
    let registry = Registry::start(&world);
    let name = registry.image("m:1");
    world.run(&["push", "m", &name]).ok();
    let fresh = World::new();
    fresh.run(&["pull", &name]).ok();
    fresh.run(&["pull", "--platform", "linux/arm64", &name]).ok();
    let listed = fresh.run(&["images"]).ok();
    assert!(
        listed.contains("linux/amd64") && listed.contains("linux/arm64") && !listed.contains("arm/v7"),
        "{listed}"
    );
    // Only part of the index is in the store; a push must not drop the rest of it.
    let error = fresh.run(&["push", &name, &registry.image("copy:1")]).fails(1);
    assert!(error.contains("--all-platforms") && error.contains("--platform"), "{error}");
    fresh.run(&["push", "--platform", "linux/arm64", &name, &registry.image("copy:arm64")]).ok();
    fresh.run(&["pull", "--all-platforms", &name]).ok();
    fresh.run(&["push", &name, &registry.image("copy:1")]).ok();
    let index = |world: &World, name: &str| world.run(&["buildx", "imagetools", "inspect", name]).ok();
    for platform in platforms.split(' ') {
        assert!(index(&World::new(), &registry.image("copy:1")).contains(platform));
    }
    fresh.run(&["rmi", "--platform", "linux/arm64", &name]).ok();
    assert!(!fresh.run(&["images", &name]).ok().contains("arm64"));
    let inspected: Value =
        serde_json::from_str(&fresh.run(&["inspect", "--platform", "linux/arm/v7", &name]).ok())
            .expect("JSON");
    assert_eq!((&inspected[0]["Architecture"], &inspected[0]["Variant"]), (&"arm".into(), &"v7".into()));
    let error = fresh.run(&["pull", "--platform", "linux/s390x", &name]).fails(1);
    assert!(
        error.contains("linux/s390x") && error.contains("linux/amd64, linux/arm64, linux/arm/v7"),
        "{error}"
    );
    let error = fresh.run(&["pull", &registry.image("m:absent")]).fails(1);
    assert!(error.contains("m:absent") && error.contains("1"), "{error}");
}

#[test]
fn an_index_is_shown_before_it_is_made() {
    let world = World::new();
    three(&world);
    let registry = Registry::start(&world);
    let (one, two) = (registry.image("one:1"), registry.image("two:1"));
    world.run(&["push", "--platform", "linux/amd64", "m", &one]).ok();
    world.run(&["push", "--platform", "linux/arm64", "m", &two]).ok();
    let create = ["buildx", "imagetools", "create"];
    let shown = world.run(&[&create[..], &["--dry-run", &one, &two]].concat()).ok();
    let index: Value = serde_json::from_str(&shown).expect("JSON");
    let cpus: Vec<&Value> = index["manifests"]
        .as_array()
        .expect("an index")
        .iter()
        .map(|entry| &entry["platform"]["architecture"])
        .collect();
    assert_eq!(cpus, ["amd64", "arm64"]);
    // It is what would be made.
    let made = registry.image("made:1");
    world.run(&[&create[..], &["-t", &made, &one, &two]].concat()).ok();
    assert_eq!(world.run(&["buildx", "imagetools", "inspect", "--raw", &made]).ok().trim(), shown.trim());
    // One name alone is enough, also for copy.
    let alone = world.run(&[&create[..], &["--dry-run", &made]].concat()).ok();
    assert_eq!(
        (alone.trim(), world.run(&["copy", "--dry-run", &made]).ok().trim()),
        (shown.trim(), shown.trim())
    );
    world.run(&[&create[..], &[&one, &two]].concat()).fails_with(&["--tag NAME", "--dry-run"]);
    world.run(&[&create[..], &["--dry-run", "oci:nowhere"]].concat()).fails_with(&["between registries"]);
}

#[test]
fn docker_words_are_understood() {
    let world = World::with_base();
    world.file("Dockerfile", "FROM base\n");
    let archive = world.text("a.tar");
    for args in [
        &["buildx", "build", "-t", "x", "context"][..],
        &["image", "build", "-t", "x", "--rm", "--provenance=false", "--sbom=false", "context"],
        &["image", "ls"],
        &["image", "list", "-a"],
        &["image", "inspect", "x"],
        &["image", "history", "x"],
        &["image", "tag", "x", "y"],
        &["image", "save", "-o", &archive, "x"],
        &["image", "load", "-i", &archive],
        &["image", "rm", "y"],
        &["image", "prune", "-f"],
        &["container", "run", "--rm", "x", "true"],
        &["buildx", "du"],
        &["system", "df"],
        &["version"],
        &["--version"],
        &["--help"],
        &["run", "--help"],
    ] {
        let ran = world.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
    }
    world.run(&[]).fails(2);
    world.run(&["biuld", "."]).fails(2);
}

#[test]
fn a_closed_pipe_is_no_error_to_talk_about() {
    let world = World::with_base();
    let command = format!(
        "{} --root {} inspect base base base | head -c 1",
        env!("CARGO_BIN_EXE_crossdock"),
        world.text("store")
    );
    let out = std::process::Command::new("sh").args(["-c", &command]).output().expect("sh runs");
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
}

/// Overwrites a file of a store, which is read-only.
fn damage(path: &std::path::Path) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("mode");
    std::fs::write(path, "damaged").expect("written");
}

#[test]
fn damaged_images_are_named_and_hinder_no_others() {
    let world = World::with_base();
    for name in ["config", "manifest", "record"] {
        world.build(&format!("FROM base\nLABEL name={name}\n"), &["-t", name]).ok();
    }
    let blob = |digest: &Value| {
        world.store().join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"))
    };
    damage(&blob(&world.inspect("config")["Manifest"]["config"]["digest"]));
    damage(&blob(&world.inspect("manifest")["Descriptor"]["digest"]));
    damage(&world.store().join("images/docker.io%2flibrary%2frecord%3alatest.json"));

    let listed = world.run(&["images"]);
    assert_eq!((listed.code, listed.out.lines().count()), (Some(0), 2), "{listed:?}");
    assert!(listed.out.contains("base"), "{listed:?}");
    for name in ["config", "manifest", "record"] {
        assert!(listed.err.contains(name), "{name}: {listed:?}");
    }
    for command in [&["system", "df"][..], &["system", "prune", "--force"]] {
        let ran = world.run(command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.contains("manifest:latest") && ran.err.contains("record"), "{ran:?}");
    }
    assert_eq!(world.sh("base", "echo whole"), "whole\n");
    // The advice in the warnings helps.
    world.run(&["rmi", "config", "manifest", "record"]).ok();
    let listed = world.run(&["images"]);
    assert_eq!((listed.out.lines().count(), listed.err.as_str()), (2, ""), "{listed:?}");
    assert_eq!(world.run(&["system", "df"]).err, "");
}

#[test]
fn formats_are_templates() {
    let world = World::with_base();
    world.build("FROM base\nLABEL a=1 b=2\nENV X=y\nCMD [\"sh\", \"-c\", \"a b\"]\n", &["-t", "app:1"]).ok();
    let inspect = |format: &str| world.run(&["inspect", "-f", format, "app:1"]).ok();
    assert_eq!(inspect("{{.Config.Cmd}}"), "[sh -c a b]\n");
    assert_eq!(inspect("{{json .Config.Entrypoint}} {{.Config.User}}|"), "null |\n");
    assert_eq!(inspect("{{range .Config.Env}}{{println .}}{{end}}"), "PATH=/bin\nX=y\n\n");
    assert_eq!(inspect("{{index .Config.Labels \"b\"}} {{.Os}}/{{.Architecture}}"), "2 linux/amd64\n");
    let all: Value = serde_json::from_str(&inspect("{{json .}}")).expect("JSON");
    assert_eq!(all["Id"], world.inspect("app:1")["Id"]);
    assert_eq!(
        world.run(&["image", "inspect", "--format", "{{.RepoTags}}", "app:1", "base"]).ok(),
        "[app:1]\n[base:latest]\n"
    );
    assert_eq!(world.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(), "app:1\nbase:latest\n");
    assert!(world.run(&["history", "--format", "{{.CreatedBy}}", "app:1"]).ok().starts_with("CMD [\"sh\""));
    world.run(&["inspect", "-f", "{{.Nothing}}", "app:1"]).fails_with(&[
        "--format {{.Nothing}}",
        "there is no \"Nothing\"",
        "Architecture",
    ]);
    world.run(&["images", "--format", "pretty"]).fails_with(&["table, json, or a template"]);
}

#[test]
fn templates_find_what_docker_and_podman_have() {
    let world = World::with_base();
    let dockerfile = "FROM base\nLABEL a=1\nHEALTHCHECK --interval=5s CMD true\nCMD [\"sh\"]\n";
    world.build(dockerfile, &["-t", "app:1"]).ok();
    let inspect = |format: &str| world.run(&["inspect", "-f", format, "app:1"]).ok();
    let id = world.inspect("app:1")["Id"].as_str().expect("text").to_string();
    assert_eq!(inspect("{{printf \"%.12s\" (slice .Id 7)}}"), format!("{}\n", &id[7..19]));
    assert_eq!(inspect("{{.ID}}"), format!("{id}\n"));
    assert_eq!(inspect("{{.Os}}/{{.Architecture}}/{{.Variant}}"), "linux/amd64/\n");
    assert_eq!(inspect("{{.Author}}|{{json .Variant}}|{{json .Config.Volumes}}"), "|\"\"|null\n");
    assert_eq!(inspect("{{.Config.Labels.a}} {{.Config.Labels.nope}}"), "1 <no value>\n");
    assert_eq!(
        inspect(
            "{{.Config.Healthcheck.Interval}} {{.HealthCheck.Timeout}} {{json .Config.Healthcheck.Interval}}"
        ),
        "5s 0s 5000000000\n"
    );
    let docker = "{{.Parent}}|{{.DockerVersion}}|{{.GraphDriver.Name}}|{{.VirtualSize}}|{{.Config.Image}}";
    assert_eq!(inspect(docker), format!("||overlay|{}|\n", world.inspect("app:1")["Size"]));
    let comment =
        world.inspect("app:1")["History"].as_array().expect("a list").last().expect("a step")["comment"]
            .clone();
    assert_eq!(inspect("{{.Comment}}"), format!("{}\n", comment.as_str().unwrap_or_default()));
    // A name was given a moment ago: this is no year of the zero time.
    assert!(!inspect("{{.Metadata.LastTagTime}}").starts_with("0001"));
    let manifest = world.inspect("app:1")["Descriptor"]["digest"].as_str().expect("text").to_string();
    assert_eq!(inspect("{{.Digest}} {{.Labels.a}} {{.User}}"), format!("{manifest} 1 \n"));
    assert!(inspect("{{.ManifestType}}").starts_with("application/vnd."));
    // The base has no health check: as in docker, its members cannot be asked for, itself can.
    let ask = |format: &str| world.run(&["inspect", "-f", format, "base"]);
    assert_eq!(ask("{{.Config.Healthcheck}}{{if .Config.Healthcheck}}x{{end}}").ok(), "<nil>\n");
    ask("{{.Config.Healthcheck.Interval}}")
        .fails_with(&["no \"Interval\"", ".Config.Healthcheck is not set"]);
    // docker's JSON has no such members, nor has the image.
    let all: Value = serde_json::from_str(&inspect("{{json .}}")).expect("JSON");
    assert!(all.get("ID").is_none() && all["Config"].get("Volumes").is_none(), "{all}");
    assert!(world.inspect("app:1").get("Variant").is_none());

    let row = world.run(&["images", "--format", "{{.Id}} {{.ID}} {{.VirtualSize}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}} {{.Names}} {{.Labels.a}}", "app"]);
    let size = world.run(&["images", "--format", "{{.Size}}", "app"]).ok();
    let short = &id[7..19];
    assert_eq!(row.ok(), format!("{short} {short} {} N/A N/A N/A [app:1] 1\n", size.trim()));
    let at = world.run(&["images", "--format", "{{.CreatedAt}}", "app"]).ok();
    assert!(at.ends_with(" +0000 UTC\n"), "{at}");
    let table = world.run(&["images", "--format", "table {{lower .Repository}}\\t{{json .Tag}}", "app"]).ok();
    assert_eq!(table, "REPOSITORY   TAG\napp          \"1\"\n");

    // The example of docker's manual.
    let history = world.run(&["history", "--format", "{{.ID}}: {{.CreatedSince}}", "app:1"]).ok();
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines[0].starts_with(&format!("{short}: ")), "{history}");
    assert!(lines.len() > 1 && lines[1..].iter().all(|line| line.starts_with("<missing>: ")), "{history}");
    assert_eq!(world.run(&["history", "-q", "app:1"]).ok().lines().count(), lines.len());
}

#[test]
fn inspect_shows_what_is_there_and_then_says_what_is_not() {
    let world = World::with_base();
    let ran = world.run(&["inspect", "absent", "base", "gone"]);
    assert_eq!(ran.code, Some(1));
    let shown: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((shown.as_array().map(Vec::len), &shown[0]["RepoTags"][0]), (Some(1), &"base:latest".into()));
    assert!(
        ran.err.contains("no image absent:latest") && ran.err.contains("no image gone:latest"),
        "{}",
        ran.err
    );
    let ran = world.run(&["inspect", "-f", "{{.Os}}", "base", "absent", "base"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "linux\nlinux\n"));
    let ran = world.run(&["inspect", "absent"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "[]\n"));
    // What is wrong with the template is said once.
    let ran = world.run(&["inspect", "-f", "{{nope}}", "base", "base"]);
    assert_eq!((ran.code, ran.err.matches("there is no function nope").count()), (Some(1), 1), "{}", ran.err);

    world.run(&["volume", "create", "v"]).ok();
    let ran = world.run(&["volume", "inspect", "absent", "v", "-f", "{{.Name}} {{.Labels.x}}"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "v <no value>\n"), "{}", ran.err);
    assert!(ran.err.contains("no volume absent"), "{}", ran.err);
}

#[test]
fn several_images_are_pulled_and_all_are_removed() {
    let world = World::with_base();
    let registry = crate::support::Registry::start(&world);
    let [a, b] = ["a:1", "b:1"].map(|name| registry.image(name));
    for name in [&a, &b] {
        world.build(&format!("FROM base\nRUN echo {name} > /x\n"), &["-t", name, "--push"]).ok();
    }
    world.run(&["rmi", &a, "--all"]).fails_with(&["leave out", &a]);
    let removed = world.run(&["rmi", "-a"]).ok();
    assert!(removed.contains(&a) && removed.contains("base:latest"), "{removed}");
    assert_eq!(world.run(&["images", "-q"]).ok(), "");
    let missing = registry.image("missing:1");
    let ran = world.run(&["pull", "-q", &a, &missing, &b]);
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    ran.fails_with(&["missing:1"]);
    assert_eq!(world.run(&["images", "-q"]).ok().lines().count(), 2);
    world.run(&["pull", "-q", &a, "oci:x/y"]).fails_with(&["pull reads registries"]);
    world.run(&["rmi"]).fails(2);
}

#[test]
fn names_of_one_image_are_saved_once() {
    let world = World::with_base();
    world.run(&["tag", "base", "base:two"]).ok();
    let archive = world.text("a.tar");
    world.run(&["save", "-o", &archive, "base", "base:two", "base"]).ok();
    let bytes = std::fs::read(archive).expect("an archive");
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entries = archive.entries().expect("entries").map(|entry| entry.expect("an entry"));
    let manifest = entries.find(|entry| entry.path().expect("a path").ends_with("manifest.json"));
    let list: Value = serde_json::from_reader(manifest.expect("a manifest")).expect("JSON");
    assert_eq!(list.as_array().expect("a list").len(), 1);
    assert_eq!(
        list[0]["RepoTags"],
        serde_json::json!(["docker.io/library/base:latest", "docker.io/library/base:two"])
    );
}
