//! `serve --buildkit`: the newest docker-buildx of Debian builds through crossdock.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crossdock_testkit::actions::TOKEN;
use crossdock_testkit::container::ACCOUNT_KEY;
use crossdock_testkit::farm::TestFarm;
use crossdock_testkit::{ActionsService, TestContainers};
use serde_json::Value;

use crate::remote::{BASIC, Repository, serve_to};
use crate::support::{Ran, Registry, Running, World, grep, our_emulator};
use crate::terminal::OnTerminal;

/// The client, which `cargo xtask test` fetches.
pub fn buildx() -> PathBuf {
    let plugin = "usr/libexec/docker/cli-plugins/docker-buildx";
    let fetched =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/docker-buildx").join(plugin);
    let path = if fetched.exists() { fetched } else { Path::new("/").join(plugin) };
    assert!(
        path.exists(),
        "docker-buildx is missing: run cargo xtask test, or apt-get install docker-buildx"
    );
    path
}

/// A server with its socket in the world, and a builder of buildx that leads to it.
struct Served {
    world: World,
    running: Option<Running>,
}

impl Served {
    fn new() -> Served {
        Served::of(World::with_base())
    }

    fn of(world: World) -> Served {
        our_emulator();
        let mut served = Served { world, running: None };
        served.start();
        let address = format!("unix://{}", served.world.text("run/crossdock.sock"));
        served.buildx(&["create", "--name", "cd", "--driver", "remote", &address]).ok();
        served
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, options: &[&str]) {
        let mut running = self.world.crossdock(&[&["serve", "--buildkit"], options].concat()).start();
        running.until_err("use it with");
        self.running = Some(running);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(buildx());
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.world.path("home"))
            .env("BUILDX_BUILDER", "cd")
            .current_dir(self.world.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn buildx(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().expect("buildx runs"))
    }

    /// Builds the context with this Dockerfile.
    fn build(&self, dockerfile: &str, args: &[&str]) -> Ran {
        self.world.file("Dockerfile", dockerfile);
        let args = [&["build", "--progress", "plain", "--provenance=false"], args, &["context"]].concat();
        self.buildx(&args)
    }

    /// Builds, and returns a file of the result.
    #[track_caller]
    fn result(&self, dockerfile: &str, args: &[&str], file: &str) -> String {
        let out = self.world.text("out");
        // The directory of an earlier build.
        let _ = std::fs::remove_dir_all(&out);
        self.build(dockerfile, &[&["-o", &out], args].concat()).ok();
        std::fs::read_to_string(self.world.path("out").join(file)).expect("a file of the result")
    }
}

/// Names in an archive.
fn names(archive: &Path) -> Vec<String> {
    let file = std::fs::File::open(archive).expect("an archive");
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().expect("an archive");
    entries.map(|entry| entry.expect("an entry").path().expect("a path").display().to_string()).collect()
}

const STEPS: &str = "FROM base AS one\nARG X=1\nRUN echo $X > /x\nFROM one\nCOPY f /f\n";

#[test]
fn a_result_goes_where_the_client_wants_it() {
    let served = Served::new();
    let world = &served.world;
    world.file("f", "data");
    assert_eq!(served.result(STEPS, &[], "f"), "data");
    assert_eq!(served.result(STEPS, &["--build-arg", "X=5", "--target", "one"], "x"), "5\n");
    let out = |name: &str| world.text(name);
    served.build(STEPS, &["-o", &format!("type=tar,dest={}", out("a.tar"))]).ok();
    assert!(names(&world.path("a.tar")).iter().any(|name| name == "f"));
    served.build(STEPS, &["-o", &format!("type=oci,dest={}", out("b.tar"))]).ok();
    assert!(names(&world.path("b.tar")).iter().any(|name| name == "index.json"));
    served.build(STEPS, &["-o", &format!("type=oci,tar=false,dest={}", out("layout"))]).ok();
    assert!(world.path("layout/index.json").exists());
    served.build(STEPS, &["-t", "a/b:1", "-o", &format!("type=docker,dest={}", out("c.tar"))]).ok();
    assert_eq!(world.run(&["load", "-i", &out("c.tar")]).ok().trim(), "Loaded image: a/b:1 (linux/amd64)");
    // What is told of each is in BuildKit's words.
    let registry = Registry::start(world);
    let pushed = format!("type=image,name={},push=true", registry.image("p:1"));
    let metadata = world.text("metadata.json");
    let told = |output: &str| {
        let built = served.build(STEPS, &["-o", output, "--metadata-file", &metadata]);
        let told = built.err.clone();
        built.ok();
        let metadata: Value =
            serde_json::from_slice(&std::fs::read(&metadata).expect("written")).expect("JSON");
        (told, metadata["containerimage.digest"].as_str().unwrap_or_default().to_string())
    };
    for (output, texts) in [
        (
            format!("type=local,dest={}", out("told")),
            &["exporting to client directory", "copying files "][..],
        ),
        (format!("type=tar,dest={}", out("t.tar")), &["exporting to client tarball", "sending tarball"]),
        (
            format!("type=oci,dest={}", out("o.tar")),
            &[
                "exporting to oci image format",
                "exporting layers",
                "exporting manifest DIGEST done",
                "sending tarball",
            ],
        ),
        (
            format!("type=docker,name=a:1,dest={}", out("d.tar")),
            &["exporting to docker image format", "exporting config sha256:", "sending tarball"],
        ),
        (
            "type=image,name=a/b:2".to_string(),
            &["exporting to image", "exporting manifest DIGEST", "naming to docker.io/a/b:2"],
        ),
        (pushed, &["exporting to image", "pushing layers", "pushing manifest for 127.0.0.1:", "p:1@DIGEST"]),
    ] {
        let (told, digest) = told(&output);
        for text in texts {
            assert!(told.contains(&text.replace("DIGEST", &digest)), "{output}: no {text:?} in\n{told}");
        }
    }
    // Two at once, each for its own target.
    let two = [format!("type=tar,dest={}", out("d.tar")), format!("type=local,dest={}", out("d"))];
    served.build(STEPS, &["-o", &two[0], "-o", &two[1]]).ok();
    assert!(world.path("d.tar").exists() && world.path("d/f").exists());
}

