//! Which steps are executed again and which come from the cache.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::time::UNIX_EPOCH;

use crate::support::World;

const DOCKERFILE: &str = "FROM base\nCOPY d /d\nRUN ls /d > /list\n";

fn world() -> World {
    let world = World::with_base();
    world.file("d/a", "A").file("d/b", "B");
    world.build(DOCKERFILE, &["-t", "t"]).ok();
    world
}

#[test]
fn times_do_not_count_but_content_mode_and_names_do() {
    let world = world();
    let executed = |what: &str| {
        let built = world.build(DOCKERFILE, &["-t", "t"]);
        let executed = built.executed().len();
        assert_eq!(built.code, Some(0), "{what}: {}", built.err);
        executed
    };
    let a = world.path("context/d/a");
    assert_eq!(executed("nothing"), 0);
    let times = std::fs::FileTimes::new().set_modified(UNIX_EPOCH);
    File::options().write(true).open(&a).expect("a file").set_times(times).expect("own file");
    assert_eq!(executed("touch"), 0);
    world.file("outside", "not copied");
    assert_eq!(executed("another file of the context"), 0);
    world.file("d/a", "Z");
    assert_eq!(executed("content of the same size"), 2);
    std::fs::set_permissions(&a, PermissionsExt::from_mode(0o600)).expect("own file");
    assert_eq!(executed("mode"), 2);
    std::fs::rename(world.path("context/d/b"), world.path("context/d/c")).expect("renamed");
    assert_eq!(executed("name"), 2);
    world.file("d/a", "A").file("d/b", "B");
    std::fs::remove_file(world.path("context/d/c")).expect("removed");
    assert_eq!(executed("as in the beginning"), 0);
}

#[test]
fn a_rebuild_is_the_same_image() {
    let world = world();
    let digest = |image: &str| world.inspect(image)["Descriptor"]["digest"].clone();
    let before = digest("t");
    let again = world.build(DOCKERFILE, &["-t", "again"]);
    assert_eq!(again.executed(), [""; 0]);
    assert_eq!(digest("again"), before);
    world.build(DOCKERFILE, &["-t", "again", "--no-cache"]).ok();
    assert_ne!(digest("again"), before);
}

#[test]
fn no_cache_for_all_or_for_some_stages() {
    let world = World::with_base();
    let dockerfile = "FROM base AS one\nRUN echo 1 > /1\nFROM base AS two\nRUN echo 2 > /2\nFROM base\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n";
    world.build(dockerfile, &[]).ok();
    let executed = |args: &[&str]| {
        let mut executed = world.build(dockerfile, args).executed();
        executed.retain(|step| step.contains("RUN"));
        executed.sort();
        executed
    };
    assert_eq!(executed(&[]), [""; 0]);
    assert_eq!(executed(&["--no-cache-filter", "two"]), ["[two 2/2] RUN echo 2 > /2"]);
    assert_eq!(executed(&["--no-cache"]), ["[one 2/2] RUN echo 1 > /1", "[two 2/2] RUN echo 2 > /2"]);
    // The results of these executions are in the cache from then on.
    assert_eq!(executed(&[]), [""; 0]);
}

#[test]
fn arguments_that_a_step_can_see_count() {
    let world = World::with_base();
    let dockerfile =
        "FROM base\nRUN echo before > /1\nARG A\nRUN echo $A > /2\nENV A=fixed\nRUN echo after $A > /3\n";
    world.build(dockerfile, &["-t", "t", "--build-arg", "A=1"]).ok();
    let again = world.build(dockerfile, &["-t", "t", "--build-arg", "A=2"]);
    assert_eq!(again.executed().len(), 2, "{}", again.err);
    assert_eq!(world.sh("t", "cat /1 /2 /3"), "before\n2\nafter fixed\n");
}

#[test]
fn a_stage_that_changed_but_made_the_same_files_is_copied_from_the_cache() {
    let world = World::with_base();
    let dockerfile = |n: u32| {
        format!(
            "FROM base AS make\nRUN echo {n} > /dev/null; echo same > /out; touch -d @1 /out\nFROM base\nCOPY --from=make /out /out\nRUN cat /out > /end\n"
        )
    };
    world.build(&dockerfile(1), &["-t", "t"]).ok();
    let again = world.build(&dockerfile(2), &["-t", "t"]);
    let executed = again.executed();
    assert_eq!(executed.len(), 1, "{executed:?}");
    assert!(executed[0].contains("echo 2"), "{executed:?}");
}

