//! Layers that nobody needs as archives, or at all: they are packed or made when somebody does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::World;

const DOCKERFILE: &str = "FROM base AS tool\nRUN seq 50000 > /tool && ln -s tool /link\nRUN seq 9 > /nine\n\
    FROM base\nRUN mkdir -p /d && seq 30000 > /d/made && rm -r /etc/hostname || true\n\
    COPY --from=tool /tool /usr/\nCOPY --chown=7:8 d /d/\n";

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("readable");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

fn blobs(world: &World) -> BTreeSet<String> {
    names(&world.store().join("blobs/sha256"))
}

fn world() -> World {
    let world = World::with_base();
    world.file("d/a", "A").file("d/b", vec![7; 100_000]);
    world
}

/// Builds, and returns the steps that were executed.
#[track_caller]
fn executed(world: &World, dockerfile: &str, args: &[&str]) -> Vec<String> {
    let built = world.building(dockerfile, args).env("SOURCE_DATE_EPOCH", "1").run();
    let mut executed = built.executed();
    built.ok();
    executed.sort();
    executed
}

fn digest(world: &World, image: &str) -> String {
    world.inspect(image)["Descriptor"]["digest"].as_str().expect("a digest").to_string()
}

const NO_OUTPUT: [&str; 2] = ["-o", "type=cacheonly"];

#[test]
fn a_build_without_output_packs_nothing_and_later_images_are_the_same() {
    let (world, other) = (world(), world());
    executed(&other, DOCKERFILE, &["-t", "app"]);
    executed(&other, DOCKERFILE, &["-t", "tool", "--target", "tool"]);
    let before = blobs(&world);
    assert_eq!(executed(&world, DOCKERFILE, &NO_OUTPUT).len(), 5);
    assert_eq!(blobs(&world), before);
    assert_eq!(executed(&world, DOCKERFILE, &NO_OUTPUT), [""; 0], "all steps are known");
    assert_eq!(blobs(&world), before);
    // Only the last COPY was put off: all others have their files already.
    assert_eq!(executed(&world, DOCKERFILE, &["-t", "app"]), ["[stage-1 4/4] COPY --chown=7:8 d /d/"]);
    assert_eq!(digest(&world, "app"), digest(&other, "app"));
    assert_eq!(executed(&world, DOCKERFILE, &["-t", "tool", "--target", "tool"]), [""; 0]);
    assert_eq!(digest(&world, "tool"), digest(&other, "tool"));
    assert_eq!(world.validate(), 3);
    assert_eq!(executed(&world, DOCKERFILE, &NO_OUTPUT), [""; 0]);
    // A step on top of one that was put off makes it.
    let third = format!("{DOCKERFILE}RUN cat /d/a /d/b | wc -c > /size\n");
    world.file("d/a", "other");
    executed(&world, DOCKERFILE, &NO_OUTPUT);
    assert_eq!(executed(&world, &third, &["-t", "third"]).len(), 2);
    assert_eq!(world.sh("third", "cat /size; stat -c '%u %g' /d/a"), "100005\n7 8\n");
    // Options that tell of the image need it, also without an output.
    world.file("d/a", "another");
    let id = world.build(DOCKERFILE, &["-q", "-o", "type=cacheonly"]).ok();
    assert!(id.starts_with("sha256:"), "{id}");
}

#[test]
fn a_stage_that_is_only_copied_from_is_not_packed() {
    let world = world();
    let before = blobs(&world);
    executed(&world, DOCKERFILE, &["-t", "app"]);
    // Three layers, the configuration and the manifest.
    assert_eq!(blobs(&world).difference(&before).count(), 5);
    // Its steps are known all the same.
    let changed = DOCKERFILE.replace("seq 9", "seq 10");
    assert_eq!(executed(&world, &changed, &["-t", "app"]), ["[tool 3/3] RUN seq 10 > /nine"]);
    // A cache for other machines has them if that is asked for.
    let cache = |mode: &str| format!("type=local,dest={},mode={mode}", world.path(mode).display());
    let (min, max) = (cache("min"), cache("max"));
    executed(&world, DOCKERFILE, &["-t", "app", "--cache-to", &min, "--cache-to", &max]);
    let layers = |mode: &str| names(&world.path(mode).join("blobs/sha256")).len();
    assert_eq!((layers("min"), layers("max")), (3 + 2, 5 + 2));
    let other = self::world();
    let from = format!("type=local,src={}", world.path("max").display());
    assert_eq!(executed(&other, DOCKERFILE, &["-t", "app", "--cache-from", &from]), [""; 0]);
    assert_eq!(digest(&world, "app"), digest(&other, "app"));
}