#[test]
fn steps_of_clients_run_on_a_farm() {
    let mut served = Served::new();
    served.running = None;
    let farm = TestFarm::start(2, &[("CROSSDOCK_FARM_CACHE", &served.world.text("worker"))]);
    served.start_with(&["--farm", &farm.address]);
    served.world.file("f", "data");
    assert_eq!(served.result(STEPS, &[], "x"), "1\n");
    assert_eq!(farm.take_requests()["Execute"], 1);
}

#[test]
fn all_doors_give_the_same_image() {
    let served = Served::new();
    let world = &served.world;
    let registry = Registry::start(world);
    world.file("f", "data");
    let platforms = "linux/amd64,linux/arm64";
    let steps = "FROM --platform=$BUILDPLATFORM base AS make\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\nFROM scratch\nCOPY --from=make /arch /arch\nCOPY f /f\n";
    let (own, through) = (registry.image("own:1"), registry.image("through:1"));
    world.build(steps, &["--platform", platforms, "-t", &own, "--push"]).ok();
    let metadata = world.text("metadata.json");
    let args = ["--platform", platforms, "-t", &through, "--push", "--metadata-file", &metadata];
    served.build(steps, &args).ok();
    let metadata: Value = serde_json::from_slice(&std::fs::read(&metadata).expect("written")).expect("JSON");
    assert_eq!(metadata["image.name"], through);
    world.file(
        "../docker-bake.hcl",
        format!(
            "target \"default\" {{\n  context = \"context\"\n  platforms = [\"linux/amd64\", \"linux/arm64\"]\n  tags = [\"{}\"]\n  attest = [\"type=provenance,disabled=true\"]\n}}\n",
            registry.image("baked:1")
        ),
    );
    served.buildx(&["bake", "--progress", "plain", "--push"]).ok();
    world.run(&["bake", "--set", &format!("default.tags={}", registry.image("mine:1")), "--push"]).ok();
    let digest = |name: &str| {
        let raw = served.buildx(&["imagetools", "inspect", "--raw", &registry.image(name)]).ok();
        crossdock_oci::Digest::of(raw.as_bytes()).to_string()
    };
    assert_eq!(metadata["containerimage.digest"], digest("own:1").as_str());
    for name in ["through:1", "baked:1", "mine:1"] {
        assert_eq!(digest(name), digest("own:1"), "{name}");
    }
}