#[test]
fn another_base_is_another_build() {
    let world = world();
    world.build("FROM base\nRUN echo new > /new\n", &["-t", "base2"]).ok();
    world.run(&["tag", "base2", "base"]).ok();
    let again = world.build(DOCKERFILE, &["-t", "t"]);
    assert_eq!(again.executed().len(), 2, "{}", again.err);
    assert_eq!(world.sh("t", "cat /new /list"), "new\na\nb\n");
}

const EPOCH: &str = "1000000000";

#[test]
fn builds_with_an_epoch_are_reproducible_between_stores() {
    let mut digests = Vec::new();
    for round in 0..3 {
        let world = World::with_base();
        world.file("d/a", "A");
        let dockerfile = "FROM base AS make\nRUN echo made > /made\nFROM base\nCOPY d /d\nCOPY --from=make /made /\nRUN mkdir /r && echo x > /r/x\nWORKDIR /w\nCOPY <<h /h\nt\nh\n";
        if round == 2 {
            // The results that an ordinary build left in the cache have other times.
            world.build(dockerfile, &[]).ok();
        }
        world.building(dockerfile, &["-t", "t"]).env("SOURCE_DATE_EPOCH", EPOCH).run().ok();
        let image = world.inspect("t");
        assert_eq!(image["Created"], "2001-09-09T01:46:40.000000000Z");
        // The times are the same in this store, which executed the steps, and after the layers are unpacked
        // again.
        let times = "stat -c %Y /d/a /made /r /r/x /w | sort -u";
        assert_eq!(world.sh("t", times), format!("{EPOCH}\n"));
        let archive = world.text("archive");
        world.run(&["save", "-o", &archive, "t"]).ok();
        world.run(&["rmi", "t"]).ok();
        world.run(&["system", "prune", "-af"]).ok();
        world.run(&["load", "-i", &archive]).ok();
        assert_eq!(world.sh("t", times), format!("{EPOCH}\n"));
        digests.push(image["Descriptor"]["digest"].clone());
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn processes_share_the_cache() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN sleep 0.2; echo x > /x\nRUN --mount=type=cache,target=/c,sharing=locked echo y > /y\n";
    let builds: Vec<_> =
        (0..3).map(|i| world.building(dockerfile, &["-t", &format!("t{i}")]).start()).collect();
    for build in builds {
        build.finish().ok();
    }
    assert_eq!(world.build(dockerfile, &[]).executed(), [""; 0]);
    for i in 0..3 {
        assert_eq!(world.sh(&format!("t{i}"), "cat /x /y"), "x\ny\n");
    }
}

#[test]
fn a_damaged_cache_is_made_again() {
    let world = world();
    let image = world.inspect("t");
    let layers = image["RootFS"]["Layers"].as_array().expect("a list");
    let last =
        layers.last().expect("a layer").as_str().expect("text").trim_start_matches("sha256:").to_string();
    let mut snapshots = std::fs::read_dir(world.store().join("snapshots")).expect("a directory");
    let snapshot =
        snapshots.find_map(|e| Some(e.ok()?.path()).filter(|p| p.to_string_lossy().contains(&last)));
    std::fs::remove_dir_all(snapshot.expect("a snapshot")).expect("removed");
    world.build(DOCKERFILE, &["-t", "t"]).ok();
    assert_eq!(world.sh("t", "cat /list"), "a\nb\n");
    // A damaged record is a miss, not a failure.
    let mut open = vec![world.store().join("cache")];
    let mut spoiled = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_dir() {
                open.push(entry.path());
            } else if entry.metadata().expect("metadata").len() > 0 {
                std::fs::write(entry.path(), b"{ not a record").expect("written");
                spoiled += 1;
            }
        }
    }
    assert!(spoiled > 0, "no cache records found");
    world.build(DOCKERFILE, &["-t", "t"]).ok();
    assert_eq!(world.sh("t", "cat /list"), "a\nb\n");
}
