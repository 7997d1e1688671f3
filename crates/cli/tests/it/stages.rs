//! Stages, targets and platforms.

use crossdock_testkit::foreign::{self, Cpu};

use crate::support::{Registry, World, host_handlers, our_emulator, require};

#[test]
fn only_needed_stages_are_built() {
    let world = World::with_base();
    let dockerfile = "FROM base AS broken\nRUN exit 1\nFROM base AS one\nRUN echo 1 > /1\nFROM base AS two\nRUN echo 2 > /2\n\
        FROM one AS both\nCOPY --from=two /2 /\nFROM both\nRUN cat /1 /2 > /12\n";
    let built = world.build(dockerfile, &["-t", "t"]);
    assert!(!built.err.contains("broken"), "{}", built.err);
    assert_eq!(world.sh("t", "cat /12"), "1\n2\n");
    world.build(dockerfile, &["-t", "u", "--target", "Two"]).ok();
    assert_eq!(world.sh("u", "ls /1 /2 2>/dev/null"), "/2\n");
    world.build(dockerfile, &["-t", "u", "--target", "1"]).ok();
    world.build(dockerfile, &["--target", "three"]).fails_with(&["target stage \"three\"", "one, two, both"]);
    world.build(dockerfile, &["--target", "broken"]).fails_with(&["exit code: 1", "Dockerfile:2"]);
}

#[test]
fn named_contexts_override_images_and_stages() {
    let world = World::with_base();
    world.build("FROM base\nRUN echo replaced > /which\n", &["-t", "other"]).ok();
    let layout = world.text("layout");
    world
        .build(
            "FROM base\nRUN echo layout > /which\n",
            &["-t", "x:tagged", "-o", &format!("type=oci,tar=false,dest={layout}")],
        )
        .ok();
    let dockerfile = "FROM base AS build\nRUN echo stage > /which\nFROM docker.io/library/absent:9 AS last\nRUN cat /which > /seen\nCOPY --from=build /which /copied\n";
    for (context, seen) in [
        ("absent:9=docker-image://other".to_string(), "replaced\nstage\n"),
        (format!("absent:9=oci-layout://{layout}"), "layout\nstage\n"),
        (format!("absent:9=oci-layout://{layout}:tagged"), "layout\nstage\n"),
        ("absent:9=target:build".to_string(), "stage\nstage\n"),
    ] {
        world.build(dockerfile, &["-t", "t", "--build-context", &context]).ok();
        assert_eq!(world.sh("t", "cat /seen /copied"), seen, "{context}");
    }
    let contexts =
        ["--build-context", "absent:9=docker-image://other", "--build-context", "build=docker-image://other"];
    world.build(dockerfile, &[&["-t", "t"], &contexts[..]].concat()).ok();
    assert_eq!(world.sh("t", "cat /seen /copied"), "replaced\nreplaced\n");
    // A directory is a root file system.
    world.file("f", "of the directory");
    world.build("FROM dir\nLABEL a=b\n", &["-t", "d", "--build-context", "dir=context"]).ok();
    world.build("FROM base\nCOPY --from=d /f /\n", &["-t", "t"]).ok();
    assert_eq!(world.sh("t", "cat /f"), "of the directory");
    let empty = ["--build-context", "nothing=docker-image://scratch"];
    world.build("FROM nothing\nCOPY f /\n", &empty).ok();
    world
        .run(&["build", "--build-context", "x=/does/not/exist", "context"])
        .fails_with(&["x=/does/not/exist"]);
}

#[test]
fn a_trigger_finds_a_stage_that_nothing_else_needs() {
    let world = World::with_base();
    world.file("hello", "hello");
    world.build("FROM base\nONBUILD COPY --from=maker /hello /\nONBUILD RUN --mount=from=maker,target=/m cat /m/hello >> /hello\n", &["-t", "with-triggers"]).ok();
    let dockerfile = "FROM scratch AS ground\nCOPY hello /\nFROM ground AS maker\nFROM with-triggers\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /hello"), "hellohello");
}

#[test]
fn arguments_of_the_stage_below_are_kept() {
    let world = World::with_base();
    let dockerfile = "ARG global=g\nFROM base AS one\nARG flag=baz\nARG global=own\nFROM one\nARG flag\nARG global\nARG TARGETSTAGE\n\
        RUN echo $flag $global $TARGETSTAGE > /seen\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /seen"), "baz g default\n");
}

#[test]
fn a_step_that_ran_anew_is_another_step() {
    let world = World::with_base();
    let dockerfile = "FROM base AS again\nRUN head -c 16 /dev/urandom | od -An -tx1 > /a\nFROM again AS on-top\nRUN cp /a /b\n\
        FROM base\nCOPY --from=again /a /\nCOPY --from=on-top /b /\n";
    let run = |options: &[&str]| {
        world.build(dockerfile, &[&["-t", "t"], options].concat()).ok();
        let seen = world.sh("t", "cat /a /b");
        let (a, b) = seen.split_once('\n').expect("two lines");
        assert_eq!(a, b.trim_end(), "both are of one run");
        a.to_string()
    };
    let first = run(&[]);
    assert_eq!(run(&[]), first);
    let second = run(&["--no-cache-filter", "again"]);
    assert_ne!(second, first);
    assert_eq!(run(&[]), second);
}