#[test]
fn secrets_contexts_and_standard_input() {
    let served = Served::new();
    let world = &served.world;
    world.file("f", "data").file("secret", "top secret").file("other/n", "named");
    let steps = "FROM base\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /n; cat /run/secrets/s\n";
    let ran = served.build(steps, &["--secret", "id=s,src=context/secret", "-o", &world.text("out")]);
    assert!(!ran.err.contains("top secret"), "a secret must not be shown: {}", ran.err);
    ran.ok();
    assert_eq!(std::fs::read_to_string(world.path("out/n")).expect("written").trim(), "10");
    let required = "FROM base\nRUN --mount=type=secret,id=s,required=true true\n";
    assert!(served.build(required, &[]).fails(1).contains("secret s: not found"));
    let steps = "FROM base\nCOPY --from=c /n /n\n";
    assert_eq!(served.result(steps, &["--build-context", "c=context/other"], "n"), "named");
    served
        .build(
            "FROM base\nRUN echo 1 > /1\n",
            &["-o", &format!("type=oci,tar=false,dest={}", world.text("l"))],
        )
        .ok();
    let layout = format!("b=oci-layout://{}", world.text("l"));
    assert_eq!(served.result("FROM b\nRUN cat /1 > /2\n", &["--build-context", &layout], "2"), "1\n");
    // A Dockerfile, then an archive with one, on standard input.
    let piped = |input: &[u8]| {
        let mut command = served.command(&["build", "--progress", "plain", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        child.stdin.take().expect("piped").write_all(input).expect("taken");
        Ran::from(child.wait_with_output().expect("ends"))
    };
    piped(b"FROM base\nRUN true\n").ok();
    world.file("Dockerfile", "FROM base\nCOPY f /f\n");
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all("", world.path("context")).expect("packed");
    piped(&archive.into_inner().expect("packed")).ok();
    world.file(".dockerignore", "*\n!f\n");
    let seen = served.result("FROM base\nCOPY . /all\nRUN ls /all > /l\n", &[], "l");
    assert_eq!(seen, "f\n", "the ignore file holds");
    // The same context again, with another file and without one.
    world.file(".dockerignore", "");
    std::fs::remove_file(world.path("context/f")).expect("removed");
    let seen = served.result("FROM base\nCOPY . /all\nRUN ls /all > /l\n", &[], "l");
    assert!(seen.contains("secret") && !seen.lines().any(|name| name == "f"), "{seen}");
}

#[test]
fn only_what_a_build_reads_is_sent() {
    let served = Served::new();
    let world = &served.world;
    world.file("f", "data").file("late", "later").file("d/g", "deep").file("unread", "nobody reads this");
    std::os::unix::fs::symlink("d/g", world.path("context/link")).expect("a link");
    let sent = |text: &str| grep(&world.store().join("buildkit/contexts"), text.as_bytes()).len();
    assert_eq!(served.result("FROM base\nCOPY f d* /x/\n", &[], "x/g"), "deep");
    assert_eq!((sent("deep"), sent("nobody reads this")), (1, 0));
    assert_eq!(served.result("FROM base\nCOPY link /l\n", &[], "l"), "deep", "what a link leads to");
    let missing = served.build("FROM base\nCOPY f g /x/\n", &[]).fails(1);
    assert!(missing.contains("\"/g\": not found"), "{missing}");
    assert_eq!(sent("nobody reads this"), 0);
    // A trigger of the base reads more than the Dockerfile says.
    world.build("FROM base\nONBUILD COPY late /late\n", &["-t", "trigger:1"]).ok();
    assert_eq!(served.result("FROM trigger:1\nCOPY f /f\n", &[], "late"), "later");
    let named = ["--build-context", "n=context"];
    assert_eq!(served.result("FROM base\nARG X=late\nCOPY --from=n $X /n\n", &named, "n"), "later");
}

#[test]
fn policies_for_sources_hold() {
    let served = Served::new();
    let world = &served.world;
    world.file("f", "data");
    let policy = |action: &str, identifier: &str, to: &str| {
        let rule = serde_json::json!({
            "action": action,
            "selector": { "identifier": identifier },
            "updates": { "identifier": to },
        });
        world.file("../policy.json", serde_json::json!({ "rules": [rule] }).to_string());
    };
    let build = |steps: &str| {
        world.file("Dockerfile", steps);
        let mut command = served.command(&["build", "--progress", "plain", "-o", "out", "context"]);
        command.env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", world.path("policy.json"));
        Ran::from(command.output().expect("buildx runs"))
    };
    for (identifier, steps) in [
        ("docker-image://docker.io/library/base:*", "FROM base\nRUN true\n"),
        ("docker-image://docker.io/library/base:latest", "FROM scratch\nCOPY --from=base /bin/sh /sh\n"),
        ("https://example.invalid/*", "FROM scratch\nADD https://example.invalid/f /f\n"),
        ("git://example.invalid/*", "FROM scratch\nADD https://example.invalid/a.git#main /f\n"),
        ("local://context", "FROM scratch\nCOPY f /f\n"),
    ] {
        policy("DENY", identifier, "");
        let answer = build(steps).fails(1);
        assert!(answer.contains("denied by policy"), "{identifier}: {answer}");
    }
    world.build("FROM base\nRUN echo other > /which\n", &["-t", "other:1"]).ok();
    policy(
        "CONVERT",
        "docker-image://docker.io/library/base:latest",
        "docker-image://docker.io/library/other:1",
    );
    build("FROM base\nRUN true\n").ok();
    assert_eq!(std::fs::read_to_string(world.path("out/which")).expect("written"), "other\n");
    policy("CONVERT", "docker-image://docker.io/library/base:latest", "local://context");
    let answer = build("FROM base\nRUN true\n").fails(1);
    assert!(answer.contains("which is something else"), "{answer}");
}

#[test]
fn a_failed_step_opens_a_shell_in_its_container() {
    let served = Served::new();
    served
        .world
        .file("Dockerfile", "FROM base\nRUN mkdir /job\nWORKDIR /job\nRUN echo half > made; exit 3\n");
    let args = ["debug", "--on", "error", "build", "--progress", "plain", "context"];
    let mut command = served.command(&args);
    command.env("BUILDX_EXPERIMENTAL", "1");
    let terminal = OnTerminal::start_whole(command, 120, 50);
    terminal.until("/ # ");
    // The answers differ from what is typed, which the terminal shows, too.
    terminal.type_in("cd /job; echo it is $(cat made) done\n");
    terminal.until("it is half done");
    terminal.type_in("echo more >> made; tr a-z A-Z < made\n");
    terminal.until("MORE");
    terminal.type_in("exit\n");
    terminal.until("(buildx)");
    terminal.type_in("exit\n");
    let shown = terminal.fails(1);
    assert!(shown.contains("exit code: 3"), "{shown}");
}

#[test]
fn lists_of_packages_are_about_stages_and_the_context_too() {
    let served = Served::new();
    let world = &served.world;
    let registry = Registry::start(world);
    let package = |name: &str| format!("{{\"name\":\"{name}\",\"version\":\"1\"}}");
    world.file("p", package("left")).file("node_modules/mine/package.json", package("mine"));
    let steps = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM base AS tool\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n\
                 COPY p /a/node_modules/left/package.json\nFROM scratch\nCOPY --from=tool /bin/sh /sh\n";
    let (through, baked, own) =
        (registry.image("through:1"), registry.image("baked:1"), registry.image("own:1"));
    served.build(steps, &["--sbom=true", "-t", &through, "--push"]).ok();
    let bake = |name: &str| {
        world.file(
            "../docker-bake.hcl",
            format!(
                "target \"default\" {{\n  context = \"context\"\n  tags = [\"{name}\"]\n  attest = [\"type=sbom\"]\n}}\n"
            ),
        );
    };
    bake(&baked);
    served.buildx(&["bake", "--progress", "plain", "--push"]).ok();
    bake(&own);
    world.run(&["bake", "--push"]).ok();
    let format = "{{range .SBOM.AdditionalSPDXs}}{{.name}}:{{range .packages}} {{.name}}{{end}};{{end}}";
    for name in [&through, &baked, &own] {
        let listed = served.buildx(&["imagetools", "inspect", name, "--format", format]).ok();
        let documents: Vec<&str> = listed.trim().split_terminator(';').collect();
        assert_eq!(documents.len(), 2, "{name}: {listed}");
        for (document, (of, has)) in documents.iter().zip([("sbom-tool", "left"), ("sbom-context", "mine")]) {
            assert!(document.starts_with(&format!("{of}: ")) && document.contains(has), "{name}: {listed}");
        }
    }
}

#[test]
fn a_container_of_blobs_keeps_a_clients_cache() {
    let service = TestContainers::start();
    let cache = format!("type=azblob,account_url={},secret_access_key={ACCOUNT_KEY}", service.url());
    let (from, to) = (["--cache-from", &cache], ["--cache-to", &format!("{cache},mode=max")]);
    let steps = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
    let (first, second) = (Served::new(), Served::new());
    let id = first.result(steps, &[from, to].concat(), "id");
    assert_eq!(second.result(steps, &from, "id"), id);
    assert_eq!(service.keys().len(), 2, "{:?}", service.keys());
    for served in [&first, &second] {
        assert_eq!(grep(&served.world.store(), ACCOUNT_KEY.as_bytes()), Vec::<PathBuf>::new());
        let history = served.buildx(&["history", "inspect", "--format", "json"]).ok();
        assert!(!history.contains(ACCOUNT_KEY), "{history}");
    }
}

#[test]
fn errors_show_where_they_are() {
    let served = Served::new();
    let failed = served.build("FROM base\nRUN echo before; exit 3\n", &[]);
    assert!(
        failed.err.contains("exit code: 3") && failed.err.contains(">>> RUN echo before"),
        "{}",
        failed.err
    );
    assert!(served.build("FROM base\nRUNN x\n", &[]).fails(1).contains(">>> RUNN x"));
    assert!(served.build("FROM base\nCOPY nothing /\n", &[]).fails(1).contains("nothing"));
    assert!(served.build("FROM base\n", &["--target", "x"]).fails(1).contains("\"x\" could not be found"));
    let answer = served.build("FROM base\nRUN --security=insecure true\n", &[]).fails(1);
    assert!(answer.contains("security.insecure"), "{answer}");
    let lint = served.build("FROM base AS Upper\nRUN true\n", &[]);
    assert!(lint.err.contains("StageNameCasing"), "{}", lint.err);
    lint.ok();
    served.build("FROM base AS Upper\n", &["--check"]).fails(1);
    assert!(served.build(STEPS, &["--call", "outline"]).ok().contains('X'));
    let asked = |what: &str| -> Value {
        let answer = served.build(STEPS, &["--call", &format!("{what},format=json")]).ok();
        serde_json::from_str(&answer).expect("JSON")
    };
    let targets = asked("targets");
    assert_eq!(targets["targets"].as_array().map(Vec::len), Some(2));
    // Members that say nothing are not there, as with BuildKit.
    let members = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&targets["targets"][0]), ["name", "base", "location"]);
    assert_eq!(members(&targets["targets"][1]), ["default", "base", "location"]);
    let outline = asked("outline");
    assert_eq!(members(&outline), ["args", "sources"]);
    assert_eq!(members(&outline["args"][0]), ["name", "location", "value"]);
}

