//! What the prune commands remove, and what they keep; and the space that df shows.

use crate::support::World;

#[test]
fn filters_of_system_prune() {
    let world = World::with_base();
    let untagged = |label: &str| {
        world.file("f", label);
        let dockerfile = format!("FROM base\nCOPY f /\nLABEL keep={label}\n");
        world.build(&dockerfile, &["-q"]).ok().trim().to_string()
    };
    let (yes, no) = (untagged("yes"), untagged("no"));
    let there = |id: &str| world.run(&["inspect", id]).code == Some(0);
    let prune = |args: &[&str]| world.run(&[&["system", "prune", "--force"], args].concat());
    prune(&["--filter", "until=1h"]).ok();
    assert!(there(&yes) && there(&no));
    prune(&["--filter", "label=keep=no"]).ok();
    assert!(there(&yes) && !there(&no));
    prune(&["--filter=label!=keep=yes", "--volumes"]).ok();
    assert!(there(&yes));
    // A label alone says nothing about the cache.
    assert!(world.build("FROM base\nRUN echo x > /x\n", &["-t", "t"]).err.contains("DONE"));
    prune(&["--all", "--filter", "label=none"]).ok();
    assert!(world.build("FROM base\nRUN echo x > /x\n", &["-t", "t"]).err.contains("CACHED"));
    prune(&["--all"]).ok();
    assert!(!there(&yes));
    assert!(!world.build("FROM base\nRUN echo x > /x\n", &["-t", "t"]).err.contains("CACHED"));
    for filter in ["until=soon", "dangling=true", "nonsense"] {
        prune(&["--filter", filter]).fails_with(&[filter]);
    }
    world.run(&["system", "prune"]).fails_with(&["--force"]);
}

#[test]
fn sizes_of_the_cache_to_keep() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN head -c 300000 /dev/urandom > /r\n";
    let is_cached = || world.build(dockerfile, &["-t", "t"]).err.contains("CACHED");
    assert!(!is_cached());
    world.run(&["rmi", "t"]).ok();
    for keep in [
        &["builder", "prune", "-f", "--keep-storage", "100m"][..],
        &["buildx", "prune", "-f", "--reserved-space=100m", "--max-used-space=1k"],
        &["buildx", "prune", "--force", "--max-used-space", "100m", "--verbose"],
        &["builder", "prune", "-f", "--filter", "until=24h"],
        &["system", "prune", "-f", "--older-than", "24h"],
    ] {
        world.run(keep).ok();
        assert!(is_cached(), "{keep:?}");
        world.run(&["rmi", "t"]).ok();
    }
    world.run(&["buildx", "prune", "-f", "--max-used-space", "1k"]).ok();
    assert!(!is_cached());
    world.run(&["builder", "prune", "-f", "--keep-storage", "much"]).fails_with(&["--reserved-space much"]);
    world.run(&["builder", "prune", "-f", "--filter", "label=a"]).fails_with(&["label=a", "until=AGE"]);
    // There is room for a byte, and none for an exabyte.
    world.run(&["rmi", "t"]).ok();
    world.run(&["buildx", "prune", "-f", "--min-free-space", "1"]).ok();
    assert!(is_cached());
    world.run(&["rmi", "t"]).ok();
    let reserved = ["buildx", "prune", "-f", "--min-free-space", "1000000t", "--reserved-space", "100m"];
    world.run(&reserved).ok();
    assert!(is_cached());
    world.run(&["rmi", "t"]).ok();
    world.run(&reserved[..5]).ok();
    assert!(!is_cached());
    world.run(&["buildx", "prune", "-f", "--min-free-space", "much"]).fails_with(&["--min-free-space much"]);
}

#[test]
fn df_shows_each_image_and_record() {
    let world = World::with_base();
    world.build("FROM base\nRUN echo x > /x\n", &["-t", "app:1"]).ok();
    let brief = world.run(&["system", "df"]).ok();
    assert!(brief.starts_with("TYPE") && !brief.contains("REPOSITORY"), "{brief}");
    for words in [&["system", "df", "-v"][..], &["buildx", "du", "--verbose"]] {
        let whole = world.run(words).ok();
        assert!(whole.starts_with(&brief), "{whole}");
        let row = whole.lines().find(|line| line.starts_with("app ")).unwrap_or_else(|| panic!("{whole}"));
        assert!(row.contains("linux/amd64") && row.contains("second"), "{row}");
        let records = whole.split("Build cache:\n").nth(1).expect("the cache");
        assert!(records.starts_with("CACHE ID") && records.lines().count() > 1, "{whole}");
    }
}

#[test]
fn an_age_does_not_reach_images_that_came_of_late() {
    let world = World::with_base();
    let old = ["--source-date-epoch", "0"];
    world.build("FROM base\nRUN echo 1 > /x\n", &[&old[..], &["-t", "old:1"]].concat()).ok();
    world.build("FROM base\nRUN echo 2 > /x\n", &old).ok();
    let listed = |what: &str| world.run(&["images", "-q", "--filter", what]).ok().lines().count();
    let (named, unnamed) = (listed("dangling=false"), listed("dangling=true"));
    assert_eq!((named, unnamed), (2, 1));
    world.run(&["image", "prune", "-af", "--filter", "until=24h"]).ok();
    world.run(&["system", "prune", "-f", "--filter", "until=24h"]).ok();
    assert_eq!((listed("dangling=false"), listed("dangling=true")), (named, unnamed));
    // By what stands in it, it is old.
    assert!(listed("until=24h") >= 1);
    world.run(&["image", "prune", "-af", "--filter", "until=2999-01-01T00:00:00Z"]).ok();
    assert_eq!((listed("dangling=false"), listed("dangling=true")), (0, 0));
}
