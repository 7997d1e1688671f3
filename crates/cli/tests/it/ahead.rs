//! Builds that push: large layers go ahead while the build runs.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossdock_registry::server::faults::Fault;
use rustix::process::Signal;

use crate::support::{FaultyRegistry, World, eventually};

/// A step that ends when the test has written its word into the context.
const WAITING: &str = "FROM base\nCOPY big /big\nRUN --mount=type=bind,target=/c while [ ! -s /c/word ]; do :; done; sh /c/word\n";

/// Noise, which no compression makes smaller.
fn large(world: &World) {
    let mut state = 1u64;
    let noise = (0..(6 << 20) / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    world.file("big", noise.collect::<Vec<u8>>()).file("word", "");
}

/// Bytes of the uploads under way to the repository `app`.
fn uploads(world: &World) -> Vec<u64> {
    let entries = fs::read_dir(world.path("registry/repositories/app/_uploads")).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).collect()
}

fn has_arrived(world: &World) -> bool {
    uploads(world).iter().any(|length| *length > 6 << 20)
}

/// What the repository `app` has.
fn names_in(world: &World, part: &str) -> usize {
    fs::read_dir(world.path("registry/repositories/app").join(part)).map_or(0, Iterator::count)
}

#[test]
fn a_layer_arrives_before_the_build_has_ended() {
    let world = World::with_base();
    large(&world);
    let registry = FaultyRegistry::start(&world, |_, _| None);
    let build = world.building(WAITING, &["-t", &registry.name, "--push"]).start();
    eventually("the layer", || has_arrived(&world));
    assert_eq!(names_in(&world, "_blobs/sha256"), 0, "nothing is published before the build has ended");
    world.file("word", "true");
    let built = build.finish();
    assert!(built.err.contains("pushed "), "{}", built.err);
    assert_eq!(built.err.matches("6.29MB in ").count(), 1, "its bytes count once: {}", built.err);
    built.ok();
    assert!(uploads(&world).is_empty());
    let other = World::new();
    other.run(&["pull", &registry.name]).ok();
    assert_eq!(other.validate(), 1);
}

#[test]
fn a_build_that_fails_or_is_cancelled_leaves_nothing() {
    for is_cancelled in [false, true] {
        let world = World::with_base();
        large(&world);
        let registry = FaultyRegistry::start(&world, |_, _| None);
        let build = world.building(WAITING, &["-t", &registry.name, "--push"]).start();
        eventually("the layer", || has_arrived(&world));
        match is_cancelled {
            false => drop(world.file("word", "exit 3")),
            true => build.signal(Signal::INT),
        }
        let built = build.finish();
        assert_ne!(built.code, Some(0), "{built:?}");
        assert!(uploads(&world).is_empty(), "{:?}: {built:?}", uploads(&world));
        for part in ["_blobs/sha256", "_manifests/sha256", "_tags"] {
            assert_eq!(names_in(&world, part), 0, "{part}");
        }
    }
}

#[test]
fn who_may_not_push_hears_it_before_the_build_has_ended() {
    let world = World::with_base();
    large(&world);
    let refuse = |_: &World| {
        FaultyRegistry::start(&world, |seen, _| {
            (seen.method == "POST").then(|| Fault::status(403, "not you"))
        })
    };
    let registry = refuse(&world);
    // It would wait for ever.
    let args = ["-t", &registry.name, "--push"];
    world.build(WAITING, &args).fails_with(&["access denied", "crossdock login"]);
}

/// A registry, and the number of PATCH requests that it got.
fn counting(world: &World) -> (FaultyRegistry, Arc<AtomicUsize>) {
    let patched = Arc::new(AtomicUsize::new(0));
    let count = patched.clone();
    let registry = FaultyRegistry::start(world, move |seen, _| {
        count.fetch_add(usize::from(seen.method == "PATCH"), Ordering::SeqCst);
        None
    });
    (registry, patched)
}

#[test]
fn platforms_and_names_share_an_upload() {
    let world = World::new();
    large(&world);
    let (registry, patched) = counting(&world);
    let second = registry.name.replace(":1", ":2");
    let args = ["--platform", "linux/amd64,linux/arm64", "-t", &registry.name, "-t", &second, "--push"];
    let dockerfile = "FROM scratch\nCOPY big /big\n";
    let built = world.building(dockerfile, &args).env("SOURCE_DATE_EPOCH", "1").run();
    assert_eq!(patched.load(Ordering::SeqCst), 1, "{built:?}");
    built.ok();
    assert_eq!(names_in(&world, "_blobs/sha256"), 3, "two configurations and a layer");
    // What another store builds anew is there.
    let other = World::new();
    large(&other);
    let again = other.building(dockerfile, &["-t", &registry.name, "--push"]);
    let again = again.env("SOURCE_DATE_EPOCH", "1").run();
    assert!(again.err.contains("already there"), "{again:?}");
    again.ok();
    assert!(uploads(&world).is_empty());
}

#[test]
fn layers_of_other_stages_and_known_ones_do_not_go_ahead() {
    let world = World::new();
    large(&world);
    let (registry, patched) = counting(&world);
    let stages = "FROM scratch AS other\nCOPY big /big\nFROM scratch\nCOPY --from=other /big /same\n";
    world.build(stages, &["-t", &registry.name, "--push"]).ok();
    assert_eq!(patched.load(Ordering::SeqCst), 1, "the layer of the image alone");
    world.build(stages, &["-t", &registry.name, "--push"]).ok();
    world.build(stages, &["-t", &registry.name, "--push", "--no-cache"]).ok();
    assert_eq!(patched.load(Ordering::SeqCst), 1, "its digest was known");
}