#[test]
fn errors_are_told_in_the_words_of_buildkit() {
    let served = Served::new();
    for (steps, args, expected) in [
        (
            "FROM base\nCOPY sub/nothing /\n",
            &[][..],
            "failed to compute cache key: failed to calculate checksum of ref the-build-context: \"/sub/nothing\": not found",
        ),
        ("FROM base AS build\n", &["--target", "bulid"], "could not be found (did you mean build?)"),
        ("FROM base\nCOPY --form=x / /\n", &[], "unknown flag: --form (did you mean from?)"),
        ("FROM base\nNONSENSE\n", &[], "dockerfile parse error on line 2: unknown instruction: NONSENSE"),
        (
            "FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nFROM a\n",
            &[],
            "it needs to be defined before current stage",
        ),
        (
            "# syntax=example.com/other/frontend\nFROM base\n",
            &[],
            "the frontend example.com/other/frontend is not run",
        ),
    ] {
        let answer = served.build(steps, args).fails(1);
        assert!(answer.contains(expected), "{steps}: {answer}");
    }
    served.build("# syntax=docker/dockerfile:1\nFROM base\nRUN true\n", &[]).ok();
    // Every line of an instruction is marked.
    let failed = served.build("FROM base\nRUN exit \\\n 3\n", &[]);
    assert_eq!(failed.err.matches(">>>").count(), 2, "{}", failed.err);
}

