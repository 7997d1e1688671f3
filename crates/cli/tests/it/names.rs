//! How images are named (names, digests, ids), and which platform is used if none is given.

use crossdock_testkit::foreign::{self, Cpu};
use serde_json::{Value, json};

use crate::support::{Registry, World};

/// Builds images for several platforms under one name; none of their commands is run.
fn build_for(world: &World, name: &str, platforms: &str) {
    world.file("f", name);
    world.build("FROM scratch\nCOPY f /\n", &["--platform", platforms, "-t", name]).ok();
}

#[test]
fn an_image_without_a_name_is_used_by_its_id() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN echo built > /f\nCMD [\"cat\", \"/f\"]\n";
    let id = world.building(dockerfile, &["-q", "--iidfile", "iid"]).run().ok().trim().to_string();
    assert_eq!(std::fs::read_to_string(world.path("iid")).expect("written"), id);
    let hex = id.strip_prefix("sha256:").expect("an id").to_string();
    let manifest = world.inspect(&id)["Descriptor"]["digest"].as_str().expect("a digest").to_string();
    // A collection keeps the image, and every command finds it by each of its ids.
    world.run(&["rmi", "-f", "nothing-of-that-name"]).ok();
    for name in [id.as_str(), &hex, &hex[..12], &hex[..5], &manifest, &manifest[..20]] {
        assert_eq!(world.run(&["run", "--rm", name]).ok(), "built\n", "{name}");
        assert_eq!(world.run(&["inspect", "-f", "{{.Id}}", name]).ok().trim(), id);
        assert!(world.run(&["history", name]).ok().contains("echo built"));
        assert!(world.run(&["file", "--image", name, "/f"]).ok().contains("data"));
        assert!(world.run(&["manifest", "inspect", name]).ok().contains(&id));
    }
    world.run(&["save", "-o", "archive", &hex[..12]]).ok();
    for name in [&id, &hex[..12]] {
        world.run(&["push", name]).fails_with(&["does not say where to", "REGISTRY/NAME:TAG"]);
    }
    let registry = Registry::start(&world);
    world.run(&["push", &hex[..12], &registry.image("by/id:1")]).ok();
    assert!(World::new().run(&["manifest", "inspect", &registry.image("by/id:1")]).ok().contains(&id));
    let listed = world.run(&["images"]).ok();
    assert!(listed.lines().any(|l| l.starts_with("<none>") && l.contains(&hex[..12])), "{listed}");
    let dangling = ["images", "--filter", "dangling=true", "-q"];
    assert_eq!(world.run(&dangling).ok().trim(), &hex[..12]);
    for from in [id.as_str(), &hex[..12], &manifest] {
        assert_eq!(
            world.build_and_sh(&format!("FROM {from}\nRUN cat /f > /g\n"), "cat /g"),
            "built\n",
            "{from}"
        );
        let from = format!("FROM base\nCOPY --from={from} /f /copied\n");
        assert_eq!(world.build_and_sh(&from, "cat /copied"), "built\n");
    }
    // A name makes it an ordinary image; without a name it goes when it is pruned.
    world.run(&["tag", &hex[..12], "named"]).ok();
    assert!(!world.run(&dangling).ok().contains(&hex[..12]));
    world.run(&["image", "prune", "-f"]).ok();
    assert_eq!(world.run(&dangling).ok(), "");
    assert_eq!(world.run(&["run", "named"]).ok(), "built\n");
    world.run(&["rmi", "named"]).ok();
    let gone = world.run(&["run", &id]).fails(125);
    assert!(gone.contains("no image sha256:") && !gone.contains("http"), "{gone}");
    let gone = world.build(&format!("FROM {id}\n"), &[]).fails(1);
    assert!(gone.contains("no image sha256:") && !gone.contains("http"), "{gone}");
    let id = world.building(dockerfile, &["-q"]).run().ok();
    assert!(world.run(&["image", "prune", "-f"]).ok().contains("deleted: sha256:"));
    world.run(&["run", id.trim()]).fails(125);
    let id = world.building(dockerfile, &["-q"]).run().ok();
    assert!(world.run(&["rmi", id.trim()]).ok().contains("Deleted: sha256:"));
    assert_eq!(world.run(&dangling).ok(), "");
}

