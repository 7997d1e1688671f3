//! What a person sees while a build runs: live lines on a terminal, and the events of `--progress json`.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Registry, World, eventually};
use crate::terminal::OnTerminal;

/// A step that runs until [`Gate::open`] is called.
struct Gate(TcpListener);

impl Gate {
    fn new() -> Gate {
        Gate(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// The shell's command that waits.
    fn wait(&self) -> String {
        format!("nc 127.0.0.1 {}", self.0.local_addr().expect("bound").port())
    }

    /// Ends the wait of one step, after the step has begun it.
    fn open(&self) {
        drop(self.0.accept().expect("the step connects"));
    }
}

#[test]
fn a_terminal_shows_running_waiting_and_output() {
    let world = World::with_base();
    let gate = Gate::new();
    // Escape sequences that clear the screen, set the title and go elsewhere must have no effect.
    let noise = r"\033[2J\033[5;5Hhere\033]0;title\007 10%%\r20%%\r30%%\r";
    let dockerfile = format!(
        "FROM base AS long\nRUN echo first; printf '{noise}'; echo; echo 日本語日本語日本語日本語日本語日本語日本語; {}\n\
         FROM base\nCOPY --from=long /bin/sh /copy\n",
        gate.wait()
    );
    let running = OnTerminal::start(world.building(&dockerfile, &["--progress", "tty"]), 90, 24);
    running.until("   │ first");
    running.until("waits for stage long");
    running.until("1 waiting");
    running.until("日本語日本語");
    let shown = running.shown();
    let lines: Vec<&str> = shown.lines().collect();
    let head = lines.iter().position(|line| line.starts_with("[+] ")).expect("a head line");
    assert!(lines[head].contains("2 of 4 steps") && lines[head].contains("1 running"), "{shown}");
    let run = lines.iter().position(|line| line.contains("[long 2/2] RUN")).expect("a step");
    assert_eq!(lines[run + 1], "   │ first", "output is below its step: {shown}");
    assert!(shown.contains("│ 30%") && !shown.contains("│ 10%") && !shown.contains("│ 20%"), "{shown}");
    gate.open();
    let shown = running.finish("[+] done in");
    let lines: Vec<&str> = shown.lines().collect();
    let closing = lines.iter().find(|line| line.starts_with("[+] done in")).expect("a closing line");
    assert!(closing.contains(": 4 steps, 4 executed, 0 cached"), "{shown}");
    let is_final = |line: &&str| [" => ", "built ", "[+] done"].iter().any(|start| line.starts_with(start));
    assert!(lines.iter().all(is_final), "{shown}");
    assert!(!shown.contains("│"), "{shown}");
}

#[test]
fn a_resize_leaves_no_rubbish() {
    let world = World::with_base();
    let gate = Gate::new();
    let dockerfile =
        format!("FROM base\nRUN echo {} && {}\nRUN echo {}\n", "wide ".repeat(30), gate.wait(), gate.wait());
    let building = world.building(&dockerfile, &["--progress", "tty", "--no-cache"]);
    // This screen does not wrap lines anew, as xterm does not.
    let running = OnTerminal::start(building.env("XTERM_VERSION", "XTerm(379)"), 100, 24);
    running.until("   │ wide wide");
    for (columns, rows) in [(50, 24), (30, 12), (120, 30)] {
        running.resize(columns, rows);
        // A frame of the new width has been drawn when the times at the right end are there.
        let is_drawn = || {
            let shown = running.shown();
            let step = shown.lines().find(|line| line.contains("2/3] RUN")).map(str::to_string);
            step.is_some_and(|line| line.ends_with('s') && line.chars().count() == usize::from(columns) - 1)
        };
        eventually(&format!("a frame of {columns} columns"), is_drawn);
        let shown = running.shown();
        let heads = shown.lines().filter(|line| line.starts_with("[+]")).count();
        let runs = shown.lines().filter(|line| line.contains("2/3] RUN")).count();
        assert_eq!((heads, runs), (1, 1), "{columns}:\n{shown}");
    }
    gate.open();
    let shown = running.finish("[+] done in");
    assert_eq!(shown.lines().filter(|line| line.starts_with("[+]")).count(), 1, "{shown}");
}

#[test]
fn colours_are_left_out_on_request() {
    let world = World::with_base();
    for (value, has_colours) in [("", true), ("1", false)] {
        let building = world.building("FROM base\nRUN echo hello\n", &["--progress", "tty", "--no-cache"]);
        let running = OnTerminal::start(building.env("NO_COLOR", value), 80, 24);
        running.until("[+] done in");
        let formatted = running.formatted();
        assert_eq!(formatted.contains("\u{1b}[32"), has_colours, "{formatted:?}");
        running.finish("[+] done in");
    }
}

#[test]
fn a_failed_step_shows_its_last_lines() {
    let world = World::with_base();
    let building =
        world.building("FROM base\nRUN echo the cause; printf '50%%\\r'; exit 3\n", &["--progress", "tty"]);
    let mut running = OnTerminal::start(building, 80, 24);
    assert_eq!(running.child.wait().expect("it ends").code(), Some(1));
    running.until("error: failed to build");
    let shown = running.shown();
    assert!(shown.contains(" => ERROR [2/2] RUN echo") && shown.contains("    the cause"), "{shown}");
    assert!(shown.contains("[+] failed after"), "{shown}");
}

/// The events of a build.
#[track_caller]
fn events(world: &World, dockerfile: &str, args: &[&str]) -> Vec<Value> {
    let ran = world.building(dockerfile, &[&["--progress", "json"], args].concat()).run();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    let events = ran.err.lines().map(parse).collect();
    ran.ok();
    events
}

/// Why each step of a build was executed: the text of its `missed`, in the order of the steps.
#[track_caller]
fn reasons(world: &World, dockerfile: &str, args: &[&str]) -> Vec<String> {
    let events = events(world, dockerfile, args);
    let missed = events.iter().filter(|event| event["event"] == "missed");
    missed.map(|event| event["reason"].as_str().expect("a text").to_string()).collect()
}

#[test]
fn a_miss_names_what_has_changed() {
    let world = World::with_base();
    let of = |version: &str, command: &str| {
        format!(
            "FROM base\nARG VERSION\nENV V={version}\nCOPY src /src\nRUN {command} > /out\nRUN true > /last\n"
        )
    };
    world.file("src/a", "1");
    let base = "what the step builds on";
    let first = reasons(&world, &of("1", "cat /src/a"), &[]);
    assert!(first.len() == 3 && first.iter().all(|reason| reason.contains("new")), "{first:?}");
    assert!(reasons(&world, &of("1", "cat /src/a"), &[]).is_empty());
    world.file("src/a", "2");
    let changed = format!("changed: {base}");
    assert_eq!(reasons(&world, &of("1", "cat /src/a"), &[]), ["changed: files in src", &changed, &changed]);
    assert_eq!(reasons(&world, &of("2", "cat /src/a"), &[]), ["changed: $V", &format!("{changed}, $V")]);
    let args = ["--build-arg", "VERSION=3"];
    let with_argument = reasons(&world, &of("2", "cat /src/a"), &args);
    assert_eq!(with_argument, ["changed: $VERSION", &format!("{changed}, $VERSION")]);
    let other = reasons(&world, &of("2", "cat /src/a /src/a"), &[]);
    assert!(other.len() == 2 && other[0].contains("new") && other[1].starts_with(&changed), "{other:?}");
    let asked = reasons(&world, &of("2", "cat /src/a"), &["--no-cache"]);
    assert!(asked.len() == 3 && asked.iter().all(|reason| reason.contains("--no-cache")), "{asked:?}");
}

#[test]
fn events_have_digests_inputs_and_layers() {
    let world = World::with_base();
    let dockerfile = "FROM base AS one\nRUN echo 1 > /one\nFROM base\nCOPY --from=one /one /\nRUN true\n";
    let events = events(&world, dockerfile, &["--platform", "linux/amd64"]);
    let step = |name: &str| {
        let is_it =
            |e: &&Value| e["event"] == "started" && e["command"].as_str().is_some_and(|c| c.contains(name));
        events.iter().find(is_it).unwrap_or_else(|| panic!("{name}"))["step"].clone()
    };
    let of = |event: &str, step: &Value| {
        events.iter().find(|e| e["event"] == event && e["step"] == *step).cloned().unwrap_or_default()
    };
    let (run, copy, last) = (step("RUN echo 1"), step("COPY"), step("RUN true"));
    let inputs = of("keyed", &copy)["inputs"].clone();
    assert!(inputs.as_array().is_some_and(|all| all.len() == 2 && all.contains(&run)), "{inputs}");
    assert_eq!(of("keyed", &last)["inputs"], serde_json::json!([copy]));
    assert!(of("keyed", &run)["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
    let packed = of("packed", &copy);
    assert!(packed["size"].as_u64().is_some_and(|size| size > 0), "{packed}");
    assert!(packed["unpacked_size"].as_u64() > packed["size"].as_u64(), "{packed}");
    assert_eq!(of("packing", &last), Value::Null, "nothing was changed");
    assert_eq!(of("packing", &run), Value::Null, "the image has no layer of this stage");
    let started = of("started", &run);
    assert_eq!(
        (&started["emulated"], &started["stage"], &started["line"]),
        (&false.into(), &"one".into(), &2.into())
    );
    let planned: u64 = events.iter().filter_map(|e| e["steps"].as_u64()).sum();
    let begun = events.iter().filter(|e| e["event"] == "started").count();
    assert_eq!(planned, begun as u64);
}

#[test]
fn native_steps_of_a_cross_build_name_both_platforms() {
    let world = World::with_base();
    let dockerfile = "FROM --platform=$BUILDPLATFORM base AS build\nARG TARGETARCH\nRUN echo $TARGETARCH > /for\n\
                      FROM scratch\nCOPY --from=build /for /\n";
    let built = world.build(dockerfile, &["--platform", "linux/arm64"]);
    assert!(built.err.contains("[linux/amd64->arm64 build 2/2] RUN"), "{}", built.err);
    assert!(built.err.contains("[stage-1 1/1] COPY"), "{}", built.err);
    built.ok();
    let built = world.build(dockerfile, &["--platform", "linux/amd64,linux/arm/v7"]);
    assert!(built.err.contains("[linux/amd64->arm/v7 build 2/2] RUN"), "{}", built.err);
    assert!(built.err.contains("[linux/amd64 build 2/2] RUN"), "{}", built.err);
    assert!(built.err.contains("[linux/arm/v7 stage-1 1/1] COPY"), "{}", built.err);
    built.ok();
}

#[test]
fn a_secret_is_in_no_event() {
    let world = World::with_base();
    world.file("token", "hunter2-hunter2");
    world.give();
    let dockerfile =
        "FROM base\nRUN --mount=type=secret,id=t printf 'a\\rhunter2-hunter2\\r'; cat /run/secrets/t\n";
    let secret = format!("id=t,src={}", world.text("context/token"));
    let ran = world.building(dockerfile, &["--secret", &secret, "--progress", "json"]).run();
    assert!(!ran.err.contains("hunter2-hunter2") && ran.err.contains("***"), "{}", ran.err);
    ran.ok();
}

#[test]
fn pull_shows_that_it_unpacks() {
    let world = World::with_base();
    let registry = Registry::start(&world);
    let name = registry.image("base:1");
    world.run(&["push", "base", &name]).ok();
    let fresh = World::new();
    let pulled = fresh.run(&["pull", &name]);
    assert!(pulled.err.contains("[linux/amd64] unpack layer 1\n"), "{}", pulled.err);
    assert!(pulled.err.contains("#1 DONE "), "{}", pulled.err);
    pulled.ok();
    for args in [&["pull", &name][..], &["pull", "-q", &name], &["pull", "--no-unpack", &name]] {
        let again = fresh.run(args);
        assert!(!again.err.contains("unpack"), "{args:?}: {}", again.err);
        again.ok();
    }
}
