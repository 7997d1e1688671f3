//! Options of podman build and buildah build that have a meaning here.

use serde_json::Value;

use crate::support::{Registry, World};

#[test]
fn results_are_added_to_an_index() {
    let world = World::new();
    let build = |platform: &str, args: &[&str]| {
        world.file("f", platform);
        let words = [&["--manifest", "list:1", "--platform", platform], args].concat();
        world.build("FROM scratch\nCOPY f /\n", &words).ok()
    };
    let entries = || -> Vec<String> {
        let shown = world.run(&["manifest", "inspect", "list:1"]).ok();
        let index: Value = serde_json::from_str(&shown).expect("JSON");
        let manifests = index["manifests"].as_array().expect("entries").clone();
        manifests.iter().map(|m| m["platform"]["architecture"].as_str().expect("text").to_string()).collect()
    };
    build("linux/amd64", &[]);
    build("linux/arm64", &["-t", "app:arm"]);
    assert_eq!(entries(), ["amd64", "arm64"]);
    // An image without a name of its own is not listed a second time.
    let listed = world.run(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.Platform}}"]).ok();
    assert!(!listed.contains("<none>") && listed.contains("app:arm linux/arm64"), "{listed}");
    // Another image for a platform replaces the first.
    world.file("g", "x");
    world
        .build("FROM scratch\nCOPY g /\n", &["--manifest", "list:1", "--platform", "linux/amd64,linux/s390x"])
        .ok();
    let mut now = entries();
    now.sort();
    assert_eq!(now, ["amd64", "arm64", "s390x"]);
    world.validate();
    world.build("FROM scratch\nCOPY g /\n", &["--manifest", "app:arm"]).ok();
}