/// As in docker and podman: a name that gets another meaning loses no image.
#[test]
fn an_image_whose_name_is_given_away_stays_without_one() {
    let world = World::with_base();
    let build = |what: &str| {
        let dockerfile = format!("FROM base\nRUN echo {what} > /x\n");
        world.build(&dockerfile, &["-q", "-t", "app"]).ok().trim().to_string()
    };
    let dangling = || {
        let args = ["images", "--filter", "dangling=true", "--no-trunc", "--format", "{{.ID}}"];
        let mut ids: Vec<String> = world.run(&args).ok().lines().map(str::to_string).collect();
        ids.sort();
        ids
    };
    let (one, two) = (build("1"), build("2"));
    assert_eq!(dangling(), [one.as_str()]);
    assert_eq!(world.run(&["run", "--rm", &one, "cat", "/x"]).ok(), "1\n");
    assert_eq!(world.sh("app", "cat /x"), "2\n");
    // The same again gives nothing away.
    assert_eq!(build("2"), two);
    assert_eq!(dangling(), [one.as_str()]);
    // What gets a name again is not without one; an image that has a second name loses nothing.
    world.run(&["tag", &one, "app"]).ok();
    assert_eq!(dangling(), [two.as_str()]);
    world.run(&["tag", "app", "second"]).ok();
    world.run(&["tag", &two, "app"]).ok();
    assert_eq!(dangling(), Vec::<String>::new());
    // load and pull, too.
    world.run(&["save", "-o", "archive", "app"]).ok();
    let three = build("3");
    world.run(&["load", "-i", "archive"]).ok();
    assert_eq!(dangling(), [three.as_str()]);
    let registry = Registry::start(&world);
    let remote = registry.image("app:1");
    world.run(&["push", "app", &remote]).ok();
    world.run(&["tag", &one, &remote]).ok();
    world.run(&["rmi", "second"]).ok();
    world.run(&["pull", &remote]).ok();
    let mut expected = vec![one.clone(), three.clone()];
    expected.sort();
    assert_eq!(dangling(), expected);
    // What is removed by its name is gone, and pruning removes the rest.
    world.run(&["rmi", "app", &remote]).ok();
    assert_eq!(dangling(), expected);
    world.run(&["image", "prune", "-f"]).ok();
    assert_eq!(dangling(), Vec::<String>::new());
    world.run(&["run", &one]).fails(125);
}

#[test]
fn indexes_whose_name_is_given_away_stay_whole() {
    let world = World::new();
    let build = |what: &str| {
        world.file("f", what);
        let platforms = ["--platform", "linux/amd64,linux/arm64", "-q", "-t", "app"];
        world.build("FROM scratch\nCOPY f /\n", &platforms).ok().trim().to_string()
    };
    let (one, _) = (build("1"), build("2"));
    let dangling = ["images", "--filter", "dangling=true", "--format", "{{.ID}} {{.Platform}}"];
    let listed = world.run(&dangling).ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert_eq!(world.run(&["manifest", "inspect", &one]).ok().matches("\"platform\"").count(), 2);
    // Another image of one platform takes only that platform's.
    world.file("f", "3");
    world.build("FROM scratch\nCOPY f /\n", &["--platform", "linux/arm64", "-q", "-t", "one"]).ok();
    world.run(&["manifest", "create", "list", "app"]).ok();
    world.run(&["manifest", "add", "list", "one"]).ok();
    let after = world.run(&dangling).ok();
    assert_eq!(listed, after, "lists that grow leave nothing behind");
}

/// A name means what was loaded, pulled or tagged last, and no image of an earlier meaning.
#[test]
fn a_name_means_what_it_was_given_last() {
    let world = World::new();
    let build = |platform: &str, what: &str, name: &str| {
        let dockerfile = format!("FROM scratch\nCOPY <<EOF /f\n{what}\nEOF\n");
        world.build(&dockerfile, &["--platform", platform, "-q", "-t", name]).ok().trim().to_string()
    };
    let platforms = |name: &str| {
        let listed = world.run(&["images", name, "--format", "{{.Platform}}"]).ok();
        listed.lines().map(str::to_string).collect::<Vec<_>>()
    };
    let arm = build("linux/arm64", "arm", "app");
    world.run(&["save", "-o", "archive", "app"]).ok();
    let registry = Registry::start(&world);
    let remote = registry.image("app:1");
    world.run(&["push", "app", &remote]).ok();
    for again in [&["load", "-i", "archive"][..], &["tag", &arm, "app"]] {
        build("linux/amd64", "amd", "app");
        assert_eq!(platforms("app"), ["linux/amd64"]);
        world.run(again).ok();
        assert_eq!(platforms("app"), ["linux/arm64"], "{again:?}");
    }
    build("linux/amd64", "amd", &remote);
    world.run(&["pull", "--platform", "linux/arm64", &remote]).ok();
    assert_eq!(platforms(&remote), ["linux/arm64"]);
}