#[test]
fn collections_keep_trees_without_archives_as_long_as_their_records() {
    let world = world();
    executed(&world, DOCKERFILE, &NO_OUTPUT);
    let before = names(&world.store().join("trees"));
    world.run(&["system", "prune", "-f"]).ok();
    assert_eq!(names(&world.store().join("trees")), before);
    assert_eq!(executed(&world, DOCKERFILE, &NO_OUTPUT), [""; 0]);
    let used = |world: &World| {
        let store = crossdock_oci::Store::open(&world.store()).expect("a store");
        store.disk_usage().expect("readable").build_cache.bytes
    };
    let kept = used(&world);
    // The files of four steps: seq 50000 twice, seq 30000.
    assert!((740_000..1_000_000).contains(&kept), "{kept}");
    let store = crossdock_oci::Store::open(&world.store()).expect("a store");
    let sizes = store.disk_usage().expect("readable").records;
    assert_eq!(sizes.iter().filter(|record| record.bytes > 288_000).count(), 2, "{sizes:?}");
    drop(store);
    // Packed layers count once, although their trees have two names.
    executed(&world, DOCKERFILE, &["-t", "tool", "--target", "tool"]);
    assert!(used(&world) <= kept, "{} {kept}", used(&world));
    world.run(&["rmi", "tool"]).ok();
    world.run(&["system", "prune", "-f"]).ok();
    assert!((kept..kept + 400_000).contains(&used(&world)), "{} {kept}", used(&world));
    world.run(&["system", "prune", "-af"]).ok();
    assert_eq!(used(&world), 0);
    assert_eq!(executed(&world, DOCKERFILE, &NO_OUTPUT).len(), 5);
}

#[test]
fn a_tree_that_is_lost_is_made_again() {
    let world = world();
    let before = names(&world.store().join("trees"));
    executed(&world, DOCKERFILE, &NO_OUTPUT);
    // As after a power loss: trees of an earlier boot that were not synced do not count.
    for tree in names(&world.store().join("trees")).difference(&before) {
        let (boot, rest) = tree.split_once('-').expect("a boot id");
        let earlier = format!("{}-{rest}", boot.replace(|_| true, "0"));
        let trees = world.store().join("trees");
        fs::rename(trees.join(tree), trees.join(&earlier)).expect("renamed");
        for link in names(&world.store().join("snapshots")) {
            let link = world.store().join("snapshots").join(link);
            if fs::read_link(&link).is_ok_and(|to| to.ends_with(tree)) {
                fs::remove_file(&link).expect("removed");
                std::os::unix::fs::symlink(format!("../trees/{earlier}"), &link).expect("linked");
            }
        }
    }
    assert_eq!(executed(&world, DOCKERFILE, &["-t", "app"]).len(), 5);
    let other = self::world();
    executed(&other, DOCKERFILE, &["-t", "app"]);
    assert_eq!(digest(&world, "app"), digest(&other, "app"));
}

#[test]
fn killed_builds_and_several_that_pack_the_same_layers() {
    let world = world();
    for kill_after in ["#1 ", "#2 ", "#3 ", "#4 DONE", "#5 ", "#6 DONE"] {
        let mut running = world.building(DOCKERFILE, &["--no-cache", "-o", "type=cacheonly"]).start();
        running.until_err(kill_after);
        running.kill();
        world.run(&["system", "df"]).ok();
    }
    executed(&world, DOCKERFILE, &NO_OUTPUT);
    std::thread::scope(|threads| {
        for name in ["one", "two", "three"] {
            let world = &world;
            threads.spawn(move || executed(world, DOCKERFILE, &["-t", name]));
        }
    });
    assert_eq!(world.validate(), 4);
    assert_eq!(digest(&world, "one"), digest(&world, "two"));
    assert_eq!(digest(&world, "one"), digest(&world, "three"));
    // One killed while it packs leaves nothing half done.
    for _ in 0..3 {
        executed(&world, DOCKERFILE, &["--no-cache", "-o", "type=cacheonly"]);
        let mut running = world.building(DOCKERFILE, &["-t", "four"]).start();
        running.until_err("#3");
        running.kill();
    }
    executed(&world, DOCKERFILE, &["-t", "four"]);
    world.validate();
    assert_eq!(world.sh("four", "cat /usr/tool /d/made | wc -l"), "80000\n");
    world.run(&["system", "prune", "-af"]).ok();
    assert_eq!(world.sh("four", "cat /usr/tool /d/made | wc -l"), "80000\n");
}