#[test]
fn a_build_warns_of_what_it_uses_and_takes_what_it_reads() {
    let served = Served::new();
    served.world.file("f", "data");
    let steps = "FROM base AS other\nENV old form\nFROM base AS Upper\nRUN true\n";
    let built = served.build(steps, &[]);
    assert_eq!(built.err.matches("StageNameCasing: Stage name").count(), 1, "{}", built.err);
    assert!(!built.err.contains("LegacyKeyValueFormat"), "the stage is not built: {}", built.err);
    assert!(!built.err.contains("load build context"), "nothing reads the context: {}", built.err);
    assert!(built.err.contains("[upper 2/2] RUN true"), "{}", built.err);
    built.ok();
    let built = served.build("FROM scratch\nCOPY --chmod=0600 f /f\n", &[]);
    assert!(built.err.contains("load build context"), "{}", built.err);
    assert!(built.err.contains("[1/1] COPY --chmod=0600 f /f"), "{}", built.err);
    built.ok();
    let name = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=judge"];
    let steps = "FROM base\nRUN grep -c judge /etc/hosts > /n; hostname >> /n\n";
    assert_eq!(served.result(steps, &name, "n"), "1\njudge\n");
    // The name counts for the cache.
    assert_ne!(served.result(steps, &[], "n"), "1\njudge\n");
}

#[test]
fn rights_of_clients_can_be_denied() {
    let mut served = Served::new();
    let steps = "FROM base\nRUN --security=insecure true\n";
    served.build(steps, &["--allow", "security.insecure"]).ok();
    served.running.take().expect("it runs").kill();
    served.start_with(&["--deny-entitlement", "security.insecure"]);
    let answer = served.build(steps, &["--allow", "security.insecure"]).fails(1);
    assert!(answer.contains("granting entitlement security.insecure is not allowed"), "{answer}");
    served.build("FROM base\nRUN true\n", &["--allow", "network.host"]).ok();
}

#[test]
fn caches_go_to_other_builders_and_come_back() {
    let served = Served::new();
    let registry = Registry::start(&served.world);
    served.world.file("f", "data");
    let steps = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
    let cache = registry.image("cache:1");
    let local = served.world.text("cache");
    let first = served.result(
        steps,
        &[
            "--cache-to",
            &format!("type=registry,ref={cache},mode=max"),
            "--cache-to",
            &format!("type=local,dest={local},mode=max"),
        ],
        "id",
    );
    for from in [format!("type=registry,ref={cache}"), format!("type=local,src={local}")] {
        let other = Served::new();
        assert_eq!(other.result(steps, &["--cache-from", &from], "id"), first, "{from}");
    }
    let image = registry.image("inline:1");
    served.build(steps, &["--cache-to", "type=inline", "-t", &image, "--push"]).ok();
    let other = Served::new();
    assert_eq!(other.result(steps, &["--cache-from", &image], "id"), first, "inline");
}