#[test]
fn media_types_of_docker() {
    let world = World::new();
    let registry = Registry::start(&world);
    let name = registry.image("a:1");
    world.build("FROM scratch\nCOPY Dockerfile /\n", &["--format", "docker", "--push", "-t", &name]).ok();
    let raw: Value =
        serde_json::from_str(&world.run(&["inspect", "--raw", &format!("docker://{name}")]).ok())
            .expect("JSON");
    assert_eq!(raw["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    world.build("FROM scratch\nCOPY Dockerfile /\n", &["--format=oci", "-t", "t"]).ok();
    assert_eq!(world.inspect("t")["Manifest"]["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    world
        .build("FROM scratch\n", &["--format", "docker", "-o", "type=image,annotation.a=b"])
        .fails_with(&["--format docker", "annotations"]);
}

#[test]
fn times_arguments_and_ignore_files() {
    let world = World::with_base();
    std::fs::write(world.path("args"), "# comment\n\nA=from file\nB=b=c\n").expect("written");
    std::fs::write(world.path("ignore"), "skip\n").expect("written");
    world.file("skip", "x").file("keep", "x").file(".dockerignore", "keep\n");
    let dockerfile = "FROM base\nARG A B\nRUN echo \"$A $B\" > /args && touch /now\nCOPY . /c/\n";
    let args = ["-t", "t", "--build-arg-file", "args", "--build-arg", "A=over", "--ignorefile", "ignore"];
    world.build(dockerfile, &[&args[..], &["--timestamp", "1000"]].concat()).ok();
    assert_eq!(world.sh("t", "cat /args; ls /c; stat -c %Y /now"), "over b=c\nDockerfile\nkeep\n1000\n");
    assert_eq!(world.inspect("t")["Created"], "1970-01-01T00:16:40.000000000Z");
    world.build(dockerfile, &["--build-arg-file", "absent"]).fails_with(&["--build-arg-file", "absent"]);
    world.build(dockerfile, &["--ignorefile", "absent"]).fails_with(&["--ignorefile absent"]);
    std::fs::write(world.path("args"), "A=1\nsecret\n").expect("written");
    let err = world.build(dockerfile, &["--build-arg-file", "args"]).fails(1);
    assert!(err.contains("args, line 2") && !err.contains("secret"), "{err}");
}

#[test]
fn the_first_image_is_replaced() {
    let world = World::with_base();
    world.build("FROM base\nRUN echo other > /which\n", &["-t", "other"]).ok();
    let dockerfile = "FROM missing:1 AS a\nFROM a\nRUN cat /which > /seen\n";
    world.build(dockerfile, &["-t", "t", "--from", "other"]).ok();
    assert_eq!(world.sh("t", "cat /seen"), "other\n");
    world.build("ARG X\nFROM $X\n", &["--from", "other"]).fails_with(&["--from other", "--build-arg"]);
}

#[test]
fn policies_of_pull() {
    let world = World::with_base();
    let registry = Registry::start(&world);
    let name = registry.image("b:1");
    world.run(&["push", "base", &name]).ok();
    let dockerfile = format!("FROM {name}\n");
    world.build(&dockerfile, &["--pull=never"]).fails_with(&["--pull=never", "b:1"]);
    world.build(&dockerfile, &["--pull=missing"]).ok();
    world.build(&dockerfile, &["--pull=never"]).ok();
    world.build(&dockerfile, &["--pull"]).ok();
    drop(registry);
    world.build(&dockerfile, &["--pull=ifmissing"]).ok();
    world.build(&dockerfile, &["--pull=false"]).ok();
    world.build(&dockerfile, &["--pull=always", "--retry=0"]).fails(1);
    let err = world.build(&dockerfile, &["--pull=perhaps"]).fails(2);
    assert!(err.contains("never"), "{err}");
}

#[test]
fn one_platform_in_parts() {
    let world = World::new();
    let built = |args: &[&str]| {
        world.build("FROM scratch\nCOPY Dockerfile /\n", &[&["-t", "t"], args].concat()).ok();
        world.inspect("t")["Platform"].as_str().expect("text").to_string()
    };
    assert_eq!(built(&["--arch", "arm64"]), "linux/arm64");
    assert_eq!(built(&["--os=linux", "--arch=arm", "--variant=v6"]), "linux/arm/v6");
    world
        .build("FROM scratch\n", &["--arch", "arm64", "--platform", "linux/amd64"])
        .fails_with(&["--platform linux/amd64", "linux/arm64"]);
    // skopeo's options stand before the command.
    world.run(&["--override-arch", "s390x", "build", "-t", "s", "context"]).ok();
    assert_eq!(world.inspect("s")["Platform"], "linux/s390x");
}

#[test]
fn messages_go_to_a_file() {
    let world = World::with_base();
    let built = world.build("FROM base\nRUN echo said\n", &["--logfile", "log", "-t", "t"]);
    assert_eq!(built.err, "");
    assert!(built.ok().contains("t:latest"));
    assert!(std::fs::read_to_string(world.path("log")).expect("there").contains("said"));
    // The error is for whoever started the command.
    let failed = world.build("FROM base\nRUN exit 4\n", &["--logfile", "log"]);
    assert!(failed.err.contains("exit code: 4"), "{}", failed.err);
    failed.fails(1);
    world.build("FROM base\n", &["--logfile", "no/such/log"]).fails_with(&["--logfile no/such/log"]);
}

#[test]
fn proxies_and_attestations_may_be_switched_off() {
    let world = World::with_base();
    let config = world.path("home/.docker");
    std::fs::create_dir_all(&config).expect("a directory");
    let text = r#"{"proxies":{"default":{"httpProxy":"http://p:1"}}}"#;
    std::fs::write(config.join("config.json"), text).expect("written");
    let dockerfile = "FROM base\nRUN echo [$http_proxy] > /seen\n";
    world.build(dockerfile, &["-t", "t", "--http-proxy=false"]).ok();
    assert_eq!(world.sh("t", "cat /seen"), "[]\n");
    for (spec, is_made) in [
        ("type=provenance,mode=max", true),
        ("type=provenance,disabled=true", false),
        ("type=sbom", true),
        ("sbom,disabled=1", false),
    ] {
        world.build("FROM base\n", &["-t", "t", "--attest", spec]).ok();
        let shown = world.run(&["manifest", "inspect", "t"]).ok();
        assert_eq!(shown.contains("attestation-manifest"), is_made, "{spec}: {shown}");
    }
    let err = world.build("FROM base\n", &["--attest", "type=other"]).fails(2);
    assert!(err.contains("provenance or type=sbom"), "{err}");
    assert!(world.build("FROM base AS a\n", &["--print=targets"]).ok().contains("a (default)"));
}

#[test]
fn steps_have_name_servers_rights_devices_and_volumes() {
    let world = World::with_base();
    world.file("../shared/f", "of the host\n");
    let dockerfile = "FROM base\nRUN cat /etc/resolv.conf > /dns; grep CapBnd /proc/self/status > /caps; \
        cat /in/f > /f; [ -c /dev/mine ] && echo device > /device; id -G > /groups\n";
    let shared = format!("{}:/in:ro", world.path("shared").display());
    let options = ["--dns", "192.0.2.1", "--dns-search", "a.test", "--dns-option", "ndots:2"];
    let rights = ["--cap-drop", "CHOWN", "--cap-add", "NET_ADMIN", "-v", &shared];
    let devices = ["--device", "/dev/zero:/dev/mine", "--progress", "plain", "-t", "t"];
    let build = |more: &[&str]| world.build(dockerfile, &[&options[..], &rights, &devices, more].concat());
    build(&[]).ok();
    assert_eq!(world.sh("t", "cat /dns"), "nameserver 192.0.2.1\nsearch a.test\noptions ndots:2\n");
    assert_eq!(world.sh("t", "cat /caps /f /device"), "CapBnd:\t00000000a80435fa\nof the host\ndevice\n");
    assert_eq!(world.sh("t", "ls -d /in /dev/mine 2>/dev/null | wc -l"), "0\n", "mounts leave no trace");
    // The same options give the same step, others another one.
    assert_eq!(build(&[]).executed(), Vec::<String>::new());
    let of = |more: &[&str]| build(more).executed().len();
    assert_eq!(
        (of(&["--cap-add", "KILL"]), of(&["--cap-add", "SYS_PTRACE"]), of(&["--dns", "192.0.2.2"])),
        (0, 1, 1)
    );
    let refused = |args: &[&str], text: &str| world.build("FROM base\nRUN true\n", args).fails_with(&[text]);
    refused(&["--dns", "x"], "--dns x: not an IP address");
    refused(&["--cap-add", "NOPE"], "--cap-add NOPE: there is no such capability");
    refused(&["--device", "/dev/nope"], "--device /dev/nope");
    refused(&["-v", "/nope:/x"], "--volume /nope:/x");
    refused(&["-v", "name:/x"], "with a path on this machine");
}

#[test]
fn build_arguments_that_buildkit_reads() {
    let world = World::with_base();
    // Caches of another namespace are others.
    let step =
        |file: &str| format!("FROM base\nRUN --mount=type=cache,target=/c ls /c > /seen; touch /c/{file}\n");
    let seen = |file: &str, args: &[&str]| {
        world.build(&step(file), &[&["-t", "t"], args].concat()).ok();
        world.sh("t", "cat /seen")
    };
    let fresh = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=fresh"];
    assert_eq!(seen("one", &[]), "");
    assert_eq!(seen("two", &fresh), "");
    assert_eq!(seen("three", &[]), "one\n");
    assert_eq!(seen("four", &fresh), "two\n");
    // An index of one image.
    let index = |value: &str| {
        let argument = format!("BUILDKIT_MULTI_PLATFORM={value}");
        let archive = world.text("one.oci");
        let output = format!("type=oci,tar=false,dest={archive}");
        let ran = world.build("FROM base\n", &["--build-arg", &argument, "-o", &output]);
        let layout = std::fs::read(world.path("one.oci/index.json"));
        let _ = std::fs::remove_dir_all(&archive);
        ran.ok();
        let layout: serde_json::Value = serde_json::from_slice(&layout.expect("a layout")).expect("JSON");
        layout["manifests"][0]["mediaType"].as_str().expect("a type").contains("index")
    };
    assert!(index("1") && index("true") && !index("0"));
    let wrong = ["--build-arg", "BUILDKIT_MULTI_PLATFORM=x"];
    world.build("FROM base\n", &wrong).fails_with(&["BUILDKIT_MULTI_PLATFORM=x", "true or false"]);
    let two = ["--build-arg", "BUILDKIT_MULTI_PLATFORM=0", "--platform", "linux/amd64,linux/arm64"];
    world.build("FROM scratch\nCOPY Dockerfile /\n", &two).fails_with(&["need an index"]);
}

#[test]
fn other_frontends_are_refused() {
    let world = World::with_base();
    world
        .build("# syntax=foo/bar:1\nFROM base\n", &[])
        .fails_with(&["Dockerfile:1", "the frontend foo/bar:1"]);
    let syntax = |name: &str| format!("BUILDKIT_SYNTAX={name}");
    let dockerfile = "# syntax=docker/dockerfile:1\nFROM base\n";
    world.build(dockerfile, &[]).ok();
    world.build(dockerfile, &["--build-arg", &syntax("foo/bar")]).fails_with(&["the frontend foo/bar"]);
    let own = syntax("docker.io/docker/dockerfile:1.7-labs");
    world.build("# syntax=foo/bar:1\nFROM base\n", &["--build-arg", &own]).ok();
}

#[test]
fn build_arguments_have_names() {
    let world = World::with_base();
    for argument in ["=secret", ""] {
        let ran = world.build("FROM base\n", &["--build-arg", argument]);
        assert!(!ran.err.contains("secret"), "{}", ran.err);
        ran.fails_with(&["--build-arg", "NAME=VALUE"]);
    }
}

#[test]
fn bytes_that_are_not_utf8_in_a_dockerfile() {
    let world = World::with_base();
    let text = b"# M\xfcller\nFROM base\nMAINTAINER M\xfcller\nRUN echo M\xfc > /m\n";
    world.file("Latin", text);
    let file = world.text("context/Latin");
    world.run(&["build", "-t", "t", "-f", &file, "context"]).ok();
    assert_eq!(world.sh("t", "cat /m"), "M\u{fffd}\n");
    world.file("Latin", b"FROM base\nCOPY <<E /m\nM\xfc\nE\n");
    world.run(&["build", "-f", &file, "context"]).fails_with(&["Latin:3", "not UTF-8"]);
}