#[test]
fn users_that_the_image_does_not_know() {
    let world = World::with_base();
    let dockerfile = "FROM base\nUSER nobody-knows\nWORKDIR /made\nUSER root\n";
    assert_eq!(world.build_and_sh(dockerfile, "stat -c %u /made"), "0\n");
    world.file("f", "x");
    world
        .build(
            "FROM scratch\nCOPY --chown=root f /a\nCOPY --chown=root:root f /b\nCOPY --chown=0:root f /c\n",
            &[],
        )
        .ok();
    world.build("FROM scratch\nCOPY --chown=ann f /a\n", &[]).fails_with(&["unable to find user ann"]);
}

#[test]
fn the_environments_epoch_and_proxies_of_both_cases_reach_commands() {
    let world = World::with_base();
    let dockerfile = "FROM base\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH $HTTP_PROXY $http_proxy $no_proxy > /seen\n";
    let arguments =
        ["build", "-t", "t", "--build-arg", "http_proxy=http://p:1", "--build-arg", "NO_PROXY=n", "context"];
    world.file("Dockerfile", dockerfile);
    world.crossdock(&arguments).env("SOURCE_DATE_EPOCH", "5").run().ok();
    assert_eq!(world.sh("t", "cat /seen"), "5 http://p:1 http://p:1 n\n");
    // A default in the Dockerfile also counts.
    world.build("ARG SOURCE_DATE_EPOCH=7\nFROM base\nRUN touch /f\n", &["-t", "t"]).ok();
    assert_eq!(world.sh("t", "stat -c %Y /f"), "7\n");
    world.build("ARG SOURCE_DATE_EPOCH=soon\nFROM base\n", &[]).fails_with(&["SOURCE_DATE_EPOCH=soon"]);
}

/// Puts the programs of three platforms into the context.
fn programs(world: &World) {
    for (cpu, name) in [(Cpu::Amd64, "amd64"), (Cpu::Arm64, "arm64"), (Cpu::Arm, "armv7")] {
        world.file_mode(&format!("mkdir-{name}"), foreign::mkdir(cpu), 0o755);
    }
    for (cpu, name) in [(Cpu::Arm64, "arm64"), (Cpu::Arm, "armv7")] {
        world.file_mode(&format!("hello-{name}"), foreign::hello(cpu), 0o755);
    }
}

const ALL: &str = "linux/amd64,linux/arm64,linux/arm/v7";

#[test]
fn foreign_steps_run_and_the_machine_is_as_before() {
    require("qemu-aarch64-static", "qemu-user-static");
    require("qemu-arm-static", "qemu-user-static");
    let before = host_handlers();
    let world = World::new();
    programs(&world);
    let dockerfile = "FROM scratch\nARG TARGETARCH TARGETVARIANT\nCOPY mkdir-$TARGETARCH$TARGETVARIANT /mkdir\nRUN [\"/mkdir\", \"/made\"]\nCOPY hello-* /\nENTRYPOINT [\"/mkdir\"]\n";
    world.build(dockerfile, &["-t", "t", "--platform", ALL]).ok();
    let images = world.run(&["images", "t"]).ok();
    for platform in ALL.split(',') {
        assert!(images.contains(platform), "{images}");
        let made = world.run(&["run", "--platform", platform, "--rm", "t", "/made"]);
        // EEXIST is 17: the build has made the directory, on every platform.
        let code = made.code.map(|code| if code > 128 { 256 - code } else { code });
        assert_eq!(code, Some(17), "{platform}: {made:?}");
    }
    for (platform, program) in [("linux/arm64", "/hello-arm64"), ("linux/arm", "/hello-armv7")] {
        let ran = world.run(&["run", "--platform", platform, "--entrypoint", program, "t"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(42), program), "{}", ran.err);
    }
    assert_eq!(host_handlers(), before);
}

/// uname(2) tells the version of the platform that is built or run, so that programs choose packages for it.
#[test]
fn old_arm_cpus_are_those_of_the_platform() {
    our_emulator();
    let world = World::new();
    world.file_mode("machine", foreign::machine_arm(), 0o755);
    let dockerfile = "FROM scratch\nCOPY machine /machine\nRUN [\"/machine\"]\nENTRYPOINT [\"/machine\"]\n";
    let platforms = ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"];
    let built =
        world.build(dockerfile, &["-t", "t", "--emulator", "builtin", "--platform", &platforms.join(",")]);
    assert_eq!(built.code, Some(0), "{}", built.err);
    for (platform, machine) in platforms.into_iter().zip(["armv5tel", "armv6l", "armv7l"]) {
        let line =
            |text: &str| text.lines().any(|line| line.trim_matches(|c: char| c == '\0').ends_with(machine));
        assert!(line(&built.err), "{platform}: {}", built.err);
        let ran = world.run(&["run", "--emulator", "builtin", "--platform", platform, "t"]);
        assert!(ran.code == Some(0) && line(&ran.out), "{platform}: {ran:?}");
        let program = world.text("context/machine");
        let args = ["unshare", "--emulator", "builtin", "--platform", platform, "--", &program];
        assert!(line(&world.run(&args).ok()), "{platform}");
    }
}

