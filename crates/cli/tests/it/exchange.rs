//! build --cache-to and --cache-from: a store need not build what another one has built.

use std::fs;

use crate::support::{Registry, World};

const DOCKERFILE: &str = "FROM base AS build\nRUN echo made > /made; touch /other\nRUN true\nFROM base\nCOPY --from=build /made /\n\
    COPY f /f\nRUN cat /made /f > /both\n";

/// A world with the context and the same base as all others.
fn world() -> World {
    let world = World::with_base();
    world.file("f", "content\n");
    world
}

/// Builds in a fresh store; returns the executed steps, the digest, and standard error.
fn elsewhere(dockerfile: &str, from: &str, args: &[&str]) -> (Vec<String>, String, String) {
    let world = world();
    let built = world.build(dockerfile, &[&["--cache-from", from, "-t", "t"], args].concat());
    let (executed, err) = (built.executed(), built.err.clone());
    let digest = built.ok();
    if dockerfile == DOCKERFILE {
        assert_eq!(world.sh("t", "cat /both"), "made\ncontent\n");
    }
    assert!(world.validate() > 0);
    (executed, digest, err)
}

#[test]
fn a_directory_carries_every_step() {
    let here = world();
    let directory = here.text("cache");
    let to = format!("type=local,dest={directory},mode=max");
    let digest = here.build(DOCKERFILE, &["--cache-to", &to, "-t", "t"]).ok();
    let from = format!("type=local,src={directory}");
    let (executed, there, _) = elsewhere(DOCKERFILE, &from, &[]);
    assert_eq!(
        (executed, there),
        (Vec::<String>::new(), digest),
        "all is known, and the same image comes out"
    );
    // With only the image's layers in the cache, the first stage is built again and the rest is not.
    let least = here.text("least");
    here.build(DOCKERFILE, &["--cache-to", &format!("type=local,dest={least},tag=x"), "-t", "t"]).ok();
    let (executed, ..) = elsewhere(DOCKERFILE, &format!("type=local,src={least},tag=x"), &[]);
    assert_eq!(executed, ["[build 2/3] RUN echo made > /made; touch /other"]);
    let (executed, _, err) = elsewhere(DOCKERFILE, &format!("type=local,src={least},tag=y"), &[]);
    assert!(executed.len() > 3 && err.contains("has no effect") && err.contains("least"), "{err}");
    // A changed step is not found in the cache.
    let changed = DOCKERFILE.replace("/made /f >", "/f /made >");
    let (executed, ..) = elsewhere(&changed, &from, &[]);
    assert_eq!(executed, ["[stage-1 4/4] RUN cat /f /made > /both"]);
}

#[test]
fn a_damaged_directory_is_told_and_costs_steps_only() {
    let here = world();
    let directory = here.text("cache");
    let to = format!("type=local,dest={directory},mode=max");
    here.build(DOCKERFILE, &["--cache-to", &to]).ok();
    let from = format!("type=local,src={directory}");
    let blobs = here.path("cache/blobs/sha256");
    let mut spoiled = 0;
    for blob in fs::read_dir(&blobs).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let mut bytes = fs::read(&blob).expect("a blob");
        if bytes.starts_with(&[0x1f, 0x8b]) {
            *bytes.last_mut().expect("not empty") ^= 1;
            fs::write(&blob, bytes).expect("written");
            spoiled += 1;
        }
    }
    assert_eq!(spoiled, 4);
    let (executed, _, err) = elsewhere(DOCKERFILE, &from, &[]);
    assert_eq!(executed.len(), 4, "the step without a layer is still known: {executed:?}");
    assert!(err.contains("a layer of an imported cache cannot be had"), "{err}");
    for path in [here.path("cache/index.json"), here.path("cache/oci-layout")] {
        fs::write(path, "{").expect("written");
    }
    let (executed, _, err) = elsewhere(DOCKERFILE, &from, &[]);
    assert!(executed.len() == 5 && err.contains("index.json"), "{executed:?} {err}");
}

#[test]
fn a_registry_carries_steps_and_images_carry_their_own() {
    let here = world();
    let registry = Registry::start(&here);
    let cache = registry.image("cache:main");
    let to = format!("type=registry,ref={cache},mode=max");
    let digest = here.build(DOCKERFILE, &["--cache-to", &to, "-t", "t"]).ok();
    let (executed, there, _) = elsewhere(DOCKERFILE, &format!("type=registry,ref={cache}"), &[]);
    assert_eq!((executed, there), (Vec::<String>::new(), digest));
    let (executed, ..) = elsewhere(DOCKERFILE, &cache, &["--no-cache"]);
    assert_eq!(executed.len(), 5, "--no-cache is for these, too: {executed:?}");
    // An inline cache in the images of two platforms, which are in an index.
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\nWORKDIR /of$TARGETARCH\n";
    let (name, args) = (registry.image("app:1"), ["--platform", "linux/amd64,linux/arm64"]);
    let built =
        here.build(dockerfile, &[&["--cache-to", "type=inline", "-t", &name, "--push"], &args[..]].concat());
    built.ok();
    assert_eq!(elsewhere(dockerfile, &name, &args).0, [""; 0]);
    let argument = registry.image("app:2");
    here.build(dockerfile, &["--build-arg", "BUILDKIT_INLINE_CACHE=1", "-t", &argument, "--push"]).ok();
    assert_eq!(elsewhere(dockerfile, &format!("type=registry,ref={argument}"), &[]).0, [""; 0]);
    // An image without a cache, and an image that does not exist.
    let plain = registry.image("app:3");
    here.build(dockerfile, &["-t", &plain, "--push"]).ok();
    for (from, what) in [(&plain, "no cache of this builder"), (&registry.image("absent:1"), "absent")] {
        let (executed, _, err) = elsewhere(dockerfile, from, &[]);
        assert!(executed.len() == 2 && err.contains("has no effect") && err.contains(what), "{err}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let here = world();
    let built = here.build(DOCKERFILE, &["--cache-to", "type=gha", "--cache-from", "type=azblob,name=x"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    assert!(built.err.contains("--cache-to type=gha has no effect: this is no job"), "{}", built.err);
    let no_effect = "--cache-from type=azblob,name=x has no effect: account_url= is missing";
    assert!(built.err.contains(no_effect), "{}", built.err);
    for (spec, texts) in [
        ("type=local", ["--cache-to type=local", "dest= is missing"]),
        ("type=registry,mode=max", ["--cache-to", "ref= is missing"]),
        ("type=inline,mode=max", ["--cache-to", "mode=min"]),
        ("type=local,dest=x,mode=most", ["--cache-to", "mode=most"]),
        ("type=floppy", ["--cache-to", "registry, local, inline"]),
    ] {
        here.build(DOCKERFILE, &["--cache-to", spec]).fails_with(&texts);
    }
    here.file("notadirectory", "");
    let to = "type=local,dest=context/notadirectory";
    here.build(DOCKERFILE, &["--cache-to", to]).fails_with(&["export the cache to context/notadirectory"]);
    let may_fail = here.build(DOCKERFILE, &["--cache-to", &format!("{to},ignore-error=true")]);
    assert!(may_fail.code == Some(0) && may_fail.err.contains("warning: export the cache"), "{may_fail:?}");
}
