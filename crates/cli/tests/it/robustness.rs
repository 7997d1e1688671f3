//! kill -9 at any moment, and many processes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_registry::server::faults::{Fault, Seen};

use crate::support::{Crossdock, FaultyRegistry, World, eventually};

/// Kills a command once the registry stalls a request that `which` picks; the same command must then succeed.
/// Returns the image's name.
fn kill_at(
    world: &World,
    which: fn(&Seen) -> bool,
    fault: Fault,
    before: impl FnOnce(&str),
    command: impl Fn(&str) -> Crossdock,
) -> String {
    let (armed, stalled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (arm, stall) = (armed.clone(), stalled.clone());
    let registry = FaultyRegistry::start(world, move |seen, _| {
        let spoil = arm.load(Ordering::SeqCst) && which(seen);
        stall.fetch_or(spoil, Ordering::SeqCst);
        spoil.then(|| fault.clone())
    });
    before(&registry.name);
    armed.store(true, Ordering::SeqCst);
    let running = command(&registry.name).start();
    eventually("the stall", || stalled.load(Ordering::SeqCst));
    running.kill();
    armed.store(false, Ordering::SeqCst);
    command(&registry.name).run().ok();
    registry.name.clone()
}

#[test]
fn a_killed_pull_is_continued() {
    let world = World::with_base();
    let fresh = World::new();
    let name = kill_at(
        &world,
        |seen| seen.method == "GET" && seen.path.contains("/blobs/"),
        Fault::StallResponse(500),
        |name| drop(world.run(&["push", "base", name]).ok()),
        |name| fresh.crossdock(&["pull", name]),
    );
    assert_eq!(fresh.validate(), 1);
    assert_eq!(fresh.sh(&name, "echo runs"), "runs\n");
    fresh.run(&["system", "df"]).ok();
}

#[test]
fn a_killed_push_is_continued() {
    let world = World::with_base();
    for which in [
        |seen: &Seen| {
            matches!(seen.method.as_str(), "PATCH" | "PUT") && seen.path.contains("/blobs/uploads/")
        },
        |seen: &Seen| seen.method == "PUT" && seen.path.contains("/manifests/"),
    ] {
        let fresh = World::new();
        let registry = World::new();
        let name = kill_at(
            &registry,
            which,
            Fault::Silence,
            |_| {},
            |name| world.crossdock(&["push", "base", name]),
        );
        // The registry process is gone, but everything it acknowledged is on disk.
        let again = crate::support::Registry::start(&registry);
        let name = name.replace(name.split('/').next().expect("a host"), &again.host);
        fresh.run(&["pull", &name]).ok();
        assert_eq!(fresh.validate(), 1);
    }
}

#[test]
fn a_killed_build_leaves_nothing_torn() {
    let world = World::with_base();
    world.file("d/a", vec![7; 300_000]);
    let dockerfile = "FROM base AS other\nRUN seq 100000 > /other\nFROM base\nCOPY d /d\nRUN seq 200000 > /one\nRUN seq 200000 > /two\n\
        COPY --from=other /other /\nRUN seq 9 > /three\n";
    for kill_after in ["#1 ", "#2 ", "#3 ", "#4 DONE", "#5 DONE", "#6 ", "#7 DONE", "#8 DONE"] {
        let mut running = world.building(dockerfile, &["-t", "t", "--no-cache"]).start();
        running.until_err(kill_after);
        running.kill();
        world.validate();
        world.run(&["system", "df"]).ok();
    }
    world.build(dockerfile, &["-t", "t"]).ok();
    assert_eq!(world.validate(), 2);
    assert_eq!(world.sh("t", "cat /one /two /three /other | wc -l"), "500009\n");
    world.run(&["system", "prune", "-af"]).ok();
    world.validate();
    assert_eq!(std::fs::read_dir(world.store().join("tmp")).expect("a directory").count(), 0);
    assert_eq!(world.sh("t", "cat /one /two /three /other | wc -l"), "500009\n");
}

#[test]
fn builds_runs_and_prunes_at_once() {
    let world = World::with_base();
    let dockerfile = "FROM base\nCOPY Dockerfile /d\nRUN seq 10000 > /one\nRUN seq 10000 > /two\nFROM base\nCOPY --from=0 /one /two /\n";
    world.building(dockerfile, &[]);
    std::thread::scope(|threads| {
        let builders: Vec<_> = (0..2)
            .map(|i| {
                let world = &world;
                threads.spawn(move || {
                    for round in 0..4 {
                        let tag = format!("t{i}");
                        let mut args = vec!["-t", &tag];
                        if round % 2 == 0 {
                            args.push("--no-cache");
                        }
                        world.build(dockerfile, &args).ok();
                        assert_eq!(world.sh(&tag, "cat /one /two | wc -l"), "20000\n");
                    }
                })
            })
            .collect();
        let world = &world;
        threads.spawn(move || {
            while builders.iter().any(|builder| !builder.is_finished()) {
                world.run(&["system", "prune", "-af"]).ok();
                world.run(&["system", "df"]).ok();
                world.run(&["images"]).ok();
            }
        });
    });
    assert_eq!(world.validate(), 3);
}

#[test]
fn equal_pulls_at_once() {
    let world = World::with_base();
    let registry = crate::support::Registry::start(&world);
    let name = registry.image("base:1");
    world.run(&["push", "base", &name]).ok();
    let fresh = World::new();
    let pulls: Vec<_> = (0..4).map(|_| fresh.crossdock(&["pull", &name]).start()).collect();
    pulls.into_iter().for_each(|pull| drop(pull.finish().ok()));
    assert_eq!(fresh.validate(), 1);
    assert_eq!(fresh.sh(&name, "echo runs"), "runs\n");
}

#[test]
fn corrupt_blobs_are_named() {
    let world = World::with_base();
    let layer = world.inspect("base")["Manifest"]["layers"][0]["digest"].as_str().expect("text").to_string();
    let path = world.store().join("blobs").join(layer.replace(':', "/"));
    let mut bytes = std::fs::read(&path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, bytes).expect("written");
    world.run(&["save", "-o", "archive", "base"]).fails_with(&[&layer]);
    assert!(!world.path("archive").exists());
    let error = world.run(&["run", "base", "true"]).fails(125);
    assert!(error.contains(&layer), "{error}");
    world.build("FROM base\nRUN true\n", &[]).fails_with(&[&layer, "Dockerfile:1"]);
}

/// As `crossdock completion bash | head -c 1`.
#[test]
fn a_closed_pipe_ends_commands_quietly() {
    let world = World::with_base();
    let commands: [&[&str]; 6] = [
        &["completion", "bash"],
        &["save", "base"],
        &["images", "--format", "json"],
        &["inspect", "base"],
        &["report", "--format", "json"],
        &["history", "base"],
    ];
    world.build("FROM base\nRUN true\n", &[]).ok();
    for args in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = world.crossdock(args).command;
        let ended =
            command.stdin(std::process::Stdio::null()).stdout(writer).output().expect("crossdock runs");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), said.as_str()), (Some(141), ""), "{args:?}");
    }
}
