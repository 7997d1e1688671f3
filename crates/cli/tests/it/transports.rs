//! copy, load, save and push between registries, layouts, archives, directories, docker and podman.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::interop::Peers;
use crate::support::{Registry, Who, World};

const TWO: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];
const DOCKERFILE: &str = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n";

/// A registry with an index of two platforms; returns its name.
fn pushed(world: &World, registry: &Registry) -> String {
    let name = registry.image("team/app:1");
    world.build(DOCKERFILE, &[&TWO[..], &["-t", &name, "--push"]].concat()).ok();
    world.run(&["rmi", &name]).ok();
    name
}

/// The bytes that a registry has under a name.
fn raw(world: &World, name: &str) -> String {
    world.run(&["inspect", "--raw", &format!("docker://{name}")]).ok()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON")
}

#[test]
fn an_index_goes_from_place_to_place_and_stays_the_same() {
    let world = World::new();
    let registry = Registry::start(&world);
    let name = pushed(&world, &registry);
    let before = raw(&world, &name);
    let mut from = format!("docker://{name}");
    for to in ["oci:layout:v1.2", "oci-archive:a.tar:other", "dir:files", "oci:layout:second", "oci:bare"] {
        let copied = world.run(&["copy", &from, to]);
        assert!(copied.err.contains(&format!("to {to}")), "{}", copied.err);
        assert!(copied.ok().starts_with("sha256:"));
        from = to.to_string();
    }
    let back = registry.image("back:1");
    world.run(&["copy", &from, &back]).ok();
    assert_eq!(raw(&world, &back), before);
    world.run(&["pull", "--all-platforms", &back]).ok();
    world.validate();
    // Nothing of it is in the store but what was pulled.
    assert_eq!(world.run(&["images", "-q"]).ok().lines().count(), 2);

    // Names in a layout are any text; a layout with several needs one.
    let layout = json_of(&world.path("layout/index.json"));
    let names: Vec<&str> = layout["manifests"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|m| m["annotations"]["org.opencontainers.image.ref.name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["v1.2", "second"]);
    // Two names of one image are no question.
    world.run(&["copy", "oci:layout", "dir:same"]).ok();
    world.build("FROM scratch\nCOPY Dockerfile /third\n", &["-o", "type=oci,tar=false,dest=layout"]).ok();
    world.run(&["copy", "oci:layout", "dir:x"]).fails_with(&["layout has 2 images", "oci:layout:NAME"]);
    world.run(&["copy", "oci:layout:third", "dir:x"]).fails_with(&["no image third"]);
    world.run(&["copy", "dir:layout", "dir:x"]).fails_with(&["layout/manifest.json"]);
    // A directory of something else is not overwritten.
    world.run(&["copy", "oci:bare", "dir:layout"]).fails_with(&["layout is not empty"]);
    world.run(&["copy", "--all", "oci:bare", "dir:files"]).ok();
}

#[test]
fn one_platform_of_an_index() {
    let world = World::new();
    let registry = Registry::start(&world);
    let name = pushed(&world, &registry);
    let source = format!("docker://{name}");
    let platform = |args: &[&str], from: &str| {
        let _ = std::fs::remove_file(world.path("one.tar"));
        let copy = || world.run(&[args, &["copy"], &[from, "docker-archive:one.tar:a:1"]].concat());
        copy().ok();
        copy().fails_with(&["one.tar is there already"]);
        world.run(&["rmi", "--force", "a:1"]).ok();
        world.run(&["load", "-i", "one.tar"]).ok();
        world.inspect("a:1")["Platform"].as_str().expect("text").to_string()
    };
    assert_eq!(platform(&[], &source), "linux/amd64");
    assert_eq!(platform(&["--override-arch", "arm64"], &source), "linux/arm64");
    for option in [&["--arch", "arm64"][..], &["--platform", "linux/arm64"]] {
        world.run(&[&["copy"], option, &[&source, "oci:one"]].concat()).ok();
        let entry = json_of(&world.path("one/index.json"))["manifests"][0].clone();
        assert_eq!(entry["platform"]["architecture"], "arm64");
        assert_eq!(entry["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        fs::remove_dir_all(world.path("one")).expect("removed");
    }
    world.run(&["copy", "--multi-arch", "system", &source, "dir:one"]).ok();
    assert!(json_of(&world.path("one/manifest.json"))["layers"].is_array());
    world.run(&["copy", "--platform", "linux/s390x", &source, "dir:x"]).fails_with(&["linux/s390x"]);
    // Of a layout, as of a registry.
    world.run(&["copy", &source, "oci:both"]).ok();
    assert_eq!(platform(&["--override-arch", "arm64"], "oci:both"), "linux/arm64");
    world.run(&["copy", "--platform", "linux/s390x", "oci:both", "dir:x"]).fails_with(&["linux/s390x"]);
    // The index alone, where its images are already.
    let copy = registry.image("team/app:index");
    world.run(&["copy", "--multi-arch=index-only", &source, &copy]).ok();
    assert_eq!(raw(&world, &copy), raw(&world, &name));
    world.run(&["copy", "--multi-arch=index-only", "oci:both", &copy]).fails_with(&["not in a registry"]);
}

#[test]
fn types_and_compression_change() {
    let world = World::with_base();
    let registry = Registry::start(&world);
    let name = registry.image("b:1");
    world.run(&["push", "base", &name]).ok();
    let manifest = |args: &[&str]| -> Value {
        let to = registry.image("c:1");
        world.run(&[&["copy", "--digestfile", "digest"], args, &[&name, &to]].concat()).ok();
        let text = raw(&world, &to);
        let digest = fs::read_to_string(world.path("digest")).expect("there");
        assert_eq!(digest, crossdock_oci::Digest::of(text.as_bytes()).as_str());
        // What was written can be read and run.
        world.run(&["pull", &to]).ok();
        assert_eq!(world.sh(&to, "echo runs"), "runs\n");
        serde_json::from_str(&text).expect("JSON")
    };
    let docker = manifest(&["--format", "v2s2"]);
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(docker["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(docker["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let zstd = manifest(&["--dest-compress-format", "zstd", "--dest-compress-level", "3"]);
    assert_eq!(zstd["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    assert_eq!(zstd["config"]["digest"], docker["config"]["digest"]);
    let plain = manifest(&["--dest-decompress"]);
    assert_eq!(plain["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    // Asking for what there is changes nothing.
    let same = manifest(&["--format", "oci", "--dest-compress-format", "gzip", "--preserve-digests"]);
    assert_eq!(same["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let to = registry.image("d:1");
    let fails = |args: &[&str], code: i32| world.run(&[&["copy"], args, &[&name, &to]].concat()).fails(code);
    assert!(fails(&["--format", "v2s2", "--preserve-digests"], 1).contains("--preserve-digests"));
    assert!(fails(&["--format", "v2s2", "--dest-compress-format", "zstd"], 1).contains("zstd"));
    assert!(fails(&["--format", "v2s1"], 2).contains("v2s2"));
    // push has the same.
    world
        .run(&["push", "-f", "v2s2", "--compression-format=gzip", "--digestfile", "digest", "base", &to])
        .ok();
    assert!(raw(&world, &to).contains("vnd.docker.distribution.manifest.v2+json"));
    world.run(&["push", "base", "oci:pushed:1"]).ok();
    assert!(world.path("pushed/index.json").exists());
}

#[test]
fn an_index_is_converted_with_its_images() {
    let world = World::new();
    let registry = Registry::start(&world);
    let name = pushed(&world, &registry);
    let to = registry.image("docker:1");
    world.run(&["copy", "--format", "v2s2", &name, &to]).ok();
    let list: Value = serde_json::from_str(&raw(&world, &to)).expect("JSON");
    assert_eq!(list["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    for entry in list["manifests"].as_array().expect("entries") {
        assert_eq!(entry["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
        assert_eq!(entry["platform"]["os"], "linux");
    }
    world.run(&["pull", "--all-platforms", &to]).ok();
    // A layout has the OCI's types again, and the same images as at first.
    world.run(&["copy", &to, "oci:layout"]).ok();
    let back = registry.image("back:1");
    world.run(&["copy", "oci:layout", &back]).ok();
    let ids = |name: &str| {
        let place = format!("docker://{name}");
        ["linux/amd64", "linux/arm64"]
            .map(|platform| world.run(&["inspect", "--config", "--raw", "--platform", platform, &place]).ok())
    };
    assert_eq!(ids(&back), ids(&name));
    assert!(raw(&world, &back).contains("application/vnd.oci.image.index.v1+json"));
    // With the digests preserved it stays Docker's.
    world.run(&["copy", "--preserve-digests", &to, "oci:kept"]).ok();
    assert!(world.run(&["inspect", "--raw", "oci:kept"]).ok().contains("manifest.list.v2"));
    let several = ["copy", "--format", "v2s2", "-t", &to, &name, &back];
    world.run(&several).fails_with(&["several sources", "make it first"]);
}

/// An ordinary user, with and without ranges of ids.
#[test]
fn users_copy_too() {
    for who in [Who::User, Who::SingleId] {
        let world = World::of(who).load_base();
        let registry = Registry::start(&world);
        let name = registry.image("a:1");
        world.run(&["push", "base", &name]).ok();
        for (from, to) in [
            (name.as_str(), "oci:layout:1"),
            ("oci:layout:1", "dir:files"),
            ("dir:files", "docker-archive:a.tar:b:1"),
            ("docker-archive:a.tar", "oci-archive:b.tar"),
            ("oci-archive:b.tar", &registry.image("b:1")),
        ] {
            world.run(&["copy", from, to]).ok();
        }
        world.run(&["pull", &registry.image("b:1")]).ok();
        assert_eq!(world.sh(&registry.image("b:1"), "echo runs"), "runs\n");
    }
}

#[test]
fn directories_are_saved_and_loaded() {
    let world = World::with_base();
    world.build(DOCKERFILE, &[&TWO[..], &["-t", "two"]].concat()).ok();
    for (format, image) in [("oci-layout", "two"), ("oci-dir", "base"), ("docker-dir", "base")] {
        world.run(&["save", "--format", format, "-q", "-o", format, image]).ok();
        let fresh = World::new();
        let loaded = fresh.run(&["load", "-i", &world.text(format), "-t", "x"]).ok();
        assert!(loaded.contains("Loaded image: "), "{format}: {loaded}");
        assert_eq!(fresh.validate(), 1, "{format}");
    }
    let types = json_of(&world.path("docker-dir/manifest.json"))["mediaType"].clone();
    assert_eq!(types, "application/vnd.docker.distribution.manifest.v2+json");
    // One platform of what is in a file.
    let fresh = World::new();
    let layout = world.text("oci-layout");
    fresh.run(&["load", "-i", &layout, "--platform", "linux/arm64"]).ok();
    assert_eq!(fresh.inspect("two")["Platform"], "linux/arm64");
    fresh
        .run(&["load", "-i", &layout, "--platform", "linux/s390x"])
        .fails_with(&["linux/s390x", "linux/amd64"]);
    fresh.run(&["load", "-i", &world.text("context")]).fails_with(&["index.json"]);
    world.run(&["save", "--format", "oci-layout", "base"]).fails_with(&["--output DIR"]);
    world.run(&["save", "--format", "docker-dir", "-o", "x", "base", "two"]).fails_with(&["one image"]);
}

#[test]
fn damage_is_noticed() {
    let world = World::with_base();
    world.run(&["save", "--format", "docker-dir", "-o", "d", "base"]).ok();
    let layer =
        json_of(&world.path("d/manifest.json"))["layers"][0]["digest"].as_str().expect("text").to_string();
    let path = world.path("d").join(layer.trim_start_matches("sha256:"));
    let mut bytes = fs::read(&path).expect("readable");
    bytes[100] ^= 1;
    fs::write(&path, &bytes).expect("damaged");
    let err = world.run(&["copy", "dir:d", "oci:o"]).fails(1);
    assert!(err.contains(&layer), "{err}");
    assert!(!world.path("o").exists());
    fs::remove_file(&path).expect("removed");
    world.run(&["copy", "dir:d", "oci:o"]).fails_with(&[layer.trim_start_matches("sha256:")]);
    // A pipe in its place stops nothing.
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    );
    made.expect("made");
    world.run(&["copy", "dir:d", "oci:o"]).fails_with(&["not a regular file"]);
    for name in ["oci:", "sif:x", "ftp://x/y", "docker-archive:absent.tar", "dir:absent"] {
        world.run(&["copy", name, "dir:x"]).fails(1);
    }
}

/// Debian's skopeo reads what we write, and we read what it writes.
#[test]
fn skopeo_takes_and_gives() {
    let world = World::with_base();
    let peers = Peers::new();
    let registry = Registry::start(&world);
    let name = registry.image("b:1");
    world.run(&["push", "base", &name]).ok();
    let skopeo = |from: &str, to: &str| {
        peers.run("skopeo", &["copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to]);
    };
    let at = |transport: &str, path: &str, rest: &str| format!("{transport}:{}{rest}", world.text(path));
    for (transport, rest) in
        [("oci", ":tag"), ("oci-archive", ":tag"), ("dir", ""), ("docker-archive", ":h/a:1")]
    {
        let (ours, theirs) = (
            at(transport, &format!("ours-{transport}"), rest),
            at(transport, &format!("theirs-{transport}"), rest),
        );
        world.run(&["copy", &name, &ours]).ok();
        let to = registry.image(&format!("from-ours-{transport}:1"));
        skopeo(&ours, &format!("docker://{to}"));
        skopeo(&format!("docker://{name}"), &theirs);
        let back = registry.image(&format!("from-theirs-{transport}:1"));
        world.run(&["copy", &theirs, &back]).ok();
        for image in [&to, &back] {
            world.run(&["pull", image]).ok();
            assert_eq!(world.sh(image, "echo runs"), "runs\n", "{image}");
        }
    }
}

/// Images of podman, whose store only podman reads and writes.
#[test]
fn podman_takes_and_gives() {
    let world = World::with_base();
    let peers = Peers::new();
    let with_peers = |args: &[&str]| {
        let mut crossdock = world.crossdock(args);
        for (name, value) in peers.command("podman", &[]).get_envs() {
            if let Some(value) = value.filter(|_| name != "HOME") {
                crossdock.command.env(name, value);
            }
        }
        crossdock.run()
    };
    world.run(&["save", "--format", "oci", "-o", "b.tar", "base"]).ok();
    with_peers(&["copy", "oci-archive:b.tar", "containers-storage:localhost/given:1"]).ok();
    assert_eq!(peers.podman_run("localhost/given:1", "echo runs"), "runs\n");
    with_peers(&["copy", "containers-storage:localhost/given:1", "docker-archive:back.tar:back:1"]).ok();
    world.run(&["load", "-i", "back.tar"]).ok();
    assert_eq!(world.sh("back:1", "echo runs"), "runs\n");
    let err = with_peers(&["copy", "containers-storage:localhost/absent:1", "dir:x"]).fails(1);
    assert!(err.contains("podman says"), "{err}");
    // Without the program the error names it.
    let without = world.crossdock(&["copy", "containers-storage:a", "dir:x"]).env("PATH", "/nowhere").run();
    without.fails_with(&["containers-storage:a", "podman", "install it"]);
}

/// The requests that a docker on the other side of a socket sees.
#[test]
fn the_daemons_api_is_spoken_and_its_errors_are_told() {
    let world = World::with_base();
    world.run(&["save", "-o", "b.tar", "base"]).ok();
    let archive = fs::read(world.path("b.tar")).expect("there");
    let socket = world.path("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let server = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let answers = [
            [b"HTTP/1.0 200 OK\r\nContent-Type: application/x-tar\r\n\r\n", &archive[..]].concat(),
            b"HTTP/1.0 200 OK\r\n\r\n{\"stream\":\"Loaded\"}\n".to_vec(),
            b"HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"reference does not exist\"}".to_vec(),
            b"HTTP/1.0 200 OK\r\n\r\n{\"errorDetail\":{},\"error\":\"no space\"}\n".to_vec(),
            b"nonsense\r\n".to_vec(),
        ];
        for answer in answers {
            let (stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream);
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).expect("a request");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a head");
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = text.trim().parse().expect("a number");
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            seen.push((first.trim().to_string(), body.len()));
            // The client may be gone already.
            let _ = reader.into_inner().write_all(&answer);
        }
        seen
    });
    let host = format!("unix://{}", socket.display());
    let copy = |from: &str, to: &str| {
        world.run(&["copy", "--src-daemon-host", &host, "--dest-daemon-host", &host, from, to])
    };
    copy("docker-daemon:base:latest", "docker-archive:out.tar:b:2").ok();
    world.run(&["load", "-i", "out.tar"]).ok();
    assert_eq!(world.sh("b:2", "echo runs"), "runs\n");
    copy("docker-archive:out.tar", "docker-daemon:h/x:1").ok();
    copy("docker-daemon:gone", "dir:x").fails_with(&["docker-daemon:gone", "reference does not exist"]);
    copy("docker-archive:out.tar", "docker-daemon:h/x:1").fails_with(&["no space"]);
    copy("docker-daemon:odd", "dir:x").fails_with(&["not HTTP"]);
    let seen = server.join().expect("it ends");
    assert_eq!(seen[0], ("GET /images/base:latest/get HTTP/1.0".to_string(), 0));
    assert!(seen[1].0.starts_with("POST /images/load?quiet=1 ") && seen[1].1 > 100_000, "{seen:?}");
    drop(fs::remove_file(&socket));
    copy("docker-daemon:a", "dir:x").fails_with(&["no docker answers", "--src-daemon-host"]);
    copy("docker-daemon:a b", "dir:x").fails_with(&["not the name"]);
    let tcp = world.crossdock(&["copy", "docker-daemon:a", "dir:x"]).env("DOCKER_HOST", "tcp://h:1").run();
    tcp.fails_with(&["tcp://h:1", "docker save"]);
}

#[test]
fn inspect_reads_every_place() {
    let world = World::with_base();
    world.run(&["save", "--format", "oci", "-o", "b.tar", "base"]).ok();
    world.run(&["copy", "oci-archive:b.tar", "oci:layout:x"]).ok();
    world.run(&["copy", "oci-archive:b.tar", "dir:files"]).ok();
    world.run(&["copy", "oci-archive:b.tar", "docker-archive:d.tar:a:1"]).ok();
    let id = world.inspect("base")["Id"].clone();
    for place in ["oci-archive:b.tar", "oci:layout:x", "oci:layout", "dir:files", "docker-archive:d.tar"] {
        let shown: Value = serde_json::from_str(&world.run(&["inspect", place]).ok()).expect("JSON");
        assert_eq!((&shown["Os"], &shown["Architecture"]), (&json!("linux"), &json!("amd64")), "{place}");
        assert_eq!(shown["Env"], json!(["PATH=/bin"]), "{place}");
        let config = world.run(&["inspect", "--config", "--raw", place]).ok();
        assert_eq!(id, crossdock_oci::Digest::of(config.as_bytes()).as_str(), "{place}");
    }
    // The names of the store come first where there is no such path.
    world.run(&["tag", "base", "dir:1"]).ok();
    assert!(world.run(&["inspect", "dir:1"]).ok().contains("RepoTags"));
    world.run(&["inspect", "--raw", "base"]).fails_with(&["--raw", "docker://"]);
}

#[test]
fn images_of_archives_have_numbers_and_indexes_go_to_directories_alone() {
    let world = World::with_base();
    world.build("FROM base\nRUN echo 2 > /x\n", &["-t", "second:1"]).ok();
    let archive = world.text("two.tar");
    world.run(&["save", "-o", &archive, "base", "second:1"]).ok();
    let id = |name: &str| world.inspect(name)["Id"].as_str().expect("an id").to_string();
    for (number, name) in [(0, "base"), (1, "second:1")] {
        let to = format!("dir{number}");
        world.run(&["copy", &format!("docker-archive:{archive}:@{number}"), &format!("dir:{to}")]).ok();
        let manifest = json_of(&world.path(&to).join("manifest.json"));
        assert_eq!(manifest["config"]["digest"], id(name));
    }
    let from = format!("docker-archive:{archive}:@2");
    world.run(&["copy", &from, "dir:x"]).fails_with(&["has 2 images", "none is @2"]);
    world.run(&["copy", "dir:dir0", "docker-archive:new.tar:@0"]).fails_with(&["leave out @0"]);
    world.run(&["list-tags", "oci:dir0"]).fails_with(&["only registries have tags"]);
    world.run(&["list-tags", &format!("docker-archive:{archive}")]).ok();

    let registry = Registry::start(&world);
    let name = pushed(&world, &registry);
    world.run(&["copy", "--multi-arch", "index-only", &name, "dir:index"]).ok();
    assert_eq!(
        fs::read_to_string(world.path("index/manifest.json")).expect("there"),
        raw(&world, &name).trim_end()
    );
    assert_eq!(fs::read_dir(world.path("index")).expect("there").count(), 2, "the index and the version");
    world
        .run(&["copy", "--multi-arch", "index-only", &name, "oci:l"])
        .fails_with(&["a registry or dir: can"]);
}
