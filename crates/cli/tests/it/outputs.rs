//! Where the results of builds go.

use std::collections::BTreeMap;
use std::io::Read;

use crossdock_testkit::foreign::{self, Cpu};
use serde_json::Value;

use crate::support::{Registry, World};

const DOCKERFILE: &str =
    "FROM base\nRUN echo out > /out && chown 5:6 /out && rm /etc/group && ln -s out /link\n";

fn names(tar: &[u8]) -> BTreeMap<String, (u64, u64, u32)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("an archive").map(|entry| {
        let entry = entry.expect("an entry");
        let header = entry.header();
        let owner = (header.uid().expect("uid"), header.gid().expect("gid"), header.mode().expect("mode"));
        (entry.path().expect("a path").display().to_string().trim_end_matches('/').to_string(), owner)
    });
    entries.collect()
}

#[test]
fn trees_as_archives_and_directories() {
    let world = World::with_base();
    for output in ["type=tar,dest=t.tar", "type=local,dest=dir", "dir2"] {
        world.build(DOCKERFILE, &["-o", output]).ok();
    }
    let all = names(&std::fs::read(world.path("t.tar")).expect("there"));
    assert_eq!(all["out"], (5, 6, 0o644));
    assert!(all.contains_key("etc/passwd") && !all.contains_key("etc/group"), "{all:?}");
    assert!(!all.keys().any(|name| name.contains(".wh.")), "{all:?}");
    for directory in ["dir", "dir2"] {
        let directory = world.path(directory);
        assert_eq!(std::fs::read_to_string(directory.join("link")).expect("there"), "out\n");
        assert!(!directory.join("etc/group").exists());
    }
    // Standard output gets the archive and nothing else.
    let out = world.building(DOCKERFILE, &["-o", "-"]).command.output().expect("runs");
    assert_eq!(names(&out.stdout), all);
}

#[test]
fn the_directory_of_an_output_may_be_a_link() {
    let world = World::with_base();
    std::fs::create_dir_all(world.path("real/there")).expect("a directory");
    std::os::unix::fs::symlink("real", world.path("out")).expect("a link");
    world.give();
    world.build(DOCKERFILE, &["-o", "out"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("real/out")).expect("there"), "out\n");
    assert!(world.path("real/there").is_dir() && world.path("out").is_symlink());
    // Links inside are not followed.
    std::os::unix::fs::symlink("..", world.path("real/tmp2")).expect("a link");
    let _ = world.build("FROM base\nRUN mkdir /tmp2 && echo x > /tmp2/escaped\n", &["-o", "out"]);
    assert!(!world.path("escaped").exists());
}

#[test]
fn several_outputs_at_once_and_their_mistakes() {
    let world = World::with_base();
    let args = [
        "-t",
        "t:1",
        "-o",
        "type=oci,dest=a.oci",
        "-o",
        "type=docker,dest=a.docker",
        "-o",
        "type=image,name=other:2",
        "--load",
    ];
    world.build(DOCKERFILE, &args).ok();
    for archive in ["a.oci", "a.docker"] {
        let other = World::new();
        let loaded = other.run(&["load", "-i", &world.text(archive)]).ok();
        assert!(loaded.contains("t:1"), "{loaded}");
        assert_eq!(other.sh("t:1", "cat /link"), "out\n");
    }
    let same = |name: &str| world.inspect(name)["Id"].clone();
    assert_eq!(same("t:1"), same("other:2"));
    let layout = world.path("layout");
    world.build(DOCKERFILE, &["-t", "t:1", "-o", "type=oci,tar=false,dest=layout"]).ok();
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).expect("there")).expect("JSON");
    assert_eq!(index["manifests"].as_array().expect("a list").len(), 1);
    assert!(layout.join("oci-layout").exists());
    for (output, message) in [
        ("type=nonsense", "unknown type nonsense"),
        ("type=local", "dest=PATH"),
        ("type=oci,compression=lzma,dest=x", "compression=lzma"),
        ("type=tar,dest=/no/such/directory/x", "/no/such/directory"),
    ] {
        world.build(DOCKERFILE, &["-o", output]).fails_with(&[message]);
    }
}