/// What was pulled before does not decide which image of an index is taken.
#[test]
fn the_best_platform_of_an_index_is_taken_whatever_is_here() {
    let world = World::new();
    let registry = Registry::start(&world);
    let name = registry.image("variants:1");
    let platforms = "linux/arm/v5,linux/arm/v6,linux/arm/v7,linux/amd64,linux/amd64/v3";
    let dockerfile = "FROM scratch\nARG TARGETPLATFORM\nCOPY <<EOF /which\n$TARGETPLATFORM\nEOF\n";
    world.build(dockerfile, &["--platform", platforms, "-t", &name, "--push"]).ok();
    let fresh = World::new();
    let built_from = |platform: &str| {
        let dockerfile = format!("FROM {name}\nCOPY <<EOF /more\nEOF\n");
        fresh.build(&dockerfile, &["--platform", platform, "-t", "t"]).ok();
        let inspected = fresh.inspect("t");
        format!("{}/{}", inspected["Architecture"], inspected["Variant"]).replace('"', "")
    };
    let which = |platform: &str| {
        let dockerfile = format!("FROM scratch\nCOPY --from={name} /which /\n");
        fresh.build(&dockerfile, &["--platform", platform, "-o", "out"]).ok();
        std::fs::read_to_string(fresh.path("context/out/which"))
            .or_else(|_| std::fs::read_to_string(fresh.path("out/which")))
            .expect("there")
    };
    for (first, wanted, variant) in
        [("linux/arm/v5", "linux/arm/v7", "arm/v7"), ("linux/amd64", "linux/amd64/v3", "amd64/v3")]
    {
        fresh.run(&["pull", "--platform", first, &name]).ok();
        fresh.build(&format!("FROM {name}\n"), &["--platform", wanted, "--pull=never"]).fails(1);
        assert_eq!(which(wanted), format!("{wanted}\n"));
        assert_eq!(built_from(wanted), variant);
    }
    // What an index has nothing better for is served by the next best.
    assert_eq!(which("linux/amd64/v2"), "linux/amd64\n");
    assert_eq!(which("linux/arm/v6"), "linux/arm/v6\n");
}

#[test]
fn an_index_without_a_name_has_all_its_images() {
    let world = World::new();
    world.file("f", "x");
    let platforms = ["--platform", "linux/amd64,linux/arm64", "-q"];
    let id = world.building("FROM scratch\nCOPY f /\n", &platforms).run().ok().trim().to_string();
    let arch = |name: &str, platform: &str| {
        let args = ["inspect", "--platform", platform, "-f", "{{.Architecture}}", name];
        world.run(&args).ok().trim().to_string()
    };
    assert_eq!((arch(&id, "linux/arm64"), arch(&id, "linux/amd64")), ("arm64".into(), "amd64".into()));
    world.run(&["inspect", "--platform", "linux/arm/v7", &id]).fails_with(&["linux/amd64, linux/arm64"]);
    world.run(&["tag", &id, "two"]).ok();
    assert_eq!(world.inspect("two")["Index"]["digest"], id.as_str());
    assert_eq!(arch("two", "linux/arm64"), "arm64");
    // The index's digest also works after its name.
    assert_eq!(arch(&format!("two@{id}"), "linux/arm64"), "arm64");
    world.run(&["inspect", &format!("other@{id}")]).fails(1);
    world.run(&["rmi", &id[..20]]).ok();
    world.run(&["inspect", "two"]).fails(1);
}