#[test]
fn the_cache_of_a_job_is_used_with_the_clients_token() {
    let service = ActionsService::start();
    let build = |served: &Served| {
        served.world.file("Dockerfile", "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n");
        let cache = ["--cache-from", "type=gha,scope=x", "--cache-to", "type=gha,mode=max,scope=x"];
        let out = served.world.text("out");
        let args = [&["build", "--progress", "plain", "-o", &out], &cache[..], &["context"]].concat();
        let mut command = served.command(&args);
        command.env("ACTIONS_RUNTIME_TOKEN", TOKEN).env("ACTIONS_CACHE_SERVICE_V2", "true");
        command.env("ACTIONS_CACHE_URL", service.url()).env("ACTIONS_RESULTS_URL", service.url());
        let built = Ran::from(command.output().expect("buildx runs"));

        assert!(!built.err.contains(TOKEN), "{}", built.err);
        built.ok();
        std::fs::read_to_string(served.world.path("out/id")).expect("a file of the result")
    };
    let (first, second) = (Served::new(), Served::new());
    let id = build(&first);
    assert_eq!(build(&second), id);
    assert!(service.requests().iter().any(|request| request.contains("/twirp/")));
    for served in [&first, &second] {
        assert_eq!(grep(&served.world.store(), TOKEN.as_bytes()), Vec::<PathBuf>::new());
        let history = served.buildx(&["history", "inspect", "--format", "json"]);
        assert!(!history.out.contains(TOKEN), "{}", history.out);
        history.ok();
    }
}

#[test]
fn a_private_repository_is_opened_by_the_clients_secret() {
    let repository = Repository::new();
    let host = serve_to(repository.world.path("served"), Some(BASIC));
    let address = format!("http://{host}/app.git#main");
    let served = Served::new();
    let build = |secret: &[&str]| {
        let out = served.world.text("out");
        let args = [&["build", "--progress", "plain", "-o", &out], secret, &[&address]].concat();
        let mut command = served.command(&args);
        command.env("TOKEN", "hunter2");
        Ran::from(command.output().expect("buildx runs"))
    };
    build(&["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"]).ok();
    let file = std::fs::read_to_string(served.world.path("out/src/sub/f"));
    assert_eq!(file.expect("a file of the result"), "second\n");
    build(&[]).fails_with(&["--secret id=GIT_AUTH_TOKEN"]);
    assert_eq!(grep(&served.world.store(), b"hunter2"), Vec::<PathBuf>::new());
}

#[test]
fn linked_targets_are_built_once() {
    let served = Served::new();
    served.world.file("Dockerfile", "FROM base AS lib\nRUN cat /proc/sys/kernel/random/uuid > /id\n");
    served.world.file(
        "../docker-bake.hcl",
        "group \"default\" {\n  targets = [\"a\", \"b\"]\n}\ntarget \"lib\" {\n  context = \"context\"\n}\ntarget \"a\" {\n  context = \"context\"\n  contexts = { lib = \"target:lib\" }\n  dockerfile-inline = \"FROM lib\\nRUN true\\n\"\n  output = [\"out-a\"]\n}\ntarget \"b\" {\n  context = \"context\"\n  contexts = { lib = \"target:lib\" }\n  dockerfile-inline = \"FROM scratch\\nCOPY --from=lib /id /id\\n\"\n  output = [\"out-b\"]\n}\n",
    );
    let allow = format!("fs={}", served.world.directory.path().display());
    served.buildx(&["bake", "--progress", "plain", "--allow", &allow]).ok();
    let id = |name: &str| std::fs::read_to_string(served.world.path(name)).expect("a file of the result");
    assert_eq!(id("out-a/id"), id("out-b/id"));
}

