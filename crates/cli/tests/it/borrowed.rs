//! Results that only go elsewhere: the files of their last step are archived from where they lie.

use std::fs::{self, File};
use std::process::Command;

use crate::support::{Ran, Registry, World};

/// A context with large and small files.
fn fill(world: &World) {
    let large = |seed: usize| (0..2_000_000).map(|n| ((n * seed) % 251) as u8).collect::<Vec<u8>>();
    world.file("a/x", large(3)).file_mode("a/deep/y", large(5), 0o755).file("a/small", "small");
    world.file("b/x", large(7)).file("b/later", "later");
    fs::hard_link(world.path("context/a/deep/y"), world.path("context/a/again")).expect("linked");
}

const DOCKERFILE: &str = "FROM base AS made\n\
    RUN mkdir -p /real /opt && ln -s ../real /opt/via && head -c 1500000 /dev/zero > /zeros && chmod 4755 /zeros\n\
    FROM base\n\
    RUN mkdir -p /real && ln -s real /via\n\
    COPY --chown=7:8 a b /via/\n\
    USER 7\n\
    CMD [\"sh\"]\n";

fn digest(world: &World, ran: Ran) -> String {
    ran.ok();
    let metadata = fs::read_to_string(world.path("metadata")).expect("written");
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
    metadata["containerimage.digest"].as_str().expect("a digest").to_string()
}

fn build(world: &World, dockerfile: &str, output: &[&str]) -> String {
    let metadata = world.path("metadata").display().to_string();
    let args = [output, &["--metadata-file", &metadata]].concat();
    digest(world, world.building(dockerfile, &args).env("SOURCE_DATE_EPOCH", "1").run())
}

fn snapshots(world: &World) -> usize {
    fs::read_dir(world.store().join("snapshots")).expect("readable").count()
}

#[test]
fn the_image_is_the_same_as_with_all_its_files() {
    let last_of_other = DOCKERFILE.replace("USER 7", "COPY --from=made /zeros /opt/via/ /\nUSER 7");
    let parents = DOCKERFILE.replace("--chown=7:8 a b /via/", "--parents a/./deep/y b/x a/small /via/sub/");
    let over = DOCKERFILE
        .replace("RUN mkdir -p /real", "RUN mkdir -p /real/deep && echo old > /real/x && touch /real/deep/y");
    let scratch = "FROM scratch\nCOPY --chmod=600 a/x a/small /\nLABEL a=b\n".to_string();
    for dockerfile in [DOCKERFILE, &last_of_other, &parents, &over, &scratch] {
        let (here, there) = (World::with_base(), World::with_base());
        fill(&here);
        fill(&there);
        let kept = build(&here, dockerfile, &["-t", "app"]);
        let archive = format!("type=oci,dest={}", there.path("image.tar").display());
        let before = snapshots(&there);
        let sent = build(&there, dockerfile, &["-o", &archive]);
        assert_eq!(sent, kept);
        let (made_here, made_there) = (snapshots(&here) - before, snapshots(&there) - before);
        assert_eq!(made_there, made_here - 1, "the last layer has no tree");
        // Known steps need none either.
        assert_eq!(build(&there, dockerfile, &["-o", &archive]), sent);
        assert_eq!(snapshots(&there) - before, made_there);
        there.run(&["load", "-i", &there.path("image.tar").display().to_string()]).ok();
    }
}

#[test]
fn who_reads_the_files_later_finds_them() {
    let world = World::with_base();
    fill(&world);
    let archive = format!("type=oci,dest={}", world.path("image.tar").display());
    build(&world, DOCKERFILE, &["-o", &archive]);
    // A further step is built on the known layer, which is unpacked for it.
    let more = format!("{DOCKERFILE}USER 0\nRUN cat /real/x /via/deep/y /via/again | md5sum > /sum\n");
    let sum = world.build_and_sh(&more, "cat /sum; stat -c '%u %g %a %h' /via/x /via/deep/y");
    let read = |path: &str| fs::read(world.path("context").join(path)).expect("there");
    fs::write(world.path("all"), [read("b/x"), read("a/deep/y"), read("a/deep/y")].concat())
        .expect("written");
    let mut md5sum = Command::new("md5sum");
    let expected = md5sum.stdin(File::open(world.path("all")).expect("there")).output().expect("md5sum runs");
    let expected = String::from_utf8(expected.stdout).expect("text");
    assert_eq!(sum, format!("{expected}7 8 644 1\n7 8 755 2\n"));
    // So does whoever runs an image that was built to be pushed.
    let registry = Registry::start(&world);
    let name = registry.image("app:1");
    let newer = DOCKERFILE.replace("--chown=7:8", "--chown=8:9");
    build(&world, &newer, &["-t", &name, "--push"]);
    let sum = world.sh(&name, "cat /via/x /via/deep/y /via/again | md5sum; stat -c '%u %g %a %h' /via/x");
    assert_eq!(sum, format!("{expected}8 9 644 1\n"));
    // Outputs of files unpack the layer, too.
    let out = format!("type=local,dest={}", world.path("out").display());
    build(&world, DOCKERFILE, &["-o", &out]);
    assert!(
        fs::read(world.path("out/real/x")).expect("there")
            == fs::read(world.path("context/b/x")).expect("there")
    );
}
