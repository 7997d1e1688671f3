//! A disk that fills up during a command: the message says so, nothing half done stays, and with more room
//! the command works.

use std::process::{Command, Stdio};

use crate::support::{Ran, Registry, World, is_root, require};

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A world whose image `big` has 8 MB in one layer.
fn world() -> World {
    let world = World::with_base();
    world.file("noise", noise(8_000_000));
    world.build("FROM base\nCOPY noise /\n", &["-t", "big"]).ok();
    world
}

/// Runs a script in a mount namespace in which `$D` is a disk of `megabytes`. In the script, `crossdock` uses
/// the store of the world, `small` uses one on that disk, and `more` makes the disk large.
fn script(world: &World, megabytes: usize, script: &str) -> Ran {
    std::fs::create_dir_all(world.path("disk")).expect("a directory");
    let prelude = format!(
        "set -u; mount -t tmpfs -o size={megabytes}m tmpfs \"$D\"\n\
        crossdock() {{ \"$EXE\" --root \"$STORE\" \"$@\"; }}\n\
        small() {{ \"$EXE\" --root \"$D/store\" \"$@\"; }}\n\
        more() {{ mount -o remount,size=100m tmpfs \"$D\"; }}\n"
    );
    let mut command = Command::new(require("unshare", "util-linux"));
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", &(prelude + script)]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", world.path("home"));
    command
        .env("D", world.path("disk"))
        .env("STORE", world.store())
        .env("EXE", env!("CARGO_BIN_EXE_crossdock"));
    Ran::from(command.stdin(Stdio::null()).output().expect("unshare runs"))
}

#[test]
fn save_leaves_no_half_archive() {
    let world = world();
    for format in ["oci", "docker"] {
        let ran = script(
            &world,
            4,
            &format!(
                "crossdock save --format {format} -o $D/archive big; echo $?; ls -A $D; more; crossdock save --format {format} -o $D/archive big; ls $D"
            ),
        );
        assert_eq!(ran.out, "1\narchive\n", "{ran:?}");
        assert!(ran.err.contains("disk/archive") && ran.err.contains("o space left"), "{ran:?}");
    }
    let ran = script(&world, 4, "crossdock save big > $D/archive; echo $?");
    assert_eq!(ran.out, "1\n", "{ran:?}");
    assert!(ran.err.contains("standard output") && ran.err.contains("o space left"), "{ran:?}");
}

#[test]
fn load_names_nothing_that_is_not_whole() {
    let world = world();
    world.run(&["save", "-o", &world.text("archive"), "big"]).ok();
    let ran = script(
        &world,
        4,
        "small load -i $D/../archive; echo $?; small images -q | wc -l; small system prune -f >/dev/null; \
         more; small load -q -i $D/../archive; small run --rm big ls /noise",
    );
    assert_eq!(ran.out, "1\n0\nbig:latest\n/noise\n", "{ran:?}");
    assert!(ran.err.contains("disk/store") && ran.err.contains("o space left"), "{ran:?}");
}

#[test]
fn room_can_be_made_where_there_is_none() {
    let world = world();
    world.run(&["save", "-o", &world.text("archive"), "big"]).ok();
    let ran = script(
        &world,
        40,
        "small load -q -i $D/../archive; small tag big other; cat /dev/zero > $D/rest 2>/dev/null; \
         small images -q | wc -l; small inspect --format '{{.Architecture}}' big; small rmi other >/dev/null; echo $?; \
         small rmi big >/dev/null; echo $?; small system prune -f >/dev/null; echo $?; \
         rm $D/rest; ls $D/store/blobs/sha256 $D/store/trees | grep -c '[0-9a-f]\\{10\\}$'",
    );
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(ran.out, format!("big:latest\n1\n{architecture}\n0\n0\n0\n0\n"), "{ran:?}");
}

#[test]
fn a_copy_without_room_names_the_store() {
    let world = world();
    world.file("other/noise", noise(8_000_000));
    world.file("other/Dockerfile", "FROM scratch\nCOPY noise /\n");
    let build = "small build -q -t copied $D/../context/other";
    let ran = script(&world, 4, &format!("{build}; echo $?; more; {build} >/dev/null; echo $?"));
    assert_eq!(ran.out, "1\n0\n", "{ran:?}");
    assert!(ran.err.contains("disk/store") && ran.err.contains("/noise (0B free"), "{ran:?}");
}