#[test]
fn history_usage_and_attestations() {
    let served = Served::new();
    let registry = Registry::start(&served.world);
    let image = registry.image("a:1");
    served.world.file("Dockerfile", "FROM base\nRUN echo told by the step\n");
    let args =
        ["build", "--progress", "plain", "--provenance=mode=max", "--sbom=true", "-t", &image, "--push"];
    served.buildx(&[&args[..], &["context"]].concat()).ok();
    let provenance =
        served.buildx(&["imagetools", "inspect", &image, "--format", "{{json .Provenance}}"]).ok();
    let provenance: Value = serde_json::from_str(&provenance).expect("JSON");
    assert!(provenance["SLSA"]["buildDefinition"].is_object(), "{provenance}");
    let packages = served.buildx(&["imagetools", "inspect", &image, "--format", "{{json .SBOM}}"]).ok();
    assert!(packages.contains("SPDX"), "{packages}");
    let ls = served.buildx(&["history", "ls", "--format", "{{.Ref}} {{.Status}}"]).ok();
    let reference = ls.split_whitespace().next().expect("a build").rsplit('/').next().expect("a name");
    assert!(ls.contains("Completed"), "{ls}");
    let logs = served.buildx(&["history", "logs", "--progress", "plain", reference]);
    assert!(format!("{}{}", logs.out, logs.err).contains("told by the step"), "{}", logs.err);
    let inspected = served.buildx(&["history", "inspect", reference]).ok();
    assert!(inspected.contains("https://slsa.dev/provenance/v1"), "{inspected}");
    let attached =
        served.buildx(&["history", "inspect", "attachment", "--type", "provenance", reference]).ok();
    let attached: Value = serde_json::from_str(&attached).expect("JSON");
    assert!(attached["buildDefinition"]["resolvedDependencies"].is_array(), "{attached}");
    served.buildx(&["history", "export", "-o", &served.world.text("a.dockerbuild"), reference]).ok();
    let exported = std::fs::read(served.world.path("a.dockerbuild")).expect("an archive");
    let mut exported = tar::Archive::new(flate2::read::GzDecoder::new(&exported[..]));
    let blobs = exported.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    let blobs = blobs.filter(|entry| entry.path().expect("a path").starts_with("blobs/sha256")).count();
    assert!(blobs >= 5, "manifest, record, log, provenance and index: {blobs}");
    assert!(served.buildx(&["du"]).ok().contains("Total"));
    served.buildx(&["history", "rm", reference]).ok();
    served.buildx(&["prune", "-af"]).ok();
    served.build("FROM base\nRUN true\n", &[]).ok();
}

#[test]
fn only_what_a_filter_takes_is_listed_and_pruned() {
    let served = Served::new();
    served.world.file("f", "data");
    let steps = "FROM base\nCOPY f /f\nRUN --mount=type=cache,target=/c cat /proc/sys/kernel/random/uuid > /id; cp /id /c/kept\n";
    let id = served.result(steps, &[], "id");
    let listed = |filter: &[&str]| {
        let all = served.buildx(&[&["du", "--format", "{{.ID}} {{.Type}}"], filter].concat()).ok();
        let lines = all.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(id, kind)| (id.to_string(), kind.to_string())).collect::<Vec<_>>()
    };
    let kinds = |filter: &[&str]| {
        listed(filter).into_iter().map(|(_, kind)| kind).collect::<std::collections::BTreeSet<_>>()
    };
    let all: Vec<&str> = vec!["exec.cachemount", "regular", "source.local"];
    assert_eq!(kinds(&[]).into_iter().collect::<Vec<_>>(), all);
    for kind in &all {
        let filter = format!("type={kind}");
        assert_eq!(kinds(&["--filter", &filter]).into_iter().collect::<Vec<_>>(), [*kind]);
    }
    let (one, _) = listed(&["--filter", "type=regular"]).remove(0);
    assert_eq!(listed(&["--filter", &format!("id={one}")]).len(), 1);
    let prune = |filter: &str| served.buildx(&["prune", "-f", "--filter", filter]).ok();
    assert!(prune("id=nothing").contains("0B"));
    prune("type=source.local");
    assert_eq!(kinds(&[]).into_iter().collect::<Vec<_>>(), all[..2]);
    prune("type=exec.cachemount");
    assert_eq!(kinds(&[]).into_iter().collect::<Vec<_>>(), all[1..2]);
    assert_eq!(served.result(steps, &[], "id"), id, "steps are known as before");
    let before = listed(&["--filter", "type=regular"]);
    prune(&format!("id={one}"));
    let left = listed(&["--filter", "type=regular"]);
    assert_eq!(left.len(), before.len() - 1);
    assert!(left.iter().all(|(id, _)| *id != one));
    served.buildx(&["prune", "-f", "--filter", "type==x"]).fails_with(&["filters: parse error"]);
}

/// Processes whose command line has the text.
fn processes_with(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let has = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.windows(text.len()).any(|part| part == text.as_bytes())
    };
    all.filter(has).count()
}

