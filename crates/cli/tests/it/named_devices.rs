//! Devices by name: those that files of the Container Device Interface describe.

use crate::support::{Crossdock, World};

const DESCRIPTION: &str = "cdiVersion: \"0.6.0\"\nkind: test.example/null\ncontainerEdits:\n  env: [DRIVER=1]\ndevices:\n\
    \x20 - name: one\n    containerEdits:\n      env: [DEVICE=one]\n      deviceNodes:\n        - path: /dev/mine\n          hostPath: /dev/zero\n\
    \x20     mounts:\n        - hostPath: LIBRARY\n          containerPath: /usr/lib/mine\n          options: [ro]\n\
    \x20 - name: two\n    annotations:\n      org.mobyproject.buildkit.device.autoallow: \"true\"\n    containerEdits:\n      env: [DEVICE=two]\n\
    \x20     hooks:\n        - hookName: createContainer\n          path: /usr/bin/setup\n\
    \x20 - name: gone\n    containerEdits:\n      deviceNodes: [{path: /dev/gone}]\n";

/// A world whose machine describes devices.
fn world() -> World {
    let world = World::with_base();
    world.file("../library/f", "of the driver\n");
    let library = world.path("library").display().to_string();
    world.file("../cdi/test.yaml", DESCRIPTION.replace("LIBRARY", &library));
    world.file("../cdi/wrong.json", "{");
    world.give();
    world
}

fn with_devices(world: &World, crossdock: Crossdock) -> Crossdock {
    crossdock.env("CROSSDOCK_CDI_DIRS", &world.path("cdi").display().to_string())
}

fn build(world: &World, dockerfile: &str, args: &[&str]) -> crate::support::Ran {
    with_devices(world, world.building(dockerfile, args)).run()
}

const LOOK: &str = "test -c /dev/mine && head -c 3 /dev/mine | wc -c > /seen; \
    echo $DRIVER $DEVICE >> /seen; cat /usr/lib/mine/f >> /seen; ! touch /usr/lib/mine/g 2>/dev/null";

#[test]
fn steps_get_the_devices_that_they_name_and_the_user_allows() {
    let world = world();
    let dockerfile = format!("FROM base\nRUN --device=test.example/null=one,required {LOOK}\n");
    build(&world, &dockerfile, &[]).fails_with(&[
        "test.example/null=one",
        "--allow device=test.example/null=one",
        "Dockerfile:2",
    ]);
    build(&world, &dockerfile, &["--allow", "device=test.example/other"]).fails_with(&["needs a permission"]);
    for allowed in ["device", "device=test.example/null", "device=test.example/null=one"] {
        build(&world, &dockerfile, &["-t", "t", "--allow", allowed]).ok();
    }
    assert_eq!(world.sh("t", "cat /seen"), "3\n1 one\nof the driver\n");
    assert_eq!(world.sh("t", "ls -d /dev/mine /usr/lib/mine 2>/dev/null | wc -l"), "0\n");
    // The device is a part of the step.
    let again = build(&world, &dockerfile, &["-t", "t", "--allow", "device"]);
    assert_eq!(again.executed(), [""; 0]);
    let first = dockerfile.replace("null=one,required", "null");
    assert_eq!(build(&world, &first, &["-t", "t", "--allow", "device"]).executed(), [""; 0]);
    let none = dockerfile.replace("null=one,required", "none");
    assert_eq!(build(&world, &none, &["--allow", "device"]).executed().len(), 1);
    // One that is free for all, with what it does not get.
    let free = "FROM base\nRUN --device=name=test.example/null=two echo $DRIVER $DEVICE > /seen\n";
    let built = build(&world, free, &["-t", "t"]);
    assert!(built.err.contains("comes without the hook createContainer (/usr/bin/setup)"), "{}", built.err);
    assert_eq!(world.sh("t", "cat /seen"), "1 two\n");
    // One for all steps, as podman has it.
    let all = format!("FROM base\nRUN {LOOK}\n");
    build(&world, &all, &["-t", "t", "--device", "test.example/null=one"]).ok();
    assert_eq!(world.sh("t", "cat /seen"), "3\n1 one\nof the driver\n");
}

#[test]
fn devices_that_are_not_there() {
    let world = world();
    let dockerfile = |device: &str| format!("FROM base\nRUN --device={device} echo here\n");
    build(&world, &dockerfile("test.example/none=1"), &[]).fails_with(&[
        "the device test.example/none=1 is not there",
        "--allow device",
        "Dockerfile:2",
    ]);
    let built = build(&world, &dockerfile("test.example/none=1"), &["--allow", "device"]);
    assert!(built.err.contains("the device test.example/none=1 is not there"), "{}", built.err);
    built.ok();
    build(&world, &dockerfile("test.example/none=1,required"), &[]).fails_with(&[
        "has the device test.example/none=1",
        "wrong.json",
        "Dockerfile:2",
    ]);
    build(&world, &dockerfile("test.example/null=gone"), &["--allow", "device"])
        .fails_with(&["the device test.example/null=gone: the device node /dev/gone"]);
    for wrong in ["none", "a/b,count=2", "a/b,required=perhaps"] {
        build(&world, &dockerfile(wrong), &[]).fails_with(&["Dockerfile:2"]);
    }
    build(&world, &dockerfile("a/b"), &["--allow", "devices"]).fails_with(&["device=NAME"]);
}

#[test]
fn containers_get_devices_by_name() {
    let world = world();
    let run =
        |words: &[&str]| with_devices(&world, world.crossdock(&[&["run", "--rm"], words].concat())).run();
    let script = "test -c /dev/mine && echo $DRIVER $DEVICE && cat /usr/lib/mine/f";
    let shown = run(&["--device", "test.example/null=one", "base", "sh", "-c", script]).ok();
    assert_eq!(shown, "1 one\nof the driver\n");
    // What the user says counts more.
    let words = ["--device", "test.example/null=one", "-e", "DEVICE=own", "base", "sh", "-c", "echo $DEVICE"];
    assert_eq!(run(&words).ok(), "own\n");
    let refused = |device: &str| run(&["--device", device, "base", "true"]).fails(125);
    let error = refused("test.example/null=three");
    assert!(error.contains("/etc/cdi") && error.contains("wrong.json"), "{error}");
    assert!(refused("test.example/null=gone").contains("/dev/gone"));
}