#[test]
fn devices_and_pipes_are_written_to_and_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let world = World::with_base();
    // A pipe and not /dev/null: a test that fails must not break the machine.
    let pipe = world.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    for args in [
        &["save", "-o", "pipe", "base"][..],
        &["build", "-o", "type=tar,dest=pipe", "context"],
        &["build", "-q", "--iidfile", "pipe", "context"],
    ] {
        world.file("Dockerfile", DOCKERFILE);
        let read = std::thread::scope(|threads| {
            let reader = threads.spawn(|| std::fs::read(&pipe).expect("a pipe"));
            let ran = world.run(args);
            // Releases the reader if nobody wrote.
            drop(std::fs::File::options().read(true).write(true).open(&pipe).expect("a pipe"));
            ran.ok();
            reader.join().expect("no panic")
        });
        assert!(!read.is_empty(), "{args:?}");
        assert!(pipe.metadata().expect("there").file_type().is_fifo(), "{args:?}");
    }
}

#[test]
fn several_platforms() {
    let world = World::new();
    for (cpu, name) in [(Cpu::Amd64, "amd64"), (Cpu::Arm64, "arm64")] {
        world.file_mode(&format!("mkdir-{name}"), foreign::mkdir(cpu), 0o755);
    }
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY mkdir-$TARGETARCH /mkdir\n";
    let platforms = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    let build = |args: &[&str]| world.build(dockerfile, &[&platforms, args].concat());
    build(&["-o", "type=local,dest=dir"]).ok();
    let read = |p: &str| std::fs::read(world.path("dir").join(p).join("mkdir")).expect("there");
    assert_eq!(read("linux_amd64"), foreign::mkdir(Cpu::Amd64));
    assert_eq!(read("linux_arm64"), foreign::mkdir(Cpu::Arm64));
    build(&["-t", "t", "-o", "type=oci,dest=a.oci"]).ok();
    let other = World::new();
    let loaded = other.run(&["load", "-i", &world.text("a.oci")]).ok();
    assert!(loaded.contains("linux/amd64") && loaded.contains("linux/arm64"), "{loaded}");
    build(&["-o", "type=docker,dest=a.docker"]).fails_with(&["one platform", "type=oci"]);
    build(&["-o", "type=tar,dest=a.tar"]).ok();
    let mut tar = tar::Archive::new(std::fs::File::open(world.path("a.tar")).expect("an archive"));
    let names = tar
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string());
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["linux_amd64/", "linux_amd64/mkdir", "linux_arm64/", "linux_arm64/mkdir"]
    );
    // After a later build for one platform the name means only that image.
    build(&["-t", "t"]).ok();
    world.build(dockerfile, &["-t", "t", "--platform", "linux/arm64"]).ok();
    let named = world.run(&["images", "--filter", "dangling=false", "--format", "{{.Platform}}"]);
    assert_eq!(named.ok(), "linux/arm64\n");
}

#[test]
fn digests_go_to_files_and_quiet_builds_say_nothing_else() {
    let world = World::with_base();
    let built =
        world.build(DOCKERFILE, &["-t", "t", "--iidfile", "id", "--metadata-file", "meta.json", "-q"]);
    assert_eq!(built.err, "");
    let image = world.inspect("t");
    let id = image["Id"].as_str().expect("text");
    assert_eq!(built.ok(), format!("{id}\n"));
    assert_eq!(std::fs::read_to_string(world.path("id")).expect("there"), id);
    let metadata: Value =
        serde_json::from_slice(&std::fs::read(world.path("meta.json")).expect("there")).expect("JSON");
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["containerimage.digest"], image["Descriptor"]["digest"]);
    assert_eq!(metadata["image.name"], "docker.io/library/t:latest");
    let failed = world.build("FROM base\nRUN echo why; exit 3\n", &["-q"]).fails(1);
    assert!(failed.contains("exit code: 3"), "{failed}");
}

#[test]
fn annotations_on_manifests_and_indexes() {
    let world = World::with_base();
    let annotations = ["--annotation", "a=1", "--annotation", "manifest:b=2"];
    world.build(DOCKERFILE, &[&["-t", "t"], &annotations[..]].concat()).ok();
    assert_eq!(world.inspect("t")["Manifest"]["annotations"], serde_json::json!({"a": "1", "b": "2"}));
    world
        .build(
            "FROM scratch\nCOPY Dockerfile /\n",
            &[
                "-t",
                "m",
                "--platform",
                "linux/amd64,linux/arm64",
                "--annotation",
                "index,manifest:c=3",
                "--annotation",
                "index:d=4",
            ],
        )
        .ok();
    let index: Value = serde_json::from_str(&world.run(&["manifest", "inspect", "m"]).ok()).expect("JSON");
    assert_eq!(index["annotations"], serde_json::json!({"c": "3", "d": "4"}));
    let inspected: Value = serde_json::from_str(&world.run(&["inspect", "m"]).ok()).expect("JSON");
    let images = inspected.as_array().expect("a list");
    assert_eq!(images.len(), 2);
    for image in images {
        assert_eq!(image["Manifest"]["annotations"], serde_json::json!({"c": "3"}));
    }
}