#[test]
fn a_client_that_goes_away_ends_its_build() {
    let served = Served::new();
    // The number is the mark of this test's command.
    let number = format!("86{:06}", std::process::id() % 1_000_000);
    served.world.file("Dockerfile", format!("FROM base\nRUN echo begun; sleep {number}\n"));
    for delay in [0, 20, 50, 100, 200, 300, 500] {
        let mut command = served.command(&["build", "--no-cache", "--progress", "plain", "context"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("buildx starts");
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while processes_with(&format!("sleep\0{number}")) > 0 {
        assert!(Instant::now() < deadline, "a command of a client that has gone still runs");
        std::thread::sleep(Duration::from_millis(50));
    }
    served.build("FROM base\nRUN true\n", &[]).ok();
}

#[test]
fn bad_clients_do_no_harm() {
    let served = Served::new();
    let socket = served.world.path("run/crossdock.sock");
    let connect = || UnixStream::connect(&socket).expect("it listens");
    // Nothing, half a preface, noise, a preface and noise, a frame that claims 16 MB.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let frame = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for bytes in [
        &b""[..],
        &preface[..10],
        &noise,
        &[&preface[..], &noise].concat(),
        &[&preface[..], &settings, &frame].concat(),
    ] {
        let mut stream = connect();
        // The server may have closed the connection already.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let idle: Vec<UnixStream> = (0..200).map(|_| connect()).collect();
    served.build("FROM base\nRUN true\n", &[]).ok();
    drop(idle);
    let second = served.world.run(&["serve", "--buildkit"]).fails(1);
    assert!(second.contains("another server listens there"), "{second}");
    let open = served.world.run(&["serve", "--buildkit", "tcp://0.0.0.0:0"]).fails(1);
    assert!(open.contains("--tls-cert"), "{open}");
}

#[test]
fn a_context_may_change_while_it_is_sent() {
    let served = Served::new();
    for number in 0..200 {
        served.world.file(&format!("many/{number}"), "x".repeat(1000));
    }
    served.world.file("Dockerfile", "FROM scratch\nCOPY . /\n");
    let many = served.world.path("context/many");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Files grow, shrink, come, go, and become directories, until the builds are over.
        threads.spawn(|| {
            for round in 0.. {
                if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let path = many.join((round % 200).to_string());
                // What one round makes, another may find in its way.
                let _ = match round % 5 {
                    0 => std::fs::write(&path, "y".repeat(100_000)),
                    1 => std::fs::write(&path, ""),
                    2 => std::fs::remove_file(&path),
                    3 => std::fs::remove_file(&path).and_then(|()| std::fs::create_dir(&path)),
                    _ => std::fs::rename(&path, many.join("moved")),
                };
            }
        });
        for _ in 0..10 {
            let ran = served.buildx(&["build", "--progress", "plain", "-o", "out", "context"]);
            assert!(matches!(ran.code, Some(0 | 1)), "{:?}: {}", ran.code, ran.err);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    std::fs::remove_dir_all(&many).expect("removed");
    for number in 0..3 {
        served.world.file(&format!("many/{number}"), number.to_string());
    }
    assert_eq!(served.result("FROM scratch\nCOPY many /\n", &[], "2"), "2");
    let left = std::fs::read_dir(served.world.path("out")).expect("the result").count();
    assert_eq!(left, 3, "nothing of earlier contexts is in the result");
}

#[test]
fn a_server_that_was_killed_loses_nothing_that_was_finished() {
    let mut served = Served::new();
    let steps = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
    let first = served.result(steps, &[], "id");
    served.running.take().expect("it runs").kill();
    served.start();
    assert_eq!(served.result(steps, &[], "id"), first);
    assert!(served.buildx(&["history", "ls"]).ok().contains("Completed"));
}

#[test]
fn two_clients_share_a_step() {
    let served = Served::new();
    served.world.file("Dockerfile", "FROM base\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /id\n");
    let build = |name: &str| {
        let mut command = served.command(&["build", "--progress", "plain", "-o", name, "context"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("buildx starts")
    };
    let mut both = ["one", "two"].map(build);
    assert!(both.iter_mut().all(|child| child.wait().expect("it ends").success()));
    let id = |name: &str| std::fs::read_to_string(served.world.path(name)).expect("a file of the result");
    assert_eq!(id("one/id"), id("two/id"));
}

#[test]
fn a_builder_on_another_machine_needs_no_server() {
    let served = Served::new();
    // In the place of ssh: runs the command of the other machine here, with a store of its own.
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != buildctl ]; do shift; done\nshift\nexec env -u XDG_RUNTIME_DIR {} --root {} buildctl \"$@\"\n",
        env!("CARGO_BIN_EXE_crossdock"),
        served.world.text("other"),
    );
    let ssh = served.world.path("bin/ssh");
    std::fs::create_dir_all(ssh.parent().expect("a parent")).expect("a directory");
    std::fs::write(&ssh, script).expect("a file");
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    served.buildx(&["create", "--name", "far", "--driver", "remote", "ssh://somebody@somewhere"]).ok();
    served.world.file("Dockerfile", "FROM scratch\nCOPY f /f\n").file("f", "data");
    let mut command =
        served.command(&["build", "--builder", "far", "--progress", "plain", "-o", "out", "context"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", served.world.text("bin")));
    Ran::from(command.output().expect("buildx runs")).ok();
    assert_eq!(std::fs::read_to_string(served.world.path("out/f")).expect("written"), "data");
}