#[test]
fn rmi_of_an_id_takes_no_more_than_that_image() {
    let world = World::new();
    build_for(&world, "app", "linux/amd64,linux/arm64");
    world.run(&["tag", "app", "other:1"]).ok();
    let id = |platform: &str| {
        let args = ["inspect", "--platform", platform, "-f", "{{.Id}}", "app"];
        world.run(&args).ok().trim().to_string()
    };
    let (amd, arm) = (id("linux/amd64"), id("linux/arm64"));
    world.run(&["rmi", &amd]).fails_with(&["2 names", "app:latest, other:1", "--force"]);
    world.run(&["rmi", "other:1"]).ok();
    assert_eq!(world.run(&["rmi", &amd]).ok(), "Untagged: app:latest for linux/amd64\n");
    assert_eq!(world.run(&["images", "-q", "--no-trunc"]).ok().trim(), arm);
    world.run(&["tag", "app", "other:1"]).ok();
    assert_eq!(world.run(&["rmi", "--force", &arm]).ok(), "Untagged: app:latest\nUntagged: other:1\n");
    assert_eq!(world.run(&["images", "-q"]).ok(), "");
}

#[test]
fn a_platform_is_what_was_asked_for() {
    let world = World::with_base();
    for platform in ["lniux/amd64", "linux/foo", "linux/arm32v7", "linux/amd64/v9"] {
        for command in [
            &["run", "--platform", platform, "docker.io/x", "true"][..],
            &["pull", "--platform", platform, "docker.io/x"],
        ] {
            let err = world.run(command).err;
            assert!(err.contains("unknown platform") && !err.contains("blocked"), "{err}");
        }
        let err = world.build("FROM docker.io/x\n", &["--platform", platform]).fails(1);
        assert!(err.contains("unknown platform"), "{err}");
        let err = world.build(&format!("FROM --platform={platform} docker.io/x\n"), &[]).fails(1);
        assert!(err.contains("unknown platform"), "{err}");
    }
    build_for(&world, "arm", "linux/arm/v7");
    build_for(&world, "i386", "linux/386");
    for (name, platform) in [("arm", "linux/arm64"), ("i386", "linux/amd64")] {
        let err = world.run(&["run", "--platform", platform, "--pull", "never", name, "/f"]).fails(125);
        assert!(err.contains(&format!("not in the store for {platform}")), "{err}");
        world.build(&format!("FROM {name}\n"), &["--platform", platform]).fails(1);
    }
    // Of several images the one that the machine runs is taken, and the one for the level of its CPU.
    build_for(&world, "several", "linux/386,linux/arm64");
    assert_eq!(world.run(&["inspect", "-f", "{{.Architecture}}", "several"]).ok(), "386\n");
    build_for(&world, "levels", "linux/amd64,linux/amd64/v2,linux/arm64");
    let chosen = world.run(&["inspect", "-f", "{{.Platform}}", "levels"]).ok();
    let is_v2 = std::is_x86_feature_detected!("sse4.2") && std::is_x86_feature_detected!("popcnt");
    assert_eq!(chosen.trim(), if is_v2 { "linux/amd64/v2" } else { "linux/amd64" });
    assert_eq!(world.run(&["inspect", "-a", "-f", "{{.Platform}}", "levels"]).ok().lines().count(), 3);
    let all: Value = serde_json::from_str(&world.run(&["inspect", "levels"]).ok()).expect("JSON");
    assert_eq!((all.as_array().expect("a list").len(), &all[0]["Platform"]), (3, &json!(chosen.trim())));
}

#[test]
fn a_single_image_for_another_cpu_runs_with_a_warning() {
    let world = World::new();
    world.file_mode("hello", foreign::hello(Cpu::Arm64), 0o755);
    world
        .build(
            "FROM scratch\nCOPY hello /\nCMD [\"/hello\"]\n",
            &["--platform", "linux/arm64", "-t", "hello"],
        )
        .ok();
    let registry = Registry::start(&world);
    let name = registry.image("arm64v8/hello:1");
    world.run(&["push", "hello", &name]).ok();
    // The same image as the only one of an index.
    let index = registry.image("hello/index:1");
    world.run(&["manifest", "create", &index, "hello"]).ok();
    world.run(&["manifest", "push", &index]).ok();
    for (number, name) in [name, index].iter().enumerate() {
        let store = world.path(&format!("store{number}"));
        for _ in ["from the registry", "from the store"] {
            let ran = world.crossdock_at(&store, &["run", "--rm", name]).run();
            assert_eq!(ran.code, Some(42), "{}", ran.err);
            assert!(ran.err.contains(&format!("warning: {name} is for linux/arm64")), "{}", ran.err);
        }
        let asked = world.crossdock_at(&store, &["run", "--platform", "linux/arm64", name]).run();
        assert_eq!((asked.code, asked.err.contains("warning")), (Some(42), false), "{}", asked.err);
        let refused =
            world.crossdock_at(&world.path("other"), &["pull", "--platform", "linux/amd64", name]).run();
        assert!(refused.fails(1).contains("linux/arm64"));
        let pulled = world.crossdock_at(&world.path("other"), &["pull", name]).run();
        assert!(pulled.err.contains("is for linux/arm64"), "{}", pulled.err);
        pulled.ok();
    }
}