#[test]
fn a_pull_goes_on_when_there_is_room() {
    let world = world();
    let registry = Registry::start(&world);
    let name = registry.image("big:1");
    world.run(&["push", "big", &name]).ok();
    // In the first round the layer itself does not fit, in the second its files do not.
    for megabytes in [4, 12] {
        let ran = script(
            &world,
            megabytes,
            &format!(
                "small pull {name}; echo $?; small images -q | wc -l; more; small pull -q {name} >/dev/null; \
                 small run --rm {name} ls /noise"
            ),
        );
        let [code, images, rest] = ran.out.splitn(3, '\n').collect::<Vec<_>>()[..] else { panic!("{ran:?}") };
        assert_eq!((code, rest), ("1", "/noise\n"), "{megabytes} MB: {ran:?}");
        // If all blobs fit, the image is listed, although its files do not fit.
        assert_eq!(images, if megabytes == 4 { "0" } else { "1" }, "{ran:?}");
        assert!(ran.err.contains("disk/store") && ran.err.contains("o space left"), "{ran:?}");
    }
}

#[test]
fn an_upload_that_does_not_fit_leaves_room_for_others() {
    let world = world();
    world.file("raw", noise(8_000_000));
    // With and without a length announced, the upload fills the disk; afterwards there is room again.
    for encoding in ["content-length: 8000000", "transfer-encoding: chunked"] {
        let ran = script(
            &world,
            4,
            &format!(
                "rm -f $D/../address; \"$EXE\" registry serve --addr 127.0.0.1:0 --addr-file $D/../address --dir $D/registry >/dev/null 2>&1 &\n\
                 until A=$(cat $D/../address 2>/dev/null) && test -n \"$A\"; do sleep 0.05; done\n\
                 L=$(curl -si -X POST $A/v2/a/blobs/uploads/ | tr -d '\\r' | sed -n 's/^location: //p')\n\
                 curl -s -H expect: -H '{encoding}' -X PATCH --data-binary @$D/../context/raw $A$L; echo\n\
                 curl -s -o /dev/null -w '%{{http_code}}\\n' $A$L\n\
                 S=$(printf hello | sha256sum | cut -d' ' -f1)\n\
                 curl -s -o /dev/null -w '%{{http_code}}\\n' --data-binary hello \"$A/v2/a/blobs/uploads/?digest=sha256:$S\"; kill $!"
            ),
        );
        let [message, upload, small] = ran.out.lines().collect::<Vec<_>>()[..] else { panic!("{ran:?}") };
        assert!(message.contains("disk is full (") && message.contains("bytes free)"), "{message}");
        assert_eq!((upload, small), ("404", "201"), "{encoding}: {ran:?}");
    }
}

#[test]
fn pushes_from_and_to_a_full_disk() {
    let world = world();
    world.run(&["save", "-o", &world.text("archive"), "big"]).ok();
    let ran = script(
        &world,
        4,
        "\"$EXE\" registry serve --addr 127.0.0.1:0 --addr-file $D/../address --dir $D/registry >/dev/null 2>&1 &\n\
         until A=$(cat $D/../address 2>/dev/null) && test -n \"$A\"; do sleep 0.05; done\n\
         crossdock push big $A/big:1; echo $?; more; crossdock push -q big $A/big:1 >/dev/null; echo $?; kill $!",
    );
    assert_eq!(ran.out, "1\n0\n", "{ran:?}");
    assert!(ran.err.contains("127.0.0.1") && ran.err.contains("big"), "{ran:?}");
    assert!(ran.err.contains("507") && ran.err.contains("disk is full ("), "{ran:?}");
    assert!(ran.err.contains("no space left in the registry; make room"), "{ran:?}");
    let registry = Registry::start(&world);
    let name = registry.image("from:1");
    let ran = script(
        &world,
        100,
        &format!(
            "small load -q -i $D/../archive; cat /dev/zero > $D/rest 2>/dev/null; small push big {name}; echo $?; rm $D/rest; small push -q big {name} >/dev/null; echo $?"
        ),
    );
    // A push needs some bytes for the lease that keeps a prune from taking the blobs.
    assert_eq!(ran.out, "big:latest\n1\n0\n", "{ran:?}");
    assert!(ran.err.contains("o space left") && ran.err.contains("disk/store"), "{ran:?}");
}