#[test]
fn compression_is_chosen() {
    let world = World::with_base();
    for (kind, end) in [("gzip", "tar+gzip"), ("zstd", "tar+zstd"), ("uncompressed", ".tar")] {
        let dockerfile = format!("FROM base\nRUN echo {kind} > /k\n");
        world.build(&dockerfile, &["-t", kind, "-o", &format!("type=image,compression={kind}")]).ok();
        let layers = &world.inspect(kind)["Manifest"]["layers"];
        let last = layers.as_array().expect("a list").last().expect("a layer")["mediaType"].clone();
        assert!(last.as_str().expect("text").ends_with(end), "{last}");
        assert_eq!(world.sh(kind, "cat /k"), format!("{kind}\n"));
    }
}

#[test]
fn pushes_go_to_the_registry_of_the_name() {
    let world = World::with_base();
    let registry = Registry::start(&world);
    let (one, two) = (registry.image("team/app:1"), registry.image("team/app:2"));
    let pushed = world.build(DOCKERFILE, &["-t", &one, "-t", &two, "--push"]).ok();
    let digest = pushed.trim().rsplit(' ').next().expect("a digest").to_string();
    // buildx keeps no local image when it only pushes.
    let fresh = World::new();
    for name in [&one, &two, &format!("{}@{digest}", registry.image("team/app"))] {
        assert_eq!(fresh.run(&["pull", name]).ok().trim(), digest);
        assert_eq!(fresh.sh(name, "cat /out"), "out\n");
    }
    world.build(DOCKERFILE, &["--push"]).fails_with(&["--push needs a name"]);
    let output = format!("type=registry,name={}", registry.image("other:3"));
    world.build(DOCKERFILE, &["-o", &output]).ok();
    fresh.run(&["pull", &registry.image("other:3")]).ok();
}

#[test]
fn progress_as_json() {
    let world = World::with_base();
    world.file("Dockerfile", "FROM base\nRUN echo \"said\" >&2\n");
    let built = world.run(&["build", "--progress", "json", "context"]);
    let events: Vec<Value> = built
        .err
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let find =
        |event: &str| events.iter().find(|e| e["event"] == event).unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!((&find("output")["line"], &find("output")["stream"]), (&"said".into(), &"stderr".into()));
    assert!(find("done")["seconds"].is_number());
    built.ok();
}

#[test]
fn contexts_from_standard_input() {
    let world = World::with_base();
    let only = world.crossdock(&["build", "-t", "t", "-"]).input(b"FROM base\nRUN echo in > /in\n");
    only.ok();
    assert_eq!(world.sh("t", "cat /in"), "in\n");
    let copy = world.crossdock(&["build", "-"]).input(b"FROM base\nCOPY a /a\n");
    copy.fails_with(&["no build context"]);
    let tar = crossdock_testkit::LayerTar::new()
        .file("Dockerfile", "FROM base\nCOPY a /a\n")
        .file("other/Containerfile", "FROM base\nCOPY a /b\n")
        .file("a", "A")
        .finish();
    let mut gzip = Vec::new();
    flate2::read::GzEncoder::new(&tar[..], flate2::Compression::fast())
        .read_to_end(&mut gzip)
        .expect("in memory");
    for archive in [&tar, &gzip] {
        world.crossdock(&["build", "-t", "t", "-"]).input(archive).ok();
        assert_eq!(world.sh("t", "cat /a"), "A");
    }
    world.crossdock(&["build", "-t", "t", "-f", "other/Containerfile", "-"]).input(&tar).ok();
    assert_eq!(world.sh("t", "cat /b"), "A");
    world.file("x", "X");
    world.crossdock(&["build", "-t", "t", "-f", "-", "context"]).input(b"FROM base\nCOPY x /x\n").ok();
    assert_eq!(world.sh("t", "cat /x"), "X");
    world.crossdock(&["build", "-f", "-", "-"]).input(b"").fails_with(&["standard input"]);
}