#[test]
fn lists_are_filtered_and_shown_as_asked() {
    let world = World::with_base();
    world.build("FROM base\nLABEL kind=tool\nRUN true\n", &["-t", "team/app:1", "-t", "app:2"]).ok();
    let names = |filters: &[&str]| {
        let args = filters.iter().flat_map(|f| ["--filter", f]);
        let args: Vec<&str> =
            ["images", "--format", "{{.Repository}}:{{.Tag}}"].into_iter().chain(args).collect();
        world.run(&args).ok().lines().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&["reference=app"]), ["app:2"]);
    assert_eq!(names(&["reference=*/app"]), ["team/app:1"]);
    assert_eq!(names(&["reference=*/app", "reference=base"]), ["base:latest", "team/app:1"]);
    assert_eq!(world.run(&["images", "--format", "{{.Tag}}", "a*"]).ok(), "2\n");
    assert_eq!(names(&["reference=*:latest"]), ["base:latest"]);
    assert_eq!(names(&["label=kind"]), ["app:2", "team/app:1"]);
    assert_eq!(names(&["label=kind=tool", "reference=a*"]), ["app:2"]);
    assert_eq!(names(&["label!=kind"]), ["base:latest"]);
    assert_eq!(names(&["dangling=false"]).len(), 3);
    assert_eq!(names(&["since=base"]), ["app:2", "team/app:1"]);
    assert_eq!(names(&["before=app:2"]), ["base:latest"]);
    assert!(names(&["until=24h"]).is_empty());
    for wrong in ["kind", "nosuch=1", "dangling=perhaps", "until=soon", "before=absent"] {
        world.run(&["images", "--filter", wrong]).fails_with(&["--filter"]);
    }
    let table = world.run(&["images", "app", "--format", "table {{.Repository}}\\t{{.ID}}"]).ok();
    let (head, row) = table.trim_end().split_once('\n').expect("two lines");
    assert_eq!(head, "REPOSITORY   IMAGE ID");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((cells[0], cells[1].len()), ("app", 12), "{row}");
    let history = world.run(&["history", "--format", "table {{.CreatedBy}}\t{{.Size}}", "app:2"]).ok();
    assert!(history.starts_with("CREATED BY"), "{history}");
}

#[test]
fn pruning_images_leaves_the_cache() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN --mount=type=cache,target=/c echo x > /c/x\n";
    world.build(dockerfile, &["-t", "app"]).ok();
    world.building("FROM base\nRUN echo other\n", &["-q"]).run().ok();
    let df = || {
        let table = world.run(&["system", "df"]).ok();
        let count = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name)).expect("a line");
            line[name.len()..].split_whitespace().next().expect("a number").parse::<u32>().expect("a number")
        };
        (count("Images"), count("Build cache"), count("Cache mounts"))
    };
    let before = df();
    assert_eq!((before.0, before.2), (3, 1));
    world.run(&["image", "prune"]).fails_with(&["without a name", "--force"]);
    world.run(&["image", "prune", "-f", "--filter", "until=24h"]).ok();
    assert_eq!(df(), before);
    world.run(&["image", "prune", "-f"]).ok();
    assert_eq!(df(), (2, before.1, 1));
    world.run(&["image", "prune", "-a", "-f"]).ok();
    assert_eq!(df(), (0, before.1, 1));
    let world = world.load_base();
    assert!(world.build(dockerfile, &["-t", "app"]).err.contains("CACHED"));
    let df = world.run(&["system", "df"]).ok();
    world.run(&["builder", "prune", "-f"]).ok();
    let after = world.run(&["system", "df"]).ok();
    assert_ne!(df, after);
    assert!(after.lines().any(|line| line.starts_with("Images              2")), "{after}");
    assert!(after.lines().any(|line| line.starts_with("Cache mounts        0")), "{after}");
}