#[test]
fn cross_compiling_stages_run_on_this_machine() {
    let world = World::with_base();
    let dockerfile = "FROM --platform=$BUILDPLATFORM base AS build\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM\n\
        RUN echo \"$TARGETPLATFORM $TARGETOS $TARGETARCH $TARGETVARIANT on $BUILDPLATFORM\" > /for\n\
        RUN echo same > /same\nFROM scratch\nCOPY --from=build /for /\n";
    let built = world.build(
        dockerfile,
        &["-t", "t", "--platform", "linux/arm64,linux/arm/v7", "-o", "type=local,dest=out"],
    );
    built.ok();
    let read = |platform: &str| {
        std::fs::read_to_string(world.path("out").join(platform).join("for")).expect("there")
    };
    let host = world.run(&["doctor", "--json"]).ok();
    assert!(!host.is_empty());
    assert!(read("linux_arm64").starts_with("linux/arm64 linux arm64  on linux/"), "{}", read("linux_arm64"));
    assert!(
        read("linux_arm_v7").starts_with("linux/arm/v7 linux arm v7 on linux/"),
        "{}",
        read("linux_arm_v7")
    );
}

#[test]
fn equal_steps_of_several_platforms_execute_once() {
    let world = World::with_base();
    let dockerfile = "FROM --platform=$BUILDPLATFORM base AS build\nRUN sleep 0.2; date +%N > /when\nFROM scratch\nCOPY --from=build /when /\n";
    let built = world.build(dockerfile, &["--platform", ALL, "-o", "type=local,dest=out"]);
    let runs: Vec<String> = built.executed().into_iter().filter(|s| s.contains("sleep")).collect();
    assert_eq!(runs.len(), 1, "{}", built.err);
    built.ok();
    let read = |platform: &str| std::fs::read(world.path("out").join(platform).join("when")).expect("there");
    assert_eq!(read("linux_amd64"), read("linux_arm_v7"));
}

#[test]
fn platforms_of_bases_are_chosen_and_missing_ones_named() {
    let world = World::new();
    programs(&world);
    let base = "FROM scratch\nARG TARGETARCH TARGETVARIANT\nCOPY mkdir-$TARGETARCH$TARGETVARIANT /mkdir\n";
    world.build(base, &["-t", "multi", "--platform", ALL]).ok();
    world.build("FROM --platform=linux/arm64 multi\n", &["-t", "t"]).ok();
    assert_eq!(world.inspect("t")["Architecture"], "arm64");
    // An armv8 machine in 32-bit mode uses v7.
    world.build("FROM multi\n", &["-t", "t8", "--platform", "linux/arm/v8"]).ok();
    let registry = Registry::start(&world);
    let name = registry.image("multi:1");
    world.run(&["push", "multi", &name]).ok();
    let missing = world.build(&format!("FROM {name}\n"), &["--platform", "linux/s390x"]);
    missing.fails_with(&["linux/s390x", "linux/amd64, linux/arm64, linux/arm/v7", "Dockerfile:1"]);
    world.build(&format!("FROM {name}\n"), &["-t", &name]).ok();
    let missing = world.build(&format!("FROM {name}\n"), &["--platform", "linux/s390x"]);
    missing.fails_with(&["the store has it for linux/amd64"]);
    for bad in ["linux/amd46x/", "windows//", "a/b/c/d", ""] {
        let error = world.run(&["build", "--platform", bad, "context"]).fails(1);
        assert!(error.contains("platform"), "{bad}: {error}");
    }
    let error = world.build("FROM --platform=nonsense/x/y/z multi\n", &[]).fails(1);
    assert!(error.contains("Dockerfile:1") && error.contains("nonsense"), "{error}");
}

#[test]
fn without_an_emulator_the_message_names_platform_and_remedy() {
    let world = World::new();
    programs(&world);
    let dockerfile = "FROM scratch\nCOPY mkdir-arm64 /mkdir\nRUN [\"/mkdir\", \"/made\"]\n";
    let args = ["--platform", "linux/arm64", "--emulator", "/does/not/exist"];
    world.build(dockerfile, &args).fails_with(&[
        "cannot run programs for linux/arm64",
        "/does/not/exist",
        "Dockerfile:3",
    ]);
    // Without a step to run, no emulator is needed.
    world.build("FROM scratch\nCOPY mkdir-arm64 /mkdir\n", &args).ok();
}

#[test]
fn a_program_for_another_cpu_is_named() {
    let world = World::with_base();
    programs(&world);
    let built = world.build("FROM base\nCOPY hello-arm64 /\nRUN /hello-arm64 || exit 9\n", &[]);
    if host_handlers().iter().any(|name| name.contains("aarch64")) {
        built.fails_with(&["exit code: 9"]);
    } else {
        built.fails_with(&["exit code: 9", "Dockerfile:3"]);
    }
}
